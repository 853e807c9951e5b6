"""How well the articulation network follows held-out speakers.

    python -m benchmarks.quality.articulation SET

SET is the output of `lipstream data`. Every held-out clip is streamed step by step through motion.articulation, as in a
live session, once as recorded and once through Opus, and compared with the ground truth from its aligned phones. The
loudness baseline is measured in the same way. It also measures the cost of a step on one thread, and the error of the
aligner against the manual labels of festvox-ru. `--compare CHECKPOINT` adds the look-aheads that the first part of the
training learned.

The ground truth is only as good as its alignment. During an aligned p, t or k the level must dip, whatever the network
says. Speakers for whom fewer than 9 in 10 dip are measured and published, but excluded from the groups.
"""

import argparse
import difflib
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.lib.paths import RESULTS
from benchmarks.lib.targets import ARTICULATION as TARGETS
from streamer.base.constants import SAMPLES_PER_FRAME
from streamer.motion.articulation import PROSODY, WEIGHTS, Articulation, ArticulationModel, Loudness, stepped
from streamer.training.articulation import LOOKAHEADS, Config, Heard, Network, correlation, evaluate, heard, measure
from streamer.training.data import corpora
from streamer.training.data.coarticulation import levels
from streamer.training.data.dataset import HELD_OUT, read_shard
from streamer.training.data.phones import PHONES, SILENCE

TRUSTED = 0.9


def held_out(folder: Path, shards: int | None) -> list[tuple[Heard, np.ndarray]]:
    """The test clips of the first `shards`, with their audio [n] float32."""
    clips = []
    for path in sorted(folder.glob("shard_*.npz"))[:shards]:
        for line, arrays in read_shard(path):
            if line["split"] == "test" or line["speaker"] in HELD_OUT:
                clips.append((heard(line, arrays), arrays["audio"].astype(np.float32) / 32768))
    return clips


def dips(clips: list[tuple[Heard, np.ndarray]]) -> dict[str, dict[str, float]]:
    """For each speaker, the share of p, t and k during which the level falls 12 dB below the peak within 120 ms."""
    found: dict[str, list[bool]] = {}
    for clip, audio in clips:
        if clip.line["variant"] == 0:
            decibels = levels(audio)
            for phone in clip.timed:
                k = round(100 * (phone.start + 0.4 * (phone.end - phone.start)))
                if phone.phone in ("p", "t", "k") and 12 <= k < len(decibels) - 12:
                    fall = decibels[k - 12 : k + 13].max() - decibels[k - 2 : k + 3].min()
                    found.setdefault(clip.line["speaker"], []).append(bool(fall > 12))
    return {who: {"stops": len(each), "dips": round(float(np.mean(each)), 3)} for who, each in sorted(found.items())}


def scores(
    listener: ArticulationModel, clips: list[tuple[Heard, np.ndarray]], trusted: set[str]
) -> dict[str, dict[str, float]]:
    """Scores of each held-out speaker, as recorded and through Opus, and of groups of speakers with trusted truth."""
    groups: dict[str, list[tuple[np.ndarray, Heard]]] = {}
    voices: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for clip, audio in clips:
        curves = stepped(listener, audio)
        mouth = curves.mouth
        line = clip.line
        condition = "as recorded" if line["variant"] == 0 else "through Opus"
        real = line["source"] not in ("flite", "espeak-ng")
        names = [f"{line['speaker']}, {condition}"]
        if line["language"] == "it":
            names += ["Italian", f"Italian, {condition}"]
        elif line["speaker"] in trusted:
            names += [f"all but Italian, {condition}", "all but Italian"]
            names += [f"recorded people but Italian, {condition}"] if real else []
        for name in names:
            groups.setdefault(name, []).append((mouth[: len(clip.mouth)], clip))
            voices.setdefault(name, []).append((curves.prosody[: len(clip.prosody)], clip.prosody))
    found = {}
    for name, pairs in sorted(groups.items()):
        if sum(len(mouth) for mouth, _ in pairs) > 500:
            predicted, true = (np.concatenate(each) for each in zip(*voices[name], strict=True))
            prosody = {f"pcc_{channel}": correlation(predicted[:, i], true[:, i]) for i, channel in enumerate(PROSODY)}
            found[name] = {key: round(value, 4) for key, value in (measure(pairs) | prosody).items()}
    return found


