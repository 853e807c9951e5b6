"""A lipstream server: its characters, its configuration, and opening sessions."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from lipstream_client.bot import Bot
from lipstream_client.http import HttpApi
from lipstream_client.session import Session
from lipstream_client.speech import RATE, PacedSpeech, SpeechSource

_TYPES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"RIFF": "image/webp",
    b"GIF8": "image/gif",
    b"\x1aE\xdf\xa3": "video/webm",
}
_BRANDS = {b"avif": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heic"}


class Client:
    """A lipstream server. Use it as an async context manager: it closes its sessions and connections."""

    def __init__(self, url: str = "http://127.0.0.1:8080", token: str | None = None, timeout: float = 15.0) -> None:
        """`url`: the server's address, with a path if a reverse proxy serves it under one. `timeout` (s): for an answer
        of the server, and for media to connect. Raises ValueError for an unusable `url` or `token`.
        """
        self._api = HttpApi(url, token, timeout)
        self.url = self._api.url
        self._sessions: set[Session] = set()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await asyncio.gather(*(session.close() for session in list(self._sessions)))
        await self._api.close()

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request to the API. Raises RequestError for a refusal and Unreachable for no answer."""
        return await self._api.request(method, path, **options)

    async def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self._api.json(method, path, **options)
        return answer

    # Characters

    async def config(self) -> dict[str, Any]:
        """What the server offers: sizes, emotions, default character, ICE servers.

        Cached until half the lifetime of its TURN credentials has passed.
        """
        return await self._api.config()

    async def traits(self) -> dict[str, Any]:
        """The traits that a character can be built from."""
        return await self._json("GET", "/v1/traits")

    async def characters(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self._json("GET", "/v1/characters"))["characters"]
        return listed

    async def character(self, character: str) -> dict[str, Any]:
        return await self._json("GET", f"/v1/characters/{quote(character, safe='')}")

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
        return await self._json("POST", "/v1/characters", json=body)

    async def upload(
        self,
        picture: str | Path | bytes,
        name: str | None = None,
        marks: Sequence[float] | None = None,
        face: bool = True,
        consent: bool | None = None,
    ) -> dict[str, Any]:
        """Creates a character from one picture, given by its path or its bytes. See `add_character`.

        With `face=False` the picture is only to be shown (`Session.away`), and need not contain a face.
        """
        _, data = await _read(picture)
        params = _form(name, marks, None, consent) | ({} if face else {"face": "0"})
        headers = {"Content-Type": _type(data)}
        return await self._json("POST", "/v1/characters", content=data, headers=headers, params=params)

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
        """Creates a character from 1 to 8 pictures (PNG, JPEG, WebP, AVIF, HEIC) or from a `clip` (WebM, MP4, MOV),
        each given by its path or its bytes. Its "pack" states the role of each picture, with notices for the user.

        `roles`, one for each picture: "neutral", "mouth_open", "teeth", "eyes_shut", "smile" or "look_aside"; None lets
        the server decide by the file's name or by the face. In pixels of the first picture: `marks`, needed where the
        server finds no face, are x, y of one eye, of the other eye and of the mouth; `at` is x, y of the chosen one of
        several faces (listed in `RequestError.faces`). `consent`: whether the user may use the pictures and the people
        in them agree; some servers require it.

        Of a clip, the server keeps only the frames that it selects.
        """
        given = [pictures] if isinstance(pictures, str | Path | bytes) else list(pictures)
        if bool(given) == (clip is not None):
            raise ValueError(f"give either pictures or a clip: these are {len(given)} and {int(clip is not None)}")
        fields: list[str | None] = list(roles) if roles is not None else [None] * len(given)
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
        data = _form(name, marks, at, consent)
        # Reading a clip takes seconds.
        return await self._json("POST", "/v1/characters", files=files, data=data, timeout=120)

    async def preview(self, traits: Mapping[str, Any], emotion: str = "neutral", size: int = 256) -> bytes:
        """A PNG of a character that is not stored."""
        body = {"traits": dict(traits), "emotion": emotion}
        return (await self.request("POST", "/v1/characters/preview", params={"size": size}, json=body)).content

    # Sessions

    def session(
        self,
        speech: SpeechSource | None = None,
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
        iterator over such arrays or over mono PCM16 bytes, "microphone", or None for endless silence. It is sent in
        real time, in packets of 10 or 20 ms; the session's iterations end after its end and `linger` seconds of silence
        (math.inf: never). At most `frame_queue` frames wait for a slow consumer. With `voice="speech"` a bot speaks
        (see `bot`), and `speech` is what the bot's user says. With `alpha`, frames are [S, S, 4] straight RGBA, with no
        background unless `background` is set. The default `size` depends on what draws the character.
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
        paced = PacedSpeech(speech, rate, packet_ms / 1000)
        session = Session(self._api, query, paced, linger, self._api.timeout, frame_queue)
        self._sessions.add(session)
        return session

    async def open(
        self, *, character: str | None = None, size: int | None = None, background: bool = True
    ) -> dict[str, Any]:
        """Opens a session without a peer, for a bot. Returns its `id`, the paths `speech` and `whep` on the server,
        `renderer` and `size`. `end` ends it; it also ends some time after its last bot, viewer or recording has left.
        """
        body: dict[str, Any] = {"background": background}
        if character is not None:
            body["character"] = character
        if size is not None:
            body["size"] = size
        return await self._json("POST", "/v1/sessions", json=body)

    async def end(self, session_id: str) -> None:
        await self._api.end_session(session_id)

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

        `format` is "pcm16", mono at `rate`, or "opus". `hear`: receive the user's voice (`Bot.user`); `barge_in`: the
        server interrupts the bot when the user starts to speak.
        """
        url = self._api.speech_url(session_id)
        return Bot(url, self._api.headers, format, rate, hear, barge_in, self._api.timeout)

    async def sessions(self) -> list[str]:
        listed: list[str] = (await self._json("GET", "/v1/sessions"))["sessions"]
        return listed

    async def control(self, session_id: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a control message (see `protocol.py`) to any session over HTTP; returns the answer."""
        return await self._api.control(session_id, dict(message))

    async def session_state(self, session_id: str) -> dict[str, Any]:
        """The server's account of a session."""
        return await self._api.session_state(session_id)


async def _read(file: str | Path | bytes) -> tuple[str, bytes]:
    """A file's name, without its folders, and its bytes."""
    if isinstance(file, bytes):
        return "", file
    return Path(file).name, await asyncio.to_thread(Path(file).read_bytes)


def _type(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video/mp4")
    return next((kind for magic, kind in _TYPES.items() if data.startswith(magic)), "application/octet-stream")


def _form(
    name: str | None, marks: Sequence[float] | None, at: tuple[float, float] | None, consent: bool | None
) -> dict[str, str]:
    """The fields that accompany pictures."""
    fields = {"name": name[:60]} if name else {}
    if consent is not None:
        fields["consent"] = str(int(consent))
    if marks is not None:
        texts = [f"{float(v):g}" for v in marks]
        fields |= {"eyes": ",".join(texts[:4]), "mouth": ",".join(texts[4:])}
    if at is not None:
        fields["at"] = ",".join(f"{float(v):g}" for v in at)
    return fields
