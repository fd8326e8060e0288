"""Head hair: strands (natural) or tapered locks (toon) grown from fixed scalp roots, shaped by a style and its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.render.person.features import Person
from training.render.person.growth import LOCKS, HeadHeight, Strands, lock_of_root, scalp_places, scalp_roots
from training.render.person.regions import CENTER, angle_from_front, rim_height, unit

NO_STRANDS = ("bald", "buzz")
_BUN_CENTER = np.array([0, 8.1, -0.25])
_BUN_TIE = np.array([0, 7.75, -0.28])
_TOON_SHORT_LOCKS = 900
_STRAND_SEED = 11
"""The same for everybody: what strands look like must follow from the parameters alone."""


@dataclass
class Growth:
    """How every strand grows; arrays are per strand.

    `direction` [n, 3] is where it heads, `lift` how much it first stands off the skin, `gravity` how much it falls,
    `spread` the thickness of the hair mass, `curl` the radius of its waves and `frequency` their number, `clump` how much
    strands gather into locks, `free` means it keeps its direction instead of lying down.
    """

    length: np.ndarray
    direction: np.ndarray
    lift: np.ndarray
    gravity: float = 0.0
    spread: np.ndarray | float = 0.05
    curl: float = 0.0
    frequency: float = 14.0
    clump: float = 0.35
    points: int = 7
    free: bool = False
    clear_face: bool = False
    fringe: np.ndarray | None = None


def covers_ears(person: Person) -> bool:
    """Whether the hair hangs over the ears, which then must lie flat."""
    return person["hair"] == "long"


def grow_hair(person: Person, vertices: np.ndarray, skin_normals: np.ndarray, toon: bool) -> Strands | None:
    """The strands of a head before it is turned, or None where the scalp is only painted."""
    style = str(person["hair"])
    if style in NO_STRANDS:
        return None
    rows = _rows(style, toon)
    roots, places = scalp_roots(), scalp_places()
    rng = np.random.default_rng(_STRAND_SEED)
    chance = roots.chance[rows]
    start, normal = roots.on(vertices, rows), unit(roots.on(skin_normals, rows))
    margin = places.margin[rows] - float(person["hair_line"]) * (places.angle[rows] < 60)
    keep = margin > (chance[:, 0] - 0.3) * 0.06
    growth = _STYLES[style](person, rows, rng, normal)
    if style == "ring":
        rim = 7.75 + 0.12 * (chance[:, 1] - 0.5)
        keep &= (roots.neutral[rows, 1] < rim) & (places.angle[rows] > 62)
    if person["covering"] == "scarf":
        return None
    if person["covering"] != "none":
        keep &= roots.neutral[rows, 1] < rim_height(places.angle[rows]) - 0.02
    lengths = np.maximum(growth.length * (1.0 if style == "afro" else 0.87 + 0.26 * chance[:, 5]), 0.02)
    points = _trace(growth, lengths, start, normal, rows, person, HeadHeight(vertices), rng)
    along = np.linspace(0, 1, growth.points)
    if not toon:
        _clump(points, lengths, growth, rows, along)
    _curl(points, lengths, growth, rows, along, style == "afro")

    points, chance = points[keep], chance[keep]
    radius = np.broadcast_to(_radius(style, toon) * _profile(along, toon), points.shape[:2])
    tone = roots.chance[lock_of_root()[rows][keep], 2]
    contrast = 0.16 if toon else 0.4
    shade = (1 - contrast / 2 + contrast * tone) * (0.9 + 0.2 * chance[:, 1])
    if style == "bun" and person["covering"] == "none":
        points, radius, shade = _add_bun(points, radius, shade, toon)
    grey = _grey(person, points, chance)
    flat = unit((points.mean(1) - CENTER) * np.array([1, 0.8, 1])) if toon else None
    return Strands(points, radius, shade, flat, grey)


def _grey(person: Person, points: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Which strands have lost their color, [n] 0..1: first those at the temples, here and there, at last all."""
    grey = float(person["grey"])
    root = points[:, 0]
    temple = np.exp(-(((angle_from_front(root) - 70) / 34) ** 2)) * np.clip((8.1 - root[:, 1]) / 0.5, 0, 1)
    local = np.clip(1.6 * grey - 0.6 * (1 - temple) * (1 - grey), 0, 1.25)
    order = np.resize(chance[:, 4], len(root))
    return np.clip(2.5 * (local - order) + 0.3 * local, 0, 1) * min(1.0, 3 * grey)


