"""Constants that all stages share, and defaults of the server's options."""

SAMPLE_RATE = 16_000
"""Sample rate (Hz) of speech after decoding. `pts` counts samples at this rate."""

FPS = 25
"""Video frames, and articulation frames, per second."""

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
"""640: frame k corresponds to sample 640·k."""

SIZES = (128, 192, 256, 384, 512, 768, 1024)
"""Frame edge lengths (pixels) that a session may request."""

RENDERERS = ("studio_rig", "picture_rig", "still", "neural")
"""
Renderers by name: `studio_rig` draws the studio's characters; `picture_rig` warps an uploaded picture; `still` moves a
picture as a whole; `neural` is the neural generator.
"""

DEFAULT_SIZES = {"studio_rig": 512, "picture_rig": 512, "still": 512, "neural": 512}
"""Default edge length (pixels) of a session, by the renderer of its first character."""

THUMBNAIL_SIZE = 256
"""Default edge length (pixels) of a character's thumbnail."""

VIDEO_CLOCK = 90_000
"""RTP clock rate (Hz) of video."""

AUDIO_CLOCK = 48_000
"""RTP clock rate (Hz) of Opus audio (RFC 7587)."""

GENERATORS = ("auto", "neural", "rig")
"""Values of `--generator`; the default, `auto`, chooses for each character."""

GENERATORS_HELP = (
    "what draws the characters; auto: the neural generator draws studio characters if this machine can run it in real "
    "time beside a browser, otherwise the rig does; pictures always use the rig (default: %(default)s)"
)

DEVICES = ("auto", "cpu", "cuda")
"""Devices for the neural generator; `auto` uses CUDA if available, otherwise the CPU."""

MAX_SESSIONS = 8
"""Default limit of concurrent sessions."""

MAX_VIEWERS = 16
"""Default limit of WHEP viewers per session."""
