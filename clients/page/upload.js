// @ts-check
/** The dialog for the user's own pictures: upload or record, preview how they are used, then create the character. */

import { STEPS, canRecord, closeCamera, openCamera, recordSteps } from "./camera.js";
import { $, icon } from "./dom.js";
import { MARKABLE, createMarker } from "./marker.js";
import { ownMouthSwitch } from "./own-mouth.js";

/**
 * @typedef {import("../element/lip-stream.js").Face} Face
 * @typedef {{ eyes: string, mouth: string } | { at: string }} FaceMarks
 * @typedef {{ role: string, name: string, by: string, picture: string }} Chosen
 * @typedef {{ code: string, text: string }} Notice
 * @typedef {{ chosen: Chosen[], missing: string[], notices: Notice[] }} Pack
 * @typedef {{ id: string, name: string, face: boolean, kind: string, picture: string, pack: Pack | null }} Character
 * @typedef {{
 *   max_picture_bytes: number, max_pictures: number, max_clip_bytes: number, require_consent: boolean,
 *   generator: string,
 * }} Limits
 */

const ROLES = /** @type {Record<string, string>} */ ({
  neutral: "Neutral",
  mouth_open: "Mouth open",
  teeth: "Teeth",
  eyes_shut: "Eyes closed",
  smile: "Smile",
  look_aside: "Looking aside",
});
const BY = /** @type {Record<string, string>} */ ({ role: "as you chose", name: "by file name", face: "by the face" });
const SMALL = 256; // pixels of a preview's edge
const CONSENT = "lipstream.consent";

const MARKUP = `
  <header class="upload-head">
    <h2 id="uploader-title" tabindex="-1">Your own pictures</h2>
    <button class="icon-button quiet" id="upload-close" type="button" aria-label="Close"></button>
  </header>

  <div class="upload-step" id="upload-choose">
    <div class="upload-drop" id="upload-drop">
      <p>Drop a portrait here: a photo or a drawing, facing the camera.</p>
      <div class="upload-ways">
        <button class="button primary" id="upload-pick" type="button">Choose files</button>
        <button class="button plain" id="upload-record" type="button">Record five seconds</button>
      </div>
      <small>
        More pictures of the same character make it livelier, up to <span id="upload-most">8</span>: neutral, mouth
        open, teeth, eyes closed, smile, looking aside. Or upload a short clip: its best frames are used, the rest is
        discarded.
      </small>
    </div>
    <label class="upload-consent">
      <input type="checkbox" id="upload-consent" />
      <span>I may use these pictures, and everyone in them agrees.</span>
    </label>
    <p class="upload-waiting" id="upload-waiting" role="status" hidden></p>
  </div>

  <div class="upload-step upload-busy" id="upload-busy" role="status" hidden>
    <span class="spinner" aria-hidden="true"></span><span id="upload-busy-text"></span>
  </div>

  <div class="upload-step" id="upload-camera" hidden>
    <div class="upload-screen">
      <video id="upload-video" autoplay muted playsinline aria-label="Your camera"></video>
      <p class="upload-prompt" id="upload-prompt" role="status" aria-live="assertive"></p>
      <div class="upload-steps" id="upload-steps" aria-hidden="true"></div>
    </div>
    <div class="marker-foot">
      <button class="button plain" id="upload-camera-cancel" type="button">Cancel</button>
      <button class="button primary" id="upload-camera-start" type="button">Start</button>
    </div>
  </div>

  <div class="upload-step" id="upload-preview" hidden>
    <div class="pack" id="pack"></div>
    <p class="pack-missing" id="pack-missing"></p>
    <ul class="notices" id="notices" aria-label="Notes"></ul>${ownMouthSwitch("own-mouth")}
    <p id="mark-again-line" hidden><button class="link" id="mark-again" type="button">Mark eyes and mouth</button></p>
    <div class="marker-foot">
      <button class="button plain" id="upload-back" type="button">Back</button>
      <button class="button primary" id="upload-use" type="button">Use this character</button>
    </div>
  </div>

  <p class="inline-problem" id="upload-problem" role="alert" hidden></p>`;

