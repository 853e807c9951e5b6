"""The numbers that every stage agrees on, and the server's options."""

SAMPLE_RATE = 16_000
"""Rate (Hz) of the speech that every stage after ingest sees. A `pts` counts these samples."""

FPS = 25
"""Video frames and articulation curves a second."""

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
"""640: frame k answers sample 640·k."""

SIZES = (128, 192, 256, 384, 512, 768, 1024)
"""Edge lengths (pixels) that a session may ask for."""
