"""Sketches: people as colored points with plain shading, 32 px small. A fraction of a render's cost, so that there can be many.

Where a head, its hair and its light go is a smooth but winding function of the features, which the mapping network learns the
better, the more people it has seen. That needs no strands, shadows or clean edges. Shape, pose, hair and camera are the
renderer's own; points on them go into a depth buffer, shaded by key light, rim light and world.

    python -m training.render.sketch --out sketches/ --first 1000000 --count 40000 --workers 2

writes `sketch-NNNNNNN.npz` for every 500 people: `features` float32 [n, F] and `pictures` uint8 [n, 32, 32, 4], the person
premultiplied in sRGB, and coverage. A second run skips what is there.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from training.render.data.dataset import is_held_out
from training.render.person import colors as colors
from training.render.person.facial_hair import grow_beard, grow_brows
from training.render.person.features import Person, color, encode
from training.render.person.glasses import build_glasses
from training.render.person.growth import Roots, Strands, scatter
from training.render.person.hair import covers_ears, grow_hair
from training.render.person.meshdata import load_base_mesh
from training.render.person.occluders import Solid, build_covering, build_hand
from training.render.person.placing import sit, tuck_ears, turned
from training.render.person.regions import load_regions, unit
from training.render.person.sampling import sample_person
from training.render.person.shape import Pose, Shape, build_shape, normals, rotation
from training.render.scene.camera import View
from training.render.scene.tone import curved, linear_to_srgb

SIZE = 32
_FINE = 2 * SIZE  # pixels of the depth buffer
_WIDEST = 3  # fine pixels of a point
_SKIN_POINTS, _EYE_POINTS = 14000, 300
_PEOPLE_PER_FILE = 500
_LUMA = np.array([0.2126, 0.7152, 0.0722])


class _Points:
    """What is seen: places [n, 3], linear RGB [n, 3] in its light, and how many fine pixels wide each is."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._added: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, places: np.ndarray, rgb: np.ndarray, width: np.ndarray | int) -> None:
        self._added.append((places, rgb, np.broadcast_to(width, len(places))))

    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Linear RGB [fine, fine, 3] of the nearest points, and where there are any."""
        places, rgb, width = (np.concatenate(parts) for parts in zip(*self._added, strict=True))
        order = np.argsort((places[:, 2] * 4096).astype(np.int16), kind="stable")  # from far to near
        places, width = places[order], width[order]
        corner = np.floor(self._view.project(places) * _FINE - (width[:, None] - 1) / 2).astype(int)
        nearest = np.full((_FINE + 1) * (_FINE + 1), -1)
        step = np.arange(_WIDEST)
        x, y = (corner[:, axis, None] + step for axis in (0, 1))
        # What is outside, or beyond a point's width, goes to a last column and row that nobody sees.
        x, y = (np.where((v >= 0) & (v < _FINE) & (step < width[:, None]), v, _FINE) for v in (x, y))
        pixels = y[:, :, None] * (_FINE + 1) + x[:, None, :]
        nearest[pixels.reshape(-1)] = np.repeat(order, _WIDEST * _WIDEST)  # of equal places the last counts
        nearest = nearest.reshape(_FINE + 1, _FINE + 1)[:-1, :-1]
        seen = nearest >= 0
        return rgb[nearest] * seen[..., None], seen


class _Light:
    """Key, rim and world of `studio`, without shadows."""

    def __init__(self, person: Person) -> None:
        azimuth, elevation = float(person["light_azimuth"]), float(person["light_elevation"])
        contrast, warmth = float(person["light_contrast"]), 0.14 * float(person["light_temperature"])
        self._key = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
        self._rim = unit(np.array([-np.tanh(4 * azimuth) * 1.2, 0.5, -1.0]))
        self._tint = np.array([1 + warmth, 1, 1 - warmth])
        self._key_power = (1700 + 800 * contrast) / (np.pi * 16) ** 2
        self._rim_power = 1500 * float(person["light_rim"]) / (np.pi * 12) ** 2
        self._world = (0.5 - 0.36 * contrast) * 0.8

    def on(self, normal: np.ndarray) -> np.ndarray:
        """Reflected by white surfaces with these normals [n, 3]: [n, 3]."""
        key = np.maximum(normal @ self._key, 0)[:, None] * self._tint * self._key_power
        rim = np.maximum(normal @ self._rim, 0)[:, None] * self._rim_power
        return key + rim + self._world * (0.75 + 0.25 * normal[:, 1:2])


def sketch(person: Person) -> np.ndarray:
    """uint8 [SIZE, SIZE, 4]: the person premultiplied in sRGB, and coverage."""
    shape = build_shape(person, toon=False)
    view = sit(person, shape).view
    vertices, pose, light = shape.vertices, Pose(person), _Light(person)
    if covers_ears(person):
        tuck_ears(vertices)
    skin_normals = normals(vertices)
    points = _Points(view)
    brightness = _add_skin(points, person, vertices, pose, light)
    _add_eyes(points, person, shape, pose, light)
    for strands, name, width in (
        (grow_hair(person, vertices, skin_normals, toon=True), "hair_color", 3),
        (grow_beard(person, vertices, skin_normals, toon=True), "brow_color", 2),
        (grow_brows(person, vertices, skin_normals, toon=True), "brow_color", 1),
    ):
        _add_strands(points, turned(strands, pose), color(person, name), light, width)
    frames = build_glasses(person, shape)
    if frames is not None:
        frame = pose.rigid(frames[0])
        points.add(frame, np.broadcast_to(color(person, "glasses_color") * 0.6, frame.shape), 1)
    _add_occluders(points, person, vertices, pose, light)
    rgb, seen = points.drawn()
    finished = linear_to_srgb(curved(rgb * _exposure(person, brightness)))
    layer = np.concatenate([finished * seen[..., None], seen[..., None]], -1)
    small = layer.reshape(SIZE, _FINE // SIZE, SIZE, _FINE // SIZE, 4).mean((1, 3))
    return (small * 255 + 0.5).astype(np.uint8)


@functools.cache
def _skin_points() -> Roots:
    height = load_base_mesh().vertices[:, 1]
    density = np.zeros(len(height))
    skin = load_regions().skin.index
    density[skin] = np.where(height[skin] > 6, 1, 0.3) + 4 * load_regions().eye_sockets[skin]
    return scatter(density, _SKIN_POINTS, 0.2, 6)


@functools.cache
def _skin_widths() -> np.ndarray:
    """Small points around the eyes, which would be covered otherwise."""
    sockets = _skin_points().on(np.repeat(load_regions().eye_sockets[:, None], 3, 1))[:, 0]
    return np.where(sockets > 0.3, 2, _WIDEST)


def _add_skin(points: _Points, person: Person, vertices: np.ndarray, pose: Pose, light: _Light) -> float:
    """Returns how bright the light on the skin is that the camera sees."""
    roots = _skin_points()
    posed = pose.blended(vertices, load_base_mesh().head_weight)
    cloth, trim = colors.clothing_edges(person)
    on_skin, facing = roots.on(posed), unit(roots.on(normals(posed)))
    paint = colors.skin_colors(person, toon=False)
    clothed = np.where((trim > 0)[:, None], color(person, "shirt"), color(person, "shirt_trim"))
    paint = np.where((cloth > 0.02)[:, None], clothed, paint)
    albedo, dressed = roots.on(paint), roots.on(np.repeat(cloth[:, None] > 0.02, 3, 1).astype(float))[:, 0] > 0.5
    lit = light.on(facing)
    front = facing[:, 2] > -0.1
    points.add(on_skin[front], (albedo * lit)[front], _skin_widths()[front])
    bare = front & (facing[:, 2] > 0.2) & ~dressed
    return float((lit[bare] @ _LUMA) @ facing[bare, 2] / max(float(facing[bare, 2].sum()), 1e-6))


@functools.cache
def _eye_points() -> tuple[np.ndarray, np.ndarray]:
    """Unit directions [n, 3] of an eyeball's front, and how far each is from the pupil, radians."""
    rng = np.random.default_rng(9)
    cosine, turn = rng.uniform(0.2, 1, _EYE_POINTS), rng.uniform(0, 2 * np.pi, _EYE_POINTS)
    across = np.sqrt(1 - cosine**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), cosine], 1), np.arccos(cosine)


