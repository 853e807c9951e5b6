"""`rolling_attention` under Triton's interpreter, against its float64 reference."""

import pytest
import torch
from avatar_kernels.qk_norm_rope_cache import qk_norm_rope_cache
from avatar_kernels.qk_norm_rope_cache.reference import qk_norm_rope_cache_reference
from avatar_kernels.ring import rotate
from avatar_kernels.rolling_attention import MAX_SPLITS, rolling_attention
from avatar_kernels.rolling_attention.reference import rolling_attention_reference
from avatar_kernels.tolerances import TOLERANCES, excess
from hypothesis import given
from hypothesis import strategies as st
from kernels_cases.scenes import Scene

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


def check(scene: Scene, **options: object) -> torch.Tensor:
    out = rolling_attention(*scene.inputs, **scene.options, **options)
    options.pop("splits", None)
    truth = rolling_attention_reference(*scene.inputs, **scene.options, **options, precision=torch.float64)
    assert excess(out, truth) <= 1
    return out


@DTYPES
@pytest.mark.parametrize("head", [32, 40, 64, 96, 128])
def test_sessions_at_different_positions(head: int, dtype: torch.dtype) -> None:
    """Empty, part-filled, full and long-turned rings in one batch, odd heads, every dtype: equal to the reference."""
    check(Scene([0, 2, 3, 10**12 + 1], head=head, dtype=dtype))


@pytest.mark.parametrize("count", range(8))
def test_the_seam(count: int) -> None:
    """At, before and across the ring's seam, a session alone sees its frames in their order and nothing else."""
    check(Scene([count], tokens=7))


@DTYPES
@pytest.mark.parametrize("splits", [2, 5])
def test_split_keys(splits: int, dtype: torch.dtype) -> None:
    """Keys dealt into parts give the same, also where sessions have different counts of tiles."""
    check(Scene([0, 50, 1], tokens=37, heads=1, dtype=dtype), splits=splits)


@DTYPES
def test_tiles_of_every_size(dtype: torch.dtype) -> None:
    """Few, some and many current tokens take tiles of different sizes, none of which they fill."""
    for tokens in (9, 20, 50, 131):
        check(Scene([4], tokens=tokens, heads=1, slots=2, dtype=dtype))


def test_more_parts_than_tiles() -> None:
    """Parts that are left without a tile weigh nothing."""
    check(Scene([0, 2]), splits=MAX_SPLITS)


@DTYPES
@pytest.mark.parametrize("splits", [1, 3])
def test_a_context_in_e4m3(splits: int, dtype: torch.dtype) -> None:
    """FP8 keys and values count for their head's scale, beside a sink and current tokens of full precision."""
    check(Scene([0, 2, 7], head=40, dtype=dtype, fp8=True), splits=splits)


@pytest.mark.parametrize("references", [0, 2])
def test_no_sink_and_several_references(references: int) -> None:
    """References all stand at index -1; there may be none."""
    check(Scene([0, 4], references=references))


@pytest.mark.parametrize("frames", [2, 3])
def test_several_current_frames(frames: int) -> None:
    """Frames of one step stand behind one another and all see each other."""
    check(Scene([1, 3], frames=frames))


def test_a_ring_of_no_slots() -> None:
    """Without context, only sink and current tokens are seen."""
    check(Scene([0, 0], slots=0))


@pytest.mark.parametrize("context", [0, 2, 3])
def test_a_context_smaller_than_the_ring(context: int) -> None:
    """Only the newest frames are seen, on either side of the seam."""
    check(Scene([0, 2, 4, 5, 6], slots=4, context=context))


def test_a_session_does_not_see_its_neighbours() -> None:
    """In a batch, each row comes out bit for bit as alone."""
    scene = Scene([0, 2, 9], tokens=6)
    together = check(scene)
    for row in range(3):
        only = slice(row, row + 1)
        alone = rolling_attention(
            scene.q[only],
            scene.k[only],
            scene.v[only],
            (scene.sink[0][only], scene.sink[1][only]),
            (scene.ring[0][only], scene.ring[1][only]),
            scene.written[only],
            scene.table,
        )
        assert torch.equal(alone, together[only])


def test_positions_are_relative() -> None:
    """The same frames one slot further on, a frame later, give the same bits: absolute time plays no part."""
    scene = Scene([6, 300])
    before = check(scene)
    scene.ring = tuple(part.roll(1, 1) for part in scene.ring)
    scene.written += 1
    assert torch.equal(check(scene), before)


