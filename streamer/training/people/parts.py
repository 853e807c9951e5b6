"""What each pixel can belong to, and which part of the body each of its triangles is.

Letters used in shapes: F faces of the body, t triangles.
"""

from typing import Any

import numpy as np

from streamer.training.people.template import Template

PARTS = (
    "background", "cloth", "skin", "face", "ear", "lips", "mouth", "teeth", "tongue", "eye", "brow", "lash", "hair",
    "hand_left", "hand_right",
)  # fmt: skip
"""Of a pixel in a picture; `mouth` is the lining inside, `skin` is neck, scalp and arms. Left is the viewer's."""
PART = {name: i for i, name in enumerate(PARTS)}


def sampled(mask: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Values of a mask [h, w] at texture coordinates [..., 2]."""
    height, width = mask.shape
    column = (uv[..., 0] * width).astype(int).clip(0, width - 1)
    row = ((1 - uv[..., 1]) * height).astype(int).clip(0, height - 1)
    return mask[row, column]


def parts_of_faces(template: Template, faces: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """[F] uint8 of the body's faces [F, 4] with corners' texture coordinates [F, 4, 2]."""
    x, y, z = template.vertices[faces].mean(1).T
    middle = uv.mean(1)
    parts = np.full(len(faces), PART["skin"], np.uint8)
    head = template.weights[faces].mean(1)[:, template.descendants(["head"])].sum(1) > 0.5
    parts[head & (z > 0.62) & (y > 6.02) & (y < 8.0)] = PART["face"]
    for mask, part in (("ears", "ear"), ("lips", "lips"), ("inside-mouth", "mouth")):
        parts[(sampled(template.masks[mask], middle) > 110) & head] = PART[part]
    for side, part in (("L", "hand_right"), ("R", "hand_left")):
        hand = template.weights[faces].mean(1)[:, template.descendants([f"wrist.{side}"])].sum(1) > 0.5
        parts[hand] = PART[part]
    return parts


def body_parts(template: Template, shape: Any) -> np.ndarray:
    """[t] uint8 of a body's triangles, each a piece of a face of the template."""
    return parts_of_faces(template, shape.faces, shape.face_uv)[shape.face_of_triangle]
