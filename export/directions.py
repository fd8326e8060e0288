"""Directions that need the generator's weights: SeFa, and StyleSpace edits carried over to W+.

``sefa[:INDEX[,FIRST,LAST]]`` in place of a file asks for the generator's own eigenvectors, and a text for one
of StyleCLIP's global directions (`text.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from doppelgan.runtime.edit import Direction
from doppelgan.runtime.edit.direction_files import MANY, StyleSpaceOffset, read_directions
from doppelgan.runtime.errors import EditError
from numpy.typing import NDArray

from .checkpoints.array_files import read_arrays
from .networks.stylegan2 import Affine, GeneratorWeights
from .text import parse_text_spec, text_direction

_SEFA = re.compile(r"(?:([A-Za-z0-9_-]+)=)?sefa(?::(\d+)(?:,(\d+),(\d+))?)?")


def collect_directions(texts: Iterable[str | Path], weights: GeneratorWeights) -> list[Direction]:
    """All directions that ``texts`` ask for: files as in ``runtime/edit/direction_files.py``, or ``sefa``.

    Raises EditError for a file that holds none or does not fit, and for a name that comes twice.
    """
    by_name: dict[str, Direction] = {}
    for text in texts:
        for direction in _read(text, weights):
            if direction.name in by_name:
                raise EditError(f"direction {direction.name!r}: there twice; rename one, e.g. other={text}")
            by_name[direction.name] = direction
    return list(by_name.values())


def sefa(
    weights: GeneratorWeights,
    rows: tuple[int, int] | None = None,  # first, last (exclusive): of the layers looked at and changed
    count: int = MANY,
) -> list[Direction]:
    """Closed-form factorization: the unit directions of W that change the convolutions' styles most.

    Eigenvectors of A^T A, largest eigenvalue first, where A [channels, w_dim] stacks the convolutions'
    modulation weights with each channel's row at unit length. The largest coordinate is made positive.

    Source: Shen and Zhou, "Closed-Form Factorization of Latent Semantics in GANs", CVPR 2021.
    """
    first, last = rows or (0, weights.n_styles)
    affines = [conv.affine for conv in weights.convs if first <= conv.affine.row < last]
    if not affines:
        raise EditError(f"sefa: expected rows first < last within 0..{weights.n_styles}, got {first}..{last}")
    stacked = np.concatenate([_matrix(affine) for affine in affines])
    lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
    stacked = stacked[lengths[:, 0] > 0] / lengths[lengths[:, 0] > 0]
    _, vectors = np.linalg.eigh(stacked.T @ stacked)  # smallest first
    directions = []
    for index in range(min(count, weights.w_dim)):
        vector = vectors[:, -1 - index]
        vector = vector * np.sign(vector[np.abs(vector).argmax()])
        offset = np.tile(vector.astype(np.float32), (weights.n_styles, 1))
        directions.append(
            Direction(f"sefa-{index}", offset, (-5.0, 5.0), "steps", ("one way", "other way"), rows)
        )
    return directions


def style_layers(weights: GeneratorWeights) -> list[Affine]:
    """The modulations in StyleSpace's order: convolution and to_rgb at 4x4, then two convolutions and to_rgb
    per resolution."""
    layers = [weights.convs[0].affine, weights.rgbs[0].affine]
    for k in range(1, len(weights.rgbs)):
        layers += [weights.convs[2 * k - 1].affine, weights.convs[2 * k].affine, weights.rgbs[k].affine]
    return layers


def style_space_direction(edit: StyleSpaceOffset, weights: GeneratorWeights) -> Direction:
    """The W+ offset whose styles come closest (least squares) to an edit of S.

    S has more coordinates than W+, so that a rest remains: each odd row feeds two layers. Its size, relative
    to the edit, is stated in the direction's note. Raises EditError for a layer or channel there is not.
    """
    layers = style_layers(weights)
    wanted = [np.zeros(len(layer.bias)) for layer in layers]
    for layer, channel, value in edit.changes:
        if layer >= len(layers) or channel >= len(wanted[layer]):
            have = f"{len(wanted[layer])} channels" if layer < len(layers) else f"{len(layers)} layers"
            raise EditError(
                f"direction {edit.name!r}: expected channels of this generator, got layer {layer}, "
                f"channel {channel} where it has {have}; use an edit made for it"
            )
        wanted[layer][channel] += value
    offset = np.zeros((weights.n_styles, weights.w_dim))
    rest = total = 0.0
    for row in range(weights.n_styles):
        readers = [k for k, layer in enumerate(layers) if layer.row == row]
        target = np.concatenate([wanted[k] for k in readers])
        if target.any():
            matrix = np.concatenate([_matrix(layers[k]) for k in readers])
            offset[row] = np.linalg.lstsq(matrix, target, rcond=None)[0]
            rest += float(np.square(matrix @ offset[row] - target).sum())
            total += float(np.square(target).sum())
    if total == 0:
        raise EditError(f"direction {edit.name!r}: expected channels that change, got only zeros")
    lost = 100 * (rest / total) ** 0.5
    note = f"StyleSpace edit carried over to W+; {lost:.0f} % of it (L2) is lost or leaks"
    return Direction(edit.name, offset.astype(np.float32), (-5.0, 5.0), "steps", note=note)


def _read(text: str | Path, weights: GeneratorWeights) -> list[Direction]:
    worded = parse_text_spec(text)
    if worded is not None:
        return [style_space_direction(text_direction(worded, weights, style_layers(weights)), weights)]
    asked = None if Path(text).is_file() else _SEFA.fullmatch(str(text))
    if asked is None:
        return [
            style_space_direction(direction, weights)
            if isinstance(direction, StyleSpaceOffset)
            else direction
            for direction in read_directions(text, weights.n_styles, weights.w_dim, read_arrays)
        ]
    name, index, first, last = asked.groups()
    rows = None if first is None else (int(first), int(last))
    if index is None:
        return sefa(weights, rows)
    if int(index) >= weights.w_dim:
        raise EditError(f"{text}: expected an index 0..{weights.w_dim - 1}, got {index}; choose another")
    picked = sefa(weights, rows, int(index) + 1)[-1]
    return [Direction(name or picked.name, picked.offset, picked.range, picked.unit, picked.ends, rows)]


def _matrix(affine: Affine) -> NDArray[np.float64]:
    """The affine's weight, float64 [channels, w_dim]."""
    matrix: NDArray[np.float64] = affine.weight.detach().cpu().numpy().astype(np.float64)
    return matrix
