"""`lipstream render`: files in, files out."""

import hashlib
import os
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from posed_faces import clip, png, poses

from streamer.avatar.characters import Characters
from streamer.base.errors import RequestError
from streamer.cli import render
from streamer.cli.render import draw_frames
from streamer.media.recordings import Recording, open_recording, read_recording
from streamer.motion.articulation import Articulation
from streamer.motion.controls import INDEX, rest
from streamer.studio.character import Character
from streamer.studio.rig import Rig

SAMPLE = Path(__file__).parent.parent / "clients" / "page" / "sample.wav"


def _wav(path: Path, rate: int = 16_000, channels: int = 1, seconds: float = 1.0, loud: float = 8000) -> Path:
    t = np.arange(int(rate * seconds)) / rate
    tone = (loud * np.sin(2 * np.pi * 220 * t)).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.repeat(tone[:, None], channels, 1).tobytes())
    return path


def _video_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(5):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16_000, 1), (44_100, 2), (48_000, 6), (192_000, 2)])
def test_speech_of_any_shape_is_read(tmp_path: Path, rate: int, channels: int) -> None:
    """Any rate and channel count comes out as mono at 16 and 48 kHz, a second long, and loud."""
    recording = open_recording(_wav(tmp_path / "a.wav", rate, channels))
    heard, kept = recording.read(16_000), recording.read(48_000)
    assert abs(len(heard) - 16_000) <= 32
    assert abs(len(kept) - 48_000) <= 96
    assert 0.05 < np.abs(heard).max() <= 1.0


def test_what_holds_no_speech_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, empty, no media, video only, shorter than a frame, silent: status 1, and a sentence with the name."""
    empty, text, short = tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "short.wav"
    empty.write_bytes(b"")
    text.write_text("this is not a recording" * 100)
    _wav(short, seconds=0.01)
    silent = _wav(tmp_path / "silent.wav", loud=0)
    for path, says in (
        (tmp_path / "none.wav", "is not a file"),
        (empty, "0 bytes"),
        (text, "could not be read"),
        (_video_only(tmp_path / "video.mp4"), "holds no sound, only video"),
        (short, "160 samples"),
        (silent, "is silent: all its samples are 0"),
    ):
        assert render.main([str(path), str(tmp_path / "out.mp4")]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"lipstream render: {path} ") and says in said and said.count("\n") == 1
    assert not (tmp_path / "out.mp4").exists()


def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Half a recording gives half the speech."""
    cut = tmp_path / "cut.wav"
    whole = _wav(tmp_path / "whole.wav", seconds=2.0).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    heard = read_recording(cut, 16_000)
    assert abs(len(heard) - 16_000) < 200


def test_the_same_speech_gives_the_same_frames() -> None:
    """Rendering twice is identical to the byte, and a frame answers each 40 ms."""
    heard = read_recording(SAMPLE, 16_000)[: 16_000 * 2 + 100]
    entry = Characters().get("2")
    first, second = (
        [image.copy() for image in draw_frames(heard, entry, 128, True, Articulation.load())] for _ in range(2)
    )
    assert len(first) == 51
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    changes = [int(np.abs(a.astype(int) - b).sum()) for a, b in zip(first, first[1:], strict=False)]
    assert max(changes) > 0


