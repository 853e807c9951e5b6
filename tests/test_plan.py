"""The motion plan that a user gives: what may be asked, how it comes and goes, and that it reaches the picture."""

import asyncio
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lipstream_client import Client, ControlFailed
from peers import SAMPLE, Slate, Witness

from streamer.audio.framing import steps_of
from streamer.avatar.avatar import Avatar
from streamer.avatar.characters import Characters
from streamer.base.constants import FPS, SAMPLE_RATE
from streamer.cli import render
from streamer.cli.render import draw_frames, read_script
from streamer.motion.articulation import Loudness
from streamer.motion.controls import CONTROLS, HIGHEST, INDEX, LOWEST, MOUTH, controls, rest
from streamer.motion.idle import IdleMotion
from streamer.motion.plan import PLANNED, RANGES, BadPlan, MotionCommand, Plan


def run(plan: Plan, own: np.ndarray, first: int, frames: int) -> np.ndarray:
    """[frames, C]: the plan applied to the same own [C] for a while."""
    return np.stack([plan.apply(own, k) for k in range(first, first + frames)])


@cache
def idle_life() -> np.ndarray:
    """[90, C]: what a character does in silence."""
    life = IdleMotion(1)
    return np.stack([life.step(np.zeros(len(MOUTH)), np.zeros(5)) for _ in range(90)])


class TestMove:
    def test_covers_all_but_the_mouth(self) -> None:
        """Every control that is not the mouth's can be planned, within what the rig can draw."""
        assert set(RANGES) == set(PLANNED) == set(CONTROLS) - set(MOUTH)
        for name, (low, high) in RANGES.items():
            assert LOWEST[INDEX[name]] <= low < high <= HIGHEST[INDEX[name]], name
            assert (low == 0) == (LOWEST[INDEX[name]] == 0), name

    @pytest.mark.parametrize("name", PLANNED)
    def test_takes_the_ends_of_each_range(self, name: str) -> None:
        """Both ends are allowed, and what lies beyond is refused with the name, the number and the range."""
        low, high = RANGES[name]
        MotionCommand({name: low}), MotionCommand({name: high}), MotionCommand({name: None})
        for value in (low - 0.01, high + 0.01):
            with pytest.raises(BadPlan, match=rf"'{name}' is {value}.* from {low:g} to {high:g}"):
                MotionCommand({name: value})

    @pytest.mark.parametrize(
        ("values", "options", "says"),
        [
            ({"jaw": 0.1}, {}, "'jaw' is none of the 31 controls"),
            ({"open": 0.1}, {}, "'open' cannot be planned: the mouth follows the voice"),
            ({"yaw": "0.1"}, {}, "'0.1'"),
            ({"yaw": True}, {}, "True"),
            ({"yaw": math.nan}, {}, "nan"),
            ({"yaw": -math.inf}, {}, "-inf"),
            ({"yaw": 10**400}, {}, "'yaw' is 1000"),
            ({}, {}, "at least one control"),
            (None, {}, "object"),
            ([0.1], {}, "object"),
            ({"yaw": 0.1}, {"mode": "multiply"}, "'multiply': must be add or replace"),
            ({"yaw": 0.1}, {"mode": None}, "must be add or replace"),
            ({"yaw": 0.1}, {"hold": 0}, "'hold' is 0"),
            ({"yaw": 0.1}, {"hold": 10.5}, "'hold' is 10.5.*at most 10"),
            ({"yaw": 0.1}, {"hold": math.nan}, "'hold' is nan"),
            ({"yaw": 0.1}, {"hold": "1"}, "'hold' is '1'"),
        ],
    )
    def test_says_what_is_wrong(self, values: Any, options: Any, says: str) -> None:
        """What no plan can hold is a BadPlan whose short text names the trouble and its number."""
        with pytest.raises(BadPlan, match=says) as caught:
            MotionCommand(values, **options)
        assert len(str(caught.value)) < 250


