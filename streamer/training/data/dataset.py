"""The training set of the articulation network: `lipstream data speech OUT` builds it on disk.

A clip is speech with timed phones (corpora.py), varied in pitch, rate, room, noise, level and codec, with the targets
of every frame (coarticulation.py). Clips are stored in shards, `shard_0000.npz` and so on; `manifest.jsonl` has a line
for each clip. Building again resumes where it stopped, and the same seed gives the same set.

Whole speakers are held out for testing, and with the Italian speaker his language.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import math
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from streamer.base.constants import SAMPLE_RATE
from streamer.media.recordings import BadRecording
from streamer.training.data import corpora
from streamer.training.data.coarticulation import truth
from streamer.training.data.corpora import Clip, Rejected, Utterance
from streamer.training.data.phones import INDEX, NAMES, TimedPhone

HELD_OUT = (
    "en_US_f_Allison",  # a real woman's English
    "es_MX_f_Allison",  # and Spanish
    "it_IT_m_Carlo",  # a real man's Italian: held out as a speaker and as a language
    # Acted Czech with effects, which the aligner follows too badly to train on: see benchmarks/quality/articulation.py
    "fillets_cs_big",
    "fillets_cs_small",
    "fillets_cs_others",
    "flite_rms",  # a man's English, synthesized from recordings
    "espeak_en+f5",
)
RECORDINGS = ("asterisk-en", "asterisk-es", "asterisk-fr", "asterisk-ru", "asterisk-it", "festvox-ru", "fillets-cs",
              "tuxpaint")  # fmt: skip
_FLITE = ("awb", "kal16", "slt", "rms")
_ESPEAK_LANGUAGES = {
    "en": ("en-us", "en", "en-gb-scotland", "en-gb-x-rp"), "de": ("de",), "es": ("es", "es-419"), "fr": ("fr",),
    "nl": ("nl",), "pl": ("pl",), "ru": ("ru",), "sv": ("sv",), "cs": ("cs",), "bg": ("bg",),
}  # fmt: skip
_ESPEAK_VARIANTS = ("", "+m1", "+m3", "+m5", "+m7", "+f1", "+f2", "+f3", "+f4", "+klatt2", "+klatt4", "+anika", "+adam",
                    "+linda", "+max", "+Annie", "+Gene", "+quincy", "+steph", "+paul")  # fmt: skip
_SHARD = 100


@dataclass(frozen=True)
class Task:
    """One utterance and its number of variants in the set."""

    clip: Clip
    variants: int
    seed: int


# Audio augmentation ---------------------------------------------------------------------------------------------------


def stretch(audio: np.ndarray, factor: float) -> np.ndarray:
    """[n] -> about [n * factor] at the same pitch, by overlap-add of similar windows (WSOLA)."""
    window, hop, reach = 640, 320, 160
    taper = np.hanning(window + 1)[:-1]
    padded = np.pad(audio.astype(np.float64), (window, 2 * window + reach))
    length = int(len(audio) * factor)
    out = np.zeros(length + 2 * window)
    at = window  # position in `padded` of the last window
    for start in range(0, length, hop):
        wanted = int(start / factor) + window
        if start == 0:
            at = wanted
        else:
            natural = padded[at + hop : at + hop + window]
            nearby = padded[wanted - reach : wanted + reach + window]
            likeness = np.correlate(nearby, natural, mode="valid")
            at = wanted - reach + int(likeness.argmax())
            at = min(at, len(padded) - window - hop)
        out[start : start + window] += padded[at : at + window] * taper
    return out[hop : hop + length].astype(np.float32) if length > window else out[:length].astype(np.float32)


def warped(utterance: Utterance, size: float, rate: float) -> Utterance:
    """The same words from a vocal tract `size` times as long (lower pitch and formants), spoken at `rate`."""
    audio = corpora.resample(utterance.audio, SAMPLE_RATE, round(SAMPLE_RATE * size))
    factor = 1 / (size * rate)
    if abs(factor - 1) > 0.01:
        audio = stretch(audio, factor)
    scale = len(audio) / max(len(utterance.audio), 1)
    phones = [TimedPhone(p.phone, p.start * scale, p.end * scale) for p in utterance.phones]
    return dataclasses.replace(utterance, audio=audio, phones=phones)


def room(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small room: direct sound, reflections and a decaying tail."""
    decay = rng.uniform(0.08, 0.45)  # seconds to -60 dB
    t = np.arange(int(decay * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(t)) * 10 ** (-3 * t / decay)
    tail[: int(rng.uniform(0.001, 0.006) * SAMPLE_RATE)] = 0
    tail *= 10 ** (-rng.uniform(2, 14) / 20) / (np.sqrt(np.sum(tail**2)) + 1e-9)
    tail[0] = 1
    size = 1 << (len(audio) + len(tail)).bit_length()
    heard = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(tail, size), size)
    return heard[: len(audio)].astype(np.float32)


def noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """[n] of coloured noise, sometimes with hum or a slowly changing level; root mean square 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 20)
    spectrum *= frequency ** -rng.uniform(0, 1.2)
    sound = np.fft.irfft(spectrum, samples)
    sound /= np.sqrt(np.mean(sound**2)) + 1e-9
    if rng.random() < 0.3:
        t = np.arange(samples) / SAMPLE_RATE
        for harmonic in (1, 2, 3):
            sound += rng.uniform(0, 1.2) * np.sin(2 * np.pi * (50 * harmonic * t + rng.random()))
    if rng.random() < 0.3:
        knots = rng.uniform(0.2, 1.5, samples // 8000 + 2)
        sound *= np.interp(np.arange(samples) / 8000, np.arange(len(knots)), knots)
    return (sound / (np.sqrt(np.mean(sound**2)) + 1e-9)).astype(np.float32)


def coloured(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A microphone's frequency response: tilted, uneven, and sometimes without highs or lows."""
    spectrum = np.fft.rfft(audio)
    frequency = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    octaves = np.log2(np.maximum(frequency, 60) / 1000)
    knots = np.linspace(-4.2, 3.1, 8)
    decibels = rng.uniform(-3, 3) * octaves + np.interp(octaves, knots, rng.normal(0, 2.5, len(knots)))
    if rng.random() < 0.2:
        decibels -= 24 * np.maximum(np.log2(np.maximum(frequency, 1) / rng.uniform(3400, 7000)), 0)
    if rng.random() < 0.3:
        decibels -= 12 * np.maximum(np.log2(rng.uniform(80, 250) / np.maximum(frequency, 20)), 0)
    return np.fft.irfft(spectrum * 10 ** (decibels / 20), len(audio)).astype(np.float32)


_OPUS_DELAY = 312  # encoder delay of libopus in samples at 48 kHz


