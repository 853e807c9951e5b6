"""Who may come in: pure arithmetic on what the device still has to give."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AdmissionConfig:
    max_sessions: int = 8
    most_load: float = 0.85
    """Share of the generator's thread that may be promised; the rest is headroom for its noise."""
    retry_after: int = 10
    """Seconds that a refused client is asked to wait."""


@dataclass(frozen=True)
class Verdict:
    admitted: bool
    reason: str = ""
    detail: str = ""
    retry_after: int = 0


def admit(config: AdmissionConfig, sessions: int, load: float, cost: float) -> Verdict:
    """Whether one more session fits.

    `sessions` counts those being set up too, `load` is the share of the thread in use, `cost` what one more would take.
    """
    if sessions >= config.max_sessions:
        return Verdict(
            False,
            "too_many_sessions",
            f"{sessions} sessions are open and {config.max_sessions} is the most this server takes",
            config.retry_after,
        )
    if sessions > 0 and load + cost > config.most_load:
        return Verdict(
            False,
            "overloaded",
            f"one more session would take {cost:.0%} of the generator's time, {load:.0%} is taken, "
            f"and at most {config.most_load:.0%} is promised: it could not keep 25 frames a second",
            config.retry_after,
        )
    return Verdict(True)
