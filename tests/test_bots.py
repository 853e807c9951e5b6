"""Bots end to end: a real server, a real client at the speech socket, and what is seen, heard and told of it."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import RunningServer
from lipstream_client import Bot, Client, ControlFailed, Frame, RequestError, SessionLost, Sound
from peers import MouthMeter, delay, place, silence, spoken
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamer.audio import Chunk, OpusDecoder, OpusEncoder, SpeechFormat
from streamer.audio.speech_source import MAX_MESSAGE
from streamer.base.constants import SAMPLE_RATE
from streamer.base.frames import Frame as Drawn
from streamer.base.frames import Sound as Sent
from streamer.server.routes.speech import _read
from streamer.session.bot import Bot as Host
from streamer.session.bot import Closed, Outbox
from streamer.session.speech_input import SpeechInput

RATE = 48_000
pytestmark = pytest.mark.usefixtures("leaves_nothing")


async def until(bot: Bot, kind: str, **fields: Any) -> dict[str, Any]:
    """The bot's next message of a type with these fields; those before it are passed over."""
    async with asyncio.timeout(10):
        async for event in bot.events():
            if event["type"] == kind and fields.items() <= event.items():
                return event
    raise AssertionError(f"the socket ended before {kind}")


@pytest.fixture
async def client(server: RunningServer, any_load: None) -> AsyncIterator[Client]:
    async with Client(server.url) as client:
        yield client


@pytest.fixture
async def alone(client: Client) -> AsyncIterator[str]:
    """A session without a peer."""
    opened = await client.open(size=128)
    yield opened["id"]
    try:
        await client.end(opened["id"])
    except RequestError as refused:
        assert refused.reason == "unknown_session"  # the test has ended it


@dataclass
class Kept:
    """An outlet that keeps what it is given."""

    frames: list[Drawn] = field(default_factory=list)
    sounds: list[Sent] = field(default_factory=list)

    def frame(self, frame: Drawn) -> None:
        self.frames.append(frame)

    def sound(self, sound: Sent) -> None:
        self.sounds.append(sound)

    async def close(self) -> None:
        pass

    def heard(self, seconds: float) -> np.ndarray:
        """[n] float32 at 16 kHz from the beginning; silence where no packet is."""
        line = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
        decoder = OpusDecoder()
        for sound in self.sounds:
            samples = decoder.decode(sound.payload)
            assert samples is not None
            part = samples[: max(0, len(line) - sound.pts)]
            line[sound.pts : sound.pts + len(part)] = part
        return line


