"""Triangles to visible samples, in numba: a depth buffer for what is opaque, lists of veils for what is not.

Nearness is 1 / distance (for the light's parallel rays: minus the distance): the larger, the nearer, and linear over
the picture. Hair, brows and lashes are veils: samples blend them by their texels' opacity, in order of nearness.

Letters used in shapes: R samples along an edge, T triangles, V render vertices, M materials, S pixels along an edge.
"""

import numpy as np
from numba import njit

SKIN, EYE, WET, CLOTH, HAIR, FUR = range(6)
"""Kinds of material. FUR: brows and lashes."""

KIND, OFFSET, WIDTH, HEIGHT, NORMALS, BOTH_SIDES, VEIL = range(7)
"""Columns of the materials' integers: OFFSET and NORMALS are where in the atlas a texture begins (NORMALS -1: none)."""

SOLID, CLEAR = 0.94, 0.02
"""Opacities from which a veil's texel counts as opaque, and below which as nothing."""
SHADOW_OPACITY = 0.5


@njit(cache=True, inline="always")
def opacity(atlas, offset, width, height, u, v):
    """Of a texture at u, v (v upwards), between its four nearest texels."""
    u, v = u - np.floor(u), v - np.floor(v)
    x, y = u * width - 0.5, (1 - v) * height - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - x0, y - y0
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    x0, y0 = max(x0, 0), max(y0, 0)
    a = float(atlas[offset + 4 * (y0 * width + x0) + 3])
    b = float(atlas[offset + 4 * (y0 * width + x1) + 3])
    c = float(atlas[offset + 4 * (y1 * width + x0) + 3])
    d = float(atlas[offset + 4 * (y1 * width + x1) + 3])
    return ((a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy) * (1 / 255)


@njit(cache=True, fastmath=True)
def rasterise(triangles, material, places, uv, table, atlas, nearest, visible, first, nodes, values, shadow):
    """
    Fills `nearest` [R, R] float32, `visible` [R, R] int32 (triangle, -1: none); unless for a `shadow`, also the veils:
    `first` [R, R] int32 is the head of each sample's list, `nodes` [n, 2] int32 next and triangle, `values` [n, 2]
    float32 nearness and opacity. `places` [V, 3] are x, y in samples and nearness. Returns how many nodes there are;
    veils beyond `n` are left out.

    Opaque triangles must come before veils.
    """
    edge = nearest.shape[0]
    nearest[:] = -1e9
    visible[:] = -1
    first[:] = -1
    count, most = 0, nodes.shape[0]
    for t in range(len(triangles)):
        m = material[t]
        kind, veil = table[m, KIND], table[m, VEIL]
        if shadow and (kind == FUR or kind == WET):
            continue
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by = places[i, 0], places[i, 1], places[j, 0], places[j, 1]
        cx, cy = places[k, 0], places[k, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0 or (area > 0 and not shadow and table[m, BOTH_SIDES] == 0):
            continue  # y points down: what faces the viewer has a negative area
        x0 = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
        x1 = min(int(np.floor(max(ax, bx, cx) - 0.5)), edge - 1)
        y0 = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
        y1 = min(int(np.floor(max(ay, by, cy) - 0.5)), edge - 1)
        if x0 > x1 or y0 > y1:
            continue
        s = 1 / area
        # From the third corner on: from the picture's corner, single precision leaves cracks between triangles.
        a0, b0 = (by - cy) * s, (cx - bx) * s
        a1, b1 = (cy - ay) * s, (ax - cx) * s
        za, zb, zc = places[i, 2], places[j, 2], places[k, 2]
        if za <= 0 and not shadow:
            continue
        for y in range(y0, y1 + 1):
            py = y + np.float32(0.5) - cy
            r0, r1 = b0 * py, b1 * py
            for x in range(x0, x1 + 1):
                px = x + np.float32(0.5) - cx
                w0, w1 = a0 * px + r0, a1 * px + r1
                w2 = 1 - w0 - w1
                if w0 < -1e-4 or w1 < -1e-4 or w2 < -1e-4:
                    continue
                z = w0 * za + w1 * zb + w2 * zc
                if z <= nearest[y, x]:
                    continue
                if veil:
                    if shadow:
                        k0, k1, k2 = w0, w1, w2
                    else:
                        k0, k1, k2 = w0 * za, w1 * zb, w2 * zc
                    n = 1 / (k0 + k1 + k2)
                    u = (k0 * uv[i, 0] + k1 * uv[j, 0] + k2 * uv[k, 0]) * n
                    v = (k0 * uv[i, 1] + k1 * uv[j, 1] + k2 * uv[k, 1]) * n
                    q = opacity(atlas, table[m, OFFSET], table[m, WIDTH], table[m, HEIGHT], u, v)
                    if shadow:
                        if q < SHADOW_OPACITY:
                            continue
                    elif q < SOLID:
                        head = first[y, x]
                        # A sample on the edge between two triangles of one sheet shows one of them.
                        doubled = head >= 0 and abs(values[head, 0] - z) <= 2e-6 * z and material[nodes[head, 1]] == m
                        if q > CLEAR and count < most and not doubled:
                            nodes[count, 0], nodes[count, 1] = first[y, x], t
                            values[count, 0], values[count, 1] = z, q
                            first[y, x] = count
                            count += 1
                        continue
                nearest[y, x] = z
                visible[y, x] = t
    return count


@njit(cache=True, fastmath=True)
def normals_of(points, triangles, normals):
    """Into `normals` [N, 3]: those of vertices `points` [N, 3] by the triangles round them, of length 1."""
    normals[:] = 0
    for t in range(len(triangles)):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
        vx, vy, vz = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1], points[k, 2] - points[i, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for c in (i, j, k):
            normals[c, 0] += nx
            normals[c, 1] += ny
            normals[c, 2] += nz
    for n in range(len(normals)):
        size = np.sqrt(normals[n, 0] ** 2 + normals[n, 1] ** 2 + normals[n, 2] ** 2) + np.float32(1e-12)
        normals[n, 0] /= size
        normals[n, 1] /= size
        normals[n, 2] /= size


@njit(cache=True, fastmath=True)
def lies(points, triangles, owners, wanted, uv, out):
    """
    Into `out` [V, 3]: where the texture's v points on vertices `points` [V, 3], of the triangles whose `owners` entry
    is `wanted`; not of length 1. How hair lies.
    """
    out[:] = 0
    for t in range(len(triangles)):
        if owners[t] != wanted:
            continue
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        u1, v1, u2, v2 = uv[j, 0] - uv[i, 0], uv[j, 1] - uv[i, 1], uv[k, 0] - uv[i, 0], uv[k, 1] - uv[i, 1]
        s = 1 if u1 * v2 - u2 * v1 >= 0 else -1
        for c in range(3):
            value = s * ((points[k, c] - points[i, c]) * u1 - (points[j, c] - points[i, c]) * u2)
            out[i, c] += value
            out[j, c] += value
            out[k, c] += value


@njit(cache=True, fastmath=True)
def skinned(points, starts, bones, weights, matrices, out):
    """Into `out` [N, 3]: points [N, 3] moved by bones' matrices [B, 3, 4], weighted as in a CSR matrix [N, B]."""
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        ox, oy, oz = np.float32(0), np.float32(0), np.float32(0)
        for e in range(starts[n], starts[n + 1]):
            m, w = matrices[bones[e]], weights[e]
            ox += w * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3])
            oy += w * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3])
            oz += w * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
        out[n, 0], out[n, 1], out[n, 2] = ox, oy, oz


