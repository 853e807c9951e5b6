"""`lipstream render`: renders a speech recording to a video, through the live pipeline without the network."""

import argparse
import contextlib
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from streamer.audio.framing import steps_of
from streamer.audio.vad import Vad
from streamer.avatar.avatar import Avatar
from streamer.avatar.backends import create
from streamer.avatar.characters import MAX_SEED, CharacterRecord, Characters
from streamer.avatar.renderer import RendererBackend, display_name
from streamer.avatar.rig_backend import RigBackend
from streamer.base.constants import (
    DEFAULT_SIZES,
    DEVICES,
    FPS,
    GENERATORS,
    GENERATORS_HELP,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    SIZES,
)
from streamer.base.errors import NotInstalled, RequestError
from streamer.base.image import Picture
from streamer.base.onnx import BadNetwork
from streamer.cli.interrupts import loading
from streamer.media.recordings import MAX_SECONDS, BadRecording, open_recording
from streamer.media.video_encoder import to_rgba, to_yuv
from streamer.motion.articulation import Articulation, ArticulationModel
from streamer.motion.controls import EMOTIONS, INDEX
from streamer.motion.idle import IdleMotion
from streamer.motion.plan import MotionCommand
from streamer.provenance import content_credentials
from streamer.provenance.content_credentials import CannotSign
from streamer.provenance.marker import Marker
from streamer.session import messages

_AUDIO_RATE = 48_000
_CLOSED = 0.05  # of the control `open`: below this throughout, the mouth never spoke


class BadScript(ValueError):
    """An invalid plan file; the message names the line."""


def read_script(path: Path) -> list[tuple[float, MotionCommand | messages.SetEmotion]]:
    """
    Reads a file of JSON lines, each a `plan` or `emotion` message of the control channel with its time `t` in seconds.
    Returns (seconds, command) pairs in order of time. Raises BadScript.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadScript(f"{path} could not be read: {error}") from None
    script: list[tuple[float, MotionCommand | messages.SetEmotion]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            asked = messages.parse(line)
            t = json.loads(line).get("t")
        except messages.BadMessage as error:
            raise BadScript(f"{path}, line {number}: {error}") from None
        if not isinstance(asked, MotionCommand | messages.SetEmotion):
            raise BadScript(f"{path}, line {number}: only plan and emotion are allowed, not {line.strip()[:60]}")
        if isinstance(t, bool) or not isinstance(t, int | float) or not 0 <= t <= MAX_SECONDS:
            raise BadScript(f"{path}, line {number}: 't' is {repr(t)[:60]}: must be seconds from 0 to {MAX_SECONDS}")
        script.append((float(t), asked))
    return sorted(script, key=lambda line: line[0])


def draw_frames(
    speech: np.ndarray | Iterable[np.ndarray],
    entry: CharacterRecord,
    size: int,
    background: bool,
    listener: ArticulationModel,
    emotion: str = "neutral",
    generator: RendererBackend | None = None,
    script: Sequence[tuple[float, MotionCommand | messages.SetEmotion]] = (),
    on_controls: Callable[[np.ndarray], None] = lambda controls: None,
) -> Iterator[Picture]:
    """
    Draws ceil(n / 640) pictures from speech, [n] float32 at 16 kHz or blocks of it. Each picture is valid until the
    next. A command of `script`, in order of time, takes effect at the first frame at or after its time. Without a
    generator the rig draws. `on_controls` is called with the controls [C] of each frame.
    """
    renderer = (generator or RigBackend()).create_renderer(entry, size, background)
    avatar = Avatar(
        listener, renderer, IdleMotion(entry.seed or 0), Vad()
    )  # as live: music does not hold the mouth open
    waiting = deque(script)
    try:
        if emotion != "neutral":
            avatar.set_emotion(emotion, 1.0)
        for step in steps_of(speech, listener.lookahead):
            while waiting and waiting[0][0] <= step.frame / FPS:
                _, asked = waiting.popleft()
                if isinstance(asked, MotionCommand):
                    avatar.move(asked)
                else:
                    avatar.set_emotion(asked.name, asked.strength)
            controls, _ = avatar.hear(step)
            on_controls(controls)
            yield avatar.draw(controls, step.frame / FPS)
    finally:
        avatar.close()


def mark(frames: Iterator[Picture], marker: Marker) -> Iterator[Picture]:
    """Yields copies of the pictures, marked as synthetic."""
    for image in frames:
        marked = image.copy()
        marker.apply(marked)
        yield marked


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # for example, too long for a file name
        return False


def find_character(texts: Sequence[str], characters: Characters) -> CharacterRecord:
    """Finds a character by seed, by the name of a listed character, or from files: pictures of one character, a folder
    of them, or a clip. Raises `RequestError`."""
    paths = [Path(text) for text in texts]
    if any(_exists(path) for path in paths):
        return characters.from_files(paths)
    text = " ".join(texts)
    if text.isdecimal():
        return characters.get(text)
    named = [entry for entry in characters.all() if entry.name.lower() == text.lower()]
    if not named:
        names = ", ".join(entry.name for entry in characters.all())
        raise RequestError(
            404, "unknown_character", f"{text[:200]!r} is not a picture, a seed up to {MAX_SEED}, or one of {names}"
        )
    return named[0]


def write_video(
    out: Path,
    frames: Iterable[Picture],
    sound: np.ndarray | Iterable[np.ndarray],
    size: int,
    progress: Callable[[int], None],
) -> int:
    """
    Writes an MP4 of H.264 and AAC; `sound` is [m] float32 at 48 kHz, or blocks of it. Returns the number of frames.
    """
    count = 0
    # "file:" keeps FFmpeg from taking a name with a colon for a protocol.
    with av.open(f"file:{out}", "w", format="mp4", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "17", "preset": "veryfast", "threads": "1"})
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=_AUDIO_RATE, layout="mono")
        audio.bit_rate = 128_000
        position = 0
        beside = _cut([sound] if isinstance(sound, np.ndarray) else sound, _AUDIO_RATE // FPS)
        for count, image in enumerate(frames, 1):
            picture = to_yuv(image)
            picture.pts, picture.time_base = count - 1, Fraction(1, FPS)
            container.mux(video.encode(picture))
            if (block := next(beside, None)) is not None:
                container.mux(audio.encode(_sound_frame(block, position)))
                position += len(block)
            progress(count)
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return count


def _cut(blocks: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Regroups blocks [n] into blocks [length], the last one shorter."""
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        whole = len(held) // length * length
        yield from held[:whole].reshape(-1, length)
        held = held[whole:]
    if len(held):
        yield held


