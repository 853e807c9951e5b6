"""A session's public state: the response to `GET /v1/sessions/{id}`, and the `hello` message."""

from dataclasses import asdict
from typing import Any

from streamer import __version__
from streamer.avatar.engine import EngineSlot
from streamer.base import clock
from streamer.base.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from streamer.rtc.negotiation import Peer
from streamer.session.fanout import Broadcast
from streamer.session.limits import Grant, SessionLimits
from streamer.session.media_output import MediaOutput
from streamer.session.shown_character import ShownCharacter
from streamer.session.viewer import NO_LATENCY
from streamer.session.viewers import Audience
from streamer.session.voice_input import VoiceInput


def snapshot(
    *,
    session_id: str,
    state: str,
    born: float,
    packed: bool,
    limits: SessionLimits,
    grant: Grant | None,
    character: ShownCharacter,
    voice: VoiceInput,
    output: MediaOutput,
    broadcast: Broadcast,
    audience: Audience,
    slot: EngineSlot | None,
) -> dict[str, Any]:
    viewer, now = output.peer_viewer, clock.now()
    return {
        "id": session_id,
        "token": grant.id if grant else None,
        "state": state,
        "character": character.entry.id,
        "renderer": character.renderer,
        "size": character.size,
        "background": character.background,
        "codec": viewer.codec if viewer else None,
        "alpha": "packed" if packed else "none",
        "age_s": round(now - born, 1),
        "epoch": output.epoch,
        "muted": voice.gate.muted,
        "marked": limits.marked,
        "away": voice.gate.away,
        "frames": {
            "sent": viewer.counts.sent if viewer else 0,
            "dropped": viewer.counts.dropped if viewer else 0,
            "skipped": slot.skipped if slot else 0,
            "unheard": slot.unheard if slot else 0,
            "overtaken": broadcast.overtaken,
            "keyframes": broadcast.keyframes,
        },
        "bitrate": {"sent": round(viewer.sent_rate(now)) if viewer else 0, "cap": viewer.cap if viewer else 0},
        "step_ms": round(slot.cost * 1e3, 2) if slot else None,
        "audio": {**asdict(voice.microphone.stats), "dropped": viewer.counts.sounds_dropped if viewer else 0},
        "voice": "microphone" if voice.speech is None else "speech",
        "speech": asdict(voice.speech.stats) if voice.speech is not None else None,
        "latency_ms": viewer.latency_ms() if viewer else NO_LATENCY,
        "viewers": audience.to_json(),
    }


def greeting(session_id: str, peer: Peer, lookahead: int, epoch: int, character: ShownCharacter) -> dict[str, Any]:
    """Builds the `hello` message. `lookahead`: samples at 16 kHz."""
    return {
        "type": "hello",
        "session": session_id,
        "version": __version__,
        "fps": FPS,
        "samples_per_frame": SAMPLES_PER_FRAME,
        "sample_rate": SAMPLE_RATE,
        "lookahead_ms": lookahead * 1000 / SAMPLE_RATE,
        "video_rtp_offset": peer.video.timestamp_offset if peer.video else None,
        "audio_rtp_offset": peer.audio.timestamp_offset if peer.audio else None,
        "epoch": epoch,
        "renderer": character.renderer,
        "size": character.size,
    }
