"""What a face tracker sees in a picture, compared: meshes, and where in a picture a mesh has eyes, brows and mouth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from doppelgan.export.trackers.mesh_network import (
    LEFT_EYE_OUTER,
    RIGHT_EYE_OUTER,
    USUAL_REGION,
    MeshNetwork,
    region_of,
)
from torch import Tensor

__all__ = [
    "USUAL_REGION",
    "MeshFinder",
    "MeshNetwork",
    "attention",
    "head_axes",
    "mesh_difference",
    "region_of",
]

_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 78, 95, 88, 178, 87, 14, 317, 402, 318,
    324, 308, 185, 40, 39, 37, 0, 267, 269, 270, 409, 191, 80, 81, 82, 13, 312, 311, 310, 415,
)  # fmt: skip
_LIDS = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
         263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)  # fmt: skip
_BROWS = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
_LID_GAPS = ((159, 145), (158, 153), (160, 144), (386, 374), (385, 380), (387, 373))
_MOUTH_GAPS = ((13, 14), (82, 87), (312, 317), (61, 291))
_BROW_GAPS = ((70, 33), (105, 33), (66, 133), (300, 263), (334, 263), (296, 362))  # to the corners of the eye, which stay
_GAPS = (*_LID_GAPS, *_MOUTH_GAPS, *_BROW_GAPS)

# What expressions hardly move, as the runtime reads a head's pose: right and left of the person; forehead and under the nose.
_RIGHTS, _LEFTS = (33, 133, 127, 234, 162, 21, 54, 93), (263, 362, 356, 454, 389, 251, 284, 323)
_TOP, _BASE = (10, 109, 338, 151), (2, 98, 327, 94)

_FRAMES = (1.0, 1.0, 1.5, 2.2)  # a glass next to an eye: center x, y, width, height


def head_axes(mesh: Tensor) -> Tensor:
    """Mesh [n, 468, 3] -> [n, 3, 3]: rows are the head's own left, down and back, as in `doppelgan.runtime.track.expression`."""
    across = (mesh[:, list(_LEFTS)] - mesh[:, list(_RIGHTS)]).sum(1)
    down = mesh[:, list(_BASE)].mean(1) - mesh[:, list(_TOP)].mean(1)
    x = F.normalize(across, dim=1)
    y = F.normalize(down - x * (x * down).sum(1, keepdim=True), dim=1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], 1)


def mesh_difference(got: Tensor, wanted: Tensor, found: Tensor) -> Tensor:
    """How far two meshes [n, 468, 3] differ, in eye distances: contours, above all how far eyes and mouth open and brows rise.

    And where the heads look, whose depth no contour shows. `found` [n] is how much each face counts.
    """
    scale = (wanted[:, LEFT_EYE_OUTER, :2] - wanted[:, RIGHT_EYE_OUTER, :2]).norm(dim=1).clamp(min=0.1)[:, None]
    difference = (got - wanted)[..., :2].abs().sum(2) / scale
    weight = torch.ones(difference.shape[1], device=got.device)
    weight[[*_LIPS, *_LIDS]] = 4.0
    weight[list(_BROWS)] = 2.0
    contours = ((difference * weight).mean(1) * found).mean()
    a, b = [p for p, _ in _GAPS], [q for _, q in _GAPS]
    gaps = [(mesh[:, a, :2] - mesh[:, b, :2]).norm(dim=2) / scale for mesh in (got, wanted)]
    counts = got.new_ones(len(_GAPS))
    counts[: len(_LID_GAPS)] = 2.0  # they are the smallest
    apertures = (((gaps[0] - gaps[1]).abs() * counts).mean(1) * found).mean()
    backs = [head_axes(mesh)[:, 2] for mesh in (got, wanted)]
    turns = ((backs[0] - backs[1])[:, :2].abs().sum(1) * found).mean()
    return 2.0 * contours + 9.0 * apertures + 2.0 * turns


def attention(mesh: Tensor, found: Tensor, size: int, extra: float, glasses: Tensor | None = None) -> Tensor:
    """[n, 1, size, size], mean 1: where a mesh [n, 468, 3] has eyes, brows and mouth counts `extra` times more.

    Without a mesh (`found` [n] is False) the places are those of a face that looks straight ahead. The eyes of those who wear
    `glasses` (bool [n]) reach as far as the frames.
    """
    spots = []
    for points, usual, reach in (
        (_LIDS[:16], (0.375, 0.47, 0.085, 0.055), (0.55, 0.55)),
        (_LIDS[16:], (0.625, 0.47, 0.085, 0.055), (0.55, 0.55)),
        (_BROWS[:10], (0.36, 0.40, 0.09, 0.035), (0.4, 0.35)),
        (_BROWS[10:], (0.64, 0.40, 0.09, 0.035), (0.4, 0.35)),
        (_LIPS, (0.5, 0.725, 0.13, 0.085), (0.55, 0.6)),
    ):
        xy = mesh[:, list(points), :2]
        low, high = xy.amin(1), xy.amax(1)
        least = mesh.new_tensor([0.035, 0.03])
        spot = torch.cat([(low + high) / 2, torch.maximum((high - low) * mesh.new_tensor(reach), least)], 1)
        spot = torch.where(found[:, None], spot, mesh.new_tensor(usual))
        if glasses is not None and points[0] in (_LIDS[0], _LIDS[16]):
            spot = spot * torch.where(glasses[:, None], spot.new_tensor(_FRAMES), spot.new_tensor(1.0))
        spots.append(spot)
    line = (torch.arange(size, device=mesh.device) + 0.5) / size
    near = torch.zeros(len(mesh), size, size, device=mesh.device)
    for spot in spots:
        x, y, width, height = (value[:, None] for value in spot.T)
        across, down = torch.exp(-(((line - x) / width) ** 2)), torch.exp(-(((line - y) / height) ** 2))
        near = torch.maximum(near, down[:, :, None] * across[:, None, :])
    weight = 1 + extra * near
    return (weight / weight.mean((1, 2), keepdim=True))[:, None]


class MeshFinder:
    """NumPy front for ingestion: RGB uint8 [n, S, S, 3] -> mesh float32 [n, 468, 3], score float32 [n]."""

    def __init__(self, path: Path) -> None:
        self.network = MeshNetwork(path).eval()

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        if batch.shape[-1] < 128:
            batch = F.interpolate(batch, size=(192, 192), mode="bilinear", align_corners=False)
        mesh, score = self.network(batch)
        return mesh.numpy(), score.numpy()
