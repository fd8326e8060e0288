"""ONNX -> TensorRT engines, for TensorRT 10 and 11 and for TensorRT for RTX, whose builder needs no GPU.

Networks are strongly typed: they compute in the types that the ONNX file states. There are no precision
flags, no plug-ins, no timing cache, and float32 is float32 (TF32 is off), so that the drift that was measured
holds for the engine. The layers that the builder arrived at are read back and summarized: what was fused, and
which feature maps are still float32.

This module needs onnx only to make float16 and int8 variants, and never torch: it runs on a Jetson.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doppelgan.runtime.backends.tensorrt.cuda import open_driver
from doppelgan.runtime.backends.tensorrt.engine_record import (
    Engine,
    bundle_folder,
    read_engines,
    read_vouched,
    store_engine,
)
from doppelgan.runtime.backends.tensorrt.session import (
    find_tensorrt,
    make_logger,
    product_name,
    this_platform,
)
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.drift import Drift
from doppelgan.runtime.errors import BackendError, ParityError
from doppelgan.runtime.measure.network_inputs import sample_inputs
from doppelgan.runtime.types import Announce

MODULES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}  # `--for` -> module
PRECISIONS = ("float32", "float16", "int8")
AUTOMATIC = "float16"  # without --precision, where it stays within its bound
CALIBRATION = 16  # samples for int8

# Few enough channels that a map is a picture, whose sum stays float32 on purpose (see fp16.py).
PICTURE_CHANNELS = 4
# Kinds of layers that multiply and add; names of TensorRT's compiler and of its older kernels.
HEAVY = ("correlation", "deconv", "gemm", "convolution", "deconvolution", "matrixmultiply")
POINTWISE = ("kgen", "pointwise", "elementwise")


@dataclass(frozen=True)
class TensorInfo:
    """A tensor between two layers of an engine."""

    name: str
    dtype: str  # "float32", "float16", "int8" ...
    shape: tuple[int, ...]

    @property
    def is_map(self) -> bool:
        """A feature map: four dimensions, more channels than a picture, more than one pixel."""
        return len(self.shape) == 4 and self.shape[1] > PICTURE_CHANNELS and self.shape[2] * self.shape[3] > 1


@dataclass(frozen=True)
class Layer:
    """One launch of an engine, after fusion."""

    name: str
    kind: str  # the builder's word: "correlation", "gemm", "kgen", "runtime_fusion" ...
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @property
    def heavy(self) -> bool:
        """Multiplies matrices or convolves, alone or fused with what surrounds it."""
        return self.kind.lower() in HEAVY or (
            self.kind == "runtime_fusion"
            and any(part in self.name for part in ("Corr", "Deco", "Conv", "Fc", "Gemm"))
        )

    @property
    def pointwise(self) -> bool:
        return not self.heavy and self.kind.lower() in POINTWISE


@dataclass(frozen=True)
class BuiltEngine:
    """An engine in memory, and what the builder says of it."""

    plan: bytes
    layers: tuple[Layer, ...]
    weights: int  # bytes on the device
    activations: int  # bytes on the device
    build_s: float

    def summary(self) -> dict[str, int]:
        """Kind of layer -> how many."""
        return dict(sorted(Counter(layer.kind for layer in self.layers).items()))


def compile_bundle(
    bundle: str | Path,
    *,
    target: str,  # of MODULES
    arch: str | None = None,  # "sm86,sm89": with "rtx" only; None: this machine's GPU
    precisions: Sequence[str] = (),  # of PRECISIONS; none: float16 where it is faithful, else float32
    networks: Iterable[str] = (),  # none: all
    samples: int = 64,  # inputs of the drift check
    overwrite: bool = False,  # build also what is up to date
    report: Announce = lambda step: None,
) -> Path:
    """Build engines for all networks of a bundle from the command line's words; returns their folder."""
    archs = None if arch is None else [part.strip().lower() for part in arch.split(",")]
    if archs is not None and not all(archs):
        raise BackendError(f"compile: expected --arch as sm86,sm89, got {arch!r}")
    folder, engines = compile_engines(
        bundle,
        target,
        archs or [],
        precisions=precisions,
        networks=networks,
        samples=samples,
        overwrite=overwrite,
        report=report,
    )
    for one in sorted({(engine.arch, engine.precision) for engine in engines}):
        here = [engine for engine in engines if (engine.arch, engine.precision) == one]
        weights, activations = sum(e.weights for e in here) / 1e6, sum(e.activations for e in here) / 1e6
        report(
            f"{' '.join(one)}: {len(here)} engines; on the device {weights:.0f} MB weights, "
            f"{activations:.0f} MB activations"
        )
    report(f"{folder}: engines and their record; run with --backend tensorrt")
    return folder


