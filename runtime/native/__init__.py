"""The passes over pixels outside the networks, in C++ where it was compiled and in NumPy everywhere else.

`warp_crop` makes a network's input from a frame; `paste` puts a network's output back, through a mask that
`soft_region` draws or on surroundings that `stretch` makes; `add_tile` is the watermark. `KERNELS` says which
implementation serves: "native" or "numpy". Both have the same contracts, and `reference` and
`reference_cells` define what they compute. Arrays must have exactly the stated dtype and be C-contiguous:
nothing is converted or copied behind the caller's back. DOPPELGAN_KERNELS=numpy in the environment chooses
NumPy without a warning.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import reference, reference_cells
from .reference import BORDERS, Border, FaceSearch

__all__ = [
    "BORDERS",
    "KERNELS",
    "THREADS",
    "Border",
    "FaceSearch",
    "NativeKernelsMissing",
    "add_difference",
    "add_tile",
    "agree",
    "amounts",
    "belonging",
    "blurred",
    "cell_means",
    "covered",
    "difference",
    "encoder",
    "fade_hues",
    "find_face",
    "know_face",
    "paste",
    "reachable",
    "read_cells",
    "read_light",
    "soft_region",
    "spread",
    "strength",
    "stretch",
    "synthesis",
    "warp_crop",
]


class NativeKernelsMissing(UserWarning):
    """The C++ kernels are not installed; the slow NumPy twins serve instead."""


def _load() -> ModuleType | None:
    if os.environ.get("DOPPELGAN_KERNELS") == "numpy":
        return None
    try:
        return importlib.import_module("._native", __name__)
    except ImportError as error:
        warnings.warn(
            f"the C++ pixel kernels are missing ({error}): NumPy serves, many times slower; "
            "install a C++17 compiler and reinstall doppelgan, or set DOPPELGAN_KERNELS=numpy to accept it",
            NativeKernelsMissing,
            stacklevel=2,
        )
        return None


_Maps = NDArray[np.float32]
_Named = dict[
    str, tuple[_Maps | None, int | None]
]  # arrays by name, each with how many maps it is of; 0: is one

_kernels = _load()
KERNELS = "numpy" if _kernels is None else "native"
THREADS = min(4, os.cpu_count() or 1)  # of a kernel while no network computes; more hardly gain on a frame


def synthesis() -> Any:
    """The class that computes a StyleGAN2 synthesis network; None where it is missing or cannot run."""
    return _network_class("Synthesis")


def encoder() -> Any:
    """The class that computes an encoder of the pSp family; None where it is missing or cannot run."""
    return _network_class("Encoder")


def _network_class(name: str) -> Any:
    module: Any = _kernels  # compiled by GCC or Clang only
    if not hasattr(module, name) or not module.networks_available():
        return None
    return getattr(module, name)


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
    if _kernels is None:
        _check_crop(image, matrix, out)
        reference.warp_crop(image, matrix, out, threads, border)
        return
    try:
        _kernels.warp_crop(image, matrix, out, threads, BORDERS.index(border))
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
    if _kernels is None:
        _check_paste(frame, image, mask, matrix, gain, offset)
        reference.paste(frame, image, mask, matrix, gain, offset, threads)
        return
    try:
        _kernels.paste(frame, image, mask, matrix, gain, offset, threads)
    except TypeError:
        _check_paste(frame, image, mask, matrix, gain, offset)
        raise


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
    if _kernels is None:
        _check_stretch(frame, small)
        reference.stretch(frame, small, threads)
        return
    try:
        _kernels.stretch(frame, small, threads)
    except TypeError:
        _check_stretch(frame, small)
        raise


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
    if _kernels is None:
        _check_region(out, lines, fade)
        reference.soft_region(out, lines, fade, width, threads)
        return
    try:
        _kernels.soft_region(out, lines, fade, width, threads)
    except TypeError:
        _check_region(out, lines, fade)
        raise


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
        _check(("means", means, "f4", (6, None, None)))
        _check_writable("means", means)
    if _kernels is None:
        reference.difference(change, amplitude, plain, moved, edited, flow, inside, rest, threads, means)
    else:
        _kernels.difference(change, amplitude, plain, moved, edited, flow, inside, rest, threads, means)


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
    if _kernels is None:
        reference.add_difference(frame, change, gain, flow, matrix, threads)
    else:
        _kernels.add_difference(frame, change, gain, flow, matrix, threads)


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
    if _kernels is None:
        _check_tile(frame, tile, strengths)
        reference.add_tile(frame, tile, strengths, threads)
        return
    try:
        _kernels.add_tile(frame, tile, strengths, threads)
    except TypeError:
        _check_tile(frame, tile, strengths)
        raise


def cell_means(planes: NDArray[np.float32], cells: int, threads: int = 1) -> NDArray[np.float32]:
    """Means of blocks: float32 [C,R,R] -> new float32 [C,cells,cells]; cells divide R.

    Raises and threads as `warp_crop`.
    """
    out = np.empty((len(planes), cells, cells), np.float32)
    if _kernels is None:
        _check(("planes", planes, "f4", (None, None, None)))
        reference.cell_means(out, planes, threads)
        return out
    try:
        _kernels.cell_means(out, planes, threads)
    except TypeError:
        _check(("planes", planes, "f4", (None, None, None)))
        raise
    return out


def fade_hues(
    moved: NDArray[np.float32], edited: NDArray[np.float32], hues: NDArray[np.float32], threads: int = 1
) -> NDArray[np.float32]:
    """The edit as it would be on somebody of other hues: new RGB float32 [3,R,R], nominally -1..1.

    moved, edited  RGB float32 [3,R,R], nominally -1..1: pictures without and with an edit that fades colors
    hues           float32 [3,n,n]: the person's colors without their luma; n divides R

    As light as `edited`, and with as much less of `hues` as `edited` has less of the hue of `moved`: never
    with another one. Raises and threads as `warp_crop`.
    """
    maps = (None, None, None)
    given = (("moved", moved, "f4", maps), ("edited", edited, "f4", maps), ("hues", hues, "f4", maps))
    out = np.empty_like(moved)
    if _kernels is None:
        _check(*given)
        reference.fade_hues(out, moved, edited, hues, threads)
        return out
    try:
        _kernels.fade_hues(out, moved, edited, hues, threads)
    except TypeError:
        _check(*given)
        raise
    return out


def read_cells(maps: NDArray[np.float32], turn: complex, shift: complex) -> NDArray[np.float32]:
    """What lies where each cell of float32 [C,n,n] comes to by z -> turn * z + shift; new float32 [C,n,n].

    z = x + iy, in shares of the side from its middle. Between cells linearly; edges go on. Raises as
    `warp_crop`; one thread.
    """
    out = np.empty_like(maps)
    if _kernels is None:
        _check(("maps", maps, "f4", (None, None, None)))
        reference.read_cells(out, maps, turn, shift)
        return out
    try:
        _kernels.read_cells(out, maps, turn.real, turn.imag, shift.real, shift.imag)
    except TypeError:
        _check(("maps", maps, "f4", (None, None, None)))
        raise
    return out


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
    if _kernels is None:
        _check_spread(place, shift, down, across)
        reference.spread(out, place, shift, down, across, threads)
        return out
    try:
        _kernels.spread(out, place, shift, down, across, threads)
    except TypeError:
        _check_spread(place, shift, down, across)
        raise
    return out


def know_face(
    picture: NDArray[np.float32],
    cells: NDArray[np.int32],
    places: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the cells of a face show, and what moving, light and haze change of it: as `find_face` takes them.

    picture  float32 [n,n]
    cells    int32 [k], their numbers, row by row
    places   float32 [2,k] x, y of them, in shares of the side from the middle

    New float32 [k] and [6,k]. Raises as `warp_crop`; one thread.
    """
    known, slopes = np.empty(len(cells), np.float32), np.empty((6, len(cells)), np.float32)
    if _kernels is None:
        _check_cells(picture, cells, places)
        reference.know_face(known, slopes, picture, cells, places)
        return known, slopes
    try:
        _kernels.know_face(known, slopes, picture, cells, places)
    except TypeError:
        _check_cells(picture, cells, places)
        raise
    return known, slopes


