// @ts-check
/** Keys and gamepad move the character: what is held becomes a motion plan, said again until it is let go. */

/** @typedef {import("../element/lip-stream.js").LipStream} LipStream */
/** @typedef {Record<string, number>} Pose */
/** @typedef {{ axes: readonly number[], buttons: readonly { value: number }[] }} Pad */

const TICK_MS = 40; // one frame
const AGAIN_MS = 400; // a plan lapses after a second
const DEAD = 0.14; // sticks seldom rest at zero
const NOTICED = 0.02; // a stick that moved less has not moved

const BROWS_UP = { brow_left: 0.9, brow_right: 0.9, eye_wide: 0.3 };
const BROWS_DOWN = { brow_left: -0.8, brow_right: -0.8, brow_inner: -0.5 };

/** What each key does while it is held. Right and left are the viewer's. @type {Record<string, Pose>} */
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
/** What it does instead while Shift is held too. @type {Record<string, Pose>} */
const SHIFTED = {
  arrowleft: { gaze_x: -0.9 },
  arrowright: { gaze_x: 0.9 },
  arrowup: { gaze_y: 0.8 },
  arrowdown: { gaze_y: -0.8 },
  b: { blink_right: 1 },
};

/** @param {number} value of a stick, -1..1: nothing near the middle, all of it at the rim */
const stick = (value) => (Math.abs(value) < DEAD ? 0 : (Math.sign(value) * (Math.abs(value) - DEAD)) / (1 - DEAD));

/** What a gamepad of the standard layout asks for. @param {Pad} pad @returns {Pose} */
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
 * Everything that is held, added up and kept in range.
 * @param {Iterable<string>} keys @param {boolean} shift @param {(Pad | null)[]} pads
 * @param {Record<string, [number, number]>} ranges the server's: what it does not have is left out
 * @returns {Pose} without what is zero
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
    if (!ranges[name] || Math.abs(value) < NOTICED) continue;
    const [low, high] = ranges[name];
    pose[name] = Math.min(Math.max(Math.round(value * 1000) / 1000, low), high);
  }
  return pose;
}

/**
 * What must be said so that the server holds `pose` where it held `said`: null lets go.
 * @param {Pose} said @param {Pose} pose @returns {Record<string, number | null>}
 */
export function changes(said, pose) {
  /** @type {Record<string, number | null>} */
  const values = {};
  for (const name of Object.keys(said)) if (!(name in pose)) values[name] = null;
  for (const [name, value] of Object.entries(pose))
    if (!(name in said) || Math.abs(value - said[name]) >= NOTICED) values[name] = value;
  return values;
}

/**
 * @param {{ stream: LipStream, onPad: (connected: boolean) => void }} options
 */
export function createSteering({ stream, onPad }) {
  /** @type {Record<string, [number, number]>} */ let ranges = {};
  /** @type {Set<string>} */ const keys = new Set();
  /** @type {Pose} */ let said = {};
  let shift = false;
  let saidAt = 0;
  let timer = 0;

  const pads = () => [...(navigator.getGamepads?.() ?? [])].filter((pad) => pad?.mapping === "standard");

  function tick() {
    const connected = pads();
    if (stream.state !== "live") said = {};
    else {
      const pose = poseOf(keys, shift, connected, ranges);
      const now = performance.now();
      const values = now - saidAt > AGAIN_MS ? { ...changes(said, pose), ...pose } : changes(said, pose);
      if (Object.keys(values).length) {
        stream.move(values).catch(() => {}); // the next tick says it again, or the session is over
        for (const [name, value] of Object.entries(values)) {
          if (value === null) delete said[name];
          else said[name] = value;
        }
        saidAt = now;
      }
    }
    if (!keys.size && !connected.length && !Object.keys(said).length) {
      clearInterval(timer);
      timer = 0;
    }
  }

  function wake() {
    timer ||= setInterval(tick, TICK_MS);
  }

  function letGo() {
    keys.clear();
    shift = false;
  }

  document.addEventListener("keyup", (event) => {
    keys.delete(event.key.toLowerCase());
    shift = event.shiftKey;
  });
  window.addEventListener("blur", letGo); // its keyup goes elsewhere
  document.addEventListener("visibilitychange", letGo);
  stream.addEventListener("state", letGo);
  for (const type of ["gamepadconnected", "gamepaddisconnected"])
    window.addEventListener(type, () => {
      onPad(pads().length > 0);
      wake();
    });
  // A choice made by mouse gives the arrows back; one made by keys keeps them.
  document.addEventListener("click", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.detail && stream.state === "live" && target.matches("input[type=radio]")) target.blur();
  });

  return {
    /** @param {Record<string, [number, number]>} plan the server's `config().plan` */
    limit: (plan) => (ranges = plan ?? {}),
    /**
     * Takes a key that moves the character. Arrows stay with whatever has a use of its own for them.
     * @param {KeyboardEvent} event @returns {boolean} whether it was one
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
