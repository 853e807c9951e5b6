// @ts-check
/** What the page's keys do, apart from those that move the character while they are held (steer.js). */

import { $, isTextInput } from "./dom.js";
import { emotionAt } from "./emotions.js";
import { commandOf } from "./hotkeys.js";

/**
 * @param {{
 *   press: (event: KeyboardEvent) => boolean, isLive: () => boolean, gestures: () => string[],
 *   onCommand: (command: NonNullable<ReturnType<typeof commandOf>>) => void, actions: Record<string, () => void>,
 * }} options press: takes the keys that move the character; actions: by the key's lower-case name
 */
export function createKeyboard({ press, isLive, gestures, onCommand, actions }) {
  const showShortcuts = () => $("shortcuts").showModal();

  document.addEventListener("keydown", (event) => {
    const modified = event.ctrlKey || event.metaKey || event.altKey;
    if (modified || isTextInput(event.target) || document.querySelector("dialog[open]")) return;
    if (press(event)) return;
    const command = isLive() ? commandOf(event, gestures()) : null;
    if (command) return onCommand(command);
    const emotion = isLive() && emotionAt(Number(event.key) - 1);
    if (emotion) emotion.click();
    else if (event.key === "?") showShortcuts();
    else actions[event.key.toLowerCase()]?.();
  });

  $("open-shortcuts").onclick = $("steer-more").onclick = showShortcuts;
  $("shortcuts").addEventListener("click", (/** @type {Event} */ event) => {
    if (event.target === $("shortcuts")) $("shortcuts").close(); // the backdrop
  });
}
