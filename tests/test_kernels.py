"""The kernels' package where no kernel runs: refusals, references, choices, and imports without Triton."""

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from avatar_kernels import OPS, why_not
from avatar_kernels.adaln import adaln
from avatar_kernels.adaln.reference import adaln_reference
from avatar_kernels.checks import fp8
from avatar_kernels.face_audio_attention import face_audio_attention
from avatar_kernels.face_audio_attention.reference import face_audio_attention_reference
from avatar_kernels.launch import Gpu, power_of_two
from avatar_kernels.qk_norm_rope_cache import qk_norm_rope_cache
from avatar_kernels.qk_norm_rope_cache.reference import qk_norm_rope_cache_reference
from avatar_kernels.rolling_attention import rolling_attention
from avatar_kernels.rolling_attention.configs import candidates, choose, parts, shared_memory
from avatar_kernels.rolling_attention.reference import rolling_attention_reference
from avatar_kernels.shapes import LARGE, LARGE_FRAME, LIVE, NANO
from avatar_kernels.tolerances import TOLERANCES, excess
from hypothesis import given
from hypothesis import strategies as st

B, N, H, D, S, W = 2, 6, 2, 32, 3, 5


def _attention() -> dict[str, object]:
    """Valid arguments of `rolling_attention`."""
    return {
        "q": torch.randn(B, N, H, D),
        "k": torch.randn(B, N, H, D),
        "v": torch.randn(B, N, H, D),
        "sink": (torch.randn(B, N, H, D), torch.randn(B, N, H, D)),
        "ring": (torch.randn(B, S, N, H, D), torch.randn(B, S, N, H, D)),
        "written": torch.tensor([1, 4]),
        "table": torch.randn(S + 2, N, D // 2, 2),
    }


def _norm() -> dict[str, object]:
    """Valid arguments of `qk_norm_rope_cache`."""
    found = _attention()
    del found["sink"]
    return found | {"q_weight": torch.ones(D), "k_weight": torch.ones(D)}


def _face() -> dict[str, object]:
    """Valid arguments of `face_audio_attention`."""
    return {
        "q": torch.randn(B, N, H, D),
        "k": torch.randn(B, 1, W, H, D),
        "v": torch.randn(B, 1, W, H, D),
        "faces": torch.rand(B, 1, N),
        "strength": torch.tensor(1.0),
        "residual": torch.randn(B, N, H, D),
    }


def _adaln() -> dict[str, object]:
    """Valid arguments of `adaln`."""
    return {
        "x": torch.randn(B, N, 24),
        "shift": torch.randn(B, 1, 24),
        "scale": torch.randn(B, 1, 24),
        "branch": torch.randn(B, N, 24),
        "gate": torch.randn(B, 1, 24),
    }


def _ring(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(*shape).to(dtype), torch.zeros(*shape).to(dtype)


_ACROSS = torch.randn(B, H, N, D).transpose(1, 2)
_SCALES = (torch.ones(H), torch.ones(H))

REFUSED: dict[str, tuple[Callable[..., object], dict[str, object], str]] = {}
"""What is changed about valid arguments, and what the refusal says."""

for _name, _change, _why in (
    ("empty batch", {"q": torch.zeros(0, N, H, D)}, r"q is empty: shape \[0, 6, 2, 32\]"),
    ("heads lie across", {"q": _ACROSS}, r"q is not contiguous .* strides \[384, 32, 192"),
    ("half keys", {"k": torch.zeros(B, N, H, D).half()}, r"k is torch.float16, wanted"),
    ("double", {"q": torch.zeros(B, N, H, D).double()}, r"q is torch.float64, wanted"),
    ("other heads", {"v": torch.zeros(B, N, 3, D)}, r"v has shape .*3, 32\], wanted"),
    ("narrow head", {"q": torch.zeros(B, N, H, 16)}, r"a head has 16 channels, .* 32 to 128"),
    ("odd head", {"q": torch.zeros(B, N, H, 33)}, r"a head has 33 channels, wanted an even"),
    ("wide head", {"q": torch.zeros(B, N, H, 130)}, r"a head has 130 channels"),
    ("three dimensions", {"q": torch.zeros(B, N, D)}, r"q has 3 dimensions \[2, 6, 32\]"),
    ("other sink", {"sink": _ring(B, N + 1, H, D)}, r"7 tokens of the sink .* frames of 6"),
    ("sink of others", {"sink": _ring(3, N, H, D)}, r"sink keys has shape \[3, "),
    ("ring of others", {"ring": _ring(3, S, N, H, D)}, r"2 rows are not a multiple of the 3 sessions"),
    ("other frames", {"ring": _ring(B, S, 4, H, D)}, r"6 current tokens .* frames of 4"),
    ("more than the ring", {"context": 4}, r"a context of 4 frames does not fit .* ring of 3"),
    ("negative context", {"context": -1}, r"a context of -1 frames"),
    ("written before 0", {"written": torch.tensor([0, -3])}, r"and contains -3"),
    ("written as int32", {"written": torch.zeros(B).int()}, r"written is torch.int32"),
    ("written of others", {"written": torch.zeros(3).long()}, r"written has shape \[3\]"),
    ("short table", {"table": torch.zeros(4, N, 16, 2)}, r"table has 4 rows, .* least 5"),
    ("other table", {"table": torch.zeros(5, N, 8, 2)}, r"table has shape \[5, 6, 8, 2\]"),
    ("ring in half", {"ring": _ring(B, S, N, H, D, dtype=torch.half)}, r"ring keys is torch"),
    ("e4m3, no scale", {"ring": _ring(B, S, N, H, D, dtype=torch.float8_e4m3fn)}, "ring key"),
    ("scale, no e4m3", {"scales": _SCALES}, r"ring keys is torch.float32, wanted .*e4m3fn"),
    ("no parts", {"splits": 0}, r"splits must be between 1 and 64, got 0"),
    ("gradient", {"q": torch.zeros(B, N, H, D).requires_grad_()}, r"no backward pass, and q"),
    ("elsewhere", {"k": torch.zeros(B, N, H, D, device="meta")}, r"k is on meta, q on cpu"),
):
    REFUSED[_name] = (rolling_attention, _attention() | _change, _why)
_BOTH = torch.zeros(B, 2, S, N, H, D)
_SHIFTED = _BOTH.as_strided(_BOTH[:, 0].shape, _BOTH[:, 0].stride(), D)
for _name, _change, _why in (
    ("other weight", {"q_weight": torch.ones(D + 1)}, r"q_weight has shape \[33\], wanted \[32\]"),
    ("no slots", {"ring": _ring(B, 0, N, H, D)}, r"1 frames cannot be written .* ring of 0"),
    ("shared ring", {"ring": (torch.zeros(1, S, N, H, D).expand(B, -1, -1, -1, -1),) * 2}, "share"),
    ("windows", {"ring": (torch.zeros(B + S, N, H, D).unfold(0, S, 1)[:B].movedim(-1, 1),) * 2}, "keys .* rows share"),
    ("one ring", {"ring": (_BOTH[:, 0],) * 2}, "ring keys and ring values are written to, and share memory"),
    ("ring shifted", {"ring": (_BOTH[:, 0], _SHIFTED)}, "ring keys and ring values are written to, and share memory"),
    ("eps", {"eps": 0.0}, r"eps must be between 0 and 1, got 0.0"),
):
    REFUSED[_name] = (qk_norm_rope_cache, _norm() | _change, _why)
for _name, _change, _why in (
    ("other mask", {"faces": torch.rand(B, 1, N + 1)}, r"faces has shape \[2, 1, 7\], wanted"),
    ("mask of two", {"faces": torch.rand(B, 2, N)}, r"faces has shape \[2, 2, 6\], wanted"),
    ("mask of bits", {"faces": torch.ones(B, 1, N).bool()}, r"faces is torch.bool, wanted"),
    ("no audio", {"k": torch.zeros(B, 1, 0, H, D)}, r"k is empty"),
    ("strengths", {"strength": torch.ones(2)}, r"strength has shape \[2\], wanted \[\]"),
    ("other residual", {"residual": torch.zeros(B, N, H, 16)}, r"residual has shape"),
    ("other values", {"v": torch.zeros(B, 1, W + 1, H, D)}, r"v has shape \[2, 1, 6, 2, 32\]"),
):
    REFUSED[_name] = (face_audio_attention, _face() | _change, _why)
for _name, _change, _why in (
    ("turned about", {"x": torch.randn(B, 24, N).mT}, r"x is not contiguous .* strides \[144, 1, 6\]"),
    ("too wide", {"x": torch.zeros(1, 1, 8193)}, r"width 8193 is above 8192"),
    ("half a change", {"shift": None}, r"shift and scale go together"),
    ("no gate", {"gate": None}, r"branch and gate go together"),
    ("not normed", {"norm": False}, r"shift and scale modulate the normalised x"),
    ("a gate a token", {"gate": torch.zeros(B, N, 24)}, r"gate has shape \[2, 6, 24\], wanted \[2, 1, 24\]"),
    ("integers", {"x": torch.zeros(B, N, 24).int()}, r"x is torch.int32, wanted"),
    (
        "nothing",
        {"x": torch.zeros(1, 1, 8), "shift": None, "scale": None, "branch": None, "gate": None} | {"norm": False},
        r"nothing to do",
    ),
):
    REFUSED[_name] = (adaln, _adaln() | _change, _why)


@pytest.mark.parametrize(("op", "arguments", "why"), REFUSED.values(), ids=REFUSED)
def test_refuses(op: Callable[..., object], arguments: dict[str, object], why: str) -> None:
    """What cannot be right is a ValueError that names the numbers, before anything runs."""
    with pytest.raises(ValueError, match=why):
        op(**arguments)


def test_addresses_that_do_not_fit_are_refused() -> None:
    """A row that reaches over 2^31 numbers is refused, not wrapped round."""
    part = torch.empty(B, 2**20 + 1, 32, H, D, device="meta")
    tokens = torch.empty(B, 32, H, D, device="meta")
    valid = _attention() | {"q": tokens, "k": tokens, "v": tokens}
    with pytest.raises(ValueError, match=r"a row of ring keys reaches over 2147485696 numbers, at most 2147483648"):
        rolling_attention(**(valid | {"ring": (part, part)}))


def test_e4m3_wants_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context in FP8 is refused before sm_90, with both capabilities; from sm_90 on it is not."""
    part = SimpleNamespace(dtype=torch.float8_e4m3fn, device=torch.device("cuda:0"))
    monkeypatch.setattr("avatar_kernels.checks._capability", lambda device: (8, 6))
    with pytest.raises(ValueError, match=r"ring keys is torch.float8_e4m3fn, .* 9.0 or later; cuda:0 has 8.6"):
        fp8("ring keys", part)
    monkeypatch.setattr("avatar_kernels.checks._capability", lambda device: (9, 0))
    fp8("ring keys", part)


def test_keys_and_values_of_one_tensor() -> None:
    """Rings that lie in one tensor without a number in common, one behind the other or row by row, are taken."""
    for ring in (_BOTH[:, 0], _BOTH[:, 1]), (_BOTH[:, 1], _BOTH[:, 0]), torch.zeros(2, B, S, N, H, D).unbind():
        with pytest.raises(RuntimeError, match="runs anywhere"):
            qk_norm_rope_cache(**(_norm() | {"ring": ring}))


@pytest.mark.parametrize(
    ("op", "valid"),
    [(rolling_attention, _attention), (qk_norm_rope_cache, _norm), (face_audio_attention, _face), (adaln, _adaln)],
)
def test_says_why_it_cannot_run_here(op: Callable[..., object], valid: Callable[[], dict[str, object]]) -> None:
    """Valid input on a device without kernels is a RuntimeError that names the way out, never a silent other path."""
    with pytest.raises(RuntimeError, match=rf"{op.__name__}: .*avatar_kernels.{op.__name__}.reference runs anywhere"):
        op(**valid())


def test_why_not_names_the_reason() -> None:
    """The CPU, other makers' devices and GPUs that are not there are each told apart."""
    if why_not("cpu") == "Triton is not installed":
        pytest.skip("Triton is not installed")
    assert "interpreter" in (why_not("cpu") or "")
    assert "'mps'" in (why_not("mps") or "")
    assert "CUDA device" in (why_not("cuda:99") or "")


def test_the_interpreter_offers_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels are the interpreter's, a GPU is refused with that reason, and the CPU is not."""
    if why_not("cpu") == "Triton is not installed":
        pytest.skip("Triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "TRITON_INTERPRET is set" in (why_not("cuda") or "")
    assert why_not("cpu") is None


def test_imports_without_triton() -> None:
    """Where Triton is missing everything imports, references run, and a call says what is missing."""
    code = f"""
import importlib, importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.partition(".")[0] == "triton" else real(name, *a)
import avatar_kernels
assert "torch" not in sys.modules, "torch was imported"
for op in {OPS!r}:
    for part in ("", ".reference", ".configs"):
        importlib.import_module(f"avatar_kernels.{{op}}{{part}}")
import avatar_kernels.ahead, torch
from avatar_kernels.adaln import adaln
from avatar_kernels.adaln.reference import adaln_reference
from avatar_kernels.checks import fp8
assert adaln_reference(torch.randn(1, 2, 8)).level.shape == (1, 2, 8)
assert avatar_kernels.why_not("cuda") == "Triton is not installed"
try:
    adaln(torch.randn(1, 2, 8))
except RuntimeError as error:
    assert "Triton is not installed" in str(error), error
else:
    raise AssertionError("a kernel ran without Triton")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_rolling_reference_is_the_models_attention() -> None:
    """The truth beside the kernel computes what the model computes from its own view of the ring."""
    from streamer.model import attention
    from streamer.model.kv_cache import Cache
    from streamer.model.runtime.slots import pairs

    edge, written = 3, torch.tensor([0, 2, 3, 8])
    q, k, v = (torch.randn(4, edge**2, H, D) for _ in range(3))
    sink = torch.randn(4, edge**2, H, D), torch.randn(4, edge**2, H, D)
    ring = torch.randn(4, S, edge**2, H, D), torch.randn(4, S, edge**2, H, D)
    table = attention.rotation_table(edge, S, D, 16)
    turned = attention.rotate(sink[0], table[1, 0][:, None]), sink[1]
    cache = Cache(ring[0][None], ring[1][None], sink[0][None], sink[1][None], written)
    seen = tuple(part[0] for part in cache.read())
    now = q[:, None], k[:, None], v[:, None]
    models = attention.rolling_attention(*now, sink, seen, cache.filled, table)[:, 0]
    given = q, k, v, sink, ring, written, pairs(table)
    assert (models - rolling_attention_reference(*given, precision=torch.float64)).abs().max() < 1e-5
    given = q, k, v, turned, ring, written, pairs(table)
    ours = rolling_attention_reference(*given, sink_turned=True, precision=torch.float64)
    assert (models - ours).abs().max() < 1e-5


def test_face_reference_is_the_models_attention() -> None:
    """The truth beside the kernel computes what the model does, for several faces; the residual comes on top."""
    from streamer.model import attention

    given = _face() | {"k": torch.randn(B, 2, W, H, D), "v": torch.randn(B, 2, W, H, D), "faces": torch.rand(B, 2, N)}
    residual = given.pop("residual")
    given["strength"] = torch.tensor(0.3)
    models = attention.face_audio_attention(*given.values())
    ours = face_audio_attention_reference(**given, residual=residual, precision=torch.float64)
    assert (residual + models - ours).abs().max() < 1e-5


def test_norm_reference_is_the_models() -> None:
    """Normed, turned and kept as the model's own modules do it: `HeadNorm`, `rotate` and `Cache.append`."""
    from streamer.model import attention
    from streamer.model.kv_cache import Cache
    from streamer.model.runtime.slots import pairs
    from streamer.model.transformer import HeadNorm

    given = _norm()
    q, k, v, ring, written = (given[name] for name in ("q", "k", "v", "ring", "written"))
    table = attention.rotation_table(1, S, D, 16).expand(-1, -1, N, -1, -1)
    norms = HeadNorm(D), HeadNorm(D)
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    cache = Cache(*(part[None].clone() for part in ring), k[None, :, :0], k[None, :, :0], written.clone())
    with torch.no_grad():
        turned = attention.rotate(norms[0](q), table[0, cache.filled][:, :, None])
        cache.append(norms[1](k)[None], v[None])
        ours = qk_norm_rope_cache_reference(q, k, v, norms[0].weight, norms[1].weight, ring, written, pairs(table))
    assert (turned - ours[0]).abs().max() < 1e-5
    assert (cache.ring_keys[0] - ring[0]).abs().max() < 1e-5
    assert torch.equal(cache.ring_values[0], ring[1])


def test_adaln_reference_is_the_models() -> None:
    """Gate, residual, norm and modulation are the model's."""
    from streamer.model.transformer import _modulated

    given = _adaln()
    x = given["x"] + given["gate"] * given["branch"]
    ours = adaln_reference(**given, precision=torch.float64)
    assert (x - ours.x).abs().max() < 1e-5
    assert (_modulated(x, given["shift"], given["scale"]) - ours.level).abs().max() < 1e-5


def test_the_measure_of_error_sees_what_is_wrong() -> None:
    """An error above the table's tolerance, NaN, and infinity all exceed it; rounding does not."""
    truth = torch.randn(100, dtype=torch.float64)
    for dtype, (relative, absolute) in TOLERANCES.items():
        assert excess(truth.to(dtype), truth) < 1
        wrong = truth.clone()
        wrong[7] += 3 * (absolute + relative * wrong[7].abs())
        assert excess(wrong.to(dtype), truth) > 1
        for bad in (torch.nan, torch.inf):
            broken = truth.to(dtype)
            broken[3] = bad
            assert excess(broken, truth) == torch.inf
    with pytest.raises(ValueError, match=r"\[3\] and reference \[4\]"):
        excess(torch.zeros(3), torch.zeros(4))


GPUS = st.sampled_from([Gpu(108, 163 * 1024, (8, 0)), Gpu(82, 99 * 1024, (8, 6)), Gpu(132, 227 * 1024, (9, 0))])


@given(st.integers(16, 64), st.sampled_from(list(TOLERANCES)), st.integers(1, 3000), st.integers(1, 5000), GPUS)
def test_sizes_fit_the_gpu(half: int, dtype: torch.dtype, lines: int, tokens: int, gpu: Gpu) -> None:
    """Whatever the shape, the chosen tiles are ones that a tensor core takes, and fit into the GPU's shared memory."""
    config = choose(2 * half, dtype, lines, tokens, gpu)
    assert config.queries >= 16 and config.keys >= 16 and config.warps in (4, 8)
    assert power_of_two(config.queries) == config.queries and power_of_two(config.keys) == config.keys
    assert shared_memory(2 * half, config) <= gpu.shared_memory


@given(st.integers(1, 10_000), st.integers(1, 400), st.integers(1, 200))
def test_keys_are_split_to_fill_the_gpu(programs: int, tiles: int, multiprocessors: int) -> None:
    """Splits never overfill the GPU, never leave a part less than two tiles, and stop where programs fill it."""
    count = parts(programs, tiles, multiprocessors, 64)
    assert 1 <= count <= 64
    if count > 1:
        assert programs * count <= multiprocessors and count * 2 <= tiles
    if programs >= multiprocessors:
        assert count == 1


def test_shapes_are_the_presets() -> None:
    """What is compiled and measured is what the model's presets have."""
    from streamer.model.config import preset

    for shape in (NANO, LIVE):
        model = preset(shape.name)
        transformer = model.transformer
        found = (transformer.heads, transformer.head, model.tokens, transformer.context, transformer.window)
        assert (shape.heads, shape.head, shape.tokens, shape.context, shape.window) == found
    assert (LARGE_FRAME.queries, LARGE_FRAME.keys, LARGE.queries, LARGE.keys) == (1560, 4680, 4680, 18720)


def test_one_session_of_live_is_split() -> None:
    """A lone session would leave most multiprocessors of an H200 idle: its keys are split."""
    gpu = Gpu(132, 227 * 1024, (9, 0))
    config = choose(64, torch.bfloat16, 10, 256, gpu)
    assert parts(10 * -(-256 // config.queries), 1792 // config.keys, gpu.multiprocessors, 64) > 1
    assert config in set(candidates(64, torch.bfloat16, gpu))
