"""A Pipecat video service, placed between the TTS service and the transport's output.
Needs `pip install 'lipstream[pipecat]'`.

    runtime = await asyncio.to_thread(Runtime.load)
    pipeline = Pipeline([..., tts, CharacterVideoService(runtime=runtime, character="24"), transport.output(), ...])

The transport needs the parameters `video_out_enabled=True, video_out_is_live=True, video_out_width=256,
video_out_height=256, video_out_framerate=25`. One runtime serves all pipelines: call
`await runtime.aclose()` before the process exits.
"""

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

from streamer.embed.local_avatar import LocalAvatar, Moment, Runtime

__all__ = ["ATTENTION", "LEAD", "CharacterVideoService"]

try:
    from pipecat.frames import frames
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
    from pipecat.services.ai_service import AIService
    from pipecat.services.settings import ServiceSettings
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'lipstream[pipecat]'", name=error.name) from error

LEAD = 0.040  # seconds of audio buffered in the transport, so that it does not run dry

ATTENTION = {
    frames.UserStartedSpeakingFrame: "listening",
    frames.UserStoppedSpeakingFrame: "thinking",
    frames.TTSStartedFrame: "idle",
}


class CharacterVideoService(AIService):
    """Accepts `TTSAudioRawFrame`s at any speed, and forwards them in real time with the matching video frames.

    A `TTSStoppedFrame` is forwarded after the last audio before it. Video starts when the transport is ready, and runs
    at 25 fps during speech and silence.
    """

    def __init__(self, *, runtime: Runtime, character: str | Path = "", size: int | None = None, **kwargs: Any) -> None:
        super().__init__(settings=ServiceSettings(model=None), **kwargs)
        self._runtime = runtime
        self._character, self._size = character, size
        self._forwarding: asyncio.Task | None = None
        self._contexts: dict[int, str | None] = {}  # by segment, until it has been forwarded
        self._stops: deque[tuple[int, frames.TTSStoppedFrame]] = deque()  # each is forwarded after its segment
        self._silent = asyncio.Event()
        self._silent.set()
        self.avatar: LocalAvatar | None = None  # None outside the pipeline's lifetime

    def can_generate_metrics(self) -> bool:
        return True

    async def setup(self, setup: FrameProcessorSetup) -> None:
        await super().setup(setup)
        self._rate = setup.audio_out_sample_rate

    async def start(self, frame: frames.StartFrame) -> None:
        await super().start(frame)
        try:
            self.avatar = await self._runtime.avatar(self._character, size=self._size, sample_rate=self._rate)
            self.avatar.lead = LEAD
        except Exception as error:
            await self.push_error(f"the character could not be opened: {error}", exception=error)

    async def stop(self, frame: frames.EndFrame) -> None:
        """Stops after all queued speech has been forwarded."""
        await super().stop(frame)
        if self.avatar is not None and self._forwarding is not None:
            self.avatar.end_segment()
            await self._silent.wait()
        await self._close()

    async def cancel(self, frame: frames.CancelFrame) -> None:
        await super().cancel(frame)
        await self._close()

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._close()

    async def _close(self) -> None:
        (avatar, self.avatar), (forwarding, self._forwarding) = (self.avatar, None), (self._forwarding, None)
        if forwarding is not None:
            await self.cancel_task(forwarding)
        if avatar is not None:
            await avatar.aclose()

    async def process_frame(self, frame: frames.Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if (avatar := self.avatar) is None:
            return await self.push_frame(frame, direction)
        if (state := ATTENTION.get(type(frame))) is not None:
            avatar.set_attention(state)
        match frame:
            case frames.TTSAudioRawFrame():
                segment = await avatar.push(frame.audio, frame.sample_rate, frame.num_channels)
                if segment is not None:
                    self._contexts[segment] = frame.context_id
                    self._silent.clear()
                return
            case frames.TTSStoppedFrame() if (segment := self._end_segment(avatar)) is not None:
                return self._stops.append((segment, frame))
            case frames.TTSStartedFrame():
                await self.start_ttfb_metrics()
            case frames.InterruptionFrame():
                avatar.clear()
                self._contexts.clear()
                self._stops.clear()
                self._silent.set()
            case frames.OutputTransportReadyFrame() if self._forwarding is None:
                self._forwarding = self.create_task(self._forward(avatar))
        await self.push_frame(frame, direction)

    def _end_segment(self, avatar: LocalAvatar) -> int | None:
        """The segment after which the current frame must be forwarded; None if nothing is being said."""
        segment = avatar.end_segment()
        return segment if segment is not None else max(self._contexts, default=None)

    async def _forward(self, avatar: LocalAvatar) -> None:
        try:
            async for moment in avatar:
                epoch = avatar.epoch
                rgb, size = moment.image[..., :3].tobytes(), (avatar.size, avatar.size)
                await self.push_frame(frames.OutputImageRawFrame(rgb, size, "RGB"))
                if moment.segment is not None and epoch == avatar.epoch:
                    await self._forward_speech(moment, avatar)
        except RuntimeError as error:
            self.avatar = None  # the bot continues without video
            self._silent.set()
            await avatar.aclose()
            await self.push_error(str(error), exception=error, force_treat_as_permanent=True)

    async def _forward_speech(self, moment: Moment, avatar: LocalAvatar) -> None:
        assert moment.segment is not None
        if len(moment.sound):
            await self.stop_ttfb_metrics()
            sound, context = moment.sound.tobytes(), self._contexts.get(moment.segment)
            await self.push_frame(frames.TTSAudioRawFrame(sound, avatar.sample_rate, 1, context_id=context))
        if moment.ended:
            self._contexts.pop(moment.segment, None)
            while self._stops and self._stops[0][0] <= moment.segment:
                await self.push_frame(self._stops.popleft()[1])
            if not self._contexts:
                self._silent.set()
