"""Draws people. Person number -> parameters, always the same.

What a portrait set should show is decided here: mostly adults, mostly friendly, mostly looking into the camera, every skin
tone with enough light.
"""

from __future__ import annotations

import colorsys

import numpy as np

from training.render.person.features import (
    BEARDS,
    COVERINGS,
    EXPRESSION_UNITS,
    GLASSES,
    HANDS,
    HEAD_FORMS,
    NECKLINES,
    SHAPE_TARGETS,
    Person,
)

_HAIR_COLOURS = {
    # sRGB 0..255
    "black": (30, 26, 26),
    "dark": (52, 37, 30),
    "brown": (88, 60, 42),
    "chestnut": (116, 72, 46),
    "auburn": (126, 60, 36),
    "ginger": (182, 100, 50),
    "honey": (166, 118, 76),
    "blond": (206, 164, 114),
    "platinum": (226, 208, 172),
}
_IRIS_COLOURS = np.array([(74, 46, 28), (98, 64, 34), (128, 98, 56), (92, 116, 76), (92, 134, 168), (122, 144, 158)]) / 255
_LIPSTICKS = np.array([(196, 74, 84), (176, 48, 58), (204, 104, 108), (158, 62, 90), (214, 116, 100)]) / 255
_FRAMES = np.array([(24, 24, 27), (78, 46, 28), (128, 118, 98), (44, 50, 88), (110, 34, 40)]) / 255

_LEANING = {"mouth_angles": 0.1, "eye_height": 0.08, "brow_height": 0.08}
"""Means that are not zero: the base mesh looks a little stern."""

_STYLES_MALE = {
    "side": 0.2, "forward": 0.17, "quiff": 0.16, "buzz": 0.1, "slick": 0.08, "curls": 0.1, "afro": 0.05, "long": 0.05,
    "bald": 0.06, "ring": 0.03,
}  # fmt: skip
_STYLES_FEMALE = {
    "long": 0.58,
    "bun": 0.14,
    "curls": 0.08,
    "afro": 0.07,
    "side": 0.07,
    "forward": 0.03,
    "slick": 0.03,
}


def sample_person(number: int, attempt: int = 0) -> Person:
    """The person with this number; a rejected sample is replaced by its next attempt."""
    rng = np.random.default_rng([number, attempt])
    person: Person = {}
    male = _sample_identity(person, rng)
    _sample_colors(person, rng, male)
    _sample_hair(person, rng, male)
    _sample_beard_and_glasses(person, rng, male)
    person.update(sample_expression(rng))
    _sample_pose_and_gaze(person, rng)
    _sample_surroundings(person, rng)
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in person.items()}


