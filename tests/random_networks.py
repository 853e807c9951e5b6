"""Networks with random weights, for the tests of what runs them."""

import torch

from streamer.model.config import ModelConfig
from streamer.model.loading import Networks, untrained


def random_networks(config: ModelConfig) -> Networks:
    """Random weights everywhere, so that every condition shows."""
    torch.manual_seed(0)
    made = untrained(config)
    for module in (made.autoencoder, made.transformer):
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made
