"""Skins, irises, hair and cloth: photographs and drawings of MakeHuman's assets, varied by synthesis.

Textures are [h, w, 4] uint8 sRGB with opacity. Places in a skin are those of MakeHuman's body.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from streamer.training.people.identity import Identity

_FACE = (slice(0.40, 0.58), slice(0.87, 0.95))
"""Rows and columns of a skin, as shares of its edge, that show cheeks and brow."""
_HEAD = (0.18, 0.87, 0.62, 1.0)
"""Rows and columns of all of the head."""
_IRIS_RADIUS = 0.118  # of the texture's edge; the iris, in MakeHuman's eyes, with its dark rim


@cache
def picture(path: Path) -> np.ndarray:
    """[h, w, 4] uint8. Raises FileNotFoundError."""
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if read is None:
        raise FileNotFoundError(f"no picture at {path}")
    if read.shape[2] == 3:
        return cv2.cvtColor(read, cv2.COLOR_BGR2RGBA)
    return cv2.cvtColor(read, cv2.COLOR_BGRA2RGBA)


def smooth_noise(edge: int, knots: int, rng: np.random.Generator) -> np.ndarray:
    """[edge, edge] float32 with variance about 1, `knots` bumps along an edge."""
    grid = rng.standard_normal((knots, knots)).astype(np.float32)
    return cv2.resize(grid, (edge, edge), interpolation=cv2.INTER_CUBIC)


def pyramid(texture: np.ndarray) -> list[np.ndarray]:
    """A texture and its halves down to an edge of 64 or less."""
    levels = [np.ascontiguousarray(texture)]
    while min(levels[-1].shape[:2]) > 64:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return levels


# Skin ----------------------------------------------------------------------------------------------------------------


@cache
def _skin(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A photographed skin and the colour [3] of its cheeks."""
    texture = picture(path)
    edge = texture.shape[0]
    rows, columns = (slice(int(part.start * edge), int(part.stop * edge)) for part in _FACE)
    return texture, np.median(texture[rows, columns, :3].reshape(-1, 3), 0)


@cache
def relief(path: Path) -> np.ndarray:
    """[h, w, 4] uint8: slopes along u and v round 128, of a skin's own detail and of pores."""
    rng = np.random.default_rng(3)
    grey = cv2.cvtColor(picture(path), cv2.COLOR_RGBA2GRAY).astype(np.float32)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), 6)
    detail = np.clip(detail / max(detail.std(), 2.0), -2.5, 2.5)
    pores = cv2.GaussianBlur(rng.standard_normal(grey.shape).astype(np.float32), (0, 0), 1.2)
    pores = -np.maximum(pores / pores.std() - 0.5, 0)
    height = cv2.GaussianBlur(0.45 * detail + 0.7 * pores, (0, 0), 0.8)
    du = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    dv = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    slopes = [np.clip(128 - 80 * du, 0, 255), np.clip(128 + 80 * dv, 0, 255)]
    full = np.full_like(grey, 255)
    return np.stack([*slopes, full, full], 2).astype(np.uint8)


def _retone(texture: np.ndarray, usual: np.ndarray, wanted: np.ndarray, contrast: float) -> np.ndarray:
    """Every colour keeps its ratio to the usual one, to a power."""
    level = np.arange(256)[:, None] / 255
    ratio = np.maximum(level, 1 / 255) ** 2.2 / (usual / 255) ** 2.2
    curve = ((wanted / 255) ** 2.2 * ratio**contrast) ** (1 / 2.2)
    table = np.concatenate([curve, level], 1)
    return cv2.LUT(texture, (table * 255).clip(0, 255).astype(np.uint8)[None])