def _rows(style: str, toon: bool) -> np.ndarray:
    if not toon:
        return np.arange(len(scalp_roots().neutral) if style != "afro" else 9500)
    return np.arange(LOCKS if style in ("long", "bun") else _TOON_SHORT_LOCKS)


def _radius(style: str, toon: bool) -> float:
    if toon:
        return 0.062 if style in ("long", "bun") else 0.055
    return {"long": 0.0084, "bun": 0.0068, "afro": 0.0074}.get(style, 0.0068)


def _profile(along: np.ndarray, toon: bool) -> np.ndarray:
    if toon:
        return np.sin(np.pi * np.clip(0.25 + 0.75 * along, 0, 1)) ** 0.6 + 0.02
    return 1 - 0.65 * along**2


class _Place:
    """Numbers every style needs about its roots."""

    def __init__(self, person: Person, rows: np.ndarray) -> None:
        places, roots = scalp_places(), scalp_roots()
        self.neutral = roots.neutral[rows]
        self.chance = roots.chance[rows]
        self.angle = places.angle[rows]
        self.top = np.clip((places.direction[rows, 1] - 0.35) / 0.3, 0, 1)
        self.sides = 1 - self.top
        self.front = np.clip((70 - self.angle) / 30, 0, 1) * np.clip((self.neutral[:, 1] - 7.7) / 0.25, 0, 1)
        part = float(person["hair_part"])
        self.part_side = np.sign(self.neutral[:, 0] - part * 0.9 + 1e-4)
        self.comb = np.tanh(part * 8)
        self.length = 0.75 + 0.5 * float(person["hair_length"])
        self.volume = 0.6 + 0.8 * float(person["hair_volume"])
        self.side_length = 0.05 + 0.2 * float(person["hair_sides"])

    def vector(self, x: np.ndarray | float, y: np.ndarray | float, z: np.ndarray | float) -> np.ndarray:
        return np.stack([np.broadcast_to(np.asarray(v, float), len(self.neutral)) for v in (x, y, z)], 1)


def _short(
    person: Person,
    rows: np.ndarray,
    top_length: float,
    top: tuple[float, float, float],
    side: tuple[float, float, float],
) -> tuple[_Place, Growth]:
    place = _Place(person, rows)
    length = (place.side_length + top_length * place.top) * place.length
    direction = place.top[:, None] * place.vector(*top) + place.sides[:, None] * place.vector(*side)
    wave = float(person["hair_wave"])
    growth = Growth(
        length,
        direction,
        np.full(len(rows), 0.25),
        spread=0.06 * place.volume * (0.4 + place.top),
        curl=0.03 * wave,
        frequency=10 + 6 * wave,
    )
    return place, growth


def _side(person: Person, rows: np.ndarray, rng: np.random.Generator, normal: np.ndarray) -> Growth:
    place, growth = _short(person, rows, 0.44, (-np.tanh(float(person["hair_part"]) * 8) or 0.4, 0.0, 0.25), (0, -1, -0.15))
    growth.lift = 0.25 + 0.5 * place.front
    growth.gravity = 0.25
    return growth


def _forward(person: Person, rows: np.ndarray, rng: np.random.Generator, normal: np.ndarray) -> Growth:
    place, growth = _short(person, rows, 0.36, (0.15 * np.tanh(float(person["hair_part"]) * 8), -0.1, 1.0), (0, -1, 0.15))
    growth.lift = 0.22 + 0.15 * place.front
    growth.gravity = 0.3
    return growth


def _quiff(person: Person, rows: np.ndarray, rng: np.random.Generator, normal: np.ndarray) -> Growth:
    place, growth = _short(person, rows, 0.46, (0.25 * np.tanh(float(person["hair_part"]) * 8), 0.3, -1.0), (0, -0.8, -0.5))
    growth.lift = 0.28 + 0.4 * place.front
    growth.gravity = 0.18
    return growth


def _slick(person: Person, rows: np.ndarray, rng: np.random.Generator, normal: np.ndarray) -> Growth:
    place, growth = _short(person, rows, 0.75, (0.12 * np.tanh(float(person["hair_part"]) * 8), 0.05, -1.0), (0, -0.45, -0.9))
    growth.length = growth.length + 0.15
    growth.lift = 0.12 + 0.16 * place.front
    growth.gravity = 0.12
    growth.points = 9
    return growth


