"""Recordings as people have them: heard, repaired, or refused in one sentence that names the file."""

import shutil
import struct
import wave
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.media.recordings import BadRecording, Timeline, open_recording, read_recording

RATE = 16_000


def tone(seconds: float = 1.0, rate: int = RATE, hz: float = 220.0, loud: float = 0.3) -> np.ndarray:
    """[n] float32."""
    return (loud * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def wav(path: Path, samples: np.ndarray, rate: int = RATE, mask: int | None = None) -> Path:
    """A WAV of [n] or [n, c] int16, float32 or float64; without a `mask` its channels have no names."""
    samples = samples if samples.ndim == 2 else samples[:, None]
    kind, width = (3 if samples.dtype.kind == "f" else 1), samples.dtype.itemsize
    channels = samples.shape[1]
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * width, channels * width, 8 * width)
    if mask is not None:
        guid = struct.pack("<H", kind) + bytes.fromhex("000000001000800000aa00389b71")
        form = struct.pack("<H", 0xFFFE) + form[2:] + struct.pack("<HHI", 22, 8 * width, mask) + guid
    data = samples.tobytes()
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


def coded(
    path: Path, tracks: Iterable[np.ndarray], codec: str = "libopus", times: Callable[[float], float] = float
) -> Path:
    """A file with a track for each [n] float32 at 48 kHz, whose packets' times pass through `times` (s)."""
    with av.open(str(path), "w") as container:
        streams = [(container.add_stream(codec, rate=48_000, layout="mono"), samples) for samples in tracks]
        for stream, samples in streams:
            frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            wanted = stream.codec_context
            resampler = av.AudioResampler(wanted.format.name, "mono", 48_000, frame_size=wanted.frame_size or 960)
            pieces = [*resampler.resample(frame), *resampler.resample(None)]
            for packet in [packet for piece in [*pieces, None] for packet in stream.encode(piece)]:
                assert packet.pts is not None and packet.time_base is not None
                at = float(packet.pts * packet.time_base)
                packet.pts = packet.dts = round(times(at) / packet.time_base)
                container.mux(packet)
    return path


