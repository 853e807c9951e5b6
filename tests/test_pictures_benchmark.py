"""The picture benchmark's figures on pictures whose truth is known, its judge's pipe, its table and its sets."""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.lib.paths import PICTURES
from benchmarks.pictures import __main__ as bench
from benchmarks.pictures import judge, measure, measures, page, poses, sets, sheet, table
from streamer.motion.controls import controls, rest
from streamer.studio.face_fit import LEFT_EYE, RIGHT_EYE, FaceFit

SIZE = 256
EYES_APART = 100.0  # pixels between the outer corners


def drawn_face() -> FaceFit:
    """A face's landmarks as far as the benchmark reads them; the others lie on an oval round them."""
    turn = np.linspace(0, 2 * np.pi, 468, endpoint=False)
    points = np.stack([128 + 75 * np.sin(turn), 128 + 95 * np.cos(turn), 0 * turn], 1).astype(np.float32)
    places = {
        10: (128, 33),
        152: (128, 223),
        2: (128, 150),
        61: (98, 180),
        291: (158, 180),
        13: (128, 180),
        14: (128, 180),
    }
    places |= {33: (78, 100), 133: (108, 100), 263: (178, 100), 362: (148, 100)}
    for index, place in places.items():
        points[index, :2] = place
    lids = np.zeros((2, 16, 2), np.float32)
    for side, indices in enumerate((LEFT_EYE, RIGHT_EYE)):
        middle = (93.0, 163.0)[side]
        for k in range(len(indices)):
            angle = np.pi * k / 8
            lids[side, k] = middle - 15 * np.cos(angle), 100 + 8 * np.sin(angle)
    return FaceFit(points, lids, np.zeros((2, 5, 2), np.float32), style="drawing")


