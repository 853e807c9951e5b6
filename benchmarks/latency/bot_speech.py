"""Latency of a bot's speech: from its speech to the first frame, and from a barge-in to silence.

    python -m benchmarks.latency.bot_speech OUT.json [--generator rig] [--onsets 40] [--barge-ins 12]

*Speech to first frame* is measured after a pause of random length. It starts just before the client passes the
WebSocket message with the speech to its socket, and ends when the server passes the last packet of the first frame that
belongs to that speech to its socket. *Barge-in*: the user starts to speak into the microphone while the bot speaks. It
is measured from the first sample of the user's voice, and from the server's event, to the last received packet in which
the bot is audible, and to the first received frame with a closed mouth. Server and client share the machine and its
monotonic clock.
"""

import argparse
import asyncio
import json
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from lipstream_client import Bot, Client, Session
from lipstream_client.speech import RATE, read_file

from benchmarks.lib.errors import ServerFailed
from benchmarks.lib.hardware import describe, load
from benchmarks.lib.paths import SPEECH
from benchmarks.lib.results import failure
from benchmarks.lib.server import open_server
from streamer.base.constants import GENERATORS, SAMPLE_RATE, SAMPLES_PER_FRAME

_VOICED = (0.76, 2.6)  # seconds of the sample with continuous speech
_LOUD = 0.02


def voice() -> np.ndarray:
    """[n] float32 at 48 kHz that starts in the middle of a syllable."""
    sample = np.concatenate(list(read_file(SPEECH)))
    return sample[round(_VOICED[0] * RATE) : round(_VOICED[1] * RATE)]


def summary(milliseconds: list[float]) -> dict[str, Any]:
    cuts = np.percentile(milliseconds, [50, 95]) if milliseconds else [math.nan] * 2
    values = [round(float(v), 1) for v in milliseconds]
    return {"n": len(values), "p50": round(float(cuts[0]), 1), "p95": round(float(cuts[1]), 1), "each": values}


async def until(bot: Bot, kind: str, **fields: Any) -> dict[str, Any]:
    async for event in bot.events():
        if event["type"] == kind and fields.items() <= event.items():
            return event
    raise RuntimeError(f"the socket ended before {kind}")


async def drain(queue: Any) -> None:
    async for _ in queue:
        pass


async def onsets(client: Client, count: int) -> dict[str, Any]:
    """Speech after random pauses of 0.6 to 1.4 s, which cover all phases between two frames."""
    speech, asked, first = voice()[: RATE // 2], {}, {}
    async with client.session(voice="speech") as session, client.bot(session.id, rate=RATE) as bot:
        async with asyncio.TaskGroup() as group:
            idle = [group.create_task(drain(session.frames())), group.create_task(drain(session.audio()))]
            await asyncio.sleep(2.0)
            rows: dict[int, np.ndarray] = {}
            for _ in range(count):
                await asyncio.sleep(random.uniform(0.6, 1.4))
                began = time.monotonic() * 1e3
                await bot.say(speech)
                started = await until(bot, "speech_started")
                asked[started["segment"]] = began
                first[started["segment"]] = math.ceil(started["pts"] / SAMPLES_PER_FRAME)
                await until(bot, "speech_finished")
                await asyncio.sleep(0.3)
                rows |= {int(row[0]): row for row in session.moments()}
            for task in idle:
                task.cancel()
    took, missing, stages = [], 0, []
    for segment, frame in first.items():
        # If a frame was skipped because a newer one was waiting, use the next one that was sent.
        k = next((k for k in range(frame, frame + 10) if k in rows), None)
        if k is None:
            missing += 1
            continue
        missing += k > frame
        _, _, arrived, began, drawn, encoded, sent, _ = rows[k]
        took.append(sent - asked[segment])
        stages.append([arrived - asked[segment], began - arrived, drawn - began, encoded - drawn, sent - encoded])
    names = ("until_due", "wait", "draw", "encode", "send")
    median = {name: round(float(v), 1) for name, v in zip(names, np.median(stages, axis=0), strict=True)}
    return {**summary(took), "median_stages": median, "first_frames_left_out": missing}


async def barge_ins(client: Client, count: int) -> dict[str, Any]:
    """The user speaks for half a second every six seconds while the bot speaks."""
    half = voice()[: RATE // 2]
    rest = np.zeros(RATE * 11 // 2, np.float32)
    said = np.concatenate([np.zeros(3 * RATE, np.float32), *[np.concatenate([half, rest])] * count])
    begins = [3.0 + 6.0 * i for i in range(count)]
    story = np.tile(voice(), 8)
    to_event, to_silence, to_shut, event_to_silence, event_to_shut = [], [], [], [], []
    missed = 0
    async with client.session(said, voice="speech", linger=math.inf, frame_queue=50) as session:
        async with client.bot(session.id, rate=RATE, barge_in=True) as bot:
            heard, shown = [], []

            async def listen(session: Session) -> None:
                async for sound in session.audio():
                    if np.abs(sound.samples).max() > _LOUD:
                        heard.append(sound)

            async def watch(session: Session) -> None:
                async for frame in session.frames():
                    shown.append((frame.k, frame.received))

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(listen(session)), group.create_task(watch(session))]
                for begin in begins:
                    await bot.say(story)
                    event = await until(bot, "user_speech_started")
                    notified = time.monotonic()
                    cut = await until(bot, "interrupted")
                    await asyncio.sleep(1.5)
                    onset = session._speech._started + begin  # type: ignore[operator, union-attr]
                    if abs(event["pts"] / SAMPLE_RATE - begin) > 0.15:
                        missed += 1  # the microphone's packets were late, and the first syllable was lost
                        continue
                    last = max(sound.received for sound in heard if sound.received < notified + 1.4)
                    shut = next((at for k, at in shown if k >= cut["frame"]), math.nan)
                    to_event.append((notified - onset) * 1e3)
                    to_silence.append((last - onset) * 1e3)
                    to_shut.append((shut - onset) * 1e3)
                    event_to_silence.append((last - notified) * 1e3)
                    event_to_shut.append((shut - notified) * 1e3)
                for task in tasks:
                    task.cancel()
    return {
        "missed": missed,
        "onset_to_event": summary(to_event),
        "event_to_last_sound": summary(event_to_silence),
        "event_to_shut_mouth": summary(event_to_shut),
        "onset_to_last_sound": summary(to_silence),
        "onset_to_shut_mouth": summary(to_shut),
    }


async def measure(url: str, options: argparse.Namespace) -> dict[str, Any]:
    async with Client(url) as client:
        async with client.session() as session:
            drawn = {"renderer": session.renderer, "size": session.hello["size"]}
        result = {**drawn, "speech_to_first_frame_ms": await onsets(client, options.onsets)}
        if options.barge_ins:
            result["barge_in_ms"] = await barge_ins(client, options.barge_ins)
        return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--generator", default="rig", choices=GENERATORS)
    parser.add_argument("--onsets", type=int, default=40)
    parser.add_argument("--barge-ins", type=int, default=12)
    options = parser.parse_args()
    try:
        with open_server(generator=options.generator) as server:
            result = asyncio.run(measure(server.url, options))
    except ServerFailed as error:
        return failure("bot_speech", error)
    result = {
        "generator": options.generator,
        "hardware": describe(),
        "load": load(),
        **result,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, part in result.items():
        if name.endswith("_ms"):
            for what, found in {name: part, **part}.items():
                if isinstance(found, dict) and "p50" in found:
                    print(f"{what:28} {found['p50']:g} / {found['p95']:g} ms (p50 / p95 of {found['n']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
