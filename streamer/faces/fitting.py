"""Prepares pictures with faces for the picture rig."""

import numpy as np

from streamer.faces.matte import matte
from streamer.faces.pack import Pack
from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig import PreparedPicture


def prepare(pack: Pack) -> PreparedPicture:
    """Prepares a character's pictures for rendering; a photograph is separated from its background. Takes 0.4 s."""
    person = matte(pack.neutral, pack.fit) if pack.fit.style == "photo" else None
    others: dict[str, tuple[np.ndarray, FaceFit]] = {
        role: (member.pixels, member.fit) for role, member in pack.others.items()
    }
    return PreparedPicture.build(pack.neutral, pack.fit, person, others)
