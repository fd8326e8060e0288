"""The feature codec: z, its slack, its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.people.features import FeatureCodec


def codec_for(features: np.ndarray, z_dim: int = 32) -> FeatureCodec:
    names = [f"f{i}" for i in range(features.shape[1])]
    return FeatureCodec(names, {"motion": [0, 2]}, z_dim).fit(features)


def some_features(n: int = 500, count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, count))
    x[:, 5] = x[:, 4] * 0.5  # tied to another
    x[:, 6] = 0.3  # never moves
    x[:, 7] = rng.random(n) < 0.1  # rare
    return x.astype(np.float32)


def test_every_z_has_the_same_length_so_pixel_norm_changes_nothing() -> None:
    x = torch.from_numpy(some_features())
    z = codec_for(x.numpy()).z(codec_for(x.numpy()).standardize(x))
    assert torch.allclose(z.square().mean(1), torch.ones(len(z)), atol=1e-4)


def test_z_tells_everything_about_the_features() -> None:
    x = torch.from_numpy(some_features())
    codec = codec_for(x.numpy())
    y = codec.standardize(x)
    known = codec.z(y)[:, : codec.count]
    back = codec.features(known * codec.spread @ codec.basis.T)
    inside = codec.coordinates(y).square().sum(1) < codec.z_dim - 1
    assert inside.float().mean() > 0.9
    assert torch.allclose(back[inside], x[inside], atol=1e-3)


def test_codec_survives_the_disk(tmp_path: Path) -> None:
    codec = codec_for(some_features())
    codec.save(tmp_path / "features.npz")
    again = FeatureCodec.load(tmp_path / "features.npz")
    y = torch.randn(3, codec.count)
    assert again.names == codec.names
    assert again.columns("motion") == [0, 2]
    assert torch.allclose(again.quiet_z(y), codec.quiet_z(y))


def test_codec_needs_room_for_the_slack() -> None:
    with pytest.raises(ValueError, match="expected more than the 4 features"):
        FeatureCodec(["a", "b", "c", "d"], {}, 4)


def test_conditioning_gives_back_weighted_features() -> None:
    x = some_features()
    codec = codec_for(x)
    codec.names = ("age", *codec.names[1:])
    y = codec.standardize(torch.from_numpy(x))
    seen = codec.quiet_z(y) @ codec.conditioning().T
    ratio = seen[:, : codec.count].std(0) / y.std(0).clamp(min=1e-6)
    assert ratio[0] == pytest.approx(1.2 * float(ratio[1]), rel=1e-3)  # age counts 1.2 times as much
    assert not seen[:, codec.count :].any()


def test_what_is_in_doubt_is_decided_and_nothing_else_changes() -> None:
    names = ["hair=bald", "age", "glasses=none", "glasses=round", "hair=long"]
    codec = FeatureCodec(names, {}, 8).fit(np.random.default_rng(1).random((50, 5)))
    seen = torch.tensor([[0.3, 0.4, 0.6, 0.4, 0.7], [1.0, 0.2, -0.1, 1.2, 0.0]])
    x = codec.features(codec.decided(codec.standardize(seen)))
    assert torch.allclose(x[:, 1], seen[:, 1], atol=1e-5)
    for choice in ([0, 4], [2, 3]):
        assert torch.allclose(x[:, choice].sum(1), torch.ones(2), atol=1e-5)
    assert x[0, 4] > 0.95
    assert x[0, 2] > 0.8
    assert torch.allclose(x[1], torch.tensor([1.0, 0.2, 0.0, 1.0, 0.0]), atol=1e-4)


def test_without_choices_nothing_is_decided() -> None:
    y = torch.randn(3, 12)
    assert torch.equal(codec_for(some_features()).decided(y), y)
