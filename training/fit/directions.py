"""Edit directions: what true labels say about W.

Every picture the generator can make has its features, so a direction needs no classifier: move a feature of many people, see
where the mapping network sends them, take the mean. What a direction would drag along is measured by linear probes on W and
taken out of it.
"""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from doppelgan.runtime.edit import Direction
from doppelgan.runtime.edit.effect import Effect
from doppelgan.runtime.face_mesh import LEFT_EYE, N_POINTS, RIGHT_EYE
from torch import Tensor

from training.fit.networks.stylegan2 import Mapping
from training.fit.people.features import FeatureCodec


@dataclass(frozen=True)
class Attribute:
    """An edit: raw feature values at its low and high end.

    A `switch` is off on most people, so +1 goes all the way from low to high (and -1 back); otherwise -1..1 spans low to high.

    What people mean by "older" is more than a skin: `moves` says what goes along, in words. `told_by` are the features that tell
    where somebody is between the ends, if not all of them do.
    """

    ends: tuple[str, str]
    low: Dictionary[str, float]
    high: Dictionary[str, float]
    switch: bool = False
    moves: str = ""
    where: Literal["", "eyes"] = ""
    hue: Literal["", "fades"] = ""
    told_by: tuple[str, ...] = ()
    everybody: bool = False  # comes to the high end, each from their own place: an affine map of the code


def _both(unit: str, value: float) -> dict[str, float]:
    return {f"{unit}Left": value, f"{unit}Right": value}


def _one_of(choice: str, options: str, chosen: str) -> dict[str, float]:
    names = options.split()
    shares = chosen.split("+")
    return {f"{choice}={name}": (1 / len(shares) if name in shares else 0.0) for name in names}


def _color(name: str, red: int, green: int, blue: int) -> dict[str, float]:
    """sRGB 0..255 as the features have it, -1..1."""
    return {f"{name}_{channel}": value / 127.5 - 1 for channel, value in zip("rgb", (red, green, blue), strict=True)}


_HAIR = "bald buzz ring side forward quiff slick curls afro long bun"
_BEARD = "none stubble full goatee mustache circle"
_GLASSES = "none round square"

