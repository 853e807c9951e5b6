"""`lipstream render`: files in, files out."""

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
from streamer.cli.render import BadSpeech, draw_frames, read_speech
from streamer.motion.articulation import Articulation
from streamer.motion.controls import rest
from streamer.studio.character import Character
from streamer.studio.rig import Rig

SAMPLE = Path(__file__).parent.parent / "clients" / "page" / "sample.wav"


def _wav(path: Path, rate: int = 16_000, channels: int = 1, seconds: float = 1.0) -> Path:
    t = np.arange(int(rate * seconds)) / rate
    tone = (8000 * np.sin(2 * np.pi * 220 * t)).astype("<i2")
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
    heard, kept = read_speech(_wav(tmp_path / "a.wav", rate, channels))
    assert abs(len(heard) - 16_000) <= 32
    assert abs(len(kept) - 48_000) <= 96
    assert 0.05 < np.abs(heard).max() <= 1.0


def test_what_holds_no_speech_is_refused(tmp_path: Path) -> None:
    """Missing, empty, no media, video only, shorter than a frame: a reason each."""
    empty, text, short = tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "short.wav"
    empty.write_bytes(b"")
    text.write_text("this is not a recording" * 100)
    _wav(short, seconds=0.01)
    for path, says in (
        (tmp_path / "none.wav", "is not a file"),
        (empty, "0 bytes"),
        (text, "could not be read"),
        (_video_only(tmp_path / "video.mp4"), "holds no sound, only video"),
        (short, "160 samples"),
    ):
        with pytest.raises(BadSpeech, match=says):
            read_speech(path)


def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Half a recording gives half the speech."""
    cut = tmp_path / "cut.wav"
    whole = _wav(tmp_path / "whole.wav", seconds=2.0).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    heard, _ = read_speech(cut)
    assert abs(len(heard) - 16_000) < 200


def test_the_same_speech_gives_the_same_frames() -> None:
    """Rendering twice is identical to the byte, and a frame answers each 40 ms."""
    heard, _ = read_speech(SAMPLE)
    heard = heard[: 16_000 * 2 + 100]
    entry = Characters().get("2")
    first, second = (
        [image.copy() for image in draw_frames(heard, entry, 128, True, Articulation.load())] for _ in range(2)
    )
    assert len(first) == 51
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    changes = [int(np.abs(a.astype(int) - b).sum()) for a, b in zip(first, first[1:], strict=False)]
    assert max(changes) > 0


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
