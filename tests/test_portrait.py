"""The pictures that the neural generator copies from: cut out, in roles, over their background."""

import cv2
import numpy as np
import pytest
from drawn_faces import POSES, Drawn

from streamer.avatar.characters import CharacterRecord
from streamer.avatar.portrait import portrait
from streamer.base.errors import RequestError
from streamer.base.image import backdrop
from streamer.faces.pack import Given, make_pack
from streamer.model.runtime.compose import Composer, Scene
from streamer.motion.controls import rest
from streamer.studio.character import Character
from streamer.studio.face_fit import Style
from streamer.studio.picture_rig.layers import joined
from streamer.studio.rig import Rig

_SIZE = 256
ROLES = ("neutral", "eyes_shut", "mouth_open")


def studio(seed: int) -> CharacterRecord:
    return CharacterRecord(f"studio-{seed}", "somebody", Character.from_seed(seed), seed)


@pytest.mark.parametrize("background", [True, False])
def test_at_rest_the_pictures_compose_to_the_rigs(background: bool) -> None:
    """The neutral reference over its plate is what the rig draws at rest, to half a level."""
    entry = studio(7)
    made = portrait(entry, _SIZE, background)
    assert (made.plate is not None) == background
    scene = Scene.prepare(made.references[:1], _SIZE, made.plate)
    composer = Composer(_SIZE)
    shares = np.ones((1, 128, 128), np.float32)
    frame = composer.compose(scene, np.zeros((1, 2, 64, 64), np.float32), shares, np.zeros((5, 128, 128), np.float32))
    shown = composer.finish(scene, frame, [], False)
    with Rig(entry.character, _SIZE, background) as rig:  # type: ignore[arg-type]
        wanted = rig.draw(rest()).astype(int)
    assert isinstance(shown, np.ndarray)
    weight = wanted[..., 3:] / 255
    assert np.abs((shown[..., :3] - wanted[..., :3]) * weight).mean() < 0.5
    assert np.abs(shown[..., 3].astype(int) - wanted[..., 3]).mean() < 0.5


def test_studio_characters_show_shut_eyes_and_an_open_mouth() -> None:
    """Further references differ from the neutral one where their role says, and nowhere else."""
    made = portrait(studio(13), _SIZE, False)
    assert made.roles == ROLES
    neutral, shut, opened = (picture.astype(int) for picture in made.references)
    edge = len(neutral)
    for picture, low, high in ((shut, 0.35, 0.55), (opened, 0.5, 0.75)):
        rows = np.abs(picture - neutral).sum((1, 2))
        inside = rows[int(low * edge) : int(high * edge)].sum()
        assert inside > 0.95 * rows.sum() > 0
    assert made.face.shape == (16, 16) and 0 < made.face.mean() < 0.5
    assert made.centre == pytest.approx((0.5, 0.513), abs=0.01)


def upload(*roles: str, style: Style = "drawing") -> CharacterRecord:
    """A character of drawn pictures in these roles."""
    drawn = [Given(*Drawn(style=style, **POSES[role]).picture(), f"{role}.png") for role in roles]  # type: ignore[arg-type]
    pack = make_pack(drawn)
    return CharacterRecord("p", "picture", picture=pack.neutral, pack=pack)


def test_an_uploads_references_are_its_own_pictures() -> None:
    """The neutral one is shown with its own mouth; further ones differ from it where their role says."""
    entry = upload(*ROLES)
    made = portrait(entry, _SIZE, True)
    assert made.roles == ROLES and made.plate is None
    framing = entry.prepared().framing
    np.testing.assert_array_equal(made.references[0], framing.image(2 * _SIZE))
    neutral, shut, opened = (picture.astype(int) for picture in made.references)
    eyes, mouth = framing.fit.lids.mean((0, 1))[1], framing.fit.points[[13, 14], 1].mean()
    for picture, near, far in ((shut, eyes, mouth), (opened, mouth, eyes)):
        rows = np.abs(picture - neutral)[..., :3].sum((1, 2))
        changed, unchanged = (rows[round(y) - 15 : round(y) + 15].mean() for y in (near, far))
        assert changed > 3 * unchanged


def test_a_photograph_is_cut_out_of_its_background() -> None:
    """The neutral reference over the plate is the photograph; further ones are cut out where it is."""
    entry = upload(*ROLES, style="photo")
    made = portrait(entry, _SIZE, True)
    person, *others = made.references
    assert made.plate is not None and made.plate[..., 3].min() == 255
    assert person[..., 3].min() == 0 and person[..., 3].max() == 255
    for picture in others:
        assert np.abs(picture[..., 3].astype(int) - person[..., 3]).max() <= 1
    shown = joined(cv2.resize(person, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA), made.plate)
    assert np.abs(shown.astype(int) - entry.prepared().framing.image(_SIZE)).mean() < 2


def test_a_further_picture_is_completed_by_the_neutral_one() -> None:
    """Where it does not reach, the neutral one is shown, and nothing is transparent."""
    entry = upload(*ROLES)
    assert entry.pack is not None
    entry.pack.others["eyes_shut"].pixels[:40, :, :] = 0  # type: ignore[index]
    neutral, shut, _ = portrait(entry, _SIZE, True).references
    assert shut[..., 3].min() == 255
    above = round(30 * entry.prepared().framing.scale)
    shift = round(entry.prepared().framing.matrix[1, 2])
    assert np.abs(shut.astype(int) - neutral)[: above + shift].max() == 0


def test_a_clear_upload_stands_before_a_backdrop() -> None:
    """Only where a background is asked for; the face's place is where the picture has it."""
    pixels, fit = Drawn().picture()  # a photograph, which would be cut out if it were opaque
    pixels[:60, :, 3] = 0
    pack = make_pack([Given(pixels, fit)])
    entry = CharacterRecord("p", "picture", picture=pack.neutral, pack=pack)
    made = portrait(entry, _SIZE, True)
    np.testing.assert_array_equal(made.plate, backdrop(_SIZE))
    assert portrait(entry, _SIZE, False).plate is None
    assert made.references[0][..., 3].min() == 0
    eyes, mouth = fit.lids.reshape(-1, 2).mean(0), fit.points[[13, 14], :2].mean(0)
    shown = entry.prepared().framing.matrix @ [*((eyes + mouth) / 2), 1] / 512
    assert made.centre == pytest.approx(tuple(shown), abs=0.03)


def test_a_picture_without_a_face_is_refused() -> None:
    """A record without a fitted face is answered with 422."""
    entry = CharacterRecord("p", "picture", picture=np.zeros((64, 64, 4), np.uint8))
    with pytest.raises(RequestError) as refused:
        portrait(entry, _SIZE, True)
    assert refused.value.status == 422
