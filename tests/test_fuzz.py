"""Requests that nobody would send: whatever comes, the server answers within its bounds, with a reason, and lets go.

The short run tries the same every time; the long one (`-m slow`) tries many times as much, and other things each time.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin
from zlib import crc32

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from peers import SDP, bare_peer, located, offer_of
from schemathesis.checks import CHECKS, load_all_checks
from starlette.routing import WebSocketRoute

from streamer.server.app import create_app
from streamer.server.config import ServerConfig

TIMEOUT = 20.0  # seconds: what takes longer hangs
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}

pytestmark = pytest.mark.usefixtures("any_load", "leaves_nothing")


def rounds(short: int, long: int) -> pytest.MarkDecorator:
    """Examples for the ordinary run, and for the slow one."""
    return pytest.mark.parametrize(
        "examples", [pytest.param(short, id="short"), pytest.param(long, id="long", marks=pytest.mark.slow)]
    )


def setting(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=examples < 250,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def fuzz(examples: int, strategy: st.SearchStrategy, check: Callable[[Any], None]) -> None:
    @setting(examples)
    @given(strategy)
    def run(value: Any) -> None:
        check(value)

    run()


@pytest.fixture(scope="module")
def fuzzed(server: Any) -> Iterator[Any]:
    """A server of these tests' own: they fill it with characters."""
    with type(server)(max_characters=32, connect_timeout=600.0) as running:
        yield running


@pytest.fixture(scope="module")
def offer() -> str:
    """A real offer, with candidates, of a peer that is gone."""

    async def make() -> str:
        peer = bare_peer()
        try:
            return await offer_of(peer)
        finally:
            await peer.close()

    return asyncio.run(make())


@pytest.fixture
def http(leaves_nothing: None, fuzzed: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fuzzed.url, trust_env=False, timeout=TIMEOUT) as client:
        yield client


class Living:
    """A session that is there to be asked for, made again where a request ended it."""

    def __init__(self, http: httpx.Client, offer: str) -> None:
        self._http, self._offer = http, offer
        self._path = ""

    @property
    def path(self) -> str:
        if not self._path or self._http.get(self._path).status_code == 404:
            answer = self._http.post("/v1/sessions?size=128", content=self._offer, headers=SDP)
            assert answer.status_code == 201, answer.text
            self._path = httpx.URL(located(answer)).path
        return self._path

    @property
    def id(self) -> str:
        return self.path.rpartition("/")[2]


@pytest.fixture
def living(http: httpx.Client, offer: str) -> Iterator[Living]:
    living = Living(http, offer)
    yield living
    http.delete(living.path)


def sane(answer: httpx.Response) -> None:
    """No failure of the server's own; a refusal has its form. What was opened is closed again."""
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert body["status"] == answer.status_code
        assert body["reason"] and body["detail"]
        assert len(body["detail"]) < 1000, "a refusal must not send back all that came"


# The OpenAPI text

load_all_checks()
LEFT_OUT = (
    "positive_data_acceptance",  # no schema says what makes a text SDP, or bytes a picture of a face
    "allow_header_conformance",  # it takes /v1/characters/preview for another resource than /v1/characters/{id}
)
CONFORMS = [check for check in CHECKS.get_all() if check.__name__ not in LEFT_OUT]

EXPECTED = {
    "negative_data_rejection": {"expected-statuses": ["4xx", "503"]},
    "missing_required_header": {"expected-statuses": ["4xx"]},
}
OPENAPI = create_app(ServerConfig()).openapi()
GENERATED = {"allow-extra-parameters": False}  # one that no operation knows is ignored, and is no violation
CONFIG = schemathesis.Config.from_dict({"checks": EXPECTED, "generation": GENERATED})
api = schemathesis.openapi.from_dict(OPENAPI, config=CONFIG)


