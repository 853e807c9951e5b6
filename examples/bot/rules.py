"""The bot's answers. It does not understand words: the rules use only when, how long and how often the user speaks."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Turn:
    """What is known about one turn of the user."""

    seconds: float
    """Its length."""
    after: float
    """Seconds of silence before it; for the first turn, since the start of the conversation."""
    interrupted: bool
    """Whether it interrupted the bot."""
    heard: float
    """Share of the bot's last answer that the user had heard, 0 to 1."""
    now: datetime


@dataclass(frozen=True)
class Rule:
    """The first rule that fits a turn answers it, with a reply that was not used recently."""

    name: str
    fits: Callable[["Bot", Turn], bool]
    replies: Sequence[str]
    emotion: str = "neutral"


def _greeting(now: datetime) -> str:
    for until, words in ((5, "You are up late"), (11, "Good morning"), (17, "Good afternoon"), (24, "Good evening")):
        if now.hour < until:
            return words
    raise AssertionError(now)


RULES = (
    Rule("first words", lambda bot, turn: bot.turns == 1, (
        "{greeting}! I am a character drawn on this computer. I cannot understand words, but I do listen. Tell me about"
        " your day.",
    ), "happy"),
    Rule("interrupted early", lambda bot, turn: turn.interrupted and turn.heard < 0.3, (
        "Oh, you first.", "Sorry, go on.", "You have something to say. Please do.",
    ), "surprised"),
    Rule("interrupted", lambda bot, turn: turn.interrupted, (
        "I stopped at once, did you notice? What was it?", "I talk too much, I know.", "Yes, of course.",
    ), "shy"),
    Rule("a word", lambda bot, turn: turn.seconds < 0.8, (
        "Just that?", "Go on.", "Was that a yes?", "Short and clear.", "Mhm. And then?",
    )),
    Rule("a long pause", lambda bot, turn: turn.after > 20, (
        "There you are again.", "I had begun to count the pixels. Nice to hear you.",
    ), "happy"),
    Rule("a story", lambda bot, turn: turn.seconds > 8, (
        "That was {seconds} seconds, quite a story. How did it end?",
        "I listened to all {seconds} seconds of it. What did you make of that?",
        "You had a lot to tell. Which part matters most?",
    ), "happy"),
    Rule("every fifth", lambda bot, turn: bot.turns % 5 == 0, (
        "We have had {turns} turns now, and it is {time}. Time flies.",
    )),
    Rule("anything", lambda bot, turn: True, (
        "Tell me more.", "How does that make you feel?", "What makes you say so?", "And before that?",
        "I see. What would you like to happen?", "That sounds important.", "Hm. Let me think. No, you go on.",
    )),
)  # fmt: skip


@dataclass
class Bot:
    """Answers turns. The same seed and turns give the same answers."""

    seed: int = 0
    turns: int = 0
    _used: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def answer(self, turn: Turn) -> tuple[str, str]:
        """The text to say, and its emotion."""
        self.turns += 1
        rule = next(rule for rule in RULES if rule.fits(self, turn))
        fresh = [reply for reply in rule.replies if reply not in self._used[-4:]] or list(rule.replies)
        reply = self._random.choice(fresh)
        self._used.append(reply)
        said = reply.format(
            greeting=_greeting(turn.now), seconds=round(turn.seconds), turns=self.turns, time=f"{turn.now:%H:%M}"
        )
        return said, rule.emotion