/** @param {{ stream: import("../element/lip-stream.js").LipStream, onMade: (character: Character) => void }} options */
export function createUploader({ stream, onMade }) {
  const dialog = Object.assign(document.createElement("dialog"), { id: "uploader", className: "sheet upload-sheet" });
  dialog.setAttribute("aria-labelledby", "uploader-title");
  dialog.innerHTML = MARKUP;
  document.body.append(dialog);
  $("upload-close").append(icon("i-close"));
  $("upload-pick").prepend(icon("i-upload"));
  $("upload-record").prepend(icon("i-camera"));
  $("upload-steps").append(...STEPS.map(() => document.createElement("i")));
  const marker = createMarker();

  /** @type {Limits} */ let limits;
  /** The upload in progress: files, and what the user specified for them. @type {Draft | null} */ let draft = null;
  /** @type {Character | null} */ let made = null;
  /** @type {MediaStream | null} */ let camera = null;
  let working = new AbortController();
  let recording = new AbortController();
  /** @type {string[]} */ let objectUrls = [];

  /** @typedef {{ files: File[], roles: Map<File, string>, marks: FaceMarks | null, ownMouth: boolean }} Draft */

  // steps ---------------------------------------------------------------------------------------------------------

  /** @param {"choose" | "busy" | "camera" | "preview"} step */
  function show(step) {
    for (const one of ["choose", "busy", "camera", "preview"]) $(`upload-${one}`).hidden = one !== step;
    dialog.setAttribute("aria-busy", String(step === "busy"));
    const title = step === "camera" ? "Record yourself" : "Your own pictures";
    $("uploader-title").textContent = step === "preview" ? previewTitle() : title;
    const first = { choose: "upload-pick", busy: "upload-close", camera: "upload-camera-start", preview: "upload-use" };
    if (dialog.open) $(first[step]).focus({ preventScroll: true });
    dialog.scrollTop = 0;
  }

  const previewTitle = () => ((made?.pack?.chosen.length ?? 0) > 1 ? "How the pictures are used" : "Preview");

  /** @param {string} text */
  function showError(text) {
    $("upload-problem").textContent = text;
    $("upload-problem").hidden = !text;
  }

  function choose() {
    wait(null);
    show("choose");
  }

  /** Opens the dialog, with files that were dropped or picked elsewhere. @param {File[]} [files] */
  function open(files = []) {
    if (!dialog.open) {
      working = new AbortController();
      showError("");
      $("upload-record").disabled = !canRecord();
      $("upload-record").title = canRecord() ? "" : "This browser does not allow the camera on this page";
      $("upload-consent").checked = consented();
      choose();
      dialog.showModal();
      $("upload-pick").focus();
    }
    if (files.length) take(files);
  }

  dialog.onclose = () => {
    working.abort();
    cancelCamera();
    revokeUrls();
    draft = made = null;
  };
  dialog.onclick = (event) => {
    if (event.target === dialog && $("upload-busy").hidden && !camera) dialog.close();
  };
  addEventListener("pagehide", () => closeCamera(camera));

  function revokeUrls() {
    for (const url of objectUrls) URL.revokeObjectURL(url);
    objectUrls = [];
  }

  // consent -------------------------------------------------------------------------------------------------------

  function consented() {
    try {
      return sessionStorage.getItem(CONSENT) === "1";
    } catch {
      return false; // storage may be forbidden
    }
  }

  /** Whether an upload has to wait for the user's consent. */
  const missingConsent = () => limits?.require_consent && !$("upload-consent").checked;

  /** @param {Draft | null} next uploaded as soon as the user agrees */
  function wait(next) {
    draft = next;
    const count = next?.files.length ?? 0;
    const what = count === 1 ? `“${next?.files[0].name}” is` : `${count} files are`;
    $("upload-waiting").textContent = `${what} ready. Check the box to continue.`;
    $("upload-waiting").hidden = !next;
    if (next) $("upload-consent").focus();
  }

  $("upload-consent").onchange = () => {
    const agreed = $("upload-consent").checked;
    try {
      if (agreed) sessionStorage.setItem(CONSENT, "1");
      else sessionStorage.removeItem(CONSENT);
    } catch {
      // not kept
    }
    if (agreed && draft) make(draft);
  };

  // files ---------------------------------------------------------------------------------------------------------

  /** @param {File[]} files */
  function take(files) {
    if (!$("upload-busy").hidden) return; // one at a time
    cancelCamera();
    made = null;
    const problem = uploadProblem(files);
    showError(problem);
    if (problem) return choose();
    const next = { files, roles: new Map(), marks: null, ownMouth: false };
    if (!missingConsent()) return make(next);
    show("choose");
    wait(next);
  }

  /** Why the server would refuse these files; empty where it would not. @param {File[]} files */
  function uploadProblem(files) {
    const clips = files.filter(isClip);
    const most = limits?.max_pictures ?? 8;
    if (clips.length > 1 || (clips.length && files.length > 1))
      return (
        `Choose either up to ${most} pictures or one clip, not ` +
        `${counted(files.length - clips.length, "picture")} and ${counted(clips.length, "clip")}.`
      );
    if (files.length > most) return `You chose ${files.length} pictures, but a character is made from at most ${most}.`;
    for (const file of files) {
      const limit = (isClip(file) ? limits?.max_clip_bytes : limits?.max_picture_bytes) ?? Infinity;
      if (file.size > limit)
        return `“${file.name}” has ${megabytes(file.size)}; the server accepts up to ${megabytes(limit)}.`;
      if (file.type && !/^(image|video)\//.test(file.type))
        return `“${file.name}” is of type ${file.type}. Choose pictures (PNG, JPEG, WebP, AVIF, HEIC) or a video clip.`;
    }
    return "";
  }

  /** Uploads, lets the user choose or mark a face if necessary, and shows the result. @param {Draft} next */
  async function make(next) {
    const single = next.files.length === 1 && !isClip(next.files[0]);
    const before = draft;
    draft = next;
    $("upload-waiting").hidden = true;
    showError("");
    $("upload-busy-text").textContent = isClip(next.files[0]) ? "Choosing the best frames…" : "Looking for the face…";
    show("busy");
    const { signal } = working;
    try {
      made = await send(next).catch((error) => {
        if (!single || next.marks || !MARKABLE.has(error.reason)) throw error;
        return mark(next, error);
      });
      if (signal.aborted) return;
      if (made) await preview();
      else choose();
    } catch (error) {
      if (signal.aborted) return;
      showError(/** @type {Error} */ (error).message);
      draft = before;
      if (made) await preview();
      else choose();
    }
  }

  /** @param {Draft} next @returns {Promise<Character>} */
  async function send(next) {
    const form = new FormData();
    const { files, roles, marks, ownMouth } = next;
    form.set("name", files[0].name.replace(/\.[^.]*$/, "").slice(0, 40) || "My picture");
    if ($("upload-consent").checked) form.set("consent", "1");
    if (ownMouth) form.set("own_mouth", "1");
    for (const [name, value] of Object.entries(marks ?? {})) form.set(name, value);
    for (const file of files) form.append(isClip(file) ? "clip" : (roles.get(file) ?? "picture"), file);
    const response = await stream.fetch("/v1/characters", { method: "POST", body: form, signal: working.signal });
    return response.json();
  }

  /** @param {Draft} next @param {{ message: string, faces: Face[] }} why */
  function mark(next, why) {
    const own = limits?.generator === "neural" ? next.ownMouth : null;
    return marker.ask(next.files[0], why, own, (marks, ownMouth) => {
      draft = { ...next, marks, ownMouth };
      return send(draft);
    });
  }

  // the preview -------------------------------------------------------------------------------------------------

  async function preview() {
    const character = /** @type {Character} */ (made);
    const { files, marks, ownMouth } = /** @type {Draft} */ (draft);
    const pack = character.pack ?? { chosen: [], missing: [], notices: [] };
    const clip = isClip(files[0]);
    revokeUrls();
    const figures = clip
      ? pack.chosen.map((chosen) => figure(chosen, null))
      : files.map((file) => figure(pack.chosen.find(({ name }) => name === file.name) ?? null, file));
    $("pack").classList.toggle("single", figures.length === 1);
    $("pack").replaceChildren(...(await Promise.all(figures)));
    const missing = pack.missing.filter((role) => role in ROLES && role !== "neutral");
    const list = missing.map((role) => ROLES[role].toLowerCase()).join(", ");
    $("pack-missing").textContent =
      character.face && missing.length
        ? `Not found in the ${clip ? "clip" : files.length > 1 ? "pictures" : "picture"}, so generated: ${list}.`
        : "";
    $("notices").replaceChildren(...pack.notices.map(notice));
    $("own-mouth-line").hidden = !character.face || limits?.generator !== "neural";
    $("own-mouth").checked = ownMouth;
    $("mark-again-line").hidden = clip || files.length > 1 || (Boolean(marks) && "eyes" in (marks ?? {}));
    $("mark-again").textContent = character.face ? "Wrong face? Mark it yourself" : "Mark eyes and mouth";
    $("mark-again").className = character.face ? "link" : "button primary";
    $("upload-use").textContent = character.face ? "Use this character" : "Use it as it is";
    $("upload-use").classList.toggle("primary", character.face);
    $("upload-use").classList.toggle("plain", !character.face);
    show("preview");
  }

  /** A picture and how it is used. @param {Chosen | null} chosen @param {File | null} file */
  async function figure(chosen, file) {
    const shown = document.createElement("figure");
    shown.className = "pack-one";
    const image = Object.assign(document.createElement("img"), { alt: "", width: 128, height: 128 });
    image.onerror = () => image.classList.add("unknown"); // for example HEIC, which most browsers do not display
    if (chosen) image.src = objectUrl(await fetched(`${chosen.picture}?size=${SMALL}`));
    else if (file && made?.face) image.src = objectUrl(file);
    else image.src = stream.pictureUrl(/** @type {Character} */ (made).id, SMALL);
    const caption = document.createElement("figcaption");
    const several = file && draft && draft.files.length > 1;
    if (several) caption.append(roleOf(file, chosen));
    else if (chosen && !file) caption.append(textElement("b", ROLES[chosen.role]));
    caption.append(textElement("small", chosen?.name ?? file?.name ?? ""));
    if (several) caption.append(textElement("small", chosen ? BY[chosen.by] : ""));
    shown.append(image, caption);
    return shown;
  }

  /** @param {File} file @param {Chosen | null} chosen */
  function roleOf(file, chosen) {
    const select = document.createElement("select");
    select.setAttribute("aria-label", `What “${file.name}” shows`);
    if (!chosen) select.add(new Option("Not used", ""));
    for (const [role, says] of Object.entries(ROLES)) select.add(new Option(says, role));
    select.value = chosen?.role ?? "";
    select.onchange = () => {
      const next = /** @type {Draft} */ (draft);
      make({ ...next, roles: new Map([...next.roles, [file, select.value]]) });
    };
    return select;
  }

  /** @param {Notice} notice */
  function notice({ code, text }) {
    const line = document.createElement("li");
    line.dataset.code = code;
    line.append(icon(code === "clip_chosen" ? "i-check" : "i-warn"), textElement("span", text));
    return line;
  }

  /** @param {string} path */
  const fetched = async (path) => (await stream.fetch(path, { signal: working.signal })).blob();

  /** @param {Blob} blob */
  function objectUrl(blob) {
    const url = URL.createObjectURL(blob);
    objectUrls.push(url);
    return url;
  }

  $("own-mouth").onchange = () => make({ .../** @type {Draft} */ (draft), ownMouth: $("own-mouth").checked });
  $("mark-again").onclick = async () => {
    const next = /** @type {Draft} */ (draft);
    const message = `Mark the eyes and mouth of the face in “${next.files[0].name}” that is to speak.`;
    const character = await mark(next, { message, faces: [] });
    if (!character) return;
    made = character;
    await preview();
  };
  $("upload-back").onclick = () => {
    made = null;
    showError("");
    choose();
  };
  $("upload-use").onclick = () => {
    const character = /** @type {Character} */ (made);
    dialog.close();
    onMade(character);
  };
  $("upload-close").onclick = () => dialog.close();

  // the camera ----------------------------------------------------------------------------------------------------

  $("upload-record").onclick = async () => {
    showError("");
    made = null;
    try {
      const opened = await openCamera();
      if (!dialog.open) return closeCamera(opened);
      camera = opened;
    } catch (error) {
      return showError(/** @type {Error} */ (error).message);
    }
    $("upload-video").srcObject = camera;
    $("upload-prompt").textContent = "You will be asked to say “ah”, to smile and to close your eyes";
    prompt(-1);
    $("upload-camera-start").disabled = false;
    show("camera");
  };

  function cancelCamera() {
    recording.abort();
    closeCamera(camera);
    camera = null;
    $("upload-video").srcObject = null;
  }

  /** @param {number} step */
  function prompt(step) {
    if (step >= 0) $("upload-prompt").textContent = STEPS[step].text;
    [...$("upload-steps").children].forEach((bar, i) => {
      bar.className = i < step ? "done" : i === step ? "now" : "";
      bar.style.setProperty("--seconds", `${STEPS[i].seconds}s`);
    });
  }

  $("upload-camera-start").onclick = async () => {
    if (!camera) return;
    $("upload-camera-start").disabled = true;
    const { signal } = (recording = new AbortController());
    try {
      const file = await recordSteps(camera, prompt, signal);
      if (file && !signal.aborted) take([file]);
    } catch (error) {
      showError(`The camera cannot be recorded: ${/** @type {Error} */ (error).message}`);
      choose();
    }
  };
  $("upload-camera-cancel").onclick = () => {
    cancelCamera();
    choose();
  };

  $("upload-pick").onclick = () => $("file").click();
  $("file").onchange = () => {
    const files = [...$("file").files];
    $("file").value = "";
    if (files.length) open(files);
  };

  return {
    open,
    /** @param {Limits} config */
    limit(config) {
      limits = config;
      $("upload-most").textContent = String(config.max_pictures);
    },
  };
}

/** @param {string} tag @param {string} text */
function textElement(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text, title: text });
}

/** @param {number} count @param {string} noun */
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** @param {File} file */
const isClip = ({ type, name }) => type.startsWith("video/") || (!type && /\.(webm|mp4|mov|mkv|m4v)$/i.test(name));

/** @param {number} bytes */
const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MB`;
