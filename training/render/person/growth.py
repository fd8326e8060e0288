"""Where hair grows and how it stays outside the head: fixed roots on the mesh, and a height map of each head."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import cKDTree

from training.render.person.meshdata import load_base_mesh
from training.render.person.regions import (
    CENTER,
    angle_from_front,
    brow_curve,
    hairline_height,
    load_regions,
    unit,
)

SCALP_ROOTS, BEARD_ROOTS, LOCKS = 11000, 6000, 420
_ANGLES, _ROWS, _ROWS_BELOW = 96, 72, 48
_DEPTH = 3.0


@dataclass(frozen=True)
class Strands:
    """Curves of equal point count: points [n, k, 3], radius [n, k], shade [n], for toon a flat normal [n, 3], and how much of its
    color each has lost, [n] 0..1.
    """

    points: np.ndarray
    radius: np.ndarray
    shade: np.ndarray
    normal: np.ndarray | None = None
    grey: np.ndarray | None = None


@dataclass(frozen=True)
class Roots:
    """Fixed points on the skin: triangles [n, 3] with barycentric weights [n, 3], so that they follow every morph.

    `neutral` are the points on the base mesh, `chance` uniform numbers [n, 6] of their own.
    """

    triangles: np.ndarray
    weights: np.ndarray
    neutral: np.ndarray
    chance: np.ndarray

    def on(self, values: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Interpolates per-vertex values [v, 3] at the roots."""
        return np.einsum("nk,nkd->nd", self.weights[rows], values[self.triangles[rows]])

    def pick(self, rows: np.ndarray) -> Roots:
        return Roots(self.triangles[rows], self.weights[rows], self.neutral[rows], self.chance[rows])


@functools.cache
def scalp_roots() -> Roots:
    return scatter(load_regions().scalp, SCALP_ROOTS, 0.3, 1)


@functools.cache
def beard_roots() -> Roots:
    return scatter(load_regions().beard, BEARD_ROOTS, 0.5, 2)


@functools.cache
def brow_roots() -> tuple[Roots, np.ndarray, np.ndarray]:
    """Roots with their place along the brow (0 inner, 1 outer) and across it (-1..1 of the half width)."""
    vertices = load_base_mesh().vertices
    front = (vertices[:, 2] > 0.95) & (vertices[:, 1] > 7.3) & (vertices[:, 1] < 7.75) & (load_regions().average.diagonal() < 1)
    roots = scatter(front.astype(float), 22000, 0.5, 3)
    along = (np.abs(roots.neutral[:, 0]) - 0.125) / 0.41
    _, height, half_width = brow_curve(np.clip(along, 0, 1))
    across = (roots.neutral[:, 1] - height) / half_width
    keep = (along > 0) & (along < 1) & (np.abs(across) < 1.5)
    return roots.pick(keep), along[keep], across[keep]


@functools.cache
def lock_of_root() -> np.ndarray:
    """The nearest of the first `LOCKS` roots: strands clump towards it."""
    neutral = scalp_roots().neutral
    return cKDTree(neutral[:LOCKS]).query(neutral)[1]


@dataclass(frozen=True)
class ScalpPlaces:
    """Where each scalp root is: degrees from the front, height above the hairline, direction from the center."""

    angle: np.ndarray
    margin: np.ndarray
    direction: np.ndarray


@functools.cache
def scalp_places() -> ScalpPlaces:
    neutral = scalp_roots().neutral
    angle = angle_from_front(neutral)
    return ScalpPlaces(angle, neutral[:, 1] - hairline_height(angle), unit(neutral - CENTER))


