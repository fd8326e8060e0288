"""The pixel kernels in plain NumPy: slow, and the definition of what the C++ kernels compute.

Crop and paste sample bilinearly through a similarity. Where that makes pixels smaller, a filter chosen by the
scale (source pixels per destination pixel) keeps aliasing away:

    up to 1.25    none: one bilinear sample per pixel
    1.25 .. 1.6   the mean of 2 x 2 bilinear samples inside each pixel
    from 1.6      boxes of round(scale) x round(scale) source pixels are averaged (edge pixels repeat), then
                  one bilinear sample of the averages

Outside a frame lies what BORDERS names: its mirror image (2 1 0 1 2 ...), its edge pixels again, or black.

Grids divide a square picture into equal cells, far fewer than its pixels; they are read bilinearly, the outer
half cells as their border's centers.

Integer coordinates are pixel centers. `threads` is taken for the signature's sake.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_BOX = 64
CELL: Final = 16  # px: side of what a watermark's strength is judged in
MOST_STRENGTH: Final = 240  # 64ths: products fit into 16 bits
GHOST: Final = 2  # px: what a shift this far would explain is no change of looks
STILL: Final = 1 / 64  # frame px: less movement is none
LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # RGB, of BT.601

Border = Literal["reflect", "repeat", "black"]
BORDERS: Final[tuple[Border, ...]] = ("reflect", "repeat", "black")


class FaceSearch(NamedTuple):
    """How long and how far `find_face` looks."""

    steps: int = 4  # of Gauss and Newton
    small: float = 0.01  # cells: a last step
    large: float = 0.08  # of the side, between two frames: no face moves so within its square
    unlike: float = 0.3  # 0..2: with such an error half of the face is hidden, or another one
    noise: float = 4.0  # neighbors err alike: so much less a cell tells
    # How far a face moves within its square from frame to frame: growth, turn, shift across and down in
    # shares of the side; then light and haze.
    expected: tuple[float, float, float, float, float, float] = (0.006, 0.006, 0.006, 0.006, 0.1, 0.1)


_Rule = Callable[[NDArray[np.int64], int], NDArray[np.int64]]


def warp_crop(
    image: NDArray[np.uint8],  # [H,W,3] BGR
    matrix: NDArray[np.float64],  # [2,3] crop pixels -> image pixels
    out: NDArray[np.float32],  # [3,S,S] RGB, -1..1, written
    threads: int = 1,
    border: Border = "reflect",
) -> None:
    """Cut out the square that `matrix` spans; `border` says what lies where it leaves the image."""
    size = _side(out.shape[1:], "out")
    _check_not_empty(image, "image")
    _check_matrix(matrix, size)

    box, taps = filter_for(_scale(matrix))
    source = image.astype(np.float64)
    if box > 1:
        source = _box_average(image, box)
    rule = _reflect if border == "reflect" else _clamp
    total = np.zeros((size, size, 3))
    for to_source in _taps(_onto_boxes(matrix, box), taps):
        x, y = _grid(to_source, np.arange(size), np.arange(size))
        if border == "black":
            # One black pixel all around, repeated beyond.
            total += _bilinear(np.pad(source, ((1, 1), (1, 1), (0, 0))), x + 1, y + 1, rule)
        else:
            total += _bilinear(source, x, y, rule)
    out[:] = (total[..., ::-1] / (127.5 * taps * taps) - 1).transpose(2, 0, 1)


def paste(
    frame: NDArray[np.uint8],  # [H,W,3] BGR, changed in place
    image: NDArray[np.float32],  # [3,R,R] RGB, nominally -1..1
    mask: NDArray[np.float32] | None,  # [R,R], 0..1; None: 1 everywhere
    matrix: NDArray[np.float64],  # [2,3] image pixels -> frame pixels
    gain: NDArray[np.float32],  # [3] RGB
    offset: NDArray[np.float32],  # [3] RGB, in the image's units
    threads: int = 1,
) -> None:
    """Blend `gain * image + offset` into `frame` through `mask`.

    Colors (clamped) and mask are rounded to 8 bits before they are sampled. Frame pixels on the image's edge
    are blended by how much of them it covers.
    """
    size = _side(image.shape[1:], "image")
    if mask is not None and mask.shape != image.shape[1:]:
        raise ValueError("mask must have the image's size")
    _check_not_empty(frame, "frame")
    _check_matrix(matrix, size)

    full = _inverse(matrix)
    scale = _scale(full)
    box, taps = filter_for(scale)

    # Color and mask as bytes, BGRA.
    packed = np.full((size, size, 4), 255, np.uint8)
    half = np.float32(127.5)
    colors = image.transpose(1, 2, 0) * (gain * half) + (offset * half + half)
    packed[..., :3] = _to_byte(colors)[..., ::-1]
    if mask is not None:
        packed[..., 3] = _to_byte(mask * np.float32(255))
    source = packed.astype(np.float64) if box == 1 else _box_average(packed, box)

    # Only where the square lies, with room for the covered edge.
    corners = np.array([(x, y) for x in (-1.0, size) for y in (-1.0, size)]) @ matrix[:, :2].T + matrix[:, 2]
    low = np.floor(corners.min(axis=0)).astype(int) - 2
    high = np.ceil(corners.max(axis=0)).astype(int) + 3
    x_begin, y_begin = np.clip(low, 0, [frame.shape[1], frame.shape[0]])
    x_end, y_end = np.clip(high, 0, [frame.shape[1], frame.shape[0]])
    if x_end <= x_begin or y_end <= y_begin:
        return
    columns, rows = np.arange(x_begin, x_end), np.arange(y_begin, y_end)

    total = np.zeros((len(rows), len(columns), 4))
    for to_source in _taps(_onto_boxes(full, box), taps):
        x, y = _grid(to_source, columns, rows)
        total += _bilinear(source, x, y, _clamp)
    total /= taps * taps

    u, v = _grid(full, columns, rows)
    inwards = np.minimum(np.minimum(u + 0.5, size - 0.5 - u), np.minimum(v + 0.5, size - 0.5 - v))
    alpha = total[..., 3:] / 255 * np.clip(inwards / scale + 0.5, 0, 1)[..., None]
    target = frame[y_begin:y_end, x_begin:x_end]
    target[:] = np.floor(target + (total[..., :3] - target) * alpha + 0.5).astype(np.uint8)


def stretch(
    frame: NDArray[np.uint8],  # [H,W,3], written
    small: NDArray[np.uint8],  # [h,w,3]
    threads: int = 1,
) -> None:
    """Enlarge `small` to the size of `frame`: along rows, then down, each in steps of 1/256 of a pixel."""
    _check_not_empty(frame, "frame")
    _check_not_empty(small, "small")
    left, right, share = _neighbors(frame.shape[1], small.shape[1])
    wide = (small[:, left] * (256 - share) + small[:, right] * share + 128) >> 8
    top, bottom, share = _neighbors(frame.shape[0], small.shape[0])
    frame[:] = (wide[top] * (256 - share[:, None]) + wide[bottom] * share[:, None] + 128) >> 8


def soft_region(
    out: NDArray[np.float32],  # [S,S], written, 0..1
    lines: NDArray[np.float32],  # [n,3] a, b, c: inside is where a * x + b * y <= c, (a, b) of length 1
    fade: NDArray[np.float32],  # [S] 0..1, a factor of each column and each row
    width: float,  # px, from a line to where the edge ends, on either side
    threads: int = 1,
) -> None:
    """Draw the convex region within all `lines`: 1 inside, 0 outside, a smooth ramp through 1/2 on each line.

    The ramp is what two box filters make of a straight edge.
    """
    size = _side(out.shape, "out")
    if len(lines) == 0:
        raise ValueError("lines must not be empty")
    if len(fade) != size:
        raise ValueError("fade must be as long as out")
    if not width > 0:
        raise ValueError("width must be above 0")
    position = np.arange(size)
    a, b, c = lines.astype(np.float64).T[:, :, None, None]
    inwards = (c - a * position - b * position[:, None]).min(axis=0)
    t = np.clip(inwards / width, -1, 1)
    out[:] = (0.5 + t - 0.5 * t * np.abs(t)) * np.outer(fade, fade)


def difference(
    change: NDArray[np.float32],  # [3,R,R], written
    amplitude: NDArray[np.float32],  # [n,n], written: the largest magnitude in each cell, of any channel
    plain: NDArray[np.float32],  # [3,R,R] RGB, nominally -1..1: the person as reconstructed
    moved: NDArray[np.float32],  # [3,R,R]: after the edits that move things
    edited: NDArray[np.float32],  # [3,R,R]: after all edits
    flow: NDArray[np.float32]
    | None,  # [2,n,n] x, y in px: how far what is shown here has come; None: nowhere
    inside: NDArray[np.float32] | None,  # [n,n] 0..1: where all that movement leaves is added (lids, mouth)
    rest: NDArray[np.float32] | None,  # [n,n] 0..1: where what no small shift explains is added
    threads: int = 1,
    means: NDArray[np.float32] | None = None,  # [6,n,n], written: of change, then of edited, in each cell
) -> None:
    """What the edit adds to a person's pixels once those have moved by `flow`.

    ``edited - moved``, and of ``moved - warped plain`` all of it `inside`, and as far as it leaves the range
    of the warped pixels up to GHOST away where `rest` says so. Pictures are clamped to -1..1 first. Without a
    flow `plain`, `inside` and `rest` are not read.
    """
    size, cells = _side(change.shape[1:], "change"), _side(amplitude.shape, "amplitude")
    _check_cells(size, cells)
    looks = np.clip(edited, -1, 1) - np.clip(moved, -1, 1)
    if flow is None or inside is None or rest is None:
        change[:] = looks
    else:
        x, y = _read_cells(flow, size)
        columns, rows = np.arange(size) - x, np.arange(size)[:, None] - y
        source = np.clip(plain, -1, 1).astype(np.float64).transpose(1, 2, 0)
        warped = _bilinear(source, columns, rows, _clamp).transpose(2, 0, 1)
        now = np.clip(moved, -1, 1)
        unexplained = now - np.clip(now, *_range_around(warped, GHOST))
        all_of_it, some_of_it = _read_cells(np.stack([inside, rest]), size)
        change[:] = looks + all_of_it * (now - warped) + some_of_it * unexplained
    block = size // cells
    if means is not None:
        if means.shape != (6, cells, cells):
            raise ValueError("means must be six maps with the cells of amplitude")
        cell_means(means[:3], change)
        cell_means(means[3:], edited)
    amplitude[:] = np.abs(change).max(axis=0).reshape(cells, block, cells, block).max(axis=(1, 3))


def lightened(
    out: NDArray[np.float32],  # [3,R,R], written
    moved: NDArray[np.float32],  # [3,R,R] RGB, nominally -1..1
    edited: NDArray[np.float32],  # [3,R,R]
    threads: int = 1,
) -> None:
    """`moved`, as light as `edited`, its own hues kept: their difference in luma is added to all channels.

    Pictures are clamped to -1..1 first.
    """
    _side(out.shape[1:], "out")
    if len(out) != 3:
        raise ValueError("pictures must have 3 channels")
    if not out.shape == moved.shape == edited.shape:
        raise ValueError("pictures must be of one size")
    before, after = np.clip(moved, -1, 1), np.clip(edited, -1, 1)
    out[:] = before + np.tensordot(LUMA, after - before, 1)


def fade_pixels(
    frame: NDArray[np.uint8],  # [H,W,3] BGR, changed in place
    share: NDArray[np.float32],  # [n,n] 0..1: how much of its own hue a pixel loses
    tint: NDArray[np.float32],  # [3,n,n] RGB: what is left in its place, times its luma
    matrix: NDArray[np.float64],  # [2,3] cells -> frame pixels
    threads: int = 1,
) -> None:
    """Take a share of each pixel's own hue away, where the cells lie: grey in the light's tint is left."""
    cells = _side(share.shape, "share")
    if tint.shape != (3, cells, cells):
        raise ValueError("tint must have the cells of share, for 3 channels")
    _check_not_empty(frame, "frame")
    _check_matrix(matrix, cells)
    columns, rows = np.arange(frame.shape[1]), np.arange(frame.shape[0])
    u, v = _grid(_inverse(matrix), columns, rows)
    inside = (np.abs(u + 0.5 - cells / 2) <= cells / 2) & (np.abs(v + 0.5 - cells / 2) <= cells / 2)
    grid = np.concatenate([tint[::-1] * share, share[None]]).astype(np.float64).transpose(1, 2, 0)
    by = _bilinear(grid, np.clip(u[inside], 0, cells - 1), np.clip(v[inside], 0, cells - 1), _clamp)
    pixels = frame[inside].astype(np.float64)
    luma = pixels @ LUMA[::-1]
    faded = np.floor(np.clip(pixels + luma[:, None] * by[:, :3] - pixels * by[:, 3:], 0, 255) + 0.5)
    frame[inside] = np.where(by[:, 3:] > 0, faded, pixels).astype(np.uint8)


def add_difference(
    frame: NDArray[np.uint8],  # [H,W,3] BGR, changed in place
    change: NDArray[np.float32],  # [3,R,R] RGB, in units of -1..1
    gain: NDArray[np.float32],  # [3,n,n] RGB: how much of it is added
    flow: NDArray[np.float32] | None,  # [2,n,n] x, y in px of the picture: how far the pixels move
    matrix: NDArray[np.float64],  # [2,3] picture pixels -> frame pixels
    threads: int = 1,
) -> None:
    """Move the frame's own pixels by `flow`, and add `gain * change` to them.

    Moved pixels are sampled by Catmull-Rom's cubic from the frame as it came, its edge pixels repeated. A
    pixel that moves less than STILL, and to which less than half a level is added, stays exactly as it was.
    """
    size, cells = _side(change.shape[1:], "change"), _side(gain.shape[1:], "gain")
    _check_not_empty(frame, "frame")
    _check_matrix(matrix, size)
    full = _inverse(matrix)
    box, taps = filter_for(_scale(full))

    # Only pixels whose centers lie on the picture.
    corners = np.array([(x, y) for x in (-0.5, size - 0.5) for y in (-0.5, size - 0.5)])
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    limit = np.array([frame.shape[1], frame.shape[0]])
    x_begin, y_begin = np.clip(np.ceil(corners.min(axis=0)).astype(int), 0, limit)
    x_end, y_end = np.clip(np.floor(corners.max(axis=0)).astype(int) + 1, 0, limit)
    if x_end <= x_begin or y_end <= y_begin:
        return
    columns, rows = np.arange(x_begin, x_end), np.arange(y_begin, y_end)
    u, v = _grid(full, columns, rows)
    covered = (np.abs(u + 0.5 - size / 2) <= size / 2) & (np.abs(v + 0.5 - size / 2) <= size / 2)

    source = change.astype(np.float64).transpose(1, 2, 0)
    if box > 1:
        source = _box_means(source, box)
    total = np.zeros((len(rows), len(columns), 3))
    for to_source in _taps(_onto_boxes(full, box), taps):
        total += _bilinear(source, *_grid(to_source, columns, rows), _clamp)
    cell_x, cell_y = (u + 0.5) * cells / size - 0.5, (v + 0.5) * cells / size - 0.5
    gains = _bilinear(gain.astype(np.float64).transpose(1, 2, 0), cell_x, cell_y, _clamp)
    total *= gains * covered[..., None] * (127.5 / (taps * taps))

    target = frame[y_begin:y_end, x_begin:x_end]
    base = target.astype(np.float64)
    if flow is not None:
        shift = _bilinear(flow.astype(np.float64).transpose(1, 2, 0), cell_x, cell_y, _clamp)
        shift = shift @ matrix[:, :2].T
        moving = covered & (np.abs(shift).max(axis=-1) >= STILL)
        down, across = np.nonzero(moving)
        dx, dy = shift[moving].T
        base[moving] = _bicubic(frame, columns[across] - dx, rows[down] - dy)
    target[:] = np.floor(np.clip(base + total[..., ::-1], 0, 255) + 0.5).astype(np.uint8)


def add_tile(
    frame: NDArray[np.uint8],  # [H,W,3], changed in place
    tile: NDArray[np.int8],  # [P,P], 32nds
    strengths: NDArray[np.uint8],  # [256], 64ths, up to 240: by activity, in quarters of a level
    threads: int = 1,
) -> None:
    """Add the tile, repeated from the frame's upper left corner, to all three channels, saturating.

    How strongly is looked up for each cell of CELL x CELL pixels (smaller ones at the right and lower edge),
    and read bilinearly between their centers in 32nds, for four rows together. A cell's activity is how much
    pixels differ from those at their right, plus from those below, on average, rounded down each, over every
    fourth row of the cell.
    """
    size = _side(tile.shape, "tile")
    _check_not_empty(frame, "frame")
    if strengths.shape != (256,) or strengths.max() > MOST_STRENGTH:
        raise ValueError(f"strengths must be 256, of {MOST_STRENGTH} or less")
    height, width = frame.shape[:2]
    cells = strengths[np.minimum(_activity(frame), 255)].astype(np.int64)
    first, second, share = _centers(height, cells.shape[0], together=4)
    centers = (cells[first] * (32 - share[:, None]) + cells[second] * share[:, None] + 16) >> 5
    first, second, share = _centers(width, cells.shape[1])
    strength = (centers[:, first] * (32 - share) + centers[:, second] * share + 16) >> 5
    repeated = tile[np.arange(height)[:, None] % size, np.arange(width) % size].astype(np.int64)
    added = (repeated * strength + 1024) >> 11
    frame[:] = np.clip(frame + added[..., None], 0, 255).astype(np.uint8)


def know_face(
    known: NDArray[np.float32],  # [k], written: what the cells show
    slopes: NDArray[np.float32],  # [6,k], written: what growth, turn, shifts, light and haze change of it
    picture: NDArray[np.float32],  # [n,n]
    cells: NDArray[np.int32],  # [k]: their numbers, row by row
    places: NDArray[np.float32],  # [2,k] x, y of them, in shares of the side from the middle
) -> None:
    """A face in one picture, ready to be found in the next. Slopes are those between a cell's neighbors."""
    size = _side(picture.shape, "picture")
    if not len(known) == slopes.shape[1] == places.shape[1] == len(cells):
        raise ValueError("known, slopes and places must be as long as cells")
    if len(cells) and not 0 <= cells.min() <= cells.max() < size * size:
        raise ValueError("cells must be those of the picture")
    flat, last, half = picture.ravel(), size * size - 1, np.float32(0.5 * size)
    across, down = (
        (flat[np.minimum(cells + step, last)] - flat[np.maximum(cells - step, 0)]) * half
        for step in (1, size)
    )
    x, y = places
    known[:] = flat[cells]
    slopes[:] = across * x + down * y, down * x - across * y, across, down, known, np.ones_like(x)


