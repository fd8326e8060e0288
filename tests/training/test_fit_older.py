"""Networks keep their list of features; people described today are put into its terms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.fit import directions
from training.fit.people.features import FeatureCodec
from training.fit.people.older import in_terms_of
from training.render.person import features, sampling

STATE = Path(__file__).parents[2] / "training" / "state" / "features.npz"


def told(**changes: float) -> torch.Tensor:
    person = sampling.sample_person(3)
    person.update({"covering": "none"}, **changes)
    return torch.from_numpy(features.encode(person))[None]


@pytest.fixture(scope="module")
def before() -> FeatureCodec:
    return FeatureCodec.load(STATE)


def test_the_present_bundles_list_is_told_by_people_of_today(before: FeatureCodec) -> None:
    drawn = directions.sampled_features(50, names=before.names)
    assert drawn.shape == (50, before.count)
    assert np.isfinite(before.standardize(torch.from_numpy(drawn)).numpy()).all()


def test_other_features_stay_as_they_are(before: FeatureCodec) -> None:
    now = told(grey=0.0)
    old = in_terms_of(before.names, features.FEATURES, now)
    for name in ("age", "yaw", "hair_color_r", "beard=full", "background_inner_b"):
        assert old[0, before.names.index(name)] == now[0, features.FEATURES.index(name)], name


def test_grey_hair_was_a_color_without_a_hue(before: FeatureCodec) -> None:
    old = in_terms_of(before.names, features.FEATURES, told(grey=1.0))
    color = [float(old[0, before.names.index(f"hair_color_{channel}")]) for channel in "rgb"]
    assert max(color) - min(color) < 1e-6
    half = in_terms_of(before.names, features.FEATURES, told(grey=0.5))
    plain = in_terms_of(before.names, features.FEATURES, told(grey=0.0))
    column = before.names.index("hair_color_r")
    assert half[0, column] == pytest.approx(float(plain[0, column] + old[0, column]) / 2, abs=1e-5)


def test_what_today_does_not_tell_is_named() -> None:
    with pytest.raises(ValueError, match="tail_length"):
        in_terms_of(["age", "tail_length"], features.FEATURES, told())


def test_an_older_list_has_the_directions_it_can_tell(before: FeatureCodec) -> None:
    known = directions.attributes_of(before.names)
    assert {"age", "gender", "grey", "beard", "gaze_x", "gaze_y"} <= set(known)
    assert not {"age_skin", "makeup"} & set(known), "it knows neither weathered skin nor eye make-up"
    assert set(known["grey"].low) >= {"hair_color_r"}, "grey was a color"
    assert set(known["age"].high) <= set(before.names)
    assert set(directions.attributes_of(features.FEATURES)) == set(directions.ATTRIBUTES)
