"""The picture rig's parts: what is shown, where lips meet, how places move, what layers and lent pictures give."""

import math
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from meshed_faces import HAIR, INSIDE, SKIN, TEETH, Meshed

from streamer.base.image import enlarged
from streamer.motion.controls import CONTROLS, controls
from streamer.studio.picture_rig.colours import read_colours
from streamer.studio.picture_rig.expression import NAMES, OPENING, strengths
from streamer.studio.picture_rig.field import Grid, cover
from streamer.studio.picture_rig.framing import FRAME, frame, premultiplied, rotation
from streamer.studio.picture_rig.geometry import Geometry, fit_geometry, similarity
from streamer.studio.picture_rig.layers import joined, split
from streamer.studio.picture_rig.lent import lent, mouth_of
from streamer.studio.picture_rig.motion import Motion, prepare_motion
from streamer.studio.picture_rig.mouth import prepare_inside
from streamer.studio.picture_rig.seam import Seam, find_seam
from streamer.studio.picture_rig.topology import (
    CHIN,
    FOREHEAD,
    LEFT_CORNER,
    LEFT_RIM,
    LOWER_LIP,
    RIGHT_CORNER,
    RIGHT_RIM,
    UPPER_LIP,
    topology,
)
from streamer.studio.picture_rig.wiped_lids import WipedLids

RNG = np.random.default_rng


def seam_of(face: Meshed) -> Seam:
    pixels, fit, _ = face.paint()
    framing = frame(pixels, fit)
    image = np.ascontiguousarray(framing.image(FRAME)[..., :3])
    return find_seam(image, framing.fit.points, framing.scale, face.style == "drawing")


@cache
def geometry_of(face: Meshed = Meshed()) -> Geometry:  # noqa: B008  frozen
    return fit_geometry(seam_of(face))


@cache
def motion_of(face: Meshed = Meshed()) -> Motion:  # noqa: B008
    return prepare_motion(geometry_of(face))


