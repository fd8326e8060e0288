"""What tells the background of a crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.config import PLANS
from training.fit.lessons import backdrop
from training.fit.networks.encoder import Encoder
from training.fit.people import stub, variants
from training.fit.people.batches import Batches
from training.fit.people.features import FeatureCodec
from training.fit.run import measure_features
from training.render.person import features, sampling

from .small import pool


def test_the_nearest_gradient_is_found_around_a_person() -> None:
    torch.manual_seed(6)
    known = np.stack([features.encode(sampling.sample_person(number)) for number in range(8)])
    codec = FeatureCodec(features.FEATURES, features.GROUPS, 512).fit(known)
    gradients = variants.Backgrounds(codec, torch.device("cpu"))
    radial = torch.from_numpy(known)
    radial[:, gradients.columns[6]] = -1
    pictures, behind = gradients.gradient(radial, 32), torch.ones(8, 1, 32, 32)
    pictures[:, :, 8:, 8:24], behind[:, :, 8:, 8:24] = 1, 0
    found = backdrop.nearest_gradient(pictures, behind)
    assert torch.allclose(found[..., 1], gradients.colors(radial)[..., 1], atol=0.08)
    assert (found - gradients.colors(radial)).abs().mean() < 0.08


def test_a_backdrop_is_told_by_a_thumbnail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    plan = PLANS["smoke"]
    stub.write(tmp_path / "people", 40, 32)
    codec = measure_features(tmp_path / "people", plan)
    batches = Batches(pool(tmp_path, "people"), codec, plan, None, torch.device("cpu"))
    columns = codec.columns("background")
    network = Encoder(32, [0], codec.count, 4, 8, (8, 8), (0, 0), thumbnail=16, backdrop=columns)
    monkeypatch.setattr(backdrop, "_BATCH", 64)  # with four times as many it learns no more from these people
    backdrop.learn(network, batches, np.linspace(0, 1, 100, endpoint=False))
    others = torch.from_numpy(
        np.stack([features.encode(sampling.sample_person(n)) for n in range(9000, 9050)])
    )
    seen = batches.backgrounds.gradient(others, 32)
    with torch.no_grad():
        told = network.eval()(seen, torch.zeros(50, 468, 3))[0][:, columns]
    wanted = codec.standardize(others)[:, columns]
    r = np.corrcoef(told[:, :6].flatten().numpy(), wanted[:, :6].flatten().numpy())[0, 1]
    assert r > 0.95, f"colors of gradients without anybody: r {r:.2f}"
