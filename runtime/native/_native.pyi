"""Pixel kernels in C++; doppelgan.runtime.native explains them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy
from numpy.typing import NDArray

def warp_crop(
    image: Annotated[
        NDArray[numpy.uint8], dict(shape=(None, None, 3), order="C", device="cpu", writable=False)
    ],
    matrix: Annotated[NDArray[numpy.float64], dict(shape=(2, 3), order="C", device="cpu", writable=False)],
    out: Annotated[NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu")],
    threads: int = 1,
    border: int = 0,
) -> None: ...
def paste(
    frame: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, 3), order="C", device="cpu")],
    image: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    mask: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)]
    | None,
    matrix: Annotated[NDArray[numpy.float64], dict(shape=(2, 3), order="C", device="cpu", writable=False)],
    gain: Annotated[NDArray[numpy.float32], dict(shape=(3), order="C", device="cpu", writable=False)],
    offset: Annotated[NDArray[numpy.float32], dict(shape=(3), order="C", device="cpu", writable=False)],
    threads: int = 1,
) -> None: ...
def stretch(
    frame: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, 3), order="C", device="cpu")],
    small: Annotated[
        NDArray[numpy.uint8], dict(shape=(None, None, 3), order="C", device="cpu", writable=False)
    ],
    threads: int = 1,
) -> None: ...
def soft_region(
    out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
    lines: Annotated[NDArray[numpy.float32], dict(shape=(None, 3), order="C", device="cpu", writable=False)],
    fade: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    width: float,
    threads: int = 1,
) -> None: ...
def add_tile(
    frame: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, 3), order="C", device="cpu")],
    tile: Annotated[NDArray[numpy.int8], dict(shape=(None, None), order="C", device="cpu", writable=False)],
    strengths: Annotated[NDArray[numpy.uint8], dict(shape=(256), order="C", device="cpu", writable=False)],
    threads: int = 1,
) -> None: ...
def difference(
    change: Annotated[NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu")],
    amplitude: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
    plain: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    moved: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    edited: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    flow: Annotated[
        NDArray[numpy.float32], dict(shape=(2, None, None), order="C", device="cpu", writable=False)
    ]
    | None,
    inside: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ]
    | None,
    rest: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)]
    | None,
    threads: int = 1,
    means: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")]
    | None = None,
) -> None: ...
def add_difference(
    frame: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, 3), order="C", device="cpu")],
    change: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    gain: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    flow: Annotated[
        NDArray[numpy.float32], dict(shape=(2, None, None), order="C", device="cpu", writable=False)
    ]
    | None,
    matrix: Annotated[NDArray[numpy.float64], dict(shape=(2, 3), order="C", device="cpu", writable=False)],
    threads: int = 1,
) -> None: ...
def lightened(
    out: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")],
    moved: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
    ],
    edited: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
    ],
    threads: int = 1,
) -> None: ...
def fade_pixels(
    frame: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, 3), order="C", device="cpu")],
    share: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    tint: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
    ],
    matrix: Annotated[NDArray[numpy.float64], dict(shape=(2, 3), order="C", device="cpu", writable=False)],
    threads: int = 1,
) -> None: ...
def cell_means(
    out: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")],
    planes: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
    ],
    threads: int = 1,
) -> None: ...
def read_cells(
    out: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")],
    maps: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
    ],
    real: float,
    imag: float,
    x: float,
    y: float,
) -> None: ...
def spread(
    out: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")],
    place: Annotated[NDArray[numpy.float64], dict(shape=(None, 2), order="C", device="cpu", writable=False)],
    shift: Annotated[NDArray[numpy.float64], dict(shape=(None, 2), order="C", device="cpu", writable=False)],
    down: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
    ],
    across: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
    ],
    threads: int = 1,
) -> None: ...
def know_face(
    known: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu")],
    slopes: Annotated[NDArray[numpy.float32], dict(shape=(6, None), order="C", device="cpu")],
    picture: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    cells: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    places: Annotated[NDArray[numpy.float32], dict(shape=(2, None), order="C", device="cpu", writable=False)],
) -> None: ...
def find_face(
    picture: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    places: Annotated[NDArray[numpy.float32], dict(shape=(2, None), order="C", device="cpu", writable=False)],
    known: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    slopes: Annotated[NDArray[numpy.float32], dict(shape=(6, None), order="C", device="cpu", writable=False)],
    weight: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    steps: int,
    small: float,
    large: float,
    unlike: float,
    noise: float,
    expected: tuple[float, float, float, float, float, float],
) -> tuple[float, float, float, float] | None: ...
def blurred(
    out: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")],
    maps: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
    ],
    sigma: float,
) -> None: ...
def read_light(
    out: Annotated[NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu")],
    seen: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    drawn: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    face: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    gain: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    near: float,
    reach: float,
    doubtful: float,
    least: float,
    most: float,
    prior: float,
    fewest: float,
) -> bool: ...
def agree(
    usual: Annotated[NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu")],
    varied: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
    shown: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
    error: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    face: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    usual_before: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    varied_before: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    shown_before: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    familiar: float,
    learnt: float,
    cover: float,
    uncover: float,
    near: float,
    unknown: float,
    known: float,
    varied_share: float,
    unsure: float,
) -> None: ...
def covered(
    out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
    change: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    drawn: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    near: float,
    darkest: float,
) -> None: ...
def reachable(
    out: Annotated[NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu")],
    change: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    missing: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    hidden: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    skin: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    near: float,
    most: float,
    sheer: float,
    begins: float,
    ends: float,
) -> None: ...
def strength(
    out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
    amplitude: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    near: float,
    least: float,
    share: float,
    sure: float,
) -> None: ...
def belonging(
    out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
    strong: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    amplitude: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    face: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    near: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    inside_from: float,
    inside_to: float,
    whole_from: float,
    whole_to: float,
) -> None: ...
def amounts(
    out: Annotated[NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu")],
    gain: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    limit: Annotated[
        NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu", writable=False)
    ],
    strong: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    belonging: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    agreement: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    window: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    flow: Annotated[
        NDArray[numpy.float32], dict(shape=(2, None, None), order="C", device="cpu", writable=False)
    ]
    | None,
    inside: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ]
    | None,
    far: float,
) -> None: ...
def _use_avx2(wanted: bool) -> bool: ...

class Synthesis:
    def __init__(
        self,
        w_dim: int,
        rows: int,
        constant: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        convolutions: Sequence[dict[str, Any]],
        rgbs: Sequence[dict[str, Any]],
        precision: str = "float32",
    ) -> None: ...
    def run(
        self,
        codes: Annotated[
            NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
        ],
        picture: Annotated[NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu")],
        threads: int = 1,
    ) -> None: ...
    def run_together(
        self,
        codes: Sequence[
            Annotated[
                NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
            ]
        ],
        pictures: Sequence[
            Annotated[NDArray[numpy.float32], dict(shape=(3, None, None), order="C", device="cpu")]
        ],
        threads: int = 1,
        rows: Callable[
            [Sequence[Annotated[NDArray[numpy.float32], dict(shape=(3, None, None), order="C")]]],
            tuple[int, int],
        ]
        | None = None,
    ) -> None: ...
    @property
    def size(self) -> int: ...
    @property
    def bytes(self) -> int: ...

def _use_avx512(arg: bool, /) -> bool: ...
def networks_available() -> bool: ...

class Encoder:
    def __init__(
        self,
        planes: int,
        size: int,
        w_dim: int,
        maps: Sequence[tuple[int, int]],
        steps: Sequence[dict[str, Any]],
        rows: Sequence[dict[str, Any]],
        precision: str = "float32",
    ) -> None: ...
    def run(
        self,
        crop: Annotated[
            NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
        ],
        codes: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
        threads: int = 1,
    ) -> None: ...
    @property
    def bytes(self) -> int: ...
