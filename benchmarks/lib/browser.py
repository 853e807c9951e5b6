"""A real Chromium whose microphone plays a recording, and one user on the page in it."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.lib.alignment import Voice
from benchmarks.lib.errors import Irregular, NothingToMeasure, Unmeasurable
from benchmarks.lib.recording import Recording
from benchmarks.lib.session_analysis import SETTLE
from benchmarks.lib.ties import Tap

PROBE = Path(__file__).with_name("probe.js")

MICROPHONES = 5  # that are opened until one begins regularly

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns,MediaRouter,OptimizationHints,Translate",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def chromium_path() -> str | None:
    return os.environ.get("LIPSTREAM_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@dataclass
class Chromium:
    browser: Any
    root: psutil.Process
    """Parent of the browser's processes: Playwright's driver, which is not counted."""

    @property
    def version(self) -> str:
        return f"Chromium {self.browser.version}"

    def processes(self) -> list[psutil.Process]:
        return [process for process in self.root.children(recursive=True) if "chrom" in _name(process)]


def _name(process: psutil.Process) -> str:
    try:
        return process.name().lower()
    except psutil.Error:
        return ""


@contextlib.contextmanager
def open_chromium(microphone: Path) -> Iterator[Chromium]:
    """A headless Chromium whose microphone plays the WAV `microphone` in a loop."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NothingToMeasure("Playwright is not installed: pip install 'lipstream[test]'") from None
    path = chromium_path()
    if path is None:
        raise NothingToMeasure("there is no Chromium on this machine (Debian: apt-get install chromium)")
    before = {child.pid for child in psutil.Process().children()}
    with sync_playwright() as playwright:
        drivers = [child for child in psutil.Process().children() if child.pid not in before]
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"],
            ignore_default_args=["--mute-audio"],  # sound is played as it is for a user
        )
        try:
            yield Chromium(browser, drivers[0])
        finally:
            with contextlib.suppress(Exception):
                browser.close()


