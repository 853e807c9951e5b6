"""What draws a session is chosen by its character, told wherever it may be asked for, and changed without a break."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import RunningServer
from lipstream_client import Client, ControlFailed, RequestError, Session
from peers import Slate
from PIL import Image

from streamer.avatar.backends import AutoBackend
from streamer.avatar.characters import CharacterRecord, Characters
from streamer.avatar.renderer import Renderer, draws
from streamer.avatar.rig_backend import RigBackend
from streamer.base.constants import DEFAULT_SIZES, RENDERERS
from streamer.motion.controls import CONTROLS, HANDS, HIGHEST, INDEX, controls, rest
from streamer.motion.gestures import GESTURES
from streamer.rtc import negotiation
from streamer.studio.character import Character
from streamer.studio.rig import Rig

pytestmark = pytest.mark.usefixtures("any_load")


class Networks(RigBackend):
    """Stands for the neural generator: fast, and black."""

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        return "neural"

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        slate = Slate(size, [])
        slate.name = "neural"
        return slate

    def relative_cost(self, renderer: str, size: int) -> float:
        return size / 256


@pytest.fixture
def auto(server: Any, monkeypatch: pytest.MonkeyPatch) -> AutoBackend:
    """The server chooses for each character; its networks keep up with pictures of 256 pixels."""
    generator = AutoBackend("", Networks(), lambda relative: relative <= 1)
    monkeypatch.setattr(server.state, "generator", generator)
    monkeypatch.setattr(server.state, "default_sizes", {**DEFAULT_SIZES, "neural": 256})
    monkeypatch.setattr(server.state, "cost_of", {("neural", 256): 0.02, ("picture_rig", 512): 0.008})
    return generator


def png(colour: str = "red") -> bytes:
    """A face before a plain ground."""
    rig = Rig(Character.from_seed(500), 160, background=False)
    try:
        image = Image.new("RGBA", (160, 160), colour)
        image.alpha_composite(Image.fromarray(rig.draw(rest(), 0.0)))
    finally:
        rig.close()
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


async def metric(client: Client) -> dict[str, float]:
    text = (await client.request("GET", "/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("lipstream_renderer_sessions{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


async def test_a_change_of_character_changes_what_draws(
    server: Any, auto: AutoBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """Networks, picture and networks again: hello, answers, state, metrics and log name each, and the size stays."""
    with caplog.at_level(logging.INFO, "streamer.session.shown_character"):
        async with Client(server.url) as client:
            picture = (await client.upload(png(), consent=True))["id"]
            async with client.session(character="13") as session:
                assert (session.renderer, session.hello["size"]) == ("neural", 256)
                assert (await client.session_state(session.id))["renderer"] == "neural"
                frame = await anext(session.frames())
                assert frame.image.shape == (256, 256, 3) and frame.image[60:200, 60:200].max() < 60
                for character, renderer in ((picture, "picture_rig"), ("71", "neural")):
                    k = await session.set_character(character)
                    assert session.renderer == renderer
                    state = await client.session_state(session.id)
                    assert (state["renderer"], state["size"], state["character"]) == (renderer, 256, character)
                    assert {name for name, count in (await metric(client)).items() if count} == {renderer}
                    while frame.k <= k + 2:
                        frame = await anext(session.frames())
                    red = frame.image[:30, :30].mean((0, 1))
                    assert (red[0] > 150 and red[1] < 90) == (renderer == "picture_rig")
            assert set(await metric(client)) == set(RENDERERS)
    lines = [record.getMessage() for record in caplog.records if record.name == "streamer.session.shown_character"]
    assert len(lines) == 3
    assert "opened: character 13, drawn by neural at 256 pixels, consent not needed" in lines[0]
    assert f"changed: character {picture}, drawn by picture_rig at 256 pixels, consent given" in lines[1]


@pytest.mark.parametrize(
    ("character", "size", "drawn"),
    [
        ("13", None, ("neural", 256)),
        ("13", 512, ("studio_rig", 512)),
        ("13", 128, ("neural", 128)),
        ("", None, ("picture_rig", 512)),
    ],
)
async def test_the_size_is_what_suits_the_renderer(
    server: Any, auto: AutoBackend, character: str, size: int | None, drawn: tuple[str, int]
) -> None:
    """Without one it is the renderer's default; a size that the networks do not keep up with is drawn by the rig."""
    async with Client(server.url) as client:
        opened = await client.open(character=character or (await client.upload(png()))["id"], size=size)
        assert (opened["renderer"], opened["size"]) == drawn
        state = await client.session_state(opened["id"])
        assert (state["renderer"], state["size"]) == drawn
        await client.end(opened["id"])


async def test_the_servers_renderers_are_told(server: Any, auto: AutoBackend) -> None:
    """With the default size of each, and what a frame of it takes."""
    async with Client(server.url) as client:
        config = await client.config()
    assert config["renderers"] == {
        "neural": {"default_size": 256, "frame_ms": 20.0},
        "picture_rig": {"default_size": 512, "frame_ms": 8.0},
    }
    assert (config["generator"], config["default_size"], config["require_consent"]) == ("auto", 256, False)


