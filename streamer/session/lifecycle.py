"""The states of a session and their transitions."""

import enum


class State(enum.Enum):
    NEW = "new"
    CONNECTING = "connecting"
    LIVE = "live"
    CLOSING = "closing"
    CLOSED = "closed"

    def may_become(self, following: "State") -> bool:
        return following in _FOLLOWING[self]


_FOLLOWING = {
    State.NEW: {State.CONNECTING, State.LIVE, State.CLOSING},
    State.CONNECTING: {State.LIVE, State.CLOSING},
    State.LIVE: {State.CLOSING},
    State.CLOSING: {State.CLOSED},
    State.CLOSED: set(),
}
