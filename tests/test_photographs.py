"""Photographs as training clips: licences, held-out pictures, mirror images, and the truth of their clips."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from meshed_faces import Meshed

pytest.importorskip("torch", reason="training needs the extra `train`")

from benchmarks.pictures import sets  # noqa: E402
from streamer.faces.decode import decode_picture  # noqa: E402
from streamer.faces.detector import FaceDetector  # noqa: E402
from streamer.faces.finder import find_faces  # noqa: E402
from streamer.faces.landmarks import Landmarker  # noqa: E402
from streamer.motion.controls import CONTROLS, HANDS, INDEX, controls  # noqa: E402
from streamer.studio.face_fit import LEFT_EYE, RIGHT_EYE  # noqa: E402
from streamer.studio.picture_rig import PictureRig, PreparedPicture  # noqa: E402
from streamer.training.clip import FLOW_UNIT, TRACK_UNIT, UNSEEN, Clip, Passage  # noqa: E402
from streamer.training.mirror import mirrored_controls, mirrored_fit, mirrored_landmarks  # noqa: E402
from streamer.training.people import motion, shards  # noqa: E402
from streamer.training.people.parts import PART  # noqa: E402
from streamer.training.people.training_scene import scene_of  # noqa: E402
from streamer.training.photographs import __main__ as command  # noqa: E402
from streamer.training.photographs import clips, held_out, stills  # noqa: E402
from streamer.training.photographs.correspond import torn  # noqa: E402
from streamer.training.photographs.licences import BadManifest, accepted_licence, sources  # noqa: E402
from streamer.training.photographs.look import Look  # noqa: E402
from streamer.training.photographs.portraits import Opener, Portrait, Refused, Source  # noqa: E402
from streamer.training.pictures import Teacher  # noqa: E402

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "pictures"
SIZE = 256
BUSY = controls(
    open=0.5, smile=0.4, brow_left=0.8, blink_left=0.9, gaze_x=0.6, yaw=0.2, roll=0.12, lean=0.5, sway_x=0.4
)


def portrait(**changes: object) -> Portrait:
    pixels, fit, share = Meshed(**changes).paint()  # type: ignore[arg-type]
    return Portrait(1_000_001, pixels, share if pixels[..., 3].min() == 255 else None, fit)


def mirror_image(of: Portrait) -> Portrait:
    return Look(True, None, np.ones((4, 4, 3), np.float32))(of)


@cache
def made_clip(seed: int, cut_out: bool = False) -> Clip:
    studio = clips.Studio(Passage(SIZE, 4), motion.babble(4, 1), motion.quiet())
    return studio.clip(seed, portrait(cut_out=cut_out))


def test_a_mirrored_picture_with_mirrored_controls_is_the_mirrored_frame() -> None:
    """All controls but hands, on the picture rig: leaving one control unmirrored makes the difference larger."""
    own = portrait()
    frame = PictureRig(PreparedPicture.build(own.pixels, own.fit, own.matte), SIZE).draw(BUSY)
    other = mirror_image(own)
    rig = PictureRig(PreparedPicture.build(other.pixels, other.fit, other.matte), SIZE)

    def difference(values: np.ndarray) -> float:
        return float(np.abs(rig.draw(values)[:, ::-1].astype(int) - frame).mean())

    assert difference(mirrored_controls(BUSY)) < 1.5
    for name in ("brow_left", "blink_left", "gaze_x", "yaw", "roll", "lean"):
        wrong = mirrored_controls(BUSY)
        wrong[INDEX[name]] = BUSY[INDEX[name]]
        assert difference(wrong) > difference(mirrored_controls(BUSY)), name
    assert difference(BUSY) > 3 * difference(mirrored_controls(BUSY))


def test_mirrored_controls_swap_sides_and_turn_what_has_a_direction() -> None:
    """Twice mirrored is the same; hands change sides without changing signs; mouths stay as they are."""
    values = np.random.default_rng(1).normal(size=(5, len(CONTROLS))).astype(np.float32)
    mirrored = mirrored_controls(values)
    np.testing.assert_array_equal(mirrored_controls(mirrored), values)
    for name in HANDS:
        side, rest = name.split("_")
        other = f"{'right' if side == 'left' else 'left'}_{rest}"
        np.testing.assert_array_equal(mirrored[:, INDEX[other]], values[:, INDEX[name]])
    np.testing.assert_array_equal(mirrored[:, INDEX["blink_right"]], values[:, INDEX["blink_left"]])
    for name, sign in (("yaw", -1), ("sway_x", -1), ("lean", -1), ("pitch", 1), ("sway_y", 1), ("open", 1)):
        np.testing.assert_array_equal(mirrored[:, INDEX[name]], sign * values[:, INDEX[name]])


def test_a_mirrored_fit_keeps_the_order_of_landmarks_lids_and_irises() -> None:
    """Twice mirrored is the same face; the left eye is still on the left, its lids where its landmarks are."""
    _, fit, _ = Meshed().paint()
    once = mirrored_fit(fit, 384)
    again = mirrored_fit(once, 384)
    for name in ("points", "lids", "irises"):
        np.testing.assert_allclose(getattr(again, name), getattr(fit, name), atol=1e-3)
    assert once.irises[0, 0, 0] < once.irises[1, 0, 0] and once.irises[0, 1, 0] > once.irises[0, 0, 0]
    np.testing.assert_array_equal(mirrored_landmarks()[list(LEFT_EYE)], RIGHT_EYE)


def seen_error(clip: Clip, flow: np.ndarray, step: int, source: np.ndarray, frame: np.ndarray) -> tuple[float, float]:
    """Mean difference of a frame from its source by the flow where that is seen; the share that is seen."""
    y, x = np.mgrid[0 : frame.shape[0] : step, 0 : frame.shape[1] : step].astype(np.float32)
    seen = flow[..., 0] != UNSEEN
    moved = np.where(seen[..., None], flow, 0).astype(np.float32) / FLOW_UNIT
    there = cv2.remap(source, x + moved[..., 0], y + moved[..., 1], cv2.INTER_LINEAR)
    return float(np.abs(there.astype(int) - frame[::step, ::step])[seen].mean()), float(seen.mean())


@pytest.mark.parametrize("cut_out", [False, True])
def test_flows_lead_to_the_copied_pixels(cut_out: bool) -> None:
    """
    Warping the neutral picture, the other references and the frame before by the stored flows gives the frame's pixels
    where they are seen, within two levels, and most are seen.
    """
    for seed in (1, 2):
        clip = made_clip(seed, cut_out)
        assert clip.roles == ("neutral", "eyes_shut", "mouth_open")
        for k, frame in enumerate(clip.frames):
            error, seen = seen_error(clip, clip.flow[k], 2, clip.references[0], frame)
            assert error < 2 and seen > 0.6
            for reference, flow in zip(clip.references[1:], clip.flows[k], strict=True):
                error, seen = seen_error(clip, flow, 4, reference, frame)
                assert error < 2.5 and seen > 0.6
            error, seen = seen_error(clip, clip.before[k], 4, clip.frames[max(k - 1, 0)], frame)
            assert error < 2.5 and seen > 0.6
        assert not clip.before[0][clip.before[0][..., 0] != UNSEEN].any()


def test_a_shard_of_photographs_is_what_the_painter_reads(tmp_path: Path) -> None:
    """It comes back from disk and becomes a scene with the right shapes, followed points and mouths."""
    path = tmp_path / "shard_00000.npz"
    shards.write(path, [made_clip(1)])
    clip = next(shards.read(path))
    scene = scene_of(clip, 128, np.random.default_rng(1), 1.0)
    assert scene.picture.shape == (128, 128, 4) and scene.frames.shape == (4, 128, 128, 4)
    assert scene.weights.max() == 10 and scene.face.max() > 0.9 and scene.seed == 1_000_001
    inside = ((scene.points >= 0) & (scene.points <= 128)).all(1)
    assert inside.all() and scene.followed[..., 2].mean() > 0.6
    picture = scene.picture[..., :3].astype(int)
    x, y = scene.points.astype(int).clip(0, 127).T
    for frame, followed in zip(scene.frames, scene.followed, strict=True):
        there = followed[:, :2].astype(int).clip(0, 127)
        alike = np.abs(frame[there[:, 1], there[:, 0], :3].astype(int) - picture[y, x]).mean(1)[followed[:, 2] > 0]
        assert np.median(alike) < 12
    x0, y0, x1, y1 = scene.mouths[0]
    assert 0 < x0 < x1 < 128 and 0 < y0 < y1 < 128 and 10 < x1 - x0 < 60
    assert clip.tracks.dtype == np.uint16 and clip.tracks[0, :, :2].min() >= 128 * TRACK_UNIT


def test_parts_points_and_openings_are_the_faces() -> None:
    """Lips, eyes, brows and skin are where the landmarks are; what the rig does not know is invisible."""
    clip = made_clip(2)
    present = set(np.unique(clip.parts))
    assert {PART[name] for name in ("background", "face", "lips", "eye", "brow", "hair", "cloth")} <= present
    for points, parts in zip(clip.points, clip.parts, strict=True):
        column, row = points[17, :2].astype(int)  # the lower lip's lower edge
        assert PART["lips"] in parts[row - 5 : row + 2, column - 1 : column + 2]
        assert points[:468, 2].mean() > 0.8 and not points[478:, 2].any()
    assert ((clip.openings >= 0) & (clip.openings <= 1)).all()
    nose = clip.places[0][tuple((clip.reference_points[0, 4, :2] // 2).astype(int)[::-1])]
    assert abs(nose[0]) < 0.1 and 6.5 < nose[1] < 7.3 and nose[2] > 1.4  # MakeHuman's decimetres


def test_the_same_seed_gives_the_same_clip_and_looks_differ() -> None:
    """Colours and light are the seed's; strong tears are counted."""
    again = clips.Studio(Passage(SIZE, 4), motion.babble(4, 1), motion.quiet()).clip(1, portrait())
    np.testing.assert_array_equal(again.frames, made_clip(1).frames)
    assert np.abs(made_clip(1).references[0].astype(int) - made_clip(2).references[0]).mean() > 2
    looks = [Look.random(np.random.default_rng(seed)) for seed in range(40)]
    assert 8 < sum(look.mirrored for look in looks) < 32 and any(look.style is None for look in looks)
    assert all(look.light.min() >= 0.5 and look.light.max() <= 1.7 for look in looks)


