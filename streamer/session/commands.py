"""Executes the requests to a session from the data channel, from HTTP and from its bot."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import Any

from streamer.avatar.avatar import Avatar
from streamer.avatar.renderer import draws
from streamer.base import clock
from streamer.base.errors import RequestError
from streamer.base.queues import LatestOnlyLock, Overtaken
from streamer.motion.gestures import GESTURES
from streamer.motion.plan import MotionCommand
from streamer.session import messages
from streamer.session.away_screen import AwayScreen
from streamer.session.control_channel import Answer, ControlChannel, problem
from streamer.session.lifecycle import State
from streamer.session.ports import Message
from streamer.session.prefetch import CharacterPrefetcher
from streamer.session.shown_character import ShownCharacter
from streamer.session.voice_input import VoiceInput

_NO_PLAYOUT = "'playout' concerns one connection: send it on that connection's data channel"


class CommandDispatcher:
    """Executes requests in order. Those that need drawing run one at a time; a newer one replaces a waiting one."""

    def __init__(
        self,
        session_id: str,
        *,
        avatar: Avatar,
        voice: VoiceInput,
        character: ShownCharacter,
        away: AwayScreen,
        prefetcher: CharacterPrefetcher,
        control: ControlChannel,
        state: Callable[[], State],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._id = session_id
        self._avatar = avatar
        self._voice = voice
        self._character = character
        self._away = away
        self._prefetcher = prefetcher
        self._control = control
        self._state = state
        self._spawn = spawn
        self._switching, self._leaving = LatestOnlyLock(), LatestOnlyLock()

    def execute(self, request: messages.Control, answer: Answer, by: str = "client") -> None:
        """Executes a request of the `client` or the `bot`. Calls `answer` once, with the outcome."""
        match request:
            case messages.Ping(id=number, t=t):
                answer({"type": "pong", "id": number, "t": t, "server": clock.to_ms(clock.now())})
            case messages.Interrupt():
                answer(self._voice.interrupt(by))
            case messages.Mute(muted=muted):
                self._voice.gate.muted = muted
                self._voice.flush_if_silenced()
                answer({"type": "muted", "muted": muted})
            case messages.SetEmotion():
                self._avatar.set_emotion(request.name, request.strength)
                answer({"type": "emotion", "name": request.name, "strength": request.strength})
            case MotionCommand():
                self._avatar.move(request)
                asked = [name for name, value in request.values.items() if value is not None]
                answer({"type": "plan", "frame": self._voice.next_frame, **self._drawn(asked)})
            case messages.Attend(state=state):
                self._voice.attention_asked = True
                self._avatar.set_attention(state)
                answer({"type": "attention", "state": state})
            case messages.Gesture(name=name):
                self._avatar.play_gesture(name)
                drawn = self._drawn(GESTURES[name].needs)
                answer({"type": "gesture", "name": name, "frame": self._voice.next_frame, **drawn})
            case messages.SetCharacter():
                self._spawn(_in_turn(self._switching, partial(self._switch, request), answer))
            case messages.SetAway(away=True):
                self._spawn(_in_turn(self._leaving, partial(self._leave, request), answer))
            case messages.SetAway():
                self._away.hide()
                answer({"type": "away", "away": False, "frame": self._voice.next_frame})
            case messages.Playout():
                answer(RequestError(422, "bad_message", _NO_PLAYOUT))

    def _drawn(self, controls: Collection[str]) -> Message:
        """The field `drawn` of a reply: false if the renderer does not draw all of these controls."""
        return {} if draws(self._character.renderer, controls) else {"drawn": False}

    async def _switch(self, request: messages.SetCharacter) -> Message:
        await self._character.switch(request, lambda: self._state() is State.LIVE)
        self._character.log(self._id, "changed")
        self._prefetcher.used()
        if self._away.follows_character:
            again = partial(self._leave, messages.SetAway(True, None))
            self._spawn(_in_turn(self._leaving, again, lambda outcome: None))
        return {
            "type": "character",
            "id": self._character.entry.id,
            "frame": self._voice.next_frame,
            "renderer": self._character.renderer,
        }

    async def _leave(self, request: messages.SetAway) -> Message:
        await self._away.show(request)
        return {"type": "away", "away": True, "frame": self._voice.next_frame}

    # Adapters for requests that do not come from the peer; the peer receives the replies as well

    async def execute_http(self, data: bytes) -> Message:
        """Executes a control-channel message and returns its reply. Raises `RequestError`."""
        try:
            request = messages.parse(data.decode())
        except (messages.BadMessage, UnicodeDecodeError) as error:
            raise RequestError(422, "bad_message", str(error)) from None
        if not isinstance(request, messages.Playout) and self._state() is not State.LIVE:
            raise RequestError(409, "not_live", f"the session is {self._state().value}, not live")
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def answer(outcome: Message | RequestError) -> None:
            self._report(request, outcome)
            if answered.done():
                return  # the HTTP client has disconnected
            if isinstance(outcome, RequestError):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)

        self.execute(request, answer)
        return await answered

    def execute_bot(self, request: messages.Control, reply: Callable[[Message], None], by: str) -> None:
        """Executes a bot's request and replies to it."""

        def answer(outcome: Message | RequestError) -> None:
            self._report(request, outcome)
            if isinstance(outcome, RequestError):
                reply(problem(outcome))
            elif not isinstance(request, messages.Interrupt):  # already reported by Bot.interrupted
                reply(outcome)

        self.execute(request, answer, by)

    def _report(self, request: messages.Control, outcome: Message | RequestError) -> None:
        """Reports to the peer what another party did."""
        if not isinstance(outcome, RequestError) and not isinstance(request, messages.Ping):
            self._control.send({**outcome, "remote": True})


async def _in_turn(turn: LatestOnlyLock, make: Callable[[], Coroutine[Any, Any, Message]], answer: Answer) -> None:
    outcome: Message | RequestError = RequestError(409, "not_live", "the session ended meanwhile")
    try:
        async with turn:
            outcome = await make()
    except Overtaken:
        outcome = RequestError(409, "overtaken", "a newer message of this type replaced this one")
    except RequestError as refused:
        outcome = refused
    finally:
        answer(outcome)
