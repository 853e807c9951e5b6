"""The page's dialog for one's own pictures, in a real Chromium: files, packs, clips, the camera, and consent."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from posed_faces import PICTURES, PORTRAIT, asleep, clip, png, poses, side_by_side
from sites import SLOW, eventually, until

pytestmark = pytest.mark.browser

CHOSEN = ".tile:has(:checked) .tile-name"


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Any]:
    """The page, loaded. Fails the test afterwards if a script of it failed."""
    yield from opened(browser, server)


def opened(browser: Any, server: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector(".tile input:checked", state="attached", timeout=SLOW)
    yield page
    context.close()
    assert not errors, errors


@pytest.fixture
def careful(browser: Any, server: Any) -> Iterator[tuple[Any, Any]]:
    """A server that wants consent, and its page."""
    with type(server)(require_consent=True) as running:
        for page in opened(browser, running):
            yield page, running


def give(page: Any, *files: tuple[str, bytes], kind: str = "image/png") -> None:
    page.set_input_files("#file", [{"name": name, "mimeType": kind, "buffer": data} for name, data in files])


def pack() -> list[tuple[str, bytes]]:
    return [(f"{name}.png", png(picture)) for name, picture in poses().items()]


def shown(page: Any) -> None:
    """Waits for the preview, all of its pictures loaded."""
    page.wait_for_selector("#uploader[aria-busy=false] #upload-preview:not([hidden])", timeout=SLOW)
    until(page, "[...document.querySelectorAll('#pack img')].every((image) => image.naturalWidth > 0)")


def notices(page: Any) -> list[str]:
    return page.eval_on_selector_all("#notices li", "(lines) => lines.map((line) => line.dataset.code)")


class TestFiles:
    def test_a_portrait(self, page: Any) -> None:
        """The face that was found is shown with what the user should know, and the character is used on a click."""
        before = page.inner_text(CHOSEN)
        page.click("#upload")
        give(page, ("me.png", png(asleep())))
        shown(page)
        assert "eyes_closed" in notices(page)
        assert "mouth open" in page.inner_text("#pack-missing")
        assert page.inner_text(CHOSEN) == before, "nothing is used before it was seen"
        page.click("#upload-use")
        until(page, f"document.querySelector('{CHOSEN}').textContent === 'me'")

    def test_a_pack(self, page: Any) -> None:
        """Each picture is shown with what it was taken for, and by what that was told."""
        give(page, *pack())
        shown(page)
        assert page.inner_text("#uploader-title") == "How the pictures are used"
        roles = page.eval_on_selector_all("#pack select", "(all) => all.map((one) => one.value)")
        assert roles == ["neutral", "mouth_open", "smile", "look_aside"]
        assert page.locator("#pack figcaption").first.inner_text().endswith("by file name")
        page.click("#upload-use")
        until(page, f"document.querySelector('{CHOSEN}').textContent === 'idle'")

    def test_roles_are_changed_by_hand(self, page: Any, server: Any) -> None:
        """What was told wrongly is put right beside the picture."""
        give(page, *pack()[:2])
        shown(page)
        with page.expect_response("**/v1/characters"):
            page.select_option("select[aria-label*='talk.png']", "teeth")
        until(page, "document.querySelectorAll('#pack small')[3]?.textContent === 'as you chose'")
        assert page.input_value("select[aria-label*='talk.png']") == "teeth"
        page.click("#upload-use")
        page.wait_for_selector("#uploader", state="hidden")
        entry = server.state.characters.get(page.input_value("input[name=character]:checked"))
        assert list(entry.pack.others) == ["teeth"]

    def test_a_clip(self, page: Any) -> None:
        """The chosen frames are shown, and that nothing else of the clip is kept."""
        data = clip([poses()["idle"], poses()["talk"], poses()["look"]], 0.8)
        give(page, ("me.webm", data), kind="video/webm")
        shown(page)
        assert page.locator("#pack figure").count() >= 2
        assert "clip_chosen" in notices(page)
        assert "Nothing else of its" in page.inner_text("#notices")
        assert page.locator("#pack select").count() == 0
        assert page.is_hidden("#mark-again-line")

    def test_without_a_face(self, page: Any) -> None:
        """What will not work is said, and marking the face is what is suggested."""
        give(page, ("side.png", (PICTURES / "profile.png").read_bytes()))
        shown(page)
        assert notices(page) == ["no_face"]
        assert page.inner_text("#mark-again") == "Mark eyes and mouth"
        page.click("#mark-again")
        page.wait_for_selector("dialog#marker[open]")
        for _ in range(3):
            page.keyboard.press("Enter")
        page.click("#marker-use")
        until(page, "!document.querySelector('#notices [data-code=no_face]')")
        assert page.inner_text("#upload-use") == "Use this character"

    def test_several_faces(self, page: Any) -> None:
        """One is clicked, and that one is shown."""
        give(page, ("two.png", png(side_by_side(2))))
        page.wait_for_selector("dialog#marker[open]")
        outlines = page.query_selector_all("#marker-guide rect")
        assert len(outlines) == 2
        min(outlines, key=lambda outline: outline.bounding_box()["x"]).click()
        page.click("#marker-use")
        shown(page)
        page.click("#upload-use")
        until(page, f"document.querySelector('{CHOSEN}').textContent === 'two'")

    @pytest.mark.parametrize(
        ("files", "kind", "says"),
        [
            ([("a.png", b"x")] * 9, "image/png", "You chose 9 pictures, but a character is made from at most 8."),
            (
                [("a.webm", b"x"), ("b.webm", b"x")],
                "video/webm",
                "Choose either up to 8 pictures or one clip, not 0 pictures and 2 clips.",
            ),
            ([("a.webm", b"x")], "video/webm", "1 bytes"),
            ([("a.png", PORTRAIT.read_bytes()[:5000])], "image/png", "truncated"),
        ],
        ids=["nine", "two clips", "no clip", "truncated"],
    )
    def test_problems(self, page: Any, files: list[tuple[str, bytes]], kind: str, says: str) -> None:
        """Each is said where other files can be chosen, and goes when they are."""
        give(page, *files, kind=kind)
        page.wait_for_selector("#upload-problem:not([hidden])")
        assert says in page.inner_text("#upload-problem")
        assert page.is_visible("#upload-pick")
        give(page, ("me.png", PORTRAIT.read_bytes()))
        shown(page)
        assert page.is_hidden("#upload-problem")

    def test_what_is_dropped(self, page: Any) -> None:
        """Pictures dropped anywhere on the page open the dialog."""
        page.evaluate(
            """async (bytes) => {
              const dropped = new DataTransfer();
              dropped.items.add(new File([new Uint8Array(bytes)], "dropped.jpg", { type: "image/jpeg" }));
              document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true }));
            }""",
            list(PORTRAIT.read_bytes()),
        )
        shown(page)
        assert "dropped.jpg" in page.inner_text("#pack")

    def test_giving_up_while_it_uploads(self, page: Any) -> None:
        """Closed, the dialog says nothing more, and the chosen character stays."""
        before = page.inner_text(CHOSEN)
        give(page, *pack())
        page.keyboard.press("Escape")
        page.wait_for_selector("#uploader", state="hidden")
        page.click("#upload")
        page.wait_for_selector("#upload-choose:not([hidden])")
        assert page.is_hidden("#upload-problem")
        assert page.inner_text(CHOSEN) == before


class TestLooks:
    @pytest.mark.parametrize("width", [360, 390, 1280])
    def test_fits(self, page: Any, width: int) -> None:
        """Nothing of any step sticks out sideways."""
        page.set_viewport_size({"width": width, "height": 740})
        page.click("#upload")
        wide = "(dialog) => dialog.scrollWidth <= dialog.clientWidth"
        assert page.eval_on_selector("#uploader", wide)
        give(page, *pack())
        shown(page)
        assert page.eval_on_selector("#uploader", wide)
        box = page.locator("#upload-use").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width

    def test_everything_has_a_name(self, page: Any) -> None:
        """Whatever can be operated has a text for screen readers, and the keyboard begins where it is to go on."""
        page.click("#upload")
        assert page.evaluate("document.activeElement.id") == "upload-pick"
        give(page, *pack()[:2])
        shown(page)
        assert page.evaluate("document.activeElement.id") == "upload-use"
        unnamed = page.eval_on_selector_all(
            "#uploader button, #uploader input, #uploader select, #uploader video",
            """(all) => all.filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim()
              || [...(one.labels ?? [])].map((label) => label.textContent.trim()).join("")))
              .map((one) => one.outerHTML)""",
        )
        assert unnamed == []


class TestCamera:
    def test_nobody_before_it(self, page: Any) -> None:
        """Chromium's fake camera shows no face: the steps are said, the camera is off, and the reason is shown."""
        page.evaluate(
            """() => {
              const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
              navigator.mediaDevices.getUserMedia = async (asked) => {
                window.asked = asked;
                return (window.camera = await open(asked));
              };
              window.said = [];
              new MutationObserver(() => said.push(document.querySelector("#upload-prompt").textContent))
                .observe(document.querySelector("#upload-prompt"), { childList: true });
            }"""
        )
        page.click("#upload")
        page.click("#upload-record")
        page.wait_for_selector("#upload-camera:not([hidden])")
        until(page, "document.querySelector('#upload-video').videoWidth > 0")
        page.click("#upload-camera-start")
        page.wait_for_selector("#upload-problem:not([hidden])", timeout=2 * SLOW)
        assert "No face was found in any of the clip's" in page.inner_text("#upload-problem")
        assert page.evaluate("said.slice(-4)") == [
            "Look at the camera",
            "Say “ah”",
            "Smile and show your teeth",
            "Close your eyes until the tone",
        ]
        assert page.evaluate("asked.audio") is False
        assert page.evaluate("camera.getTracks().map((track) => track.readyState)") == ["ended"]

    @pytest.mark.parametrize("way", ["#upload-camera-cancel", "#upload-close", "Escape"])
    def test_given_up(self, page: Any, server: Any, way: str) -> None:
        """However one leaves, the camera is off and nothing is sent."""
        before = len(server.state.characters.all())
        page.click("#upload")
        page.click("#upload-record")
        page.wait_for_selector("#upload-camera:not([hidden])")
        track = page.evaluate_handle("document.querySelector('#upload-video').srcObject.getTracks()[0]")
        page.click("#upload-camera-start")
        until(page, "document.querySelector('#upload-steps .now') !== null")
        if way.startswith("#"):
            page.click(way)
        else:
            page.keyboard.press(way)
        assert eventually(page, lambda: track.evaluate("(track) => track.readyState") == "ended")
        assert len(server.state.characters.all()) == before

    @pytest.mark.parametrize(
        ("error", "says"), [("NotAllowedError", "camera is blocked"), ("NotFoundError", "No camera was found")]
    )
    def test_a_camera_that_is_refused(self, page: Any, error: str, says: str) -> None:
        """The user reads what to do, and files can still be chosen."""
        page.evaluate(
            """(name) => {
              navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("refused", name));
            }""",
            error,
        )
        page.click("#upload")
        page.click("#upload-record")
        page.wait_for_selector("#upload-problem:not([hidden])")
        assert says in page.inner_text("#upload-problem")
        assert page.is_visible("#upload-pick")


