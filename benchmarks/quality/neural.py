"""Quality of the neural generator on held-out characters and speakers: `python -m benchmarks.quality.neural`.

Prints a table of targets and results, compares rig, teacher, one step, and one step after minutes, and writes JSON.
Parts can be measured separately: the JSON keeps earlier results of the same weights.

    python -m benchmarks.quality.neural --voices voices_test.npz --teacher work/teacher.safetensors     # all but drift
    python -m benchmarks.quality.neural --voices voices_test.npz --teacher ... --only drift --minutes 10
    python -m benchmarks.quality.neural ... --strips docs/quality        # saves strips of frames
    python -m benchmarks.quality.neural --docs                      # the page, from JSON and strips
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib import hardware
from benchmarks.lib.paths import RESULTS, ROOT
from benchmarks.lib.targets import renderer_of
from benchmarks.quality import ablations as quality_ablations
from benchmarks.quality import footage, lip_reader, people
from benchmarks.quality import page as quality_page
from benchmarks.quality.clips import Passage, frame_size, lived, passage, quiet, spoken, trusted_speakers
from benchmarks.quality.context import looking_back
from benchmarks.quality.drift import drift, idle
from benchmarks.quality.fidelity import autoencoder, identity, other_sizes
from benchmarks.quality.lips import Sides, Strip, joined, onset_passage, onsets
from benchmarks.quality.lips import measure as measure_lips
from benchmarks.quality.reconstruction import Reconstruction
from benchmarks.quality.rows import FORMAT
from benchmarks.quality.speed import DTYPES
from benchmarks.quality.speed import measure as measure_speed
from streamer.avatar.portrait import MOST_REFERENCES
from streamer.base.constants import FPS
from streamer.model.checkpoint import BadWeights, Networks, load, weights_path
from streamer.model.runtime.torch_cpu import FrameRenderer
from streamer.motion.articulation import Articulation
from streamer.training import voices as heard_voices
from streamer.training.voices import Voices

OUT = RESULTS / "quality.json"
DOCS = ROOT / "docs" / "quality.md"
PARTS = ("lips", "onset", "idle", "identity", "autoencoder", "sizes", "people", "speed", "context", "drift")
COMPARED = ("context", "ablations")
"""Parts that compare variants with each other; their results stay valid for other weights."""
SHOWN = 12 * FPS  # frames per passage
DENSE = 1 / 3
"""Share of a speaker's clips that the part lips uses: those with the most p, b and m."""


