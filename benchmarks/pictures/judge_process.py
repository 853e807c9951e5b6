"""The judge's side of the pipe: runs in the judge's own environment, with nothing of the project in it.

In: a line of JSON {"height": H, "width": W}, then H * W * 3 bytes of RGB; and so on until the end of input.
Out: for each frame 478 * 3 float32 of pixels, all NaN where no face is found.
"""

import json
import sys
import types
from typing import Any, BinaryIO

import numpy as np

POINTS = 478


class _Stub(types.ModuleType):
    """Stands for a module that mediapipe imports and that reading a face never uses."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Stub(name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self


def _face_mesh() -> Any:
    for name in ("sounddevice", "matplotlib", "matplotlib.pyplot", "jax", "jaxlib"):
        sys.modules[name] = _Stub(name)
    import mediapipe

    # Each frame is looked at anew: what a tracker remembers would smooth the very motion that is measured.
    return mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, refine_landmarks=True, max_num_faces=1, min_detection_confidence=0.3
    )


def main(frames: BinaryIO, answers: BinaryIO) -> None:
    mesh = _face_mesh()
    while line := frames.readline():
        shape = json.loads(line)
        height, width = shape["height"], shape["width"]
        frame = np.frombuffer(frames.read(height * width * 3), np.uint8).reshape(height, width, 3)
        found = mesh.process(frame).multi_face_landmarks
        points = np.full((POINTS, 3), np.nan, np.float32)
        if found:
            # Depth comes in the unit of x.
            points[:] = [(p.x * width, p.y * height, p.z * width) for p in found[0].landmark]
        answers.write(points.tobytes())
        answers.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
