"""What becomes of pictures that the studio did not draw: `python benchmarks/pictures/overview.py [FOLDER]`.

Prints a line for each picture of the folder (default: docs/pictures) and draws two sheets there. `overview.jpg` shows
each picture with its eyes and mouth as they were found, and beside it the picture as the neural generator gets it;
`talking.jpg` each picture as given and at five moments of the sample voice, the same for all.
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from streamer.characters import Entry
from streamer.config import FPS, SAMPLE_RATE
from streamer.faces.decode import decode_picture
from streamer.features import Articulation
from streamer.generators import Generator, NotInstalled, create
from streamer.model.face import Face, FaceDetector
from streamer.model.picture import BadFace, aligned, the_face
from streamer.render import draw_frames, read_speech
from streamer.studio.controls import MOUTH

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"
SAMPLE = ROOT / "clients" / "page" / "sample.wav"
SHEETS = ("overview", "talking")
SPOKEN = 6  # seconds of the sample voice, of which the moments are chosen
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


def moments(samples: np.ndarray) -> dict[str, int]:
    """Frames of a voice [n] at 16 kHz by what the mouth does in them."""
    mouth = Articulation.load().whole(samples).mouth[: SPOKEN * FPS]
    curve = dict(zip(MOUTH, mouth.T, strict=True))
    shut = np.convolve(curve["press"] - curve["open"], [0.5, 1, 0.5], "same")
    return {
        "closed (p, b, m)": int(shut.argmax()),
        "open": int(curve["open"].argmax()),
        "wide": int((curve["wide"] * curve["open"].clip(0.2, 0.5)).argmax()),
        "round": int((curve["round"] * curve["open"].clip(0.1, 0.5)).argmax()),
        "teeth": int(curve["teeth"].argmax()),
    }


def talking(pictures: dict[str, tuple[np.ndarray, Face]], generator: Generator) -> Image.Image:
    """A row for each picture with its face: as given, and as the generator draws it at the `moments`."""
    samples, _ = read_speech(SAMPLE)
    at = moments(samples)
    samples = samples[: (max(at.values()) + 2) * SAMPLE_RATE // FPS]
    sheet = Image.new("RGB", ((len(at) + 1) * TILE, len(pictures) * TILE + 24), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(("given", *at)):
        pen.text(((column + 0.5) * TILE, 12), name, fill=GROUND, font_size=15, anchor="mm")
    for row, (name, (picture, face)) in enumerate(pictures.items()):
        entry = Entry(name, name, picture=picture, face=face)
        drawn = [
            frame.copy() for frame in draw_frames(samples, entry, 256, True, Articulation.load(), "neutral", generator)
        ]
        tiles = [given(picture, face, ""), *(Image.fromarray(drawn[k]).convert("RGB") for k in at.values())]
        for column, tile in enumerate(tiles):
            sheet.paste(tile.resize((TILE, TILE), Image.Resampling.LANCZOS), (column * TILE, 24 + row * TILE))
    return sheet


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else FOLDER
    files = sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg", ".webp") and p.stem not in SHEETS)
    detector = FaceDetector.load()
    known: dict[str, tuple[np.ndarray, Face]] = {}
    rows = -(-len(files) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (2 * TILE + 12) - 12, rows * (TILE + 12) - 12), (255, 255, 255))
    for i, file in enumerate(files):
        picture, face = decode_picture(file.read_bytes(), file.name).pixels, None
        began = time.perf_counter()
        try:
            face = the_face(picture, detector)
            outcome, faces = f"found, {face.score:.2f}", [face]
            known[file.stem] = picture, face
        except BadFace as error:
            outcome, faces = error.reason, []
        milliseconds = 1000 * (time.perf_counter() - began)
        height, width = picture.shape[:2]
        print(f"{file.name:24} {width:5}×{height:<5} {outcome:16} {milliseconds:6.0f} ms", flush=True)
        x, y = i % COLUMNS * (2 * TILE + 12), i // COLUMNS * (TILE + 12)
        sheet.paste(shown(picture, faces), (x, y))
        sheet.paste(given(picture, face, outcome.replace("_", " ")), (x + TILE, y))
    sheet.save(folder / "overview.jpg", quality=82)
    try:
        generator = create("neural")
    except NotInstalled as error:
        print(f"no talking.jpg: {error}", file=sys.stderr)
        return 1
    talking(known, generator).save(folder / "talking.jpg", quality=85)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
