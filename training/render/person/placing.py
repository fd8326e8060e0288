"""A person before the camera: the FFHQ square, landmarks, and what moves with the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.render.person.features import Person
from training.render.person.growth import Strands
from training.render.person.landmarks import landmark_vertices
from training.render.person.meshdata import load_base_mesh
from training.render.person.shape import Pose, Shape, build_shape
from training.render.scene.camera import View, ffhq_view

CAMERA_DISTANCE = 13.0


@dataclass(frozen=True)
class Sitting:
    """A person in place: the natural look's camera square and landmarks in world coordinates [L, 3]."""

    view: View
    landmarks: np.ndarray


_LID_POINTS = (
    "eye_outer", "eye_inner", "lid_top", "lid_top_outer", "lid_top_inner", "lid_bottom", "lid_bottom_outer", "lid_bottom_inner",
)  # fmt: skip


def sit(person: Person, shape: Shape | None = None) -> Sitting:
    """Poses the natural head to find its FFHQ square and its landmarks."""
    shape = shape or build_shape(person, toon=False)
    pose, mesh = Pose(person), load_base_mesh()
    points = landmark_vertices()
    vertex = np.array(list(points.values()))
    posed = pose.blended(shape.vertices[vertex], mesh.head_weight[vertex])
    centres = pose.rigid(np.stack([eye.center for eye in shape.eyes]))
    names = list(points)
    corners = posed[[names.index("mouth_corner_right"), names.index("mouth_corner_left")]]
    middle = centres.mean(0)
    position = np.array([0.7 * middle[0], middle[1] - 0.1, middle[2] * 0.5 + CAMERA_DISTANCE])
    # As landmark trackers see it: the eyes are where their lids are, which turning heads move against the eyeballs.
    eyes = np.stack([posed[[names.index(f"{point}_{side}") for point in _LID_POINTS]].mean(0) for side in ("right", "left")])
    return Sitting(ffhq_view(position, eyes, corners), np.concatenate([centres, posed]))


def turned(strands: Strands | None, pose: Pose) -> Strands | None:
    """Strands that were grown on the straight head, in its pose."""
    if strands is None:
        return None
    flat = strands.points.reshape(-1, 3)
    follow = np.interp(flat[:, 1], [5.3, 6.3], [0.1, 1.0])
    points = pose.blended(flat, follow).reshape(strands.points.shape)
    normal = None if strands.normal is None else strands.normal @ pose.matrix.T
    return Strands(points, strands.radius, strands.shade, normal, strands.grey)


def tuck_ears(vertices: np.ndarray) -> None:
    """Lays the ears flat, in place, for hair that hangs over them."""
    share = np.clip(load_base_mesh().ears * 1.5, 0, 1)
    x = vertices[:, 0]
    vertices[:, 0] -= share * np.sign(x) * np.maximum(np.abs(x) - 0.70, 0) * 0.85
