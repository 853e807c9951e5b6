"""Output for visual inspection: sheets of poses, strips around a plosive and a blink, videos with audio."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, ImageDraw

from benchmarks.lib.paths import SPEECH
from benchmarks.pictures import measures, poses
from benchmarks.pictures.measure import Subject, drawn
from streamer.base.constants import FPS
from streamer.media.recordings import read_recording
from streamer.studio.face_fit import FaceFit

TILE = 256
CROP = 256
MOUTHS = ("given", "rest", "p b m", "open", "ee", "oo", "oh", "teeth", "smile")
EYES = ("given", "rest", "blink", "half", "aside", "down")
ROWS = 6
"""Pictures per file of a sheet."""
AROUND = 5  # frames before and after the middle of a strip
_AUDIO_RATE = 48_000


def struck(subject: Subject) -> dict[str, np.ndarray]:
    """The original picture and every pose: name to frame [S, S, 3]."""
    shown = {"given": measures.over(subject.still).copy()}
    shown.update({name: drawn(subject, vector) for name, vector in poses.POSES.items()})
    return shown


def rows_of(name: str, subject: Subject) -> Image.Image:
    """One picture's rows: all poses, then mouth and eyes at the frame's resolution."""
    shown = struck(subject)
    tiles = [_tile(frame, label) for label, frame in shown.items()]
    crops = [_tile(mouth_of(shown[label], subject.fit), label) for label in MOUTHS]
    crops += [_tile(eyes_of(shown[label], subject.fit), label) for label in EYES]
    sheet = Image.new("RGB", (TILE * len(tiles), 2 * TILE + 18), "white")
    ImageDraw.Draw(sheet).text((4, 2), name, fill="black", font_size=13)
    for row, images in enumerate((tiles, crops)):
        for column, tile in enumerate(images):
            sheet.paste(tile, (column * TILE, 18 + row * TILE))
    return sheet


def stacked(images: Sequence[Image.Image]) -> Image.Image:
    """One image with all others stacked vertically."""
    sheet = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet


def save(images: Sequence[Image.Image], path: Path) -> None:
    """Saves the images stacked in one file, or in NAME-1.png, NAME-2.png and so on if there are many."""
    if len(images) <= ROWS:
        stacked(images).save(path)
        return
    for k, first in enumerate(range(0, len(images), ROWS), 1):
        stacked(images[first : first + ROWS]).save(path.with_stem(f"{path.stem}-{k}"))


def mouth_of(frame: np.ndarray, fit: FaceFit) -> np.ndarray:
    """[CROP, CROP, 3] around the mouth, enlarged if the mouth is small."""
    corners = fit.points[list(measures.MOUTH_CORNERS), :2]
    centre = corners.mean(0) + (0, 0.12 * np.hypot(*(corners[0] - corners[1])))
    return _crop(frame, centre, 2.1 * float(np.hypot(*(corners[0] - corners[1]))))


def eyes_of(frame: np.ndarray, fit: FaceFit) -> np.ndarray:
    """[CROP, CROP, 3] around both eyes."""
    return _crop(frame, fit.lids.reshape(-1, 2).mean(0), 1.4 * fit.eye_distance)


def _crop(frame: np.ndarray, centre: np.ndarray, edge: float) -> np.ndarray:
    scale = max(1.0, CROP / max(edge, 1.0))
    matrix = np.array([[scale, 0, CROP / 2 - scale * centre[0]], [0, scale, CROP / 2 - scale * centre[1]]])
    how = cv2.INTER_NEAREST if scale == 1 else cv2.INTER_CUBIC
    return cv2.warpAffine(frame, matrix, (CROP, CROP), flags=how, borderMode=cv2.BORDER_REPLICATE)


def _tile(frame: np.ndarray, label: str) -> Image.Image:
    image = Image.fromarray(frame)
    if image.size != (TILE, TILE):
        image = image.resize((TILE, TILE), Image.Resampling.LANCZOS)
    ImageDraw.Draw(image).text((5, 4), label, fill="white", stroke_fill="black", stroke_width=2, font_size=13)
    return image


def strips_of(name: str, subject: Subject, curves: np.ndarray) -> Image.Image:
    """Strips around the clearest closure next to an open mouth, and around the deepest blink, of speech [T, C]."""
    strips = []
    for what, middle, crop in (
        ("plosive", _plosive(curves), mouth_of),
        ("blink", int(poses.named(curves, "blink_left").argmax()), eyes_of),
    ):
        first = int(np.clip(middle - AROUND, 0, max(0, len(curves) - 2 * AROUND - 1)))
        chosen = range(first, min(first + 2 * AROUND + 1, len(curves)))
        frames = [drawn(subject, curves[k], k / FPS) for k in chosen]
        strip = Image.new("RGB", (TILE * len(frames), 2 * TILE + 18), "white")
        ImageDraw.Draw(strip).text((4, 2), f"{name}: {what}", fill="black", font_size=13)
        for column, (k, frame) in enumerate(zip(chosen, frames, strict=True)):
            label = f"{k} open {poses.named(curves, 'open')[k]:.2f} press {poses.named(curves, 'press')[k]:.2f}"
            if what == "blink":
                label = f"{k} blink {poses.named(curves, 'blink_left')[k]:.2f}"
            strip.paste(_tile(frame, label), (column * TILE, 18))
            strip.paste(_tile(crop(frame, subject.fit), ""), (column * TILE, 18 + TILE))
        strips.append(strip)
    return stacked(strips)


def _plosive(curves: np.ndarray) -> int:
    """The frame of a p, b or m with the widest mouth within four frames."""
    opened, press = poses.named(curves, "open"), poses.named(curves, "press")
    around = np.array([opened[max(0, k - 4) : k + 5].max() for k in range(len(curves))])
    return int((around * (press > 0.35)).argmax())


def video(path: Path, subject: Subject, curves: np.ndarray, voice: Path = SPEECH, start: float = 0.0) -> None:
    """Writes an MP4 of the picture speaking `curves` [T, C], with the voice from `start` seconds on."""
    heard = read_recording(voice, _AUDIO_RATE)
    first = round(start * _AUDIO_RATE)
    heard = heard[first : first + len(curves) * _AUDIO_RATE // FPS]
    packed = io.BytesIO()
    with av.open(packed, "w", format="mp4") as container:
        pictures = container.add_stream("libx264", FPS, options={"crf": "14", "preset": "veryfast"})
        assert isinstance(pictures, av.VideoStream)
        pictures.height, pictures.width = subject.still.shape[:2]
        pictures.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", _AUDIO_RATE, layout="mono")
        assert isinstance(sound, av.AudioStream)
        for k, vector in enumerate(curves):
            frame = av.VideoFrame.from_ndarray(drawn(subject, vector, k / FPS), "rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(heard[None]), "flt", "mono")
        block.sample_rate, block.pts, block.time_base = _AUDIO_RATE, 0, Fraction(1, _AUDIO_RATE)
        for piece in av.AudioResampler("fltp", "mono", _AUDIO_RATE, frame_size=1024).resample(block):
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    path.write_bytes(packed.getvalue())
