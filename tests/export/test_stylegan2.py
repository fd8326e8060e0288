"""The arranged generator equals the papers' formulation, in both layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doppelgan.export.checkpoints.checkpoint import read_checkpoint
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.stylegan2 import (
    GeneratorWeights,
    Mapping,
    Synthesis,
    from_nvidia,
    from_rosinality,
)
from doppelgan.runtime.errors import CheckpointError

from . import reference_stylegan2 as reference
from . import seeds

TOLERANCE = 1e-5  # relative L2; different order of float32 sums gives some 1e-6


def distance(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got - want).norm() / want.norm())


def table(state: seeds.State) -> TensorTable:
    return TensorTable(state, "generator", "tiny.pt")


@pytest.mark.parametrize(
    ("channels", "w_dim", "n_mlp"),
    [
        (seeds.TINY, 16, 2),
        ({4: 6, 8: 10, 16: 3, 32: 5}, 12, 5),  # any table, any depth
        ({4: 4}, 8, 1),
    ],
    ids=["tiny", "odd-channels", "only-4x4"],
)
class TestAgainstTheFormulas:
    def test_rosinality(self, channels: dict[int, int], w_dim: int, n_mlp: int) -> None:
        g = seeds.rosinality(channels, w_dim, n_mlp)
        weights = from_rosinality(table(g))
        codes = seeds.fill("codes", (2, 2 * len(channels), w_dim))
        z = seeds.fill("z", (3, w_dim))
        assert (weights.image_size, weights.n_styles, weights.w_dim, weights.z_dim) == (
            max(channels), 2 * len(channels), w_dim, w_dim,
        )  # fmt: skip
        assert distance(Synthesis(weights)(codes), reference.rosinality_synthesis(g, codes)) < TOLERANCE
        assert distance(Mapping(weights)(z), reference.rosinality_mapping(g, z)) < TOLERANCE

    def test_nvidia(self, channels: dict[int, int], w_dim: int, n_mlp: int) -> None:
        g = seeds.nvidia(channels, w_dim, n_mlp)
        weights = from_nvidia(table(g))
        codes = seeds.fill("codes", (2, 2 * len(channels), w_dim))
        z = seeds.fill("z", (3, w_dim))
        assert distance(Synthesis(weights)(codes), reference.nvidia_synthesis(g, codes)) < TOLERANCE
        assert distance(Mapping(weights)(z), reference.nvidia_mapping(g, z)) < TOLERANCE
        assert weights.w_avg is not None
        assert torch.equal(weights.w_avg, g["mapping.w_avg"])


def test_an_asymmetric_filter_is_applied_the_right_way_round() -> None:
    g = seeds.rosinality()
    lopsided = torch.outer(torch.tensor([1.0, 2.0, 4.0, 1.0]), torch.tensor([3.0, 1.0, 1.0, 0.0])) / 10
    for key in g:
        if key.endswith(".kernel"):
            g[key] = lopsided
    codes = seeds.fill("codes", (1, 6, 16))
    got = Synthesis(from_rosinality(table(g)))(codes)
    assert distance(got, reference.rosinality_synthesis(g, codes)) < TOLERANCE


LIMIT = 0.7  # of a clamp, low enough to bite


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({".*(conv.|torgb)": {"conv_clamp": LIMIT}}, {"clamp": LIMIT}),
        ({".*b8.conv1": {"conv_clamp": LIMIT}}, {"clamp": LIMIT, "clamped": "b8.conv1"}),
        ({".*torgb": {"conv_clamp": LIMIT}}, {"clamp": LIMIT, "clamped": "torgb"}),
        ({".*conv.": {"activation": "relu"}}, {"activation": "relu"}),
        ({".*conv.": {"activation": "linear", "act_gain": 1}}, {"activation": "linear"}),
        ({".*conv.": {"act_gain": 1.1}}, {"gain": 1.1}),
        ({".*conv.": {"use_noise": False}}, {"noise": False}),
    ],
    ids=["clamp", "one-clamp", "rgb-clamp", "relu", "linear", "gain", "no-noise"],
)
def test_attributes_of_pickled_synthesis_layers_enter_the_arithmetic(
    tmp_path: Path, changes: dict[str, dict[str, Any]], options: dict[str, Any]
) -> None:
    g, codes = seeds.nvidia(), seeds.fill("codes", (2, 6, 16))
    got = Synthesis(pickled(tmp_path, g, changes))(codes)
    assert distance(got, reference.nvidia_synthesis(g, codes, **options)) < TOLERANCE
    assert distance(got, reference.nvidia_synthesis(g, codes)) > 0.01


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        (
            {"mapping.fc.": {"weight_gain": 0.1 / np.sqrt(16), "bias_gain": 0.1}},
            {"rate": 0.1},
        ),
        ({"mapping.fc.": {"activation": "relu"}}, {"activation": "relu"}),
        ({"mapping.fc.": {"activation": "linear"}}, {"activation": "linear"}),
    ],
    ids=["lr-multiplier", "relu", "linear"],
)
def test_attributes_of_pickled_mapping_layers_enter_the_arithmetic(
    tmp_path: Path, changes: dict[str, dict[str, Any]], options: dict[str, Any]
) -> None:
    g, z = seeds.nvidia(), seeds.fill("z", (3, 16))
    got = Mapping(pickled(tmp_path, g, changes))(z)
    assert distance(got, reference.nvidia_mapping(g, z, **options)) < TOLERANCE
    assert distance(got, reference.nvidia_mapping(g, z)) > 0.01


def test_gains_of_pickled_affine_and_rgb_layers_enter_the_arithmetic(tmp_path: Path) -> None:
    g, codes = seeds.nvidia(), seeds.fill("codes", (2, 6, 16))
    changes = {
        ".*affine": {"weight_gain": 0.5 / np.sqrt(16), "bias_gain": 0.5},
        ".*torgb": {"weight_gain": np.float32(0.9)},
    }
    halved = {k: v / 2 if ".affine." in k else v for k, v in g.items()}
    for side, width in seeds.TINY.items():
        halved[f"synthesis.b{side}.torgb.weight"] = g[f"synthesis.b{side}.torgb.weight"] * (0.9 * width**0.5)
    got = Synthesis(pickled(tmp_path, g, changes))(codes)
    assert distance(got, reference.nvidia_synthesis(halved, codes)) < TOLERANCE


def pickled(folder: Path, state: seeds.State, changes: dict[str, dict[str, Any]]) -> GeneratorWeights:
    (folder / "g.pkl").write_bytes(seeds.nvidia_pickle(state, changes=changes))
    found = read_checkpoint(folder / "g.pkl")
    assert found.generator is not None
    return from_nvidia(found.generator, found.modules)


@pytest.mark.parametrize("layout", ["rosinality", "nvidia"])
def test_gray_and_rgba_generators_give_rgb(layout: str) -> None:
    make, read = (
        (seeds.rosinality, from_rosinality) if layout == "rosinality" else (seeds.nvidia, from_nvidia)
    )
    codes = seeds.fill("codes", (2, 6, 16))
    gray, color, rgba = (read(table(make(image_channels=n))) for n in (1, 3, 4))
    image = Synthesis(gray)(codes)
    assert image.shape == (2, 3, 16, 16)
    assert torch.equal(image[:, 0], image[:, 1])
    assert torch.equal(image[:, 0], image[:, 2])
    assert gray.notes == ("it makes gray pictures: the channel is repeated",)
    assert rgba.notes == ("it makes RGBA pictures: alpha is left out",)
    assert color.notes == ()

    # The first three of four channels.
    first = make(image_channels=4)
    for key, value in first.items():
        if "rgb" in key and "modulation" not in key and "affine" not in key and "kernel" not in key:
            first[key] = value[:, :3] if layout == "rosinality" else value[:3]
    assert distance(Synthesis(rgba)(codes), Synthesis(read(table(first)))(codes)) < TOLERANCE


@pytest.mark.parametrize("layout", ["rosinality", "nvidia"])
@pytest.mark.parametrize("count", [2, 12])
def test_other_channel_counts_are_named(layout: str, count: int) -> None:
    make, read = (
        (seeds.rosinality, from_rosinality) if layout == "rosinality" else (seeds.nvidia, from_nvidia)
    )
    with pytest.raises(
        CheckpointError, match=rf"expected a generator of RGB, gray or RGBA .* {count} channels"
    ):
        read(table(make(image_channels=count)))


def test_a_file_from_before_noise_was_stored_gets_steady_noise_and_says_so() -> None:
    g = seeds.rosinality()
    without = {k: v for k, v in g.items() if not k.startswith("noises.")}
    first, second = from_rosinality(table(without)), from_rosinality(table(without))
    assert first.notes == ("it holds no noise (noises.*): noise is drawn with fixed seeds",)
    drawn = {f"noises.noise_{i}": torch.randn(1, 1, s, s, generator=torch.Generator().manual_seed(i))
             for i, s in enumerate([4, 8, 8, 16, 16])}  # fmt: skip
    codes = seeds.fill("codes", (2, 6, 16))
    image = Synthesis(first)(codes)
    assert torch.equal(image, Synthesis(second)(codes))
    assert distance(image, reference.rosinality_synthesis({**without, **drawn}, codes)) < TOLERANCE
    with pytest.raises(CheckpointError, match=r"expected a tensor 'noises\.noise_3'"):
        from_rosinality(table({k: v for k, v in g.items() if k != "noises.noise_3"}))


@pytest.mark.parametrize("gone", ["blur.kernel", "upsample.kernel", ".kernel"])
def test_a_file_without_filters_has_the_usual_one(gone: str) -> None:
    g = seeds.rosinality()
    weights = from_rosinality(table({k: v for k, v in g.items() if not k.endswith(gone)}))
    codes = seeds.fill("codes", (2, 6, 16))
    assert distance(Synthesis(weights)(codes), reference.rosinality_synthesis(g, codes)) < TOLERANCE
    assert all("the filter [1,3,3,1] is used" in note for note in weights.notes)
    assert weights.notes


def test_one_missing_filter_among_others_is_damage() -> None:
    g = seeds.rosinality()
    del g["convs.2.conv.blur.kernel"]
    with pytest.raises(CheckpointError, match=r"expected a tensor 'convs\.2\.conv\.blur\.kernel'"):
        from_rosinality(table(g))


@pytest.mark.parametrize("taps", [3, 6])
def test_another_filter_length_is_named(taps: int) -> None:
    g = seeds.nvidia()
    for key in g:
        if key.endswith("resample_filter"):
            g[key] = torch.full((taps, taps), 1 / taps**2)
    with pytest.raises(CheckpointError, match=rf"expected a filter of 4x4 taps .*, got {taps}x{taps}"):
        from_nvidia(table(g))


def test_a_style_of_zeros_does_not_divide_by_zero() -> None:
    g = seeds.rosinality()
    for key in g:
        if ".modulation." in key:
            g[key] = torch.zeros_like(g[key])
    assert torch.isfinite(Synthesis(from_rosinality(table(g)))(torch.zeros(1, 6, 16))).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("convs.1.conv.weight", None, "expected a tensor 'convs.1.conv.weight', got none"),
        (
            "convs.1.conv.weight",
            torch.zeros(1, 8, 7, 3, 3),
            r"expected shape \[1, \*, 8, 3, 3\], got \[1, 8, 7, 3, 3\]",
        ),
        ("convs.1.conv.weight", torch.zeros(8, 8), "expected 5 axes"),
        ("noises.noise_2", torch.zeros(1, 1, 4, 4), r"expected shape \[1, 1, 8, 8\], got \[1, 1, 4, 4\]"),
        ("conv1.activate.bias", torch.full((8,), float("nan")), "expected finite numbers"),
        (
            "conv1.activate.bias",
            torch.zeros(8, dtype=torch.int64),
            "expected a float tensor, got torch.int64",
        ),
        ("to_rgbs.1.conv.modulation.weight", torch.zeros(4, 5), r"expected shape \[4, 16\], got \[4, 5\]"),
        ("style.2.weight", torch.zeros(16, 3), r"'style.2.weight': expected shape"),
    ],
)
def test_error_names_the_offending_tensor(key: str, value: torch.Tensor | None, message: str) -> None:
    g = seeds.rosinality()
    if value is None:
        del g[key]
    else:
        g[key] = value
    with pytest.raises(CheckpointError, match=message) as caught:
        from_rosinality(table(g))
    assert "tiny.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
