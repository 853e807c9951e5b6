"""A session's frames, encoded once for each format, and handed to all who view the session in it."""

import asyncio
import contextlib

from streamer.base import clock
from streamer.base.frames import Encoded, Frame, Sound
from streamer.media.video_encoder import EncoderThread, Format, VideoEncoder
from streamer.session.viewer import Viewer

KEYFRAME_INTERVAL = 0.25
"""Seconds between key frames that are asked for, at the least."""

SHARED_KEYFRAME_INTERVAL = 1.0
"""The same for those that mend a picture which others have whole: a key frame weighs ten others, and a viewer that
loses much must not cost the rest their paths."""


class KeyframeRule:
    """When a key frame is made that was asked for: at once, but not sooner than some time after the last one."""

    def __init__(self) -> None:
        self._interval = float("inf")
        self._last = float("-inf")

    def ask(self, interval: float = KEYFRAME_INTERVAL) -> None:
        """For a key frame, at least `interval` seconds after the last. Of what was asked, the shortest counts."""
        self._interval = min(self._interval, interval)

    def due(self, now: float) -> bool:
        """Whether the frame that is coded `now` is to be one. Says so once for what was asked."""
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
        """A viewer's chain of frames is broken."""
        self.keyframes.ask(KEYFRAME_INTERVAL if len(self.viewers) == 1 else SHARED_KEYFRAME_INTERVAL)


class Broadcast:
    """Encodes and fans out. `submit` may be called from any thread, all else on the event loop.

    An encoder exists while its format has viewers. Its bitrate is what the fastest of them can take: a slow one loses
    frames (see `Viewer`) and slows nobody.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._channels: dict[Format, _Channel] = {}
        self._listeners: list[Viewer] = []  # without a picture
        self._gone = {"keyframes": 0, "overtaken": 0}  # of encoders that ended

    def join(self, viewer: Viewer) -> None:
        """From the next frame on, which is a key frame, the viewer is handed what its format's encoder makes."""
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
        """Idempotent. Ends an encoder that nobody needs any more."""
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
        """Ends all encoders; idempotent."""
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await self._end(channel)

    async def _end(self, channel: _Channel) -> None:
        await self._loop.run_in_executor(None, channel.encoder.close)
        self._gone["keyframes"] += channel.encoder.keyframes
        self._gone["overtaken"] += channel.encoder.dropped

    def submit(self, frame: Frame) -> None:
        """A drawn frame; its image must not change any more."""
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
        """No viewer is sent sound of an epoch before this one any more."""
        for viewer in self.viewers:
            viewer.flush_audio(epoch)

    def request_keyframe(self, viewer: Viewer) -> None:
        """A viewer's decoder lost its way. One that is thinned out gets its next key frame when its path allows."""
        if (channel := self._of(viewer)) is not None and not viewer.thinned:
            channel.mend()

    def adapt(self, viewer: Viewer) -> None:
        """A viewer's cap has changed."""
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
        """Key frames coded so far, in all formats."""
        return self._gone["keyframes"] + sum(c.encoder.keyframes for c in self._channels.values())

    @property
    def overtaken(self) -> int:
        """Frames that were not coded because a newer one was already waiting."""
        return self._gone["overtaken"] + sum(c.encoder.dropped for c in self._channels.values())


class ReceiverFeedback:
    """What a peer's receiver says of the video, on its way to the peer's viewer: a peer is there before its viewer."""

    def __init__(self, broadcast: Broadcast) -> None:
        self.viewer: Viewer | None = None
        self._broadcast = broadcast

    def keyframe(self) -> None:
        """It cannot decode any more until a key frame comes."""
        if self.viewer is not None:
            self._broadcast.request_keyframe(self.viewer)

    def bandwidth(self, bitrate: int) -> None:
        """Its estimate (bit/s) of what the path carries."""
        if self.viewer is not None:
            self.viewer.estimated(bitrate)
            self._broadcast.adapt(self.viewer)

    def loss(self, share: float) -> None:
        """The share of video packets lost since its last report."""
        if self.viewer is not None:
            self.viewer.lost(share)
            self._broadcast.adapt(self.viewer)
