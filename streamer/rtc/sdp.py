"""SDP as text: validates offers, rejects and rewrites sections, parses trickled candidates. Pure."""

import enum
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from aiortc import RTCIceCandidate
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.sdp import (
    H264Profile,
    MediaDescription,
    SessionDescription,
    candidate_from_sdp,
    parse_h264_profile_level_id,
)

from streamer.base.errors import RequestError

MAX_SDP_BYTES = 64 * 1024


PACKET_MS = 10
"""Audio packet duration requested from a peer."""


class Role(enum.Enum):
    """The role of a peer in a session."""

    CONVERSATION = "conversation"
    """Sends its voice, receives video and audio."""
    SOURCE = "source"
    """Sends its voice only (WHIP)."""
    VIEWER = "viewer"
    """Receives video, audio or both (WHEP)."""


@dataclass(frozen=True)
class Offer:
    """An offer validated for a role, as returned by `parse_offer`."""

    text: str
    role: Role
    description: SessionDescription


def parse_offer(text: str, role: Role = Role.CONVERSATION) -> Offer:
    """Parses and validates an offer. Raises `RequestError` (400, 422) with the reason."""
    if not text.lstrip().startswith("v=0"):
        raise RequestError(400, "malformed_sdp", "the body is not an SDP offer: it does not start with v=0")
    try:
        offer = SessionDescription.parse(text)
    except Exception as error:  # aiortc's parser raises arbitrary exceptions
        raise RequestError(
            400, "malformed_sdp", f"the SDP offer could not be parsed: {str(error) or type(error).__name__}"
        ) from None
    taken = [media for media, out in zip(offer.media, rejected_sections(text), strict=True) if not out]
    kinds = [media.kind for media in taken]
    for kind in kinds:
        if kind not in ("audio", "video", "application"):
            raise RequestError(
                422, "unsupported_media", f"media section of kind {kind!r}: supported are audio, video, application"
            )
    for kind, most in (("audio", 1), ("video", 1), ("application", 1)):
        if kinds.count(kind) > most:
            raise RequestError(
                422, "unsupported_media", f"{kinds.count(kind)} {kind} sections: at most {most} is supported"
            )
    audio, video = (next((m for m in taken if m.kind == kind), None) for kind in ("audio", "video"))
    if role is Role.VIEWER:
        _check_receives(audio, video)
    elif audio is None or audio.direction not in ("sendrecv", "sendonly"):
        raise RequestError(
            422,
            "no_audio",
            "the offer sends no audio: it needs one audio section, sendrecv or sendonly"
            + _switched_off(offer, "audio", audio),
        )
    if audio is not None and not any(c.mimeType.lower() == "audio/opus" for c in audio.rtp.codecs):
        offered = ", ".join(c.mimeType for c in audio.rtp.codecs) or "none"
        raise RequestError(422, "unsupported_codec", f"audio codecs offered: {offered}; Opus is required")
    if role is Role.CONVERSATION and (video is None or video.direction not in ("sendrecv", "recvonly")):
        raise RequestError(
            422,
            "no_video",
            "the offer receives no video: it needs one video section, recvonly or sendrecv"
            + _switched_off(offer, "video", video),
        )
    if role is not Role.SOURCE and video is not None and not any(map(is_video_taken, video.rtp.codecs)):
        offered = ", ".join(dict.fromkeys(_named(codec) for codec in video.rtp.codecs if codec.name != "rtx")) or "none"
        raise RequestError(422, "unsupported_codec", f"video codecs offered: {offered}; required is {VIDEO_NEEDED}")
    names = [media.rtp.muxId for media in taken]
    if len(set(names)) < len(names):
        raise RequestError(400, "malformed_sdp", f"media sections share a name (a=mid): {', '.join(names)[:80]}")
    for group in offer.group:
        if group.semantic == "BUNDLE" and not set(map(str, group.items)) <= {m.rtp.muxId for m in offer.media}:
            raise RequestError(
                400, "malformed_sdp", f"a=group:BUNDLE {' '.join(map(str, group.items))[:60]}: an a=mid is missing"
            )
    for media in taken:
        if media.ice is None or not media.ice.usernameFragment or not media.ice.password:
            raise RequestError(400, "malformed_sdp", "a media section has no ICE credentials (a=ice-ufrag, a=ice-pwd)")
        if media.dtls is None or not media.dtls.fingerprints:
            raise RequestError(400, "malformed_sdp", "a media section has no DTLS fingerprint (a=fingerprint)")
        for candidate in media.ice_candidates:
            _check_port(candidate, "malformed_sdp")
    return Offer(text, role, offer)


