"""Detection and false positives of the watermark: after the session's encoders down to their lowest rates, after
scaling, and on pictures without a watermark.

A decoy is another pattern of signs, generated like the watermark's. A decoy's score on a video is distributed like the
watermark's score on an unmarked video: hundreds of videos and a hundred thousand decoys give tens of millions of
scores.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from benchmarks.lib import hardware
from benchmarks.lib.paths import PICTURES, RESULTS, SPEECH
from streamer.avatar.backends import create
from streamer.avatar.characters import MAX_SEED, CharacterRecord, Characters
from streamer.avatar.renderer import RendererBackend
from streamer.base.constants import FPS, SAMPLE_RATE
from streamer.base.errors import RequestError
from streamer.base.image import Picture, Yuv
from streamer.cli.render import draw_frames
from streamer.media.recordings import read_recording
from streamer.media.video_encoder import VideoEncoder, ceiling, to_rgba, to_yuv
from streamer.motion.articulation import Articulation
from streamer.provenance import marker
from streamer.provenance.detector import THRESHOLD, Detector, chance
from streamer.provenance.marker import CELLS, Marker, signs

Few = Callable[[int], int]
"""Scales the number of clips of a full run to this run."""

DECODERS = {"H264": "h264", "VP8": "vp8"}
SECONDS = (0.4, 1, 2, 5, 10)
SHARES = (1, 1 / 4, 1 / 8, 1 / 16, 1 / 32)
SCALES = {"as it is": 1.0, "halved": 0.5, "doubled": 2.0, "halved and back": -0.5}


def clip(
    entry: CharacterRecord, generator: RendererBackend, size: int, background: bool, seconds: float, start: float
) -> list[Picture]:
    """A character that speaks the sample in a loop, from `start` seconds on."""
    heard = np.roll(read_recording(SPEECH, SAMPLE_RATE), -int(start * SAMPLE_RATE))
    heard = np.resize(heard, int(seconds * SAMPLE_RATE))
    drawn = draw_frames(heard, entry, size, background, Articulation.load(), generator=generator)
    return [frame.copy() for frame in drawn]


def marked(frames: list[Picture], label: bool = True, watermark: bool = True) -> list[Picture]:
    marker = Marker(edge(frames[0]), label, watermark)
    copies = [frame.copy() for frame in frames]
    for copy in copies:
        marker.apply(copy)
    return copies


def edge(image: Picture) -> int:
    return image.size if isinstance(image, Yuv) else image.shape[0]


def coded(frames: list[Picture], codec: str, bitrate: float) -> tuple[list[np.ndarray], float]:
    """Luma [S, S] of each frame after the session's encoder and a decoder, and the bitrate in bit/s."""
    size = edge(frames[0])
    encoder, decoder = VideoEncoder(codec, size), av.CodecContext.create(DECODERS[codec], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    encoder.set_bitrate(int(bitrate))
    seen, spent = [], 0
    for k, frame in enumerate(frames):
        packet = encoder.encode(frame, k)
        spent += packet.size
        seen += decoder.decode(packet)
    seen += decoder.decode(None)
    return [picture.to_ndarray()[:size] for picture in seen], 8 * spent * FPS / len(frames)


def coded_again(grey: list[np.ndarray], crf: int = 23) -> list[np.ndarray]:
    """Re-encodes like a video site, at x264's default quality."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = grey[0].shape[1], grey[0].shape[0], "yuv420p"
    context.time_base, context.framerate = Fraction(1, FPS), Fraction(FPS)
    context.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
    decoder = av.CodecContext.create("h264", "r")
    seen = []
    for k, each in enumerate(grey):
        planes = np.full((each.shape[0] * 3 // 2, each.shape[1]), 128, np.uint8)
        planes[: each.shape[0]] = each
        picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        picture.pts, picture.time_base = k, Fraction(1, FPS)
        for packet in context.encode(picture):
            seen += decoder.decode(packet)
    for packet in context.encode(None):
        seen += decoder.decode(packet)
    seen += decoder.decode(None)
    return [picture.to_ndarray()[: grey[0].shape[0]] for picture in seen]


def scaled(grey: list[np.ndarray], factor: float) -> list[np.ndarray]:
    if factor == 1:
        return grey
    size = grey[0].shape[0]
    small = [_resized(each, int(size * abs(factor))) for each in grey]
    return [_resized(each, size) for each in small] if factor < 0 else small


def _resized(grey: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.BICUBIC))


def seen(grey: list[np.ndarray]) -> Detector:
    detector = Detector()
    for each in grey:
        detector.add(each)
    return detector


def psnr(frames: list[Picture]) -> float:
    """PSNR in dB of watermarked frames against frames with the label only, over RGB."""
    errors = []
    for with_mark, without in zip(marked(frames), marked(frames, watermark=False), strict=True):
        difference = to_rgba(with_mark)[..., :3].astype(np.float32) - to_rgba(without)[..., :3]
        errors.append(float(np.mean(difference**2)))
    return 10 * np.log10(255**2 / np.mean(errors))


def summary(scores: list[float]) -> dict[str, Any]:
    values = np.array(scores)
    return {
        "clips": len(values),
        "found": float(np.mean(values >= THRESHOLD)),
        "score_min": float(values.min()),
        "score_p1": float(np.percentile(values, 1)),
        "score_p50": float(np.median(values)),
    }


# Detection


def detection(few: Few, rng: np.random.Generator) -> dict[str, Any]:
    """Scores of marked clips by generator, size, background, codec, bitrate, scaling and length."""
    rig, neural = create("rig"), create("neural", "cpu", 1)
    by_seed, painted = Characters(), Characters(needs_face=True)
    rows: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    fidelity: dict[str, list[float]] = {}
    kinds = (
        ("rig", 256, True, few(100)),
        ("rig", 256, False, few(80)),
        ("rig", 128, True, few(30)),
        ("rig", 512, True, few(10)),
        ("rig", 1024, True, few(3)),
        ("neural", 256, True, few(16)),
        ("neural", 256, False, few(8)),
    )
    for name, size, background, count in kinds:
        kind = f"{name} {size}{'' if background else ' without background'}"
        generator, characters = (rig, by_seed) if name == "rig" else (neural, painted)
        for _ in range(count):
            entry = characters.get(str(int(rng.integers(1, MAX_SEED))))
            frames = clip(entry, generator, size, background, 2, float(rng.uniform(0, 20)))
            fidelity.setdefault(kind, []).append(psnr(frames))
            bearing = marked(frames)
            for codec in DECODERS:
                for share in SHARES:
                    grey, rate = coded(bearing, codec, share * ceiling(size))
                    rates.setdefault(f"{kind}, {codec} at 1/{1 / share:.0f} of the ceiling", []).append(rate)
                    for scale, factor in SCALES.items():
                        if (factor == 2 and size == 1024) or (factor != 1 and share not in (1, 1 / 8)):
                            continue
                        case = f"{kind}, {codec} at 1/{1 / share:.0f} of the ceiling, {scale}"
                        rows.setdefault(case, []).append(seen(scaled(grey, factor)).score)
                    if share == 1:
                        for case, factor in (("coded again", 1.0), ("halved, coded again", 0.5)):
                            again = seen(coded_again(scaled(grey, factor))).score
                            rows.setdefault(f"{kind}, {codec} at 1/1 of the ceiling, {case}", []).append(again)
        print(f"{kind}: {fidelity[kind][-1]:.1f} dB", file=sys.stderr)
    lengths: dict[str, list[float]] = {}
    for _ in range(few(10)):
        entry = by_seed.get(str(int(rng.integers(1, MAX_SEED))))
        grey, _ = coded(marked(clip(entry, rig, 256, False, max(SECONDS), 0)), "VP8", ceiling(256) / 16)
        for seconds in SECONDS:
            score = seen(scaled(grey[: int(seconds * FPS)], 0.5)).score
            lengths.setdefault(f"{seconds:g} s", []).append(score)
    return {
        "clips_of_2_s": {case: summary(scores) for case, scores in rows.items()},
        "rate_bit_s_p50": {case: float(np.median(values)) for case, values in rates.items()},
        "psnr_db": {
            kind: {"min": float(min(values)), "p50": float(np.median(values))} for kind, values in fidelity.items()
        },
        "by_length: rig 256 without background, VP8 at 1/16 of the ceiling, halved": {
            length: summary(scores) for length, scores in lengths.items()
        },
    }


# False positives


def unmarked(few: Few, rng: np.random.Generator) -> Iterator[tuple[str, Detector]]:
    """Yields the kind and the detector of videos without a watermark, each 2 s unless it is a still."""
    rig, neural = create("rig"), create("neural", "cpu", 1)
    by_seed, painted = Characters(), Characters(needs_face=True)
    for number in range(few(240)):
        entry = by_seed.get(str(int(rng.integers(1, MAX_SEED))))
        size = (256, 128, 256, 512)[number % 4]
        frames = clip(entry, rig, size, number % 3 > 0, 2, float(rng.uniform(0, 20)))
        labelled = marked(frames, watermark=False)
        codec = ("H264", "VP8")[number % 2]
        yield "rig", seen(coded(labelled, codec, ceiling(size) * SHARES[number % len(SHARES)])[0])
    for number in range(few(36)):
        entry = painted.get(str(int(rng.integers(1, MAX_SEED))))
        frames = clip(entry, neural, 256, number % 3 > 0, 2, float(rng.uniform(0, 20)))
        yield "neural", seen(coded(frames, ("H264", "VP8")[number % 2], ceiling(256))[0])
    for path in sorted(PICTURES.iterdir()):
        if path.suffix == ".md" or not path.is_file():
            continue
        picture = Image.open(path).convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("L")
        for edges in ((128, 128), (256, 256), (512, 512), flat.size):
            yield "pictures", seen([np.asarray(flat.resize(edges))])
        try:
            entry = painted.from_picture(path.read_bytes(), path.stem)
        except RequestError:
            continue
        frames = clip(entry, neural, 256, True, 2, 0.0)
        yield "neural, of pictures", seen(coded(frames, "H264", ceiling(256))[0])
    for number in range(few(150)):
        size = (128, 256, 512)[number % 3]
        yield "white noise", seen([rng.integers(0, 256, (size, size), np.uint8) for _ in range(5)])
        spectrum = np.fft.rfft2(rng.normal(size=(size, size)))
        y, x = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
        pink = np.fft.irfft2(spectrum / np.maximum(np.hypot(x, y), 1 / size), (size, size))
        yield "pink noise, still", seen([np.clip(128 + 40 * pink / pink.std(), 0, 255).astype(np.uint8)])


def false_positives(few: Few, rng: np.random.Generator) -> dict[str, Any]:
    """The watermark's scores on unmarked videos, and the distribution of the decoys' scores."""
    scores: dict[str, list[float]] = {}
    evidence = []
    for kind, detector in unmarked(few, rng):
        scores.setdefault(kind, []).append(detector.score)
        evidence.append(detector.evidence.ravel())
        if len(evidence) % 20 == 0:
            print(f"unmarked: {len(evidence)} videos", file=sys.stderr)
    videos = np.array(evidence, np.float32)
    decoys = 1000 * few(200)
    steps = (3.0, 3.5, 4.0, 4.5, 5.0, THRESHOLD)
    above = dict.fromkeys(steps, 0)
    total, square, highest = 0, 0.0, 0.0
    for first in range(0, decoys, 1000):
        patterns = np.stack([signs(f"decoy {i}").ravel() for i in range(first, first + 1000)])
        found = videos @ patterns.T
        total += found.size
        square += float(np.sum(found.astype(np.float64) ** 2))
        highest = max(highest, float(found.max()))
        for step in steps:
            above[step] += int(np.count_nonzero(found >= step))
    every = [score for values in scores.values() for score in values]
    return {
        "threshold": THRESHOLD,
        "bound_by_hoeffding": chance(THRESHOLD),
        "the_marks_own_score": {
            kind: {
                "videos": len(values),
                "mean": float(np.mean(values)),
                "sd": float(np.std(values)),
                "max": float(max(values)),
                "found": int(sum(value >= THRESHOLD for value in values)),
            }
            for kind, values in {**scores, "all": every}.items()
        },
        "decoys": {
            "videos": len(videos),
            "patterns": decoys,
            "scores": total,
            "sd": (square / total) ** 0.5,
            "max": highest,
            "at_least": {f"{step:g}": {"count": count, "share": count / total} for step, count in above.items()},
            "at_most_with_95_percent": 3.0 / total if above[THRESHOLD] == 0 else None,
        },
    }


# Cost


def cost(few: Few) -> dict[str, Any]:
    """Median milliseconds per frame; `detect` is the detector's."""
    rig, found = create("rig"), {}
    for size in (128, 256, 512, 1024):
        (plain,) = clip(Characters().get("1"), rig, size, True, 0.04, 1.0)
        planes = Yuv(to_yuv(plain).to_ndarray())
        for kind, image in (("RGBA", plain), ("planes", planes)):
            for what, switches in (("both", {}), ("label", {"watermark": False}), ("watermark", {"label": False})):
                marker, spent = Marker(size, **switches), []
                for _ in range(80 * few(6)):
                    copy = image.copy()
                    began = time.perf_counter()
                    marker.apply(copy)
                    spent.append(time.perf_counter() - began)
                found[f"{size} {kind}, {what}"] = round(float(np.median(spent)) * 1e3, 3)
        grey, spent = planes.brightness.copy(), []
        for _ in range(50):
            began = time.perf_counter()
            seen([grey])
            spent.append(time.perf_counter() - began)
        found[f"{size} detect"] = round(float(np.median(spent)) * 1e3, 3)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test of some minutes")
    parser.add_argument("--share", type=float, default=1.0, help="share of the clips to measure (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "watermark.json")
    options = parser.parse_args()
    share = 0.02 if options.quick else options.share
    if not 0 < share <= 1:
        parser.error(f"--share {share}: must be above 0 and at most 1")
    began = time.perf_counter()

    def few(whole: int) -> int:
        return max(1, round(share * whole))

    result = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware.describe(),
        "load_before": hardware.load(),
        "share": share,
        "seed": options.seed,
        "cells": CELLS,
        "strengths": marker.STRENGTHS,
        "ceiling_bit_s": {str(size): ceiling(size) for size in (128, 256, 512, 1024)},
        "cost_ms": cost(few),
        "false_positives": false_positives(few, np.random.default_rng([options.seed, 1])),
        "detection": detection(few, np.random.default_rng([options.seed, 2])),
    }
    result["took_s"] = round(time.perf_counter() - began)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"{options.out}: {result['took_s']} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
