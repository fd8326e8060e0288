"""Parameters -> the person's mesh: body type, face shape, expression, the toon exaggeration, and the head's pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.render.person.features import EXPRESSION_UNITS, HEAD_FORMS, SHAPE_TARGETS, Person
from training.render.person.meshdata import add_target, load_base_mesh, target
from training.render.person.regions import EYE_MIDDLE, PIVOT, load_regions, unit

_TOON_TARGETS = {
    "eyes/l-eye-height2-incr": 0.8,
    "eyes/r-eye-height2-incr": 0.8,
    "nose/nose-scale-vert-decr": 0.5,
    "nose/nose-scale-horiz-decr": 0.55,
    "nose/nose-width2-decr": 0.5,
    "nose/nose-point-up": 0.3,
    "head/head-fat-incr": 0.2,
    "chin/chin-width-decr": 0.5,
    "chin/chin-height-decr": 0.4,
    "mouth/mouth-scale-horiz-decr": 0.2,
}
_OLD_TARGETS = {
    "head/head-age-incr": 0.75, "mouth/mouth-laugh-lines-in": 0.5, "eyes/#-eye-bag-incr": 0.3, "eyes/#-eye-eyefold-down": 0.45,
    "eyes/#-eye-corner2-down": 0.28, "mouth/mouth-upperlip-volume-decr": 0.55, "mouth/mouth-lowerlip-volume-decr": 0.45,
    "mouth/mouth-upperlip-height-decr": 0.25, "mouth/mouth-angles-down": 0.2, "cheek/#-cheek-trans-down": 0.35,
    "cheek/#-cheek-volume-decr": 0.3, "neck/neck-double-incr": 0.3, "nose/nose-scale-vert-incr": 0.15,
    "ears/#-ear-scale-incr": 0.3, "chin/chin-jaw-drop-incr": 0.3, "forehead/forehead-temple-decr": 0.35,
    "eyes/#-eye-height2-decr": 0.3, "eyebrows/eyebrows-trans-down": 0.15, "nose/nose-point-down": 0.2,
}  # fmt: skip
_YOUNG_TARGETS = {
    "head/head-age-decr": 0.25, "cheek/#-cheek-volume-incr": 0.35, "head/head-fat-incr": 0.1, "cheek/#-cheek-inner-incr": 0.2,
    "mouth/mouth-upperlip-volume-incr": 0.25, "mouth/mouth-lowerlip-volume-incr": 0.25, "nose/nose-scale-vert-decr": 0.15,
    "eyes/#-eye-bag-decr": 0.2, "chin/chin-bones-decr": 0.2, "eyes/#-eye-scale-incr": 0.08,
}  # fmt: skip
_MASCULINE_TARGETS = {
    "eyebrows/eyebrows-trans-forward": 0.65, "eyebrows/eyebrows-trans-down": 0.28, "forehead/forehead-trans-backward": 0.2,
    "chin/chin-width-incr": 0.4, "chin/chin-bones-incr": 0.45, "chin/chin-prominent-incr": 0.4, "chin/chin-height-incr": 0.3,
    "head/head-square": 0.25, "cheek/#-cheek-volume-decr": 0.2, "nose/nose-scale-horiz-incr": 0.2, "nose/nose-hump-incr": 0.15,
    "mouth/mouth-upperlip-volume-decr": 0.3, "mouth/mouth-lowerlip-volume-decr": 0.2, "mouth/mouth-scale-horiz-incr": 0.15,
    "neck/neck-scale-horiz-incr": 0.45, "neck/neck-scale-depth-incr": 0.3, "eyes/#-eye-height2-decr": 0.2,
    "eyes/#-eye-scale-decr": 0.15,
}  # fmt: skip
_FEMININE_TARGETS = {
    "eyebrows/eyebrows-trans-backward": 0.3, "eyebrows/eyebrows-trans-up": 0.3, "eyebrows/eyebrows-angle-up": 0.2,
    "chin/chin-width-decr": 0.4, "chin/chin-bones-decr": 0.4, "chin/chin-height-decr": 0.2, "chin/chin-triangle": 0.2,
    "cheek/#-cheek-bones-incr": 0.25, "nose/nose-scale-horiz-decr": 0.3, "nose/nose-point-up": 0.2, "nose/nose-width2-decr": 0.25,
    "mouth/mouth-upperlip-volume-incr": 0.4, "mouth/mouth-lowerlip-volume-incr": 0.4, "mouth/mouth-cupidsbow-incr": 0.25,
    "neck/neck-scale-horiz-decr": 0.5, "neck/neck-scale-depth-decr": 0.3, "eyes/#-eye-scale-incr": 0.15,
    "eyes/#-eye-height2-incr": 0.2, "eyes/#-eye-corner2-up": 0.15,
}  # fmt: skip
_EXPRESSION_GAIN = {"browDown": 1.7, "browInnerUp": 1.7, "browOuterUp": 1.7}
"""Face units that the mesh's own targets show too little of: a person's brows go further."""
_TOON_EYE_GROWTH = 0.55
_FACE_QUAD = 1.25
"""Size of the FFHQ quad after normalization: every head fills the crop alike."""
_ROTATION_STEPS = 8


@dataclass(frozen=True)
class Eye:
    """An eyeball: center [3] and radius."""

    center: np.ndarray
    radius: float


@dataclass(frozen=True)
class Shape:
    """A head before it is turned: vertices [n, 3] and the eyes, the person's left one first."""

    vertices: np.ndarray
    left_eye: Eye
    right_eye: Eye

    @property
    def eyes(self) -> tuple[Eye, Eye]:
        return self.left_eye, self.right_eye


