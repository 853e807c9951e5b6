"""Label and watermark: what they do to a picture, and that the mark is found after coding and scaling, and else not."""

import asyncio
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import RunningServer
from lipstream_client import Client
from peers import spoken
from PIL import Image

from streamer.avatar.characters import Characters
from streamer.base.constants import SIZES
from streamer.base.image import Picture, Yuv
from streamer.cli import render
from streamer.media.video_encoder import VideoEncoder, ceiling, to_yuv
from streamer.motion.controls import INDEX, rest
from streamer.provenance import detector
from streamer.provenance.detector import THRESHOLD, BadVideo, Detector, chance
from streamer.provenance.marker import Marker, label, signs


def _talk(seed: int, size: int, background: bool, frames: int = 25) -> list[np.ndarray]:
    """A second of a character that talks, nods and sways."""
    rig = Characters().get(str(seed)).rig(size, background)
    drawn = []
    for k in range(frames):
        controls = rest()
        controls[INDEX["open"]] = 0.5 - 0.5 * np.cos(k)
        controls[INDEX["yaw"]] = 0.1 * np.sin(k / 8)
        controls[INDEX["pitch"]] = 0.05 * np.sin(k / 5)
        drawn.append(rig.draw(controls, k / 25).copy())
    rig.close()
    return drawn


def _marked(frames: list[np.ndarray], planes: bool = False, **what: bool) -> list[Picture]:
    marker = Marker(frames[0].shape[0], **what)
    copies: list[Picture] = [Yuv(to_yuv(frame).to_ndarray()) if planes else frame.copy() for frame in frames]
    for copy in copies:
        marker.apply(copy)
    return copies


def _coded(frames: list[Picture], codec: str, bitrate: int) -> list[np.ndarray]:
    """Brightness [S, S] after the session's own encoder."""
    size = frames[0].size if isinstance(frames[0], Yuv) else frames[0].shape[0]
    encoder, decoder = VideoEncoder(codec, size), av.CodecContext.create({"H264": "h264", "VP8": "vp8"}[codec], "r")
    encoder.set_bitrate(bitrate)
    seen = []
    for k, frame in enumerate(frames):
        seen += decoder.decode(encoder.encode(frame, k))
    seen += decoder.decode(None)
    return [picture.to_ndarray()[:size] for picture in seen]


def _scaled(grey: list[np.ndarray], size: int) -> list[np.ndarray]:
    return [np.asarray(Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC)) for each in grey]


def _seen(grey: list[np.ndarray]) -> Detector:
    detector = Detector()
    for each in grey:
        detector.add(each)
    return detector


def _outside(size: int) -> np.ndarray:
    """[S, S] bool: where there is no label."""
    _, rows, columns = label(size)
    outside = np.ones((size, size), bool)
    outside[rows, columns] = False
    return outside


