"""WHIP in and WHEP out over HTTP: the transcripts, places for viewers, and who sees what when it ends."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import RunningServer
from peers import SDP, MouthMeter, bare_peer, located, offer_of, spoken, tone

from benchmarks.lib.whip_peer import Microphone, Player
from streamer.server.routes.whip import WHEP_RELATION

VECTORS = json.loads((Path(__file__).parent.parent / "clients" / "vectors" / "whip.json").read_text())
_OPAQUE = {"session": "[^/]+", "viewer": "[^/]+", "etag": '"[^"]+"'}

pytestmark = pytest.mark.usefixtures("leaves_nothing", "any_load")


@pytest.fixture
async def http(server: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
        yield client


def body_of(name: str) -> str:
    return "".join(f"{line}\r\n" for line in VECTORS["bodies"][name])


class TestTranscripts:
    @pytest.mark.parametrize("transcript", VECTORS["transcripts"], ids=lambda t: t["why"])
    async def test_server_answers_as_written(self, http: httpx.AsyncClient, transcript: dict[str, Any]) -> None:
        """Each request of a sequence gets the status, the headers and the SDP that the transcript has."""
        known: dict[str, str] = {}

        def filled(text: str) -> str:
            return re.sub(r"\{(\w+)\}", lambda found: known[found[1]], text)

        def read(template: str, value: str) -> None:
            """Matches a header, and learns what it says of names that are not known yet."""
            within = template.startswith("*")
            parts = re.split(r"\{(\w+)\}", template.removeprefix("*"))
            pattern, seen = "", set()
            for i, part in enumerate(parts):
                if i % 2 == 0:
                    pattern += re.escape(part)
                elif part in known or part in seen:
                    pattern += re.escape(known[part]) if part in known else f"(?P={part})"
                else:
                    pattern += f"(?P<{part}>{_OPAQUE[part]})"
                    seen.add(part)
            found = (re.search if within else re.fullmatch)(pattern, value)
            assert found, f"{value!r} is not {template!r}"
            known.update(found.groupdict())

        for exchange in transcript["exchanges"]:
            method, path = exchange["request"].split()
            headers = {name: filled(value) for name, value in exchange.get("headers", {}).items()}
            content = body_of(exchange["body"]) if "body" in exchange else None
            answer = await http.request(method, filled(path), headers=headers, content=content)
            code = int(exchange["status"].split()[0])
            assert answer.status_code == code, f"{exchange['request']}: {answer.text}"
            if code == 201:
                for name in ("etag", "viewer") if method == "POST" else ():
                    known.pop(name, None)
            if code == 204:
                assert answer.content == b""
                assert "etag" not in answer.headers
            expected = exchange.get("expect", {})
            for name in sorted(expected, key=lambda name: name != "Location"):
                read(expected[name], answer.headers[name])
            lines, at = answer.text.split("\r\n"), 0
            for start in exchange.get("lines", []):
                at = next((i for i, line in enumerate(lines) if line.startswith(start)), -1)
                assert at >= 0, f"{start} is not in\n{answer.text}"
            for start in exchange.get("absent", []):
                assert not any(line.startswith(start) for line in lines), f"{start} is in\n{answer.text}"
            if "reason" in exchange:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["reason"] == exchange["reason"]

    def test_sections_are_answered_in_order(self) -> None:
        """The vectors themselves: every body that is SDP has its sections' names in its group, if it has one."""
        for name, lines in VECTORS["bodies"].items():
            group = next((line.split()[1:] for line in lines if line.startswith("a=group:BUNDLE")), None)
            if group is not None and lines[0] == "v=0":
                assert [line[6:] for line in lines if line.startswith("a=mid:")] == group, name


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningServer]:
    """A server with a token and ICE servers."""
    turn = {"urls": ["turn:turn.example:3478"], "username": "u", "credential": "c"}
    with RunningServer(token="sesame", ice_servers=({"urls": ["stun:stun.example"]}, turn)) as running:
        yield running


