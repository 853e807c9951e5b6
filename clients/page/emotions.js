// @ts-check
/** The emotions to choose from. */

import { $, icon } from "./dom.js";

/** @param {string[]} names the server's; the first is chosen @param {(name: string) => void} onChoose */
export function fillEmotions(names, onChoose) {
  $("emotions").replaceChildren(
    ...names.map((name, i) => {
      const label = document.createElement("label");
      label.className = "emotion";
      const radio = Object.assign(document.createElement("input"), { type: "radio", name: "emotion", value: name });
      radio.checked = i === 0;
      radio.onchange = () => onChoose(name);
      const text = document.createElement("span");
      text.textContent = name.charAt(0).toUpperCase() + name.slice(1);
      label.title = `${text.textContent} (${i + 1})`;
      label.append(radio, icon($(`f-${name}`) ? `f-${name}` : "f-neutral"), text);
      return label;
    }),
  );
}

const radios = () =>
  /** @type {HTMLInputElement[]} */ ([.../** @type {any} */ (document.querySelectorAll("input[name=emotion]"))]);

/** Marks an emotion as chosen without choosing it. @param {string} name */
export function markEmotion(name) {
  for (const radio of radios()) if (radio.value === name) radio.checked = true;
}

/** The emotion at a place, from 0 on, to be clicked. @param {number} index @returns {HTMLInputElement | undefined} */
export const emotionAt = (index) => radios()[index];
