"""A video generator for LiveKit Agents' `AvatarRunner`. Needs `pip install 'lipstream[livekit]'`.

    runtime = await asyncio.to_thread(Runtime.load)
    generator = CharacterGenerator(await runtime.avatar("24", sample_rate=24_000))
    speech = QueueAudioOutput(sample_rate=24_000)  # or DataStreamAudioReceiver(room) if the agent runs elsewhere
    runner = AvatarRunner(room, audio_recv=speech, video_gen=generator, options=generator.options)
    await runner.start()
    session.output.audio = speech

The runner closes neither of them: call `await generator.aclose()` after closing the runner, and
`await runtime.aclose()` before the process exits.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from streamer.base.constants import FPS
from streamer.embed.local_avatar import LocalAvatar

__all__ = ["LEAD", "CharacterGenerator"]

try:
    from livekit import rtc
    from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarOptions, VideoGenerator
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'lipstream[livekit]'", name=error.name) from error

LEAD = 0.040
"""Seconds of audio buffered in the runner's source: WebRTC inserts silence when it runs dry."""


class CharacterGenerator(VideoGenerator):
    """Yields a video frame every 40 ms, with 40 ms of audio during speech."""

    def __init__(self, avatar: LocalAvatar) -> None:
        self.avatar = avatar
        avatar.lead = LEAD
        self._segment_played: asyncio.Future[None] | None = None
        self._runner_is_free = asyncio.Event()
        self._runner_is_free.set()

    @property
    def options(self) -> AvatarOptions:
        """The options to pass to the runner."""
        return AvatarOptions(
            video_width=self.avatar.size,
            video_height=self.avatar.size,
            video_fps=FPS,
            audio_sample_rate=self.avatar.sample_rate,
            audio_channels=1,
        )

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Queues speech at any rate from 8 to 48 kHz. Waits while 10 s are already queued.

        For a segment's end, it returns once the segment has been played or cleared. The runner tracks one segment at a
        time, and would lose one whose start it read before the previous segment's end.
        """
        if isinstance(frame, AudioSegmentEnd):
            if self.avatar.end_segment() is not None:
                self._segment_played = asyncio.get_running_loop().create_future()
                await self._segment_played
            return
        await self.avatar.push(frame.data, frame.sample_rate, frame.num_channels)

    async def clear_buffer(self) -> None:
        """Drops all queued speech. Returns once the runner has counted the audio that it has already received."""
        self.avatar.clear()
        self._finish_segment()
        await self._runner_is_free.wait()

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        return self._frames()

    async def aclose(self) -> None:
        self._finish_segment()
        await self.avatar.aclose()

    async def _frames(self) -> AsyncGenerator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd, None]:
        size, rate = self.avatar.size, self.avatar.sample_rate
        async for moment in self.avatar:
            epoch = self.avatar.epoch
            yield rtc.VideoFrame(size, size, rtc.VideoBufferType.RGBA, moment.image.tobytes())
            if len(moment.sound) and epoch == self.avatar.epoch:
                self._runner_is_free.clear()
                try:
                    yield rtc.AudioFrame(moment.sound.tobytes(), rate, 1, len(moment.sound))
                finally:
                    self._runner_is_free.set()
            if moment.ended and epoch == self.avatar.epoch:
                yield AudioSegmentEnd()
                self._finish_segment()

    def _finish_segment(self) -> None:
        if self._segment_played is not None and not self._segment_played.done():
            self._segment_played.set_result(None)
