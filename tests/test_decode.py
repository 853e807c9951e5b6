"""Uploaded pictures are decoded as browsers show them, safely, or refused with a reason."""

import functools
import io
import itertools
import struct
import sys
import threading
import time
import warnings
import zlib
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from streamer.base.errors import BadPicture
from streamer.faces.decode import KEPT_EDGE, MAX_PIXELS, MAX_SCANS, decode_picture, picture_format

UPRIGHT = np.zeros((96, 128, 3), np.uint8)
UPRIGHT[:48, :64], UPRIGHT[:48, 64:], UPRIGHT[48:, :64], UPRIGHT[48:, 64:] = (
    (220, 40, 40), (40, 200, 40), (40, 40, 220), (230, 230, 230),
)  # fmt: skip
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera does to an upright picture before it says this orientation."""


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(width: int = 128, height: int = 96, mode: str = "RGB") -> Image.Image:
    """Something that no compression makes small, smooth enough for JPEG to keep it."""
    few = np.random.default_rng(5).integers(0, 255, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
    return Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG of raw rows, each with its filter byte: Pillow writes no 16-bit colours."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def profile_of(primaries: list[tuple[float, float]], gamma: float) -> bytes:
    """An ICC profile of RGB by three primaries x, y beside a white of D65 adapted to D50, and a gamma."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    white, d50 = np.array([0.95047, 1.0, 1.08883]), np.array([0.96422, 1.0, 0.82521])
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    columns = columns * np.linalg.solve(columns, white)
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ white)) @ bradford
    columns = adapt @ columns

    def xyz(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(v) * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(4 + 4 + 2 + 1 + 67 + 1)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0x\0\0\0", b"wtpt": xyz(d50)}
    tags |= {name: xyz(columns[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _icc(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(4 + 4 + 2 + 1 + 67 + 1)
    return _icc(b"GRAY", {b"desc": text, b"cprt": b"text\0\0\0\0x\0\0\0", b"wtpt": white, b"kTRC": curve})


def cmyk_profile(cyan: tuple[int, int, int]) -> bytes:
    """A printer whose full cyan is this L*, a*, b*, whose paper is white and whose other inks are black."""
    corners = []
    for inks in itertools.product((0, 1), repeat=4):
        corners += [255, 128, 128] if not any(inks) else [0, 128, 128]
        if inks == (1, 0, 0, 0):
            corners[-3:] = [round(cyan[0] * 2.55), cyan[1] + 128, cyan[2] + 128]
    straight = bytes(range(256))
    identity = struct.pack(">9i", *(65536 * (i in (0, 4, 8)) for i in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + 4 * straight + bytes(corners) + 3 * straight
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(4 + 4 + 2 + 1 + 67 + 1)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0x\0\0\0", b"wtpt": white, b"A2B0": table}
    return _icc(b"CMYK", tags, b"prtr", b"Lab ")


def _icc(space: bytes, tags: dict[bytes, bytes], device: bytes = b"mntr", through: bytes = b"XYZ ") -> bytes:
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s12s4s", at + len(body), b"lcms", 0x02400000, device, space, through, bytes(12), b"acsp"
    )
    head += bytes(128 - len(head) - 60) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return head + table + body


DISPLAY_P3 = profile_of([(0.68, 0.32), (0.265, 0.69), (0.15, 0.06)], 2.2)
ADOBE_RGB = profile_of([(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)], 2.2)


def oriented(kind: str, orientation: int) -> bytes:
    image = Image.fromarray(UPRIGHT)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind in ("JPEG", "AVIF") else {}
    if kind == "AVIF":  # Pillow turns it into the container's own rotation
        options |= {"speed": 10}
    return saved(image.transpose(STORED[orientation]), kind, exif=exif.tobytes(), **options)


class TestWhatIsTaken:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF"])
    def test_formats(self, kind: str) -> None:
        """Each format decodes to opaque pixels of the file's own shape and colours."""
        decoded = decode_picture(saved(noise(), kind))
        assert decoded.pixels.shape == (96, 128, 4)
        assert (decoded.pixels[..., 3] == 255).all()
        difference = np.abs(decoded.pixels[..., :3].astype(int) - np.asarray(noise(), int)).mean()
        assert difference < (12 if kind == "GIF" else 4)
        assert (decoded.scale, decoded.notes) == (1.0, ())

    @pytest.mark.parametrize("orientation", STORED)
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
    def test_orientation(self, kind: str, orientation: int) -> None:
        """A picture that was stored turned or mirrored, and says so, is shown as it was taken."""
        pixels = decode_picture(oriented(kind, orientation)).pixels
        assert pixels.shape == (96, 128, 4)
        for y, x in ((24, 32), (24, 96), (72, 32), (72, 96)):
            assert pixels[y, x, :3].tolist() == pytest.approx(UPRIGHT[y, x].tolist(), abs=12)

    def test_damaged_exif_is_ignored(self) -> None:
        """EXIF that cannot be read does not cost the picture."""
        assert decode_picture(saved(noise(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).pixels.shape == (
            96,
            128,
            4,
        )

    def test_several_pictures_in_a_jpeg(self) -> None:
        """Of a JPEG with a depth or gain map behind it the photograph is taken."""
        data = saved(noise(), "MPO", save_all=True, append_images=[noise(64, 48, "L").convert("RGB")], quality=95)
        with Image.open(io.BytesIO(data)) as image:
            assert image.n_frames == 2
        assert np.abs(decode_picture(data).pixels[..., :3].astype(int) - np.asarray(noise(), int)).mean() < 4

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
    def test_modes(self, mode: str) -> None:
        """What PNG has of modes is taken, with its own lightness."""
        light = noise().convert("L")
        if mode == "I;16":
            image = Image.fromarray(np.asarray(light).astype(np.uint16) * 257)
        else:
            image = light.convert("RGB").quantize(64) if mode == "P" else light.convert(mode)
        decoded = decode_picture(saved(image))
        assert np.abs(decoded.pixels[..., 0].mean() - np.asarray(light).mean()) < 6
        assert (decoded.pixels[..., 0] == decoded.pixels[..., 2]).all()

    def test_sixteen_bits_keep_their_range(self) -> None:
        """A ramp from black to white in 16 bits is one in 8, in grey and in colours, with what is clear in it."""
        ramp = np.linspace(0, 65535, 128 * 96).astype(">u2").reshape(96, 128)
        grey = b"".join(b"\0" + row.tobytes() for row in ramp)
        colours = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in ramp)
        clear = chunk(b"tRNS", struct.pack(">H", int(ramp[0, 5])))
        for data in (png(128, 96, 16, 0, grey), png(128, 96, 16, 2, colours), png(128, 96, 16, 0, grey, clear)):
            pixels = decode_picture(data).pixels
            assert pixels[..., :3].mean() == pytest.approx(127, abs=0.6)
            assert (pixels[0, 0, 0], pixels[-1, -1, 0]) == (0, 255)
        assert (pixels[..., 3] == 0).sum() == 1

    @pytest.mark.parametrize("kept", [128, 3000])
    def test_clear_colour_of_a_palette(self, kept: int) -> None:
        """A palette's clear colour is clear, and does not shine through at the edges of what is made smaller."""
        indices = np.zeros((kept, kept), np.uint8)
        indices[kept // 4 : 3 * kept // 4, kept // 4 : 3 * kept // 4] = 1
        image = Image.fromarray(indices).convert("P")
        image.putpalette([0, 255, 0, 200, 30, 30])
        pixels = decode_picture(saved(image, transparency=0)).pixels
        middle = len(pixels) // 2
        assert pixels[0, 0, 3] == 0
        assert pixels[middle, middle].tolist() == [200, 30, 30, 255]
        seen = pixels[pixels[..., 3] > 8]
        assert seen[:, 1].max() < 60

    def test_alpha_is_straight(self) -> None:
        """A half clear pixel keeps its colour."""
        image = Image.new("RGBA", (80, 80), (200, 100, 50, 128))
        for kind in ("PNG", "WEBP"):
            assert decode_picture(saved(image, kind, lossless=True)).pixels[40, 40].tolist() == [200, 100, 50, 128]

    def test_several_threads(self) -> None:
        """Many threads at once decode what one does, and leave no warning filter behind."""
        data, results, before = saved(noise(), "WEBP"), [], list(warnings.filters)
        threads = [threading.Thread(target=lambda: results.append(decode_picture(data).pixels)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 8
        assert all((pixels == results[0]).all() for pixels in results)
        assert warnings.filters == before


class TestColours:
    @pytest.mark.parametrize(
        ("profile", "colour", "srgb"),
        [
            (DISPLAY_P3, (234, 51, 35), (255, 0, 0)),
            (DISPLAY_P3, (128, 128, 128), (128, 128, 128)),
            (ADOBE_RGB, (219, 0, 0), (255, 0, 0)),
            (ADOBE_RGB, (144, 255, 60), (0, 255, 0)),
        ],
    )
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
    def test_wide_gamuts_become_srgb(
        self, kind: str, profile: bytes, colour: tuple[int, ...], srgb: tuple[int, ...]
    ) -> None:
        """A colour of Display P3 or Adobe RGB is the sRGB colour that looks the same."""
        options = {} if kind == "PNG" else {"quality": 98}
        data = saved(Image.new("RGB", (80, 80), colour), kind, icc_profile=profile, **options)
        decoded = decode_picture(data)
        assert decoded.notes == ()
        assert decoded.pixels[40, 40, :3].tolist() == pytest.approx(srgb, abs=10)

    def test_srgb_by_its_profile_stays_what_it_is(self) -> None:
        """A profile that says sRGB changes no pixel."""
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        image = noise()
        assert (decode_picture(saved(image, icc_profile=profile)).pixels[..., :3] == np.asarray(image)).all()

    def test_grey_with_a_profile(self) -> None:
        """Grey by a gamma of 1.0 is as light as sRGB's grey of the same light; alpha stays."""
        image = Image.new("LA", (80, 80), (55, 77))
        pixel = decode_picture(saved(image, icc_profile=grey_profile(1.0))).pixels[40, 40]
        assert pixel.tolist() == pytest.approx([128, 128, 128, 77], abs=3)

    def test_profile_of_other_colours_is_told(self) -> None:
        """A profile that cannot be used is not used, and the user is told."""
        for profile, says in ((grey_profile(2.2), "GRAY"), (b"no profile", "10 bytes")):
            decoded = decode_picture(saved(noise(), icc_profile=profile))
            assert (decoded.pixels[..., :3] == np.asarray(noise())).all()
            assert len(decoded.notes) == 1
            assert says in decoded.notes[0]

    def test_cmyk(self) -> None:
        """CMYK without a profile is converted plainly, and the user is told."""
        decoded = decode_picture(saved(noise(mode="CMYK"), "JPEG", quality=95))
        assert np.abs(decoded.pixels[..., :3].astype(int) - np.asarray(noise(), int)).mean() < 5
        assert "CMYK" in decoded.notes[0]

    def test_cmyk_by_its_profile(self) -> None:
        """CMYK with a profile has the colours that its inks have on paper."""
        image = Image.new("CMYK", (160, 80))
        image.paste((255, 0, 0, 0), (80, 0, 160, 80))
        decoded = decode_picture(saved(image, "JPEG", quality=98, icc_profile=cmyk_profile((54, -36, -50))))
        assert decoded.notes == ()
        assert decoded.pixels[40, 20].tolist() == pytest.approx([255, 255, 255, 255], abs=3)
        # L* 54, a* -36, b* -50 lies outside of sRGB's gamut, by its red alone.
        assert decoded.pixels[40, 140].tolist() == pytest.approx([0, 147, 215, 255], abs=12)


class TestSize:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_24_megapixels(self, kind: str) -> None:
        """A camera's whole picture is taken, kept with 2048 pixels an edge, and the scale says how much smaller."""
        decoded = decode_picture(saved(Image.new("RGB", (6016, 4016), (90, 120, 150)), kind))
        assert decoded.pixels.shape == (1367, 2048, 4)
        assert decoded.scale == pytest.approx(2048 / 6016)
        assert decoded.pixels[600, 900, :3].tolist() == pytest.approx([90, 120, 150], abs=2)

    def test_a_jpeg_is_scaled_while_it_is_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a JPEG no more than twice the kept size is decoded."""
        sizes, load = [], ImageFile.ImageFile.load

        def recorded(self: ImageFile.ImageFile) -> object:
            sizes.append(self.size)
            return load(self)

        monkeypatch.setattr(ImageFile.ImageFile, "load", recorded)
        decode_picture(saved(Image.new("L", (5000, 4400)), "JPEG"))
        assert sizes[0] == (2500, 2200)

    def test_small_pictures_stay(self) -> None:
        """Nothing is enlarged, and a picture of the kept size keeps its pixels."""
        image = noise(KEPT_EDGE, 300)
        decoded = decode_picture(saved(image))
        assert decoded.scale == 1.0
        assert (decoded.pixels[..., :3] == np.asarray(image)).all()


def apng(frames: int) -> bytes:
    return saved(noise(), "PNG", save_all=True, append_images=[noise().rotate(20 * i) for i in range(1, frames)])


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there again and again."""
    data = saved(noise(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + (data[last:-2] * count) + data[-2:]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "is empty: 0 bytes"),
            (b"not a picture at all", "20 bytes"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG"),
            (saved(noise(), "BMP"), "not a PNG"),
            (saved(noise())[:2000], "truncated"),
            (saved(noise(), "JPEG")[:900], "truncated"),
            (saved(noise(), "WEBP")[:900], "damaged"),
            (saved(noise(), "AVIF")[:600], "damaged"),
            (saved(noise(), "GIF")[:2000], "truncated"),
            (png(30_000, 30_000, 8, 2, b"\0" * 100), f"30000×30000: at most {MAX_PIXELS}"),
            (png(5001, 5000, 8, 2, b"\0" * 100), f"5001×5000: at most {MAX_PIXELS}"),
            (saved(Image.new("L", (1, 1))), "1×1"),
            (saved(Image.new("L", (640, 20))), "640×20: at least 64"),
            (saved(Image.new("L", (64, 1100))), "64×1100: one edge may be at most 16 times"),
            (apng(3), "3 frames"),
            (saved(noise(), "GIF", save_all=True, append_images=[noise().rotate(9)] * 4), "frames"),
            (saved(noise(), "WEBP", save_all=True, append_images=[noise().rotate(9)]), "2 frames"),
            (many_scans(60), f"scans: at most {MAX_SCANS}"),
        ],
        ids=[
            "empty", "text", "svg", "bmp", "cut-png", "cut-jpeg", "cut-webp", "cut-avif", "cut-gif", "bomb", "large",
            "1x1", "low", "thin", "apng", "gif", "webp", "scans",
        ],
    )  # fmt: skip
    def test_with_a_reason(self, data: bytes, says: str) -> None:
        """Each kind of bad picture gets a reason with its number."""
        with pytest.raises(BadPicture, match=says):
            decode_picture(data)

    def test_by_its_name(self) -> None:
        """Where there are several pictures, the error says which."""
        with pytest.raises(BadPicture, match="blink.png is empty"):
            decode_picture(b"", "blink.png")

    def test_heic_without_its_reader(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A HEIC picture is known as one, and the error says what to do."""
        monkeypatch.setitem(sys.modules, "pi_heif", None)
        data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
        with pytest.raises(BadPicture, match=r"HEIC.*JPEG.*lipstream\[heic\]"):
            decode_picture(data)

    def test_heic_with_its_reader(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A HEIC of several pictures is the first, by pi-heif's reader."""

        class HeifImageFile(ImageFile.ImageFile):
            format = "HEIF"
            n_frames = 3

            def _open(self) -> None:
                self._size, self._mode, self.tile = (128, 96), "RGB", []

            def load(self) -> None:
                self.im = noise().im

        module = ModuleType("pi_heif")
        module.HeifImageFile = HeifImageFile  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pi_heif", module)
        data = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100)
        assert (decode_picture(data).pixels[..., :3] == np.asarray(noise())).all()

    def test_avif_is_no_heic(self) -> None:
        """Both share a container; the brands tell them apart."""
        assert picture_format(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "AVIF"
        assert picture_format(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic") == "HEIF"
        assert picture_format(b"\0\0\0\x18ftypisom\0\0\0\0isommp42") == ""


@functools.cache
def sample(kind: str) -> bytes:
    if kind == "progressive":
        return saved(noise(), "JPEG", progressive=True, icc_profile=DISPLAY_P3)
    if kind == "MPO":
        return saved(noise(), "MPO", save_all=True, append_images=[noise(64, 64)])
    if kind == "APNG":
        return apng(2)
    if kind == "palette":
        return saved(noise().quantize(32), "PNG", transparency=3, icc_profile=DISPLAY_P3)
    if kind == "CMYK":
        return saved(noise(mode="CMYK"), "JPEG")
    return oriented(kind, 6) if kind != "GIF" else saved(noise(), "GIF")


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "progressive", "MPO", "APNG", "palette", "CMYK"]
)
@settings(max_examples=60, deadline=None)
@given(damage=st.data())
def test_damage_is_a_picture_or_refused(kind: str, damage: st.DataObject) -> None:
    """Truncated and flipped bits give a picture or BadPicture, never another error, within a second of one core."""
    data = bytearray(sample(kind))
    del data[damage.draw(st.integers(0, len(data)), "kept bytes") :]
    for at in damage.draw(st.lists(st.integers(0, max(0, 8 * len(data) - 1)), max_size=12), "flipped bits"):
        if data:
            data[at // 8] ^= 1 << at % 8
    began = time.thread_time()
    try:
        pixels = decode_picture(bytes(data)).pixels
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 4
        assert max(pixels.shape) <= KEPT_EDGE
    except BadPicture as error:
        assert str(error)
    assert time.thread_time() - began < 1
