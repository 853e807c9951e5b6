"""A session from end to end: a real server, a real client, a recorded voice, and what can be seen and heard of it."""

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any
from unittest.mock import AsyncMock, Mock

import numpy as np
import pytest
from lipstream_client import Client, ControlFailed, Frame, RequestError, Session, SessionLost, Sound, Stats
from peers import MouthMeter, bare_peer, delay, offer_of, place, silence, spoken, tone

from streamer.base.constants import SAMPLE_RATE
from streamer.media import frame_stamp
from streamer.motion.controls import INDEX
from streamer.studio.rig import expression

RATE = 48_000
FRAME = 0.040


@dataclass
class Recording:
    """What one session gave."""

    speech: np.ndarray
    frames: list[Frame] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    marks: dict[str, Any] = field(default_factory=dict)
    stats: Stats = field(default_factory=Stats)
    moments: np.ndarray = field(default_factory=lambda: np.zeros((0, 8)))
    state: dict[str, Any] = field(default_factory=dict)

    def between(self, start: float, end: float) -> list[Frame]:
        """Frames that answer the speech from `start` to `end` seconds."""
        return [f for f in self.frames if start <= f.pts / SAMPLE_RATE < end]

    @property
    def due(self) -> int:
        """Frames from the first to the newest that was received."""
        return self.frames[-1].k - self.frames[0].k + 1

    @property
    def given_up(self) -> int:
        """Frames that the server says it left out because a newer one was already waiting."""
        return self.state["frames"]["skipped"] + self.state["frames"]["overtaken"] + self.state["frames"]["unheard"]

    def heard(self, start: float, end: float) -> list[Sound]:
        return [s for s in self.sounds if start <= s.pts / SAMPLE_RATE < end]


Script = Callable[[Session, "Progress"], Awaitable[None]]


class Progress:
    """Lets a script wait until the frame that answers a moment of the speech, or a later one, was received."""

    def __init__(self) -> None:
        self._newest = -1
        self._moved = asyncio.Event()

    def frame(self, k: int) -> None:
        self._newest = k
        self._moved.set()

    async def until(self, seconds: float) -> None:
        async with asyncio.timeout(10):
            while self._newest * FRAME < seconds:
                self._moved.clear()
                await self._moved.wait()


async def record(url: str, *pieces: np.ndarray, script: Script | None = None, **options: Any) -> Recording:
    """Speaks the pieces to a server and keeps all that comes back until they have ended."""
    recording = Recording(np.concatenate(pieces))
    progress = Progress()

    async def watch(session: Session) -> None:
        async for frame in session.frames():
            recording.frames.append(frame)
            progress.frame(frame.k)

    async def listen(session: Session) -> None:
        async for sound in session.audio():
            recording.sounds.append(sound)

    async def read(session: Session) -> None:
        async for event in session.events():
            recording.events.append(event)

    async def conduct(session: Session) -> None:
        if script is not None:
            await script(session, progress)
        await session._speech.exhausted.wait()
        await progress.until(len(recording.speech) / RATE - 2 * FRAME)
        session._end()

    async with Client(url) as client:
        session = client.session(recording.speech, linger=math.inf, frame_queue=50, **options)
        async with session:
            async with asyncio.TaskGroup() as group:
                for task in (watch, listen, read, conduct):
                    group.create_task(task(session))
            recording.state = await session.server_stats()  # later than all that was received
        recording.stats, recording.moments = session.stats(), session.moments()
    return recording


@pytest.fixture(scope="module")
def meter(server: Any) -> MouthMeter:
    return MouthMeter.clearest([server.state.characters.get(str(seed)) for seed in range(1, 7)])


@pytest.fixture(scope="module")
def conversation(server: Any, meter: MouthMeter) -> Recording:
    """Silence to 0.6 s, speech to 2.0 s, silence to 2.9 s, speech to 3.7 s, silence to 4.3 s."""
    pieces = silence(0.6), spoken(1.4), silence(0.9), spoken(0.8), silence(0.6)
    return asyncio.run(record(server.url, *pieces, stamp=True, character=meter.entry.id))


