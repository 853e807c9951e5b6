"""The characters that a server offers: the studio's by seed, those built from traits, and uploaded pictures."""

import hashlib
import io
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from streamer.base.errors import BadPicture, RequestError
from streamer.faces.alignment import PLACES
from streamer.faces.clip import is_video
from streamer.faces.decode import SUFFIXES, decode_picture
from streamer.faces.detector import Face
from streamer.faces.fitting import prepare
from streamer.faces.pack import MAX_PICTURES, Pack
from streamer.faces.pose import face_of, placed
from streamer.faces.reading import PictureReader, Upload
from streamer.faces.roles import ROLES
from streamer.studio.character import Character
from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig import PictureRig, PreparedPicture
from streamer.studio.rig import Rig, expression
from streamer.studio.still_rig import StillRig

SHOWN_SEEDS = (24, 13, 71, 40, 4, 73, 3, 37, 17, 78, 45, 29)
"""Seeds of the built-in characters."""

MAX_SEED = 2**31 - 1

_MOST_FILE_BYTES = 512 * 2**20  # of a local file: a clip is held in memory while its first seconds are read
_MOST_BYTES = 2**30  # all uploaded pictures together; one takes up to 16 MiB, a pack eight times that
_SAMPLE_EDGE = 512


@dataclass
class CharacterRecord:
    """One character: a studio character's traits, or a picture [H, W, 4] uint8 RGBA with its face if one was found."""

    id: str
    name: str
    character: Character | None = None
    seed: int | None = None
    picture: np.ndarray | None = None
    pack: Pack | None = None
    """The fitted face, further pictures and notices; None if no face was found."""
    unfound: str = ""
    """Why no face was found, if one was searched for."""
    own_mouth: bool = False
    """Whether the neural generator moves the picture's own mouth instead of a drawn one."""
    built_in: bool = False
    consent: bool | None = None
    """Whether the user confirmed that the picture may be used; None if they were not asked."""
    thumbnails: dict[tuple[int, bool], bytes] = field(default_factory=dict)
    _prepared: PreparedPicture | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def face(self) -> Face | None:
        """Eyes and mouth in the picture's pixels."""
        return None if self.pack is None else face_of(self.pack.fit)

    def member(self, role: str) -> tuple[np.ndarray, FaceFit]:
        """The picture [H, W, 4] uint8 chosen for a role, and its face. Raises `RequestError` (404)."""
        if self.pack is not None and role == "neutral":
            return self.pack.neutral, self.pack.fit
        member = self.pack.others.get(role) if self.pack is not None else None  # type: ignore[call-overload]
        if member is None:
            raise RequestError(404, "unknown_role", f"character {self.id} has no picture for {role[:40]!r}")
        return member.pixels, member.fit

    @property
    def size(self) -> int:
        """Size of its pictures in bytes."""
        pictures = [] if self.picture is None else [self.picture]
        if self.pack is not None:
            pictures = [self.pack.neutral, *(member.pixels for member in self.pack.others.values())]
        return sum(picture.nbytes for picture in pictures)

    def prepared(self) -> PreparedPicture:
        """The prepared picture, computed once. Blocking: about 0.3 s the first time."""
        assert self.pack is not None
        with self._lock:
            if self._prepared is None:
                self._prepared = prepare(self.pack)
            return self._prepared

    @property
    def rig_name(self) -> str:
        """The rig that `rig` creates: one of constants.RENDERERS."""
        if self.character is not None:
            return Rig.name
        return StillRig.name if self.pack is None else PictureRig.name

    def rig(self, size: int, background: bool) -> Rig | PictureRig | StillRig:
        """A new rig of this character. Blocking: tens of milliseconds, and 0.3 s more for a picture's first."""
        if self.character is not None:
            return Rig(self.character, size, background)
        if self.pack is not None:
            return PictureRig(self.prepared(), size, background)
        assert self.picture is not None
        return StillRig(self.picture, size, background)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "kind": "studio" if self.character is not None else "picture",
            "traits": dict(self.character.traits) if self.character is not None else None,
            "seed": self.seed,
            "face": self.pack is not None or self.character is not None,
            "pack": self._pack_to_json(),
            "picture": f"/v1/characters/{self.id}/picture",
        }

    def _pack_to_json(self) -> dict[str, Any] | None:
        if self.pack is None:
            if not self.unfound:
                return None
            text = f"{self.unfound[0].upper()}{self.unfound[1:]}. Without a face the picture moves as a whole."
            size = [self.picture.shape[1], self.picture.shape[0]] if self.picture is not None else None
            notices = [{"code": "no_face", "text": text}]
            return {"size": size, "chosen": [], "missing": list(ROLES), "notices": notices}
        pack = self.pack.to_json()
        for chosen in pack["chosen"]:
            chosen["picture"] = f"/v1/characters/{self.id}/pack/{chosen['role']}"
        return pack


