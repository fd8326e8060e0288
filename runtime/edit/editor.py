"""Applies edits to W+ codes: several directions at once, truncation, the W+ to W dial, mixing of two people.

Several edits at once are measured on the code as it came in and summed, so that their order is
irrelevant. Nothing here changes an array in place.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import EditError
from ..types import Floats
from .direction import Direction
from .effect import Effect

Rows = str | tuple[int, int] | None  # "coarse", "coarse+middle" ..., (first, last) exclusive, None: all


class Editor:
    """Apply named edits to codes; the sum of unchanged edits is computed once.

    directions: by name or any iterable of :class:`Direction`.  latent_avg: float32 [n_styles, w_dim].
    """

    def __init__(self, directions: Mapping[str, Direction] | Iterable[Direction], latent_avg: Floats) -> None:
        if isinstance(directions, Mapping):
            directions = directions.values()
        self.directions: dict[str, Direction] = {}
        self._shape = _pair(latent_avg)
        for direction in directions:
            if direction.offset.shape != self._shape:
                raise EditError(
                    f"direction {direction.name!r}: expected {list(self._shape)}, "
                    f"got {list(direction.offset.shape)}; it belongs to another generator"
                )
            if direction.name in self.directions:
                raise EditError(f"direction {direction.name!r}: its name is there twice; rename one")
            self.directions[direction.name] = direction
        self._edits: dict[str, float] | None = None
        self._offset: Floats | None = None  # [n_styles * w_dim]
        self._probes: Floats | None = None  # [w_dim, components]
        self._steps: Floats | None = None  # [components, n_styles * w_dim], for a coordinate of 1
        self._bounded: list[tuple[Direction, float]] = []

    def expanded(self, edits: Mapping[str, float]) -> dict[str, float]:
        """``eye_contact=1`` as what it stands for: its axes ``eye_contact_x`` and ``eye_contact_y``."""
        every: dict[str, float] = {}
        for name, strength in edits.items():
            every |= dict.fromkeys(axes_of(name, self.directions) or (name,), strength)
        return every

    def check(self, edits: Mapping[str, float]) -> None:
        """Raise EditError for an unknown name or a strength beyond three times its range."""
        for name, strength in edits.items():
            direction = self.directions.get(name)
            if direction is None:
                raise EditError(self._unknown(name))
            low, high = direction.range
            if not math.isfinite(strength) or abs(strength) > direction.limit:
                raise EditError(
                    f"edit {name}={strength:g}: expected {low:g}..{high:g} "
                    f"(at most {direction.limit:g} either way); use a smaller value"
                )

    def remarks(self, edits: Mapping[str, float]) -> list[str]:
        """What a person should be told: strengths outside the natural range, notes of the directions."""
        said = []
        for name, strength in edits.items():
            direction = self.directions[name]
            low, high = direction.range
            if not low <= strength <= high:
                what = "expect artifacts" if direction.bounds is None else "it stops where people end"
                said.append(f"{name}={strength:g} is outside {low:g}..{high:g}: {what}")
            if direction.note:
                said.append(f"{name}: {direction.note}")
        return said

    def apply(
        self,
        codes: Floats,  # float32 [N, n_styles, w_dim]
        edits: Mapping[str, float],  # direction name -> strength
    ) -> Floats:
        """Edited codes, a new array of the same shape. Raises EditError as :meth:`check`."""
        if codes.ndim != 3 or codes.shape[1:] != self._shape:
            want = ["N", *self._shape]
            raise EditError(f"codes: expected float32 {want}, got {codes.dtype} {list(codes.shape)}")
        if edits != self._edits:
            self._prepare(edits)
        flat = codes.reshape(len(codes), -1)
        edited = flat.astype(np.float32)
        if self._offset is not None:
            edited += self._offset
        if self._probes is not None and self._steps is not None:
            edited += (codes[:, 0] @ self._probes) @ self._steps
        for direction, strength in self._bounded:
            edited += np.outer(direction.move(codes, strength).astype(np.float32), direction.offset)
        return edited.reshape(codes.shape)

    def active(self, edits: Mapping[str, float]) -> list[str]:
        """The names of those ``edits`` that do anything: a strength of 0 does, of a component only."""
        return [name for name, value in edits.items() if value or self.directions[name].kind == "component"]

    def shift(self, codes: Floats, edits: Mapping[str, float], effects: Mapping[str, Effect]) -> Floats:
        """How ``edits`` move the mesh of codes [1,n_styles,w_dim]: float32 [468,2], shares of the square."""
        moved = [
            self.directions[name].move(codes, value)[0] * effects[name].shift for name, value in edits.items()
        ]
        return np.asarray(sum(moved, np.zeros(1)), np.float32)

    def _prepare(self, edits: Mapping[str, float]) -> None:
        """Affine edits as one map, ``codes + offset + (codes[:, 0] @ probes) @ steps``; the bounded apart."""
        self.check(edits)
        every = [(self.directions[name], strength) for name, strength in edits.items()]
        self._bounded = [(d, s) for d, s in every if d.bounds is not None and s]
        chosen = [(d, s) for d, s in every if d.bounds is None]
        total = np.zeros(self._shape)
        for direction, strength in chosen:
            slope, level = _affine(direction, strength)
            total += (level - slope * direction.origin) * direction.offset.astype(np.float64)
        self._offset = total.astype(np.float32).ravel() if total.any() else None
        self._probes = self._steps = None
        parts = [(d.probe, _affine(d, s)[0] * d.offset) for d, s in chosen if d.probe is not None]
        for d, s in chosen:
            if d.probes is not None and d.steps is not None:
                parts += zip(d.probes, s * d.steps, strict=True)
        if parts:
            self._probes = np.stack([probe for probe, _ in parts], axis=1)
            self._steps = np.stack([step.ravel() for _, step in parts]).astype(np.float32)
        self._edits = dict(edits)

    def _unknown(self, name: str) -> str:
        names = sorted({*self.directions, *_planes(self.directions)})
        if not names:
            return f"edit {name!r}: this bundle has no directions; export it with --direction FILE"
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        guess = f"did you mean {' or '.join(close)}? " if close else ""
        return f"edit {name!r}: expected a direction of this bundle; {guess}it has {', '.join(names)}"


def axes_of(name: str, directions: Mapping[str, Direction]) -> tuple[str, ...]:
    """The names of an edit's two axes, ``NAME_x`` and ``NAME_y``; none if ``name`` is no such edit."""
    axes = (f"{name}_x", f"{name}_y")
    return axes if name not in directions and all(axis in directions for axis in axes) else ()


