"""`--publish URL`: publishes the oldest live session to RTMP, SRT or a file for as long as the server runs.

While no session is live nothing is sent and an RTMP connection is closed, so the platform shows its offline screen.
Failed connections are retried indefinitely with exponential backoff. Network targets are written by a relay in a
process of its own, so that an unresponsive target cannot block the server.
"""

import asyncio
import contextlib
import functools
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import av

from streamer.base import clock
from streamer.base.frames import Frame, Sound
from streamer.base.metrics import Metrics
from streamer.media.muxer import Intake, Muxer
from streamer.outputs import relay
from streamer.outputs.recording import WholeFile, discard

log = logging.getLogger(__name__)

KEYFRAME_SECONDS = 2.0
"""Keyframe interval that streaming platforms require."""

STALL = 10.0
"""Seconds that a target may take to connect or to accept a write."""

_SCHEMES = {"rtmp": "flv", "rtmps": "flv", "srt": "mpegts"}
_SUFFIXES = {".mp4": "mp4", ".mkv": "matroska", ".flv": "flv"}
_CLOSE_TIMEOUT = 3.0  # seconds that a relay gets to finish its broadcast


@dataclass(frozen=True)
class Target:
    """Where and how to publish. `url` may contain a secret; `shown` does not."""

    url: str
    shown: str
    format: str
    file: bool