class TestPlan:
    def test_does_nothing_unless_asked(self) -> None:
        """Without a move the controls pass through to the bit."""
        plan, life = Plan(), IdleMotion(5)
        for k in range(20):
            own = life.step(np.zeros(len(MOUTH)), np.zeros(5))
            assert plan.apply(own, k) is own

    def test_comes_and_goes_within_a_fifth_of_a_second(self) -> None:
        """A value is there 0.2 s after it is asked, stays for its hold, and is gone 0.2 s after it."""
        plan = Plan()
        plan.ask(MotionCommand({"pitch": 0.3}, hold=1.0))
        pitch = run(plan, rest(), 100, 2 * FPS)[:, INDEX["pitch"]]
        assert np.abs(pitch[5:25] - 0.3).max() < 0.02 * 0.3 + 1e-6
        assert np.abs(pitch[30:]).max() < 0.02 * 0.3
        assert (pitch[:25] <= 0.3 + 1e-6).all() and (pitch >= -1e-6).all(), "no overshoot"
        assert np.abs(np.diff(pitch, prepend=0)).max() < 0.4 * 0.3, "no jump"

    @pytest.mark.parametrize("mode", ["add", "replace"])
    def test_adds_or_replaces(self, mode: str) -> None:
        """`add` moves by the value, `replace` to it, whatever the control does by itself meanwhile."""
        plan = Plan()
        plan.ask(MotionCommand({"yaw": 0.2}, mode, hold=2.0))
        for k in range(40):
            own = controls(yaw=0.2 * math.sin(k / 5))
            yaw = float(plan.apply(own, k)[INDEX["yaw"]])
            if k >= 8:
                assert yaw == pytest.approx(0.2 + (own[INDEX["yaw"]] if mode == "add" else 0), abs=0.002)

    def test_stays_within_the_range(self) -> None:
        """An offset on a control that is already far out takes it to the range's end, and the mouth is left alone."""
        plan, own = Plan(), controls(yaw=0.4, blink_left=0.8, open=0.7)
        plan.ask(MotionCommand({"yaw": 0.5, "blink_left": 1.0}))
        out = run(plan, own, 0, 15)[-1]
        assert out[INDEX["yaw"]] == pytest.approx(0.5)
        assert out[INDEX["blink_left"]] == 1
        assert out[INDEX["open"]] == own[INDEX["open"]]
        assert own[INDEX["yaw"]] == pytest.approx(0.4), "what was given is not changed"

    def test_a_lost_connection_freezes_no_pose(self) -> None:
        """Asked again and again a value stays for ever; after the last time it lapses, and not a trace is left."""
        plan = Plan()
        for k in range(100):
            if k % 20 == 0:
                plan.ask(MotionCommand({"roll": -0.2}, hold=1.0))
            out = plan.apply(rest(), k)
            assert k < 6 or out[INDEX["roll"]] < -0.19
        later = run(plan, rest(), 100, 10 * FPS)
        assert later[3][INDEX["roll"]] < -0.19
        assert np.abs(later[15:, INDEX["roll"]]).max() < 0.001
        own = rest()
        assert plan.apply(own, 1000) is own

    def test_each_control_has_its_own_lifetime(self) -> None:
        """A move touches only what it names; None lets go at once."""
        plan = Plan()
        plan.ask(MotionCommand({"yaw": 0.3, "smile": 0.8}, hold=5.0))
        run(plan, rest(), 0, 10)
        plan.ask(MotionCommand({"yaw": None, "roll": None}))
        out = run(plan, rest(), 10, 10)[-1]
        assert out[INDEX["yaw"]] == pytest.approx(0, abs=0.003)
        assert out[INDEX["smile"]] == pytest.approx(0.8, abs=1e-3)
        assert out[INDEX["roll"]] == 0, "what was never held is not moved"

    def test_moves_between_two_frames_are_all_heard(self) -> None:
        """The newest wins for each control, in the order in which they were asked."""
        plan = Plan()
        for move in ({"yaw": 0.3}, {"pitch": 0.2}, {"yaw": -0.1}):
            plan.ask(MotionCommand(move))
        out = run(plan, rest(), 0, 10)[-1]
        assert out[[INDEX["yaw"], INDEX["pitch"]]] == pytest.approx([-0.1, 0.2], abs=0.002)

    def test_left_out_frames_take_no_longer(self) -> None:
        """Where the generator skips frames, a plan is as far along at the next one as if it had seen them all."""
        whole, holes = Plan(), Plan()
        for plan in (whole, holes):
            plan.apply(rest(), 0)
            plan.ask(MotionCommand({"yaw": 0.4, "gaze_x": -0.5}, hold=0.6))
        seen = run(whole, rest(), 1, 40)
        both = [INDEX["yaw"], INDEX["gaze_x"]]
        for k in (1, 2, 6, 7, 12, 22, 40):
            np.testing.assert_allclose(holes.apply(rest(), k)[both], seen[k - 1, both], atol=0.003)

    def test_time_goes_forward(self) -> None:
        """A frame that is not after the last one is an error that names both."""
        plan = Plan()
        plan.apply(rest(), 7)
        with pytest.raises(ValueError, match="frame 7 comes after frame 7"):
            plan.apply(rest(), 7)

    def test_hair_lags_behind_a_planned_head(self) -> None:
        """The hair swings with a head turned by plan as with one that turns itself: back first, then to rest."""
        plan = Plan()
        plan.ask(MotionCommand({"yaw": 0.1}, hold=5.0))
        sway = run(plan, rest(), 0, 5 * FPS)[:, INDEX["sway_x"]]
        assert sway[:4].min() < -0.2
        assert sway.max() > 0.1
        assert np.abs(sway[-25:]).max() < 0.02

    @settings(deadline=None)  # on a busy machine one example may take long
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 60),
                st.dictionaries(st.sampled_from(PLANNED), st.none() | st.floats(-0.3, 0.3), min_size=1, max_size=5),
                st.sampled_from(("add", "replace")),
                st.floats(0.01, 2.0),
            ),
            max_size=12,
        )
    )
    def test_whatever_is_asked_nothing_jumps(self, moves: list[tuple[int, dict[str, Any], str, float]]) -> None:
        """Whatever the moves, each control stays finite, in its range, and within 40 % of it from frame to frame."""
        plan = Plan()
        low = np.array([RANGES[name][0] for name in PLANNED])
        high = np.array([RANGES[name][1] for name in PLANNED])
        index = [INDEX[name] for name in PLANNED if not name.startswith("sway")]
        span = np.array([RANGES[CONTROLS[i]][1] - RANGES[CONTROLS[i]][0] for i in index])
        own_before = out_before = None
        for k, own in enumerate(idle_life()):
            for at, values, mode, hold in moves:
                if at == k:
                    inside = {n: v if v is None else max(v, RANGES[n][0]) for n, v in values.items()}
                    plan.ask(MotionCommand(inside, mode, hold))
            out = plan.apply(own, k)
            planned = out[[INDEX[name] for name in PLANNED]]
            assert np.isfinite(out).all()
            assert (planned >= low - 1e-6).all() and (planned <= high + 1e-6).all()
            if out_before is not None:
                change = np.abs(out - out_before)[index] - np.abs(own - own_before)[index]
                assert (change <= 0.4 * span).all()
            own_before, out_before = own, out


