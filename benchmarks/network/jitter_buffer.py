"""What a bad network does to a live voice on its way in: latency added over the clean path, and what had to be made up.

Opus packets of real speech go through a simulated path, in virtual time, into `Ingest` and, for comparison, into
aiortc's own `JitterBuffer(16, 4)`. No socket and no root needed.

    python -m benchmarks.network.jitter_buffer            # the table, and results/network_faults.json
    python -m benchmarks.network.jitter_buffer --quick    # a minute for each path instead of up to an hour

Added latency of a piece of sound: when it was given out, less when its last sample would have arrived by the path's
constant delay alone. 0 is the least possible.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from aiortc.jitterbuffer import JitterBuffer as AiortcJitterBuffer
from aiortc.rtp import RtpPacket

from benchmarks.lib import hardware as machine
from benchmarks.lib.paths import RESULTS, SPEECH
from benchmarks.lib.results import write_json
from streamer.audio import Ingest, OpusEncoder
from streamer.audio.opus import libopus
from streamer.base.constants import SAMPLE_RATE
from streamer.media.recordings import read_recording

OUT = RESULTS / "network_faults.json"

PACKET = 0.020  # seconds
TICKS = 960  # RTP ticks of a packet
WITHIN = 0.005  # seconds over the latency before a stall that count as "back"


@dataclass(frozen=True)
class NetworkPath:
    """A path's faults. Times in seconds, shares of packets."""

    name: str
    loss: float = 0.0
    burst: float = 1.0  # mean packets in a row that a loss takes (Gilbert's model)
    jitter: float = 0.0  # mean of the exponential delay in a queue, which keeps the order
    reorder: float = 0.0  # share that takes a longer way: 15 to 45 ms more, overtaken by others
    duplicate: float = 0.0
    stall: float = 0.0  # nothing arrives for so long, once, in the middle,
    stall_loses: bool = False  # and then what was sent meanwhile arrives in one burst, or never
    drift_ppm: float = 0.0  # the sender's clock runs this much faster
    seconds: float = 120.0

    @property
    def stall_start(self) -> float:
        return self.seconds / 2


@dataclass(frozen=True)
class Traffic:
    """What arrives. A arrivals in order of time; P packets sent."""

    arrival: np.ndarray  # [A] seconds
    index: np.ndarray  # [A] which packet
    clean: np.ndarray  # [P] when each packet would have arrived by the constant delay alone


def send(path: NetworkPath, seed: int = 0, delay: float = 0.030) -> Traffic:
    """One voice through the path."""
    rng = np.random.default_rng(seed)
    count = int(path.seconds / PACKET)
    # Captured when the packet's last sample is, by a clock that runs (1 + ppm) times as fast as ours.
    clean = 1000.0 + delay + (np.arange(count) + 1) * PACKET / (1 + path.drift_ppm * 1e-6)
    arrival = clean.copy()
    if path.jitter:
        arrival += rng.exponential(path.jitter, count)
        arrival = np.maximum.accumulate(arrival)
    stalled = (clean >= 1000 + path.stall_start) & (clean < 1000 + path.stall_start + path.stall)
    # The backlog comes in one burst; on the wire it still takes 0.1 ms a packet.
    freed = 1000 + path.stall_start + path.stall + 0.0001 * np.arange(np.count_nonzero(stalled))
    arrival[stalled] = np.maximum(arrival[stalled], freed)
    if path.stall:
        arrival = np.maximum.accumulate(arrival)
    overtaken = rng.random(count) < path.reorder
    arrival += overtaken * rng.uniform(0.015, 0.045, count)
    lost = _losses(rng, count, path)
    if path.stall_loses:
        lost |= stalled
    lost[0] = False  # all is measured against the first
    kept = np.flatnonzero(~lost)
    twice = kept[rng.random(len(kept)) < path.duplicate]
    index = np.concatenate([kept, twice])
    times = np.concatenate([arrival[kept], arrival[twice] + rng.uniform(0, 0.03, len(twice))])
    order = np.argsort(times, kind="stable")
    return Traffic(times[order], index[order], clean)


def _losses(rng: np.random.Generator, count: int, path: NetworkPath) -> np.ndarray:
    """[count] bool: lost packets, in runs of geometric length with the mean `burst`."""
    if not path.loss:
        return np.zeros(count, bool)
    leave = 1 / path.burst
    enter = path.loss * leave / (1 - path.loss)
    lost = np.zeros(count, bool)
    inside = False
    for i, draw in enumerate(rng.random(count)):
        inside = draw >= leave if inside else draw < enter
        lost[i] = inside
    return lost


