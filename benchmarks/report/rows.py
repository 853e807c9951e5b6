"""The report's table: each result beside its target and verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lib import targets
from benchmarks.lib.targets import promised, renderer_of
from benchmarks.quality.rows import rows as quality_rows

Results = dict[str, dict[str, Any]]

TITLES = {
    "mic_to_photon": "Microphone to screen",
    "two_sessions": "Two users at once",
    "soak": "One long session",
    "outlets": "Recording and publishing",
    "faulty_path": "Bad network between browser and server",
    "network_faults": "Jitter buffer alone, simulated networks",
    "studio": "Drawing by the studio's rig",
    "quality": "Frames of the neural generator",
}
"""Of the benchmarks in the order of the table."""


@dataclass(frozen=True)
class Row:
    """A line of the table. `met`: None where nothing was promised, or nothing measured."""

    group: str
    what: str
    value: str
    target: str = ""
    met: bool | None = None
    measured: bool = True

    @property
    def verdict(self) -> str:
        if not self.measured:
            return "not measured"
        return {True: "met", False: "missed", None: "no target"}[self.met]


def rows_of(results: Results) -> list[Row]:
    """Every result's lines; of one that could not be measured a line with the reason."""
    readers: dict[str, Callable[[dict[str, Any]], list[Row]]] = {
        "mic_to_photon": _latency_rows,
        "two_sessions": _sessions_rows,
        "soak": _soak_rows,
        "outlets": _outputs_rows,
        "faulty_path": _path_rows,
        "network_faults": _jitter_buffer_rows,
        "studio": _drawing_rows,
        "quality": _quality_rows,
    }
    rows: list[Row] = []
    for name, title in TITLES.items():
        report = results.get(name)
        if report is None:
            continue
        if reason := report.get("not_measured"):
            rows.append(Row(title, "all of it", f"not measured: {reason}", measured=False))
        else:
            rows += readers[name](report)
    return rows


def drawn_by(report: dict[str, Any]) -> str:
    """E.g. "studio rig at 512×512"."""
    size = report.get("settings", {}).get("size")
    found = renderer_of(report) or "unknown renderer"
    name = {"neural": "neural generator", "still": "still picture"}.get(found, found.replace("_", " "))
    return f"{name} at {size}×{size}" if size else name


