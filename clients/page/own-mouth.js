// @ts-check
/** The switch for keeping a picture's own mouth. It stands in the upload dialog and beside the marks. */

/** @param {string} id of the checkbox; its label's is `${id}-line` */
export const ownMouthSwitch = (id) => `
    <label class="switch" id="${id}-line" hidden>
      <input type="checkbox" role="switch" id="${id}" />
      <span class="track" aria-hidden="true"></span>
      <span>
        <b>Keep the picture’s own mouth</b>
        <small>Otherwise one that opens well is drawn over it.</small>
      </span>
    </label>`;
