"""What the kernels' cases share. They run under Triton's interpreter: `test_kernels_interpreted.py` starts them."""

from collections.abc import Iterator

import pytest
import torch
from avatar_kernels import interpreted
from hypothesis import settings
from torch import Tensor

assert interpreted(), "set TRITON_INTERPRET=1 to run these cases by hand"

settings.register_profile("kernels", max_examples=12, deadline=None, derandomize=True)
settings.load_profile("kernels")


@pytest.fixture(autouse=True, scope="session")
def poisoned() -> Iterator[None]:
    """Memory that a launch takes for its outputs holds NaN, so that a number that is not written is seen."""
    empty = torch.empty

    def nan(*size: object, **options: object) -> Tensor:
        made = empty(*size, **options)  # type: ignore[call-overload]
        return made.fill_(torch.nan) if made.is_floating_point() else made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", nan)
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
