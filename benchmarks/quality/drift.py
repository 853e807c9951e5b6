"""Long sessions: does the picture drift, freeze, or stop blinking? And silence: does the character stay alive?

Static pixels are those that never change in the rig's frames of the whole passage, at least three pixels from any that
do: mostly background, which live sessions copy. There, frames should equal the picture. What the networks draw is
compared with the rig's frame at the same moment. The last minute repeats the speech and motion of the
first, because a calmer one would look like an improvement and a livelier one like a loss. Colour is also compared with
the rig's whole frame at the same moment, so that gestures do not count as colour drift.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.quality.clips import Drawn, Passage, begin, cue, frame_size, given, over, paint, passage, quiet
from benchmarks.quality.lip_reader import SHUT, Reader, canonical, ground_truth
from benchmarks.quality.lips import Column, Strip, shut_lids, strips
from benchmarks.quality.measures import (
    PEAK,
    blink_moments,
    freezes,
    lab,
    matched,
    pcc,
    psnr,
    settled,
    slope_per_minute,
)
from streamer.base.alpha import premultiplied
from streamer.base.constants import FPS
from streamer.model.runtime.graph_cpu import GraphFrameRenderer
from streamer.motion.controls import rest
from streamer.studio.character import Character
from streamer.studio.rig import Rig

_MINUTE = 60 * FPS
_EVERY = 5
"""Interval, in frames, at which colours and the rig's moving pixels are sampled."""
_CHUNK = 250
_NOTHING = np.zeros((0, 0, 0, 4), np.uint8)


class Shown:
    """The rig's frames as a live session shows them: cut out, over the plate."""

    def __init__(self, rig: Rig, plate: np.ndarray) -> None:
        """`rig`: without background."""
        self._rig, self._plate = rig, plate

    def still(self) -> np.ndarray:
        """[S, S, 4] uint8: the character at rest. Only before anything moved."""
        return over(self._plate, premultiplied(self._rig.draw(rest())))

    def frame(self, controls: np.ndarray) -> np.ndarray:
        """[S, S, 4] uint8."""
        return over(self._plate, premultiplied(self._rig.draw(controls)))


def static_places(seed: int, plate: np.ndarray, controls: np.ndarray, every: int = _EVERY) -> np.ndarray:
    """[S, S] bool: pixels that differ from the picture at rest by no more than rounding in all frames of controls [T,
    C].

    Raises ValueError if there are none.
    """
    with Rig(Character.from_seed(seed), len(plate), background=False) as rig:
        shown = Shown(rig, plate)
        still = shown.still().astype(np.int16)
        same = np.ones(still.shape[:2], bool)
        for k, row in enumerate(controls):
            rig.advance(row)
            if k % every == 0:
                same &= np.abs(shown.frame(row).astype(np.int16) - still).max(-1) <= 1
    same = settled(same)
    if not same.any():
        raise ValueError(f"no pixel stays still in the rig's {len(controls)} frames: drift cannot be measured")
    return same


