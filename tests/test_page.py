"""The page and <lip-stream> in a real Chromium, against a real server, with a recording as the microphone."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sites import SLOW, STREAM, Site, eventually, proxy, serve, until

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("any_load")]


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Any]:
    """The page, loaded, its gallery there. Fails the test afterwards if the browser had anything to complain about."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    complaints = listen(page)
    page.goto(server.url)
    page.wait_for_selector(".tile input:checked", state="attached", timeout=SLOW)
    yield page
    page.close(run_before_unload=False)
    assert not complaints, complaints
    assert no_sessions(server)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve() as site:
        yield site


@pytest.fixture(scope="module")
def guarded(server: Any, site: Site) -> Iterator[Any]:
    """A server with a token that pages of one other origin may use."""
    with type(server)(token="correct horse", allow_origins=(site.allowed,)) as running:
        site.html = f"""<!doctype html><title>A bot's site</title>
            <script type="module" src="{running.url}/element/lip-stream.js"></script>
            <lip-stream token="correct horse" character="2"></lip-stream>"""
        yield running


def sessions(server: Any) -> list[str]:
    return httpx.get(f"{server.url.rstrip('/')}/v1/sessions", timeout=10).json()["sessions"]


def session(server: Any) -> dict[str, Any]:
    """The state of the one session there is."""
    [identifier] = sessions(server)
    return httpx.get(f"{server.url.rstrip('/')}/v1/sessions/{identifier}", timeout=10).json()


