"""Who somebody is: a seed decides shape, skin, hair, clothes and manner. Pure choices, no geometry.

Local shape targets are drawn together for both sides with a small difference; stronger than about a sixth they make
caricatures.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from streamer.training.people.skeleton import Manner
from streamer.training.people.units import Habit

LOCAL, UNEVEN = 0.135, 0.10
"""Standard deviations of local shape targets, and of what tells the left side from the right."""

_OPPOSITES = (
    ("incr", "decr"), ("up", "down"), ("out", "in"), ("forward", "backward"), ("convex", "concave"),
    ("compress", "uncompress"),
)  # fmt: skip
_HEADS = ("oval", "round", "rectangular", "square", "triangular", "invertedtriangular", "diamond")
_LEFT_OUT = (
    "head-age",
    "head-trans",
    "head-angle",
    "mouth-trans-in",
    "mouth-trans-out",
    "measure-",
    "neck-trans",
    "eyebrows-angle",
    "eyebrows-trans-",
)
_TONES = np.array(
    [(240, 206, 192), (230, 186, 167), (213, 161, 137), (186, 134, 106), (150, 107, 83), (113, 80, 64), (81, 58, 48)]
)
"""sRGB of skins from light to dark."""
_HAIRS = {
    "black": (26, 22, 20), "espresso": (44, 31, 24), "brown": (76, 52, 36), "chestnut": (104, 66, 42),
    "light brown": (134, 98, 66), "blonde": (184, 148, 98), "pale blonde": (212, 188, 148), "red": (142, 70, 38),
    "grey": (140, 136, 132), "white": (212, 210, 206), "rose": (196, 110, 132), "teal": (56, 120, 126),
}  # fmt: skip
_IRISES = {
    "dark brown": ((92, 58, 38), (64, 42, 30)), "brown": ((134, 88, 54), (92, 62, 40)),
    "amber": ((164, 116, 66), (112, 78, 46)), "hazel": ((146, 122, 76), (104, 104, 72)),
    "green": ((142, 142, 98), (104, 120, 92)), "grey": ((156, 162, 164), (116, 126, 132)),
    "blue": ((146, 168, 182), (100, 130, 156)), "pale blue": ((176, 192, 200), (126, 152, 172)),
}  # fmt: skip
WOMEN, MEN = 0, 1
SKINS = {
    WOMEN: ("young_caucasian_female2", "young_asian_female", "middleage_asian_female"),
    MEN: ("young_caucasian_male", "young_caucasian_male2", "middleage_caucasian_male", "young_asian_male",
          "middleage_asian_male", "young_african_male", "middleage_african_male", "old_african_male"),
}  # fmt: skip
_DARK = ("young_african_male", "middleage_african_male", "old_african_male")
LONG = {"bob02": 0.18, "long01": 0.34, "braid01": 0.16, "ponytail01": 0.32}
SHORT = {"short01": 0.31, "short02": 0.30, "short03": 0.10, "short04": 0.29}
"""Hair and how often: what hangs over an eye is rarer."""
_DRESS = {
    WOMEN: ("female_casualsuit01", "female_elegantsuit01", "female_sportsuit01", "female_casualsuit02"),
    MEN: ("male_casualsuit01", "male_casualsuit02", "male_casualsuit03", "male_casualsuit04", "male_casualsuit05",
          "male_casualsuit06", "male_elegantsuit01", "male_worksuit01"),
}  # fmt: skip


@dataclass(frozen=True)
class Identity:
    seed: int
    gender: float
    """0 woman .. 1 man"""
    age: float
    """0.5 young .. 1 old"""
    descent: tuple[float, float, float]
    """Shares of MakeHuman's African, Asian and Caucasian shapes"""
    weight: float
    muscle: float
    local: dict[str, float]
    """Shape target -> strength"""
    skins: tuple[str, str]
    """Two photographed skins that are mixed"""
    tone: tuple[float, float, float]
    """sRGB, 0..255, of the cheeks"""
    relief: float
    gloss: float
    freckles: float
    beard: float
    """How dense stubble is, 0..1"""
    lips: tuple[float, float, float]
    """Factors on the lips' colour"""
    hair: str | None
    hair_colour: tuple[float, float, float]
    hair_tip: tuple[float, float, float]
    hair_mirrored: bool
    hair_volume: tuple[float, float]
    """Factors on how far hair stands off the head, and on its length"""
    brows: str
    brow_depth: float
    brow_fall: float
    """Decimetres by which the outer ends of the brows are lower than the inner ones"""
    lashes: str
    iris: tuple[tuple[float, float, float], tuple[float, float, float]]
    """sRGB next to the pupil, and at the rim"""
    pupil: float
    clothes: str
    teeth: tuple[float, float, float]
    habit: Habit
    manner: Manner = field(default_factory=Manner)