def plain(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


def raw_types() -> set[str]:
    """What requests may send that is neither JSON nor a form."""
    operations = [one for path in OPENAPI["paths"].values() for one in path.values()]
    kinds = {kind for one in operations for kind in one.get("requestBody", {}).get("content", {})}
    return {kind for kind in kinds if kind.startswith(("application/sdp", "application/trickle", "image/", "video/"))}


for kind in raw_types():
    schemathesis.serializer(kind)(plain)


def ask(case: schemathesis.Case, url: str, living: Living) -> None:
    """Sends it, for every other session at random to one that exists, and compares the answer with the text."""
    for name, real in (("session_id", lambda: living.id), ("character_id", lambda: "1")):
        if name in case.path_parameters and crc32(repr(case.path_parameters[name]).encode()) % 2:
            case.path_parameters[name] = real()
    answer = case.call(base_url=url, timeout=TIMEOUT)
    location = urljoin(answer.request.url, answer.headers.get("location", [""])[0])
    if answer.status_code == 201 and location.startswith((f"{url}/v1/sessions/", f"{url}/v1/whip/")):
        httpx.delete(location, trust_env=False, timeout=TIMEOUT)
    case.validate_response(answer, checks=CONFORMS)


@api.parametrize()
@setting(30)
def test_openapi(case: schemathesis.Case, fuzzed: Any, living: Living) -> None:
    """Each operation, with what its description allows and with what it does not: the answer is one it describes, what
    is not allowed is refused."""
    ask(case, fuzzed.url, living)


@pytest.mark.slow
def test_openapi_long(fuzzed: Any, living: Living) -> None:
    """The same, with far more requests of each operation."""
    for found in api.get_all_operations():
        for mode in schemathesis.GenerationMode:
            with contextlib.suppress(Unsatisfiable):  # where nothing is asked for, nothing can be asked wrongly
                fuzz(250, found.ok().as_strategy(generation_mode=mode), lambda case: ask(case, fuzzed.url, living))


# SDP

NUMBERS = ("0", "-1", "1", "7", "127", "65535", "65536", "4294967296", "1" + "0" * 400, "1.5", "NaN", "٣", "")
LINES = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    "m=video 0 UDP/TLS/RTP/SAVPF",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "m=application 9 DTLS/SCTP 5000",
    "m=text 9 RTP/AVP 98",
    "m=",
    "a=group:BUNDLE 0 1 2 0",
    "a=group:",
    "a=mid:0",
    "a=mid:",
    "a=setup:holdconn",
    "a=setup:passive",
    "a=inactive",
    "a=sendrecv",
    "a=rtpmap:96 opus/48000/2",
    "a=rtpmap:96",
    "a=fmtp:96 apt=96",
    "a=fmtp:111 minptime=x;;=;useinbandfec",
    "a=rtcp-fb:* nack pli",
    "a=extmap:15 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    "a=extmap:1/sendonly urn:x",
    "a=ssrc-group:FID 1",
    "a=ssrc:1 cname",
    "a=ice-lite",
    "a=ice-options:trickle renomination",
    "a=candidate:1 1 udp 1 999.1.1.1 1 typ host",
    "a=candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
    "a=candidate:1 1 udp 1 x.local 1 typ srflx raddr",
    "a=candidate:",
    "a=end-of-candidates",
    "a=fingerprint:md5 00",
    "a=fingerprint:sha-256",
    "a=sctp-port:-1",
    "a=max-message-size:x",
    "a=crypto:1 x",
    "a=rid:1 recv",
    "a=simulcast:recv 1;2",
    "c=IN IP6 zz",
    "o=- x y IN IP4 0.0.0.0",
    "v=1",
    "=",
    "\0",
    "a=" + "x" * 5000,
)

_place = st.integers(0, 10_000)
_change = st.one_of(
    st.tuples(st.just("drop"), _place),
    st.tuples(st.just("repeat"), _place),
    st.tuples(st.just("swap"), _place, _place),
    st.tuples(st.just("cut"), _place, _place),
    st.tuples(st.just("number"), _place, _place, st.sampled_from(NUMBERS)),
    st.tuples(st.just("word"), _place, _place, _place, _place),
    st.tuples(st.just("insert"), _place, st.sampled_from(LINES)),
    st.tuples(st.just("insert"), _place, st.text(max_size=40)),
    st.tuples(st.just("bytes"), _place, _place, st.binary(min_size=1, max_size=4)),
)
changes = st.tuples(st.lists(_change, min_size=1, max_size=6), st.sampled_from(["\r\n", "\n", "\r\n\r\n"]))


