"""Decodes a PCM16 byte stream that may be split at any byte. Pure."""

import numpy as np


class PcmDecoder:
    """Little-endian PCM16 of `channels` interleaved channels, in pieces of any length.

    An incomplete sample is kept until the next piece.
    """

    def __init__(self, channels: int = 1) -> None:
        if channels < 1:
            raise ValueError(f"{channels} channels: must be 1 or more")
        self.channels = channels
        self._rest = b""

    @property
    def loose(self) -> int:
        """Bytes of an incomplete sample."""
        return len(self._rest)

    def push(self, data: bytes | bytearray | memoryview) -> np.ndarray:
        """Returns the complete samples, [n, channels] int16."""
        together = self._rest + bytes(data)
        whole = len(together) // (2 * self.channels) * 2 * self.channels
        self._rest = together[whole:]
        return np.frombuffer(together[:whole], "<i2").astype(np.int16, copy=False).reshape(-1, self.channels)
