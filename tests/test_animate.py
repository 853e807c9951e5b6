"""Timed phones and audio to motion."""

import numpy as np
import pytest

from streamer.base.constants import FPS, SAMPLE_RATE
from streamer.motion.articulation import PROSODY
from streamer.motion.controls import CONTROLS, EMOTIONS, INDEX, MOUTH
from streamer.motion.idle import IdleMotion
from streamer.training.data.coarticulation import closures, curves, frame_count, pitch, prosody, truth
from streamer.training.data.phones import TimedPhone


def said(text: str, seconds: float = 0.12, start: float = 0.4) -> list[TimedPhone]:
    """Phones of equal length between silences."""
    names = text.split()
    middle = [TimedPhone(n, start + i * seconds, start + (i + 1) * seconds) for i, n in enumerate(names)]
    end = start + len(names) * seconds
    return [TimedPhone("sil", 0, start), *middle, TimedPhone("sil", end, end + 0.6)]


def channel(mouth: np.ndarray, name: str) -> np.ndarray:
    return mouth[:, MOUTH.index(name)]


@pytest.mark.parametrize("lips", ["p", "b", "m"])
def test_lips_meet_on_a_sampled_frame_however_short_the_closure(lips):
    """A bilabial between open vowels closes the mouth on a frame within its time, wherever it falls between frames."""
    for length in (0.03, 0.05, 0.09):
        for offset in np.linspace(0, 1 / FPS, 9):
            a = 0.5 + float(offset)
            phones = [TimedPhone("aa", 0.2, a), TimedPhone(lips, a, a + length), TimedPhone("aa", a + length, 1.2)]
            mouth = curves(phones, 30)
            near = slice(int((a - 0.02) * FPS), int(np.ceil((a + length + 0.02) * FPS)) + 1)
            shut = channel(mouth, "open")[near] == 0
            assert shut.any(), (length, offset)
            assert channel(mouth, "press")[near][shut].min() > 0.5
            assert channel(mouth, "open")[7:11].min() > 0.4


def test_each_visible_class_shows():
    """f tucks the lip, th raises the tongue, s shows the teeth, w rounds, iy widens, and aa opens more than iy."""
    for phone, name in (("f", "tuck"), ("v", "tuck"), ("th", "tongue"), ("s", "teeth"), ("w", "round"), ("iy", "wide")):
        assert channel(curves(said(f"ah {phone} ah"), 40), name).max() > 0.55, phone
    assert channel(curves(said("t aa t"), 40), "open").max() > 2 * channel(curves(said("t iy t"), 40), "open").max()


def test_frame_k_shows_what_is_heard_at_sample_640_k():
    """The mouth is widest open on the frames whose time lies in the vowel."""
    mouth = curves([TimedPhone("s", 0.2, 0.6), TimedPhone("aa", 0.6, 0.8), TimedPhone("s", 0.8, 1.2)], 35)
    assert 0.6 <= channel(mouth, "open").argmax() / FPS <= 0.8


def test_neighbours_colour_a_phone():
    """An s before uw is rounder than one before iy, and silence closes the mouth."""
    before_uw, before_iy = curves(said("s uw"), 40), curves(said("s iy"), 40)
    frame = round(0.48 * FPS)
    assert channel(before_uw, "round")[frame] > channel(before_iy, "round")[frame] + 0.1
    assert channel(before_uw, "open")[[0, -1]].max() < 0.02


def test_a_louder_voice_opens_the_jaw_more():
    """Ten decibels more open wider, and still close for p."""
    phones = said("aa p aa")
    loud, quiet = (curves(phones, 40, np.full(40, db)) for db in (10.0, -10.0))
    assert channel(loud, "open").max() > channel(quiet, "open").max() + 0.15
    (closed,) = closures(phones)
    assert channel(loud, "open")[round((closed[0] + 0.04) * FPS)] == 0


def test_no_phones_leave_the_mouth_at_rest():
    """Nothing said is a closed mouth."""
    assert not curves([], 10).any()


