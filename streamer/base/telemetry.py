"""Libraries that report home, told not to. `import streamer` does it; what the user has set stays.

A library reads its setting when it is imported, so `streamer` has to be imported before it.
"""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

OPT_OUTS = {
    "DO_NOT_TRACK": "1",  # a convention that several libraries follow: https://consoledonottrack.com
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime >= 1.29: a machine's id and events for Microsoft
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers, diffusers
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",  # huggingface_hub: asks PyPI for its newest version
    "RAY_USAGE_STATS_ENABLED": "0",  # ray
    "NNCF_CI": "1",  # nncf: does nothing but switch its telemetry off, but for what it reports on import
}
"""Environment variables and the values that switch reports off."""


def opt_out(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets each variable of `OPT_OUTS` that is not set, and hides OpenVINO's telemetry unless the user agreed to it.

    OpenVINO's converter and NNCF report to Google Analytics, the latter when it is imported, and neither asks before or
    has a variable against it. Both do without where `openvino_telemetry` cannot be imported.
    """
    for name, value in OPT_OUTS.items():
        environment.setdefault(name, value)
    if not _agreed():
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not installed


def _agreed() -> bool:
    """Whether the user has run `opt_in_out --opt_in`, which is kept in this file of the user's home."""
    try:
        base = Path(os.environ["LOCALAPPDATA"], "Intel Corporation") if os.name == "nt" else Path.home() / "intel"
        return (base / "openvino_telemetry").read_text(encoding="utf-8").strip() == "1"
    except (OSError, UnicodeDecodeError, KeyError, RuntimeError):  # no such file, or no home
        return False
