"""Recordings as people have them, to mono float32 in blocks: any file that PyAV reads, streamed, never held whole.

    file ─▶ track with sound ─▶ frames ─▶ gaps filled ─▶ [n, c] blocks ─▶ one channel ─▶ in range ─▶ resampled blocks

A file is read twice: `open_recording` surveys it (how long and how loud it is, which channels carry sound, whether it
can be read to its end), and `Recording.blocks` then reads it again for each rate that is asked for. What is wrong with
a file is thereby known before anything is made of it.

Letters used in shapes: n samples, c channels.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import numpy as np

MAX_SECONDS = 4 * 3600
MAX_GAP = 600.0
"""Seconds of a gap in the timestamps that are filled with silence; a file with a larger one is refused."""

SILENT_DB = -70.0
"""A recording is silent if no half second of it has this level (dB of full scale, RMS)."""

_LOWEST_RATE, _HIGHEST_RATE = 1_000, 1_536_000
_BLOCK = 0.5  # seconds that are mixed and resampled at once
_JITTER = 0.015  # seconds that timestamps may be off before a gap is one: containers round to 1 ms, a packet has 20
_MOST_BACK = 0.1  # seconds that frames may overlap before their timestamps count as having begun anew
_MOST_BROKEN = 50  # packets that cannot be decoded, beyond which more than half of them must be whole
_CLICK = 8.0  # times the peaks of usual blocks that the loudest may have before it is clipped
_LARGEST = 2.0**31  # floats beyond the range of any integer format are garbage, as NaN is

# ITU-R BS.775 with the effects channel left out, as FFmpeg mixes; other names count as a side channel.
_WEIGHTS = {"FC": 1.0, "FL": 0.7071, "FR": 0.7071, "FLC": 0.7071, "FRC": 0.7071, "LFE": 0.0, "LFE2": 0.0}
_SIDE = 0.5
_UNKNOWN = 0.7071
_HEARD = 0.1  # of the loudest channel's power that a mix must keep in a block in which there is sound
_ENOUGH = 0.95  # of those blocks in which it must
_ACTIVE = 1e-3  # of the loudest block's power from which on there is sound in a block

_Layout = tuple[str, ...]
"""The channels' names; NONE for one that the file does not name."""


class BadRecording(ValueError):
    """A file that cannot be used as a recording; the text names the file and says why."""


@dataclass(frozen=True)
class Recording:
    """A recording that was read to its end once."""

    path: Path
    seconds: float
    """With the silence that stands for gaps in its timestamps."""
    level: float
    """RMS of its loudest half second, in dB of full scale, as `blocks` gives it; -inf for digital silence."""
    notices: tuple[str, ...]
    """Sentences on what was repaired or chosen."""
    _track: int
    _form: str | None
    _weights: Mapping[_Layout, np.ndarray]
    _gain: float

    @property
    def silent(self) -> bool:
        return self.level < SILENT_DB

    def refuse_silence(self) -> None:
        """Raises BadRecording if nothing can be heard in it."""
        if self.silent:
            why = f"its loudest half second has {self.level:.0f} dBFS, and at least {SILENT_DB:.0f} are needed"
            why = "all its samples are 0" if self.level == -np.inf else why
            notices = "".join(f" ({notice})" for notice in self.notices)
            raise BadRecording(f"{self.path} is silent: {why}{notices}")

    def blocks(self, rate: int) -> Iterator[np.ndarray]:
        """[n] float32 at `rate`, within ±1, about half a second each. Raises BadRecording if the file has changed."""
        resampler: _Resampler | None = None
        for layout, own_rate, samples in _blocks(self.path, self._track, self._form):
            if resampler is None or resampler.rate != own_rate:
                if resampler is not None:
                    yield from _within_range(resampler.end())
                resampler = _Resampler(own_rate, rate)
            weights = self._weights.get(layout)
            mono = _mixed(samples, _usual_weights(layout) if weights is None else weights) * np.float32(self._gain)
            yield from _within_range(resampler.push(mono))
        if resampler is not None:
            yield from _within_range(resampler.end())

    def read(self, rate: int) -> np.ndarray:
        """All of it: [n] float32 at `rate`."""
        return np.concatenate([np.zeros(0, np.float32), *self.blocks(rate)])


