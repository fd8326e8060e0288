"""The Blender scene: built once, then only vertices, strands and colors change from person to person."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from training.render.person import colors as colors
from training.render.person.colors import greyed
from training.render.person.detail import skin_detail
from training.render.person.facial_hair import grow_beard, grow_brows
from training.render.person.features import Person, color
from training.render.person.glasses import build_glasses
from training.render.person.growth import Strands
from training.render.person.hair import covers_ears, grow_hair
from training.render.person.meshdata import load_base_mesh
from training.render.person.occluders import build_covering, build_hand
from training.render.person.placing import tuck_ears, turned
from training.render.person.regions import PIVOT, Surface, load_regions, unit
from training.render.person.shape import Pose, Shape, build_shape, normals, rotation
from training.render.scene.camera import View
from training.render.scene.exr import read_exr
from training.render.scene.materials import Materials, build_materials

SKIN, EYE, HAIR, OTHER, OCCLUDER = 1, 2, 3, 4, 5
"""Values of the object index pass. An occluder is a hand or a head covering."""

_SENSOR = 36.0
_SURFACES = ("skin", "shirt", "teeth", "tongue", "lashes")
_VERTEX_NUMBERS = ("cloth", "trim", "freckled", "glossy", "scalp")


@dataclass(frozen=True)
class Passes:
    """One render: linear `rgb` premultiplied by `alpha` [h, w], and for the natural look albedo, normal and object index."""

    rgb: np.ndarray
    alpha: np.ndarray
    albedo: np.ndarray
    normal: np.ndarray
    index: np.ndarray


class Studio:
    """One Blender scene with both looks; not to be created twice in a process."""

    def __init__(self, threads: int = 1) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self._scene = bpy.context.scene
        self._file = Path("/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()) / f"studio-{os.getpid()}.exr"
        self._configure(threads)
        self._materials: Materials = build_materials()
        self._camera = self._add_object("camera", bpy.data.cameras.new("camera"))
        self._camera.data.sensor_width = _SENSOR
        self._camera.data.sensor_fit = "HORIZONTAL"
        self._camera.data.clip_end = 100
        self._scene.camera = self._camera
        self._world = self._add_world()
        self._lights = {name: self._add_light(name) for name in ("key", "rim")}
        self._add_surfaces()
        self._eyes = self._add_eyes()
        self._temporary: dict[str, Any] = {}
        self._detail: Any = None

    def load(self, person: Person, toon: bool) -> None:
        """Puts a person in one look before the camera."""
        shape = build_shape(person, toon)
        vertices = shape.vertices
        if covers_ears(person):
            tuck_ears(vertices)
        skin_normals = normals(vertices)
        pose = Pose(person)
        prefix = "toon_" if toon else ""
        self._place_surfaces(person, vertices, skin_normals, pose, toon)
        self._place_eyes(person, shape, pose, toon)
        for kind, strands in (
            ("hair", grow_hair(person, vertices, skin_normals, toon)),
            ("beard", grow_beard(person, vertices, skin_normals, toon)),
            ("brow", grow_brows(person, vertices, skin_normals, toon)),
        ):
            posed = turned(strands, pose)
            self._place_strands(kind, posed, prefix + kind)
            if kind == "hair":
                self._place_strands("hair_edge", _edge_of(posed) if toon else None, "toon_hair_edge")
        self._place_things(person, shape, pose, prefix)
        self._color(person, toon)
        self._light(person, toon)

    def shoot(self, view: View, width: int, height: int, samples: int) -> Passes:
        """Renders what is loaded."""
        render, lens = self._scene.render, self._camera.data
        render.resolution_x, render.resolution_y = width, height
        self._scene.cycles.samples = samples
        self._camera.location = view.position
        self._camera.rotation_euler = (0, 0, view.roll)
        lens.lens = _SENSOR / (2 * view.half)
        lens.shift_x, lens.shift_y = view.shift
        render.filepath = str(self._file)
        bpy.ops.render.render(write_still=True)
        layers = {name.split(".", 1)[1]: values for name, values in read_exr(self._file).items()}
        self._file.unlink()

        def stack(name: str, channels: str) -> np.ndarray:
            first = f"{name}.{channels[0]}"
            if first not in layers:
                return np.zeros((height, width, len(channels)), np.float32)
            return np.stack([layers[f"{name}.{c}"].astype(np.float32) for c in channels], -1)

        return Passes(
            rgb=stack("Combined", "RGB"),
            alpha=layers["Combined.A"].astype(np.float32),
            albedo=stack("Denoising Albedo", "RGB"),
            normal=stack("Denoising Normal", "XYZ"),
            index=np.rint(stack("IndexOB", "X")[..., 0]).astype(np.uint8),
        )

    def _configure(self, threads: int) -> None:
        scene = self._scene
        scene.render.engine = "CYCLES"
        settings = {
            "device": "CPU", "use_adaptive_sampling": False, "use_denoising": False, "max_bounces": 3, "diffuse_bounces": 1,
            "glossy_bounces": 1, "transmission_bounces": 0, "transparent_max_bounces": 4, "caustics_reflective": False,
            "caustics_refractive": False, "sample_clamp_direct": 6, "sample_clamp_indirect": 2, "blur_glossy": 1.0,
            "use_light_tree": False, "debug_bvh_type": "STATIC_BVH",
        }  # fmt: skip
        for name, value in settings.items():
            setattr(scene.cycles, name, value)
        scene.cycles_curves.shape = "RIBBONS"
        scene.cycles_curves.subdivisions = 1
        render = scene.render
        render.film_transparent = True
        render.threads_mode, render.threads = "FIXED", threads
        render.use_persistent_data = True
        render.use_compositing = render.use_sequencer = False
        render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
        render.image_settings.color_depth = "16"
        render.image_settings.exr_codec = "NONE"
        layer = scene.view_layers[0]
        layer.cycles.denoising_store_passes = True
        layer.use_pass_object_index = True

    def _add_object(self, name: str, data: Any) -> Any:
        thing = bpy.data.objects.new(name, data)
        self._scene.collection.objects.link(thing)
        return thing

    def _add_world(self) -> Any:
        world = bpy.data.worlds.new("world")
        self._scene.world = world
        world.use_nodes = True
        return world.node_tree.nodes["Background"]

    def _add_light(self, name: str) -> Any:
        light = bpy.data.lights.new(name, "AREA")
        light.shape = "DISK"
        return self._add_object(name, light)

    def _add_surfaces(self) -> None:
        regions = load_regions()
        surfaces: dict[str, Surface] = {name: getattr(regions, name) for name in _SURFACES}
        self._surfaces = {
            name: (self._add_mesh(name, surface, subdivide=name in ("skin", "shirt")), surface.index)
            for name, surface in surfaces.items()
        }
        for name, (thing, _) in self._surfaces.items():
            thing.pass_index = SKIN if name == "skin" else OTHER
        self._hull = self._add_mesh("toon_outline", regions.skin, subdivide=True)
        self._hull.data.materials[0] = self._materials.by_name["toon_outline"]

    def _add_mesh(self, name: str, surface: Surface, subdivide: bool) -> Any:
        rest = load_base_mesh().vertices[surface.index]
        mesh = bpy.data.meshes.new(name)
        mesh.from_pydata(rest.tolist(), [], surface.faces)
        mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), bool))
        mesh.materials.append(None)
        mesh.color_attributes.new("col", "FLOAT_COLOR", "POINT")
        for number in _VERTEX_NUMBERS:
            mesh.attributes.new(number, "FLOAT", "POINT")
        mesh.attributes.new("smooth", "FLOAT_VECTOR", "POINT")
        mesh.attributes.new("rest", "FLOAT_VECTOR", "POINT").data.foreach_set("vector", _flat(rest))
        thing = self._add_object(name, mesh)
        if subdivide:
            modifier = thing.modifiers.new("smooth", "SUBSURF")
            modifier.levels = modifier.render_levels = 1
        return thing

    def _add_eyes(self) -> list[Any]:
        """Spheres with a cornea bulge; local +z is the gaze."""
        rings, spokes = 24, 24
        tilt = np.repeat(np.pi * np.arange(rings + 1) / rings, spokes)
        turn = np.tile(2 * np.pi * np.arange(spokes) / spokes, rings + 1)
        bulge = 0.10 * np.exp(-((tilt / 0.42) ** 4))
        wide = (1 + bulge * np.cos(tilt)) * np.sin(tilt)
        points = np.stack([wide * np.cos(turn), wide * np.sin(turn), (1 + bulge) * np.cos(tilt)], 1)
        quads = [
            [
                r * spokes + s,
                (r + 1) * spokes + s,
                (r + 1) * spokes + (s + 1) % spokes,
                r * spokes + (s + 1) % spokes,
            ]
            for r in range(rings)
            for s in range(spokes)
        ]
        mesh = bpy.data.meshes.new("eye")
        mesh.from_pydata(points.tolist(), [], quads)
        mesh.polygons.foreach_set("use_smooth", np.ones(len(quads), bool))
        mesh.materials.append(None)
        eyes = [self._add_object(name, mesh) for name in ("eye_left", "eye_right")]
        for eye in eyes:
            eye.pass_index = EYE
        return eyes

    def _place_surfaces(self, person: Person, vertices: np.ndarray, skin_normals: np.ndarray, pose: Pose, toon: bool) -> None:
        mesh, regions = load_base_mesh(), load_regions()
        follow = mesh.head_weight
        cloth, trim = colors.clothing_edges(person)
        under = np.clip((cloth - 0.12) / 0.1, 0, 1)[:, None]
        posed = pose.blended(vertices - skin_normals * 0.015 * under, follow)
        posed_normals = normals(posed)
        for thing, index in self._surfaces.values():
            _set_points(thing, posed[index])
            name = "toon_" + thing.name if toon else thing.name
            thing.data.materials[0] = self._materials.by_name[name]
        shirt, shirt_index = self._surfaces["shirt"]
        _set_points(shirt, pose.blended(vertices + skin_normals * 0.035, follow)[shirt_index])
        _set_numbers(shirt, cloth=cloth[shirt_index], trim=trim[shirt_index])

        skin, index = self._surfaces["skin"]
        paint = colors.skin_colors(person, toon) * (1 - under) + color(person, "shirt") * under
        self._show_detail(skin_detail(person, toon))
        rgba = np.concatenate([paint[index], np.ones((len(index), 1))], 1)
        skin.data.color_attributes["col"].data.foreach_set("color", _flat(rgba))
        _set_numbers(skin, freckled=colors.freckles(person)[index], glossy=mesh.lips[index])
        self._hull.hide_render = not toon
        if toon:
            scalp = colors.scalp_cover(person) / 0.8
            _set_numbers(skin, scalp=scalp[index])
            skin.data.attributes["smooth"].data.foreach_set("vector", _flat(_cel_normals(posed, posed_normals, pose)[index]))
            _set_points(self._hull, (posed + posed_normals * 0.014)[regions.skin.index])

    def _show_detail(self, pixels: np.ndarray) -> None:
        """A new picture each time: Blender would go on with the one that it has kept."""
        image = bpy.data.images.new("detail", pixels.shape[1], pixels.shape[0], alpha=True, float_buffer=True, is_data=True)
        image.alpha_mode = "CHANNEL_PACKED"
        image.pixels.foreach_set(pixels.ravel())
        for node in self._materials.details:
            node.image = image
        if self._detail is not None:
            bpy.data.images.remove(self._detail)
        self._detail = image

    def _place_eyes(self, person: Person, shape: Shape, pose: Pose, toon: bool) -> None:
        for thing, eye, side in zip(self._eyes, shape.eyes, ("Left", "Right"), strict=True):
            converge = -0.02 if side == "Left" else 0.02
            open_share = 1 - float(person[f"eyeBlink{side}"])
            turned = pose.matrix @ rotation(float(person["gaze_x"]) + converge, float(person["gaze_y"]) * open_share, 0)
            matrix = np.eye(4)
            matrix[:3, :3] = turned * eye.radius * (0.97 if toon else 0.985)
            matrix[:3, 3] = pose.rigid(eye.center[None])[0]
            thing.matrix_world = Matrix(matrix.tolist())
        self._eyes[0].data.materials[0] = self._materials.by_name["toon_eye" if toon else "eye"]

    def _place_strands(self, name: str, strands: Strands | None, material: str) -> None:
        self._remove(name)
        if strands is None or len(strands.points) == 0:
            return
        count, points = strands.points.shape[:2]
        curves = bpy.data.hair_curves.new(name)
        curves.add_curves([points] * count)
        curves.attributes["position"].data.foreach_set("vector", _flat(strands.points))
        radius = curves.attributes.get("radius") or curves.attributes.new("radius", "FLOAT", "POINT")
        radius.data.foreach_set("value", _flat(strands.radius))
        curves.attributes.new("shade", "FLOAT", "CURVE").data.foreach_set("value", _flat(strands.shade))
        grey = np.zeros(count) if strands.grey is None else strands.grey
        curves.attributes.new("grey", "FLOAT", "CURVE").data.foreach_set("value", _flat(grey))
        if strands.normal is not None:
            curves.attributes.new("flat", "FLOAT_VECTOR", "CURVE").data.foreach_set("vector", _flat(strands.normal))
        curves.materials.append(self._materials.by_name[material])
        thing = self._add_object(name, curves)
        thing.pass_index = HAIR
        self._temporary[name] = thing

    def _place_solid(self, name: str, points: np.ndarray | None, faces: list[list[int]], material: str, index: int) -> None:
        self._remove(name)
        if points is None:
            return
        mesh = bpy.data.meshes.new(name)
        mesh.from_pydata(points.tolist(), [], faces)
        mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))
        mesh.materials.append(self._materials.by_name[material])
        thing = self._add_object(name, mesh)
        thing.pass_index = index
        self._temporary[name] = thing

    def _place_things(self, person: Person, shape: Shape, pose: Pose, prefix: str) -> None:
        glasses = build_glasses(person, shape)
        points = None if glasses is None else pose.rigid(glasses[0])
        self._place_solid("glasses", points, [] if glasses is None else glasses[1], prefix + "glasses", OTHER)
        covering, hand = build_covering(person, shape.vertices), build_hand(person, shape.vertices)
        worn = None if covering is None else pose.rigid(covering.points)
        self._place_solid("covering", worn, [] if covering is None else covering.quads, prefix + "covering", OCCLUDER)
        held = None if hand is None else hand.points
        self._place_solid("hand", held, [] if hand is None else hand.quads, prefix + "hand", OCCLUDER)

    def _remove(self, name: str) -> None:
        thing = self._temporary.pop(name, None)
        if thing is not None:
            data = thing.data
            bpy.data.objects.remove(thing)
            (bpy.data.meshes if isinstance(data, bpy.types.Mesh) else bpy.data.hair_curves).remove(data)

    def _color(self, person: Person, toon: bool) -> None:
        materials = self._materials
        hair, brow = color(person, "hair_color"), color(person, "brow_color")
        shirt, trim, iris = color(person, "shirt"), color(person, "shirt_trim"), color(person, "iris")
        if toon:
            lift, grey = 1.3 * hair + 0.008, float(person["grey"])
            for name, rgb in {
                "hair": lift, "beard": 1.2 * brow + 0.006, "brow": 0.8 * brow, "scalp": greyed(lift, grey) * 0.72,
                "hair_edge": greyed(lift, grey) * 0.52,
                "shirt": shirt, "shirt_trim": trim, "glasses": color(person, "glasses_color"),
                "covering": color(person, "covering_color"), "hand": np.minimum(colors.skin_tone(person) * 1.08, 1),
                "teeth": np.full(3, 0.88), "tongue": np.array([0.62, 0.17, 0.17]), "lashes": np.full(3, 0.01),
                "outline": colors.skin_tone(person) * 0.14,
            }.items():  # fmt: skip
                materials.set_color(f"toon_{name}", rgb)
            tones = (iris * 0.7, iris * 2.0 + 0.03, iris * 2.6 + 0.05, iris * 0.25)
            for element, rgb in zip(list(materials.eye_ramps["toon_eye"])[2:6], tones, strict=True):
                element.color = (*rgb.tolist(), 1)
            return
        for name, rgb in {
            "hair": hair, "beard": brow, "brow": brow, "shirt": shirt, "shirt_trim": trim,
            "glasses": color(person, "glasses_color"), "covering": color(person, "covering_color"),
            "hand": 0.8 * colors.skin_tone(person),
        }.items():  # fmt: skip
            materials.set_color(name, rgb)
        ramp = materials.eye_ramps["eye"]
        ramp[2].color = (*(iris * 0.9).tolist(), 1)
        ramp[3].color = (*(iris * 1.35 + 0.004).tolist(), 1)
        materials.catchlight.default_value = unit(np.array([0.26 * np.tanh(4 * float(person["light_azimuth"])), 0.24, 0.94]))
        materials.lash_cover.default_value = float(person["lash_darkness"])

    def _light(self, person: Person, toon: bool) -> None:
        azimuth, elevation = float(person["light_azimuth"]), float(person["light_elevation"])
        towards = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
        contrast, warmth = float(person["light_contrast"]), 0.14 * float(person["light_temperature"])
        self._world.inputs[0].default_value = (0.985, 0.99, 1.015, 1)
        self._world.inputs[1].default_value = 0.0 if toon else 0.5 - 0.36 * contrast
        aim(
            self._lights["key"],
            towards,
            16,
            1700 + 800 * contrast,
            float(person["light_size"]),
            (1 + warmth, 1, 1 - warmth),
        )
        behind = np.array([-np.tanh(4 * azimuth) * 1.2, 0.5, -1.0])
        aim(self._lights["rim"], behind, 12, 1500 * float(person["light_rim"]), 3, (1, 1, 1))
        for light in self._lights.values():
            light.hide_render = toon or light.data.energy <= 0
        # Faces read best when the toon shadow stays at the side.
        for node in self._materials.toon_lights:
            for axis in range(3):
                node.inputs[axis].default_value = float(unit(towards + np.array([0, 0.1, 0.35]))[axis])


def aim(light: Any, direction: np.ndarray, distance: float, power: float, size: float, rgb: Sequence[float]) -> None:
    """Places an area light around the head, `direction` from it, facing it."""
    direction = unit(direction)
    light.location = np.array([0, 7.2, 0.7]) + direction * distance
    light.rotation_euler = Vector(-direction).to_track_quat("-Z", "Y").to_euler()
    light.data.energy, light.data.size, light.data.color = power, size, rgb


def _edge_of(strands: Strands | None) -> Strands | None:
    """The same locks, a little wider and further from the camera: their outline."""
    if strands is None:
        return None
    behind = strands.points + np.array([0, 0, -0.06])
    return Strands(behind, strands.radius + 0.011, np.ones(len(behind)))


def _cel_normals(posed: np.ndarray, posed_normals: np.ndarray, pose: Pose) -> np.ndarray:
    """Normals for two-tone shading: smoothed, and drawn towards an ellipsoid so that shadows get simple borders."""
    smooth = unit(load_regions().smooth(posed_normals, 8))
    center = pose.rigid(PIVOT[None] + np.array([0, 0.55, 0.25]))[0]
    round_head = unit((posed - center) * np.array([1.0, 0.75, 1.0]))
    return unit(0.55 * smooth + 0.45 * round_head)


def _set_points(thing: Any, points: np.ndarray) -> None:
    thing.data.vertices.foreach_set("co", _flat(points))
    thing.data.update()


def _set_numbers(thing: Any, **values: np.ndarray) -> None:
    for name, numbers in values.items():
        thing.data.attributes[name].data.foreach_set("value", _flat(numbers))


def _flat(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).ravel()
