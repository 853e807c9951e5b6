"""Cost of recording and publishing for a live session: turns with both and turns with neither, in one run.

    python -m benchmarks.latency.recording_cost
    python -m benchmarks.latency.recording_cost --quick         # two turns of each: only a smoke test

A Python client in its own process speaks to a server in this process. In an "on" turn, the session is recorded to a
file and published by RTMP to a receiver on this machine (PyAV, in a third process). A turn lasts until the server's
latency statistics, from capture to sending, cover only frames of this turn: they use the last 250. The order within
each pair of turns alternates, so that slow changes of the machine's speed affect both equally.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
import uvicorn

from benchmarks.lib import hardware
from benchmarks.lib.errors import Unmeasurable
from benchmarks.lib.paths import PYTHON_CLIENT, RESULTS, ROOT, SPEECH
from benchmarks.lib.results import not_measured, write_json
from benchmarks.lib.server import free_port
from streamer.base.constants import GENERATORS
from streamer.base.metrics import Metrics
from streamer.outputs.publisher import Publisher, parse_target
from streamer.server.app import create_app
from streamer.server.config import ServerConfig

OUT = RESULTS / "outlets.json"
FRAMES = 260  # per turn: the server reports latency over the last 250
_TOO_LONG = 60.0  # maximum seconds of a turn

_SPEAKER = """
import asyncio, sys
from pathlib import Path
import numpy as np
from lipstream_client import Client
from lipstream_client.speech import read_file

async def main(url, size, seconds):
    voice = np.concatenate(list(read_file(Path(sys.argv[4]))))
    speech = np.tile(voice, 1 + int(seconds * 48_000 / len(voice)))
    async with Client(url) as client:
        async with client.session(speech, size=size) as session:
            async for _ in session.frames():
                pass

asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
"""

_RECEIVER = """
import sys, av
with av.open(sys.argv[1], format="flv", options={"listen": "1"}) as source:
    for packet in source.demux():
        pass
"""


class _Server:
    """A server in a thread of this process."""

    def __init__(self, folder: Path, generator: str) -> None:
        config = ServerConfig(port=free_port(), generator=generator, record_dir=folder)
        self.url = config.url
        self.app = create_app(config)
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, host=config.host, port=config.port, log_level="error", ws="none")
        )
        self._thread = threading.Thread(target=self._run, name="server")
        self.loop: asyncio.AbstractEventLoop | None = None

    def _run(self) -> None:
        async def serve() -> None:
            self.loop = asyncio.get_running_loop()
            await self._server.serve()

        asyncio.run(serve())

    def __enter__(self) -> "_Server":
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise Unmeasurable("the server did not start")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    def call(self, function: Any, *arguments: Any) -> Any:
        """Runs a function, or the coroutine that it returns, on the server's event loop."""

        async def run() -> Any:
            found = function(*arguments)
            return await found if asyncio.iscoroutine(found) else found

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)