class TestConsent:
    def test_an_upload_waits_for_it(self, careful: tuple[Any, Any]) -> None:
        """Where the server wants it, files wait for the tick, which goes along, and is remembered for the session."""
        page, running = careful
        known = len(running.state.characters.all())
        give(page, ("me.png", PORTRAIT.read_bytes()))
        page.wait_for_selector("#upload-waiting:not([hidden])")
        assert "me.png" in page.inner_text("#upload-waiting")
        assert page.evaluate("document.activeElement.id") == "upload-consent"
        assert len(running.state.characters.all()) == known
        page.keyboard.press("Space")
        shown(page)
        page.click("#upload-use")
        page.wait_for_selector("#uploader", state="hidden")
        entry = running.state.characters.get(page.input_value("input[name=character]:checked"))
        assert entry.consent is True
        page.reload()
        page.wait_for_selector(".tile input:checked", state="attached", timeout=SLOW)
        page.click("#upload")
        assert page.is_checked("#upload-consent")

    def test_elsewhere_it_is_said_or_not(self, page: Any, server: Any) -> None:
        """Where none is wanted, nothing waits, and only what was ticked is said."""
        picture = np.asarray(poses()["idle"])
        for ticked, kept in ((False, None), (True, True)):
            page.click("#upload")
            page.set_checked("#upload-consent", ticked)
            give(page, (f"consent {ticked}.png", png(picture[int(ticked) :])))
            shown(page)
            page.click("#upload-use")
            page.wait_for_selector("#uploader", state="hidden")
            until(page, f"document.querySelector('{CHOSEN}').textContent === 'consent {ticked}'")
            assert server.state.characters.get(page.input_value("input[name=character]:checked")).consent is kept
