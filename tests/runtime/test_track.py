"""The tracker on painted faces: who is followed, lost and found again, and how steadily."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from doppelgan.runtime.backends import open_session
from doppelgan.runtime.backends.base import TensorSpec
from doppelgan.runtime.errors import BackendError
from doppelgan.runtime.track import OneEuro, Tracker, landmarks_in_crop, suppress
from numpy.typing import NDArray

from tests.fake_session import FakeSession

from .painted_faces import Networks, Painted, error, paint

REPOSITORY = Path(__file__).resolve().parents[2]


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


def test_landmarks_of_an_aligned_crop() -> None:
    truth = Painted(115, 120, 30, 0.1)
    crop = paint([truth], 256, 256)[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    networks = Networks()
    networks.pull = 0.4
    found = landmarks_in_crop(networks.landmarks, crop)
    assert np.linalg.norm(found[:, :2] - truth.landmarks()[:, :2], axis=1).max() < 3.0


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
