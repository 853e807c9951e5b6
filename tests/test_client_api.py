"""The Python client's addresses (sub-paths included), its token, its old names and its imports."""

import ast
import asyncio
import contextlib
import graphlib
import importlib
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import lipstream_client
import numpy as np
import pytest
from lipstream_client import Bot, Client, LipstreamError, RequestError, Session
from lipstream_client.http import HttpApi, session_id_of

PACKAGE = Path(__file__).parent.parent / "clients" / "python" / "lipstream_client"


class SubPathProxy:
    """A reverse proxy that serves `target` under `prefix`, and answers 404 to everything else and remembers it."""

    def __init__(self, target: str, prefix: str) -> None:
        self._target = httpx.URL(target)
        self._prefix = prefix.encode()
        self.outside: list[str] = []
        self.passed: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "SubPathProxy":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._prefix.decode()}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._pass_on(reader, writer)
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, rest = head.split(b" ", 2)
            if not path.startswith(self._prefix + b"/"):
                self.outside.append(path.decode())
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                self.passed.append(f"{method.decode()} {path.decode()}")
                if b"upgrade:" not in rest.lower():  # one request a connection, so that each one's path is seen
                    lines = [line for line in rest.split(b"\r\n") if not line.lower().startswith(b"connection:")]
                    rest = b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])
                there, to = await asyncio.open_connection(self._target.host, self._target.port)
                to.write(b" ".join([method, path.removeprefix(self._prefix), rest]))
                up = asyncio.create_task(_pipe(reader, to))
                try:
                    await _pipe(there, writer)
                finally:
                    up.cancel()
                    await asyncio.gather(up, return_exceptions=True)
                    to.close()


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()


@pytest.mark.usefixtures("leaves_nothing", "any_load")
class TestSubPath:
    async def test_everything_goes_below_the_path(self, server: Any) -> None:
        """Session, control, characters and a bot's socket work under a sub-path, and nothing is asked at the root."""
        async with SubPathProxy(server.url, "/live/avatar") as proxy, Client(f"{proxy.url}/") as client:
            assert client.url == proxy.url
            assert await client.characters()
            async with client.session(size=128) as session, asyncio.timeout(20):
                await anext(session.frames())
                assert session.url == f"{proxy.url}/v1/sessions/{session.id}"
                assert (await session.server_stats())["id"] == session.id
                assert (await client.control(session.id, {"type": "mute", "muted": True}))["muted"] is True
            assert await client.sessions() == []
            opened = await client.open(size=128)
            async with client.bot(opened["id"]) as bot, asyncio.timeout(20):
                await bot.say(np.zeros(2400, np.float32))
                async for event in bot.events():
                    if event["type"] == "speech_finished":
                        break
            await client.end(opened["id"])
            assert any(line.startswith("DELETE /live/avatar/v1/sessions/") for line in proxy.passed)
            assert proxy.outside == []


def answer(location: str | None, url: str = "http://h/live/v1/sessions") -> httpx.Response:
    headers = {} if location is None else {"Location": location}
    return httpx.Response(201, headers=headers, request=httpx.Request("POST", url))


@pytest.fixture
async def api() -> AsyncIterator[HttpApi]:
    api = HttpApi("http://h/live/", "secret", 1.0)
    yield api
    await api.close()


class TestLocation:
    @pytest.mark.parametrize(
        ("location", "url"),
        [
            ("sessions/a1", "http://h/live/v1/sessions/a1"),
            ("./sessions/a1", "http://h/live/v1/sessions/a1"),
            ("../v1/sessions/a1", "http://h/live/v1/sessions/a1"),
            ("/live/v1/sessions/a1", "http://h/live/v1/sessions/a1"),
            ("http://h/live/v1/sessions/a1", "http://h/live/v1/sessions/a1"),
            ("//h:80/live/v1/sessions/a1", "http://h/live/v1/sessions/a1"),
            ("/v1/sessions/a1", "http://h/live/v1/sessions/a1"),
        ],
    )
    async def test_is_relative_to_the_request(self, api: HttpApi, location: str, url: str) -> None:
        """A Location counts from the request's URL; a server's own absolute path counts below the base URL."""
        assert api.resolve(answer(location)) == url
        assert session_id_of(url) == "a1"

    @pytest.mark.parametrize(
        "location", ["http://evil/live/v1/sessions/a1", "/other/a1", "//evil/v1/a", None, "http://["]
    )
    async def test_the_token_goes_nowhere_else(self, api: HttpApi, location: str | None) -> None:
        """A Location outside the server's URL, or none, is refused in one sentence."""
        with pytest.raises(LipstreamError, match="Location"):
            api.resolve(answer(location))

    async def test_identifier_is_unescaped(self) -> None:
        """The session's id is the last part of its URL, without escapes."""
        assert session_id_of("http://h/live/v1/sessions/a%20b") == "a b"


