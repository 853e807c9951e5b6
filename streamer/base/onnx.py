"""Small networks that onnxruntime runs: weights in a file, opened with a clear word where the file is none of them."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime


class BadNetwork(ValueError):
    """Weights that are damaged, or another network's; the text says which file and what is wrong."""


def load_onnx_session(
    path: Path, what: str, takes: Collection[str], gives: Collection[str], threads: int = 1
) -> "onnxruntime.InferenceSession":
    """
    The network with the weights at `path`, on the CPU, which must have inputs called `takes` and outputs called `gives`
    among its own; `what` it is called in errors. Raises FileNotFoundError or BadNetwork.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}")
    import onnxruntime  # 0.1 s that not every command needs

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A waiting thread sleeps: spinning would take the core that draws or encodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class of their own
        raise BadNetwork(f"the {path.stat().st_size} bytes of {path} are no {what}: {error}") from None
    inputs, outputs = [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]
    if not (set(takes) <= set(inputs) and set(gives) <= set(outputs)):
        raise BadNetwork(
            f"{path} is another network than {what}: it takes {', '.join(inputs)} and gives {', '.join(outputs)}, "
            f"not {', '.join(takes)} and {', '.join(gives)}"
        )
    return session
