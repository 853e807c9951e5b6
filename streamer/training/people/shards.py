"""Clips on disk: a shard holds the clips of one person, `shard_00000.npz` and so on.

Pictures are JPEG (quality 95, colour at full resolution), mattes, parts and flows PNG, all as bytes in a few arrays of
the shard; small arrays are stored as they are. A shard that exists is whole. `recipe.json` says how the set was made;
each shard holds its manifest, a line a clip, as JSON.

Letters used in shapes as in `clips`.
"""

import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamer.training.clip import ARRAYS, Clip
from streamer.training.people.film import Grain

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 4]
_LOSSY = {"background", "references", "frames"}
_LOSSLESS = {"reference_mattes", "mattes", "reference_parts", "parts", "flow", "flows", "before", "places"}
_OFFSET = 32_768


def _encoded(name: str, picture: np.ndarray) -> bytes:
    """One picture [h, w], [h, w, 2] or [h, w, 3]."""
    if name in _LOSSY:
        return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _JPEG)[1].tobytes()
    if picture.dtype == np.int16:
        picture = (picture.astype(np.int32) + _OFFSET).astype(np.uint16)
    elif picture.dtype == np.float16:
        picture = picture.view(np.uint16)
    if picture.ndim == 3:  # channels beside one another, so that each is predicted from itself
        picture = np.concatenate(list(np.moveaxis(picture, 2, 0)), 1)
    return cv2.imencode(".png", np.ascontiguousarray(picture), _PNG)[1].tobytes()


def _decoded(name: str, data: np.ndarray, channels: int, kind: np.dtype) -> np.ndarray:
    if name in _LOSSY:
        return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if channels:
        picture = np.stack(np.split(picture, channels, 1), 2)
    if kind == np.int16:
        return (picture.astype(np.int32) - _OFFSET).astype(np.int16)
    return picture.view(np.float16) if kind == np.float16 else picture


def packed(clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """The arrays of a shard."""
    out: dict[str, np.ndarray] = {}
    lines = []
    for number, clip in enumerate(clips):
        lines.append({"seed": clip.seed, "person": clip.person, "roles": clip.roles,
                      "grain": [dataclasses.asdict(grain) for grain in clip.grain]})  # fmt: skip
        for name in ARRAYS:
            array = getattr(clip, name)
            key = f"{number}_{name}"
            if name not in _LOSSY | _LOSSLESS or not array.size:
                out[key] = array
                continue
            tail = 3 if array.shape[-1] in (2, 3) else 2
            single = array.reshape(-1, *array.shape[-tail:])
            chunks = [_encoded(name, picture) for picture in single]
            out[key] = np.frombuffer(b"".join(chunks), np.uint8)
            out[f"{key}_ends"] = np.cumsum([len(chunk) for chunk in chunks])
            out[f"{key}_shape"] = np.array(array.shape)
            out[f"{key}_kind"] = np.array(array.dtype.str)
    out["manifest"] = np.array(json.dumps(lines))
    return out


def write(path: Path, clips: Sequence[Clip]) -> None:
    """Written beside and renamed: a shard that exists is whole."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **packed(clips))
    part = path.with_suffix(".part")
    part.write_bytes(buffer.getvalue())
    part.replace(path)


def manifest(path: Path) -> list[dict[str, Any]]:
    """A line for each clip of a shard."""
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["manifest"]))


def _array(file: Mapping[str, np.ndarray], number: int, name: str) -> np.ndarray:
    """One array of a clip of a shard, decoded."""
    key = f"{number}_{name}"
    if f"{key}_ends" not in file:
        return file[key]
    shape, kind = tuple(file[f"{key}_shape"]), np.dtype(str(file[f"{key}_kind"]))
    chunks = np.split(file[key], file[f"{key}_ends"][:-1])
    channels = shape[-1] if shape[-1] in (2, 3) else 0
    return np.stack([_decoded(name, chunk, channels, kind) for chunk in chunks]).reshape(shape)


def read_arrays(path: Path, number: int, names: Sequence[str]) -> list[np.ndarray]:
    """Some of the arrays of one clip of a shard, without decoding the others."""
    with np.load(path, allow_pickle=False) as file:
        return [_array(file, number, name) for name in names]


def read(path: Path) -> Iterator[Clip]:
    """The clips of a shard, each decoded when it is asked for."""
    with np.load(path, allow_pickle=False) as file:
        for number, line in enumerate(json.loads(str(file["manifest"]))):
            yield _clip(file, number, line)


def read_random(path: Path, rng: np.random.Generator) -> Clip:
    """One clip of a shard."""
    with np.load(path, allow_pickle=False) as file:
        lines = json.loads(str(file["manifest"]))
        number = int(rng.integers(len(lines)))
        return _clip(file, number, lines[number])


def _clip(file: Mapping[str, np.ndarray], number: int, line: dict[str, Any]) -> Clip:
    arrays = {name: _array(file, number, name) for name in ARRAYS}
    grain = tuple(Grain(**values) for values in line["grain"])
    return Clip(line["seed"], line["person"], tuple(line["roles"]), grain, **arrays)