@lru_cache(maxsize=1)
def speech_packets() -> list[bytes]:
    """The sample voice as Opus packets of 20 ms, 48 kHz mono, with FEC for 10 % of loss, as browsers send it."""
    sound = read_recording(SPEECH, 48_000)
    encoder = OpusEncoder()
    whole = len(sound) // encoder.frame * encoder.frame
    return [encoder.encode(part) for part in sound[:whole].reshape(-1, encoder.frame)]


@dataclass(frozen=True)
class Given:
    """A piece of sound that a receiver gave out: the media time of its end, in packets, and when."""

    end: float
    at: float
    made_up: bool


class Receiver(Protocol):
    """What is measured."""

    name: str

    def push(self, index: int, payload: bytes, now: float) -> Iterator[Given]: ...

    def until(self, now: float) -> Iterator[Given]:
        """All that is due before `now` without a packet."""

    def counters(self) -> dict[str, Any]: ...


class OurReceiver:
    """Jitter buffer, decoder and concealment of this project."""

    name = "lipstream"

    def __init__(self) -> None:
        self.ingest = Ingest()
        self.cost: list[float] = []  # seconds of CPU per packet

    def push(self, index: int, payload: bytes, now: float) -> Iterator[Given]:
        began = time.perf_counter()
        chunks = self.ingest.push(index & 0xFFFF, index * TICKS & 0xFFFFFFFF, payload, now)
        self.cost.append(time.perf_counter() - began)
        return (Given(chunk.end / SAMPLE_RATE / PACKET, now, chunk.concealed) for chunk in chunks)

    def until(self, now: float) -> Iterator[Given]:
        while (due := self.ingest.deadline(0.0)) is not None and due < now:
            for chunk in self.ingest.poll(due):
                yield Given(chunk.end / SAMPLE_RATE / PACKET, due, chunk.concealed)

    def counters(self) -> dict[str, Any]:
        cost = np.array(self.cost) * 1000
        return asdict(self.ingest.stats) | {
            "push_cpu_ms": {"mean": round(float(cost.mean()), 4), "p99": round(float(np.percentile(cost, 99)), 4)}
        }


class AiortcReceiver:
    """aiortc's stock audio buffer. It decodes nothing here: what it holds back is measured, and what it never gives."""

    name = "aiortc 16/4"

    def __init__(self) -> None:
        self.buffer = AiortcJitterBuffer(capacity=16, prefetch=4)
        self.given = 0

    def push(self, index: int, payload: bytes, now: float) -> Iterator[Given]:
        packet = RtpPacket(sequence_number=index & 0xFFFF, timestamp=index * TICKS)
        packet._data = payload  # type: ignore[attr-defined]  # as its receiver does before it adds a packet
        _, frame = self.buffer.add(packet)
        if frame is not None:
            self.given += 1
            yield Given(frame.timestamp / TICKS + 1, now, False)

    def until(self, now: float) -> Iterator[Given]:
        return iter(())

    def counters(self) -> dict[str, Any]:
        return {"given": self.given}


RECEIVERS = (OurReceiver, AiortcReceiver)


def simulate(path: NetworkPath, receiver: Receiver, payloads: list[bytes], seed: int = 0) -> dict[str, Any]:
    """Sends a voice over the path into the receiver; returns the measurements (milliseconds, shares)."""
    traffic = send(path, seed)
    given: list[Given] = []
    for at, index in zip(traffic.arrival.tolist(), traffic.index.tolist(), strict=True):
        given.extend(receiver.until(at))
        given.extend(receiver.push(index, payloads[index % len(payloads)], at))
    return measure(path, traffic, given) | {"counters": receiver.counters()}