def test_smears_and_folds_count_as_torn() -> None:
    """A turn within reach tears nothing; a patch of skin that shows one pixel is a smear."""
    own = portrait()
    teacher = Teacher(PreparedPicture.build(own.pixels, own.fit, own.matte), SIZE)
    shown = teacher.show(controls(yaw=0.2))
    assert torn(shown) < 0.002
    x, y = shown.keypoints[50, :2].astype(int)  # a cheek
    rows, columns = np.mgrid[y - 8 : y + 8, x - 8 : x + 8]
    shown.flow[rows, columns] = np.stack([x - columns, y - rows], -1)
    assert torn(shown) > 0.002


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("CC0", "CC0"), ("CC0 1.0 Universal", "CC0"), ("public domain", "public domain"), ("PD", "public domain"),
        ("Public Domain (US Government)", "public domain"), ("CC-BY-4.0", "CC BY"), ("cc by 3.0", "CC BY"),
        ("CC BY-SA 3.0", "CC BY-SA"), ("Creative Commons Attribution-ShareAlike 4.0 International", "CC BY-SA"),
        ("CC BY-NC 4.0", None), ("CC-BY-ND-4.0", None), ("CC BY-NC-SA", None), ("GPL-2", None), ("", None),
        ("all rights reserved", None), ("not in the public domain", None), ("Unsplash", None), ("CC BY 9.0", None),
    ],
)  # fmt: skip
def test_licences_that_allow_training(text: str, licence: str | None) -> None:
    """Public domain, CC0, CC BY and CC BY-SA in their usual spellings, and nothing else."""
    assert accepted_licence(text) == licence


