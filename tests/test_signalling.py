"""Offers, answers and trickled candidates, without a server: what is refused, and what an answer promises."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from peers import bare_peer, offer_of

from streamer.base.errors import RequestError
from streamer.rtc import aiortc_internals, negotiation
from streamer.rtc.negotiation import parse_fragment
from streamer.rtc.sdp import Role, parse_offer

PLAYOUT_DELAY = "a=extmap:9 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"


@pytest.fixture
async def offer() -> AsyncIterator[str]:
    peer = bare_peer()
    try:
        yield await offer_of(peer)
    finally:
        await peer.close()


async def accepted(offer: str, role: Role = Role.CONVERSATION, **options: Any) -> negotiation.Peer:
    """The answered peer; close its connection."""
    handlers = {name: lambda *_: None for name in ("on_audio", "on_keyframe", "on_bitrate", "on_loss")}
    given = {"addresses": ["127.0.0.1"], "ports": aiortc_internals.UdpPorts(), **handlers, **options}
    return await negotiation.accept(parse_offer(offer, role), **given)


def sections(sdp: str) -> dict[str, str]:
    """The session part as "", and each media section by its kind."""
    head, *media = re.split(r"^m=", sdp, flags=re.MULTILINE)
    return {"": head, **{part.split()[0]: part for part in media}}


def without(sdp: str, kind: str) -> str:
    return "m=".join(
        p for i, p in enumerate(re.split(r"^m=", sdp, flags=re.MULTILINE)) if not i or p.split()[0] != kind
    )


def add_to(sdp: str, kind: str, line: str) -> str:
    parts = re.split(r"^m=", sdp, flags=re.MULTILINE)
    return "m=".join(p + line + "\r\n" if p.split()[0] == kind else p for p in parts)


def switched_off(sdp: str, kind: str, bare: bool = False) -> str:
    """An offer whose section of a kind has port 0; `bare`: and no transport, as of one that was never in use."""
    section = sections(sdp)[kind]
    off = re.sub(rf"^{kind} \d+", f"{kind} 0", section)
    if bare:
        off = re.sub(r"a=(ice|fingerprint|setup|candidate|end-of).*\r\n", "", off)
    return sdp.replace(section, off)


class TestOffer:
    def test_good_offer(self, offer: str) -> None:
        """What an ordinary peer offers is taken."""
        assert [media.kind for media in parse_offer(offer).description.media] == ["audio", "video", "application"]

    @pytest.mark.parametrize(
        ("spoil", "refusal"),
        [
            (lambda sdp: "", (400, "malformed_sdp")),
            (lambda sdp: "hello", (400, "malformed_sdp")),
            (lambda sdp: '{"sdp": "v=0"}', (400, "malformed_sdp")),
            (lambda sdp: "v=0\r\nm=\r\n", (400, "malformed_sdp")),
            (lambda sdp: "v=0\r\nm=audio x y z\r\n", (400, "malformed_sdp")),
            (lambda sdp: re.sub(r"m=audio \d+", "m=audio -1", sdp), (400, "malformed_sdp")),
            (lambda sdp: sdp.replace("a=rtpmap:96 opus/48000/2", "a=rtpmap:opus"), (400, "malformed_sdp")),
            (lambda sdp: re.sub(r"a=ice-pwd:.*\r\n", "", sdp), (400, "malformed_sdp")),
            (lambda sdp: re.sub(r"a=ice-ufrag:.*\r\n", "", sdp), (400, "malformed_sdp")),
            (lambda sdp: re.sub(r"a=fingerprint:.*\r\n", "", sdp), (400, "malformed_sdp")),
            (lambda sdp: re.sub(r"(a=candidate:\S+ \d+ udp) \d+", r"\1 high", sdp), (400, "malformed_sdp")),
            (lambda sdp: re.sub(r"(a=candidate:.*) \d+ typ", r"\1 65536 typ", sdp), (400, "malformed_sdp")),
            (lambda sdp: re.sub(r"(a=candidate:.*) \d+ typ", r"\1 -1 typ", sdp), (400, "malformed_sdp")),
            (lambda sdp: sdp.replace("a=mid:1", "a=mid:0"), (400, "malformed_sdp")),
            (lambda sdp: sdp.replace("a=mid:1", "a=mid:one"), (400, "malformed_sdp")),
            (lambda sdp: sdp.replace("BUNDLE 0 1 2", "BUNDLE 7 8"), (400, "malformed_sdp")),
            (lambda sdp: without(sdp, "audio").replace("BUNDLE 0 1", "BUNDLE 1"), (422, "no_audio")),
            (lambda sdp: sdp.replace("a=sendrecv", "a=recvonly"), (422, "no_audio")),
            (lambda sdp: sdp.replace("a=sendrecv", "a=inactive"), (422, "no_audio")),
            (lambda sdp: without(sdp, "video").replace("BUNDLE 0 1", "BUNDLE 0"), (422, "no_video")),
            (lambda sdp: sdp.replace("a=recvonly", "a=sendonly"), (422, "no_video")),
            (lambda sdp: re.sub("opus/48000/2", "speex/16000", sdp), (422, "unsupported_codec")),
            (lambda sdp: sdp + "m=" + sections(sdp)["audio"], (422, "unsupported_media")),
            (lambda sdp: sdp + "m=" + sections(sdp)["video"], (422, "unsupported_media")),
            (lambda sdp: sdp + "m=text 9 RTP/AVP 98\r\n", (422, "unsupported_media")),
        ],
        ids=range(25),
    )
    async def test_bad_offers(self, offer: str, spoil: Any, refusal: tuple[int, str]) -> None:
        """A bad offer is refused with what is wrong with it."""
        bad = spoil(offer)
        assert bad != offer
        with pytest.raises(RequestError) as caught:
            await accepted(bad)
        assert (caught.value.status, caught.value.reason) == refusal
        assert len(caught.value.detail) > 20 and not caught.value.detail.endswith(": ")

    async def test_no_common_video(self, offer: str) -> None:
        """Video that is neither H.264 nor VP8 is refused; so is H.264 in packetization mode 0 alone."""
        with pytest.raises(RequestError) as caught:
            await accepted(offer.replace("VP8/90000", "VP9/90000").replace("H264/90000", "AV1/90000"))
        assert (caught.value.status, caught.value.reason) == (422, "unsupported_codec")
        mode_0 = offer.replace("VP8/90000", "VP9/90000").replace("packetization-mode=1", "packetization-mode=0")
        with pytest.raises(RequestError) as caught:
            await accepted(mode_0)
        assert (caught.value.status, caught.value.reason) == (422, "unsupported_codec")

    @pytest.mark.parametrize(
        ("profile", "mode", "shown"),
        [
            ("64001f", "1", "H264 profile-level-id=64001f (high) packetization-mode=1"),
            ("42e01f", "0", "H264 profile-level-id=42e01f (constrained baseline) packetization-mode=0"),
            ("zzz", "1", "H264 profile-level-id=zzz packetization-mode=1"),
        ],
    )
    @pytest.mark.parametrize("role", [Role.CONVERSATION, Role.VIEWER])
    async def test_other_h264(self, offer: str, profile: str, mode: str, shown: str, role: Role) -> None:
        """H.264 that is not sent is refused by a sentence that names the profile offered and those that would do."""
        if role is Role.VIEWER:
            offer = offer.replace("a=sendrecv", "a=recvonly")
        alone = re.sub("profile-level-id=42[0e]01f", f"profile-level-id={profile}", offer)
        alone = alone.replace("packetization-mode=1", f"packetization-mode={mode}").replace("VP8/90000", "VP9/90000")
        with pytest.raises(RequestError) as caught:
            await accepted(alone, role=role)
        assert (caught.value.status, caught.value.reason) == (422, "unsupported_codec")
        assert caught.value.detail == (
            f"video codecs offered: VP9, {shown}; required is VP8, or H264 with packetization-mode=1 and "
            "profile-level-id 42e0.. or 4200.. (baseline)"
        )

    @pytest.mark.parametrize(
        ("role", "kind", "refusal"),
        [
            (Role.CONVERSATION, "audio", "no_audio"),
            (Role.CONVERSATION, "video", "no_video"),
            (Role.SOURCE, "audio", "no_audio"),
        ],
    )
    async def test_section_that_is_not_used(self, offer: str, role: Role, kind: str, refusal: str) -> None:
        """An offer whose port 0 switches off what is needed is refused, and the sentence says so."""
        with pytest.raises(RequestError) as caught:
            await accepted(switched_off(offer, kind), role=role)
        assert (caught.value.status, caught.value.reason) == (422, refusal)
        assert f"its {kind} section is disabled by port 0" in caught.value.detail


class TestAnswer:
    @pytest.mark.parametrize(
        ("role", "kind"),
        [
            (Role.CONVERSATION, "application"),
            (Role.SOURCE, "video"),
            (Role.VIEWER, "audio"),
            (Role.VIEWER, "video"),
            (Role.VIEWER, "application"),
        ],
    )
    @pytest.mark.parametrize("bare", [False, True])
    async def test_port_0_is_answered_by_port_0(self, offer: str, role: Role, kind: str, bare: bool) -> None:
        """RFC 3264: a section that the offer does not use keeps its place, with port 0 and outside the bundle."""
        if role is Role.VIEWER:
            offer = offer.replace("a=sendrecv", "a=recvonly")
        peer = await accepted(switched_off(offer, kind, bare), role=role)
        await peer.connection.close()
        answer = sections(peer.answer)
        assert list(answer) == ["", "audio", "video", "application"]
        assert answer[kind].startswith(f"{kind} 0 ")
        assert "a=inactive" in answer[kind]
        assert "a=candidate" not in answer[kind]
        others = [mid for mid, each in enumerate(("audio", "video", "application")) if each != kind]
        assert f"a=group:BUNDLE {' '.join(map(str, others))}\r\n" in answer[""]
        for other in set(answer) - {"", kind}:
            assert not answer[other].startswith(f"{other} 0 ")

    async def test_bundle_only_is_used(self, offer: str) -> None:
        """RFC 8843: port 0 beside a=bundle-only means another section's transport, and the section is answered."""
        video = re.sub(r"^video \d+", "video 0", sections(offer)["video"])
        bundled = offer.replace(sections(offer)["video"], video + "a=bundle-only\r\n")
        peer = await accepted(bundled)
        await peer.connection.close()
        assert peer.codec == "H264"
        assert "a=group:BUNDLE 0 1 2" in peer.answer

    async def test_fec_is_asked_for(self, offer: str) -> None:
        """Where sound is taken, the answer asks for Opus' forward error correction and for short packets."""
        for role in (Role.CONVERSATION, Role.SOURCE):
            peer = await accepted(offer, role=role)
            await peer.connection.close()
            audio = sections(peer.answer)["audio"]
            assert "a=fmtp:96 minptime=10;useinbandfec=1\r\n" in audio
            assert "a=ptime:10\r\n" in audio
        peer = await accepted(offer.replace("a=sendrecv", "a=recvonly"), role=Role.VIEWER)
        await peer.connection.close()
        assert "useinbandfec" not in peer.answer

    async def test_directions_and_one_stream(self, offer: str) -> None:
        """Audio goes both ways, video comes; both are of one stream, so that a receiver keeps them in step."""
        peer = await accepted(offer)
        try:
            answer = sections(peer.answer)
            assert "a=sendrecv" in answer["audio"]
            assert "a=sendonly" in answer["video"]
            streams = [re.search(r"a=msid:(\S+) (\S+)", answer[kind]) for kind in ("audio", "video")]
            assert streams[0][1] == streams[1][1]
            assert streams[0][2] != streams[1][2]
        finally:
            await peer.connection.close()

    async def test_codecs(self, offer: str) -> None:
        """Opus alone for sound; H.264 before VP8, whatever the offer's order; VP8 where it is alone."""
        peer = await accepted(offer)
        await peer.connection.close()
        answer = sections(peer.answer)
        names = {kind: re.findall(r"a=rtpmap:\d+ (\S+)/90000|a=rtpmap:\d+ (opus)", answer[kind]) for kind in answer}
        assert [a or b for a, b in names["audio"]] == ["opus"]
        assert peer.codec == "H264"
        assert names["video"][0][0] == "H264"
        peer = await accepted(offer.replace("H264/90000", "AV1/90000"))
        await peer.connection.close()
        assert peer.codec == "VP8"

    async def test_playout_delay(self, offer: str) -> None:
        """The playout-delay extension is accepted for video under the number it was offered with, and not unasked."""
        for given, wanted in ((offer, False), (add_to(offer, "video", PLAYOUT_DELAY), True)):
            peer = await accepted(given)
            await peer.connection.close()
            assert (PLAYOUT_DELAY in sections(peer.answer)["video"]) == wanted
            assert PLAYOUT_DELAY not in sections(peer.answer)["audio"]

    async def test_candidates(self, offer: str) -> None:
        """The answer holds a candidate for each address, on ports of the given range, or the public one instead."""
        ports = aiortc_internals.UdpPorts((43210, 43259))
        peer = await accepted(offer, ports=ports)
        await peer.connection.close()
        found = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", sections(peer.answer)["audio"])
        assert [address for address, _ in found] == ["127.0.0.1"]
        assert 43210 <= int(found[0][1]) <= 43259
        peer = await accepted(offer, public_ip="203.0.113.7")
        await peer.connection.close()
        assert re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) ", sections(peer.answer)["audio"]) == ["203.0.113.7"]
        assert "127.0.0.1" not in peer.answer.partition("a=candidate")[2]

    async def test_no_port(self, offer: str) -> None:
        """Where every UDP port of the range is taken, it is 503 and says so."""
        with pytest.raises(RequestError) as caught:
            await accepted(offer, addresses=["203.0.113.1"])  # an address of nobody's: nothing can be bound
        assert (caught.value.status, caught.value.reason) == (503, "no_udp_port")
        assert caught.value.retry_after

    async def test_mdns_candidates_are_left_out(self, offer: str) -> None:
        """A candidate of multicast DNS is not resolved, which could take seconds; the peer's checks come anyway."""
        hidden = re.sub(r"(a=candidate:\S+ \d+ udp \d+) \S+", r"\1 8b3a2c1d-0000.local", offer)
        assert ".local" in hidden
        peer = await accepted(hidden)
        try:
            assert ".local" not in peer.connection.remoteDescription.sdp
        finally:
            await peer.connection.close()

    async def test_peers_connect(self, offer: str) -> None:
        """An answered peer connects, and its control channel opens."""
        import asyncio

        caller = bare_peer()
        peer = None
        try:
            peer = await accepted(await offer_of(caller))
            opened: asyncio.Future = asyncio.get_running_loop().create_future()
            peer.connection.on("datachannel", opened.set_result)
            from lipstream_client.media import bind_loopback

            bind_loopback(caller, only=True)
            await caller.setRemoteDescription(RTCSessionDescription(peer.answer, "answer"))
            channel = await asyncio.wait_for(opened, 10)
            assert channel.label == "control"
            assert peer.audio.ready
            assert peer.video.ready
        finally:
            await caller.close()
            if peer is not None:
                await peer.connection.close()


CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.9 50001 typ host"


class TestFragment:
    @pytest.mark.parametrize(
        "line",
        [
            "a=candidate:",
            "a=candidate:1 1",
            "a=candidate:1 1 udp x 192.0.2.9 50001 typ host",
            "a=candidate:1 1 udp 1 192.0.2.9 65536 typ host",
            "nonsense",
            "a",
            "\0",
        ],
    )
    def test_bad_lines(self, line: str) -> None:
        """A line that is none of SDP, or a candidate that is none, is a bad fragment."""
        with pytest.raises(RequestError) as caught:
            parse_fragment(f"a=ice-ufrag:me\r\n{line}\r\n", "me")
        assert (caught.value.status, caught.value.reason) == (400, "bad_fragment")

    async def test_trickled(self, offer: str) -> None:
        """Candidates of a fragment reach the connection, in the section that they name or in the first."""
        peer = await accepted(offer)
        try:
            mid = peer.connection.getTransceivers()[0].mid
            head = f"a=ice-ufrag:{peer.ufrag}\r\n"
            before = len(self._remote(peer.connection))
            assert await negotiation.trickle(peer, f"{head}a=mid:{mid}\r\na={CANDIDATE}\r\n") == 1
            assert await negotiation.trickle(peer, f"{head}a={CANDIDATE.replace('50001', '50002')}\r\n") == 1
            assert await negotiation.trickle(peer, f"{head}a=end-of-candidates\r\n") == 0
            assert await negotiation.trickle(peer, f"{head}a=mid:{mid}\r\na={CANDIDATE.replace('udp', 'tcp')}\r\n") <= 1
            assert len(self._remote(peer.connection)) >= before + 2
        finally:
            await peer.connection.close()

    @staticmethod
    def _remote(connection: RTCPeerConnection) -> list[Any]:
        return connection.getTransceivers()[0].receiver.transport.transport.getRemoteCandidates()

    async def test_unknown_section(self, offer: str) -> None:
        """A candidate for a section that does not exist, as browsers may send for bundled ones, harms nothing."""
        peer = await accepted(offer)
        try:
            await negotiation.trickle(peer, f"a=ice-ufrag:{peer.ufrag}\r\na=mid:77\r\na={CANDIDATE}\r\n")
        finally:
            await peer.connection.close()
