"""Extensions of aiortc: the only module that touches its internals (pinned to 1.16).

- Audio packets bypass aiortc's jitter buffer, whose delay only ever grows.
- Packets are *pushed* to senders when ready, instead of being pulled from a track on a timer.
- Sender reports pair RTP timestamps with the time of *capture*, so that encoding does not skew lip sync.
- Video carries the `playout-delay` extension at 0/0, without which Chromium holds frames back for lip sync.
- Retransmission reaches back further than 128 packets; a picture's packets are paced instead of sent in one burst.
- A connection can be closed at any time while connecting, and leaves no task behind.
"""

import asyncio
from collections.abc import Callable

from aioice import ice as aioice_ice
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender
from aiortc import clock as aiortc_clock
from aiortc import rtp as aiortc_rtp
from aiortc.codecs import get_encoder, is_rtx
from aiortc.codecs.base import Encoder
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpParameters,
    RTCRtpSendParameters,
)
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from aiortc.utils import random16, random32, uint16_add

from streamer.base import clock

PLAYOUT_DELAY_URI = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"

_HISTORY = 1024  # packets kept for retransmission: 5 s at 256², over 1 s of the largest pictures
_BURST = 12  # packets sent back to back before pacing sets in
_PACE = 0.001  # seconds between further packets; 20 ms at most in all
_LONGEST_PACING = 0.020


