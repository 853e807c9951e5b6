"""Several concurrent users without a browser: frames per second of each session, at the picture rig's default size.

    python -m benchmarks.latency.concurrent_clients OUT.json [--sessions 2] [--seconds 40] [--picture FILE]

Each session has a Python client in its own process, which sends the page's sample recording and decodes every frame.
Frames are counted from the third second on. Server and clients share the machine.
"""

import argparse
import asyncio
import json
import math
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lipstream_client import Client

from benchmarks.lib.errors import ServerFailed
from benchmarks.lib.hardware import describe, load
from benchmarks.lib.paths import PICTURES, SPEECH
from benchmarks.lib.results import failure
from benchmarks.lib.server import open_server

_WARM_UP = 3.0  # seconds


async def _count(url: str, character: str, seconds: float) -> dict[str, Any]:
    async with Client(url) as client, client.session(
        SPEECH, character=character, linger=math.inf
    ) as session:  # fmt: skip
        began = time.monotonic()
        first, numbers = 0.0, []
        async for frame in session.frames():
            now = time.monotonic()
            if now - began < _WARM_UP:
                continue
            first = first or now
            numbers.append(frame.k)
            if now - first >= seconds:
                break
        latency = session.stats().latency
        return {
            "renderer": session.renderer,
            "size": int(frame.image.shape[0]),
            "frames": len(numbers),
            "fps": round((len(numbers) - 1) / (now - first), 2),
            "latency_ms": {stage: asdict(latency[stage]) for stage in ("total", "draw") if stage in latency},
        }


def _client(url: str, character: str, seconds: float, results: Any) -> None:
    try:
        results.put(asyncio.run(_count(url, character, seconds)))
    except Exception as error:
        results.put({"error": f"{type(error).__name__}: {error}"})


async def _upload(url: str, picture: Path) -> str:
    async with Client(url) as client:
        return str((await client.upload(picture))["id"])


def run(sessions: int, seconds: float, picture: Path) -> dict[str, Any]:
    result: dict[str, Any] = {"hardware": describe(), "picture": picture.name, "load_before": load()}
    context = multiprocessing.get_context("spawn")
    with open_server(generator="rig") as server:
        character = asyncio.run(_upload(server.url, picture))
        results = context.Queue()
        given = (server.url, character, seconds, results)
        clients = [context.Process(target=_client, args=given) for _ in range(sessions)]
        for client in clients:
            client.start()
        result["sessions"] = [results.get(timeout=seconds + 60) for _ in clients]
        for client in clients:
            client.join(20)
    return result | {"load_after": load()}


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--picture", type=Path, default=PICTURES / "rendered-smile.webp")
    options = parser.parse_args(given)
    try:
        result = run(options.sessions, options.seconds, options.picture)
    except ServerFailed as error:
        return failure("concurrent_clients", error)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    for session in result["sessions"]:
        print(session)
    return 1 if any("error" in session for session in result["sessions"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
