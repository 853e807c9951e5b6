"""Nothing that lipstream brings calls anybody, looks up a name or keeps an identifier unless its user asks for it."""

import os
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from quiet import ROOT, Trace, leaves, required, trace

from streamer.base.telemetry import OPT_OUTS, opt_out

IDLE = 20  # seconds

# A server that idles and then has one session, both in this process's namespace.
SERVE = f"""
import asyncio, subprocess, sys, time, urllib.request
import numpy as np
from lipstream_client import Client

url = "http://127.0.0.1:8099"
server = subprocess.Popen([sys.executable, "-m", "streamer", "--port", "8099", "--generator", "rig"])
deadline = time.monotonic() + 120
while True:
    try:
        urllib.request.urlopen(url + "/readyz").close()
        break
    except OSError:
        assert server.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
time.sleep({IDLE})

async def talk():
    async with Client(url) as client, client.session(np.zeros(48_000, np.float32), size=128) as session:
        async for frame in session.frames():
            if frame.pts >= 0:
                return

asyncio.run(asyncio.wait_for(talk(), 60))
server.terminate()
assert server.wait(30) in (0, -15)
print("one session")
"""

# OpenVINO, whose converter reports each use, with a network.
CONVERT = """
from streamer.base.resources import WEIGHTS
from streamer.model.runtime.engines import OpenVino
OpenVino()._core.compile_model(str(WEIGHTS / "face.onnx"), "CPU")
import openvino
openvino.convert_model(str(WEIGHTS / "face.onnx"))
print("converted")
"""

# Without lipstream's opt-out: a library that keeps an identifier, and a look-up.
ASKED = """
import socket, sys
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
try:
    socket.getaddrinfo("lipstream.invalid", 443)
except OSError:
    pass
"""


@pytest.fixture(autouse=True)
def namespace(request: pytest.FixtureRequest) -> None:
    required(request.config)


def check_quiet(done: Trace) -> None:
    assert done.status == 0, done.output
    assert done.calls == []
    strange = [name for name in done.files if not name.startswith(".cache/lipstream/")]
    assert strange == []


def test_commands(tmp_path: Path) -> None:
    """`lipstream config`, and `lipstream doctor`, which looks at the machine."""
    code = "from streamer.cli.main import main; main(['config']); main(['doctor', '--json'])"
    check_quiet(trace(["-c", code], tmp_path, timeout=300))


def test_serve(tmp_path: Path) -> None:
    """A server, while idle and through a session, and the Python client."""
    done = trace(["-c", SERVE], tmp_path, timeout=300)
    check_quiet(done)
    assert "one session" in done.output


def test_render(tmp_path: Path) -> None:
    """`lipstream render`."""
    speech, out = tmp_path / "speech.wav", tmp_path / "out.mp4"
    with wave.open(str(speech), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((8000 * np.sin(np.arange(8_000) / 10)).astype("<i2").tobytes())
    options = ["--generator", "rig", "--size", "128"]
    check_quiet(trace(["-m", "streamer", "render", *options, str(speech), str(out)], tmp_path, timeout=200))
    assert out.stat().st_size > 1000


def test_openvino(tmp_path: Path) -> None:
    """What the neural generator's engine is compiled with."""
    done = trace(["-c", CONVERT], tmp_path, timeout=200)
    check_quiet(done)
    assert "converted" in done.output


def test_a_report_would_be_seen(tmp_path: Path) -> None:
    """The same trace finds the identifier that onnxruntime keeps where its user lets it, and a name looked up."""
    network = next((ROOT / "streamer" / "weights").rglob("*.onnx"))
    done = trace(["-c", ASKED, str(network)], tmp_path, timeout=100, ORT_DISABLE_TELEMETRY="0")
    assert done.status == 0, done.output
    assert done.calls
    assert any(name.endswith("deviceid") for name in done.files)


def test_lines_of_the_trace() -> None:
    """Loopback is not away, a name server is wherever it is, and other families of sockets are nobody's."""
    away = 'connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.1")}, 16) = -1'
    sixth = 'sendto(3, "", 0, 0, {sa_family=AF_INET6, sin6_port=htons(9), inet_pton(AF_INET6, "2001:db8::1"'
    names = 'connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0'
    here = 'connect(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, 16) = 0'
    local = 'connect(3, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0'
    assert [leaves(line) for line in (away, sixth, names, here, local)] == [True, True, True, False, False]


def test_users_setting_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is set is left as it is, and OpenVINO's own consent in the home too; the rest is switched off."""
    environment = {"RAY_USAGE_STATS_ENABLED": "1"}
    opt_out(environment)
    assert environment == {**OPT_OUTS, "RAY_USAGE_STATS_ENABLED": "1"}
    assert os.environ.keys() >= OPT_OUTS.keys()  # `import streamer` did it
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "intel").mkdir()
    for agreed, hidden in (("0", True), ("1", False)):
        (tmp_path / "intel" / "openvino_telemetry").write_text(agreed)
        monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if k != "openvino_telemetry"})
        opt_out({})
        assert (sys.modules.get("openvino_telemetry", "") is None) == hidden


def test_variables_are_documented() -> None:
    """The operators' guide names each variable with its value."""
    guide = (ROOT / "docs" / "operators.md").read_text()
    assert [name for name, value in OPT_OUTS.items() if f"`{name}={value}`" not in guide] == []
