"""Sessions in slots: a step over them gives what each session would draw alone, whoever comes, goes or waits."""

import importlib.util
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from streamer.model.attention import MOST_TOKENS, Choice, choose
from streamer.model.config import HEARD, PLAN, PRESETS
from streamer.model.kv_cache import Cache
from streamer.model.runtime import cuda_step
from streamer.model.runtime.slots import Memory, Seat, Slots
from streamer.model.sampling import advance, generate
from streamer.model.transformer import Conditions, Reference, Transformer
from streamer.motion.controls import EMOTIONS

TINY = PRESETS["tiny"]
EDGE = TINY.size // 16


@pytest.fixture
def transformer() -> Transformer:
    """Random weights everywhere, also where training starts from zero."""
    torch.manual_seed(0)
    model = Transformer(TINY).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def conditions(faces: Tensor, generator: torch.Generator, emotions: int = 1) -> Conditions:
    """Of one frame; a part is left out now and then."""

    def given() -> Tensor:
        return (torch.rand(1, generator=generator) < 0.8).float()

    return Conditions(
        torch.randn(1, 2, PLAN, generator=generator),
        given(),
        torch.randn(1, faces.shape[1], TINY.transformer.window, HEARD, generator=generator),
        given(),
        faces,
        torch.rand(1, emotions, len(EMOTIONS), generator=generator),
        given(),
    )


class Alone:
    """A session drawn by itself, frame by frame, with a `Cache`: what its slot is held to."""

    def __init__(
        self, model: Transformer, seed: int, context: int | None = None, faces: int = 1, emotions: int = 1
    ) -> None:
        self.model, self.emotions = model, emotions
        self.random = torch.Generator().manual_seed(seed)
        self.reference = model.reference(
            torch.randn(1, TINY.autoencoder.channels[-1], EDGE, EDGE, generator=self.random)
        )
        self.faces = torch.rand(1, faces, TINY.tokens, generator=self.random)
        self.cache = Cache.empty(TINY, self.reference.sinks, context)
        self.previous: tuple[Tensor, Conditions] | None = None

    def cue(self) -> tuple[Tensor, Conditions]:
        """The next frame's noise and conditions."""
        noise = torch.randn(1, TINY.autoencoder.latent, EDGE, EDGE, generator=self.random)
        return noise, conditions(self.faces, self.random, self.emotions)

    def draw(self, noise: Tensor, given: Conditions) -> Tensor:
        if self.previous is None:
            drawn = generate(self.model, noise, given, self.reference.added, self.cache)
        else:
            drawn = advance(self.model, self.previous, noise, given, self.reference.added, self.cache)
        self.previous = drawn, given
        return drawn

    def reset(self) -> None:
        self.cache.reset()
        self.previous = None


def cues(alone: list[Alone]) -> tuple[Tensor, Conditions]:
    """One for each session, as rows."""
    noise, given = zip(*(session.cue() for session in alone), strict=True)
    return torch.cat(noise), Conditions.stack(given)


def seat(slots: Slots, alone: Alone) -> Seat:
    return slots.seat(alone.reference, alone.faces)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def remembers(memory: Memory, alone: Alone) -> None:
    """The slot holds what the session's own cache holds."""
    filled = int(alone.cache.filled)
    assert len(memory.keys[0]) == filled
    if alone.cache.context:  # a cache of none does not count
        assert memory.written == int(alone.cache.written)
        for found, wanted in zip((memory.keys, memory.values), alone.cache.read(), strict=True):
            close(found, wanted[:, 0, alone.cache.context - filled :])
    assert (memory.previous is None) == (alone.previous is None)
    if memory.previous and alone.previous:
        close(memory.previous[0], alone.previous[0])
        for found, wanted in zip(memory.previous[1], alone.previous[1], strict=True):
            assert torch.equal(found, wanted)


def same(found: Memory, wanted: Memory) -> None:
    """Bit for bit."""
    assert found.written == wanted.written
    assert torch.equal(found.keys, wanted.keys) and torch.equal(found.values, wanted.values)
    assert (found.previous is None) == (wanted.previous is None)
    if found.previous and wanted.previous:
        assert torch.equal(found.previous[0], wanted.previous[0])
        assert all(torch.equal(a, b) for a, b in zip(found.previous[1], wanted.previous[1], strict=True))


