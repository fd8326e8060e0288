"""Where things are drawn, to the pixel: mirrored faces, squares of other sizes, edges that nobody sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from doppelgan.runtime.align import align
from doppelgan.runtime.composite import Compositor, Difference, match_colors, paste
from doppelgan.runtime.composite.anchor import FAR, RETURN_S, Anchor, Similarity
from doppelgan.runtime.composite.gaze import iris_flow, move_irises
from doppelgan.runtime.composite.movement import FAR as GHOSTS
from doppelgan.runtime.composite.movement import flow_of, parting, remains
from doppelgan.runtime.composite.regions import fade_of, rescaled
from doppelgan.runtime.face_mesh import FACE_OVAL, LEFT_EYE, LIPS, N_POINTS, RIGHT_EYE
from doppelgan.runtime.types import Crop, Face, Floats, Image

from .test_anchor import face as blotches
from .test_anchor import face_points, rgb
from .test_composite import make_face
from .test_difference import picture

WIDTH, HEIGHT = 320, 240
MIDDLE = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)


def a_face(scale: float = 1.0) -> Face:
    """Mirror-symmetric, around the frame's middle column; eyes and mouth are rings."""
    face = make_face(center=(MIDDLE[0], 110), scale=scale)
    landmarks = face.landmarks.copy()
    for ring, x, y, wide, high in (
        (RIGHT_EYE, -16, -8, 8, 3),
        (LEFT_EYE, 16, -8, 8, 3),
        (LIPS, 0, 28, 12, 4),
    ):
        turn = np.linspace(0, 2 * np.pi, len(ring), endpoint=False)
        points = np.stack([x + wide * np.cos(turn), y + high * np.sin(turn)], 1)
        landmarks[list(ring), :2] = scale * points + (MIDDLE[0], 110)
    return replace(face, landmarks=landmarks)


def gray(level: int = 128) -> Image:
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def centroid(change: np.ndarray) -> np.ndarray:
    """x and y px of what has changed, [H,W,3]."""
    weight = np.abs(change.astype(float)).sum(axis=2)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def of_size(crop: Crop, size: int) -> Crop:
    """The same square, cut into ``size`` pixels instead."""
    landmarks = crop.landmarks.copy()
    landmarks[:, :2] = (landmarks[:, :2] + 0.5) * (size / crop.size) - 0.5
    pixels = np.full((1, 3, size, size), crop.pixels.mean(), np.float32)
    return Crop(pixels=pixels, matrix=rescaled(crop.matrix, crop.size, size), landmarks=landmarks)


# Pasting


@pytest.mark.parametrize("mode", ["face", "head", "replace"])
def test_what_is_drawn_of_a_symmetric_face_is_symmetric(mode: str) -> None:
    frame, face = gray(), a_face()
    bright = np.full((3, 96, 96), 0.8, np.float32)
    if mode == "replace":
        bright[:, 20:40, 40:56] = -0.8
    out = Compositor(mode, color_match=False).apply(frame, bright, align(frame, face, 64), face)
    assert np.abs(out.astype(int) - out[:, ::-1]).max() <= 2
    assert np.ptp(out) > 60


@pytest.mark.parametrize("size", [48, 96, 200])
def test_a_face_is_drawn_in_the_middle_of_its_contour(size: int) -> None:
    frame, face = gray(), a_face()
    bright = np.full((3, size, size), 0.8, np.float32)
    out = Compositor("face", color_match=False).apply(frame, bright, align(frame, face, 64), face)
    x, y = centroid(out.astype(int) - 128)
    oval = face.landmarks[list(FACE_OVAL), :2]
    assert (x, y) == pytest.approx(oval.mean(axis=0), abs=0.4)


