"""Audio input: turns microphone packets or a bot's speech into chunks of speech on one gapless timeline."""

from streamer.audio.jitter_buffer import JitterBuffer, JitterConfig, Span
from streamer.audio.opus import OpusDecoder, OpusEncoder, OpusError, packet_duration
from streamer.audio.rtp_input import CaptureClock, Chunk, Ingest, IngestStats
from streamer.audio.speech_queue import (
    Finished,
    Packet,
    SpeechQueue,
    SpeechQueueConfig,
    SpeechQueueStats,
    Started,
)
from streamer.audio.speech_source import BadSpeech, SpeechFormat

__all__ = [
    "BadSpeech",
    "CaptureClock",
    "Chunk",
    "SpeechQueueConfig",
    "SpeechQueue",
    "SpeechQueueStats",
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
