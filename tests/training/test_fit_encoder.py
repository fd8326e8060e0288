"""The encoder's batches, and how it goes on from an earlier one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.config import PLANS, Plan
from training.fit.lessons import encoder
from training.fit.networks.encoder import Encoder
from training.fit.networks.stylegan2 import Mapping, Synthesis
from training.fit.people import stub
from training.fit.people.batches import Batches
from training.fit.people.data import People
from training.fit.people.features import FeatureCodec
from training.fit.report import Log
from training.fit.run import measure_features

from .small import pool


def stand_ins(folder: Path, plan: Plan, **sizes: int) -> tuple[FeatureCodec, People]:
    """8 people drawn at so many pixels in the first data set, 16 in the second; the codec of the first."""
    for k, (name, size) in enumerate(sizes.items()):
        stub.write(folder / name, 8 * (k + 1), size, first=64 * k)
    codec = measure_features(folder / next(iter(sizes)), plan)
    return codec, pool(folder, *sizes, size=plan.size, held_out=plan.held_out)


def networks(plan: Plan) -> tuple[Mapping, Synthesis]:
    return Mapping(plan.generator.w_dim, 2), Synthesis(plan.generator.channels, plan.generator.w_dim)


def test_an_encoder_sees_people_of_every_size_smoothly_enlarged(tmp_path: Path) -> None:
    plan = replace(PLANS["smoke"], held_out=4)
    codec, people = stand_ins(tmp_path, plan, small=16, whole=32)
    trainer = encoder.Trainer(plan, codec, people, tmp_path, None, torch.device("cpu"), Log(tmp_path / "log"))
    eligible = trainer.batches.eligible
    assert {size: len(rows) for size, rows in eligible.items()} == {16: 6, 32: 12}
    n = plan.encoder.features_batch
    assert abs(len(trainer.batches.features()["crop"]) - n) <= 1
    backdrop = trainer.encoder.backdrop[0].weight.clone()
    trainer.train_step(0.0)
    assert torch.equal(trainer.encoder.backdrop[0].weight, backdrop), "that learns by itself"
    batch, shown = trainer.batches.pictures(*networks(plan))
    assert shown == plan.encoder.batch
    assert batch["real"].shape == (shown, 3, 32, 32)
    assert batch["crop"].shape == (2 * shown, 3, 32, 32), "the small ones are seen, too"
    trainer.mapping, trainer.photo = networks(plan)
    trainer.train_step(1.0)
    assert "l1" in trainer.numbers
    # Repeated pixels would be told from any camera's at once.
    stored = people.natural[eligible[16]].float()
    repeated = (stored[:, ::2] - stored[:, 1::2]).abs().mean()
    smooth = trainer.batches.renders(6, eligible[16])["real"]
    assert repeated == 0
    assert (smooth[:, :, ::2] - smooth[:, :, 1::2]).abs().mean() > 0.01


def test_what_reads_motion_learns_alone(tmp_path: Path) -> None:
    settings = replace(PLANS["smoke"].encoder, motion_only=True, kept=0.25)
    plan = replace(PLANS["smoke"], held_out=4, encoder=settings)
    codec, people = stand_ins(tmp_path, plan, whole=32)
    trainer = encoder.Trainer(plan, codec, people, tmp_path, None, torch.device("cpu"), Log(tmp_path / "log"))
    trainer.mapping, trainer.photo = networks(plan)
    before = {name: value.clone() for name, value in trainer.encoder.state_dict().items()}
    trainer.train_step(0.0)
    trainer.train_step(1.0)
    after = trainer.encoder.state_dict()
    moved = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"mesh", "eyes", "eyes_out", "motion"}

    trainer.tuned = {name: value + 1 for name, value in before.items()}
    left = trainer.result()
    average = trainer.average.state_dict()
    assert torch.equal(left["offset.2.bias"], before["offset.2.bias"] + 1)
    assert torch.equal(left["still.0.weight"], before["still.0.weight"] + 1)
    expected = 0.75 * average["motion.0.weight"] + 0.25 * (before["motion.0.weight"] + 1)
    assert torch.allclose(left["motion.0.weight"], expected, atol=1e-6)


def test_an_encoder_asks_for_people_of_full_size(tmp_path: Path) -> None:
    plan = replace(PLANS["smoke"], held_out=4)
    codec, people = stand_ins(tmp_path, plan, small=16)
    batches = Batches(people, codec, plan, None, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"rendered at 32 px.*largest have 16 px"):
        batches.pictures(*networks(plan))


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
