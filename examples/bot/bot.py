"""A bot without cloud services: it reacts to when the user speaks, answers by rules with espeak-ng's voice, and can be
interrupted.

python examples/bot/bot.py                     # starts a server, and prints the address of the page
python examples/bot/bot.py --server URL        # uses a running server (with --token, if it requires one)
"""

import argparse
import asyncio
import contextlib
import io
import shutil
import socket
import subprocess
import sys
import time
import wave
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "clients" / "python"), str(ROOT)]

from lipstream_client import Bot, Client, LipstreamError, RequestError, SessionLost, Unreachable  # noqa: E402
from rules import Bot as Rules  # noqa: E402
from rules import Turn  # noqa: E402

RATE = 22_050
"""espeak-ng's output rate in Hz."""

TURN_ENDS_AFTER = 0.5
"""Seconds that the bot waits before it answers, after the server's detector has waited 0.4 s."""


async def speak(text: str, voice: str = "en") -> np.ndarray:
    """Synthesizes text with espeak-ng: [n] float32 at RATE. Raises RuntimeError if it is not installed or fails."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise RuntimeError("espeak-ng is not installed (Debian: apt-get install espeak-ng)")
    process = await asyncio.create_subprocess_exec(
        program, "--stdout", "-v", voice, "--", text, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = await process.communicate()
    if process.returncode != 0 or errors or not out:  # an unknown voice only causes a message
        raise RuntimeError(f"espeak-ng: {errors.decode(errors='replace').strip()[:200] or 'no output'}")
    with wave.open(io.BytesIO(out)) as sound:
        assert sound.getframerate() == RATE and sound.getsampwidth() == 2 and sound.getnchannels() == 1
        # espeak-ng writes the header of a pipe before it knows the length, so ignore the one in there.
        samples = np.frombuffer(out[44 : 44 + (len(out) - 44) // 2 * 2], "<i2")
    return samples.astype(np.float32) / 32768


class Conversation:
    """The conversation with one user. Turns are based on the server's events alone, not on audio."""

    def __init__(self, bot: Bot, rules: Rules, voice: str) -> None:
        self._bot, self._rules, self._voice = bot, rules, voice
        self._began: float | None = None  # when the user's turn began, wall time
        self._ended = time.time()
        self._interrupted = False
        self._heard = 1.0
        self._said = 0.0  # seconds of the bot's current answer
        self._answering: asyncio.Task | None = None

    async def run(self) -> None:
        """Runs until the session ends. Raises SessionLost."""
        try:
            await self._bot.set_attention("idle")
            async for event in self._bot.events():
                await self._take(event)
        finally:
            if self._answering is not None:
                self._answering.cancel()

    async def _take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "user_speech_started":
                if self._answering is not None:
                    self._answering.cancel()  # the turn had not ended
                    self._answering = None
                if self._began is None:
                    self._began = event["at"]
                await self._bot.set_attention("listening")
            case "user_speech_ended" if self._began is not None:
                self._answering = asyncio.create_task(self._answer(self._began, event["at"]))
            case "interrupted" if event["by"] == "user":
                self._interrupted = True
                self._heard = min(event["position_ms"] / 1000 / max(self._said, 0.1), 1.0)
            case "speech_finished" if not event["interrupted"]:
                self._heard, self._interrupted = 1.0, False
                await self._bot.set_attention("idle")

    async def _answer(self, began: float, ended: float) -> None:
        await asyncio.sleep(TURN_ENDS_AFTER)
        turn = Turn(ended - began, max(began - self._ended, 0.0), self._interrupted, self._heard, datetime.now())
        self._began, self._ended, self._interrupted = None, ended, False
        await self._bot.set_attention("thinking")
        text, emotion = self._rules.answer(turn)
        print(f"user: {turn.seconds:.1f} s{' (interrupted)' * turn.interrupted}\nbot:  {text}", flush=True)
        samples, _ = await asyncio.gather(speak(text, self._voice), asyncio.sleep(0.6))  # think for 0.6 s
        self._said = len(samples) / RATE
        await self._bot.set_emotion(emotion, 0.7)
        await self._bot.say(samples)


async def serve(client: Client, session_id: str, voice: str) -> None:
    """Talks to the user of one session until it ends."""
    try:
        async with client.bot(session_id, rate=RATE, barge_in=True) as bot:
            print(f"session {session_id}: a user is connected", flush=True)
            await Conversation(bot, Rules(), voice).run()
    except SessionLost as lost:
        print(f"session {session_id}: ended ({lost.reason})", flush=True)
    except RequestError as refused:
        print(f"session {session_id}: {refused}", flush=True)


async def watch(client: Client, voice: str, every: float = 0.3) -> None:
    """Serves each session with voice=speech in a task, and looks for new ones every `every` seconds."""
    served: dict[str, asyncio.Task] = {}
    try:
        while True:
            with contextlib.suppress(Unreachable):
                known = await client.sessions()
                served = {each: task for each, task in served.items() if each in known}
                for session_id in known:
                    if session_id in served:
                        continue
                    with contextlib.suppress(RequestError):  # the session has ended meanwhile
                        state = await client.session_state(session_id)
                        if state["voice"] == "speech" and state["state"] == "live":
                            served[session_id] = asyncio.create_task(serve(client, session_id, voice))
            await asyncio.sleep(every)
    finally:
        for task in served.values():
            task.cancel()
        await asyncio.gather(*served.values(), return_exceptions=True)


async def main(url: str, token: str | None, voice: str) -> None:
    await speak("ready", voice)  # fail early if espeak-ng or the voice is missing
    async with Client(url, token) as client:
        async with asyncio.timeout(120):
            while True:
                try:
                    await client.config()
                    break
                except Unreachable:
                    await asyncio.sleep(0.3)
        print(f"Open {url}/?voice=speech and press Start talking.", flush=True)
        await watch(client, voice)


def _own_server(generator: str) -> tuple[subprocess.Popen, str]:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 8080))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamer", "--port", str(port), "--generator", generator]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL), f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="URL", help="a running server (default: start one)")
    parser.add_argument("--token", help="the server's token")
    parser.add_argument("--voice", default="en", help="espeak-ng voice (see espeak-ng --voices)")
    parser.add_argument(
        "--generator", default="auto", choices=("auto", "neural", "rig"), help="generator of the server that is started"
    )
    options = parser.parse_args()
    server = None
    url = options.server
    if url is None:
        server, url = _own_server(options.generator)
    try:
        asyncio.run(main(url, options.token, options.voice))
    except KeyboardInterrupt:
        pass
    except (LipstreamError, RuntimeError, TimeoutError) as error:
        sys.exit(f"bot: {error or 'the server did not start within two minutes'}")
    finally:
        if server is not None:
            server.terminate()
            server.wait(20)
