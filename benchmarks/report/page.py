"""All results as one HTML page with plots, which loads nothing from anywhere. Pure: results in, text out."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.lib import hardware
from benchmarks.report.figures import (
    STAGES,
    named,
    plot_distribution,
    plot_faults,
    plot_over_time,
    plot_path,
    plot_soak,
    plot_stages,
)
from benchmarks.report.rows import TITLES, Results, Row, busy, drawn_by, rows_of, summary

PLOTTED = {"mic_to_photon", "two_sessions", "soak", "faulty_path", "network_faults"}


def as_html(results: Results) -> str:
    """One page, complete in itself."""
    rows = rows_of(results)
    described = [report["hardware"] for report in results.values() if "hardware" in report]
    measured = {name: report for name, report in results.items() if "not_measured" not in report}
    sections = [f'<div class="scroll">{_table(rows)}</div>']
    if report := measured.get("mic_to_photon"):
        sections.append(_latency_section(report))
    if report := measured.get("soak"):
        sections.append(
            f"<h2>{report['settings']['minutes']:g} minutes of one session</h2><figure>{plot_soak(report)}</figure>"
        )
    if report := measured.get("faulty_path"):
        sections.append(
            "<h2>A bad network between browser and server</h2><p>The whole system in real time: every datagram, "
            "in both directions, passes a relay that drops, delays, reorders or holds it.</p>"
            f"<figure>{plot_path(report)}</figure>"
        )
    if report := measured.get("network_faults"):
        sections.append(
            "<h2>The microphone's jitter buffer alone</h2>"
            "<p>Real Opus packets on simulated networks, in virtual time: the latency that the "
            "microphone's jitter buffer adds to that of a clean network, compared with aiortc's own buffer.</p>"
            f"<figure>{plot_faults(report)}"
            "<figcaption>Milliseconds, on a logarithmic scale above 1.</figcaption></figure>"
        )
    for name in sorted(measured.keys() - PLOTTED):
        title = TITLES.get(name, name.replace("_", " ").capitalize())
        sections.append(
            f"<h2>{escape(title)}</h2><details><summary>all numbers</summary>{_plain(measured[name])}</details>"
        )
    sections.append("<h2>How it was measured</h2>" + _inlined("method.html"))
    machine = _machine(described)
    note = busy(results)
    warning = f'<p class="warn">{escape(note)}</p>' if note else ""
    embedded = json.dumps(results, separators=(",", ":")).replace("</", "<\\/")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>lipstream: measured</title>'
        f"<style>{_inlined('report.css')}</style></head><body><main><h1>lipstream, measured</h1>"
        f'<p class="soft">{summary(rows)}.</p>{machine}{warning}{"".join(sections)}'
        "<h2>Raw numbers</h2><p>This page contains all results as JSON, in the element "
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
        style = {True: "met", False: "missed", None: "soft"}[row.met]
        sign = {True: "✓ ", False: "✗ ", None: ""}[row.met]
        out.append(
            f'<tr><th scope="row">{escape(row.what)}</th><td>{escape(row.value)}</td><td class="soft">'
            f'{escape(row.target)}</td><td><span class="{style}">{sign}{row.verdict}</span></td></tr>'
        )
    head = "<tr><th>what</th><th>measured</th><th>target</th><th>verdict</th></tr>"
    return f"<table>{head}{''.join(out)}</table>"


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
            f"<p><b>{named(configuration)[1].capitalize()}</b>, ms</p>"
            f'<div class="scroll"><table><tr><th>stage</th><th></th>{head}</tr>{body}'
            f'<tr><th scope="row">total</th><td class="soft">measured end to end</td>{cells}</tr></table></div>'
        )
    return (
        f"<h2>Microphone to screen</h2><p>{drawn_by(report).capitalize()}, {settings['fps']} frames a second; "
        f"{settings['runs']} run{'s' * (settings['runs'] != 1)} of {settings['seconds']:g} s each, server and browser "
        "on the same machine. Each number is the median of the runs.</p>"
        f"<figure>{plot_distribution(report)}</figure><figure>{plot_stages(report)}</figure>{''.join(tables)}"
        f"<figure>{plot_over_time(report, 'total', 'ms, mic to photon')}"
        "<figcaption>One dot for each frame of every run.</figcaption></figure>"
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
    more = "<p class='warn'>These results are from different commits.</p>" if other else ""
    return f"<dl>{text}</dl>{more}"
