"""Ingest: the microphone's packets, or a bot's speech, become chunks of speech on one timeline."""

from streamer.ingest.fed import BadSpeech, FedConfig, FedSpeech, FedStats, Finished, Packet, SpeechFormat, Started
from streamer.ingest.ingest import CaptureClock, Chunk, Ingest, IngestStats
from streamer.ingest.jitter import JitterBuffer, JitterConfig, Span
from streamer.ingest.opus import OpusDecoder, OpusEncoder, OpusError, packet_duration

__all__ = [
    "BadSpeech",
    "CaptureClock",
    "Chunk",
    "FedConfig",
    "FedSpeech",
    "FedStats",
    "Finished",
    "Ingest",
    "IngestStats",
    "JitterBuffer",
    "JitterConfig",
    "OpusDecoder",
    "OpusEncoder",
    "OpusError",
    "Packet",
    "Span",
    "SpeechFormat",
    "Started",
    "packet_duration",
]
