"""The neural generator's parts at the tiny preset: streams, rings, conditions, presets, and the autoencoder."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from streamer.model.attention import attend, face_audio_attention, rotate, rotation_table
from streamer.model.autoencoder import Autoencoder
from streamer.model.config import HEARD, PLAN, PRESETS, AutoencoderConfig, ModelConfig, TransformerConfig, preset
from streamer.model.kv_cache import Cache
from streamer.model.layers import enlarged, to_tensor
from streamer.model.painter import Painted, compose, sample
from streamer.model.runtime.stream import blocks
from streamer.model.sampling import advance, generate, passage, remember, times
from streamer.model.transformer import Conditions, Transformer, to_latent, to_tokens
from streamer.motion.controls import EMOTIONS

TINY = PRESETS["tiny"]


@pytest.fixture
def transformer() -> Transformer:
    """Random weights everywhere, also where training starts from zero."""
    torch.manual_seed(0)
    model = Transformer(TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def conditions(rows: int, seed: int = 0) -> Conditions:
    g = torch.Generator().manual_seed(seed)
    window = TINY.transformer.window
    given = torch.ones(rows)
    return Conditions(
        torch.randn(rows, 2, PLAN, generator=g),
        given,
        torch.randn(rows, 1, window, HEARD, generator=g),
        given,
        torch.rand(rows, 1, TINY.tokens, generator=g),
        torch.rand(rows, 1, len(EMOTIONS), generator=g),
        given,
    )


def features(rows: int) -> Tensor:
    return torch.randn(rows, TINY.autoencoder.channels[-1], TINY.size // 16, TINY.size // 16)


def latents(*shape: int) -> Tensor:
    return torch.randn(*shape, TINY.autoencoder.latent, TINY.size // 16, TINY.size // 16)


def test_fused_attention_is_asked_in_four_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off the CPU PyTorch's own attention serves: it is given rows laid in a row, since only so its fused forms run."""
    asked: list[int] = []
    fused = functional.scaled_dot_product_attention

    def noted(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        asked.extend(part.dim() for part in (q, k, v, attn_mask) if part is not None)
        return fused(q, k, v, attn_mask=attn_mask)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", noted)
    q, k = torch.zeros(2, 3, 4, 5, 8, device="meta"), torch.zeros(2, 3, 4, 7, 8, device="meta")
    assert attend(q, k, k, torch.ones(2, 3, 1, 1, 7, dtype=torch.bool, device="meta")).shape == q.shape
    assert attend(q[:, 0], k[:, 0], k[:, 0]).shape == q[:, 0].shape
    assert set(asked) == {4}


class TestStreaming:
    @pytest.mark.parametrize("context", [0, 1, 2])
    @torch.no_grad()
    def test_streamed_equals_offline(self, transformer: Transformer, context: int) -> None:
        """Frame by frame with a ring gives what a whole passage gives at once, past the seam of the ring too."""
        frames = 7
        clean, noise, given = latents(1, frames), latents(1, frames), conditions(frames)
        reference = transformer.reference(features(1))
        ones = torch.ones(1, frames)
        offline = passage(transformer, clean, noise, ones, given, reference, context)
        cache = Cache.empty(TINY, reference.sinks, context)
        for k in range(frames):
            now = given.rows(torch.tensor([k]))
            drawn = generate(transformer, noise[:, k], now, reference.added, cache)
            torch.testing.assert_close(drawn, offline[:, k], atol=1e-5, rtol=1e-5)
            remember(transformer, clean[:, k], now, reference.added, cache)

    @pytest.mark.parametrize("context", [0, 1, 2])
    @torch.no_grad()
    def test_remembering_while_drawing(self, transformer: Transformer, context: int) -> None:
        """One pass that remembers a frame and draws the next gives what two passes give, also for uneven neighbours."""
        reference = transformer.reference(features(2))
        apart, at_once = (Cache.empty(TINY, reference.sinks, context) for _ in range(2))
        for cache in (apart, at_once):
            cache.written[1] = 0
        previous = latents(2), conditions(2, 20)
        for k in range(6):
            noise, now = latents(2), conditions(2, k)
            remember(transformer, *previous, reference.added, apart)
            expected = generate(transformer, noise, now, reference.added, apart)
            drawn = advance(transformer, previous, noise, now, reference.added, at_once)
            torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(at_once.ring_keys, apart.ring_keys, atol=1e-5, rtol=1e-5)
            previous = drawn, now
            if k == 1 and context:  # one session starts anew
                for cache in (apart, at_once):
                    cache.written[1] = 0

    @torch.no_grad()
    def test_sessions_do_not_meet(self, transformer: Transformer) -> None:
        """A session in a batch, at another place of its ring than its neighbour, draws what it draws alone."""
        from streamer.model.kv_cache import stack

        reference = transformer.reference(features(2))
        caches, alone = [], []
        noise, now = latents(2), conditions(2)
        for b, age in enumerate((1, 5)):
            own = reference.rows(torch.tensor([b]))
            cache = Cache.empty(TINY, own.sinks)
            for k in range(age):
                remember(transformer, latents(1), conditions(1, 10 * b + k), own.added, cache)
            caches.append(cache)
            alone.append(generate(transformer, noise[b : b + 1], now.rows(torch.tensor([b])), own.added, cache))
        together = generate(transformer, noise, now, reference.added, stack(caches))
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_nan_stays_in_its_session(self, transformer: Transformer) -> None:
        """A neighbour whose state is not a number changes nothing."""
        reference = transformer.reference(features(2))
        cache = Cache.empty(TINY, reference.sinks)
        remember(transformer, latents(2), conditions(2), reference.added, cache)
        noise, now = latents(2), conditions(2, 1)
        before = generate(transformer, noise, now, reference.added, cache)
        cache.ring_values[:, 1] = float("nan")
        after = generate(transformer, noise, now, reference.added, cache)
        torch.testing.assert_close(after[0], before[0], atol=0, rtol=0)
        assert after[1].isnan().any()

    @torch.no_grad()
    def test_positions_do_not_grow(self, transformer: Transformer) -> None:
        """Once the ring is full, the same frames at any age of the stream give the same picture."""
        reference = transformer.reference(features(1))
        size = TINY.transformer.context
        last = [latents(1) for _ in range(size)]
        noise, now = latents(1), conditions(1)
        drawn = []
        for before in (0, 1, 9):
            cache = Cache.empty(TINY, reference.sinks)
            # Keys depend on what a frame itself looked back on: fill the ring with rows that saw nothing.
            for k in range(before + size):
                z = latents(1) if k < before else last[k - before]
                _, keys, values = transformer(z, torch.zeros(1), now, reference.added, _blind)
                cache.append(keys, values)
            drawn.append(generate(transformer, noise, now, reference.added, cache))
        torch.testing.assert_close(drawn[1], drawn[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(drawn[2], drawn[0], atol=1e-5, rtol=1e-5)

    def test_reset_forgets(self, transformer: Transformer) -> None:
        """After a reset nothing of the context is left, and the reference still is."""
        with torch.no_grad():
            reference = transformer.reference(features(1))
            cache = Cache.empty(TINY, reference.sinks)
            noise, now = latents(1), conditions(1)
            fresh = generate(transformer, noise, now, reference.added, cache)
            remember(transformer, latents(1), now, reference.added, cache)
            assert not torch.allclose(generate(transformer, noise, now, reference.added, cache), fresh)
            cache.reset()
            torch.testing.assert_close(generate(transformer, noise, now, reference.added, cache), fresh)


def _blind(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Any attention that sees no more than the row itself."""
    return v


class TestConditions:
    @pytest.mark.parametrize("name", ["plan", "heard", "faces", "emotion"])
    @torch.no_grad()
    def test_each_condition_matters(self, transformer: Transformer, name: str) -> None:
        """Changing one condition changes the frame."""
        reference = transformer.reference(features(1))
        cache = Cache.empty(TINY, reference.sinks)
        noise, now = latents(1), conditions(1)
        other = now._replace(**{name: getattr(conditions(1, 5), name)})
        a = generate(transformer, noise, now, reference.added, cache)
        assert not torch.allclose(a, generate(transformer, noise, other, reference.added, cache), atol=1e-5)

    @pytest.mark.parametrize("name", ["plan", "heard", "emotion"])
    @torch.no_grad()
    def test_what_is_left_out_does_not_matter(self, transformer: Transformer, name: str) -> None:
        """A condition marked as not given has no influence."""
        reference = transformer.reference(features(1))
        cache = Cache.empty(TINY, reference.sinks)
        noise, now = latents(1), conditions(1)._replace(**{f"{name}_given": torch.zeros(1)})
        other = now._replace(**{name: getattr(conditions(1, 5), name)})
        a = generate(transformer, noise, now, reference.added, cache)
        torch.testing.assert_close(a, generate(transformer, noise, other, reference.added, cache))

    @torch.no_grad()
    def test_sound_moves_only_faces(self) -> None:
        """Where no face is, the audio branch adds exactly nothing; two faces hear each their own voice."""
        q, k, v = torch.randn(1, 9, 2, 8), torch.randn(1, 2, 5, 2, 8), torch.randn(1, 2, 5, 2, 8)
        faces = torch.zeros(1, 2, 9)
        faces[0, 0, :3], faces[0, 1, 3:6] = 1, 1
        out = face_audio_attention(q, k, v, faces, torch.tensor(1.0))
        assert out[:, 6:].abs().max() == 0
        first = face_audio_attention(q, k[:, :1], v[:, :1], torch.ones(1, 1, 9), torch.tensor(1.0))
        second = face_audio_attention(q, k[:, 1:], v[:, 1:], torch.ones(1, 1, 9), torch.tensor(1.0))
        torch.testing.assert_close(out[:, :3], first[:, :3])
        torch.testing.assert_close(out[:, 3:6], second[:, 3:6])

    @torch.no_grad()
    def test_every_weight_learns(self, transformer: Transformer) -> None:
        """Nothing of the transformer is cut off from the loss, with two emotions: of one there is nothing to choose."""
        with torch.enable_grad():
            reference = transformer.reference(features(1))
            given = conditions(3)
            given = given._replace(plan_given=torch.tensor([1.0, 0, 1]), heard_given=torch.tensor([1.0, 1, 0]),
                                   emotion_given=torch.tensor([0.0, 1, 1]),
                                   emotion=torch.rand(3, 2, len(EMOTIONS)))  # fmt: skip
            drawn = passage(transformer, latents(1, 3), latents(1, 3), torch.full((1, 3), 0.5), given, reference, 2)
            drawn.square().mean().backward()
        dead = [name for name, p in transformer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not dead


class TestParts:
    def test_tokens_there_and_back(self) -> None:
        """Patches to tokens and back change nothing."""
        z = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(to_latent(to_tokens(z, 2), 2), z, atol=0, rtol=0)
        corner = to_tokens(z, 2)[0, 0].reshape(3, 2, 2)
        torch.testing.assert_close(corner, z[0, :, :2, :2])

    def test_rotation_is_relative(self) -> None:
        """Shifting query and key by one frame leaves their product alone; the reference stands apart."""
        table = rotation_table(2, 3, 16, 4)
        q, k = torch.randn(1, 4, 16), torch.randn(1, 4, 16)
        frames, references = table
        near = (rotate(q, frames[1]) * rotate(k, frames[0])).sum(-1)
        torch.testing.assert_close((rotate(q, frames[3]) * rotate(k, frames[2])).sum(-1), near, atol=1e-5, rtol=1e-5)
        assert not torch.allclose((rotate(q, frames[1]) * rotate(k, references[1])).sum(-1), near, atol=1e-3)
        aside = (rotate(q, frames[0]) * rotate(k, references[0])).sum(-1)
        torch.testing.assert_close(
            (rotate(q, frames[2]) * rotate(k, references[2])).sum(-1), aside, atol=1e-5, rtol=1e-5
        )

    def test_many_steps_end_at_zero(self) -> None:
        """n steps are n times from 1 downwards."""
        assert times(1) == (1.0,)
        assert times(4) == (1.0, 0.75, 0.5, 0.25)
        with pytest.raises(ValueError, match="0"):
            times(0)

    def test_presets(self) -> None:
        """nano keeps to 100 tokens and 10.5M parameters a frame, live to 60M; an unknown name lists them."""
        nano = PRESETS["nano"]
        with torch.device("meta"):
            transformer, painter = Transformer(nano), Autoencoder(nano.autoencoder).painter
        once = (  # for a picture, not for each frame
            transformer.enter_reference, transformer.add_reference,
            painter.pyramid, painter.keep_middle, painter.keep_fine,
        )  # fmt: skip
        assert 64 <= nano.tokens <= 100
        articulation = 1.32e6
        total, left_out = (sum(p.numel() for m in ms for p in m.parameters()) for ms in ((transformer, painter), once))
        assert total - left_out + articulation <= 10.5e6
        with torch.device("meta"):
            live = Transformer(PRESETS["live"])
        assert sum(p.numel() for p in live.parameters()) <= 60e6
        with pytest.raises(ValueError, match="nano"):
            preset("giant")

    @pytest.mark.parametrize(
        ("make", "number"),
        [
            (lambda: TransformerConfig(width=100, heads=3), "100"),
            (lambda: TransformerConfig(context=-1), "-1"),
            (lambda: TransformerConfig(rope_time=15), "15"),
            (lambda: AutoencoderConfig(channels=(1, 2, 3)), "3"),
            (lambda: AutoencoderConfig(encoder_blocks=(1, 2, 3, 4, 5)), "5"),
            (lambda: AutoencoderConfig(encoder_blocks=(0, 1, 1, -2)), "-2"),
            (lambda: AutoencoderConfig(coarse=(32, 64, 96)), "128 channels, the painter reads 96"),
            (lambda: AutoencoderConfig(match=(12, 16)), "match wants 3 numbers, got 2"),
            (lambda: AutoencoderConfig(patch=(48, 0)), "must be positive"),
            (lambda: dataclasses.replace(PRESETS["nano"], size=250), "250"),
            (lambda: ModelConfig("x", 16), "16"),
        ],
    )
    def test_bad_sizes(self, make, number: str) -> None:
        """A config that cannot work says the number."""
        with pytest.raises(ValueError, match=number):
            make()


class TestAutoencoder:
    @torch.no_grad()
    def test_frames_do_not_know_each_other(self) -> None:
        """Each frame of a batch is encoded and decoded as alone; an edge that 16 does not divide is refused with it."""
        torch.manual_seed(0)
        model = Autoencoder(TINY.autoencoder).eval()
        for match in (model.painter.match, *(stage.match for stage in model.painter.stages)):
            match.say.weight.normal_(0, 0.3)
        frames, picture = torch.rand(3, 4, 64, 64), torch.rand(1, 4, 64, 64)
        references = model.painter.references(torch.stack([picture, torch.rand(1, 4, 64, 64)], 1))
        latent = model.encode(frames, picture.expand(3, -1, -1, -1))
        assert latent.shape == (3, 4, 4, 4)
        torch.testing.assert_close(model.encode(frames[1:2], picture), latent[1:2], atol=1e-5, rtol=1e-5)
        whole, alone = model.decode(latent, None, references.expand(3)), model.decode(latent[1:2], None, references)
        assert not torch.allclose(whole.flow[0], whole.flow[1], atol=1e-3)
        for name in ("flow", "shares", "paint", "painted", "features"):
            torch.testing.assert_close(getattr(alone, name), getattr(whole, name)[1:2], atol=1e-4, rtol=1e-4)
        with pytest.raises(ValueError, match="65"):
            model.encode(torch.rand(1, 4, 65, 64), torch.rand(1, 4, 65, 64))

    def test_whitening_is_undone(self) -> None:
        """A latent is decoded from what the encoder said, whatever the whitening."""
        torch.manual_seed(0)
        model = Autoencoder(TINY.autoencoder).eval().requires_grad_(False)
        for match in (model.painter.match, *(stage.match for stage in model.painter.stages)):
            match.say.weight.normal_(0, 0.3)
        frame, picture = torch.rand(1, 4, 64, 64), torch.rand(1, 4, 64, 64)
        references = model.painter.references(picture[:, None])
        before = model.decode(model.encode(frame, picture), None, references)
        model.mean += torch.randn(4)
        model.whiten += 0.3 * torch.randn(4, 4)
        latent = model.encode(frame, picture)
        assert not torch.allclose(model.decode(latent, None, references).flow, before.flow, atol=1e-3)
        model.colour.copy_(torch.linalg.inv(model.whiten))
        torch.testing.assert_close(model.decode(latent, None, references).flow, before.flow, atol=1e-3, rtol=1e-3)

    def test_sampling(self) -> None:
        """Places one pixel further give the neighbour; beyond the border the border goes on."""
        x = torch.arange(16.0).view(1, 1, 4, 4)
        at = (torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="xy"))[None] + 0.5) / 4
        right, up = torch.tensor([0.25, 0]).view(1, 2, 1, 1), torch.tensor([0, -0.25]).view(1, 2, 1, 1)
        torch.testing.assert_close(sample(x, at), x)
        torch.testing.assert_close(sample(x, at + right)[..., :3], x[..., 1:])
        torch.testing.assert_close(sample(x, at + right)[..., 3], x[..., 3])
        torch.testing.assert_close(sample(x, at + up)[:, :, 1:], x[:, :, :3])

    def test_what_moves_by_half_a_pixel_stays_sharp(self) -> None:
        """An edge copied from between its pixels would lose half of its gradient energy. Not from enlarged ones."""
        x = to_tensor(blocks(64, np.random.default_rng(0)))[None]
        none = torch.zeros(1, 1, 32, 32)
        painted = Painted(torch.full((1, 1, 2, 16, 16), 0.125), none + 1, none, none, none, ())  # half of 1 / 64

        def energy(picture: Tensor) -> float:
            return float(picture.diff(dim=2).square().mean() + picture.diff(dim=3).square().mean())

        assert energy(compose(x[None], painted, 64)) == pytest.approx(0.5 * energy(x), rel=0.1)
        copied = compose(enlarged(x)[None], painted, 64)
        assert copied.shape == x.shape
        assert energy(copied) > 0.7 * energy(x)
