"""Which character a session shows, and what draws it."""

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from streamer.avatar.avatar import Avatar
from streamer.avatar.characters import CharacterRecord, Characters
from streamer.avatar.renderer import Renderer, RendererBackend
from streamer.base.errors import RequestError
from streamer.media.away_card import card, fitted
from streamer.session import messages
from streamer.session.limits import Grant

log = logging.getLogger(__name__)


class ShownCharacter:
    """The character of a session, which may be switched live. The size stays."""

    def __init__(
        self,
        entry: CharacterRecord,
        renderer: Renderer,
        background: bool,
        *,
        avatar: Avatar,
        characters: Characters,
        generator: RendererBackend,
        grant: Grant | None,
        check_room: Callable[[str], None],
    ) -> None:
        """`check_room` raises `RequestError` where the renderer of that name has no time for this session."""
        self.entry = entry
        self.background = background
        self.renderer = renderer.name
        """What draws the character, one of constants.RENDERERS."""
        self.size = renderer.size
        self._avatar = avatar
        self._characters = characters
        self._generator = generator
        self._grant = grant
        self._check_room = check_room

    def find(self, character_id: str) -> CharacterRecord:
        """One that may be shown here. Raises `RequestError`."""
        if self._grant is not None and self._grant.character not in (None, character_id):
            raise RequestError(403, "token_character", f"this session's token is for {self._grant.character!r} alone")
        return self._characters.get(character_id)

    async def switch(self, request: messages.SetCharacter, live: Callable[[], bool]) -> None:
        """Switches the character; the old one stays until the new one can be drawn. Raises `RequestError`.

        `live` is asked again once the new one is made.
        """
        entry = self.find(request.id)
        background = self.background if request.background is None else request.background
        self._check_room(self._generator.renderer_name(entry, self.size))
        renderer = await asyncio.get_running_loop().run_in_executor(
            None, self._generator.create_renderer, entry, self.size, background
        )
        if not live():
            renderer.close()
            raise RequestError(409, "not_live", "the session ended meanwhile")
        self._avatar.set_renderer(renderer)
        self.entry, self.background, self.renderer = entry, background, renderer.name

    def away_card(self, worn: CharacterRecord, chosen: CharacterRecord | None) -> np.ndarray:
        """[S, S, 4] uint8: `chosen` whole, or `worn` dimmed with "Be right back". Blocking. Raises `RequestError`."""
        if chosen is None:
            return card(self._generator.still(worn, self.size, self.background))
        if chosen.picture is not None:
            return fitted(chosen.picture, self.size)
        return self._generator.still(chosen, self.size, self.background)

    def log(self, session_id: str, event: str) -> None:
        """One line: which character, what draws it, and whether its user says that the picture may be used."""
        consent = {None: "not said", True: "given", False: "not given"}[self.entry.consent]
        log.info(
            "session %s %s: character %s, drawn by %s at %d pixels, consent %s",
            session_id,
            event,
            self.entry.id,
            self.renderer,
            self.size,
            consent if self.entry.picture is not None else "not needed",
        )
