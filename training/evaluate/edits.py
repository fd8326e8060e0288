"""Edits judged by a regressor that took no part in the fit: do they move what they should, and what do they drag along?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.edit import Editor

from training.fit.directions import attribute_value, attributes_of
from training.fit.lessons.regressor import Regressor
from training.fit.people.features import FeatureCodec

Floats = np.ndarray
STEPS = 7
_SLACK = 0.03  # of an attribute's natural spread: a step back by less is the reader's noise


class AttributeReader:
    """Pictures -> attribute values (0: low end, 1: high end)."""

    def __init__(self, regressor: Regressor, codec: FeatureCodec, names: list[str]) -> None:
        self.regressor, self.codec = regressor, codec
        self._attributes = attributes_of(codec.names)
        self.names = [name for name in names if name in self._attributes]

    @torch.no_grad()
    def __call__(self, pictures: Floats) -> np.ndarray:
        """[n, 3, R, R] -> [n, attributes]."""
        features = self.codec.features(self.regressor(torch.from_numpy(pictures).clamp(-1, 1)))
        return self.values(features)

    def values(self, features: torch.Tensor) -> np.ndarray:
        values = [attribute_value(self.codec, self._attributes[name], features) for name in self.names]
        return torch.stack(values, 1).numpy()


def measure_edits(bundle: Bundle, reader: AttributeReader, codes: Floats, population: torch.Tensor) -> dict[str, Any]:
    """codes [n, n_styles, w_dim]; population: raw features of many people, for natural spreads."""
    names = reader.names
    editor = Editor(bundle.directions, bundle.latent_avg)
    spread = reader.values(population).std(0) + 1e-6
    result: dict[str, Any] = {}
    monotone_all: list[float] = []
    leaks: list[float] = []
    for k, name in enumerate(names):
        direction = bundle.directions[name]
        low, high = direction.range
        strengths = np.linspace(low, high, STEPS)
        curves = np.empty((len(codes), STEPS, len(names)))
        for i, code in enumerate(codes):
            curves[i] = reader(np.concatenate([bundle.synthesize(editor.apply(code[None], {name: float(s)})) for s in strengths]))
        scaled = curves / spread
        steps = np.diff(scaled[:, :, k], axis=1)
        monotone = float((steps > -_SLACK).all(1).mean())
        moved = scaled[:, -1] - scaled[:, 0]
        own = float(np.abs(moved[:, k]).mean())
        dragged = {other: float(np.abs(moved[:, j].mean()) / max(own, 1e-6)) for j, other in enumerate(names) if j != k}
        worst = max(dragged, key=lambda other: dragged[other])
        result[name] = {
            "monotone": round(monotone, 3), "moves_in_spreads": round(own, 2),
            "mean_leak": round(float(np.mean(list(dragged.values()))), 3),
            "worst_leak": [worst, round(dragged[worst], 3)],
            "mean_curve": [round(float(v), 3) for v in curves[:, :, k].mean(0)],
        }  # fmt: skip
        monotone_all.append(monotone)
        leaks += list(dragged.values())
    return {
        "people": len(codes),
        "monotone": float(np.mean(monotone_all)),
        "leak": float(np.mean(leaks)),
        "directions": result,
    }


def measure_curve(
    bundle: Bundle,
    reader: AttributeReader,
    in_w: Floats,
    offsets: Floats,
    real: Floats,
    edits: tuple[str, ...] = ("age", "smile", "yaw", "gender"),
) -> list[dict[str, Any]]:
    """The editability / distortion curve.

    in_w, offsets [n, n_styles, w_dim]: the encoder's answer in W and what it adds to reach W+; real [n, 3, R, R] the pictures.
    Codes move from W (0) to W+ (1) and beyond, and toward the average (truncation below 1).
    """
    from training.fit.losses.pictures import psnr

    average, editor = bundle.latent_avg[None], Editor(bundle.directions, bundle.latent_avg)
    points = [("plus", s, in_w + np.float32(s) * offsets) for s in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)]
    full = in_w + offsets
    points += [("truncation", t, average + np.float32(t) * (full - average)) for t in (0.3, 0.5, 0.7, 0.85, 1.15, 1.3)]
    curve: list[dict[str, Any]] = []
    for kind, amount, codes in points:
        pictures = bundle.synthesize(codes)
        reconstruction = float(psnr(torch.from_numpy(pictures), torch.from_numpy(real)).mean())
        start = reader(pictures)
        effects, drags = [], []
        for name in edits:
            if name not in bundle.directions:
                continue
            k = reader.names.index(name)
            moved = reader(bundle.synthesize(editor.apply(codes, {name: 1.0}))) - start
            effects.append(float(moved[:, k].mean()))
            drags.append(float(np.abs(np.delete(moved, k, 1)).mean()) / max(abs(effects[-1]), 1e-3))
        curve.append(
            {
                "kind": kind,
                "amount": amount,
                "psnr_db": reconstruction,
                "effect": float(np.mean(effects)),
                "drag": float(np.mean(drags)),
            }
        )
    return curve
