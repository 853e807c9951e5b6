"""Photographs and paintings for training, moved by the picture rig: one picture, many poses, the rig's own truth.

    licences      a folder's manifest ─▶ pictures that may be trained on, and refusals with reasons
    held_out      fingerprints of the measured pictures, none of which may be trained on
    portraits     a file ─▶ a portrait: pixels, matte, face;   stills   rendered people as further portraits
    look          recoloured, relit, mirrored
    correspond    where a frame's pixels lie in another frame of the same portrait
    clips         a portrait and a seed ─▶ a clip as `streamer.training.clip` has it

`python -m streamer.training.photographs --help` makes a set, which is read as a set of rendered people is.
"""
