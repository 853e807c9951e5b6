// @ts-check
/** Moves the character with keys and gamepad: what is held becomes a motion plan, repeated until it is released. */

/** @typedef {import("../element/lip-stream.js").LipStream} LipStream */
/** @typedef {Record<string, number>} Pose */
/** @typedef {{ axes: readonly number[], buttons: readonly { value: number }[] }} Pad */

const TICK_MS = 40; // one frame
const REPEAT_MS = 400; // a plan lapses after a second
const DEAD_ZONE = 0.14; // sticks seldom rest at exactly zero
const THRESHOLD = 0.02; // smaller changes are noise

const BROWS_UP = { brow_left: 0.9, brow_right: 0.9, eye_wide: 0.3 };
const BROWS_DOWN = { brow_left: -0.8, brow_right: -0.8, brow_inner: -0.5 };

/** The pose of each key while it is held. Right and left are the viewer's. @type {Record<string, Pose>} */
const KEYS = {
  arrowleft: { yaw: -0.4 },
  arrowright: { yaw: 0.4 },
  arrowup: { pitch: 0.28 },
  arrowdown: { pitch: -0.28 },
  a: { roll: -0.28 },
  d: { roll: 0.28 },
  b: { blink_left: 1, blink_right: 1 },
  e: BROWS_UP,
  q: BROWS_DOWN,
  z: { left_raise: 0.9, left_curl: 0.15 },
  x: { right_raise: 0.9, right_curl: 0.15 },
};
/** The pose while Shift is held too. @type {Record<string, Pose>} */
const SHIFTED = {
  arrowleft: { gaze_x: -0.9 },
  arrowright: { gaze_x: 0.9 },
  arrowup: { gaze_y: 0.8 },
  arrowdown: { gaze_y: -0.8 },
  b: { blink_right: 1 },
};

/** @param {number} value of a stick, -1..1: 0 within the dead zone, full scale at the rim */
const stick = (value) =>
  Math.abs(value) < DEAD_ZONE ? 0 : (Math.sign(value) * (Math.abs(value) - DEAD_ZONE)) / (1 - DEAD_ZONE);

/** The pose of a gamepad with the standard mapping. @param {Pad} pad @returns {Pose} */
function poseOfPad({ axes, buttons }) {
  const axis = (/** @type {number} */ i) => stick(axes[i] ?? 0);
  const button = (/** @type {number} */ i) => buttons[i]?.value ?? 0;
  const brows = button(12) - button(13);
  return {
    yaw: 0.5 * axis(0),
    pitch: -0.35 * axis(1),
    roll: 0.3 * (button(5) - button(4)),
    gaze_x: axis(2),
    gaze_y: -axis(3),
    blink_left: button(0),
    blink_right: Math.max(button(0), button(1)),
    brow_left: 0.9 * brows,
    brow_right: 0.9 * brows,
    left_raise: button(6),
    right_raise: button(7),
  };
}

/**
 * The sum of all poses that are held, clamped to the ranges.
 * @param {Iterable<string>} keys @param {boolean} shift @param {(Pad | null)[]} pads
 * @param {Record<string, [number, number]>} ranges the server's; other controls are omitted
 * @returns {Pose} without zeros
 */
export function poseOf(keys, shift, pads, ranges) {
  /** @type {Pose} */
  const sum = {};
  const add = (/** @type {Pose} */ pose) => {
    for (const [name, value] of Object.entries(pose)) sum[name] = (sum[name] ?? 0) + value;
  };
  for (const key of keys) add((shift && SHIFTED[key]) || KEYS[key] || {});
  for (const pad of pads) if (pad) add(poseOfPad(pad));
  /** @type {Pose} */
  const pose = {};
  for (const [name, value] of Object.entries(sum)) {
    if (!ranges[name] || Math.abs(value) < THRESHOLD) continue;
    const [low, high] = ranges[name];
    pose[name] = Math.min(Math.max(Math.round(value * 1000) / 1000, low), high);
  }
  return pose;
}

/**
 * The changes from one pose to another: null releases a control.
 * @param {Pose} sent @param {Pose} pose @returns {Record<string, number | null>}
 */
export function changes(sent, pose) {
  /** @type {Record<string, number | null>} */
  const values = {};
  for (const name of Object.keys(sent)) if (!(name in pose)) values[name] = null;
  for (const [name, value] of Object.entries(pose))
    if (!(name in sent) || Math.abs(value - sent[name]) >= THRESHOLD) values[name] = value;
  return values;
}

/**
 * @param {{ stream: LipStream, onPad: (connected: boolean) => void }} options
 */
export function createSteering({ stream, onPad }) {
  /** @type {Record<string, [number, number]>} */ let ranges = {};
  /** @type {Set<string>} */ const keys = new Set();
  /** @type {Pose} */ let sent = {};
  let shift = false;
  let sentAt = 0;
  let timer = 0;

  const pads = () => [...(navigator.getGamepads?.() ?? [])].filter((pad) => pad?.mapping === "standard");

  function tick() {
    const connected = pads();
    if (stream.state !== "live") sent = {};
    else {
      const pose = poseOf(keys, shift, connected, ranges);
      const now = performance.now();
      const values = now - sentAt > REPEAT_MS ? { ...changes(sent, pose), ...pose } : changes(sent, pose);
      if (Object.keys(values).length) {
        stream.move(values).catch(() => {}); // the next tick repeats it, or the session is over
        for (const [name, value] of Object.entries(values)) {
          if (value === null) delete sent[name];
          else sent[name] = value;
        }
        sentAt = now;
      }
    }
    if (!keys.size && !connected.length && !Object.keys(sent).length) {
      clearInterval(timer);
      timer = 0;
    }
  }

  function wake() {
    timer ||= setInterval(tick, TICK_MS);
  }

  function releaseAll() {
    keys.clear();
    shift = false;
  }

  document.addEventListener("keyup", (event) => {
    keys.delete(event.key.toLowerCase());
    shift = event.shiftKey;
  });
  window.addEventListener("blur", releaseAll); // the keyup event will not arrive here
  document.addEventListener("visibilitychange", releaseAll);
  stream.addEventListener("state", releaseAll);
  for (const type of ["gamepadconnected", "gamepaddisconnected"])
    window.addEventListener(type, () => {
      onPad(pads().length > 0);
      wake();
    });
  // After a choice by mouse the arrows move the character again; after one by keyboard they stay with the choices.
  document.addEventListener("click", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.detail && stream.state === "live" && target.matches("input[type=radio]")) target.blur();
  });

  return {
    /** @param {Record<string, [number, number]>} plan the server's `config().plan` */
    limit: (plan) => (ranges = plan ?? {}),
    /**
     * Handles a key that moves the character. Controls that use the arrow keys themselves keep them.
     * @param {KeyboardEvent} event @returns {boolean} whether it was handled
     */
    press(event) {
      const key = event.key.toLowerCase();
      const target = /** @type {HTMLElement} */ (event.target);
      shift = event.shiftKey;
      if (stream.state !== "live" || !Object.hasOwn(KEYS, key)) return false;
      if (key.startsWith("arrow") && target.closest("input, select, [role=tab]")) return false;
      event.preventDefault(); // arrows would scroll
      keys.add(key);
      wake();
      return true;
    },
  };
}
