"""Parts from additional pictures of the same face: closed lids, teeth and the inside of an open mouth.

They are already aligned to the first picture; their colours are matched to it where both show skin.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig.colours import Colours, luma
from streamer.studio.picture_rig.framing import FRAME, Framing, premultiplied
from streamer.studio.picture_rig.topology import EYES, LOWER_LIP, SKIN, UPPER_LIP

Others = Mapping[str, tuple[np.ndarray, FaceFit]]
"""Role -> picture [H, W, 4] uint8 aligned to the first one, and its face, in the same pixels."""

_MOST_GAIN = 1.5  # limit of a channel's gain: pictures that would need more are not colour-matched
_LEAST_GAP = 0.05  # minimum gap of an open mouth, in mouth widths


@dataclass(frozen=True, eq=False)
class Lent:
    """One additional picture."""

    framing: Framing
    gain: np.ndarray
    """[3]: gains of its colours."""

    def image(self, size: int, margin: int = 0) -> np.ndarray:
        """[size, size, 4] uint8: its square, as in Framing.image."""
        image = self.framing.image(size, margin=margin)
        image[..., :3] = np.clip(image[..., :3] * self.gain + 0.5, 0, 255).astype(np.uint8)
        return image

    def shut_line(self, side: int) -> np.ndarray:
        """[n, 2] in frame units: the line where the lids of the viewer's left (0) or right (1) eye meet."""
        lower, upper = (self.framing.fit.points[list(lid), :2].astype(np.float64) for lid in EYES[side])
        return 0.3 * upper + 0.7 * lower

    def lips(self) -> tuple[np.ndarray, np.ndarray]:
        """[11, 2] each, in frame units: the inner edges of the upper and the lower lip."""
        upper, lower = (self.framing.fit.points[list(lip), :2].astype(np.float64) for lip in (UPPER_LIP, LOWER_LIP))
        return upper, lower

    @property
    def gap(self) -> float:
        """Distance of the lips, in mouth widths."""
        upper, lower = self.lips()
        along = upper[-1] - upper[0]
        across = np.array([-along[1], along[0]]) / max(float(along @ along), 1e-12)
        return float(((lower - upper)[1:-1] @ across).max())


def lent(framing: Framing, others: Others, colours: Colours) -> dict[str, Lent]:
    """The usable additional pictures, by role."""
    found = {}
    for role, (pixels, fit) in others.items():
        own = replace(framing, pixels=premultiplied(pixels), fit=fit.moved(framing.matrix), matte=None)
        skin = _skin(own)
        gain = np.ones(3)
        if skin is not None:
            gain = colours.skin / np.maximum(skin, 1.0)
            if max(gain.max(), 1 / max(gain.min(), 1e-3)) > _MOST_GAIN:
                gain = np.ones(3)
        found[role] = Lent(own, gain)
    return found


def mouth_of(pictures: Mapping[str, Lent]) -> Lent | None:
    """The picture whose open mouth is shown when the mouth opens."""
    open_ = [pictures[role] for role in ("mouth_open", "teeth") if role in pictures]
    return next((one for one in open_ if one.gap > _LEAST_GAP), None)


def _skin(framing: Framing) -> np.ndarray | None:
    """[3]: the cheeks' colour; None if they are not visible."""
    image = framing.image(FRAME // 2)
    at = np.clip((framing.fit.points[list(SKIN), :2] / 2).astype(int), 2, FRAME // 2 - 3)
    patches = np.concatenate([image[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 4) for x, y in at])
    seen = patches[patches[:, 3] > 250, :3]
    if len(seen) < 20 or float(luma(np.median(seen, 0))) < 8:
        return None
    return np.median(seen, 0).astype(np.float64)
