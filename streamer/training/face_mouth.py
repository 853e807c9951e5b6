"""Teeth and tongue for `face_assets`.

MakeHuman's base mesh has no teeth, only a band for each jaw where they go. Crowns are modelled along it, with the usual
widths (from textbooks of dental anatomy), each a stack of rounded sections, with a scalloped gum in front of their
roots. The tongue is MakeHuman's.

Along an arch: s is the distance from the middle, in decimetres; h is 0 at the biting edges, 1 at the crowns' necks, 2
at the far border of the gum.
"""

from dataclasses import dataclass

import numpy as np

from streamer.studio.picture_rig.anatomy import LOWER_TEETH, TONGUE, UPPER_TEETH, Part

SCALE = 0.0106
"""Decimetres per millimetre: MakeHuman's arch is slightly wider than average."""

AROUND = 12
"""Vertices around a crown."""

HEIGHTS = (0.0, 0.05, 0.16, 0.34, 0.56, 0.8, 1.05, 1.3)
"""Heights of a crown's sections; the last is hidden behind the gum."""

ACROSS = 8
"""Steps of the gum per tooth."""

ENAMEL = np.array([240, 232, 216.0])
NECK = np.array([226, 206, 170.0])
"""Enamel is thin at the neck, where the yellow dentine shows through."""
GUM = np.array([198, 112, 110.0])
FLESH = np.array([190, 98, 96.0])
"""Of the tongue."""


@dataclass(frozen=True)
class Tooth:
    width: float
    """Millimetres."""
    length: float
    """From edge to gum, relative to the band's height."""
    thick: tuple[float, float]
    """Millimetres from front to back, at the edge and at the neck."""
    cusp: float
    """Millimetres by which the middle of the edge is longer than its corners."""
    round: float
    """Millimetres by which the corners themselves recede further."""


INCISOR, CANINE, PREMOLAR, MOLAR = (1.8, 6.6), (2.6, 7.6), (6.4, 8.4), (9.2, 10.0)
UPPER = (
    Tooth(8.6, 1.06, INCISOR, 0.1, 0.9),
    Tooth(6.7, 0.94, INCISOR, 0.2, 1.1),
    Tooth(7.7, 1.06, CANINE, 1.4, 0.5),
    Tooth(7.1, 0.92, PREMOLAR, 1.1, 0.4),
    Tooth(6.7, 0.88, PREMOLAR, 0.8, 0.4),
    Tooth(10.2, 0.84, MOLAR, 0.5, 0.5),
)
"""From the middle outwards. Teeth behind the first molar are not visible."""
LOWER = (
    Tooth(5.4, 1.04, INCISOR, 0.0, 0.5),
    Tooth(5.9, 1.04, INCISOR, 0.1, 0.6),
    Tooth(6.9, 1.14, CANINE, 1.2, 0.5),
    Tooth(7.0, 1.0, PREMOLAR, 1.0, 0.4),
    Tooth(7.1, 0.94, PREMOLAR, 0.7, 0.4),
    Tooth(11.0, 0.88, MOLAR, 0.5, 0.5),
)

OVERJET = 0.026
"""Decimetres of the lower teeth behind the upper ones; MakeHuman's bands are edge to edge."""

# Rows of vertices on the bands' outer sides, from the middle to x > 0, as numbered within their groups.
UPPER_ROWS = (
    (9, 26, 11, 10, 25, 18, 17, 16, 20),  # biting edges
    (19, 15, 14, 13, 12, 24, 23, 22, 21),  # necks
    (1, 0, 2, 3, 4, 5, 6, 7, 8),  # border of the gum
)
LOWER_ROWS = (
    (18, 9, 10, 11, 12, 13, 14, 15, 16),
    (20, 21, 22, 23, 19, 24, 25, 26, 17),
    (1, 0, 2, 3, 4, 5, 6, 7, 8),
)


