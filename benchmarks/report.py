"""All results as a table on the terminal and as one HTML page with plots that needs nothing else.

    python benchmarks/report.py benchmarks/results --out report.html

Pure but for `main`: results (benchmark name -> its JSON) in, text out. The page holds the results themselves, too.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import hardware
import quality_page
from targets import FRAMES_PER_SECOND, LATENCY, renderer_of

Results = dict[str, dict[str, Any]]

STAGES = {
    "processing": "the browser cleans the voice",
    "uplink": "packet, encoder, network, jitter buffer, decoder",
    "lookahead": "speech heard ahead",
    "wait": "until the generator takes it up",
    "draw": "articulation and drawing",
    "encode": "encoding",
    "send": "until the last packet leaves",
    "network": "until it is received",
    "display": "decoding, until given to the compositor",
}


@dataclass(frozen=True)
class Row:
    """A line of the table. `met`: None where nothing was promised."""

    group: str
    what: str
    value: str
    target: str = ""
    met: bool | None = None


# The table --------------------------------------------------------------------------------------------------------


def rows_of(results: Results) -> list[Row]:
    rows: list[Row] = []
    for name, read in (
        ("mic_to_photon", _latency_rows),
        ("two_sessions", _sessions_rows),
        ("soak", _soak_rows),
        ("faulty_path", _path_rows),
        ("network_faults", _faults_rows),
        ("studio", _studio_rows),
        ("quality", _quality_rows),
    ):
        if name in results:
            rows += read(results[name])
    return rows


def _latency_rows(report: dict[str, Any]) -> list[Row]:
    renderer, rows = renderer_of(report), []
    drawn_by = renderer.replace("_", " ")
    for configuration in report["configurations"]:
        group = f"{drawn_by}, echo cancellation {'on' if configuration['echo_cancellation'] else 'off'}"
        numbers = configuration["median"]
        total, display = numbers["total_ms"], numbers["display"]
        for name, limit in LATENCY[renderer].items():
            rows.append(
                Row(group, f"mic-to-photon {name}", f"{total[name]:.1f} ms", f"≤ {limit:g} ms", total[name] <= limit)
            )
        first = numbers["first_frame_ms"]
        rows.append(Row(group, "first frame after the click", f"{first:.0f} ms", "≤ 1000 ms", first <= 1000))
        if skew := numbers.get("av_skew_ms"):
            share = skew["within_40"]
            rows.append(
                Row(
                    group,
                    "A/V skew (sound late: +)",
                    f"{skew['p50']:+.1f} ms ({skew['p5']:+.0f} to {skew['p95']:+.0f}), {share:.1%} within ±40",
                    "95 % within ±40 ms",
                    share >= 0.95,
                )
            )
        rows.append(
            Row(
                group,
                "frames a second",
                f"{display['fps']:.2f}, {display['not_seen']:.0f} of {display['expected']:.0f} not seen, "
                f"{display['freezes']:.0f} freezes",
                f"≥ {FRAMES_PER_SECOND[renderer]:g}",
                display["fps"] >= FRAMES_PER_SECOND[renderer],
            )
        )
        wrong = display["misread"] + display["older_in_pixels"]
        rows.append(Row(group, "displayed pixels that name another frame", f"{wrong:.0f}", "0", wrong == 0))
        if onset := numbers["onset_ms"].get("after_silence"):
            calm = numbers["onset_ms"]["in_speech"]
            rows.append(
                Row(
                    group,
                    "at onsets after silence / in speech, p50",
                    f"{onset['p50']:.1f} / {calm['p50']:.1f} ms",
                    "no penalty",
                    onset["p50"] <= calm["p50"] + 5,
                )
            )
        if cut := numbers.get("interrupt_ms"):
            met = configuration["targets"].get("interrupt ≤ 80 ms plus transport")
            rows.append(
                Row(
                    group,
                    "interrupt to its first frame",
                    f"{cut['median']:.0f} ms, at most {cut['longest']:.0f}",
                    "≤ 80 ms + transport",
                    met,
                )
            )
        if failed := [text for run in configuration["runs"] for text in run.get("failed_attempts", [])]:
            rows.append(Row(group, "attempts that failed", f"{len(failed)}: {'; '.join(failed)}", "0", False))
        cpu, memory = numbers["cpu_percent"], numbers["memory_mb"]
        rows.append(
            Row(
                group,
                "server, Chromium",
                f"{cpu['server']:.0f} %, {cpu['chromium']:.0f} % of a core; "
                f"{memory['server']:.0f}, {memory['chromium']:.0f} MB",
            )
        )
    if check := report.get("pixel_check"):
        rows.append(
            Row(
                "check",
                "mouth in the pixels against the voice",
                f"{check['lag_ms']:+.0f} ms (correlation {check['correlation']:.2f})",
                "within ±40 ms",
                abs(check["lag_ms"]) <= 40,
            )
        )
    return rows


def _sessions_rows(report: dict[str, Any]) -> list[Row]:
    rows = []
    for configuration in report["configurations"]:
        for run in configuration["runs"]:
            for number, session in enumerate(run, 1):
                if "refused" in session:
                    rows.append(Row("two at once", f"session {number}", f"refused: {session['refused']}", "", True))
                    continue
                fps, total = session["display"]["fps"], session["total_ms"]
                text = f"{fps:.2f} fps, {total['p50']:.0f}/{total['p95']:.0f}/{total['p99']:.0f} ms"
                rows.append(Row("two at once", f"session {number}", text, "25 fps or refused", fps >= 24.75))
    return rows


def _soak_rows(report: dict[str, Any]) -> list[Row]:
    summary = report["summary"]
    group = f"soak, {report['settings']['minutes']:g} minutes"
    rows = []
    if found := summary["latency_p50_slope_ms_per_hour"]:
        text = f"{found['slope']:+.2f} ± {found['confidence']:.2f} ms an hour"
        rows.append(Row(group, "latency's slope", text, "0 within noise", summary["flat"]["latency"]))
    memory = summary["server_memory_mb"]
    text = f"{memory['first']:.0f} to {memory['last']:.0f} MB ({memory['change']:+.1%})"
    rows.append(Row(group, "server's memory", text, "flat within 5 %", summary["flat"]["memory"]))
    threads = summary["threads"]
    rows.append(
        Row(
            group,
            "server's threads",
            f"{threads['first']} to {threads['last']}",
            "none left",
            summary["flat"]["threads"],
        )
    )
    lost = summary["not_seen"] / max(1, summary["expected"])
    rows.append(Row(group, "frames not seen", f"{summary['not_seen']} of {summary['expected']} ({lost:.2%})"))
    if found := summary["audio_skew_slope_ms_per_hour"]:
        rows.append(Row(group, "A/V drift", f"{found['slope']:+.2f} ± {found['confidence']:.2f} ms an hour"))
    return rows


def _path_rows(report: dict[str, Any]) -> list[Row]:
    rows = []
    for row in report["phases"]:
        total = row["total_ms"]
        text = f"{total['p50']:.0f}/{total['p95']:.0f}/{total['p99']:.0f} ms, " if total else ""
        text += f"{row['fps']:.1f} fps, longest gap {row['longest_gap_ms']:.0f} ms"
        rows.append(Row("faulty path, browser to server and back", row["phase"], text))
    stall = report["after_stall"]
    back = stall["back_after_s"]
    text = f"{back:g} s" if back is not None else "never"
    text += f", {stall['lasting_ms']:+.1f} ms for good"
    met = back is not None and back <= 1 and stall["lasting_ms"] <= 10
    rows.append(Row(rows[0].group, "latency back after the stall", text, "within 1 s, no growth", met))
    return rows


def _faults_rows(report: dict[str, Any]) -> list[Row]:
    rows = []
    for row in report["rows"]:
        if row["receiver"] != "lipstream":
            continue
        added, stall = row["added_ms"], row.get("after_stall")
        text = f"{added['p50']:g}/{added['p95']:g}/{added['p99']:g} ms added, growth {row['growth_ms']:g} ms"
        target, met = "no growth", row["growth_ms"] <= 5
        if stall:
            back = stall["back_after_s"]
            text += ", back after " + (f"{back:g} s" if back is not None else "never")
            target, met = "back within 1 s, no growth", met and back is not None and back <= 1
        rows.append(Row("jitter buffer, simulated paths", row["path"]["name"], text, target, met))
    return rows


def _studio_rows(report: dict[str, Any]) -> list[Row]:
    rows = []
    for what, key in (("drawing", "draw"), ("drawing with truth", "draw_with_truth")):
        for size, cost in report.get(key, {}).items():
            rate = cost["frames_per_second_two_processes"]
            promised = key == "draw_with_truth" and size == "256"
            rows.append(
                Row(
                    "studio",
                    f"{what}, {size}×{size}",
                    f"{cost['median_ms']:.1f} ms a frame (p95 {cost['p95_ms']:.1f}), {rate:.0f} frames/s by two",
                    "≥ 200 frames/s" if promised else "",
                    rate >= 200 if promised else None,
                )
            )
    return rows


def _quality_rows(report: dict[str, Any]) -> list[Row]:
    return [Row("generator", row.what, row.reached, row.aim, row.met) for row in quality_page.rows(report)]


def as_text(rows: Sequence[Row]) -> str:
    """For a terminal."""
    out, group = [], None
    width = max((len(row.what) for row in rows), default=0)
    for row in rows:
        if row.group != group:
            group = row.group
            out.append(f"\n{group}")
        mark = {True: "ok  ", False: "MISS", None: "    "}[row.met]
        out.append(f"  {mark} {row.what:{width}}  {row.value}" + (f"   [{row.target}]" if row.target else ""))
    return "\n".join(out).lstrip("\n")


# Plots ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Values to pixels."""

    low: float
    high: float
    start: float
    end: float
    warp: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        low, high = self.warp(self.low), self.warp(self.high)
        inside = min(max(self.warp(value), low), high)
        return self.start + (inside - low) / ((high - low) or 1) * (self.end - self.start)


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round values between two, about so many."""
    step = 10 ** math.floor(math.log10(max(high - low, 1e-9) / about))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= about)
    first = math.ceil(low / step - 1e-9)
    return [round(first * step + i * step, 9) for i in range(int((high - first * step) / step + 1e-9) + 1)]


class Plot:
    """An SVG with axes. Coordinates given to the methods are values, not pixels."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        label: str,
        *,
        height: int = 260,
        xlabel: str = "",
        ylabel: str = "",
        yformat: str = "{:g}",
        width: int = 760,
    ) -> None:
        self.width, self.height = width, height
        self.x = Scale(*x, 52, width - 16)
        self.y = Scale(*y, height - 40, 30)
        self.parts: list[str] = []
        self._label = label
        for value in ticks(*y, 5):
            at = self.y(value)
            self.parts.append(f'<line class="grid" x1="52" x2="{width - 16}" y1="{at:.1f}" y2="{at:.1f}"/>')
            self.parts.append(
                f'<text class="tick" x="46" y="{at + 4:.1f}" text-anchor="end">{yformat.format(value)}</text>'
            )
        for value in ticks(*x, 9):
            at = self.x(value)
            self.parts.append(
                f'<text class="tick" x="{at:.1f}" y="{height - 22}" text-anchor="middle">{value:g}</text>'
            )
        self.parts.append(
            f'<text class="axis" x="{width - 16}" y="{height - 5}" text-anchor="end">{escape(xlabel)}</text>'
            f'<text class="axis" x="52" y="14">{escape(ylabel)}</text>'
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str) -> None:
        points = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        self.parts.append(f'<polyline class="curve {style}" points="{points}"/>')

    def dots(self, xs: Sequence[float], ys: Sequence[float], style: str) -> None:
        path = "".join(f"M{self.x(x):.1f} {self.y(y):.1f}h0" for x, y in zip(xs, ys, strict=True))
        self.parts.append(f'<path class="dots {style}" d="{path}"/>')

    def bar(self, x: tuple[float, float], y: tuple[float, float], style: str, title: str = "") -> None:
        left, right = self.x(x[0]), self.x(x[1])
        top, bottom = self.y(y[1]), self.y(y[0])
        self.parts.append(
            f'<rect class="{style}" x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0):.1f}" '
            f'height="{max(bottom - top, 0):.1f}"><title>{escape(title)}</title></rect>'
        )

    def mark(self, x: float, y: float, text: str, style: str = "target") -> None:
        at, up = self.x(x), self.y(y)
        self.parts.append(
            f'<path class="{style}" d="M{at:.1f} {up:.1f}l-5 -4v8z"/>'
            f'<text class="tick" x="{at + 5:.1f}" y="{up + 14:.1f}">{escape(text)}</text>'
        )

    def horizontal(self, y: float, style: str = "limit") -> None:
        at = self.y(y)
        self.parts.append(f'<line class="{style}" x1="52" x2="{self.width - 16}" y1="{at:.1f}" y2="{at:.1f}"/>')

    def text(self) -> str:
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self._label)}">'
            + "".join(self.parts)
            + "</svg>"
        )


