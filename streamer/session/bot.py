"""A bot on its speech socket: its messages and speech in, events and the user's voice out.

The socket itself is in `server/routes/speech.py`; nothing here waits for it. The queue of outgoing messages is bounded.
"""

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamer import __version__
from streamer.audio import BadSpeech, Chunk, Finished, SpeechFormat, Started
from streamer.audio.speech_source import MAX_MESSAGE
from streamer.audio.vad import Vad, VadEvent
from streamer.base import clock
from streamer.base.constants import SAMPLE_RATE
from streamer.session import messages
from streamer.session.ports import BotSession, Message
from streamer.session.speech_input import SpeechInput

_MOST_TOLD = 512  # messages queued for the bot; overflow policy: close the socket
_MOST_HEARD = 100  # pieces of the user's voice queued; overflow policy: drop the new one
_BAD_MESSAGES = 100
_REPORT_EVERY = 0.5
_PAUSE = round(0.20 * SAMPLE_RATE)  # a pause of the user at which the avatar nods

# Close codes of RFC 6455, 7.4.
GOING_AWAY, UNSUPPORTED, MALFORMED, POLICY, TOO_BIG, FAILED = 1001, 1003, 1007, 1008, 1009, 1011

_CODES = {"unknown_format": UNSUPPORTED, "bad_rate": UNSUPPORTED, "not_started": POLICY, "too_large": TOO_BIG}


