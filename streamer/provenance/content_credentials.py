"""Content credentials (C2PA) on finished recordings: who made them, with what, and that they are synthetic.

`c2pa-python` (the extra `c2pa`) is imported when something is signed. No time stamp is asked of anybody, so that no
network is needed; a signature without one is valid for as long as its certificate is.
"""

import contextlib
from pathlib import Path

from streamer import __version__
from streamer.base.pem import BadPem, read_pair

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media that a trained algorithm generated."""

MANIFEST = {
    "claim_generator_info": [{"name": "lipstream", "version": __version__}],
    "format": "video/mp4",
    "assertions": [
        {
            "label": "c2pa.actions",
            "data": {
                "actions": [
                    {
                        "action": "c2pa.created",
                        "digitalSourceType": SOURCE_TYPE,
                        "softwareAgent": {"name": "lipstream", "version": __version__},
                    }
                ]
            },
        }
    ],
}


class CannotSign(ValueError):
    """Why a recording did not get its credentials; the recording is as it was."""


def sign(path: Path, cert: Path, key: Path, title: str | None = None) -> None:
    """
    Puts a signed manifest into a finished MP4, fragmented or not, which stays what it was until its signed copy is
    whole. `cert`: PEM, the signer's certificate first, then those up to its root, which may be left out; `key`: its
    private key, PEM without a password; `title`: what to call it, else the file's name. Blocking: it reads and writes
    the whole file. Raises CannotSign.
    """
    algorithm, chain, secret = load(cert, key)
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise CannotSign(f"{path.name} could not be read: {error.strerror}") from None
    if head[4:8] != b"ftyp":
        raise CannotSign(f"{path.name} is no MP4: it begins with {head[:8]!r}")
    c2pa = _package()
    signed = path.with_name(path.name + ".signed")
    try:
        with c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, chain, secret, None)) as signer:
            with c2pa.Builder({**MANIFEST, "title": title or path.name}) as builder:
                with path.open("rb") as source, signed.open("w+b") as target:
                    builder.sign(signer, "video/mp4", source, target)
        signed.replace(path)
    except OSError as error:
        raise CannotSign(f"{path.name} could not be signed: {error.strerror or error}") from None
    except c2pa.C2paError as error:
        raise CannotSign(f"{path.name} could not be signed with {cert.name}: {_reason(error)}") from None
    finally:
        with contextlib.suppress(OSError):
            signed.unlink(missing_ok=True)


def load(cert: Path, key: Path) -> tuple[bytes, bytes, bytes]:
    """
    The signature's algorithm in C2PA's terms, the chain and the key. To be called at start, too: raises CannotSign for
    files that are none, for a key that is not the certificate's, and where `c2pa-python` is missing.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    _package()
    try:
        pair = read_pair(cert, key)
    except BadPem as error:
        raise CannotSign(str(error)) from None
    public = pair.certificates[0].public_key()
    match public:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            algorithm = b"es256"
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            algorithm = b"es384"
        case ec.EllipticCurvePublicKey(curve=ec.SECP521R1()):
            algorithm = b"es512"
        case ed25519.Ed25519PublicKey():
            algorithm = b"ed25519"
        case rsa.RSAPublicKey() if public.key_size >= 2048:
            algorithm = b"ps256"
        case _:
            raise CannotSign(
                f"{key} is of a kind that C2PA does not take: want P-256, P-384, P-521, Ed25519, or RSA of 2048 bits on"
            )
    return algorithm, pair.chain, pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _package():  # type: ignore[no-untyped-def]  # a module that may be missing
    try:
        import c2pa
    except ImportError as error:
        raise CannotSign(f"content credentials need c2pa-python ({error}): pip install 'lipstream[c2pa]'") from None
    return c2pa


def _reason(error: Exception) -> str:
    """C2PA's own words, on one line, and what they leave out."""
    words = " ".join(str(error).split())[:300] or type(error).__name__
    if words.endswith("the certificate is invalid"):
        words += ": want one for signing (key usage digitalSignature, extended key usage emailProtection or similar)"
    return words