@pytest.mark.parametrize(("context", "faces", "emotions"), [(0, 1, 1), (1, 2, 1), (2, 1, 2)])
def test_a_step_over_slots_is_each_session_alone(
    transformer: Transformer, context: int, faces: int, emotions: int
) -> None:
    """Sessions of different ages draw, past the seams of their rings, what each draws alone with its own cache."""
    slots = Slots(TINY, 4, context=context, faces=faces, emotions=emotions)
    alone: list[Alone] = []
    seats: list[Seat] = []
    for frame in range(11):
        if frame in (0, 3, 4):
            alone.append(Alone(transformer, frame, context, faces, emotions))
            seats.append(seat(slots, alone[-1]))
        noise, given = cues(alone)
        slots.take(noise, given, slots.turn(seats))
        drawn = cuda_step.reference_step(transformer, slots, len(slots))
        for b, session in enumerate(alone):
            close(drawn[b : b + 1], session.draw(noise[b : b + 1], given.rows(torch.tensor([b]))))
        for place, session in zip(seats, alone, strict=True):
            remembers(slots.read(place), session)


def test_sessions_come_and_go(transformer: Transformer) -> None:
    """Who leaves changes nothing for those who stay, in whichever slot they go on; a newcomer starts from nothing."""
    slots = Slots(TINY, 3)
    held: list[tuple[Seat, Alone]] = []

    def step() -> None:
        by_slot = [session for _, session in sorted(held, key=lambda pair: pair[0].slot)]
        noise, given = cues(by_slot)
        slots.take(noise, given, slots.turn([place for place, _ in held]))
        drawn = cuda_step.reference_step(transformer, slots, slots.capacity)  # over empty slots, too
        for b, session in enumerate(by_slot):
            close(drawn[b : b + 1], session.draw(noise[b : b + 1], given.rows(torch.tensor([b]))))

    def comes(seed: int) -> None:
        session = Alone(transformer, seed)
        held.append((seat(slots, session), session))

    def goes(which: int) -> None:
        place, _ = held.pop(which)
        slots.leave(place)
        assert place.slot == -1
        assert sorted(other.slot for other, _ in held) == list(range(len(held))) == list(range(len(slots)))

    for seed in range(3):
        comes(seed)
        step()
    goes(0)  # the last one moves
    step()
    goes(0)  # the one in the middle, now last
    comes(3)
    step()
    goes(1)
    step()
    comes(4)
    comes(5)
    for _ in range(4):
        step()
    for place, session in held:
        remembers(slots.read(place), session)


def test_who_is_not_due_waits(transformer: Transformer) -> None:
    """A slot whose turn it is not keeps its state bit for bit, and later goes on as if it had not been there."""
    slots = Slots(TINY, 3)
    alone = [Alone(transformer, seed) for seed in range(3)]
    seats = [seat(slots, session) for session in alone]
    turns = [{0}, {0, 1}, {2}, {0, 1, 2}, {1}, {1, 2}, set(), {0}, {2}, {0, 1, 2}, {0, 1, 2}]
    for turn in turns:
        due = [seats[b] for b in turn]
        before = [slots.read(place) for place in seats]
        noise, given = cues(alone)
        slots.take(noise, given, slots.turn(due))
        drawn = cuda_step.reference_step(transformer, slots, 3)
        for b, session in enumerate(alone):
            if b in turn:
                close(drawn[b : b + 1], session.draw(noise[b : b + 1], given.rows(torch.tensor([b]))))
                remembers(slots.read(seats[b]), session)
            else:
                same(slots.read(seats[b]), before[b])


def test_reset_forgets_frames_and_not_the_character(transformer: Transformer) -> None:
    """After a reset a session goes on as one that has just begun, while its neighbour remembers."""
    slots = Slots(TINY, 2)
    alone = [Alone(transformer, seed) for seed in range(2)]
    seats = [seat(slots, session) for session in alone]
    for frame in range(8):
        if frame == 5:
            slots.reset(seats[0])
            alone[0].reset()
        noise, given = cues(alone)
        slots.take(noise, given, slots.turn(seats))
        drawn = cuda_step.reference_step(transformer, slots, 2)
        for b, session in enumerate(alone):
            close(drawn[b : b + 1], session.draw(noise[b : b + 1], given.rows(torch.tensor([b]))))


def test_nan_stays_in_its_slot(transformer: Transformer) -> None:
    """A session whose numbers are none leaves its neighbours as they are, and after a reset, or gone, nothing of it."""
    slots = Slots(TINY, 3)
    alone = [Alone(transformer, seed) for seed in range(3)]
    seats = [seat(slots, session) for session in alone]
    for frame in range(9):
        if frame == 5:
            assert not slots.read(seats[1]).values.isfinite().all()  # the poison went into its ring
            slots.reset(seats[1])
            alone[1].reset()
        if frame == 8:  # someone else takes the slot of one who was poisoned and left
            slots.leave(seats[1])
            alone[1] = Alone(transformer, 7)
            alone[1], alone[2] = alone[2], alone[1]
            seats = [seats[0], seats[2], seat(slots, alone[2])]
        noise, given = cues(alone)
        poisoned = frame in (3, 7)
        if poisoned:
            noise[1] = torch.nan
        slots.take(noise, given, slots.turn(seats))
        drawn = cuda_step.reference_step(transformer, slots, 3)
        for b, session in enumerate(alone):
            wanted = session.draw(noise[b : b + 1], given.rows(torch.tensor([b])))
            if b != 1 or frame in (0, 1, 2, 5, 6, 8):
                close(drawn[b : b + 1], wanted)
            else:
                assert not drawn[b].isfinite().any()


