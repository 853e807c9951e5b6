"""Visible samples to a picture, its matte and what each pixel shows, in numba.

Each pixel shades once what its samples share. Light is added in linear values, sRGB comes out.

Letters used in shapes: S pixels along an edge, R samples along an edge, T triangles, V render vertices, M materials.
"""

import numpy as np
from numba import njit

from streamer.training.people.raster import (
    BOTH_SIDES,
    CLOTH,
    EYE,
    HAIR,
    HEIGHT,
    KIND,
    NORMALS,
    OFFSET,
    SKIN,
    WET,
    WIDTH,
)

TINT, ROUGH, BUMP, GLOSS = 0, 3, 4, 5
"""Columns of the materials' floats: a colour that multiplies the texture, roughness, relief, strength of highlights."""

_LINEAR = ((np.arange(256) / 255.0) ** 2.2).astype(np.float32)
_LINEAR.setflags(write=False)
MOST_VEILS, MOST_SHADES = 24, 32


@njit(cache=True, fastmath=True, inline="always")
def _texel(atlas, offset, width, height, u, v, linear):
    """Between the four nearest texels: red, green, blue in linear light, or as stored."""
    u, v = u - np.floor(u), v - np.floor(v)
    x, y = u * width - np.float32(0.5), (1 - v) * height - np.float32(0.5)
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - x0, y - y0
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    x0, y0 = max(x0, 0), max(y0, 0)
    a, b = offset + 4 * (y0 * width + x0), offset + 4 * (y0 * width + x1)
    c, d = offset + 4 * (y1 * width + x0), offset + 4 * (y1 * width + x1)
    wa, wb, wc, wd = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    if linear:
        return (
            wa * _LINEAR[atlas[a]] + wb * _LINEAR[atlas[b]] + wc * _LINEAR[atlas[c]] + wd * _LINEAR[atlas[d]],
            wa * _LINEAR[atlas[a + 1]] + wb * _LINEAR[atlas[b + 1]] + wc * _LINEAR[atlas[c + 1]]
            + wd * _LINEAR[atlas[d + 1]],
            wa * _LINEAR[atlas[a + 2]] + wb * _LINEAR[atlas[b + 2]] + wc * _LINEAR[atlas[c + 2]]
            + wd * _LINEAR[atlas[d + 2]],
        )  # fmt: skip
    s = np.float32(1 / 255)
    return (
        (wa * atlas[a] + wb * atlas[b] + wc * atlas[c] + wd * atlas[d]) * s,
        (wa * atlas[a + 1] + wb * atlas[b + 1] + wc * atlas[c + 1] + wd * atlas[d + 1]) * s,
        (wa * atlas[a + 2] + wb * atlas[b + 2] + wc * atlas[c + 2] + wd * atlas[d + 2]) * s,
    )


@njit(cache=True, fastmath=True, inline="always")
def _unit(x, y, z):
    s = 1 / np.sqrt(x * x + y * y + z * z + np.float32(1e-20))
    return x * s, y * s, z * s


@njit(cache=True, fastmath=True, inline="always")
def _lobe(cosine, roughness):
    """The share of a rough surface's facets that mirror: GGX's distribution."""
    a = roughness * roughness
    a *= a
    d = cosine * cosine * (a - 1) + 1
    return a / (np.float32(3.1416) * d * d)


