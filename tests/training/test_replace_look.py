"""One look of a bundle is drawn by another generator, and nothing else changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from doppelgan.runtime import open_bundle

from training import replace_look
from training.from_bundle import from_bundle

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "engines" / "demo"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded bundle's networks, the photo look's a little redder."""
    out = tmp_path_factory.mktemp("trained")
    from_bundle(DEMO, out)
    path = out / "generator-photo.pt"
    content = torch.load(path, weights_only=True)
    last = max(
        name
        for name, value in content["g_ema"].items()
        if name.startswith("to_rgbs.") and value.shape == (1, 3, 1, 1)
    )
    content["g_ema"][last] = content["g_ema"][last] + torch.tensor([0.2, 0, 0]).reshape(1, 3, 1, 1)
    torch.save(content, path)
    return out


def test_one_look_is_replaced(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Path] = []
    monkeypatch.setattr(replace_look, "add_effects", lambda folder, known: measured.append(folder))
    out = tmp_path / "renewed"
    replace_look.replace_look(DEMO, trained, out)
    with open_bundle(DEMO, compiled=False) as before, open_bundle(out, compiled=False) as after:
        codes = before.latent["samples"][:1]
        red = after.synthesize(codes).mean(axis=(0, 2, 3)) - before.synthesize(codes).mean(axis=(0, 2, 3))
        np.testing.assert_allclose(red, [0.2, 0, 0], atol=2e-3)
        assert "person" not in after.manifest.files, "a difference from the look of before"
        assert after.manifest.networks["synthesis"].parity[-1].relative_l2 < 2e-3
        assert after.manifest.directions == before.manifest.directions
        names = {"mapping.onnx", "synthesis-toon.onnx", "encoder.onnx", "latent.npz", "MODEL_CARD.md"}
    assert all((out / name).read_bytes() == (DEMO / name).read_bytes() for name in names)
    assert not (out / "person.npz").exists()
    assert [folder.parent for folder in measured] == [tmp_path], "what directions do is measured anew"


def test_other_codes_are_refused_and_nothing_is_written(trained: Path, tmp_path: Path) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    content = torch.load(other / "generator-photo.pt", weights_only=True)
    name = next(name for name in content["g_ema"] if name.startswith("style.") and name.endswith("weight"))
    content["g_ema"][name] = content["g_ema"][name] * 1.1
    torch.save(content, other / "generator-photo.pt")
    with pytest.raises(ValueError, match=r"expected the mapping network of .*make_bundle"):
        replace_look.replace_look(DEMO, other, tmp_path / "out")
    with pytest.raises(ValueError, match="expected a look 'sketch', got photo, toon"):
        replace_look.replace_look(DEMO, trained, tmp_path / "out", "sketch")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