def _local(names: Iterable[str], rng: np.random.Generator) -> dict[str, float]:
    names = set(names)
    chosen: dict[str, float] = {f"head/head-{_HEADS[rng.integers(len(_HEADS))]}": float(rng.uniform(0.05, 0.4))}
    shared: dict[str, float] = {}
    for name in sorted(names):
        folder, _, stem = name.partition("/")
        if folder in ("macrodetails", "asym") or any(part in name for part in _LEFT_OUT):
            continue
        for more, less in _OPPOSITES:
            if not stem.endswith(f"-{more}") or f"{name.removesuffix(more)}{less}" not in names:
                continue
            base = name.removesuffix(more)
            common = base.replace("/l-", "/").replace("/r-", "/")
            if common not in shared:
                shared[common] = float(np.clip(rng.normal(0, LOCAL), -0.42, 0.42))
            strength = shared[common]
            if base != common:
                strength += float(rng.normal(0, UNEVEN * LOCAL))
            chosen[f"{base}{more if strength > 0 else less}"] = abs(strength)
            break
    # Brows as they come look angry: inner ends high, all of them rather high.
    chosen["eyebrows/eyebrows-angle-up"] = float(rng.uniform(0.2, 0.9))
    chosen["eyebrows/eyebrows-trans-up"] = float(rng.uniform(0.0, 0.5))
    for name in sorted(names):
        if name.startswith("asym/") and rng.random() < 0.15:
            chosen[name] = float(rng.uniform(0, UNEVEN))
    return chosen


def _colour(options: dict, weights: dict[str, float], rng: np.random.Generator):
    names = list(weights)
    share = np.array(list(weights.values()))
    return options[str(rng.choice(names, p=share / share.sum()))]


def _three(values: np.ndarray) -> tuple[float, float, float]:
    a, b, c = (float(value) for value in values)
    return a, b, c


def _tinted(colour: Iterable[float], amount: float, rng: np.random.Generator) -> tuple[float, float, float]:
    r, g, b = (float(np.clip(c * f, 0, 255)) for c, f in zip(colour, np.exp(rng.normal(0, amount, 3)), strict=True))
    return r, g, b


def _hair_colour(age: float, dark: float, rng: np.random.Generator) -> tuple[float, float, float]:
    grey = float(np.clip((age - 0.68) * 3.2, 0, 0.9))
    if rng.random() < grey:
        return _tinted(_HAIRS["grey" if rng.random() < 0.6 else "white"], 0.08, rng)
    shares = {"black": 0.25 + 1.6 * dark, "espresso": 0.5 + 0.5 * dark, "brown": 0.6, "chestnut": 0.35}
    fair = max(1 - 1.9 * dark, 0.02)
    shares |= {"light brown": 0.5 * fair, "blonde": 0.55 * fair, "pale blonde": 0.2 * fair, "red": 0.25 * fair}
    shares |= {"rose": 0.03, "teal": 0.03}
    return _tinted(_colour(_HAIRS, shares, rng), 0.10, rng)


