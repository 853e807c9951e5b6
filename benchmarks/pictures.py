"""What becomes of pictures that the studio did not draw: `python benchmarks/pictures.py [FOLDER]`.

Prints a line for each picture of the folder (default: docs/pictures) and draws `overview.jpg` there: each picture with
its eyes and mouth as they were found, and beside it the picture as the neural generator gets it.
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from streamer.model.face import Face, FaceDetector
from streamer.model.picture import BadFace, aligned, the_face
from streamer.studio.picture import open_picture

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
TILE = 200
COLUMNS = 4  # pairs
GROUND, PAPER, INK = (38, 40, 52), (226, 228, 234), (240, 240, 244)


def shown(picture: np.ndarray, faces: list[Face]) -> Image.Image:
    """[TILE, TILE] the whole picture, with marks on eyes and mouths."""
    image = Image.fromarray(picture)
    scale = TILE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    place = ((TILE - image.width) // 2, (TILE - image.height) // 2)
    tile = Image.new("RGBA", (TILE, TILE), (*PAPER, 255))
    tile.alpha_composite(image, place)
    pen = ImageDraw.Draw(tile)
    for face in faces:
        for x, y in face.points * scale + place:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), outline="white", width=4)
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), outline=(212, 64, 47), width=2)
    return tile.convert("RGB")


def given(picture: np.ndarray, face: Face | None, says: str) -> Image.Image:
    """[TILE, TILE] what the generator gets, or why it gets nothing."""
    tile = Image.new("RGBA", (TILE, TILE), (*GROUND, 255))
    if face is not None:
        tile.alpha_composite(
            Image.fromarray(aligned(picture, face, 256)).resize((TILE, TILE), Image.Resampling.LANCZOS)
        )
    else:
        ImageDraw.Draw(tile).text((TILE / 2, TILE / 2), says, fill=INK, font_size=17, anchor="mm")
    return tile.convert("RGB")


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else FOLDER
    files = sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg", ".webp") and p.stem != "overview")
    detector = FaceDetector.load()
    rows = -(-len(files) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (2 * TILE + 12) - 12, rows * (TILE + 12) - 12), (255, 255, 255))
    for i, file in enumerate(files):
        picture, face = open_picture(file.read_bytes()), None
        began = time.perf_counter()
        try:
            face = the_face(picture, detector)
            outcome, faces = f"found, {face.score:.2f}", [face]
        except BadFace as error:
            outcome, faces = error.reason, []
        milliseconds = 1000 * (time.perf_counter() - began)
        height, width = picture.shape[:2]
        print(f"{file.name:24} {width:5}×{height:<5} {outcome:16} {milliseconds:6.0f} ms", flush=True)
        x, y = i % COLUMNS * (2 * TILE + 12), i // COLUMNS * (TILE + 12)
        sheet.paste(shown(picture, faces), (x, y))
        sheet.paste(given(picture, face, outcome.replace("_", " ")), (x + TILE, y))
    sheet.save(folder / "overview.jpg", quality=82)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
