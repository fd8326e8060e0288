"""Named points on the base mesh, so that their true position in every picture is known."""

from __future__ import annotations

import functools

import numpy as np
from scipy.spatial import cKDTree

from training.render.person.meshdata import load_base_mesh
from training.render.person.regions import brow_curve, load_regions

_MIDDLE = {
    "nose_bridge": 136,
    "nose_tip": 297,
    "nose_base": 312,
    "lip_top": 466,
    "lip_inner_top": 474,
    "lip_inner_bottom": 494,
    "lip_bottom": 496,
    "chin": 5171,
}
_LEFT = {
    "eye_outer": 13377,
    "eye_inner": 7771,
    "lid_top": 6785,
    "lid_top_outer": 13358,
    "lid_top_inner": 11483,
    "lid_bottom": 11479,
    "lid_bottom_outer": 11477,
    "lid_bottom_inner": 11480,
    "mouth_corner": 7184,
}
_NEAREST_LEFT = {
    # neutral coordinates, snapped to the skin
    "nose_wing": (0.165, 6.93, 1.43),
    "lip_top_side": (0.12, 6.665, 1.56),
    "lip_bottom_side": (0.12, 6.53, 1.52),
    "jaw": (0.55, 6.42, 0.95),
    "cheek": (0.42, 6.98, 1.3),
}
_BROW_STEPS = {"brow_inner": 0.0, "brow_middle": 0.5, "brow_outer": 1.0}


@functools.cache
def landmark_vertices() -> dict[str, int]:
    """Landmark name -> base-mesh vertex. Eye centres are not vertices and come first in `LANDMARKS`."""
    mesh = load_base_mesh()
    skin = load_regions().skin.index
    tree = cKDTree(mesh.vertices[skin])

    def snap(point: np.ndarray) -> int:
        return int(skin[tree.query(point)[1]])

    left = dict(_LEFT)
    for name, point in _NEAREST_LEFT.items():
        left[name] = snap(np.array(point))
    for name, t in _BROW_STEPS.items():
        x, y, _ = brow_curve(np.array([t]))
        near = mesh.vertices[skin]
        distance = np.hypot(near[:, 0] - x, near[:, 1] - y) + (near[:, 2] < 0.9)
        left[name] = int(skin[np.argmin(distance)])
    points = dict(_MIDDLE)
    for name, vertex in left.items():
        points[f"{name}_left"] = vertex
        points[f"{name}_right"] = snap(mesh.vertices[vertex] * np.array([-1, 1, 1]))
    return points


@functools.cache
def landmark_names() -> tuple[str, ...]:
    """Order of the rows of `landmarks.npy`; left and right are the person's own."""
    return ("eye_centre_left", "eye_centre_right", *landmark_vertices())