def opus(audio: np.ndarray, bitrate: int) -> np.ndarray:
    """[n] as received from a browser: 48 kHz Opus at `bitrate` in 20 ms packets, back at 16 kHz, delay removed."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    encoder.bit_rate = bitrate
    encoder.options = {"application": "voip", "frame_duration": "20"}
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    up = av.AudioResampler(format="s16", layout="mono", rate=48_000, frame_size=960)
    down = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    padded = np.pad(audio, (0, 3200))
    source = av.AudioFrame.from_ndarray((np.clip(padded, -1, 1) * 32767).astype(np.int16)[None], "s16", "mono")
    source.sample_rate = SAMPLE_RATE
    pieces: list[np.ndarray] = []
    for frame in [*up.resample(source), *up.resample(None)]:
        if frame.samples == 960:
            frame.pts = None
            for packet in encoder.encode(frame):
                for decoded in decoder.decode(packet):
                    pieces.append(decoded.to_ndarray().reshape(-1))
    sound = np.concatenate(pieces)
    sound = (sound.astype(np.float32) / 32768 if sound.dtype == np.int16 else sound)[_OPUS_DELAY:]
    heard = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), "flt", "mono")
    heard.sample_rate = 48_000
    out = np.concatenate([f.to_ndarray()[0] for f in [*down.resample(heard), *down.resample(None)]])
    return np.pad(out, (0, max(len(audio) - len(out), 0)))[: len(audio)]


def variant(utterance: Utterance, number: int, held_out: bool, rng: np.random.Generator):
    """
    One variant of an utterance: the audio, [n] float32; mouth [T, M] and prosody [T, P]; its phones. Variant 0 is the
    recording itself at a typical level; other variants of held-out speakers only pass through the live codec.
    """
    lead, tail = rng.uniform(0.1, 0.9, 2) if number else (0.3, 0.3)
    if number and not held_out:
        utterance = warped(utterance, math.exp(rng.normal(0, 0.08)), math.exp(rng.normal(0, 0.12)))
    lead_samples = int(lead * SAMPLE_RATE)
    clean = np.pad(utterance.audio, (lead_samples, int(tail * SAMPLE_RATE)))
    shift = lead_samples / SAMPLE_RATE
    phones = [TimedPhone(p.phone, p.start + shift, p.end + shift) for p in utterance.phones]
    phones = [TimedPhone("sil", 0.0, shift), *phones, TimedPhone("sil", phones[-1].end, len(clean) / SAMPLE_RATE)]
    mouth, prosody = truth(clean, phones)

    heard = clean / (np.sqrt(np.mean(utterance.audio**2)) + 1e-6) * 0.07
    if number and not held_out:
        if rng.random() < 0.7:
            heard = coloured(heard, rng)
        if rng.random() < 0.5:
            heard = room(heard, rng)
        heard = heard / (np.sqrt(np.mean(heard**2)) + 1e-6) * 0.07
        if rng.random() < 0.8:
            heard = heard + noise(len(heard), rng) * 0.07 * 10 ** (-rng.uniform(8, 50) / 20)
        heard = heard * 10 ** (rng.uniform(-18, 12) / 20)
    if number and (held_out or rng.random() < 0.7):
        heard = opus(heard, int(rng.choice([12_000, 16_000, 24_000, 32_000, 48_000, 64_000])))
    return np.clip(heard, -1, 1).astype(np.float32), mouth, prosody, phones


# The plan ------------------------------------------------------------------------------------------------------------


def texts() -> dict[str, list[str]]:
    """Sentences to synthesize, by language; Italian is excluded."""
    sentences: dict[str, list[str]] = {language: [] for language in _ESPEAK_LANGUAGES}
    for language, own in sentences.items():
        for script in sorted(corpora._FILLETS.glob(f"script/*/dialogs_{language}.lua")):
            own += [text.replace("\\n", " ") for _, text in corpora._DIALOG.findall(script.read_text("utf-8"))]
        # English scripts contain their text in the id's line.
        if language == "en":
            for script in sorted(corpora._FILLETS.glob("script/*/dialogs_cs.lua")):
                own += re.findall(r'dialogId\("[^"]+",\s*"[^"]+",\s*"([^"]+)"\)', script.read_text("utf-8"))
    for source in ("asterisk-en", "asterisk-es", "asterisk-fr", "asterisk-ru"):
        sentences[source.removeprefix("asterisk-")] += [clip.text for clip in corpora.recordings(source)]
    return {language: [t for t in dict.fromkeys(own) if len(t) > 12] for language, own in sentences.items()}


def plan(seed: int, synthesized: int, variants: int) -> list[Task]:
    """The content of the set: every recording, and `synthesized` synthesized sentences, in shuffled order."""
    rng = np.random.default_rng(seed)
    clips: list[tuple[Clip, int]] = []
    for source in RECORDINGS:
        for clip in corpora.recordings(source):
            clips.append((clip, 2 if clip.speaker in HELD_OUT else variants))
    sentences = texts()
    languages = list(sentences)
    # Half of the synthesized speech is English, the language of most users.
    weights = np.array([0.5 if language == "en" else 0.5 / (len(languages) - 1) for language in languages])
    for _ in range(synthesized):
        language = str(rng.choice(languages, p=weights))
        text = str(rng.choice(sentences[language]))
        if language == "en" and rng.random() < 0.6:
            voice = str(rng.choice(_FLITE, p=[0.31, 0.31, 0.31, 0.07]))
            stretch = math.exp(rng.normal(0, 0.12))
            settings = [("stretch", f"{stretch:.3f}")]
            clips.append((Clip("flite", f"flite_{voice}", "en", text, None, tuple(settings)), 1))
        else:
            if rng.random() < 0.04:
                language, voice = "en", "en+f5"
                text = str(rng.choice(sentences["en"]))
            else:
                voice = str(rng.choice(_ESPEAK_LANGUAGES[language])) + str(rng.choice(_ESPEAK_VARIANTS))
            settings = [("rate", str(rng.integers(120, 230))), ("pitch", str(rng.integers(15, 90))),
                        ("range", str(rng.integers(20, 90)))]  # fmt: skip
            clips.append((Clip("espeak-ng", f"espeak_{voice}", language, text, None, tuple(settings)), 1))
    order = rng.permutation(len(clips))
    return [Task(clips[i][0], clips[i][1], int(rng.integers(2**31))) for i in order]


def utterance_of(clip: Clip) -> Utterance:
    """The clip, read and aligned or synthesized. Raises Rejected if it is unusable."""
    settings = dict(clip.settings)
    if clip.source == "flite":
        voice = clip.speaker.removeprefix("flite_")
        return dataclasses.replace(corpora.flite(clip.text, voice, float(settings["stretch"])), clip=clip)
    if clip.source == "espeak-ng":
        voice = clip.speaker.removeprefix("espeak_")
        spoken = corpora.espeak().speak(
            clip.text, voice, int(settings["rate"]), int(settings["pitch"]), int(settings["range"])
        )
        return dataclasses.replace(spoken, clip=clip)
    return corpora.labelled(clip) if clip.source == "festvox-ru" else corpora.align(clip)


def split_of(clip: Clip) -> str:
    """ "test" for held-out speakers, "val" for one in forty of the other sentences, otherwise "train"."""
    if clip.speaker in HELD_OUT or clip.language == "it":
        return "test"
    return "val" if int(hashlib.sha256(clip.text.encode()).hexdigest(), 16) % 40 == 0 else "train"


def made(task: Task) -> Iterator[tuple[dict, dict[str, np.ndarray]]]:
    """The task's variants: a manifest line and the arrays of each."""
    utterance = utterance_of(task.clip)
    split = split_of(task.clip)
    seconds = len(utterance.audio) / SAMPLE_RATE
    if not 0.4 <= seconds <= 40:
        raise Rejected(f"{seconds:.1f} s is not between 0.4 and 40 s")
    if not any(p.phone != "sil" for p in utterance.phones):
        raise Rejected("it contains no speech")
    rng = np.random.default_rng(task.seed)
    # A single variant is an augmented one, so that synthesizers do not only speak in silence; held-out speech is clean.
    numbers = range(task.variants) if task.variants > 1 or split == "test" else (1,)
    for number in numbers:
        heard, mouth, prosody, phones = variant(utterance, number, split == "test", rng)
        line = {
            "source": task.clip.source, "speaker": task.clip.speaker, "language": task.clip.language, "split": split,
            "licence": utterance.licence, "text": task.clip.text, "variant": number, "score": round(utterance.score, 2),
            "seconds": round(len(heard) / SAMPLE_RATE, 3),
        }  # fmt: skip
        arrays = {
            "audio": (heard * 32767).astype(np.int16),
            "mouth": mouth.astype(np.float16),
            "prosody": prosody.astype(np.float16),
            "phone": np.array([INDEX[p.phone] for p in phones], np.int16),
            "times": np.array([[p.start, p.end] for p in phones], np.float32),
        }
        yield line, arrays


