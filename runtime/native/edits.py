"""Edits as differences: what they add, what they move, which hues they take away."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import loading, reference
from .contracts import check, check_writable


def difference(
    change: NDArray[np.float32],
    amplitude: NDArray[np.float32],
    plain: NDArray[np.float32],
    moved: NDArray[np.float32],
    edited: NDArray[np.float32],
    flow: NDArray[np.float32] | None = None,
    inside: NDArray[np.float32] | None = None,
    rest: NDArray[np.float32] | None = None,
    threads: int = 1,
    means: NDArray[np.float32] | None = None,
) -> None:
    """What an edit adds to a person's pixels once those have moved by `flow`.

    change     RGB float32 [3,R,R], written, in units of -1..1
    amplitude  float32 [n,n], written: the largest magnitude of `change` in each cell; n divides R
    plain      RGB float32 [3,R,R], nominally -1..1: the person as reconstructed
    moved      the same after the edits that move things
    edited     the same after all edits
    flow       float32 [2,n,n] x, y in pixels: how far what is shown here has come; None: nothing moves
    inside     float32 [n,n], 0..1: where all that movement leaves over is added; with a flow
    rest       float32 [n,n], 0..1: where what no small shift explains is added; with a flow
    means      float32 [6,n,n], written where given: means of `change`, then of `edited`, in each cell

    Raises and threads as `warp_crop`; ValueError where only some of flow, inside and rest are given.
    """
    if len({flow is None, inside is None, rest is None}) > 1:
        raise ValueError("expected flow, inside and rest together, or none of them")
    _check_difference(change, amplitude, plain, moved, edited, flow, inside, rest)
    if means is not None:
        check(("means", means, "f4", (6, None, None)))
        check_writable("means", means)
    kernel = reference.difference if loading.kernels is None else loading.kernels.difference
    kernel(change, amplitude, plain, moved, edited, flow, inside, rest, threads, means)


def add_difference(
    frame: NDArray[np.uint8],
    change: NDArray[np.float32],
    gain: NDArray[np.float32],
    flow: NDArray[np.float32] | None,
    matrix: NDArray[np.float64],
    threads: int = 1,
) -> None:
    """Move the frame's own pixels by `flow` and add `gain * change` to them, in place and only where it lies.

    frame   BGR uint8 [H,W,3], changed
    change  RGB float32 [3,R,R], in units of -1..1
    gain    float32 [3,n,n] RGB: how much of it is added
    flow    float32 [2,n,n] x, y in pixels of the picture, or None: nothing moves
    matrix  float64 [2,3], a similarity: picture pixels -> frame pixels

    What neither moves nor changes stays as it was, to the bit. Raises and threads as `warp_crop`.
    """
    _check_add_difference(frame, change, gain, flow, matrix)
    if loading.kernels is None:
        reference.add_difference(frame, change, gain, flow, matrix, threads)
    else:
        loading.kernels.add_difference(frame, change, gain, flow, matrix, threads)


def lightened(
    moved: NDArray[np.float32], edited: NDArray[np.float32], threads: int = 1
) -> NDArray[np.float32]:
    """`moved`, as light as `edited`, its own hues kept: new RGB float32 [3,R,R], -1..1 as both are.

    Raises and threads as `warp_crop`.
    """
    maps = (None, None, None)
    given = ("moved", moved, "f4", maps), ("edited", edited, "f4", maps)
    out = np.empty_like(moved)
    loading.serve("lightened", lambda: check(*given), out, moved, edited, threads)
    return out


def fade_pixels(
    frame: NDArray[np.uint8],
    share: NDArray[np.float32],
    tint: NDArray[np.float32],
    matrix: NDArray[np.float64],
    threads: int = 1,
) -> None:
    """Take a share of each pixel's own hue away, in place and only where the cells lie.

    frame   BGR uint8 [H,W,3], changed
    share   float32 [n,n], 0..1
    tint    float32 [3,n,n] RGB: what the hue gives way to, the light's color over its luma; ones are grey
    matrix  float64 [2,3], a similarity: cells -> frame pixels

    Raises and threads as `warp_crop`.
    """
    check(("frame", frame, "u1", (None, None, 3)), ("share", share, "f4", (None, None)))
    check(("tint", tint, "f4", (3, None, None)), ("matrix", matrix, "f8", (2, 3)))
    check_writable("frame", frame)
    kernel = reference.fade_pixels if loading.kernels is None else loading.kernels.fade_pixels
    kernel(frame, share, tint, matrix, threads)


def spread(
    place: NDArray[np.float64],
    shift: NDArray[np.float64],
    down: NDArray[np.float32],
    across: NDArray[np.float32],
    threads: int = 1,
) -> NDArray[np.float32]:
    """The mean shift of points around each cell, weighed by nearness; new float32 [2,n,n] x, y.

    place   float64 [k,2] x, y of the points, in cells
    shift   float64 [k,2]
    down    float32 [b,n,n], of each blur of the sum, what a row takes of each, times its strength
    across  float32 [b,n,n], what each column gives to others

    Raises and threads as `warp_crop`.
    """
    out = np.empty((2, *down.shape[1:]), np.float32)
    loading.serve(
        "spread", lambda: _check_spread(place, shift, down, across), out, place, shift, down, across, threads
    )
    return out


def _check_difference(
    change: Any,
    amplitude: Any,
    plain: Any,
    moved: Any,
    edited: Any,
    flow: Any,
    inside: Any,
    rest: Any,
) -> None:
    check(("change", change, "f4", (3, None, None)), ("amplitude", amplitude, "f4", (None, None)))
    shape, cells = change.shape[1:], amplitude.shape
    pictures = (("plain", plain), ("moved", moved), ("edited", edited))
    check(*((name, picture, "f4", (3, *shape)) for name, picture in pictures))
    if flow is not None:
        check(("flow", flow, "f4", (2, *cells)), ("inside", inside, "f4", cells), ("rest", rest, "f4", cells))
    check_writable("change", change)
    check_writable("amplitude", amplitude)


def _check_add_difference(
    frame: Any,
    change: Any,
    gain: Any,
    flow: Any,
    matrix: Any,
) -> None:
    check(("frame", frame, "u1", (None, None, 3)), ("change", change, "f4", (3, None, None)))
    check(("gain", gain, "f4", (3, None, None)), ("matrix", matrix, "f8", (2, 3)))
    if flow is not None:
        check(("flow", flow, "f4", (2, *gain.shape[1:])))
    check_writable("frame", frame)


def _check_spread(place: object, shift: object, down: object, across: object) -> None:
    check(("place", place, "f8", (None, 2)), ("shift", shift, "f8", (None, 2)))
    check(("down", down, "f4", (None, None, None)), ("across", across, "f4", (None, None, None)))
