"""Which microphone sample is this, and when was it captured, heard, seen? Pure functions on what a run recorded.

Everything is expressed in *voice positions*: samples at 48 kHz, counted from the first that the microphone delivered.
The microphone plays a voice of `period` samples in a loop, so the sound at position w is voice[w mod period].
Times are milliseconds on the page's clock.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from benchmarks.lib.errors import Unmeasurable

RATE = 48_000
PER_MS = RATE // 1000
BLOCK_MS = 10.0  # length of the blocks in which a device delivers its samples
_BAND = (150.0, 4000.0)  # Hz: where speech is, and what browsers' noise suppression leaves


@dataclass(frozen=True)
class Voice:
    """A looped recording. `samples` [n] float at 48 kHz; n a multiple of 480: a loop is a whole number of blocks."""

    samples: np.ndarray
    _spectra: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.samples) % 480 or not len(self.samples):
            raise ValueError(f"a voice of {len(self.samples)} samples: want a multiple of 480, at least one")

    @property
    def period(self) -> int:
        return len(self.samples)

    def at(self, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """The loop at another rate, and its spectrum. Exact: a loop has a discrete spectrum, so it is cut or padded."""
        if rate not in self._spectra:
            count = self.period * rate / RATE
            if count != int(count):
                raise ValueError(f"a loop of {self.period} samples at {RATE} Hz has {count:g} at {rate} Hz")
            wanted = int(count) // 2 + 1
            spectrum = np.zeros(wanted, complex)
            own = np.fft.rfft(self.samples)
            spectrum[: min(wanted, len(own))] = own[:wanted]
            loop = np.fft.irfft(spectrum, int(count)) * (rate / RATE)
            self._spectra[rate] = loop, np.fft.rfft(loop)
        return self._spectra[rate]

    def locate(self, piece: np.ndarray, rate: int, near: float | None = None) -> "Found":
        """Where in the loop `piece` begins; with `near`, a voice position, only within half a second round it."""
        loop, spectrum = self.at(rate)
        first = 0
        if near is not None:
            margin = rate // 2
            first = round(near * rate / RATE) - margin
            loop = loop[(first + np.arange(len(piece) + 2 * margin)) % len(loop)]
            spectrum = np.fft.rfft(loop)
        if len(piece) > len(loop):
            raise ValueError(f"a piece of {len(piece)} samples is longer than the loop of {len(loop)}")
        crossed = spectrum * np.conj(np.fft.rfft(piece, len(loop)))
        # Whitened (PHAT), within the band of speech: a plain correlation takes a louder passage, or the voice a pitch
        # period later, for the place, all the more once a browser has cleaned the voice.
        hertz = np.fft.rfftfreq(len(loop), 1 / rate)
        band = (hertz > _BAND[0]) & (hertz < min(_BAND[1], 0.45 * rate))
        match = np.fft.irfft(np.where(band, crossed / np.maximum(np.abs(crossed), 1e-12), 0), len(loop))
        best = int(np.argmax(match))
        before, peak, after = match[best - 1], match[best], match[(best + 1) % len(loop)]
        bend = before - 2 * peak + after
        shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
        return Found(
            position=float((first + best + shift) * RATE / rate % self.period),
            prominence=float(peak / (match.std() or 1.0)),
        )


@dataclass(frozen=True)
class Found:
    """A place in a voice. `position`: to a fraction of a sample."""

    position: float
    prominence: float
    """How far it stands out, in standard deviations of all places: right ones give 20 to 50, wrong ones 5 to 12."""

    @property
    def certain(self) -> bool:
        return self.prominence >= 15


@dataclass(frozen=True)
class Anchor:
    """A piece of sound that was found in the voice."""

    at: float
    """Where it stands in its stream: position at 48 kHz since the stream's beginning."""
    offset: float
    """Its voice position minus `at`, modulo the period."""
    prominence: float


def pieces(chunks: Iterable[tuple[int, np.ndarray]], length: int) -> list[tuple[int, np.ndarray]]:
    """Chunks (position, samples) in order, joined where they touch and cut to pieces of `length` samples."""
    out: list[tuple[int, np.ndarray]] = []
    held: list[np.ndarray] = []
    start, end = 0, -1
    for position, samples in chunks:
        if position != end:
            held, start = [], position
        held.append(samples)
        end = position + len(samples)
        if end - start >= length:
            joined = np.concatenate(held)
            out.append((start, joined[:length]))
            held, start = [joined[length:]], start + length
    return out


