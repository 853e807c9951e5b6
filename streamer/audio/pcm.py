"""PCM16 as bytes, which networks and frameworks cut wherever they like. Pure."""

import numpy as np


class PcmDecoder:
    """Little-endian PCM16 of `channels` interleaved channels, in pieces of any length, to samples.

    What a piece cuts off waits for the next one: a sample is never lost, and never split.
    """

    def __init__(self, channels: int = 1) -> None:
        if channels < 1:
            raise ValueError(f"{channels} channels: want 1 or more")
        self.channels = channels
        self._rest = b""

    @property
    def loose(self) -> int:
        """Bytes that wait for the rest of their sample."""
        return len(self._rest)

    def push(self, data: bytes | bytearray | memoryview) -> np.ndarray:
        """[n, channels] int16: all that is whole by now."""
        together = self._rest + bytes(data)
        whole = len(together) // (2 * self.channels) * 2 * self.channels
        self._rest = together[whole:]
        return np.frombuffer(together[:whole], "<i2").astype(np.int16, copy=False).reshape(-1, self.channels)
