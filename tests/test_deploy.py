"""The deployment's files, which cannot be run here: each names only what the server, coturn and Prometheus have."""

import argparse
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from coturn import TURNSERVER, _answers
from lipstream_client import Client

from streamer.base.metrics import STAGES, Metrics
from streamer.server.options import PREFIX, ServerOptions, read_options

ROOT = Path(__file__).parent.parent
ASKED = {
    "LIPSTREAM_PUBLIC_IP": "127.0.0.1",
    "LIPSTREAM_TOKEN": "token",
    "LIPSTREAM_TURN_SECRET": "north",
    "GRAFANA_PASSWORD": "word",
}
"""The variables that compose.yaml asks of its user."""


def substituted(text: str, given: dict[str, str]) -> str:
    """As Compose does it: ${NAME}, ${NAME:-default}, ${NAME:?message}, the last two of which also mind empty values."""

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if given.get(name):
            return given[name]
        assert operator == ":-", f"{name} is not set: {rest}"
        return rest

    return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, text)


def compose(**given: str) -> dict[str, Any]:
    return yaml.safe_load(substituted((ROOT / "compose.yaml").read_text(), ASKED | given))["services"]


def dashboard() -> dict[str, Any]:
    return json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "lipstream.json").read_text())


def expressions() -> list[tuple[str, str]]:
    """(panel, PromQL) of each of the dashboard's targets, and the queries of its variables."""
    board = dashboard()
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]
    return found + [(v["name"], v["query"]["query"]) for v in board["templating"]["list"] if v["type"] == "query"]


def exported() -> dict[str, set[str]]:
    """The time series that the server exports, and the labels of each."""
    series: dict[str, set[str]] = {}
    for metric in Metrics().registry.collect():
        suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(metric.type, ("",))
        for suffix in suffixes:
            series[metric.name + suffix] = {"le"} if suffix == "_bucket" else set()
    for metric in vars(Metrics()).values():
        labels = set(getattr(metric, "_labelnames", ()))
        name = getattr(metric, "_name", None)
        for each in series:
            if name and re.fullmatch(rf"{name}(_bucket|_sum|_count|_total)?", each):
                series[each] |= labels
    return series


