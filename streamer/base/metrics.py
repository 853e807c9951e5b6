"""The Prometheus metrics served at `/metrics`."""

from collections.abc import Sequence
from itertools import pairwise

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_MILLISECONDS = (0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5)
_LATENCY = (0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 1.0)
_STAGE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0)

STAGES = ("listen", "wait", "draw", "encode", "send")
"""captured → arrived (look-ahead included) → started → drawn → encoded → sent: the parts of a frame's latency."""


class Metrics:
    """The metrics of one server, in their own registry so that one process can run several servers."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.sessions = Gauge("lipstream_sessions", "Current sessions, by state", ["state"], registry=registry)
        self.renderers = Gauge(
            "lipstream_renderer_sessions", "Current sessions, by renderer", ["renderer"], registry=registry
        )
        self.opened = Counter("lipstream_sessions_opened", "Sessions opened", registry=registry)
        self.closed = Counter("lipstream_sessions_closed", "Sessions closed, by reason", ["reason"], registry=registry)
        self.refused = Counter("lipstream_refused", "Requests refused, by reason", ["reason"], registry=registry)
        self.frames = Counter(
            "lipstream_frames",
            "Frames, by fate: sent, skipped (late), dropped (superseded by a newer one)",
            ["fate"],
            registry=registry,
        )
        self.step = Histogram(
            "lipstream_step_seconds",
            "A generator step: articulation and rendering",
            registry=registry,
            buckets=_MILLISECONDS,
        )
        self.latency = Histogram(
            "lipstream_capture_to_sent_seconds",
            "From a sample's capture until its frame's last packet was handed to the socket",
            registry=registry,
            buckets=_LATENCY,
        )
        self.stages = Histogram(
            "lipstream_stage_seconds",
            "The parts of capture to sent: listen (look-ahead included), wait, draw, encode, send",
            ["stage"],
            registry=registry,
            buckets=_STAGE,
        )
        self._stages = [self.stages.labels(stage) for stage in STAGES]
        self.load = Gauge("lipstream_generator_load", "Share of the generator's thread in use", registry=registry)
        self.audio = Counter("lipstream_audio_packets", "Audio packets, by fate", ["fate"], registry=registry)
        self.concealed = Counter(
            "lipstream_audio_concealed_seconds", "Audio synthesized in place of lost packets", registry=registry
        )
        self.recordings = Counter(
            "lipstream_recordings",
            "Recordings: started, ended, or the reason of their failure",
            ["outcome"],
            registry=registry,
        )
        self.outlet_frames = Counter(
            "lipstream_outlet_frames",
            "Frames of recordings and publishers, by fate: written, dropped (writer late), unsent (not connected)",
            ["outlet", "fate"],
            registry=registry,
        )
        self.publishing = Gauge("lipstream_publishing", "Current connections to publish targets", registry=registry)
        self.publish_attempts = Counter(
            "lipstream_publish_attempts",
            "Connections to publish targets, by outcome: connected, ended, refused, lost, stalled",
            ["outcome"],
            registry=registry,
        )

    def observe_frame(self, moments: Sequence[float]) -> None:
        """One frame was sent: when it was captured, arrived, started, drawn, encoded, sent (seconds, one clock)."""
        self.latency.observe(moments[-1] - moments[0])
        for stage, (begin, end) in zip(self._stages, pairwise(moments), strict=True):
            stage.observe(end - begin)

    def text(self) -> bytes:
        return generate_latest(self.registry)