def build_shape(person: Person, toon: bool) -> Shape:
    """The morphed mesh with its expression, eyes midway at `EYE_MIDDLE`."""
    regions = load_regions()
    vertices = load_base_mesh().vertices.copy()
    _add_body_type(vertices, person)
    _add_face_shape(vertices, person)
    if toon:
        for name, weight in _TOON_TARGETS.items():
            add_target(vertices, name, weight)
    vertices, scale = _normalize(vertices)
    _add_expression(vertices, person, scale)
    _settle_teeth(vertices, person, toon)
    eyes = [_eye(vertices, regions.left_eye), _eye(vertices, regions.right_eye)]
    if toon:
        vertices, eyes = _grow_eyes(vertices, eyes)
    return Shape(vertices, *eyes)


def normals(vertices: np.ndarray) -> np.ndarray:
    """Smooth vertex normals [n, 3] of the skin."""
    triangles = load_regions().triangles
    corners = vertices[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.empty_like(vertices)
    flat = triangles.T.ravel()
    for axis in range(3):
        total[:, axis] = np.bincount(flat, np.tile(face[:, axis], 3), len(vertices))
    return unit(total)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix: roll first, then pitch, then yaw."""
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


class Pose:
    """Turns points with the head: rigid where they follow fully, blended down the neck."""

    def __init__(self, person: Person) -> None:
        self.angles = np.array([person["yaw"], person["pitch"], person["roll"]], np.float64)
        self.matrix = rotation(*self.angles)
        self._steps = np.stack([rotation(*(self.angles * k / _ROTATION_STEPS)) for k in range(_ROTATION_STEPS + 1)])

    def rigid(self, points: np.ndarray) -> np.ndarray:
        """Points [n, 3] that are part of the skull."""
        return (points - PIVOT) @ self.matrix.T + PIVOT

    def blended(self, points: np.ndarray, follow: np.ndarray) -> np.ndarray:
        """Points [n, 3], each following the head by `follow` [n] 0..1."""
        out = np.empty_like(points)
        whole = follow > 0.999
        still = follow < 0.001
        out[whole] = self.rigid(points[whole])
        out[still] = points[still]
        part = ~(whole | still)
        step = follow[part] * _ROTATION_STEPS
        low = np.clip(np.floor(step).astype(int), 0, _ROTATION_STEPS - 1)
        fraction = (step - low)[:, None]
        relative = points[part] - PIVOT
        before = np.einsum("nij,nj->ni", self._steps[low], relative)
        after = np.einsum("nij,nj->ni", self._steps[low + 1], relative)
        out[part] = before * (1 - fraction) + after * fraction + PIVOT
        return out


def _add_body_type(vertices: np.ndarray, person: Person) -> None:
    age = _between(float(person["age"]), ["child", "young", "old"], [0.1875, 0.5, 1])
    muscle = _between(float(person["muscle"]), ["minmuscle", "averagemuscle", "maxmuscle"], [0, 0.5, 1])
    weight = _between(float(person["weight"]), ["minweight", "averageweight", "maxweight"], [0, 0.5, 1])
    gender = {"female": 1 - float(person["gender"]), "male": float(person["gender"])}
    for a, by_age in age.items():
        for g, by_gender in gender.items():
            for ethnicity in ("african", "asian", "caucasian"):
                share = float(person[ethnicity])
                add_target(vertices, f"macrodetails/{ethnicity}-{g}-{a}", by_age * by_gender * share)
            for m, by_muscle in muscle.items():
                for w, by_weight in weight.items():
                    share = by_age * by_gender * by_muscle * by_weight
                    if share > 1e-4:
                        add_target(vertices, f"macrodetails/universal-{g}-{a}-{m}-{w}", share)


def _between(value: float, names: list[str], knots: list[float]) -> dict[str, float]:
    value = float(np.clip(value, knots[0], knots[-1]))
    upper = int(np.clip(np.searchsorted(knots, value, side="right"), 1, len(knots) - 1))
    share = (value - knots[upper - 1]) / (knots[upper] - knots[upper - 1])
    return {names[upper - 1]: 1 - share, names[upper]: share}


def _add_face_shape(vertices: np.ndarray, person: Person) -> None:
    for name, (negative, positive, _) in SHAPE_TARGETS.items():
        value = float(person[name])
        path = positive if value > 0 else negative
        for side in ("l", "r") if "#" in path else ("",):
            add_target(vertices, path.replace("#", side), abs(value))
    for form in HEAD_FORMS:
        add_target(vertices, f"head/head-{form}", float(person[f"head_{form}"]))
    for side in "lr":
        add_target(vertices, f"eyes/{side}-eye-scale-incr", 0.32)
        add_target(vertices, f"eyes/{side}-eye-height2-incr", 0.4)
    _add_years(vertices, person)
    _add_gender(vertices, person)


def _add_all(vertices: np.ndarray, targets: dict[str, float], amount: float) -> None:
    for name, weight in targets.items():
        for side in ("l", "r") if "#" in name else ("",):
            add_target(vertices, name.replace("#", side), amount * weight)


def _add_years(vertices: np.ndarray, person: Person) -> None:
    """What the body types leave out of aging: sagging lids, cheeks and chin, thinner lips; and a fuller, rounder youth."""
    age = float(person["age"])
    _add_all(vertices, _OLD_TARGETS, float(np.interp(age, [0.58, 0.7, 0.84, 1.0], [0.0, 0.3, 0.8, 1.1])))
    _add_all(vertices, _YOUNG_TARGETS, float(np.interp(age, [0.4, 0.46, 0.56], [1.0, 0.7, 0.0])))


def _add_gender(vertices: np.ndarray, person: Person) -> None:
    """What the body types leave out: brow ridge, jaw, chin, lips, neck."""
    masculine = float(np.clip(2 * float(person["gender"]) - 1, -1, 1))
    _add_all(vertices, _MASCULINE_TARGETS if masculine > 0 else _FEMININE_TARGETS, 1.2 * abs(masculine))


def _normalize(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    regions = load_regions()
    left, right = vertices[regions.left_eye].mean(0), vertices[regions.right_eye].mean(0)
    middle = (left + right) / 2
    drop = middle[1] - vertices[regions.lips].mean(0)[1]
    scale = _FACE_QUAD / max(2 * float(np.linalg.norm(left - right)), 1.8 * drop)
    return (vertices - middle) * scale + EYE_MIDDLE, scale


def _add_expression(vertices: np.ndarray, person: Person, scale: float) -> None:
    regions = load_regions()
    balls = np.concatenate([regions.left_eye, regions.right_eye])
    balls_before = vertices[balls].copy()
    for unit_name in EXPRESSION_UNITS:
        weight = float(person[unit_name])
        if weight > 1e-3:
            index, offset = target(unit_name)
            gain = _EXPRESSION_GAIN.get(unit_name.removesuffix("Left").removesuffix("Right"), 1.0)
            vertices[index] += gain * weight * scale * offset
    # The lids follow the gaze.
    down = float(np.clip(person["gaze_y"], -0.35, 0.35)) / 0.35
    for side in ("Left", "Right"):
        index, offset = target(f"eyeLookDown{side}" if down > 0 else f"eyeLookUp{side}")
        vertices[index] += abs(down) * scale * offset * (1 - float(person[f"eyeBlink{side}"]))
    vertices[balls] = balls_before


def _settle_teeth(vertices: np.ndarray, person: Person, toon: bool) -> None:
    """The stock teeth sit high and close to the lips; open mouths need them lower and further in."""
    groups = load_base_mesh().groups
    upper, lower, tongue = (groups[f"helper-{name}"] for name in ("upper-teeth", "lower-teeth", "tongue"))
    lift = 0.5 * (float(person["mouthUpperUpLeft"]) + float(person["mouthUpperUpRight"]))
    opening = float(person["jawOpen"]) + 0.5 * lift
    # Behind nearly closed lips they must not peek through the gap.
    vertices[np.concatenate([upper, lower, tongue]), 2] -= 0.015 + 0.04 * max(0.0, 1 - 4 * opening)
    vertices[upper, 1] -= 0.015 + 0.03 * min(1.0, opening * 2)
    vertices[lower, 1] -= 0.02 + 0.09 * min(1.0, opening * 1.5)
    vertices[lower, 2] -= 0.04
    vertices[tongue, 1] -= 0.03
    if toon:
        # The short toon chin has no room for lower teeth: fold them away inside the skull.
        vertices[lower] = EYE_MIDDLE - np.array([0, 0.2, 0.6])


def _eye(vertices: np.ndarray, index: np.ndarray) -> Eye:
    ball = vertices[index]
    low, high = ball.min(0), ball.max(0)
    return Eye((low + high) / 2, float(high[0] - low[0]) / 2)


def _grow_eyes(vertices: np.ndarray, eyes: list[Eye]) -> tuple[np.ndarray, list[Eye]]:
    for eye in eyes:
        offset = vertices - eye.center
        distance = np.linalg.norm(offset, axis=1)
        same_side = 1 / (1 + np.exp(-vertices[:, 0] * np.sign(eye.center[0]) / 0.03))
        vertices = vertices + offset * (_TOON_EYE_GROWTH * np.exp(-((distance / 0.36) ** 2)) * same_side)[:, None]
    return vertices, [Eye(eye.center, eye.radius * (1 + _TOON_EYE_GROWTH * 0.91)) for eye in eyes]
