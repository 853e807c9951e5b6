"""Training the articulation network at a tiny size, and what is exported of it."""

import numpy as np
import pytest
import torch

from streamer.base.constants import SAMPLE_RATE, SAMPLES_PER_FRAME
from streamer.motion.articulation import HOP, HOPS_PER_FRAME, SILENT_MEL, WINDOW, Articulation, feed, log_mel
from streamer.motion.controls import MOUTH
from streamer.training import articulation
from streamer.training.articulation import (
    LOOKAHEADS,
    Clips,
    Config,
    Network,
    Runtime,
    batch,
    export,
    heard,
    loss,
    measure,
    offset_hops,
    predict,
    train,
)  # fmt: skip
from streamer.training.data.coarticulation import truth
from streamer.training.data.phones import INDEX, PHONES, TimedPhone

TINY = Config(channels=8, hidden=12, dilations=(1, 2), dropout=0.0)


def clip(seed: int, split: str = "train"):
    """Vowels are loud low tones, p is silence between them: something that can be learned."""
    rng = np.random.default_rng(seed)
    phones, pieces, at = [], [], 0.0
    for name in ["sil", *rng.permutation(["aa", "p", "iy", "p", "aa", "s"]), "sil"]:
        seconds = float(rng.uniform(0.15, 0.25))
        t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        hertz = {"aa": 700, "iy": 2400, "s": 6000}.get(name)
        pieces.append(0.2 * np.sin(2 * np.pi * hertz * t) if hertz else np.zeros(len(t)))
        phones.append(TimedPhone(str(name), at, at + len(t) / SAMPLE_RATE))
        at += len(t) / SAMPLE_RATE
    audio = np.concatenate(pieces).astype(np.float32)
    mouth, prosody = truth(audio, phones)
    arrays = {
        "audio": (audio * 32767).astype(np.int16), "mouth": mouth.astype(np.float16),
        "prosody": prosody.astype(np.float16), "phone": np.array([INDEX[p.phone] for p in phones], np.int16),
        "times": np.array([[p.start, p.end] for p in phones], np.float32),
    }  # fmt: skip
    return {"split": split, "language": "en", "variant": 0}, arrays


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small only wait for one another on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clips():
    return [heard(*clip(seed)) for seed in range(6)]


def test_streamed_equals_whole_in_torch(clips):
    """The network told four hops at a time says what it says of the whole clip."""
    torch.manual_seed(0)
    network = Network(TINY).eval()
    mel = torch.from_numpy(clips[0].mel.astype(np.float32))[None]
    ahead = torch.tensor([2])
    with torch.no_grad():
        whole, _ = network(mel, ahead, network.initial(1))
        state, steps = network.initial(1), []
        for k in range(0, mel.shape[1], HOPS_PER_FRAME):
            out, state = network(mel[:, k : k + HOPS_PER_FRAME], ahead, state)
            steps.append(network.mouth(out))
    torch.testing.assert_close(torch.cat(steps, 1), network.mouth(whole), atol=1e-5, rtol=0)