class TestGuard:
    async def test_bearer_token_and_ice_servers(self, guarded: RunningServer) -> None:
        """Both endpoints want the token; with it they hand out the ICE servers, once each, beside their own links."""
        async with httpx.AsyncClient(base_url=guarded.url, trust_env=False) as http:
            for path in ("/v1/whip", "/v1/sessions/x/whep"):
                refused = await http.post(path, content=body_of("microphone"), headers=SDP)
                assert (refused.status_code, refused.json()["reason"]) == (401, "unauthorized")
            http.headers["Authorization"] = "Bearer sesame"
            made = await http.post("/v1/whip", content=body_of("microphone"), headers=SDP)
            location = located(made)
            try:
                whep = location.replace("/v1/whip/", "/v1/sessions/") + "/whep"
                links = made.headers["link"].split(", ")
                assert links[0] == '<stun:stun.example>; rel="ice-server"'
                assert links[1].startswith('<turn:turn.example:3478>; rel="ice-server"; username="u"; credential="c"')
                assert links[2:] == [f'<sessions/{location.rpartition("/")[2]}/whep>; rel="{WHEP_RELATION}"']
                viewer = await http.post(whep, content=body_of("player"), headers=SDP)
                assert viewer.headers["link"].split(", ") == links[:2]
                asked = await http.options("/v1/whip")
                assert asked.headers["link"].split(", ") == links[:2]
            finally:
                assert (await http.delete(location)).status_code == 200

    async def test_other_sessions_are_no_sources(self, http: httpx.AsyncClient) -> None:
        """A session that was not made over WHIP is none of WHIP's resources, but can be viewed."""
        peer = bare_peer()
        made = await http.post("/v1/sessions", content=await offer_of(peer), headers=SDP)
        location = located(made)
        try:
            source = location.replace("/v1/sessions/", "/v1/whip/")
            for answer in (await http.get(source), await http.delete(source)):
                assert (answer.status_code, answer.json()["reason"]) == (404, "unknown_session")
            assert (await http.post(location + "/whep", content=body_of("player"), headers=SDP)).status_code == 201
        finally:
            await http.delete(location)
            await peer.close()


class TestPlaces:
    async def test_viewers_are_bounded(self, server: Any, http: httpx.AsyncClient) -> None:
        """Beyond the most viewers of a session it is 503 with a time to come back; who leaves makes room."""
        object.__setattr__(server.config, "max_viewers", 2)
        location = located(await http.post("/v1/whip", content=body_of("microphone"), headers=SDP))
        session = location.replace("/v1/whip/", "/v1/sessions/")
        try:
            offers = [http.post(session + "/whep", content=body_of("player"), headers=SDP) for _ in range(5)]
            answers = await asyncio.gather(*offers)  # at one moment: those being let in count too
            assert sorted(answer.status_code for answer in answers) == [201, 201, 503, 503, 503]
            full = next(answer for answer in answers if answer.status_code == 503)
            assert full.json()["reason"] == "too_many_viewers"
            assert "2 of 2" in full.json()["detail"]
            assert int(full.headers["retry-after"]) > 0
            viewers = (await http.get(session)).json()["viewers"]
            assert [(v["state"], v["codec"], v["audio"]) for v in viewers] == [("connecting", "H264", True)] * 2
            gone = next(answer for answer in answers if answer.status_code == 201)
            assert (await http.delete(located(gone))).status_code == 200
            assert len((await http.get(session)).json()["viewers"]) == 1
            assert (await http.post(session + "/whep", content=body_of("screen"), headers=SDP)).status_code == 201
        finally:
            object.__setattr__(server.config, "max_viewers", 16)
            await http.delete(location)

    async def test_closing_session(self, server: Any, http: httpx.AsyncClient) -> None:
        """A session that is about to end takes nobody in any more: 409."""
        location = located(await http.post("/v1/whip", content=body_of("microphone"), headers=SDP))
        session = server.state.sessions[location.rpartition("/")[2]]
        server.call(session.audience.close())
        try:
            answer = await http.post(f"/v1/sessions/{session.id}/whep", content=body_of("player"), headers=SDP)
            assert (answer.status_code, answer.json()["reason"]) == (409, "session_ended")
        finally:
            await http.delete(location)

    async def test_failing_offer_takes_no_place(self, server: Any, http: httpx.AsyncClient) -> None:
        """An offer that is refused after its place was reserved gives the place back."""
        location = located(await http.post("/v1/whip", content=body_of("microphone"), headers=SDP))
        session = server.state.sessions[location.rpartition("/")[2]]
        try:
            for _ in range(3):
                await http.post(f"/v1/sessions/{session.id}/whep", content=body_of("other codec"), headers=SDP)
            assert (len(session.audience), session.audience._opening) == (0, 0)
        finally:
            await http.delete(location)


