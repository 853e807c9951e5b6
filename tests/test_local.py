"""A character in this process: picture and sound in lockstep, 25 a second, cleared at once, and nothing left behind."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from posed_faces import png, poses

from streamer.audio.segment_queue import Spoken, to_mono
from streamer.avatar.admission import AdmissionConfig
from streamer.avatar.avatar import Avatar
from streamer.avatar.engine import Engine
from streamer.base.errors import RequestError
from streamer.base.frames import Frame, Step
from streamer.embed.local_avatar import LocalAvatar, Moment, Pairing, Runtime
from streamer.motion.articulation import Loudness
from streamer.motion.controls import INDEX
from streamer.motion.idle import IdleMotion

RATE = 16_000
FRAME = RATE // 25


def speech(frames: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, round(frames * FRAME)).astype(np.int16)


# Pairing


def picture(value: int) -> np.ndarray:
    return np.full((2, 2, 4), value, np.uint8)


def spoken(value: int) -> Spoken:
    return Spoken(np.full(FRAME, value, np.int16), segment=0)


def told(moments: list[Moment]) -> list[tuple[int, int, int]]:
    """Frame, picture and sound of each."""
    return [(m.frame, int(m.image[0, 0, 0]), int(m.sound[0]) if len(m.sound) else 0) for m in moments]


def test_sound_leaves_with_its_own_picture() -> None:
    pairing = Pairing()
    for k in range(5):
        assert pairing.said(k, 0, spoken(k + 1)) == []
        assert told(pairing.drawn(k, picture(10 + k))) == [(k, 10 + k, k + 1)]
    assert pairing.repeated == 0


def test_nothing_leaves_before_the_first_picture_and_nothing_is_lost() -> None:
    pairing = Pairing()
    for k in range(4):
        assert pairing.said(k, 0, spoken(k + 1)) == []
    assert told(pairing.drawn(2, picture(12))) == [(0, 12, 1), (1, 12, 2), (2, 12, 3)]
    assert told(pairing.drawn(3, picture(13))) == [(3, 13, 4)]


def test_sound_waits_two_frames_for_a_slow_picture_and_no_longer() -> None:
    pairing = Pairing()
    pairing.said(0, 0, spoken(1))
    pairing.drawn(0, picture(10))
    assert pairing.said(1, 0, spoken(2)) == [] and pairing.said(2, 0, spoken(3)) == []
    assert told(pairing.said(3, 0, spoken(4))) == [(1, 10, 2)]
    assert pairing.repeated == 1
    assert pairing.drawn(1, picture(11)) == []  # too late: shown with the next that has none of its own
    assert told(pairing.drawn(3, picture(13))) == [(2, 11, 3), (3, 13, 4)]
    assert pairing.repeated == 2


def test_clear_silences_what_waits_and_keeps_its_pictures() -> None:
    pairing = Pairing()
    pairing.said(0, 0, spoken(1))
    pairing.clear()
    moment = pairing.drawn(0, picture(10))[0]
    assert (moment.frame, moment.segment, moment.ended, len(moment.sound)) == (0, None, False, 0)


# Avatars


class Face:
    """Draws how far the mouth is open, and can fail or be held up."""

    name = "studio_rig"
    size = 128
    ground = 0

    def __init__(self) -> None:
        self.fail = False
        self.closed = False
        self.go = threading.Event()
        self.go.set()

    def draw(self, controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        assert self.go.wait(10)
        if self.fail:
            raise RuntimeError("the brush broke")
        opened = round(255 * float(np.clip(controls[INDEX["open"]], 0, 1)))
        return np.full((128, 128, 4), max(opened, self.ground), np.uint8)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
async def engine(leaves_nothing: None) -> AsyncIterator[Engine]:
    engine = Engine()
    engine.start()
    yield engine
    engine.close()


def seated(engine: Engine, face: Face | None = None) -> LocalAvatar:
    return LocalAvatar(Avatar(Loudness(), face or Face(), IdleMotion(0)), Loudness.lookahead, engine, RATE)


class Easel:
    """Draws each step as it is submitted, where the engine's thread might leave one out on a busy machine."""

    def add(self, avatar: Avatar, on_frame: Any, on_voice: Any, on_failure: Any) -> Any:
        def submit(step: Step) -> None:
            controls, _ = avatar.hear(step)
            on_frame(Frame(step.frame, step.epoch, avatar.draw(controls, step.frame / 25), step.times))

        return SimpleNamespace(submit=submit, close=avatar.close, cost=0.0)


async def moments(avatar: LocalAvatar, count: int) -> list[Moment]:
    return [await anext(avatar) for _ in range(count)]


async def until_ended(avatar: LocalAvatar) -> list[Moment]:
    taken = [await anext(avatar)]
    while not taken[-1].ended:
        taken.append(await anext(avatar))
    return taken


