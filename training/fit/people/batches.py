"""What the encoder learns from: renders as somebody's camera would show them, and people whom the generator draws."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.fit.config import Plan
from training.fit.losses.mesh import MeshNetwork
from training.fit.networks.precision import maps_dtype
from training.fit.networks.stylegan2 import Mapping, Synthesis
from training.fit.people import augment
from training.fit.people.data import People, averaged_down, picture
from training.fit.people.features import FeatureCodec
from training.fit.people.variants import Backgrounds

Batch = dict[str, Tensor]
"""crop       float32 [n, 3, size, size], -1..1, what the encoder sees       landmarks  float32 [n, 468, 3], crop pixels
target     float32 [n, F], standardized features                           replaced   bool [n], whether the background is
real       float32 [n, 3, s, s], the picture to draw                                 not the target's
counts     float32 [n, 1, s, s], where that matters                        mesh       float32 [n, 468, 3] in it; found bool [n]
"""


class Batches:
    """Draws batches from rendered people."""

    def __init__(self, people: People, codec: FeatureCodec, plan: Plan, meshes: MeshNetwork | None, device: torch.device) -> None:
        self.people, self.codec, self.plan, self.lesson, self.meshes, self.device = (
            people, codec, plan, plan.encoder, meshes, device,
        )  # fmt: skip
        self.dtype = maps_dtype(device)
        self.backgrounds = Backgrounds(codec, device)
        self.eligible: dict[int, np.ndarray] = {}
        self.refresh()

    def refresh(self) -> None:
        """Rows to train on by the size they were rendered at: those whose mesh was found (or all, without a mesh network)."""
        score = self.people.score[: self.people.count].cpu().numpy()
        rows = self.people.everyone().cpu().numpy()
        good = rows[(score[rows] > 0.5) | (score[rows] < 0)]
        chosen = good if len(good) else rows
        sizes = self.people.sizes[chosen].clip(max=self.plan.size)  # larger ones are stored at this size
        self.eligible = {int(size): chosen[sizes == size] for size in np.unique(sizes)}

    def features(self) -> Batch:
        """People of every size, as many of each size in every batch: normalization should not tell sizes apart."""
        return _joined([self.renders(count, rows) for count, rows in self._shares(self.lesson.features_batch, self.eligible)])

    def pictures(self, mapping: Mapping, photo: Synthesis) -> tuple[Batch, int]:
        """People at full size, some of them drawn by the generator; then smaller ones, who have no `real`. And how many have."""
        whole = max(self.eligible)
        if whole < self.plan.size:
            raise ValueError(
                f"expected some people rendered at {self.plan.size} px, whose pictures can be compared; the largest have "
                f"{whole} px (render more with `python -m training.render --size {self.plan.size}`)"
            )
        invented = int(self.lesson.batch * self.lesson.invented) if self.meshes is not None else 0
        parts = [self.renders(self.lesson.batch - invented, self.eligible[whole])]
        if invented:
            parts.append(self.inventions(invented, self.eligible[whole], mapping, photo))
        smaller = {size: rows for size, rows in self.eligible.items() if size < whole}
        others = [self.renders(count, rows) for count, rows in self._shares(self.lesson.batch, smaller)]
        shown = {name: torch.cat([part[name] for part in parts]) for name in ("real", "counts", "mesh", "found")}
        return {**_joined([*parts, *others]), **shown}, self.lesson.batch

    def _shares(self, n: int, eligible: dict[int, np.ndarray]) -> list[tuple[int, np.ndarray]]:
        roots = {size: len(rows) ** 0.5 for size, rows in eligible.items()}
        return [(max(1, round(n * roots[size] / sum(roots.values()))), rows) for size, rows in eligible.items()]

    def crops(self, pictures: Tensor, mesh: Tensor, jitter: bool) -> tuple[Tensor, Tensor]:
        """As the live pipeline would crop these pictures, give or take; landmarks in crop pixels."""
        n = len(pictures)
        found = mesh.abs().sum((1, 2)) > 0
        whole = torch.eye(2, 3, device=self.device).expand(n, 2, 3)
        safe = torch.where(found[:, None, None], mesh, torch.rand_like(mesh))
        matrix = torch.where(found[:, None, None], augment.aligned_matrix(safe), whole)
        if jitter:
            matrix = augment.compose(matrix, augment.jitter_matrix(n, 0.012, 0.03, 0.03, self.device))
        crop, moved = augment.warp(pictures, matrix, mesh)
        if jitter:
            moved = augment.jitter_mesh(moved)
        moved = torch.where(found[:, None, None], moved, mesh)
        return crop, crop_pixels(moved, self.plan.size)

    @torch.no_grad()
    def renders(self, n: int, eligible: np.ndarray) -> Batch:
        """n of the eligible people, all rendered at one size; small ones are enlarged as a small face in a big frame is."""
        rows = torch.from_numpy(np.random.choice(eligible, n)).to(self.device)
        own = min(self.plan.size, int(self.people.sizes[eligible[0]]))
        # Twice its own size is all that a small picture needs while it goes through the camera.
        work = min(self.plan.size, 2 * own)
        real = _resized(picture(self.people.natural, rows, own), work)
        alpha = _resized(averaged_down(self.people.alpha[rows][:, None].float() / 255, own), work).clamp(min=0)
        replaced = torch.rand(n, 1, 1, 1, device=self.device) < self.lesson.other_background
        seen = torch.where(replaced, real * alpha + augment.backgrounds(real) * (1 - alpha), real)
        crop, landmarks = self.crops(seen, self.people.mesh[rows], jitter=True)
        crop, features, tinted = self._through_camera(crop, self.people.features[rows])
        counts = torch.where(replaced | tinted[:, None, None, None], alpha, torch.ones_like(alpha))
        return {
            "crop": _resized(crop, self.plan.size), "landmarks": landmarks, "real": real, "counts": counts,
            "mesh": self.people.mesh[rows], "target": self.codec.standardize(features),
            "replaced": replaced.flatten(), "found": self.people.score[rows] > 0.5,
        }  # fmt: skip

    @torch.no_grad()
    def inventions(self, n: int, eligible: np.ndarray, mapping: Mapping, photo: Synthesis) -> Batch:
        """The generator's pictures of one person's looks with another's motion."""
        assert self.meshes is not None
        rows, others = (torch.from_numpy(np.random.choice(eligible, n)).to(self.device) for _ in range(2))
        target = self.codec.standardize(self.people.features[rows])
        motion = self.codec.columns("motion")
        target[:, motion] = self.codec.standardize(self.people.features[others])[:, motion]
        w = mapping.skip_norm(self.codec.quiet_z(target))
        real = photo(w[:, None].expand(-1, photo.n_styles, -1), dtype=self.dtype).clamp(-1, 1)
        mesh, score = self.meshes(real)
        crop, landmarks = self.crops(real, mesh, jitter=True)
        crop, features, tinted = self._through_camera(crop, self.codec.features(target))
        return {
            "crop": crop, "landmarks": landmarks, "real": real,
            # Where their background ends nobody knows: before another one, the picture has no say.
            "counts": (~tinted)[:, None, None, None] * torch.ones_like(real[:, :1]), "mesh": mesh, "found": score > 0.5,
            "target": self.codec.standardize(features), "replaced": torch.zeros(n, dtype=torch.bool, device=self.device),
        }  # fmt: skip

    def _through_camera(self, crop: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the camera makes of a crop, and of its background in the raw features; and whose that is, bool [n].

        A background is what is seen of it. Of a person, the features are what they are in good light.
        """
        before = self.backgrounds.colors(features)
        crop, after = augment.camera(crop, before)
        return crop, self.backgrounds.recolored(features, after), (after != before).flatten(1).any(1)


def _joined(parts: list[Batch]) -> Batch:
    """What every person has, who need not be drawn at the same size."""
    return {name: torch.cat([part[name] for part in parts]) for name in ("crop", "landmarks", "target", "replaced")}


def _resized(pictures: Tensor, size: int) -> Tensor:
    """Enlarged smoothly; a larger picture stays as it is."""
    if pictures.shape[-1] >= size:
        return pictures
    return F.interpolate(pictures, size=(size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def crop_pixels(mesh: Tensor, size: int) -> Tensor:
    """Units of the picture -> pixels with their centers at integers."""
    shift = torch.tensor([0.5, 0.5, 0.0], device=mesh.device)
    return mesh * size - shift
