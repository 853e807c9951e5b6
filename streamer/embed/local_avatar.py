"""A character in this process, without a network: speech is pushed in, pictures with their sound are iterated out.

    push ─▶ Segments ─sound──────────────────▶ Pairing ─Moment▶ async for
               └─16 kHz▶ Speech ─Step▶ engine ─Frame──▲

One `Runtime` holds what a process loads once; each of its avatars runs at 25 frames a second for as long as somebody
iterates over it, and speaks what it is given in real time, however fast it comes.

Letters used in shapes: S the picture's edge, n samples, c channels.
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

_MOST_BUFFERED = 10.0  # seconds of speech that wait to be said; who pushes more waits, and nothing is dropped
_MOST_READY = 5  # moments that wait to be iterated; with more the avatar's time stands still
_PATIENCE = 2  # frame intervals that sound waits for its picture before it goes with the last one
_MOST_BEHIND = 0.5  # seconds of standstill that are made up for; more are left out


@dataclass(frozen=True, slots=True)
class Moment:
    """A picture, and what is said while it is shown: 40 ms."""

    frame: int
    epoch: int
    """Interruptions so far."""
    image: np.ndarray
    """[S, S, 4] uint8 straight RGBA. It may be another moment's too: not to be changed."""
    sound: np.ndarray
    """[n] int16, mono, at the avatar's rate: 40 ms, but for the lead at a segment's begin, and less at its end."""
    segment: int | None
    """The number that `push` gave for the segment that is said; None in silence."""
    ended: bool
    """The segment's last."""

    @property
    def pts(self) -> int:
        """In samples at 16 kHz."""
        return self.frame * SAMPLES_PER_FRAME


