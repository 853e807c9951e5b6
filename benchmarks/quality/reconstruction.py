"""The autoencoder alone: true frames are encoded and painted again, which bounds what a generator can reach."""

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.quality.clips import averaged, begin, drawn_frame
from streamer.avatar.portrait import Portrait
from streamer.model.checkpoint import Networks
from streamer.model.layers import to_tensor
from streamer.model.runtime.graph_cpu import Conditions, Stream
from streamer.model.runtime.stream import silence
from streamer.model.runtime.torch_cpu import FrameRenderer

_BATCH = 8


class Reconstruction(FrameRenderer):
    """Paints latents that the encoder made of true frames, instead of generated ones."""

    def __init__(self, networks: Networks, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(networks, dtype, context=0)
        self._encoder = networks.autoencoder
        self._latent: np.ndarray | None = None

    @torch.inference_mode()
    def encode(self, seen: np.ndarray, picture: np.ndarray) -> np.ndarray:
        """Cut-outs [T, s, s, 4] uint8 premultiplied and the neutral one [s, s, 4] -> whitened latents [T, Z, ...]."""
        own = to_tensor(picture[None])
        latents = []
        for first in range(0, len(seen), _BATCH):
            frames = to_tensor(seen[first : first + _BATCH])
            latents.append(self._encoder.encode(frames, own.expand_as(frames)).numpy())
        return np.concatenate(latents)

    def rebuild(
        self, shown: Portrait, size: int, seen: np.ndarray, noise: float = 0.0, seed: int = 0
    ) -> Iterator[np.ndarray]:
        """
        Yields the frames [S, S, 4] uint8 premultiplied of cut-outs [T, s, s, 4], which are painted from the portrait.
        `noise`: standard deviation of what is added to the whitened latents, as a generator's errors would be.
        """
        rng = np.random.default_rng(seed)
        stream = begin(self, shown, size, seed)
        self.hear(stream, silence())
        for latent in self.encode(seen, averaged(shown.references[0], self.config.size)):
            off = noise * rng.standard_normal(latent.shape, np.float32) if noise else 0.0
            self._latent = (latent + off)[None].astype(np.float32)
            yield drawn_frame(self, stream)

    def _next(self, stream: Stream, now: Conditions) -> list[np.ndarray]:
        assert self._latent is not None
        return [self._latent]
