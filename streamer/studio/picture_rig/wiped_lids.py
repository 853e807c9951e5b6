"""Closes drawn eyes by wiping downwards to another drawing of the same face.

Face landmarks do not locate a drawing's lids: the difference between the two drawings does.
"""

import cv2
import numpy as np

from streamer.studio.face_fit import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS, FaceFit
from streamer.studio.picture_rig.framing import FRAME

_DIFFERENT = 12  # minimum difference (levels) between the two drawings
_REACH = 1.4  # widths of the mesh's eye around it that are compared
_GROWN = 0.006  # dilation, as a fraction of the frame's edge: outlines are soft
_AROUND = 3  # frame pixels added around the box, for slight rotation


class WipedLids:
    """For frames of one size."""

    def __init__(self, fit: FaceFit, open_: np.ndarray, shut: np.ndarray, margin: int, size: int) -> None:
        """Squares [S + 2 margin, S + 2 margin, 4] uint8 premultiplied, eyes open and closed; `fit` in frame units."""
        self._shut, self._margin, self._size, self._scale = shut, margin, size, size / FRAME
        different = (np.abs(shut.astype(np.int16) - open_).max(-1) > _DIFFERENT).astype(np.uint8)
        different = cv2.morphologyEx(different, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
        self._masks = [
            self._mask(different, fit.points[list(corners), :2]) for corners in (LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS)
        ]

    def _mask(self, different: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Upper left corner [2] of a box in the squares, and the coverage of its pixels by the wipe [h, w] float32."""
        middle = corners.mean(0) * self._scale + self._margin
        reach = _REACH * float(np.hypot(*(corners[1] - corners[0]))) * self._scale
        x0, y0 = np.clip(np.floor(middle - reach).astype(int), 0, len(different))
        x1, y1 = np.clip(np.ceil(middle + reach).astype(int), 0, len(different))
        rows, columns = np.nonzero(different[y0:y1, x0:x1])
        if not len(rows):
            return np.zeros(2, int), np.zeros((1, 1), np.float32)
        grow = max(1, round(_GROWN * self._size))
        low = np.maximum(np.array([x0 + columns.min(), y0 + rows.min()]) - 2 * grow, 0)
        high = np.array([x0 + columns.max(), y0 + rows.max()]) + 2 * grow + 1
        part = different[low[1] : high[1], low[0] : high[0]]
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
        part = cv2.dilate(cv2.morphologyEx(part, cv2.MORPH_CLOSE, kernel), kernel)
        return low, cv2.GaussianBlur(part.astype(np.float32), (0, 0), 0.7)

    def paint(self, frame: np.ndarray, places: np.ndarray, shifts: np.ndarray, blinks: tuple[float, float]) -> None:
        """
        Paints into a frame [S, S, 4] uint8 whose pixels come from `places` [S, S, 2] of the enlarged square; `shifts`
        [2, 2]: each eye's displacement in frame units.
        """
        for (corner, mask), shift, blink in zip(self._masks, shifts, blinks, strict=True):
            if blink < 0.01 or not mask.any():
                continue
            moved = corner - self._margin + shift * self._scale
            low = np.clip(np.floor(moved).astype(int) - _AROUND, 0, self._size)
            high = np.clip(np.ceil(moved).astype(int) + mask.shape[::-1] + _AROUND, 0, self._size)
            region = np.s_[low[1] : high[1], low[0] : high[0]]
            at = (places[region] / 2).astype(np.float32)
            if not at.size:
                continue
            shut = cv2.remap(self._shut, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            covered = cv2.remap(mask, at - corner.astype(np.float32), None, cv2.INTER_LINEAR)
            edge = corner[1] + blink * (len(mask) + 1)
            covered = covered * np.clip(edge - at[..., 1] + 0.5, 0, 1)
            before = frame[region].astype(np.float32)
            frame[region] = np.clip(before + (shut - before) * covered[..., None] + 0.5, 0, 255).astype(np.uint8)