def _planes(directions: Iterable[str]) -> set[str]:
    names = set(directions)
    return {name[:-2] for name in names if name.endswith("_x") and f"{name[:-2]}_y" in names}


def _affine(direction: Direction, strength: float) -> tuple[float, float]:
    """(slope, level) of an unbounded direction: its offset is added ``slope * coordinate + level`` times."""
    if direction.probe is None:
        return 0.0, strength
    return (-strength, 0.0) if direction.returns else (-1.0, strength)


def parse_edits(texts: Iterable[str]) -> dict[str, float]:
    """``["age=2", "smile=-1.5"]`` -> ``{"age": 2.0, "smile": -1.5}``; the last of a name counts.

    Raises EditError unless each is NAME=NUMBER.
    """
    edits: dict[str, float] = {}
    for text in texts:
        name, equals, number = (part.strip() for part in text.partition("="))
        try:
            strength = float(number)
        except ValueError:
            strength = math.nan
        if not name or not equals or not math.isfinite(strength):
            raise EditError(f"edit {text!r}: expected NAME=NUMBER, e.g. age=1.5, got {text!r}")
        edits[name] = strength
    return edits


def row_groups(n_styles: int) -> dict[str, tuple[int, int]]:
    """Rows [first, last) of a code by what they shape.

    ``coarse`` (4 and 8 px: pose, face shape), ``middle`` (16 and 32 px: features, expression), ``fine``
    (64 px and up: color, texture). Generators below 64 px share their rows out in the proportion of 1024 px.
    """
    if n_styles >= 10:
        first, second = 4, 8
    else:
        first, second = max(1, round(n_styles * 4 / 18)), max(2, round(n_styles * 8 / 18))
    return {
        "coarse": (0, min(first, n_styles)),
        "middle": (min(first, n_styles), min(second, n_styles)),
        "fine": (min(second, n_styles), n_styles),
    }


def select_rows(rows: Rows, n_styles: int) -> NDArray[np.bool_]:
    """Which rows ``rows`` means: bool [n_styles]. Raises EditError for unknown names or no rows at all."""
    chosen = np.zeros(n_styles, bool)
    if rows is None:
        chosen[:] = True
    elif isinstance(rows, str):
        groups = row_groups(n_styles)
        for name in rows.split("+"):
            if name.strip() not in groups:
                raise EditError(f"rows {rows!r}: expected some of {'+'.join(groups)}, or first and last row")
            chosen[slice(*groups[name.strip()])] = True
    else:
        first, last = rows
        if not 0 <= first < last <= n_styles:
            raise EditError(f"rows {first}..{last}: expected first < last within 0..{n_styles}")
        chosen[first:last] = True
    if not chosen.any():
        raise EditError(f"rows {rows!r}: a code of {n_styles} rows has none of them; choose other rows")
    return chosen


def truncate(
    codes: Floats,  # float32 [N, n_styles, w_dim]
    latent_avg: Floats,  # float32 [n_styles, w_dim] or [w_dim]
    psi: float,  # 1: unchanged; 0: the average face; -1: the opposite; above 1: exaggerated
    rows: Rows = None,
) -> Floats:
    """Move codes toward the average: ``avg + psi * (codes - avg)`` on the chosen rows; a new array."""
    if not math.isfinite(psi):
        raise EditError(f"truncation: expected a number, usually 0..1, got {psi}")
    if psi == 1:
        return codes.astype(np.float32)
    psis = np.where(select_rows(rows, codes.shape[1]), psi, 1).astype(np.float32)[:, None]
    return np.asarray(latent_avg + psis * (codes - latent_avg), np.float32)


