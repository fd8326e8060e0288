"""The tracker's face-mesh network in torch: batched, on any device, differentiable.

Training sees faces through the same network as the live tracker, so the network's habits are the same on both sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROI_SCALE = 1.5  # of the mesh's larger side, as in live tracking
_RIGHT_EYE_OUTER, _LEFT_EYE_OUTER = 33, 263
_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 78, 95, 88, 178, 87, 14, 317, 402, 318,
    324, 308, 185, 40, 39, 37, 0, 267, 269, 270, 409, 191, 80, 81, 82, 13, 312, 311, 310, 415,
)  # fmt: skip
_LIDS = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
         263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)  # fmt: skip
_BROWS = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
_LID_GAPS = ((159, 145), (158, 153), (160, 144), (386, 374), (385, 380), (387, 373))
_MOUTH_GAPS = ((13, 14), (82, 87), (312, 317), (61, 291))
_BROW_GAPS = ((70, 33), (105, 33), (66, 133), (300, 263), (334, 263), (296, 362))  # to the corners of the eye, which stay
_GAPS = (*_LID_GAPS, *_MOUTH_GAPS, *_BROW_GAPS)

# What expressions hardly move, as the runtime reads a head's pose: right and left of the person; forehead and under the nose.
_RIGHTS, _LEFTS = (33, 133, 127, 234, 162, 21, 54, 93), (263, 362, 356, 454, 389, 251, 284, 323)
_TOP, _BASE = (10, 109, 338, 151), (2, 98, 327, 94)

_FRAMES = (1.0, 1.0, 1.5, 2.2)  # a glass next to an eye: center x, y, width, height

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


def _apply(kind: str, x: list[Any], options: dict[str, Any]) -> Tensor:
    if kind == "Conv":
        top, left, bottom, right = options.get("pads", [0, 0, 0, 0])
        padded = F.pad(x[0], (left, right, top, bottom)) if any((top, left, bottom, right)) else x[0]
        bias = x[2] if len(x) > 2 else None
        return F.conv2d(padded, x[1], bias, stride=options.get("strides", [1, 1]), groups=options.get("group", 1))
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
    """Pictures [n, 3, S, S] in -1..1 -> mesh [n, 468, 3] in units of the picture (0..1, z alike) and score [n]."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = OnnxNetwork(path).requires_grad_(False)

    def look(self, pictures: Tensor, roi: Tensor) -> tuple[Tensor, Tensor]:
        """One pass in the region `roi` [n, 4]: center x, y, side, angle; units of the picture."""
        mesh, score, _ = self.study(pictures, roi)
        return mesh, score

    def study(self, pictures: Tensor, roi: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """`look`, and the network's feature maps, the finest first: what it thinks eyes, lips and brows look like."""
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
        """Two passes, as a tracker in its stride: where a face is in an aligned picture, then where it was found."""
        first = torch.tensor(USUAL_REGION, device=pictures.device).expand(len(pictures), 4)
        mesh, _ = self.look(pictures, first)
        return self.look(pictures, region_of(mesh))


def region_of(mesh: Tensor) -> Tensor:
    """Mesh [n, 468, 3] -> the tracker's next region [n, 4]: center, side, angle."""
    xy = mesh[..., :2]
    eyes = xy[:, _LEFT_EYE_OUTER] - xy[:, _RIGHT_EYE_OUTER]
    angle = torch.atan2(eyes[:, 1], eyes[:, 0])
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1)
    upright = xy @ turn  # coordinates along the region's own axes
    low, high = upright.amin(1), upright.amax(1)
    middle = ((low + high) / 2)[:, None] @ turn.transpose(1, 2)
    side = (high - low).amax(1) * _ROI_SCALE
    return torch.cat([middle[:, 0], side[:, None], angle[:, None]], 1)


def head_axes(mesh: Tensor) -> Tensor:
    """Mesh [n, 468, 3] -> [n, 3, 3]: rows are the head's own left, down and back, as in `doppelgan.runtime.track.expression`."""
    across = (mesh[:, list(_LEFTS)] - mesh[:, list(_RIGHTS)]).sum(1)
    down = mesh[:, list(_BASE)].mean(1) - mesh[:, list(_TOP)].mean(1)
    x = F.normalize(across, dim=1)
    y = F.normalize(down - x * (x * down).sum(1, keepdim=True), dim=1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], 1)


