"""The `lipstream` command. No subcommand serves. Each command imports what it needs when it runs."""

import argparse
import dataclasses
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from streamer import __version__
from streamer.base.constants import DEVICES, GENERATORS, GENERATORS_HELP, MAX_SESSIONS, MAX_VIEWERS
from streamer.server.checks import clean_ice_server
from streamer.server.config import (
    SOCKETS,
    ServerConfig,
    publish_from_environment,
    token_from_environment,
    turn_secret_from_environment,
)
from streamer.server.turn import DEFAULT_TTL, TurnConfig

COMMANDS = ("serve", "render", "bench", "detect", "studio", "data", "train")


def _ports(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not dash or not first.isdecimal() or not last.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a range like 50000-50100")
    return int(first), int(last)


def _ice_server(text: str) -> dict:
    """URL[,USERNAME,CREDENTIAL]"""
    url, *account = text.split(",")
    if len(account) not in (0, 2):
        raise argparse.ArgumentTypeError(
            f"{url!r} has {len(account)} parts behind it, want none or USERNAME,CREDENTIAL"
        )
    try:
        return clean_ice_server({"urls": [url], **dict(zip(("username", "credential"), account, strict=bool(account)))})
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lipstream", description="Speak, and your character speaks.")
    parser.add_argument("--version", action="version", version=f"lipstream {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{" + ",".join(COMMANDS) + "}")

    serve = commands.add_parser("serve", help="serve the page and the API (the default)")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind; anything but loopback needs a token")
    serve.add_argument("--port", type=int, default=8080)
    serve.add_argument("--token", help="what clients must send as a bearer token; or set LIPSTREAM_TOKEN")
    serve.add_argument(
        "--tls-cert", type=Path, help="certificate chain (PEM): browsers give a microphone to HTTPS only"
    )
    serve.add_argument("--tls-key", type=Path, help="its private key (PEM)")
    serve.add_argument("--generator", default=GENERATORS[0], choices=GENERATORS, help=GENERATORS_HELP)
    serve.add_argument(
        "--device",
        default=DEVICES[0],
        choices=DEVICES,
        help="where the neural generator draws (default: cuda if it works)",
    )
    serve.add_argument("--udp-ports", type=_ports, metavar="A-B", help="UDP ports for media, for firewalls and Docker")
    serve.add_argument("--public-ip", help="address that clients reach those ports under, behind NAT")
    serve.add_argument("--allow-origin", action="append", default=[], help="a page's origin that may call the API")
    serve.add_argument(
        "--ice-server", action="append", default=[], type=_ice_server, metavar="URL[,USER,CREDENTIAL]",
        help="STUN or TURN server handed to clients",
    )  # fmt: skip
    serve.add_argument(
        "--turn-url", action="append", default=[], metavar="turn:HOST[:PORT][?transport=udp]",
        help="TURN server that clients get credentials for which lapse (coturn: use-auth-secret)",
    )  # fmt: skip
    serve.add_argument("--turn-secret", help="its static-auth-secret; or set LIPSTREAM_TURN_SECRET")
    serve.add_argument(
        "--turn-ttl", type=float, default=DEFAULT_TTL, metavar="SECONDS", help="how long those credentials hold"
    )
    serve.add_argument("--record-dir", type=Path, metavar="DIR", help="where sessions may be recorded to")
    serve.add_argument("--record", action="store_true", help="record every session")
    serve.add_argument(
        "--publish", action="append", default=[], metavar="URL",
        help="publish the first live session: rtmp://, rtmps://, srt://, or a file (.mp4, .mkv, .flv); or set "
        "LIPSTREAM_PUBLISH, which hides a stream's key",
    )  # fmt: skip
    serve.add_argument("--no-label", dest="label", action="store_false", help='no visible "AI" in the picture')
    serve.add_argument("--no-watermark", dest="watermark", action="store_false", help="no watermark in the picture")
    serve.add_argument("--c2pa-cert", type=Path, help="certificate chain (PEM) to sign finished recordings with")
    serve.add_argument("--c2pa-key", type=Path, help="its private key (PEM)")
    serve.add_argument(
        "--require-consent", action="store_true",
        help="take no picture whose user does not say that it may be used (consent=1)",
    )  # fmt: skip
    serve.add_argument("--max-sessions", type=int, default=MAX_SESSIONS)
    serve.add_argument("--max-viewers", type=int, default=MAX_VIEWERS, help="of one session, over WHEP")
    serve.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    serve.set_defaults(run=_serve)

    for name, text in (
        ("render", "draw a recording's video to a file, without a network"),
        ("bench", "measure latency, faults and stability on this machine"),
        ("detect", "say whether a video carries the watermark"),
        ("studio", "draw characters: `studio sheet OUT.png`"),
        ("data", "make the training set"),
        ("train", "train a network: `train articulation`"),
    ):
        commands.add_parser(name, help=text, add_help=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in COMMANDS[1:]:
        return _forward(arguments[0], arguments[1:])
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["serve", *arguments]
    options = build_parser().parse_args(arguments)
    return options.run(options)


_MODULES = {
    "render": "streamer.cli.render",
    "bench": "streamer.cli.bench",
    "detect": "streamer.provenance.detector",
    "studio": "streamer.cli.sheet",
    "data": "streamer.training.data.dataset",
    "train": "streamer.training",
}


def _forward(command: str, arguments: list[str]) -> int:
    """Runs a command whose module has a `main` of its own."""
    try:
        return importlib.import_module(_MODULES[command]).main(arguments)
    except KeyboardInterrupt:
        return 130


def _serve(options: argparse.Namespace) -> int:
    import uvicorn

    from streamer.server.app import create_app
    from streamer.server.startup import check_machine

    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    try:
        turn = None
        if options.turn_url or options.turn_secret:
            secret = options.turn_secret or turn_secret_from_environment() or ""
            turn = TurnConfig(tuple(options.turn_url), secret, options.turn_ttl)
        config = ServerConfig(
            host=options.host,
            port=options.port,
            token=options.token or token_from_environment(),
            tls_cert=options.tls_cert,
            tls_key=options.tls_key,
            generator=options.generator,
            device=options.device,
            udp_ports=options.udp_ports,
            public_ip=options.public_ip,
            allow_origins=tuple(options.allow_origin),
            ice_servers=tuple(options.ice_server),
            turn=turn,
            record_dir=options.record_dir,
            record=options.record,
            publish=tuple(options.publish) or publish_from_environment(),
            label=options.label,
            watermark=options.watermark,
            c2pa_cert=options.c2pa_cert,
            c2pa_key=options.c2pa_key,
            require_consent=options.require_consent,
            max_sessions=options.max_sessions,
            max_viewers=options.max_viewers,
        )
        check_machine(config)
    except ValueError as error:
        print(f"lipstream: {error}", file=sys.stderr)
        return 2

    from streamer.avatar.backends import create
    from streamer.base.errors import NotInstalled
    from streamer.base.onnx import BadNetwork
    from streamer.motion.articulation import Articulation

    def say(text: str) -> None:
        print(f"lipstream: {text}", file=sys.stderr)

    try:  # here, so that what is missing is one sentence and no traceback
        listener = Articulation.load()
        generator = create(config.generator, config.device, config.max_sessions, say)
    except (FileNotFoundError, BadNetwork, NotInstalled) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:  # while it measures
        return 130
    say(generator.where)

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                port = self.servers[0].sockets[0].getsockname()[1]  # with --port 0 the system chose it
                url = dataclasses.replace(config, port=port).url
                print(f"lipstream {__version__}: open {url} and talk (Ctrl-C ends)", flush=True)

    server = Announcing(
        uvicorn.Config(
            create_app(config, listener=lambda: listener, generator=lambda _: generator),
            host=config.host,
            port=config.port,
            log_level=options.log_level,
            ssl_certfile=config.tls_cert,
            ssl_keyfile=config.tls_key,
            access_log=options.log_level == "debug",
            timeout_graceful_shutdown=5,
            **SOCKETS,
        )
    )
    try:
        server.run()
    except RuntimeError as error:
        print(f"lipstream: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0 if server.started else 1