def toward_w(
    codes: Floats,  # float32 [N, n_styles, w_dim]
    amount: float,  # 0: unchanged; 1: the same row everywhere
    latent_avg: Floats | None = None,  # float32 [n_styles, w_dim], where its rows differ
) -> Floats:
    """Shrink the spread between the rows of a code: from W+, which reconstructs, to W, which edits well.

    The mean of the rows stays where it is. A new array.
    """
    if not 0 <= amount <= 1:
        raise EditError(f"toward W: expected an amount 0..1, got {amount:g}")
    relative = codes if latent_avg is None else codes - latent_avg
    middle = relative.mean(axis=1, keepdims=True)
    return np.asarray(codes + np.float32(amount) * (middle - relative), np.float32)


def mix(
    codes_a: Floats,  # float32 [N, n_styles, w_dim]
    codes_b: Floats,  # the same shape, or N 1
    rows: Rows = None,  # which rows come from b
    weight: float = 1.0,  # how much of b there: 0..1
) -> Floats:
    """Blend two people: ``a + weight * (b - a)`` on the chosen rows, ``a`` elsewhere. A new array."""
    if codes_a.ndim != 3 or codes_b.ndim != 3 or codes_a.shape[1:] != codes_b.shape[1:]:
        raise EditError(
            f"mix: expected two codes of one shape, got {list(codes_a.shape)} and {list(codes_b.shape)}; "
            "encode both with the same bundle"
        )
    if len(codes_b) not in (1, len(codes_a)):
        raise EditError(f"mix: expected 1 or {len(codes_a)} second codes, got {len(codes_b)}")
    if not 0 <= weight <= 1:
        raise EditError(f"mix: expected a weight 0..1, got {weight:g}")
    chosen = select_rows(rows, codes_a.shape[1])
    mixed = codes_a.astype(np.float32)
    mixed[:, chosen] += np.float32(weight) * (codes_b[:, chosen] - codes_a[:, chosen])
    return mixed


def orthogonalize(
    directions: Sequence[Direction],
    mode: Literal["order", "others"] = "order",
) -> list[Direction]:
    """Take out of offsets what they share, so that one slider leaks less into the others.

    ``order``: Gram-Schmidt; the first stays as it is, each next loses its part along those before.
    ``others``: each loses its part along the span of all *original* others. Lengths and ranges stay, so a
    strength keeps its size. Rows are kept: what a direction did not touch, it still does not touch, and
    where row ranges differ the result is orthogonal as far as that allows. Raises EditError for directions
    with a probe (components, bounded) and for directions that are a blend of others.
    """
    for direction in directions:
        if direction.kind != "offset":
            raise EditError(f"direction {direction.name!r}: expected an offset, got kind {direction.kind}")
    originals = [d.offset.astype(np.float64).ravel() for d in directions]
    cleaned: list[NDArray[np.float64]] = []
    orthogonal = []
    for i, direction in enumerate(directions):
        vector = originals[i]
        against = cleaned[:i] if mode == "order" else originals[:i] + originals[i + 1 :]
        rest = _reject(vector, against, direction)
        length = np.linalg.norm(vector)
        if np.linalg.norm(rest) < 1e-4 * length:
            names = ", ".join(d.name for d in directions if d is not direction)
            raise EditError(f"direction {direction.name!r}: nothing is left beside {names}; leave it out")
        rest *= length / np.linalg.norm(rest)
        cleaned.append(rest)
        orthogonal.append(replace(direction, offset=rest.reshape(direction.offset.shape).astype(np.float32)))
    return orthogonal


def _reject(
    vector: NDArray[np.float64], against: list[NDArray[np.float64]], direction: Direction
) -> NDArray[np.float64]:
    """What is left of ``vector`` outside the span of ``against``, within the direction's rows."""
    if not against:
        return vector.copy()
    mask = np.repeat(np.zeros(len(direction.offset), bool), direction.offset.shape[1])
    first, last = direction.rows or (0, len(direction.offset))
    mask[first * direction.offset.shape[1] : last * direction.offset.shape[1]] = True
    span = np.stack(against, axis=1) * mask[:, None]
    rest: NDArray[np.float64] = vector - span @ np.linalg.lstsq(span, vector, rcond=None)[0]
    return rest


def _pair(latent_avg: Floats) -> tuple[int, int]:
    if latent_avg.ndim != 2:
        raise EditError(f"latent_avg: expected float32 [n_styles, w_dim], got {list(latent_avg.shape)}")
    return int(latent_avg.shape[0]), int(latent_avg.shape[1])
