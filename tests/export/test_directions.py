"""Directions made from a generator's weights, on a generator of two resolutions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from doppelgan.export.directions import collect_directions, sefa, style_layers, style_space_direction
from doppelgan.export.networks.stylegan2 import Affine, GeneratorWeights, StyledConv, ToRGB
from doppelgan.runtime.edit.direction_files import StyleSpaceOffset
from doppelgan.runtime.errors import EditError

W, CHANNELS, STYLES = 6, 5, 4


@pytest.fixture
def weights() -> GeneratorWeights:
    """An 8x8 generator with random modulations; row 1 feeds to_rgb and a convolution."""
    random = torch.Generator().manual_seed(3)

    def affine(row: int) -> Affine:
        return Affine(torch.randn(CHANNELS, W, generator=random), torch.zeros(CHANNELS), row)

    nothing = torch.zeros(1)
    convs = tuple(
        StyledConv(affine(row), nothing, nothing, 0.0, nothing, nothing, None, None) for row in range(3)
    )
    rgbs = tuple(ToRGB(affine(row), nothing, nothing, None, None) for row in (1, 3))
    return GeneratorWeights((), nothing, convs, rgbs)


def styles(weights: GeneratorWeights, code: np.ndarray) -> list[np.ndarray]:
    return [layer.weight.numpy() @ code[layer.row] for layer in style_layers(weights)]


def test_sefa_directions_are_the_unit_vectors_that_change_normalized_styles_most(
    weights: GeneratorWeights,
) -> None:
    stacked = np.concatenate([conv.affine.weight.numpy() for conv in weights.convs])
    stacked /= np.linalg.norm(stacked, axis=1, keepdims=True)
    found = sefa(weights, count=W)
    vectors = np.stack([d.offset[0] for d in found])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(W), atol=1e-5)
    gains = np.linalg.norm(stacked @ vectors.T, axis=0)
    np.testing.assert_allclose(gains, np.linalg.svd(stacked, compute_uv=False), rtol=1e-5)
    assert all(vector[np.abs(vector).argmax()] > 0 for vector in vectors)
    assert all((d.offset == d.offset[0]).all() for d in found)


def test_sefa_of_some_rows_looks_at_and_changes_only_those(weights: GeneratorWeights) -> None:
    (first, *_) = sefa(weights, (2, 3))
    matrix = weights.convs[2].affine.weight.numpy()
    top = np.linalg.svd(matrix / np.linalg.norm(matrix, axis=1, keepdims=True))[2][0]
    assert abs(first.offset[2] @ top) == pytest.approx(1, abs=1e-5)
    assert not first.offset[[0, 1, 3]].any()
    with pytest.raises(EditError, match=r"within 0\.\.4"):
        sefa(weights, (3, 3))


def test_a_style_space_edit_of_a_row_with_one_layer_is_exact(weights: GeneratorWeights) -> None:
    direction = style_space_direction(StyleSpaceOffset("s", ((0, 2, 1.5),)), weights)
    assert direction.name == "s"
    assert " 0 %" in direction.note
    change = styles(weights, direction.offset)
    np.testing.assert_allclose(change[0], 1.5 * np.eye(CHANNELS)[2], atol=1e-5)
    assert not any(layer.any() for layer in change[1:])


def test_a_style_space_edit_of_a_shared_row_states_what_is_lost(weights: GeneratorWeights) -> None:
    direction = style_space_direction(
        StyleSpaceOffset("s", ((2, 1, 1.0),)), weights
    )  # row 1: to_rgb reads it too
    change = styles(weights, direction.offset)
    wanted = np.eye(CHANNELS)[1]
    missed = np.sqrt(np.square(change[2] - wanted).sum() + np.square(change[1]).sum())
    assert 0.05 < missed < 1
    assert f" {100 * missed:.0f} %" in direction.note


@pytest.mark.parametrize("change", [(5, 0, 1.0), (0, CHANNELS, 1.0)])
def test_a_style_space_edit_of_another_generator_is_refused(
    weights: GeneratorWeights, change: tuple[int, int, float]
) -> None:
    with pytest.raises(EditError, match="channels of this generator"):
        style_space_direction(StyleSpaceOffset("s", (change,)), weights)


def test_files_and_sefa_are_collected_under_distinct_names(weights: GeneratorWeights, tmp_path: Path) -> None:
    np.save(tmp_path / "age.npy", np.ones((1, W)))
    np.savez(tmp_path / "s.npz", s=np.array([[0, 1, 0.5]]))
    texts = [
        tmp_path / "age.npy",
        "sefa:1",
        "turn=sefa:0,2,3",
        f"older={tmp_path / 'age.npy'}",
        tmp_path / "s.npz",
    ]
    found = collect_directions(texts, weights)
    assert [d.name for d in found] == ["age", "sefa-1", "turn", "older", "s"]
    assert found[2].rows == (2, 3)
    assert len(collect_directions(["sefa"], weights)) == W
    with pytest.raises(EditError, match="twice"):
        collect_directions([tmp_path / "age.npy"] * 2, weights)
    with pytest.raises(EditError, match=r"index 0\.\.5"):
        collect_directions(["sefa:6"], weights)
