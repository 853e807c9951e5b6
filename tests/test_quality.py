"""The quality benchmark's measures on input whose truth is known, its table, its page, and a short run of all of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painted_networks import painted_networks

from benchmarks.quality import clips, lip_reader, lips, page, people, speed
from benchmarks.quality import drift as quality_drift
from benchmarks.quality import fidelity as pictures
from benchmarks.quality import measures as m
from benchmarks.quality import neural as quality
from benchmarks.quality.reconstruction import Reconstruction
from streamer.model.checkpoint import save
from streamer.model.config import HEARD, PRESETS
from streamer.motion.controls import INDEX, MOUTH, rest
from streamer.training.voices import Voices

RNG = np.random.default_rng(3)


def talk(frames: int, late: float = 0.0, seed: int = 0) -> np.ndarray:
    """[frames] of a mouth that opens and closes at up to 6 Hz, `late` by so many frames."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) - late
    waves = [rng.uniform(0.5, 1) * np.sin(2 * np.pi * f * t / 25 + rng.uniform(0, 6)) for f in np.linspace(0.7, 6, 12)]
    return 0.5 + 0.1 * np.sum(waves, 0)


@pytest.mark.parametrize("late_ms", [-27.0, 0.0, 4.0, 13.0, 20.0, 62.0])
def test_a_lag_is_found_to_the_millisecond(late_ms: float) -> None:
    """A series that is late by parts of a frame is found late by so much, whatever its scale and level."""
    pairs = [(0.6 * talk(200, late_ms / 40, seed) + 0.1, talk(200, 0, seed)) for seed in range(4)]
    assert m.lag_ms(pairs) == pytest.approx(late_ms, abs=1.0)


def test_a_lag_beyond_reach_ends_at_its_edge() -> None:
    """Lips that have nothing to do with the voice are no lag of seconds."""
    assert all(abs(m.lag_ms([(talk(80, 0, seed), talk(80, 0, seed + 50))])) <= 242.5 for seed in range(20))


def test_correlation_is_over_all_clips_together() -> None:
    """A clip in which nothing moves counts with its level; a series that never changes correlates with nothing."""
    one, two = talk(100), np.full(50, 0.9)
    assert m.pcc([(one, one), (two, two)]) == pytest.approx(1)
    assert m.pcc([(one, one), (two, two - 0.8)]) < 0.9
    assert m.pcc([(two, one[:50])]) == 0.0


def mouth(opening: list[float], press: list[float]) -> np.ndarray:
    out = np.zeros((len(opening), len(MOUTH)), np.float32)
    out[:, INDEX["open"]], out[:, INDEX["press"]] = opening, press
    return out


def test_closures_are_pressed_lips_that_touch() -> None:
    """Each p, b, m counts once, at its middle; a pause does not, nor pressed lips that never touch."""
    truth = mouth(
        [0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.4, 0.3, 0.4, 0.0],
        [0.0, 0.8, 0.8, 0.0, 0.0, 0.0, 0.9, 0.0, 0.9, 0.0, 0.7],
    )
    assert m.closures(truth) == [1, 6, 10]


def test_a_closure_is_held_within_one_frame() -> None:
    """What closes a frame late holds, what closes two frames late or only half does not."""
    truth = mouth([0.5] * 4 + [0.0] + [0.5] * 7 + [0.0] + [0.5] * 7, [0.0] * 4 + [0.9] + [0.0] * 7 + [0.9] + [0.0] * 7)
    read = np.full(20, 0.5)
    read[5], read[14] = 0.02, 0.02
    assert m.closures_held(read, truth, 0.1) == (1, 2)
    read[12] = 0.2
    assert m.closures_held(read, truth, 0.1) == (1, 2)
    assert m.closures_held(truth[:, 0], truth, 0.1) == (2, 2)


def test_shut_is_a_tenth_of_the_widest() -> None:
    """A timid mouth must close further to count as closed."""
    assert m.shut_below([np.linspace(0, 1, 1001)]) == pytest.approx(0.1, abs=0.002)
    assert m.shut_below([np.linspace(0, 0.4, 1001)]) == pytest.approx(0.04, abs=0.001)


