"""A trainer of generators on the few people that a test has drawn."""

from __future__ import annotations

from pathlib import Path

import torch

from training.fit.config import Plan
from training.fit.data import People, _write_block
from training.fit.features import FeatureCodec
from training.fit.generator import Trainer
from training.fit.report import Log
from training.render.dataset import Dataset


def trainer(folder: Path, codec: FeatureCodec, plan: Plan) -> Trainer:
    """Learns from `folder`/people, at 32 px."""
    (folder / "cache").mkdir(exist_ok=True)
    people = Dataset(folder / "people")
    _write_block(people, list(range(len(people))), 32, None, folder / "cache")
    pool = People(folder / "cache", 32, codec.count, 40, 20, torch.device("cpu"))
    pool.refresh()
    return Trainer(plan, codec, pool, folder, None, torch.device("cpu"), Log(folder / "log"))
