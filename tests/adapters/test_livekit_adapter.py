"""A character in LiveKit Agents: the real runner, receivers, sources and tracks; only the wire is in memory."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import quiet
from conftest import CHARACTER, RATE, SIZE, motion, noise, speech
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.voice.avatar import (
    AudioReceiver,
    AudioSegmentEnd,
    AvatarRunner,
    DataStreamAudioOutput,
    DataStreamAudioReceiver,
    QueueAudioOutput,
    VideoGenerator,
)
from livekit.agents.voice.io import AudioOutput, PlaybackFinishedEvent
from livekit_room import Audience, Room, pair

from streamer.embed.livekit import CharacterGenerator
from streamer.embed.local_avatar import LocalAvatar, Runtime


class Noting(CharacterGenerator):
    """Notes what the runner is given, and when it is cleared."""

    def __init__(self, avatar: LocalAvatar) -> None:
        super().__init__(avatar)
        self.given: list[str] = []

    async def clear_buffer(self) -> None:
        self.given.append("clear")
        await super().clear_buffer()

    async def _frames(self) -> AsyncGenerator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd, None]:
        async for frame in super()._frames():
            self.given.append({rtc.VideoFrame: "picture", rtc.AudioFrame: "sound"}.get(type(frame), "end"))
            yield frame


class Stage:
    """A character that an agent speaks through, and those who watch."""

    def __init__(self, agent: Room, avatar: Room, generator: Noting, audience: Audience) -> None:
        self.agent, self.avatar, self.generator, self.audience = agent, avatar, generator, audience
        self.finished: asyncio.Queue[PlaybackFinishedEvent] = asyncio.Queue()
        self.output: AudioOutput
        self.runner: AvatarRunner

    async def start(self, output: AudioOutput, receiver: AudioReceiver) -> None:
        self.output = output
        output.on("playback_finished", self.finished.put_nowait)
        self.runner = AvatarRunner(
            self.avatar, audio_recv=receiver, video_gen=self.generator, options=self.generator.options
        )
        await self.runner.start()

    async def say(self, pcm: np.ndarray, rate: int = RATE, channels: int = 1) -> None:
        """[n * channels] int16, in pieces of 20 ms, as fast as they are taken."""
        piece = rate // 50 * channels
        for first in range(0, len(pcm), piece):
            part = pcm[first : first + piece]
            await self.output.capture_frame(rtc.AudioFrame(part.tobytes(), rate, channels, len(part) // channels))

    async def next_end(self) -> PlaybackFinishedEvent:
        return await asyncio.wait_for(self.finished.get(), 20)

    async def close(self) -> None:
        """Idempotent."""
        await self.runner.aclose()
        await self.generator.aclose()
        await self.generator.aclose()
        await self.audience.leave()


@pytest.fixture
async def stage(runtime: Runtime) -> AsyncIterator[Stage]:
    """The agent elsewhere: speech over the byte stream `lk.audio_stream`, the rest over RPCs."""
    audience = Audience(RATE)
    agent, avatar = pair(audience)
    generator = Noting(await runtime.avatar(CHARACTER, size=SIZE, sample_rate=RATE))
    stage = Stage(agent, avatar, generator, audience)
    output = DataStreamAudioOutput(
        agent,
        destination_identity="avatar",
        sample_rate=RATE,
        clear_buffer_timeout=None,  # no position but the avatar's own
        wait_playback_start=True,
    )
    await stage.start(output, DataStreamAudioReceiver(avatar, sender_identity="agent"))
    yield stage
    await stage.close()
    if output._start_atask is not None:
        await output._start_atask


@pytest.fixture
async def near_stage(runtime: Runtime) -> AsyncIterator[Stage]:
    """The agent in the avatar's own process, before a queue."""
    audience = Audience(RATE)
    agent, avatar = pair(audience)
    stage = Stage(agent, avatar, Noting(await runtime.avatar(CHARACTER, size=SIZE, sample_rate=RATE)), audience)
    output = QueueAudioOutput(sample_rate=RATE)
    await stage.start(output, output)
    yield stage
    await stage.close()


def test_it_is_a_video_generator() -> None:
    assert issubclass(CharacterGenerator, VideoGenerator)


async def test_idle_is_alive_and_silent(stage: Stage) -> None:
    """Pictures come before anything was said, and the character in them does not stand still."""
    audience = stage.audience
    await audience.until(lambda: len(audience.pictures) >= 50)
    assert audience.times[49] - audience.times[0] > 1.0  # two seconds' worth; what came late is made up for
    assert audience.pictures[0].shape == (SIZE, SIZE, 4)
    first, last = (audience.pictures[i].astype(np.int16) for i in (0, 49))
    assert np.abs(last - first).max() > 20
    assert not len(audience.heard())


