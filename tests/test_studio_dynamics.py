"""Loose parts swing, latches hold and marks fade: what a drawn character remembers while time advances."""

import numpy as np
import pytest

from streamer.audio.framing import steps_of
from streamer.avatar.avatar import Avatar
from streamer.avatar.characters import Characters
from streamer.avatar.rig_backend import RigBackend
from streamer.motion.articulation import Loudness
from streamer.motion.controls import CONTROLS, EMOTIONS, HIGHEST, LOWEST, controls, rest
from streamer.motion.idle import IdleMotion
from streamer.studio.character import Character
from streamer.studio.dynamics import LATCHES, MARKS, Part, Pendulums
from streamer.studio.rig import Rig

FPS = 25
HANGING = Character.from_traits(
    {"hair": "twin tails", "earrings": "drops", "headwear": "cat ears", "neckwear": "scarf"}
)


def parts(rig: Rig) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    for part in rig._sketch.pendulums.parts:
        found.setdefault(part.name, []).append(part)
    return found


def turned(seconds: float = 0.4) -> list[np.ndarray]:
    """A quick turn of the head to a side and back."""
    n = round(seconds * FPS)
    return [controls(yaw=float(0.3 * np.sin(np.pi * (k + 1) / n))) for k in range(n)]


def felt(emotion: str, strength: float) -> np.ndarray:
    vector = np.zeros(len(EMOTIONS), np.float32)
    vector[EMOTIONS.index(emotion)] = strength
    return vector


def with_latch(latch: str) -> Character:
    """The first seed whose character has the latch."""
    for seed in range(1000):
        with Rig(Character.from_seed(seed), 32) as rig:
            if latch in rig.latches:
                return Character.from_seed(seed)
    raise AssertionError(f"none of 1000 characters has the latch {latch}")


def with_mark(emotion: str) -> tuple[Character, str]:
    """The first seed whose character has a mark for the emotion, and the mark."""
    for seed in range(1000):
        with Rig(Character.from_seed(seed), 32) as rig:
            if emotion in rig._sketch.feelings.of:
                return Character.from_seed(seed), rig._sketch.feelings.of[emotion]
    raise AssertionError(f"none of 1000 characters has a mark for {emotion}")


def without_mark(emotion: str) -> Character:
    for seed in range(1000):
        with Rig(Character.from_seed(seed), 32) as rig:
            if emotion not in rig._sketch.feelings.of:
                return Character.from_seed(seed)
    raise AssertionError(f"each of 1000 characters has a mark for {emotion}")


def test_frequencies_follow_from_lengths() -> None:
    """Earrings swing fastest, then ears, tails and scarves; a part four times as long swings half as fast."""
    with Rig(HANGING, 64) as rig:
        found = parts(rig)
    for name, low, high in (("earring", 12, 16), ("ear", 7.5, 10.5), ("tail", 4.3, 5.7), ("scarf", 3.4, 4.6)):
        assert found[name], name
        for part in found[name]:
            assert low < part.omega < high, (name, part.omega)
    assert all(part.segments == 2 for part in found["tail"])
    short, long = (Part("", (0, 0, 0), (0, length, 0), found["ear"][0].material) for length in (0.3, 1.2))
    assert short.omega == pytest.approx(2 * long.omega)


@pytest.mark.parametrize("dt", [1 / 25, 1 / 60, 0.11])
def test_a_part_swings_at_its_own_frequency_and_comes_to_rest(dt: float) -> None:
    """After a stop the period is within a tenth of 2 pi / omega whatever the step, and energy only falls."""
    with Rig(HANGING, 64) as rig:
        pendulums = rig._sketch.pendulums
    pendulums = Pendulums([part for part in pendulums.parts if part.segments == 1], np.random.default_rng(1))
    count = len(pendulums.parts)
    for x in (0.0, 0.05, 0.1, 0.1):
        pendulums.step(np.full(count, x), np.zeros(count), 0.0, dt)
    angles, energies = [], []
    for _ in range(round(6 / dt)):
        pendulums.step(np.full(count, 0.1), np.zeros(count), 0.0, dt)
        angles.append(pendulums._at[0].copy())
        energies.append(pendulums.energy)
    wave, energy = np.array(angles), np.array(energies)
    for k in range(count):
        if pendulums.omega[0, k] * dt > 0.6:
            continue  # too few frames a period to see its crossings
        sign = np.flatnonzero(np.diff(np.sign(wave[:, k])) != 0)
        crossings = (sign + wave[sign, k] / (wave[sign, k] - wave[sign + 1, k]))[:5] * dt
        assert np.diff(crossings).mean() * 2 == pytest.approx(2 * np.pi / pendulums.omega[0, k], rel=0.1)
    # With the exact free motion no step adds energy; by a few periods' end next to nothing is left.
    assert (np.diff(energy, axis=0) <= 1e-12).all()
    assert (energy[-1] < 0.02 * energy[0]).all()


