"""Measure what directions do to a generator's pictures: see :class:`Effect`.

A few people are drawn with and without the edit at both ends of its range. The landmark network finds both
meshes; the shift at strength 1 is their regression on the strengths. A linear map of the edit is not only
cheaper than two looks at every frame's pictures: the looks are noisy, and a beard deceives them, so that
it also explains the pictures better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import numpy as np

from .. import native
from ..composite.masks import cells_of, means, ramp
from ..composite.movement import flow_of
from ..composite.regions import draw_region, fade_of, reach_of
from ..edit.direction import Direction
from ..edit.editor import Editor
from ..edit.effect import ALL_SIZES, Effect
from ..face_mesh import FACE_OVAL
from ..synthesize import Synthesizer
from ..track.tracker import landmarks_in_crop
from ..types import Floats, Matrix

if TYPE_CHECKING:
    from .reader import Bundle

PEOPLE: Final = 6
PEOPLE_OF_LARGE: Final = 3  # of a generator of more than LOOK_PX, which takes its time
LOOK_PX: Final = 256  # meshes are found in pictures of at most this size
TRUNCATION: Final = 0.7  # of the invented people: as plain as those before cameras
FINE_DB: Final = 35.0  # a difference of a smaller size is as good from here on
COARSEST_PX: Final = 64
TURN: Final = 0.03  # of the side: a mesh that moves further is that of a turning head, or of a jaw
DRIFT: Final = (0.15, 0.4)  # of the largest movement against the whole face: less is none, more is all there
AROUND: Final = 0.04  # of the side: what moves takes its surroundings along
CHANGED: Final = 0.1  # of the largest change: more is part of the edit


def measure_effects(
    bundle: Bundle,
    names: Iterable[str] | None = None,  # of directions; None: all
    *,
    people: int | None = None,  # to draw; None: 6, of a large generator 3
    on_progress: Callable[[str], None] = lambda name: None,  # before each direction
) -> dict[str, Effect]:
    """By direction. Without a landmark network in the bundle nothing moves, and every edit counts as fine."""
    names = list(bundle.directions if names is None else names)
    if "landmarks" not in bundle.manifest.networks:
        return {name: Effect.of_looks() for name in names}
    people = people or (PEOPLE if bundle.image_size <= LOOK_PX else PEOPLE_OF_LARGE)
    codes = _people(bundle, people)
    editor = Editor(bundle.directions, bundle.latent_avg)
    synthesizer = Synthesizer(bundle.generator(bundle.styles[0]))
    effects = {}
    for name in names:
        on_progress(name)
        if bundle.directions[name].where == "eyes":  # no point of the mesh is on an iris
            effects[name] = Effect.of_looks()
            continue
        effects[name] = _measure(bundle, editor, synthesizer, bundle.directions[name], codes)
    return effects


def _people(bundle: Bundle, count: int) -> Floats:
    """Codes float32 [count,n_styles,w_dim] of invented people, always the same."""
    rng = np.random.default_rng(0)
    if "samples" in bundle.latent:
        samples: Floats = bundle.latent["samples"]
        return np.asarray(samples[:count], np.float32)
    average = bundle.latent_avg
    if "mapping" in bundle.manifest.networks:
        w = bundle.map(rng.standard_normal((count, bundle.manifest.z_dim)).astype(np.float32))
        return np.asarray(average + TRUNCATION * (w[:, None] - average), np.float32)
    spread = np.asarray(bundle.latent.get("w_std", np.zeros(bundle.w_dim)), np.float32)
    offsets = TRUNCATION * spread * rng.standard_normal((count, bundle.w_dim))
    return np.asarray(average + offsets[:, None], np.float32)


def _measure(
    bundle: Bundle, editor: Editor, synthesizer: Synthesizer, direction: Direction, codes: Floats
) -> Effect:
    landmarks = bundle.session("landmarks")
    size = min(synthesizer.size, LOOK_PX)
    views: list[tuple[float, Floats, Floats, Matrix, Matrix]] = []
    detail: list[int] = []
    for code in codes[:, None]:
        mesh: Matrix | None = None
        for strength in direction.range:
            step = float(direction.move(code, strength)[0])
            if abs(step) < 0.1:  # at its bound already
                continue
            pair = synthesizer.pair(code, editor.apply(code, {direction.name: strength}))
            plain, edited = (np.clip(picture, -1, 1) for picture in pair)
            detail.append(_needed(edited - plain))
            plain, edited = (means(picture, size) for picture in (plain, edited))
            if mesh is None:
                mesh = landmarks_in_crop(landmarks, plain)[:, :2].astype(np.float64)
            other = landmarks_in_crop(landmarks, edited)[:, :2].astype(np.float64)
            views.append((step, plain, edited, mesh, other))
    if not views:
        return Effect.of_looks()
    steps = np.array([view[0] for view in views])
    shifts = np.stack([other - mesh for *_, mesh, other in views])
    shift = np.tensordot(steps, shifts, 1) / (steps @ steps)
    explained = _explained(shift, views, size)
    shift = _without_drift(shift, np.mean([mesh for *_, mesh, _ in views], axis=0), size)
    needed = ALL_SIZES if max(detail) >= synthesizer.size else max(detail)
    return Effect((shift / size).astype(np.float32), explained, needed)


def _without_drift(shift: Matrix, mesh: Matrix, size: int) -> Matrix:
    """``shift`` where it differs from the whole face's, and around there; all of it where the head turns.

    The generator's faces drift in their square by a pixel or two with any edit; a person's must not.
    """
    if np.abs(shift).max() > TURN * size:
        return shift
    own = np.linalg.norm(shift - np.median(shift, axis=0), axis=1)
    least, most = DRIFT
    share = ramp((own / max(float(own.max()), 1e-9) - least) / (most - least))
    apart = np.linalg.norm(mesh[:, None] - mesh, axis=2) / (AROUND * size)
    near = np.exp(-0.5 * apart**2) * share  # [point, its neighbor]
    return np.asarray(shift * near.max(axis=1, keepdims=True), np.float64)


def _explained(shift: Matrix, views: list[tuple[float, Floats, Floats, Matrix, Matrix]], size: int) -> float:
    """How much of the change inside the faces is gone once the plain pictures have moved."""
    cells = cells_of(size)
    everywhere, nowhere = np.ones((cells, cells), np.float32), np.zeros((cells, cells), np.float32)
    amplitude, left = np.empty((cells, cells), np.float32), np.empty((3, size, size), np.float32)
    before = after = 0.0
    for step, plain, edited, mesh, _ in views:
        oval = mesh[list(FACE_OVAL)]
        middle = oval.mean(axis=0)
        face = draw_region(size, middle, reach_of(oval - middle), 1.0, fade_of(0.0, size))
        flow = flow_of(mesh + step * shift, step * shift, size, cells, leaks=True)
        native.difference(left, amplitude, plain, edited, edited, flow, everywhere, nowhere, native.THREADS)
        before += float((face * np.abs(edited - plain)).sum())
        after += float((face * np.abs(left)).sum())
    return float(np.clip(1 - after / max(before, 1e-6), 0, 1))


def _needed(difference: Floats) -> int:
    """The smallest side, px, at which ``difference`` [3,R,R] still is within FINE_DB of itself."""
    full = int(difference.shape[-1])
    size = COARSEST_PX
    amplitude = np.abs(difference).max(axis=0)
    changed = amplitude > CHANGED * amplitude.max()  # what stays as it is would flatter every size
    while size < full:
        coarse = means(difference, size)
        error = float(np.mean((_enlarged(coarse, full) - difference)[:, changed] ** 2))
        if 10 * math.log10(4 / max(error, 1e-12)) >= FINE_DB:
            return size
        size *= 2
    return full


def _enlarged(planes: Floats, size: int) -> Floats:
    """[3,n,n] -> [3,size,size], read bilinearly."""
    cells = planes.shape[-1]
    place = np.clip((np.arange(size) + 0.5) * (cells / size) - 0.5, 0, cells - 1)
    first = np.minimum(place.astype(np.intp), cells - 2)
    share = (place - first).astype(np.float32)
    rows = planes[:, first] * (1 - share)[:, None] + planes[:, first + 1] * share[:, None]
    result: Floats = rows[..., first] * (1 - share) + rows[..., first + 1] * share
    return result
