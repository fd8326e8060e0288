"""Where faces are looked for: turned, small, inside each other, in panoramas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from doppelgan.runtime.track import Tracker, suppress
from doppelgan.runtime.track.region import Region
from doppelgan.runtime.track.tracker import overlap, shared_part
from doppelgan.runtime.types import Image

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


# Which views are searched, and when


def searched(
    tracker: Tracker, width: int, height: int, time_s: float = 0.0, truths: Sequence[Painted] = ()
) -> list[Region]:
    """The views in which the detector looks for faces in a frame, in order."""
    views: list[Region] = []
    real = tracker._detect

    def detect(image: Image, view: Region) -> list[Region]:
        views.append(view)
        return real(image, view)

    tracker._detect = detect  # type: ignore[method-assign]
    tracker.update(paint(list(truths), width, height), time_s)
    tracker._detect = real  # type: ignore[method-assign]
    return views


def tiles(xs: Sequence[float], ys: Sequence[float], side: float) -> list[Region]:
    return [Region(x, y, side) for y in ys for x in xs]


def turned(x: float, y: float, side: float) -> list[Region]:
    return [Region(x, y, side, math.radians(angle)) for angle in (-45, 45, -90, 90, 180)]


def test_a_fresh_start_searches_the_frame_its_halves_and_the_frame_turned() -> None:
    assert searched(Networks().tracker(), 480, 360) == [
        Region(239.5, 179.5, 480),
        *tiles((119.5, 239.5, 359.5), (119.5, 239.5), 240),
        *turned(239.5, 179.5, 576),
    ]
    assert searched(Networks().tracker(), 360, 480)[1:7] == tiles((119.5, 239.5), (119.5, 239.5, 359.5), 240)


def test_tiles_of_a_panorama_grow_smaller_until_they_fit_its_height() -> None:
    views = searched(Networks().tracker(), 4000, 300)
    assert [side for side, _ in groupby(view.side for view in views)] == [4000, 2000, 1000, 500, 250, 4800]
    assert [view.y for view in views if view.side == 500] == [149.5] * 15
    assert {view.y for view in views if view.side == 250} == {124.5, 174.5}
    xs = sorted(view.x for view in views if view.side == 500)
    assert (xs[0], xs[1], xs[-1]) == (249.5, 499.5, 3749.5)


def test_a_thorough_search_goes_on_to_tiles_of_320_pixels() -> None:
    views = searched(Networks().tracker(thorough=True), 1600, 1300)
    assert [side for side, _ in groupby(view.side for view in views)] == [1600, 800, 1920, 400]
    usual = searched(Networks().tracker(), 1600, 1300)
    assert [side for side, _ in groupby(view.side for view in usual)] == [1600, 800, 1920]
    large = searched(Networks().tracker(thorough=True), 4000, 3600)
    assert min(view.side for view in large) == 500  # an eighth of the longer side


def test_after_a_fresh_start_one_special_view_is_tried_a_search() -> None:
    tracker = Networks().tracker()
    whole, *special = searched(tracker, 480, 360)
    for number in range(1, 14):
        assert searched(tracker, 480, 360, number / 30) == [whole, special[number % len(special)]]
    tracker.reset()
    assert searched(tracker, 480, 360, 1.0) == [whole, *special]


def test_a_lost_face_is_looked_for_around_its_last_place_first() -> None:
    networks = Networks()
    tracker = networks.tracker()
    truth = Painted(240, 180)
    searched(tracker, 480, 360, 0.0, [truth])
    last = tracker._tracks[0].region
    first, second, *_ = searched(tracker, 480, 360, 0.1)
    assert first == replace(last, side=2 * last.side)
    assert second == Region(239.5, 179.5, 480)


def test_nothing_is_searched_while_there_is_no_room_for_more_faces() -> None:
    tracker = Networks().tracker()
    truth = Painted(240, 180)
    assert searched(tracker, 480, 360, 0.0, [truth]) == [Region(239.5, 179.5, 480)]  # found there
    assert searched(tracker, 480, 360, 5.0, [truth]) == []


def test_with_room_for_more_a_search_every_three_tenths_of_a_second() -> None:
    tracker = Networks().tracker(max_faces=2)
    truth = Painted(240, 180)
    when = [k / 20 for k in range(21) if searched(tracker, 480, 360, k / 20, [truth])]
    assert when == [0, 0.3, 0.6, 0.9]


@pytest.mark.parametrize(("gone_s", "id_"), [(1.0, 0), (1.05, 1)])
def test_a_lost_face_is_remembered_for_a_second(gone_s: float, id_: int) -> None:
    networks = Networks()
    tracker = networks.tracker()
    picture = paint([Painted(240, 180)])
    tracker.update(picture, 0.0)
    networks.blind = True
    assert tracker.update(picture, gone_s - 0.01) == []
    networks.blind = False
    assert [face.id for face in tracker.update(picture, gone_s)] == [id_]


def test_faces_say_how_sure_they_are() -> None:
    (face,) = Networks().tracker().update(paint([Painted(240, 180)]), 0.0)
    assert face.score == 1.0


def test_boxes_that_overlap_just_so_much_are_two_faces() -> None:
    boxes = np.zeros((2, 16), np.float32)
    boxes[:, :4] = [[10, 10, 8, 8], [13, 10, 8, 8]]
    corners = np.array([[6, 6, 14, 14], [9, 6, 17, 14]], np.float32)
    shared = float(overlap(corners[0], corners[1:])[0])
    assert shared == pytest.approx(5 / 11)
    scores = np.array([0.9, 0.8], np.float32)
    assert len(suppress(boxes, scores, threshold=shared)[0]) == 2
    assert len(suppress(boxes, scores, threshold=shared - 1e-3)[0]) == 1
    assert len(suppress(boxes, scores)[0]) == 1  # from 0.3 on


def test_a_small_box_inside_a_large_one_is_wholly_shared() -> None:
    large = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[2, 2, 4, 4], [8, 8, 12, 12], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose(shared_part(large, others), [1, 4 / 16, 0])
    np.testing.assert_allclose(overlap(large, others), [4 / 100, 4 / 112, 0], rtol=1e-6)
