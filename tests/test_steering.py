"""Steering a live session, over its channel and over HTTP: away and back, gestures, another character, refusals."""

import asyncio
import io
import itertools
import math
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from lipstream_client import Client, ControlFailed, Frame, Session
from peers import Witness, silence, spoken
from PIL import Image

from streamer.avatar.characters import CharacterRecord, Characters
from streamer.avatar.engine import EngineSlot
from streamer.avatar.renderer import Renderer
from streamer.avatar.rig_backend import RigBackend
from streamer.base.errors import RequestError
from streamer.media.away_card import card
from streamer.motion.controls import INDEX

pytestmark = pytest.mark.usefixtures("leaves_nothing", "any_load")


def png(colour: tuple[int, int, int], size: int = 100) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(stream, "PNG")
    return stream.getvalue()


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one[..., :3].astype(int) - other[..., :3]).mean())


def shows(frame: Frame, wanted: np.ndarray) -> bool:
    """Whether a frame is a still picture, but for what coding does to it."""
    return apart(frame.image, wanted) < 6


async def frames_until(session: Session, wanted: np.ndarray | None, k: int = 0) -> list[Frame]:
    """Frames as they come, up to the first from `k` on that shows a picture, or, where it is None, any from there."""
    seen: list[Frame] = []
    async with asyncio.timeout(15):
        async for frame in session.frames():
            seen.append(frame)
            if frame.k >= k and (wanted is None or shows(frame, wanted)):
                break
    return seen


def still(server: Any, character: str, background: bool = True) -> np.ndarray:
    return RigBackend().still(server.state.characters.get(character), 256, background)


