from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def warp_crop(
    image: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    out: NDArray[np.float32],
    threads: int = 1,
    border: int = 0,
) -> None: ...
def paste(
    frame: NDArray[np.uint8],
    image: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    matrix: NDArray[np.float64],
    gain: NDArray[np.float32],
    offset: NDArray[np.float32],
    threads: int = 1,
) -> None: ...
def stretch(
    frame: NDArray[np.uint8],
    small: NDArray[np.uint8],
    threads: int = 1,
) -> None: ...
def soft_region(
    out: NDArray[np.float32],
    lines: NDArray[np.float32],
    fade: NDArray[np.float32],
    width: float,
    threads: int = 1,
) -> None: ...
def add_tile(
    frame: NDArray[np.uint8],
    tile: NDArray[np.int8],
    strengths: NDArray[np.uint8],
    threads: int = 1,
) -> None: ...
def difference(
    change: NDArray[np.float32],
    amplitude: NDArray[np.float32],
    plain: NDArray[np.float32],
    moved: NDArray[np.float32],
    edited: NDArray[np.float32],
    flow: NDArray[np.float32] | None,
    inside: NDArray[np.float32] | None,
    rest: NDArray[np.float32] | None,
    threads: int = 1,
) -> None: ...
def add_difference(
    frame: NDArray[np.uint8],
    change: NDArray[np.float32],
    gain: NDArray[np.float32],
    flow: NDArray[np.float32] | None,
    matrix: NDArray[np.float64],
    threads: int = 1,
) -> None: ...
def _use_avx2(wanted: bool) -> bool: ...
def networks_available() -> bool: ...

class Synthesis:
    def __init__(
        self,
        w_dim: int,
        rows: int,
        constant: NDArray[np.float32],
        convolutions: Sequence[Mapping[str, Any]],
        rgbs: Sequence[Mapping[str, Any]],
        precision: str = "float32",
    ) -> None: ...
    def run(self, codes: NDArray[np.float32], picture: NDArray[np.float32], threads: int = 1) -> None: ...
    def run_together(
        self,
        codes: Sequence[NDArray[np.float32]],
        pictures: Sequence[NDArray[np.float32]],
        threads: int = 1,
    ) -> None: ...
    @property
    def size(self) -> int: ...
    @property
    def bytes(self) -> int: ...

class Encoder:
    def __init__(
        self,
        planes: int,
        size: int,
        w_dim: int,
        maps: Sequence[tuple[int, int]],
        steps: Sequence[Mapping[str, Any]],
        rows: Sequence[Mapping[str, Any]],
        precision: str = "float32",
    ) -> None: ...
    def run(self, crop: NDArray[np.float32], codes: NDArray[np.float32], threads: int = 1) -> None: ...
    @property
    def bytes(self) -> int: ...
