"""Transparency in a real Chromium: the component's canvas, and the browser source for OBS that views a session."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from posed_faces import png, poses
from test_page import STREAM, eventually, no_sessions, session, sessions, until

from streamer.avatar.rig_backend import RigBackend
from streamer.motion.controls import rest

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("any_load")]

SIZE = 256


class Statue(RigBackend):
    """Characters that stand still: what is seen can be held against what was drawn."""

    def create_renderer(self, entry: Any, size: int, background: bool) -> Any:
        rig = super().create_renderer(entry, size, background)
        draw = rig.draw
        rig.draw = lambda controls, t=0.0: draw(rest())  # type: ignore[method-assign]
        return rig


@pytest.fixture
def statue(server: Any, monkeypatch: pytest.MonkeyPatch) -> RigBackend:
    generator = Statue()
    monkeypatch.setattr(server.state, "generator", generator)
    return generator


def url(server: Any, path: str) -> str:
    return server.url.rstrip("/") + path


@pytest.fixture
def stage(browser: Any, server: Any) -> Iterator[Any]:
    """A page of this server's with nothing on it but a component that is as large as the window."""
    page = browser.new_page(viewport={"width": SIZE, "height": SIZE})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url(server, "/healthz"))
    yield page
    page.close(run_before_unload=False)
    assert not page.errors
    assert no_sessions(server)


def begin(page: Any, attributes: str) -> None:
    page.evaluate(
        """async (attributes) => {
          await import("/element/lip-stream.js");
          document.documentElement.style.background = document.body.style.background = "transparent";
          document.body.style.margin = 0;
          document.body.innerHTML = `<lip-stream ${attributes} style="width:100vw"></lip-stream>`;
          globalThis.told = [];
          const stream = document.querySelector("lip-stream");
          stream.addEventListener("warning", ({ detail }) => told.push(detail.reason));
          stream.addEventListener("error", ({ detail }) => told.push(detail.message));
          if (!(await stream.start())) throw new Error(told.join());
        }""",
        attributes,
    )


def seen(page: Any, ground: str | None = None) -> np.ndarray:
    """[S, S, 4]: what a user sees, over a ground or, without one, as transparent as it is."""
    if ground:
        page.evaluate("(colour) => { document.documentElement.style.background = colour; }", ground)
    return np.array(Image.open(io.BytesIO(page.screenshot(omit_background=ground is None))).convert("RGBA"))


def drawn(server: Any, character: str) -> np.ndarray:
    return RigBackend().still(server.state.characters.get(character), SIZE, False)


def outline(picture: np.ndarray) -> np.ndarray:
    """[S, S] bool: half-transparent pixels and two round them."""
    near = (picture[..., 3] > 0) & (picture[..., 3] < 255)
    for axis in (0, 1):
        near = near | np.roll(near, 1, axis) | np.roll(near, -1, axis)
    return near


def settled(page: Any) -> None:
    """Waits until the picture has had time to become as fine as it will be."""
    until(page, f"{STREAM}.records.length > 12")


def check_cutout(found: np.ndarray, wanted: np.ndarray) -> None:
    """Transparent in the corners, opaque within, and at the outline neither frayed nor fringed."""
    assert found[:8, :8, 3].max() < 8 and found[:8, -8:, 3].max() < 8
    assert found[100:160, 110:150, 3].min() > 247
    assert np.abs(found[..., 3].astype(int) - wanted[..., 3]).mean() < 2