def _ring(person: Person, rows: np.ndarray, rng: np.random.Generator, normal: np.ndarray) -> Growth:
    place = _Place(person, rows)
    length = np.full(len(rows), 0.08) + 0.5 * place.side_length
    return Growth(length, place.vector(0, -1, -0.25), np.full(len(rows), 0.3), spread=0.03, points=5)


def _curls(person: Person, rows: np.ndarray, rng: np.random.Generator, normal: np.ndarray) -> Growth:
    place = _Place(person, rows)
    lock = lock_of_root()[rows]
    own = rng.standard_normal((LOCKS, 3))[lock] * 0.3 + 0.12 * rng.standard_normal((len(rows), 3))
    return Growth(
        (place.side_length + 0.04 + 0.27 * place.top) * place.length,
        normal * 0.8 + own,
        np.full(len(rows), 0.9),
        gravity=0.45,
        spread=0.05 * place.volume,
        curl=0.055,
        frequency=17,
        clump=0.6,
        points=9,
        free=True,
    )


def _afro(person: Person, rows: np.ndarray, rng: np.random.Generator, normal: np.ndarray) -> Growth:
    place = _Place(person, rows)
    length = (0.14 + 0.55 * (place.length - 0.75)) * (0.6 + 0.5 * np.sqrt(place.chance[:, 4]))
    direction = normal + 0.12 * rng.standard_normal((len(rows), 3))
    return Growth(
        length,
        direction,
        np.full(len(rows), 3.0),
        spread=0.0,
        curl=0.045,
        frequency=30,
        clump=0.25,
        points=10,
        free=True,
    )


def _bun(person: Person, rows: np.ndarray, rng: np.random.Generator, normal: np.ndarray) -> Growth:
    place = _Place(person, rows)
    towards = _BUN_TIE - place.neutral
    length = np.linalg.norm(towards, axis=1) * 1.05
    return Growth(length, towards, np.full(len(rows), 0.02), spread=0.03 * place.volume, points=9, clump=0.25)


def _long(person: Person, rows: np.ndarray, rng: np.random.Generator, normal: np.ndarray) -> Growth:
    place = _Place(person, rows)
    reach = 1.15 + 1.15 * float(person["hair_length"])
    neutral, chance = place.neutral, place.chance
    length = reach * (0.9 + 0.2 * chance[:, 2]) * (0.6 + 0.4 * np.clip((neutral[:, 1] - 6.6) / 1.2, 0, 1))
    length = np.maximum(np.minimum(length, (neutral[:, 1] - (8.1 - reach)) * 1.15 + 0.25), 0.3)
    aside = np.clip((125 - place.angle) / 70, 0.08, 1)
    direction = place.vector(place.part_side * aside, -0.25 - (1 - aside), -0.35)
    fringe_amount = float(person["hair_fringe"])
    fringe = (place.angle < 60) & (neutral[:, 1] > 7.82) & (neutral[:, 2] > 0.72) & (fringe_amount > 0.2)
    fringe_length = 0.16 + 0.34 * fringe_amount + 0.9 * np.clip(neutral[:, 1] - 8.05, 0, 1) + 0.05 * chance[:, 3]
    length = np.where(fringe, fringe_length, length)
    direction = np.where(fringe[:, None], place.vector(0.12 * place.comb, -0.25, 1.0), direction)
    wave = float(person["hair_wave"])
    return Growth(
        length,
        direction,
        np.full(len(rows), 0.16),
        gravity=0.8,
        spread=(0.085 + 0.07 * wave) * place.volume,
        curl=0.075 * wave,
        frequency=5 + 5 * wave,
        clump=0.5 + 0.2 * wave,
        points=12,
        clear_face=True,
        fringe=fringe,
    )


_STYLES = {
    "ring": _ring, "side": _side, "forward": _forward, "quiff": _quiff, "slick": _slick,
    "curls": _curls, "afro": _afro, "long": _long, "bun": _bun,
}  # fmt: skip


