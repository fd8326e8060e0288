"""The generator's training goes on from an earlier run's networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.clock import Budget
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


def test_pairs_teach_what_changes_between_their_two_pictures(tmp_path: Path) -> None:
    stub.write(tmp_path / "people", 64, 32)
    described = json.loads((tmp_path / "people" / "dataset.json").read_text())
    (tmp_path / "people" / "dataset.json").write_text(json.dumps({**described, "pairs": ["age"]}))
    codec = measure_features(tmp_path / "people", NARROW)
    missing = {}
    for strength in (0.0, 100.0):
        lesson = replace(NARROW.generator, learning=("photo",), adversary_from=2.0, paired=1.0)
        plan = replace(
            NARROW, generator=replace(lesson, change_strength=strength, mirrored=0.0, other_background=0.0)
        )
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002 - draws are from the global generator
        mine = trainer(tmp_path, codec, plan)
        told = []
        for _ in range(60):
            mine.train_step(0.5)
            told.append(float(mine.numbers["missing_photo"]))
        missing[strength] = sum(told[-20:]) / 20
    assert missing[100.0] < 0.93 * missing[0.0]


FAMILY = replace(NARROW, generator=replace(NARROW.generator, shared_up_to=16, adversary_from=2.0))


def test_a_family_shares_what_is_coarse_and_learns_what_is_fine_apart(tmp_path: Path) -> None:
    stub.write(tmp_path / "people", 40, 32)
    codec = measure_features(tmp_path / "people", NARROW)
    torch.manual_seed(4)
    mine = trainer(tmp_path, codec, FAMILY)
    before = {name: value.clone() for name, value in mine.model.state_dict().items()}
    for _ in range(3):
        mine.train_step(0.5)
    mine.save(Budget(0.0, 1.0))
    states = [torch.load(tmp_path / f"generator-{look}.pt", weights_only=True)["g_ema"] for look in LOOKS]
    for name in ("input.input", "conv1.conv.weight", "convs.0.conv.weight", "convs.3.conv.weight"):
        assert torch.equal(states[0][name], states[1][name]), name
    for name in ("convs.4.conv.weight", "to_rgbs.0.conv.weight"):
        assert not torch.equal(states[0][name], states[1][name]), name
    moved = mine.model.state_dict()
    assert not torch.equal(moved["photo.convs.0.conv.weight"], before["photo.convs.0.conv.weight"])
    counted = [p for group in mine.optimizer.param_groups for p in group["params"]]
    assert len(counted) == len({id(p) for p in counted}), "what is shared is stepped once"


def test_a_toon_grows_out_of_the_photo(tmp_path: Path) -> None:
    stub.write(tmp_path / "people", 40, 32)
    codec = measure_features(tmp_path / "people", NARROW)
    torch.manual_seed(5)
    earlier = Generator(NARROW.generator, codec).eval()
    for look in LOOKS:
        state = generator_state(earlier.mapping, earlier.look(look))
        torch.save({"g_ema": state}, tmp_path / f"generator-{look}.pt")
    torch.manual_seed(6)
    mine = trainer(tmp_path, codec, FAMILY)
    mine.start(tmp_path, 0.0, None)
    codes = mine.model.codes(mine.z(mine.people.everyone()))
    with torch.no_grad():
        assert torch.allclose(mine.model.photo(codes), mine.model.toon(codes), atol=1e-5)
        assert torch.allclose(mine.average.photo(codes), earlier.photo(codes), atol=1e-3)