class Visit:
    """One user: opens the page that users get, presses the button and talks, while `probe.js` watches."""

    def __init__(
        self,
        chromium: Chromium,
        url: str,
        *,
        echo_cancellation: bool = True,
        size: int | None = 256,
        character: str = "",
        keep: float = 1.0,
        every: float = 2.0,
        pixels: bool = False,
        detour: dict[str, int] | None = None,
    ) -> None:
        """
        `size`: None for what the server gives where none is asked for; `character`: an id, or empty for the page's
        first. `detour`: ports of a relay (relay.py) that all media take.
        """
        self.recording = Recording()
        self.attempts = 1
        """How many microphones had to be opened until one began regularly."""
        self.processing_ms: float | None = None
        """Delay of the browser's processing of the microphone, where `open_steady` has measured it."""
        # The page's policy (CSP) forbids the probe's worker and would not forbid anything that a user gets.
        self._context = chromium.browser.new_context(bypass_csp=True)
        self.page = self._context.new_page()
        self.page.add_init_script(path=PROBE)
        self.page.goto(f"{url}/")
        self.page.wait_for_selector("#start:not([disabled])")
        self.page.wait_for_load_state("networkidle")  # the gallery's pictures are there, as for a user who has looked
        if detour is not None:
            self.page.evaluate("ports => probe.detour(ports)", detour)
        self.page.evaluate(
            """([echo, size, character, options]) => {
                const element = document.querySelector("lip-stream");
                element.setAttribute("stamp", "");
                if (size) element.setAttribute("size", size);
                if (character) element.setAttribute("character", character);
                element.setAttribute("echo-cancellation", echo);
                element.hear = true;
                probe.attach(element, options);
            }""",
            [
                "on" if echo_cancellation else "off",
                size,
                character,
                {"keep": keep, "every": every, "watchPixels": pixels},
            ],  # fmt: skip
        )

    def start(self, timeout: float = 20.0, meanwhile: Callable[[Recording], None] = lambda recording: None) -> None:
        """Presses the button; returns once a frame was presented. Raises Unmeasurable with the page's reason.

        `meanwhile` is called with what has been seen, again and again.
        """
        self.page.evaluate("() => { probe.marks.click = performance.now(); document.querySelector('#start').click(); }")
        deadline = time.monotonic() + timeout
        while True:
            self.drain()
            meanwhile(self.recording)
            if "firstFrame" in self.recording.marks:
                return
            refused = self.recording.event("element_error")
            if refused is not None:
                raise Unmeasurable(f"{refused['reason']}: {refused['message']}")
            if time.monotonic() > deadline:
                seen = [event.get("state", event["type"]) for event in self.recording.events]
                raise Unmeasurable(f"no frame within {timeout:g} s of the click; the page saw {seen}")
            self.page.wait_for_timeout(100)

    def drain(self) -> None:
        self.recording.add(self.page.evaluate("probe.drain()"))

    def watch(self, seconds: float, every: float = 5.0) -> None:
        """Lets the session run, fetching what the probe saw now and then."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.page.wait_for_timeout(1000 * min(left, every))
            self.drain()
        self._check()

    def _check(self) -> None:
        lost = [event for event in self.recording.events if event["type"] == "element_state"]
        if lost and lost[-1]["state"] != "live":
            raise Unmeasurable(f"the session did not stay live: {lost[-1]['state']}, {lost[-1].get('reason')}")

    def interrupt(self, times: int) -> list[dict[str, float]]:
        """Interrupts so often, at changing phases of a frame; what was sent when, and the server's answer."""
        done = []
        for i in range(times):
            self.page.wait_for_timeout(1100 + 37 * i % 40)
            done.append(
                self.page.evaluate(
                    """async () => {
                        const sent = performance.now();
                        const answer = await document.querySelector("lip-stream").interrupt();
                        return { sent, answered: performance.now(), epoch: answer.epoch, frame: answer.frame };
                    }"""
                )
            )
        self.page.wait_for_timeout(800)
        self.drain()
        return done

    def stats(self) -> dict[str, Any]:
        """The peer connection's statistics of sound and picture coming in, and of playout."""
        return self.page.evaluate(
            """async () => {
                const out = {};
                const report = await document.querySelector("lip-stream").getStats();
                for (const one of report.values())
                    if (["inbound-rtp", "media-playout"].includes(one.type)) out[`${one.type} ${one.kind}`] = one;
                return JSON.parse(JSON.stringify(out));
            }"""
        )

    def shown(self) -> dict[str, Any]:
        """The latency that the page itself displays."""
        return self.page.evaluate("() => document.querySelector('lip-stream').stats(10)")

    def server_state(self) -> dict[str, Any]:
        return self.page.evaluate(
            """async () => {
                const element = document.querySelector("lip-stream");
                return (await element.fetch(`/v1/sessions/${element.session}`)).json();
            }"""
        )

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.page.evaluate("() => document.querySelector('lip-stream').stop()")
            self.page.wait_for_timeout(100)
        with contextlib.suppress(Exception):
            self._context.close()


def open_steady(
    chromium: Chromium,
    url: str,
    voice: Voice,
    *,
    meanwhile: Callable[[Recording], None] = lambda recording: None,
    **options: Any,
) -> Visit:
    """A visit that was started and has settled, and whose microphone began regularly.

    On a busy machine the microphone loses blocks while it is opened, and with echo cancellation on the delay of the
    browser's processing can then not be told. It shows within seconds, so that another visit is opened, in the same
    browser on the same server. Raises Unmeasurable where the server refuses, Irregular after MICROPHONES of them.
    """
    for attempt in range(1, MICROPHONES + 1):
        visit = Visit(chromium, url, **options)
        visit.attempts = attempt
        try:
            visit.start(meanwhile=meanwhile)
            visit.watch(SETTLE)
            known = None if options.get("echo_cancellation", True) else 0.0
            tap = _located(visit, voice, known)
            visit.processing_ms = tap.processing_ms(np.array(visit.recording.delivered)) if known is None else known
            return visit
        except Irregular as error:
            visit.close()
            print(f"microphone {attempt} of {MICROPHONES}: {error}", flush=True)
            if attempt == MICROPHONES:
                raise
        except Unmeasurable:
            visit.close()
            raise
    raise AssertionError("unreachable")


def _located(visit: Visit, voice: Voice, processing_ms: float | None) -> Tap:
    """The microphone's sound, found in the recording at two places or more: the first seconds may be silent."""
    for _ in range(8):
        with contextlib.suppress(Unmeasurable):
            tap = Tap.of(visit.recording, voice, processing_ms)
            if len(tap.found) > 1:
                return tap
        visit.watch(1.0)
    return Tap.of(visit.recording, voice, processing_ms)
