"""A loss on what the tracker's own face-mesh network sees: eyes, lips and brows rather than pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from doppelgan.runtime.types import Floats
from torch import Tensor

from ..trackers.mesh_network import MeshNetwork, region_of

LEAST_PX = 128  # side of the pictures, below which the network, which looks at 192 px, sees only blur


@dataclass(frozen=True)
class Looks:
    """What the network sees of one face."""

    region: Tensor  # [1, 4]: center x, y, side, angle; units of the picture
    maps: tuple[Tensor, ...]  # [1, c, h, w] each, the finest first


class FaceFeatures:
    """Compares pictures of one pose by the network's feature maps; its weights are constants."""

    def __init__(self, network: MeshNetwork) -> None:
        self._network = network.eval()

    @classmethod
    def load(cls, landmarks: Path) -> FaceFeatures | None:
        """Of a bundle's ``landmarks.onnx``; None for a network with operators that it cannot run."""
        features = cls(MeshNetwork(landmarks))
        try:
            with torch.no_grad():
                features._network.study(torch.zeros(1, 3, 192, 192), torch.tensor([[0.5, 0.5, 1.0, 0.0]]))
        except NotImplementedError:
            return None
        return features

    @torch.no_grad()
    def looks(
        self,
        picture: Tensor,  # [1, 3, R, R], -1..1
        landmarks: Floats,  # [468, 3], units of the picture
    ) -> Looks:
        region = region_of(torch.from_numpy(landmarks)[None])
        return Looks(region, tuple(self._network.study(picture, region)[2]))

    def difference(self, drawn: Tensor, looks: Sequence[Looks]) -> Tensor:
        """Mean relative L1 of the maps of ``drawn`` [n, 3, s, s] to those of ``looks``, one for each."""
        regions = torch.cat([one.region for one in looks])
        _, _, maps = self._network.study(drawn, regions)
        real = [torch.cat(level) for level in zip(*(one.maps for one in looks), strict=True)]
        return torch.stack(
            [(a - b).abs().mean() / (b.abs().mean() + 1e-3) for a, b in zip(maps, real, strict=True)]
        ).mean()
