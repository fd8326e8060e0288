"""TFLite -> ONNX, operator by operator on tiny files, and the trackers' networks around them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from doppelgan.export.trackers import mediapipe as trackers
from doppelgan.export.trackers.tflite_convert import Converter, GraphBuilder
from doppelgan.export.trackers.tflite_reader import read_model
from doppelgan.runtime.errors import CheckpointError
from numpy.typing import NDArray

from .tiny_tflite import Sparse, TinyModel

SAME, VALID = 0, 1
RANDOM = np.random.default_rng(11)


def run(model: onnx.ModelProto, **feeds: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def convert(tiny: TinyModel, *inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Result of the tiny model's last operator in TFLite's layout, through ONNX."""
    model = read_model(tiny.bytes())
    graph = GraphBuilder()
    converter = Converter(model, graph)
    names = {}
    feeds = {}
    for position, (index, value) in enumerate(zip(model.inputs, inputs, strict=True)):
        value = np.asarray(value, np.float32)
        feeds[f"in_{position}"] = value.transpose(0, 3, 1, 2).copy() if value.ndim == 4 else value
        names[index] = graph.input(f"in_{position}", feeds[f"in_{position}"].shape)
    converter.run(names)
    result = converter.channels_last(model.operators[-1].outputs[0])
    graph.output(result, model.tensors[model.operators[-1].outputs[0]].shape)
    return run(graph.model("tiny"), **feeds)[0]


def image(*shape: int) -> NDArray[np.float32]:
    return RANDOM.normal(size=shape).astype(np.float32)