async def test_frames_follow_each_other_also_in_silence(engine: Engine) -> None:
    avatar = seated(engine)
    idle = await moments(avatar, 5)
    assert [moment.frame for moment in idle] == [0, 1, 2, 3, 4]
    assert [moment.pts for moment in idle] == [0, 640, 1280, 1920, 2560]
    assert not any(len(moment.sound) for moment in idle)
    await avatar.aclose()


async def test_twenty_five_moments_take_a_second(engine: Engine) -> None:
    """By the clock that paces them: never faster than real time, however fast speech was pushed."""
    avatar = seated(engine)
    await avatar.push(speech(60))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(25):
        moment = await anext(avatar)
        assert loop.time() - began >= moment.frame / 25 - 0.002
    await avatar.aclose()


async def test_sound_is_what_was_pushed_and_the_mouth_moves_with_it() -> None:
    avatar = seated(Easel())  # type: ignore[arg-type]
    said = np.concatenate([speech(6), np.zeros(4 * FRAME, np.int16), speech(6.5)])
    assert max(int(moment.image.max()) for moment in await moments(avatar, 3)) == 0
    number = await avatar.push(said)
    assert avatar.end_segment() == number
    heard = [moment for moment in await until_ended(avatar) if moment.segment == number]
    assert np.array_equal(np.concatenate([moment.sound for moment in heard]), said)
    open_at = [int(moment.image.max()) > 25 for moment in heard]
    assert all(open_at[2:6]) and not any(open_at[8:10]) and all(open_at[12:16])  # within two frames of the sound
    assert avatar.position == 0.0 and avatar.starved == 0
    await avatar.aclose()


async def test_clear_stops_at_once_and_tells_what_was_heard(engine: Engine) -> None:
    avatar = seated(engine)
    await avatar.push(speech(100))
    taken = await moments(avatar, 8)
    heard = sum(len(moment.sound) for moment in taken)
    assert heard >= 5 * FRAME
    assert avatar.clear() == heard / RATE
    assert avatar.clear() == 0.0 and avatar.end_segment() is None
    after = await moments(avatar, 8)
    assert not any(len(moment.sound) or moment.ended or moment.segment is not None for moment in after)
    assert [moment.frame for moment in after] == list(range(8, 16))
    assert all(int(moment.image.max()) == 0 for moment in after[5:])
    assert after[-1].epoch == 2
    await avatar.aclose()


async def test_what_is_pushed_after_a_clear_is_said_whole(engine: Engine) -> None:
    avatar = seated(engine)
    await avatar.push(speech(100))
    await moments(avatar, 4)
    avatar.clear()
    again = speech(5.5, seed=9)
    number = await avatar.push(again)
    avatar.end_segment()
    sounds = [moment.sound for moment in await until_ended(avatar) if moment.segment is not None]
    assert number == 1 and np.array_equal(np.concatenate(sounds), again)
    await avatar.aclose()


async def test_push_waits_while_ten_seconds_wait_and_clear_lets_go_of_it(engine: Engine) -> None:
    avatar = seated(engine)
    await avatar.push(speech(250))
    waiting = asyncio.create_task(avatar.push(speech(1000)))
    await moments(avatar, 3)
    assert not waiting.done() and 9 < avatar.buffered <= 11
    avatar.clear()
    assert await waiting is None
    assert avatar.buffered == 0
    await avatar.aclose()


async def test_time_stands_still_for_a_slow_consumer_and_nothing_is_lost(engine: Engine) -> None:
    avatar = seated(engine)
    said = speech(20)
    await avatar.push(said)
    avatar.end_segment()
    first = await moments(avatar, 1)
    with pytest.raises(TimeoutError):  # until no more is made
        for _ in range(50):
            await asyncio.wait_for(avatar._change(), 0.3)
    made = avatar._ready[-1].frame
    heard = first + await until_ended(avatar)
    assert np.array_equal(np.concatenate([moment.sound for moment in heard]), said)
    assert [moment.frame for moment in heard] == list(range(len(heard))) and 5 <= made <= 8
    await avatar.aclose()


async def test_clear_silences_what_waits_for_the_consumer_or_for_its_picture(engine: Engine) -> None:
    face = Face()
    avatar = seated(engine, face)
    await moments(avatar, 1)
    await avatar.push(speech(50))
    while len(avatar._ready) < 5:
        await avatar._change()
    assert any(len(moment.sound) for moment in avatar._ready)
    avatar.clear()
    assert not any(len(moment.sound) for moment in await moments(avatar, 8))
    face.go.clear()
    await avatar.push(speech(50))
    while not any(spoken.segment is not None for _, _, spoken in avatar._pairing._waiting):
        await avatar._change()
    avatar.clear()
    face.go.set()
    assert not any(len(moment.sound) for moment in await moments(avatar, 8))
    await avatar.aclose()


