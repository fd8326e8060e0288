"""A checkpoint's tensors by name, taken out one by one with the shape that each must have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from doppelgan.runtime.errors import CheckpointError


class TensorTable(Mapping[str, torch.Tensor]):
    """Named float tensors of one network.

    ``what`` is how messages call the network ("generator", "encoder"), ``source`` names the file.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], what: str, source: str) -> None:
        self._tensors = dict(tensors)
        self.what = what
        self.source = source

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def under(self, prefix: str, what: str | None = None) -> TensorTable:
        """The entries whose name starts with ``prefix``, without it."""
        inner = {k[len(prefix) :]: v for k, v in self._tensors.items() if k.startswith(prefix)}
        return TensorTable(inner, what or self.what, self.source)

    def indices(self, pattern: str) -> list[int]:
        """The distinct numbers that ``pattern`` (one group) matches at the start of a name, sorted."""
        matches = (re.match(pattern, name) for name in self._tensors)
        return sorted({int(m.group(1)) for m in matches if m})

    def require_finite(self) -> None:
        """Check every float tensor at once.

        Raises CheckpointError naming the first that holds NaN or infinity, or a variance below 0.
        """
        for name, tensor in self._tensors.items():
            if tensor.is_floating_point():
                require_finite(tensor, f"{self.source}: {self.what} tensor {name!r}")
                if name.endswith("running_var") and bool((tensor < 0).any()):
                    raise CheckpointError(
                        f"{self.source}: {self.what} tensor {name!r}: expected variances of 0 or more, "
                        "got negative ones; the file is damaged: take the original file"
                    )

    def take(self, name: str, *shape: int | None) -> torch.Tensor:
        """Entry ``name`` as float32; ``None`` in ``shape`` admits any size of that axis.

        Raises CheckpointError if it is absent, is no float tensor, holds NaN or has another shape.
        """
        tensor = self.peek(name, len(shape))
        got = list(tensor.shape)
        if any(want is not None and want != have for want, have in zip(shape, got, strict=True)):
            want_text = "[" + ", ".join("*" if n is None else str(n) for n in shape) + "]"
            raise CheckpointError(
                f"{self.source}: {self.what} tensor {name!r}: expected shape {want_text}, got {got}; "
                "the file is damaged or mixes two models: take the original file"
            )
        value = tensor.detach().to(torch.float32)
        return require_finite(value, f"{self.source}: {self.what} tensor {name!r}")

    def peek(self, name: str, n_axes: int) -> torch.Tensor:
        """Entry ``name`` as stored, checked for presence and number of axes only."""
        if name not in self._tensors:
            raise CheckpointError(
                f"{self.source}: {self.what}: expected a tensor {name!r}, "
                f"got none among {len(self)} entries; "
                "the file is incomplete or of another architecture: take the original checkpoint"
            )
        tensor = self._tensors[name]
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            kind = str(tensor.dtype) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise CheckpointError(
                f"{self.source}: {self.what} entry {name!r}: expected a float tensor, got {kind}; "
                "the file is damaged: take the original checkpoint"
            )
        if tensor.ndim != n_axes:
            raise CheckpointError(
                f"{self.source}: {self.what} tensor {name!r}: expected {n_axes} axes, "
                f"got shape {list(tensor.shape)}; "
                "the file is of another architecture: take a StyleGAN2 or pSp-family checkpoint"
            )
        return tensor


def require_finite(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """``tensor``, which must be finite as float32; CheckpointError calls it ``name``."""
    value = tensor.detach().to(torch.float32)
    # The sum of finite numbers is finite unless it overflows, and takes a fraction of the time.
    if bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all()):
        return tensor
    raise CheckpointError(
        f"{name}: expected finite numbers, got NaN or infinity; "
        "the training that wrote it diverged or the file is damaged: take another checkpoint"
    )
