"""Loads small networks into onnxruntime, with clear errors for weight files that are damaged or belong elsewhere."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime


class BadNetwork(ValueError):
    """Weights that are damaged or belong to a different network. The message names the file and the problem."""


def load_onnx_session(
    path: Path, what: str, takes: Collection[str], gives: Collection[str], threads: int = 1
) -> "onnxruntime.InferenceSession":
    """
    Loads the network at `path` on the CPU. Its inputs must include the names in `takes`, its outputs those in `gives`;
    `what` names the network in errors. Raises FileNotFoundError or BadNetwork.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}")
    import onnxruntime  # takes 0.1 s, which commands that need no network should not pay

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads must sleep: spinning would occupy the core that renders or encodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise BadNetwork(f"the {path.stat().st_size} bytes of {path} are no {what}: {error}") from None
    inputs, outputs = [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]
    if not (set(takes) <= set(inputs) and set(gives) <= set(outputs)):
        raise BadNetwork(
            f"{path} is another network than {what}: it takes {', '.join(inputs)} and gives {', '.join(outputs)}, "
            f"not {', '.join(takes)} and {', '.join(gives)}"
        )
    return session
