"""Ingest: the microphone's packets become chunks of speech on one timeline, with nothing queued on the way."""

from streamer.ingest.ingest import CaptureClock, Chunk, Ingest, IngestStats
from streamer.ingest.jitter import JitterBuffer, JitterConfig, Span
from streamer.ingest.opus import OpusDecoder, OpusEncoder, OpusError, packet_duration

__all__ = [
    "CaptureClock",
    "Chunk",
    "Ingest",
    "IngestStats",
    "JitterBuffer",
    "JitterConfig",
    "OpusDecoder",
    "OpusEncoder",
    "OpusError",
    "Span",
    "packet_duration",
]
