"""Takes a container on standard input and sends its packets, as they are, to the URL in LIPSTREAM_RELAY_URL.

    python relay.py FORMAT

A process of its own, because PyAV connects and ends with the interpreter's lock held and its outputs know no time-out:
a target that does not answer would stop the server, while this can be ended. It says `connected` on standard output
once it is, and else why not. The URL comes in the environment, where other users cannot read the key that is in it.
"""

import os
import signal
import sys

import av


def relay(url: str, format: str) -> None:
    """Until standard input ends. Raises OSError and av.FFmpegError."""
    # The first second tells the streams' forms: FFmpeg's default is five.
    options = {"analyzeduration": "1000000", "fflags": "nobuffer"}
    with av.open(sys.stdin.buffer, "r", format=format, options=options) as source:
        with av.open(url, "w", format=format, options={"flush_packets": "1"}) as target:
            streams = {s.index: target.add_stream_from_template(s, opaque=True) for s in source.streams}
            target.start_encoding()
            print("connected", flush=True)
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    target.mux_one(packet)


def main() -> int:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group: the server ends this by closing its input
    try:
        relay(os.environ.pop("LIPSTREAM_RELAY_URL"), sys.argv[1])
    except (OSError, ValueError, av.FFmpegError) as error:
        print(getattr(error, "strerror", None) or error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
