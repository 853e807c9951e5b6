"""Bad input of every kind: each gets a clear refusal, and does no harm to a session beside it."""

import asyncio
import io
import json
import math
import re
import struct
import wave
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lipstream_client import BadSpeech, Client, Session, SessionLost
from peers import SDP, bare_peer, located, offer_of, spoken, tone
from PIL import Image

from streamer.base.errors import RequestError
from streamer.cli import render
from streamer.media.recordings import open_recording
from streamer.rtc.sdp import parse_offer

pytestmark = pytest.mark.usefixtures("leaves_nothing", "any_load")

JSON = {"Content-Type": "application/json"}
RATE = 48_000


@pytest.fixture
async def http(server: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
        yield client


@asynccontextmanager
async def beside(server: Any) -> AsyncIterator[Session]:
    """A session that must not notice: it still gets frames, its own character and no error, when the block ends."""
    async with Client(server.url) as client, client.session() as session:
        async with asyncio.timeout(10):
            first = await anext(session.frames())
        yield session
        assert server.state.sessions[session.id].state.value == "live"
        async with asyncio.timeout(10):
            frame = await anext(session.frames())
            while frame.k <= first.k + 3:  # frames made since, not only what waited
                frame = await anext(session.frames())


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Status and reason, of what must be a problem and not a failure."""
    assert 400 <= answer.status_code < 500 or answer.status_code == 503, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert re.fullmatch(r"[a-z_]+", problem["reason"])
    assert len(problem["detail"]) > 10
    return answer.status_code, problem["reason"]


@pytest.fixture(scope="module")
def offer() -> str:
    async def made() -> str:
        peer = bare_peer()
        try:
            return await offer_of(peer)
        finally:
            await peer.close()

    return asyncio.run(made())


_PIECES = [
    "",
    "\0",
    "a=",
    "m=audio",
    "m=video 9 UDP/TLS/RTP/SAVPF 96",
    "a=candidate:1 1 udp 1 1.2.3.4 5 typ host",
    "-1",
]
_PIECES += [
    "99999999999999999999",
    "a=rtpmap:96",
    "a=fmtp:96 =;=",
    "a=group:BUNDLE 7 8",
    "a=setup:sideways",
    "\ud7ff",
    "é",
]
_PIECES += [
    "a=mid:0",
    "a=extmap:x",
    "a=ssrc:1 cname",
    "a=ssrc-group:FID 1",
    "a=msid:",
    "a=fingerprint:md5 00",
    "a=rtcp:x",
]


@st.composite
def mutations(draw: Any) -> list[tuple[str, float, float, str]]:
    """Edits of an offer: what is done, where (share of its lines and of a line), and with what."""
    kinds = st.sampled_from(["drop", "double", "swap", "insert", "replace", "cut", "digit"])
    edit = st.tuples(kinds, st.floats(0, 0.999), st.floats(0, 0.999), st.sampled_from(_PIECES))
    return draw(st.lists(edit, min_size=1, max_size=4))


def mutated(offer: str, edits: list[tuple[str, float, float, str]]) -> str:
    lines = offer.split("\r\n")
    for kind, where, inside, piece in edits:
        i = int(where * len(lines))
        line = lines[i]
        at = int(inside * (len(line) + 1))
        if kind == "drop":
            del lines[i]
        elif kind == "double":
            lines.insert(i, line)
        elif kind == "swap":
            j = int(inside * len(lines))
            lines[i], lines[j] = lines[j], line
        elif kind == "insert":
            lines.insert(i, piece)
        elif kind == "replace":
            lines[i] = line.partition(":")[0] + ":" + piece
        elif kind == "cut":
            lines[i] = line[:at]
        else:
            lines[i] = line[:at] + piece + line[at + 1 :]
        lines = lines or [""]
    return "\r\n".join(lines)


class TestOffers:
    @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(edits=mutations())
    def test_mutated_offers_are_taken_or_refused(self, offer: str, edits: list[tuple[str, float, float, str]]) -> None:
        """Whatever happened to an offer, reading it either succeeds or refuses; nothing else is raised."""
        try:
            parse_offer(mutated(offer, edits))
        except RequestError as error:
            assert error.status in (400, 422)

    async def test_mutated_offers_to_a_server(self, server: Any, http: httpx.AsyncClient, offer: str) -> None:
        """Thirty mutated offers each get 201 or a refusal, never a failure, and leave no session behind."""
        random = np.random.default_rng(7)
        kinds = ["drop", "double", "swap", "insert", "replace", "cut", "digit"]
        statuses = []
        async with beside(server):
            for _ in range(30):
                edits = [
                    (str(random.choice(kinds)), *random.uniform(0, 0.999, 2), _PIECES[random.integers(len(_PIECES))])
                    for _ in range(random.integers(1, 4))
                ]
                body = mutated(offer, edits).encode("utf-8", "surrogatepass")
                answer = await http.post("/v1/sessions?size=128&background=0", content=body, headers=SDP)
                statuses.append(answer.status_code)
                if answer.status_code == 201:
                    assert (await http.delete(located(answer))).status_code == 200
                else:
                    assert refused(answer)[0] in (400, 422)
        assert len(set(statuses)) > 1

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", (400, "malformed_sdp")),
            (b"\x00\xff\xfe", (400, "malformed_sdp")),
            (b"v=0\r\n" + b"\xff" * 100, (400, "malformed_sdp")),
            (b"v=0\r\n" + b"a=x\r\n" * 100_000, (413, "too_large")),
            (b"v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n", None),
            (b"v=0\r\n" + b"m=audio 9 RTP/AVP 0\r\n" * 50, None),
        ],
        ids=range(6),
    )
    async def test_corpus(
        self, server: Any, http: httpx.AsyncClient, body: bytes, reason: tuple[int, str] | None
    ) -> None:
        """Bodies that are no offers are refused with 4xx."""
        answer = await http.post("/v1/sessions", content=body, headers=SDP)
        assert refused(answer) == (reason or refused(answer))
        assert (await http.post("/v1/sessions", content=body)).status_code == 415

    async def test_no_audio(self, http: httpx.AsyncClient, offer: str) -> None:
        """An offer without a microphone is refused as such."""
        answer = await http.post("/v1/sessions", content=offer.replace("sendrecv", "recvonly"), headers=SDP)
        assert refused(answer) == (422, "no_audio")

    async def test_unsupported_codec(self, http: httpx.AsyncClient, offer: str) -> None:
        """An offer without Opus is refused, naming what it had."""
        answer = await http.post("/v1/sessions", content=offer.replace("opus/48000", "vorbis/48000"), headers=SDP)
        assert refused(answer) == (422, "unsupported_codec")
        assert "vorbis" in answer.json()["detail"]


class TestControlChannel:
    async def test_garbage(self, server: Any) -> None:
        """Garbage, binary and a megabyte each get an error with a reason, and the session goes on."""
        async with beside(server), Client(server.url) as client, client.session() as session:
            session._connection.sctp._remote_max_message_size = 0  # a client that heeds no limit
            for data in (
                "",
                "garbage",
                "[1, 2]",
                '{"type": "sing"}',
                b"\x00\xff" * 100,
                "[" * 16_000,
                '"' + "x" * 2**20,
            ):
                session.send_raw(data)
                error = await session.expect("error", 10, reason="bad_message")
                assert error["detail"]
            assert "16384" in error["detail"]
            await session.mute(False)
            async with asyncio.timeout(10):
                await anext(session.frames())

    async def test_hundred_bad_messages(self, server: Any) -> None:
        """The hundredth bad message ends the session, with the reason; the one beside it goes on."""
        async with beside(server), Client(server.url) as client, client.session() as session:
            events = session.events()
            for _ in range(99):
                session.send_raw("{}")
            async with asyncio.timeout(10):
                for _ in range(99):
                    while (await anext(events))["type"] != "error":
                        pass
            held = server.state.sessions[session.id]
            assert held.state.value == "live"
            session.send_raw("{}")
            with pytest.raises(SessionLost, match="bad_messages"):
                async for _ in session.frames():
                    pass
            assert await server.closed(held) == "bad_messages"


class TestJson:
    @pytest.mark.parametrize("path", ["/v1/characters", "/v1/characters/preview"])
    async def test_bad_bodies(self, http: httpx.AsyncClient, path: str) -> None:
        """A megabyte of JSON is too large; what is no JSON, or not of the right shape, is refused by name."""
        huge = json.dumps({"traits": {"hair": "x" * 2**20}})
        assert refused(await http.post(path, content=huge, headers=JSON)) == (413, "too_large")

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(64):
                yield b"[" * 16_384

        assert refused(await http.post(path, content=chunks(), headers=JSON)) == (413, "too_large")
        for body in (
            b"",
            b"{",
            b"\xff\xfe",
            b"[]",
            b"null",
            b"[" * 60_000,
            b'{"traits": 1}',
            b'{"traits": {"hair": []}}',
        ):
            assert refused(await http.post(path, content=body, headers=JSON))[0] in (400, 422), body[:20]
        for traits in ({"nonsense": 1}, {"hair": "none of these"}, {"hair": None}, {"hair": {"a": [1]}}):
            answer = await http.post(path, json={"traits": traits})
            assert refused(answer) == (422, "bad_traits"), traits
        assert (await http.post(path, content=b"{}")).status_code in (400, 415, 422)

    async def test_bad_seeds(self, http: httpx.AsyncClient) -> None:
        """A seed is a whole number from 0 to 2^31 - 1."""
        for seed in (-1, 2**31, 10**30, 1.5, "1", True, None, math.pi):
            assert refused(await http.post("/v1/characters", json={"seed": seed})) == (422, "bad_traits")


class TestMicrophone:
    async def test_silent(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A microphone that gives nothing is warned about, once, and told by name."""
        monkeypatch.setattr("streamer.session.microphone._SILENT_AFTER", 0.3)
        async with Client(server.url) as client, client.session() as session:
            warning = await session.expect("warning", 10, reason="silent_microphone")
            assert "-60 dB" in warning["detail"]
            with pytest.raises(TimeoutError):
                await session.expect("warning", 0.2)

    async def test_clipping(self, server: Any) -> None:
        """A microphone that is overdriven is warned about."""
        loud = np.sign(tone(2.0)).astype(np.float32)
        async with Client(server.url) as client, client.session(loud) as session:
            await session.expect("warning", 10, reason="clipping")

    async def test_narrow_band(self, server: Any) -> None:
        """A microphone at 8 kHz is speech like any other: frames come and it is heard as speech."""
        narrow = spoken(1.0)[::6]
        async with beside(server), Client(server.url) as client, client.session(narrow, rate=8000) as session:
            await session.expect("vad", 10, speaking=True)
            async with asyncio.timeout(10):
                await anext(session.frames())

    async def test_packets_that_are_not_opus(self, server: Any) -> None:
        """Payloads that no decoder understands are counted and concealed; frames go on."""
        async with beside(server), Client(server.url) as client, client.session() as session:
            async with asyncio.timeout(10):
                before = await anext(session.frames())
            track = session._connection.getTransceivers()[0].sender.track
            whole = track.recv

            async def garbled() -> Any:
                import av

                packet = await whole()
                other = av.Packet(b"\xff" * 7)
                other.pts, other.time_base = packet.pts, packet.time_base
                return other

            track.recv = garbled
            async with asyncio.timeout(20):
                frame = before
                while frame.k < before.k + 15:
                    frame = await anext(session.frames())
            audio = (await session.server_stats())["audio"]
            assert audio["malformed"] > 5


def png(width: int, height: int, *, pixels: bytes | None = None) -> bytes:
    """A PNG of this size; without `pixels` it only claims it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(pixels if pixels is not None else b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (200, 200), **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    if mode == "I;16":  # Pillow's own conversion keeps the numbers, 255 of 65 535 at most: all black
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(noise).convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (128, 128), (i * 80, 0, 0)) for i in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


PICTURES = {
    "none": ("png", b"this is no picture", "18 bytes"),
    "empty": ("png", b"", "0 bytes"),
    "html": ("jpeg", b"<html><img src=x></html>", "not a PNG"),
    "svg": ("png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG"),
    "bmp": ("png", picture("BMP"), "not a PNG"),
    "truncated png": ("png", picture("PNG")[:2000], "truncated"),
    "truncated jpeg": ("jpeg", picture("JPEG")[:2000], "truncated"),
    "truncated webp": ("webp", picture("WEBP")[:2000], ""),
    "header only": ("png", picture("PNG")[:40], ""),
    "30000 x 30000": ("png", png(30_000, 30_000), "30000×30000"),
    "2^31 wide": ("png", png(2**31 - 1, 64), ""),
    "claims more than it has": ("png", png(2000, 2000), ""),
    "animated png": ("png", animated("PNG"), "animated"),
    "animated webp": ("webp", animated("WEBP"), "animated"),
    "animated gif": ("png", animated("GIF"), "3 frames"),
    "1 x 1": ("png", picture("PNG", size=(1, 1)), "1×1"),
    "1 x 4000": ("png", picture("PNG", size=(1, 4000)), "1×4000"),
}


class TestPictures:
    @pytest.mark.parametrize("name", PICTURES)
    async def test_bad_pictures(self, http: httpx.AsyncClient, name: str) -> None:
        """A picture that cannot be used is refused with the reason and, where there is one, the number."""
        kind, data, says = PICTURES[name]
        answer = await http.post("/v1/characters", content=data, headers={"Content-Type": f"image/{kind}"})
        assert refused(answer) == (422, "bad_picture")
        assert says in answer.json()["detail"]

    async def test_too_large(self, server: Any, http: httpx.AsyncClient) -> None:
        """More bytes than are taken are refused as soon as they are announced, or counted."""
        most = server.config.max_picture_bytes

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(most // 2**20 + 1):
                yield b"\xff" * 2**20

        kind = {"Content-Type": "image/png"}
        lied = {**kind, "Content-Length": str(most + 1)}
        assert refused(await http.post("/v1/characters", content=chunks(), headers=kind)) == (413, "too_large")
        async with beside(server):
            assert refused(await http.post("/v1/characters", content=b"x" * (most + 1), headers=lied)) == (
                413,
                "too_large",
            )

    async def test_four_gigabytes_are_refused_unread(self, server: Any) -> None:
        """An upload that announces 4 GiB is refused before any of it has been sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.config.port)
        try:
            head = f"POST /v1/characters HTTP/1.1\r\nHost: 127.0.0.1:{server.config.port}\r\n"
            writer.write(f"{head}Content-Type: image/png\r\nContent-Length: {2**32}\r\n\r\n".encode())
            async with asyncio.timeout(10):
                assert (await reader.readline()).split()[1] == b"413"
        finally:
            writer.close()
            await writer.wait_closed()

    async def test_other_types(self, http: httpx.AsyncClient) -> None:
        """What is neither a picture, a clip nor a form of them is not taken, whatever its bytes."""
        for kind in ("image/tiff", "image/svg+xml", "text/plain", "audio/webm", "multipart/mixed; boundary=x", ""):
            answer = await http.post("/v1/characters", content=b"x", headers={"Content-Type": kind})
            assert refused(answer) == (415, "unsupported_type")

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "I;16", "1"])
    async def test_other_modes(self, server: Any, mode: str) -> None:
        """Alpha, grey, palette and 16 bits are taken, and can be drawn live."""
        async with Client(server.url) as client:
            character = await client.upload(picture("PNG", mode))
            assert (await client.picture(character["id"], 128)).startswith(b"\x89PNG")

    async def test_picture_comes_alive(self, server: Any) -> None:
        """A session with an uploaded picture, with alpha, has frames."""
        async with Client(server.url) as client:
            character = await client.upload(picture("PNG", "RGBA"))
            async with client.session(character=character["id"], size=128) as session, asyncio.timeout(10):
                frame = await anext(session.frames())
                assert frame.image.shape == (128, 128, 3)


