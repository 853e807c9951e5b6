"""WebRTC signalling over HTTP, following WHIP (RFC 9725): shared by all endpoints that create a peer."""

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
    """Checks that the request sends SDP (else `RequestError` 415) and accepts SDP (else 406)."""
    if content_type(request) != "application/sdp":
        raise RequestError(415, "unsupported_type", f"expected application/sdp, got {content_type(request)[:60]!r}")
    taken = {part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")}
    if not taken & {"application/sdp", "application/*", "*/*"}:
        raise RequestError(
            406, "not_acceptable", f"the answer is application/sdp, which Accept excludes: {taken}"[:200]
        )


async def read_offer(request: Request, role: Role) -> Offer:
    """Reads, parses and checks the offer in the body. Raises `RequestError`."""
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
    """Answers an offer, using this server's addresses and ports. Raises `RequestError`.

    `feedback` receives the reports of a video receiver, `on_audio` the audio packets that the peer sends.
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
    """Builds the 201 with the SDP answer; `links` are additional Link header values.

    `location` is relative to the request's URL, so that it stays valid behind a proxy with a path prefix that the
    server does not know. The last segment of `location` names the client towards the TURN server.
    """
    headers = {"Location": location, "ETag": peer.etag}
    if links := [*filter(None, [ice_links(config.ice_servers_for(location.rpartition("/")[2], time.time()))]), *links]:
        headers["Link"] = ", ".join(links)
    return Response(peer.answer, 201, headers, "application/sdp")


def describe(config: ServerConfig) -> Response:
    """Response to OPTIONS of an endpoint: accepted types, and ICE servers for clients that need them early."""
    headers = {"Accept-Post": "application/sdp", "Allow": "GET, HEAD, OPTIONS, POST"}
    if links := ice_links(config.ice_servers_for(secrets.token_hex(8), time.time())):
        headers["Link"] = links
    return Response(None, 200, headers)


def discover() -> Response:
    """Response to HEAD of an endpoint: its type tells a player that the URL accepts an offer."""
    return Response(None, 200, {"Content-Type": "application/sdp"})


CANDIDATES = takes(header("If-Match", "the ETag of the answer"), body={"application/trickle-ice-sdpfrag": TEXT})
"""OpenAPI description of the input of `take_candidates`."""


async def take_candidates(request: Request, peer: Peer | None) -> Response:
    """Adds the candidates of a PATCH to the peer; returns 204. Raises `RequestError`."""
    if content_type(request) != "application/trickle-ice-sdpfrag":
        raise RequestError(
            415, "unsupported_type", f"expected application/trickle-ice-sdpfrag, got {content_type(request)[:60]!r}"
        )
    match = request.headers.get("if-match")
    if match is None:
        raise RequestError(428, "precondition_required", "send If-Match with the ETag of the session")
    if peer is None or (match != "*" and match != peer.etag):
        raise RequestError(412, "precondition_failed", "If-Match does not match this session's ETag")
    try:
        fragment = (await read_body(request, MAX_SDP_BYTES)).decode()
    except UnicodeDecodeError as error:
        raise RequestError(400, "bad_fragment", f"the fragment is not UTF-8: {error.reason}") from None
    await negotiation.trickle(peer, fragment)
    return Response(status_code=204)
