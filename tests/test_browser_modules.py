"""The browser's modules: who imports whom, that each can be imported alone, and what the parts of the element do."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CLIENTS = Path(__file__).parent.parent / "clients"
SCRIPTS = sorted(path for folder in ("element", "page", "obs") for path in (CLIENTS / folder).glob("*.js"))
TEXTS = [path for kind in ("js", "ts", "css", "html") for path in sorted(CLIENTS.rglob(f"*.{kind}"))]

# Modules of a layer import only those of the layers before it. The first layer imports nothing.
ELEMENT_LAYERS = [
    {"alpha-canvas", "attributes", "clock", "errors", "frame-log", "promises", "protocol", "receive-stats"},
    {"audio-input", "connection", "pending-requests", "server-api", "view"},
    {"session-control"},
    {"element"},
    {"lip-stream"},
]
ENTRIES = {"page/app.js": "page/index.html", "obs/obs.js": "obs/index.html"}


def name(path: Path) -> str:
    return path.relative_to(CLIENTS).as_posix()


def imports(path: Path) -> set[str]:
    """The modules that a module imports, as paths below clients/."""
    code = re.sub(r"/\*.*?\*/|^\s*//[^\n]*", "", path.read_text(), flags=re.S | re.M)
    found = re.findall(r'^(?:import|export) (?:\{[^}]*\} from )?"([^"]+)";', code, re.M)
    assert len(found) == code.count(' from "') + len(re.findall(r'^import "', code, re.M)), name(path)
    return {(path.parent / one).resolve().relative_to(CLIENTS).as_posix() for one in found}


GRAPH = {name(path): imports(path) for path in SCRIPTS}


def reached(entry: str) -> set[str]:
    """All modules that a module imports, directly or not."""
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        for one in GRAPH[waiting.pop()] - found:
            found.add(one)
            waiting.append(one)
    return found


class TestArchitecture:
    def test_the_elements_imports_have_one_direction(self) -> None:
        """Each module of the element has a layer, and imports from the layers before it alone."""
        layer_of = {f"element/{one}.js": i for i, layer in enumerate(ELEMENT_LAYERS) for one in layer}
        assert layer_of.keys() == {one for one in GRAPH if one.startswith("element/")}
        wrong = [
            f"{module} imports {one}"
            for module, layer in layer_of.items()
            for one in GRAPH[module]
            if layer_of.get(one, layer) >= layer
        ]
        assert not wrong, wrong

    def test_pages_know_the_elements_public_interface_only(self) -> None:
        """Page and OBS page import the element through lip-stream.js, and neither imports the other."""
        for module, found in GRAPH.items():
            folder = module.partition("/")[0]
            outside = {one for one in found if not one.startswith(f"{folder}/")}
            assert outside <= ({"element/lip-stream.js"} if folder != "element" else set()), module

    def test_no_circles(self) -> None:
        """No module imports itself by way of others."""
        assert [module for module in GRAPH if module in reached(module)] == []

    def test_no_file_is_long(self) -> None:
        """Scripts, style sheets and pages have at most 500 lines each."""
        long = {name(path): count for path in TEXTS if (count := len(path.read_text().splitlines())) > 500}
        assert not long, long

    @pytest.mark.parametrize("entry", ENTRIES)
    def test_a_page_preloads_what_it_imports(self, entry: str) -> None:
        """A page names all of its modules, so that a browser loads them at once and not level by level."""
        html = (CLIENTS / ENTRIES[entry]).read_text()
        preloaded = re.findall(r'<link rel="modulepreload" href="([^"]+)"', html)
        assert len(preloaded) == len(set(preloaded))
        assert set(preloaded) == reached(entry)

    def test_pages_name_no_absolute_address(self) -> None:
        """Pages, style sheets and scripts load nothing from elsewhere or from the site's root: they work offline and
        below any path."""
        for path in TEXTS:
            text = re.sub(r"http://(?:www\.w3\.org|127\.0\.0\.1:8080)/", "", path.read_text())
            assert not re.search(r"https?://\w|url\(", text), name(path)
            assert not re.search(r'(?:href|src|action)="/|(?:(?<!\.)fetch|import|URL)\("/', text), name(path)

    def test_every_style_sheet_is_linked_once(self) -> None:
        """The page links each of its style sheets; those that override others come after them."""
        html = (CLIENTS / "page" / "index.html").read_text()
        linked = re.findall(r'<link rel="stylesheet" href="([^"]+)"', html)
        assert sorted(linked) == sorted(name(path) for path in (CLIENTS / "page").rglob("*.css"))
        assert linked[0] == "page/css/base.css"
        assert linked.index("page/css/responsive.css") > linked.index("page/css/dialogs.css")


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """A page without a server, which may import all of clients/."""
    page = browser.new_page()
    kinds = {".js": "text/javascript", ".html": "text/html"}
    answer = "import(data).then((module) => Object.keys(module).sort().join(), String).then(postMessage)"

    def serve(route: Any) -> None:
        path = urlsplit(route.request.url).path.lstrip("/")
        if path == "importer.js":
            route.fulfill(body=f"onmessage = ({{ data }}) => {answer};", content_type="text/javascript")
        elif path == "":
            route.fulfill(body="<!doctype html><p id=x></p>", content_type="text/html")
        elif (file := CLIENTS / path).is_file():
            route.fulfill(body=file.read_text(), content_type=kinds.get(file.suffix, "text/plain"))
        else:
            route.fulfill(status=404)

    page.context.route("http://modules.test/**", serve)
    page.goto("http://modules.test/")
    yield page
    page.close()


@pytest.mark.browser
class TestModules:
    """Modules in Chromium."""

    @pytest.mark.parametrize("module", [one for one in GRAPH if one not in ENTRIES])
    def test_imports_alone(self, page: Any, module: str) -> None:
        """A module needs no other to be loaded first, and no document: it is imported in a worker of its own."""
        found = page.evaluate(
            """(module) => new Promise((resolve) => {
              const worker = new Worker("/importer.js", { type: "module" });
              worker.onmessage = ({ data }) => resolve(data);
              worker.onerror = (event) => resolve(`error: ${event.message}`);
              worker.postMessage(module);
            })""",
            f"/{module}",
        )
        code = (CLIENTS / module).read_text()
        declared = re.findall(r"^export (?:async )?(?:const|function|class) ([\w$]+)", code, re.M)
        if module == "element/lip-stream.js":
            types = (CLIENTS / "element" / "lip-stream.d.ts").read_text()
            declared = re.findall(r"^export (?:const|function|class) (\w+)", types, re.M)
        assert found == ",".join(sorted(declared))

    def test_the_types_are_true(self, page: Any) -> None:
        """The public members that lip-stream.d.ts declares are those that each class has."""
        types = (CLIENTS / "element" / "lip-stream.d.ts").read_text()
        bodies = dict(re.findall(r"^export class (\w+)[^{]*\{\n(.*?)^\}", types, re.M | re.S))
        has = page.evaluate(
            """async (names) => {
              const module = await import("/element/lip-stream.js");
              const made = {
                Clock: () => new module.Clock(), FrameLog: () => new module.FrameLog(),
                LipStream: () => document.createElement("lip-stream"),
                LipStreamError: () => new module.LipStreamError("x"),
                AlphaCanvas: () => new module.AlphaCanvas(document.createElement("canvas")),
              };
              const members = (name) => {
                const one = made[name]();
                const found = new Set(Object.keys(one));
                for (let at = Object.getPrototypeOf(one); at.constructor.name !== "HTMLElement"
                     && at !== Error.prototype && at !== Object.prototype; at = Object.getPrototypeOf(at))
                  for (const key of Object.getOwnPropertyNames(at)) found.add(key);
                return [...found].filter((key) => !/^constructor$|Callback$|^name$|^stack$|^message$/.test(key)).sort();
              };
              return Object.fromEntries(names.map((name) => [name, members(name)]));
            }""",
            list(bodies),
        )
        inherited = {"addEventListener", "constructor"}
        for kind, body in bodies.items():
            told = set(re.findall(r"^  (?:readonly )?(\w+)[?(<:]", body, re.M)) - inherited
            assert set(has[kind]) == told, kind

    def test_answers_find_their_requests(self, page: Any) -> None:
        """An answer settles the oldest request of its type, an error the oldest of all; others are nobody's."""
        outcome = page.evaluate(
            """async () => {
              const { PendingRequests } = await import("/element/pending-requests.js");
              const pending = new PendingRequests(60000);
              const told = [];
              const add = (id, type) =>
                pending.add(type).then((answer) => told.push([id, answer.n]), (error) => told.push([id, error.reason]));
              for (const [id, type] of [["a", "muted"], ["b", "away"], ["c", "away"], ["d", "muted"]]) add(id, type);
              const settled = [
                { type: "away", n: 1 }, { type: "vad", n: 2 }, { type: "error", reason: "overtaken" },
                { type: "away", n: 3 }, { type: "away", n: 4 },
              ].map((message) => pending.settle(message));
              pending.rejectAll(Object.assign(new Error(), { reason: "network_lost" }));
              await new Promise((resolve) => setTimeout(resolve));
              const quick = await new PendingRequests(1).add("pong").catch((error) => [error.reason, error.message]);
              return { settled, told, quick };
            }"""
        )
        assert outcome["settled"] == [True, False, True, True, False]
        assert outcome["told"] == [["b", 1], ["a", "overtaken"], ["c", 3], ["d", "network_lost"]]
        assert outcome["quick"] == ["no_answer", "The server did not answer within 0.001 s."]

    def test_statistics_of_any_browser(self, page: Any) -> None:
        """Counters become differences between two reports; what a browser does not report is NaN, never 0."""
        outcome = page.evaluate(
            """async () => {
              const { ReceiveStats } = await import("/element/receive-stats.js");
              const stats = new ReceiveStats();
              const audio = (delay, count) =>
                ({ type: "inbound-rtp", kind: "audio", jitterBufferDelay: delay, jitterBufferEmittedCount: count });
              const out = (delay, count) =>
                ({ type: "media-playout", totalPlayoutDelay: delay, totalSamplesCount: count });
              const delays = [[audio(10, 100)], [audio(16, 200), out(4, 100)], [audio(16, 200)], [audio(1, 10)]]
                .map((report) => stats.update(report));
              stats.update([{ type: "inbound-rtp", kind: "video", framesDropped: 3, jitterBufferEmittedCount: 0 }]);
              return { delays, video: Object.entries(stats.video).map(([key, value]) => [key, String(value)]) };
            }"""
        )
        assert outcome["delays"][:2] == pytest.approx([100, 100])
        assert outcome["delays"][2:] == [None, None], "nothing was played; another connection's counters"
        nan = dict.fromkeys(("freezes", "freezeMs", "jitterBufferMs", "packetsLost"), "NaN")
        assert dict(outcome["video"]) == {"dropped": "3", **nan}

    def test_a_microphone_is_closed_by_who_opened_it(self, page: Any) -> None:
        """Replaced or released, the element's own microphone ends; a page's stream goes on, and a stream without sound
        changes nothing."""
        outcome = page.evaluate(
            """async () => {
              const { AudioInput } = await import("/element/audio-input.js");
              const context = new AudioContext();
              const tone = () => context.createMediaStreamDestination().stream;
              const state = (stream) => stream.getAudioTracks()[0].readyState;
              const lost = [];
              const input = new AudioInput((error) => lost.push(error.reason));
              input.muted = true;
              const [mine, theirs, last] = [tone(), tone(), tone()];
              input.use(mine, true);
              const muted = mine.getAudioTracks()[0].enabled;
              input.use(mine, true);
              const again = state(mine);
              const refused = (() => {
                try { input.use(new MediaStream(), true); } catch (error) { return error.reason; }
              })();
              const kept = input.stream === mine && state(mine);
              mine.getAudioTracks()[0].getSettings = () => ({ channelCount: 1 }); // as in Firefox
              const unreported = input.latency;
              mine.getAudioTracks()[0].getSettings = () => ({ latency: 0.012 });
              const reported = input.latency;
              input.use(theirs, false);
              const foreign = input.latency;
              input.use(last, true);
              last.getAudioTracks()[0].onended();
              input.release();
              const out = { muted, again, refused, kept, unreported, reported, foreign, lost,
                states: [mine, theirs, last].map(state), after: input.stream };
              await context.close();
              return out;
            }"""
        )
        assert outcome.pop("states") == ["ended", "live", "ended"]
        assert outcome == {
            "muted": False,
            "again": "live",
            "refused": "microphone_missing",
            "kept": "live",
            "unreported": None,
            "reported": 12,
            "foreign": 0,
            "lost": ["microphone_lost"],
            "after": None,
        }

    def test_locations_are_resolved_against_the_request(self, page: Any) -> None:
        """Below a path, a session's relative Location is below it too: candidates and the end go there."""
        asked = page.evaluate(
            """async () => {
              const { Connection } = await import("/element/connection.js");
              const context = new AudioContext();
              const asked = [];
              const genuine = globalThis.fetch;
              globalThis.fetch = async (address, init) => {
                asked.push([init.method, String(address)]);
                const response = new Response("v=0", { status: 201, headers: { Location: "sessions/abc", ETag: "x" } });
                return Object.defineProperty(response, "url", { value: String(address) });
              };
              const connection = new Connection({
                base: "https://site.example/avatar", headers: {}, query: new URLSearchParams({ size: "256" }),
                iceServers: [], stream: context.createMediaStreamDestination().stream, codec: null, onTracks() {},
                onMessage() {}, onReady() {}, onLost() {}, onWarning() {},
              });
              await connection.open().catch(() => {});  // that answer is no SDP
              connection.close();
              globalThis.fetch = genuine;
              await context.close();
              return asked;
            }"""
        )
        assert asked[0] == ["POST", "https://site.example/avatar/v1/sessions?size=256"]
        assert ["DELETE", "https://site.example/avatar/v1/sessions/abc"] in asked
        assert {address for method, address in asked if method != "POST"} == {
            "https://site.example/avatar/v1/sessions/abc"
        }