def _latency_rows(report: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for configuration in report["configurations"]:
        on = configuration["echo_cancellation"]
        group = f"{TITLES['mic_to_photon']}: {drawn_by(report)}, echo cancellation {'on' if on else 'off'}"
        rows += _configuration_rows(group, configuration, promised(report))
    for failed in report.get("failed_runs", []):
        on = failed["echo_cancellation"]
        group = f"{TITLES['mic_to_photon']}: {drawn_by(report)}, echo cancellation {'on' if on else 'off'}"
        rows.append(Row(group, f"run {failed['run']}", f"not measured: {failed['why']}", measured=False))
    if check := report.get("pixel_check"):
        group, what = "Check of the measurement", "mouth in the pixels against the sound"
        if reason := check.get("not_measured"):
            rows.append(Row(group, what, f"not measured: {reason}", measured=False))
        else:
            rows.append(
                Row(
                    group,
                    what,
                    f"{check['lag_ms']:+.0f} ms (correlation {check['correlation']:.2f})",
                    f"within ±{targets.SKEW_MS:g} ms",
                    abs(check["lag_ms"]) <= targets.SKEW_MS,
                )
            )
    return rows


def _configuration_rows(
    group: str, configuration: dict[str, Any], renderer: targets.RendererTargets | None
) -> list[Row]:
    numbers = configuration["median"]
    total, display = numbers["total_ms"], numbers["display"]
    rows: list[Row] = []
    limits = renderer.latency() if renderer else {}
    for name, text in (("p50", "median"), ("p95", "95th percentile"), ("p99", "99th percentile")):
        limit = limits.get(name)
        rows.append(
            Row(
                group,
                f"mic-to-photon {name} ({text})",
                f"{total[name]:.1f} ms",
                limit.text if limit else "",
                limit.met(total[name]) if limit else None,
            )
        )
    first = numbers["first_frame_ms"]
    rows.append(
        Row(
            group,
            "first frame after the click",
            f"{first:.0f} ms",
            targets.FIRST_FRAME.text,
            targets.FIRST_FRAME.met(first),
        )
    )
    if skew := numbers.get("av_skew_ms"):
        share = skew["within_40"]
        rows.append(
            Row(
                group,
                "A/V skew (+: sound is late)",
                f"{skew['p50']:+.1f} ms ({skew['p5']:+.0f} to {skew['p95']:+.0f}), {share:.1%} within ±40",
                "95 % of frames within ±40 ms",
                targets.IN_SYNC.met(share),
            )
        )
    rate = renderer.frame_rate() if renderer else None
    rows.append(
        Row(
            group,
            "frames a second",
            f"{display['fps']:.2f}; {display['not_seen']:.0f} of {display['expected']:.0f} never shown, "
            f"{display['freezes']:.0f} freezes",
            rate.text if rate else "",
            rate.met(display["fps"]) if rate else None,
        )
    )
    wrong = display["misread"] + display["older_in_pixels"]
    rows.append(Row(group, "displayed frames whose pixels carry another number", f"{wrong:.0f}", "0", wrong == 0))
    onset, calm = numbers["onset_ms"].get("after_silence"), numbers["onset_ms"].get("in_speech")
    if onset and calm:
        rows.append(
            Row(
                group,
                "median at speech onsets / in running speech",
                f"{onset['p50']:.1f} / {calm['p50']:.1f} ms",
                f"at most {targets.ONSET_PENALTY_MS:g} ms later at onsets",
                onset["p50"] <= calm["p50"] + targets.ONSET_PENALTY_MS,
            )
        )
    if cut := numbers.get("interrupt_ms"):
        limit = targets.interrupt(numbers)
        rows.append(
            Row(
                group,
                "interrupt to its first frame",
                f"{cut['median']:.0f} ms, at most {cut['longest']:.0f}",
                f"{limit.text} ({targets.INTERRUPT_MS:g} plus transport)",
                limit.met(cut["longest"]),
            )
        )
    if failed := [text for run in configuration["runs"] for text in run.get("failed_attempts", [])]:
        rows.append(Row(group, "attempts that were repeated", f"{len(failed)}: {'; '.join(failed)}"))
    cpu, memory = numbers["cpu_percent"], numbers["memory_mb"]
    rows.append(
        Row(
            group,
            "CPU and memory, server / Chromium",
            f"{cpu['server']:.0f} % / {cpu['chromium']:.0f} % of a core; "
            f"{memory['server']:.0f} / {memory['chromium']:.0f} MB",
        )
    )
    return rows


def _sessions_rows(report: dict[str, Any]) -> list[Row]:
    rows = []
    limit = targets.TWO_SESSIONS
    for configuration in report["configurations"]:
        for run in configuration["runs"]:
            for number, session in enumerate(run, 1):
                if "refused" in session:
                    text = f"refused: {session['refused']}"
                    rows.append(Row(TITLES["two_sessions"], f"session {number}", text, "or refused", True))
                    continue
                fps, total = session["display"]["fps"], session["total_ms"]
                text = (
                    f"{fps:.2f} frames a second; mic-to-photon {total['p50']:.0f} / {total['p95']:.0f} / "
                    f"{total['p99']:.0f} ms (p50 / p95 / p99)"
                )
                wanted = f"{limit.text} frames a second, or refused"
                rows.append(Row(TITLES["two_sessions"], f"session {number}", text, wanted, limit.met(fps)))
    return rows


def _soak_rows(report: dict[str, Any]) -> list[Row]:
    summary = report["summary"]
    group = f"{TITLES['soak']}: {report['settings']['minutes']:g} minutes, {drawn_by(report)}"
    rows = []
    if found := summary["latency_p50_slope_ms_per_hour"]:
        text = f"{found['slope']:+.2f} ± {found['confidence']:.2f} ms an hour"
        rows.append(Row(group, "growth of the median latency", text, "none beyond noise", summary["flat"]["latency"]))
    memory = summary["server_memory_mb"]
    text = f"{memory['first']:.0f} to {memory['last']:.0f} MB ({memory['change']:+.1%})"
    wanted = f"within {targets.FLAT_SHARE:.0%}"
    rows.append(Row(group, "memory of the server", text, wanted, summary["flat"]["memory"]))
    threads = summary["threads"]
    rows.append(
        Row(
            group,
            "threads of the server",
            f"{threads['first']} to {threads['last']}",
            "no more than at first",
            summary["flat"]["threads"],
        )
    )
    lost = summary["not_seen"] / max(1, summary["expected"])
    rows.append(Row(group, "frames never shown", f"{summary['not_seen']} of {summary['expected']} ({lost:.2%})"))
    if found := summary["audio_skew_slope_ms_per_hour"]:
        rows.append(Row(group, "drift of A/V skew", f"{found['slope']:+.2f} ± {found['confidence']:.2f} ms an hour"))
    if missing := report.get("windows_not_measured"):
        rows.append(
            Row(group, f"{len(missing)} stretches", f"not measured: {missing[0]['why']}", measured=False),
        )
    return rows


def _outputs_rows(report: dict[str, Any]) -> list[Row]:
    summary = report["summary"]
    group = f"{TITLES['outlets']}: {drawn_by(report)}"
    p50, cpu = summary["p50"], summary["cpu_percent"]
    limit = targets.OUTPUTS_COST_MS
    return [
        Row(
            group,
            "median latency with both / with neither",
            f"{p50['with']:.1f} / {p50['without']:.1f} ms ({p50['median_difference']:+.1f})",
            f"at most {limit:g} ms more",
            p50["median_difference"] <= limit,
        ),
        Row(group, "CPU with both / with neither", f"{cpu['with']:.0f} % / {cpu['without']:.0f} % of a core"),
    ]


def _path_rows(report: dict[str, Any]) -> list[Row]:
    group = f"{TITLES['faulty_path']}: {drawn_by(report)}"
    rows = []
    for row in report["phases"]:
        total = row["total_ms"]
        text = f"{total['p50']:.0f} / {total['p95']:.0f} / {total['p99']:.0f} ms, " if total else ""
        text += f"{row['fps']:.1f} frames a second, longest gap {row['longest_gap_ms']:.0f} ms"
        rows.append(Row(group, f"{row['phase']} (p50 / p95 / p99)", text))
    stall = report["after_stall"]
    back = stall["back_after_s"]
    text = f"after {back:g} s" if back is not None else "never"
    text += f"; {stall['lasting_ms']:+.1f} ms at the end"
    met = back is not None and back <= targets.RECOVERY_S and stall["lasting_ms"] <= targets.LASTING_MS
    wanted = f"within {targets.RECOVERY_S:g} s, at most {targets.LASTING_MS:g} ms more at the end"
    rows.append(Row(group, "latency is back after the stall", text, wanted, met))
    return rows


def _jitter_buffer_rows(report: dict[str, Any]) -> list[Row]:
    rows = []
    for row in report["rows"]:
        if row["receiver"] != "lipstream":
            continue
        added, stall = row["added_ms"], row.get("after_stall")
        text = f"{added['p50']:g} / {added['p95']:g} / {added['p99']:g} ms added, growth {row['growth_ms']:g} ms"
        wanted, met = "no growth", row["growth_ms"] <= targets.JITTER_BUFFER_GROWTH_MS
        if stall:
            back = stall["back_after_s"]
            text += ", back after " + (f"{back:g} s" if back is not None else "never")
            wanted = f"back within {targets.RECOVERY_S:g} s, no growth"
            met = met and back is not None and back <= targets.RECOVERY_S
        rows.append(Row(TITLES["network_faults"], row["path"]["name"], text, wanted, met))
    return rows


def _drawing_rows(report: dict[str, Any]) -> list[Row]:
    rows = []
    for what, key in (("a frame", "draw"), ("a frame with ground truth", "draw_with_truth")):
        for size, cost in report.get(key, {}).items():
            rate = cost["frames_per_second_two_processes"]
            limit = targets.DRAWING_WITH_TRUTH if key == "draw_with_truth" and size == "256" else None
            rows.append(
                Row(
                    TITLES["studio"],
                    f"{what}, {size}×{size}",
                    f"{cost['median_ms']:.1f} ms (p95 {cost['p95_ms']:.1f}); {rate:.0f} frames/s in two processes",
                    limit.text if limit else "",
                    limit.met(rate) if limit else None,
                )
            )
    return rows


def _quality_rows(report: dict[str, Any]) -> list[Row]:
    return [
        Row(TITLES["quality"], row.what, row.reached or "not measured", row.aim, row.met, bool(row.reached))
        for row in quality_rows(report)
    ]


def summary(rows: Sequence[Row]) -> str:
    """E.g. "41 of 44 targets met, 3 missed, 2 rows not measured"."""
    judged = [row for row in rows if row.met is not None]
    missed, lacking = sum(not row.met for row in judged), sum(not row.measured for row in rows)
    text = f"{len(judged) - missed} of {len(judged)} targets met"
    if missed:
        text += f", {missed} missed"
    if lacking:
        text += f", {lacking} row{'s' * (lacking != 1)} not measured"
    return text


def busy(results: Results) -> str | None:
    """A sentence where the machine had other work while it was measured, so that tails show that work."""
    cores = max(
        (report.get("hardware", {}).get("cores", {}).get("usable", 1) for report in results.values()), default=1
    )
    highest = max((load for report in results.values() for load in _loads(report)), default=0.0)
    if highest <= 1.5 * cores:
        return None
    return (
        f"The machine was busy while this was measured: load average up to {highest:g} on {cores} core"
        f"{'s' * (cores != 1)}. Latencies, frame rates and memory then show the other work as well."
    )


def _cores(report: dict[str, Any]) -> int:
    """Cores that the benchmark could use; 1 where the report does not contain them."""
    cores = (report.get("hardware") or {}).get("cores", 1)
    return int(cores["usable"] if isinstance(cores, dict) else cores)


def _loads(value: Any, named: bool = False) -> list[float]:
    """Every load average in a report, wherever it is."""
    if isinstance(value, dict):
        return [x for key, v in value.items() for x in _loads(v, named or key.startswith("load"))]
    if isinstance(value, list):
        return [x for v in value if named or isinstance(v, dict | list) for x in _loads(v, named)]
    return [float(value)] if named and isinstance(value, int | float) else []


def as_text(rows: Sequence[Row]) -> str:
    """For a terminal: a line for each row with verdict, value and target."""
    out: list[str] = []
    group, width = None, 0
    for row in rows:
        if row.group != group:
            group = row.group
            width = min(60, max(len(other.what) for other in rows if other.group == group))
            out.append(f"\n{group}")
        line = f"  {row.verdict:12}  {row.what:{width}}  {row.value}"
        out.append(line + (f"   [target: {row.target}]" if row.target else ""))
    return "\n".join([*out, "", summary(rows) + "."]).lstrip("\n")
