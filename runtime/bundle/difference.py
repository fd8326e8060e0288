"""A tuned network as its difference from the one it was tuned from: a quarter of the size.

The difference of every constant that changed is stored in 31 levels, which compress to some four bits, with
one scale for each entry of its first axis; what is small (biases, noise) in float16. Arrays of an ``.npz``,
by the name of the constant::

    NAME         int8 or float16, of the constant's shape
    NAME.scale   float32 [first axis]: what an int8 step is; absent beside float16

Both files must be the same graph: the difference is added to the numbers, and everything else is the base's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..backends.native.onnx_file import Array, parse_graph, with_constants
from ..errors import BundleError

LEVELS = 15  # steps either way: 63 dB from the tuned picture, finer than a screen shows, in 60 % of the size
SMALL = 4096  # numbers, up to which a constant's difference is stored in float16
_SCALE = ".scale"


def difference(
    base: bytes,  # an ONNX file
    tuned: bytes,  # the same graph with other numbers
) -> dict[str, Array]:
    """The arrays to store. Raises BundleError if the files are not the same graph."""
    old, new = parse_graph(base, "base").constants, parse_graph(tuned, "tuned").constants
    if {k: v.shape for k, v in old.items()} != {k: v.shape for k, v in new.items()}:
        raise BundleError("difference: expected two files of one graph, got other constants; enroll again")
    arrays: dict[str, Array] = {}
    for name, before in old.items():
        if before.dtype.kind != "f" or np.array_equal(before, new[name]):
            continue
        change = new[name].astype(np.float32) - before.astype(np.float32)
        if change.size <= SMALL:
            arrays[name] = change.astype(np.float16)
            continue
        rows = change.reshape(len(change), -1)
        scale = np.maximum(np.abs(rows).max(axis=1), 1e-12) / LEVELS
        arrays[name] = np.rint(rows / scale[:, None]).astype(np.int8).reshape(change.shape)
        arrays[name + _SCALE] = scale.astype(np.float32)
    return arrays


def with_difference(
    base: bytes,  # an ONNX file
    arrays: Mapping[str, Array],  # as from `difference`; others than the graph's constants are left alone
) -> bytes:
    """The tuned network again, up to rounding of the difference. Raises BundleError if it does not fit."""
    stored = parse_graph(base, "base").constants
    changed: dict[str, Array] = {}
    for name, before in stored.items():
        if name not in arrays:
            continue
        change = arrays[name].astype(np.float32)
        scale = arrays.get(name + _SCALE)
        if change.shape != before.shape or (scale is not None and scale.shape != before.shape[:1]):
            raise BundleError(
                f"difference: expected {list(before.shape)} for {name!r}, got {list(change.shape)}; "
                "it belongs to another base"
            )
        if scale is not None:
            change *= scale.reshape(-1, *[1] * (change.ndim - 1))
        changed[name] = before.astype(np.float32) + change
    return with_constants(base, changed, "base")
