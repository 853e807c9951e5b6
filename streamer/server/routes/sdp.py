"""WebRTC over HTTP in WHIP's shape (RFC 9725): what every resource that is a peer answers alike."""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request, Response

from streamer.base.errors import RequestError
from streamer.rtc import aiortc_internals, negotiation
from streamer.rtc.negotiation import Peer
from streamer.rtc.sdp import MAX_SDP_BYTES, Offer, Role, parse_offer
from streamer.server.config import ServerConfig
from streamer.server.routes.common import content_type, read_body
from streamer.server.routes.openapi import TEXT, header, takes
from streamer.server.state import State
from streamer.server.turn import ice_links
from streamer.session.fanout import ReceiverFeedback


def check_exchange(request: Request) -> None:
    """That an SDP offer is sent and its answer can be taken. Raises `RequestError` (415, 406)."""
    if content_type(request) != "application/sdp":
        raise RequestError(415, "unsupported_type", f"want application/sdp, got {content_type(request)[:60]!r}")
    taken = {part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")}
    if not taken & {"application/sdp", "application/*", "*/*"}:
        raise RequestError(
            406, "not_acceptable", f"the answer is application/sdp, which Accept leaves out: {taken}"[:200]
        )


async def read_offer(request: Request, role: Role) -> Offer:
    """The body, parsed and checked. Raises `RequestError`."""
    try:
        text = (await read_body(request, MAX_SDP_BYTES)).decode()
    except UnicodeDecodeError as error:
        raise RequestError(400, "malformed_sdp", f"the offer is not UTF-8: {error.reason}") from None
    return parse_offer(text, role)


async def accept(
    held: State,
    offer: Offer,
    feedback: ReceiverFeedback | None = None,
    on_audio: Callable[[int, int, bytes, float], None] = lambda *packet: None,
) -> Peer:
    """Answers an offer, on this server's addresses and ports. Raises `RequestError`.

    `feedback` is told what a receiver of video reports, `on_audio` gets the packets of a peer that sends its voice.
    """
    reported: dict[str, Any] = {}
    if feedback is not None:
        reported = {"on_keyframe": feedback.keyframe, "on_bitrate": feedback.bandwidth, "on_loss": feedback.loss}
    return await negotiation.accept(
        offer,
        on_audio=on_audio,
        **reported,
        addresses=aiortc_internals.local_addresses(held.config.loopback),
        ports=held.ports,
        public_ip=held.config.public_ip,
    )


def answer(config: ServerConfig, location: str, peer: Peer, links: Sequence[str] = ()) -> Response:
    """201 with the SDP answer; `links` are further Link headers' values.

    `location` is relative to the request's own address, so that it holds behind a proxy that puts the server under a
    path, of which the server knows nothing. To a TURN server the client is known by the last part of `location`.
    """
    headers = {"Location": location, "ETag": peer.etag}
    if links := [*filter(None, [ice_links(config.ice_servers_for(location.rpartition("/")[2], time.time()))]), *links]:
        headers["Link"] = ", ".join(links)
    return Response(peer.answer, 201, headers, "application/sdp")


def describe(config: ServerConfig) -> Response:
    """What OPTIONS of an endpoint answers: what may be posted, and the ICE servers, which some clients want before."""
    headers = {"Accept-Post": "application/sdp", "Allow": "GET, HEAD, OPTIONS, POST"}
    if links := ice_links(config.ice_servers_for(secrets.token_hex(8), time.time())):
        headers["Link"] = links
    return Response(None, 200, headers)


def discover() -> Response:
    """What HEAD of an endpoint answers: by the type a player knows that it may post an offer."""
    return Response(None, 200, {"Content-Type": "application/sdp"})


CANDIDATES = takes(header("If-Match", "the ETag of the answer"), body={"application/trickle-ice-sdpfrag": TEXT})
"""What `take_candidates` reads."""


async def take_candidates(request: Request, peer: Peer | None) -> Response:
    """204 once the candidates of a PATCH are with the peer. Raises `RequestError`."""
    if content_type(request) != "application/trickle-ice-sdpfrag":
        raise RequestError(
            415, "unsupported_type", f"want application/trickle-ice-sdpfrag, got {content_type(request)[:60]!r}"
        )
    match = request.headers.get("if-match")
    if match is None:
        raise RequestError(428, "precondition_required", "send If-Match with the ETag of the session")
    if peer is None or (match != "*" and match != peer.etag):
        raise RequestError(412, "precondition_failed", "If-Match is not this session's ETag")
    try:
        fragment = (await read_body(request, MAX_SDP_BYTES)).decode()
    except UnicodeDecodeError as error:
        raise RequestError(400, "bad_fragment", f"the fragment is not UTF-8: {error.reason}") from None
    await negotiation.trickle(peer, fragment)
    return Response(status_code=204)
