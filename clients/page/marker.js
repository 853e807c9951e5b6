// @ts-check
/** The dialog in which the user marks eyes and mouth, in a picture whose face the server did not find. */

import { $ } from "./dom.js";
import { ownMouthSwitch } from "./own-mouth.js";

/**
 * @typedef {import("../element/lip-stream.js").Face} Face
 * @typedef {{ x: number, y: number }} Point as fractions of the picture's width and height
 * @typedef {{ point: Point, set: boolean, button: HTMLButtonElement, name: string }} Mark
 */

/** Reasons of refused uploads that marking the face can resolve. */
export const MARKABLE = new Set(["no_face", "several_faces"]);

const NAMES = ["left eye", "right eye", "mouth"];
const DEFAULTS = [
  { x: 0.4, y: 0.42 },
  { x: 0.6, y: 0.42 },
  { x: 0.5, y: 0.6 },
];
const STEP = 0.004; // fraction of the picture's edge per arrow key; five times that with Shift
/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SVG = "http://www.w3.org/2000/svg";

const MARKUP = `
  <form method="dialog" class="marker">
    <h2 id="marker-title">Where is the face?</h2>
    <p class="marker-why" id="marker-why"></p>
    <div class="marker-picture" id="marker-picture">
      <img id="marker-image" alt="The picture you chose" draggable="false" />
      <svg id="marker-guide" role="group" aria-label="Faces that were found" preserveAspectRatio="none"></svg>
    </div>
    <p class="marker-step" id="marker-step" role="status" aria-live="polite"></p>${ownMouthSwitch("marker-own-mouth")}
    <p class="inline-problem" id="marker-problem" role="alert" hidden></p>
    <div class="marker-foot">
      <button class="button plain" id="marker-cancel" type="button">Cancel</button>
      <button class="button primary" id="marker-use" type="submit">Use this face</button>
    </div>
  </form>`;

const within = (/** @type {number} */ share) => Math.min(1, Math.max(0, share));

