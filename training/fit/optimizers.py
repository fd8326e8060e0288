"""Adam, and Muon beside it for whatever multiplies as a matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from training.fit.networks.precision import maps_dtype


class MuonAndAdam:
    """Orthogonalized momentum (Muon, Jordan 2024) for hidden matrices, Adam for all other parameters; both as one optimizer.

    A convolution's weights [1, O, I, k, k] are the matrix [O, I * k * k]. Muon's steps are scaled to the length of Adam's, so
    both have the rate of their group. Muon multiplies in bfloat16: where that is not fast, it would cost more than it gains, and
    Adam has everything.

    groups: like torch's, dicts with `params` (pairs of name and parameter) and `lr`.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float]) -> None:
        """betas: Adam's."""
        self._matrices: list[tuple[Tensor, Tensor]] = []  # a view as a matrix, and the parameter
        matrices, others = [], []
        for group in groups:
            named = list(group["params"])
            hidden = [p for name, p in named if _is_hidden_matrix(name, p)]
            views = [nn.Parameter(_as_matrix(p.detach())) for p in hidden]
            self._matrices += zip(views, hidden, strict=True)
            matrices.append({**group, "params": views})
            others.append({**group, "params": [p for name, p in named if not _is_hidden_matrix(name, p)]})
        self.parts: list[torch.optim.Optimizer] = [torch.optim.Adam(others, betas=betas, eps=1e-8, fused=True)]
        if self._matrices:
            self.parts.append(torch.optim.Muon(matrices, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)
        for _, parameter in self._matrices:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for matrix, parameter in self._matrices:
            matrix.grad = None if parameter.grad is None else parameter.grad.reshape(matrix.shape)
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {type(part).__name__: part.state_dict() for part in self.parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part in self.parts:
            part.load_state_dict(state[type(part).__name__])


def _is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Not biases, constants or what turns feature maps into colors."""
    fast = maps_dtype(parameter.device) != torch.float32
    return fast and name.endswith("weight") and ".to_rgb" not in f".{name}" and min(_as_matrix(parameter).shape) > 1


def _as_matrix(weight: Tensor) -> Tensor:
    """[O, I] as it is, [1, O, I, k, k] as [O, I * k * k]."""
    return weight[0].flatten(1) if weight.ndim == 5 else weight
