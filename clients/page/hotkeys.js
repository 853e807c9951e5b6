// @ts-check
/** Keys for one-time commands: gestures, characters, away. Keys that act while they are held are in steer.js. */

/** The key for each gesture. @type {Record<string, string>} */
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
 * The command for a key.
 * @param {{ key: string, code: string, shiftKey: boolean }} event
 * @param {string[]} gestures the server's
 * @returns {{ gesture: string } | { character: number } | { away: true } | null} character: index from 0
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
 * The gestures' lines in the list of shortcuts.
 * @param {string[]} gestures the server's
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