def changed(text: str, plan: tuple[list[tuple], str]) -> bytes:
    """An SDP text with lines dropped, repeated, moved, cut, and numbers, words and bytes replaced."""
    lines = [line.encode() for line in text.splitlines()]
    for what, where, *how in plan[0]:
        if not lines:
            break
        at = where % len(lines)
        words = lines[at].split(b" ")
        match what:
            case "drop":
                del lines[at]
            case "repeat":
                lines.insert(at, lines[at])
            case "swap":
                other = how[0] % len(lines)
                lines[at], lines[other] = lines[other], lines[at]
            case "cut":
                lines[at] = lines[at][: how[0] % (len(lines[at]) + 1)]
            case "number":
                numbers = [i for i, word in enumerate(words) if any(48 <= byte < 58 for byte in word)] or [0]
                i = numbers[how[0] % len(numbers)]
                head, colon, _ = words[i].rpartition(b":")
                words[i] = head + colon + how[1].encode()
                lines[at] = b" ".join(words)
            case "word":
                others = lines[how[0] % len(lines)].split(b" ")
                words[how[1] % len(words)] = others[how[2] % len(others)]
                lines[at] = b" ".join(words)
            case "insert":
                lines.insert(at, how[0].encode())
            case "bytes":
                i = how[0] % (len(lines[at]) + 1)
                lines[at] = lines[at][:i] + how[1] + lines[at][i + len(how[1]) :]
    end = plan[1].encode()
    return end.join(lines) + end


class TestSdp:
    @rounds(200, 5000)
    def test_offers(self, http: httpx.Client, offer: str, examples: int) -> None:
        """A changed offer is answered, or refused by name; a session that it opened can be ended."""
        answered = []

        def check(plan: Any) -> None:
            answer = http.post("/v1/sessions?size=128", content=changed(offer, plan), headers=SDP)
            sane(answer)
            assert answer.status_code in (201, 400, 413, 422), answer.text
            answered.append(answer.status_code)
            if answer.status_code == 201:
                assert http.delete(located(answer)).status_code == 200

        fuzz(examples, changes, check)
        import collections

        print(collections.Counter(answered))
        assert len(set(answered)) >= 3, "the changes are all too gross, or too slight"

    @rounds(150, 5000)
    def test_fragments(self, http: httpx.Client, living: Living, offer: str, examples: int) -> None:
        """So is a changed fragment of trickled candidates, and the session lives on."""
        start = "\r\n".join(
            line
            for line in offer.splitlines()
            if line.startswith(("a=ice-", "a=mid", "m=", "a=candidate", "a=group", "a=end-of"))
        )
        path, answered = living.path, []

        def check(plan: Any) -> None:
            answer = http.patch(path, content=changed(start, plan), headers=FRAGMENT)
            sane(answer)
            assert answer.status_code in (204, 400, 413, 422), answer.text
            answered.append(answer.status_code)

        fuzz(examples, changes, check)
        assert {204, 400, 422} <= set(answered)
        assert http.get(path).json()["state"] == "connecting"


# Bytes

PATHS = ("/v1/config", "/v1/sessions", "/v1/sessions/x", "/v1/tokens", "/v1/characters/1/picture", "/", "/metrics")
ODD = ("http://[", "null", "Bearer", "Bearer lst1.", "Bearer lst1.e30.00", "application/json;", "http://a:b")
HOSTS = ("[", "[::1", "localhost:x", "a@localhost", "")

_header = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
requests = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD", "PUT", "TRACE", "get", "X-Y"]),
        "path": st.sampled_from(PATHS),
        "query": st.binary(max_size=20).map(lambda raw: b"?" + bytes(b for b in raw if b > 32)),
        "headers": st.dictionaries(
            st.sampled_from(
                ["Origin", "Authorization", "If-Match", "Content-Type", "Access-Control-Request-Method", "Accept"]
            ),
            st.one_of(_header, st.sampled_from(ODD)),
            max_size=4,
        ),
        "host": st.one_of(st.just("localhost"), st.sampled_from(HOSTS), _header),
        "body": st.binary(max_size=20),
    }
)


