"""What skin shows closer up than the mesh has vertices: wrinkles, folds, spots, pores, stubble and make-up, as one picture.

The picture lies around the head like a cylinder: column by the angle from the face about the head's axis, row by height, both of
the neutral mesh, so that it follows every morph. Its red, green and blue multiply the skin's color; its alpha is relief, in
decimetres. Everything is drawn once by rule and kept; a person is a weighted sum of it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom
from scipy.spatial import cKDTree

from training.render.person.features import Person
from training.render.person.meshdata import load_base_mesh
from training.render.person.regions import CENTER, load_regions

SIZE = 512
WIDEST = np.radians(110)
"""The picture goes so far to either side."""
LOWEST, HIGHEST = 5.2, 8.4
"""Heights of its lower and upper edge, in decimetres."""

_ARC = 0.75  # a typical distance of the face from the head's axis
_ACROSS, _UP = SIZE / (2 * WIDEST * _ARC), SIZE / (HIGHEST - LOWEST)  # pixels per decimetre
_COARSE = 4

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Skin:
    """How old and rough a person's skin looks, and what the moment does to it; all numbers are 0..1 or a little more."""

    age: float
    frown: float
    raised: float
    smile: tuple[float, float]  # the person's left, right
    squint: tuple[float, float]


def skin_of(person: Person) -> Skin:
    """The numbers that folds follow: years, and the expression that deepens them."""

    def mean(name: str) -> float:
        return (float(person[f"{name}Left"]) + float(person[f"{name}Right"])) / 2

    def sides(*names: str) -> tuple[float, float]:
        left, right = (max(float(person[f"{name}{side}"]) for name in names) for side in ("Left", "Right"))
        return left, right

    years = float(person["age"]) + float(person["weathered"])
    return Skin(
        age=float(np.interp(years, [0.48, 0.58, 0.66, 0.84, 1.0, 1.15], [0.0, 0.16, 0.5, 1.0, 1.3, 1.5])),
        frown=mean("browDown"),
        raised=max(float(person["browInnerUp"]), mean("browOuterUp")),
        smile=sides("mouthSmile", "mouthDimple"),
        squint=sides("cheekSquint", "eyeSquint"),
    )


def skin_detail(person: Person, toon: bool) -> np.ndarray:
    """float32 [SIZE, SIZE, 4], the lowest row first, as Blender keeps pictures: color multiplier and relief."""
    draw, skin = _drawing(), skin_of(person)
    groove = sum((weight * draw.lines[name] for name, weight in _line_weights(skin).items()), np.zeros((SIZE, SIZE), np.float32))
    if toon:
        ink = np.clip(1.6 * (groove - 0.45), 0, 0.5)
        ink = np.maximum(ink, 0.1 * np.clip(skin.age, 0, 1) * draw.soft["trough"])
        return _packed(1 - ink[..., None] * np.array([0.62, 0.85, 0.8], np.float32), np.zeros_like(ink))
    melanin = float(person["skin_melanin"])
    old, young = min(1.3, skin.age), float(np.clip((0.6 - float(person["age"])) / 0.2, 0, 1))
    color: np.ndarray = np.asarray(1 - np.clip(groove, 0, 1.5)[..., None] * np.array([0.28, 0.4, 0.42]), np.float32)
    hollow: np.ndarray = old * (
        0.24 * draw.soft["trough"] + 0.2 * draw.soft["jowl"] + 0.2 * draw.soft["temple"] + 0.12 * draw.soft["cheek"]
    )
    color = color * (1 - hollow[..., None] * np.array([0.75, 1.0, 0.95], np.float32))
    spots = np.clip(old - 0.2, 0, 1) * draw.spots * (0.5 - 0.3 * melanin)
    color = color * (1 - spots[..., None] * np.array([0.55, 0.8, 1.0], np.float32))
    uneven = (0.3 + 0.55 * old) * (1 - 0.6 * young)
    color = color * (1 + uneven * 0.045 * draw.mottle[..., None] * np.array([0.7, 1.15, 1.1], np.float32))
    masculine = _masculine(person)
    _shade_beard(color, person, draw, masculine)
    _make_up(color, person, draw)
    relief = -0.02 * groove + old * (0.022 * draw.soft["bag"] - 0.012 * draw.soft["trough"])
    rough = 0.35 + 0.3 * old + 0.25 * max(0.0, masculine) - 0.2 * young
    relief += 0.0032 * rough * draw.pores + old * 0.0022 * draw.crepe
    return _packed(color, relief)


def _masculine(person: Person) -> float:
    return float(np.clip(2 * float(person["gender"]) - 1, -1, 1))