def find_face(
    picture: NDArray[np.float32],  # [n,n]
    places: NDArray[np.float32],  # [2,k] x, y of its cells before, in shares of the side from the middle
    known: NDArray[np.float32],  # [k]: what they showed
    slopes: NDArray[np.float32],  # [6,k]: what growth, turn, shifts across and down, light and haze change
    weight: NDArray[np.float32],  # [k]
    search: FaceSearch,
) -> tuple[complex, complex] | None:
    """The similarity z -> turn * z + shift of x + iy by which cells have moved; None where it cannot be told.

    The inverse compositional way (Baker and Matthews 2004), weighted by how well each cell agrees.
    """
    size, count = _side(picture.shape, "picture"), len(known)
    if size < 2:
        raise ValueError("picture must be 2 x 2 or larger")
    if count == 0:
        raise ValueError("known must not be empty")
    if not places.shape[1] == slopes.shape[1] == len(weight) == count:
        raise ValueError("places, slopes and weight must be as long as known")
    start = (places[0] + 1j * places[1]).astype(np.complex64)
    turn, shift, gain, haze = 1 + 0j, 0j, 1.0, 0.0
    for _ in range(search.steps):
        where = start * np.complex64(turn * size) + np.complex64((shift + (0.5 + 0.5j)) * size - (0.5 + 0.5j))
        error = read_at(picture, where) - (np.float32(gain) * known + np.float32(haze))
        usual = 1.5 * float(np.partition(np.abs(error), count // 2)[count // 2]) + 1e-3
        weighted = slopes * (weight / (1 + (error * np.float32(1 / usual)) ** 2))
        sure = search.noise * usual**2 / np.square(search.expected)
        so_far = np.array([turn.real - 1, turn.imag, shift.real, shift.imag, 0, 0])
        grow, spin, right, below, light, fog = np.linalg.solve(
            weighted @ slopes.T + np.diag(sure), weighted @ error + sure * so_far
        )
        turn /= complex(1 + grow, spin)
        shift -= turn * complex(right, below)
        gain, haze = gain + light, haze + fog
        if not abs(shift) + abs(turn - 1) / 3 < search.large or usual > search.unlike:
            return None
        if (math.hypot(right, below) + math.hypot(grow, spin) / 3) * size < search.small:
            break
    return complex(turn), complex(shift)


def cell_means(out: NDArray[np.float32], planes: NDArray[np.float32], threads: int = 1) -> None:
    """Means of blocks of [C,R,R] into `out` [C,cells,cells]."""
    cells, size = _side(out.shape[1:], "out"), _side(planes.shape[1:], "planes")
    if len(out) != len(planes) or size % cells:
        raise ValueError("out must have as many maps as planes, of a size that divides theirs")
    block = size // cells
    out[:] = planes.reshape(-1, cells, block, cells, block).mean(axis=(2, 4))


def read_cells(out: NDArray[np.float32], maps: NDArray[np.float32], turn: complex, shift: complex) -> None:
    """What lies where each cell of [C,n,n] comes to by z -> turn * z + shift, in shares from the middle."""
    size = _side(maps.shape[1:], "maps")
    if size < 2:
        raise ValueError("maps must be 2 x 2 or larger")
    if out.shape != maps.shape:
        raise ValueError("out must have the shape of maps")
    along = (np.arange(size) + 0.5) / size - 0.5
    where = (turn * (along + 1j * along[:, None]) + shift + (0.5 + 0.5j)) * size - (0.5 + 0.5j)
    out[:] = read_at(maps, where.ravel().astype(np.complex64)).reshape(maps.shape)


def spread(
    out: NDArray[np.float32],  # [2,n,n] x, y, written
    place: NDArray[np.float64],  # [k,2] x, y of points, in cells
    shift: NDArray[np.float64],  # [k,2]
    down: NDArray[np.float32],  # [b,n,n]: of each blur, what a row takes of each, times its strength
    across: NDArray[np.float32],  # [b,n,n]: what each column gives to others
    threads: int = 1,
) -> None:
    """The mean shift of points, each weighed by how near it lies, as a sum of blurs says.

    A point counts for the four cells around it, beyond the border for those at it.
    """
    cells = _side(out.shape[1:], "out")
    if len(out) != 2:
        raise ValueError("out must be x and y")
    if len(place) == 0:
        raise ValueError("place must not be empty")
    if len(shift) != len(place):
        raise ValueError("shift must be as long as place")
    if not down.shape == across.shape == (len(down), cells, cells):
        raise ValueError("down and across must be as many, of the cells of out")
    first = np.floor(place)
    x, y = (place - first).T
    corners = first.T[:, None] + np.array([[0, 1, 0, 1], [0, 0, 1, 1]])[..., None]
    column, row = np.minimum(np.maximum(corners, 0), cells - 1).astype(np.intp)
    weight = np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y])
    index = (row * cells + column).ravel()
    values = (weight * shift[:, 0], weight * shift[:, 1], weight)
    counted = np.stack([np.bincount(index, value.ravel(), cells * cells) for value in values])
    sums = np.asarray(counted.reshape(3, cells, cells), np.float32)
    total = np.zeros_like(sums)
    for rows, columns in zip(down, across, strict=True):
        total += rows @ sums @ columns
    out[:] = total[:2] / np.maximum(total[2], 1e-12)


