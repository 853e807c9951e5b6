"""Compares the lips and pictures of the rig, the teacher and the generator: do they follow the voice, and are they
right?

A `Column` collects one source's frames of all passages: the lip reader's results, and the difference from the rig's
frames of the same controls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.quality.clips import Drawn, Passage, cut, draw, frame_size, painted, passage, quiet, with_references
from benchmarks.quality.lip_reader import CLOSED, SHUT, Reader, ground_truth
from benchmarks.quality.measures import (
    blink_moments,
    closures,
    closures_held,
    first_crossing,
    gradient_energy,
    lag_ms,
    matched,
    pcc,
    psnr,
    shut_below,
)
from benchmarks.quality.reconstruction import Reconstruction
from streamer.avatar.portrait import MOST_REFERENCES
from streamer.base.constants import FPS
from streamer.model.runtime.graph_cpu import GraphFrameRenderer
from streamer.motion.controls import INDEX
from streamer.training.voices import Voices

OPENED = 0.2
"""Opening at which a mouth is visibly open."""
_WORST = 5
"""Passages whose worst frames are shown."""
LIDS_SHUT = 0.8
"""Blink controls from which an eye counts as shut."""


def shut_lids(controls: np.ndarray) -> np.ndarray:
    """[T, 2] bool: which eyes, the viewer's left first, controls [T, C] shut."""
    return np.asarray(controls[:, [INDEX["blink_left"], INDEX["blink_right"]]] > LIDS_SHUT)


@dataclass
class Fidelity:
    """How close frames are to the true ones: a value for each frame."""

    whole: list[float] = field(default_factory=list)  # PSNR in dB
    mouth: list[float] = field(default_factory=list)
    eyes: list[float] = field(default_factory=list)
    shut: list[float] = field(default_factory=list)  # of shut eyes alone
    energy: list[tuple[float, float]] = field(default_factory=list)  # gradient energy of the person, and the true one
    mouth_energy: list[tuple[float, float]] = field(default_factory=list)

    def add(self, frame: np.ndarray, drawn: Drawn, k: int, shut: np.ndarray) -> None:
        """Adds the frame that should equal frame k of `drawn`; `shut` [2]: which eyes are shut there."""
        wanted, mouth, person = drawn.frames[k], drawn.mouths[k], drawn.person(k)
        self.whole.append(psnr(frame[..., :3], wanted[..., :3]))
        self.mouth.append(psnr(cut(frame, mouth), cut(wanted, mouth)))
        eyes = [psnr(cut(frame, eye), cut(wanted, eye)) for eye in drawn.eyes[k]]
        self.eyes.append(float(np.mean(eyes)))
        self.shut += [value for value, closed in zip(eyes, shut, strict=True) if closed]
        self.energy.append((gradient_energy(frame, person), gradient_energy(wanted, person)))
        self.mouth_energy.append((gradient_energy(cut(frame, mouth)), gradient_energy(cut(wanted, mouth))))

    def first(self, count: int) -> "Fidelity":
        """Of the first frames; without shut eyes, which are not counted by frames."""
        return Fidelity(
            self.whole[:count], self.mouth[:count], self.eyes[:count], [], self.energy[:count],
            self.mouth_energy[:count],
        )  # fmt: skip

    def numbers(self) -> dict[str, Any]:
        """Means in dB, and gradient energy with its share of the true frames'."""
        if not self.whole:
            return {}
        (own, true), (own_mouth, true_mouth) = (np.mean(each, 0) for each in (self.energy, self.mouth_energy))
        return {
            "psnr": float(np.mean(self.whole)),
            "psnr_mouth": float(np.mean(self.mouth)),
            "psnr_eyes": float(np.mean(self.eyes)),
            "psnr_shut_lids": float(np.mean(self.shut)) if self.shut else None,
            "shut_lids": len(self.shut),
            "gradient_energy": float(own),
            "gradient_energy_mouth": float(own_mouth),
            "energy_share": float(own / true),
            "energy_share_mouth": float(own_mouth / true_mouth),
        }