def sample_expression(rng: np.random.Generator) -> dict[str, float]:
    """Face units 0..1: neutral, smiles, talking, laughing, surprise, and some of everything."""
    units = dict.fromkeys(EXPRESSION_UNITS, 0.0)

    def both(name: str, value: float, spread: float = 0.08) -> None:
        for side in ("Left", "Right"):
            units[name + side] = value * (1 + spread * rng.normal())

    mood = rng.choice(
        ["neutral", "smile", "grin", "laugh", "talk", "surprise", "serious", "sad", "mixed"],
        p=[0.24, 0.27, 0.15, 0.05, 0.14, 0.04, 0.02, 0.02, 0.07],
    )
    if mood == "neutral":
        both("mouthSmile", rng.uniform(0.05, 0.35), 0.2)
        units["jawOpen"] = max(0.0, rng.uniform(-0.06, 0.04))
    elif mood == "smile":
        both("mouthSmile", rng.uniform(0.3, 0.85), 0.15)
        both("cheekSquint", rng.uniform(0, 0.6))
        both("mouthDimple", rng.uniform(0, 0.4))
        both("mouthUpperUp", max(0.0, rng.uniform(-0.2, 0.25)))
    elif mood in ("grin", "laugh"):
        both("mouthSmile", rng.uniform(0.55, 1))
        both("mouthUpperUp", rng.uniform(0.2, 0.55))
        both("mouthLowerDown", rng.uniform(0.1, 0.4))
        both("cheekSquint", rng.uniform(0.2, 0.8))
        both("eyeSquint", rng.uniform(0, 0.4))
        units["jawOpen"] = rng.uniform(0.03, 0.2) if mood == "grin" else rng.uniform(0.25, 0.75)
    elif mood == "talk":
        units["jawOpen"] = rng.uniform(0.03, 0.5)
        shape = rng.choice(["mouthFunnel", "mouthPucker", "mouthShrugUpper", "mouthStretch", "mouthRollLower"])
        amount = rng.uniform(0.15, 0.8)
        if shape == "mouthStretch":
            both(shape, amount * 0.6)
        else:
            units[str(shape)] = amount
        both("mouthSmile", rng.uniform(0.05, 0.45))
        both("mouthLowerDown", rng.uniform(0, 0.4))
    elif mood == "surprise":
        units["jawOpen"] = rng.uniform(0.15, 0.9)
        units["browInnerUp"] = rng.uniform(0.3, 0.8)
        both("browOuterUp", rng.uniform(0.3, 0.9))
        both("eyeWide", rng.uniform(0.2, 0.9))
        units["mouthFunnel"] = max(0.0, rng.uniform(-0.3, 0.6))
    elif mood == "serious":
        both("browDown", rng.uniform(0.2, 0.7))
        both("mouthPress", rng.uniform(0, 0.6))
        both("noseSneer", rng.uniform(0, 0.25))
    elif mood == "sad":
        both("mouthFrown", rng.uniform(0.2, 0.7))
        units["browInnerUp"] = rng.uniform(0.3, 0.8)
    else:
        for name in rng.choice(EXPRESSION_UNITS, 4, replace=False):
            if not name.startswith("eyeBlink"):
                units[str(name)] = rng.uniform(0.1, 0.7)

    if rng.random() < 0.25:
        units["browInnerUp"] = max(units["browInnerUp"], rng.uniform(0, 0.5))
        both("browOuterUp", rng.uniform(0, 0.5), 0.3)
    elif rng.random() < 0.08:
        both("browDown", rng.uniform(0, 0.4))
    if rng.random() < 0.12:
        side = rng.choice(["Left", "Right"])
        units["mouthSmile" + side] = float(np.clip(units["mouthSmile" + side] + rng.uniform(-0.4, 0.4), 0, 1))
        units["mouth" + side] = rng.uniform(0, 0.4)
    if rng.random() < 0.06:
        units["jaw" + rng.choice(["Left", "Right"])] = rng.uniform(0.1, 0.5)
    if rng.random() < 0.05:
        units["cheekPuff"] = rng.uniform(0.1, 0.7)

    lids = rng.random()
    if lids < 0.14:
        both("eyeBlink", rng.uniform(0.1, 1), 0.03)
    elif lids < 0.19:
        both("eyeBlink", rng.uniform(0.9, 1), 0.0)
    elif lids < 0.22:
        units["eyeBlink" + rng.choice(["Left", "Right"])] = rng.uniform(0.5, 1)
    elif lids < 0.45:
        both("eyeBlink", rng.uniform(0, 0.12), 0.2)
    elif lids < 0.6:
        both("eyeWide", max(units["eyeWideLeft"], rng.uniform(0, 0.5)), 0.1)
    return {name: float(np.clip(value, 0, 1)) for name, value in units.items()}


def age_of_years(years: float) -> float:
    """MakeHuman's age number: young adults are 0.5, the oldest 1."""
    return float(np.interp(years, [16, 20, 26, 45, 65, 85], [0.4, 0.44, 0.5, 0.66, 0.84, 1]))


