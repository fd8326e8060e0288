"""Feature vectors as an earlier feature list has them.

The list grows: what used to be told by one feature may now be told by two. Networks keep the list that they were trained with
(`features.npz`); people that are described today are put into its terms here, so that an older bundle can still be judged, and a
new generator can begin where an older one stood.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SILVER = 0.705  # sRGB of hair without pigment, as the renderer has it
_HIDDEN_BY = ("covering", "hand")  # what stands before a face, told by lists that know of it
_GREYED = {"hair_color": (1.0, 0.0), "brow_color": (1.4, -0.45)}  # share of grey = a * grey + b, within 0..1


def in_terms_of(names: Sequence[str], today: Sequence[str], features: Tensor) -> Tensor:
    """Raw features [n, len(today)] -> raw features [n, len(names)], in the terms of the list `names`.

    Without a feature `grey`, grey hair is a color of hair. Raises ValueError if `names` holds what `today` does not tell.
    """
    if tuple(names) == tuple(today):
        return features
    place = {name: column for column, name in enumerate(today)}
    missing = [name for name in names if name not in place]
    if missing:
        raise ValueError(
            f"features: expected a list that {len(today)} features of today tell, got {', '.join(missing[:5])} besides; "
            "render people with the version of the networks, or train anew"
        )
    told = features[:, [place[name] for name in names]].clone()
    if "grey" in place and "grey" not in names:
        grey = features[:, place["grey"]]
        for color, (slope, offset) in _GREYED.items():
            share = (slope * grey + offset).clamp(0, 1)[:, None]
            columns = [list(names).index(f"{color}_{channel}") for channel in "rgb"]
            told[:, columns] = told[:, columns] * (1 - share) + (2 * _SILVER - 1) * share
    return told


def told_by(names: Sequence[str], today: Sequence[str], features: Tensor) -> Tensor:
    """Whose pictures the list `names` can tell, of raw features [n, len(today)]: bool [n]. Not those with a hand or a cap before
    the face, if the list knows nothing of them.
    """
    told = torch.ones(len(features), dtype=torch.bool, device=features.device)
    for what in _HIDDEN_BY:
        if f"{what}=none" in today and f"{what}=none" not in names:
            told &= features[:, list(today).index(f"{what}=none")] > 0.5
    return told
