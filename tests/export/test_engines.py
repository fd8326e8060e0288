"""ONNX -> engines: real builds with TensorRT for RTX, which needs no GPU; TensorRT through a stand-in."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from doppelgan.export import engines
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.engines import (
    BuiltEngine,
    Layer,
    TensorInfo,
    build_engine,
    compile_bundle,
    compile_engines,
    float32_maps,
    layers_of_json,
    read_build_log,
    unfused,
)
from doppelgan.export.networks.encoders import Encoder
from doppelgan.export.networks.stylegan2 import Synthesis, from_rosinality
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.export.variants.fp16 import to_float16
from doppelgan.runtime.backends.tensorrt.engine_record import (
    RECORD,
    Engine,
    read_engines,
    record_folders,
)
from doppelgan.runtime.bundle import find_bundle
from doppelgan.runtime.cli.compile import command
from doppelgan.runtime.errors import BackendError, BundleError, ParityError
from onnx import helper

from tests.fake_cuda import FakeDriver

from .. import fake_tensorrt, tiny
from . import seeds

try:
    import tensorrt_rtx as rtx
except ImportError:
    rtx = None
needs_rtx = pytest.mark.skipif(rtx is None, reason="the extra `rtx` (TensorRT for RTX) is not installed")

STYLES, W_DIM = 18, 128
# Depth, resolution and operators of the real networks; a quarter of the channels, to build in seconds.
CHANNELS = {4: 128, 8: 128, 16: 128, 32: 128, 64: 64, 128: 32, 256: 16, 512: 8, 1024: 8}
WIDTHS = (16, 16, 32, 64, 128)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def network(name: str) -> bytes:
    """A StyleGAN2 generator of 1024 px or an e4e encoder, float32 ONNX, seeded random weights."""
    if name == "generator":
        weights = from_rosinality(TensorTable(seeds.rosinality(CHANNELS, W_DIM, 2), "generator", "seeds"))
        return to_onnx(Synthesis(weights).eval(), {"codes": torch.zeros(1, STYLES, W_DIM)}, ["image"])
    tensors = TensorTable(seeds.encoder("Encoder4Editing", STYLES, W_DIM, WIDTHS), "encoder", "seeds")
    encoder = Encoder(tensors, "Encoder4Editing", STYLES, W_DIM, torch.zeros(STYLES, W_DIM)).eval()
    return to_onnx(encoder, {"crop": torch.zeros(1, 3, 256, 256)}, ["codes"])


@cache
def built(name: str, precision: str) -> BuiltEngine:
    data = network(name)
    return build_engine(data if precision == "float32" else to_float16(data), rtx, "sm86", name)


NETWORKS = ("generator", "encoder")
PRECISIONS = ("float32", "float16")


@needs_rtx
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_real_engines_are_fused(name: str, precision: str) -> None:
    """No pointwise layer is left beside another, nothing falls back to a plug-in or a reformat."""
    engine = built(name, precision)
    allowed = {"correlation", "deconv", "gemm", "kgen", "runtime_fusion", "maxpool", "signal", "wait"}
    assert engine.summary().keys() <= allowed
    assert unfused(engine.layers) == []
    convolutions = sum(layer.heavy for layer in engine.layers)
    pointwise = sum(layer.pointwise and any(t.is_map for t in layer.outputs) for layer in engine.layers)
    assert convolutions >= {"generator": 17 + 9, "encoder": 100}[name]
    assert pointwise <= 1.25 * convolutions


@needs_rtx
@pytest.mark.parametrize("name", NETWORKS)
def test_float16_engines_keep_no_map_in_float32(name: str) -> None:
    single, half = built(name, "float32"), built(name, "float16")
    assert len(float32_maps(single.layers)) > 20, "the check sees maps at all"
    assert [layer.name for layer in float32_maps(half.layers)] == []
    maps = [tensor for layer in half.layers for tensor in layer.outputs if tensor.is_map]
    assert {tensor.dtype for tensor in maps} == {"float16"}
    assert half.activations < single.activations
    assert half.weights < 0.65 * single.weights


@needs_rtx
def test_pictures_of_a_float16_generator_are_summed_in_float32() -> None:
    pictures = [
        tensor
        for layer in built("generator", "float16").layers
        for tensor in layer.outputs
        if len(tensor.shape) == 4 and tensor.shape[1] == 3 and tensor.shape[2] >= 8
    ]
    assert pictures
    assert {tensor.dtype for tensor in pictures} == {"float32"}


@needs_rtx
def test_a_bundle_is_compiled_for_several_gpus_and_recorded(tiny_copy: Path) -> None:
    told: list[str] = []
    folder = compile_bundle(
        tiny_copy, target="rtx", arch="sm86, sm89", precisions=("float32",), samples=2, report=told.append
    )
    assert folder == tiny_copy / "compiled" / "engines"
    recorded = read_engines(folder)
    networks = json.loads((tiny_copy / "manifest.json").read_text())["networks"]
    assert {(e.network, e.arch) for e in recorded} == {(n, a) for n in networks for a in ("sm86", "sm89")}
    for engine in recorded:
        assert (folder / engine.file).stat().st_size == engine.size > 1000
        assert engine.source_sha256 == networks[engine.network]["sha256"]
        assert (engine.product, engine.version) == ("tensorrt_rtx", rtx.__version__)
        assert sum(engine.layers.values()) > 0
    assert any("sm89 float32" in line and "MB weights" in line for line in told)


@needs_rtx
def test_compiling_twice_replaces_and_float16_carries_its_drift(tiny_copy: Path) -> None:
    for _ in range(2):
        folder, made = compile_engines(tiny_copy, "rtx", ["sm120"], networks=["synthesis"], samples=4)
    assert len(read_engines(folder)) == len(made) == 1
    assert made[0].precision == "float16"
    assert made[0].drift is not None
    assert made[0].drift.samples == 4


@needs_rtx
def test_every_network_of_the_demo_bundle_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        demo = find_bundle("demo")
    except BundleError:
        pytest.skip("the demo bundle is not beside this checkout")
    monkeypatch.setattr(engines, "bundle_folder", lambda _bundle: tmp_path)
    folder, made = compile_engines(demo, "rtx", ["sm86"], precisions=("float32", "float16"), samples=2)
    names = set(json.loads((demo / "manifest.json").read_text())["networks"])
    assert {engine.network for engine in made} == names
    assert {engine.precision for engine in made} == {"float32", "float16"}
    for engine in made:
        assert engine.layers, engine.network
        if engine.precision == "float16":
            assert engine.float32_maps == 0, engine.network
        elif engine.network != "mapping":
            assert engine.float32_maps > 0, engine.network
    assert (folder / RECORD).is_file()


@needs_rtx
def test_a_network_that_cannot_be_parsed_is_one_line() -> None:
    with pytest.raises(
        BackendError, match="encoder: expected ONNX that TensorRT for RTX can parse, got: "
    ) as info:
        build_engine(b"nonsense", rtx, "sm86", "encoder")
    assert "\n" not in str(info.value)


@needs_rtx
@pytest.mark.parametrize("arch", ["sm87", "sm999", "86"])
def test_an_unknown_architecture_is_refused_before_anything_is_built(tiny_copy: Path, arch: str) -> None:
    with pytest.raises(
        BackendError, match=rf"architecture of sm75, .*sm120 for TensorRT for RTX, got '{arch}'"
    ):
        compile_bundle(tiny_copy, target="rtx", arch=arch)
    assert not (tiny_copy / "compiled").exists()


# Without the real thing


@pytest.fixture
def tiny_copy(tmp_path: Path) -> Path:
    return tiny.write_bundle(tmp_path / "tiny")


@pytest.mark.parametrize("version", ["10.3.0", "10.16.2", "11.4.0"])
def test_tensorrt_builds_for_the_gpu_it_runs_on(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    driver = FakeDriver()
    trt = fake_tensorrt.module("tensorrt", version, driver)
    monkeypatch.setattr(engines, "open_driver", lambda: driver)
    folder, made = compile_engines(
        tiny_copy, "tensorrt", precisions=("float32",), networks=["mapping"], trt=trt
    )
    assert [(e.product, e.version, e.arch) for e in made] == [("tensorrt", version, "sm86")]
    assert made[0].layers == {"Convolution": 1, "PointWiseV2": 1}
    assert (made[0].weights, made[0].activations) == (1000, 4096)
    assert trt.built[0].config.cleared == ["TF32"]
    assert read_engines(folder) == tuple(made)
    with pytest.raises(BackendError, match=r"GPU of this machine \(sm86\) only, got 'sm89'"):
        compile_engines(tiny_copy, "tensorrt", ["sm89"], trt=trt)


def test_rtx_sets_the_number_of_architectures_first() -> None:
    trt = fake_tensorrt.module("tensorrt_rtx", "1.4.0")
    made = build_engine(b"onnx", trt, "sm89")
    assert trt.built[0].config.archs == {0: "89"}
    assert (made.weights, made.activations, made.layers) == (1000, 2000, ())


def test_weights_stored_in_half_precision_are_constants_to_the_converter() -> None:
    """A bundle may keep its weights in half precision, widened by casts; float16 must not keep the casts."""
    weights = np.linspace(-1, 1, 8 * 8 * 9, dtype=np.float16).reshape(8, 8, 3, 3)
    packed = tiny.model(
        [
            helper.make_node("Cast", ["stored"], ["weight"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Conv", ["x", "weight"], ["y"], pads=[1, 1, 1, 1]),
        ],
        {"x": (1, 8, 4, 4)},
        {"y": (1, 8, 4, 4)},
        {"stored": weights},
    )
    half = onnx.load_model_from_string(to_float16(packed))
    convolution = next(node for node in half.graph.node if node.op_type == "Conv")
    stored = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert stored[convolution.input[1]] == onnx.TensorProto.FLOAT16
    onnxruntime.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])


def test_what_the_builder_cannot_do_is_one_line() -> None:
    trt = fake_tensorrt.module("tensorrt_rtx", "1.4.0")
    with pytest.raises(BackendError, match=r"could not build the engine: no implementation for node Odd"):
        build_engine(b"unsupported", trt, "sm89")
    with pytest.raises(BackendError, match=r"can parse, got: Failed to parse the model$"):
        build_engine(b"nonsense", trt, "sm89")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "metal"}, "expected --for tensorrt or rtx, got 'metal'"),
        ({"target": "rtx", "precisions": ("float8",)}, "expected a precision of float32, float16, int8"),
        ({"target": "rtx", "precisions": ("int8",)}, "has no int8 convolutions; use --precision float16"),
        ({"target": "rtx", "networks": ["nose"]}, "expected a network of .*mapping.*, got 'nose'"),
    ],
)
def test_wrong_words_are_refused(tiny_copy: Path, arguments: dict[str, Any], words: str) -> None:
    trt = fake_tensorrt.module("tensorrt_rtx", "1.4.0")
    with pytest.raises(BackendError, match=words):
        compile_engines(tiny_copy, archs=["sm86"], trt=trt, **arguments)


def test_a_network_past_its_bound_is_float32_unless_float16_was_asked_for(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ParityError("network 'mapping' in float16: 12 dB")

    trt = fake_tensorrt.module("tensorrt_rtx", "1.4.0")
    monkeypatch.setattr(engines, "_in_precision", refuse)
    told: list[str] = []
    _, made = compile_engines(tiny_copy, "rtx", ["sm86"], networks=["mapping"], trt=trt, report=told.append)
    assert [engine.precision for engine in made] == ["float32"]
    assert "network 'mapping' in float16: 12 dB: float32 instead" in told
    with pytest.raises(ParityError):
        compile_engines(tiny_copy, "rtx", ["sm86"], networks=["mapping"], precisions=("float16",), trt=trt)


# --- over engines that are there --------------------------------------------------------------------


class Desk:
    """A stand-in for TensorRT for RTX over one bundle; what it is told."""

    def __init__(self, bundle: Path, version: str = "1.4.0") -> None:
        self.bundle, self.told = bundle, list[str]()
        self.trt = fake_tensorrt.module("tensorrt_rtx", version)

    def compile(self, archs: list[str], **options: Any) -> list[Engine]:
        """Engines of "mapping", in float32 if not otherwise asked; `told` and `built` begin anew."""
        self.told.clear()
        self.trt.built.clear()
        settings: dict[str, Any] = {"precisions": ("float32",), "networks": ["mapping"], **options}
        return compile_engines(self.bundle, "rtx", archs, trt=self.trt, report=self.told.append, **settings)[
            1
        ]

    @property
    def recorded(self) -> list[tuple[str, str, str]]:
        folder = self.bundle / "compiled" / "engines"
        engines = read_engines(folder)
        assert all((folder / engine.file).is_file() for engine in engines)
        return [(engine.version, engine.arch, engine.precision) for engine in engines]


def test_engines_that_are_up_to_date_are_kept_and_that_is_said(tiny_copy: Path) -> None:
    desk = Desk(tiny_copy)
    (first,) = desk.compile(["sm86"])
    assert desk.compile(["sm86"]) == [first]
    assert desk.trt.built == []
    assert desk.told == ["mapping: up to date in float32 for sm86; --overwrite builds it anew"]
    desk.compile(["sm86"], overwrite=True)
    assert len(desk.trt.built) == 1
    assert desk.recorded == [("1.4.0", "sm86", "float32")]


def test_engines_for_another_gpu_precision_or_version_are_added(tiny_copy: Path) -> None:
    desk = Desk(tiny_copy)
    desk.compile(["sm86"])
    both = desk.compile(["sm86", "sm89"])
    assert [engine.arch for engine in both] == ["sm86", "sm89"]
    assert len(desk.trt.built) == 1
    desk.compile(["sm86"], precisions=("float32", "float16"), samples=1)
    assert len(desk.trt.built) == 1
    newer = Desk(tiny_copy, "1.5.0")
    newer.compile(["sm86"])
    assert len(newer.trt.built) == 1
    assert newer.recorded == [
        ("1.4.0", "sm86", "float32"), ("1.4.0", "sm89", "float32"), ("1.4.0", "sm86", "float16"),
        ("1.5.0", "sm86", "float32"),
    ]  # fmt: skip


def test_an_engine_of_a_network_that_changed_is_replaced(tiny_copy: Path) -> None:
    Desk(tiny_copy).compile(["sm86"])
    changed = tiny.write_bundle(tiny_copy.with_name("changed"))
    shutil.copytree(tiny_copy / "compiled", changed / "compiled")
    manifest = json.loads((changed / "manifest.json").read_text())
    network = onnx.load_model(changed / manifest["networks"]["mapping"]["file"])
    network.doc_string = "trained a little longer"
    data = network.SerializeToString()
    (changed / manifest["networks"]["mapping"]["file"]).write_bytes(data)
    manifest["networks"]["mapping"]["sha256"] = hashlib.sha256(data).hexdigest()
    (changed / "manifest.json").write_text(json.dumps(manifest))
    desk = Desk(changed)
    (engine,) = desk.compile(["sm86"])
    assert len(desk.trt.built) == 1
    assert engine.source_sha256 == hashlib.sha256(data).hexdigest()
    assert desk.recorded == [("1.4.0", "sm86", "float32")]


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_an_engine_that_is_not_whole_is_built_anew(tiny_copy: Path, damage: str) -> None:
    desk = Desk(tiny_copy)
    (engine,) = desk.compile(["sm86"])
    path = tiny_copy / "compiled" / "engines" / engine.file
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    desk.compile(["sm86"])
    assert len(desk.trt.built) == 1
    assert desk.recorded == [("1.4.0", "sm86", "float32")]


def test_float32_that_stands_in_for_float16_is_up_to_date_too(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refuse(_bundle: Any, name: str, *_: Any) -> Any:
        tried.append(name)
        raise ParityError("network 'mapping' in float16: 12 dB")

    monkeypatch.setattr(engines, "_in_precision", refuse)
    desk = Desk(tiny_copy)
    desk.compile(["sm86"])
    (engine,) = desk.compile(["sm86"], precisions=())
    assert (engine.precision, engine.instead_of, tried) == ("float32", "float16", ["mapping"])
    assert desk.compile(["sm86"], precisions=()) == [engine]
    assert tried == ["mapping"], "its drift is not measured again"
    assert desk.compile(["sm86"]) == [engine], "it is float32, whatever for"


@needs_rtx
def test_the_command_says_what_is_up_to_date(tiny_copy: Path) -> None:
    arguments = [str(tiny_copy), "--for", "rtx", "--arch", "sm86", "--network", "mapping"]
    arguments += ["--precision", "float32"]
    first, second, third = (
        CliRunner().invoke(command, [*arguments, *more], catch_exceptions=False)
        for more in ([], [], ["--overwrite"])
    )
    assert "build in float32 for sm86" in first.output
    assert "up to date in float32 for sm86" in second.output
    assert "build in" not in second.output
    assert "build in float32 for sm86" in third.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--for", "rtx", "--report", "out"], "--report: is for tuning"),
        (["--for", "tensorrt", "--backend", "native"], "--backend: is for tuning"),
        (["--for", "tensorrt", "--rounds", "5"], "--rounds: is for tuning"),
        (["--for", "rtx", "--crops", "."], "--crops: is for tuning"),
        (["--for", "tensorrt", "--arch", "sm86"], "--arch: expected with --for rtx"),
        (["--arch", "sm86"], "--arch: expected with --for rtx"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    tiny_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, [str(tiny_copy), *arguments])
    assert result.exit_code == 2
    assert words in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("arch", ["", ",", "sm86,,sm89"])
def test_an_empty_architecture_is_named(tiny_copy: Path, arch: str) -> None:
    with pytest.raises(BackendError, match="expected --arch as sm86,sm89, got"):
        compile_bundle(tiny_copy, target="rtx", arch=arch)


def test_no_gpu_and_no_architecture_is_one_line(tiny_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_gpu() -> Any:
        raise BackendError("CUDA: expected an NVIDIA GPU")

    monkeypatch.setattr(engines, "open_driver", no_gpu)
    with pytest.raises(BackendError, match=r"expected --arch \(sm86, sm89 ...\) or a GPU to take it from"):
        compile_engines(tiny_copy, "rtx", trt=fake_tensorrt.module("tensorrt_rtx", "1.4.0"))
    with pytest.raises(BackendError, match=r"^CUDA: expected an NVIDIA GPU$"):
        compile_engines(tiny_copy, "tensorrt", trt=fake_tensorrt.module("tensorrt", "10.3.0"))


def test_missing_tensorrt_is_one_line(tiny_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MODULES", {"tensorrt": "no_such_tensorrt"})
    with pytest.raises(BackendError, match="expected no_such_tensorrt to be installed, got none"):
        compile_bundle(tiny_copy, target="tensorrt")


def tensor(dtype: str, *shape: int, name: str = "x") -> TensorInfo:
    return TensorInfo(name, dtype, shape)


@pytest.mark.parametrize(
    ("found", "caught"),
    [
        (tensor("float32", 1, 64, 8, 8), True),
        (tensor("float16", 1, 64, 8, 8), False),
        (tensor("float32", 1, 3, 8, 8), False),
        (tensor("float32", 1, 64, 1, 1), False),
        (tensor("float32", 18, 512), False),
    ],
)
def test_float32_maps_are_told_from_pictures_and_vectors(found: TensorInfo, caught: bool) -> None:
    half = tensor("float16", 1, 64, 8, 8, name="y")
    assert bool(float32_maps([Layer("l", "kgen", (found,), (half,))])) is caught
    assert bool(float32_maps([Layer("l", "kgen", (half,), (found,))])) is caught


def test_a_missed_fusion_is_found() -> None:
    a, b, c = (tensor("float16", 1, 64, 8, 8, name=name) for name in "abc")
    first, second = Layer("mul", "kgen", (a,), (b,)), Layer("add", "kgen", (b,), (c,))
    assert unfused([first, second]) == [(first, second)]
    also = Layer("conv", "correlation", (b,), (c,))
    assert unfused([first, second, also]) == []
    assert unfused([first, also]) == []


def test_the_builders_log_is_read() -> None:
    log = [
        "Total Activation Memory: 267362304 bytes",
        "Total Weights Memory: 82014720 bytes",
        "Layers:\n"
        "Name: node_Conv_1, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [1,32,8,8], "
        "Format/Datatype: Half }], Outputs: [ { Name: b, Dimensions: [1,64,8,8], Format/Datatype: Half }, "
        "{ Name: c, Dimensions: [1,64], Format/Datatype: Float }], TacticName: , StreamId: 0\n\n"
        "Bindings:\na\nb",
    ]
    layers, weights, activations = read_build_log(log)
    assert (weights, activations) == (82014720, 267362304)
    outputs = (tensor("float16", 1, 64, 8, 8, name="b"), tensor("float32", 1, 64, name="c"))
    assert layers == (
        Layer("node_Conv_1", "correlation", (tensor("float16", 1, 32, 8, 8, name="a"),), outputs),
    )
    assert read_build_log([]) == ((), 0, 0)


@pytest.mark.parametrize(
    ("field", "words", "dtype"),
    [
        ("Format/Datatype", "Half", "float16"),
        ("Format/Datatype", "Row major linear FP32 format (kLINEAR)", "float32"),
        ("Format/Datatype", "Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("DataType", "Float", "float32"),
        ("DataType", "BFloat16", "bfloat16"),
    ],
)
def test_the_inspectors_json_of_10_and_11_is_read(field: str, words: str, dtype: str) -> None:
    entry = {"Name": "x", "Dimensions": [1, 8, 4, 4], field: words}
    layer = {"Name": "conv", "LayerType": "Convolution", "Inputs": [entry], "Outputs": []}
    read = layers_of_json(json.dumps({"Layers": [layer, "a name only"]}))
    assert read == (Layer("conv", "Convolution", (tensor(dtype, 1, 8, 4, 4),), ()),)
    assert read[0].heavy


def test_engines_are_looked_for_where_they_are_written(tiny_copy: Path) -> None:
    assert record_folders(tiny_copy)[0] == tiny_copy / "compiled" / "engines"
    assert record_folders(tiny_copy.parent) == []