def skin(who: Identity, folder: Path, masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Two photographed skins mixed in patches, brought to one tone; lips, freckles and stubble of one's own."""
    rng = np.random.default_rng([who.seed, 0x5C1])
    tone = np.array(who.tone)
    layers = []
    for name in who.skins:
        texture, usual = _skin(_only(folder / name, "*.webp", "*.png"))
        distance = float(np.abs(np.log(tone / usual)).mean())
        layers.append(_retone(texture, usual, tone, float(rng.uniform(0.8, 1.05)) / (1 + 0.25 * distance)))
    edge = layers[0].shape[0]
    mixed = np.clip(0.5 + 0.7 * smooth_noise(edge, 9, rng), 0, 1)
    result = cv2.blendLinear(layers[0], layers[1], mixed, 1 - mixed)

    top, bottom, left, right = (int(share * edge) for share in _HEAD)
    head = result[top:bottom, left:right, :3].astype(np.float32)
    shape = head.shape[:2]

    def mask(name: str) -> np.ndarray:
        whole = cv2.resize(masks[name], (edge, edge), interpolation=cv2.INTER_LINEAR)
        return whole[top:bottom, left:right].astype(np.float32)[..., None] / 255

    blotches = np.stack([cv2.resize(smooth_noise(64, 14, rng), shape[::-1])] * 3, 2)
    head *= 1 + blotches * np.array([0.012, 0.028, 0.026], np.float32)
    lips = mask("lips")
    factor = np.array(who.lips, np.float32)
    head *= 1 + lips * (factor - 1)
    if who.freckles > 0:
        grain = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 1.5)
        spots = np.clip(grain / grain.std() - 2.4 + 0.5 * min(who.freckles, 1.5), 0, 0.8)[..., None]
        head *= 1 - spots * np.array([0.16, 0.26, 0.32], np.float32) * (1 - lips)
    for _ in range(int(rng.poisson(1.2))):
        y, x = int(rng.integers(shape[0])), int(rng.integers(shape[1]))
        cv2.circle(head, (x, y), int(rng.integers(1, 3)), (tone * rng.uniform(0.5, 0.8)).tolist(), -1, cv2.LINE_AA)
    result[top:bottom, left:right, :3] = np.clip(head, 0, 255)
    return result


def stubble(result: np.ndarray, dense: np.ndarray, colour: np.ndarray, seed: int) -> None:
    """In place: short hairs over a skin, where `dense` [h, w] (0..1, of any size) says."""
    rng = np.random.default_rng([seed, 0xBEA])
    edge = result.shape[0]
    share = cv2.resize(dense.astype(np.float32), (edge, edge))
    rows, columns = np.flatnonzero(share.max(1) > 0.02), np.flatnonzero(share.max(0) > 0.02)
    if not len(rows):
        return
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    share = share[box][..., None]
    hairs = rng.random(share.shape[:2], np.float32)
    hairs = cv2.GaussianBlur((hairs < 0.35).astype(np.float32), (0, 0), 0.7)[..., None]
    cover = np.clip(share * (0.25 + 0.75 * hairs), 0, 0.9)
    under = result[box][..., :3].astype(np.float32)
    result[box[0], box[1], :3] = under * (1 - cover) + colour.astype(np.float32) * cover


# Hair ----------------------------------------------------------------------------------------------------------------