def rejected_sections(text: str) -> list[bool]:
    """Whether each media section of an offer is disabled by port 0 (RFC 3264 section 6).

    Port 0 with `a=bundle-only` only means that another section has the transport (RFC 8843).
    """
    sections: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("m="):
            sections.append([])
        if sections:
            sections[-1].append(line.rstrip())
    return [
        re.match(r"m=\S+ 0+[ /]", section[0]) is not None and "a=bundle-only" not in section for section in sections
    ]


def _switched_off(offer: SessionDescription, kind: str, section: MediaDescription | None) -> str:
    """Addition to an error about a missing section: there is one, but its port is 0."""
    there = section is None and any(media.kind == kind for media in offer.media)
    return f"; its {kind} section is disabled by port 0" if there else ""


_PROFILES = (H264Profile.PROFILE_BASELINE, H264Profile.PROFILE_CONSTRAINED_BASELINE)
"""H.264 profiles that the server sends: the offered profile must be the same (RFC 6184 section 8.2.2)."""

VIDEO_NEEDED = "VP8, or H264 with packetization-mode=1 and profile-level-id 42e0.. or 4200.. (baseline)"


def is_video_taken(codec: RTCRtpCodecParameters) -> bool:
    """Whether the server can send this offered codec."""
    if codec.mimeType.lower() == "video/vp8":
        return True
    return (
        codec.mimeType.lower() == "video/h264"
        and str(codec.parameters.get("packetization-mode", "0")) == "1"
        and _h264_profile(codec) in _PROFILES
    )


def _h264_profile(codec: RTCRtpCodecParameters) -> H264Profile | None:
    try:
        return parse_h264_profile_level_id(str(codec.parameters.get("profile-level-id", "42e01f")))[0]
    except ValueError:
        return None


def _named(codec: RTCRtpCodecParameters) -> str:
    """A codec's name, for H.264 with the parameters that decide compatibility."""
    if codec.mimeType.lower() != "video/h264":
        return codec.name
    profile = _h264_profile(codec)
    called = f" ({profile.name.removeprefix('PROFILE_').replace('_', ' ').lower()})" if profile is not None else ""
    level = str(codec.parameters.get("profile-level-id", "42e01f"))[:12]
    mode = str(codec.parameters.get("packetization-mode", "0"))[:3]
    return f"H264 profile-level-id={level}{called} packetization-mode={mode}"


def _check_port(candidate: RTCIceCandidate, reason: str) -> None:
    """Sending to an invalid port closes the socket permanently."""
    if not 0 <= candidate.port <= 65535:
        raise RequestError(400, reason, f"an ICE candidate's port is {str(candidate.port)[:20]}: must be 0 to 65535")


def _reachable(candidate: str) -> bool:
    """Whether a candidate has an IP address, not a name: resolving a name may take seconds."""
    try:
        ipaddress.ip_address(candidate.split()[4])
    except (ValueError, IndexError):
        return False
    return True


def _check_receives(*sections: MediaDescription | None) -> None:
    given = [media for media in sections if media is not None]
    if not given:
        raise RequestError(
            422, "no_media", "the offer has neither audio nor video: a viewer needs at least one of them"
        )
    for media in given:
        if media.direction not in ("sendrecv", "recvonly"):
            raise RequestError(
                422,
                "wrong_direction",
                f"the offer's {media.kind} section is {media.direction}: a viewer only receives, recvonly or sendrecv",
            )


def without_unreachable_candidates(text: str) -> str:
    """Removes candidates with a host name (mDNS) and the end-of-candidates lines from an offer.

    The peer's own connectivity checks reach our candidates, so nothing need wait for a name that multicast DNS may
    never resolve. The session's time-out covers a connection that takes too long.
    """
    lines = text.splitlines()
    keep = [
        line
        for line in lines
        if not line.startswith(("a=candidate:", "a=end-of-candidates"))
        or (line.startswith("a=candidate:") and _reachable(line))
    ]
    return "\r\n".join(keep) + "\r\n"


def _parts(sdp: str) -> list[str]:
    """Splits SDP into the session part and the media sections."""
    return re.split(r"^(?=m=)", sdp, flags=re.MULTILINE)


def _bundle(items: list[str]) -> str:
    return f"a=group:BUNDLE {' '.join(items)}\r\n"


_BUNDLE = re.compile(r"^a=group:BUNDLE(.*)\r?\n", re.MULTILINE)


