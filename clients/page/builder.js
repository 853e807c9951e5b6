// @ts-check
/** The character builder. The server defines the traits and draws the preview. */

import { $ } from "./dom.js";

/**
 * @typedef {{
 *   label: string, kind: "choice" | "colour" | "number", min?: number, max?: number,
 *   choices?: { value: string, label: string, swatch?: string }[],
 * }} Trait
 */

const PREVIEW_MS = 120; // after the last change
const PREVIEW_SIZES = [256, 512];
/** Groups of traits by name; the first match counts. */
const GROUPS = /** @type {[string, RegExp][]} */ ([
  ["Extras", /wear$|earring|accessor|glasses|hat$|prop/],
  ["Hair", /^hair|fringe|bangs|beard/],
  ["Eyes", /^eye|brow|lash/],
  ["Clothes", /garment|cloth|shirt|dress|outfit/],
  ["Scene", /background|scene|light/],
  ["Face and body", /./],
]);
const ORDER = ["Hair", "Eyes", "Face and body", "Clothes", "Extras", "Scene"];

/**
 * @param {{
 *   stream: import("../element/lip-stream.js").LipStream, onOpen: () => void, onClose: () => void,
 *   onMade: (character: any) => void,
 * }} options
 */
export function createBuilder({ stream, onOpen, onClose, onMade }) {
  /** @type {Record<string, Trait> | null} */ let schema = null;
  /** @type {Record<string, string | number>} */ let traits = {};
  /** @type {Map<string, () => void>} */ const controls = new Map(); // trait → displays its value
  let timer = 0;
  let drawing = false;
  let stale = false;
  let address = "";

  /** @param {string} text */
  function showError(text) {
    $("builder-problem").textContent = text;
    $("builder-problem").hidden = !text;
  }

  /** @param {string} name @param {string | number} value */
  function set(name, value) {
    traits[name] = value;
    controls.get(name)?.();
    clearTimeout(timer);
    timer = setTimeout(preview, PREVIEW_MS);
  }

  /** One request at a time, small and then large; changes made meanwhile are drawn next. */
  async function preview() {
    if (drawing) return void (stale = true);
    drawing = true;
    do {
      stale = false;
      try {
        for (const size of PREVIEW_SIZES) if (!stale) await draw(size);
        showError("");
      } catch (error) {
        showError(/** @type {Error} */ (error).message);
      }
    } while (stale);
    drawing = false;
  }

  /** @param {number} size */
  async function draw(size) {
    const response = await stream.fetch(`/v1/characters/preview?size=${size}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ traits }),
    });
    const picture = await response.blob();
    if ($("builder").hidden) return;
    show(picture);
  }

  /** @param {Blob} picture */
  function show(picture) {
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(picture);
    for (const id of ["stage-preview", "panel-preview"]) {
      $(id).src = address;
      $(id).hidden = false;
    }
  }

  function randomise() {
    for (const [name, trait] of Object.entries(schema ?? {})) set(name, anyValue(trait));
  }

  async function open() {
    onOpen();
    $("builder").hidden = false;
    document.body.classList.add("building");
    $("close-builder").focus({ preventScroll: true }); // immediately: later the user may already be typing
    $("panel").scrollIntoView({ block: "start" }); // on small screens, where it is below the stage
    showError("");
    try {
      const [known, given] = await Promise.all([schema ?? traitSchema(), traitsOf(stream.character)]);
      if (!schema) $("traits").replaceChildren(...sections(known, controls, () => traits, set));
      schema = known;
      traits = {};
      for (const [name, trait] of Object.entries(schema))
        traits[name] = isValue(trait, given[name]) ? given[name] : firstValue(trait);
      controls.forEach((show) => show());
      preview();
    } catch (error) {
      showError(/** @type {Error} */ (error).message);
    }
  }

  /** @returns {Promise<Record<string, Trait>>} */
  const traitSchema = async () => (await stream.fetch("/v1/traits")).json();

  /** The traits of a character, from which the builder starts. @param {string} id */
  async function traitsOf(id) {
    if (!id) return {};
    const response = await stream.fetch(`/v1/characters/${encodeURIComponent(id)}`);
    return (await response.json()).traits ?? {};
  }

  function close() {
    if ($("builder").hidden) return;
    clearTimeout(timer);
    $("builder").hidden = $("stage-preview").hidden = $("panel-preview").hidden = true;
    document.body.classList.remove("building");
    onClose();
  }

  $("close-builder").onclick = () => {
    close();
    $("open-builder").focus();
  };
  $("randomise").onclick = randomise;
  $("builder").onsubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    $("builder-use").disabled = true;
    try {
      const name = $("builder-name").value.trim();
      const response = await stream.fetch("/v1/characters", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(name ? { traits, name } : { traits }),
      });
      onMade(await response.json());
      $("builder-name").value = "";
      close();
    } catch (error) {
      showError(/** @type {Error} */ (error).message);
    } finally {
      $("builder-use").disabled = false;
    }
  };

  return { open, close, isOpen: () => !$("builder").hidden };
}

/** @param {Trait} trait */
const firstValue = (trait) => trait.choices?.[0].value ?? ((trait.min ?? 0) + (trait.max ?? 1)) / 2;

/** @param {Trait} trait @param {unknown} value */
const isValue = (trait, value) =>
  trait.choices ? trait.choices.some((choice) => choice.value === value) : typeof value === "number";

/** @param {Trait} trait */
function anyValue(trait) {
  if (trait.choices) return trait.choices[Math.floor(Math.random() * trait.choices.length)].value;
  const [low, high] = [trait.min ?? 0, trait.max ?? 1];
  return Math.round((low + (high - low) * Math.random()) * 100) / 100;
}

/**
 * @param {Record<string, Trait>} schema
 * @param {Map<string, () => void>} controls
 * @param {() => Record<string, string | number>} current
 * @param {(name: string, value: string | number) => void} set
 */
function sections(schema, controls, current, set) {
  /** @type {Map<string, HTMLElement>} */ const groups = new Map();
  for (const [name, trait] of Object.entries(schema)) {
    const title = GROUPS.find(([, pattern]) => pattern.test(name))?.[0] ?? "";
    if (!groups.has(title)) groups.set(title, group(title));
    const make = trait.kind === "colour" ? swatches : trait.kind === "number" ? slider : stepper;
    const control = make(name, trait, current, (value) => set(name, value));
    controls.set(name, control.show);
    groups.get(title)?.append(control.element);
  }
  return ORDER.flatMap((title) => groups.get(title) ?? []);
}

/** @param {string} title */
function group(title) {
  const section = document.createElement("section");
  section.className = "trait-group";
  const heading = document.createElement("h3");
  heading.textContent = title;
  section.append(heading);
  return section;
}

/**
 * @typedef {(
 *   name: string, trait: Trait, current: () => Record<string, string | number>, set: (value: string | number) => void,
 * ) => { element: HTMLElement, show: () => void }} Control
 */

/** A choice by name: step through the values or open the list. @type {Control} */
function stepper(name, trait, current, set) {
  const choices = trait.choices ?? [];
  const row = document.createElement("div");
  row.className = "trait stepper";
  const label = Object.assign(document.createElement("label"), { textContent: trait.label, htmlFor: `trait-${name}` });
  const select = Object.assign(document.createElement("select"), { id: `trait-${name}` });
  select.append(...choices.map((choice) => new Option(choice.label, choice.value)));
  select.onchange = () => set(select.value);
  const step = (/** @type {number} */ by) => {
    const at = choices.findIndex(({ value }) => value === current()[name]);
    set(choices[(at + by + choices.length) % choices.length].value);
  };
  row.append(
    label,
    arrow("i-back", `Previous: ${trait.label}`, () => step(-1)),
    select,
    arrow("i-next", `Next: ${trait.label}`, () => step(1)),
  );
  return { element: row, show: () => (select.value = String(current()[name])) };
}

/** @param {string} id @param {string} label @param {() => void} act */
function arrow(id, label, act) {
  const button = Object.assign(document.createElement("button"), {
    type: "button",
    className: "icon-button quiet small",
    onclick: act,
  });
  button.setAttribute("aria-label", label);
  button.innerHTML = `<svg class="icon" aria-hidden="true"><use href="#${id}"></use></svg>`;
  return button;
}

/** @type {Control} */
function swatches(name, trait, current, set) {
  const row = document.createElement("fieldset");
  row.className = "trait swatches";
  const legend = document.createElement("legend");
  const shown = document.createElement("span");
  legend.append(`${trait.label} `, shown);
  const radios = (trait.choices ?? []).map((choice) => {
    const label = document.createElement("label");
    label.className = "swatch";
    label.title = choice.label;
    const radio = Object.assign(document.createElement("input"), {
      type: "radio",
      name: `trait-${name}`,
      value: choice.value,
    });
    radio.setAttribute("aria-label", choice.label);
    radio.onchange = () => set(choice.value);
    const dot = document.createElement("span");
    const clear = !choice.swatch || /^#[0-9a-f]{6}00$/i.test(choice.swatch);
    if (clear) dot.classList.add("none");
    else dot.style.backgroundColor = /** @type {string} */ (choice.swatch);
    label.append(radio, dot);
    return { radio, label };
  });
  const dots = document.createElement("div");
  dots.className = "swatch-row";
  dots.append(...radios.map(({ label }) => label));
  row.append(legend, dots);
  return {
    element: row,
    show: () => {
      for (const { radio } of radios) radio.checked = radio.value === String(current()[name]);
      shown.textContent = trait.choices?.find(({ value }) => value === current()[name])?.label ?? "";
    },
  };
}

/** @type {Control} */
function slider(name, trait, current, set) {
  const row = document.createElement("div");
  row.className = "trait slider";
  const label = Object.assign(document.createElement("label"), { textContent: trait.label, htmlFor: `trait-${name}` });
  const [low, high] = [trait.min ?? 0, trait.max ?? 1];
  const range = Object.assign(document.createElement("input"), {
    type: "range",
    id: `trait-${name}`,
    min: String(low),
    max: String(high),
    step: String((high - low) / 100),
  });
  range.oninput = () => set(Number(range.value));
  row.append(label, range);
  return { element: row, show: () => (range.value = String(current()[name])) };
}
