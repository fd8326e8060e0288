"""A judge that takes no part in the fit: pictures of renders -> their features, without landmarks.

The evaluation asks it whether an edit did what it should. It never sees the generator's pictures, nor the generator it.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fit.clock import Budget, orphaned
from training.fit.config import Plan
from training.fit.lessons.loop import decay
from training.fit.networks.encoder import Residual, convolution
from training.fit.networks.precision import fast_products
from training.fit.people import augment
from training.fit.people.data import People, picture
from training.fit.people.features import FeatureCodec
from training.fit.report import Log, half, save_tensors


class Regressor(nn.Module):
    """Picture [n, 3, s, s] in -1..1 -> standardized features [n, F]."""

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        self.settings = {"features": features, "size": size}
        self.small = min(size, 128)
        widths = (32, 64, 96, 128, 192)[: max(2, self.small.bit_length() - 3)]
        stages: list[nn.Module] = []
        before = 3
        for width in widths:
            stages += [convolution(before, width, 2), Residual(width)]
            before = width
        self.trunk = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.Dropout(0.1),
            nn.Linear(before * (self.small >> len(widths)) ** 2, 384),
            nn.ReLU(inplace=True),
            nn.Linear(384, features),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        if pictures.shape[-1] > self.small:
            pictures = F.avg_pool2d(pictures, pictures.shape[-1] // self.small)
        return self.head(self.trunk(pictures).flatten(1)).float()


def load_regressor(path: Path) -> Regressor:
    content = torch.load(path, map_location="cpu", weights_only=True)
    network = Regressor(**content["settings"])
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in content["regressor"].items()})
    return network.eval()


def run(plan: Plan, out: Path, cache: Path, budget: Budget, device: torch.device, seed: int) -> None:
    """Train it on the same renders (never the held-out ones), in a process of its own, late in the run."""
    while time.time() < budget.start and not orphaned():
        time.sleep(1)
    torch.manual_seed(seed + 2)
    np.random.seed(seed + 2)
    log = Log(out / "log-regressor.jsonl", job="regressor")
    codec = FeatureCodec.load(out / "features.npz").to(device)
    people = People(cache, plan.size, codec.count, plan.capacity, plan.held_out, device, ("photo",))
    people.wait(plan.start_people, plan.wait_minutes)
    network = Regressor(codec.count, plan.size).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    log(event="start", people=people.count)
    step, saved, loss = 0, time.monotonic(), torch.zeros(())
    while not budget.over and not orphaned():
        began = time.monotonic()
        rows = people.draw(plan.encoder.batch, plan.size)
        with torch.no_grad():
            seen = picture(people.natural, rows)
            turned = augment.jitter_matrix(len(rows), 0.01, 0.02, 0.02, device)
            seen, _ = augment.warp(seen, turned, people.mesh[rows])
            tinted, _ = augment.colors(seen, seen[:, :, 0, :0], 0.4)
            seen = torch.where(torch.rand(len(rows), 1, 1, 1, device=device) < 0.5, tinted, seen)
            seen = augment.noise(augment.low_resolution(augment.blur(seen)))
            target = codec.standardize(people.features[rows])
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * decay(budget.fraction, 0.4) * min(1.0, (step + 1) / 200)
        network.train()
        with fast_products(device):
            estimate = network(seen)
        loss = F.smooth_l1_loss(estimate, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        step += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
        time.sleep(min(1.0, time.monotonic() - began))  # half the accelerator is for the encoder
        if time.monotonic() - saved > plan.checkpoint_seconds:
            saved = time.monotonic()
            _save(network, out, people, codec, log, step, loss)
    _save(network, out, people, codec, log, step, loss)


@torch.no_grad()
def _save(network: Regressor, out: Path, people: People, codec: FeatureCodec, log: Log, step: int, loss: Tensor) -> None:
    """Store it, with its correlation r to the truth on held-out renders: what it cannot see it must not judge."""
    network.eval()
    rows = people.held_out_rows(1000)
    estimate = torch.cat([network(picture(people.natural, part)) for part in rows.split(64)])
    a, b = (x - x.mean(0) for x in (estimate, codec.standardize(people.features[rows])))
    r = (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0) + 1e-6)
    content = {"settings": network.settings, "regressor": half(network.state_dict()), "r": r.cpu()}
    save_tensors(out / "regressor.pt", content)
    log(step=step, loss=loss.detach(), mean_r=r.mean())
