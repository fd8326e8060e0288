"""Frames in and out: crops, pasted pictures, regions, surroundings, watermarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import loading, reference
from .contracts import check, check_writable
from .reference import BORDERS, Border


def warp_crop(
    image: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    out: NDArray[np.float32],
    threads: int = 1,
    border: Border = "reflect",
) -> None:
    """Fill `out` with the square of `image` that `matrix` spans: sampled, RGB, -1..1, planar, in one pass.

    image   BGR uint8 [H,W,3]
    matrix  float64 [2,3], a similarity: crop pixels -> image pixels
    out     RGB float32 [3,S,S], written

    Where the square leaves the image, `border` says what it finds: the image reflected (2 1 0 1 2 ...), its
    edge pixels repeated, or black. Where it shrinks, it is filtered against aliasing. Raises TypeError for a
    wrong dtype, shape or layout, ValueError for an empty array, an unusable matrix or an unknown border.
    Uses at most `threads` threads, fewer for small pictures. The GIL is released.
    """
    if border not in BORDERS:
        raise ValueError(f"border: expected one of {', '.join(BORDERS)}, got {border!r}")
    if loading.kernels is None:
        _check_crop(image, matrix, out)
        reference.warp_crop(image, matrix, out, threads, border)
        return
    try:
        loading.kernels.warp_crop(image, matrix, out, threads, BORDERS.index(border))
    except TypeError:
        _check_crop(image, matrix, out)
        raise


def paste(
    frame: NDArray[np.uint8],
    image: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    matrix: NDArray[np.float64],
    gain: NDArray[np.float32],
    offset: NDArray[np.float32],
    threads: int = 1,
) -> None:
    """Blend `gain * image + offset` into `frame`, in place and only where it lies, in one pass.

    frame   BGR uint8 [H,W,3], changed
    image   RGB float32 [3,R,R], nominally -1..1; clamped after gain and offset
    mask    float32 [R,R], 0..1, or None for 1 everywhere
    matrix  float64 [2,3], a similarity: image pixels -> frame pixels
    gain    float32 [3] RGB; offset float32 [3] RGB in the image's units

    Raises and threads as `warp_crop`.
    """
    loading.serve(
        "paste",
        lambda: _check_paste(frame, image, mask, matrix, gain, offset),
        frame,
        image,
        mask,
        matrix,
        gain,
        offset,
        threads,
    )


def stretch(
    frame: NDArray[np.uint8],
    small: NDArray[np.uint8],
    threads: int = 1,
) -> None:
    """Enlarge `small` to the size of `frame`, interpolated linearly from pixel to pixel.

    frame   uint8 [H,W,3], written
    small   uint8 [h,w,3]; pixel (i, j) lies at row (i + .5) * H / h - .5, column (j + .5) * W / w - .5

    Raises and threads as `warp_crop`.
    """
    loading.serve("stretch", lambda: _check_stretch(frame, small), frame, small, threads)


def soft_region(
    out: NDArray[np.float32],
    lines: NDArray[np.float32],
    fade: NDArray[np.float32],
    width: float,
    threads: int = 1,
) -> None:
    """Draw a convex region into `out`: 1 inside, 0 outside, a smooth ramp across its edge.

    out     float32 [S,S], written, 0..1
    lines   float32 [n,3] a, b, c with (a, b) of length 1: inside is where a * x + b * y <= c, in pixels
    fade    float32 [S], 0..1, a factor of each column and each row
    width   px, from a line, where the value is 1/2, to where the ramp ends, on either side

    Raises and threads as `warp_crop`.
    """
    loading.serve("soft_region", lambda: _check_region(out, lines, fade), out, lines, fade, width, threads)


def add_tile(
    frame: NDArray[np.uint8],
    tile: NDArray[np.int8],
    strengths: NDArray[np.uint8],
    threads: int = 1,
) -> None:
    """Add `tile`, repeated from the frame's upper left corner, to all channels, saturating.

    frame      BGR uint8 [H,W,3], changed
    tile       int8 [P,P], in 32nds of a level
    strengths  uint8 [256], in 64ths, up to 240: by how much neighboring pixels differ, in quarters of a level

    Raises and threads as `warp_crop`.
    """
    loading.serve("add_tile", lambda: _check_tile(frame, tile, strengths), frame, tile, strengths, threads)


def _check_crop(image: object, matrix: object, out: object) -> None:
    check(("image", image, "u1", (None, None, 3)), ("matrix", matrix, "f8", (2, 3)))
    check(("out", out, "f4", (3, None, None)))
    check_writable("out", out)


def _check_paste(
    frame: object,
    image: object,
    mask: object,
    matrix: object,
    gain: object,
    offset: object,
) -> None:
    check(("frame", frame, "u1", (None, None, 3)), ("image", image, "f4", (3, None, None)))
    if mask is not None:
        check(("mask", mask, "f4", (None, None)))
    check(("matrix", matrix, "f8", (2, 3)), ("gain", gain, "f4", (3,)), ("offset", offset, "f4", (3,)))
    check_writable("frame", frame)


def _check_stretch(frame: object, small: object) -> None:
    check(("frame", frame, "u1", (None, None, 3)), ("small", small, "u1", (None, None, 3)))
    check_writable("frame", frame)


def _check_region(out: object, lines: object, fade: object) -> None:
    check(("out", out, "f4", (None, None)), ("lines", lines, "f4", (None, 3)), ("fade", fade, "f4", (None,)))
    check_writable("out", out)


def _check_tile(frame: object, tile: object, strengths: object) -> None:
    check(
        ("frame", frame, "u1", (None, None, 3)),
        ("tile", tile, "i1", (None, None)),
        ("strengths", strengths, "u1", (256,)),
    )
    check_writable("frame", frame)