class Bench:
    """Networks, lip reader and speech of all parts. Each part is a method that returns its section of the JSON."""

    def __init__(self, args: argparse.Namespace, networks: Networks, teacher: Networks | None) -> None:
        self.args, self.networks, self.quick = args, networks, args.quick
        self.dtype = DTYPES[args.dtype]
        self.frame_renderer = FrameRenderer(networks, self.dtype)
        self.reconstruction = Reconstruction(networks, self.dtype)
        self.teacher = None if teacher is None else FrameRenderer(teacher, self.dtype, args.teacher_steps)
        self.reader = lip_reader.ready(args.reader)
        articulation = Articulation.load()
        self.voices: Voices = heard_voices.load(args.voices, args.set, "test", 1.0, articulation)
        self.silence = heard_voices.silence(articulation, 20.0, seed=1)
        self.speakers = trusted_speakers(self.voices)
        self.strip: Strip | None = self._keep if args.strips else None

    @property
    def dtype_name(self) -> str:
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    def _keep(self, name: str, drawn: np.ndarray, frames: np.ndarray) -> None:
        self.args.strips.mkdir(parents=True, exist_ok=True)
        joined(drawn, frames).save(self.args.strips / f"{name}.jpg", quality=90, subsampling=0)

    def passages(self, characters: int, frames: int, seed: int) -> list[Passage]:
        """One passage per character, with alternating speakers."""
        rng = np.random.default_rng(seed)
        out = []
        for i, who in enumerate(lip_reader.held_out(characters)):
            speaker = self.speakers[i % len(self.speakers)]
            out.append(passage(who, speaker, *spoken(self.voices, self.silence, speaker, frames, rng, DENSE)))
        return out

    def lips(self) -> dict[str, Any]:
        characters, frames, few = (2, 60, 1) if self.quick else (self.args.characters, SHOWN, 5)
        sides = Sides(self.frame_renderer, self.teacher, self.reconstruction, few, self.args.references)
        found = measure_lips(self.passages(characters, frames, 1), sides, self.reader, self.strip)
        about = {"steps": self.args.teacher_steps, "sha256": digest(self.args.teacher)} if self.teacher else None
        return {**found, "reader": self.reader.error, "teacher": about}

    def onset(self) -> dict[str, Any]:
        count, characters = (2, 1) if self.quick else (5, 5)
        rng = np.random.default_rng(2)
        given = [
            onset_passage(who, self.voices, self.speakers, self.silence, count, rng)
            for who in lip_reader.held_out(characters)
        ]
        steady = self.args.measured.get("lips", {}).get("columns")
        if steady is None:
            raise ValueError("the part onset needs the steady lag: measure the part lips first, or together with it")
        return onsets(self.frame_renderer, self.reader, given, steady)

    def idle(self) -> dict[str, Any]:
        seeds = lip_reader.held_out(1 if self.quick else 2)
        return idle(
            self.frame_renderer, self.reader, seeds, self.silence, 2 if self.quick else 20, np.random.default_rng(3)
        )

    def identity(self) -> dict[str, Any]:
        rng = np.random.default_rng(4)
        seeds = list(range(2 if self.quick else 100))

        def talk(seed: int) -> tuple[np.ndarray, np.ndarray]:
            return spoken(self.voices, self.silence, None, 9 if self.quick else 15, rng)

        return identity(self.frame_renderer, seeds, talk)

    def autoencoder(self) -> dict[str, Any]:
        return autoencoder(self.reconstruction, self.moving(1 if self.quick else 24, 45 if self.quick else 150))

    def moving(self, characters: int, frames: int) -> list[tuple[int, np.ndarray]]:
        """Characters and their controls [frames, C]."""
        rng, given = np.random.default_rng(5), []
        for seed in lip_reader.held_out(characters):
            heard, _ = spoken(self.voices, self.silence, None, frames, rng)
            given.append((seed, lived(heard, seed)))
        return given

    def sizes(self) -> dict[str, Any]:
        return other_sizes(self.frame_renderer, self.passages(1 if self.quick else 6, 2 if self.quick else 25, 8))

    def people(self) -> dict[str, Any]:
        args, size = self.args, frame_size(self.networks.config)
        count, frames, size = (1, 8, size) if self.quick else (args.people, 48, 2 * size)
        found = people.measure(self.frame_renderer, self.reconstruction, args.mesh, args.assets, count, frames, size,
                               self.voices, self.silence)  # fmt: skip
        if "skipped" in found:
            print(f"people are not measured: {found['skipped']}", flush=True)
        return found

    def speed(self) -> dict[str, Any]:
        (said,) = self.passages(1, 8 if self.quick else 60, 9)
        return measure_speed(self.networks, self.args.weights, said)

    def long_passage(self, minutes: float, index: int) -> Passage:
        """A long passage of one character, with the voices of random speakers."""
        rng = np.random.default_rng([6, index])
        frames = int(minutes * 60 * FPS)
        parts, have = [], 0
        while have < frames:
            who = self.speakers[int(rng.integers(len(self.speakers)))]
            parts += [
                spoken(self.voices, self.silence, who, int(rng.uniform(8, 20) * FPS), rng),
                quiet(self.silence, int(rng.uniform(1, 4) * FPS), rng),
            ]
            have += sum(len(heard) for heard, _ in parts[-2:])
        heard, truth = (np.concatenate(side)[:frames] for side in zip(*parts, strict=True))
        return passage(lip_reader.held_out(index + 1)[index], "all", heard, truth)

    def drift(self) -> dict[str, Any]:
        minutes = 0.4 if self.quick else self.args.minutes
        runs = []
        for index in range(1 if self.quick else self.args.drift_characters):
            said = self.long_passage(minutes, index)
            runs.append(drift(self.frame_renderer, self.reader, said, self.strip, index + 1))
            print(f"drift of character {said.seed}: {minutes:g} minutes done", flush=True)
        return {"runs": runs}

    def context(self) -> dict[str, Any]:
        passages = self.passages(1 if self.quick else 5, 12 if self.quick else 6 * FPS, 7)
        seconds = 0.6 if self.quick else 8.0
        return looking_back(self.networks, self.dtype, passages, self.silence, self.reader, seconds)

    def ablations(self) -> dict[str, Any]:
        args = self.args
        train = heard_voices.load(args.train_voices, args.set, "train", 1.0, Articulation.load())
        frames, characters = (40, 1) if self.quick else (150, 8)
        budget = quality_ablations.Budget(args.ablation_minutes, steps=2 if self.quick else 1_000_000)
        photographs = args.photographs

        def keep(found: dict[str, Any]) -> None:
            write(args.out, args.measured | {"ablations": rounded(found)})

        return quality_ablations.run(
            self.networks, budget, train, self.silence, args.people_clips, self.moving(characters, frames),
            None if photographs is None else lambda: footage.read(photographs, 1 if self.quick else 20), keep,
            [quality_ablations.VARIANTS[i] for i in args.variants], (0,) if self.quick else quality_ablations.SEEDS,
        )  # fmt: skip


