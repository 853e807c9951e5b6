"""Whether a sound that would open the mouth is speech: music, sirens and hum are not to hold it open.

The articulation network was trained on speech and answers to whatever has formants. Voice activity knows better but
later, so the gate trusts a sound at first, and shuts when voice activity has found no speech in it for a while. Sound
that begins after silence therefore opens the mouth as if there were no gate. Pure: time is counted in frames.
"""

from weakref import WeakKeyDictionary

import numpy as np

from streamer.base.constants import FPS, SAMPLES_PER_FRAME
from streamer.motion.articulation import ArticulationFrame, ArticulationModel

SPEECH = 0.5
"""Probability of speech that is certain enough to trust what follows for longer: a note may be held."""

EVIDENCE = 0.15
"""Probability above which a sound may be speech: whispering passes it within each second, a chord or a siren never."""

_TRUST = 1.0  # seconds for which the mouth moves without evidence
_CREDIT = 1.0  # seconds on top of it, after speech
_FORGET = 0.25  # seconds of doubt that a second of silence takes away
_REOPEN = 0.5  # doubt at which a shut gate opens again without evidence
_OPEN = 0.1  # of the mouth's opening, above which it counts as moved by the sound
_ATTACK = 0.040  # seconds to come in
_RELEASE = 0.300  # seconds to go out
_SETTLE = 25  # frames of silence after which the curves of silence stand still


class MouthGate:
    """One stream's gate."""

    def __init__(self) -> None:
        self.gain = 1.0
        """0..1: how much of the curves is let through."""
        self._doubt = 0.0  # seconds of sound without evidence of speech; negative: credit
        self._shut = False

    def step(self, probability: float, opening: float) -> float:
        """The next frame's gain. `probability` of speech at its time, and how far the sound would open the mouth."""
        if probability >= SPEECH:
            self._doubt = -_CREDIT
        elif probability >= EVIDENCE:
            self._doubt = min(self._doubt, 0.0)
        elif opening > _OPEN:
            self._doubt = min(self._doubt + 1 / FPS, _TRUST)
        elif self._doubt > 0:
            self._doubt = max(self._doubt - _FORGET / FPS, 0.0)
        self._shut = self._doubt >= (_REOPEN if self._shut else _TRUST)
        if not self._shut:
            self.gain = min(self.gain + 1 / (FPS * _ATTACK), 1.0)
        else:
            self.gain = max(self.gain - 1 / (FPS * _RELEASE), 0.0)
        return self.gain

    def reset(self) -> None:
        """As before the first step."""
        self.gain, self._doubt, self._shut = 1.0, 0.0, False


_SILENT: WeakKeyDictionary[ArticulationModel, ArticulationFrame] = WeakKeyDictionary()


def silent_curves(listener: ArticulationModel) -> ArticulationFrame:
    """What a listener says of silence; computed once for each."""
    if (curves := _SILENT.get(listener)) is None:
        state, silence = listener.state(), np.zeros(SAMPLES_PER_FRAME, np.float32)
        for _ in range(_SETTLE):
            curves = listener.step(state, silence)
        assert curves is not None
        _SILENT[listener] = curves
    return curves


def gated(curves: ArticulationFrame, rest: ArticulationFrame, gain: float) -> ArticulationFrame:
    """The curves, faded towards those of silence: 1 leaves them as they are, 0 is `rest`."""
    if gain == 1.0:
        return curves
    parts = ((getattr(curves, part), getattr(rest, part)) for part in ("mouth", "prosody", "embedding"))
    return ArticulationFrame(*(still + np.float32(gain) * (moved - still) for moved, still in parts))
