"""What `lipstream` refuses before it loads anything, and how it ends when it is interrupted."""

import contextlib
import datetime
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from streamer.base.pem import BadPem, read_pair
from streamer.cli import bench, interrupts, main
from streamer.server.startup import check_address, check_tls

DAY = datetime.timedelta(days=1)
ROOT = Path(__file__).parent.parent


def _certificate(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, begins: int = -1, ends: int = 1
) -> x509.Certificate:
    """Self-signed, valid from `begins` to `ends` days from now."""
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")]), datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now + begins * DAY).not_valid_after(now + ends * DAY)
    return builder.sign(key, hashes.SHA256())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key, and what people give instead of them."""
    folder = tmp_path_factory.mktemp("tls")
    own, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    small = rsa.generate_private_key(65537, 1024)
    for name, key, form in (
        ("key.pem", own, NoEncryption()),
        ("other.pem", other, NoEncryption()),
        ("locked.pem", own, BestAvailableEncryption(b"secret")),
        ("small.pem", small, NoEncryption()),
    ):
        (folder / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, form))
    (folder / "key.der").write_bytes(own.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    cert = _certificate(own).public_bytes(Encoding.PEM)
    (folder / "cert.pem").write_bytes(cert)
    (folder / "cert.der").write_bytes(_certificate(own).public_bytes(Encoding.DER))
    (folder / "small_cert.pem").write_bytes(_certificate(small).public_bytes(Encoding.PEM))
    (folder / "cut.pem").write_bytes(cert[: len(cert) // 2])
    (folder / "text.pem").write_text("to be done")
    (folder / "empty.pem").touch()
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "both.pem").write_bytes(cert + (folder / "key.pem").read_bytes())
    (folder / "old.pem").write_bytes(_certificate(own, -3, -1).public_bytes(Encoding.PEM))
    (folder / "early.pem").write_bytes(_certificate(own, 1, 3).public_bytes(Encoding.PEM))
    return folder


WRONG = [
    ("missing.pem", "key.pem", "missing.pem is not a file"),
    ("cert.pem", "missing.pem", "missing.pem is not a file"),
    ("folder", "key.pem", "folder is a folder, not a file"),
    ("cert.pem", "pipe", "pipe is not a file"),
    ("empty.pem", "key.pem", "empty.pem is empty: 0 bytes"),
    ("text.pem", "key.pem", "text.pem holds no certificate in PEM"),
    ("cut.pem", "key.pem", "cut.pem holds no certificate in PEM"),
    ("cert.der", "key.pem", "cert.der holds no certificate in PEM: it is DER"),
    ("cert.pem", "key.der", "key.der holds no private key in PEM: it is DER"),
    ("key.pem", "cert.pem", "key.pem holds no certificate in PEM, but a private key: are the two files swapped?"),
    ("cert.pem", "cert.pem", "cert.pem holds no private key in PEM, but a certificate"),
    ("cert.pem", "other.pem", "other.pem does not match"),
    ("cert.pem", "locked.pem", "locked.pem is locked with a password"),
]


@pytest.mark.parametrize(("cert", "key", "says"), WRONG)
def test_wrong_tls_files(files: Path, cert: str, key: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and one line that names the file and the reason, before anything is loaded."""
    assert main.main(["--tls-cert", str(files / cert), "--tls-key", str(files / key)]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and said.startswith("lipstream: ")


def test_a_key_that_tls_refuses(files: Path) -> None:
    """OpenSSL's own reason, where the files are what they should be."""
    with pytest.raises(ValueError, match=r"small_cert\.pem and .*small\.pem cannot be used for TLS: EE_KEY_TOO_SMALL"):
        check_tls(files / "small_cert.pem", files / "small.pem")


def test_usable_tls_files(files: Path) -> None:
    """Certificate and key, also in one file; a validity that is over or has not begun is a warning."""
    assert check_tls(files / "cert.pem", files / "key.pem") is None
    assert check_tls(files / "both.pem", files / "both.pem") is None
    assert "old.pem expired on" in (check_tls(files / "old.pem", files / "key.pem") or "")
    assert "early.pem is not valid before" in (check_tls(files / "early.pem", files / "key.pem") or "")


def test_a_key_behind_its_curves_parameters(files: Path, tmp_path: Path) -> None:
    """As `openssl ecparam -genkey` writes it."""
    block = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    (tmp_path / "key.pem").write_bytes(block + (files / "key.pem").read_bytes())
    assert len(read_pair(files / "cert.pem", tmp_path / "key.pem").certificates) == 1


def test_a_file_without_end_is_not_read(files: Path, tmp_path: Path) -> None:
    """More than a certificate can have is refused."""
    with (tmp_path / "large.pem").open("wb") as file:
        file.truncate(2**21)
    with pytest.raises(BadPem, match="more than 1048576 bytes"):
        read_pair(tmp_path / "large.pem", files / "key.pem")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_where_nobody_can_listen(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use, an address of another machine, a name of none: status 2 and a line, before anything is loaded."""
    for arguments, says in (
        (["--port", str(taken)], f"port {taken} of 127.0.0.1 is in use by another program"),
        (["--host", "192.0.2.1", "--token", "t"], "192.0.2.1 is not an address of this machine"),
        (["--host", "a" * 64 + ".invalid", "--token", "t"], "the address cannot be resolved"),
    ):
        assert main.main(arguments) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1


def test_a_port_that_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's reason, with the way out."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ValueError, match="port 80 of 127.0.0.1 is not permitted for this user"):
        check_address("127.0.0.1", 80)


def test_where_one_can_listen(taken: int) -> None:
    """The port is free again afterwards, and a system's choice is no port in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    check_address("127.0.0.1", free)
    socket.create_server(("127.0.0.1", free)).close()
    check_address("127.0.0.1", 0)


# Ctrl-C --------------------------------------------------------------------------------------------------------------


def _interrupted(arguments: list[str], beside: str) -> tuple[int, str]:
    """
    Status and errors of a command that is interrupted when it first imports `beside`; the interrupt comes from within
    that import, so that nothing depends on how fast this machine is.
    """
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {beside!r}:\n"
        "            os.killpg(0, signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from streamer.__main__ import main\n"
        f"sys.argv = ['lipstream', *{arguments!r}]\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, start_new_session=True, cwd=ROOT
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "beside"),
    [
        ([], "streamer.cli.main"),
        (["--port", "0"], "uvicorn"),
        (["--port", "0"], "onnxruntime"),
        (["render", "clients/page/sample.wav", "no.mp4"], "streamer.cli.render"),
        (["render", "clients/page/sample.wav", "no.mp4"], "onnxruntime"),
        (["bench", "--quick"], "streamer.cli.bench"),
        (["data", "no"], "streamer.training.data.dataset"),
        (["train", "nano", "no"], "streamer.training"),
        (["train", "nano", "no"], "torch"),
        (["detect", "no.mp4"], "streamer.provenance.detector"),
        (["studio", "sheet", "no.png"], "streamer.studio.rig"),
    ],
)
def test_ctrl_c_while_loading(arguments: list[str], beside: str) -> None:
    """Status 130 and no traceback, wherever it comes."""
    status, errors = _interrupted(arguments, beside)
    assert status == interrupts.INTERRUPTED
    assert "Traceback" not in errors and "KeyboardInterrupt" not in errors


def test_loading_leaves_ctrl_c_as_it_was() -> None:
    """What comes after it is interrupted as usual, and can tidy up."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interrupts.loading():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_benchmark_ends_with_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a benchmark and what it started, and prints none of their tracebacks."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sleep = "import signal; signal.pause()"
    script = (
        "import subprocess, sys\n"
        f"held = open({str(pipe)!r}, 'w')\n"
        f"subprocess.Popen([sys.executable, '-c', {sleep!r}], pass_fds=[held.fileno()])\n"
        "print('both run', file=held, flush=True)\n"
        f"{sleep}\n"
    )
    whole = subprocess.Popen.wait
    with contextlib.ExitStack() as stack:
        held: list[TextIO] = []

        def wait(process: subprocess.Popen, timeout: float | None = None) -> int:
            if timeout is None:
                held.append(stack.enter_context(pipe.open()))
                assert held[0].readline() == "both run\n"
                raise KeyboardInterrupt
            return whole(process, timeout)

        monkeypatch.setattr(subprocess.Popen, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            bench._run([sys.executable, "-c", script])
        assert held[0].read() == ""  # comes once nobody has the other end
