"""Where a session's picture and sound go: its viewers, encoded once a format, and outlets such as a recording."""

import asyncio

import numpy as np

from streamer.base.frames import Frame, Sound
from streamer.media.frame_stamp import stamp
from streamer.provenance.marker import Marker
from streamer.session.fanout import Broadcast
from streamer.session.ports import Outlet
from streamer.session.viewer import Viewer


class MediaOutput:
    """Marks frames and hands them on. `frame` is called on the engine's thread, all else on the event loop."""

    def __init__(self, broadcast: Broadcast, marker: Marker, stamped: bool) -> None:
        self.epoch = 0
        """What belongs to an epoch before this one is dropped."""
        self.cover: np.ndarray | None = None
        """[S, S, 4] uint8 that is shown instead of the character."""
        self.peer_viewer: Viewer | None = None
        """The viewer of the session's own peer, where it takes video."""
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
        """No viewer is sent sound of an epoch before this one any more, nor what waits."""
        self._broadcast.flush_audio(self.epoch)

    def heard_until(self, now: float) -> int | None:
        """
        The sample of the line up to which it was heard: by the peer, or, without one, by whoever heard most. None where
        nobody listens.
        """
        viewers = [self.peer_viewer] if self.peer_viewer is not None else self._broadcast.viewers
        return max((viewer.heard(now) for viewer in viewers if viewer.audible), default=None)

    def add_outlet(self, outlet: Outlet) -> None:
        """Gives it all that is drawn and heard from now on; it is closed with the session."""
        self.outlets = [*self.outlets, outlet]  # another list: the engine's thread may be walking through the old one

    def remove_outlet(self, outlet: Outlet) -> None:
        """Gives it nothing any more, and leaves it open. Idempotent."""
        self.outlets = [each for each in self.outlets if each is not outlet]

    async def close(self) -> None:
        await asyncio.gather(self._broadcast.close(), *(outlet.close() for outlet in self.outlets))
