"""Fixtures of the runtime's tests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from doppelgan.runtime import native


@pytest.fixture(params=["avx2", "any processor"])
def instructions(request: pytest.FixtureRequest) -> Iterator[None]:
    """Once on the AVX2 path, where the processor has it, and once on the one for all processors."""
    wanted = request.param == "avx2"
    if native.loading.kernels._use_avx2(wanted) != wanted:
        pytest.skip("this processor has no AVX2")
    yield
    native.loading.kernels._use_avx2(True)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
