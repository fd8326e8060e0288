"""The one seam between doppelgan and inference engines.

A backend is a function ``open(path, ...) -> Session``. A session owns one network of fixed shapes:

``inputs``, ``outputs``  what it takes and gives, in order
``run(feeds, out)``      computes; writes into the arrays of ``out`` where given, else allocates
``close()``              releases the engine; closing twice is allowed

Sessions are used from one thread at a time. They keep no reference to arrays after ``run`` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError

Array = NDArray[Any]
# Pictures [3,s,s] of a coarser size -> which of their rows are worth drawing finer: first, end.
ChooseRows = Callable[[Sequence[Array]], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, NumPy dtype name and fixed shape of one tensor at a network's border."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} {list(self.shape)}"


@runtime_checkable
class Session(Protocol):
    """One network, ready to run."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def backend(self) -> str:
        """What computes, for people: ``onnxruntime CPU``, ``openvino CPU bf16`` ..."""
        ...

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Compute all outputs. feeds: one C-contiguous array per input, exact dtype and shape.

        ``out`` may name any of the outputs: those are written into its buffers (exact shape and dtype,
        C-contiguous), and the result holds these very arrays. The others are new arrays, the caller's own.
        Raises BackendError for a wrong name, dtype or shape.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class GeneratorSession(Session, Protocol):
    """A generator that draws several codes in one pass, at any of its resolutions."""

    @property
    def most_pictures(self) -> int:
        """How many codes it takes at once."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sides in pixels that can be asked for, ascending; the last is the network's own."""
        ...

    def run_together(
        self, codes: Sequence[Array], pictures: Sequence[Array], rows: ChooseRows | None = None
    ) -> None:
        """Codes [1,n_styles,w_dim] -> as many pictures [1,3,S,S], written; S is one of ``sizes``.

        rows: may be asked on the way; other rows than it chooses may be left as coarse as what it was shown.
        """
        ...


def check_feeds(specs: tuple[TensorSpec, ...], feeds: Mapping[str, Array], network: str) -> dict[str, Array]:
    """Feeds in the order of ``specs``, C-contiguous; BackendError if a name, dtype or shape is off."""
    if feeds.keys() != {spec.name for spec in specs}:
        raise BackendError(f"{network}: expected inputs {[spec.name for spec in specs]}, got {sorted(feeds)}")
    checked: dict[str, Array] = {}
    for spec in specs:
        array = feeds[spec.name]
        if array.dtype != np.dtype(spec.dtype) or array.shape != spec.shape:
            raise BackendError(
                f"{network}: expected {spec}, got {array.dtype} {list(array.shape)}; "
                "fixed-shape engines take one shape only"
            )
        checked[spec.name] = np.ascontiguousarray(array)
    return checked


def check_outputs(specs: tuple[TensorSpec, ...], out: Mapping[str, Array], network: str) -> None:
    """BackendError unless every buffer of ``out`` has its output's exact shape and dtype, C-contiguous."""
    for spec in specs:
        buffer = out.get(spec.name)
        if buffer is not None and (
            buffer.shape != spec.shape
            or buffer.dtype != np.dtype(spec.dtype)
            or not buffer.flags.c_contiguous
        ):
            raise BackendError(f"{network}: expected an output buffer {spec}, C-contiguous")
