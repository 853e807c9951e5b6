"""Media forced through a real coturn, with the credentials that the server hands out."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aioice.stun import TransactionFailed
from aioice.turn import create_turn_endpoint
from coturn import TURNSERVER, relay

from streamer.turn import Turn

SECRET = "north wind"
SLOW = 20.0  # seconds: a busy machine may take long


@pytest.fixture(scope="module")
def turn_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if TURNSERVER is None:
        if request.config.getoption("--require-browser"):
            pytest.fail("--require-browser was given, and there is no coturn")
        pytest.skip("no coturn on this machine (Debian: apt-get install coturn)")
    with relay(SECRET, tmp_path_factory.mktemp("coturn")) as url:
        yield url


@pytest.fixture(scope="module")
def relaying(server: Any, turn_url: str) -> Iterator[Any]:
    """A server that hands out credentials for that coturn."""
    with type(server)(turn=Turn((turn_url,), SECRET, 600)) as running:
        yield running


async def allocate(url: str, username: str, credential: str, lifetime: int = 600) -> Any:
    """Asks coturn for a relay; its transport."""
    from asyncio import DatagramProtocol

    host, port = url.removeprefix("turn:").partition("?")[0].split(":")
    transport, _ = await create_turn_endpoint(
        DatagramProtocol, server_addr=(host, int(port)), username=username, password=credential, lifetime=lifetime
    )
    return transport