def identity(seed: int, targets: Iterable[str]) -> Identity:
    """The person of that seed; `targets` are the shape targets there are."""
    rng = np.random.default_rng([seed, 0x9E0])
    sex = int(rng.integers(2))
    gender = float(rng.uniform(0.8, 1) if sex == MEN else rng.uniform(0, 0.2))
    age = float(rng.beta(1.1, 2.2) * 0.48 + 0.46)
    descent = rng.dirichlet([0.45, 0.45, 0.45])
    african, asian, caucasian = (float(share) for share in descent)
    melanin = float(np.clip(0.80 * african + 0.30 * asian + 0.14 * caucasian + rng.normal(0, 0.09), 0, 1))
    place = melanin * (len(_TONES) - 1)
    tone = [np.interp(place, range(len(_TONES)), _TONES[:, c]) for c in range(3)]
    pool = [skin for skin in SKINS[sex] if (skin in _DARK) == (melanin > 0.55)] or list(SKINS[sex])
    skins = str(rng.choice(pool)), str(rng.choice(pool))
    iris_dark = float(np.clip(1.5 * (1 - caucasian) + melanin - 0.2, 0, 1))
    iris = _colour(_IRISES, {
        "dark brown": 0.15 + 1.5 * iris_dark, "brown": 0.4 + 0.8 * iris_dark, "amber": 0.2 * (1 - iris_dark) + 0.03,
        "hazel": 0.35 * (1 - iris_dark) + 0.02, "green": 0.3 * (1 - iris_dark), "grey": 0.2 * (1 - iris_dark),
        "blue": 0.4 * (1 - iris_dark), "pale blue": 0.2 * (1 - iris_dark),
    }, rng)  # fmt: skip
    hair_colour = _hair_colour(age, min(1.2 * melanin + 0.5 * asian, 1.0), rng)
    long = rng.random() < (0.8 if sex == WOMEN else 0.12)
    styles = LONG if long else SHORT
    hair: str | None = str(rng.choice(list(styles), p=list(styles.values())))
    if sex == MEN and not long and rng.random() < 0.12 + 0.25 * (age > 0.75):
        hair = None
    tip = np.array(hair_colour) * (rng.uniform(1.1, 1.6) if rng.random() < 0.3 else rng.uniform(0.95, 1.15))
    made_up = sex == WOMEN and rng.random() < 0.4
    lips = rng.uniform((0.78, 0.52, 0.55), (1.02, 0.80, 0.84)) if made_up else rng.uniform(0.95, 1.05, 3)
    smile, lift = rng.uniform(0.06, 0.20), rng.uniform(0.20, 0.44)
    rests = {"mouthSmileLeft": smile, "mouthSmileRight": smile, "browInnerUp": lift,
             "browOuterUpLeft": 0.7 * lift, "browOuterUpRight": 0.7 * lift}  # fmt: skip
    paired = ("mouthSmile", "browOuterUp", "browDown", "eyeSquint", "mouthStretch", "cheekSquint", "mouthUpperUp",
              "mouthLowerDown", "mouthFrown")  # fmt: skip
    uneven = {f"{unit}{side}": float(np.exp(rng.normal(0, 0.10))) for unit in paired for side in ("Left", "Right")}
    return Identity(
        seed=seed, gender=gender, age=age, descent=(african, asian, caucasian),
        weight=float(rng.uniform(0.32, 0.66)), muscle=float(rng.uniform(0.35, 0.65)), local=_local(targets, rng),
        skins=skins, tone=_tinted(tone, 0.018, rng), relief=float(rng.uniform(0.25, 0.6) * (0.75 + 0.5 * age)),
        gloss=float(rng.uniform(0.35, 0.8) * (1 - 0.45 * melanin)), freckles=float(max(rng.normal(-0.3, 0.5), 0)
        * (melanin < 0.4)), beard=float(max(rng.normal(0.1, 0.4), 0) if sex == MEN else 0.0),
        lips=_three(lips), hair=hair, hair_colour=hair_colour, hair_tip=_tinted(tip, 0.04, rng),
        hair_mirrored=bool(rng.random() < 0.5),
        hair_volume=(float(rng.uniform(0.96, 1.10)), float(rng.uniform(0.80, 1.12))),
        brows=f"eyebrow{int(rng.integers(1, 13)):03d}", brow_depth=float(rng.uniform(0.65, 1.0)),
        brow_fall=float(rng.uniform(0.0, 0.06)),
        lashes=f"eyelashes0{int(rng.integers(1, 5))}", iris=(_tinted(iris[0], 0.07, rng), _tinted(iris[1], 0.07, rng)),
        pupil=float(rng.uniform(0.82, 1.25)),
        clothes=str(rng.choice(_DRESS[sex])), teeth=_three(rng.uniform((0.93, 0.90, 0.84), (1.0, 1.0, 1.0))),
        habit=Habit(uneven, rests),
        manner=Manner(arms_out=float(rng.uniform(0.06, 0.2)), shoulders=float(rng.uniform(-0.06, 0.05)),
                      palm=float(rng.uniform(-0.2, 0.7)), spread=float(rng.uniform(-0.02, 0.14)),
                      reach=float(rng.uniform(1.9, 2.8)),
                      curls={finger: float(rng.uniform(0.75, 1.25)) for finger in range(1, 6)}),
    )  # fmt: skip


def shape_weights(who: Identity) -> dict[str, float]:
    """Shape target -> strength: MakeHuman's large ones mixed for sex, age, descent and build, and the local ones."""
    sexes = {"female": 1 - who.gender, "male": who.gender}
    ages = {"young": max(2 - 2 * who.age, 0.0), "old": max(2 * who.age - 1, 0.0)}
    if who.age < 0.5:
        ages = {"child": 1 - 2 * who.age, "young": 2 * who.age}
    builds = {"minweight": max(0.0, 1 - 2 * who.weight), "averageweight": 1 - abs(2 * who.weight - 1),
              "maxweight": max(0.0, 2 * who.weight - 1)}  # fmt: skip
    muscles = {"minmuscle": max(0.0, 1 - 2 * who.muscle), "averagemuscle": 1 - abs(2 * who.muscle - 1),
               "maxmuscle": max(0.0, 2 * who.muscle - 1)}  # fmt: skip
    weights = dict(who.local)
    for sex, a in sexes.items():
        for age, b in ages.items():
            for descent, c in zip(("african", "asian", "caucasian"), who.descent, strict=True):
                weights[f"macrodetails/{descent}-{sex}-{age}"] = a * b * c
            for muscle, c in muscles.items():
                for build, d in builds.items():
                    weights[f"macrodetails/universal-{sex}-{age}-{muscle}-{build}"] = a * b * c * d
    return weights
