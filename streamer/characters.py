"""The characters a server knows: the studio's by seed, those built from traits, and uploaded pictures."""

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from streamer.base.errors import BadPicture
from streamer.faces.decode import decode_picture
from streamer.model.face import Face, FaceDetector
from streamer.model.picture import marked, the_face
from streamer.signalling import Refused
from streamer.studio.character import Character
from streamer.studio.picture import StillRig
from streamer.studio.rig import Rig, expression

SHOWN_SEEDS = (24, 13, 71, 40, 4, 73, 3, 37, 17, 78, 45, 29)
"""The studio's characters that every server offers."""

MAX_SEED = 2**31 - 1

_SAMPLE_EDGE = 512


@dataclass
class Entry:
    """One character: either the studio's traits, or a picture [H, W, 4] uint8 RGBA and, where known, its face."""

    id: str
    name: str
    character: Character | None = None
    seed: int | None = None
    picture: np.ndarray | None = None
    face: Face | None = None
    """In the picture's pixels."""
    own_mouth: bool = False
    """Whether the neural generator is to move the picture's own mouth instead of one drawn in its place."""
    built_in: bool = False
    consent: bool | None = None
    """Whether its user says that the picture may be used; None: nothing was said."""
    thumbnails: dict[tuple[int, bool], bytes] = field(default_factory=dict)

    @property
    def rig_name(self) -> str:
        """Which rig `rig` gives: one of config.RENDERERS."""
        return Rig.name if self.character is not None else StillRig.name

    def rig(self, size: int, background: bool) -> Rig | StillRig:
        """A fresh rig that draws it; takes tens of milliseconds."""
        if self.character is not None:
            return Rig(self.character, size, background)
        assert self.picture is not None
        return StillRig(self.picture, size, background)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "kind": "studio" if self.character is not None else "picture",
            "traits": dict(self.character.traits) if self.character is not None else None,
            "seed": self.seed,
            "face": self.face is not None or self.character is not None,
            "picture": f"/v1/characters/{self.id}/picture",
        }


def portrait(drawable: Rig | StillRig, emotion: str = "neutral") -> bytes:
    """A PNG of what `drawable` draws at rest, in an emotion of `controls.EMOTIONS`. Closes it."""
    try:
        image = drawable.draw(expression(emotion, 1.0), 0.0)
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG", compress_level=3)
        return stream.getvalue()
    finally:
        drawable.close()


