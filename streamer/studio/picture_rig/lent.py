"""What further pictures of the same face lend: shut lids, teeth and the inside of an open mouth.

They lie on the first picture already; their colours are matched to it where the skin of both is seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig.colours import Colours, luma
from streamer.studio.picture_rig.framing import FRAME, Framing, premultiplied
from streamer.studio.picture_rig.topology import EYES, LOWER_LIP, SKIN, UPPER_LIP

Others = Mapping[str, tuple[np.ndarray, FaceFit]]
"""Role -> picture [H, W, 4] uint8 that lies on the first one, and its face, in the same pixels."""

_MOST_GAIN = 1.5  # of a channel: pictures in another light than that are not matched but left as they are
_LEAST_GAP = 0.05  # of the mouth's width: less is no open mouth


@dataclass(frozen=True, eq=False)
class Lent:
    """One further picture."""

    framing: Framing
    gain: np.ndarray
    """[3]: what its colours are multiplied by."""

    def image(self, size: int, margin: int = 0) -> np.ndarray:
        """[size, size, 4] uint8: its square, as Framing.image."""
        image = self.framing.image(size, margin=margin)
        image[..., :3] = np.clip(image[..., :3] * self.gain + 0.5, 0, 255).astype(np.uint8)
        return image

    def shut_line(self, side: int) -> np.ndarray:
        """[n, 2] in frame units: where the lids of the viewer's left (0) or right (1) eye meet."""
        lower, upper = (self.framing.fit.points[list(lid), :2].astype(np.float64) for lid in EYES[side])
        return 0.3 * upper + 0.7 * lower

    def lips(self) -> tuple[np.ndarray, np.ndarray]:
        """[11, 2] each, in frame units: the inner edges of the upper and the lower lip."""
        upper, lower = (self.framing.fit.points[list(lip), :2].astype(np.float64) for lip in (UPPER_LIP, LOWER_LIP))
        return upper, lower

    @property
    def gap(self) -> float:
        """Between the lips, in widths of the mouth."""
        upper, lower = self.lips()
        along = upper[-1] - upper[0]
        across = np.array([-along[1], along[0]]) / max(float(along @ along), 1e-12)
        return float(((lower - upper)[1:-1] @ across).max())


def lent(framing: Framing, others: Others, colours: Colours) -> dict[str, Lent]:
    """The further pictures that can be used, by their roles."""
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
    """The one whose open mouth is shown where the mouth opens."""
    open_ = [pictures[role] for role in ("mouth_open", "teeth") if role in pictures]
    return next((one for one in open_ if one.gap > _LEAST_GAP), None)


def _skin(framing: Framing) -> np.ndarray | None:
    """[3]: the cheeks' colour; None where they are not seen."""
    image = framing.image(FRAME // 2)
    at = np.clip((framing.fit.points[list(SKIN), :2] / 2).astype(int), 2, FRAME // 2 - 3)
    patches = np.concatenate([image[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 4) for x, y in at])
    seen = patches[patches[:, 3] > 250, :3]
    if len(seen) < 20 or float(luma(np.median(seen, 0))) < 8:
        return None
    return np.median(seen, 0).astype(np.float64)