def anchors(voice: Voice, chunks: Iterable[tuple[int, np.ndarray]], rate: int, seconds: float = 1.0) -> list[Anchor]:
    """Finds a stream, chunks of (position at `rate`, samples), in the voice, piece by piece; leaves silence out."""
    out: list[Anchor] = []
    for position, piece in pieces(chunks, int(seconds * rate)):
        if np.sqrt(np.mean(np.square(piece, dtype=float))) < 1e-3:
            continue
        at = position * RATE / rate
        found = voice.locate(piece, rate, at + out[-1].offset) if out else None
        if found is None or not found.certain:
            found = voice.locate(piece, rate)
        if found.certain:
            out.append(Anchor(at, (found.position - at) % voice.period, found.prominence))
    return out


def consistent(found: Sequence[Anchor], period: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Where the anchors stand, and their offsets less a reference that is returned too.

    Streams lose blocks and stretch, by milliseconds: an anchor half a second from most others was found in a wrong
    place and is left out. Raises Unmeasurable where fewer than half agree.
    """
    if not found:
        raise Unmeasurable("no piece of the stream could be found in the recording: it is silent, or another sound")
    at = np.array([anchor.at for anchor in found])
    offsets = np.array([anchor.offset for anchor in found])
    apart = (offsets[:, None] - offsets[None] + period / 2) % period - period / 2
    agree = np.abs(apart) < min(RATE / 2, period / 4)
    best = int(np.argmax(agree.sum(1)))
    kept = agree[best]
    if 2 * kept.sum() < len(found):
        raise Unmeasurable(
            f"of {len(found)} pieces found in the recording only {kept.sum()} agree on where the stream is"
        )
    return at[kept], -apart[best][kept], float(offsets[best])


def settle(found: Sequence[Anchor], period: int) -> Callable[[np.ndarray], np.ndarray]:
    """Offset as a function of a stream's position, modulo the period; steps, where a stream lost samples, are kept."""
    at, near, reference = consistent(found, period)
    smooth = np.array([np.median(near[max(0, i - 1) : i + 2]) for i in range(len(near))])
    return lambda position: reference + np.interp(position, at, smooth)


def spread_ms(found: Sequence[Anchor], period: int) -> float:
    """How far apart (ms, 5th to 95th percentile) the anchors' offsets lie: 0 where no sample was lost."""
    return float(np.subtract(*np.percentile(consistent(found, period)[1], [95, 5]))) / PER_MS


@dataclass(frozen=True)
class DeviceClock:
    """When the microphone captured each voice position.

    `times` [n] ms: the device's callbacks; `ends` [n]: the voice position one past the block that each one delivered.
    A sample was captured as long before its callback as there are samples behind it in the block: it is the newest one
    that is captured "now". A starved device delivers late (and a fake one slips by whole blocks), so the line between
    position and time is the earliest of half a second round it: delay is never hidden, capture never moved later.
    """

    times: np.ndarray
    ends: np.ndarray

    def __post_init__(self) -> None:
        # A glitch may repeat sound: the first time counts.
        object.__setattr__(self, "ends", np.maximum.accumulate(self.ends))

    @cached_property
    def _line(self) -> np.ndarray:
        return rolling_minimum(self.times - self.ends / PER_MS, 51)

    def when(self, position: np.ndarray | float) -> np.ndarray:
        return np.interp(position, self.ends, self._line) + np.asarray(position) / PER_MS

    @property
    def slipped_ms(self) -> float:
        """By how much the device ended up later than it began: the blocks it lost, 10 ms each, and its drift."""
        return float(self._line[-1] - self._line[0])


def rolling_minimum(values: np.ndarray, width: int) -> np.ndarray:
    """[n]: the least of the `width` values (odd) centred on each one, fewer at the ends."""
    half = width // 2
    padded = np.concatenate([np.full(half, np.inf), values, np.full(half, np.inf)])
    return np.lib.stride_tricks.sliding_window_view(padded, width).min(-1)


def rolling_median(values: np.ndarray, width: int) -> np.ndarray:
    """[n]: the median of the `width` values (odd) centred on each one; the ends repeat."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=-1)


def blocks_missed(delivered: np.ndarray, times: np.ndarray, ends: np.ndarray) -> int:
    """Blocks that the device had delivered before the tap saw its first.

    delivered [m, 2]: page time, samples delivered by then since the microphone was opened; times [n] and ends [n]: of
    the tap's blocks, in the same samples. Looked at between two blocks both count the same ones, so that the median of
    some looks is exact.
    """
    block = float(np.median(np.diff(ends)))
    seen = np.searchsorted(times + 0.5, delivered[:, 0])  # half a millisecond: from callback to track
    had = np.concatenate([[0.0], ends])[seen]
    inside = (seen > 0) & (seen < len(ends))
    if not inside.any():
        raise Unmeasurable("the microphone's track never reported its sample count while it was tapped")
    return round(float(np.median((delivered[inside, 1] - had[inside]) / block)))


def clock_offset(pongs: np.ndarray) -> tuple[float, float]:
    """[n, 3] (sent, received, server's clock): server minus page (ms) of the fastest ping, and its round trip.

    Both clocks are one machine's monotonic clock, so the offset is a constant, known to half that round trip.
    """
    fastest = pongs[np.argmin(pongs[:, 1] - pongs[:, 0])]
    return float(fastest[2] - (fastest[0] + fastest[1]) / 2), float(fastest[1] - fastest[0])


def turns(latency: np.ndarray, period: int) -> np.ndarray:
    """
    How many whole loops to take from each latency (ms) known modulo the loop, so that it is from a quarter of one below
    0 on: each by itself, since a tie between two of them may lie a loop off.
    """
    return np.floor(latency / (period / PER_MS) + 0.25)


@dataclass(frozen=True)
class Heard:
    """When each voice position left the browser's jitter buffer to be played.

    `times` [n] ms: the output's pulls; `starts` [n]: position, in the stream of played samples, of each one's first;
    `offset`: from that stream's position to the voice position. Playout stretches and squeezes sound, so that the
    offset wanders.
    """

    times: np.ndarray
    starts: np.ndarray
    offset: Callable[[np.ndarray], np.ndarray]

    @cached_property
    def _voice(self) -> tuple[np.ndarray, np.ndarray]:
        line = rolling_median(self.times - self.starts / PER_MS, 51)
        positions = self.starts + self.offset(self.starts)
        return np.maximum.accumulate(positions), line + self.starts / PER_MS

    def when(self, position: np.ndarray) -> np.ndarray:
        """NaN outside what was recorded."""
        positions, times = self._voice
        return np.interp(position, positions, times, left=np.nan, right=np.nan)


def percentiles(values: np.ndarray) -> dict[str, float] | None:
    """p50, p95, p99, rounded to 0.1; None of nothing."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    found = np.percentile(values, [50, 95, 99])
    return {name: round(float(value), 1) + 0.0 for name, value in zip(("p50", "p95", "p99"), found, strict=True)}


def slope(times: np.ndarray, values: np.ndarray, blocks: int = 20) -> tuple[float, float]:
    """Least-squares slope of `values` over `times`, and half its 95 % confidence interval.

    Neighbouring values resemble each other, so the interval comes from the medians of `blocks` equal stretches.
    """
    times, values = np.asarray(times, float), np.asarray(values, float)
    blocks = min(blocks, len(values) // 3)
    if blocks < 4:
        raise ValueError(f"{len(values)} values are too few for a slope with its confidence interval: want 12 or more")
    x = np.array([part.mean() for part in np.array_split(times, blocks)])
    y = np.array([np.median(part) for part in np.array_split(values, blocks)])
    x = x - x.mean()
    rise = float(x @ y / (x @ x))
    rest = y - y.mean() - rise * x
    error = float(np.sqrt(rest @ rest / (blocks - 2) / (x @ x)))
    return rise, _T95[min(blocks - 2, len(_T95)) - 1] * error


# Student's t, 97.5 %, by degrees of freedom.
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10)


def pixel_lag(pictures: np.ndarray, moments: np.ndarray, loudness: Callable[[np.ndarray], np.ndarray]) -> dict:
    """How much later than its sound the mouth moves: an independent look, at nothing but pixels and the voice.

    pictures [n, cells]: brightness of each displayed frame; moments [n]: the second of the voice that each one answers;
    `loudness` of the voice at any seconds. The cells that follow loudness best, at whatever lag, are the mouth.
    """
    lags = np.arange(-0.2, 0.2001, 0.01)
    cells = pictures - pictures.mean(0)
    scale = np.linalg.norm(cells, axis=0)
    moving = scale > 1e-6
    if not moving.any():
        raise Unmeasurable("no pixel of the picture moves")
    cells = cells[:, moving] / scale[moving]
    alike = np.empty((len(lags), cells.shape[1]))
    for i, lag in enumerate(lags):
        sound = loudness(moments - lag)
        sound = sound - sound.mean()
        alike[i] = np.abs(sound @ cells) / max(float(np.linalg.norm(sound)), 1e-9)
    mouth = np.argsort(alike.max(0))[-8:]
    curve = alike[:, mouth].mean(1)
    best = int(np.argmax(curve))
    fine = 0.0
    if 0 < best < len(lags) - 1:
        a, b, c = curve[best - 1 : best + 2]
        fine = 0.5 * (a - c) / (a - 2 * b + c)
    return {"lag_ms": round(float(lags[best] + 0.01 * fine) * 1000, 1), "correlation": round(float(curve[best]), 3)}
