"""A clip: read within bounds whatever it says of itself, upright, and of its frames the best for each role are kept."""

import functools
import io
import struct
import time
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import numpy as np
import pytest
from drawn_faces import POSES, Drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from streamer.base.errors import BadPicture
from streamer.faces import clip
from streamer.faces.clip import MAX_AREA, MAX_EDGE, MAX_SECONDS, RATE, Frame, choose_frames, follow_face, read_clip
from streamer.faces.roles import ROLES
from streamer.studio.face_fit import FaceFit

QUADRANTS = np.zeros((96, 160, 3), np.uint8)
QUADRANTS[:48, :80], QUADRANTS[:48, 80:], QUADRANTS[48:, :80], QUADRANTS[48:, 80:] = (
    (200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 220),
)  # fmt: skip


def video(
    count: int,
    size: tuple[int, int] = (160, 96),
    codec: str = "libx264",
    container: str = "mp4",
    fps: int = 25,
    pts: Callable[[int], int] = lambda i: i,
    images: Sequence[np.ndarray] = (),
    transfer: int = 2,
) -> bytes:
    """`count` frames at `pts` of 1 / fps seconds: `images` by turns, or the four quadrants."""
    images = images or [np.asarray(Image.fromarray(QUADRANTS).resize(size, Image.Resampling.NEAREST))]
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as out:
        track = out.add_stream(codec, rate=fps)
        track.width, track.height, track.pix_fmt = *size, "yuv420p"
        track.codec_context.color_trc = transfer
        track.options = {"preset": "ultrafast", "crf": "20"} if codec == "libx264" else {}
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(images[i % len(images)], format="rgb24")
            frame.pts, frame.time_base = pts(i), Fraction(1, fps)
            out.mux(track.encode(frame))
        out.mux(track.encode())
    return stream.getvalue()


def sound() -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format="webm") as out:
        track = out.add_stream("libopus", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="flt", layout="mono")
        frame.sample_rate = 48000
        out.mux(track.encode(frame))
        out.mux(track.encode())
    return stream.getvalue()


