"""People nobody rendered, as an earlier generator draws them: what it learned from thousands who are gone is not forgotten.

Generative replay (Shin 2017). Its pictures of strangers are less exact than renders, and soft: they go along at low resolution.
"""

from __future__ import annotations

import torch

from training.fit.directions import sampled_features
from training.fit.lessons.mapping import Earlier
from training.fit.losses.mesh import USUAL_REGION
from training.fit.networks.stylegan2 import Synthesis
from training.fit.people.features import FeatureCodec
from training.fit.people.variants import Batch

UP_TO = 64  # pixels
PEOPLE = 20_000
_FIRST = 40_000_000  # their numbers begin where no data set's and no sketch's are


class Rehearsal:
    """Draws batches of such people."""

    def __init__(
        self, earlier: Earlier, looks: dict[str, Synthesis], codec: FeatureCodec, device: torch.device, people: int
    ) -> None:
        """looks: "photo" and "toon", of any width of w; codec: what the learner is told."""
        self.looks = looks
        self.features = torch.from_numpy(sampled_features(people, _FIRST, codec.names)).to(device)
        self.codes = earlier.codes(codec.names, self.features)

    @torch.no_grad()
    def draw(self, n: int, size: int, dtype: torch.dtype = torch.float32) -> Batch:
        """n of them at `size` pixels."""
        rows = torch.randint(len(self.features), (n,), device=self.features.device)
        codes = self.codes[rows]
        drawn = {
            name: look(codes[:, None].expand(-1, look.n_styles, -1), size, dtype).clamp(-1, 1)
            for name, look in self.looks.items()
        }
        covered = torch.ones_like(drawn["photo"][:, :1])
        mesh = codes.new_zeros(n, 468, 3)
        return Batch(
            self.features[rows],
            **drawn,
            photo_alpha=covered,
            toon_alpha=covered,
            region=codes.new_tensor(USUAL_REGION).expand(n, 4),
            mesh=mesh,
            found=torch.zeros(n, dtype=torch.bool, device=codes.device),
        )


def joined(one: Batch, other: Batch) -> Batch:
    """Both batches, one after the other."""
    return Batch(**{name: torch.cat([getattr(one, name), getattr(other, name)]) for name in Batch.__dataclass_fields__})