def legend(entries: Sequence[tuple[str, str]]) -> str:
    return '<p class="legend">' + "".join(
        f'<span><i class="{style}"></i>{escape(text)}</span>' for style, text in entries
    ) + "</p>"  # fmt: skip


def _named(configuration: dict[str, Any]) -> tuple[str, str]:
    on = configuration["echo_cancellation"]
    return ("s1" if on else "s2"), f"echo cancellation {'on' if on else 'off'}"


def plot_distribution(report: dict[str, Any]) -> str:
    """The share of frames that were shown within so many milliseconds, against the targets."""
    values = {
        _named(c): sorted(v for run in c["runs"] for v in run["series"]["total"]) for c in report["configurations"]
    }
    high = max([170.0, *(v[int(0.995 * (len(v) - 1))] * 1.05 for v in values.values())])
    plot = Plot((0, min(high, 400)), (0, 100), "Share of frames by latency", xlabel="ms, mic to photon",
                ylabel="% of frames shown within", height=280)  # fmt: skip
    for (style, _), ordered in values.items():
        take = [int(i * (len(ordered) - 1) / 300) for i in range(301)]
        plot.line([ordered[i] for i in take], [100 * i / (len(ordered) - 1) for i in take], style)
    for limit, share in ((100, 50), (120, 95), (150, 99)):
        plot.mark(limit, share, f"{share} % by {limit}")
    return plot.text() + legend([*values, ("target", "target: the curve passes above")])


