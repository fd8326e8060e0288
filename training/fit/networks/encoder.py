"""The encoder's network, small enough for every frame of a live video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

READING_MOTION = ("mesh", "eyes", "eyes_out", "motion")
"""The parts of an encoder that motion comes from. Looks are read from the eyes, too."""

_REACH = 6.0


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(channels, channels), nn.Conv2d(channels, channels, 3, 1, 1, bias=False))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.body(x)))


class Encoder(nn.Module):
    """A real person's crop and face mesh -> W+.

    Three looks: the whole crop at half size (hair, skin, beard, glasses ...), the strip with the eyes at full size (lids,
    gaze), and the 468 mesh points (pose, mouth, brows, face shape). Motion features are read from mesh and eyes alone, which
    cross from renders to photographs; the rest may see everything. The estimate goes through the generator's own mapping
    network, so any answer is a plausible person; a small offset per W+ row adds what features cannot say.
    """

    landmark_mean: Tensor  # [points * 3]
    landmark_scale: Tensor
    order: Tensor  # [features], back to the features' own
    backdrop_columns: Tensor  # [backdrop, features], one-hot

    def __init__(
        self,
        size: int,  # of the crop, pixels
        motion: Sequence[int],  # columns of the features that change within a video
        features: int,
        n_styles: int,
        w_dim: int,
        widths: Sequence[int] = (24, 48, 96, 128, 160),
        depths: Sequence[int] = (0, 1, 2, 2, 1),
        points: int = 468,
        thumbnail: int = 0,  # pixels
        backdrop: Sequence[int] = (),  # columns of the features that the thumbnail alone tells
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "size": size, "motion": list(motion), "features": features, "n_styles": n_styles, "w_dim": w_dim,
            "widths": list(widths), "depths": list(depths), "points": points,
            "thumbnail": thumbnail, "backdrop": list(backdrop),
        }  # fmt: skip
        self.size, self.n_styles, self.w_dim = size, n_styles, w_dim
        stages: list[nn.Module] = []
        before = 3
        for width, depth in zip(widths, depths, strict=True):
            stages += [convolution(before, width, 2), *(Residual(width) for _ in range(depth))]
            before = width
        self.trunk = nn.Sequential(*stages)
        self.trunk_out = nn.Sequential(nn.Linear(before * (size >> (len(widths) + 1)) ** 2, 256), nn.ReLU(inplace=True))

        # Colors, and roughly where they are, need no depth.
        self.thumbnail = thumbnail
        if thumbnail:
            self.colors = nn.Sequential(nn.Linear(3 * thumbnail * thumbnail, 128), nn.ReLU(inplace=True))

        if backdrop:
            self.backdrop = nn.Sequential(
                nn.Linear(3 * thumbnail * thumbnail, 256), nn.ReLU(inplace=True), nn.Linear(256, len(backdrop))
            )
            self.register_buffer("backdrop_columns", F.one_hot(torch.tensor(backdrop), features).float())

        # Rows and columns where the FFHQ square holds the eyes.
        self.strip = (int(0.375 * size), int(0.5625 * size), int(0.1875 * size), int(0.8125 * size))
        self.eyes = nn.Sequential(
            convolution(3, 16, 2), convolution(16, 32, 2), convolution(32, 32), convolution(32, 48, 2), convolution(48, 64, 2)
        )
        with torch.no_grad():
            top, bottom, left, right = self.strip
            flat = self.eyes.eval()(torch.zeros(1, 3, bottom - top, right - left)).numel()
        self.eyes_out = nn.Sequential(nn.Linear(flat, 96), nn.ReLU(inplace=True))

        self.register_buffer("landmark_mean", torch.zeros(points * 3))
        self.register_buffer("landmark_scale", torch.ones(points * 3))
        self.mesh = nn.Sequential(nn.Linear(points * 3, 192), nn.ReLU(inplace=True), nn.Linear(192, 192), nn.ReLU(inplace=True))
        self.mesh_shape = nn.Sequential(nn.Linear(points * 3, 96), nn.ReLU(inplace=True))

        still = [i for i in range(features) if i not in set(motion)]
        order = torch.tensor([*motion, *still]).argsort()
        self.register_buffer("order", order)
        self.motion = nn.Sequential(nn.Linear(192 + 96, 256), nn.ReLU(inplace=True), nn.Linear(256, len(motion)))
        seen = 256 + 96 + 96 + (128 if thumbnail else 0)
        self.still = nn.Sequential(nn.Linear(seen, 384), nn.ReLU(inplace=True), nn.Linear(384, len(still)))
        self.offset = nn.Sequential(nn.Linear(256 + 96 + 192 + 96, 96), nn.ReLU(inplace=True), nn.Linear(96, n_styles * w_dim))
        last = self.offset[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def set_landmark_statistics(self, landmarks: Tensor) -> None:
        """landmarks [n, 468, 3] in crop pixels."""
        unit = self._unit(landmarks)
        self.landmark_mean.copy_(unit.mean(0))
        self.landmark_scale.copy_(1 / (unit.std(0) + 0.02))

    def _unit(self, landmarks: Tensor) -> Tensor:
        return landmarks.flatten(1) * (2 / self.size)

    def forward(self, crop: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """crop [n,3,S,S] -1..1, landmarks [n,468,3] crop pixels -> standardized features [n,F], offsets [n,n_styles,w_dim]."""
        top, bottom, left, right = self.strip
        look = self.trunk_out(self.trunk(F.avg_pool2d(crop, 2)).flatten(1))
        eyes = self.eyes_out(self.eyes(crop[:, :, top:bottom, left:right]).flatten(1))
        points = ((self._unit(landmarks) - self.landmark_mean) * self.landmark_scale).to(look.dtype)
        mesh, shape = self.mesh(points), self.mesh_shape(points)
        motion = self.motion(torch.cat([mesh, eyes], 1))
        seen = [look, shape, eyes]
        small = F.avg_pool2d(crop, self.size // self.thumbnail).flatten(1) if self.thumbnail else None
        if small is not None:
            seen.append(self.colors(small))
        still = self.still(torch.cat(seen, 1))
        estimate = torch.cat([motion, still], 1)[:, self.order]
        if small is not None and self.settings["backdrop"]:
            elsewhere = 1 - self.backdrop_columns.sum(0)
            estimate = estimate * elsewhere + self.backdrop(small) @ self.backdrop_columns
        # Nobody is further than a few deviations from everybody else, whatever the camera shows.
        estimate = _REACH * torch.tanh(estimate / _REACH)
        offset = self.offset(torch.cat([look, shape, mesh, eyes], 1)).reshape(-1, self.n_styles, self.w_dim)
        return estimate.float(), offset.float()
