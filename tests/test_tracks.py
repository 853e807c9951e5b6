"""What is asked of WebRTC beyond aiortc: pushed packets, their timestamps, extensions, pacing and retransmission."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCSessionDescription
from aiortc.codecs import depayload
from aiortc.rtcrtpparameters import (
    RTCRtcpFeedback,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpSendParameters,
)
from aiortc.rtp import (
    HeaderExtensionsMap,
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
    is_rtcp,
    unpack_header_extensions,
)
from lipstream_client import media

from streamer.base import clock
from streamer.media.video_encoder import VideoEncoder
from streamer.rtc import aiortc_internals
from streamer.rtc.aiortc_internals import PLAYOUT_DELAY_URI, PushSender, UdpPorts

H264 = RTCRtpCodecParameters("video/H264", 90000, payloadType=99)
H264.parameters = {"packetization-mode": "1"}
RTX = RTCRtpCodecParameters("video/rtx", 90000, payloadType=100, parameters={"apt": 99})
OPUS = RTCRtpCodecParameters("audio/opus", 48000, channels=2, payloadType=96)
MID = RTCRtpHeaderExtensionParameters(id=1, uri="urn:ietf:params:rtp-hdrext:sdes:mid")
SEND_TIME = RTCRtpHeaderExtensionParameters(id=2, uri="http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time")
PLAYOUT = RTCRtpHeaderExtensionParameters(id=9, uri=PLAYOUT_DELAY_URI)


class Wire:
    """Stands in for the DTLS transport; keeps what is sent, in order."""

    state = "connected"
    _stats_id = "wire"

    def __init__(self) -> None:
        self.packets: list[RtpPacket] = []
        self.reports: list[Any] = []
        self.raw: list[bytes] = []
        self.reported = asyncio.Event()
        self.broken = False
        self._extensions = HeaderExtensionsMap()

    async def _send_rtp(self, data: bytes) -> None:
        if self.broken:
            raise ConnectionError("cut")
        if is_rtcp(data):
            self.reports += RtcpPacket.parse(data)
            self.reported.set()
        else:
            self.raw.append(data)
            self.packets.append(RtpPacket.parse(data, self._extensions))

    def _register_rtp_sender(self, sender: PushSender, parameters: RTCRtpSendParameters) -> None:
        self._extensions.configure(parameters)

    def _unregister_rtp_sender(self, sender: PushSender) -> None:
        pass


def parameters(*codecs: RTCRtpCodecParameters, extensions: tuple[Any, ...] = (MID, SEND_TIME)) -> RTCRtpSendParameters:
    given = RTCRtpSendParameters(codecs=list(codecs), headerExtensions=list(extensions), muxId="v")
    given.rtcp.cname = "test"
    return given


async def started(sender: PushSender, given: RTCRtpSendParameters) -> None:
    await sender.send(given)
    await sender._RTCRtpSender__rtp_started.wait()
    assert sender.ready


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def video(wire: Wire) -> AsyncIterator[PushSender]:
    sender = PushSender("video", wire)
    await started(sender, parameters(H264, RTX))
    yield sender
    await sender.stop()


@pytest.fixture
async def audio(wire: Wire) -> AsyncIterator[PushSender]:
    sender = PushSender("audio", wire)
    await started(sender, parameters(OPUS))
    yield sender
    await sender.stop()


def coded(size: int = 256, frame: int = 0) -> av.Packet:
    """A key frame of noise, which takes many packets."""
    noise = np.random.default_rng(frame).integers(0, 255, (size, size, 4), np.uint8)
    return VideoEncoder("H264", size).encode(noise, frame)


class TestPush:
    async def test_before_connected(self, wire: Wire) -> None:
        """Until the connection stands, a push says that nothing was sent, and after it ended again."""
        sender = PushSender("audio", wire)
        assert not sender.ready
        assert not await sender.push(b"\x78x", 0, 0.0)
        await started(sender, parameters(OPUS))
        assert await sender.push(b"\x78x", 0, 0.0)
        await sender.stop()
        assert not await sender.push(b"\x78x", 960, 0.0)
        assert len(wire.packets) == 1

    async def test_sound(self, wire: Wire, audio: PushSender) -> None:
        """A packet of sound goes out untouched, its timestamp counted from the offset modulo 2^32, numbers rising."""
        audio.timestamp_offset = 2**32 - 960
        for i in range(3):
            assert await audio.push(bytes([0x78, i]), 960 * i, 0.0)
        assert [p.payload for p in wire.packets] == [b"\x78\x00", b"\x78\x01", b"\x78\x02"]
        assert [p.timestamp for p in wire.packets] == [2**32 - 960, 0, 960]
        numbers = [p.sequence_number for p in wire.packets]
        assert np.all(np.diff(numbers) == 1)
        assert {p.payload_type for p in wire.packets} == {96}
        assert {p.extensions.mid for p in wire.packets} == {"v"}

    async def test_picture(self, wire: Wire, video: PushSender) -> None:
        """A picture's packets share a timestamp, the last one has the marker, and together they are the picture."""
        packet = coded()
        assert await video.push(packet, 3600 * 7, 0.0)
        assert len(wire.packets) > 12
        assert {p.timestamp for p in wire.packets} == {(video.timestamp_offset + 3600 * 7) % 2**32}
        assert [p.marker for p in wire.packets] == [0] * (len(wire.packets) - 1) + [1]
        assert all(len(raw) <= 1400 for raw in wire.raw)
        decoder = av.CodecContext.create("h264", "r")
        whole = b"".join(depayload(H264, p.payload) for p in wire.packets)
        assert decoder.decode(av.Packet(whole))[0].width == 256

    async def test_large_picture_is_paced(self, wire: Wire, video: PushSender, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a first burst packets are spread, over 20 ms at most, so that they do not flood a narrow path."""
        pauses = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)

        monkeypatch.setattr(aiortc_internals, "asyncio", SimpleNamespace(sleep=sleep))
        await video.push(coded(512), 0, 0.0)
        assert len(pauses) == len(wire.packets) - 12
        assert 0.001 < sum(pauses) <= 0.0201

    async def test_two_pictures_do_not_mix(self, wire: Wire, video: PushSender) -> None:
        """A picture that is pushed while another one is still being paced waits for it."""
        await asyncio.gather(video.push(coded(frame=0), 0, 0.0), video.push(coded(frame=1), 3600, 0.0))
        stamps = [p.timestamp for p in wire.packets]
        assert stamps == sorted(stamps, key=lambda t: (t - video.timestamp_offset) % 2**32)

    async def test_broken_connection(self, wire: Wire, audio: PushSender) -> None:
        """A transport that fails makes the push say so, and raises nothing."""
        wire.broken = True
        assert not await audio.push(b"\x78x", 0, 0.0)


class TestExtensions:
    async def test_playout_delay(self, wire: Wire) -> None:
        """Negotiated, every packet carries playout-delay 0/0 beside the other extensions; otherwise none does."""
        for extensions, carried in (((MID, SEND_TIME, PLAYOUT), True), ((MID, SEND_TIME), False), ((PLAYOUT,), True)):
            sender = PushSender("video", wire)
            await started(sender, parameters(H264, extensions=extensions))
            wire.raw.clear()
            await sender.push(coded(64), 0, 0.0)
            await sender.stop()
            for raw in wire.raw:
                words = int.from_bytes(raw[14:16], "big")
                found = dict(unpack_header_extensions(int.from_bytes(raw[12:14], "big"), raw[16 : 16 + 4 * words]))
                assert (found.get(9) == b"\0\0\0") == carried
                assert (1 in found) == (MID in extensions)


class TestFeedback:
    async def test_retransmission(self, wire: Wire, video: PushSender) -> None:
        """A packet reported lost is sent again on the retransmission stream, as long as it is kept: 1024 packets."""
        await video.push(coded(), 0, 0.0)
        lost = wire.packets[3]
        nack = RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=video._ssrc)
        nack.lost = [lost.sequence_number, (lost.sequence_number - 100) & 0xFFFF]
        await video._handle_rtcp_packet(nack)
        again = wire.packets[-1]
        assert again.payload_type == 100
        assert again.payload == lost.sequence_number.to_bytes(2, "big") + lost.payload
        assert again.timestamp == lost.timestamp
        assert video.retransmitted == 1

    async def test_key_frame_request(self, wire: Wire) -> None:
        """A picture-loss indication reaches the encoder's side; so does the receiver's estimate and its loss."""
        asked, estimates, losses = [], [], []
        sender = PushSender("video", wire, lambda: asked.append(1), estimates.append, losses.append)
        await started(sender, parameters(H264))
        try:
            sender._send_keyframe()
            sender._RTCRtpSender__encoder.target_bitrate = 250_000
            report = dict(packets_lost=5, highest_sequence=9, jitter=0, lsr=0, dlsr=0)
            for ssrc, share in ((sender._ssrc, 64), (sender._ssrc ^ 1, 128)):
                info = RtcpReceiverInfo(ssrc=ssrc, fraction_lost=share, **report)
                await sender._handle_rtcp_packet(RtcpRrPacket(ssrc=1, reports=[info]))
            assert (asked, estimates, losses) == ([1], [250_000], [0.25])
        finally:
            await sender.stop()

    async def test_sender_report_has_the_time_of_capture(self, wire: Wire, audio: PushSender) -> None:
        """Sender reports pair the newest timestamp with when it was captured, not with when it was sent."""
        captured = clock.now() - 0.5
        await audio.push(b"\x78x", 96_000, captured)
        await asyncio.wait_for(wire.reported.wait(), 5)
        report = next(r for r in wire.reports if isinstance(r, RtcpSrPacket)).sender_info
        assert report.rtp_timestamp == (audio.timestamp_offset + 96_000) % 2**32
        assert report.ntp_timestamp == clock.to_ntp(captured)
        assert (report.packet_count, report.octet_count) == (1, 2)


class TestTap:
    def test_packets_pass_untouched(self) -> None:
        """Each packet is handed on as it arrives, padding aside, and aiortc is given nothing to decode."""
        taken = []
        tap = aiortc_internals._Tap(lambda *packet: taken.append(packet))
        for number, payload in ((7, b"abc"), (5, b"d"), (6, b"")):
            packet = RtpPacket(payload_type=96, sequence_number=number, timestamp=960 * number)
            packet.payload = payload
            assert tap.add(packet) == (False, None)
        assert [packet[:3] for packet in taken] == [(7, 6720, b"abc"), (5, 4800, b"d")]
        assert all(abs(packet[3] - clock.now()) < 1 for packet in taken)


class TestCodecs:
    def test_preference(self) -> None:
        """Codecs are ordered by rank, those without one go, and each keeps its own retransmission format only."""

        class Transceiver:
            _codecs: list[RTCRtpCodecParameters]

        feedback = [RTCRtcpFeedback("nack", "pli")]
        vp8 = RTCRtpCodecParameters("video/VP8", 90000, payloadType=97, rtcpFeedback=feedback)
        vp8_rtx = RTCRtpCodecParameters("video/rtx", 90000, payloadType=98, parameters={"apt": 97})
        other = RTCRtpCodecParameters("video/AV1", 90000, payloadType=45)
        transceiver: Any = Transceiver()
        transceiver._codecs = [vp8, vp8_rtx, other, H264, RTX]
        assert aiortc_internals.prefer_codec(transceiver, lambda codec: {"H264": 0, "VP8": 1}.get(codec.name)) == "H264"
        assert transceiver._codecs == [H264, RTX, vp8, vp8_rtx]
        assert aiortc_internals.prefer_codec(transceiver, lambda codec: None) is None


async def linked(kind: Any) -> tuple[Any, Any]:
    """Two ends that begin to connect over loopback; the second one answered."""
    ends = first, second = kind(RTCConfiguration([])), kind(RTCConfiguration([]))
    first.addTransceiver("audio", "sendrecv")
    first.addTransceiver("video", "recvonly")
    first.createDataChannel("control")
    for end, other in (ends, ends[::-1]):
        description = await (end.createAnswer() if end is second else end.createOffer())
        aiortc_internals.gather_on(end, ["127.0.0.1"], UdpPorts())
        await end.setLocalDescription(description)
        described = RTCSessionDescription(end.localDescription.sdp, end.localDescription.type)
        await other.setRemoteDescription(described)
    return ends


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("kind", [aiortc_internals.Connection, media.Connection], ids=["server's", "client's"])
class TestClose:
    @pytest.mark.parametrize("closing", [0, 1], ids=["who offered", "who answered"])
    @pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 10, 20, 40])
    async def test_soon(self, turns: int, closing: int, kind: Any) -> None:
        """Closed so many turns of the event loop after the answer, neither end leaves a task, a socket or an error."""
        ends = await linked(kind)
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(ends[closing].close(), 5)
        await asyncio.wait_for(ends[1 - closing].close(), 5)
        assert {end.connectionState for end in ends} == {"closed"}

    @pytest.mark.parametrize("closing", [0, 1], ids=["who offered", "who answered"])
    @pytest.mark.parametrize("datagram", [1, 2, 3, 4, 5])
    async def test_at_a_datagram(self, datagram: int, closing: int, kind: Any) -> None:
        """Closed as one of the handshake's datagrams is being taken, whichever it is, an end leaves nothing behind."""
        ends = await linked(kind)
        (ice,) = ends[closing]._RTCPeerConnection__iceTransports
        receive, taken, closed = ice._recv, 0, asyncio.Event()

        async def close() -> None:
            await ends[closing].close()
            closed.set()

        async def take() -> bytes:
            nonlocal taken
            data = await receive()
            taken += 1
            if taken == datagram:
                tasks.append(asyncio.create_task(close()))
                await asyncio.sleep(0)  # it has begun when the datagram goes on its way
            return data

        tasks: list[asyncio.Task] = []
        ice._recv = take
        await asyncio.wait_for(closed.wait(), 10)
        await asyncio.wait_for(ends[1 - closing].close(), 5)
        assert {end.connectionState for end in ends} == {"closed"}


class TestPorts:
    def test_range_is_taken_in_turn(self) -> None:
        """Each session begins at the next port of the range and may try all of them."""
        ports = UdpPorts((50_000, 50_002))
        assert ports.candidates() == [50_000, 50_001, 50_002]
        assert ports.candidates() == [50_001, 50_002, 50_000]
        assert UdpPorts().candidates() == [0]

    def test_local_addresses(self) -> None:
        """A server for loopback offers 127.0.0.1 first; one for others does not offer it."""
        assert aiortc_internals.local_addresses(True)[0] == "127.0.0.1"
        assert "127.0.0.1" not in aiortc_internals.local_addresses(False)
        families = [":" in address for address in aiortc_internals.local_addresses(True)]
        assert families == sorted(families)
