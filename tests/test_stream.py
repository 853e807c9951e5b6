"""Live use of the networks at the tiny preset: weights on disk, sessions, batches, what the pipeline sees."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_networks import cue, random_networks

from streamer.avatar.characters import Characters
from streamer.avatar.neural import NeuralBackend, NeuralRig, within_reach
from streamer.avatar.renderer import ConditionedRenderer
from streamer.base.alpha import premultiplied, straighten
from streamer.base.errors import NotInstalled
from streamer.model import checkpoint
from streamer.model.checkpoint import BadWeights, Networks, load, save, untrained
from streamer.model.config import PRESETS
from streamer.model.runtime.torch_cpu import FrameConditions, FrameRenderer, NotFinite, PreparedCharacter, fastest_dtype
from streamer.motion.articulation import EMBEDDING, PROSODY, ArticulationFrame
from streamer.motion.controls import EMOTIONS, INDEX, MOUTH, rest

TINY = PRESETS["tiny"]
QUIET = ArticulationFrame(np.zeros(len(MOUTH)), np.zeros(len(PROSODY)), np.zeros(EMBEDDING))


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Random weights everywhere, so that every condition shows."""
    return random_networks(TINY)


@pytest.fixture(scope="module")
def frame_renderer(networks: Networks) -> FrameRenderer:
    return FrameRenderer(networks)


def still(frame_renderer: FrameRenderer, seed: int) -> PreparedCharacter:
    rng = np.random.default_rng(seed)
    return frame_renderer.still(rng.integers(0, 256, (64, 64, 4)).astype(np.uint8), rng.random((4, 4)))


def smooth(size: int) -> np.ndarray:
    """An opaque picture [size, size, 4] of which a smaller one shows all."""
    places = np.random.default_rng(3).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(places).resize((size, size), Image.Resampling.BICUBIC).convert("RGBA"))


def run(frame_renderer: FrameRenderer, seeds: list[int], frames: int, together: bool) -> list[list[np.ndarray]]:
    """Sessions that each begin one frame after the one before; their frames."""
    streams = [frame_renderer.stream(still(frame_renderer, seed), seed) for seed in seeds]
    drawn: list[list[np.ndarray]] = [[] for _ in seeds]
    for k in range(frames):
        active = [i for i in range(len(seeds)) if k >= i]
        for i in active:
            frame_renderer.hear(streams[i], cue(100 * seeds[i] + k - i))
        for group in [active] if together else [[i] for i in active]:
            for i, frame in zip(group, frame_renderer.draw([streams[i] for i in group]), strict=True):
                assert isinstance(frame, np.ndarray)
                drawn[i].append(frame)
    return drawn