def find_face(
    picture: NDArray[np.float32],
    places: NDArray[np.float32],
    known: NDArray[np.float32],
    slopes: NDArray[np.float32],
    weight: NDArray[np.float32],
    search: FaceSearch | None = None,
) -> tuple[complex, complex] | None:
    """Where the cells of a face have gone: turn and shift of z -> turn * z + shift, z = x + iy.

    picture  float32 [n,n], where they are looked for
    places   float32 [2,k] x, y of the cells in the picture before, in shares of the side from its middle
    known    float32 [k], what they showed there
    slopes   float32 [6,k], what growing, turning, shifts across and down, light and haze change of it
    weight   float32 [k], 0..1

    None where that cannot be told. Raises as `warp_crop`; one thread.
    """
    search = search or FaceSearch()
    if _kernels is None:
        _check_face(picture, places, known, slopes, weight)
        return reference.find_face(picture, places, known, slopes, weight, search)
    try:
        found = _kernels.find_face(picture, places, known, slopes, weight, *search)
    except TypeError:
        _check_face(picture, places, known, slopes, weight)
        raise
    return None if found is None else (complex(*found[:2]), complex(*found[2:]))


def blurred(maps: _Maps, sigma: float) -> _Maps:
    """Each of float32 [C,n,n] by a Gaussian of `sigma` cells of 64: new [C,n,n]; borders count the inside.

    Raises as `warp_crop`; one thread. So do the kernels below, whose numbers `reference_cells` explains.
    """
    out = np.empty_like(maps)
    _on_maps("blurred", [out], {"maps": (maps, None)}, sigma)
    return out


