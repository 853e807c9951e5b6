"""One person, ready to be posed: body, eyes, teeth, tongue, brows, lashes, hair and clothes in one buffer.

Vertices come in three kinds. `coarse` ones are what expressions and bones move: the body's, then those of every proxy.
`welded` ones are rendered geometry without seams: the body subdivided, the proxies as they are. Render vertices [V] are
welded ones split where textures have seams.

Letters used in shapes: V render vertices, W welded vertices, K coarse vertices, T triangles, M materials.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from streamer.motion.controls import INDEX, limited
from streamer.studio.picture_rig import anatomy
from streamer.training.people import raster, textures
from streamer.training.people.assets import Assets
from streamer.training.people.identity import Identity, shape_weights
from streamer.training.people.mesh import split_seams, triangulated
from streamer.training.people.parts import PART, body_parts
from streamer.training.people.proxies import Proxy
from streamer.training.people.shading import BUMP, GLOSS, ROUGH, TINT
from streamer.training.people.skeleton import Skeleton, head_turn
from streamer.training.people.units import LOWER_LIP, UPPER_LIP, eye_turn, measured, units_of

_OVERBITE = {anatomy.UPPER_TEETH: np.array([0, -0.028, -0.015]), anatomy.LOWER_TEETH: np.array([0, 0, -0.015])}
"""Decimetres that teeth stand off MakeHuman's bands: upper ones show below the lip when a mouth opens."""
_SEALED = 0.05
"""`open` below which lips are brought together."""
_ARCH = 0.9
"""Of the width of MakeHuman's bands: its lips part further at the corners than mouths do, and show their ends."""
_AMBIENT_RAYS = 28
_AMBIENT_EDGE = 224


@dataclass(eq=False)
class Piece:
    """One mesh with one material."""

    name: str
    kind: int
    triangles: np.ndarray
    """[t, 3]: welded vertices of this piece"""
    uv: np.ndarray
    """[t, 3, 2]"""
    parts: np.ndarray
    """[t] uint8"""
    pyramid: list[np.ndarray]
    place: np.ndarray
    """[w, 3] float32: on the template's body; the dense correspondence between people"""
    slopes: list[np.ndarray] | None = None
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    rough: float = 0.5
    bump: float = 0.0
    gloss: float = 1.0
    push: float = 0.0
    """Decimetres towards the camera, so that brows lie over the skin."""
    colours: np.ndarray | None = None
    """[w, 3] linear: multiply the texture"""
    veil: bool = False


def _srgb(colour: Any) -> np.ndarray:
    return (np.asarray(colour, np.float32) / 255) ** np.float32(2.2)


def _levelled(brows: np.ndarray, fall: float) -> np.ndarray:
    """[n, 3] to be added to brows [n, 3]: the outer ends then lie `fall` decimetres below the inner ones."""
    out = np.abs(brows[:, 0])
    first, last = np.quantile(out, [0.15, 0.85])
    inner, outer = brows[out < first, 1].mean(), brows[out > last, 1].mean()
    turned = np.zeros_like(brows)
    along = np.clip((out - first) / (last - first), -0.3, 1.3) - 0.4
    turned[:, 1] = along * (inner - outer - fall)
    turned[:, 2] = -0.3 * turned[:, 1]  # foreheads recede
    return turned


