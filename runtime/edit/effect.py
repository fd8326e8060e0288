"""What a direction does to a picture, measured once: how it moves a face, and how fine its detail is.

In ``effects.npz`` of a bundle, per direction NAME: ``NAME.shift`` float32 [468,2], ``NAME.explained`` and
``NAME.size``, both without dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import EditError
from ..face_mesh import N_POINTS
from ..types import Floats

MOVES: Final = 0.12  # share of a change that movement explains, from which a direction moves things
LEAST_SHIFT: Final = 0.002  # of the square's side: a mesh that moves less stays
ALL_SIZES: Final = 1 << 16  # px: no picture is finer


@dataclass(frozen=True, eq=False)
class Effect:
    """The effect of one direction at strength 1.

    shift: float32 [468,2], shares of the aligned square's side: how the face mesh moves.  explained: 0..1,
    how much of the change inside the face is gone once the unedited picture has moved so.  size: px, the
    smallest picture whose difference shows all there is to see.
    """

    shift: Floats = field(repr=False)
    explained: float = 0.0
    size: int = ALL_SIZES

    def __post_init__(self) -> None:
        if self.shift.shape != (N_POINTS, 2) or not np.isfinite(self.shift).all():
            raise EditError(f"shift: expected finite float32 [{N_POINTS},2], got {list(self.shift.shape)}")

    @classmethod
    def of_looks(cls) -> Effect:
        """Of a direction about which nothing is known: it moves nothing and is as fine as pictures are."""
        return cls(np.zeros((N_POINTS, 2), np.float32))

    @property
    def moves(self) -> bool:
        """Whether it moves things (smile, eyes, pose) instead of changing looks (beard, hair, glasses)."""
        return self.explained >= MOVES and float(np.abs(self.shift).max()) >= LEAST_SHIFT


def effects_to_arrays(effects: Mapping[str, Effect]) -> dict[str, NDArray[Any]]:
    """Arrays for a bundle's ``effects.npz``."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, effect in effects.items():
        arrays[f"{name}.shift"] = effect.shift
        arrays[f"{name}.explained"] = np.array(effect.explained, np.float32)
        arrays[f"{name}.size"] = np.array(effect.size, np.int32)
    return arrays


def effects_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Effect]:
    """Inverse of :func:`effects_to_arrays`. Raises EditError on missing or misshapen arrays."""
    effects = {}
    for name in (key.removesuffix(".shift") for key in arrays if key.endswith(".shift")):
        numbers = [arrays.get(f"{name}.{what}") for what in ("explained", "size")]
        explained, size = numbers
        if explained is None or size is None or explained.shape or size.shape:
            raise EditError(
                f"effect {name!r}: expected numbers {name}.explained and {name}.size; measure again"
            )
        shift = np.asarray(arrays[f"{name}.shift"], np.float32)
        effects[name] = Effect(shift, float(explained), int(size))
    return effects