def level(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_sound_without_a_channel_mask(tmp_path: Path, rate: int, kind: type) -> None:
    """A plain WAV that names no channels is read, whatever its rate and its samples' type."""
    samples = tone(rate=rate)
    path = wav(tmp_path / "a.wav", (samples * 32767).astype(kind) if kind is np.int16 else samples.astype(kind), rate)
    heard = read_recording(path, RATE)
    assert len(heard) == pytest.approx(RATE, abs=32)
    assert level(heard) == pytest.approx(level(samples), rel=0.01)


@pytest.mark.parametrize("mask", [None, 3], ids=["unnamed", "stereo"])
def test_opposite_phase_is_heard(tmp_path: Path, mask: int | None) -> None:
    """Two channels that cancel each other are not mixed, and it is said."""
    recording = open_recording(wav(tmp_path / "a.wav", np.stack([tone(), -tone()], 1), mask=mask))
    assert level(recording.read(RATE)) == pytest.approx(level(tone()), rel=0.01)
    assert "channel 1 of 2 is used" in recording.notices[0]


def test_opposite_phase_in_half_a_recording(tmp_path: Path) -> None:
    """A channel that is there throughout is taken if the mix loses a part."""
    left, right = tone(4), np.concatenate([tone(2), -tone(2)])
    heard = read_recording(wav(tmp_path / "a.wav", np.stack([left, right], 1)), RATE)
    assert level(heard[3 * RATE :]) == pytest.approx(level(left), rel=0.01)


@pytest.mark.parametrize(("channels", "mask"), [(3, None), (5, None), (6, 0x3F), (8, 0x63F), (16, None), (40, None)])
def test_one_voice_on_any_of_many_channels(tmp_path: Path, channels: int, mask: int | None) -> None:
    """It is heard about as loud as it is, wherever it lies: in the effects channel, too."""
    for channel in range(channels):
        samples = np.zeros((RATE, channels), np.float32)
        samples[:, channel] = tone()
        heard = read_recording(wav(tmp_path / "a.wav", samples, mask=mask), RATE)
        assert 0.4 < level(heard) / level(tone()) < 1.01, channel


def test_two_who_speak_on_a_channel_each(tmp_path: Path) -> None:
    """Both are heard: channels that take turns are mixed."""
    silence = np.zeros(2 * RATE, np.float32)
    both = np.stack([np.concatenate([tone(2), silence]), np.concatenate([silence, tone(2, hz=300)])], 1)
    heard = read_recording(wav(tmp_path / "a.wav", both, mask=3), RATE)
    assert level(heard[:RATE]) == pytest.approx(level(heard[3 * RATE :]), rel=0.05) and level(heard[:RATE]) > 0.1


def test_channels_and_rates_that_change(tmp_path: Path) -> None:
    """MP3s of one and two channels and of two rates, one after the other, are read to the end."""
    joined = b""
    for rate, layout in ((44_100, "mono"), (44_100, "stereo"), (22_050, "mono")):
        path = tmp_path / "part.mp3"
        with av.open(str(path), "w", options={"write_xing": "0", "id3v2_version": "0"}) as container:
            stream = container.add_stream("libmp3lame", rate=rate, layout=layout)
            frame = av.AudioFrame.from_ndarray(
                np.repeat(tone(rate=rate)[None], 1 + (layout == "stereo"), 0), "fltp", layout
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for piece in [*av.AudioResampler("fltp", layout, rate, frame_size=1152).resample(frame), None]:
                container.mux(stream.encode(piece))
        joined += path.read_bytes()
    (tmp_path / "joined.mp3").write_bytes(joined)
    heard = read_recording(tmp_path / "joined.mp3", RATE)
    assert len(heard) / RATE == pytest.approx(3.0, abs=0.25)
    for second in (0.5, 1.5, 2.5):
        assert level(heard[int((second - 0.2) * RATE) : int((second + 0.2) * RATE)]) > 0.1, second


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_number_are_silence(tmp_path: Path, bad: float) -> None:
    """They are counted, and the rest is as loud as it was."""
    samples = tone()
    samples[[100, 8000]] = bad
    recording = open_recording(wav(tmp_path / "a.wav", samples))
    heard = recording.read(48_000)
    assert np.isfinite(heard).all() and level(heard) == pytest.approx(level(tone()), rel=0.01)
    assert recording.notices[-1].endswith(": 2")


def test_a_click_does_not_drown_the_rest(tmp_path: Path) -> None:
    """One damaged sample far out of range is clipped; a recording that is scaled otherwise is brought into range."""
    samples = tone(10)
    samples[70_000] = 1e6
    assert level(read_recording(wav(tmp_path / "a.wav", samples), RATE)) > 0.05
    heard = read_recording(wav(tmp_path / "b.wav", tone(2) * 32768), RATE)
    assert 0.9 < np.abs(heard).max() <= 1.0


@pytest.mark.parametrize("name", ["gap.webm", "gap.mkv", "gap.ogg"])
def test_a_gap_in_the_timestamps_is_silence(tmp_path: Path, name: str) -> None:
    """Four seconds with two missing between them last six."""
    recording = open_recording(coded(tmp_path / name, [tone(4, 48_000)], times=lambda t: t + 2 * (t > 1.99)))
    heard = recording.read(RATE)
    assert recording.seconds == pytest.approx(6, abs=0.05) and len(heard) == pytest.approx(6 * RATE, abs=800)
    assert level(heard[int(2.2 * RATE) : int(3.8 * RATE)]) == 0 and level(heard[5 * RATE :]) > 0.1
    assert "gaps in the timestamps that silence fills: 1" in recording.notices[0]


def test_packets_that_were_lost_one_by_one(tmp_path: Path) -> None:
    """Each 20 ms that a recorder missed is 20 ms of silence: a hundred of them do not shorten the speech by 2 s."""
    path = coded(tmp_path / "a.mkv", [tone(4, 48_000)], times=lambda t: t + 0.02 * int(t / 0.04 + 1e-6))
    assert open_recording(path).seconds == pytest.approx(6, abs=0.1)


def test_a_gap_of_hours_is_refused(tmp_path: Path) -> None:
    """With its place and its length."""
    path = coded(tmp_path / "a.mkv", [tone(1, 48_000)], times=lambda t: t + 9000 * (t > 0.5))
    with pytest.raises(BadRecording, match=r"a\.mkv has a gap of 9000 s in its timestamps at 0\.5 s: at most 600 s"):
        open_recording(path)


class TestTimeline:
    """Decisions about timestamps, without a file."""

    def _total(self, starts: list[float | None], duration: float = 0.02) -> float:
        timeline = Timeline()
        for start, following in zip(starts, [*starts[1:], None], strict=True):
            timeline.silence_before(start, duration, following)
        return timeline.position

    def test_jitter_makes_no_silence(self) -> None:
        """Containers that round to milliseconds, and clocks that jitter by half a packet."""
        starts: list[float | None] = [k * 0.02 + 0.009 * (k % 2) for k in range(500)]
        assert self._total(starts) == pytest.approx(10)

    def test_one_mistaken_timestamp_is_ignored(self) -> None:
        """Far ahead, far behind, or below zero."""
        for wrong in (500.0, -500.0, 0.0):
            starts: list[float | None] = [k * 0.02 for k in range(500)]
            starts[250] = wrong
            assert self._total(starts) == pytest.approx(10), wrong

    def test_timestamps_that_begin_anew_go_on(self) -> None:
        """Files that were joined; a gap after that is still one."""
        first = [k * 0.02 for k in range(250)]
        again = [k * 0.02 + (3 if k >= 100 else 0) for k in range(250)]
        assert self._total([*first, *again]) == pytest.approx(13)

    def test_frames_without_timestamps_follow_each_other(self) -> None:
        """As in bare streams."""
        assert self._total([None] * 50) == pytest.approx(1)

    def test_negative_timestamps_are_a_beginning(self) -> None:
        """Encoders' delays are written so."""
        assert self._total([-1.0 + k * 0.02 for k in range(50)]) == pytest.approx(1)


def test_the_track_with_sound_is_taken(tmp_path: Path) -> None:
    """Of several, if the default one is silent; otherwise the default one."""
    silent = np.zeros(48_000, np.float32)
    recording = open_recording(coded(tmp_path / "a.mka", [silent, tone(1, 48_000)], "flac"))
    assert level(recording.read(RATE)) > 0.1
    assert recording.notices == ("sound track 2 of 2 is used: the default, track 1, is silent",)
    quiet, loud = tone(1, 48_000, loud=0.05), tone(1, 48_000, loud=0.5)
    assert level(read_recording(coded(tmp_path / "b.mka", [quiet, loud], "flac"), RATE)) < 0.1


@pytest.mark.parametrize(("loud", "says"), [(0.0, "all its samples are 0"), (1e-5, "-103 dBFS")])
def test_silence_is_known(tmp_path: Path, loud: float, says: str) -> None:
    """What nobody can hear is refused where a voice is needed."""
    recording = open_recording(wav(tmp_path / "quiet.wav", tone(loud=loud)))
    assert recording.silent
    with pytest.raises(BadRecording, match=rf"quiet\.wav is silent: .*{says}"):
        recording.refuse_silence()


@pytest.mark.parametrize(
    "name", ["a:b.wav", "http:a.wav", "pipe:0", "-a.wav", "müsik ✓.wav", "a%03d.wav", "concat:x|y.wav", "a\nb.wav"]
)
def test_any_name_will_do(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are names, not protocols, options or patterns, relative ones included."""
    wav(tmp_path / name, tone())
    monkeypatch.chdir(tmp_path)
    assert open_recording(Path(name)).seconds == 1.0


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    """One sentence that names the file: folders, empty and foreign files, sound of no length, playlists."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("no recording at all\n" * 99)
    wav(tmp_path / "other.wav", tone())
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.wav\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    wav(tmp_path / "slow.wav", tone(), rate=20)
    for name, says in (
        ("folder", "is a folder, not a file"),
        ("missing.wav", "is not a file"),
        ("empty.wav", "is empty: 0 bytes"),
        ("text.mp3", "could not be read"),
        ("list.m3u8", "could not be read"),
        ("slow.wav", "is sampled at 20 Hz"),
    ):
        with pytest.raises(BadRecording) as caught:
            open_recording(tmp_path / name)
        said = str(caught.value)
        assert said.startswith(str(tmp_path / name)) and says in said and "\n" not in said


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's reason is the sentence."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = wav(tmp_path / "a.wav", tone())
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadRecording, match=r"a\.wav could not be read: Permission denied"):
        open_recording(path)


@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.mka", "a.m4a", "a.wav"])
def test_damaged_files_end_in_a_sentence_or_in_sound(tmp_path: Path, name: str) -> None:
    """Cut off at any place, or with bytes overturned: BadRecording, or sound within range; nothing else is raised."""
    codecs = {"mp3": "libmp3lame", "flac": "flac", "mka": "aac", "m4a": "aac", "wav": "pcm_s16le"}
    whole = coded(tmp_path / name, [tone(1, 48_000)], codecs[name[2:]]).read_bytes()
    rng = np.random.default_rng(0)
    variants = [whole[: len(whole) * share // 20] for share in range(20)]
    for _ in range(20):
        bad = bytearray(whole)
        for at in rng.integers(0, len(bad), 9):
            bad[at] ^= int(rng.integers(1, 256))
        variants.append(bytes(bad))
    read = 0
    for data in variants:
        (tmp_path / name).write_bytes(data)
        try:
            heard = read_recording(tmp_path / name, RATE)
        except BadRecording as error:
            assert name in str(error)
        else:
            read += 1
            assert np.isfinite(heard).all() and np.abs(heard).max(initial=0) <= 1
    assert read, "nothing could be read"


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    """It is read as far as it goes."""
    path = coded(tmp_path / "a.flac", [tone(4, 48_000)], "flac")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    recording = open_recording(path)
    assert 1.5 < recording.seconds < 2.5
    assert recording.notices[0] == f"it breaks off after {recording.seconds:.1f} of 4.0 s"


def test_too_long_is_refused(tmp_path: Path) -> None:
    """By what the file states, and by what it turns out to hold."""
    path = wav(tmp_path / "a.wav", tone(3))
    with pytest.raises(BadRecording, match="lasts 3 s: at most 2 s"):
        open_recording(path, max_seconds=2)
    endless = coded(tmp_path / "a.ts", [tone(3, 48_000)], "libmp3lame")
    with pytest.raises(BadRecording, match="at most 2 s|more than 2 s"):
        open_recording(endless, max_seconds=2)


def test_no_more_than_a_second_is_held(tmp_path: Path) -> None:
    """Blocks stay small however long the file, its packets and its gaps are, and together are the whole."""
    for path in (
        wav(tmp_path / "a.wav", np.tile(tone(10), 30)),
        coded(tmp_path / "a.mka", [tone(2, 48_000)], times=lambda t: t + 100 * (t > 1)),
    ):
        recording = open_recording(path)
        lengths = [len(block) for block in recording.blocks(RATE)]
        assert max(lengths) <= 1.1 * RATE and sum(lengths) == pytest.approx(recording.seconds * RATE, abs=32)


def test_a_recording_that_goes_away_is_a_sentence(tmp_path: Path) -> None:
    """Between the survey and the reading."""
    path = wav(tmp_path / "a.wav", tone())
    recording = open_recording(path)
    path.unlink()
    with pytest.raises(BadRecording, match=r"a\.wav could not be read: No such file"):
        recording.read(RATE)


def test_mono_is_left_as_it_is(tmp_path: Path) -> None:
    """To the bit, at its own rate."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        samples = np.arange(-20_000, 20_000, dtype="<i2")
        out.writeframes(samples.tobytes())
    shutil.copy(tmp_path / "a.wav", tmp_path / "b")
    assert np.array_equal(read_recording(tmp_path / "b", RATE), samples / np.float32(32768))