@dataclass
class Column:
    """One source's frames of all passages."""

    passages: list[Passage] = field(default_factory=list)
    lips: list[np.ndarray] = field(default_factory=list)  # [T] of each passage
    lids: list[np.ndarray] = field(default_factory=list)
    fidelity: Fidelity = field(default_factory=Fidelity)

    def add(self, said: Passage, frames: Sequence[np.ndarray], drawn: Drawn, reader: Reader) -> None:
        """Adds a passage's frames [T][S, S, 4], with the rig's frames."""
        read = reader.read(frames, drawn.still)
        self.passages.append(said)
        self.lips.append(read["lips"])
        self.lids.append(read["lids"])
        shut = shut_lids(said.controls)
        for k, frame in enumerate(frames):
            self.fidelity.add(frame, drawn, k, shut[k])

    def only(self, speaker: str) -> "Column":
        """A column with the lips and lids of one speaker's passages."""
        chosen = [i for i, said in enumerate(self.passages) if said.speaker == speaker]
        return Column(
            [self.passages[i] for i in chosen], [self.lips[i] for i in chosen], [self.lids[i] for i in chosen]
        )

    def first(self, count: int) -> "Column":
        """A column with the first passages, to compare with a column that has fewer."""
        frames = sum(len(said) for said in self.passages[:count])
        return Column(self.passages[:count], self.lips[:count], self.lids[:count], self.fidelity.first(frames))

    def numbers(self) -> dict[str, Any]:
        """The column's numbers for the JSON. n: frames; closures have their own count."""
        to_truth = [(read, said.due) for read, said in zip(self.lips, self.passages, strict=True)]
        to_curves = [(read, said.driven) for read, said in zip(self.lips, self.passages, strict=True)]
        shut = shut_below(self.lips)
        held = [closures_held(read, said.truth, shut) for read, said in zip(self.lips, self.passages, strict=True)]
        asked = [closures_held(said.driven, said.truth, shut_below([p.driven for p in self.passages]))
                 for said in self.passages]  # fmt: skip
        counted = sum(n for _, n in held)
        open_asked = np.concatenate([said.driven for said in self.passages]) > 0.3
        read_all = np.concatenate(self.lips)
        out: dict[str, Any] = {
            "n": int(sum(len(read) for read in self.lips)),
            "passages": len(self.passages),
            "pcc_truth": pcc(to_truth),
            "pcc_curves": pcc(to_curves),
            "pcc_truth_of_curves": pcc([(said.driven, said.due) for said in self.passages]),
            "mae_curves": float(np.mean(np.abs(read_all - np.concatenate([said.driven for said in self.passages])))),
            "closures": counted,
            "closures_held": sum(hits for hits, _ in held) / max(counted, 1),
            "closures_held_by_curves": sum(hits for hits, _ in asked) / max(counted, 1),
            "falsely_closed": float(np.mean(read_all[open_asked] <= shut)) if open_asked.any() else None,
            "lag_truth_ms": lag_ms(to_truth),
            "lag_curves_ms": lag_ms(to_curves),
        }
        blinks = [blink_moments(ground_truth(said.controls)["lids"], SHUT) for said in self.passages]
        found = [blink_moments(read, SHUT) for read in self.lids]
        out |= {
            "blinks": sum(map(len, blinks)),
            "blinks_shown": sum(matched(f, b) for f, b in zip(found, blinks, strict=True)),
            "blinks_invented": sum(len(f) - matched(f, b) for f, b in zip(found, blinks, strict=True)),
        }
        return out | self.fidelity.numbers()


def against_teacher(one_step: Column, teacher: Column) -> dict[str, Any]:
    """Loss of one step against the teacher, with equal passages and noise. Sharpness: the worse of frame and mouth."""
    count = len(teacher.passages)
    one, many = one_step.first(count).numbers(), teacher.numbers()
    whole = one["gradient_energy"] / many["gradient_energy"]
    mouth = one["gradient_energy_mouth"] / many["gradient_energy_mouth"]
    return {
        "n": many["n"],
        "pcc_difference": one["pcc_curves"] - many["pcc_curves"],
        "pcc_truth_difference": one["pcc_truth"] - many["pcc_truth"],
        "sharpness_whole": whole,
        "sharpness_mouth": mouth,
        "sharpness": min(whole, mouth),
    }


