"""A WHIP client and a WHEP player built on aiortc alone, for benchmarks and tests of the server."""

import asyncio
import fractions
import re
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, Mock

import av
import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcconfiguration import RTCBundlePolicy

if TYPE_CHECKING:
    import pytest

RATE = 48_000
_BLOCK = RATE // 50
SDP = {"Content-Type": "application/sdp"}


class Speech(MediaStreamTrack):
    """[n] float32 at 48 kHz, again and again, 20 ms at a time in real time."""

    kind = "audio"

    def __init__(self, samples: np.ndarray) -> None:
        super().__init__()
        self._samples = (32767 * np.clip(samples, -1, 1)).astype(np.int16)
        self._began: float | None = None
        self._block = 0

    async def recv(self) -> av.AudioFrame:
        if self._began is None:
            self._began = time.monotonic()
        await asyncio.sleep(max(0.0, self._began + self._block * 0.020 - time.monotonic()))
        at = np.arange(self._block * _BLOCK, (self._block + 1) * _BLOCK) % len(self._samples)
        frame = av.AudioFrame.from_ndarray(self._samples[at][None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._block * _BLOCK, fractions.Fraction(1, RATE)
        self._block += 1
        return frame


class _Peer:
    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=20)
        configuration = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        self.connection = RTCPeerConnection(configuration)
        self.location: str | None = None
        self.answer = ""
        self.ended = asyncio.Event()
        self._connected = asyncio.Event()
        self.connection.on("connectionstatechange", self._changed)

    def _changed(self) -> None:
        if self.connection.connectionState == "connected":
            self._connected.set()
        elif self.connection.connectionState in ("closed", "failed"):
            self.ended.set()

    async def open(self, path: str, **query: Any) -> None:
        try:
            await self.connection.setLocalDescription(await self.connection.createOffer())
            offer = self.connection.localDescription.sdp
            made = await self.http.post(path, params=query, content=offer, headers=SDP)
            assert made.status_code == 201, made.text
            self.location, self.answer = str(made.url.join(made.headers["location"])), made.text
            await self.connection.setRemoteDescription(RTCSessionDescription(self.answer, "answer"))
            async with asyncio.timeout(10):
                await self._connected.wait()
        except BaseException:
            await self.__aexit__()
            raise

    async def leave(self) -> None:
        if self.location is not None:
            await self.http.delete(self.location)
            self.location = None

    async def __aexit__(self, *_: object) -> None:
        await self.leave()
        await self.connection.close()
        await self.http.aclose()

    def cut(self, monkeypatch: "pytest.MonkeyPatch") -> None:
        """Nothing of it reaches the server any more."""
        for transport in getattr(self.connection, "_RTCPeerConnection__iceTransports"):  # noqa: B009  mypy sees no mangled names
            for protocol in transport._connection._protocols:
                monkeypatch.setattr(protocol, "send_data", AsyncMock())
                monkeypatch.setattr(protocol, "send_stun", Mock())


class Microphone(_Peer):
    """Speaks over WHIP while its block lasts."""

    def __init__(self, url: str, samples: np.ndarray, token: str | None = None, **query: Any) -> None:
        super().__init__(url, token)
        self._samples = samples
        self._query = query

    async def __aenter__(self) -> "Microphone":
        self.connection.addTransceiver(Speech(self._samples), "sendonly")
        await self.open("/v1/whip", **self._query)
        assert self.location is not None
        self.id = self.location.rpartition("/")[2]
        return self

    async def state(self) -> dict[str, Any]:
        return (await self.http.get(f"/v1/sessions/{self.id}")).json()


class Player(_Peer):
    """Views over WHEP while its block lasts, and keeps all that it sees and hears."""

    def __init__(
        self, url: str, session: str, codec: str | None = None, audio: bool = True, video: bool = True
    ) -> None:
        super().__init__(url)
        self._session = session
        self._media = {"audio": audio, "video": video}
        self._codec = codec
        self.pictures: list[np.ndarray] = []
        self.sound = np.zeros(0, np.float32)
        self._came = asyncio.Event()
        self._tasks: list[asyncio.Task] = []
        self.connection.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._receive(track))))

    @property
    def offsets(self) -> set[str]:
        """Its streams' SSRCs."""
        return set(re.findall(r"a=ssrc:(\d+)", self.answer))

    async def __aenter__(self) -> "Player":
        for kind, wanted in self._media.items():
            if not wanted:
                continue
            transceiver = self.connection.addTransceiver(kind, "recvonly")
            if kind == "video" and self._codec is not None:
                known = RTCRtpReceiver.getCapabilities("video")
                assert known is not None
                transceiver.setCodecPreferences([c for c in known.codecs if c.name in (self._codec, "rtx")])
        await self.open(f"/v1/sessions/{self._session}/whep")
        return self

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _receive(self, track: MediaStreamTrack) -> None:
        while True:
            frame = await track.recv()
            if isinstance(frame, av.VideoFrame):
                self.pictures.append(frame.to_ndarray(format="rgb24"))
            elif isinstance(frame, av.AudioFrame):
                samples = frame.to_ndarray()[0, :: len(frame.layout.channels)].astype(np.float32) / 32768
                self.sound = np.concatenate([self.sound, samples])
            self._came.set()

    async def until(self, frames: int = 0, seconds: float = 0.0) -> None:
        """Waits for a number of pictures and a length of sound in all."""
        async with asyncio.timeout(20):
            while len(self.pictures) < frames or len(self.sound) < seconds * RATE:
                self._came.clear()
                await self._came.wait()