def _video(path: Path) -> tuple[list[str], bytes]:
    """A hash of each frame, and the decoded sound."""
    with av.open(str(path)) as container:
        frames = [hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest() for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        return frames, b"".join(frame.to_ndarray().tobytes() for frame in container.decode(audio=0))


def test_a_siren_does_not_hold_the_mouth_open() -> None:
    """As in a session, a sound without speech is not followed for long; speech after it is."""
    time = np.arange(4 * 16_000) / 16_000
    siren = (0.3 * np.sin(2 * np.pi * np.cumsum(1000 - 500 * np.cos(np.pi * time)) / 16_000)).astype(np.float32)
    heard = np.concatenate([siren, read_recording(SAMPLE, 16_000)[: 16_000 * 4]])
    opened: list[float] = []
    frames = draw_frames(
        heard,
        Characters().get("2"),
        128,
        True,
        Articulation.load(),
        on_controls=lambda controls: opened.append(float(controls[INDEX["open"]])),
    )
    assert sum(1 for _ in frames) == 200
    assert max(opened[:25]) > 0.1 and max(opened[50:100]) < 0.1
    assert np.mean(np.array(opened[100:]) > 0.1) > 0.3


def test_a_folder_that_is_missing_is_known_before_anything_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`render` into no folder ends in a sentence, before networks are loaded or measured."""
    monkeypatch.setattr(render, "create", lambda *_, **__: pytest.fail("a generator was loaded"))
    assert render.main([str(SAMPLE), str(tmp_path / "missing" / "o.mp4")]) == 1
    assert "missing is not a folder" in capsys.readouterr().err


def test_speech_in_blocks_gives_the_same_frames(tmp_path: Path) -> None:
    """A recording that is streamed is drawn and heard to the bit as one that is held whole."""
    recording = open_recording(SAMPLE)
    seconds = 3
    entry, listener = Characters().get("2"), Articulation.load()
    whole = recording.read(16_000)[: 16_000 * seconds + 100]
    loud = recording.read(48_000)[: 48_000 * seconds + 300]
    cuts = np.random.default_rng(0).integers(0, len(whole), 40)
    blocks = np.split(whole, np.sort(cuts))  # of any length, empty ones among them
    frames = (draw_frames(speech, entry, 128, True, listener) for speech in (whole, iter(blocks)))
    sounds = (loud, iter(np.split(loud, np.sort(3 * cuts))))
    for name, pictures, sound in zip(("whole.mp4", "blocks.mp4"), frames, sounds, strict=True):
        assert render.write_video(tmp_path / name, pictures, sound, 128, lambda done: None) == 25 * seconds + 1
    assert _video(tmp_path / "whole.mp4") == _video(tmp_path / "blocks.mp4")
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "blocks.mp4").read_bytes()


def test_render_streams_what_it_reads(tmp_path: Path) -> None:
    """The command's video is that of the whole recording, and its recording is never asked for whole."""
    speech = tmp_path / "a.wav"
    with wave.open(str(SAMPLE)) as source, wave.open(str(speech), "wb") as out:
        out.setparams(source.getparams())
        out.writeframes(source.readframes(2 * source.getframerate()))
    out = tmp_path / "out.mp4"
    arguments = [str(speech), str(out), "--size", "128", "--generator", "rig", "--no-label", "--no-watermark"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recording, "read", lambda *_: pytest.fail("the whole recording was read"))
        assert render.main(arguments) == 0
    recording = open_recording(speech)
    frames = draw_frames(recording.read(16_000), Characters().get("1"), 128, True, Articulation.load())
    render.write_video(tmp_path / "same.mp4", frames, recording.read(48_000), 128, lambda done: None)
    assert _video(out) == _video(tmp_path / "same.mp4")


def test_a_mouth_that_never_opens_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording in which nobody speaks makes a video, and a sentence."""
    asked = ["--size", "128", "--generator", "rig"]
    assert render.main([str(_wav(tmp_path / "a.wav", seconds=0.4)), str(tmp_path / "o.mp4"), *asked]) == 0
    assert "the mouth stayed closed in all 10 frames: no speech was found" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a:b.mp4", "http:x.mp4", "-x.mp4", "müsik ✓.mp4", "a%d.mp4"])
def test_the_output_may_have_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colon makes no protocol, and a dash no option after `--`."""
    _wav(tmp_path / "-speech:.wav", seconds=0.2)
    monkeypatch.chdir(tmp_path)
    assert render.main(["--size", "128", "--generator", "rig", "--", "-speech:.wav", name]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["-speech:.wav", name])


def test_what_cannot_be_written_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing folder, a folder in the way, a file where frames should go, the recording itself: status 1."""
    speech = _wav(tmp_path / "a.wav", seconds=0.2)
    (tmp_path / "folder.mp4").mkdir()
    itself = _wav(tmp_path / "itself.mp4", seconds=0.2)
    asked = ["--size", "128", "--generator", "rig"]
    for arguments, says in (
        ([str(speech), str(tmp_path / "no" / "o.mp4")], "could not be written"),
        ([str(speech), str(tmp_path / "folder.mp4")], "could not be written"),
        ([str(speech), str(tmp_path / "o.mp4"), "--frames", str(speech)], "a.wav"),
        ([str(itself), str(itself)], "would be overwritten"),
    ):
        assert render.main([*arguments, *asked]) == 1
        said = capsys.readouterr().err
        assert says in said.splitlines()[-1] and "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "folder.mp4", "itself.mp4"]


@pytest.mark.parametrize("drawn", ["studio rig", "neural generator"])
def test_render_writes_a_playable_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: str) -> None:
    """
    The MP4 holds H.264 at 25 fps and AAC, of equal length; nothing else is left behind. A line says what drew, and how
    large.
    """
    speech, out = _wav(tmp_path / "a.wav", seconds=1.5), tmp_path / "out.mp4"
    asked = ["--character", "3", "--size", "128", "--generator", "rig" if drawn == "studio rig" else "neural"]
    assert render.main([str(speech), str(out), *asked]) == 0
    assert f"drawn by: {drawn}, 128×128 pixels\n" in capsys.readouterr().err
    with av.open(str(out)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        frames = list(container.decode(video))
    assert len(frames) == 38
    assert float(video.average_rate or 0) == 25
    assert abs(float((audio.duration or 0) * (audio.time_base or 0)) - 1.5) < 0.1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "out.mp4"]


@pytest.mark.parametrize(
    ("faced", "says"), [(True, "picture rig"), (False, "picture that moves as a whole")], ids=["face", "no face"]
)
def test_a_picture_is_drawn_by_its_rig_without_measuring(
    faced: bool, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, since nothing else would draw it here, and at the rig's default size."""

    def measure(device: str) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("streamer.avatar.capacity.measure", measure)
    monkeypatch.setattr("streamer.avatar.capacity.cache_folder", lambda: tmp_path / "cache")
    shown = Image.radial_gradient("L").resize((90, 120))
    if faced:
        with Rig(Character.from_seed(3), 160) as rig:
            shown = Image.fromarray(rig.draw(rest()))
    shown.save(tmp_path / "me.png")
    speech, out = _wav(tmp_path / "a.wav", seconds=0.2), tmp_path / "out.mp4"
    assert render.main([str(speech), str(out), "--character", str(tmp_path / "me.png")]) == 0
    assert f"drawn by: {says}, 512×512 pixels\n" in capsys.readouterr().err
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.width == 512


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad file or an unknown character ends with status 1 and a sentence."""
    speech = _wav(tmp_path / "a.wav", seconds=0.2)
    assert render.main([str(tmp_path / "no.wav"), str(tmp_path / "o.mp4")]) == 1
    assert "is not a file" in capsys.readouterr().err
    assert render.main([str(speech), str(tmp_path / "o.mp4"), "--character", "Nobody Here"]) == 1
    assert "'Nobody Here'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        render.main([str(speech), str(tmp_path / "o.avi")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one character, and what is none."""
    folder = tmp_path_factory.mktemp("me")
    for name, picture in poses().items():
        (folder / f"{name}.png").write_bytes(png(picture))
    (folder / "notes.txt").write_text("no picture")
    return folder


class TestCharacters:
    """What --character takes beside seeds and names."""

    def test_pictures_and_folders_are_packs(self, folder: Path) -> None:
        """Several files, or a folder's pictures, are one character."""
        entry = render.find_character([str(folder)], Characters())
        assert entry.pack is not None and set(entry.pack.others) == {"mouth_open", "smile", "look_aside"}
        assert entry.name == folder.name
        same = render.find_character([str(path) for path in sorted(folder.glob("*.png"))], Characters())
        assert same.id == entry.id and same.name == "idle"
        single = render.find_character([str(folder / "idle.png")], Characters())
        assert single.pack is not None and not single.pack.others

    def test_clips(self, folder: Path, tmp_path: Path) -> None:
        """A video is known by what it is, not by its name."""
        path = tmp_path / "me"
        path.write_bytes(clip([poses()["idle"], poses()["talk"]], 0.6))
        entry = render.find_character([str(path)], Characters())
        assert entry.pack is not None and entry.pack.others
        assert "clip_chosen" in {notice.code for notice in entry.pack.notices}

    def test_refusals(self, folder: Path, tmp_path: Path) -> None:
        """An empty folder, too many files, one that is not there: a sentence each."""
        for texts, says in (
            ([str(tmp_path)], "0 pictures were found"),
            ([str(folder / "idle.png")] * 9, "1 to 8 pictures, not 9"),
            ([str(folder / "idle.png"), str(folder / "gone.png")], "gone.png could not be read"),
        ):
            with pytest.raises(RequestError, match=says):
                render.find_character(texts, Characters())

    def test_odd_paths(self, tmp_path: Path) -> None:
        """A pipe, a name that is too long or holds a NUL, a folder that cannot be listed: a sentence each."""
        os.mkfifo(tmp_path / "pipe.png")
        closed = tmp_path / "closed"
        closed.mkdir()
        for texts, says in (
            ([str(tmp_path / "pipe.png")], "pipe.png is not a file"),
            (["x" * 5000], "is not a picture"),
            (["a\0b"], "is not a picture"),
        ):
            with pytest.raises(RequestError, match=says):
                render.find_character(texts, Characters())
        with pytest.MonkeyPatch.context() as patch:
            error = PermissionError(13, "Permission denied", str(closed))
            patch.setattr(Path, "iterdir", lambda _: (_ for _ in ()).throw(error))
            with pytest.raises(RequestError, match="closed could not be read: Permission denied"):
                render.find_character([str(closed)], Characters())

    def test_what_will_not_work_is_said(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A pack is drawn by the picture rig; its notices are read before the first frame."""
        speech, out = _wav(tmp_path / "a.wav", seconds=0.2), tmp_path / "out.mp4"
        pictures = [str(folder / "idle.png"), str(folder / "talk.png")]
        assert (
            render.main([str(speech), str(out), "--size", "128", "--generator", "rig", "--character", *pictures]) == 0
        )
        said = capsys.readouterr().err
        assert "the teeth show in the picture" in said.lower() and "picture rig" in said
        assert out.stat().st_size > 1000
