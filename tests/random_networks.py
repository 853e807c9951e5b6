"""Networks with random weights, and something to say to them, for the tests of what runs them."""

import numpy as np
import torch

from streamer.model.checkpoint import Networks, untrained
from streamer.model.config import HEARD, ModelConfig
from streamer.model.runtime.stream import FrameConditions
from streamer.motion.controls import CONTROLS, EMOTIONS


def random_networks(config: ModelConfig) -> Networks:
    """Random weights everywhere, so that every condition shows."""
    torch.manual_seed(0)
    made = untrained(config)
    for module in (made.autoencoder, made.transformer):
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def cue(seed: int) -> FrameConditions:
    """Of random numbers, about as large as a life's and a voice's."""
    rng = np.random.default_rng(seed)
    return FrameConditions(
        rng.normal(0, 0.5, len(CONTROLS)).astype(np.float32),
        rng.normal(0, 1, HEARD).astype(np.float32),
        rng.random(len(EMOTIONS)).astype(np.float32),
    )