def _trace(
    growth: Growth,
    lengths: np.ndarray,
    start: np.ndarray,
    normal: np.ndarray,
    rows: np.ndarray,
    person: Person,
    head: HeadHeight,
    rng: np.random.Generator,
) -> np.ndarray:
    """Grows all strands point by point, kept outside the head; [n, points, 3]."""
    place = _Place(person, rows)
    style = str(person["hair"])
    direction = growth.direction
    if not growth.free:
        direction = direction - normal * (direction * normal).sum(1, keepdims=True)
    direction = unit(direction)
    clearance = 0.015 + growth.spread * np.sqrt(place.chance[:, 4])
    step = (lengths / (growth.points - 1))[:, None]
    points = np.zeros((len(rows), growth.points, 3))
    points[:, 0] = start - normal * 0.01
    heading = unit(direction + normal * growth.lift[:, None] + 0.07 * rng.standard_normal((len(rows), 3)))
    down = np.array([0, -1.0, 0])
    at = start.copy()
    for k in range(1, growth.points):
        t = k / (growth.points - 1)
        outward = unit(at - CENTER)
        if growth.free:
            heading = unit(direction + down * growth.gravity * t)
        elif style == "bun":
            heading = unit(_BUN_TIE - at)
        else:
            lying = unit(direction * (1 - 0.6 * t) - outward * (direction * outward).sum(1, keepdims=True) * 0.8)
            pull = 0.25 * (0.3 if growth.gravity < 0.5 else 1 - t)
            heading = unit(heading * 0.7 + lying * pull + down * growth.gravity * (0.25 + 0.75 * t) * 0.45)
        at = at + heading * step
        if growth.clear_face:
            _keep_off_face(at, place, growth)
        room = (
            clearance * (0.3 + np.sin(np.pi * t) * 0.7)
            if style == "bun"
            else np.minimum(clearance, 0.015 + 0.25 * t + clearance * t)
        )
        at = head.push_out(at, room)
        points[:, k] = at
    return points


def _keep_off_face(points: np.ndarray, place: _Place, growth: Growth) -> None:
    offset = points - CENTER
    angle = np.arctan2(np.abs(offset[:, 0]), offset[:, 2])
    least = (np.radians(54) + 0.16 * (place.chance[:, 3] - 0.5)) * np.clip((8.02 - points[:, 1]) / 0.4, 0, 1)
    if growth.fringe is not None:
        least = least * ~growth.fringe
    inside = angle < least
    across = np.hypot(offset[:, 0], offset[:, 2])
    side = np.where(np.abs(offset[:, 0]) < 0.02, place.part_side, np.sign(offset[:, 0]))
    points[inside, 0] = CENTER[0] + (side * across * np.sin(least))[inside]
    points[inside, 2] = CENTER[2] + (across * np.cos(least))[inside]


def _clump(points: np.ndarray, lengths: np.ndarray, growth: Growth, rows: np.ndarray, along: np.ndarray) -> None:
    leader = lock_of_root()[rows]
    ratio = lengths / np.maximum(lengths[leader], 1e-3)
    alike = ((ratio > 0.6) & (ratio < 1.6)).astype(float)
    pull = growth.clump * along[None, :, None] ** 1.2 * alike[:, None, None]
    gathered = points[leader] - points[leader][:, :1] + points[:, :1] - points
    points += gathered * pull


def _curl(points: np.ndarray, lengths: np.ndarray, growth: Growth, rows: np.ndarray, along: np.ndarray, single: bool) -> None:
    if growth.curl < 1e-3:
        return
    phase = scalp_roots().chance[rows if single else lock_of_root()[rows], 3][:, None] * 2 * np.pi
    travelled = lengths[:, None] * along
    size = growth.curl * np.clip(travelled / 0.25, 0, 1)
    turn = growth.frequency * travelled + phase
    points[:, :, 0] += size * np.sin(turn)
    points[:, :, 2] += size * np.cos(turn)
    points[:, :, 1] += 0.3 * size * np.sin(growth.frequency * travelled * 1.3 + phase)


def _add_bun(points: np.ndarray, radius: np.ndarray, shade: np.ndarray, toon: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    count = 160 if toon else 700
    start = unit(rng.standard_normal((count, 3)))
    axis = unit(np.cross(start, rng.standard_normal((count, 3))))
    turn = np.linspace(0, 2.0, points.shape[1])[None, :, None]
    wound = _BUN_CENTER + 0.34 * (start[:, None] * np.cos(turn) + axis[:, None] * np.sin(turn))
    thick = np.broadcast_to(radius[0] * 1.5, (count, points.shape[1]))
    return (
        np.concatenate([points, wound]),
        np.concatenate([radius, thick]),
        np.concatenate([shade, 0.85 + 0.3 * rng.random(count)]),
    )