def read_at(maps: NDArray[np.float32], where: NDArray[np.complex64]) -> NDArray[np.float32]:
    """[...,n,n] at x + iy [k], between its cells linearly, its edges going on: [...,k]."""
    size = maps.shape[-1]
    x, y = (np.minimum(np.maximum(part, 0), size - 1.001) for part in (where.real, where.imag))
    column, row = x.astype(np.intp), y.astype(np.intp)
    x, y = (x - column).astype(np.float32), (y - row).astype(np.float32)
    flat, first = maps.reshape(*maps.shape[:-2], -1), row * size + column
    upper, lower = flat.take(first, axis=-1), flat.take(first + size, axis=-1)
    upper += (flat.take(first + 1, axis=-1) - upper) * x
    lower += (flat.take(first + (size + 1), axis=-1) - lower) * x
    return np.asarray(upper + (lower - upper) * y, np.float32)


def _activity(frame: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[rows,columns] of cells, in quarters of a level."""
    height, width = frame.shape[:2]
    rows, columns = -(-height // CELL), -(-width // CELL)
    signed = frame.astype(np.int64)
    activity = np.zeros((rows, columns), np.int64)
    for apart in (np.abs(np.diff(signed, axis=1)), np.abs(np.diff(signed, axis=0))):
        sums, counts = np.zeros((2, rows, columns), np.int64)
        sampled = apart[::4].sum(axis=2)
        y, x = np.arange(len(sampled)) * 4 // CELL, np.arange(sampled.shape[1]) // CELL
        np.add.at(sums, (y[:, None], x), sampled)
        np.add.at(counts, (y[:, None], x), 3)
        activity += 4 * sums // np.maximum(counts, 1)
    return activity


def _centers(
    length: int, cells: int, together: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For every pixel of a row: the cells whose centers are before and behind it, and 32nds of the second."""
    pixels = np.arange(length)
    place = pixels - pixels % together + CELL // 2
    before = place // CELL - 1
    return np.maximum(before, 0), np.minimum(before + 1, cells - 1), 2 * (place % CELL) + together


def _neighbors(
    length: int,
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of each of `length` pixels: its neighbors among `count`, the second one's share [length,1] * 256."""
    place = (2 * np.arange(length) + 1) * count * 128 // length - 128
    place = np.clip(place, 0, (count - 1) * 256)
    first = place >> 8
    return first, np.minimum(first + 1, count - 1), (place & 255)[:, None]


def filter_for(scale: float) -> tuple[int, int]:
    """The (box, taps) of the table above."""
    if scale <= 1.25:
        return 1, 1
    if scale < 1.6:
        return 1, 2
    return min(math.floor(scale + 0.5), MAX_BOX), 1


def matrix_problem(matrix: NDArray[np.float64], size: int) -> str | None:
    """What makes `matrix` unusable for a square of `size` pixels, if anything does."""
    if not np.isfinite(matrix).all():
        return "matrix must be finite"
    if _scale(matrix) < 1e-6:
        return "matrix must be invertible, with a scale of at least 1e-6"
    along, across = float((matrix[:, 0] ** 2).sum()), float((matrix[:, 1] ** 2).sum())
    if max(abs(along - across), 2 * abs(float(matrix[:, 0] @ matrix[:, 1]))) > 0.01 * (along + across):
        return "matrix must be a similarity (rotation, uniform scale, shift)"
    corners = np.array([(x, y) for x in (-1.0, size) for y in (-1.0, size)])
    if np.abs(corners @ matrix[:, :2].T + matrix[:, 2]).max() > 2**24:
        return "matrix must keep coordinates within 2**24 pixels"
    return None


def _side(shape: tuple[int, ...], name: str) -> int:
    if shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"{name} must be square and not empty")
    return shape[0]


def _check_not_empty(image: NDArray[np.uint8], name: str) -> None:
    if image.size == 0:
        raise ValueError(f"{name} must not be empty")


def _check_matrix(matrix: NDArray[np.float64], size: int) -> None:
    problem = matrix_problem(matrix, size)
    if problem is not None:
        raise ValueError(problem)


def _scale(matrix: NDArray[np.float64]) -> float:
    return math.sqrt(abs(float(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])))


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    inverse = np.linalg.inv(matrix[:, :2])
    return np.column_stack([inverse, -inverse @ matrix[:, 2]])