@cache
def _strands(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """How light each texel is (1: usual), spread under what is transparent so that no edge is dark; and opacity."""
    texture = picture(path)
    grey = cv2.cvtColor(texture, cv2.COLOR_RGBA2GRAY).astype(np.float32)
    opacity = texture[..., 3].astype(np.float32) / 255
    usual = float(np.median(grey[opacity > 0.7]))
    known, weight = grey * (opacity > 0.6), (opacity > 0.6).astype(np.float32)
    filled = grey.copy()
    todo = opacity <= 0.6
    for sigma in (3, 12, 48):
        near = cv2.GaussianBlur(known, (0, 0), sigma), cv2.GaussianBlur(weight, (0, 0), sigma)
        reached = todo & (near[1] > 0.02)
        filled[reached] = (near[0] / np.maximum(near[1], 1e-6))[reached]
        todo &= ~reached
    filled[todo] = usual
    light = np.log(np.maximum(filled, 4.0) / max(usual, 8.0))
    light /= max(1.0, float(light[opacity > 0.7].std()) / 0.38)  # streaks, not stripes of another colour
    return np.exp(np.clip(light, -1.0, 0.8)), texture[..., 3]


def hair(who: Identity, path: Path) -> np.ndarray:
    light, opacity = _strands(path)
    rng = np.random.default_rng([who.seed, 0x4A1])
    root, tip = np.array(who.hair_colour, np.float32), np.array(who.hair_tip, np.float32)
    contrast = float(rng.uniform(0.45, 0.75))
    streaks = np.clip(0.5 + 0.5 * cv2.resize(rng.standard_normal((2, 160)).astype(np.float32), light.shape[::-1]), 0, 1)
    colour = root + (tip - root) * streaks[..., None]
    values = colour * (light**contrast)[..., None]
    return np.concatenate([np.clip(values, 0, 255), opacity[..., None]], 2).astype(np.uint8)


@cache
def fur(path: Path) -> np.ndarray:
    """Brows or lashes in white, to be tinted."""
    texture = picture(path).copy()
    texture[..., :3] = 255
    return texture


# Eyes ----------------------------------------------------------------------------------------------------------------


@cache
def _iris_places(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the irises [2, 2] and of a pupil's radius, as found in a brown eye's texture: x, y in pixels."""
    texture = picture(path)
    dark = (texture[..., :3].max(2) < 40) & (texture[..., 3] > 128)
    count, _, stats, middles = cv2.connectedComponentsWithStats(dark.astype(np.uint8))
    largest = sorted(range(1, count), key=lambda i: -stats[i, cv2.CC_STAT_AREA])[:2]
    return middles[largest], np.array([np.sqrt(stats[i, cv2.CC_STAT_AREA] / np.pi) for i in largest])


def iris_rim(folder: Path, uv: np.ndarray) -> np.ndarray:
    """[...] bool: which of the texture coordinates [..., 2] of MakeHuman's eyes lie on an iris' rim."""
    edge = picture(folder / "brown_eye.webp").shape[0]
    middles, pupils = _iris_places(folder / "brown_eye.webp")
    places = uv * [edge, -edge] + [0, edge]
    distance = np.min([np.linalg.norm(places - middle, axis=-1) for middle in middles], 0)
    return np.abs(distance - _rim(edge, float(pupils.mean()))) < 0.012 * edge


def _rim(edge: int, pupil: float) -> float:
    """The radius of an iris in a texture, in pixels."""
    usual = _IRIS_RADIUS * edge
    return usual if abs(pupil / usual - 0.32) <= 0.2 else 3.0 * pupil


def eyes(who: Identity, folder: Path) -> np.ndarray:
    """The pair of eyes in one texture, with irises of one's own over the photographed whites."""
    base = picture(folder / "brown_eye.webp")
    fibres = picture(folder / "lightblue_eye.webp")
    rng = np.random.default_rng([who.seed, 0xE7E])
    edge = base.shape[0]
    result = base[..., :3].astype(np.float32)
    whites = result.mean(2, keepdims=True)
    result = whites + 0.55 * (result - whites)  # less yellow, fewer veins
    result *= np.array(rng.uniform((0.97, 0.95, 0.92), (1.0, 1.0, 1.0)), np.float32) * 1.04
    inner, outer = (np.array(colour, np.float32) for colour in who.iris)
    detail = cv2.cvtColor(fibres, cv2.COLOR_RGBA2GRAY).astype(np.float32)
    for (cx, cy), pupil in zip(*_iris_places(folder / "brown_eye.webp"), strict=True):
        rim = _rim(edge, pupil)
        box = tuple(slice(max(int(c - 1.2 * rim), 0), int(c + 1.2 * rim)) for c in (cy, cx))
        y, x = (grid.astype(np.float32) for grid in np.mgrid[box])
        radius = np.hypot(x - cx, y - cy)
        share = np.clip((radius - pupil) / (rim - pupil), 0, 1)[..., None]
        ring = radius < rim
        usual = float(np.median(detail[box][ring & (radius > pupil * 1.3)]))
        light = np.clip(detail[box] / max(usual, 20.0), 0.4, 1.7)[..., None]
        iris = (inner + (outer - inner) * share**0.8) * (0.55 + 0.5 * light)
        iris *= 1 - 0.55 * np.exp(-(((share - 1.0) / 0.16) ** 2))  # the dark rim
        black = 1 / (1 + np.exp((radius[..., None] - pupil * who.pupil) / (0.002 * edge)))
        iris = iris * (1 - black) + 10 * black
        cover = 1 / (1 + np.exp((radius[..., None] - rim) / (0.004 * edge)))
        result[box] = result[box] * (1 - cover) + iris * cover
    return np.concatenate([np.clip(result, 0, 255), base[..., 3:]], 2).astype(np.uint8)


_LETTERED = ("female_casualsuit01", "male_casualsuit02", "male_casualsuit04", "male_casualsuit06")
"""Clothes that bear a mark: only their cut is used."""


# Cloth ---------------------------------------------------------------------------------------------------------------


def _weave(edge: int, rng: np.random.Generator) -> np.ndarray:
    """[edge, edge, 3] float32: a plain, striped or checked fabric, 0..1."""
    hue, saturation, value = rng.random() * 180, rng.beta(1.2, 2.0) * 220, rng.uniform(35, 235)
    second = (
        (hue + rng.normal(0, 40)) % 180,
        saturation * rng.uniform(0.2, 1),
        np.clip(value + rng.normal(0, 80), 25, 245),
    )
    pair = np.array([[[hue, saturation, value], second]], np.float32).astype(np.uint8)
    first, other = cv2.cvtColor(pair, cv2.COLOR_HSV2RGB)[0].astype(np.float32) / 255
    t = np.arange(edge, dtype=np.float32)
    period = float(rng.uniform(10, 40))
    stripes = (np.sin(2 * np.pi * t / period) > rng.uniform(-0.6, 0.8)).astype(np.float32)
    kind = rng.random()
    if kind < 0.6:
        pattern = np.zeros((edge, edge), np.float32)
    elif kind < 0.8:
        pattern = np.repeat(stripes[None], edge, 0) if rng.random() < 0.6 else np.repeat(stripes[:, None], edge, 1)
    else:
        pattern = 0.5 * (stripes[None] + stripes[:, None])
    threads = 1 + 0.05 * np.sin(t * 1.9)[None] * np.sin(t * 1.7)[:, None]
    threads = threads + 0.03 * rng.standard_normal((edge, edge)).astype(np.float32)
    return (first + (other - first) * pattern[..., None]) * threads[..., None]


def cloth(who: Identity, path: Path | None) -> np.ndarray:
    """Clothes in other colours: dyed as they are, or of another fabric with the folds of the old one."""
    rng = np.random.default_rng([who.seed, 0xC10])
    if path is None:
        woven = _weave(512, rng)
        return np.concatenate([np.clip(woven * 255, 0, 255), np.full((512, 512, 1), 255)], 2).astype(np.uint8)
    texture = picture(path)
    folded = not path.stem.startswith(_LETTERED)
    if "elegant" in path.name or (folded and rng.random() < 0.45):
        hsv = cv2.cvtColor(texture[..., :3], cv2.COLOR_RGB2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + rng.uniform(0, 180)) % 180
        hsv[..., 1] *= rng.uniform(0.2, 1.0)
        hsv[..., 2] = 255 * (hsv[..., 2] / 255) ** rng.uniform(0.6, 1.3)
        colours = cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    else:
        grey = cv2.cvtColor(texture, cv2.COLOR_RGBA2GRAY).astype(np.float32)
        folds = cv2.GaussianBlur(grey, (0, 0), 2.0) / np.maximum(cv2.GaussianBlur(grey, (0, 0), 24.0), 12.0)
        if not folded:
            folds = 1 + 0.05 * smooth_noise(texture.shape[0], 12, rng)
        colours = 255 * _weave(texture.shape[0], rng) * np.clip(folds, 0.65, 1.3)[..., None]
    return np.concatenate([np.clip(colours, 0, 255), texture[..., 3:]], 2).astype(np.uint8)


def _only(folder: Path, *patterns: str) -> Path:
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not found:
        raise FileNotFoundError(f"no texture in {folder}")
    return found[0]


def skin_file(folder: Path, name: str) -> Path:
    """The picture of a skin. Raises FileNotFoundError."""
    return _only(folder / name, "*.webp", "*.png")