def test_a_crossing_lies_between_frames() -> None:
    """The moment of opening is interpolated; a mouth that never opens has none."""
    assert m.first_crossing(np.array([0.0, 0.1, 0.3]), 0.2) == pytest.approx(1.5)
    assert m.first_crossing(np.array([0.9, 0.0, 0.4]), 0.2, start=1) == pytest.approx(1.5)
    assert m.first_crossing(np.array([0.9, 0.1]), 0.2, start=1) is None


def test_onsets_are_late_by_what_they_are_late() -> None:
    """A first open mouth two frames late is two frames late; one that never opens has no delay but is counted."""
    wanted = np.zeros(120)
    for start in (30, 90):
        wanted[start + 3 : start + 20] = 0.8
    read = np.roll(wanted, 2)
    assert lips.onset_delays(read, wanted, [30, 90]) == [pytest.approx(2), pytest.approx(2)]
    assert lips.onset_delays(0 * read, wanted, [30, 90]) == [None, None]
    numbers = lips._onset_numbers([2.0, 2.0, None], steady_ms=40.0)
    assert numbers["median_beyond_steady"] == pytest.approx(1)
    assert numbers["within_one_frame"] == pytest.approx(2 / 3)
    assert numbers["never_opened"] == 1


def test_psnr_and_gradient_energy_are_what_they_are_called() -> None:
    """One level off is 48.1 dB; blur takes gradient energy away; equal pictures stay finite."""
    picture = RNG.integers(0, 255, (32, 32, 3)).astype(np.uint8)
    assert m.psnr(picture, picture + 1) == pytest.approx(48.13, abs=0.01)
    assert m.psnr(picture, picture) == m.PEAK
    blurred = ((picture[:-1].astype(int) + picture[1:]) // 2).astype(np.uint8)
    assert m.gradient_energy(blurred) < 0.7 * m.gradient_energy(picture)


def test_gradient_energy_of_a_part_ignores_the_rest() -> None:
    """A flat surrounding does not dilute the energy of the part, nor does noise far from it add any."""
    picture = np.full((32, 32, 3), 90, np.uint8)
    picture[8:16, 8:16] = RNG.integers(0, 255, (8, 8, 3))
    part = np.zeros((32, 32), bool)
    part[8:16, 8:16] = True
    alone = m.gradient_energy(picture, part)
    assert alone > 5 * m.gradient_energy(picture)
    picture[24:] = RNG.integers(0, 255, (8, 32, 3))
    assert m.gradient_energy(picture, part) == alone
    assert m.gradient_energy(picture, np.zeros((32, 32), bool)) == 0.0


def test_lab_is_cie_lab() -> None:
    """White, grey and the primaries have the values that tables give."""
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255], [119, 119, 119]], np.uint8)
    known = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [50.03, 0, 0]]
    np.testing.assert_allclose(m.lab(colours), known, atol=0.06)


def test_a_long_passage_ends_as_it_began() -> None:
    """The last minute has the first one's cues and plans, so that only drift can tell them apart."""
    said = clips.passage(5, "x", np.random.default_rng(0).random((500, HEARD)), np.zeros((500, len(MOUTH))))
    ended = quality_drift.ending_as_begun(said)
    for whole, part in ((ended.heard, said.heard), (ended.controls, said.controls), (ended.truth, said.truth)):
        np.testing.assert_array_equal(whole[:250], part[:250])
        np.testing.assert_array_equal(whole[250:], part[:250])


def test_a_drift_of_colour_is_found_with_its_error() -> None:
    """A slope of 0.05 a minute under slow noise is found within its stated error, and none is none."""
    seconds = np.arange(0, 600, 0.2)
    noise = np.convolve(np.random.default_rng(1).normal(0, 0.1, len(seconds) + 20), np.ones(21) / 21, "valid")
    for true in (0.05, 0.0):
        slope, error = m.slope_per_minute(true * seconds / 60 + noise, seconds)
        assert abs(slope - true) < 3 * error < 0.02
    with pytest.raises(ValueError, match="at least 20 s, got 2 blocks"):
        m.slope_per_minute(noise[:40], seconds[:40])