@pytest.mark.parametrize("codec", ["h264", "vp8"])
class TestComponent:
    def test_the_character_stands_on_nothing(self, server: Any, stage: Any, statue: Any, codec: str) -> None:
        """The canvas has real transparency, and over white, black and green the outline is what was drawn."""
        begin(stage, f'alpha stamp character="40" codec="{codec}" size="{SIZE}"')
        stage.evaluate(f"{STREAM}.readStamps = true")
        settled(stage)
        records = stage.evaluate(f"{STREAM}.records.map(({{ k, stamp, width }}) => [k, stamp, width])")
        assert any(stamp == k for k, stamp, _ in records[-20:]), "the strip is read from the left half"
        assert {width for _, _, width in records} == {SIZE}
        assert session(server)["alpha"] == "packed"
        wanted = drawn(server, "40")
        upper = slice(0, SIZE - 24)  # below it is the strip
        check_cutout(seen(stage)[upper], wanted[upper])
        edge = outline(wanted)[upper]
        for ground, colour in (("#fff", (255, 255, 255)), ("#000", (0, 0, 0)), ("#0a7", (0, 170, 119))):
            alpha = wanted[upper, :, 3:] / 255
            true = wanted[upper, :, :3] * alpha + np.array(colour) * (1 - alpha)
            error = (seen(stage, ground)[upper, :, :3] - true)[edge]
            assert np.abs(error).mean() < 10, (ground, np.abs(error).mean())
            assert error.mean() > -3.5, f"darker than it was drawn over {ground}: {error.mean()}"
        assert stage.evaluate("told") == []

    def test_without_webgl_it_is_mixed_by_hand(self, server: Any, stage: Any, statue: Any, codec: str) -> None:
        """The same picture, and a warning that says what it costs."""
        stage.evaluate(
            """() => {
              const { getContext } = HTMLCanvasElement.prototype;
              HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
                return kind.startsWith("webgl") ? null : getContext.call(this, kind, ...rest);
              };
            }"""
        )
        begin(stage, f'alpha character="40" codec="{codec}" size="{SIZE}"')
        settled(stage)
        check_cutout(seen(stage), drawn(server, "40"))
        assert stage.evaluate("told") == ["no_webgl"]


def test_a_lost_context_comes_back(server: Any, stage: Any, statue: Any) -> None:
    """Where the GPU is taken away the session goes on, and so does the picture once it is given back."""
    begin(stage, f'alpha character="40" size="{SIZE}"')
    settled(stage)
    stage.evaluate(
        f"""() => {{
          const canvas = {STREAM}.shadowRoot.querySelector("canvas");
          globalThis.context = canvas.getContext("webgl").getExtension("WEBGL_lose_context");
          canvas.addEventListener("webglcontextlost", () => {{ globalThis.lost = true; }});
          canvas.addEventListener("webglcontextrestored", () => {{ globalThis.restored = true; }});
          context.loseContext();
        }}"""
    )
    until(stage, "globalThis.lost")
    before = stage.evaluate(f"{STREAM}.records.length")
    until(stage, f"{STREAM}.records.length > {before} + 5")
    stage.evaluate("context.restoreContext()")
    until(stage, "globalThis.restored")
    before = stage.evaluate(f"{STREAM}.records.length")
    until(stage, f"{STREAM}.records.length > {before} + 5")
    check_cutout(seen(stage), drawn(server, "40"))


def test_alpha_is_the_attribute_background_follows(stage: Any) -> None:
    """Without a word on the background there is none where alpha is, and one where it is not."""
    stage.evaluate("import('/element/lip-stream.js')")
    until(stage, "customElements.get('lip-stream') !== undefined")
    told = stage.evaluate(
        """() => ["", "alpha", "alpha background='on'", "alpha='off'", "background='off'"].map((attributes) => {
          const template = document.createElement("div");
          template.innerHTML = `<lip-stream ${attributes}></lip-stream>`;
          return [template.firstChild.alpha, template.firstChild.background];
        })"""
    )
    assert told == [[False, True], [True, False], [True, True], [False, True], [False, False]]