class Characters:
    """The store. Thread-safe. Past `most` built or uploaded characters the least recently used is forgotten.

    Where `needs_face`, uploaded pictures without one that is found or marked are refused: the neural generator would
    not know what to move.
    """

    def __init__(self, most: int = 256, needs_face: bool = False) -> None:
        self._most = most
        self.needs_face = needs_face
        self._detector: FaceDetector | None = None  # loaded by the first upload that needs it
        self._lock = threading.Lock()
        self._built_in: dict[str, Entry] = {}
        self._added: OrderedDict[str, Entry] = OrderedDict()
        for seed in SHOWN_SEEDS:
            character = Character.from_seed(seed)
            self._built_in[str(seed)] = Entry(str(seed), character.name, character, seed=seed, built_in=True)

    @property
    def default(self) -> str:
        return str(SHOWN_SEEDS[0])

    def samples(self) -> list[Entry]:
        """
        A character of each kind that the rigs draw, the default one first: what drawing costs is measured on them.
        Blocking.
        """
        studio = self.get(self.default)
        rig = studio.rig(_SAMPLE_EDGE, True)
        try:
            picture = rig.draw(expression("neutral", 1.0)).copy()
        finally:
            rig.close()
        return [studio, Entry("sample", "Sample picture", picture=picture)]

    def all(self) -> list[Entry]:
        with self._lock:
            return [*self._built_in.values(), *self._added.values()]

    def get(self, character_id: str) -> Entry:
        """By id, or by a seed that was never listed. Raises `Refused` (404)."""
        with self._lock:
            if entry := self._built_in.get(character_id):
                return entry
            if entry := self._added.get(character_id):
                self._added.move_to_end(character_id)
                return entry
        if (
            character_id.isascii()
            and character_id.isdecimal()
            and len(character_id) <= 10
            and int(character_id) <= MAX_SEED
        ):
            return self.from_seed(int(character_id))
        raise Refused(404, "unknown_character", f"there is no character {character_id[:40]!r}")

    def from_seed(self, seed: int) -> Entry:
        if not 0 <= seed <= MAX_SEED:
            raise Refused(422, "bad_traits", f"seed {seed} is not between 0 and {MAX_SEED}")
        with self._lock:
            if entry := self._built_in.get(str(seed)):
                return entry
        character = Character.from_seed(seed)
        return self._add(Entry(str(seed), character.name, character, seed=seed))

    def from_traits(self, traits: Mapping[str, Any], name: str | None = None) -> Entry:
        character = checked_traits(traits)
        digest = hashlib.sha256(repr((sorted(character.traits.items()), name)).encode()).hexdigest()[:12]
        return self._add(Entry(f"c-{digest}", name or character.name, character))

    def from_picture(
        self,
        data: bytes,
        name: str | None = None,
        marks: Sequence[float] | None = None,
        own_mouth: bool = False,
        faced: bool = True,
        consent: bool | None = None,
    ) -> Entry:
        """Decodes and keeps an uploaded picture. Raises `Refused`. Blocking: run it off the event loop.

        `marks`, where its user gave them: x, y of one eye, of the other, of the mouth, in the pixels of the picture as
        it is shown. Not `faced`: no face is looked for, and the picture is one to be shown, not to be made to talk by
        the neural generator. `consent`: whether its user says that it may be used.
        """
        try:
            decoded = decode_picture(data)
            picture, scale = decoded.pixels, decoded.scale
            face = self._face(picture, scale, marks, faced)
        except BadPicture as error:
            faces = [face.moved(_enlarged(1 / scale)).to_json() for face in getattr(error, "faces", ())]
            raise Refused(422, error.reason, str(error), more={"faces": faces} if faces else {}) from None
        said = repr(marks) * (marks is not None) + "own mouth" * own_mouth
        said += "no face" * (self.needs_face and face is None)
        digest = hashlib.sha256(data + said.encode()).hexdigest()[:12]
        return self._add(
            Entry(
                f"p-{digest}",
                name or "My picture",
                picture=picture,
                face=face,
                own_mouth=own_mouth,
                consent=consent,
            )
        )

    def _face(self, picture: np.ndarray, scale: float, marks: Sequence[float] | None, faced: bool) -> Face | None:
        if marks is not None:
            height, width = (round(edge / scale) for edge in picture.shape[:2])
            return marked(marks, width, height).moved(_enlarged(scale))
        if not (self.needs_face and faced):
            return None
        try:
            with self._lock:
                self._detector = self._detector or FaceDetector.load()
        except (FileNotFoundError, ValueError) as error:
            raise Refused(500, "no_face_detector", f"{error}: mark the eyes and the mouth") from None
        return the_face(picture, self._detector)

    def _add(self, entry: Entry) -> Entry:
        with self._lock:
            self._added[entry.id] = entry
            self._added.move_to_end(entry.id)
            while len(self._added) > self._most:
                self._added.popitem(last=False)
        return entry

    def thumbnail(self, entry: Entry, size: int, background: bool) -> bytes:
        """A PNG, drawn once. Blocking."""
        key = (size, background)
        if key not in entry.thumbnails:
            entry.thumbnails[key] = portrait(entry.rig(size, background))
        return entry.thumbnails[key]


def _enlarged(scale: float) -> np.ndarray:
    return np.array([[scale, 0, 0], [0, scale, 0]])


def checked_traits(traits: Mapping[str, Any]) -> Character:
    """Traits to a character. Raises `Refused` (422) naming the trait."""
    try:
        return Character.from_traits(traits)
    except (ValueError, TypeError) as error:
        raise Refused(422, "bad_traits", str(error)) from None
