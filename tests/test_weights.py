"""The weights that come with the package: characters that were never drawn in training do as they are told."""

import numpy as np
import pytest
from peers import SAMPLE

from streamer.avatar.characters import CharacterRecord
from streamer.avatar.neural import _frame_conditions
from streamer.avatar.portrait import portrait
from streamer.base.constants import DEFAULT_SIZES, SAMPLE_RATE
from streamer.media.recordings import read_recording
from streamer.model.runtime import graphs
from streamer.model.runtime.compiled import Compiled
from streamer.model.runtime.engines import OnnxRuntime
from streamer.model.runtime.graph_cpu import GraphFrameRenderer
from streamer.model.runtime.stream import FrameConditions
from streamer.motion.articulation import EMBEDDING, PROSODY, Articulation, ArticulationFrame
from streamer.motion.controls import EMOTIONS, MOUTH, controls, rest
from streamer.studio.character import Character
from streamer.studio.rig import Rig, Truth
from streamer.training.scenes import FIRST_SEED
from streamer.training.voices import silence

SIZE = DEFAULT_SIZES["neural"]
HELD_OUT = (203, 205, 207)
SETTLED = 5
"""Frames that a pose is held: as long as the audio's window."""
SPOKEN = 6
"""Seconds of the sample voice, in which a mouth is wide open for once."""
Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def frame_renderer() -> GraphFrameRenderer:
    found = graphs.find("nano")
    return GraphFrameRenderer(found.config, Compiled(found, OnnxRuntime()), found.config.transformer.context)


@pytest.fixture(scope="module")
def quiet() -> np.ndarray:
    return silence(Articulation.load(), 1.0)[-1]


@pytest.fixture(scope="module")
def loud() -> np.ndarray:
    """[Q]: what is heard where the sample voice opens its mouth the widest."""
    samples = read_recording(SAMPLE, SAMPLE_RATE)
    curves: ArticulationFrame = Articulation.load().whole(samples[: SPOKEN * SAMPLE_RATE])
    at = int(curves.mouth[:, MOUTH.index("open")].argmax())
    return np.concatenate([curves.mouth[at], curves.prosody[at], curves.embedding[at]]).astype(np.float32)


def posed(frame_renderer: GraphFrameRenderer, seed: int, heard: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """[S, S, 4] uint8: what the generator draws of a character once `pose` [C] and `heard` [Q] have lasted."""
    shown = portrait(CharacterRecord(f"studio-{seed}", "", Character.from_seed(seed), seed), SIZE, True)
    still = frame_renderer.prepare(shown.references, shown.face, shown.centre, SIZE, shown.plate)
    stream = frame_renderer.stream(still)
    for _ in range(SETTLED):
        frame_renderer.hear(stream, FrameConditions(pose, heard, np.eye(len(EMOTIONS), dtype=np.float32)[0]))
        (drawn,) = frame_renderer.draw([stream], planes=False)
    assert isinstance(drawn, np.ndarray)
    return drawn


def within(picture: np.ndarray, box: Box, margin: int = SIZE // 80) -> np.ndarray:
    x0, y0, x1, y1 = (round(v) for v in box)
    return picture[y0 - margin : y1 + margin, x0 - margin : x1 + margin, :3].astype(np.float64)


@pytest.mark.parametrize("seed", HELD_OUT)
@pytest.mark.parametrize(
    ("pose", "part"),
    [(rest(), "mouth"), (controls(blink_left=1, blink_right=1), "eyes"), (controls(yaw=0.25), "face")],
    ids=["mouth", "lids", "head"],
)
def test_it_does_as_it_is_told(
    frame_renderer: GraphFrameRenderer, quiet: np.ndarray, loud: np.ndarray, seed: int, pose: np.ndarray, part: str
) -> None:
    """Drawn at rest, a frame is more like the rig's at rest; drawn in the pose, more like the rig's in the pose."""
    assert seed < FIRST_SEED
    heard = (quiet, loud if part == "mouth" else quiet)
    if part == "mouth":
        pose = np.concatenate([loud[: len(MOUTH)], pose[len(MOUTH) :]])
    with Rig(Character.from_seed(seed), SIZE, background=True) as rig:
        truth: list[tuple[np.ndarray, Truth]] = []
        for asked in (rest(), pose):
            image, told = rig.draw_with_truth(asked)
            truth.append((image.copy(), told))
        boxes: list[Box] = {
            "mouth": [truth[1][1].mouth_box],
            "eyes": list(truth[0][1].eye_boxes),
            "face": [(140, 120, 372, 340)],
        }[part]
    drawn = [posed(frame_renderer, seed, said, asked) for said, asked in zip(heard, (rest(), pose), strict=True)]

    def error(picture: np.ndarray, wanted: np.ndarray) -> float:
        return float(np.mean([np.abs(within(picture, box) - within(wanted, box)).mean() for box in boxes]))

    for own, other in ((0, 1), (1, 0)):
        assert error(drawn[own], truth[own][0]) < 0.9 * error(drawn[own], truth[other][0])


def test_a_head_turns_no_farther_than_is_drawn_well() -> None:
    """What a session is asked for beyond that is drawn at its end; the rest of the plan stays."""
    asked = controls(yaw=0.5, gaze_x=-1, blink_left=1)
    curves = ArticulationFrame(np.zeros(len(MOUTH)), np.zeros(len(PROSODY)), np.zeros(EMBEDDING))
    given = _frame_conditions(asked, curves, np.zeros(len(EMOTIONS))).controls
    kept = controls(yaw=0.28, gaze_x=-1, blink_left=1)
    np.testing.assert_allclose(given, kept, atol=1e-6)


def test_it_stays_itself_at_rest(frame_renderer: GraphFrameRenderer, quiet: np.ndarray) -> None:
    """A character at rest looks like its picture and not like the others."""
    pictures, drawn = [], []
    for seed in HELD_OUT:
        with Rig(Character.from_seed(seed), SIZE, background=True) as rig:
            pictures.append(rig.draw(rest()).copy().astype(np.float64))
            drawn.append(posed(frame_renderer, seed, quiet, rest()))
    for i, picture in enumerate(drawn):
        errors = [np.mean((picture - other) ** 2) for other in pictures]
        assert int(np.argmin(errors)) == i and errors[i] < 60
