"""Content credentials: written and read by the real C2PA library, with certificates made here."""

import datetime
import json
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import c2pa
import numpy as np
import pytest
import quiet
from conftest import RunningServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lipstream_client import Client
from peers import spoken

from streamer import __version__
from streamer.cli import main, render
from streamer.provenance import content_credentials
from streamer.provenance.content_credentials import SOURCE_TYPE, CannotSign, sign
from streamer.provenance.detector import detect
from streamer.server.config import ServerConfig

FRAGMENTED = "frag_keyframe+empty_moov+default_base_moof"
EMAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "lipstream"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


@dataclass
class Authority:
    """A root and what it signs."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
             "decipher_only"), False,
        )  # fmt: skip
        self._usage = usage
        self.root = (
            self._certificate("root", self._key.public_key(), 300)
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.KeyUsage(True, key_cert_sign=True, crl_sign=True, **usage), True)
            .sign(self._key, hashes.SHA256())
        )

    def _certificate(self, common: str, public: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(common))
            .issuer_name(_name("root"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=30))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    def signer(
        self,
        key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | None = None,
        purpose: x509.ObjectIdentifier = EMAIL,
        days: int = 30,
    ) -> tuple[Path, Path]:
        """PEM files of a chain and of its key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._certificate("signer", key.public_key(), days)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.KeyUsage(True, key_cert_sign=False, crl_sign=False, **self._usage), True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
            .sign(self._key, hashes.SHA256())
        )
        number = len(list(self.folder.glob("*.key")))
        cert, secret = self.folder / f"{number}.pem", self.folder / f"{number}.key"
        cert.write_bytes(certificate.public_bytes(Encoding.PEM) + self.root.public_bytes(Encoding.PEM))
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cert, secret


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "keys"
    folder.mkdir()
    return Authority(folder)


def _video(path: Path, movflags: str, frames: int = 30) -> Path:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format="mp4", options={"movflags": movflags}) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for k in range(frames):
            picture = av.VideoFrame.from_ndarray(rng.integers(0, 256, (96, 64), np.uint8), format="yuv420p")
            picture.pts, picture.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def _frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def _state(path: Path) -> str:
    with c2pa.Reader(str(path)) as reader:
        return str(reader.get_validation_state())


@pytest.mark.parametrize("movflags", ["faststart", FRAGMENTED], ids=["ordinary", "fragmented"])
def test_a_signed_recording_says_what_it_is(movflags: str, tmp_path: Path, authority: Authority) -> None:
    """The manifest is valid, and names lipstream and synthetic media; the pictures are what they were."""
    path = _video(tmp_path / "recording.mp4", movflags)
    before = _frames(path)
    sign(path, *authority.signer())
    with c2pa.Reader(str(path)) as reader:
        assert reader.get_validation_state() == "Valid"
        manifest = reader.get_active_manifest()
        problems = [entry["code"] for entry in json.loads(reader.json()).get("validation_status", [])]
    assert problems == ["signingCredential.untrusted"], "nobody trusts a root made a moment ago; all else must hold"
    assert manifest is not None
    (generator,) = manifest["claim_generator_info"]
    assert (generator["name"], generator["version"]) == ("lipstream", __version__)
    assert manifest["title"] == "recording.mp4"
    (actions,) = [
        part["data"]["actions"] for part in manifest["assertions"] if part["label"].startswith("c2pa.actions")
    ]
    (created,) = actions
    assert (created["action"], created["digitalSourceType"]) == ("c2pa.created", SOURCE_TYPE)
    assert manifest["signature_info"]["common_name"] == "signer"
    assert all((a == b).all() for a, b in zip(before, _frames(path), strict=True))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["keys", "recording.mp4"]


@pytest.mark.parametrize("movflags", ["faststart", FRAGMENTED], ids=["ordinary", "fragmented"])
def test_a_changed_picture_is_told(movflags: str, tmp_path: Path, authority: Authority) -> None:
    """One bit of one picture, and the manifest does not hold."""
    path = _video(tmp_path / "recording.mp4", movflags)
    sign(path, *authority.signer())
    data = bytearray(path.read_bytes())
    data[data.rindex(b"mdat") + 100] ^= 1
    path.write_bytes(data)
    assert _state(path) == "Invalid"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate,
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "P-521", "Ed25519", "RSA-2048"],
)
def test_every_kind_of_key_signs(make: Callable, tmp_path: Path, authority: Authority) -> None:
    """The algorithm follows from the certificate."""
    path = _video(tmp_path / "a.mp4", FRAGMENTED, 3)
    sign(path, *authority.signer(make()))
    assert _state(path) == "Valid"


