"""The page's way of marking a face by hand, in a real Chromium on a server that takes only pictures with a face."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from streamer.motion.controls import rest
from streamer.studio.character import Character
from streamer.studio.rig import Rig

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def strict(server: Any) -> Iterator[Any]:
    with type(server)() as running:
        running.state.characters.needs_face = True
        running.state.generator.name = "neural"  # for the page, which then asks whose mouth is to move
        yield running


@pytest.fixture
def page(browser: Any, strict: Any) -> Iterator[Any]:
    """The page, loaded. Fails the test afterwards if a script of it failed."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(strict.url)
    page.wait_for_selector(".tile input:checked", state="attached")
    yield page
    page.close(run_before_unload=False)
    assert not errors, errors


def upload(page: Any, picture: np.ndarray, name: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": stream.getvalue()})
    page.wait_for_selector("dialog#marker[open]")


def faceless(width: int = 400, height: int = 300) -> np.ndarray:
    rows = np.linspace(90, 200, height)[:, None, None]
    return np.broadcast_to(rows + [0, 10, 40], (height, width, 3)).astype(np.uint8)


def pair() -> np.ndarray:
    shown = []
    for seed in (501, 501):
        with Rig(Character.from_seed(seed), 256) as rig:
            shown.append(rig.draw(rest()).copy())
    return np.concatenate(shown, 1)


def named(strict: Any, name: str) -> list[Any]:
    return [entry for entry in strict.state.characters.all() if entry.name == name]


def taken(page: Any, strict: Any, name: str) -> np.ndarray:
    """Uses what the preview shows, and waits for the tile of this name; the character's marks [3, 2]."""
    page.wait_for_selector("dialog#marker:not([open])", state="attached")
    page.click("#upload-use")
    page.wait_for_selector(f".tile:has-text('{name}') input:checked", state="attached")
    page.wait_for_selector("dialog#uploader:not([open])", state="attached")
    [entry] = named(strict, name)
    return entry.face.points


def test_three_clicks_mark_a_face(page: Any, strict: Any) -> None:
    """Left eye, right eye, mouth: what is clicked is what the server is told, in the picture's own pixels."""
    upload(page, faceless(), "clicked.png")
    assert page.is_disabled("#marker-use")
    box = page.query_selector("#marker-image").bounding_box()
    for i, (x, y) in enumerate(((120, 100), (220, 110), (165, 190))):
        assert ("left eye", "right eye", "mouth")[i] in page.inner_text("#marker-step")
        page.mouse.click(box["x"] + x * box["width"] / 400, box["y"] + y * box["height"] / 300)
    page.click("#marker-use")
    assert np.abs(taken(page, strict, "clicked") - [[120, 100], [220, 110], [165, 190]]).max() < 2.5


def test_marks_are_dragged_and_moved_by_keys(page: Any, strict: Any) -> None:
    """Without a pointer: Enter accepts where a mark is, arrows move it. With one: a mark follows it."""
    upload(page, faceless(), "moved.png")
    page.keyboard.press("ArrowLeft")  # the first mark has the focus
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "marker-use"
    box = page.query_selector("#marker-image").bounding_box()
    start = page.query_selector(".mark >> nth=2").bounding_box()
    page.mouse.move(start["x"] + 20, start["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 0.7 * box["height"], steps=4)
    page.mouse.up()
    page.click("#marker-use")
    wanted = [[0.396 * 400, 0.4 * 300], [240, 0.42 * 300], [220, 210]]
    assert np.abs(taken(page, strict, "moved") - wanted).max() < 2.5


@pytest.mark.parametrize("keeps", [False, True], ids=["drawn in", "kept"])
def test_the_mouth_is_chosen_with_the_marks(page: Any, strict: Any, keeps: bool) -> None:
    """The picture's own mouth is kept where that was asked for beside the marks; the page then says which it has."""
    upload(page, faceless(), f"mouth {keeps}.png")
    assert not page.is_checked("#marker-own-mouth")
    if keeps:
        page.check("#marker-own-mouth")
    page.focus(".mark >> nth=0")
    for _ in range(3):
        page.keyboard.press("Enter")  # where the marks are
    page.click("#marker-use")
    page.wait_for_selector("#upload-preview:not([hidden]) #own-mouth-line:not([hidden])")
    assert page.is_checked("#own-mouth") is keeps
    taken(page, strict, f"mouth {keeps}")
    [entry] = named(strict, f"mouth {keeps}")
    assert entry.own_mouth is keeps


def test_one_of_several_faces_is_chosen(page: Any, strict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces that the server found are outlined; the one that is clicked is meant, as the server found it."""
    upload(page, pair(), "pair.png")
    assert "2 faces" in page.inner_text("#marker-why")
    outlines = page.query_selector_all("#marker-guide rect")
    assert len(outlines) == 2
    right = max(outlines, key=lambda outline: outline.bounding_box()["x"])
    right.click()
    chosen: list[Any] = []
    known = strict.state.characters
    read = known.from_pictures
    monkeypatch.setattr(known, "from_pictures", lambda *said: chosen.append(said[3]) or read(*said))
    page.click("#marker-use")
    points = taken(page, strict, "pair")
    [(x, y)] = chosen
    assert 256 < x < 512 and 0 < y < 256
    assert np.abs(points - (256 * np.array([[0.416, 0.454], [0.584, 0.454], [0.5, 0.572]]) + [256, 0])).max() < 10


def test_impossible_marks_are_refused_in_place(page: Any, strict: Any) -> None:
    """What the server will not take is said where it can be mended; giving up leaves no character behind."""
    before = {entry.id for entry in strict.state.characters.all()}
    upload(page, faceless(), "upside.png")
    box = page.query_selector("#marker-image").bounding_box()
    for x, y in ((0.3, 0.7), (0.6, 0.7), (0.45, 0.3)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.click("#marker-use")
    page.wait_for_selector("#marker-problem:not([hidden])")
    assert "eye distances below the eyes" in page.inner_text("#marker-problem")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog#marker:not([open])", state="attached")
    assert {entry.id for entry in strict.state.characters.all()} == before
    page.wait_for_selector("#upload-choose:not([hidden])")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog#uploader:not([open])", state="attached")


def test_a_face_that_was_found_can_be_marked_anew(page: Any, strict: Any) -> None:
    """Where the server found a face by itself, the page still offers to mark another."""
    picture = pair()[:, :256].copy()
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    page.set_input_files("#file", {"name": "again.png", "mimeType": "image/png", "buffer": stream.getvalue()})
    page.click("#mark-again")
    page.wait_for_selector("dialog#marker[open]")
    box = page.query_selector("#marker-image").bounding_box()
    for x, y in ((0.3, 0.3), (0.6, 0.3), (0.45, 0.6)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.click("#marker-use")
    page.wait_for_selector("dialog#marker:not([open])", state="attached")
    page.wait_for_selector("#mark-again-line", state="hidden")
    found, marked = named(strict, "again")
    assert found.id != marked.id
    assert np.abs(marked.face.points - 256 * np.array([[0.3, 0.3], [0.6, 0.3], [0.45, 0.6]])).max() < 2


def test_a_pictures_own_mouth_is_kept_and_given_up_again(page: Any, strict: Any) -> None:
    """A picture talks with a mouth that is drawn in; a switch in the preview gives its own back, and takes it again,
    with the marks that it has, before there is a tile."""
    for name, marked in (("own found", False), ("own marked", True)):
        picture = pair()[:, :256] if not marked else faceless()
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG")
        page.set_input_files("#file", {"name": f"{name}.png", "mimeType": "image/png", "buffer": stream.getvalue()})
        if marked:
            page.wait_for_selector("dialog#marker[open]")
            assert not page.is_checked("#marker-own-mouth")
            for _ in range(3):
                page.keyboard.press("Enter")
            page.click("#marker-use")
        for keeps in (False, True, False, True):
            page.wait_for_selector("#upload-preview:not([hidden])")
            if page.is_checked("#own-mouth") is not keeps:
                with page.expect_response("**/v1/characters"):
                    page.click("#own-mouth-line")
                page.wait_for_selector("#uploader[aria-busy=false] #upload-preview:not([hidden])")
            assert page.is_checked("#own-mouth") is keeps
            assert page.is_visible("#mark-again-line") is not marked
        page.click("#upload-use")
        tile = f".tile:has-text('{name}')"
        page.wait_for_selector(f"{tile} input:checked", state="attached")
        assert page.locator(tile).count() == 1
        assert strict.state.characters.get(page.input_value("input[name=character]:checked")).own_mouth is True
        first, second = named(strict, name)
        assert (first.face.points == second.face.points).all()