class TestOverHttp:
    @pytest.mark.parametrize(
        ("message", "answer"),
        [
            ({"type": "mute", "muted": True}, {"type": "muted", "muted": True}),
            ({"type": "emotion", "name": "happy"}, {"type": "emotion", "name": "happy", "strength": 1.0}),
            ({"type": "gesture", "name": "wave"}, {"type": "gesture", "name": "wave"}),
            ({"type": "plan", "values": {"yaw": 0.2}}, {"type": "plan"}),
            ({"type": "character", "id": "71"}, {"type": "character", "id": "71"}),
            ({"type": "away", "away": True}, {"type": "away", "away": True}),
            ({"type": "away", "away": False}, {"type": "away", "away": False}),
            ({"type": "interrupt"}, {"type": "interrupted", "epoch": 1}),
        ],
        ids=lambda v: str(v.get("away", v["type"])),
    )
    async def test_answers_as_the_channel_and_tells_it(
        self, server: Any, message: dict[str, Any], answer: dict[str, Any]
    ) -> None:
        """The answer is the channel's, and the peer hears of it, marked as somebody else's."""
        async with Client(server.url) as client, client.session(character="24") as session:
            await anext(session.frames())
            told = asyncio.create_task(session.expect(answer["type"], remote=True))
            await asyncio.sleep(0)
            said = await client.control(session.id, message)
            assert answer.items() <= said.items()
            assert await told == {**said, "remote": True}

    async def test_answers_nothing_that_the_peer_asked(self, server: Any) -> None:
        """A client that waits for its own answer is not given another's."""
        async with Client(server.url) as client, client.session(character="24") as session:
            await anext(session.frames())
            own = asyncio.create_task(session.set_character("71"))
            other = asyncio.create_task(client.control(session.id, {"type": "ping", "id": 3, "t": 1.5}))
            assert (await other)["id"] == 3
            await client.control(session.id, {"type": "character", "id": "40"})
            await own
            assert (await client.session_state(session.id))["character"] == "40"

    @pytest.mark.parametrize(
        ("body", "status", "reason"),
        [
            (b"", 422, "bad_message"),
            (b"\xff\xfe", 422, "bad_message"),
            (b"[]", 422, "bad_message"),
            (b'{"type":"dance"}', 422, "bad_message"),
            (b'{"type":"gesture","name":"somersault"}', 422, "bad_message"),
            (b'{"type":"emotion","name":"hungry"}', 422, "bad_message"),
            (b'{"type":"away","away":"yes"}', 422, "bad_message"),
            (b'{"type":"away","away":false,"picture":"3"}', 422, "bad_message"),
            (b'{"type":"playout","difference_ms":10}', 422, "bad_message"),
            (b'{"type":"character","id":"nobody"}', 404, "unknown_character"),
            (b'{"type":"away","away":true,"picture":"nobody"}', 404, "unknown_character"),
            (b'{"type":"mute","muted":true,"pad":"' + b"x" * 20_000 + b'"}', 413, "too_large"),
        ],
        ids=lambda v: v[:40].decode(errors="replace") if isinstance(v, bytes) else None,
    )
    async def test_refuses_what_the_channel_would(
        self, server: Any, live: Any, body: bytes, status: int, reason: str
    ) -> None:
        """A problem with its reason; the session is as it was."""
        client, session = live
        before = await client.session_state(session.id)
        answer = await asyncio.to_thread(httpx.post, f"{session_url(server, session)}/control", content=body)
        assert (answer.status_code, answer.json()["reason"]) == (status, reason), answer.text
        after = await client.session_state(session.id)
        steered = ("state", "character", "muted", "away", "epoch")
        assert [before[name] for name in steered] == [after[name] for name in steered]

    async def test_bad_messages_over_http_close_nothing(self, server: Any, live: Any) -> None:
        """The peer's own bad messages end its session after a hundred; a stranger's do not."""
        client, session = live

        def flood() -> set[int]:
            with httpx.Client() as plain:
                return {
                    plain.post(f"{session_url(server, session)}/control", content=b"{").status_code for _ in range(110)
                }

        assert await asyncio.to_thread(flood) == {422}
        assert (await client.session_state(session.id))["state"] == "live"

    async def test_unknown_sessions_and_methods(self, server: Any) -> None:
        """404 for a session that is none, 405 for another method."""
        url = f"{server.url.rstrip('/')}/v1/sessions/nobody/control"
        for method, status, reason in (("POST", 404, "unknown_session"), ("GET", 405, "method_not_allowed")):
            answer = await asyncio.to_thread(httpx.request, method, url)
            assert (answer.status_code, answer.json()["reason"]) == (status, reason)

    async def test_a_session_that_is_not_live_yet(
        self, server: Any, live: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is told to wait: 409."""
        from streamer.session.lifecycle import State

        client, session = live
        monkeypatch.setattr(server.state.sessions[session.id], "_state", State.CONNECTING)
        answer = await asyncio.to_thread(
            httpx.post, f"{session_url(server, session)}/control", json={"type": "interrupt"}
        )
        monkeypatch.undo()
        assert (answer.status_code, answer.json()["reason"]) == (409, "not_live")

    async def test_alpha_has_two_values(self, server: Any) -> None:
        """Another is refused before anything is made."""
        url = f"{server.url.rstrip('/')}/v1/sessions?alpha=yes"
        answer = await asyncio.to_thread(httpx.post, url, content=b"v=0", headers={"Content-Type": "application/sdp"})
        assert (answer.status_code, answer.json()["reason"]) == (422, "bad_request")
        assert "none or packed" in answer.json()["detail"]


def session_url(server: Any, session: Session) -> str:
    return f"{server.url.rstrip('/')}/v1/sessions/{session.id}"


@pytest.fixture
async def live(server: Any) -> Any:
    """A client and its session, of which a frame has come."""
    async with Client(server.url) as client, client.session(character="24") as session:
        await anext(session.frames())
        yield client, session


class TestAway:
    async def test_shows_the_card_and_nothing_is_heard(self, server: Any) -> None:
        """From the frame that is answered on there is the card and silence; then the character and its speech again."""
        wanted = card(still(server, "24"))
        speech = np.concatenate([spoken(2.0)] * 20)
        async with Client(server.url) as client, client.session(speech, character="24") as session:
            await frames_until(session, None, 20)
            left = await session.away()
            seen = await frames_until(session, wanted)
            while seen[-1].k < left + 25:
                seen.append(await anext(session.frames()))
            back = await session.away(False)
            gone = [frame for frame in seen if frame.k > left]
            assert all(shows(frame, wanted) for frame in gone) and len(gone) > 5
            after = [frame for frame in await frames_until(session, None, back + 20) if frame.k > back]
            assert after and not any(shows(frame, wanted) for frame in after)
            sounds = []
            async with asyncio.timeout(10):
                async for sound in session.audio():
                    sounds.append(sound.pts / 640)
                    if sound.pts / 640 > back + 10:
                        break
            assert [k for k in sounds if 5 < k < left - 2], "heard before"
            assert not [k for k in sounds if left + 3 < k < back - 3], "silence while away"
            assert [k for k in sounds if k > back + 3], "heard again"
            assert not (await client.session_state(session.id))["muted"]

    async def test_follows_a_change_of_clothes(self, server: Any, live: Any) -> None:
        """Who changes the character while away is seen away as the new one."""
        _, session = live
        await session.away()
        await frames_until(session, card(still(server, "24")))
        await session.set_character("71")
        await frames_until(session, card(still(server, "71")))

    async def test_shows_an_uploaded_picture(self, server: Any, live: Any) -> None:
        """By the id of an upload; another message with another picture replaces it."""
        client, session = live
        red = await client.upload(png((220, 30, 30)), face=False)
        await session.away(picture=red["id"])
        await frames_until(session, np.full((256, 256, 3), (220, 30, 30)))
        await session.away(picture="71")
        await frames_until(session, still(server, "71"))
        await session.away(False)
        state = await client.session_state(session.id)
        assert (state["away"], state["character"]) == (False, "24")

    async def test_unknown_pictures_change_nothing(self, live: Any) -> None:
        """An error with its reason, and the character stays."""
        client, session = live
        with pytest.raises(ControlFailed, match="unknown_character"):
            await session.away(picture="nobody")
        assert not (await client.session_state(session.id))["away"]

    async def test_back_before_the_card_is_made(self, server: Any, live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Away and at once back: here, whatever is finished later."""
        client, session = live
        shown = server.state.sessions[session.id]._character
        making, go = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        drawn = shown.away_card

        def slow(*arguments: Any) -> np.ndarray:
            loop.call_soon_threadsafe(making.set)
            go.wait(10)
            return drawn(*arguments)

        monkeypatch.setattr(shown, "away_card", slow)
        away = asyncio.create_task(client.control(session.id, {"type": "away", "away": True}))
        await asyncio.wait_for(making.wait(), 10)
        await client.control(session.id, {"type": "away", "away": False})
        go.set()
        with pytest.raises(Exception, match="ended the away state before"):
            await away
        assert not (await client.session_state(session.id))["away"]


def test_pictures_without_a_face_may_be_kept_to_be_shown() -> None:
    """Where faces are needed an upload without one is refused, unless it is said to be for showing only."""
    known = Characters(needs_face=True)
    with pytest.raises(RequestError) as refused:
        known.from_picture(png((200, 180, 20), 300))
    assert refused.value.reason in ("no_face", "one_colour")
    entry = known.from_picture(png((200, 180, 20), 300), faced=False)
    assert entry.face is None and known.get(entry.id) is entry


class TestGesture:
    async def test_moves_the_character(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wave raises a hand, which goes down again by itself."""
        witness = Witness()
        monkeypatch.setattr(server.state, "generator", witness)
        async with Client(server.url) as client, client.session() as session:
            await anext(session.frames())
            before = len(witness.seen)
            first = await session.gesture("wave")
            await frames_until(session, None, first + 80)
            raised = np.array(witness.seen[before:])[:, INDEX["right_raise"]]
            assert raised.max() > 0.95
            assert raised[-1] < 0.5


class TestSwitch:
    @pytest.mark.parametrize("alpha", [False, True], ids=["background", "alpha"])
    async def test_every_frame_is_one_of_the_two(self, server: Any, alpha: bool) -> None:
        """Up to a frame the old one, from it on the new one: none is black, empty, or something between."""
        await switched(server, alpha)

    async def test_what_was_overtaken_is_told_so(self, live: Any) -> None:
        """Of several wishes at once the last holds; those that were passed over are refused as such."""
        client, session = live
        ids = ["71", "40", "4", "73", "3"]
        wishes = (client.control(session.id, {"type": "character", "id": one}) for one in ids)
        outcomes = await asyncio.gather(*wishes, return_exceptions=True)
        worn = [outcome["id"] for outcome in outcomes if isinstance(outcome, dict)]
        refused = [outcome for outcome in outcomes if not isinstance(outcome, dict)]
        assert (await client.session_state(session.id))["character"] == worn[-1] or len(worn) > 1
        assert all(getattr(error, "reason", "") == "overtaken" for error in refused)
        assert len(worn) + len(refused) == len(ids) and worn


async def switched(server: Any, alpha: bool) -> None:
    """Plays a switch and checks every frame of it."""
    old, new = "24", "71"
    generator = server.state.generator
    stills = [generator.still(server.state.characters.get(one), 256, not alpha) for one in (old, new)]
    between = apart(*stills) if not alpha else apart(*(flat(one) for one in stills))
    speech = np.concatenate([silence(0.2), spoken(2.0), spoken(2.0)])
    async with Client(server.url) as client:
        options = {"character": old, "alpha": alpha, "frame_queue": 100, "linger": math.inf}
        async with client.session(speech, **options) as session:
            seen = await frames_until(session, None, 20)
            worn = await session.set_character(new)
            seen += await frames_until(session, None, worn + 25)
    nearest = []
    for frame in seen:
        image = flat(frame.image) if alpha else frame.image
        distances = [apart(image, flat(one) if alpha else one) for one in stills]
        assert min(distances) < 0.4 * between, (frame.k, distances, between)
        nearest.append(int(np.argmin(distances)))
    assert nearest == sorted(nearest) and set(nearest) == {0, 1}
    assert seen[nearest.index(1) - 1].k <= worn  # sooner where frames were waiting to be drawn
    if alpha:
        assert all(frame.image[2, 2, 3] < 8 and frame.image[140, 128, 3] > 247 for frame in seen)


def flat(image: np.ndarray) -> np.ndarray:
    """RGBA over green."""
    alpha = image[..., 3:] / 255
    return (image[..., :3] * alpha + np.array([0, 200, 80]) * (1 - alpha)).astype(np.uint8)


class Ledger(RigBackend):
    """Notes what it is asked to make ready."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int, bool]] = []
        self.late = False

    def prepare(self, entry: CharacterRecord, size: int, background: bool) -> None:
        self.asked.append((entry.id, size, background))
        super().prepare(entry, size, background)


class TestMadeAhead:
    def test_what_is_ready_is_taken(self) -> None:
        """A rig that was made ahead is the one that is worn, once; of those that wait, the oldest makes room."""
        made: list[Renderer] = []

        class Counted(CharacterRecord):
            def rig(self, size: int, background: bool) -> Any:
                made.append(Drawn())
                return made[-1]

        class Drawn:
            closed = False

            def close(self) -> None:
                self.closed = True

        generator, entries = RigBackend(), [Counted(str(i), str(i)) for i in range(30)]
        generator.prepare(entries[0], 256, True)
        generator.prepare(entries[0], 256, True)
        assert len(made) == 1
        assert generator.create_renderer(entries[0], 256, False) is made[1]
        assert generator.create_renderer(entries[0], 256, True) is made[0]
        assert generator.create_renderer(entries[0], 256, True) is made[2]
        for entry in entries:
            generator.prepare(entry, 256, True)
        waiting = [drawable for drawable in made[3:] if not drawable.closed]  # type: ignore[attr-defined]
        assert waiting == made[-18:]

    async def test_the_first_characters_of_the_list_are(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some time into a session nine are ready at its size and ground; one that was put on is made again."""
        ledger = Ledger()
        monkeypatch.setattr(server.state, "generator", ledger)
        monkeypatch.setattr("streamer.session.prefetch._DELAY", 0.0)
        monkeypatch.setattr("streamer.session.prefetch._SHARE", 1.0)
        monkeypatch.setattr("streamer.session.prefetch._CALM", 0.01)
        nine = [(entry.id, 128, False) for entry in server.state.characters.all()[:9]]
        async with Client(server.url) as client, client.session(size=128, background=False) as session:
            async with asyncio.timeout(30):
                while len(ledger.asked) < 9:
                    await anext(session.frames())
                assert ledger.asked == nine
                await session.set_character(nine[3][0])
                while len(ledger.asked) < 18:
                    await anext(session.frames())
            assert ledger.asked == 2 * nine

    @pytest.mark.parametrize("patience", [math.inf, 0.0], ids=["until it is calm", "or too long"])
    async def test_not_while_frames_are_left_out(
        self, server: Any, monkeypatch: pytest.MonkeyPatch, patience: float
    ) -> None:
        """As long as the engine skips frames nothing is made ready beside it, until patience ends."""
        ledger = Ledger()
        monkeypatch.setattr(server.state, "generator", ledger)
        monkeypatch.setattr("streamer.session.prefetch._DELAY", 0.0)
        monkeypatch.setattr("streamer.session.prefetch._CALM", 0.01)
        monkeypatch.setattr("streamer.session.prefetch._PATIENCE", math.inf if patience else 1.5)
        busy = itertools.count()

        class Busy(EngineSlot):
            skipped = property(lambda self: next(busy) if ledger.late else 7, lambda self, value: None)  # type: ignore[assignment]

        ledger.late = True
        monkeypatch.setattr("streamer.avatar.engine.EngineSlot", Busy)
        async with Client(server.url) as client, client.session(size=128) as session:
            await frames_until(session, None, 20)
            assert next(busy) > 5 and ledger.asked == []
            monkeypatch.setattr("streamer.session.prefetch._PATIENCE", patience)
            ledger.late = not patience
            async with asyncio.timeout(30):
                while len(ledger.asked) < 9:
                    await anext(session.frames())


@pytest.fixture(scope="module")
def neural() -> Iterator[Any]:
    from conftest import RunningServer

    with RunningServer(generator="neural", device="cpu") as running:
        yield running


async def test_the_neural_generator_switches_as_cleanly(neural: Any) -> None:
    """The same of the networks, whose first frame of a character has no frames before it."""
    await switched(neural, False)


async def test_neural_characters_are_computed_once(neural: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made ready, or worn before, is not computed again; a rig of its own comes of it all the same."""
    generator, entry = neural.state.generator, neural.state.characters.get("37")
    computed = []
    prepare = generator.frame_renderer.prepare
    monkeypatch.setattr(generator.frame_renderer, "prepare", lambda *a: computed.append(1) or prepare(*a))
    generator.prepare(entry, 256, True)
    rigs = [generator.create_renderer(entry, 256, True) for _ in range(2)]
    assert len(computed) == 1 and rigs[0] is not rigs[1]
    generator.prepare(entry, 256, False)
    assert len(computed) == 2
    monkeypatch.setattr("streamer.avatar.neural._MOST_STILLS", 2)
    generator.prepare(neural.state.characters.get("17"), 256, True)
    assert len(computed) == 3 and len(generator._stills) == 2
    generator.prepare(entry, 256, False)
    assert len(computed) == 3, "one that was used lately is kept"
    generator.prepare(entry, 256, True)
    assert len(computed) == 4, "the one unused for longest was forgotten"