def plot_stages(report: dict[str, Any]) -> str:
    """Where the median frame's milliseconds go."""
    configurations = report["configurations"]
    sums = [sum(max(0, (c["median"]["stages_ms"].get(s) or {"p50": 0})["p50"]) for s in STAGES) for c in configurations]
    height = 64 + 44 * len(configurations)
    high = max([*sums, 20]) * 1.08
    plot = Plot((0, high), (0, len(configurations)), "Stages", xlabel="ms (medians of the stages)", height=height)
    plot.parts = [part for part in plot.parts if 'x="46"' not in part and "grid" not in part]
    for number, configuration in enumerate(configurations):
        at, base = 0.0, len(configurations) - number - 1
        for i, stage in enumerate(STAGES, 1):
            values = configuration["median"]["stages_ms"].get(stage)
            taken = max(0.0, values["p50"]) if values else 0.0
            title = f"{stage}: {values['p50']:g} / {values['p95']:g} / {values['p99']:g} ms" if values else stage
            plot.bar((at, at + taken), (base + 0.12, base + 0.66), f"c{i}", title)
            at += taken
        total = f"{_named(configuration)[1]}: {configuration['median']['total_ms']['p50']:.1f} ms"
        plot.parts.append(f'<text class="name" x="52" y="{plot.y(base + 0.72):.1f}">{total}</text>')
    return plot.text() + legend([(f"c{i}", f"{name}: {text}") for i, (name, text) in enumerate(STAGES.items(), 1)])