def voice(hertz: float, seconds: float = 2.0) -> np.ndarray:
    """A pulse train at `hertz`, loud for the middle half of its time."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * hertz * t
    sound = sum(np.sin(k * phase) / k for k in range(1, 12)) * 0.1
    return (sound * ((t > seconds / 4) & (t < seconds * 3 / 4))).astype(np.float32)


@pytest.mark.parametrize("hertz", [90, 140, 220, 350])
def test_pitch_is_found_from_low_men_to_children(hertz):
    """The fundamental is within 3 %, without octave errors."""
    f0, _ = pitch(voice(hertz))
    assert np.median(f0[f0 > 0]) == pytest.approx(hertz, rel=0.03)


def test_prosody_is_of_the_voice():
    """Silence says nothing; speech has energy and voice while it sounds, and a beat at its stress."""
    assert np.abs(prosody(np.zeros(SAMPLE_RATE, np.float32))).max() < 1e-6
    audio = voice(140)
    audio[SAMPLE_RATE : SAMPLE_RATE + 3200] *= 3
    rows = prosody(audio)
    assert rows.shape == (frame_count(len(audio)), len(PROSODY))
    energy, voiced, beat = (rows[:, PROSODY.index(name)] for name in ("energy", "voiced", "beat"))
    assert energy[:10].max() < 0.05 < 0.5 < energy[16:34].min()
    assert voiced[16:34].min() > 0.8
    assert abs(int(beat.argmax()) - 27.5) <= 2 and beat.max() > 0.3


def test_truth_has_a_row_for_every_frame():
    """Mouth and prosody agree in length, also where the sound ends within a frame."""
    mouth, rows = truth(voice(120, 1.01), said("ah b ah"))
    assert len(mouth) == len(rows) == frame_count(int(1.01 * SAMPLE_RATE)) == 26


# Life


def lived(seed: int, seconds: float, speaking: bool, life: IdleMotion | None = None) -> np.ndarray:
    """Controls [T, C] of a life in silence, or one that is spoken with stress twice a second."""
    life = life or IdleMotion(seed)
    rows = []
    for k in range(int(seconds * FPS)):
        beat = float(np.exp(-0.5 * ((k % 13 - 6) / 1.6) ** 2))
        talk = np.array([0.5 + 0.5 * beat, 1, beat, -0.5 * beat, 0.5 * np.sin(k / 9)]) if speaking else np.zeros(5)
        mouth = np.array([beat, 0, 0, 0, 0, 0, 0]) if speaking else np.zeros(7)
        rows.append(life.step(mouth, talk))
    return np.array(rows)


def of(rows: np.ndarray, name: str) -> np.ndarray:
    return rows[:, INDEX[name]]


def test_the_same_seed_lives_the_same_life_and_another_does_not():
    """A life is determined by its seed and what it hears."""
    first, again, other = lived(3, 20, True), lived(3, 20, True), lived(4, 20, True)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_the_mouth_is_passed_on_as_it_is():
    """No control of life touches the mouth."""
    mouth = np.linspace(0, 0.6, 7, dtype=np.float32)
    np.testing.assert_array_equal(IdleMotion(0).step(mouth, np.zeros(5))[: len(MOUTH)], mouth)


@pytest.mark.parametrize("speaking", [False, True], ids=["silent", "speaking"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_blinks_come_as_often_as_in_people_and_shut_the_eyes(seed, speaking):
    """8 to 30 blinks a minute, each fully closed, none longer than 0.4 s."""
    lids = of(lived(seed, 180, speaking), "blink_left")
    shut = lids > 0.9
    blinks = int((shut[1:] & ~shut[:-1]).sum())
    assert 8 * 3 <= blinks <= 30 * 3
    longest = max(len(run) for run in "".join("x" if lid > 0 else " " for lid in lids).split())
    assert longest <= 0.8 * FPS
    assert lids.max() == 1


def test_it_never_jitters_and_never_leaves_its_range():
    """Head and body move smoothly, and all controls stay within what the rig draws."""
    rows = lived(5, 120, True)
    for name, most in (("yaw", 0.05), ("pitch", 0.06), ("roll", 0.04), ("lean", 0.06), ("left_raise", 0.2)):
        assert np.abs(np.diff(of(rows, name))).max() < most, name
    # Jitter would turn the head to and fro from frame to frame.
    velocity = np.diff(of(rows, "yaw"))
    assert np.mean(np.sign(velocity[1:]) != np.sign(velocity[:-1])) < 0.15
    for name, limit in (("yaw", 0.5), ("pitch", 0.35), ("roll", 0.35)):
        assert np.abs(of(rows, name)).max() <= limit
    bounded = [name for name in CONTROLS if name not in ("yaw", "pitch", "roll") and not name.endswith("_turn")]
    assert np.abs(rows[:, [INDEX[name] for name in bounded]]).max() <= 1


def test_silence_is_alive_and_keeps_its_hands_down():
    """In silence the head, the eyes, the chest and the hair move; the hands do not."""
    rows = lived(6, 60, False)
    for name, least in (("yaw", 0.02), ("pitch", 0.01), ("gaze_x", 0.05), ("breath", 0.2), ("sway_x", 0.01)):
        assert of(rows, name).std() > least, name
    assert of(rows, "left_raise").max() == of(rows, "right_raise").max() == 0


def test_speech_nods_raises_brows_and_gestures():
    """Stress moves the head and now and then a hand, which goes down again."""
    rows = lived(7, 120, True)
    raised = np.maximum(of(rows, "left_raise"), of(rows, "right_raise"))
    assert raised.max() > 0.5
    assert 0.02 < np.mean(raised > 0.3) < 0.6
    assert np.diff(of(rows, "pitch")).std() > 2 * np.diff(of(lived(7, 120, False), "pitch")).std()
    assert of(rows, "brow_left").max() > 0.2


def attending(seed: int, state: str, seconds: float = 60) -> np.ndarray:
    """Controls [T, C] of a silent life that attends, once it has turned to that."""
    life = IdleMotion(seed)
    life.set_attention(state)
    lived(seed, 1, False, life)
    return lived(seed, seconds, False, life)


def test_a_listener_looks_at_the_viewer_and_nods():
    """Head and eyes rest on the viewer, the brows are up, and now and then the head dips; it breathes and blinks on."""
    rows, idle = attending(11, "listening"), attending(11, "idle")
    for name, share in (("yaw", 0.4), ("roll", 0.4), ("gaze_x", 0.4)):
        assert of(rows, name).std() < share * of(idle, name).std(), name
    assert of(rows, "brow_left").mean() > 0.1
    dips = np.flatnonzero(np.diff((of(rows, "pitch") < of(rows, "pitch").max() - 0.09).astype(int)) == 1)
    assert 5 <= len(dips) <= 40
    for name in ("breath", "blink_left"):
        assert of(rows, name).std() > 0.9 * of(idle, name).std()


def test_a_pause_of_the_speaker_brings_a_nod():
    """At pauses a listener nods more often than not, soon, and not each time; one who does not listen never does."""

    def nods(state: str) -> list[bool]:
        seen = []
        for seed in range(60):
            life = IdleMotion(seed)
            life.set_attention(state)
            lived(seed, 1, False, life)
            before = of(lived(seed, 0.2, False, life), "pitch").min()
            life.nod()
            seen.append(bool(of(lived(seed, 0.5, False, life), "pitch").min() < before - 0.06))
        return seen

    assert 0.5 < np.mean(nods("listening")) < 0.97
    assert np.mean(nods("idle")) < 0.1


def test_one_who_thinks_looks_up_and_aside():
    """Eyes up and to a side, the head to it, one brow higher; lids fall less often, and slower; sides change."""
    rows, idle = attending(12, "thinking", 120), attending(12, "idle", 120)
    assert of(rows, "gaze_y").mean() > 0.3
    assert np.median(np.abs(of(rows, "gaze_x"))) > 0.25
    assert np.median(np.abs(of(rows, "roll"))) > 2 * np.median(np.abs(of(idle, "roll")))
    assert np.median(np.abs(of(rows, "brow_left") - of(rows, "brow_right"))) > 0.2
    side = np.sign(of(rows, "roll"))
    assert 0.1 < np.mean(side > 0) < 0.9

    def blinks(rows: np.ndarray) -> tuple[int, int]:
        shut = of(rows, "blink_left") > 0.5
        return int(np.sum(np.diff(shut.astype(int)) == 1)), int(shut.sum())

    (slow, slow_frames), (usual, usual_frames) = blinks(rows), blinks(idle)
    assert 0 < slow < 0.85 * usual
    assert slow_frames / slow > 1.2 * usual_frames / usual


@pytest.mark.parametrize("state", ["listening", "thinking"])
def test_attention_comes_and_goes_softly(state):
    """It is there within a second and gone a second after, with no step larger than those of a life without it."""
    life = IdleMotion(13)
    rows = [lived(13, 4, False, life)]
    for asked in (state, "idle", state, "idle"):
        life.set_attention(asked)
        rows.append(lived(13, 1.5, False, life))
    told = np.abs(np.diff(np.concatenate(rows), axis=0)).max(0)
    for name, most in (("yaw", 0.03), ("pitch", 0.06), ("roll", 0.03), ("brow_left", 0.12), ("smile", 0.06)):
        assert told[INDEX[name]] < most, name
    quiet = lived(13, 6, False, life)
    assert np.abs(of(quiet, "brow_left")).max() < 0.06


@pytest.mark.parametrize("state", ["listening", "thinking"])
def test_speech_is_spoken_as_ever_whatever_was_attended(state):
    """Who speaks neither stares aside nor holds still: after a second of speech it moves as it would without."""
    life, plain = IdleMotion(14), IdleMotion(14)
    life.set_attention(state)
    for each in (life, plain):
        lived(14, 3, False, each)
    rows, free = (lived(14, 20, True, each)[FPS:] for each in (life, plain))
    assert np.array_equal(rows[:, INDEX["open"]], free[:, INDEX["open"]])
    for name in ("yaw", "roll", "brow_left"):
        assert of(rows, name).std() > 0.4 * of(free, name).std(), name
    assert np.abs(of(rows, "gaze_y").mean() - of(free, "gaze_y").mean()) < 0.1


def test_attention_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="asleep"):
        IdleMotion(1).set_attention("asleep")


def test_hair_swings_after_the_head():
    """The sway of the hair answers the head's movement, not its position."""
    rows = lived(8, 120, True)
    velocity = np.gradient(of(rows, "yaw"))
    assert np.corrcoef(of(rows, "sway_x"), velocity)[0, 1] < -0.4


