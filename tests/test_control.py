"""The control channel's messages from a client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.session import messages
from streamer.session.messages import BadMessage, Interrupt, Mute, Ping, SetCharacter, SetEmotion, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":"ping","id":7,"t":12.5}', Ping(7, 12.5)),
        ('{"type":"interrupt"}', Interrupt()),
        ('{"type":"interrupt","extra":1}', Interrupt()),
        ('{"type":"mute","muted":true}', Mute(True)),
        ('{"type":"character","id":"3"}', SetCharacter("3", None)),
        ('{"type":"character","id":"3","background":false}', SetCharacter("3", False)),
        ('{"type":"emotion","name":"happy","strength":0.5}', SetEmotion("happy", 0.5)),
        ('{"type":"emotion","name":"sad"}', SetEmotion("sad", 1.0)),
    ],
)
def test_every_message_is_understood(text: str, expected: messages.Control) -> None:
    """Each type parses to what it asks for; unknown fields are passed over."""
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x00\x01", "2 bytes of binary"),
        ("", "not JSON"),
        ("[1]", "JSON object"),
        ('{"type":"dance"}', "'dance'"),
        ("{}", "None"),
        ('{"type":"ping","id":1.5,"t":0}', "1.5"),
        ('{"type":"ping","id":1,"t":1e999}', "finite"),
        ('{"type":"ping","id":true,"t":0}', "True"),
        ('{"type":"mute","muted":1}', "true or false"),
        ('{"type":"character","id":""}', "1 to 200"),
        ('{"type":"emotion","name":"hungry","strength":1}', "hungry"),
        ('{"type":"emotion","name":"happy","strength":2}', "2"),
        ('{"type":"x","pad":"' + "a" * 1_000_000 + '"}', "16384"),
        ("[" * 16_000, "not JSON"),
    ],
)
def test_what_is_no_message_says_why(data: str | bytes, says: str) -> None:
    """Bad messages raise BadMessage whose text names the trouble, and stay short."""
    with pytest.raises(BadMessage, match=says) as caught:
        parse(data)
    assert len(str(caught.value)) < 300


@given(
    st.one_of(
        st.text(), st.binary(), st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(str)
    )
)
def test_nothing_a_peer_sends_escapes(data: str | bytes) -> None:
    """Whatever comes, the answer is a message or BadMessage."""
    try:
        parse(data)
    except BadMessage:
        pass
