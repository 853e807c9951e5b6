"""Age of a frame when it leaves the server, by input: WebRTC, WHIP or speech socket.

    python -m benchmarks.latency.voice_inputs OUT.json [--generator rig]

In each round, the sample voice is sent by WebRTC (the Python client), by WHIP, and to a bot's speech socket, one after
the other, while one viewer watches. Two intervals of every frame are measured by the server's timestamps: *capture to
sent*, from the capture of the frame's sample to the sending of its last packet, and *answer*, from the arrival of the
last sample that it needs, look-ahead included. For a bot's speech, the capture is the time at which the frame is due.
Results are medians over the rounds; server and clients share the machine.
"""

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from lipstream_client import Client
from lipstream_client.speech import RATE, read_file

from benchmarks.lib.errors import ServerFailed
from benchmarks.lib.hardware import describe, load
from benchmarks.lib.paths import SPEECH
from benchmarks.lib.results import failure
from benchmarks.lib.server import open_server
from benchmarks.lib.whip_peer import Microphone, Player
from streamer.base.constants import GENERATORS

_SETTLED = 11.0  # seconds: the latencies cover the last ten

Latency = dict[str, float | None]


def voice() -> np.ndarray:
    """The sample voice, [n] float32 at 48 kHz."""
    return np.concatenate(list(read_file(SPEECH)))


async def renderer(url: str) -> dict[str, Any]:
    """The renderer and size of the measured sessions."""
    async with Client(url) as client, client.session() as session:
        return {"renderer": session.renderer, "size": session.hello["size"]}


async def by_webrtc(url: str) -> Latency:
    async with Client(url) as client, client.session(np.tile(voice(), 4), linger=math.inf) as session:
        async with asyncio.TaskGroup() as group:
            idle = [group.create_task(_drain(stream)) for stream in (session.frames(), session.audio())]
            await asyncio.sleep(_SETTLED)
            latency = (await client.session_state(session.id))["latency_ms"]
            for task in idle:
                task.cancel()
    return latency


async def by_whip(url: str) -> Latency:
    async with Microphone(url, voice()) as microphone, Player(url, microphone.id):
        await asyncio.sleep(_SETTLED)
        return (await microphone.state())["viewers"][0]["latency_ms"]


async def by_speech(url: str) -> Latency:
    async with Client(url) as client:
        opened = (await client.open())["id"]
        try:
            async with Player(url, opened), client.bot(opened, rate=RATE) as bot:
                await bot.say(np.tile(voice(), 2))
                await asyncio.sleep(_SETTLED)
                return (await client.session_state(opened))["viewers"][0]["latency_ms"]
        finally:
            await client.end(opened)


async def _drain(queue: Any) -> None:
    async for _ in queue:
        pass


WAYS: dict[str, Callable[[str], Awaitable[Latency]]] = {
    "webrtc": by_webrtc,
    "whip in, whep out": by_whip,
    "speech socket, whep out": by_speech,
}


async def measure(url: str, rounds: int) -> dict[str, Any]:
    each: dict[str, list[Latency]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            each[name].append(await way(url))
    keys = ("server_p50", "server_p95", "answer_p50", "answer_p95")
    return {
        name: {**{key: round(median(found[key] or math.nan for found in founds), 1) for key in keys}, "each": founds}
        for name, founds in each.items()
    }


def main(arguments: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("out", type=Path)
    options.add_argument("--generator", default="rig", choices=GENERATORS)
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args(arguments)
    result: dict[str, Any] = {"hardware": describe(), "generator": asked.generator, "load_before": load()}
    try:
        with open_server(generator=asked.generator) as server:
            result |= asyncio.run(renderer(server.url))
            result["ways"] = asyncio.run(measure(server.url, asked.rounds))
    except ServerFailed as error:
        return failure("voice_inputs", error)
    result["load_after"] = load()
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, found in result["ways"].items():
        print(f"{name:26} capture to sent {found['server_p50']:6} / {found['server_p95']:6} ms, "
              f"answer {found['answer_p50']:6} / {found['answer_p95']:6} ms")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
