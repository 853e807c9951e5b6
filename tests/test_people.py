"""Rendered people, as far as neither assets nor a body are needed: units, bones, projection, flow and meshes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("numba", reason="the people studio's renderer needs the extra `train`")

from streamer.motion.controls import controls  # noqa: E402
from streamer.training.clip import FLOW_UNIT, UNSEEN  # noqa: E402
from streamer.training.people import proxies, raster, skeleton  # noqa: E402
from streamer.training.people.clips import flow_between  # noqa: E402
from streamer.training.people.cut import closest, read_target  # noqa: E402
from streamer.training.people.mesh import read_obj, split_seams, subdivided, triangulated  # noqa: E402
from streamer.training.people.renderer import Renderer  # noqa: E402
from streamer.training.people.setting import Camera, Light, light  # noqa: E402
from streamer.training.people.units import Habit, Measures, eye_turn, units_of  # noqa: E402

PARTS_LIPS = {
    "jawOpen": 1.0, "mouthUpperUpLeft": 0.1, "mouthUpperUpRight": 0.1, "mouthLowerDownLeft": 0.15,
    "mouthLowerDownRight": 0.15, "mouthFunnel": 0.3, "mouthPucker": 0.0, "mouthSmileLeft": 0.0, "mouthSmileRight": 0.0,
}  # fmt: skip
FACE = Measures(gap=0.0, parts=PARTS_LIPS, widest=0.7, shut={"Left": 0.8, "Right": 0.9})
PLAIN = Habit({}, {})


def gap_of(units: dict[str, float]) -> float:
    return sum(strength * PARTS_LIPS.get(unit, 0.0) for unit, strength in units.items())


# Units ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [0.0, 0.05, 0.4, 1.0])
@pytest.mark.parametrize("shape", [{}, {"teeth": 1.0}, {"round": 0.8}, {"smile": 0.9, "wide": 0.6}], ids=str)
def test_lips_part_as_far_as_open_says_whatever_else_they_do(opened, shape):
    """`open` is the share of the face's widest opening, linear, and 0 closes the lips."""
    units = units_of(controls(open=opened, **shape), FACE, PLAIN)
    assert gap_of(units) == pytest.approx(opened * FACE.widest, abs=1e-4)
    assert units.get("jawOpen", 0.0) >= 0


def test_a_blink_shuts_the_eye_on_the_viewers_side_at_that_eyes_own_strength():
    """The viewer's left eye is the person's right one; each is shut where its own lids meet."""
    units = units_of(controls(blink_left=1.0, squint=1.0), FACE, PLAIN)
    assert units["eyeBlinkRight"] == pytest.approx(0.9) and "eyeBlinkLeft" not in units
    assert units["eyeSquintRight"] < units["eyeSquintLeft"]  # a shut eye hardly squints


def test_gaze_turns_eyes_and_takes_the_lids_along():
    """Eyes turn the way the control says, and the lids follow up and down."""
    aside, up = eye_turn(controls(gaze_x=0.5, gaze_y=-1.0))
    assert aside > 0 > up
    units = units_of(controls(gaze_y=-1.0), FACE, PLAIN)
    assert units["eyeLookDownLeft"] > 0.5 and "eyeLookUpLeft" not in units


def test_habits_add_what_a_face_does_at_rest_and_tell_its_sides_apart():
    """Rest strengths are added, factors multiply one side alone."""
    habit = Habit({"mouthSmileLeft": 0.5}, {"browInnerUp": 0.3})
    units = units_of(controls(smile=1.0), FACE, habit)
    assert units["browInnerUp"] == pytest.approx(0.3)
    assert units["mouthSmileLeft"] == pytest.approx(0.5 * units["mouthSmileRight"])


# Bones ---------------------------------------------------------------------------------------------------------------


def test_head_turns_as_the_controls_say():
    """Yaw turns the face to the viewer's right, pitch up, roll clockwise."""
    face, crown = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    assert (skeleton.head_turn(0.3, 0, 0) @ face)[0] == pytest.approx(np.sin(0.3))
    assert (skeleton.head_turn(0, 0.3, 0) @ face)[1] == pytest.approx(np.sin(0.3))
    assert (skeleton.head_turn(0, 0, 0.3) @ crown)[0] == pytest.approx(np.sin(0.3))


@pytest.mark.parametrize("end", [[0, 0, 1.0], [1, 2, -3.0], [0, -1, 0.0]], ids=str)
def test_the_shortest_rotation_leads_one_direction_into_another(end):
    """A proper rotation that maps start to end, opposite ones included."""
    start = np.array([0, 1.0, 0])
    turn = skeleton.between(start, np.array(end))
    np.testing.assert_allclose(turn @ start, np.array(end) / np.linalg.norm(end), atol=1e-9)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)


