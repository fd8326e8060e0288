"""Directions that take back what a code has of them, edits of two axes, and differences between lids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.composite.gaze import iris_flow, move_irises
from doppelgan.runtime.edit import Direction, Editor
from doppelgan.runtime.errors import EditError
from doppelgan.runtime.face_mesh import LEFT_EYE, N_POINTS, RIGHT_EYE
from doppelgan.runtime.types import Crop

STYLES, WIDTH = 3, 6
RNG = np.random.default_rng(0)


def axis(name: str, column: int) -> Direction:
    """Its coordinate is `column` of w, in units of 2, zero at 1; one strength adds 2 there."""
    offset = np.zeros((STYLES, WIDTH), np.float32)
    offset[:, column] = 2
    probe = np.zeros(WIDTH, np.float32)
    probe[column] = 0.5
    return Direction(name, offset, (0.0, 1.0), probe=probe, origin=0.5, returns=True, where="eyes")


def editor(*more: Direction) -> Editor:
    return Editor(
        [axis("eye_contact_x", 1), axis("eye_contact_y", 4), *more], np.zeros((STYLES, WIDTH), np.float32)
    )


def codes(n: int = 4) -> np.ndarray:
    w = RNG.standard_normal((n, 1, WIDTH)).astype(np.float32)
    return np.repeat(w, STYLES, 1)


def test_full_strength_leaves_nothing_of_it_and_the_rest_alone() -> None:
    one = editor()
    before = codes()
    after = one.apply(before, one.expanded({"eye_contact": 1.0}))
    assert after[:, :, [1, 4]] == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(after[:, :, [0, 2, 3, 5]], before[:, :, [0, 2, 3, 5]])


@pytest.mark.parametrize("strength", [0.0, 0.25, 0.5])
def test_less_takes_back_its_share(strength: float) -> None:
    one = editor()
    before = codes()
    after = one.apply(before, one.expanded({"eye_contact": strength}))
    assert after[:, :, [1, 4]] - 1 == pytest.approx((1 - strength) * (before[:, :, [1, 4]] - 1), abs=1e-5)


def test_it_goes_with_other_edits_as_the_formulas_say() -> None:
    plain = Direction("smile", RNG.standard_normal((STYLES, WIDTH)).astype(np.float32))
    part = Direction.component("part", np.eye(WIDTH)[2], np.ones(WIDTH), 0.7, STYLES)
    one = editor(plain, part)
    edits = one.expanded({"eye_contact": 0.6, "smile": 0.3, "part": 1.5})
    before = codes()
    steps = [(one.directions[name], strength) for name, strength in edits.items()]
    moved = [step.move(before, strength)[:, None, None] * step.offset for step, strength in steps]
    wanted = before + sum(moved)
    assert one.apply(before, edits) == pytest.approx(wanted, abs=1e-5)


def test_a_name_of_two_axes_is_checked_like_any_other() -> None:
    one = editor()
    assert one.expanded({"eye_contact": 1, "smile": 2}) == {
        "eye_contact_x": 1,
        "eye_contact_y": 1,
        "smile": 2,
    }
    with pytest.raises(EditError, match="eye_contact_x=9"):
        one.check(one.expanded({"eye_contact": 9}))
    with pytest.raises(EditError, match="did you mean eye_contact"):
        one.check(one.expanded({"eye_contacts": 1}))


def test_a_direction_to_return_needs_to_know_where_it_is() -> None:
    with pytest.raises(EditError, match="a probe and no bounds"):
        Direction("gaze", np.ones((STYLES, WIDTH), np.float32), returns=True)


def test_it_survives_a_bundles_arrays() -> None:
    one = axis("eye_contact_x", 1)
    again = Direction.from_arrays(one.name, one.info, one.to_arrays(), STYLES, WIDTH)
    assert (again.kind, again.where) == ("return", "eyes")
    before = codes()
    assert np.array_equal(again.move(before, 0.7), one.move(before, 0.7))


def face(height: float = 3.0) -> np.ndarray:
    """A mesh [468,2] in a square of 64 px: eyes 12 px wide, of this half height, at (20, 30) and (44, 30)."""
    points = np.full((N_POINTS, 2), 32.0)
    for ring, middle in ((RIGHT_EYE, 20.0), (LEFT_EYE, 44.0)):
        turn = np.linspace(0, 2 * np.pi, len(ring), endpoint=False)
        points[list(ring)] = np.stack([middle + 6 * np.cos(turn), 30 + height * np.sin(turn)], 1)
    return points


@pytest.mark.parametrize("by", [(1.5, 0.0), (-1.0, 0.0), (0.0, 0.8), (1.0, -0.6)])
def test_eyes_move_between_the_lids_and_nowhere_else(by: tuple[float, float]) -> None:
    flow = iris_flow(face(), np.array(by), 64)
    for middle in (20, 44):
        assert flow[:, 30, middle] == pytest.approx(by, abs=0.1)
    nose, cheek, brow, corner = (30, 32), (35, 20), (25, 44), (30, 26)
    for place in (nose, cheek, brow, corner):
        assert np.abs(flow[:, place[0], place[1]]).max() < 0.05, place
    assert (np.abs(np.diff(flow[0], axis=1)) < 0.9).all(), "what moves does not fold over"


def test_closed_eyes_stay_and_half_closed_ones_move_less() -> None:
    moved = [np.abs(iris_flow(face(height), np.array([1.0, 0.0]), 64)).max() for height in (3.0, 0.9, 0.3)]
    assert moved[0] > moved[1] > moved[2] == 0


def test_nothing_moves_further_than_an_eye_is_wide() -> None:
    assert np.abs(iris_flow(face(), np.array([60.0, 0.0]), 64)).max() < 6


def test_pixels_of_the_frame_move_and_all_others_stay_to_the_byte() -> None:
    size = 256
    frame = np.full((size, size, 3), 180, np.uint8)
    frame[116:125, 76:85] = 20  # an iris in the right eye's middle
    frame[40:60, 40:60] = RNG.integers(0, 255, (20, 20, 3), np.uint8)
    landmarks = np.zeros((N_POINTS, 3), np.float32)
    landmarks[:, :2] = (face() + 0.5) * 4 - 0.5
    crop = Crop(np.zeros((1, 3, size, size), np.float32), np.eye(2, 3), landmarks)
    before = frame.copy()
    move_irises(frame, crop, np.array([4 / size, 0.0]))
    dark = [float((image[120] < 100).nonzero()[0].mean()) for image in (before, frame)]
    assert dark[1] - dark[0] == pytest.approx(4, abs=1)
    changed = (frame != before).any(-1)
    assert not changed[:100].any()
    assert not changed[:, :50].any()
    still = frame.copy()
    move_irises(frame, crop, np.zeros(2))
    assert np.array_equal(frame, still)


def test_the_demo_looks_into_the_camera_if_asked(demo_directions: set[str]) -> None:
    assert {"gaze_x", "gaze_y", "eye_contact_x", "eye_contact_y"} <= demo_directions


@pytest.fixture
def demo_directions() -> set[str]:
    from doppelgan.runtime.bundle import open_bundle

    folder = Path(__file__).parents[2] / "engines" / "demo"
    with open_bundle(folder, compiled=False) as bundle:
        return set(bundle.directions)