class TestConversation:
    def test_frames_come_in_order(self, conversation: Recording) -> None:
        """Frame numbers only rise, and the server owns up to each that is missing (a busy machine leaves some out)."""
        numbers = [frame.k for frame in conversation.frames]
        assert all(a < b for a, b in zip(numbers, numbers[1:], strict=False))
        assert numbers[0] <= 5
        assert conversation.stats.frames_missing == conversation.due - len(numbers)
        assert conversation.stats.frames_missing <= conversation.given_up
        assert len(numbers) >= 0.5 * conversation.due
        assert numbers[-1] >= 4.0 / FRAME

    def test_pixels_carry_the_number_that_the_timestamp_names(self, conversation: Recording) -> None:
        """The stamp strip of every picture reads as the frame number that its RTP timestamp gives."""
        for frame in conversation.frames:
            assert frame.image.shape == (256, 256, 3)
            assert frame_stamp.read(frame.image[..., 1]) == frame.k
            assert frame.pts == 640 * frame.k
            assert frame.epoch == 0

    def test_frames_come_at_their_pace(self, conversation: Recording) -> None:
        """A frame's sample is 40 ms after the last one's, and so is its arrival: at the end delays are as at the start.

        A busy machine delays frames by changing amounts: the least delay of each half tells.
        """
        delays = [frame.received - frame.k * FRAME for frame in conversation.frames]
        half = len(delays) // 2
        assert min(delays[half:]) == pytest.approx(min(delays[:half]), abs=0.1)

    def test_mouth_moves_with_the_voice(self, conversation: Recording, meter: MouthMeter) -> None:
        """Where there is speech the mouth is seen to open and close; where there is none it is shut."""
        quiet = [meter(f.image) for part in ((0.1, 0.55), (2.4, 2.85)) for f in conversation.between(*part)]
        voiced = [meter(f.image) for part in ((0.7, 1.9), (3.0, 3.6)) for f in conversation.between(*part)]
        assert max(quiet) < 0.15 + meter.error
        assert max(voiced) > 0.4
        assert np.mean(voiced) > np.mean(quiet) + 0.15
        assert np.std(voiced) > 0.05

    def test_own_voice_comes_back(self, conversation: Recording) -> None:
        """The returned sound is what was spoken, where its timestamps say, late by the Opus encoder's look-ahead."""
        sent = conversation.speech
        returned = place(conversation.sounds, len(sent) / RATE)
        speech = slice(round(0.6 * RATE), round(2.0 * RATE))
        late, fit = delay(returned[speech], sent[speech])
        assert fit > 0.9
        assert late == pytest.approx(312, abs=24)  # 6.5 ms at 48 kHz

    def test_no_sound_is_missing(self, conversation: Recording) -> None:
        """Packets of sound come back without a gap, but for those that came to the server late and were concealed."""
        missing = sum(b.pts - a.pts - 320 for a, b in zip(conversation.sounds, conversation.sounds[1:], strict=False))
        audio = conversation.state["audio"]
        assert 0 <= missing <= audio["concealed_samples"] + 320 * audio["dropped"]

    def test_sound_leaves_ahead_of_its_frame(self, conversation: Recording) -> None:
        """Sound arrives before the frame of the same sample, by no more than a browser plays it later (55 ms)."""
        arrival = {sound.pts: sound.received for sound in conversation.sounds}
        ahead = [f.received - arrival[f.pts] for f in conversation.frames if f.pts in arrival and f.k > 25]
        assert -0.010 <= median(ahead) <= 0.065

    def test_speech_is_told(self, conversation: Recording) -> None:
        """Voice activity is reported where speech begins and ends, to about a tenth of a second."""
        events = [(e["speaking"], e["pts"] / SAMPLE_RATE) for e in conversation.events if e["type"] == "vad"]
        assert [speaking for speaking, _ in events[:3]] == [True, False, True]
        assert events[0][1] == pytest.approx(0.6, abs=0.15)
        assert events[1][1] == pytest.approx(2.0, abs=0.25)
        assert events[2][1] == pytest.approx(2.9, abs=0.15)

    def test_latency_is_accounted_for(self, conversation: Recording) -> None:
        """Each stage has its share; together they make the total, which stays within a sane bound on this loopback."""
        latency = conversation.stats.latency
        assert set(latency) == {"listen", "wait", "draw", "encode", "send", "network", "total"}
        assert latency["total"].count >= 0.8 * len(conversation.frames)
        stages = sum(latency[name].p50 for name in latency if name != "total")
        assert stages == pytest.approx(latency["total"].p50, rel=0.3)
        assert 20 <= latency["listen"].p50 <= 80  # look-ahead and half a packet
        assert latency["total"].p50 < 200
        assert conversation.stats.rtt_ms < 50
        assert abs(conversation.stats.clock_offset_ms) < 25  # one machine, one monotonic clock

    def test_server_tells_the_same(self, conversation: Recording) -> None:
        """The session's state on the server agrees with what the client saw."""
        state = conversation.state
        assert state["state"] == "live"
        assert state["size"] == 256
        assert state["codec"] == "H264"
        assert state["epoch"] == 0
        assert state["frames"]["sent"] >= len(conversation.frames)
        assert state["frames"]["sent"] + conversation.given_up >= 100
        assert 20 < state["latency_ms"]["server_p50"] < 200