def rotated(data: bytes, degrees: int) -> bytes:
    """An MP4 that is to be shown turned clockwise, as phones write it."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    at = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">i", data[at : at + 4]) == (1 << 16,)
    return data[:at] + matrix + data[at + 36 :]


def moving(kind: str, count: int = 10, milliseconds: int = 300) -> bytes:
    frames = [Image.fromarray(np.roll(QUADRANTS, 7 * i, 1)) for i in range(count)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], duration=milliseconds)
    return stream.getvalue()


def codes(notices: Sequence[object]) -> list[str]:
    return [notice.code for notice in notices]  # type: ignore[attr-defined]


class TestReading:
    @pytest.mark.parametrize(
        ("codec", "container"),
        [("libx264", "mp4"), ("libx264", "mov"), ("libvpx", "webm"), ("libvpx-vp9", "webm"), ("mpeg4", "avi")],
    )
    def test_formats(self, codec: str, container: str) -> None:
        """What browsers, phones and cameras record is read, five frames a second of it, in its own colours."""
        read = read_clip(video(50, codec=codec, container=container))
        assert read.notices == ()
        assert len(read.frames) == 10
        assert [frame.time for frame in read.frames] == pytest.approx(np.arange(10) / RATE, abs=0.05)
        for frame in read.frames:
            assert frame.pixels.shape == (96, 160, 4)
            for y, x in ((24, 40), (24, 120), (72, 40), (72, 120)):
                assert frame.pixels[y, x, :3].tolist() == pytest.approx(QUADRANTS[y, x].tolist(), abs=14)

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
    def test_moving_pictures(self, kind: str) -> None:
        """Pictures that move are clips too, each frame for as long as it is shown."""
        read = read_clip(moving(kind))
        assert [frame.time for frame in read.frames] == pytest.approx(0.3 * np.arange(10), abs=0.02)
        assert read.frames[4].pixels[24, 100, :3].tolist() == pytest.approx([200, 40, 40], abs=30)

    def test_a_still_picture_is_a_clip_of_one_frame(self) -> None:
        """A photograph given as a clip is one moment."""
        stream = io.BytesIO()
        Image.fromarray(QUADRANTS).save(stream, "JPEG")
        assert len(read_clip(stream.getvalue()).frames) == 1

    @pytest.mark.parametrize("degrees", [90, 180, 270])
    def test_rotation(self, degrees: int) -> None:
        """A phone's clip that was recorded turned is shown upright."""
        turned = np.ascontiguousarray(np.rot90(QUADRANTS, degrees // 90))
        data = rotated(video(5, turned.shape[1::-1], images=[turned]), degrees)
        pixels = read_clip(data).frames[0].pixels
        assert pixels.shape == (96, 160, 4)
        for y, x in ((24, 40), (24, 120), (72, 40), (72, 120)):
            assert pixels[y, x, :3].tolist() == pytest.approx(QUADRANTS[y, x].tolist(), abs=14)

    @pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (1440, 1440), (2048, 200)], ids=str)
    def test_frames_are_kept_small(self, size: tuple[int, int]) -> None:
        """No edge is longer, and no frame larger, than is kept; proportions stay."""
        height, width = read_clip(video(2, size)).frames[0].pixels.shape[:2]
        assert max(width, height) <= MAX_EDGE
        assert width * height <= MAX_AREA * 1.002
        assert width / height == pytest.approx(size[0] / size[1], rel=0.01)

    def test_hdr_is_told(self) -> None:
        """A clip in HLG, as phones record it, is taken, and its user is told of its colours."""
        read = read_clip(video(5, transfer=18))
        assert codes(read.notices) == ["clip_hdr"]
        assert "HLG" in read.notices[0].text

    def test_half_a_clip(self) -> None:
        """A recording that breaks off is used up to there, and that is said."""
        data = video(100, codec="libvpx", container="webm", images=_noise())
        read = read_clip(data[: len(data) // 2])
        assert 4 <= len(read.frames) <= 12
        assert set(codes(read.notices)) <= {"clip_damaged"}


def _noise() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (96, 160, 3), np.uint8) for _ in range(5)]


class TestBounds:
    def test_ten_minutes(self) -> None:
        """Of a clip of ten minutes the first seconds are read, no more frames kept than those have, and it is said."""
        read = read_clip(video(600, fps=1, pts=lambda i: i), "me.mp4")
        assert len(read.frames) <= MAX_SECONDS * RATE
        assert codes(read.notices) == ["clip_cut"]
        assert "first 12 s of me.mp4" in read.notices[0].text
        long = read_clip(video(400))
        assert len(long.frames) == MAX_SECONDS * RATE
        assert codes(long.notices) == ["clip_cut"]

    @pytest.mark.parametrize(
        "pts", [lambda i: i + 10**7, lambda i: 1000 * i, lambda i: i + 90_000 * (i > 20)], ids=["late", "rare", "gap"]
    )
    def test_odd_timestamps(self, pts: Callable[[int], int]) -> None:
        """Clips that start late, have a frame a minute or a hole of an hour are read from their first frame on."""
        read = read_clip(video(50, codec="libvpx", container="webm", pts=pts))
        assert 8 <= len(read.frames) <= MAX_SECONDS * RATE
        assert read.frames[0].time == 0
        assert all(a.time < b.time for a, b in zip(read.frames, read.frames[1:], strict=False))

    def test_decoded_pixels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However large and fast its frames, a clip costs no more than so many decoded pixels, and that is said."""
        monkeypatch.setattr(clip, "MAX_DECODED", 20 * 160 * 96)
        read = read_clip(video(100))
        assert len(read.frames) == 4
        assert codes(read.notices) == ["clip_cut"]

    def test_frames_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Frames larger than pictures may be are refused with their size."""
        monkeypatch.setattr(clip, "MAX_PIXELS", 15_000)
        with pytest.raises(BadPicture, match="160×96"):
            read_clip(video(5))
        with pytest.raises(BadPicture, match="160×96"):
            read_clip(moving("GIF"))


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "0 bytes"),
            (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not a WebM, MP4, MOV or AVI"),
            (b"ffconcat version 1.0\nfile /etc/passwd\n", "not a WebM, MP4, MOV or AVI"),
            (sound(), "no video, only audio"),
            (video(0), "me.mp4"),
            (video(1, (64, 48)), "64×48"),
            (video(30)[:300], "0 frames in its 300 bytes: it is damaged"),
            (moving("GIF")[:40], "0 frames in its 40 bytes: it is damaged"),
        ],
        ids=["empty", "playlist", "concat", "sound", "0 frames", "small", "cut video", "cut gif"],
    )
    def test_with_a_reason(self, data: bytes, says: str) -> None:
        """What is no clip gets a reason, and no playlist is followed."""
        with pytest.raises(BadPicture, match=says):
            read_clip(data, "me.mp4")


