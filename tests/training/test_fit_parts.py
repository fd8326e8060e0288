"""Features, data, augmentation, losses, budget: each on its own."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit import augment, backdrop, encoder, losses, mesh, stub, variants  # noqa: E402
from training.fit.batches import Batches  # noqa: E402
from training.fit.clock import Budget, elapsing  # noqa: E402
from training.fit.config import PLANS  # noqa: E402
from training.fit.data import People, _write_block, enlarged, picture, resize  # noqa: E402
from training.fit.encoder_network import Encoder  # noqa: E402
from training.fit.features import FeatureCodec  # noqa: E402
from training.fit.networks import Mapping, Synthesis  # noqa: E402
from training.fit.report import Log  # noqa: E402
from training.fit.run import measure_features  # noqa: E402
from training.render import features, sampling  # noqa: E402
from training.render.dataset import Dataset, is_held_out, numbers_in  # noqa: E402


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
    rows = pool.judged(5)
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


def test_an_encoder_sees_people_of_every_size_smoothly_enlarged(tmp_path: Path) -> None:
    plan = replace(PLANS["smoke"], held_out=4)
    stub.write(tmp_path / "small", 8, 16)
    stub.write(tmp_path / "whole", 16, 32, first=64)
    (tmp_path / "cache").mkdir()
    for folder in ("small", "whole"):
        people = Dataset(tmp_path / folder)
        _write_block(people, list(range(len(people))), 32, None, tmp_path / "cache")
    codec = measure_features(tmp_path / "small", plan)
    pool = People(tmp_path / "cache", 32, codec.count, 30, plan.held_out, torch.device("cpu"))
    pool.refresh()
    trainer = encoder.Trainer(plan, codec, pool, tmp_path, None, torch.device("cpu"), Log(tmp_path / "log"))
    eligible = trainer.batches.eligible
    assert {size: len(rows) for size, rows in eligible.items()} == {16: 6, 32: 12}
    n = plan.encoder.features_batch
    assert abs(len(trainer.batches.features()["crop"]) - n) <= 1
    trainer.train_step(0.0)
    networks = Mapping(plan.generator.w_dim, 2), Synthesis(plan.generator.channels, plan.generator.w_dim)
    batch, shown = trainer.batches.pictures(*networks)
    assert shown == plan.encoder.batch
    assert batch["real"].shape == (shown, 3, 32, 32)
    assert batch["crop"].shape == (2 * shown, 3, 32, 32), "the small ones are seen, too"
    trainer.mapping, trainer.photo = networks
    trainer.train_step(1.0)
    assert "l1" in trainer.numbers
    # Repeated pixels would be told from any camera's at once.
    stored = pool.natural[eligible[16]].float()
    repeated = (stored[:, ::2] - stored[:, 1::2]).abs().mean()
    smooth = trainer.batches.renders(6, eligible[16])["real"]
    assert repeated == 0
    assert (smooth[:, :, ::2] - smooth[:, :, 1::2]).abs().mean() > 0.01


def test_an_encoder_asks_for_people_of_full_size(tmp_path: Path) -> None:
    plan = replace(PLANS["smoke"], held_out=4)
    stub.write(tmp_path / "small", 8, 16)
    people = Dataset(tmp_path / "small")
    (tmp_path / "cache").mkdir()
    _write_block(people, list(range(len(people))), 32, None, tmp_path / "cache")
    codec = measure_features(tmp_path / "small", plan)
    pool = People(tmp_path / "cache", 32, codec.count, 30, plan.held_out, torch.device("cpu"))
    pool.refresh()
    batches = Batches(pool, codec, plan, None, torch.device("cpu"))
    networks = Mapping(plan.generator.w_dim, 2), Synthesis(plan.generator.channels, plan.generator.w_dim)
    with pytest.raises(ValueError, match=r"rendered at 32 px.*largest have 16 px"):
        batches.pictures(*networks)


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


def test_warp_moves_picture_and_mesh_together() -> None:
    picture = torch.full((1, 3, 64, 64), -1.0)
    picture[:, :, 20:24, 40:44] = 1  # center (42, 22) px = 0.65625, 0.34375
    mesh = torch.tensor([[[42 / 64, 22 / 64, 0.1]]])
    matrix = torch.tensor([[[0.8, 0.1, 0.1], [-0.1, 0.8, 0.15]]])
    crop, moved = augment.warp(picture, matrix, mesh)
    lit = (crop[0, 0] + 1).clamp(min=0)
    line = (torch.arange(64) + 0.5) / 64
    x, y = (lit.sum(0) * line).sum() / lit.sum(), (lit.sum(1) * line).sum() / lit.sum()
    assert torch.allclose(moved[0, 0, :2], torch.stack([x, y]), atol=0.01)


def test_aligned_matrix_is_the_ffhq_square() -> None:
    mesh = torch.zeros(1, 468, 3)
    mesh[:, list(augment._RIGHT_EYE), 0], mesh[:, list(augment._LEFT_EYE), 0] = 0.4, 0.6
    mesh[:, [*augment._RIGHT_EYE, *augment._LEFT_EYE], 1] = 0.45
    mesh[:, 61], mesh[:, 291] = torch.tensor([0.43, 0.65, 0]), torch.tensor([0.57, 0.65, 0])
    matrix = augment.aligned_matrix(mesh)[0]
    # Eye to eye 0.2 and eye to mouth 0.2: half a side is max(2 x 0.2, 1.8 x 0.2) = 0.4, the center 0.02 below
    # the eyes.
    assert torch.allclose(matrix[:, :2], torch.eye(2) * 0.8, atol=1e-5)
    assert torch.allclose(matrix @ torch.tensor([0.5, 0.5, 1]), torch.tensor([0.5, 0.47]), atol=1e-5)


def test_jitter_turns_about_the_center() -> None:
    torch.manual_seed(0)
    matrix = augment.jitter_matrix(4, 0.0, 0.5, 0.2, torch.device("cpu"))
    assert torch.allclose(matrix @ torch.tensor([0.5, 0.5, 1]), torch.full((4, 2), 0.5), atol=1e-6)


def test_camera_keeps_shape_range_and_some_clean_pictures() -> None:
    torch.manual_seed(0)
    clean = torch.rand(16, 3, 64, 64) * 2 - 1
    told = clean[:, :, 0, :2]
    seen, answer = augment.camera(clean, told, clean=0.5)
    assert seen.shape == clean.shape
    assert seen.abs().max() <= 1
    assert torch.isfinite(seen).all()
    same = (seen == clean).all(3).all(2).all(1)
    assert 2 <= int(same.sum()) <= 14
    assert torch.equal((answer == told).all(2).all(1), same), "told what became of whose colors"


def test_camera_tells_what_it_makes_of_a_color() -> None:
    torch.manual_seed(4)
    color = torch.rand(8, 3, 1) * 1.6 - 0.8
    plain = color[..., None].expand(-1, -1, 33, 33)
    seen, told = augment.colours(plain, color)
    assert torch.allclose(seen[:, :, 16, 16], told[..., 0], atol=0.02), "in the middle no light falls off"
    assert (told - color).abs().mean() > 0.05


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


def test_psnr_and_ms_ssim() -> None:
    torch.manual_seed(0)
    real = torch.nn.functional.interpolate(
        torch.rand(2, 3, 16, 16) * 1.6 - 0.8, size=(256, 256), mode="bicubic"
    ).clamp(-1, 1)
    assert losses.psnr(real + 0.02, real) == pytest.approx(40.0, abs=0.5)
    assert torch.allclose(losses.ms_ssim(real, real), torch.ones(2), atol=1e-4)
    a, b = (losses.ms_ssim(real + s * torch.randn_like(real), real).mean() for s in (0.05, 0.4))
    assert b < a < 1


def test_attention_is_where_the_mesh_has_eyes_and_mouth() -> None:
    points = torch.full((2, 468, 3), 0.5)
    points[:, list(mesh._LIPS), 0] = torch.linspace(0.1, 0.3, len(mesh._LIPS))
    points[:, list(mesh._LIPS), 1] = 0.9
    weight = mesh.attention(points, torch.tensor([True, False]), 64, 2.0)
    assert weight.shape == (2, 1, 64, 64)
    assert torch.allclose(weight.mean((1, 2, 3)), torch.ones(2), atol=1e-5)
    assert weight[0, 0, 57, 13] > 1.5 > weight[0, 0, 2, 2]  # where these lips are
    assert weight[1, 0, 30, 24] > 1.5 > weight[1, 0, 57, 13]  # nothing found: where eyes usually are


def test_attention_reaches_as_far_as_the_frames_of_glasses() -> None:
    points, found = torch.rand(2, 468, 3), torch.tensor([False, False])
    bare, framed = mesh.attention(points, found, 64, 2.0, glasses=torch.tensor([False, True]))[:, 0]
    below_the_eye = (36, 24)
    assert framed[below_the_eye] / framed[0, 0] > 1.3 * bare[below_the_eye] / bare[0, 0]


def test_mesh_difference_counts_faces_that_were_found() -> None:
    torch.manual_seed(0)
    wanted = torch.rand(2, 468, 3)
    assert float(mesh.mesh_difference(wanted, wanted, torch.ones(2))) == pytest.approx(0, abs=1e-6)
    other = wanted.clone()
    other[1, 13] += 0.2  # a lip of the second face
    assert float(mesh.mesh_difference(other, wanted, torch.ones(2))) > 0.01
    assert float(mesh.mesh_difference(other, wanted, torch.tensor([1.0, 0.0]))) == pytest.approx(0, abs=1e-6)


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


def test_every_sided_feature_has_its_mirror() -> None:
    """A new feature with a side must be known to the mirror."""
    codec, _, _ = variant_people()
    mirror = variants.Mirror(codec, torch.device("cpu"))
    for i, name in enumerate(codec.names):
        if name.endswith(("Left", "Right")):
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


def test_a_span_of_time_elapses_from_when_it_is_asked_for() -> None:
    span = elapsing(0.02)
    time.sleep(0.03)  # not yet asked for
    fractions = list(span)
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < fractions[-1] < 1
    assert not list(elapsing(0.0))


def test_budget_resumes_where_it_was_and_ends_on_time() -> None:
    now = time.time()
    budget = Budget(now - 30, now + 70)
    assert budget.fraction == pytest.approx(0.3, abs=0.01)
    budget.resume(0.6)
    assert budget.fraction == pytest.approx(0.6, abs=0.01)
    budget.start -= 70
    assert budget.fraction == pytest.approx(0.8, abs=0.02)
    assert not budget.over
    assert Budget(now - 10, now - 1).over
    assert Budget(now - 10, now - 1).fraction == 1


def test_conditioning_gives_back_weighted_features() -> None:
    x = some_features()
    codec = codec_for(x)
    codec.names = ("age", *codec.names[1:])
    y = codec.standardize(torch.from_numpy(x))
    seen = codec.quiet_z(y) @ codec.conditioning().T
    ratio = seen[:, : codec.count].std(0) / y.std(0).clamp(min=1e-6)
    assert ratio[0] == pytest.approx(1.2 * float(ratio[1]), rel=1e-3)  # age counts 1.2 times as much
    assert not seen[:, codec.count :].any()


def test_open_mouths_and_glasses_are_drawn_more_often() -> None:
    people = [sampling.sample_person(i) for i in range(3)]
    for person, glasses, jaw in zip(people, ("none", "round", "none"), (0.0, 0.0, 0.8), strict=True):
        person.update({"glasses": glasses, "jawOpen": jaw})
    vectors = np.stack([features.encode(person) for person in people])
    codec = FeatureCodec(features.FEATURES, features.GROUPS, 256).fit(vectors)
    rarity = variants.Rarity(codec, extra=1.5)
    assert rarity.odds(torch.from_numpy(vectors)).tolist() == pytest.approx([1.0, 2.5, 2.5])
    assert rarity.glasses(torch.from_numpy(vectors)).tolist() == [False, True, False]


def test_structure_sees_lost_contrast_and_not_equal_pictures() -> None:
    torch.manual_seed(0)
    real = torch.rand(2, 3, 64, 64) * 2 - 1
    weight = torch.ones(2, 1, 64, 64)
    assert float(losses.structure(real, real, weight)) == pytest.approx(0, abs=1e-4)
    flat = real.mean((2, 3), keepdim=True).expand_as(real)
    pale = 0.5 * real
    assert float(losses.structure(flat, real, weight)) > float(losses.structure(pale, real, weight)) > 0.05


def test_an_encoder_that_learns_to_see_colors_begins_as_it_was() -> None:
    torch.manual_seed(5)
    sizes = {
        "motion": [1, 3],
        "features": 6,
        "n_styles": 4,
        "w_dim": 8,
        "widths": (8, 8, 8),
        "depths": (0, 0, 0),
    }
    before, after = Encoder(64, **sizes).eval(), Encoder(64, **sizes, thumbnail=16).eval()
    after.load_state_dict(encoder.taken_over(before.state_dict(), after.state_dict()))
    crop, points = torch.randn(2, 3, 64, 64), torch.rand(2, 468, 3) * 64
    assert torch.allclose(before(crop, points)[0], after(crop, points)[0], atol=1e-6)
    after.still[0].weight.data[:, -1] += 1
    assert not torch.allclose(before(crop, points)[0], after(crop, points)[0], atol=1e-3)


def test_few_new_people_do_not_overwrite_the_many_before() -> None:
    zeros, ones = (
        {name: torch.full((2,), value) for name in ("trunk.0.weight", "motion.0.bias", "colors.0.bias")}
        for value in (0.0, 1.0)
    )
    kept = encoder.averaged(ones, zeros, 0.5, 0.25)
    assert {name: float(value[0]) for name, value in kept.items()} == {
        "trunk.0.weight": 0.5,
        "motion.0.bias": 0.25,
        "colors.0.bias": 1.0,
    }


def test_the_nearest_gradient_is_found_around_a_person() -> None:
    torch.manual_seed(6)
    known = np.stack([features.encode(sampling.sample_person(number)) for number in range(8)])
    codec = FeatureCodec(features.FEATURES, features.GROUPS, 512).fit(known)
    gradients = variants.Backgrounds(codec, torch.device("cpu"))
    radial = torch.from_numpy(known)
    radial[:, gradients.columns[6]] = -1
    pictures, behind = gradients.gradient(radial, 32), torch.ones(8, 1, 32, 32)
    pictures[:, :, 8:, 8:24], behind[:, :, 8:, 8:24] = 1, 0
    found = backdrop.nearest_gradient(pictures, behind)
    assert torch.allclose(found[..., 1], gradients.colors(radial)[..., 1], atol=0.08)
    assert (found - gradients.colors(radial)).abs().mean() < 0.08


def test_a_backdrop_is_told_by_a_thumbnail(tmp_path: Path) -> None:
    torch.manual_seed(7)
    plan = PLANS["smoke"]
    stub.write(tmp_path / "people", 40, 32)
    (tmp_path / "cache").mkdir()
    people = Dataset(tmp_path / "people")
    _write_block(people, list(range(len(people))), 32, None, tmp_path / "cache")
    codec = measure_features(tmp_path / "people", plan)
    pool = People(tmp_path / "cache", 32, codec.count, 40, 20, torch.device("cpu"))
    pool.refresh()
    batches = Batches(pool, codec, plan, None, torch.device("cpu"))
    columns = codec.columns("background")
    network = Encoder(32, [0], codec.count, 4, 8, (8, 8), (0, 0), thumbnail=16, backdrop=columns)
    backdrop.learn(network, batches, np.linspace(0, 1, 150, endpoint=False))
    others = torch.from_numpy(
        np.stack([features.encode(sampling.sample_person(n)) for n in range(9000, 9050)])
    )
    seen = batches.backgrounds.gradient(others, 32)
    with torch.no_grad():
        told = network.eval()(seen, torch.zeros(50, 468, 3))[0][:, columns]
    wanted = codec.standardize(others)[:, columns]
    r = np.corrcoef(told[:, :6].flatten().numpy(), wanted[:, :6].flatten().numpy())[0, 1]
    assert r > 0.8, f"colors of gradients without anybody: r {r:.2f}"


def test_held_out_people_alone_can_be_rendered() -> None:
    assert numbers_in(1, 0, 100, held_out=False) == list(range(32, 64))
    assert numbers_in(1, 40, 60, held_out=True) == [59]
    people = np.arange(40)
    assert list(people[is_held_out(people)]) == [19, 39]
