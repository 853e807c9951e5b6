"""The frame stamp: in benchmark mode each frame carries its number in its pixels (see clients/PROTOCOL.md)."""

import numpy as np

from streamer.base.image import Picture, Yuv

CELLS = 32
_BITS = 24


def checksum(frame: int) -> int:
    """8-bit checksum that detects a misread frame number."""
    return ((frame & 255) + 3 * ((frame >> 8) & 255) + 7 * ((frame >> 16) & 255) + 90) & 255


def stamp(image: Picture, frame: int) -> None:
    """Writes the frame number mod 2^24 into the lowest rows of a picture, in place."""
    size = image.size if isinstance(image, Yuv) else image.shape[0]
    number = frame & (2**_BITS - 1)
    word = number << 8 | checksum(number)
    bits = np.array([(word >> (CELLS - 1 - i)) & 1 for i in range(CELLS)], np.uint8)
    columns = np.minimum(np.arange(size) * CELLS // size, CELLS - 1)
    height = 2 * (size // CELLS)
    if isinstance(image, Yuv):
        image.brightness[size - height :] = np.where(bits[columns], 235, 16)
        image.colour[:, (size - height) // 2 :] = 128
        if image.alpha is not None:
            image.alpha[size - height :] = 255
        return
    image[size - height :, :, :3] = np.where(bits[columns], 255, 0).astype(np.uint8)[None, :, None]
    image[size - height :, :, 3] = 255


def read(luma: np.ndarray) -> int | None:
    """Reads the frame number from [S, S] uint8 luma or grey; None if the checksum does not match."""
    size = luma.shape[0]
    cell = size // CELLS
    row = luma[size - cell]
    middles = (np.arange(CELLS) * 2 + 1) * size // (2 * CELLS)
    word = 0
    for bit in row[middles] > 127:
        word = word << 1 | int(bit)
    number = word >> 8
    return number if word & 255 == checksum(number) else None