CUT = 1.0


@pytest.fixture(scope="module")
def interrupted(server: Any, meter: MouthMeter) -> Recording:
    """Silence to 0.2 s, speech to 2.0 s, cut at 1.0 s, silence to 2.9 s, speech to 3.7 s."""
    marks: dict[str, Any] = {}

    async def script(session: Session, progress: Progress) -> None:
        await progress.until(CUT)
        marks["asked"] = time.monotonic()
        marks["answer"] = await session.interrupt()
        marks["answered"] = time.monotonic()

    pieces = silence(0.2), spoken(1.8), silence(0.9), spoken(0.8)
    recording = asyncio.run(record(server.url, *pieces, script=script, character=meter.entry.id))
    recording.marks = marks
    return recording


class TestInterruption:
    def test_takes_effect_within_a_step(self, server: Any, interrupted: Recording) -> None:
        """The first frame of the new epoch is here within 80 ms, plus what a frame takes anyway."""
        answer = interrupted.marks["answer"]
        first = next(f for f in interrupted.frames if f.epoch == 1)
        assert answer.epoch == 1
        assert answer.frame <= first.k
        assert 0 <= answer.frame * 640 + server.state.listener.lookahead - answer.pts <= 640  # the very next frame
        took = {int(k): received - captured for k, captured, *_, received in interrupted.moments}[first.k] / 1000
        round_trip = interrupted.marks["answered"] - interrupted.marks["asked"]
        assert first.received - interrupted.marks["asked"] <= 0.080 + round_trip + took

    def test_shuts_the_mouth(self, interrupted: Recording, meter: MouthMeter) -> None:
        """From three frames after the cut to the end of that utterance, the mouth is shut though the voice goes on."""
        cut = interrupted.marks["answer"].frame * FRAME
        assert max(meter(f.image) for f in interrupted.between(0.3, cut)) > 0.3
        assert max(meter(f.image) for f in interrupted.between(cut + 3 * FRAME, 2.8)) < 0.15 + meter.error

    def test_stops_the_sound(self, interrupted: Recording) -> None:
        """No sound from after the cut comes back until the next utterance."""
        cut = interrupted.marks["answer"].pts / SAMPLE_RATE
        assert interrupted.heard(0.2, cut - 0.1)
        assert not interrupted.heard(cut, 2.3)

    def test_next_utterance_is_spoken(self, interrupted: Recording, meter: MouthMeter) -> None:
        """After a silence the character speaks again, seen and heard."""
        assert max(meter(f.image) for f in interrupted.between(3.0, 3.7)) > 0.3
        assert len(interrupted.heard(3.0, 3.7)) > 5
        epochs = [f.epoch for f in interrupted.frames]
        assert epochs == sorted(epochs)
        assert all(f.epoch == 1 for f in interrupted.between(3.0, 3.7))


@pytest.fixture(scope="module")
def wardrobe(server: Any, meter: MouthMeter) -> Recording:
    """Speech for 2.0 s: muted from 0.5 s to 1.0 s, another character from 1.4 s; silence, in which it is angry."""
    marks: dict[str, Any] = {}
    other = next(e for e in server.state.characters.all() if e.id != meter.entry.id)

    async def script(session: Session, progress: Progress) -> None:
        await progress.until(0.5)
        await session.mute()
        marks["muted"] = session._newest * FRAME
        await progress.until(1.0)
        await session.mute(False)
        marks["heard"] = session._newest * FRAME
        await progress.until(1.4)
        marks["asked"] = session._newest
        marks["worn"] = await session.set_character(other.id)
        with pytest.raises(ControlFailed) as caught:
            await session.set_character("nobody")
        marks["refused"] = caught.value.reason
        await progress.until(2.3)
        await session.set_emotion("angry", 1.0)
        marks["angry"] = session._newest * FRAME
        await progress.until(marks["angry"] + 0.9)

    pieces = spoken(2.0), silence(1.2)
    recording = asyncio.run(record(server.url, *pieces, script=script, character=meter.entry.id))
    recording.marks = {**marks, "other": other}
    return recording