def face(gap: int = 0, shut: bool = False, outline: bool = False) -> np.ndarray:
    """[SIZE, SIZE, 3] a drawing: a dark line for a mouth, opened to `gap` rows of red, and two dark eyes."""
    image = np.full((SIZE, SIZE, 3), (90, 120, 150), np.uint8)
    cv2.ellipse(image, (128, 128), (75, 95), 0, 0, 360, (230, 180, 140), -1)
    if outline:
        cv2.ellipse(image, (128, 128), (75, 95), 0, 0, 360, (30, 20, 20), 3)
    if gap:
        image[181 - gap // 2 : 181 + gap - gap // 2, 98:158] = (150, 40, 40)
    image[178 - gap // 2 : 181 - gap // 2, 98:158] = (60, 20, 20)
    for x in (93, 163):
        if shut:
            image[100:102, x - 12 : x + 12] = (40, 30, 30)
        else:
            cv2.ellipse(image, (x, 100), (12, 8), 0, 0, 360, (40, 30, 30), -1)
    return image


def textured(seed: int = 0) -> np.ndarray:
    """[SIZE, SIZE, 3] with detail down to the pixel."""
    noise = np.random.default_rng(seed).normal(128, 40, (SIZE, SIZE, 3)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 0.7), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("outline", [False, True], ids=["plain", "outlined"])
@pytest.mark.parametrize("gap", [0, 4, 12, 25])
def test_an_opening_is_measured_by_what_came_between_the_lips(gap: int, outline: bool) -> None:
    """A mouth opened by so many rows has opened so far, whether or not the face has an outline."""
    opened = measures.opening(face(outline=outline), face(gap, outline=outline), drawn_face())
    assert opened == pytest.approx(gap / EYES_APART, abs=0.02)


def test_a_mouth_that_only_moves_has_not_opened() -> None:
    """A closed mouth a few pixels lower is a closed mouth."""
    moved = np.roll(face(), 5, axis=0)
    assert measures.opening(face(), moved, drawn_face()) <= 0.02


def test_teeth_in_an_open_mouth_do_not_end_it() -> None:
    """What is between the lips counts as one opening, of whatever colours."""
    opened = face(24)
    opened[170:176, 98:158] = (240, 240, 235)
    assert measures.opening(face(), opened, drawn_face()) == pytest.approx(0.24, abs=0.03)


def test_a_blink_is_told_from_open_eyes() -> None:
    """Eyes that became lines are shut; eyes that stayed are not."""
    fit = drawn_face()
    assert measures.lids_left(face(), face(shut=True), fit) < 0.4
    assert measures.lids_left(face(), face(), fit) == 1.0


def test_a_large_drawn_eye_does_not_blink_by_its_pupil_alone() -> None:
    """Where the white of an eye stays, as large as it was, the eye is open, whatever happens to the iris in it."""
    fit, staring, pale = drawn_face(), face(), face(shut=True)
    for image in (staring, pale):
        for x in (93, 163):
            inner = image[92:109, x - 12 : x + 13].copy()
            cv2.circle(image, (x, 100), 24, (255, 255, 255), -1)
            image[92:109, x - 12 : x + 13] = np.where((inner < 60).all(2, keepdims=True), inner, 255)
    assert measures.lids_left(staring, pale, fit) > 0.9
    assert measures.lids_left(staring, face(shut=True), fit) < 0.4


def test_eyes_that_cannot_be_seen_do_not_blink() -> None:
    """Where the place of an eye has one colour nothing can shut."""
    blank = np.full((SIZE, SIZE, 3), 200, np.uint8)
    assert measures.lids_left(blank, blank, drawn_face()) == 1.0


def test_an_unchanged_picture_leaks_nothing() -> None:
    """Frames equal to the rest have none; a moved pixel of the background is one, a moved mouth is not."""
    region = measures.outside_face(drawn_face(), SIZE)
    still = face()
    assert measures.leak(still, np.stack([still, still]), region) == 0.0
    assert measures.leak(still, np.stack([face(20)]), region) == 0.0
    spoiled = still.copy()
    spoiled[5, 5] = 255
    assert measures.leak(still, np.stack([spoiled]), region) > 0.0


def test_neck_and_face_are_not_outside() -> None:
    """What a jaw moves is no leak: the face and below the chin; the corners and beside the neck are outside."""
    region = measures.outside_face(drawn_face(), SIZE)
    assert not region[128, 128] and not region[245, 128] and not region[40, 128]
    assert region[5, 5] and region[250, 5] and region[5, 128]


def test_sharpness_ranks_blur() -> None:
    """The more a turned head is blurred the less sharp it is; the picture itself has all of it."""
    still, region = textured(), measures.inside_face(drawn_face(), SIZE)
    shares = [
        measures.sharpness(still, np.stack([still if s == 0 else cv2.GaussianBlur(still, (0, 0), s)]), region)
        for s in (0, 0.4, 0.6, 1.0)
    ]
    assert shares[0] == pytest.approx(1.0)
    assert all(a > b + 0.02 for a, b in zip(shares, shares[1:], strict=False))


def test_sampling_between_pixels_costs_sharpness_and_whole_pixels_do_not() -> None:
    """A head moved by half a pixel and sampled linearly is blurred; moved by a whole one it is not."""
    still, region = textured(), measures.inside_face(drawn_face(), SIZE)

    def moved(by: float) -> np.ndarray:
        shift = np.array([[1, 0, by], [0, 1, 0]], np.float32)
        return np.stack([cv2.warpAffine(still, shift, (SIZE, SIZE), flags=cv2.INTER_LINEAR)])

    assert measures.sharpness(still, moved(1.0), region) == pytest.approx(1.0, abs=0.02)
    assert measures.sharpness(still, moved(0.5), region) < 0.9


def test_a_picture_of_one_colour_has_no_sharpness() -> None:
    """Nothing can be said of what has no detail."""
    flat = np.full((SIZE, SIZE, 3), 90, np.uint8)
    region = measures.inside_face(drawn_face(), SIZE)
    assert math.isnan(measures.sharpness(flat, flat[None], region))


def test_a_frozen_picture_follows_nothing() -> None:
    """A gap that never changes has a correlation of 0, one that is the asked opening of 1, its opposite of -1."""
    asked = np.abs(np.sin(np.arange(50) / 3))
    assert measures.correlation(asked, np.full(50, 0.1)) == 0.0
    assert measures.correlation(asked, 0.2 * asked + 0.01) == pytest.approx(1.0)
    assert measures.correlation(asked, -asked) == pytest.approx(-1.0)


def test_frames_without_a_face_are_left_out() -> None:
    """What the judge did not see is neither a gap nor a correlation."""
    asked = np.arange(10) / 10
    shown = asked.copy()
    shown[3] = np.nan
    assert measures.correlation(asked, shown) == pytest.approx(1.0)
    assert measures.mean_where(shown, asked > 0.85) == pytest.approx(0.9)
    assert math.isnan(measures.mean_where(shown, asked > 5))


def test_alpha_is_shown_on_one_colour() -> None:
    """Where a frame is transparent the ground is seen, where it is opaque the frame."""
    frame = np.zeros((2, 1, 4), np.uint8)
    frame[0] = (10, 20, 30, 255)
    assert measures.over(frame, (1, 2, 3))[:, 0].tolist() == [[10, 20, 30], [1, 2, 3]]


def reading(**places: tuple[float, float]) -> judge.Reading:
    """One frame in which the eyes' outer corners are 100 pixels apart."""
    points = np.zeros((1, judge.POINTS, 3), np.float32)
    named = {"p33": (50, 100), "p133": (80, 100), "p263": (150, 100), "p362": (120, 100)}
    named |= {"p468": (65, 100), "p473": (135, 100)} | places
    for name, place in named.items():
        points[0, int(name[1:]), :2] = place
    return judge.Reading(points)


def test_the_judge_measures_in_eye_distances() -> None:
    """Ten pixels between the lips of a face whose eyes are 100 apart are .1, lids alike, and irises in eye widths."""
    seen = reading(p13=(100, 180), p14=(100, 190), p159=(65, 96), p145=(65, 104), p386=(135, 98), p374=(135, 102))
    assert seen.gap[0] == pytest.approx(0.1)
    assert seen.lids[0] == pytest.approx([0.08, 0.04])
    assert seen.gaze[0] == pytest.approx([0, 0])
    looks = reading(p468=(71, 97), p473=(141, 97))
    assert looks.gaze[0] == pytest.approx([0.2, 0.1])


def test_the_judge_sees_turns_by_their_sign() -> None:
    """The face turns to the viewer's right where its right eye goes back, and clockwise where it sinks."""
    seen = reading()
    seen.points[0, 263, 2] = 20
    assert seen.yaw[0] > 0.1
    assert reading(p263=(149, 110)).roll[0] > 0.05


ECHO = """
import json, sys
import numpy as np
inp, out = sys.stdin.buffer, sys.stdout.buffer
while line := inp.readline():
    s = json.loads(line)
    frame = np.frombuffer(inp.read(s["height"] * s["width"] * 3), np.uint8)
    out.write(np.full((478, 3), frame.mean(), np.float32).tobytes())
    out.flush()
    if frame[0] == 255:
        sys.exit(3)
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[judge.Judge]:
    """A judge that answers with each frame's mean, and dies of white ones."""
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    monkeypatch.setattr(judge, "PROCESS", script)
    with judge.Judge(Path(sys.executable)) as running:
        yield running


def test_every_frame_goes_through_the_pipe_and_back(echo: judge.Judge) -> None:
    """Frames of different sizes are answered in their order."""
    frames = [np.full((4 + k, 6, 3), 10 * k, np.uint8) for k in range(5)]
    assert echo.read(frames).points[:, 0, 0].tolist() == [0, 10, 20, 30, 40]


def test_a_judge_that_died_is_told_of(echo: judge.Judge) -> None:
    """With the code that it ended with."""
    white = np.full((2, 2, 3), 255, np.uint8)
    with pytest.raises(judge.NoJudge, match="ended with 3"):
        echo.read([white, white])


def test_the_environment_is_another_when_its_packages_are() -> None:
    """A changed requirement is never served by an environment made before."""
    assert judge.cache_folder() != judge.cache_folder(("mediapipe==0",))
    assert judge.cache_folder() == judge.cache_folder()


class Puppet:
    """A picture whose mouth opens as asked: the benchmark's subject without a rig."""

    enlargement = 1.0
    matrix = np.array([[SIZE, 0, 0], [0, SIZE, 0]], float)

    def __init__(self) -> None:
        self.fit, self.seconds, self.notices = drawn_face(), {"prepare": 0.01}, ["drawing"]
        self.still = self._frame(rest())

    def draw(self, vector: np.ndarray, t: float) -> np.ndarray:
        return self._frame(vector)

    def _frame(self, vector: np.ndarray) -> np.ndarray:
        values = dict(zip(("open", "blink_left"), (vector[0], vector[poses.INDEX["blink_left"]]), strict=True))
        image = face(round(30 * float(values["open"])), shut=values["blink_left"] > 0.5)
        return np.dstack([image, np.full((SIZE, SIZE), 255, np.uint8)])


class Seeing:
    """A judge that measures the red between the puppet's lips."""

    def read(self, frames: list[np.ndarray]) -> judge.Reading:
        points = np.repeat(reading().points, len(frames), 0)
        for k, frame in enumerate(frames):
            red = (frame[:, 128] == (150, 40, 40)).all(1).sum()
            points[k, 13, :2], points[k, 14, :2] = (100, 180), (100, 180 + red)
        return judge.Reading(points)


def spoken(frames: int = 40) -> np.ndarray:
    """[frames, C] a mouth that opens and closes, pressed where it is shut."""
    opened = np.clip(np.sin(np.arange(frames) / 2), 0, 0.9)
    return np.stack([controls(open=o, press=0.8 * (o == 0)) for o in opened])


def test_a_picture_is_measured_from_end_to_end(tmp_path: Path) -> None:
    """A puppet that does what is asked gets the figures of one that does."""
    row = measure.measure(
        sets.Sample("puppet", tmp_path / "puppet.png", "drawings"),
        lambda path, size: Puppet(),
        Seeing(),  # type: ignore[arg-type]
        spoken(),
        SIZE,
    )
    assert row.found and row.judged == 1.0 and row.notices == ["drawing"]
    assert row.correlation > 0.99 and row.gap_open > 0.15 and row.gap_pressed == 0.0
    assert row.opening == pytest.approx(0.27, abs=0.03) and row.lids_left < 0.5
    assert row.rest == 0.0 and row.leak == 0.0 and row.sharpness == pytest.approx(1.0)
    written = json.loads(json.dumps(row.as_json()))
    assert written["name"] == "puppet" and "path" not in written


def test_a_picture_without_a_face_keeps_its_reason(tmp_path: Path) -> None:
    """It is counted as not found, and nothing else is said of it."""

    def none(path: Path, size: int) -> measure.Subject:
        raise measure.NoFace("no_face")

    row = measure.measure(sets.Sample("wall", tmp_path / "w.png", "photographs"), none, Seeing(), spoken())  # type: ignore[arg-type]
    assert not row.found and "no_face" in table.line(row)
    assert table.summary([row])[0].value == 0.0


def test_a_mouth_beside_its_mark_is_not_the_pictures_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drawing whose mouth opens elsewhere than where a person marked it does not count as opening."""
    for mark, opens in (((128 / SIZE, 180 / SIZE), True), ((128 / SIZE, 215 / SIZE), False)):
        monkeypatch.setattr(sets, "mouths", lambda at=mark: {"puppet": at})
        sample = sets.Sample("puppet", tmp_path / "puppet.png", "drawings")
        row = measure.measure(sample, lambda path, size: Puppet(), Seeing(), spoken(), SIZE)  # type: ignore[arg-type]
        assert row.opening > table.OPENED and table.opens(row) is opens
    assert row.misplaced == pytest.approx(0.35, abs=0.01)


def test_every_drawing_of_the_sets_is_marked() -> None:
    """The mouths of DiceBear's, Fluent's and the docs' drawings are known, in shares of the picture."""
    names = {s.name for s in sets.of_docs() if s.kind == "drawings"} | {f"fluent-{name}" for name in sets.EMOJI}
    names |= {f"dicebear-{style}-{seed}" for style in sets.STYLES for seed in sets.SEEDS}
    marks = sets.mouths()
    assert set(marks) == names
    assert all(0 < v < 1 for mark in marks.values() for v in mark)


def good(name: str, kind: str = "photographs", **changed: object) -> measure.Row:
    """A row that reaches everything, but for what is changed."""
    row = measure.Row(name, kind, found=True, correlation=0.97, gap_rest=0.0, gap_open=0.15, gap_pressed=0.001)
    row.pressed, row.opening, row.lids_left = [0.001, 0.002], 0.2, 0.3
    row.rest = row.leak = 0.0
    row.sharpness, row.ms, row.ms_p95, row.lids_rest, row.lids_blink = 0.99, 7.0, 9.0, 0.1, 0.01
    for key, value in changed.items():
        setattr(row, key, value)
    return row


def test_aims_are_reached_or_missed() -> None:
    """Nine of ten pictures that follow are enough, eight are not; a small gap is as bad as a low correlation."""

    def follows(*rows: measure.Row) -> bool | None:
        return next(f.reached for f in table.summary(rows) if f.what.startswith("correlation ≥"))

    nine = [good(f"p{k}") for k in range(9)]
    assert follows(*nine, good("low", correlation=0.5)) is True
    assert follows(*nine[:8], good("low", correlation=0.5), good("small", gap_open=0.05)) is False


def test_a_missed_aim_names_who_missed_it() -> None:
    """The printed summary tells the names of failing pictures, and how many more there are."""
    rows = [good("fine"), good("asleep", kind="drawings", lids_left=1.0)]
    assert "asleep" in table.text("drawings", rows[1:]) and "MISSED" in table.text("drawings", rows[1:])
    assert "fine" not in table.text("photographs", rows[:1]) and "MISSED" not in table.text("photographs", rows[:1])
    many = [good(f"open{k}", pressed=[0.05]) for k in range(table.NAMED + 3)]
    assert "and 3 more" in table.text("photographs", many)


def test_kinds_are_summed_up_apart() -> None:
    """Drawings have their own aims, and every summary tells its own n."""
    rows = [good("one"), good("two", kind="drawings", lids_left=1.0), good("three", kind="rendered people")]
    told = bench.report(rows, 40, 512)["summary"]
    assert list(told) == ["photographs", "drawings", "rendered people"]
    assert all(figures[0]["n"] == 1 for figures in told.values())
    blinks = next(f for f in told["drawings"] if f["what"] == "blinks")
    assert blinks["reached"] is False and blinks["n"] == 1


def test_a_folder_is_read_by_name_and_an_empty_one_refused(tmp_path: Path) -> None:
    """Pictures by name, whatever the case of their ending; none is an error with a number."""
    with pytest.raises(sets.NoSet, match="0 pictures"):
        sets.samples(tmp_path, "photographs")
    for name in ("b.JPG", "a.png", "overview.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [s.name for s in sets.samples(tmp_path, "photographs")] == ["a", "b"]


def test_the_docs_tell_photograph_drawings_and_rendered_people_apart() -> None:
    """Photographs, drawings and rendered people of the docs are rows of different kinds."""
    kinds = {s.name: s.kind for s in sets.of_docs()}
    assert kinds["astronaut"] == "photographs" and kinds["composer"] == "drawings" and len(kinds) >= 11
    assert kinds["rendered-bob"] == "rendered people"


def test_only_what_is_named_is_measured(tmp_path: Path) -> None:
    """Parts of names choose; a name that none has is an error."""
    for name in ("a1.png", "a2.png", "b1.png"):
        (tmp_path / name).write_bytes(b"")
    args = bench.arguments([str(tmp_path), "--only", "a1,b"])
    assert [s.name for s in bench.chosen(args)] == ["a1", "b1"]
    with pytest.raises(sets.NoSet, match="none of the 3"):
        bench.chosen(bench.arguments([str(tmp_path), "--only", "zzz"]))


def test_the_speech_asks_for_what_is_judged() -> None:
    """In the piece of speech that all pictures speak, mouths open, close for p, b and m, and eyes blink."""
    curves, start = poses.with_start()
    assert curves.shape[0] == poses.SPOKEN and start >= 0
    assert (poses.named(curves, "press") > measure.PRESSED).sum() >= 15
    assert (poses.named(curves, "open") > measure.OPEN).sum() >= 15
    assert poses.named(curves, "blink_left").max() > 0.9
    assert not poses.mouth_only(curves)[:, len(poses.MOUTH) :].any()


def test_small_turns_come_in_pairs() -> None:
    """What one turn stretches its opposite compresses, so their sum is rest."""
    assert np.abs(np.sum(poses.SMALL_TURNS, 0)).max() < 1e-6


def test_a_sheet_shows_every_pose() -> None:
    """A row of all poses, a row of mouths and eyes, and strips of eleven frames, one below the other."""
    subject = Puppet()
    rows = sheet.rows_of("puppet", subject)
    assert rows.width == sheet.TILE * (1 + len(poses.POSES))
    strips = sheet.strips_of("puppet", subject, spoken())
    assert strips.width == 11 * sheet.TILE and strips.height > 4 * sheet.TILE
    assert sheet.stacked([rows, strips]).size == (rows.width, rows.height + strips.height)


def test_long_sheets_are_split_into_files(tmp_path: Path) -> None:
    """Few rows keep the name that was given; of many each file holds as many as a viewer can take."""
    row = Image.new("RGB", (30, 10))
    sheet.save([row] * 3, tmp_path / "few.png")
    sheet.save([row] * (sheet.ROWS + 1), tmp_path / "many.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["few.png", "many-1.png", "many-2.png"]


def test_a_video_has_picture_and_sound(tmp_path: Path) -> None:
    """As many frames as the voice was given, at 25 a second, and the voice beside them."""
    sheet.video(tmp_path / "puppet.mp4", Puppet(), spoken(), start=1.0)
    with av.open(str(tmp_path / "puppet.mp4")) as container:
        pictures = sum(1 for _ in container.decode(video=0))
    with av.open(str(tmp_path / "puppet.mp4")) as container:
        heard = sum(frame.samples for frame in container.decode(audio=0))
    assert pictures == 40 and heard / 48_000 == pytest.approx(1.6, abs=0.06)


@pytest.mark.skipif(not (judge.cache_folder() / "ready").is_file(), reason="the judge's environment is not made here")
def test_the_judge_sees_an_astronaut_smile_and_no_face_in_a_wall() -> None:
    """It reads lips a tenth of an eye distance apart, open eyes, and nothing where there is nobody."""
    with Image.open(PICTURES / "astronaut.jpg") as file:
        portrait = np.asarray(file.convert("RGB"))
    with judge.Judge() as running:
        seen = running.read([portrait, np.zeros_like(portrait)])
    assert seen.found.tolist() == [True, False]
    assert 0.08 < seen.gap[0] < 0.16 and (seen.lids[0] > 0.08).all() and abs(seen.yaw[0]) < 0.15
    assert math.isnan(seen.gap[1])


def test_the_published_figures_are_the_measured_ones() -> None:
    """The table of docs/pictures/README.md is what the published results give."""
    text = page.PAGE.read_text()
    assert page.filled(text, page.table(json.loads(page.FIGURES.read_text()))) == text


def test_the_table_names_what_falls_short() -> None:
    """A missed aim is said to be missed, and pictures that fall short have their names."""
    rows = [good("one"), good("two", correlation=0.2), good("three", kind="drawings")]
    told = page.table(bench.report(rows, 40, 512))
    assert "50 % of 2 (≥ 90 %, **missed**)" in told and "short of “correlation ≥ .90 and open ≥ .10”: two." in told


def test_a_page_without_its_marks_is_refused() -> None:
    """Nothing is written where it is not known where."""
    with pytest.raises(ValueError, match="4 characters"):
        page.filled("none", "figures")