def _shade_beard(color: np.ndarray, person: Person, draw: _Drawing, masculine: float) -> None:
    """The grey shadow of a shaven beard, and stubble as dots."""
    grown_up = float(np.clip((float(person["age"]) - 0.42) / 0.06, 0, 1))
    shadow = max(0.0, masculine) * grown_up * (0.55 + 0.45 * float(person["beard_shadow"]))
    light = float(
        np.clip(np.mean([float(person[f"brow_color_{c}"]) for c in "rgb"]) * 1.4 + 0.4 * float(person["grey"]), 0, 0.55)
    )
    dark = 1 - light
    color *= 1 - (0.72 * shadow * dark * draw.beard)[..., None] * np.array([1.0, 0.88, 0.78], np.float32)
    if person["beard"] == "stubble":
        density = 0.35 + 0.65 * float(person["beard_density"])
        dots = draw.beard * (0.3 + 0.7 * draw.stubble) * density * (0.35 + 0.5 * dark)
        color *= 1 - dots[..., None] * np.array([0.95, 0.97, 0.98], np.float32)


def _make_up(color: np.ndarray, person: Person, draw: _Drawing) -> None:
    amount = float(person["eye_makeup"])
    if amount > 0:
        color *= 1 - (amount * 0.55 * draw.soft["lid"])[..., None] * np.array([0.75, 0.95, 0.8], np.float32)
        color *= 1 - (amount * 0.85 * draw.lines["liner"])[..., None]
        color *= 1 - (amount * 0.22 * draw.soft["rouge"])[..., None] * np.array([0.1, 1.0, 0.8], np.float32)


def _line_weights(skin: Skin) -> dict[str, float]:
    old = skin.age
    weights = {
        "forehead": 0.95 * old + 0.55 * skin.raised * (0.35 + old),
        "glabella": 0.75 * old + 0.6 * skin.frown * (0.4 + old),
        "lips": 0.9 * np.clip(old - 0.3, 0, 1),
        "marionette": 0.95 * np.clip(old - 0.08, 0, 1.2),
        "chin": 0.55 * old,
        "neck": 0.95 * old,
        "cheek": 0.75 * np.clip(old - 0.4, 0, 1),
        "under": 0.8 * old,
    }
    for side, smile, squint in zip(("left", "right"), skin.smile, skin.squint, strict=True):
        weights[f"nasolabial_{side}"] = 0.12 + 0.85 * old + 0.45 * smile * (0.5 + old)
        weights[f"crow_{side}"] = 0.85 * old + (0.35 * smile + 0.5 * squint) * (0.2 + old)
    return {name: float(weight) for name, weight in weights.items()}


def _packed(color: np.ndarray, relief: np.ndarray) -> np.ndarray:
    return np.concatenate([np.clip(color, 0.02, 1.4), relief[..., None]], -1).astype(np.float32)


@dataclass(frozen=True)
class _Drawing:
    """Pictures float32 [SIZE, SIZE]: grooves 0..1, soft areas 0..1, and textures around 0."""

    lines: dict[str, np.ndarray]
    soft: dict[str, np.ndarray]
    spots: np.ndarray
    mottle: np.ndarray
    pores: np.ndarray
    crepe: np.ndarray
    beard: np.ndarray
    stubble: np.ndarray


@functools.cache
def _drawing() -> _Drawing:
    rng = np.random.default_rng(21)
    lines = _lines(rng)
    beard = on_picture(load_regions().beard_soft)
    return _Drawing(
        lines=lines,
        soft=_soft_areas(),
        spots=_spots(rng),
        mottle=_band(rng, 5, 22),
        pores=_band(rng, 0.8, 2.0),
        crepe=_band(rng, 1.6, 5.0),
        beard=beard,
        stubble=np.clip(_band(rng, 0.7, 2.2) * 0.8 + 0.2, 0, 1),
    )