def test_pictures_without_a_good_licence_are_refused_by_name(tmp_path: Path) -> None:
    """Each refusal names its file and the reason; both kinds of manifests are read."""
    with pytest.raises(BadManifest, match="LICENCES.csv"):
        sources(tmp_path)
    for name in ("good.png", "nc.png", "nobody.png", "unlisted.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "LICENCES.csv").write_text(
        "file,title,author,licence,url\ngood.png,A,Ann,CC BY 4.0,https://example.org\nnc.png,B,Bo,CC BY-NC 4.0,x\n"
        "nobody.png,C,,CC BY 4.0,x\ngone.png,D,Di,CC0,x\n../up.png,E,Ed,CC0,x\n"
    )
    accepted, refused = sources(tmp_path)
    assert [source.file for source in accepted] == ["good.png"]
    reasons = {refusal.file: refusal.reason for refusal in refused}
    assert "CC BY-NC 4.0" in reasons["nc.png"] and "author" in reasons["nobody.png"]
    assert "does not exist" in reasons["gone.png"] and "within the folder" in reasons["../up.png"]
    assert "does not give its licence" in reasons["unlisted.png"] and len(reasons) == 5
    (tmp_path / "sources.json").write_text(json.dumps([{"file": "nc.png", "licence": "CC0"}]))
    assert [source.file for source in sources(tmp_path)[0]] == ["nc.png"]
    (tmp_path / "sources.json").write_text("{")
    with pytest.raises(BadManifest, match="cannot be read"):
        sources(tmp_path)


