"""The quality benchmark's table and page, from its JSON. Pure."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.lib import hardware
from benchmarks.quality.rows import FORMAT, Result, Row, rows, share

__all__ = ["COLUMNS", "FORMAT", "Row", "columns", "order", "page", "plain", "rows", "side_by_side", "table"]

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
    ("of shut lids", "psnr_shut_lids", "{:.2f}"),
    ("gradient energy, share of the rig's", "energy_share", "{:.1%}"),
    ("of the mouth", "energy_share_mouth", "{:.1%}"),
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
    "mouth": "The mouth in these frames, enlarged twice.",
    "blink": "A blink.",
    "worst": "The worst cases: the frame with the lowest PSNR of the mouth in each of five passages.",
    "after_plosive": "A plosive in the last 20 seconds of the long run.",
    "after_mouth": "The mouth in these frames, enlarged twice.",
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


_FIDELITY = (
    ("PSNR, dB", "psnr", "{:.2f}"),
    ("of the mouth", "psnr_mouth", "{:.2f}"),
    ("of the eyes", "psnr_eyes", "{:.2f}"),
    ("of shut lids", "psnr_shut_lids", "{:.2f}"),
    ("gradient energy, share of the true frames'", "energy_share", "{:.1%}"),
    ("of the mouth", "energy_share_mouth", "{:.1%}"),
)
_LIPS = (("lips to the curves, PCC", "pcc_curves", "{:.3f}"), ("lag to the curves, ms", "lag_curves_ms", "{:+.1f}"))


def _line(what: str, key: str, form: str, sides: Sequence[Result]) -> list[str]:
    """A line of a table, with a cell for each side; empty where a side has no such number."""
    return [what, *("" if side.get(key) is None else form.format(side[key]) for side in sides)]


def _pair(columns: Result, key: str) -> str:
    """A number with each number of references."""
    return " / ".join("–" if each.get(key) is None else f"{each[key]:.2f}" for each in columns.values())


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
        "All frames are measured at twice the networks' size (512² for `nano`), against the rig's of that size, whose "
        "loose parts swing, and drawn from the pictures that live sessions have: at rest, with shut eyes, with an "
        "open mouth. The live rows come from `benchmarks/results/mic_to_photon.json`, measured by "
        "`benchmarks/latency/mic_to_photon.py`. The frames of all rows but those of speed were drawn by PyTorch, in "
        "the precision given below. A server uses OpenVINO; how far its frames differ is in "
        "`benchmarks/results/engines.json`.",
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
    if found := result.get("autoencoder"):
        cells = [["", *(f"{count} reference{'s' * (count != '1')}" for count in found["references"]), "at rest"]]
        sides = [*found["references"].values(), found["still"]]
        cells += [_line(what, key, form, sides) for what, key, form in _FIDELITY]
        parts += [
            "## Autoencoder alone",
            f"Frames of {found['characters']} held-out characters at {found['size']}², encoded at half the size and "
            f"painted again; {found['n']} frames. Characters are cut out. *At rest*: the picture at rest is shown "
            "instead.",
            _markdown(cells),
        ]
    if sizes := result.get("sizes"):
        cells = [["", *(f"{row['size']}²" for row in sizes["rows"])]]
        cells += [_line(what, key, form, sizes["rows"]) for what, key, form in _FIDELITY]
        parts += ["## Other sizes", f"The same networks; {sizes['n']} frames, against the rig's of the same size.",
                  _markdown(cells)]  # fmt: skip
    if people := result.get("people"):
        parts.append("## Rendered people")
        if "skipped" in people:
            parts.append(f"Not measured: {people['skipped']}.")
        else:
            measured = people["columns"]
            cells = [["", *measured]]
            cells += [_line(what, key, form, list(measured.values()))
                      for what, key, form in (*_LIPS, *_FIDELITY)]  # fmt: skip
            parts += [
                f"{people['clips']} people on whom nothing was trained, {people['n']} frames at {people['size']}². "
                "Lips are read by the project's landmark network, also from the true frames.",
                _markdown(cells),
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
        stages = ("step", "paint", "compose", "patch", "finish", "rest")
        each = [
            [c["engine"], c["precision"], f"{c['size']}²", str(c["references"]),
             *(f"{number:.1f}" for number in (c["processor_ms"]["p50"], c["wall_ms"]["p50"])),
             *(f"{c['stages_ms'][name]:.1f}" for name in stages)]
            for c in speed["configurations"]
        ]  # fmt: skip
        head = ["engine", "precision", "frame", "references", "processor, ms", "clock, ms", *stages]
        missing = f" Not measured: {speed['missing']}." if speed.get("missing") else ""
        parts += [
            "## Cost of a frame",
            "Medians on one thread, with planes for the encoder; stages in milliseconds of processor time."
            f"{missing} Memory of the process: {speed['memory_mb']['process']:.0f} MB.",
            _markdown([head, *each]),
        ]
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
        kinds = [kind for kind in ("drawn", "drawn, noisy latents", "photographs") if kind in ablations["start"]]
        begun = {"variant": "before", "seed": "", **ablations["start"]}
        each = [
            [row["variant"], str(row["seed"]), *(_pair(row[kind], key) for kind in kinds
                                                 for key in ("psnr_mouth", "psnr_shut_lids"))]
            for row in (begun, *ablations["rows"])
        ]  # fmt: skip
        head = ["variant", "seed", *(f"{kind}: {what}" for kind in kinds for what in ("mouth", "shut lids"))]
        left = f" Not run: {', '.join(ablations['not_run'])}." if ablations["not_run"] else ""
        left += " No photographs were given." if ablations["photographs_missing"] else ""
        parts += [
            "## Ablations of the painter",
            f"The same checkpoint, tuned for {ablations['core_minutes_each']:g} core minutes each at "
            f"{ablations['size']}² with one part changed ({ablations['cpu']}). PSNR in dB of the autoencoder alone, "
            f"with one and with three references.{left}{_of(ablations)}",
            _markdown([head, *each]),
        ]
    if strips:
        parts += [
            "## Frames",
            "Top: the rig, the ground truth. Bottom: one step. Full size, 40 ms apart.",
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
