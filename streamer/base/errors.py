"""Errors that more than one room raises or catches."""


class BadPicture(ValueError):
    """A picture, pack or clip that cannot become a character; the text says why, with the number."""

    reason = "bad_picture"
    """The same for programs."""
