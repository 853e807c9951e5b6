// @ts-check
/** The characters to choose from, and the way a picture becomes one. */

import { MARKABLE, createMarker } from "./marker.js";

/** @typedef {{ id: string, name: string, kind: string, picture: string, face: boolean }} Character */

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
  const marker = createMarker();

  /** @param {Character} character */
  function card({ id, name, kind }) {
    const label = document.createElement("label");
    label.className = "tile";
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
        const character = await send(file);
        $("mark-again-line").hidden = !character.face;
        return character;
      } catch (error) {
        const refused = /** @type {import("../element/lip-stream.js").LipStreamError} */ (error);
        if (!MARKABLE.has(refused.reason)) throw error;
        return mark(file, refused);
      }
    });
  }

  /** @param {File} file @param {{ message: string, faces: import("../element/lip-stream.js").Face[] }} why */
  const mark = (file, why) => marker.ask(file, why, (marks) => send(file, marks));

  /** Shows that it is busy, and what came of it. @param {File} file @param {() => Promise<Character | null>} act */
  async function make(file, act) {
    $("upload").setAttribute("aria-busy", "true");
    $("upload-hint").textContent = "Uploading…";
    $("mark-again-line").hidden = true;
    try {
      const character = await act();
      if (!character) return;
      add(character);
      choose(character.id);
    } catch (error) {
      complain(/** @type {Error} */ (error).message);
    } finally {
      $("upload").removeAttribute("aria-busy");
      $("upload-hint").textContent = "Or drop one here";
      $("file").value = "";
    }
    $("mark-again").onclick = () => {
      const why = { message: `Mark eyes and mouth of the face in “${file.name}” that is to speak.`, faces: [] };
      make(file, () => mark(file, why));
    };
  }

  /** @param {File} file @param {{ eyes: string, mouth: string }} [marks] @returns {Promise<Character>} */
  async function send(file, marks) {
    const name = file.name.replace(/\.[^.]*$/, "").slice(0, 40);
    const response = await stream.fetch(`/v1/characters?${new URLSearchParams({ name, ...marks })}`, {
      method: "POST",
      headers: { "Content-Type": file.type || "image/png" },
      body: file,
    });
    return response.json();
  }

  /** @param {Character} character */
  function add(character) {
    $("gallery").prepend(card(character));
  }

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
