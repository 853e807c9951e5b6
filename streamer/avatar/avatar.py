"""The data path, and one character's state in it. Read this first.

    microphone ─Opus/RTP▶ audio ─16 kHz▶ Speech ─Step▶ engine: Avatar ─Frame▶ media: encoder ─Encoded▶ RTP
                            │                                                                        ▲
                            └─────────── the same Opus packets, synchronised with the video ─────────┘

`session/session.py` moves these messages for one peer; `avatar/engine.py` owns the thread that runs every session's
`Avatar`; `cli/render.py` runs one without a network. This module does not depend on asyncio or aiortc.
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
    """One session's state in the engine: processes speech one step at a time, and draws frames.

    Not thread-safe: the thread that runs the steps owns it. Only `set_renderer`, `set_emotion`, `move`,
    `play_gesture`, `set_attention` and `nod` may be called from other threads.
    """

    def __init__(self, listener: ArticulationModel, rig: Renderer, life: IdleMotion, vad: Vad | None = None) -> None:
        self._listener = listener
        self._articulation = listener.state()
        self._life = life
        self._plan = Plan()
        self._gestures = GesturePlayer()
        self._vad = vad
        self._gate = MouthGate() if vad is not None else None
        self._rest = silent_curves(listener) if vad is not None else None
        self._rig = rig
        self._next_rig: Renderer | None = None
        self._next_emotion: tuple[str, float] | None = None
        self._next_attention: str | None = None
        self._nod_next = False
        self._emotion = np.zeros(len(EMOTIONS), np.float32)
        self._conditions: tuple[np.ndarray, ArticulationFrame, np.ndarray] | None = None
        self._epoch = 0

    @property
    def size(self) -> int:
        return self._rig.size

    @property
    def renderer(self) -> str:
        """Name of the current renderer, one of constants.RENDERERS."""
        return self._rig.name

    def set_renderer(self, rig: Renderer) -> None:
        """Replaces the renderer from the next picture on, and closes the previous one.

        Raises ValueError if `rig` draws another size.
        """
        if rig.size != self._rig.size:
            raise ValueError(f"the new renderer's size is {rig.size}, but the session's is {self._rig.size}")
        displaced, self._next_rig = self._next_rig, rig
        if displaced is not None:
            displaced.close()

    def set_emotion(self, emotion: str, strength: float) -> None:
        """Sets an emotion of `controls.EMOTIONS`, strength 0..1, from the next step on."""
        self._next_emotion = (emotion, strength)

    def set_attention(self, state: str) -> None:
        """Sets the behaviour while not speaking, one of `controls.ATTENTIONS`, from the next step on."""
        self._next_attention = state

    def nod(self) -> None:
        """Lets the character nod if it is listening. Call it when the speaker pauses."""
        self._nod_next = True

    def move(self, asked: MotionCommand) -> None:
        """Moves head, eyes, brows, body or hands from the next step on, until the command expires."""
        self._plan.ask(asked)

    def play_gesture(self, gesture: str) -> None:
        """Plays a gesture of `gestures.GESTURES`, starting with the next step."""
        self._gestures.ask(gesture)

    def trust_voice(self) -> None:
        """Treats all audio as speech, regardless of voice activity. Call it before the first step."""
        self._gate = None

    def hear(self, step: Step) -> tuple[np.ndarray, list[VadEvent]]:
        """Processes one step. Returns the frame's controls [C], and the voice activity events that occurred.

        A `muted` step is processed as silence. The first step of a new epoch resets the articulation, so the mouth
        closes at once. While voice activity has found no speech for a while, other sounds do not move the mouth.
        """
        first = SAMPLES_PER_FRAME * (step.frame - 1) + self._listener.lookahead
        events = self._vad.push(step.samples, first) if self._vad else []
        if step.epoch != self._epoch:
            self._epoch = step.epoch
            self._articulation.reset()
        if self._next_emotion is not None:
            (emotion, strength), self._next_emotion = self._next_emotion, None
            self._life.emotion(emotion, strength)
            self._emotion = np.zeros(len(EMOTIONS), np.float32)
            self._emotion[EMOTIONS.index(emotion)] = strength
        if self._next_attention is not None:
            attention, self._next_attention = self._next_attention, None
            self._life.set_attention(attention)
        if self._nod_next:
            self._nod_next = False
            self._life.nod()
        heard = np.zeros_like(step.samples) if step.muted else step.samples
        curves = self._gated(self._listener.step(self._articulation, heard))
        for move in self._gestures.due(step.frame):
            self._plan.ask(move)
        controls = self._plan.apply(self._life.step(curves.mouth, curves.prosody), step.frame)
        self._conditions = controls, curves, self._emotion
        self._change_rig()
        if isinstance(self._rig, ConditionedRenderer):
            self._rig.hear(*self._conditions)
        return controls, events

    def _gated(self, curves: ArticulationFrame) -> ArticulationFrame:
        """The curves, faded to rest while voice activity finds no speech."""
        if self._gate is None or self._vad is None or self._rest is None:
            return curves
        return gated(curves, self._rest, self._gate.step(self._vad.probability, float(curves.mouth[_OPENING])))

    def _change_rig(self) -> bool:
        """Switches to the next renderer, if one was set. Returns whether it did."""
        if self._next_rig is None:
            return False
        old, self._rig, self._next_rig = self._rig, self._next_rig, None
        old.close()
        return True

    def draw(self, controls: np.ndarray, seconds: float) -> Picture:
        """The frame's picture, valid until the next call."""
        return self._ready().draw(controls, seconds)

    def _ready(self) -> Renderer:
        """The renderer to draw with. One that was set since the last step first receives that step's conditions."""
        if self._change_rig() and self._conditions is not None and isinstance(self._rig, ConditionedRenderer):
            self._rig.hear(*self._conditions)
        return self._rig

    def batch_key(self) -> tuple[object, int] | None:
        """The key that avatars in one `render_batch` must share, and the maximum batch size.

        None if the renderer does not support batched rendering.
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
    """Draws several avatars, given their controls [C] and times in seconds, after `hear` has processed their frames.

    Returns what `draw` would return for each, or the exception with which it failed. An avatar whose renderer was
    replaced after the batch was chosen, and no longer shares its key, is drawn separately.
    """
    drawn: list[Picture | Exception | None] = [None] * len(asked)
    batches: dict[object, list[tuple[int, BatchRenderer]]] = {}
    for i, (avatar, controls, seconds) in enumerate(asked):
        try:
            rig = avatar._ready()
            if isinstance(rig, BatchRenderer):
                batches.setdefault(rig.batch_key, []).append((i, rig))
            else:
                drawn[i] = rig.draw(controls, seconds)
        except Exception as error:
            drawn[i] = error
    for members in batches.values():
        rigs = [rig for _, rig in members]
        try:
            pictures = rigs[0].render_batch(rigs)
        except Exception as error:
            pictures = [error] * len(rigs)
        for (i, _), picture in zip(members, pictures, strict=True):
            drawn[i] = picture
    return [each for each in drawn if each is not None]
