// @ts-check
/** Messages over the stage: notes that disappear by themselves, and problems that stay until they are dismissed. */

import { $ } from "./dom.js";

const TOAST_MS = 6000;

let timer = 0;
/** @param {string} text */
export function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => ($("toast").hidden = true), TOAST_MS);
}

/** @param {any} error */
export const toastError = (error) => toast(String(error?.message ?? error));

/** @param {{ reason: string, message: string }} error */
export function showProblem({ reason, message }) {
  $("problem-text").textContent = message;
  $("problem-sample").hidden = !reason.startsWith("microphone") && reason !== "insecure_context";
  $("problem").hidden = false;
}

export const hideProblem = () => ($("problem").hidden = true);
