"""The choice of a generator: by name, refused by name, and every session's character comes from it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lipstream_client import Client
from peers import SAMPLE

from streamer.avatar import capacity
from streamer.avatar.backends import AutoBackend, create
from streamer.avatar.characters import CharacterRecord, Characters
from streamer.avatar.renderer import Renderer, RendererBackend
from streamer.base.constants import SAMPLES_PER_FRAME
from streamer.base.errors import NotInstalled
from streamer.cli import render
from streamer.cli.main import main
from streamer.motion.articulation import Loudness
from streamer.motion.controls import rest
from streamer.server.config import ServerConfig

ROOT = Path(__file__).parent.parent


class Painted:
    """Draws one colour."""

    name = "studio_rig"

    def __init__(self, size: int, colour: int) -> None:
        self.size = size
        self._image = np.full((size, size, 4), colour, np.uint8)

    def draw(self, controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        return self._image

    def close(self) -> None:
        pass


class FrameRenderer:
    """A generator that notes whom it was asked to draw; each character has a colour of its own."""

    name = "rig"
    where = "a test draws"

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, bool]] = []

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        return Painted.name

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        self.asked.append((entry.id, size, background))
        return Painted(size, 60 if len({one for one, _, _ in self.asked}) == 1 else 200)


def test_the_rig_draws_a_character_as_it_is() -> None:
    """`rig` gives the studio's own drawing of a character, at the size that was asked for."""
    entry = Characters().get("13")
    drawables = create("rig").create_renderer(entry, 128, False), entry.rig(128, False)
    pictures = [drawable.draw(rest()).copy() for drawable in drawables]
    for drawable in drawables:
        drawable.close()
    assert create("rig").name == "rig"
    assert pictures[0].shape == (128, 128, 4)
    assert (pictures[0] == pictures[1]).all()


def test_what_does_not_exist_is_named() -> None:
    """An unknown name is an error that lists those there are, in the configuration too."""
    for make in (create, lambda name: ServerConfig(generator=name)):
        with pytest.raises(ValueError, match="'oil' is not one of auto, neural, rig"):
            make("oil")


def picture() -> CharacterRecord:
    return CharacterRecord("p-1", "A picture", picture=np.full((80, 80, 4), 255, np.uint8))


class Networks(FrameRenderer):
    """Stands for the neural generator: a frame of 512 pixels costs twice as much as one of 256."""

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        return "neural"

    def relative_cost(self, renderer: str, size: int) -> float:
        return size / 256


def test_auto_chooses_for_each_character_and_size() -> None:
    """Studio characters are the networks' where those keep up, at the size asked for; pictures are the rig's."""
    studio, networks = Characters().get("13"), Networks()
    auto = AutoBackend("", networks, lambda relative: relative <= 1.5)
    assert [auto.renderer_name(studio, size) for size in (None, 128, 384, 512)] == ["neural"] * 3 + ["studio_rig"]
    assert [auto.renderer_name(picture(), size) for size in (None, 256)] == ["still", "still"]
    for entry, size in ((studio, 128), (studio, 512), (picture(), 128)):
        drawable = auto.create_renderer(entry, size, True)
        drawable.close()
        assert drawable.size == size
    assert networks.asked == [("13", 128, True)]
    assert auto.relative_cost("neural", 512) == 2 and auto.relative_cost("studio_rig", 512) == pytest.approx(1)


def test_auto_without_networks_is_the_rigs() -> None:
    """Where there are none that keep up, each character is drawn by its rig."""
    auto = AutoBackend("")
    assert [auto.renderer_name(entry) for entry in (Characters().get("13"), picture())] == ["studio_rig", "still"]


