"""A reader: small pictures -> features, so that something tells the directions what a picture shows.

The judge of the evaluation (`regressor.py`) is the examiner and is never read here; the reader is the teacher. The two are the
same kind of network, trained apart: on other renders where there are others, from another seed, at another size. The reader sees
both looks of rendered people, mirrored half of the time, and some of the generator's own pictures, whose features are known too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fit import augment
from training.fit.data import resize
from training.fit.features import FeatureCodec
from training.fit.generator import _decay
from training.fit.regressor import Regressor
from training.fit.report import half, save_tensors
from training.fit.variants import Mirror

SIZE = 64
_BATCH = 48
_MADE = 0.25  # part of a batch that the generator made
_OTHERS = 0.1  # weight of features that no edit is about
_HELD_OUT = 20
_TOLD_FROM = 40  # held-out pictures; what fewer say is chance
_RARE, _MORE = 6.0, 5.0  # who has a feature this many squared spreads from the mean is drawn twice as often; at most 1 + _MORE


@dataclass(frozen=True)
class Shown:
    """Pictures and the features they show: uint8 [n, 3, size, size], float32 [n, F]."""

    pictures: Tensor
    features: Tensor
    odds: Tensor | None = None  # of being drawn, float32 [n]; None: all alike

    def __len__(self) -> int:
        return len(self.pictures)

    def some(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures -1..1 [count, 3, size, size] and features [count, F], drawn with replacement."""
        odds = torch.ones(len(self)) if self.odds is None else self.odds
        rows = torch.multinomial(odds, count, replacement=True, generator=random)
        return self.pictures[rows].float() / 127.5 - 1, self.features[rows]


def rendered(folders: Sequence[Path], size: int, most: int = 20_000) -> tuple[Shown | None, Shown | None]:
    """Both looks of rendered people as (to learn from, held out); None where there are none.

    A folder that is not there yet, and a picture that cannot be read, are mentioned and left out.
    """
    from training.render.dataset import Dataset

    pictures: dict[bool, list[np.ndarray]] = {False: [], True: []}
    features: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for folder in folders:
        if not (folder / "dataset.json").exists():
            print(f"reader: {folder} has no renders yet", flush=True)
            continue
        people = Dataset(folder)
        for i in range(min(len(people), most)):
            try:
                looks = [people.natural(i), people.toon(i)]
            except (OSError, KeyError) as error:
                print(f"reader: person {people.indices[i]} is left out: {error}", flush=True)
                continue
            held = int(people.indices[i]) % _HELD_OUT == _HELD_OUT - 1
            pictures[held] += [resize(look, size).transpose(2, 0, 1) for look in looks]
            features[held] += [people.features[i]] * len(looks)
        people.close()
    found = [
        Shown(torch.from_numpy(np.stack(pictures[held])), torch.from_numpy(np.stack(features[held]))) if pictures[held] else None
        for held in (False, True)
    ]
    return found[0], found[1]


def load_reader(path: Path) -> Regressor:
    """From `reader.pt`, float32, ready to read. Raises FileNotFoundError."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    network = Regressor(**content["settings"])
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in content["regressor"].items()})
    return network.eval().requires_grad_(False)


def train_reader(
    codec: FeatureCodec,
    used: Sequence[int],  # columns of features that edits are about
    renders: tuple[Shown | None, Shown | None],
    made: Shown,  # by the generator
    seconds: float,
    seed: int,
    start: Regressor | None = None,
) -> tuple[Regressor, dict[str, Any]]:
    """Train for `seconds` of wall-clock time; returns the network and what it read how well (correlations r by feature name)."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    learned, held = renders
    if learned is not None:
        rare = codec.standardize(learned.features)[:, list(used)].square().amax(1)
        learned = replace(learned, odds=1 + (rare / _RARE).clamp(max=_MORE))
    size = made.pictures.shape[-1]
    network = start if start is not None and start.settings["size"] == size else Regressor(codec.count, size)
    network.train().requires_grad_(True)
    rate = 5e-4 if network is start else 1e-3
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
    mirror = Mirror(codec, torch.device("cpu"))
    weight = torch.full((codec.count,), _OTHERS)
    weight[list(used)] = 1.0
    weight /= weight.mean()
    share = _MADE if learned is not None else 1.0
    began, step, loss = time.monotonic(), 0, torch.zeros(())
    while (fraction := (time.monotonic() - began) / max(seconds, 1e-6)) < 1 or (step == 0 and start is None):
        pictures, features = made.some(round(share * _BATCH), random)
        if learned is not None:
            more, theirs = learned.some(_BATCH - len(pictures), random)
            pictures, features = torch.cat([more, pictures]), torch.cat([theirs, features])
        with torch.no_grad():
            flipped = torch.rand(len(pictures), 1) < 0.5
            pictures = torch.where(flipped[..., None, None], pictures.flip(3), pictures)
            features = torch.where(flipped, mirror.features(features), features)
            n, device = len(pictures), pictures.device
            turned = augment.jitter_matrix(n, 0.015, 0.02, 0.03, device)
            pictures, _ = augment.warp(pictures, turned, torch.zeros(n, 1, 3))
            pictures = torch.where(torch.rand(n, 1, 1, 1) < 0.4, augment.colours(pictures, 0.3), pictures)
            pictures = augment.noise(augment.low_resolution(pictures))
        for group in optimizer.param_groups:
            group["lr"] = rate * _decay(fraction, 0.4) * min(1.0, (step + 1) / 100)
        difference = F.smooth_l1_loss(network(pictures), codec.standardize(features), reduction="none")
        loss = (difference * weight).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        step += 1
    network.eval().requires_grad_(False)
    told = {"steps": step, "loss": float(loss.detach()), "renders": 0 if learned is None else len(learned)}
    return network, told | {"r": correlations(network, codec, held) if held is not None and len(held) >= _TOLD_FROM else {}}


@torch.no_grad()
def correlations(network: Regressor, codec: FeatureCodec, shown: Shown) -> dict[str, float]:
    """Between what it reads and the truth, by feature name: what it cannot see it cannot teach."""
    estimate = torch.cat([network(part.float() / 127.5 - 1) for part in shown.pictures.split(64)])
    a, b = (x - x.mean(0) for x in (estimate, codec.standardize(shown.features)))
    r = (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0) + 1e-6)
    return {name: round(float(value), 3) for name, value in zip(codec.names, r, strict=True)}


def save_reader(path: Path, network: Regressor) -> None:
    save_tensors(path, {"settings": network.settings, "regressor": half(network.state_dict())})