ATTRIBUTES: dict[str, Attribute] = {
    "age": Attribute(
        ("younger", "older"),
        {"age": -0.8, "weathered": -0.3, "grey": 0.0, "hair_line": -0.25},
        {"age": 0.85, "weathered": 0.3, "grey": 0.7, "hair_line": 0.15},
        moves="wrinkles and folds, spots, lids, lips, cheeks and neck; the hair greys and recedes; at the other end all of it is "
        "smooth, full and round",
        told_by=("age",),
    ),
    "age_skin": Attribute(
        ("smoother", "weathered"), {"weathered": -1.0}, {"weathered": 1.0}, moves="wrinkles, folds and spots alone"
    ),
    "gender": Attribute(
        ("feminine", "masculine"),
        {
            "gender": -0.9,
            "brow_thickness": -0.3,
            "lash_darkness": 0.5,
            "beard_shadow": -1.0,
            "lipstick": 0.3,
            "eye_makeup": 0.3,
            "muscle": -0.25,
        },
        {
            "gender": 0.9,
            "brow_thickness": 0.3,
            "lash_darkness": -0.4,
            "beard_shadow": 0.6,
            "lipstick": 0.0,
            "eye_makeup": 0.0,
            "muscle": 0.25,
        },
        moves="brow ridge, jaw, chin, nose, lips and neck; brows, lashes, the shadow of a beard; some make-up at the feminine "
        "end. Hair, beard and clothes stay",
        told_by=("gender", "brow_thickness", "lash_darkness"),
    ),
    "gender_shape": Attribute(
        ("feminine", "masculine"), {"gender": -0.9}, {"gender": 0.9}, moves="bones, lips and neck; no brows, lashes or make-up"
    ),
    "smile": Attribute(
        ("serious", "smiling"),
        {
            **_both("mouthSmile", 0.0),
            **_both("cheekSquint", 0.0),
            **_both("mouthDimple", 0.0),
            **_both("mouthFrown", 0.15),
        },
        {
            **_both("mouthSmile", 0.85),
            **_both("cheekSquint", 0.45),
            **_both("mouthDimple", 0.15),
            **_both("mouthFrown", 0.0),
        },
        switch=True,
    ),
    "mouth_open": Attribute(("closed", "open"), {"jawOpen": 0.0}, {"jawOpen": 0.6}, switch=True),
    "beard": Attribute(
        ("shaven", "bearded"),
        _one_of("beard", _BEARD, "none"),
        {**_one_of("beard", _BEARD, "full"), "beard_length": 0.0, "beard_density": 0.6},
        switch=True,
    ),
    "hair_length": Attribute(
        ("shorter", "longer"),
        {**_one_of("hair", _HAIR, "side+forward"), "hair_length": -0.5, "hair_fringe": -1.0},
        {**_one_of("hair", _HAIR, "long"), "hair_length": 0.5, "hair_fringe": -1.0},
        switch=True,
    ),
    "hair_color": Attribute(
        ("darker", "lighter"),
        {**_color("hair_color", 30, 25, 24), **_color("brow_color", 25, 20, 19)},
        {**_color("hair_color", 215, 180, 125), **_color("brow_color", 150, 120, 85)},
    ),
    "grey": Attribute(
        ("colored", "grey"),
        {"grey": 0.0},
        {"grey": 0.95},
        switch=True,
        moves="hair from the temples on, beard and, late, brows, towards a grey without a hue",
        hue="fades",
    ),
    "makeup": Attribute(
        ("none", "made up"),
        {"lipstick": 0.0, "eye_makeup": 0.0},
        {"lipstick": 0.7, "eye_makeup": 0.8},
        switch=True,
        moves="lips, lids, lashes' line and a little rouge",
    ),
    "mustache": Attribute(
        ("shaven", "mustache"),
        _one_of("beard", _BEARD, "none"),
        {**_one_of("beard", _BEARD, "mustache"), "beard_density": 0.6},
        switch=True,
    ),
    "baldness": Attribute(
        ("hair", "bald"),
        _one_of("hair", _HAIR, "side+forward+slick"),
        _one_of("hair", _HAIR, "bald"),
        switch=True,
    ),
    "glasses": Attribute(
        ("without", "with"),
        _one_of("glasses", _GLASSES, "none"),
        _one_of("glasses", _GLASSES, "round+square"),
        switch=True,
    ),
    "skin_tone": Attribute(("lighter", "darker"), {"skin_melanin": -0.85}, {"skin_melanin": 0.75}),
    "eye_open": Attribute(
        ("closing", "wide"),
        {**_both("eyeBlink", 0.6), **_both("eyeWide", 0.0)},
        {**_both("eyeBlink", -0.25), **_both("eyeWide", 0.55)},
    ),
    "brow": Attribute(
        ("lowered", "raised"),
        {"browInnerUp": -0.1, **_both("browOuterUp", -0.1), **_both("browDown", 0.45)},
        {"browInnerUp": 0.55, **_both("browOuterUp", 0.55), **_both("browDown", 0.0)},
    ),
    "yaw": Attribute(("their right", "their left"), {"yaw": -0.6}, {"yaw": 0.6}),
    "pitch": Attribute(("up", "down"), {"pitch": -0.5}, {"pitch": 0.5}),
    "gaze_x": Attribute(
        ("their right", "their left"), {"gaze_x": -0.7}, {"gaze_x": 0.7}, moves="both eyes, relative to the head", where="eyes"
    ),
    "gaze_y": Attribute(
        ("up", "down"), {"gaze_y": -0.7}, {"gaze_y": 0.7}, moves="both eyes and their lids, relative to the head"
    ),
}

# What an older list of features told otherwise.
_BEFORE: dict[str, Attribute] = {
    "age": Attribute(
        ("younger", "older"),
        {"age": -0.8, "hair_line": -0.25, **_color("hair_color", 60, 44, 37), **_color("brow_color", 48, 36, 31)},
        {"age": 0.85, "hair_line": 0.15, **_color("hair_color", 137, 130, 127), **_color("brow_color", 69, 60, 57)},
        moves="wrinkles and folds, spots, lids, lips, cheeks and neck; the hair greys and recedes; at the other end all of it is "
        "smooth, full and round",
        told_by=("age",),
    ),
    "grey": Attribute(
        ("colored", "grey"),
        {**_color("hair_color", 60, 44, 37), **_color("brow_color", 48, 36, 31)},
        {**_color("hair_color", 186, 188, 194), **_color("brow_color", 116, 118, 122)},
        switch=True,
        moves="hair, beard and, less, brows, from any color to a grey without a hue",
        hue="fades",
        everybody=True,
    ),
}

# Pairs that are allowed to go together: the same thing from two sides.
_RELATED = {
    frozenset(pair)
    for pair in (
        ("hair_color", "grey"), ("hair_length", "baldness"), ("age", "age_skin"), ("age", "grey"), ("gender", "gender_shape"),
        ("gender", "makeup"), ("gender_shape", "makeup"), ("beard", "mustache"), ("gaze_x", "yaw"), ("gaze_y", "pitch"),
    )
}  # fmt: skip