@pytest.mark.parametrize("lookahead", LOOKAHEADS)
def test_training_hears_what_a_live_step_hears(lookahead):
    """The hops of training at a look-ahead are those that the live steps compute from their samples."""
    line, arrays = clip(1)
    known = heard(line, arrays)
    audio = arrays["audio"].astype(np.float32) / 32768
    fed = feed(audio, lookahead * SAMPLE_RATE // 1000)
    live = log_mel(np.concatenate([np.zeros(WINDOW - HOP, np.float32), fed]))
    trained = offset_hops(known.mel.astype(np.float32), lookahead)
    assert trained.shape == live.shape
    # Before the recording there is silence, and behind its last whole frame training has padded with it.
    inside = slice(2 * HOPS_PER_FRAME, -4 * HOPS_PER_FRAME)
    np.testing.assert_allclose(trained[inside], live[inside], atol=4e-3)  # float16 on the way


def test_the_network_hears_nothing_beyond_its_lookahead():
    """Sound after sample 640·k + look-ahead does not change frame k."""
    network = Network(TINY).eval()
    rng = np.random.default_rng(0)
    mel = rng.normal(0, 1, (1, 80, 64)).astype(np.float32)
    other = mel.copy()
    other[:, 40:] += 1
    with torch.no_grad():
        a, b = (network(torch.from_numpy(x), torch.tensor([0]), network.initial(1))[0]["raw"] for x in (mel, other))
    assert torch.equal(a[:, :10], b[:, :10]) and not torch.equal(a[:, 10:], b[:, 10:])


def test_the_exported_network_streams_what_it_says_of_the_whole(tmp_path, clips):
    """Through features.Articulation, stepped equals whole to float32 rounding, and both are the trained network."""
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    network = Network(TINY).eval()
    path = tmp_path / "tiny.onnx"
    export(network, 40, path)
    listener = Articulation.load(path)
    assert listener.lookahead == 640
    audio = clip(0)[1]["audio"].astype(np.float32) / 32768
    whole = listener.whole(audio)
    state = listener.state()
    for k, samples in enumerate(feed(audio, listener.lookahead).reshape(-1, SAMPLES_PER_FRAME)):
        curves = listener.step(state, samples)
        for part in ("mouth", "prosody", "embedding"):
            np.testing.assert_allclose(getattr(curves, part), getattr(whole, part)[k], atol=2e-6)
    trained = predict(network, clips[0], 40)
    # Weights lie in the file as float16.
    np.testing.assert_allclose(whole.mouth[2:-4], trained[2 : len(whole.mouth) - 4], atol=5e-3)


def test_silence_before_the_first_sample_is_the_state_of_the_beginning():
    """A new stream has heard silence: more of it changes nothing that a convolution remembers."""
    network = Network(TINY).eval()
    silence = torch.full((1, 40, 64), SILENT_MEL)
    with torch.no_grad():
        _, state = network(silence, torch.tensor([0]), network.initial(1))
    assert torch.allclose(state[0], torch.zeros_like(state[0]), atol=1e-5)


def test_the_gate_shuts_what_is_surely_closed():
    """Certainty above the gate makes the opening 0 and touches no other channel."""
    network = Network(TINY)
    out = {"raw": torch.full((1, 3, 7), 0.5), "closed": torch.tensor([[-9.0, 0.0, 9.0]])}
    mouth = network.mouth(out)
    assert mouth[0, 0, 0] == 0.5 and 0 < mouth[0, 1, 0] < 0.5 and mouth[0, 2, 0] == 0
    assert torch.all(mouth[..., 1:] == 0.5)


def test_a_batch_is_in_step_with_its_truth(clips):
    """Rows have as many frames of truth as of hops, and loud frames are those whose mouth is open."""
    made = batch(clips, 3, 50, [0], np.random.default_rng(0))
    assert made["mel"].shape == (3, 200, 64) and made["mouth"].shape == (3, 50, len(MOUTH))
    loud = made["mel"].reshape(3, 50, 4, 64).amax(dim=(2, 3))
    opening = made["mouth"][..., 0]
    assert np.corrcoef(loud.flatten().numpy(), opening.flatten().numpy())[0, 1] > 0.5


def test_measure_knows_perfect_late_and_open_mouths(clips):
    """Truth scores 1 with no lag; the same two frames late lags 80 ms; a mouth that never shuts closes nothing."""
    perfect = measure([(c.mouth.astype(np.float32), c) for c in clips])
    assert perfect["pcc_open"] == pytest.approx(1) and perfect["closed"] == 1 and abs(perfect["lag_ms"]) < 2
    assert perfect["closures"] == 12 and perfect["falsely_closed"] == 0
    late = measure([(np.roll(c.mouth.astype(np.float32), 2, 0), c) for c in clips])
    assert late["lag_ms"] == pytest.approx(80, abs=6) and late["pcc_open"] < 0.9
    agape = measure([(np.maximum(c.mouth.astype(np.float32), 0.3), c) for c in clips])
    assert agape["closed"] == 0


def test_closed_frames_are_those_of_bilabials(clips):
    """Silence is no closure to be learned, p is."""
    for c in clips:
        lips = np.isin(c.phones[:, 0], [INDEX[p] for p in PHONES if PHONES[p].closes])
        assert c.closed.any() and not np.any(c.closed[:3])
        assert np.mean(lips[c.closed]) > 0.5


def test_training_learns_and_continues_where_it_stopped(tmp_path, monkeypatch, clips):
    """Loss falls within a few steps; a second call goes on from the checkpoint instead of beginning anew."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "shard_0000.npz").touch()
    monkeypatch.setattr(articulation, "read_shard", lambda path: (clip(seed) for seed in range(6)))
    torch.manual_seed(0)
    fixed = batch(clips, 4, 60, [40], np.random.default_rng(9))

    def error(network: Network) -> float:
        with torch.no_grad():
            out, _ = network(fixed["mel"], fixed["ahead"], network.initial(4))
            return float(loss(network, out, fixed)[0])

    untrained = error(Network(TINY))
    trained = train(folder, tmp_path / "work", TINY, 40, 4, [40], 1e-2, frames=60)
    assert error(trained) < 0.8 * untrained
    saved = torch.load(tmp_path / "work" / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 40
    again = train(folder, tmp_path / "work", TINY, 40, 4, [40], 1e-2, frames=60)
    for a, b in zip(trained.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_set_without_shards_is_refused(tmp_path):
    """The error says what to run."""
    with pytest.raises(ValueError, match="lipstream data"):
        train(tmp_path, tmp_path / "work", TINY, 1, 1, [40], 1e-3)
    assert Clips(tmp_path).refresh() == 0


def test_runtime_is_one_lookahead(clips):
    """What is exported gives the outputs of the network told that look-ahead."""
    network = Network(TINY).eval()
    mel = torch.from_numpy(clips[0].mel.astype(np.float32))[None, :40]
    with torch.no_grad():
        mouth, prosody, embedding, *state = Runtime(network, 60)(mel, *network.initial(1))
        out, _ = network(mel, torch.tensor([LOOKAHEADS.index(60)]), network.initial(1))
    assert torch.equal(mouth, network.mouth(out)) and torch.equal(embedding, out["embedding"])
    assert prosody.shape == (1, 10, 5) and len(state) == len(network.initial(1))


def test_the_command_goes_from_the_set_to_weights(tmp_path, monkeypatch):
    """`lipstream train articulation` trains both parts, calibrates, and writes what features.Articulation loads."""
    pytest.importorskip("onnx")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "shard_0000.npz").touch()
    monkeypatch.setattr(articulation, "Config", lambda: TINY)
    monkeypatch.setattr(
        articulation, "read_shard", lambda path: (clip(seed, "val" if seed == 3 else "train") for seed in range(5))
    )
    out = tmp_path / "weights.onnx"
    common = [str(folder), "--work", str(tmp_path / "work"), "--out", str(out), "--rows", "2"]
    assert articulation.main([*common, "--steps", "2", "--more-steps", "2", "--lookahead", "20"]) == 0
    assert Articulation.load(out).lookahead == 320


def test_the_command_without_a_set_fails_with_a_reason(tmp_path, capsys):
    """An empty folder is no set; the command says what to run and returns 1."""
    assert articulation.main([str(tmp_path), "--work", str(tmp_path / "work")]) == 1
    assert "lipstream data" in capsys.readouterr().err
