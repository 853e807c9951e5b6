"""The illustrator's parts: each file draws one, on a `Sketch`."""