def compile_engines(
    bundle: str | Path,
    target: str,  # of MODULES
    archs: Sequence[str] = (),
    *,
    precisions: Sequence[str] = (),
    networks: Iterable[str] = (),  # none: all
    samples: int = 64,
    overwrite: bool = False,
    report: Announce = lambda step: None,
    trt: Any = None,  # the module; None: imported
) -> tuple[Path, list[Engine]]:
    """Build, record, and return the folder and its engines for all that was asked for.

    Without ``precisions``, a network whose float16 variant drifts past its bound is built in float32; a
    precision that was asked for is built or refused with ParityError. An engine that is there, whole, and
    made from this network for this TensorRT and GPU is kept, unless ``overwrite``; those for others stay
    beside it. Raises BackendError if TensorRT is missing or cannot build a network.
    """
    if target not in MODULES:
        raise BackendError(f"compile: expected --for {' or '.join(MODULES)}, got {target!r}")
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown:
        raise BackendError(f"compile: expected a precision of {', '.join(PRECISIONS)}, got {unknown[0]!r}")
    if target == "rtx" and "int8" in precisions:
        raise BackendError(
            "compile: TensorRT for RTX has no int8 convolutions; use --precision float16, or --for tensorrt"
        )
    trt = trt or find_tensorrt(MODULES[target])
    wanted = list(archs) or [_this_arch(trt)]
    for arch in wanted:
        _check_arch(trt, arch)
    engines: list[Engine] = []
    with open_bundle(bundle, backend="onnxruntime") as source:
        names = list(dict.fromkeys(networks)) or list(source.manifest.networks)
        for name in names:
            _check_network(source, name)
        folder = bundle_folder(source.path)
        asked_for: list[str | None] = [*dict.fromkeys(precisions)]
        for name, asked in itertools.product(names, asked_for or [None]):
            there = {} if overwrite else _up_to_date(folder, source, name, asked, trt)
            for arch in wanted:
                if arch in there:
                    word = f"{name}: up to date in {there[arch].precision} for {arch}"
                    report(f"{word}; --overwrite builds it anew")
                    engines.append(there[arch])
            missing = [arch for arch in wanted if arch not in there]
            if not missing:
                continue
            variant = _variant(source, name, asked, samples, report)
            for arch in missing:
                report(f"{name}: build in {variant.precision} for {arch}")
                fresh = build_engine(variant.onnx, trt, arch, name)
                engine = _entry(source, name, variant, trt, arch, fresh)
                store_engine(folder, engine, fresh.plan)
                engines.append(engine)
                report(
                    f"{name}: {len(fresh.layers)} layers, {engine.size / 1e6:.0f} MB; on the device "
                    f"weights {engine.weights / 1e6:.0f} MB, activations "
                    f"{engine.activations / 1e6:.0f} MB; built in {fresh.build_s:.1f} s"
                )
    return folder, engines


def build_engine(
    onnx: bytes,
    trt: Any,  # the module tensorrt or tensorrt_rtx
    arch: str | None = None,  # "sm86", for TensorRT for RTX; None: the GPU of this machine
    name: str = "network",  # for messages
) -> BuiltEngine:
    """Build one network. Raises BackendError with the builder's or the parser's first complaint."""
    start = time.perf_counter()
    log = make_logger(trt, verbose=True)
    builder = trt.Builder(log)
    flags = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # always on from 11
    network = builder.create_network(0 if flags is None else 1 << int(flags))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        reason = parser.get_error(0).desc() if parser.num_errors else log.first_error()
        raise BackendError(f"{name}: expected ONNX that {product_name(trt)} can parse, got: {_line(reason)}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)
    if arch is not None and hasattr(config, "set_compute_capability"):
        # The number comes first: the setter checks its index against it.
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, arch.upper()), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        reason = _line(log.first_error())
        raise BackendError(
            f"{name}: {product_name(trt)} {trt.__version__} could not build the engine: {reason}"
        )
    data = bytes(plan)
    del plan
    layers, weights, activations = read_build_log(log.messages)
    if not layers:
        layers, activations = _inspect(trt, data, activations)
    return BuiltEngine(data, layers, weights, activations, time.perf_counter() - start)


