"""Queue of a bot's speech, sent ahead of time in any pieces: a gapless timeline that runs on the server's clock.

The timeline is cut into blocks of one frame. A block's contents are fixed at the last moment, when its frame is due:
until then the timeline is silence, and new speech is placed at its start. A look-ahead of at most one frame therefore
adds no latency for a bot: the first frame after speech arrives corresponds to its first sample.

    captured(pts) = origin + pts / 16000        when the frame of sample `pts` is due
    block j       = [640·(j-1) + L, 640·j + L)  emitted at captured(640·j), with look-ahead L
    audio         emitted from captured(pts) - L on, so that it can be held for its frame, or be sent ahead of it

Time is an argument everywhere (seconds, monotonic); there is no clock, thread or I/O in here. Each unit of 20 ms is
converted and encoded when it is due, so a large push causes no burst of work.
"""

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from streamer.audio.opus import OpusDecoder, OpusEncoder
from streamer.audio.rtp_input import Chunk
from streamer.audio.speech_source import (
    UNIT,
    WIDE,
    BadSpeech,
    OpusSource,
    PcmSource,
    Piece,
    Samples,
    SpeechFormat,
    check_piece,
    seam,
)
from streamer.base.constants import AUDIO_CLOCK, SAMPLE_RATE, SAMPLES_PER_FRAME

_AFTER = 2  # silent packets after speech, so that receivers do not extrapolate its last sound
_MOST_RUNS = 256
_LEAST = UNIT / SAMPLE_RATE  # minimum seconds of a segment on the timeline: one packet


@dataclass(frozen=True)
class SpeechQueueConfig:
    """Seconds."""

    capacity: float = 60.0
    """Queued speech at which the sender is told to pause."""
    slack: float = 5.0
    """Accepted beyond `capacity`, for data in flight; overflow policy: back-pressure, stop reading."""
    ready: float = 30.0
    """Queued speech at which the sender is told to resume."""
    start: float = 0.040
    """Speech required before a segment begins, unless it is shorter: one frame."""
    resume: float = 0.100
    """The same after an underrun: less would stutter."""
    catch_up: float = 0.200
    """If `poll` is called later than this, the timeline stops for as long instead of skipping speech."""

    def __post_init__(self) -> None:
        if not 0 < self.ready <= self.capacity or not 0 < self.start <= self.resume <= self.capacity:
            raise ValueError(f"need 0 < ready <= capacity and 0 < start <= resume <= capacity, got {self}")
        if self.slack < 0 or self.catch_up <= 0:
            raise ValueError(f"slack must not be negative and catch_up positive, got {self}")


@dataclass(frozen=True, slots=True)
class Started:
    """A segment's first sample, sample `pts` of the timeline, was due."""

    segment: int
    pts: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A segment's last sample was due, or (`interrupted`) its rest was discarded."""

    segment: int
    position_ms: int
    """How much of the segment was heard; all of it unless interrupted."""
    interrupted: bool


@dataclass(frozen=True, slots=True)
class Packet:
    """Audio for listeners: one Opus packet of `duration` samples at 16 kHz from `pts` on."""

    pts: int
    duration: int
    payload: bytes


@dataclass(slots=True)
class PollResult:
    """What is due, in order. Chunks are gapless and have no payload; packets exist only during speech."""

    chunks: list[Chunk] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    events: list[Started | Finished] = field(default_factory=list)


@dataclass(frozen=True)
class SpeechQueueStats:
    """Counts since the start, except `buffered_ms`."""

    received_ms: int = 0
    buffered_ms: int = 0
    segments: int = 0
    underruns: int = 0
    """Pauses within a segment because its sender was too slow."""
    discarded_ms: int = 0
    """Speech received after a client or user had interrupted its segment."""
    slipped_ms: int = 0
    """Time that the timeline stopped because the server was late."""
    malformed: int = 0
    """Opus packets that could not be decoded, and segments of PCM that ended within a sample."""


