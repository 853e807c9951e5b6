"""The example bot: its rules, its voice, and a conversation with it over a real server."""

import asyncio
import math
import re
import shutil
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lipstream_client import Client
from peers import silence, spoken

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "bot"))

import bot as example  # noqa: E402
from rules import RULES, Turn  # noqa: E402
from rules import Bot as Rules  # noqa: E402

from streamer.motion.controls import EMOTIONS  # noqa: E402

NOON = datetime(2026, 5, 4, 12, 30)
needs_voice = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


def turn(seconds: float = 2.0, after: float = 3.0, interrupted: bool = False, heard: float = 1.0) -> Turn:
    return Turn(seconds, after, interrupted, heard, NOON)


def rule_of(text: str) -> str:
    """The rule whose reply a text is, whatever was filled in."""
    for rule in RULES:
        for reply in rule.replies:
            first, *rest = re.split(r"\{\w+\}", reply)
            if re.fullmatch(re.escape(first) + "".join(".*" + re.escape(part) for part in rest), text):
                return rule.name
    raise AssertionError(text)


class TestRules:
    def test_each_rule_answers_what_it_is_for(self) -> None:
        """Every rule is met by some turn; what is known of the turn is in the words."""
        rules = Rules(1)
        turns = [
            turn(),
            turn(interrupted=True, heard=0.1),
            turn(interrupted=True, heard=0.8),
            turn(seconds=0.4),
            turn(),
            turn(after=60),
            turn(seconds=12),
            turn(),
        ]
        answers = [rules.answer(each)[0] for each in turns]
        assert [rule_of(text) for text in answers] == [
            "first words",
            "interrupted early",
            "interrupted",
            "a word",
            "every fifth",
            "a long pause",
            "a story",
            "anything",
        ]
        assert {rule.name for rule in RULES} == {rule_of(text) for text in answers}
        assert answers[0].startswith("Good afternoon")
        assert "5 turns" in answers[4] and "12:30" in answers[4]

    def test_does_not_repeat_itself(self) -> None:
        """Of several replies none comes twice in a row, and the same seed and turns give the same answers."""
        first, again = ([rules.answer(turn(seconds=0.5))[0] for _ in range(30)] for rules in (Rules(3), Rules(3)))
        assert first == again
        assert all(a != b for a, b in zip(first, first[1:], strict=False))

    @pytest.mark.parametrize("hour", range(24))
    def test_greets_at_every_hour(self, hour: int) -> None:
        assert Rules().answer(Turn(1, 0, False, 1.0, NOON.replace(hour=hour)))[0]

    def test_feels_what_can_be_felt(self) -> None:
        assert {rule.emotion for rule in RULES} <= set(EMOTIONS)


@needs_voice
class TestVoice:
    async def test_speaks(self) -> None:
        """A sentence is a second or two of a voice, whatever signs are in it."""
        samples = await example.speak("Hello -v; $(ls), how are you?")
        assert 0.8 * example.RATE < len(samples) < 4 * example.RATE
        assert 0.1 < np.abs(samples).max() <= 1

    async def test_an_unknown_voice_is_told(self) -> None:
        with pytest.raises(RuntimeError, match="espeak-ng"):
            await example.speak("hello", "xx-nope")

    async def test_a_missing_program_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(RuntimeError, match="apt-get install espeak-ng"):
            await example.speak("hello")


@needs_voice
async def test_a_conversation(server: Any, any_load: None, leaves_nothing: None, capsys: pytest.CaptureFixture) -> None:
    """The user speaks and the bot answers; the user speaks again meanwhile, and it stops and listens, then answers."""
    loud: list[float] = []
    moved, answered = asyncio.Event(), asyncio.Event()

    async def says() -> AsyncIterator[np.ndarray]:
        yield np.concatenate([silence(0.6), spoken(1.0)])
        await answered.wait()
        yield spoken(1.2)
        await asyncio.Event().wait()

    states: list[str] = []
    async with Client(server.url) as client, Client(server.url) as other:
        watching = asyncio.create_task(example.watch(other, "en"))
        try:
            async with client.session(says(), voice="speech", size=128, linger=math.inf) as session:
                held = server.state.sessions[session.id]
                attend = held._avatar.set_attention
                held._avatar.set_attention = lambda state: (states.append(state), attend(state))

                async def listen() -> None:
                    async for sound in session.audio():
                        if np.abs(sound.samples).max() > 0.05:
                            loud.append(sound.pts / 16_000)
                            moved.set()
                            if len(loud) > 10:
                                answered.set()

                listening = asyncio.create_task(listen())
                cut = await session.expect("interrupted", timeout=30)
                async with asyncio.timeout(30):
                    while not any(at > cut["pts"] / 16_000 + 1.5 for at in loud):
                        moved.clear()
                        await moved.wait()
                pause = [at for at in loud if cut["pts"] / 16_000 + 0.04 < at < cut["pts"] / 16_000 + 1.2]
                assert not pause, "it spoke while the user did"
                listening.cancel()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    # While the turns went on; a repeated wish changes nothing.
    kept = [state for state, before in zip(states, [None, *states], strict=False) if state != before]
    assert kept[:5] == ["idle", "listening", "thinking", "listening", "thinking"]
    told = capsys.readouterr().out
    assert told.count("bot:") == 2
    assert "(interrupted)" in told
