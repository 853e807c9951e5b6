"""Hair: one function a style, in STYLES, drawn with the kit's masses, locks and strands.

A new style is a function in one of the files beside this, a line in STYLES and a value of the trait "hair".
"""

from collections.abc import Callable

import numpy as np

from streamer.studio.draw.anatomy import HATS, Anatomy
from streamer.studio.draw.hair import gathered, long, short, textured
from streamer.studio.draw.hair.kit import Kit, flowing
from streamer.studio.draw.hair.loose import loosen
from streamer.studio.draw.skin import points3

__all__ = ["STYLES", "Kit", "dress", "flowing"]

STYLES: dict[str, Callable[[Kit], None]] = {
    "hime cut": long.hime_cut,
    "long waves": long.long_waves,
    "long straight": long.long_straight,
    "wavy bob": long.wavy_bob,
    "sleek bob": long.sleek_bob,
    "pixie": short.pixie,
    "twin tails": gathered.twin_tails,
    "high ponytail": gathered.high_ponytail,
    "side braid": gathered.side_braid,
    "twin buns": gathered.twin_buns,
    "drill curls": gathered.drill_curls,
    "big curls": textured.big_curls,
    "afro": textured.afro,
    "coily puffs": textured.coily_puffs,
    "box braids": textured.box_braids,
    "locs": textured.locs,
    "messy": short.messy,
    "spiky": short.spiky,
    "side swept": short.side_swept,
    "undercut": short.undercut,
    "slick back": short.slick_back,
    "curtains": short.curtains,
    "wolf cut": long.wolf_cut,
    "man bun": gathered.man_bun,
    "buzz cut": short.buzz_cut,
    "bald": short.bald,
    "hijab": long.hijab,
}


def dress(a: Anatomy) -> Kit:
    """Plans the character's hair."""
    kit = Kit(a)
    STYLES[str(a.traits["hair"])](kit)
    if a.is_("headwear", *HATS):
        for stroke in (*kit.back, *kit.behind, *kit.front, *kit.top):
            stroke.paths = [_pressed(points3(path)) for path in stroke.paths]
    loosen((kit.back, kit.behind, kit.front, kit.top))
    a.marks["hair_top"], a.marks["hair_side"] = kit.height, kit.side
    return kit


def _pressed(p: np.ndarray) -> np.ndarray:
    """What a hat does to hair: nothing of the upper head stands off the skull."""
    q = p.copy()
    high = q[:, 1] < -0.32
    q[high, 1] = np.maximum(q[high, 1], -0.84)
    most = 0.585 * np.sqrt(np.maximum(0.0, 1 - np.clip((-0.32 - q[:, 1]) / 0.56, 0, 1) ** 2))
    q[high, 0] = np.clip(q[high, 0], -most[high], most[high])
    return q
