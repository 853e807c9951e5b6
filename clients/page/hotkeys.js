// @ts-check
/** Keys that do something once: a gesture, another character, away and back. Which keys move what is held: steer.js. */

/** The key of each gesture that this page knows. @type {Record<string, string>} */
const GESTURES = {
  wave: "w",
  point: "p",
  cheer: "c",
  shrug: "u",
  think: "t",
  nod: "n",
  shake: "k",
  bow: "o",
  wink: "y",
};

/**
 * What a key asks for.
 * @param {{ key: string, code: string, shiftKey: boolean }} event
 * @param {string[]} gestures those that the server knows
 * @returns {{ gesture: string } | { character: number } | { away: true } | null} character: from 0 on
 */
export function commandOf({ key, code, shiftKey }, gestures) {
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(code);
  if (digit) return shiftKey ? { character: Number(digit[1]) - 1 } : null; // digits alone are emotions
  const letter = key.toLowerCase();
  if (letter === "r") return { away: true };
  const gesture = gestures.find((name) => GESTURES[name] === letter);
  return gesture ? { gesture } : null;
}

/**
 * Lines for the list of keys.
 * @param {string[]} gestures those that the server knows
 */
export function keyLines(gestures) {
  return gestures
    .filter((name) => GESTURES[name])
    .map((name) => {
      const line = document.createElement("div");
      const [term, meaning, key] = ["dt", "dd", "kbd"].map((tag) => document.createElement(tag));
      key.textContent = GESTURES[name].toUpperCase();
      term.append(key);
      meaning.textContent = name.charAt(0).toUpperCase() + name.slice(1);
      line.append(term, meaning);
      return line;
    });
}