def test_freezes_are_runs_of_equal_frames() -> None:
    """Half a second and a frame of nothing is a freeze, one at the end, too; half a second is none."""
    moving = [9.0] * 5
    assert m.freezes(np.array([*moving, *[0.0] * 13, *moving, *[1.0] * 14])) == 2
    assert m.freezes(np.array([*moving, *[0.0] * 12, *moving])) == 0


def test_blinks_are_counted_once() -> None:
    """A blink that trembles at its bottom is one; half-closed lids are none."""
    lids = np.array([0, 0.5, 1, 0.6, 0.45, 0.9, 0.2, 0, 0.4, 0, 0.3, 0.9, 0.1])
    assert m.blink_moments(lids) == [1, 11]
    assert m.matched([1, 11], [2, 3, 30]) == 1
    assert m.matched([], [2]) == 0


def test_descriptors_know_the_character_and_not_its_pose() -> None:
    """Of drawn characters that talk, all are found nearest to themselves; shuffled pictures are not."""
    still, moved, own = [], [], []
    for i, seed in enumerate(range(12)):
        rows = lip_reader.poses(2, seed, wide=True)
        drawn = clips.draw(seed, 128, rows, background=False)
        still.append(m.descriptor(pictures.before_grey(drawn.still)))
        moved += [m.descriptor(pictures.before_grey(frame)) for frame in drawn.frames]
        own += [i] * len(rows)
    known, asked = np.stack(still), np.stack(moved)
    assert pictures.identity_numbers(known, asked, asked, np.array(own))["nearest_is_own"] == 1.0
    shuffled = pictures.identity_numbers(np.roll(known, 1, 0), asked, asked, np.array(own))
    assert shuffled["nearest_is_own"] == 0.0 and shuffled["characters_ever_mistaken"] == 12


def test_settled_keeps_a_margin() -> None:
    """Places next to what moves do not count as static."""
    mask = np.ones((20, 20), bool)
    mask[10, 10] = False
    inner = m.settled(mask, 2)
    assert not inner[10, 8:13].any() and inner[10, 7] and inner[0, 0]


@pytest.fixture(scope="module")
def reader() -> lip_reader.Reader:
    """Trained for seconds: it reads roughly, which is enough to see that it reads."""
    return lip_reader.train(lip_reader.Plan(characters=12, frames=16, steps=40, checked=4))


def test_the_reader_reads_characters_it_never_saw(reader: lip_reader.Reader) -> None:
    """Even after seconds of training, what it reads follows what is drawn, and its own error says so."""
    assert reader.error["lips_pcc"] > 0.5 and reader.error["lids_pcc"] > 0.7
    assert reader.error["frames"] == 60 and reader.error["closed_frames"] > 5


def test_the_reader_is_kept(reader: lip_reader.Reader, tmp_path: Path) -> None:
    """What is saved reads as before; another version is refused, and a reader of another plan is trained anew."""
    path = tmp_path / "reader.pt"
    lip_reader.save(reader, path)
    drawn = clips.draw(3, 64, np.stack([rest()] * 2))
    before, after = (r.read(list(drawn.frames), drawn.still) for r in (reader, lip_reader.load(path)))
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert lip_reader.ready(path, reader.plan).error == reader.error
    torch.save({"version": 0}, path)
    with pytest.raises(ValueError, match="version 0"):
        lip_reader.load(path)
    with pytest.raises(ValueError, match="no frames"):
        reader.read([], drawn.still)


