"""The quality benchmark's table and page, from its JSON. Pure."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.lib import hardware
from benchmarks.quality.rows import Result, Row, engine, rows, share

COLUMNS = ("rig", "autoencoder", "teacher", "one step", "all minutes", "one step after minutes")


def table(lines: Sequence[Row]) -> str:
    """The table as text for a terminal."""
    widths = [max(len(getattr(line, name)) for line in lines) for name in ("what", "aim", "reached", "n")]
    out = []
    for line in lines:
        cells = (line.what, line.aim, line.reached, line.n)
        out.append(
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + "  " + line.verdict
        )
    return "\n".join(out)


# Side by side -----------------------------------------------------------------------------------------------------

_SIDE_BY_SIDE = (
    ("frames", "n", "{:.0f}"),
    ("lips to the phones' truth, PCC", "pcc_truth", "{:.3f}"),
    ("lips to the curves, PCC", "pcc_curves", "{:.3f}"),
    ("lips to the curves, mean error", "mae_curves", "{:.3f}"),
    ("p, b, m", "closures", "{:.0f}"),
    ("of these closed", "closures_held", "{:.1%}"),
    ("closed when it should be open", "falsely_closed", "{:.1%}"),
    ("lag to the truth, ms", "lag_truth_ms", "{:+.1f}"),
    ("lag to the curves, ms", "lag_curves_ms", "{:+.1f}"),
    ("blinks drawn", "blinks", "{:.0f}"),
    ("of these shown", "blinks_shown", "{:.0f}"),
    ("blinks invented", "blinks_invented", "{:.0f}"),
    ("PSNR to the rig, dB", "psnr", "{:.2f}"),
    ("of the mouth", "psnr_mouth", "{:.2f}"),
    ("of the eyes", "psnr_eyes", "{:.2f}"),
    ("gradient energy", "gradient_energy", "{:.1f}"),
    ("of the mouth", "gradient_energy_mouth", "{:.1f}"),
)


def columns(result: Result) -> dict[str, Result]:
    """The measured columns of the comparison."""
    out = dict(result.get("lips", {}).get("columns", {}))
    runs = result.get("drift", {}).get("runs", [])
    if runs:
        out["all minutes"] = runs[0]["all_minutes"]["one step"]
        out["one step after minutes"] = runs[0]["last_minute"]["one step"]
    return {name: out[name] for name in COLUMNS if name in out}


def side_by_side(result: Result) -> list[list[str]]:
    """Header and lines of the comparison of all columns."""
    found = columns(result)
    minutes = result["drift"]["runs"][0]["minutes"] if "drift" in result else 0
    long = {"all minutes": f"{minutes:g} minutes", "one step after minutes": "their last"}
    names = [long.get(name, name) for name in found]
    lines = [["", *names]]
    for what, key, form in _SIDE_BY_SIDE:
        # The rig against itself is meaningless.
        cells = [
            "" if column.get(key) is None or (name == "rig" and key.startswith("psnr")) else form.format(column[key])
            for name, column in found.items()
        ]
        lines.append([what, *cells])
    return lines


def plain(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )  # fmt: skip


# The page ---------------------------------------------------------------------------------------------------------


def _markdown(lines: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A Markdown table whose first line is the header; number columns are right-aligned."""
    head, *rest = lines
    out = ["| " + " | ".join(head) + " |", "|---" + ("|--:" if numbers else "|---") * (len(head) - 1) + "|"]
    return "\n".join([*out, *("| " + " | ".join(line) + " |" for line in rest)])


_CAPTIONS = {
    "plosive": "A plosive between open vowels, frame by frame.",
    "mouth": "The mouth in these frames, enlarged three times.",
    "blink": "A blink.",
    "after_plosive": "A plosive in the last 20 seconds of the long run.",
    "after_mouth": "The mouth in these frames, enlarged three times.",
    "after_blink": "A blink in the last 20 seconds of the long run.",
}


def order(path: Path) -> tuple[bool, str, int]:
    """Sort key that groups strips by passage, with those of the long run last."""
    name, number = path.stem.rsplit("_", 1)
    return name.startswith("after_"), number, list(_CAPTIONS).index(name) if name in _CAPTIONS else len(_CAPTIONS)


