"""The arranged generator equals the papers' formulation, in both layouts."""

from __future__ import annotations

import pytest
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.stylegan2 import Mapping, Synthesis, from_nvidia, from_rosinality
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


def test_activations_are_clamped_where_the_file_says_so() -> None:
    g = seeds.nvidia()
    codes = seeds.fill("codes", (1, 6, 16))
    limit = 0.7  # low enough to bite
    clamped = Synthesis(from_nvidia(table(g), clamp=limit))(codes)
    assert distance(clamped, reference.nvidia_synthesis(g, codes, clamp=limit)) < TOLERANCE
    assert distance(clamped, reference.nvidia_synthesis(g, codes)) > 0.01


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