def open_recording(path: Path, max_seconds: float = MAX_SECONDS, form: str | None = None) -> Recording:
    """
    Surveys a file; of several sound tracks it takes the default one, or if that is silent the first that is not.
    `form` is FFmpeg's name of a container that has no signature. Blocking: the whole file is decoded.

    Raises BadRecording.
    """
    if not path.is_file():
        raise BadRecording(f"{path} is a folder, not a file" if path.is_dir() else f"{path} is not a file")
    if path.stat().st_size == 0:
        raise BadRecording(f"{path} is empty: 0 bytes")
    tracks = _tracks(path, form, max_seconds)
    found: Recording | None = None
    failure: BadRecording | None = None
    for track in tracks:
        try:
            recording = _surveyed(path, track, form, max_seconds)
        except BadRecording as error:
            failure = failure or error
            continue
        if found is None or (found.silent and not recording.silent):
            found = recording
        if not found.silent:
            break
    if found is None:
        assert failure is not None
        raise failure
    if len(tracks) == 1:
        return found
    said = f"sound track {found._track + 1} of {len(tracks)} is used"
    if found._track != tracks[0]:
        said += f": the default, track {tracks[0] + 1}, is {'unreadable' if failure else 'silent'}"
    return replace(found, notices=(*found.notices, said))


def read_recording(path: Path, rate: int, form: str | None = None) -> np.ndarray:
    """A whole file as [n] float32 at `rate`. Raises BadRecording."""
    return open_recording(path, form=form).read(rate)


# The survey ----------------------------------------------------------------------------------------------------------


def _surveyed(path: Path, track: int, form: str | None, max_seconds: float) -> Recording:
    seconds, found = 0.0, _Found()
    mixes: dict[_Layout, _Mix] = {}
    for layout, rate, samples in _blocks(path, track, form, found):
        seconds += len(samples) / rate
        if seconds > max_seconds:
            raise BadRecording(f"{path} lasts more than {max_seconds:.0f} s")
        mixes.setdefault(layout, _Mix(layout)).add(samples)
    if seconds < found.stated - max(1.0, 0.05 * found.stated):
        found.notices.append(f"it breaks off after {seconds:.1f} of {found.stated:.1f} s")
    weights = {layout: mix.weights() for layout, mix in mixes.items()}
    chosen = [mix.chosen(weights[layout]) for layout, mix in mixes.items()]
    peaks, powers = np.concatenate([np.zeros((2, 0)), *chosen], axis=1)
    gain = 1.0
    if len(peaks):  # a single click or a damaged float must not make all the rest inaudible
        gain = 1 / max(1.0, min(peaks.max(), _CLICK * np.quantile(peaks, 0.95, method="lower")))
    power = max(powers[peaks * gain <= 1 + 1e-6], default=0.0) * gain**2
    level = 10 * np.log10(power) if power > 0 else -np.inf
    notices = [*found.notices, *(mix.said for mix in mixes.values() if mix.said)]
    if found.invalid:
        notices.append(f"samples that are NaN, infinite or out of all range count as silence: {found.invalid}")
    if found.broken:
        notices.append(f"damaged packets that were left out: {found.broken}")
    if found.gaps:
        notices.append(f"gaps in the timestamps that silence fills: {found.gaps}, {found.silence:.2f} s in all")
    return Recording(path, seconds, float(level), tuple(notices), track, form, weights, float(gain))


@dataclass
class _Found:
    """What a pass over a file met."""

    invalid: int = 0
    broken: int = 0
    gaps: int = 0
    silence: float = 0.0
    stated: float = 0.0
    """Seconds that the file says it has."""
    notices: list[str] = field(default_factory=list)


def _usual_weights(layout: _Layout) -> np.ndarray:
    """[c] float32: how loud each channel is in the mix."""
    if len(layout) == 1:
        return np.ones(1, np.float32)
    return np.array([_UNKNOWN if name == "NONE" else _WEIGHTS.get(name, _SIDE) for name in layout], np.float32)


