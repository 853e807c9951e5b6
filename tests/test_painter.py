"""The painter: flows and shares of several references, copying at any size, and the patch."""

import pytest
import torch

from streamer.model.autoencoder import Autoencoder
from streamer.model.config import AutoencoderConfig, patch_edge
from streamer.model.layers import enlarged
from streamer.model.painter import (
    Painter,
    compose,
    compose_part,
    crop_features,
)

CONFIG = AutoencoderConfig(4, (4, 8, 8, 16), (0, 0, 0, 1), (8, 8, 16), (4, 4, 8), (8, 8))
_EDGE = 64
PATCH = patch_edge(256)


@pytest.fixture(scope="module")
def painter() -> Painter:
    torch.manual_seed(0)
    return Painter(CONFIG).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def moved() -> Painter:
    """A painter whose flows, shares and patch are not those of the first step."""
    torch.manual_seed(1)
    made = Painter(CONFIG).eval().requires_grad_(False)
    for match in (made.match, *(stage.match for stage in made.stages)):
        match.say.weight.normal_(0, 0.3)
    made.patch.paint.weight.normal_(0, 0.1)
    return made


def pictures(count: int, edge: int = _EDGE) -> torch.Tensor:
    return torch.rand(1, count, 4, edge, edge, generator=torch.Generator().manual_seed(count)) * 2 - 1


def latent(rows: int = 1) -> torch.Tensor:
    return torch.randn(rows, 4, _EDGE // 16, _EDGE // 16, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_untrained_it_copies_the_references(painter: Painter, count: int) -> None:
    """Before training every place comes from the same place of the references, all with the same share."""
    given = pictures(count)
    painted = painter(latent(), None, painter.references(given))
    assert painted.flow.shape == (1, count, 2, 16, 16) and not painted.flow.any()
    assert torch.allclose(painted.shares, torch.full((1, count, 32, 32), 1 / count))
    frame = compose(given, painted._replace(painted=torch.zeros_like(painted.painted)), _EDGE)
    assert torch.allclose(frame, given.mean(1), atol=1e-5)


def test_shares_sum_to_one_and_flows_are_of_their_reference(moved: Painter) -> None:
    """Exchanging two further references exchanges their flows and shares and nothing else."""
    given = pictures(3)
    here = moved(latent(), None, moved.references(given))
    there = moved(latent(), None, moved.references(given[:, [0, 2, 1]]))
    assert torch.allclose(here.shares.sum(1), torch.ones(1, 32, 32), atol=1e-5)
    assert here.flow.abs().max() > 0.1
    assert torch.allclose(here.flow[:, [0, 2, 1]], there.flow, atol=1e-4)
    assert torch.allclose(here.shares[:, [0, 2, 1]], there.shares, atol=1e-5)
    assert torch.allclose(here.paint, there.paint, atol=1e-4)


def test_a_flow_points_to_the_source(painter: Painter) -> None:
    """A flow of one place to the right copies from an edge / places to the right."""
    given = pictures(1)
    painted = painter(latent(), None, painter.references(given))
    flow = torch.zeros_like(painted.flow)
    flow[:, :, 0] = 1
    painted = painted._replace(flow=flow, painted=torch.zeros_like(painted.painted))
    frame = compose(given, painted, _EDGE)
    assert torch.allclose(frame[..., :-4], given[:, 0, :, :, 4:], atol=1e-5)


def test_an_enlarged_picture_lies_where_the_picture_lay(painter: Painter) -> None:
    """Frames copied from an enlarged picture without motion are the picture's own pixels."""
    given = pictures(1)
    painted = painter(latent(), None, painter.references(given))
    painted = painted._replace(painted=torch.zeros_like(painted.painted))
    torch.testing.assert_close(compose(enlarged(given[0])[None], painted, _EDGE), given[0], atol=1e-4, rtol=0)


def test_a_part_is_the_same_part_of_the_whole(moved: Painter) -> None:
    """`compose_part` gives the pixels that `compose` gives there, for each frame of each scene."""
    given = torch.cat([pictures(2), pictures(2).flip(-1)])
    seen = torch.cat([latent(2), latent(2).flip(-1)])
    painted = moved(seen, None, moved.references(given).expand(2))
    fine = given.repeat_interleave(4, 3).repeat_interleave(4, 4)
    whole = compose(fine, painted, 256, 2)
    corners = torch.tensor([[0, 0], [64, 8], [24, 64], [40, 16]])
    parts = compose_part(fine, painted, 256, corners, PATCH, 2)
    for part, frame, (x, y) in zip(parts, whole, corners.tolist(), strict=True):
        assert torch.allclose(part, frame[:, y : y + PATCH, x : x + PATCH], atol=1e-4)
    assert not torch.allclose(whole[0], whole[1], atol=0.01)


def test_the_patch_begins_as_nothing_and_keeps_its_size(painter: Painter, moved: Painter) -> None:
    """An untrained patch changes nothing; its features are those below it."""
    composed = torch.rand(2, 4, PATCH, PATCH)
    features = torch.arange(2 * 8 * 32 * 32).float().view(2, 8, 32, 32)
    below = crop_features(features, torch.tensor([[0, 8], [64, 16]]), PATCH)
    torch.testing.assert_close(below[1], features[1, :, 2:26, 8:32], rtol=1e-5, atol=0.01)
    change, share = painter.patch(composed, below)
    assert not change.any() and share.shape == (1, 1, PATCH, PATCH)
    assert share[..., 8:-8, 8:-8].min() == 1 and share[..., 0, :].max() < 0.1 and share[..., -1].max() < 0.1
    assert moved.patch(composed, below / below.max())[0].abs().max() > 0


def test_latents_and_pose_matter(moved: Painter) -> None:
    """Different latents move differently; a pose map is optional and at first without effect."""
    references = moved.references(pictures(1))
    one, other = (moved(z, None, references) for z in (latent(), -latent()))
    assert not torch.allclose(one.flow, other.flow, atol=1e-3)
    posed = moved(latent(), torch.rand(1, 8, 4, 4), references)
    assert torch.equal(posed.flow, one.flow)


def test_the_autoencoder_encodes_what_it_decodes() -> None:
    """Encoder and painter agree on the latent's size, and gradients reach the encoder through the frame."""
    torch.manual_seed(0)
    model = Autoencoder(CONFIG)
    given = pictures(2)
    for match in (model.painter.match, *(stage.match for stage in model.painter.stages)):
        torch.nn.init.normal_(match.say.weight, 0, 0.3)
    z = model.encode(given[:, 1], given[:, 0])
    assert z.shape == (1, 4, 4, 4)
    frame = compose(given, model.decode(z, None, model.painter.references(given)), _EDGE)
    (frame - given[:, 1]).square().mean().backward()
    assert model.encoder.latent[1].weight.grad.abs().sum() > 0
