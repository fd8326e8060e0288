"""Teaches the encoder's backdrop by itself: from a thumbnail of the crop to the gradient behind the person.

No convolution is needed for that, so thousands of pictures a second can be seen: people before gradients of others, and before
anything else, for which the nearest radial gradient is the answer; through a camera's colors, which the gradient goes along with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from training.fit.networks.encoder import Encoder
from training.fit.people import augment
from training.fit.people.batches import Batches
from training.fit.people.data import batch
from training.fit.people.variants import Batch, Mirror, radial_share

_PIXELS = 32
_BATCH = 256
_RATE = 2e-3
_CLUTTERED = 0.4  # part of the people before anything but a gradient
_CLEAN = 0.3  # part of the pictures as they are


def learn(encoder: Encoder, batches: Batches, fractions: Iterable[float], report: Callable[..., None] = lambda **_: None) -> None:
    """Trains `encoder.backdrop` alone, one step for each of the growing `fractions` of the time there is (`clock.elapsing`)."""
    device, columns = batches.device, batches.backgrounds.columns
    rows = batches.people.everyone()
    parts = [batch(batches.people, part, _PIXELS) for part in rows.split(256)]
    known = {name: torch.cat([getattr(part, name) for part in parts]) for name in Batch.__dataclass_fields__}
    mirror = Mirror(batches.codec, device)
    optimizer = torch.optim.AdamW(encoder.backdrop.parameters(), lr=_RATE, weight_decay=0.01)
    steps, wrong = 0, torch.zeros(())
    for fraction in fractions:
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (0.5 * (1 + math.cos(math.pi * fraction)) + 1e-3)
        chosen = torch.randint(len(rows), (_BATCH,), device=device)
        people = mirror.some(Batch(**{name: values[chosen] for name, values in known.items()}))
        people = batches.backgrounds.some(people, 0.8)
        with torch.no_grad():
            thumbnail, features = _seen(people, batches, encoder.thumbnail)
            target = batches.codec.standardize(features)[:, columns]
        wrong = F.smooth_l1_loss(encoder.backdrop(thumbnail), target)
        optimizer.zero_grad(set_to_none=True)
        wrong.backward()
        optimizer.step()
        steps += 1
    report(event="backdrop", step=steps, loss=wrong.detach())


def _seen(people: Batch, batches: Batches, size: int) -> tuple[Tensor, Tensor]:
    """Thumbnails [n, 3 * size * size] and the raw features that go with them."""
    n, device = len(people.features), people.features.device
    cluttered = torch.rand(n, 1, 1, 1, device=device) < _CLUTTERED
    clutter = augment.backgrounds(people.photo)
    alpha = people.photo_alpha
    photo = torch.where(cluttered, people.photo * alpha + clutter * (1 - alpha), people.photo)
    nearest = nearest_gradient(clutter, 1 - alpha)
    features = torch.where(cluttered[:, 0, 0], batches.backgrounds.recolored(people.features, nearest), people.features)
    tilt = batches.backgrounds.columns[6]
    features[:, tilt] = torch.where(cluttered.flatten(), -1.0, features[:, tilt])
    mesh = torch.where(people.found[:, None, None], people.mesh, torch.zeros_like(people.mesh))
    crop, _ = batches.crops(photo, mesh, jitter=True)
    colors = batches.backgrounds.colors(features)
    tinted, told = augment.colors(augment.occlude(crop), colors)
    clean = torch.rand(n, 1, 1, 1, device=device) < _CLEAN
    crop = torch.where(clean, crop, tinted)
    features = batches.backgrounds.recolored(features, torch.where(clean[..., 0], colors, told))
    return F.avg_pool2d(crop, crop.shape[-1] // size).flatten(1), features


def nearest_gradient(pictures: Tensor, weight: Tensor) -> Tensor:
    """Inner and outer color [n, 3, 2] of the radial gradient (tilt 0) that is closest to pictures [n, 3, s, s].

    weight: [n, 1, s, s].
    """
    share = radial_share(pictures.shape[-1], pictures.device)
    basis = torch.stack([1 - share, share]).flatten(1)  # [2, s * s]
    weight = weight.flatten(1)
    gram = torch.einsum("ip,np,jp->nij", basis, weight, basis) + 1e-2 * weight.sum(1)[:, None, None] * torch.eye(
        2, device=pictures.device
    )
    wanted = torch.einsum("ip,np,ncp->nic", basis, weight, pictures.flatten(2))
    return torch.linalg.solve(gram + 1e-4 * torch.eye(2, device=pictures.device), wanted).transpose(1, 2).clamp(-1, 1)