def test_parts_swing_apart_in_the_picture() -> None:
    """A turn moves tails by several pixels after it has ended; parts of one kind do not swing in step."""
    with Rig(HANGING, 256) as rig:
        rig.draw(rest())
        still = rig.points()
        for row in [rest(), *turned()]:
            rig.advance(row)
        largest = np.zeros(len(still))
        for _ in range(10):
            rig.advance(rest())
            rig.draw(rest())
            largest = np.maximum(largest, np.hypot(*(rig.points() - still)[:, :2].T))
        assert 6 < largest.max() < 60
        tails = [k for k, part in enumerate(rig._sketch.pendulums.parts) if part.name == "tail"]
        assert len({round(float(rig._sketch.pendulums.omega[0, k]), 6) for k in tails}) == len(tails) > 1
        for _ in range(12 * FPS):
            rig.advance(rest())
        rig.draw(rest())
        assert np.abs(rig.points() - still).max() < 0.1


def test_each_kind_of_loose_part_moves() -> None:
    """Hat tips, ears, ribbons, ties, cords and hems move with a turn and a lean, not hair alone."""
    kinds = set()
    for traits in (
        {"headwear": "witch hat"}, {"headwear": "bunny ears"}, {"headwear": "ribbon"}, {"headwear": "halo"},
        {"headwear": "beanie"}, {"garment": "hoodie"}, {"garment": "shirt and tie"}, {"garment": "sailor"},
        {"garment": "lab coat"}, {"neckwear": "pendant"}, {"hair": "drill curls"}, {"hair": "long straight"},
        {"hair": "spiky"},
    ):  # fmt: skip
        with Rig(Character.from_traits(traits), 256) as rig:
            sketch = rig._sketch
            largest = np.zeros(len(sketch.pendulums.parts))
            for k in range(20):
                rig.advance(controls(yaw=0.3 * np.sin(0.6 * k), lean=0.6 * np.sin(0.6 * k)))
                moved = sketch._swung.displaced(sketch.rest, sketch.pendulums) - sketch.rest
                shift = np.hypot(*moved[sketch._swung.index, :2].T) * sketch.unit
                for part in range(len(largest)):
                    largest[part] = max(largest[part], shift[sketch._swung.part == part].max())
            assert (largest > 1.0).all(), (traits, largest)
            kinds |= {part.name for part in sketch.pendulums.parts}
    assert {"tip", "ear", "ribbon", "halo", "bobble", "cord", "tie", "scarf", "badge", "pendant", "cloth", "tail",
            "lock", "mass", "tuft"} <= kinds  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_at_rest_a_picture_is_the_same_to_the_byte(seed: int) -> None:
    """Neither time without motion, nor what was drawn before, changes anything; nor does `t`."""
    with Rig(Character.from_seed(seed), 128) as rig, Rig(Character.from_seed(seed), 128) as other:
        fresh = rig.draw(rest()).copy()
        for _ in range(30):
            other.advance(rest())
        np.testing.assert_array_equal(other.draw(rest()), fresh)
        rig.draw(controls(yaw=0.4, left_raise=1.0))
        np.testing.assert_array_equal(rig.draw(rest(), 7.0), fresh)