def ending_as_begun(said: Passage) -> Passage:
    """The passage with its last minute, or half if that is shorter, replaced by the first."""
    minute = min(_MINUTE, len(said) // 2)

    def repeated(each: np.ndarray) -> np.ndarray:
        return np.concatenate([each[:-minute], each[:minute]])

    return replace(said, heard=repeated(said.heard), truth=repeated(said.truth), controls=repeated(said.controls))


@dataclass
class Watched:
    """Measurements of one column's frames over the whole passage."""

    static_error: list[float]  # mean squared error against the picture at static pixels, per frame
    change: list[float]  # largest change of any pixel from the previous frame
    lips: list[np.ndarray]
    lids: list[np.ndarray]
    static_lab: list[np.ndarray]  # [3], every `_EVERY` frames
    beside_rig: list[np.ndarray]  # [3] mean Lab of the whole frame minus the rig's
    to_rig: list[float]  # PSNR of the whole frame against the rig's, every `_EVERY` frames


def _decibels(errors: np.ndarray) -> float:
    error = float(np.mean(errors))
    return PEAK if error <= 255**2 / 10 ** (PEAK / 10) else float(10 * np.log10(255**2 / error))


def _numbers(seen: Watched, said: Passage) -> dict[str, Any]:
    errors = np.array(seen.static_error)
    frames = len(errors)
    minute = min(_MINUTE, frames // 2)
    first, last = _decibels(errors[:minute]), _decibels(errors[-minute:])
    seconds = np.arange(0, frames, _EVERY) / FPS
    tenth = minute // _EVERY
    begun, ended = float(np.mean(seen.to_rig[:tenth])), float(np.mean(seen.to_rig[-tenth:]))
    slopes = {}
    for name, values in (("static", np.stack(seen.static_lab)), ("beside_rig", np.stack(seen.beside_rig))):
        for i, channel in enumerate("Lab"):
            slope, error = slope_per_minute(values[:, i], seconds)
            slopes[f"{name}_{channel}"] = {"slope": slope, "standard_error": error}
    drawn = blink_moments(ground_truth(said.controls)["lids"], SHUT)
    found = blink_moments(np.concatenate(seen.lids), SHUT)
    return {
        "n": frames,
        "static_psnr_first_minute": first,
        "static_psnr_last_minute": last,
        "static_psnr_change": last - first,
        "psnr_first_minute": begun,
        "psnr_last_minute": ended,
        "psnr_change": ended - begun,
        "lab_slopes_per_minute": slopes,
        "lab_slope_worst": max(abs(each["slope"]) for each in slopes.values()),
        "freezes": freezes(np.array(seen.change[1:])),
        "blinks_per_minute": len(found) / (frames / _MINUTE),
        "blinks_drawn_per_minute": len(drawn) / (frames / _MINUTE),
        "blinks_matched": matched(found, drawn),
        "blinks_drawn": len(drawn),
    }


def drift(
    renderer: GraphFrameRenderer, reader: Reader, said: Passage, strip: Strip | None = None, number: int = 1
) -> dict[str, Any]:
    """Draws one character through `said`, whose last minute repeats the first, without a break.

    Returns numbers of rig and generator, and the columns of `lips.measure` over the last minute and over everything.
    Raises ValueError for less than 20 s.
    """
    if len(said) < 20 * FPS:
        raise ValueError(f"drift needs at least 20 s, got {len(said) / FPS:.1f} s")
    said = ending_as_begun(said)
    sides = {name: Watched([], [], [], [], [], [], []) for name in ("rig", "one step")}
    late = max(len(said) - _MINUTE, len(said) // 2)
    columns = {name: Column() for name in sides}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in sides}
    size = frame_size(renderer.config)
    portrait = given(said.seed, size)
    assert portrait.plate is not None
    static = static_places(said.seed, portrait.plate, said.controls)
    shut = shut_lids(said.controls)
    with Rig(Character.from_seed(said.seed), size, background=False) as rig:
        shown = Shown(rig, portrait.plate)
        still = shown.still()
        stream = begin(renderer, portrait, size, seed=7)
        before: dict[str, np.ndarray] = {}
        chunk: dict[str, list[np.ndarray]] = {name: [] for name in sides}
        for k in range(len(said)):
            rig.advance(said.controls[k])
            image, truth = rig.draw_with_truth(said.controls[k])
            drawn = over(portrait.plate, premultiplied(image))
            now = {"rig": drawn, "one step": paint(renderer, stream, cue(said.controls[k], said.heard[k]))}
            sampled = k % _EVERY == 0
            colour = {name: lab(frame[..., :3]) for name, frame in now.items()} if sampled else None
            for name, frame in now.items():
                seen = sides[name]
                difference = frame[static].astype(np.float32) - still[static]
                seen.static_error.append(float(np.mean(difference[:, :3] ** 2)))
                last = before.get(name)
                seen.change.append(float(np.abs(frame.astype(np.int16) - last).max()) if last is not None else np.inf)
                before[name] = frame.astype(np.int16)
                if colour is not None:
                    seen.static_lab.append(colour[name][static].mean(0))
                    seen.beside_rig.append((colour[name] - colour["rig"]).mean((0, 1)))
                    seen.to_rig.append(psnr(frame[..., :3], drawn[..., :3]))
                chunk[name].append(canonical(frame).copy())
                if k >= late and (k - late) % _EVERY == 0:  # compare the last minute with the rig's frames
                    one = Drawn(portrait, still, drawn[None], _NOTHING, [truth.mouth_box], [truth.eye_boxes])
                    columns[name].fidelity.add(frame, one, 0, shut[k])
                if strip and k >= len(said) - 20 * FPS:
                    kept[name].append(frame)
            if len(chunk["rig"]) == _CHUNK or k == len(said) - 1:
                for name, frames in chunk.items():
                    read = reader.read(frames, still)
                    sides[name].lips.append(read["lips"])
                    sides[name].lids.append(read["lids"])
                    frames.clear()
    end = Passage(said.seed, said.speaker, said.heard[late:], said.truth[late:], said.controls[late:])
    for name, column in columns.items():
        column.passages.append(end)
        column.lips.append(np.concatenate(sides[name].lips)[late:])
        column.lids.append(np.concatenate(sides[name].lids)[late:])
    whole = {
        name: Column([said], [np.concatenate(seen.lips)], [np.concatenate(seen.lids)]) for name, seen in sides.items()
    }
    if strip:
        tail = Passage(said.seed, said.speaker, *(x[-20 * FPS :] for x in (said.heard, said.truth, said.controls)))

        def after(name: str, drawn: np.ndarray, frames: np.ndarray) -> None:
            strip(f"after_{name}", drawn, frames)

        strips(tail, np.stack(kept["rig"]), np.stack(kept["one step"]), after, number)
    return {
        "seed": said.seed,
        "minutes": len(said) / _MINUTE,
        "static_share": float(static.mean()),
        "sides": {name: _numbers(seen, said) for name, seen in sides.items()},
        "last_minute": {name: column.numbers() for name, column in columns.items()},
        "all_minutes": {name: column.numbers() for name, column in whole.items()},
    }


def idle(
    renderer: GraphFrameRenderer,
    reader: Reader,
    seeds: list[int],
    silence: np.ndarray,
    seconds: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Measures characters in silence.

    `motion` is the mean absolute difference of neighbouring frames, in levels, at pixels where the rig moves, and
    `flicker` the same where it never does (ideally 0). `life` is the correlation between the generator's and the rig's
    distance from the picture at rest; flicker does not increase it.
    """
    rows: dict[str, list[dict[str, float]]] = {"rig": [], "one step": []}
    for i, seed in enumerate(seeds):
        heard, truth = quiet(silence, int(seconds * FPS), rng)
        said = passage(seed, "nobody", heard, truth)
        size = frame_size(renderer.config)
        portrait = given(seed, size)
        assert portrait.plate is not None
        static = static_places(seed, portrait.plate, said.controls)
        stream = begin(renderer, portrait, size, seed=200 + i)
        frames: dict[str, list[np.ndarray]] = {"rig": [], "one step": []}
        with Rig(Character.from_seed(seed), size, background=False) as rig:
            shown = Shown(rig, portrait.plate)
            still = shown.still()
            for controls, now in zip(said.controls, said.heard, strict=True):
                rig.advance(controls)
                frames["rig"].append(shown.frame(controls)[..., :3])
                frames["one step"].append(paint(renderer, stream, cue(controls, now))[..., :3])
        far = {}
        drawn = blink_moments(ground_truth(said.controls)["lids"], SHUT)
        for name, each in frames.items():
            # Frame by frame: all of them as int16 would take gigabytes.
            apart = [np.abs(a.astype(np.int16) - b) for a, b in zip(each[1:], each, strict=False)]
            moving = np.mean([float(change[~static].mean()) for change in apart])
            flicker = np.mean([float(change[static].mean()) for change in apart])
            largest = np.array([change.max() for change in apart])
            far[name] = np.array([np.abs(frame.astype(np.int16) - still[..., :3]).mean() for frame in each])
            read = reader.read(each, still)
            found = blink_moments(read["lids"], SHUT)
            rows[name].append({
                "motion": float(moving), "flicker": float(flicker),
                "life": pcc([(far[name], far["rig"])]), "blinks": len(found),
                "blinks_drawn": len(drawn), "freezes": freezes(largest),
                "mouth_open": float(np.mean(read["lips"] > 0.2)),
            })  # fmt: skip
    return {
        "n": int(len(seeds) * seconds * FPS),
        "characters": len(seeds),
        "seconds": seconds,
        "sides": {
            name: {key: float(np.mean([row[key] for row in side])) for key in side[0]} for name, side in rows.items()
        },
    }