/** Asks for the face in a file until the server accepts it or the user cancels. */
export function createMarker() {
  const dialog = Object.assign(document.createElement("dialog"), { id: "marker", className: "sheet marker-sheet" });
  dialog.setAttribute("aria-labelledby", "marker-title");
  dialog.innerHTML = MARKUP;
  document.body.append(dialog);
  const picture = $("marker-picture");
  const image = /** @type {HTMLImageElement} */ ($("marker-image"));
  const marks = NAMES.map(makeMark);
  /** @type {Face[]} */ let faces = [];
  /** The chosen one, unless a mark has been moved since. @type {Face | null} */ let chosen = null;

  /** @param {string} name @param {number} i @returns {Mark} */
  function makeMark(name, i) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "mark" });
    button.dataset.part = i < 2 ? "eye" : "mouth";
    button.setAttribute("aria-label", name);
    const mark = { point: DEFAULTS[i], set: false, button, name };
    button.onkeydown = (event) => {
      const arrow = ARROWS[event.key];
      if (!arrow && event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      const step = STEP * (event.shiftKey ? 5 : 1);
      place(mark, { x: mark.point.x + step * (arrow?.[0] ?? 0), y: mark.point.y + step * (arrow?.[1] ?? 0) });
      if (!arrow) (marks.find(({ set }) => !set)?.button ?? $("marker-use")).focus();
    };
    button.onpointerdown = (event) => {
      event.preventDefault();
      button.focus();
      button.setPointerCapture(event.pointerId);
    };
    button.onpointermove = (event) => {
      if (button.hasPointerCapture(event.pointerId)) place(mark, pointOf(event));
    };
    picture.append(button);
    return mark;
  }

  /** @param {MouseEvent} event @returns {Point} */
  function pointOf({ clientX, clientY }) {
    const { left, top, width, height } = image.getBoundingClientRect();
    return { x: (clientX - left) / width, y: (clientY - top) / height };
  }

  /** @param {Mark} mark @param {Point} point */
  function place(mark, point) {
    mark.point = { x: within(point.x), y: within(point.y) };
    mark.set = true;
    chosen = null;
    render();
  }

  /** @param {Face} face */
  function choose(face) {
    [...face.eyes, face.mouth].forEach(([x, y], i) =>
      place(marks[i], { x: x / image.naturalWidth, y: y / image.naturalHeight }),
    );
    chosen = faces.length > 1 ? face : null;
  }

  function render() {
    const next = marks.find(({ set }) => !set);
    for (const { point, set, button, name } of marks) {
      button.style.left = `${100 * point.x}%`;
      button.style.top = `${100 * point.y}%`;
      button.classList.toggle("unset", !set);
      button.classList.toggle("next", next?.button === button);
      const [x, y] = pixels(point);
      button.setAttribute(
        "aria-label",
        set ? `${name}, at ${Math.round(x)}, ${Math.round(y)}` : `${name}, not marked yet`,
      );
    }
    const first = faces.length
      ? "Choose one of the outlined faces, or click the left eye of another."
      : "Click the left eye: the one on the left of the picture.";
    $("marker-step").textContent = !next
      ? "Drag a mark, or move it with the arrow keys, until all three are right."
      : next === marks[0]
        ? first
        : `Click the ${next.name}.`;
    picture.classList.toggle("choosing", next === marks[0] && faces.length > 0);
    $("marker-use").disabled = Boolean(next);
    drawGuide(Boolean(next));
  }

  /** @param {Point} point @returns {[number, number]} */
  const pixels = ({ x, y }) => [x * image.naturalWidth, y * image.naturalHeight];

  /** A detected face, which can be chosen with one click. @param {Face} face @param {number} i */
  function outline(face, i) {
    const [x0, y0, x1, y1] = face.box;
    const box = document.createElementNS(SVG, "rect");
    const values = { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: (x1 - x0) / 6, tabindex: 0, role: "button" };
    for (const [name, value] of Object.entries(values)) box.setAttribute(name, String(value));
    box.setAttribute("aria-label", `Face ${i + 1} of ${faces.length}`);
    const take = (/** @type {Event} */ event) => {
      event.stopPropagation();
      event.preventDefault();
      choose(face);
      marks[0].button.focus();
    };
    box.onclick = take;
    box.onkeydown = (event) => {
      if (event.key === "Enter" || event.key === " ") take(event);
    };
    return box;
  }

  /** Draws the ellipse that will be animated, once all marks are set. @param {boolean} unfinished */
  function drawGuide(unfinished) {
    const guide = $("marker-guide");
    guide.setAttribute("viewBox", `0 0 ${image.naturalWidth || 1} ${image.naturalHeight || 1}`);
    guide.querySelector("ellipse")?.remove();
    if (!unfinished) guide.prepend(ellipse(marks.map(({ point }) => pixels(point))));
  }

  picture.onclick = (/** @type {MouseEvent} */ event) => {
    if (/** @type {Element} */ (event.target).closest(".mark")) return;
    const next = marks.find(({ set }) => !set);
    if (!next) return;
    place(next, pointOf(event));
    next.button.focus();
  };

  /** @param {string} text */
  function showError(text) {
    $("marker-problem").textContent = text;
    $("marker-problem").hidden = !text;
  }

  /**
   * @template T
   * @param {File} file
   * @param {{ message: string, faces: Face[] }} error why the face is asked for, and the candidates
   * @param {boolean | null} ownMouth the initial state of the own-mouth switch; null: hide the switch
   * @param {(marks: { eyes: string, mouth: string } | { at: string }, ownMouth: boolean) => Promise<T>} send
   * @returns {Promise<T | null>} the result of `send`; null where the user cancelled
   */
  function ask(file, error, ownMouth, send) {
    const address = URL.createObjectURL(file);
    faces = [];
    marks.forEach((mark, i) => Object.assign(mark, { point: DEFAULTS[i], set: false }));
    showError("");
    $("marker-why").textContent = error.message;
    $("marker-own-mouth-line").hidden = ownMouth === null;
    $("marker-own-mouth").checked = Boolean(ownMouth);
    image.onerror = () =>
      showError("This browser cannot display this kind of picture: save it as JPEG to mark the face.");
    image.onload = () => {
      picture.style.setProperty("--aspect", String(image.naturalWidth / image.naturalHeight));
      faces = error.faces.length > 1 ? error.faces : [];
      $("marker-guide").replaceChildren(...faces.map(outline));
      if (error.faces.length === 1) choose(error.faces[0]);
      render();
    };
    image.src = address;
    $("marker-guide").replaceChildren();
    render();
    dialog.showModal();
    marks[0].button.focus();
    return new Promise((resolve) => {
      /** @type {T | null} */ let answer = null;
      const number = (/** @type {number} */ value) => value.toFixed(1);
      /** @type {HTMLFormElement} */ (dialog.querySelector("form")).onsubmit = async (event) => {
        event.preventDefault();
        $("marker-use").disabled = true;
        showError("");
        const [left, right, mouth] = marks.map(({ point }) => pixels(point).map(number).join(","));
        const result = chosen ? { at: middle(chosen).map(number).join(",") } : { eyes: `${left},${right}`, mouth };
        try {
          answer = await send(result, $("marker-own-mouth").checked);
          dialog.close();
        } catch (refused) {
          showError(/** @type {Error} */ (refused).message);
        } finally {
          $("marker-use").disabled = false;
        }
      };
      $("marker-cancel").onclick = () => dialog.close();
      dialog.onclose = () => {
        URL.revokeObjectURL(address);
        image.removeAttribute("src");
        resolve(answer);
      };
    });
  }

  return { ask };
}

/** The point between eyes and mouth. @param {Face} face */
const middle = ({ eyes: [left, right], mouth }) => [0, 1].map((i) => ((left[i] + right[i]) / 2 + mouth[i]) / 2);

/** The face region as the server sees it (see `streamer/faces/alignment.py`). @param {number[][]} points */
function ellipse([left, right, mouth]) {
  const eyes = [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2];
  const [across, down] = [
    [right[0] - left[0], right[1] - left[1]],
    [mouth[0] - eyes[0], mouth[1] - eyes[1]],
  ];
  const roll = Math.atan2(across[1] - down[0], across[0] + down[1]);
  const shape = document.createElementNS(SVG, "ellipse");
  shape.setAttribute("rx", String(0.95 * Math.hypot(...across)));
  shape.setAttribute("ry", String(1.4 * Math.hypot(...down)));
  const [x, y] = [eyes[0] + 0.2 * down[0], eyes[1] + 0.2 * down[1]];
  shape.setAttribute("transform", `translate(${x} ${y}) rotate(${(roll * 180) / Math.PI})`);
  return shape;
}
