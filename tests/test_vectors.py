"""The protocol's golden vectors (clients/vectors), against the server's readers and against the web client's."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from streamer.base.errors import RequestError
from streamer.media.frame_stamp import read, stamp
from streamer.rtc.negotiation import parse_fragment
from streamer.session import messages
from streamer.session.messages import BadMessage

CLIENTS = Path(__file__).parent.parent / "clients"
TYPES = {
    "ping": messages.Ping,
    "interrupt": messages.Interrupt,
    "mute": messages.Mute,
    "character": messages.SetCharacter,
}
TYPES |= {
    "emotion": messages.SetEmotion,
    "playout": messages.Playout,
    "plan": messages.MotionCommand,
    "attention": messages.Attend,
}
SPOKEN = {"start": messages.Start, "end": messages.End}
TYPES |= {"gesture": messages.Gesture, "away": messages.SetAway}


def vectors(name: str) -> dict[str, Any]:
    return json.loads((CLIENTS / "vectors" / f"{name}.json").read_text())


CLIENT, SERVER, RTP = vectors("client_messages"), vectors("server_messages"), vectors("rtp")
SPEECH = vectors("speech_messages")
STAMP, FRAGMENTS, REQUESTS = vectors("stamp"), vectors("fragments"), vectors("requests")


def lines(fragment: list[str]) -> str:
    return "".join(f"{line}\r\n" for line in fragment)


def strip(bits: str, size: int = 256) -> np.ndarray:
    """[S, S] uint8 luma with a stamp strip of these bits, as a decoder gives it."""
    luma = np.full((size, size), 90, np.uint8)
    cell = size // 32
    luma[size - 2 * cell :] = np.repeat([235 if bit == "1" else 16 for bit in bits], cell)
    return luma


class TestServer:
    @pytest.mark.parametrize("vector", CLIENT["valid"], ids=lambda v: v["text"][:40])
    def test_takes_what_a_client_may_say(self, vector: dict[str, Any]) -> None:
        """Each valid text parses to what the vectors say it means, its defaults filled in."""
        request = messages.parse(vector["text"])
        means = dict(vector["means"])
        assert type(request) is TYPES[means.pop("type")]
        assert asdict(request) == means

    @pytest.mark.parametrize("vector", CLIENT["invalid"], ids=lambda v: v["why"])
    def test_refuses_what_a_client_may_not_say(self, vector: dict[str, str]) -> None:
        """Each invalid text is a BadMessage, never another exception."""
        with pytest.raises(BadMessage):
            messages.parse(vector["text"])

    @pytest.mark.parametrize("vector", CLIENT["large"], ids=lambda v: v["why"])
    def test_refuses_large_messages(self, vector: dict[str, Any]) -> None:
        """What is too long or nested too deep is a BadMessage."""
        before, filler, count, after = vector["parts"]
        with pytest.raises(BadMessage):
            messages.parse(before + filler * count + after)

    @pytest.mark.parametrize("vector", CLIENT["binary"], ids=lambda v: v["why"])
    def test_refuses_binary_messages(self, vector: dict[str, str]) -> None:
        """Binary is refused even where its bytes would spell a message."""
        with pytest.raises(BadMessage):
            messages.parse(bytes.fromhex(vector["hex"]))

    @pytest.mark.parametrize("vector", CLIENT["builds"], ids=lambda v: str(v["call"]))
    def test_takes_what_the_web_client_builds(self, vector: dict[str, Any]) -> None:
        """What the web client sends is what the server reads."""
        request = asdict(messages.parse(json.dumps(vector["message"])))
        said = {name: value for name, value in vector["message"].items() if name != "type"}
        assert said == {name: request[name] for name in said}

    @pytest.mark.parametrize("vector", SPEECH["valid"], ids=lambda v: v["text"][:40])
    def test_takes_what_a_bot_may_say(self, vector: dict[str, Any]) -> None:
        """Each valid text of the speech socket parses to what the vectors say it means."""
        request = messages.parse_speech(vector["text"])
        means = dict(vector["means"])
        assert type(request) is (TYPES | SPOKEN)[means.pop("type")]
        assert asdict(request) == means

    @pytest.mark.parametrize("vector", SPEECH["invalid"] + SPEECH["unreadable"], ids=lambda v: v["text"][:40])
    def test_refuses_what_a_bot_may_not_say(self, vector: dict[str, str]) -> None:
        """What is no message at all is told from one that is wrong."""
        with pytest.raises(BadMessage) as caught:
            messages.parse_speech(vector["text"])
        assert isinstance(caught.value, messages.Unreadable) == (vector in SPEECH["unreadable"])

    @pytest.mark.parametrize("vector", STAMP["vectors"], ids=lambda v: str(v["frame"]))
    def test_stamps_and_reads_frames(self, vector: dict[str, Any]) -> None:
        """The strip drawn for a frame shows the vector's bits, and the bits read as the frame."""
        image = np.full((256, 256, 4), 90, np.uint8)
        stamp(image, vector["frame"])
        drawn = "".join("1" if value > 127 else "0" for value in image[-4, 4::8, 0])
        assert drawn == vector["bits"]
        assert read(strip(vector["bits"])) == vector["frame"]

    @pytest.mark.parametrize("vector", STAMP["wrapped"], ids=lambda v: str(v["index"]))
    def test_stamps_the_low_24_bits(self, vector: dict[str, Any]) -> None:
        """Frame indices beyond 24 bits are stamped modulo 2^24."""
        image = np.zeros((256, 256, 4), np.uint8)
        stamp(image, vector["index"])
        assert "".join("1" if value > 127 else "0" for value in image[-4, 4::8, 0]) == vector["bits"]

    @pytest.mark.parametrize("vector", STAMP["misread"], ids=lambda v: v["bits"])
    def test_tells_a_misread_stamp(self, vector: dict[str, Any]) -> None:
        """One wrong bit is noticed."""
        assert read(strip(vector["bits"])) is None

    @pytest.mark.parametrize("vector", [v for v in RTP["vectors"] if v["frame"] is not None], ids=str)
    def test_rtp_vectors_follow_the_formula(self, vector: dict[str, int]) -> None:
        """A frame's timestamp is (offset + 3600 k) mod 2^32."""
        assert (vector["offset"] + 3600 * vector["frame"]) % 2**32 == vector["rtp"]

    @pytest.mark.parametrize("vector", FRAGMENTS["read"], ids=lambda v: f"{len(v['candidates'])} candidates")
    def test_reads_trickled_fragments(self, vector: dict[str, Any]) -> None:
        """A fragment gives its candidates with the section that each belongs to."""
        candidates = parse_fragment(lines(vector["fragment"]), FRAGMENTS["ufrag"])
        assert [list(pair) for pair in candidates] == vector["candidates"]

    @pytest.mark.parametrize("vector", FRAGMENTS["invalid"], ids=lambda v: v["why"])
    def test_refuses_bad_fragments(self, vector: dict[str, Any]) -> None:
        """A bad fragment is refused with the vector's status and reason."""
        with pytest.raises(RequestError) as caught:
            parse_fragment(lines(vector["fragment"]), FRAGMENTS["ufrag"])
        assert (caught.value.status, caught.value.reason) == (vector["status"], vector["reason"])

    @pytest.mark.parametrize("vector", REQUESTS["vectors"], ids=lambda v: f"{v['method']} {v['path']} {v['reason']}")
    def test_answers_refusals_with_a_problem(self, server: Any, vector: dict[str, Any]) -> None:
        """A refused request gets the vector's status, and a problem with its reason and a sentence."""
        answer = httpx.request(
            vector["method"],
            server.url.rstrip("/") + vector["path"],
            headers=vector.get("headers"),
            content=vector.get("body"),
            timeout=10,
        )
        assert answer.headers["content-type"].startswith("application/problem+json")
        problem = answer.json()
        assert (answer.status_code, problem["reason"]) == (vector["status"], vector["reason"]), problem
        assert problem["status"] == vector["status"]
        assert problem["type"] == "about:blank"
        assert problem["title"]
        assert problem["detail"]


