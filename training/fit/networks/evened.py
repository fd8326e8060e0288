"""Codes of even spread: what is told by little of w is learned as quickly as what is told by much.

Pose and light make up most of a code's variance, age and gender a few percent of it; a step of the optimizer moves what depends
on them accordingly less. So while the mapping network rests, a generator may learn on principal components of w, each over its
own spread, and is written back in terms of w afterwards: the same function of the same codes (preconditioning, LeCun 1998).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EvenedCodes(nn.Module):
    """w [..., w_dim] <-> evened [..., w_dim]; the identity until `fit`."""

    into: Tensor  # [w_dim, w_dim]
    back: Tensor
    mean: Tensor  # [w_dim]

    def __init__(self, w_dim: int) -> None:
        super().__init__()
        self.register_buffer("into", torch.eye(w_dim))
        self.register_buffer("back", torch.eye(w_dim))
        self.register_buffer("mean", torch.zeros(w_dim))

    @torch.no_grad()
    def fit(self, w: Tensor, least: float) -> None:
        """w [n, w_dim] of people. Components whose variance is below `least` stay weak: hardly anything is told by them."""
        mean = w.double().mean(0)
        apart = w.double() - mean
        variance, axes = torch.linalg.eigh(apart.T @ apart / len(w))
        spread = (variance.clamp(min=0) + least).sqrt()
        whole = (apart.square().sum(1).mean() / (variance.clamp(min=0) / spread.square()).sum()).sqrt()  # as long as before
        self.into.copy_(axes / spread * whole)
        self.back.copy_((axes * spread / whole).T)
        self.mean.copy_(mean)

    def forward(self, w: Tensor) -> Tensor:
        return (w - self.mean) @ self.into
