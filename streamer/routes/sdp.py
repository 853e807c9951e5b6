"""WebRTC over HTTP in WHIP's shape (RFC 9725): what every resource that is a peer answers alike."""

import time

from fastapi import Request, Response

from streamer import signalling
from streamer.config import ServerConfig
from streamer.routes.common import content_type, read_body
from streamer.routes.openapi import TEXT, header, takes
from streamer.signalling import MAX_SDP_BYTES, Peer, Refused
from streamer.turn import ice_links


async def read_sdp(request: Request) -> str:
    """The offer, unread. Raises `Refused`."""
    try:
        return (await read_body(request, MAX_SDP_BYTES)).decode()
    except UnicodeDecodeError as error:
        raise Refused(400, "malformed_sdp", f"the offer is not UTF-8: {error.reason}") from None


def answer(config: ServerConfig, location: str, peer: Peer) -> Response:
    """201 with the SDP answer; to a TURN server the client is known by the last part of `location`."""
    headers = {"Location": location, "ETag": peer.etag}
    if links := ice_links(config.ice_servers_for(location.rpartition("/")[2], time.time())):
        headers["Link"] = links
    return Response(peer.answer, 201, headers, "application/sdp")


CANDIDATES = takes(header("If-Match", "the ETag of the answer"), body={"application/trickle-ice-sdpfrag": TEXT})
"""What `take_candidates` reads."""


async def take_candidates(request: Request, peer: Peer | None) -> Response:
    """204 once the candidates of a PATCH are with the peer. Raises `Refused`."""
    if content_type(request) != "application/trickle-ice-sdpfrag":
        raise Refused(
            415, "unsupported_type", f"want application/trickle-ice-sdpfrag, got {content_type(request)[:60]!r}"
        )
    match = request.headers.get("if-match")
    if match is None:
        raise Refused(428, "precondition_required", "send If-Match with the ETag of the session")
    if peer is None or (match != "*" and match != peer.etag):
        raise Refused(412, "precondition_failed", "If-Match is not this session's ETag")
    try:
        fragment = (await read_body(request, MAX_SDP_BYTES)).decode()
    except UnicodeDecodeError as error:
        raise Refused(400, "bad_fragment", f"the fragment is not UTF-8: {error.reason}") from None
    await signalling.trickle(peer, fragment)
    return Response(status_code=204)
