"""The compiled encoder equals ONNX Runtime on every kind it serves, and refuses everything else."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.encoders import CROP_SIZE, Encoder
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.runtime import native
from doppelgan.runtime.backends import Session, installed, open_session
from doppelgan.runtime.backends.native import encoder_graph
from doppelgan.runtime.backends.native.onnx_file import read_graph
from doppelgan.runtime.errors import BackendError
from onnx import helper, numpy_helper

from ..export import seeds
from ..once import once

TOLERANCE = 1e-5  # relative L2: other order of sums, and Winograd's
INT16_TOLERANCE = 1e-3  # both sides of every product are rounded; 1e-4 is usual at these few channels

if not installed("native"):
    pytest.skip("the compiled kernels are missing, or the processor has no AVX2", allow_module_level=True)

W_DIM = 9
ODD = (9, 9, 17, 20, 43)  # parts of a vector, 16 + 8 channels, 2 x 16 + 16; the first stage keeps them
# kind: rows of codes, channels of the crop
KINDS = {
    "Encoder4Editing": (9, 3),
    "GradualStyleEncoder": (7, 3),  # no heads on the largest map
    "ProgressiveBackboneEncoder": (3, 6),
    "SingleStyleCodeEncoder": (4, 3),
    "ResNetGradualStyleEncoder": (8, 6),
}


@once
def exported(kind: str) -> bytes:
    rows, planes = KINDS[kind]
    state = seeds.encoder(kind, rows, W_DIM, ODD, planes)
    average = seeds.fill("latent_avg", (rows, W_DIM), 0.01)
    encoder = Encoder(TensorTable(state, "encoder", "seeds"), kind, rows, W_DIM, average).eval()
    return to_onnx(encoder, {"crop": torch.zeros(1, planes, CROP_SIZE, CROP_SIZE)}, ["codes"])


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Session]:
    def open_as(data: bytes, backend: str = "native", **options: object) -> Session:
        path = tmp_path / "encoder.onnx"
        path.write_bytes(data)
        return open_session(path, backend=backend, **options)

    return open_as


def crop_for(session: Session, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, session.inputs[0].shape).astype(np.float32)


@cache
def reference(kind: str, seed: int, folder: Path) -> np.ndarray:
    path = folder / "reference.onnx"
    path.write_bytes(exported(kind))
    session = open_session(path, backend="onnxruntime")
    return session.run({"crop": crop_for(session, seed)})["codes"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_it_equals_onnx_runtime(
    kind: str, threads: int, opened: Callable[..., Session], folder: Path
) -> None:
    for precision, tolerance in (("float32", TOLERANCE), ("int16", INT16_TOLERANCE)):
        session = opened(exported(kind), threads=threads, precision=precision)
        for seed in (1, 2, 1):  # what one run leaves behind must not reach the next
            want = reference(kind, seed, folder)
            got = session.run({"crop": crop_for(session, seed)})["codes"]
            assert np.linalg.norm(got - want) < tolerance * np.linalg.norm(want), precision


def test_int16_rounds(opened: Callable[..., Session], folder: Path) -> None:
    session = opened(exported("Encoder4Editing"), precision="int16")
    want = reference("Encoder4Editing", 1, folder)
    got = session.run({"crop": crop_for(session, 1)})["codes"]
    assert np.linalg.norm(got - want) > TOLERANCE * np.linalg.norm(want)


def test_the_session_contract(opened: Callable[..., Session]) -> None:
    session = opened(exported("GradualStyleEncoder"))
    crop = crop_for(session, 3)
    buffer = np.full((1, 7, W_DIM), np.nan, np.float32)
    assert session.run({"crop": crop}, {"codes": buffer})["codes"] is buffer
    np.testing.assert_array_equal(session.run({"crop": crop})["codes"], buffer)
    assert session.bytes > 1e6
    with pytest.raises(BackendError, match="expected crop: float32"):
        session.run({"crop": crop[:, :, :128]})
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run({"crop": crop})


def node_of(graph: onnx.GraphProto, op: str, number: int = 0) -> onnx.NodeProto:
    return [node for node in graph.node if node.op_type == op][number]


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(one for one in node.attribute if one.name == name)


def add_a_node(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Neg", ["crop"], ["unused"]))


def gate_by_another_map(graph: onnx.GraphProto) -> None:
    node_of(graph, "GlobalAveragePool", 1).input[0] = node_of(graph, "GlobalAveragePool").input[0]


def keep_other_corners(graph: onnx.GraphProto) -> None:
    attribute(node_of(graph, "Resize"), "coordinate_transformation_mode").s = b"half_pixel"


def widen_the_kernel(graph: onnx.GraphProto) -> None:
    attribute(node_of(graph, "Conv", 2), "dilations").ints[:] = [2, 2]


def pad_less(graph: onnx.GraphProto) -> None:
    attribute(node_of(graph, "Conv", 2), "pads").ints[0] = 0


def take_the_largest(graph: onnx.GraphProto) -> None:
    attribute(node_of(graph, "MaxPool"), "kernel_shape").ints[:] = [2, 2]


def differ_from_another_row(graph: onnx.GraphProto) -> None:
    sums = [node for node in graph.node if node.op_type == "Add" and node.input[0] == "linear"]
    sums[3].input[0] = sums[0].input[1]


def normalize_what_is_halved(graph: onnx.GraphProto) -> None:
    strided = next(
        node
        for node in graph.node
        if node.op_type == "Conv" and attribute(node, "strides").ints[0] == 2
        and attribute(node, "kernel_shape").ints[0] == 3
    )  # fmt: skip
    norm = node_of(graph, "BatchNormalization")
    graph.node.insert(
        list(graph.node).index(strided),
        helper.make_node(
            "BatchNormalization", [strided.input[0], *norm.input[1:]], ["normalized"], epsilon=0.0
        ),
    )
    strided.input[0] = "normalized"


def normalize_by_the_crop_itself(graph: onnx.GraphProto) -> None:
    node_of(graph, "BatchNormalization").attribute.append(helper.make_attribute("training_mode", 1))


def leave_out_the_bias(graph: onnx.GraphProto) -> None:
    del node_of(graph, "Gemm").input[2]


def make_a_circle(graph: onnx.GraphProto) -> None:
    node_of(graph, "BatchNormalization").input[0] = node_of(graph, "Add").output[0]


def shorten_a_bias(graph: onnx.GraphProto) -> None:
    name = next(node.input[2] for node in graph.node if node.op_type == "Conv" and len(node.input) > 2)
    bias = next(one for one in graph.initializer if one.name == name)
    bias.CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), name))


def read_the_crop(graph: onnx.GraphProto) -> None:
    graph.node.insert(
        0, helper.make_node("ReduceMean", ["crop", "axes_of_pixels"], ["mean_of_the_crop"], keepdims=0)
    )
    graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes_of_pixels"))
    node_of(graph, "Gemm").input[0] = "mean_of_the_crop"


def claim_a_huge_crop(graph: onnx.GraphProto) -> None:
    for axis in (2, 3):
        graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 1 << 14


def claim_many_rows(graph: onnx.GraphProto) -> None:
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1 << 40


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (normalize_by_the_crop_itself, "training_mode"),
        (leave_out_the_bias, "Gemm of 3 inputs, got 2"),
        (make_a_circle, "inputs and sizes of their kind"),
        (shorten_a_bias, r"a bias of a convolution float32 \[9\], got float32 \[1\]"),
        (read_the_crop, "got the crop"),
        (claim_a_huge_crop, "values together"),
        (claim_many_rows, "usual sizes"),
        (add_a_node, "nothing else, got Neg"),
        (gate_by_another_map, "computed from the map it multiplies"),
        (keep_other_corners, "coordinate_transformation_mode"),
        (widen_the_kernel, "dilations"),
        (pad_less, "pads"),
        (take_the_largest, "kernel_shape"),
        (differ_from_another_row, "the first row's code"),
        (normalize_what_is_halved, "stride 1"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_it_would_compute_wrongly_it_refuses(
    change: Callable[[onnx.GraphProto], None], words: str, opened: Callable[..., Session]
) -> None:
    model = onnx.load_from_string(exported("Encoder4Editing"))
    change(model.graph)
    with pytest.raises(BackendError, match=words):
        opened(model.SerializeToString())


def test_constants_that_begin_at_any_byte_are_aligned_for_the_kernels(tmp_path: Path) -> None:
    """Unaligned floats are undefined behavior in C++, whatever a processor says to them."""
    for shift in range(4):
        model = onnx.load_from_string(exported("Encoder4Editing"))
        model.producer_name = "x" * (1 + shift)
        path = tmp_path / "encoder.onnx"
        path.write_bytes(model.SerializeToString())
        network = encoder_graph.recognize(read_graph(path), path.name)
        for part in (*network.steps, *network.rows):
            for name, value in vars(part).items():
                assert not isinstance(value, np.ndarray) or value.flags.aligned, name


def test_other_encoders_and_precisions_are_refused(tiny_bundle: Path, opened: Callable[..., Session]) -> None:
    with pytest.raises(BackendError, match=r"encoder\.onnx: expected an encoder as doppelgan exports it"):
        open_session(tiny_bundle / "encoder.onnx", backend="native")
    with pytest.raises(BackendError, match="float32 or int16"):
        opened(exported("Encoder4Editing"), precision="int8")


def test_maps_that_two_convolutions_read_differently() -> None:
    encoder, rng = native.encoder(), np.random.default_rng(4)
    assert encoder is not None

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    ones = np.ones(8, np.float32)
    stem = {"kind": "conv", "source": -1, "target": 0, "side": 1, "stride": 1, "weight": draw(24)}
    stem |= {"bias": draw(8), "slope": ones}
    convs = [
        stem | {"source": 0, "target": k, "side": 3, "weight": draw(576), "scale": draw(8), "shift": draw(8)}
        for k in (1, 2)
    ]
    convs += [stem | {"source": 0, "target": 3, "side": 3, "weight": draw(576)}]
    row, crop = {"base": -1, "weight": draw(16), "bias": draw(2)}, draw(3, 16, 16)

    def codes(chosen: list[int]) -> np.ndarray:
        steps = [stem, *(convs[k] | {"target": n + 1} for n, k in enumerate(chosen))]
        rows = [row | {"source": n + 1} for n in range(len(chosen))]
        out = np.empty((len(chosen), 2), np.float32)
        encoder(3, 16, 2, [(16, 8)] * len(steps), steps, rows).run(crop, out)
        return out

    np.testing.assert_array_equal(codes([0, 1, 2]), np.concatenate([codes([k]) for k in range(3)]))


@pytest.mark.parametrize("side", [16, 96], ids=["divided by channels", "divided by rows"])
def test_a_convolution_waits_for_the_sum_and_the_map_that_it_reads(side: int) -> None:
    """Convolutions of equal shape are computed side by side, but not with what they read."""
    encoder, rng = native.encoder(), np.random.default_rng(4)
    assert encoder is not None

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    stem = {"kind": "conv", "source": -1, "target": 0, "side": 1, "stride": 1, "weight": draw(32 * 3)}
    stem |= {"bias": draw(32), "slope": np.ones(32, np.float32)}
    wide = stem | {"source": 0, "side": 3}
    first, second, third = (wide | {"target": k, "weight": draw(32 * 32 * 9)} for k in (1, 2, 3))
    chain = [stem, first, second | {"other": 1}, third | {"source": 2}]
    rows = [{"source": 3, "base": -1, "weight": draw(2 * 32), "bias": draw(2)}]
    maps = [(side, 32)] * 4
    together = encoder(3, side, 2, maps, chain, rows)
    # With other strides and kernels between them, none is grouped with another.
    apart = {"kind": "conv", "source": -1, "target": 0, "side": 1, "stride": 1}
    apart |= {"weight": draw(8 * 3), "bias": draw(8), "slope": np.ones(8, np.float32)}
    alone = [stem]
    for k, step in enumerate(chain[1:]):
        alone += [apart | {"target": 4 + k}, step]
    alone_maps = [(side, 32)] * 4 + [(side, 8)] * 3
    reference = encoder(3, side, 2, alone_maps, alone, rows)
    for run in range(60):
        crop = draw(3, side, side)
        want, got = np.empty((1, 2), np.float32), np.empty((1, 2), np.float32)
        reference.run(crop, want, 1)
        together.run(crop, got, 2 + run % 3)
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * np.abs(want).max())


def test_arrays_of_the_wrong_size_never_reach_the_kernels() -> None:
    encoder = native.encoder()
    assert encoder is not None
    ones = np.ones(8, np.float32)
    conv = {"kind": "conv", "source": -1, "target": 0, "side": 1, "stride": 1, "bias": ones, "slope": ones}
    conv["weight"] = np.ones(24, np.float32)
    row = {"source": 0, "base": -1, "weight": np.ones(16, np.float32), "bias": np.ones(2, np.float32)}

    def build(maps: list[tuple[int, int]], steps: list[dict], rows: list[dict]) -> None:
        encoder(3, 4, 2, maps, steps, rows)

    build([(4, 8)], [conv], [row])
    with pytest.raises(ValueError, match="weight: expected 24 values, got 8"):
        build([(4, 8)], [conv | {"weight": ones}], [row])
    with pytest.raises(ValueError, match="bias: expected 2 values, got 8"):
        build([(4, 8)], [conv], [row | {"bias": ones}])
    with pytest.raises(ValueError, match="maps have pixels and channels"):
        build([(4, 1 << 60)], [conv], [row])
    with pytest.raises(ValueError, match="a map of that size"):
        build([(5, 8)], [conv], [row])
    with pytest.raises(ValueError, match="made before"):
        build([(4, 8)], [conv | {"source": 0}], [row])
    with pytest.raises(ValueError, match="nothing made before"):
        build([(4, 8)], [conv, conv], [row])
    with pytest.raises(ValueError, match="row reads a map"):
        build([(4, 8)], [conv], [row | {"source": 1}])
    with pytest.raises(ValueError, match="twice the size"):
        build([(4, 8), (4, 8)], [conv, {"kind": "double", "source": 0, "target": 1}], [row])
