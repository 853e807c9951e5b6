"""Pictures alone: does a generated frame still show its own character, and what does the autoencoder cost?"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from quality_clips import begin, cue, cut, draw, paint, passage, portrait
from quality_lips import given_back
from quality_measures import descriptor, nearest, psnr

from streamer.model.autoencoder import to_tensor
from streamer.model.loading import Networks
from streamer.model.stream import Painter
from streamer.studio.alpha import premultiplied
from streamer.studio.character import Character
from streamer.studio.rig import Rig

GREY = 128


def before_grey(frame: np.ndarray) -> np.ndarray:
    """Premultiplied [S, S, 4] uint8 -> [S, S, 3] uint8 before a grey wall."""
    clear = 255 - frame[..., 3:].astype(np.uint16)
    return np.minimum(frame[..., :3] + (clear * GREY + 127) // 255, 255).astype(np.uint8)


Talk = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""From a character's seed: what it hears [T, Q], and the phones' truth [T, M]."""


def identity(painter: Painter, seeds: Sequence[int], talk: Talk, every: int = 3) -> dict[str, Any]:
    """
    Each character speaks and moves; the nearest of all characters' pictures at rest should be its own. Cut-outs before
    a grey wall: a background would give the character away. `every` so many frames are asked, after the first.
    """
    known, asked, drawn, own = [], [], [], []
    for i, seed in enumerate(seeds):
        heard, truth = talk(seed)
        said = passage(seed, "all", heard, truth)
        with Rig(Character.from_seed(seed), painter.config.size, background=False) as rig:
            given = portrait(rig)
            known.append(descriptor(before_grey(given.picture)))
            stream = begin(painter, given, seed=300 + i)
            for k, (controls, now) in enumerate(zip(said.controls, said.heard, strict=True)):
                frame = paint(painter, [stream], [cue(controls, now)])[0]
                if k % every == every - 1:
                    asked.append(descriptor(before_grey(frame)))
                    drawn.append(descriptor(before_grey(premultiplied(rig.draw(controls)))))
                    own.append(i)
    return identity_numbers(np.stack(known), np.stack(drawn), np.stack(asked), np.array(own))


def identity_numbers(known: np.ndarray, drawn: np.ndarray, asked: np.ndarray, own: np.ndarray) -> dict[str, Any]:
    """Descriptors [K, D] of pictures at rest, [N, D] of the rig's frames and of generated ones, whose they are [N]."""
    right = nearest(asked, known) == own
    return {
        "n": len(own),
        "characters": len(known),
        "descriptor_on_rig": float(np.mean(nearest(drawn, known) == own)),
        "nearest_is_own": float(np.mean(right)),
        "characters_ever_mistaken": len(set(own[~right].tolist())),
    }


def _shift_tolerant() -> tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None, str]:
    """ST-LPIPS (alex), or None and why not: `pip install --no-deps stlpips-pytorch` brings it with its weights."""
    # The package imports three others for networks and plots that this one does not use; torchvision would want a torch
    # of its own. Empty stand-ins serve, where they are missing.
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


@torch.inference_mode()
def autoencoder(networks: Networks, passages: Sequence[tuple[int, np.ndarray]]) -> dict[str, Any]:
    """
    The autoencoder alone, on frames that the rig draws of (seed, controls [T, C]): decibels of whole, mouth and eyes,
    and of the picture merely copied. Colours only: alpha of an opaque picture is no achievement.
    """
    network = networks.autoencoder
    perceived, why_not = _shift_tolerant()
    found: dict[str, list[float]] = {name: [] for name in ("whole", "mouth", "eyes", "copied", "copied_mouth")}
    distances: list[float] = []
    for seed, controls in passages:
        drawn = draw(seed, networks.config.size, controls)
        back = given_back(network, drawn)
        still = drawn.portrait.picture
        for got, wanted, mouth, eyes in zip(back, drawn.frames, drawn.mouths, drawn.eyes, strict=True):
            found["whole"].append(psnr(got[..., :3], wanted[..., :3]))
            found["mouth"].append(psnr(cut(got, mouth), cut(wanted, mouth)))
            found["eyes"].append(float(np.mean([psnr(cut(got, eye), cut(wanted, eye)) for eye in eyes])))
            found["copied"].append(psnr(still[..., :3], wanted[..., :3]))
            found["copied_mouth"].append(psnr(cut(still, mouth), cut(wanted, mouth)))
        if perceived is not None:
            distances += perceived(to_tensor(back)[:, :3], to_tensor(drawn.frames)[:, :3]).flatten().tolist()
    return {
        "n": len(found["whole"]),
        "characters": len(passages),
        **{f"psnr_{name}": float(np.mean(values)) for name, values in found.items()},
        "st_lpips": float(np.mean(distances)) if distances else None,
        "st_lpips_missing": why_not or None,
    }
