"""Edits of W+ codes: named directions, truncation, the W+ to W dial, and mixing of two people.

A :class:`Direction` is one slider. Three kinds:

``offset``     ``codes + strength * offset``; strength 0 changes nothing (InterFaceGAN, SeFa, our own)
``component``  moves the code's *coordinate* on a principal component to the strength, in sigmas:
               ``codes + (strength - coordinate) * step`` on some rows (GANSpace). The coordinate is
               that of row 0, for every row, as in the encoders that made this kind of edit known.
               Strength 0 therefore moves the person to the average; leave the name out to change nothing.
``bounded``    an offset that stops where people end: the code's coordinate along it (as above, read from
               row 0, in strengths) plus the strength stays within bounds, so that a shaven face cannot
               be shaven further. A code that is beyond a bound already stays where it is.

Several edits at once are measured on the code as it came in and summed, so that their order is
irrelevant. Nothing here changes an array in place.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import EditError
from .manifest import DirectionInfo
from .types import Floats

__all__ = [
    "Direction",
    "Editor",
    "Rows",
    "apply_edits",
    "mix",
    "orthogonalize",
    "parse_edits",
    "row_groups",
    "select_rows",
    "toward_w",
    "truncate",
]

LIMIT = 3.0  # strengths beyond this many times the documented range are refused
Rows = str | tuple[int, int] | None  # "coarse", "coarse+middle" ..., (first, last) exclusive, None: all

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, eq=False)
class Direction:
    """One slider. Raises EditError if its arrays or its range make no sense.

    name: letters, digits, ``_`` and ``-``.  offset: float32 [n_styles, w_dim], what strength 1 adds (a
    component: what one sigma adds); rows outside ``rows`` are set to zero.  range: the strengths that
    look natural; up to three times as much is allowed.  ends: what strengths below and above do.
    """

    name: str
    offset: Floats
    range: tuple[float, float] = (-1.0, 1.0)
    unit: str = ""
    ends: tuple[str, str] = ("less", "more")
    rows: tuple[int, int] | None = None  # first, last (exclusive); None: all
    note: str = ""
    probe: Floats | None = field(default=None, repr=False)  # [w_dim]: coordinate = codes[0] @ probe - origin
    origin: float = 0.0  # mean @ probe
    bounds: tuple[float, float] | None = None  # coordinates that an edit stays within; needs a probe

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise EditError(f"direction {self.name!r}: expected letters, digits, _ and -; rename it")
        offset = np.array(self.offset, np.float32, order="C")
        if offset.ndim != 2 or offset.size == 0:
            raise EditError(f"direction {self.name!r}: expected [n_styles, w_dim], got {list(offset.shape)}")
        if self.rows is not None:
            first, last = self.rows
            if not 0 <= first < last <= len(offset):
                raise EditError(
                    f"direction {self.name!r}: expected rows first < last within 0..{len(offset)}, "
                    f"got {first}..{last}; choose other rows"
                )
            offset[:first] = 0
            offset[last:] = 0
        if not np.isfinite(offset).all() or not offset.any():
            what = "only zeros" if np.isfinite(offset).all() else "NaN or infinity"
            raise EditError(f"direction {self.name!r}: expected finite numbers, not all zero, got {what}")
        low, high = self.range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise EditError(f"direction {self.name!r}: expected a range low < high, got {low}..{high}")
        offset.flags.writeable = False
        object.__setattr__(self, "offset", offset)
        if self.probe is not None:
            probe = np.array(self.probe, np.float32)
            if probe.shape != offset.shape[1:] or not np.isfinite(probe).all():
                got = list(probe.shape)
                raise EditError(f"direction {self.name!r}: expected a finite probe [w_dim], got {got}")
            probe.flags.writeable = False
            object.__setattr__(self, "probe", probe)
        if not math.isfinite(self.origin):
            raise EditError(f"direction {self.name!r}: expected a finite origin, got {self.origin}")
        if self.bounds is not None:
            least, most = self.bounds
            if self.probe is None or not (math.isfinite(least) and math.isfinite(most) and least < most):
                what = f"{least}..{most}" + (" without a probe" if self.probe is None else "")
                raise EditError(
                    f"direction {self.name!r}: expected a probe and bounds low < high, got {what}"
                )

    @classmethod
    def component(
        cls,
        name: str,
        component: NDArray[Any],  # [w_dim], unit length
        mean: NDArray[Any],  # [w_dim]
        std: float,  # of the codes along the component
        n_styles: int,
        rows: tuple[int, int] | None = None,
        **settings: Any,  # range, unit, ends, note
    ) -> Direction:
        """A GANSpace component: strength s adds ``(s - coordinate) * component * std``."""
        axis = np.asarray(component, np.float64).ravel()
        if not (math.isfinite(std) and std > 0):
            raise EditError(f"direction {name!r}: expected a positive spread, got {std}; choose another")
        offset = np.tile(axis * std, (n_styles, 1))
        origin = float(np.asarray(mean, np.float64).ravel() @ axis / std)
        return cls(name, offset.astype(np.float32), rows=rows, probe=(axis / std).astype(np.float32),
                   origin=origin, **settings)  # fmt: skip

    @property
    def kind(self) -> Literal["offset", "component", "bounded"]:
        if self.probe is None:
            return "offset"
        return "component" if self.bounds is None else "bounded"

    @property
    def limit(self) -> float:
        """The largest magnitude of a strength that is accepted."""
        return LIMIT * max(abs(self.range[0]), abs(self.range[1]))

    @property
    def info(self) -> DirectionInfo:
        """Everything but the arrays, for a manifest."""
        return DirectionInfo(self.kind, self.range, self.unit, self.ends, self.rows, self.note)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays for a bundle's ``directions.npz``: NAME, with a probe NAME.probe and NAME.origin, and if it
        is bounded NAME.bounds [2].
        """
        arrays: dict[str, NDArray[Any]] = {self.name: self.offset}
        if self.probe is not None:
            arrays[f"{self.name}.probe"] = self.probe
            arrays[f"{self.name}.origin"] = np.array(self.origin)
        if self.bounds is not None:
            arrays[f"{self.name}.bounds"] = np.array(self.bounds)
        return arrays

    @classmethod
    def from_arrays(
        cls, name: str, info: DirectionInfo, arrays: Mapping[str, NDArray[Any]], n_styles: int, w_dim: int
    ) -> Direction:
        """Inverse of ``info`` and :meth:`to_arrays`. Raises EditError on missing or misshapen arrays."""
        extra: dict[str, tuple[int, ...]] = {}
        if info.kind != "offset":
            extra = {f"{name}.probe": (w_dim,), f"{name}.origin": ()}
        if info.kind == "bounded":
            extra[f"{name}.bounds"] = (2,)
        for key, shape in {name: (n_styles, w_dim), **extra}.items():
            if key not in arrays or arrays[key].shape != shape:
                got = list(arrays[key].shape) if key in arrays else "none"
                raise EditError(
                    f"direction {name!r}: expected array {key!r} {list(shape)}, got {got}; "
                    "export the bundle again"
                )
        settings: dict[str, Any] = {}
        if extra:
            settings = {"probe": arrays[f"{name}.probe"], "origin": float(arrays[f"{name}.origin"])}
        if info.kind == "bounded":
            least, most = arrays[f"{name}.bounds"]
            settings["bounds"] = (float(least), float(most))
        return cls(name, arrays[name], info.range, info.unit, info.ends, info.rows, info.note, **settings)

    def coordinate(self, codes: Floats) -> NDArray[np.float64]:
        """Where codes [N, n_styles, w_dim] are: float64 [N], of a component in sigmas, else in strengths."""
        if self.probe is None:
            raise EditError(f"direction {self.name!r}: expected a component or bounds, got an offset")
        found: NDArray[np.float64] = codes[:, 0].astype(np.float64) @ self.probe - self.origin
        return found

    def move(self, codes: Floats, strength: float) -> NDArray[np.float64]:
        """How many times the offset is added to each of codes [N, n_styles, w_dim]: float64 [N]."""
        if self.probe is None:
            return np.full(len(codes), float(strength))
        at = self.coordinate(codes)
        if self.bounds is None:
            return strength - at
        least, most = self.bounds
        moved: NDArray[np.float64] = np.clip(at + strength, np.minimum(at, least), np.maximum(at, most)) - at
        return moved


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
        self._steps: Floats | None = None  # [components, n_styles * w_dim], negative
        self._bounded: list[tuple[Direction, float]] = []

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

    def _prepare(self, edits: Mapping[str, float]) -> None:
        """Affine edits as one map, ``codes + offset + (codes[:, 0] @ probes) @ steps``; the bounded apart."""
        self.check(edits)
        every = [(self.directions[name], strength) for name, strength in edits.items()]
        self._bounded = [(d, s) for d, s in every if d.bounds is not None and s]
        chosen = [(d, s) for d, s in every if d.bounds is None]
        total = np.zeros(self._shape)
        for direction, strength in chosen:
            total += (strength + direction.origin) * direction.offset.astype(np.float64)
        self._offset = total.astype(np.float32).ravel() if total.any() else None
        self._probes = self._steps = None
        parts = [(d.probe, d.offset) for d, _ in chosen if d.probe is not None]
        if parts:
            self._probes = np.stack([probe for probe, _ in parts], axis=1)
            self._steps = -np.stack([offset.ravel() for _, offset in parts])
        self._edits = dict(edits)

    def _unknown(self, name: str) -> str:
        names = sorted(self.directions)
        if not names:
            return f"edit {name!r}: this bundle has no directions; export it with --direction FILE"
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        guess = f"did you mean {' or '.join(close)}? " if close else ""
        return f"edit {name!r}: expected a direction of this bundle; {guess}it has {', '.join(names)}"


