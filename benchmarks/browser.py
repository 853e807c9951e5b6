"""A server process, a real Chromium with a voice for a microphone, and the page in it: what browser benchmarks share.

`open_server` runs the real command in a process of its own; `open_chromium` a browser; `Visit` is one user on the page.
"""

import base64
import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from alignment import RATE, Voice

HERE = Path(__file__).resolve().parent
SPEECH = HERE.parent / "clients" / "page" / "sample.wav"
PROBE = HERE / "probe.js"

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


class Unmeasurable(RuntimeError):
    """What was to be measured did not come about; the text says why."""


class NothingToMeasure(Unmeasurable):
    """No server or no browser: another attempt has no use."""


def chromium_path() -> str | None:
    return os.environ.get("LIPSTREAM_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def make_voice(path: Path, pause: float = 1.0, every: float = 4.0) -> Voice:
    """The sample voice as a loop of whole seconds, written to `path` (48 kHz, mono).

    About `every` so many seconds, at the quietest place, a `pause` is put in: speech has onsets, and they are measured.
    """
    with wave.open(str(SPEECH)) as source:
        rate = source.getframerate()
        speech = np.frombuffer(source.readframes(source.getnframes()), np.int16) / 32768
    parts, begin = [], 0
    while len(speech) - begin > 1.5 * every * rate:
        cut = begin + int((every - 1) * rate) + _quietest(speech[begin + int((every - 1) * rate) :][: 2 * rate], rate)
        parts += [speech[begin:cut], np.zeros(int(pause * rate))]
        begin = cut
    parts += [speech[begin:], np.zeros(int(pause * rate))]
    joined = np.concatenate(parts)
    seconds = -(-len(joined) // rate)
    loop = np.zeros(seconds * rate)
    loop[: len(joined)] = joined
    spectrum = np.zeros(seconds * RATE // 2 + 1, complex)
    own = np.fft.rfft(loop)
    spectrum[: len(own)] = own
    samples = np.fft.irfft(spectrum, seconds * RATE) * (RATE / rate)
    coded = (samples * 32767).clip(-32767, 32767).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(coded.tobytes())
    return Voice(coded / 32767)


def _quietest(samples: np.ndarray, rate: int) -> int:
    """Where the quietest 50 ms are centred."""
    width = rate // 20
    energy = np.convolve(np.square(samples), np.ones(width), "valid")
    return int(np.argmin(energy)) + width // 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class ServerProcess:
    url: str
    process: psutil.Process

    def threads(self) -> int:
        return self.process.num_threads()


@contextlib.contextmanager
def open_server(command: str | None = None, generator: str | None = None) -> Iterator[ServerProcess]:
    """`lipstream serve` on a free port, ready. `command`: what to run instead of `lipstream`."""
    port = free_port()
    start = shlex.split(command) if command else [sys.executable, "-m", "streamer"]
    options = ["--generator", generator] if generator else []
    process = subprocess.Popen(
        [*start, "serve", "--port", str(port), *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=HERE.parent,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300  # the first start on a machine measures what can draw there
        while not _ready(url):
            if process.poll() is not None:
                said = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
                raise NothingToMeasure(f"the server ended with status {process.returncode}: {said[-2000:]}")
            if time.monotonic() > deadline:
                raise NothingToMeasure("the server was not ready within 300 s")
            time.sleep(0.1)
        yield ServerProcess(url, psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


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


@dataclass
class Usage:
    """CPU time and memory of a set of processes between two looks. Shares are of one core."""

    processes: list[psutil.Process]
    began: float = field(default_factory=time.monotonic)
    before: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.before = {process.pid: _cpu_seconds(process) for process in self.processes}

    def cpu_percent(self) -> float:
        spent = sum(max(0.0, _cpu_seconds(process) - self.before[process.pid]) for process in self.processes)
        return round(100 * spent / max(1e-9, time.monotonic() - self.began), 1)

    def memory_mb(self) -> float:
        """Memory in use, what processes share counted once (PSS) where the system can tell."""
        return round(sum(map(_memory, self.processes)) / 2**20, 1)


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
        return times.user + times.system
    except psutil.Error:
        return 0.0


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return getattr(full, "pss", full.rss)
    except psutil.Error:
        return rss(process)


def rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


@dataclass
class Stream:
    """A tapped track: blocks [n, 4] (callback ms, read ms, samples, rate) and the samples that were kept."""

    blocks: list[list[float]] = field(default_factory=list)
    chunks: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def add(self, drained: dict[str, Any]) -> None:
        self.blocks += drained["blocks"]
        self.chunks += [(at, np.frombuffer(base64.b64decode(pcm), "<i2") / 32767) for at, pcm in drained["samples"]]

    forgotten: int = 0
    """Samples of the blocks that are no longer here."""

    @property
    def rate(self) -> int:
        return int(self.blocks[-1][3])

    def ends(self) -> np.ndarray:
        """[n]: samples delivered up to each block's end, since the tap began."""
        return self.forgotten + np.cumsum([block[2] for block in self.blocks])

    def forget(self, before: float) -> None:
        """Lets go of what was delivered earlier (ms, page's clock)."""
        gone = sum(1 for block in self.blocks if block[0] < before)
        self.forgotten += int(sum(block[2] for block in self.blocks[:gone]))
        del self.blocks[:gone]
        self.chunks = [chunk for chunk in self.chunks if chunk[0] >= self.forgotten]


@dataclass
class Recording:
    """All that the probe saw on one page."""

    frames: list[list[Any]] = field(default_factory=list)
    """(k, presented, received, expected on the display, number read from the stamp, pixels)"""
    rows: list[list[float]] = field(default_factory=list)
    pongs: list[list[float]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    delivered: list[list[float]] = field(default_factory=list)
    packets: list[tuple[int, float, bytes]] = field(default_factory=list)
    """(RTP timestamp, read ms, Opus)"""
    marks: dict[str, Any] = field(default_factory=dict)
    microphone: Stream = field(default_factory=Stream)
    played: Stream = field(default_factory=Stream)
    now: float = 0.0

    def add(self, drained: dict[str, Any]) -> None:
        for name in ("frames", "rows", "pongs", "events", "delivered"):
            getattr(self, name).extend(drained[name])
        self.packets += [(int(stamp), at, base64.b64decode(data)) for stamp, at, data in drained["packets"]]
        self.marks.update(drained["marks"])
        self.now = drained["now"]
        for name in ("microphone", "played"):
            if name in drained:
                getattr(self, name).add(drained[name])

    def forget(self, before: float) -> None:
        """Lets go of what is older, for runs of hours; what ties the clocks stays."""
        self.frames = [frame for frame in self.frames if frame[1] >= before]
        oldest = self.frames[0][0] if self.frames else 0
        self.rows = [row for row in self.rows if row[0] >= oldest]
        self.packets = [packet for packet in self.packets if packet[1] >= before]
        self.pongs = sorted(self.pongs, key=lambda pong: pong[1] - pong[0])[:50]
        self.delivered = self.delivered[:100]
        self.microphone.forget(before)
        self.played.forget(before)

    def event(self, kind: str) -> dict[str, Any] | None:
        return next((event for event in self.events if event["type"] == kind), None)


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
        """What the page's own display tells its user about latency."""
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


def write_json(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
