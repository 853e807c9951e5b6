"""What every benchmark, its report and the quality page judge by: one table of targets.

Latency and frame rate are promised for each renderer, at the size that it is made for: a result is judged by the
renderer that drew it and by what it was asked for, and what nobody promised is shown without a verdict.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A bound on one number. `text` is what a table shows, e.g. "≤ 85 ms"."""

    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    """`%` for shares, whose bounds are given from 0 to 1."""

    either_side: bool = False
    """Whether `at_most` bounds the distance from 0."""

    @property
    def text(self) -> str:
        scale = 100 if self.unit == "%" else 1
        bounds = []
        if self.at_least is not None:
            bounds.append(f"≥ {scale * self.at_least:g}")
        if self.at_most == 0:
            bounds.append("0")
        elif self.at_most is not None:
            bounds.append(f"{'within ±' if self.either_side else '≤ '}{scale * self.at_most:g}")
        return f"{', '.join(bounds)} {self.unit}".rstrip()

    def met(self, value: float) -> bool:
        """False for NaN."""
        distance = abs(value) if self.either_side else value
        least = self.at_least is None or distance >= self.at_least - 1e-9
        return least and (self.at_most is None or distance <= self.at_most + 1e-9)


@dataclass(frozen=True)
class RendererTargets:
    """What is promised of sessions that one renderer draws, server and browser on the same two cores."""

    latency_ms: dict[str, float]
    """Mic-to-photon, by percentile: p50, p95, p99."""

    frames_per_second: float
    largest: int
    """Edge of the largest frame, in pixels, that the above is promised for."""

    def latency(self) -> dict[str, Target]:
        return {name: Target(at_most=limit, unit="ms") for name, limit in self.latency_ms.items()}

    def frame_rate(self) -> Target:
        return Target(at_least=self.frames_per_second)


_RIG = RendererTargets({"p50": 85.0, "p95": 105.0, "p99": 125.0}, 24.9, 512)

RENDERERS: dict[str, RendererTargets] = {
    "studio_rig": _RIG,
    "picture_rig": _RIG,
    "still": _RIG,
    "neural": RendererTargets({"p50": 105.0, "p95": 130.0, "p99": 165.0}, 24.8, 512),
}

SKEW_MS = 40.0
"""How far sound and picture may be apart for a frame to count as in sync."""

FIRST_FRAME = Target(at_most=1000, unit="ms")
IN_SYNC = Target(at_least=0.95)
"""Share of frames within SKEW_MS."""

INTERRUPT_MS = 80.0
"""From an interruption to its first frame, without what the transport takes."""

ONSET_PENALTY_MS = 5.0
"""How much later than in running speech frames at an onset may be and still count as no later."""

TWO_SESSIONS = Target(at_least=24.75)
"""Frames a second of each of two sessions in one browser; a refusal is as good."""

RECOVERY_S = 1.0
"""From the end of a stall until latency is what it was before."""

LASTING_MS = 10.0
"""Latency that a stall may leave behind on the whole path."""

JITTER_BUFFER_GROWTH_MS = 5.0
"""Latency that any fault may leave behind in the jitter buffer alone."""

DRAWING_WITH_TRUTH = Target(at_least=200, unit="frames/s")
"""What the studio's rig draws at 256×256 in two processes, ground truth included."""

FLAT_SHARE = 0.05
"""By how much the server's memory may change over a soak."""

OUTPUTS_COST_MS = 5.0
"""By how much recording and publishing together may raise the live session's median latency."""

ARTICULATION = {
    "pcc_open": 0.85,
    "closed": 0.90,
    "closures": 300,
    "lag_ms": 15.0,
    "pcc_open_italian": 0.65,
    "step_ms": 5.0,
}


