"""Further people from one render: mirrored, before another background; rare ones more often."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.people import stub, variants
from training.fit.people.features import FeatureCodec
from training.render.person import features, sampling


def variant_people(n: int = 3) -> tuple[FeatureCodec, list[features.Person], variants.Batch]:
    people = [sampling.sample_person(i) for i in range(n)]
    for person in people:
        person["hair"] = "bald"
    vectors = np.stack([features.encode(person) for person in people])
    codec = FeatureCodec(features.FEATURES, features.GROUPS, 256).fit(vectors)
    drawn = [stub.draw(person, 64, toon) for toon in (False, True) for person in people]
    pictures = torch.from_numpy(np.stack([p for p, _ in drawn])).permute(0, 3, 1, 2).float() / 127.5 - 1
    alphas = torch.from_numpy(np.stack([a for _, a in drawn]))[:, None].float() / 255
    region = torch.tensor([0.4, 0.5, 0.8, 0.1]).expand(n, 4)
    points, found = torch.rand(n, 468, 3), torch.ones(n, dtype=torch.bool)
    batch = variants.Batch(
        torch.from_numpy(vectors), pictures[:n], pictures[n:], alphas[:n], alphas[n:], region, points, found
    )
    return codec, people, batch


def test_a_mirrored_person_has_mirrored_features() -> None:
    codec, people, batch = variant_people()
    seen = variants.Mirror(codec, torch.device("cpu")).some(batch, chance=1.0)
    back = features.decode(seen.features[0].numpy())
    assert back["yaw"] == pytest.approx(-float(people[0]["yaw"]), abs=1e-5)
    assert back["light_azimuth"] == pytest.approx(-float(people[0]["light_azimuth"]), abs=1e-5)
    assert back["light_elevation"] == pytest.approx(float(people[0]["light_elevation"]), abs=1e-5)
    assert back["eyeBlinkLeft"] == pytest.approx(float(people[0]["eyeBlinkRight"]), abs=1e-5)
    assert back["mouthRight"] == pytest.approx(float(people[0]["mouthLeft"]), abs=1e-5)
    assert back["age"] == pytest.approx(float(people[0]["age"]), abs=1e-5)
    assert torch.equal(seen.toon, batch.toon.flip(3))
    assert torch.allclose(seen.region[0], torch.tensor([0.6, 0.5, 0.8, -0.1]))
    assert torch.allclose(seen.mesh[..., 0], 1 - batch.mesh[..., 0])
    assert torch.equal(seen.mesh[..., 1:], batch.mesh[..., 1:])
    twice = variants.Mirror(codec, torch.device("cpu")).some(seen, chance=1.0)
    assert torch.allclose(twice.features, batch.features)


def test_both_ends_of_pairs_are_mirrored_and_get_backgrounds_alike() -> None:
    codec, _, batch = variant_people(6)
    pairs = variants.Batch(**{name: torch.cat([value, value]) for name, value in vars(batch).items()})
    torch.manual_seed(5)
    seen = variants.Mirror(codec, torch.device("cpu")).some(pairs, 0.5, alike=2)
    seen = variants.Backgrounds(codec, torch.device("cpu")).some(seen, 0.5, alike=2)
    low, high = seen.photo.chunk(2)
    torch.testing.assert_close(low, high)
    assert torch.equal(*seen.features.chunk(2))
    changed = (low != batch.photo).flatten(1).any(1)
    assert changed.any(), "some are"
    assert not changed.all(), "some are not"


def test_every_sided_feature_has_its_mirror() -> None:
    """A new feature with a side must be known to the mirror."""
    codec, _, _ = variant_people()
    mirror = variants.Mirror(codec, torch.device("cpu"))
    for i, name in enumerate(codec.names):
        if name.endswith(("Left", "Right", "=left", "=right")):
            assert int(mirror.order[i]) != i, name
        if name.endswith(("_x", "_sin", "yaw", "roll")) and not name.startswith("light_elevation"):
            assert mirror.sign[i] == -1, name


def test_another_background_is_what_the_features_then_say() -> None:
    codec, people, batch = variant_people()
    backgrounds = variants.Backgrounds(codec, torch.device("cpu"))
    for person, gradient in zip(people, backgrounds.gradient(batch.features, 64), strict=True):
        expected = picture_gradient(person, 64)
        assert np.allclose(gradient.permute(1, 2, 0).numpy() / 2 + 0.5, expected, atol=1e-3)
    seen = backgrounds.some(batch, chance=1.0)
    assert features.decode(seen.features[1].numpy())["background_tilt"] == pytest.approx(
        float(people[0]["background_tilt"]), abs=1e-5
    )
    covered = batch.photo_alpha[1, 0] == 1
    assert torch.equal(seen.photo[1][:, covered], batch.photo[1][:, covered])
    assert not torch.allclose(seen.photo[1][:, ~covered], batch.photo[1][:, ~covered], atol=0.02)


def picture_gradient(person: features.Person, size: int) -> np.ndarray:
    """The background as `render.picture.gradient` defines it; that module needs the renderer's denoiser."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    y, x = (y + 0.5) / size - 0.5, (x + 0.5) / size - 0.5
    tilt = float(person["background_tilt"])
    share = (1 - tilt) * np.clip(np.hypot(x, y + 0.05) * 1.5, 0, 1) + tilt * (y + 0.5)
    inner, outer = (
        np.array([person[f"background_{name}_{c}"] for c in "rgb"]) for name in ("inner", "outer")
    )
    return inner * (1 - share[..., None]) + outer * share[..., None]


def test_a_gradient_takes_other_colors() -> None:
    people = [sampling.sample_person(number) for number in range(6)]
    known = torch.from_numpy(np.stack([features.encode(person) for person in people]))
    codec = FeatureCodec(features.FEATURES, features.GROUPS, 512).fit(known.numpy())
    backgrounds = variants.Backgrounds(codec, torch.device("cpu"))
    colors = backgrounds.colors(known)
    assert colors[2, 1, 1] == pytest.approx(2 * float(people[2]["background_outer_g"]) - 1, abs=1e-5)
    assert torch.equal(backgrounds.recolored(known, colors), known)
    again = backgrounds.recolored(known, colors.flip(0))
    assert torch.equal(backgrounds.colors(again), colors.flip(0))
    others = [i for i in range(codec.count) if i not in backgrounds.columns.tolist()]
    assert torch.equal(again[:, others], known[:, others])


def test_open_mouths_and_glasses_are_drawn_more_often() -> None:
    people = [sampling.sample_person(i) for i in range(3)]
    for person, glasses, jaw in zip(people, ("none", "round", "none"), (0.0, 0.0, 0.8), strict=True):
        person.update({"glasses": glasses, "jawOpen": jaw})
    vectors = np.stack([features.encode(person) for person in people])
    codec = FeatureCodec(features.FEATURES, features.GROUPS, 256).fit(vectors)
    rarity = variants.Rarity(codec, extra=1.5)
    assert rarity.odds(torch.from_numpy(vectors)).tolist() == pytest.approx([1.0, 2.5, 2.5])
    assert rarity.glasses(torch.from_numpy(vectors)).tolist() == [False, True, False]
