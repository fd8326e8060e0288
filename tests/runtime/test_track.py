"""The tracker on painted faces: fake networks read a red and a green dot, the person's right and left eye."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from doppelgan.runtime.backends import open_session
from doppelgan.runtime.backends.base import TensorSpec
from doppelgan.runtime.errors import BackendError
from doppelgan.runtime.track import OneEuro, Tracker, expression, landmarks_in_crop, suppress
from doppelgan.runtime.track.region import Region, look, place
from doppelgan.runtime.types import Face
from numpy.typing import NDArray

from tests.fake_session import FakeSession

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = 96  # of what the fake networks see


def template() -> NDArray[np.float64]:
    """468 points of a made-up head: outer eye corners at x = -1 and 1, y = 0, some depth, mirrored pairs."""
    points = np.random.default_rng(7).uniform(-0.8, 0.8, (468, 3))
    points[:, 2] *= 0.3
    for right, left, x, y, z in [
        (33, 263, 1.0, 0.0, 0.0),
        (133, 362, 0.35, 0.0, -0.1),
        (127, 356, 1.6, -0.1, 0.9),
        (234, 454, 1.6, 0.3, 1.0),
        (162, 389, 1.5, -0.5, 0.8),
        (21, 251, 1.3, -0.8, 0.6),
        (54, 284, 1.1, -1.1, 0.4),
        (93, 323, 1.5, 0.7, 0.9),
        (109, 338, 0.5, -1.3, 0.0),
        (98, 327, 0.3, 0.9, 0.0),
        (61, 291, 0.55, 1.4, 0.0),
        *((r, f, 0.65, -0.1, 0.0) for r, f in [(160, 387), (159, 386), (158, 385)]),
        *((r, f, 0.65, 0.1, 0.0) for r, f in [(144, 373), (145, 374), (153, 380)]),
        *((r, f, 0.65, -0.5, 0.0) for r, f in [(70, 300), (63, 293), (105, 334), (66, 296), (107, 336)]),
        *((r, f, 0.1, 1.4, 0.0) for r, f in [(82, 312), (87, 317)]),
    ]:
        points[right], points[left] = (-x, y, z), (x, y, z)
    for middle, y in [
        (10, -1.5),
        (152, 2.0),
        (151, -1.1),
        (168, 0.0),
        (2, 0.9),
        (94, 0.9),
        (0, 1.3),
        (13, 1.4),
        (14, 1.4),
    ]:
        points[middle] = (0.0, y, 0.0)
    points[1] = (0.0, 0.6, -0.9)
    return points


TEMPLATE = template()


class Painted:
    """A face to paint: eye corners ``reach`` px either side of (x, y), turned by ``roll``."""

    def __init__(self, x: float, y: float, reach: float = 20.0, roll: float = 0.0) -> None:
        self.x, self.y, self.reach, self.roll = x, y, reach, roll

    def landmarks(self) -> NDArray[np.float64]:
        turn = np.array(
            [[math.cos(self.roll), math.sin(self.roll)], [-math.sin(self.roll), math.cos(self.roll)]]
        )
        xy = TEMPLATE[:, :2] * self.reach @ turn + (self.x, self.y)
        return np.column_stack([xy, TEMPLATE[:, 2] * self.reach])


def paint(
    faces: list[Painted], width: int = 480, height: int = 360, phantom: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """A gray picture; soft dots, so that their centers keep fractions of a pixel. A blue one is a phantom."""
    image = np.full((height, width, 3), 90, np.float64)
    spots = [
        (x, y, 0.2 * face.reach, channel)
        for face in faces
        for (x, y), channel in zip(face.landmarks()[[33, 263], :2], (2, 1), strict=True)
    ]
    spots += [(*phantom, 6.0, 0)] if phantom else []
    if spots:
        for x, y, sigma, channel in spots:
            columns = np.exp(-0.5 * ((np.arange(width) - x) / sigma) ** 2)
            rows = np.exp(-0.5 * ((np.arange(height) - y) / sigma) ** 2)
            image[..., channel] += 160 * np.outer(rows, columns)
    return np.clip(image, 0, 255).round().astype(np.uint8)


def dots(
    picture: NDArray[np.float32], channel: int, threshold: float = 0.15
) -> list[tuple[float, float, float]]:
    """(x, y, area) of the dots of one color in a network input [1,3,S,S], pixel edges at integers."""
    others = [c for c in range(3) if c != channel]
    strength = picture[0, channel] - picture[0, others].max(axis=0)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((strength > threshold).astype(np.uint8))
    found = []
    for label in range(1, count):
        rows, columns = np.nonzero(labels == label)
        weights = strength[rows, columns] - threshold
        x, y = np.average(columns, weights=weights) + 0.5, np.average(rows, weights=weights) + 0.5
        found.append((float(x), float(y), float(stats[label, cv2.CC_STAT_AREA])))
    return found


class Networks:
    """A fake detector and a fake landmark network, with switches."""

    def __init__(self, *, smallest_eye_distance: float = 3.0) -> None:
        self.noise = np.random.default_rng(3)
        self.noise_px = 0.0
        self.blind = False
        self.detector_shift = 0.0  # of a box's side, to the right
        self.pull = 0.0  # landmarks run after a face that is off the middle of the look, by this share
        self.smallest = smallest_eye_distance
        self.fooled = False  # both see an upright face in an upside-down one; the detector less surely
        image = [TensorSpec("image", "float32", (1, 3, SIZE, SIZE))]
        boxes = [TensorSpec("boxes", "float32", (1, 12, 16)), TensorSpec("scores", "float32", (1, 12))]
        points = [TensorSpec("points", "float32", (1, 468, 3)), TensorSpec("score", "float32", (1, 1))]
        self.detector = FakeSession(image, boxes, self._detect)
        self.landmarks = FakeSession(image, points, self._measure)

    def _detect(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        boxes, scores = np.zeros((1, 12, 16), np.float32), np.zeros((1, 12), np.float32)
        row = 0
        for rx, ry, _ in dots(feeds["image"], 0):
            candidates = [(math.hypot(gx - rx, gy - ry), gx, gy) for gx, gy, _ in dots(feeds["image"], 1)]
            if not candidates or self.blind:
                continue
            distance, gx, gy = min(candidates)
            roll, surely = math.degrees(abs(math.atan2(gy - ry, gx - rx))), 1.0
            if self.fooled and roll > 130:
                rx, ry, gx, gy, roll, surely = gx, gy, rx, ry, 180 - roll, 0.7
            if distance < self.smallest or roll > 50:
                continue
            side = 1.6 * distance
            center = ((rx + gx) / 2 + self.detector_shift * side, (ry + gy) / 2 + 0.1 * side)
            # Twice, a little apart, as a real detector answers.
            for shift, score in ((0.0, 0.9), (0.05 * side, 0.7)):
                boxes[0, row] = [center[0] + shift, center[1], side, side, rx, ry, gx, gy, *[0.0] * 8]
                scores[0, row] = score * surely
                row += 1
        for rx, ry, gx, gy in self._phantom_eyes(feeds["image"]):
            boxes[0, row] = [
                (rx + gx) / 2,
                (ry + gy) / 2,
                2 * (gx - rx),
                2 * (gx - rx),
                rx,
                ry,
                gx,
                gy,
                *[0.0] * 8,
            ]
            scores[0, row] = 0.95
            row += 1
        return {"boxes": boxes, "scores": scores}

    def _phantom_eyes(self, picture: NDArray[np.float32]) -> list[tuple[float, float, float, float]]:
        """Where a blue dot is: the phantom's eyes, as far apart as the dot is wide."""
        return [(x - a, y, x + a, y) for x, y, area in dots(picture, 2) for a in [0.5 * math.sqrt(area)]]

    def _measure(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        red, green = dots(feeds["image"], 0), dots(feeds["image"], 1)
        middle = SIZE / 2
        for rx, _, gx, y in self._phantom_eyes(feeds["image"]):
            if math.hypot((rx + gx) / 2 - middle, y - middle) < 5:
                points = Painted((rx + gx) / 2, y, (gx - rx) / 2).landmarks()
                return {"points": points[None].astype(np.float32), "score": np.ones((1, 1))}
        if not red or not green or self.blind:
            return {"points": Painted(middle, middle, 15).landmarks()[None], "score": np.full((1, 1), 0.2)}
        (rx, ry, _), (gx, gy, _) = (
            min(found, key=lambda dot: math.hypot(dot[0] - middle, dot[1] - middle)) for found in (red, green)
        )
        reach, roll = math.hypot(gx - rx, gy - ry) / 2, math.atan2(gy - ry, gx - rx)
        if self.fooled and abs(roll) > math.radians(130):
            roll = math.remainder(roll + math.pi, 2 * math.pi)
        x, y = (rx + gx) / 2, (ry + gy) / 2
        face = Painted(x + self.pull * (x - middle), y, reach, roll)
        points = face.landmarks() + self.noise.normal(0, self.noise_px, (468, 3))
        return {
            "points": points[None].astype(np.float32),
            "score": np.full((1, 1), abs(roll) < math.radians(35)),
        }

    def tracker(self, max_faces: int = 1, smoothing: OneEuro | None = None, **settings: float) -> Tracker:
        return Tracker(self.detector, self.landmarks, max_faces, smoothing, **settings)  # type: ignore[arg-type]


def error(face: Face, truth: Painted) -> float:
    """Largest distance of a landmark from the truth, in pixels."""
    return float(np.linalg.norm(face.landmarks[:, :2] - truth.landmarks()[:, :2], axis=1).max())


@pytest.mark.parametrize(
    "truth",
    [
        Painted(240, 180),
        Painted(100.3, 90.7, 12.0),
        Painted(300.5, 200.25, 60.0),
        Painted(200, 160, 25, math.radians(40)),
        Painted(200, 160, 25, math.radians(-40)),
        Painted(235, 170, 80.0),
    ],
)
def test_landmarks_land_on_the_face(truth: Painted) -> None:
    faces = Networks().tracker().update(paint([truth]), 0.0)
    assert len(faces) == 1
    assert error(faces[0], truth) < 0.5 + 0.02 * truth.reach
    np.testing.assert_allclose(faces[0].landmarks[:, 2], truth.landmarks()[:, 2], atol=0.03 * truth.reach)


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


def test_landmarks_settle_before_a_new_face_is_shown() -> None:
    networks = Networks()
    networks.detector_shift, networks.pull = 0.3, 0.4
    truth = Painted(240, 180, 30)
    (face,) = networks.tracker().update(paint([truth]), 0.0)
    assert error(face, truth) < 1.0


def test_a_face_is_followed_without_the_detector() -> None:
    networks = Networks()
    tracker = networks.tracker()
    calls = 0
    for step in range(60):
        truth = Painted(
            80 + 5 * step, 180 + 40 * math.sin(step / 5), 20 + 0.2 * step, 0.6 * math.sin(step / 7)
        )
        (face,) = tracker.update(paint([truth]), step / 30)
        assert face.id == 0
        assert error(face, truth) < 1.5
        calls = calls or networks.detector.calls
    assert networks.detector.calls == calls


def test_a_face_is_followed_through_a_whole_turn() -> None:
    tracker = Networks().tracker()
    for step in range(73):
        truth = Painted(240, 180, 25, math.radians(10 * step))
        (face,) = tracker.update(paint([truth]), step / 30)
        assert face.id == 0
        assert error(face, truth) < 1.5


def test_several_faces_keep_their_ids() -> None:
    tracker = Networks().tracker(max_faces=3)
    seen: dict[int, set[int]] = {}
    for step in range(40):
        truths = [
            Painted(90 + 2 * step, 80),
            Painted(400 - 3 * step, 280),
            Painted(380 - step, 90, 15, 0.01 * step),
        ]
        faces = tracker.update(paint(truths), step / 30)
        assert len(faces) == 3
        for face in faces:
            nearest = min(range(3), key=lambda i: error(face, truths[i]))
            assert error(face, truths[nearest]) < 1.5
            seen.setdefault(nearest, set()).add(face.id)
    assert sorted(seen) == [0, 1, 2]
    assert all(len(ids) == 1 for ids in seen.values())
    assert len(set.union(*seen.values())) == 3


def test_no_more_faces_than_asked_for() -> None:
    truths = [Painted(90, 100), Painted(380, 100, 25), Painted(240, 280, 18)]
    (face,) = Networks().tracker(max_faces=1).update(paint(truths), 0.0)
    assert error(face, truths[1]) < 1.0, "expected the largest face"


def test_further_faces_are_searched_for_in_intervals() -> None:
    networks = Networks()
    tracker = networks.tracker(max_faces=2, search_every_s=0.3)
    first, second = Painted(100, 180), Painted(350, 180)
    tracker.update(paint([first]), 0.0)
    before = networks.detector.calls
    for step in range(1, 9):
        assert len(tracker.update(paint([first, second]), step / 30)) == 1
    assert networks.detector.calls == before
    assert [face.id for face in tracker.update(paint([first, second]), 0.31)] == [0, 1]


def test_a_lost_face_comes_back_with_its_id_for_a_while() -> None:
    networks = Networks()
    tracker = networks.tracker(remember_s=1.0)
    truth = Painted(240, 180)
    picture = paint([truth])
    assert [face.id for face in tracker.update(picture, 0.0)] == [0]
    networks.blind = True
    assert tracker.update(picture, 0.2) == []
    networks.blind = False
    assert [face.id for face in tracker.update(picture, 0.4)] == [0]
    networks.blind = True
    assert tracker.update(picture, 0.6) == []
    networks.blind = False
    assert [face.id for face in tracker.update(picture, 2.0)] == [1], "forgotten after a second"


def test_a_face_that_appears_elsewhere_is_a_new_one() -> None:
    tracker = Networks().tracker()
    assert [face.id for face in tracker.update(paint([Painted(80, 80)]), 0.0)] == [0]
    assert [face.id for face in tracker.update(paint([Painted(400, 280)]), 0.1)] == [1]


def test_two_tracks_never_share_a_face() -> None:
    tracker = Networks().tracker(max_faces=2)
    for step in range(10):
        pair = [Painted(160 + 4 * step, 180), Painted(282 - 4 * step, 180)]
        assert len(tracker.update(paint(pair), step / 30)) == 2
    between = Painted(221, 180)
    (face,) = tracker.update(paint([between]), 0.4)
    assert face.id == 0
    assert error(face, between) < 3.0


def test_a_face_leaves_through_the_border_and_is_dropped() -> None:
    tracker = Networks().tracker()
    present = []
    for step in range(60):
        faces = tracker.update(paint([Painted(100 - 4 * step, 180, 25)]), step / 30)
        present.append(len(faces))
        assert all(np.isfinite(face.landmarks).all() for face in faces)
    assert present[:15] == [1] * 15
    assert present[-5:] == [0] * 5


def test_a_face_whose_middle_is_outside_is_dropped() -> None:
    tracker = Networks().tracker()
    for y, count in ((330, 1), (345, 1), (357, 0)):
        assert len(tracker.update(paint([Painted(240, y, 25)]), y / 100)) == count


@pytest.mark.parametrize("size", [(2, 2), (3, 400), (400, 3)])
def test_odd_frame_sizes_hold_no_face_and_do_no_harm(size: tuple[int, int]) -> None:
    assert Networks().tracker(max_faces=2).update(paint([], *size), 0.0) == []


def test_reset_forgets_faces_and_starts_ids_anew() -> None:
    tracker = Networks().tracker()
    tracker.update(paint([Painted(80, 80)]), 0.0)
    tracker.update(paint([Painted(400, 280)]), 0.1)
    tracker.reset()
    assert [face.id for face in tracker.update(paint([Painted(80, 80)]), 0.0)] == [0]


def test_smoothing_calms_a_face_at_rest() -> None:
    def spread(smoothing: OneEuro | None) -> float:
        networks = Networks()
        networks.noise_px = 0.2
        tracker = networks.tracker(smoothing=smoothing)
        picture = paint([Painted(240, 180, 30)])
        points = [tracker.update(picture, step / 30)[0].landmarks for step in range(60)]
        return float(np.std(points[15:], axis=0).mean())

    assert spread(OneEuro()) < 0.6 * spread(None)


def test_smoothing_follows_quick_motion_without_visible_lag() -> None:
    tracker = Networks().tracker(smoothing=OneEuro())
    for step in range(40):
        truth = Painted(60 + 9 * step, 180, 30)  # about three eye distances a second
        (face,) = tracker.update(paint([truth]), step / 30)
        if step > 8:
            lag = truth.x - float(face.landmarks[[33, 263], 0].mean())
            assert abs(lag) < 0.03 * (2 * truth.reach)


def test_smoothing_is_the_same_for_near_and_far_faces() -> None:
    def path(scale: float) -> NDArray[np.float32]:
        networks = Networks()
        networks.noise_px = 0.2
        tracker = networks.tracker(smoothing=OneEuro())
        out = []
        for step in range(12):
            picture = paint(
                [Painted((150 + 3 * step) * scale, 120 * scale, 15 * scale)],
                int(320 * scale),
                int(240 * scale),
            )
            out.append(tracker.update(picture, step / 30)[0].landmarks[:, :2] / scale)
        return np.stack(out)

    np.testing.assert_allclose(path(1.0), path(2.0), atol=0.8)


def test_time_that_stands_still_or_jumps_back_is_no_error() -> None:
    tracker = Networks().tracker(smoothing=OneEuro())
    for time_s in (0.0, 0.0, 1.0, 0.5, 100.0):
        truth = Painted(200 + time_s, 180)
        (face,) = tracker.update(paint([truth]), time_s)
        assert error(face, truth) < 1.0


def test_look_reads_exactly_the_region() -> None:
    image = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    region = Region(x=40 + 31.5, y=20 + 31.5, side=64)  # pixels 40..103 and 20..83
    picture = look(image, region, 64)
    expected = image[20:84, 40:104, ::-1].transpose(2, 0, 1)[None] / 127.5 - 1
    np.testing.assert_allclose(picture, expected, atol=1e-5)
    points = place(np.array([[0.5, 0.5, 0.0], [63.5, 63.5, 1.0]], np.float32), region, 64)
    np.testing.assert_allclose(points, [[40, 20, 0], [103, 83, 1]], atol=1e-4)


def test_look_averages_when_it_shrinks() -> None:
    image = np.zeros((600, 800, 3), np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 255
    picture = look(image, Region(400, 300, 500, angle=0.3), 64)
    assert np.abs(picture).max() < 0.15, "a fine checkerboard seen small is gray"


def test_landmarks_of_an_aligned_crop() -> None:
    truth = Painted(115, 120, 30, 0.1)
    crop = paint([truth], 256, 256)[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    networks = Networks()
    networks.pull = 0.4
    found = landmarks_in_crop(networks.landmarks, crop)
    assert np.linalg.norm(found[:, :2] - truth.landmarks()[:, :2], axis=1).max() < 3.0


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_look_and_place_agree_when_they_shrink(angle: float) -> None:
    truth = Painted(430, 310, 90)
    region = Region(420, 330, 610, angle)
    picture = look(paint([truth], 900, 700), region, SIZE)
    ((x, y, _),) = dots(picture, 0)
    found = place(np.array([[x, y, 0.0]], np.float32), region, SIZE)[0, :2]
    np.testing.assert_allclose(found, truth.landmarks()[33, :2], atol=0.3)


def test_boxes_of_one_face_merge_weighted_by_score() -> None:
    boxes = np.zeros((3, 16), np.float32)
    boxes[:, :4] = [[10, 10, 8, 8], [50, 50, 8, 8], [12, 10, 8, 8]]
    merged, scores = suppress(boxes, np.array([0.6, 0.7, 0.9], np.float32))
    np.testing.assert_allclose(scores, [0.9, 0.7])
    np.testing.assert_allclose(merged[:, :2], [[11.2, 10], [50, 50]], rtol=1e-5)
    none, empty = suppress(np.zeros((0, 16), np.float32), np.zeros(0, np.float32))
    assert none.shape == (0, 16)
    assert empty.shape == (0,)


def test_network_borders_are_checked() -> None:
    networks = Networks()
    with pytest.raises(BackendError, match="detector: expected outputs boxes, scores, got points, score"):
        Tracker(networks.landmarks, networks.landmarks)
    odd = FakeSession(
        [TensorSpec("crop", "float32", (1, 3, 8, 8))], networks.detector.outputs, lambda feeds: {}
    )
    with pytest.raises(BackendError, match=r"expected input image \[1,3,S,S\], got crop"):
        Tracker(odd, networks.landmarks)


@pytest.mark.parametrize("bad", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_only_color_pictures_are_taken(bad: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="expected BGR uint8"):
        Networks().tracker().update(bad, 0.0)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="max_faces: expected 1 or more, got 0"):
        Networks().tracker(max_faces=0)
    with pytest.raises(ValueError, match="expected cut-offs > 0"):
        OneEuro(min_cutoff_hz=0)


def head(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, size: float = 50.0) -> Face:
    """The template turned: first up by pitch, then toward picture right by yaw, then clockwise by roll."""
    points = TEMPLATE.copy()
    c, s = math.cos(pitch), math.sin(pitch)
    points = points @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = math.cos(yaw), math.sin(yaw)
    points = points @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = math.cos(roll), math.sin(roll)
    points = points @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    return Face(0, (points * size + (300, 200, 0)).astype(np.float32), 1.0)


def test_pose_is_read_from_landmarks() -> None:
    rest = expression(head())
    assert abs(rest.yaw) < 1e-6
    assert abs(rest.roll) < 1e-6
    for name in ("yaw", "pitch", "roll"):
        for angle in (-0.5, 0.3):
            pose = expression(head(**{name: angle}))
            assert getattr(pose, name) - getattr(rest, name) == pytest.approx(angle, abs=1e-4)


def test_signs_of_pose() -> None:
    nose = head().landmarks[1]
    assert head(yaw=0.4).landmarks[1, 0] > nose[0], "yaw > 0 points the nose to the right of the picture"
    assert head(pitch=0.4).landmarks[1, 1] < nose[1], "pitch > 0 points it up"
    eyes = head(roll=0.4).landmarks[[33, 263]]
    assert eyes[1, 1] > eyes[0, 1], "roll > 0 is clockwise as seen"


def test_movements_do_not_depend_on_size_or_pose() -> None:
    rest = expression(head())
    turned = expression(head(yaw=0.4, pitch=-0.2, roll=0.7, size=13.0))
    for name in ("mouth_open", "smile", "eye_open_right", "eye_open_left", "brow_right", "brow_left"):
        assert getattr(turned, name) == pytest.approx(getattr(rest, name), abs=1e-4), name


def test_movements_are_told_apart() -> None:
    rest = expression(head())

    def moved(changes: Mapping[tuple[int, ...], tuple[float, float]]) -> Any:
        face = head()
        for indices, (dx, dy) in changes.items():
            face.landmarks[list(indices), :2] += np.array([dx, dy], np.float32)
        return expression(face)

    assert moved({(14, 87, 317): (0, 20)}).mouth_open == pytest.approx(rest.mouth_open + 0.2, abs=1e-4)
    assert moved({(61,): (-5, -5), (291,): (5, -5)}).smile > rest.smile + 0.1
    blink = moved({(160, 159, 158): (0, 10)})
    assert blink.eye_open_right == pytest.approx(0.0, abs=1e-4)
    assert blink.eye_open_left == rest.eye_open_left
    blink = moved({(373, 374, 380): (0, -10)})
    assert blink.eye_open_left == pytest.approx(0.0, abs=1e-4)
    assert blink.eye_open_right == rest.eye_open_right
    brow = moved({(300, 293, 334, 296, 336): (0, -10)})
    assert brow.brow_left == pytest.approx(rest.brow_left + 0.1, abs=1e-4)
    assert brow.brow_right == rest.brow_right


def _real_tracker(**settings: Any) -> Tracker:
    folder = Path(os.environ.get("DOPPELGAN_TRACKERS", REPOSITORY / "engines" / "demo"))
    paths = [folder / "detector.onnx", folder / "landmarks.onnx"]
    if not all(path.exists() for path in paths):
        pytest.skip(f"{folder} holds no trackers yet")
    return Tracker(*(open_session(path, threads=1) for path in paths), **settings)


def _square(eyes_mouth: NDArray[Any]) -> NDArray[np.float64]:
    left, right, mouth_left, mouth_right = eyes_mouth.astype(np.float64)
    across, down = right - left, (mouth_left + mouth_right - left - right) / 2
    x = across - np.array([-down[1], down[0]])
    x *= max(2 * np.linalg.norm(across), 1.8 * np.linalg.norm(down)) / np.linalg.norm(x)
    y = np.array([-x[1], x[0]])
    center = (left + right) / 2 + 0.1 * down
    return np.stack([center - x - y, center - x + y, center + x + y, center + x - y])


@pytest.mark.parametrize("clip", ["d10.mp4", "d12.mp4", "d13.mp4", "d18.mp4"])
def test_real_clips_have_a_face_in_every_frame_where_the_reference_has_it(clip: str, shared: Path) -> None:
    path = shared / "media" / clip
    reference = json.loads((shared / "conformance" / "alignment.json").read_text())
    tracker = _real_tracker(smoothing=OneEuro())
    capture = cv2.VideoCapture(str(path))
    found, count, ids, errors = 0, 0, set(), []
    while True:
        more, image = capture.read()
        if not more:
            break
        faces = tracker.update(image, count / 30)
        found += bool(faces)
        ids.update(face.id for face in faces)
        for truth in reference.get(f"{clip}@{count}", []) if faces else []:
            quad = np.array(truth["quad"])
            gaps = np.linalg.norm(_square(faces[0].eyes_mouth) - quad, axis=1)
            errors.append(np.median(gaps) / np.linalg.norm(quad[1] - quad[0]))
        count += 1
    assert count > 100
    assert found >= 0.99 * count
    assert ids == {0}
    assert len(errors) >= 7
    assert np.median(errors) < 0.05


@pytest.mark.parametrize("angle", [-45, 45])
def test_real_pictures_survive_turning_and_shrinking(angle: int, shared: Path) -> None:
    for name in ("s0.jpg", "s1.jpg", "s10.jpg", "s4.jpg"):
        image = cv2.imread(str(shared / "media" / name))
        tracker = _real_tracker(smoothing=None)
        (face,) = tracker.update(image, 0.0)
        low, high = face.box[:2], face.box[2:]
        scale = 0.12 * 720 / float(high[1] - low[1])
        matrix = cv2.getRotationMatrix2D([float(v) for v in (low + high) / 2], angle, scale)
        matrix[:, 2] += (500, 300) - (low + high) / 2
        turned = cv2.warpAffine(image, matrix, (1280, 720), flags=cv2.INTER_AREA)
        tracker.reset()
        (small,) = tracker.update(turned, 0.0)
        expected = face.eyes_mouth @ matrix[:, :2].T + matrix[:, 2]
        eye_distance = np.linalg.norm(expected[1] - expected[0])
        assert np.linalg.norm(small.eyes_mouth - expected, axis=1).max() < 0.25 * eye_distance, name