def receive(connection: socket.socket) -> bytes:
    """Until the other side has closed; it must, in time."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            data += piece
    return data


def dial(server: Any) -> socket.socket:
    return socket.create_connection((server.config.host, server.config.port), timeout=TIMEOUT)


@rounds(200, 5000)
def test_bytes(fuzzed: Any, examples: int) -> None:
    """Requests whose headers and addresses no client library would write: an answer, and none of the server's fault."""
    statuses = set()

    def check(given: dict[str, Any]) -> None:
        lines = [
            f"{given['method']} {given['path']}".encode() + given["query"] + b" HTTP/1.1",
            b"Host: " + given["host"].encode("latin-1"),
            *(f"{name}: {value}".encode("latin-1") for name, value in given["headers"].items()),
            b"Content-Length: %d" % len(given["body"]),
            b"Connection: close",
        ]
        with dial(fuzzed) as connection:
            connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + given["body"])
            answer = receive(connection)
        status = int(answer.split(b" ", 2)[1])
        assert status < 500, answer[:500]
        statuses.add(status)

    fuzz(examples, requests, check)
    assert {200, 403, 405} <= statuses


# WebSockets

SOCKETS = [
    route.path
    for part in create_app(ServerConfig()).routes
    for route in getattr(getattr(part, "original_router", part), "routes", [part])
    if isinstance(route, WebSocketRoute)
]


UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def frame(first: int, masked: bool, length: int | None, payload: bytes) -> bytes:
    """A WebSocket frame (RFC 6455) whose first byte, mask and announced length may be any."""
    said = len(payload) if length is None else length
    mask = 0x80 if masked else 0
    if said < 126:
        head = struct.pack("!BB", first, mask | said)
    elif said < 65_536:
        head = struct.pack("!BBH", first, mask | 126, said)
    else:
        head = struct.pack("!BBQ", first, mask | 127, said)
    return head + (bytes(4) if masked else b"") + payload


_payload = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [b"", b"{}", b"[]", b'{"type": "start"}', b'{"type": 1}', b"\xff\xfe", b"[" * 3000, b"\0" * 20_000]
    ),
)
frames = st.lists(
    st.one_of(
        st.builds(frame, st.sampled_from([0x81, 0x82]), st.just(True), st.none(), _payload),
        st.builds(
            frame,
            st.integers(0, 255),
            st.booleans(),
            st.one_of(st.none(), st.sampled_from([0, 1, 125, 126, 65_536, 2**31, 2**63, 2**64 - 1])),
            _payload,
        ),
        st.binary(max_size=30),
    ),
    max_size=8,
)


@pytest.mark.skipif(not SOCKETS, reason="the server has no WebSocket yet")
@pytest.mark.parametrize("path", SOCKETS)
@rounds(100, 5000)
def test_frames(fuzzed: Any, http: httpx.Client, living: Living, path: str, examples: int) -> None:
    """Frames of any kind and length, text and binary that is nothing the protocol knows, and ends in mid-frame: the
    socket is closed, its session is left as it was or ended, and others are not concerned."""
    upgrades = []

    def check(sent: list[bytes]) -> None:
        with dial(fuzzed) as connection:
            connection.sendall(UPGRADE.format(path=path.format(session_id=living.id)).encode())
            answer = b""
            while b"\r\n\r\n" not in answer and (piece := connection.recv(65_536)):
                answer += piece
            with contextlib.suppress(OSError):  # closed by the server already
                for each in sent:
                    connection.sendall(each)
                connection.shutdown(socket.SHUT_WR)
            receive(connection)
        status = int(answer.split(b" ", 2)[1])
        assert status < 500, answer[:500]
        upgrades.append(status)

    fuzz(examples, frames, check)
    assert 101 in upgrades
    assert http.get("/healthz").status_code == 200