def without_sections(sdp: str, offer: SessionDescription, out: Sequence[bool]) -> str:
    """Removes the media sections marked in `out` from an offer."""
    head, *sections = _parts(sdp)
    gone = [media.rtp.muxId for media, is_out in zip(offer.media, out, strict=True) if is_out]
    head = _BUNDLE.sub(lambda found: _bundle([mid for mid in found[1].split() if mid not in gone]), head)
    return "".join([head, *(section for section, is_out in zip(sections, out, strict=True) if not is_out)])


def with_refused_sections(answer: str, offered: str, offer: SessionDescription, out: Sequence[bool]) -> str:
    """Inserts rejected sections for those marked in `out`, which the answered offer lacked.

    A bundled section is inactive and repeats the shared transport, because clients read that from the first section,
    whichever it is. An unbundled section, or one disabled in the offer, has port 0 (RFC 3264 section 6).
    """
    head, *sections = _parts(answer)
    transport = "".join(
        re.findall(
            r"^a=(?:ice-ufrag|ice-pwd|fingerprint|setup|candidate|end-of-candidates|rtcp-mux).*\r\n",
            sections[0],
            re.MULTILINE,
        )
    )
    bundled = {str(mid) for group in offer.group if group.semantic == "BUNDLE" for mid in group.items}
    answered: list[str] = []
    together: list[str] = []
    rejected = rejected_sections(offered)
    for section, media, is_out, is_rejected in zip(_parts(offered)[1:], offer.media, out, rejected, strict=True):
        mid = media.rtp.muxId
        shares = mid in bundled and not is_rejected
        together += [mid] * shares
        if not is_out:
            answered.append(sections.pop(0))
            continue
        profile, formats = media.profile, " ".join(map(str, media.fmt))
        lines = [f"m={media.kind} {9 if shares else 0} {profile} {formats}", "c=IN IP4 0.0.0.0", "a=inactive"]
        lines += [f"a=mid:{mid}"] if mid else []
        lines += re.findall(r"^a=rtpmap:[^\r\n]*", section, re.MULTILINE)
        answered.append("".join(f"{line}\r\n" for line in lines) + (transport if shares else ""))
    if bundled:
        head = _BUNDLE.sub(lambda _: _bundle(together), head)
    return "".join([head, *answered])


def ask_short_packets(sdp: str) -> str:
    """Requests 10 ms Opus packets instead of 20 ms (RFC 7587 section 7), so that audio leaves half a packet earlier."""
    return re.sub(r"(a=rtpmap:\d+ opus/48000/2\r\n)", rf"\1a=ptime:{PACKET_MS}\r\na=maxptime:60\r\n", sdp, count=1)


def advertise(sdp: str, public_ip: str) -> str:
    """Replaces each of our addresses with `public_ip`; ports must be mapped one to one."""
    seen = set()
    lines = []
    for line in sdp.splitlines():
        if line.startswith("c=IN "):
            line = f"c=IN IP{6 if ':' in public_ip else 4} {public_ip}"
        match = re.match(r"(a=candidate:\S+ \d+ \S+ \d+ )(\S+)( \d+ .*)", line)
        if match:
            line = match[1] + public_ip + match[3]
            port = match[3].split()[0]
            if port in seen:
                continue
            seen.add(port)
        lines.append(line)
    return "\r\n".join(lines) + "\r\n"


def parse_fragment(text: str, ufrag: str) -> list[tuple[str, str]]:
    """Candidates of a trickle-ICE fragment (RFC 8840 section 9) as (mid, candidate) pairs, without host names (mDNS).

    Raises `RequestError`: 400 for a malformed fragment, 422 for other credentials (an unsupported ICE restart).
    """
    mid = ""
    candidates = []
    fragment_ufrag = None
    for line in text.splitlines():
        if line.startswith("a=ice-ufrag:"):
            fragment_ufrag = line.partition(":")[2].strip()
        elif line.startswith("a=mid:"):
            mid = line.partition(":")[2].strip()
        elif line.startswith("a=candidate:"):
            value = line.partition(":")[2].strip()
            try:
                candidate = candidate_from_sdp(value)
            except Exception:
                raise RequestError(400, "bad_fragment", f"not an ICE candidate: {value[:80]!r}") from None
            _check_port(candidate, "bad_fragment")
            if _reachable(value):
                candidates.append((mid, value))
        elif line and not re.match(r"[a-z]=", line):
            raise RequestError(400, "bad_fragment", f"not an SDP line: {line[:80]!r}")
    if fragment_ufrag is None:
        raise RequestError(400, "bad_fragment", "the fragment has no a=ice-ufrag line")
    if fragment_ufrag != ufrag:
        raise RequestError(
            422, "ice_restart", "the fragment's ICE credentials differ from the offer's: ICE restarts are not supported"
        )
    return candidates
