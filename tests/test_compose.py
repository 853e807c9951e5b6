"""Composing frames from flow, weights, paint and patches: held to plain float arithmetic, to swscale and to Pillow."""

from collections.abc import Callable

import av
import numpy as np
import pytest
from PIL import Image

from streamer.base.alpha import premultiplied, straighten
from streamer.base.constants import SIZES
from streamer.base.image import Yuv
from streamer.media.video_encoder import VideoEncoder
from streamer.model.runtime.compose import (
    CELLS,
    MAX_REFERENCES,
    UNIT,
    Composer,
    NotFiniteInput,
    Patch,
    Place,
    Scene,
    Texture,
    crop,
    patch_input,
    patch_place,
    texture,
)
from streamer.model.runtime.yuv import yuv_planes

EDGE = 128


def _smooth(rng: np.random.Generator, *shape: int, size: int, coarse: int = 7) -> np.ndarray:
    """Smooth random values [*shape, size, size] float32 in 0..1."""
    grids = rng.random((int(np.prod(shape)), coarse, coarse)).astype(np.float32)
    large = [Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC) for grid in grids]
    return np.stack([np.asarray(plane) for plane in large]).reshape(*shape, size, size).clip(0, 1)


def _person(rng: np.random.Generator, size: int, opaque: bool = False) -> np.ndarray:
    """A premultiplied picture [size, size, 4] uint8 of fine detail, with a soft outline and nothing around it."""
    picture = np.empty((size, size, 4), np.uint8)
    detail = 0.7 * _smooth(rng, 3, size=size, coarse=size // 8) + 0.3 * rng.random((3, size, size))
    picture[..., :3] = (255 * detail).astype(np.uint8).transpose(1, 2, 0)
    y, x = np.mgrid[:size, :size] / size - 0.5
    picture[..., 3] = 255 if opaque else (255 * np.clip(8 * (0.42 - np.hypot(x, y)), 0, 1)).round()
    return premultiplied(picture)


def _flow(rng: np.random.Generator, count: int, reach: float = 0.03) -> np.ndarray:
    return (reach * (2 * _smooth(rng, count, 2, size=CELLS) - 1)).astype(np.float32)


def _weights(rng: np.random.Generator, count: int, edge: int = EDGE) -> np.ndarray:
    raw = _smooth(rng, count, size=edge) + 0.1
    return (raw / raw.sum(0)).astype(np.float32)


def _paint(rng: np.random.Generator, edge: int) -> np.ndarray:
    """Premultiplied paint [5, edge, edge] whose share is 0 in places."""
    paint = _smooth(rng, 5, size=edge)
    paint[:3] *= paint[3]
    paint[4] = np.clip(3 * paint[4] - 1, 0, 1)
    return paint


def _up(grid: np.ndarray, size: int, step: int = 1) -> np.ndarray:
    """[..., E, E] enlarged to [..., size, size]: bilinear, half-pixel centres, in float64; every `step`th pixel."""
    edge = grid.shape[-1]
    at = ((np.arange(0, size, step) + 0.5) * edge / size - 0.5).clip(0, edge - 1)
    low = np.floor(at).astype(int).clip(0, edge - 2)
    part = at - low
    grid = grid.astype(np.float64)
    grid = grid[..., low, :] * (1 - part)[:, None] + grid[..., low + 1, :] * part[:, None]
    return grid[..., low] * (1 - part) + grid[..., low + 1] * part


def _sampled(source: Texture, flow: np.ndarray, size: int, step: int) -> np.ndarray:
    """Bilinear samples [n, n, 4] of a texture along the flow, in float64, for every `step`th pixel."""
    moved = _up(flow, size, step) * size
    y, x = np.mgrid[:size:step, :size:step]
    edge = len(source.pixels)
    at = [(axis * source.scale + source.offset).clip(0, edge - 1) for axis in (x + moved[0], y + moved[1])]
    low = [np.floor(axis).astype(int).clip(0, edge - 2) for axis in at]
    (px, py), (lx, ly) = ((axis - base)[..., None] for axis, base in zip(at, low, strict=True)), low
    pixels = source.pixels
    top = pixels[ly, lx] * (1 - px) + pixels[ly, lx + 1] * px
    return top * (1 - py) + (pixels[ly + 1, lx] * (1 - px) + pixels[ly + 1, lx + 1] * px) * py


def _composed(
    scene: Scene, flow: np.ndarray, weights: np.ndarray, paint: np.ndarray | None, step: int = 1
) -> np.ndarray:
    """What `Composer.compose` is documented to compute, in float64; every `step`th pixel."""
    size = scene.size
    frame = np.zeros(())
    for weight, source, offsets in zip(weights, scene.textures, flow, strict=True):
        frame = frame + _up(weight, size, step)[..., None] * _sampled(source, offsets, size, step)
    if paint is not None:
        frame = frame * (1 - _up(paint[4], size, step))[..., None]
        frame += 255 * _up(paint[:4] * paint[4], size, step).transpose(1, 2, 0)
    return frame


def _error(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """Mean and largest difference in levels."""
    apart = np.abs(found.astype(np.float64) - wanted)
    return float(apart.mean()), float(apart.max())


def _swscale(rgb: np.ndarray) -> np.ndarray:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").to_ndarray(format="yuv420p")


@pytest.mark.parametrize("count", range(1, MAX_REFERENCES + 1))
@pytest.mark.parametrize("size", [256, 512])
def test_a_frame_is_what_float_arithmetic_gives(size: int, count: int) -> None:
    """Any number of references, with paint and without, comes out as documented, to a fraction of a level."""
    rng = np.random.default_rng(size + count)
    scene = Scene.prepare([_person(rng, size) for _ in range(count)], size)
    flow, weights, composer = _flow(rng, count), _weights(rng, count), Composer(size)
    for paint in (None, _paint(rng, 128), _paint(rng, 96)):
        found = composer.compose(scene, flow, weights, paint)
        mean, most = _error(found[::3, ::3], _composed(scene, flow, weights, paint, 3))
        assert mean < 0.6 and most <= 5


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_composed(size: int) -> None:
    """All sizes of sessions, from references of that size and larger ones, with local shares of further references."""
    rng = np.random.default_rng(size)
    pictures = [_person(rng, edge) for edge in (size, size + 64, 2 * size)]
    scene = Scene.prepare(pictures, size)
    weights = np.zeros((3, EDGE, EDGE), np.float32)
    weights[1, 40:60, 80:90] = 0.7
    weights[2, :13, 100:] = 1.0  # at the frame's edges
    weights[0] = 1 - weights[1:].sum(0)
    flow, paint = _flow(rng, 3), np.zeros((5, EDGE, EDGE), np.float32)
    paint[:, 77:99, 3:20] = 0.5
    found = Composer(size).compose(scene, flow, weights, paint)
    step = 1 if size < 512 else 5
    mean, most = _error(found[::step, ::step], _composed(scene, flow, weights, paint, step))
    assert found.shape == (size, size, 4) and mean < 0.6 and most <= 5


@pytest.mark.parametrize("edge", [32, 64, 128])
def test_shares_far_apart(edge: int) -> None:
    """A reference with a share in single cells of two corners, on grids of any edge, and one that is shown nowhere."""
    rng = np.random.default_rng(edge)
    scene = Scene.prepare([_person(rng, 256, True) for _ in range(3)], 256)
    weights = np.zeros((3, edge, edge), np.float32)
    weights[1, 1, 2] = weights[1, -2, -1] = 0.9
    weights[0] = 1 - weights[1]
    flow = _flow(rng, 3)
    found = Composer(256).compose(scene, flow, weights)
    mean, most = _error(found, _composed(scene, flow, weights, None))
    assert mean < 0.6 and most <= 5


def test_faint_shares_do_not_matter() -> None:
    """Shares too small to be seen are left out, and the frame changes by less than two levels."""
    rng = np.random.default_rng(0)
    scene = Scene.prepare([_person(rng, 256) for _ in range(2)], 256)
    weights = np.full((2, EDGE, EDGE), 0.01, np.float32)
    weights[0] = 0.99
    paint = np.full((5, EDGE, EDGE), 0.01, np.float32)
    flow, composer = _flow(rng, 2), Composer(256)
    found = composer.compose(scene, flow, weights, paint)
    assert _error(found, _composed(scene, flow, weights, paint))[0] < 2
    alone = np.zeros_like(weights)
    alone[0] = 1
    assert (found == composer.compose(scene, flow, alone)).all()


@pytest.mark.parametrize(("size", "opaque"), [*((size, False) for size in SIZES), (256, True), (384, True)])
def test_without_motion_the_reference_is_reproduced(size: int, opaque: bool) -> None:
    """Without flow and paint each pixel is the reference's own, also where equal references are blended."""
    picture = _person(np.random.default_rng(size), size, opaque)
    composer = Composer(size)
    for count in (1, 3):
        scene = Scene.prepare([picture] * count, size)
        weights = np.zeros((count, EDGE, EDGE), np.float32)
        weights[-1] = 1
        frame = composer.compose(scene, np.zeros((count, 2, CELLS, CELLS), np.float32), weights)
        assert (frame == picture).all()


def test_a_larger_reference_is_reduced() -> None:
    """Without motion a reference of twice the size is shown as its mean over each pixel's area."""
    picture = _person(np.random.default_rng(1), 512)
    scene = Scene.prepare([picture], 256)
    weights = np.ones((1, EDGE, EDGE), np.float32)
    frame = Composer(256).compose(scene, np.zeros((1, 2, CELLS, CELLS), np.float32), weights)
    wanted = picture.reshape(256, 2, 256, 2, 4).astype(float).mean((1, 3))
    assert _error(frame, wanted)[1] <= 0.5


def test_opaque_references_stay_opaque() -> None:
    """Blending opaque references along any flow gives alpha 255 everywhere, to the last level."""
    rng = np.random.default_rng(2)
    scene = Scene.prepare([_person(rng, 256, True) for _ in range(4)], 256)
    assert scene.opaque
    frame = Composer(256).compose(scene, _flow(rng, 4, 0.2), _weights(rng, 4))
    assert (frame[..., 3] == 255).all()


def test_a_buffer_is_reused() -> None:
    """`out` is filled and returned, with the same pixels as a new frame, whatever it held."""
    rng = np.random.default_rng(3)
    scene = Scene.prepare([_person(rng, 256) for _ in range(2)], 256)
    given = _flow(rng, 2), _weights(rng, 2), _paint(rng, EDGE)
    composer, out = Composer(256), np.full((256, 256, 4), 77, np.uint8)
    assert composer.compose(scene, *given, out=out) is out
    assert (out == composer.compose(scene, *given)).all()


def _over(picture: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """A premultiplied picture over an opaque RGB plate, in float64."""
    alpha = picture[..., 3:] / 255
    return picture[..., :3] + plate * (1 - alpha)


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_plate_lies_behind(size: int, channels: int) -> None:
    """Over an opaque plate the frame becomes planes, or opaque RGBA, of the composite."""
    rng = np.random.default_rng(4)
    plate = np.full((size, size, channels), 255, np.uint8)
    plate[..., :3] = rng.integers(0, 256, (size, size, 3))
    picture = _person(rng, size)
    scene, composer = Scene.prepare([picture], size, plate), Composer(size)
    wanted = _over(picture, plate[..., :3])
    shown = composer.finish(scene, picture.copy(), planes=False)
    assert isinstance(shown, np.ndarray) and (shown[..., 3] == 255).all()
    assert _error(shown[..., :3], wanted)[1] <= 1
    planes = composer.finish(scene, picture.copy())
    assert isinstance(planes, Yuv) and planes.alpha is None
    assert _error(planes.planes, _swscale(shown[..., :3]))[1] <= 2


def test_a_translucent_plate_keeps_alpha() -> None:
    """A plate with transparent parts is composited as Pillow does, and the frame stays straight RGBA."""
    rng = np.random.default_rng(5)
    plate, picture = rng.integers(0, 256, (256, 256, 4)).astype(np.uint8), _person(rng, 256)
    straight = picture.copy()
    straighten(straight)
    shown = Composer(256).finish(Scene.prepare([picture], 256, plate), picture.copy())
    wanted = np.asarray(Image.alpha_composite(Image.fromarray(plate), Image.fromarray(straight)))
    assert isinstance(shown, np.ndarray)
    assert _error(shown[..., 3], wanted[..., 3])[1] <= 1
    there = wanted[..., 3] >= 128
    assert _error(shown[there], wanted[there])[1] <= 4  # colour is divided by alpha, and its rounding with it


def test_without_a_plate_the_frame_is_straight() -> None:
    """RGBA and planes of an alpha session hold the straight colour, black where it is transparent."""
    picture = _person(np.random.default_rng(6), 256)
    scene, composer = Scene.prepare([picture], 256), Composer(256)
    shown = composer.finish(scene, picture.copy())
    straight = picture.copy()
    straighten(straight)
    assert isinstance(shown, np.ndarray) and _error(shown, straight)[1] <= 1
    assert (shown[..., 3] == picture[..., 3]).all()
    planes = composer.finish(scene, picture.copy(), planes=True)
    assert isinstance(planes, Yuv) and planes.alpha is not None and (planes.alpha == picture[..., 3]).all()
    assert _error(planes.planes, _swscale(shown[..., :3]))[1] <= 2


def test_an_opaque_scene_without_a_plate() -> None:
    """Paint whose alpha is not exact does not make holes in a picture that has none."""
    picture = _person(np.random.default_rng(7), 256, True)
    scene, frame = Scene.prepare([picture], 256), picture.copy()
    frame[..., 3] = 251
    shown = Composer(256).finish(scene, frame.copy(), planes=False)
    assert isinstance(shown, np.ndarray) and (shown[..., 3] == 255).all() and (shown[..., :3] == picture[..., :3]).all()
    assert isinstance(Composer(256).finish(scene, frame), Yuv)


@pytest.mark.parametrize("size", [64, 128, 256, 512, 768])
def test_planes_are_swscales(size: int) -> None:
    """Noise, the colour cube's corners and smooth pictures come within two levels of swscale's, most within one."""
    rng = np.random.default_rng(size)
    corners = np.array([[r, g, b, 255] for r in (0, 255) for g in (0, 255) for b in (0, 255)], np.uint8)
    noise = rng.integers(0, 256, (size, size, 4)).astype(np.uint8)
    for picture in (noise, corners[noise[..., 0] % 8], _person(rng, size, True)):
        mean, most = _error(yuv_planes(picture), _swscale(picture[..., :3]))
        assert most <= 2 and mean < 0.35


def test_an_encoder_takes_what_is_finished() -> None:
    """Planes and straight RGBA are pictures that the encoder encodes, with packed alpha and without."""
    rng = np.random.default_rng(8)
    picture = _person(rng, 256)
    composer, alone = Composer(256), Scene.prepare([picture], 256)
    backed = Scene.prepare([picture], 256, np.full((256, 256, 3), 90, np.uint8))
    for scene, packed, planes in ((backed, False, None), (alone, True, None), (alone, True, True)):
        shown = composer.finish(scene, picture.copy(), planes=planes)
        assert VideoEncoder("VP8", 256, packed).encode(shown, 0).size > 0


@pytest.mark.parametrize("size", [128, 256, 384, 512, 1024])
@pytest.mark.parametrize("edge", [192, 96])
def test_patches_cover_their_place(size: int, edge: int) -> None:
    """A patch is blended by its share at its place, resized to the output, and changes nothing elsewhere."""
    rng = np.random.default_rng(size)
    picture = _person(rng, size)
    scene, place = Scene.prepare([picture], size), Place(168, 296, 192)
    pixels = _paint(rng, edge)
    rows, columns = place.scaled(size)
    wanted = picture.astype(float)
    length = 192 * size // UNIT
    assert rows == slice(296 * size // UNIT, 296 * size // UNIT + length)

    def resized(planes: np.ndarray) -> np.ndarray:
        if length >= edge:
            return _up(planes, length)
        starts, ends = (np.arange(edge) + k for k in (0, 1))  # the overlap of new pixels with old ones
        new = np.arange(length)[:, None] * edge / length
        overlap = (np.minimum(new + edge / length, ends) - np.maximum(new, starts)).clip(0) * length / edge
        return overlap @ planes @ overlap.T

    wanted[rows, columns] *= 1 - resized(pixels[4])[..., None]
    wanted[rows, columns] += 255 * resized(pixels[:4] * pixels[4]).transpose(1, 2, 0)
    frame = picture.copy()
    Composer(size).finish(scene, frame, [Patch(place, pixels)])
    assert _error(frame[rows, columns], wanted[rows, columns])[0] < 0.6
    assert _error(frame[rows, columns], wanted[rows, columns])[1] <= 4
    changed = (frame != picture).any(-1)
    changed[rows, columns] = False
    assert not changed.any()


@pytest.mark.parametrize("size", [256, 512, 1024])
def test_a_patch_network_sees_the_frame(size: int) -> None:
    """Its input is the frame's place at the network's size, in 0..1."""
    picture = _person(np.random.default_rng(9), size)
    pixels = patch_input(picture, Place(160, 256, 192), 192)
    assert pixels.shape == (4, 192, 192) and pixels.dtype == np.float32 and pixels.flags.c_contiguous
    part = Image.fromarray(picture[Place(160, 256, 192).scaled(size)], "RGBa").split()
    way = Image.Resampling.BOX if size > 512 else Image.Resampling.BILINEAR
    wanted = np.stack([np.asarray(plane.resize((192, 192), way)) for plane in part])
    assert _error(255 * pixels, wanted)[1] <= 1.01


def _spoilt(values: np.ndarray, bad: float) -> np.ndarray:
    spoilt = values.copy()
    spoilt.flat[values.size // 3] = bad
    return spoilt


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    """NaN or Inf in any input raises before anything is written, and the next frame is composed as ever."""
    rng = np.random.default_rng(10)
    scene, composer = Scene.prepare([_person(rng, 256) for _ in range(2)], 256), Composer(256)
    given = _flow(rng, 2), _weights(rng, 2), _paint(rng, EDGE)
    before = composer.compose(scene, *given)
    frame = np.full_like(before, 9)
    for k in range(3):
        flow, weights, paint = (_spoilt(each, bad) if i == k else each for i, each in enumerate(given))
        with pytest.raises(NotFiniteInput, match="in 1 places"):
            composer.compose(scene, flow, weights, paint, frame)
    good, wrong = (Patch(Place(0, 0, 96), pixels) for pixels in (_paint(rng, 96), _spoilt(_paint(rng, 96), bad)))
    with pytest.raises(NotFiniteInput, match="a patch"):
        composer.finish(scene, frame, [good, wrong])
    with pytest.raises(NotFiniteInput, match="flow"):
        patch_place(_spoilt(given[0][0], bad), (0.5, 0.5), 192)
    assert (frame == 9).all()
    assert (composer.compose(scene, *given) == before).all()


def test_wild_values_stay_pixels() -> None:
    """Finite values of any size, as from broken weights, give some picture rather than a fault."""
    rng = np.random.default_rng(11)
    scene, composer = Scene.prepare([_person(rng, 256) for _ in range(3)], 256), Composer(256)
    for factor in (1e3, -1e30):
        wild = [(factor * rng.standard_normal(shape)).astype(np.float32)
                for shape in ((3, 2, CELLS, CELLS), (3, EDGE, EDGE), (5, EDGE, EDGE))]  # fmt: skip
        frame = composer.compose(scene, *wild)
        assert frame.shape == (256, 256, 4)
        assert isinstance(composer.finish(scene, frame), np.ndarray)


def _wrong_calls() -> dict[str, tuple[str, Callable[[], object]]]:
    scene, composer = Scene.prepare([np.zeros((256, 256, 4), np.uint8)], 256), Composer(256)
    flow, weights = np.zeros((1, 2, CELLS, CELLS), np.float32), np.ones((1, EDGE, EDGE), np.float32)
    frame, large = (np.zeros((edge, edge, 4), np.uint8) for edge in (256, 512))
    pixels = np.zeros((5, 192, 192), np.float32)
    picture = np.zeros((256, 256, 4), np.uint8)
    return {
        "flow": ("32", lambda: composer.compose(scene, flow[..., :32], weights)),
        "references": ("2, 2, 64", lambda: composer.compose(scene, np.concatenate([flow, flow]), weights)),
        "weights": ("float64", lambda: composer.compose(scene, flow, weights.astype(float))),
        "paint": ("4, 128", lambda: composer.compose(scene, flow, weights, np.zeros((4, EDGE, EDGE), np.float32))),
        "another size's scene": ("256 pixels for frames of 512", lambda: Composer(512).compose(scene, flow, weights)),
        "a frame of another size": ("512, 512", lambda: composer.compose(scene, flow, weights, out=large)),
        "finishing another size": ("512, 512", lambda: composer.finish(scene, large)),
        "a size between": ("200", lambda: Composer(200)),
        "a patch off the grid": ("4, 0, 192", lambda: composer.finish(scene, frame, [Patch(Place(4, 0, 192), pixels)])),
        "a patch outside": ("328", lambda: composer.finish(scene, frame, [Patch(Place(328, 0, 192), pixels)])),
        "a patch of 4": ("4, 192", lambda: composer.finish(scene, frame, [Patch(Place(0, 0, 192), pixels[:4])])),
        "a small reference": ("256 pixels for frames of 512", lambda: texture(picture, 512)),
        "a flat reference": ("256, 256, 3", lambda: texture(picture[..., :3], 256)),
        "no reference": ("0 references", lambda: Scene.prepare([], 256)),
        "five references": ("5 references", lambda: Scene.prepare([picture] * 5, 256)),
        "a plate of another size": ("128, 128, 3", lambda: Scene.prepare([picture], 256, picture[:128, :128, :3])),
        "a place of 100": ("100", lambda: patch_place(flow[0], (0.5, 0.5), 100)),
    }  # fmt: skip


@pytest.mark.parametrize("name", _wrong_calls())
def test_wrong_shapes_are_refused(name: str) -> None:
    """Errors name what was given."""
    told, call = _wrong_calls()[name]
    with pytest.raises(ValueError, match=told):
        call()


@pytest.mark.parametrize("turned", [0.0, 0.2])
@pytest.mark.parametrize("moved", [(0.0, 0.0), (0.06, -0.03), (-0.1, 0.08)])
def test_a_place_follows_the_flow(moved: tuple[float, float], turned: float) -> None:
    """The face's centre is found to half a step where the picture was moved and turned, whatever the corners do."""
    centre = np.array([0.5, 0.46])
    y, x = (np.mgrid[:CELLS, :CELLS] + 0.5) / CELLS
    out = np.stack([x, y], -1) - centre - moved
    turn = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    flow = (out @ turn + centre - np.stack([x, y], -1)).transpose(2, 0, 1).astype(np.float32)
    corner = np.stack([x, y])[:, :8, :8]
    flow[:, :8, :8] = centre[:, None, None] - corner  # an empty place whose source is the very centre
    place = patch_place(flow, (centre[0], centre[1]), 192)
    found = (np.array(place[:2]) + 96) / UNIT
    assert np.abs(found - centre - moved).max() * UNIT <= 4 + 1e-3
    assert place.x % 8 == place.y % 8 == 0


def test_a_place_stays_in_the_frame() -> None:
    """Near an edge it is moved inwards; where no source lies near the centre, it stays where the centre is."""
    flow = np.zeros((2, CELLS, CELLS), np.float32)
    assert patch_place(flow, (0.02, 0.99), 192) == Place(0, 320, 192)
    assert patch_place(flow + np.float32(3), (0.5, 0.5), 192) == Place(160, 160, 192)
    assert patch_place(flow, (0.5, 0.5), UNIT) == Place(0, 0, UNIT)


def test_a_place_does_not_flicker() -> None:
    """Between two steps the last place is kept, until the region has clearly moved on."""
    flow = np.zeros((2, CELLS, CELLS), np.float32)

    def place(pixels: float, last: Place | None) -> Place:
        return patch_place(flow - np.float32(pixels / UNIT), (0.5, 0.5), 192, last)

    held = place(3.9, None)
    assert held.x == 160 and place(4.1, None).x == 168
    assert place(4.1, held) == held and place(5.9, held) == held
    assert place(6.1, held) == Place(168, 168, 192)
    assert place(4.1, Place(160, 160, 96)) == Place(168, 168, 192)


def test_features_of_a_place() -> None:
    """Features are cut at the place's cells, without a copy."""
    features = np.arange(2 * CELLS * CELLS, dtype=np.float32).reshape(2, CELLS, CELLS)
    part = crop(features, Place(160, 296, 192))
    assert part.shape == (2, 24, 24) and part.base is not None
    assert (part == features[:, 37:61, 20:44]).all()
