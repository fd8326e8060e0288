"""Tuning the demo's photo generator on one picture for ten seconds (pivotal tuning, Roich et al. 2021)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from doppelgan.export.networks.reader import SynthesisFile
from doppelgan.runtime import open_bundle
from doppelgan.runtime.measure.network_inputs import sample_codes
from torch.nn import functional as F

from training.fit.losses.pictures import pyramid_l1, structure

from .card import Card
from .turns import Notes

SECONDS = 10.0


def run(notes: Notes, rehearse: bool) -> None:
    card = Card()
    device = torch.device("cpu" if rehearse else "cuda")
    with open_bundle("demo", compiled=False) as bundle:
        file = bundle.path / bundle.manifest.networks["synthesis"].file
        tuned = SynthesisFile(file).module().to(device)
        codes = sample_codes(bundle, 2, seed=7)
        picture = bundle.synthesize(codes[:1])[0]
    real = torch.from_numpy(np.clip(picture, -1, 1)[None]).to(device)
    code = torch.from_numpy(codes[1:2].copy()).to(device)  # another person's: there is something to learn
    offset = torch.zeros_like(code, requires_grad=True)
    groups: list[dict[str, Any]] = [{"params": list(tuned.parameters())}, {"params": [offset]}]
    optimizer = torch.optim.Adam(groups, lr=2e-3, betas=(0.9, 0.99))
    full = real.shape[-1]
    mask = {size: torch.ones(1, 1, size, size, device=device) for size in (full // 4, full // 2, full)}
    for size in mask:  # kernels are chosen before the clock runs
        tuned(code, size=size).mean().backward()
    notes.wait_for_turn()

    def psnr() -> float:
        with torch.no_grad():
            error = F.mse_loss(tuned(code + offset), real)
        return round(float(10 * torch.log10(4 / error)), 2)

    before, joules = psnr(), card.joules()
    seconds = 2.0 if rehearse else SECONDS
    start, steps, reached = time.perf_counter(), 0, {}
    while (done := (time.perf_counter() - start) / seconds) < 1:
        rate = 2e-3 * min(1, steps / 30) * (0.475 * (1 + np.cos(np.pi * done)) + 0.05)
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate, 2.5 * rate
        size = full // 4 if done < 0.15 else full // 2 if done < 0.5 else full
        target = F.interpolate(real, size=size, mode="area")
        drawn = tuned(code + offset, size=size)
        loss = pyramid_l1(drawn, target, mask[size]) / 4 + 0.5 * structure(drawn, target, full)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        if steps % 50 == 0:
            reached[steps] = psnr()
    if device.type == "cuda":
        torch.cuda.synchronize()
    end = card.joules()
    notes.add(
        "enrollment", seconds=round(time.perf_counter() - start, 1), steps=steps, psnr_before_db=before,
        psnr_after_db=psnr(), reached=reached,
        joules=None if joules is None or end is None else round(end - joules, 1),
    )  # fmt: skip
