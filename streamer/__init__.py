"""lipstream: a live voice becomes a live talking character. Read `pipeline.py` first."""

__version__ = "0.1.0"
