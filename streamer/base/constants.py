"""The numbers that every stage agrees on, and the server's options."""

SAMPLE_RATE = 16_000
"""Rate (Hz) of the speech that every stage after ingest sees. A `pts` counts these samples."""

FPS = 25
"""Video frames and articulation curves a second."""

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
"""640: frame k answers sample 640·k."""

SIZES = (128, 192, 256, 384, 512, 768, 1024)
"""Edge lengths (pixels) that a session may ask for."""

RENDERERS = ("studio_rig", "picture_rig", "still", "neural")
"""
What draws a frame, by name: the studio's illustrator; a picture whose own pixels move; one that moves as a whole; the
neural generator.
"""

DEFAULT_SIZES = {"studio_rig": 512, "picture_rig": 512, "still": 512, "neural": 256}
"""Edge length (pixels) of a session that asks for none, by the renderer that draws its first character."""

THUMBNAIL_SIZE = 256
"""Edge length (pixels) of a character's picture, where none is asked for."""

VIDEO_CLOCK = 90_000
"""Rate (Hz) of the RTP timestamps of video."""

AUDIO_CLOCK = 48_000
"""Rate (Hz) of the RTP timestamps of Opus audio (RFC 7587)."""

GENERATORS = ("auto", "neural", "rig")
"""What can draw the characters; the first is the default, which chooses for each character."""

GENERATORS_HELP = (
    "what draws the characters; auto: the neural generator draws those of the studio where this machine keeps up with "
    "it beside a browser, else the rig does, which draws pictures in any case (default: %(default)s)"
)

DEVICES = ("auto", "cpu", "cuda")
"""Where the neural generator may draw; `auto`: on CUDA where that works, else on the CPU."""

MAX_SESSIONS = 8
"""Sessions that a server takes where it is told nothing else."""

MAX_VIEWERS = 16
"""Viewers that a session takes, over WHEP, where the server is told nothing else."""
