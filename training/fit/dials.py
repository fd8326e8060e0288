"""Dials: edit directions as the runtime applies them, and the file that keeps them beside the networks.

Two kinds. A plain dial adds: code + strength * offset. An absolute dial sets: it first takes away what the code has already, so
that a strength means the same for everybody (the runtime's `component`)::

    code + (strength - coordinate) * offset,    coordinate = code[row 0] @ probe - origin

`directions.npz` holds NAME [n_styles, w_dim], for absolute ones NAME.probe [w_dim] and NAME.origin, and `.description`: JSON with
the leaks, and with one person's code, which tells whether the file belongs to a generator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.fit.directions import ATTRIBUTES, attribute_value, codes_of, find_directions, ridge
from training.fit.features import FeatureCodec
from training.fit.networks import Mapping

_SAME = 1e-3  # relative difference of that code that rounding explains


@dataclass(frozen=True)
class Dial:
    """offset [n_styles, w_dim], what strength 1 adds; probe [w_dim] and origin of absolute dials; leak on others by name."""

    offset: Tensor
    probe: Tensor | None = None
    origin: float = 0.0
    leak: Dictionary[str, float] = field(default_factory=dict)

    def moved(self, w: Tensor, strengths: Tensor, offset: Tensor | None = None) -> Tensor:
        """w [n, w_dim] at strengths [s]: codes [n, s, n_styles, w_dim]. `offset` stands in for the dial's own."""
        amount = strengths.expand(len(w), -1)
        if self.probe is not None:
            amount = amount - (w @ self.probe - self.origin)[:, None]
        return w[:, None, None] + amount[..., None, None] * (self.offset if offset is None else offset)

    def spanning(self, low: float, high: float) -> Dial:
        """An absolute dial whose -1 and 1 are where low and high were."""
        assert self.probe is not None
        half, middle = (high - low) / 2, (high + low) / 2
        return Dial(self.offset * half, self.probe / half, (self.origin + middle) / half, self.leak)


def fingerprint(codec: FeatureCodec, mapping: Mapping) -> Tensor:
    """The code [w_dim] of a person one spread above the mean in everything: another mapping network has another."""
    return codes_of(codec, mapping, (codec.mean + codec.scale)[None])[0]


@torch.no_grad()
def first_dials(codec: FeatureCodec, mapping: Mapping, features: Tensor, n_styles: int) -> dict[str, Dial]:
    """Dials from true labels alone; absolute ones go from the attribute's low end to its high end.

    features: raw vectors [n, F] of a few thousand people.
    """
    directions, leaks = find_directions(codec, mapping, features)
    w = codes_of(codec, mapping, features)
    dials = {}
    for name, direction in directions.items():
        offset = direction[None].expand(n_styles, -1).clone()
        dials[name] = Dial(offset, leak=leaks[name])
        if ATTRIBUTES[name].absolute:
            value = attribute_value(codec, ATTRIBUTES[name], features)
            probe = ridge(w - w.mean(0), (value - value.mean())[:, None])[:, 0]
            gain = float(direction @ probe)
            if gain <= 0:  # a mapping that has learned nothing yet
                continue
            origin = float(w.mean(0) @ probe - value.mean())
            dials[name] = Dial(offset / gain, probe, origin, leaks[name]).spanning(0.0, 1.0)
    return dials


def save_dials(path: Path, dials: Dictionary[str, Dial], codec: FeatureCodec, mapping: Mapping) -> None:
    """Write dials that were made for the generator with this mapping network."""
    arrays: dict[str, np.ndarray] = {}
    for name, dial in dials.items():
        arrays[name] = dial.offset.numpy().astype(np.float32)
        if dial.probe is not None:
            arrays[f"{name}.probe"] = dial.probe.numpy().astype(np.float32)
            arrays[f"{name}.origin"] = np.array(dial.origin)
    description = {
        "fingerprint": fingerprint(codec, mapping).tolist(),
        "leak": {name: dict(dial.leak) for name, dial in dials.items()},
    }
    arrays[".description"] = np.array(json.dumps(description))
    unfinished = path.with_name(f".{path.name}")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    unfinished.rename(path)


def load_dials(path: Path, codec: FeatureCodec, mapping: Mapping) -> dict[str, Dial]:
    """Raises ValueError if they were made for another generator than the one with this mapping network."""
    own = fingerprint(codec, mapping)
    with np.load(path, allow_pickle=False) as stored:
        description = json.loads(str(stored[".description"]))
        off = float((torch.tensor(description["fingerprint"]) - own).norm() / own.norm())
        if not off <= _SAME:
            raise ValueError(
                f"{path}: expected directions of this generator, got another's (a code differs by {off:.2f}); "
                "run `python -m training.fit.refine` again, or remove the file"
            )
        return {
            name: Dial(
                torch.from_numpy(stored[name]),
                torch.from_numpy(stored[f"{name}.probe"]) if f"{name}.probe" in stored else None,
                float(stored[f"{name}.origin"]) if f"{name}.origin" in stored else 0.0,
                leak,
            )
            for name, leak in description["leak"].items()
        }