def _sound_frame(block: np.ndarray, position: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="fltp", layout="mono")
    frame.sample_rate = _AUDIO_RATE
    frame.pts, frame.time_base = position, Fraction(1, _AUDIO_RATE)
    return frame


def _bar(total: int) -> Callable[[int], None]:
    if not sys.stderr.isatty():
        return lambda done: None

    def show(done: int) -> None:
        if done >= total or done % 5 == 0:
            filled = 40 * min(done, total) // total
            print(f"\r[{'█' * filled}{'·' * (40 - filled)}] {done}/{total} frames", end="", file=sys.stderr, flush=True)

    return show


def _say(text: str) -> None:
    print(f"lipstream render: {text}", file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="lipstream render", description=__doc__)
    parser.add_argument("speech", type=Path, help="speech recording, in any format that PyAV reads")
    parser.add_argument("out", type=Path, help="MP4 file to write")
    parser.add_argument(
        "--character",
        nargs="+",
        default=["1"],
        metavar="FILE",
        help="pictures of one character, a folder of them, or a clip; or a seed, or the name of a listed character",
    )
    parser.add_argument(
        "--size", type=int, choices=SIZES, help="edge in pixels (default: 512 for a rig, 256 for the neural generator)"
    )
    parser.add_argument("--emotion", default="neutral", choices=EMOTIONS)
    parser.add_argument("--generator", default=GENERATORS[0], choices=GENERATORS, help=GENERATORS_HELP)
    parser.add_argument(
        "--device",
        default=DEVICES[0],
        choices=DEVICES,
        help="device of the neural generator (default: cuda if available)",
    )
    parser.add_argument(
        "--plan", type=Path, help='file of JSON lines: {"t": 1.5, "type": "plan", "values": {"yaw": 0.3}, "hold": 2}'
    )
    parser.add_argument("--no-label", dest="label", action="store_false", help='do not show the "AI" label')
    parser.add_argument("--no-watermark", dest="watermark", action="store_false", help="do not embed the watermark")
    parser.add_argument("--c2pa-cert", type=Path, help="certificate chain (PEM) for signing the video")
    parser.add_argument("--c2pa-key", type=Path, help="private key of the certificate (PEM)")
    parser.add_argument("--frames", type=Path, help="folder to which each frame is also written as a PNG")
    options = parser.parse_args(arguments)
    if options.out.suffix.lower() != ".mp4":
        parser.error(f"{options.out}: the output is an MP4 file: its name must end in .mp4")
    if (options.c2pa_cert is None) != (options.c2pa_key is None):
        parser.error("--c2pa-cert and --c2pa-key go together: only one of the two was given")
    try:
        if options.c2pa_cert:
            content_credentials.load(options.c2pa_cert, options.c2pa_key)  # fail now, not after drawing
        if not options.out.parent.is_dir():  # fail now, not after drawing
            raise OSError(f"{options.out} could not be written: {options.out.parent} is not a folder")
        if options.out.exists() and options.speech.exists() and options.out.samefile(options.speech):
            raise BadRecording(f"{options.out} is also the input and would be overwritten: choose another file")
        recording = open_recording(options.speech)
        if (samples := int(recording.seconds * SAMPLE_RATE)) < SAMPLES_PER_FRAME:
            raise BadRecording(
                f"{options.speech} contains {samples} samples of audio at 16 kHz: less than one frame "
                f"({SAMPLES_PER_FRAME})"
            )
        recording.refuse_silence()
        script = read_script(options.plan) if options.plan else []
        with loading():
            listener = Articulation.load()
            entry = find_character(options.character, Characters(needs_face=options.generator == "neural"))
            # The rig always draws pictures: do not measure the neural generator for one.
            name = "rig" if options.generator == "auto" and entry.picture is not None else options.generator
            generator = create(name, options.device, sessions=1, tell=_say)
    except (BadNetwork, BadRecording, BadScript, CannotSign, NotInstalled, OSError, RequestError) as error:
        print(f"lipstream render: {error}", file=sys.stderr)
        return 1
    size = options.size or DEFAULT_SIZES[generator.renderer_name(entry)]
    for said in recording.notices:
        _say(f"{options.speech}: {said}")
    for notice in (entry.to_json()["pack"] or {}).get("notices", []):
        _say(notice["text"])
    _say(generator.where)
    _say(f"drawn by: {display_name(generator.renderer_name(entry, size))}, {size}×{size} pixels")
    widest = 0.0

    def watch(controls: np.ndarray) -> None:
        nonlocal widest
        widest = max(widest, float(controls[INDEX["open"]]))

    speech = recording.blocks(SAMPLE_RATE)
    frames = draw_frames(speech, entry, size, True, listener, options.emotion, generator, script, watch)
    frames = mark(frames, Marker(size, options.label, options.watermark))
    partial = options.out.with_name(options.out.name + ".part")
    try:
        if options.frames:
            options.frames.mkdir(parents=True, exist_ok=True)
            frames = _keep(frames, options.frames)
        count = write_video(
            partial, frames, recording.blocks(_AUDIO_RATE), size, _bar(-(-samples // SAMPLES_PER_FRAME))
        )
        if options.c2pa_cert:
            content_credentials.sign(partial, options.c2pa_cert, options.c2pa_key, title=options.out.name)
        partial.replace(options.out)
    except (OSError, av.FFmpegError) as error:
        print(f"lipstream render: {options.out} could not be written: {error}", file=sys.stderr)
        return 1
    except (BadRecording, CannotSign) as error:
        print(f"lipstream render: {error}", file=sys.stderr)
        return 1
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # end the progress bar's line
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    if widest < _CLOSED:
        _say(f"the mouth stayed closed in all {count} frames: no speech was found in {options.speech}")
    return 0


def _keep(frames: Iterator[Picture], folder: Path) -> Iterator[Picture]:
    for i, image in enumerate(frames):
        Image.fromarray(to_rgba(image)).save(folder / f"{i:06d}.png")
        yield image