QUALITY = {
    "lips_to_truth": Target(at_least=0.85),
    "lips_to_curves": Target(at_least=0.97),
    "closures": Target(at_least=0.90, unit="%"),
    "lag": Target(at_most=12, unit="ms", either_side=True),
    "mouth": Target(at_least=27, unit="dB"),
    "shut_lids": Target(at_least=27, unit="dB"),
    "sharpness": Target(at_least=0.92, unit="%"),
    "sharpness_mouth": Target(at_least=0.90, unit="%"),
    "people_to_curves": Target(at_least=0.94),
    "pack": Target(at_least=2, unit="dB"),
    "teacher_lips": Target(at_least=-0.03),
    "teacher_sharpness": Target(at_least=0.95, unit="%"),
    "drift": Target(at_most=0.3, unit="dB", either_side=True),
    "colour_slope": Target(at_most=0.05, unit="a minute"),
    "freezes": Target(at_most=0),
    "blinks": Target(at_least=8, at_most=30, unit="a minute"),
    "onset": Target(at_most=1, unit="frame"),
    "onset_to_curves": Target(at_least=0.9, unit="%"),
    "identity": Target(at_least=0.99, unit="%"),
    "idle_mouth_open": Target(at_most=0.05, unit="%"),
    "autoencoder": Target(at_least=31, unit="dB"),
    "frame": Target(at_most=20, unit="ms"),
    "frame_of_three": Target(at_most=27, unit="ms"),
    "small_frame": Target(at_most=11, unit="ms"),
}
"""Of the neural generator's frames, on characters and speakers held out."""

PICTURES = {
    "found": Target(at_least=0.95, unit="%"),
    "drawings_found": Target(at_least=0.90, unit="%"),
    "drawings_open": Target(at_least=0.85, unit="%"),
    "drawings_blink": Target(at_least=0.70, unit="%"),
    "follows": Target(at_least=0.90, unit="%"),
    "correlation": Target(at_least=0.96),
    "closures": Target(at_least=0.95, unit="%"),
    "rest": Target(at_most=0.1),
    "leak": Target(at_most=0.1),
    "sharpness": Target(at_least=0.97),
    "preparation": Target(at_most=0.5),
}
"""Of uploaded pictures, drawn by the picture rig."""


def renderer_of(report: dict[str, Any]) -> str | None:
    """The renderer that drew, from a report; None where it is not known.

    Reports from before sessions named their renderer have it in a setting. Those whose setting is the server's default
    were measured when that was the studio's rig.
    """
    if found := report.get("renderer"):
        return str(found)
    generator = report.get("settings", report).get("generator", "rig")
    return {"neural": "neural", "rig": "studio_rig"}.get(generator)


def promised(report: dict[str, Any]) -> RendererTargets | None:
    """The targets of what drew, if they hold for what it was asked for: None for larger frames, or more sessions."""
    targets = RENDERERS.get(renderer_of(report) or "")
    settings = report.get("settings", report)
    size, sessions = settings.get("size"), settings.get("sessions", 1)
    if targets is None or sessions != 1 or (size is not None and size > targets.largest):
        return None
    return targets


def verdicts(numbers: dict[str, Any], targets: RendererTargets | None) -> dict[str, bool]:
    """Which targets a session's numbers meet, by the target's text."""
    met: dict[str, bool] = {}
    if targets is not None:
        for name, limit in targets.latency().items():
            met[f"mic-to-photon {name} {limit.text}"] = limit.met(numbers["total_ms"][name])
        rate = targets.frame_rate()
        met[f"frames a second {rate.text}"] = rate.met(numbers["display"]["fps"])
    met["first frame ≤ 1 s after the click"] = FIRST_FRAME.met(numbers["first_frame_ms"])
    if skew := numbers.get("av_skew_ms"):
        met[f"A/V skew within ±{SKEW_MS:g} ms for 95 % of frames"] = IN_SYNC.met(skew["within_40"])
    if numbers.get("interrupt_ms"):
        met[f"interrupt ≤ {INTERRUPT_MS:g} ms plus transport"] = interrupt(numbers).met(
            numbers["interrupt_ms"]["longest"]
        )
    return {name: bool(holds) for name, holds in met.items()}


def interrupt(numbers: dict[str, Any]) -> Target:
    """The longest that an interruption may take: the message's way there and the picture's way back are transport."""
    transport = numbers["ties"]["clock_rtt_ms"] + sum(
        numbers["stages_ms"][name]["p50"] for name in ("encode", "send", "network", "display")
    )
    return Target(at_most=round(INTERRUPT_MS + transport, 1), unit="ms")