def _sample_identity(person: Person, rng: np.random.Generator) -> bool:
    male = bool(rng.random() < 0.5)
    softness = min(0.25, abs(rng.normal(0, 0.08)))
    person["gender"] = 1 - softness if male else softness
    years = rng.choice(
        [rng.uniform(17, 24), rng.uniform(22, 40), rng.uniform(38, 58), rng.uniform(56, 80)],
        p=[0.18, 0.34, 0.27, 0.21],
    )
    age = person["age"] = age_of_years(float(years))
    ethnicity = rng.dirichlet([0.55, 0.55, 0.55])
    person["african"], person["asian"], person["caucasian"] = map(float, ethnicity)
    person["muscle"] = float(np.clip(rng.normal(0.5, 0.14), 0.1, 0.9))
    person["weight"] = float(np.clip(rng.normal(0.47, 0.15), 0.12, 0.9))
    for form in HEAD_FORMS:
        most = 0.22 if form == "square" else 0.4
        person[f"head_{form}"] = float(rng.uniform(0.05, most)) if rng.random() < 0.22 else 0.0
    for name, (_, _, spread) in SHAPE_TARGETS.items():
        person[name] = float(np.clip(rng.normal(_LEANING.get(name, 0.0), spread * 0.75), -2 * spread, 2 * spread))
    old = max(0.0, age - 0.66) / 0.34
    person["eye_bag"] = min(0.4, float(person["eye_bag"]) + 0.25 * old)

    tone = float(ethnicity @ np.array([0.74, 0.26, 0.08])) + rng.normal(0, 0.09)
    melanin = float(np.clip(tone, 0.0, 0.95))
    person["skin_melanin"] = melanin
    person["skin_redness"] = float(np.clip(rng.normal(0.15, 0.5), -1.5, 1.5))
    person["weathered"] = float(np.clip(rng.normal(0, 0.05), -0.12, 0.12))
    person["beard_shadow"] = float(rng.uniform(0, 1))
    light_skin = melanin < 0.4
    person["freckles"] = float(np.clip(rng.normal(-0.3, 0.55), 0, 1)) * light_skin
    person["brow_thickness"] = float(np.clip(rng.normal(0.6 if male else 0.42, 0.16), 0.1, 1))
    person["lash_darkness"] = float(np.clip(rng.normal(0.3 if male else 0.75, 0.15), 0.05, 1))
    return male


def _sample_colors(person: Person, rng: np.random.Generator, male: bool) -> None:
    age = float(person["age"])
    dark = float(person["african"]) + float(person["asian"])
    if rng.random() < dark**1.5:
        name = rng.choice(["black", "dark", "brown"], p=[0.48, 0.37, 0.15])
    else:
        name = rng.choice(list(_HAIR_COLOURS), p=[0.04, 0.1, 0.22, 0.17, 0.08, 0.1, 0.11, 0.12, 0.06])
    hair = np.array(_HAIR_COLOURS[str(name)]) / 255 * rng.uniform(0.88, 1.15)
    grey = float(np.clip((age - 0.64) / 0.24, 0, 1) * rng.uniform(0.4, 1.3)) if age > 0.64 else 0.0
    dyed = not male and rng.random() < 0.3
    early = rng.random() < 0.06
    person["grey"] = float(np.clip(rng.uniform(0.2, 1) if early else grey * (0.1 if dyed else 1), 0, 1))
    _set_color(person, "hair_color", hair)
    _set_color(person, "brow_color", np.minimum(hair * np.array([0.76, 0.7, 0.68]), 0.6))
    _set_color(person, "iris", _IRIS_COLOURS[rng.integers(2 if rng.random() < dark else 6)] * rng.uniform(0.85, 1.15))
    made_up = rng.random() < (0.03 if male else 0.55)
    person["lipstick"] = float(rng.uniform(0.1, 0.9)) if made_up and rng.random() < 0.85 else 0.0
    person["eye_makeup"] = float(rng.uniform(0.2, 1)) if made_up else 0.0
    _set_color(person, "lipstick_color", _LIPSTICKS[rng.integers(len(_LIPSTICKS))])


def _sample_hair(person: Person, rng: np.random.Generator, male: bool) -> None:
    styles = _STYLES_MALE if male else _STYLES_FEMALE
    weights = np.array(list(styles.values()))
    style = str(rng.choice(list(styles), p=weights / weights.sum()))
    age = float(person["age"])
    if male and age > 0.75 and rng.random() < 0.35:
        style = "ring"
    if age < 0.55 and style == "ring":
        style = "forward"
    if style == "afro" and float(person["african"]) < 0.25 and rng.random() < 0.7:
        style = "curls"
    person["hair"] = style
    person["hair_length"] = float(rng.uniform(0, 1))
    person["hair_sides"] = float(rng.uniform(0, 1))
    person["hair_volume"] = float(np.clip(rng.normal(0.5, 0.22), 0, 1))
    person["hair_part"] = float(rng.choice([-0.28, 0.0, 0.28]) + rng.normal(0, 0.04))
    receding = 0.1 * max(0.0, age - 0.55) if male else 0.0
    person["hair_line"] = float(np.clip(rng.normal(0, 0.025) + receding, -0.1, 0.15))
    person["hair_wave"] = float(np.clip(rng.choice([rng.uniform(0, 0.2), rng.uniform(0.3, 1)], p=[0.55, 0.45]), 0, 1))
    fringe = style == "long" and not male and rng.random() < 0.4
    person["hair_fringe"] = float(rng.uniform(0.55, 1)) if fringe else 0.0