def portraits(entry: Any, emotion: str = "neutral", turns: Sequence[float] = (0.0,)) -> list[np.ndarray]:
    """[256, 256, 3] of a character with a shut mouth, its head turned and raised by each of `turns` (radians)."""
    rig = entry.rig(256, True)
    try:
        pictures = []
        for yaw, pitch in itertools.product(turns, turns):
            pose = expression(emotion, 1.0)
            pose[INDEX["yaw"]], pose[INDEX["pitch"]] = yaw, pitch
            pictures.append(rig.draw(pose)[..., :3].copy())
        return pictures
    finally:
        rig.close()


def distance(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(image.astype(int) - other).mean())


def misfit(image: np.ndarray, poses: list[np.ndarray]) -> float:
    """Mean difference of a face from the most alike of `poses`, moved over it by up to 8 pixels to fit best."""
    face = image[::2, ::2].astype(int)
    moves = [(down, right) for down in range(-4, 5, 2) for right in range(-4, 5, 2)]
    return min(
        float(np.abs(face[20 + d : 85 + d, 30 + r : 98 + r] - pose[::2, ::2][20:85, 30:98].astype(int)).mean())
        for pose in poses
        for d, r in moves
    )


class TestControl:
    def test_mute_shuts_mouth_and_sound(self, wardrobe: Recording, meter: MouthMeter) -> None:
        """Muted, the mouth rests and nothing is heard; before and after, both go with the voice."""
        muted, heard = wardrobe.marks["muted"] + 0.2, wardrobe.marks["heard"]
        assert max(meter(f.image) for f in wardrobe.between(muted, heard)) < 0.15 + meter.error
        assert not wardrobe.heard(muted, heard)
        assert max(meter(f.image) for f in wardrobe.between(0.1, 0.5)) > 0.3
        assert wardrobe.heard(heard + 0.1, heard + 0.4)

    def test_character_is_switched_live(self, wardrobe: Recording, meter: MouthMeter) -> None:
        """From about the frame that was answered on, the pictures are of the other character."""
        (own,), (other,) = portraits(meter.entry), portraits(wardrobe.marks["other"])
        worn = [f.k for f in wardrobe.frames if distance(f.image, other) < distance(f.image, own)]
        assert wardrobe.marks["worn"] - 2 <= worn[0] <= wardrobe.marks["worn"] + 2
        assert worn == [f.k for f in wardrobe.frames if f.k >= worn[0]]
        assert wardrobe.state["character"] == wardrobe.marks["other"].id

    def test_frames_go_on_while_switching(self, wardrobe: Recording) -> None:
        """Making the other character ready, which takes a while, does not stop the frames of the one that is worn."""
        asked, worn = wardrobe.marks["asked"], wardrobe.marks["worn"]
        around = [f.k for f in wardrobe.frames if asked - 2 <= f.k <= worn + 10]
        assert len(around) >= 0.5 * (worn + 10 - asked + 2)

    def test_unknown_character_is_refused(self, wardrobe: Recording) -> None:
        """A character that does not exist is an error with its reason, and the session goes on."""
        assert wardrobe.marks["refused"] == "unknown_character"
        assert {"type": "error", "reason": "unknown_character"}.items() <= next(
            e for e in wardrobe.events if e["type"] == "error"
        ).items()

    def test_emotion_shows(self, wardrobe: Recording) -> None:
        """Told to be angry, the face comes to resemble its angry portraits more, and its calm ones less."""
        other, turns = wardrobe.marks["other"], (-0.1, 0.0, 0.1)
        calm, angry = portraits(other, "neutral", turns), portraits(other, "angry", turns)

        def anger(frame: Frame) -> float:
            return misfit(frame.image, calm) - misfit(frame.image, angry)

        start = wardrobe.marks["angry"]
        before = median(anger(f) for f in wardrobe.between(start - 0.3, start))
        after = median(anger(f) for f in wardrobe.between(start + 0.3, start + 0.8))
        assert after > before + 0.5


@pytest.mark.usefixtures("leaves_nothing", "any_load")
class TestTwoSessions:
    async def test_neither_disturbs_the_other(self, server: Any) -> None:
        """Two at once: each has its own character and voice only, and every frame that the server did not leave out."""
        first, second = server.state.characters.all()[:2]
        voice, chord = (silence(0.2), spoken(1.8)), (tone(2.0),)
        a, b = await asyncio.gather(
            record(server.url, *voice, character=first.id), record(server.url, *chord, character=second.id)
        )
        for recording, own, other in ((a, first, second), (b, second, first)):
            (own_picture,), (other_picture,) = portraits(own), portraits(other)
            assert all(distance(f.image, own_picture) < distance(f.image, other_picture) for f in recording.frames)
            assert recording.due >= 45
            assert recording.due - len(recording.frames) <= recording.given_up
        part = slice(round(0.3 * RATE), round(1.8 * RATE))
        for recording, other in ((a, b), (b, a)):
            returned = place(recording.sounds, 2.0)[part]
            assert np.isnan(returned).mean() < 0.5
            assert delay(returned, recording.speech[part])[1] > 0.9
            assert delay(returned, other.speech[part])[1] < 0.3


