"""Copies the packets of a container from standard input to the URL in LIPSTREAM_RELAY_URL, without transcoding.

    python relay.py FORMAT

Runs in its own process because PyAV holds the GIL while it connects and closes, and its outputs have no time-out: an
unresponsive target would block the server, whereas this process can be killed. Prints `connected` once connected, or
the reason of a failure. The URL is passed in the environment so that other users cannot read the stream key in it.
"""

import os
import signal
import sys

import av


def relay(url: str, format: str) -> None:
    """Copies until standard input ends. Raises OSError and av.FFmpegError."""
    # One second is enough to probe the streams; FFmpeg's default is five.
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
    )  # Ctrl-C reaches the whole process group: the server ends this process by closing its input
    try:
        relay(os.environ.pop("LIPSTREAM_RELAY_URL"), sys.argv[1])
    except (OSError, ValueError, av.FFmpegError) as error:
        print(getattr(error, "strerror", None) or error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
