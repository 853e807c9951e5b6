// @ts-check
/** The token of a server that requires one: from the address, or asked for in a dialog. Kept for this tab's session. */

import { $ } from "./dom.js";

const KEY = "lipstream.token";

/** The token in `#token=…`, which never reaches a server's log, or the one given before. It leaves the address bar. */
export function knownToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname + location.search);
  try {
    if (given) sessionStorage.setItem(KEY, given);
    return given ?? sessionStorage.getItem(KEY);
  } catch {
    return given; // storage may be forbidden
  }
}

/** Asks for a token. @param {boolean} refused whether one was refused just now */
export function askToken(refused) {
  $("token-problem").hidden = !refused;
  if (!$("token-dialog").open) $("token-dialog").showModal();
}

/** @param {(token: string) => void} listener called with each token that the user enters */
export function onToken(listener) {
  $("token-form").onsubmit = () => {
    const token = $("token").value;
    try {
      sessionStorage.setItem(KEY, token);
    } catch {
      // it has to be entered again after a reload
    }
    listener(token);
  };
}