def attributes_of(names: Sequence[str]) -> dict[str, Attribute]:
    """The attributes that a list of features tells, in its terms: each has of its features those that the list knows."""
    known: dict[str, Attribute] = {}
    for name, attribute in ATTRIBUTES.items():
        if name in _BEFORE and not set(attribute.low) <= set(names):
            attribute = _BEFORE[name]
        if not set(attribute.told_by or attribute.low) <= set(names):
            continue
        low, high = ({key: end[key] for key in end if key in names} for end in (attribute.low, attribute.high))
        if low and high:
            known[name] = replace(attribute, low=low, high=high)
    return known


def _edited(codec: FeatureCodec, features: Tensor, values: Dictionary[str, float]) -> Tensor:
    edited = features.clone()
    for name, value in values.items():
        edited[:, codec.column(name)] = value
    return edited


@torch.no_grad()
def codes_of(codec: FeatureCodec, mapping: Mapping, features: Tensor) -> Tensor:
    """x [n, F] -> w [n, w_dim]."""
    return mapping.skip_norm(codec.quiet_z(codec.standardize(features)))


def attribute_value(codec: FeatureCodec, attribute: Attribute, features: Tensor) -> Tensor:
    """Where people [n, F] are between the ends: 0 low, 1 high (least squares over the attribute's features)."""
    names = list(attribute.told_by) or [name for name in attribute.low if name in attribute.high]
    columns = [codec.column(name) for name in names]
    low = torch.tensor([attribute.low[name] for name in names], device=features.device)
    span = torch.tensor([attribute.high[name] - attribute.low[name] for name in names], device=features.device)
    return (features[:, columns] - low) @ span / span.square().sum()


@dataclass(frozen=True)
class FittedDirection:
    """A direction in W: what strength 1 adds, and where a code is along it (`w @ probe - origin`, in strengths).

    With `steps` it is another one for every code: `offset + (w @ probes.T) @ steps`, and the code is nowhere along it.
    """

    offset: Tensor  # [w_dim], scaled for -1..1
    probe: Tensor  # [w_dim]
    origin: float
    bounds: tuple[float, float]  # the coordinates between which people look natural
    leak: Dictionary[str, float]  # what probes of the other attributes see of it
    probes: Tensor | None = None  # [k, w_dim]
    steps: Tensor | None = None  # [k, w_dim]


@torch.no_grad()
def find_directions(codec: FeatureCodec, mapping: Mapping, features: Tensor) -> dict[str, FittedDirection]:
    """Directions by name. features: raw vectors [n, F] of a few thousand people."""
    known = attributes_of(codec.names)
    w = codes_of(codec, mapping, features)
    mean = w.mean(0)
    values = torch.stack([attribute_value(codec, a, features) for a in known.values()], 1)
    probes = ridge(w - mean, values - values.mean(0))  # [w_dim, attributes]: d(value) = d(w) @ probes
    covariance = (w - mean).T @ (w - mean) / len(w)

    names = list(known)
    raw = torch.stack(
        [
            (
                codes_of(codec, mapping, _edited(codec, features, a.high))
                - codes_of(codec, mapping, _edited(codec, features, a.low))
            ).mean(0)
            for a in known.values()
        ]
    )
    directions: dict[str, FittedDirection] = {}
    for i, name in enumerate(names):
        if known[name].everybody:
            directions[name] = _for_everybody(codec, mapping, features, known[name])
            continue
        rivals = [j for j, other in enumerate(names) if j != i and frozenset((name, other)) not in _RELATED]
        # The smallest change, in spreads of W, that the probes of all others do not see.
        p = probes[:, rivals]
        step = covariance @ p
        d = raw[i] - step @ torch.linalg.solve(p.T @ step + 1e-6 * torch.eye(len(rivals), device=w.device), p.T @ raw[i])
        gain = (raw[i] @ probes[:, i]) / (d @ probes[:, i]).clamp(min=1e-6)
        d = d * gain.clamp(0.7, 1.5)
        offset = d if known[name].switch else d / 2
        # Values are read in units of what one strength changes: least = 0 and most = 1 of the attribute.
        unit = offset @ probes[:, i]
        zero = float((mean @ probes[:, i] - values[:, i].mean()) / unit)
        directions[name] = FittedDirection(
            offset=offset,
            probe=probes[:, i] / unit,
            origin=zero,
            bounds=(0.0, 1 / float(unit)),
            leak={other: float(offset @ probes[:, j] / unit) for j, other in enumerate(names) if j != i},
        )
    return directions