def test_drawing_changes_nothing_and_equal_motion_gives_equal_pictures() -> None:
    """Advancing without drawing, with drawing, and again on another rig end in the same bytes."""
    rng = np.random.default_rng(0)
    rows = [rng.uniform(LOWEST, HIGHEST).astype(np.float32) * 0.5 for _ in range(30)]
    pictures = []
    for every in (1, 7, 30):
        with Rig(Character.from_seed(5), 128) as rig:
            for k, row in enumerate(rows):
                rig.set_emotion(felt("sad", 0.9))
                rig.advance(row)
                if k % every == 0:
                    rig.draw_with_truth(row)
            pictures.append(rig.draw(rows[-1]).copy())
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize("seed", [0, 4, 9, 14])
def test_no_legal_motion_tears_a_character(seed: int) -> None:
    """Controls that jump between their limits leave the state finite and every point near where it was."""
    rng = np.random.default_rng(seed)
    with Rig(Character.from_seed(seed), 64) as rig:
        sketch = rig._sketch
        for k in range(300):
            rig.advance(
                np.where(rng.random(len(CONTROLS)) < 0.5, LOWEST, HIGHEST), float(rng.choice((0.001, 0.04, 1.0)))
            )
            assert all(-0.11 <= v <= 1.16 for v in rig.latches.values())
            if k % 10 == 0:
                rig.draw(rest())
                moved = sketch._swung.displaced(sketch.rest, sketch.pendulums) - sketch.rest
                assert np.isfinite(moved).all() and np.abs(moved).max() < 1.2


def test_wrong_input_is_refused_with_its_numbers() -> None:
    """NaN, another shape, time that does not pass, and emotions that are none; the state stays as it was."""
    with Rig(HANGING, 64) as rig:
        before = rig.draw(rest()).copy()
        broken = rest()
        broken[CONTROLS.index("yaw")] = np.nan
        with pytest.raises(ValueError, match="yaw"):
            rig.advance(broken)
        with pytest.raises(ValueError, match="7"):
            rig.advance(np.zeros(7, np.float32))
        for dt in (0.0, -0.04, 1.5, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="not"):
                rig.advance(rest(), dt)
        for emotion in (np.zeros(3, np.float32), np.full(len(EMOTIONS), np.nan, np.float32)):
            with pytest.raises(ValueError, match=f"{len(EMOTIONS)} finite"):
                rig.set_emotion(emotion)
        np.testing.assert_array_equal(rig.draw(rest()), before)
    with pytest.raises(RuntimeError, match="closed"):
        rig.advance(rest())
    with pytest.raises(RuntimeError, match="closed"):
        rig.set_emotion(felt("sad", 1.0))


LOOSENING = {
    "lock": [controls(yaw=float(0.3 * np.sin(2 * np.pi * 2 * k / FPS))) for k in range(FPS)],
    "glasses": [controls(pitch=float(-0.25 * max(0, np.sin(2 * np.pi * 1.5 * k / FPS)))) for k in range(3 * FPS)],
    "hood": [controls(lean=float(0.8 * np.sin(2 * np.pi * 0.8 * k / FPS))) for k in range(3 * FPS)],
}
TOSSED = [controls(pitch=pitch) for pitch in (0.0, -0.05, 0.08, 0.25, 0.25, 0.1, 0.0)]


@pytest.mark.parametrize("latch", LATCHES)
def test_a_latch_holds_until_the_head_is_tossed(latch: str) -> None:
    """Motion brings it out of place, ten seconds of ordinary motion leave it there and visible, a toss ends it."""
    character = with_latch(latch)
    with Rig(character, 128) as rig, Rig(character, 128) as orderly:
        in_place = rig.draw(rest()).copy()
        for row in LOOSENING[latch]:
            rig.advance(row)
        for k in range(10 * FPS):
            rig.advance(controls(yaw=float(0.1 * np.sin(0.05 * k)), pitch=float(0.03 * np.sin(0.08 * k))))
        assert rig.latches[latch] > 0.25
        for _ in range(10 * FPS):
            rig.advance(rest())
            orderly.advance(rest())
        held = rig.latches[latch]
        out_of_place = rig.draw(rest()).astype(int)
        assert held > 0.25 and (np.abs(out_of_place - in_place).sum(-1) > 60).sum() > 25
        for row in TOSSED + [rest()] * 12 * FPS:
            rig.advance(row)
        assert rig.latches[latch] == 0.0
        assert (np.abs(rig.draw(rest()).astype(int) - in_place).max(-1) > 8).mean() < 0.002


def test_a_fallen_lock_covers_the_face_in_the_truth() -> None:
    """Where the lock lies over skin, the face's mask ends."""
    with Rig(with_latch("lock"), 256) as rig:
        before = rig.draw_with_truth(rest())[1].face_mask
        for row in LOOSENING["lock"] + [rest()] * 10 * FPS:
            rig.advance(row)
        after = rig.draw_with_truth(rest())[1].face_mask
    assert (before & ~after).sum() > 40 and (after & ~before).sum() < 10


