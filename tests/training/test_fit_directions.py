"""Directions and the motion basis on codes whose arithmetic is known."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.fit import directions  # noqa: E402
from training.fit.features import FeatureCodec  # noqa: E402
from training.render import features  # noqa: E402


class Plain:
    """Codes are the codec's coordinates, each axis as long as `scale` says."""

    def __init__(self, scale: torch.Tensor | float = 1.0) -> None:
        self.scale = scale

    def skip_norm(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.scale


@pytest.fixture(scope="module")
def people() -> tuple[FeatureCodec, torch.Tensor]:
    drawn = directions.sampled_features(600)
    codec = FeatureCodec(features.FEATURES, features.GROUPS, 256).fit(drawn)
    return codec, torch.from_numpy(drawn)


def test_a_code_knows_how_far_its_attributes_are(people: tuple[FeatureCodec, torch.Tensor]) -> None:
    codec, drawn = people
    found = directions.find_directions(codec, Plain(), drawn)  # type: ignore[arg-type]
    w = directions.codes_of(codec, Plain(), drawn)  # type: ignore[arg-type]
    for name in ("age", "skin_tone", "yaw", "mouth_open", "beard"):
        attribute, direction = directions.ATTRIBUTES[name], found[name]
        at = (w @ direction.probe - direction.origin).numpy()
        value = directions.attribute_value(codec, attribute, drawn).numpy()
        low, high = direction.bounds
        inside = (at - low) / (high - low) * 1.2 - 0.1  # bounds are a tenth beyond 0 and 1
        assert np.abs(inside - value).mean() < 0.1, name
        step = (w + direction.offset) @ direction.probe - direction.origin - torch.from_numpy(at)
        assert step.numpy() == pytest.approx(1, abs=1e-3), f"{name}: strength 1 is one unit of the coordinate"


def test_small_motions_are_in_the_basis_beside_large_ones(people: tuple[FeatureCodec, torch.Tensor]) -> None:
    codec, drawn = people
    mapping = _Turning(codec)
    basis = directions.motion_basis(codec, mapping, drawn)  # type: ignore[arg-type]
    for name in ("yaw", "mouthSmileLeft", "browInnerUp", "eyeBlinkRight"):
        step = directions.codes_of(codec, mapping, _moved(codec, drawn, name))  # type: ignore[arg-type]
        step = step - directions.codes_of(codec, mapping, drawn)  # type: ignore[arg-type]
        inside = (step @ basis.T).square().sum() / step.square().sum()
        assert inside > 0.9, f"{name}: {inside:.2f} of its step is let through"


class _Turning:
    """Codes are the standardized features, but a turn of the head moves them a thousand times further."""

    def __init__(self, codec: FeatureCodec) -> None:
        self.codec = codec

    def skip_norm(self, z: torch.Tensor) -> torch.Tensor:
        w = (z[:, : self.codec.count] * self.codec.spread) @ self.codec.basis.T
        w[:, self.codec.column("yaw")] *= 1000
        return w


def _moved(codec: FeatureCodec, drawn: torch.Tensor, name: str) -> torch.Tensor:
    moved = drawn.clone()
    moved[:, codec.column(name)] += drawn[:, codec.column(name)].std()
    return moved
