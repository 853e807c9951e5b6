"""An avatar in this process, without a network: push speech, and iterate over frames with their audio.

    push ─▶ Segments ─sound──────────────────▶ Pairing ─Moment▶ async for
               └─16 kHz▶ Speech ─Step▶ engine ─Frame──▲

A `Runtime` holds what a process loads once. Each of its avatars runs at 25 fps while it is iterated, and speaks in real
time, however fast the speech is pushed.

Letters in shapes: S edge of a picture, n samples, c channels.
"""

import asyncio
import contextlib
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamer.audio.framing import Speech
from streamer.audio.pcm import PcmDecoder
from streamer.audio.segment_queue import Segments, Spoken, to_mono
from streamer.avatar.admission import AdmissionConfig, admit
from streamer.avatar.avatar import Avatar
from streamer.avatar.backends import create
from streamer.avatar.capacity import frame_costs
from streamer.avatar.characters import Characters
from streamer.avatar.engine import Engine, EngineSlot
from streamer.avatar.renderer import RendererBackend
from streamer.base import clock
from streamer.base.constants import DEFAULT_SIZES, DEVICES, FPS, GENERATORS, SAMPLES_PER_FRAME, SIZES
from streamer.base.errors import RequestError
from streamer.base.frames import Frame, Step, Times
from streamer.media.video_encoder import to_rgba
from streamer.motion.articulation import Articulation, ArticulationModel
from streamer.motion.controls import ATTENTIONS, EMOTIONS
from streamer.motion.idle import IdleMotion
from streamer.motion.plan import MotionCommand
from streamer.provenance.marker import Marker

__all__ = ["LocalAvatar", "Moment", "Pairing", "Runtime"]

_MOST_BUFFERED = 10.0  # seconds of queued speech; beyond this `push` waits, and nothing is dropped
_MOST_READY = 5  # moments that wait to be iterated; beyond this the avatar pauses
_MAX_DELAY = 2  # frame intervals that audio waits for its picture; after that it is paired with the previous one
_MOST_BEHIND = 0.5  # seconds of delay that are caught up with; longer delays are skipped


@dataclass(frozen=True, slots=True)
class Moment:
    """A picture, and the audio to play while it is shown: 40 ms."""

    frame: int
    epoch: int
    """Number of interruptions so far."""
    image: np.ndarray
    """[S, S, 4] uint8 straight RGBA. Moments may share it: do not modify it."""
    sound: np.ndarray
    """[n] int16 mono at the avatar's rate: 40 ms, more at a segment's start by the lead, less at its end."""
    segment: int | None
    """The segment being said, as numbered by `push`; None in silence."""
    ended: bool
    """Whether this is the segment's last moment."""

    @property
    def pts(self) -> int:
        """Presentation time in samples at 16 kHz."""
        return self.frame * SAMPLES_PER_FRAME


class Pairing:
    """Pairs audio with its pictures, in order. Pure: time is counted in frames.

    If a picture is late, its audio is paired with the previous picture.
    """

    def __init__(self) -> None:
        self.repeated = 0
        """Moments that repeat an older picture, because their own was late or not drawn."""
        self._waiting: deque[tuple[int, int, Spoken]] = deque()  # frame, epoch; at most _MAX_DELAY once one was drawn
        self._image: np.ndarray | None = None

    @property
    def begun(self) -> bool:
        """Whether a picture has been drawn."""
        return self._image is not None

    def said(self, frame: int, epoch: int, spoken: Spoken) -> list[Moment]:
        """Adds a frame's audio when it is due. Returns the moments that must not wait any longer."""
        self._waiting.append((frame, epoch, spoken))
        return self._out(frame - _MAX_DELAY)

    def drawn(self, frame: int, image: np.ndarray) -> list[Moment]:
        """Adds a frame's picture [S, S, 4]. Returns the moments that it completes."""
        if self._image is None:
            self._image = image
        moments = self._out(frame - 1)
        self._image = image
        if self._waiting and self._waiting[0][0] == frame:
            moments.append(self._moment())
        return moments

    def clear(self) -> None:
        """Drops the audio of pending frames, but keeps their pictures."""
        self._waiting = deque((frame, epoch, Spoken()) for frame, epoch, _ in self._waiting)

    def _out(self, last: int) -> list[Moment]:
        """Moments up to frame `last`, with the latest picture; none before the first picture."""
        moments = []
        while self._image is not None and self._waiting and self._waiting[0][0] <= last:
            self.repeated += 1
            moments.append(self._moment())
        return moments

    def _moment(self) -> Moment:
        frame, epoch, spoken = self._waiting.popleft()
        assert self._image is not None
        return Moment(frame, epoch, self._image, spoken.sound, spoken.segment, spoken.ended)


