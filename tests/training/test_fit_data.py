"""From shards to tensors: what is left out, held out, drawn at which size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.people import data, stub
from training.fit.people.data import People, _write_block, batch, enlarged, picture, resize
from training.fit.people.features import FeatureCodec
from training.fit.people.older import in_terms_of, told_by
from training.render.data.dataset import Dataset, is_held_out, numbers_in

from ..conftest import ROOT
from . import small as drawn_people


def test_damaged_shards_and_pictures_are_left_out(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    stub.write(data, 40, 16)
    (data / "shard-000009.zip").write_bytes(b"PK not a zip")
    cache.mkdir()
    with pytest.warns(UserWarning, match="skipped"):
        people = Dataset(data)
    bad = people.toon
    people.toon = lambda i: bad(i) if i != 3 else 1 / 0  # type: ignore[method-assign,return-value]
    _write_block(people, list(range(40)), 16, None, cache)
    (cache / "block-9999999-001.npz").write_bytes(b"broken")
    pool = People(cache, 16, people.features.shape[1], 100, 20, torch.device("cpu"))
    assert pool.refresh() == 39
    assert pool.refresh() == 39
    assert len(pool.test) == 2
    assert len(pool.train) == 37  # numbers 19 and 39 are held out
    rows = pool.held_out_rows(5)
    assert torch.allclose(pool.features[rows[0]], torch.from_numpy(people.features[19]))
    assert np.array_equal(pool.natural[rows[0]].numpy(), people.natural(19))


def test_small_renders_teach_small_stages_only(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for name, size, first in (("whole", 32, 0), ("small", 16, 64)):
        stub.write(tmp_path / name, 40, size, first)
        people = Dataset(tmp_path / name)
        _write_block(people, list(range(len(people))), 32, None, cache)
    pool = People(cache, 32, people.features.shape[1], 100, 20, torch.device("cpu"))
    pool.refresh()
    assert pool.count == 80
    np.random.seed(0)  # noqa: NPY002 - draws are from the global generator
    small = {int(i) for i in pool.draw(400, 16)}
    whole = {int(i) for i in pool.draw(400, 32)}
    assert len(small) > 60
    assert whole <= set(pool.train.tolist())
    assert small >= whole
    first = int(min(small - whole))
    number = pool._numbers[first]
    again = Dataset(tmp_path / "small")
    shown = picture(pool.natural, torch.tensor([first]), 16)[0].permute(1, 2, 0).numpy()
    wanted = again.natural(int(np.flatnonzero(again.indices == number)[0])) / 127.5 - 1
    assert np.allclose(shown, wanted, atol=1e-5)


def test_people_without_a_toon_teach_the_photo_look_alone(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    stub.write(tmp_path / "both", 32, 16)
    stub.write(tmp_path / "photo", 40, 16, 32, looks=("natural",))
    for name in ("both", "photo"):
        people = Dataset(tmp_path / name)
        _write_block(people, list(range(len(people))), 16, None, cache)
    counts = {}
    for looks in (("photo", "toon"), ("photo",)):
        pool = People(cache, 16, people.features.shape[1], 100, 20, torch.device("cpu"), looks)
        counts[looks] = pool.refresh()
        one = batch(pool, torch.tensor([0]), 16)
        assert torch.equal(one.toon, one.photo) == (looks == ("photo",))
        assert torch.equal(one.toon_alpha, one.photo_alpha) >= (looks == ("photo",))
    assert counts == {("photo", "toon"): 32, ("photo",): 72}


def test_people_of_today_teach_networks_that_know_an_older_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = FeatureCodec.load(ROOT / "training" / "state" / "features.npz").names
    stub.write(tmp_path / "data", 64, 16)
    people = Dataset(tmp_path / "data")
    cache = tmp_path / "cache"
    monkeypatch.setattr(data, "orphaned", iter((False, True)).__next__)  # one look at the folder
    data.ingest(tmp_path / "data", cache, 16, None, names=known)
    bare = told_by(known, people.feature_names, torch.from_numpy(people.features))
    pool = People(cache, 16, len(known), 100, 20, torch.device("cpu"))
    assert pool.refresh() == int(bare.sum())
    assert 0 < int(bare.sum()) < 64, "some wear caps or raise a hand, which the list cannot tell"
    assert sorted(pool._numbers) == people.indices[bare.numpy()].tolist()
    wanted = in_terms_of(known, people.feature_names, torch.from_numpy(people.features))[bare]
    assert torch.equal(pool.features[np.argsort(pool._numbers)], wanted)


def test_a_small_picture_is_enlarged_from_its_own_pixels() -> None:
    own = np.add.outer(np.arange(0, 240, 30), [0, 4, 9]).astype(np.uint8)[None].repeat(8, 0)
    stored = resize(own, 32)
    assert (enlarged(stored, 32) == stored).all()
    smooth = enlarged(stored, 8)
    assert smooth.shape == (32, 32, 3)
    assert np.abs(resize(smooth, 8).astype(int) - own).max() < 6
    assert (
        np.abs(np.diff(smooth.astype(int), axis=1)).max() < np.abs(np.diff(stored.astype(int), axis=1)).max()
    )


def test_stub_speaks_the_renderers_format(tmp_path: Path) -> None:
    stub.write(tmp_path, 5, 32)
    people = Dataset(tmp_path)
    assert people.natural(4).shape == (32, 32, 3)
    assert people.toon_alpha(4).shape == (32, 32)
    assert people.parameters(2)["age"] == json.loads(people.read(2, "json"))["age"]


def test_held_out_people_alone_can_be_rendered() -> None:
    assert numbers_in(1, 0, 100, held_out=False) == list(range(32, 64))
    assert numbers_in(1, 40, 60, held_out=True) == [59]
    people = np.arange(40)
    assert list(people[is_held_out(people)]) == [19, 39]


def test_people_who_come_later_are_drawn_as_often_as_they_should(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    stub.write(tmp_path / "people", 40, 16)
    people = Dataset(tmp_path / "people")
    pool = People(cache, 16, people.features.shape[1], 100, 20, torch.device("cpu"))
    np.random.seed(0)  # noqa: NPY002 - draws are from the global generator

    def odds(features: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(len(features)) % 2 == 0, 3.0, 1.0)

    for first in (0, 20):
        _write_block(people, list(range(first, first + 20)), 16, None, cache)
        pool.refresh()
        drawn = np.bincount(pool.draw(4000, 16, odds).numpy(), minlength=pool.count)
        eligible = drawn[pool.everyone().numpy()]
        assert drawn.sum() == eligible.sum() == 4000
        assert eligible.min() > 0
        assert eligible[::2].mean() / eligible[1::2].mean() == pytest.approx(3, rel=0.15)


def test_pairs_are_drawn_together_and_not_if_one_of_them_is_held_out(tmp_path: Path) -> None:
    stub.write(tmp_path / "single", 40, 16)
    stub.write(tmp_path / "pairs", 40, 16, first=64)
    described = json.loads((tmp_path / "pairs" / "dataset.json").read_text())
    (tmp_path / "pairs" / "dataset.json").write_text(json.dumps({**described, "pairs": ["age"]}))
    people = drawn_people.pool(tmp_path, "single", "pairs", size=16)
    numbers = np.array(people._numbers)
    told = numbers[people.pairs]
    assert len(told) == 18, "20 pairs, of whom two have an end that is held out"
    assert (told[:, 0] >= 64).all()
    assert (told[:, 0] % 2 == 0).all()
    assert (told[:, 1] == told[:, 0] + 1).all()
    assert not is_held_out(told).any()
    low, high = people.draw_pairs(30, 16).chunk(2)
    assert len(low) == 30, "more than there are"
    assert (numbers[high] == numbers[low] + 1).all()
    assert len(set(low.tolist())) > 5