def wav(path: Path, rate: int, channels: int, seconds: float = 0.5) -> Path:
    sound = (8000 * np.sin(2 * np.pi * 220 * np.arange(round(rate * seconds)) / rate)).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setparams((channels, 2, rate, 0, "NONE", ""))
        spread = np.repeat(sound[:, None], channels, 1)
        if channels == 6:
            spread[:, [0, 1, 3, 4, 5]] = 0  # of 5.1, the centre is what speaks
        out.writeframes(spread.tobytes())
    return path


def silent_film(path: Path) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("speech")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "garbage.wav").write_bytes(bytes(range(256)) * 20)
    (folder / "no_samples.wav").write_bytes(wav(folder / "x.wav", 16_000, 1).read_bytes()[:44])
    (folder / "truncated.mp4").write_bytes(silent_film(folder / "film.mp4").read_bytes()[:600])
    whole = wav(folder / "whole.wav", 16_000, 1).read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2 + 1])
    wav(folder / "surround.wav", 48_000, 6)
    wav(folder / "fast.wav", 192_000, 2)
    wav(folder / "telephone.wav", 8_000, 1)
    yield folder


class TestSpeechFiles:
    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("missing.wav", "not a file"),
            ("empty.wav", "0 bytes"),
            ("garbage.wav", ""),
            ("no_samples.wav", "0 samples"),
            ("film.mp4", "no sound"),
            ("truncated.mp4", ""),
        ],
    )
    async def test_unusable(self, files: Path, name: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A file without speech is refused by name, by the renderer and by the client."""
        assert render.main([str(files / name), str(files / "out.mp4")]) == 1
        said = capsys.readouterr().err
        assert name in said and says in said
        with pytest.raises(BadSpeech):
            async with Client("http://127.0.0.1:1") as client, client.session(files / name):
                pass

    @pytest.mark.parametrize(
        ("name", "seconds"),
        [("surround.wav", 0.5), ("fast.wav", 0.5), ("telephone.wav", 0.5), ("truncated.wav", 0.25), ("whole.wav", 0.5)],
    )
    def test_unusual(self, files: Path, name: str, seconds: float) -> None:
        """5.1, 192 kHz, 8 kHz and a file that was cut off are read as far as they go, mixed to mono."""
        recording = open_recording(files / name)
        heard, kept = recording.read(16_000), recording.read(48_000)
        assert len(heard) == pytest.approx(16_000 * seconds, abs=300)
        assert len(kept) == pytest.approx(48_000 * seconds, abs=900)
        assert 0.1 < np.abs(heard[1000:3000]).max() < 0.6

    def test_command_says_why(self, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """`lipstream render` with such a file ends with 1 and a sentence, and leaves no output."""
        out = tmp_path / "out.mp4"
        assert render.main([str(files / "film.mp4"), str(out)]) == 1
        assert "no sound" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())
