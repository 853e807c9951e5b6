"""Animates any picture of a face by warping its own pixels with a fitted face mesh.

picture, FaceFit ─▶ framing ─▶ seam ─▶ geometry ─▶ motion ─┬▶ PictureRig.draw: flow ─▶ remap ─▶ eyes ─▶ mouth
                                                   eyes ───┘
"""

from streamer.studio.picture_rig.prepared import PreparedPicture
from streamer.studio.picture_rig.rig import PictureRig

__all__ = ["PictureRig", "PreparedPicture"]
