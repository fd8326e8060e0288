"""Spectacle frames as tubes around the eyes, drawn in head coordinates."""

from __future__ import annotations

import numpy as np

from training.render.person.features import Person
from training.render.person.meshdata import BODY_VERTICES, load_base_mesh
from training.render.person.shape import Shape

_SIDES = 6


def build_glasses(person: Person, shape: Shape) -> tuple[np.ndarray, list[list[int]]] | None:
    """Vertices [n, 3] before the head is turned, and quads; None without glasses."""
    kind = str(person["glasses"])
    if kind == "none":
        return None
    grow = 0.9 + 0.25 * float(person["glasses_size"])
    power, width, height = (2.0, 0.225 * grow, 0.215 * grow) if kind == "round" else (4.0, 0.25 * grow, 0.175 * grow)
    thickness = 0.007 + 0.021 * float(person["glasses_thickness"])
    tubes = _Tubes()
    temple = _temple_width(shape.vertices, shape.left_eye.center[1])
    for side, eye in zip((1, -1), shape.eyes, strict=True):
        turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        cos, sin = (np.sign(v) * np.abs(v) ** (2 / power) for v in (np.cos(turn), np.sin(turn)))
        x = eye.center[0] + side * 0.02 + width * cos
        rim = np.stack([x, eye.center[1] - 0.03 + height * sin, 1.62 - 0.25 * (np.abs(x) - 0.05) ** 2], 1)
        tubes.add(rim, thickness, closed=True)
        hinge = eye.center[0] + side * (0.02 + width)
        y = eye.center[1]
        arm = [
            [hinge, y + 0.03, 1.56],
            [hinge + side * 0.03, y + 0.03, 1.45],
            [side * temple, y + 0.04, 0.62],
        ]
        tubes.add(np.array(arm), thickness * 0.8, closed=False)
    inner = shape.left_eye.center[0] + 0.02 - width
    y = shape.left_eye.center[1] + 0.02
    bridge = [
        [inner, y, 1.60],
        [inner * 0.4, y + 0.03, 1.66],
        [-inner * 0.4, y + 0.03, 1.66],
        [-inner, y, 1.60],
    ]
    tubes.add(np.array(bridge), thickness, closed=False)
    return np.array(tubes.points), tubes.quads


def _temple_width(vertices: np.ndarray, height: float) -> float:
    mesh = load_base_mesh()
    depth = mesh.vertices[:, 2]
    near = (np.abs(vertices[:, 1] - height) < 0.15) & (depth > 0.55) & (depth < 0.9) & (mesh.ears < 0.1)
    near &= np.arange(len(vertices)) < BODY_VERTICES
    return float(np.abs(vertices[near, 0]).max()) + 0.03


class _Tubes:
    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.quads: list[list[int]] = []

    def add(self, path: np.ndarray, radius: float, closed: bool) -> None:
        first, count = len(self.points), len(path)
        for i in range(count):
            ahead = path[(i + 1) % count if closed else min(i + 1, count - 1)]
            behind = path[i - 1 if closed else max(i - 1, 0)]
            along = (ahead - behind) / np.linalg.norm(ahead - behind)
            a = np.cross(along, [0, 0.3, 1.0] if abs(along[2]) < 0.9 else [0, 1.0, 0])
            a /= np.linalg.norm(a)
            b = np.cross(along, a)
            for k in range(_SIDES):
                turn = 2 * np.pi * k / _SIDES
                self.points.append(path[i] + radius * (a * np.cos(turn) + b * np.sin(turn)))
        for i in range(count if closed else count - 1):
            here, there = first + i * _SIDES, first + (i + 1) % count * _SIDES
            for k in range(_SIDES):
                n = (k + 1) % _SIDES
                self.quads.append([here + k, here + n, there + n, there + k])
