"""Light, camera and background of a clip.

Letters used in shapes: S pixels along an edge.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.training.people.textures import smooth_noise


def _direction(*values: float) -> np.ndarray:
    vector = np.array(values, float)
    return vector / np.linalg.norm(vector)


def look_at(eye: np.ndarray, centre: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """[4, 4]: from the world to a camera at `eye`, which looks along its -z."""
    back = _direction(*(eye - centre))
    right = _direction(*np.cross([np.sin(roll), np.cos(roll), 0.0], back))
    matrix = np.eye(4)
    matrix[:3, :3] = right, np.cross(back, right), back
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


@dataclass(frozen=True)
class Camera:
    eye: np.ndarray
    """[3] decimetres"""
    centre: np.ndarray
    """[3]: what is in the middle of the picture"""
    height: float
    """Decimetres that the picture shows at the centre's distance."""
    roll: float = 0.0

    def matrix(self) -> np.ndarray:
        """[4, 4] float32: from the world to clip space; the last row gives the distance."""
        distance = float(np.linalg.norm(self.eye - self.centre))
        zoom = 2 * distance / self.height
        lens = np.array([[zoom, 0, 0, 0], [0, zoom, 0, 0], [0, 0, -1, -1.0], [0, 0, -1, 0]])
        return (lens @ look_at(self.eye, self.centre, self.roll)).astype(np.float32)


@dataclass(frozen=True)
class Light:
    directions: np.ndarray
    """[n, 3]: towards each light; the first throws shadows."""
    colours: np.ndarray
    """[n, 3] linear"""
    sky: np.ndarray
    ground: np.ndarray
    exposure: float
    softness: float
    """Texels of a shadow map of 512 between the places that are looked at."""
    steps: float = 0.0
    """Flat tones, as in a cartoon; 0 for natural light."""

    def array(self, eye: np.ndarray) -> np.ndarray:
        """[10, 3] float32 as `shading` reads it."""
        rows = np.zeros((10, 3), np.float32)
        rows[0] = eye
        count = len(self.directions)
        rows[1 : 1 + count], rows[4 : 4 + count] = self.directions, self.colours
        rows[7], rows[8] = self.sky, self.ground
        rows[9] = self.exposure, self.steps, count
        return rows

    def shadow_matrix(self, centre: np.ndarray, radius: float) -> np.ndarray:
        """[4, 4] float32: from the world to the first light's parallel view of a ball."""
        view = look_at(centre + self.directions[0] * 2 * radius, centre)
        near, far = 0.1, 4 * radius
        box = np.diag([1 / radius, 1 / radius, -2 / (far - near), 1.0])
        box[2, 3] = -(far + near) / (far - near)
        return (box @ view).astype(np.float32)


def light(rng: np.random.Generator, toon: bool = False) -> Light:
    """Key, fill and rim light with a sky and a ground: rooms, windows, overcast days, evenings."""
    side = rng.choice([-1.0, 1.0])
    key = _direction(side * rng.uniform(0.15, 1.0), rng.uniform(0.2, 0.9), rng.uniform(0.5, 1.0))
    fill = _direction(-side * rng.uniform(0.5, 1.0), rng.uniform(0.0, 0.4), rng.uniform(0.3, 0.8))
    rim = _direction(rng.uniform(-1, 1), rng.uniform(0.2, 0.7), -0.8)
    warm = rng.normal(0.01, 0.05)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    ratio = rng.uniform(0.0, 1.0)  # how hard the light is: a sun or one lamp, to overcast
    strength = np.array([1.0 + 0.9 * ratio, rng.uniform(0.25, 0.7), rng.uniform(0.0, 0.9)])
    colours = np.stack([tint * strength[0], strength[1] / tint, np.ones(3) * strength[2]])
    if rng.random() < 0.08:  # coloured lamps, as streamers have them
        colours[1:] *= rng.uniform(0.35, 1.6, (2, 3))
    sky = np.array([1 - warm, 1.0, 1 + warm]) * (rng.uniform(0.45, 0.75) - 0.15 * ratio)
    ground = np.array([1.08, 1.0, 0.92]) * rng.uniform(0.2, 0.34)
    exposure = float(rng.uniform(0.50, 0.66))
    softness = float(rng.uniform(1.0, 3.2) * (1.3 - 0.6 * ratio))
    return Light(np.stack([key, fill, rim]), colours, sky, ground, exposure, softness, float(3 if toon else 0))


def background(size: int, rng: np.random.Generator) -> np.ndarray:
    """[S, S, 3] uint8 sRGB: out of focus rooms, walls, gradients and lights."""
    edge = 160
    base = rng.uniform(35, 215) + rng.normal(0, 16, 3)
    kind = rng.random()
    picture = np.ones((edge, edge, 3), np.float32) * base
    if kind < 0.25:  # a wall with light on it
        slope = np.linspace(-1, 1, edge, dtype=np.float32)
        picture *= 1 + rng.normal(0, 0.2) * slope[:, None, None] + rng.normal(0, 0.2) * slope[None, :, None]
    else:
        for _ in range(int(rng.integers(6, 26))):
            x, y = rng.integers(-20, edge, 2)
            w, h = rng.integers(6, 90, 2)
            colour = np.clip(base * rng.uniform(0.3, 1.6) + rng.normal(0, 22, 3), 0, 255)
            if rng.random() < 0.75:
                cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), colour.tolist(), -1)
            else:
                cv2.circle(picture, (int(x), int(y)), int(w) // 3 + 2, colour.tolist(), -1)
        if kind > 0.8:
            for _ in range(int(rng.integers(4, 18))):
                x, y = rng.integers(0, edge, 2)
                cv2.circle(picture, (int(x), int(y)), int(rng.integers(2, 7)), rng.uniform(150, 255, 3).tolist(), -1)
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.choice([0.8, 2.0, 4.0, 7.0])))
    picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.4:
        picture *= 1 + 0.012 * smooth_noise(size, size // 2, rng)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def camera(head: np.ndarray, height: float, hands: bool, rng: np.random.Generator) -> Camera:
    """
    A portrait of somebody whose eyes' middle is at `head` [3] and whose face is `height` decimetres from chin to crown.
    """
    if hands:
        shown = height / rng.uniform(0.27, 0.37)
        down = rng.uniform(0.18, 0.26)
    else:
        shown = height / rng.uniform(0.42, 0.68)
        down = rng.uniform(0.0, 0.14)
    centre = head + np.array([rng.normal(0, 0.02) * shown, -down * shown, -0.6])
    distance = shown * rng.uniform(1.5, 3.6)
    azimuth, elevation = np.clip(rng.normal(0, 0.14), -0.4, 0.4), np.clip(rng.normal(0.03, 0.07), -0.15, 0.22)
    eye = centre + distance * np.array(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    )
    return Camera(eye, centre, float(shown), float(np.clip(rng.normal(0, 0.02), -0.05, 0.05)))
