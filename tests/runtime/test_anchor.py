"""How an edit is held on a face while its square breathes: registration, and what becomes of it over time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from doppelgan.runtime.composite.anchor import RIGID, Anchor, Similarity, register
from doppelgan.runtime.face_mesh import N_POINTS
from doppelgan.runtime.types import Floats, Matrix

SIZE = 64


def face_points() -> Matrix:
    """[468,2] cells: the rigid ones on a circle around the middle."""
    angle = np.linspace(0, 2 * np.pi, len(RIGID), endpoint=False)
    points = np.full((N_POINTS, 2), (SIZE - 1) / 2)
    points[list(RIGID)] += 20 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return points


def face(place: Similarity | None = None, light: float = 1.0, haze: float = 0.0) -> Floats:
    """[n,n]: smooth blotches, as seen after the face has moved by ``place`` within its square."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    back = (place or Similarity()).inverse()
    z = back.turn * (x + 1j * y) + back.shift
    x, y = z.real, z.imag
    blotches = np.sin(31 * x + 2) * np.cos(23 * y + 1) + np.sin(17 * x - 29 * y) + 0.5 * np.cos(40 * y)
    return np.asarray(light * (1 + 0.2 * blotches) + haze, np.float32)


def rgb(luma: Floats) -> Floats:
    return np.broadcast_to(luma, (3, SIZE, SIZE)).astype(np.float32)


MOVES = [
    Similarity(1.0, 0.012 - 0.007j),
    Similarity(1.015, 0.0),
    Similarity(complex(math.cos(0.02), math.sin(0.02)), 0.003j),
    Similarity(complex(0.99, -0.012), -0.006 + 0.004j),
]


@pytest.mark.parametrize("place", MOVES)
@pytest.mark.parametrize(("light", "haze"), [(1.0, 0.0), (0.8, 0.15)])
def test_a_move_of_the_face_is_found_in_any_light(place: Similarity, light: float, haze: float) -> None:
    found = register(face(), face(place, light, haze), face_points())
    left = place.after(found.inverse())
    assert left.size < max(0.0006, 0.1 * place.size)


def test_what_comes_before_a_third_of_the_face_does_not_drag_it() -> None:
    place = MOVES[0]
    after = face(place)
    after[:28] = face(Similarity(1.0, 0.3 + 0.2j))[:28] * 0.4
    assert place.after(register(face(), after, face_points()).inverse()).size < 0.003


def test_nothing_is_made_of_noise_or_of_another_picture() -> None:
    rng = np.random.default_rng(0)
    plain = [np.float32(1) + rng.normal(0, 0.02, (SIZE, SIZE)).astype(np.float32) for _ in range(2)]
    assert register(plain[0], plain[1], face_points()).size < 0.004
    other = rng.uniform(0, 2, (SIZE, SIZE)).astype(np.float32)
    assert register(face(), other, face_points()) == Similarity()


def test_a_breathing_square_does_not_move_the_edit_and_a_lasting_change_does() -> None:
    anchor, still = Anchor(), rgb(face())
    anchor(still, still, face_points(), None)
    breath = Similarity(1.012, 0.004j)
    for k in range(12):
        seen = rgb(face(breath if k % 2 else None))
        place = anchor(seen, still, face_points(), 1 / 30)
        expected = breath if k % 2 else Similarity()
        assert expected.after(place.inverse()).size < 0.0015
    sizes = [anchor(rgb(face(breath)), still, face_points(), 1 / 30).size for _ in range(150)]
    assert sizes[20] > 0.5 * breath.size
    assert sizes[-1] < 0.2 * breath.size


def test_a_generators_face_that_moves_in_its_picture_is_held_on_the_persons() -> None:
    anchor, still, drift = Anchor(), rgb(face()), Similarity(1.0, 0.008 + 0j)
    anchor(still, still, face_points(), None)
    place = anchor(still, rgb(face(drift)), face_points(), 1 / 30)
    assert place.after(drift).size < 0.001
    together = Anchor()
    together(still, still, face_points(), None)
    assert together(rgb(face(drift)), rgb(face(drift)), face_points(), 1 / 30).size < 0.001


def test_a_similarity_reads_what_its_matrix_says() -> None:
    place = Similarity(complex(1.01, 0.02), 0.01 - 0.02j)
    ramp = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE))).astype(np.float32)
    read = place.read(ramp)[:, 20, 30]
    np.testing.assert_allclose(read, place.matrix(SIZE) @ (30, 20, 1), atol=1e-3)
    back = np.vstack([place.inverse().matrix(SIZE), (0, 0, 1)])
    np.testing.assert_allclose(place.matrix(SIZE) @ back, np.eye(3)[:2], atol=1e-9)
    np.testing.assert_allclose(place.matrix(256) @ (30 * 4 + 1.5, 20 * 4 + 1.5, 1), read * 4 + 1.5, atol=0.01)


def test_points_and_pictures_move_as_the_matrix_says() -> None:
    place = Similarity(complex(1.01, 0.02), 0.01 - 0.02j)
    matrix, points = place.matrix(SIZE), np.array([(0.0, 0.0), (30.0, 20.0), (63.5, -0.5)])
    np.testing.assert_allclose(place.moved(points, SIZE), points @ matrix[:, :2].T + matrix[:, 2], atol=1e-9)
    to_frame = np.array([[2.0, -0.3, 100.0], [0.3, 2.0, 50.0]])
    both = to_frame @ np.vstack([matrix, (0, 0, 1)])
    np.testing.assert_allclose(place.before(to_frame, SIZE), both, atol=1e-9)