class TestDashboard:
    @pytest.mark.parametrize(("panel", "expression"), expressions())
    def test_names_metrics_that_the_server_exports(self, panel: str, expression: str) -> None:
        """Each expression names time series of the server, and no label that they do not have."""
        series = exported()
        names = set(re.findall(r"\blipstream_\w+", expression))
        assert names and names <= set(series), names - set(series)
        labels = set(re.findall(r'(\w+)\s*[=!]~?\s*"', expression))
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            labels |= {label.strip() for label in group.split(",")}
        assert labels <= set.union({"instance"}, *(series[name] for name in names))

    @pytest.mark.parametrize(("panel", "expression"), expressions())
    def test_counters_are_rates_and_quantiles_keep_their_buckets(self, panel: str, expression: str) -> None:
        """A counter or a bucket is never shown raw, and a quantile is taken of buckets summed with `le`."""
        for name in re.findall(r"\blipstream_\w+(?:_total|_bucket|_sum|_count)\b", expression):
            assert re.search(rf"rate\({name}\{{[^}}]*\}}\[\$__rate_interval\]\)", expression), name
        if "histogram_quantile" in expression:
            assert re.search(r"sum by \(le\b", expression)
        assert expression.count("(") == expression.count(")")

    def test_shows_what_an_operator_asks(self) -> None:
        """Latency by stage, frames left out, sessions, refusals and step time are on it."""
        shown = " ".join(expression for _, expression in expressions())
        for name in (
            "stage_seconds",
            "capture_to_sent_seconds",
            "frames_total",
            "sessions",
            "refused_total",
            "step_seconds",
        ):
            assert f"lipstream_{name}" in shown
        assert 'fate!="sent"' in shown

    def test_panels_do_not_overlap(self) -> None:
        """Panels have unique ids and lie side by side in Grafana's 24 columns."""
        panels = dashboard()["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells

    def test_is_provisioned(self) -> None:
        """Grafana finds the dashboard and the data source where compose.yaml mounts them."""
        mounts = dict(volume.split(":")[:2] for volume in compose()["grafana"]["volumes"])
        provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/lipstream.yml").read_text())
        assert provider["providers"][0]["options"]["path"] == mounts["./deploy/grafana/dashboards"]
        source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
        assert source["datasources"][0]["url"] == "http://prometheus:9090"

    @pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
    def test_promql(self, tmp_path: Path) -> None:
        """Prometheus' own parser takes each expression."""
        rules = [
            {"record": f"r{i}", "expr": expression.replace("$__rate_interval", "1m")}
            for i, (_, expression) in enumerate(expressions())
            if not expression.startswith("label_values")
        ]
        path = tmp_path / "rules.yml"
        path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        checked = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


class TestStages:
    @pytest.mark.usefixtures("leaves_nothing", "any_load")
    async def test_stages_of_sent_frames_add_up(self, server: Any) -> None:
        """Each frame that was sent is counted in every stage, and the stages' sums are the whole latency's."""
        before = await _samples(server.url)
        async with Client(server.url) as client, client.session(size=128) as session:
            for _ in range(10):
                await anext(session.frames())
        after = await _samples(server.url)
        grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
        frames = grown["lipstream_capture_to_sent_seconds_count"]
        assert frames >= 10
        assert [grown[f'lipstream_stage_seconds_count{{stage="{stage}"}}'] for stage in STAGES] == [frames] * 5
        whole = sum(grown[f'lipstream_stage_seconds_sum{{stage="{stage}"}}'] for stage in STAGES)
        assert whole == pytest.approx(grown["lipstream_capture_to_sent_seconds_sum"], abs=1e-6)


async def _samples(url: str) -> dict[str, float]:
    async with httpx.AsyncClient(trust_env=False) as http:
        lines = (await http.get(f"{url}/metrics")).text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


class TestCompose:
    def test_asks_for_its_secrets(self) -> None:
        """Without a token, an address, a secret or a password, Compose refuses to start."""
        for name in ASKED:
            with pytest.raises(AssertionError, match=f"{name} is not set"):
                compose(**{name: ""})

    def test_variables_are_options_of_the_server(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The server reads its environment as it is written there, and shares the secret with coturn."""
        service = compose()["lipstream"]
        environment = {**docker_env(), **service["environment"]}
        options = {name for name in environment if name.startswith(PREFIX)}
        assert {name.removeprefix(PREFIX).lower() for name in options} <= set(ServerOptions.model_fields)
        monkeypatch.chdir(tmp_path)
        for name in options:
            monkeypatch.setenv(name, str(environment[name]))
        assert f"recordings:{environment['LIPSTREAM_RECORD_DIR']}" in service["volumes"]
        monkeypatch.setenv("LIPSTREAM_RECORD_DIR", str(tmp_path))
        read = read_options(argparse.Namespace()).options
        assert read.turn_url == ("turn:127.0.0.1:3478?transport=udp", "turn:127.0.0.1:3478?transport=tcp")
        assert (
            read.turn_secret is not None
            and f"--static-auth-secret={read.turn_secret.get_secret_value()}" in (compose()["coturn"]["command"])
        )
        config = read.config()
        assert (config.host, config.udp_ports, config.turn is not None) == ("0.0.0.0", (50000, 50100), True)

    def test_ports_are_the_images(self) -> None:
        """Published ports are those that the server binds in its container."""
        published = {port.split(":")[-1] for port in compose()["lipstream"]["ports"]}
        environment = {**docker_env(), **compose()["lipstream"]["environment"]}
        assert published == {f"{environment['LIPSTREAM_PORT']}/tcp", f"{environment['LIPSTREAM_UDP_PORTS']}/udp"}
        exposed = re.search(r"^EXPOSE (.*)$", (ROOT / "Dockerfile").read_text(), re.M)
        assert exposed is not None and set(exposed[1].split()) == published

    def test_prometheus_asks_the_server(self) -> None:
        """The scraped address is the service's name and port."""
        config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
        (job,) = config["scrape_configs"]
        assert job["static_configs"] == [{"targets": [f"lipstream:{docker_env()['LIPSTREAM_PORT']}"]}]
        assert "lipstream" in compose()

    def test_only_loopback_is_published_over_tcp(self) -> None:
        """Page and dashboard are reached from this host only, where TLS can be put in front."""
        for service in compose().values():
            for port in service.get("ports", []):
                assert port.startswith("127.0.0.1:") or port.endswith("/udp")

    @pytest.mark.skipif(TURNSERVER is None, reason="coturn is not installed")
    def test_coturn_takes_its_options(self, tmp_path: Path) -> None:
        """A real coturn starts with the options of compose.yaml and answers."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = [
            argument.replace("--listening-port=3478", f"--listening-port={port}")
            for argument in compose()["coturn"]["command"]
        ]
        arguments += ["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--userdb={tmp_path / 'db'}"]
        log = tmp_path / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(TURNSERVER), *arguments], stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path
            )
        try:
            deadline = time.monotonic() + 20
            while not _answers(("127.0.0.1", port)):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        finally:
            process.terminate()
            process.wait(10)
        said = log.read_text()
        assert not re.search(r"unrecognized|invalid option|bad (argument|address)|wrong", said, re.I), said


def docker_env() -> dict[str, str]:
    """The image's variables."""
    text = (ROOT / "Dockerfile").read_text()
    pairs = [pair for line in re.findall(r"^ENV (.*)$", text, re.M) for pair in line.split()]
    return dict(pair.split("=", 1) for pair in pairs)


def health_check() -> list[str]:
    """The image's health check, as Docker reads it."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.*\])$", text, re.M)
    assert found is not None
    return json.loads(found[1])


class TestImage:
    def test_health_check(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The image's health check passes with a server and fails without one."""
        program, option, code = health_check()
        assert (program, option) == ("python", "-c")
        monkeypatch.setenv("LIPSTREAM_PORT", str(server.config.port))
        monkeypatch.delenv("LIPSTREAM_TLS_CERT", raising=False)
        exec(code, {})
        monkeypatch.setenv("LIPSTREAM_PORT", "1")
        with pytest.raises(urllib.error.URLError):
            exec(code, {})
        monkeypatch.setenv("LIPSTREAM_TLS_CERT", "cert.pem")
        monkeypatch.setenv("LIPSTREAM_PORT", str(server.config.port))
        with pytest.raises((urllib.error.URLError, ssl.SSLError)):  # it asks over TLS, which this server does not speak
            exec(code, {})

    def test_context_holds_what_the_wheel_is_built_from(self) -> None:
        """.dockerignore lets through what the wheel is built from, and nothing that it does not name."""
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        let_through = {line[1:] for line in lines if line.startswith("!")}
        needed = {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "streamer", "kernels", "clients"}
        needed |= {name for name in ("setup.py", "MANIFEST.in", "CHANGELOG.md") if (ROOT / name).exists()}
        assert needed <= let_through
        assert lines[1] == "*"

    def test_is_not_root(self) -> None:
        """The last user of the image is not root, and the wheel is what it installs."""
        text = (ROOT / "Dockerfile").read_text()
        assert re.findall(r"^USER (\S+)$", text, re.M)[-1:] == ["10001"]
        assert "useradd --create-home --uid 10001" in text
        assert "pip install -e" not in text and "/wheels/lipstream-*.whl" in text

    def test_python_is_one_that_the_package_allows(self) -> None:
        """The image's Python is at least the package's."""
        found = re.search(r"^ARG PYTHON=3\.(\d+)$", (ROOT / "Dockerfile").read_text(), re.M)
        assert found is not None and int(found[1]) >= 11 and sys.version_info >= (3, 11)
