"""What the GPU benchmarks share: the card's description, reasons that fit into a table, files written row by row."""

import importlib.metadata
import importlib.util
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib import hardware


def reason_of(error: Exception) -> str:
    """What went wrong, in a line that a table can hold."""
    text = (str(error).strip().splitlines() or ["without a word"])[0]
    return f"{type(error).__name__}: {text[:160]}".replace("|", "/")


def finite(error: float | None) -> float | None:
    """As JSON can hold it: infinity and NaN are no numbers there."""
    return error if error is not None and math.isfinite(error) else None


def write(path: Path | None, result: dict[str, Any]) -> None:
    """The whole file, in place of the last one at once: whenever this ends, one of them is there."""
    if path:
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.replace(path)


def describe(device: str) -> dict[str, Any]:
    """The machine, the versions, and the GPU where one was measured."""
    found = hardware.describe() | {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if device == "cpu":
        return found
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm", "--format=csv"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as trouble:
        driver = [f"nvidia-smi: {trouble}"]
    card = torch.cuda.get_device_properties(device)
    return found | {
        "gpu": card.name,
        "multiprocessors": card.multi_processor_count,
        "capability": f"{card.major}.{card.minor}",
        "l2_cache": getattr(card, "L2_cache_size", None),
        "nvidia_smi": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "triton": importlib.metadata.version("triton") if importlib.util.find_spec("triton") else None,
    }
