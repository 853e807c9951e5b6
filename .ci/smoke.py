"""
Proves an installed lipstream from outside the checkout, with the Python of its environment:

    cd /anywhere && ENVIRONMENT/bin/python .ci/smoke.py [--with-torch]

The environment must not contain PyTorch, unless `--with-torch` allows it. Starts the command, fetches the page, the
element and the OBS page with everything that they load, makes a character of a picture, and speaks with it: one session
drawn by the rig, its frames received; then renders a video. Needs only what lipstream depends on.
"""

import argparse
import asyncio
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "wav": "audio/"}
PAGES = ("/", "/obs")
"""Where the crawl begins."""
SERVED = ("/page/app.js", "/page/sample.wav", "/element/lip-stream.js", "/obs/obs.js")
"""What it has to come by, beside whatever else these pages name."""
REFERENCES = {
    "text/html": r"""(?:src|href)="([^"#]+)\"""",
    "text/javascript": r"""\b(?:from|import)\s*\(?\s*"(\.[^"]+)"|new URL\("([^"]+\.\w+)", import\.meta\.url\)""",
    "text/css": r"""url\(["']?([^"')#]+)""",
}
FRAMES = 50
RENDERED_BY = ("rig",)
"""Generators that a default installation draws with."""


def check_no_torch() -> None:
    """A default installation contains neither PyTorch nor Triton nor CUDA's libraries."""
    names = {name.lower() for each in importlib.metadata.distributions() if (name := each.metadata["Name"])}
    found = sorted(name for name in names if re.fullmatch(r"torch|triton|(nvidia|cuda)[-_].*", name))
    assert not found, f"the environment contains {', '.join(found)}"
    assert importlib.util.find_spec("torch") is None, "torch can be imported"


def command() -> list[str]:
    script = Path(sys.executable).with_name("lipstream.exe" if os.name == "nt" else "lipstream")
    assert script.is_file(), f"there is no {script}: the environment has no command"
    return [str(script)]


@contextlib.contextmanager
def serving(folder: str) -> Iterator[str]:
    """The URL of `lipstream` on a free port, ready."""
    process = subprocess.Popen(
        [*command(), "--port", "0", "--generator", "rig"], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()  # ends with the process, where that does not come to serve
        found = re.search(r"http://[\w.:]+", said)
        assert found, f"lipstream did not say where it serves, but {said!r}"
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def fetch(url: str) -> tuple[str, bytes]:
    """Its media type and body."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.headers.get_content_type(), answer.read()


def crawl(url: str) -> set[str]:
    """Fetches the pages and all that they refer to, in HTML, style sheets and modules; returns the paths."""
    waiting, seen = [url + page for page in PAGES], set()
    while waiting:
        address = waiting.pop()
        path = urlsplit(address).path
        if path in seen or path.startswith("/v1/"):
            continue
        seen.add(path)
        kind, body = fetch(address)
        suffix = path.rpartition(".")[2] if "." in path else "html"
        assert kind.startswith(TYPES.get(suffix, "")) and body, f"{path}: {len(body)} bytes of {kind}"
        for found in re.finditer(REFERENCES.get(kind, "(?!)"), body.decode(errors="replace")):
            target = urljoin(address, next(filter(None, found.groups())))
            if target.startswith(url):
                waiting.append(target)
    missing = set(SERVED) - seen
    assert not missing, f"the pages do not load {missing}"
    return seen


def upload(url: str) -> dict:
    """The character made of a picture, that of another character: the networks that find faces were found, too."""
    _, picture = fetch(f"{url}/v1/characters/1/picture?size=512")
    request = urllib.request.Request(f"{url}/v1/characters", picture, {"Content-Type": "image/png"}, method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


async def speak(url: str, sample: Path, character: str) -> float:
    """Plays a recording to the character; returns the frames received a second."""
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
    from aiortc.contrib.media import MediaPlayer

    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    player = MediaPlayer(str(sample), loop=True)
    peer.addTrack(player.audio)
    video = peer.addTransceiver("video", "recvonly").receiver
    peer.createDataChannel("control")
    location = None
    try:
        await peer.setLocalDescription(await peer.createOffer())
        request = urllib.request.Request(
            f"{url}/v1/sessions?character={character}&size=256",
            peer.localDescription.sdp.encode(),
            {"Content-Type": "application/sdp"},
        )
        with await asyncio.to_thread(urllib.request.urlopen, request, timeout=30) as answer:
            location = urljoin(request.full_url, answer.headers["Location"])
            await peer.setRemoteDescription(RTCSessionDescription(answer.read().decode(), "answer"))
        pictures = video.track
        assert pictures is not None, "the answer has no video"
        first = await asyncio.wait_for(pictures.recv(), 30)
        began = time.monotonic()
        shown = {first.to_ndarray(format="gray").tobytes()}
        for _ in range(FRAMES):
            shown.add((await asyncio.wait_for(pictures.recv(), 10)).to_ndarray(format="gray").tobytes())
        assert len(shown) > FRAMES / 2, f"{len(shown)} different pictures in {FRAMES} frames"
        return FRAMES / (time.monotonic() - began)
    finally:
        if location is not None:
            request = urllib.request.Request(location, method="DELETE")
            (await asyncio.to_thread(urllib.request.urlopen, request, timeout=10)).close()
        player.audio.stop()
        await peer.close()


def render(folder: str, generator: str) -> None:
    """A second of speech as a video, without a server."""
    with wave.open(f"{folder}/sample.wav") as source, wave.open(f"{folder}/second.wav", "wb") as out:
        out.setparams(source.getparams())
        source.setpos(source.getframerate())
        out.writeframes(source.readframes(source.getframerate()))
    options = ["render", "second.wav", f"{generator}.mp4", "--generator", generator]
    done = subprocess.run([*command(), *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    size = os.path.getsize(f"{folder}/{generator}.mp4")
    assert size > 10_000, f"{generator}.mp4 has {size} bytes"
    print(f"{size} bytes of video by --generator {generator}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--with-torch", action="store_true", help="accept an environment that contains PyTorch")
    if not parser.parse_args().with_torch:
        check_no_torch()
    import streamer

    place = Path(streamer.__file__).resolve()
    assert place.is_relative_to(Path(sys.prefix).resolve()), f"lipstream was imported from {place}, not {sys.prefix}"
    with tempfile.TemporaryDirectory() as folder:
        refused = subprocess.run([*command(), "bench"], cwd=folder, capture_output=True, text=True)
        assert refused.returncode == 2 and "checkout" in refused.stderr and refused.stderr.count("\n") == 1, refused
        with serving(folder) as url:
            paths = crawl(url)
            print(f"{len(paths)} files served: {', '.join(sorted(paths))}")
            character = upload(url)
            sample = Path(folder, "sample.wav")
            sample.write_bytes(fetch(f"{url}/page/sample.wav")[1])
            rate = asyncio.run(speak(url, sample, character["id"]))
            print(f"{FRAMES} frames of a picture that talks, {rate:.1f} a second")
        assert os.listdir(folder) == ["sample.wav"], f"lipstream left {os.listdir(folder)}"
        for generator in RENDERED_BY:
            render(folder, generator)


if __name__ == "__main__":
    main()
