"""Shared by all parts: the sketch, the colours, and the proportions of a face."""

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamer.studio.character import Character, colour_of
from streamer.studio.draw import palette
from streamer.studio.draw.sketch import Sketch
from streamer.studio.draw.skin import Points

# half width, jaw control (x, y), chin control x, chin y: the lower contour is one cubic from temple to chin
FACES = {
    "soft": (0.485, (0.470, 0.430), 0.165, 0.592),
    "round": (0.498, (0.500, 0.440), 0.235, 0.568),
    "oval": (0.472, (0.458, 0.445), 0.150, 0.612),
    "heart": (0.490, (0.462, 0.370), 0.105, 0.605),
    "diamond": (0.484, (0.435, 0.410), 0.120, 0.618),
    "long": (0.468, (0.462, 0.470), 0.165, 0.640),
    "square": (0.486, (0.500, 0.500), 0.255, 0.618),
    "chiselled": (0.480, (0.480, 0.475), 0.180, 0.636),
}
HATS = ("beret", "beanie", "cap", "witch hat")  # headwear that presses the hair down
BUILDS = {"slim": 0.92, "medium": 1.0, "broad": 1.13}


@dataclass
class Anatomy:
    """A character's proportions and colours, and the sketch that its parts draw on."""

    sketch: Sketch
    character: Character
    keypoints: dict[str, int] = field(default_factory=dict)  # name -> control point
    shown: dict[str, bool] = field(default_factory=dict)  # key points' prefix -> whether they are drawn in this frame
    marks: dict[str, Any] = field(default_factory=dict)  # passed from one part to another

    def __post_init__(self) -> None:
        traits = self.traits = self.character.traits
        self.skin = palette.SKINS[str(traits["skin"])]
        self.hair = palette.hair(self.colour("hair_colour"))
        tips = traits["hair_tips"]
        self.tips = self.hair if tips == "same" else palette.hair(self.colour("hair_tips"))
        self.cloth = palette.cloth(self.colour("garment_colour"))
        self.accent = palette.cloth(self.colour("garment_accent"))
        self.half_width, self.jaw, self.chin_x, self.chin_y = FACES[str(traits["face"])]
        self.build = BUILDS[str(traits["build"])]
        self.masculine = traits["lashes"] == "none"
        self.line = palette.mix(self.skin.line, (60, 22, 30), 0.25)

    def is_(self, trait: str, *values: str) -> bool:
        """Whether the trait has one of the values."""
        return self.traits[trait] in values

    def number(self, trait: str) -> float:
        """A numeric trait."""
        return float(self.traits[trait])

    def colour(self, trait: str) -> palette.Color:
        """A colour trait as (r, g, b)."""
        return colour_of(trait, str(self.traits[trait]))

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator that depends only on the traits and the purpose, so that equal traits give equal pictures."""
        return np.random.default_rng(zlib.crc32(f"{purpose} {sorted(self.traits.items())}".encode()))


def mirror(points: Points) -> list[Any]:
    """The same points on the other side of the face."""
    return [(-p[0], *p[1:]) for p in points]


def jaw_line(a: Anatomy, steps: int = 7) -> np.ndarray:
    """[steps,3] the contour on the viewer's right, from the temple down to (excluding) the middle of the chin."""
    p = np.array([(a.half_width, 0.08), a.jaw, (a.chin_x, a.chin_y), (0.0, a.chin_y)])
    t = np.linspace(0, 1, steps + 1)[:-1, None]
    xy = (1 - t) ** 3 * p[0] + 3 * t * (1 - t) ** 2 * p[1] + 3 * t**2 * (1 - t) * p[2] + t**3 * p[3]
    return np.c_[xy, 0.07 + 0.27 * t[:, 0] ** 1.4]
