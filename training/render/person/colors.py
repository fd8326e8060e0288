"""Colors painted on the mesh: skin tone with its reds and shadows, lips, lids, stubble, scalp, and where clothes begin."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from training.render.person.features import Person, color, linear
from training.render.person.meshdata import load_base_mesh
from training.render.person.regions import angle_from_front, load_regions

_SKIN = np.array(
    [(239, 205, 186), (233, 190, 164), (224, 174, 142), (204, 150, 114),
     (172, 120, 88), (136, 92, 66), (104, 69, 51), (80, 54, 43)]
) / 255  # fmt: skip


SILVER = np.array([0.46, 0.455, 0.45])
"""Linear RGB of hair without pigment: neutral, so that grey takes on no hue of its own."""


def greyed(rgb: np.ndarray, share: float) -> np.ndarray:
    """A hair color that has lost this share of its pigment; linear RGB [3]."""
    return rgb * (1 - share) + SILVER * share


def grey_brows(person: Person) -> float:
    """How grey the brows are: they follow the head late."""
    return float(np.clip(1.4 * float(person["grey"]) - 0.45, 0, 0.9))


def grey_beard(person: Person) -> float:
    """How grey a beard is: a little ahead of the head."""
    return float(np.clip(1.25 * float(person["grey"]), 0, 1))


def skin_tone(person: Person) -> np.ndarray:
    """Linear RGB [3] of the plain skin."""
    place = float(person["skin_melanin"]) * (len(_SKIN) - 1)
    tone = np.array([np.interp(place, np.arange(len(_SKIN)), _SKIN[:, channel]) for channel in range(3)])
    red = float(person["skin_redness"])
    return linear(np.clip(tone * np.array([1 + 0.02 * red, 1 - 0.03 * red, 1 - 0.03 * red]), 0, 1))


@functools.cache
def _mottle() -> np.ndarray:
    regions = load_regions()
    noise = regions.smooth(np.random.default_rng(5).standard_normal(len(load_base_mesh().vertices)), 4)
    return noise / noise[regions.skin.index].std()


def skin_colors(person: Person, toon: bool) -> np.ndarray:
    """Linear RGB [n, 3] for every base-mesh vertex."""
    mesh, regions = load_base_mesh(), load_regions()
    base, melanin, age = skin_tone(person), float(person["skin_melanin"]), float(person["age"])
    colors = np.tile(base, (len(mesh.vertices), 1))

    def mix(weight: np.ndarray, paint: np.ndarray) -> None:
        nonlocal colors
        share = np.clip(weight, 0, 1)[:, None]
        colors = colors * (1 - share) + paint * share

    blush = 0.55 * regions.cheeks + 0.45 * regions.nose_tip + 0.35 * mesh.ears
    youth = float(np.interp(age, [0.4, 0.5, 0.7, 1.0], [1.2, 1.0, 0.75, 0.6]))
    mix(blush * youth * (1 - 0.3 * melanin), base * np.array([1.02, 0.74, 0.70]))
    if not toon:
        mix(regions.eye_sockets * 0.16, base * np.array([0.82, 0.68, 0.68]))
        mix(regions.under_eyes * (0.08 + 0.25 * age), base * np.array([0.76, 0.64, 0.64]))
        mix(regions.upper_lids * 0.12, base * 0.75)
        colors = colors * np.clip(1 + 0.025 * _mottle()[:, None] * np.array([0.6, 1, 1]), 0.7, 1.3)
    _paint_lips(mix, person, base, melanin, toon)
    mix(regions.lid_rim * (0.2 + 0.65 * float(person["lash_darkness"]) + 0.2 * (1 - float(person["gender"]))), base * 0.08)
    if not toon:
        shade = 0.3 + 0.35 * float(person["brow_thickness"])
        mix(regions.brow_shade * shade, greyed(color(person, "brow_color"), grey_brows(person)) * 0.75 + base * 0.2)
    _paint_beard(mix, person, base, toon)
    if person["hair"] != "bald":
        scalp = greyed(color(person, "hair_color"), 0.8 * float(person["grey"]))
        mix(scalp_cover(person), scalp * 0.75 + base * (0.0 if toon else 0.05))
    mix(regions.mouth_inside * 0.95, np.array([0.14, 0.03, 0.03]))
    return np.minimum(colors * 1.25, 1.0) if toon else colors


def scalp_cover(person: Person) -> np.ndarray:
    """How much hair color shows on the scalp, [n] 0..1."""
    regions = load_regions()
    style = person["hair"]
    if style == "bald":
        return np.zeros(len(regions.scalp_soft))
    if style == "ring":
        vertices = load_base_mesh().vertices
        return regions.scalp_soft * ((vertices[:, 1] < 7.78) & (angle_from_front(vertices) > 60))
    if style == "buzz":
        return np.clip((regions.scalp_soft - 0.3) * 2.2, 0, 1) * (0.6 + 0.35 * float(person["hair_length"]))
    return regions.scalp_soft * 0.8


def _paint_lips(mix: Callable[..., None], person: Person, base: np.ndarray, melanin: float, toon: bool) -> None:
    lips = load_base_mesh().lips
    pale, deep = base * np.array([0.88, 0.54, 0.54]), base * np.array([0.95, 0.68, 0.68])
    dark = float(np.clip((melanin - 0.45) / 0.3, 0, 1))
    paler = 0.4 * float(person["gender"]) + 0.35 * float(np.clip((float(person["age"]) - 0.6) / 0.4, 0, 1))
    mix(lips * (0.7 if toon else 0.95) * (1 - paler), pale * (1 - dark) + deep * dark)
    if float(person["lipstick"]) > 0:
        mix(lips * float(person["lipstick"]) * 0.85, color(person, "lipstick_color"))


def _paint_beard(mix: Callable[..., None], person: Person, base: np.ndarray, toon: bool) -> None:
    regions, vertices = load_regions(), load_base_mesh().vertices
    kind, hair = person["beard"], greyed(color(person, "brow_color"), grey_beard(person))
    density = float(person["beard_density"])
    across, height, depth = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
    chin = regions.beard_soft * ((across < 0.3) & (height < 6.665) & (depth > 0.95))
    lip = regions.beard_soft * ((across < 0.33) & (height > 6.665))
    if kind == "stubble":
        if toon:
            mix(_crisp(regions.beard_soft) * (0.3 + 0.5 * density), base * np.array([0.78, 0.76, 0.78]))
        else:
            mix(regions.beard_soft * (0.1 + 0.2 * density), hair * 0.6 + base * 0.22)
    elif kind == "full":
        mix(_crisp(regions.beard_soft) if toon else regions.beard_soft * 0.62, hair * 0.75 + base * 0.1)
    elif kind in ("goatee", "mustache", "circle"):
        area = {"goatee": chin, "mustache": lip, "circle": np.maximum(chin, lip)}[str(kind)]
        mix(_crisp(area) if toon else area * (0.75 if kind == "mustache" else 0.62), hair * 0.75 + base * 0.1)

    if float(person["sideburns"]) > 0:
        sides = regions.beard_soft * (angle_from_front(vertices) > 56) * (height > 7.1 - 0.5 * float(person["sideburns"]))
        mix(_crisp(sides) if toon else sides * 0.62, hair * 0.75 + base * 0.1)


def _crisp(mask: np.ndarray) -> np.ndarray:
    return np.clip((mask - 0.3) * 5, 0, 1)


def freckles(person: Person) -> np.ndarray:
    """Strength of freckles, [n] 0..1."""
    return load_regions().freckled * min(1.0, float(person["freckles"]))


def clothing_edges(person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Heights above which cloth ends and above which the trim color begins, relative to each vertex: [n], > 0 is below."""
    x, y, z = load_base_mesh().vertices.T
    shoulders = 1.6 * np.maximum(np.abs(x) - 0.62, 0)
    crew = 5.60 + 0.22 * np.clip((0.5 - z) / 0.6, 0, 1) + shoulders
    vee = np.where(z > 0.1, np.minimum(4.85 + np.abs(x) * 1.35, 5.80), 5.80) + shoulders
    cloth, trim = {
        "crew": (crew, crew - 0.07),
        "vee": (vee, vee),
        "turtle": (6.02 + shoulders, 6.02 + shoulders),
        "collar": (crew, np.minimum(vee, crew)),
    }[str(person["neckline"])]
    return cloth - y, trim - y