class TestFraming:
    @pytest.mark.parametrize("size", [(384, 384), (700, 500), (400, 1600), (2000, 300)])
    def test_shows_the_face_in_the_middle_third(self, size: tuple[int, int]) -> None:
        """Whatever the picture's aspect: head and shoulders, the face where a portrait has it."""
        face = Meshed(size=size, centre=(size[0] / 2, size[1] * 0.4), eyes=70.0)
        pixels, fit, _ = face.paint()
        square = frame(pixels, fit)
        middle = (square.fit.points[FOREHEAD, :2] + square.fit.points[CHIN, :2]) / 2
        assert np.abs(middle - [FRAME / 2, 0.45 * FRAME]).max() < 0.12 * FRAME
        tall = np.hypot(*(square.fit.points[FOREHEAD, :2] - square.fit.points[CHIN, :2]))
        assert 0.35 < tall / FRAME < 0.72

    def test_lies_within_the_picture_where_it_can(self) -> None:
        """A face near a corner does not make the square reach beyond the picture."""
        for centre in ((60, 70), (540, 70), (60, 420), (540, 420)):
            pixels, fit, _ = Meshed(size=(600, 500), centre=centre, eyes=40.0).paint()
            square = frame(pixels, fit)
            back = np.linalg.inv(np.vstack([square.matrix, [0, 0, 1]]))
            (x0, y0), (x1, y1) = (back @ [0, 0, 1])[:2], (back @ [FRAME, FRAME, 1])[:2]
            assert min(x0, y0) > -1e-6 and x1 < 600 + 1e-6 and y1 < 500 + 1e-6

    @pytest.mark.parametrize("size", [96, 128, 256, 512])
    def test_image_lies_where_the_matrix_says(self, size: int) -> None:
        """A disc of the picture has its middle where its matrix puts it, at sizes below and above the picture's own."""
        pixels, fit, _ = Meshed(size=(800, 800), centre=(400, 330), eyes=190.0).paint()
        place = np.array([431.5, 402.5])
        pixels[..., :3] = 0
        cv2.circle(pixels, (431, 402), 24, (255, 255, 255, 255), -1)
        square = frame(pixels, fit)
        shown = square.image(size)[..., 0].astype(float)
        rows, columns = np.mgrid[0:size, 0:size] + 0.5
        found = np.array([(shown * columns).sum(), (shown * rows).sum()]) / shown.sum()
        wanted = (square.matrix @ [*place, 1]) * size / FRAME
        assert np.abs(found - wanted).max() < 0.1

    def test_margin_adds_what_lies_beyond(self) -> None:
        """With a margin the same square lies in the middle of a larger one."""
        pixels, fit, _ = Meshed().paint()
        square = frame(pixels, fit)
        wide = square.image(256, margin=25)
        assert wide.shape == (306, 306, 4)
        assert np.abs(wide[25:-25, 25:-25].astype(int) - square.image(256)).mean() < 0.01

    def test_colours_stay_within_alpha(self) -> None:
        """Premultiplied colours never exceed alpha, though interpolation overshoots."""
        pixels, fit, _ = Meshed(cut_out=True, size=(96, 96), centre=(48, 40), eyes=24.0).paint()
        image = frame(pixels, fit).image(512)
        assert (image[..., :3] <= image[..., 3:]).all() and (image[..., 3] == 0).any()

    @pytest.mark.parametrize("shape", [(5, 7, 4), (64, 64, 3), (33, 20, 1)])
    def test_enlarged_keeps_the_pixels(self, shape: tuple[int, ...]) -> None:
        """Even places are the image's own pixels; those between lie near their neighbours' mean."""
        image = RNG(0).integers(0, 256, shape, np.uint8)
        twice = enlarged(image)
        assert twice.shape == (2 * shape[0] - 1, 2 * shape[1] - 1, shape[2])
        assert np.array_equal(twice[::2, ::2], image)
        ramp = np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[:, None, None], 9, 1)
        assert np.array_equal(enlarged(ramp)[4:-4:2, 0, 0], ramp[2:-2, 0, 0])
        assert np.abs(enlarged(ramp)[3:-3:2, 0, 0] - (ramp[1:-2, 0, 0] + 5.0)).max() <= 1

    def test_premultiplied(self) -> None:
        """Colours are multiplied by alpha and rounded; opaque pictures are left alone."""
        straight = np.array([[[200, 100, 51, 255], [200, 100, 51, 128], [200, 100, 51, 0]]], np.uint8)
        assert premultiplied(straight).tolist() == [[[200, 100, 51, 255], [100, 50, 26, 128], [0, 0, 0, 0]]]

    def test_rotations_turn_as_the_controls_say(self) -> None:
        """The nose (nearer to the viewer: smaller z) goes right with yaw, up with pitch; roll is clockwise."""
        nose, right = np.array([0.0, 0.0, -1.0]), np.array([1.0, 0.0, 0.0])
        assert (rotation(0.2, 0, 0) @ nose)[0] > 0.19
        assert (rotation(0, 0.2, 0) @ nose)[1] < -0.19
        assert (rotation(0, 0, 0.2) @ right)[1] > 0.19
        turn = rotation(0.3, -0.2, 0.4)
        assert np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)


