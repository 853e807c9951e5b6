"""HTTPS: what `--tls-cert` and `--tls-key` promise, by the command itself."""

import datetime
import ipaddress
import re
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lipstream test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


def test_the_page_is_served_over_https(certificate: tuple[Path, Path]) -> None:
    """With a certificate the command announces https, and serves the page under it to whoever trusts it."""
    cert, key = certificate
    command = [sys.executable, "-u", "-m", "streamer", "--port", "0", "--tls-cert", str(cert), "--tls-key", str(key)]
    command += ["--generator", "rig"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(r"https://127\.0\.0\.1:\d+", line)
        assert match, line
        trust = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(verify=trust, timeout=20) as client:
            assert client.get(f"{match[0]}/healthz").json() == {"status": "ok"}
            assert "<title>" in client.get(match[0]).text
    finally:
        process.terminate()
        assert process.wait(20) in (0, -15)
        process.stdout.close()
