"""Records a session to fragmented MP4, one fragment per second, so that a crash leaves a playable file."""

import asyncio
import contextlib
import errno
import io
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from streamer.base.errors import RequestError
from streamer.base.frames import Frame, Sound
from streamer.base.metrics import Metrics
from streamer.media.muxer import Intake, Muxer

log = logging.getLogger(__name__)

KEYFRAME_SECONDS = 1.0

_MIN_FREE = 16 * 2**20  # bytes of free disk space required to start a recording
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSE_TIMEOUT = 10.0  # seconds to wait for the disk when a recording ends


class WholeFile(io.FileIO):
    """An unbuffered file whose `write` writes everything or raises: written data survives a crash of the process."""

    written = 0
    """Bytes written so far."""

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        while rest:
            taken = super().write(rest)
            self.written += taken
            rest = rest[taken:]
        return len(data)

    def cut(self, length: int) -> None:
        """Truncates the file to its first `length` bytes."""
        self.truncate(length)
        self.written = length


def name_of(session_id: str, at: float, attempt: int = 0) -> str:
    """A recording's file name: the UTC time at which it started, and the session."""
    again = f"-{attempt + 1}" if attempt else ""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(at))}-{session_id[:6]}{again}.mp4"


def create(folder: Path, session_id: str, at: float) -> WholeFile:
    """Creates a file in `folder`. Raises `RequestError` (507 if the disk is full, otherwise 500)."""
    try:
        free = shutil.disk_usage(folder).free
        if free < _MIN_FREE:
            raise RequestError(
                507, "disk_full", f"{free} bytes are free on the disk, and a recording needs at least {_MIN_FREE}"
            )
        for attempt in range(100):
            with contextlib.suppress(FileExistsError):
                return WholeFile(folder / name_of(session_id, at, attempt), "x+b")
        raise FileExistsError(errno.EEXIST, "100 recordings of one session started within one second")
    except OSError as error:
        reason, detail = why(error)
        raise RequestError(
            507 if reason == "disk_full" else 500, reason, f"the recording could not start: {detail}"
        ) from None


def discard(file: WholeFile) -> None:
    """Closes and deletes a file to which nothing was written."""
    file.close()
    with contextlib.suppress(OSError):
        os.unlink(file.name)


def why(error: Exception) -> tuple[str, str]:
    """Reason and detail of a failed recording; free of server paths."""
    if isinstance(error, OSError):
        detail = error.strerror or type(error).__name__
        return ("disk_full", f"the disk is full ({detail})") if error.errno in _FULL else ("recording_failed", detail)
    return "recording_failed", f"{type(error).__name__}: {error}"


def whole_fragments(file: io.RawIOBase, length: int) -> int:
    """Length in bytes of the complete fragments of an MP4 of `length` bytes."""
    at = whole = 0
    while at + 8 <= length:
        file.seek(at)
        header = file.read(8) or b""
        size = int.from_bytes(header[:4], "big")
        if len(header) < 8 or size < 8 or at + size > length:
            break
        at += size
        if header[4:] in (b"moov", b"mdat"):
            whole = at
    return whole


class Recording:
    """An outlet that writes to a file, in its own thread with its own encoder, starting with the next frame.

    If writing fails, the recording ends, truncates the file to its playable part, and calls `on_failed(reason, detail)`
    on the event loop. `finish` is called with the path of a completed file, in a thread, for example to sign it.
    """

    def __init__(
        self,
        file: WholeFile,
        size: int,
        metrics: Metrics,
        on_failed: Callable[[str, str], None] = lambda reason, detail: None,
        finish: Callable[[Path], None] | None = None,
    ) -> None:
        self.path = Path(os.fsdecode(file.name))
        self.reason: str | None = None
        self.detail: str | None = None
        self._file = file
        self._size = size
        self._metrics = metrics
        self._on_failed = on_failed
        self._finish = finish
        self._loop = asyncio.get_running_loop()
        self._intake = Intake()
        self._muxer: Muxer | None = None
        self._counted = 0  # dropped frames already reported to the metrics
        self._signed: bool | None = None
        self._state = "recording"
        self._thread = threading.Thread(target=self._run, name=f"record-{self.path.stem[-6:]}", daemon=True)
        self._ending: asyncio.Task | None = None
        self._thread.start()
        metrics.recordings.labels("started").inc()

    @property
    def running(self) -> bool:
        return self._state == "recording"

    def frame(self, frame: Frame) -> None:
        self._intake.frame(frame)

    def sound(self, sound: Sound) -> None:
        self._intake.sound(sound)

    async def close(self) -> None:
        """Ends and finishes the file. Idempotent."""
        if self._ending is None:
            self._ending = self._loop.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        self._intake.close()
        await self._loop.run_in_executor(None, self._thread.join, _CLOSE_TIMEOUT)
        if self._thread.is_alive():
            self._fail("recording_failed", f"the disk did not respond within {_CLOSE_TIMEOUT:.0f} s")
        elif self._state == "ended" and self._finish is not None:
            try:
                await self._loop.run_in_executor(None, self._finish, self.path)
                self._signed = True
            except Exception as error:
                self._signed = False
                self.detail = f"the file could not be signed: {error}"
                log.exception("could not finish recording %s", self.path)

    def to_json(self) -> dict[str, Any]:
        muxer, dropped = self._muxer, self._intake.dropped
        return {
            "file": self.path.name if self._file.written or self.running else None,
            "state": self._state,
            "seconds": muxer.seconds if muxer else 0.0,
            "bytes": self._file.written,
            "frames": muxer.frames if muxer else 0,
            "dropped": dropped,
            "signed": self._signed,
            "reason": self.reason,
            "detail": self.detail,
        }

    # The recording's thread

    def _run(self) -> None:
        try:
            with self._file:
                self._write_all()
        except OSError as error:  # from closing or truncating the file
            self._fail(*why(error))
        if not self._file.written:
            discard(self._file)

    def _write_all(self) -> None:
        frames = self._metrics.outlet_frames
        try:
            muxer = self._muxer = Muxer(self._file, "mp4", self._size, KEYFRAME_SECONDS)
            for frame, sounds in self._intake:
                for sound in sounds:
                    muxer.sound(sound)
                muxer.frame(frame)
                frames.labels("recording", "written").inc()
                self._count_dropped()
            muxer.close()
        except (OSError, RuntimeError, ValueError, av.FFmpegError) as error:
            if self._muxer is not None:
                self._muxer.abandon()
            self._file.cut(whole_fragments(self._file, self._file.written))
            self._fail(*why(error))
        else:
            if self.running:
                self._state = "ended"
                self._metrics.recordings.labels("ended").inc()

    def _count_dropped(self) -> None:
        dropped = self._intake.dropped
        self._metrics.outlet_frames.labels("recording", "dropped").inc(dropped - self._counted)
        self._counted = dropped

    def _fail(self, reason: str, detail: str) -> None:
        if not self.running:
            return
        self._state, self.reason, self.detail = "failed", reason, detail
        self._intake.close()
        self._metrics.recordings.labels(reason).inc()
        log.error("%s ended: %s", self.path, detail)
        with contextlib.suppress(RuntimeError):  # the loop is closed at shutdown
            self._loop.call_soon_threadsafe(self._on_failed, reason, detail)