def voices(count: int = 8, length: int = 50) -> Voices:
    """Clips of made-up speakers, with a closure every 12 frames."""
    truth = np.zeros((count * length, len(MOUTH)), np.float16)
    truth[:, 0] = 0.5 + 0.4 * np.sin(np.arange(count * length) / 2)
    truth[::12, 0], truth[::12, INDEX["press"]] = 0, 0.9
    heard = RNG.normal(0, 0.3, (count * length, HEARD)).astype(np.float16)
    heard[:, : len(MOUTH)] = truth
    return Voices(heard, truth, np.arange(count + 1) * length, tuple(f"speaker {i % 2}" for i in range(count)))


def test_only_speakers_whose_truth_is_trusted(tmp_path: Path) -> None:
    """Those are left out whose stops do not dip, and whoever was not examined; nobody left is an error."""
    results = tmp_path / "articulation.json"
    results.write_text(json.dumps({"truth": {"speaker 0": {"dips": 0.95}, "speaker 1": {"dips": 0.7}}}))
    assert clips.trusted_speakers(voices(), results) == ["speaker 0"]
    results.write_text(json.dumps({"truth": {}}))
    with pytest.raises(ValueError, match="none of 2 speakers"):
        clips.trusted_speakers(voices(), results)


def test_speech_is_of_the_speaker_and_as_long_as_asked() -> None:
    """A passage of one speaker holds that speaker's clips and pauses, and ends where it should."""
    silence = np.zeros((100, HEARD), np.float32)
    heard, truth = clips.spoken(voices(), silence, "speaker 0", 180, np.random.default_rng(0))
    assert heard.shape == (180, HEARD) and truth.shape == (180, len(MOUTH))
    assert len(m.closures(truth)) >= 8 and (heard == 0).all(1).any()


def test_clips_with_closures_come_first() -> None:
    """With a share of the clips, those are spoken that have the most closures a second."""
    source = voices(4, 50)
    source.truth[: 3 * 50, INDEX["press"]] = 0  # only the last clip, the second speaker's second, keeps its closures
    assert len(m.closures(source.clip(3)[1])) == 4
    silence = np.zeros((100, HEARD), np.float32)
    _, truth = clips.spoken(source, silence, "speaker 1", 50, np.random.default_rng(0), share=0.5)
    np.testing.assert_array_equal(truth, source.clip(3)[1])


def test_rig_columns_follow_what_is_drawn(reader: lip_reader.Reader) -> None:
    """The rig beside itself has no error; its lips follow the curves; a frozen picture's do not."""
    source, silence = voices(), np.zeros((100, HEARD), np.float32)
    said = clips.passage(5, "speaker 0", *clips.spoken(source, silence, "speaker 0", 60, np.random.default_rng(1)))
    drawn = clips.draw(said.seed, 64, said.controls)
    column, frozen = lips.Column(), lips.Column()
    column.add(said, list(drawn.frames), drawn, reader)
    frozen.add(said, [drawn.still] * len(said), drawn, reader)
    right, still = column.numbers(), frozen.numbers()
    assert right["energy_share"] == right["energy_share_mouth"] == 1.0
    assert right["psnr"] == m.PEAK and right["pcc_curves"] > 0.5 and right["closures_held_by_curves"] == 1.0
    assert still["pcc_curves"] == pytest.approx(0, abs=0.05) and still["psnr"] < 40
    loss = lips.against_teacher(frozen, column)
    assert loss["pcc_difference"] < -0.4 and loss["n"] == 60