def test_an_avatar_moves_as_it_is_told() -> None:
    """A move reaches the controls with the next step, on top of the avatar's own life; the mouth stays the voice's."""
    t = np.arange(32_000) / 16_000
    voice = (0.3 * np.sin(2 * np.pi * 200 * t) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))).astype(np.float32)
    free, told = (Avatar(Loudness(), Slate(128, []), IdleMotion(3)) for _ in range(2))
    difference = []
    for step in steps_of(voice, Loudness().lookahead):
        if step.frame == 10:
            told.move(MotionCommand({"gaze_x": 0.3, "left_raise": 0.8}, hold=1.0))
        difference.append(told.hear(step)[0] - free.hear(step)[0])
    moved = np.stack(difference)
    assert not moved[:10].any()
    assert moved[10, INDEX["left_raise"]] > 0.1
    assert moved[20, INDEX["left_raise"]] == pytest.approx(0.8, abs=0.01)
    assert moved[20, INDEX["gaze_x"]] == pytest.approx(0.3, abs=0.01)
    assert not moved[:, [INDEX[name] for name in MOUTH]].any()
    assert np.abs(moved[-2:]).max() < 0.01


@pytest.mark.usefixtures("any_load")
async def test_a_client_moves_a_live_character(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client asks for is drawn within a few frames, and ends by itself; what cannot be asked is answered so."""
    witness = Witness()
    monkeypatch.setattr(server.state, "generator", witness)
    async with Client(server.url) as client, asyncio.timeout(20):
        ranges = (await client.config())["plan"]
        assert {name: tuple(pair) for name, pair in ranges.items()} == dict(RANGES)
        async with client.session() as session:
            first = await anext(session.frames())
            frame = await session.move({"left_raise": 0.9, "roll": -0.3}, "replace", hold=0.6)
            assert frame >= first.k
            while abs(witness.last("left_raise") - 0.9) > 0.01:
                await anext(session.frames())
            assert witness.last("roll") == pytest.approx(-0.3, abs=0.02)
            with pytest.raises(ControlFailed, match=r"'yaw' is 2: must be a number from -0.5 to 0.5"):
                await session.move({"yaw": 2, "shrug": 1})
            while witness.last("left_raise") > 0.01:
                await anext(session.frames())
            assert max(float(seen[INDEX["shrug"]]) for seen in witness.seen) < 0.1, "nothing of a bad message is done"


class TestScript:
    """`lipstream render --plan`."""

    def write(self, folder: Path, *lines: str) -> Path:
        path = folder / "plan.jsonl"
        path.write_text("\n".join(lines))
        return path

    def test_is_played_at_its_times(self, tmp_path: Path) -> None:
        """Each line acts from the first frame that is not before its time, whatever the order of the lines."""
        path = self.write(
            tmp_path,
            '{"t": 0.5, "type": "plan", "values": {"right_raise": 0.7}, "hold": 0.4}',
            "",
            '{"t": 0, "type": "emotion", "name": "shy"}',
        )
        script, witness = read_script(path), Witness()
        assert [t for t, _ in script] == [0, 0.5]
        entry, silence = Characters().get("13"), np.zeros(2 * SAMPLE_RATE, np.float32)
        frames = list(draw_frames(silence, entry, 128, True, Loudness(), generator=witness, script=script))
        raised = np.stack(witness.seen)[:, INDEX["right_raise"]]
        assert len(frames) == 50
        assert not raised[:13].any(), "0.5 s lies between frames 12 and 13"
        assert raised[13] > 0.1
        assert raised[20] == pytest.approx(0.7, abs=0.01)
        assert raised[35] < 0.01
        assert witness.seen[25][INDEX["blush"]] > 0.5

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ('{"t": 1, "type": "plan", "values": {"yaw": 9}}', "line 2: 'yaw' is 9"),
            ('{"t": 1, "type": "interrupt"}', "line 2: only plan and emotion"),
            ('{"type": "plan", "values": {"yaw": 0}}', "line 2: 't' is None"),
            ('{"t": -1, "type": "plan", "values": {"yaw": 0}}', "line 2: 't' is -1"),
            ('{"t": 1e999, "type": "plan", "values": {"yaw": 0}}', "line 2: 't' is inf"),
            ("yaw", "line 2: not JSON"),
        ],
    )
    def test_names_the_line_that_is_wrong(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, says: str
    ) -> None:
        """A bad line ends the command with its number and the reason, and no video is written."""
        path = self.write(tmp_path, '{"t": 0, "type": "plan", "values": {"yaw": 0}}', line)
        assert render.main([str(SAMPLE), str(tmp_path / "out.mp4"), "--plan", str(path)]) == 1
        assert says in capsys.readouterr().err
        assert [p.name for p in tmp_path.iterdir()] == ["plan.jsonl"]

    def test_must_be_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A file that is not there, or is no text, is named."""
        (tmp_path / "noise").write_bytes(b"\xff\xfe\x00\x80")
        for name in ("none.jsonl", "noise"):
            assert render.main([str(SAMPLE), str(tmp_path / "out.mp4"), "--plan", str(tmp_path / name)]) == 1
            assert name in capsys.readouterr().err