class TestAddress:
    @pytest.mark.parametrize(
        "url",
        ["localhost:8080", "ftp://h", "http://", "http://h/?a=1", "http://h/#x", "http://h:port", "http://h:99999", ""],
    )
    def test_what_is_no_server(self, url: str) -> None:
        """A URL that no server can have is refused when the client is made, with the URL in the sentence."""
        with pytest.raises(ValueError, match="is not a server's URL"):
            Client(url)

    async def test_spaces_and_slashes_are_trimmed(self) -> None:
        """A pasted URL with a newline or slashes at its end is the same server."""
        async with Client(" http://h:8080/live//\n") as client:
            assert client.url == "http://h:8080/live"

    @pytest.mark.parametrize(
        ("url", "socket"),
        [
            ("http://h", "ws://h/v1/sessions/a%2Fb/speech"),
            ("https://http.example/http", "wss://http.example/http/v1/sessions/a%2Fb/speech"),
        ],
    )
    async def test_speech_socket(self, url: str, socket: str) -> None:
        """The socket's address has the server's path, and the id is escaped."""
        api = HttpApi(url, None, 1.0)
        assert api.speech_url("a/b") == socket
        await api.close()

    async def test_token_is_trimmed(self) -> None:
        """A token read from a file, with its newline, is the token; an empty one is none."""
        for token, headers in (("abc\n", {"Authorization": "Bearer abc"}), (" \n", {}), (None, {})):
            api = HttpApi("http://h", token, 1.0)
            assert api.headers == headers
            await api.close()

    @pytest.mark.parametrize("token", ["ключ", "a b", "a\nb", "tok\x00en"])
    def test_token_that_no_header_holds(self, token: str) -> None:
        """A token that cannot be sent is refused when the client is made, without repeating it."""
        with pytest.raises(ValueError, match="not printable ASCII") as caught:
            Client("http://h", token=token)
        assert token not in str(caught.value)

    async def test_another_server(self, server: Any) -> None:
        """A page where JSON is expected is one sentence about what answered."""
        api = HttpApi(server.url, None, 5.0)
        with pytest.raises(LipstreamError, match="text/html.* instead of JSON"):
            await api.json("GET", "/")
        await api.close()


class TestOldNames:
    def test_refused(self) -> None:
        """The old name of RequestError still works and warns."""
        with pytest.warns(DeprecationWarning, match="RequestError"):
            assert lipstream_client.Refused is RequestError
        with pytest.raises(AttributeError, match="Nothing"):
            _ = lipstream_client.Nothing

    @pytest.mark.parametrize("owner", [Session, Bot])
    @pytest.mark.parametrize(
        ("old", "new"), [("wear", "set_character"), ("feel", "set_emotion"), ("attend", "set_attention")]
    )
    async def test_methods(self, owner: type, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The old names of methods do what the new ones do, and warn."""
        called: list[dict[str, Any]] = []

        class Double(owner):  # type: ignore[misc]
            def __init__(self) -> None: ...

            async def _command(self, message: dict[str, Any], answer: str) -> dict[str, Any]:
                called.append(message)
                return {"frame": 7}

        value = "listening" if old == "attend" else "happy"
        with pytest.warns(DeprecationWarning, match=rf"{old}\(\) is now {new}\(\)"):
            first = await getattr(Double(), old)(value)
        assert await getattr(Double(), new)(value) == first
        assert called[0] == called[1]
        assert inspect.signature(getattr(owner, old)) == inspect.signature(getattr(owner, new))


def imports(module: Path) -> set[str]:
    """The package's modules that a module imports anywhere in it, for types only included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lipstream_client"):
            own = node.module.partition(".")[2]
            names |= {own} if own else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("lipstream_client.")
            }
    return names


class TestModules:
    def test_imports_have_no_circle(self) -> None:
        """The package's modules import each other in one direction, imports for types included."""
        graph = {path.stem: imports(path) for path in PACKAGE.glob("*.py")}
        assert graph["session"] and graph["client"]
        order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle
        assert order.index("errors") < order.index("session") < order.index("client") < order.index("__init__")

    def test_hidden_imports_count(self, tmp_path: Path) -> None:
        """Imports under TYPE_CHECKING and inside functions are found, so that no circle hides there."""
        path = tmp_path / "x.py"
        path.write_text(
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lipstream_client.client import Client\n"
            "def f():\n    from lipstream_client import bot\n    import lipstream_client.http\n"
        )
        assert imports(path) == {"client", "bot", "http"}

    def test_aiortc_internals_are_in_one_module(self) -> None:
        """Only `media` reaches into aiortc's private names."""
        for path in PACKAGE.glob("*.py"):
            private = "_RTC" in path.read_text() or "aiortc.rtp " in path.read_text()
            assert private == (path.stem == "media"), path.name

    @pytest.mark.parametrize("name", sorted(lipstream_client.__all__))
    def test_public_names_are_documented(self, name: str) -> None:
        """Each public class has a docstring of its own."""
        assert vars(getattr(importlib.import_module("lipstream_client"), name)).get("__doc__")