class TestWithoutAPeer:
    async def test_lives_at_once(self, client: Client, server: RunningServer) -> None:
        """Opened by JSON it is live, tells where its bot and its viewers go, and ends by DELETE."""
        opened = await client.open(character="7", size=128, background=False)
        state = await client.session_state(opened["id"])
        assert opened["speech"] == f"/v1/sessions/{opened['id']}/speech"
        assert opened["whep"] == f"/v1/sessions/{opened['id']}/whep"
        assert (state["state"], state["character"], state["size"], state["voice"]) == ("live", "7", 128, "speech")
        await client.end(opened["id"])
        with pytest.raises(RequestError, match="unknown_session"):
            await client.session_state(opened["id"])

    @pytest.mark.parametrize("kind", ["pcm16", "opus"])
    async def test_says_what_it_is_sent(self, client: Client, server: RunningServer, alone: str, kind: str) -> None:
        """Sent at once, speech is spoken in real time: told of, heard as it was, with frames that answer it."""
        kept = Kept()
        server.call(_outlet(server, alone, kept))
        speech = spoken(1.0)
        async with client.bot(alone, format=kind, rate=RATE) as bot:
            if kind == "pcm16":
                await bot.say(speech)
            else:
                encoder = OpusEncoder(RATE)
                for part in speech.reshape(-1, 960):
                    await bot.say(encoder.encode(part), end=False)
                await bot.end()
            started = await until(bot, "speech_started")
            finished = await until(bot, "speech_finished")
        assert finished == {
            "type": "speech_finished",
            "segment": started["segment"],
            "position_ms": 1000,
            "interrupted": False,
        }
        onset = started["pts"]
        late, fit = delay(kept.heard(20)[onset : onset + SAMPLE_RATE].repeat(3), speech)
        assert fit > 0.9
        assert late == pytest.approx(312, abs=48)  # the encoder's 6.5 ms
        answered = [frame.pts for frame in kept.frames if onset <= frame.pts < onset + SAMPLE_RATE]
        assert len(answered) >= 10
        assert set(np.diff([sound.pts for sound in kept.sounds])) == {320}

    async def test_goes_on_without_a_socket(self, client: Client, server: RunningServer, alone: str) -> None:
        """A bot that leaves has its speech spoken to the end, and another may come; idle frames go on throughout."""
        kept = Kept()
        server.call(_outlet(server, alone, kept))
        async with client.bot(alone, rate=RATE) as bot:
            await bot.say(spoken(0.5), end=False)
            await until(bot, "speech_started")
        async with client.bot(alone, rate=RATE) as bot:
            await bot.say(spoken(0.3))
            assert (await until(bot, "speech_started"))["segment"] == 2
        state = await client.session_state(alone)
        assert state["speech"]["segments"] == 2
        assert state["state"] == "live"

    async def test_ends_when_nobody_is_there(self, any_load: None) -> None:
        """A bot or an outlet keeps it; left by both, it ends after a while."""
        with RunningServer(unattended_timeout=0.4) as server:
            async with Client(server.url) as client:
                opened = await client.open(size=128)
                session = server.state.sessions[opened["id"]]
                async with client.bot(opened["id"], rate=RATE) as bot:
                    await bot.say(spoken(1.5))
                    await until(bot, "speech_finished")
                    assert session.state.value == "live"
                assert await server.closed(session) == "unattended"
                assert not await client.sessions()

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"nonsense", 400),
            (b"[]", 400),
            (b'{"size": 100}', 422),
            (b'{"size": true}', 422),
            (b'{"size": 128.0}', 422),
            (b'{"size": [128]}', 422),
            (b'{"character": null}', 422),
            (b'{"size": "128"}', 422),
            (b'{"character": 7}', 422),
            (b'{"character": "nobody"}', 404),
            (b'{"background": 1}', 422),
            (b"[" * 70_000, 413),
        ],
    )
    async def test_refuses_what_it_cannot_be(self, server: RunningServer, body: bytes, status: int) -> None:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
            answer = await http.post("/v1/sessions", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status
        assert answer.json()["detail"]


async def _outlet(server: RunningServer, session_id: str, kept: Kept) -> None:
    server.state.sessions[session_id].add_outlet(kept)


async def _room(server: RunningServer, session_id: str) -> dict[str, Any]:
    return server.state.sessions[session_id].snapshot()["speech"]


class TestInterruption:
    async def test_tells_how_much_was_heard(self, client: Client, server: RunningServer, alone: str) -> None:
        """Cut in the middle of the second of three segments: the first was heard, of the second a part, of the third
        nothing; the position is the clock's where nobody views.
        """
        async with client.bot(alone, rate=RATE) as bot:
            for _ in range(3):
                await bot.say(spoken(0.6))
            started = await until(bot, "speech_started", segment=2)
            answer = await bot.interrupt()
            heard = server.state.sessions[alone].speech.due(server.call(_now())) - started["pts"]
            told = [await until(bot, "speech_finished", interrupted=True) for _ in range(2)]
        assert (answer["by"], answer["segment"], answer["epoch"]) == ("bot", 2, 1)
        assert 0 <= answer["position_ms"] <= heard / 16
        assert answer["position_ms"] < 600
        assert [(t["segment"], t["position_ms"], t["interrupted"]) for t in told] == [
            (2, answer["position_ms"], True),
            (3, 0, True),
        ]

    async def test_clears_at_once(self, client: Client, server: RunningServer, alone: str) -> None:
        """Nothing of what waited is heard after it, the next words are, and their frames are of the new epoch."""
        kept = Kept()
        server.call(_outlet(server, alone, kept))
        async with client.bot(alone, rate=RATE) as bot:
            for _ in range(10):
                await bot.say(spoken(2.0))
            await until(bot, "speech_started")
            answer = await bot.interrupt()
            assert server.call(_room(server, alone))["buffered_ms"] == 0
            await bot.say(spoken(0.4))
            started = await until(bot, "speech_started", segment=11)
            await until(bot, "speech_finished", segment=11)
        before = [sound for sound in kept.sounds if sound.epoch == 0]
        assert max(sound.end for sound in before) <= answer["pts"]
        assert started["pts"] >= max(sound.end for sound in before)
        loud = np.abs(kept.heard(20))
        assert loud[started["pts"] : started["pts"] + 6400].max() > 0.05
        pause = loud[max(sound.end for sound in before) + 400 : started["pts"]]
        assert pause.size == 0 or pause.max() < 0.02
        assert {frame.epoch for frame in kept.frames if frame.pts >= started["pts"]} == {1}

    async def test_with_nothing_to_cut(self, client: Client, alone: str) -> None:
        async with client.bot(alone) as bot:
            answer = await bot.interrupt()
        assert (answer["segment"], answer["position_ms"]) == (None, 0)


async def _now() -> float:
    from streamer.base import clock

    return clock.now()


class TestFlow:
    async def test_nothing_is_read_beyond_the_bound(self) -> None:
        """A socket is not read while as much waits as may: what is sent waits in TCP; with room, it is read again."""
        taken, room = [], asyncio.Event()

        class Socket:
            async def receive(self) -> dict[str, Any]:
                if len(taken) == 100:
                    await room.wait()
                taken.append(1)
                return {"type": "websocket.receive", "bytes": bytes(MAX_MESSAGE)}

        speech = SpeechInput(640, lambda chunks, now: None, lambda packet, now: None, lambda event: None)
        speech.start(SpeechFormat("pcm16", RATE))
        bot = Host(_Session(), speech)  # type: ignore[arg-type]
        reading = asyncio.create_task(_read(Socket(), bot))  # type: ignore[arg-type]
        try:
            await asyncio.wait_for(_settled(taken), 5)
            seconds = MAX_MESSAGE / 2 / RATE
            assert speech.buffered == pytest.approx(len(taken) * seconds)
            assert 65 <= speech.buffered < 65 + seconds
            told = [json.loads(await bot.outbox.get()) for _ in range(2)]
            assert [message["type"] for message in told] == ["hello", "full"]
            assert told[1]["buffered_ms"] == pytest.approx(60_000, abs=1000 * seconds)
            before = len(taken)
            speech.clear(0, discard=False)
            await asyncio.wait_for(_settled(taken), 5)
            assert len(taken) == 2 * before
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def test_full_and_ready_are_told(self, client: Client, server: RunningServer, alone: str) -> None:
        """Speech sent all at once is all taken up to a minute; the client waits there, and goes on when told."""
        minute = np.zeros(63 * 8000, np.float32)
        async with client.bot(alone, rate=8000) as bot:
            saying = asyncio.create_task(bot.say(minute, end=False))
            full = await until(bot, "full")
            assert 60_000 <= full["buffered_ms"] <= 65_000
            more = asyncio.create_task(bot.say(minute))
            report = await until(bot, "buffer")
            assert report["buffered_ms"] > 50_000
            await bot.interrupt()
            await until(bot, "ready")
            await asyncio.gather(saying, more)
            await bot.interrupt()
            assert server.call(_room(server, alone))["received_ms"] == 126_000

    async def test_a_bot_that_reads_nothing_is_let_go(self) -> None:
        """Messages for it are bounded and end it; of the user's voice it loses what comes then; order is kept."""
        outbox = Outbox()
        for i in range(150):
            outbox.sound(bytes([i]))
        outbox.text({"n": 0})
        assert outbox.dropped == 50
        assert [await outbox.get() for _ in range(101)] == [*(bytes([i]) for i in range(100)), '{"n":0}']
        for i in range(513):
            outbox.text({"n": i})
        for i in range(512):
            assert json.loads(await outbox.get()) == {"n": i}
        with pytest.raises(Closed) as caught:
            await outbox.get()
        assert (caught.value.code, caught.value.reason) == (1008, "too_slow")


class TestHearing:
    async def test_a_gap_is_told(self) -> None:
        """Of the user's voice the bot gets all in order; where some was dropped, it is told where it goes on."""
        bot = Host(_Session(), SpeechInput(640, *[lambda *_: None] * 3))  # type: ignore[arg-type]
        bot.text('{"type":"start","format":"pcm16","rate":16000,"hear":true}')
        await bot.outbox.get()  # hello

        def hear(first: int, count: int) -> None:
            for i in range(first, first + count):
                bot.heard(Chunk(160 * i, np.full(160, i / 32767, np.float32), False, 0.0, None, 160))

        async def heard() -> list[int]:
            """The pieces' places, as they were told; each holds its own number."""
            pts, order = -1, []
            for _ in range(100):
                while isinstance(item := await bot.outbox.get(), str):
                    pts = json.loads(item)["pts"]
                assert abs(pts // 160 - int(np.frombuffer(item, "<i2")[0])) <= 1  # rounded
                order.append(pts // 160)
                pts += 160
            return order

        hear(3, 150)
        assert await heard() == list(range(3, 103))
        hear(153, 100)
        assert await heard() == list(range(153, 253))
        assert bot.outbox.dropped == 50


class _Session:
    """As much of one as a bot wants to know."""

    id, epoch, hears_user = "s", 0, False


async def _settled(taken: list[int]) -> None:
    """Returns when nothing was taken for some turns of the loop."""
    quiet, before = 0, -1
    while quiet < 20:
        quiet, before = (quiet + 1 if len(taken) == before else 0), len(taken)
        await asyncio.sleep(0)


START = json.dumps({"type": "start", "format": "pcm16", "rate": 16_000})
OPUS = json.dumps({"type": "start", "format": "opus"})


class TestSegments:
    async def test_many_short_ones_are_spoken(self, client: Client, alone: str) -> None:
        """Each of 1200 segments of 8 samples, sent at once, is told of as it is heard; the socket stays open."""
        url = client.url.replace("http", "ws", 1) + f"/v1/sessions/{alone}/speech"
        async with connect(url) as socket:
            await socket.send(START)
            for _ in range(1200):
                await socket.send(bytes(16))
                await socket.send('{"type":"end"}')
            finished: list[int] = []
            async with asyncio.timeout(20):
                while len(finished) < 20:
                    message = json.loads(await socket.recv())
                    assert message["type"] != "error"
                    finished += [message["segment"]] if message["type"] == "speech_finished" else []
            await socket.send('{"type":"interrupt"}')
            async with asyncio.timeout(20):
                while len(finished) < 1200:
                    message = json.loads(await socket.recv())
                    assert message["type"] != "error"
                    finished += [message["segment"]] if message["type"] == "speech_finished" else []
            assert finished == list(range(1, 1201))

    @pytest.mark.parametrize("count", [0, 1, 8])
    async def test_the_shortest_finish_once(self, client: Client, alone: str, count: int) -> None:
        """A segment of so few samples is told of exactly once, and so is the one after it."""
        async with client.bot(alone, rate=RATE) as bot:
            await bot.send_raw(bytes(2 * count))
            await bot.end()
            await bot.say(spoken(0.1))
            told = [(await until(bot, "speech_finished"))["segment"] for _ in range(2)]
            assert told == [1, 2]

    async def test_a_sample_may_be_cut_in_two(self, client: Client, alone: str) -> None:
        """Speech in messages of odd length is heard whole."""
        data = (32767 * np.clip(spoken(0.5), -1, 1)).astype("<i2").tobytes()
        async with client.bot(alone, rate=RATE) as bot:
            for first in range(0, len(data), 1001):
                await bot.send_raw(data[first : first + 1001])
            await bot.end()
            assert (await until(bot, "speech_finished"))["position_ms"] == 500


class TestBadInput:
    @pytest.mark.parametrize(
        ("sent", "reason", "code"),
        [
            (['{"type":"start","format":"mp3"}'], "unknown_format", 1003),
            (['{"type":"start","format":"pcm16","rate":7999}'], "bad_rate", 1003),
            (['{"type":"start","format":"pcm16","rate":96000}'], "bad_rate", 1003),
            ([b"\0\0"], "not_started", 1008),
            ([OPUS, b"\xff"], "bad_packet", 1007),
            ([OPUS, b""], "bad_packet", 1007),
            ([START, bytes(MAX_MESSAGE + 2)], "too_large", 1009),
            ([START, "AAAAAAAA"], "bad_message", 1007),
            ([START, "[" * 5000], "bad_message", 1007),
            ([START, "7"], "bad_message", 1007),
            ([START, '"' + "x" * 20_000 + '"'], "bad_message", 1007),
            (['{"type":"nothing"}'] * 100, "bad_messages", 1008),
        ],
    )
    async def test_closes_with_a_reason(
        self, client: Client, alone: str, sent: list[str | bytes], reason: str, code: int
    ) -> None:
        """An error that names its reason, a code, and the session as if nothing had been: another bot may speak."""
        socket, last = await _dialogue(client, alone, sent)
        assert (last["type"], last["reason"], socket.close_code) == ("error", reason, code)
        assert last["detail"]
        async with client.bot(alone, rate=RATE) as bot:
            await bot.say(spoken(0.1))
            assert (await until(bot, "speech_finished"))["position_ms"] == 100

    @pytest.mark.parametrize(
        "text",
        [
            '{"type":"nothing"}',
            '{"type":"start"}',
            '{"type":"start","format":"pcm16","rate":"16000"}',
            '{"type":"start","format":"pcm16","rate":16000,"hear":1}',
            '{"type":"attention","state":"asleep"}',
            '{"type":"emotion","name":"bored"}',
            '{"type":"plan","values":{"open":1}}',
        ],
    )
    async def test_goes_on_after_a_wrong_message(self, client: Client, alone: str, text: str) -> None:
        """A message of the right shape that says what cannot be is answered by an error; the socket goes on."""
        async with client.bot(alone, rate=RATE) as bot:
            await bot.send_raw(text)
            assert (await until(bot, "error"))["reason"] == "bad_message"
            await bot.say(spoken(0.1))
            await until(bot, "speech_finished")

    async def test_far_too_large_a_message(self, client: Client, alone: str) -> None:
        """More than a megabyte is not even taken in: the code says so."""
        socket, _ = await _dialogue(client, alone, [START, bytes(2**20 + 1)])
        assert socket.close_code == 1009
        assert (await client.session_state(alone))["state"] == "live"

    async def test_one_bot_a_session(self, client: Client, alone: str) -> None:
        """The second socket is told so; the first goes on."""
        async with client.bot(alone, rate=RATE) as bot:
            with pytest.raises(RequestError) as caught:
                async with client.bot(alone):
                    pass
            assert (caught.value.status, caught.value.reason) == (409, "speech_taken")
            await bot.say(spoken(0.1))
            await until(bot, "speech_finished")

    async def test_no_such_session(self, client: Client, alone: str) -> None:
        await client.end(alone)
        for session_id in ("nothing", alone):
            with pytest.raises(RequestError) as caught:
                async with client.bot(session_id):
                    pass
            assert (caught.value.status, caught.value.reason) == (404, "unknown_session")

    async def test_a_session_that_ends(self, client: Client, alone: str) -> None:
        """Its bot is told why, and its socket closed; what it then says fails with that."""
        async with client.bot(alone, rate=RATE) as bot:
            await bot.say(spoken(2.0))
            await client.end(alone)
            with pytest.raises(SessionLost) as caught:
                async for _ in bot.events():
                    pass
            assert caught.value.reason == "deleted"
            with pytest.raises(SessionLost):
                await bot.say(spoken(0.1))

    async def test_a_microphones_session_takes_no_bot(self, client: Client) -> None:
        async with client.session(size=128) as session:
            with pytest.raises(RequestError) as caught:
                async with client.bot(session.id):
                    pass
        assert (caught.value.status, caught.value.reason) == (409, "voice_is_microphone")

    async def test_unknown_voice(self, client: Client) -> None:
        with pytest.raises(RequestError, match="voice="):
            async with client.session(voice="whistle"):
                pass


async def _dialogue(client: Client, session_id: str, sent: list[str | bytes]) -> tuple[Any, dict[str, Any]]:
    """Sends it all, and returns the socket once the server has closed it, with the last message."""
    url = f"{client.url.replace('http', 'ws', 1)}/v1/sessions/{session_id}/speech"
    last: dict[str, Any] = {}
    async with asyncio.timeout(10), connect(url, proxy=None, max_size=None) as socket:
        try:
            for item in sent:
                await socket.send(item)
        except ConnectionClosed:
            pass
        try:
            async for message in socket:
                last = json.loads(message)
        except ConnectionClosed:
            pass
        await socket.wait_closed()
    return socket, last


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningServer]:
    with RunningServer(token="secret") as server:
        yield server


class TestWhoMayAsk:
    """The socket stands behind the guard of all of `/v1`; what is refused is answered before there is a socket."""

    @pytest.mark.parametrize(
        ("headers", "query", "reason"),
        [
            ({}, "", "unauthorized"),
            ({"Authorization": "Bearer wrong"}, "", "unauthorized"),
            ({}, "?token=wrong", "unauthorized"),
            ({"Authorization": "Bearer secret", "Origin": "http://evil.test"}, "", "bad_origin"),
            ({"Origin": "http://evil.test"}, "?token=secret", "bad_origin"),
        ],
    )
    async def test_not_these(self, guarded: RunningServer, headers: dict[str, str], query: str, reason: str) -> None:
        url = f"{guarded.url.replace('http', 'ws', 1)}/v1/sessions/nothing/speech{query}"
        with pytest.raises(InvalidStatus) as caught:
            await connect(url, proxy=None, additional_headers=headers)
        assert caught.value.response.status_code in (401, 403)
        assert json.loads(bytes(caught.value.response.body))["reason"] == reason

    @pytest.mark.parametrize("query", ["", "?token=secret"])
    async def test_who_has_the_token(self, guarded: RunningServer, query: str, any_load: None) -> None:
        """By header, or, as a browser has to, in the address."""
        async with Client(guarded.url, token="secret") as client:
            opened = await client.open(size=128)
            headers = {} if query else {"Authorization": "Bearer secret"}
            url = f"{guarded.url.replace('http', 'ws', 1)}{opened['speech']}{query}"
            async with connect(url, proxy=None, additional_headers=headers) as socket:
                assert json.loads(await socket.recv())["session"] == opened["id"]
            await client.end(opened["id"])


class TestControl:
    async def test_the_data_channels_messages(self, client: Client, server: RunningServer, alone: str) -> None:
        """Emotion, plan, character, mute and attention are asked and answered here as there."""
        async with client.bot(alone, rate=RATE) as bot:
            await bot.set_emotion("happy", 0.5)
            await bot.set_attention("thinking")
            assert await bot.move({"yaw": 0.2}) > 0
            assert await bot.set_character("7") > 0
            with pytest.raises(ControlFailed, match="unknown_character"):
                await bot.set_character("nobody")
            await bot.mute()
            assert (await client.session_state(alone))["muted"] is True
        state = await client.session_state(alone)
        assert state["character"] == "7"

    async def test_muted_speech_passes_unheard(self, client: Client, server: RunningServer, alone: str) -> None:
        kept = Kept()
        server.call(_outlet(server, alone, kept))
        async with client.bot(alone, rate=RATE) as bot:
            await bot.mute()
            await bot.say(spoken(0.3))
            assert (await until(bot, "speech_finished"))["position_ms"] == 300
        assert not kept.sounds


@dataclass
class Conversation:
    """What came of a session in which a bot spoke and its user, too."""

    frames: list[Frame] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    user: list[np.ndarray] = field(default_factory=list)
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def more(self, count: int) -> None:
        """Waits for as many frames: a busy machine draws few."""
        wanted = len(self.frames) + count
        async with asyncio.timeout(10):
            while len(self.frames) < wanted:
                self.moved.clear()
                await self.moved.wait()


@pytest.fixture(scope="module")
def meter(server: Any) -> MouthMeter:
    return MouthMeter.clearest([server.state.characters.get(str(seed)) for seed in range(1, 7)])


async def converse(client: Client, says: np.ndarray, meter: MouthMeter, replies: Any, **options: Any) -> Conversation:
    """A user who says something, and a bot that does `replies(bot, kept)`; ends when that does."""
    kept = Conversation()
    async with client.session(
        says, linger=math.inf, voice="speech", character=meter.entry.id, frame_queue=50
    ) as session:
        async with client.bot(session.id, rate=RATE, hear=True, **options) as bot:

            async def watch() -> None:
                async for frame in session.frames():
                    kept.frames.append(frame)
                    kept.moved.set()

            async def listen() -> None:
                async for sound in session.audio():
                    kept.sounds.append(sound)

            async def hear() -> None:
                async for samples in bot.user():
                    kept.user.append(samples)

            async def conduct() -> None:
                kept.events = await replies(bot, kept)
                session._end()
                await bot.close()

            async with asyncio.TaskGroup() as group:
                for task in (watch, listen, hear, conduct):
                    group.create_task(task())
    return kept


class TestWithAUser:
    async def test_the_bot_speaks_and_hears(self, client: Client, meter: MouthMeter) -> None:
        """The mouth and the sound are the bot's; the user's voice goes to the bot alone, with its times."""
        says = np.concatenate([silence(0.4), spoken(1.0), silence(4.0)])

        async def replies(bot: Bot, kept: Conversation) -> list[dict[str, Any]]:
            assert bot.hello["user"] is True
            audio = await until(bot, "user_audio")
            began = await until(bot, "user_speech_started")
            ended = await until(bot, "user_speech_ended")
            await bot.say(spoken(1.8))
            started = await until(bot, "speech_started")
            await until(bot, "speech_finished")
            return [audio, began, ended, started]

        kept = await converse(client, says, meter, replies)
        audio, began, ended, started = kept.events
        assert began["pts"] / SAMPLE_RATE == pytest.approx(0.4, abs=0.15)
        assert ended["pts"] / SAMPLE_RATE == pytest.approx(1.4, abs=0.25)
        assert ended["at"] - began["at"] == pytest.approx((ended["pts"] - began["pts"]) / SAMPLE_RATE, abs=0.03)
        heard = np.concatenate(kept.user).repeat(3)
        first = 3 * audio["pts"]
        assert delay(heard[:RATE], says[first : first + RATE])[1] > 0.8
        onset = started["pts"]
        assert min(sound.pts for sound in kept.sounds) >= onset
        returned = place(kept.sounds, onset / SAMPLE_RATE + 1.8)[3 * onset :]
        assert delay(returned, spoken(1.8))[1] > 0.9
        before = [meter(f.image) for f in kept.frames if f.pts < onset]
        during = [meter(f.image) for f in kept.frames if onset + 1600 <= f.pts < onset + 28_800]
        assert max(before) < 0.15 + meter.error
        assert max(during) > max(before) + 0.15

    async def test_barge_in(self, client: Client, meter: MouthMeter) -> None:
        """The user speaks while the bot does: the server cuts it, the mouth shuts, and what the bot still sends of that
        segment is not spoken; what it says afterwards is.
        """
        says = np.concatenate([silence(1.5), spoken(0.6), silence(6.0)])

        async def replies(bot: Bot, kept: Conversation) -> list[dict[str, Any]]:
            for _ in range(4):
                await bot.say(spoken(2.0), end=False)
            began = await until(bot, "user_speech_started")
            cut = await until(bot, "interrupted")
            finished = await until(bot, "speech_finished")
            await bot.say(spoken(2.0))  # the rest, sent before the bot knew
            await until(bot, "user_speech_ended")
            await kept.more(8)
            await bot.say(spoken(1.8))
            started = await until(bot, "speech_started", segment=2)
            await until(bot, "speech_finished", segment=2)
            return [began, cut, finished, started]

        kept = await converse(client, says, meter, replies, barge_in=True)
        _, cut, finished, started = kept.events
        assert (cut["by"], cut["segment"], cut["epoch"]) == ("user", 1, 1)
        assert 500 < cut["position_ms"] < 4000
        assert finished["position_ms"] == cut["position_ms"]
        silent = [s for s in kept.sounds if cut["pts"] + 320 <= s.pts < started["pts"]]  # the first one leads there
        assert max((float(np.abs(s.samples).max()) for s in silent), default=0.0) < 0.05
        shut = [meter(f.image) for f in kept.frames if (cut["frame"] + 3) * 640 <= f.pts < started["pts"]]
        assert len(shut) > 2
        assert max(shut) < 0.15 + meter.error
        assert max(meter(f.image) for f in kept.frames if f.pts >= started["pts"]) > max(shut) + 0.15

    async def test_a_bot_that_decides_itself(self, client: Client, meter: MouthMeter) -> None:
        """Without `barge_in` the user's voice is told and changes nothing."""
        says = np.concatenate([silence(0.7), spoken(0.4), silence(6.0)])

        async def replies(bot: Bot, kept: Conversation) -> list[dict[str, Any]]:
            await bot.say(spoken(2.0))
            await until(bot, "user_speech_started")
            return [await until(bot, "speech_finished")]

        kept = await converse(client, says, meter, replies)
        assert kept.events[0]["interrupted"] is False
        assert kept.events[0]["position_ms"] == 2000