def test_nan_beside_a_slot_that_waits(transformer: Transformer) -> None:
    """Inputs that are no numbers do nothing to a slot whose turn it is not, not even in its own ring."""
    slots = Slots(TINY, 1)
    alone = Alone(transformer, 0)
    place = seat(slots, alone)
    for frame in range(6):
        slots.take(*cues([Alone(transformer, 9)]), slots.turn([]))
        slots.noise.fill_(torch.nan)
        cuda_step.reference_step(transformer, slots, 1)
        noise, given = alone.cue()
        slots.take(noise, given, slots.turn([place]))
        close(cuda_step.reference_step(transformer, slots, 1), alone.draw(noise, given))
        assert slots.read(place).written == frame


def test_tensors_never_move(transformer: Transformer) -> None:
    """A graph captured over the slots stays valid: seating, leaving, inputs and steps all write in place."""

    def addresses() -> dict[str, list[int]]:
        tensors = {name: value for name, value in vars(slots).items() if isinstance(value, (Tensor, Conditions))}
        return {
            name: [part.data_ptr() for part in (value if isinstance(value, Conditions) else [value])]
            for name, value in tensors.items()
        }

    slots = Slots(TINY, 3)
    before = addresses()
    assert len(before) >= 12
    alone = [Alone(transformer, seed) for seed in range(3)]
    seats = [seat(slots, session) for session in alone]
    for _ in range(2):
        slots.take(*cues(alone), slots.turn(seats))
        cuda_step.reference_step(transformer, slots, 3)
    slots.reset(seats[1])
    slots.leave(seats[0])
    assert addresses() == before