class Closed(Exception):
    """The socket must be closed with this code and reason."""

    def __init__(self, code: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.reason, self.detail = code, reason, detail


class Outbox:
    """Outgoing messages, in order. On overflow, audio is dropped, while a text closes the outbox: no text is ever lost.

    Texts about interrupted segments do not count: the speech queue bounds their number.
    """

    def __init__(self) -> None:
        self.dropped = 0
        """Pieces of audio dropped."""
        self._waiting: deque[tuple[str | bytes, bool]] = deque()  # message, and whether it counts
        self._texts = self._sounds = 0
        self._changed = asyncio.Event()
        self._closed: Closed | None = None

    def text(self, message: Message, counts: bool = True) -> None:
        if self._closed is not None:
            return
        if counts and self._texts >= _MOST_TOLD:
            self.close(Closed(POLICY, "too_slow", f"{self._texts} messages wait to be read"))
            return
        self._texts += counts
        self._waiting.append((json.dumps(message, separators=(",", ":")), counts))
        self._changed.set()

    @property
    def takes_sound(self) -> bool:
        return self._sounds < _MOST_HEARD

    def sound(self, data: bytes) -> None:
        if self._closed is not None:
            return
        if not self.takes_sound:
            self.dropped += 1
            return
        self._sounds += 1
        self._waiting.append((data, True))
        self._changed.set()

    def close(self, closed: Closed) -> None:
        """Closes it once the queued messages are sent; the first reason counts."""
        self._closed = self._closed or closed
        self._changed.set()

    async def get(self) -> str | bytes:
        """Waits for the next message. Raises `Closed`."""
        while not self._waiting:
            if self._closed is not None:
                raise self._closed
            self._changed.clear()
            await self._changed.wait()
        item, counts = self._waiting.popleft()
        if isinstance(item, bytes):
            self._sounds -= 1
        else:
            self._texts -= counts
        return item


@dataclass(frozen=True, slots=True)
class Pause:
    """A short pause in the user's speech."""


class UserVad:
    """Detects when a user's speech begins, pauses and ends. Takes about 0.2 ms per window."""

    def __init__(self, vad: Vad | None = None) -> None:
        self._vad = vad or Vad()
        self._quiet = 0  # samples without speech
        self._paused = False

    @property
    def speaking(self) -> bool:
        return self._vad.speaking

    def push(self, chunk: Chunk) -> list[VadEvent | Pause]:
        events: list[VadEvent | Pause] = list(self._vad.push(chunk.samples, chunk.pts))
        if self._vad.probability >= 0.5 or not self._vad.speaking:
            self._quiet, self._paused = 0, False
        else:
            self._quiet += len(chunk.samples)
            if self._quiet >= _PAUSE and not self._paused:
                self._paused = True
                events.append(Pause())
        return events


class Bot:
    """One bot. `text` and `binary` raise `Closed` if the socket must be closed; the session continues in any case."""

    def __init__(self, host: BotSession, speech: SpeechInput) -> None:
        self.outbox = Outbox()
        self.barge_in = False
        self._host = host
        self._speech = speech
        self._hears = False
        self._heard = -1  # pts that would continue the user's audio sent so far
        self._full = False
        self._bad = 0
        self.outbox.text(
            {
                "type": "hello",
                "session": host.id,
                "version": __version__,
                "epoch": host.epoch,
                "capacity_ms": round(speech.config.capacity * 1000),
                "max_bytes": MAX_MESSAGE,
                "user": host.hears_user,
            }
        )

    # In

    def text(self, data: str) -> None:
        try:
            request = messages.parse_speech(data)
        except messages.Unreadable as error:
            raise Closed(MALFORMED, "bad_message", str(error)) from None
        except messages.BadMessage as error:
            self._bad += 1
            if self._bad >= _BAD_MESSAGES:
                raise Closed(POLICY, "bad_messages", f"{self._bad} invalid messages, the last: {error}") from None
            self.outbox.text({"type": "error", "reason": "bad_message", "detail": str(error)})
            return
        match request:
            case messages.Start():
                try:
                    self._speech.start(SpeechFormat(request.format, request.rate))
                except BadSpeech as error:
                    raise _closed(error) from None
                self._hears, self.barge_in = request.hear, request.barge_in
            case messages.End():
                self._speech.end()
            case messages.Interrupt():
                self._host.interrupt("bot")
            case _:
                self._host.handle(request, self.outbox.text, "bot")
        self._report_room()

    def binary(self, data: bytes) -> None:
        try:
            self._speech.push(data)
        except BadSpeech as error:
            raise _closed(error) from None
        self._report_room()

    async def room(self) -> None:
        """Waits until the speech queue accepts more."""
        await self._speech.room()

    # Out

    def event(self, event: Started | Finished) -> None:
        match event:
            case Started():
                self.outbox.text({"type": "speech_started", "segment": event.segment, "pts": event.pts})
            case Finished():
                self._finished(event)
        self._report_room()

    def _finished(self, event: Finished, counts: bool = True) -> None:
        message = {
            "type": "speech_finished",
            "segment": event.segment,
            "position_ms": event.position_ms,
            "interrupted": event.interrupted,
        }
        self.outbox.text(message, counts)

    def interrupted(self, message: Message, by: str, cut: Sequence[Finished]) -> None:
        """Reports an interruption: the peer's message, who requested it, and the result for each segment."""
        first = cut[0] if cut else None
        self.outbox.text(
            {
                **message,
                "by": by,
                "segment": first.segment if first else None,
                "position_ms": first.position_ms if first else 0,
            }
        )
        for finished in cut:
            self._finished(finished, counts=False)
        self._report_room()

    def heard(self, chunk: Chunk) -> None:
        """Forwards the user's voice, after a `user_audio` message if it does not continue the previous chunk."""
        if self._hears:
            if chunk.pts != self._heard and self.outbox.takes_sound:
                self.outbox.text({"type": "user_audio", "pts": chunk.pts})
            if self.outbox.takes_sound:
                self._heard = chunk.end
            self.outbox.sound((np.clip(chunk.samples, -1, 1) * 32767).astype("<i2").tobytes())

    def user(self, event: VadEvent, captured: float) -> None:
        """Reports that the user started or stopped speaking, at the capture time `captured`."""
        kind = "user_speech_started" if event.speaking else "user_speech_ended"
        self.outbox.text({"type": kind, "pts": event.pts, "at": clock.to_unix(captured)})

    def _report_room(self) -> None:
        if self._speech.full and not self._full:
            self._full = True
            self.outbox.text({"type": "full", "buffered_ms": self._buffered_ms})
        elif self._full and self._speech.ready:
            self._full = False
            self.outbox.text({"type": "ready", "buffered_ms": self._buffered_ms})

    @property
    def _buffered_ms(self) -> int:
        return round(self._speech.buffered * 1000)

    async def report(self) -> None:
        """Reports the queued speech regularly while there is any, until cancelled."""
        told = 0
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            self._report_room()
            waits = self._buffered_ms
            if waits or told:
                self.outbox.text({"type": "buffer", "buffered_ms": waits})
            told = waits


def _closed(error: BadSpeech) -> Closed:
    return Closed(_CODES.get(error.reason, MALFORMED), error.reason, error.detail)