class TestBrowserSource:
    @pytest.fixture
    def source(self, browser: Any, server: Any, statue: Any) -> Iterator[Any]:
        """The page for OBS in a window of its own, not opened yet."""
        page = browser.new_page(viewport={"width": SIZE, "height": SIZE})
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        yield page
        page.close(run_before_unload=False)
        assert not page.errors

    def live(self, source: Any) -> bool:
        return source.evaluate("document.querySelector('#stage > .shown') !== null")

    def state(self, source: Any) -> str:
        return source.inner_text("#log")

    def test_shows_whoever_speaks_and_the_next_one(self, server: Any, stage: Any, source: Any) -> None:
        """It waits for a session, shows it, clears the stage when it ends, and shows the next, all without a reload."""
        source.goto(url(server, "/obs?debug=1"))
        assert eventually(source, lambda: "no session is live" in self.state(source))
        assert seen(source)[..., 3][:200].max() == 0, "nothing is in the picture"
        for character in ("40", "13"):
            begin(stage, f'background="off" character="{character}" size="{SIZE}"')
            assert eventually(source, lambda: self.live(source), 20), self.state(source)
            wanted = drawn(server, character)
            assert eventually(
                source, lambda w=wanted: np.abs(seen(source)[:200, :, 3].astype(int) - w[:200, :, 3]).mean() < 2
            )
            check_cutout(seen(source)[:200], wanted[:200])
            stage.evaluate(f"{STREAM}.stop()")
            assert eventually(source, lambda: not self.live(source), 20), self.state(source)
            assert eventually(source, lambda: seen(source)[..., 3][:200].max() == 0)

    def test_each_format_is_coded_once(self, server: Any, browser: Any, stage: Any, source: Any) -> None:
        """Two sources beside the speaker's own page: two encoders, one with alpha and one without."""
        begin(stage, f'background="off" character="40" codec="h264" size="{SIZE}"')
        other = browser.new_page(viewport={"width": SIZE, "height": SIZE})
        try:
            for page in (source, other):
                page.goto(url(server, f"/obs?session={sessions(server)[0]}&muted=1"))
                assert eventually(page, lambda p=page: self.live(p), 20)
            state = session(server)
            assert [(one["codec"], one["alpha"]) for one in state["viewers"]] == [("H264", "packed")] * 2
            (held,) = server.state.sessions.values()
            assert {str(key) for key in held._broadcast._channels} == {"H264", "H264-packed"}
            assert source.evaluate("document.querySelector('video').muted")
        finally:
            other.close(run_before_unload=False)
        assert eventually(source, lambda: len(session(server)["viewers"]) == 1), "who leaves says so"
        stage.evaluate(f"{STREAM}.stop()")

    def test_without_alpha_it_shows_the_video(self, server: Any, stage: Any, source: Any) -> None:
        """`alpha=0`: the same video that the speaker's page gets."""
        begin(stage, f'character="40" codec="h264" size="{SIZE}"')
        source.goto(url(server, "/obs?alpha=0"))
        assert eventually(source, lambda: self.live(source), 20)
        assert [one["alpha"] for one in session(server)["viewers"]] == ["none"]
        assert source.evaluate("document.querySelector('video').classList.contains('shown')")
        assert source.is_hidden("#log")
        stage.evaluate(f"{STREAM}.stop()")

    def test_comes_back_after_refusals_and_breaks(self, server: Any, stage: Any, source: Any) -> None:
        """A server that is away, a refusal and a lost connection are each got over by themselves."""
        begin(stage, f'background="off" character="40" size="{SIZE}"')
        troubles = iter([503, 500, None])

        def trouble(route: Any) -> None:
            status = next(troubles, 0)
            if status == 0:
                route.continue_()
            elif status is None:
                route.abort()
            else:
                route.fulfill(status=status, content_type="application/problem+json", body='{"reason":"overloaded"}')

        source.route("**/v1/sessions", trouble)
        source.goto(url(server, "/obs?debug=1"))
        assert eventually(source, lambda: self.live(source), 30), self.state(source)
        first = session(server)["viewers"][0]["id"]
        httpx.delete(url(server, f"/v1/sessions/{sessions(server)[0]}/whep/{first}"), timeout=10)
        assert eventually(
            source, lambda: [one["id"] for one in session(server)["viewers"] if one["id"] != first] != [], 20
        ), self.state(source)
        assert eventually(source, lambda: self.live(source), 20)
        stage.evaluate(f"{STREAM}.stop()")

    def test_may_open_the_microphone_itself(self, server: Any, source: Any) -> None:
        """`source=microphone`: a session of its own, with the character that is asked for, on nothing."""
        source.goto(url(server, f"/obs?source=microphone&character=40&size={SIZE}"))
        assert eventually(source, lambda: self.live(source), 20)
        state = session(server)
        assert (state["character"], state["size"], state["alpha"]) == ("40", SIZE, "packed")
        assert eventually(
            source, lambda: seen(source)[:8, :8, 3].max() < 8 < 247 < seen(source)[100:160, 120:140, 3].min()
        )
        source.evaluate("document.querySelector('lip-stream').stop()")
        assert eventually(source, lambda: source.evaluate(f"{STREAM}.state") == "live", 20), "it begins again"
        source.goto("about:blank")
        assert no_sessions(server)

    def test_shows_a_pack(self, server: Any, source: Any) -> None:
        """A character of several pictures is asked for by its id as any other is."""
        files = [("picture", (f"{name}.png", png(poses()[name]))) for name in ("idle", "talk")]
        made = httpx.post(url(server, "/v1/characters"), files=files, timeout=30).json()
        source.goto(url(server, f"/obs?source=microphone&character={made['id']}&size={SIZE}"))
        assert eventually(source, lambda: self.live(source), 20)
        assert session(server)["character"] == made["id"]
        assert eventually(source, lambda: session(server)["renderer"] == "picture_rig")
        source.goto("about:blank")
        assert no_sessions(server)

    def test_a_token_in_the_fragment(self, server: Any, browser: Any, source: Any) -> None:
        """`#token=` is sent as the API wants it; the address that the server sees has none."""
        with type(server)(token="correct horse") as guarded:
            asked = []
            source.on("request", lambda request: asked.append((request.url, request.headers.get("authorization"))))
            source.goto(url(guarded, "/obs?debug=1#token=correct%20horse"))
            assert eventually(source, lambda: "no session is live" in self.state(source))
            calls = [head for address, head in asked if "/v1/" in address]
            assert set(calls) == {"Bearer correct horse"}
            source.goto(url(guarded, "/obs?debug=1"))
            assert eventually(source, lambda: "unauthorized" in self.state(source))
            source.goto("about:blank")

    def test_the_folder_leads_to_the_page(self, server: Any) -> None:
        """`/obs/` is a redirect that keeps the settings; the page allows no inline script."""
        answer = httpx.get(url(server, "/obs/?session=3"), follow_redirects=True, timeout=10)
        assert str(answer.url) == url(server, "/obs?session=3")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "lipstream for OBS" in answer.text

    def test_reads_its_settings(self, server: Any, source: Any) -> None:
        """What an address says, and what it leaves out."""
        source.goto(url(server, "/obs"))
        settings = source.evaluate(
            """async () => {
              const { settingsFromUrl, retryDelay, withoutPlayoutDelay } = await import("/obs/obs.js");
              return [
                settingsFromUrl("", ""),
                settingsFromUrl(
                  "?session=a%2Fb&alpha=off&muted&size=512&echo=on&source=microphone&debug=1", "#token=x%20y"),
                settingsFromUrl("?size=huge&muted=0", "#"),
                [0, 1, 2, 6, 60].map((failures) => retryDelay(failures, 0.5)),
                withoutPlayoutDelay("m=video\\r\\na=extmap:3 urn:x\\r\\na=extmap:6 http://webrtc.org/playout-delay\\r\\na=mid:1\\r\\n"),
              ];
            }"""
        )
        usual = dict(session=None, microphone=False, alpha=True, muted=False, debug=False, character="", size=0)
        usual |= dict(echoCancellation=False, token="")
        assert settings[0] == usual
        assert settings[1] == usual | dict(
            session="a/b", alpha=False, muted=True, size=512, echoCancellation=True, microphone=True, debug=True,
            token="x y",
        )  # fmt: skip
        assert settings[2] == usual
        assert settings[3] == [300, 300, 1000, 15000, 15000]
        assert settings[4] == "m=video\r\na=extmap:3 urn:x\r\na=mid:1\r\n"
