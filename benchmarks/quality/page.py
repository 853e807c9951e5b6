"""The quality benchmark's table and page. Pure: its JSON in, text out."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.lib import hardware
from benchmarks.quality.rows import Result, Row, engine, rows, share

COLUMNS = ("rig", "autoencoder", "teacher", "one step", "all minutes", "one step after minutes")


def table(lines: Sequence[Row]) -> str:
    """For a terminal."""
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
    ("of them closed", "closures_held", "{:.1%}"),
    ("shut where it should be open", "falsely_closed", "{:.1%}"),
    ("lag to the truth, ms", "lag_truth_ms", "{:+.1f}"),
    ("lag to the curves, ms", "lag_curves_ms", "{:+.1f}"),
    ("blinks drawn", "blinks", "{:.0f}"),
    ("of them shown", "blinks_shown", "{:.0f}"),
    ("blinks invented", "blinks_invented", "{:.0f}"),
    ("PSNR to the rig, dB", "psnr", "{:.2f}"),
    ("of the mouth", "psnr_mouth", "{:.2f}"),
    ("of the eyes", "psnr_eyes", "{:.2f}"),
    ("gradient energy", "gradient_energy", "{:.1f}"),
    ("of the mouth", "gradient_energy_mouth", "{:.1f}"),
)


def columns(result: Result) -> dict[str, Result]:
    """What is set side by side, as far as it was measured."""
    out = dict(result.get("lips", {}).get("columns", {}))
    runs = result.get("drift", {}).get("runs", [])
    if runs:
        out["all minutes"] = runs[0]["all_minutes"]["one step"]
        out["one step after minutes"] = runs[0]["last_minute"]["one step"]
    return {name: out[name] for name in COLUMNS if name in out}


def side_by_side(result: Result) -> list[list[str]]:
    """Head and lines of the table that sets the generators beside each other."""
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
    """A table whose first line is its head; columns of numbers are right-aligned."""
    head, *rest = lines
    out = ["| " + " | ".join(head) + " |", "|---" + ("|--:" if numbers else "|---") * (len(head) - 1) + "|"]
    return "\n".join([*out, *("| " + " | ".join(line) + " |" for line in rest)])


_CAPTIONS = {
    "plosive": "A plosive between open vowels, frame by frame.",
    "mouth": "The mouth in those frames, three times as large.",
    "blink": "A blink.",
    "after_plosive": "A plosive in the last 20 seconds of the long run.",
    "after_mouth": "The mouth in those frames, three times as large.",
    "after_blink": "A blink in the last 20 seconds of the long run.",
}


def order(path: Path) -> tuple[bool, str, int]:
    """Strips of one passage together, those of the long run last."""
    name, number = path.stem.rsplit("_", 1)
    return name.startswith("after_"), number, list(_CAPTIONS).index(name) if name in _CAPTIONS else len(_CAPTIONS)


_VARIANT = ("", "PCC truth", "PCC curves", "closed", "PSNR to the rig", "of the mouth")


def _variant(row: Result) -> list[str]:
    """The cells under `_VARIANT`."""
    drawn = row["one step"]
    return [row["variant"], f"{drawn['pcc_truth']:.3f}", f"{drawn['pcc_curves']:.3f}", share(drawn["closures_held"]),
            f"{drawn['psnr']:.2f}", f"{drawn['psnr_mouth']:.2f}"]  # fmt: skip


def _of(part: Result) -> str:
    """A part's other weights, where it was measured with those."""
    return f" Measured with the weights before these, `{part['of'][:12]}`." if "of" in part else ""