def test_queries_that_are_turned_already() -> None:
    """Turned queries are left alone."""
    scene = Scene([1, 4])
    plain = check(scene)
    own = scene.table[scene.written.clamp(max=3) + 1]
    scene.q = rotate(scene.q, own)
    assert torch.allclose(check(scene, q_turned=True), plain, atol=1e-5)


@pytest.mark.parametrize("references", [1, 2])
def test_a_sink_that_was_turned_once(references: int) -> None:
    """Turned ahead of time or on load, the sink's keys count for the same."""
    scene = Scene([1, 4], references=references)
    plain = check(scene)
    place = scene.table[:1].expand(references, -1, -1, -1).flatten(0, 1)
    scene.sink = rotate(scene.sink[0], place), scene.sink[1]
    assert torch.allclose(check(scene, sink_turned=True), plain, atol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    """Scores of tens of thousands become weights of 0 and 1."""
    scene = Scene([2])
    scene.q.mul_(1000)
    assert rolling_attention(*scene.inputs).isfinite().all()


def test_a_frame_is_kept_before_its_step_has_looked() -> None:
    """With a spare slot, a frame is written into the ring and still attends to all frames behind it, as without."""
    counts = [0, 2, 3, 7]
    scene = Scene(counts, slots=4, context=3)
    weight = torch.ones(32)
    truth_q, truth_k = qk_norm_rope_cache(
        scene.q, scene.k, scene.v, weight, weight, scene.ring, scene.written, scene.table, context=3, write=False
    )
    behind = (truth_q, truth_k, scene.v, scene.sink)
    truth = rolling_attention_reference(
        *behind, scene.ring, scene.written, scene.table, context=3, q_turned=True, precision=torch.float64
    )
    q, k = qk_norm_rope_cache(
        scene.q, scene.k, scene.v, weight, weight, scene.ring, scene.written, scene.table, context=3
    )
    out = rolling_attention(q, k, scene.v, scene.sink, scene.ring, scene.written, scene.table, context=3, q_turned=True)
    assert excess(out, truth) <= 1
    for row, count in enumerate(counts):
        assert torch.equal(scene.ring[0][row, count % 4], k[row])


def test_remembering_and_drawing_in_one_pass() -> None:
    """Two rows for each session: the first is written into the ring and looks back, the second sees it, too."""
    counts = [0, 2, 3, 7]
    old = Scene(counts, slots=4, context=3)
    new = Scene(counts, slots=4, context=3)
    weight = 0.5 + torch.rand(32)
    q, k, v = (torch.cat([getattr(scene, name) for scene in (old, new)]) for name in "qkv")
    written = torch.cat([old.written, old.written + 1])
    exact = tuple(part.double() for part in old.ring)
    given = q, k, v, weight, weight
    truth_q, truth_k = qk_norm_rope_cache_reference(
        *given, exact, written, old.table, context=3, precision=torch.float64
    )
    parts = []
    for rows in (slice(0, 4), slice(4, 8)):
        behind = truth_q[rows], truth_k[rows], v[rows].double(), old.sink, exact, written[rows], old.table
        parts.append(rolling_attention_reference(*behind, context=3, q_turned=True, precision=torch.float64))
    q, k = qk_norm_rope_cache(*given, old.ring, written, old.table, context=3)
    for splits in (1, 2):
        out = rolling_attention(
            q, k, v, old.sink, old.ring, written, old.table, context=3, q_turned=True, splits=splits
        )
        assert excess(out, torch.cat(parts)) <= 1
    for part, wanted in zip(old.ring, exact, strict=True):
        assert torch.allclose(part.nan_to_num(), wanted.float().nan_to_num(), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_table_of_half_the_bytes(dtype: torch.dtype) -> None:
    """Angles in float16 keep 16-bit attention within the tolerance of exact ones."""
    scene = Scene([1, 5], dtype=dtype)
    truth = rolling_attention_reference(*scene.inputs, precision=torch.float64)
    scene.table = scene.table.half()
    assert excess(rolling_attention(*scene.inputs), truth) <= 1


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=3),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(16, 64),
    st.integers(0, 4),
    st.integers(0, 2),
    st.integers(1, 4),
    st.data(),
)
def test_any_shape(
    written: list[int],
    tokens: int,
    heads: int,
    half: int,
    slots: int,
    references: int,
    splits: int,
    data: st.DataObject,
) -> None:
    """Any valid shape, position and number of parts is right."""
    context = data.draw(st.integers(0, slots), "context")
    scene = Scene(
        written, tokens=tokens, heads=heads, head=2 * half, slots=slots, context=context, references=references
    )
    check(scene, splits=splits)