_ARRAYS = ("audio", "mouth", "prosody", "phone", "times")


def _build_shard(job: tuple[int, list[Task], str]) -> tuple[int, list[dict], int]:
    number, tasks, folder = job
    lines: list[dict] = []
    parts: dict[str, list[np.ndarray]] = {name: [] for name in _ARRAYS}
    rejected = 0
    for task in tasks:
        try:
            variants = list(made(task))
        except (Rejected, BadRecording):
            rejected += 1
            continue
        for line, arrays in variants:
            lines.append(line | {"shard": number, "index": len(parts["audio"])})
            for name in _ARRAYS:
                parts[name].append(arrays[name])
    packed: dict[str, Any] = {}
    for name in _ARRAYS:
        packed[name] = np.concatenate(parts[name]) if parts[name] else np.zeros(0)
        packed[f"{name}_lengths"] = np.array([len(a) for a in parts[name]], np.int64)
    packed["manifest"] = np.array(json.dumps(lines))
    # Written to a temporary file and renamed: a shard that exists is complete.
    buffer = io.BytesIO()
    np.savez(buffer, **packed)
    part = Path(folder, f"shard_{number:04d}.part")
    part.write_bytes(buffer.getvalue())
    part.replace(part.with_suffix(".npz"))
    return number, lines, rejected


