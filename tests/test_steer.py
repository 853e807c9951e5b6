"""The page's keys and gamepad: what is held moves the live character, and nothing else does."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from peers import Witness
from test_page import SLOW, STREAM, eventually, listen, no_sessions, start, until

from streamer.motion.gestures import GESTURES
from streamer.motion.plan import RANGES

pytestmark = pytest.mark.browser


@pytest.fixture
def witness(server: Any, monkeypatch: pytest.MonkeyPatch) -> Witness:
    """Keeps the controls of every frame that the server draws."""
    witness = Witness()
    monkeypatch.setattr(server.state, "generator", witness)
    return witness


@pytest.fixture
def page(browser: Any, server: Any, witness: Witness, any_load: None) -> Iterator[Any]:
    """The page, live, with nothing in focus."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    complaints = listen(page)
    page.goto(server.url)
    page.wait_for_selector(".tile input:checked", state="attached", timeout=SLOW)
    start(page)
    until(page, f"{STREAM}.stats().frames > 5")
    page.evaluate("document.activeElement.blur()")
    yield page
    page.close(run_before_unload=False)
    assert not complaints, complaints
    assert no_sessions(server)


class TestKeys:
    def test_move_the_character_while_held(self, page: Any, witness: Witness) -> None:
        """Held keys add up and stay for longer than a plan's second; let go or lost, the character is its own."""
        page.keyboard.down("x")
        page.keyboard.down("e")
        assert eventually(page, lambda: witness.last("right_raise") > 0.85 and witness.last("brow_left") > 0.6)
        since = len(witness.seen)
        assert eventually(page, lambda: len(witness.seen) > since + 40)
        assert witness.last("right_raise") > 0.85
        page.keyboard.up("x")
        assert eventually(page, lambda: witness.last("right_raise") < 0.05 and witness.last("brow_left") > 0.6)
        page.evaluate("window.dispatchEvent(new Event('blur'))")  # the key's release goes to another window
        assert eventually(page, lambda: witness.last("brow_left") < 0.5)

    def test_shift_turns_the_eyes(self, page: Any, witness: Witness) -> None:
        """The same arrow turns the head, and with Shift the eyes, even where Shift comes while it is held."""
        page.keyboard.down("ArrowRight")
        assert eventually(page, lambda: witness.last("yaw") > 0.25)
        page.keyboard.down("Shift")
        assert eventually(page, lambda: witness.last("gaze_x") > 0.5 and witness.last("yaw") < 0.3)
        page.keyboard.press("b")
        page.keyboard.up("Shift")
        page.keyboard.up("ArrowRight")
        assert eventually(page, lambda: witness.last("yaw") < 0.25 and witness.last("gaze_x") < 0.6)

    def test_stay_with_what_has_a_use_for_them(self, page: Any, witness: Witness) -> None:
        """Typed letters are text; arrows choose among tabs and emotions where those have the focus."""
        page.evaluate(f"() => {{ globalThis.asked = []; {STREAM}.move = async (values) => asked.push(values); }}")
        page.click("#tab-characters")
        page.click("#open-builder")
        page.wait_for_selector("#traits select")
        page.click("#builder-name")
        page.keyboard.type("zex")
        assert page.input_value("#builder-name") == "zex"
        page.click("#close-builder")
        page.focus("#tab-characters")
        page.keyboard.press("ArrowRight")
        assert page.get_attribute("#tab-sound", "aria-selected") == "true"
        page.focus("input[name=emotion]:checked")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.querySelector('input[name=emotion]:checked').value") == "happy"
        seen = len(witness.seen)
        assert eventually(page, lambda: len(witness.seen) > seen + 5)
        assert page.evaluate("globalThis.asked") == [], "nothing was asked of the character"

    def test_are_the_characters_again_after_a_click(self, page: Any, witness: Witness) -> None:
        """An emotion chosen by mouse does not keep the arrows."""
        page.locator("input[name=emotion]").nth(3).click(force=True)
        page.keyboard.down("ArrowLeft")
        assert eventually(page, lambda: witness.last("yaw") < -0.25)
        page.keyboard.up("ArrowLeft")
        assert page.evaluate("document.querySelector('input[name=emotion]:checked').value") == "angry"

    def test_are_listed_and_end_with_the_session(self, page: Any) -> None:
        """The line under the controls leads to the list of all keys; without a session the arrows scroll as ever."""
        page.click("#steer-more")
        assert "Raise a hand" in page.inner_text("#shortcuts[open]")
        page.click("#shortcuts .button")
        page.click("#stop")
        page.evaluate("document.activeElement.blur()")
        prevented = page.evaluate(
            """() => !document.body.dispatchEvent(
                 new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true, cancelable: true }))"""
        )
        assert prevented is False


GAMEPAD = """(axes) => {
  const buttons = Array.from({ length: 17 }, () => ({ pressed: false, touched: false, value: 0 }));
  globalThis.pad = { mapping: "standard", axes, buttons, connected: true, id: "test", index: 0 };
  navigator.getGamepads = () => [null, globalThis.pad, null, null];
  window.dispatchEvent(new Event("gamepadconnected"));
}"""