def portrait(drawable: Rig | PictureRig | StillRig, emotion: str = "neutral") -> bytes:
    """A PNG of what `drawable` draws at rest, in an emotion of `controls.EMOTIONS`. Closes it."""
    try:
        return png(drawable.draw(expression(emotion, 1.0), 0.0))
    finally:
        drawable.close()


def png(image: np.ndarray) -> bytes:
    """A PNG of a picture [H, W, 4] uint8."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


class Characters:
    """Stores the characters. Thread-safe.

    Beyond `most` custom or uploaded characters, or 1 GiB of pictures, it evicts the least recently used one.

    With `needs_face`, it rejects uploaded pictures in which no face is found or marked, because nothing could animate
    them. Without it, such pictures move as a whole.
    """

    def __init__(self, most: int = 256, needs_face: bool = False) -> None:
        self._most = most
        self.needs_face = needs_face
        self._reader = PictureReader()
        self._lock = threading.Lock()
        self._built_in: dict[str, CharacterRecord] = {}
        self._added: OrderedDict[str, CharacterRecord] = OrderedDict()
        for seed in SHOWN_SEEDS:
            character = Character.from_seed(seed)
            self._built_in[str(seed)] = CharacterRecord(str(seed), character.name, character, seed=seed, built_in=True)

    @property
    def default(self) -> str:
        return str(SHOWN_SEEDS[0])

    def samples(self) -> list[CharacterRecord]:
        """One character of each kind that the rigs draw, the default first, for measuring drawing costs. Blocking."""
        studio = self.get(self.default)
        rig = studio.rig(_SAMPLE_EDGE, True)
        try:
            picture = rig.draw(expression("neutral", 1.0)).copy()
        finally:
            rig.close()
        pack = Pack(picture, placed(Face(1.0, PLACES[:2] * _SAMPLE_EDGE, PLACES[2] * _SAMPLE_EDGE)), {}, (), ())
        samples = [studio, CharacterRecord("sample", "Sample picture", picture=picture, pack=pack)]
        if not self.needs_face:
            samples.append(CharacterRecord("sample-still", "Sample picture without a face", picture=picture))
        return samples

    def all(self) -> list[CharacterRecord]:
        with self._lock:
            return [*self._built_in.values(), *self._added.values()]

    def get(self, character_id: str) -> CharacterRecord:
        """Finds a character by id, or creates one from an unlisted seed. Raises `RequestError` (404)."""
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
        raise RequestError(404, "unknown_character", f"there is no character {character_id[:40]!r}")

    def from_seed(self, seed: int) -> CharacterRecord:
        if not 0 <= seed <= MAX_SEED:
            raise RequestError(422, "bad_traits", f"seed {seed} is not between 0 and {MAX_SEED}")
        with self._lock:
            if entry := self._built_in.get(str(seed)):
                return entry
        character = Character.from_seed(seed)
        return self._add(CharacterRecord(str(seed), character.name, character, seed=seed))

    def from_traits(self, traits: Mapping[str, Any], name: str | None = None) -> CharacterRecord:
        character = checked_traits(traits)
        digest = hashlib.sha256(repr((sorted(character.traits.items()), name)).encode()).hexdigest()[:12]
        return self._add(CharacterRecord(f"c-{digest}", name or character.name, character))

    def from_picture(
        self,
        data: bytes,
        name: str | None = None,
        marks: Sequence[float] | None = None,
        own_mouth: bool = False,
        faced: bool = True,
        consent: bool | None = None,
    ) -> CharacterRecord:
        """Like `from_pictures`, with one picture."""
        return self.from_pictures([Upload(data)], name, marks, None, own_mouth, faced, consent)

    def from_pictures(
        self,
        uploads: Sequence[Upload],
        name: str | None = None,
        marks: Sequence[float] | None = None,
        at: tuple[float, float] | None = None,
        own_mouth: bool = False,
        faced: bool = True,
        consent: bool | None = None,
    ) -> CharacterRecord:
        """Decodes and stores 1 to 8 uploaded pictures of one character. Raises `RequestError`. Blocking: run it off the
        event loop.

        `marks` and `at` are in pixels of the first picture as displayed. `marks` are user-supplied x, y of one eye, the
        other eye and the mouth; `at` is x, y of the intended face if there are several. With `faced=False`, no face is
        searched for, and the (single) picture is shown without animating a face. `consent` records whether the user
        confirmed that the picture may be used.
        """
        first = uploads[0].data if uploads else b""
        with _refusing():
            pack, unfound = None, ""
            try:
                if faced:
                    pack = self._reader.read(uploads, marks, at)
            except BadPicture as error:
                if error.reason != "no_face" or self.needs_face or len(uploads) > 1:
                    raise
                unfound = str(error)
            picture = decode_picture(first).pixels if pack is None else pack.neutral
        options = repr(marks) * (marks is not None) + repr(at) * (at is not None)
        options += "own mouth" * own_mouth + "no face" * (pack is None)
        if len(uploads) > 1:
            options += repr([(hashlib.sha256(one.data).hexdigest(), one.name, one.role) for one in uploads])
        elif uploads[0].role:
            options += uploads[0].role
        entry = _uploaded(first, options, name or "My picture", picture, pack, own_mouth, consent)
        entry.unfound = unfound
        return self._add(entry)

    def from_clip(
        self,
        data: bytes,
        name: str | None = None,
        own_mouth: bool = False,
        consent: bool | None = None,
        file: str = "",
    ) -> CharacterRecord:
        """Creates a character from the best frames of a video, and stores only those. `file` names it in errors.

        Raises `RequestError`. Blocking, up to some seconds: run it off the event loop.
        """
        with _refusing():
            pack = self._reader.read_clip(data, file)
        options = "clip" + "own mouth" * own_mouth
        return self._add(_uploaded(data, options, name or "My clip", pack.neutral, pack, own_mouth, consent))

    def from_files(self, paths: Sequence[Path], name: str | None = None) -> CharacterRecord:
        """Creates a character from a picture, several pictures, a folder of pictures, or a video clip.

        Raises `RequestError`. Blocking.
        """
        try:
            files = [file for path in paths for file in (_pictures_in(path) if path.is_dir() else [path])]
        except OSError as error:
            raise RequestError(422, "bad_picture", f"{error.filename} could not be read: {error.strerror}") from None
        if not files:
            raise RequestError(422, "bad_picture", f"0 pictures were found in {', '.join(map(str, paths))}")
        if len(files) > MAX_PICTURES:
            raise RequestError(422, "bad_picture", f"a pack has 1 to {MAX_PICTURES} pictures, not {len(files)}")
        try:
            uploads = [Upload(_read(file), file.name) for file in files]
        except OSError as error:
            raise RequestError(422, "bad_picture", f"{error.filename} could not be read: {error.strerror}") from None
        name = name or paths[0].stem
        if len(uploads) == 1 and is_video(uploads[0].data):
            return self.from_clip(uploads[0].data, name, file=uploads[0].name)
        return self.from_pictures(uploads, name)

    def _add(self, entry: CharacterRecord) -> CharacterRecord:
        with self._lock:
            self._added[entry.id] = entry
            self._added.move_to_end(entry.id)
            taken = sum(each.size for each in self._added.values())
            while len(self._added) > self._most or (taken > _MOST_BYTES and len(self._added) > 1):
                taken -= self._added.popitem(last=False)[1].size
        return entry

    def thumbnail(self, entry: CharacterRecord, size: int, background: bool) -> bytes:
        """A PNG of the character at rest, cached. Blocking."""
        key = (size, background)
        if key not in entry.thumbnails:
            entry.thumbnails[key] = portrait(entry.rig(size, background))
        return entry.thumbnails[key]


@contextmanager
def _refusing() -> Iterator[None]:
    """Converts picture errors to `RequestError`, with the candidate faces if there are several."""
    try:
        yield
    except BadPicture as error:
        faces = [face.to_json() for face in getattr(error, "faces", ())]
        raise RequestError(422, error.reason, str(error), more={"faces": faces} if faces else {}) from None
    except FileNotFoundError as error:
        raise RequestError(500, "no_face_networks", f"pictures cannot be read: {error}") from None


def _uploaded(
    data: bytes,
    options: str,
    name: str,
    picture: np.ndarray,
    pack: Pack | None,
    own_mouth: bool,
    consent: bool | None,
) -> CharacterRecord:
    """A record whose id is derived from the bytes and the upload's options, so equal uploads get equal ids."""
    digest = hashlib.sha256(data + options.encode()).hexdigest()[:12]
    return CharacterRecord(f"p-{digest}", name, picture=picture, pack=pack, own_mouth=own_mouth, consent=consent)


def _read(file: Path) -> bytes:
    """A file's bytes. Raises OSError, or `RequestError` if it is not a regular file or is too large."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe or device may never end
        raise RequestError(422, "bad_picture", f"{file} is not a file")
    if status.st_size > _MOST_FILE_BYTES:
        raise RequestError(422, "bad_picture", f"{file} has {status.st_size} bytes, the limit is {_MOST_FILE_BYTES}")
    return file.read_bytes()


def _pictures_in(folder: Path) -> list[Path]:
    """The files with a picture's suffix, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def checked_traits(traits: Mapping[str, Any]) -> Character:
    """Validates traits. Raises `RequestError` (422) naming the invalid trait."""
    try:
        return Character.from_traits(traits)
    except (ValueError, TypeError) as error:
        raise RequestError(422, "bad_traits", str(error)) from None