def plot_over_time(report: dict[str, Any], key: str, label: str, band: float | None = None) -> str:
    """Every run's frames, one dot each."""
    series = [(_named(c), run["series"]) for c in report["configurations"] for run in c["runs"]]
    known = sorted(v for _, s in series for v in s[key] if v is not None)
    if not known:
        return ""
    low, high = known[0], known[int(0.999 * (len(known) - 1))]
    low, high = (min(0, low), high * 1.15) if band is None else (min(-60, low - 5), max(60, high + 5))
    end = max(s["t"][-1] for _, s in series)
    plot = Plot((0, end), (low, high), label, xlabel="seconds into the run", ylabel=label, height=240)
    if band is not None:
        plot.bar((0, end), (-band, band), "band", f"±{band:g} ms")
        plot.horizontal(0)
    for (style, _), run in series:
        pairs = [(t, v) for t, v in zip(run["t"], run[key], strict=True) if v is not None]
        plot.dots([t for t, _ in pairs], [v for _, v in pairs], style)
    names = dict.fromkeys(name for name, _ in series)
    return plot.text() + legend([*names, *([("band", f"±{band:g} ms")] if band is not None else [])])


def plot_soak(report: dict[str, Any]) -> str:
    windows = report["windows"]
    minutes = [window["at"] / 60 for window in windows]
    p95 = [window["total_ms"]["p95"] for window in windows]
    top = Plot((0, minutes[-1] or 1), (0, max(*p95, 120) * 1.05), "Latency over the soak", xlabel="minutes",
               ylabel="ms, mic to photon, each minute", height=220)  # fmt: skip
    top.line(minutes, [window["total_ms"]["p50"] for window in windows], "s1")
    top.line(minutes, p95, "s2")
    memory = [window["memory_mb"]["server"] for window in windows]
    middle = sorted(memory)[len(memory) // 2]
    span = max(middle * 0.12, max(memory) - middle, middle - min(memory))
    bottom = Plot((0, minutes[-1] or 1), (middle - span, middle + span), "Server's memory", xlabel="minutes",
                  ylabel="MB, server", height=180, yformat="{:.0f}")  # fmt: skip
    bottom.bar((0, minutes[-1]), (middle * 0.95, middle * 1.05), "band", "±5 %")
    bottom.line(minutes, memory, "s1")
    return (
        top.text()
        + legend([("s1", "p50"), ("s2", "p95")])
        + bottom.text()
        + legend([("s1", "resident memory"), ("band", "±5 % of its median")])
    )


def plot_path(report: dict[str, Any]) -> str:
    """Latency frame by frame, the path's bad times shaded."""
    run = report["series"]
    high = sorted(run["total"])[int(0.995 * (len(run["total"]) - 1))] * 1.1
    plot = Plot((0, run["edges"][-1]), (0, max(high, 150)), "Latency over a faulty path", xlabel="seconds",
                ylabel="ms, mic to photon", height=260)  # fmt: skip
    for phase, begin, end in zip(report["phases"], run["edges"][:-1], run["edges"][1:], strict=True):
        if not phase["phase"].startswith(("clean", "after")):
            plot.bar((begin, end), (plot.y.low, plot.y.high), "band", phase["phase"])
            plot.parts.append(f'<text class="tick" x="{plot.x(begin) + 4:.1f}" y="42">{escape(phase["phase"])}</text>')
    plot.dots(run["t"], run["total"], "s1")
    return plot.text() + legend([("s1", "a frame"), ("band", "while the path is bad")])


def plot_faults(report: dict[str, Any]) -> str:
    """Added latency, median to 99 %, of both receivers on every path; logarithmic above 1 ms."""
    paths = list(dict.fromkeys(row["path"]["name"] for row in report["rows"]))
    styles = {name: f"s{i}" for i, name in enumerate(dict.fromkeys(row["receiver"] for row in report["rows"]), 1)}
    left, width, step = 190, 760, 26
    height = 40 + step * len(paths)
    x = Scale(0, 3000, left, width - 20, lambda value: math.log10(1 + max(value, 0)))
    parts = []
    for value in (0, 1, 3, 10, 30, 100, 300, 1000, 3000):
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="8" y2="{height - 28}"/>')
        parts.append(f'<text class="tick" x="{x(value):.1f}" y="{height - 12}" text-anchor="middle">{value}</text>')
    for i, path in enumerate(paths):
        y = 20 + step * i
        parts.append(f'<text class="name" x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(path)}</text>')
        for row in report["rows"]:
            if row["path"]["name"] == path:
                style, added = styles[row["receiver"]], row["added_ms"]
                at = y - 4 if style == "s1" else y + 4
                title = f"{row['receiver']}: {added['p50']:g} / {added['p95']:g} / {added['p99']:g} ms"
                from_, to = x(added["p50"]), x(added["p99"])
                parts.append(
                    f'<line class="span {style}" x1="{from_:.1f}" x2="{to:.1f}" y1="{at}" y2="{at}"/>'
                    f'<circle class="{style}" cx="{from_:.1f}" cy="{at}" r="4"><title>{escape(title)}</title></circle>'
                )
    svg = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Added latency by path">{"".join(parts)}</svg>'
    return svg + legend([(style, f"{name}: median (dot) to 99 %") for name, style in styles.items()])


# The page ---------------------------------------------------------------------------------------------------------


def as_html(results: Results) -> str:
    """One page, complete in itself."""
    rows = rows_of(results)
    missed = sum(row.met is False for row in rows)
    promised = sum(row.met is not None for row in rows)
    described = [report["hardware"] for report in results.values() if "hardware" in report]
    sections = [f'<div class="scroll">{_table(rows)}</div>']
    if report := results.get("mic_to_photon"):
        sections.append(_latency_section(report))
    if report := results.get("soak"):
        sections.append(
            f"<h2>{report['settings']['minutes']:g} minutes of one session</h2><figure>{plot_soak(report)}</figure>"
        )
    if report := results.get("faulty_path"):
        sections.append(
            "<h2>A bad network between browser and server</h2><p>The whole system, in real time: every datagram, both "
            "ways, goes through a relay that loses, delays, reorders or holds it.</p>"
            f"<figure>{plot_path(report)}</figure>"
        )
    if report := results.get("network_faults"):
        sections.append(
            "<h2>The microphone's jitter buffer alone</h2>"
            "<p>Real Opus packets through simulated paths, in virtual time: latency that the "
            "microphone's jitter buffer adds over the clean path, against aiortc's own buffer.</p>"
            f"<figure>{plot_faults(report)}<figcaption>Milliseconds, logarithmic above 1.</figcaption></figure>"
        )
    for name in sorted(results.keys() - {"mic_to_photon", "two_sessions", "soak", "faulty_path", "network_faults"}):
        sections.append(f"<h2>{escape(name.replace('_', ' ').capitalize())}</h2>{_plain(results[name])}")
    sections.append("<h2>How it was measured</h2>" + _inlined("method.html"))
    machine = _machine(described)
    embedded = json.dumps(results, separators=(",", ":")).replace("</", "<\\/")
    verdict = f"{promised - missed} of {promised} targets met" + (f", {missed} missed" if missed else "")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>lipstream: measured</title>'
        f"<style>{_inlined('report.css')}</style></head><body><main><h1>lipstream, measured</h1>"
        f'<p class="soft">{verdict}.</p>{machine}{_loads(results)}{"".join(sections)}'
        "<h2>The numbers themselves</h2><p>All results are in this page, as JSON, in the element "
        "<code>#results</code>.</p>"
        f'<script type="application/json" id="results">{embedded}</script></main></body></html>\n'
    )