def apply_edits(codes: Floats, edits: Mapping[Direction, float]) -> Floats:
    """Slow reference of :meth:`Editor.apply`: the formulas as written, one edit after the other."""
    edited = codes.astype(np.float64)
    for direction, strength in edits.items():
        for n, code in enumerate(codes):
            edited[n] += direction.move(code[None], strength)[0] * direction.offset
    return edited.astype(np.float32)


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
    moved: Floats = latent_avg + psis * (codes - latent_avg)
    return moved.astype(np.float32, copy=False)


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
    base = np.float32(0) if latent_avg is None else latent_avg
    relative = codes - base
    middle = relative.mean(axis=1, keepdims=True)
    moved: Floats = base + relative + np.float32(amount) * (middle - relative)
    return moved.astype(np.float32, copy=False)


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
    made = []
    for i, (direction, vector) in enumerate(zip(directions, originals, strict=True)):
        against = cleaned[:i] if mode == "order" else originals[:i] + originals[i + 1 :]
        rest = _reject(vector, against, direction)
        length = np.linalg.norm(vector)
        if np.linalg.norm(rest) < 1e-4 * length:
            names = ", ".join(d.name for d in directions if d is not direction)
            raise EditError(f"direction {direction.name!r}: nothing is left beside {names}; leave it out")
        rest *= length / np.linalg.norm(rest)
        cleaned.append(rest)
        made.append(replace(direction, offset=rest.reshape(direction.offset.shape).astype(np.float32)))
    return made


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
