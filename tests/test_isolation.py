"""Sixteen bots at once: nobody is ever sent another one's voice or face."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import RunningServer
from lipstream_client import Client

from benchmarks.lib.whip_peer import Player
from streamer.motion.controls import rest

BOTS = 16
SIZE = 128
RATE = 48_000
SECONDS = 3.0
PITCHES = 220.0 * 2 ** (np.arange(BOTS) * 2.5 / 12)
"""Hz: two and a half semitones apart, so that no one's overtone is another's tone."""


@pytest.fixture(scope="module")
def busy() -> Iterator[RunningServer]:
    with RunningServer(max_sessions=BOTS) as running:
        yield running


def hum(pitch: float) -> np.ndarray:
    """[n] float32 at 48 kHz: a tone that swells twice a second, which a mouth answers."""
    t = np.arange(round(SECONDS * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * pitch * t) * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * t))).astype(np.float32)


def strengths(sound: np.ndarray) -> np.ndarray:
    """[BOTS]: how much of each one's tone is in a sound [n] at 48 kHz, in any quarter second at most."""
    window = RATE // 4
    pieces = sound[: len(sound) // window * window].reshape(-1, window) * np.hanning(window)
    t = np.arange(window) / RATE
    tones = np.exp(-2j * np.pi * PITCHES[:, None] * t)
    return np.abs(pieces @ tones.T).max(0) / window


def unlike(server: RunningServer) -> dict[str, np.ndarray]:
    """BOTS characters that are easily told apart: their pictures [SIZE, SIZE, 3] by id."""
    chosen: dict[str, np.ndarray] = {}
    for seed in range(1, 200):
        entry = server.state.characters.get(str(seed))
        rig = entry.rig(SIZE, True)
        picture = rig.draw(rest())[..., :3].astype(np.int16).copy()
        rig.close()
        if all(np.abs(picture - other).mean() > 40 for other in chosen.values()):
            chosen[entry.id] = picture
        if len(chosen) == BOTS:
            return chosen
    raise AssertionError(f"only {len(chosen)} characters are unlike enough")


@pytest.mark.usefixtures("any_load", "leaves_nothing")
async def test_nobody_gets_another_ones_voice_or_face(busy: RunningServer) -> None:
    """Each of sixteen bots hums a tone of its own through a character of its own; what each one's viewer hears is that
    tone and none of the others', and all that it sees is that character."""
    faces = unlike(busy)

    async def talk(client: Client, i: int, character: str) -> Player:
        session = (await client.open(character=character, size=SIZE))["id"]
        try:
            async with Player(busy.url, session) as player, client.bot(session, rate=RATE) as bot:
                await bot.say(hum(PITCHES[i]))
                async with asyncio.timeout(90):
                    async for event in bot.events():
                        if event["type"] == "speech_finished":
                            break
                await player.until(frames=5)
        finally:
            await client.end(session)
        return player

    async with Client(busy.url) as client:
        players = await asyncio.gather(*(talk(client, i, character) for i, character in enumerate(faces)))
    pictures = np.stack(list(faces.values()))
    for i, player in enumerate(players):
        heard = strengths(player.sound)
        others = np.delete(heard, i)
        assert heard[i] > 0.01, f"bot {i} was not heard: {len(player.sound)} samples"
        assert heard[i] > 30 * others.max(), f"bot {i}'s viewer heard bot {int(np.argmax(others))}"
        for picture in player.pictures:
            apart = np.abs(pictures - picture.astype(np.int16)).mean((1, 2, 3))
            assert int(apart.argmin()) == i, f"bot {i}'s viewer saw character {int(apart.argmin())}"
