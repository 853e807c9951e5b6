"""What ties a session's sample numbers to the recording that was spoken, and the recording to the page's clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks.lib.alignment import (
    PER_MS,
    RATE,
    Anchor,
    DeviceClock,
    Voice,
    anchors,
    blocks_missed,
    clock_offset,
    consistent,
    settle,
    spread_ms,
)
from benchmarks.lib.errors import Irregular, Unmeasurable
from benchmarks.lib.recording import Recording
from streamer.audio.opus import OpusDecoder
from streamer.base.constants import SAMPLE_RATE

LONGEST_PROCESSING_MS = 40.0  # what the browser's cleaning of a voice can take; beyond it a tie is wrong
SAME_PHASE_MS = 0.7  # how far apart the beginnings of blocks are found, with noise suppression
POSITIONS_PER_PTS = RATE // SAMPLE_RATE


@dataclass(frozen=True)
class Ties:
    """What ties a session's sample numbers (pts) to the voice, and the voice to the page's clock."""

    device: DeviceClock
    pts_offset: Any  # position of pts 0, modulo the voice, as a function of 3·pts
    processing_ms: float
    report: dict[str, Any]

    def position(self, pts: np.ndarray) -> np.ndarray:
        """Voice position of each pts, up to whole loops."""
        at = POSITIONS_PER_PTS * np.asarray(pts, float)
        return at + self.pts_offset(at)


def tie(
    recording: Recording,
    voice: Voice,
    audio_offset: int,
    keep: float = 1.0,
    every: float = 2.0,
    echo_cancellation: bool = True,
    processing_ms: float | None = None,
) -> Ties:
    """Finds the ties. `processing_ms`: from an earlier part of the same session, where its beginning is gone.

    Raises Unmeasurable where the microphone or what came back cannot be found in the recording, Irregular where the
    delay of the browser's processing cannot be told.
    """
    if not recording.packets:
        raise Unmeasurable("no sound came back from the server")
    if processing_ms is None and not echo_cancellation:
        processing_ms = 0.0
    tap = Tap.of(recording, voice, processing_ms)
    if processing_ms is None:
        processing_ms = tap.processing_ms(np.array(recording.delivered))
    device = DeviceClock(tap.times, tap.ends + tap.offset + tap.lost + processing_ms * PER_MS)
    returned = anchors(voice, decoded(recording.packets, audio_offset, keep, every), SAMPLE_RATE)
    offset, rtt = clock_offset(np.array(recording.pongs))
    report = {
        "clock_offset_ms": round(offset, 2),
        "clock_rtt_ms": round(rtt, 2),
        "microphone_rate": recording.microphone.rate,
        "microphone_prominence": round(median(anchor.prominence for anchor in tap.found), 1),
        "microphone_slipped_ms": round(device.slipped_ms, 1),
        "microphone_lost_ms": round(float(tap.lost[-1]) / PER_MS, 1) + 0.0,  # no "-0.0"
        "returned_prominence": round(median(anchor.prominence for anchor in returned), 1) if returned else None,
        "returned_spread_ms": round(spread_ms(returned, voice.period), 2) if returned else None,
        "anchors": len(returned),
        "processing_ms": round(processing_ms, 2) + 0.0,
    }
    return Ties(device, settle(returned, voice.period), processing_ms, report)


@dataclass(frozen=True)
class Tap:
    """The microphone as the tap on its track heard it, found in the recording. Positions at 48 kHz."""

    times: np.ndarray
    """[n] ms: the device's callback of each block."""
    ends: np.ndarray
    """[n]: samples delivered up to the end of each block, since the tap began."""
    offset: float
    """From `ends` to the place in the recording, for the first block, modulo the recording."""
    lost: np.ndarray
    """[n]: samples lost between device and page before each block, in whole blocks."""
    block: float
    """Samples of a block."""
    scale: float
    """Samples at 48 kHz for each of the device's."""
    found: list[Anchor]
    period: int

    @classmethod
    def of(cls, recording: Recording, voice: Voice, processing_ms: float | None = None) -> "Tap":
        """`processing_ms`: the delay of the browser's processing, where it is known.

        Sound is lost in whole blocks: all pieces that are found rightly begin at one phase of a block, which the delay
        determines. Pieces at another phase were found in a wrong place, and are left out. Raises Unmeasurable where the
        sound cannot be found in the recording, Irregular where no piece begins at the known phase.
        """
        stream = recording.microphone
        if len(stream.blocks) < 100:
            raise Unmeasurable(f"only {len(stream.blocks)} blocks of 10 ms came from the microphone")
        blocks, ends = np.array(stream.blocks), stream.ends()
        # The first blocks may carry another clock, from before their tap had moved to its worker.
        good = blocks[:, 1] - blocks[:, 0] > -1.0
        blocks, ends = blocks[good], ends[good]
        scale = RATE / stream.rate
        block = float(np.median(blocks[:, 2])) * scale
        found = anchors(voice, stream.chunks, stream.rate)
        if len(found) < 2:
            # A busy machine loses blocks: a whole second without a gap is rare there.
            found = anchors(voice, stream.chunks, stream.rate, seconds=0.5)
        consistent(found, voice.period)
        offsets = np.array([anchor.offset for anchor in found])
        phase = common_phase(offsets, block) if processing_ms is None else -processing_ms * PER_MS
        beside = (offsets - phase + block / 2) % block - block / 2
        kept = [anchor for anchor, apart in zip(found, beside, strict=True) if abs(apart) < SAME_PHASE_MS * PER_MS]
        if not kept:
            nearest = float(beside[np.argmin(np.abs(beside))]) / PER_MS
            raise Irregular(f"sound is {nearest:+.1f} ms beside the microphone's blocks, in all {len(found)} pieces")
        tapped = settle(kept, voice.period)(ends * scale)
        offset = phase + block * np.round((tapped[0] - phase) / block)
        lost = block * np.round((tapped - offset) / block)
        return cls(blocks[:, 0], ends * scale, float(offset), lost, block, scale, kept, voice.period)

    def processing_ms(self, delivered: np.ndarray) -> float:
        """How long the browser's processing holds each sample back.

        The content of the tap's blocks is compared with what the device had delivered by then, delivered [m, 2] (ms,
        samples). That needs every block since the microphone was opened: where the device or the track lost some as
        they began, which a busy machine makes them do, it is off by whole blocks, and Irregular is raised.
        """
        missed = blocks_missed(delivered, self.times, self.ends / self.scale) * self.block
        behind = (missed - self.offset + self.period / 2) % self.period - self.period / 2
        found = float(behind) / PER_MS
        if not -0.5 <= found < LONGEST_PROCESSING_MS:
            raise Irregular(
                f"the microphone began irregularly: its sound is {found:.1f} ms behind what it had delivered, "
                f"of which processing cannot be more than {LONGEST_PROCESSING_MS:g}"
            )
        return found


def common_phase(offsets: np.ndarray, block: float) -> float:
    """The place within a block where most of the offsets [n] are."""
    apart = (offsets[:, None] - offsets[None] + block / 2) % block - block / 2
    together = np.abs(apart) < SAME_PHASE_MS * PER_MS
    best = int(np.argmax(together.sum(1)))
    return float(offsets[best] - np.median(apart[best][together[best]]))


def decoded(
    packets: Sequence[tuple[int, float, bytes]], audio_offset: int, keep: float, every: float
) -> list[tuple[int, np.ndarray]]:
    """The returned packets as (pts, samples): the same packets that the server heard, decoded once more.

    All are decoded, for a decoder remembers; of each `every` seconds `keep` are returned.
    """
    decoder = OpusDecoder()
    out = []
    last = -1
    for stamp, payload in sorted(
        ((((stamp - audio_offset) & 0xFFFFFFFF), payload) for stamp, _, payload in packets), key=lambda entry: entry[0]
    ):
        pts = stamp // POSITIONS_PER_PTS
        if pts == last:
            continue
        last = pts
        samples = decoder.decode(payload)
        if samples is not None and (pts / SAMPLE_RATE) % every < keep:
            out.append((pts, samples))
    return out
