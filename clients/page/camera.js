// @ts-check
/** Records the user with the camera for a few seconds, with instructions step by step, and then closes it. */

/** The instructions, and how many seconds each takes. */
export const STEPS = [
  { text: "Look at the camera", seconds: 1.1 },
  { text: "Say “ah”", seconds: 1.3 },
  { text: "Smile and show your teeth", seconds: 1.3 },
  { text: "Close your eyes until the tone", seconds: 1.3 },
];
const KINDS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
const BITS_PER_SECOND = 6_000_000; // per second
const REASONS = /** @type {Record<string, string>} */ ({
  NotAllowedError: "The camera is blocked. Allow it in the address bar, then try again.",
  SecurityError: "The camera is blocked. Allow it in the address bar, then try again.",
  NotFoundError: "No camera was found.",
  OverconstrainedError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
  AbortError: "The camera is in use by another program.",
});

/** Whether this browser can record here. Browsers do not allow the camera on plain HTTP pages of other machines. */
export const canRecord = () => Boolean(navigator.mediaDevices && globalThis.MediaRecorder);

/** @returns {Promise<MediaStream>} without audio */
export async function openCamera() {
  const size = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 }, facingMode: "user" };
  try {
    return await navigator.mediaDevices.getUserMedia({ video: size, audio: false });
  } catch (error) {
    const { name, message } = /** @type {DOMException} */ (error);
    throw new Error(REASONS[name] ?? `The camera cannot be opened: ${message}`);
  }
}

/** @param {MediaStream | null} camera */
export const closeCamera = (camera) => camera?.getTracks().forEach((track) => track.stop());

/**
 * Records all steps, then closes the camera.
 * @param {MediaStream} camera @param {(step: number) => void} onStep @param {AbortSignal} signal
 * @returns {Promise<File | null>} null where it was cancelled
 */
export async function recordSteps(camera, onStep, signal) {
  const tones = createTones();
  const mimeType = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
  try {
    const recorder = new MediaRecorder(camera, { mimeType, videoBitsPerSecond: BITS_PER_SECOND });
    /** @type {Blob[]} */ const pieces = [];
    recorder.ondataavailable = ({ data }) => pieces.push(data);
    const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve));
    recorder.start();
    for (const [step, { seconds }] of STEPS.entries()) {
      onStep(step);
      tones.play(step ? 660 : 880);
      await pause(1000 * seconds, signal);
      if (signal.aborted) return null;
    }
    tones.play(880);
    recorder.stop();
    await stopped;
    const kind = recorder.mimeType.split(";")[0] || "video/webm";
    return new File(pieces, `camera.${kind.split("/")[1]}`, { type: kind });
  } finally {
    closeCamera(camera);
    tones.close();
  }
}

/** @param {number} ms @param {AbortSignal} signal */
const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => resolve(clearTimeout(timer)), { once: true });
  });

/** Short tones, because users with their eyes closed cannot read the instructions. */
function createTones() {
  const context = globalThis.AudioContext ? new AudioContext() : null;
  return {
    /** @param {number} hertz */
    play(hertz) {
      if (!context) return;
      const [source, volume] = [context.createOscillator(), context.createGain()];
      source.frequency.value = hertz;
      volume.gain.setValueAtTime(0.08, context.currentTime);
      volume.gain.exponentialRampToValueAtTime(0.001, context.currentTime + 0.18);
      source.connect(volume).connect(context.destination);
      source.start();
      source.stop(context.currentTime + 0.2);
    },
    close: () => setTimeout(() => context?.close(), 300), // after the last tone
  };
}
