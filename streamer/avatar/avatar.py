"""The way of the data, and one character's part of it. Read this first.

    microphone ─Opus/RTP▶ ingest ─16 kHz▶ Speech ─Step▶ generator: Avatar ─Frame▶ encode ─Encoded▶ RTP
                            │                                                                      ▲
                            └──────────── the same Opus packets, timed by pacing ──────────────────┘

`session.py` moves these messages for one peer; `generator.py` owns the thread that runs every session's `Avatar`;
`render.py` runs one without a network. This module knows no asyncio and no aiortc.
"""

from collections.abc import Sequence

import numpy as np

from streamer.audio.vad import Vad, VadEvent
from streamer.avatar.renderer import BatchRenderer, ConditionedRenderer, Renderer
from streamer.base.constants import SAMPLES_PER_FRAME
from streamer.base.frames import Step
from streamer.base.image import Picture
from streamer.motion.articulation import ArticulationFrame, ArticulationModel
from streamer.motion.controls import EMOTIONS, MOUTH
from streamer.motion.gestures import GesturePlayer
from streamer.motion.idle import IdleMotion
from streamer.motion.mouth_gate import MouthGate, gated, silent_curves
from streamer.motion.plan import MotionCommand, Plan

_OPENING = MOUTH.index("open")


class Avatar:
    """A character that hears a step at a time and can be drawn: all of one session's state in the generator.

    Not thread-safe: whoever runs the steps owns it. `set_renderer`, `set_emotion`, `move`, `play_gesture`,
    `set_attention` and `nod` alone may be called from elsewhere.
    """

    def __init__(self, listener: ArticulationModel, rig: Renderer, life: IdleMotion, vad: Vad | None = None) -> None:
        self._listener = listener
        self._articulation = listener.state()
        self._life = life
        self._plan = Plan()
        self._acting = GesturePlayer()
        self._vad = vad
        self._gate = MouthGate() if vad is not None else None
        self._rest = silent_curves(listener) if vad is not None else None
        self._rig = rig
        self._next_rig: Renderer | None = None
        self._feeling: tuple[str, float] | None = None
        self._attention: str | None = None
        self._assents = False
        self._emotion = np.zeros(len(EMOTIONS), np.float32)
        self._told: tuple[np.ndarray, ArticulationFrame, np.ndarray] | None = None
        self._epoch = 0

    @property
    def size(self) -> int:
        return self._rig.size

    @property
    def renderer(self) -> str:
        """What draws it now, one of constants.RENDERERS."""
        return self._rig.name

    def set_renderer(self, rig: Renderer) -> None:
        """
        Has the next picture drawn by `rig`, whatever drew it before; it must be of the same size. The one worn until
        then is closed.
        """
        if rig.size != self._rig.size:
            raise ValueError(f"rig of size {rig.size}, session of {self._rig.size}")
        displaced, self._next_rig = self._next_rig, rig
        if displaced is not None:
            displaced.close()

    def set_emotion(self, emotion: str, strength: float) -> None:
        """Turns towards an emotion of `controls.EMOTIONS`, strength 0..1, from the next step on."""
        self._feeling = (emotion, strength)

    def set_attention(self, state: str) -> None:
        """What it does while it does not speak, one of `controls.ATTENTIONS`, from the next step on."""
        self._attention = state

    def nod(self) -> None:
        """Where it listens, it may nod now: the speaker has paused."""
        self._assents = True

    def move(self, asked: MotionCommand) -> None:
        """Moves head, eyes, brows, body or hands as the user asks, from the next step on, until it lapses."""
        self._plan.ask(asked)

    def play_gesture(self, gesture: str) -> None:
        """Makes a gesture of `gestures.GESTURES`, from the next step on."""
        self._acting.ask(gesture)

    def trust_voice(self) -> None:
        """What it hears is speech, whatever voice activity makes of it. Call it before the first step."""
        self._gate = None

    def hear(self, step: Step) -> tuple[np.ndarray, list[VadEvent]]:
        """One step: controls [C] of its frame, and whether somebody began or ceased to speak.

        A step whose speech is `muted`, or the first of a new epoch, finds the mouth at rest at once. Where voice
        activity finds no speech for a while, what else is heard does not move the mouth.
        """
        first = SAMPLES_PER_FRAME * (step.frame - 1) + self._listener.lookahead
        events = self._vad.push(step.samples, first) if self._vad else []
        if step.epoch != self._epoch:
            self._epoch = step.epoch
            self._articulation.reset()
        if self._feeling is not None:
            feeling, self._feeling = self._feeling, None
            self._life.emotion(*feeling)
            self._emotion = np.zeros(len(EMOTIONS), np.float32)
            self._emotion[EMOTIONS.index(feeling[0])] = feeling[1]
        if self._attention is not None:
            attention, self._attention = self._attention, None
            self._life.set_attention(attention)
        if self._assents:
            self._assents = False
            self._life.nod()
        heard = np.zeros_like(step.samples) if step.muted else step.samples
        curves = self._gated(self._listener.step(self._articulation, heard))
        for move in self._acting.due(step.frame):
            self._plan.ask(move)
        controls = self._plan.apply(self._life.step(curves.mouth, curves.prosody), step.frame)
        self._told = controls, curves, self._emotion
        self._change_rig()
        if isinstance(self._rig, ConditionedRenderer):
            self._rig.hear(*self._told)
        return controls, events

    def _gated(self, curves: ArticulationFrame) -> ArticulationFrame:
        """The curves, as far as what was heard may be speech."""
        if self._gate is None or self._vad is None or self._rest is None:
            return curves
        return gated(curves, self._rest, self._gate.step(self._vad.probability, float(curves.mouth[_OPENING])))

    def _change_rig(self) -> bool:
        """Puts on the rig that was asked for, if any."""
        if self._next_rig is None:
            return False
        old, self._rig, self._next_rig = self._rig, self._next_rig, None
        old.close()
        return True

    def draw(self, controls: np.ndarray, seconds: float) -> Picture:
        """The frame's picture, valid until the next call."""
        return self._ready().draw(controls, seconds)

    def _ready(self) -> Renderer:
        """The rig to draw with: one put on since the frame was heard is told what was heard."""
        if self._change_rig() and self._told is not None and isinstance(self._rig, ConditionedRenderer):
            self._rig.hear(*self._told)
        return self._rig

    def batch_key(self) -> tuple[object, int] | None:
        """
        Equal for avatars that `render_batch` draws at once, and how many it draws at most; None for one that is drawn
        by itself.
        """
        if isinstance(self._rig, BatchRenderer) and self._next_rig is None:
            return self._rig.batch_key, self._rig.max_batch_size
        return None

    def close(self) -> None:
        self._rig.close()
        if self._next_rig is not None:
            self._next_rig.close()
            self._next_rig = None


def render_batch(asked: Sequence[tuple[Avatar, np.ndarray, float]]) -> list[Picture | Exception]:
    """
    What `draw` gives for each of several avatars with their controls [C] and seconds, which have heard their frames;
    one's failure stands in its place.

    They were of one kin when they were chosen. One that has put on a rig of another kind since is drawn by itself.
    """
    drawn: list[Picture | Exception | None] = [None] * len(asked)
    kindred: dict[object, list[tuple[int, BatchRenderer]]] = {}
    for i, (avatar, controls, seconds) in enumerate(asked):
        try:
            rig = avatar._ready()
            if isinstance(rig, BatchRenderer):
                kindred.setdefault(rig.batch_key, []).append((i, rig))
            else:
                drawn[i] = rig.draw(controls, seconds)
        except Exception as error:
            drawn[i] = error
    for members in kindred.values():
        rigs = [rig for _, rig in members]
        try:
            pictures = rigs[0].render_batch(rigs)
        except Exception as error:
            pictures = [error] * len(rigs)
        for (i, _), picture in zip(members, pictures, strict=True):
            drawn[i] = picture
    return [each for each in drawn if each is not None]
