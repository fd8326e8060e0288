"""The bundle that a person is enrolled into: its encoder's codes, its generator as a module, codes nearby."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.edit.editor import Editor, row_groups
from doppelgan.runtime.encode import IdentityLock
from doppelgan.runtime.errors import BundleError
from doppelgan.runtime.types import Crop, Floats

from ..networks.reader import SynthesisFile
from .features import FaceFeatures
from .material import Sample

STYLE = "photo"  # the generator that is tuned; a bundle without one of that name: its first
_CODES_OF_OTHERS = 8  # whose motion near codes are made of, where there are samples


@dataclass(frozen=True)
class Read:
    """The person as the encoder reads them."""

    codes: Floats  # [k, n_styles, w_dim], one for each sample
    appearance: Floats | None  # [1, a]: what an encoder with a memory starts from; None without one
    pivot: Floats  # [1, n_styles, w_dim]: the code of the first sample


class Base:
    """An opened bundle that can be enrolled into. Raises BundleError where something is missing."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        if bundle.manifest.encoder is None:
            raise BundleError(
                f"{bundle.path}: expected a bundle with an encoder to enroll into, got a generator only; "
                "export it together with a pSp, e4e or ReStyle checkpoint, or use -b demo"
            )
        for network in ("detector", "landmarks"):
            if network not in bundle.manifest.networks:
                raise BundleError(
                    f"{bundle.path}: expected face trackers ({network}), got none; export the bundle again"
                )
        self.style = STYLE if STYLE in bundle.styles else bundle.styles[0]
        self.network = bundle.manifest.generators[self.style]
        self.file = SynthesisFile(bundle.path / bundle.manifest.networks[self.network].file)

    def read(self, samples: Sequence[Sample], of: int | None = None) -> Read:
        """Codes of all samples with one appearance, the mean of the first ``of`` (None: of all)."""
        encoder = self.bundle.encoder
        size = encoder.appearance_size
        appearance: Floats | None = None
        if size:
            found = []
            for sample in samples[:of]:
                lock = IdentityLock(size)
                self._encode(sample.crop, lock)
                found.append(lock.memory)
            appearance = np.asarray(np.mean(found, axis=0), np.float32)
        codes = [
            self._encode(sample.crop, None if appearance is None else IdentityLock(size, start=appearance))
            for sample in samples
        ]
        return Read(np.concatenate(codes), appearance, codes[0])

    def features(self) -> FaceFeatures | None:
        """What the face-mesh network of this bundle sees; None where torch cannot run it."""
        return FaceFeatures.load(self.bundle.path / self.bundle.manifest.networks["landmarks"].file)

    def _encode(self, crop: Crop, lock: IdentityLock | None) -> Floats:
        encoder = self.bundle.encoder
        landmarks = crop.landmarks[None] if encoder.takes_landmarks else None
        return encoder(crop.pixels, landmarks=landmarks, lock=lock).copy()

    def near(self, pivot: Floats, count: int, seed: int = 0) -> torch.Tensor:
        """Codes near the pivot [count, n_styles, w_dim]: edits at random strengths, alone and in pairs.

        A bundle without directions: steps toward random people, in the rows that shape and move a face.
        """
        random = np.random.default_rng(seed)
        bundle, codes = self.bundle, []
        names = list(bundle.directions)
        editor = Editor(bundle.directions, bundle.latent_avg)
        for i in range(count):
            if names:
                picks = [names[i % len(names)]]
                if random.random() < 0.5:
                    picks.append(names[int(random.integers(len(names)))])
                edits = {name: float(random.uniform(*bundle.directions[name].range)) for name in picks}
                codes.append(editor.apply(pivot, edits))
                continue
            step = self._random_step(random)
            code = pivot.copy()
            first, last = row_groups(bundle.n_styles)["coarse"][0], row_groups(bundle.n_styles)["middle"][1]
            code[:, first:last] += 0.3 * step
            codes.append(code)
        return torch.from_numpy(np.concatenate(codes))

    def _random_step(self, random: np.random.Generator) -> Floats:
        bundle = self.bundle
        if "mapping" in bundle.manifest.networks:
            z = random.standard_normal((2, bundle.manifest.z_dim)).astype(np.float32)
            first, second = bundle.map(z)
            return np.asarray(first - second, np.float32)
        spread = bundle.latent.get("w_std", np.float32(1))
        return np.asarray(random.standard_normal(bundle.w_dim) * spread, np.float32)
