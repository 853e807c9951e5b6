/**
 * Runs inside the measured page, before its own scripts. Watches; changes nothing that the user would get:
 *
 * - frames: every frame the <lip-stream> element timed, and the server's rows and pongs as they came;
 * - microphone: the time and the samples of each block that the device delivered, from a tap on its track;
 * - returned: the Opus packets that came back, with their RTP timestamps (which count microphone samples);
 * - played: the samples of the returned voice as the browser took them out of its jitter buffer to be heard.
 *
 * Taps run in a worker, so that the page's main thread has no more to do than the user's. Times are performance.now().
 */
globalThis.probe = (() => {
  const WORKER = `
    const behind = performance.timeOrigin - TIME_ORIGIN; // this worker's clock began so much after the page's
    const now = () => behind + performance.now();
    const taps = {};
    let packets = [];
    let keep = 1, every = 5; // seconds of samples kept, out of so many
    function tapOf(name) {
      return (taps[name] ??= { blocks: [], samples: [], position: 0 });
    }
    async function tap(name, readable) {
      const reader = readable.getReader();
      const kept = tapOf(name);
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        kept.blocks.push([behind + value.timestamp / 1000, now(), value.numberOfFrames, value.sampleRate]);
        if ((kept.position / value.sampleRate) % every < keep) {
          const floats = new Float32Array(value.numberOfFrames);
          value.copyTo(floats, { planeIndex: 0, format: "f32-planar" });
          kept.samples.push([kept.position, Int16Array.from(floats, (x) => Math.max(-1, Math.min(1, x)) * 32767)]);
        }
        kept.position += value.numberOfFrames;
        value.close();
      }
    }
    function base64(bytes) {
      let text = "";
      for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
      return btoa(text);
    }
    onrtctransform = ({ transformer }) => {
      const note = new TransformStream({
        transform(frame, controller) {
          packets.push([frame.getMetadata().rtpTimestamp, now(), base64(new Uint8Array(frame.data))]);
          controller.enqueue(frame);
        },
      });
      transformer.readable.pipeThrough(note).pipeTo(transformer.writable).catch(() => {});
    };
    onmessage = ({ data }) => {
      if (data.keep) ({ keep, every } = data);
      if (data.readable) tap(data.name, data.readable);
      if (data.drain) {
        const out = { packets };
        packets = [];
        for (const [name, kept] of Object.entries(taps)) {
          const samples = kept.samples.map(([at, pcm]) => [at, base64(new Uint8Array(pcm.buffer))]);
          out[name] = { blocks: kept.blocks, samples };
          kept.blocks = [];
          kept.samples = [];
        }
        postMessage(out);
      }
    };
  `;
  const source = WORKER.replace("TIME_ORIGIN", String(performance.timeOrigin));
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));

  let frames = [];
  let rows = [];
  let pongs = [];
  let events = []; // the control channel's other messages, and the element's states, errors and warnings
  let delivered = []; // when, and how many samples the microphone's track had delivered since it began
  let microphone = null;
  let picture = null; // context of a small canvas where pixels are compared with sound
  const marks = {};

  const now = () => performance.now();
  const note = (type, detail) => events.push({ at: now(), type, ...detail });

  function tap(name, track) {
    const { readable } = new MediaStreamTrackProcessor({ track });
    worker.postMessage({ name, readable }, [readable]);
  }

  const Native = RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Native {
    constructor(...options) {
      super(...options);
      this.addEventListener("track", ({ track }) => track.kind === "audio" && tap("played", track));
    }
    addTransceiver(...options) {
      const transceiver = super.addTransceiver(...options);
      const { receiver } = transceiver;
      if (receiver.track.kind === "audio") receiver.transform = new RTCRtpScriptTransform(worker, {});
      return transceiver;
    }
  };

  /**
   * Puts a relay between browser and server: each is told the relay's ports in the place of the other's.
   * @param {{ a: number, b: number }} ports what the browser sends to `a` is for the server, the server's `b` for it
   */
  function detour({ a, b }) {
    const candidates = /^a=candidate:.*\r?\n/gm;
    const host = /^(a=candidate:\S+ \d+ udp \d+) \S+ \d+ (typ host)/im;
    const fetched = globalThis.fetch;
    const sole = (text, port, from) => {
      const kept = (text.match(candidates) ?? []).filter((line) => host.test(line) && (!from || line.includes(` ${from} `)));
      let first = true;
      return text.replace(candidates, () => {
        if (!first || !kept.length) return "";
        first = false;
        return `${kept[0].replace(host, `$1 127.0.0.1 ${port} $2`)}`;
      });
    };
    globalThis.fetch = async (address, init = {}) => {
      const sessions = String(address).includes("/v1/sessions");
      if (sessions && init.method === "PATCH") init = { ...init, body: sole(init.body, b) };
      if (sessions && init.method === "POST") init = { ...init, body: init.body.replace(candidates, "") };
      const response = await fetched(address, init);
      if (!sessions || init.method !== "POST" || response.status !== 201) return response;
      const answer = await response.text();
      marks.serverPort = Number(/^a=candidate:\S+ \d+ udp \d+ 127\.0\.0\.1 (\d+) typ host/im.exec(answer)?.[1]);
      const { status, headers, url } = response;
      const changed = new Response(sole(answer, a, "127.0.0.1"), { status, headers });
      Object.defineProperty(changed, "url", { value: url });
      return changed;
    };
  }

  function pixels(video) {
    picture.drawImage(video, 0, 0, 32, 32);
    const { data } = picture.getImageData(0, 0, 32, 30); // the last two rows are the stamp's
    return btoa(String.fromCharCode(...data.filter((_, i) => i % 4 === 1)));
  }

  /** Watches the page's element; call it before start(). */
  function attach(element, { stamps = true, watchPixels = false, keep = 1, every = 5 } = {}) {
    worker.postMessage({ keep, every });
    element.readStamps = stamps;
    if (watchPixels) {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 32;
      picture = canvas.getContext("2d", { willReadFrequently: true });
    }
    const video = element.shadowRoot.querySelector("video");
    video.requestVideoFrameCallback((_, { presentationTime }) => (marks.firstFrame = presentationTime));
    element.addEventListener("frame", ({ detail: f }) =>
      frames.push([f.k, f.presentationTime, f.receiveTime, f.expectedDisplayTime, f.stamp ?? null, picture && pixels(video)]),
    );
    element.addEventListener("control", ({ detail: message }) => {
      if (message.type === "frames") rows.push(...message.rows);
      else if (message.type === "pong") pongs.push([message.t, now(), message.server]);
      else note(message.type, { message });
    });
    element.addEventListener("state", ({ detail }) => {
      note("element_state", detail);
      if (detail.state === "connecting" && !marks.microphone) {
        marks.microphone = now();
        setTimeout(() => {
          microphone = element.input?.getAudioTracks()[0];
          if (microphone) tap("microphone", microphone);
        });
      }
      if (detail.state === "live") marks.live ??= now();
    });
    element.addEventListener("error", ({ detail }) => note("element_error", detail));
    element.addEventListener("warning", ({ detail }) => note("element_warning", detail));
  }

  async function drain() {
    for (let i = 0; i < 5 && microphone?.stats; i++) {
      await new Promise((resolve) => setTimeout(resolve, 7)); // blocks come every 10 ms: see them at several phases
      delivered.push([now(), microphone.stats.deliveredFrames]);
    }
    const fromWorker = await new Promise((resolve) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.postMessage({ drain: true });
    });
    const out = { frames, rows, pongs, events, delivered, marks, now: now(), ...fromWorker };
    frames = [];
    rows = [];
    pongs = [];
    events = [];
    delivered = [];
    return out;
  }

  return { attach, detour, drain, marks };
})();
