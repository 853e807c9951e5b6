"""A posed figure in light before a camera: the picture, its matte, and the truth of every pixel.

Letters used in shapes: S pixels along an edge, V render vertices, K key points.
"""

from dataclasses import dataclass

import numpy as np

from streamer.training.people import raster, shading
from streamer.training.people.figure import Figure, Posed
from streamer.training.people.setting import Camera, Light

_SAMPLES = 2
"""Along an edge of a pixel."""
_GAMMA = (np.arange(4097) / 4096) ** (1 / 2.2)
_SLACK = 0.05
"""Decimetres by which a surface may lie off where it is looked for and still be the same."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One rendered frame. A pixel's middle lies at a half."""

    picture: np.ndarray
    """[S, S, 3] uint8 sRGB of what covers each pixel; where nothing does it means nothing."""
    matte: np.ndarray
    """[S, S] float32: the share of the pixel that is covered"""
    hit: np.ndarray
    """[S, S] int32: the triangle that most of the pixel shows; -1: background"""
    places: np.ndarray
    """[V, 3] float32: render vertices in samples, and their nearness"""
    distance: np.ndarray
    """[S, S] float32 decimetres to what `hit` says; infinite for the background"""
    posed: Posed

    def over(self, background: np.ndarray) -> np.ndarray:
        """[S, S, 3] uint8 before a background of the same shape, blended as editors do, in sRGB."""
        share = self.matte[..., None]
        return np.clip(self.picture * share + background * (1 - share) + 0.5, 0, 255).astype(np.uint8)

    def parts(self) -> np.ndarray:
        """[S, S] uint8: index in PARTS"""
        figure = self.posed.figure
        return np.where(self.hit >= 0, figure.part[self.hit.clip(0)], 0).astype(np.uint8)

    def template_places(self) -> np.ndarray:
        """[S, S, 3] float32: where on the template each pixel lies, alike for all people; 0 in the background."""
        return self._spread(self.posed.figure.place)

    def _spread(self, values: np.ndarray) -> np.ndarray:
        out = np.zeros((*self.hit.shape, values.shape[1]), np.float32)
        shading.spread(self.hit, self.posed.figure.triangles, self.places, values, float(_SAMPLES), out)
        return out

    def flow(self, other: "Frame", step: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """
        Where every `step`th pixel lies in another frame of the same figure: [S / step, S / step, 2] float32, to be
        added to the pixel's place; and [S / step, S / step] bool whether it is seen there. The background stands still.
        """
        count = -(-len(self.hit) // step)
        flow, seen = np.empty((count, count, 2), np.float32), np.empty((count, count), np.bool_)
        figure = self.posed.figure
        shading.flow(self.hit, self.places, other.hit, other.places, other.distance, figure.triangles, figure.material,
                     float(_SAMPLES), step, _SLACK, flow, seen)  # fmt: skip
        return flow, seen

    def visible(self, points: np.ndarray, depth: np.ndarray | float) -> np.ndarray:
        """[K] bool: which points [K, 3] (x, y in pixels and distance) are hidden by no more than `depth` decimetres."""
        size = len(self.hit)
        x, y = np.floor(points[:, 0]).astype(int), np.floor(points[:, 1]).astype(int)
        inside = (x >= 0) & (y >= 0) & (x < size) & (y < size)
        behind = self.distance[y.clip(0, size - 1), x.clip(0, size - 1)]
        return inside & (points[:, 2] < behind + depth)


class Renderer:
    """Buffers for pictures of one size. One thread at a time."""

    def __init__(self, size: int) -> None:
        self.size = size
        edge = size * _SAMPLES
        self._nearest, self._visible = np.empty((edge, edge), np.float32), np.empty((edge, edge), np.int32)
        self._first = np.empty((edge, edge), np.int32)
        self._nodes = np.empty((8 * edge * edge, 2), np.int32)
        self._values = np.empty((8 * edge * edge, 2), np.float32)
        shadow = 512 if size <= 320 else 768
        self._shadow, self._shadow_hit = np.empty((shadow, shadow), np.float32), np.empty((shadow, shadow), np.int32)
        self._shadow_first = np.empty((shadow, shadow), np.int32)
        self._few_nodes, self._few_values = np.empty((1, 2), np.int32), np.empty((1, 2), np.float32)
        self._materials: tuple[Figure, tuple[int, ...], tuple[np.ndarray, np.ndarray]] | None = None

    def project(self, points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Points [K, 3] -> [K, 3] float32: x, y in pixels, distance in decimetres."""
        out = np.empty((len(points), 3), np.float32)
        raster.projected(np.ascontiguousarray(points, np.float32), matrix, self.size, out)
        out[:, 2] = 1 / out[:, 2]
        return out

    def levels(self, figure: Figure, places: np.ndarray) -> list[int]:
        """For each material the level of its pyramid at which a texel is about as large as a sample."""
        a, b, c = (places[figure.triangles[:, i], :2] for i in range(3))
        p, q, r = (figure.uv[figure.triangles[:, i]] for i in range(3))

        def area(i: np.ndarray, j: np.ndarray, k: np.ndarray) -> np.ndarray:
            u, v = j - i, k - i
            return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]

        shown, flat = area(a, b, c), np.abs(area(p, q, r))
        levels = []
        for number, piece in enumerate(figure.pieces):
            own = (figure.material == number) & (np.abs(shown) > 0.5) & (flat > 0)
            if not own.any():
                levels.append(0)
                continue
            height, width = piece.pyramid[0].shape[:2]
            texels = flat[own] * height * width / np.abs(shown[own])
            level = 0.5 * np.log2(np.maximum(np.quantile(texels, 0.35), 1e-6))
            levels.append(int(np.clip(np.floor(level + 0.35), 0, len(piece.pyramid) - 1)))
        return levels

    def begin(self, posed: Posed, camera: Camera) -> None:
        """Chooses textures for a clip that begins so. `draw` does it by itself for another figure."""
        figure = posed.figure
        places = np.empty_like(posed.points)
        raster.projected(posed.points, camera.matrix(), self.size * _SAMPLES, places)
        levels = self.levels(figure, places)
        self._materials = figure, tuple(levels), figure.materials(levels)

    def draw(self, posed: Posed, camera: Camera, light: Light) -> Frame:
        if self._materials is None or self._materials[0] is not posed.figure:
            self.begin(posed, camera)
        assert self._materials is not None
        figure, (table, atlas) = posed.figure, self._materials[2]
        matrix = camera.matrix()
        edge = self.size * _SAMPLES
        centre, radius = camera.centre + np.array([0, 0, 0.4]), 0.62 * camera.height + 0.8
        to_light = light.shadow_matrix(centre, radius)
        flat = np.empty_like(posed.points)
        raster.projected(posed.points, to_light, len(self._shadow), flat)
        raster.rasterise(figure.triangles, figure.material, flat, figure.uv, table, atlas, self._shadow,
                         self._shadow_hit, self._shadow_first, self._few_nodes, self._few_values, True)  # fmt: skip
        places = np.empty_like(posed.points)
        raster.projected(figure.pushed(posed.points, camera.eye), matrix, edge, places)
        raster.rasterise(figure.triangles, figure.material, places, figure.uv, table, atlas, self._nearest,
                         self._visible, self._first, self._nodes, self._values, False)  # fmt: skip
        picture = np.empty((self.size, self.size, 3), np.float32)
        matte, hit = np.empty((self.size, self.size), np.float32), np.empty((self.size, self.size), np.int32)
        shading.resolve(
            self._visible, self._nearest, self._first, self._nodes, self._values, figure.triangles, figure.material,
            places, posed.points, posed.normals, posed.lie, figure.uv, figure.open_sky, posed.colours, table,
            figure.looks, atlas, light.array(camera.eye), self._shadow, to_light,
            light.softness * len(self._shadow) / 512, picture, matte, hit,
        )  # fmt: skip
        distance = np.empty((self.size, self.size, 1), np.float32)
        shading.spread(hit, figure.triangles, places, 1 / places[:, 2:], float(_SAMPLES), distance)
        distance[hit < 0] = np.inf
        levels = _GAMMA[np.clip(picture * 4096, 0, 4096).astype(np.int32)]
        return Frame((levels * 255 + 0.5).astype(np.uint8), matte, hit, places, distance[..., 0], posed)
