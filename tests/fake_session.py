"""A session made of a Python function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from doppelgan.runtime.backends.base import Array, TensorSpec, check_feeds


class FakeSession:
    """``function(feeds) -> outputs`` behind the Session interface; counts its calls."""

    backend = "fake"

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        function: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.calls = 0
        self.closed = False
        self._function = function

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        self.calls += 1
        results = dict(self._function(check_feeds(self.inputs, feeds, "fake")))
        for spec in self.outputs:
            value = np.asarray(results[spec.name], dtype=spec.dtype)
            assert value.shape == spec.shape, f"fake: expected {spec}, got {list(value.shape)}"
            if out and spec.name in out:
                out[spec.name][...] = value
                value = out[spec.name]
            results[spec.name] = value
        return results

    def close(self) -> None:
        self.closed = True