class TestGamepad:
    def test_moves_the_character(self, page: Any, witness: Witness) -> None:
        """Sticks turn head and eyes, a trigger raises a hand as far as it is pressed; the help line says so."""
        page.evaluate(GAMEPAD, [-1, 0, 0, -1])
        assert page.is_visible("#steer-pad") and page.is_hidden("#steer-keys")
        assert eventually(page, lambda: witness.last("yaw") < -0.3 and witness.last("gaze_y") > 0.5)
        page.evaluate("() => { pad.axes = [0.05, 0.05, 0.05, 0.05]; pad.buttons[7].value = 0.6; }")
        assert eventually(page, lambda: abs(witness.last("right_raise") - 0.6) < 0.05 and witness.last("yaw") > -0.3)
        page.evaluate("() => { navigator.getGamepads = () => []; dispatchEvent(new Event('gamepaddisconnected')); }")
        assert page.is_hidden("#steer-pad") and page.is_visible("#steer-keys")
        assert eventually(page, lambda: witness.last("right_raise") < 0.05)

    def test_asks_for_nothing_out_of_range(self, browser: Any, server: Any) -> None:
        """Whatever sticks, triggers and keys say together, the server takes every value, and rest is rest."""
        page = browser.new_page()
        page.goto(f"{server.url}/page/icon.svg")  # any page of the server: nothing of it is used
        poses = page.evaluate(
            """async (ranges) => {
              const { poseOf, changes } = await import("/page/steer.js");
              const pad = (axes, value) => ({ axes, buttons: Array.from({ length: 17 }, () => ({ value })) });
              const keys = ["arrowleft", "arrowup", "a", "b", "e", "x", "nothing"];
              return {
                rest: poseOf([], false, [pad([0.1, -0.1, 0, 0.05], 0), null], ranges),
                most: poseOf(keys, false, [pad([-1, -1, -1, -1], 1), pad([-1, 1, 0, 0], 1)], ranges),
                wink: poseOf(["b"], true, [], ranges),
                poor: poseOf(keys, false, [], { yaw: [-0.1, 0.1] }),
                changes: changes({ yaw: 0.2, roll: 0.1, pitch: 0.1 }, { yaw: 0.21, pitch: 0.2, smile: 1 }),
              };
            }""",
            {name: list(pair) for name, pair in RANGES.items()},
        )
        page.close()
        assert poses["rest"] == {}
        assert poses["most"]["yaw"] == -0.5
        for name, value in poses["most"].items():
            assert RANGES[name][0] <= value <= RANGES[name][1], name
        assert poses["wink"] == {"blink_right": 1}
        assert poses["poor"] == {"yaw": -0.1}
        assert poses["changes"] == {"roll": None, "pitch": 0.2, "smile": 1}


class TestHotkeys:
    """Keys that do something once."""

    def test_gestures_and_characters(self, page: Any, witness: Witness, server: Any) -> None:
        """A letter makes a gesture; Shift and a digit put on the character whose tile bears it."""
        page.keyboard.press("w")
        assert eventually(page, lambda: witness.last("right_raise") > 0.9)
        assert eventually(page, lambda: witness.last("right_raise") < 0.1), "it ends by itself"
        page.keyboard.press("Shift+Digit3")
        (held,) = server.state.sessions.values()
        third = server.state.characters.all()[2].id
        assert eventually(page, lambda: held.entry.id == third)
        assert eventually(page, lambda: page.evaluate(f"{STREAM}.character") == third)
        assert page.locator(".tile input").nth(2).is_checked()

    def test_away_and_back(self, page: Any, server: Any) -> None:
        """R goes away and comes back, and so does the button, which tells which it is."""
        (held,) = server.state.sessions.values()
        page.keyboard.press("r")
        assert eventually(page, lambda: held.snapshot()["away"] and page.inner_text("#away") == "Back")
        assert page.inner_text("#listening") == "Away"
        page.click("#away")
        assert eventually(page, lambda: not held.snapshot()["away"] and page.inner_text("#away") == "Away")

    def test_what_others_ask_is_seen_here(self, page: Any, server: Any) -> None:
        """A stream deck's mute, emotion, character and absence show on the page as if they had been asked here."""
        (held,) = server.state.sessions.values()
        for message in (
            {"type": "mute", "muted": True},
            {"type": "emotion", "name": "sad"},
            {"type": "character", "id": "40"},
            {"type": "away", "away": True},
        ):
            httpx.post(f"{server.url.rstrip('/')}/v1/sessions/{held.id}/control", json=message, timeout=10)
        assert eventually(page, lambda: page.get_attribute("#away", "aria-pressed") == "true")
        assert page.get_attribute("#mute", "aria-pressed") == "true"
        assert page.evaluate(f"{STREAM}.muted") and page.evaluate(f"{STREAM}.away")
        assert page.locator("input[name=emotion][value=sad]").is_checked()
        assert page.locator("input[name=character][value='40']").is_checked()
        assert page.evaluate(f"{STREAM}.input.getAudioTracks()[0].enabled") is False

    def test_are_listed(self, page: Any) -> None:
        """The list of keys names every gesture that the server knows, and fits a laptop's screen."""
        page.keyboard.press("?")
        listed = page.locator("#gesture-keys dd").all_inner_texts()
        assert listed == [name.capitalize() for name in GESTURES]
        box = page.locator("#shortcuts").bounding_box()
        assert box["height"] <= 800 and page.evaluate("document.querySelector('#shortcuts').scrollHeight") <= 800
        page.keyboard.press("Escape")