def parse_target(text: str) -> Target:
    """Parses an `rtmp://`, `rtmps://` or `srt://` URL or a file path. Raises ValueError for anything else."""
    if "://" not in text:
        suffix = Path(text).suffix.lower()
        if suffix not in _SUFFIXES:
            raise ValueError(
                f"--publish {text}: a file name must end in {', '.join(_SUFFIXES)}, a URL must begin with a scheme"
            )
        return Target(text, text, _SUFFIXES[suffix], True)
    scheme = text.partition("://")[0][:20]
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError(f"--publish {scheme!r}://…: a URL has no spaces, line breaks or control characters")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ValueError(f"--publish {scheme}://…: {error}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"--publish: unknown scheme {parts.scheme[:20]!r}; use {', '.join(_SCHEMES)}, or a file path")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"--publish {parts.scheme}://…: {error}") from None
    if not host:
        raise ValueError(f"--publish {parts.scheme}://…: the host is missing")
    if parts.scheme == "srt" and port is None:
        raise ValueError(f"--publish srt://{host}: the port is missing, and SRT has no default port")
    # An RTMP path ends in the stream key, and an SRT query contains the passphrase.
    where = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    application = parts.path.strip("/").rpartition("/")[0]
    return Target(text, f"{where}/{application}/…" if application else where, _SCHEMES[parts.scheme], False)


def relay_command(target: Target) -> tuple[list[str], dict[str, str]]:
    """The command of the process that sends to a target, and extra environment variables. Raises ValueError."""
    if target.url.startswith("srt:") and not _pyav_speaks_srt():
        ffmpeg = _ffmpeg_with_srt()
        if ffmpeg is None:
            raise ValueError(
                "--publish srt://…: neither PyAV's FFmpeg nor an `ffmpeg` on the PATH supports SRT "
                "(Debian: apt-get install ffmpeg)"
            )
        options = ["-hide_banner", "-loglevel", "error", "-nostats", "-progress", "pipe:1", "-stats_period", "1"]
        source = ["-analyzeduration", "1000000", "-fflags", "nobuffer", "-f", target.format, "-i", "pipe:0"]
        return [ffmpeg, *options, *source, "-c", "copy", "-f", target.format, target.url], {}
    return [sys.executable, "-P", relay.__file__, target.format], {"LIPSTREAM_RELAY_URL": target.url}


@functools.cache
def _pyav_speaks_srt() -> bool:
    try:
        av.open("srt:", "r").close()
    except av.ProtocolNotFoundError:
        return False
    except (av.FFmpegError, ValueError):
        pass
    return True


@functools.cache
def _ffmpeg_with_srt() -> str | None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return None
    listed = subprocess.run([ffmpeg, "-hide_banner", "-protocols"], capture_output=True, text=True, timeout=10)
    return ffmpeg if "srt" in listed.stdout.rpartition("Output:")[2].split() else None


class Backoff:
    """Exponential backoff: 1 s after the first failure, doubling up to 30 s, with random jitter.

    A connection that lasted STEADY seconds resets the backoff.
    """

    FIRST, MOST, STEADY = 1.0, 30.0, 10.0

    def __init__(self) -> None:
        self._failures = 0
        self._connected: float | None = None
        self._next = float("-inf")

    def due(self, now: float) -> bool:
        return now >= self._next

    def connected(self, now: float) -> None:
        self._connected = now

    def failed(self, now: float, chance: float) -> float:
        """Records a failure and returns the seconds until the next attempt. `chance` (0..1) takes off up to half."""
        if self._connected is not None and now - self._connected >= self.STEADY:
            self._failures = 0
        self._connected = None
        wait = min(self.MOST, self.FIRST * 2 ** min(self._failures, 16)) * (1 - 0.5 * chance)
        self._failures += 1
        self._next = now + wait
        return wait


class Lost(OSError):
    """A target refused, disconnected or stalled. `outcome` is the metrics label, the message is for people."""

    def __init__(self, outcome: str, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


class Relay:
    """A relay process as a muxer's sink. `write` blocks while the relay is busy; `kill` unblocks it."""

    def __init__(self, command: list[str], environment: dict[str, str], on_connected: Callable[[], None]) -> None:
        """Raises OSError."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env={**os.environ, **environment},
        )
        self._began = clock.now()
        self._writing_since: float | None = None
        self._stalled = False
        self._last_message = ""
        self._on_connected = on_connected
        self.connected = False
        self._reader = threading.Thread(target=self._read, name="publish-relay", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode(errors="replace").strip()
            if text == "connected" or text.startswith("progress="):
                if not self.connected:
                    self.connected = True
                    self._on_connected()
            elif text and not (text.partition("=")[0].isidentifier() and "=" in text):
                self._last_message = text[:200]

    def write(self, data: bytes) -> int:
        """Raises Lost."""
        assert self._process.stdin is not None
        rest = memoryview(data)
        self._writing_since = clock.now()
        try:
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
        except OSError:
            raise self._lost() from None
        finally:
            self._writing_since = None
        return len(data)

    def _lost(self) -> Lost:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_TIMEOUT)
        self._reader.join(1.0)
        if self._stalled:
            return Lost("stalled", "it did not answer in time")
        return Lost(
            "lost" if self.connected else "refused", self._last_message or f"exit status {self._process.returncode}"
        )

    def stalls(self, now: float, most: float) -> bool:
        """Whether connecting, or a single write, has taken longer than `most` seconds."""
        since = self._writing_since if self.connected else self._began
        return since is not None and now - since > most

    def kill(self) -> None:
        self._stalled = True
        self._process.kill()

    def close(self) -> None:
        """Lets the relay finish its broadcast, and kills it if it takes too long. Idempotent."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_CLOSE_TIMEOUT)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Feed:
    """One session's outlet to a publisher: forwards frames and sound while that session is the one published."""

    def __init__(self, publisher: "Publisher", size: int) -> None:
        self.size = size
        self.intake = Intake()
        self._publisher = publisher
        self._live = False

    def frame(self, frame: Frame) -> None:
        if not self._live:
            self._live = True
            self._publisher.began(self)
        if self._publisher.turn_of(self):
            self.intake.frame(frame)

    def sound(self, sound: Sound) -> None:
        if self._publisher.turn_of(self):
            self.intake.sound(sound)

    async def close(self) -> None:
        self._publisher.ended(self)
        self.intake.close()


class Publisher:
    """Publishes the session that has been live the longest, in its own thread with its own encoder.

    `run` must be running for a stalled target to be noticed. `close` is idempotent.
    """

    def __init__(
        self, target: Target, metrics: Metrics, stall: float = STALL, chance: Callable[[], float] = random.random
    ) -> None:
        """Raises ValueError if no tool on this machine can send to the target."""
        self.target = target
        self._command: tuple[list[str], dict[str, str]] = ([], {}) if target.file else relay_command(target)
        self._metrics = metrics
        self._stall = stall
        self._chance = chance
        self._backoff = Backoff()
        self._relay: Relay | None = None
        self._live: list[Feed] = []  # ordered by first frame
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def feed(self, size: int) -> Feed:
        """An outlet for a session with frames of `size`×`size` pixels."""
        return Feed(self, size)

    def began(self, feed: Feed) -> None:
        """A session rendered its first frame. Called on the engine's thread."""
        with self._changed:
            self._live = [*self._live, feed]  # replaced, not mutated: other threads read the old list without the lock
            self._changed.notify()

    def ended(self, feed: Feed) -> None:
        with self._changed:
            self._live = [each for each in self._live if each is not feed]

    def turn_of(self, feed: Feed) -> bool:
        live = self._live
        return bool(live) and live[0] is feed

    async def run(self) -> None:
        """Kills relays whose target stalls, until cancelled."""
        while True:
            await asyncio.sleep(self._stall / 20)
            if (link := self._relay) is not None and link.stalls(clock.now(), self._stall):
                link.kill()

    async def close(self) -> None:
        with self._changed:
            self._closed = True
            feeds, self._live = self._live, []
            self._changed.notify()
        for feed in feeds:
            feed.intake.close()
        if self._thread.is_alive():
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self._thread.join, 2 * _CLOSE_TIMEOUT)
            if self._thread.is_alive() and (link := self._relay) is not None:
                link.kill()
                await loop.run_in_executor(None, self._thread.join, _CLOSE_TIMEOUT)

    # The publisher's thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._live or self._closed)
                if self._closed:
                    return
                feed = self._live[0]
            self._publish(feed)
            self.ended(feed)

    def _publish(self, feed: Feed) -> None:
        """Publishes one session, reconnecting as needed, until it ends."""
        counter = self._metrics.outlet_frames
        broadcast: _Broadcast | None = None
        counted = 0
        for frame, sounds in feed.intake:
            counter.labels("publish", "dropped").inc(feed.intake.dropped - counted)
            counted = feed.intake.dropped
            if broadcast is None and self._backoff.due(clock.now()):
                broadcast = self._begin(feed.size)
            if broadcast is None:
                counter.labels("publish", "unsent").inc()
                continue
            try:
                for sound in sounds:
                    broadcast.muxer.sound(sound)
                broadcast.muxer.frame(frame)
            except (OSError, RuntimeError, ValueError, av.FFmpegError) as error:
                self._failed(error, broadcast)
                broadcast = None
            else:
                counter.labels("publish", "written").inc()
        if broadcast is not None:
            try:
                broadcast.muxer.close()
            except (OSError, RuntimeError, ValueError, av.FFmpegError) as error:
                self._failed(error, broadcast)
            else:
                self._end(broadcast)
                self._metrics.publish_attempts.labels("ended").inc()
                log.info("published to %s: the session has ended", self.target.shown)

    def _begin(self, size: int) -> "_Broadcast | None":
        """Opens a connection or file; None if that failed."""
        sink: Relay | WholeFile
        try:
            if self.target.file:
                sink = _new_file(Path(self.target.url))
                self._connected()
            else:
                sink = self._relay = Relay(*self._command, self._connected)
        except OSError as error:
            self._failed(error, None)
            return None
        return _Broadcast(sink, Muxer(sink, self.target.format, size, KEYFRAME_SECONDS))

    def _connected(self) -> None:
        self._backoff.connected(clock.now())
        self._metrics.publish_attempts.labels("connected").inc()
        self._metrics.publishing.inc()
        log.info("publishing to %s", self.target.shown)

    def _end(self, broadcast: "_Broadcast") -> None:
        self._relay = None
        sink = broadcast.sink
        if isinstance(sink, WholeFile) and not sink.written:
            discard(sink)
        sink.close()
        if not isinstance(sink, Relay) or sink.connected:
            self._metrics.publishing.dec()

    def _failed(self, error: Exception, broadcast: "_Broadcast | None") -> None:
        if broadcast is not None:
            broadcast.muxer.abandon()
            self._end(broadcast)
        self._metrics.publish_attempts.labels(error.outcome if isinstance(error, Lost) else "lost").inc()
        wait = self._backoff.failed(clock.now(), self._chance())
        text = str(error).replace(self.target.url, self.target.shown)
        log.warning("publishing to %s failed: %s; retrying in %.1f s", self.target.shown, text, wait)


@dataclass
class _Broadcast:
    """One connection or file, from first frame to last."""

    sink: Relay | WholeFile
    muxer: Muxer


def _new_file(path: Path) -> WholeFile:
    """Creates `path`, or `name-2.mp4`, `name-3.mp4`, … if it exists; never overwrites. Raises OSError."""
    for number in range(1, 10_000):
        with contextlib.suppress(FileExistsError):
            return WholeFile(path if number == 1 else path.with_stem(f"{path.stem}-{number}"), "x+b")
    raise FileExistsError(f"{path} and 9999 numbered files beside it exist already")
