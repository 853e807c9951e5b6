"""Requests to a server's HTTP API: base URL, token, errors, and the addresses of sessions."""

import asyncio
import ipaddress
import math
import time
from typing import Any
from urllib.parse import quote, unquote

import httpx

from lipstream_client.errors import LipstreamError, RequestError, Unreachable, request_error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _base_url(url: str) -> httpx.URL:
    """Raises ValueError for what is not a server's address."""
    try:
        parsed = httpx.URL(url.strip())
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(f"{url!r} is not a server's URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise ValueError(f"{url!r} is not a server's URL: want http[s]://HOST[:PORT][/PATH], without query or fragment")
    if parsed.port is not None and not 0 < parsed.port <= 65535:
        raise ValueError(f"{url!r} is not a server's URL: port {parsed.port} is not between 1 and 65535")
    return parsed.copy_with(path=parsed.path.rstrip("/"))


def _authorization(token: str | None) -> dict[str, str]:
    token = (token or "").strip()
    if not token:
        return {}
    for position, letter in enumerate(token):
        if not "!" <= letter <= "~":
            raise ValueError(f"the token's character {position + 1} of {len(token)} is not printable ASCII")
    return {"Authorization": f"Bearer {token}"}


def _path(session_id: str) -> str:
    return f"/v1/sessions/{quote(session_id, safe='')}"


class HttpApi:
    """One server's API. `url` may have a path, as behind a reverse proxy; every request goes below it."""

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        base = _base_url(url)
        self.url = str(base).rstrip("/")
        self.timeout = timeout
        self.headers = _authorization(token)
        self.loopback = _is_loopback(base.host)
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=self.headers,
            timeout=timeout,
            trust_env=not self.loopback,  # a proxy does not reach this machine
        )
        self._config: dict[str, Any] | None = None
        self._config_until = math.inf
        self._config_lock = asyncio.Lock()

    async def close(self) -> None:
        await self._http.aclose()

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Raises RequestError for a refusal and Unreachable for no answer."""
        try:
            response = await self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unreachable(f"{self.url} does not answer: {error or type(error).__name__}") from None
        if response.is_success:
            return response
        try:
            body = response.json()
        except ValueError:
            body = None
        raise request_error(response.status_code, body, response.text, response.headers.get("retry-after", ""))

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """The response's JSON. Raises what `request` does."""
        response = await self.request(method, path, **options)
        try:
            return response.json()
        except ValueError:
            kind = response.headers.get("content-type", "no content type")
            raise LipstreamError(f"{response.url} answered with {kind} instead of JSON: is it lipstream?") from None

    async def config(self) -> dict[str, Any]:
        """`/v1/config`, cached until half the lifetime of its TURN credentials has passed."""
        async with self._config_lock:
            if self._config is None or time.monotonic() >= self._config_until:
                self._config = await self.json("GET", "/v1/config")
                ttl = self._config.get("ice_ttl_s")
                self._config_until = time.monotonic() + ttl / 2 if ttl else math.inf
            return self._config

    # Sessions

    async def open_session(self, query: dict[str, str], offer: str) -> tuple[str, str]:
        """Sends an SDP offer; returns the new session's URL and the SDP answer."""
        headers = {"Content-Type": "application/sdp"}
        response = await self.request("POST", "/v1/sessions", params=query, content=offer, headers=headers)
        return self.resolve(response), response.text

    def resolve(self, response: httpx.Response) -> str:
        """The URL that a response's `Location` names, relative to the request's. Raises LipstreamError.

        Only addresses below the server's own URL are taken: the token goes to nobody else. Of an absolute path, which
        servers before 0.2 send whatever path a proxy serves them under, the part from "/v1/" counts.
        """
        location: str = response.headers.get("location", "")
        if not location:
            raise LipstreamError(f"{response.url} answered {response.status_code} without a Location")
        try:
            url = str(response.url.join(location))
        except httpx.InvalidURL as error:
            raise LipstreamError(f"{response.url} answered with the Location {location[:100]!r}: {error}") from None
        if url.startswith(f"{self.url}/"):
            return url
        if location.startswith("/v1/"):
            return self.url + location
        raise LipstreamError(f"{response.url} answered with the Location {location[:100]!r}, outside {self.url}")

    async def close_session(self, url: str) -> None:
        """Ends the session at `url`, whether or not the server still knows it or answers at all."""
        try:
            await self.request("DELETE", url)
        except (RequestError, Unreachable):
            pass

    async def end_session(self, session_id: str) -> None:
        await self.request("DELETE", _path(session_id))

    async def session_state(self, session_id: str) -> dict[str, Any]:
        state: dict[str, Any] = await self.json("GET", _path(session_id))
        return state

    async def control(self, session_id: str, message: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await self.json("POST", f"{_path(session_id)}/control", json=message)
        return answer

    def speech_url(self, session_id: str) -> str:
        """The WebSocket address of a session's speech."""
        return f"{self.url.replace('http', 'ws', 1)}{_path(session_id)}/speech"


def session_id_of(url: str) -> str:
    """The last part of a session's URL."""
    return unquote(httpx.URL(url).path.rpartition("/")[2])