def _onto_boxes(matrix: NDArray[np.float64], box: int) -> NDArray[np.float64]:
    """The same map, onto the grid of box x box averages."""
    moved = matrix / box
    moved[:, 2] -= 0.5 * (box - 1) / box
    return moved


def _taps(matrix: NDArray[np.float64], taps: int) -> list[NDArray[np.float64]]:
    """`matrix` shifted to each point of a taps x taps grid inside a destination pixel."""
    shifts = (np.arange(taps) + 0.5) / taps - 0.5
    return [np.column_stack([matrix[:, :2], matrix @ (dx, dy, 1.0)]) for dy in shifts for dx in shifts]


def _grid(
    matrix: NDArray[np.float64],
    columns: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = matrix[0, 0] * columns + (matrix[0, 1] * rows + matrix[0, 2])[:, None]
    y = matrix[1, 0] * columns + (matrix[1, 1] * rows + matrix[1, 2])[:, None]
    return x, y


def _box_average(image: NDArray[np.uint8], box: int) -> NDArray[np.float64]:
    """Means of box x box pixels, rounded to integers; edge pixels repeat to fill the last boxes."""
    height, width, channels = image.shape
    padded = np.pad(image, ((0, -height % box), (0, -width % box), (0, 0)), mode="edge").astype(np.int64)
    rows, columns = padded.shape[0] // box, padded.shape[1] // box
    boxes = padded.reshape(rows, box, columns, box, channels).sum(axis=(1, 3))
    means: NDArray[np.float64] = ((boxes + box * box // 2) // (box * box)).astype(np.float64)
    return means


def _reflect(index: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    if count == 1:
        return np.zeros_like(index)
    index = index % (2 * (count - 1))
    return np.where(index < count, index, 2 * (count - 1) - index)


def _clamp(index: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.clip(index, 0, count - 1)


def _bilinear(
    source: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    border: _Rule,
) -> NDArray[np.float64]:
    left, top = np.floor(x), np.floor(y)
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    x0, y0 = left.astype(np.int64), top.astype(np.int64)
    x1, y1 = border(x0 + 1, source.shape[1]), border(y0 + 1, source.shape[0])
    x0, y0 = border(x0, source.shape[1]), border(y0, source.shape[0])
    above = source[y0, x0] + (source[y0, x1] - source[y0, x0]) * fx
    below = source[y1, x0] + (source[y1, x1] - source[y1, x0]) * fx
    result: NDArray[np.float64] = above + (below - above) * fy
    return result


def _check_cells(size: int, cells: int) -> None:
    if size % cells:
        raise ValueError("cells must divide the picture evenly")


def _read_cells(grids: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """[C,n,n] -> [C,size,size]: grids read at the pixels of their picture."""
    place = (np.arange(size) + 0.5) * grids.shape[1] / size - 0.5
    x, y = np.broadcast_to(place, (size, size)), np.broadcast_to(place[:, None], (size, size))
    read = _bilinear(grids.astype(np.float64).transpose(1, 2, 0), x, y, _clamp)
    return np.ascontiguousarray(read.transpose(2, 0, 1))


def _range_around(
    planes: NDArray[np.float64],
    reach: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest value within `reach` pixels along both axes."""
    low = high = planes
    for axis in (1, 2):
        pad = [(0, 0), (0, 0), (0, 0)]
        pad[axis] = (reach, reach)
        lows, highs = np.pad(low, pad, mode="edge"), np.pad(high, pad, mode="edge")
        size = planes.shape[axis]
        views = [(slice(None),) * axis + (slice(i, i + size),) for i in range(2 * reach + 1)]
        low = np.minimum.reduce([lows[view] for view in views])
        high = np.maximum.reduce([highs[view] for view in views])
    return low, high


def _box_means(image: NDArray[np.float64], box: int) -> NDArray[np.float64]:
    """Means of box x box pixels; edge pixels repeat to fill the last boxes."""
    padded = np.pad(image, ((0, -image.shape[0] % box), (0, -image.shape[1] % box), (0, 0)), mode="edge")
    rows, columns = padded.shape[0] // box, padded.shape[1] // box
    means: NDArray[np.float64] = padded.reshape(rows, box, columns, box, -1).mean(axis=(1, 3))
    return means


def _bicubic(
    image: NDArray[np.uint8],  # [H,W,3]
    x: NDArray[np.float64],  # [k]
    y: NDArray[np.float64],
) -> NDArray[np.float64]:
    """[k,3]: Catmull-Rom samples; edge pixels repeat."""
    left, top = np.floor(x), np.floor(y)
    across, down = _catmull_rom(x - left), _catmull_rom(y - top)
    total = np.zeros((len(x), 3))
    for j in range(4):
        row = _clamp(top.astype(np.int64) + (j - 1), image.shape[0])
        for i in range(4):
            column = _clamp(left.astype(np.int64) + (i - 1), image.shape[1])
            total += (down[j] * across[i])[:, None] * image[row, column]
    return total


def _catmull_rom(t: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Weights of the four neighbors at -1, 0, 1, 2 of a place t in 0..1."""
    return (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )


def _to_byte(value: NDArray[np.float32]) -> NDArray[np.uint8]:
    clamped = np.clip(np.where(np.isnan(value), 0, value), 0, 255)
    return (clamped + np.float32(0.5)).astype(np.uint8)
