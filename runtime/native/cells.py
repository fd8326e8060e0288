"""Pictures seen in cells, faces found again in them, and what is added to each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import loading, reference, reference_cells
from .contracts import check
from .reference import FaceSearch

_Maps = NDArray[np.float32]
_Named = dict[str, tuple[_Maps | None, int | None]]  # by name, with how many maps each is of; 0: is one


def cell_means(planes: NDArray[np.float32], cells: int, threads: int = 1) -> NDArray[np.float32]:
    """Means of blocks: float32 [C,R,R] -> new float32 [C,cells,cells]; cells divide R.

    Raises and threads as `warp_crop`.
    """
    out = np.empty((len(planes), cells, cells), np.float32)
    loading.serve(
        "cell_means", lambda: check(("planes", planes, "f4", (None, None, None))), out, planes, threads
    )
    return out


def read_cells(maps: NDArray[np.float32], turn: complex, shift: complex) -> NDArray[np.float32]:
    """What lies where each cell of float32 [C,n,n] comes to by z -> turn * z + shift; new float32 [C,n,n].

    z = x + iy, in shares of the side from its middle. Between cells linearly; edges go on. Raises as
    `warp_crop`; one thread.
    """
    out = np.empty_like(maps)
    if loading.kernels is None:
        check(("maps", maps, "f4", (None, None, None)))
        reference.read_cells(out, maps, turn, shift)
        return out
    try:
        loading.kernels.read_cells(out, maps, turn.real, turn.imag, shift.real, shift.imag)
    except TypeError:
        check(("maps", maps, "f4", (None, None, None)))
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
    loading.serve(
        "know_face", lambda: _check_cells(picture, cells, places), known, slopes, picture, cells, places
    )
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
    if loading.kernels is None:
        _check_face(picture, places, known, slopes, weight)
        return reference.find_face(picture, places, known, slopes, weight, search)
    try:
        found = loading.kernels.find_face(picture, places, known, slopes, weight, *search)
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
    kernels: Any = loading.kernels or reference_cells
    arrays = [value for value, _ in maps.values()]
    if loading.kernels is None:
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
        check((name, value, "f4", (None, None) if count == 0 else (count, None, None)))


def _check_cells(picture: object, cells: object, places: object) -> None:
    check(
        ("picture", picture, "f4", (None, None)),
        ("cells", cells, "i4", (None,)),
        ("places", places, "f4", (2, None)),
    )


def _check_face(picture: object, places: object, known: object, slopes: object, weight: object) -> None:
    check(("picture", picture, "f4", (None, None)), ("places", places, "f4", (2, None)))
    check(
        ("known", known, "f4", (None,)),
        ("slopes", slopes, "f4", (6, None)),
        ("weight", weight, "f4", (None,)),
    )
