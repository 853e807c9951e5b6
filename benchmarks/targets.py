"""What latency and frame rate are to be, by what drew: the same for the benchmark, its report and the quality page."""

from typing import Any

_RIG = {"p50": 85.0, "p95": 105.0, "p99": 125.0}

LATENCY: dict[str, dict[str, float]] = {
    "studio_rig": _RIG,
    "picture_rig": _RIG,
    "still": _RIG,
    "neural": {"p50": 140.0, "p95": 170.0, "p99": 220.0},
}
"""Mic-to-photon in milliseconds, by renderer."""

FRAMES_PER_SECOND = {"studio_rig": 24.9, "picture_rig": 24.9, "still": 24.9, "neural": 24.75}
"""That are shown, at least, by renderer."""


def renderer_of(report: dict[str, Any]) -> str:
    """What drew in a report of `mic_to_photon.py`. Older ones say it in a setting, or not at all: then the rig did."""
    if found := report.get("renderer"):
        return str(found)
    return "neural" if report["settings"].get("generator") == "neural" else "studio_rig"
