// @ts-check
/** The switch that keeps a picture's own mouth, in the upload dialog and in the marker dialog. */

/** @param {string} id of the checkbox; its label's is `${id}-line` */
export const ownMouthSwitch = (id) => `
    <label class="switch" id="${id}-line" hidden>
      <input type="checkbox" role="switch" id="${id}" />
      <span class="track" aria-hidden="true"></span>
      <span>
        <b>Keep the picture’s own mouth</b>
        <small>Otherwise a mouth that opens well is drawn over it.</small>
      </span>
    </label>`;
