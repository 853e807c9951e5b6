"""A machine that cannot draw every frame in time says so, at start and in the session: it never stutters silently."""

import logging
import time
from typing import Any

import numpy as np
import pytest
from lipstream_client import Client
from peers import Slate, Witness

from streamer.avatar.characters import CharacterRecord
from streamer.avatar.renderer import Renderer
from streamer.server.app import measure_costs


class Slow(Witness):
    """A generator that takes as long as it is told to."""

    name = "neural"

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        return "neural"

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        slate = Slate(size, self.seen)
        slate.name = "neural"
        draw = slate.draw

        def slowly(controls: np.ndarray, t: float = 0.0) -> np.ndarray:
            time.sleep(self.seconds)
            return draw(controls, t)

        slate.draw = slowly  # type: ignore[method-assign]
        return slate


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.045, "frames will be skipped"), (0.029, "may be skipped"), (0.0, None)],
)
def test_it_is_said_at_start(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: float, said: str | None
) -> None:
    """What leaves too little of 40 ms is told with its number, and what draws sooner; what is fast enough is not."""
    monkeypatch.setattr(server.state, "generator", Slow(seconds))
    with caplog.at_level(logging.WARNING, "streamer.server.app"):
        costs = measure_costs(server.state)
    assert costs["neural", 256] >= seconds and ("studio_rig", 512) not in costs
    texts = [record.getMessage() for record in caplog.records]
    if said is None:
        assert texts == []
    else:
        assert said in texts[0] and "the budget is 40 ms at 25 fps" in texts[0] and "--generator rig" in texts[0]


async def test_it_is_said_in_the_session(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once when frames begin to be left out, with their number, and again only after they were not for a while."""
    generator = Slow(0.08)
    monkeypatch.setattr(server.state, "generator", generator)
    monkeypatch.setattr("streamer.session.overload._INTERVAL", 0.6)
    async with Client(server.url) as client, client.session(size=128) as session:
        first = await session.expect("warning", 20, reason="overloaded")
        assert "of 15 frames were skipped" in first["detail"] and "--generator rig" in first["detail"]
        with pytest.raises(TimeoutError):
            await session.expect("warning", 2, reason="overloaded")
        generator.seconds = 0.0
        with pytest.raises(TimeoutError):
            await session.expect("warning", 2, reason="overloaded")
        generator.seconds = 0.08
        await session.expect("warning", 20, reason="overloaded")
    assert any(
        session.id in record.getMessage() for record in caplog.records if record.name == "streamer.session.overload"
    )