@dataclass(frozen=True, eq=False)
class Arch:
    """A smooth band fitted to MakeHuman's: for each row, polynomials in s, odd for x and even for y and z."""

    x: np.ndarray  # [3, 4]: coefficients of s, s³, s⁵, s⁷
    yz: np.ndarray  # [3, 2, 4]: of 1, s², s⁴, s⁶

    @staticmethod
    def fit(band: np.ndarray, rows: tuple[tuple[int, ...], ...]) -> "Arch":
        necks = band[list(rows[1])]
        s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(necks, axis=0), axis=1))])
        odd, even = s[:, None] ** [1, 3, 5, 7], s[:, None] ** [0, 2, 4, 6]
        x = [np.linalg.lstsq(odd, band[list(row), 0], rcond=None)[0] for row in rows]
        yz = [np.linalg.lstsq(even, band[list(row), 1:], rcond=None)[0].T for row in rows]
        return Arch(np.array(x), np.array(yz))

    def at(self, s: np.ndarray | float, h: np.ndarray | float) -> np.ndarray:
        """[..., 3]: the point of the band there."""
        s, h = np.broadcast_arrays(np.asarray(s, float), np.asarray(h, float))
        x = (s[..., None] ** [1, 3, 5, 7]) @ self.x.T
        yz = np.einsum("...k,rck->...rc", s[..., None] ** [0, 2, 4, 6], self.yz)
        rows = np.concatenate([x[..., None], yz], -1)  # [..., 3 rows, 3]
        low = h <= 1
        start = np.where(low[..., None], rows[..., 0, :], rows[..., 1, :])
        end = np.where(low[..., None], rows[..., 1, :], rows[..., 2, :])
        return start + (end - start) * np.where(low, h, h - 1)[..., None]

    def frame(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Horizontal unit vectors [..., 3] along the arch and outwards."""
        s = np.asarray(s, float)
        along = self.at(s + 1e-3, np.ones_like(s)) - self.at(s - 1e-3, np.ones_like(s))
        along[..., 1] = 0
        along /= np.linalg.norm(along, axis=-1, keepdims=True)
        return along, np.stack([-along[..., 2], np.zeros_like(s), along[..., 0]], -1)


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a part, before the pieces are merged."""

    vertices: np.ndarray  # [n, 3]
    triangles: np.ndarray  # [t, 3]
    enamel: float
    shade: np.ndarray  # [n]
    base: np.ndarray  # [n, 3]: colour before shading


def teeth(upper: np.ndarray, lower: np.ndarray, lowered: np.ndarray) -> Part:
    """Both jaws, from MakeHuman's bands [68, 3] and the displacement of the lower one by jawOpen [68, 3]."""
    # Opening the jaw rotates it: the affine map fitted to the band is applied to the new vertices.
    with_one = np.c_[lower, np.ones(len(lower))]
    turn = np.linalg.lstsq(with_one, lowered, rcond=None)[0]
    parts = []
    for which, band, rows, kinds in ((UPPER_TEETH, upper, UPPER_ROWS, UPPER), (LOWER_TEETH, lower, LOWER_ROWS, LOWER)):
        arch = Arch.fit(band if which == UPPER_TEETH else band - [0, 0, OVERJET], rows)
        centres = np.cumsum([0, *(kind.width for kind in kinds)]) * SCALE
        pieces = [gum(arch, kinds, centres)]
        for kind, start, end in zip(kinds, centres, centres[1:], strict=False):
            for side in (1, -1):
                pieces.append(crown(arch, kind, side * (start + end) / 2, side))
        part = joined(pieces, which)
        if which == LOWER_TEETH:
            jaw = np.c_[part.vertices, np.ones(len(part.vertices))] @ turn
            part = Part(**{**vars(part), "jaw": jaw})
        parts.append(part)
    return seen(stacked(parts), 0.45)


def crown(arch: Arch, kind: Tooth, s: float, side: int) -> Piece:
    """One tooth at s: closed sections from the edge down to the root, and a cap on the edge."""
    along, out = arch.frame(np.array(s))
    up = arch.at(s, 0.0) - arch.at(s, 1.0)
    height = np.linalg.norm(up)
    h = np.array(HEIGHTS)[:, None]
    angle = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)[None] + np.pi / AROUND
    half = kind.width * SCALE / 2
    # Widest at a third of the height, where neighbours touch; narrower at the neck, rounded off at the edge.
    width = half * np.interp(h, (0, 0.05, 0.3, 1.05, 1.3), (0.87, 0.95, 1.0, 0.78, 0.7))
    thin, thick = (value * SCALE / 2 for value in kind.thick)
    depth = np.interp(h, (0, 0.05, 1.0, 1.3), (0.8 * thin, thin, thick, thick))
    a = width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.75
    b = depth * (np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.6 - 1)
    level = kind.length * np.broadcast_to(h, a.shape)
    # The far corner is rounder than the one towards the middle of the arch.
    across = a / half
    recede = kind.cusp * np.abs(across) + kind.round * np.abs(across) ** 5 * np.where(side * across > 0, 1.25, 0.75)
    shorter = recede * SCALE * np.clip(1 - h / 0.6, 0, 1)
    bulge = 0.035 * kind.width * SCALE * np.sin(np.pi * np.clip(h, 0, 1)) * (b > -depth)
    points = arch.at(s, level) + a[..., None] * along + (b + bulge)[..., None] * out - shorter[..., None] * up / height
    cap = points[0].mean(0) + up / height * (0.0 if kind.thick[0] < 5 else -0.006)
    n = len(HEIGHTS)
    shade = 1 - 0.6 * smooth(-b / depth, 0.15, 0.75) * smooth(np.abs(across), 0.55, 0.95)
    shade = shade * (1 - 0.35 * smooth(-b / depth, 1.0, 2.0)) * (1 - 0.12 * smooth(h, 0.75, 1.05))
    base = ENAMEL + (NECK - ENAMEL) * (0.75 * smooth(h, 0.45, 1.1))[..., None] * np.ones_like(a)[..., None]
    base = base * (1 - np.array([0.055, 0.04, 0.02]) * (1 - smooth(h, 0.0, 0.2))[..., None])  # edges let light through
    vertices = np.concatenate([points.reshape(-1, 3), cap[None]])
    triangles = sheet(n, AROUND, closed=True)
    ring = np.arange(AROUND)
    lid = np.stack([np.full(AROUND, n * AROUND), ring, np.roll(ring, -1)], 1)
    return outward(
        Piece(
            vertices,
            np.concatenate([triangles, lid]),
            1.0,
            np.append(shade.ravel(), 0.82 if kind.thick[0] > 5 else 1.0),
            np.concatenate([base.reshape(-1, 3), ENAMEL[None]]),
        ),
        points.mean((0, 1)),
    )


