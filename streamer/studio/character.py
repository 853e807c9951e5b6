"""Characters: named traits, chosen or generated from a seed so that they suit each other.

`TRAITS` is the schema for a character builder's page; `Character.traits` is plain JSON that `from_traits` accepts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.studio.draw import palette

Value = str | float
_HEX = re.compile(r"#[0-9a-fA-F]{6}\Z")


def _choice(label: str, *values: str) -> dict[str, Any]:
    choices = [{"value": v, "label": v.capitalize()} for v in values]
    return {"label": label, "kind": "choice", "choices": choices}


def _colour(label: str, swatches: Mapping[str, str], *before: str, custom: bool = True) -> dict[str, Any]:
    choices: list[dict[str, str]] = [{"value": v, "label": v.capitalize()} for v in before]
    choices += [{"value": v, "label": v.capitalize(), "swatch": swatch} for v, swatch in swatches.items()]
    return {"label": label, "kind": "colour", "choices": choices, "custom": custom}


def _number(label: str, low: float, high: float) -> dict[str, Any]:
    return {"label": label, "kind": "number", "min": low, "max": high}


_SKIN_SWATCHES = {name: palette.hexadecimal(skin.base) for name, skin in palette.SKINS.items()}

# "custom": a colour trait that also accepts any '#rrggbb'. Skin does not: its shadows are painted by hand.
TRAITS: dict[str, dict[str, Any]] = {
    "hair": _choice(
        "Hair",
        "hime cut", "long waves", "long straight", "wavy bob", "sleek bob", "pixie", "twin tails", "high ponytail",
        "side braid", "twin buns", "drill curls", "big curls", "afro", "coily puffs", "box braids", "locs", "messy",
        "spiky", "side swept", "undercut", "slick back", "curtains", "wolf cut", "man bun", "buzz cut", "bald",
        "hijab",
    ),
    "hair_colour": _colour("Hair colour", palette.HAIR_COLORS),
    "hair_tips": _colour("Tips", palette.HAIR_COLORS, "same"),
    "face": _choice("Face shape", "soft", "round", "oval", "heart", "diamond", "long", "square", "chiselled"),
    "age": _choice("Age", "young", "adult", "older"),
    "skin": _colour("Skin", _SKIN_SWATCHES, custom=False),
    "eyes": _choice("Eye shape", "round", "doe", "almond", "cat", "droopy", "sleepy", "narrow", "sharp"),
    "eye_colour": _colour("Eye colour", palette.EYE_COLORS),
    "eye_colour_right": _colour("Right eye", palette.EYE_COLORS, "same"),
    "eye_size": _number("Eye size", 0.85, 1.15),
    "lashes": _choice("Lashes", "none", "soft", "long", "winged"),
    "brows": _choice("Brows", "soft", "straight", "arched", "thick", "thin", "short"),
    "nose": _choice("Nose", "dot", "soft", "button", "defined", "broad"),
    "lips": _choice("Lips", "natural", "tinted", "full"),
    "mouth_size": _number("Mouth size", 0.85, 1.15),
    "ears": _choice("Ears", "round", "pointed"),
    "marks": _choice(
        "Marks", "none", "freckles", "mole under eye", "mole by mouth", "scar", "stickers", "face paint"
    ),
    "beard": _choice("Beard", "none", "stubble", "goatee", "moustache", "short beard", "full beard"),
    "build": _choice("Build", "slim", "medium", "broad"),
    "garment": _choice(
        "Clothes",
        "hoodie", "shirt and tie", "blazer", "sailor", "turtleneck", "kimono", "t-shirt", "sundress", "cloak",
        "lab coat", "track jacket", "cardigan", "overalls", "leather jacket",
    ),
    "garment_colour": _colour("Clothes colour", palette.CLOTH_COLORS),
    "garment_accent": _colour("Second colour", palette.CLOTH_COLORS),
    "eyewear": _choice("Glasses", "none", "round glasses", "square glasses", "half-rim glasses", "eyepatch"),
    "headwear": _choice(
        "On the head",
        "none", "headphones", "cat ears", "fox ears", "bunny ears", "horns", "beret", "beanie", "cap", "witch hat",
        "hair clips", "flower", "ribbon", "halo",
    ),
    "neckwear": _choice("Around the neck", "none", "scarf", "choker", "pendant", "headset around neck"),
    "earrings": _choice("Earrings", "none", "studs", "hoops", "drops"),
    "background": _choice(
        "Background", "bokeh", "room", "evening city", "studio lights", "plain", "sky", "library"
    ),
}  # fmt: skip

_DEFAULTS: dict[str, Value] = {
    "hair": "messy", "hair_colour": "chestnut", "hair_tips": "same", "face": "soft", "age": "young", "skin": "peach",
    "eyes": "round", "eye_colour": "brown", "eye_colour_right": "same", "eye_size": 1.0, "lashes": "soft",
    "brows": "soft", "nose": "soft", "lips": "natural", "mouth_size": 1.0, "ears": "round", "marks": "none",
    "beard": "none", "build": "medium", "garment": "hoodie", "garment_colour": "teal", "garment_accent": "cream",
    "eyewear": "none", "headwear": "none", "neckwear": "none", "earrings": "none", "background": "bokeh",
}  # fmt: skip

_NAMES = {
    "feminine": "Aiko Amara Anna Beatriz Chiara Chloe Dalia Emi Esme Farah Freya Grace Hana Ines Ivy Jaya Kaya Leila "
    "Lina Luna Maya Mei Mila Nadia Nia Noor Olive Priya Rina Rosa Saki Selam Sora Talia Uma Vera Willow Yara Zoe Zuri",
    "masculine": "Ade Akira Amir Ben Bruno Caleb Dario Diego Eli Emre Felix Finn Haru Hugo Idris Ivan Jin Jonas Kai "
    "Kenji Kofi Leo Luca Marco Mateo Milo Nico Noah Omar Oscar Ravi Ren Sami Seth Taro Theo Umar Viktor Yusuf Zane",
    "androgynous": "Alex Ari Ash Blue Charlie Dara Eden Ellis Fern Gray Harper Indigo Jules Juno Kit Lake Lou Marlow "
    "Nova Onyx Pax Quinn Rain Remy River Robin Rowan Sage Sasha Sky Soren Tai Toby Val Wren Xen Yuki Zephyr",
}


@dataclass(frozen=True)
class Character:
    """A character's name and traits. Equal traits give equal pictures."""

    name: str
    choices: tuple[tuple[str, Value], ...]

    @property
    def traits(self) -> dict[str, Value]:
        """All traits by name, in TRAITS' order: the argument of `from_traits`."""
        return dict(self.choices)

    @classmethod
    def from_traits(cls, traits: Mapping[str, Value], name: str = "") -> "Character":
        """A character with these traits and defaults for the others. Raises ValueError for unknown names or values."""
        for trait, value in traits.items():
            check_trait(trait, value)
        chosen = {**_DEFAULTS, **traits}
        return cls(name or _name(_seed_of(chosen), _presentation(chosen)), tuple((t, chosen[t]) for t in TRAITS))

    @classmethod
    def from_seed(cls, seed: int) -> "Character":
        """The character of a seed: matching traits, the same for equal seeds."""
        traits, presentation = _imagine(np.random.default_rng([seed % 2**63, 2]))
        return cls(_name(seed, presentation), tuple((t, traits[t]) for t in TRAITS))


