"""Uploads over HTTP: pictures of every kind, packs and clips; what became of each is told, and why not where not."""

import io
import json
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from lipstream_client import Client
from lipstream_client import RequestError as ClientRefused
from peers import located
from PIL import Image
from posed_faces import (
    PICTURES,
    PORTRAIT,
    asleep,
    cat,
    clip,
    far_away,
    in_sunglasses,
    masked,
    png,
    portrait,
    poses,
    side_by_side,
)

from streamer.server.config import ServerConfig

pytestmark = pytest.mark.usefixtures("leaves_nothing", "any_load")

TOO_LARGE = b"".join(
    struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    for kind, body in [(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
)


@pytest.fixture(scope="module")
def strict(server: Any) -> Iterator[Any]:
    """A server that takes only pictures with a face, and small clips."""
    with type(server)(max_clip_bytes=4 * 2**20) as running:
        running.state.characters.needs_face = True
        yield running


@pytest.fixture
async def http(strict: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=strict.url, trust_env=False, timeout=60) as client:
        yield client


Part = tuple[str, tuple[str, bytes]]


async def posted(http: httpx.AsyncClient, *files: Part, query: str = "", **fields: str) -> httpx.Response:
    return await http.post(f"/v1/characters{query}", files=list(files), data=fields)


async def made(http: httpx.AsyncClient, *files: Part, **fields: str) -> dict[str, Any]:
    answer = await posted(http, *files, **fields)
    assert answer.status_code == 201, answer.text
    character = answer.json()
    assert answer.headers["location"] == f"characters/{character['id']}"
    assert (await http.get(located(answer))).json() == character
    return character


async def refused(http: httpx.AsyncClient, *files: Part, **fields: str) -> dict[str, Any]:
    answer = await posted(http, *files, **fields)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()


def file(picture: np.ndarray, name: str = "me.png", field: str = "picture") -> Part:
    return field, (name, png(picture))


def codes(character: dict[str, Any]) -> set[str]:
    return {notice["code"] for notice in character["pack"]["notices"]}


def taken(character: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Name and by whom, of each role."""
    return {one["role"]: (one["name"], one["by"]) for one in character["pack"]["chosen"]}


class TestOnePicture:
    @pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif", "gif"])
    async def test_types(self, http: httpx.AsyncClient, kind: str) -> None:
        """Whatever can be decoded is taken under its own type, and shown again."""
        stream = io.BytesIO()
        Image.fromarray(portrait()[0]).save(stream, kind)
        answer = await http.post(
            "/v1/characters?name=Me", content=stream.getvalue(), headers={"Content-Type": f"image/{kind}"}
        )
        assert answer.status_code == 201, answer.text
        character = answer.json()
        assert (character["name"], character["face"], character["kind"]) == ("Me", True, "picture")
        assert character["pack"]["size"] == [448, 448]
        [chosen] = character["pack"]["chosen"]
        shown = await http.get(chosen["picture"], params={"size": 128})
        assert shown.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(shown.content)).size == (128, 128)

    async def test_the_preview_shows_the_face(self, http: httpx.AsyncClient) -> None:
        """The face's middle is the preview's, and its eyes are as far apart as in no other cut."""
        character = await made(http, file(portrait()[0]))
        answer = await http.get(character["pack"]["chosen"][0]["picture"], params={"size": 256})
        preview = np.asarray(Image.open(io.BytesIO(answer.content)))
        pixels, fit = portrait()
        x, y = fit.points[[33, 263, 13], :2].mean(0)
        edge = fit.eye_distance
        box = (x - edge, y - edge, x + edge, y + edge)
        cut = Image.fromarray(pixels).resize((256, 256), box=tuple(map(float, box)))
        assert (
            np.abs(preview[96:160, 96:160, :3].mean((0, 1)) - np.asarray(cut)[96:160, 96:160].mean((0, 1))).max() < 20
        )

    async def test_roles_that_are_missing_have_no_preview(self, http: httpx.AsyncClient) -> None:
        """They are 404, like those of characters without pictures."""
        character = await made(http, file(portrait()[0]))
        for path in (f"{character['id']}/pack/smile", f"{character['id']}/pack/wings", "1/pack/neutral"):
            answer = await http.get(f"/v1/characters/{path}")
            assert (answer.status_code, answer.json()["reason"]) == (404, "unknown_role")

    async def test_a_picture_that_lies_on_its_side_is_turned(self, http: httpx.AsyncClient) -> None:
        """Nobody has to turn it first."""
        character = await made(http, file(np.rot90(portrait()[0])[:, :400]))
        assert character["pack"]["size"] == [448, 400]

    async def test_fields_go_before_the_query(self, http: httpx.AsyncClient) -> None:
        """What may be said in the query may be said in the form."""
        answer = await posted(http, file(portrait()[0]), query="?name=Query&own_mouth=1", name="Field")
        assert answer.json()["name"] == "Field"


class TestOneOfSeveral:
    async def test_the_one_that_is_meant(self, http: httpx.AsyncClient, strict: Any) -> None:
        """Three faces are listed with their places; `at` one of them, that one is taken."""
        three = side_by_side(3)
        problem = await refused(http, file(three))
        assert (problem["status"], problem["reason"]) == (422, "several_faces")
        assert "3 faces" in problem["detail"]
        faces = sorted(problem["faces"], key=lambda face: face["mouth"][0])
        assert len(faces) == 3
        for number, face in enumerate(faces):
            at = np.mean([np.mean(face["eyes"], axis=0), face["mouth"]], axis=0)
            character = await made(http, file(three), at=f"{at[0]:.1f},{at[1]:.1f}")
            entry = strict.state.characters.get(character["id"])
            assert entry.face.mouth[0] == pytest.approx(face["mouth"][0], abs=8)
            assert 448 * number < entry.face.mouth[0] < 448 * (number + 1)

    @pytest.mark.parametrize("at", ["1", "1,2,3", "a,b", "nan,1", "inf,0", ""])
    async def test_no_place(self, http: httpx.AsyncClient, at: str) -> None:
        """A place is two numbers."""
        problem = await refused(http, file(side_by_side(2)), at=at)
        assert (problem["status"], problem["reason"]) == (422, "bad_marks")


class TestPacks:
    async def test_roles_by_name(self, http: httpx.AsyncClient) -> None:
        """Files that are called as PNG-tubers call them need no more."""
        files = [file(picture, f"{name}.png") for name, picture in poses().items()]
        character = await made(http, *files[::-1], name="Pack")
        assert taken(character) == {
            "neutral": ("idle.png", "name"),
            "mouth_open": ("talk.png", "name"),
            "smile": ("smile.png", "name"),
            "look_aside": ("look.png", "name"),
        }
        assert character["pack"]["missing"] == ["teeth", "eyes_shut"]
        for chosen in character["pack"]["chosen"]:
            assert (await http.get(chosen["picture"])).status_code == 200

    async def test_roles_by_field(self, http: httpx.AsyncClient) -> None:
        """A field's name goes before what the file's says."""
        shown = poses()
        character = await made(
            http, file(shown["idle"], "smile.png", "neutral"), file(shown["smile"], "a.png", "teeth")
        )
        assert taken(character) == {"neutral": ("smile.png", "role"), "teeth": ("a.png", "role")}

    async def test_roles_by_face(self, http: httpx.AsyncClient) -> None:
        """What nobody names is told by what the face does, and what it does not do is made up."""
        shown = poses()
        character = await made(
            http, file(shown["look"], "1.png"), file(shown["idle"], "2.png"), file(shown["talk"], "3.png")
        )
        roles = taken(character)
        assert roles["neutral"] == ("2.png", "face")
        assert roles["look_aside"] == ("1.png", "face")
        assert {"teeth", "mouth_open"} & {role for role, (name, _) in roles.items() if name == "3.png"}

    async def test_sizes_and_crops(self, http: httpx.AsyncClient) -> None:
        """Pictures of other sizes and crops are laid on the first."""
        larger = np.asarray(Image.fromarray(poses()["talk"]).resize((640, 640)))[40:600, 90:560]
        character = await made(http, file(poses()["idle"], "idle.png"), file(larger, "talk.png"))
        assert set(taken(character)) == {"neutral", "mouth_open"}
        assert character["pack"]["size"] == [384, 384]

    async def test_two_people(self, http: httpx.AsyncClient) -> None:
        """It is taken, and said that the pictures may show two people, with the number that says so."""
        other = ("smile", ("toon.png", (PICTURES / "toon.png").read_bytes()))
        character = await made(http, file(portrait()[0], "me.png", "neutral"), other)
        [text] = [one["text"] for one in character["pack"]["notices"] if one["code"] == "other_person"]
        assert "toon.png may show somebody else than me.png" in text and any(c.isdigit() for c in text)

    async def test_notices_are_of_the_neutral_picture(self, http: httpx.AsyncClient) -> None:
        """Shut eyes are no fault of a picture that is to have them, even where it comes first."""
        character = await made(http, file(asleep(), "blink.png"), file(portrait()[0], "idle.png"))
        assert taken(character)["eyes_shut"] == ("blink.png", "name")
        assert "eyes_closed" not in codes(character)

    async def test_one_without_a_face(self, http: httpx.AsyncClient) -> None:
        """It is left out, and named."""
        empty = np.full((200, 200, 3), 90, np.uint8)
        empty[50:80] = 160
        character = await made(http, file(poses()["idle"], "idle.png"), file(empty, "talk.png"))
        assert set(taken(character)) == {"neutral"} and "no_face" in codes(character)

    async def test_none_with_a_face(self, http: httpx.AsyncClient) -> None:
        """All of them are counted."""
        empty = np.linspace(90, 200, 200 * 200 * 3).reshape(200, 200, 3).astype(np.uint8)
        problem = await refused(http, file(empty, "a.png"), file(empty[::-1], "b.png"))
        assert problem["reason"] == "no_face" and "2 pictures" in problem["detail"]

    async def test_one_that_is_damaged(self, http: httpx.AsyncClient) -> None:
        """The file is named."""
        damaged = ("picture", ("talk.png", png(poses()["talk"])[:3000]))
        problem = await refused(http, file(poses()["idle"], "idle.png"), damaged)
        assert problem["reason"] == "bad_picture" and problem["detail"].startswith("talk.png is truncated")

    async def test_nine(self, http: httpx.AsyncClient) -> None:
        """More than eight are refused, however small."""
        problem = await refused(http, *[file(np.zeros((8, 8, 3), np.uint8))] * 9)
        assert problem["reason"] == "bad_request" and "8 files" in problem["detail"]

    async def test_the_same_pack_is_the_same_character(self, http: httpx.AsyncClient) -> None:
        """Other names may mean other roles, and so another character."""
        shown = poses()
        first, again = [
            await made(http, file(shown["idle"], "idle.png"), file(shown["talk"], "talk.png")) for _ in range(2)
        ]
        other = await made(http, file(shown["idle"], "idle.png"), file(shown["talk"], "grin.png"))
        assert first["id"] == again["id"] != other["id"]


class TestClips:
    async def test_best_frames(self, http: httpx.AsyncClient) -> None:
        """Of a clip one frame for each role that it shows is kept, and the user is told that nothing else is."""
        shown = poses()
        data = clip([shown["idle"], shown["talk"], shown["look"]], 1.0)
        character = await made(http, ("clip", ("me.webm", data)))
        roles = taken(character)
        assert "neutral" in roles and len(roles) >= 2
        assert all(name.endswith(" s") for name, _ in roles.values())
        [text] = [one["text"] for one in character["pack"]["notices"] if one["code"] == "clip_chosen"]
        assert "Nothing else of its" in text and "is kept" in text
        for chosen in character["pack"]["chosen"]:
            assert (await http.get(chosen["picture"])).status_code == 200

    async def test_as_a_body_of_its_own(self, http: httpx.AsyncClient) -> None:
        """A clip needs no form."""
        data = clip([poses()["idle"]], 0.4)
        answer = await http.post("/v1/characters?name=Clip", content=data, headers={"Content-Type": "video/webm"})
        assert answer.status_code == 201 and answer.json()["name"] == "Clip"

    async def test_ten_minutes(self, http: httpx.AsyncClient) -> None:
        """Only its first seconds are read, and that is said."""
        data = clip([poses()["idle"][::4, ::4]], 600.0, rate=1)
        character = await made(http, ("clip", ("long.webm", data)))
        [text] = [one["text"] for one in character["pack"]["notices"] if one["code"] == "clip_cut"]
        assert "first 12 s of long.webm" in text

    @pytest.mark.parametrize(
        ("data", "reason", "says"),
        [
            (b"", "bad_picture", "0 bytes"),
            (b"this is no clip", "bad_picture", "15 bytes"),
            (clip([np.zeros((96, 96, 3), np.uint8)], 0.0), "bad_picture", "0 frames"),
            (clip([np.zeros((96, 96, 3), np.uint8)], 0.5), "no_face", "frames"),
            (clip([np.zeros((96, 96, 3), np.uint8)], 0.5)[:200], "bad_picture", "0 frames in its 200"),
        ],
        ids=["nothing", "garbage", "0 frames", "no face", "truncated"],
    )
    async def test_bad_clips(self, http: httpx.AsyncClient, data: bytes, reason: str, says: str) -> None:
        """Each says what is wrong with it."""
        problem = await refused(http, ("clip", ("clip.webm", data)))
        assert (problem["status"], problem["reason"]) == (422, reason)
        assert says in problem["detail"]

    async def test_too_large(self, http: httpx.AsyncClient, strict: Any) -> None:
        """It is refused as soon as more has come than is taken, in a form or without one."""
        data = b"\x1aE\xdf\xa3" + bytes(strict.config.max_clip_bytes)
        problem = await refused(http, ("clip", ("clip.webm", data)))
        assert (problem["status"], problem["reason"]) == (413, "too_large")
        assert str(strict.config.max_clip_bytes) in problem["detail"]
        answer = await http.post("/v1/characters", content=data, headers={"Content-Type": "video/webm"})
        assert answer.status_code == 413


class TestBadPictures:
    @pytest.mark.parametrize(
        ("picture", "reason", "says"),
        [
            (lambda: (PICTURES / "profile.png").read_bytes(), "no_face", "mark its eyes and mouth"),
            (lambda: png(side_by_side(3)), "several_faces", "3 faces"),
            (lambda: png(far_away()), "small_face", "more than 12"),
            (lambda: png(np.full((100, 100, 3), 70, np.uint8)), "one_colour", "#464646"),
            (lambda: b"\x89PNG\r\n\x1a\n" + TOO_LARGE, "bad_picture", "30000×30000"),
            (lambda: PORTRAIT.read_bytes()[:9000], "bad_picture", "truncated"),
            (lambda: b"", "bad_picture", "0 bytes"),
            (lambda: clip([np.zeros((96, 96, 3), np.uint8)], 0.3), "bad_picture", "not a PNG"),
        ],
        ids=["from the side", "three faces", "20 pixels", "one colour", "30000", "truncated", "empty", "video"],
    )
    async def test_refusals(self, http: httpx.AsyncClient, picture: Any, reason: str, says: str) -> None:
        """One sentence, with a number where there is one, and a reason for programs."""
        problem = await refused(http, ("picture", ("me.png", picture())))
        assert (problem["status"], problem["reason"]) == (422, reason)
        assert says in problem["detail"]

    async def test_turned_too_far(self, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """A face that is seen from the side is refused with the angle."""
        monkeypatch.setattr("streamer.faces.finder.MOST_YAW", 0.001)
        problem = await refused(http, file(portrait()[0]))
        assert (problem["status"], problem["reason"]) == (422, "from_the_side")
        assert "°" in problem["detail"]

    @pytest.mark.parametrize(
        ("picture", "code"),
        [(masked, "mouth_covered"), (asleep, "eyes_closed"), (in_sunglasses, "sunglasses"), (cat, "drawing")],
        ids=["mask", "asleep", "sunglasses", "cat"],
    )
    async def test_what_will_not_work_is_said(self, http: httpx.AsyncClient, picture: Any, code: str) -> None:
        """Such pictures are taken, and the user is told before a session starts."""
        character = await made(http, file(picture()))
        assert code in codes(character)

    async def test_without_a_face_where_none_is_needed(self, server: Any) -> None:
        """Where the rig draws, a picture without a face moves as a whole, which is said."""
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as http:
            character = await made(http, ("picture", ("side.png", (PICTURES / "profile.png").read_bytes())))
            assert character["face"] is False and codes(character) == {"no_face"}
            assert "moves as a whole" in character["pack"]["notices"][0]["text"]
            shown = await posted(http, ("picture", ("side.png", (PICTURES / "profile.png").read_bytes())), face="0")
            assert shown.json()["pack"] is None

    async def test_a_session_beside_goes_on(self, strict: Any) -> None:
        """While pictures are read and refused, somebody else's session still gets its frames."""
        async with Client(strict.url) as client, client.session() as session:
            first = await anext(session.frames())
            with pytest.raises(ClientRefused):
                await client.add_character(png(side_by_side(3)))
            with pytest.raises(ClientRefused):
                await client.add_character(clip=clip([np.zeros((96, 96, 3), np.uint8)], 0.5))
            frame = await anext(session.frames())
            while frame.k <= first.k + 3:
                frame = await anext(session.frames())
            assert strict.state.sessions[session.id].state.value == "live"


def form(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"


def part(disposition: bytes, body: bytes = b"") -> bytes:
    return b"Content-Disposition: " + disposition + b"\r\n\r\n" + body


class TestForms:
    @pytest.mark.parametrize(
        ("body", "status", "says"),
        [
            (b"", 400, "is truncated"),
            (b"hello", 400, "is malformed"),
            (form(), 422, "0 pictures and 0 clips"),
            (form(part(b"form-data")), 400, "no name"),
            (form(part(b'attachment; name="picture"')), 400, "no name"),
            (form(part(b'form-data; name="wings"')), 422, "'wings' is not one of"),
            (form(part(b'form-data; name="name"', b"me")), 422, "0 pictures"),
            (form(*[part(b'form-data; name="name"', b"me")] * 2), 422, "more than once"),
            (form(part(b'form-data; name="name"', b"n" * 401)), 413, "400 bytes"),
            (form(*[part(b'form-data; name="clip"', b"x")] * 2), 422, "2 clips"),
            (form(part(b'form-data; name="clip"', b"x"), part(b'form-data; name="smile"', b"x")), 422, "1 clip"),
            (form(part(b'form-data; name="picture"', b"x"))[:-20], 400, "is truncated"),
            (b"--x\r\n" + b"A: b\r\n" * 20 + b"\r\n", 400, "is malformed"),
        ],
    )  # fmt: skip
    async def test_bad_forms(self, http: httpx.AsyncClient, body: bytes, status: int, says: str) -> None:
        """Each is a problem with a sentence, never a failure."""
        answer = await http.post(
            "/v1/characters", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert answer.status_code == status, answer.text
        assert says in answer.json()["detail"]

    @pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'b' * 71}"])
    async def test_bad_boundaries(self, http: httpx.AsyncClient, boundary: str) -> None:
        """Without a boundary nothing is a form."""
        headers = {"Content-Type": f"multipart/form-data{boundary}"}
        answer = await http.post("/v1/characters", content=b"--b", headers=headers)
        assert answer.status_code == 400 and "boundary" in answer.json()["detail"]

    async def test_a_picture_that_is_too_large(self, http: httpx.AsyncClient, strict: Any) -> None:
        """Each picture has its bound, and all together have one."""
        most = strict.config.max_picture_bytes
        problem = await refused(http, ("picture", ("large.png", bytes(most + 1))))
        assert (problem["status"], problem["reason"]) == (413, "too_large")
        assert "large.png" in problem["detail"] and str(most) in problem["detail"]

    async def test_names_are_made_harmless(self, http: httpx.AsyncClient) -> None:
        """Folders and what cannot be printed do not reach messages."""
        problem = await refused(http, ("picture", ("../../a\x07/bad\u202e.png", b"x")))
        assert problem["detail"].startswith("bad.png is not a PNG")


class TestConsent:
    async def test_it_is_wanted(self, server: Any) -> None:
        """With --require-consent nothing is taken without it, whether query or field could say it."""
        with type(server)(require_consent=True) as running:
            async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=60) as http:
                me = file(portrait()[0])
                for fields in ({}, {"consent": "0"}):
                    problem = await refused(http, me, **fields)
                    assert (problem["status"], problem["reason"]) == (403, "consent_required")
                assert (await posted(http, me, query="?consent=0")).status_code == 403
                assert (
                    await http.post("/v1/characters", content=b"x", headers={"Content-Type": "video/webm"})
                ).status_code == 403
                assert (await posted(http, me, consent="1")).status_code == 201
                assert (await posted(http, me, query="?consent=1")).status_code == 201

    @pytest.mark.parametrize(("said", "kept"), [({}, None), ({"consent": "1"}, True), ({"consent": "0"}, False)])
    async def test_it_is_kept(
        self, http: httpx.AsyncClient, strict: Any, said: dict[str, str], kept: bool | None
    ) -> None:
        """What the user said of the pictures is known when a session shows them."""
        character = await made(http, file(poses()["idle"], "idle.png"), file(poses()["talk"], "talk.png"), **said)
        assert strict.state.characters.get(character["id"]).consent is kept


class TestPythonClient:
    async def test_packs(self, strict: Any, tmp_path: Any) -> None:
        """Paths and roles; the character comes with what was taken for what."""
        for name in ("idle", "talk"):
            (tmp_path / f"{name}.png").write_bytes(png(poses()[name]))
        async with Client(strict.url) as client:
            paths = [tmp_path / "idle.png", tmp_path / "talk.png"]
            character = await client.add_character(paths, consent=True)
            assert taken(character) == {"neutral": ("idle.png", "name"), "mouth_open": ("talk.png", "name")}
            assert character["name"] == "idle"
            character = await client.add_character(paths, roles=[None, "teeth"], name="Me")
            assert taken(character)["teeth"] == ("talk.png", "role")
            assert character["name"] == "Me"

    async def test_clips(self, strict: Any, tmp_path: Any) -> None:
        """A clip by its path."""
        (tmp_path / "me.webm").write_bytes(clip([poses()["idle"], poses()["talk"]], 0.6))
        async with Client(strict.url) as client:
            character = await client.add_character(clip=tmp_path / "me.webm")
        assert "clip_chosen" in codes(character)

    async def test_faces_to_choose_from(self, strict: Any) -> None:
        """A refusal brings the faces, and `at` takes one of them."""
        async with Client(strict.url) as client:
            with pytest.raises(ClientRefused, match="2 faces") as caught:
                await client.add_character(png(side_by_side(2)))
            x, y = caught.value.faces[0]["mouth"]
            assert (await client.add_character(png(side_by_side(2)), at=(x, y)))["face"] is True

    async def test_either_pictures_or_a_clip(self, strict: Any) -> None:
        """What cannot be sent is not sent."""
        async with Client(strict.url) as client:
            with pytest.raises(ValueError, match="either pictures or a clip"):
                await client.add_character()
            with pytest.raises(ValueError, match="either pictures or a clip"):
                await client.add_character(b"a", clip=b"b")
            with pytest.raises(ValueError, match="1 roles for 2 pictures"):
                await client.add_character([b"a", b"b"], roles=["smile"])


async def test_config_says_what_is_taken(http: httpx.AsyncClient, strict: Any) -> None:
    """Clients learn the bounds before they send anything."""
    config = (await http.get("/v1/config")).json()
    assert config["max_picture_bytes"] == ServerConfig().max_picture_bytes
    assert (config["max_pictures"], config["max_clip_bytes"]) == (8, strict.config.max_clip_bytes)
    assert "camera=(self)" in (await http.get("/")).headers["permissions-policy"]
    assert json.dumps(config)
