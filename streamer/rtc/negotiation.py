"""Turns SDP offers into peers, following WHIP (RFC 9725). Every rejection has a status and a reason."""

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from aiortc import RTCConfiguration, RTCSessionDescription
from aiortc.exceptions import OperationError
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from aiortc.sdp import candidate_from_sdp

from streamer.base.errors import RequestError
from streamer.rtc import aiortc_internals
from streamer.rtc.aiortc_internals import PushSender, UdpPorts
from streamer.rtc.sdp import (
    PACKET_MS,
    VIDEO_NEEDED,
    Offer,
    Role,
    advertise,
    ask_short_packets,
    is_video_taken,
    parse_fragment,
    rejected_sections,
    with_refused_sections,
    without_sections,
    without_unreachable_candidates,
)

_ANSWERED = {  # audio and video directions in the answer; None: video is rejected
    Role.CONVERSATION: ("sendrecv", "sendonly"),
    Role.SOURCE: ("recvonly", None),
    Role.VIEWER: ("sendonly", "sendonly"),
}


@dataclass
class Peer:
    """A WebRTC connection and the handles that a session needs."""

    role: Role
    connection: aiortc_internals.Connection
    audio: PushSender | None
    """None if the peer receives no audio."""
    video: PushSender | None
    codec: str | None
    """"H264" or "VP8"; None if the peer receives no video."""
    answer: str
    etag: str
    ufrag: str
    """The remote ICE user name fragment, which every trickled fragment must contain."""


def _rank_video(codec: RTCRtpCodecParameters) -> int | None:
    """H.264 Baseline in packetization mode 1 first (x264 is the fastest encoder available), then VP8."""
    return (0 if codec.name == "H264" else 1) if is_video_taken(codec) else None


def _transceiver(connection: aiortc_internals.Connection, kind: str) -> RTCRtpTransceiver | None:
    return next((t for t in connection.getTransceivers() if t.kind == kind), None)


async def accept(
    offer: Offer,
    *,
    on_audio: Callable[[int, int, bytes, float], None] = lambda *packet: None,
    on_keyframe: Callable[[], None] = lambda: None,
    on_bitrate: Callable[[int], None] = lambda bitrate: None,
    on_loss: Callable[[float], None] = lambda share: None,
    addresses: list[str],
    ports: UdpPorts,
    public_ip: str | None = None,
) -> Peer:
    """Answers a checked offer. The connection is established in the background once this returns.

    `on_audio(sequence, rtp_timestamp, payload, arrival)` receives the audio packets that the peer sends; the other
    three callbacks receive its video feedback. The answer rejects a source's video, whatever its codec. Raises
    `RequestError`, after closing everything that was opened.
    """
    role, description = offer.role, offer.description
    sound, picture = _ANSWERED[role]
    connection = aiortc_internals.Connection(
        RTCConfiguration(iceServers=[])
    )  # the default would use a public STUN server
    try:
        offered = without_unreachable_candidates(offer.text)
        # Sections with port 0, and video that is rejected: aiortc supports neither.
        out = [
            rejected or (picture is None and media.kind == "video")
            for rejected, media in zip(rejected_sections(offer.text), description.media, strict=True)
        ]
        taken = [media for media, is_out in zip(description.media, out, strict=True) if not is_out]
        wanted = without_sections(offered, description, out)
        try:
            await connection.setRemoteDescription(RTCSessionDescription(sdp=wanted, type="offer"))
        except OperationError:
            raise RequestError(
                422, "unsupported_codec", f"no codec in common: audio needs Opus, video {VIDEO_NEEDED}"
            ) from None
        except Exception as error:
            raise RequestError(
                400, "malformed_sdp", f"the offer was not accepted: {error or type(error).__name__}"
            ) from None

        stream_id = secrets.token_hex(8)  # one msid: receivers keep audio and video in step
        audio, video = _transceiver(connection, "audio"), _transceiver(connection, "video")
        audio_sender = video_sender = codec = None
        if audio is not None:
            if aiortc_internals.prefer_codec(audio, lambda c: 0 if c.name == "opus" else None) is None:
                raise RequestError(422, "unsupported_codec", "no audio codec in common: Opus is required")
            if "send" in sound:
                audio_sender = aiortc_internals.replace_sender(audio, stream_id)
            if role is not Role.VIEWER:
                aiortc_internals.tap_audio(audio, on_audio)
                aiortc_internals.accept_fec(audio, PACKET_MS)
            audio.direction = sound
        if video is not None:
            assert picture is not None
            codec = aiortc_internals.prefer_codec(video, _rank_video)
            if codec is None:
                raise RequestError(422, "unsupported_codec", f"no video codec in common: required is {VIDEO_NEEDED}")
            video_sender = aiortc_internals.replace_sender(video, stream_id, on_keyframe, on_bitrate, on_loss)
            video.direction = picture
            aiortc_internals.offer_playout_delay(
                video, next(media for media in taken if media.kind == "video").rtp.headerExtensions
            )
        if role is not Role.CONVERSATION:  # third-party clients
            aiortc_internals.be_dtls_server(connection)
        aiortc_internals.gather_on(connection, addresses, ports)
        try:
            await connection.setLocalDescription(await connection.createAnswer())
        except OSError as error:
            raise RequestError(503, "no_udp_port", f"no UDP port is free for media: {error}", retry_after=5) from None
        except Exception as error:  # contradictory sections are only detected here
            raise RequestError(
                400, "malformed_sdp", f"the offer could not be answered: {error or type(error).__name__}"
            ) from None
        answer = connection.localDescription.sdp
        if role is not Role.VIEWER:
            answer = ask_short_packets(answer)
        if any(out):
            answer = with_refused_sections(answer, offered, description, out)
        if public_ip is not None:
            answer = advertise(answer, public_ip)
        ice = taken[0].ice
        assert ice is not None and ice.usernameFragment is not None  # checked by parse_offer
        etag = f'"{secrets.token_hex(8)}"'
        return Peer(role, connection, audio_sender, video_sender, codec, answer, etag, ice.usernameFragment)
    except BaseException:
        with contextlib.suppress(Exception):  # closing a half-open connection may fail; keep the original error
            await connection.close()
        raise


async def trickle(peer: Peer, text: str) -> int:
    """Adds a fragment's candidates to a peer. Returns their number. Raises `RequestError`."""
    candidates = parse_fragment(text, peer.ufrag)
    known = [transceiver.mid for transceiver in peer.connection.getTransceivers()]
    for mid, value in candidates:
        candidate = candidate_from_sdp(value)
        candidate.sdpMid = mid if mid in known else known[0]  # a rejected section shares the transport of the first
        try:
            await peer.connection.addIceCandidate(candidate)
        except ValueError as error:
            raise RequestError(400, "bad_fragment", str(error)) from None
    return len(candidates)