class TestPicture:
    @pytest.mark.parametrize("size", [128, 256, 512])
    def test_a_watermark_changes_little(self, size: int) -> None:
        """At least 42 dB beside the unmarked frame, and no colour of it by more than 6 levels."""
        for seed in (1, 2, 4):
            (plain,) = _talk(seed, size, True, 1)
            (marked,) = _marked([plain], label=False)
            difference = marked[..., :3].astype(float) - plain[..., :3]
            assert 10 * np.log10(255**2 / np.mean(difference**2)) >= 42
            assert 1 <= np.abs(difference).max() <= 6
            assert (marked[..., 3] == plain[..., 3]).all()

    def test_nothing_stands_where_nothing_was(self) -> None:
        """Without a background, places of no alpha stay as they are, and no alpha changes, but for the label's."""
        (plain,) = _talk(1, 256, False, 1)
        (marked,) = _marked([plain])
        outside = _outside(256)
        empty = (plain[..., 3] == 0) & outside
        assert empty.sum() > 10_000
        assert (marked[empty] == plain[empty]).all()
        assert (marked[..., 3] == plain[..., 3])[outside].all()
        assert (marked[outside] != plain[outside]).any()

    def test_black_planes_stay_black(self) -> None:
        """Planes are black where nothing was drawn: there they stay as they are, and no colour plane is touched."""
        (plain,) = _talk(1, 256, False, 1)
        before = Yuv(to_yuv(plain).to_ndarray())
        (after,) = _marked([plain], planes=True, label=False)
        assert isinstance(after, Yuv)
        black = before.brightness <= 16
        assert black.sum() > 10_000
        assert (after.brightness == before.brightness)[black].all()
        assert (after.brightness != before.brightness)[~black].mean() > 0.3
        assert (after.colour == before.colour).all()

    @pytest.mark.parametrize("level", [0, 1, 254, 255])
    def test_extremes_do_not_turn_over(self, level: int) -> None:
        """Nearly black stays nearly black, nearly white nearly white."""
        image = np.full((256, 256, 4), level, np.uint8)
        image[..., 3] = 255
        (marked,) = _marked([image], label=False)
        assert np.abs(marked[..., :3].astype(int) - level).max() <= 6
        assert (marked[..., 3] == 255).all()

    @pytest.mark.parametrize("level", [16, 17, 234, 235])
    def test_planes_keep_their_range(self, level: int) -> None:
        """Brightness stays between 16 and 235."""
        planes = Yuv(np.full((384, 256), level, np.uint8))
        Marker(256, label=False).apply(planes)
        assert 16 <= planes.brightness.min() and planes.brightness.max() <= 235
        assert np.abs(planes.brightness.astype(int) - level).max() <= 6

    def test_dark_areas_are_marked_less_and_edges_more(self) -> None:
        """The mark is strongest where it is hidden, weakest where eyes see the smallest steps."""
        image = np.full((256, 256, 4), 255, np.uint8)
        image[:128, :, :3] = 30
        image[128:192, :, :3] = 128
        image[192:, :, :3] = (np.arange(256) // 4 % 2 * 60 + 100)[None, :, None]
        (marked,) = _marked([image], label=False)
        change = (marked[..., 0].astype(float) - image[..., 0]) ** 2
        dark, even, busy = (np.sqrt(change[rows].mean()) for rows in (slice(8, 120), slice(136, 184), slice(200, 248)))
        assert dark < 0.85 * even < 0.85 * 0.85 * busy

    def test_one_marker_follows_its_session(self) -> None:
        """
        Strengths are chosen anew by the ninth frame; what became transparent is left alone at once; planes may come
        instead of colours.
        """
        dark, even, empty = (np.full((256, 256, 4), level, np.uint8) for level in (30, 128, 0))
        dark[..., 3] = even[..., 3] = 255
        marker = Marker(256, label=False)
        changes = []
        for plain in (dark, *[even] * 8):
            image = plain.copy()
            marker.apply(image)
            changes.append(np.mean((image[..., 0].astype(float) - plain[..., 0]) ** 2))
        assert changes[7] == changes[1] == changes[0] < 0.6 * changes[8]
        image = empty.copy()
        marker.apply(image)
        assert (image == empty).all()
        planes = Yuv(to_yuv(even).to_ndarray())
        before = planes.copy()
        marker.apply(planes)
        (fresh,) = _marked([even], planes=True, label=False)
        assert isinstance(fresh, Yuv)
        assert (planes.planes == fresh.planes).all() and (planes.planes != before.planes).any()

    def test_each_mark_can_be_left_out(self) -> None:
        """Without both nothing changes; the label alone changes only its corner."""
        (plain,) = _talk(1, 256, True, 1)
        (none,) = _marked([plain], label=False, watermark=False)
        assert (none == plain).all()
        (labelled,) = _marked([plain], watermark=False)
        outside = _outside(256)
        assert (labelled[outside] == plain[outside]).all()
        assert (labelled[~outside] != plain[~outside]).any()

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("ground", [0, 128, 255])
    def test_the_label_is_legible(self, size: int, ground: int) -> None:
        """On any ground its writing stands out by 100 levels and is 7 pixels high at least; in planes as in colours."""
        image = np.full((size, size, 4), ground, np.uint8)
        image[..., 3] = 255
        _, rows, columns = label(size)
        assert rows.stop <= size and columns.stop <= size
        planes = Yuv(to_yuv(image).to_ndarray())
        for picture in (image, planes):
            Marker(size, watermark=False).apply(picture)
        for patch, white in ((image[rows, columns, 1], 255), (planes.brightness[rows, columns], 235)):
            written = patch > 0.85 * white
            if ground == 255:
                written[:, [0, -1]] = written[[0, -1]] = (
                    False  # the pill's rounded corners let the white ground through
                )
                written &= np.asarray(label(size)[0][..., 0] > 0.5)
            inside = written.any(1).nonzero()[0]
            assert inside[-1] - inside[0] + 1 >= 7
            pill = patch[patch.shape[0] // 2, 2]
            assert white * 0.9 - pill >= 100

    def test_the_label_stands_by_itself(self) -> None:
        """Over no background it brings its own alpha: writing opaque, pill less."""
        image = np.zeros((256, 256, 4), np.uint8)
        Marker(256, watermark=False).apply(image)
        _, rows, columns = label(256)
        patch = image[rows, columns]
        assert patch[..., 3].max() == 255
        assert 140 <= patch[patch.shape[0] // 2, 2, 3] <= 180
        assert (patch[patch[..., 3] == 255][:, 0] > 230).all()

    @pytest.mark.parametrize("size", [64, 100, 200])
    def test_other_sizes_are_refused(self, size: int) -> None:
        """The cells must fit, and the error says so; a label fits everywhere."""
        with pytest.raises(ValueError, match=str(size)):
            Marker(size)
        Marker(size, watermark=False)


class TestDetection:
    @pytest.mark.parametrize("codec", ["H264", "VP8"])
    @pytest.mark.parametrize(
        ("size", "background", "planes"),
        [(128, True, False), (256, True, False), (256, False, False), (256, True, True), (512, True, False)],
        ids=["128", "256", "256-transparent", "256-planes", "512"],
    )
    def test_a_mark_outlasts_coding_and_scaling(self, codec: str, size: int, background: bool, planes: bool) -> None:
        """A second of it, coded at a quarter of the ceiling, is found as it is, halved, and doubled."""
        seen = _coded(_marked(_talk(2, size, background), planes), codec, ceiling(size) // 4)
        for scaled in (seen, _scaled(seen, size // 2), _scaled(seen, 2 * size)):
            found = _seen(scaled)
            assert found.marked, found.score
            assert found.frames == 25

    @pytest.mark.parametrize("seed", [1, 3])
    def test_outlines_do_not_drown_the_mark(self, seed: int) -> None:
        """Found at an eighth of the ceiling in a character alone, whose outlines are a hundred times as strong."""
        seen = _coded(_marked(_talk(seed, 256, False)), "VP8", ceiling(256) // 8)
        assert _seen(seen).marked

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_what_bears_no_mark_is_not_found(self, seed: int) -> None:
        """Neither a character without one, nor one with a label alone."""
        plain = _talk(seed, 256, True, 10)
        for frames in (plain, _marked(plain, watermark=False)):
            assert abs(_seen(_coded(list(frames), "H264", ceiling(256))).score) < 4.5

    def test_other_signs_find_what_chance_finds(self) -> None:
        """Over two thousand other patterns, scores of a marked clip are as those of chance: mean 0, spread 1."""
        evidence = _seen(_coded(_marked(_talk(1, 256, True, 10)), "H264", ceiling(256))).evidence
        scores = np.array([np.sum(evidence * signs(f"other {i}")) for i in range(2000)])
        assert abs(scores.mean()) < 0.1
        assert 0.95 < scores.std() < 1.05
        assert np.abs(scores).max() < THRESHOLD

    def test_the_threshold_leaves_little_to_chance(self) -> None:
        """Fewer than one in a million unmarked videos score as much."""
        assert chance(THRESHOLD) < 1e-6
        assert chance(0) == chance(-9) == 1
        assert chance(6) < chance(5) < 1

    def test_a_cropped_picture_is_found_where_it_lies(self) -> None:
        """Laid into a larger one a mark is lost, and found again at its place."""
        whole = []
        for grey in _coded(_marked(_talk(4, 256, True)), "H264", ceiling(256)):
            canvas = np.full((360, 640), 90, np.uint8)
            canvas[50:306, 200:456] = grey
            whole.append(canvas)
        assert not _seen(whole).marked
        assert _seen([np.ascontiguousarray(canvas[50:306, 200:456]) for canvas in whole]).marked

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_an_empty_picture_says_nothing(self, level: int) -> None:
        """One colour scores nought, and no frame at all as well."""
        assert _seen([np.full((240, 320), level, np.uint8)] * 3).score == 0
        assert _seen([]).score == 0


def _write(path: Path, frames: list[Picture]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "20"})
        first = to_yuv(frames[0])
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, "yuv420p"
        for k, frame in enumerate(frames):
            picture = to_yuv(frame)
            picture.pts, picture.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


class TestCommand:
    def test_it_says_marked_or_not(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Exit status 0 and 1, as grep's; the line names score, frames and what chance would give."""
        plain = _talk(5, 128, True)
        assert detector.main([str(_write(tmp_path / "m.mp4", _marked(plain)))]) == 0
        assert capsys.readouterr().out.startswith("marked: score ")
        assert detector.main([str(_write(tmp_path / "p.mp4", list(plain)))]) == 1
        assert capsys.readouterr().out.startswith("not marked: score ")

    def test_it_looks_at_the_stretch_that_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """--start and --seconds choose frames by their time; --crop the picture's place."""
        plain = _talk(5, 128, True)
        half = str(_write(tmp_path / "half.mp4", [*plain, *_marked(plain)]))
        assert detector.main([half, "--seconds", "1"]) == 1
        assert "over 25 frames" in capsys.readouterr().out
        assert detector.main([half, "--start", "1", "--seconds", "0.4"]) == 0
        assert "over 10 frames" in capsys.readouterr().out
        wide = []
        for frame in _marked(plain):
            canvas = np.full((160, 224, 4), 255, np.uint8)
            canvas[16:144, 32:160] = frame
            wide.append(canvas)
        path = str(_write(tmp_path / "wide.mp4", wide))  # type: ignore[arg-type]
        assert detector.main([path]) == 1
        assert detector.main([path, "--crop", "32,16,128,128"]) == 0

    def test_what_cannot_be_looked_at_says_why(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Exit status 2 and one sentence."""
        video = _write(tmp_path / "v.mp4", list(_talk(5, 128, True, 5)))
        empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
        empty.write_bytes(b"")
        text.write_text("no video " * 200)
        sample = Path(__file__).parent.parent / "clients" / "page" / "sample.wav"
        for arguments, says in (
            ([tmp_path / "none.mp4"], "is not a file"),
            ([empty], "0 bytes"),
            ([text], "could not be read"),
            ([sample], "contains no video, only audio"),
            ([video, "--start", "5"], "no picture in the 10 s from 5 s on"),
            ([video, "--crop", "64,64,128,128"], "192,192, beyond the 128×128"),
        ):
            assert detector.main([str(argument) for argument in arguments]) == 2
            error = capsys.readouterr().err
            assert says in error and error.count("\n") == 1

    @pytest.mark.parametrize(
        "option", [["--crop", "1,2,3"], ["--crop", "0,0,10,10"], ["--seconds", "-1"], ["--start", "x"]]
    )
    def test_bad_options_are_refused(self, option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """argparse's own error, which names the option."""
        with pytest.raises(SystemExit):
            detector.main(["v.mp4", *option])
        assert option[0] in capsys.readouterr().err

    def test_a_cut_file_is_read_as_far_as_it_goes(self, tmp_path: Path) -> None:
        """An index without its end is an error in words, not a traceback."""
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(_write(tmp_path / "v.mp4", list(_talk(5, 128, True, 5))).read_bytes()[:2000])
        with pytest.raises(BadVideo, match="could not be read"):
            detector.detect(cut)


class TestRender:
    @pytest.mark.parametrize(("switches", "status"), [([], 0), (["--no-label"], 0), (["--no-watermark"], 1)])
    def test_renderings_are_marked_unless_told_otherwise(
        self, switches: list[str], status: int, tmp_path: Path
    ) -> None:
        """What `lipstream render` writes is found by `lipstream detect`, and its frames bear the label."""
        speech = Path(__file__).parent.parent / "clients" / "page" / "sample.wav"
        short = tmp_path / "short.wav"
        short.write_bytes(_first_second(speech))
        common = [str(short), str(tmp_path / "o.mp4"), "--generator", "rig", "--character", "3", "--size", "128"]
        assert render.main([*common, *switches, "--frames", str(tmp_path / "frames")]) == 0
        assert detector.main([str(tmp_path / "o.mp4")]) == status
        frame = np.asarray(Image.open(tmp_path / "frames" / "000000.png"))
        over, rows, columns = label(128)
        written = over[..., 0] > 0.9
        assert ((frame[rows, columns, :3][written] > 220).all()) == ("--no-label" not in switches)


def _first_second(wav: Path) -> bytes:
    data = wav.read_bytes()
    return data[:40] + (32_000).to_bytes(4, "little") + data[44 : 44 + 32_000]


class TestServer:
    @pytest.fixture(params=[True, False], ids=["marked", "plain"])
    def serving(self, request: pytest.FixtureRequest) -> Iterator[tuple[Any, bool]]:
        with RunningServer(label=request.param, watermark=request.param) as running:
            yield running, request.param

    def test_a_session_is_marked_and_says_so(self, serving: tuple[Any, bool]) -> None:
        """What a viewer receives bears the mark that configuration and session tell of, or none."""
        server, marked = serving

        async def watch() -> tuple[Detector, np.ndarray, dict[str, Any], dict[str, Any]]:
            detector = Detector()
            async with Client(server.url) as client:
                config = await client.config()
                async with client.session(spoken(2.0), character="2", linger=10) as session:
                    async for frame in session.frames():
                        detector.add(np.ascontiguousarray(frame.image[..., 1]))
                        if detector.frames == 25:
                            break
                    return detector, frame.image, config, await session.server_stats()

        found, last, config, state = asyncio.run(watch())
        assert config["marked"] == state["marked"] == {"label": marked, "watermark": marked}
        assert found.marked == marked, found.score
        over, rows, columns = label(256)
        written = over[..., 0] > 0.9
        assert (np.mean(last[rows, columns, :3][written]) > 200) == marked