@njit(cache=True, fastmath=True)
def _lit(shadow_map, to_light, blur, x, y, z):
    """The share of light that reaches a place: 3 × 3 places of the shadow map round it, `blur` texels apart."""
    edge = shadow_map.shape[0]
    lx = to_light[0, 0] * x + to_light[0, 1] * y + to_light[0, 2] * z + to_light[0, 3]
    ly = to_light[1, 0] * x + to_light[1, 1] * y + to_light[1, 2] * z + to_light[1, 3]
    nearness = -(to_light[2, 0] * x + to_light[2, 1] * y + to_light[2, 2] * z + to_light[2, 3])
    px, py = (lx * 0.5 + 0.5) * edge - 0.5, (0.5 - ly * 0.5) * edge - 0.5
    total = np.float32(0)
    for j in range(-1, 2):
        for i in range(-1, 2):
            qx, qy = px + i * blur, py + j * blur
            x0, y0 = int(np.floor(qx)), int(np.floor(qy))
            if x0 < 0 or y0 < 0 or x0 >= edge - 1 or y0 >= edge - 1:
                total += 1
                continue
            fx, fy = qx - x0, qy - y0
            slack = np.float32(0.006) * (1 + blur * 0.25 * (abs(i) + abs(j)))
            a = 1.0 if shadow_map[y0, x0] <= nearness + slack else 0.0
            b = 1.0 if shadow_map[y0, x0 + 1] <= nearness + slack else 0.0
            c = 1.0 if shadow_map[y0 + 1, x0] <= nearness + slack else 0.0
            d = 1.0 if shadow_map[y0 + 1, x0 + 1] <= nearness + slack else 0.0
            total += (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy
    return total * np.float32(1 / 9)


@njit(cache=True, fastmath=True, inline="always")
def _tone(x):
    """A film's response, 0..1."""
    y = (x * (np.float32(2.51) * x + np.float32(0.03))) / (
        x * (np.float32(2.43) * x + np.float32(0.59)) + np.float32(0.14)
    )
    return min(max(y, np.float32(0)), np.float32(1))


@njit(cache=True, fastmath=True)
def _shade(t, w0, w1, w2, triangles, points, normals, lie, uv, open_sky, colours, table, looks, m, atlas, light,
           shadow_map, to_light, blur):  # fmt: skip
    """
    Linear red, green, blue of triangle t (material m) at weights of its corners. `light` [10, 3]: eye; three
    directions; their colours; sky; ground; exposure, toon steps and number of lights.
    """
    i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
    x = w0 * points[i, 0] + w1 * points[j, 0] + w2 * points[k, 0]
    y = w0 * points[i, 1] + w1 * points[j, 1] + w2 * points[k, 1]
    z = w0 * points[i, 2] + w1 * points[j, 2] + w2 * points[k, 2]
    gx, gy, gz = _unit(
        w0 * normals[i, 0] + w1 * normals[j, 0] + w2 * normals[k, 0],
        w0 * normals[i, 1] + w1 * normals[j, 1] + w2 * normals[k, 1],
        w0 * normals[i, 2] + w1 * normals[j, 2] + w2 * normals[k, 2],
    )
    u = w0 * uv[i, 0] + w1 * uv[j, 0] + w2 * uv[k, 0]
    v = w0 * uv[i, 1] + w1 * uv[j, 1] + w2 * uv[k, 1]
    ao = w0 * open_sky[i] + w1 * open_sky[j] + w2 * open_sky[k]
    kind = table[m, KIND]
    r, g, b = _texel(atlas, table[m, OFFSET], table[m, WIDTH], table[m, HEIGHT], u, v, True)
    r *= looks[m, 0] * (w0 * colours[i, 0] + w1 * colours[j, 0] + w2 * colours[k, 0])
    g *= looks[m, 1] * (w0 * colours[i, 1] + w1 * colours[j, 1] + w2 * colours[k, 1])
    b *= looks[m, 2] * (w0 * colours[i, 2] + w1 * colours[j, 2] + w2 * colours[k, 2])
    vx, vy, vz = _unit(light[0, 0] - x, light[0, 1] - y, light[0, 2] - z)
    if table[m, BOTH_SIDES]:
        # By the triangle, not by the smooth normal, which at an outline may already point away.
        ux, uy, uz = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
        qx, qy, qz = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1], points[k, 2] - points[i, 2]
        if (uy * qz - uz * qy) * vx + (uz * qx - ux * qz) * vy + (ux * qy - uy * qx) * vz < 0:
            gx, gy, gz = -gx, -gy, -gz
    nx, ny, nz = gx, gy, gz
    tx, ty, tz = np.float32(0), np.float32(0), np.float32(0)
    if kind == HAIR:
        tx, ty, tz = _unit(
            w0 * lie[i, 0] + w1 * lie[j, 0] + w2 * lie[k, 0],
            w0 * lie[i, 1] + w1 * lie[j, 1] + w2 * lie[k, 1],
            w0 * lie[i, 2] + w1 * lie[j, 2] + w2 * lie[k, 2],
        )
    elif kind == SKIN and looks[m, BUMP] > 0:
        e1x, e1y, e1z = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
        e2x, e2y, e2z = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1], points[k, 2] - points[i, 2]
        u1, v1, u2, v2 = uv[j, 0] - uv[i, 0], uv[j, 1] - uv[i, 1], uv[k, 0] - uv[i, 0], uv[k, 1] - uv[i, 1]
        s = np.float32(1) if u1 * v2 - u2 * v1 >= 0 else np.float32(-1)
        tx, ty, tz = _unit(s * (e2x * u1 - e1x * u2), s * (e2y * u1 - e1y * u2), s * (e2z * u1 - e1z * u2))
        ax, ay, az = _unit(s * (e1x * v2 - e2x * v1), s * (e1y * v2 - e2y * v1), s * (e1z * v2 - e2z * v1))
        p, q, _ = _texel(atlas, table[m, NORMALS], table[m, WIDTH], table[m, HEIGHT], u, v, False)
        p, q = (2 * p - 1) * looks[m, BUMP], (2 * q - 1) * looks[m, BUMP]
        nx, ny, nz = _unit(gx + ax * p + tx * q, gy + ay * p + ty * q, gz + az * p + tz * q)
    lit = _lit(shadow_map, to_light, blur, x + gx * 0.02, y + gy * 0.02, z + gz * 0.02)
    up = ny * np.float32(0.5) + np.float32(0.5)
    amb_r = light[8, 0] + (light[7, 0] - light[8, 0]) * up
    amb_g = light[8, 1] + (light[7, 1] - light[8, 1]) * up
    amb_b = light[8, 2] + (light[7, 2] - light[8, 2]) * up
    if kind == WET:
        lift = np.float32(1.5)
    elif kind == EYE:
        lift = np.float32(0.92)
    else:
        lift = np.float32(1)
    ao_r = ao ** np.float32(0.88) if kind == SKIN else ao
    out_r, out_g, out_b = r * amb_r * ao_r * lift, g * amb_g * ao * lift, b * amb_b * ao * lift
    rough, gloss = looks[m, ROUGH], looks[m, GLOSS]
    steps = light[9, 1]
    for n in range(int(light[9, 2])):
        lx, ly, lz = light[1 + n, 0], light[1 + n, 1], light[1 + n, 2]
        cr, cg, cb = light[4 + n, 0], light[4 + n, 1], light[4 + n, 2]
        smooth, fine = gx * lx + gy * ly + gz * lz, nx * lx + ny * ly + nz * lz
        hx, hy, hz = _unit(lx + vx, ly + vy, lz + vz)
        half = max(nx * hx + ny * hy + nz * hz, np.float32(0))
        s = lit if n == 0 else np.float32(1) - (1 - ao) * np.float32(0.7)
        if steps > 0:  # flat tones, as in cartoons
            fall = np.floor(min(max(smooth * s + np.float32(0.25), 0.0), 1.0) * steps + np.float32(0.5)) / steps
            out_r += cr * r * fall
            out_g += cg * g * fall
            out_b += cb * b * fall
            continue
        if kind == SKIN:
            facing = max(vx * hx + vy * hy + vz * hz, np.float32(0))
            f = 1 - facing
            fresnel = np.float32(0.028) + np.float32(0.972) * f * f * f * f * f
            mirror = fresnel * (np.float32(0.7) * _lobe(half, rough) + np.float32(0.3) * _lobe(half, rough * 0.62))
            mirror *= np.float32(0.25) * max(fine, np.float32(0)) * s * gloss * ao
            mirror = min(mirror, np.float32(0.45))  # a sparkle of one pixel is no skin
            # Light that enters skin comes out beside: red the farthest, round edges and into shadows.
            root = np.sqrt(s)
            for channel in range(3):
                if channel == 0:
                    wrap, blend, seen = np.float32(0.36), np.float32(0.72), root * np.float32(0.4) + s * np.float32(0.6)
                elif channel == 1:
                    wrap, blend, seen = np.float32(0.17), np.float32(0.35), s
                else:
                    wrap, blend, seen = np.float32(0.10), np.float32(0.15), s
                d = fine + (smooth - fine) * blend
                d = min(max((d + wrap) / (1 + wrap), np.float32(0)), np.float32(1))
                d *= d * (1 + np.float32(0.3) * wrap)
                if channel == 0:
                    out_r += cr * (r * d * seen + mirror)
                elif channel == 1:
                    out_g += cg * (g * d * seen + mirror)
                else:
                    out_b += cb * (b * d * seen + mirror)
            continue
        if kind == EYE:
            s = np.float32(0.35) + np.float32(0.65) * s if n == 0 else np.float32(1)
            d, mirror = max(smooth * np.float32(0.7) + np.float32(0.3), np.float32(0)) * ao, np.float32(0)
            mirror = _lobe(half, np.float32(0.13)) * np.float32(0.022) * s * ao
        elif kind == WET:
            d = max(smooth * np.float32(0.7) + np.float32(0.3), np.float32(0)) * ao
            s = s if n == 0 else np.float32(0.8)
            mirror = _lobe(half, np.float32(0.26)) * np.float32(0.012) * s * ao * gloss
        elif kind == CLOTH:
            s = s if n == 0 else np.float32(1)
            d, mirror = max(fine * np.float32(0.9) + np.float32(0.1), np.float32(0)), np.float32(0)
        else:
            s = np.float32(0.25) + np.float32(0.75) * s if n == 0 else np.float32(1)
            d, mirror = max(smooth * np.float32(0.6) + np.float32(0.4), np.float32(0)) * ao, np.float32(0)
            if kind == HAIR:
                along = tx * hx + ty * hy + tz * hz
                sharp = max(1 - along * along, np.float32(0))
                sharp = sharp * sharp * sharp * sharp
                sharp *= sharp * sharp
                tinted = sharp * np.float32(0.35) * d * s * gloss
                out_r += cr * r * tinted
                out_g += cg * g * tinted
                out_b += cb * b * tinted
                mirror = sharp * sharp * sharp * np.float32(0.022) * d * gloss * s
        out_r += cr * (r * d * s + mirror)
        out_g += cg * (g * d * s + mirror)
        out_b += cb * (b * d * s + mirror)
    e = light[9, 0]
    return _tone(out_r * e), _tone(out_g * e), _tone(out_b * e)


