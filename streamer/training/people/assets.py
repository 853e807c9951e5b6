"""What is read once and shared by all people: the template, proxies, subdivided bodies and masks."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.sparse as sp

from streamer.training.people import proxies, template, textures
from streamer.training.people.lips import Lips
from streamer.training.people.mesh import subdivided, triangulated

_WAIST, _CHEST = "spine04", "spine02"
_MASK_EDGE = 512


@dataclass(frozen=True, eq=False)
class Body:
    """What of the body is rendered, subdivided or not."""

    used: np.ndarray
    """[K]: the template's vertices it is made of"""
    matrix: Any
    """CSR [n, K]: its n vertices from those"""
    triangles: np.ndarray
    """[t, 3]"""
    uv: np.ndarray
    """[t, 3, 2]"""
    faces: np.ndarray
    """[F, 4]: the template's faces it is made of"""
    face_uv: np.ndarray
    """[F, 4, 2]"""
    face_of_triangle: np.ndarray
    """[t]"""

    @property
    def count(self) -> int:
        return int(self.matrix.shape[0])

    def place(self, vertices: np.ndarray) -> np.ndarray:
        """[n, 3]: its vertices where the template's are as in `vertices` [N, 3]."""
        return (self.matrix @ vertices[self.used]).astype(np.float32)


class Assets:
    def __init__(self, mesh: Path | None = None, folder: Path | None = None) -> None:
        """Raises MissingAssets."""
        path, self.folder = template.found_files(mesh, folder)
        self.template = template.load(path)
        self.proxy = lru_cache(64)(self._proxy)
        self.relief = lru_cache(16)(self._relief)
        self.smoothed = lru_cache(16)(self._smoothed)
        self._bodies: dict[tuple[str, bool, bool], Body] = {}

    def _proxy(self, kind: str, name: str) -> proxies.Proxy:
        """Raises MissingAssets where there is none of that name."""
        found = sorted((self.folder / kind / name).glob("*.mhclo"))
        if not found:
            raise template.MissingAssets(f"no .mhclo in {self.folder / kind / name}")
        return proxies.read(found[0])

    def _relief(self, skin: str) -> list[np.ndarray]:
        return textures.pyramid(textures.relief(textures.skin_file(self.folder / "skins", skin)))

    def _smoothed(self, proxy: proxies.Proxy) -> tuple[Any, ...]:
        """A proxy of quads, subdivided: what `mesh.subdivided` says of it."""
        mesh = proxy.mesh
        return subdivided(len(mesh.vertices), mesh.faces, mesh.face_uv, mesh.uv)

    def body(self, clothes: str, hides: np.ndarray, hands: bool, fine: bool) -> Body:
        """The body under clothes that hide some vertices: from the waist up, or from the chest up without forearms."""
        key = (clothes, hands, fine)
        if key not in self._bodies:
            self._bodies[key] = self._body(hides, hands, fine)
        return self._bodies[key]

    def _body(self, hides: np.ndarray, hands: bool, fine: bool) -> Body:
        t = self.template
        hidden = np.zeros(len(t.vertices), bool)
        hidden[hides] = True
        joints = t.joints(t.vertices)
        kept = (t.group_of_face == t.groups.index("body")) & (t.faces[:, 3] >= 0) & ~hidden[t.faces].all(1)
        weights = t.weights[t.faces].mean(1)
        arms = weights[:, t.descendants(["lowerarm01.L", "lowerarm01.R"])].sum(1) > 0.5
        lowest = joints[t.bone[_WAIST if hands else _CHEST], 1]
        above = t.vertices[t.faces][:, :, 1].mean(1) > lowest
        kept &= (above | arms) if hands else (above & ~arms)
        faces, face_uv = t.faces[kept], t.face_uv[kept]
        used = np.unique(faces)
        local = np.searchsorted(used, faces)
        matrix: Any = sp.identity(len(used), np.float32, "csr")
        f, fu, uv, index = local, face_uv, t.uv, np.arange(len(local))
        if fine:
            matrix, f, fu, uv = subdivided(len(used), local, face_uv, t.uv)
            index = np.tile(index, 4)
        triangles, places = triangulated(f, fu)
        return Body(used, matrix, triangles, uv[places], faces, t.uv[face_uv], np.tile(index, 2))

    @cached_property
    def lids(self) -> np.ndarray:
        """The template's vertices that blinks move."""
        return np.unique(np.concatenate([self.template.units[f"eyeBlink{side}"][0] for side in ("Left", "Right")]))

    @cached_property
    def lips(self) -> Lips:
        return Lips(self.template)

    @cached_property
    def head(self) -> np.ndarray:
        """The template's vertices of face and skull, from the chin up."""
        t = self.template
        body = t.group("body")
        own = t.weights[body][:, t.descendants(["head"])].sum(1) > 0.5
        chin = t.landmarks(t.vertices)[152, 1]
        return body[own & (t.vertices[body, 1] > chin - 0.05)]

    @cached_property
    def beard(self) -> np.ndarray:
        """[512, 512] float32 in the skin's texture: where a beard grows."""
        t = self.template
        chin, nose = t.landmarks(t.vertices)[[152, 2], 1]
        x, y, z = np.abs(t.vertices[:, 0]), t.vertices[:, 1], t.vertices[:, 2]
        top = np.interp(x, [0, 0.28, 0.45, 0.62, 0.74, 0.82], nose + np.array([-0.05, -0.08, -0.28, -0.08, 0.25, 0.5]))
        grows = (
            np.clip((top - y) / 0.10, 0, 1) * np.clip((y - chin + 0.30) / 0.25, 0, 1) * np.clip((z - 0.25) / 0.2, 0, 1)
        )
        mask = np.zeros((_MASK_EDGE, _MASK_EDGE), np.float32)
        body = (t.group_of_face == t.groups.index("body")) & (t.faces[:, 3] >= 0)
        for face, place in zip(t.faces[body], t.face_uv[body], strict=True):
            value = float(grows[face].mean())
            if value > 0.01:
                corners = t.uv[place] * [_MASK_EDGE, -_MASK_EDGE] + [0, _MASK_EDGE]
                cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), value)
        mask = cv2.GaussianBlur(mask, (0, 0), 3.0)
        return mask * (1 - np.maximum(t.masks["lips"], t.masks["inside-mouth"]).astype(np.float32) / 255)

    def blush(self, place: np.ndarray) -> np.ndarray:
        """[n] float32, 0..1: how much vertices at places [n, 3] of the template's skin redden."""
        nose = self.template.landmarks(self.template.vertices)[1]
        x, y, z = np.abs(place[:, 0]), place[:, 1], place[:, 2]
        cheeks = np.exp(-(((x - 0.46) / 0.2) ** 2) - ((y - nose[1]) / 0.15) ** 2)
        tip = 0.5 * np.exp(-((x / 0.13) ** 2) - ((y - nose[1]) / 0.1) ** 2)
        return (np.maximum(cheeks, tip) * (z > 0.7)).astype(np.float32)