def check_trait(trait: str, value: Any) -> None:
    """Raises ValueError, with the choices, for an unknown trait or value."""
    if trait not in TRAITS:
        raise ValueError(f"there is no trait {trait!r}; the traits are {', '.join(TRAITS)}")
    schema = TRAITS[trait]
    if schema["kind"] == "number":
        low, high = schema["min"], schema["max"]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"trait {trait!r} is a number between {low} and {high}, not {value!r}")
        return
    values = [choice["value"] for choice in schema["choices"]]
    if value in values or (schema.get("custom") and isinstance(value, str) and _HEX.match(value)):
        return
    extra = " or a colour '#rrggbb'" if schema.get("custom") else ""
    raise ValueError(f"trait {trait!r} cannot be {value!r}; it is one of {', '.join(values)}{extra}")


def colour_of(trait: str, value: str) -> palette.Color:
    """(r, g, b) of a colour trait's value, a name or '#rrggbb'."""
    if _HEX.match(value):
        return palette.rgb(value)
    swatches = {c["value"]: c.get("swatch") for c in TRAITS[trait]["choices"]}
    return palette.rgb(swatches[value])


def _seed_of(traits: Mapping[str, Value]) -> int:
    return sum((i + 1) * 131**k % 100_003 for k, v in enumerate(traits.values()) for i in str(v).encode()[:6])