def test_a_table_in_pairs_is_exact_beside_weights_that_are_not() -> None:
    """Angles are not rounded with the weights: in half precision the kernels' table is float16, which is finer."""
    exact, half = Slots(TINY, 1).table, Slots(TINY, 1, dtype=torch.bfloat16).table
    assert exact.dtype == torch.float32 and half.dtype == torch.float16
    assert exact.shape == (TINY.transformer.context + 3, TINY.tokens, TINY.transformer.head // 2, 2)
    close(exact.square().sum(-1), torch.ones_like(exact[..., 0]))
    assert (exact - half).abs().max() < 1e-3


def _refused(say: str) -> object:
    return pytest.raises(ValueError, match=say)


def test_refusals(transformer: Transformer) -> None:
    """What does not fit is refused with its numbers, and leaves the slots as they were."""
    for options, say in (
        ({"capacity": 0}, "capacity must be positive, got 0"),
        ({"capacity": 1, "context": 3}, "context of 3 frames: the preset tiny has positions for 2"),
        ({"capacity": 1, "faces": 0}, "faces must be positive, got 0"),
    ):
        with _refused(say):
            Slots(TINY, **options)  # type: ignore[arg-type]
    slots = Slots(TINY, 2)
    alone = Alone(transformer, 0)
    with _refused(r"faces of shape \[1, 2, 4\], the slot wants \[1, 1, 4\]"):
        slots.seat(alone.reference, alone.faces.expand(-1, 2, -1))
    many = Reference(alone.reference.added, tuple(part.repeat(1, 1, 2, 1, 1) for part in alone.reference.sinks))
    with _refused(r"sink keys of shape \[2, 1, 8, 2, 16\]"):
        slots.seat(many, alone.faces)
    assert len(slots) == 0
    first, second = seat(slots, alone), seat(slots, alone)
    with _refused("all 2 slots are taken"):
        seat(slots, alone)
    slots.leave(first)
    for use in (slots.leave, slots.reset, slots.read, lambda gone: slots.turn([gone])):
        with _refused("slot -1"):
            use(first)
    with _refused("slot 0"):
        Slots(TINY, 2).leave(second)
    noise, given = alone.cue()
    with _refused("inputs of 3 sessions, the slots hold 1 to 2"):
        slots.take(noise.repeat(3, 1, 1, 1), given, torch.ones(3, dtype=torch.bool))
    with _refused(r"noise of shape \[1, 1, 4, 4\], wanted \[1, 4, 4, 4\]"):
        slots.take(noise[:, :1], given, torch.ones(1, dtype=torch.bool))
    with _refused(r"heard of shape \[1, 2, 5, 76\], wanted \[1, 1, 5, 76\]"):
        slots.take(noise, given._replace(heard=given.heard.repeat(1, 2, 1, 1)), torch.ones(1, dtype=torch.bool))
    with _refused(r"due of shape \[2\], wanted \[1\]"):
        slots.take(noise, given, torch.ones(2, dtype=torch.bool))
    assert not slots.noise.any() and not slots.due.any()
    for count in (0, 3):
        with _refused(f"a step over {count} slots: there are 2"):
            cuda_step.reference_step(transformer, slots, count)
    with _refused("bfloat16 over slots in torch.float32"):
        cuda_step.reference_step(Transformer(TINY).bfloat16(), slots, 1)
    with _refused("a model nano over slots for tiny"):
        cuda_step.reference_step(Transformer(PRESETS["nano"]), slots, 1)


# --- what a GPU would be told, on tensors that hold nothing ---------------------------------------------------------


@pytest.fixture
def unlaunched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Kernels are checked and planned, and not run; the list fills with their names."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    from avatar_kernels import checks, launch

    launched: list[str] = []
    monkeypatch.setattr(checks, "offered", lambda op, device: launched.append(op))
    monkeypatch.setattr(launch.Launch, "run", lambda self: None)
    yield launched


def _on_meta(name: str, dtype: torch.dtype, capacity: int) -> tuple[Transformer, Slots]:
    config = PRESETS[name]
    with torch.device("meta"):
        model = Transformer(config).to(dtype).requires_grad_(False)
    return model, Slots(config, capacity, "meta", dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_plain_step_looks_at_no_number(dtype: torch.dtype) -> None:
    """It runs on tensors without contents: nothing waits for the device, and a graph can hold it."""
    model, slots = _on_meta("nano", dtype, 4)
    assert cuda_step.reference_step(model, slots, 3).shape == (3, 32, 16, 16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["nano", "live"])
def test_the_step_on_kernels_looks_at_no_number(name: str, dtype: torch.dtype, unlaunched: list[str]) -> None:
    """At the shipped sizes the kernels accept every input as the model makes it, and nothing waits for the device."""
    model, slots = _on_meta(name, dtype, 4)
    edge = PRESETS[name].size // 16
    assert cuda_step.step(model, slots, 3).shape == (3, 32, edge, edge)
    depth = PRESETS[name].transformer.depth
    assert {op: unlaunched.count(op) for op in unlaunched} == {
        "adaln": 2 * depth + 1,
        "qk_norm_rope_cache": depth,
        "rolling_attention": depth,
        "face_audio_attention": depth,
    }


# --- the choice -----------------------------------------------------------------------------------------------------


def test_the_choice_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels where they run and serve; else PyTorch's operators, and the line says why."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    shape = {"tokens": 64, "head": 64, "width": 256}
    on_cpu = choose("cpu", torch.bfloat16, **shape)
    assert (
        not on_cpu.kernels and "PyTorch's operators (bfloat16, 64 tokens per frame, heads of 64 on cpu)" in on_cpu.line
    )
    assert cuda_step.chosen(on_cpu) is cuda_step.reference_step
    monkeypatch.setattr("avatar_kernels.why_not", lambda device: None if device == "cuda:1" else "no such card")
    refused = choose("cuda:1", torch.bfloat16, **shape)
    assert not refused.kernels and "the kernels do not run here: " in refused.line and "\n" not in refused.line
    monkeypatch.setattr("streamer.model.attention._trial", lambda device, dtype: None)
    chosen = choose("cuda:1", torch.bfloat16, **shape)
    assert chosen.kernels and "\n" not in chosen.line
    assert cuda_step.chosen(chosen) is cuda_step.step
    for changed, say in (
        ({"device": "cuda"}, "no such card"),
        ({"dtype": torch.float32}, "float16 and bfloat16 only"),
        ({"head": 16}, "from 32 to 128"),
        ({"head": 132}, "from 32 to 128"),
        ({"head": 33}, "even number"),
        ({"width": 10_000}, "these have 10000"),
        ({"tokens": MOST_TOKENS + 1}, f"more than {MOST_TOKENS} tokens"),
    ):
        other = choose(**({"device": "cuda:1", "dtype": torch.bfloat16, **shape} | changed))  # type: ignore[arg-type]
        assert not other.kernels and say in other.line and "\n" not in other.line


@pytest.mark.parametrize("missing", ["triton", "avatar_kernels"])
def test_the_choice_without_triton(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Where Triton or the kernels' package is not installed, it is PyTorch's operators."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    choice = choose("cuda", torch.bfloat16, 64, 64, 256)
    assert isinstance(choice, Choice) and not choice.kernels and "not installed" in choice.line
