"""Face points -> FFHQ square -> crop, and back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.align import align, crop_matrix, ffhq_square, invert
from doppelgan.runtime.face_mesh import LEFT_EYE, MOUTH_CORNERS, N_POINTS, RIGHT_EYE
from doppelgan.runtime.types import Face
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("DOPPELGAN_SHARED", ROOT.parent / "shared"))

UPRIGHT = np.array([[40, 50], [80, 50], [45, 95], [75, 95]], float)


def face_at(eyes_mouth: NDArray[np.float64]) -> Face:
    """A face whose four alignment points are these; the other landmarks lie between them."""
    landmarks = np.zeros((N_POINTS, 3), np.float32)
    landmarks[:, :2] = eyes_mouth.mean(axis=0)
    landmarks[:, 2] = -7
    landmarks[list(RIGHT_EYE), :2], landmarks[list(LEFT_EYE), :2] = eyes_mouth[0], eyes_mouth[1]
    landmarks[list(MOUTH_CORNERS), :2] = eyes_mouth[2:]
    return Face(id=0, landmarks=landmarks, score=1.0)


def turned(points: NDArray[np.float64], degrees: float, scale: float = 1.0) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ rotation.T


class TestSquare:
    def test_of_an_upright_face_follows_the_formula(self) -> None:
        # Eye distance 40, eye-mouth distance 45: 1.8 * 45 = 81 > 2 * 40; the center lies 4.5 below the eyes.
        middle_x, middle_y, half = 60, 54.5, 81
        corners = [(-1, -1), (-1, 1), (1, 1), (1, -1)]  # top left, bottom left, bottom right, top right
        expected = [(middle_x + half * x, middle_y + half * y) for x, y in corners]
        np.testing.assert_allclose(ffhq_square(UPRIGHT), expected, atol=1e-12)

    def test_of_a_short_face_is_set_by_the_eyes(self) -> None:
        short = UPRIGHT - [[0, 0], [0, 0], [0, 30], [0, 30]]
        square = ffhq_square(short)
        assert np.linalg.norm(square[3] - square[0]) == pytest.approx(2 * 2 * 40)

    @pytest.mark.parametrize("degrees", [-170, -90, -20, 0, 7, 45, 180])
    @pytest.mark.parametrize("scale", [0.1, 1, 30])
    def test_turns_and_grows_with_the_face(self, degrees: float, scale: float) -> None:
        expected = turned(ffhq_square(UPRIGHT), degrees, scale)
        np.testing.assert_allclose(ffhq_square(turned(UPRIGHT, degrees, scale)), expected, atol=1e-9 * scale)

    @pytest.mark.parametrize("seed", range(20))
    def test_is_a_square(self, seed: int) -> None:
        square = ffhq_square(np.random.default_rng(seed).uniform(0, 500, (4, 2)))
        sides = np.roll(square, -1, axis=0) - square
        assert np.ptp(np.linalg.norm(sides, axis=1)) < 1e-9
        assert abs(sides[0] @ sides[1]) < 1e-7

    @pytest.mark.parametrize(
        "points", [np.full((4, 2), 5.0), np.full((4, 2), np.nan)], ids=["coincident", "not a number"]
    )
    def test_refuses_points_without_extent(self, points: NDArray[np.float64]) -> None:
        with pytest.raises(ValueError, match="four distinct, finite points"):
            ffhq_square(points)

    def test_refuses_another_number_of_points(self) -> None:
        with pytest.raises(ValueError, match=r"expected \[4,2\].*got \[5, 2\]"):
            ffhq_square(np.zeros((5, 2)))

    @pytest.mark.skipif(
        not (SHARED / "conformance/alignment.json").exists(),
        reason="shared conformance material is not beside this checkout",
    )
    def test_agrees_with_reference_squares(self) -> None:
        cases = json.loads((SHARED / "conformance/alignment.json").read_text())
        faces = [face for found in cases.values() for face in found]
        assert len(faces) > 30
        for face in faces:
            # The reference is rounded to 0.01 px, points and corners alike.
            np.testing.assert_allclose(ffhq_square(face["eyes_mouth"]), face["quad"], atol=0.03)


class TestMatrix:
    @pytest.mark.parametrize("size", [1, 2, 64, 255])
    def test_puts_pixel_centers_inside_the_square(self, size: int) -> None:
        square = ffhq_square(turned(UPRIGHT, 25))
        matrix = crop_matrix(square, size)
        top_left, bottom_left, _, top_right = square
        for i, j in [(0, 0), (size - 1, 0), (size // 2, size - 1)]:
            across, down = (j + 0.5) / size, (i + 0.5) / size
            expected = top_left + across * (top_right - top_left) + down * (bottom_left - top_left)
            np.testing.assert_allclose(matrix @ (j, i, 1), expected, atol=1e-9)

    def test_is_undone_by_its_inverse(self) -> None:
        matrix = crop_matrix(ffhq_square(turned(UPRIGHT, -33)), 256)
        points = np.random.default_rng(0).uniform(-50, 300, (9, 2))
        there = points @ matrix[:, :2].T + matrix[:, 2]
        inverse = invert(matrix)
        np.testing.assert_allclose(there @ inverse[:, :2].T + inverse[:, 2], points, atol=1e-10)


class TestAlign:
    @pytest.mark.parametrize("degrees", [0, 30, -75])
    def test_brings_the_eyes_to_the_same_place(self, degrees: float) -> None:
        points = turned(UPRIGHT, degrees) + 200
        crop = align(np.zeros((400, 400, 3), np.uint8), face_at(points), 128)
        reference = align(np.zeros((400, 400, 3), np.uint8), face_at(UPRIGHT + 200), 128)
        np.testing.assert_allclose(crop.landmarks, reference.landmarks, atol=1e-3)
        assert crop.pixels.shape == (1, 3, 128, 128)
        assert crop.pixels.dtype == np.float32

    def test_landmarks_stand_on_the_pixels_that_they_stood_on(self) -> None:
        image = np.zeros((200, 200, 3), np.uint8)
        points = np.add(turned(UPRIGHT, 20), (60, 40))
        x, y = np.round(points[0]).astype(int)
        image[y - 3 : y + 4, x - 3 : x + 4] = 255  # a dot around the image-left eye
        crop = align(image, face_at(points), 256)
        weight = crop.pixels[0].mean(axis=0) + 1
        rows, columns = np.mgrid[0:256, 0:256]
        seen = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        expected = invert(crop.matrix) @ (x, y, 1)
        np.testing.assert_allclose(seen, expected, atol=0.05)

    def test_depth_scales_with_the_crop(self) -> None:
        face = face_at(UPRIGHT)
        small, large = (align(np.zeros((200, 200, 3), np.uint8), face, size) for size in (64, 256))
        np.testing.assert_allclose(large.landmarks[:, 2], 4 * small.landmarks[:, 2], rtol=1e-5)
        assert small.landmarks[0, 2] == pytest.approx(-7 * 64 / 162)

    def test_reflects_where_the_square_leaves_the_picture(self) -> None:
        image = np.full((120, 120, 3), 200, np.uint8)
        crop = align(image, face_at(UPRIGHT - (60, 40)), 96)
        np.testing.assert_allclose(crop.pixels, 200 / 127.5 - 1, atol=1e-5)

    def test_takes_pictures_with_strides(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
        mirrored = image[:, ::-1]
        crop, copied = (align(picture, face_at(UPRIGHT), 64) for picture in (mirrored, mirrored.copy()))
        np.testing.assert_array_equal(crop.pixels, copied.pixels)


def test_maps_that_keep_areas_are_inverted_and_flat_ones_refused() -> None:
    turn = np.array([[0.6, -0.8, 5.0], [0.8, 0.6, -7.0]])  # determinant 1
    both = np.vstack([turn, [0, 0, 1]]) @ np.vstack([invert(turn), [0, 0, 1]])
    np.testing.assert_allclose(both, np.eye(3), atol=1e-12)
    with pytest.raises(ValueError, match="flattens the plane"):
        invert(np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]]))


def test_landmarks_of_a_crop_are_float32_whatever_the_faces_are() -> None:
    face = Face(0, np.random.default_rng(0).uniform(20, 60, (N_POINTS, 3)), 1.0)
    assert align(np.zeros((80, 80, 3), np.uint8), face, 32).landmarks.dtype == np.float32