def test_people_are_not_measured_without_their_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part says what is missing, and so does the page."""
    monkeypatch.delenv("LIPSTREAM_PEOPLE_MESH", raising=False)
    networks = painted_networks()
    painter = Reconstruction(networks)
    found = people.measure(painter, painter, tmp_path / "none.npz", tmp_path, 1, 4, 512, voices(),
                           np.zeros((9, HEARD)))  # fmt: skip
    assert "none.npz" in found["skipped"]
    assert {row.met for row in page.rows({"format": page.FORMAT, "people": found}) if "people" in row.what} == {None}
    assert found["skipped"] in page.page(made_up(True) | {"people": found}, [])


def made_up(good: bool) -> dict[str, Any]:
    """A result in which everything is reached, or everything is missed."""
    column = {
        "n": 5000, "pcc_truth": 0.86 if good else 0.7, "pcc_curves": 0.98 if good else 0.9, "pcc_truth_of_curves": 0.87,
        "mae_curves": 0.05, "closures": 300, "closures_held": 0.92 if good else 0.8, "closures_held_by_curves": 0.95,
        "falsely_closed": 0.02, "lag_truth_ms": 5.0 if good else 16.0, "lag_curves_ms": 0.0, "blinks": 40,
        "blinks_shown": 38, "blinks_invented": 1, "psnr": 29.0, "psnr_mouth": 28.0 if good else 24.0, "psnr_eyes": 25.0,
        "psnr_shut_lids": 28.0 if good else 24.0, "shut_lids": 60, "gradient_energy": 500.0,
        "gradient_energy_mouth": 900.0, "energy_share": 0.95 if good else 0.7,
        "energy_share_mouth": 0.92 if good else 0.7,
    }  # fmt: skip
    side = {
        "static_psnr_change": -0.1 if good else -0.4, "static_psnr_first_minute": 40.0, "static_psnr_last_minute": 39.9,
        "psnr_change": 0.1 if good else -0.5, "psnr_first_minute": 30.0, "psnr_last_minute": 30.1,
        "lab_slopes_per_minute": {"static_L": {"slope": -0.01 if good else -0.06, "standard_error": 0.002}},
        "lab_slope_worst": 0.01, "freezes": 0 if good else 1, "blinks_per_minute": 15.0 if good else 5.0,
    }  # fmt: skip
    onset = {"n": 30, "median_beyond_steady": 0.4 if good else 1.4, "within_one_frame": 0.95 if good else 0.5}
    idle = {"motion": 0.5, "flicker": 0.1, "life": 0.9, "blinks": 5.0 if good else 0.0, "blinks_drawn": 6.0,
            "freezes": 0.0, "mouth_open": 0.0}  # fmt: skip
    configurations = [
        {"engine": "OpenVINO 1", "precision": "bf16", "size": size, "references": count, "threads": 1, "n": 9,
         "processor_ms": {"p50": took if good else 2 * took}, "wall_ms": {"p50": took},
         "stages_ms": dict.fromkeys(speed.STAGES, 1.0)}
        for size, count, took in ((512, 1, 18.0), (512, 3, 25.0), (256, 1, 10.0))
    ]  # fmt: skip
    near = {"psnr": 32.0 if good else 30.0, "psnr_mouth": 25.0, "psnr_eyes": 27.0, "psnr_shut_lids": 26.0,
            "shut_lids": 8, "energy_share": 0.95, "energy_share_mouth": 0.93, "st_lpips": None}  # fmt: skip
    gain = 3.0 if good else 1.0
    far = near | {"psnr_mouth": 25.0 + gain, "psnr_shut_lids": 26.0 + gain, "energy_share": 0.95 if good else 0.8,
                  "energy_share_mouth": 0.93 if good else 0.8}  # fmt: skip
    if not good:
        far["psnr_shut_lids"] = 26.5
    person = {"pcc_curves": 0.95 if good else 0.9, "lag_curves_ms": 1.0, **near}
    return {
        "format": page.FORMAT,
        "hardware": {"cpu": "a", "cores": {"usable": 2}, "ram_gb": 8.0, "os": "b", "commit": "c"},
        "weights": {"preset": "nano", "sha256": "0123456789abcdef"},
        "lips": {
            "columns": {"rig": column, "teacher": column, "one step": column},
            "one step against teacher": {"n": 9, "pcc_difference": -0.02 if good else -0.04, "sharpness": 0.97
                                         if good else 0.9, "sharpness_whole": 0.99, "sharpness_mouth": 0.97},
            "reader": {"frames": 9, "characters": 2, "lips_pcc": 0.99, "lips_mae": 0.03, "closed_frames": 3,
                       "closed_called_closed": 1.0, "open_called_closed": 0.0, "blinks": 2, "blinks_found": 2,
                       "blinks_invented": 0},
            "speakers": {"somebody": {"rig": column, "one step": column}},
        },
        "drift": {"runs": [{"minutes": 10.0, "sides": {"one step": side}, "last_minute": {"one step": column},
                            "all_minutes": {"one step": column}}]},
        "onset": {"one step": {"truth": onset, "curves": onset}},
        "identity": {"n": 600, "characters": 100, "nearest_is_own": 0.995 if good else 0.98, "descriptor_on_rig": 1.0},
        "idle": {"n": 9, "sides": {"one step": idle, "rig": idle}},
        "autoencoder": {"n": 9, "characters": 2, "size": 512, "references": {"1": near, "3": far}, "still": near},
        "people": {"n": 9, "clips": 2, "size": 512, "columns": {"true frames": {"pcc_curves": 0.99, "lag_curves_ms": 0},
                                                                "one step": person}},
        "sizes": {"n": 2, "rows": [{"size": 256, **near}, {"size": 1024, **near}]},
        "speed": {"configurations": configurations, "memory_mb": {"process": 500.0}, "missing": None},
        "live": {"settings": {"runs": 1, "seconds": 60.0, "generator": "neural"}, "hardware": {"cpu": "a CPU"},
                 "configurations": [{"echo_cancellation": True, "targets": {"25 fps": good}, "median": {
                     "display": {"fps": 24.9 if good else 20.0},
                     "total_ms": dict.fromkeys(("p50", "p95", "p99"), 100.0 if good else 300.0)}}]},
    }  # fmt: skip


def test_the_table_says_what_is_missed() -> None:
    """Every promise is ok where it is kept, MISSED where it is not, and not measured where nothing was."""
    reached, missed, nothing = (page.rows(result) for result in (made_up(True), made_up(False), {}))
    assert len(reached) == len(missed) == len(nothing) == 35
    assert {line.met for line in nothing} == {None}
    no_lpips = [line.what for line in reached if line.met is not True]
    assert no_lpips == ["autoencoder alone, ST-LPIPS"]
    reported = "rendered people held out: mouth"
    assert all(line.met is False for line in missed if line.what not in (*no_lpips, reported))
    assert "MISSED" in page.table(missed)
    earlier = made_up(True) | {"format": 1}
    assert {row.met for row in page.rows(earlier) if not row.what.startswith("live")} == {None}


def test_a_short_run_does_not_pass_for_ten_minutes() -> None:
    """Without ten minutes nothing about them is called ok; without 100 characters identity is not."""
    result = made_up(True)
    result["drift"]["runs"][0]["minutes"] = 2.0
    result["identity"]["characters"] = 10
    told = {line.what: line.met for line in page.rows(result)}
    assert all(met is None for what, met in told.items() if what.startswith(("10 minutes", "identity")))


def test_the_page_holds_table_columns_and_strips() -> None:
    """All promises stand on the page, all columns side by side, what was missed by name, and the strips."""
    text = page.page(made_up(False), ["quality/plosive_1.jpg"])
    assert "**Missed: lips against the phones' ground truth (correlation);" in text
    assert "| rig | teacher | one step | 10 minutes | their last |" in text
    assert "![plosive](quality/plosive_1.jpg)" in text and "## Rendered people" in text and "| 1024² |" in text
    assert "| OpenVINO 1 | bf16 | 512² | 3 | 50.0 |" in text
    assert "All measured targets are met" in page.page(made_up(True), [])


def test_strips_stand_in_order() -> None:
    """A passage's strips stand together, the plosive first; those of the long run come last."""
    names = ["after_plosive_1", "blink_1", "mouth_1", "plosive_2", "plosive_1"]
    found = [path.stem for path in sorted((Path(f"{name}.jpg") for name in names), key=page.order)]
    assert found == ["plosive_1", "mouth_1", "blink_1", "plosive_2", "after_plosive_1"]