@pytest.mark.parametrize("name", EMOTIONS)
def test_emotions_come_and_go_smoothly(name):
    """An emotion is there within a second and gone a second after, without a jump."""
    life = IdleMotion(9)
    before = lived(9, 2, False, life)
    life.emotion(name, 1.0)
    during = lived(9, 2, False, life)
    life.emotion("neutral", 1.0)
    after = lived(9, 3, False, life)
    face = [INDEX[n] for n in ("smile", "brow_left", "brow_inner", "blush")]
    change = np.abs(during[-10:, face].mean(0) - before[-10:, face].mean(0)).max()
    assert change > 0.4 if name != "neutral" else change < 0.2
    assert np.abs(after[-10:, face].mean(0) - before[-10:, face].mean(0)).max() < 0.2
    joined = np.concatenate([before, during, after])[:, face]
    assert np.abs(np.diff(joined, axis=0)).max() < 0.12


@pytest.mark.parametrize(("name", "strength"), [("bored", 1.0), ("happy", 1.5), ("happy", -0.1), ("sad", float("nan"))])
def test_an_emotion_that_does_not_exist_is_refused(name, strength):
    """A wrong name or strength is named in the error and changes nothing."""
    with pytest.raises(ValueError, match=name if name == "bored" else "0 to 1"):
        IdleMotion(0).emotion(name, strength)
