"""A picture that moves as a whole, like a PNG-tuber: for pictures without a face.

Such a picture has no parts to move, so it bobs, tilts and stretches with the voice.
"""

import numpy as np
from PIL import Image

from streamer.base.image import backdrop
from streamer.motion.controls import INDEX


class StillRig:
    """Draws a picture [H, W, 4] on a square, moved by the controls. Not thread-safe."""

    name = "still"

    def __init__(self, picture: np.ndarray, size: int = 256, background: bool = True) -> None:
        self.size = size
        height, width = picture.shape[:2]
        edge = min(height, width)
        opaque = picture[..., 3].min() == 255
        image = Image.fromarray(picture)
        if opaque:  # fills the frame: the middle square, slightly enlarged so that motion shows no border
            left, top = (width - edge) // 2, (height - edge) // 3
            self._image = image.crop((left, top, left + edge, top + edge)).resize(
                (size, size), Image.Resampling.LANCZOS
            )
            self._zoom = 1.10
        else:  # a cut-out is shown whole on the background
            scale = size / max(height, width)
            resized = image.resize(
                (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS
            )
            self._image = Image.new("RGBA", (size, size))
            self._image.paste(resized, ((size - resized.width) // 2, size - resized.height))
            self._zoom = 0.94
        self._premultiplied = self._image.convert("RGBa")
        self._background = Image.fromarray(backdrop(size)) if background else None

    def draw(self, controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        """[C] float32 to [S, S, 4] uint8 straight RGBA."""
        half = self.size / 2
        opening = float(controls[INDEX["open"]])
        stretch = 1 + 0.045 * opening + 0.006 * float(controls[INDEX["breath"]])
        angle = 0.22 * float(controls[INDEX["roll"]])
        shift_x = 0.045 * self.size * float(controls[INDEX["yaw"]])
        shift_y = -self.size * (0.012 * opening + 0.05 * float(controls[INDEX["pitch"]]))
        # Maps output to source pixels: inverts the shift, rotation and stretch about the picture's lower edge.
        cos, sin = np.cos(angle) / self._zoom, np.sin(angle) / self._zoom
        foot = self.size
        a, b = cos * np.sqrt(stretch), sin * np.sqrt(stretch)
        d, e = -sin / stretch, cos / stretch
        dx, dy = half + shift_x, foot + shift_y
        centre = self.size * (1 - 0.5 * (1 - 1 / self._zoom)) if self._zoom > 1 else foot
        matrix = (a, b, half - a * dx - b * dy, d, e, centre - d * dx - e * dy)
        moved = self._premultiplied.transform(
            (self.size, self.size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        ).convert("RGBA")
        if self._background is None:
            return np.array(moved)
        return np.array(Image.alpha_composite(self._background, moved))

    def close(self) -> None:
        """Nothing to release but memory."""
