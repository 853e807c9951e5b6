"""A certificate chain and its private key, from files that people name: PEM, or one sentence that says what is wrong.

`cryptography` is imported when files are read.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

_MOST_BYTES = 2**20
_KEY = re.compile(rb"-----BEGIN ((?:[A-Z0-9]+ )*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.S)
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class BadPem(ValueError):
    """Why a file, or a pair of files, cannot be used; the text names it."""


@dataclass(frozen=True)
class Pair:
    """A certificate with the key that is its own."""

    chain: bytes
    """PEM, as it was read."""
    certificates: "list[Certificate]"
    """At least one: the holder's own first."""
    key: "PrivateKeyTypes"


def read_pair(cert: Path, key: Path) -> Pair:
    """`cert`: the holder's certificate first, then those up to its root; `key`: without a password. Raises BadPem."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    chain, secret = _read(cert), _read(key)
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except (ValueError, UnsupportedAlgorithm):
        raise BadPem(f"{cert} holds no certificate in PEM{_instead(chain, 'x509')}") from None
    # Other blocks may precede the key: a certificate, or the parameters of its curve.
    block = _KEY.search(secret)
    if block is None:
        raise BadPem(f"{key} holds no private key in PEM{_instead(secret, 'pkey')}")
    try:
        private = load_pem_private_key(block[0], None)
    except TypeError:
        raise BadPem(f"{key} is locked with a password: a key without one is wanted") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        why = " ".join(str(error).split())[:200]
        raise BadPem(f"{key} holds no private key in PEM that can be used: {why}") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        own = certificates[0].public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadPem(f"{cert} holds a certificate whose key cannot be used: {' '.join(str(error).split())}") from None
    if private.public_key().public_bytes(*form) != own:
        subject = certificates[0].subject.rfc4514_string()
        raise BadPem(f"{key} does not match the first certificate of {cert} ({subject})")
    return Pair(chain, certificates, private)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise BadPem(f"{path} is a folder, not a file" if path.is_dir() else f"{path} is not a file")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise BadPem(f"{path} could not be read: {error.strerror or error}") from None
    if not data:
        raise BadPem(f"{path} is empty: 0 bytes")
    if len(data) > _MOST_BYTES:
        raise BadPem(f"{path} has more than {_MOST_BYTES} bytes: it is no certificate and no key")
    return data


def _instead(data: bytes, tool: str) -> str:
    """What a file that lacks what is wanted holds instead."""
    if data[:2] in (b"\x30\x80", b"\x30\x81", b"\x30\x82"):
        return f": it is DER (`openssl {tool} -inform DER` converts it)"
    if tool == "x509" and _KEY.search(data):
        return ", but a private key: are the two files swapped?"
    if tool == "pkey" and _CERTIFICATE in data:
        return ", but a certificate: are the two files swapped?"
    return ""