def float32_maps(layers: Iterable[Layer]) -> list[Layer]:
    """Layers that read or write a float32 feature map, pictures apart: none in a float16 network's core."""
    return [
        layer
        for layer in layers
        if any(tensor.is_map and tensor.dtype == "float32" for tensor in (*layer.inputs, *layer.outputs))
    ]


def unfused(layers: Sequence[Layer]) -> list[tuple[Layer, Layer]]:
    """Missed fusions: pointwise layers on a map that only another pointwise layer reads."""
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        for tensor in layer.inputs:
            readers.setdefault(tensor.name, []).append(layer)
    pairs = []
    for layer in layers:
        maps = [tensor for tensor in layer.outputs if tensor.is_map]
        if not layer.pointwise or len(maps) != 1:
            continue
        following = readers.get(maps[0].name, [])
        if len(following) == 1 and following[0].pointwise and following[0].outputs[0].shape == maps[0].shape:
            pairs.append((layer, following[0]))
    return pairs


def read_build_log(messages: Iterable[str]) -> tuple[tuple[Layer, ...], int, int]:
    """Layers, weight bytes and activation bytes from what the builder says when it is verbose."""
    layers: list[Layer] = []
    weights = activations = 0
    for message in messages:
        if match := re.match(r"Total Weights Memory: (\d+) bytes", message):
            weights = int(match[1])
        elif match := re.match(r"Total Activation Memory: (\d+) bytes", message):
            activations = int(match[1])
        elif message.startswith(("Layers:", "Engine Layer Information:")):
            lines = (_LINE.match(line) for line in message.splitlines())
            layers = [
                Layer(line[1], line[2], _tensors(line[3]), _tensors(line[4]))
                for line in lines
                if line is not None
            ]
    return tuple(layers), weights, activations


def layers_of_json(text: str) -> tuple[Layer, ...]:
    """Layers from the engine inspector's JSON, as TensorRT 10 and 11 write it."""
    layers = []
    for entry in json.loads(text).get("Layers", []):
        if isinstance(entry, dict):  # a bare name means that the engine was built without details
            tensors = [
                tuple(
                    TensorInfo(
                        t["Name"],
                        _dtype(t.get("Format/Datatype") or t.get("DataType") or ""),
                        tuple(t["Dimensions"]),
                    )
                    for t in entry.get(side, [])
                )
                for side in ("Inputs", "Outputs")
            ]
            layers.append(Layer(entry["Name"], entry["LayerType"], *tensors))
    return tuple(layers)


_LINE = re.compile(r"Name: (.*?), LayerType: (\S+), Inputs: \[(.*?)\], Outputs: \[(.*?)\], (?:TacticName|ParameterType|StreamId|Metadata)")  # fmt: skip # noqa: E501
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[([\d,]*)\], Format/Datatype: (.*?) \}")


def _tensors(text: str) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(name, _dtype(dtype), tuple(int(size) for size in shape.split(",") if size))
        for name, shape, dtype in _TENSOR.findall(text)
    )


def _dtype(words: str) -> str:
    """ "Half", "Row major linear FP16 format (kLINEAR)" ... -> "float16"."""
    for dtype, names in (
        ("float16", ("half", "fp16")),
        ("bfloat16", ("bf16", "bfloat16")),
        ("float32", ("float", "fp32")),
        ("int8", ("int8",)),
    ):
        if any(re.search(rf"\b{name}\b", words, re.IGNORECASE) for name in names):
            return dtype
    return words.lower()


def _inspect(trt: Any, plan: bytes, activations: int) -> tuple[tuple[Layer, ...], int]:
    """Ask the engine itself; this takes a GPU."""
    log = make_logger(trt)
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        return (), activations
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return layers_of_json(text), int(engine.device_memory_size_v2)


@dataclass(frozen=True)
class _Variant:
    """What an engine is built from."""

    precision: str
    onnx: bytes
    drift: Drift | None = None
    instead_of: str = ""  # a precision that drifted past its bound


def _check_network(bundle: Bundle, name: str) -> None:
    if name not in bundle.manifest.networks:
        have = ", ".join(sorted(bundle.manifest.networks))
        raise BackendError(f"{bundle.path}: expected a network of {have}, got {name!r}")


