"""The judge's side of the pipe: runs in the judge's own environment, without the project.

Input: a line of JSON {"height": H, "width": W}, then H * W * 3 bytes of RGB; repeated until the end of input.
Output: for each frame 478 * 3 float32 in pixels, all NaN if no face is found.
"""

import json
import sys
import types
from typing import Any, BinaryIO

import numpy as np

POINTS = 478


class _Stub(types.ModuleType):
    """Replaces a module that mediapipe imports but the face mesh does not use."""

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

    # Process each frame independently: tracking would smooth the motion that is measured.
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
            # Depth has the same unit as x.
            points[:] = [(p.x * width, p.y * height, p.z * width) for p in found[0].landmark]
        answers.write(points.tobytes())
        answers.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
