"""The main job, end to end: a real Chromium talks, sees the mouth move in step, and hears its own voice back."""

from typing import Any

import numpy as np
import pytest

from streamer.config import FPS, SAMPLES_PER_FRAME
from streamer.studio.character import Character
from streamer.studio.controls import rest
from streamer.studio.rig import Rig

pytestmark = pytest.mark.browser

SECONDS = 9
CHARACTER = 1

# Shows the session's video, watches the mouth's box in each displayed frame, and keeps both voices' loudness by block.
CONVERSATION = """
async ([seconds, character, box]) => {
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
  const voices = {sent: [], heard: []};
  const listen = async (track, into) => {
    const reader = new MediaStreamTrackProcessor({track}).readable.getReader();
    for (;;) {
      const {value: block, done} = await reader.read();
      if (done) return;
      const samples = new Float32Array(block.numberOfFrames);
      block.copyTo(samples, {planeIndex: 0, format: "f32-planar"});
      const power = samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
      into.push([performance.now(), block.numberOfFrames / block.sampleRate, Math.sqrt(power)]);
      block.close();
    }
  };
  listen(microphone.getAudioTracks()[0], voices.sent);
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
  const frames = [];
  const watch = (_, {rtpTimestamp, presentationTime}) => {
    picture.drawImage(video, left, top, canvas.width, canvas.height, 0, 0, canvas.width, canvas.height);
    const {data} = picture.getImageData(0, 0, canvas.width, canvas.height);
    let dark = 0;
    for (let i = 0; i < data.length; i += 4) dark += 0.3 * data[i] + 0.59 * data[i + 1] + 0.11 * data[i + 2] < 110;
    frames.push([rtpTimestamp, presentationTime, 4 * dark / data.length]);
    video.requestVideoFrameCallback(watch);
  };
  video.requestVideoFrameCallback(watch);
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  await fetch(answer.headers.get("Location"), {method: "DELETE"});
  peer.close();
  return {hello, frames, ...voices};
}
"""


@pytest.fixture(scope="module")
def conversation(browser: Any, server: Any) -> dict[str, Any]:
    with Rig(Character.from_seed(CHARACTER), 256) as rig:
        _, truth = rig.draw_with_truth(rest())
    left, top, right, bottom = map(round, truth.mouth_box)
    box = [left - 2, top - 2, right + 2, bottom + 10]  # an open mouth reaches further down, but not over the chin
    page = browser.new_page()
    page.goto(f"{server.url}/healthz")
    result = page.evaluate(CONVERSATION, [SECONDS, CHARACTER, box])
    page.close()
    assert "error" not in result, result
    return result


def _loudness(blocks: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of sound (read at ms, seconds, RMS) to loudness each 10 ms, smoothed over 100 ms, and when that was (ms).

    A busy page reads blocks late but never out of order: the least delay tells when each really was.
    """
    read, seconds, power = np.array(blocks).T
    ends = 1000 * np.cumsum(seconds)
    ends += (read - ends).min()
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


def test_frames_keep_coming(conversation: dict[str, Any]) -> None:
    """25 frames a second are displayed, each its own, in order."""
    offset = conversation["hello"]["video_rtp_offset"]
    numbers = [((rtp - offset) % 2**32) // 3600 for rtp, _, _ in conversation["frames"]]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 0.8 * (SECONDS - 1.5) * FPS


def test_the_mouth_moves_in_step_with_the_voice(conversation: dict[str, Any]) -> None:
    """The dark of the open mouth follows the loudness of the voice, at once and not at any other time."""
    _, at, dark = np.array(conversation["frames"]).T
    when, loudness = _loudness(conversation["sent"])
    kept = (when > at[0]) & (when < at[-1])
    when, loudness = when[kept], loudness[kept]
    opening = np.interp(when, at, dark)
    assert opening.max() > opening.min() + 0.03, "the mouth never moved"
    lag, correlation = _lag(loudness, opening, 60)
    assert correlation > 0.45
    assert -10 <= lag <= 30, f"the mouth is {10 * lag} ms behind the voice"
    quiet, loud = loudness < 0.05 * loudness.max(), loudness > 0.4 * loudness.max()
    assert np.median(opening[loud]) > np.median(opening[quiet]) + 0.01


def test_its_own_voice_comes_back(conversation: dict[str, Any]) -> None:
    """What is heard is what was said, a fraction of a second later."""
    when, heard = _loudness(conversation["heard"])
    at, sent = _loudness(conversation["sent"])
    lag, correlation = _lag(np.interp(when, at, sent), heard, 50)
    assert correlation > 0.85
    assert 0 < 10 * lag < 400, f"the voice came back after {10 * lag} ms"


def test_frames_are_younger_than_the_voice_is_long(conversation: dict[str, Any]) -> None:
    """Frames answer the microphone as it goes: over the session, frame numbers grow with the clock."""
    rtp, shown, _ = np.array(conversation["frames"]).T
    numbers = np.unwrap(rtp, period=2**32) / 3600
    rate = np.polyfit(shown / 1000, numbers, 1)[0]
    assert rate == pytest.approx(FPS, rel=0.02)
    assert conversation["hello"]["samples_per_frame"] == SAMPLES_PER_FRAME
