"""The picture shown while the user is away: the character at rest, dimmed, with a text; or the user's own picture.

Letters used in shapes: S picture edge.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = "Be right back"

_GREY = 0.6  # fraction of the saturation to remove
_DIM = 0.5
_PLATE = (18, 19, 26, 225)


def card(still: np.ndarray, words: str = WORDS) -> np.ndarray:
    """Dims a character at rest, straight RGBA [S, S, 4] uint8, and puts text on a plate across its chest."""
    size = still.shape[0]
    colour = still[..., :3].astype(np.float32)
    grey = colour @ np.array([[0.299], [0.587], [0.114]], np.float32)
    dimmed = np.dstack([_DIM * (colour + _GREY * (grey - colour)), still[..., 3]]).round().astype(np.uint8)
    image = Image.fromarray(dimmed)
    fine = 4  # supersampling factor: smooth edges at small sizes
    layer = Image.new("RGBA", (fine * size, fine * size))
    draw = ImageDraw.Draw(layer)
    font = ImageFont.load_default(fine * size / 11)
    left, top, right, bottom = draw.textbbox((fine * size / 2, fine * size * 0.8), words, font, "mm")
    across, down = (right - left) * 0.14, (bottom - top) * 0.7
    plate = (left - across, top - down, right + across, bottom + down)
    draw.rounded_rectangle(plate, (plate[3] - plate[1]) / 2, _PLATE)
    draw.text((fine * size / 2, fine * size * 0.8), words, (255, 255, 255, 255), font, "mm")
    return np.array(Image.alpha_composite(image, layer.resize((size, size), Image.Resampling.LANCZOS)))


def fitted(picture: np.ndarray, size: int) -> np.ndarray:
    """Fits straight RGBA [H, W, 4] uint8, uncropped and centred, into a transparent [S, S, 4]."""
    image = Image.fromarray(picture)
    scale = size / max(image.size)
    width, height = (max(1, round(edge * scale)) for edge in image.size)
    out = Image.new("RGBA", (size, size))
    out.paste(image.resize((width, height), Image.Resampling.LANCZOS), ((size - width) // 2, (size - height) // 2))
    return np.array(out)
