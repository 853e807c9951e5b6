"""Converts RGBA to the planes that the video encoder takes, on the CPU; `color.py` does so on the GPU."""

import cv2
import numpy as np

_CHROMA = np.array([[-37.797, -74.203, 112.0, 0], [112.0, -93.786, -18.214, 0], [0, 0, 0, 0]], np.float32) / 255
"""BT.601, limited range: U and V of red, green and blue, and nothing: OpenCV is fast for three channels to three."""
_CHROMA[:2, 3] = 128


def yuv_planes(picture: np.ndarray) -> np.ndarray:
    """
    The colour of RGBA [S, S, 4] uint8, S divisible by 4, as the planes [3 S / 2, S] uint8 of `Yuv`: within two levels
    of swscale's, in a third of its time. A chroma sample is the mean of the 2 x 4 pixels around it, the middle two rows
    with three times the weight of the outer ones.
    """
    size = len(picture)
    half = size // 2
    planes = np.empty((3 * half, size), np.uint8)
    cv2.cvtColor(picture, cv2.COLOR_RGBA2YUV_I420, dst=planes)  # its chroma is that of every fourth pixel: replaced
    pairs = cv2.resize(picture, (half, half), interpolation=cv2.INTER_AREA)
    between = np.empty((half + 1, half, 4), np.uint8)  # means of 2 x 2, one row higher: rows 2 k - 1 and 2 k
    cv2.resize(picture[1:-1], (half, half - 1), dst=between[1:-1], interpolation=cv2.INTER_AREA)
    cv2.resize(picture[[0, 0]], (half, 1), dst=between[:1], interpolation=cv2.INTER_AREA)
    cv2.resize(picture[[-1, -1]], (half, 1), dst=between[-1:], interpolation=cv2.INTER_AREA)
    outer = cv2.addWeighted(between[:-1], 0.5, between[1:], 0.5, 0)
    cv2.addWeighted(outer, 0.5, pairs, 0.5, 0, dst=pairs)
    chroma = cv2.transform(cv2.cvtColor(pairs, cv2.COLOR_RGBA2RGB), _CHROMA)
    planes[size:].reshape(2, half, half)[:] = cv2.split(chroma)[:2]
    return planes
