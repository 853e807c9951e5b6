"""The plots of the report: results in, SVG out."""

import math
from html import escape
from typing import Any

from benchmarks.lib.targets import promised
from benchmarks.report.svg import Plot, Scale, legend

STAGES = {
    "processing": "echo cancellation and noise suppression in the browser",
    "uplink": "packetization, encoder, network, jitter buffer, decoder",
    "lookahead": "speech that is heard ahead",
    "wait": "until the renderer takes the frame up",
    "draw": "articulation and drawing",
    "encode": "video encoding",
    "send": "until the last packet leaves the server",
    "network": "until the browser has received it",
    "display": "decoding, until submitted to the compositor",
}
"""From the capture of a sample to the frame that answers it, in order."""


def named(configuration: dict[str, Any]) -> tuple[str, str]:
    on = configuration["echo_cancellation"]
    return ("s1" if on else "s2"), f"echo cancellation {'on' if on else 'off'}"


def plot_distribution(report: dict[str, Any]) -> str:
    """The share of frames shown within a number of milliseconds, against the targets."""
    values = {
        named(c): sorted(v for run in c["runs"] for v in run["series"]["total"]) for c in report["configurations"]
    }
    renderer = promised(report)
    limits = renderer.latency_ms if renderer else {}
    slowest = [v[int(0.995 * (len(v) - 1))] for v in values.values()]
    high = max(1.2 * max(limits.values(), default=140.0), 1.05 * max(slowest))
    plot = Plot((0, min(high, 400)), (0, 100), "Share of frames by latency", xlabel="ms, mic to photon",
                ylabel="% of frames shown within", height=280)  # fmt: skip
    for (style, _), ordered in values.items():
        take = [int(i * (len(ordered) - 1) / 300) for i in range(301)]
        plot.line([ordered[i] for i in take], [100 * i / (len(ordered) - 1) for i in take], style)
    for name, limit in limits.items():
        share = int(name.removeprefix("p"))
        plot.mark(limit, share, f"{share} % by {limit:g}")
    return plot.text() + legend([*values, *([("target", "target: the curve passes above")] if limits else [])])


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
        total = f"{named(configuration)[1]}: {configuration['median']['total_ms']['p50']:.1f} ms"
        plot.parts.append(f'<text class="name" x="52" y="{plot.y(base + 0.72):.1f}">{total}</text>')
    return plot.text() + legend([(f"c{i}", f"{name}: {text}") for i, (name, text) in enumerate(STAGES.items(), 1)])


def plot_over_time(report: dict[str, Any], key: str, label: str, band: float | None = None) -> str:
    """Every run's frames, one dot each."""
    series = [(named(c), run["series"]) for c in report["configurations"] for run in c["runs"]]
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
