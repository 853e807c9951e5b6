"""Polygon meshes: Wavefront files, subdivision as a sparse matrix, seams of textures.

Letters used in shapes: N vertices, F faces (quads), T triangles, U texture coordinates.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class Mesh:
    vertices: np.ndarray
    """[N, 3] float32"""
    uv: np.ndarray
    """[U, 2] float32"""
    faces: np.ndarray
    """[F, 4] int32; the last is -1 in a triangle."""
    face_uv: np.ndarray
    """[F, 4] int32"""
    groups: np.ndarray
    """[F] str"""


def read_obj(text: str) -> Mesh:
    vertices, uv, faces, face_uv, groups = [], [], [], [], []
    group = ""
    for line in text.splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            vertices.append([float(value) for value in values[:3]])
        elif kind == "vt":
            uv.append([float(value) for value in values[:2]])
        elif kind == "g":
            group = values[0]
        elif kind == "f":
            corners = [value.split("/") for value in values]
            face = [int(corner[0]) - 1 for corner in corners]
            place = [int(corner[1]) - 1 if len(corner) > 1 and corner[1] else 0 for corner in corners]
            faces.append((face + [-1])[:4])
            face_uv.append((place + [-1])[:4])
            groups.append(group)
    return Mesh(
        np.array(vertices, np.float32),
        np.array(uv or [[0.0, 0.0]], np.float32),
        np.array(faces, np.int32),
        np.array(face_uv, np.int32),
        np.array(groups),
    )


def triangulated(faces: np.ndarray, face_uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quads and triangles [F, 4] as triangles [T, 3] of vertices and of texture coordinates."""
    quads = faces[:, 3] >= 0
    triangles = np.concatenate([faces[:, :3], faces[quads][:, [0, 2, 3]]])
    return triangles, np.concatenate([face_uv[:, :3], face_uv[quads][:, [0, 2, 3]]])


def split_seams(triangles: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Triangles [T, 3] of vertices and of texture coordinates as render vertices, one for each pair of both: the vertex
    and the coordinate of each [R], and the triangles [T, 3] of them.
    """
    key = triangles.astype(np.int64).ravel() << 32 | places.ravel()
    pairs, index = np.unique(key, return_inverse=True)
    split = index.reshape(-1, 3).astype(np.int32)
    return (pairs >> 32).astype(np.int32), (pairs & 0xFFFFFFFF).astype(np.int32), split


def _counts(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], value: float = 1.0) -> Any:
    return sp.csr_matrix((np.full(rows.size, value), (rows.ravel(), columns.ravel())), shape)


def subdivided(count: int, faces: np.ndarray, face_uv: np.ndarray, uv: np.ndarray) -> tuple[Any, ...]:
    """
    One level of Catmull and Clark for quads [F, 4] of `count` vertices: the matrix that makes the new vertices of the
    old ones (old vertices first), the new faces, their texture coordinates' indices, and these.
    """
    n = len(faces)
    edges = np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2), 1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    inverse = inverse.reshape(n, 4)
    m = len(unique)
    each_face, each_edge = np.repeat(np.arange(n), 4), np.repeat(np.arange(m), 2)
    inner = np.bincount(inverse.ravel(), minlength=m) == 2
    middle_of_face = _counts(each_face, faces, (n, count), 0.25)
    middle_of_edge = _counts(each_edge, unique, (m, count), 0.5)
    faces_at_edge = _counts(inverse, each_face, (m, n))
    at_edges = sp.diags(np.where(inner, 0.5, 1.0)) @ middle_of_edge
    at_edges = at_edges + sp.diags(np.where(inner, 0.25, 0.0)) @ (faces_at_edge @ middle_of_face)

    valence = np.bincount(faces.ravel(), minlength=count).astype(float)
    degree = np.bincount(unique.ravel(), minlength=count).astype(float)
    used = valence > 0
    on_border = np.zeros(count, bool)
    on_border[unique[~inner].ravel()] = True
    size = np.maximum(valence, 1)
    same = sp.identity(count)
    faces_round = sp.diags(1 / size) @ (_counts(faces, each_face, (count, n)) @ middle_of_face)
    edges_round = sp.diags(1 / np.maximum(degree, 1)) @ (_counts(unique, each_edge, (count, m)) @ middle_of_edge)
    inside = sp.diags(1 / size) @ faces_round + sp.diags(2 / size) @ edges_round + sp.diags((size - 3) / size) @ same
    border_edges = np.flatnonzero(~inner)
    border = _counts(unique[~inner], np.repeat(border_edges, 2), (count, m))
    share = sp.diags(1 / np.maximum(np.asarray(border.sum(1)).ravel(), 1))
    outside = 0.5 * same + 0.5 * (share @ (border @ middle_of_edge))
    at_vertices = sp.diags((used & ~on_border) * 1.0) @ inside + sp.diags((used & on_border) * 1.0) @ outside
    at_vertices = at_vertices + sp.diags((~used) * 1.0) @ same
    matrix = sp.vstack([at_vertices, at_edges, middle_of_face]).tocsr().astype(np.float32)

    centre, edge = count + m + np.arange(n), count + inverse
    new = np.concatenate([np.stack([faces[:, k], edge[:, k], centre, edge[:, k - 1]], 1) for k in range(4)])
    corners = uv[face_uv]
    halves, middle = (corners + np.roll(corners, -1, 1)) / 2, corners.mean(1)
    places = np.concatenate([np.stack([corners[:, k], halves[:, k], middle, halves[:, k - 1]], 1) for k in range(4)])
    new_uv, index = np.unique(np.round(places.reshape(-1, 2), 6), axis=0, return_inverse=True)
    return matrix, new.astype(np.int32), index.reshape(-1, 4).astype(np.int32), new_uv.astype(np.float32)