async def test_a_picture_that_takes_long_does_not_hold_up_the_sound(engine: Engine) -> None:
    face = Face()
    avatar = seated(engine, face)
    await moments(avatar, 1)
    face.go.clear()
    said = speech(5)
    await avatar.push(said)
    avatar.end_segment()
    heard = await until_ended(avatar)
    assert np.array_equal(np.concatenate([moment.sound for moment in heard]), said)
    assert avatar.repeated >= 5
    face.go.set()
    await avatar.aclose()


async def test_failure_to_draw_ends_the_iteration_with_its_reason_and_no_other_avatar() -> None:
    engine, face = Engine(), Face()
    engine.start()
    broken, sound = seated(engine, face), seated(engine)
    await moments(broken, 2)
    face.fail = True
    with pytest.raises(RuntimeError, match="the brush broke"):
        await moments(broken, 10)
    assert len(await moments(sound, 3)) == 3
    await broken.aclose()
    await sound.aclose()
    engine.close()


async def test_close_ends_iteration_and_pushes_and_is_idempotent(engine: Engine, caplog: Any) -> None:
    face = Face()
    avatar = seated(engine, face)
    await avatar.push(speech(250))
    push = asyncio.create_task(avatar.push(speech(2)))
    consumer = asyncio.create_task(_drain(avatar))
    await asyncio.sleep(0)
    await avatar.aclose()
    await avatar.aclose()
    await asyncio.wait_for(consumer, 5)
    with pytest.raises(RuntimeError, match="closed"):
        await push
    with pytest.raises(RuntimeError, match="closed"):
        await avatar.push(speech(1))
    engine.close()
    assert face.closed


async def _drain(avatar: LocalAvatar) -> None:
    async for _ in avatar:
        pass


def test_a_longer_look_ahead_than_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="641"):
        LocalAvatar(Avatar(Loudness(), Face(), IdleMotion(0)), 641, Engine(), RATE)


async def test_what_it_attends_to_reaches_the_character(engine: Engine) -> None:
    avatar, seen = seated(engine), []
    avatar._avatar._life.set_attention = seen.append  # type: ignore[method-assign]
    avatar.set_attention("listening")
    await moments(avatar, 2)
    assert seen == ["listening"]
    with pytest.raises(ValueError, match="'asleep'"):
        avatar.set_attention("asleep")
    await avatar.aclose()


async def test_feel_refuses_what_is_no_emotion(engine: Engine) -> None:
    avatar = seated(engine)
    with pytest.raises(ValueError, match="'hungry'"):
        avatar.set_emotion("hungry")
    await avatar.aclose()


# The runtime


class Faces:
    """A generator of `Face`s."""

    name = "rig"
    where = "nowhere"

    def renderer_name(self, entry: object, size: int | None = None) -> str:
        return Face.name

    def create_renderer(self, entry: object, size: int, background: bool) -> Face:
        return Face()

    def relative_cost(self, renderer: str, size: int) -> float:
        return 1.0


@pytest.fixture
async def runtime(leaves_nothing: None) -> AsyncIterator[Runtime]:
    runtime = Runtime(Faces(), Loudness(), admission=AdmissionConfig(max_sessions=2, most_load=math.inf))
    yield runtime
    await runtime.aclose()


async def test_avatars_of_one_runtime_speak_apart(runtime: Runtime) -> None:
    """Two at once, each with its own speech, whole."""
    said = [speech(8, seed=1), speech(8, seed=2)]

    async def one(number: int) -> np.ndarray:
        avatar = await runtime.avatar("24", sample_rate=RATE)
        await avatar.push(said[number])
        avatar.end_segment()
        return np.concatenate([moment.sound for moment in await until_ended(avatar)])

    heard = await asyncio.gather(one(0), one(1))
    assert all(np.array_equal(*pair) for pair in zip(heard, said, strict=True))


async def test_pictures_become_avatars(runtime: Runtime, tmp_path: Path) -> None:
    """A path, or several, stand for the character that their pictures make."""
    for name in ("idle", "talk"):
        (tmp_path / f"{name}.png").write_bytes(png(poses()[name]))
    for character in (tmp_path, [tmp_path / "idle.png", tmp_path / "talk.png"]):
        avatar = await runtime.avatar(character, size=128)
        assert (await anext(avatar)).image.shape == (128, 128, 4)
        await avatar.aclose()
    [entry] = [entry for entry in runtime.characters.all() if entry.pack is not None]
    assert list(entry.pack.others) == ["mouth_open"]
    with pytest.raises(RequestError, match="gone.png could not be read"):
        await runtime.avatar(tmp_path / "gone.png")


