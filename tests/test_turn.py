"""TURN credentials that lapse: coturn's form, to the letter. A real coturn is asked in test_relay.py."""

import pytest

from streamer.server.turn import TurnConfig

URL = "turn:turn.example:3478?transport=udp"


def test_credentials_are_coturns() -> None:
    """expiry:name, and base64(HMAC-SHA1(secret, that)): this pair was made with openssl."""
    turn = TurnConfig((URL,), "north", 600)
    # printf %s 1700000600:ada | openssl dgst -sha1 -hmac north -binary | base64
    assert turn.credentials("ada", 1_700_000_000) == ("1700000600:ada", "PxnDSvp1YXUZ9V3JJfLv80je4zM=")


def test_ice_server() -> None:
    """In the shape that a browser takes; fresh where time has passed, another for another secret."""
    turn = TurnConfig((URL, "turns:turn.example:443?transport=tcp"), "north", 600)
    server = turn.ice_server("ada", 1_700_000_000.2)
    assert server["urls"] == [URL, "turns:turn.example:443?transport=tcp"]
    assert server["username"] == "1700000601:ada"  # never less than the whole time
    assert turn.ice_server("ada", 1_700_000_002)["credential"] != server["credential"]
    assert TurnConfig((URL,), "south", 600).ice_server("ada", 1_700_000_000.2)["credential"] != server["credential"]


@pytest.mark.parametrize(
    "url",
    [
        "turn.example",
        "stun:turn.example",
        "turn://turn.example",
        "turn:",
        "turn:turn.example:0",
        "turn:turn.example:70000",
        "turn:turn.example?transport=sctp",
        "turn:turn.example,user,secret",
        'turn:turn.example>; rel="x',
        "turn:a b",
        "turn:turn.example\nturn:b",
    ],
)
def test_bad_url(url: str) -> None:
    """A URL that no browser would take is refused at start, and shown."""
    with pytest.raises(ValueError, match="is not turn:HOST") as caught:
        TurnConfig((URL, url), "north", 600)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize("url", ["turn:192.0.2.7", "turns:turn.example:443?transport=tcp", "turn:[2001:db8::7]:3478"])
def test_good_url(url: str) -> None:
    """A host by name or address, with a port and a transport if wanted."""
    assert TurnConfig((url,), "north", 600).ice_server("a", 0)["urls"] == [url]


def test_what_is_missing_is_named() -> None:
    """A server without a secret, a secret without a server, and a time out of bounds."""
    with pytest.raises(ValueError, match="LIPSTREAM_TURN_SECRET"):
        TurnConfig((URL,), "", 600)
    with pytest.raises(ValueError, match="--turn-url"):
        TurnConfig((), "north", 600)
    for ttl in (0, -5, 1e9, float("nan")):
        with pytest.raises(ValueError, match="must be 1 to 604800"):
            TurnConfig((URL,), "north", ttl)


@pytest.mark.parametrize("name", ["", "a:b", "a b", 'a"', "ä"])
def test_name_is_one_word(name: str) -> None:
    """A name goes into a user name and a header: nothing may part it there."""
    with pytest.raises(ValueError, match="name"):
        TurnConfig((URL,), "north", 600).credentials(name, 0)
