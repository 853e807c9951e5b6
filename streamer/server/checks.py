"""Validation of the server's options: from the text that an operator wrote to the value in use.

Pure functions; each raises ValueError with one sentence that names the option and never contains a secret.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from streamer.server.origins import parse_origin

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ICE_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?(?P<transport>\?transport=(udp|tcp))?",
    re.ASCII,
)
_HEADER_TEXT = re.compile(r"[ -~]+")


def clean_token(text: str) -> str:
    """Returns a bearer token, stripped. It is sent in a header, so only printable ASCII can match."""
    token = text.strip()
    if not token:
        raise ValueError("the token is blank: --token or LIPSTREAM_TOKEN needs at least one visible character")
    if not _HEADER_TEXT.fullmatch(token):
        at = next(i for i, letter in enumerate(token) if not _HEADER_TEXT.fullmatch(letter))
        raise ValueError(
            f"character {at + 1} of {len(token)} of the token cannot be sent in a header: "
            "use only ASCII letters, digits, punctuation and spaces"
        )
    return token


def clean_secret(text: str, option: str) -> str:
    """Returns a shared secret, stripped and free of control characters."""
    secret = text.strip()
    if not secret:
        raise ValueError(f"{option} is blank")
    if found := _CONTROL.search(secret):
        raise ValueError(f"{option}: character {found.start() + 1} of {len(secret)} is a control character")
    try:
        secret.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{option}: character {error.start + 1} of {len(secret)} is not valid Unicode") from None
    return secret


def clean_host(text: str) -> str:
    """Returns an address or host name to bind to, without brackets or surrounding white space."""
    host = text.strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or re.search(r"\s", host) or _CONTROL.search(host) or not host.isascii():
        raise ValueError(f"--host {text!r} is neither an IP address nor a host name")
    return host


def clean_origin(text: str) -> str:
    """Returns an origin in the form that browsers send."""
    origin = parse_origin(text.strip())
    if origin is None:
        raise ValueError(
            f"--allow-origin {text!r} would match no page: use http(s)://host[:port] without a path, "
            "and the xn-- form of non-ASCII names"
        )
    return str(origin)


def clean_public_ip(text: str) -> str:
    """Returns an IP address that peers can send to."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        raise ValueError(f"--public-ip {text!r} is not an IP address") from None
    if address.is_unspecified or address.is_multicast or getattr(address, "scope_id", None) is not None:
        raise ValueError(f"--public-ip {text!r} is not an address that a remote peer can send to")
    return str(address)


def clean_publish(text: str) -> str:
    """Returns a URL or path to publish to, stripped. Errors do not show it, because a URL may contain a secret."""
    target = text.strip()
    if not target:
        raise ValueError("--publish is blank: it needs a URL or a file path")
    found = re.search(r"[\s\x00-\x1f\x7f-\x9f]" if "://" in target else _CONTROL, target)
    if found:
        raise ValueError(
            f"--publish: character {found.start() + 1} of {len(target)} is white space or a control character"
        )
    return target


def check_ice_url(url: str, schemes: tuple[str, ...]) -> str:
    """Returns an ICE server's URL (RFC 7064, RFC 7065), stripped."""
    text = url.strip()
    match = _ICE_URL.fullmatch(text)
    if match is None or match["scheme"] not in schemes or not 0 < int(match["port"] or 3478) <= 65535:
        wanted = " or ".join(f"{scheme}:HOST[:PORT]" for scheme in schemes)
        raise ValueError(f"ICE server: {url!r} is not {wanted}")
    if match["transport"] and match["scheme"].startswith("stun"):
        raise ValueError(f"ICE server: {url!r} is a STUN URL, which takes no ?transport=")
    return text


def clean_ice_server(server: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a server as an RTCIceServer object that browsers and the Link header (RFC 9725) accept."""
    if unknown := sorted(set(server) - {"urls", "username", "credential"}):
        raise ValueError(f"ICE server: {unknown[0]!r} is not one of urls, username, credential")
    given = server.get("urls")
    urls = [given] if isinstance(given, str) else given
    if not isinstance(urls, list | tuple) or not urls or not all(isinstance(url, str) for url in urls):
        raise ValueError(f"ICE server: 'urls' is {given!r}: must be a URL or a list of URLs")
    urls = [check_ice_url(url, ("stun", "stuns", "turn", "turns")) for url in urls]
    account = {name: server[name] for name in ("username", "credential") if server.get(name) is not None}
    for name, value in account.items():
        if not isinstance(value, str) or not _HEADER_TEXT.fullmatch(value.strip()):
            raise ValueError(f"ICE server {urls[0]}: the {name} is blank or has characters outside printable ASCII")
        account[name] = value.strip()
    if len(account) == 1 or (not account and any(url.startswith("turn") for url in urls)):
        raise ValueError(f"ICE server {urls[0]}: TURN needs both a user name and a credential")
    return {"urls": urls, **account}