def read_light(seen: _Maps, drawn: _Maps, face: _Maps, gain: _Maps, *numbers: float) -> _Maps | None:
    """The gain [3,n,n] from `drawn` to `seen` [3,n,n] inside `face` [n,n], told with the one so far, [3,n,n].

    numbers: near, reach, doubtful, least, most, prior, fewest.  None where next to nothing agrees.
    """
    out = np.empty_like(seen)
    maps: _Named = {"seen": (seen, 3), "drawn": (drawn, 3), "face": (face, 0), "gain": (gain, 3)}
    return out if _on_maps("read_light", [out], maps, *numbers) else None


def agree(
    error: _Maps, face: _Maps, before: tuple[_Maps, _Maps, _Maps], *numbers: float
) -> tuple[_Maps, _Maps, _Maps]:
    """The usual error [3,n,n], how it varied [n,n] and how much agrees [n,n], after `error` [3,n,n].

    face: [n,n].  before: the same three.  numbers: familiar, learnt, cover, uncover, near, unknown, known,
    varied_share, unsure.
    """
    usual, varied, shown = before
    out = np.empty_like(error), np.empty_like(face), np.empty_like(face)
    maps: _Named = {
        "error": (error, 3),
        "face": (face, 0),
        "usual": (usual, 3),
        "varied": (varied, 0),
        "shown": (shown, 0),
    }
    _on_maps("agree", out, maps, *numbers)
    return out


def covered(change: _Maps, drawn: _Maps, near: float, darkest: float) -> _Maps:
    """How much of `drawn` [3,n,n] a `change` [3,n,n] hides at least: new [n,n], 0..1."""
    out = np.empty(change.shape[1:], np.float32)
    _on_maps("covered", [out], {"change": (change, 3), "drawn": (drawn, 3)}, near, darkest)
    return out


def reachable(change: _Maps, missing: _Maps, hidden: _Maps, skin: _Maps, *numbers: float) -> _Maps:
    """How much of `change` leads to what is `missing`, [3,n,n] all: it is `hidden` [n,n] and on `skin` [n,n].

    numbers: near, most, sheer, begins, ends.
    """
    out = np.empty_like(change)
    maps: _Named = {
        "change": (change, 3),
        "missing": (missing, 3),
        "hidden": (hidden, 0),
        "skin": (skin, 0),
    }
    _on_maps("reachable", [out], maps, *numbers)
    return out


def strength(amplitude: _Maps, near: float, least: float, share: float, sure: float) -> _Maps:
    """Where the largest changes, `amplitude` [n,n], are no leaks: new [n,n], 0..1."""
    out = np.empty_like(amplitude)
    _on_maps("strength", [out], {"amplitude": (amplitude, 0)}, near, least, share, sure)
    return out


def belonging(strong: _Maps, amplitude: _Maps, face: _Maps, near: _Maps, *numbers: float) -> _Maps:
    """`near` for an edit of something on the face, 1 for one of hair, skin or all there is; [n,n] all.

    numbers: inside_from, inside_to, whole_from, whole_to.
    """
    out = np.empty_like(strong)
    maps: _Named = {
        "strong": (strong, 0),
        "amplitude": (amplitude, 0),
        "face": (face, 0),
        "near": (near, 0),
    }
    _on_maps("belonging", [out], maps, *numbers)
    return out


def amounts(
    gain: _Maps,
    limit: _Maps,
    maps: tuple[_Maps, _Maps, _Maps, _Maps],
    flow: _Maps | None,
    inside: _Maps | None,
    far: float,
) -> _Maps:
    """By which a change is multiplied: `gain * limit` [3,n,n] as far as all `maps` say, new [3,n,n].

    maps: strong, belonging, agreement, window, [n,n] each.  flow: [2,n,n], inside: [n,n], or None both.
    """
    out = np.empty_like(gain)
    arrays: _Named = {"gain": (gain, 3), "limit": (limit, 3)}
    names = ("strong", "belonging", "agreement", "window")
    arrays |= {name: (one, 0) for name, one in zip(names, maps, strict=True)}
    _on_maps("amounts", [out], arrays | {"flow": (flow, 2), "inside": (inside, 0)}, far)
    return out


def _on_maps(name: str, out: Sequence[_Maps], maps: _Named, *numbers: float) -> Any:
    """Run a kernel on maps: outputs, inputs, each with how many maps it is of (0: is one), numbers."""
    kernels: Any = _kernels or reference_cells
    arrays = [value for value, _ in maps.values()]
    if _kernels is None:
        _check_maps(maps)
    try:
        return getattr(kernels, name)(*out, *arrays, *numbers)
    except TypeError:
        _check_maps(maps)
        raise


