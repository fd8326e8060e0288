"""Regions of the head that never change: which faces belong to what, and masks in neutral base-mesh coordinates."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from training.render.person.meshdata import BODY_VERTICES, BaseMesh, load_base_mesh

CENTER = np.array([0, 7.45, 0.65])
"""The middle of the skull: hair grows away from it."""
EYE_MIDDLE = np.array([0, 7.284, 1.245])
"""Where the midpoint between the eyes lies after normalization."""
PIVOT = np.array([0, 6.55, 0.45])
"""The head turns about this point."""

_HAIRLINE_ANGLE = np.array([0, 25, 42, 52, 60, 66, 74, 86, 90, 104, 112, 122, 140, 180])
_HAIRLINE_HEIGHT = np.array([8.02, 8.03, 7.98, 7.86, 7.66, 7.40, 7.12, 7.12, 7.38, 7.40, 7.12, 6.9, 6.72, 6.62])

_RIM_ANGLE = np.array([0, 45, 70, 85, 110, 140, 180])
_RIM_HEIGHT = np.array([7.83, 7.74, 7.56, 7.42, 7.2, 7.05, 6.98])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] scaled to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def angle_from_front(points: np.ndarray) -> np.ndarray:
    """Degrees around the head, 0 at the face and 180 at the back, the same on both sides."""
    return np.degrees(np.arctan2(np.abs(points[..., 0]), points[..., 2] - CENTER[2]))


def hairline_height(angle: np.ndarray) -> np.ndarray:
    """Height of the neutral hairline at an angle from the front."""
    return np.interp(angle, _HAIRLINE_ANGLE, _HAIRLINE_HEIGHT)


def rim_height(angle: np.ndarray) -> np.ndarray:
    """Height of a cap's rim at an angle from the front, degrees."""
    return np.interp(angle, _RIM_ANGLE, _RIM_HEIGHT)


@dataclass(frozen=True)
class Surface:
    """Part of the mesh as its own object: `index` are base-mesh vertices, `faces` number within `index`."""

    index: np.ndarray
    faces: list[list[int]]


@dataclass(frozen=True)
class Regions:
    """Faces per object, triangles of the skin, and masks float64 [n] over all base-mesh vertices."""

    skin: Surface
    shirt: Surface
    teeth: Surface
    tongue: Surface
    lashes: Surface
    triangles: np.ndarray
    average: sparse.csr_matrix
    scalp: np.ndarray
    scalp_soft: np.ndarray
    beard: np.ndarray
    beard_soft: np.ndarray
    mouth_inside: np.ndarray
    cheeks: np.ndarray
    nose_tip: np.ndarray
    eye_sockets: np.ndarray
    upper_lids: np.ndarray
    under_eyes: np.ndarray
    lid_rim: np.ndarray
    freckled: np.ndarray
    brow_shade: np.ndarray
    left_eye: np.ndarray
    right_eye: np.ndarray
    lips: np.ndarray

    def smooth(self, values: np.ndarray, steps: int) -> np.ndarray:
        """Averages per-vertex values [n] or [n, k] over skin neighbours, `steps` times."""
        for _ in range(steps):
            values = self.average @ values
        return values