_VARIANT = ("", "PCC truth", "PCC curves", "closed", "PSNR to the rig", "of the mouth")


def _variant(row: Result) -> list[str]:
    """The cells under `_VARIANT`."""
    drawn = row["one step"]
    return [row["variant"], f"{drawn['pcc_truth']:.3f}", f"{drawn['pcc_curves']:.3f}", share(drawn["closures_held"]),
            f"{drawn['psnr']:.2f}", f"{drawn['psnr_mouth']:.2f}"]  # fmt: skip


def _of(part: Result) -> str:
    """A note if a part was measured with other weights."""
    return f" Measured with earlier weights, `{part['of'][:12]}`." if "of" in part else ""


def page(result: Result, strips: Sequence[str]) -> str:
    """The text of docs/quality.md. strips: paths of pictures relative to it, e.g. quality/plosive_1.jpg."""
    lines = rows(result)
    missed = [line.what for line in lines if line.met is False]
    about = result["hardware"]
    parts = [
        "# Quality of the neural generator",
        "Generated by `python -m benchmarks.quality.neural --docs` from `benchmarks/results/quality.json`; the "
        "measurement is in `benchmarks/quality/`. Characters and speakers are held out: no network was trained on "
        "them.",
        f"Last measured on {hardware.line(about)} (the processor of each part is listed below), at commit "
        f"{about['commit']}, with the weights `{result['weights']['sha256'][:12]}` ({result['weights']['preset']}).",
        "**All measured targets are met.**" if not missed else f"**Missed: {'; '.join(missed)}.**",
        _markdown([["", "target", "result", "measured over", ""],
                   *([line.what, line.aim, line.reached, line.n, line.verdict] for line in lines)], numbers=False),
        "The live rows come from `benchmarks/results/mic_to_photon.json`, measured by "
        "`benchmarks/latency/mic_to_photon.py`. The model card describes how the teacher was trained. The frames of "
        "all other rows were drawn by PyTorch, in the precision given below. A server uses OpenVINO where it is "
        "faster; its frames differ from float32's by at most 0.1 of 255 levels, as PyTorch's do "
        "(`benchmarks/results/engines.json`).",
    ]  # fmt: skip
    if columns(result):
        parts += [
            "## Side by side",
            "A small network, trained on the rig's drawings, reads the lips from the frames. The column *rig* has its "
            "results on the rig's own frames, which include its error. The rig's lips cannot follow the phones better "
            "than the curves from the articulation network. *Autoencoder*: the rig's frames, encoded and decoded; the "
            "upper limit for a generator on these latents. *Autoencoder* and *teacher* cover only the first passages; "
            "the last columns are the long run without a break.",
            _markdown(side_by_side(result)),
        ]
        error = result["lips"]["reader"] if "lips" in result else {}
        if error:
            parts.append(
                f"The lip reader's error on {error['frames']} drawn frames of {error['characters']} held-out "
                f"characters: PCC {error['lips_pcc']:.3f}, mean error {error['lips_mae']:.3f} of the maximum opening. "
                f"It classifies {share(error['closed_called_closed'])} of {error['closed_frames']} closed mouths and "
                f"{share(error['open_called_closed'])} of the open ones as closed. Blinks: {error['blinks_found']} of "
                f"{error['blinks']} found, {error['blinks_invented']} invented."
            )
    if larger := result.get("larger"):
        each = [
            [f"{name} at {larger['size']}²", f"{side['psnr']:.2f}", share(side["energy"])]
            for name, side in ((name, larger[name]) for name in ("drawn", "scaled"))
        ]
        parts += [
            "## Larger sessions",
            f"On the CPU, frames of {larger['size']}² are drawn from a picture of that size instead of being scaled up "
            f"from half the size; {larger['n']} frames, compared with the rig's at {larger['size']}².",
            _markdown([["one step", "PSNR", "gradient energy, share of the rig's"], *each]),
        ]
    if speakers := result.get("lips", {}).get("speakers"):
        keys = {
            "frames": ("n", "{:.0f}"),
            "PCC truth": ("pcc_truth", "{:.3f}"),
            "of the curves": ("pcc_truth_of_curves", "{:.3f}"),
            "PCC curves": ("pcc_curves", "{:.3f}"),
            "p, b, m": ("closures", "{:.0f}"),
            "closed": ("closures_held", "{:.1%}"),
            "closed in the curves": ("closures_held_by_curves", "{:.1%}"),
            "lag, ms": ("lag_truth_ms", "{:+.1f}"),
        }
        each = [
            [who, *(form.format(found["one step"][key]) for key, form in keys.values())]
            for who, found in speakers.items()
        ]
        parts += ["## Each speaker, one step", _markdown([["speaker", *keys], *each])]
    if speed := result.get("speed"):
        stages = ("transformer", "decoder", "rest")
        each = []
        for c in speed["configurations"]:
            took, split = c["whole_ms"], c["parts_p50_ms"]
            numbers = [took["p50"], took["p99"], *(split.get(name, float("nan")) for name in stages)]
            each.append(
                [engine(c), str(c["threads"]), c["dtype"], str(c["batch"]), *(f"{number:.1f}" for number in numbers)]
            )
        head = ["engine", "threads", "precision", "sessions", "p50, ms", "p99, ms", *stages]
        held = ", ".join(f"{name} {value:.1f} MB" for name, value in speed["memory_mb"].items())
        engines = f"Compiled: {speed['compiled']}, sessions drawn sequentially. " if "compiled" in speed else ""
        parts += ["## Cost of a step", _markdown([head, *each]), f"{engines}Memory: {held}."]
    if context := result.get("context"):
        each = [[*_variant(row), f"{row['idle']['motion'] / row['idle_rig']['motion']:.2f}"] for row in context["rows"]]
        parts += [
            "## Context and sink of the shipped weights",
            f"The same weights with other context lengths, in frames, or without attention to the picture's tokens; "
            f"{context['n']} frames; motion in silence as a share of the rig's. This does not show what training with "
            f"such a setting would achieve.{_of(context)}",
            _markdown([[*_VARIANT, "motion in silence"], *each]),
        ]
    if ablations := result.get("ablations"):
        each = [
            [*_variant(row), f"{row['drift']['static_psnr_change']:+.2f}", f"{row['minutes']:.1f}"]
            for row in ablations["variants"]
        ]
        parts += [
            "## Ablations",
            f"The shipped weights with one part changed, each fine-tuned for {ablations['steps_each']} steps of "
            f"{ablations['batch']}×{ablations['frames']} frames at {ablations['size']}² with the recipe's last stage "
            f"({ablations['cpu']}); {ablations['n']} frames. The first two rows differ only by chance."
            f"{_of(ablations)}",
            _markdown([[*_VARIANT, "static, end − start, dB", "core minutes"], *each]),
        ]
        if decoders := ablations.get("decoders"):
            each = [[row["variant"], f"{row['psnr']:.2f}", f"{row['psnr_mouth']:.2f}"] for row in decoders]
            parts += [
                f"Decoders: small autoencoders of 128², {ablations['autoencoder_steps']} steps from scratch, "
                f"{decoders[0]['n']} frames.",
                _markdown([["decoder", "PSNR", "of the mouth"], *each]),
            ]
    if strips:
        parts += [
            "## Frames",
            "Top: the rig, the ground truth. Bottom: one step, from one picture at rest. Full size, 40 ms apart.",
        ]
        for path in strips:
            name = Path(path).stem.rsplit("_", 1)[0]
            parts += [_CAPTIONS.get(name, name), f"![{name}]({path})"]
    if runs := result.get("parts"):
        each = [
            [name, str(run["commit"]), run["cpu"], f"{run['load']}", f"{run['seconds']:.0f} s", run["dtype"],
             str(run["threads"]), "a smoke test" if run["quick"] else ""]
            for name, run in runs.items()
        ]  # fmt: skip
        head = ["part", "commit", "processor", "load before", "duration", "precision", "threads", ""]
        parts += ["## Runs", _markdown([head, *each], numbers=False)]
    return "\n\n".join(parts) + "\n"