def no_sessions(server: Any, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while (left := sessions(server)) and time.monotonic() < deadline:
        pass
    return not left


def listen(page: Any) -> list[str]:
    """What the browser complains about from now on."""
    page.complaints = []
    page.on("console", lambda line: page.complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    return page.complaints


def without_microphone(page: Any, error: str) -> None:
    """From now on the browser refuses the microphone with this error."""
    page.evaluate(
        """(name) => {
          navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("refused", name));
        }""",
        error,
    )


def start(page: Any) -> None:
    page.click("#start")
    began = eventually(page, lambda: page.evaluate(f"{STREAM}.state") not in ("microphone", "connecting"), SLOW / 1000)
    state = page.evaluate(f"{STREAM}.state")
    assert began and state == "live", f"{state}: {page.inner_text('#problem-text')} {page.complaints}"


class TestBeforeTheStart:
    def test_shows_the_chosen_character_and_what_to_do(self, page: Any) -> None:
        """Without a session the stage shows the chosen character's picture, and one button says what to do."""
        picture = f"{STREAM}.shadowRoot.querySelector('img')"
        until(page, f"{picture}.complete && {picture}.naturalWidth >= 256 && !{picture}.hidden")
        assert page.inner_text("#start") == "Start talking"
        assert page.inner_text("#status") == "Ready"
        until(page, "[...document.querySelectorAll('.tile img')].slice(0, 6).every((img) => img.naturalWidth > 0)")

    def test_every_control_has_a_name(self, page: Any) -> None:
        """Whatever can be operated has a text for screen readers, in every tab and in the builder."""
        page.click("#open-builder")
        page.wait_for_selector("#traits select")
        controls = "button, input, select, [role=tab], canvas, dialog"
        unnamed = page.evaluate(
            """(controls) => [...document.querySelectorAll(controls)].filter((one) => {
              const labels = [...(one.labels ?? [])].map((label) => label.textContent.trim()).join("");
              const by = document.getElementById(one.getAttribute("aria-labelledby"))?.textContent;
              const name = one.getAttribute("aria-label") || by || labels || one.textContent.trim();
              return !name && one.getAttribute("aria-hidden") !== "true";
            }).map((one) => one.outerHTML)""",
            controls,
        )
        assert unnamed == []

    @pytest.mark.parametrize("width", [360, 390, 820, 1024])
    def test_fits_small_screens(self, page: Any, width: int) -> None:
        """Nothing sticks out sideways, and the start button is in the first view."""
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator("#start").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= 740

    def test_a_microphone_that_is_refused_is_explained(self, page: Any) -> None:
        """The user reads what to do, is offered the sample voice, and no session was made."""
        without_microphone(page, "NotAllowedError")
        page.click("#start")
        page.wait_for_selector("#problem:not([hidden])")
        assert "microphone is blocked" in page.inner_text("#problem-text")
        assert page.is_visible("#problem-sample")
        assert page.is_visible("#start")
        page.click("#problem-close")
        assert page.is_hidden("#problem")

    @pytest.mark.parametrize(
        ("error", "reads"),
        [("NotFoundError", "No microphone was found"), ("NotReadableError", "in use by another program")],
    )
    def test_other_troubles_with_the_microphone_are_explained(self, page: Any, error: str, reads: str) -> None:
        """Each of the browser's reasons has its own sentence."""
        without_microphone(page, error)
        page.click("#start")
        page.wait_for_selector("#problem:not([hidden])")
        assert reads in page.inner_text("#problem-text")

    def test_a_full_server_says_when_to_come_again(self, page: Any) -> None:
        """503 becomes a sentence with the server's numbers and the wait it asked for."""
        problem = {"status": 503, "reason": "too_many_sessions", "detail": "8 of 8 sessions are open"}
        page.route(
            "**/v1/sessions?**",
            lambda route: route.fulfill(
                status=503,
                headers={"Retry-After": "7"},
                content_type="application/problem+json",
                body=json.dumps(problem),
            ),
        )
        page.click("#start")
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem-text") == (
            "The server is full at the moment. 8 of 8 sessions are open. Try again in 7 s."
        )
        page.complaints.clear()  # the browser logs each 503


class TestLive:
    def test_a_voice_makes_the_character_live_and_timed(self, page: Any, server: Any) -> None:
        """After one click frames arrive, each is joined with the server's times, and the panel shows the numbers."""
        start(page)
        until(page, f"{STREAM}.stats().frames > 40")
        assert session(server)["state"] == "live"
        stats = page.evaluate(f"{STREAM}.stats()")
        assert stats["total"]["p50"] <= stats["total"]["p95"] <= stats["total"]["p99"]
        records = page.evaluate(f"{STREAM}.records.filter((one) => one.captured !== null)")
        for one in records:
            times = [one[name] for name in ("captured", "arrived", "started", "drawn", "encoded", "sent")]
            assert times == sorted(times), one
            assert one["encoded"] < one["receiveTime"] + stats["rtt"] + 1, "received before it was encoded"
        frames = [one["k"] for one in records]
        assert frames == sorted(set(frames)), "each frame once, in order"
        until(page, "/^\\d+$/.test(document.querySelector('#p50').textContent)")
        assert page.locator("#stages tr:visible").count() >= 8
        assert page.inner_text("#status") == "Live"

    def test_a_displayed_frame_is_the_one_that_its_timestamp_names(self, page: Any) -> None:
        """The number in a frame's pixels equals the number that its RTP timestamp gives.

        Where the next frame came before the callback ran, the browser gives its pixels: later ones, never earlier."""
        page.evaluate(f"() => {{ const s = {STREAM}; s.setAttribute('stamp', ''); s.readStamps = true; }}")
        start(page)
        until(page, f"{STREAM}.records.length > 50")
        read = page.evaluate(f"{STREAM}.records.map((one) => [one.k, one.stamp])")
        assert sum(stamp == k for k, stamp in read) >= 0.5 * len(read), read  # a busy page is called late
        assert [(k, stamp) for k, stamp in read if stamp is not None and stamp < k] == []

    def test_the_voice_is_noticed(self, page: Any) -> None:
        """The recording's speech is shown as speech, at once: fading would cost frames of the video."""
        page.click("#start")
        page.wait_for_selector("#frame.speaking", timeout=SLOW)
        assert page.inner_text("#listening-text") == "Speaking"
        page.evaluate(
            """() => { window.begun = [];
            for (const kind of ['transitionrun', 'animationstart'])
              document.getElementById('frame').addEventListener(kind, (event) => begun.push(event.target.id)); }"""
        )
        for shown in ("#frame:not(.speaking)", "#frame.speaking"):
            page.keyboard.press("m")
            page.wait_for_selector(shown, timeout=SLOW)
        assert page.evaluate("window.begun") == []

    def test_controls_reach_the_server(self, page: Any, server: Any) -> None:
        """Mute, interrupt, emotion and another character change the running session, not only the page."""
        start(page)
        before = session(server)
        page.click("#mute")
        until(page, "document.querySelector('#mute').getAttribute('aria-pressed') === 'true'")
        assert eventually(page, lambda: session(server)["muted"] is True)
        assert page.evaluate(f"{STREAM}.input.getAudioTracks()[0].enabled") is False, "no sound leaves the page"
        page.click("#mute")
        assert eventually(page, lambda: session(server)["muted"] is False)

        page.click("#interrupt")
        assert eventually(page, lambda: session(server)["epoch"] == before["epoch"] + 1)

        assert page.evaluate(f"{STREAM}.setEmotion('happy', 0.5)")["strength"] == 0.5

        page.click("#tab-characters")
        other = page.locator(".tile input:not(:checked)").first
        wanted = other.get_attribute("value")
        other.check(force=True)
        assert eventually(page, lambda: session(server)["character"] == wanted)
        assert session(server)["id"] == before["id"], "without a new session"

        refused = page.evaluate(f"{STREAM}.setCharacter('nobody').catch((error) => error.reason)")
        assert refused == "unknown_character"
        assert session(server)["character"] == wanted

    def test_hearing_oneself_is_off_until_asked_for(self, page: Any) -> None:
        """The voice that comes back is received, but played only once the switch is on."""
        start(page)
        video = f"{STREAM}.shadowRoot.querySelector('video')"
        assert page.evaluate(f"{video}.srcObject.getAudioTracks().length") == 1
        assert page.evaluate(f"{video}.muted") is True
        page.click("#hear")
        assert page.evaluate(f"{video}.muted") is False
        page.click("#hear")
        assert page.evaluate(f"{video}.muted") is True

    def test_stopping_leaves_nothing_behind(self, page: Any, server: Any) -> None:
        """The server's session, the microphone and the timers go, and one can start again."""
        start(page)
        microphone = page.evaluate_handle(f"{STREAM}.input.getAudioTracks()[0]")
        page.click("#stop")
        assert no_sessions(server)
        assert microphone.evaluate("(track) => track.readyState") == "ended"
        assert page.inner_text("#status") == "Ready"
        start(page)
        assert len(sessions(server)) == 1

    def test_stopping_deletes_the_session_before_the_connection_closes(self, page: Any, server: Any) -> None:
        """A DELETE that is slow on its way still finds its session: the peer connection closes after it."""
        start(page)

        def delay(route: Any) -> None:
            if route.request.method == "DELETE":
                time.sleep(0.3)
            route.continue_()

        page.route("**/v1/sessions/*", delay)
        with page.expect_response(lambda answer: answer.request.method == "DELETE") as deleted:
            page.click("#stop")
        assert deleted.value.status == 200
        assert no_sessions(server)
        page.unroute("**/v1/sessions/*")

    def test_a_second_start_joins_the_first(self, page: Any, server: Any) -> None:
        """Whoever starts while another start is in progress gets its promise, and its result: one session, live."""
        outcome = page.evaluate(
            f"""async () => {{
              const stream = {STREAM};
              const starts = [stream.start(), stream.start()];
              const again = () => starts.push(stream.start());
              stream.addEventListener("state", again);
              await starts[0];
              stream.removeEventListener("state", again);
              return [await Promise.all(starts), starts[0] === starts[1], await stream.start()];
            }}"""
        )
        assert outcome[0] == [True] * len(outcome[0]) and len(outcome[0]) >= 3
        assert outcome[1:] == [True, True]
        assert len(sessions(server)) == 1
        both = page.evaluate(
            f"""async () => {{
              {STREAM}.stop();
              const starts = [{STREAM}.start(), {STREAM}.start()];
              {STREAM}.stop();
              return [starts[0] === starts[1], ...await Promise.all(starts)];
            }}"""
        )
        assert both == [True, False, False], "stopped, it comes to nothing for both"
        assert no_sessions(server), "what was granted meanwhile is given back"

    def test_inputs_that_overlap_leave_one_microphone(self, page: Any, server: Any) -> None:
        """Of microphones that were asked for at the same time the last one is used, and the others are closed."""
        start(page)
        open_ones = page.evaluate(
            f"""async () => {{
              const stream = {STREAM};
              const devices = navigator.mediaDevices;
              const opened = [stream.input];
              const genuine = devices.getUserMedia.bind(devices);
              devices.getUserMedia = async (wanted) => {{
                const one = await genuine(wanted);
                opened.push(one);
                return one;
              }};
              await Promise.all([stream.setInput(), stream.setInput(), stream.setInput()]);
              const late = stream.setInput();
              stream.stop();
              await late;
              return [opened.length, stream.input, ...opened.map((one) => one.getTracks()[0].readyState)];
            }}"""
        )
        assert open_ones == [5, None, *["ended"] * 5]
        assert no_sessions(server)

    def test_what_a_browser_does_not_report_is_said(self, page: Any) -> None:
        """Without the microphone's own latency, as in Firefox, its stage is in the list and says so."""
        page.evaluate(
            """() => {
              const genuine = MediaStreamTrack.prototype.getSettings;
              MediaStreamTrack.prototype.getSettings = function () {
                const { latency, ...others } = genuine.call(this);
                return others;
              };
            }"""
        )
        start(page)
        first = "document.querySelector('#stages tr')"
        until(page, f"{first}.innerText.includes('not reported by this browser')")
        assert page.inner_text("#stages tr:first-child th") == "Microphone"
        assert page.locator("#stages tr:first-child td:visible").count() == 1
        assert page.locator("#stages tr:nth-child(2) td:visible").count() == 3
        assert "not reported" not in page.inner_text("#stages tr:nth-child(2)")
        assert page.text_content("#device-note") == "This browser does not report it, so it is not included."
        assert page.evaluate(f"{STREAM}.stats().total.p50 > 0")
        assert page.evaluate(f"{STREAM}.records.at(-1).device") is None

    def test_a_gesture_that_is_not_drawn_is_said(self, page: Any) -> None:
        """Where the answer says that the renderer cannot draw a gesture a note says so; otherwise there is none."""
        start(page)
        until(page, f"{STREAM}.renderer")
        answer = (
            "(more) => document.querySelector('lip-stream').dispatchEvent(new CustomEvent('control',"
            " { detail: { type: 'gesture', name: 'wave', frame: 9, ...more } }))"
        )
        for more in ({}, {"drawn": True}):
            page.evaluate(answer, more)
            assert page.is_hidden("#toast")
        page.evaluate(answer, {"drawn": False})
        assert page.inner_text("#toast") == "The studio rig cannot draw the gesture “wave”."

    def test_leaving_the_page_ends_the_session(self, page: Any, server: Any) -> None:
        """Going elsewhere sends the DELETE."""
        start(page)
        assert len(sessions(server)) == 1
        page.goto("about:blank")
        assert no_sessions(server)

    def test_stopping_while_connecting_leaves_nothing_behind(self, page: Any, server: Any) -> None:
        """A session that the server grants after the user has given up is given back."""
        with page.expect_response(lambda answer: answer.request.method == "DELETE", timeout=SLOW) as deleted:
            with page.expect_request(lambda request: request.method == "POST"):
                page.evaluate(f"() => {{ {STREAM}.start(); }}")
            page.evaluate(f"{STREAM}.stop()")
        assert deleted.value.status == 200
        assert page.evaluate(f"{STREAM}.state") == "idle"
        assert no_sessions(server)

    def test_a_lost_connection_is_made_again(self, page: Any, server: Any) -> None:
        """When the server lets a session go, a new one follows by itself, with what the user had set."""
        start(page)
        page.click("#mute")
        before = session(server)["id"]
        server.call(server.state.sessions[before].close("shutdown"))
        until(page, f"{STREAM}.state === 'live' && {STREAM}.session && {STREAM}.session !== '{before}'")
        assert eventually(page, lambda: session(server)["muted"] is True)

    def test_the_sample_voice_speaks_for_whoever_has_no_microphone(self, page: Any) -> None:
        """The built-in recording drives the character without any microphone."""
        without_microphone(page, "NotFoundError")
        page.click("#start-other")
        page.click("#start")
        page.wait_for_selector("#frame.speaking", timeout=SLOW)

    def test_a_browser_that_does_not_time_frames_is_told_so(self, page: Any) -> None:
        """Without requestVideoFrameCallback the character lives all the same, and the panel says what it lacks."""
        page.add_init_script("delete HTMLVideoElement.prototype.requestVideoFrameCallback")
        page.reload()
        page.wait_for_selector(".tile")
        start(page)
        until(
            page, "document.querySelector('#latency-empty').textContent.includes('does not say when it shows a frame')"
        )
        assert page.is_visible("#latency-empty")
        assert page.evaluate(f"{STREAM}.records") == []

    def test_keys_do_what_the_list_says(self, page: Any) -> None:
        """S starts and ends, M mutes, H hears; not while one types."""
        page.keyboard.press("?")
        assert page.is_visible("#shortcuts")
        page.keyboard.press("Escape")
        page.wait_for_selector("#shortcuts", state="hidden")
        page.keyboard.press("s")
        until(page, f"{STREAM}.state === 'live'")
        page.keyboard.press("m")
        until(page, f"{STREAM}.muted")
        page.keyboard.press("h")
        assert page.evaluate(f"{STREAM}.hear") is True
        page.click("#tab-characters")
        page.click("#open-builder")
        page.fill("#builder-name", "")
        page.type("#builder-name", "sms")
        assert page.evaluate(f"{STREAM}.state") == "live"
        page.click("#close-builder")
        page.keyboard.press("s")
        until(page, f"{STREAM}.state === 'idle'")


class TestCharacters:
    def test_the_builder_previews_and_makes(self, page: Any, server: Any) -> None:
        """Each change draws a new preview; the character that is made is chosen and has those traits."""
        page.click("#open-builder")
        page.wait_for_selector("#stage-preview:not([hidden])")
        first = page.get_attribute("#stage-preview", "src")
        stepper = page.locator(".stepper").first
        stepper.locator("button").last.click()
        chosen = stepper.locator("select").input_value()
        until(page, f"document.querySelector('#stage-preview').src !== '{first}'")
        until(page, "document.querySelector('#stage-preview').naturalWidth >= 256")
        page.fill("#builder-name", "Ada")
        page.click("#builder-use")
        page.wait_for_selector("#builder", state="hidden")
        assert page.inner_text(".tile:has(:checked) .tile-name") == "Ada"
        made = httpx.get(f"{server.url.rstrip('/')}/v1/characters/{page.evaluate(f'{STREAM}.character')}").json()
        assert made["name"] == "Ada"
        assert chosen in made["traits"].values()

    def test_a_picture_becomes_a_character(self, page: Any) -> None:
        """An uploaded picture is shown first; used, it joins the gallery and is chosen."""
        picture = page.locator(".tile").nth(1).screenshot()
        page.set_input_files("#file", {"name": "me.png", "mimeType": "image/png", "buffer": picture})
        page.click("#upload-use", timeout=SLOW)
        until(page, "document.querySelector('.tile:has(:checked) .tile-name').textContent === 'me'")
        assert page.is_hidden("#uploader")

    @pytest.mark.parametrize(
        ("name", "kind", "content", "reads"),
        [
            ("notes.txt", "text/plain", b"hello", "Choose pictures (PNG, JPEG, WebP, AVIF, HEIC) or a video clip"),
            ("broken.png", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(40), ""),
        ],
        ids=["no picture", "broken"],
    )
    def test_what_is_no_picture_is_refused_with_the_reason(
        self, page: Any, name: str, kind: str, content: bytes, reads: str
    ) -> None:
        """The reason stands where one can choose anew, and the chosen character stays."""
        before = page.evaluate(f"{STREAM}.character")
        page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})
        page.wait_for_selector("#upload-problem:not([hidden])")
        assert len(page.inner_text("#upload-problem")) > 20
        assert reads in page.inner_text("#upload-problem")
        assert page.evaluate(f"{STREAM}.character") == before
        page.complaints.clear()  # the browser logs each 4xx

    def test_a_picture_that_is_too_large_is_not_even_sent(self, page: Any) -> None:
        """The page knows the server's limit and names both sizes."""
        page.evaluate(
            """() => {
              const files = new DataTransfer();
              files.items.add(new File([new Uint8Array(11 * 2 ** 20)], "large.png", { type: "image/png" }));
              const input = document.querySelector("#file");
              input.files = files.files;
              input.dispatchEvent(new Event("change"));
            }"""
        )
        page.wait_for_selector("#upload-problem:not([hidden])")
        assert page.inner_text("#upload-problem") == "“large.png” has 11 MB; the server accepts up to 10 MB."