class HeadHeight:
    """Distance of a head's surface from its axis (below) or center (above), to keep hair outside."""

    def __init__(self, vertices: np.ndarray) -> None:
        points = _collision_roots().on(vertices)
        angle, row, distance, _ = _capsule(points)
        grid = np.zeros((_ANGLES, _ROWS))
        np.maximum.at(grid, (angle.astype(int) % _ANGLES, row.astype(int)), distance)
        rows = np.arange(_ROWS) + 0.5
        height = CENTER[1] - _DEPTH + rows / _ROWS_BELOW * _DEPTH
        shoulders = (rows < _ROWS_BELOW) & (height < 6.15)
        grid = np.minimum(grid, np.where(shoulders, 0.62, 9.0))
        grid = np.where(grid > 0, grid, maximum_filter(grid, 3, mode=("wrap", "nearest")))
        self._grid = np.maximum(grid, gaussian_filter(grid, 1.0, mode=("wrap", "nearest")))

    def push_out(self, points: np.ndarray, clearance: np.ndarray) -> np.ndarray:
        """Moves points [n, 3] to at least `clearance` above the surface."""
        angle, row, distance, above = _capsule(points)
        least = self._lookup(angle, row) + clearance
        scale = np.where(distance < least, least / np.maximum(distance, 1e-6), 1.0)
        offset = points - CENTER
        scaled = offset * scale[:, None]
        scaled[~above, 1] = offset[~above, 1]
        return CENTER + scaled

    def lay(self, points: np.ndarray, clearance: np.ndarray) -> np.ndarray:
        """Moves points [n, 3] to exactly `clearance` above the surface, from within or from outside."""
        angle, row, distance, above = _capsule(points)
        scale = (self._lookup(angle, row) + clearance) / np.maximum(distance, 1e-6)
        offset = points - CENTER
        scaled = offset * scale[:, None]
        scaled[~above, 1] = offset[~above, 1]
        return CENTER + scaled

    def _lookup(self, angle: np.ndarray, row: np.ndarray) -> np.ndarray:
        angle, row = angle - 0.5, np.clip(row - 0.5, 0, _ROWS - 1.001)
        i, j = np.floor(angle).astype(int), np.floor(row).astype(int)
        f, g = angle - i, row - j
        j_next = np.minimum(j + 1, _ROWS - 1)
        grid, i, i_next = self._grid, i % _ANGLES, (i + 1) % _ANGLES
        low = grid[i, j] * (1 - f) + grid[i_next, j] * f
        return low * (1 - g) + (grid[i, j_next] * (1 - f) + grid[i_next, j_next] * f) * g


def _capsule(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    offset = points - CENTER
    across = np.hypot(offset[:, 0], offset[:, 2])
    above = offset[:, 1] > 0
    elevation = np.arctan2(np.maximum(offset[:, 1], 0), across)
    distance = np.where(above, np.hypot(across, offset[:, 1]), across)
    row = np.where(
        above,
        _ROWS_BELOW + elevation / (np.pi / 2) * (_ROWS - _ROWS_BELOW - 0.01),
        np.clip((offset[:, 1] + _DEPTH) / _DEPTH, 0, 1) * _ROWS_BELOW,
    )
    angle = (np.arctan2(offset[:, 0], offset[:, 2]) / (2 * np.pi) + 0.5) * _ANGLES
    return angle, np.clip(row, 0, _ROWS - 1.001), distance, above


@functools.cache
def _collision_roots() -> Roots:
    mesh, regions = load_base_mesh(), load_regions()
    solid = (mesh.ears < 0.2) & ~regions.mouth_inside & (mesh.vertices[:, 1] > 4.4) & (regions.average.diagonal() < 1)
    return scatter(solid.astype(float), 30000, 0.9, 4)


def scatter(mask: np.ndarray, count: int, threshold: float, seed: int) -> Roots:
    """Uniform points on the triangles whose mean mask exceeds `threshold`, denser where the mask is larger."""
    vertices, triangles = load_base_mesh().vertices, load_regions().triangles
    weight = mask[triangles].mean(1)
    triangles, weight = triangles[weight > threshold], weight[weight > threshold]
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) * weight
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(triangles), count, p=area / area.sum())
    root = np.sqrt(rng.random(count))
    other = rng.random(count)
    weights = np.stack([1 - root, root * (1 - other), root * other], 1)
    neutral = np.einsum("nk,nkd->nd", weights, vertices[triangles[chosen]])
    return Roots(triangles[chosen], weights, neutral, rng.random((count, 6)))