def mesh_difference(got: Tensor, wanted: Tensor, found: Tensor) -> Tensor:
    """How far two meshes [n, 468, 3] differ, in eye distances: contours, above all how far eyes and mouth open and brows rise.

    And where the heads look, whose depth no contour shows. `found` [n] is how much each face counts.
    """
    scale = (wanted[:, _LEFT_EYE_OUTER, :2] - wanted[:, _RIGHT_EYE_OUTER, :2]).norm(dim=1).clamp(min=0.1)[:, None]
    difference = (got - wanted)[..., :2].abs().sum(2) / scale
    weight = torch.ones(difference.shape[1], device=got.device)
    weight[[*_LIPS, *_LIDS]] = 4.0
    weight[list(_BROWS)] = 2.0
    contours = ((difference * weight).mean(1) * found).mean()
    a, b = [p for p, _ in _GAPS], [q for _, q in _GAPS]
    gaps = [(mesh[:, a, :2] - mesh[:, b, :2]).norm(dim=2) / scale for mesh in (got, wanted)]
    counts = got.new_ones(len(_GAPS))
    counts[: len(_LID_GAPS)] = 2.0  # they are the smallest
    apertures = (((gaps[0] - gaps[1]).abs() * counts).mean(1) * found).mean()
    backs = [head_axes(mesh)[:, 2] for mesh in (got, wanted)]
    turns = ((backs[0] - backs[1])[:, :2].abs().sum(1) * found).mean()
    return 2.0 * contours + 9.0 * apertures + 2.0 * turns


def attention(mesh: Tensor, found: Tensor, size: int, extra: float, glasses: Tensor | None = None) -> Tensor:
    """[n, 1, size, size], mean 1: where a mesh [n, 468, 3] has eyes, brows and mouth counts `extra` times more.

    Without a mesh (`found` [n] is False) the places are those of a face that looks straight ahead. The eyes of those who wear
    `glasses` (bool [n]) reach as far as the frames.
    """
    spots = []
    for points, usual, reach in (
        (_LIDS[:16], (0.375, 0.47, 0.085, 0.055), (0.55, 0.55)),
        (_LIDS[16:], (0.625, 0.47, 0.085, 0.055), (0.55, 0.55)),
        (_BROWS[:10], (0.36, 0.40, 0.09, 0.035), (0.4, 0.35)),
        (_BROWS[10:], (0.64, 0.40, 0.09, 0.035), (0.4, 0.35)),
        (_LIPS, (0.5, 0.725, 0.13, 0.085), (0.55, 0.6)),
    ):
        xy = mesh[:, list(points), :2]
        low, high = xy.amin(1), xy.amax(1)
        least = mesh.new_tensor([0.035, 0.03])
        spot = torch.cat([(low + high) / 2, torch.maximum((high - low) * mesh.new_tensor(reach), least)], 1)
        spot = torch.where(found[:, None], spot, mesh.new_tensor(usual))
        if glasses is not None and points[0] in (_LIDS[0], _LIDS[16]):
            spot = spot * torch.where(glasses[:, None], spot.new_tensor(_FRAMES), spot.new_tensor(1.0))
        spots.append(spot)
    line = (torch.arange(size, device=mesh.device) + 0.5) / size
    near = torch.zeros(len(mesh), size, size, device=mesh.device)
    for spot in spots:
        x, y, width, height = (value[:, None] for value in spot.T)
        across, down = torch.exp(-(((line - x) / width) ** 2)), torch.exp(-(((line - y) / height) ** 2))
        near = torch.maximum(near, down[:, :, None] * across[:, None, :])
    weight = 1 + extra * near
    return (weight / weight.mean((1, 2), keepdim=True))[:, None]


class MeshFinder:
    """NumPy front for ingestion: RGB uint8 [n, S, S, 3] -> mesh float32 [n, 468, 3], score float32 [n]."""

    def __init__(self, path: Path) -> None:
        self.network = MeshNetwork(path).eval()

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        if batch.shape[-1] < 128:
            batch = F.interpolate(batch, size=(192, 192), mode="bilinear", align_corners=False)
        mesh, score = self.network(batch)
        return mesh.numpy(), score.numpy()
