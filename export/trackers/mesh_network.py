"""The face-mesh network of the trackers in torch: batched, on any device, differentiable.

Training and tuning see faces through the same network as the live tracker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROI_SCALE = 1.5  # of the mesh's larger side, as in live tracking
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263

USUAL_REGION = (0.5, 0.57, 0.9, 0.0)
"""Where a face is in an aligned picture: center x, y, side, angle; units of the picture."""


class OnnxNetwork(nn.Module):
    """Runs a small convolutional ONNX graph with torch operators. Its tensors are constants."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import onnx
        from onnx import numpy_helper

        model = onnx.load(str(path))
        self._names: dict[str, str] = {}
        self._shapes: dict[str, list[int]] = {}
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype == np.int64:
                self._shapes[tensor.name] = array.ravel().tolist()
                continue
            self._names[tensor.name] = f"tensor_{len(self._names)}"
            self.register_buffer(self._names[tensor.name], torch.from_numpy(array.copy()))
        self._nodes = [
            (
                node.op_type,
                list(node.input),
                node.output[0],
                {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in model.graph.node
        ]
        self._input = model.graph.input[0].name
        first = next(i for i, node in enumerate(self._nodes) if node[0] == "Conv")
        self._entry = {name for _, inputs, _, _ in self._nodes[: first + 1] for name in inputs}
        self._outputs = [output.name for output in model.graph.output]

    def forward(self, image: Tensor) -> list[Tensor]:
        values = self._run(image)
        return [values[name] for name in self._outputs]

    def with_maps(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs, and the feature maps of each resolution: what enters a convolution with stride 2."""
        values = self._run(image)
        maps = {
            inputs[0]: values[inputs[0]]
            for kind, inputs, _, options in self._nodes
            if kind == "Conv" and options.get("strides", [1, 1])[0] == 2 and inputs[0] not in self._entry
        }
        return [values[name] for name in self._outputs], list(maps.values())

    def _run(self, image: Tensor) -> dict[str, Any]:
        values: dict[str, Any] = {self._input: image}
        values.update({name: getattr(self, buffer).to(image.dtype) for name, buffer in self._names.items()})
        values.update(self._shapes)
        for kind, inputs, output, options in self._nodes:
            values[output] = _apply(kind, [values[name] for name in inputs if name], options)
        return values


def _apply(kind: str, x: list[Any], options: dict[str, Any]) -> Any:
    if kind == "Conv":
        top, left, bottom, right = options.get("pads", [0, 0, 0, 0])
        padded = F.pad(x[0], (left, right, top, bottom)) if any((top, left, bottom, right)) else x[0]
        bias = x[2] if len(x) > 2 else None
        return F.conv2d(
            padded, x[1], bias, stride=options.get("strides", [1, 1]), groups=options.get("group", 1)
        )
    if kind == "Add":
        return x[0] + x[1]
    if kind == "Mul":
        return x[0] * x[1]
    if kind == "Min":
        return torch.minimum(x[0], x[1])
    if kind == "Relu":
        return F.relu(x[0])
    if kind == "PRelu":
        return F.prelu(x[0], x[1].flatten())
    if kind == "Sigmoid":
        return torch.sigmoid(x[0])
    if kind == "MaxPool":
        return F.max_pool2d(x[0], options["kernel_shape"], options["strides"])
    if kind == "Pad":
        pads = x[1]
        half = len(pads) // 2
        flat = [side for axis in reversed(range(half)) for side in (pads[axis], pads[half + axis])]
        return F.pad(x[0], flat)
    if kind == "Reshape":
        return x[0].reshape(len(x[0]), *x[1][1:])
    raise NotImplementedError(f"the face-mesh network has an operator {kind} that {__name__} does not know")


class MeshNetwork(nn.Module):
    """Pictures [n, 3, S, S] in -1..1 -> mesh [n, 468, 3] in units of the picture (0..1, z alike), score."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = OnnxNetwork(path).requires_grad_(False)

    def look(self, pictures: Tensor, roi: Tensor) -> tuple[Tensor, Tensor]:
        """One pass in the region `roi` [n, 4]: center x, y, side, angle; units of the picture."""
        mesh, score, _ = self.study(pictures, roi)
        return mesh, score

    def study(self, pictures: Tensor, roi: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """`look`, and the feature maps, the finest first: what it thinks eyes, lips and brows look like."""
        middle, side, angle = roi[:, :2], roi[:, 2], roi[:, 3]
        along = torch.stack([angle.cos(), angle.sin()], 1) * side[:, None]
        down = torch.stack([-angle.sin(), angle.cos()], 1) * side[:, None]
        # grid_sample's coordinates run from -1 to 1; a unit of the picture is 2 of them.
        theta = torch.stack([along, down, 2 * middle - 1], 2)
        grid = F.affine_grid(theta, [len(pictures), 3, 192, 192], align_corners=False)
        region = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
        (points, score, *_), maps = self.network.with_maps(region)
        unit = points.float() / 192
        x, y = unit[..., :1] - 0.5, unit[..., 1:2] - 0.5
        flat = middle[:, None] + x * along[:, None] + y * down[:, None]
        return torch.cat([flat, unit[..., 2:] * side[:, None, None]], 2), score.float().flatten(), maps

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Two passes, as a tracker in its stride: where an aligned face is, then where it was found."""
        first = torch.tensor(USUAL_REGION, device=pictures.device).expand(len(pictures), 4)
        mesh, _ = self.look(pictures, first)
        return self.look(pictures, region_of(mesh))


def region_of(mesh: Tensor) -> Tensor:
    """Mesh [n, 468, 3] -> the tracker's next region [n, 4]: center, side, angle."""
    xy = mesh[..., :2]
    eyes = xy[:, LEFT_EYE_OUTER] - xy[:, RIGHT_EYE_OUTER]
    angle = torch.atan2(eyes[:, 1], eyes[:, 0])
    turn = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1
    )
    upright = xy @ turn  # coordinates along the region's own axes
    low, high = upright.amin(1), upright.amax(1)
    middle = ((low + high) / 2)[:, None] @ turn.transpose(1, 2)
    side = (high - low).amax(1) * _ROI_SCALE
    return torch.cat([middle[:, 0], side[:, None], angle[:, None]], 1)
