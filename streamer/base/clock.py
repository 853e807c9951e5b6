"""One clock for the whole server: `time.monotonic()`, with its mapping to wall time for RTCP."""

import time

_NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970
_WALL_MINUS_MONOTONIC = time.time() - time.monotonic()
# Read once, so that audio and video share one mapping even if wall time steps (NTP, suspend).


def now() -> float:
    """Seconds on the server's monotonic clock."""
    return time.monotonic()


def to_ms(seconds: float) -> float:
    """Milliseconds with 0.01 ms resolution, as clients see times."""
    return round(seconds * 1e3, 2)


def to_unix(monotonic: float) -> float:
    """Converts a time on the monotonic clock to seconds since 1970."""
    return round(monotonic + _WALL_MINUS_MONOTONIC, 4)


def to_ntp(monotonic: float) -> int:
    """Converts a time on the monotonic clock to a 64-bit NTP timestamp (RFC 5905 section 6)."""
    return int((monotonic + _WALL_MINUS_MONOTONIC + _NTP_EPOCH) * 2**32)
