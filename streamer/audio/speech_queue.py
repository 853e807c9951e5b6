"""Speech as a bot sends it: ahead of time, in any pieces; made a timeline without gaps that runs by the server's clock.

The line is cut into blocks of one frame. What a block holds is decided at the last moment, when its frame is due: until
then the line is silence, and speech that comes is placed at its beginning. So the look-ahead, which a microphone has to
wait for, costs a bot nothing where it is at most a frame: the first frame after speech came answers its first sample.

    captured(pts) = origin + pts / 16000        when the frame that answers sample `pts` is due
    block j       = [640·(j-1) + L, 640·j + L)  handed on at captured(640·j), with look-ahead L
    sound         leaves from captured(pts) - L on, so that it can be held for its frame, or go ahead of it

Time is an argument everywhere (seconds, monotonic); there is no clock, no thread and no I/O in here. A unit of 20 ms is
converted and coded when its time has come: however much is sent at once, nothing is done at once.
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

_AFTER = 2  # silent packets after speech, so that no receiver goes on with its last sound
_MOST_RUNS = 256
_LEAST = UNIT / SAMPLE_RATE  # seconds of the line that a segment takes, however short it is: one packet


@dataclass(frozen=True)
class SpeechQueueConfig:
    """Seconds."""

    capacity: float = 60.0
    """Speech that may wait; then the sender is told to pause."""
    slack: float = 5.0
    """What is still taken beyond it, for what was under way; then nothing is read any more."""
    ready: float = 30.0
    """So little must wait before the sender is told to go on."""
    start: float = 0.040
    """Speech that has to be there before a segment begins, unless it is shorter: a frame's worth."""
    resume: float = 0.100
    """The same where a segment's sender was too slow: less would make it stutter."""
    catch_up: float = 0.200
    """A caller later than this was held up: the line stands still for as long, rather than have speech overtaken."""

    def __post_init__(self) -> None:
        if not 0 < self.ready <= self.capacity or not 0 < self.start <= self.resume <= self.capacity:
            raise ValueError(f"need 0 < ready <= capacity and 0 < start <= resume <= capacity, got {self}")
        if self.slack < 0 or self.catch_up <= 0:
            raise ValueError(f"slack must not be negative and catch_up positive, got {self}")


@dataclass(frozen=True, slots=True)
class Started:
    """A segment's first sample, sample `pts` of the line, was due."""

    segment: int
    pts: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A segment's last sample was due, or (`interrupted`) what was left of it was thrown away."""

    segment: int
    position_ms: int
    """How much of the segment was heard; where it was not interrupted, all of it."""
    interrupted: bool


@dataclass(frozen=True, slots=True)
class Packet:
    """Sound for the ear: one Opus packet that spans `duration` samples at 16 kHz from `pts` on."""

    pts: int
    duration: int
    payload: bytes


@dataclass(slots=True)
class PollResult:
    """What is due, in order. The chunks follow each other without gap and have no payload; packets come with speech."""

    chunks: list[Chunk] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    events: list[Started | Finished] = field(default_factory=list)


@dataclass(frozen=True)
class SpeechQueueStats:
    """Counts since the start, but for `buffered_ms`."""

    received_ms: int = 0
    buffered_ms: int = 0
    segments: int = 0
    underruns: int = 0
    """Times that a segment's sender was too slow, and a pause came into its speech."""
    discarded_ms: int = 0
    """Speech that came after somebody else than its sender had interrupted its segment."""
    slipped_ms: int = 0
    """Time that the line stood still because the server was held up."""
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
    """Samples [offset, offset + length) of a segment lie on the line from `pts` on."""

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
        """Time begins: sample 0 is due now. Speech may have been sent before."""
        self._origin = now

    def start(self, form: SpeechFormat) -> None:
        """What comes from now on is of this format. An open segment ends."""
        self.end()
        self._format = form

    def push(self, data: bytes) -> None:
        """A piece of speech, which begins a segment where none is open. Raises BadSpeech, and has then done nothing.

        Pieces of PCM may be cut within a sample, but not segments: half a sample at a segment's end is dropped.
        """
        if self._format is None:
            raise BadSpeech("not_started", f"{len(data)} bytes of speech before their format was told")
        seconds = check_piece(data, self._format)
        if not self.accepts:
            raise BadSpeech("full", f"{self.buffered:.1f} s of speech wait: no more is taken beyond {self.most:g} s")
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
        """Keeps the count of what waits: summing it up would take long where many segments do."""
        self._buffered += segment.charge - segment.charged
        segment.charged = segment.charge

    def _discharge(self, segment: _Segment) -> None:
        self._buffered = self._buffered - segment.charged if self._segments else 0.0

    def end(self) -> None:
        """The open segment, if any, has been sent."""
        if self._open and not self._discarding:
            source = self._segments[-1].source
            source.ended = True
            self._cut += source.loose > 0
            self._dry = False
        self._open = self._discarding = False

    def clear(self, heard: int, discard: bool = False) -> list[Finished]:
        """Throws away all that waits; nothing of it is handed on any more. Returns what became of each segment.

        `heard` is the sample of the line up to which it was heard. With `discard`, what still comes of the open segment
        is thrown away (and counted) until its end; else the next piece begins another.
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
        self._last = 0.0, self._last[1]  # the mouth shuts at once, the ear is not startled
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

    # What others may know

    @property
    def buffered(self) -> float:
        """Seconds of speech that wait: what saying them takes, at least 20 ms for each segment."""
        return self._buffered

    @property
    def most(self) -> float:
        """Seconds that can wait."""
        return self.config.capacity + self.config.slack

    @property
    def full(self) -> bool:
        """The sender should pause."""
        return self.buffered >= self.config.capacity

    @property
    def accepts(self) -> bool:
        """Whether `push` takes a piece."""
        return self.buffered < self.most

    @property
    def ready(self) -> bool:
        """A sender that paused may go on."""
        return self.buffered <= self.config.ready

    @property
    def speaking(self) -> bool:
        """Whether a segment has begun and is not over."""
        return bool(self._marks) or any(segment.begun for segment in self._segments)

    @property
    def decided(self) -> int:
        """The sample up to which sound has been given out; what is sent now comes after it."""
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
        """The sample whose moment `now` is."""
        return int((now - self._origin) * SAMPLE_RATE)

    # Out

    def deadline(self) -> float:
        """When `poll` has something to give, if nothing is sent before."""
        moments = [self._tick]
        if self._end < self._block_end and (self._silent or self._waits):
            moments.append(self._turn)
        if self._marks:
            moments.append(self.captured(self._marks[0][0]))
        return min(moments)

    def poll(self, now: float) -> PollResult:
        """What is due by now."""
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
        """When the next block is handed on."""
        return self.captured(self._block_end - self._lookahead)

    @property
    def _turn(self) -> float:
        """From when on what comes next on the line may be taken."""
        return self.captured(self._end - self._lookahead)

    @property
    def _waits(self) -> bool:
        """Whether there is a piece of speech that may be taken."""
        if not self._segments or self._dry:
            return False
        source = self._segments[0].source
        if source.ended:
            return True
        if self._talking:
            return True
        return source.seconds >= (self.config.resume if self._slow else self.config.start) - 1e-9

    def _take(self, out: PollResult) -> bool:
        """Puts the next piece on the line, or a silent packet where one is due; False where there is neither."""
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
        """The first segment is on the line up to `end`. One without sound never begins there."""
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
        """Puts sound on the line. `fresh`: it does not continue what came before."""
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
        """The next block; what was not decided of it is silence."""
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
