"""The Triton kernels and the neural generator's step on a GPU: each module is a program."""

from streamer.base.errors import NotInstalled
from streamer.base.extras import import_extra

try:
    import_extra("torch", "gpu", "benchmarks.kernels")
except NotInstalled as error:
    raise SystemExit(str(error)) from None
