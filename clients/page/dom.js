// @ts-check
/** Helpers for the document. */

/** The element with this id. @param {string} id @returns {any} */
export const $ = (id) => document.getElementById(id);

/** An icon of the page's sprite. @param {string} id */
export function icon(id) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  svg.firstElementChild?.setAttribute("href", `#${id}`);
  return svg;
}

/** Whether keys that were pressed here are text rather than commands. @param {EventTarget | null} target */
export const isTextInput = (target) =>
  target instanceof Element &&
  target.closest("select, textarea, input:not([type=radio], [type=checkbox], [type=range])") !== null;
