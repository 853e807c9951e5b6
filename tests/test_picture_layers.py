"""A person before a background: two layers that give the picture, whatever the matte says."""

import cv2
import numpy as np
import pytest

from streamer.studio.picture_rig.layers import joined, split

SIZE = 512


def pictured(outline: int) -> tuple[np.ndarray, np.ndarray]:
    """[S, S, 4] a grey disc with a black outline on a light ground, and its matte [S, S], without the outline."""
    image = np.full((SIZE, SIZE, 4), (190, 200, 210, 255), np.uint8)
    middle = (SIZE // 2, SIZE // 2)
    cv2.circle(image, middle, 60 + outline, (10, 10, 10, 255), -1)
    cv2.circle(image, middle, 60, (120, 110, 100, 255), -1)
    matte = cv2.circle(np.zeros((SIZE, SIZE), np.uint8), middle, 60, 255, -1)
    return image, matte


@pytest.mark.parametrize("softness", [0, 1, 3])
def test_both_layers_give_the_picture(softness: int) -> None:
    """Nothing changes at rest, however soft the matte is and whatever lies behind it."""
    image, matte = pictured(2)
    image[..., :3] += np.random.default_rng(0).integers(0, 40, (SIZE, SIZE, 3), np.uint8)
    if softness:
        matte = cv2.GaussianBlur(matte, (0, 0), softness)
    apart = np.abs(joined(*split(image, matte)).astype(int) - image)
    assert apart.max() <= 3 and apart.mean() < 0.1


def test_an_outline_that_the_matte_misses_goes_with_the_person() -> None:
    """No dark line is left in the background, which would show as soon as the head moves."""
    image, matte = pictured(2)
    person, plate = split(image, matte)
    assert plate[..., :3].min() > 150
    outline = image[..., 0] < 50
    assert person[..., 3][outline].min() > 200


def test_what_is_far_from_the_person_stays_in_the_background() -> None:
    """A thing behind the person does not follow the head."""
    image, matte = pictured(0)
    image[4:12, 4:12, :3] = 30
    person, plate = split(image, matte)
    assert not person[4:12, 4:12, 3].any() and (plate[4:12, 4:12, :3] == 30).all()