def gum(arch: Arch, kinds: tuple[Tooth, ...], starts: np.ndarray) -> Piece:
    """The gum in front of the roots, with a scallop at each tooth and a point between neighbours."""
    s, margin = [], []
    for kind, start, end in zip(kinds, starts, starts[1:], strict=False):
        u = np.arange(ACROSS) / ACROSS
        s.append(start + (end - start) * u)
        margin.append(kind.length * (0.98 - 0.5 * np.abs(2 * u - 1) ** 2.6))
    half = np.append(np.concatenate(s), starts[-1])
    rim = np.append(np.concatenate(margin), kinds[-1].length * 0.48)
    s_all = np.concatenate([-half[:0:-1], half])
    rim = np.concatenate([rim[:0:-1], rim])
    _, out = arch.frame(s_all)
    between = smooth(1.0 - rim, 0.1, 0.5)  # points between the teeth lie deeper than what covers a root
    roll = np.array([-0.03, -0.004, 0.005, 0.008, 0.004])
    reach = np.array([0.0, 0.0, 0.06, 0.35, 1.3])
    h = rim + (2.0 - rim) * np.minimum(reach, 1)[:, None] + np.maximum(reach - 1, 0)[:, None]
    lift = roll[:, None] - 0.016 * between * (1 - smooth(reach, 0.0, 0.5))[:, None]
    points = arch.at(s_all, h) + lift[..., None] * out
    shade = (0.72 + 0.28 * smooth(reach, 0.0, 0.2))[:, None] * (1 - 0.3 * smooth(reach, 0.5, 1.6))[:, None]
    shade = shade * (1 - 0.22 * between * (1 - smooth(reach, 0.0, 0.4))[:, None])
    flat = points.reshape(-1, 3)
    piece = Piece(flat, sheet(*points.shape[:2]), 0.0, shade.ravel(), np.tile(GUM, (len(flat), 1)))
    return outward(piece, np.array([0, flat[:, 1].mean(), flat[:, 2].min()]))