ARM = ("spine", *(f"{bone}.L" for bone in ("upperarm01", "lowerarm01", "lowerarm02", "wrist")),
       *(f"finger{finger}-{joint}.L" for finger in range(1, 6) for joint in (1, 2, 3)))  # fmt: skip


def arm() -> tuple[skeleton.Skeleton, dict[str, int]]:
    """A left arm that hangs slantwise, its palm to the body, with five straight fingers."""
    joints = {"spine": (0, 0, 0.0), "upperarm01.L": (1.7, 5.2, 0), "lowerarm01.L": (3.1, 3.5, 0.1),
              "lowerarm02.L": (3.6, 3.0, 0.5), "wrist.L": (4.1, 2.5, 1.0), "jaw": (0, 6.9, 0.6)}  # fmt: skip
    along = np.array([0.45, -0.45, 0.77])
    across = np.array([0.0, 0.86, 0.5])  # from the little finger to the index
    for finger in range(1, 6):
        for joint in (1, 2, 3):
            start = np.array(joints["wrist.L"]) + along * (0.9 + 0.35 * joint) + across * (0.2 * (3 - finger))
            joints[f"finger{finger}-{joint}.L"] = tuple(start)
    names = [*ARM, "jaw"]
    parents = {"spine": -1, "jaw": 0, "upperarm01.L": 0, "lowerarm01.L": 1, "lowerarm02.L": 2, "wrist.L": 3}
    index = {name: i for i, name in enumerate(names)}
    for finger in range(1, 6):
        for joint in (1, 2, 3):
            above = "wrist.L" if joint == 1 else f"finger{finger}-{joint - 1}.L"
            parents[f"finger{finger}-{joint}.L"] = index[above]
    template: Any = SimpleNamespace(bone=index, bones=tuple(names), order=tuple(range(len(names))),
                                    parents=np.array([parents[name] for name in names]))  # fmt: skip
    places = np.array([joints[name] for name in names], float)
    bare = object.__new__(skeleton.Skeleton)
    bare._template, bare.joints = template, places
    bare._hands = {"L": bare._hand_axes("L")}
    return bare, index


def posed(bones: skeleton.Skeleton, index: dict[str, int], hand: dict[str, float], name: str) -> np.ndarray:
    """Where a joint is under one hand's controls."""
    hand = {"raise": 0.0, "x": 0.0, "y": 0.0, "turn": 0.0, "curl": 0.0, "point": 0.0} | hand
    matrices = bones.matrices(bones._arm("L", hand, skeleton.Manner()))
    i = index[name]
    return matrices[i, :, :3] @ bones.joints[i] + matrices[i, :, 3]


def test_a_raised_hand_rises_with_its_control_and_shows_its_palm():
    """Fingers point up, the palm faces the viewer, the arm keeps its length, and x and y move the hand."""
    bones, index = arm()
    heights = [posed(bones, index, {"raise": r}, "wrist.L")[1] for r in (0.0, 0.3, 0.6, 1.0)]
    assert heights == sorted(heights) and heights[-1] - heights[0] > 2
    hand = {"raise": 1.0}
    shoulder, elbow, wrist = (posed(bones, index, hand, f"{b}.L") for b in ("upperarm01", "lowerarm01", "wrist"))
    lengths = [np.linalg.norm(bones.joint("lowerarm01.L") - bones.joint("upperarm01.L")),
               np.linalg.norm(bones.joint("wrist.L") - bones.joint("lowerarm01.L"))]  # fmt: skip
    assert np.linalg.norm(elbow - shoulder) == pytest.approx(lengths[0], rel=1e-3)
    assert np.linalg.norm(wrist - elbow) == pytest.approx(lengths[1], rel=1e-3)
    middle, index_finger, little = (posed(bones, index, hand, f"finger{f}-1.L") for f in (3, 2, 5))
    assert (middle - wrist)[1] > 0.9 * np.linalg.norm(middle - wrist)
    assert index_finger[0] < little[0]  # of a person's left hand with its palm to the viewer
    moves: tuple[dict[str, float], ...] = {}, {"x": 0.4}, {"y": 0.3}
    held, outwards, up = (posed(bones, index, {"raise": 0.8} | move, "wrist.L") for move in moves)
    assert outwards[0] > held[0] + 0.3 and up[1] > held[1] + 0.3


