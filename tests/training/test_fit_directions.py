"""Directions on codes whose arithmetic is known."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.fit import directions
from training.fit.people.features import FeatureCodec
from training.render.person import features

from ..conftest import ROOT


class Plain:
    """Codes are the codec's coordinates."""

    def skip_norm(self, z: torch.Tensor) -> torch.Tensor:
        return z


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
        inside = (at - low) / (high - low)  # bounds are the attribute's ends
        assert np.abs(inside - value).mean() < 0.1, name
        step = (w + direction.offset) @ direction.probe - direction.origin - torch.from_numpy(at)
        assert step.numpy() == pytest.approx(1, abs=1e-3), f"{name}: strength 1 is one unit of the coordinate"


def test_age_takes_skin_and_hair_along_and_the_pure_one_does_not(
    people: tuple[FeatureCodec, torch.Tensor],
) -> None:
    codec, drawn = people
    found = directions.find_directions(codec, Plain(), drawn)  # type: ignore[arg-type]

    def moved(name: str, feature: str) -> float:
        step = found[name].offset[: codec.count] * codec.spread @ codec.basis.T * codec.scale
        return float(step[codec.column(feature)])

    for feature in ("age", "weathered", "grey"):
        assert moved("age", feature) > 0.1, feature
    assert moved("age_skin", "weathered") > 0.5
    assert abs(moved("age_skin", "grey")) < 0.05
    assert abs(moved("age_skin", "age")) < 0.1
    assert moved("gender", "brow_thickness") > 0.1
    assert abs(moved("gender_shape", "brow_thickness")) < 0.1
    assert abs(moved("grey", "hair_color_b")) < 0.05, "grey has no hue of its own"


def test_grey_takes_everybody_to_the_same_color_where_a_list_tells_it_as_one() -> None:
    """Lists of before tell no `grey`: from black and from red hair it is another step."""
    names = FeatureCodec.load(ROOT / "training" / "state" / "features.npz").names
    drawn = directions.sampled_features(600, names=names)
    groups = {"all": range(len(names))}
    codec = FeatureCodec(names, groups, 256).fit(drawn)
    people = torch.from_numpy(drawn)
    found = directions.find_directions(codec, Plain(), people)["grey"]  # type: ignore[arg-type]
    assert found.probes is not None
    assert found.steps is not None
    w = directions.codes_of(codec, Plain(), people)  # type: ignore[arg-type]
    after = w + found.offset + (w @ found.probes.T) @ found.steps
    told = codec.features(after[:, : codec.count] * codec.spread @ codec.basis.T)
    hair = told[:, [codec.column(f"hair_color_{channel}") for channel in "rgb"]]
    before = people[:, [codec.column(f"hair_color_{channel}") for channel in "rgb"]]
    wanted = torch.tensor(
        [directions.attributes_of(names)["grey"].high[f"hair_color_{channel}"] for channel in "rgb"]
    )
    assert float((hair - wanted).abs().mean()) < 0.1 * float((before - wanted).abs().mean())
    moved = (told - people).abs().mean(0)
    assert float(moved[codec.column("yaw")]) < 0.02, "and nothing else goes along"
