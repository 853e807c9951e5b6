"""A character as a pipecat service: a real pipeline, its worker and runner, and pipecat's own output transport."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quiet
from conftest import CHARACTER, RATE, SIZE, motion, noise, speech
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.ai_service import AIService
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from streamer.embed.local_avatar import Runtime
from streamer.embed.pipecat import LEAD, CharacterVideoService


class Told:
    """Has others wait for what it notes."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self._changed.wait()


class Between(FrameProcessor):
    """Notes what passes."""

    def __init__(self, told: Told) -> None:
        super().__init__()
        self._told = told
        self.down: list[Frame] = []
        self.up: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        (self.down if direction is FrameDirection.DOWNSTREAM else self.up).append(frame)
        self._told.tell()
        await self.push_frame(frame, direction)

    def of(self, kind: type) -> list[Any]:
        return [frame for frame in self.down if isinstance(frame, kind)]


class Screen(BaseOutputTransport):
    """Shows and plays, a frame's time of sound in a frame's time."""

    def __init__(self, told: Told) -> None:
        super().__init__(
            TransportParams(
                audio_out_enabled=True,
                audio_out_end_silence_secs=0,
                video_out_enabled=True,
                video_out_is_live=True,
                video_out_width=256,
                video_out_height=256,
                video_out_framerate=25,
            )
        )
        self._told = told
        self.pictures: list[np.ndarray] = []
        self.times: list[float] = []
        self.sound: list[np.ndarray] = []

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        assert frame.format == "RGB"
        width, height = frame.size
        self.pictures.append(np.frombuffer(frame.image, np.uint8).reshape(height, width, 3))
        self.times.append(asyncio.get_running_loop().time())
        self._told.tell()
        return True

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        self.sound.append(np.frombuffer(frame.audio, np.int16))
        self._told.tell()
        await asyncio.sleep(len(frame.audio) / 2 / frame.sample_rate)
        return True

    def played(self) -> np.ndarray:
        """[n] int16, without the silence that fills the last chunk."""
        sound = np.concatenate([np.zeros(0, np.int16), *self.sound])
        return sound[sound != 0]