class TestStream:
    def test_a_batch_is_its_sessions(self, frame_renderer: FrameRenderer) -> None:
        """Three sessions of different ages, drawn at once, give what each gives alone."""
        alone, together = run(frame_renderer, [1, 2, 3], 6, False), run(frame_renderer, [1, 2, 3], 6, True)
        for one, other in zip(alone, together, strict=True):
            for a, b in zip(one, other, strict=True):
                assert np.abs(a.astype(int) - b).max() <= 1

    def test_same_seed_same_video(self, frame_renderer: FrameRenderer) -> None:
        """A session's frames depend on its seed, its character and its cues alone."""
        first, again = run(frame_renderer, [4], 4, False)[0], run(frame_renderer, [4], 4, False)[0]
        assert all((a == b).all() for a, b in zip(first, again, strict=True))
        assert not all((a == b).all() for a, b in zip(first[1:], first[:-1], strict=True))

    def test_nan_in_one_state(self, frame_renderer: FrameRenderer) -> None:
        """A session whose state is spoilt is told so and starts anew; its neighbour's frame stays as it was."""
        streams = [frame_renderer.stream(still(frame_renderer, seed), seed) for seed in (1, 2)]
        reference = run(frame_renderer, [2], 3, False)[0]
        for k in range(3):
            for seed, stream in zip((1, 2), streams, strict=True):
                frame_renderer.hear(stream, cue(100 * seed + k))
            if k == 2:
                with torch.inference_mode():
                    streams[0].cache.ring_values.fill_(float("nan"))
            first, second = frame_renderer.draw(streams)
        assert isinstance(first, NotFinite)
        assert np.abs(np.asarray(second).astype(int) - reference[2]).max() <= 1
        frame_renderer.hear(streams[0], cue(7))
        assert isinstance(frame_renderer.draw(streams[:1])[0], np.ndarray)

    def test_nan_in_one_character(self, frame_renderer: FrameRenderer) -> None:
        """What is no number in one session's picture never reaches the one beside it."""
        rigs = []
        for seed in (2, 1):
            stream = frame_renderer.stream(still(frame_renderer, seed), seed)
            frame_renderer.hear(stream, cue(100 * seed))
            rigs.append(NeuralRig(frame_renderer, stream, TINY.size, opaque=True))
        (wanted,) = rigs[0].render_batch(rigs[:1])
        streams = [frame_renderer.stream(still(frame_renderer, seed), seed) for seed in (2, 1)]
        for seed, stream, rig in zip((2, 1), streams, rigs, strict=True):
            frame_renderer.hear(stream, cue(100 * seed))
            rig._stream = stream
        with torch.inference_mode():
            for level in streams[1].still.anchor.features[:-1]:
                level.fill_(float("nan"))
        found, spoilt = rigs[0].render_batch(rigs)
        assert isinstance(spoilt, NotFinite)
        assert np.abs(np.asarray(found).astype(int) - np.asarray(wanted)).max() <= 1

    def test_bad_cues(self, frame_renderer: FrameRenderer) -> None:
        """A cue that is not finite or of another shape is refused before it reaches the state."""
        stream = frame_renderer.stream(still(frame_renderer, 1))
        good = cue(1)
        bad = good.heard.copy()
        bad[3] = np.nan
        with pytest.raises(NotFinite):
            frame_renderer.hear(stream, FrameConditions(good.controls, bad, good.emotion))
        with pytest.raises(ValueError, match="31"):
            frame_renderer.hear(stream, FrameConditions(good.controls[len(MOUTH) :], good.heard, good.emotion))
        with pytest.raises(ValueError, match="want"):
            frame_renderer.hear(stream, FrameConditions(good.controls, good.heard, good.emotion[:-1]))
        assert not stream.heard

    def test_larger_pictures_larger_frames(self, frame_renderer: FrameRenderer) -> None:
        """Frames are as large as the picture that they are copied from, show the same, and may be drawn with others."""
        large = smooth(2 * TINY.size)
        small = large.reshape(TINY.size, 2, TINY.size, 2, 4).mean((1, 3)).round().astype(np.uint8)
        streams = [
            frame_renderer.stream(frame_renderer.still(picture, np.ones((4, 4))), 5)
            for picture in (large, small, large)
        ]
        for k in range(2):
            for stream in streams:
                frame_renderer.hear(stream, cue(k))
            fine, coarse, again = (np.asarray(frame) for frame in frame_renderer.draw(streams))
        assert fine.shape == large.shape and coarse.shape == small.shape
        assert (fine == again).all()
        shrunk = fine.reshape(TINY.size, 2, TINY.size, 2, 4).mean((1, 3))
        assert 3 * np.abs(shrunk - coarse).mean() < np.abs(shrunk - small).mean()

    def test_bad_picture(self, frame_renderer: FrameRenderer) -> None:
        """A picture of another size says all sizes."""
        for edge in (32, 96, 256):
            with pytest.raises(ValueError, match=rf"{edge}.*64x64x4 or 128x128x4"):
                frame_renderer.still(np.zeros((edge, edge, 4), np.uint8), np.zeros((4, 4)))

    def test_precision_is_measured(self, networks: Networks) -> None:
        """One of the two precisions is chosen, and bf16 draws nearly what fp32 draws."""
        assert fastest_dtype(networks, 1) in (torch.float32, torch.bfloat16)
        fine, coarse = (
            run(FrameRenderer(networks, dtype), [1], 2, False)[0][1] for dtype in (torch.float32, torch.bfloat16)
        )
        assert np.abs(fine.astype(int) - coarse).mean() < 8