@njit(cache=True, fastmath=True, inline="always")
def weights_at(triangle, triangles, places, px, py):
    """Perspective weights of a triangle's corners at a place of the picture, in samples."""
    i, j, k = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
    ax, ay, bx, by = places[i, 0], places[i, 1], places[j, 0], places[j, 1]
    cx, cy = places[k, 0], places[k, 1]
    s = 1 / ((bx - ax) * (cy - ay) - (cx - ax) * (by - ay))
    w0 = ((by - cy) * (px - cx) + (cx - bx) * (py - cy)) * s
    w1 = ((cy - ay) * (px - cx) + (ax - cx) * (py - cy)) * s
    k0, k1, k2 = w0 * places[i, 2], w1 * places[j, 2], (1 - w0 - w1) * places[k, 2]
    n = 1 / (k0 + k1 + k2)
    return k0 * n, k1 * n, k2 * n


@njit(cache=True, fastmath=True)
def resolve(visible, nearest, first, nodes, values, triangles, material, places, points, normals, lie, uv, open_sky,
            colours, table, looks, atlas, light, shadow_map, to_light, blur, picture, matte, hit):  # fmt: skip
    """
    Into `picture` [S, S, 3] float32 linear colours of what covers a pixel, `matte` [S, S] float32 how much does, `hit`
    [S, S] int32 the triangle that most of the pixel shows, -1 for the background.
    """
    size = picture.shape[0]
    scale = visible.shape[0] // size
    shaded = np.empty(MOST_SHADES, np.int32)
    shade_m = np.empty(MOST_SHADES, np.int32)
    shade_z = np.empty(MOST_SHADES, np.float32)
    shade_c = np.empty((MOST_SHADES, 3), np.float32)
    weight = np.empty(MOST_SHADES, np.float32)
    chain = np.empty(MOST_VEILS, np.int32)
    share = np.float32(1.0 / (scale * scale))
    for y in range(size):
        for x in range(size):
            count = 0
            total_r, total_g, total_b = np.float32(0), np.float32(0), np.float32(0)
            covered = np.float32(0)
            for sy in range(y * scale, (y + 1) * scale):
                for sx in range(x * scale, (x + 1) * scale):
                    front, node = nearest[sy, sx], first[sy, sx]
                    length = 0
                    while node >= 0 and length < MOST_VEILS:
                        if values[node, 0] > front:
                            at = length
                            while at > 0 and values[chain[at - 1], 0] < values[node, 0]:
                                chain[at] = chain[at - 1]
                                at -= 1
                            chain[at] = node
                            length += 1
                        node = nodes[node, 0]
                    through = share
                    for step in range(length + 1):
                        if step < length:
                            t, part = nodes[chain[step], 1], values[chain[step], 1] * through
                        else:
                            t, part = visible[sy, sx], through
                        if t < 0 or part < 0.002:
                            continue
                        m = material[t]
                        z = front if step == length else values[chain[step], 0]
                        found = -1
                        for n in range(count):
                            same = shaded[n] == t or (
                                step == length and shade_m[n] == m and abs(shade_z[n] - z) < 0.004 * z
                            )
                            if same:
                                found = n
                                break
                        if found < 0:
                            if count == MOST_SHADES:
                                found = count - 1
                            else:
                                w0, w1, w2 = weights_at(t, triangles, places, sx + 0.5, sy + 0.5)
                                cr, cg, cb = _shade(
                                    t, w0, w1, w2, triangles, points, normals, lie, uv, open_sky, colours, table, looks,
                                    m, atlas, light, shadow_map, to_light, blur,
                                )  # fmt: skip
                                found = count
                                shaded[count], shade_m[count], shade_z[count], weight[count] = t, m, z, 0
                                shade_c[count, 0], shade_c[count, 1], shade_c[count, 2] = cr, cg, cb
                                count += 1
                        weight[found] += part
                        total_r += part * shade_c[found, 0]
                        total_g += part * shade_c[found, 1]
                        total_b += part * shade_c[found, 2]
                        covered += part
                        through -= part
            best, most = -1, 1 - covered
            for n in range(count):  # hair is many veils: what of one material is seen counts together
                of_material, strongest = np.float32(0), n
                for o in range(count):
                    if shade_m[o] == shade_m[n]:
                        of_material += weight[o]
                        if weight[o] > weight[strongest]:
                            strongest = o
                if of_material > most:
                    best, most = shaded[strongest], of_material
            hit[y, x] = best
            matte[y, x] = covered
            if covered > 1e-4:
                inverse = 1 / covered
                picture[y, x, 0] = total_r * inverse
                picture[y, x, 1] = total_g * inverse
                picture[y, x, 2] = total_b * inverse
            else:
                picture[y, x, 0] = picture[y, x, 1] = picture[y, x, 2] = 0