@dataclass(frozen=True)
class Sides:
    """The sources that are compared."""

    one_step: GraphFrameRenderer
    teacher: GraphFrameRenderer | None
    autoencoder: Reconstruction | None
    few: int
    """Number of passages for the teacher, whose steps are expensive, and for the autoencoder."""
    references: int = MOST_REFERENCES
    """Pictures of a character that are drawn from."""

    @property
    def size(self) -> int:
        return frame_size(self.one_step.config)


Strip = Callable[[str, np.ndarray, np.ndarray], None]
"""Saves a strip of pictures: its name, and frames [K, S, S, 4] of the rig and of the generator."""


def measure(passages: Sequence[Passage], sides: Sides, reader: Reader, strip: Strip | None) -> dict[str, Any]:
    """
    Measures the columns "rig", "autoencoder", "teacher" and "one step", in total and per speaker. Strips show the first
    passages, and the worst mouths of all of them.
    """
    columns = {"rig": Column(), "autoencoder": Column(), "one step": Column(), "teacher": Column()}
    kept = 0
    worst: list[tuple[float, np.ndarray, np.ndarray]] = []  # each passage's frame with the worst mouth
    for i, said in enumerate(passages):
        seen = sides.one_step.config.size if sides.autoencoder is not None and i < sides.few else 0
        drawn = draw(said.seed, sides.size, said.controls, seen=seen)
        shown = with_references(drawn.given, sides.references)
        frames = np.stack(list(painted(sides.one_step, shown, sides.size, said, seed=i)))
        columns["rig"].add(said, list(drawn.frames), drawn, reader)
        columns["one step"].add(said, list(frames), drawn, reader)
        if sides.autoencoder is not None and seen:
            rebuilt = list(sides.autoencoder.rebuild(shown, sides.size, drawn.seen))
            columns["autoencoder"].add(said, rebuilt, drawn, reader)
        if sides.teacher is not None and i < sides.few:
            taught = list(painted(sides.teacher, shown, sides.size, said, seed=i))
            columns["teacher"].add(said, taught, drawn, reader)
        if strip:
            if kept < 3:
                kept += strips(said, drawn.frames, frames, strip, kept + 1)
            mouth = columns["one step"].fidelity.mouth[-len(said) :]
            worst.append((min(mouth), *(side[int(np.argmin(mouth))].copy() for side in (drawn.frames, frames))))
    if strip:
        worst = sorted(worst, key=lambda each: each[0])[:_WORST]
        strip("worst_1", np.stack([frame for _, frame, _ in worst]), np.stack([frame for _, _, frame in worst]))
    whole = {name: column.numbers() for name, column in columns.items() if column.passages}
    out = {
        "n": whole["rig"]["n"],
        "size": sides.size,
        "references": sides.references,
        "characters": len({said.seed for said in passages}),
        "columns": whole,
        "closed_threshold": CLOSED,
        "speakers": {
            who: {name: column.only(who).numbers() for name, column in columns.items() if name in ("rig", "one step")}
            for who in sorted({said.speaker for said in passages})
        },
    }
    if columns["teacher"].passages:
        out["one step against teacher"] = against_teacher(columns["one step"], columns["teacher"])
    return out


def strips(said: Passage, drawn: np.ndarray, frames: np.ndarray, keep: Strip, number: int, around: int = 3) -> bool:
    """Saves the plosive between the widest openings, and the first blink, each with `around` frames before and after.

    Returns whether both were found.
    """

    def fits(k: int) -> bool:
        return around <= k < len(said) - around

    def span(k: int) -> slice:
        return slice(k - around, k + around + 1)

    plosives = [k for k in closures(said.truth) if fits(k) and said.driven[k - 1 : k + 2].min() <= CLOSED]
    blinks = [k for k in blink_moments(ground_truth(said.controls)["lids"], SHUT) if fits(k)]
    if not plosives or not blinks:
        return False
    best = max(
        plosives, key=lambda k: min(said.driven[k - around : k].max(), said.driven[k + 1 : k + around + 1].max())
    )
    for name, k in (("plosive", best), ("blink", blinks[0])):
        keep(f"{name}_{number}", drawn[span(k)], frames[span(k)])
    keep(f"mouth_{number}", enlarged(drawn[span(best)]), enlarged(frames[span(best)]))
    return True


