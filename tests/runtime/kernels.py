"""What the tests of the C++ kernels share: both implementations, random pictures, fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime import native
from doppelgan.runtime.native import reference
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]

IMPLEMENTATIONS = [
    "numpy",
    pytest.param("native", marks=pytest.mark.skipif(native.KERNELS != "native", reason="not compiled")),
]
needs_native = pytest.mark.skipif(native.KERNELS != "native", reason="the C++ kernels are not compiled here")


def noise(rng: np.random.Generator, *shape: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def kernel(implementation: str, name: str) -> Any:
    return getattr(reference if implementation == "numpy" else native, name)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if "DOPPELGAN_SANITIZED" in os.environ:
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.hard.sanitized\n" + code
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONWARNINGS": "default", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,  # helper threads that wait for each other must fail, not hang
    )