def _mixed(samples: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[n, c] to [n]."""
    mixed: np.ndarray = samples[:, 0] * weights[0]
    for channel in np.flatnonzero(weights[1:]) + 1:
        mixed = mixed + samples[:, channel] * weights[channel]
    return mixed


class _Mix:
    """Decides how the channels of one layout become one: the usual mix, or a single channel where that mix loses sound,
    because channels cancel each other (opposite phase) or the sound lies in one that is not mixed in (effects)."""

    def __init__(self, layout: _Layout) -> None:
        self.said = ""
        self._usual = _usual_weights(layout)
        self._powers: list[np.ndarray] = []  # for each block [1 + c]: of the mix, of each channel
        self._peaks: list[np.ndarray] = []

    def add(self, samples: np.ndarray) -> None:
        """A block [n, c]."""
        heard = np.stack([_mixed(samples, self._usual), *samples.T])
        self._powers.append(np.mean(np.square(heard, dtype=np.float64), axis=1))
        self._peaks.append(np.abs(heard).max(axis=1))

    def weights(self) -> np.ndarray:
        """[c] float32."""
        powers = np.array(self._powers)
        loudest = powers[:, 1:].max(axis=1)
        active = powers[(loudest > 0) & (loudest >= _ACTIVE * loudest.max(initial=0.0))]
        if not len(active):
            return self._usual
        kept = (active >= _HEARD * active[:, 1:].max(axis=1, keepdims=True)).mean(axis=0)  # [1 + c] share of blocks
        best = max(range(len(self._usual)), key=lambda c: (kept[1 + c], active[:, 1 + c].mean()))
        if kept[0] >= _ENOUGH or kept[1 + best] <= kept[0]:
            return self._usual
        count = len(self._usual)
        self.said = f"channel {best + 1} of {count} is used: all {count} together lose {1 - kept[0]:.0%} of the sound"
        return np.eye(count, dtype=np.float32)[best]

    def chosen(self, weights: np.ndarray) -> np.ndarray:
        """[2, blocks]: peaks and powers of what `weights` gives."""
        place = 0 if np.array_equal(weights, self._usual) else 1 + int(weights.argmax())
        return np.array([self._peaks, self._powers])[:, :, place]


# Reading -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: Path, form: str | None) -> Iterator[av.container.InputContainer]:
    """
    The file's container, with whatever PyAV raises as BadRecording. FFmpeg is given an open file and no name: in names
    it looks for protocols (`a:b`), and through names a playlist would have it open others.
    """
    try:
        options = {"protocol_whitelist": "file"}
        with (
            path.open("rb") as file,
            av.open(file, "r", format=form, options=options, metadata_errors="replace") as opened,
        ):
            yield opened
    except BadRecording:
        raise
    except av.FFmpegError as error:
        raise BadRecording(f"{path} could not be read: {error.strerror or error}") from None
    except (OSError, ValueError, RuntimeError, NotImplementedError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise BadRecording(f"{path} could not be read: {why[:200] or type(error).__name__}") from None


def _tracks(path: Path, form: str | None, max_seconds: float) -> list[int]:
    """The sound tracks' numbers, the default one first."""
    with _opened(path, form) as container:
        streams = container.streams.audio
        if not streams:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise BadRecording(f"{path} holds no sound, only {kinds}")
        for stream in streams:
            stated = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            if stated > max_seconds:
                raise BadRecording(f"{path} lasts {stated:.0f} s: at most {max_seconds:.0f} s")
        best = container.streams.best("audio")
        order = sorted(range(len(streams)), key=lambda k: best is None or streams[k].index != best.index)
    return order


def _blocks(
    path: Path, track: int, form: str | None, found: _Found | None = None
) -> Iterator[tuple[_Layout, int, np.ndarray]]:
    """A track as (layout, rate, [n, c] float32), gaps filled with silence, in blocks of about half a second."""
    found = found or _Found()
    timeline = Timeline()
    layout: _Layout = ()
    rate = held = 0
    parts: list[np.ndarray] = []
    with _opened(path, form) as container:
        stream = container.streams.audio[track]
        if stream.codec_context is None:
            raise BadRecording(f"{path} has sound of a codec that cannot be decoded here")
        if stream.duration and stream.time_base:
            found.stated = float(stream.duration * stream.time_base)
        for frame, following in itertools.pairwise(itertools.chain(_frames(path, container, stream, found), [None])):
            if frame is None or not frame.samples:
                continue
            key, key_rate = tuple(channel.name for channel in frame.layout.channels), frame.sample_rate
            if not _LOWEST_RATE <= key_rate <= _HIGHEST_RATE:
                raise BadRecording(f"{path} is sampled at {key_rate} Hz: want {_LOWEST_RATE} to {_HIGHEST_RATE}")
            if parts and ((key, key_rate) != (layout, rate) or held >= _BLOCK * rate):
                yield layout, rate, np.concatenate(parts)
                parts, held = [], 0
            layout, rate = key, key_rate
            gap = timeline.silence_before(
                frame.time, frame.samples / rate, None if following is None else following.time
            )
            if gap > MAX_GAP:
                at = timeline.position - frame.samples / rate - gap
                raise BadRecording(
                    f"{path} has a gap of {gap:.0f} s in its timestamps at {at:.1f} s: at most {MAX_GAP:.0f} s are "
                    "filled with silence"
                )
            if gap:
                found.gaps += 1
                found.silence += gap
                if parts:
                    yield layout, rate, np.concatenate(parts)
                    parts, held = [], 0
                for samples in _silence(round(gap * rate), rate):
                    yield layout, rate, np.zeros((samples, len(layout)), np.float32)
            parts.append(_samples(frame, found))
            held += frame.samples
    if parts:
        yield layout, rate, np.concatenate(parts)


def _silence(samples: int, most: int) -> Iterator[int]:
    for first in range(0, samples, most):
        yield min(most, samples - first)


def _frames(
    path: Path, container: av.container.InputContainer, stream: av.AudioStream, found: _Found
) -> Iterator[av.AudioFrame]:
    """Decoded sound; a damaged packet in the middle is left out, and a file that breaks off ends there."""
    whole = broken = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            if not whole:
                raise
            found.broken += 1
            return
        if packet is None:
            break
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if packet.size:  # what is left in a decoder at the end may be refused without a loss
                broken += 1
                found.broken += 1
            if broken > _MOST_BROKEN and broken > whole:
                why = error.strerror or error
                raise BadRecording(f"{path} is damaged: {broken} of {broken + whole} packets ({why})") from None
            continue
        whole += 1
        yield from frames
    if broken and broken >= whole:
        raise BadRecording(f"{path} is damaged: none of its {broken} packets of sound could be decoded")


def _samples(frame: av.AudioFrame, found: _Found) -> np.ndarray:
    """[n, c] float32, ±1 for the full scale of integers; what is no number is 0."""
    data: np.ndarray = frame.to_ndarray()
    channels = len(frame.layout.channels)
    data = data.T if frame.format.is_planar else data.reshape(-1, channels)
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / 128
    if data.dtype.kind == "i":
        return data.astype(np.float32) * np.float32(2.0 ** (1 - 8 * data.itemsize))
    valid = np.abs(data) < _LARGEST  # False for NaN, too
    if not valid.all():
        found.invalid += data.size - int(np.count_nonzero(valid))
        data = np.where(valid, data, 0)
    return data.astype(np.float32)


class Timeline:
    """Where frames lie in time. Pure: seconds in, seconds out.

    A frame that comes later than the one before ended leaves a gap. Frames that overlap are all kept, one after the
    other. A single timestamp that the next one contradicts is a mistake, and timestamps that begin anew (in files that
    were joined) are taken to go on from where the sound is.
    """

    def __init__(self) -> None:
        self.position = 0.0
        """Seconds of sound and silence so far."""
        self._offset: float | None = None  # from timestamps to positions

    def silence_before(self, start: float | None, duration: float, following: float | None = None) -> float:
        """
        Seconds of silence before a frame of `duration` s whose timestamp is `start`; `following` is the next frame's.
        """
        gap = 0.0
        if start is not None:
            if self._offset is None:
                self._offset = self.position - start
            late = start + self._offset - self.position
            if not -_MOST_BACK <= late <= _JITTER:
                after = None if following is None else following + self._offset - self.position - duration
                if after is None or not -_MOST_BACK <= after <= _JITTER:
                    gap = max(late, 0.0)
                    self._offset += gap - late
        self.position += gap + duration
        return gap


class _Resampler:
    """Mono float32 from one rate to another, in blocks; exact if both are the same."""

    def __init__(self, rate: int, wanted: int) -> None:
        self.rate = rate
        self._resampler = None if rate == wanted else av.AudioResampler("flt", "mono", wanted)

    def push(self, samples: np.ndarray) -> list[np.ndarray]:
        if self._resampler is None:
            return [samples]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
        frame.sample_rate = self.rate
        return [piece.to_ndarray()[0] for piece in self._resampler.resample(frame)]

    def end(self) -> list[np.ndarray]:
        """What is left inside."""
        if self._resampler is None:
            return []
        return [piece.to_ndarray()[0] for piece in self._resampler.resample(None)]


def _within_range(pieces: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Resampling overshoots where sound was clipped."""
    for piece in pieces:
        if len(piece):
            yield np.clip(piece, -1.0, 1.0)