def measure(path: NetworkPath, traffic: Traffic, given: list[Given]) -> dict[str, Any]:
    """The numbers of one run."""
    end = np.array([piece.end for piece in given])
    at = np.array([piece.at for piece in given])
    made_up = np.array([piece.made_up for piece in given])
    count = len(traffic.clean)
    clean = np.interp(end - 1, np.arange(count), traffic.clean)
    added = at - clean  # [pieces] seconds
    inside = end <= count
    added, at, made_up, end = added[inside], at[inside], made_up[inside], end[inside]
    sent = traffic.clean[0]
    minute = min(60.0, path.seconds / 4)
    last = added[at >= traffic.clean[-1] - minute]
    start = added[at < sent + 2]
    heard = float(np.sum(~made_up)) / count
    result = {
        "added_ms": {
            key: _ms(value)
            for key, value in zip(
                ("p50", "p95", "p99", "max"), [*np.percentile(added, [50, 95, 99]), added.max()], strict=True
            )
        },
        "real_share": round(heard, 4),  # share of what was sent that arrived in time or was recovered by FEC
        "growth_ms": _ms(np.median(last) - np.median(start)),  # median of the last minute less that of the first 2 s
    }
    if path.stall:
        result["after_stall"] = _after_stall(path, at, added)
    return result


def _after_stall(path: NetworkPath, at: np.ndarray, added: np.ndarray) -> dict[str, Any]:
    """When the median of the next second is within `WITHIN` of the minute before the stall, and what stays for good."""
    begin = 1000 + path.stall_start
    over = begin + path.stall
    before = float(np.median(added[(at >= begin - 60) & (at < begin)]))
    back = None
    for start in np.arange(over, min(over + 60, at[-1] - 1), 0.01):
        if np.median(added[(at >= start) & (at < start + 1)]) <= before + WITHIN:
            back = round(float(start - over), 2)
            break
    return {"back_after_s": back, "lasting_ms": _ms(np.median(added[at > over + 5]) - before)}


def _ms(seconds: float) -> float:
    return round(float(seconds) * 1000, 1) + 0.0  # no "-0.0"


PATHS = (
    NetworkPath("clean"),
    NetworkPath("loss 1 %", loss=0.01, seconds=300),
    NetworkPath("loss 5 %", loss=0.05, seconds=300),
    NetworkPath("loss 10 %", loss=0.10, seconds=300),
    NetworkPath("loss 5 % in bursts of 5", loss=0.05, burst=5, seconds=300),
    NetworkPath("jitter 10 ms", jitter=0.010, seconds=300),
    NetworkPath("jitter 30 ms", jitter=0.030, seconds=300),
    NetworkPath("reordering 5 %", reorder=0.05, seconds=300),
    NetworkPath("duplicates 5 %", duplicate=0.05),
    NetworkPath("stall of 2 s, then a burst", stall=2.0),
    NetworkPath("stall of 2 s, lost", stall=2.0, stall_loses=True),
    NetworkPath("clock +200 ppm, 1 h", drift_ppm=200, seconds=3600),
    NetworkPath("clock -200 ppm, 1 h", drift_ppm=-200, seconds=3600),
    NetworkPath(
        "all at once, 1 h",
        loss=0.01,
        burst=2,
        jitter=0.010,
        reorder=0.01,
        duplicate=0.01,
        stall=2.0,
        drift_ppm=200,
        seconds=3600,
    ),
)


def hardware() -> dict[str, Any]:
    """The machine, and the libopus that decodes."""
    library = libopus()
    return machine.describe() | {
        "libopus": library.opus_get_version_string().decode() if library is not None else None,
    }


def run(seed: int = 0, longest: float | None = None) -> dict[str, Any]:
    """All paths into all receivers; prints the table on the way."""
    payloads = speech_packets()
    print(f"{'path':28} {'receiver':12} {'added ms p50/p95/p99/max':>28} {'real':>7} {'growth':>8}  after the stall")
    rows = []
    for path in PATHS:
        if longest is not None:
            path = replace(path, seconds=min(path.seconds, longest))
        for make in RECEIVERS:
            receiver = make()
            row = {"path": asdict(path), "receiver": receiver.name} | simulate(path, receiver, payloads, seed)
            rows.append(row)
            added = "/".join(f"{value:g}" for value in row["added_ms"].values())
            stall = row.get("after_stall")
            print(
                f"{path.name:28} {receiver.name:12} {added:>28} {row['real_share']:7.2%} {row['growth_ms']:5g} ms"
                + (f"  back in {stall['back_after_s']} s, {stall['lasting_ms']:g} ms at the end" if stall else ""),
                flush=True,
            )
    return {"benchmark": "network_faults", "seed": seed, "hardware": hardware(), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency and losses of the microphone's path on bad networks.")
    parser.add_argument("--quick", action="store_true", help="at most a minute for each path")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT, help="where the JSON goes (default: %(default)s)")
    options = parser.parse_args()
    report = run(options.seed, 60.0 if options.quick else None)
    write_json(options.out, report)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