@njit(cache=True, fastmath=True)
def spread(hit, triangles, places, values, scale, out):
    """Into `out` [S, S, c]: values [V, c] of the render vertices where each pixel's middle shows them, 0 elsewhere."""
    for y in range(hit.shape[0]):
        for x in range(hit.shape[1]):
            t = hit[y, x]
            if t < 0:
                out[y, x] = 0
                continue
            w0, w1, w2 = weights_at(t, triangles, places, (x + 0.5) * scale, (y + 0.5) * scale)
            # Where the middle lies outside, do not go on far: a triangle seen edge on would lead anywhere.
            w0, w1, w2 = min(max(w0, -0.5), 1.5), min(max(w1, -0.5), 1.5), min(max(w2, -0.5), 1.5)
            n = 1 / (w0 + w1 + w2)
            w0, w1, w2 = w0 * n, w1 * n, w2 * n
            for c in range(values.shape[1]):
                out[y, x, c] = (
                    w0 * values[triangles[t, 0], c] + w1 * values[triangles[t, 1], c] + w2 * values[triangles[t, 2], c]
                )


@njit(cache=True, fastmath=True)
def flow(hit, places, other_hit, other_places, other_distance, triangles, material, scale, step, slack, out, seen):
    """
    Into `out` [S / step, S / step, 2] float32: what leads from every `step`th pixel's place to where the same point
    lies in another frame of the same figure; and `seen` whether it is seen there: whether one of the four pixels round
    it shows the same material, as far away but for `slack` decimetres. The background stands still.
    """
    size = hit.shape[0]
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            y, x = row * step, column * step
            t = hit[y, x]
            if t < 0:
                out[row, column, 0] = out[row, column, 1] = 0
                seen[row, column] = other_hit[y, x] < 0
                continue
            w0, w1, w2 = weights_at(t, triangles, places, (x + 0.5) * scale, (y + 0.5) * scale)
            w0, w1, w2 = min(max(w0, -0.5), 1.5), min(max(w1, -0.5), 1.5), min(max(w2, -0.5), 1.5)
            n = 1 / (w0 + w1 + w2)
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            # Between corners in space: weighted by how near each is, the picture's lines stay straight.
            a, b, c = w0 * n * other_places[i, 2], w1 * n * other_places[j, 2], w2 * n * other_places[k, 2]
            near = a + b + c
            qx = (a * other_places[i, 0] + b * other_places[j, 0] + c * other_places[k, 0]) / (near * scale)
            qy = (a * other_places[i, 1] + b * other_places[j, 1] + c * other_places[k, 1]) / (near * scale)
            out[row, column, 0], out[row, column, 1] = qx - (x + 0.5), qy - (y + 0.5)
            found = False
            if 0 <= qx < size and 0 <= qy < size:
                x0, y0 = int(np.floor(qx - 0.5)), int(np.floor(qy - 0.5))
                for dy in range(2):
                    for dx in range(2):
                        px, py = min(max(x0 + dx, 0), size - 1), min(max(y0 + dy, 0), size - 1)
                        o = other_hit[py, px]
                        if o >= 0 and material[o] == material[t] and abs(other_distance[py, px] - 1 / near) < slack:
                            found = True
            seen[row, column] = found
