"""A short way to write Blender shader graphs: every call adds one node and links what it is given."""

from __future__ import annotations

from typing import Any

import bpy

Socket = Any


class Graph:
    """The node tree of a new material. Values may be sockets (linked) or constants (set)."""

    def __init__(self, name: str) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self._tree = self.material.node_tree
        self._tree.nodes.clear()
        self._output = self._tree.nodes.new("ShaderNodeOutputMaterial")

    def node(self, kind: str, inputs: dict[str | int, Any] | None = None, **settings: Any) -> Any:
        """A node of `ShaderNode<kind>` with settings assigned and inputs linked or set."""
        node = self._tree.nodes.new(f"ShaderNode{kind}")
        for key, value in settings.items():
            setattr(node, key, value)
        for socket, value in (inputs or {}).items():
            self.feed(node.inputs[socket], value)
        return node

    def feed(self, target: Socket, value: Any) -> None:
        if isinstance(value, bpy.types.NodeSocket):
            self._tree.links.new(value, target)
        else:
            target.default_value = value

    def attribute(self, name: str, output: str = "Fac") -> Socket:
        return self.node("Attribute", attribute_name=name).outputs[output]

    def math(self, operation: str, *values: Any) -> Socket:
        return self.node("Math", dict(enumerate(values)), operation=operation).outputs[0]

    def vector(self, operation: str, *values: Any, scale: Any = None) -> Socket:
        node = self.node("VectorMath", dict(enumerate(values)), operation=operation)
        if scale is not None:
            self.feed(node.inputs["Scale"], scale)
        return node.outputs["Value" if operation in ("DOT_PRODUCT", "DISTANCE", "LENGTH") else "Vector"]

    def remap(self, value: Socket, low: float, high: float, to_low: float, to_high: float) -> Socket:
        return self.node("MapRange", {0: value, 1: low, 2: high, 3: to_low, 4: to_high}).outputs[0]

    def mix(self, share: Any, first: Any, second: Any) -> Socket:
        return self.node("MixRGB", {0: share, 1: first, 2: second}).outputs[0]

    def ramp(self, value: Socket, stops: list[tuple[float, tuple[float, float, float]]]) -> tuple[Socket, Any]:
        """A color ramp; returns its color and its elements, in order of position."""
        node = self.node("ValToRGB", {0: value})
        elements = node.color_ramp.elements
        elements[0].position, elements[1].position = stops[0][0], stops[-1][0]
        for position, _ in stops[1:-1]:
            elements.new(position)
        for element, (_, color) in zip(elements, stops, strict=True):
            element.color = (*color, 1)
        return node.outputs[0], elements

    def constant(self, color: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> Socket:
        """A color to be set later through the returned socket's `default_value`."""
        socket = self.node("RGB").outputs[0]
        socket.default_value = (*color, 1)
        return socket

    def surface(self, shader: Socket) -> bpy.types.Material:
        self.feed(self._output.inputs["Surface"], shader)
        return self.material
