"""Sizes of the neural generator: one frozen config for each preset."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamer.motion.articulation import EMBEDDING, PROSODY
from streamer.motion.controls import CONTROLS, MOUTH

STRIDE = 16
"""Pixels of the picture per edge of a latent cell."""

POSE = 8
"""Channels of a pose map."""

CELL = 8
"""Pixels along a place of the painter's flow, in a frame of twice the networks' size: where patches are painted."""

HEARD = len(MOUTH) + len(PROSODY) + EMBEDDING
"""Size of the articulation network's output for a frame: mouth, prosody, embedding, in this order."""

PLAN = len(CONTROLS) - len(MOUTH)
"""Size of a frame's motion plan: all controls except the mouth's, which follow the audio."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The size of encoder and painter."""

    latent: int = 32
    """Channels of a latent."""
    channels: tuple[int, int, int, int] = (32, 48, 96, 128)
    """Channels of a picture's features at strides 2, 4, 8 and 16, in the encoder and of the references."""
    encoder_blocks: tuple[int, int, int, int] = (1, 3, 4, 6)
    """Blocks of the encoder at the same strides. It runs only in training: its depth costs nothing in live use."""
    coarse: tuple[int, int, int] = (32, 64, 128)
    """Channels of the painter's coarse network at strides 4, 8 and 16."""
    match: tuple[int, int, int] = (12, 16, 32)
    """Channels in which the painter compares places with a reference, at the same strides."""
    patch: tuple[int, int] = (48, 64)
    """Channels of the patch network at a quarter and an eighth of the patch."""

    def __post_init__(self) -> None:
        sizes = {"channels": 4, "encoder_blocks": 4, "coarse": 3, "match": 3, "patch": 2}
        for name, wanted in sizes.items():
            if len(getattr(self, name)) != wanted:
                raise ValueError(f"{name} wants {wanted} numbers, got {len(getattr(self, name))}")
        if min(self.latent, *self.channels, *self.coarse, *self.match, *self.patch) < 1:
            raise ValueError(f"channels must be positive, got {self}")
        if self.channels[-1] != self.coarse[-1]:
            raise ValueError(
                f"the references' coarsest features have {self.channels[-1]} channels, the painter reads "
                f"{self.coarse[-1]} at that stride"
            )
        if min(self.encoder_blocks) < 0:
            raise ValueError(f"blocks must not be negative, got {self.encoder_blocks}")


@dataclass(frozen=True)
class TransformerConfig:
    """The generator's size."""

    width: int = 256
    depth: int = 6
    heads: int = 4
    hidden: int = 768
    """Width of the feed-forward layers."""
    modulation: int = 96
    """Width of the conditions' input to each block's modulation."""
    emotion_width: int = 64
    """Width of the emotion's cross-attention."""
    patch: int = 2
    """Edge of a token's patch, in latent cells."""
    context: int = 3
    """t_c: latent frames that a step sees besides its own and the picture. No weight depends on it."""
    window: int = 5
    """Frames of audio that a latent frame attends to: its own and those before it. The encoder adds the look-ahead."""
    rope_time: int = 16
    """Channels of a head that encode time; the rest encode the position, half for each direction."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be divisible by heads {self.heads}")
        rest = self.head - self.rope_time
        if self.rope_time % 2 or rest < 4 or rest % 4:
            raise ValueError(
                f"a head of {self.head} channels: rope_time {self.rope_time} must be even and leave a multiple of 4"
            )
        if self.emotion_width % self.emotion_head:
            raise ValueError(
                f"emotion_width {self.emotion_width} must be divisible by its heads of {self.emotion_head}"
            )
        for name in ("depth", "hidden", "modulation", "emotion_width", "patch", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.context < 0:
            raise ValueError(f"context must not be negative, got {self.context}")

    @property
    def head(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def emotion_head(self) -> int:
        """Channels of a head of the emotion's cross-attention."""
        return min(self.emotion_width, 32)


@dataclass(frozen=True)
class ModelConfig:
    """A preset: the picture size, and the networks' sizes."""

    name: str
    size: int
    """Edge of the pictures in pixels."""
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)

    def __post_init__(self) -> None:
        cell = STRIDE * self.transformer.patch
        if self.size < cell or self.size % cell:
            raise ValueError(f"size {self.size} must be a multiple of {cell} (stride {STRIDE} x patch)")

    @property
    def edge(self) -> int:
        """Tokens per edge of a latent frame."""
        return self.size // (STRIDE * self.transformer.patch)

    @property
    def tokens(self) -> int:
        """Tokens of a latent frame."""
        return self.edge**2

    @property
    def token_width(self) -> int:
        """Values per token."""
        return self.autoencoder.latent * self.transformer.patch**2

    @property
    def reference_width(self) -> int:
        """Values per token of the reference: the picture's coarsest features."""
        return self.autoencoder.channels[-1] * self.transformer.patch**2


def patch_edge(size: int) -> int:
    """Edge of a patch in pixels, for networks whose pictures have `size`: 192 of a frame of 512 with `nano`."""
    return CELL * (3 * size // (4 * CELL))


PRESETS: Mapping[str, ModelConfig] = {
    # Context would cost a second pass to store the previous frame, and frames are closer to the truth without it.
    "nano": ModelConfig("nano", 256, transformer=TransformerConfig(context=0)),
    "tiny": ModelConfig(
        "tiny",
        64,
        AutoencoderConfig(4, (4, 4, 8, 8), (0, 1, 1, 2), (4, 8, 8), (4, 4, 8), (8, 8)),
        TransformerConfig(
            width=32, depth=2, heads=2, hidden=64, modulation=16, emotion_width=16, context=2, rope_time=4
        ),
    ),
    "live": ModelConfig(
        "live",
        512,
        AutoencoderConfig(32, (48, 96, 192, 256), (1, 3, 4, 6), (64, 128, 256), (16, 24, 48), (64, 96)),
        TransformerConfig(
            width=640, depth=8, heads=10, hidden=1728, modulation=192, emotion_width=128, context=5, window=5
        ),
    ),
}


def preset(name: str) -> ModelConfig:
    """Raises ValueError, which lists the presets, for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
