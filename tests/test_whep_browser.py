"""WHEP in a browser that has no code of ours: a blank page of another origin, fetch and RTCPeerConnection."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urljoin

import pytest
from conftest import RunningServer
from peers import spoken

from benchmarks.lib.whip_peer import Microphone

pytestmark = pytest.mark.browser

# What a player does by draft-ietf-wish-whep: POST of an offer, the answer of the 201, candidates by PATCH, DELETE.
PLAYER = """
globalThis.players = [];
globalThis.play = async (endpoint, token, codec, kinds) => {
  const player = {states: [], shown: null, patched: []};
  const began = performance.now();
  const pc = player.pc = new RTCPeerConnection({bundlePolicy: "max-bundle", iceServers: []});
  pc.onconnectionstatechange = () => player.states.push(pc.connectionState);
  for (const kind of kinds) {
    const transceiver = pc.addTransceiver(kind, {direction: "recvonly"});
    if (kind === "video" && codec) {
      const {codecs} = RTCRtpReceiver.getCapabilities("video");
      transceiver.setCodecPreferences(codecs.filter(({mimeType}) => [codec, "video/rtx"].includes(mimeType)));
    }
  }
  pc.ontrack = ({track, streams}) => {
    player.streams = (player.streams ?? new Set()).add(streams[0].id);
    const media = Object.assign(document.createElement(track.kind), {
      srcObject: streams[0], muted: track.kind === "video"});
    if (track.kind === "video") media.requestVideoFrameCallback(() => { player.shown = performance.now() - began; });
    document.body.append(media);
    media.play();
  };
  const waiting = [];
  let trickle = (candidate) => waiting.push(candidate);
  pc.onicecandidate = ({candidate}) => { if (candidate?.candidate) trickle(candidate); };
  await pc.setLocalDescription();
  const authorization = {Authorization: `Bearer ${token}`};
  const answer = await fetch(endpoint, {method: "POST", body: pc.localDescription.sdp,
    headers: {...authorization, "Content-Type": "application/sdp"}});
  if (answer.status !== 201) return {refused: answer.status, why: await answer.json()};
  player.session = new URL(answer.headers.get("Location"), endpoint).href;
  player.links = answer.headers.get("Link");
  const tag = answer.headers.get("ETag");
  await pc.setRemoteDescription({type: "answer", sdp: await answer.text()});
  const credentials = pc.localDescription.sdp.match(/a=ice-(ufrag|pwd):.*/g).slice(0, 2);
  trickle = async (...candidates) => {
    const lines = [...credentials, "m=audio 9 UDP/TLS/RTP/SAVPF 0", `a=mid:${candidates[0].sdpMid}`];
    for (const {candidate} of candidates) lines.push(`a=${candidate}`);
    const patched = await fetch(player.session, {method: "PATCH", body: lines.join("\\r\\n") + "\\r\\n", headers:
      {...authorization, "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": tag}});
    player.patched.push(patched.status);
  };
  if (waiting.length) await trickle(...waiting);
  player.leave = () => fetch(player.session, {method: "DELETE", headers: authorization});
  return {index: players.push(player) - 1, session: player.session};
};
globalThis.look = async (index) => {
  const {pc, states, shown, links, patched, streams} = players[index];
  const got = {dtls: pc.getReceivers()[0].transport?.state};
  const reports = await pc.getStats();
  for (const report of reports.values()) {
    if (report.type !== "inbound-rtp") continue;
    const {kind, framesDecoded, keyFramesDecoded, totalAudioEnergy, frameWidth} = report;
    got[kind] = {framesDecoded, keyFramesDecoded, totalAudioEnergy, frameWidth,
      codec: reports.get(report.codecId)?.mimeType};
  }
  return {state: pc.connectionState, states, shown, links, patched, streams: [...streams ?? []], ...got};
};
globalThis.until = async (index, done, seconds = 15) => {
  const end = performance.now() + 1000 * seconds;
  for (;;) {
    const seen = await look(index);
    if (done(seen)) return seen;
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${JSON.stringify(seen)}`);
    await new Promise((soon) => setTimeout(soon, 20));
  }
};
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where a blank page is served, by no server of ours."""

    class Blank(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>a player</title>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def serving(origin: str) -> Iterator[RunningServer]:
    with RunningServer(token="sesame", allow_origins=(origin,)) as running:
        yield running


class Speaker:
    """A WHIP microphone on an event loop of its own, for tests that block theirs."""

    def __init__(self, server: RunningServer) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.microphone = Microphone(server.url, spoken(2.0), token="sesame", size=192)

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def __enter__(self) -> "Speaker":
        try:
            self.call(self.microphone.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call(self.microphone.__aexit__())
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def viewers(self) -> list[dict[str, Any]]:
        return self.call(self.microphone.state())["viewers"]


@pytest.fixture
def page(browser: Any, origin: str) -> Iterator[Any]:
    page = browser.new_page()
    page.goto(origin)
    page.add_script_tag(content=PLAYER)
    yield page
    page.close()


@pytest.mark.usefixtures("any_load")
def test_chromium_plays_by_the_specification_alone(serving: RunningServer, page: Any) -> None:
    """Two players in two codecs decode frames and sound; a late one soon sees a picture; DELETE ends one alone.

    When the session ends, the rest are told by DTLS' own goodbye.
    """

    def play(codec: str | None = None, *kinds: str) -> dict[str, Any]:
        return page.evaluate(
            "([endpoint, codec, kinds]) => play(endpoint, 'sesame', codec, kinds)",
            [urljoin(serving.url, f"/v1/sessions/{speaker.microphone.id}/whep"), codec, kinds or ["audio", "video"]],
        )

    def until(index: int, done: str) -> dict[str, Any]:
        return page.evaluate(f"(index) => until(index, (seen) => {done})", index)

    with Speaker(serving) as speaker:
        session = serving.state.sessions[speaker.microphone.id]
        for index, codec in enumerate(("video/H264", "video/VP8")):
            assert play(codec)["index"] == index
            seen = until(index, "seen.video?.framesDecoded >= 30 && seen.audio?.totalAudioEnergy > 0.001")
            assert seen["video"]["codec"] == codec
            assert seen["audio"]["codec"] == "audio/opus"
            assert seen["video"]["frameWidth"] == 192
            assert len(seen["streams"]) == 1  # one MediaStream, as WHEP wants it
            assert set(seen["patched"]) <= {204}
            assert seen["state"] == "connected"

        keyframes = session._broadcast.keyframes
        late = play("video/H264")["index"]
        seen = until(late, "seen.shown !== null && seen.video?.framesDecoded >= 5")
        assert seen["video"]["keyFramesDecoded"] >= 1
        assert session._broadcast.keyframes > keyframes
        assert (
            seen["shown"] < 5000
        )  # a picture that waits for the next scene would never come: key frames are on demand
        assert until(play(None, "audio")["index"], "seen.audio?.totalAudioEnergy > 0.0001")["state"] == "connected"

        assert [viewer["codec"] for viewer in speaker.viewers()] == ["H264", "VP8", "H264", None]
        assert page.evaluate("(index) => players[index].leave().then((answer) => answer.status)", late) == 200
        assert page.evaluate("(index) => players[index].leave().then((answer) => answer.status)", late) == 404
        until(late, "seen.dtls === 'closed'")
        assert len(speaker.viewers()) == 3
        first = until(0, "true")["video"]["framesDecoded"]
        until(0, f"seen.video.framesDecoded >= {first + 10}")
    for index in (0, 1):
        until(index, "seen.dtls === 'closed'")
    gone = play()
    assert (gone["refused"], gone["why"]["reason"]) == (404, "unknown_session")


def test_page_of_another_origin_is_refused(server: Any, page: Any) -> None:
    """Where the server does not allow its origin, a page gets no answer that it could read."""
    failed = page.evaluate(
        "(endpoint) => play(endpoint, '', null, ['video']).catch((error) => error.name)", f"{server.url}/v1/whip"
    )
    assert failed == "TypeError"