def test_fingers_curl_into_the_palm_and_a_pointing_index_stays_straight():
    """A fist's tips come towards the viewer and down; pointing curls all others."""
    bones, index = arm()
    tips = {}
    for name, hand in {"open": {}, "fist": {"curl": 1.0}, "point": {"curl": 0.2, "point": 1.0}}.items():
        tips[name] = [posed(bones, index, {"raise": 1.0} | hand, f"finger{f}-3.L") for f in (2, 4)]
    for finger in (0, 1):
        assert tips["fist"][finger][1] < tips["open"][finger][1] - 0.1
        assert tips["fist"][finger][2] > tips["open"][finger][2] + 0.1
    assert abs(tips["point"][0] - tips["open"][0]).max() < 0.1
    assert tips["point"][1][1] < tips["open"][1][1] - 0.1


# Pictures ------------------------------------------------------------------------------------------------------------


def test_a_camera_shows_the_height_it_says_and_tells_distances():
    """The centre falls in the middle, half the height above it on the upper border; nearness is 1 / distance."""
    camera = Camera(np.array([0.5, 7.0, 12.0]), np.array([0.5, 7.0, 0.0]), 4.0)
    points = np.array([[0.5, 7, 0], [0.5, 9, 0], [2.5, 7, 0], [0.5, 7, 6]], np.float32)
    out = np.empty((4, 3), np.float32)
    raster.projected(points, camera.matrix(), 100, out)
    np.testing.assert_allclose(out[:, :2], [[50, 50], [50, 0], [100, 50], [50, 50]], atol=1e-3)
    np.testing.assert_allclose(1 / out[:, 2], [12, 12, 12, 6], rtol=1e-5)


def test_light_sees_what_is_nearer_to_it_as_nearer():
    """The light's nearness grows towards the light."""
    lamp = light(np.random.default_rng(1))
    matrix = lamp.shadow_matrix(np.zeros(3), 2.0)
    out = np.empty((2, 3), np.float32)
    raster.projected(np.stack([0 * lamp.directions[0], 0.5 * lamp.directions[0]]).astype(np.float32), matrix, 64, out)
    assert out[1, 2] > out[0, 2]
    np.testing.assert_allclose(out[:, :2], 32, atol=1e-3)


