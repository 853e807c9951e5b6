// @ts-check
/** The characters to choose from. */

import { $, icon } from "./dom.js";

/** @typedef {{ id: string, name: string, kind: string, picture: string, face: boolean }} Character */

/** Edge of a tile's picture in pixels. The server draws each, so it is no larger than the screen needs. */
export const TILE = (globalThis.devicePixelRatio || 1) > 1.25 ? 256 : 128;

/**
 * @param {{
 *   stream: import("../element/lip-stream.js").LipStream,
 *   choose: (id: string) => void, onFiles: (files: File[]) => void,
 * }} options
 */
export function createGallery({ stream, choose, onFiles }) {
  /** @param {Character} character */
  function card({ id, name, kind }) {
    const label = document.createElement("label");
    label.className = "tile";
    label.dataset.id = id;
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "character", value: id });
    radio.onchange = () => choose(id);
    const picture = Object.assign(document.createElement("img"), {
      src: stream.pictureUrl(id, TILE),
      alt: "",
      loading: "lazy",
      decoding: "async",
      width: 128,
      height: 128,
    });
    picture.onload = () => picture.classList.add("shown");
    const frame = document.createElement("span");
    frame.className = "tile-picture";
    frame.append(picture, icon("i-check"));
    const caption = document.createElement("span");
    caption.className = "tile-name";
    caption.textContent = name || (kind === "picture" ? "Picture" : id);
    label.append(radio, frame, caption);
    return label;
  }

  const radios = () => /** @type {HTMLInputElement[]} */ ([...$("gallery").querySelectorAll("input")]);

  /** @param {string} id @returns {HTMLElement | undefined} */
  const tile = (id) => [...$("gallery").children].find(({ dataset }) => dataset.id === id);

  /** @param {Character} character */
  function add(character) {
    tile(character.id)?.remove();
    $("gallery").prepend(card(character));
  }

  // pictures can be dropped anywhere on the page
  const carriesFile = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragenter", (event) => carriesFile(event) && ($("drop").hidden = false));
  window.addEventListener("dragover", (event) => carriesFile(event) && event.preventDefault());
  window.addEventListener("dragleave", (event) => event.relatedTarget || ($("drop").hidden = true));
  window.addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!carriesFile(event)) return;
    event.preventDefault();
    $("tab-characters").click();
    onFiles([...(event.dataTransfer?.files ?? [])]);
  });

  return {
    add,
    /** @returns {Promise<Character[]>} */
    known: async () => (await (await stream.fetch("/v1/characters")).json()).characters,
    /** @param {Character[]} characters */
    fill: (characters) => $("gallery").replaceChildren(...characters.map(card)),
    /** @param {string} id */
    select(id) {
      for (const radio of radios()) radio.checked = radio.value === id;
    },
    /** Chooses a character by its place, from 0 on. @param {number} index */
    click: (index) => radios()[index]?.click(),
  };
}
