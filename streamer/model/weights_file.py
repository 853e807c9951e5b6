"""The header of a weights file, without torch: what lies where, and whether the file is whole.

A safetensors file begins with the length of its header (8 bytes, little endian), the header (JSON) and the tensors'
bytes: https://github.com/huggingface/safetensors#format.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


class BadWeights(ValueError):
    """Weights that cannot be used; the message says why."""


@dataclass(frozen=True)
class Place:
    """A tensor's bytes in a file."""

    shape: tuple[int, ...]
    offset: int  # from the beginning of the file
    length: int


@dataclass(frozen=True)
class Header:
    """What a weights file's header says."""

    digest: str  # SHA-256 of all bytes before the tensors, in hexadecimal
    about: Mapping[str, str]
    tensors: Mapping[str, Place]


def read_header(path: Path) -> Header:
    """
    Reads the header of a file of float16 tensors, and checks that all of them lie in the file. Raises FileNotFoundError
    or BadWeights.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            if not 2 <= length <= size - 8:
                raise ValueError(f"its header would be {length} bytes long")
            text = file.read(length)
        said = json.loads(text)
        about = {str(key): str(value) for key, value in said.pop("__metadata__", {}).items()}
        tensors = {name: _place(name, entry, 8 + length) for name, entry in said.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadWeights(f"{path} ({size} bytes) is no whole safetensors file: {error}") from None
    end = max((place.offset + place.length for place in tensors.values()), default=8 + length)
    if end != size:
        raise BadWeights(f"{path} ({size} bytes) is no whole safetensors file: its tensors end at byte {end}")
    return Header(hashlib.sha256(first + text).hexdigest(), about, tensors)


def _place(name: str, entry: Mapping[str, object], base: int) -> Place:
    if entry["dtype"] != "F16":
        raise ValueError(f"{name} is of type {entry['dtype']}, not F16")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (isinstance(shape, list) and isinstance(offsets, list)):
        raise ValueError(f"{name} has no shape or no place")
    begin, end = map(int, offsets)
    if begin < 0 or end - begin != 2 * math.prod(map(int, shape)):
        raise ValueError(f"{name} of shape {shape} takes {end - begin} bytes")
    return Place(tuple(map(int, shape)), base + begin, end - begin)


def check_finite(path: Path, header: Header) -> None:
    """Raises BadWeights if a tensor contains NaN or Inf."""
    data = np.memmap(path, np.uint8, "r")
    for name, place in header.tensors.items():
        bits = data[place.offset : place.offset + place.length].view(np.uint16)
        if ((bits & 0x7C00) == 0x7C00).any():
            raise BadWeights(f"{path}: {name} contains values that are not finite")