class TestLive:
    async def test_voice_in_by_whip_picture_and_sound_out_by_whep(self, server: Any) -> None:
        """What a WHIP microphone says moves the mouth that two WHEP players see, in a codec each, and hear."""
        meter = MouthMeter.clearest([server.state.characters.get(str(seed)) for seed in range(1, 7)])
        async with Microphone(server.url, spoken(2.0), character=meter.entry.id) as microphone:
            async with (
                Player(server.url, microphone.id, codec="VP8") as one,
                Player(server.url, microphone.id, codec="H264") as other,
            ):
                for player in (one, other):
                    await player.until(frames=60, seconds=1.0)
                state = await microphone.state()
            assert {v["codec"] for v in state["viewers"]} == {"VP8", "H264"}
            for viewer in state["viewers"]:
                assert viewer["state"] == "live"
                assert viewer["frames"]["sent"] >= 60
                assert viewer["bitrate"]["sent"] > 0
                assert viewer["latency_ms"]["answer_p95"] >= viewer["latency_ms"]["answer_p50"] > 0
                assert viewer["latency_ms"]["server_p50"] is not None
            for player in (one, other):
                opening = [meter(picture) for picture in player.pictures]
                assert max(opening) > 0.3 > meter.error
                assert min(opening) < 0.15 + meter.error
                assert np.sqrt(np.mean(np.square(player.sound))) > 0.01
            assert one.offsets.isdisjoint(other.offsets)

    async def test_late_player(self, server: Any) -> None:
        """A player that comes when the session has run for a while sees a whole picture with its first frame."""
        async with Microphone(server.url, tone(1.0), size=128) as microphone:
            async with Player(server.url, microphone.id, codec="H264") as first:
                await first.until(frames=30)
                before = server.state.sessions[microphone.id]._broadcast.keyframes
                async with Player(server.url, microphone.id, codec="H264") as late:
                    await late.until(frames=10)
                    after = server.state.sessions[microphone.id]._broadcast.keyframes
                    assert after > before
                    assert np.abs(late.pictures[3].astype(int) - first.pictures[-1]).mean() < 30

    async def test_audio_and_video_alone(self, server: Any) -> None:
        """A player of sound alone hears, and no encoder runs for it; one of video alone sees."""
        async with Microphone(server.url, tone(1.0), size=128) as microphone:
            async with Player(server.url, microphone.id, video=False) as listener:
                await listener.until(seconds=0.5)
                session = server.state.sessions[microphone.id]
                assert session._broadcast._channels == {}
                async with Player(server.url, microphone.id, audio=False) as watcher:
                    await watcher.until(frames=10)
                    assert len(session._broadcast._channels) == 1

    async def test_session_ends_for_all(self, server: Any) -> None:
        """When the microphone leaves, its players' connections are closed at once, and nothing of them is left."""
        async with Microphone(server.url, tone(1.0), size=128) as microphone:
            async with Player(server.url, microphone.id) as player:
                await player.until(frames=5)
                await microphone.leave()
                async with asyncio.timeout(5):
                    await player.ended.wait()
        assert microphone.id not in server.state.sessions

    async def test_player_without_a_word(self, server: Any) -> None:
        """A player that closes its connection without DELETE frees its place; the session goes on."""
        async with Microphone(server.url, tone(1.0), size=128) as microphone:
            async with Player(server.url, microphone.id) as stays:
                async with Player(server.url, microphone.id) as goes:
                    await goes.until(frames=5)
                    assert len((await microphone.state())["viewers"]) == 2
                    await goes.connection.close()
                    async with asyncio.timeout(10):
                        while len((await microphone.state())["viewers"]) > 1:
                            await stays.until(frames=len(stays.pictures) + 1)

    async def test_players_that_vanish(self, impatient: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that never connects and one whose packets cease are removed after the time-outs; the rest stays."""
        async with Microphone(impatient.url, tone(1.0), size=128) as microphone:
            async with Player(impatient.url, microphone.id) as stays, Player(impatient.url, microphone.id) as silent:
                await silent.until(frames=5)
                async with httpx.AsyncClient(base_url=impatient.url, trust_env=False) as http:
                    whep = f"/v1/sessions/{microphone.id}/whep"
                    assert (await http.post(whep, content=body_of("player"), headers=SDP)).status_code == 201
                assert len((await microphone.state())["viewers"]) == 3
                silent.cut(monkeypatch)
                async with asyncio.timeout(15):
                    while len((await microphone.state())["viewers"]) > 1:
                        await stays.until(frames=len(stays.pictures) + 5)
                assert (await microphone.state())["state"] == "live"


@pytest.fixture(scope="module")
def impatient() -> Iterator[RunningServer]:
    """A server that waits a second for whom it does not hear."""
    with RunningServer(connect_timeout=1.5, silence_timeout=1.5) as running:
        yield running
