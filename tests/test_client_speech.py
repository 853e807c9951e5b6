"""What the Python client is given as speech: pieces of bytes, samples of all shapes, and recordings as they exist."""

import asyncio
import json
import wave
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from lipstream_client import BadSpeech, Bot
from lipstream_client.recording import RATE, read_file
from lipstream_client.samples import MAX_CHANNELS, Downmix, PcmDecoder, to_mono
from lipstream_client.speech import PacedSpeech
from peers import tone
from websockets.asyncio.server import ServerConnection, serve


def sine(seconds: float, rate: int, hertz: float = 300.0) -> np.ndarray:
    """[n] float32, RMS 0.35."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt((samples.astype(np.float64) ** 2).mean()))


class TestPcmDecoder:
    @pytest.mark.parametrize("cuts", [[1], [3, 4, 9], [0, 1, 1, 2, 7], list(range(1, 20))], ids=str)
    def test_pieces_of_any_length_are_the_whole(self, cuts: list[int]) -> None:
        """However bytes are cut, their samples are those of the whole."""
        samples = np.array([0, 1, -1, 256, -256, 32767, -32768, 4660, -4660, 99], "<i2")
        data = samples.tobytes()
        decode = PcmDecoder()
        pieces = [decode(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert np.array_equal(np.concatenate(pieces), samples.astype(np.float32) / 32768)
        assert decode.pending == b""

    def test_half_a_sample_waits(self) -> None:
        """The last byte of an odd number is kept for the next piece."""
        decode = PcmDecoder()
        assert len(decode(b"\x01\x02\x03")) == 1
        assert decode.pending == b"\x03"


class TestDownmix:
    def test_equal_channels_are_their_mean(self) -> None:
        """Stereo with the same voice on both sides is that voice."""
        voice = sine(0.5, RATE)
        assert np.allclose(to_mono(np.stack([voice, voice], 1)), voice)

    def test_opposite_phase_is_heard(self) -> None:
        """Channels that cancel each other in the mean are not silence."""
        voice = sine(0.5, RATE)
        assert rms(to_mono(np.stack([voice, -voice], 1))) == pytest.approx(rms(voice))

    def test_voice_on_one_of_many_channels_is_heard(self) -> None:
        """A voice on one of eight channels keeps its level."""
        sound = np.zeros((RATE, 8), np.float32)
        sound[:, 5] = sine(1.0, RATE)
        assert rms(to_mono(sound)) == pytest.approx(rms(sound[:, 5]))

    def test_choice_follows_the_recording(self) -> None:
        """Blocks that stop cancelling are mixed again, and a single quiet block changes nothing."""
        voice = sine(0.1, RATE)
        downmix = Downmix()
        cancelling, equal = np.stack([voice, -voice], 1), np.stack([voice, voice], 1)
        for _ in range(10):
            assert rms(downmix(cancelling)) == pytest.approx(rms(voice))
        assert rms(downmix(np.zeros((4800, 2), np.float32))) == 0
        assert rms(downmix(cancelling)) == pytest.approx(rms(voice))
        for _ in range(40):
            mixed = downmix(equal * np.float32([1.0, 0.5]))
        assert rms(mixed) == pytest.approx(0.75 * rms(voice), rel=1e-3)


class TestSamples:
    @pytest.mark.parametrize(
        ("samples", "says"),
        [
            (np.zeros((2, 48_000), np.float32), r"48000 channels, want 1 to 64; is it \[channels, n\]\?"),
            (np.zeros((480, 0), np.float32), "0 channels"),
            (np.zeros((480, MAX_CHANNELS + 1), np.int16), "65 channels"),
            (np.array([[0.0, np.inf], [0.0, -np.inf]]), "NaN or infinite values in 2 of 2 samples, first in 0"),
            (np.array([[np.inf, -np.inf]]), "in 1 of 1 samples"),
            (np.array([0.0, 1e300]), "in 1 of 2 samples, first in 1"),
            (np.array([1, 2], np.uint8), "uint8"),
        ],
        ids=["transposed", "none", "many", "inf", "opposite-inf", "overflow", "unsigned"],
    )
    def test_unusable_samples_are_one_sentence(self, samples: np.ndarray, says: str) -> None:
        """What cannot be speech is refused with its shape or with which samples are wrong, before any warning."""
        with pytest.raises(BadSpeech, match=says) as caught:
            to_mono(samples)
        assert "\n" not in str(caught.value)

    async def test_empty_array(self) -> None:
        """An array without samples is refused at the start, not sent as silence."""
        speech = PacedSpeech(np.zeros(0, np.float32))
        with pytest.raises(BadSpeech, match="0 samples"):
            await speech.start()
        await speech.close()

    async def test_iterator_of_bytes(self) -> None:
        """A synthesizer's PCM16, cut at odd bytes, loses nothing."""
        samples = (sine(0.1, RATE) * 32767).astype("<i2")

        async def pieces() -> AsyncIterator[bytes]:
            data = samples.tobytes()
            for first in range(0, len(data), 777):
                yield data[first : first + 777]

        speech = PacedSpeech(pieces())
        await speech.start()
        sent = np.concatenate([(await speech.packet())[1] for _ in range(5)])
        await speech.close()
        assert np.array_equal(sent, samples.astype(np.float32) / 32768)