class TestSeam:
    @pytest.mark.parametrize("beside", [-4.0, 0.0, 3.0, 5.0])
    def test_is_found_where_the_dark_line_is(self, beside: float) -> None:
        """Though the mesh lies pixels beside it, the cut is within two pixels of the line that is drawn."""
        face = Meshed(seam=beside)
        found = seam_of(face)
        pixels, fit, _ = face.paint()
        square = frame(pixels, fit)
        scale = square.scale
        for lip in (UPPER_LIP[2:-2], LOWER_LIP[2:-2]):
            drawn = (square.fit.points[list(UPPER_LIP[2:-2]), 1] + square.fit.points[list(LOWER_LIP[2:-2]), 1]) / 2
            cut = found.landmarks[list(lip), 1]
            assert np.abs(cut - drawn - beside * scale).max() < 2 * scale
        assert not found.open

    @pytest.mark.parametrize(
        ("face", "is_open"),
        [
            (Meshed(), False),
            (Meshed(gap=0.15, teeth=True), True),
            (Meshed(gap=0.08, teeth=True), True),
            (Meshed(gap=0.3), True),
            (Meshed(style="drawing"), False),
            (Meshed(style="drawing", gap=0.3), True),
        ],
    )
    def test_tells_whether_the_mouth_is_open(self, face: Meshed, is_open: bool) -> None:
        """Teeth or darkness between the lips; drawings only by how far they are apart."""
        assert seam_of(face).open is is_open

    def test_leaves_all_but_the_inner_lips(self) -> None:
        """No other landmark is moved, and the lips of a shut mouth are brought together."""
        for face in (Meshed(), Meshed(gap=0.15, teeth=True)):
            pixels, fit, _ = face.paint()
            moved = seam_of(face).landmarks - frame(pixels, fit).fit.points
            inner = np.isin(np.arange(468), [*UPPER_LIP[1:-1], *LOWER_LIP[1:-1]])
            assert np.abs(moved[~inner]).max() == 0 and np.abs(moved[inner]).max() > 0
        shut = seam_of(Meshed()).landmarks
        assert np.allclose(shut[list(UPPER_LIP)], shut[list(LOWER_LIP)])


class TestField:
    def test_cover_is_brute_forces(self) -> None:
        """The triangle over each cell's middle, the nearest where several are, and its barycentric weights."""
        rng = RNG(3)
        grid = Grid(-3.0, 2.0, 0.7, 40, 53)
        vertices = np.column_stack([rng.uniform(-6, 40, 60), rng.uniform(-2, 34, 60), rng.uniform(-5, 5, 60)])
        triangles = rng.integers(0, 60, (45, 3))
        lies = cover(grid, vertices, triangles)
        nearest = np.full((grid.rows, grid.columns), np.inf)
        for triangle in triangles:
            a, b, c = vertices[triangle]
            matrix = np.array([[b[0] - a[0], c[0] - a[0]], [b[1] - a[1], c[1] - a[1]]])
            if abs(np.linalg.det(matrix)) < 1e-9:
                continue
            s, t = np.moveaxis((grid.middles - a[:2]) @ np.linalg.inv(matrix).T, -1, 0)
            depth = a[2] + s * (b[2] - a[2]) + t * (c[2] - a[2])
            inside = (s >= 0) & (t >= 0) & (s + t <= 1)
            nearest = np.where(inside, np.minimum(nearest, depth), nearest)
        assert np.array_equal(lies.covered, np.isfinite(nearest)) and 0.2 < lies.covered.mean() < 1
        assert np.abs(lies.spread(vertices[:, 2:])[:, 0] - nearest[lies.covered]).max() < 1e-3
        assert np.abs(lies.spread(vertices[:, :2]) - grid.middles[lies.covered]).max() < 1e-3
        assert np.allclose(lies.weights.sum(1), 1, atol=1e-5)

    def test_cover_of_nothing(self) -> None:
        """A mesh beside the grid covers no cell."""
        lies = cover(Grid(0, 0, 1.0, 8, 8), np.array([[20.0, 20, 0], [30, 20, 0], [20, 30, 0]]), np.array([[0, 1, 2]]))
        assert not lies.covered.any() and len(lies.vertices) == len(lies.weights) == 0

    def test_part_and_sampled(self) -> None:
        """A part has the whole's middles; a linear function is sampled exactly between them."""
        grid = Grid(5.0, -2.0, 1.5, 12, 9)
        assert np.allclose(grid.part(3, 2, 4, 5).middles, grid.middles[3:7, 2:7])
        values = 2 * grid.middles[..., 0] - grid.middles[..., 1]
        places = RNG(1).uniform([6, -1], [17, 14], (3, 4, 2))
        assert np.allclose(grid.sampled(values, places), 2 * places[..., 0] - places[..., 1], atol=0.05)

    @pytest.mark.parametrize("stretch", [0.3, -0.5, 1.6])
    def test_inverted_is_the_inverse(self, stretch: float) -> None:
        """Squeezed to a half or stretched to 2.6 times: what comes from there is moved here, to an eighth of a cell."""
        grid = Grid(10.0, 20.0, 2.0, 64, 64)
        x = grid.middles - [74, 84]
        bump = np.exp(-(x**2).sum(-1) / (2 * 18**2))
        moves = np.stack([0.2 * x[..., 1] * bump, stretch * x[..., 1] * bump], -1).astype(np.float32)
        back = grid.inverted(moves)
        places = grid.middles + back
        forth = np.stack([grid.sampled(moves[..., i], places) for i in (0, 1)], -1)
        inner = np.s_[8:-8, 8:-8]
        assert np.percentile(np.hypot(*np.moveaxis(back + forth, -1, 0))[inner], 99.5) < 0.25
        assert np.abs(back).max() > 3


