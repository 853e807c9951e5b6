"""Single frames: do they preserve the character's identity, and how much does the autoencoder lose?"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.quality.clips import (
    Passage,
    Portrait,
    begin,
    cue,
    cut,
    draw,
    face_of_studio,
    paint,
    painted,
    passage,
    portrait,
)
from benchmarks.quality.lips import given_back
from benchmarks.quality.measures import descriptor, gradient_energy, nearest, psnr
from streamer.base.alpha import premultiplied
from streamer.model.autoencoder import Autoencoder, to_pixels, to_tensor
from streamer.model.checkpoint import Networks
from streamer.model.runtime.torch_cpu import FrameRenderer
from streamer.studio.character import Character
from streamer.studio.rig import Rig

GREY = 128

_TRIED = 6
"""Characters for whose last frame the best latents are searched: it is expensive, and similar for each."""


@torch.inference_mode()
def larger(frame_renderer: FrameRenderer, passages: Sequence[Passage]) -> dict[str, Any]:
    """Compares frames of twice the networks' size S, drawn from a picture of that size or scaled up from S, with the
    rig's.

    Returns decibels, and gradient energy as a share of the rig's.
    """
    size = frame_renderer.config.size
    sides: dict[str, list[tuple[float, float]]] = {"drawn": [], "scaled": []}
    for said in passages:
        drawn = draw(said.seed, 2 * size, said.controls)
        large = drawn.portrait.picture
        small = large.reshape(size, 2, size, 2, 4).mean((1, 3)).round().astype(np.uint8)
        for name, picture in (("drawn", large), ("scaled", small)):
            frames = painted(frame_renderer, Portrait(picture, face_of_studio(size)), said)
            for frame, wanted in zip(frames, drawn.frames, strict=True):
                got = np.asarray(Image.fromarray(frame).resize((2 * size, 2 * size), Image.Resampling.BICUBIC))
                sharpness = gradient_energy(got) / gradient_energy(wanted)
                sides[name].append((psnr(got[..., :3], wanted[..., :3]), sharpness))
    return {
        "n": len(sides["drawn"]),
        "size": 2 * size,
        **{
            name: {"psnr": float(np.mean([p for p, _ in found])), "energy": float(np.mean([e for _, e in found]))}
            for name, found in sides.items()
        },
    }


def before_grey(frame: np.ndarray) -> np.ndarray:
    """Premultiplied [S, S, 4] uint8 -> [S, S, 3] uint8 on a grey background."""
    clear = 255 - frame[..., 3:].astype(np.uint16)
    return np.minimum(frame[..., :3] + (clear * GREY + 127) // 255, 255).astype(np.uint8)


Talk = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""Maps a character's seed to its speech [T, Q] and the phones' truth [T, M]."""


def identity(frame_renderer: FrameRenderer, seeds: Sequence[int], talk: Talk, every: int = 3) -> dict[str, Any]:
    """Each character speaks and moves; the nearest of all characters' pictures at rest should be its own.

    Characters are cut out on grey, because a background would identify them. Every `every`-th frame is tested.
    """
    known, asked, drawn, own = [], [], [], []
    for i, seed in enumerate(seeds):
        heard, truth = talk(seed)
        said = passage(seed, "all", heard, truth)
        with Rig(Character.from_seed(seed), frame_renderer.config.size, background=False) as rig:
            given = portrait(rig)
            known.append(descriptor(before_grey(given.picture)))
            stream = begin(frame_renderer, given, seed=300 + i)
            for k, (controls, now) in enumerate(zip(said.controls, said.heard, strict=True)):
                frame = paint(frame_renderer, [stream], [cue(controls, now)])[0]
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


def best_latents(network: Autoencoder, pictures: np.ndarray, frames: np.ndarray, steps: int = 40) -> np.ndarray:
    """frames [B, S, S, 4], each with its picture [B, S, S, 4] at rest, decoded from optimised latents.

    Gradient descent starts from the encoder's latents; the improvement shows what the encoder loses.
    """
    picture, wanted = to_tensor(pictures), to_tensor(frames)
    with torch.no_grad():
        anchor, latent = network.anchor(picture), network.encode(wanted, picture)
    latent = latent.clone().requires_grad_(True)  # tensors created under no_grad need it explicitly
    optimizer = torch.optim.Adam([latent], 0.03)
    for _ in range(steps):
        error = network.decode(latent, anchor) - wanted
        (error.square().mean() + 0.3 * error.abs().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return to_pixels(network.decode(latent, anchor))


@torch.inference_mode()
def autoencoder(networks: Networks, passages: Sequence[tuple[int, np.ndarray]]) -> dict[str, Any]:
    """Measures the autoencoder alone on the rig's frames of (seed, controls [T, C]).

    Returns decibels of the whole frame, mouth and eyes, and of simply copying the picture. Only colours count, because
    the alpha of an opaque picture is trivial.
    """
    network = networks.autoencoder
    perceived, why_not = _shift_tolerant()
    found: dict[str, list[float]] = {name: [] for name in ("whole", "mouth", "eyes", "copied", "copied_mouth")}
    distances: list[float] = []
    tried: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # for the best latents: picture, frame, reconstruction
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
        if len(tried) < _TRIED:
            tried.append((still, drawn.frames[-1], back[-1]))
        if perceived is not None:
            distances += perceived(to_tensor(back)[:, :3], to_tensor(drawn.frames)[:, :3]).flatten().tolist()
    pictures, frames, backs = (np.stack(part) for part in zip(*tried, strict=True))
    with torch.inference_mode(False), torch.enable_grad():
        best = best_latents(network, pictures, frames)
    return {
        "n": len(found["whole"]),
        "characters": len(passages),
        **{f"psnr_{name}": float(np.mean(values)) for name, values in found.items()},
        "st_lpips": float(np.mean(distances)) if distances else None,
        "st_lpips_missing": why_not or None,
        "best_latents": {
            "n": len(tried),
            "psnr_whole": _mean_psnr(best, frames),
            "psnr_whole_of_encoder": _mean_psnr(backs, frames),
        },
    }


def _mean_psnr(got: np.ndarray, wanted: np.ndarray) -> float:
    """Mean PSNR of the colours over frames [B, S, S, 4]."""
    return float(np.mean([psnr(a[..., :3], b[..., :3]) for a, b in zip(got, wanted, strict=True)]))
