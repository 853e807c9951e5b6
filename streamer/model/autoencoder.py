"""The autoencoder: a frame to a small latent, and a latent with pictures of the character to a frame.

The encoder sees a frame and the neutral picture, so that latents encode motion and change, not the character; it runs
in training only. The decoder is the painter (`streamer.model.painter`). Each frame is encoded by itself: temporal
stride 1, causal, no look-ahead.

Letters used in shapes: B frames, S picture edge, s latent edge (S / 16), Z latent channels.
Pictures are premultiplied RGBA in -1..1, [B, 4, S, S].
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamer.model.config import STRIDE, AutoencoderConfig
from streamer.model.layers import Descent, Level, conv
from streamer.model.painter import Painted, Painter, References


class Encoder(nn.Module):
    """Encodes a frame, given the picture, to a latent of the motion and changes between them."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.descent = Descent(8, config.channels, config.encoder_blocks)
        self.latent = nn.Sequential(Level(config.channels[-1]), conv(config.channels[-1], config.latent, 1))

    def forward(self, frame: Tensor, picture: Tensor) -> Tensor:
        """[B, 4, S, S] each -> [B, Z, s, s]."""
        return self.latent(self.descent(torch.cat([frame, picture], 1))[-1])


def _mix(matrix: Tensor, latent: Tensor) -> Tensor:
    """matrix [Z, Z] times each position of latent [B, Z, s, s]."""
    return functional.conv2d(latent, matrix[:, :, None, None])


class Autoencoder(nn.Module):
    """Encoder and painter. Only the painter runs for each frame of a live session."""

    mean: Tensor
    whiten: Tensor
    colour: Tensor
    shows: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.painter = Painter(config)
        # The encoder's output, minus its mean, is whitened: its channels are so correlated that a few directions would
        # dominate the generator's error, and lids and lips are among the small ones. `colour` inverts the whitening.
        self.register_buffer("mean", torch.zeros(config.latent))
        self.register_buffer("whiten", torch.eye(config.latent))
        self.register_buffer("colour", torch.eye(config.latent))
        # How visible an error in each whitened channel is in the picture, mean 1: weights of the generator's loss.
        self.register_buffer("shows", torch.ones(config.latent))

    def encode(self, frame: Tensor, picture: Tensor) -> Tensor:
        """
        Encodes frames relative to neutral pictures, [B, 4, S, S] each -> whitened latents [B, Z, s, s]. Raises
        ValueError for an edge that is not divisible by 16.
        """
        height, width = picture.shape[2:]
        if height % STRIDE or width % STRIDE:
            raise ValueError(f"a picture of {width}x{height} pixels: both edges must be divisible by {STRIDE}")
        return _mix(self.whiten, self.encoder(frame, picture) - self.mean.view(-1, 1, 1))

    def decode(
        self, latent: Tensor, pose: Tensor | None, references: References, missing: Tensor | None = None
    ) -> Painted:
        """Whitened latents [B, Z, s, s] and references of the same B, of which `missing` [B, R] get no share."""
        return self.painter(_mix(self.colour, latent) + self.mean.view(-1, 1, 1), pose, references, missing)
