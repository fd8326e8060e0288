"""Beards and brows as strands (natural) or as clean tapered shapes (toon)."""

from __future__ import annotations

import functools

import numpy as np

from training.render.person import colors
from training.render.person.features import Person
from training.render.person.growth import Roots, Strands, beard_roots, brow_roots
from training.render.person.regions import angle_from_front, brow_curve, unit

_BROW_POINTS = 9


@functools.cache
def _beard_areas() -> dict[str, np.ndarray]:
    neutral = beard_roots().neutral
    across = np.abs(neutral[:, 0])
    mustache = (neutral[:, 1] > 6.665) & (across < 0.33) & (neutral[:, 2] > 1.2)
    goatee = (across < 0.30) & (neutral[:, 2] > 0.95) & (neutral[:, 1] < 6.665)
    everything = np.ones(len(neutral), bool)
    sideburns = (angle_from_front(neutral) > 56) & (neutral[:, 1] > 6.62)
    return {
        "sideburns": sideburns,
        "none": ~everything,
        "full": everything,
        "goatee": goatee,
        "mustache": mustache,
        "circle": goatee | mustache,
    }


def grow_beard(person: Person, vertices: np.ndarray, skin_normals: np.ndarray, toon: bool) -> Strands | None:
    """Strands of beard, mustache and sideburns, or None for a shaven or stubbly face (stubble is painted)."""
    kind, sideburns = str(person["beard"]), float(person["sideburns"])
    kind = "none" if kind == "stubble" else kind
    if kind == "none" and sideburns <= 0:
        return None
    areas, roots = _beard_areas(), beard_roots()
    chance = roots.chance
    mustache_alone = kind == "mustache"
    keep = areas[kind] & (mustache_alone | (chance[:, 5] < 0.45 + 0.55 * float(person["beard_density"])))
    keep |= areas["sideburns"] & (roots.neutral[:, 1] > 7.1 - 0.5 * sideburns) & (sideburns > 0)
    if toon:
        keep &= np.arange(len(keep)) < 2600
    mustache = areas["mustache"][keep]
    chance = chance[keep]
    start, normal = roots.on(vertices, keep), unit(roots.on(skin_normals, keep))
    length = (
        (0.05 + 0.15 * float(person["beard_length"]))
        * (0.7 + 0.6 * chance[:, 0])
        * np.where(mustache, 0.62 if mustache_alone else 0.5, 1.0)
    )
    length = np.where(areas["sideburns"][keep] & ~areas[kind][keep], np.minimum(length, 0.07), length)
    sideways = np.stack([start[:, 0] * 2.2, np.full(len(start), -0.4), np.zeros(len(start))], 1)
    direction = unit(normal * 0.3 + np.array([0, -1, 0.1]) + 0.25 * (chance[:, 1:4] - 0.5) + mustache[:, None] * sideways)
    along = np.linspace(0, 1, 4)[None, :, None]
    reach = length[:, None, None]
    points = start[:, None] + direction[:, None] * reach * along + np.array([0, -1, -0.15]) * 0.25 * reach * along**2
    thick = (0.03 if toon else 0.0062) * np.where(mustache, 1.15, 1.0)
    radius = thick[:, None] * np.array([1, 1, 0.8, 0.4])
    return Strands(
        points, radius, 0.85 + 0.3 * chance[:, 2], _facing(points) if toon else None, _mottled(colors.grey_beard(person), chance)
    )


def grow_brows(person: Person, vertices: np.ndarray, skin_normals: np.ndarray, toon: bool) -> Strands:
    """Brows: fine hairs over a painted shade, or one tapered stroke each."""
    if toon:
        return _toon_brows(person, vertices, skin_normals)
    roots, along, across = brow_roots()
    thickness = _thickness(person)
    keep = (np.abs(across) < 0.4 + 0.7 * thickness) & (roots.chance[:, 0] < 0.4 + 0.45 * thickness)
    along, across, chance = along[keep], across[keep], roots.chance[keep]
    start, normal = roots.on(vertices, keep), unit(roots.on(skin_normals, keep))
    side = np.sign(roots.neutral[keep, 0])
    direction = unit(np.stack([side * (0.7 + 0.3 * along), 0.5 - 0.95 * along - 0.35 * across, -0.25 * along], 1))
    direction = unit(direction - normal * (direction * normal).sum(1, keepdims=True) + 0.1 * normal)
    length = 0.06 * (0.7 + 0.6 * chance[:, 1]) * np.where(along > 0.85, 0.6, 1.0)
    t = np.linspace(0, 1, 4)[None, :, None]
    points = start[:, None] + direction[:, None] * length[:, None, None] * t
    radius = np.broadcast_to(0.0038 * np.array([0.9, 1, 0.8, 0.3]), points.shape[:2])
    return Strands(points, radius, 0.9 + 0.2 * chance[:, 2], None, _mottled(colors.grey_brows(person), chance))


def _thickness(person: Person) -> float:
    """A man's brows are heavier than a woman's with as much hair: 0..1.3."""
    return float(np.clip(float(person["brow_thickness"]) + 0.32 * (2 * float(person["gender"]) - 1), 0.05, 1.3))


@functools.cache
def _stroke_roots() -> tuple[Roots, np.ndarray]:
    roots, _, _ = brow_roots()
    t = np.linspace(0.02, 0.98, _BROW_POINTS)
    x, y, half_width = brow_curve(t)
    rows = []
    for side in (1, -1):
        on_side = np.flatnonzero(np.sign(roots.neutral[:, 0]) == side)
        for px, py in zip(x, y, strict=True):
            distance = np.hypot(roots.neutral[on_side, 0] - side * px, roots.neutral[on_side, 1] - py)
            rows.append(on_side[np.argmin(distance)])
    return roots.pick(np.array(rows)), half_width


def _toon_brows(person: Person, vertices: np.ndarray, skin_normals: np.ndarray) -> Strands:
    roots, half_width = _stroke_roots()
    points = (roots.on(vertices) + 0.012 * unit(roots.on(skin_normals))).reshape(2, _BROW_POINTS, 3)
    for _ in range(2):
        points[:, 1:-1] = 0.5 * points[:, 1:-1] + 0.25 * (points[:, :-2] + points[:, 2:])
    inward = np.linspace(1, 0, _BROW_POINTS)
    points[:, :, 1] += 0.025 + 0.026 * inward**2
    radius = np.broadcast_to(half_width * (0.6 + 0.6 * _thickness(person)), (2, _BROW_POINTS))
    grey = np.full(2, colors.grey_brows(person))
    return Strands(points, radius, np.ones(2), np.tile([0.0, 0.0, 1.0], (2, 1)), grey)


def _mottled(share: float, chance: np.ndarray) -> np.ndarray:
    """Some hairs grey before others: [n] 0..1, in the mean about `share`."""
    return np.clip(share * 1.3 - 0.3 + 2 * (share - chance[:, 4]), 0, 1) * min(1.0, 4 * share)


def _facing(points: np.ndarray) -> np.ndarray:
    return unit(points.mean(1) - np.array([0, 7.0, 0.6]))
