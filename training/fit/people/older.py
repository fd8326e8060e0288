"""Feature vectors as an earlier feature list has them.

The list grows: what used to be told by one feature may now be told by two. Networks keep the list that they were trained with
(`features.npz`); people that are described today are put into its terms here, so that an older bundle can still be judged, and a
new generator can begin where an older one stood.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

_SILVER = 0.705  # sRGB of hair without pigment, as the renderer has it
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
