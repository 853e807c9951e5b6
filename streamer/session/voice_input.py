"""A session's voice: the peer's microphone, or a bot's speech, with the microphone then being the user's."""

from collections.abc import Callable

from streamer.audio import Chunk, Finished, Packet, Started
from streamer.audio.framing import Speech
from streamer.audio.vad import VadEvent
from streamer.avatar.avatar import Avatar
from streamer.base import clock
from streamer.base.constants import SAMPLES_PER_FRAME
from streamer.base.frames import Sound, Step, Times
from streamer.base.metrics import Metrics
from streamer.session.bot import Bot, Pause, UserVad
from streamer.session.control_channel import ControlChannel
from streamer.session.media_output import MediaOutput
from streamer.session.microphone import Microphone
from streamer.session.ports import Message, Voice
from streamer.session.speech_input import SpeechInput


class VoiceGate:
    """
    Blocks the voice while the session is muted or away, and for the rest of an interrupted utterance.
    """

    def __init__(self) -> None:
        self.muted = False
        self.away = False
        self._cut = False
        self._speaking = False

    @property
    def shut(self) -> bool:
        return self.muted or self.away or self._cut

    def interrupt(self) -> None:
        self._cut = self._speaking

    def voice(self, speaking: bool) -> None:
        self._speaking = speaking
        if not speaking:
            self._cut = False


class VoiceInput:
    """Splits the voice into steps for the engine and audio packets for the output; handles interruptions.

    Lives on the event loop. Calls `submit` with each step.
    """

    def __init__(
        self, lookahead: int, avatar: Avatar, output: MediaOutput, control: ControlChannel, metrics: Metrics
    ) -> None:
        self.gate = VoiceGate()
        self.speech: SpeechInput | None = None
        """The bot's speech, if that is the voice."""
        self.bot: Bot | None = None
        self.attention_asked = False
        """Whether a request has set the avatar's attention, which disables the automatic one."""
        self.submit: Callable[[Step], None] = lambda step: None
        self._lookahead = lookahead
        self._avatar = avatar
        self._output = output
        self._control = control
        self._metrics = metrics
        self._framing = Speech(lookahead)
        self._microphone = Microphone(self._take, control.warn, metrics)
        self._voice: Voice = self._microphone
        self._user_vad: UserVad | None = None

    def use_speech(self, with_user: bool) -> None:
        """Makes a bot's speech the voice, and the microphone, if any, the user's. Call it before running `sources`."""
        self._avatar.trust_voice()
        self._voice = self.speech = SpeechInput(self._lookahead, self._take, self._on_packet, self._on_speech_event)
        if with_user:
            self._user_vad = UserVad()
            self._microphone = Microphone(self._on_user_audio, self._control.warn, self._metrics)

    @property
    def sources(self) -> list[Voice]:
        """The sources to `run`: the voice, and the user's microphone if there is one."""
        return [self._voice] if self._user_vad is None else [self._voice, self._microphone]

    @property
    def microphone(self) -> Microphone:
        return self._microphone

    @property
    def hears_user(self) -> bool:
        return self._user_vad is not None

    @property
    def next_frame(self) -> int:
        """Number of the next frame."""
        return self._framing.next_frame

    # In

    def _take(self, chunks: list[Chunk], now: float) -> None:
        """Takes chunks of the voice."""
        epoch = self._output.epoch
        for chunk in chunks:
            if chunk.payload is not None and not self.gate.shut:
                # The packet is forwarded whole; the chunk lacks the part that was already concealed.
                pts = chunk.end - chunk.duration
                captured = self._microphone.captured(pts)
                self._output.sound(Sound(pts, chunk.duration, epoch, chunk.payload, captured), now)
            for frame, samples in self._framing.push(chunk.pts, chunk.samples):
                times = Times(captured=self._voice.captured(frame * SAMPLES_PER_FRAME), arrived=now)
                self.submit(Step(frame, epoch, samples, self.gate.shut, times))

    def _on_packet(self, packet: Packet, now: float) -> None:
        """Takes a packet of the bot's speech."""
        if not self.gate.shut:
            captured = self._voice.captured(packet.pts)
            self._output.sound(Sound(packet.pts, packet.duration, self._output.epoch, packet.payload, captured), now)

    def _on_speech_event(self, event: Started | Finished) -> None:
        if self.bot is not None:
            self.bot.event(event)

    def _on_user_audio(self, chunks: list[Chunk], now: float) -> None:
        """Takes the user's voice: forwards it to the bot, and makes the avatar react to it."""
        assert self._user_vad is not None and self.speech is not None
        bot = self.bot
        for chunk in chunks:
            if bot is not None:
                bot.heard(chunk)
            for event in self._user_vad.push(chunk):
                if isinstance(event, Pause):
                    self._avatar.nod()
                    continue
                if not self.attention_asked:
                    self._avatar.set_attention("listening" if event.speaking else "idle")
                if bot is not None:
                    bot.user(event, self._microphone.captured(event.pts))
                    if event.speaking and bot.barge_in and self.speech.speaking:
                        self._control.send(self.interrupt("user"))

    def on_vad(self, events: list[VadEvent]) -> None:
        """Takes the engine's voice activity events for the voice."""
        for event in events:
            self.gate.voice(event.speaking)
            self._control.send({"type": "vad", "speaking": event.speaking, "pts": event.pts})

    # Interruption

    def interrupt(self, by: str) -> Message:
        """Interrupts the utterance: its audio stops, and the mouth closes with the next step.

        After an interruption by the `bot` itself, what it sends next is spoken; after one by the `client` or the `user`
        (barge-in), the rest of the open segment is discarded. Notifies the bot, and returns the message for the peer.
        """
        heard = self._heard_until(clock.now())
        self._output.epoch += 1
        self._output.flush_audio()
        cut: list[Finished] = []
        if self.speech is None:
            self.gate.interrupt()
        else:
            cut = self.speech.clear(heard, discard=by != "bot")
        message = {
            "type": "interrupted",
            "epoch": self._output.epoch,
            "pts": self._framing.end if self.speech is None else self.speech.decided,
            "frame": self._framing.next_frame,
        }
        if self.bot is not None:
            self.bot.interrupted(message, by, cut)
        return message

    def _heard_until(self, now: float) -> int:
        """The sample of the timeline up to which audio was heard; without listeners, the timeline's clock counts."""
        if (heard := self._output.heard_until(now)) is not None:
            return heard
        return self.speech.due(now) if self.speech is not None else 0

    def flush_if_silenced(self) -> None:
        """Drops queued audio if the session is muted or away."""
        if self.gate.muted or self.gate.away:
            self._output.flush_audio()