def _add_eyes(points: _Points, person: Person, shape: Shape, pose: Pose, light: _Light) -> None:
    directions, from_pupil = _eye_points()
    gaze = pose.matrix @ rotation(float(person["gaze_x"]), float(person["gaze_y"]), 0)
    iris = color(person, "iris")
    rings = np.select([from_pupil < 0.2, from_pupil < 0.5], [0, 1], 2)
    albedo = np.stack([np.full(3, 0.01), iris, np.full(3, 0.7)])[rings]
    for eye in shape.eyes:
        facing = directions @ gaze.T
        points.add(pose.rigid(eye.center[None]) + facing * eye.radius * 0.985, albedo * light.on(facing), 2)


def _add_strands(points: _Points, strands: Strands | None, rgb: np.ndarray, light: _Light, width: int) -> None:
    if strands is None or not len(strands.points):
        return
    between = (strands.points[:, 1:] + strands.points[:, :-1]) / 2
    places = np.concatenate([strands.points, between], 1)
    assert strands.normal is not None
    facing = np.repeat(strands.normal, places.shape[1], 0)
    shade = np.repeat(strands.shade, places.shape[1])[:, None]
    if strands.grey is not None:
        grey = np.repeat(strands.grey, places.shape[1])[:, None]
        rgb = rgb * (1 - grey) + colors.SILVER * grey
    points.add(places.reshape(-1, 3), rgb * shade * light.on(facing) * 0.8, width)