@pytest.mark.parametrize("seconds", [0.010, 0.060], ids=["fast", "slow"])
def test_auto_keeps_to_what_was_measured(seconds: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It measures once, says so, remembers it, and loads the networks only where they keep up; its line says why."""
    measured: list[str] = []

    def measure(device: str) -> capacity.Measured:
        measured.append(device)
        return capacity.Measured("cpu", (seconds,) * 40)

    def loaded(**asked: Any) -> Networks:
        assert seconds < 0.02, "networks that do not keep up are not loaded"
        return Networks()

    monkeypatch.setattr(capacity, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(capacity, "crowded", lambda: False)
    monkeypatch.setattr(capacity, "measure", measure)
    monkeypatch.setattr("streamer.avatar.neural.NeuralBackend.load", loaded)
    told: list[str] = []
    for _ in range(2):
        auto = create("auto", "cpu", 2, told.append)
        assert auto.renderer_name(Characters().get("13")) == ("neural" if seconds < 0.02 else "studio_rig")
    assert measured == ["cpu"] and len(told) == 1 and "once" in told[0]
    (file,) = tmp_path.glob("capacity-*.json")
    assert f"{1000 * seconds:.0f} ms a frame beside a busy core" in auto.where
    assert "pass --generator neural or --generator rig" in auto.where and f"delete {file}" in auto.where
    assert "\n" not in auto.where


def test_a_crowded_machine_is_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What other programs made slow is not remembered, and the line says so; what keeps up beside them is."""
    monkeypatch.setattr(capacity, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(capacity, "crowded", lambda: True)
    monkeypatch.setattr("streamer.avatar.neural.NeuralBackend.load", lambda **asked: Networks())
    monkeypatch.setattr(capacity, "measure", lambda device: capacity.Measured("cpu", (0.080,) * 40))
    auto = create("auto", "cpu")
    assert auto.where.endswith("the next start measures again") and not list(tmp_path.iterdir())
    monkeypatch.setattr(capacity, "measure", lambda device: capacity.Measured("cpu", (0.010,) * 40))
    assert "delete" in create("auto", "cpu").where and len(list(tmp_path.iterdir())) == 1


def test_auto_falls_back_with_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What cannot be measured is not remembered, and the rigs draw; CUDA that is insisted on and fails is an error."""

    def broken(device: str) -> capacity.Measured:
        raise capacity.NotMeasured("measuring the neural generator took more than 300 s")

    def missing(**asked: Any) -> RendererBackend:
        raise NotInstalled("no CUDA here")

    monkeypatch.setattr(capacity, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(capacity, "measure", broken)
    monkeypatch.setattr("streamer.avatar.neural.NeuralBackend.load", missing)
    auto = create("auto", "cpu")
    assert auto.renderer_name(Characters().get("13")) == "studio_rig"
    assert "measuring the neural generator took more than 300 s" in auto.where and not list(tmp_path.iterdir())
    with pytest.raises(NotInstalled, match="no CUDA here"):
        create("auto", "cuda")


def test_a_device_that_has_gone_is_measured_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CUDA that kept up when it was measured and now fails leaves the choice to what the CPU does."""

    def loaded(device: str, sessions: int) -> Networks:
        if device == "cuda":
            raise NotInstalled("no CUDA any more")
        return Networks()

    monkeypatch.setattr(capacity, "cache_folder", lambda: tmp_path)
    times = {"auto": capacity.Measured("cuda", (0.002,) * 40), "cpu": capacity.Measured("cpu", (0.050,) * 40)}
    monkeypatch.setattr(capacity, "measure", times.__getitem__)
    monkeypatch.setattr("streamer.avatar.neural.NeuralBackend.load", loaded)
    assert create("auto", "auto").renderer_name(Characters().get("13")) == "studio_rig"


def test_a_server_that_ends_up_with_rigs_loads_no_networks(tmp_path: Path) -> None:
    """Where it is remembered that networks do not keep up, neither torch nor OpenVINO is imported."""
    code = """
import sys
from fastapi.testclient import TestClient
from streamer.avatar import capacity
from streamer.server.config import ServerConfig
from streamer.server.app import create_app
given = capacity.circumstances("auto")
capacity.remember(given, capacity.memory(given), capacity.Measured("cpu", (0.05,) * 40))
with TestClient(create_app(ServerConfig()), base_url="http://127.0.0.1:8080") as client:
    config = client.get("/v1/config").json()
    assert config["generator"] == "auto", config
    assert sorted(config["renderers"]) == ["picture_rig", "still", "studio_rig"], config
    assert config["default_size"] == 512, config
loaded = {"torch", "openvino"} & sys.modules.keys()
assert not loaded, loaded
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=ROOT, env=environment)


def test_a_render_is_drawn_by_the_generator_that_is_given() -> None:
    """The offline pipeline asks the generator once, and shows what it draws."""
    frame_renderer, entry = FrameRenderer(), Characters().get("13")
    samples = np.zeros(3 * SAMPLES_PER_FRAME, np.float32)
    images = list(render.draw_frames(samples, entry, 128, True, Loudness(), generator=frame_renderer))
    assert frame_renderer.asked == [("13", 128, True)]
    assert len(images) == 3
    assert all((image == 60).all() for image in images)


def test_a_generator_that_is_not_installed_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Both commands end with status 1 and the generator's own sentence, before anything is served or written."""

    def missing(name: str, device: str, sessions: int, tell: object) -> RendererBackend:
        raise NotInstalled(f"the {name} generator lacks its weights")

    import streamer.server.app  # noqa: F401  which keeps the true one for the tests that follow

    monkeypatch.setattr("streamer.avatar.backends.create", missing)
    monkeypatch.setattr("streamer.cli.render.create", missing)
    said_in_one_line("the neural generator lacks its weights", tmp_path / "out.mp4", capsys)


def said_in_one_line(reason: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["serve", "--port", "0"], ["render", str(SAMPLE), str(out)]):
        assert main([*command, "--generator", "neural"]) == 1
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1
    assert not out.exists()


def test_damaged_articulation_weights_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Both commands end with status 1 and say which file is no network, or is missing."""
    half = tmp_path / "half.onnx"
    monkeypatch.setattr("streamer.motion.articulation.WEIGHTS", half)
    said_in_one_line("no weights of the articulation network at", tmp_path / "out.mp4", capsys)
    half.write_bytes(b"half")
    said_in_one_line("half.onnx are no weights of the articulation network", tmp_path / "out.mp4", capsys)


@pytest.mark.usefixtures("any_load")
async def test_a_servers_sessions_are_drawn_by_its_generator(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session's first character, and the one that it changes to, come from the server's generator."""
    frame_renderer = FrameRenderer()
    monkeypatch.setattr(server.state, "generator", frame_renderer)
    async with Client(server.url) as client, asyncio.timeout(15):
        assert (await client.config())["generator"] == "rig"
        async with client.session(character="13", background=False) as session:
            frame = await anext(session.frames())
            assert abs(int(frame.image[100, 100, 1]) - 60) < 12
            await session.set_character("71", background=True)
            while abs(int(frame.image[100, 100, 1]) - 200) > 12:
                frame = await anext(session.frames())
    assert frame_renderer.asked == [("13", 256, False), ("71", 256, True)]
