"""The illustrator's parts: each module draws one, on a `Sketch`."""
