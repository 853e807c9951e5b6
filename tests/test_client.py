"""The Python client: its protocol by the golden vectors, its speech, its frames, and what it says when things fail."""

import asyncio
import contextlib
import json
import re
import sys
import threading
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiortc.rtp import RtpPacket
from lipstream_client import BadSpeech, Client, LipstreamError, RequestError, SessionLost, Unreachable, protocol, speech
from lipstream_client.media import FrameAssembler, begins_keyframe
from lipstream_client.queues import DropOldestQueue
from lipstream_client.speech import RATE, PacedSpeech, to_mono
from lipstream_client.stats import STAGES, ClockSync, Latencies, Percentiles
from peers import SAMPLE, correlation, delay, place, silence, spoken, tone

CLIENTS = Path(__file__).parent.parent / "clients"


def vectors(name: str) -> dict[str, Any]:
    return json.loads((CLIENTS / "vectors" / f"{name}.json").read_text())


CLIENT, SERVER, RTP = vectors("client_messages"), vectors("server_messages"), vectors("rtp")
SPEECH = vectors("speech_messages")


class TestProtocol:
    @pytest.mark.parametrize("vector", SERVER["valid"], ids=lambda v: v["message"]["type"])
    def test_takes_what_a_server_may_say(self, vector: dict[str, Any]) -> None:
        """Each valid message is taken as it is, unknown fields included."""
        assert protocol.read_message(json.dumps(vector["message"])) == vector["message"]

    @pytest.mark.parametrize("vector", SERVER["ignored"], ids=lambda v: v["message"]["type"])
    def test_passes_over_what_it_does_not_know(self, vector: dict[str, Any]) -> None:
        """Unknown types are no error."""
        assert protocol.read_message(json.dumps(vector["message"])) is None

    @pytest.mark.parametrize("vector", SERVER["invalid"], ids=lambda v: v["why"])
    def test_refuses_bad_messages(self, vector: dict[str, Any]) -> None:
        """A message with a wrong field is a BadMessage."""
        with pytest.raises(protocol.BadMessage):
            protocol.read_message(json.dumps(vector["message"]))

    @pytest.mark.parametrize("vector", SERVER["invalid_text"], ids=lambda v: v["why"])
    def test_refuses_what_is_no_message(self, vector: dict[str, Any]) -> None:
        """Text that is no message is a BadMessage, and so is binary."""
        for data in (vector["text"], vector["text"].encode()):
            with pytest.raises(protocol.BadMessage):
                protocol.read_message(data)

    @pytest.mark.parametrize("vector", SPEECH["server"], ids=lambda v: v["message"]["type"])
    def test_takes_what_a_speech_socket_may_say(self, vector: dict[str, Any]) -> None:
        assert protocol.read_speech_message(json.dumps(vector["message"])) == vector["message"]

    @pytest.mark.parametrize("vector", SPEECH["bad"], ids=lambda v: v["why"])
    def test_refuses_bad_messages_of_a_speech_socket(self, vector: dict[str, Any]) -> None:
        with pytest.raises(protocol.BadMessage):
            protocol.read_speech_message(json.dumps(vector["message"]))

    @pytest.mark.parametrize("vector", CLIENT["builds"], ids=lambda v: str(v["call"]))
    def test_builds_messages(self, vector: dict[str, Any]) -> None:
        """The builders make the vectors' messages."""
        name, *arguments = vector["call"]
        assert getattr(protocol, name)(*arguments) == vector["message"]

    @pytest.mark.parametrize("vector", CLIENT["refuses"], ids=lambda v: str(v["call"]))
    def test_refuses_to_build(self, vector: dict[str, Any]) -> None:
        """The builders make nothing that a server would refuse."""
        name, *arguments = vector["call"]
        with pytest.raises((ValueError, TypeError)):
            getattr(protocol, name)(*arguments)

    @pytest.mark.parametrize("vector", RTP["vectors"], ids=str)
    def test_names_frames(self, vector: dict[str, Any]) -> None:
        """An RTP timestamp names the frame that the vectors say, across the clock's wrap."""
        assert protocol.frame_of(vector["rtp"], vector["offset"], vector["near"]) == vector["frame"]

    def test_names_samples(self) -> None:
        """Sound's timestamps count three ticks a sample, across the clock's wrap after a day."""
        assert protocol.sample_of(2**32 - 30, 2**32 - 60, 0) == 10
        assert protocol.sample_of(29, 2**32 - 1, 0) == 10
        assert protocol.sample_of(2, 0, 2**32 // 3) == (2**32 + 2) // 3
        assert protocol.sample_of(1, 0, 0) is None


class TestDropOldestQueue:
    async def test_full_queue_drops_its_oldest(self) -> None:
        """Beyond the bound the oldest goes and is counted; closing ends the iteration after what waits."""
        queue: DropOldestQueue[int] = DropOldestQueue(2)
        for i in range(5):
            queue.put(i)
        queue.close()
        queue.put(9)
        assert [item async for item in queue] == [3, 4]
        assert queue.dropped == 3

    async def test_error_follows_what_waits(self) -> None:
        """Closed with an error, it is raised once what waits was taken, and again whenever asked."""
        queue: DropOldestQueue[int] = DropOldestQueue(2)
        queue.put(1)
        queue.close(SessionLost("gone"))
        assert await anext(queue) == 1
        for _ in range(2):
            with pytest.raises(SessionLost, match="gone"):
                await anext(queue)

    async def test_waiting_consumer_wakes(self) -> None:
        """Who waits gets what is put, and the end."""
        queue: DropOldestQueue[int] = DropOldestQueue(1)
        first = asyncio.create_task(anext(queue))
        asyncio.get_running_loop().call_soon(queue.put, 7)
        assert await first == 7
        asyncio.get_running_loop().call_soon(queue.close)
        with pytest.raises(StopAsyncIteration):
            await anext(queue)

    def test_bound(self) -> None:
        """A queue that holds nothing is refused with its bound."""
        with pytest.raises(ValueError, match="0"):
            DropOldestQueue(0)


class Clock:
    """A virtual clock for `speech`: sleeping takes as long as asked, and then some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, late: float) -> None:
        self.now = 1000.0
        self._late = late
        monkeypatch.setattr(speech, "time", types.SimpleNamespace(monotonic=lambda: self.now))
        own = types.SimpleNamespace(**{name: getattr(asyncio, name) for name in ("Event", "create_task", "Task")})
        own.CancelledError, own.get_running_loop, own.sleep = (
            asyncio.CancelledError,
            asyncio.get_running_loop,
            self._sleep,
        )
        monkeypatch.setattr(speech, "asyncio", own)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds + self._late
        await asyncio.sleep(0)


async def packets(voice: PacedSpeech, count: int) -> np.ndarray:
    return np.concatenate([(await voice.packet())[1] for _ in range(count)])


class TestSpeech:
    @pytest.mark.parametrize("duration", [0.010, 0.020])
    async def test_pace_does_not_drift(self, monkeypatch: pytest.MonkeyPatch, duration: float) -> None:
        """Packet n is ready when its last sample would have been captured: late sleeps never add up."""
        clock = Clock(monkeypatch, late=0.003)
        voice = PacedSpeech(None, duration=duration)
        first = clock.now
        for n in range(2000):
            start, samples = await voice.packet()
            assert start == n * len(samples)
            assert -1e-6 <= clock.now - (first + (n + 1) * duration) <= 0.0031
        assert len(samples) == RATE * duration

    async def test_stall_is_caught_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a stall what is overdue goes out at once, and then the pace is the old one."""
        clock = Clock(monkeypatch, late=0.0)
        voice = PacedSpeech(None)
        await voice.packet()
        clock.now += 1.0
        before = clock.now
        for _ in range(50):
            await voice.packet()
        assert clock.now == before
        await voice.packet()
        assert clock.now == pytest.approx(before + 0.020)

    async def test_array_is_sent_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every sample of an array goes out once, then silence; then it is exhausted, and nothing was missing."""
        Clock(monkeypatch, late=0.0)
        sound = tone(1.234)
        voice = PacedSpeech(sound)
        await voice.start()
        sent = await packets(voice, 61)
        assert not voice.exhausted.is_set()
        sent = np.concatenate([sent, await packets(voice, 5)])
        await voice.close()
        assert voice.exhausted.is_set()
        assert np.array_equal(sent[: len(sound)], sound)
        assert not sent[len(sound) :].any()
        assert voice.underruns == 0

    async def test_other_rates_and_layouts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stereo integers at 16 kHz become the same sound at 48 kHz."""
        Clock(monkeypatch, late=0.0)
        t = np.arange(16_000) / 16_000
        mono = (12_000 * np.sin(2 * np.pi * 300 * t)).astype(np.int16)
        voice = PacedSpeech(np.stack([mono, mono], 1), rate=16_000)
        await voice.start()
        sent = await packets(voice, 48)
        await voice.close()
        expected = 12_000 / 32_768 * np.sin(2 * np.pi * 300 * np.arange(len(sent)) / RATE)
        assert delay(sent, expected.astype(np.float32), 480)[1] > 0.999
        assert np.abs(sent).max() == pytest.approx(12_000 / 32_768, rel=0.02)

    async def test_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A recording is read in a thread of its own, which ends with it."""
        Clock(monkeypatch, late=0.0)
        voice = PacedSpeech(str(SAMPLE))
        await voice.start()
        sent = np.zeros(0, np.float32)
        while len(sent) < 1.8 * RATE:
            while voice._queued < RATE / 50:  # the clock is virtual, reading is not
                await voice._wait()
            sent = np.concatenate([sent, await packets(voice, 1)])
        assert any(thread.name.startswith("lipstream-speech") for thread in threading.enumerate())
        await voice.close()
        assert not any(thread.name.startswith("lipstream-speech") for thread in threading.enumerate())
        assert correlation(sent[round(0.76 * RATE) :], spoken(2.0)[: len(sent) - round(0.76 * RATE)]) > 0.999

    async def test_late_iterator_is_silence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bot's voice that is not there in time goes out as silence, is counted, and loses no sample."""
        Clock(monkeypatch, late=0.0)
        go = asyncio.Event()

        async def voice_of_a_bot() -> AsyncIterator[np.ndarray]:
            yield np.full(1000, 0.5, np.float32)
            await go.wait()
            yield np.full(500, 0.25, np.float32)

        voice = PacedSpeech(voice_of_a_bot())
        await voice.start()
        await asyncio.sleep(0)
        sent = await packets(voice, 3)
        assert (sent[:1000] == 0.5).all()
        assert not sent[1000:].any()
        assert voice.underruns == 2
        go.set()
        await asyncio.sleep(0)
        sent = await packets(voice, 2)
        await voice.close()
        assert (sent == 0.25).sum() == 500
        assert voice.exhausted.is_set()

    async def test_fast_iterator_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A source that gives more than is sent is read about a second ahead, not whole."""
        Clock(monkeypatch, late=0.0)
        given = 0

        async def endless() -> AsyncIterator[np.ndarray]:
            nonlocal given
            while True:
                given += 1
                yield np.ones(4800, np.float32)

        voice = PacedSpeech(endless())
        await voice.start()
        await packets(voice, 20)
        await voice.close()
        assert given <= 16

    async def test_microphone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The microphone's blocks go out as the device delivers them; without the extra it says what is missing."""
        monkeypatch.setitem(sys.modules, "sounddevice", None)
        voice = PacedSpeech("microphone")
        await voice.start()
        await packets(voice, 1)
        assert isinstance(voice.error, BadSpeech)
        assert "lipstream-client[microphone]" in str(voice.error)
        await voice.close()

        class Device:
            def __init__(self, rate: int, callback: Any, **options: Any) -> None:
                assert (rate, options["channels"], options["dtype"]) == (RATE, 1, "float32")
                self._callback = callback

            def __enter__(self) -> None:
                for value in (0.1, 0.2, 0.3, 0.4):
                    self._callback(np.full((480, 1), value, np.float32), 480, None, None)

            def __exit__(self, *_: object) -> None:
                closed.append(True)

        closed: list[bool] = []
        device = types.SimpleNamespace(InputStream=Device, PortAudioError=OSError)
        monkeypatch.setitem(sys.modules, "sounddevice", device)
        voice = PacedSpeech("microphone")
        await voice.start()
        sent = await asyncio.wait_for(packets(voice, 2), 5)
        await voice.close()
        assert np.allclose(sent, np.repeat([0.1, 0.2, 0.3, 0.4], 480))
        assert closed == [True]

    @pytest.mark.parametrize(
        ("samples", "says"),
        [
            (np.zeros((2, 2, 2)), "shape"),
            (np.array([1 + 2j]), "complex"),
            (np.array([0.0, np.nan]), "1 of 2 samples, first in 1$"),
            (np.array(["a"]), "<U1"),
        ],
        ids=["cube", "complex", "nan", "text"],
    )
    def test_bad_samples(self, samples: np.ndarray, says: str) -> None:
        """Samples that are no sound are refused with what they are."""
        with pytest.raises(BadSpeech, match=says):
            to_mono(samples)

    def test_bad_options(self) -> None:
        """Other packets than 10 and 20 ms, and other sources than are known, are refused."""
        with pytest.raises(ValueError, match="15 ms"):
            PacedSpeech(None, duration=0.015)
        with pytest.raises(BadSpeech, match="int"):
            PacedSpeech(7)  # type: ignore[arg-type]


def rtp(number: int, timestamp: int, data: bytes, last: bool = False) -> RtpPacket:
    packet = RtpPacket(payload_type=99, sequence_number=number & 0xFFFF, timestamp=timestamp, marker=int(last))
    packet.payload = packet._data = data  # type: ignore[attr-defined]
    return packet


def film(frames: int, first: int = 65_530, parts: int = 3) -> list[tuple[RtpPacket, bool]]:
    """Packets of `frames` frames, the first one a key frame, and whether each begins a key frame."""
    made = []
    for f in range(frames):
        for part in range(parts):
            packet = rtp(first + f * parts + part, 3600 * f, bytes([f, part]), part == parts - 1)
            made.append((packet, f == 0 and part == 0))
    return made


class TestFrameAssembler:
    def test_frames_come_with_their_last_packet(self) -> None:
        """Each frame is there at once with its last packet, not with the next frame's first; numbers wrap."""
        assembler = FrameAssembler()
        for i, (packet, begins) in enumerate(film(5)):
            frames = assembler.add(packet, begins, i)
            assert len(frames) == (packet.marker == 1)
            if frames:
                assert frames[0].timestamp == packet.timestamp
                assert frames[0].data == b"".join(bytes([packet.timestamp // 3600, part]) for part in range(3))
                assert frames[0].received == i
        assert not assembler.wants_keyframe

    def test_order_does_not_matter(self) -> None:
        """Packets in any order within a window give the frames in order, none twice."""
        packets = film(12)
        order = np.argsort(np.arange(len(packets)) + np.random.default_rng(3).uniform(0, 6, len(packets)))
        order = [0, *(i for i in order if i)]  # the first to arrive is the first that there is
        assembler = FrameAssembler()
        frames = [f for i in [*order, *order[:5]] for f in assembler.add(*packets[i], 0.0)]
        assert [f.timestamp // 3600 for f in frames] == list(range(12))

    def test_missing_packet_is_waited_for(self) -> None:
        """A packet that comes again in time costs nothing: the frames behind it follow at once."""
        packets = film(6)
        assembler = FrameAssembler()
        late = packets.pop(4)
        frames = [f for i, p in enumerate(packets) for f in assembler.add(*p, 0.01 * i)]
        assert [f.timestamp // 3600 for f in frames] == [0]
        assert [f.timestamp // 3600 for f in assembler.add(*late, 0.2)] == [1, 2, 3, 4, 5]
        assert not assembler.wants_keyframe

    def test_lost_packet_costs_up_to_the_key_frame(self) -> None:
        """A packet that stays away makes it ask for a key frame; nothing that refers to the loss comes out."""
        packets = film(20)
        del packets[4]
        key = [(packet, i == 14 * 3 - 1) for i, (packet, _) in enumerate(packets)]
        packets = packets[:3] + key[3:]
        assembler = FrameAssembler()
        asked, frames = [], []
        for i, (packet, begins) in enumerate(packets):
            frames += assembler.add(packet, begins, 0.04 / 3 * i)
            if assembler.wants_keyframe:
                asked.append(packet.timestamp // 3600)
        assert [f.timestamp // 3600 for f in frames] == [0, *range(14, 20)]
        assert 7 <= asked[0] <= 10
        assert not assembler.wants_keyframe

    def test_begins_with_a_key_frame(self) -> None:
        """Frames before the first key frame are not given out, and one is asked for."""
        packets = [(packet, i == 6) for i, (packet, _) in enumerate(film(4))]
        assembler = FrameAssembler()
        first = assembler.add(*packets[0], 0.0)
        assert assembler.wants_keyframe
        frames = first + [f for p in packets[1:] for f in assembler.add(*p, 0.0)]
        assert [f.timestamp // 3600 for f in frames] == [2, 3]

    def test_what_waits_is_bounded(self) -> None:
        """However much comes behind a gap, or without any key frame, about a thousand packets are kept."""
        for begins in (True, False):
            assembler = FrameAssembler()
            assembler.add(rtp(0, 0, b"x"), begins, 0.0)
            for i in range(5000):
                assembler.add(rtp(2 + i, 3600 * i, b"x"), False, 0.0)
            assert len(assembler._waiting) <= 1100

    def test_key_frames_are_told(self) -> None:
        """Parameter sets begin an H.264 key frame; VP8's says so in its first bits."""
        assert begins_keyframe(b"", b"\0\0\0\1\x67\x42", False)
        assert not begins_keyframe(b"", b"\0\0\0\1\x41\x9a", False)
        assert not begins_keyframe(b"", b"", False)
        assert begins_keyframe(b"\x90\x80\x01", b"\x10\x02", True)
        assert not begins_keyframe(b"\x90\x80\x01", b"\x11\x02", True)
        assert not begins_keyframe(b"\x80\x80\x01", b"\x10\x02", True)


class TestStats:
    def test_clock_of_the_quickest_ping(self) -> None:
        """The offset is that of the shortest round trip of the recent ones."""
        clock = ClockSync(window=3)
        assert clock.offset is None
        clock.add(100, 102, 5101)
        clock.add(200, 230, 5200)
        assert (clock.offset, clock.rtt) == (5000, 2)
        for start in (300, 400, 500):
            clock.add(start, start + 10, start + 5006)
        assert (clock.offset, clock.rtt) == (5001, 10)

    def test_stages_add_up(self) -> None:
        """Rows and arrivals are joined by frame; each stage is its difference, on one clock."""
        latencies = Latencies()
        assert latencies.by_stage(None) == latencies.by_stage(0.0) == {}
        for k in range(10):
            latencies.row([k, 0, *(5000 + 40 * k + ms for ms in (0, 22, 23, 27, 29, 30))])
            if k != 4:
                latencies.received(k, 40 * k + 33)
        latencies.received(99, 0)
        stages = latencies.by_stage(5000)
        assert [stages[name].p50 for name in STAGES] == [22, 1, 4, 2, 1, 3]
        assert stages["total"] == Percentiles(33, 33, 33, 9)
        assert latencies.moments(5000)[0].tolist() == [0, 0, 22, 23, 27, 29, 30, 33]

    def test_memory_is_bounded(self) -> None:
        """A minute of frames is kept, however long the session."""
        latencies = Latencies()
        for k in range(5000):
            latencies.row([k, 0, *range(6)])
            latencies.received(k, 9)
        assert latencies.by_stage(0.0)["total"].count == 1500


@pytest.mark.usefixtures("leaves_nothing", "any_load")
class TestLive:
    async def test_example_of_the_readme(
        self, server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The README's example runs as it stands: frames, then a latency."""
        import wave

        code = re.search(r"```python\n(.*?)```", (CLIENTS / "python" / "README.md").read_text(), re.DOTALL)[1]
        assert len(code.strip().splitlines()) <= 14
        with wave.open(str(tmp_path / "hello.wav"), "wb") as out:
            out.setparams((1, 2, RATE, 0, "NONE", ""))
            out.writeframes((spoken(0.5) * 32767).astype("<i2").tobytes())
        monkeypatch.chdir(tmp_path)
        names: dict[str, Any] = {}
        exec(code.replace("http://127.0.0.1:8080", server.url).replace("asyncio.run(main())", ""), names)
        await asyncio.wait_for(names["main"](), 20)
        *frames, latency = capsys.readouterr().out.strip().splitlines()
        assert len(frames) >= 10
        assert frames[0].endswith("(256, 256, 3)")
        assert "p50=" in latency

    async def test_short_packets_of_a_bot(self, server: Any) -> None:
        """A bot's voice in packets of 10 ms comes back as it was, and its frames are numbered by it."""
        voice = np.concatenate([silence(0.2), spoken(0.8)])

        async def bot() -> AsyncIterator[np.ndarray]:
            for start in range(0, len(voice), 4800):
                yield voice[start : start + 4800]

        async with Client(server.url) as client, client.session(bot(), packet_ms=10, linger=0.1) as session:
            sounds = [sound async for sound in session.audio()]
            assert {len(sound.samples) for sound in sounds} == {480}
            late, fit = delay(place(sounds, 1.0), voice)
            assert fit > 0.9
            assert late == pytest.approx(312, abs=24)
            assert session.stats().packets_sent == pytest.approx(110, abs=4)

    async def test_vp8(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where VP8 is agreed, its pictures are decoded as well."""
        from streamer.media import frame_stamp
        from streamer.rtc import negotiation

        monkeypatch.setattr(negotiation, "_rank_video", lambda codec: 0 if codec.name == "VP8" else None)
        async with Client(server.url) as client, client.session(stamp=True) as session, asyncio.timeout(10):
            for _ in range(4):
                frame = await anext(session.frames())
                assert frame_stamp.read(frame.image[..., 1]) == frame.k
            assert (await session.server_stats())["codec"] == "VP8"

    async def test_lost_pictures_are_mended(self, server: Any) -> None:
        """Packets of pictures that are lost for good cost a key frame, after which frames go on."""
        async with Client(server.url) as client, client.session(stamp=True) as session, asyncio.timeout(15):
            assembler = session._video._assembler
            add = assembler.add
            first = await anext(session.frames())
            dropped = []

            def lossy(packet: RtpPacket, begins: bool, now: float) -> list[Any]:
                if len(dropped) < 3:
                    dropped.append(packet)
                    return []
                return add(packet, begins, now)

            assembler.add = lossy
            frame = first
            while len(dropped) < 3 or frame.k <= first.k + 12:
                frame = await anext(session.frames())
            assert session.stats().frames_missing >= 1
            state = await session.server_stats()
            assert state["frames"]["keyframes"] >= 2

    async def test_slow_consumer_misses_frames(self, server: Any) -> None:
        """Who takes no frames keeps the newest few; what was overtaken is counted."""
        async with Client(server.url) as client, client.session(frame_queue=2) as session:
            async with asyncio.timeout(10):
                while session.stats().frames < 10:
                    await _next_message(session)
            waiting = session.frames()
            newest = session._newest
            assert (await anext(waiting)).k >= newest - 3
            assert session.stats().frames_dropped >= 7

    async def test_closed_client_closes_its_sessions(self, server: Any) -> None:
        """A session that was never left ends with its client, and closing again is harmless."""
        async with Client(server.url) as client:
            session = await client.session().__aenter__()
            async with asyncio.timeout(10):
                await anext(session.frames())
        assert session.ended
        async for _ in session.frames():  # what waited; then it ends
            pass
        await session.close()
        with pytest.raises(LipstreamError):
            await session.interrupt()

    async def test_waits_end_with_the_session(self, server: Any) -> None:
        """Whoever waits for a message learns at once that none will come."""
        async with Client(server.url) as client, client.session() as session:
            waiting = asyncio.create_task(session.expect("warning", 60))
            await asyncio.sleep(0)
            await client.request("DELETE", f"/v1/sessions/{session.id}")
            with pytest.raises(SessionLost):
                await asyncio.wait_for(waiting, 5)


async def _next_message(session: Any) -> None:
    """Waits for any message: frames are accounted for every quarter of a second."""
    arrived = asyncio.Event()
    session._channel.once("message", lambda _: arrived.set())
    await arrived.wait()


@pytest.mark.usefixtures("leaves_nothing", "any_load")
class TestErrors:
    async def test_no_server(self) -> None:
        """Where nobody listens, it is Unreachable and names the address."""
        with pytest.raises(Unreachable, match="http://127.0.0.1:1"):
            async with Client("http://127.0.0.1:1") as client, client.session():
                pass

    async def test_refusals(self, server: Any) -> None:
        """A refusal carries the server's status, reason and sentence."""
        async with Client(server.url) as client:
            with pytest.raises(RequestError, match="nobody") as caught:
                async with client.session(character="nobody"):
                    pass
            assert (caught.value.status, caught.value.reason) == (404, "unknown_character")
            assert caught.value.retry_after is None
            with pytest.raises(RequestError) as caught:
                await client.upload(b"no picture")
            assert caught.value.reason == "unsupported_type"
            with pytest.raises(RequestError) as caught:
                await client.build({"hair": "none"})
            assert caught.value.reason == "bad_traits"
            with pytest.raises(ValueError, match="either"):
                await client.build()

    async def test_media_that_does_not_connect(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no packet gets through, it is Unreachable after the time-out, and the server's session is gone."""
        async with Client(server.url) as client:
            open_session = client._api.open_session

            def unreachable(sdp: str) -> str:
                return re.sub(r"a=(candidate|end-of-candidates).*\r\n", "", sdp)

            async def blocked(query: dict[str, str], offer: str) -> tuple[str, str]:
                location, answer = await open_session(query, unreachable(offer))
                return location, unreachable(answer)

            monkeypatch.setattr(client._api, "open_session", blocked)
            session = client.session()
            session._timeout = 1.0
            with pytest.raises(Unreachable, match="UDP"):
                async with session:
                    pass
            assert await client.sessions() == []

    async def test_file_that_breaks_off(self, server: Any) -> None:
        """Speech that fails on the way ends the iterations with its error."""

        async def broken() -> AsyncIterator[np.ndarray]:
            yield spoken(0.2)
            raise OSError("the synthesizer is gone")

        async with Client(server.url) as client, client.session(broken(), linger=0.1) as session:
            with pytest.raises(OSError, match="synthesizer"):
                async for _ in session.frames():
                    pass

    async def test_server_that_shuts_down(self) -> None:
        """A server that ends says so: the iterations raise SessionLost with `shutdown`."""
        from conftest import RunningServer

        with contextlib.ExitStack() as stack:
            other = stack.enter_context(RunningServer())
            async with Client(other.url) as client, client.session() as session:
                async with asyncio.timeout(10):
                    await anext(session.frames())
                other._server.should_exit = True
                with pytest.raises(SessionLost, match="shutdown"):
                    async with asyncio.timeout(20):
                        async for _ in session.frames():
                            pass
