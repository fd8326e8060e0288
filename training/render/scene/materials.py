"""Shaders of both looks. Per-person values are set through the sockets kept in `Materials`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from training.render.person import detail
from training.render.person.colors import SILVER
from training.render.person.regions import CENTER
from training.render.scene.nodes import Graph, Socket

_TOON_SHADE = (0.60, 0.50, 0.56)
_HAIR_KINDS = ("hair", "beard", "brow")


@dataclass
class Materials:
    """Materials by name (toon ones start with "toon_"), color sockets by name, and the toon light directions."""

    by_name: dict[str, bpy.types.Material] = field(default_factory=dict)
    colors: dict[str, Socket] = field(default_factory=dict)
    toon_lights: list[Any] = field(default_factory=list)
    eye_ramps: dict[str, Any] = field(default_factory=dict)
    details: list[Any] = field(default_factory=list)
    catchlight: Socket = None
    lash_cover: Socket = None

    def set_color(self, name: str, rgb: np.ndarray) -> None:
        self.colors[name].default_value = (*np.asarray(rgb, float).tolist(), 1)


def build_materials() -> Materials:
    materials = Materials()
    _skin(materials)
    _cloth(materials)
    _teeth(materials)
    _plain(materials, "tongue", (0.40, 0.15, 0.14), roughness=0.35, glow=0.03)
    _plain(materials, "covering", (0.3, 0.3, 0.3), roughness=0.9)
    _plain(materials, "hand", (0.6, 0.4, 0.3), roughness=0.55)
    _plain(materials, "glasses", (0.1, 0.1, 0.1), roughness=0.3)
    _lashes(materials)
    _eye(materials)
    for kind in _HAIR_KINDS:
        _strands(materials, kind)
    _toon(materials)
    return materials


def _principled(graph: Graph, **inputs: Any) -> Socket:
    names = {
        "color": "Base Color",
        "roughness": "Roughness",
        "specular": "Specular IOR Level",
        "normal": "Normal",
    }
    names |= {"alpha": "Alpha", "glow": "Emission Strength", "glow_color": "Emission Color"}
    return graph.node("BsdfPrincipled", {names[key]: value for key, value in inputs.items()}).outputs[0]


def _skin(materials: Materials) -> None:
    g = Graph("skin")
    rest = g.attribute("rest", "Vector")
    blotch = g.node("TexNoise", {"Vector": rest, "Scale": 9.0, "Detail": 3.0}).outputs[0]
    freckle = g.node("TexNoise", {"Vector": rest, "Scale": 70.0, "Detail": 1.0}).outputs[0]
    color = g.vector("SCALE", g.attribute("col", "Color"), scale=g.remap(blotch, 0.3, 0.7, 0.94, 1.06))
    spots = g.remap(freckle, 0.58, 0.68, 1.0, 0.55)
    strength = g.math("ADD", 1.0, g.math("MULTIPLY", g.attribute("freckled"), g.math("SUBTRACT", spots, 1.0)))
    color = g.vector("SCALE", color, scale=strength)

    tint, relief = _detail(materials, g, rest)
    color = g.vector("MULTIPLY", color, tint)
    bump = g.node("Bump", {"Strength": 1.0, "Distance": 1.0, "Height": relief}).outputs[0]
    gloss = g.math("SUBTRACT", 0.52, g.math("MULTIPLY", g.attribute("glossy"), 0.2))
    shader = _principled(g, color=color, roughness=gloss, specular=0.38, normal=bump)
    materials.by_name["skin"] = g.surface(shader)


def _detail(materials: Materials, g: Graph, rest: Socket) -> tuple[Socket, Socket]:
    """Color multiplier and relief from the picture of `person.detail`, which lies around the head as a cylinder."""
    x, y, z = g.node("SeparateXYZ", {0: rest}).outputs
    angle = g.math("ARCTAN2", x, g.math("SUBTRACT", z, float(CENTER[2])))
    column = g.math("MULTIPLY_ADD", angle, float(0.5 / detail.WIDEST), 0.5)
    row = g.math("DIVIDE", g.math("SUBTRACT", y, detail.LOWEST), detail.HIGHEST - detail.LOWEST)
    place = g.node("CombineXYZ", {0: column, 1: row}).outputs[0]
    picture = g.node("TexImage", {"Vector": place}, extension="EXTEND", interpolation="Linear")
    materials.details.append(picture)
    return picture.outputs["Color"], picture.outputs["Alpha"]


def _cloth(materials: Materials) -> None:
    g = Graph("shirt")
    shirt, trim = g.constant(), g.constant()
    materials.colors |= {"shirt": shirt, "shirt_trim": trim}
    weave = g.node("TexNoise", {"Vector": g.attribute("rest", "Vector"), "Scale": 45.0, "Detail": 1.0}).outputs[0]
    color = g.mix(g.math("GREATER_THAN", g.attribute("trim"), 0.0), trim, shirt)
    color = g.vector("SCALE", color, scale=g.remap(weave, 0.3, 0.7, 0.92, 1.08))
    cover = g.math("GREATER_THAN", g.attribute("cloth"), 0.0)
    materials.by_name["shirt"] = g.surface(_principled(g, color=color, roughness=0.85, specular=0.2, alpha=cover))


def _plain(materials: Materials, name: str, rgb: tuple[float, float, float], roughness: float, glow: float = 0.0) -> None:
    g = Graph(name)
    color = g.constant(rgb)
    materials.colors[name] = color
    shader = _principled(g, color=color, roughness=roughness, glow=glow, glow_color=color)
    materials.by_name[name] = g.surface(shader)


def _teeth(materials: Materials) -> None:
    """One surface that looks like many: gaps between teeth, their roots a little darker, and shade towards the corners."""
    g = Graph("teeth")
    x, _, z = g.node("SeparateXYZ", {0: g.attribute("rest", "Vector")}).outputs
    angle = g.math("ARCTAN2", x, g.math("SUBTRACT", z, 1.22))
    from_gap = g.math("ABSOLUTE", g.math("SINE", g.math("MULTIPLY", angle, 10.0)))
    gap = g.remap(from_gap, 0.0, 0.3, 0.68, 1.0)
    aside = g.remap(g.math("ABSOLUTE", x), 0.06, 0.26, 1.0, 0.6)
    color = g.vector("SCALE", (0.86, 0.81, 0.72), scale=g.math("MULTIPLY", gap, aside))
    materials.by_name["teeth"] = g.surface(_principled(g, color=color, roughness=0.25, glow=0.42, glow_color=color))


def _lashes(materials: Materials) -> None:
    g = Graph("lashes")
    cover = g.node("Value").outputs[0]
    materials.lash_cover = cover
    shader = _principled(g, color=(0.012, 0.009, 0.008, 1), roughness=0.6, alpha=cover)
    materials.by_name["lashes"] = g.surface(shader)


def _gaze_angle(g: Graph) -> tuple[Socket, Socket]:
    """Direction on the eyeball and its angle from the gaze, in radians."""
    direction = g.vector("NORMALIZE", g.node("TexCoord").outputs["Object"])
    return direction, g.math("ARCCOSINE", g.node("SeparateXYZ", {0: direction}).outputs[2])


def _eye(materials: Materials) -> None:
    g = Graph("eye")
    direction, angle = _gaze_angle(g)
    black, white, pink = (0.004,) * 3, (0.9, 0.88, 0.86), (0.62, 0.42, 0.38)
    stops = [
        (0.0, black),
        (0.165, black),
        (0.20, black),
        (0.45, black),
        (0.52, white),
        (0.75, white),
        (1.0, pink),
    ]
    color, materials.eye_ramps["eye"] = g.ramp(angle, stops)
    distance = g.node("VectorMath", {0: direction}, operation="DISTANCE")
    materials.catchlight = distance.inputs[1]
    spark = g.math("LESS_THAN", distance.outputs["Value"], 0.13)
    shader = _principled(g, color=color, roughness=0.12, specular=0.6, glow_color=(0.9, 0.9, 0.9, 1), glow=spark)
    materials.by_name["eye"] = g.surface(shader)


def _strands(materials: Materials, kind: str) -> None:
    g = Graph(kind)
    base = g.constant()
    materials.colors[kind] = base
    along = g.node("HairInfo").outputs["Intercept"]
    tone = g.math("MULTIPLY", g.attribute("shade"), g.remap(along, 0.0, 1.0, 0.82, 1.12))
    color = g.vector("SCALE", g.mix(g.attribute("grey"), base, (*SILVER, 1)), scale=tone)
    shader = _principled(g, color=color, roughness=0.5, specular=0.22)
    materials.by_name[kind] = g.surface(shader)


def _toon(materials: Materials) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "skin": {"color": "col", "normal": "smooth"},
        "shirt": {"cloth": True},
        "teeth": {"flat": True},
        "tongue": {"flat": True},
        "lashes": {"flat": True},
        "glasses": {},
        "covering": {},
        "hand": {},
        "hair": {"shade": True, "normal": "flat"},
        "beard": {"shade": True, "normal": "flat"},
        "brow": {"flat": True},
        "hair_edge": {"flat": True},
    }
    for name, options in kinds.items():
        materials.by_name[f"toon_{name}"] = _cel(materials, name, **options)
    materials.by_name["toon_eye"] = _toon_eye(materials)
    materials.by_name["toon_outline"] = _outline(materials)


def _cel(
    materials: Materials,
    name: str,
    color: str = "",
    normal: str = "",
    shade: bool = False,
    cloth: bool = False,
    flat: bool = False,
) -> bpy.types.Material:
    """Emission in two tones, split where the (smoothed) normal turns away from the light."""
    g = Graph(f"toon_{name}")
    if color:
        paint = g.attribute(color, "Color")
        edge = g.math("GREATER_THAN", g.attribute("scalp"), 0.55)
        scalp = g.constant()
        materials.colors["toon_scalp"] = scalp
        tint, _ = _detail(materials, g, g.attribute("rest", "Vector"))
        paint = g.mix(edge, g.vector("MULTIPLY", paint, tint), scalp)
    elif cloth:
        shirt, trim = g.constant(), g.constant()
        materials.colors |= {"toon_shirt": shirt, "toon_shirt_trim": trim}
        paint = g.mix(g.math("GREATER_THAN", g.attribute("trim"), 0.0), trim, shirt)
    else:
        paint = g.constant()
        materials.colors[f"toon_{name}"] = paint
    if not flat:
        facing = g.attribute(normal, "Vector") if normal else g.node("NewGeometry").outputs["Normal"]
        light = g.node("CombineXYZ")
        materials.toon_lights.append(light)
        lit = g.vector("DOT_PRODUCT", facing, light.outputs[0])
        tone, _ = g.ramp(g.math("MULTIPLY_ADD", lit, 0.5, 0.5), [(0.50, _TOON_SHADE), (0.535, (1, 1, 1))])
        paint = g.vector("MULTIPLY", paint, tone)
    if shade:
        silver = (*(1.15 * np.array(SILVER)).tolist(), 1)
        paint = g.vector("SCALE", g.mix(g.attribute("grey"), paint, silver), scale=g.attribute("shade"))
    shader = g.node("Emission", {0: paint}).outputs[0]
    if cloth:
        cover = g.math("GREATER_THAN", g.attribute("cloth"), 0.0)
        shader = g.node("MixShader", {0: cover, 1: g.node("BsdfTransparent").outputs[0], 2: shader}).outputs[0]
    return g.surface(shader)


def _toon_eye(materials: Materials) -> bpy.types.Material:
    g = Graph("toon_eye")
    direction, angle = _gaze_angle(g)
    black, white, grey = (0.006,) * 3, (0.90, 0.90, 0.91), (0.74, 0.74, 0.79)
    stops = [
        (0.0, black),
        (0.27, black),
        (0.30, black),
        (0.54, black),
        (0.56, black),
        (0.60, black),
        (0.62, white),
        (0.95, grey),
    ]
    color, materials.eye_ramps["toon_eye"] = g.ramp(angle, stops)
    for spot, size in (((-0.22, 0.26, 0.94), 0.17), ((0.24, -0.22, 0.94), 0.08)):
        length = float(np.linalg.norm(spot))
        center = tuple(v / length for v in spot)
        spark = g.math("LESS_THAN", g.vector("DISTANCE", direction, center), size)
        color = g.mix(spark, color, (1, 1, 1, 1))
    return g.surface(g.node("Emission", {0: color}).outputs[0])


def _outline(materials: Materials) -> bpy.types.Material:
    """An inverted hull: only its inside is seen, around the silhouette."""
    g = Graph("toon_outline")
    ink = g.constant()
    materials.colors["toon_outline"] = ink
    back = g.node("NewGeometry").outputs["Backfacing"]
    clear = g.node("BsdfTransparent").outputs[0]
    return g.surface(g.node("MixShader", {0: back, 1: clear, 2: g.node("Emission", {0: ink}).outputs[0]}).outputs[0])
