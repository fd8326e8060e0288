"""The few people that a test has drawn, and a trainer of generators on them."""

from __future__ import annotations

from pathlib import Path

import torch

from training.fit.config import Plan
from training.fit.lessons.generator import Trainer
from training.fit.people.data import People, _write_block
from training.fit.people.features import FeatureCodec
from training.fit.report import Log
from training.render.data.dataset import Dataset


def pool(folder: Path, *names: str, size: int = 32, held_out: int = 20) -> People:
    """The people of these data sets in `folder`, at `size` px, without meshes."""
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    sets = [Dataset(folder / name) for name in names]
    for people in sets:
        _write_block(people, list(range(len(people))), size, None, cache)
    found = People(cache, size, sets[0].features.shape[1], sum(map(len, sets)), held_out, torch.device("cpu"))
    found.refresh()
    return found


def trainer(folder: Path, codec: FeatureCodec, plan: Plan) -> Trainer:
    """Learns from `folder`/people, at 32 px."""
    return Trainer(
        plan, codec, pool(folder, "people"), folder, None, torch.device("cpu"), Log(folder / "log")
    )
