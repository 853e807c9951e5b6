"""Faces drawn with their landmarks, for tests of what reads landmarks: a few ellipses whose every measure is known."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from streamer.faces.expression import INNER_LIP_EDGE
from streamer.studio.face_fit import POINTS, FaceFit, Style

# x, y, depth, in eye distances from between the eyes.
_PLACES = {
    33: (-0.5, 0, 0), 133: (-0.18, 0, 0), 362: (0.18, 0, 0), 263: (0.5, 0, 0), 168: (0, 0, -0.1), 6: (0, 0.1, -0.15),
    197: (0, 0.2, -0.2), 195: (0, 0.3, -0.24), 5: (0, 0.36, -0.27), 4: (0, 0.42, -0.3), 1: (0, 0.45, -0.3),
    98: (-0.13, 0.5, -0.1), 327: (0.13, 0.5, -0.1), 10: (0, -0.7, 0.05), 109: (-0.2, -0.68, 0.06),
    338: (0.2, -0.68, 0.06), 127: (-0.75, 0, 0.3), 356: (0.75, 0, 0.3), 116: (-0.55, 0.3, 0.05),
    345: (0.55, 0.3, 0.05), 234: (-0.78, 0.1, 0.35), 454: (0.78, 0.1, 0.35), 152: (0, 1.25, 0.05),
    50: (-0.42, 0.35, 0), 280: (0.42, 0.35, 0), 205: (-0.36, 0.5, 0), 425: (0.36, 0.5, 0), 117: (-0.5, 0.22, 0.02),
    346: (0.5, 0.22, 0.02),
}  # fmt: skip
_MOUTH_Y = 0.78
_EYE_WIDTH = 0.32


@dataclass(frozen=True)
class Drawn:
    """What a face does and how it lies in its picture."""

    gap: float = 0.0  # eye distances
    teeth: float = 0.0  # share of the mouth's opening, from above
    lids: float = 0.3  # of the eye's width
    smile: float = 0.0  # 1 is a broad one
    gaze: float = 0.0  # eye widths to the viewer's right
    yaw: float = 0.0
    roll: float = 0.0
    eyes: float = 120.0  # pixels between the outer corners
    centre: tuple[float, float] = (200.0, 170.0)
    size: tuple[int, int] = (400, 400)  # width, height
    skin: tuple[int, int, int] = (225, 180, 150)
    hair: tuple[int, int, int] = (90, 60, 40)
    style: Style = "photo"
    noise: float = 2.0

    def picture(self) -> tuple[np.ndarray, FaceFit]:
        """[H, W, 4] uint8 and the face in it."""
        fit = self._fit()
        points = fit.points[:, :2]
        fine = 2  # drawn twice as large: ImageDraw knows whole pixels
        image = Image.new("RGB", (fine * self.size[0], fine * self.size[1]), (120, 150, 170))
        pen = ImageDraw.Draw(image)

        def shape(outline: np.ndarray, colour: tuple[int, ...]) -> None:
            pen.polygon([(fine * float(x), fine * float(y)) for x, y in outline], fill=colour)

        shape(self._on(_ellipse(0, 0.1, 0.95, 1.3)), self.hair)
        shape(self._on(_ellipse(0, 0.3, 0.8, 1.0)), self.skin)
        shape(self._on(_ellipse(0, 0.45, 0.06, 0.1)), tuple(int(0.8 * v) for v in self.skin))
        for lids, iris in zip(fit.lids, fit.irises, strict=True):
            edge = np.concatenate([lids[:9], lids[:8:-1]])
            shape(edge, (250, 250, 250))
            if self.lids > 0.12:
                shape(iris[0] + 0.5 * (edge - edge.mean(0)), (40, 60, 90))
            pen.line([(fine * float(x), fine * float(y)) for x, y in lids[[0, *range(9, 16), 8]]], (30, 20, 20), 4)
        ring = points[list(INNER_LIP_EDGE)]
        shape(ring + 0.25 * (ring - ring.mean(0)) + np.sign(ring - ring.mean(0)) * [0, 3], (180, 80, 80))
        if self.gap:
            shape(ring, (60, 20, 25))
            if self.teeth:
                low = ring[:, 1].min() + self.teeth * np.ptp(ring[:, 1])
                shape(np.column_stack([ring[:, 0], np.minimum(ring[:, 1], low)]), (240, 238, 230))
        pixels = np.asarray(image.resize(self.size, Image.Resampling.BOX), np.float32)
        pixels = pixels + np.random.default_rng(1).normal(0, self.noise, pixels.shape)
        opaque = np.full((*pixels.shape[:2], 1), 255)
        return np.concatenate([pixels.clip(0, 255), opaque], -1).astype(np.uint8), fit

    def _on(self, points: np.ndarray) -> np.ndarray:
        """[N, 2] of the face's [N, 2 or 3] in the picture's pixels."""
        return self._turned(points)[:, :2]

    def _turned(self, points: np.ndarray) -> np.ndarray:
        points = np.column_stack([points, np.zeros((len(points), 3 - points.shape[1]))])
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        x, y, z = points.T
        # Turned to the viewer's right its left side comes nearer.
        points = np.stack([cos * x - sin * z, y, sin * x + cos * z], -1)
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        scale = self.eyes / math.cos(self.yaw)
        points[:, :2] = points[:, :2] @ [[cos, sin], [-sin, cos]]
        return points * scale + [*self.centre, 0]

    def _fit(self) -> FaceFit:
        face = np.zeros((POINTS, 3))
        for index, place in _PLACES.items():
            face[index] = place
        half = 0.28 + 0.06 * self.smile
        angles = np.pi - np.arange(20) * np.pi / 10  # from the left corner over the top to the right one and back
        lift = 0.04 * self.smile
        face[list(INNER_LIP_EDGE), 0] = half * np.cos(angles)
        face[list(INNER_LIP_EDGE), 1] = _MOUTH_Y - self.gap / 2 * np.sin(angles) - lift * np.cos(angles) ** 2
        for corner, inner in ((61, 78), (291, 308)):
            face[corner] = face[inner] * [1.05, 1, 1]
        lids, irises = [], []
        for side in (-1, 1):
            x = -side * np.concatenate([np.linspace(-0.5, 0.5, 9), np.linspace(-0.5, 0.5, 9)[1:-1]])
            high = self.lids / 2 * np.sqrt(1 - np.minimum(1, 2 * np.abs(x)) ** 2) * np.r_[np.ones(9), -np.ones(7)]
            middle = np.array([side * 0.34, 0])
            # From the outer corner to the inner one.
            lids.append(middle + _EYE_WIDTH * np.column_stack([-x, high]))
            rim = np.array([[0, 0], [0.2, 0], [0, -0.2], [-0.2, 0], [0, 0.2]])
            irises.append(middle + _EYE_WIDTH * (rim + [self.gaze, 0]))
        return FaceFit(
            self._turned(face).astype(np.float32),
            np.float32([self._on(eye) for eye in lids]),
            np.float32([self._on(eye) for eye in irises]),
            style=self.style,
        )


def _ellipse(x: float, y: float, wide: float, high: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.column_stack([x + wide * np.cos(angles), y + high * np.sin(angles)])


POSES = {
    "neutral": {},
    "mouth_open": {"gap": 0.2},
    "teeth": {"gap": 0.09, "teeth": 0.8},
    "eyes_shut": {"lids": 0.04},
    "smile": {"smile": 1.0},
    "look_aside": {"gaze": 0.14},
}
"""What a face does for each role."""