@njit(cache=True, fastmath=True)
def combined(starts, columns, weights, points, out):
    """Into `out` [n, 3]: a CSR matrix [n, N] times points [N, 3]."""
    for n in range(len(out)):
        x, y, z = np.float32(0), np.float32(0), np.float32(0)
        for e in range(starts[n], starts[n + 1]):
            c, w = columns[e], weights[e]
            x += w * points[c, 0]
            y += w * points[c, 1]
            z += w * points[c, 2]
        out[n, 0], out[n, 1], out[n, 2] = x, y, z


@njit(cache=True, fastmath=True)
def projected(points, matrix, edge, out):
    """
    Into `out` [V, 3]: where points [V, 3] fall in a picture `edge` samples wide, and their nearness. The matrix [4, 4]
    takes them to clip space; the last row of a camera's gives the distance, a light's is 0 0 0 1.
    """
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        w = matrix[3, 0] * x + matrix[3, 1] * y + matrix[3, 2] * z + matrix[3, 3]
        s = 1 / w
        out[n, 0] = ((matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + matrix[0, 3]) * s * 0.5 + 0.5) * edge
        out[n, 1] = (0.5 - (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + matrix[1, 3]) * s * 0.5) * edge
        parallel = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + matrix[2, 3]
        out[n, 2] = -parallel if matrix[3, 3] == 1 else s
