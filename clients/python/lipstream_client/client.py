"""The server's HTTP side: characters, configuration, and opening sessions."""

import asyncio
import ipaddress
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from lipstream_client.bot import Bot
from lipstream_client.errors import Refused, Unreachable
from lipstream_client.session import Session
from lipstream_client.speech import RATE, Source, Voice

_TYPES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"RIFF": "image/webp",
    b"GIF8": "image/gif",
    b"\x1aE\xdf\xa3": "video/webm",
}
_BRANDS = {b"avif": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heic"}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Client:
    """A lipstream server. Use it as an async context manager: it closes its sessions and connections."""

    def __init__(self, url: str = "http://127.0.0.1:8080", token: str | None = None, timeout: float = 15.0) -> None:
        """`timeout` (s): for an answer of the server, and for media to connect."""
        self.url = url.rstrip("/")
        self.loopback = _is_loopback(httpx.URL(self.url).host)
        self._timeout = timeout
        self._token = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=self._token,
            timeout=timeout,
            trust_env=not self.loopback,  # a proxy does not reach this machine
        )
        self._config: dict[str, Any] | None = None
        self._config_until = math.inf
        self._sessions: set[Session] = set()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await asyncio.gather(*(session.close() for session in list(self._sessions)))
        await self._http.aclose()

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request whose refusal raises `Refused`, and whose failure `Unreachable`."""
        try:
            response = await self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unreachable(f"{self.url} does not answer: {error or type(error).__name__}") from None
        if response.is_success:
            return response
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        if not isinstance(problem, dict):
            problem = {}
        after = response.headers.get("retry-after", "")
        raise Refused(
            response.status_code,
            problem.get("reason", "unknown"),
            problem.get("detail", response.text[:200]),
            float(after) if after.isdecimal() else None,
            problem.get("faces") or [],
        )

    # Characters

    async def config(self) -> dict[str, Any]:
        """What the server offers: sizes, emotions, default character, ICE servers.

        Asked once, and again when half of the time has passed that TURN credentials hold.
        """
        if self._config is None or time.monotonic() >= self._config_until:
            config = self._config = (await self.request("GET", "/v1/config")).json()
            ttl = config.get("ice_ttl_s")
            self._config_until = time.monotonic() + ttl / 2 if ttl else math.inf
        return self._config

    async def traits(self) -> dict[str, Any]:
        """What a character can be built from."""
        return (await self.request("GET", "/v1/traits")).json()

    async def characters(self) -> list[dict[str, Any]]:
        return (await self.request("GET", "/v1/characters")).json()["characters"]

    async def character(self, character: str) -> dict[str, Any]:
        return (await self.request("GET", f"/v1/characters/{quote(character, safe='')}")).json()

    async def picture(self, character: str, size: int = 256, background: bool = True) -> bytes:
        """A PNG of the character at rest."""
        path = f"/v1/characters/{quote(character, safe='')}/picture"
        return (await self.request("GET", path, params={"size": size, "background": int(background)})).content

    async def build(
        self, traits: Mapping[str, Any] | None = None, *, seed: int | None = None, name: str | None = None
    ) -> dict[str, Any]:
        """A character from traits or from a seed."""
        if (traits is None) == (seed is None):
            raise ValueError("give either traits or a seed")
        body: dict[str, Any] = {"seed": seed} if traits is None else {"traits": dict(traits)}
        if name is not None:
            body["name"] = name
        return (await self.request("POST", "/v1/characters", json=body)).json()

    async def upload(
        self,
        picture: str | Path | bytes,
        name: str | None = None,
        marks: Sequence[float] | None = None,
        face: bool = True,
        consent: bool | None = None,
    ) -> dict[str, Any]:
        """A character from one picture: its path or its bytes. See `add_character`.

        Without a `face` it is a picture to be shown (`Session.away`), not to be made to talk.
        """
        _, data = await _read(picture)
        params = _said(name, marks, None, consent) | ({} if face else {"face": "0"})
        options = {"content": data, "headers": {"Content-Type": _type(data)}, "params": params}
        return (await self.request("POST", "/v1/characters", **options)).json()

    async def add_character(
        self,
        pictures: str | Path | bytes | Sequence[str | Path | bytes] = (),
        *,
        roles: Sequence[str | None] | None = None,
        clip: str | Path | bytes | None = None,
        name: str | None = None,
        marks: Sequence[float] | None = None,
        at: tuple[float, float] | None = None,
        consent: bool | None = None,
    ) -> dict[str, Any]:
        """A character from 1 to 8 pictures (PNG, JPEG, WebP, AVIF, HEIC), or from a `clip` (WebM, MP4, MOV), by their
        paths or their bytes. Its "pack" tells what each was taken for, and what its user should know.

        `roles`, one for each picture: "neutral", "mouth_open", "teeth", "eyes_shut", "smile" or "look_aside"; None, or
        none given: the file's name or the face says it. Of the first picture, in its pixels: `marks`, where the server
        cannot tell the face, are x, y of one eye, of the other, of the mouth; `at` is x, y of the one that is meant of
        several (`Refused.faces` has them). `consent`: whether its user may use the pictures and whoever is in them
        agrees; some servers take none without.

        Of a clip the server keeps the frames that it chooses, and nothing else.
        """
        given = [pictures] if isinstance(pictures, str | Path | bytes) else list(pictures)
        if bool(given) == (clip is not None):
            raise ValueError(f"give either pictures or a clip: these are {len(given)} and {int(clip is not None)}")
        fields = list(roles) if roles is not None else [None] * len(given)
        if len(fields) != len(given):
            raise ValueError(f"{len(fields)} roles for {len(given)} pictures")
        if clip is not None:
            given, fields = [clip], ["clip"]
        files = [
            (field or "picture", (file, data, _type(data)))
            for field, (file, data) in zip(fields, [await _read(one) for one in given], strict=True)
        ]
        if name is None and not isinstance(given[0], bytes):
            name = Path(given[0]).stem
        data = _said(name, marks, at, consent)
        # A clip is read for seconds.
        return (await self.request("POST", "/v1/characters", files=files, data=data, timeout=120)).json()

    async def preview(self, traits: Mapping[str, Any], emotion: str = "neutral", size: int = 256) -> bytes:
        """A PNG of a character that is not kept."""
        body = {"traits": dict(traits), "emotion": emotion}
        return (await self.request("POST", "/v1/characters/preview", params={"size": size}, json=body)).content

    # Sessions

    def session(
        self,
        speech: Source | None = None,
        *,
        rate: int = RATE,
        character: str | None = None,
        size: int | None = None,
        background: bool | None = None,
        alpha: bool = False,
        stamp: bool = False,
        packet_ms: int = 20,
        linger: float = 0.5,
        frame_queue: int = 8,
        voice: str = "microphone",
    ) -> Session:
        """A session, to be used as an async context manager.

        `speech` is a recording's path (any format that PyAV reads), samples [n] or [n, channels] at `rate`, an async
        iterator of such blocks, "microphone", or None for silence without end. It is sent at real time, in packets of
        10 or 20 ms; `linger` seconds of silence after its end (math.inf: never) the session's iterations end.
        `frame_queue` frames wait at most for whoever is slow to take them. With `voice` "speech" it is a bot
        that speaks (see `bot`), and `speech` is what the bot's user says. With `alpha` pictures are [S, S, 4] straight
        RGBA of the character on nothing, unless a `background` is asked for; without, it has one unless told otherwise.
        Without a `size` they are as large as suits what draws the character.
        """
        query = {"stamp": str(int(stamp))}
        if voice != "microphone":
            query["voice"] = voice
        if alpha:
            query["alpha"] = "packed"
        if background is not None:
            query["background"] = str(int(background))
        if character is not None:
            query["character"] = character
        if size is not None:
            query["size"] = str(size)
        session = Session(self, query, Voice(speech, rate, packet_ms / 1000), linger, self._timeout, frame_queue)
        self._sessions.add(session)
        return session

    async def open(
        self, *, character: str | None = None, size: int | None = None, background: bool = True
    ) -> dict[str, Any]:
        """A session without a peer, for a bot: its `id`, the paths `speech` and `whep`, `renderer` and `size`. It ends
        by `end`, or by itself a while after the last bot, viewer or recording left it.
        """
        body: dict[str, Any] = {"background": background}
        if character is not None:
            body["character"] = character
        if size is not None:
            body["size"] = size
        return (await self.request("POST", "/v1/sessions", json=body)).json()

    async def end(self, session_id: str) -> None:
        await self.request("DELETE", f"/v1/sessions/{quote(session_id, safe='')}")

    def bot(
        self,
        session_id: str,
        *,
        format: str = "pcm16",
        rate: int = 24_000,
        hear: bool = False,
        barge_in: bool = False,
    ) -> Bot:
        """The voice of a session, to be used as an async context manager.

        `format` is "pcm16", mono at `rate`, or "opus". `hear`: the user's voice comes back (`Bot.user`); `barge_in`:
        the server interrupts the bot as soon as the user speaks.
        """
        url = f"{self.url.replace('http', 'ws', 1)}/v1/sessions/{quote(session_id, safe='')}/speech"
        return Bot(url, dict(self._token), format, rate, hear, barge_in, self._timeout)

    async def sessions(self) -> list[str]:
        return (await self.request("GET", "/v1/sessions")).json()["sessions"]

    async def control(self, session_id: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """Steers any session: says over HTTP what is said on a control channel (`protocol.py`); returns the answer."""
        return (await self.request("POST", f"/v1/sessions/{session_id}/control", json=dict(message))).json()

    async def session_state(self, session_id: str) -> dict[str, Any]:
        return (await self.request("GET", f"/v1/sessions/{session_id}")).json()

    async def _open_session(self, query: dict[str, str], offer: str) -> tuple[str, str]:
        """Location and answer."""
        headers = {"Content-Type": "application/sdp"}
        response = await self.request("POST", "/v1/sessions", params=query, content=offer, headers=headers)
        return response.headers["location"], response.text

    async def _close_session(self, session_id: str) -> None:
        """Whether or not the server still knows it, or is there at all."""
        try:
            await self.request("DELETE", f"/v1/sessions/{session_id}")
        except (Refused, Unreachable):
            pass


async def _read(file: str | Path | bytes) -> tuple[str, bytes]:
    """A file's name, without its folders, and its bytes."""
    if isinstance(file, bytes):
        return "", file
    return Path(file).name, await asyncio.to_thread(Path(file).read_bytes)


def _type(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video/mp4")
    return next((kind for magic, kind in _TYPES.items() if data.startswith(magic)), "application/octet-stream")


def _said(
    name: str | None, marks: Sequence[float] | None, at: tuple[float, float] | None, consent: bool | None
) -> dict[str, str]:
    """What goes with pictures."""
    said = {"name": name[:60]} if name else {}
    if consent is not None:
        said["consent"] = str(int(consent))
    if marks is not None:
        texts = [f"{float(v):g}" for v in marks]
        said |= {"eyes": ",".join(texts[:4]), "mouth": ",".join(texts[4:])}
    if at is not None:
        said["at"] = ",".join(f"{float(v):g}" for v in at)
    return said
