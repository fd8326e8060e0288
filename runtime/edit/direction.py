"""A latent direction: one slider. Five kinds:

``offset``     ``codes + strength * offset``; strength 0 changes nothing (InterFaceGAN, SeFa, our own)
``component``  moves the code's *coordinate* on a principal component to the strength, in sigmas:
               ``codes + (strength - coordinate) * step`` on some rows (GANSpace). The coordinate is
               that of row 0, for every row, as in the encoders that made this kind of edit known.
               Strength 0 therefore moves the person to the average; leave the name out to change nothing.
``bounded``    an offset that stops where people end: the code's coordinate along it (as above, read from
               row 0, in strengths) plus the strength stays within bounds, so that a shaven face cannot
               be shaven further. A code that is beyond a bound already stays where it is.
``return``     takes back what a code has of it: ``codes - strength * coordinate * offset``; strength 1 leaves
               a coordinate of 0 (eye contact: a gaze into the camera), 0 changes nothing
``affine``     an offset that depends on the code, ``codes + strength * (offset + probes @ codes[0] @ steps)``
               (where all shall come to the same end, each has another way: grey hair, from any color)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import EditError
from ..manifest import DirectionInfo
from ..types import Floats

LIMIT = 3.0  # strengths beyond this many times the documented range are refused
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
    note: str = ""  # what to beware of
    moves: str = ""  # what goes along, in words
    probe: Floats | None = field(default=None, repr=False)  # [w_dim]: coordinate = codes[0] @ probe - origin
    origin: float = 0.0  # mean @ probe
    bounds: tuple[float, float] | None = None  # coordinates that an edit stays within; needs a probe
    returns: bool = False  # of kind `return`; needs a probe and no bounds
    probes: Floats | None = field(default=None, repr=False)  # [k, w_dim]; needs steps
    steps: Floats | None = field(default=None, repr=False)  # [k, n_styles, w_dim]; zero outside ``rows``
    where: Literal["", "eyes"] = ""  # the only part of a face that it changes; "": any
    hue: Literal["", "fades"] = ""  # "fades": above 0 it takes color away and brings none, as grey does

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

        if self.probes is not None or self.steps is not None:
            self._check_steps(offset.shape)
        if self.returns and (self.probe is None or self.bounds is not None):
            raise EditError(
                f"direction {self.name!r}: expected a probe and no bounds to return to, got others"
            )

    def _check_steps(self, shape: tuple[int, ...]) -> None:
        n_styles, w_dim = shape
        if self.probes is None or self.steps is None or self.probe is not None:
            raise EditError(f"direction {self.name!r}: expected probes with steps and no other probe")
        probes, steps = (np.array(one, np.float32, order="C") for one in (self.probes, self.steps))
        if not len(probes) or probes.shape[1:] != (w_dim,) or steps.shape != (len(probes), n_styles, w_dim):
            raise EditError(
                f"direction {self.name!r}: expected probes [k,{w_dim}] and steps [k,{n_styles},{w_dim}], "
                f"got {list(probes.shape)} and {list(steps.shape)}"
            )
        if not (np.isfinite(probes).all() and np.isfinite(steps).all()):
            raise EditError(f"direction {self.name!r}: expected finite probes and steps")
        if self.rows is not None:
            steps[:, : self.rows[0]] = 0
            steps[:, self.rows[1] :] = 0
        for name, array in (("probes", probes), ("steps", steps)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

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
    def kind(self) -> Literal["offset", "component", "bounded", "return", "affine"]:
        if self.steps is not None:
            return "affine"
        if self.probe is None:
            return "offset"
        if self.returns:
            return "return"
        return "component" if self.bounds is None else "bounded"

    @property
    def shown(self) -> tuple[float, ...]:
        """The ends of the range at which something is edited: 0 is no edit, but of a component."""
        return tuple(end for end in self.range if end or self.kind == "component")

    @property
    def limit(self) -> float:
        """The largest magnitude of a strength that is accepted."""
        return LIMIT * max(abs(self.range[0]), abs(self.range[1]))

    @property
    def info(self) -> DirectionInfo:
        """Everything but the arrays, for a manifest."""
        return DirectionInfo(
            self.kind,
            self.range,
            self.unit,
            self.ends,
            self.rows,
            self.note,
            self.moves,
            self.where,
            self.hue,
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays for a bundle's ``directions.npz``: NAME, with a probe NAME.probe and NAME.origin, and if it
        is bounded NAME.bounds [2]; of kind `affine` NAME.probes and NAME.steps.
        """
        arrays: dict[str, NDArray[Any]] = {self.name: self.offset}
        if self.probe is not None:
            arrays[f"{self.name}.probe"] = self.probe
            arrays[f"{self.name}.origin"] = np.array(self.origin)
        if self.bounds is not None:
            arrays[f"{self.name}.bounds"] = np.array(self.bounds)
        if self.probes is not None and self.steps is not None:
            arrays[f"{self.name}.probes"], arrays[f"{self.name}.steps"] = self.probes, self.steps
        return arrays

    @classmethod
    def from_arrays(
        cls, name: str, info: DirectionInfo, arrays: Mapping[str, NDArray[Any]], n_styles: int, w_dim: int
    ) -> Direction:
        """Inverse of ``info`` and :meth:`to_arrays`. Raises EditError on missing or misshapen arrays."""
        extra: dict[str, tuple[int, ...]] = {}
        if info.kind == "affine":
            probes = arrays.get(f"{name}.probes")
            count = len(probes) if probes is not None and probes.ndim else 0
            extra = {f"{name}.probes": (count, w_dim), f"{name}.steps": (count, n_styles, w_dim)}
        elif info.kind != "offset":
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
        if info.kind == "affine":
            settings = {"probes": arrays[f"{name}.probes"], "steps": arrays[f"{name}.steps"]}
        elif extra:
            settings = {"probe": arrays[f"{name}.probe"], "origin": float(arrays[f"{name}.origin"])}
        settings["returns"] = info.kind == "return"
        if info.kind == "bounded":
            least, most = arrays[f"{name}.bounds"]
            settings["bounds"] = (float(least), float(most))
        settings |= {"rows": info.rows, "note": info.note, "moves": info.moves, "where": info.where}
        settings["hue"] = info.hue
        return cls(name, arrays[name], info.range, info.unit, info.ends, **settings)

    def coordinate(self, codes: Floats) -> NDArray[np.float64]:
        """Where codes [N, n_styles, w_dim] are: float64 [N], of a component in sigmas, else in strengths."""
        if self.probe is None:
            raise EditError(f"direction {self.name!r}: expected a component or bounds, got an offset")
        places: NDArray[np.float64] = codes[:, 0].astype(np.float64) @ self.probe - self.origin
        return places

    def move(self, codes: Floats, strength: float) -> NDArray[np.float64]:
        """How many times the offset is added to each of codes [N, n_styles, w_dim]: float64 [N]."""
        if self.probe is None:
            return np.full(len(codes), float(strength))
        at = self.coordinate(codes)
        if self.returns:
            return -strength * at
        if self.bounds is None:
            return strength - at
        least, most = self.bounds
        moved: NDArray[np.float64] = np.clip(at + strength, np.minimum(at, least), np.maximum(at, most)) - at
        return moved
