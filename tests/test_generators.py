"""The choice of a generator: by name, refused by name, and every session's character comes from it."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lipstream_client import Client
from peers import SAMPLE

from streamer import render
from streamer.characters import Characters, Entry
from streamer.cli import main
from streamer.config import SAMPLES_PER_FRAME, ServerConfig
from streamer.features import Loudness
from streamer.generators import Generator, NotInstalled, create
from streamer.pipeline import Drawable
from streamer.studio.controls import rest


class Painted:
    """Draws one colour."""

    def __init__(self, size: int, colour: int) -> None:
        self.size = size
        self._image = np.full((size, size, 4), colour, np.uint8)

    def draw(self, controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        return self._image

    def close(self) -> None:
        pass


class Painter:
    """A generator that notes whom it was asked to draw; each character has a colour of its own."""

    name = "rig"
    where = "a test draws"

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, bool]] = []

    def rig(self, entry: Entry, size: int, background: bool) -> Drawable:
        self.asked.append((entry.id, size, background))
        return Painted(size, 60 if len({one for one, _, _ in self.asked}) == 1 else 200)


def test_the_rig_draws_a_character_as_it_is() -> None:
    """`rig` gives the studio's own drawing of a character, at the size that was asked for."""
    entry = Characters().get("13")
    drawables = create("rig").rig(entry, 128, False), entry.rig(128, False)
    pictures = [drawable.draw(rest()).copy() for drawable in drawables]
    for drawable in drawables:
        drawable.close()
    assert create("rig").name == "rig"
    assert pictures[0].shape == (128, 128, 4)
    assert (pictures[0] == pictures[1]).all()


def test_what_does_not_exist_is_named() -> None:
    """An unknown name is an error that lists those there are, in the configuration too."""
    for make in (create, lambda name: ServerConfig(generator=name)):
        with pytest.raises(ValueError, match="'oil' is none of neural, rig"):
            make("oil")


def test_a_render_is_drawn_by_the_generator_that_is_given() -> None:
    """The offline pipeline asks the generator once, and shows what it draws."""
    painter, entry = Painter(), Characters().get("13")
    samples = np.zeros(3 * SAMPLES_PER_FRAME, np.float32)
    images = list(render.draw_frames(samples, entry, 128, True, Loudness(), generator=painter))
    assert painter.asked == [("13", 128, True)]
    assert len(images) == 3
    assert all((image == 60).all() for image in images)


def test_a_generator_that_is_not_installed_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Both commands end with status 1 and the generator's own sentence, before anything is served or written."""

    def missing(name: str, device: str, sessions: int) -> Generator:
        raise NotInstalled(f"the {name} generator lacks its weights")

    import streamer.server  # noqa: F401  which keeps the true one for the tests that follow

    monkeypatch.setattr("streamer.generators.create", missing)
    monkeypatch.setattr("streamer.render.create", missing)
    said_in_one_line("the neural generator lacks its weights", tmp_path / "out.mp4", capsys)


def said_in_one_line(reason: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["serve", "--port", "0", "--generator", "neural"], ["render", str(SAMPLE), str(out)]):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1
    assert not out.exists()


def test_damaged_articulation_weights_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Both commands end with status 1 and say which file is no network, or is missing."""
    half = tmp_path / "half.onnx"
    monkeypatch.setattr("streamer.features.WEIGHTS", half)
    said_in_one_line("no weights of the articulation network at", tmp_path / "out.mp4", capsys)
    half.write_bytes(b"half")
    said_in_one_line("half.onnx are no weights of the articulation network", tmp_path / "out.mp4", capsys)


@pytest.mark.usefixtures("any_load")
async def test_a_servers_sessions_are_drawn_by_its_generator(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session's first character, and the one that it changes to, come from the server's generator."""
    painter = Painter()
    monkeypatch.setattr(server.state, "generator", painter)
    async with Client(server.url) as client, asyncio.timeout(15):
        assert (await client.config())["generator"] == "rig"
        async with client.session(character="13", background=False) as session:
            frame = await anext(session.frames())
            assert abs(int(frame.image[100, 100, 1]) - 60) < 12
            await session.wear("71", background=True)
            while abs(int(frame.image[100, 100, 1]) - 200) > 12:
                frame = await anext(session.frames())
    assert painter.asked == [("13", 256, False), ("71", 256, True)]
