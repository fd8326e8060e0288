"""The encoder's batches, and how it goes on from an earlier one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit import encoder, stub
from training.fit.batches import Batches
from training.fit.config import PLANS
from training.fit.data import People, _write_block
from training.fit.encoder_network import Encoder
from training.fit.networks import Mapping, Synthesis
from training.fit.report import Log
from training.fit.run import measure_features
from training.render.dataset import Dataset


def test_an_encoder_sees_people_of_every_size_smoothly_enlarged(tmp_path: Path) -> None:
    plan = replace(PLANS["smoke"], held_out=4)
    stub.write(tmp_path / "small", 8, 16)
    stub.write(tmp_path / "whole", 16, 32, first=64)
    (tmp_path / "cache").mkdir()
    for folder in ("small", "whole"):
        people = Dataset(tmp_path / folder)
        _write_block(people, list(range(len(people))), 32, None, tmp_path / "cache")
    codec = measure_features(tmp_path / "small", plan)
    pool = People(tmp_path / "cache", 32, codec.count, 30, plan.held_out, torch.device("cpu"))
    pool.refresh()
    trainer = encoder.Trainer(plan, codec, pool, tmp_path, None, torch.device("cpu"), Log(tmp_path / "log"))
    eligible = trainer.batches.eligible
    assert {size: len(rows) for size, rows in eligible.items()} == {16: 6, 32: 12}
    n = plan.encoder.features_batch
    assert abs(len(trainer.batches.features()["crop"]) - n) <= 1
    trainer.train_step(0.0)
    networks = Mapping(plan.generator.w_dim, 2), Synthesis(plan.generator.channels, plan.generator.w_dim)
    batch, shown = trainer.batches.pictures(*networks)
    assert shown == plan.encoder.batch
    assert batch["real"].shape == (shown, 3, 32, 32)
    assert batch["crop"].shape == (2 * shown, 3, 32, 32), "the small ones are seen, too"
    trainer.mapping, trainer.photo = networks
    trainer.train_step(1.0)
    assert "l1" in trainer.numbers
    # Repeated pixels would be told from any camera's at once.
    stored = pool.natural[eligible[16]].float()
    repeated = (stored[:, ::2] - stored[:, 1::2]).abs().mean()
    smooth = trainer.batches.renders(6, eligible[16])["real"]
    assert repeated == 0
    assert (smooth[:, :, ::2] - smooth[:, :, 1::2]).abs().mean() > 0.01


def test_an_encoder_asks_for_people_of_full_size(tmp_path: Path) -> None:
    plan = replace(PLANS["smoke"], held_out=4)
    stub.write(tmp_path / "small", 8, 16)
    people = Dataset(tmp_path / "small")
    (tmp_path / "cache").mkdir()
    _write_block(people, list(range(len(people))), 32, None, tmp_path / "cache")
    codec = measure_features(tmp_path / "small", plan)
    pool = People(tmp_path / "cache", 32, codec.count, 30, plan.held_out, torch.device("cpu"))
    pool.refresh()
    batches = Batches(pool, codec, plan, None, torch.device("cpu"))
    networks = Mapping(plan.generator.w_dim, 2), Synthesis(plan.generator.channels, plan.generator.w_dim)
    with pytest.raises(ValueError, match=r"rendered at 32 px.*largest have 16 px"):
        batches.pictures(*networks)


def test_an_encoder_that_learns_to_see_colors_begins_as_it_was() -> None:
    torch.manual_seed(5)
    sizes = {
        "motion": [1, 3],
        "features": 6,
        "n_styles": 4,
        "w_dim": 8,
        "widths": (8, 8, 8),
        "depths": (0, 0, 0),
    }
    before, after = Encoder(64, **sizes).eval(), Encoder(64, **sizes, thumbnail=16).eval()
    after.load_state_dict(encoder.taken_over(before.state_dict(), after.state_dict()))
    crop, points = torch.randn(2, 3, 64, 64), torch.rand(2, 468, 3) * 64
    assert torch.allclose(before(crop, points)[0], after(crop, points)[0], atol=1e-6)
    after.still[0].weight.data[:, -1] += 1
    assert not torch.allclose(before(crop, points)[0], after(crop, points)[0], atol=1e-3)
