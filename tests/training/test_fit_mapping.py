"""The mapping network learns by itself, and an earlier generator goes on under its codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.lessons import mapping
from training.fit.networks.stylegan2 import Mapping, Synthesis
from training.fit.people import stub
from training.fit.people.data import People
from training.fit.people.features import FeatureCodec
from training.render.person import features, sampling

from .small import pool


def stand_ins(folder: Path, count: int, held_out: int = 20) -> tuple[People, FeatureCodec]:
    stub.write(folder / "people", count, 16)
    drawn = np.stack([features.encode(sampling.sample_person(10_000_000 + i)) for i in range(300)])
    codec = FeatureCodec(features.FEATURES, features.GROUPS, 256).fit(drawn)
    return pool(folder, "people", size=16, held_out=held_out), codec


def steps(count: int) -> np.ndarray:
    return np.linspace(0, 1, count, endpoint=False)


def test_held_out_people_are_told_from_their_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    people, codec = stand_ins(tmp_path, 400)
    network = Mapping(256, 2, codec.conditioning(), noise=0.02)
    known = mapping.RenderedComponents(people, codec, torch.device("cpu"))
    others = people.everyone(held_out=True)
    average = known.psnr(torch.zeros(len(others), known.values.shape[1]), people, others)
    said: list[dict[str, object]] = []
    assert (
        mapping.learn(network, codec, people, steps(200), report=lambda **event: said.append(event)) is None
    )
    reached = said[-1]["psnr_16"]
    assert isinstance(reached, float)
    assert reached > average + 1.5, f"strangers' pictures: {reached:.1f} dB, by the average {average:.1f}"
    assert network.noise == 0.02
    told = said[-1]["background"]
    assert isinstance(told, float)
    assert told > 0.5, f"{told:.2f} of the backgrounds, which the pictures do without"


def test_the_people_are_all_small_ones_too_and_mirrored(tmp_path: Path) -> None:
    people, codec = stand_ins(tmp_path, 60)
    known = mapping.RenderedComponents(people, codec, torch.device("cpu"))
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
        found = mapping.Earlier(plain, codec.widened(16)).codes(codec.names, x)
    assert torch.allclose(found, expected, atol=1e-5)


def sketches(folder: Path, numbers: range) -> Path:
    """The stand-in people in the format of `training.render.sketch`."""
    folder.mkdir()
    people = [sampling.sample_person(number) for number in numbers]
    layers = []
    for person in people:
        picture, alpha = (layer.astype(np.float32) / 255 for layer in stub.draw(person, 16, toon=False))
        layers.append(np.concatenate([picture * alpha[..., None], alpha[..., None]], -1) * 255)
    known = np.stack([features.encode(person) for person in people])
    np.savez(
        folder / "sketch-1000000.npz", features=known, pictures=np.stack(layers).round().astype(np.uint8)
    )
    return folder


def test_sketches_are_people_before_gray_and_mirrored(tmp_path: Path) -> None:
    people, codec = stand_ins(tmp_path, 60)
    rendered = mapping.RenderedComponents(people, codec, torch.device("cpu"))
    drawn = mapping.sketched(sketches(tmp_path / "sketches", range(10)), codec, torch.device("cpu"))
    assert len(drawn.features) == 20
    assert torch.allclose(drawn.features[:10], rendered.features[:10], atol=1e-6), (
        "person 0 is the same in both"
    )
    for row, other in ((3, 3), (13, 57 + 3)):
        sketch, render = (
            (known.values[number] @ known.basis.T + known.mean)[: 4 * 16 * 16].reshape(4, 16, 16)
            for known, number in ((drawn, row), (rendered, other))
        )
        assert torch.allclose(sketch[3], render[3], atol=0.02), "coverage, in a mirror too"
        covered = render[3] > 0.98
        difference = (sketch - render)[:3, covered].abs().mean()
        assert difference < 0.05, f"as drawn, the same as rendered: {difference}"
        assert sketch[:3, sketch[3] < 0.02].abs().mean() < 0.1, "before gray"


def test_sketches_teach_what_renders_are_too_few_for(tmp_path: Path) -> None:
    people, codec = stand_ins(tmp_path, 60, held_out=3)  # two strangers would be chance
    reached = []
    for folder in (None, sketches(tmp_path / "sketches", range(5000, 5600))):
        torch.manual_seed(0)
        said: list[dict[str, object]] = []
        network = Mapping(256, 2, codec.conditioning())

        def note(said: list[dict[str, object]] = said, **event: object) -> None:
            said.append(event)

        mapping.learn(network, codec, people, steps(300), sketches=folder, report=note)
        reached.append(said[-1]["psnr_16"])
    alone, helped = reached
    assert helped > alone + 0.3, f"strangers' pictures: {helped:.2f} dB with sketches, {alone:.2f} without"


def test_a_folder_without_sketches_says_how_to_draw_some(tmp_path: Path) -> None:
    codec = FeatureCodec(features.FEATURES, features.GROUPS, 256)
    with pytest.raises(FileNotFoundError, match=r"expected sketch-\*\.npz.*training\.render\.sketch"):
        mapping.sketched(tmp_path, codec, torch.device("cpu"))
