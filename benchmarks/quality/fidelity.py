"""Single frames: do they preserve the character's identity, and how much does the autoencoder lose?"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.quality.clips import (
    Passage,
    begin,
    cue,
    draw,
    frame_size,
    given,
    paint,
    painted,
    passage,
    with_references,
)
from benchmarks.quality.lips import Fidelity, shut_lids
from benchmarks.quality.measures import descriptor, nearest
from benchmarks.quality.reconstruction import Reconstruction
from streamer.avatar.portrait import MOST_REFERENCES
from streamer.base.alpha import premultiplied
from streamer.model.layers import to_tensor
from streamer.model.runtime.graph_cpu import GraphFrameRenderer
from streamer.motion.controls import rest
from streamer.studio.character import Character
from streamer.studio.rig import Rig

GREY = 128

OTHER_SIZES = (256, 1024)
"""Edges of frames that are measured besides `frame_size`, for the networks' pictures of 256."""

_EVERY, _FIRST = 15, 30
_MOST_SHUT = 4
"""Frames with shut lids of each passage."""


def other_sizes(renderer: GraphFrameRenderer, passages: Sequence[Passage]) -> dict[str, Any]:
    """Frames of other sizes from the same flow, compared with the rig's of the same size."""
    rows = []
    for times in (size // 256 for size in OTHER_SIZES):
        size, found = times * renderer.config.size, Fidelity()
        for said in passages:
            drawn, shut = draw(said.seed, size, said.controls), shut_lids(said.controls)
            for k, frame in enumerate(painted(renderer, drawn.given, size, said)):
                found.add(frame, drawn, k, shut[k])
        rows.append({"size": size, "n": len(found.whole), **found.numbers()})
    return {"n": sum(row["n"] for row in rows), "rows": rows}


def before_grey(frame: np.ndarray) -> np.ndarray:
    """Premultiplied [S, S, 4] uint8 -> [S, S, 3] uint8 on a grey background."""
    clear = 255 - frame[..., 3:].astype(np.uint16)
    return np.minimum(frame[..., :3] + (clear * GREY + 127) // 255, 255).astype(np.uint8)


Talk = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""Maps a character's seed to its speech [T, Q] and the phones' truth [T, M]."""


def identity(renderer: GraphFrameRenderer, seeds: Sequence[int], talk: Talk, every: int = 3) -> dict[str, Any]:
    """Each character speaks and moves; the nearest of all characters' pictures at rest should be its own.

    Characters are cut out on grey, because a background would identify them. Every `every`-th frame is tested.
    """
    known, asked, drawn, own = [], [], [], []
    size = frame_size(renderer.config)
    for i, seed in enumerate(seeds):
        heard, truth = talk(seed)
        said = passage(seed, "all", heard, truth)
        stream = begin(renderer, given(seed, size, background=False), size, seed=300 + i)
        with Rig(Character.from_seed(seed), size, background=False) as rig:
            known.append(descriptor(before_grey(premultiplied(rig.draw(rest())))))
            for k, (controls, now) in enumerate(zip(said.controls, said.heard, strict=True)):
                rig.advance(controls)
                frame = paint(renderer, stream, cue(controls, now))
                if k % every == every - 1:
                    asked.append(descriptor(before_grey(frame)))
                    drawn.append(descriptor(before_grey(premultiplied(rig.draw(controls)))))
                    own.append(i)
    return identity_numbers(np.stack(known), np.stack(drawn), np.stack(asked), np.array(own))


def identity_numbers(known: np.ndarray, drawn: np.ndarray, asked: np.ndarray, own: np.ndarray) -> dict[str, Any]:
    """Scores from descriptors [K, D] at rest, [N, D] of the rig's and of generated frames, and their owners [N]."""
    right = nearest(asked, known) == own
    return {
        "n": len(own),
        "characters": len(known),
        "descriptor_on_rig": float(np.mean(nearest(drawn, known) == own)),
        "nearest_is_own": float(np.mean(right)),
        "characters_ever_mistaken": len(set(own[~right].tolist())),
    }


def _shift_tolerant() -> tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None, str]:
    """ST-LPIPS (alex), or None and the reason: `pip install --no-deps stlpips-pytorch` installs it with its weights."""
    # The package imports three others for networks and plots that are not used here; torchvision would require another
    # torch version. Missing ones are replaced by empty modules.
    made = []
    for name, parts in (("torchvision", ("models",)), ("IPython", ("embed",)), ("torchsummary", ("summary",))):
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            stand_in = types.ModuleType(name)
            for part in parts:
                setattr(stand_in, part, types.ModuleType(f"{name}.{part}"))
            sys.modules[name] = stand_in
            made.append(name)
    try:
        package = importlib.import_module("stlpips_pytorch.stlpips")
        network = package.LPIPS(net="alex", variant="shift_tolerant", verbose=False).eval()
    except (ImportError, OSError) as error:
        return None, f"ST-LPIPS is not measured: {error}; pip install --no-deps stlpips-pytorch"
    finally:
        for name in made:
            del sys.modules[name]
    return network, ""


def moments(controls: np.ndarray) -> list[int]:
    """Frames of a passage [T, C] that are measured: a few of it all, and a few with shut lids."""
    shut = np.flatnonzero(shut_lids(controls).all(1))
    shut = shut[shut >= _FIRST]
    picked = shut[np.linspace(0, len(shut) - 1, min(len(shut), _MOST_SHUT)).astype(int)] if len(shut) else shut
    return sorted({*range(_FIRST, len(controls), _EVERY), *picked.tolist()})


def autoencoder(
    painter: Reconstruction,
    passages: Sequence[tuple[int, np.ndarray]],
    references: Sequence[int] = (1, MOST_REFERENCES),
    noise: float = 0.0,
) -> dict[str, Any]:
    """
    Measures the autoencoder alone on the rig's frames of (seed, controls [T, C]): encoded at the networks' size,
    painted at twice of it from each number of `references`, with `noise` added to the latents. Characters are cut out,
    because a background is copied exactly.

    Returns a row for each number of references: decibels of the whole frame, mouth, eyes and shut lids, gradient energy
    as a share of the true frames', and the same decibels for showing the picture at rest.
    """
    perceived, why_not = _shift_tolerant()
    size = frame_size(painter.config)
    found = {count: Fidelity() for count in references}
    still, distances = Fidelity(), dict.fromkeys(references, 0.0)
    for seed, controls in passages:
        at = moments(controls)
        drawn, shut = draw(seed, size, controls, False, at, painter.config.size), shut_lids(controls[at])
        for k in range(len(at)):
            still.add(drawn.still, drawn, k, shut[k])
        for count, fidelity in found.items():
            rebuilt = painter.rebuild(with_references(drawn.given, count), size, drawn.seen, noise, seed)
            for k, frame in enumerate(rebuilt):
                fidelity.add(frame, drawn, k, shut[k])
                if perceived is not None:
                    with torch.inference_mode():
                        pair = (to_tensor(each[None])[:, :3] for each in (frame, drawn.frames[k]))
                        distances[count] += float(perceived(*pair).sum())
    frames = len(still.whole)
    return {
        "n": frames,
        "characters": len(passages),
        "size": size,
        "noise": noise,
        "references": {
            str(count): {
                **fidelity.numbers(),
                "st_lpips": None if perceived is None else distances[count] / frames,
            }
            for count, fidelity in found.items()
        },
        "still": still.numbers(),
        "st_lpips_missing": why_not or None,
    }
