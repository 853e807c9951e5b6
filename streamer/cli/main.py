"""The `lipstream` command; without a subcommand it serves. Each subcommand imports its dependencies when it runs."""

import argparse
import dataclasses
import importlib
import logging
import sys
from collections.abc import Sequence

from streamer import __version__
from streamer.cli.interrupts import loading
from streamer.server import options
from streamer.server.config import SOCKETS

COMMANDS = ("serve", "config", "doctor", "render", "bench", "detect", "studio", "data", "train")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lipstream", description="Speak, and your character speaks.")
    parser.add_argument("--version", action="version", version=f"lipstream {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{" + ",".join(COMMANDS) + "}")

    serve = commands.add_parser("serve", help="serve the page and the API (the default)")
    options.add_arguments(serve)
    serve.set_defaults(run=_serve)
    config = commands.add_parser("config", help="print the server's options and their origins, secrets masked")
    options.add_arguments(config)
    config.set_defaults(run=_print_config)

    for name, text in (
        ("doctor", "show what this machine supports; attach the output to bug reports"),
        ("render", "render a video from a speech recording, without a network"),
        ("bench", "measure latency, fault tolerance and stability on this machine"),
        ("detect", "check whether a video carries the watermark"),
        ("studio", "draw characters: `studio sheet OUT.png`"),
        ("data", "create the training sets: speech, people, photographs"),
        ("train", "train a network: `train articulation`"),
    ):
        commands.add_parser(name, help=text, add_help=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in _MODULES:
        return _forward(arguments[0], arguments[1:])
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["serve", *arguments]
    given = build_parser().parse_args(arguments)
    return given.run(given)


_MODULES = {
    "doctor": "streamer.cli.doctor",
    "render": "streamer.cli.render",
    "bench": "streamer.cli.bench",
    "detect": "streamer.provenance.detector",
    "studio": "streamer.cli.sheet",
    "data": "streamer.training.data.sets",
    "train": "streamer.training",
}


def _forward(command: str, arguments: list[str]) -> int:
    """Runs a subcommand whose module has its own `main`."""
    with loading():
        module = importlib.import_module(_MODULES[command])
    return module.main(arguments)


def _print_config(given: argparse.Namespace) -> int:
    try:
        reading = options.read_options(given)
        print(options.shown(reading))
        reading.options.config()
    except ValueError as error:
        print(f"lipstream: {error}", file=sys.stderr)
        return 2
    return 0


def _serve(given: argparse.Namespace) -> int:
    with loading():
        import uvicorn

        from streamer.avatar.backends import create
        from streamer.base.errors import NotInstalled
        from streamer.base.onnx import BadNetwork
        from streamer.motion.articulation import Articulation
        from streamer.server.app import create_app
        from streamer.server.startup import check_machine

    try:
        reading = options.read_options(given)
        log_level = reading.options.log_level
        logging.basicConfig(level=log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
        for variable in reading.unknown:
            print(f"lipstream: {variable} is set, but is not a server option", file=sys.stderr)
        config = reading.options.config()
        if (warning := check_machine(config)) is not None:
            print(f"lipstream: {warning}", file=sys.stderr)
    except ValueError as error:
        print(f"lipstream: {error}", file=sys.stderr)
        return 2

    def say(text: str) -> None:
        print(f"lipstream: {text}", file=sys.stderr)

    try:  # before the server starts, so that missing files produce one sentence instead of a traceback
        with loading():
            listener = Articulation.load()
            generator = create(config.generator, config.device, config.max_sessions, say)
    except (FileNotFoundError, BadNetwork, NotInstalled) as error:
        say(str(error))
        return 1
    say(generator.where)

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                port = self.servers[0].sockets[0].getsockname()[1]  # with --port 0 the operating system chose it
                url = dataclasses.replace(config, port=port).url
                print(f"lipstream {__version__}: open {url} and talk (Ctrl-C to quit)", flush=True)

    server = Announcing(
        uvicorn.Config(
            create_app(config, listener=lambda: listener, generator=lambda _: generator),
            host=config.host,
            port=config.port,
            log_level=log_level,
            ssl_certfile=config.tls_cert,
            ssl_keyfile=config.tls_key,
            access_log=log_level == "debug",
            timeout_graceful_shutdown=5,
            **SOCKETS,
        )
    )
    try:
        server.run()
    except RuntimeError as error:
        print(f"lipstream: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # uvicorn re-raises it after shutting down
        if not server.started:
            raise
    return 0 if server.started else 1