def step_cost(listener: ArticulationModel, steps: int = 2000) -> dict[str, float]:
    """Percentiles of a step's duration in milliseconds."""
    state, rng = listener.state(), np.random.default_rng(0)
    took = []
    for _ in range(steps):
        samples = rng.normal(0, 0.05, SAMPLES_PER_FRAME).astype(np.float32)
        start = time.perf_counter()
        listener.step(state, samples)
        took.append((time.perf_counter() - start) * 1000)
    return {f"p{p}": round(float(np.percentile(took, p)), 3) for p in (50, 95, 99)}


def aligner_error(clips: int = 60) -> dict[str, float]:
    """Errors of the aligner's phone starts against festvox-ru's labels, in ms."""
    errors: list[float] = []
    rejected = 0
    for clip in corpora.recordings("festvox-ru")[:clips]:
        by_hand = [p for p in corpora.labelled(clip).phones if p.phone != SILENCE]
        try:
            found = [p for p in corpora.align(clip).phones if p.phone != SILENCE]
        except corpora.Rejected:
            rejected += 1
            continue
        # The labels transcribe reduced vowels differently, so any vowel matches any other.
        a, b = (["V" if PHONES[p.phone].vowel else p.phone for p in phones] for phones in (by_hand, found))
        for i, j, n in difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
            errors += [1000 * (found[j + x].start - by_hand[i + x].start) for x in range(n)]
    off = np.abs(errors)
    return {
        "phones": len(errors), "rejected_clips": rejected, "bias": round(statistics.median(errors), 1),
        "median": round(float(np.median(off)), 1), "p90": round(float(np.percentile(off, 90)), 1),
    }  # fmt: skip


def compared(checkpoint: Path, clips: list[tuple[Heard, np.ndarray]], trusted: set[str]) -> dict[str, dict[str, float]]:
    """Scores by look-ahead, of the checkpoint that was trained on all of them, before the gate was calibrated."""
    import torch

    saved = torch.load(checkpoint, weights_only=True)
    network = Network(Config(**{**saved["config"], "dilations": tuple(saved["config"]["dilations"])}))
    network.load_state_dict(saved["averaged"])
    some = [clip for clip, _ in clips if clip.line["language"] != "it" and clip.line["speaker"] in trusted]
    kept = ("pcc_open", "pcc_open_spoken", "closed", "falsely_closed", "lag_ms", "pcc_round", "pcc_tuck")
    return {
        f"{ahead} ms": {k: round(v, 4) for k, v in evaluate(network, some, ahead).items() if k in kept}
        for ahead in LOOKAHEADS
    }


def hardware() -> dict[str, str | int | None]:
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())  # fmt: skip
    return {"cpu": model, "cores": os.cpu_count(), "load": str(os.getloadavg()), "onnxruntime": onnxruntime.__version__}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", type=Path)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--shards", type=int, help="use only this many shards of the set (default: all)")
    parser.add_argument("--compare", type=Path, help="checkpoint of the training's first part")
    parser.add_argument("--out", type=Path, default=RESULTS / "articulation.json")
    args = parser.parse_args(argv)
    clips = held_out(args.set, args.shards)
    if not clips:
        parser.error(f"{args.set} contains no test clips")
    network = Articulation.load(args.weights)
    truth = dips(clips)
    trusted = {who for who, found in truth.items() if found["dips"] >= TRUSTED}
    result = {
        "hardware": hardware(),
        "weights_bytes": args.weights.stat().st_size,
        "lookahead_ms": network.lookahead / 16,
        "targets": TARGETS,
        "truth": truth,
        "network": scores(network, clips, trusted),
        "loudness_baseline": scores(Loudness(), clips, trusted),
        "step_ms": step_cost(network),
        "aligner_ms": aligner_error(),
    }
    if args.compare:
        result["lookaheads"] = compared(args.compare, clips, trusted)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for who in ("all but Italian", "Italian"):
        for name in ("network", "loudness_baseline"):
            print(f"{who}, {name}: {result[name].get(who)}")
    print(f"step: {result['step_ms']}, aligner: {result['aligner_ms']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
