"""The page, <lip-stream> alone and the OBS page in a real Firefox, a second engine beside Chromium."""

import io
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from firefox import Firefox, Page, firefox_path
from PIL import Image
from sites import SLOW, STREAM, eventually, until

pytestmark = [pytest.mark.firefox, pytest.mark.usefixtures("any_load")]

FRAMES = 40


@pytest.fixture(scope="module")
def firefox() -> Iterator[Firefox]:
    path = firefox_path()
    assert path, "--require-browser was given, and there is no Firefox"
    running = Firefox(path)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def page(firefox: Firefox, server: Any) -> Iterator[Page]:
    """A tab. Fails the test afterwards if the browser complained, or if a session is left on the server."""
    page = firefox.new_page()
    try:
        yield page
    finally:
        page.close()
    assert not page.complaints, page.complaints
    deadline = time.monotonic() + 10
    while (left := sessions(server)) and time.monotonic() < deadline:
        pass
    assert not left, "a session outlives its page"


def sessions(server: Any) -> list[str]:
    return httpx.get(f"{server.url}/v1/sessions", timeout=10).json()["sessions"]


def start(page: Page) -> None:
    """Presses the button, as a user does, and waits for the first frames."""
    page.click("#start")
    began = eventually(page, lambda: page.evaluate(f"{STREAM}.state") not in ("microphone", "connecting"), SLOW / 1000)
    state = page.evaluate(f"{STREAM}.state")
    assert began and state == "live", f"{state}: {page.inner_text('#problem-text')} {page.complaints}"


def presented(page: Page, video: str) -> int:
    """Waits until the browser's compositor was given so many further frames of a video (an expression)."""
    return page.evaluate(
        f"""new Promise((resolve) => {{
          const video = {video};
          let seen = 0;
          const count = () => (++seen < {FRAMES} ? video.requestVideoFrameCallback(count) : resolve(seen));
          video.requestVideoFrameCallback(count);
        }})"""
    )


def test_a_session_on_the_page(page: Page, server: Any) -> None:
    """
    One click, and frames arrive that are joined with the server's times: the pill and the panel show how old they are.
    Another click ends the session.
    """
    page.goto(server.url)
    until(page, "document.querySelector('.tile input:checked') !== null")
    start(page)
    until(page, f"{STREAM}.stats().frames >= {FRAMES}")
    video = f"{STREAM}.shadowRoot.querySelector('video')"
    assert presented(page, video) == FRAMES
    assert page.evaluate(f"{video}.videoWidth") == 256

    [identifier] = sessions(server)
    state = httpx.get(f"{server.url}/v1/sessions/{identifier}", timeout=10).json()
    assert state["state"] == "live" and state["renderer"] == "studio_rig"

    until(page, "/^\\d+$/.test(document.querySelector('#pill-number').textContent)")
    assert 0 < int(page.inner_text("#pill-number")) < 10_000, "ms"
    page.click("#latency-pill")
    until(page, "/^\\d+$/.test(document.querySelector('#p50').textContent)")
    shown = page.evaluate(
        "[...document.querySelectorAll('#stages tr')].filter((row) => !row.hidden)"
        ".map((row) => row.querySelector('td').textContent)"
    )
    # The first stage, the microphone's own delay, is what the browser reports: Firefox reports none.
    assert shown.pop(0) == "not reported by this browser", "the microphone's own delay, which Firefox does not tell"
    # Firefox rounds its clocks to whole milliseconds: a short stage may come out just below zero.
    assert len(shown) >= 8 and all(float(number) > -2 for number in shown), " ".join(shown)
    records = page.evaluate(f"{STREAM}.records.filter((one) => one.captured !== null)")
    assert len(records) >= FRAMES
    assert [one["k"] for one in records] == sorted({one["k"] for one in records}), "each frame once, in order"
    for one in records:
        times = [one[name] for name in ("arrived", "started", "drawn", "encoded", "sent")]
        assert times == sorted(times), one

    page.click("#stop")
    until(page, f"{STREAM}.state === 'idle'")
    assert page.inner_text("#status") == "Ready"
    assert eventually(page, lambda: not sessions(server))


def test_the_element_alone(page: Page, server: Any) -> None:
    """On a page of somebody's own the element starts, takes commands and stops by its methods."""
    page.goto(f"{server.url}/healthz")
    page.evaluate(
        """(async () => {
          await import("/element/lip-stream.js");
          document.body.innerHTML = '<lip-stream character="2"></lip-stream>';
        })()"""
    )
    assert page.evaluate(f"{STREAM}.start()") is True
    until(page, f"{STREAM}.stats().frames >= {FRAMES}")
    assert page.evaluate(f"{STREAM}.interrupt()")["epoch"] == 1
    assert page.evaluate(f"{STREAM}.setEmotion('happy', 0.5)")["strength"] == 0.5
    assert page.evaluate(f"{STREAM}.setCharacter('nobody').catch((error) => error.reason)") == "unknown_character"
    page.evaluate(f"{STREAM}.stop()")
    assert page.evaluate(f"{STREAM}.state") == "idle"


def test_the_obs_page_views_a_session(page: Page, firefox: Firefox, server: Any) -> None:
    """In a second tab the browser source for OBS shows the session that is live in the first one."""
    page.goto(server.url)
    until(page, "document.querySelector('.tile input:checked') !== null")
    start(page)
    source = firefox.new_page(512, 512)
    try:
        source.goto(f"{server.url}/obs?debug=1")
        video = "document.querySelector('video')"
        until(source, f"{video}?.videoWidth === 2 * 256")  # colour, and transparency beside it
        assert presented(source, video) == FRAMES
        assert source.evaluate("document.querySelector('canvas.shown').width") == 256
        image = Image.open(io.BytesIO(source.screenshot())).convert("RGB")
        assert len(image.getcolors(512 * 512)) > 1000, "a character is seen, composed by WebGL"
        assert source.complaints == []
    finally:
        source.close()
    page.evaluate(f"{STREAM}.stop()")