def test_every_measured_picture_is_held_out() -> None:
    """The fingerprints cover the benchmark's development and held-out sets, its drawings and the docs' pictures."""
    names = set(held_out.measured())
    wanted = {sample.name for sample in sets.of_docs()} | {f"fluent-{name}" for name in sets.EMOJI}
    wanted |= {f"dicebear-{style}-{seed}" for style in sets.STYLES for seed in sets.SEEDS}
    for packages in (sets.PHOTOGRAPHS, sets.HELD_OUT):
        for package, files in packages.items():
            prefix = package.rpartition("@")[0].rpartition("/")[2].removesuffix("-free")
            wanted |= {f"{prefix}-{name}" for name in files}
    assert not wanted - names


@pytest.mark.parametrize("name", ["astronaut.jpg", "rendered-smile.webp"])
def test_changed_copies_of_measured_pictures_are_recognised(name: str) -> None:
    """Scaled, cropped, brightened, compressed and mirrored; another face is not."""
    landmarker, detector = Landmarker.load(), FaceDetector.load()
    picture = decode_picture((DOCS / name).read_bytes(), name).pixels
    height, width = picture.shape[:2]
    brightened = picture.copy()
    brightened[..., :3] = (255 * (picture[..., :3] / 255) ** 0.75).astype(np.uint8)
    copies = {
        "smaller": cv2.resize(picture, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
        "cropped": np.ascontiguousarray(picture[height // 20 : -height // 9, width // 12 : -width // 15]),
        "brightened": brightened,
        "mirrored": np.ascontiguousarray(picture[:, ::-1]),
    }
    for change, copy in copies.items():
        fit = find_faces(copy, landmarker, detector).candidates[0].fit
        found = held_out.measured_as(b"other bytes", copy, fit)
        assert found is not None, change
    pixels, fit, _ = Meshed().paint()
    assert held_out.measured_as(b"other bytes", pixels, fit) is None


def test_measured_pictures_never_become_portraits() -> None:
    """Whatever a manifest says of them; sizes and licences are not even asked."""
    opener = Opener(128)
    for name in ("astronaut.jpg", "composer.webp", "rendered-bob.webp"):
        with pytest.raises(Refused, match="held out"):
            opener.open(DOCS, Source(name, "", "", "CC0", ""))


def people_set(folder: Path, split: str) -> Path:
    """Two people, of whom one has an eye behind hair."""
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"split": split}))
    shards.write(folder / "shard_00000.npz", [made_clip(1)])
    hidden = made_clip(1).reference_points.copy()
    hidden[0, 473, 2] = 0
    shards.write(folder / "shard_00001.npz", [replace(made_clip(1), person=7, reference_points=hidden)])
    return folder


def test_stills_are_of_training_people_only(tmp_path: Path) -> None:
    """Held-out people give none; those of the training set come with their mattes, but for eyes behind hair."""
    with pytest.raises(stills.NoStills, match="no set"):
        stills.extract(tmp_path, tmp_path / "out", 3)
    with pytest.raises(stills.NoStills, match="held out"):
        stills.extract(people_set(tmp_path / "test", "test"), tmp_path / "out", 3)
    found = stills.extract(people_set(tmp_path / "train", "train"), tmp_path / "out", 3)
    assert [source.file for source in found] == ["person_1000001.png"]
    matte = cv2.imread(str(tmp_path / "out" / found[0].matte), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(matte, made_clip(1).reference_mattes[0])
    assert stills.extract(tmp_path / "train", tmp_path / "out", 3) == found
    accepted, refused = sources(tmp_path / "out")
    assert accepted == found and not refused


def test_the_command_refuses_what_makes_no_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a source, without a manifest, or with nothing left, it says so and makes nothing."""
    out = ["--out", str(tmp_path / "set")]
    assert command.main(out) == 1 and "--pictures" in capsys.readouterr().err
    assert command.main([*out, "--pictures", str(tmp_path)]) == 1 and "LICENCES.csv" in capsys.readouterr().err
    assert command.main([*out, "--people", str(tmp_path)]) == 1 and "no set of" in capsys.readouterr().err
    data = (DOCS / "astronaut.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "sources.json").write_text(json.dumps([{"file": "a.jpg", "licence": "public domain"}]))
    assert command.main([*out, "--pictures", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "measured picture astronaut" in said.out and "no picture is left" in said.err
    assert not list((tmp_path / "set").glob("shard_*")) if (tmp_path / "set").exists() else True
