"""Where faces are looked for: turned, small, inside each other, in panoramas."""

from __future__ import annotations

import math

import pytest

from .painted_faces import Networks, Painted, error, paint


@pytest.mark.parametrize("truth", [Painted(200, 160, 25, math.radians(a)) for a in (90, -90, 180, 60)])
def test_turned_faces_are_found_on_a_fresh_start(truth: Painted) -> None:
    faces = Networks().tracker().update(paint([truth]), 0.0)
    assert len(faces) == 1
    assert error(faces[0], truth) < 1.0


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_a_face_that_looks_upright_upside_down_is_still_found_the_right_way_up(degrees: int) -> None:
    networks = Networks()
    networks.fooled = True
    truth = Painted(240, 180, 30, math.radians(degrees))
    (face,) = networks.tracker().update(paint([truth]), 0.0)
    assert error(face, truth) < 1.0


@pytest.mark.parametrize("phantom", [(240, 250), (215, 160), (262, 215)])
def test_a_face_inside_a_face_is_none(phantom: tuple[float, float]) -> None:
    """The box of the small one lies within the large one's, so their overlap over their union is small."""
    truth = Painted(240, 180, 60)
    faces = Networks().tracker(max_faces=4).update(paint([truth], phantom=phantom), 0.0)
    assert len(faces) == 1
    assert error(faces[0], truth) < 2.0


def test_a_face_around_what_was_taken_for_one_takes_its_place() -> None:
    tracker = Networks().tracker(max_faces=2, search_every_s=0.1)
    phantom, truth = (240.0, 215.0), Painted(240, 180, 60)
    assert len(tracker.update(paint([], phantom=phantom), 0.0)) == 1
    for step in range(1, 6):
        faces = tracker.update(paint([truth], phantom=phantom), 0.2 * step)
        assert len(faces) == 1
    assert error(faces[0], truth) < 2.0


def test_a_small_face_beside_a_large_one_is_one_of_its_own() -> None:
    truth = Painted(160, 180, 60)
    assert len(Networks().tracker(max_faces=4).update(paint([truth], phantom=(350, 120)), 0.0)) == 2


def test_people_cheek_to_cheek_are_two() -> None:
    pair = [Painted(190, 150, 30), Painted(240, 215, 30)]
    assert len(Networks().tracker(max_faces=2).update(paint(pair), 0.0)) == 2


@pytest.mark.parametrize(("width", "height"), [(4000, 300), (300, 4000)])
def test_faces_of_a_panorama_are_found(width: int, height: int) -> None:
    networks = Networks(smallest_eye_distance=6.0)
    x, y = (0.7 * width, 150) if width > height else (150, 0.7 * height)
    truth = Painted(x, y, 20)
    faces = networks.tracker().update(paint([truth], width, height), 0.0)
    assert len(faces) == 1
    assert error(faces[0], truth) < 1.0


def test_a_thorough_search_finds_faces_that_are_small_in_a_large_picture() -> None:
    networks = Networks(smallest_eye_distance=6.0)
    truth = Painted(1210, 1130, 22)  # 3 pixels wide in the whole frame, 6 in a quarter
    picture = paint([truth], 1600, 1300)
    assert networks.tracker().update(picture, 0.0) == []
    (face,) = networks.tracker(thorough=True).update(picture, 0.0)
    assert error(face, truth) < 1.0


def test_of_faces_in_different_tiles_the_larger_comes_first() -> None:
    networks = Networks(smallest_eye_distance=8.0)  # 40 px of the frame
    small, large = Painted(60, 60, 11), Painted(400, 300, 16)
    (face,) = networks.tracker(max_faces=1).update(paint([small, large]), 0.0)
    assert error(face, large) < 1.0


def test_small_faces_are_found_on_a_fresh_start() -> None:
    networks = Networks(
        smallest_eye_distance=6.0
    )  # network pixels: 30 px of the frame, 15 of a half-size tile
    truth = Painted(130, 250, 10.0)
    faces = networks.tracker().update(paint([truth]), 0.0)
    assert len(faces) == 1
    assert error(faces[0], truth) < 0.8
