"""A session's output: video and audio to its viewers, encoded once per format, and to outlets such as a recording."""

import asyncio

import numpy as np

from streamer.base.frames import Frame, Sound
from streamer.media.frame_stamp import stamp
from streamer.provenance.marker import Marker
from streamer.session.fanout import Broadcast
from streamer.session.ports import Outlet
from streamer.session.viewer import Viewer


class MediaOutput:
    """Marks frames and distributes them. `frame` runs on the engine's thread, everything else on the event loop."""

    def __init__(self, broadcast: Broadcast, marker: Marker, stamped: bool) -> None:
        self.epoch = 0
        """The current epoch; frames of older ones are dropped."""
        self.cover: np.ndarray | None = None
        """[S, S, 4] uint8 shown instead of the character, if set."""
        self.peer_viewer: Viewer | None = None
        """The viewer of the session's own peer, if it receives video."""
        self.outlets: list[Outlet] = []
        self._broadcast = broadcast
        self._marker = marker
        self._stamped = stamped

    def frame(self, frame: Frame) -> None:
        if frame.epoch < self.epoch:
            return
        if (cover := self.cover) is not None:
            frame.image = cover.copy()
        self._marker.apply(frame.image)
        if self._stamped:
            stamp(frame.image, frame.frame)
        self._broadcast.submit(frame)
        for outlet in self.outlets:
            outlet.frame(frame)

    def sound(self, sound: Sound, now: float) -> None:
        self._broadcast.sound(sound, now)
        for outlet in self.outlets:
            outlet.sound(sound)

    def flush_audio(self) -> None:
        """Drops queued audio, and all further audio of older epochs, for every viewer."""
        self._broadcast.flush_audio(self.epoch)

    def heard_until(self, now: float) -> int | None:
        """
        The sample of the timeline up to which the peer, or without one the most advanced viewer, has heard the audio.
        None without listeners.
        """
        viewers = [self.peer_viewer] if self.peer_viewer is not None else self._broadcast.viewers
        return max((viewer.heard(now) for viewer in viewers if viewer.audible), default=None)

    def add_outlet(self, outlet: Outlet) -> None:
        """Feeds video and audio to the outlet from now on, and closes it with the session."""
        self.outlets = [*self.outlets, outlet]  # a new list: the engine's thread may be iterating over the old one

    def remove_outlet(self, outlet: Outlet) -> None:
        """Stops feeding the outlet, without closing it. Idempotent."""
        self.outlets = [each for each in self.outlets if each is not outlet]

    async def close(self) -> None:
        await asyncio.gather(self._broadcast.close(), *(outlet.close() for outlet in self.outlets))
