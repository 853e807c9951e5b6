"""Rendered people on whom nothing was trained: `streamer.training.people` with `--split test`.

Needs the mesh and MakeHuman's assets; without them the part says what is missing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.reconstruction import Reconstruction
from streamer.faces.landmarks import Landmarker
from streamer.model.runtime.graph_cpu import GraphFrameRenderer
from streamer.training.clip import Clip
from streamer.training.people.template import MissingAssets, found_files
from streamer.training.voices import Voices

SEED = 77


def rendered(
    mesh: Path, assets: Path, people: int, frames: int, size: int, voices: Voices, silence: np.ndarray
) -> Iterator[Clip]:
    """A clip of each of the first held-out `people`: consecutive frames, speech only, no hands."""
    from streamer.training.people.assets import Assets
    from streamer.training.people.clips import FIRST_PERSON, Shot, Studio

    shot = Shot(size, frames, wide=0.0, apart=0.0, hands=0.0)
    studio = Studio(Assets(mesh, assets), shot, voices, silence)
    for number in range(people):
        yield studio.clip(SEED + number, number % FIRST_PERSON)


def measure(
    renderer: GraphFrameRenderer,
    painter: Reconstruction,
    mesh: Path | None,
    assets: Path | None,
    people: int,
    frames: int,
    size: int,
    voices: Voices,
    silence: np.ndarray,
) -> dict[str, Any]:
    """
    Generator and autoencoder on rendered people whose references have `size` pixels. {"skipped": reason} without mesh
    and assets.
    """
    try:
        mesh, assets = found_files(mesh, assets)
        from benchmarks.quality import footage  # the renderer's packages may be missing, too

        clips = rendered(mesh, assets, people, frames, size, voices, silence)
        return footage.measure(renderer, painter, clips, Landmarker.load())
    except (MissingAssets, ImportError) as error:
        return {"skipped": str(error)}
