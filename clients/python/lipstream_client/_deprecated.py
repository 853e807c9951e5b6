"""Old names of methods, kept for one version."""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed(old: str, method: Callable[P, R]) -> Callable[P, R]:
    """`method` under its `old` name: calling it raises a DeprecationWarning that names the new one."""

    @functools.wraps(method)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        warnings.warn(f"{old}() is now {method.__name__}()", DeprecationWarning, stacklevel=2)
        return method(*arguments, **options)

    return call
