"""WHIP from a client that is not ours: Debian's simple-whip-client, which is GStreamer's WebRTC."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunningServer
from peers import MouthMeter
from reverse_proxy import proxied, required

from benchmarks.lib.whip_peer import Player

pytestmark = pytest.mark.usefixtures("leaves_nothing", "any_load")

_VOICE = (
    "filesrc location={path} ! wavparse ! audioconvert ! audioresample ! audio/x-raw,rate=48000 ! identity sync=true ! "
    "opusenc frame-size=10 ! rtpopuspay pt=100 ssrc=1 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=100"
)
_TEST_PICTURE = (
    "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=10/1 ! videoconvert ! vp8enc deadline=1 ! "
    "rtpvp8pay pt=96 ssrc=2 ! application/x-rtp,media=video,encoding-name=VP8,payload=96"
)

# libnice's port mapping, which the client does not use, brings libsoup 3 into a process that has libsoup 2: Debian 12's
# package ends itself at start for that. Nothing of it is called where these stand in its place.
_NO_PORT_MAPPING = """
unsigned long gupnp_simple_igd_get_type(void) { return 0; }
void *gupnp_simple_igd_thread_new(void) { return 0; }
void gupnp_simple_igd_add_port(void) {}
void gupnp_simple_igd_remove_port_local(void) {}
"""


def _missing() -> str | None:
    if shutil.which("whip-client") is None:
        return "no WHIP client on this machine (Debian: apt-get install simple-whip-client)"
    if shutil.which("cc") is None:
        return "no C compiler, which simple-whip-client's broken dependency needs (Debian: apt-get install gcc)"
    return None


@pytest.fixture(scope="module")
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the client runs in. Skips where it cannot run, unless --require-browser is given."""
    if reason := _missing():
        (pytest.fail if request.config.getoption("--require-browser") else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("whip-client")
    source = folder / "stub.c"
    source.write_text(_NO_PORT_MAPPING)
    library = folder / "libgupnp-igd-1.0.so.4"
    subprocess.run(["cc", "-shared", "-fPIC", "-nostdlib", "-o", str(library), str(source)], check=True)
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "GST_REGISTRY": str(folder / "registry.bin")}


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningServer]:
    stun = {"urls": ["stun:stun.example:3478"]}
    with RunningServer(token="sesame", ice_servers=(stun,)) as running:
        yield running


@contextlib.asynccontextmanager
async def whip_client(environment: dict[str, str], url: str, *options: str) -> AsyncIterator[Process]:
    """The client, running; ended by Ctrl-C, as its user would."""
    process = await asyncio.create_subprocess_exec(
        "whip-client", "-o", "-u", url, *options, env=environment, stdout=PIPE, stderr=STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(10):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()


async def read_until(process: Process, wanted: str) -> list[str]:
    """Its lines up to the one with `wanted`, which must come before it ends."""
    lines = []
    assert process.stdout is not None
    async with asyncio.timeout(20):
        async for line in process.stdout:
            lines.append(line.decode().rstrip())
            if wanted in lines[-1]:
                return lines
    raise AssertionError("the client ended:\n" + "\n".join(lines))


@pytest.mark.parametrize("media", ["audio", "audio and video"])
async def test_client_speaks_and_a_player_sees_and_hears(
    server: Any, environment: dict[str, str], microphone: Path, media: str
) -> None:
    """Its voice is heard by the server, moves the mouth, and goes out to a player with the picture; DELETE at its end.

    With video its offer has two sections, the refused one first, and it trickles candidates to that.
    """
    meter = MouthMeter.clearest([server.state.characters.get(str(seed)) for seed in range(1, 7)])
    options = ["-A", _VOICE.format(path=microphone)]
    if "video" in media:
        options += ["-V", _TEST_PICTURE]
    url = f"{server.url}/v1/whip?character={meter.entry.id}"
    async with whip_client(environment, url, *options) as client:
        lines = await read_until(client, "PeerConnection connected")
        resource = next(line.rpartition("Resource URL: ")[2] for line in lines if "Resource URL: " in line)
        session = server.state.sessions[resource.partition("?")[0].rpartition("/")[2]]
        async with Player(server.url, session.id) as player:
            await player.until(frames=60, seconds=1.0)
            opening = [meter(picture) for picture in player.pictures]
            assert max(opening) > 0.3 > meter.error
            assert np.sqrt(np.mean(np.square(player.sound))) > 0.01
        heard = session.snapshot()["audio"]
        assert heard["received"] > 100
        assert heard["malformed"] == 0
    assert client.returncode == 0
    assert await server.closed(session) == "deleted"


async def test_client_below_a_path(
    server: Any, environment: dict[str, str], microphone: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Behind a reverse proxy it resolves the relative Location below the proxy's path, and its DELETE arrives."""
    required(request.config)
    with proxied(server.url, tmp_path) as below:
        async with whip_client(environment, f"{below}/v1/whip", "-A", _VOICE.format(path=microphone)) as client:
            lines = await read_until(client, "PeerConnection connected")
            session = next(iter(server.state.sessions.values()))
            assert any(f"{below}/v1/whip/{session.id}" in line for line in lines), lines
        assert client.returncode == 0
        assert await server.closed(session) == "deleted"


async def test_client_with_a_token_finds_its_ice_servers(
    guarded: RunningServer, environment: dict[str, str], microphone: Path
) -> None:
    """It sends the bearer token, and takes the STUN server from the Link header; without the token it is told 401."""
    voice = ["-A", _VOICE.format(path=microphone)]
    async with whip_client(environment, f"{guarded.url}/v1/whip", "-t", "sesame", "-f", *voice) as client:
        lines = await read_until(client, "PeerConnection connected")
        assert any("stun.example:3478" in line for line in lines)
        session = next(iter(guarded.state.sessions.values()))
    assert await guarded.closed(session) == "deleted"
    async with whip_client(environment, f"{guarded.url}/v1/whip", *voice) as client:
        await read_until(client, "[401]")
    assert not guarded.state.sessions
