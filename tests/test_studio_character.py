"""Characters: from seeds, from traits, and what is refused."""

import json

import pytest

from streamer.studio.character import TRAITS, Character, colour_of
from streamer.studio.draw import accessories, anatomy, background, eyes, garments, hair


def test_a_seed_is_always_the_same_character_and_seeds_differ():
    """Seeds are names for characters: stable and distinct."""
    assert Character.from_seed(7) == Character.from_seed(7)
    assert len({Character.from_seed(seed).choices for seed in range(60)}) == 60


def test_traits_go_through_json_and_back():
    """`traits` is what `from_traits` accepts, also after a trip through JSON."""
    for seed in range(40):
        traits = Character.from_seed(seed).traits
        assert list(traits) == list(TRAITS)
        assert Character.from_traits(json.loads(json.dumps(traits))).traits == traits


def test_seeds_use_the_whole_wardrobe():
    """Every hair style, garment, skin tone and accessory turns up among a few hundred seeds."""
    characters = [Character.from_seed(seed).traits for seed in range(700)]
    for trait in ("hair", "garment", "skin", "headwear", "eyewear", "background", "eyes", "face", "neckwear"):
        values = {choice["value"] for choice in TRAITS[trait]["choices"]}
        assert {c[trait] for c in characters} == values, trait


def test_schema_is_what_a_builder_page_needs():
    """Each trait has a label and either choices with labels (colours with swatches) or bounds, and it serialises."""
    json.dumps(TRAITS)
    for trait, schema in TRAITS.items():
        assert schema["label"], trait
        if schema["kind"] == "number":
            assert schema["min"] < schema["max"]
            continue
        values = [choice["value"] for choice in schema["choices"]]
        assert len(values) == len(set(values)) >= 2
        assert all(choice["label"] for choice in schema["choices"])
        if schema["kind"] == "colour":
            assert all("swatch" in choice or choice["value"] == "same" for choice in schema["choices"])
    assert len(TRAITS["hair"]["choices"]) >= 12
    assert len(TRAITS["garment"]["choices"]) >= 8
    assert len(TRAITS["skin"]["choices"]) >= 10


@pytest.mark.parametrize(
    ("traits", "words"),
    [
        ({"tail": "long"}, ("tail", "hair_colour")),
        ({"hair": "mohawk"}, ("mohawk", "afro")),
        ({"hair_colour": "#12345"}, ("#12345", "raven")),
        ({"skin": "#a07050"}, ("#a07050", "caramel")),
        ({"eye_size": 3}, ("3", "1.15")),
        ({"eye_size": float("nan")}, ("nan", "0.85")),
        ({"eye_size": True}, ("True", "0.85")),
        ({"eyes": 4}, ("4", "almond")),
        ({"garment_colour": ["red"]}, ("red", "navy")),
    ],
)
def test_what_does_not_exist_is_refused_with_the_choices(traits, words):
    """A bad trait or value is a ValueError that names it and what there is."""
    with pytest.raises(ValueError) as error:
        Character.from_traits(traits)
    for word in words:
        assert word in str(error.value)


def test_colours_are_names_or_hexadecimal():
    """A colour trait takes a named swatch or any '#rrggbb'."""
    character = Character.from_traits({"hair_colour": "#12ab9f", "garment_colour": "navy"})
    assert colour_of("hair_colour", str(character.traits["hair_colour"])) == (0x12, 0xAB, 0x9F)
    assert colour_of("garment_colour", "navy") == (0x2C, 0x3A, 0x63)


def test_names_are_friendly_and_given():
    """Every character has a first name; one may be given."""
    assert all(Character.from_seed(seed).name.isalpha() for seed in range(30))
    assert Character.from_traits({}, name="Momo").name == "Momo"


def test_tables_of_templates_and_traits_agree():
    """A template that no trait names, or a choice that nothing draws, is a mistake."""

    def values(trait):
        return {choice["value"] for choice in TRAITS[trait]["choices"]}

    assert set(hair.STYLES) == values("hair")
    assert set(garments.GARMENTS) == values("garment")
    assert set(background.BACKGROUNDS) == values("background")
    assert set(accessories.HEADWEAR) | set(accessories.HEADWEAR_BEHIND) | {"none"} == values("headwear")
    assert set(accessories.EYEWEAR) | {"none"} == values("eyewear")
    assert set(accessories.NECKWEAR) | {"none"} == values("neckwear")
    assert set(anatomy.FACES) == values("face") and set(anatomy.BUILDS) == values("build")
    assert set(eyes.SHAPES) == values("eyes") and set(eyes.BROWS) == values("brows")
