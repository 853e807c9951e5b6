"""Trains the articulation network: `lipstream train articulation SET`, from the set that `lipstream data speech` built.

The network takes log-mel bands at 100 Hz through causal convolutions, reduces four hops to one frame, and has two GRU
layers at 25 Hz. Its heads predict the mouth, whether the lips are closed (which gates the opening), prosody, and, only
for training, the phones, which are predicted from the embedding that the generator later uses.

Letters used in shapes: B rows, T frames, H hops (4 T), F mel bands, M mouth channels, P prosody channels, E embedding.
"""

import argparse
import dataclasses
import json
import math
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from streamer.base.constants import FPS, SAMPLE_RATE
from streamer.motion.articulation import BANDS, EMBEDDING, HOP, HOPS_PER_FRAME, PROSODY, SILENT_MEL, WINDOW, log_mel
from streamer.motion.controls import MOUTH
from streamer.training.common import save_checkpoint, store_in_half
from streamer.training.data.dataset import read_shard
from streamer.training.data.phones import INDEX, NAMES, PHONES, TimedPhone

OPEN = MOUTH.index("open")
LOOKAHEADS = (0, 20, 40, 60, 80)
"""Look-aheads (ms) that the network can be trained for; it is conditioned on the one in use."""


@dataclass(frozen=True)
class Config:
    """The network's size."""

    channels: int = 128
    hidden: int = 256
    dilations: tuple[int, ...] = (1, 2, 4)
    kernel: int = 5
    dropout: float = 0.15

    def __post_init__(self) -> None:
        for name in ("channels", "hidden", "kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class Block(nn.Module):
    """A causal dilated convolution over hops, added to its input."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.mix = nn.Conv1d(channels, channels, kernel, dilation=dilation)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H], past [B, C, self.past] -> the same, one block later."""
        heard = torch.cat([past, x], 2)
        return x + functional.silu(self.mix(heard)), heard[:, :, heard.shape[2] - self.past :]


class Network(nn.Module):
    """Log-mel hops to articulation frames, with the stream's state as an argument."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c, h = config.channels, config.hidden
        self.listen = nn.Conv1d(BANDS, c, config.kernel)
        self.blocks = nn.ModuleList(Block(c, config.kernel, d) for d in config.dilations)
        self.frame = nn.Linear(HOPS_PER_FRAME * c, h)
        self.ahead = nn.Embedding(len(LOOKAHEADS), h)
        self.memory = nn.GRU(h, h, 2, batch_first=True)
        self.embed = nn.Linear(2 * h, EMBEDDING)
        self.face = nn.Sequential(nn.Linear(2 * h + EMBEDDING, h // 2), nn.SiLU(), nn.Linear(h // 2, len(MOUTH) + 1))
        self.voice = nn.Linear(2 * h, len(PROSODY))
        self.phones = nn.Linear(EMBEDDING, 2 * len(NAMES))
        self.drop = nn.Dropout(config.dropout)
        # Openings that the network considers closed with this confidence become 0; calibrated on validation data.
        self.gate: Tensor
        self.register_buffer("gate", torch.tensor([0.35, 0.65]))

    def initial(self, rows: int) -> list[Tensor]:
        """The initial state, after silence."""
        c = self.config
        past = [torch.zeros(rows, BANDS, c.kernel - 1)]
        past += [torch.zeros(rows, c.channels, (c.kernel - 1) * d) for d in c.dilations]
        return [*past, torch.zeros(2, rows, c.hidden)]

    def forward(self, mel: Tensor, ahead: Tensor, state: list[Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """mel [B, H, F], ahead [B] an index into LOOKAHEADS -> outputs over frames, and the next state."""
        heard = torch.cat([state[0], (mel - SILENT_MEL).transpose(1, 2)], 2)
        following = [heard[:, :, heard.shape[2] - (self.config.kernel - 1) :]]
        x = functional.silu(self.listen(heard))
        for block, past in zip(self.blocks, state[1:-1], strict=True):
            x, kept = block(x, past)
            following.append(kept)
        rows, channels, _ = x.shape
        x = x.transpose(1, 2).reshape(rows, -1, HOPS_PER_FRAME * channels)
        x = functional.silu(self.frame(x) + self.ahead(ahead)[:, None])
        y, memory = self.memory(self.drop(x), state[-1])
        following.append(memory)
        y = self.drop(torch.cat([x, y], 2))
        embedding = self.embed(y)
        face = self.face(torch.cat([y, embedding], 2))
        return {
            "raw": face[..., : len(MOUTH)],
            "closed": face[..., len(MOUTH)],
            "prosody": self.voice(y),
            "embedding": embedding,
            "phones": self.phones(embedding),
        }, following

    def mouth(self, out: dict[str, Tensor]) -> Tensor:
        """The final mouth, [B, T, M]: within 0..1, its opening gated by the confidence that the lips are closed."""
        raw = out["raw"].clamp(0, 1)
        low, high = self.gate[0], self.gate[1]
        shut = ((torch.sigmoid(out["closed"]) - low) / (high - low)).clamp(0, 1)
        return torch.cat([raw[..., :1] * (1 - shut[..., None]), raw[..., 1:]], -1)


class Runtime(nn.Module):
    """The exported network, at one look-ahead, with only the outputs that a live session uses."""

    def __init__(self, network: Network, lookahead: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("index", torch.tensor([LOOKAHEADS.index(lookahead)]))

    def forward(self, mel: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """mel [1, H, F] -> mouth [1, T, M], prosody [1, T, P], embedding [1, T, E], next state."""
        out, following = self.network(mel, self.index, list(state))
        # energy, voiced and beat are in 0..1; nod and brow are signed
        prosody = torch.cat([out["prosody"][..., :3].clamp(0, 1), out["prosody"][..., 3:].clamp(-1, 1)], -1)
        return self.network.mouth(out), prosody, out["embedding"], *following


# Data ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """A training clip."""

    line: dict
    mel: np.ndarray  # [H, F] float16, H = 4 T; hop h ends at sample 160·(h + 1)
    mouth: np.ndarray  # [T, M] float16
    prosody: np.ndarray  # [T, P] float16
    phones: np.ndarray  # [T, 2] int16: the phone at the frame's sample, and that 20 ms before
    closed: np.ndarray  # [T] bool: the lips are closed for p, b or m
    timed: list[TimedPhone]


def heard(line: dict, arrays: dict[str, np.ndarray]) -> Heard:
    """A clip of the set with its log-mel bands."""
    frames = len(arrays["mouth"])
    audio = arrays["audio"].astype(np.float32) / 32768
    padded = np.zeros(WINDOW - HOP + frames * HOPS_PER_FRAME * HOP, np.float32)
    kept = min(len(audio), frames * HOPS_PER_FRAME * HOP)
    padded[WINDOW - HOP :][:kept] = audio[:kept]
    starts = arrays["times"][:, 0]
    at = np.arange(frames) / FPS
    phones = np.stack(
        [arrays["phone"][np.clip(np.searchsorted(starts, at - back, "right") - 1, 0, None)] for back in (0, 0.02)], 1
    )
    timed = [
        TimedPhone(NAMES[i], float(a), float(b)) for i, (a, b) in zip(arrays["phone"], arrays["times"], strict=True)
    ]
    lips = np.isin(phones[:, 0], [INDEX[name] for name, phone in PHONES.items() if phone.closes])
    closed = (arrays["mouth"][:, OPEN] <= 0.02) & (arrays["mouth"][:, MOUTH.index("press")] > 0.5) | (
        lips & (arrays["mouth"][:, OPEN] <= 0.02)
    )
    return Heard(line, log_mel(padded).astype(np.float16), arrays["mouth"], arrays["prosody"], phones, closed, timed)


class Clips:
    """The clips of a growing folder, by split; `refresh` reads newly added shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.splits: dict[str, list[Heard]] = {"train": [], "val": [], "test": []}
        self._seen: set[str] = set()

    def refresh(self, at_most: int | None = None) -> int:
        """Reads at most `at_most` new shards; returns the total."""
        fresh = [p for p in sorted(self.folder.glob("shard_*.npz")) if p.name not in self._seen]
        for path in fresh[:at_most]:
            self._seen.add(path.name)
            for line, arrays in read_shard(path):
                self.splits[line["split"]].append(heard(line, arrays))
        return len(self._seen)


def offset_hops(mel: np.ndarray, lookahead: int) -> np.ndarray:
    """[H, F] -> [H, F] as seen at this look-ahead (ms): row 4 k is the first hop that is new to frame k."""
    shift = HOPS_PER_FRAME - lookahead // 10
    silence = np.full((abs(shift), mel.shape[1]), SILENT_MEL, mel.dtype)
    if shift > 0:
        return np.concatenate([silence, mel])[: len(mel)]
    return np.concatenate([mel, silence])[-shift:][: len(mel)]


def batch(
    clips: list[Heard], rows: int, frames: int, lookaheads: list[int], rng: np.random.Generator
) -> dict[str, Tensor]:
    """
    `rows` rows of `frames` frames, each of consecutive clips, with augmentation: random level and equalisation, vocal
    tract length, and masked bands.
    """
    made: dict[str, list[np.ndarray]] = {name: [] for name in ("mel", "mouth", "prosody", "phones", "closed", "ahead")}
    for _ in range(rows):
        chosen: list[Heard] = []
        while sum(len(c.mouth) for c in chosen) < frames:
            chosen.append(clips[rng.integers(len(clips))])
        lookahead = lookaheads[rng.integers(len(lookaheads))]
        mel: np.ndarray = np.concatenate([c.mel for c in chosen])[: (frames + 8) * HOPS_PER_FRAME].astype(np.float32)
        knots = np.linspace(0, BANDS - 1, 5)
        colour = np.interp(np.arange(BANDS), knots, rng.normal(0, 0.15, 5)) + rng.normal(0, 0.25)
        bands = np.clip(np.arange(BANDS) * rng.uniform(0.94, 1.06) + rng.uniform(-1, 1), 0, BANDS - 1.001)
        lower, share = bands.astype(int), (bands % 1).astype(np.float32)
        mel = mel[:, lower] * (1 - share) + mel[:, lower + 1] * share
        for _ in range(2):
            first = int(rng.integers(BANDS))
            mel[:, first : first + int(rng.integers(8))] -= rng.uniform(0, 2)
        # Digital silence is left unchanged: only sound has a level.
        mel = SILENT_MEL + np.logaddexp((mel - SILENT_MEL + colour) * 2.5, rng.uniform(-3, 1)) / 2.5
        made["mel"].append(offset_hops(mel, lookahead)[: frames * HOPS_PER_FRAME].astype(np.float32))
        for name in ("mouth", "prosody", "phones", "closed"):
            made[name].append(np.concatenate([getattr(c, name) for c in chosen])[:frames])
        made["ahead"].append(np.array(LOOKAHEADS.index(lookahead)))
    out = {name: torch.from_numpy(np.stack(parts)) for name, parts in made.items()}
    return out | {name: out[name].float() for name in ("mouth", "prosody")} | {"phones": out["phones"].long()}


# Training ------------------------------------------------------------------------------------------------------------

_CHANNEL_WEIGHTS = torch.tensor([4.0, 1.0, 1.5, 1.0, 1.0, 0.6, 0.8])  # in the order of MOUTH


def loss(network: Network, out: dict[str, Tensor], truth: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum of the losses, and its parts."""
    closed = truth["closed"].float()
    error = out["raw"] - truth["mouth"]
    # While the lips are closed only the gate matters; the raw opening may then interpolate between vowels.
    weight = torch.ones_like(error)
    weight[..., OPEN] = 1 + 2 * closed
    place = (error.square() * weight * _CHANNEL_WEIGHTS).mean()
    velocity = (error.diff(dim=1).square() * _CHANNEL_WEIGHTS).mean()
    # Label smoothing: alignments are off by up to a frame.
    certain = 0.02 + 0.94 * closed
    shut = functional.binary_cross_entropy_with_logits(out["closed"], certain, pos_weight=torch.tensor(3.0))
    prosody = functional.mse_loss(out["prosody"], truth["prosody"])
    logits = out["phones"].reshape(-1, len(NAMES))
    phones = functional.cross_entropy(logits, truth["phones"].reshape(-1), label_smoothing=0.05)
    total = 4 * place + 2 * velocity + 0.25 * shut + 0.5 * prosody + 0.1 * phones
    parts = {"place": place, "velocity": velocity, "shut": shut, "prosody": prosody, "phones": phones}
    return total, {name: value.item() for name, value in parts.items()}


@torch.no_grad()
def outputs(network: Network, clip: Heard, lookahead: int) -> dict[str, Tensor]:
    """The network's outputs for a whole clip, with a leading axis of one row."""
    mel = torch.from_numpy(offset_hops(clip.mel.astype(np.float32), lookahead))[None]
    out, _ = network(mel, torch.tensor([LOOKAHEADS.index(lookahead)]), network.initial(1))
    return out


def predict(network: Network, clip: Heard, lookahead: int) -> np.ndarray:
    """The predicted mouth of a whole clip, [T, M]."""
    return network.mouth(outputs(network, clip, lookahead))[0].numpy()


def evaluate(network: Network, clips: list[Heard], lookahead: int) -> dict[str, float]:
    """The metrics of `measure` for these clips."""
    return measure([(predict(network, clip, lookahead), clip) for clip in clips])


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation; 0 if either input is constant."""
    x, y = x.astype(np.float64) - np.mean(x, dtype=np.float64), y.astype(np.float64) - np.mean(y, dtype=np.float64)
    spread = math.sqrt(float(np.sum(x * x)) * float(np.sum(y * y)))
    return float(np.sum(x * y)) / spread if spread > 0 else 0.0


def measure(pairs: list[tuple[np.ndarray, Heard]]) -> dict[str, float]:
    """
    Metrics of predicted mouths [T, M] against their clips: correlation of the opening, how often p, b and m are closed,
    how often the mouth is wrongly closed, and the lag in ms (positive: the prediction is late).
    """
    if not pairs:
        raise ValueError("no clips to measure")
    told = np.concatenate([mouth[:, OPEN] for mouth, _ in pairs]).astype(np.float64)
    true = np.concatenate([clip.mouth[:, OPEN] for _, clip in pairs]).astype(np.float64)
    spoken = np.concatenate([clip.phones[:, 0] != INDEX["sil"] for _, clip in pairs])
    shut = 0.1 * min(1.0, float(np.percentile(told, 99.5)))
    occurrences = hits = 0
    for mouth, clip in pairs:
        for phone in clip.timed:
            if PHONES[phone.phone].closes:
                k = round((phone.start + phone.end) / 2 * FPS)
                near = mouth[max(k - 1, 0) : k + 2, OPEN]
                occurrences += 1
                hits += bool(len(near) and near.min() <= shut)
    lags = np.arange(-5, 6)
    scores = []
    long = [(mouth, clip) for mouth, clip in pairs if len(mouth) > 12]
    for lag in lags:
        x = np.concatenate([mouth[5 + lag : len(mouth) - 5 + lag, OPEN] for mouth, _ in long])
        y = np.concatenate([clip.mouth[5 : len(mouth) - 5, OPEN] for mouth, clip in long])
        scores.append(correlation(x, y))
    best = int(np.clip(np.argmax(scores), 1, len(lags) - 2))
    a, b, c = scores[best - 1 : best + 2]
    lag = lags[best] + 0.5 * (a - c) / (a - 2 * b + c)
    others = {}
    for i, name in enumerate(MOUTH[1:], 1):
        x = np.concatenate([mouth[:, i] for mouth, _ in pairs])
        y = np.concatenate([clip.mouth[:, i] for _, clip in pairs])
        others[f"pcc_{name}"] = correlation(x, y)
    return {
        "minutes": len(told) / FPS / 60,
        "pcc_open": correlation(told, true),
        "pcc_open_spoken": correlation(told[spoken], true[spoken]),
        "rmse_open": float(np.sqrt(np.mean((told - true) ** 2))),
        "closures": occurrences,
        "closed": hits / max(occurrences, 1),
        "falsely_closed": float(np.mean(told[true > 0.3] <= shut)),
        "lag_ms": float(1000 / FPS * lag),
        **others,
    }


def train(
    folder: Path,
    work: Path,
    config: Config,
    steps: int,
    rows: int,
    lookaheads: list[int],
    rate: float,
    start: Path | None = None,
    frames: int = 200,
) -> Network:
    """Trains for `steps`, resuming from the checkpoint in `work` if there is one; returns the averaged network."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network, averaged = Network(config), Network(config)
    if start is not None:
        network.load_state_dict(torch.load(start, weights_only=True)["averaged"])
    averaged.load_state_dict(network.state_dict())
    averaged.requires_grad_(False)
    averaged.eval()
    optimizer = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.01)
    checkpoint, step = work / "checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        averaged.load_state_dict(saved["averaged"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    clips = Clips(folder)
    if clips.refresh() == 0 or not clips.splits["train"]:
        raise ValueError(f"{folder} contains no shards to train on: build them with `lipstream data speech {folder}`")
    rng = np.random.default_rng(step)
    began, running = time.monotonic(), dict[str, float]()
    while step < steps:
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        truth = batch(clips.splits["train"], rows, frames, lookaheads, rng)
        with torch.autocast("cpu", torch.bfloat16):
            out, _ = network(truth["mel"], truth["ahead"], network.initial(rows))
        total, parts = loss(network, {name: value.float() for name, value in out.items()}, truth)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            decay = min(0.998, step / (step + 20))
            for slow, fast in zip(averaged.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        for name, value in parts.items():
            running[name] = 0.98 * running.get(name, value) + 0.02 * value
        if step % 100 == 0 or step == steps:
            shown = " ".join(f"{name} {value:.4f}" for name, value in running.items())
            print(f"step {step} {shown} {(time.monotonic() - began):.0f} s", flush=True)
        if step % 100 == 0 or step == steps:
            save_checkpoint(
                checkpoint,
                network=network.state_dict(),
                averaged=averaged.state_dict(),
                optimizer=optimizer.state_dict(),
                step=step,
                config=dataclasses.asdict(config),
            )
        if step % 400 == 0 or step == steps:
            clips.refresh(at_most=12)
            some = clips.splits["val"][:100]
            for lookahead in lookaheads if step == steps else lookaheads[len(lookaheads) // 2 :][:1]:
                if some:
                    numbers = {name: round(value, 3) for name, value in evaluate(averaged, some, lookahead).items()}
                    print(f"  validation, {lookahead} ms ahead: {json.dumps(numbers)}", flush=True)
    return averaged


def calibrate(network: Network, clips: list[Heard], lookahead: int, wanted: float) -> None:
    """
    Sets the gate's threshold on validation clips: as high as possible while the wanted fraction of p, b and m is still
    closed, so that as few open mouths as possible are closed by mistake.
    """
    said = [outputs(network, clip, lookahead) for clip in clips]
    for middle in np.arange(0.80, 0.04, -0.025):
        network.gate.copy_(torch.tensor([0.75 * middle, middle]))
        numbers = measure([(network.mouth(out)[0].numpy(), clip) for out, clip in zip(said, clips, strict=True)])
        if numbers["closed"] >= wanted:
            break
    print(f"gate {network.gate.tolist()}: {json.dumps(numbers)}", flush=True)


def export(network: Network, lookahead: int, path: Path) -> None:
    """Writes the network at one look-ahead as ONNX with float16 weights, for motion.articulation.Articulation."""
    import onnx  # only training needs it
    from onnx import helper

    runtime = Runtime(network, lookahead).eval()
    state = network.initial(1)
    names = [f"state{i}" for i in range(len(state))]
    part = path.with_suffix(".part")
    with warnings.catch_warnings():
        # The exporter warns of its deprecation and of other batch sizes, which are never used.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            runtime,
            (torch.zeros(1, 2 * HOPS_PER_FRAME, BANDS), *state),
            str(part),
            input_names=["mel", *names],
            output_names=["mouth", "prosody", "embedding", *(f"{name}_next" for name in names)],
            dynamic_axes={"mel": {1: "H"}, "mouth": {1: "T"}, "prosody": {1: "T"}, "embedding": {1: "T"}},
            opset_version=17,
            dynamo=False,
        )
    model = onnx.load(part)
    part.unlink()
    helper.set_model_props(model, {"lookahead": str(lookahead * SAMPLE_RATE // 1000)})
    store_in_half(model, path)


def main(argv: list[str] | None = None) -> int:
    """`lipstream train articulation SET`: the whole recipe, resumable."""
    parser = argparse.ArgumentParser(prog="lipstream train articulation", description=__doc__)
    parser.add_argument("set", type=Path, help="folder that `lipstream data speech` built")
    parser.add_argument("--work", type=Path, default=Path("articulation"), help="folder for checkpoints")
    parser.add_argument("--out", type=Path, help="where the weights go (default: WORK/articulation.onnx)")
    parser.add_argument("--lookahead", type=int, default=40, choices=LOOKAHEADS, help="ms")
    parser.add_argument("--steps", type=int, default=1000, help="steps with all look-aheads, to compare them")
    parser.add_argument("--more-steps", type=int, default=2550, help="further steps with the chosen look-ahead")
    parser.add_argument("--rows", type=int, default=20, help="rows of 8 s in a batch")
    parser.add_argument("--closed", type=float, default=0.93, help="fraction of p, b and m to close, on validation")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        config = Config()
        train(args.set, args.work / "all", config, args.steps, args.rows, list(LOOKAHEADS), 2e-3)
        start = args.work / "all" / "checkpoint.pt"
        network = train(
            args.set, args.work / "one", config, args.more_steps, args.rows, [args.lookahead], 1.5e-3, start
        )
        clips = Clips(args.set)
        clips.refresh()
        calibrate(network, clips.splits["val"][:400], args.lookahead, args.closed)
        out = args.out or args.work / "articulation.onnx"
        export(network, args.lookahead, out)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"lipstream train articulation: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
    return 0
