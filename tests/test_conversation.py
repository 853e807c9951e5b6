"""The main job, end to end: a real Chromium talks, sees the mouth move in step, and hears its own voice back."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from peers import MouthMeter

from streamer.base.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from streamer.motion.articulation import stepped
from streamer.motion.controls import MOUTH

pytestmark = pytest.mark.browser

SECONDS = 8
STEP = 1000 / FPS  # ms

# For so many seconds from the first frame: watches the mouth's box in each displayed frame, where it counts pixels of
# the colour inside a mouth, and keeps the microphone's sound and both voices' loudness by block.
CONVERSATION = """
async ([seconds, character, box, colour]) => {
  const microphone = await navigator.mediaDevices.getUserMedia({audio: {
    echoCancellation: false, noiseSuppression: false, autoGainControl: false}});
  const peer = new RTCPeerConnection({iceServers: []});
  peer.addTransceiver(microphone.getAudioTracks()[0], {direction: "sendrecv", streams: [microphone]});
  peer.addTransceiver("video", {direction: "recvonly"});
  const control = peer.createDataChannel("control");
  let hello = null;
  control.onmessage = ({data}) => { const m = JSON.parse(data); if (m.type === "hello") hello = m; };
  const video = Object.assign(document.createElement("video"), {muted: true, autoplay: true});
  document.body.append(video);
  const voices = {sent: [], heard: []}, sound = [];
  const listen = async (track, into, keep) => {
    const reader = new MediaStreamTrackProcessor({track, maxBufferSize: 1000}).readable.getReader();  // drops none
    for (;;) {
      const {value: block, done} = await reader.read();
      if (done) return;
      const samples = new Float32Array(block.numberOfFrames);
      block.copyTo(samples, {planeIndex: 0, format: "f32-planar"});
      const power = samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
      into.push([performance.now(), block.numberOfFrames / block.sampleRate, Math.sqrt(power)]);
      if (keep) sound.push(Int16Array.from(samples, (x) => 32767 * Math.max(-1, Math.min(1, x))));
      block.close();
    }
  };
  listen(microphone.getAudioTracks()[0], voices.sent, true);
  peer.ontrack = ({track, streams}) => {
    if (track.kind === "video") { video.srcObject = streams[0]; return; }
    listen(track, voices.heard);
    Object.assign(new Audio(), {srcObject: streams[0], muted: true}).play();  // Chromium decodes what is played
  };
  await peer.setLocalDescription(await peer.createOffer());
  const answer = await fetch(`/v1/sessions?character=${character}&size=256`, {
    method: "POST", headers: {"Content-Type": "application/sdp"}, body: peer.localDescription.sdp});
  if (answer.status !== 201) return {error: await answer.text()};
  await peer.setRemoteDescription({type: "answer", sdp: await answer.text()});
  const [left, top, right, bottom] = box;
  const canvas = Object.assign(document.createElement("canvas"), {width: right - left, height: bottom - top});
  const picture = canvas.getContext("2d", {willReadFrequently: true});
  const [red, green, blue] = colour, frames = [];
  let watched;
  const end = new Promise((done, fail) => {
    watched = done;
    setTimeout(() => fail(new Error("no frame within 20 s")), 20_000);
  });
  const watch = (_, {rtpTimestamp, presentationTime}) => {
    video.requestVideoFrameCallback(watch);
    if (rtpTimestamp === undefined) return;  // black, before the first frame
    picture.drawImage(video, left, top, canvas.width, canvas.height, 0, 0, canvas.width, canvas.height);
    const {data} = picture.getImageData(0, 0, canvas.width, canvas.height);
    let inside = 0;
    for (let i = 0; i < data.length; i += 4)
      inside += Math.abs(data[i] - red) + Math.abs(data[i + 1] - green) + Math.abs(data[i + 2] - blue) < 70;
    frames.push([rtpTimestamp, presentationTime, inside]);
    if (frames.length === 1) setTimeout(watched, 1000 * seconds);
  };
  video.requestVideoFrameCallback(watch);
  await end;
  await fetch(new URL(answer.headers.get("Location"), answer.url), {method: "DELETE"});
  peer.close();
  const bytes = new Uint8Array(await new Blob(sound).arrayBuffer());
  const pieces = [];
  for (let i = 0; i < bytes.length; i += 8192) pieces.push(String.fromCharCode(...bytes.subarray(i, i + 8192)));
  return {hello, frames, ...voices, sound: btoa(pieces.join("")) };
}
"""


@dataclass
class Conversation:
    hello: dict[str, Any]
    numbers: np.ndarray
    """[n]: displayed frames, in the order in which they were displayed."""
    shown: np.ndarray
    """[n]: when (ms, page's clock)."""
    opening: np.ndarray
    """[n]: how much of the mouth's inside is seen."""
    sent: list[list[float]]
    heard: list[list[float]]
    sound: np.ndarray
    """[m] float32: what the microphone gave, at 16 kHz."""


@pytest.fixture(scope="module")
def conversation(browser: Any, server: Any) -> Conversation:
    meter = MouthMeter.clearest([server.state.characters.get(str(seed)) for seed in range(3, 6)])
    rows, columns = meter._part
    page = browser.new_page()
    page.goto(f"{server.url}/healthz")
    box = [columns.start, rows.start, columns.stop, rows.stop]
    result = page.evaluate(CONVERSATION, [SECONDS, meter.entry.id, box, meter._colour.tolist()])
    page.close()
    assert "error" not in result, result
    rtp, shown, opening = np.array(result["frames"]).T
    sound = np.frombuffer(base64.b64decode(result["sound"]), "<i2") / 32767
    seconds = sum(seconds for _, seconds, _ in result["sent"])
    numbers = (rtp.astype(np.int64) - result["hello"]["video_rtp_offset"]) % 2**32 // 3600
    return Conversation(
        result["hello"], numbers, shown, opening, result["sent"], result["heard"], _resampled(sound, seconds)
    )


def _resampled(sound: np.ndarray, seconds: float) -> np.ndarray:
    """Sound of any rate above 16 kHz, so many seconds of it, to [m] float32 at 16 kHz."""
    samples = round(seconds * SAMPLE_RATE)
    return (np.fft.irfft(np.fft.rfft(sound)[: samples // 2 + 1], samples) * (samples / len(sound))).astype(np.float32)


def _least_delay(happened: np.ndarray, due: np.ndarray) -> float:
    """What a busy machine does late it does late by changing amounts, never early: the least tells the clocks apart."""
    return float((happened - due).min())


def _ends(blocks: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of sound (read at ms, seconds, RMS): when each ended by the count of its samples (ms), when it was read.

    The first is on the page's clock by the block that was read soonest.
    """
    read, seconds, _ = np.array(blocks).T
    ends = 1000 * np.cumsum(seconds)
    return ends + _least_delay(read, ends), read


def _loudness(blocks: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of sound to loudness each 10 ms, smoothed over 100 ms, and when that was (ms)."""
    ends, _ = _ends(blocks)
    power = np.array(blocks)[:, 2]
    grid = np.arange(ends[0], ends[-1], 10.0)
    return grid, np.convolve(np.interp(grid, ends, power), np.ones(10) / 10, "same")


def _lag(a: np.ndarray, b: np.ndarray, most: int) -> tuple[int, float]:
    """Steps by which b trails a (may be negative), and the correlation there."""
    scores = {}
    for lag in range(-most, most + 1):
        x, y = (a[: len(a) - lag], b[lag:]) if lag >= 0 else (a[-lag:], b[: len(b) + lag])
        scores[lag] = float(np.corrcoef(x, y)[0, 1])
    best = max(scores, key=scores.__getitem__)
    return best, scores[best]


def test_frames_keep_coming(conversation: Conversation) -> None:
    """Frames are displayed each once and in order, from the first words to the last, and no slide show of them."""
    numbers = conversation.numbers
    assert numbers.tolist() == sorted(set(numbers.tolist()))
    assert numbers[-1] - numbers[0] > 0.9 * SECONDS * FPS
    assert len(numbers) > 0.4 * SECONDS * FPS  # a busy page is not told of every frame


def test_the_mouth_moves_in_step_with_the_voice(conversation: Conversation, server: Any) -> None:
    """The mouth that is seen opens as the microphone's sound says, a moment later and at no other time.

    Frames are placed by their number, sound by its samples. The two are put on the page's clock once each, by the frame
    and the block that came soonest, so that it does not matter by how much a busy machine delays others.
    """
    ends, _ = _ends(conversation.sent)
    articulated = stepped(server.state.listener, conversation.sound).mouth[:, MOUTH.index("open")]
    spoken = ends[-1] - 1000 * len(conversation.sound) / SAMPLE_RATE + STEP * np.arange(len(articulated))
    shown = STEP * conversation.numbers
    shown = shown + _least_delay(conversation.shown, shown)
    when = np.arange(max(spoken[0], shown[0]), min(spoken[-1], shown[-1]), 10.0)
    said = np.interp(when, spoken, articulated)
    lag, correlation = _lag(said, np.interp(when, shown, conversation.opening), 60)
    assert correlation > 0.6
    assert 0 < 10 * lag < 250, f"the mouth is {10 * lag} ms behind the voice"
    lag, _ = _lag(np.interp(when, *_loudness(conversation.sent)), said, 60)
    assert abs(10 * lag) <= 100, f"what the sound is heard to say is {10 * lag} ms beside its loudness"


def test_its_own_voice_comes_back(conversation: Conversation) -> None:
    """What is heard is what was said, a fraction of a second later.

    A browser that is short of packets stretches sound, and later hurries: the delay is that of a second and a half.
    """
    when, heard = _loudness(conversation.heard)
    sent = np.interp(when, *_loudness(conversation.sent))
    longest, piece = 80, 150  # steps of 10 ms
    found = []
    for start in range(0, len(sent) - piece - longest, piece):
        said = sent[start : start + piece]
        fits = [np.corrcoef(said, heard[start + lag :][:piece])[0, 1] for lag in range(longest)]
        found.append((max(fits), 10 * int(np.argmax(fits))))
    fit, late = np.median(found, axis=0)
    assert fit > 0.7
    assert 0 < late < 600, f"the voice came back after {late:.0f} ms"


def test_frames_keep_up_with_the_voice(conversation: Conversation) -> None:
    """A frame stands for 640 samples, and at the end frames are as far behind the voice's samples as at the start."""
    assert conversation.hello["samples_per_frame"] == SAMPLES_PER_FRAME
    ends, read = _ends(conversation.sent)
    shown, due = conversation.shown, STEP * conversation.numbers
    half = (shown[0] + shown[-1]) / 2

    def behind(frames: np.ndarray, blocks: np.ndarray) -> float:
        return _least_delay(shown[frames], due[frames]) - _least_delay(read[blocks], ends[blocks])

    assert behind(shown > half, read > half) == pytest.approx(behind(shown <= half, read <= half), abs=300)
