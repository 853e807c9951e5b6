// @ts-check
/** The panel's tabs. */

import { $ } from "./dom.js";

const TABS = ["characters", "sound", "latency"];

/** @param {(name: string) => void} onShow */
export function createTabs(onShow) {
  /** @param {string} name @param {boolean} [scroll] where the panel lies below the stage */
  function show(name, scroll = false) {
    for (const tab of TABS) {
      const chosen = tab === name;
      $(`tab-${tab}`).setAttribute("aria-selected", String(chosen));
      $(`tab-${tab}`).tabIndex = chosen ? 0 : -1;
      $(`view-${tab}`).hidden = !chosen;
    }
    onShow(name);
    if (scroll) $("panel").scrollIntoView({ behavior: "smooth", block: "start" });
  }

  TABS.forEach((name, i) => {
    $(`tab-${name}`).onclick = () => show(name);
    $(`tab-${name}`).onkeydown = (/** @type {KeyboardEvent} */ event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = TABS[(i + step + TABS.length) % TABS.length];
      show(next);
      $(`tab-${next}`).focus();
    };
  });

  return { show };
}
