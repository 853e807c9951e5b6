"""A character as the video generator of LiveKit Agents' `AvatarRunner`. Needs `pip install 'lipstream[livekit]'`.

    runtime = await asyncio.to_thread(Runtime.load)
    generator = CharacterGenerator(await runtime.avatar("24", sample_rate=24_000))
    speech = QueueAudioOutput(sample_rate=24_000)  # or DataStreamAudioReceiver(room), where the agent runs elsewhere
    runner = AvatarRunner(room, audio_recv=speech, video_gen=generator, options=generator.options)
    await runner.start()
    session.output.audio = speech

The runner closes neither: `await generator.aclose()` after it, and `await runtime.aclose()` at the process's end.
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
"""Seconds of audio that wait at the runner's source: where it runs dry, WebRTC puts silence between."""


class CharacterGenerator(VideoGenerator):
    """Yields a video frame every 40 ms, with the audio of that time where something is said."""

    def __init__(self, avatar: LocalAvatar) -> None:
        self.avatar = avatar
        avatar.lead = LEAD
        self._saying: asyncio.Future[None] | None = None
        self._runner_is_free = asyncio.Event()
        self._runner_is_free.set()

    @property
    def options(self) -> AvatarOptions:
        """What the runner is to be given."""
        return AvatarOptions(
            video_width=self.avatar.size,
            video_height=self.avatar.size,
            video_fps=FPS,
            audio_sample_rate=self.avatar.sample_rate,
            audio_channels=1,
        )

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Speech at any rate from 8 to 48 kHz; waits while 10 s are waiting to be said.

        A segment's end returns when the segment has been said, or cleared: the runner takes note of a segment's
        beginning where it reads it, and would forget about one that it read before the last one's end.
        """
        if isinstance(frame, AudioSegmentEnd):
            if self.avatar.end_segment() is not None:
                self._saying = asyncio.get_running_loop().create_future()
                await self._saying
            return
        await self.avatar.push(frame.data, frame.sample_rate, frame.num_channels)

    async def clear_buffer(self) -> None:
        """Silence from here on. Returns once the runner knows how much it has played."""
        self.avatar.clear()
        self._said()
        await self._runner_is_free.wait()

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        return self._frames()

    async def aclose(self) -> None:
        self._said()
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
                self._said()

    def _said(self) -> None:
        if self._saying is not None and not self._saying.done():
            self._saying.set_result(None)