@pytest.mark.usefixtures("leaves_nothing", "any_load")
class TestEnd:
    async def test_deleted_session_is_gone(self, server: Any) -> None:
        """DELETE ends a live session and tells it why; what it held is gone, and a second DELETE finds nothing."""
        before = threading.active_count()
        async with Client(server.url) as client, client.session() as session:
            await anext(session.frames())
            held = server.state.sessions[session.id]
            assert threading.active_count() > before
            answer = await client.request("DELETE", f"/v1/sessions/{session.id}")
            assert answer.json()["state"] == "closed"
            assert session.id not in await client.sessions()
            with pytest.raises(SessionLost, match="deleted"):
                async for _ in session.frames():
                    pass
            with pytest.raises(RequestError) as caught:
                await client.request("DELETE", f"/v1/sessions/{session.id}")
            assert (caught.value.status, caught.value.reason) == (404, "unknown_session")
            assert await server.closed(held) == "deleted"

    async def test_leaving_closes_the_session(self, server: Any) -> None:
        """A client that leaves its context, even by an exception, leaves nothing on the server."""
        with pytest.raises(KeyError, match="mine"):
            async with Client(server.url) as client, client.session() as session:
                await anext(session.frames())
                held = server.state.sessions[session.id]
                raise KeyError("mine")
        assert await server.closed(held) == "deleted"

    async def test_page_closed_without_a_word(self, server: Any) -> None:
        """A peer whose connection closes without DELETE is noticed at once by DTLS' own goodbye."""
        async with Client(server.url) as client, client.session() as session:
            await anext(session.frames())
            held = server.state.sessions[session.id]
            await session._connection.close()
            assert await server.closed(held) == "peer_closed"

    async def test_never_connecting(self, strict: Any) -> None:
        """A peer that takes the answer and never connects is given up after the time-out."""
        async with Client(strict.url, token=strict.config.token) as client:
            peer = bare_peer()
            try:
                location, _ = await client._api.open_session({}, await offer_of(peer))
                held = strict.state.sessions[location.rpartition("/")[2]]
                began = time.monotonic()
                assert await strict.closed(held) == "connect_timeout"
                assert time.monotonic() - began < strict.config.connect_timeout + 2.0
            finally:
                await peer.close()

    async def test_transport_vanishes(self, strict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A peer whose packets just cease is given up after the time-out for silence."""
        async with Client(strict.url, token=strict.config.token) as client, client.session() as session:
            await anext(session.frames())
            held = strict.state.sessions[session.id]
            for transport in session._connection._RTCPeerConnection__iceTransports:
                for protocol in transport._connection._protocols:
                    monkeypatch.setattr(protocol, "send_data", AsyncMock())
                    monkeypatch.setattr(protocol, "send_stun", Mock())
            assert await strict.closed(held) == "peer_gone"

    async def test_failing_generator(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A step that raises ends its own session, with the reason; the one beside it keeps its frames."""
        monkeypatch.setattr("streamer.avatar.engine.log.disabled", True)  # it tells the log; here that is expected
        async with Client(server.url) as client, client.session() as other, client.session() as session:
            await anext(session.frames())
            before = await anext(other.frames())
            held = server.state.sessions[session.id]
            monkeypatch.setattr(held._avatar, "draw", lambda *_: 1 / 0)
            with pytest.raises(SessionLost, match="generator_failed"):
                async for _ in session.frames():
                    pass
            assert await server.closed(held) == "generator_failed"
            async with asyncio.timeout(10):
                while (await anext(other.frames())).k < before.k + 8:
                    pass

    async def test_too_old(self, strict: Any) -> None:
        """A session that reaches the greatest age is told so and closed."""
        async with Client(strict.url, token=strict.config.token) as client, client.session() as session:
            held = strict.state.sessions[session.id]
            held._watchdog.born -= strict.config.max_session_age
            with pytest.raises(SessionLost, match="too_old"):
                async for _ in session.frames():
                    pass
            assert await strict.closed(held) == "too_old"


@pytest.fixture(scope="module")
def strict() -> Iterator[Any]:
    """A server with a token and short patience."""
    from conftest import RunningServer

    with RunningServer(token="sesame", connect_timeout=0.6, silence_timeout=0.6) as running:
        yield running