async def test_speech_is_heard_whole_while_the_mouth_moves(stage: Stage) -> None:
    """Two seconds pushed at once: played in real time, finished once, at the position that was pushed."""
    audience = stage.audience
    await audience.until(lambda: len(audience.pictures) >= 25)
    idle = list(audience.pictures)
    said = speech(2.0, RATE)
    await stage.say(said)
    stage.output.flush()
    ended = await stage.next_end()
    assert (ended.playback_position, ended.interrupted) == (pytest.approx(2.0, abs=1e-6), False)
    given = stage.generator.given
    talk = given[given.index("sound") - 1 : given.index("end")]  # from the picture of the first sound on
    assert talk.count("picture") == 50 and given.count("end") == 1
    talking = audience.pictures[len(idle) + 2 :]
    assert motion(talking) > 4 * motion(idle)
    await audience.until(lambda: len(audience.heard()) >= np.count_nonzero(said))
    assert np.array_equal(audience.heard(), said[said != 0])
    assert stage.finished.empty()


async def test_the_wire_speaks_livekits_protocol(stage: Stage) -> None:
    """The byte stream's topic and the RPCs by their names, and the payload that agents read."""
    assert list(stage.avatar.byte_handlers) == ["lk.audio_stream"]
    await stage.say(noise(0.5))
    stage.output.flush()
    await stage.next_end()
    calls = stage.avatar.local_participant.calls
    assert [method for method, _ in calls] == ["lk.playback_started", "lk.playback_finished"]
    payload = json.loads(calls[1][1])
    assert payload["playback_position"] == pytest.approx(0.5) and payload["interrupted"] is False
    await stage.say(noise(5.0))
    await stage.audience.until(lambda: len(stage.audience.heard()) > 20_000)
    stage.output.flush()
    stage.output.clear_buffer()
    await stage.next_end()
    assert [method for method, _ in stage.agent.local_participant.calls] == ["lk.clear_buffer"]


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (48_000, 2)])
async def test_speech_of_another_form_is_converted(stage: Stage, rate: int, channels: int) -> None:
    said = speech(1.0, rate)
    await stage.say(np.repeat(said, channels), rate, channels)
    stage.output.flush()
    ended = await stage.next_end()
    assert ended.playback_position == pytest.approx(1.0, abs=0.002)
    wanted = speech(1.0, RATE)
    audience = stage.audience
    await audience.until(
        lambda: len(audience.heard()) > RATE // 2 and not any(part.any() for part in audience.sound[-10:])
    )
    energy = [float(np.square(sound.astype(float)).sum()) for sound in (audience.heard(), wanted)]
    assert energy[0] == pytest.approx(energy[1], rel=0.1)


@pytest.mark.parametrize("streaming", [False, True], ids=["all sent", "still sending"])
async def test_clear_buffer_stops_at_once_and_tells_the_position(stage: Stage, streaming: bool) -> None:
    """What was heard is what is reported; pictures go on, and what is said next is whole, with its own position."""
    audience, said = stage.audience, noise(8.0)
    await stage.say(said)
    await audience.until(lambda: len(audience.heard()) > RATE)
    order = [stage.output.flush, stage.output.clear_buffer]
    for call in reversed(order) if streaming else order:
        call()
    ended = await stage.next_end()
    assert ended.interrupted
    count = round(ended.playback_position * RATE)
    assert count > RATE
    pictures = len(audience.pictures)
    await audience.until(lambda: len(audience.pictures) >= pictures + 15)
    assert np.array_equal(audience.heard(), said[:count])
    given = stage.generator.given
    assert {*given[given.index("clear") :]} == {"clear", "picture"}
    assert motion(audience.pictures[-8:]) < 1.5  # the mouth is at rest
    again = noise(0.7, seed=5)
    await stage.say(again)
    stage.output.flush()
    ended = await stage.next_end()
    assert (ended.playback_position, ended.interrupted) == (pytest.approx(0.7), False)
    await audience.until(lambda: len(audience.heard()) >= count + len(again))
    assert np.array_equal(audience.heard()[count:], again)
    assert stage.finished.empty()


async def test_clear_buffer_finds_the_runner_between_two_frames(runtime: Runtime) -> None:
    """It waits until audio that the runner has in hand is counted; audio of a picture that it has in hand stays out."""
    generator = CharacterGenerator(await runtime.avatar(CHARACTER, size=SIZE, sample_rate=RATE))
    await generator.push_audio(rtc.AudioFrame(noise(2.0).tobytes(), RATE, 1, 2 * RATE))
    frames = aiter(generator)
    while not isinstance(await anext(frames), rtc.AudioFrame):
        pass
    clearing = asyncio.create_task(generator.clear_buffer())
    await asyncio.sleep(0)
    assert generator.avatar.buffered == 0 and not clearing.done()
    assert isinstance(await anext(frames), rtc.VideoFrame)
    await asyncio.wait_for(clearing, 5)
    await generator.push_audio(rtc.AudioFrame(noise(2.0).tobytes(), RATE, 1, 2 * RATE))
    while not isinstance(await anext(frames), rtc.AudioFrame):
        pass
    assert isinstance(await anext(frames), rtc.VideoFrame)
    await generator.clear_buffer()
    assert isinstance(await anext(frames), rtc.VideoFrame)
    await frames.aclose()
    await generator.aclose()