def _check_maps(maps: _Named) -> None:
    for name, (value, count) in maps.items():
        if value is None and name in ("flow", "inside"):
            continue
        _check((name, value, "f4", (None, None) if count == 0 else (count, None, None)))


def _check_cells(picture: object, cells: object, places: object) -> None:
    _check(
        ("picture", picture, "f4", (None, None)),
        ("cells", cells, "i4", (None,)),
        ("places", places, "f4", (2, None)),
    )


def _check_spread(place: object, shift: object, down: object, across: object) -> None:
    _check(("place", place, "f8", (None, 2)), ("shift", shift, "f8", (None, 2)))
    _check(("down", down, "f4", (None, None, None)), ("across", across, "f4", (None, None, None)))


def _check_face(picture: object, places: object, known: object, slopes: object, weight: object) -> None:
    _check(("picture", picture, "f4", (None, None)), ("places", places, "f4", (2, None)))
    _check(
        ("known", known, "f4", (None,)),
        ("slopes", slopes, "f4", (6, None)),
        ("weight", weight, "f4", (None,)),
    )


def _check_tile(frame: object, tile: object, strengths: object) -> None:
    _check(
        ("frame", frame, "u1", (None, None, 3)),
        ("tile", tile, "i1", (None, None)),
        ("strengths", strengths, "u1", (256,)),
    )
    _check_writable("frame", frame)


def _check_crop(image: object, matrix: object, out: object) -> None:
    _check(("image", image, "u1", (None, None, 3)), ("matrix", matrix, "f8", (2, 3)))
    _check(("out", out, "f4", (3, None, None)))
    _check_writable("out", out)


def _check_paste(
    frame: object,
    image: object,
    mask: object,
    matrix: object,
    gain: object,
    offset: object,
) -> None:
    _check(("frame", frame, "u1", (None, None, 3)), ("image", image, "f4", (3, None, None)))
    if mask is not None:
        _check(("mask", mask, "f4", (None, None)))
    _check(("matrix", matrix, "f8", (2, 3)), ("gain", gain, "f4", (3,)), ("offset", offset, "f4", (3,)))
    _check_writable("frame", frame)


def _check_stretch(frame: object, small: object) -> None:
    _check(("frame", frame, "u1", (None, None, 3)), ("small", small, "u1", (None, None, 3)))
    _check_writable("frame", frame)


def _check_region(out: object, lines: object, fade: object) -> None:
    _check(("out", out, "f4", (None, None)), ("lines", lines, "f4", (None, 3)), ("fade", fade, "f4", (None,)))
    _check_writable("out", out)


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
    _check(("change", change, "f4", (3, None, None)), ("amplitude", amplitude, "f4", (None, None)))
    shape, cells = change.shape[1:], amplitude.shape
    pictures = (("plain", plain), ("moved", moved), ("edited", edited))
    _check(*((name, picture, "f4", (3, *shape)) for name, picture in pictures))
    if flow is not None:
        _check(
            ("flow", flow, "f4", (2, *cells)), ("inside", inside, "f4", cells), ("rest", rest, "f4", cells)
        )
    _check_writable("change", change)
    _check_writable("amplitude", amplitude)


def _check_add_difference(
    frame: Any,
    change: Any,
    gain: Any,
    flow: Any,
    matrix: Any,
) -> None:
    _check(("frame", frame, "u1", (None, None, 3)), ("change", change, "f4", (3, None, None)))
    _check(("gain", gain, "f4", (3, None, None)), ("matrix", matrix, "f8", (2, 3)))
    if flow is not None:
        _check(("flow", flow, "f4", (2, *gain.shape[1:])))
    _check_writable("frame", frame)


def _check(*arguments: tuple[str, object, str, tuple[int | None, ...]]) -> None:
    """Raise a TypeError that names the first (name, value, dtype, shape) that breaks its contract."""
    for name, value, code, shape in arguments:
        wanted = f"{np.dtype(code)} [{','.join('?' if n is None else str(n) for n in shape)}]"
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name}: expected an array {wanted}, got {type(value).__name__}")
        fits = len(value.shape) == len(shape) and all(
            n in (None, m) for n, m in zip(shape, value.shape, strict=True)
        )
        if value.dtype != np.dtype(code) or not fits:
            got = f"{value.dtype} {list(value.shape)}"
            raise TypeError(f"{name}: expected {wanted}, got {got}; convert it first")
        if not value.flags.c_contiguous:
            got = f"strides {value.strides}"
            raise TypeError(f"{name}: expected a C-contiguous array, got {got}; use np.ascontiguousarray")


def _check_writable(name: str, value: object) -> None:
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        raise TypeError(f"{name}: expected a writable array, got a read-only one; copy it first")
