"""What the tests of a live server share: speech of a known shape, offers without a connection, a meter for mouths."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.rtcconfiguration import RTCBundlePolicy
from lipstream_client.speech import RATE, read_file

from streamer.avatar.characters import CharacterRecord
from streamer.avatar.renderer import Renderer
from streamer.motion.controls import INDEX, controls, rest

SAMPLE = Path(__file__).parent.parent / "clients" / "page" / "sample.wav"

_SPOKEN = 0.76  # seconds into the sample at which the voice begins: it goes on without a pause for 2 s
SDP = {"Content-Type": "application/sdp"}


@lru_cache(maxsize=1)
def _sample() -> np.ndarray:
    return np.concatenate(list(read_file(SAMPLE)))


def spoken(seconds: float) -> np.ndarray:
    """[n] float32 at 48 kHz of an uninterrupted voice, at most 2 s."""
    assert seconds <= 2.0
    first = round(_SPOKEN * RATE)
    return _sample()[first : first + round(seconds * RATE)].copy()


def silence(seconds: float) -> np.ndarray:
    """[n] float32 at 48 kHz of a quiet room, -80 dB."""
    return (1e-4 * np.random.default_rng(1).standard_normal(round(seconds * RATE))).astype(np.float32)


def tone(seconds: float, pitch: float = 300.0) -> np.ndarray:
    """[n] float32 at 48 kHz, a chord that is louder and softer three times a second."""
    t = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * pitch * n * t) / n for n in (1, 2, 3, 5))
    return (0.15 * wave * (1 + np.sin(2 * np.pi * 3 * t))).astype(np.float32)


def bare_peer() -> RTCPeerConnection:
    """A peer with the sections that an offer needs, not connected to anything."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    peer.addTransceiver("audio", "sendrecv")
    peer.addTransceiver("video", "recvonly")
    peer.createDataChannel("control")
    return peer


def located(answer: httpx.Response) -> str:
    """The address that an answer's Location, which is relative, stands for."""
    return str(answer.url.join(answer.headers["location"]))


async def offer_of(peer: RTCPeerConnection) -> str:
    """Its offer, with candidates."""
    await peer.setLocalDescription(await peer.createOffer())
    return peer.localDescription.sdp


class MouthMeter:
    """How far a character's mouth is open in a picture, from the pixels around it that show its inside.

    Not every character suits: the colour may occur elsewhere in a face that turns. `clearest` finds one that does.
    """

    def __init__(self, entry: Any, size: int = 256) -> None:
        self.entry = entry
        rig = entry.rig(size, False)  # the mouth does not show the background
        try:
            shut = rig.draw(rest())[..., :3].astype(int)
            wide = rig.draw(controls(open=1.0))[..., :3].astype(int)
            change = np.abs(wide - shut).sum(-1)
            rows, columns = np.nonzero(change > 0.5 * change.max())
            reach = round(
                0.09 * size
            )  # the mouth and what the head moves it by; the chin falls too, so the middle counts
            row, column = round(np.median(rows)), round(np.median(columns))
            self._part = slice(max(0, row - reach), row + reach), slice(max(0, column - reach), column + reach)
            inside = wide[self._part][change[self._part] > 0.5 * change.max()]
            self._colour = np.median(inside[inside.sum(-1) <= np.median(inside.sum(-1))], axis=0)
            self._shut = self._count(shut)
            self._range = max(1, self._count(wide) - self._shut)
            turned = [
                rig.draw(controls(yaw=0.15 * x, pitch=0.1 * y, roll=0.08 * x * y, lean=0.4 * x, sway_x=0.5 * y))
                for x in (-1, 1)
                for y in (-1, 1)
            ]
            self.error = max(abs(self(image)) for image in turned) + 10 / self._range
            """What it reads, at worst, for a shut mouth in a head that turns."""
        finally:
            rig.close()

    @classmethod
    def clearest(cls, entries: Sequence[Any]) -> "MouthMeter":
        return min((cls(entry) for entry in entries), key=lambda meter: meter.error)

    def _count(self, image: np.ndarray) -> int:
        part = image[self._part][..., :3].astype(int)
        return int((np.abs(part - self._colour).sum(-1) < 70).sum())

    def __call__(self, image: np.ndarray) -> float:
        """[S, S, 3] RGB to 0 (as at rest) ... 1 (as wide as it opens)."""
        return (self._count(image) - self._shut) / self._range


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """How alike two signals of one length are, -1 to 1."""
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / (np.sqrt((a @ a) * (b @ b)) + 1e-9))


def place(sounds: Sequence[Any], seconds: float) -> np.ndarray:
    """What came back, [n] float32 at 48 kHz, each packet where its `pts` says; nan where none came, and in the first
    packet after a gap, for which a decoder lacks what came before.
    """
    line = np.full(round(seconds * RATE), np.nan, np.float32)
    end = 0
    for sound in sounds:
        part = sound.samples[: max(0, len(line) - 3 * sound.pts)]
        if 3 * sound.pts <= end:
            line[3 * sound.pts : 3 * sound.pts + len(part)] = part
        end = 3 * sound.pts + len(sound.samples)
    return line


def delay(returned: np.ndarray, sent: np.ndarray, most: int = RATE // 20) -> tuple[int, float]:
    """Samples by which `returned` trails `sent`, at most `most`, and how well it fits there where anything came."""
    length = min(len(returned), len(sent)) - most

    def fit(late: int) -> float:
        came = ~np.isnan(returned[late : late + length])
        return correlation(returned[late : late + length][came], sent[:length][came])

    coarse = max(range(0, most, 6), key=fit)
    best = max(range(max(0, coarse - 6), coarse + 7), key=fit)
    return best, fit(best)


class Slate:
    """A rig that draws nothing, and notes what it should have drawn."""

    name = "studio_rig"

    def __init__(self, size: int, seen: list[np.ndarray]) -> None:
        self.size, self._seen = size, seen

    def draw(self, controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        self._seen.append(controls.copy())
        return np.zeros((self.size, self.size, 4), np.uint8)

    def close(self) -> None:
        pass


class Witness:
    """A generator whose drawings are blank, and which keeps the controls of every frame."""

    name = "rig"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        return "studio_rig"

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        return Slate(size, self.seen)

    def prepare(self, entry: CharacterRecord, size: int, background: bool) -> None:
        pass

    def still(self, entry: CharacterRecord, size: int, background: bool) -> np.ndarray:
        return np.zeros((size, size, 4), np.uint8)

    def relative_cost(self, renderer: str, size: int) -> float:
        return 1.0

    def last(self, name: str) -> float:
        return float(self.seen[-1][INDEX[name]])
