"""Sessions whose every moment is known: what the benchmarks' probe and the server would have recorded of them."""

from typing import Any

import numpy as np

from benchmarks.lib import alignment, session_analysis
from benchmarks.lib.recording import Recording
from streamer.audio.opus import OpusEncoder

RNG = np.random.default_rng(7)
OPUS_DELAY = 312  # samples at 48 kHz that libopus' "voip" encoder looks ahead


def voice_like(seconds: float = 8.0) -> alignment.Voice:
    """Syllables of harmonics at changing pitch, with a pause of a second in the middle."""
    sound = np.zeros(int(seconds * 48_000))
    at = 0
    while at < len(sound) - 12_000:
        count = int(RNG.uniform(0.09, 0.22) * 48_000)
        pitch = np.linspace(RNG.uniform(100, 250), RNG.uniform(100, 250), count)
        phase = 2 * np.pi * np.cumsum(pitch) / 48_000
        syllable = sum(np.sin(h * phase + RNG.uniform(0, 6)) / h for h in range(1, 18))
        sound[at : at + count] = (
            (syllable + 0.1 * RNG.standard_normal(count)) * np.hanning(count) * RNG.uniform(0.05, 0.2)
        )
        at += count
    middle = len(sound) // 2
    sound[middle : middle + 48_000] = 0
    return alignment.Voice(sound)


def stream_of(voice: alignment.Voice, start: float, seconds: float, rate: int) -> np.ndarray:
    """What a device at `rate` delivers of the loop from voice position `start` (48 kHz) on."""
    loop, _ = voice.at(rate)
    first = round(start * rate / 48_000)
    return loop[(first + np.arange(int(seconds * rate))) % len(loop)]


class World:
    """A session whose every moment is known: what the probe and the server would have recorded of it."""

    def __init__(
        self,
        voice: alignment.Voice,
        *,
        latency: float = 63.0,
        processing: int = 720,
        sound_late: float = 25.0,
        slip_at: int | None = None,
        rate: int = 48_000,
        seconds: float = 12.0,
        started: int = 960,
    ) -> None:
        """`processing`: samples that cleaning takes; `started`: voice position of the first packet's beginning."""
        self.voice, self.opened = voice, 2000.0
        blocks = int(seconds * 100)
        n = np.arange(blocks)
        self.callback = self.opened + 10.0 * (n + 1) + (np.where(n >= slip_at, 10.0, 0.0) if slip_at else 0.0)
        self.recording = recording = Recording()
        tapped = 3  # blocks before the tap
        size = rate // 100
        cleaned = np.roll(voice.samples, processing)
        loop, _ = alignment.Voice(cleaned).at(rate)
        for i in range(tapped, blocks):
            late = RNG.uniform(0, 0.3)
            recording.microphone.blocks.append([self.callback[i] + late, self.callback[i] + late + 0.3, size, rate])
            if i % 200 < 100:
                samples = loop[(i * size + np.arange(size)) % len(loop)]
                recording.microphone.chunks.append(((i - tapped) * size, samples))
        looks = self.callback[100::90] + 4.0
        recording.delivered = [[t, size * int(np.sum(self.callback + 0.4 < t))] for t in looks]

        encoder = OpusEncoder()
        self.audio_offset = 2**32 - 7000  # wraps within the run
        packets = int((seconds * 48_000 - started) / 960) - 5
        for i in range(packets):
            first = started + 960 * i
            part = cleaned[(first + np.arange(960)) % voice.period].astype(np.float32)
            stamp = (self.audio_offset + 960 * i) & 0xFFFFFFFF
            recording.packets.append((stamp, self.when(first + 960), encoder.encode(part)))

        offset = 5_000_000.0  # server's clock minus the page's
        recording.pongs = [[t, t + 1.0, t + 0.5 + offset] for t in np.arange(2000, 12_000, 500.0)]
        message = {"audio_rtp_offset": self.audio_offset, "lookahead_ms": 20.0}
        recording.events = [{"type": "hello", "at": 2100.0, "message": message}]
        self.k = np.arange(5, int(packets / 2) - 10)
        self.position = started + 1920.0 * self.k - OPUS_DELAY - processing
        captured = self.when(self.position)
        self.latency = latency + RNG.uniform(-2, 2, len(self.k))
        self.presented = captured + self.latency
        for k, shown, sample in zip(self.k.tolist(), self.presented.tolist(), captured.tolist(), strict=True):
            recording.frames.append([k, shown, shown - 1.0, shown + 12.0, k & 0xFFFFFF, None])
            moments = [sample + 5, shown - 20, shown - 19, shown - 12, shown - 8, shown - 6]
            recording.rows.append([k, 0, *(moment + offset for moment in moments)])

        # Played: the returned sound as it comes out of the jitter buffer, so late that a frame's sample is heard
        # `sound_late` after the frame; in the first second the buffer is still elsewhere.
        heard_after = latency + sound_late
        pulls = np.arange(3000.0, self.callback[-1] - 500, 10.0)
        for i, at in enumerate(pulls):
            begin = (at - heard_after - self.opened) * 48  # voice position heard now, were nothing to slip
            first = round(begin) + processing + OPUS_DELAY
            recording.played.blocks.append([at, at + 0.2, 480, 48_000])
            if i % 200 < 100:
                samples = cleaned[(first - OPUS_DELAY + np.arange(480)) % voice.period]
                recording.played.chunks.append((480 * i, samples))

    def when(self, position: Any) -> np.ndarray:
        """The capture of a voice position."""
        ends = 480.0 * np.arange(1, len(self.callback) + 1)
        return np.interp(position, ends, self.callback - ends / 48) + np.asarray(position) / 48

    def analyse(self, **options: Any) -> dict[str, Any]:
        options = {"begin": self.presented[20], "end": self.presented[-20], "output_delay_ms": 0.0} | options
        return session_analysis.analyse(self.recording, self.voice, keep=1.0, every=2.0, **options)


def soak_window(i: int, **changes: Any) -> dict[str, Any]:
    """A minute of a soak."""
    return {
        "at": 60.0 * i,
        "total_ms": {"p50": 60 + 0.3 * (-1) ** i, "p95": 70.0, "p99": 80.0},
        "skew_ms": None,
        "display": {"expected": 1500, "not_seen": 1, "freezes": 0, "misread": 0, "fps": 25.0},
        "memory_mb": {"server": 200.0 + (i % 3) * 0.5, "chromium": 600.0},
        "threads": 20,
    } | changes