class TestElsewhere:
    """A server with a token, and pages of other origins."""

    def test_the_page_asks_for_the_token(self, browser: Any, guarded: Any) -> None:
        """A wrong token is told so; the right one opens the gallery, its pictures included, and the session."""
        page = browser.new_page()
        page.goto(guarded.url)
        page.wait_for_selector("#token-dialog[open]")
        page.fill("#token", "battery staple")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-problem:not([hidden])")
        page.fill("#token", "correct horse")
        page.keyboard.press("Enter")
        until(page, "document.querySelectorAll('.tile').length > 0 && !document.querySelector('dialog[open]')")
        until(page, "document.querySelector('.tile img').naturalWidth > 0")
        listen(page)
        start(page)
        page.close()

    def test_a_link_may_carry_the_token(self, browser: Any, guarded: Any) -> None:
        """`#token=…` opens the page and does not stay in the address."""
        page = browser.new_page()
        page.goto(f"{guarded.url}#token=correct%20horse")
        page.wait_for_selector(".tile")
        assert page.url.rstrip("/") == guarded.url
        page.close()

    def test_the_element_lives_on_a_page_of_another_origin(self, browser: Any, guarded: Any, site: Site) -> None:
        """Two lines of HTML elsewhere give a talking character, and removing it ends the session."""
        page = browser.new_page()
        page.goto(site.allowed)
        until(page, "!!customElements.get('lip-stream')")
        assert page.evaluate(f"{STREAM}.start()") is True
        until(page, f"{STREAM}.stats().frames > 5")
        page.evaluate(f"{STREAM}.remove()")
        assert eventually(page, lambda: not guarded.state.sessions)
        page.close()

    def test_below_a_path(self, browser: Any, server: Any) -> None:
        """Behind a proxy that serves it below a path, page, element and OBS page ask for nothing outside of it, and a
        session begins, is viewed, and ends."""
        with proxy(server.url, "/some/where") as url:
            page, viewer = browser.new_page(), browser.new_page()
            asked: list[str] = []
            for one in (page, viewer):
                listen(one)
                one.on("request", lambda request: asked.append(request.url))
            page.goto(f"{url}/")
            page.wait_for_selector(".tile input:checked", state="attached", timeout=SLOW)
            assert page.text_content("#obs-path") == "/some/where/obs"
            start(page)
            until(page, f"{STREAM}.stats().frames > 5")
            viewer.goto(f"{url}/obs?debug=1")
            assert eventually(viewer, lambda: viewer.locator("#stage > .shown").count() == 1, 20), viewer.inner_text(
                "#log"
            )
            viewer.close()
            assert eventually(page, lambda: not session(server)["viewers"])
            page.click("#stop")
            assert no_sessions(server)
            outside = [one for one in asked if not one.startswith((f"{url}/", "blob:", "data:"))]
            assert not outside
            complaints = [line for line in page.complaints + viewer.complaints if "GL Driver Message" not in line]
            assert not complaints
            page.close()

    def test_an_origin_that_is_not_allowed_gets_nothing(self, browser: Any, guarded: Any, site: Site) -> None:
        """The server does not give the module to pages that it was not told of."""
        page = browser.new_page()
        with page.expect_console_message(lambda line: "Access-Control-Allow-Origin" in line.text):
            page.goto(site.unknown)
        assert page.evaluate("!customElements.get('lip-stream')")
        page.close()