@pytest.mark.parametrize("size", [64, 128])
def test_a_replaced_frames_middle_is_the_pictures(size: int) -> None:
    frame, face = gray(0), a_face()
    light = np.full((3, size, size), -1, np.float32)
    light[:, size // 2 - 4 : size // 2 + 4, size // 2 - 4 : size // 2 + 4] = 1
    out = Compositor("replace", color_match=False).apply(frame, light, align(frame, face, 64), face)
    assert centroid(np.where(out > 100, out, 0)) == pytest.approx(MIDDLE, abs=0.3)


def test_a_head_that_turns_on_the_spot_does_not_sway() -> None:
    """The square's own middle is what moves, not a corner of it."""
    compositor, frame = Compositor("replace", color_match=False), gray(0)
    light = np.full((3, 64, 64), -1, np.float32)
    light[:, 28:36, 28:36] = 1
    seen = []
    for degrees in (0.0, 25.0):
        angle = np.deg2rad(degrees)
        turn = 2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift = np.array(MIDDLE) - turn @ (31.5, 31.5)
        face = a_face()
        crop = replace(align(frame, face, 64), matrix=np.column_stack([turn, shift]))
        out = compositor.apply(gray(0), light, crop, face)
        seen.append(centroid(np.where(out > 100, out, 0)))
    assert seen[1] == pytest.approx(seen[0], abs=0.4)


def test_a_heads_edge_is_soft_and_its_inside_is_whole() -> None:
    frame, face = gray(), a_face()
    out = Compositor("head", color_match=False).apply(
        frame, np.full((3, 96, 96), 1, np.float32), align(frame, face, 64), face
    )
    assert (out[100:130, 140:180] == 255).all()
    steps = np.abs(np.diff(out[110].astype(int), axis=0))
    assert 2 < steps.max() < 26  # of 127


def test_colors_are_matched_as_the_formulas_say() -> None:
    face = a_face()
    frame = np.broadcast_to(np.array([60, 100, 150], np.uint8), (HEIGHT, WIDTH, 3)).copy()
    crop = align(frame, face, 64)
    drawn = np.array([-0.1, -0.2, -0.4], np.float32)
    flat = np.broadcast_to(drawn[:, None, None], (3, 64, 64)).astype(np.float32)
    gain, offset = match_colors(flat, crop, keep_black=True)
    person = np.array([150, 100, 60]) / 127.5
    np.testing.assert_allclose(gain, person / (drawn + 1), atol=0.01)
    np.testing.assert_allclose(offset, gain - 1, atol=1e-6)
    grain = np.random.default_rng(0).normal(0, 0.2, (3, 64, 64)).astype(np.float32)
    real = replace(crop, pixels=(0.1 + 1.2 * grain)[None].astype(np.float32))
    gain, offset = match_colors(np.asarray(grain - 0.05, np.float32), real)
    np.testing.assert_allclose(gain, 1.2, atol=0.01)
    np.testing.assert_allclose(gain * -0.05 + offset, 0.1, atol=0.01)


def test_colors_beyond_black_and_white_count_as_these() -> None:
    frame, face = gray(), a_face()
    crop = align(frame, face, 64)
    wild = np.random.default_rng(0).normal(0, 1.5, (3, 64, 64)).astype(np.float32)
    for keep_black in (False, True):
        for one, other in zip(
            match_colors(wild, crop, keep_black),
            match_colors(np.clip(wild, -1, 1), crop, keep_black),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, atol=1e-6)


# Eyes


def textured() -> Image:
    """The same from left to right as from right to left, brighter by 4 levels a row around the eyes."""
    rows = np.clip(128 + 4 * (np.arange(HEIGHT) - 102), 0, 255).astype(np.uint8)
    return np.repeat(np.repeat(rows[:, None], WIDTH, 1)[..., None], 3, 2)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_both_eyes_look_up_alike_and_by_as_much_as_is_said(size: int) -> None:
    frame, face = textured(), a_face(1.6)
    crop = of_size(align(frame, face, 128), size)
    side = crop.size * float(np.hypot(*crop.matrix[:, 0]))
    out = move_irises(frame.copy(), crop, np.array([0.0, -2.0 / side])).astype(int)
    assert np.abs(out - out[:, ::-1]).max() <= 1
    x, y = np.round(face.landmarks[list(RIGHT_EYE), :2].mean(axis=0)).astype(int)
    assert out[y, x, 0] - int(frame[y, x, 0]) == pytest.approx(2 * 4, abs=1.6)
    left = out - frame
    left[:, WIDTH // 2 :] = 0
    assert centroid(left) == pytest.approx(face.landmarks[list(RIGHT_EYE), :2].mean(axis=0), abs=0.6)


# The difference


def applied(
    frame: Image, edited: Floats, face: Face, size: int = 128, shift: Floats | None = None
) -> np.ndarray:
    """What is added, int [H,W,3]."""
    crop = of_size(align(frame, face, 128), size)
    plain = picture()
    return Difference().apply(frame.copy(), plain, plain, edited, crop, shift, 0.0).astype(int) - frame


def skin() -> Image:
    level = np.rint(picture()[::-1, 0, 0] * 127.5 + 127.5).astype(np.uint8)
    return np.broadcast_to(level, (HEIGHT, WIDTH, 3)).copy()


def test_the_same_is_added_to_both_halves_of_a_symmetric_face() -> None:
    edited = picture().copy()
    edited[:, 66:100, 40:88] -= 0.5
    added = applied(skin(), edited, a_face(1.6))
    assert np.abs(added - added[:, ::-1]).max() <= 2
    assert added.min() < -50


@pytest.mark.parametrize("size", [64, 256])
def test_the_same_is_added_whatever_the_squares_own_pixels(size: int) -> None:
    edited = picture().copy()
    edited[:, 66:100, 40:88] -= 0.5
    one, other = (applied(skin(), edited, a_face(1.6), of) for of in (128, size))
    assert np.abs(one - other).max() <= 3


def test_nobody_sees_where_the_square_ends() -> None:
    added = applied(skin(), picture() - np.float32(0.5), a_face(1.6))
    crop = align(skin(), a_face(1.6), 128)
    x0, y0 = np.ceil(crop.matrix @ (-0.5, -0.5, 1)).astype(int)
    x1, y1 = np.floor(crop.matrix @ (127.5, 127.5, 1)).astype(int)
    middle = added[max(y0, 0) : y1, (x0 + x1) // 2, 1], added[110, x0:x1, 1]
    for line in middle:
        assert np.abs(np.diff(line)).max() <= 8  # of 64
        assert line.min() < -50
    assert np.abs(added[110, [x0, x1 - 1], 1]).max() <= 2


# Movement


def mesh(scale: float = 1.0) -> np.ndarray:
    """[468,2] px of a 128 px picture, symmetric around its middle: points all over the face, rings, oval."""
    grid = np.stack(np.meshgrid(np.linspace(-26, 26, 18), np.linspace(-32, 32, 26)), -1).reshape(-1, 2)
    points = np.array([63.5, 63.5]) + scale * np.concatenate([grid, grid])[:N_POINTS] * 0.9
    for ring, x, y, wide, high in (
        (RIGHT_EYE, -16, -12, 7, 3), (LEFT_EYE, 16, -12, 7, 3), (LIPS, 0, 22, 11, 4),
        (FACE_OVAL, 0, 0, 34, 42),
    ):  # fmt: skip
        turn = np.linspace(0, 2 * np.pi, len(ring), endpoint=False)
        points[list(ring)] = 63.5 + scale * np.stack([x + wide * np.cos(turn), y + high * np.sin(turn)], 1)
    return points


def opened(points: np.ndarray, by: float = 5.0) -> np.ndarray:
    """The lower lip goes down."""
    shift = np.zeros_like(points)
    lips = np.array(LIPS)
    shift[lips[points[lips, 1] > 63.5 + 22], 1] = by
    return shift


@pytest.mark.parametrize("cells", [32, 64])
def test_parting_lips_are_where_the_lips_are(cells: int) -> None:
    points = mesh()
    inside = parting(points, opened(points), 128, cells)
    np.testing.assert_allclose(inside, inside[:, ::-1], atol=0.02)
    rows, columns = np.mgrid[0:cells, 0:cells]
    y = (inside * rows).sum() / inside.sum()
    assert (y + 0.5) * 128 / cells - 0.5 == pytest.approx(63.5 + 22, abs=0.4)
    assert inside.sum() * (128 / cells) ** 2 == pytest.approx(np.pi * 11 * 4 * 1.08**2, rel=0.25)
    assert columns[inside > 0.5].size


def test_lips_that_move_together_do_not_part() -> None:
    points = mesh()
    assert not parting(points, np.full_like(points, 3.0), 128, 32).any()


def test_what_moves_on_a_face_moves_nothing_beside_it_and_tears_nothing() -> None:
    points = mesh()
    brows = np.zeros_like(points)
    brows[:, 1] = -2.5 * np.exp(-(((points[:, 1] - 40) / 9) ** 2))
    flow = flow_of(points, brows, 128, 64)
    assert flow[1].min() < -2
    assert np.abs(np.diff(flow[1], axis=0)).max() < 2  # px, a cell: nothing folds over
    assert np.abs(np.diff(flow[1], axis=1)).max() < 2
    assert not flow[:, :, :10].any()


def test_of_what_movement_leaves_the_less_is_added_the_further_it_goes() -> None:
    shift = np.zeros((N_POINTS, 2))
    for size in (64, 256):
        shift[7] = (0.5 * GHOSTS * size, -GHOSTS * size)
        assert remains(shift, size) == pytest.approx(np.exp(-1))
        assert remains(2 * shift, size) == pytest.approx(np.exp(-4))


# The anchor


@pytest.mark.parametrize("far", [0.006, 0.03])
def test_what_is_far_from_its_square_returns_sooner(far: float) -> None:
    anchor, still, step_s = Anchor(), rgb(blotches()), 1 / 30
    moved = rgb(blotches(Similarity(1.0, complex(far))))
    anchor(still, still, face_points(), None)
    anchor(moved, still, face_points(), step_s)
    sizes = [anchor(moved, still, face_points(), step_s).size for _ in range(2)]
    # Weaker by what was left before it became weaker.
    before = sizes[0]
    expected = np.exp(-step_s / RETURN_S * (1 + (before / FAR) ** 2))
    assert sizes[1] / before == pytest.approx(expected, abs=0.012)


def test_of_a_face_of_a_few_cells_nothing_is_told() -> None:
    small = (face_points() - 31.5) * 0.1 + 31.5
    anchor, still = Anchor(), rgb(blotches())
    anchor(still, still, small, None)
    assert anchor(rgb(blotches(Similarity(1.0, 0.02 + 0j))), still, small, 1 / 30) == Similarity()


@pytest.mark.parametrize("degrees", [0, 30, -70])
def test_a_tilted_eye_moves_between_its_lids(degrees: float) -> None:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.zeros((N_POINTS, 2))
    for ring, x in ((RIGHT_EYE, -20.0), (LEFT_EYE, 20.0)):
        around = np.linspace(0, 2 * np.pi, len(ring), endpoint=False)
        points[list(ring)] = np.stack([x + 12 * np.cos(around), 6 * np.sin(around)], 1)
    flow = iris_flow(points @ turn.T + 63.5, np.array([1.0, -1.5]), 128)

    def at(x: float, y: float) -> Floats:
        column, row = np.round(turn @ (x, y) + 63.5).astype(int)
        return flow[:, row, column]

    for x in (-20, 20):
        assert at(x, 0) == pytest.approx((1.0, -1.5), abs=0.15)
        for beside in ((x - 13, 0), (x + 13, 0), (x, 7), (x, -7)):
            assert np.abs(at(*beside)).max() < 0.35


def test_a_growing_face_grows_everywhere_by_its_share() -> None:
    points = mesh()
    flow = flow_of(points, 0.03 * (points - 63.5), 128, 64, leaks=True)
    cells = np.arange(22, 43)
    expected = 0.03 * (2 * cells + 0.5 - 63.5)
    np.testing.assert_allclose(flow[0][32, cells], expected, atol=0.12)
    np.testing.assert_allclose(flow[1][cells, 32], expected, atol=0.12)


def test_a_moved_mouth_moves_the_pixels_of_the_mouth() -> None:
    frame, face = gray(), a_face(1.6)
    frame[..., :] = np.clip(40 + np.arange(WIDTH)[:, None] * 0.6, 0, 255).astype(np.uint8)
    crop = align(frame, face, 128)
    side = crop.size * float(np.hypot(*crop.matrix[:, 0]))
    lips = face.landmarks[list(LIPS), :2].mean(axis=0)
    near = np.hypot(*(face.landmarks[:, :2] - lips).T) < 30
    shift = np.zeros((N_POINTS, 2), np.float32)
    shift[near, 0] = 6 / side
    plain = picture()
    out = Difference().apply(frame.copy(), plain, plain, plain, crop, shift, 0.0).astype(int)
    x, y = np.round(lips).astype(int)
    assert out[y, x, 0] - int(frame[y, x, 0]) == pytest.approx(-6 * 0.6, abs=1.2)
    # The middle of what has moved lies where the points have come to.
    where = face.landmarks[near, :2].mean(axis=0) + np.array((6, 0))
    assert centroid(out - frame) == pytest.approx(where, abs=2)


def test_a_head_is_not_drawn_into_the_squares_corners() -> None:
    frame, face = gray(), a_face()
    crop = align(frame, face, 64)
    out = Compositor("head", color_match=False).apply(frame, np.full((3, 96, 96), 1, np.float32), crop, face)
    for column in (0.12, 0.88):
        for row in (0.14, 0.86):
            x, y = np.round(crop.matrix @ (column * 64, row * 64, 1)).astype(int)
            assert out[y, x, 0] < 140, (column, row)


def test_what_is_kept_for_all_frames_cannot_be_written_to() -> None:
    for kept in (fade_of(0.1, 32), paste._soft_square(0.1, 32), paste._grid_index(64, 32)):
        with pytest.raises(ValueError, match="read-only"):
            kept[...] = 0
