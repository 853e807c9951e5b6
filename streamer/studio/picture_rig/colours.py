"""Derives colours for parts that a picture does not show, such as teeth, gums and oral cavity, from the face's own."""

from dataclasses import dataclass

import numpy as np

from streamer.studio.picture_rig.topology import LOWER_LIP_SKIN, SKIN

_LUMA = np.array([0.299, 0.587, 0.114])
_GREY_LIP = 14  # spread of a lip's channels (levels) below which it counts as colourless
_DARK_LIP, _LIGHT_SKIN = 50, 110


def luma(colour: np.ndarray) -> np.ndarray:
    """[..., 3] to [...]: luma."""
    return colour @ _LUMA


@dataclass(frozen=True, eq=False)
class Colours:
    """Each [3] float64, 0..255."""

    skin: np.ndarray
    lip: np.ndarray
    enamel: np.ndarray
    gum: np.ndarray
    tongue: np.ndarray
    cavity: np.ndarray


def read_colours(image: np.ndarray, landmarks: np.ndarray, eye_distance: float, drawing: bool) -> Colours:
    """Measures the square at rest [FRAME, FRAME, 3] uint8; landmarks in frame units."""

    def median(places: tuple[int, ...], radius: int) -> np.ndarray:
        patches = []
        for x, y in landmarks[list(places), :2].astype(int):
            rows, columns = (slice(max(0, at - radius), max(0, at + radius + 1)) for at in (y, x))
            patches.append(image[rows, columns].reshape(-1, 3))
        seen = np.concatenate(patches)
        return np.median(seen, 0).astype(np.float64) if len(seen) else np.array([200.0, 160.0, 140.0])

    radius = max(2, int(0.04 * eye_distance))
    skin, lip = median(SKIN, radius), median(LOWER_LIP_SKIN, max(1, radius // 2))
    light = max(float(luma(skin)), 1.0)
    if drawing:
        lip = skin * [0.8, 0.42, 0.4]
        return Colours(
            skin, lip, np.array([246.0, 244.0, 240.0]), lip, np.minimum(lip * 1.1, 255), lip * [0.42, 0.3, 0.3]
        )
    colourful = float(np.ptp(skin)) > 25
    if float(np.ptp(lip)) < _GREY_LIP and colourful:
        lip = skin * [0.85, 0.55, 0.5]
    if luma(lip) < _DARK_LIP and light > _LIGHT_SKIN:
        lip = skin * [0.8, 0.42, 0.4]
    enamel = np.clip(np.clip(0.85 * light + 65, 70, 226) * (skin / light) ** 0.4, 0, 250)
    tongue = 0.72 * (0.6 * lip + 0.4 * skin * [0.95, 0.6, 0.55])
    return Colours(skin, lip, enamel, 0.8 * lip, tongue, np.clip(lip * [0.16, 0.12, 0.12] + 2, 0, 255))