def summarize(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of paired turns {"on": bool, "p50", "p95": ms, "cpu_percent", "fps"}, and of their differences."""
    out: dict[str, Any] = {}
    for key in ("p50", "p95", "fps", "cpu_percent"):
        on, off = ([turn[key] for turn in turns if turn["on"] is wanted] for wanted in (True, False))
        out[key] = {
            "with": round(median(on), 2),
            "without": round(median(off), 2),
            "median_difference": round(median(a - b for a, b in zip(on, off, strict=True)), 2),
            "differences": [round(a - b, 2) for a, b in zip(on, off, strict=True)],
        }
    return out


def run(pairs: int = 8, size: int = 256, generator: str = "rig") -> dict[str, Any]:
    """Measures `pairs` pairs of turns, and prints a line for each turn. Raises Unmeasurable."""
    began, load = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), hardware.load()
    clients = os.pathsep.join([str(PYTHON_CLIENT), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": clients}
    target = f"rtmp://127.0.0.1:{free_port()}/live/benchmark"
    turns: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, _Server(Path(folder), generator) as server:
        seconds = str(2 * pairs * _TOO_LONG + 60)
        speaker = subprocess.Popen(
            [sys.executable, "-c", _SPEAKER, server.url, str(size), seconds, str(SPEECH)], env=environment
        )
        receiver = subprocess.Popen([sys.executable, "-c", _RECEIVER, target], stderr=subprocess.DEVNULL)
        metrics = Metrics()
        publisher = Publisher(parse_target(target), metrics)
        publisher.start()
        try:
            with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http:
                session = server.app.state.lipstream.sessions[_first_session(http, speaker)]
                feed, renderer = publisher.feed(session.size), session.renderer
                server.call(session.add_outlet, feed)
                _until_connected(metrics)
                server.call(session.remove_outlet, feed)
                for pair in range(pairs):
                    for on in (pair % 2 == 0, pair % 2 == 1):
                        turns.append(_turn(http, server, session, feed, on))
                        print(_line(turns[-1]), flush=True)
            state = {
                "published": metrics.registry.get_sample_value(
                    "lipstream_outlet_frames_total", {"outlet": "publish", "fate": "written"}
                ),
                "connections": metrics.registry.get_sample_value(
                    "lipstream_publish_attempts_total", {"outcome": "connected"}
                ),
            }
        finally:
            server.call(publisher.close)
            for process in (speaker, receiver):
                process.kill()
                process.wait()
    return {
        "benchmark": "outlets",
        "renderer": renderer,
        "settings": {"pairs": pairs, "size": size, "generator": generator, "frames_a_turn": FRAMES},
        "began": began,
        "load": {"before": load, "after": hardware.load()},
        "machine": hardware.describe(),
        "summary": summarize(turns),
        "publisher": state,
        "turns": turns,
    }


def _line(turn: dict[str, Any]) -> str:
    return (
        f"{'recording and publishing' if turn['on'] else 'neither':24}  latency {turn['p50']:g} / {turn['p95']:g} ms "
        f"(p50 / p95), {turn['fps']:g} frames/s, {turn['cpu_percent']:g} % of a core"
    )


def _first_session(http: httpx.Client, speaker: subprocess.Popen) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and speaker.poll() is None:
        for name in http.get("/v1/sessions").json()["sessions"]:
            if http.get(f"/v1/sessions/{name}").json()["frames"]["sent"] > 50:
                return name
        time.sleep(0.2)
    raise Unmeasurable("no session became live within 60 s")


def _until_connected(metrics: Metrics) -> None:
    deadline = time.monotonic() + 60
    while not metrics.registry.get_sample_value("lipstream_publishing"):
        if time.monotonic() > deadline:
            raise Unmeasurable("the publisher did not connect within 60 s")
        time.sleep(0.1)


def _turn(http: httpx.Client, server: _Server, session: Any, feed: Any, on: bool) -> dict[str, Any]:
    path = f"/v1/sessions/{session.id}"
    if on:
        server.call(session.add_outlet, feed)
        http.post(f"{path}/recording").raise_for_status()
    process = psutil.Process()
    began, used = time.monotonic(), sum(process.cpu_times()[:2])
    first = http.get(path).json()["frames"]["sent"]
    while (state := http.get(path).json())["frames"]["sent"] < first + FRAMES:
        if time.monotonic() - began > _TOO_LONG:
            raise Unmeasurable(f"fewer than {FRAMES} frames were sent within {_TOO_LONG:.0f} s")
        time.sleep(0.5)
    seconds = time.monotonic() - began
    turn = {
        "on": on,
        "p50": state["latency_ms"]["server_p50"],
        "p95": state["latency_ms"]["server_p95"],
        "fps": round((state["frames"]["sent"] - first) / seconds, 2),
        "cpu_percent": round(100 * (sum(process.cpu_times()[:2]) - used) / seconds, 1),
        "load": hardware.load(),
    }
    if on:
        server.call(session.remove_outlet, feed)
        turn["recording"] = http.delete(f"{path}/recording").json()
    return turn


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Cost of recording and publishing for a live session.")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of turns, one with both and one with neither")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--generator", choices=GENERATORS, default="rig")
    parser.add_argument("--quick", action="store_true", help="two pairs")
    parser.add_argument("--out", type=Path, default=OUT, help="output file (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.pairs < 1:
        parser.error(f"--pairs is {options.pairs}: at least 1 is needed")
    try:
        report = run(2 if options.quick else options.pairs, options.size, options.generator)
    except Unmeasurable as error:
        return not_measured(options.out, "outlets", str(error))
    write_json(options.out, report)
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