def tongue(vertices: np.ndarray, quads: np.ndarray, jaw: np.ndarray, out: np.ndarray) -> Part:
    """MakeHuman's tongue: vertices [N, 3], faces [F, 4], and their displacement by jawOpen and tongueOut [N, 3]."""
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    furrow = np.exp(-((vertices[:, 0] / 0.03) ** 2)) * smooth(vertices[:, 1], 6.5, 6.6)
    shade = 1 - 0.18 * furrow
    piece = Piece(vertices, triangles, 0.0, shade, np.tile(FLESH, (len(vertices), 1)))
    part = joined([outward(piece, vertices.mean(0))], TONGUE)
    return seen(Part(**{**vars(part), "jaw": jaw, "out": out}), 0.45)


def smooth(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smoothstep: 0 below `low`, 1 above `high`."""
    t = np.clip((np.asarray(x, float) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def sheet(rows: int, columns: int, *, closed: bool = False) -> np.ndarray:
    """Triangles of a grid of vertices, row by row; `closed` joins the last column to the first."""
    index = np.arange(rows * columns).reshape(rows, columns)
    if closed:
        index = np.concatenate([index, index[:, :1]], 1)
    a, b, c, d = (
        index[i : i + rows - 1, j : index.shape[1] - 1 + j].ravel() for i, j in ((0, 0), (0, 1), (1, 1), (1, 0))
    )
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def face_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[t, 3] normals, with the length of twice the area."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def outward(piece: Piece, centre: np.ndarray) -> Piece:
    """The piece with its triangles anticlockwise as seen from outside, the side away from `centre`."""
    away = piece.vertices[piece.triangles].mean(1) - centre
    if np.einsum("ij,ij->", face_normals(piece.vertices, piece.triangles), away) < 0:
        return Piece(piece.vertices, piece.triangles[:, ::-1], piece.enamel, piece.shade, piece.base)
    return piece


def joined(pieces: list[Piece], which: int) -> Part:
    """Merges pieces without shared vertices into one part, with smooth normals and no displacement yet."""
    starts = np.cumsum([0, *(len(piece.vertices) for piece in pieces)])
    vertices = np.concatenate([piece.vertices for piece in pieces])
    triangles = np.concatenate([piece.triangles + start for piece, start in zip(pieces, starts, strict=False)])
    normals = np.zeros_like(vertices)
    np.add.at(normals, triangles.ravel(), face_normals(vertices, triangles).repeat(3, 0))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    shade = np.concatenate([piece.shade for piece in pieces])
    base = np.concatenate([piece.base for piece in pieces])
    return Part(
        vertices=vertices,
        normals=normals,
        triangles=triangles,
        part=np.full(len(vertices), which),
        enamel=np.concatenate([np.full(len(piece.vertices), piece.enamel) for piece in pieces]),
        shade=shade,
        colours=np.round(base * shade[:, None]),
        jaw=np.zeros_like(vertices),
        out=np.zeros_like(vertices),
    )


def stacked(parts: list[Part]) -> Part:
    """Merges parts."""
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    fields = {name: np.concatenate([vars(part)[name] for part in parts]) for name in Part.__dataclass_fields__}
    fields["triangles"] = np.concatenate([part.triangles + start for part, start in zip(parts, starts, strict=False)])
    return Part(**fields)


def seen(part: Part, turned: float) -> Part:
    """Removes triangles that face away from the viewer even when the head is rotated by that sine."""
    normals = face_normals(part.vertices, part.triangles)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    away = np.maximum(normals[:, 2], part.normals[part.triangles, 2].max(1))  # keeps the whole strip around an edge
    triangles = part.triangles[away > -turned]
    kept = np.unique(triangles)
    fields = {name: vars(part)[name][kept] for name in Part.__dataclass_fields__ if name != "triangles"}
    return Part(triangles=np.searchsorted(kept, triangles), **fields)