def _name(seed: int, presentation: str) -> str:
    names = _NAMES[presentation].split()
    return names[int(np.random.default_rng([seed % 2**63, 1]).integers(len(names)))]


def _presentation(traits: Mapping[str, Value]) -> str:
    if traits["beard"] != "none" or traits["build"] == "broad":
        return "masculine"
    return "feminine" if traits["lashes"] in ("long", "winged") else "androgynous"


# Matching traits ------------------------------------------------------------------------------------------------------

_HAIRS = {
    "feminine": "hime cut,long waves,long straight,wavy bob,sleek bob,pixie,twin tails,high ponytail,side braid,"
    "twin buns,drill curls,big curls,afro,coily puffs,box braids,wolf cut,hijab",
    "masculine": "messy,spiky,side swept,undercut,slick back,curtains,man bun,buzz cut,bald,afro,locs,wolf cut,"
    "messy,spiky",
    "androgynous": "messy,pixie,wolf cut,wavy bob,sleek bob,curtains,side swept,locs,undercut,big curls,afro,"
    "long straight,high ponytail,spiky",
}
_COILED = ("afro", "coily puffs", "box braids", "locs", "big curls")
_COVERED = ("hijab",)
_GARMENTS = {
    "feminine": "hoodie,blazer,sailor,turtleneck,kimono,t-shirt,sundress,cloak,lab coat,track jacket,cardigan,"
    "overalls,leather jacket",
    "masculine": "hoodie,shirt and tie,blazer,turtleneck,kimono,t-shirt,cloak,lab coat,track jacket,cardigan,"
    "leather jacket",
    "androgynous": "hoodie,shirt and tie,blazer,turtleneck,kimono,t-shirt,cloak,lab coat,track jacket,cardigan,"
    "overalls,leather jacket",
}
_OUTFITS = (  # garment colour, accent
    "navy white", "black red", "charcoal coral", "cream brown", "white navy", "teal cream", "burgundy cream",
    "mustard navy", "forest sand", "lavender purple", "rose white", "sky white", "mint white", "coral cream",
    "denim mustard", "red black", "purple mustard", "sage cream", "grey black", "camel cream", "pink lavender",
    "orange navy", "black teal", "brown sage", "navy mustard", "charcoal mint", "white coral", "black purple",
)  # fmt: skip
_UNDER_HAT = ("hime cut", "long waves", "long straight", "wavy bob", "sleek bob", "side braid", "messy", "wolf cut",
              "curtains", "locs", "box braids", "pixie", "side swept", "drill curls")  # fmt: skip