def rounded(value: Any) -> Any:
    """A JSON-ready copy with floats rounded to five digits, and NaN and Inf as None."""
    if isinstance(value, dict):
        return {str(key): rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(out: Path, result: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


def live(path: Path) -> dict[str, Any]:
    """The results of `mic_to_photon.py` for the neural generator, if there are any."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text())
    return {"live": found} if renderer_of(found) == "neural" else {}


def kept(out: Path, weights: dict[str, Any]) -> dict[str, Any]:
    """
    Earlier results of these weights; those of other weights, or of another format, are dropped, so that no table mixes
    them.

    Only the parts in COMPARED are kept for other weights, with the digest of the weights that they were measured with.
    """
    if not out.is_file():
        return {}
    before: dict[str, Any] = json.loads(out.read_text())
    if before.get("format") != FORMAT:
        return {}
    if (had := before.get("weights")) == weights:
        return before
    return {name: {"of": had["sha256"], **before[name]} for name in COMPARED if had and name in before}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the chosen parts and writes the JSON after each. Raises what `load` raises."""
    args.weights = path = args.weights or weights_path(args.preset)
    networks = load(args.preset, path)
    teacher = None if args.teacher is None else load(args.preset, args.teacher)
    weights = {
        "preset": args.preset,
        "sha256": digest(path),
        "megabytes": round(path.stat().st_size / 1e6, 2),
        "context": networks.config.transformer.context,
    }
    result = kept(args.out, weights)
    args.measured = result
    bench = Bench(args, networks, teacher)
    result |= {"format": FORMAT, "hardware": hardware.describe(), "weights": weights, "speakers": bench.speakers}
    chosen = [name for name in PARTS if name in args.only] + (["ablations"] if args.ablations else [])
    for name in chosen:
        began, load_before = time.perf_counter(), hardware.load()
        part: Callable[[], dict[str, Any]] = getattr(bench, name)
        result[name] = rounded(part())
        seconds = time.perf_counter() - began
        result.setdefault("parts", {})[name] = {
            "commit": result["hardware"]["commit"], "cpu": result["hardware"]["cpu"], "load": load_before,
            "seconds": round(seconds, 1), "dtype": bench.dtype_name, "threads": torch.get_num_threads(),
            "quick": args.quick,
        }  # fmt: skip
        write(args.out, result)
        print(f"{name}: {seconds:.0f} s", flush=True)
    return result


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--preset", default="nano")
    add("--weights", type=Path, help="weights to measure (default: the packaged ones)")
    add("--teacher", type=Path, help="weights of the many-step teacher, from the output folder of `lipstream train`")
    add("--teacher-steps", type=int, default=8)
    add("--voices", type=Path, default=Path("voices_test.npz"), help="held-out speech with its curves; created from "
        "--set if missing (default: %(default)s)")  # fmt: skip
    add("--set", type=Path, default=Path("data"), help="speech set built by `lipstream data`")
    add("--reader", type=Path, default=lip_reader.READER, help="lip reader, trained if missing (default: %(default)s)")
    add("--only", default=",".join(PARTS[:-1]), help=f"parts, comma-separated, of {', '.join(PARTS)} (default: all but "
        "drift)")  # fmt: skip
    add("--characters", type=int, default=12, help="characters in the part lips (default: %(default)s)")
    add("--minutes", type=float, default=10.0, help="minutes in the part drift (default: %(default)s)")
    add("--drift-characters", type=int, default=1)
    add("--dtype", choices=DTYPES, default="fp32", help="precision of torch (default: %(default)s)")
    add("--threads", type=int, help="torch threads; the part speed always takes one (default: torch's own)")
    add("--references", type=int, choices=range(1, MOST_REFERENCES + 1), default=MOST_REFERENCES, help="pictures of a "
        "character in the part lips (default: %(default)s)")  # fmt: skip
    add("--people", type=int, default=6, help="rendered people in the part people (default: %(default)s)")
    add("--mesh", type=Path, help="people.npz of the part people, as for streamer.training.people")
    add("--assets", type=Path, help="MakeHuman's assets of the part people, as for streamer.training.people")
    add("--ablations", action="store_true", help="also tune and measure the painter's variants (six hours of a core)")
    add("--ablation-minutes", type=float, default=30.0, help="core minutes of each variant and seed (default: "
        "%(default)s)")  # fmt: skip
    add("--ablation-variants", help="indices of variants, from 0, comma-separated (default: all)")
    add("--people-clips", type=Path, help="folder of training clips of people, for the ablations")
    add("--photographs", type=Path, help="folder of clips of photographs that judge the ablations")
    add("--train-voices", type=Path, default=Path("voices_train.npz"), help="speech to train the variants on")
    add("--quick", action="store_true", help="a smoke test of everything")
    add("--strips", type=Path, help="folder for strips of frames (the page shows docs/quality)")
    add("--out", type=Path, default=OUT, help="(default: %(default)s)")
    add("--live", type=Path, default=OUT.with_name("mic_to_photon.json"), help="output of mic_to_photon.py "
        "(default: %(default)s)")  # fmt: skip
    add("--docs", action="store_true", help="only write the page from the JSON and the strips")
    add("--page", type=Path, default=DOCS, help="output of --docs (default: %(default)s)")
    return made


def main(argv: list[str] | None = None) -> int:
    options = parser()
    args = options.parse_args(argv)
    if args.docs:
        if not args.out.is_file():
            options.error(f"{args.out} does not exist: measure first")
        result = json.loads(args.out.read_text())
        if result.get("format") != FORMAT:
            options.error(f"{args.out} has the format {result.get('format', 1)}, not {FORMAT}: measure again")
        folder = args.page.parent / args.page.stem
        strips = [f"{folder.name}/{path.name}" for path in sorted(folder.glob("*.jpg"), key=quality_page.order)]
        args.page.write_text(quality_page.page(result | live(args.live), strips))
        print(f"wrote {args.page}")
        return 0
    args.only = [name for name in args.only.split(",") if name]
    if unknown := [name for name in args.only if name not in PARTS]:
        options.error(f"unknown parts {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    if args.minutes < 20 / 60:
        options.error(f"--minutes is {args.minutes:g}: drift needs at least a third of a minute")
    positive = ("characters", "drift_characters", "teacher_steps", "people", "ablation_minutes")
    if bad := [
        f"--{name.replace('_', '-')} is {getattr(args, name):g}" for name in positive if getattr(args, name) <= 0
    ]:
        options.error(f"{', '.join(bad)}: must be positive")
    count = len(quality_ablations.VARIANTS)
    chosen = args.ablation_variants.split(",") if args.ablation_variants else range(count)
    try:
        args.variants = [int(number) for number in chosen]
    except ValueError:
        options.error(f"--ablation-variants is {args.ablation_variants!r}: must be numbers, comma-separated")
    if not all(0 <= number < count for number in args.variants):
        options.error(f"--ablation-variants is {args.ablation_variants!r}: must be numbers from 0 to {count - 1}")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    try:
        result = measure(args)
    except (FileNotFoundError, BadWeights, ValueError) as error:
        print(f"quality: {error}", file=sys.stderr)
        return 1
    print(f"\n{hardware.line(result['hardware'])}, commit {result['hardware']['commit']}\n")
    lines = quality_page.rows(result | live(args.live))
    print(quality_page.table(lines) + "\n")
    if quality_page.columns(result):
        print(quality_page.plain(quality_page.side_by_side(result)))
    missed = sum(line.met is False for line in lines)
    print(f"\n{sum(line.met is True for line in lines)} ok, {missed} missed, "
          f"{sum(line.met is None for line in lines)} not measured; wrote {args.out}")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