class Connection(RTCPeerConnection):
    """A peer connection whose `close` first cancels a pending connect.

    aiortc lets both run concurrently: a handshake that completes after `close` starts senders and receivers that are
    never stopped, and their use of the closed transport raises in a task that is never awaited.
    """

    def __init__(self, configuration: RTCConfiguration) -> None:
        super().__init__(configuration)
        self._connecting: set[asyncio.Task] = set()
        self._ends = False

    async def _RTCPeerConnection__connect(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # aiortc runs each call in a task
        if self._ends:
            return
        self._connecting.add(task)
        try:
            await super()._RTCPeerConnection__connect()  # type: ignore[misc]
        finally:
            self._connecting.discard(task)

    async def close(self) -> None:
        self._ends = True
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await super().close()


class _PlayoutDelayMap(aiortc_rtp.HeaderExtensionsMap):
    """Adds `playout-delay` (min 0, max 0: show frames at once) to every packet once negotiated."""

    def __init__(self) -> None:
        super().__init__()
        self._id: int | None = None

    def configure(self, parameters: RTCRtpParameters) -> None:
        super().configure(parameters)
        for extension in parameters.headerExtensions:
            if extension.uri == PLAYOUT_DELAY_URI:
                self._id = extension.id

    def set(self, values: aiortc_rtp.HeaderExtensions) -> tuple[int, bytes]:
        profile, packed = super().set(values)
        if self._id is None:
            return profile, packed
        extensions = aiortc_rtp.unpack_header_extensions(profile, packed) if packed else []
        return aiortc_rtp.pack_header_extensions([*extensions, (self._id, b"\x00\x00\x00")])


class _SilentTrack(MediaStreamTrack):
    """Gives a sender its kind and id; never pulled from."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__()

    async def recv(self):  # type: ignore[no-untyped-def]
        raise AssertionError("a pushed sender does not pull")


class _BitrateRelay:
    """Replaces aiortc's encoder, which receives the bandwidth estimate (REMB)."""

    def __init__(self, on_bitrate: Callable[[int], None]) -> None:
        self._on_bitrate = on_bitrate

    @property
    def target_bitrate(self) -> int:
        return 0

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self._on_bitrate(bitrate)


class PushSender(RTCRtpSender):
    """An RTP sender fed by `push`. `timestamp_offset` is the RTP timestamp of pts 0."""

    def __init__(
        self,
        kind: str,
        transport,  # noqa: ANN001  aiortc's DTLS transport
        on_keyframe: Callable[[], None] = lambda: None,
        on_bitrate: Callable[[int], None] = lambda bitrate: None,
        on_loss: Callable[[float], None] = lambda share: None,
    ) -> None:
        super().__init__(_SilentTrack(kind), transport)
        self.timestamp_offset = random32()
        self.packets_sent = 0
        self.bytes_sent = 0
        self.retransmitted = 0
        self._on_keyframe = on_keyframe
        self._on_loss = on_loss
        self._codec: RTCRtpCodecParameters | None = None
        self._payload_type = 0
        self._packetizer: Encoder | None = None
        self._parameters_mid = ""
        self._sequence = random16() % 32768  # the lower half: SRTP's roll-over counter starts unambiguous (RFC 3711)
        self._rtx_payload_type: int | None = None
        self._rtx_sequence = random16() % 32768
        self._sent: dict[int, aiortc_rtp.RtpPacket] = {}
        self._extensions = _PlayoutDelayMap()
        self._sending = asyncio.Lock()
        self._RTCRtpSender__rtp_header_extensions_map = self._extensions
        self._RTCRtpSender__encoder = _BitrateRelay(on_bitrate)

    @property
    def ready(self) -> bool:
        """Whether the connection is up and a codec is negotiated."""
        return self._codec is not None

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        self._parameters_mid = parameters.muxId
        first = parameters.codecs[0]
        self._rtx_payload_type = next(
            (c.payloadType for c in parameters.codecs if is_rtx(c) and c.parameters["apt"] == first.payloadType), None
        )
        await super().send(parameters)

    async def _run_rtp(self, codec: RTCRtpCodecParameters) -> None:
        self._RTCRtpSender__rtp_started.set()
        if self.kind == "video":
            self._packetizer = get_encoder(codec)
        self._codec = codec
        self._payload_type = codec.payloadType or 0
        try:
            await asyncio.Event().wait()  # until stop() cancels: packets are pushed
        except asyncio.CancelledError:
            pass
        self._codec = None
        self.track.stop()
        self._RTCRtpSender__rtp_exited.set()

    async def push(self, data, timestamp: int, captured: float) -> bool:  # noqa: ANN001
        """Sends an encoded frame: an av.Packet of video, or the bytes of one Opus packet.

        `timestamp`: codec RTP clock, from pts 0. `captured`: its capture time (s, monotonic). Returns False if the
        connection is not up.
        """
        if self._codec is None:
            return False
        if isinstance(data, bytes):
            payloads = [data]
        else:
            assert self._packetizer is not None
            payloads = self._packetizer.pack(data)[0]
        rtp_timestamp = (self.timestamp_offset + timestamp) & 0xFFFFFFFF
        pause = min(_PACE, _LONGEST_PACING / max(1, len(payloads) - _BURST))
        async with self._sending:
            for i, payload in enumerate(payloads):
                if i >= _BURST:
                    await asyncio.sleep(pause)
                if self._codec is None:
                    return False
                packet = aiortc_rtp.RtpPacket(
                    payload_type=self._payload_type,
                    sequence_number=self._sequence,
                    timestamp=rtp_timestamp,
                    marker=int(i == len(payloads) - 1) if self.kind == "video" else 0,
                )
                self._sequence = uint16_add(self._sequence, 1)
                packet.ssrc = self._ssrc
                packet.payload = payload
                packet.extensions.mid = self._parameters_mid
                packet.extensions.abs_send_time = (aiortc_clock.current_ntp_time() >> 14) & 0x00FFFFFF
                self._sent[packet.sequence_number % _HISTORY] = packet
                try:
                    await self.transport._send_rtp(packet.serialize(self._extensions))
                except ConnectionError:
                    return False
                self.packets_sent += 1
                self.bytes_sent += len(payload)
            self._RTCRtpSender__ntp_timestamp = clock.to_ntp(captured)
            self._RTCRtpSender__rtp_timestamp = rtp_timestamp
            self._RTCRtpSender__packet_count = self.packets_sent
            self._RTCRtpSender__octet_count = self.bytes_sent
        return True

    def _send_keyframe(self) -> None:
        self._on_keyframe()

    async def _handle_rtcp_packet(self, packet: aiortc_rtp.AnyRtcpPacket) -> None:
        await super()._handle_rtcp_packet(packet)
        if isinstance(packet, aiortc_rtp.RtcpRrPacket | aiortc_rtp.RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == self._ssrc:
                    self._on_loss(report.fraction_lost / 256)

    async def _retransmit(self, sequence_number: int) -> None:
        packet = self._sent.get(sequence_number % _HISTORY)
        if packet is None or packet.sequence_number != sequence_number:
            return
        if self._rtx_payload_type is not None:
            packet = aiortc_rtp.wrap_rtx(
                packet,
                payload_type=self._rtx_payload_type,
                sequence_number=self._rtx_sequence,
                ssrc=self._rtx_ssrc,
            )
            self._rtx_sequence = uint16_add(self._rtx_sequence, 1)
        self.retransmitted += 1
        await self.transport._send_rtp(packet.serialize(self._extensions))


class _Tap:
    """Replaces aiortc's audio jitter buffer: forwards packets and never returns a frame to decode."""

    def __init__(self, on_packet: Callable[[int, int, bytes, float], None]) -> None:
        self._on_packet = on_packet

    def add(self, packet: aiortc_rtp.RtpPacket) -> tuple[bool, None]:
        if packet.payload:
            self._on_packet(packet.sequence_number, packet.timestamp, packet.payload, clock.now())
        return False, None


def tap_audio(transceiver: RTCRtpTransceiver, on_packet: Callable[[int, int, bytes, float], None]) -> None:
    """Routes every audio packet to `on_packet(sequence, rtp_timestamp, payload, arrival)` on arrival."""
    transceiver.receiver._RTCRtpReceiver__jitter_buffer = _Tap(on_packet)


def replace_sender(
    transceiver: RTCRtpTransceiver,
    stream_id: str,
    on_keyframe: Callable[[], None] = lambda: None,
    on_bitrate: Callable[[int], None] = lambda bitrate: None,
    on_loss: Callable[[float], None] = lambda share: None,
) -> PushSender:
    """Gives a transceiver a `PushSender`, before the answer is created. `stream_id`: first half of the msid."""
    sender = PushSender(transceiver.kind, transceiver.receiver.transport, on_keyframe, on_bitrate, on_loss)
    sender._stream_id = stream_id
    transceiver.receiver._set_rtcp_ssrc(sender._ssrc)
    transceiver._RTCRtpTransceiver__sender = sender
    return sender


def offer_playout_delay(transceiver: RTCRtpTransceiver, offered: list[RTCRtpHeaderExtensionParameters]) -> bool:
    """Accepts the `playout-delay` extension if offered. Returns whether it was."""
    for extension in offered:
        if extension.uri == PLAYOUT_DELAY_URI:
            transceiver._headerExtensions.append(extension)
            return True
    return False


def be_dtls_server(connection: RTCPeerConnection) -> None:
    """Takes the passive DTLS role, if the offer leaves the choice to us.

    As a DTLS client aiortc does not accept RSA certificates, which GStreamer uses; as a server it does.
    """
    for transport in connection._RTCPeerConnection__dtlsTransports:
        if transport._role == "auto":
            transport._set_role("server")


def prefer_codec(transceiver: RTCRtpTransceiver, keep: Callable[[RTCRtpCodecParameters], int | None]) -> str | None:
    """Orders the agreed codecs by `keep`'s rank (None: reject), each followed by its retransmission format.

    Returns the first codec's name, or None if all are rejected.
    """
    codecs = transceiver._codecs
    main = [(rank, i, c) for i, c in enumerate(codecs) if not is_rtx(c) and (rank := keep(c)) is not None]
    ordered = []
    for _, _, codec in sorted(main, key=lambda entry: entry[:2]):
        ordered.append(codec)
        ordered += [c for c in codecs if is_rtx(c) and c.parameters.get("apt") == codec.payloadType]
    transceiver._codecs = ordered
    return ordered[0].name if ordered else None


def accept_fec(transceiver: RTCRtpTransceiver, packet_ms: int) -> None:
    """Requests Opus forward error correction and short packets in the answer (RFC 7587).

    Without `useinbandfec=1` browsers send no FEC, and lost audio can only be extrapolated.
    """
    for codec in transceiver._codecs:
        if codec.name == "opus":
            codec.parameters = {"minptime": packet_ms, "useinbandfec": 1}


def packets_received(connection: RTCPeerConnection) -> int:
    """Number of datagrams received from the peer, RTCP included: a sign of life."""
    transports = {t.receiver.transport for t in connection.getTransceivers()}
    return sum(getattr(transport, "_RTCDtlsTransport__rx_packets", 0) for transport in transports)


class UdpPorts:
    """UDP ports for media sockets: a range used round-robin, or (None) chosen by the operating system."""

    def __init__(self, ports: tuple[int, int] | None = None) -> None:
        self._range = range(ports[0], ports[1] + 1) if ports else None
        self._next = 0

    def candidates(self) -> list[int]:
        """Ports to try, in order."""
        if self._range is None:
            return [0]
        start, self._next = self._next, (self._next + 1) % len(self._range)
        return [self._range[(start + i) % len(self._range)] for i in range(len(self._range))]


def local_addresses(loopback: bool) -> list[str]:
    """This host's addresses for media, IPv4 first; with 127.0.0.1 if `loopback`."""
    addresses = aioice_ice.get_host_addresses(use_ipv4=True, use_ipv6=True)
    return (["127.0.0.1"] if loopback else []) + sorted(addresses, key=lambda a: ":" in a)


def gather_on(connection: RTCPeerConnection, addresses: list[str], ports: UdpPorts) -> None:
    """Makes ICE bind host candidates on `addresses` and `ports`, because aioice's own choice excludes loopback.

    `setLocalDescription` then raises OSError if no port of the range is free.
    """

    def gather_for(ice: aioice_ice.Connection) -> None:
        async def get_component_candidates(component: int, **_: object) -> list[Candidate]:
            loop = asyncio.get_running_loop()
            candidates: list[Candidate] = []
            for address in addresses:
                for port in ports.candidates():
                    try:
                        transport, protocol = await loop.create_datagram_endpoint(
                            lambda: aioice_ice.StunProtocol(ice), local_addr=(address, port)
                        )
                    except OSError:
                        continue
                    break
                else:
                    continue
                host, bound = transport.get_extra_info("sockname")[:2]
                protocol.local_candidate = Candidate(
                    foundation=candidate_foundation("host", "udp", host),
                    component=component,
                    transport="udp",
                    priority=candidate_priority(component, "host", 65535 - len(candidates)),
                    host=host,
                    port=bound,
                    type="host",
                )
                ice._protocols.append(protocol)
                candidates.append(protocol.local_candidate)
            if not candidates:
                raise OSError(f"no UDP port could be bound on any of {', '.join(addresses)}")
            return candidates

        ice.get_component_candidates = get_component_candidates  # type: ignore[assignment]

    for ice_transport in connection._RTCPeerConnection__iceTransports:
        gather_for(ice_transport._connection)