class TestWeights:
    def test_saved_and_loaded(self, networks: Networks, tmp_path: Path) -> None:
        """What is loaded is what was saved, to fp16."""
        save(tmp_path / "w", TINY, networks.autoencoder, networks.transformer, licence="test")
        again = load("tiny", tmp_path / "w")
        for name, value in networks.transformer.state_dict().items():
            torch.testing.assert_close(again.transformer.state_dict()[name], value, atol=1e-3, rtol=1e-3)
        assert not any(p.requires_grad for p in again.transformer.parameters())

    def test_weights_of_another_context(self, networks: Networks, tmp_path: Path) -> None:
        """How far a generator looks back is the preset's to say, whatever the weights were trained with."""
        save(tmp_path / "w", networks.config, networks.autoencoder, networks.transformer)
        data = (tmp_path / "w").read_bytes()
        other = data.replace(b'\\"context\\": 2', b'\\"context\\": 5')
        assert other != data
        (tmp_path / "w").write_bytes(other)
        assert load("tiny", tmp_path / "w").config == networks.config

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda data: data[: len(data) // 2], "no whole safetensors"),
            (lambda data: b"", "0 bytes"),
            (lambda data: data.replace(b'"version":"2"', b'"version":"7"'), "version 7"),
            (lambda data: data.replace(b'"preset":"tiny"', b'"preset":"nano"'), "'nano'"),
            (lambda data: data.replace(b'\\"hidden\\": 64', b'\\"hidden\\": 65'), "other sizes"),
            (lambda data: data.replace(b'"config":"{', b'"config":"['), "other sizes"),
            (lambda data: data[:-2] + b"\x00\x7e", "not finite"),
            (
                lambda data: data.replace(b'"transformer.leave.w', b'"transporter.leave.w'),
                "belong to no part of the networks",
            ),
            (
                lambda data: data.replace(b'"transformer.leave.w', b'"transformer.lieve.w'),
                "1 are unknown",
            ),
            (
                lambda data: re.sub(rb'(leave.weight":{[^[]*)\[(\d+),(\d+)\]', rb"\1[\3,\2]", data),
                r"leave.* not \[16, 32",
            ),
        ],
        ids=["truncated", "empty", "version", "preset", "sizes", "no sizes", "nan", "a part", "a name", "a shape"],
    )
    def test_bad_files(self, networks: Networks, tmp_path: Path, spoil: Callable[[bytes], bytes], says: str) -> None:
        """A file that is cut, of another version, preset or size, or spoilt is refused with the reason."""
        path = tmp_path / "w"
        save(path, TINY, networks.autoencoder, networks.transformer)
        data = path.read_bytes()
        spoilt = spoil(data)
        assert spoilt != data
        path.write_bytes(spoilt)
        with pytest.raises(BadWeights, match=says):
            load("tiny", path)

    def test_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without weights the generator is not installed, and says which file is missing."""
        monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
        with pytest.raises(NotInstalled, match=r"nano\.safetensors"):
            NeuralBackend.load("nano")

    def test_missing_tensor(self, networks: Networks, tmp_path: Path) -> None:
        """A weight too few is noticed."""
        from safetensors.torch import load_file, safe_open, save_file

        path = tmp_path / "w"
        save(path, TINY, networks.autoencoder, networks.transformer)
        tensors = load_file(path)
        tensors.pop("transformer.leave.bias")
        with safe_open(path, "pt") as file:
            about = file.metadata()
        save_file(tensors, path, about)
        with pytest.raises(BadWeights, match="1 weights of the transformer are missing"):
            load("tiny", path)


class TestDrawable:
    @pytest.mark.parametrize("size", [48, 64, 96, 128, 192])
    def test_a_studio_character(self, frame_renderer: FrameRenderer, size: int) -> None:
        """Any character becomes a drawable of the size asked for that hears and draws."""
        rig = NeuralBackend(frame_renderer).create_renderer(Characters().get("24"), size, True)
        assert isinstance(rig, ConditionedRenderer)
        for _ in range(2):
            rig.hear(rest(), QUIET, np.zeros(len(EMOTIONS), np.float32))
            frame = rig.draw(rest())
        assert frame.shape == (size, size, 4) and frame.dtype == np.uint8

    def test_larger_is_sharper(self) -> None:
        """A session twice as large as the networks shows more of its picture than one that is scaled up would."""
        generator, entry = NeuralBackend(FrameRenderer(untrained(TINY))), Characters().get("24")
        frames = []
        for size in (64, 128):
            rig = generator.create_renderer(entry, size, True)
            assert isinstance(rig, ConditionedRenderer)
            rig.hear(rest(), QUIET, np.zeros(len(EMOTIONS), np.float32))
            frames.append(Image.fromarray(np.asarray(rig.draw(rest()))).resize((128, 128), Image.Resampling.BICUBIC))
        scaled, drawn = (np.abs(np.diff(np.asarray(frame).astype(int), axis=0)).mean() for frame in frames)
        assert drawn > 1.15 * scaled

    @pytest.mark.parametrize(
        ("asked", "drawn"),
        [
            ((0.1, 0.1, 0.05), (0.1, 0.1, 0.05)),
            ((0.9, 0, 0), (0.28, 0, 0)),
            ((0, -0.5, 0), (0, -0.25, 0)),
            ((0.28, 0, -0.16), (0.28 / 2**0.5, 0, -0.16 / 2**0.5)),
        ],
    )
    def test_heads_stay_within_reach(self, asked: tuple[float, ...], drawn: tuple[float, ...]) -> None:
        """A head goes as far as asked up to a limit, turned, nodded and tilted together as by one of them alone."""
        controls = rest() + 0.5
        pose = [INDEX[name] for name in ("yaw", "pitch", "roll")]
        controls[pose] = asked
        near = within_reach(controls)
        assert near[pose] == pytest.approx(drawn, abs=1e-6)
        others = [i for i in range(len(controls)) if i not in pose]
        np.testing.assert_array_equal(near[others], controls[others])

    def test_alpha_there_and_back(self) -> None:
        """Premultiplying and back keeps colours where there is something to see."""
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 256, (8, 8, 4)).astype(np.uint8)
        picture[..., 3] = np.maximum(picture[..., 3], 64)
        back = premultiplied(picture)
        straighten(back)
        assert np.abs(back.astype(int) - picture).max() <= 4
