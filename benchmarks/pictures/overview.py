"""Overview of the example pictures in docs/pictures: `python -m benchmarks.pictures.overview`.

Prints a line for each picture and writes to docs/pictures:

- `overview.jpg`: each picture with its detected face, next to a frame of it speaking;
- `talking/NAME.webp`: frames of it speaking the sample voice, and strips around a closure and a blink. Only drawings
  and rendered people are shown, no real person.
"""

import sys
import time

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.lib.paths import PICTURES
from benchmarks.pictures import measures, poses, rigs, sets, sheet
from benchmarks.pictures.measure import Subject
from streamer.faces.alignment import BadFace
from streamer.faces.decode import decode_picture
from streamer.faces.detector import FaceDetector
from streamer.faces.finder import find_face, quarter
from streamer.faces.landmarks import Landmarker
from streamer.studio.face_fit import FaceFit

FOLDER = PICTURES
TALKING = FOLDER / "talking"
SIZE = 512
TILE = 200
COLUMNS = 4  # pairs
AROUND = 4  # frames of a strip before and after its middle
STRIP = 170  # edge of one of its frames
GROUND, PAPER, INK = (38, 40, 52), (226, 228, 234), (240, 240, 244)

_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
         150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)


def found_in(picture: np.ndarray, fit: FaceFit | None) -> Image.Image:
    """[TILE, TILE] the whole picture, with the outlines of face, eyes and lips if a face was found."""
    image = Image.fromarray(picture)
    scale = TILE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    place = ((TILE - image.width) // 2, (TILE - image.height) // 2)
    tile = Image.new("RGBA", (TILE, TILE), (*PAPER, 255))
    tile.alpha_composite(image, place)
    if fit is not None:
        pen = ImageDraw.Draw(tile)
        lines = [fit.points[list(chosen), :2] for chosen in (_OVAL, _LIPS)]
        lines += [np.concatenate([lids[:9], lids[:8:-1]]) for lids in fit.lids]  # lower edge, then upper edge reversed
        for line in lines:
            closed = [tuple(point) for point in np.concatenate([line, line[:1]]) * scale + place]
            pen.line(closed, fill="white", width=4, joint="curve")
            pen.line(closed, fill=(212, 64, 47), width=2, joint="curve")
    return tile.convert("RGB")


def message_tile(text: str) -> Image.Image:
    """[TILE, TILE] a tile with the reason why nothing is shown."""
    tile = Image.new("RGB", (TILE, TILE), GROUND)
    ImageDraw.Draw(tile).text((TILE / 2, TILE / 2), text, fill=INK, font_size=15, anchor="mm")
    return tile


def moments(curves: np.ndarray) -> tuple[int, int, int]:
    """Three frames of speech [T, C]: a p, b or m, the widest mouth, and the middle of a blink.

    The first is the one with open eyes and the widest mouth within four frames.
    """
    opened, press, blink = (poses.named(curves, name) for name in ("open", "press", "blink_left"))
    around = np.array([opened[max(0, k - AROUND) : k + AROUND + 1].max() for k in range(len(curves))])
    return int((around * (press > 0.35) * (blink < 0.05)).argmax()), int(opened.argmax()), int(blink.argmax())


class Spoken:
    """A picture's frames of the common speech, drawn one after the other as in a session."""

    def __init__(self, subject: Subject, curves: np.ndarray) -> None:
        self.fit = subject.fit
        self.frames = [
            measures.over(subject.draw(vector, k / poses.FPS).copy(), PAPER) for k, vector in enumerate(curves)
        ]

    def page(self, closure: int, opened: int, blink: int) -> Image.Image:
        """Three frames at full size, and strips around the first and the last of them."""
        page = Image.new("RGB", (3 * SIZE, SIZE + 2 * STRIP), "white")
        for column, k in enumerate((closure, opened, blink)):
            page.paste(Image.fromarray(self.frames[k]), (column * SIZE, 0))
        for row, (middle, part) in enumerate(((closure, sheet.mouth_of), (blink, sheet.eyes_of))):
            first = min(max(0, middle - AROUND), len(self.frames) - 2 * AROUND - 1)
            for column, frame in enumerate(self.frames[first : first + 2 * AROUND + 1]):
                image = Image.fromarray(part(frame, self.fit)).resize((STRIP, STRIP), Image.Resampling.LANCZOS)
                page.paste(image, (3 + column * STRIP, SIZE + row * STRIP))
        return page


def main() -> int:
    samples = sets.of_docs()
    opener, landmarker, detector = rigs.opener(), Landmarker.load(), FaceDetector.load()
    curves = poses.speech()
    closure, opened, blink = moments(curves)
    TALKING.mkdir(exist_ok=True)
    rows = -(-len(samples) // COLUMNS)
    overview = Image.new("RGB", (COLUMNS * (2 * TILE + 12) - 12, rows * (TILE + 12) - 12), (255, 255, 255))
    for i, sample in enumerate(samples):
        picture, fit = decode_picture(sample.path.read_bytes(), sample.path.name).pixels, None
        began = time.perf_counter()
        try:
            found = find_face(picture, landmarker, detector)
            outcome, notices = "found", ", ".join(notice.code for notice in found.notices)
            fit = found.fit.moved(quarter((-found.turns) % 4, found.picture))
        except BadFace as error:
            outcome, notices = error.reason, ""
        milliseconds = 1000 * (time.perf_counter() - began)
        shown = message_tile(outcome.replace("_", " "))
        if fit is not None and sample.kind == "photographs":
            shown = message_tile("a real person: not shown")
        elif fit is not None:
            spoken = Spoken(opener(sample.path, SIZE), curves)
            shown = Image.fromarray(spoken.frames[opened]).resize((TILE, TILE), Image.Resampling.LANCZOS)
            spoken.page(closure, opened, blink).save(TALKING / f"{sample.name}.webp", quality=80, method=6)
        height, width = picture.shape[:2]
        print(f"{sample.path.name:26} {width:5}×{height:<5} {outcome:14} {milliseconds:5.0f} ms  {notices}", flush=True)
        x, y = i % COLUMNS * (2 * TILE + 12), i // COLUMNS * (TILE + 12)
        overview.paste(found_in(picture, fit), (x, y))
        overview.paste(shown, (x + TILE, y))
    overview.save(FOLDER / "overview.jpg", quality=82, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