def _up_to_date(folder: Path, bundle: Bundle, name: str, asked: str | None, trt: Any) -> dict[str, Engine]:
    """By architecture, the engines that ``_variant`` of the same arguments would be built into again."""
    purpose = (name, trt.__name__, trt.__version__, this_platform(), bundle.manifest.networks[name].sha256)
    found: dict[str, Engine] = {}
    for engine in read_engines(folder):
        serves = (engine.network, engine.product, engine.version, engine.platform, engine.source_sha256)
        precisions = (engine.precision, engine.instead_of) if asked is None else (engine.precision,)
        if serves != purpose or (asked or AUTOMATIC) not in precisions:
            continue
        with suppress(BackendError):  # gone or damaged
            read_vouched(folder / engine.file, engine.sha256)
            found[engine.arch] = engine
    return found


def _variant(bundle: Bundle, name: str, asked: str | None, samples: int, report: Announce) -> _Variant:
    """The ONNX file to build ``name`` from. asked: a precision; None: float16 where it is faithful."""
    data = (bundle.path / bundle.manifest.networks[name].file).read_bytes()
    if asked == "float32":
        return _Variant(asked, data)
    precision = asked or AUTOMATIC
    try:
        return _Variant(precision, *_in_precision(bundle, name, data, precision, samples, report))
    except ParityError as error:
        if asked is not None:
            raise
        report(f"{error}: float32 instead")
        return _Variant("float32", data, instead_of=precision)


def _in_precision(
    bundle: Bundle, name: str, data: bytes, precision: str, samples: int, report: Announce
) -> tuple[bytes, Drift]:
    try:
        from .variants.precision import make_variant
    except ModuleNotFoundError as error:
        raise BackendError(
            f"compile: {precision} needs the package {error.name!r}, which is not installed; "
            "run `pip install onnx`, or pass --precision float32"
        ) from None
    calibration = sample_inputs(bundle, name, CALIBRATION, seed=1) if precision == "int8" else []
    variant = make_variant(
        name,
        data,
        precision,
        calibration,
        sample_inputs(bundle, name, samples, seed=2),
        symmetric=True,  # the one form of int8 that TensorRT knows
        report=report,
    )
    return variant.onnx, variant.drift


def _entry(
    bundle: Bundle,
    name: str,
    variant: _Variant,
    trt: Any,
    arch: str,
    built: BuiltEngine,
) -> Engine:
    return Engine(
        network=name,
        precision=variant.precision,
        instead_of=variant.instead_of,
        file=f"{name}-{variant.precision}-{arch}-{trt.__name__}-{trt.__version__}.engine",
        sha256=hashlib.sha256(built.plan).hexdigest(),
        source_sha256=bundle.manifest.networks[name].sha256,
        onnx_sha256=hashlib.sha256(variant.onnx).hexdigest(),
        product=trt.__name__,
        version=trt.__version__,
        arch=arch,
        platform=this_platform(),
        size=len(built.plan),
        weights=built.weights,
        activations=built.activations,
        layers=built.summary(),
        float32_maps=len(float32_maps(built.layers)),
        build_s=round(built.build_s, 2),
        drift=variant.drift,
    )


def _this_arch(trt: Any) -> str:
    try:
        return open_driver().device().arch
    except BackendError as error:
        if not hasattr(trt, "ComputeCapability"):
            raise
        raise BackendError(
            f"compile: expected --arch (sm86, sm89 ...) or a GPU to take it from; {error}"
        ) from None


def _check_arch(trt: Any, arch: str) -> None:
    known = [name for name in dir(getattr(trt, "ComputeCapability", ())) if re.fullmatch(r"SM\d+", name)]
    if known:
        if arch.upper() not in known:
            names = ", ".join(sorted((name.lower() for name in known), key=lambda name: int(name[2:])))
            raise BackendError(
                f"compile: expected an architecture of {names} for {product_name(trt)}, got {arch!r}; "
                "other GPUs (every Jetson) take --for tensorrt"
            )
        return
    here = open_driver().device().arch
    if arch != here:
        raise BackendError(
            f"compile: {product_name(trt)} builds for the GPU of this machine ({here}) only, got {arch!r}; "
            "run it on the device, or use --for rtx"
        )


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
