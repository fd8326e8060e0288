"""What the kernels of the difference compute, on pictures whose result is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from doppelgan.runtime import native
from numpy.typing import NDArray

from .kernels import IMPLEMENTATIONS, kernel, needs_native, noise

SIZE, CELLS = 32, 8
IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def pictures(rng: np.random.Generator, count: int) -> list[NDArray[np.float32]]:
    return [rng.uniform(-1, 1, (3, SIZE, SIZE)).astype(np.float32) for _ in range(count)]


def grid(value: float, *leading: int) -> NDArray[np.float32]:
    return np.full((*leading, CELLS, CELLS), value, np.float32)


def outputs() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.full((3, SIZE, SIZE), 7, np.float32), np.full((CELLS, CELLS), 7, np.float32)


def steady_flow(x: float, y: float) -> NDArray[np.float32]:
    return np.stack([grid(x), grid(y)])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_without_movement_it_is_edited_minus_moved(implementation: str) -> None:
    plain, moved, edited = pictures(np.random.default_rng(0), 3)
    edited[:, 3, 5] = (4.0, -4.0, 0.0)  # beyond white and black: not so bright that it could be added
    change, amplitude = outputs()
    kernel(implementation, "difference")(change, amplitude, plain, moved, edited, None, None, None)
    np.testing.assert_allclose(change, np.clip(edited, -1, 1) - moved, atol=1e-6)
    blocks = np.abs(change).max(axis=0).reshape(CELLS, SIZE // CELLS, CELLS, SIZE // CELLS)
    np.testing.assert_allclose(amplitude, blocks.max(axis=(1, 3)), atol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("moving", [False, True])
def test_means_are_those_of_the_change_and_of_the_edited_picture(implementation: str, moving: bool) -> None:
    plain, moved, edited = pictures(np.random.default_rng(7), 3)
    edited[:, 3, 5] = 4.0  # as it is
    change, amplitude = outputs()
    means = grid(7, 6)
    flow = (steady_flow(2, 1), grid(0.5), grid(0.5)) if moving else (None, None, None)
    run = kernel(implementation, "difference")
    run(change, amplitude, plain, moved, edited, *flow, 1, means)
    without = outputs()
    run(*without, plain, moved, edited, *flow)
    np.testing.assert_array_equal(change, without[0])
    np.testing.assert_array_equal(amplitude, without[1])
    blocks = np.concatenate([change, edited]).reshape(6, CELLS, SIZE // CELLS, CELLS, SIZE // CELLS)
    np.testing.assert_allclose(means, blocks.mean(axis=(2, 4)), atol=1e-6)
    for wrong in (grid(7, 5), means[:, :4, :4].copy()):
        with pytest.raises((TypeError, ValueError), match="means"):
            run(change, amplitude, plain, moved, edited, *flow, 1, wrong)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_what_movement_explains_leaves_nothing(implementation: str) -> None:
    (plain,) = pictures(np.random.default_rng(1), 1)
    moved = np.roll(plain, (2, 3), axis=(1, 2))  # down by 2, right by 3
    change, amplitude = outputs()
    flow = steady_flow(3, 2)
    kernel(implementation, "difference")(change, amplitude, plain, moved, moved, flow, grid(1), grid(0))
    np.testing.assert_allclose(change[:, 4:, 4:], 0, atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_all_that_is_left_counts_inside_and_ghosts_count_nowhere(implementation: str) -> None:
    plain = np.zeros((3, SIZE, SIZE), np.float32)
    plain[:, :, 16:] = 0.8  # an edge
    moved = np.roll(plain, 1, axis=2)
    moved[:, :, 0] = 0
    moved[0, 6:10, 4:8] = 0.5  # something new
    flow = steady_flow(0, 0)
    change, amplitude = outputs()
    run = kernel(implementation, "difference")
    run(change, amplitude, plain, moved, moved, flow, grid(1), grid(0))
    np.testing.assert_allclose(change, moved - plain, atol=1e-6)
    run(change, amplitude, plain, moved, moved, flow, grid(0), grid(1))
    np.testing.assert_allclose(change[:, :, 14:20], 0, atol=1e-6)  # the edge moved by less than GHOST
    np.testing.assert_allclose(change[0, 6:10, 4:8], 0.5, atol=1e-6)
    run(change, amplitude, plain, moved, moved, flow, grid(0), grid(0))
    assert not change.any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_frame_to_which_nothing_is_added_stays_to_the_bit(implementation: str) -> None:
    given = noise(np.random.default_rng(2), 40, 50, 3)
    frame = given.copy()
    change = np.zeros((3, SIZE, SIZE), np.float32)
    run = kernel(implementation, "add_difference")
    turned = np.array([[0.9, -0.4, 8.0], [0.4, 0.9, 2.0]])
    run(frame, change, grid(1, 3), steady_flow(0, 0), turned)
    np.testing.assert_array_equal(frame, given)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gain_times_change_is_added_in_levels_where_the_picture_lies(implementation: str) -> None:
    frame = np.full((40, 50, 3), 100, np.uint8)
    change = np.zeros((3, SIZE, SIZE), np.float32)
    change[0] = 0.2  # red: 25.5 levels
    gain = grid(0.5, 3)
    shifted = np.array([[1.0, 0.0, 4.0], [0.0, 1.0, 3.0]])
    kernel(implementation, "add_difference")(frame, change, gain, None, shifted)
    expected = np.full((40, 50, 3), 100, np.uint8)
    expected[3 : 3 + SIZE, 4 : 4 + SIZE, 2] = 113
    np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_levels_end_at_black_and_white(implementation: str) -> None:
    frame = np.full((40, 50, 3), 100, np.uint8)
    change = np.full((3, SIZE, SIZE), 2.0, np.float32)
    change[1] = -2
    kernel(implementation, "add_difference")(frame, change, grid(1, 3), None, IDENTITY)
    assert frame[10, 10].tolist() == [255, 0, 255]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_pixels_move_by_the_flow_turned_into_the_frame(implementation: str) -> None:
    given = noise(np.random.default_rng(3), 40, 50, 3)
    frame = given.copy()
    change = np.zeros((3, SIZE, SIZE), np.float32)
    quarter = np.array([[0.0, -1.0, SIZE + 1.0], [1.0, 0.0, 2.0]])  # x of the picture runs down the frame
    kernel(implementation, "add_difference")(frame, change, grid(1, 3), steady_flow(3, 0), quarter)
    np.testing.assert_array_equal(frame[5 : 2 + SIZE, 2 : 2 + SIZE], given[2 : SIZE - 1, 2 : 2 + SIZE])
    np.testing.assert_array_equal(frame[:2], given[:2])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_half_pixels_are_interpolated_by_a_cubic(implementation: str) -> None:
    frame = np.zeros((40, 50, 3), np.uint8)
    frame[:, 20:] = 160
    change = np.zeros((3, SIZE, SIZE), np.float32)
    kernel(implementation, "add_difference")(frame, change, grid(1, 3), steady_flow(0.5, 0), IDENTITY)
    # Catmull-Rom half-way: -1/16, 9/16, 9/16, -1/16, clamped at black and here above white's neighbor.
    assert frame[10, 18:23, 0].tolist() == [0, 0, 80, 170, 160]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("scale", [0.3, 0.7, 1.0, 2.5])
def test_a_smooth_change_is_the_same_at_every_scale(implementation: str, scale: float) -> None:
    ramp = np.linspace(-0.5, 0.5, SIZE, dtype=np.float32)
    change = np.ascontiguousarray(np.broadcast_to(ramp, (3, SIZE, SIZE)))
    frame = np.full((100, 120, 3), 128, np.uint8)
    matrix = np.array([[scale, 0, 10.0], [0, scale, 12.0]])
    kernel(implementation, "add_difference")(frame, change, grid(1, 3), None, matrix)
    row = frame[12 + round(scale * SIZE / 2), :, 0].astype(float)
    u = (np.arange(120) - 10.0) / scale
    inner = (u > 3) & (u < SIZE - 4)
    expected = 128 + 127.5 * ((u / (SIZE - 1)) - 0.5)
    np.testing.assert_allclose(row[inner], expected[inner], atol=1.5)


MATRICES = {
    "smaller by boxes": [[0.37, 0.0, 3.0], [0.0, 0.37, 3.0]],
    "smaller by taps": [[0.5, 0.5, 9.0], [-0.5, 0.5, 25.0]],
    "turned, over the edge": [[0.9, -0.5, 9.0], [0.5, 0.9, -4.0]],
    "larger, over two edges": [[1.9, 0.0, -5.0], [0.0, 1.9, -5.0]],
    "mirrored": [[-1.0, 0.0, 40.0], [0.0, 1.0, 2.0]],
    "all around the frame": [[9.0, 1.0, -100.0], [-1.0, 9.0, -90.0]],
    "beside the frame": [[1.0, 0.0, 300.0], [0.0, 1.0, 3.0]],
}


@needs_native
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (60, 70), (257, 301)])
@pytest.mark.parametrize("name", MATRICES)
def test_compiled_addition_agrees_with_its_definition(name: str, size: tuple[int, int], threads: int) -> None:
    rng, matrix = np.random.default_rng(4), np.array(MATRICES[name], np.float64)
    (change,) = pictures(rng, 1)
    gain = rng.uniform(0, 1.5, (3, CELLS, CELLS)).astype(np.float32)
    gain[:, :3] = 0  # some cells change nothing
    flow = rng.uniform(-3, 3, (2, CELLS, CELLS)).astype(np.float32)
    flow[:, :, 5:] = 0  # and some do not move
    for moves in (flow, None, 40 * flow, flow / 1000):
        frames = []
        for implementation in ("numpy", "native"):
            frames.append(noise(np.random.default_rng(5), *size, 3))
            kernel(implementation, "add_difference")(frames[-1], change, gain, moves, matrix, threads)
        apart = np.abs(frames[0].astype(int) - frames[1])
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.01


@needs_native
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cells", [1, 4, 32])
def test_compiled_difference_agrees_with_its_definition(cells: int, threads: int) -> None:
    rng = np.random.default_rng(4)
    plain, moved, edited = pictures(rng, 3)
    flow = rng.uniform(-3, 3, (2, cells, cells)).astype(np.float32)
    inside, rest = (
        rng.uniform(0, 1, (2, cells, cells)) * (rng.uniform(size=(2, cells, cells)) < 0.2)
    ).astype(np.float32)
    nothing = np.zeros_like(rest)
    for movement in (
        (flow, inside, rest),
        (50 * flow, inside, nothing),
        (flow, nothing, rest),
        (flow, nothing, nothing),
        (None, None, None),
    ):
        results = []
        for implementation in ("numpy", "native"):
            change, amplitude = (
                np.full((3, SIZE, SIZE), 7, np.float32),
                np.full((cells, cells), 7, np.float32),
            )
            kernel(implementation, "difference")(
                change, amplitude, plain, moved, edited, *movement, threads=threads
            )
            results.append((change, amplitude))
        np.testing.assert_allclose(results[1][0], results[0][0], atol=1e-5)
        np.testing.assert_allclose(results[1][1], results[0][1], atol=1e-5)


@needs_native
@pytest.mark.parametrize("far", [0.0, 1.5, 9.0, 200.0])
@pytest.mark.parametrize("row", [0, 3, 7])
def test_where_one_row_of_cells_is_left_over_its_sources_are_all_read(row: int, far: float) -> None:
    """The compiled kernel prepares no other rows, and skips what no edit of looks changes."""
    rng = np.random.default_rng(9)
    plain, moved = pictures(rng, 2)
    flow = np.stack([grid(0), rng.choice([-far, far], (CELLS, CELLS)).astype(np.float32)])
    inside, rest = grid(0), grid(0)
    inside[row, 2:5], rest[row, 4:6] = 0.7, 0.4
    # What another picture has left in the kernel's memory.
    other, change, amplitude = pictures(rng, 1)[0], *outputs()
    native.difference(change, amplitude, other, moved, moved, flow, grid(1), grid(1))
    results = []
    for implementation in ("numpy", "native"):
        results.append(outputs())
        kernel(implementation, "difference")(*results[-1], plain, moved, moved, flow, inside, rest)
    assert results[0][0].any()
    np.testing.assert_allclose(results[1][0], results[0][0], atol=1e-5)
    np.testing.assert_allclose(results[1][1], results[0][1], atol=1e-5)


@needs_native
def test_places_that_are_no_numbers_read_some_pixel() -> None:
    rng = np.random.default_rng(10)
    plain, moved = pictures(rng, 2)
    flow = np.full((2, CELLS, CELLS), np.nan, np.float32)
    change, amplitude = outputs()
    native.difference(change, amplitude, plain, moved, moved, flow, grid(1), grid(0))
    np.testing.assert_allclose(change, moved - plain[:, :1, :1], atol=1e-6)
    frame = noise(rng, 40, 50, 3)
    given = frame.copy()
    native.add_difference(frame, np.zeros_like(change), grid(1, 3), flow, IDENTITY)
    np.testing.assert_array_equal(frame, given)


@needs_native
def test_any_number_of_threads_gives_the_same() -> None:
    """Large enough for several bands."""
    rng = np.random.default_rng(6)
    change = rng.uniform(-1, 1, (3, 256, 256)).astype(np.float32)
    gain, flow = np.ones((3, 32, 32), np.float32), rng.uniform(-3, 3, (2, 32, 32)).astype(np.float32)
    frames = [noise(np.random.default_rng(5), 400, 500, 3) for _ in range(3)]
    for threads, frame in zip((1, 2, 5), frames, strict=True):
        native.add_difference(
            frame, change, gain, flow, np.array([[1.4, 0.2, 9.0], [-0.2, 1.4, 60.0]]), threads
        )
    np.testing.assert_array_equal(frames[1], frames[0])
    np.testing.assert_array_equal(frames[2], frames[0])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"plain": np.zeros((3, 16, 16), np.float32)}, "plain"),
        ({"edited": np.zeros((3, SIZE, SIZE))}, "edited"),
        ({"flow": np.zeros((2, 4, 4), np.float32)}, "flow"),
        ({"amplitude": np.zeros((CELLS, CELLS), np.float64)}, "amplitude"),
    ],
)
def test_other_arrays_are_refused_by_name(changed: dict[str, Any], words: str) -> None:
    plain, moved, edited = pictures(np.random.default_rng(6), 3)
    change, amplitude = outputs()
    given = {
        "change": change,
        "amplitude": amplitude,
        "plain": plain,
        "moved": moved,
        "edited": edited,
        "flow": steady_flow(1, 1),
        "inside": grid(1),
        "rest": grid(1),
    }
    with pytest.raises(TypeError, match=words):
        native.difference(**(given | changed))


def test_a_flow_comes_with_its_weights() -> None:
    plain, moved, edited = pictures(np.random.default_rng(7), 3)
    change, amplitude = outputs()
    with pytest.raises(ValueError, match="together"):
        native.difference(change, amplitude, plain, moved, edited, steady_flow(1, 1))


def test_cells_divide_the_picture() -> None:
    plain, moved, edited = pictures(np.random.default_rng(8), 3)
    change, _ = outputs()
    with pytest.raises(ValueError, match="evenly"):
        native.difference(change, np.zeros((7, 7), np.float32), plain, moved, edited)


@needs_native
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.7], ids=["picture finer", "alike", "frame finer"])
@pytest.mark.parametrize(
    "place", [(0, 2, 0, 3), (3, 5, 2, 4), (6, 8, 5, 8)], ids=["corner", "middle", "far corner"]
)
def test_where_only_some_cells_change_the_rest_is_left_out(
    place: tuple[int, int, int, int], scale: float
) -> None:
    """The twin looks at the whole picture, the kernel at its active cells."""
    rng = np.random.default_rng(8)
    given = noise(rng, 90, 110, 3)
    (change,) = pictures(rng, 1)
    rows, columns = slice(*place[:2]), slice(*place[2:])
    gain, moving = grid(0, 3), grid(0, 2)
    gain[:, rows, columns] = rng.uniform(0.5, 1, gain[:, rows, columns].shape)
    moving[:, columns, rows] = rng.uniform(-3, 3, moving[:, columns, rows].shape)
    turned = np.array([[0.95 * scale, -0.3 * scale, 30.0], [0.3 * scale, 0.95 * scale, 5.0]])
    for flow in (None, moving):
        expected, got = given.copy(), given.copy()
        native.reference.add_difference(expected, change, gain, flow, turned)
        native.add_difference(got, change, gain, flow, turned, 2)
        assert (expected != given).any()
        off = np.abs(got.astype(int) - expected)
        assert off.max() <= 1
        assert (off > 0).mean() < 0.01


BROWN, BLUISH = np.array([0.1, -0.1, -0.3], np.float32), np.array([0.28, 0.3, 0.36], np.float32)
LUMA = native.reference.LUMA


def flat_picture(color: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.broadcast_to(color[:, None, None], (3, SIZE, SIZE)), np.float32)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestFadingHues:
    @pytest.fixture(autouse=True)
    def _only(self, implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if implementation == "numpy":
            monkeypatch.setattr(native.loading, "kernels", None)

    def test_light_is_added_and_hues_are_kept(self) -> None:
        lighter = native.lightened(flat_picture(BROWN), flat_picture(BLUISH))
        np.testing.assert_allclose(lighter[:, 3, 4], BROWN + LUMA @ (BLUISH - BROWN), atol=1e-5)
        moved, edited = (one * 1.3 for one in pictures(np.random.default_rng(4), 2))
        expected = np.empty_like(moved)
        native.reference.lightened(expected, moved, edited)
        for threads in (1, 3):
            np.testing.assert_allclose(native.lightened(moved, edited, threads), expected, atol=2e-6)

    def test_pixels_lose_as_much_of_their_own_hue_as_is_said(self) -> None:
        frame = np.random.default_rng(5).integers(0, 256, (40, 48, 3)).astype(np.uint8)
        luma = frame.astype(np.float64) @ LUMA[::-1]
        for share in (1.0, 0.5):
            faded = frame.copy()
            native.fade_pixels(faded, grid(share), grid(1, 3), np.array([[5.0, 0, 4], [0, 5, 0]]))
            inside = faded[:37, 2:41]  # from half a cell before the first to half a cell after the last
            wanted = (1 - share) * frame + share * luma[..., None]
            np.testing.assert_allclose(inside, wanted[:37, 2:41], atol=0.51)
            np.testing.assert_array_equal(faded[:, 42:], frame[:, 42:])
            np.testing.assert_array_equal(faded[38:], frame[38:])

    def test_what_is_left_has_the_lights_tint_and_where_nothing_fades_nothing_changes(self) -> None:
        frame = np.full((32, 32, 3), (200, 100, 40), np.uint8)
        share = grid(0)
        share[:, 4:] = 1
        tint = np.ones((3, CELLS, CELLS), np.float32) * np.array([1.2, 1.0, 0.5], np.float32)[:, None, None]
        native.fade_pixels(frame, share, tint, np.array([[4.0, 0, 1.5], [0, 4, 1.5]]))
        np.testing.assert_array_equal(frame[:, :13], np.broadcast_to((200, 100, 40), (32, 13, 3)))
        luma = 0.114 * 200 + 0.587 * 100 + 0.299 * 40
        np.testing.assert_allclose(frame[10, 24], luma * np.array([0.5, 1.0, 1.2]), atol=0.51)

    def test_both_ways_agree_wherever_the_cells_lie(self) -> None:
        rng = np.random.default_rng(6)
        for angle, scale, x, y in (
            (0.3, 4.1, 9, 3),
            (-1.2, 2.5, -8, 25),
            (2.9, 7.0, 60, 40),
            (0.0, 3.0, 500, 0),
        ):
            turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            matrix = np.concatenate([turn, [[x], [y]]], axis=1)
            frame = rng.integers(0, 256, (50, 61, 3)).astype(np.uint8)
            share = np.maximum(rng.uniform(-1, 1, (CELLS, CELLS)), 0).astype(np.float32)
            tint = rng.uniform(0.5, 1.5, (3, CELLS, CELLS)).astype(np.float32)
            expected, threaded = frame.copy(), frame.copy()
            native.reference.fade_pixels(expected, share, tint, matrix)
            native.fade_pixels(frame, share, tint, matrix)
            assert np.abs(frame.astype(int) - expected).max() <= 1
            native.fade_pixels(threaded, share, tint, matrix, 3)
            assert np.abs(threaded.astype(int) - expected).max() <= 1

    def test_refuses_what_does_not_fit(self) -> None:
        moved, edited = pictures(np.random.default_rng(5), 2)
        frame, square = np.zeros((9, 9, 3), np.uint8), np.array([[1.0, 0, 0], [0, 1, 0]])
        with pytest.raises(ValueError, match="of one size"):
            native.lightened(moved, edited[:, :8, :8].copy())
        with pytest.raises(ValueError, match="3 channels"):
            native.lightened(moved[:2].copy(), edited[:2].copy())
        with pytest.raises(TypeError, match="edited"):
            native.lightened(moved, edited.astype(np.float64))
        with pytest.raises(ValueError, match="cells of share"):
            native.fade_pixels(frame, grid(1), np.ones((3, 4, 4), np.float32), square)
        with pytest.raises(ValueError, match="matrix"):
            native.fade_pixels(frame, grid(1), grid(1, 3), np.zeros((2, 3)))
        with pytest.raises(TypeError, match="share"):
            native.fade_pixels(frame, grid(1).astype(np.float64), grid(1, 3), square)
        frame.flags.writeable = False
        with pytest.raises(TypeError, match="read-only"):
            native.fade_pixels(frame, grid(1), grid(1, 3), square)
