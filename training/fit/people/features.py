"""Between feature vectors of people and the z space of the generator.

A feature vector x [F] is standardized (``y = (x - mean) / scale``), rotated and shrunk to uncorrelated coordinates, and
padded with slack coordinates so that every z has the same length, sqrt(z_dim)::

    z = [ (y @ basis) / spread  |  slack ],   |z|^2 = z_dim

The mapping network begins with PixelNorm, which divides by that length: with the slack it loses nothing, and a standard
normal z, once normalized, looks like the z of a person. The slack's direction is random and means nothing: `conditioning`,
the matrix between PixelNorm and the first mapping layer, drops it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

_SCALE_FLOOR = 0.1  # features that hardly ever move are not blown up to unit variance
_SHRINK = 0.05  # added to the variance of each uncorrelated coordinate, for the same reason

# How much of a picture a feature decides, by group: a prior that keeps few people from being learned by heart.
_WEIGHTS = {
    "identity": 0.8, "hair": 1.5, "color": 2.0, "beard": 1.2, "glasses": 1.5, "expression": 1.2, "pose": 3.0, "gaze": 1.2,
    "light": 2.0, "background": 3.0, "clothing": 1.0, "occluder": 1.5,
}  # fmt: skip
_WEIGHTS_BY_NAME = {
    "age": 1.2, "gender": 1.2, "jawOpen": 1.5, "roll": 0.7, "skin_melanin": 3.0, "exposure": 2.5,
    "hair_color_r": 2.5, "hair_color_g": 2.5, "grey": 2.0,
    "iris_r": 0.5, "iris_g": 0.5, "iris_b": 0.5, "lipstick": 0.7, "lipstick_color_r": 0.4, "lipstick_color_g": 0.4,
    "lipstick_color_b": 0.4, "brow_color_r": 0.8, "brow_color_g": 0.8, "brow_color_b": 0.8,
}  # fmt: skip

_CHOICES = ("hair", "beard", "glasses", "covering", "hand")  # told as `hair=long`, `hair=bald` ...: one of them is 1
_RESOLVE = 4.0  # power by which an estimated chance of 0.6 becomes 0.8, and of 0.3 nearly nothing


class FeatureCodec(torch.nn.Module):
    """Feature vectors <-> z. The numbers are buffers, so the codec travels inside checkpoints."""

    mean: torch.Tensor  # [F]
    scale: torch.Tensor  # [F]
    basis: torch.Tensor  # [F, F] orthonormal columns
    spread: torch.Tensor  # [F]

    def __init__(self, names: Sequence[str], groups: Mapping[str, Sequence[int]], z_dim: int) -> None:
        super().__init__()
        if z_dim <= len(names):
            raise ValueError(f"z_dim: expected more than the {len(names)} features, got {z_dim}")
        self.names = tuple(names)
        self.groups = {group: [int(i) for i in columns] for group, columns in groups.items()}
        self.z_dim = z_dim
        choices = [[i for i, name in enumerate(names) if name.startswith(f"{choice}=")] for choice in _CHOICES]
        self._choices = [columns for columns in choices if columns]
        count = len(names)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("scale", torch.ones(count))
        self.register_buffer("basis", torch.eye(count))
        self.register_buffer("spread", torch.ones(count))

    @property
    def count(self) -> int:
        return len(self.names)

    def columns(self, *groups: str) -> list[int]:
        return sorted(column for group in groups for column in self.groups.get(group, []))

    def columns_outside(self, group: str) -> list[int]:
        inside = set(self.columns(group))
        return [column for column in range(self.count) if column not in inside]

    def column(self, name: str) -> int:
        return self.names.index(name)

    def fit(self, features: np.ndarray) -> FeatureCodec:
        """Measure mean, scale and correlations on features [n, F]."""
        features = np.asarray(features, np.float64)
        mean = features.mean(0)
        scale = np.sqrt(features.var(0) + _SCALE_FLOOR**2)
        standardized = (features - mean) / scale
        variance, basis = np.linalg.eigh(standardized.T @ standardized / max(1, len(features)))
        spread = np.sqrt(np.maximum(variance, 0) + _SHRINK)
        for name, value in (("mean", mean), ("scale", scale), ("basis", basis), ("spread", spread)):
            getattr(self, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
        return self

    def standardize(self, features: torch.Tensor) -> torch.Tensor:
        """x [..., F] -> y [..., F], about unit variance."""
        return (features - self.mean) / self.scale

    def features(self, standardized: torch.Tensor) -> torch.Tensor:
        """y [..., F] -> x [..., F]."""
        return standardized * self.scale + self.mean

    def decided(self, standardized: torch.Tensor) -> torch.Tensor:
        """y [n, F] as estimated -> y [n, F] with a style of hair, of beard and of glasses decided on.

        An estimate in doubt is an average, and a generator draws it as one: pale rims around the eyes of somebody who may wear
        glasses, or may not.
        """
        columns = [column for choice in self._choices for column in choice]
        if not columns:
            return standardized
        rest = sorted(set(range(self.count)).difference(columns))
        chance = standardized[:, columns] * self.scale[columns] + self.mean[columns]
        chance = chance.clamp(min=1e-3) ** _RESOLVE
        together = torch.block_diag(*[chance.new_ones(len(choice), len(choice)) for choice in self._choices])
        decided = (chance / (chance @ together) - self.mean[columns]) / self.scale[columns]
        order = np.argsort([*rest, *columns]).tolist()
        return torch.cat([standardized[:, rest], decided], 1)[:, order]

    def coordinates(self, standardized: torch.Tensor) -> torch.Tensor:
        """y [..., F] -> the first F coordinates of z."""
        return standardized @ self.basis / self.spread

    def z(self, standardized: torch.Tensor, slack: torch.Tensor | None = None) -> torch.Tensor:
        """y [n, F] -> z [n, z_dim] of length sqrt(z_dim); the slack's direction is `slack` [n, z_dim - F] or random."""
        known = self.coordinates(standardized)
        if slack is None:
            slack = torch.randn(len(known), self.z_dim - self.count, device=known.device)
        square = known.square().sum(1, keepdim=True)
        most = self.z_dim - 1.0
        known = known * torch.clamp(most / square, max=1).sqrt()
        length = (self.z_dim - square.clamp(max=most)).sqrt()
        return torch.cat([known, torch.nn.functional.normalize(slack, dim=1) * length], 1)

    def conditioning(self) -> torch.Tensor:
        """[z_dim, z_dim]: from z to standardized features times the weight of their group; slack is dropped."""
        weight = torch.ones(self.count)
        for group, value in _WEIGHTS.items():
            weight[self.groups.get(group, [])] = value
        for name, value in _WEIGHTS_BY_NAME.items():
            if name in self.names:
                weight[self.column(name)] = value
        weight = weight / weight.square().mean().sqrt()
        matrix = torch.zeros(self.z_dim, self.z_dim)
        # y = coordinates * spread @ basis.T
        matrix[: self.count, : self.count] = (weight[:, None] * self.basis.cpu()) * self.spread.cpu()
        return matrix

    def quiet_z(self, standardized: torch.Tensor) -> torch.Tensor:
        """y [n, F] -> z [n, z_dim] without slack, for a mapping network that skips PixelNorm."""
        known = self.coordinates(standardized)
        return torch.nn.functional.pad(known, (0, self.z_dim - self.count))

    def widened(self, z_dim: int) -> FeatureCodec:
        """The same features with room for more slack, or less."""
        codec = FeatureCodec(self.names, self.groups, z_dim)
        codec.load_state_dict(self.state_dict())
        return codec.to(self.mean.device)

    def description(self) -> dict[str, object]:
        return {"names": list(self.names), "groups": self.groups, "z_dim": self.z_dim}

    def save(self, path: Path) -> None:
        """As .npz: float32 arrays and the JSON description."""
        arrays: dict[str, Any] = {name: buffer.cpu().numpy() for name, buffer in self.named_buffers()}
        np.savez(path, description=np.array(json.dumps(self.description())), **arrays)

    @classmethod
    def load(cls, path: Path) -> FeatureCodec:
        with np.load(path, allow_pickle=False) as stored:
            codec = cls(**json.loads(str(stored["description"])))
            for name, buffer in codec.named_buffers():
                buffer.copy_(torch.from_numpy(stored[name]))
        return codec