def _imagine(rng: np.random.Generator) -> tuple[dict[str, Value], str]:
    def one(options: Any) -> str:
        options = options.split(",") if isinstance(options, str) else list(options)
        return str(options[int(rng.integers(len(options)))])

    def weighted(**weights: float) -> str:
        total = sum(weights.values())
        return str(rng.choice([k.replace("_", " ") for k in weights], p=[w / total for w in weights.values()]))

    kind = weighted(feminine=0.46, masculine=0.34, androgynous=0.20)
    age = weighted(young=0.66, adult=0.24, older=0.10)
    skin = one(palette.SKINS)
    depth = list(palette.SKINS).index(skin) / (len(palette.SKINS) - 1)
    hair = one(_HAIRS[kind])
    if depth > 0.5 and rng.random() < 0.4:
        hair = one([h for h in _COILED if h in _HAIRS[kind] or h in ("afro", "locs")])
    fantasy = rng.random() < (0.45 if age == "young" else 0.2)
    if age == "older":
        color = one(["silver", "steel grey", "white", "dark blonde", "soft black"])
    elif fantasy:
        color = one(list(palette.HAIR_COLORS)[15:] + ["silver", "white"])
    else:
        fair = ["honey blonde", "platinum", "ginger", "copper", "dark blonde", "caramel", "auburn", "chestnut"]
        deep = ["raven", "soft black", "espresso", "chocolate", "chestnut"]
        color = one(deep + (fair if depth < 0.45 else ["auburn", "caramel"]))
    tips = "same"
    if age != "older" and hair not in ("bald", "buzz cut", "hijab") and rng.random() < 0.16:
        tips = one(["rose pink", "azure", "lilac", "teal", "platinum", "cherry", "mint"])
    eye = one(palette.EYE_COLORS) if fantasy else one("dark brown,brown,hazel,amber,green,blue,sky,grey".split(","))
    if depth > 0.55 and not fantasy:
        eye = one("dark brown,brown,hazel,amber")
    garment_colour, accent = one(_OUTFITS).split(" ")
    headwear = "none"
    if rng.random() < 0.5 and hair not in _COVERED:
        hats = ["beret", "beanie", "cap", "witch hat"] if hair in _UNDER_HAT else []
        cute = ["cat ears", "fox ears", "bunny ears", "hair clips", "flower", "ribbon", "halo"]
        plain = ["headphones", "headphones", "horns"]
        headwear = one(plain + (cute if kind != "masculine" else ["cat ears"]) + hats)
        if hair in ("bald", "buzz cut"):
            headwear = one(["headphones", "beanie", "cap"])
    beard = "none"
    if kind == "masculine" and age != "young" and rng.random() < 0.6:
        beard = one("stubble,goatee,moustache,short beard,full beard")
    elif kind == "masculine" and rng.random() < 0.12:
        beard = "stubble"
    soft_faces = {"feminine": "soft,round,oval,heart,diamond", "masculine": "oval,long,square,chiselled,diamond"}
    shapes = {"feminine": "round,doe,almond,cat,droopy,sleepy", "masculine": "narrow,sharp,almond,droopy,sleepy"}
    return {
        "hair": hair,
        "hair_colour": color,
        "hair_tips": tips,
        "face": one(soft_faces.get(kind, "soft,oval,heart,long")),
        "age": age,
        "skin": skin,
        "eyes": one(shapes.get(kind, "round,almond,cat,droopy,narrow")),
        "eye_colour": eye,
        "eye_colour_right": one(palette.EYE_COLORS) if fantasy and rng.random() < 0.08 else "same",
        "eye_size": round(float(rng.uniform(0.93, 1.08)), 3),
        "lashes": {"feminine": one("soft,long,winged"), "masculine": "none"}.get(kind, one("none,soft")),
        "brows": one({"feminine": "soft,arched,thin,straight,short", "masculine": "thick,straight,soft"}.get(
            kind, "soft,straight,arched")),
        "nose": "broad" if depth > 0.6 and rng.random() < 0.5 else one(
            {"feminine": "dot,soft,button", "masculine": "soft,defined,button"}.get(kind, "soft,dot,defined")),
        "lips": {"feminine": one("natural,tinted,full"), "masculine": "natural"}.get(kind, one("natural,tinted")),
        "mouth_size": round(float(rng.uniform(0.92, 1.1)), 3),
        "ears": "pointed" if fantasy and rng.random() < 0.25 else "round",
        "marks": one("freckles,mole under eye,mole by mouth,scar,stickers,face paint") if rng.random() < 0.3
        else "none",
        "beard": beard,
        "build": {"feminine": one("slim,slim,medium"), "masculine": one("medium,broad")}.get(kind, one("slim,medium")),
        "garment": one(_GARMENTS[kind]),
        "garment_colour": garment_colour,
        "garment_accent": accent,
        "eyewear": one("round glasses,square glasses,half-rim glasses,eyepatch") if rng.random() < 0.24 else "none",
        "headwear": headwear,
        "neckwear": one("scarf,choker,pendant,headset around neck") if rng.random() < 0.22 else "none",
        "earrings": one("studs,hoops,drops") if kind != "masculine" and rng.random() < 0.4 else "none",
        "background": one([c["value"] for c in TRAITS["background"]["choices"]]),
    }, kind  # fmt: skip
