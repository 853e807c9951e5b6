"""The character that a session shows, and its renderer."""

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
    """The character of a session. It can be switched live; the size is fixed."""

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
        """`check_room(renderer)` raises `RequestError` if there is no engine time to draw this session with it."""
        self.entry = entry
        self.background = background
        self.renderer = renderer.name
        """Name of the renderer, one of constants.RENDERERS."""
        self.size = renderer.size
        self._avatar = avatar
        self._characters = characters
        self._generator = generator
        self._grant = grant
        self._check_room = check_room

    def find(self, character_id: str) -> CharacterRecord:
        """Returns a character that this session may show. Raises `RequestError`."""
        if self._grant is not None and self._grant.character not in (None, character_id):
            raise RequestError(403, "token_character", f"this session's token only allows {self._grant.character!r}")
        return self._characters.get(character_id)

    async def switch(self, request: messages.SetCharacter, live: Callable[[], bool]) -> None:
        """Switches the character; the old one stays visible until the new one is ready. Raises `RequestError`.

        `live` is checked once the new renderer has been created.
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
        """Logs the character, its renderer, and whether the user gave consent for the picture."""
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
