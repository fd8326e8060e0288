"""Held-out renders: how well the generator explains them from true features, and the encoder from their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from doppelgan.runtime.bundle import Bundle

from training.fit.losses.mesh import MeshNetwork
from training.fit.losses.pictures import ms_ssim, psnr
from training.fit.networks.stylegan2 import Mapping
from training.fit.people.augment import aligned_matrix, warp
from training.fit.people.features import FeatureCodec
from training.fit.people.older import in_terms_of
from training.render.data.dataset import Dataset

Floats = np.ndarray


class HeldOut:
    """The people that training never saw, with their crops and meshes as the live pipeline would have them.

    Their features are told in the terms of the list `names`.
    """

    def __init__(self, folder: Path, mesh: Path, size: int, most: int, names: Sequence[str]) -> None:
        people = Dataset(folder)
        told = in_terms_of(names, people.feature_names, torch.from_numpy(people.features))
        rows = people.split()[1][:most]
        network = MeshNetwork(mesh).eval()
        self.photo, self.toon, self.crops, self.landmarks, self.features = [], [], [], [], []
        for i in rows:
            picture = _tensor(people.natural(i), size)
            with torch.no_grad():
                points, score = network(picture)
            if float(score) < 0.5:
                continue
            crop, moved = warp(picture, aligned_matrix(points), points)
            self.photo.append(picture)
            self.toon.append(_tensor(people.toon(i), size))
            self.crops.append(crop.numpy())
            self.landmarks.append((moved * size - torch.tensor([0.5, 0.5, 0.0])).numpy())
            self.features.append(told[i])
        self.missed = len(rows) - len(self.photo)

    def __len__(self) -> int:
        return len(self.photo)


def _tensor(picture: np.ndarray, size: int) -> torch.Tensor:
    tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    if tensor.shape[-1] != size:
        tensor = torch.nn.functional.interpolate(tensor, size=(size, size), mode="area")
    return tensor


def true_codes(codec: FeatureCodec, mapping: Mapping, features: torch.Tensor, n_styles: int) -> Floats:
    """Raw features [n, F] -> codes [n, n_styles, w_dim]."""
    with torch.no_grad():
        w = mapping.skip_norm(codec.quiet_z(codec.standardize(features)))
    return np.ascontiguousarray(w[:, None].expand(-1, n_styles, -1).numpy())


def measure_renders(bundle: Bundle, codec: FeatureCodec, mapping: Mapping, held_out: HeldOut) -> dict[str, Any]:
    values: dict[str, list[float]] = {}

    def note(name: str, pictures: Floats, real: torch.Tensor) -> None:
        tensor = torch.from_numpy(pictures)
        values.setdefault(f"{name}_psnr_db", []).append(float(psnr(tensor, real)))
        values.setdefault(f"{name}_ms_ssim", []).append(float(ms_ssim(tensor, real)))

    for photo, toon, crop, landmarks, features in zip(
        held_out.photo, held_out.toon, held_out.crops, held_out.landmarks, held_out.features, strict=True
    ):
        codes = true_codes(codec, mapping, features[None], bundle.n_styles)
        note("generator_photo", bundle.synthesize(codes), photo)
        note("generator_toon", bundle.synthesize(codes, "toon"), toon)
        note("encoder_photo", bundle.synthesize(bundle.encode(crop, landmarks=landmarks)), photo)
    result: dict[str, Any] = {name: round(float(np.mean(numbers)), 4) for name, numbers in values.items()}
    return {"people": len(held_out), "without_a_mesh": held_out.missed, **result}
