"""Colours, picked by hand: all named colours of a character's traits, with their light and shadow tones."""

import colorsys
from dataclasses import dataclass

Color = tuple[int, ...]


def rgb(text: str) -> Color:
    """(r, g, b) from '#rrggbb'."""
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def hexadecimal(color: Color) -> str:
    """'#rrggbb' from (r, g, b)."""
    return "#{:02x}{:02x}{:02x}".format(*color[:3])


def mix(a: Color, b: Color, t: float) -> Color:
    """From `a` at t = 0 to `b` at t = 1."""
    return tuple(round(p + (q - p) * t) for p, q in zip(a[:3], b[:3], strict=True))


def alpha(color: Color, opacity: float) -> Color:
    """The colour with an opacity 0..1."""
    return (*color[:3], round(255 * opacity))


def tone(color: Color, lightness: float, hue: float = 0.0, saturation: float = 1.0) -> Color:
    """The colour with its lightness and saturation scaled and its hue rotated (in turns)."""
    turn, light, strength = colorsys.rgb_to_hls(*(c / 255 for c in color[:3]))
    r, g, b = colorsys.hls_to_rgb((turn + hue) % 1, min(1.0, light * lightness), min(1.0, strength * saturation))
    return round(255 * r), round(255 * g), round(255 * b)


def luminance(color: Color) -> float:
    """0 (black) .. 1 (white), as the eye weighs the channels."""
    return (0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]) / 255


@dataclass(frozen=True)
class Skin:
    """A skin colour: warm lit and shaded tones, with matching line, blush and lip colours."""

    light: Color
    base: Color
    shadow: Color
    deep: Color
    line: Color
    blush: Color
    lip: Color


def _skin(light: str, base: str, shadow: str, deep: str, line: str, blush: str, lip: str) -> Skin:
    return Skin(*(rgb(t) for t in (light, base, shadow, deep, line, blush, lip)))


SKINS: dict[str, Skin] = {
    "porcelain": _skin("#fff8f2", "#ffeee4", "#f6cdc2", "#e3a59c", "#a65a58", "#ff9ca0", "#dd7c82"),
    "ivory": _skin("#fff3e6", "#ffe6d2", "#f4c3a8", "#dd9a82", "#9c5347", "#ff9690", "#d97672"),
    "rose": _skin("#ffeadf", "#fddac9", "#eeb09f", "#d4867a", "#96493f", "#f9847f", "#cf6766"),
    "peach": _skin("#ffe6cd", "#fad2b2", "#e8a783", "#cb7f60", "#8c432f", "#f57d6c", "#c96255"),
    "sand": _skin("#fadcb8", "#f0c79c", "#d99c70", "#b87650", "#7d4027", "#ec7860", "#c05d4c"),
    "honey": _skin("#f3cb9c", "#e5b281", "#c78655", "#a3623a", "#6d361d", "#e2694f", "#b45244"),
    "olive": _skin("#e5c493", "#d4a976", "#b27e4d", "#8d5c35", "#5d351c", "#d4674a", "#a64f40"),
    "caramel": _skin("#dfac78", "#cb915d", "#a5673a", "#814725", "#512711", "#d0573c", "#9c4437"),
    "tawny": _skin("#cf9662", "#b77b4a", "#8f552d", "#6d3b1d", "#43200e", "#c24a33", "#903b32"),
    "chestnut": _skin("#ba7d50", "#a0643a", "#7a4222", "#5a2b15", "#371709", "#b3412c", "#a04d40"),
    "umber": _skin("#a0663f", "#864f2c", "#633218", "#48200f", "#2b1107", "#a53a28", "#96463a"),
    "espresso": _skin("#87522f", "#6c3d21", "#4c2611", "#36180b", "#220d06", "#973423", "#8d4238"),
    "ebony": _skin("#6c4026", "#532e19", "#391b0c", "#281107", "#190905", "#862d20", "#83392f"),
}


@dataclass(frozen=True)
class Hair:
    """A hair colour: lit band, body, shade, deepest shade, line."""

    shine: Color
    light: Color
    base: Color
    shadow: Color
    deep: Color
    line: Color


