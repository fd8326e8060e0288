"""Up-sampling by phases: the same pictures, without a transposed convolution of feature maps."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.stylegan2 import Synthesis, from_rosinality
from doppelgan.export.onnx_files.graph_edit import GraphEditor
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.export.variants.fp16 import to_float16
from doppelgan.export.variants.upsampling import by_phases, merged_kernel

from . import seeds

CODES = torch.randn(1, 6, seeds.TINY_W_DIM, generator=torch.Generator().manual_seed(1))


def _generator() -> bytes:
    weights = from_rosinality(TensorTable(seeds.rosinality(), "generator", "seeded fill"))
    return to_onnx(Synthesis(weights).eval(), {"codes": CODES}, ["image"])


def _draw(data: bytes) -> np.ndarray:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    picture: np.ndarray = session.run(None, {"codes": CODES.numpy()})[0]
    return picture


def _dense_transposed(data: bytes) -> int:
    graph = GraphEditor(data)
    return sum(n.op_type == "ConvTranspose" and graph.shapes[n.input[1]][1] > 1 for n in graph.nodes)


def test_pictures_stay_the_same_and_transposed_convolutions_go() -> None:
    plain = _generator()
    assert _dense_transposed(plain) == 2
    merged = by_phases(plain)
    assert _dense_transposed(merged) == 0
    np.testing.assert_allclose(_draw(merged), _draw(plain), atol=2e-6 * np.abs(_draw(plain)).max())


def test_half_precision_is_merged_as_well() -> None:
    half = to_float16(_generator())
    merged = by_phases(half)
    assert _dense_transposed(merged) == 0
    scale = np.abs(_draw(half)).max()
    np.testing.assert_allclose(_draw(merged), _draw(half), atol=4e-3 * scale)


def test_another_padding_of_the_fir_is_another_network_and_left_alone() -> None:
    model = onnx.load_model_from_string(_generator())
    moved = 0
    for node in model.graph.node:
        attributes = {entry.name: entry for entry in node.attribute}
        if node.op_type == "Conv" and attributes["group"].i > 3:
            attributes["pads"].ints[:] = [2, 2, 0, 0]
            moved += 1
    data = model.SerializeToString()
    assert moved == 2
    assert by_phases(data) is data


def test_a_network_without_any_comes_back_itself() -> None:
    module = torch.nn.Conv2d(3, 4, 3)
    data = to_onnx(module.eval(), {"x": torch.zeros(1, 3, 8, 8)}, ["y"])
    assert by_phases(data) is data


def test_the_merged_kernel_is_the_two_operations() -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(3, 5, 3, 3, generator=generator)
    taps = torch.randn(5, 1, 4, 4, generator=generator)
    x = torch.randn(1, 3, 6, 7, generator=generator)
    functional = torch.nn.functional
    expected = functional.conv2d(functional.conv_transpose2d(x, weight, stride=2), taps, padding=1, groups=5)
    merged = torch.from_numpy(merged_kernel(weight.numpy(), taps.numpy()))
    phases = functional.conv2d(x, merged, padding=1).reshape(1, 2, 2, 5, 6, 7)
    got = phases.permute(0, 3, 4, 1, 5, 2).reshape(1, 5, 12, 14)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
