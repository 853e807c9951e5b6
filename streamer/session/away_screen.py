"""The picture shown while the user is away; audio is silent meanwhile."""

import asyncio

from streamer.base.errors import RequestError
from streamer.session import messages
from streamer.session.media_output import MediaOutput
from streamer.session.shown_character import ShownCharacter
from streamer.session.voice_input import VoiceInput


class AwayScreen:
    """Covers the character, by default with its own dimmed picture, and silences the voice."""

    def __init__(self, character: ShownCharacter, voice: VoiceInput, output: MediaOutput) -> None:
        self._character = character
        self._voice = voice
        self._output = output
        self._chosen: str | None = None
        self._returned = 0

    @property
    def follows_character(self) -> bool:
        """Whether it shows the session's own character, so that a switch must redraw it."""
        return self._voice.gate.away and self._chosen is None

    async def show(self, request: messages.SetAway) -> None:
        """Raises `RequestError`, also if `hide` was called before the picture was ready."""
        returned = self._returned
        chosen = None if request.picture is None else self._character.find(request.picture)
        loop = asyncio.get_running_loop()
        while True:
            worn = self._character.entry
            picture = await loop.run_in_executor(None, self._character.away_card, worn, chosen)
            if chosen is not None or worn is self._character.entry:
                break  # otherwise the character was switched meanwhile: draw again
        if self._returned != returned:
            raise RequestError(409, "overtaken", "a newer message ended the away state before its picture was ready")
        self._voice.gate.away, self._chosen, self._output.cover = True, request.picture, picture
        self._voice.flush_if_silenced()

    def hide(self) -> None:
        self._returned += 1
        self._voice.gate.away, self._chosen, self._output.cover = False, None, None
