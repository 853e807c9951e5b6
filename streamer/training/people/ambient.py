"""How much of the sky each vertex of a figure sees: shadow maps from all directions above and beside it.

Letters used in shapes: V render vertices, W welded vertices.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp

from streamer.motion.controls import controls
from streamer.training.people import raster
from streamer.training.people.setting import Light

_GOLDEN = 2.399963
_LEAST = {raster.SKIN: (0.03, 1.0), raster.EYE: (0.30, 0.75), raster.WET: (0.5, 0.6), raster.HAIR: (0.42, 0.58),
          raster.CLOTH: (0.05, 0.95), raster.FUR: (0.9, 0.0)}  # fmt: skip
"""Kind -> what is seen at least, and how much of the rest counts: mouths and eyes are lit through what lies before
them, which vertices alone do not tell."""


def open_sky(figure: Any, smooth: np.ndarray, normals: np.ndarray, joined: np.ndarray, welded: list[slice],
             gather: np.ndarray, rays: int, edge: int) -> np.ndarray:  # fmt: skip
    """[V] float32, 0..1. `smooth` and `normals` [W, 3] are where the figure keeps its welded vertices."""
    posed = figure.pose(controls(open=0.55))
    table, atlas = figure.materials([9] * len(figure.pieces))
    centre = figure.joints[figure.template.bone["head"]] + np.array([0, 0.6, 0.2])
    radius = 2.7
    nearest, visible = np.empty((edge, edge), np.float32), np.empty((edge, edge), np.int32)
    first, nodes = np.empty((edge, edge), np.int32), np.empty((1, 2), np.int32)
    values = np.empty((1, 2), np.float32)
    flat = np.empty_like(posed.points)
    seen, total = np.zeros(len(smooth), np.float32), np.full(len(smooth), 1e-3, np.float32)
    one_sided = np.ones(len(smooth), bool)
    for piece, part in zip(figure.pieces, welded, strict=True):
        one_sided[part] = piece.kind in (raster.SKIN, raster.EYE, raster.WET)
    outside = smooth + normals * np.float32(0.03)
    at = np.empty_like(outside)
    for k in range(rays):
        up, turn = 1 - 1.5 * (k + 0.5) / rays, k * _GOLDEN
        level = np.sqrt(1 - up * up)
        direction = np.array([np.cos(turn) * level, up, np.sin(turn) * level])
        lamp = Light(direction[None], np.ones((1, 3)), np.zeros(3), np.zeros(3), 1.0, 1.0)
        matrix = lamp.shadow_matrix(centre, radius)
        raster.projected(posed.points, matrix, edge, flat)
        raster.rasterise(figure.triangles, figure.material, flat, figure.uv, table, atlas, nearest, visible, first,
                         nodes, values, True)  # fmt: skip
        raster.projected(outside, matrix, edge, at)
        column, row = (at[:, i].astype(int) for i in range(2))
        within = (column >= 0) & (row >= 0) & (column < edge) & (row < edge)
        free = np.ones(len(at), bool)
        free[within] = at[within, 2] >= nearest[row[within], column[within]] - 0.004
        facing = np.where(one_sided, np.maximum(normals @ direction.astype(np.float32), 0), 0.5)
        seen += facing * free
        total += facing
    share = np.clip(seen / total, 0.0, 1.0)
    neighbours = sp.csr_matrix(
        (np.ones(joined.size * 2, np.float32),
         (joined[:, [0, 1, 1, 2, 2, 0]].ravel(), joined[:, [1, 0, 2, 1, 0, 2]].ravel())), (len(share), len(share)),
    )  # fmt: skip
    degree = np.maximum(np.asarray(neighbours.sum(1)).ravel(), 1)
    for _ in range(2):
        share = 0.5 * share + 0.5 * (neighbours @ share) / degree
    for piece, part in zip(figure.pieces, welded, strict=True):
        least, rest = _LEAST[piece.kind]
        share[part] = least + rest * share[part]
    return np.clip(share[gather], 0.02, 1.0).astype(np.float32)
