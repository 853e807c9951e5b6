"""Admission control: decides whether the device has capacity for one more session. Pure arithmetic."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AdmissionConfig:
    max_sessions: int = 8
    most_load: float = 0.85
    """Maximum share of the engine's thread that sessions may use; the rest is headroom for jitter."""
    retry_after: int = 10
    """Seconds after which a rejected client may try again."""


@dataclass(frozen=True)
class Verdict:
    admitted: bool
    reason: str = ""
    detail: str = ""
    retry_after: int = 0


def admit(config: AdmissionConfig, sessions: int, load: float, cost: float) -> Verdict:
    """Whether one more session fits.

    `sessions` includes those being set up. `load` is the share of the engine's thread in use, `cost` the share that the
    new session would add.
    """
    if sessions >= config.max_sessions:
        return Verdict(
            False,
            "too_many_sessions",
            f"{sessions} sessions are open, and this server accepts at most {config.max_sessions}",
            config.retry_after,
        )
    if sessions > 0 and load + cost > config.most_load:
        return Verdict(
            False,
            "overloaded",
            f"one more session would take {cost:.0%} of the generator's time, {load:.0%} is taken, "
            f"and the limit is {config.most_load:.0%}: it could not keep 25 frames a second",
            config.retry_after,
        )
    return Verdict(True)
