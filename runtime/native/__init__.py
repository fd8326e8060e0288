"""The passes over pixels outside the networks, in C++ where it was compiled and in NumPy everywhere else.

`warp_crop` makes a network's input from a frame; `paste` puts a network's output back, through a mask that
`soft_region` draws or on surroundings that `stretch` makes; `add_tile` is the watermark. `KERNELS` says which
implementation serves: "native" or "numpy". Both have the same contracts, and `reference` and
`reference_cells` define what they compute. Arrays must have exactly the stated dtype and be C-contiguous:
nothing is converted or copied behind the caller's back. DOPPELGAN_KERNELS=numpy in the environment chooses
NumPy without a warning.
"""

from __future__ import annotations

from . import loading, reference, reference_cells
from .cells import (
    agree,
    amounts,
    belonging,
    blurred,
    cell_means,
    covered,
    find_face,
    know_face,
    reachable,
    read_cells,
    read_light,
    strength,
)
from .edits import add_difference, difference, fade_pixels, lightened, spread
from .frames import add_tile, paste, soft_region, stretch, warp_crop
from .loading import KERNELS, THREADS, NativeKernelsMissing, encoder, synthesis
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
    "fade_pixels",
    "find_face",
    "know_face",
    "lightened",
    "loading",
    "paste",
    "reachable",
    "read_cells",
    "read_light",
    "reference",
    "reference_cells",
    "soft_region",
    "spread",
    "strength",
    "stretch",
    "synthesis",
    "warp_crop",
]