def on_picture(values: np.ndarray) -> np.ndarray:
    """Per-vertex values [n] as a picture float32 [SIZE, SIZE]: of the nearest skin vertex in cylinder coordinates, smoothed."""
    nearest = _nearest_vertices()
    picture = values[nearest].reshape(SIZE // _COARSE, SIZE // _COARSE).astype(np.float32)
    return np.asarray(zoom(gaussian_filter(picture, 0.8), _COARSE, order=1, mode="nearest", grid_mode=True), np.float32)


@functools.cache
def _nearest_vertices() -> np.ndarray:
    mesh, regions = load_base_mesh(), load_regions()
    index = regions.skin.index[~regions.mouth_inside[regions.skin.index]]
    column, row = _place(mesh.vertices[index])
    grid = (np.arange(SIZE // _COARSE) + 0.5) * _COARSE
    rows, columns = np.meshgrid(grid, grid, indexing="ij")
    tree = cKDTree(np.stack([column, row], 1))
    return np.asarray(index[tree.query(np.stack([columns.ravel(), rows.ravel()], 1))[1]])


def _place(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neutral points [n, 3] -> column and row in the picture, in pixels."""
    angle = np.arctan2(points[:, 0], points[:, 2] - CENTER[2])
    return (angle / (2 * WIDEST) + 0.5) * SIZE, (points[:, 1] - LOWEST) * _UP


@functools.cache
def _front() -> tuple[cKDTree, np.ndarray]:
    mesh, regions = load_base_mesh(), load_regions()
    points = mesh.vertices[regions.skin.index[~regions.mouth_inside[regions.skin.index]]]
    points = points[points[:, 2] > CENTER[2]]
    return cKDTree(points[:, :2]), points


def _curve(points: Points, steps: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A smooth curve through front points (x, y) -> columns and rows."""
    xy = np.array(points, float)
    at = np.linspace(0, len(xy) - 1, steps)
    if len(xy) > 2:
        from scipy.interpolate import CubicSpline

        xy = CubicSpline(np.arange(len(xy)), xy)(at)
    else:
        xy = xy[0] + (xy[1] - xy[0]) * at[:, None]
    tree, front = _front()
    distance, near = tree.query(xy, k=4)
    # Of what lies behind one another (an ear, the neck under the chin) the foremost counts.
    weight = 1 / (distance + 0.02)
    depth = (front[near, 2] * weight).sum(1) / weight.sum(1)
    return _place(np.stack([xy[:, 0], xy[:, 1], depth], 1))


def _stroke(curves: Sequence[Points], width: float, taper: float = 1.0, steps: int = 60) -> np.ndarray:
    """Grooves along curves, `width` in decimetres, thinning out towards their ends: float32 [SIZE, SIZE], 0..1."""
    strength, painted = np.zeros((SIZE, SIZE), np.float32), np.ones((SIZE, SIZE), bool)
    for points in curves:
        columns, rows = _curve(points, steps)
        fine = np.linspace(0, steps - 1, steps * 8)
        column = np.interp(fine, np.arange(steps), columns).astype(int)
        row = np.interp(fine, np.arange(steps), rows).astype(int)
        along = fine / (steps - 1)
        inside = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
        strength[row[inside], column[inside]] = (np.sin(np.pi * np.clip(along, 0.04, 0.96)) ** (0.5 * taper))[inside]
        painted[row[inside], column[inside]] = False
    distance, (near_row, near_column) = distance_transform_edt(painted, return_indices=True)
    profile = np.exp(-((distance / (width * _ACROSS)) ** 2))
    ridge = 0.3 * np.exp(-((distance / (2.4 * width * _ACROSS)) ** 2))
    return (strength[near_row, near_column] * np.clip(profile + 0.4 * ridge, 0, 1)).astype(np.float32)


def _mirrored(points: Points, rng: np.random.Generator, wobble: float = 0.006) -> list[Points]:
    sides: list[Points] = []
    for side in (1, -1):
        sides.append([(side * x + rng.normal(0, wobble), y + rng.normal(0, wobble)) for x, y in points])
    return sides


def _lines(rng: np.random.Generator) -> dict[str, np.ndarray]:
    lines: dict[str, np.ndarray] = {}
    forehead: list[Points] = []
    for height, reach in ((7.63, 0.34), (7.715, 0.42), (7.80, 0.44), (7.875, 0.4), (7.94, 0.3)):
        x = np.linspace(-reach, reach, 9)
        sag = 0.022 * np.cos(np.pi * x / 0.5 * 2) + rng.normal(0, 0.008, len(x))
        forehead.append([(float(a), float(height + b - 0.02)) for a, b in zip(x, sag, strict=True)])
    lines["forehead"] = _stroke(forehead, 0.016, steps=120)
    lines["glabella"] = _stroke(_mirrored([(0.055, 7.40), (0.048, 7.47), (0.062, 7.55)], rng), 0.015)
    for side, name in ((1, "left"), (-1, "right")):
        crow: list[Points] = []
        for turn, reach in ((40, 0.10), (20, 0.14), (2, 0.15), (-18, 0.14), (-38, 0.13)):
            tilt, from_corner = np.radians(turn + rng.normal(0, 3)), 0.03
            cos, sin = float(np.cos(tilt)), float(np.sin(tilt))
            start = (0.47 + from_corner * cos, 7.285 + 0.045 * sin + from_corner * sin)
            crow.append([(side * start[0], start[1]), (side * (start[0] + reach * cos), start[1] + reach * sin)])
        lines[f"crow_{name}"] = _stroke(crow, 0.011)
        lines[f"nasolabial_{name}"] = _stroke(
            [[(side * x, y) for x, y in ((0.205, 6.975), (0.27, 6.88), (0.325, 6.76), (0.35, 6.64), (0.345, 6.57))]], 0.026, 0.7
        )
    lines["marionette"] = _stroke(_mirrored([(0.275, 6.60), (0.31, 6.52), (0.315, 6.43), (0.30, 6.36)], rng), 0.02)
    lines["under"] = np.maximum(
        _stroke(_mirrored([(0.20, 7.20), (0.26, 7.155), (0.34, 7.145), (0.42, 7.175)], rng), 0.017),
        0.6 * _stroke(_mirrored([(0.23, 7.215), (0.30, 7.195), (0.38, 7.205)], rng), 0.009),
    )
    lips: list[Points] = []
    for across in np.linspace(-0.19, 0.19, 10).tolist():
        lips.append([(across, 6.69), (across * 1.12, 6.765 + float(rng.normal(0, 0.01)))])
        lips.append([(across, 6.52), (across * 1.1, 6.47)])
    lines["lips"] = _stroke(lips, 0.008)
    lines["chin"] = _stroke([[(-0.13, 6.43), (-0.05, 6.455), (0.05, 6.455), (0.13, 6.43)]], 0.02)
    cheek: list[Points] = []
    for across in (0.43, 0.49, 0.545):
        cheek += _mirrored([(across, 7.02 - (across - 0.43)), (across + 0.02, 6.86), (across - 0.02, 6.70)], rng)
    lines["cheek"] = _stroke(cheek, 0.012)
    neck: list[Points] = []
    for height in (6.02, 5.88, 5.74):
        x = np.linspace(-0.42, 0.42, 7)
        neck.append([(float(a), float(height + 0.18 * a * a + rng.normal(0, 0.01))) for a in x])
    neck += _mirrored([(0.11, 6.0), (0.10, 5.8), (0.07, 5.6)], rng)
    lines["neck"] = _stroke(neck, 0.018)
    lines["liner"] = _stroke(
        [[(s * x, y) for x, y in ((0.215, 7.27), (0.27, 7.335), (0.33, 7.345), (0.40, 7.325), (0.46, 7.305))] for s in (1, -1)],
        0.013, 0.4,
    )  # fmt: skip
    return lines


def _soft_areas() -> dict[str, np.ndarray]:
    def blob(x: float, y: float, wide: float, high: float) -> np.ndarray:
        total = np.zeros((SIZE, SIZE), np.float32)
        grid = np.arange(SIZE) + 0.5
        for side in (1, -1):
            column, row = _curve([(side * x, y), (side * x, y + 0.001)], 2)
            across = (grid[None, :] - column[0]) / _ACROSS / wide
            total += np.exp(-(across**2) - ((grid[:, None] - row[0]) / _UP / high) ** 2).astype(np.float32)
        return np.minimum(total, 1)

    return {
        "trough": np.maximum(blob(0.27, 7.165, 0.12, 0.045), blob(0.2, 7.22, 0.05, 0.06)),
        "bag": blob(0.31, 7.19, 0.11, 0.03),
        "jowl": np.maximum(blob(0.36, 6.40, 0.07, 0.09), blob(0.40, 6.66, 0.05, 0.16)),
        "temple": blob(0.60, 7.45, 0.1, 0.16),
        "cheek": blob(0.50, 6.85, 0.1, 0.2),
        "lid": blob(0.32, 7.375, 0.13, 0.045),
        "rouge": blob(0.45, 7.02, 0.16, 0.1),
    }


def _spots(rng: np.random.Generator) -> np.ndarray:
    spots = np.zeros((SIZE, SIZE), np.float32)
    grid = np.arange(SIZE) + 0.5
    for _ in range(46):
        angle, height = rng.uniform(-75, 75), rng.choice([rng.uniform(6.5, 7.15), rng.uniform(7.55, 8.1)])
        wide, high = rng.uniform(0.008, 0.028, 2)
        column, row = (np.radians(angle) / (2 * WIDEST) + 0.5) * SIZE, (height - LOWEST) * _UP
        shape = ((grid[None, :] - column) / _ACROSS / wide) ** 2 + ((grid[:, None] - row) / _UP / high) ** 2
        spots = np.maximum(spots, rng.uniform(0.4, 1) * np.exp(-(shape**1.5))).astype(np.float32)
    return spots


def _band(rng: np.random.Generator, fine: float, coarse: float) -> np.ndarray:
    """Noise between two sizes in pixels, of spread 1."""
    noise = rng.standard_normal((SIZE, SIZE))
    band = gaussian_filter(noise, fine) - gaussian_filter(noise, coarse)
    return (band / band.std()).astype(np.float32)
