"""A bot's speech on its line, with time as an argument: when it is due, what is heard of it; nothing clicks."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamer.audio import (
    BadSpeech,
    Finished,
    OpusDecoder,
    OpusEncoder,
    Packet,
    SpeechFormat,
    SpeechQueue,
    SpeechQueueConfig,
    Started,
)
from streamer.audio.framing import Speech
from streamer.audio.speech_source import MAX_MESSAGE

LOOKAHEAD = 640
BEGIN = 100.0


def wave(seconds: float, rate: int = 24_000, pitch: float = 440.0) -> np.ndarray:
    """[n] int16."""
    t = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * pitch * t)).astype("<i2")


class Line:
    """A FedSpeech whose shell calls exactly when it is asked to, and what came out of it."""

    def __init__(self, lookahead: int = LOOKAHEAD, config: SpeechQueueConfig | None = None) -> None:
        self.fed = SpeechQueue(lookahead, BEGIN, config)
        self.lookahead = lookahead
        self.now = BEGIN
        self.chunks: list[tuple[float, int, np.ndarray]] = []
        self.packets: list[tuple[float, Packet]] = []
        self.events: list[tuple[float, Started | Finished]] = []

    def poll(self, now: float | None = None) -> None:
        self.now = max(self.now, self.now if now is None else now)
        out = self.fed.poll(self.now)
        self.chunks += [(self.now, c.pts, c.samples) for c in out.chunks]
        self.packets += [(self.now, p) for p in out.packets]
        self.events += [(self.now, e) for e in out.events]

    def until(self, seconds: float) -> None:
        """Lets time go on to `seconds` after the beginning."""
        end, calls = BEGIN + seconds, 0
        while (deadline := self.fed.deadline()) <= end:
            self.poll(max(deadline, self.now) + 1e-9)
            calls += 1
            assert calls < 1000 + 200 * seconds, "it asks to be called without having anything to give"
        self.now = end

    def say(self, samples: np.ndarray, rate: int = 24_000, cuts: Sequence[int] = (), end: bool = True) -> None:
        self.fed.start(SpeechFormat("pcm16", rate))
        for part in np.split(samples, [c for c in sorted(set(cuts)) if c < len(samples)]):
            self.fed.push(part.tobytes())
        if end:
            self.fed.end()
        self.poll()

    @property
    def mouth(self) -> np.ndarray:
        return np.concatenate([samples for _, _, samples in self.chunks])

    @property
    def ear(self) -> np.ndarray:
        """What a receiver hears, at 16 kHz; silence where no packet is."""
        line = np.zeros(self.packets[-1][1].pts + 5000, np.float32)
        decoder = OpusDecoder()
        for _, packet in self.packets:
            samples = decoder.decode(packet.payload)
            assert samples is not None and len(samples) == packet.duration
            line[packet.pts : packet.pts + packet.duration] = samples
        return line

    def told(self, kind: type) -> list:
        return [event for _, event in self.events if isinstance(event, kind)]


class TestTime:
    @pytest.mark.parametrize("lookahead", [0, 320, 640, 1280])
    def test_each_frame_is_due_at_its_sample(self, lookahead: int) -> None:
        """Frame k becomes answerable when the clock shows sample 640 k, whatever the look-ahead, spoken to or not."""
        line, speech = Line(lookahead), Speech(lookahead)
        line.until(0.5)
        line.say(wave(0.7))
        line.until(2.0)
        due = {}
        for now, pts, samples in line.chunks:
            for frame, _ in speech.push(pts, samples):
                due[frame] = now
        first = 1 if lookahead == 0 else 0  # with none, the first block brings two frames
        assert sorted(due) == list(range(len(due)))
        assert len(due) >= 50
        for frame, now in list(due.items())[first:]:
            assert now == pytest.approx(BEGIN + 0.04 * frame, abs=1e-6)
            assert line.fed.captured(640 * frame) == pytest.approx(now, abs=1e-6)

    @pytest.mark.parametrize("lookahead", [320, 640])
    @settings(max_examples=50, deadline=None)
    @given(arrival=st.floats(0.2, 0.3))
    def test_the_next_frame_answers_the_first_sample(self, lookahead: int, arrival: float) -> None:
        """However the message falls between two frames, the very next frame hears the speech from its first sample."""
        assume(abs(25 * arrival - round(25 * arrival)) > 1e-3)  # not when a frame is due
        line = Line(lookahead)
        line.until(arrival)
        line.say(wave(0.5))
        line.until(0.5)
        onset = line.told(Started)[0].pts
        next_frame = int(np.floor(arrival * 25 - 1e-6)) + 1
        assert onset == 640 * (next_frame - 1) + lookahead
        assert onset <= 640 * next_frame
        heard = {pts: samples for _, pts, samples in line.chunks}
        assert np.abs(heard[onset]).max() > 0.1
        assert all(np.abs(samples).max() == 0 for pts, samples in heard.items() if pts < onset)

    def test_silence_costs_no_packets(self) -> None:
        """Idle sends nothing to the ear; after speech two silent packets follow, and then nothing."""
        line = Line()
        line.until(1.0)
        assert not line.packets
        line.say(wave(0.2))
        line.until(3.0)
        assert len(line.packets) == 10 + 2
        assert np.abs(line.ear[line.packets[-1][1].pts + 120 :]).max() < 5e-3

    def test_sound_is_even_and_ahead(self) -> None:
        """Packets follow each other by 20 ms and leave a look-ahead before their moment, but for the first ones."""
        line = Line()
        line.until(0.53)
        line.say(wave(2.0))
        line.until(3.0)
        pts = [packet.pts for _, packet in line.packets]
        assert np.all(np.diff(pts) == 320)
        ahead = [line.fed.captured(packet.pts) - now for now, packet in line.packets]
        assert ahead[2:] == pytest.approx([0.040] * (len(ahead) - 2), abs=1e-6)
        assert all(0 <= a <= 0.040 + 1e-6 for a in ahead[:2])

    def test_does_not_drift(self) -> None:
        """After ten minutes of polls at odd moments, the line stands where the clock does."""
        fed = SpeechQueue(LOOKAHEAD, BEGIN)
        random = np.random.default_rng(3)
        now, end = BEGIN, 0
        while now < BEGIN + 600:
            now += random.uniform(0.0, 0.15)
            for chunk in fed.poll(now).chunks:
                assert chunk.pts == end
                end = chunk.end
        assert abs(end - (now - BEGIN) * 16_000 - LOOKAHEAD) <= 640
        assert fed.stats.slipped_ms == 0

    def test_a_stall_loses_no_speech(self) -> None:
        """A server that was held up for a second goes on where it was, a second later, and says so."""
        line = Line()
        line.say(wave(1.0))
        line.until(0.3)
        line.poll(BEGIN + 1.3)
        line.now = BEGIN + 1.3
        before = len(line.packets)
        line.until(3.0)
        assert line.fed.stats.slipped_ms == pytest.approx(1000, abs=45)
        assert line.told(Finished) == [Finished(1, 1000, False)]
        assert before < len(line.packets) == 52
        assert np.all(np.diff([pts for _, pts, _ in line.chunks]) == 640)


class TestSound:
    @settings(max_examples=40, deadline=None)
    @given(
        rate=st.sampled_from([8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 8001, 37_813]),
        cuts=st.lists(st.integers(1, 12_000), max_size=20),
        odd=st.integers(0, 700),
    )
    def test_cuts_do_not_matter(self, rate: int, cuts: list[int], odd: int) -> None:
        """The same samples and packets come out however the speech was cut into messages."""
        samples = wave(0.3, rate)[: round(0.3 * rate) - odd]
        lines = [Line(), Line()]
        lines[0].say(samples, rate)
        lines[1].say(samples, rate, cuts)
        for line in lines:
            line.until(0.6)
        assert np.array_equal(lines[0].mouth, lines[1].mouth)
        assert lines[0].packets == lines[1].packets
        assert lines[0].events == lines[1].events

    @pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 24_000, 44_100, 48_000])
    def test_is_what_was_said(self, rate: int) -> None:
        """Network and ear are given the wave that was sent, at its place; the ear late by the encoder's 6.5 ms."""
        line = Line()
        line.say(wave(1.0, rate), rate)
        line.until(1.5)
        onset = line.told(Started)[0].pts
        want = wave(1.0, 16_000).astype(np.float32) / 32_768
        got = line.mouth[onset : onset + 16_000]
        assert np.abs(got - want)[200:-200].max() < 0.003
        heard = line.ear[onset:]
        fits = [np.corrcoef(heard[2000 + late : 14_000 + late], want[2000:14_000])[0, 1] for late in range(98, 110)]
        assert max(fits) > 0.99
        assert line.told(Finished) == [Finished(1, 1000, False)]

    def test_borders_do_not_click(self) -> None:
        """Where segments begin, end, follow each other or are cut, no step is larger than within a loud low tone.

        A step is what a click is made of: the second difference of the wave.
        """
        line = Line()
        tone = (20_000 * np.cos(2 * np.pi * 150 * np.arange(24_000 // 4 + 113) / 24_000)).astype("<i2")
        line.say(tone)
        line.say(-tone)
        line.say(tone)
        line.until(0.42)
        line.fed.clear(heard=0)
        line.poll()
        line.until(0.5)
        line.say(tone, end=False)  # and a sender that goes silent in the middle
        line.until(1.5)

        def roughness(sound: np.ndarray) -> float:
            return float(np.abs(np.diff(sound, 2)).max())

        whole = tone.astype(np.float32) / 32_768
        inside = roughness(np.interp(np.arange(0, len(whole), 1.5), np.arange(len(whole)), whole))
        unsoftened = 2 * 20_000 / 32_768
        assert roughness(line.ear[: line.packets[-1][1].pts]) < 10 * inside < 0.2 * unsoftened

    def test_the_network_hears_no_steps_either(self) -> None:
        """Where segments begin, meet and end, its wave has no step: a step is noise of all pitches, as an s is."""
        line = Line()
        tone = (20_000 * np.cos(2 * np.pi * 150 * np.arange(6113) / 24_000)).astype("<i2")
        line.say(tone)
        line.say(-tone)
        line.until(1.0)
        assert np.abs(np.diff(line.mouth, 2)).max() < 0.1

    def test_opus_is_forwarded_as_it_came(self) -> None:
        """Packets of any duration reach the ear untouched and in place, and the mouth hears what they hold."""
        line = Line()
        encoder = OpusEncoder(48_000)
        sound = wave(0.96, 48_000).astype(np.float32) / 32_768
        sizes = [480, 960, 1920, 2880] * 7
        packets, at = [], 0
        for size in sizes:
            packets.append(encoder.encode(sound[at : at + size]))
            at += size
        line.fed.start(SpeechFormat("opus", 48_000))
        for packet in packets:
            line.fed.push(packet)
        line.fed.end()
        line.poll()
        line.until(1.5)
        sent = [packet for _, packet in line.packets]
        assert [p.payload for p in sent[: len(packets)]] == packets
        assert [3 * p.duration for p in sent[: len(packets)]] == sizes
        assert len(sent) == len(packets) + 2
        assert all(a.pts + a.duration == b.pts for a, b in zip(sent, sent[1:], strict=False))
        assert line.told(Finished) == [Finished(1, round(at / 48), False)]
        assert np.abs(line.mouth).max() > 0.2

    def test_segments_follow_each_other(self) -> None:
        """What is sent as several segments is spoken as several, without a frame between them."""
        line = Line()
        for _ in range(3):
            line.say(wave(0.4))
        line.until(2.0)
        starts, ends = line.told(Started), line.told(Finished)
        assert [s.segment for s in starts] == [e.segment for e in ends] == [1, 2, 3]
        assert [e.position_ms for e in ends] == [400] * 3
        assert np.diff([s.pts for s in starts]).tolist() == [6400, 6400]
        moments = [now for now, e in line.events if isinstance(e, Finished)]
        for now, start in zip(moments, starts, strict=True):
            assert now == pytest.approx(line.fed.captured(start.pts + 6400), abs=1e-6)


class TestSlowSenders:
    def test_real_time_pieces_do_not_stutter(self) -> None:
        """20 ms pieces, each when it would have been recorded, up to 15 ms late: no pause comes into the speech."""
        line = Line()
        line.fed.start(SpeechFormat("pcm16", 16_000))
        sound, random = wave(2.0, 16_000), np.random.default_rng(1)
        for i in range(100):
            line.until(0.5 + 0.02 * i + random.uniform(0, 0.015))
            line.fed.push(sound[320 * i : 320 * (i + 1)].tobytes())
            line.poll()
        line.fed.end()
        line.poll()
        line.until(3.0)
        assert line.fed.stats.underruns == 0
        assert line.told(Finished) == [Finished(1, 2000, False)]

    def test_a_pause_of_the_sender_is_silence(self) -> None:
        """What comes too late is spoken when it comes, whole, and the pause is counted once; positions leave it out."""
        line = Line()
        line.until(0.1)
        sound = wave(1.0)
        line.say(sound[:12_000], end=False)
        line.until(1.0)
        line.fed.push(sound[12_000:12_100].tobytes())
        line.poll()
        assert not [p for now, p in line.packets if now >= BEGIN + 0.7], "it stutters"
        line.fed.push(sound[12_100:].tobytes())
        line.fed.end()
        line.poll()
        line.until(2.5)
        assert line.fed.stats.underruns == 1
        assert line.told(Finished) == [Finished(1, 1000, False)]
        loud = np.abs(line.mouth).reshape(-1, 320).max(1) > 0.1
        assert loud.sum() == pytest.approx(50, abs=2)
        assert np.flatnonzero(np.diff(loud.astype(int)) == 1).size == 2

    def test_a_short_segment_waits_for_its_end(self) -> None:
        """Less than a frame's worth begins once it is known to be all."""
        line = Line()
        line.say(wave(0.02), end=False)
        line.until(0.5)
        assert not line.events
        line.fed.end()
        line.poll()
        line.until(1.0)
        assert line.told(Finished) == [Finished(1, 20, False)]

    def test_an_end_that_comes_late_ends_it(self) -> None:
        """A segment whose end is told long after its last sample has its whole length."""
        line = Line()
        line.say(wave(0.5), end=False)
        line.until(2.0)
        assert not line.told(Finished)
        line.fed.end()
        line.poll()
        line.until(2.5)
        assert line.told(Finished) == [Finished(1, 500, False)]


class TestInterruption:
    @settings(max_examples=60, deadline=None)
    @given(at=st.floats(0.05, 1.4), lag=st.floats(0.0, 0.2))
    def test_position_is_what_was_heard(self, at: float, lag: float) -> None:
        """Of three segments of 0.4 s, each cut at some moment: whole before it, in part at it, nothing after it."""
        line = Line()
        for _ in range(3):
            line.say(wave(0.4))
        onset = line.told(Started)[0].pts
        line.until(at)
        done = [e.segment for e in line.told(Finished)]
        heard = round((at - lag) * 16_000)
        cut = line.fed.clear(heard)
        assert done + [f.segment for f in cut] == [1, 2, 3]
        assert all(f.interrupted for f in cut)
        for f in cut:
            first = onset + 6400 * (f.segment - 1)
            assert f.position_ms == pytest.approx(min(max((heard - first) / 16, 0), 400), abs=1)
        line.poll()
        line.until(at + 1.0)
        assert line.told(Finished) == [Finished(n, 400, False) for n in done]

    def test_nothing_of_it_is_handed_on(self) -> None:
        """After `clear` the mouth is given silence at once, and the ear what lets its decoder come to rest."""
        line = Line()
        line.say(wave(5.0))
        line.until(1.015)
        packets = len(line.packets)
        line.fed.clear(heard=16_000)
        line.poll()
        line.until(2.0)
        assert line.fed.buffered == 0
        assert all(np.abs(s).max() == 0 for now, _, s in line.chunks if now > BEGIN + 1.015)
        after = [packet for _, packet in line.packets[packets:]]
        assert len(after) == 2
        assert np.abs(line.ear[after[-1].pts + 120 :]).max() < 5e-3

    def test_what_comes_next_is_spoken(self) -> None:
        """After its own interruption a bot's next piece begins another segment, on a line that never goes back."""
        line = Line()
        line.say(wave(5.0), end=False)
        line.until(1.0)
        line.fed.clear(heard=16_000)
        line.fed.push(wave(0.3).tobytes())
        line.fed.end()
        line.poll()
        line.until(2.0)
        assert [s.segment for s in line.told(Started)] == [1, 2]
        assert line.told(Finished) == [Finished(2, 300, False)]
        pts = [packet.pts for _, packet in line.packets]
        assert all(a < b for a, b in zip(pts, pts[1:], strict=False))

    def test_what_was_under_way_is_discarded(self) -> None:
        """Interrupted by another, what the bot still sends of that segment is counted and not spoken; then it is."""
        line = Line()
        line.say(wave(1.0), end=False)
        line.until(0.5)
        line.fed.clear(heard=8000, discard=True)
        line.fed.push(wave(2.0).tobytes())
        line.fed.end()
        assert line.fed.buffered == 0
        assert line.fed.stats.discarded_ms == 2000
        line.say(wave(0.2))
        line.until(2.0)
        assert line.told(Finished) == [Finished(2, 200, False)]

    def test_without_an_open_segment_nothing_is_discarded(self) -> None:
        """What begins after another's interruption was not under way."""
        line = Line()
        line.say(wave(1.0))
        line.until(0.5)
        line.fed.clear(heard=8000, discard=True)
        line.say(wave(0.2))
        assert line.fed.stats.discarded_ms == 0
        line.until(1.0)
        assert line.told(Finished) == [Finished(2, 200, False)]


class TestBounds:
    def test_waits_up_to_a_bound(self) -> None:
        """Full at its capacity, closed at the slack beyond, ready again at half; all that was taken is spoken."""
        line = Line(config=SpeechQueueConfig(capacity=2.0, slack=0.5, ready=1.0))
        fed, second = line.fed, wave(0.5).tobytes()
        fed.start(SpeechFormat("pcm16", 24_000))
        states = []
        while fed.accepts:
            fed.push(second)
            states.append(fed.full)
        assert states == [False, False, False, True, True]
        with pytest.raises(BadSpeech, match=r"2\.5 s of speech are queued") as caught:
            fed.push(second)
        assert caught.value.reason == "full"
        fed.end()
        line.until(1.0)
        assert fed.accepts and not fed.full and not fed.ready
        line.until(1.6)
        assert fed.ready
        line.until(4.0)
        assert line.told(Finished) == [Finished(1, 2500, False)]
        assert fed.buffered == 0

    def test_many_tiny_pieces_are_one(self) -> None:
        """Two bytes at a time are as good as all at once."""
        line, whole = Line(), Line()
        sound = wave(0.5, 8000)
        line.say(sound, 8000, cuts=range(1, len(sound)))
        whole.say(sound, 8000)
        for each in (line, whole):
            each.until(1.0)
        assert np.array_equal(line.mouth, whole.mouth)

    @settings(max_examples=30, deadline=None)
    @given(cuts=st.lists(st.integers(1, 4801), max_size=12))
    def test_bytes_are_a_stream(self, cuts: list[int]) -> None:
        """A sample may be cut in two by messages: the byte that is loose belongs to the next message."""
        data = wave(0.1).tobytes()
        lines = [Line(), Line()]
        edges = [0, *sorted(set(cuts)), len(data)]
        for line, pieces in zip(
            lines, ([data], [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]), strict=True
        ):
            line.fed.start(SpeechFormat("pcm16", 24_000))
            for piece in pieces:
                line.fed.push(piece)
            line.fed.end()
            line.poll()
            line.until(0.4)
        assert lines[0].packets == lines[1].packets and lines[0].events == lines[1].events
        assert lines[1].fed.stats.malformed == 0

    def test_a_loose_byte_ends_with_its_segment(self) -> None:
        """Half a sample at a segment's end is dropped and counted, and the next segment begins with whole ones."""
        line, plain = Line(), Line()
        data = wave(0.2).tobytes()
        for each, loose in ((line, b"\x7f"), (plain, b"")):
            each.fed.start(SpeechFormat("pcm16", 24_000))
            for _ in range(2):
                each.fed.push(data + loose)
                each.fed.end()
            each.poll()
            each.until(1.0)
        assert line.packets == plain.packets and line.events == plain.events
        assert (line.fed.stats.malformed, plain.fed.stats.malformed) == (2, 0)

    @pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 44_100, 48_000])
    @pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 40])
    def test_each_segment_finishes_once(self, rate: int, count: int) -> None:
        """However short it is, alone and between others; what follows it is spoken."""
        line = Line()
        for samples in (count, rate // 10, count, count):
            line.fed.start(SpeechFormat("pcm16", rate))
            line.fed.push(wave(1.0, rate)[:samples].tobytes())
            line.fed.end()
            line.poll()
        line.until(1.0)
        line.fed.push(bytes(2 * count))
        line.fed.end()
        line.poll()
        line.until(1.5)
        short = round(1000 * count / rate)
        assert line.told(Finished) == [Finished(n, 100 if n == 2 else short, False) for n in range(1, 6)]
        assert [started.segment for started in line.told(Started)] == ([1, 2, 3, 4, 5] if count else [2])
        assert line.fed.buffered == 0 and not line.fed.speaking

    def test_empty_segments_make_no_sound(self) -> None:
        """No packet is sent for them."""
        line = Line()
        line.fed.start(SpeechFormat("pcm16", 24_000))
        for _ in range(5):
            line.fed.push(b"")
            line.fed.end()
            line.poll()
            line.until(line.now - BEGIN + 0.1)
        assert not line.packets and len(line.told(Finished)) == 5

    def test_an_interruption_ends_short_segments_too(self) -> None:
        """Each that waits is told of once, and none of them again."""
        line = Line()
        line.fed.start(SpeechFormat("pcm16", 24_000))
        for count in (24_000, 0, 4, 0, 400):
            line.fed.push(bytes(2 * count))
            line.fed.end()
        line.poll()
        line.until(0.5)
        assert [f.segment for f in line.fed.clear(heard=0)] == [1, 2, 3, 4, 5]
        line.poll()
        line.until(2.0)
        assert not line.told(Finished)

    def test_many_short_segments_wait(self) -> None:
        """A segment counts as the 20 ms that it takes, so seconds bound their number; all are told of in the end."""
        line = Line(config=SpeechQueueConfig(capacity=2.0, slack=0.5, ready=1.0))
        line.fed.start(SpeechFormat("pcm16", 24_000))
        sent = 0
        while line.fed.accepts:
            line.fed.push(bytes(20))
            line.fed.end()
            sent += 1
            assert line.fed.full == (sent >= 100)
        assert sent == 125 and line.fed.buffered == pytest.approx(2.5)
        with pytest.raises(BadSpeech, match=r"2\.5 s of speech are queued"):
            line.fed.push(bytes(20))
        line.poll()
        line.until(5.0)
        assert [f.segment for f in line.told(Finished)] == list(range(1, 126))
        assert line.fed.buffered == 0

    @pytest.mark.parametrize(
        ("data", "kind", "reason"),
        [
            (bytes(MAX_MESSAGE + 2), "pcm16", "too_large"),
            (bytes(MAX_MESSAGE + 1), "opus", "too_large"),
            (b"", "opus", "bad_packet"),
            (b"\xff", "opus", "bad_packet"),
        ],
    )
    def test_bad_pieces_change_nothing(self, data: bytes, kind: str, reason: str) -> None:
        line = Line()
        line.fed.start(SpeechFormat(kind, 24_000))
        with pytest.raises(BadSpeech) as caught:
            line.fed.push(data)
        assert caught.value.reason == reason
        assert str(len(data)) in caught.value.detail
        assert line.fed.stats.segments == 0

    def test_speech_before_its_format_is_refused(self) -> None:
        with pytest.raises(BadSpeech, match="4 bytes") as caught:
            SpeechQueue(LOOKAHEAD, BEGIN).push(bytes(4))
        assert caught.value.reason == "not_started"

    @pytest.mark.parametrize(("kind", "rate", "reason"), [
        ("mp3", 24_000, "unknown_format"), ("pcm16", 7999, "bad_rate"), ("pcm16", 48_001, "bad_rate"),
        ("opus", 0, "bad_rate"), ("pcm16", True, "bad_rate"),
    ])  # fmt: skip
    def test_formats_that_there_are_not(self, kind: str, rate: int, reason: str) -> None:
        with pytest.raises(BadSpeech) as caught:
            SpeechFormat(kind, rate)
        assert caught.value.reason == reason

    def test_a_broken_packet_is_silence(self) -> None:
        """An Opus packet whose inside is broken is counted, and its time passes."""
        line = Line()
        good = OpusEncoder(48_000).encode(wave(0.02, 48_000).astype(np.float32) / 32_768)
        line.fed.start(SpeechFormat("opus", 48_000))
        for packet in (good, b"\x09\x01", good, good):
            line.fed.push(packet)
        line.fed.end()
        line.poll()
        line.until(1.0)
        assert line.fed.stats.malformed == 1
        assert len(line.told(Finished)) == 1
