"""What describes a person: one table of parameters, and its flat feature vector.

A person is a plain dict, parameter name -> float or (for choices) str. Each parameter belongs to one group. The vector
holds, in table order:

    Scalar   one number; `low..high` is mapped to -1..1, or left as it is when `low` is 0 and `raw` is set
    Angle    two numbers, sin and cos
    Choice   one number per option, one-hot

Lengths are decimetres, angles radians, colors sRGB 0..1. Left and right are the person's own; yaw is positive towards the
person's left (the picture's right), pitch positive downwards, roll positive tilts the head to the person's right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

VERSION = 2

Person = dict[str, float | str]


@dataclass(frozen=True)
class Scalar:
    name: str
    group: str
    low: float
    high: float
    raw: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.name,)

    def encode(self, value: float) -> list[float]:
        return [value] if self.raw else [2 * (value - self.low) / (self.high - self.low) - 1]

    def decode(self, numbers: np.ndarray) -> float:
        number = float(numbers[0])
        return number if self.raw else self.low + (number + 1) / 2 * (self.high - self.low)


@dataclass(frozen=True)
class Angle:
    name: str
    group: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (f"{self.name}_sin", f"{self.name}_cos")

    def encode(self, value: float) -> list[float]:
        return [float(np.sin(value)), float(np.cos(value))]

    def decode(self, numbers: np.ndarray) -> float:
        return float(np.arctan2(numbers[0], numbers[1]))


@dataclass(frozen=True)
class Choice:
    name: str
    group: str
    options: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.name}={option}" for option in self.options)

    def encode(self, value: str) -> list[float]:
        if value not in self.options:
            raise ValueError(f"{self.name} is {value!r}, expected one of {', '.join(self.options)}")
        return [float(option == value) for option in self.options]

    def decode(self, numbers: np.ndarray) -> str:
        return self.options[int(np.argmax(numbers))]


SHAPE_TARGETS: dict[str, tuple[str, str, float]] = {
    # parameter: (target for negative values, target for positive values, spread); "#" stands for both sides
    "head_fat": ("head/head-fat-decr", "head/head-fat-incr", 0.24),
    "head_width": ("head/head-scale-horiz-decr", "head/head-scale-horiz-incr", 0.2),
    "head_height": ("head/head-scale-vert-decr", "head/head-scale-vert-incr", 0.2),
    "forehead_height": ("forehead/forehead-scale-vert-decr", "forehead/forehead-scale-vert-incr", 0.28),
    "forehead_depth": ("forehead/forehead-trans-backward", "forehead/forehead-trans-forward", 0.28),
    "forehead_temple": ("forehead/forehead-temple-decr", "forehead/forehead-temple-incr", 0.32),
    "eye_scale": ("eyes/#-eye-scale-decr", "eyes/#-eye-scale-incr", 0.28),
    "eye_height_inner": ("eyes/#-eye-height1-decr", "eyes/#-eye-height1-incr", 0.3),
    "eye_height": ("eyes/#-eye-height2-decr", "eyes/#-eye-height2-incr", 0.3),
    "eye_height_outer": ("eyes/#-eye-height3-decr", "eyes/#-eye-height3-incr", 0.3),
    "eye_corner_inner": ("eyes/#-eye-corner1-down", "eyes/#-eye-corner1-up", 0.28),
    "eye_corner_outer": ("eyes/#-eye-corner2-down", "eyes/#-eye-corner2-up", 0.32),
    "eye_distance": ("eyes/#-eye-trans-in", "eyes/#-eye-trans-out", 0.25),
    "eye_drop": ("eyes/#-eye-trans-down", "eyes/#-eye-trans-up", 0.12),
    "eye_push_inner": ("eyes/#-eye-push1-in", "eyes/#-eye-push1-out", 0.22),
    "eye_push_outer": ("eyes/#-eye-push2-in", "eyes/#-eye-push2-out", 0.22),
    "eye_fold": ("eyes/#-eye-eyefold-down", "eyes/#-eye-eyefold-up", 0.3),
    "eye_fold_bulge": ("eyes/#-eye-eyefold-concave", "eyes/#-eye-eyefold-convex", 0.3),
    "eye_bag": ("eyes/#-eye-bag-decr", "eyes/#-eye-bag-incr", 0.2),
    "eye_epicanthus": ("eyes/#-eye-epicanthus-in", "eyes/#-eye-epicanthus-out", 0.15),
    "nose_length": ("nose/nose-scale-vert-decr", "nose/nose-scale-vert-incr", 0.28),
    "nose_scale": ("nose/nose-scale-horiz-decr", "nose/nose-scale-horiz-incr", 0.28),
    "nose_depth": ("nose/nose-scale-depth-decr", "nose/nose-scale-depth-incr", 0.28),
    "nose_bridge_width": ("nose/nose-width1-decr", "nose/nose-width1-incr", 0.3),
    "nose_middle_width": ("nose/nose-width2-decr", "nose/nose-width2-incr", 0.3),
    "nose_wing_width": ("nose/nose-width3-decr", "nose/nose-width3-incr", 0.3),
    "nose_hump": ("nose/nose-hump-decr", "nose/nose-hump-incr", 0.3),
    "nose_curve": ("nose/nose-curve-concave", "nose/nose-curve-convex", 0.3),
    "nose_tip": ("nose/nose-point-down", "nose/nose-point-up", 0.32),
    "nose_tip_width": ("nose/nose-point-width-decr", "nose/nose-point-width-incr", 0.3),
    "nose_base": ("nose/nose-base-down", "nose/nose-base-up", 0.25),
    "nose_greek": ("nose/nose-greek-decr", "nose/nose-greek-incr", 0.22),
    "nose_volume": ("nose/nose-volume-decr", "nose/nose-volume-incr", 0.25),
    "nose_nostrils": ("nose/nose-nostrils-width-decr", "nose/nose-nostrils-width-incr", 0.25),
    "nose_flare": ("nose/nose-flaring-decr", "nose/nose-flaring-incr", 0.25),
    "nose_drop": ("nose/nose-trans-down", "nose/nose-trans-up", 0.15),
    "mouth_width": ("mouth/mouth-scale-horiz-decr", "mouth/mouth-scale-horiz-incr", 0.28),
    "mouth_height": ("mouth/mouth-scale-vert-decr", "mouth/mouth-scale-vert-incr", 0.2),
    "lower_lip_height": ("mouth/mouth-lowerlip-height-decr", "mouth/mouth-lowerlip-height-incr", 0.28),
    "upper_lip_height": ("mouth/mouth-upperlip-height-decr", "mouth/mouth-upperlip-height-incr", 0.28),
    "lower_lip_volume": ("mouth/mouth-lowerlip-volume-decr", "mouth/mouth-lowerlip-volume-incr", 0.28),
    "upper_lip_volume": ("mouth/mouth-upperlip-volume-decr", "mouth/mouth-upperlip-volume-incr", 0.28),
    "cupids_bow": ("mouth/mouth-cupidsbow-decr", "mouth/mouth-cupidsbow-incr", 0.3),
    "mouth_angles": ("mouth/mouth-angles-down", "mouth/mouth-angles-up", 0.16),
    "mouth_drop": ("mouth/mouth-trans-down", "mouth/mouth-trans-up", 0.15),
    "philtrum": ("mouth/mouth-philtrum-volume-decr", "mouth/mouth-philtrum-volume-incr", 0.22),
    "chin_bones": ("chin/chin-bones-decr", "chin/chin-bones-incr", 0.25),
    "chin_cleft": ("chin/chin-cleft-decr", "chin/chin-cleft-incr", 0.2),
    "chin_height": ("chin/chin-height-decr", "chin/chin-height-incr", 0.25),
    "chin_prominence": ("chin/chin-prominent-decr", "chin/chin-prominent-incr", 0.25),
    "chin_width": ("chin/chin-width-decr", "chin/chin-width-incr", 0.28),
    "cheek_bones": ("cheek/#-cheek-bones-decr", "cheek/#-cheek-bones-incr", 0.3),
    "cheek_volume": ("cheek/#-cheek-volume-decr", "cheek/#-cheek-volume-incr", 0.28),
    "cheek_inner": ("cheek/#-cheek-inner-decr", "cheek/#-cheek-inner-incr", 0.25),
    "ear_scale": ("ears/#-ear-scale-decr", "ears/#-ear-scale-incr", 0.22),
    "ear_wing": ("ears/#-ear-wing-decr", "ears/#-ear-wing-incr", 0.22),
    "brow_height": ("eyebrows/eyebrows-trans-down", "eyebrows/eyebrows-trans-up", 0.25),
    "brow_angle": ("eyebrows/eyebrows-angle-down", "eyebrows/eyebrows-angle-up", 0.25),
}

HEAD_FORMS = ("oval", "round", "rectangular", "square", "triangular", "invertedtriangular", "diamond")

EXPRESSION_UNITS = [
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthLeft",
    "mouthRight",
    "jawLeft",
    "jawRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeWideLeft",
    "eyeWideRight",
]

HAIR_STYLES = ("bald", "buzz", "ring", "side", "forward", "quiff", "slick", "curls", "afro", "long", "bun")
BEARDS = ("none", "stubble", "full", "goatee", "mustache", "circle")
GLASSES = ("none", "round", "square")
COVERINGS = ("none", "cap", "beanie", "scarf")
HANDS = ("none", "left", "right")
NECKLINES = ("crew", "vee", "turtle", "collar")


def _color(name: str, group: str) -> list[Scalar]:
    return [Scalar(f"{name}_{channel}", group, 0, 1) for channel in "rgb"]


PARAMETERS: tuple[Scalar | Angle | Choice, ...] = (
    Scalar("gender", "identity", 0, 1),
    Scalar("age", "identity", 0.4, 1),
    Scalar("african", "identity", 0, 1, raw=True),
    Scalar("asian", "identity", 0, 1, raw=True),
    Scalar("caucasian", "identity", 0, 1, raw=True),
    Scalar("muscle", "identity", 0, 1),
    Scalar("weight", "identity", 0, 1),
    *(Scalar(f"head_{form}", "identity", 0, 1, raw=True) for form in HEAD_FORMS),
    *(Scalar(name, "identity", -2 * spread, 2 * spread) for name, (_, _, spread) in SHAPE_TARGETS.items()),
    Scalar("weathered", "identity", -0.15, 0.15),
    Scalar("beard_shadow", "identity", 0, 1),
    Scalar("freckles", "identity", 0, 1, raw=True),
    Scalar("brow_thickness", "identity", 0, 1),
    Scalar("lash_darkness", "identity", 0, 1),
    Choice("hair", "hair", HAIR_STYLES),
    Scalar("hair_length", "hair", 0, 1),
    Scalar("hair_sides", "hair", 0, 1),
    Scalar("hair_volume", "hair", 0, 1),
    Scalar("hair_part", "hair", -0.4, 0.4),
    Scalar("hair_line", "hair", -0.1, 0.15),
    Scalar("hair_wave", "hair", 0, 1),
    Scalar("hair_fringe", "hair", 0, 1),
    Scalar("skin_melanin", "color", 0, 1),
    Scalar("skin_redness", "color", -1.5, 1.5),
    *_color("hair_color", "color"),
    Scalar("grey", "color", 0, 1, raw=True),
    *_color("brow_color", "color"),
    *_color("iris", "color"),
    Scalar("lipstick", "color", 0, 1, raw=True),
    Scalar("eye_makeup", "color", 0, 1, raw=True),
    *_color("lipstick_color", "color"),
    Choice("beard", "beard", BEARDS),
    Scalar("beard_length", "beard", 0, 1),
    Scalar("beard_density", "beard", 0, 1),
    Scalar("sideburns", "beard", 0, 1, raw=True),
    Choice("glasses", "glasses", GLASSES),
    Scalar("glasses_size", "glasses", 0, 1),
    Scalar("glasses_thickness", "glasses", 0, 1),
    *_color("glasses_color", "glasses"),
    *(Scalar(unit, "expression", 0, 1, raw=True) for unit in EXPRESSION_UNITS),
    Scalar("yaw", "pose", -0.9, 0.9),
    Scalar("pitch", "pose", -0.55, 0.55),
    Scalar("roll", "pose", -0.36, 0.36),
    Scalar("gaze_x", "gaze", -0.5, 0.5),
    Scalar("gaze_y", "gaze", -0.35, 0.35),
    Angle("light_azimuth", "light"),
    Angle("light_elevation", "light"),
    Scalar("light_contrast", "light", 0, 1),
    Scalar("light_temperature", "light", -1, 1),
    Scalar("light_size", "light", 2, 9),
    Scalar("light_rim", "light", 0, 1),
    Scalar("exposure", "light", -1, 1),
    *_color("background_inner", "background"),
    *_color("background_outer", "background"),
    Scalar("background_tilt", "background", 0, 1),
    Choice("covering", "occluder", COVERINGS),
    *_color("covering_color", "occluder"),
    Choice("hand", "occluder", HANDS),
    Scalar("hand_x", "occluder", -1, 1),
    Scalar("hand_y", "occluder", -1, 1),
    Choice("neckline", "clothing", NECKLINES),
    *_color("shirt", "clothing"),
    *_color("shirt_trim", "clothing"),
)

FEATURES: tuple[str, ...] = tuple(column for parameter in PARAMETERS for column in parameter.columns)


def _groups() -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    column = 0
    for parameter in PARAMETERS:
        for _ in parameter.columns:
            groups.setdefault(parameter.group, []).append(column)
            column += 1
    groups["motion"] = sorted(groups["expression"] + groups["pose"] + groups["gaze"])
    return groups


GROUPS: dict[str, list[int]] = _groups()
"""Group name -> columns. Every feature is in one group; "motion" repeats expression, pose and gaze."""


def encode(person: Mapping[str, float | str]) -> np.ndarray:
    """Parameters -> float32 [len(FEATURES)]."""
    numbers: list[float] = []
    for parameter in PARAMETERS:
        numbers += parameter.encode(person[parameter.name])  # type: ignore[arg-type]
    return np.array(numbers, np.float32)


def decode(vector: np.ndarray) -> Person:
    """float32 [len(FEATURES)] -> parameters. Choices take the option with the largest number."""
    if np.shape(vector) != (len(FEATURES),):
        raise ValueError(f"a feature vector has shape ({len(FEATURES)},), got {np.shape(vector)}")
    person: Person = {}
    column = 0
    for parameter in PARAMETERS:
        width = len(parameter.columns)
        person[parameter.name] = parameter.decode(np.asarray(vector[column : column + width]))
        column += width
    return person


def color(person: Mapping[str, float | str], name: str) -> np.ndarray:
    """A color parameter as linear RGB float64 [3]."""
    return linear(np.array([person[f"{name}_{channel}"] for channel in "rgb"], np.float64))


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB 0..1 -> linear light."""
    srgb = np.asarray(srgb, np.float64)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0) + 0.055) / 1.055) ** 2.4)