def _csr(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrix = sp.csr_matrix(weights)
    return matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data.astype(np.float32)


class Figure:
    """
    Somebody whom `pose` moves. `hands`: whether forearms and hands exist, or end above the elbow, out of the picture.
    """

    def __init__(self, who: Identity, assets: Assets, hands: bool, fine: bool = True) -> None:
        template = assets.template
        self.who, self._assets, self.template = who, assets, template
        self.neutral = template.moved(template.vertices, shape_weights(who), "targets")
        self.joints = template.joints(self.neutral)
        self.skeleton = Skeleton(template, self.joints)
        self.measures = measured(template, self.neutral)
        self._pieces: list[Piece] = []
        self._sources: list[Callable[[np.ndarray, np.ndarray], np.ndarray]] = []
        self._bones: list[np.ndarray] = []
        clothes = assets.proxy("clothes", who.clothes)
        self._add_body(clothes, hands, fine)
        self._add_mouth()
        self._add_eyes()
        self._add_proxy("clothes", clothes, raster.CLOTH, "cloth", textures.cloth(who, clothes.texture), rough=0.8)
        self._add_furs()
        if who.hair:
            self._add_hair(assets.proxy("hair", who.hair), fine)
        self._weld()
        self._shade_by_surroundings()

    # What somebody is made of ------------------------------------------------------------------------------------

    def _add(self, piece: Piece, source: Callable[[np.ndarray, np.ndarray], np.ndarray], bones: np.ndarray) -> None:
        self._pieces.append(piece)
        self._sources.append(source)
        self._bones.append(bones)

    def _add_body(self, clothes: Proxy, hands: bool, fine: bool) -> None:
        who, template = self.who, self.template
        shape = self._assets.body(who.clothes, clothes.hides, hands, fine)
        texture = textures.skin(who, self._assets.folder / "skins", template.masks)
        if who.beard > 0.05:
            colour = 0.55 * np.array(who.hair_colour) + 0.2 * np.array(who.tone)
            textures.stubble(texture, self._assets.beard * min(0.75 * who.beard, 0.85), colour, who.seed)
        slopes = self._assets.relief(who.skins[0])
        self._body_used, self._subdivision = shape.used, shape.matrix
        used = shape.used
        piece = Piece(
            "body", raster.SKIN, shape.triangles, shape.uv, body_parts(template, shape),
            textures.pyramid(texture), shape.place(template.vertices), slopes, rough=0.47, bump=who.relief,
            gloss=who.gloss, colours=np.ones((shape.count, 3), np.float32),
        )  # fmt: skip
        self._add(piece, lambda vertices, _: vertices[used], template.weights[used])
        self._blush = self._assets.blush(piece.place)

    def _add_proxy(
        self, name: str, proxy: Proxy, kind: int, part: str, texture: np.ndarray, **look: Any
    ) -> tuple[Piece, np.ndarray]:
        """Adds a proxy that keeps its shape; returns it with its vertices on this body."""
        triangles, places = triangulated(proxy.mesh.faces, proxy.mesh.face_uv)
        fitted = proxy.fit(self.neutral, proxy.scale(self.neutral))
        usual = self.template.vertices
        piece = Piece(name, kind, triangles, proxy.mesh.uv[places], np.full(len(triangles), PART[part], np.uint8),
                      textures.pyramid(texture), proxy.fit(usual, proxy.scale(usual)), **look)  # fmt: skip
        self._add(piece, lambda _vertices, _now: fitted, proxy.bones(self.template.weights))
        return piece, fitted

    def _add_furs(self) -> None:
        who = self.who
        # Darker than the hair, and not dyed with it.
        hair = np.array(who.hair_colour)
        brow = _srgb((hair.mean() + 0.5 * (hair - hair.mean())) * (0.62 if hair.max() > 60 else 1.0))
        for name, folder, chosen, tint, push in (
            ("brow", "eyebrows", who.brows, brow, 0.040),
            ("lash", "eyelashes", who.lashes, np.array([0.012, 0.010, 0.010]), 0.012),
        ):
            proxy = self._assets.proxy(folder, chosen)
            assert proxy.texture is not None
            fur = textures.fur(proxy.texture)
            if name == "brow":
                fur = fur.copy()
                fur[..., 3] = cv2.convertScaleAbs(fur[..., 3], alpha=who.brow_depth)
            self._add_proxy(
                name, proxy, raster.FUR, name, fur, tint=tuple(float(v) for v in tint), push=push, veil=True
            )
            scale = proxy.scale(self.neutral)
            lift = _levelled(proxy.fit(self.neutral, scale), who.brow_fall) if name == "brow" else np.float32(0)

            def followed(vertices: np.ndarray, _now: np.ndarray, proxy: Proxy = proxy, scale: np.ndarray = scale,
                         lift: Any = lift) -> np.ndarray:  # fmt: skip
                return proxy.fit(vertices, scale) + lift

            self._sources[-1] = followed

    def _add_hair(self, proxy: Proxy, fine: bool) -> None:
        who = self.who
        assert proxy.texture is not None
        piece, fitted = self._add_proxy("hair", proxy, raster.HAIR, "hair", textures.hair(who, proxy.texture),
                                        gloss=float(0.5 + who.gloss), veil=True)  # fmt: skip
        if fine and (proxy.mesh.faces >= 0).all():
            matrix, faces, index, uv = self._assets.smoothed(proxy)
            triangles, places = triangulated(faces, index)
            piece.triangles, piece.uv, piece.place = triangles, uv[places], matrix @ piece.place
            piece.parts = np.full(len(triangles), PART["hair"], np.uint8)
            fitted, self._bones[-1] = matrix @ fitted, matrix @ self._bones[-1]
        if who.hair_mirrored:  # the whole of it, textures and all: what was right of the parting is left
            fitted = fitted * np.array([-1, 1, 1], np.float32)
            self._pieces[-1].triangles = self._pieces[-1].triangles[:, ::-1]
            self._pieces[-1].uv = self._pieces[-1].uv[:, ::-1]
            self._bones[-1] = self._mirrored_bones(self._bones[-1])
            self._pieces[-1].place = self._pieces[-1].place * np.array([-1, 1, 1], np.float32)
        eyes = self.eyes.mean(0)
        middle = np.array([0.0, eyes[1] + 0.25, eyes[2] - 1.1], np.float32)
        off, length = who.hair_volume
        away = fitted - middle
        above = np.clip((away[:, 1:2] + 0.4) / 0.5, 0, 1)
        fitted = middle + away * (1 + (off - 1) * above * np.array([1, 1, 1], np.float32))
        low = np.minimum(fitted[:, 1] - (eyes[1] - 0.5), 0)
        fitted[:, 1] += low * (length - 1)
        hangs = np.clip(-(fitted[:, 1] - (eyes[1] + 0.3)) / 2.2, 0, 1) ** 1.5
        hangs = hangs.astype(np.float32)
        across, ahead = INDEX["sway_x"], INDEX["sway_y"]

        def swayed(_vertices: np.ndarray, now: np.ndarray) -> np.ndarray:
            moved = fitted.copy()
            moved[:, 0] += hangs * np.float32(0.55 * now[across])
            moved[:, 2] += hangs * np.float32(-0.40 * now[ahead])
            moved[:, 1] += hangs * np.float32(0.10 * now[ahead])
            return moved

        self._sources[-1] = swayed

    def _mirrored_bones(self, weights: np.ndarray) -> np.ndarray:
        names = self.template.bones
        other = {"L": "R", "R": "L"}
        columns = [
            names.index(f"{name[:-1]}{other[name[-1]]}") if name[-2:] in (".L", ".R") else i
            for i, name in enumerate(names)
        ]
        return weights[:, columns]

    @cached_property
    def eyes(self) -> np.ndarray:
        """[2, 3]: the middles of the eyeballs at rest, the person's left one first."""
        return np.stack([self.neutral[self.template.group(f"helper-{side}-eye")].mean(0) for side in "lr"])

    def _add_eyes(self) -> None:
        proxy = self._assets.proxy("eyes", "high-poly")
        texture = textures.eyes(self.who, self._assets.folder / "eyes" / "materials")
        piece, fitted = self._add_proxy("eye", proxy, raster.EYE, "eye", texture)
        triangles, places = triangulated(proxy.mesh.faces, proxy.mesh.face_uv)
        # The cornea in front of the iris is a hole in the texture: what it mirrors, the iris' own surface mirrors here.
        height, width = texture.shape[:2]
        middle = piece.uv.mean(1)
        row = ((1 - middle[:, 1] % 1) * height).astype(int).clip(0, height - 1)
        column = ((middle[:, 0] % 1) * width).astype(int).clip(0, width - 1)
        kept = texture[row, column, 3] > 100
        piece.triangles, piece.uv, piece.parts = piece.triangles[kept], piece.uv[kept], piece.parts[kept]
        left = fitted[:, 0] > 0
        centres = np.where(left[:, None], self.eyes[0], self.eyes[1])
        away = fitted - centres
        self._eyeball = float(np.median(np.linalg.norm(away, axis=1)))
        rim = textures.iris_rim(self._assets.folder / "eyes" / "materials", proxy.mesh.uv[places])
        angles = np.arctan2(np.linalg.norm(away[triangles, :2], axis=2), away[triangles, 2])[rim]
        self._iris = float(np.median(angles)) if rim.any() else 0.5

        def turned(_vertices: np.ndarray, now: np.ndarray) -> np.ndarray:
            matrix = head_turn(*eye_turn(now), 0.0).astype(np.float32)
            return (centres + away @ matrix.T).astype(np.float32)

        self._sources[-1] = turned
        head = np.zeros((len(fitted), len(self.template.bones)), np.float32)
        head[:, self.template.bone["head"]] = 1
        self._bones[-1] = head

    def irises(self, posed: "Posed") -> np.ndarray:
        """[10, 3]: middle and four points of the rim of the left iris (the viewer's), then of the right one."""
        aside, up = eye_turn(posed.controls)
        forward = head_turn(aside, up, 0.0)
        depth, radius = self._eyeball * np.cos(self._iris), self._eyeball * np.sin(self._iris)
        offsets = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]]) * [radius, radius, self._eyeball]
        offsets[1:, 2] = depth
        return np.array(
            [posed.carried("head", eye + forward @ offset) for eye in self.eyes[::-1] for offset in offsets]
        )

    def _add_mouth(self) -> None:
        mouth, template, pressed = anatomy.load(), self.template, INDEX["press"]
        head = np.zeros((1, len(template.bones)), np.float32)
        head[0, template.bone["head"]] = 1
        white = textures.pyramid(np.full((4, 4, 4), 255, np.uint8))
        for row, group in ((anatomy.UPPER_TEETH, "helper-upper-teeth"), (anatomy.LOWER_TEETH, "helper-lower-teeth")):
            own = mouth.teeth.part == row
            index = np.cumsum(own) - 1
            triangles = index[mouth.teeth.triangles[own[mouth.teeth.triangles].all(1)]]
            places = mouth.teeth.vertices[own]
            band = template.group(group)
            known = np.c_[template.vertices[band], np.ones(len(band))].astype(np.float32)
            solve = np.linalg.pinv(known, rcond=1e-4).astype(np.float32)
            narrow = places * np.array([_ARCH, 1, 1], np.float32)
            padded = np.c_[narrow, np.ones(len(places))].astype(np.float32)
            enamel = mouth.teeth.enamel[own][:, None]
            # Half of the painted shading: light does the rest.
            colour = mouth.teeth.colours[own] / np.sqrt(np.maximum(mouth.teeth.shade[own], 0.2))[:, None]
            colour = np.minimum(colour, 250) * (1 - enamel + enamel * np.array(self.who.teeth, np.float32))
            behind = (places[:, 2].max() - places[:, 2:]) / np.ptp(places[:, 2])
            # Cheeks keep the light from the back teeth; the last ones would stand in the corners of an open mouth.
            colour = colour * (1 - np.clip((behind - 0.25) / 0.4, 0, 1) * np.array([0.35, 0.48, 0.48], np.float32))
            triangles = triangles[behind[triangles, 0].max(1) < 0.54]
            piece = Piece("teeth", raster.WET, triangles, np.zeros((*triangles.shape, 2), np.float32),
                          np.full(len(triangles), PART["teeth"], np.uint8), white, places,
                          colours=_srgb(colour))  # fmt: skip

            def fitted(vertices: np.ndarray, now: np.ndarray, band: Any = band, solve: Any = solve,
                       padded: Any = padded, off: Any = _OVERBITE[row]) -> np.ndarray:  # fmt: skip
                # Lips that are pressed roll in to where the teeth are; flesh would give way.
                back = np.array([0, 0, -0.07 * min(float(now[pressed]), 1.0)])
                return (padded @ (solve @ vertices[band]) + off + back).astype(np.float32)

            self._add(piece, fitted, np.repeat(head, len(places), 0))
        inside = template.group("helper-tongue")
        nearest = inside[cKDTree(template.vertices[inside]).query(mouth.tongue.vertices)[1]]
        triangles = mouth.tongue.triangles.astype(int)
        piece = Piece("tongue", raster.WET, triangles, np.zeros((*triangles.shape, 2), np.float32),
                      np.full(len(triangles), PART["tongue"], np.uint8), white, mouth.tongue.vertices,
                      colours=_srgb(mouth.tongue.colours), gloss=1.6)  # fmt: skip
        depth = mouth.tongue.vertices[:, 2]
        tip = np.clip((depth - np.quantile(depth, 0.35)) / (depth.max() - np.quantile(depth, 0.35)), 0, 1)
        tip = (tip**1.5).astype(np.float32)
        raised, opened = INDEX["tongue"], INDEX["open"]

        def licked(vertices: np.ndarray, now: np.ndarray) -> np.ndarray:
            moved = vertices[nearest].copy()
            up = float(now[raised])
            low = float(now[opened]) * (1 - up)  # it lies on the floor of an open mouth
            moved[:, 1] += tip * np.float32(0.17 * up) - (0.35 + 0.65 * tip) * np.float32(0.15 * low)
            moved[:, 2] += tip * np.float32(0.13 * up - 0.06 * low)
            return moved

        self._add(piece, licked, np.repeat(head, len(nearest), 0))

    # All of it in one buffer -------------------------------------------------------------------------------------

    def _weld(self) -> None:
        coarse, welded, render = 0, 0, 0
        triangles, materials, parts, joined, gathered, uv = [], [], [], [], [], []
        self._coarse, self._welded = [], []
        for number, (piece, bones) in enumerate(zip(self._pieces, self._bones, strict=True)):
            count = len(piece.place)
            corners = np.arange(piece.triangles.size).reshape(-1, 3)
            flat = np.round(piece.uv.reshape(-1, 2), 5)
            places, index = np.unique(flat, axis=0, return_inverse=True)
            vertex, place, split = split_seams(piece.triangles, index.reshape(-1)[corners])
            triangles.append(split + render)
            materials.append(np.full(len(split), number))
            parts.append(piece.parts)
            joined.append(piece.triangles + welded)
            gathered.append(vertex + welded)
            uv.append(places[place])
            self._coarse.append(slice(coarse, coarse + len(bones)))
            self._welded.append(slice(welded, welded + count))
            coarse, welded, render = coarse + len(bones), welded + count, render + len(vertex)
        self._hair = next((i for i, piece in enumerate(self._pieces) if piece.kind == raster.HAIR), -1)
        order = np.argsort([piece.veil for piece in self._pieces], kind="stable")
        self.triangles = np.ascontiguousarray(np.concatenate([triangles[i] for i in order]), np.int32)
        self.material = np.concatenate([materials[i] for i in order]).astype(np.int32)
        self.part = np.concatenate([parts[i] for i in order]).astype(np.uint8)
        self._joined = np.ascontiguousarray(np.concatenate(joined), np.int32)
        self._gather = np.concatenate(gathered).astype(np.int32)
        self.uv = np.ascontiguousarray(np.concatenate(uv), np.float32)
        self.place = np.concatenate([piece.place for piece in self._pieces])[self._gather].astype(np.float32)
        self._weights = _csr(np.concatenate(self._bones))
        body = self._subdivision
        self._fine = body.indptr.astype(np.int32), body.indices.astype(np.int32), body.data.astype(np.float32)
        self._push = np.concatenate([np.full(len(p.place), p.push, np.float32) for p in self._pieces])[self._gather]
        self._colours = np.concatenate(
            [p.colours if p.colours is not None else np.ones((len(p.place), 3), np.float32) for p in self._pieces]
        ).astype(np.float32)
        self._moved = np.zeros((coarse, 3), np.float32)
        self._smooth, self._normals = np.zeros((welded, 3), np.float32), np.zeros((welded, 3), np.float32)
        self.looks = np.array([[*p.tint, p.rough, p.bump, p.gloss] for p in self._pieces], np.float32)
        assert (TINT, ROUGH, BUMP, GLOSS) == (0, 3, 4, 5)

    def pose(self, now: np.ndarray, extra: Mapping[str, float] | None = None) -> "Posed":
        """The figure under controls [C], at their limits where they are beyond; `extra` units are added."""
        template, now = self.template, limited(now)
        units = units_of(now, self.measures, self.who.habit)
        for unit, strength in (extra or {}).items():
            units[unit] = units.get(unit, 0.0) + strength
        vertices = template.moved(self.neutral, units)
        self._keep_off_eyes(vertices)
        self._assets.lips.seal(vertices, 1 - float(now[INDEX["open"]]) / _SEALED)
        matrices = self.skeleton.matrices(self.skeleton.rotations(now, self.who.manner)).astype(np.float32)
        points = np.concatenate([source(vertices, now) for source in self._sources]).astype(np.float32)
        raster.skinned(points, *self._weights, matrices, self._moved)
        body = self._welded[0]
        raster.combined(*self._fine, self._moved[self._coarse[0]], self._smooth[body])
        self._smooth[body.stop :] = self._moved[self._coarse[0].stop :]
        raster.normals_of(self._smooth, self._joined, self._normals)
        colours = self._colours
        blush = float(now[INDEX["blush"]])
        if blush > 0.01:
            colours = colours.copy()
            red = np.array([0.02, -0.30, -0.26], np.float32) * np.float32(blush)
            colours[body] *= 1 + self._blush[:, None] * red
        points = self._smooth[self._gather]
        lie = np.empty_like(points)
        raster.lies(points, self.triangles, self.material, self._hair, self.uv, lie)
        return Posed(
            self, points, self._normals[self._gather], lie, colours[self._gather],
            self._landmarks(vertices, matrices), matrices, units, now, self._opening(vertices),
        )  # fmt: skip

    def _keep_off_eyes(self, vertices: np.ndarray) -> None:
        """In place: lids slide over the eyeballs; a straight way from open to shut would lead through them."""
        near = self._assets.lids
        for centre in self.eyes:
            away = vertices[near] - centre
            distance = np.linalg.norm(away, axis=1)
            close = (distance < self._eyeball * 1.07) & (away[:, 2] > 0.25 * self._eyeball)
            index = near[close]
            vertices[index] = centre + away[close] / distance[close, None] * (self._eyeball * 1.07)

    def _opening(self, vertices: np.ndarray) -> float:
        y = self.template.landmarks(vertices)[[UPPER_LIP, LOWER_LIP], 1]
        return max(float(y[0] - y[1]) - self.measures.gap, 0.0) / self.measures.widest

    def _landmarks(self, vertices: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        template = self.template
        index, weights = template.landmark_vertices, template.landmark_weights
        flat = np.unique(index)
        moved = np.einsum("nb,bij->nij", template.weights[flat], matrices)
        posed = np.einsum("nij,nj->ni", moved[:, :, :3], vertices[flat]) + moved[:, :, 3]
        return np.einsum("pk,pkc->pc", weights, posed[np.searchsorted(flat, index)]).astype(np.float32)

    def pushed(self, points: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """Render vertices [V, 3] with brows and lashes a little nearer to a camera at `eye` [3]."""
        moved = self._push > 0
        result = points.copy()
        to = np.asarray(eye, np.float32) - points[moved]
        result[moved] += to * (self._push[moved] / np.linalg.norm(to, axis=1))[:, None]
        return result

    def materials(self, levels: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """The materials' integers [M, 7] and the atlas, with each texture at a level of its pyramid."""
        rows, chunks, at = [], [], 0
        for piece, level in zip(self._pieces, levels, strict=True):
            level = min(level, len(piece.pyramid) - 1)
            texture = piece.pyramid[level]
            offset, at = at, at + texture.size
            chunks.append(texture.reshape(-1))
            slopes = -1
            if piece.slopes is not None:
                slopes, at = at, at + texture.size
                chunks.append(piece.slopes[level].reshape(-1))
            one_sided = piece.kind in (raster.SKIN, raster.EYE)
            rows.append(
                [piece.kind, offset, texture.shape[1], texture.shape[0], slopes, int(not one_sided), piece.veil]
            )
        return np.array(rows, np.int64), np.concatenate(chunks)

    @property
    def pieces(self) -> list[Piece]:
        return self._pieces

    def _shade_by_surroundings(self) -> None:
        """How much of the sky each vertex sees, once, with the mouth half open."""
        from streamer.training.people.ambient import open_sky  # it renders figures itself

        self.open_sky = open_sky(self, self._smooth, self._normals, self._joined, self._welded, self._gather,
                                 _AMBIENT_RAYS, _AMBIENT_EDGE)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Posed:
    figure: Figure
    points: np.ndarray
    """[V, 3] float32 decimetres"""
    normals: np.ndarray
    lie: np.ndarray
    """[V, 3]: along strands of hair, of any length; 0 elsewhere"""
    colours: np.ndarray
    """[V, 3] linear factors"""
    landmarks: np.ndarray
    """[468, 3]: MediaPipe's"""
    matrices: np.ndarray
    """[B, 3, 4] of the bones"""
    units: Mapping[str, float]
    controls: np.ndarray
    """[C]"""
    opening: float
    """Distance of the inner lips, as a share of this face's widest"""

    def joint(self, name: str) -> np.ndarray:
        """[3]: where a bone begins."""
        bone = self.figure.template.bone[name]
        matrix = self.matrices[bone]
        return matrix[:, :3] @ self.figure.joints[bone] + matrix[:, 3]

    def carried(self, bone: str, point: np.ndarray) -> np.ndarray:
        """[3]: where a point of the neutral body is that goes with a bone."""
        matrix = self.matrices[self.figure.template.bone[bone]]
        return matrix[:, :3] @ point + matrix[:, 3]