def _inlined(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _table(rows: Sequence[Row]) -> str:
    out, group = [], None
    for row in rows:
        if row.group != group:
            group = row.group
            out.append(f'<tr class="group"><th colspan="4" scope="colgroup">{escape(group)}</th></tr>')
        verdict = {True: '<span class="met">✓ met</span>', False: '<span class="missed">✗ missed</span>', None: ""}[
            row.met
        ]
        out.append(
            f'<tr><th scope="row">{escape(row.what)}</th><td>{escape(row.value)}</td><td class="soft">'
            f"{escape(row.target)}</td><td>{verdict}</td></tr>"
        )
    return f"<table>{''.join(out)}</table>"


def _latency_section(report: dict[str, Any]) -> str:
    settings = report["settings"]
    head = "".join(f'<th class="n">{p}</th>' for p in ("p50", "p95", "p99"))
    tables = []
    for configuration in report["configurations"]:
        body = ""
        for stage, text in STAGES.items():
            values = configuration["median"]["stages_ms"].get(stage)
            cells = "".join(
                f'<td class="n">{values[p]:.1f}</td>' if values else "<td></td>" for p in ("p50", "p95", "p99")
            )
            body += f'<tr><th scope="row">{stage}</th><td class="soft">{text}</td>{cells}</tr>'
        total = configuration["median"]["total_ms"]
        cells = "".join(f'<td class="n"><b>{total[p]:.1f}</b></td>' for p in ("p50", "p95", "p99"))
        tables.append(
            f"<p><b>{_named(configuration)[1].capitalize()}</b>, ms</p>"
            f'<div class="scroll"><table><tr><th>stage</th><th></th>{head}</tr>{body}'
            f'<tr><th scope="row">total</th><td class="soft">measured end to end</td>{cells}</tr></table></div>'
        )
    return (
        f"<h2>Mic to photon</h2><p>{settings['size']}×{settings['size']} pixels, drawn by: "
        f"{renderer_of(report).replace('_', ' ')}, {settings['fps']} frames a second; "
        f"{settings['runs']} run{'s' * (settings['runs'] != 1)} of {settings['seconds']:g} s each, server and browser "
        "on this machine. Of several runs each number's median is given.</p>"
        f"<figure>{plot_distribution(report)}</figure><figure>{plot_stages(report)}</figure>{''.join(tables)}"
        f"<figure>{plot_over_time(report, 'total', 'ms, mic to photon')}"
        "<figcaption>Every run, frame by frame.</figcaption></figure>"
        f"<h2>Sound against picture</h2><figure>{plot_over_time(report, 'skew', 'ms, sound late: +', 40)}</figure>"
    )


def _plain(value: Any, depth: int = 0) -> str:
    """Any result as nested tables; long lists are left out."""
    if isinstance(value, dict):
        shown = {k: v for k, v in value.items() if k not in ("benchmark", "hardware") and not _long(v)}
        if depth > 3:
            return f"<code>{escape(json.dumps(shown))}</code>"
        cells = "".join(
            f'<tr><th scope="row">{escape(str(k))}</th><td>{_plain(v, depth + 1)}</td></tr>' for k, v in shown.items()
        )
        return f'<div class="scroll"><table>{cells}</table></div>'
    return escape(json.dumps(value) if isinstance(value, list) else str(value))


def _long(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 12


def _machine(described: Sequence[dict[str, Any]]) -> str:
    if not described:
        return ""
    first = next((d for d in described if d.get("browser")), described[0])
    if "cores" not in first:
        return ""
    packages = ", ".join(f"{name} {version}" for name, version in first.get("packages", {}).items())
    entries = {
        "machine": hardware.line(first),
        "software": f"Python {first['python']}, {first.get('browser') or 'no browser'}; {packages}",
        "commit": first.get("commit") or "unknown",
    }
    text = "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in entries.items())
    other = {d.get("commit") for d in described} - {first.get("commit")}
    more = "<p class='warn'>Not all of these results are of the same commit.</p>" if other else ""
    return f"<dl>{text}</dl>{more}"


def _loads(results: Results) -> str:
    """A measurement on a busy machine says so itself."""
    seen = [
        load
        for configuration in results.get("mic_to_photon", {}).get("configurations", [])
        for run in configuration["runs"]
        for load in run["loadavg"]
        if load is not None
    ]
    cores = results.get("mic_to_photon", {}).get("hardware", {}).get("cores", {}).get("usable", 1)
    if seen and max(seen) > 1.5 * cores:
        return (
            f'<p class="warn">The machine was busy while this was measured: load average up to {max(seen):g} on '
            f"{cores} cores. Tails and memory then say more about its other work than about lipstream.</p>"
        )
    return ""


def read(folder: Path) -> Results:
    """All results in a folder."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Benchmarks' results as a table and as one HTML page.")
    parser.add_argument("folder", type=Path, help="where the JSON lies")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in that folder)")
    options = parser.parse_args(arguments)
    results = read(options.folder)
    if not results:
        print(f"report: no results in {options.folder}", file=sys.stderr)
        return 1
    out = options.out or options.folder / "report.html"
    print(as_text(rows_of(results)))
    out.write_text(as_html(results), encoding="utf-8")
    print(f"\nreport: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
