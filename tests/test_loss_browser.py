"""A path that loses packets, between a real Chromium and the server: the codec's forward error correction repairs."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from aioice.ice import StunProtocol
from conftest import RunningServer

pytestmark = pytest.mark.browser

LOSS = 0.12
LEARN, MEASURE = 5, 5  # seconds: Chromium adds FEC only once receiver reports have told it of losses

# What WHIP asks of a browser: an offer that sends sound, the answer of the 201. The page then waits.
SPEAK = """
async (path) => {
  const microphone = await navigator.mediaDevices.getUserMedia({audio: {
    echoCancellation: false, noiseSuppression: false, autoGainControl: false}});
  const peer = globalThis.peer = new RTCPeerConnection({iceServers: [], bundlePolicy: "max-bundle"});
  const track = microphone.getAudioTracks()[0];
  peer.addTransceiver(track, {direction: path.includes("whip") ? "sendonly" : "sendrecv", streams: [microphone]});
  if (!path.includes("whip")) peer.addTransceiver("video", {direction: "recvonly"});
  await peer.setLocalDescription();
  const answer = await fetch(path, {
    method: "POST", headers: {"Content-Type": "application/sdp"}, body: peer.localDescription.sdp});
  if (answer.status !== 201) throw new Error(await answer.text());
  await peer.setRemoteDescription({type: "answer", sdp: await answer.text()});
  return new URL(answer.headers.get("Location"), answer.url).pathname.split("/").at(-1);
}
"""


class LossyPath:
    """Loses a share of the media packets on their way to this process, before anything of the server sees them."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._random = random.Random(12)
        self.lost = 0

    def loses(self, data: bytes) -> bool:
        """RTP alone: RTCP shares the port, and has packet types 192 to 223 (RFC 5761)."""
        is_rtp = len(data) > 12 and data[0] >> 6 == 2 and not 192 <= data[1] <= 223
        lost = is_rtp and self._random.random() < self._share
        self.lost += lost
        return lost


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> Iterator[LossyPath]:
    path = LossyPath(LOSS)
    receive = StunProtocol.datagram_received

    def datagram_received(self: StunProtocol, data: bytes, addr: tuple[Any, ...]) -> None:
        if not path.loses(data):
            receive(self, data, addr)

    monkeypatch.setattr(StunProtocol, "datagram_received", datagram_received)
    yield path


@pytest.mark.usefixtures("any_load")
@pytest.mark.parametrize("path", ["/v1/sessions?size=128", "/v1/whip?size=128"], ids=["conversation", "whip"])
def test_lost_speech_is_repaired(browser: Any, server: RunningServer, lossy: LossyPath, path: str) -> None:
    """Chromium is told that FEC is used and adds it: most packets lost one at a time come back from the next one."""
    page = browser.new_page()
    try:
        page.goto(f"{server.url}/healthz")
        session = server.state.sessions[page.evaluate(SPEAK, path)]
        page.wait_for_timeout(1000 * LEARN)
        before = session.snapshot()["audio"]
        page.wait_for_timeout(1000 * MEASURE)
        after = session.snapshot()["audio"]
        page.evaluate("peer.close()")
        server.call(session.close("deleted"))
    finally:
        page.close()
    lost = after["lost"] - before["lost"]
    repaired = after["fec_recovered"] - before["fec_recovered"]
    assert lost > 20
    # Seven of eight lost packets have their successor; a busy machine takes some of those late. Without FEC it is none.
    assert repaired > 0.4 * lost, f"{repaired} of {lost} lost packets repaired"