def test_ordinary_motion_leaves_latches_alone() -> None:
    """A single turn and a slow nod drop no lock."""
    with Rig(with_latch("lock"), 32) as rig:
        for k in range(2 * FPS):
            rig.advance(controls(yaw=min(0.4, 0.06 * k), pitch=float(-0.1 * np.sin(0.1 * k))))
        assert rig.latches["lock"] == 0.0


@pytest.mark.parametrize("emotion", [e for e in EMOTIONS if e != "neutral"])
def test_marks_are_told_by_the_label_alone(emotion: str) -> None:
    """With equal controls a strong label fades a mark in, a weak one and its absence do not, and it fades out again."""
    character, mark = with_mark(emotion)
    with Rig(character, 256) as rig:
        plain = rig.draw(rest()).copy()

        def after(strength: float, frames: int) -> np.ndarray:
            rig.set_emotion(felt(emotion, strength))
            for _ in range(frames):
                rig.advance(rest())
            return rig.draw(rest()).copy()

        np.testing.assert_array_equal(after(0.59, 20), plain)
        after(0.61, 2)
        assert 0 < rig.marks[mark] < 1
        shown = after(0.61, 20).astype(int)
        assert rig.marks == {name: float(name == mark) for name in MARKS}
        assert (np.abs(shown - plain).sum(-1) > 60).sum() > 50
        np.testing.assert_array_equal(after(0.0, 20), plain)
    with Rig(without_mark(emotion), 64) as rig:
        plain = rig.draw(rest()).copy()
        np.testing.assert_array_equal(after(1.0, 20), plain)
        assert not any(rig.marks.values())


def test_a_live_session_advances_frames_that_it_does_not_draw() -> None:
    """An avatar that hears all steps and draws the last shows what one that draws each of them shows; emotion too."""
    steps = list(
        steps_of(0.3 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32), Loudness().lookahead)
    )
    backend, entry = RigBackend(), Characters().get("13")
    pictures = []
    for every in (1, len(steps)):
        avatar = Avatar(Loudness(), backend.create_renderer(entry, 128, True), IdleMotion(2))
        avatar.set_emotion("angry", 1.0)
        for step in steps:
            drawn, _ = avatar.hear(step)
            if step.frame % every == 0:
                avatar.draw(drawn, step.frame / FPS)
        pictures.append(avatar.draw(drawn, 0.0).copy())
        rig = avatar._rig
        assert isinstance(rig, Rig) and not rig._sketch.pendulums.still
        assert set(rig.marks.values()) == ({0.0, 1.0} if "angry" in rig._sketch.feelings.of else {0.0})
        avatar.close()
    np.testing.assert_array_equal(*pictures)
    with Rig(entry.character, 128) as still:  # type: ignore[arg-type]
        assert not np.array_equal(still.draw(drawn), pictures[0])


def test_tracked_points_are_where_their_shape_is_seen() -> None:
    """A point seen in two pictures has the same colour in both, mostly; one behind a hand is not seen."""
    with Rig(Character.from_traits({"hair": "hime cut", "background": "plain"}), 512) as rig:
        with pytest.raises(RuntimeError, match="no picture"):
            rig.tracked()
        before = rig.draw(rest()).astype(int)
        first = rig.tracked()
        assert len(first) > 1500 and first[:, 2].sum() > 600
        row = controls(yaw=0.25, left_raise=1, left_x=-0.9, left_y=0.8)
        after = rig.draw(row).astype(int)
        second = rig.tracked()
        both = (first[:, 2] > 0) & (second[:, 2] > 0)
        assert both.sum() > 400 and np.median(np.hypot(*(second - first)[both, :2].T)) > 2
        colours = [picture[tuple(points[both, 1::-1].astype(int).clip(0, 511).T)][:, :3]
                   for picture, points in ((before, first), (after, second))]  # fmt: skip
        assert np.median(np.abs(colours[0] - colours[1]).mean(1)) < 4
        _, truth = rig.draw_with_truth(row)
        x0, y0, x1, y1 = truth.hand_boxes[0]  # type: ignore[misc]
        assert truth.hand_boxes[1] is None
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        behind = np.hypot(*(second[:, :2] - middle).T) < 0.3 * (x1 - x0)
        of_the_head = behind & (first[:, 2] > 0)  # where the hand is down
        assert of_the_head.sum() > 4 and second[of_the_head, 2].mean() < 0.1