def enlarged(frames: np.ndarray, times: int = 2) -> np.ndarray:
    """The mouth's region of frames [K, S, S, 4], enlarged by `times`: [K, h, w, 3]."""
    size = frames.shape[1]
    left, top, right, bottom = (round(share * size) for share in (0.36, 0.47, 0.64, 0.68))
    wide = (times * (right - left), times * (bottom - top))
    parts = [Image.fromarray(frame[top:bottom, left:right, :3]).resize(wide, Image.Resampling.BICUBIC)
             for frame in frames]  # fmt: skip
    return np.stack([np.asarray(part) for part in parts])


def joined(drawn: np.ndarray, frames: np.ndarray) -> Image.Image:
    """One image with the rig's frames [K, S, S, 4] above the generator's, at full size."""
    rows = [np.concatenate(list(side[..., :3]), 1) for side in (drawn, frames)]
    return Image.fromarray(np.concatenate([rows[0], np.full((6, *rows[0].shape[1:]), 255, np.uint8), rows[1]]))


# Silence -> speech -----------------------------------------------------------------------------------------------


def onset_passage(
    seed: int, voices: Voices, speakers: Sequence[str], silence: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[Passage, list[int]]:
    """Pauses of 1.2 s, each followed by 1.2 s of a clip, and the frames at which the clips start."""
    parts, starts, at = [], [], 0
    usable = [i for i, who in enumerate(voices.speakers) if who in speakers and len(voices.clip(i)[0]) >= 30]
    for i in rng.choice(usable, count, replace=False):
        pause, clip = quiet(silence, 30, rng), voices.clip(int(i))
        parts += [pause, (clip[0][:30], clip[1][:30])]
        starts.append(at + 30)
        at += 60
    heard, truth = (np.concatenate(side) for side in zip(*parts, strict=True))
    return passage(seed, "all", heard, truth), starts


def onset_delays(read: np.ndarray, wanted: np.ndarray, starts: Sequence[int], length: int = 30) -> list[float | None]:
    """For each onset, the delay in frames from the wanted to the read opening of the mouth; read and wanted [T].

    None if the mouth stays closed. Onsets at which the wanted mouth does not open are skipped.
    """
    delays: list[float | None] = []
    for start in starts:
        # The mouth may open shortly before the clip starts, to breathe in.
        first, end = start - 5, start + length
        due = first_crossing(wanted[:end], OPENED, first)
        if due is None or due <= first or due > end - 8:
            continue
        came = first_crossing(read[:end], OPENED, first)
        delays.append(None if came is None else came - due)
    return delays


def _onset_numbers(delays: Sequence[float | None], steady_ms: float) -> dict[str, Any]:
    steady = steady_ms * FPS / 1000
    found = np.array([delay for delay in delays if delay is not None])
    late = np.concatenate([found - steady, np.full(len(delays) - len(found), np.inf)])
    return {
        "n": len(delays),
        "never_opened": len(delays) - len(found),
        "steady_lag_frames": steady,
        "median_frames": float(np.median(found)) if len(found) else None,
        "p90_frames": float(np.percentile(found, 90)) if len(found) else None,
        "median_beyond_steady": float(np.median(late)) if len(late) and np.isfinite(np.median(late)) else None,
        "within_one_frame": float(np.mean(late <= 1)) if len(late) else None,
    }


def onsets(
    frame_renderer: GraphFrameRenderer,
    reader: Reader,
    given: Sequence[tuple[Passage, list[int]]],
    steady: dict[str, dict[str, float]],
) -> dict[str, Any]:
    """Delays of the first open mouth after silence, of rig and generator. `steady`: the columns of `measure`."""
    delays: dict[str, dict[str, list[float | None]]] = {
        name: {"curves": [], "truth": []} for name in ("rig", "one step")
    }
    for i, (said, starts) in enumerate(given):
        size = frame_size(frame_renderer.config)
        drawn = draw(said.seed, size, said.controls)
        frames = list(painted(frame_renderer, drawn.given, size, said, seed=100 + i))
        for name, shown in (("rig", list(drawn.frames)), ("one step", frames)):
            read = reader.read(shown, drawn.still)["lips"]
            delays[name]["curves"] += onset_delays(read, said.driven, starts)
            delays[name]["truth"] += onset_delays(read, said.due, starts)
    return {
        name: {to: _onset_numbers(found, steady[name][f"lag_{to}_ms"]) for to, found in each.items()}
        for name, each in delays.items()
    }
