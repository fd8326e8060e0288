"""People drawn by an earlier generator are learned from beside the rendered ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.config import PLANS, Stage
from training.fit.directions import sampled_features
from training.fit.lessons import rehearsal
from training.fit.lessons.generator import Generator
from training.fit.lessons.rehearsal import Rehearsal, joined
from training.fit.networks.stylegan2 import generator_state
from training.fit.people import stub
from training.fit.people.features import FeatureCodec
from training.fit.run import measure_features

from .small import trainer

CPU = torch.device("cpu")
PLAN = replace(
    PLANS["smoke"],
    generator=replace(
        PLANS["smoke"].generator,
        stages=(Stage(0.0, 16, 8),),
        rehearsed=1.0,
        adversary_from=2.0,
        feature_noise=0.0,
    ),
)


@pytest.fixture
def codec(tmp_path: Path) -> FeatureCodec:
    stub.write(tmp_path / "people", 8, 32)
    return measure_features(tmp_path / "people", PLAN)


@pytest.fixture
def earlier(tmp_path: Path, codec: FeatureCodec) -> Path:
    """A folder with a generator of untrained networks: nobody else draws like it."""
    torch.manual_seed(1)
    model = Generator(PLAN.generator, codec)
    folder = tmp_path / "earlier"
    folder.mkdir()
    for look in ("photo", "toon"):
        torch.save(
            {"g_ema": generator_state(model.mapping, model.look(look))}, folder / f"generator-{look}.pt"
        )
    return folder


def test_they_look_as_the_earlier_generator_draws_them(
    tmp_path: Path, codec: FeatureCodec, earlier: Path
) -> None:
    before, looks = trainer(tmp_path, codec, PLAN)._load(earlier)
    people = Rehearsal(before, looks, codec, CPU, people=12).draw(5, 16)
    assert people.photo.shape == people.toon.shape == (5, 3, 16, 16)
    assert not people.found.any()
    with torch.no_grad():
        codes = before.mapping(codec.z(codec.standardize(people.features)))[:, None]
        for look, network in looks.items():
            wanted = network(codes.expand(-1, network.n_styles, -1), 16).clamp(-1, 1)
            assert torch.allclose(getattr(people, look), wanted, atol=1e-4)
    both = joined(people, people)
    assert torch.equal(both.photo[5:], people.photo)
    assert len(both.features) == len(both.mesh) == 10


def test_what_it_draws_of_strangers_is_learned(
    tmp_path: Path, codec: FeatureCodec, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "PEOPLE", 64)
    strangers = torch.from_numpy(sampled_features(30, 50_000_000))
    missed = []
    for rehearsing in (False, True):
        torch.manual_seed(2)
        mine = trainer(tmp_path, codec, PLAN)
        if rehearsing:
            mine.rehearse(earlier)
        for _ in range(60):
            mine.train_step(0.1)
        before, looks = mine._load(earlier)
        with torch.no_grad():
            z = codec.z(codec.standardize(strangers))
            wanted = looks["photo"](before.mapping(z)[:, None].expand(-1, 8, -1), 16).clamp(-1, 1)
            missed.append(float((mine.model.photo(mine.model.codes(z), 16) - wanted).abs().mean()))
    without, with_them = missed
    assert with_them < 0.9 * without, f"{with_them:.3f} with, {without:.3f} without"