@functools.cache
def sample(kind: str) -> bytes:
    if kind in ("GIF", "PNG", "WEBP", "AVIF"):
        return moving(kind, 4)
    return video(20, codec="libvpx" if kind == "webm" else "libx264", container=kind)


@pytest.mark.parametrize("kind", ["mp4", "webm", "GIF", "PNG", "WEBP", "AVIF"])
@settings(max_examples=40, deadline=None)
@given(damage=st.data())
def test_damage_is_a_clip_or_refused(kind: str, damage: st.DataObject) -> None:
    """Truncated and flipped bits give frames or BadPicture, never another error, within a second of one core."""
    data = bytearray(sample(kind))
    del data[damage.draw(st.integers(0, len(data)), "kept bytes") :]
    for at in damage.draw(st.lists(st.integers(0, max(0, 8 * len(data) - 1)), max_size=12), "flipped bits"):
        if data:
            data[at // 8] ^= 1 << at % 8
    began = time.thread_time()
    try:
        assert 1 <= len(read_clip(bytes(data)).frames) <= MAX_SECONDS * RATE
    except BadPicture as error:
        assert str(error)
    assert time.thread_time() - began < 1


def filmed(*moments: dict[str, object]) -> tuple[list[Frame], list[FaceFit | None]]:
    """Frames of a drawn face, one for each moment; a moment of None has nobody in it."""
    drawn = [Drawn(**moment).picture() for moment in moments]  # type: ignore[arg-type]
    return [Frame(i / RATE, pixels) for i, (pixels, _) in enumerate(drawn)], [fit for _, fit in drawn]


class _Finder:
    """Finds the drawn face where it is looked for, with what was asked recorded."""

    def __init__(self, fits: Sequence[FaceFit | None]) -> None:
        self.fits = list(fits)
        self.asked: list[str] = []

    def find(self, picture: np.ndarray) -> list[FaceFit]:
        self.asked.append("find")
        fit = self.fits[int(picture[0, 0, 0])]
        return [] if fit is None else [fit]

    def look(self, picture: np.ndarray, box: Sequence[float], roll: float = 0.0) -> FaceFit | None:
        self.asked.append("look")
        fit = self.fits[int(picture[0, 0, 0])]
        if fit is None:
            return None
        x, y = fit.points[4, :2]
        return fit if box[0] < x < box[2] and box[1] < y < box[3] else None


class TestFollowing:
    def followed(self, places: Sequence[float | None]) -> tuple[list[bool], list[str]]:
        """Which frames have a face that lies at this column, and what was asked."""
        fits = [None if x is None else Drawn(centre=(x, 170.0)).picture()[1] for x in places]
        frames = [Frame(i / RATE, np.full((400, 400, 4), i, np.uint8)) for i in range(len(places))]
        finder = _Finder(fits)
        return [fit is not None for fit in follow_face(frames, finder)], finder.asked

    def test_where_it_was(self) -> None:
        """A face that moves a little is searched for once, then looked at where it was."""
        seen, asked = self.followed([150, 160, 175, 170])
        assert seen == [True] * 4
        assert asked == ["find", "look", "look", "look"]

    def test_lost_and_found(self) -> None:
        """A face that is gone is searched for no more than once a second, and found again."""
        seen, asked = self.followed([None] * 7 + [150] * 5)
        assert seen == [False] * 10 + [True] * 2
        assert asked == ["find"] * 3 + ["look"]
        seen, asked = self.followed([150, None, None, 150, 150])
        assert seen == [True, False, False, True, True]
        assert asked == ["find", "look", "look", "look", "look"]


class TestChoosing:
    def test_the_best_for_each_role(self) -> None:
        """The calm frame is animated, widest mouth, most closed eyes and so on are lent, the rest is forgotten."""
        moments = [
            {"gap": 0.1}, {"yaw": 0.3}, {}, {"gap": 0.12}, {"gap": 0.22}, {"lids": 0.12}, {"lids": 0.03},
            {"gap": 0.09, "teeth": 0.8}, {"smile": 0.9}, {"gaze": 0.13}, {"gap": 0.2, "yaw": 0.5},
        ]  # fmt: skip
        frames, fits = filmed(*moments)
        pack = choose_frames(frames, fits)
        assert pack.neutral is frames[2].pixels
        assert {one.role: one.name for one in pack.chosen} == {
            "neutral": "0.4 s",
            "mouth_open": "0.8 s",
            "teeth": "1.4 s",
            "eyes_shut": "1.2 s",
            "smile": "1.6 s",
            "look_aside": "1.8 s",
        }
        assert {one.by for one in pack.chosen} == {"face"}
        assert codes(pack.notices) == ["clip_chosen"]
        assert "eyes shut at 1.2 s" in pack.notices[0].text
        assert "Nothing else of its 11 frames is kept" in pack.notices[0].text

    def test_blurred_frames_are_passed_over(self) -> None:
        """Of two calm frames, and of two open mouths, the sharp one is taken, not the calmer or wider one."""
        frames, fits = filmed({}, {"gap": 0.02, "gaze": 0.035}, {"gap": 0.2}, {"gap": 0.17})
        for i in (0, 2):
            image = Image.fromarray(frames[i].pixels)
            small = image.resize((40, 40), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
            frames[i] = Frame(frames[i].time, np.asarray(small))
        pack = choose_frames(frames, fits)
        assert {one.role: one.name for one in pack.chosen} == {"neutral": "0.2 s", "mouth_open": "0.6 s"}

    def test_who_moves_is_aligned(self) -> None:
        """A head that moved between the frames lies on the neutral one."""
        frames, fits = filmed({}, {"lids": 0.03, "centre": (230.0, 190.0), "eyes": 130.0})
        member = choose_frames(frames, fits).others["eyes_shut"]
        _, wanted = Drawn(lids=0.03).picture()
        assert member.fit.points == pytest.approx(wanted.points, abs=0.2)

    def test_frames_without_a_face(self) -> None:
        """Frames without a face are passed over; a clip without any is refused with the number of its frames."""
        frames, fits = filmed(*(POSES[role] for role in ROLES))
        assert choose_frames(frames, [*fits[:3], None, *fits[4:]]).others.keys() == {
            "mouth_open",
            "teeth",
            "smile",
            "look_aside",
        }
        with pytest.raises(BadPicture, match="any of the clip's 6 frames"):
            choose_frames(frames, [None] * 6)

    def test_a_glance_is_not_rest(self) -> None:
        """Where the landmarks' idea of straight ahead is off, what a face does most of the time is its rest."""
        frames, fits = filmed(*[{"gaze": 0.08, "gap": 0.03 * (i != 3)} for i in range(6)], {"gaze": 0.0})
        pack = choose_frames(frames, fits)
        assert pack.neutral is frames[3].pixels
        assert pack.chosen[1].role == "look_aside"

    def test_one_frame(self) -> None:
        """A clip of one frame is a picture."""
        pack = choose_frames(*filmed({"gap": 0.1}))
        assert pack.others == {}
        assert codes(pack.notices) == ["clip_chosen"]
