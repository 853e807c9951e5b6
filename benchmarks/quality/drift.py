"""Long sessions: does the picture drift, freeze, or stop blinking? And silence: does the character stay alive?

Static pixels are those that never change in the rig's frames of the whole passage, at least three pixels from any that
do: mostly background. There, frames should equal the picture. The last minute repeats the speech and motion of the
first, because a calmer one would look like an improvement and a livelier one like a loss. Colour is also compared with
the rig's whole frame at the same moment, so that gestures do not count as colour drift.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.quality.clips import Passage, begin, cue, cut, paint, passage, portrait, quiet
from benchmarks.quality.lip_reader import SHUT, Reader, ground_truth
from benchmarks.quality.lips import Column, Strip, strips
from benchmarks.quality.measures import (
    PEAK,
    blink_moments,
    freezes,
    gradient_energy,
    lab,
    matched,
    pcc,
    psnr,
    settled,
    slope_per_minute,
)
from streamer.base.alpha import premultiplied
from streamer.base.constants import FPS
from streamer.model.runtime.torch_cpu import FrameRenderer
from streamer.studio.character import Character
from streamer.studio.rig import Rig

_MINUTE = 60 * FPS
_EVERY = 5
"""Interval, in frames, at which colours and the rig's moving pixels are sampled."""
_CHUNK = 250


def static_places(rig: Rig, controls: np.ndarray, every: int = _EVERY) -> np.ndarray:
    """[S, S] bool: pixels that differ from the picture at rest by no more than rounding in all frames of controls [T,
    C].

    Raises ValueError if there are none.
    """
    still = portrait(rig).picture.astype(np.int16)
    same = np.ones(still.shape[:2], bool)
    for row in controls[::every]:
        same &= np.abs(premultiplied(rig.draw(row)).astype(np.int16) - still).max(-1) <= 1
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


def _decibels(errors: np.ndarray) -> float:
    error = float(np.mean(errors))
    return PEAK if error <= 255**2 / 10 ** (PEAK / 10) else float(10 * np.log10(255**2 / error))


def _numbers(seen: Watched, said: Passage) -> dict[str, Any]:
    errors = np.array(seen.static_error)
    frames = len(errors)
    minute = min(_MINUTE, frames // 2)
    first, last = _decibels(errors[:minute]), _decibels(errors[-minute:])
    seconds = np.arange(0, frames, _EVERY) / FPS
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
        "lab_slopes_per_minute": slopes,
        "lab_slope_worst": max(abs(each["slope"]) for each in slopes.values()),
        "freezes": freezes(np.array(seen.change[1:])),
        "blinks_per_minute": len(found) / (frames / _MINUTE),
        "blinks_drawn_per_minute": len(drawn) / (frames / _MINUTE),
        "blinks_matched": matched(found, drawn),
        "blinks_drawn": len(drawn),
    }


def drift(
    frame_renderer: FrameRenderer, reader: Reader, said: Passage, strip: Strip | None = None, number: int = 1
) -> dict[str, Any]:
    """Draws one character through `said`, whose last minute repeats the first, without a break.

    Returns numbers of rig and generator, and the columns of `lips.measure` over the last minute and over everything.
    Raises ValueError for less than 20 s.
    """
    if len(said) < 20 * FPS:
        raise ValueError(f"drift needs at least 20 s, got {len(said) / FPS:.1f} s")
    said = ending_as_begun(said)
    sides = {name: Watched([], [], [], [], [], []) for name in ("rig", "one step")}
    late = max(len(said) - _MINUTE, len(said) // 2)
    columns = {name: Column() for name in sides}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in sides}
    with Rig(Character.from_seed(said.seed), frame_renderer.config.size) as rig:
        static = static_places(rig, said.controls)
        given = portrait(rig)
        stream = begin(frame_renderer, given, seed=7)
        before: dict[str, np.ndarray] = {}
        chunk: dict[str, list[np.ndarray]] = {name: [] for name in sides}
        for k in range(len(said)):
            image, truth = rig.draw_with_truth(said.controls[k])
            drawn = premultiplied(image)
            now = {"rig": drawn, "one step": paint(frame_renderer, [stream], [cue(said.controls[k], said.heard[k])])[0]}
            colour = {name: lab(frame[..., :3]) for name, frame in now.items()} if k % _EVERY == 0 else None
            for name, frame in now.items():
                seen = sides[name]
                difference = frame[static].astype(np.float32) - given.picture[static]
                seen.static_error.append(float(np.mean(difference[:, :3] ** 2)))
                last = before.get(name)
                seen.change.append(float(np.abs(frame.astype(np.int16) - last).max()) if last is not None else np.inf)
                before[name] = frame.astype(np.int16)
                if colour is not None:
                    seen.static_lab.append(colour[name][static].mean(0))
                    seen.beside_rig.append((colour[name] - colour["rig"]).mean((0, 1)))
                chunk[name].append(frame)
                if k >= late and (k - late) % _EVERY == 0:  # compare the last minute with the rig's frames
                    column = columns[name]
                    column.whole.append(psnr(frame[..., :3], drawn[..., :3]))
                    column.mouth.append(psnr(cut(frame, truth.mouth_box), cut(drawn, truth.mouth_box)))
                    column.eyes.append(
                        float(np.mean([psnr(cut(frame, box), cut(drawn, box)) for box in truth.eye_boxes]))
                    )
                    column.energy.append(gradient_energy(frame))
                    column.mouth_energy.append(gradient_energy(cut(frame, truth.mouth_box)))
                if strip and k >= len(said) - 20 * FPS:
                    kept[name].append(frame)
            if len(chunk["rig"]) == _CHUNK or k == len(said) - 1:
                for name, frames in chunk.items():
                    read = reader.read(frames, given.picture)
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
    frame_renderer: FrameRenderer,
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
        with Rig(Character.from_seed(seed), frame_renderer.config.size) as rig:
            static = static_places(rig, said.controls)
            given = portrait(rig)
            stream = begin(frame_renderer, given, seed=200 + i)
            frames: dict[str, list[np.ndarray]] = {"rig": [], "one step": []}
            for controls, now in zip(said.controls, said.heard, strict=True):
                frames["rig"].append(premultiplied(rig.draw(controls)))
                frames["one step"].append(paint(frame_renderer, [stream], [cue(controls, now)])[0])
        far = {}
        drawn = blink_moments(ground_truth(said.controls)["lids"], SHUT)
        for name, shown in frames.items():
            colours = np.stack(shown)[..., :3].astype(np.int16)
            steps = np.abs(np.diff(colours, axis=0)).mean(-1)  # [T - 1, S, S]
            far[name] = np.abs(colours - given.picture[..., :3].astype(np.int16)).mean((1, 2, 3))
            read = reader.read(shown, given.picture)
            found = blink_moments(read["lids"], SHUT)
            rows[name].append({
                "motion": float(steps[:, ~static].mean()), "flicker": float(steps[:, static].mean()),
                "life": pcc([(far[name], far["rig"])]), "blinks": len(found),
                "blinks_drawn": len(drawn), "freezes": freezes(np.abs(np.diff(colours, axis=0)).max((1, 2, 3))),
                "mouth_open": float(np.mean(read["lips"] > 0.2)),
            })  # fmt: skip
    return {
        "n": int(len(seeds) * seconds * FPS),
        "characters": len(seeds),
        "seconds": seconds,
        "sides": {
            name: {key: float(np.mean([row[key] for row in each])) for key in each[0]} for name, each in rows.items()
        },
    }