class Pairing:
    """Brings what is said and its picture together again, in order. Pure: time is counted in frames.

    A picture that takes too long is passed over: its sound goes with the last one that there was.
    """

    def __init__(self) -> None:
        self.repeated = 0
        """Moments that show an older picture, since their own was not drawn, or not in time."""
        self._waiting: deque[tuple[int, int, Spoken]] = deque()  # frame, epoch; at most _PATIENCE once one was drawn
        self._image: np.ndarray | None = None

    @property
    def begun(self) -> bool:
        """A picture has been drawn."""
        return self._image is not None

    def said(self, frame: int, epoch: int, spoken: Spoken) -> list[Moment]:
        """Frame's sound is due. Returns the moments that can wait no longer."""
        self._waiting.append((frame, epoch, spoken))
        return self._out(frame - _PATIENCE)

    def drawn(self, frame: int, image: np.ndarray) -> list[Moment]:
        """Frame's picture [S, S, 4] is there. Returns the moments that it completes."""
        if self._image is None:
            self._image = image
        moments = self._out(frame - 1)
        self._image = image
        if self._waiting and self._waiting[0][0] == frame:
            moments.append(self._moment())
        return moments

    def clear(self) -> None:
        """What is still to be said is not; its pictures come."""
        self._waiting = deque((frame, epoch, Spoken()) for frame, epoch, _ in self._waiting)

    def _out(self, last: int) -> list[Moment]:
        """Those up to frame `last`, with the last picture; none before there is one."""
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
    """One character, to be iterated by one consumer: 25 moments a second, also while nothing is said.

    Its time begins with the first iteration, and stands still while the consumer holds more than 0.2 s up, so that
    nothing is lost. All methods belong to the event loop that made it. `aclose` is idempotent and ends the iteration.
    """

    def __init__(
        self, avatar: Avatar, lookahead: int, engine: Engine, sample_rate: int, marker: Marker | None = None
    ) -> None:
        if lookahead > SAMPLES_PER_FRAME:
            raise ValueError(f"a look-ahead of {lookahead} samples: a frame's {SAMPLES_PER_FRAME} are at hand")
        self.sample_rate = sample_rate
        self.size = avatar.size
        self.epoch = 0
        self.lost = 0.0
        """Seconds left out, because the event loop or the consumer stood still for longer."""
        self._segments = Segments(sample_rate)
        self._pcm: PcmDecoder | None = None  # of the segment under way, if its speech comes as bytes
        self._speech = Speech(lookahead)
        self._pairing = Pairing()
        self._ready: deque[Moment] = deque()
        self._changed = asyncio.Event()  # something was made, taken, or went wrong
        self._heard = 0
        self._loop = asyncio.get_running_loop()
        self._avatar = avatar
        self._marker = marker
        self._seat: EngineSlot = engine.add(avatar, self._on_frame, lambda events: None, self._on_failure)
        self._running: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._closed = False

    @property
    def renderer(self) -> str:
        """What draws it, one of constants.RENDERERS."""
        return self._avatar.renderer

    # Speech in

    async def push(
        self, pcm: np.ndarray | bytes | bytearray | memoryview, rate: int | None = None, channels: int = 1
    ) -> int | None:
        """Speaks [n] or [n, c], int16 or floats of ±1, at `rate`, by default the avatar's own.

        Bytes are little-endian PCM16 of `channels` interleaved channels and may be cut anywhere: what is left of an
        incomplete sample is completed by the next piece of the segment.

        Waits while 10 s are waiting to be said; what `clear` finds waiting here is forgotten too. Returns the number
        of its segment; None if `clear` came first, or if bytes do not complete a sample. Raises ValueError, or
        RuntimeError if the avatar is closed.
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
        """What was pushed since the last segment is one. Returns its number, None where nothing was."""
        self._pcm = None
        return self._segments.end()

    def clear(self) -> float:
        """
        Forgets what is to be said and closes the mouth with the next frame. Returns the seconds of the segment under
        way that were handed to the consumer; 0.0 where none is.
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
        """Seconds of sound handed out ahead of their picture, for players that must not run dry; 0.0 at first."""
        return self._segments.lead

    @lead.setter
    def lead(self, seconds: float) -> None:
        self._segments.lead = seconds

    @property
    def position(self) -> float:
        """Seconds of the segment under way that were handed to the consumer."""
        return self._heard / self.sample_rate

    @property
    def buffered(self) -> float:
        """Seconds of speech that wait to be said."""
        return self._segments.buffered

    @property
    def starved(self) -> int:
        """Frames for which a segment under way had nothing to say: it came slower than it is said."""
        return self._segments.starved

    @property
    def repeated(self) -> int:
        """Moments with an older picture than their own."""
        return self._pairing.repeated

    def set_emotion(self, emotion: str, strength: float = 1.0) -> None:
        """Turns towards an emotion of `controls.EMOTIONS`, strength 0..1. Raises ValueError."""
        if emotion not in EMOTIONS or not 0 <= strength <= 1:
            raise ValueError(f"emotion {emotion!r}, strength {strength}: want one of {', '.join(EMOTIONS)}, 0 to 1")
        self._avatar.set_emotion(emotion, strength)

    def set_attention(self, state: str) -> None:
        """What it does while it does not speak, one of `controls.ATTENTIONS`. Raises ValueError."""
        if state not in ATTENTIONS:
            raise ValueError(f"state {state!r} is none of {', '.join(ATTENTIONS)}")
        self._avatar.set_attention(state)

    def feel(self, emotion: str, strength: float = 1.0) -> None:
        """The name of `set_emotion` in 0.1; goes with 0.3."""
        warnings.warn("LocalAvatar.feel is now set_emotion", DeprecationWarning, stacklevel=2)
        self.set_emotion(emotion, strength)

    def attend(self, state: str) -> None:
        """The name of `set_attention` in 0.1; goes with 0.3."""
        warnings.warn("LocalAvatar.attend is now set_attention", DeprecationWarning, stacklevel=2)
        self.set_attention(state)

    def move(self, asked: MotionCommand) -> None:
        """Moves head, eyes, brows, body or hands, until it lapses."""
        self._avatar.move(asked)

    # Moments out

    def __aiter__(self) -> "LocalAvatar":
        return self

    async def __anext__(self) -> Moment:
        """Raises RuntimeError where the character cannot be drawn."""
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
        self._seat.close()
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    # In between

    def _wake(self) -> None:
        """All who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()

    async def _run(self) -> None:
        """Time goes by: a frame each 40 ms."""
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
            self._seat.submit(Step(number, self.epoch, samples, times=Times(captured=now, arrived=now)))
        self._hand_out(self._pairing.said(frame, self.epoch, spoken))

    def _ended(self, task: asyncio.Task) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _hand_out(self, moments: list[Moment]) -> None:
        self._ready.extend(moments)
        self._wake()

    def _on_frame(self, frame: Frame) -> None:
        """On the engine's thread."""
        if self._marker is not None:
            self._marker.apply(frame.image)
        image = to_rgba(frame.image)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(lambda: self._hand_out(self._pairing.drawn(frame.frame, image)))

    def _on_failure(self, error: Exception) -> None:
        """On the engine's thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        if self._running is not None:
            self._running.cancel()
        self._wake()


class Runtime:
    """What the avatars of a process share: the generator, the articulation network and the thread that draws."""

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
        """
        Loads a generator of constants.GENERATORS on a device of constants.DEVICES. Blocking, some seconds, and for
        "auto" up to a minute the first time on a machine. Raises ValueError, or `NotInstalled`.
        """
        admission = admission or AdmissionConfig()
        drawing = create(generator, device, admission.max_sessions)
        runtime = cls(drawing, Articulation.load(), admission=admission)
        runtime._warm_up()
        return runtime

    def _warm_up(self) -> None:
        """
        Learns what each renderer's frames take. The first frames of a process take longest: no avatar is to be measured
        by them. Blocking.
        """
        self._cost_of = frame_costs(self._generator, self._listener, self.characters)

    def _cost(self, renderer: str, size: int) -> float:
        """Estimated share of the engine's thread that an avatar takes which a renderer draws at `size`."""
        seats = [avatar._seat for avatar in self._avatars if avatar.size == size]
        known = [seat.cost for seat in seats if seat.renderer == renderer and seat.cost]
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
        """A character by its id in `characters`, or by seed, whose sound comes at `sample_rate`; or by a path, or
        several: pictures of one character, a folder with them, or a clip.

        Without a `size` its pictures have its renderer's size in constants.DEFAULT_SIZES. Its pictures are
        marked as synthetic by a label that people see and a watermark that they do not, unless told otherwise. Raises
        ValueError, or `RequestError`: 404 for a character that is none, 503 where the machine has no time for it.
        """
        if size is not None and size not in SIZES:
            raise ValueError(f"size {size} is none of {', '.join(map(str, SIZES))}")
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
        fresh = sum(self._cost(each.renderer, each.size) for each in self._avatars if each._seat.cost == 0.0)
        verdict = admit(self._admission, count, self._engine.load + fresh, cost)
        if not verdict.admitted:
            raise RequestError(503, verdict.reason, verdict.detail, verdict.retry_after)
        self._opening += 1
        try:
            rig = await asyncio.get_running_loop().run_in_executor(
                None, self._generator.create_renderer, entry, size, background
            )
        finally:
            self._opening -= 1
        drawn = Avatar(self._listener, rig, IdleMotion(entry.seed or 0))
        marker = Marker(rig.size, label, watermark)
        avatar = LocalAvatar(drawn, self._listener.lookahead, self._engine, sample_rate, marker)
        self._avatars.append(avatar)
        return avatar

    async def aclose(self) -> None:
        """Closes the avatars and ends the thread; idempotent."""
        for avatar in self._avatars:
            await avatar.aclose()
        await asyncio.get_running_loop().run_in_executor(None, self._engine.close)
