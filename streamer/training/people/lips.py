"""Lips that touch along their whole width: units part them a little at the corners even where their middles meet.

Letters used in shapes: N vertices of the template, k columns across the mouth.
"""

import numpy as np

from streamer.training.face_assets import LOWER_LIP, UPPER_LIP
from streamer.training.people.template import Template

_CORNERS = (78, 308)
"""MediaPipe's landmarks at the inner corners of the mouth."""
_CORNERS_LOWERED = 0.122
"""Decimetres by which jawOpen lowers the corners, where the lips meet: the upper lip less, the lower lip more."""
_COLUMNS = 17
_REACH = 0.22
"""Decimetres above and below the seam over which skin follows the lips."""
_OVERLAP = 0.008
"""Decimetres by which closed lips overlap."""
_LOWER_SHARE = 0.6
"""Of the way that the lower lip comes up."""


class Lips:
    """Where the lips of the template are."""

    def __init__(self, template: Template) -> None:
        points = template.landmarks(template.vertices)
        body = template.group("body")
        jaw = np.zeros(len(template.vertices), np.float32)
        index, delta = template.units["jawOpen"]
        jaw[index] = -delta[:, 1]
        corners = list(_CORNERS)
        across = np.concatenate([points[[corners[0]], 0], points[list(UPPER_LIP), 0], points[[corners[1]], 0]])
        order = np.argsort(across)

        def along(values: np.ndarray) -> np.ndarray:
            pair = (values[list(UPPER_LIP)] + values[list(LOWER_LIP)]) / 2
            return np.concatenate([values[[corners[0]]], pair, values[[corners[1]]]])[order]

        across = across[order]
        vertices = template.vertices[body]
        seam, front = (np.interp(vertices[:, 0], across, along(points[:, i])) for i in (1, 2))
        off = np.abs(vertices[:, 1] - seam)
        width = across[-1]
        near = (off < _REACH) & (vertices[:, 2] > front - 0.16) & (np.abs(vertices[:, 0]) < width + 0.03)
        self._index = body[near]
        self._x = vertices[near, 0]
        self._lower = jaw[body][near] > _CORNERS_LOWERED
        fall = np.clip(1 - np.maximum(off[near] - 0.02, 0) / (_REACH - 0.02), 0, 1)
        beside = np.clip((width + 0.03 - np.abs(self._x)) / 0.05, 0, 1)
        self._weight = (fall * fall * (3 - 2 * fall) * beside).astype(np.float32)
        self._columns = np.linspace(-0.97 * width, 0.97 * width, _COLUMNS)
        edge = (off[near] < 0.07) & (vertices[near, 2] > front[near] - 0.10)
        distance = np.abs(self._x[:, None] - self._columns)
        close = (distance < 1.3 * width / _COLUMNS) & edge[:, None]
        self._upper_edges = [np.flatnonzero(close[:, k] & ~self._lower) for k in range(_COLUMNS)]
        self._lower_edges = [np.flatnonzero(close[:, k] & self._lower) for k in range(_COLUMNS)]
        self._whole = np.array(
            [bool(len(u) and len(d)) for u, d in zip(self._upper_edges, self._lower_edges, strict=True)]
        )

    def apertures(self, vertices: np.ndarray) -> np.ndarray:
        """[k] decimetres between the lips' edges of vertices [N, 3]; negative where they overlap."""
        y = vertices[self._index, 1]
        return np.array(
            [
                y[upper].min() - y[lower].max()
                for upper, lower, whole in zip(self._upper_edges, self._lower_edges, self._whole, strict=True)
                if whole
            ]
        )

    def seal(self, vertices: np.ndarray, strength: float) -> None:
        """In place: brings lips together where they are apart, by a share of the way."""
        if strength <= 0:
            return
        for _ in range(2):  # what an edge is changes as vertices move
            apart = np.maximum(self.apertures(vertices) + _OVERLAP, 0) * strength
            way = np.interp(self._x, self._columns[self._whole], apart).astype(np.float32) * self._weight
            share = np.where(self._lower, _LOWER_SHARE, _LOWER_SHARE - 1).astype(np.float32)
            vertices[self._index, 1] += way * share
