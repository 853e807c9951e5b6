// @ts-check
/** Helpers for promises. */

/** A promise that is resolved from outside. (Promise.withResolvers is too new for some OBS versions.) */
export function deferred() {
  /** @type {(live: boolean) => void} */ let resolve = () => {};
  /** @type {Promise<boolean>} */
  const promise = new Promise((settle) => (resolve = settle));
  return { promise, resolve };
}

/**
 * Both results, or the first error; `undo` gets the second one's result where only the first failed.
 * @template A, B
 * @param {Promise<A>} a
 * @param {Promise<B> | B} b
 * @param {(opened: B | null) => void} undo
 * @returns {Promise<[A, B]>}
 */
export async function allOrNone(a, b, undo) {
  const [first, second] = await Promise.allSettled([a, b]);
  if (first.status === "fulfilled" && second.status === "fulfilled") return [first.value, second.value];
  if (second.status === "rejected") throw second.reason;
  undo(second.value);
  throw /** @type {PromiseRejectedResult} */ (first).reason;
}
