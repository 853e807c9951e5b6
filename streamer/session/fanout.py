"""Encodes a session's frames once per format and fans them out to the viewers of that format."""

import asyncio
import contextlib

from streamer.base import clock
from streamer.base.frames import Encoded, Frame, Sound
from streamer.media.video_encoder import EncoderThread, Format, VideoEncoder
from streamer.session.viewer import Viewer

KEYFRAME_INTERVAL = 0.25
"""Minimum seconds between requested keyframes."""

SHARED_KEYFRAME_INTERVAL = 1.0
"""The same for repairing one of several viewers: a keyframe is as large as ten other frames, and a viewer with heavy
loss must not use up the bandwidth of the others."""


class KeyframeRule:
    """Rate limit for requested keyframes: at once, but not until some time after the previous one."""

    def __init__(self) -> None:
        self._interval = float("inf")
        self._last = float("-inf")

    def ask(self, interval: float = KEYFRAME_INTERVAL) -> None:
        """Requests a keyframe, at least `interval` seconds after the last. The shortest pending interval counts."""
        self._interval = min(self._interval, interval)

    def due(self, now: float) -> bool:
        """Whether the frame encoded `now` must be a keyframe. Returns True once per request."""
        if self._interval == float("inf") or now - self._last < self._interval:
            return False
        self._interval = float("inf")
        self._last = now
        return True


class _Channel:
    """One format's encoder and its viewers."""

    def __init__(self, encoder: EncoderThread) -> None:
        self.encoder = encoder
        self.viewers: list[Viewer] = []
        self.keyframes = KeyframeRule()

    def mend(self) -> None:
        """Requests a keyframe because a viewer's reference chain is broken."""
        self.keyframes.ask(KEYFRAME_INTERVAL if len(self.viewers) == 1 else SHARED_KEYFRAME_INTERVAL)


class Broadcast:
    """Encodes and fans out. `submit` may be called from any thread, everything else on the event loop.

    An encoder exists while its format has viewers. Its bitrate follows the fastest of them: a slow viewer loses frames
    (see `Viewer`) and does not slow down the others.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._channels: dict[Format, _Channel] = {}
        self._listeners: list[Viewer] = []  # audio only
        self._gone = {"keyframes": 0, "overtaken": 0}  # counts of closed encoders

    def join(self, viewer: Viewer) -> None:
        """Sends the viewer the output of its format's encoder, starting with a keyframe."""
        if viewer.format is None:
            self._listeners.append(viewer)
            return
        channel = self._channels.get(viewer.format)
        if channel is None:
            encoder = EncoderThread(
                VideoEncoder(viewer.format.codec, self._size, viewer.format.packed),
                lambda coded, wanted=viewer.format: self._coded(wanted, coded),  # type: ignore[misc]
                f"{self._name}-{viewer.format}",
            )
            channel = self._channels[viewer.format] = _Channel(encoder)
            encoder.start()
        channel.viewers.append(viewer)
        channel.keyframes.ask()
        self._set_bitrate(channel)

    async def leave(self, viewer: Viewer) -> None:
        """Removes a viewer, and closes its encoder if that has no other viewers. Idempotent."""
        self._listeners = [each for each in self._listeners if each is not viewer]
        channel = self._of(viewer)
        if channel is None or viewer not in channel.viewers:
            return
        channel.viewers.remove(viewer)
        if channel.viewers:
            self._set_bitrate(channel)
        else:
            assert viewer.format is not None
            del self._channels[viewer.format]
            await self._end(channel)

    async def close(self) -> None:
        """Closes all encoders; idempotent."""
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await self._end(channel)

    async def _end(self, channel: _Channel) -> None:
        await self._loop.run_in_executor(None, channel.encoder.close)
        self._gone["keyframes"] += channel.encoder.keyframes
        self._gone["overtaken"] += channel.encoder.dropped

    def submit(self, frame: Frame) -> None:
        """Encodes a drawn frame; its image must not change afterwards."""
        now = clock.now()
        for channel in list(self._channels.values()):
            if channel.keyframes.due(now):
                channel.encoder.request_keyframe()
            channel.encoder.submit(frame)

    def _coded(self, wanted: Format, coded: Encoded) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone at shutdown
            self._loop.call_soon_threadsafe(self._hand_out, wanted, coded)

    def _hand_out(self, wanted: Format, coded: Encoded) -> None:
        channel = self._channels.get(wanted)
        if channel is None:
            return
        for viewer in channel.viewers:
            viewer.frame(coded)
            if viewer.wants_keyframe:
                channel.mend()

    def sound(self, sound: Sound, now: float) -> None:
        for viewer in self.viewers:
            viewer.sound(sound, now)

    def flush_audio(self, epoch: int) -> None:
        """Drops queued audio, and all further audio of epochs before this one."""
        for viewer in self.viewers:
            viewer.flush_audio(epoch)

    def request_keyframe(self, viewer: Viewer) -> None:
        """A viewer's decoder needs a keyframe. A thinned viewer gets its next one when its path allows."""
        if (channel := self._of(viewer)) is not None and not viewer.thinned:
            channel.mend()

    def adapt(self, viewer: Viewer) -> None:
        """Adapts the bitrate after a viewer's cap has changed."""
        if (channel := self._of(viewer)) is not None and viewer in channel.viewers:
            self._set_bitrate(channel)

    def _of(self, viewer: Viewer) -> _Channel | None:
        return self._channels.get(viewer.format) if viewer.format is not None else None

    def _set_bitrate(self, channel: _Channel) -> None:
        channel.encoder.request_bitrate(max(viewer.cap for viewer in channel.viewers))

    @property
    def viewers(self) -> list[Viewer]:
        return [viewer for channel in self._channels.values() for viewer in channel.viewers] + self._listeners

    @property
    def keyframes(self) -> int:
        """Keyframes encoded so far, in all formats."""
        return self._gone["keyframes"] + sum(c.encoder.keyframes for c in self._channels.values())

    @property
    def overtaken(self) -> int:
        """Frames not encoded because a newer one was already waiting."""
        return self._gone["overtaken"] + sum(c.encoder.dropped for c in self._channels.values())


class ReceiverFeedback:
    """Forwards a receiver's video feedback to its viewer, which is created after the peer."""

    def __init__(self, broadcast: Broadcast) -> None:
        self.viewer: Viewer | None = None
        self._broadcast = broadcast

    def keyframe(self) -> None:
        """The receiver cannot continue decoding without a keyframe."""
        if self.viewer is not None:
            self._broadcast.request_keyframe(self.viewer)

    def bandwidth(self, bitrate: int) -> None:
        """The receiver's bandwidth estimate (bit/s)."""
        if self.viewer is not None:
            self.viewer.estimated(bitrate)
            self._broadcast.adapt(self.viewer)

    def loss(self, share: float) -> None:
        """The share of video packets lost since the last report."""
        if self.viewer is not None:
            self.viewer.lost(share)
            self._broadcast.adapt(self.viewer)
