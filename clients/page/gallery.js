// @ts-check
/** The characters to choose from, and the way a picture becomes one. */

import { MARKABLE, createMarker } from "./marker.js";

/**
 * @typedef {{ id: string, name: string, kind: string, picture: string, face: boolean }} Character
 * @typedef {{ eyes: string, mouth: string }} Marks
 */

/** Pixels of a tile's picture: the server draws each, so no more than the screen can show. */
export const TILE = (globalThis.devicePixelRatio || 1) > 1.25 ? 256 : 128;
const TYPES = new Set(["image/png", "image/jpeg", "image/webp"]);

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

/**
 * @param {{
 *   stream: import("../element/lip-stream.js").LipStream, icon: (id: string) => SVGElement,
 *   choose: (id: string) => void,
 * }} options
 */
export function createGallery({ stream, icon, choose }) {
  let limit = Infinity;
  /** The picture that was last taken, and how. @type {{ file: File, marks?: Marks, ownMouth: boolean } | null} */
  let taken = null;
  const marker = createMarker();

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

  /** @param {string} text */
  function complain(text) {
    $("gallery-problem").textContent = text;
    $("gallery-problem").hidden = !text;
  }

  /** @param {File | undefined | null} file */
  async function upload(file) {
    if (!file) return;
    complain("");
    if (file.type && !TYPES.has(file.type))
      return complain(`“${file.name}” is ${file.type}. Pictures may be PNG, JPEG or WebP.`);
    if (file.size > limit)
      return complain(`“${file.name}” has ${megabytes(file.size)}; the server takes up to ${megabytes(limit)}.`);
    await make(file, async () => {
      try {
        return await send(file);
      } catch (error) {
        const refused = /** @type {import("../element/lip-stream.js").LipStreamError} */ (error);
        if (!MARKABLE.has(refused.reason)) throw error;
        return mark(file, refused);
      }
    });
  }

  /** @param {File} file @param {{ message: string, faces: import("../element/lip-stream.js").Face[] }} why */
  const mark = (file, why) =>
    marker.ask(file, why, taken?.file === file && taken.ownMouth, (marks, ownMouth) => send(file, marks, ownMouth));

  /**
   * Shows that it is busy, and what came of it.
   * @param {File} file @param {() => Promise<Character | null>} act
   * @param {string} [instead] the character whose place the new one takes
   */
  async function make(file, act, instead) {
    $("upload").setAttribute("aria-busy", "true");
    $("upload-hint").textContent = "Uploading…";
    $("mark-again-line").hidden = true;
    if (!instead) $("own-mouth-line").hidden = true;
    try {
      const character = await act();
      if (!character) return;
      if (instead) tile(instead)?.remove();
      add(character);
      choose(character.id);
      $("mark-again-line").hidden = !character.face || Boolean(taken?.marks);
      $("own-mouth-line").hidden = !character.face;
      $("own-mouth").onchange = () => {
        if (taken) make(file, () => send(file, taken?.marks, $("own-mouth").checked), character.id);
      };
    } catch (error) {
      complain(/** @type {Error} */ (error).message);
    } finally {
      $("own-mouth").checked = taken?.file === file && taken.ownMouth;
      $("upload").removeAttribute("aria-busy");
      $("upload-hint").textContent = "Or drop one here";
      $("file").value = "";
    }
    $("mark-again").onclick = () => {
      const why = { message: `Mark eyes and mouth of the face in “${file.name}” that is to speak.`, faces: [] };
      make(file, () => mark(file, why));
    };
  }

  /** @param {File} file @param {Marks} [marks] @param {boolean} [ownMouth] @returns {Promise<Character>} */
  async function send(file, marks, ownMouth = false) {
    const asked = { name: file.name.replace(/\.[^.]*$/, "").slice(0, 40), ...marks, own_mouth: String(+ownMouth) };
    const response = await stream.fetch(`/v1/characters?${new URLSearchParams(asked)}`, {
      method: "POST",
      headers: { "Content-Type": file.type || "image/png" },
      body: file,
    });
    const character = await response.json();
    taken = { file, marks, ownMouth };
    return character;
  }

  /** @param {string} id @returns {HTMLElement | undefined} */
  const tile = (id) => [...$("gallery").children].find(({ dataset }) => dataset.id === id);

  /** @param {Character} character */
  function add(character) {
    tile(character.id)?.remove();
    $("gallery").prepend(card(character));
  }

  $("own-mouth").onclick = (/** @type {Event} */ event) => {
    if ($("upload").hasAttribute("aria-busy")) event.preventDefault(); // one at a time
  };
  $("upload").onclick = () => $("file").click();
  $("file").onchange = () => upload($("file").files[0]);

  // a picture may be dropped anywhere on the page
  const carriesFile = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragenter", (event) => carriesFile(event) && ($("drop").hidden = false));
  window.addEventListener("dragover", (event) => carriesFile(event) && event.preventDefault());
  window.addEventListener("dragleave", (event) => event.relatedTarget || ($("drop").hidden = true));
  window.addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!carriesFile(event)) return;
    event.preventDefault();
    $("tab-characters").click();
    upload(event.dataTransfer?.files[0]);
  });

  return {
    add,
    /** @param {number} bytes */
    limit: (bytes) => (limit = bytes),
    /** @returns {Promise<Character[]>} */
    known: async () => (await (await stream.fetch("/v1/characters")).json()).characters,
    /** @param {Character[]} characters */
    fill: (characters) => $("gallery").replaceChildren(...characters.map(card)),
    /** @param {string} id */
    select(id) {
      for (const radio of document.querySelectorAll("input[name=character]")) {
        const one = /** @type {HTMLInputElement} */ (radio);
        one.checked = one.value === id;
      }
    },
  };
}

/** @param {number} bytes */
const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MB`;
