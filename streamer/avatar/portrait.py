"""The pictures that the neural generator draws a character from.

    studio character ─▶ its rig at rest, eyes shut, mouth open ──┐
    uploaded pictures ─▶ aligned, cut out of their background ───┴▶ references (cut out), plate (what is behind)

References have twice the size of the frames: what is copied from between the pixels of a picture of the frame's own
size loses its edges.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from streamer.avatar.characters import CharacterRecord
from streamer.base.alpha import premultiplied
from streamer.base.errors import RequestError
from streamer.base.image import backdrop
from streamer.faces.alignment import PLACES, face_mask
from streamer.faces.detector import Face
from streamer.faces.pose import face_of
from streamer.motion.controls import controls, rest
from streamer.studio.character import Character
from streamer.studio.picture_rig import PreparedPicture
from streamer.studio.picture_rig.framing import FRAME
from streamer.studio.picture_rig.layers import split
from streamer.studio.picture_rig.lent import mouth_of
from streamer.studio.rig import SIZES, Rig

MOST_REFERENCES = 3

_MASK = 256
"""Edge of the picture in which the face's mask is computed."""

_POSES = {"eyes_shut": {"blink_left": 1.0, "blink_right": 1.0}, "mouth_open": {"open": 0.75, "teeth": 0.3}}
"""Role -> controls of the further references of studio characters."""


@dataclass(frozen=True, eq=False)
class Portrait:
    """A character's pictures for frames of one size S."""

    references: tuple[np.ndarray, ...]
    """[T, T, 4] uint8 premultiplied RGBA of the character alone, T up to 2 S: the neutral picture first."""
    roles: tuple[str, ...]
    plate: np.ndarray | None
    """[S, S, 4] uint8 straight RGBA: what is behind; None if frames keep their alpha, or have none."""
    face: np.ndarray
    """[16, 16] float32: the fraction of each of the neutral picture's latent cells that shows the face."""
    centre: tuple[float, float]
    """Of the face, x and y in edges of the picture."""


def portrait(entry: CharacterRecord, size: int, background: bool) -> Portrait:
    """
    A character's pictures for frames of `size`, with its background or without. Blocking: some 0.1 s. Raises
    `RequestError` (422) for a picture whose face is unknown.
    """
    if entry.character is not None:
        return _of_studio(entry.character, size, background)
    if entry.pack is None:
        raise RequestError(422, "no_face", "no face is known in the picture: mark its eyes and mouth")
    return _of_picture(entry.prepared(), size, background)


def _of_studio(character: Character, size: int, background: bool) -> Portrait:
    with Rig(character, min(2 * size, SIZES[1]), background=False) as rig:
        poses = {"neutral": rest(), **{role: controls(**values) for role, values in _POSES.items()}}
        references = tuple(premultiplied(rig.draw(pose)) for pose in poses.values())
    plate = None
    if background:
        with Rig(character, size) as rig:
            plate = rig.plate()
    face = Face(1.0, (PLACES[:2] * _MASK).astype(np.float32), (PLACES[2] * _MASK).astype(np.float32))
    return Portrait(references, tuple(poses), plate, *_face(face))


def _face(face: Face) -> tuple[np.ndarray, tuple[float, float]]:
    """Mask and centre of a face in a picture `_MASK` wide."""
    x, y = (face.eyes.mean(0) + face.mouth) / 2 / _MASK
    return face_mask(face, _MASK), (float(x), float(y))


def _of_picture(prepared: PreparedPicture, size: int, background: bool) -> Portrait:
    framing, edge = prepared.framing, 2 * size
    image = framing.image(edge)
    plate: np.ndarray | None = None
    if framing.matte is not None and framing.opaque:
        person = split(image, framing.image(edge, framing.matte))[0]
        if background:
            plate = split(framing.image(size), framing.image(size, framing.matte))[1]
    else:
        person = image
        if background and not framing.opaque:
            plate = backdrop(size)
    references, roles = [person], ["neutral"]
    for role, picture in _further(prepared, edge):
        references.append(_masked(picture, person))
        roles.append(role)
    face = face_of(framing.fit).moved(np.array([[_MASK / FRAME, 0, 0], [0, _MASK / FRAME, 0]]))
    return Portrait(tuple(references), tuple(roles), plate, *_face(face))


def _further(prepared: PreparedPicture, edge: int) -> Iterator[tuple[str, np.ndarray]]:
    """Further pictures of the same face, aligned: shut eyes, and an open mouth."""
    mouth = mouth_of(prepared.lent)
    found: dict[str, Callable[[int], np.ndarray]] = {}
    if "eyes_shut" in prepared.lent:
        found["eyes_shut"] = prepared.lent["eyes_shut"].image
    if mouth is not None:
        found["mouth_open"] = mouth.image
    for role, image in list(found.items())[: MOST_REFERENCES - 1]:
        yield role, image(edge)


def _masked(picture: np.ndarray, person: np.ndarray) -> np.ndarray:
    """
    A further picture [T, T, 4], cut out where the neutral one, `person`, is, and completed by it beyond its own edges:
    they are aligned.
    """
    seen, alpha = picture[..., 3], person[..., 3]
    out = picture if alpha.min() == 255 else _times(picture, alpha)
    if seen.min() < 255:
        out = cv2.add(out, _times(person, 255 - seen))
    np.minimum(out[..., :3], out[..., 3:], out=out[..., :3])
    return out


def _times(picture: np.ndarray, share: np.ndarray) -> np.ndarray:
    """A picture [T, T, 4] uint8 times a fraction [T, T] uint8 of 255."""
    return cv2.multiply(picture, cv2.merge([share] * 4), scale=1 / 255)
