"""Compare an exported network with the module it was made from, and refuse what differs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from doppelgan.runtime.drift import psnr_db
from doppelgan.runtime.errors import ParityError
from doppelgan.runtime.manifest import Parity
from numpy.typing import NDArray

# Two float32 programs that sum in different orders agree to some 1e-6; a wrong constant shows above 1e-3.
TOLERANCE = 1e-4


def compare(
    step: str,  # what was done, "torch float32 -> onnxruntime"
    reference: NDArray[np.floating],
    got: NDArray[np.floating],  # same shape
    *,
    tolerance: float = TOLERANCE,  # on the relative L2 distance
    image: bool = False,  # a picture nominally in -1..1: report the PSNR too
    samples: int = 1,
) -> Parity:
    """Measure; see :func:`require` for the verdict. Raises ValueError if the shapes differ."""
    if reference.shape != got.shape:
        raise ValueError(f"{step}: expected shape {list(reference.shape)}, got {list(got.shape)}")
    a, b = np.asarray(reference, np.float64), np.asarray(got, np.float64)
    norm = float(np.linalg.norm(a))
    distance = float(np.linalg.norm(a - b))
    return Parity(
        step=step,
        max_abs=float(np.abs(a - b).max(initial=0.0)),
        relative_l2=distance / norm if norm > 0 else distance,
        tolerance=tolerance,
        psnr_db=psnr_db(distance**2 / a.size) if image else None,
        samples=samples,
    )


def require(network: str, parity: Parity) -> Parity:
    """Return ``parity`` if it is within its tolerance. Raises ParityError otherwise, also for NaN."""
    if parity.relative_l2 <= parity.tolerance:
        return parity
    raise ParityError(
        f"network {network!r}, {parity.step}: expected a relative L2 distance of at most "
        f"{parity.tolerance:.0e}, "
        f"got {parity.relative_l2:.1e} (largest difference {parity.max_abs:.1e}); nothing was written: "
        "update torch and onnxruntime, or report this checkpoint's layout"
    )


def compare_all(
    network: str,
    step: str,
    reference: Mapping[str, NDArray[np.floating]],  # output name -> array
    got: Mapping[str, NDArray[np.floating]],
    *,
    tolerance: float = TOLERANCE,
    samples: int = 1,
) -> tuple[Parity, ...]:
    """Compare and require every output; the step of a network with several names the output too."""
    results = []
    for name, array in reference.items():
        if not np.isfinite(array).all():
            raise ParityError(
                f"network {network!r}, output {name!r}: expected finite numbers, got NaN or infinity from "
                "the network itself: weights so large that they overflow; take another checkpoint"
            )
        label = step if len(reference) == 1 else f"{step}, {name}"
        parity = compare(label, array, got[name], tolerance=tolerance, image=name == "image", samples=samples)
        results.append(require(network, parity))
    return tuple(results)
