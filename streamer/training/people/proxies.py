"""MakeHuman's proxies (hair, clothes, brows, lashes, eyes): meshes that are bound to the body's vertices.

Letters used in shapes: N vertices of the body, P vertices of the proxy.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.training.people.mesh import Mesh, read_obj


@dataclass(frozen=True, eq=False)
class Proxy:
    mesh: Mesh
    bound: np.ndarray
    """[P, 3] int: the body's vertices that each vertex follows"""
    weights: np.ndarray
    """[P, 3] float32"""
    offset: np.ndarray
    """[P, 3] float32: added, times the body's scale along each axis"""
    measures: tuple[tuple[int, int, float], ...]
    """For x, y and z two vertices and their distance where the scale is 1; a distance of 0: always 1."""
    hides: np.ndarray
    """The body's vertices that it covers wholly."""
    texture: Path | None

    def scale(self, vertices: np.ndarray) -> np.ndarray:
        """[3] of a body [N, 3]."""
        return np.array(
            [abs(vertices[a, i] - vertices[b, i]) / d if d else 1.0 for i, (a, b, d) in enumerate(self.measures)],
            np.float32,
        )

    def fit(self, vertices: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """[P, 3] on a body [N, 3]."""
        return np.einsum("pk,pkc->pc", self.weights, vertices[self.bound]) + self.offset * scale

    def bones(self, weights: np.ndarray) -> np.ndarray:
        """Weights of bones [P, B] from the body's [N, B]."""
        summed = np.einsum("pk,pkb->pb", self.weights, weights[self.bound])
        return summed / np.maximum(summed.sum(1, keepdims=True), 1e-6)


def _ranges(words: list[str]) -> list[int]:
    """Numbers and ranges such as `4 7 - 9`."""
    numbers: list[int] = []
    k = 0
    while k < len(words):
        if k + 2 < len(words) and words[k + 1] == "-":
            numbers += range(int(words[k]), int(words[k + 2]) + 1)
            k += 3
        else:
            numbers.append(int(words[k]))
            k += 1
    return numbers


def read(path: Path) -> Proxy:
    """From an .mhclo file. Raises ValueError where mesh and binding have different numbers of vertices."""
    rows: list[list[float]] = []
    hides: list[int] = []
    measures = {"x": (0, 0, 0.0), "y": (0, 0, 0.0), "z": (0, 0, 0.0)}
    section, mesh_name = "", ""
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = words[0]
        if key == "obj_file":
            mesh_name = words[1]
        elif key.endswith("_scale") and key[0] in measures:
            measures[key[0]] = (int(words[1]), int(words[2]), float(words[3]))
        elif key in ("verts", "delete_verts"):
            section = key
        elif section == "verts" and key.isdigit():
            if len(words) == 1:
                rows.append([int(key)] * 3 + [1.0, 0, 0, 0, 0, 0])
            else:
                rows.append([float(word) for word in words[:9]])
        elif section == "delete_verts":
            hides += _ranges(words)
    mesh = read_obj((path.parent / mesh_name).read_text(errors="replace"))
    if len(rows) != len(mesh.vertices):
        raise ValueError(f"{path} binds {len(rows)} vertices, its mesh has {len(mesh.vertices)}")
    table = np.array(rows)
    textures = sorted(path.parent.glob("*.webp")) + sorted(path.parent.glob("*.png"))
    return Proxy(
        mesh=mesh,
        bound=table[:, :3].astype(int),
        weights=table[:, 3:6].astype(np.float32),
        offset=table[:, 6:9].astype(np.float32),
        measures=tuple(measures.values()),
        hides=np.array(hides, int),
        texture=textures[0] if textures else None,
    )