def test_what_other_weights_reached_is_forgotten(tmp_path: Path) -> None:
    """
    Parts measured with the same weights are kept, those of others, or of another format, never get into one table;
    variants that were compared
    with each other stay, and say with which weights, however often these change.
    """
    out = tmp_path / "quality.json"
    assert quality.kept(out, {"sha256": "a"}) == {}
    out.write_text(json.dumps({"weights": {"sha256": "a"}, "lips": {}}))
    assert quality.kept(out, {"sha256": "a"}) == {}
    out.write_text(json.dumps({"format": page.FORMAT, "weights": {"sha256": "a"}, "lips": {}, "ablations": {"n": 1}}))
    assert {"lips", "ablations"} <= set(quality.kept(out, {"sha256": "a"}))
    for other in "bc":
        left = quality.kept(out, {"sha256": other})
        assert left == {"ablations": {"n": 1, "of": "a"}}
        out.write_text(json.dumps({"format": page.FORMAT, "weights": {"sha256": other}, **left}))


def test_only_the_neural_generators_latency_is_told(tmp_path: Path) -> None:
    """Of a report of the rig's, or of none, nothing is taken."""
    report = tmp_path / "live.json"
    assert quality.live(report) == {}
    for generator, taken in (("rig", False), ("neural", True)):
        report.write_text(json.dumps({"settings": {"generator": generator}}))
        assert ("live" in quality.live(report)) == taken


