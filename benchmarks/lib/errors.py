"""Why something could not be measured, and the exit status that says so."""

NOT_MEASURED = 3
"""
Exit status of a benchmark that ran and could measure nothing here: its JSON holds the reason, and the report shows it.
Any other status but 0 is a failure of the program.
"""


class Unmeasurable(RuntimeError):
    """Something could not be measured; the text is the reason. Another attempt may succeed."""


class NothingToMeasure(Unmeasurable):
    """Something is missing on this machine, such as a browser: another attempt has no use."""


class Irregular(Unmeasurable):
    """The microphone lost sound as it was opened, so that this session proves nothing; another one may."""


class ServerFailed(RuntimeError):
    """The measured server ended by itself, or never answered: a fault of the program and not of the measurement."""
