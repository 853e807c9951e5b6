"""The microphone's meter: what it warns of, how often, and when it forgets. Time is an argument."""

import numpy as np

from streamer.session.microphone import _SILENT_AFTER, Meter

PACKET = 0.02


def samples(level: float) -> np.ndarray:
    return np.full(320, level, np.float32)


class Warned:
    """A meter, and the reasons that it gave."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.meter = Meter(lambda reason, detail: self.reasons.append(reason), 0.0)
        self.now = 0.0

    def hear(self, level: float, seconds: float) -> None:
        for _ in range(round(seconds / PACKET)):
            self.now += PACKET
            self.meter.take(samples(level), self.now)


def test_silence_is_told_once_and_again_after_sound() -> None:
    """Five seconds below -60 dB are one warning, however long they last; sound in between arms it anew."""
    told = Warned()
    told.hear(0.0005, _SILENT_AFTER)
    assert told.reasons == []
    told.hear(0.0005, 3 * _SILENT_AFTER)
    assert told.reasons == ["silent_microphone"]
    told.hear(0.1, PACKET)
    told.hear(0.0, 2 * _SILENT_AFTER)
    assert told.reasons == ["silent_microphone"] * 2


def test_quiet_speech_is_no_silence() -> None:
    """A packet above -60 dB every four seconds keeps the warning away."""
    told = Warned()
    for _ in range(10):
        told.hear(0.0, 4.0)
        told.hear(0.0011, PACKET)
    assert told.reasons == []


def test_clipping_is_told_when_it_lasts() -> None:
    """Some packets at full scale pass, twenty in a row are a warning, and only a clean minute arms it again."""
    told = Warned()
    told.hear(1.0, 20 * PACKET)
    assert told.reasons == []
    told.hear(1.0, 20 * PACKET)
    assert told.reasons == ["clipping"]
    told.hear(0.5, 10.0)
    told.hear(1.0, 1.0)
    assert told.reasons == ["clipping"]
    told.hear(0.5, 120.0)
    told.hear(1.0, 1.0)
    assert told.reasons == ["clipping"] * 2
