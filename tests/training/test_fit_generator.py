"""The generator's training goes on from an earlier run's networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.config import LOOKS, PLANS
from training.fit.lessons.generator import Generator
from training.fit.networks.stylegan2 import generator_state
from training.fit.people import stub
from training.fit.run import measure_features

from .small import trainer

NARROW = PLANS["smoke"]
WIDE = replace(NARROW, generator=replace(NARROW.generator, channels=(32, 40, 24, 8)))


def test_a_wider_generator_begins_with_the_earlier_ones_pictures(tmp_path: Path) -> None:
    stub.write(tmp_path / "people", 40, 32)
    codec = measure_features(tmp_path / "people", NARROW)
    torch.manual_seed(1)
    earlier = Generator(NARROW.generator, codec).eval()
    for look in LOOKS:
        torch.save(
            {"g_ema": generator_state(earlier.mapping, earlier.look(look))}, tmp_path / f"generator-{look}.pt"
        )
    torch.manual_seed(2)
    mine = trainer(tmp_path, codec, WIDE)
    z = mine.z(mine.people.everyone())
    with torch.no_grad():
        wanted = earlier.photo(earlier.codes(z))
        before = mine.average.photo(mine.average.codes(z))
        mine.start(tmp_path, 0.0, None)
        drawn = mine.average.photo(mine.average.codes(z))
    assert mine.average.photo.channels == WIDE.generator.channels
    assert (drawn - wanted).abs().mean() < 1e-3 * (before - wanted).abs().mean()


def test_one_look_learns_alone_and_nothing_else_moves(tmp_path: Path) -> None:
    stub.write(tmp_path / "people", 40, 32)
    codec = measure_features(tmp_path / "people", NARROW)
    alone = replace(NARROW, generator=replace(NARROW.generator, learning=("photo",), adversary_from=2.0))
    torch.manual_seed(3)
    mine = trainer(tmp_path, codec, alone)
    before = {name: value.clone() for name, value in mine.model.state_dict().items()}
    for _ in range(3):
        mine.train_step(0.5)
    moved = {
        name.split(".")[0] for name, value in mine.model.state_dict().items() if not value.equal(before[name])
    }
    assert moved == {"photo"}