class Bot:
    """A pipeline whose speech is queued at its begin."""

    def __init__(self, runtime: Runtime, **options: Any) -> None:
        self.told = Told()
        self.service = CharacterVideoService(runtime=runtime, **{"character": CHARACTER, "size": SIZE, **options})
        self.above, self.between, self.screen = Between(self.told), Between(self.told), Screen(self.told)
        self.worker = PipelineWorker(
            Pipeline([self.above, self.service, self.between, self.screen]),
            params=PipelineParams(audio_out_sample_rate=RATE),
            enable_rtvi=False,
            cancel_on_idle_timeout=False,
        )
        self._running: asyncio.Task | None = None

    async def start(self) -> None:
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)
        self._running = asyncio.create_task(runner.run())
        await self.until(lambda: len(self.screen.pictures) > 0)

    async def until(self, condition: Callable[[], bool]) -> None:
        await self.told.until(condition)

    async def say(self, pcm: np.ndarray, context: str, rate: int = RATE, stop: bool = True) -> None:
        """[n] int16 as a speech service gives it: in pieces of 20 ms, all at once."""
        await self.worker.queue_frame(TTSStartedFrame(context_id=context))
        for first in range(0, len(pcm), rate // 50):
            part = pcm[first : first + rate // 50]
            await self.worker.queue_frame(TTSAudioRawFrame(part.tobytes(), rate, 1, context_id=context))
        if stop:
            await self.worker.queue_frame(TTSStoppedFrame(context_id=context))

    async def ended(self) -> None:
        assert self._running is not None
        await asyncio.wait_for(self._running, 20)

    async def close(self) -> None:
        if self._running is not None and not self._running.done():
            await self.worker.cancel()
            await self.ended()


@pytest.fixture
async def bot(runtime: Runtime) -> AsyncIterator[Bot]:
    bot = Bot(runtime)
    await bot.start()
    yield bot
    await bot.close()


def test_it_is_a_service() -> None:
    assert issubclass(CharacterVideoService, AIService)


async def test_idle_is_alive_and_silent(bot: Bot) -> None:
    screen = bot.screen
    await bot.until(lambda: len(screen.pictures) >= 50)
    assert screen.times[49] - screen.times[0] > 1.0  # two seconds' worth; what came late is made up for
    assert screen.pictures[0].shape == (SIZE, SIZE, 3)
    assert np.abs(screen.pictures[49].astype(np.int16) - screen.pictures[0]).max() > 20
    assert not screen.sound


async def test_speech_is_played_whole_while_the_mouth_moves(bot: Bot) -> None:
    """Two seconds at once: in real time, to the sample, between one begin and one end of speaking."""
    screen = bot.screen
    await bot.until(lambda: len(screen.pictures) >= 25)
    before = len(screen.pictures)
    said = speech(2.0, RATE)
    await bot.say(said, "first")
    await bot.until(lambda: bool(bot.between.of(TTSStoppedFrame)))
    kinds = [type(frame) for frame in bot.between.down]
    talk = kinds[kinds.index(TTSAudioRawFrame) - 1 : kinds.index(TTSStoppedFrame)]  # from the first sound's picture on
    assert talk.count(OutputImageRawFrame) == 50
    talking = screen.pictures[before + 2 :]
    assert motion(talking) > 4 * motion(screen.pictures[:before])
    await bot.until(lambda: any(isinstance(frame, BotStoppedSpeakingFrame) for frame in bot.between.up))
    assert np.array_equal(screen.played(), said[said != 0])
    spoke = [frame for frame in bot.between.up if isinstance(frame, BotStartedSpeakingFrame | BotStoppedSpeakingFrame)]
    assert [type(frame) for frame in spoke] == [BotStartedSpeakingFrame, BotStoppedSpeakingFrame]


async def test_speech_in_odd_pieces_is_played_whole(bot: Bot) -> None:
    """Bytes as sockets give them, cut within samples: two seconds in are two seconds out."""
    said = noise(2.0)
    data = said.tobytes()
    await bot.worker.queue_frame(TTSStartedFrame(context_id="odd"))
    for first in range(0, len(data), 999):
        await bot.worker.queue_frame(TTSAudioRawFrame(data[first : first + 999], RATE, 1, context_id="odd"))
    await bot.worker.queue_frame(TTSStoppedFrame(context_id="odd"))
    await bot.until(lambda: bool(bot.between.of(TTSStoppedFrame)))
    audio = b"".join(frame.audio for frame in bot.between.of(TTSAudioRawFrame) if frame.context_id == "odd")
    assert audio == data


async def test_each_sound_goes_with_its_picture(bot: Bot) -> None:
    """No sound leaves before the picture that says it, but for the lead; none after the next."""
    said = noise(1.0)
    await bot.say(said, "first")
    await bot.until(lambda: bool(bot.between.of(TTSStoppedFrame)))
    media = [frame for frame in bot.between.down if isinstance(frame, OutputImageRawFrame | TTSAudioRawFrame)]
    first = next(i for i, frame in enumerate(media) if isinstance(frame, TTSAudioRawFrame))
    pictures, samples = 1, 0
    for frame in media[first:]:
        if isinstance(frame, OutputImageRawFrame):
            pictures += 1
        else:
            samples += len(frame.audio) // 2
            due = pictures * RATE // 25
            assert due <= samples <= due + round(LEAD * RATE) or samples == len(said)
    assert samples == len(said)


async def test_turns_keep_their_order_and_their_contexts(bot: Bot) -> None:
    turns = {"first": noise(0.5), "second": noise(0.02, seed=1), "third": noise(0.3, seed=2)}
    for context, pcm in turns.items():
        await bot.say(pcm, context)
    await bot.until(lambda: len(bot.between.of(TTSStoppedFrame)) == 3)
    for context, pcm in turns.items():
        audio = b"".join(frame.audio for frame in bot.between.of(TTSAudioRawFrame) if frame.context_id == context)
        assert audio == pcm.tobytes()
    order = [
        frame.context_id
        for frame in bot.between.down
        if isinstance(frame, TTSStoppedFrame | TTSAudioRawFrame) and frame.context_id
    ]
    assert order == sorted(order, key=list(turns).index)
    stops = [i for i, frame in enumerate(bot.between.down) if isinstance(frame, TTSStoppedFrame)]
    sounds = [i for i, frame in enumerate(bot.between.down) if isinstance(frame, TTSAudioRawFrame)]
    assert stops[-1] > sounds[-1] and [bot.between.down[i].context_id for i in stops] == list(turns)


async def test_speech_at_another_rate_comes_at_the_pipelines(bot: Bot) -> None:
    await bot.say(speech(1.0, 16_000), "first", 16_000)
    await bot.until(lambda: bool(bot.between.of(TTSStoppedFrame)))
    frames = bot.between.of(TTSAudioRawFrame)
    assert {frame.sample_rate for frame in frames} == {RATE}
    sound = np.frombuffer(b"".join(frame.audio for frame in frames), np.int16)
    wanted = speech(1.0, RATE)
    assert len(sound) == pytest.approx(len(wanted), abs=48)
    assert np.square(sound.astype(float)).sum() == pytest.approx(np.square(wanted.astype(float)).sum(), rel=0.1)


async def test_an_interruption_stops_at_once_and_what_comes_next_is_whole(bot: Bot) -> None:
    screen, said, again = bot.screen, noise(9.0), noise(0.7, seed=5)
    await bot.say(said, "cut", stop=False)
    await bot.until(lambda: len(screen.played()) > RATE)
    await bot.worker.queue_frame(InterruptionFrame())
    await bot.until(lambda: any(isinstance(frame, BotStoppedSpeakingFrame) for frame in bot.between.up))
    pictures, heard = len(screen.pictures), len(screen.played())
    kinds = [type(frame) for frame in bot.between.down]
    assert TTSAudioRawFrame not in kinds[kinds.index(InterruptionFrame) :]
    assert np.array_equal(screen.played(), said[:heard])
    await bot.until(lambda: len(screen.pictures) >= pictures + 15)
    assert len(screen.played()) == heard
    assert motion(screen.pictures[-8:]) < 1.5  # the mouth is at rest
    await bot.say(again, "again")
    await bot.until(lambda: len(screen.played()) >= heard + len(again))
    assert np.array_equal(screen.played()[heard:], again)
    assert [frame.context_id for frame in bot.between.of(TTSStoppedFrame)] == ["again"]


async def test_an_interruption_between_a_picture_and_its_sound_keeps_the_sound_back(bot: Bot) -> None:
    service, push = bot.service, bot.service.push_frame
    interrupted = False

    async def interrupt_in_between(frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        nonlocal interrupted
        await push(frame, direction)
        avatar = service.avatar
        if not interrupted and avatar is not None and avatar.position > 0.2 and isinstance(frame, OutputImageRawFrame):
            interrupted = True
            await service.process_frame(InterruptionFrame(), FrameDirection.DOWNSTREAM)

    service.push_frame = interrupt_in_between  # type: ignore[method-assign]
    await bot.say(noise(2.0), "cut", stop=False)
    await bot.until(lambda: bool(bot.between.of(InterruptionFrame)))
    pictures = len(bot.screen.pictures)
    await bot.until(lambda: len(bot.screen.pictures) >= pictures + 5)
    kinds = [type(frame) for frame in bot.between.down]
    sounds = [i for i, kind in enumerate(kinds) if kind is TTSAudioRawFrame]
    after = [kind for kind in kinds[sounds[-1] + 1 :] if kind in (OutputImageRawFrame, InterruptionFrame)]
    assert after[:2] == [OutputImageRawFrame, InterruptionFrame] or after[0] is InterruptionFrame
    assert TTSAudioRawFrame not in kinds[kinds.index(InterruptionFrame) :]


async def test_it_listens_thinks_and_speaks_with_the_user(bot: Bot) -> None:
    """What the pipeline says of the user's turn shows in what the character attends to."""
    seen: list[str] = []
    assert bot.service.avatar is not None
    bot.service.avatar._avatar._life.set_attention = seen.append  # type: ignore[method-assign]
    for frame in (UserStartedSpeakingFrame(), UserStoppedSpeakingFrame(), TTSStartedFrame(context_id="answer")):
        told = len(seen)
        await bot.worker.queue_frame(frame)
        pictures = len(bot.between.down)
        await bot.until(lambda told=told, pictures=pictures: len(seen) > told and len(bot.between.down) > pictures)
    assert seen == ["listening", "thinking", "idle"]


async def test_the_end_waits_for_what_is_being_said(bot: Bot) -> None:
    """Also where nobody said that the speech has ended."""
    said = noise(1.0)
    await bot.say(said, "last", stop=False)
    await bot.worker.queue_frame(EndFrame())
    await bot.ended()
    frames = bot.between.of(TTSAudioRawFrame)
    assert b"".join(frame.audio for frame in frames) == said.tobytes()


async def test_cancelling_in_the_middle_of_a_word_leaves_nothing(bot: Bot) -> None:
    """The fixtures look for tasks, threads and errors after it."""
    await bot.say(noise(9.0), "cut")
    await bot.until(lambda: len(bot.screen.played()) > 1000)
    await bot.worker.cancel()
    await bot.ended()
    assert bot.service.avatar is None


async def test_two_pipelines_share_a_runtime_and_hear_only_themselves(runtime: Runtime) -> None:
    bots, said = [Bot(runtime), Bot(runtime)], [noise(0.6, seed=1), noise(0.6, seed=2)]
    try:
        for bot in bots:
            await bot.start()
        for bot, pcm in zip(bots, said, strict=True):
            await bot.say(pcm, "both")
        for bot, pcm in zip(bots, said, strict=True):
            await bot.until(lambda bot=bot, pcm=pcm: len(bot.screen.played()) >= len(pcm))
            assert np.array_equal(bot.screen.played(), pcm)
    finally:
        for bot in bots:
            await bot.close()


async def test_without_a_character_the_bot_is_heard_and_the_reason_told(runtime: Runtime) -> None:
    bot = Bot(runtime, character="nobody")
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(bot.worker)
    running = asyncio.create_task(runner.run())
    await bot.until(lambda: any(isinstance(frame, ErrorFrame) for frame in bot.above.up))
    error = next(frame for frame in bot.above.up if isinstance(frame, ErrorFrame))
    assert "nobody" in error.error
    said = noise(0.4)
    await bot.say(said, "voice")
    await bot.until(lambda: len(bot.screen.played()) >= len(said))
    assert np.array_equal(bot.screen.played(), said) and not bot.screen.pictures
    await bot.worker.cancel()
    await asyncio.wait_for(running, 20)


async def test_a_character_that_cannot_be_drawn_any_more_leaves_the_voice(runtime: Runtime) -> None:
    bot = Bot(runtime)
    await bot.start()

    def fail(controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        raise ZeroDivisionError("the brush broke")

    assert bot.service.avatar is not None
    bot.service.avatar._avatar._rig.draw = fail  # type: ignore[method-assign]
    await bot.until(lambda: any(isinstance(frame, ErrorFrame) for frame in bot.above.up))
    said = noise(0.4)
    await bot.say(said, "voice")
    await bot.until(lambda: len(bot.screen.played()) >= len(said))
    assert np.array_equal(bot.screen.played(), said)
    await bot.close()


def test_nobody_is_called(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """pipecat and the adapter look no name up, call nobody and keep nothing while a character speaks."""
    quiet.required(request.config)
    options = [
        "-c",
        str(quiet.ROOT / "tests" / "adapters" / "pytest.ini"),
        "--rootdir",
        str(Path(__file__).parent),
        "-q",
    ]
    test = f"{__file__}::test_speech_is_played_whole_while_the_mouth_moves"
    done = quiet.trace(["-m", "pytest", *options, test], tmp_path, timeout=200)
    assert done.status == 0, done.output
    assert done.calls == []
    assert [name for name in done.files if not name.startswith((".cache/lipstream/", "pytest-of-"))] == []
