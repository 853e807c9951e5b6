"""The transformer's live step on the kernels under Triton's interpreter, against the same step in plain PyTorch."""

import copy

import pytest
import torch
from torch import Tensor

from streamer.model.config import HEARD, PLAN, AutoencoderConfig, ModelConfig, TransformerConfig
from streamer.model.runtime import cuda_step
from streamer.model.runtime.slots import Memory, Seat, Slots
from streamer.model.transformer import Conditions, Transformer
from streamer.motion.controls import EMOTIONS

SMALL = ModelConfig(
    "small",
    96,
    AutoencoderConfig(latent=4, channels=(4, 4, 8, 8), coarse=(4, 8, 8)),
    TransformerConfig(width=64, depth=2, heads=2, hidden=64, modulation=16, emotion_width=16, context=2, rope_time=16),
)
"""Heads of 32 channels, the least that the kernels take, and 9 tokens per frame."""

EDGE = SMALL.size // 16


def network(dtype: torch.dtype) -> Transformer:
    """Random weights everywhere, also where training starts from zero."""
    model = Transformer(SMALL).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model.to(dtype)


def seated(model: Transformer, slots: Slots, seed: int) -> Seat:
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(1, SMALL.autoencoder.channels[-1], EDGE, EDGE, generator=g).to(slots.dtype)
    faces = torch.rand(1, slots.now.faces.shape[1], SMALL.tokens, generator=g)
    faces[..., :4] = 0  # places without a face
    return slots.seat(model.reference(features), faces)


def inputs(slots: Slots, seed: int) -> tuple[Tensor, Conditions]:
    """Noise and conditions for all who are seated."""
    g = torch.Generator().manual_seed(1000 + seed)
    count, faces, emotions = len(slots), slots.now.faces[: len(slots)], slots.now.emotion.shape[1]
    given = (torch.rand(count, generator=g) < 0.8).float()
    return torch.randn(count, SMALL.autoencoder.latent, EDGE, EDGE, generator=g), Conditions(
        torch.randn(count, 2, PLAN, generator=g),
        given,
        torch.randn(count, faces.shape[1], SMALL.transformer.window, HEARD, generator=g),
        given.flip(0),
        faces,
        torch.rand(count, emotions, len(EMOTIONS), generator=g),
        given,
    )


def same(found: Memory, wanted: Memory) -> None:
    """Bit for bit."""
    assert found.written == wanted.written
    assert torch.equal(found.keys, wanted.keys) and torch.equal(found.values, wanted.values)
    assert (found.previous is None) == (wanted.previous is None)
    if found.previous and wanted.previous:
        assert torch.equal(found.previous[0], wanted.previous[0])
        assert all(torch.equal(a, b) for a, b in zip(found.previous[1], wanted.previous[1], strict=True))


@pytest.mark.parametrize(("faces", "emotions", "context"), [(1, 1, 2), (2, 2, 0)])
@torch.no_grad()
def test_the_kernels_step_is_the_plain_one(faces: int, emotions: int, context: int) -> None:
    """In float32 both draw the same, past the seam of the ring: sessions of different ages, coming, going, waiting."""
    model = network(torch.float32)
    ours, plain = (Slots(SMALL, 3, context=context, faces=faces, emotions=emotions) for _ in range(2))
    seats: list[tuple[Seat, Seat]] = []
    for frame in range(7):
        if frame in (0, 1, 4):
            seats.append((seated(model, ours, frame), seated(model, plain, frame)))
        if frame == 5:
            left = seats.pop(0)
            ours.leave(left[0])
            plain.leave(left[1])
        due = ours.turn([mine for i, (mine, _) in enumerate(seats) if (frame, i) not in {(3, 0), (6, 1)}])
        for slots in (ours, plain):
            slots.take(*inputs(slots, frame), due)
        drawn = cuda_step.step(model, ours, len(ours))
        wanted = cuda_step.reference_step(model, plain, len(plain))
        torch.testing.assert_close(drawn[due], wanted[due], atol=1e-5, rtol=1e-5)
        for mine, other in seats:
            found, truth = ours.read(mine), plain.read(other)
            assert found.written == truth.written
            torch.testing.assert_close(found.keys, truth.keys, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found.values, truth.values, atol=1e-5, rtol=1e-5)
    assert ours.read(seats[0][0]).written == 5  # of 3 places in the ring


@torch.no_grad()
def test_half_precision_errs_no_more_than_plain_half() -> None:
    """In float16, frame by frame from one state, the kernels are as near to float32 as PyTorch's own operators are."""
    model = network(torch.float16)
    exact = copy.deepcopy(model).float()
    ours, plain = (Slots(SMALL, 3, dtype=torch.float16) for _ in range(2))
    truth = Slots(SMALL, 3)
    for frame in range(6):
        for model_of, slots in ((model, ours), (model, plain), (exact, truth)):
            if frame < 3:
                seated(model_of, slots, frame)
            slots.take(*inputs(slots, frame), torch.ones(len(slots), dtype=torch.bool))
        for name, part in vars(ours).items():  # the same numbers to begin with
            for slots in (plain, truth):
                if isinstance(part, Tensor) and name not in ("table", "_beside"):
                    getattr(slots, name).copy_(part)
                elif isinstance(part, Conditions):
                    for place, new in zip(getattr(slots, name), part, strict=True):
                        place.copy_(new)
        count = len(ours)
        wanted = cuda_step.reference_step(exact, truth, count)
        errors = [
            float((drawn.float() - wanted).abs().max())
            for drawn in (cuda_step.step(model, ours, count), cuda_step.reference_step(model, plain, count))
        ]
        assert errors[0] <= 2 * errors[1] and errors[0] <= 2e-2, errors


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@torch.no_grad()
def test_a_slot_keeps_to_itself() -> None:
    """A slot that is not due keeps its state bit for bit; one full of NaN leaves its neighbours' bits alone."""
    model = network(torch.float32)
    pure, spoilt = Slots(SMALL, 2), Slots(SMALL, 2)
    seats = [[seated(model, slots, seed) for seed in range(2)] for slots in (pure, spoilt)]
    for frame in range(4):
        due = torch.tensor([frame != 2, frame < 2])
        for slots, mine in zip((pure, spoilt), seats, strict=True):
            before = [slots.read(seat) for seat in mine]
            noise, given = inputs(slots, frame)
            if slots is spoilt and frame == 1:
                noise[1] = torch.nan
            slots.take(noise, given, due)
            cuda_step.step(model, slots, 2)
            for seat, held, turn in zip(mine, before, due.tolist(), strict=True):
                if not turn and held.previous and held.previous[0].isfinite().all():  # NaN is not like itself
                    same(slots.read(seat), held)
        same(spoilt.read(seats[1][0]), pure.read(seats[0][0]))
    assert not spoilt.latent[1].isfinite().any() and spoilt.latent[0].isfinite().all()
    spoilt.reset(seats[1][1])
    spoilt.take(*inputs(spoilt, 9), torch.ones(2, dtype=torch.bool))
    assert cuda_step.step(model, spoilt, 2).isfinite().all()
