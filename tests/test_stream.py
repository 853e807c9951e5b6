"""Live use of the networks in torch: weights on disk, sessions, precisions, context, steps."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from painted_networks import CONTEXT, painted_networks, small
from random_networks import cue, random_networks

from streamer.avatar import neural
from streamer.avatar.neural import NeuralBackend, within_reach
from streamer.base.alpha import premultiplied, straighten
from streamer.base.errors import NotInstalled
from streamer.model import checkpoint
from streamer.model.checkpoint import BadWeights, Networks, load, save, untrained
from streamer.model.config import PRESETS
from streamer.model.runtime import graphs
from streamer.model.runtime.graph_cpu import PreparedCharacter, Stream
from streamer.model.runtime.stream import FrameConditions, NotFinite, blocks
from streamer.model.runtime.torch_cpu import FrameRenderer
from streamer.motion.controls import INDEX, MOUTH, rest

TINY = PRESETS["tiny"]
SIZE = 256


@pytest.fixture(scope="module")
def frame_renderer() -> FrameRenderer:
    """Random weights everywhere, so that every condition shows."""
    return FrameRenderer(painted_networks(CONTEXT))


def prepared(frame_renderer: FrameRenderer, seed: int, size: int = SIZE) -> PreparedCharacter:
    """A character with two pictures."""
    rng = np.random.default_rng(seed)
    pictures = [blocks(512, rng) for _ in range(2)]
    return frame_renderer.prepare(pictures, rng.random((16, 16), np.float32), (0.5, 0.4), size)


def draw(frame_renderer: FrameRenderer, streams: list[Stream]) -> list[np.ndarray | NotFinite]:
    frames = frame_renderer.draw(streams, planes=False)
    assert all(isinstance(frame, np.ndarray | NotFinite) for frame in frames)
    return frames  # type: ignore[return-value]


def run(frame_renderer: FrameRenderer, seeds: list[int], frames: int, together: bool) -> list[list[np.ndarray]]:
    """Sessions that each begin one frame after the one before; their frames."""
    streams = [frame_renderer.stream(prepared(frame_renderer, seed), seed) for seed in seeds]
    drawn: list[list[np.ndarray]] = [[] for _ in seeds]
    for k in range(frames):
        active = [i for i in range(len(seeds)) if k >= i]
        for i in active:
            frame_renderer.hear(streams[i], cue(100 * seeds[i] + k - i))
        for group in [active] if together else [[i] for i in active]:
            for i, frame in zip(group, draw(frame_renderer, [streams[i] for i in group]), strict=True):
                assert isinstance(frame, np.ndarray)
                drawn[i].append(frame)
    return drawn


class TestStream:
    def test_together_as_alone(self, frame_renderer: FrameRenderer) -> None:
        """Three sessions of different ages, drawn in one call, give what each gives by itself."""
        together = run(frame_renderer, [1, 2, 3], 5, True)
        for seed, mine in zip((1, 2, 3), together, strict=True):
            (alone,) = run(frame_renderer, [seed], len(mine), False)
            for a, b in zip(alone, mine, strict=True):
                np.testing.assert_array_equal(a, b)

    def test_same_seed_same_video(self, frame_renderer: FrameRenderer) -> None:
        """A session's frames depend on its seed, its character and its cues alone."""
        first, again = run(frame_renderer, [4], 4, False)[0], run(frame_renderer, [4], 4, False)[0]
        assert all((a == b).all() for a, b in zip(first, again, strict=True))
        assert not any((a == b).all() for a, b in zip(first[1:], first[:-1], strict=True))

    def test_nan_in_one_state(self, frame_renderer: FrameRenderer) -> None:
        """A session whose context contains NaN is reset, reports it and goes on; its neighbour's frame is unchanged."""
        streams = [frame_renderer.stream(prepared(frame_renderer, seed), seed) for seed in (1, 2)]
        reference = run(frame_renderer, [2], 3, False)[0]
        for k in range(3):
            for seed, stream in zip((1, 2), streams, strict=True):
                frame_renderer.hear(stream, cue(100 * seed + k))
            if k == 2:
                assert streams[0].ring is not None and streams[0].ring.filled
                streams[0].ring.values.fill(np.nan)
            first, second = draw(frame_renderer, streams)
        assert isinstance(first, NotFinite)
        np.testing.assert_array_equal(second, reference[2])
        frame_renderer.hear(streams[0], cue(7))
        assert isinstance(draw(frame_renderer, streams[:1])[0], np.ndarray)

    def test_nan_in_one_character(self, frame_renderer: FrameRenderer) -> None:
        """NaN in one character's features never reaches the session beside it."""
        wanted = run(frame_renderer, [2], 1, False)[0][0]
        streams = [frame_renderer.stream(prepared(frame_renderer, seed), seed) for seed in (2, 1)]
        for seed, stream in zip((2, 1), streams, strict=True):
            frame_renderer.hear(stream, cue(100 * seed))
        streams[1].still.features[1][:] = np.nan
        found, spoilt = draw(frame_renderer, streams)
        assert isinstance(spoilt, NotFinite)
        np.testing.assert_array_equal(found, wanted)

    def test_bad_cues(self, frame_renderer: FrameRenderer) -> None:
        """A cue that is not finite or of another shape is refused before it reaches the state."""
        stream = frame_renderer.stream(prepared(frame_renderer, 1))
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

    def test_larger_frames_show_the_same(self) -> None:
        """A session in frames of twice the size: shrunk, they are the smaller ones, but for the patch of the face."""
        frame_renderer = FrameRenderer(painted_networks(0))
        soft = cv2.resize(blocks(128, np.random.default_rng(0))[::8, ::8], (512, 512), interpolation=cv2.INTER_CUBIC)
        frames = []
        for size in (SIZE, 2 * SIZE):
            stream = frame_renderer.stream(
                frame_renderer.prepare([soft], np.ones((16, 16), np.float32), (0.5, 0.5), size)
            )
            frame_renderer.hear(stream, cue(0))
            frames.append(np.asarray(draw(frame_renderer, [stream])[0]))
        less, more = frames
        assert more.shape == (2 * SIZE, 2 * SIZE, 4) and less.shape == (SIZE, SIZE, 4)
        shrunk, picture = (x.reshape(SIZE, 2, SIZE, 2, 4).mean((1, 3)) for x in (more, soft))
        beside = np.s_[:24, :24]
        assert 5 * np.abs(shrunk - less)[beside].mean() < np.abs(shrunk - picture)[beside].mean()

    def test_larger_is_sharper(self) -> None:
        """A frame of twice the networks' size shows more of the character's picture than a smaller one scaled up."""
        frame_renderer = FrameRenderer(untrained(small()))
        picture = blocks(512, np.random.default_rng(0))
        frames = []
        for size in (SIZE, 2 * SIZE):
            still = frame_renderer.prepare([picture], np.ones((16, 16), np.float32), (0.5, 0.5), size)
            stream = frame_renderer.stream(still)
            frame_renderer.hear(stream, cue(0))
            frames.append(cv2.resize(draw(frame_renderer, [stream])[0], (512, 512), interpolation=cv2.INTER_CUBIC))
        scaled, drawn = (np.square(np.diff(frame.astype(int), axis=0)).mean() for frame in frames)
        assert drawn > 1.5 * scaled

    def test_precisions_draw_nearly_the_same(self) -> None:
        """bfloat16 draws other frames than float32, and nearly the same."""
        networks = painted_networks(CONTEXT)
        fine, coarse = (
            run(FrameRenderer(networks, dtype), [1], 3, False)[0] for dtype in (torch.float32, torch.bfloat16)
        )
        for a, b in zip(fine, coarse, strict=True):
            assert 0 < np.abs(a.astype(int) - b).mean() < 8

    def test_context_is_the_presets_unless_asked_for(self) -> None:
        """Frames depend on as many frames before as asked for; the first one on none."""
        networks = painted_networks(CONTEXT)
        drawn = {}
        for context in (None, CONTEXT, 0, CONTEXT + 1):
            renderer = FrameRenderer(networks, context=context)
            assert renderer.context == (CONTEXT if context is None else context)
            drawn[context] = run(renderer, [1], CONTEXT + 2, False)[0]
        np.testing.assert_array_equal(drawn[None], drawn[CONTEXT])
        for shorter, longer in ((0, CONTEXT), (CONTEXT, CONTEXT + 1)):
            pairs = zip(drawn[shorter], drawn[longer], strict=True)
            apart = [np.abs(a.astype(int) - b).mean() for a, b in pairs]
            # Equal up to rounding while both see all frames there were.
            assert 10 * max(apart[: shorter + 1]) < min(apart[shorter + 1 :]), apart

    def test_several_steps_draw_another_frame(self) -> None:
        """With as many passes as asked for, each frame still follows from the seed."""
        networks = painted_networks(0)
        one, two, again = (run(FrameRenderer(networks, steps=n), [1], 1, False)[0][0] for n in (1, 2, 2))
        np.testing.assert_array_equal(two, again)
        assert (one != two).any()


@pytest.fixture(scope="module")
def networks() -> Networks:
    return random_networks(TINY)


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
        """Without weights no device has the generator, and the error says which file is missing."""
        monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
        monkeypatch.setattr(graphs, "find", partial(graphs.find, folder=tmp_path))
        for find in (partial(NeuralBackend.load, "nano", "cpu"), partial(neural._networks, "nano")):
            with pytest.raises(NotInstalled, match=r"nano\.safetensors; --generator rig does not need"):
                find()

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


class TestConditions:
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
