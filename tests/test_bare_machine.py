"""The first command on a machine without graphics libraries: it serves, and draws, all the same."""

import ctypes
import json
import os
import re
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from streamer.avatar import capacity

PNG = b"\x89PNG\r\n\x1a\n"
PHOTOGRAPH = Path(__file__).parent.parent / "docs" / "pictures" / "astronaut.jpg"
HIDDEN = ("libEGL.so.1", "libGL.so.1", "libGLX.so.0", "libexpat.so.1", "libX11.so.6", "libfontconfig.so.1")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="hides libraries from Linux's loader")


@pytest.fixture
def hiding(tmp_path: Path) -> dict[str, str]:
    """An environment in which each hidden library, asked for by whomever, cannot be loaded.

    The loader meets a file that is no library under its name before the real one, and gives up with an error.
    """
    for name in HIDDEN:
        (tmp_path / name).write_bytes(b"hidden")
    return {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONUNBUFFERED": "1"}


def test_hiding_hides(hiding: dict[str, str]) -> None:
    """The check itself can fail: in that environment loading a hidden library is an error."""
    code = (
        "import ctypes, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try: ctypes.CDLL(name)\n"
        "    except OSError: continue\n"
        "    sys.exit(name)"
    )
    assert subprocess.run([sys.executable, "-c", code, *HIDDEN], env=hiding, timeout=30).returncode == 0


@pytest.mark.parametrize("generator", ["auto", "neural"])
def test_it_serves_and_draws_without_them(hiding: dict[str, str], tmp_path: Path, generator: str) -> None:
    """
    `lipstream` comes up, announces its address and draws a character and a photograph; none of the libraries is ever
    mapped, nor are the networks' engines where it is remembered that they do not keep up here.
    """
    command = [sys.executable, "-m", "streamer", "--port", "0", "--generator", generator]
    if generator == "neural":
        command += ["--device", "cpu"]  # to look for CUDA would load torch
    else:
        hiding = hiding | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        given = capacity.circumstances("auto")
        path = capacity.memory(given, tmp_path / "cache" / "lipstream")
        capacity.remember(given, path, capacity.Measured("cpu", (0.05,) * 40))
    process = subprocess.Popen(command, env=hiding, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert match, line
        url = f"{match[0]}/v1/characters/3/picture?size=128"
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read(8) == PNG
        photograph = urllib.request.Request(
            f"{match[0]}/v1/characters", PHOTOGRAPH.read_bytes(), {"Content-Type": "image/jpeg"}
        )
        with urllib.request.urlopen(photograph, timeout=60) as answer:
            made = json.load(answer)
        assert made["face"] is True
        with urllib.request.urlopen(f"{match[0]}{made['picture']}?size=128", timeout=60) as answer:
            assert answer.read(8) == PNG
        mapped = Path(f"/proc/{process.pid}/maps").read_text()
        assert "thorvg" in mapped and "cv2" in mapped
        assert "libtorch" not in mapped
        assert ("openvino" in mapped) == (generator == "neural" and find_spec("openvino") is not None)
        assert not [name for name in HIDDEN if name.partition(".")[0] + ".so" in mapped]
    finally:
        process.terminate()
        assert process.wait(20) in (0, -15)
        process.stdout.close()


def test_the_drawing_library_needs_only_the_c_runtime() -> None:
    """ThorVG's shared object names no library beyond libc, libm, libstdc++ and their kin."""
    from streamer.studio.canvas import library_path

    listing = subprocess.run(["ldd", str(library_path())], capture_output=True, text=True, timeout=30)
    if listing.returncode != 0:
        pytest.skip("ldd cannot read the library here")
    needed = {line.split()[0].partition(".so")[0].rsplit("/", 1)[-1] for line in listing.stdout.splitlines()}
    allowed = {
        "linux-vdso",
        "libc",
        "libm",
        "libstdc++",
        "libgcc_s",
        "libpthread",
        "libdl",
        "ld-linux-x86-64",
        "ld-linux-aarch64",
    }
    assert needed <= allowed, needed - allowed
    ctypes.CDLL(str(library_path()))
