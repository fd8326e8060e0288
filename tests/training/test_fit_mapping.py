"""The mapping network learns by itself, and an earlier generator goes on under its codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit import mapping, stub  # noqa: E402
from training.fit.data import People, _write_block  # noqa: E402
from training.fit.features import FeatureCodec  # noqa: E402
from training.fit.networks import Mapping, Synthesis  # noqa: E402
from training.render import features, sampling  # noqa: E402
from training.render.dataset import Dataset  # noqa: E402


def pool(folder: Path, count: int) -> tuple[People, FeatureCodec]:
    stub.write(folder / "people", count, 16)
    people = Dataset(folder / "people")
    (folder / "cache").mkdir()
    _write_block(people, list(range(len(people))), 16, None, folder / "cache")
    found = People(folder / "cache", 16, people.features.shape[1], count, 20, torch.device("cpu"))
    found.refresh()
    drawn = np.stack([features.encode(sampling.sample_person(10_000_000 + i)) for i in range(300)])
    return found, FeatureCodec(features.FEATURES, features.GROUPS, 256).fit(drawn)


def test_held_out_people_are_told_from_their_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    people, codec = pool(tmp_path, 400)
    network = Mapping(256, 2, codec.conditioning(), noise=0.02)
    known = mapping.Components(people, codec, torch.device("cpu"))
    others = people.everyone(held_out=True)
    average = known.psnr(torch.zeros(len(others), known.values.shape[1]), people, others)
    said: list[dict[str, object]] = []
    assert mapping.learn(network, codec, people, 3.0, report=lambda **event: said.append(event)) is None
    reached = said[-1]["psnr_16"]
    assert isinstance(reached, float)
    assert reached > average + 1.5, f"strangers' pictures: {reached:.1f} dB, by the average {average:.1f}"
    assert network.noise == 0.02


def test_the_people_are_all_small_ones_too_and_mirrored(tmp_path: Path) -> None:
    people, codec = pool(tmp_path, 60)
    known = mapping.Components(people, codec, torch.device("cpu"))
    assert len(known.features) == 2 * 57  # 19, 39 and 59 are held out
    yaw = known.features[:, codec.column("yaw")]
    assert torch.allclose(yaw[:57], -yaw[57:])
    rows = people.everyone()
    exact = known.psnr(known.values[:57], people, rows)
    assert exact > known.psnr(known.values[:57].flip(0), people, rows) + 3


def test_an_earlier_generator_draws_the_same_for_the_new_codes() -> None:
    torch.manual_seed(1)
    earlier, new = Synthesis((8, 8, 4), 6), Synthesis((8, 8, 4), 10)
    codes = torch.randn(50, 10)
    matrix, offset = torch.randn(10, 6), torch.randn(6)
    old = codes @ matrix + offset
    old_from_new = mapping.Linear.solve(codes, old, strength=0)
    mapping.take_over(new, earlier, old_from_new)
    with torch.no_grad():
        again = new(codes[:4, None].expand(-1, new.n_styles, -1))
        before = earlier(old[:4, None].expand(-1, earlier.n_styles, -1))
    assert torch.allclose(again, before, atol=1e-4 * float(before.abs().max()))


def test_codes_of_a_narrower_mapping_are_found_again() -> None:
    torch.manual_seed(2)
    x = torch.randn(40, 5)
    codec = FeatureCodec([f"f{i}" for i in range(5)], {}, 8).fit(x.numpy())
    narrow = Mapping(8, 2, codec.conditioning())
    plain = Mapping(8, 2)
    plain.load_state_dict(narrow.folded_state())
    with torch.no_grad():
        expected = narrow.skip_norm(codec.quiet_z(codec.standardize(x)))
        found = mapping.earlier_codes(plain, codec.widened(16), x)
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_same_change_becomes_the_same_step_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, codec = pool(tmp_path, 300)
    bends = []
    for share in (0.0, 3.0):
        torch.manual_seed(3)
        monkeypatch.setattr(mapping, "_STRAIGHT_SHARE", share)
        said: list[dict[str, object]] = []
        network = Mapping(256, 2, codec.conditioning())
        mapping.learn(network, codec, people, 3.0, report=lambda said=said, **event: said.append(event))
        bends.append(float(str(said[-1]["bend"])))
    assert bends[1] < 0.5 * bends[0], f"bend {bends[0]:.2f} where nobody asks, {bends[1]:.2f} where it counts"


class Straight:
    """Codes that are the features themselves, or the first feature times all others."""

    def __init__(self, product: bool) -> None:
        self.product = product

    def skip_norm(self, z: torch.Tensor) -> torch.Tensor:
        return z[:, :1] * z if self.product else z


@pytest.mark.parametrize("product", [False, True])
def test_bend_is_zero_where_codes_are_sums_and_not_where_they_are_products(product: bool) -> None:
    torch.manual_seed(4)
    x = torch.randn(400, 6)
    codec = FeatureCodec(["yaw", *"bcdef"], {"motion": [0, 1]}, 8).fit(x.numpy())
    straightness = mapping.Straightness(codec, x)
    bend = straightness.mean_bend(Straight(product))  # type: ignore[arg-type]
    assert bend > 0.5 if product else bend < 1e-6
