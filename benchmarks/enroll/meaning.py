"""What an edit changed in a face, by its meaning: motions by the tracker, looks by a judge of attributes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.track import landmarks_in_crop
from doppelgan.runtime.track.expression import expression
from doppelgan.runtime.types import Face, Floats

Reader = Callable[[Floats], dict[str, float]]
"""RGB float32 [3,R,R] -> where a face is between the ends of each attribute, 0 low, 1 high."""

# Of an edit: what of an expression it moves, and how far at least where it does anything.
MOTIONS: Final[dict[str, tuple[tuple[str, ...], float]]] = {
    "smile": (("smile",), 0.05),
    "mouth_open": (("mouth_open",), 0.05),
    "eye_open": (("eye_open_right", "eye_open_left"), 0.03),
    "brow": (("brow_right", "brow_left"), 0.03),
    "yaw": (("yaw",), 0.1),
    "pitch": (("pitch",), 0.1),
}
LEAST_READ: Final = 0.1  # of the way between an attribute's ends


@cache
def attribute_reader() -> Reader:
    """The regressor that judges edits in `training/evaluate`: it saw renders only, no generator saw it."""
    from training.evaluate.edits import AttributeReader
    from training.fit.directions import ATTRIBUTES
    from training.fit.lessons.regressor import load_regressor
    from training.fit.people.features import FeatureCodec
    from training.from_bundle import STATE

    codec = FeatureCodec.load(STATE / "features.npz")
    reader = AttributeReader(load_regressor(STATE / "regressor.pt"), codec, list(ATTRIBUTES))
    return lambda picture: dict(zip(reader.names, reader(picture[None])[0].tolist(), strict=True))


def moved(name: str, low: Floats, high: Floats, trackers: Bundle, reader: Reader) -> float | None:
    """From an edit's low end to its high one; None for an edit that neither tracker nor reader knows."""
    if name in MOTIONS:
        fields, _ = MOTIONS[name]
        before, after = (_expression(picture, trackers, fields) for picture in (low, high))
        return after - before
    before_read, after_read = reader(low), reader(high)
    return after_read[name] - before_read[name] if name in after_read else None


def effect(name: str, old: float | None, new: float | None) -> float | None:
    """What is left of the base's move ``old``; None where the base itself hardly moves."""
    least = MOTIONS[name][1] if name in MOTIONS else LEAST_READ
    return None if old is None or new is None or abs(old) < least else new / old


def _expression(picture: Floats, trackers: Bundle, fields: tuple[str, ...]) -> float:
    points = np.asarray(landmarks_in_crop(trackers.session("landmarks"), picture), np.float32)
    seen = expression(Face(0, points, 1.0))
    return float(sum(getattr(seen, field) for field in fields))
