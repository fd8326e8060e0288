"""The compiled synthesis equals ONNX Runtime on generators of every shape, and refuses everything else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.stylegan2 import Synthesis, from_nvidia, from_rosinality
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.runtime import native
from doppelgan.runtime.backends import Session, installed, open_session
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.errors import BackendError
from onnx import helper, numpy_helper

from ..export import seeds
from ..once import once
from .kernels import run_python

TOLERANCE = 1e-5  # relative L2: other order of sums, and Winograd's
ROUNDED = 8e-3  # the same in 16-bit integers, and maps in halves: 3e-3 is usual here

if not installed("native"):
    pytest.skip("the compiled kernels are missing, or the processor has no AVX2", allow_module_level=True)

CHANNELS = {
    "only-4x4": {4: 5},
    "odd": {4: 6, 8: 10, 16: 3, 32: 5},
    "panels": {4: 24, 8: 40, 16: 24, 32: 16, 64: 8},  # 16 + 8 channels, 2 x 16 + 8
    "bands": {4: 8, 8: 8, 16: 16, 32: 8, 64: 8, 128: 8, 256: 3},  # large enough to be divided by rows
    # wide enough for Winograd's up-sampling and for integers, in one strip and in two
    "wide": {4: 8, 8: 8, 16: 72, 32: 64, 64: 56, 128: 48, 256: 48},
}


def exported(state: seeds.State, layout: str = "rosinality", clamp: float | None = None) -> bytes:
    table = TensorTable(state, "generator", "seeds")
    layers = {name.rpartition(".")[0] for name in state if name.startswith("synthesis.")}
    modules = {name: {"conv_clamp": clamp} for name in layers}
    weights = from_rosinality(table) if layout == "rosinality" else from_nvidia(table, modules)
    codes = torch.zeros(1, weights.n_styles, weights.w_dim)
    return to_onnx(Synthesis(weights).eval(), {"codes": codes}, ["image"])


@once
def of_channels(name: str) -> bytes:
    return exported(seeds.rosinality(CHANNELS[name]))


@once
def smallest() -> bytes:
    return exported(seeds.rosinality())


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Session]:
    def open_as(data: bytes, backend: str = "native", threads: int = 2, **options: str) -> Session:
        path = tmp_path / "synthesis.onnx"
        path.write_bytes(data)
        return open_session(path, backend=backend, threads=threads, **options)

    return open_as


def difference(
    data: bytes, opened: Callable[..., Session], threads: int = 2, spread: float = 1.0, **options: str
) -> float:
    """Relative L2 between the compiled synthesis and ONNX Runtime, the worse of two codes, each run twice."""
    ours, reference = opened(data, threads=threads, **options), opened(data, backend="onnxruntime")
    worst = 0.0
    for seed in (1, 2, 1):
        codes = np.random.default_rng(seed).normal(scale=spread, size=ours.inputs[0].shape)
        codes = codes.astype(np.float32)
        got, want = (
            session.run({"codes": codes})["image"].astype(np.float64) for session in (ours, reference)
        )
        worst = max(worst, float(np.linalg.norm(got - want) / np.linalg.norm(want)))
    return worst


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("channels", CHANNELS)
def test_it_equals_onnx_runtime(channels: str, threads: int, opened: Callable[..., Session]) -> None:
    assert difference(of_channels(channels), opened, threads) < TOLERANCE


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_integers_differ_by_their_rounding_alone(threads: int, opened: Callable[..., Session]) -> None:
    off = difference(of_channels("wide"), opened, threads, precision="int16")
    assert TOLERANCE < off < ROUNDED  # less would mean that they are not used


@pytest.mark.parametrize("spread", [1e-3, 3.0, 1e4])
def test_integers_keep_their_accuracy_at_any_size_of_code(
    spread: float, opened: Callable[..., Session]
) -> None:
    assert difference(of_channels("wide"), opened, spread=spread, precision="int16") < ROUNDED


def test_sums_of_integers_cannot_overflow(opened: Callable[..., Session]) -> None:
    """All weights, styles and pixels alike: the largest sums that there can be, at the bound itself."""
    state = seeds.rosinality(CHANNELS["wide"])
    for key, value in state.items():
        if key.endswith(("conv.modulation.weight", "activate.bias")) or "noise" in key:
            state[key] = torch.zeros_like(value)
        elif key.endswith("conv.modulation.bias") or (key.endswith("conv.weight") and value.shape[-1] == 3):
            state[key] = torch.ones_like(value)
    state["input.input"] = torch.ones_like(state["input.input"])
    assert difference(exported(state), opened, precision="int16") < ROUNDED


def test_one_memory_serves_several_numbers_of_threads(opened: Callable[..., Session]) -> None:
    first = opened(of_channels("odd"), threads=1)
    second = first.with_threads(3)
    codes = np.ones(first.inputs[0].shape, np.float32)
    expected = first.run({"codes": codes})["image"]
    np.testing.assert_array_equal(second.run({"codes": codes})["image"], expected)
    first.close()
    np.testing.assert_array_equal(second.run({"codes": codes})["image"], expected)


def test_the_precision_is_named_and_checked(opened: Callable[..., Session]) -> None:
    data = smallest()
    assert opened(data, precision="int16").backend == "native CPU int16"
    with pytest.raises(BackendError, match="precision float32 or int16, got 'bf16'"):
        opened(data, precision="bf16")


@pytest.mark.parametrize("clamp", [None, 256.0, 0.5], ids=["none", "usual", "felt"])
def test_nvidia_generators_and_their_clamp(clamp: float | None, opened: Callable[..., Session]) -> None:
    data = exported(seeds.nvidia(CHANNELS["odd"]), "nvidia", clamp)
    assert difference(data, opened) < TOLERANCE


def test_a_lopsided_filter_is_applied_the_right_way_round(opened: Callable[..., Session]) -> None:
    state = seeds.rosinality(CHANNELS["odd"])
    lopsided = torch.outer(torch.tensor([1.0, 2.0, 4.0, 1.0]), torch.tensor([3.0, 1.0, 1.0, 0.5])) / 11
    state |= {key: lopsided for key in state if key.endswith("kernel")}
    assert difference(exported(state), opened) < TOLERANCE


def test_the_demo_opens_with_it_and_the_reference_without() -> None:
    for settings, backend in (
        ({"backend": "native"}, "native CPU"),
        ({"compiled": False}, "onnxruntime CPU"),
    ):
        with open_bundle("demo", **settings) as bundle:
            assert bundle.session("synthesis").backend == backend
            assert bundle.session("encoder").backend == "onnxruntime CPU"


def test_the_demo_draws_the_same_faces() -> None:
    with open_bundle("demo", backend="native") as ours, open_bundle("demo", compiled=False) as reference:
        shape = (1, ours.n_styles, ours.w_dim)
        codes = np.random.default_rng(3).normal(size=shape).astype(np.float32)
        for style in ("photo", "toon"):
            got, want = ours.synthesize(codes, style), reference.synthesize(codes, style)
            assert np.linalg.norm(got - want) < TOLERANCE * np.linalg.norm(want)


def test_a_generator_of_another_make_runs_in_onnx_runtime(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle, backend="native") as bundle:
        assert bundle.session("synthesis").backend == "onnxruntime CPU"


def test_the_session_contract(opened: Callable[..., Session]) -> None:
    session = opened(smallest())
    codes = np.ones((1, 6, seeds.TINY_W_DIM), np.float32)
    buffer = np.full((1, 3, 16, 16), np.nan, np.float32)
    assert session.run({"codes": codes}, {"image": buffer})["image"] is buffer
    np.testing.assert_array_equal(session.run({"codes": codes})["image"], buffer)
    with pytest.raises(BackendError, match="expected codes: float32"):
        session.run({"codes": codes[:, :5]})
    with pytest.raises(BackendError, match="output buffer image: float32"):
        session.run({"codes": codes}, {"image": buffer[:, :, ::2]})
    session.close()
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run({"codes": codes})


@once
def even() -> bytes:
    """As many channels everywhere, so that what is taken from elsewhere has the right shape."""
    return exported(seeds.rosinality({4: 8, 8: 8, 16: 8}))


def change_slope(graph: onnx.GraphProto) -> None:
    next(node for node in graph.node if node.op_type == "LeakyRelu").attribute[0].f = 0.1


def add_a_node(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Neg", ["codes"], ["unused"]))


def negate_the_image(graph: onnx.GraphProto) -> None:
    graph.node[-1].output[0] = "before"
    graph.node.append(helper.make_node("Neg", ["before"], ["image"]))


def skew_the_filter(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        if tensor.name.endswith("fir"):
            taps = numpy_helper.to_array(tensor).copy()
            taps[..., 0, 0] += 0.2
            tensor.CopyFrom(numpy_helper.from_array(taps, tensor.name))


def pad_less(graph: onnx.GraphProto) -> None:
    conv = next(node for node in graph.node if node.op_type == "Conv")
    next(a for a in conv.attribute if a.name == "pads").ints[0] = 0


def demodulate_by_another_style(graph: onnx.GraphProto) -> None:
    squares = [node for node in graph.node if node.op_type == "Mul" and node.input[0] == node.input[1]]
    squares[0].input[:] = squares[2].input[:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_slope, "LeakyRelu with alpha 0.2"),
        (add_a_node, "nothing else, got Neg"),
        (negate_the_image, "Add to make 'image', got Neg"),
        (skew_the_filter, "outer product"),
        (pad_less, "pads"),
        (demodulate_by_another_style, "style that scales the activations"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_it_would_compute_wrongly_it_refuses(
    change: Callable[[onnx.GraphProto], None], words: str, opened: Callable[..., Session]
) -> None:
    model = onnx.load_from_string(even())
    change(model.graph)
    with pytest.raises(BackendError, match=words):
        opened(model.SerializeToString())


def test_other_networks_and_options_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(BackendError, match=r"encoder\.onnx: expected an encoder"):
        open_session(tiny_bundle / "encoder.onnx", backend="native")
    with pytest.raises(BackendError, match="expected the options threads, precision"):
        open_session(tiny_bundle / "synthesis.onnx", backend="native", threads=1, device=0)


def test_without_the_compiled_module_it_says_what_is_missing(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native.loading, "kernels", None)
    assert not installed("native")
    with pytest.raises(BackendError, match=r"C\+\+17 compiler"):
        open_session(tiny_bundle / "synthesis.onnx", backend="native")


def test_arrays_of_the_wrong_size_never_reach_the_kernels() -> None:
    synthesis = native.synthesis()
    assert synthesis is not None
    ones = np.ones(8, np.float32)
    layer = {"inputs": 8, "outputs": 8, "row": 0, "clamp": 1.0, "style_weight": ones, "style_bias": ones}
    with pytest.raises(ValueError, match="style_weight: expected 32 values, got 8"):
        synthesis(4, 1, np.ones(128, np.float32), [layer], [layer])
    with pytest.raises(ValueError, match="row or inputs"):
        synthesis(4, 1, np.ones(128, np.float32), [layer | {"row": 1}], [layer])
    with pytest.raises(ValueError, match="two convolutions for every RGB layer"):
        synthesis(4, 1, np.ones(128, np.float32), [layer, layer], [layer])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its memory as Linux does")
def test_a_network_runs_on_the_threads_that_it_gets(tmp_path: Path) -> None:
    """Threads that the system refuses are not waited for: their stacks do not fit the memory that is left."""
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from doppelgan.runtime.backends import open_session
session = open_session(Path(sys.argv[1]), backend="native", threads=4)
codes = np.random.default_rng(0).normal(size=session.inputs[0].shape).astype(np.float32)
expected = session.with_threads(1).run({"codes": codes})["image"]
pages = int(Path("/proc/self/statm").read_text().split()[0])
room = 6 << 20
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room,) * 2)
for threads in (4, 2, 16):
    np.testing.assert_array_equal(session.with_threads(threads).run({"codes": codes})["image"], expected)
print("done")
"""
    path = tmp_path / "synthesis.onnx"
    path.write_bytes(smallest())
    assert run_python(code.replace("sys.argv[1]", repr(str(path)))).stdout.strip() == "done"