@pytest.mark.browser
class TestWebClient:
    """The pure functions of lip-stream.js, run in Chromium. One page serves all: a browser takes a second to start."""

    @pytest.fixture
    def page(self, browser: Any) -> Any:
        page = browser.new_page()
        bodies = {"/": ("<!doctype html>", "text/html")}
        for path in (CLIENTS / "element").glob("*.js"):
            bodies[f"/{path.name}"] = (path.read_text(), "text/javascript")

        def serve(route: Any) -> None:
            body, kind = bodies.get(urlsplit(route.request.url).path, ("", "text/plain"))
            route.fulfill(body=body, content_type=kind)

        page.route("http://vectors.test/**", serve)
        page.goto("http://vectors.test/")
        page.evaluate("import('/lip-stream.js').then((module) => { globalThis.client = module; })")
        return page

    def test_agrees_with_every_vector(self, page: Any) -> None:
        """Messages, RTP timestamps, stamps and fragments: what the web client makes of them is what the vectors say."""
        outcomes = page.evaluate(
            """({ CLIENT, SERVER, RTP, STAMP, FRAGMENTS }) => {
              const tried = (act) => {
                try { return { value: act() }; } catch (error) { return { error: error.name }; }
              };
              const read = (text) => tried(() => client.readMessage(text));
              const call = ([name, ...rest]) => tried(() => client.commands[name](...rest));
              const cells = (bits) => [...bits].map((bit) => (bit === "1" ? 235 : 16));
              return {
                built: CLIENT.builds.map((v) => call(v.call)),
                refused: CLIENT.refuses.map((v) => call(v.call)),
                valid: SERVER.valid.map((v) => read(JSON.stringify(v.message))),
                ignored: SERVER.ignored.map((v) => read(JSON.stringify(v.message))),
                invalid: SERVER.invalid.map((v) => read(JSON.stringify(v.message))),
                invalidText: SERVER.invalid_text.map((v) => read(v.text)),
                binary: read(new ArrayBuffer(2)),
                rtp: RTP.vectors.map((v) => client.frameOfRtp(v.rtp, v.offset, v.near)),
                stamped: STAMP.vectors.map((v) => client.stampedFrame(cells(v.bits))),
                drawn: STAMP.vectors.map((v) => client.stampBits(v.frame).join("")),
                wrapped: STAMP.wrapped.map((v) => client.stampBits(v.index).join("")),
                misread: STAMP.misread.map((v) => client.stampedFrame(cells(v.bits))),
                made: FRAGMENTS.made.map((v) =>
                  client.trickleFragment(FRAGMENTS.sdp.join("\\r\\n") + "\\r\\n", v.candidates, v.complete)),
              };
            }""",
            {"CLIENT": CLIENT, "SERVER": SERVER, "RTP": RTP, "STAMP": STAMP, "FRAGMENTS": FRAGMENTS},
        )
        refused = {"error": "TypeError"}
        assert outcomes["built"] == [{"value": v["message"]} for v in CLIENT["builds"]]
        assert outcomes["refused"] == [refused] * len(CLIENT["refuses"])
        assert outcomes["valid"] == [{"value": v["message"]} for v in SERVER["valid"]]
        assert outcomes["ignored"] == [{"value": None}] * len(SERVER["ignored"])
        assert outcomes["invalid"] == [refused] * len(SERVER["invalid"])
        assert outcomes["invalidText"] == [refused] * len(SERVER["invalid_text"])
        assert outcomes["binary"] == refused
        assert outcomes["rtp"] == [v["frame"] for v in RTP["vectors"]]
        assert outcomes["stamped"] == [v["frame"] for v in STAMP["vectors"]]
        assert outcomes["drawn"] == [v["bits"] for v in STAMP["vectors"]]
        assert outcomes["wrapped"] == [v["bits"] for v in STAMP["wrapped"]]
        assert outcomes["misread"] == [None] * len(STAMP["misread"])
        assert outcomes["made"] == [lines(v["fragment"]) for v in FRAGMENTS["made"]]

    def test_joins_frames_with_the_servers_rows(self, page: Any) -> None:
        """A frame's stages add up to its latency, whichever half of it comes first, over the clock of the best ping."""
        log = page.evaluate(
            """() => {
              const clock = new client.Clock();
              clock.add(100, 130, 5120);       // 30 ms there and back: 5 ms off
              clock.add(200, 202, 5201);       // 2 ms: believed
              clock.add(300, 340, 5330);
              const log = new client.FrameLog(4);
              const seen = (k) => log.seen({ k, device: 10, captured: null, receiveTime: 40 * k + 90,
                presentationTime: 40 * k + 95 }, clock);
              const row = (k) => [k, 0, ...[0, 62, 63, 70, 72, 73].map((ms) => 5000 + 40 * k + ms)];
              seen(0);
              log.rows([row(0), row(1)], clock);
              seen(1);
              seen(2); // its row never comes
              const records = log.records;
              const { frames, total, stages, fps } = log.summary(10, 200, 40);
              for (let k = 3; k < 9; k++) seen(k);
              return {
                offset: clock.offset, rtt: clock.rtt, captured: records.map((r) => r.captured),
                frames, total, stages, fps, kept: log.records.map((r) => r.k),
              };
            }"""
        )
        assert (log["offset"], log["rtt"]) == (5000, 2)
        assert log["captured"] == [0, 40, None]
        assert log["frames"] == 2
        assert log["fps"] == 25
        assert log["total"]["p50"] == pytest.approx(105)
        expected = dict(device=10, uplink=22, lookahead=40, wait=1, draw=7, encode=2, send=1, network=17, display=5)
        assert {name: stage["p50"] for name, stage in log["stages"].items()} == pytest.approx(expected)
        assert sum(expected.values()) == 105
        assert log["kept"] == [5, 6, 7, 8], "the oldest make room"