class Card:
    """A stub of a figure: a wall's picture on two triangles, in front of nothing."""

    def __init__(self, veil: bool = False, opacity: int = 255) -> None:
        rng = np.random.default_rng(3)
        texture = cv2.resize(rng.uniform(40, 220, (8, 8, 3)).astype(np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
        self.texture = np.concatenate([texture, np.full((64, 64, 1), opacity, np.uint8)], 2)
        self.triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
        self.material, self.part = np.zeros(2, np.int32), np.array([3, 3], np.uint8)
        self.uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
        self.place = np.array([[-1, 0, 5], [1, 0, 5], [1, 2, 5], [-1, 2, 5]], np.float32)
        self.looks = np.array([[1, 1, 1, 0.5, 0, 1]], np.float32)
        self.open_sky = np.ones(4, np.float32)
        self.veil = veil
        self.pieces = [SimpleNamespace(pyramid=[self.texture], kind=raster.CLOTH)]

    def materials(self, levels: list[int]) -> tuple[np.ndarray, np.ndarray]:
        kind = raster.FUR if self.veil else raster.CLOTH
        return np.array([[kind, 0, 64, 64, -1, 1, self.veil]], np.int64), self.texture.reshape(-1)

    def pushed(self, points: np.ndarray, _eye: np.ndarray) -> np.ndarray:
        return points

    def posed(self, shift: tuple[float, float, float], turn: float = 0.0) -> Any:
        points = self.place - [0, 1, 5]
        points = points @ np.array([[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]])
        points = (points + np.array(shift)).astype(np.float32)
        normals = np.tile(np.array([np.sin(turn), 0, np.cos(turn)], np.float32), (4, 1))
        return SimpleNamespace(figure=self, points=points, normals=normals, lie=np.zeros_like(points),
                               colours=np.ones((4, 3), np.float32))  # fmt: skip


EVEN = Light(np.array([[0, 0, 1.0]]), np.zeros((1, 3)), np.full(3, 0.5), np.full(3, 0.5), 1.0, 1.0)
CAMERA = Camera(np.array([0.0, 0, 10]), np.zeros(3), 4.0)


def test_flow_finds_each_pixel_in_the_other_frame_and_says_where_it_is_hidden():
    """Warping one frame by the flow gives the other wherever it says that the point is seen."""
    card, renderer = Card(), Renderer(96)
    behind = np.tile(np.linspace(60, 200, 96).astype(np.uint8)[None, :, None], (96, 1, 3))
    one = renderer.draw(card.posed((0, 0, 0)), CAMERA, EVEN)
    two = renderer.draw(card.posed((0.7, -0.4, 0.5), 0.4), CAMERA, EVEN)
    flow, seen = two.flow(one)
    y, x = np.mgrid[0:96, 0:96].astype(np.float32)
    warped = cv2.remap(one.over(behind), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    wrong = np.abs(warped.astype(int) - two.over(behind)).max(2)
    inside = cv2.erode((two.hit >= 0).astype(np.uint8), np.ones((3, 3))) > 0
    assert seen[inside].mean() > 0.98
    assert wrong[inside & seen].mean() < 2.5 and np.quantile(wrong[inside & seen], 0.98) < 10
    uncovered = (two.hit < 0) & (one.hit >= 0)
    assert uncovered.any() and not seen[uncovered].any()  # what the card hid there is not in the other frame
    assert (flow[two.hit < 0] == 0).all()


def test_stored_flow_is_of_every_nth_pixel_in_fractions_of_a_pixel():
    """Half-size flow holds the full one's values of even rows and columns, and says UNSEEN where it is not seen."""
    card, renderer = Card(), Renderer(64)
    one, two = (renderer.draw(card.posed((s, 0, 0)), CAMERA, EVEN) for s in (0.0, 0.6))
    full, seen = two.flow(one)
    stored = flow_between(two, one, 2)
    kept = seen[::2, ::2]
    np.testing.assert_allclose(stored[kept] / FLOW_UNIT, full[::2, ::2][kept], atol=0.5 / FLOW_UNIT + 1e-3)
    assert (stored[~kept][:, 0] == UNSEEN).all() and (~kept).any()


def test_truth_tells_parts_places_and_what_a_point_is_hidden_by():
    """Parts and template places are those of the triangle in front; a point behind it is hidden."""
    frame = Renderer(64).draw(Card().posed((0, 0, 0)), CAMERA, EVEN)
    assert set(np.unique(frame.parts())) == {0, 3}
    np.testing.assert_allclose(frame.template_places()[32, 32], [0, 1, 5], atol=0.06)
    points = np.array([[32, 32, 9.9], [32, 32, 10.5], [2, 2, 10.5], [-3, 5, 1]], np.float32)
    assert frame.visible(points, 0.1).tolist() == [True, False, True, False]


def test_a_matte_is_the_share_that_is_covered_and_has_no_cracks():
    """Full inside, nothing outside, half where a veil's texels let half through."""
    solid = Renderer(64).draw(Card().posed((0.013, 0.007, 0)), CAMERA, EVEN).matte
    assert solid.sum() == pytest.approx(32 * 32, rel=0.02)
    assert (solid[20:44, 20:44] == 1).all() and (solid[:10] == 0).all()
    veil = Renderer(64).draw(Card(veil=True, opacity=128).posed((0, 0, 0)), CAMERA, EVEN).matte
    np.testing.assert_allclose(veil[20:44, 20:44], 128 / 255, atol=0.01)


def test_two_veils_are_blended_in_order_of_nearness_whatever_their_order_in_the_mesh():
    """The nearer of two half-transparent cards hides half of the farther one."""
    pictures = []
    for order in ([0, 1, 2, 3], [2, 3, 0, 1]):
        card = Card(veil=True, opacity=128)
        triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
        card.triangles, card.material, card.part = triangles[order], np.zeros(4, np.int32), np.zeros(4, np.uint8)
        card.uv, card.open_sky = np.tile(card.uv, (2, 1)), np.ones(8, np.float32)
        flat = card.posed((0, 0, 0))
        flat.points = np.concatenate([flat.points, flat.points + np.float32([0, 0, 1])])
        flat.normals, flat.lie = np.tile(flat.normals, (2, 1)), np.tile(flat.lie, (2, 1))
        flat.colours = np.concatenate([np.full((4, 3), 1.0), np.full((4, 3), 0.1)]).astype(np.float32)
        frame = Renderer(64).draw(flat, CAMERA, EVEN)
        np.testing.assert_allclose(frame.matte[25:39, 25:39], 1 - (127 / 255) ** 2, atol=0.01)
        pictures.append(frame.picture[25:39, 25:39].astype(int))
    np.testing.assert_allclose(pictures[0], pictures[1], atol=1)


# Meshes --------------------------------------------------------------------------------------------------------------

CUBE = """v -1 -1 -1\nv 1 -1 -1\nv 1 1 -1\nv -1 1 -1\nv -1 -1 1\nv 1 -1 1\nv 1 1 1\nv -1 1 1
vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1
g body
f 1/1 4/2 3/3 2/4\nf 5/1 6/2 7/3 8/4\nf 1/1 2/2 6/3 5/4\nf 2/1 3/2 7/3 6/4\nf 3/1 4/2 8/3 7/4\nf 4/1 1/2 5/3 8/4
g tail
f 1 2 3
"""


def test_subdivision_rounds_a_cube_and_keeps_its_symmetry():
    """Catmull and Clark's first step of a cube: known places, all rows of weights sum to 1."""
    mesh = read_obj(CUBE)
    assert mesh.groups.tolist() == ["body"] * 6 + ["tail"] and mesh.faces[6, 3] == -1
    faces, face_uv = mesh.faces[:6], mesh.face_uv[:6]
    matrix, new, index, uv = subdivided(8, faces, face_uv, mesh.uv)
    points = matrix @ mesh.vertices
    assert points.shape == (26, 3) and new.shape == (24, 4) and uv[index].shape == (24, 4, 2)
    np.testing.assert_allclose(np.asarray(matrix.sum(1)), 1, atol=1e-6)
    np.testing.assert_allclose(np.abs(points[:8]), 5 / 9, atol=1e-6)
    np.testing.assert_allclose(np.sort(np.abs(points[8:20]), 1), [[0, 0.75, 0.75]] * 12, atol=1e-6)
    normals = np.cross(*(points[new[:, k]] - points[new[:, 0]] for k in (1, 2)))
    volume = np.einsum("ij,ij->i", points[new].mean(1), normals)
    assert (volume > 0).all() or (volume < 0).all()  # no face is turned


def test_seams_split_vertices_and_keep_triangles():
    """Each corner keeps its vertex and its texture coordinate."""
    mesh = read_obj(CUBE)
    triangles, places = triangulated(mesh.faces[:6], mesh.face_uv[:6])
    vertex, place, split = split_seams(triangles, places)
    np.testing.assert_array_equal(vertex[split], triangles)
    np.testing.assert_array_equal(place[split], places)
    assert len({*zip(vertex.tolist(), place.tolist(), strict=True)}) == len(vertex)


def test_the_closest_place_of_a_triangle_is_found():
    """A point over a triangle is found in its inside, one beside it on its border."""
    triangles = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[5, 0, 0], [6, 0, 0], [5, 1, 0.0]]])
    chosen, weights = closest(np.array([[0.25, 0.25, 1.0], [6.5, 0, 0]]), triangles)
    assert chosen.tolist() == [0, 1]
    np.testing.assert_allclose(weights, [[0.5, 0.25, 0.25], [0, 1, 0]], atol=1e-6)