def test_numbers_fit_json() -> None:
    """Whatever numpy made of it; what is no number is None."""
    assert quality.rounded({"a": np.float32(0.123456789), "b": [np.int64(3), float("nan")], "c": None}) == {
        "a": 0.12346,
        "b": [3, None],
        "c": None,
    }


@pytest.mark.usefixtures("denormals")
def test_everything_runs_and_nothing_is_glossed_over(
    reader: lip_reader.Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With weights that never learned, all parts are measured, the lips are MISSED, and the page is written."""
    networks = painted_networks()
    monkeypatch.setitem(PRESETS, "small", networks.config)
    save(tmp_path / "small.safetensors", networks.config, networks.autoencoder, networks.transformer)
    lip_reader.save(reader, tmp_path / "reader.pt")
    source = voices(12, 80)
    np.savez(tmp_path / "voices.npz", heard=source.heard, truth=source.truth, starts=source.starts,
             speakers=json.dumps(source.speakers))  # fmt: skip
    monkeypatch.setattr(lip_reader, "ready", lambda path: lip_reader.load(path))
    monkeypatch.setattr(quality, "trusted_speakers", lambda found: sorted(set(found.speakers)))
    out = tmp_path / "quality.json"
    paths = ["--weights", "small.safetensors", "--teacher", "small.safetensors", "--voices", "voices.npz", "--reader",
             "reader.pt"]  # fmt: skip
    named = [str(tmp_path / name) if name[0] != "-" else name for name in paths]
    code = quality.main(["--preset", "small", *named, "--teacher-steps", "2", "--quick", "--only",
                         "lips,onset,idle,identity,autoencoder,sizes,people,context", "--out", str(out),
                         "--strips", str(tmp_path / "quality")])  # fmt: skip
    assert code == 0
    result = json.loads(out.read_text())
    assert result["lips"]["columns"]["teacher"]["n"] > 0 and result["parts"]["idle"]["dtype"] in speed.DTYPES
    assert "MISSED" in capsys.readouterr().out
    assert quality.main(["--docs", "--out", str(out), "--page", str(tmp_path / "quality.md")]) == 0
    text = (tmp_path / "quality.md").read_text()
    assert "Context and sink of the shipped weights" in text and "| context 1 |" in text and "| 256² | 1024² |" in text
    assert "Missed: lips" in text and "![plosive](quality/plosive_1.jpg)" in text


@pytest.mark.usefixtures("denormals")
def test_missing_weights_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clear word and no JSON where there are no weights."""
    out = tmp_path / "quality.json"
    assert quality.main(["--weights", str(tmp_path / "none.safetensors"), "--out", str(out)]) == 1
    assert "no weights for the preset 'nano'" in capsys.readouterr().err and not out.exists()
    with pytest.raises(SystemExit):
        quality.main(["--only", "lisp"])
