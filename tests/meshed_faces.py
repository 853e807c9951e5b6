"""Faces painted on a whole face mesh, for tests of what moves pictures: every part's place and colour is known."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from streamer.faces.pose import mean_face
from streamer.studio.face_fit import LEFT_EYE, LEFT_EYE_CORNERS, RIGHT_EYE, RIGHT_EYE_CORNERS, FaceFit, Style
from streamer.studio.picture_rig.topology import LOWER_LIP, UPPER_LIP

UPPER_RED = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_RED = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
"""Outer edges of the lips, from the viewer's left to right."""

SKIN, LIP, SEAM, WHITE, IRIS, NOSE = (
    (214, 168, 140), (176, 92, 92), (70, 30, 32), (238, 236, 232), (40, 70, 110), (60, 150, 60)
)  # fmt: skip
TEETH, INSIDE, HAIR, COAT = (240, 238, 228), (58, 22, 24), (84, 58, 40), (60, 70, 120)

_FINE = 4  # painted so many times as large and averaged


@dataclass(frozen=True)
class Meshed:
    """What a face looks like and how it lies in its picture."""

    eyes: float = 96.0  # pixels between the outer corners
    centre: tuple[float, float] = (192.0, 150.0)  # between the eyes
    size: tuple[int, int] = (384, 384)  # width, height
    gap: float = 0.0  # between the lips, in eye distances
    teeth: bool = False  # fill the gap
    lids: float = 1.0  # of how far the mean face's are open
    seam: float = 0.0  # pixels that the lips' line is painted below the mesh's
    cut_out: bool = False
    style: Style = "photo"
    mouth_covered: bool = False
    eyes_covered: bool = False
    skin: tuple[int, int, int] = SKIN

    def but(self, **changes: object) -> "Meshed":
        return replace(self, **changes)  # type: ignore[arg-type]

    def fit(self) -> FaceFit:
        points = mean_face() * self.eyes
        points[:, :2] += self.centre
        shut = np.abs(points[list(UPPER_LIP), 1] - points[list(LOWER_LIP), 1]) / 2
        profile = np.sin(np.linspace(0, np.pi, len(UPPER_LIP))) * self.gap * self.eyes
        for inner, sign in ((UPPER_LIP, 1), (LOWER_LIP, -1)):
            points[list(inner), 1] += sign * shut
        points[list(LOWER_LIP), 1] += profile
        points[list(LOWER_RED[1:-1]), 1] += profile[1:-1]
        lids = np.stack([points[list(eye), :2] for eye in (LEFT_EYE, RIGHT_EYE)])
        for eye, corners in zip(lids, (LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS), strict=True):
            low = np.interp(eye[:, 0], *np.sort(points[list(corners), :2].T, axis=1))
            eye[:, 1] = low + self.lids * (eye[:, 1] - low)
        for eye, places in zip(lids, (LEFT_EYE, RIGHT_EYE), strict=True):
            points[list(places), :2] = eye
        irises = []
        for eye in lids:
            radius = 0.2 * float(np.ptp(eye[:, 0]))
            irises.append(eye.mean(0) + radius * np.array([[0, 0], [1, 0], [0, -1], [-1, 0], [0, 1]]))
        return FaceFit(
            points.astype(np.float32), lids.astype(np.float32), np.array(irises, np.float32), style=self.style,
            mouth_covered=self.mouth_covered, eyes_covered=self.eyes_covered,
        )  # fmt: skip

    def paint(self) -> tuple[np.ndarray, FaceFit, np.ndarray]:
        """[H, W, 4] uint8 straight RGBA, the face, and the person's share of each pixel [H, W] uint8."""
        fit = self.fit()
        width, height = self.size
        points, unit, (x, y) = fit.points[:, :2], self.eyes, self.centre
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        ground = np.stack([120 + 60 * columns / width, 140 + 30 * np.sin(columns / 9), 150 + 40 * rows / height], -1)
        if self.cut_out:  # the colours of half transparent pixels are the person's alone
            ground[:] = HAIR
        canvas = np.repeat(np.repeat(ground, _FINE, 0), _FINE, 1).astype(np.float32)
        person = np.zeros(canvas.shape[:2], np.uint8)

        def polygon(on: np.ndarray, outline: np.ndarray, value: object) -> None:
            cv2.fillPoly(on, [np.round(outline * _FINE * 16 - 8).astype(np.int32)], value, cv2.LINE_8, 4)  # type: ignore[call-overload]

        def shape(outline: np.ndarray, colour: tuple[int, int, int]) -> None:
            polygon(canvas, outline, colour)
            polygon(person, outline, 255)

        def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
            angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
            return np.column_stack([x + unit * (cx + rx * np.cos(angles)), y + unit * (cy + ry * np.sin(angles))])

        shape(ellipse(0, 0.1, 1.0, 1.2), HAIR)
        shape(ellipse(0, 2.6, 1.9, 1.2), COAT)
        neck = np.array([[-0.4, 0.5], [0.4, 0.5], [0.45, 1.7], [-0.45, 1.7]])
        shape(neck * unit + [x, y], tuple(int(0.9 * v) for v in self.skin))  # type: ignore[arg-type]
        shape(cv2.convexHull(np.ascontiguousarray(points))[:, 0], self.skin)
        nose = points[4]
        shape(ellipse((nose[0] - x) / unit, (nose[1] - y) / unit, 0.05, 0.05), NOSE)
        for lids, iris in zip(fit.lids, fit.irises, strict=True):
            edge = np.concatenate([lids[:9], lids[:8:-1]])
            if self.lids > 0.3:
                shape(edge, WHITE)
                mask = np.zeros(person.shape, np.uint8)
                polygon(mask, edge, 1)
                disc = np.zeros_like(mask)
                angles = np.linspace(0, 2 * np.pi, 60)
                radius = float(np.hypot(*(iris[1] - iris[0])))
                polygon(disc, iris[0] + radius * np.column_stack([np.cos(angles), np.sin(angles)]), 1)
                canvas[(mask & disc) > 0] = IRIS
            upper = np.round(np.concatenate([lids[:1], lids[9:], lids[8:9]]) * _FINE).astype(np.int32)
            cv2.polylines(canvas, [upper], False, SEAM, max(2, int(0.02 * unit * _FINE)), cv2.LINE_AA)
        upper, lower = points[list(UPPER_LIP)], points[list(LOWER_LIP)]
        below = np.array([0, self.seam])
        shape(np.concatenate([points[list(UPPER_RED)], points[list(LOWER_RED[::-1])]]), LIP)
        if self.gap > 0:
            shape(np.concatenate([upper, lower[::-1]]), TEETH if self.teeth else INSIDE)
        else:
            line = np.round(((upper + lower) / 2 + below) * _FINE).astype(np.int32)
            cv2.polylines(canvas, [line], False, SEAM, max(2, int(0.018 * unit * _FINE)), cv2.LINE_AA)
        pixels = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
        share = cv2.resize(person, (width, height), interpolation=cv2.INTER_AREA)
        grain = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 1, (height, width)).astype(np.float32), (0, 0), 1.2)
        pixels = np.clip(pixels + 10 * grain[..., None], 0, 255)
        alpha = share if self.cut_out else np.full_like(share, 255)
        return np.dstack([pixels, alpha]).astype(np.uint8), fit, share
