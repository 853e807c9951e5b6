"""`people.npz` in memory: MakeHuman's body, how shapes and expressions move it, and its skeleton.

Letters used in shapes: N vertices, F faces, B bones, U expression units.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

MESH_VARIABLE, ASSETS_VARIABLE = "LIPSTREAM_PEOPLE_MESH", "LIPSTREAM_PEOPLE_ASSETS"
KINDS = ("skins", "hair", "clothes", "eyebrows", "eyelashes", "eyes")


class MissingAssets(Exception):
    """Something that people are made of is not on this machine; the message says what and how to get it."""


def found_files(mesh: Path | None, assets: Path | None) -> tuple[Path, Path]:
    """
    `people.npz` and the folder of assets, by these paths or by the environment's variables. Raises MissingAssets.
    """
    mesh = mesh or (Path(os.environ[MESH_VARIABLE]) if os.environ.get(MESH_VARIABLE) else None)
    assets = assets or (Path(os.environ[ASSETS_VARIABLE]) if os.environ.get(ASSETS_VARIABLE) else None)
    missing = []
    if mesh is None or not mesh.is_file():
        missing.append(f"no people.npz at {mesh or MESH_VARIABLE}: python -m streamer.training.people.cut makes it")
    if assets is None or not assets.is_dir():
        missing.append(f"no folder of MakeHuman's assets at {assets or ASSETS_VARIABLE}")
    else:
        missing += [f"{assets / kind} is missing" for kind in KINDS if not (assets / kind).is_dir()]
    if missing or mesh is None or assets is None:
        raise MissingAssets("; ".join(missing))
    return mesh, assets


Moved = tuple[np.ndarray, np.ndarray]
"""Vertices [n] and what is added to them at full strength [n, 3]."""


@dataclass(frozen=True, eq=False)
class Template:
    vertices: np.ndarray
    """[N, 3] float32: the mean body, helpers included."""
    uv: np.ndarray
    faces: np.ndarray
    """[F, 4] int32"""
    face_uv: np.ndarray
    group_of_face: np.ndarray
    """[F] index into `groups`"""
    groups: tuple[str, ...]
    units: Mapping[str, Moved]
    targets: Mapping[str, Moved]
    bones: tuple[str, ...]
    parents: np.ndarray
    """[B] int: -1 for the root. Parents may follow their children; `order` is from the root outwards."""
    heads: tuple[np.ndarray, ...]
    """For each bone the vertices whose mean is where it begins."""
    weights: np.ndarray
    """[N, B] float32, rows of sum 1"""
    landmark_vertices: np.ndarray
    landmark_weights: np.ndarray
    masks: Mapping[str, np.ndarray]
    """[512, 512] uint8 in the skin's texture coordinates: lips, eyelids, ears, inside-mouth, fingernails."""

    @cached_property
    def bone(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.bones)}

    @cached_property
    def order(self) -> tuple[int, ...]:
        depth = [self._depth(i) for i in range(len(self.bones))]
        return tuple(sorted(range(len(depth)), key=depth.__getitem__))

    def _depth(self, bone: int) -> int:
        return 0 if self.parents[bone] < 0 else 1 + self._depth(self.parents[bone])

    def group(self, name: str) -> np.ndarray:
        """The vertices of a group's faces, ascending."""
        return np.unique(self.faces[self.group_of_face == self.groups.index(name)])

    def descendants(self, names: Iterable[str]) -> np.ndarray:
        """[B] bool: these bones and all that hang on them."""
        chosen = np.zeros(len(self.bones), bool)
        chosen[[self.bone[name] for name in names]] = True
        for i in self.order:
            chosen[i] |= self.parents[i] >= 0 and chosen[self.parents[i]]
        return chosen

    def moved(self, vertices: np.ndarray, by: Mapping[str, float], among: str = "units") -> np.ndarray:
        """Vertices [N, 3] with units or targets added, each at its strength. Raises KeyError for an unknown name."""
        table = self.units if among == "units" else self.targets
        vertices = vertices.copy()
        for name, strength in by.items():
            if abs(strength) > 1e-4:
                index, delta = table[name]
                vertices[index] += np.float32(strength) * delta
        return vertices

    def joints(self, vertices: np.ndarray) -> np.ndarray:
        """[B, 3]: where each bone begins in these vertices."""
        return np.stack([vertices[head].mean(0) for head in self.heads])

    def landmarks(self, vertices: np.ndarray) -> np.ndarray:
        """[468, 3]: MediaPipe's landmarks on these vertices [N, 3]."""
        return np.einsum("pk,pkc->pc", self.landmark_weights, vertices[self.landmark_vertices])


def _moves(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, Moved]:
    starts = arrays[f"{prefix}_starts"]
    index, delta = arrays[f"{prefix}_index"].astype(np.int64), arrays[f"{prefix}_delta"].astype(np.float32)
    return {
        str(name): (index[a:b], delta[a:b])
        for name, a, b in zip(arrays[f"{prefix}_names"], starts, starts[1:], strict=False)
    }


def load(path: Path) -> Template:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    names = tuple(str(name) for name in arrays["bone_names"])
    weights = np.zeros((len(arrays["vertices"]), len(names)), np.float32)
    weights[arrays["weight_vertex"], arrays["weight_bone"]] = arrays["weight"]
    weights[weights.sum(1) == 0, names.index("head")] = 1
    weights /= weights.sum(1, keepdims=True)
    starts = arrays["bone_starts"]
    return Template(
        vertices=arrays["vertices"],
        uv=arrays["uv"],
        faces=arrays["faces"].astype(np.int32),
        face_uv=arrays["face_uv"].astype(np.int32),
        group_of_face=arrays["face_groups"],
        groups=tuple(str(name) for name in arrays["group_names"]),
        units=_moves(arrays, "unit"),
        targets=_moves(arrays, "target"),
        bones=names,
        parents=arrays["bone_parents"].astype(int),
        heads=tuple(arrays["bone_vertices"][a:b].astype(int) for a, b in zip(starts, starts[1:], strict=False)),
        weights=weights,
        landmark_vertices=arrays["landmark_vertices"].astype(int),
        landmark_weights=arrays["landmark_weights"],
        masks={str(name): mask for name, mask in zip(arrays["mask_names"], arrays["masks"], strict=True)},
    )
