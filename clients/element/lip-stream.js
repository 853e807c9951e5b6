// @ts-check
/**
 * <lip-stream>: a microphone goes out, a talking character comes back, and every displayed frame is timed.
 *
 *   <script type="module" src="http://127.0.0.1:8080/element/lip-stream.js"></script>
 *   <lip-stream character="..." size="256"></lip-stream>
 *
 * This module is the public interface, described in lip-stream.d.ts; the modules beside it are its parts.
 */

export { AlphaCanvas } from "./alpha-canvas.js";
export { Clock } from "./clock.js";
export { LipStream } from "./element.js";
export { LipStreamError } from "./errors.js";
export { FrameLog, STAGES, micToPhoton, percentile, stagesOf } from "./frame-log.js";
export {
  MAX_MESSAGE_BYTES,
  RTP_TICKS_PER_FRAME,
  commands,
  frameOfRtp,
  readMessage,
  stampBits,
  stampedFrame,
  trickleFragment,
} from "./protocol.js";
