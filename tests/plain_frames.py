"""Frames of one session, drawn by the networks' own functions and finished by Pillow and swscale: what devices are held
to."""

import numpy as np
import torch
from device_frames import Character
from PIL import Image
from torch import Tensor
from torch.nn import functional

from streamer.media.video_encoder import to_yuv
from streamer.model.checkpoint import Networks
from streamer.model.config import CELL, PLAN, patch_edge
from streamer.model.kv_cache import Cache
from streamer.model.layers import enlarged, to_pixels, to_tensor
from streamer.model.painter import compose, compose_part, crop_features
from streamer.model.runtime.cuda_frame import patch_place
from streamer.model.runtime.stream import FrameConditions, Hearing
from streamer.model.sampling import advance, generate
from streamer.model.transformer import Conditions, face_tokens


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """[S, S, C] -> [size, size, C], each channel by itself."""
    if len(picture) == size:
        return picture
    return np.stack(
        [
            np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((size, size), Image.Resampling.BICUBIC))
            for plane in np.moveaxis(picture, -1, 0)
        ],
        -1,
    )


class Plain(Hearing):
    """A session by itself, in float32, with exactly the references it was given."""

    @torch.no_grad()
    def __init__(self, networks: Networks, given: Character, seed: int) -> None:
        super().__init__()
        self.networks, self.given = networks, given
        config, painter = networks.config, networks.autoencoder.painter
        self.edge = 2 * config.size
        pictures = torch.cat([to_tensor(picture[None]) for picture in given.references])
        self.textures = enlarged(pictures)[None]
        self.features = painter.references(functional.avg_pool2d(pictures, 2)[None])
        self.reference = networks.transformer.reference(self.features.deep[:, 0])
        self.faces = face_tokens(torch.from_numpy(given.face.astype(np.float32)), config.edge).view(1, 1, -1)
        self.noise = torch.Generator().manual_seed(seed)
        self.reset()

    def reset(self) -> None:
        """Forgets all frames; the noise goes on."""
        self.cache = Cache.empty(self.networks.config, self.reference.sinks)
        self.previous: tuple[Tensor, Conditions] | None = None
        self.place = torch.full((1, 2), -1)

    def listen(self, said: FrameConditions) -> None:
        self.hear(said, self.networks.config.transformer.window)

    def latent(self) -> Tensor:
        config, one = self.networks.config, torch.ones(1)
        cells = config.size // 16
        noise = torch.randn(1, config.autoencoder.latent, cells, cells, generator=self.noise)
        plans, heard, emotion = (
            torch.from_numpy(np.stack(part)).float() for part in (self.plans, self.heard, [self.emotion])
        )
        given = Conditions(plans.view(1, 2, PLAN), one, heard[None, None], one, self.faces, emotion[None], one)
        model, added = self.networks.transformer, self.reference.added
        if self.previous is None:
            latent = generate(model, noise, given, added, self.cache)
        else:
            latent = advance(model, self.previous, noise, given, added, self.cache)
        self.previous = latent, given
        return latent

    @torch.no_grad()
    def draw(self) -> np.ndarray:
        """The next frame of the person alone, [D, D, 4] uint8 premultiplied."""
        autoencoder, edge = self.networks.autoencoder, self.edge
        painted = autoencoder.decode(self.latent(), None, self.features)
        frame = compose(self.textures, painted, edge)
        patch = patch_edge(edge // 2)
        self.place = patch_place(painted.flow[:, 0], torch.tensor([self.given.centre]), patch // CELL, self.place)
        corner = CELL * self.place
        part = compose_part(self.textures, painted, edge, corner, patch)
        change, share = autoencoder.painter.patch(part, crop_features(painted.features, corner, patch))
        x, y = corner[0].tolist()
        frame[:, :, y : y + patch, x : x + patch] = part + share * change
        return np.array(to_pixels(frame)[0])

    def finished(self) -> np.ndarray:
        """The next frame over its plate, in the session's size: straight RGBA."""
        frame = self.draw().astype(np.float64)
        if all((picture[..., 3] == 255).all() for picture in self.given.references):
            frame[..., 3] = 255
        frame[..., :3] = np.minimum(frame[..., :3], frame[..., 3:])
        if self.given.plate is not None:
            plate = resized(self.given.plate, self.edge)
            frame += (1 - frame[..., 3:] / 255) * np.concatenate([plate, np.full_like(plate[..., :1], 255)], -1)
        frame = resized(frame.round().astype(np.uint8), self.given.size)
        colour = np.minimum(frame[..., :3], frame[..., 3:]) * (255 / np.maximum(frame[..., 3:], 1))
        return np.concatenate([colour.round(), frame[..., 3:]], -1).astype(np.uint8)

    def planes(self) -> np.ndarray:
        """The same as planes of YUV."""
        return np.asarray(to_yuv(np.ascontiguousarray(self.finished())).to_ndarray())
