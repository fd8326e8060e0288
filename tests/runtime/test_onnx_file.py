"""The ONNX reader sees what the onnx package sees, and damage is an error, never a crash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from doppelgan.runtime.backends.native.onnx_file import read_graph
from doppelgan.runtime.errors import BackendError
from onnx import TensorProto, helper, numpy_helper

from .. import tiny

DEMO = Path(__file__).resolve().parents[2] / "engines" / "demo"


@pytest.mark.parametrize("name", ["mapping", "synthesis", "encoder", "detector", "landmarks"])
def test_the_networks_of_the_demo_read_as_the_onnx_package_reads_them(name: str) -> None:
    graph = read_graph(DEMO / f"{name}.onnx")
    model = onnx.load(DEMO / f"{name}.onnx").graph
    assert [(n.op, n.inputs, n.outputs) for n in graph.nodes] == [
        (n.op_type, tuple(n.input), tuple(n.output)) for n in model.node
    ]
    for node, truth in zip(graph.nodes, model.node, strict=True):
        for attribute in truth.attribute:
            if attribute.type in (
                onnx.AttributeProto.INT,
                onnx.AttributeProto.FLOAT,
                onnx.AttributeProto.INTS,
            ):
                value = helper.get_attribute_value(attribute)
                assert node.attributes[attribute.name] == (list(value) if isinstance(value, list) else value)
    assert graph.constants.keys() == {tensor.name for tensor in model.initializer}
    for tensor in model.initializer:
        np.testing.assert_array_equal(graph.constants[tensor.name], numpy_helper.to_array(tensor))
    for borders, truths in ((graph.inputs, model.input), (graph.outputs, model.output)):
        shapes = [tuple(d.dim_value for d in t.type.tensor_type.shape.dim) for t in truths]
        assert [(b.name, b.shape) for b in borders] == [
            (t.name, shape) for t, shape in zip(truths, shapes, strict=True)
        ]
        assert {b.dtype for b in borders} == {"float32"}


def test_constants_may_be_stored_as_numbers_instead_of_bytes(tmp_path: Path) -> None:
    model = onnx.load_from_string(tiny.mapping())
    model.graph.initializer.append(helper.make_tensor("f", TensorProto.FLOAT, [2], [1.5, -2.0]))
    model.graph.initializer.append(helper.make_tensor("i", TensorProto.INT64, [3], [-1, 0, 1 << 40]))
    path = tmp_path / "numbers.onnx"
    path.write_bytes(model.SerializeToString())
    graph = read_graph(path)
    np.testing.assert_array_equal(graph.constants["f"], np.array([1.5, -2.0], np.float32))
    np.testing.assert_array_equal(graph.constants["i"], [-1, 0, 1 << 40])


def test_an_open_size_is_minus_one(tmp_path: Path) -> None:
    model = onnx.load_from_string(tiny.mapping())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    path = tmp_path / "open.onnx"
    path.write_bytes(model.SerializeToString())
    assert read_graph(path).inputs[0].shape == (-1, tiny.Z_DIM)


def test_every_truncation_is_a_backend_error_or_a_smaller_graph(tmp_path: Path) -> None:
    data, path = tiny.mapping(), tmp_path / "cut.onnx"
    failures = []
    for length in range(0, len(data), 3):
        path.write_bytes(data[:length])
        try:
            read_graph(path)
        except BackendError as error:
            failures.append(str(error))
    assert len(failures) > len(data) // 6
    assert all(str(path) in message for message in failures)


def test_constants_elsewhere_and_missing_files_are_named(tmp_path: Path) -> None:
    model = onnx.load_from_string(tiny.mapping())
    constant = model.graph.initializer[0]
    constant.data_location = TensorProto.EXTERNAL
    path = tmp_path / "external.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match=f"{constant.name} lies in another file"):
        read_graph(path)
    with pytest.raises(BackendError, match="expected a readable ONNX file"):
        read_graph(tmp_path / "none.onnx")