async def test_segments_that_come_at_once_are_finished_one_by_one(near_stage: Stage) -> None:
    """Each is reported once, with its own length, also one that is shorter than a frame."""
    lengths, pieces = (0.5, 0.02, 0.33), []
    for seed, seconds in enumerate(lengths):
        pieces.append(noise(seconds, seed=seed))
        await near_stage.say(pieces[-1])
        near_stage.output.flush()
    for seconds in lengths:
        ended = await near_stage.next_end()
        assert (ended.playback_position, ended.interrupted) == (pytest.approx(seconds), False)
    said = np.concatenate(pieces)
    await near_stage.audience.until(lambda: len(near_stage.audience.heard()) >= len(said))
    assert np.array_equal(near_stage.audience.heard(), said)
    assert near_stage.finished.empty()


async def test_clearing_where_nothing_is_said_changes_nothing(near_stage: Stage) -> None:
    near_stage.output.clear_buffer()
    await near_stage.say(noise(0.3))
    near_stage.output.flush()
    ended = await near_stage.next_end()
    assert (ended.playback_position, ended.interrupted) == (pytest.approx(0.3), False)
    near_stage.output.clear_buffer()
    await near_stage.audience.until(lambda: len(near_stage.audience.heard()) >= 0.3 * RATE)
    assert near_stage.finished.empty()


async def test_an_agents_session_speaks_through_it_and_is_interrupted(near_stage: Stage) -> None:
    """`AgentSession.say` plays to its end; interrupted, it knows that it was, and the character falls silent."""

    async def frames(pcm: np.ndarray) -> AsyncIterator[rtc.AudioFrame]:
        for first in range(0, len(pcm), RATE // 10):
            part = pcm[first : first + RATE // 10]
            yield rtc.AudioFrame(part.tobytes(), RATE, 1, len(part))

    audience = near_stage.audience
    session: AgentSession = AgentSession()
    session.output.audio = near_stage.output
    await session.start(Agent(instructions="say what you are told"))
    try:
        whole, cut = noise(0.6), noise(9.0, seed=1)
        await asyncio.wait_for(session.say("a greeting", audio=frames(whole)), 20)
        assert not (await near_stage.next_end()).interrupted
        await audience.until(lambda: len(audience.heard()) >= len(whole))
        assert np.array_equal(audience.heard(), whole)
        speaking = session.say("a long story", audio=frames(cut))
        await audience.until(lambda: len(audience.heard()) > len(whole) + RATE // 2)
        await speaking.interrupt()
        ended = await near_stage.next_end()
        assert ended.interrupted and speaking.interrupted
        count = round(ended.playback_position * RATE)
        pictures = len(audience.pictures)
        await audience.until(lambda: len(audience.pictures) >= pictures + 10)
        assert np.array_equal(audience.heard()[len(whole) :], cut[:count])
    finally:
        await session.aclose()


async def test_closing_in_the_middle_of_a_word_leaves_nothing(stage: Stage) -> None:
    """The fixtures look for tasks, threads and errors after it."""
    await stage.say(noise(3.0))
    await stage.audience.until(lambda: len(stage.audience.heard()) > 1000)
    await stage.close()


async def test_more_than_waits_is_taken_as_it_is_said(near_stage: Stage) -> None:
    """Half a minute at once: the character holds some ten seconds of it, and clearing lets go of all of it."""
    await near_stage.say(noise(30.0))
    near_stage.output.flush()
    await near_stage.audience.until(lambda: len(near_stage.audience.heard()) > RATE)
    assert 8 < near_stage.generator.avatar.buffered < 12
    near_stage.output.clear_buffer()
    ended = await near_stage.next_end()
    assert ended.interrupted and 1.0 <= ended.playback_position < 3.0
    assert near_stage.generator.avatar.buffered == 0


def test_nobody_is_called(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """livekit-agents and the adapter look no name up, call nobody and keep nothing while a character speaks."""
    quiet.required(request.config)
    options = [
        "-c",
        str(quiet.ROOT / "tests" / "adapters" / "pytest.ini"),
        "--rootdir",
        str(Path(__file__).parent),
        "-q",
    ]
    test = f"{__file__}::test_an_agents_session_speaks_through_it_and_is_interrupted"
    done = quiet.trace(["-m", "pytest", *options, test], tmp_path, timeout=200)
    assert done.status == 0, done.output
    assert done.calls == []
    assert [name for name in done.files if not name.startswith((".cache/lipstream/", "pytest-of-"))] == []
