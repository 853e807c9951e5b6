"""The backend that draws with rigs: the studio's illustrator, or the rig of an uploaded picture."""

import threading
from collections import OrderedDict

import numpy as np

from streamer.avatar.characters import CharacterRecord
from streamer.avatar.renderer import Renderer
from streamer.base.constants import DEFAULT_SIZES
from streamer.motion.controls import rest

_MOST_SPARE = 18
"""Prepared rigs kept for later use, 2 to 14 MB each depending on size; beyond this the oldest is closed."""


class RigBackend:
    """Draws studio characters with the illustrator, and uploaded pictures by moving them."""

    name = "rig"
    where = "the rigs draw on the CPU"

    def __init__(self) -> None:
        self._spare: OrderedDict[tuple[str, int, bool], Renderer] = OrderedDict()
        self._lock = threading.Lock()

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        return entry.rig_name

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        with self._lock:
            spare = self._spare.pop((entry.id, size, background), None)
        return spare or entry.rig(size, background)

    def prepare(self, entry: CharacterRecord, size: int, background: bool) -> None:
        key = entry.id, size, background
        with self._lock:
            if key in self._spare:
                self._spare.move_to_end(key)
                return
        made: Renderer = entry.rig(size, background)
        with self._lock:
            displaced = [self._spare.pop(key)] if key in self._spare else []
            self._spare[key] = made
            while len(self._spare) > _MOST_SPARE:
                displaced.append(self._spare.popitem(last=False)[1])
        for drawable in displaced:
            drawable.close()

    def still(self, entry: CharacterRecord, size: int, background: bool) -> np.ndarray:
        rig = entry.rig(size, background)
        try:
            return rig.draw(rest()).copy()
        finally:
            rig.close()

    def relative_cost(self, renderer: str, size: int) -> float:
        edge = size / DEFAULT_SIZES[renderer]
        if renderer == "studio_rig":
            return max(0.7, 0.34 + 0.66 * edge)  # outlines; below 192 pixels they are drawn at twice the size
        return 0.15 + 0.85 * edge**2  # per-pixel work, and a fixed share