async def test_a_character_that_finds_no_room_is_refused(
    server: Any, auto: AutoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its renderer would take the time of other sessions, the old character stays, and they are untouched."""

    def full(renderer: str, size: int, instead: Any = None) -> None:
        raise negotiation.RequestError(503, "overloaded", "no room")

    async with Client(server.url) as client:
        picture = (await client.upload(png()))["id"]
        async with client.session(character=picture) as session:
            monkeypatch.setattr(server.state, "check_room", full)
            with pytest.raises(ControlFailed, match="overloaded"):
                await session.set_character("13")
            assert session.renderer == "picture_rig"
            assert (await client.session_state(session.id))["character"] == picture
            await anext(session.frames())


def entry_of(renderer: str) -> CharacterRecord:
    """A character that one of the rigs draws."""
    if renderer == "studio_rig":
        return Characters().get("13")
    if renderer == "picture_rig":
        return Characters().from_picture(Path("docs/pictures/astronaut.jpg").read_bytes())
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 90).resize((256, 256)).save(stream, "PNG")
    return Characters().from_picture(stream.getvalue(), faced=False)


class TestWhatIsNotDrawn:
    @pytest.mark.parametrize("renderer", ["studio_rig", "picture_rig", "still"])
    def test_what_is_said_of_a_renderer_is_so(self, renderer: str) -> None:
        """A control changes its picture where `draws` says so, and nothing of it elsewhere."""
        rig = entry_of(renderer).rig(192, True)
        assert rig.name == renderer
        try:
            for name in CONTROLS:
                base = controls(open=0.5)
                if name in HANDS and not name.endswith("raise"):
                    base[INDEX[name.split("_")[0] + "_raise"]] = 1
                moved = base.copy()
                moved[INDEX[name]] = HIGHEST[INDEX[name]]
                still = rig.draw(base, 0.0).copy()
                assert draws(renderer, [name]) == bool((rig.draw(moved, 0.0) != still).any()), name
        finally:
            rig.close()

    def test_each_gesture_needs_what_it_moves(self) -> None:
        """What a gesture cannot be told without is among its first pose."""
        for name, gesture in GESTURES.items():
            assert gesture.needs and set(gesture.needs) <= gesture.poses[0.0].keys(), name

    async def test_the_answer_says_so(self, server: Any, auto: AutoBackend) -> None:
        """A gesture or a plan of parts that the session's renderer does not draw is done, and answered with a no."""
        gestures = [{"type": "gesture", "name": name} for name in ("wave", "nod", "wink")]
        plans = [{"type": "plan", "values": values} for values in ({"left_raise": 1}, {"yaw": 0.2})]
        async with Client(server.url) as client:

            async def seen(session: Session) -> list[bool]:
                answers = [await client.control(session.id, message) for message in [*gestures, *plans]]
                assert all(answer.get("drawn", False) is False and answer["frame"] >= 0 for answer in answers)
                return ["drawn" not in answer for answer in answers]

            picture = (await client.upload(png()))["id"]
            async with client.session(character=picture, size=512) as session:
                assert session.renderer == "picture_rig"
                assert await seen(session) == [False, True, True, False, True]
                letting_go = {"type": "plan", "values": {"left_raise": None}}
                assert "drawn" not in await client.control(session.id, letting_go)
                await session.set_character("13")
                assert session.renderer == "studio_rig"
                assert await seen(session) == [True] * 5
            async with client.session(character="13", size=256) as session:
                assert session.renderer == "neural"
                assert await seen(session) == [False, True, True, False, True]


@pytest.fixture(scope="module")
def strict() -> Iterator[RunningServer]:
    with RunningServer(require_consent=True) as running:
        yield running


class TestConsent:
    @pytest.mark.parametrize("consent", [None, False])
    async def test_a_picture_without_it_is_refused(self, strict: RunningServer, consent: bool | None) -> None:
        """With one sentence, before it is decoded; the studio's characters need none."""
        async with Client(strict.url) as client:
            with pytest.raises(RequestError) as refused:
                await client.upload(png(), consent=consent)
            assert (refused.value.status, refused.value.reason) == (403, "consent_required")
            assert "consent=1" in refused.value.detail
            await client.build(seed=5)
            assert (await client.config())["require_consent"] is True

    async def test_with_it_the_picture_is_taken_and_it_is_kept(self, strict: RunningServer) -> None:
        """Its entry says so, as it says of the newest upload of the same picture."""
        async with Client(strict.url) as client:
            uploaded = await client.upload(png("blue"), consent=True)
        assert strict.state.characters.get(uploaded["id"]).consent is True

    async def test_where_it_is_not_required_it_may_be_said(self, server: Any) -> None:
        """Said, denied, or not said at all; what is neither is refused."""
        async with Client(server.url) as client:
            for consent in (True, False, None):
                entry = await client.upload(png("green"), consent=consent)
                assert server.state.characters.get(entry["id"]).consent is consent
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
            query = {"params": {"consent": "maybe"}, "headers": {"Content-Type": "image/png"}}
            answer = await http.post("/v1/characters", content=png(), **query)
            assert (answer.status_code, answer.json()["reason"]) == (422, "bad_request")


def test_each_rig_says_what_it_is() -> None:
    """What a character says of its rig is that rig's name, which is known to all."""
    known = Characters()
    names = []
    for entry in known.samples():
        rig = entry.rig(128, True)
        rig.close()
        assert rig.name == entry.rig_name and rig.name in RENDERERS
        names.append(rig.name)
    assert names == ["studio_rig", "picture_rig", "still"]