class LocalAvatar:
    """One character, iterated by one consumer: 25 moments a second, during speech and silence.

    Time starts with the first iteration, and pauses while the consumer is more than 0.2 s behind, so that nothing is
    lost. Call all methods from the event loop that created it. `aclose` is idempotent and ends the iteration.
    """

    def __init__(
        self, avatar: Avatar, lookahead: int, engine: Engine, sample_rate: int, marker: Marker | None = None
    ) -> None:
        if lookahead > SAMPLES_PER_FRAME:
            raise ValueError(f"the look-ahead of {lookahead} samples exceeds a frame of {SAMPLES_PER_FRAME}")
        self.sample_rate = sample_rate
        self.size = avatar.size
        self.epoch = 0
        self.lost = 0.0
        """Seconds skipped because the event loop or the consumer stalled for more than 0.5 s."""
        self._segments = Segments(sample_rate)
        self._pcm: PcmDecoder | None = None  # of the current segment, if its speech comes as bytes
        self._speech = Speech(lookahead)
        self._pairing = Pairing()
        self._ready: deque[Moment] = deque()
        self._changed = asyncio.Event()  # the queues changed, or an error occurred
        self._heard = 0
        self._loop = asyncio.get_running_loop()
        self._avatar = avatar
        self._marker = marker
        self._slot: EngineSlot = engine.add(avatar, self._on_frame, lambda events: None, self._on_failure)
        self._running: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._closed = False

    @property
    def renderer(self) -> str:
        """Name of the current renderer, one of constants.RENDERERS."""
        return self._avatar.renderer

    # Speech in

    async def push(
        self, pcm: np.ndarray | bytes | bytearray | memoryview, rate: int | None = None, channels: int = 1
    ) -> int | None:
        """Queues speech: [n] or [n, c], int16 or floats in ±1, at `rate` in Hz, by default the avatar's own.

        Bytes are little-endian PCM16 with `channels` interleaved channels and may be cut anywhere: the segment's next
        piece completes a partial sample.

        Waits while 10 s are queued. `clear` also drops what still waits here. Returns the segment's number, or None if
        `clear` was called meanwhile or the bytes complete no sample. Raises ValueError, or RuntimeError if the avatar
        is closed.
        """
        rate = rate or self.sample_rate
        if not isinstance(pcm, np.ndarray) and isinstance(pcm, bytes | bytearray | memoryview):
            if self._pcm is None or self._pcm.channels != channels:
                self._pcm = PcmDecoder(channels)
            pcm = self._pcm.push(pcm)
            if not len(pcm):
                return None
        samples, epoch = to_mono(pcm), self.epoch
        number = None
        for first in range(0, max(len(samples), 1), rate):  # a second at a time
            while self.buffered >= _MOST_BUFFERED and not self._closed and epoch == self.epoch:
                await self._change()
            if self._closed:
                raise RuntimeError("the avatar is closed")
            if epoch != self.epoch:
                return None
            number = self._segments.push(samples[first : first + rate], rate)
        return number

    def end_segment(self) -> int | None:
        """Ends the current segment. Returns its number, or None if nothing was pushed since the last one."""
        self._pcm = None
        return self._segments.end()

    def clear(self) -> float:
        """Drops all queued speech and closes the mouth with the next frame.

        Returns the seconds of the current segment that the consumer has received; 0.0 if there is none.
        """
        position = self.position
        self.epoch += 1
        self._heard = 0
        self._pcm = None
        self._segments.clear()
        self._pairing.clear()
        self._ready = deque(replace(m, sound=m.sound[:0], segment=None, ended=False) for m in self._ready)
        self._wake()
        return position

    @property
    def lead(self) -> float:
        """Seconds by which audio precedes its picture, for players that must not run dry; 0.0 by default."""
        return self._segments.lead

    @lead.setter
    def lead(self, seconds: float) -> None:
        self._segments.lead = seconds

    @property
    def position(self) -> float:
        """Seconds of the current segment that the consumer has received."""
        return self._heard / self.sample_rate

    @property
    def buffered(self) -> float:
        """Seconds of queued speech."""
        return self._segments.buffered

    @property
    def starved(self) -> int:
        """Frames in which the current segment's audio had run out: it was pushed more slowly than real time."""
        return self._segments.starved

    @property
    def repeated(self) -> int:
        """Moments that repeated an older picture."""
        return self._pairing.repeated

    def set_emotion(self, emotion: str, strength: float = 1.0) -> None:
        """Sets an emotion of `controls.EMOTIONS`, strength 0..1. Raises ValueError."""
        if emotion not in EMOTIONS or not 0 <= strength <= 1:
            raise ValueError(f"emotion {emotion!r}, strength {strength}: want one of {', '.join(EMOTIONS)}, 0 to 1")
        self._avatar.set_emotion(emotion, strength)

    def set_attention(self, state: str) -> None:
        """Sets the behaviour while not speaking, one of `controls.ATTENTIONS`. Raises ValueError."""
        if state not in ATTENTIONS:
            raise ValueError(f"state {state!r} is not one of {', '.join(ATTENTIONS)}")
        self._avatar.set_attention(state)

    def feel(self, emotion: str, strength: float = 1.0) -> None:
        """Deprecated name of `set_emotion`; removed in 0.3."""
        warnings.warn("LocalAvatar.feel is now set_emotion", DeprecationWarning, stacklevel=2)
        self.set_emotion(emotion, strength)

    def attend(self, state: str) -> None:
        """Deprecated name of `set_attention`; removed in 0.3."""
        warnings.warn("LocalAvatar.attend is now set_attention", DeprecationWarning, stacklevel=2)
        self.set_attention(state)

    def move(self, asked: MotionCommand) -> None:
        """Moves head, eyes, brows, body or hands until the command expires."""
        self._avatar.move(asked)

    # Moments out

    def __aiter__(self) -> "LocalAvatar":
        return self

    async def __anext__(self) -> Moment:
        """Raises RuntimeError if the character cannot be drawn."""
        if self._running is None and not self._closed:
            self._running = self._loop.create_task(self._run())
            self._running.add_done_callback(self._ended)
        while not self._ready and not self._closed and self._failure is None:
            await self._change()
        if self._failure is not None:
            raise RuntimeError(f"the character could not be drawn: {self._failure}") from self._failure
        if self._closed:
            raise StopAsyncIteration
        moment = self._ready.popleft()
        self._heard = 0 if moment.ended else self._heard + len(moment.sound)
        self._wake()
        return moment

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._wake()
        self._slot.close()
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    # In between

    def _wake(self) -> None:
        """Wakes all waiters to check their conditions again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()

    async def _run(self) -> None:
        """Runs the avatar's clock: one frame every 40 ms."""
        self._tick(0)
        while not self._pairing.begun:
            await self._change()
        frame, due = 1, clock.now() + 1 / FPS
        while True:
            while len(self._ready) >= _MOST_READY:
                await self._change()
            now = clock.now()
            if now - due > _MOST_BEHIND:
                self.lost += now - due
                due = now
            await asyncio.sleep(max(due - now, 0.0))
            self._tick(frame)
            frame += 1
            due += 1 / FPS

    def _tick(self, frame: int) -> None:
        spoken, now = self._segments.take(), clock.now()
        for number, samples in self._speech.push(frame * SAMPLES_PER_FRAME, spoken.heard):
            self._slot.submit(Step(number, self.epoch, samples, times=Times(captured=now, arrived=now)))
        self._hand_out(self._pairing.said(frame, self.epoch, spoken))

    def _ended(self, task: asyncio.Task) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _hand_out(self, moments: list[Moment]) -> None:
        self._ready.extend(moments)
        self._wake()

    def _on_frame(self, frame: Frame) -> None:
        """Runs on the engine's thread."""
        if self._marker is not None:
            self._marker.apply(frame.image)
        image = to_rgba(frame.image)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(lambda: self._hand_out(self._pairing.drawn(frame.frame, image)))

    def _on_failure(self, error: Exception) -> None:
        """Runs on the engine's thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        if self._running is not None:
            self._running.cancel()
        self._wake()


class Runtime:
    """What the avatars of a process share: the generator, the articulation network and the engine's thread."""

    def __init__(
        self,
        generator: RendererBackend,
        listener: ArticulationModel,
        characters: Characters | None = None,
        admission: AdmissionConfig | None = None,
    ) -> None:
        self.characters = characters or Characters(needs_face=generator.name == "neural")
        self._generator = generator
        self._listener = listener
        self._admission = admission or AdmissionConfig()
        self._avatars: list[LocalAvatar] = []
        self._cost_of: dict[tuple[str, int], float] = {}
        self._opening = 0
        self._engine = Engine()
        self._engine.start()

    @classmethod
    def load(
        cls, generator: str = GENERATORS[0], device: str = DEVICES[0], admission: AdmissionConfig | None = None
    ) -> "Runtime":
        """Loads a generator of constants.GENERATORS on a device of constants.DEVICES.

        Blocking: some seconds, and up to a minute for "auto" the first time on a machine. Raises ValueError or
        `NotInstalled`.
        """
        admission = admission or AdmissionConfig()
        backend = create(generator, device, admission.max_sessions)
        runtime = cls(backend, Articulation.load(), admission=admission)
        runtime._warm_up()
        return runtime

    def _warm_up(self) -> None:
        """Estimates each renderer's cost per frame. Blocking.

        A process's first frames are the slowest, so this also keeps them out of the avatars' own measurements.
        """
        self._cost_of = frame_costs(self._generator, self._listener, self.characters)

    def _cost(self, renderer: str, size: int) -> float:
        """Estimated share of the engine's thread that an avatar with this renderer and size needs."""
        slots = [avatar._slot for avatar in self._avatars if avatar.size == size]
        known = [slot.cost for slot in slots if slot.renderer == renderer and slot.cost]
        return FPS * max(known, default=self._cost_of.get((renderer, size), 0.0))

    async def avatar(
        self,
        character: str | Path | Sequence[Path] = "",
        *,
        size: int | None = None,
        sample_rate: int = 24_000,
        background: bool = True,
        label: bool = True,
        watermark: bool = True,
    ) -> LocalAvatar:
        """Opens a character, given by its id in `characters`, by seed, or by one or several paths: pictures of one
        character, a folder of them, or a clip. Its audio is at `sample_rate`, in Hz.

        `size` is the pictures' edge in pixels, by default the renderer's own: see constants.DEFAULT_SIZES. By default,
        pictures are marked as synthetic with a visible `label` and an invisible `watermark`. Raises ValueError, or
        `RequestError`: 404 for an unknown character, 503 if the machine has no capacity left.
        """
        if size is not None and size not in SIZES:
            raise ValueError(f"size {size} is not one of {', '.join(map(str, SIZES))}")
        Segments(sample_rate)  # raises before anything is loaded
        self._avatars = [avatar for avatar in self._avatars if not avatar._closed]
        if isinstance(character, str):
            entry = self.characters.get(character or self.characters.default)
        else:
            paths = [character] if isinstance(character, Path) else character
            entry = await asyncio.get_running_loop().run_in_executor(None, self.characters.from_files, paths)
        if size is None:
            size = DEFAULT_SIZES[self._generator.renderer_name(entry)]
        count, cost = len(self._avatars) + self._opening, self._cost(self._generator.renderer_name(entry, size), size)
        unmeasured = sum(self._cost(each.renderer, each.size) for each in self._avatars if each._slot.cost == 0.0)
        verdict = admit(self._admission, count, self._engine.load + unmeasured, cost)
        if not verdict.admitted:
            raise RequestError(503, verdict.reason, verdict.detail, verdict.retry_after)
        self._opening += 1
        try:
            rig = await asyncio.get_running_loop().run_in_executor(
                None, self._generator.create_renderer, entry, size, background
            )
        finally:
            self._opening -= 1
        character_avatar = Avatar(self._listener, rig, IdleMotion(entry.seed or 0))
        marker = Marker(rig.size, label, watermark)
        avatar = LocalAvatar(character_avatar, self._listener.lookahead, self._engine, sample_rate, marker)
        self._avatars.append(avatar)
        return avatar

    async def aclose(self) -> None:
        """Closes the avatars and stops the engine; idempotent."""
        for avatar in self._avatars:
            await avatar.aclose()
        await asyncio.get_running_loop().run_in_executor(None, self._engine.close)
