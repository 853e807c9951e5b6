"""The quality benchmark's table and page. Pure: its JSON in, text out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lib import hardware
from benchmarks.lib.targets import RENDERERS

Result = dict[str, Any]

COLUMNS = ("rig", "autoencoder", "teacher", "one step", "all minutes", "one step after minutes")


@dataclass(frozen=True)
class Row:
    """A promise and what became of it. `met`: None where it was not measured."""

    what: str
    aim: str
    reached: str
    met: bool | None
    n: str = ""

    @property
    def verdict(self) -> str:
        return {True: "ok", False: "MISSED", None: "not measured"}[self.met]


def _share(value: float) -> str:
    return f"{value:.1%}"


def rows(result: Result) -> list[Row]:
    """Every line of what the generator must reach, measured or not."""
    return [
        *_lips_rows(result),
        *_drift_rows(result.get("drift")),
        *_onset_rows(result.get("onset")),
        *_identity_rows(result.get("identity")),
        *_idle_rows(result.get("idle")),
        *_autoencoder_rows(result.get("autoencoder")),
        *_speed_rows(result.get("speed")),
        *_live_rows(result.get("live")),
    ]


def _missing(*pairs: tuple[str, str]) -> list[Row]:
    return [Row(what, aim, "", None) for what, aim in pairs]


def _lips_rows(result: Result) -> list[Row]:
    aims = (
        ("lips against the phones' truth, PCC", "≥ 0.75"),
        ("lips against the curves that drove them, PCC", "≥ 0.93"),
        ("p, b, m closed", "≥ 85 %"),
        ("lag to the truth", "within ± 15 ms"),
    )
    taught = (
        ("one step against the teacher, same noise: lip PCC", "within 0.03"),
        ("one step against the teacher: gradient energy", "≥ 95 %"),
    )
    lips = result.get("lips")
    if lips is None:
        return _missing(*aims, *taught)
    one = lips["columns"]["one step"]
    frames = f"{one['n']} frames"
    values = (
        (f"{one['pcc_truth']:.3f} (the curves: {one['pcc_truth_of_curves']:.3f})", one["pcc_truth"] >= 0.75, frames),
        (f"{one['pcc_curves']:.3f}", one["pcc_curves"] >= 0.93, frames),
        (
            f"{_share(one['closures_held'])} (the curves: {_share(one['closures_held_by_curves'])}); "
            f"{_share(one['falsely_closed'] or 0)} of the open ones, too",
            one["closures_held"] >= 0.85,
            f"{one['closures']} closures",
        ),
        (
            f"{one['lag_truth_ms']:+.1f} ms (to the curves {one['lag_curves_ms']:+.1f})",
            abs(one["lag_truth_ms"]) <= 15,
            frames,
        ),
    )
    out = [Row(what, aim, *value) for (what, aim), value in zip(aims, values, strict=True)]
    loss = lips.get("one step against teacher")
    if loss is None:
        return [*out, *_missing(*taught)]
    return [
        *out,
        Row(*taught[0], f"{loss['pcc_difference']:+.3f}", loss["pcc_difference"] >= -0.03, f"{loss['n']} frames"),
        Row(
            *taught[1],
            f"{_share(loss['sharpness_whole'])} whole, {_share(loss['sharpness_mouth'])} mouth",
            loss["sharpness"] >= 0.95,
            f"{loss['n']} frames",
        ),
    ]


def _drift_rows(drift: Result | None) -> list[Row]:
    aims = (
        ("10 minutes: static places, last minute against the same minute at first", "within 0.3 dB"),
        ("10 minutes: slope of colour (Lab), the worst of six", "< 0.05 a minute"),
        ("10 minutes: freezes", "0"),
        ("10 minutes: blinks", "8 to 30 a minute"),
    )
    if drift is None:
        return _missing(*aims)
    runs = drift["runs"]
    sides = [run["sides"]["one step"] for run in runs]
    long = min(run["minutes"] for run in runs)
    n = f"{len(runs)} × {long:g} min"
    side = max(sides, key=lambda each: abs(each["static_psnr_change"]))
    worst, error = max(
        (abs(slope["slope"]), slope["standard_error"])
        for each in sides
        for slope in each["lab_slopes_per_minute"].values()
    )
    frozen = sum(each["freezes"] for each in sides)
    blinks = sorted(each["blinks_per_minute"] for each in sides)
    change = side["static_psnr_change"]
    values = (
        (
            f"{change:+.2f} dB ({side['static_psnr_first_minute']:.1f} → {side['static_psnr_last_minute']:.1f} dB)",
            abs(change) <= 0.3,
        ),
        (f"{worst:.4f} ± {error:.4f}", worst < 0.05),
        (f"{frozen}", frozen == 0),
        (" to ".join(dict.fromkeys(f"{each:.1f}" for each in (blinks[0], blinks[-1]))),
         blinks[0] >= 8 and blinks[-1] <= 30),
    )  # fmt: skip
    # A shorter run says nothing about ten minutes, but that it froze.
    return [
        Row(what, aim, reached, met if long >= 10 or (what.endswith("freezes") and frozen) else None, n)
        for (what, aim), (reached, met) in zip(aims, values, strict=True)
    ]


def _onset_rows(onset: Result | None) -> list[Row]:
    aims = (
        ("silence → speech: first open mouth, beyond the steady lag, to truth (median)", "≤ 1 frame"),
        ("the same to the curves: onsets within one frame", "≥ 90 %"),
    )
    if onset is None:
        return _missing(*aims)
    to_truth, to_curves = onset["one step"]["truth"], onset["one step"]["curves"]
    median = to_truth["median_beyond_steady"]
    within = to_curves["within_one_frame"]
    return [
        Row(
            *aims[0],
            "never opened" if median is None else f"{median:+.2f} frames",
            median is not None and median <= 1,
            f"{to_truth['n']} onsets",
        ),
        Row(
            *aims[1],
            "no onset" if within is None else _share(within),
            within is not None and within >= 0.9,
            f"{to_curves['n']} onsets",
        ),
    ]


def _identity_rows(identity: Result | None) -> list[Row]:
    aim = ("identity: nearest to its own picture among 100 characters", "≥ 99 %")
    if identity is None:
        return _missing(aim)
    met = identity["nearest_is_own"] >= 0.99
    return [
        Row(
            *aim,
            f"{_share(identity['nearest_is_own'])} (the rig's frames: {_share(identity['descriptor_on_rig'])})",
            met if identity["characters"] >= 100 or not met else None,
            f"{identity['n']} frames of {identity['characters']}",
        )
    ]


def _idle_rows(idle: Result | None) -> list[Row]:
    aim = ("20 s of silence: breathes, blinks, mouth shut", "motion follows the rig's, blinks > 0")
    if idle is None:
        return _missing(aim)
    mine, rig = idle["sides"]["one step"], idle["sides"]["rig"]
    alive = mine["motion"] > mine["flicker"] and mine["life"] > 0.5 and mine["blinks"] > 0 and mine["freezes"] == 0
    return [
        Row(
            *aim,
            f"motion {mine['motion']:.2f} (rig {rig['motion']:.2f}), flicker {mine['flicker']:.2f}, follows "
            f"{mine['life']:.2f}, {mine['blinks']:.1f} of {mine['blinks_drawn']:.1f} blinks, "
            f"open {_share(mine['mouth_open'])}",
            alive and mine["mouth_open"] < 0.05,
            f"{idle['n']} frames",
        )
    ]


def _autoencoder_rows(found: Result | None) -> list[Row]:
    aims = (
        ("autoencoder alone, whole frame", "≥ 31 dB"),
        ("autoencoder alone, mouth", "≥ 26 dB"),
        ("autoencoder alone, ST-LPIPS", "reported"),
    )
    if found is None:
        return _missing(*aims)
    n, distance = f"{found['n']} frames", found["st_lpips"]
    best = found["best_latents"]
    copied = (
        f"(the picture merely copied: {found['psnr_copied']:.1f}; {best['n']} frames with the best latents that "
        f"gradient descent finds: {best['psnr_whole']:.1f}, with the encoder's: {best['psnr_whole_of_encoder']:.1f})"
    )
    return [
        Row(*aims[0], f"{found['psnr_whole']:.2f} dB {copied}", found["psnr_whole"] >= 31, n),
        Row(
            *aims[1],
            f"{found['psnr_mouth']:.2f} dB (copied: {found['psnr_copied_mouth']:.1f}); eyes {found['psnr_eyes']:.2f}",
            found["psnr_mouth"] >= 26,
            n,
        ),
        Row(*aims[2], "" if distance is None else f"{distance:.4f}", None if distance is None else True, n),
    ]


def _speed_rows(speed: Result | None) -> list[Row]:
    aims = (("a step of one session, mean (30 % headroom)", "≤ 28 ms"), ("a step of one session, p99", "≤ 40 ms"))
    if speed is None:
        return _missing(*aims)
    single = [c for c in speed["configurations"] if c["batch"] == 1]
    best = min(single, key=lambda c: c["whole_ms"]["p50"])
    how = f"{_engine(best)}, {best['dtype']}, {best['threads']} thread{'s' * (best['threads'] > 1)}"
    took, n = best["whole_ms"], f"{best['n']} steps"
    return [
        Row(*aims[0], f"{took['mean']:.1f} ms ({how})", took["mean"] <= 28, n),
        Row(*aims[1], f"{took['p99']:.1f} ms", took["p99"] <= 40, n),
    ]


def _live_rows(live: Result | None) -> list[Row]:
    """Of a report of `mic_to_photon.py`: server and browser on the same cores, echo cancellation on."""
    limits, rate = RENDERERS["neural"].latency(), RENDERERS["neural"].frame_rate()
    aims = [(f"live beside a browser: mic-to-photon {name}", limit.text) for name, limit in limits.items()]
    whole = ("live beside a browser: frames a second", rate.text)
    told = [each for each in (live or {}).get("configurations", ()) if each["echo_cancellation"]]
    if live is None or not told:
        return _missing(*aims, whole)
    numbers, settings = told[0]["median"], live["settings"]
    n = f"{settings['runs']} × {settings['seconds']:.0f} s, {live['hardware']['cpu']}"
    total, fps = numbers["total_ms"], numbers["display"]["fps"]
    return [
        *(
            Row(*aim, f"{total[name]:.0f} ms", limits[name].met(total[name]), n)
            for aim, name in zip(aims, limits, strict=True)
        ),
        Row(*whole, f"{fps:.1f}", rate.met(fps), n),
    ]


def _engine(configuration: Result) -> str:
    return configuration.get("engine", "torch")  # results of before there were two do not say


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
        # The rig against itself says nothing.
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
    """A table whose first line is its head; columns of numbers stand flush right."""
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
    return [row["variant"], f"{drawn['pcc_truth']:.3f}", f"{drawn['pcc_curves']:.3f}", _share(drawn["closures_held"]),
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
                f"{error['closed_frames']} closed mouths it calls {_share(error['closed_called_closed'])} closed, of "
                f"the open ones {_share(error['open_called_closed'])}. Blinks: {error['blinks_found']} of "
                f"{error['blinks']} found, {error['blinks_invented']} invented."
            )
    if larger := result.get("larger"):
        each = [
            [f"{name} at {larger['size']}²", f"{side['psnr']:.2f}", _share(side["energy"])]
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
                [_engine(c), str(c["threads"]), c["dtype"], str(c["batch"]), *(f"{number:.1f}" for number in numbers)]
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
