"""Any picture of a face talks, with its own pixels: a face mesh fitted to it moves them.

picture, FaceFit ─▶ framing ─▶ seam ─▶ geometry ─▶ motion ─┬▶ PictureRig.draw: flow ─▶ remap ─▶ eyes ─▶ mouth
                                                   eyes ───┘
"""

from streamer.studio.picture_rig.prepared import PreparedPicture
from streamer.studio.picture_rig.rig import PictureRig

__all__ = ["PictureRig", "PreparedPicture"]