def write_wav(path: Path, samples: np.ndarray, rate: int, tag: int = 3, bits: int = 32) -> Path:
    """A plain RIFF file without a channel mask; `tag` 3: floats, 1: integers."""
    channels = samples.shape[1] if samples.ndim == 2 else 1
    data = samples.tobytes()
    block = channels * bits // 8
    form = tag.to_bytes(2, "little") + channels.to_bytes(2, "little") + rate.to_bytes(4, "little")
    form += (rate * block).to_bytes(4, "little") + block.to_bytes(2, "little") + bits.to_bytes(2, "little")
    body = b"WAVEfmt " + len(form).to_bytes(4, "little") + form + b"data" + len(data).to_bytes(4, "little") + data
    path.write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
    return path


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(read_file(path)))


def write_opus(path: Path, starts: list[float], form: str) -> Path:
    """A file of 1-second tones whose timestamps begin at `starts`, seconds."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono")
        for start in starts:
            for k in range(50):
                frame = av.AudioFrame.from_ndarray(sine(0.02, RATE)[None], format="flt", layout="mono")
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = round(start * RATE) + 960 * k
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class TestRecordings:
    @pytest.mark.parametrize("channels", [1, 2, 3, 7, 11])
    @pytest.mark.parametrize("rate", [16_000, 48_000])
    def test_channels_without_a_layout(self, tmp_path: Path, channels: int, rate: int) -> None:
        """A WAV of floats with any number of channels and no channel mask is read."""
        sound = np.repeat(sine(1.0, rate)[:, None], channels, 1)
        heard = read(write_wav(tmp_path / "a.wav", sound, rate))
        assert len(heard) == pytest.approx(RATE, abs=100)
        assert rms(heard) == pytest.approx(rms(sound), rel=0.02)

    @pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.int16, 16), (np.int32, 32)])
    def test_integers(self, tmp_path: Path, dtype: Any, bits: int) -> None:
        """Integers of each width are scaled to ±1, unsigned bytes around their middle."""
        sound = sine(0.5, RATE)
        top = 2.0 ** (bits - 1)
        coded = (sound * (top - 1) + (128 if bits == 8 else 0)).astype(dtype)
        heard = read(write_wav(tmp_path / "a.wav", coded, RATE, tag=1, bits=bits))
        assert np.abs(heard - sound).max() < 0.01

    @pytest.mark.parametrize("name", ["a:b.wav", "http:x.wav", "C:\\x.wav", "%41 ü.wav", "-.wav"])
    def test_names_are_only_names(self, tmp_path: Path, name: str) -> None:
        """Colons and escapes in a file's name are letters, not protocols."""
        assert len(read(write_wav(tmp_path / name, sine(0.1, RATE), RATE))) == 4800

    @pytest.mark.parametrize("sign", [-1, 0], ids=["opposite-phase", "one-sided"])
    def test_stereo_is_never_silent(self, tmp_path: Path, sign: int) -> None:
        """Stereo whose mean is silent or weak is heard."""
        voice = sine(1.0, RATE)
        heard = read(write_wav(tmp_path / "a.wav", np.stack([voice, sign * voice], 1), RATE))
        assert rms(heard) > 0.45 * rms(voice)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_samples_that_are_no_numbers(self, tmp_path: Path, bad: float) -> None:
        """NaN and infinities in a file are one sentence that names it."""
        sound = sine(0.5, RATE)
        sound[7] = bad
        path = write_wav(tmp_path / "a.wav", sound, RATE)
        with pytest.raises(BadSpeech, match=r"a\.wav could not be read: .*first in 7"):
            read(path)

    @pytest.mark.parametrize("form", ["webm", "matroska"])
    def test_gap_is_silence(self, tmp_path: Path, form: str) -> None:
        """Two seconds without packets between two of tone are two seconds of silence."""
        heard = read(write_opus(tmp_path / "gap", [0.0, 3.0], form))
        assert len(heard) / RATE == pytest.approx(4.0, abs=0.05)
        assert rms(heard[round(1.2 * RATE) : round(2.8 * RATE)]) < 1e-3
        assert rms(heard[round(3.2 * RATE) : round(3.8 * RATE)]) > 0.2

    def test_leap_of_timestamps(self, tmp_path: Path) -> None:
        """A gap of hours is refused with its length instead of hours of silence."""
        path = write_opus(tmp_path / "leap", [0.0, 7200.0], "matroska")
        with pytest.raises(BadSpeech, match="leap by 7199 s"):
            read(path)

    def test_rate_and_channels_change_inside(self, tmp_path: Path) -> None:
        """Two MP3 files joined, mono at 44.1 kHz and stereo at 48 kHz, are both heard."""
        path = tmp_path / "joined.mp3"
        parts = []
        for rate, layout in ((44_100, "mono"), (48_000, "stereo")):
            part = tmp_path / f"{rate}.mp3"
            with av.open(str(part), "w", format="mp3", options={"write_xing": "0", "id3v2_version": "0"}) as container:
                stream = container.add_stream("libmp3lame", rate=rate, layout=layout)
                sound = np.repeat(sine(1.0, rate)[None], 1 if layout == "mono" else 2, 0)
                frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout=layout)
                frame.sample_rate = rate
                container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
            parts.append(part.read_bytes())
        path.write_bytes(b"".join(parts))
        heard = read(path)
        assert len(heard) / RATE == pytest.approx(2.0, abs=0.15)
        assert rms(heard[: RATE // 2]) > 0.3 and rms(heard[-RATE // 2 :]) > 0.2

    def test_damaged_packets_are_skipped(self, tmp_path: Path) -> None:
        """Garbage in the middle of a file costs its own length, as silence, and not the rest."""
        path = tmp_path / "a.mp4"
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(sine(3.0, RATE)[None], format="fltp", layout="mono")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        data = bytearray(path.read_bytes())
        middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
        data[middle : middle + 4000] = b"\xff" * 4000
        path.write_bytes(data)
        heard = read(path)
        assert len(heard) / RATE == pytest.approx(3.0, abs=0.1)
        assert rms(heard[RATE // 10 : RATE // 2]) > 0.3 and rms(heard[-RATE // 2 : -RATE // 10]) > 0.3

    @pytest.mark.parametrize("what", ["empty", "text", "picture"])
    def test_files_without_audio(self, tmp_path: Path, what: str) -> None:
        """What contains no audio is one sentence that names the file."""
        path = tmp_path / "a.wav"
        if what == "picture":
            path.write_bytes((Path(__file__).parent.parent / "docs" / "page.png").read_bytes())
        else:
            path.write_bytes(b"" if what == "empty" else b"no audio here\n" * 50)
        with pytest.raises(BadSpeech, match=r"a\.wav could not be read") as caught:
            read(path)
        assert "\n" not in str(caught.value)

    def test_header_without_samples(self, tmp_path: Path) -> None:
        """A WAV of 0 samples is refused with that number."""
        path = tmp_path / "a.wav"
        with wave.open(str(path), "wb") as out:
            out.setparams((1, 2, RATE, 0, "NONE", ""))
        with pytest.raises(BadSpeech, match="0 samples"):
            read(path)


class SpeechSocket:
    """A stand-in for the server's end of a speech socket, which keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[str | bytes] = []
        self.to_say: list[str | bytes] = []
        self.ended = asyncio.Event()

    async def __call__(self, socket: ServerConnection) -> None:
        hello = {"type": "hello", "session": "s", "version": "0", "epoch": 0, "capacity_ms": 1, "max_bytes": 1}
        await socket.send(json.dumps({**hello, "user": True}))
        for data in self.to_say:
            await socket.send(data)
        async for message in socket:
            self.received.append(message)
            if isinstance(message, str) and json.loads(message)["type"] == "end":
                self.ended.set()

    @property
    def segments(self) -> list[bytes]:
        """The bytes between one `end` and the next."""
        parts = [b""]
        for message in self.received:
            if isinstance(message, bytes):
                parts[-1] += message
            elif json.loads(message)["type"] == "end":
                parts.append(b"")
        return parts[:-1]


@pytest.fixture
def socket() -> Iterator[SpeechSocket]:
    yield SpeechSocket()


async def run_bot(socket: SpeechSocket, act: Any) -> Bot:
    async with serve(socket, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Bot(f"ws://127.0.0.1:{port}", {}, "pcm16", RATE, True, False, 5.0) as bot:
            async with asyncio.timeout(10):
                await act(bot)
    return bot


@pytest.mark.usefixtures("leaves_nothing")
class TestBotBytes:
    @pytest.mark.parametrize("size", [1, 3, 777, 32 * 1024 + 1])
    async def test_odd_pieces(self, socket: SpeechSocket, size: int) -> None:
        """PCM16 cut at odd bytes arrives whole, in messages of whole samples."""
        data = (tone(0.05 if size < 9 else 1.0) * 32767).astype("<i2").tobytes()

        async def act(bot: Bot) -> None:
            for first in range(0, len(data), size):
                await bot.say(data[first : first + size], end=False)
            await bot.end()
            await socket.ended.wait()

        bot = await run_bot(socket, act)
        assert socket.segments == [data]
        assert all(len(message) % 2 == 0 for message in socket.received if isinstance(message, bytes))
        assert bot.discarded_bytes == 0

    async def test_half_a_sample_at_the_end(self, socket: SpeechSocket) -> None:
        """Half a sample at a segment's end is dropped and counted, and does not shift the next segment."""

        async def act(bot: Bot) -> None:
            await bot.say(b"\x01\x02\x03")
            await bot.say(b"\x04\x05", end=False)
            await bot.say(bytearray(b"\x06"), end=False)
            await bot.say(np.array([0.5, -0.5], np.float32))
            await asyncio.wait_for(_until(lambda: len(socket.segments) == 2, socket), 5)

        bot = await run_bot(socket, act)
        assert socket.segments == [b"\x01\x02", b"\x04\x05" + np.array([16383, -16383], "<i2").tobytes()]
        assert bot.discarded_bytes == 2

    async def test_users_voice_in_odd_pieces(self, socket: SpeechSocket) -> None:
        """The user's voice cut at odd bytes is the same samples, and the bot goes on reading."""
        samples = np.array([1, 2, 3, -4, 5], "<i2")
        data = samples.tobytes()
        socket.to_say = [data[:3], data[3:4], data[4:]]
        heard: list[np.ndarray] = []

        async def act(bot: Bot) -> None:
            async for block in bot.user():
                heard.append(block)
                if sum(map(len, heard)) == len(samples):
                    return

        await run_bot(socket, act)
        assert np.array_equal(np.concatenate(heard), samples.astype(np.float32) / 32768)


async def _until(done: Any, socket: SpeechSocket) -> None:
    """Waits for one `end` after another until `done`."""
    while not done():
        socket.ended.clear()
        await socket.ended.wait()