def test_targets_and_proxies_are_read_as_makehuman_writes_them(tmp_path: Path):
    """Comments are skipped, ranges expanded, and a proxy follows the body and its scale."""
    index, delta = read_target("# moved\n3 .1 -.2 0\n7 0 0 1\n")
    assert index.tolist() == [3, 7] and delta[0] == pytest.approx([0.1, -0.2, 0])
    (tmp_path / "hat.obj").write_text("v 0 0 0\nv 0 0 0\nv 0 0 0\nvt 0 0\nf 1/1 2/1 3/1\n")
    (tmp_path / "hat.mhclo").write_text(
        "# a hat\nname hat\nobj_file hat.obj\nx_scale 0 1 2.0\nverts 0\n2\n0 1 2 0.5 0.5 0 0.1 0 0.2\n1\n\n"
        "delete_verts\n4 7 - 9\n"
    )
    hat = proxies.read(tmp_path / "hat.mhclo")
    body = np.array([[0, 0, 0], [4, 0, 0], [0, 8, 0]], np.float32)
    np.testing.assert_allclose(hat.scale(body), [2, 1, 1])
    np.testing.assert_allclose(hat.fit(body, hat.scale(body)), [[0, 8, 0], [2.2, 0, 0.2], [4, 0, 0]], atol=1e-6)
    assert hat.hides.tolist() == [4, 7, 8, 9] and hat.texture is None
    (tmp_path / "hat.obj").write_text("v 0 0 0\nvt 0 0\n")
    with pytest.raises(ValueError, match="binds 3 vertices, its mesh has 1"):
        proxies.read(tmp_path / "hat.mhclo")