def convolve(
    x: NDArray[Any], weight: NDArray[Any], stride: int = 1, dilation: int = 1, same: bool = True
) -> NDArray[np.float64]:
    """Convolution by definition: x [1,H,W,C], weight [O,kh,kw,C] -> [1,h,w,O]."""
    _, height, width, _ = x.shape
    out_channels, kh, kw, _ = weight.shape
    extent = ((kh - 1) * dilation + 1, (kw - 1) * dilation + 1)
    if same:
        out = (-(-height // stride), -(-width // stride))
        total = [
            max((o - 1) * stride + e - s, 0) for o, e, s in zip(out, extent, (height, width), strict=True)
        ]
        x = np.pad(x, ((0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)))
    else:
        out = ((height - extent[0]) // stride + 1, (width - extent[1]) // stride + 1)
    result = np.zeros((1, *out, out_channels))
    for i in range(out[0]):
        for j in range(out[1]):
            rows, columns = i * stride, j * stride
            patch = x[0, rows : rows + extent[0] : dilation, columns : columns + extent[1] : dilation]
            result[0, i, j] = np.einsum("hwc,ohwc->o", patch, weight)
    return result


@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("padding", [SAME, VALID])
def test_convolution(size: tuple[int, int], stride: int, dilation: int, padding: int) -> None:
    x, weight, bias = image(1, *size, 3), image(4, 3, 3, 3), image(4)
    expected = convolve(x, weight, stride, dilation, padding == SAME) + bias
    tiny = TinyModel()
    tiny.op(
        "CONV_2D", tiny.input(*x.shape), tiny.constant(weight), tiny.constant(bias), shape=expected.shape,
        padding=padding, stride_w=stride, stride_h=stride, dilation_w=dilation, dilation_h=dilation,
    )  # fmt: skip
    np.testing.assert_allclose(convert(tiny, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution_of_half_precision_weights(stride: int) -> None:
    x, weight = image(1, 6, 6, 3), image(1, 3, 3, 3).astype(np.float16)
    full = np.zeros((3, 3, 3, 3))
    for channel in range(3):
        full[channel, :, :, channel] = weight[0, :, :, channel]
    expected = convolve(x, full, stride)
    tiny = TinyModel()
    source = tiny.input(*x.shape)
    half = tiny.constant(weight, "float16")
    whole = tiny.op("DEQUANTIZE", half, shape=weight.shape)
    tiny.op(
        "DEPTHWISE_CONV_2D", source, whole, tiny.constant(np.zeros(3)), shape=expected.shape,
        padding=SAME, stride_w=stride, stride_h=stride, multiplier=1,
    )  # fmt: skip
    np.testing.assert_allclose(convert(tiny, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_max_pooling_pads_after(stride: int) -> None:
    x = image(1, 5, 6, 2)
    out = (-(-5 // stride), -(-6 // stride))
    total = ((out[0] - 1) * stride + 2 - 5, (out[1] - 1) * stride + 2 - 6)
    padded = np.pad(
        x, ((0, 0), (0, max(total[0], 0)), (0, max(total[1], 0)), (0, 0)), constant_values=-np.inf
    )
    expected = np.zeros((1, *out, 2))
    for i in range(out[0]):
        for j in range(out[1]):
            expected[0, i, j] = padded[0, i * stride : i * stride + 2, j * stride : j * stride + 2].max(
                (0, 1)
            )
    tiny = TinyModel()
    tiny.op(
        "MAX_POOL_2D", tiny.input(*x.shape), shape=expected.shape,
        padding=SAME, stride_w=stride, stride_h=stride, filter_w=2, filter_h=2,
    )  # fmt: skip
    np.testing.assert_allclose(convert(tiny, x), expected, rtol=1e-6)


@pytest.mark.parametrize(("activation", "expected"), [(0, [-1, 2, 9]), (1, [0, 2, 9]), (3, [0, 2, 6])])
def test_activation_fused_into_an_operator(activation: int, expected: list[float]) -> None:
    tiny = TinyModel()
    x = np.array([-1.5, 1.5, 8.5], np.float32).reshape(1, 1, 1, 3)
    tiny.op("ADD", tiny.input(1, 1, 1, 3), tiny.constant(0.5), shape=(1, 1, 1, 3), activation=activation)
    np.testing.assert_allclose(convert(tiny, x).ravel(), expected)


@pytest.mark.parametrize(("kind", "expected"), [("RELU", [0, 2, 9]), ("RELU6", [0, 2, 6])])
def test_activation_on_its_own(kind: str, expected: list[float]) -> None:
    tiny = TinyModel()
    tiny.op(kind, tiny.input(1, 1, 1, 3), shape=(1, 1, 1, 3))
    np.testing.assert_allclose(convert(tiny, np.array([[[[-1, 2, 9]]]], np.float32)).ravel(), expected)


def test_prelu_has_a_slope_per_channel() -> None:
    x, slope = image(1, 4, 3, 5), RANDOM.uniform(-0.5, 1.5, (1, 1, 5)).astype(np.float32)
    tiny = TinyModel()
    tiny.op("PRELU", tiny.input(*x.shape), tiny.constant(slope), shape=x.shape)
    np.testing.assert_allclose(convert(tiny, x), np.where(x > 0, x, slope * x), rtol=1e-6)


@pytest.mark.parametrize("operand", [(1, 2, 3, 4), (4,), ()])
def test_multiplication_broadcasts_constants(operand: tuple[int, ...]) -> None:
    x, factor = image(1, 2, 3, 4), image(*operand)
    tiny = TinyModel()
    tiny.op("MUL", tiny.input(*x.shape), tiny.constant(factor), shape=x.shape)
    np.testing.assert_allclose(convert(tiny, x), x * factor, rtol=1e-6)


def test_padding_of_rows_columns_and_channels() -> None:
    amounts = np.array([[0, 0], [1, 2], [3, 0], [0, 4]])
    x = image(1, 2, 3, 4)
    expected = np.pad(x, amounts)
    tiny = TinyModel()
    tiny.op("PAD", tiny.input(*x.shape), tiny.constant(amounts, "int32"), shape=expected.shape)
    np.testing.assert_array_equal(convert(tiny, x), expected)


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concatenation_along_any_axis(axis: int) -> None:
    x = image(1, 2, 3, 4)
    expected = np.concatenate([x, 2 * x], axis=axis)
    tiny = TinyModel()
    source = tiny.input(*x.shape)
    twice = tiny.op("ADD", source, source, shape=x.shape)
    tiny.op("CONCATENATION", source, twice, shape=expected.shape, axis=axis)
    np.testing.assert_allclose(convert(tiny, x), expected, rtol=1e-6)


def test_reshape_keeps_the_order_of_numbers() -> None:
    x = image(1, 2, 3, 4)
    tiny = TinyModel()
    flat = tiny.op("RESHAPE", tiny.input(*x.shape), shape=(1, 6, 4))
    tiny.op("RESHAPE", flat, shape=(1, 4, 3, 2))
    np.testing.assert_array_equal(convert(tiny, x), x.reshape(1, 4, 3, 2))


def test_depth_to_space() -> None:
    x = image(1, 2, 3, 8)
    expected = x.reshape(1, 2, 3, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 4, 6, 2)
    tiny = TinyModel()
    tiny.op("DEPTH_TO_SPACE", tiny.input(*x.shape), shape=expected.shape, block_size=2)
    np.testing.assert_array_equal(convert(tiny, x), expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 2, 4, 4]),
        ({"align_corners": 1}, [0, 4 / 3, 8 / 3, 4]),
        ({"half_pixel_centers": 1}, [0, 1, 3, 4]),
    ],
)
def test_bilinear_resize(options: dict[str, int], expected: list[float]) -> None:
    tiny = TinyModel()
    x = np.array([0, 4], np.float32).reshape(1, 1, 2, 1)
    size = tiny.constant([1, 4], "int32")
    tiny.op("RESIZE_BILINEAR", tiny.input(1, 1, 2, 1), size, shape=(1, 1, 4, 1), **options)
    np.testing.assert_allclose(convert(tiny, x).ravel(), expected, rtol=1e-6)


VALUES = np.arange(1, 13, dtype=np.float16)
BLOCKS = Sparse((4, 1, 1, 8), VALUES, [0, 1, 2, 3, 4], [3], [4, 1, 1, ([0, 1, 1, 3, 3], [1, 0, 1]), 4])


def sparse_convolution() -> TinyModel:
    tiny = TinyModel()
    source, weight = tiny.input(1, 2, 2, 8), tiny.sparse(BLOCKS)
    unpacked = tiny.op("DENSIFY", weight, shape=BLOCKS.shape)
    whole = tiny.op("DEQUANTIZE", unpacked, shape=BLOCKS.shape)
    tiny.op("CONV_2D", source, whole, shape=(1, 2, 2, 4), padding=SAME, stride_w=1, stride_h=1)
    return tiny


def test_sparse_constant_in_blocks() -> None:
    """[4,1,1,8] in blocks of 4 along the last axis: row 0 has its second block, row 2 both."""
    dense = np.zeros((4, 1, 1, 8), np.float32)
    dense[0, 0, 0, 4:], dense[2, 0, 0, :4], dense[2, 0, 0, 4:] = VALUES.reshape(3, 4)
    x = image(1, 2, 2, 8)
    np.testing.assert_allclose(convert(sparse_convolution(), x), convolve(x, dense), rtol=1e-4, atol=1e-5)


def test_unknown_operator_is_named() -> None:
    tiny = TinyModel()
    tiny.op("SOFTMAX", tiny.input(1, 4), shape=(1, 4))
    with pytest.raises(CheckpointError, match="operator 25 is not supported"):
        read_model(tiny.bytes())


@pytest.mark.parametrize("size", [0, 7, 30, 200])
def test_damaged_files_are_refused(size: int) -> None:
    with pytest.raises(CheckpointError, match=r"expected a TensorFlow Lite file|is damaged"):
        read_model(tiny_mesh().bytes()[:size], name="face.tflite")


def test_no_damaged_byte_ends_in_anything_but_a_checkpoint_error() -> None:
    whole = sparse_convolution().bytes()
    refused = 0
    for position in range(8, len(whole)):
        for value in (1, 255):
            damaged = bytearray(whole)
            damaged[position] = value
            try:
                read_model(bytes(damaged))
            except CheckpointError:
                refused += 1
    assert refused > len(whole) / 3  # of two times as many; most of a file are numbers, which may be any


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"page\.tflite: expected a TensorFlow Lite file"):
        read_model(b"<html>" * 200, name="page.tflite")


def test_anchors_run_row_by_row() -> None:
    centers = trackers.anchors(32, (8, 16), (2, 1))
    assert centers.shape == (2 * 16 + 4, 2)
    np.testing.assert_array_equal(centers[:4], [[4, 4], [4, 4], [12, 4], [12, 4]])
    np.testing.assert_array_equal(centers[-4:], [[8, 8], [24, 8], [8, 24], [24, 24]])


def full_detector() -> TinyModel:
    """The full-range layout: 192 px, one anchor per cell of stride 4; no offsets, R + G + B as the logit."""
    tiny = TinyModel()
    source = tiny.input(1, 192, 192, 3)
    four = {"stride_w": 4, "stride_h": 4}
    offsets, scores = tiny.constant(np.zeros((16, 1, 1, 3))), tiny.constant(np.ones((1, 1, 1, 3)))
    boxes = tiny.op("CONV_2D", source, offsets, shape=(1, 48, 48, 16), **four)
    tiny.op("RESHAPE", boxes, shape=(1, 2304, 16), output=True)
    logits = tiny.op("CONV_2D", source, scores, shape=(1, 48, 48, 1), **four)
    tiny.op("RESHAPE", logits, shape=(1, 2304, 1), output=True)
    return tiny


def tiny_mesh() -> TinyModel:
    """A mesh of the mean color, as 1404 numbers, and a flag of its red."""
    tiny = TinyModel()
    source = tiny.input(1, 1, 1, 3)
    to_points, to_flag = np.zeros((1404, 1, 1, 3)), np.zeros((1, 1, 1, 3))
    for index in range(1404):
        to_points[index, 0, 0, index % 3] = 1
    to_flag[0, 0, 0, 0] = 1
    for weight in (to_points, to_flag):
        shape = (1, 1, 1, len(weight))
        tiny.op("CONV_2D", source, tiny.constant(weight), shape=shape, stride_w=1, stride_h=1, output=True)
    return tiny


def test_detector_answers_boxes_around_anchors_and_scores() -> None:
    model = trackers.convert_detector(read_model(full_detector().bytes()))
    picture = np.full((1, 3, 192, 192), -1, np.float32)
    picture[0, :, 4 * 5, 4 * 7] = 1.0  # the top left pixel of cell row 5, column 7
    boxes, scores = run(model, image=picture)
    assert boxes.shape == (1, 2304, 16)
    assert scores.shape == (1, 2304)
    assert int(scores.argmax()) == 5 * 48 + 7
    best = boxes[0, scores.argmax()]
    np.testing.assert_allclose(best, [30, 22, 0, 0, *[30, 22] * 6])
    np.testing.assert_allclose(scores.max(), 1 / (1 + np.exp(-3)), rtol=1e-5)


def test_mesh_takes_minus_one_to_one_and_answers_points() -> None:
    model = trackers.convert_landmarks(read_model(tiny_mesh().bytes()))
    points, score = run(model, image=np.array([0.0, -1.0, 1.0], np.float32).reshape(1, 3, 1, 1))
    assert points.shape == (1, 468, 3)
    np.testing.assert_allclose(points[0, 100], [0.5, 0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(score, [[1 / (1 + np.exp(-0.5))]], rtol=1e-5)


def test_another_network_is_refused() -> None:
    with pytest.raises(CheckpointError, match="detector: expected outputs"):
        trackers.convert_detector(read_model(tiny_mesh().bytes()))
    with pytest.raises(CheckpointError, match="landmarks: expected outputs"):
        trackers.convert_landmarks(read_model(full_detector().bytes()))


def wheel(path: Path, **replaced: bytes) -> Path:
    """A file built like the wheel: the two members that are read, and one that is not."""
    members = {
        trackers.DETECTOR_MEMBERS["full"]: full_detector().bytes(),
        trackers.MESH_MEMBER: tiny_mesh().bytes(),
        "mediapipe/__init__.py": b"raise SystemExit('this must never run')",
    }
    for stem, content in replaced.items():
        members[next(name for name in members if stem in name)] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_command_writes_both_networks_from_a_wheel_or_a_folder(tmp_path: Path) -> None:
    source = wheel(tmp_path / "mediapipe.whl")
    result = CliRunner().invoke(trackers.main, [str(source), "-o", str(tmp_path / "a")])
    assert result.exit_code == 0, result.output
    with zipfile.ZipFile(source) as archive:
        archive.extractall(tmp_path / "unpacked")
    trackers.export_trackers(tmp_path / "unpacked", tmp_path / "b")
    for name in ("detector.onnx", "landmarks.onnx"):
        model = onnx.load(tmp_path / "a" / name)
        assert [value.name for value in model.graph.input] == ["image"]
        assert {prop.key for prop in model.metadata_props} == {"source", "source_sha256", "license"}
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("bad", ["missing", "no wheel", "empty wheel", "damaged member"])
def test_command_says_what_is_wrong_and_writes_nothing(tmp_path: Path, bad: str) -> None:
    source = tmp_path / "mediapipe.whl"
    if bad == "no wheel":
        source.write_bytes(b"<html>not found</html>")
    elif bad == "empty wheel":
        with zipfile.ZipFile(source, "w"):
            pass
    elif bad == "damaged member":
        wheel(source, face_landmark=tiny_mesh().bytes()[:500])
    result = CliRunner().invoke(trackers.main, [str(source), "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.output.startswith("doppelgan: error: ")
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
