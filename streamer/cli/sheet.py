"""`lipstream studio sheet OUT.png`: a contact sheet of many characters in various poses."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from streamer.motion.controls import controls
from streamer.motion.emotions import expression
from streamer.studio.character import Character
from streamer.studio.rig import Rig

# The poses, used in rotation: most look at the viewer; some speak, show an emotion, wave or turn.
POSES: tuple[np.ndarray, ...] = (
    controls(smile=0.35),
    expression("happy") + controls(open=0.55, roll=0.08),
    controls(yaw=-0.30, gaze_x=-0.2, smile=0.3, open=0.12),
    controls(left_raise=1.0, left_turn=0.15, smile=0.7, open=0.35, roll=-0.08, squint=0.3),
    controls(yaw=0.28, pitch=0.06, gaze_x=0.2, open=0.45, wide=0.3),
    expression("surprised", 0.9),
    controls(smile=0.55, blink_right=1.0, roll=0.10, squint=0.4),
    expression("shy") + controls(yaw=0.12),
    controls(open=0.40, round=0.9, yaw=-0.12, right_raise=0.95, right_curl=0.9, right_point=1.0, right_turn=0.1),
    controls(smile=0.15, yaw=0.18, roll=-0.10),
    expression("happy", 0.8) + controls(blink_left=1.0, blink_right=1.0, open=0.2, squint=0.5),
    controls(yaw=-0.38, pitch=-0.04, smile=0.25, open=0.3),
    expression("angry", 0.8) + controls(yaw=0.10),
    controls(
        left_raise=0.9, left_x=-0.55, left_y=0.22, left_curl=0.75, left_turn=-0.2, gaze_x=0.5, gaze_y=0.4, smile=0.2
    ),
    expression("sad", 0.8),
    controls(open=0.8, smile=0.3, pitch=0.08),
)
SEEDS = (40, 71, 13, 4, 45, 78, 3, 38, 1, 29, 11, 24, 53, 37, 27, 55, 43, 73, 17, 5, 62, 15, 60, 80)


def draw_sheet(
    path: str | Path, seeds: Sequence[int] = SEEDS, size: int = 256, columns: int = 6, gap: int | None = None
) -> None:
    """Writes a picture of the characters of `seeds`, `columns` per row, `size` pixels each, in the suffix's format."""
    if not seeds or columns < 1:
        raise ValueError(f"a sheet needs at least one seed and one column, not {len(seeds)} and {columns}")
    gap = max(2, size // 32) if gap is None else gap
    rows = -(-len(seeds) // columns)
    sheet = np.full((rows * (size + gap) + gap, columns * (size + gap) + gap, 3), 250, np.uint8)
    for k, seed in enumerate(seeds):
        with Rig(Character.from_seed(seed), size) as rig:
            y, x = (gap + (k // columns) * (size + gap)), (gap + (k % columns) * (size + gap))
            sheet[y : y + size, x : x + size] = rig.draw(np.clip(POSES[k % len(POSES)], -1, 1))[..., :3]
    Image.fromarray(sheet).save(path, quality=88)  # applies to JPEG; PNG ignores it


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `lipstream studio`. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="lipstream studio", description="Draw characters.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sheet = commands.add_parser("sheet", help="draw a contact sheet of many characters")
    sheet.add_argument("path", type=Path, metavar="OUT.png")
    sheet.add_argument("--first", type=int, help="draw consecutive seeds, starting with this one")
    sheet.add_argument("--count", type=int, default=24)
    sheet.add_argument("--size", type=int, default=256, help="edge of each character in pixels")
    sheet.add_argument("--columns", type=int, default=6)
    options = parser.parse_args(arguments)
    seeds = SEEDS[: options.count] if options.first is None else range(options.first, options.first + options.count)
    try:
        draw_sheet(options.path, seeds, options.size, options.columns)
    except (ValueError, OSError) as error:
        print(f"lipstream studio: {error}", file=sys.stderr)
        return 2
    print(f"{options.path}: {len(seeds)} characters")
    return 0