async def test_pictures_are_marked_unless_told_otherwise(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that people see, a watermark that they do not; without both the picture is as it was drawn."""
    monkeypatch.setattr(Face, "ground", 120)
    spread = {}
    for label, watermark in ((True, True), (False, True), (False, False)):
        avatar = await runtime.avatar("24", size=128, label=label, watermark=watermark)
        image = (await anext(avatar)).image[..., :3]
        spread[label, watermark] = int(image.max()) - int(image.min())
        await avatar.aclose()
    assert spread[True, True] > 60 and 0 < spread[False, True] < 12 and spread[False, False] == 0


async def test_no_more_avatars_than_agreed_and_a_closed_one_makes_room(runtime: Runtime) -> None:
    first, _ = await runtime.avatar("24"), await runtime.avatar("13")
    with pytest.raises(RequestError, match="2 sessions are open") as refused:
        await runtime.avatar("71")
    assert refused.value.status == 503
    await first.aclose()
    assert (await runtime.avatar("71")).sample_rate == 24_000


async def test_a_machine_without_time_for_another_says_so(leaves_nothing: None) -> None:
    """By what the first one takes: here all that may be promised."""
    runtime = Runtime(Faces(), Loudness(), admission=AdmissionConfig(most_load=1e-9))
    first = await runtime.avatar("24")
    await moments(first, 3)
    with pytest.raises(RequestError, match="could not keep 25 frames a second"):
        await runtime.avatar("13")
    await runtime.aclose()


async def test_an_avatar_costs_what_its_renderer_was_measured_at(leaves_nothing: None) -> None:
    """Before any has drawn, what its renderer was measured at counts, at the size asked for or the default one."""
    runtime = Runtime(Faces(), Loudness())
    runtime._cost_of = {("studio_rig", 128): 0.020, ("studio_rig", 512): 0.030, ("studio_rig", 256): 0.001}
    assert (await runtime.avatar("24")).renderer == "studio_rig"  # drawn at 128 pixels, whatever is asked for
    with pytest.raises(RequestError, match="75% of the generator's time, 50% is taken"):
        await runtime.avatar("13")
    await runtime.avatar("13", size=256)
    await runtime.aclose()


async def test_what_cannot_be_is_refused_with_a_reason(runtime: Runtime) -> None:
    with pytest.raises(RequestError, match="nobody"):
        await runtime.avatar("nobody")
    with pytest.raises(ValueError, match="size 100"):
        await runtime.avatar("24", size=100)
    with pytest.raises(ValueError, match="4000 Hz"):
        await runtime.avatar("24", sample_rate=4_000)


@pytest.mark.parametrize("channels", [1, 2, 3])
async def test_bytes_may_be_cut_anywhere(channels: int) -> None:
    """Interleaved PCM16 in pieces of any length, down to a byte, is spoken to the sample."""
    avatar, said = seated(Easel()), speech(4)  # type: ignore[arg-type]
    data = np.repeat(said.astype("<i2")[:, None], channels, axis=1).tobytes()
    rng = np.random.default_rng(channels)
    cuts = [0, 1, 2, 5, *np.sort(rng.integers(0, len(data), 50)).tolist(), len(data)]
    numbers = [await avatar.push(data[a:b], channels=channels) for a, b in zip(cuts, cuts[1:], strict=False)]
    assert numbers[0] is None and set(numbers) - {None} == {avatar.end_segment()}
    heard = await until_ended(avatar)
    assert np.array_equal(np.concatenate([moment.sound for moment in heard]), said)
    await avatar.aclose()


async def test_a_loose_byte_ends_with_its_segment() -> None:
    """What a segment or an interruption leaves behind does not shift what is said next."""
    avatar, said = seated(Easel()), speech(4)  # type: ignore[arg-type]
    for leave in (avatar.end_segment, avatar.clear):
        await avatar.push(bytearray(said.tobytes()[:-1]))
        leave()
        avatar.clear()
        await avatar.push(memoryview(said.tobytes()))
        avatar.end_segment()
        heard = [moment for moment in await until_ended(avatar) if moment.segment is not None]
        assert np.array_equal(np.concatenate([moment.sound for moment in heard]), said)
    await avatar.aclose()


def test_channels_that_cancel_are_heard() -> None:
    """Opposite phase, a voice on one of many, and samples that are no number, in pushed speech."""
    voice = speech(2)
    assert np.array_equal(to_mono(np.stack([voice, -voice], 1)), voice)
    alone = np.zeros((len(voice), 8), np.int16)
    alone[:, 5] = voice
    assert np.array_equal(to_mono(alone), voice)
    floats = np.array([0.5, np.nan, np.inf, -np.inf, 1e30], np.float64)
    assert to_mono(floats).tolist() == [16384, 0, 0, 0, 32767]
    assert to_mono(np.zeros((0, 2), np.int16)).shape == (0,)
