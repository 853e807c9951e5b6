"""Where things are in the checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout's root: processes that a benchmark starts run here."""

RESULTS = ROOT / "benchmarks" / "results"
"""Where each benchmark writes its JSON unless `--out` says otherwise; documentation links to these files."""

SPEECH = ROOT / "clients" / "page" / "sample.wav"
"""The recording that every benchmark speaks with."""

PICTURES = ROOT / "docs" / "pictures"

PYTHON_CLIENT = ROOT / "clients" / "python"