def read_shard(path: Path) -> Iterator[tuple[dict, dict[str, np.ndarray]]]:
    """The clips of one shard: manifest line; audio [n] int16, mouth [T, M], prosody [T, P], phone [N], times [N, 2]."""
    with np.load(path) as packed:
        lines = json.loads(str(packed["manifest"]))
        split = {
            name: np.split(packed[name], np.cumsum(packed[f"{name}_lengths"])[:-1]) if lines else [] for name in _ARRAYS
        }
    for i, line in enumerate(lines):
        yield line, {name: split[name][i] for name in _ARRAYS}


def build(out: Path, seed: int, synthesized: int, variants: int, processes: int, limit: int | None) -> dict[str, float]:
    """Builds the missing part of the set in `out`; returns hours by split."""
    out.mkdir(parents=True, exist_ok=True)
    tasks = plan(seed, synthesized, variants)[:limit]
    recipe = {"seed": seed, "synthesized": synthesized, "variants": variants, "limit": limit, "phones": NAMES}
    recipe_path = out / "recipe.json"
    if recipe_path.exists() and json.loads(recipe_path.read_text()) != json.loads(json.dumps(recipe)):
        raise ValueError(f"{out} contains a set built by another recipe: choose an empty folder")
    recipe_path.write_text(json.dumps(recipe))
    jobs = [(i, tasks[start : start + _SHARD], str(out)) for i, start in enumerate(range(0, len(tasks), _SHARD))]
    missing = [job for job in jobs if not (out / f"shard_{job[0]:04d}.npz").exists()]
    # Spawned, not forked: libespeak and the decoder keep threads and globals.
    # Ctrl-C reaches every process of a terminal: the parent alone answers it, by ending the others.
    context, ignored = multiprocessing.get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
    with context.Pool(processes, signal.signal, ignored, maxtasksperchild=8) as pool:
        for done, (number, lines, rejected) in enumerate(pool.imap_unordered(_build_shard, missing), 1):
            hours = sum(line["seconds"] for line in lines) / 3600
            print(f"shard {number}: {hours:.2f} h, {rejected} rejected ({done}/{len(missing)})", flush=True)
    totals: dict[str, float] = {}
    with (out / "manifest.jsonl").open("w") as manifest:
        for path in sorted(out.glob("shard_*.npz")):
            for line, _ in read_shard(path):
                manifest.write(json.dumps(line, ensure_ascii=False) + "\n")
                totals[line["split"]] = totals.get(line["split"], 0) + line["seconds"] / 3600
    return totals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="folder for the set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--synthesized", type=int, default=12_000, help="sentences by espeak-ng and flite")
    parser.add_argument("--variants", type=int, default=4, help="variants of each recording, the first unchanged")
    parser.add_argument("--processes", type=int, default=max((os.cpu_count() or 2) // 2, 1))
    parser.add_argument("--limit", type=int, help="maximum number of utterances, for a trial")


def run(args: argparse.Namespace) -> int:
    try:
        totals = build(args.out, args.seed, args.synthesized, args.variants, args.processes, args.limit)
    except (FileNotFoundError, ValueError, ModuleNotFoundError) as error:
        print(f"lipstream data speech: {error}", file=sys.stderr)
        return 1
    print("hours: " + ", ".join(f"{split} {hours:.2f}" for split, hours in sorted(totals.items())))
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lipstream data speech", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))
