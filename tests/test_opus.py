"""Opus in and out: durations, concealment, forward error correction, malformed packets, the fallback decoder."""

import logging
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamer.audio.opus as opus_module
from streamer.audio.opus import FADE_END, FRAME, OpusDecoder, OpusEncoder, OpusError, libopus, packet_duration
from streamer.base.constants import SAMPLE_RATE

SAMPLE = Path(__file__).parent.parent / "clients" / "page" / "sample.wav"
FRAME_20 = 320


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """[n] four seconds of real speech at 16 kHz."""
    with wave.open(str(SAMPLE)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    return sound[SAMPLE_RATE : 5 * SAMPLE_RATE]


def encode(sound: np.ndarray, *, rate: int = SAMPLE_RATE, milliseconds: int = 20, **options: int) -> list[bytes]:
    encoder = OpusEncoder(rate, **options)
    length = rate * milliseconds // 1000
    return [encoder.encode(part) for part in sound[: len(sound) // length * length].reshape(-1, length)]


@pytest.fixture(scope="module")
def packets(speech: np.ndarray) -> list[bytes]:
    return encode(speech)


def decode(packets: list[bytes]) -> np.ndarray:
    decoder = OpusDecoder()
    parts = [decoder.decode(packet) for packet in packets]
    assert all(part is not None for part in parts)
    return np.concatenate([part for part in parts if part is not None])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.fixture
def without_libopus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opus_module, "libopus", lambda: None)


def test_the_bundled_library_is_found() -> None:
    """PyAV's wheel brings libopus, and it is the one that is used."""
    assert any("av.libs" in path or ".dylibs" in path for path in opus_module._library_paths())
    assert libopus() is not None


def test_speech_survives_the_codec(speech: np.ndarray, packets: list[bytes]) -> None:
    """Decoded speech is the original, later by the encoder's look-ahead of 6.5 ms and no more."""
    heard = decode(packets)
    assert heard.dtype == np.float32 and len(heard) == len(speech)
    delays = range(60, 160)
    alike = [correlation(heard[200:], speech[200 - delay : len(speech) - delay]) for delay in delays]
    assert max(alike) > 0.9
    assert abs(delays[int(np.argmax(alike))] - 104) <= 8


@pytest.mark.parametrize("milliseconds", [10, 20, 40, 60])
def test_packets_of_several_frames(speech: np.ndarray, milliseconds: int) -> None:
    """A packet decodes to as many samples as its header promises, whatever its duration."""
    for packet in encode(speech[:SAMPLE_RATE], milliseconds=milliseconds):
        assert packet_duration(packet) == 48 * milliseconds
        samples = OpusDecoder().decode(packet)
        assert samples is not None and len(samples) == 16 * milliseconds


def test_120_ms_in_one_packet(packets: list[bytes]) -> None:
    """Six frames of 20 ms with one header (code 3, variable sizes) decode as the six packets do."""
    six = packets[40:46]
    assert all(packet[0] == six[0][0] for packet in six)
    sizes = b"".join(_size(len(packet) - 1) for packet in six[:-1])
    joined = bytes([six[0][0] | 3, 0x80 | 6]) + sizes + b"".join(packet[1:] for packet in six)
    assert packet_duration(joined) == 5760
    samples = OpusDecoder().decode(joined)
    assert samples is not None
    np.testing.assert_array_equal(samples, decode(six))


def _size(length: int) -> bytes:
    """A frame's length as RFC 6716, section 3.2.1, writes it."""
    return bytes([length]) if length < 252 else bytes([252 + length % 4, (length - 252 - length % 4) // 4])


def test_stereo_packets_become_mono(speech: np.ndarray) -> None:
    """A stereo stream decodes to one channel that is the speech of both."""
    encoder = OpusEncoder(channels=2, rate=SAMPLE_RATE, bitrate=64_000)
    both = np.repeat(speech[:, None], 2, axis=1).reshape(-1, FRAME_20 * 2)
    stereo = [encoder.encode(part) for part in both]
    assert any(packet[0] & 4 for packet in stereo)
    heard = decode(stereo)
    assert len(heard) == len(speech)
    assert correlation(heard[304:], speech[200:-104]) > 0.9


@settings(max_examples=300, deadline=None)
@given(payload=st.binary(min_size=0, max_size=80))
def test_durations_are_what_libopus_says(payload: bytes) -> None:
    """The duration read from a header is libopus' own, also for malformed packets, where both give none."""
    library = libopus()
    assert library is not None
    expected = library.opus_packet_get_nb_samples(payload, len(payload), 48_000) if payload else -1
    assert packet_duration(payload) == (expected if expected > 0 else None)


@settings(max_examples=300, deadline=None)
@given(payloads=st.lists(st.binary(min_size=1, max_size=60), max_size=6))
def test_garbage_never_raises(payloads: list[bytes]) -> None:
    """Any bytes decode to finite samples of the promised number or are counted as malformed."""
    decoder = OpusDecoder()
    for payload in payloads:
        samples = decoder.decode(payload)
        if samples is None:
            continue
        assert len(samples) == (packet_duration(payload, SAMPLE_RATE) or -1)
        assert np.all(np.isfinite(samples)) and np.abs(samples).max() <= 1
    assert decoder.malformed <= len(payloads)


def test_a_cut_packet_is_counted_and_the_next_is_fine(packets: list[bytes]) -> None:
    """A packet whose inner lengths do not fit is malformed; the stream goes on."""
    decoder = OpusDecoder()
    assert decoder.decode(packets[10]) is not None
    assert decoder.decode(bytes([packets[10][0] | 3])) is None
    assert decoder.malformed == 1
    assert decoder.decode(packets[11]) is not None


def lose(packets: list[bytes], lost: set[int], fec: bool) -> tuple[np.ndarray, int]:
    """[n] what is heard, and the number of packets that FEC brought back."""
    decoder = OpusDecoder()
    parts, recovered = [], 0
    for k, packet in enumerate(packets):
        if k in lost:
            following = packets[k + 1] if fec and k + 1 not in lost else None
            part, back = decoder.conceal(FRAME_20, following)
            recovered += back
        else:
            decoded = decoder.decode(packet)
            assert decoded is not None
            part = decoded
        parts.append(part)
    return np.concatenate(parts), recovered


def test_fec_brings_lost_speech_back(packets: list[bytes]) -> None:
    """Every tenth packet lost: what FEC gives is like the original, clearly more than extrapolation or silence."""
    clean = decode(packets)
    lost = {k for k in range(5, len(packets) - 1, 10)}
    with_fec, recovered = lose(packets, lost, fec=True)
    without, none = lose(packets, lost, fec=False)
    assert recovered >= 0.6 * len(lost) and none == 0
    where = np.concatenate([np.arange(k * FRAME_20, (k + 1) * FRAME_20) for k in sorted(lost)])
    power = float(np.mean(clean[where] ** 2))
    error_fec = float(np.mean((with_fec[where] - clean[where]) ** 2)) / power  # silence would give 1
    error_plc = float(np.mean((without[where] - clean[where]) ** 2)) / power
    assert correlation(with_fec[where], clean[where]) > 0.85
    assert error_fec < 0.3 and error_fec < 0.5 * error_plc


def test_concealment_does_not_click(packets: list[bytes]) -> None:
    """Into, within and out of a concealed packet no sample step is larger than speech itself makes."""
    clean = decode(packets)
    largest = float(np.abs(np.diff(clean)).max())
    for first in range(10, 180, 7):
        heard, _ = lose(packets, {first}, fec=False)
        around = heard[(first - 1) * FRAME_20 : (first + 3) * FRAME_20]
        assert np.abs(np.diff(around)).max() <= largest
        assert np.abs(around).max() <= 1.2 * np.abs(clean).max()


@pytest.mark.parametrize("fallback", [False, True], ids=["libopus", "fallback"])
def test_concealment_carries_on_and_fades_to_silence(
    packets: list[bytes], request: pytest.FixtureRequest, fallback: bool
) -> None:
    """A loss in a vowel goes on at its level for 40 ms, is silent after 100 ms, and comes back without a click."""
    if fallback:
        request.getfixturevalue("without_libopus")
    loud = int(np.argmax([np.mean(part**2) for part in decode(packets)[: 150 * FRAME_20].reshape(-1, FRAME_20)]))
    first = loud + 1
    decoder = OpusDecoder()
    before = np.concatenate([decoder.decode(packet) for packet in packets[:first]])  # type: ignore[misc]
    gap = np.concatenate([decoder.conceal(FRAME_20)[0] for _ in range(15)])
    after = decoder.decode(packets[first + 15])
    assert after is not None
    level = np.sqrt(np.mean(before[-2 * FRAME_20 :] ** 2))
    assert 0.3 * level < np.sqrt(np.mean(gap[: 2 * FRAME_20] ** 2)) < 1.5 * level
    assert np.all(gap[FADE_END:] == 0)
    heard = np.concatenate([before[-FRAME_20:], gap, after])
    assert np.abs(np.diff(heard)).max() <= 1.2 * np.abs(np.diff(decode(packets))).max()
    assert abs(after[0]) < 0.02


def test_gaps_must_be_whole_frames() -> None:
    """A length that the codec cannot conceal is refused with the number."""
    for count in (0, FRAME + 1, 1960, -40):
        with pytest.raises(ValueError, match=str(count)):
            OpusDecoder().conceal(count)


def test_the_fallback_decodes_and_says_so(
    speech: np.ndarray, packets: list[bytes], without_libopus: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Without libopus PyAV decodes the same speech, later by less than 1 ms, and the log tells what is missing."""
    with caplog.at_level(logging.WARNING):
        heard = decode(packets)
    assert "libopus was not found" in caplog.text
    assert len(heard) == len(speech)
    assert max(correlation(heard[304:], speech[200 - d : len(speech) - 104 - d]) for d in range(-4, 17)) > 0.85
    decoder = OpusDecoder()
    assert decoder.decode(b"\xff") is None and decoder.malformed == 1
    assert decoder.conceal(FRAME_20, packets[5])[1] is False


def test_the_encoder_refuses_what_it_cannot_do(without_libopus: None) -> None:
    """Without the library the encoder says what is missing."""
    with pytest.raises(OpusError, match="libopus"):
        OpusEncoder()


def test_the_encoder_names_wrong_rates_and_lengths() -> None:
    """A rate or a length that Opus does not have is refused with the number."""
    with pytest.raises(OpusError, match="44100"):
        OpusEncoder(44_100)
    with pytest.raises(OpusError, match="321"):
        OpusEncoder(SAMPLE_RATE).encode(np.zeros(321, np.float32))


def test_dtx_packets_are_short_and_decode_quietly() -> None:
    """With discontinuous transmission silence becomes packets of a byte or two, which decode to near silence."""
    packets = encode(np.zeros(2 * SAMPLE_RATE, np.float32), dtx=True)
    short = [packet for packet in packets if len(packet) <= 2]
    assert len(short) > 50
    assert np.abs(decode(packets)).max() < 0.001
