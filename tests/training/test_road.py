"""The whole road in less than a minute: people -> generator, toon, encoder -> export -> bundle -> encode and
synthesize.

With Blender's module one person is rendered, without it all are drawn; the fit needs more people than a
minute renders.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("onnx")

from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.encode import IdentityLock

from training.fit.clock import Budget
from training.fit.config import PLANS
from training.fit.directions import ATTRIBUTES
from training.fit.lessons import encoder, generator, regressor
from training.fit.people import stub
from training.fit.people.data import _write_block
from training.fit.run import measure_features, pack
from training.make_bundle import make_bundle
from training.render.data.dataset import Dataset

ROOT = Path(__file__).resolve().parents[2]
PLAN = PLANS["smoke"]
GENERATOR_S, ENCODER_S, REGRESSOR_S = 5.0, 3.0, 1.0
RENDER_S = 120.0  # at most; a person takes some seconds


def test_from_people_to_a_bundle_that_runs(tmp_path: Path) -> None:
    data, out, cpu = tmp_path / "people", tmp_path / "fitted", torch.device("cpu")
    stub.write(data, 64, PLAN.size)
    people = Dataset(data)
    assert len(people.indices) == 64

    (out / "sheets").mkdir(parents=True)
    (out / "cache").mkdir()
    codec = measure_features(data, PLAN)
    codec.save(out / "features.npz")
    _write_block(people, list(range(len(people.indices))), PLAN.size, None, out / "cache")
    if importlib.util.find_spec("bpy") is not None:
        _write_block(_rendered(tmp_path / "rendered", number=64), [0], PLAN.size, None, out / "cache")
    generator.run(PLAN, out, out / "cache", _budget(GENERATOR_S), cpu, 1)
    encoder.run(PLAN, out, out / "cache", None, _budget(ENCODER_S), cpu, 1)
    regressor.run(PLAN, out, out / "cache", _budget(REGRESSOR_S), cpu, 1)
    pack(out)

    folder = make_bundle(out / "pack", tmp_path / "bundle", name="smoke", people=300)
    bundle = open_bundle(folder, threads=1)
    assert (bundle.image_size, bundle.crop_size, bundle.n_styles) == (PLAN.size, PLAN.size, 8)
    assert set(bundle.directions) == {*ATTRIBUTES, "eye_contact_x", "eye_contact_y"}
    crop = people.natural(0).transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
    mesh = np.random.default_rng(0).uniform(0, PLAN.size, (1, 468, 3)).astype(np.float32)
    codes = bundle.encode(np.ascontiguousarray(crop), landmarks=mesh)
    assert codes.shape == (1, 8, 256)
    for style in ("photo", "toon"):
        picture = bundle.synthesize(codes, style)
        assert picture.shape == (1, 3, PLAN.size, PLAN.size)
        assert np.isfinite(picture).all()
    assert {direction.kind for direction in bundle.directions.values()} == {"bounded", "return"}
    assert bundle.directions["eye_contact_x"].where == "eyes"
    assert "hair greys" in bundle.directions["age"].moves
    lock = IdentityLock(bundle.encoder.appearance_size)
    lock.advance(0.0)
    np.testing.assert_allclose(bundle.encoder(crop, landmarks=mesh, lock=lock), codes, atol=1e-5)
    assert lock.memory.shape[1:] == bundle.latent["appearance_std"].shape
    lock.advance(0.1)
    other = bundle.encoder(-crop, landmarks=mesh, lock=lock)
    unlocked = bundle.encoder(-crop, landmarks=mesh)
    assert np.abs(other - codes).mean() < np.abs(unlocked - codes).mean()
    toon, photo = bundle.synthesize(codes, "toon"), bundle.synthesize(codes, "photo")
    assert not np.array_equal(toon, photo)
    w = bundle.map(np.random.default_rng(1).standard_normal((1, 256)).astype(np.float32))
    assert w.shape == (1, 256)
    for job in ("generator", "encoder", "regressor"):
        done = json.loads((out / f"log-{job}.jsonl").read_text().splitlines()[-1])
        assert done["step"] > 0, f"{job}: expected it to train, got {done}"
    for network in bundle.manifest.networks.values():
        assert [parity.samples for parity in network.parity] == [8] * 2 * len(network.outputs)


def _budget(seconds: float) -> Budget:
    return Budget(time.time(), time.time() + seconds)


def _rendered(folder: Path, number: int) -> Dataset:
    """One person as the renderer draws them; its landmarks are others than those of the drawn people."""
    from training.render.data.shards import describe

    folder.mkdir()
    describe(folder, PLAN.size, ("natural", "toon"))
    command = [sys.executable, "-m", "training.render.worker", "--out", folder, "--size", PLAN.size,
               "--looks", "natural,toon", "--first", number, "--end", number + 1, number // 32]  # fmt: skip
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True, timeout=RENDER_S)
    people = Dataset(folder)
    label = people.natural_label(0)
    assert label.shape == people.natural(0).shape[:2]
    assert {0, 1, 2} <= set(np.unique(label).tolist()), "background, skin and eyes have labels"
    return people