def test_an_older_form_of_key_signs(tmp_path: Path, authority: Authority) -> None:
    """ "BEGIN EC PRIVATE KEY", as `openssl ecparam -genkey` writes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    cert, secret = authority.signer(key)
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    path = _video(tmp_path / "a.mp4", FRAGMENTED, 3)
    sign(path, cert, secret)
    assert _state(path) == "Valid"


def test_what_cannot_be_signed_says_why_and_stays(tmp_path: Path, authority: Authority) -> None:
    """A reason each, the recording untouched, and nothing left beside it."""
    path = _video(tmp_path / "a.mp4", FRAGMENTED, 3)
    cert, key = authority.signer()
    other = authority.signer()[1]
    server = authority.signer(purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    expired = authority.signer(days=-1)
    weak = authority.signer(ec.generate_private_key(ec.SECP256K1()))
    locked, text, cut = tmp_path / "locked.key", tmp_path / "text.mp4", tmp_path / "cut.mp4"
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    text.write_text("not a recording")
    cut.write_bytes(_video(tmp_path / "whole.mp4", "faststart", 3).read_bytes()[:200])
    before = {entry: entry.read_bytes() for entry in (path, text, cut)}
    for arguments, says in (
        ((path, cert, other), "does not match"),
        ((path, key, key), "holds no certificate"),
        ((path, cert, cert), "holds no private key"),
        ((path, cert, locked), "locked with a password"),
        ((path, tmp_path / "none.pem", key), "none.pem is not a file"),
        ((path, cert, tmp_path / "none.key"), "none.key is not a file"),
        ((path, *server), "extended key usage"),
        ((path, *expired), "not valid at time of signing"),
        ((path, *weak), "a type that C2PA does not accept"),
        ((tmp_path / "none.mp4", cert, key), "none.mp4 could not be read"),
        ((text, cert, key), "is not an MP4"),
        ((cut, cert, key), "cut.mp4 could not be signed"),
    ):
        with pytest.raises(CannotSign, match=says):
            sign(*arguments)
    assert {entry: entry.read_bytes() for entry in before} == before
    assert not list(tmp_path.glob("*.signed"))


def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is named."""
    path = _video(tmp_path / "a.mp4", FRAGMENTED, 3)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(CannotSign, match=r"pip install 'lipstream\[c2pa\]'"):
        sign(path, *authority.signer())


def test_a_rendering_is_signed(tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    """`lipstream render --c2pa-cert --c2pa-key`; a wrong key is told before anything is drawn."""
    speech = Path(__file__).parent.parent / "clients" / "page" / "sample.wav"
    short = tmp_path / "short.wav"
    data = speech.read_bytes()
    short.write_bytes(data[:40] + (6400).to_bytes(4, "little") + data[44 + 32_000 : 44 + 32_000 + 6400])
    cert, key = authority.signer()
    out = tmp_path / "out.mp4"
    arguments = [str(short), str(out), "--generator", "rig", "--size", "128", "--c2pa-cert", str(cert), "--c2pa-key"]
    assert render.main([*arguments, str(authority.signer()[1])]) == 1
    assert "does not match" in capsys.readouterr().err
    assert not out.exists()
    assert render.main([*arguments, str(key)]) == 0
    assert _state(out) == "Valid"
    with c2pa.Reader(str(out)) as reader:
        assert (reader.get_active_manifest() or {})["title"] == "out.mp4"
    with pytest.raises(SystemExit):
        render.main(arguments[:-1])
    assert "go together" in capsys.readouterr().err


def test_a_server_is_told_of_a_wrong_key_at_start(authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2 and one line, rather than a failure when the first recording ends."""
    cert, key = authority.signer()
    assert main.main(["serve", "--c2pa-cert", str(cert), "--c2pa-key", str(authority.signer()[1])]) == 2
    error = capsys.readouterr().err
    assert "does not match" in error and error.count("\n") == 1
    assert main.main(["serve", "--c2pa-cert", str(cert)]) == 2
    assert "go together" in capsys.readouterr().err
    assert content_credentials.load(cert, key)[0] == b"es256"
    assert ServerConfig(c2pa_cert=cert, c2pa_key=key).c2pa_key == key


@pytest.mark.usefixtures("any_load")
async def test_a_session_is_recorded_marked_and_signed(tmp_path: Path, authority: Authority) -> None:
    """From a live session to a file with label, watermark and credentials."""
    cert, key = authority.signer()
    folder = tmp_path / "recordings"
    folder.mkdir()
    with RunningServer(record_dir=folder, c2pa_cert=cert, c2pa_key=key) as server:
        async with Client(server.url) as client, client.session(spoken(2.0), character="2", linger=30) as session:
            path = f"/v1/sessions/{session.id}/recording"
            await client.request("POST", path)
            async for _ in session.frames():
                if (await client.request("GET", path)).json()["seconds"] > 1:
                    break
            ended = (await client.request("DELETE", path)).json()
    assert (ended["state"], ended["signed"]) == ("ended", True)
    (file,) = folder.iterdir()
    assert _state(file) == "Valid"
    found = detect(file)
    assert found.marked, found.score


def test_signing_calls_nobody(authority: Authority, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A signed film is made without a look-up: no time stamp, no list of revoked certificates."""
    quiet.required(request.config)
    cert, key = authority.signer()
    speech, out = tmp_path / "speech.wav", tmp_path / "out.mp4"
    with wave.open(str(speech), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((8000 * np.sin(np.arange(4_000) / 10)).astype("<i2").tobytes())
    signing = ["--c2pa-cert", str(cert), "--c2pa-key", str(key)]
    options = ["--generator", "rig", "--size", "128", *signing]
    done = quiet.trace(["-m", "streamer", "render", *options, str(speech), str(out)], tmp_path, timeout=200)
    assert done.status == 0, done.output
    assert done.calls == []
    assert b"c2pa" in out.read_bytes()