def page(result: Result, strips: Sequence[str]) -> str:
    """docs/quality.md. strips: paths of pictures beside the page, e.g. quality/plosive_1.jpg."""
    lines = rows(result)
    missed = [line.what for line in lines if line.met is False]
    about = result["hardware"]
    parts = [
        "# What the neural generator reaches",
        "Written by `python -m benchmarks.quality.neural --docs` from `benchmarks/results/quality.json`; the "
        "measurement itself is in `benchmarks/quality/`. Characters and speakers are held out: no network was trained "
        "on them.",
        f"Measured last on {hardware.line(about)} (each part's processor stands below), at commit {about['commit']}, "
        f"with the weights `{result['weights']['sha256'][:12]}` ({result['weights']['preset']}).",
        "**All that was measured is reached.**" if not missed else f"**Missed: {'; '.join(missed)}.**",
        _markdown([["", "aim", "reached", "over", ""],
                   *([line.what, line.aim, line.reached, line.n, line.verdict] for line in lines)], numbers=False),
        "The live rows are of `benchmarks/results/mic_to_photon.json`, measured by "
        "`benchmarks/latency/mic_to_photon.py`. The model card says how the "
        "teacher was trained. Other rows were drawn by PyTorch, in the precision given below; OpenVINO's frames, which "
        "a server shows where they are faster, lie within 0.1 of 255 levels of float32's, as PyTorch's do "
        "(`benchmarks/results/engines.json`).",
    ]  # fmt: skip
    if columns(result):
        parts += [
            "## Side by side",
            "Lips are read from the frames by a small network that was trained on the rig's drawings. What it reads in "
            "the rig's own frames is the column *rig*: its own error is in there. The rig's lips cannot follow the "
            "phones better than the curves that the articulation network hears. *Autoencoder*: the rig's frames, coded "
            "and given back, the best that a generator on its latents could show. "
            "*Autoencoder* and *teacher* have only the first passages; the last columns are the run without a break.",
            _markdown(side_by_side(result)),
        ]
        error = result["lips"]["reader"] if "lips" in result else {}
        if error:
            parts.append(
                f"The reader's error on {error['frames']} drawn frames of {error['characters']} characters held out: "
                f"PCC {error['lips_pcc']:.3f}, mean error {error['lips_mae']:.3f} of the widest opening; of "
                f"{error['closed_frames']} closed mouths it calls {share(error['closed_called_closed'])} closed, of "
                f"the open ones {share(error['open_called_closed'])}. Blinks: {error['blinks_found']} of "
                f"{error['blinks']} found, {error['blinks_invented']} invented."
            )
    if larger := result.get("larger"):
        each = [
            [f"{name} at {larger['size']}²", f"{side['psnr']:.2f}", share(side["energy"])]
            for name, side in ((name, larger[name]) for name in ("drawn", "scaled"))
        ]
        parts += [
            "## Larger sessions",
            f"On the CPU a frame of {larger['size']}² is drawn from a picture of that size, where it would else be "
            f"scaled up from half of it; {larger['n']} frames, against the rig's of {larger['size']}².",
            _markdown([["one step", "PSNR", "gradient energy, of the rig's"], *each]),
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
        engines = f"Compiled: {speed['compiled']}, sessions one after the other. " if "compiled" in speed else ""
        parts += ["## What a step costs", _markdown([head, *each]), f"{engines}Memory: {held}."]
    if context := result.get("context"):
        each = [[*_variant(row), f"{row['idle']['motion'] / row['idle_rig']['motion']:.2f}"] for row in context["rows"]]
        parts += [
            "## What the shipped weights need of their past",
            f"The same weights, told to look back on other numbers of frames, or not on the picture's tokens; "
            f"{context['n']} frames; motion in silence as a share of the rig's. What another training would make of "
            f"it, this does not say.{_of(context)}",
            _markdown([[*_VARIANT, "motion in silence"], *each]),
        ]
    if ablations := result.get("ablations"):
        each = [
            [*_variant(row), f"{row['drift']['static_psnr_change']:+.2f}", f"{row['minutes']:.1f}"]
            for row in ablations["variants"]
        ]
        parts += [
            "## What each part is worth",
            f"The shipped weights with one part changed, each tuned for {ablations['steps_each']} steps of "
            f"{ablations['batch']}×{ablations['frames']} frames at {ablations['size']}² by the recipe's last stage "
            f"({ablations['cpu']}); {ablations['n']} frames. The first two rows differ by chance alone."
            f"{_of(ablations)}",
            _markdown([[*_VARIANT, "static, end − start, dB", "minutes of a core"], *each]),
        ]
        if decoders := ablations.get("decoders"):
            each = [[row["variant"], f"{row['psnr']:.2f}", f"{row['psnr_mouth']:.2f}"] for row in decoders]
            parts += [
                f"Decoders: small autoencoders of 128², {ablations['autoencoder_steps']} steps from nothing, "
                f"{decoders[0]['n']} frames.",
                _markdown([["decoder", "PSNR", "of the mouth"], *each]),
            ]
    if strips:
        parts += [
            "## Frames",
            "Above the rig, the truth; below one step, from one picture at rest. Full size, 40 ms apart.",
        ]
        for path in strips:
            name = Path(path).stem.rsplit("_", 1)[0]
            parts += [_CAPTIONS.get(name, name), f"![{name}]({path})"]
    if runs := result.get("parts"):
        each = [
            [name, str(run["commit"]), run["cpu"], f"{run['load']}", f"{run['seconds']:.0f} s", run["dtype"],
             str(run["threads"]), "a trial, which proves little" if run["quick"] else ""]
            for name, run in runs.items()
        ]  # fmt: skip
        head = ["part", "commit", "processor", "load before", "took", "precision", "threads", ""]
        parts += ["## Runs", _markdown([head, *each], numbers=False)]
    return "\n\n".join(parts) + "\n"