class TestGeometry:
    def test_similarity(self) -> None:
        """Scale and rotation of moved points are found again."""
        points = RNG(2).normal(size=(20, 3))
        turn = rotation(0.3, 0.1, -0.2)
        scale, found = similarity(points, 7.0 * points @ turn.T + [3, 4, 5])
        assert scale == pytest.approx(7) and np.allclose(found, turn)

    @pytest.mark.parametrize("yaw", [-0.4, 0.0, 0.3])
    def test_yaw_is_the_pictures(self, yaw: float) -> None:
        """A face that is turned in its picture is known to be."""
        seam = seam_of(Meshed())
        turned = seam.landmarks - seam.landmarks.mean(0)
        turned = turned @ rotation(yaw, 0, 0).T + seam.landmarks.mean(0)
        assert fit_geometry(replace(seam, landmarks=turned)).yaw == pytest.approx(yaw, abs=0.05)

    @pytest.mark.parametrize("face", [Meshed(gap=0.15, teeth=True), Meshed(gap=0.3)])
    def test_closing_closes(self, face: Meshed) -> None:
        """Lips that the picture shows apart meet once `closing` is added."""
        of = geometry_of(face)
        assert of.gaps(of.vertices).max() > 0.1 * of.mouth_width
        assert np.abs(of.gaps(of.vertices + of.closing)).max() < 0.02 * of.mouth_width

    def test_only_opening_channels_part_the_lips(self) -> None:
        """A smile, a frown or a pucker leaves them together; the jaw's gap is widest in the middle."""
        of = geometry_of()
        for k, name in enumerate(NAMES):
            gaps = of.gaps(of.vertices + of.channels[k])
            if name not in OPENING:
                assert np.abs(gaps).max() < 0.02 * of.mouth_width, name
        jaw = of.gaps(of.vertices + of.channels[NAMES.index("jaw")])
        assert jaw.argmax() == len(jaw) // 2 and jaw.max() > 0.3 * of.mouth_width
        assert (np.diff(jaw[: len(jaw) // 2]) > 0).all() and jaw[0] < 0.5 * jaw.max()

    def test_lip_reach_is_of_the_lips(self) -> None:
        """Corrections move the lip vertex itself wholly and nothing beside the mouth."""
        of = geometry_of()
        assert np.allclose(of.reach[of.lips], np.eye(len(of.lips)))
        assert np.abs(of.reach[[FOREHEAD, LEFT_RIM, RIGHT_RIM, CHIN]]).max() == 0


class TestMotion:
    def test_flow_is_the_inverse_of_what_moves(self) -> None:
        """A frame's place comes from where the motion brings to it: to half a frame unit where skin does not fold."""
        motion = motion_of()
        for values in (dict(open=0.6), dict(yaw=0.2, pitch=0.1), dict(roll=0.2, smile=1.0), dict(lean=1.0, shrug=1.0)):
            vector = controls(**values)
            pose = motion.pose(strengths(vector), 1.0, 0.0, vector)
            moves = motion.whole.moves(pose.strengths, pose.turn, pose.body)
            back = motion.flow(pose).whole
            grid = motion.whole.grid
            forth = np.stack([grid.sampled(moves[..., i], grid.middles + back) for i in (0, 1)], -1)
            rise = [np.stack(np.gradient(moves[..., i], grid.cell), -1) for i in (0, 1)]
            area = (1 + rise[0][..., 1]) * (1 + rise[1][..., 0]) - rise[0][..., 0] * rise[1][..., 1]
            there = grid.sampled(area, grid.middles + back)
            fine = (there > 0.5) & (there < 2)
            assert fine.mean() > 0.95
            missed = np.hypot(*np.moveaxis(back + forth, -1, 0))[fine]
            assert np.percentile(missed, 99.5) < 0.5, values

    def test_vertices_lie_where_the_grid_moves_them(self) -> None:
        """The mesh and the pixels under it move alike."""
        motion = motion_of()
        vector = controls(yaw=0.2, roll=0.1, brow_left=1, lean=0.6, breath=1)
        pose = motion.pose(strengths(vector), 1.0, 0.0, vector)
        rest = motion.geometry.vertices[:, :2]
        mesh = motion.vertices(pose, np.zeros_like(rest))[:, :2]
        pixels = motion.carried(pose, rest[None].astype(np.float64))[0]
        assert np.percentile(np.hypot(*(mesh - pixels).T), 95) < 0.7
        assert np.hypot(*(mesh - rest).T).min() > 1

    def test_rest_moves_nothing(self) -> None:
        """All controls at rest: no place moves, on either grid."""
        motion = motion_of()
        vector = np.zeros(len(CONTROLS), np.float32)
        flow = motion.flow(motion.pose(strengths(vector), 0.0, 0.0, vector))
        assert not flow.whole.any() and not flow.upper.any() and not flow.lower.any()

    def test_corrected_lips_lie_where_the_mesh_does(self) -> None:
        """Where lips must not part they are kept together, and the whole mesh follows: both say where they lie."""
        motion = motion_of()
        vector = controls(open=0.6, yaw=0.2)
        pose = motion.pose(strengths(vector), 1.0, 0.0, vector, together=True)
        assert pose.corrections is not None and pose.corrections.shape == motion.geometry.lips.shape
        mesh, still = topology(), np.zeros((len(motion.geometry.vertices), 2))
        lies = motion.vertices(pose, still)
        assert np.abs(lies[mesh.upper] - pose.upper).max() < 0.5
        assert np.abs(lies[mesh.lower] - pose.lower).max() < 0.5

    def test_lips_part_where_they_are_cut(self) -> None:
        """Beyond the upper lip's edge the upper half goes on with that lip, the lower one likewise."""
        motion = motion_of()
        vector = controls(open=1)
        pose = motion.pose(strengths(vector), 1.0, 0.0, vector)
        grid, middle = motion.upper.grid, motion.geometry.vertices[[LEFT_CORNER, RIGHT_CORNER], :2].mean(0)
        just_below, just_above = middle + [[0, 3.0]], middle - [[0, 3.0]]
        moves = [
            layer.moves(pose.strengths, pose.turn, pose.body, pose.corrections)[..., 1]
            for layer in (motion.upper, motion.lower)
        ]
        upper = grid.sampled(moves[0], np.stack([just_above, just_below]))[:, 0]
        lower = grid.sampled(moves[1], np.stack([just_above, just_below]))[:, 0]
        assert np.abs(upper).max() < 0.35 * lower.min() and np.ptp(lower) < 3

    def test_silent_controls_have_no_channel(self) -> None:
        """Rest asks nothing of any channel; a covered mouth only of the jaw and what is above the mouth."""
        assert not strengths(np.zeros(len(CONTROLS), np.float32)).any()
        free = strengths(controls(open=1, teeth=1, round=1, smile=1, brow_left=1))
        covered = strengths(controls(open=1, teeth=1, round=1, smile=1, brow_left=1), mouth_covered=True)
        jaw, brow = NAMES.index("jaw"), NAMES.index("brow_up_left")
        assert covered[jaw] == pytest.approx(free[jaw] / 2) and covered[brow] == free[brow] > 0
        assert {NAMES[k] for k in np.flatnonzero(covered[: NAMES.index("squint")])} == {"jaw", "cheeks"}


class TestLayers:
    @pytest.mark.parametrize("size", [128, 300])
    def test_split_and_joined_is_the_image(self, size: int) -> None:
        """Person and background together are the picture: a few levels at edges, .1 of one in the mean."""
        pixels, fit, share = Meshed().paint()
        square = frame(pixels, fit, share)
        image, matte = square.image(size), square.image(size, share)
        person, plate = split(image, matte)
        again = joined(person, plate)
        error = np.abs(again.astype(int) - image)
        assert error.max() <= 5 and error.mean() < 0.1
        assert (person[..., :3] <= person[..., 3:]).all() and (plate[..., 3] == 255).all()

    def test_nothing_of_the_person_is_left_behind(self) -> None:
        """The plate is filled with the background's colours where the person stood."""
        pixels, fit, share = Meshed().paint()
        pixels[share < 8, :3] = (90, 160, 120)
        square = frame(pixels, fit, share)
        _, plate = split(square.image(256), square.image(256, share))
        assert np.abs(plate[..., :3].astype(int) - (90, 160, 120)).max(-1).mean() < 12
        assert np.abs(plate[..., :3].astype(int) - HAIR).max(-1).min() > 20

    def test_matte_of_nothing_and_of_everything(self) -> None:
        """Where nobody is, and where the person fills all, the picture is still itself."""
        image = RNG(5).integers(0, 256, (64, 64, 4), np.uint8)
        image[..., 3] = 255
        for level in (0, 255):
            assert np.array_equal(joined(*split(image, np.full((64, 64), level, np.uint8))), image)


class TestLent:
    def test_colours_are_matched(self) -> None:
        """A further picture in another light gets the first one's skin; in quite another it is left as it is."""
        pixels, fit, _ = Meshed().paint()
        square = frame(pixels, fit)
        colours = read_colours(square.image(FRAME)[..., :3], square.fit.points, square.fit.eye_distance, False)
        warm, wide_fit, _ = Meshed(gap=0.3).paint()
        cold = warm.copy()
        cold[..., :3] = np.clip(warm[..., :3] * [0.8, 0.9, 1.1], 0, 255)
        dark = warm.copy()
        dark[..., :3] //= 3
        found = lent(square, {"mouth_open": (cold, wide_fit), "smile": (dark, wide_fit)}, colours)
        assert np.abs(found["mouth_open"].gain - [1 / 0.8, 1 / 0.9, 1 / 1.1]).max() < 0.03
        assert found["smile"].gain.tolist() == [1, 1, 1]
        image = found["mouth_open"].image(256)
        assert np.abs(image.astype(int) - frame(warm, wide_fit).image(256)).mean() < 60
        assert image.shape == (256, 256, 4)

    def test_an_open_mouth_is_one_that_is_open(self) -> None:
        """Of a pack's pictures the one with lips apart lends its mouth; shut ones lend none."""
        pixels, fit, _ = Meshed().paint()
        square = frame(pixels, fit)
        colours = read_colours(square.image(FRAME)[..., :3], square.fit.points, square.fit.eye_distance, False)
        shut, wide = Meshed().paint()[:2], Meshed(gap=0.3).paint()[:2]
        assert mouth_of(lent(square, {"mouth_open": shut}, colours)) is None
        both = lent(square, {"mouth_open": shut, "teeth": wide}, colours)
        assert mouth_of(both) is both["teeth"] and both["teeth"].gap > 0.3
        assert mouth_of({}) is None


class TestWipedLids:
    @staticmethod
    def painter() -> tuple[WipedLids, np.ndarray, np.ndarray, np.ndarray]:
        open_, fit, _ = Meshed(style="drawing").paint()
        shut, shut_fit, _ = Meshed(style="drawing", lids=0.05).paint()
        square, other = frame(open_, fit), frame(shut, shut_fit)
        margin = 12
        images = square.image(256, margin=margin), other.image(256, margin=margin)
        places = 2 * np.arange(margin, margin + 256, dtype=np.float32)
        lids = WipedLids(square.fit, *images, margin, 256)
        return (
            lids,
            images[0][margin:-margin, margin:-margin],
            images[1][margin:-margin, margin:-margin],
            np.stack(np.meshgrid(places, places), -1),
        )

    def test_shut_shows_the_other_drawing(self) -> None:
        """Shut lids are the other drawing's pixels where the two differ; the other eye and all else stay."""
        lids, open_, shut, places = self.painter()
        out = open_.copy()
        lids.paint(out, places, np.zeros((2, 2)), (1.0, 0.0))
        different = np.abs(open_.astype(int) - shut).max(-1) > 30
        left = different & (np.arange(256) < 128)
        assert left.sum() > 30
        assert np.abs(out.astype(int) - shut)[left].mean() < 6
        assert np.array_equal(out[:, 128:], open_[:, 128:])

    def test_wipes_from_above(self) -> None:
        """The farther shut, the more is covered, from above downwards; not at all leaves the frame alone."""
        lids, open_, _, places = self.painter()
        covered = []
        for blink in (0.0, 0.25, 0.45, 1.0):
            out = open_.copy()
            lids.paint(out, places, np.zeros((2, 2)), (blink, blink))
            covered.append(np.abs(out.astype(int) - open_).max(-1) > 12)
        sums = [int(mask.sum()) for mask in covered]
        assert sums[0] == 0 and 0 < sums[1] < sums[2] < sums[3]
        lowest = [int(np.flatnonzero(mask.any(1)).max()) for mask in covered[1:]]
        assert lowest[0] < lowest[-1] and lowest == sorted(lowest)


class TestMouth:
    @staticmethod
    def inside(face: Meshed) -> tuple:
        pixels, fit, _ = face.paint()
        square = frame(pixels, fit)
        colours = read_colours(square.image(FRAME)[..., :3], square.fit.points, square.fit.eye_distance, False)
        geometry = geometry_of(face)
        drawing = face.style == "drawing"
        return prepare_inside(motion_of(face).geometry, colours, square.image(256), 1.0, drawing), geometry

    def test_own_teeth_are_used(self) -> None:
        """Teeth that the picture shows are those that are seen when the mouth opens; else they are invented."""
        own, _ = self.inside(Meshed(gap=0.15, teeth=True))
        invented, _ = self.inside(Meshed(gap=0.3))
        assert own.own_teeth and not invented.own_teeth
        pixels = own.layers[0].pixels
        solid = pixels[pixels[..., 3] > 0.9][:, :3]
        assert np.abs(np.median(solid, 0) - TEETH).max() < 40

    def test_what_lies_between_the_lips_is_painted(self) -> None:
        """Only there and in the lips' shadow, and what is painted is told."""
        face = Meshed()
        inside, geometry = self.inside(face)
        motion = motion_of(face)
        vector = controls(open=0.8)
        pose = motion.pose(strengths(vector), 1.0, 0.0, vector)
        frame_ = np.full((256, 256, 4), (*SKIN, 255), np.uint8)
        told = inside.paint(frame_, pose, motion.geometry, 0.0)
        assert told is not None
        share = np.zeros((256, 256), np.float32)
        share[told.y : told.y + told.share.shape[0], told.x : told.x + told.share.shape[1]] = told.share
        changed = np.abs(frame_[..., :3].astype(int) - SKIN).max(-1)
        assert changed[share > 0.9].min() > 15 and changed[cv2.dilate(share, np.ones((15, 15))) == 0].max() == 0
        outline = np.concatenate([pose.upper[:, :2], pose.lower[::-1, :2]]).astype(np.float32) / 2
        assert share.sum() == pytest.approx(cv2.contourArea(outline), rel=0.1)
        assert (
            inside.paint(frame_, motion.pose(strengths(controls()), 1.0, 0.0, controls()), motion.geometry, 0) is None
        )

    def test_a_raised_tongue_is_seen(self) -> None:
        """The tongue's tip lies before the lower teeth where it is asked for."""
        face = Meshed()
        inside, _ = self.inside(face)
        motion = motion_of(face)
        vector = controls(open=0.5)
        pose = motion.pose(strengths(vector), 1.0, 0.0, vector)
        seen = []
        for tongue in (0.0, 1.0):
            frame_ = np.full((256, 256, 4), (*SKIN, 255), np.uint8)
            inside.paint(frame_, pose, motion.geometry, tongue)
            seen.append(frame_[..., :3].astype(int))
        middle = pose.upper[10, :2] / 2 * 0.35 + pose.lower[10, :2] / 2 * 0.65
        x, y = middle.astype(int)
        patch = np.s_[y - 2 : y + 3, x - 6 : x + 7]
        assert np.abs(seen[1] - seen[0]).max(-1).max() > 15
        cavity, flesh = (np.abs(seen[1][patch] - c).mean() for c in (inside.colours.cavity, inside.colours.tongue))
        assert seen[1][patch].mean() > 0.75 * seen[0][patch].mean() and flesh < cavity


class TestColours:
    def test_are_the_pictures(self) -> None:
        """Skin is the cheeks', teeth are brighter than skin, the cavity is darker than the lips."""
        pixels, fit, _ = Meshed().paint()
        square = frame(pixels, fit)
        found = read_colours(square.image(FRAME)[..., :3], square.fit.points, square.fit.eye_distance, False)
        assert np.abs(found.skin - SKIN).max() < 6
        assert found.enamel.mean() > found.skin.mean() > found.lip.mean() > found.cavity.mean()
        assert found.cavity.mean() < 2 * np.mean(INSIDE)

    @pytest.mark.parametrize("skin", [(70, 48, 40), (250, 235, 225), (128, 128, 128)])
    def test_any_skin(self, skin: tuple[int, int, int]) -> None:
        """Dark, light and grey skins give colours in range, in the same order of brightness."""
        pixels, fit, _ = Meshed(skin=skin).paint()
        square = frame(pixels, fit)
        found = read_colours(square.image(FRAME)[..., :3], square.fit.points, square.fit.eye_distance, False)
        every = np.array([found.skin, found.lip, found.enamel, found.gum, found.tongue, found.cavity])
        assert every.min() >= 0 and every.max() <= 255 and math.isfinite(every.sum())
        assert found.enamel.mean() > found.cavity.mean() + 30


def test_the_mesh_is_whole() -> None:
    """Every edge that is not on the outline or the mouth lies between two triangles; lips run from corner to corner."""
    mesh = topology()
    sides = np.sort(np.concatenate([mesh.triangles[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0))]), 1)
    edges, counts = np.unique(sides, axis=0, return_counts=True)
    assert counts.max() == 2
    rim = set(edges[counts == 1].ravel().tolist())
    assert {*mesh.upper.tolist(), *mesh.lower.tolist(), FOREHEAD, CHIN, LEFT_RIM, RIGHT_RIM} <= rim
    assert mesh.upper[0] == mesh.lower[0] == LEFT_CORNER and mesh.upper[-1] == mesh.lower[-1] == RIGHT_CORNER
