"""The speech socket: a bot's speech in, events out. `streamer/session/bot.py` handles the messages."""

import asyncio
import contextlib
import json

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamer.base.errors import RequestError
from streamer.server.routes.common import session_of
from streamer.session.bot import FAILED, GOING_AWAY, Bot, Closed

router = APIRouter()

_CLOSING = 5.0  # seconds to deliver the last messages


@router.websocket("/v1/sessions/{session_id}/speech")
async def speech(socket: WebSocket, session_id: str) -> None:
    try:
        session = session_of(socket, session_id)
        bot = session.attach_bot()
    except RequestError as refused:
        # Accept first: a page in a browser cannot see the reason of a rejected handshake.
        socket.app.state.lipstream.metrics.refused.labels(refused.reason).inc()
        await socket.accept()
        await _tell_why(socket, Closed(4000 + refused.status, refused.reason, refused.detail))
        return
    try:
        await socket.accept()
        await _serve(socket, bot)
    finally:
        session.detach_bot(bot)


async def _serve(socket: WebSocket, bot: Bot) -> None:
    """Runs until either side closes the socket."""
    tasks = [asyncio.create_task(work) for work in (_read(socket, bot), _write(socket, bot), bot.report())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    errors = [error for task in done if (error := task.exception()) is not None]
    if not any(isinstance(error, WebSocketDisconnect) for error in errors):
        await _close(socket, bot, next((e for e in errors if isinstance(e, Closed)), None))
    for error in errors:
        if not isinstance(error, Closed | WebSocketDisconnect):
            raise error


async def _read(socket: WebSocket, bot: Bot) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        text, data = message.get("text"), message.get("bytes")
        if text is not None:
            bot.text(text)
        elif data is not None:
            bot.binary(data)
        await bot.room()  # back-pressure: unread data stays in TCP


async def _write(socket: WebSocket, bot: Bot) -> None:
    while True:
        item = await bot.outbox.get()
        if isinstance(item, str):
            await socket.send_text(item)
        else:
            await socket.send_bytes(item)


async def _close(socket: WebSocket, bot: Bot, why: Closed | None) -> None:
    """Sends the queued messages, then the reason, within `_CLOSING` seconds, and closes."""
    why = why or Closed(FAILED, "internal_error", "internal error: the server log has the details")
    with contextlib.suppress(Exception):  # the peer may be gone, or may not read
        async with asyncio.timeout(_CLOSING):
            bot.outbox.close(why)
            with contextlib.suppress(Closed):
                await _write(socket, bot)
            await _tell_why(socket, why)


async def _tell_why(socket: WebSocket, why: Closed) -> None:
    kind = "closed" if why.code == GOING_AWAY else "error"
    await socket.send_text(json.dumps({"type": kind, "reason": why.reason, "detail": why.detail}))
    await socket.close(why.code, why.reason)