def _sample_beard_and_glasses(person: Person, rng: np.random.Generator, male: bool) -> None:
    person["beard"] = "none"
    if male and float(person["age"]) > 0.45:
        person["beard"] = str(rng.choice(BEARDS, p=[0.40, 0.20, 0.15, 0.07, 0.11, 0.07]))
    person["beard_length"] = float(rng.uniform(0, 1)) ** 1.5
    person["beard_density"] = float(rng.uniform(0.2, 1))
    person["sideburns"] = float(rng.uniform(0.3, 1)) if male and rng.random() < 0.25 else 0.0
    person["glasses"] = str(rng.choice(GLASSES, p=[0.80, 0.1, 0.1]))
    person["glasses_size"] = float(rng.uniform(0, 1))
    person["glasses_thickness"] = float(rng.uniform(0, 1))
    _set_color(person, "glasses_color", _FRAMES[rng.integers(len(_FRAMES))])


def _sample_pose_and_gaze(person: Person, rng: np.random.Generator) -> None:
    wide = rng.random() < 0.2
    person["yaw"] = float(np.clip(rng.uniform(-0.87, 0.87) if wide else rng.normal(0, 0.26), -0.87, 0.87))
    person["pitch"] = float(np.clip(rng.uniform(-0.45, 0.45) if wide else rng.normal(0.01, 0.12), -0.52, 0.52))
    person["roll"] = float(np.clip(rng.uniform(-0.3, 0.3) if wide else rng.normal(0, 0.08), -0.35, 0.35))
    if rng.random() < 0.62:
        contact = (-float(person["yaw"]) + rng.normal(0, 0.03), -float(person["pitch"]) + rng.normal(0, 0.02))
    else:
        contact = (rng.normal(0, 0.2), rng.normal(0, 0.1))
    person["gaze_x"] = float(np.clip(contact[0], -0.45, 0.45))
    person["gaze_y"] = float(np.clip(contact[1], -0.3, 0.3))


def _sample_surroundings(person: Person, rng: np.random.Generator) -> None:
    person["light_azimuth"] = float(np.clip(rng.normal(0, 0.65), -1.15, 1.15))
    person["light_elevation"] = float(rng.uniform(0.15, 0.9))
    person["light_contrast"] = float(np.clip(rng.beta(2, 2.4), 0, 1))
    person["light_temperature"] = float(np.clip(rng.normal(0.1, 0.4), -1, 1))
    person["light_size"] = float(rng.uniform(2, 9))
    person["light_rim"] = float(rng.choice([0.0, rng.uniform(0.2, 1)]))
    person["exposure"] = float(np.clip(rng.normal(0.0, 0.32), -0.8, 0.9))

    hue, saturation, value = rng.random(), rng.uniform(0, 0.45), rng.uniform(0.18, 0.95)
    inner = colorsys.hsv_to_rgb(hue, saturation, value)
    outer = colorsys.hsv_to_rgb(
        (hue + rng.normal(0, 0.06)) % 1,
        float(np.clip(saturation + rng.normal(0, 0.1), 0, 1)),
        float(np.clip(value * rng.uniform(0.55, 1.1), 0, 1)),
    )
    _set_color(person, "background_inner", np.array(inner))
    _set_color(person, "background_outer", np.array(outer))
    person["background_tilt"] = float(rng.uniform(0, 1))

    person["covering"] = str(rng.choice(COVERINGS, p=[0.93, 0.025, 0.025, 0.02]))
    cover = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.7), rng.uniform(0.12, 0.9))
    _set_color(person, "covering_color", np.array(cover))
    person["hand"] = str(rng.choice(HANDS, p=[0.96, 0.02, 0.02]))
    person["hand_x"], person["hand_y"] = (float(v) for v in rng.uniform(-1, 1, 2))

    person["neckline"] = str(rng.choice(NECKLINES, p=[0.35, 0.2, 0.15, 0.3]))
    shirt = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.65), rng.uniform(0.15, 0.92))
    trim = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.4), rng.uniform(0.2, 0.95))
    _set_color(person, "shirt", np.array(shirt))
    _set_color(person, "shirt_trim", np.array(trim))


def _set_color(person: Person, name: str, srgb: np.ndarray) -> None:
    for channel, value in zip("rgb", np.clip(srgb, 0, 1), strict=True):
        person[f"{name}_{channel}"] = float(value)