def brow_curve(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The brow from its inner (0) to its outer end (1) in neutral coordinates: |x|, y, half width."""
    x = 0.125 + 0.41 * t
    y = 7.484 + 0.022 * np.sin(np.pi * np.clip(t * 0.78 + 0.02, 0, 1)) - 0.075 * np.clip(t - 0.6, 0, 1)
    half_width = np.interp(t, [0, 0.12, 0.5, 1], [0.012, 0.027, 0.025, 0.007])
    return x, y, half_width


@functools.cache
def load_regions() -> Regions:
    """Computes the regions once per process."""
    mesh = load_base_mesh()
    vertices = mesh.vertices
    x, y, z = vertices.T
    across = np.abs(x)
    near = [
        f
        for f, group in zip(mesh.faces, mesh.face_groups, strict=True)
        if group == "body" and all(vertices[i, 1] > 4.3 and across[i] < 2.8 for i in f)
    ]
    shirt = [f for f in near if all(y[i] < 6.25 and not (z[i] > 0.8 and y[i] > 6.0) for i in f)]
    triangles = np.array([t for f in near for t in _fan(f)])
    average = _averaging(triangles, len(vertices))

    skin = np.arange(len(vertices)) < BODY_VERTICES
    angle = angle_from_front(vertices)
    mouth_inside = mesh.mouth_cavity > 0.4
    ear_faces = np.zeros(len(vertices))
    for f in near:
        ear_faces[f] = np.maximum(ear_faces[f], mesh.ears[f].max())
    scalp = (
        np.clip((y - hairline_height(angle)) / 0.05 + 0.5, 0, 1)
        * (ear_faces < 0.25)
        * (y > 6.5)
        * skin
        * ((np.hypot(x, z - 0.65) > 0.48) | (y > 8))
        * ~mouth_inside
    )
    beard = _beard_mask(mesh, angle, mouth_inside) * skin

    def smooth(mask: np.ndarray, steps: int) -> np.ndarray:
        for _ in range(steps):
            mask = average @ mask
        return mask

    nose_tip = np.exp(-((x / 0.14) ** 2 + ((y - 6.98) / 0.14) ** 2)) * (z > 1.45)
    curve_x, curve_y, half_width = brow_curve(np.linspace(0, 1, 60))
    brow_t = (across - 0.125) / 0.41
    brow_off = (y - np.interp(across, curve_x, curve_y)) / (np.interp(across, curve_x, half_width) + 0.012)
    return Regions(
        skin=_surface(near),
        shirt=_surface(shirt),
        teeth=_surface([f for f, g in zip(mesh.faces, mesh.face_groups, strict=True) if "teeth" in g]),
        tongue=_surface([f for f, g in zip(mesh.faces, mesh.face_groups, strict=True) if g == "helper-tongue"]),
        lashes=_surface([f for f, g in zip(mesh.faces, mesh.face_groups, strict=True) if "eyelashes-2" in g]),
        triangles=triangles,
        average=average,
        scalp=scalp,
        scalp_soft=smooth(scalp, 2),
        beard=beard,
        beard_soft=smooth(beard, 3) * (mesh.lips < 0.3),
        mouth_inside=mouth_inside,
        cheeks=np.exp(-(((across - 0.42) / 0.2) ** 2 + ((y - 6.98) / 0.2) ** 2)) * (z > 0.8),
        nose_tip=nose_tip,
        eye_sockets=np.exp(-(((across - 0.31) / 0.22) ** 2 + ((y - 7.27) / 0.13) ** 2)) * (z > 0.9),
        upper_lids=np.exp(-(((across - 0.32) / 0.2) ** 2 + ((y - 7.36) / 0.06) ** 2)) * (z > 0.95),
        under_eyes=np.exp(-(((across - 0.31) / 0.16) ** 2 + ((y - 7.17) / 0.05) ** 2)) * (z > 0.95),
        lid_rim=np.clip(mesh.eyelids * 1.3, 0, 1) * (np.clip((y - 7.275) / 0.03 + 0.5, 0, 1) * 0.85 + 0.15),
        freckled=np.clip(np.exp(-(((across - 0.35) / 0.3) ** 2 + ((y - 7.0) / 0.22) ** 2)) * (z > 0.7) + nose_tip, 0, 1),
        brow_shade=np.exp(-(brow_off**2)) * np.clip(brow_t * 6, 0, 1) * np.clip((1.02 - brow_t) * 6, 0, 1) * (z > 0.95),
        left_eye=mesh.groups["helper-l-eye"],
        right_eye=mesh.groups["helper-r-eye"],
        lips=np.flatnonzero(mesh.lips > 0.5),
    )


def _beard_mask(mesh: BaseMesh, angle: np.ndarray, mouth_inside: np.ndarray) -> np.ndarray:
    x, y, z = mesh.vertices.T
    across = np.abs(x)
    cheek_line = np.interp(angle, [0, 14, 20, 30, 45, 60, 76, 90], [6.84, 6.86, 6.78, 6.60, 6.55, 6.72, 7.1, 7.1])
    mustache = (y < 6.885 - 0.35 * np.maximum(across - 0.12, 0)) & (y > 6.62) & (across < 0.36) & (z > 1.15)
    jaw = (angle < 88) & (y < cheek_line) & (y > 6.02) & (z > 0.75)
    nostrils = (across < 0.2) & (np.abs(y - 6.98) < 0.2) & (z < 1.4) & (z > 0.9)
    mask = ((mustache | jaw) & (mesh.lips < 0.45) & (mesh.ears < 0.15) & ~mouth_inside & ~nostrils).astype(float)
    mask[(y < 6.2) & (z < 0.95)] *= 0.4
    return mask


def _fan(face: list[int]) -> list[list[int]]:
    return [[face[0], face[k], face[k + 1]] for k in range(1, len(face) - 1)]


def _surface(faces: list[list[int]]) -> Surface:
    index, renumbered = np.unique(np.concatenate([np.array(f) for f in faces]), return_inverse=True)
    ends = np.cumsum([len(f) for f in faces])[:-1]
    return Surface(index, [part.tolist() for part in np.split(renumbered, ends)])


def _averaging(triangles: np.ndarray, count: int) -> sparse.csr_matrix:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    neighbours = sparse.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    degree = np.asarray(neighbours.sum(1)).ravel()
    scale = sparse.diags(np.where(degree > 0, 0.6 / np.maximum(degree, 1), 0))
    keep = sparse.diags(np.where(degree > 0, 0.4, 1.0))
    return (keep + scale @ neighbours).tocsr()
