"""A certificate chain and its private key, read from PEM files."""

from pathlib import Path
from typing import Any


class BadKeyPair(ValueError):
    """A certificate or key file that cannot be used; the text names the file and the reason."""


def read_pem(path: Path) -> bytes:
    """The file's bytes. Raises BadKeyPair."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadKeyPair(f"{path} could not be read: {error.strerror}") from None


def load_key_pair(cert: Path, key: Path) -> tuple[list[Any], Any]:
    """
    The certificates of a chain, the holder's first, and the private key (objects of `cryptography`). Raises BadKeyPair
    for a file that cannot be read or is not PEM, for a key with a password, and for a key of another certificate.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    chain, secret = read_pem(cert), read_pem(key)
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        raise BadKeyPair(f"{cert} holds no certificate in PEM") from None
    try:
        private = load_pem_private_key(secret, None)
    except TypeError:
        raise BadKeyPair(f"{key} is locked with a password: a key without one is wanted") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadKeyPair(f"{key} holds no private key in PEM") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        same = private.public_key().public_bytes(*form) == certificates[0].public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKeyPair(f"{cert} holds a key of a kind that is not supported: {error}") from None
    if not same:
        subject = certificates[0].subject.rfc4514_string()
        raise BadKeyPair(f"{key} is not the key of {cert}'s first certificate ({subject})")
    return certificates, private