@dataclass(slots=True)
class _Segment:
    number: int
    source: PcmSource | OpusSource
    sent: float = 0.0  # seconds
    begun: bool = False
    given: int = 0  # samples at 16 kHz that are on the line
    charged: float = 0.0  # seconds with which it counts as waiting

    @property
    def charge(self) -> float:
        return self.source.seconds if self.begun else max(self.source.seconds, _LEAST)


@dataclass(slots=True)
class _Run:
    """Samples [offset, offset + length) of a segment are on the timeline from `pts` on."""

    segment: int
    pts: int
    offset: int
    length: int


class SpeechQueue:
    """Speech in (`start`, `push`, `end`, `clear`), what is due out (`poll`: at `deadline`, and after any of these).

    A segment is what lies between two ends. Numbers of segments count from 1.
    """

    def __init__(self, lookahead: int, now: float, config: SpeechQueueConfig | None = None) -> None:
        if lookahead < 0:
            raise ValueError(f"look-ahead of {lookahead} samples: must not be negative")
        self.config = config or SpeechQueueConfig()
        self._lookahead = lookahead
        self._origin = now
        self._format: SpeechFormat | None = None
        self._segments: deque[_Segment] = deque()
        self._open = False  # the last of them, or one that was thrown away, has not ended
        self._discarding = False
        self._talking = False
        self._dry = False  # there is less than a piece
        self._slow = False  # the segment that comes next had begun, and its sender was too slow
        self._silent = 0  # silent packets still due
        self._block_end = lookahead or SAMPLES_PER_FRAME  # the first block ends with what frame 0 needs
        self._handed = 0  # pts up to which the line was handed on
        self._end = 0  # pts up to which it is decided
        self._decided: deque[Samples] = deque()  # what lies between
        self._last = (0.0, 0.0)  # the last sample, for the network and for the ear, where nothing continued it
        self._marks: deque[tuple[int, Started | Finished]] = deque()  # what is to be told, and when: at which pts
        self._runs: deque[_Run] = deque(maxlen=_MOST_RUNS)
        self._encoder: OpusEncoder | None = None
        self._decoder: OpusDecoder | None = None
        self._discarded = 0.0
        self._received = 0.0
        self._buffered = 0.0
        self._cut = 0  # segments that ended within a sample
        self._stats = SpeechQueueStats()

    # In

    def begin(self, now: float) -> None:
        """Starts the timeline: sample 0 is due now. Speech may have been pushed before."""
        self._origin = now

    def start(self, form: SpeechFormat) -> None:
        """Sets the format of the speech that follows, and ends an open segment."""
        self.end()
        self._format = form

    def push(self, data: bytes) -> None:
        """Adds a piece of speech; starts a segment if none is open. Raises BadSpeech without any effect.

        Pieces of PCM may be cut within a sample, but not segments: half a sample at a segment's end is dropped.
        """
        if self._format is None:
            raise BadSpeech("not_started", f"{len(data)} bytes of speech before a start message with their format")
        seconds = check_piece(data, self._format)
        if not self.accepts:
            raise BadSpeech("full", f"{self.buffered:.1f} s of speech are queued: the maximum is {self.most:g} s")
        if self._discarding:
            self._discarded += seconds
            return
        if not self._open:
            self._segments.append(_Segment(self._stats.segments + 1, self._source(self._format)))
            self._stats = replace(self._stats, segments=self._stats.segments + 1)
            self._open = True
        segment = self._segments[-1]
        seconds = segment.source.push(data)
        segment.sent += seconds
        self._received += seconds
        self._recharge(segment)
        self._dry = False

    def _source(self, form: SpeechFormat) -> PcmSource | OpusSource:
        if form.kind == "pcm16":
            return PcmSource(form.rate)
        self._decoder = self._decoder or OpusDecoder()
        return OpusSource(self._decoder)

    def _recharge(self, segment: _Segment) -> None:
        """Updates the queued time incrementally: summing over many segments would be slow."""
        self._buffered += segment.charge - segment.charged
        segment.charged = segment.charge

    def _discharge(self, segment: _Segment) -> None:
        self._buffered = self._buffered - segment.charged if self._segments else 0.0

    def end(self) -> None:
        """Ends the open segment, if any."""
        if self._open and not self._discarding:
            source = self._segments[-1].source
            source.ended = True
            self._cut += source.loose > 0
            self._dry = False
        self._open = self._discarding = False

    def clear(self, heard: int, discard: bool = False) -> list[Finished]:
        """Discards all queued speech. Returns the result for each segment.

        `heard`: sample of the timeline up to which the audio was heard. With `discard`, the rest of the open segment is
        discarded (and counted) as it arrives, until its end; otherwise the next piece starts another segment.
        """
        told: list[Finished] = []
        for _, mark in self._marks:
            if isinstance(mark, Finished):
                position = min(self._position(mark.segment, heard), mark.position_ms)
                told.append(Finished(mark.segment, position, True))
        for segment in self._segments:
            position = self._position(segment.number, heard) if segment.begun else 0
            told.append(Finished(segment.number, position, True))
        self._segments.clear()
        self._buffered = 0.0
        self._marks.clear()
        self._decided = deque([np.zeros(self._end - self._handed, np.float32)])
        if self._talking:
            self._silent = _AFTER
        self._last = 0.0, self._last[1]  # the mouth closes at once, the audio fades
        self._talking = self._slow = self._dry = False
        self._discarding = self._open = self._open and discard
        return told

    def _position(self, number: int, heard: int) -> int:
        """Milliseconds of the segment that lie on the line before `heard`."""
        most = 0
        for run in self._runs:
            if run.segment == number and heard > run.pts:
                most = max(most, run.offset + min(heard - run.pts, run.length))
        return round(most * 1000 / SAMPLE_RATE)

    # State

    @property
    def buffered(self) -> float:
        """Seconds of speech queued, at least 20 ms for each segment."""
        return self._buffered

    @property
    def most(self) -> float:
        """Maximum seconds queued."""
        return self.config.capacity + self.config.slack

    @property
    def full(self) -> bool:
        """The sender should pause."""
        return self.buffered >= self.config.capacity

    @property
    def accepts(self) -> bool:
        """Whether `push` accepts a piece."""
        return self.buffered < self.most

    @property
    def ready(self) -> bool:
        """Whether a paused sender may resume."""
        return self.buffered <= self.config.ready

    @property
    def speaking(self) -> bool:
        """Whether a segment has begun and not ended."""
        return bool(self._marks) or any(segment.begun for segment in self._segments)

    @property
    def decided(self) -> int:
        """The sample up to which the timeline is fixed; speech pushed now comes after it."""
        return self._end

    @property
    def stats(self) -> SpeechQueueStats:
        return replace(
            self._stats,
            received_ms=round(self._received * 1000),
            buffered_ms=round(self.buffered * 1000),
            discarded_ms=round(self._discarded * 1000),
            malformed=self._cut + (self._decoder.malformed if self._decoder else 0),
        )

    def captured(self, pts: int) -> float:
        """When the frame that answers sample `pts` is due: seconds on the clock of `now`."""
        return self._origin + pts / SAMPLE_RATE

    def due(self, now: float) -> int:
        """The sample that is due at `now`."""
        return int((now - self._origin) * SAMPLE_RATE)

    # Out

    def deadline(self) -> float:
        """When to call `poll` if nothing is pushed before."""
        moments = [self._tick]
        if self._end < self._block_end and (self._silent or self._waits):
            moments.append(self._turn)
        if self._marks:
            moments.append(self.captured(self._marks[0][0]))
        return min(moments)

    def poll(self, now: float) -> PollResult:
        """Returns what is due by `now`."""
        late = now - self._tick
        if late > self.config.catch_up:
            self._origin += late
            self._stats = replace(self._stats, slipped_ms=self._stats.slipped_ms + round(late * 1000))
        out = PollResult()
        while True:
            if self._end < self._block_end and self._turn <= now and self._take(out):
                continue
            if self._tick > now:
                break
            self._hand_on(out, now)
        while self._marks and self.captured(self._marks[0][0]) <= now:
            out.events.append(self._marks.popleft()[1])
        return out

    @property
    def _tick(self) -> float:
        """When the next block is due."""
        return self.captured(self._block_end - self._lookahead)

    @property
    def _turn(self) -> float:
        """From when on what comes next on the line may be taken."""
        return self.captured(self._end - self._lookahead)

    @property
    def _waits(self) -> bool:
        """Whether a piece of speech may be taken."""
        if not self._segments or self._dry:
            return False
        source = self._segments[0].source
        if source.ended:
            return True
        if self._talking:
            return True
        return source.seconds >= (self.config.resume if self._slow else self.config.start) - 1e-9

    def _take(self, out: PollResult) -> bool:
        """Places the next piece, or a silent packet if one is due; returns False if there is neither."""
        while self._waits:
            segment = self._segments[0]
            piece = segment.source.take()
            if piece is not None:
                self._place(segment, piece, out)
                return True
            if not segment.source.ended:
                self._dry = True
                break
            self._over()
        if self._silent:
            self._lay_silence(out)
            return True
        return False

    def _place(self, segment: _Segment, piece: Piece, out: PollResult) -> None:
        fresh = not self._talking or not segment.begun
        if not segment.begun:
            segment.begun = True
            self._marks.append((self._end, Started(segment.number, self._end)))
        self._talking, self._slow, self._silent = True, False, 0
        run = self._runs[-1] if self._runs else None
        if run and run.segment == segment.number and run.pts + run.length == self._end:
            run.length += piece.own
        else:
            self._runs.append(_Run(segment.number, self._end, segment.given, piece.own))
        segment.given += piece.own
        self._recharge(segment)
        end = self._end + piece.own
        self._lay(piece.samples, piece.sound, fresh, out)
        if segment.source.ended and segment.source.seconds <= 0:
            self._over(end)

    def _over(self, end: int | None = None) -> None:
        """Finishes the first segment, at `end`. A segment without audio never began."""
        segment = self._segments.popleft()
        self._discharge(segment)
        pts = self._end if end is None else end
        self._marks.append((pts, Finished(segment.number, round(1000 * segment.sent), False)))
        if self._talking and not self._waits:
            self._talking = False
            self._silent = _AFTER

    def _lay_silence(self, out: PollResult) -> None:
        self._silent -= 1
        self._lay(np.zeros(UNIT, np.float32), np.zeros(UNIT * WIDE, np.float32), True, out)

    def _lay(self, samples: Samples, sound: Samples | bytes, fresh: bool, out: PollResult) -> None:
        """Places audio on the timeline. `fresh`: it does not continue the previous audio."""
        if fresh:
            samples = seam(samples, self._last[0], 1)
        if isinstance(sound, bytes):
            payload, last = sound, 0.0
        else:
            if fresh:
                sound = seam(sound, self._last[1], WIDE)
            self._encoder = self._encoder or OpusEncoder(AUDIO_CLOCK)
            payload, last = self._encoder.encode(sound), float(sound[-1])
        self._last = float(samples[-1]) if len(samples) else 0.0, last
        out.packets.append(Packet(self._end, len(samples), payload))
        self._decided.append(samples)
        self._end += len(samples)

    def _hand_on(self, out: PollResult, now: float) -> None:
        """Emits the next block, filled up with silence."""
        end = self._block_end
        self._block_end += SAMPLES_PER_FRAME
        if self._end < end:
            if self._talking:
                self._talking, self._slow, self._silent = False, True, _AFTER
                self._stats = replace(self._stats, underruns=self._stats.underruns + 1)
                while self._silent and self._end + UNIT <= end:  # late, but better than none
                    self._lay_silence(out)
            gap = np.zeros(end - self._end, np.float32)
            self._decided.append(seam(gap, self._last[0], 1))
            self._last = 0.0, self._last[1]
            self._end = end
        line = np.concatenate(self._decided)
        count = end - self._handed
        self._decided = deque([line[count:]])
        out.chunks.append(Chunk(self._handed, line[:count], False, now, None, count))
        self._handed = end
