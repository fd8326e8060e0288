"""More people from the same renders: mirrored, and before the background of somebody else. Features go along."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.fit.people.features import FeatureCodec

_TURNED = ("yaw", "roll", "gaze_x", "hair_part", "light_azimuth_sin", "hand_x")
"""Features whose sign tells left from right."""


@dataclass(frozen=True)
class Batch:
    """People to train on: their pictures belong to their features.

    features   float32 [n, F]                        photo, toon   float32 [n, 3, size, size], -1..1
    region     float32 [n, 4] of the face (`mesh.region_of`): center x, y, side, angle; units of the picture
    mesh       float32 [n, 468, 3] in the photo, units of the picture; in a mirrored picture right points lie left
    found      bool [n], whether there is such a mesh
    """

    features: Tensor
    photo: Tensor
    toon: Tensor
    photo_alpha: Tensor  # [n, 1, size, size], 0..1
    toon_alpha: Tensor
    region: Tensor
    mesh: Tensor
    found: Tensor


class Mirror:
    """Which features change places and which change sign when a picture is seen in a mirror."""

    def __init__(self, codec: FeatureCodec, device: torch.device) -> None:
        column = {name: i for i, name in enumerate(codec.names)}
        order = list(range(codec.count))
        for name, i in column.items():
            for side, other in (("Left", "Right"), ("Right", "Left"), ("=left", "=right"), ("=right", "=left")):
                if name.endswith(side):
                    order[i] = column[name.removesuffix(side) + other]
        sign = torch.ones(codec.count)
        sign[[column[name] for name in _TURNED if name in column]] = -1
        self.order, self.sign = torch.tensor(order, device=device), sign.to(device)

    def features(self, features: Tensor) -> Tensor:
        return features[:, self.order] * self.sign

    def some(self, batch: Batch, chance: float = 0.5, alike: int = 1) -> Batch:
        """Mirrors each person with that chance; the same ones in each of `alike` parts of the batch."""
        chosen = _chosen(batch, chance, alike)

        def pick(flipped: Tensor, kept: Tensor) -> Tensor:
            return torch.where(chosen.reshape(-1, *[1] * (kept.ndim - 1)), flipped, kept)

        region = batch.region * batch.region.new_tensor([-1, 1, 1, -1]) + batch.region.new_tensor([1, 0, 0, 0])
        mesh = batch.mesh * batch.mesh.new_tensor([-1, 1, 1]) + batch.mesh.new_tensor([1, 0, 0])
        return Batch(
            features=pick(self.features(batch.features), batch.features),
            photo=pick(batch.photo.flip(3), batch.photo),
            toon=pick(batch.toon.flip(3), batch.toon),
            photo_alpha=pick(batch.photo_alpha.flip(3), batch.photo_alpha),
            toon_alpha=pick(batch.toon_alpha.flip(3), batch.toon_alpha),
            region=pick(region, batch.region),
            mesh=pick(mesh, batch.mesh),
            found=batch.found,
        )


def _chosen(batch: Batch, chance: float, alike: int) -> Tensor:
    """bool [n]: each with that chance, the same in each of `alike` parts of the batch."""
    return (torch.rand(len(batch.features) // alike, device=batch.features.device) < chance).repeat(alike)


def radial_share(size: int, device: torch.device) -> Tensor:
    """How much of a radial background is its outer color [size, size], 0..1."""
    line = _middle(size, device)
    return (torch.hypot(line[None, :], line[:, None] + 0.05) * 1.5).clamp(0, 1)


def _middle(size: int, device: torch.device) -> Tensor:
    """Centers of pixels [size], -0.5..0.5 of the picture."""
    return (torch.arange(size, device=device) + 0.5) / size - 0.5


class Backgrounds:
    """Gives people each other's backgrounds; the renderer's are two-color gradients behind a stored alpha."""

    def __init__(self, codec: FeatureCodec, device: torch.device) -> None:
        names = [f"background_{ring}_{channel}" for ring in ("inner", "outer") for channel in "rgb"]
        self.columns = torch.tensor([codec.column(name) for name in (*names, "background_tilt")], device=device)

    def colors(self, features: Tensor) -> Tensor:
        """Inner and outer color [n, 3, 2], -1..1, of raw features."""
        return features[:, self.columns[:6]].unflatten(1, (2, 3)).transpose(1, 2)

    def recolored(self, features: Tensor, colors: Tensor) -> Tensor:
        """The same people before a gradient of other colors [n, 3, 2]."""
        features = features.clone()
        features[:, self.columns[:6]] = colors.transpose(1, 2).flatten(1)
        return features

    def gradient(self, features: Tensor, size: int) -> Tensor:
        """The background [n, 3, size, size], -1..1, of raw features: radial for tilt 0, top to bottom for tilt 1."""
        values = features[:, self.columns]
        inner, outer, tilt = values[:, :3, None, None], values[:, 3:6, None, None], (values[:, 6] + 1)[:, None, None, None] / 2
        down = _middle(size, features.device)[:, None] + 0.5
        share = (1 - tilt) * radial_share(size, features.device) + tilt * down
        return inner * (1 - share) + outer * share

    def some(self, batch: Batch, chance: float = 0.5, alike: int = 1) -> Batch:
        """With that chance a person gets the background of the one before; the same ones in each of `alike` parts of a batch."""
        size = batch.photo.shape[-1]
        chosen = _chosen(batch, chance, alike)[:, None]
        features = batch.features.clone()
        features[:, self.columns] = torch.where(chosen, features[:, self.columns].roll(1, 0), features[:, self.columns])
        change = self.gradient(features, size) - self.gradient(batch.features, size)
        return Batch(
            features=features,
            photo=(batch.photo + change * (1 - batch.photo_alpha)).clamp(-1, 1),
            toon=(batch.toon + change * (1 - batch.toon_alpha)).clamp(-1, 1),
            photo_alpha=batch.photo_alpha,
            toon_alpha=batch.toon_alpha,
            region=batch.region,
            mesh=batch.mesh,
            found=batch.found,
        )


class Rarity:
    """How much more often a person is drawn than others: open mouths and glasses are few, and all the harder to draw."""

    def __init__(self, codec: FeatureCodec, extra: float) -> None:
        self.extra = extra
        self.jaw = codec.column("jawOpen") if "jawOpen" in codec.names else None
        self.bare = codec.column("glasses=none") if "glasses=none" in codec.names else None

    def odds(self, features: Tensor) -> Tensor:
        """Raw features [n, F] -> odds [n], 1 for most people, up to 1 + 2 * extra."""
        odds = torch.ones(len(features), device=features.device)
        if self.jaw is not None:
            odds += self.extra * (features[:, self.jaw] / 0.4).clamp(0, 1)
        if self.bare is not None:
            odds += self.extra * self.glasses(features).float()
        return odds

    def glasses(self, features: Tensor) -> Tensor:
        """Who wears glasses: bool [n]."""
        if self.bare is None:
            return torch.zeros(len(features), dtype=torch.bool, device=features.device)
        return features[:, self.bare] < 0.5