def _for_everybody(codec: FeatureCodec, mapping: Mapping, features: Tensor, attribute: Attribute) -> FittedDirection:
    """The step that takes each of many people to the high end, as an affine function of what is told of them there."""
    w = codes_of(codec, mapping, features)
    step = codes_of(codec, mapping, _edited(codec, features, attribute.high)) - w
    values = features[:, [codec.column(name) for name in attribute.high]]
    probes = ridge(w - w.mean(0), values - values.mean(0)).T
    told = (w - w.mean(0)) @ probes.T
    steps = torch.linalg.lstsq(told - told.mean(0), step - step.mean(0)).solution
    start = step.mean(0) - told.mean(0) @ steps - w.mean(0) @ probes.T @ steps
    return FittedDirection(start, probe=probes[0], origin=0.0, bounds=(0.0, 1.0), leak={}, probes=probes, steps=steps)


EYE_CONTACT = "eye_contact"
_AXES = {"x": ("gaze_x", "yaw"), "y": ("gaze_y", "pitch")}


@torch.no_grad()
def eye_contact(
    codec: FeatureCodec, mapping: Mapping, features: Tensor, fitted: Dictionary[str, FittedDirection], n_styles: int
) -> list[Direction]:
    """A look into the camera: how far gaze and head together point past it is taken back by the gaze alone.

    features: raw vectors [n, F]; fitted: what `find_directions` says, with `gaze_x` and `gaze_y`. One direction for each axis.
    """
    w = codes_of(codec, mapping, features)
    mean = w.mean(0)
    radians = _radians()
    directions = []
    for axis, (gaze, turn) in _AXES.items():
        past = sum(features[:, codec.column(name)] * radians[name] for name in (gaze, turn))
        assert isinstance(past, Tensor)
        ends = ATTRIBUTES[gaze]
        step = (ends.high[gaze] - ends.low[gaze]) / 2 * radians[gaze]  # of the gaze, for one strength of its direction
        probe = ridge(w - mean, (past - past.mean())[:, None])[:, 0] / step
        directions.append(
            Direction(
                f"{EYE_CONTACT}_{axis}",
                fitted[gaze].offset[None].expand(n_styles, -1).numpy().astype(np.float32),
                range=(0.0, 1.0),
                ends=("as it is", "into the camera"),
                moves="both eyes, by as much as they look past the camera",
                probe=probe.numpy(),
                origin=float(mean @ probe - past.mean() / step),
                returns=True,
                where="eyes",
            )
        )
    return directions


_IRIS_REACH = 0.0476
"""Of the aligned square's side: from an eyeball's middle to its iris. Eyes are a quarter of the side apart."""


def gaze_effect(name: str) -> Effect:
    """How a direction of the gaze moves what is between the lids, for one strength of it (`runtime/composite/gaze.py`)."""
    axis = name[-1]
    gaze = _AXES[axis][0]
    attribute = ATTRIBUTES[gaze]
    angle = (attribute.high[gaze] - attribute.low[gaze]) / 2 * _radians()[gaze]
    shift = np.zeros((N_POINTS, 2), np.float32)
    shift[[*LEFT_EYE, *RIGHT_EYE], "xy".index(axis)] = _IRIS_REACH * np.sin(angle)
    return Effect(shift, explained=1.0)


def _radians() -> dict[str, float]:
    """Angle of a feature's 1, for pose and gaze."""
    from training.render.person.features import PARAMETERS, Scalar

    named = {p.name: p for p in PARAMETERS if isinstance(p, Scalar)}
    return {name: named[name].high for pair in _AXES.values() for name in pair}


def ridge(x: Tensor, y: Tensor, strength: float = 1e-3) -> Tensor:
    """Matrix [a, b] that reads centered y [n, b] from centered x [n, a]."""
    gram = x.T @ x / len(x)
    gram = gram + strength * gram.diagonal().mean() * torch.eye(len(gram), device=x.device)
    return torch.linalg.solve(gram, x.T @ y / len(x))


def sampled_features(count: int, first: int = 20_000_000, names: Sequence[str] | None = None) -> np.ndarray:
    """Feature vectors float32 [count, F] of people that no data set holds; in the terms of the list `names`, if given."""
    from training.fit.people.older import in_terms_of
    from training.render.person import features, sampling

    drawn = np.stack([features.encode(sampling.sample_person(first + i)) for i in range(count)])
    return drawn if names is None else in_terms_of(names, features.FEATURES, torch.from_numpy(drawn)).numpy()