def _add_occluders(points: _Points, person: Person, vertices: np.ndarray, pose: Pose, light: _Light) -> None:
    covering, hand = build_covering(person, vertices), build_hand(person, vertices)
    if covering is not None:
        for place, facing in _spread(covering):
            points.add(pose.rigid(place), color(person, "covering_color") * light.on(facing @ pose.matrix.T), 3)
    if hand is not None:
        for place, facing in _spread(hand):
            points.add(place, 0.8 * colors.skin_tone(person) * light.on(facing), 3)


def _spread(solid: Solid) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points [n, 3] on the faces of a solid, and their normals [n, 3]."""
    corners = solid.points[np.array([quad[:4] if len(quad) > 3 else [*quad, quad[-1]] for quad in solid.quads])]
    facing = unit(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]))
    for a in (0.25, 0.75):
        for b in (0.25, 0.75):
            weights = np.array([(1 - a) * (1 - b), a * (1 - b), a * b, (1 - a) * b])
            yield np.einsum("k,nkd->nd", weights, corners), facing


def _exposure(person: Person, brightness: float) -> float:
    """As in `picture.develop_natural`."""
    tone = float(colors.skin_tone(person) @ _LUMA)
    return (0.4 / tone) ** 0.28 * 0.82 * 2 ** (0.4 * float(person["exposure"])) / max(brightness, 1e-3)


def _write(out: Path, first: int, count: int) -> int:
    path = out / f"sketch-{first:07d}.npz"
    if path.exists():
        return count
    people = [sample_person(number) for number in range(first, first + count) if not is_held_out(number)]
    aside = path.with_suffix(f".{os.getpid()}.part")
    with aside.open("wb") as file:
        np.savez_compressed(file, features=np.stack([encode(p) for p in people]), pictures=np.stack([sketch(p) for p in people]))
    aside.rename(path)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.render.sketch", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=1_000_000)
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    began, done = time.monotonic(), 0
    end = options.first + options.count
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = [
            pool.submit(_write, options.out, first, min(_PEOPLE_PER_FILE, end - first))
            for first in range(options.first, end, _PEOPLE_PER_FILE)
        ]
        for job in as_completed(jobs):
            done += job.result()
            left = (time.monotonic() - began) / done * (options.count - done)
            print(f"{done}/{options.count} people, {left / 60:.0f} min left", flush=True)


if __name__ == "__main__":
    main()