def hair(base: Color) -> Hair:
    """The tones of a hair colour. Shadows shift towards violet-red, highlights towards yellow: never merely darker."""
    dark = luminance(base) < 0.22
    return Hair(
        shine=mix(base, (255, 246, 232), 0.30 if dark else 0.62),
        light=mix(base, (255, 240, 224), 0.10 if dark else 0.22),
        base=base,
        shadow=mix(tone(base, 0.74, 0.0, 1.02), (92, 46, 92), 0.16),
        deep=mix(tone(base, 0.52, 0.0, 1.0), (62, 28, 66), 0.26),
        line=mix(tone(base, 0.30, 0.0, 0.9), (40, 16, 38), 0.45),
    )


HAIR_COLORS: dict[str, str] = {
    "raven": "#2b2730",
    "soft black": "#3b3338",
    "espresso": "#4a332c",
    "chestnut": "#6e4230",
    "chocolate": "#5a3a2e",
    "auburn": "#8c4127",
    "copper": "#bf5f2c",
    "ginger": "#d9813f",
    "caramel": "#a9733f",
    "dark blonde": "#b99462",
    "honey blonde": "#dcb06a",
    "platinum": "#f0e2c0",
    "silver": "#c9ccd8",
    "steel grey": "#868b98",
    "white": "#f1eff4",
    "rose pink": "#f19ab0",
    "sakura": "#f8c3cd",
    "cherry": "#b8324c",
    "wine": "#722a46",
    "lilac": "#b79ad6",
    "violet": "#7b56b0",
    "midnight blue": "#333f72",
    "azure": "#4d8fd0",
    "sky": "#9fcdec",
    "teal": "#2f8f93",
    "mint": "#9bdcc4",
    "forest": "#3f6b4c",
}
NATURAL_HAIR = list(HAIR_COLORS)[:15]

EYE_COLORS: dict[str, str] = {
    "dark brown": "#53301f",
    "brown": "#7d4a2a",
    "hazel": "#94703a",
    "amber": "#d08a22",
    "gold": "#e6b630",
    "green": "#4b9150",
    "emerald": "#139a73",
    "aqua": "#24b3b8",
    "sky": "#4aa3e0",
    "blue": "#2f68c8",
    "indigo": "#4a4dc0",
    "violet": "#8b55cf",
    "magenta": "#cc4a9e",
    "rose": "#e0607c",
    "crimson": "#c22a3a",
    "grey": "#76839a",
}

CLOTH_COLORS: dict[str, str] = {
    "white": "#f6f3f0",
    "cream": "#efe2c8",
    "sand": "#d3b48c",
    "camel": "#b3804d",
    "brown": "#6f4a35",
    "charcoal": "#3d3f4a",
    "black": "#2a2830",
    "navy": "#2c3a63",
    "denim": "#4f6f9f",
    "sky": "#9cc7ea",
    "teal": "#2b7f86",
    "mint": "#a5dcc6",
    "sage": "#94aa86",
    "forest": "#335a45",
    "mustard": "#dba537",
    "orange": "#e2803c",
    "coral": "#ee7f6c",
    "red": "#c63a42",
    "burgundy": "#7a2b40",
    "rose": "#eeb0bb",
    "pink": "#e8799b",
    "lavender": "#bba9de",
    "purple": "#69479a",
    "grey": "#a3a6b0",
}


@dataclass(frozen=True)
class Cloth:
    """A cloth colour with its lit, shaded and line tones."""

    light: Color
    base: Color
    shadow: Color
    deep: Color
    line: Color


def cloth(base: Color) -> Cloth:
    """The tones of a cloth colour."""
    bright = luminance(base) > 0.75
    return Cloth(
        light=mix(base, (255, 250, 242), 0.22),
        base=base,
        shadow=mix(tone(base, 0.86 if bright else 0.76), (96, 84, 160), 0.16 if bright else 0.12),
        deep=mix(tone(base, 0.70 if bright else 0.55), (60, 44, 110), 0.22),
        line=mix(tone(base, 0.34, 0.0, 0.8), (34, 22, 48), 0.5),
    )
