"""What people wear on their heads and hold before their faces: caps, beanies, headscarves and hands."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass

import numpy as np

from training.render.person.features import Person
from training.render.person.growth import HeadHeight
from training.render.person.meshdata import data_folder, load_base_mesh
from training.render.person.regions import CENTER, rim_height, unit

_AROUND, _UPWARD = 48, 12
_VISOR_REACH = 0.72


@dataclass(frozen=True)
class Solid:
    """A mesh: points [n, 3] and quads."""

    points: np.ndarray
    quads: list[list[int]]


def build_covering(person: Person, vertices: np.ndarray) -> Solid | None:
    """A head covering before the head is turned; None for a bare head."""
    kind = str(person["covering"])
    if kind == "none":
        return None
    head = HeadHeight(vertices)
    if kind == "scarf":
        return _scarf(head)
    dome = _dome(head, 0.13 if kind == "beanie" else 0.09)
    return dome if kind == "beanie" else _with_visor(dome)


def build_hand(person: Person, vertices: np.ndarray) -> Solid | None:
    """A raised hand between face and camera, its back to the camera; it does not turn with the head."""
    side = str(person["hand"])
    if side == "none":
        return None
    hand = _hand()
    mirror = 1.0 if side == "left" else -1.0
    tilt = 0.35 * mirror + 0.3 * float(person["hand_x"])
    cos, sin = np.cos(tilt), np.sin(tilt)
    points = hand.points * np.array([mirror, 1, 1])
    turned = np.stack([points[:, 0] * cos - points[:, 1] * sin, points[:, 0] * sin + points[:, 1] * cos, points[:, 2]], 1)
    place = np.array([mirror * 0.42 + 0.35 * float(person["hand_x"]), 6.35 + 0.4 * float(person["hand_y"]), 1.95])
    quads = hand.quads if mirror > 0 else [quad[::-1] for quad in hand.quads]
    return Solid(turned + place, quads)


def _grid(rows: int, columns: int, closed: bool) -> list[list[int]]:
    last = columns if closed else columns - 1
    return [
        [r * columns + c, r * columns + (c + 1) % columns, (r + 1) * columns + (c + 1) % columns, (r + 1) * columns + c]
        for r in range(rows - 1)
        for c in range(last)
    ]


def _dome(head: HeadHeight, clearance: float) -> Solid:
    turn = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    folded = np.degrees(np.abs((turn + np.pi) % (2 * np.pi) - np.pi))
    rim = rim_height(folded)
    rows = []
    for k in range(_UPWARD):
        t = k / (_UPWARD - 1)
        height = rim + (8.6 - rim) * np.sin(t * np.pi / 2)
        inward = 0.3 * np.cos(t * np.pi / 2) + 0.001
        start = np.stack([np.sin(turn) * inward, CENTER[1] + (height - CENTER[1]) * np.where(height > CENTER[1], 0.35, 1.0),
                          CENTER[2] + np.cos(turn) * inward], 1)  # fmt: skip
        bulge = clearance * (1 + 0.35 * np.sin(t * np.pi)) + (0.05 if k < 3 and clearance > 0.1 else 0.0)
        rows.append(head.push_out(start, np.full(len(start), bulge)))
    return Solid(np.concatenate(rows), _grid(_UPWARD, _AROUND, closed=True))


def _with_visor(dome: Solid) -> Solid:
    rim = dome.points[:_AROUND]
    turn = np.linspace(-1.05, 1.05, 19)
    around = np.linspace(0, 2 * np.pi, _AROUND + 1)
    base = np.stack([np.interp(turn % (2 * np.pi), around, np.append(rim[:, axis], rim[0, axis])) for axis in range(3)], 1)
    reach = _VISOR_REACH * np.cos(turn / 1.05 * np.pi / 2)[:, None] ** 0.7
    rows = [base + np.array([0, -0.16 * t * t - 0.02, 0]) + reach * t * np.array([0, 0, 1.0]) for t in np.linspace(0, 1, 4)]
    visor = np.concatenate(rows)
    quads = _grid(4, len(turn), closed=False)
    first = len(dome.points)
    return Solid(np.concatenate([dome.points, visor]), dome.quads + [[first + i for i in quad] for quad in quads])


def _scarf(head: HeadHeight) -> Solid:
    turn = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)  # around the face, from the person's left upwards
    middle = np.array([0, 7.05, 0.55])
    opening = np.radians(np.interp(np.sin(turn), [-1, -0.4, 0.3, 1], [66, 60, 50, 58]))
    rows = []
    for k in range(_UPWARD):
        t = k / (_UPWARD - 1)
        away = opening + (np.pi - 0.02 - opening) * t
        direction = np.stack([np.sin(away) * np.cos(turn), np.sin(away) * np.sin(turn), np.cos(away)], 1)
        start = middle + direction * np.where(direction[:, 1:2] < 0, 0.95, 1.3)
        clearance = 0.07 + 0.05 * np.sin(np.pi * min(1.0, t * 2)) + 0.015 * np.sin(turn * 9 + 5 * t)
        rows.append(head.lay(start, clearance))
    return Solid(np.concatenate(rows), _grid(_UPWARD, _AROUND, closed=True))


@functools.cache
def _hand() -> Solid:
    """The left hand of the base mesh, its fingers upwards and its back towards +z, the wrist's middle at the origin."""
    mesh = load_base_mesh()
    weights = json.loads((data_folder() / "mpfb2" / "rigs" / "standard" / "weights.default.json").read_text())["weights"]
    share = np.zeros(len(mesh.vertices))
    tips: dict[str, np.ndarray] = {}
    for bone, pairs in weights.items():
        if bone.endswith(".L") and bone.startswith(("wrist", "metacarpal", "finger", "lowerarm")) and pairs:
            table = np.array(pairs)
            index = table[:, 0].astype(int)
            np.add.at(share, index, table[:, 1])
            tips[bone] = (mesh.vertices[index] * table[:, 1:]).sum(0) / table[:, 1].sum()
    faces = [f for f, group in zip(mesh.faces, mesh.face_groups, strict=True) if group == "body" and share[f].min() > 0.5]
    used, renumbered = np.unique(np.concatenate([np.array(f) for f in faces]), return_inverse=True)
    quads = [part.tolist() for part in np.split(renumbered, np.cumsum([len(f) for f in faces])[:-1])]
    wrist = tips["wrist.L"]
    up = unit(tips["finger3-3.L"] - wrist)
    across = tips["finger2-1.L"] - tips["finger5-1.L"]
    across = unit(across - up * (across @ up))
    frame = np.stack([-across, up, np.cross(-across, up)])
    return Solid(0.86 * (mesh.vertices[used] - wrist) @ frame.T, quads)
