"""ONNX Runtime on a GPU, without one: the session with buffers on the CPU, and every way to be refused."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
import pytest
from doppelgan.runtime.backends import BACKENDS, installed, onnxruntime_cuda, open_session
from doppelgan.runtime.backends.onnxruntime_cuda import (
    PROVIDER,
    CudaSession,
    create_session,
    really_runs,
    why_not,
)
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.errors import BackendError
from doppelgan.runtime.measure import autotune
from onnx import TensorProto, helper

from .. import tiny

CPU = ("CPUExecutionProvider", {})


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """x float32 [2, 3] -> twice = 2 x, square = x * x."""
    return _write(
        tmp_path / "two.onnx",
        [helper.make_node("Add", ["x", "x"], ["twice"]), helper.make_node("Mul", ["x", "x"], ["square"])],
        ["twice", "square"],
    )


def _write(path: Path, nodes: list[Any], outputs: list[str]) -> Path:
    shape = [2, 3]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def session(network: Path) -> CudaSession:
    return CudaSession(network.name, create_session(network, 1, CPU, whole=True), "stand-in", "cpu")


def _x(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)


def test_a_run_gives_what_onnx_runtime_gives_and_keeps_it(session: CudaSession) -> None:
    first = session.run({"x": _x(0)})
    second = session.run({"x": _x(1)})
    np.testing.assert_array_equal(first["twice"], 2 * _x(0))  # the second run has not touched it
    np.testing.assert_array_equal(first["square"], _x(0) ** 2)
    np.testing.assert_array_equal(second["twice"], 2 * _x(1))


def test_outputs_are_written_where_they_are_wanted(session: CudaSession) -> None:
    out = {"square": np.empty((2, 3), np.float32)}
    results = session.run({"x": _x(2)}, out)
    assert results["square"] is out["square"]
    np.testing.assert_array_equal(out["square"], _x(2) ** 2)
    np.testing.assert_array_equal(results["twice"], 2 * _x(2))
    session.compute()  # once more on what is there
    with pytest.raises(BackendError, match="expected an output buffer square: float32"):
        session.run({"x": _x(2)}, {"square": np.empty((3, 2), np.float32)})


def test_outputs_come_straight_from_the_driver_or_by_way_of_an_array(session: CudaSession) -> None:
    calls: list[int] = []

    def copy(target: int, source: int, size: int) -> int:
        calls.append(size)
        ctypes.memmove(target, source, size)
        return 0

    session._copy = copy
    np.testing.assert_array_equal(session.run({"x": _x(3)})["twice"], 2 * _x(3))
    assert calls == [24, 24]
    session._copy = lambda *_: 201  # no context
    np.testing.assert_array_equal(session.run({"x": _x(4)})["twice"], 2 * _x(4))


def test_bad_feeds_and_closed_sessions_are_named(session: CudaSession) -> None:
    with pytest.raises(BackendError, match="expected inputs"):
        session.run({"y": _x(0)})
    with pytest.raises(BackendError, match="expected x: float32"):
        session.run({"x": _x(0).astype(np.float64)})
    session.close()
    session.close()
    with pytest.raises(BackendError, match="got a closed one"):
        session.run({"x": _x(0)})


def test_this_environment_has_no_gpu_and_says_why(network: Path) -> None:
    reason = why_not()
    assert reason
    assert not installed("cuda")
    assert "cuda" in BACKENDS
    with pytest.raises(BackendError, match="expected ONNX Runtime on an NVIDIA GPU, got"):
        open_session(network, backend="cuda")
    assert really_runs() == (False, reason)


def test_a_build_without_cuda_tells_how_to_change_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    why_not.cache_clear()
    try:
        assert "which has no CUDA" in why_not()
        assert "pip uninstall -y onnxruntime onnxruntime-gpu" in why_not()
    finally:
        why_not.cache_clear()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcudnn.so.9"), raising=False)
    monkeypatch.setattr(onnxruntime_cuda.sys, "platform", "linux")

    def missing(_path: str, mode: int = 0) -> None:
        raise OSError("libcublasLt.so.13: cannot open shared object file")

    monkeypatch.setattr(onnxruntime_cuda.ctypes, "CDLL", missing)
    why_not.cache_clear()
    try:
        assert "libcublasLt.so.13" in why_not()
        assert "Failed to load libcudnn.so.9" in why_not()
    finally:
        why_not.cache_clear()


class _Runtime:
    """InferenceSession with a CUDA provider that is really the CPU's; records what it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[tuple[dict[str, str], bool]] = []  # provider options, whole
        self.refuse: list[str] = []  # one message per opening that fails
        self.falls_back = False
        real = ort.InferenceSession
        outer = self

        def create(path: str, settings: ort.SessionOptions, providers: list[Any]) -> Any:
            ((name, options),) = providers
            assert name == PROVIDER
            whole = _entry(settings, "session.disable_cpu_ep_fallback") == "1"
            outer.opened.append((options, whole))
            if outer.refuse:
                raise RuntimeError(outer.refuse.pop(0))
            session = real(path, ort.SessionOptions(), providers=["CPUExecutionProvider"])
            if not outer.falls_back:
                monkeypatch.setattr(session, "get_providers", lambda: [PROVIDER, "CPUExecutionProvider"])
            return session

        monkeypatch.setattr(onnxruntime_cuda.ort, "InferenceSession", create)
        monkeypatch.setattr(onnxruntime_cuda, "why_not", lambda: "")
        monkeypatch.setattr(
            onnxruntime_cuda,
            "CudaSession",
            lambda name, session, backend: CudaSession(name, session, backend, "cpu"),
        )


def _entry(settings: ort.SessionOptions, key: str) -> str:
    try:
        return str(settings.get_session_config_entry(key))
    except RuntimeError:
        return ""


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> _Runtime:
    return _Runtime(monkeypatch)


def test_a_silent_fall_back_to_the_cpu_is_an_error(runtime: _Runtime, network: Path) -> None:
    runtime.falls_back = True
    with pytest.raises(BackendError, match=f"expected {PROVIDER}, got .*CPUExecutionProvider"):
        open_session(network, backend="cuda")


def test_the_whole_network_is_captured_on_the_gpu_if_it_can_be(runtime: _Runtime, network: Path) -> None:
    opened = open_session(network, backend="cuda")
    ((options, whole),) = runtime.opened
    assert whole
    assert options["enable_cuda_graph"] == "1"
    assert options["use_tf32"] == "0"
    assert opened.backend == "onnxruntime CUDA float32"
    open_session(network, backend="cuda", graph=False)
    assert "enable_cuda_graph" not in runtime.opened[1][0]


def test_nodes_that_stay_on_the_cpu_are_told(runtime: _Runtime, network: Path) -> None:
    runtime.refuse = ["graph nodes that are assigned to the default CPU EP"] * 2
    opened = open_session(network, backend="cuda", precision="tf32", layout="channels_last")
    assert opened.backend == "onnxruntime CUDA tf32, partly CPU"
    assert [whole for _, whole in runtime.opened] == [True, True, False]
    last = runtime.opened[-1][0]
    assert "enable_cuda_graph" not in last
    assert (last["use_tf32"], last["prefer_nhwc"]) == ("1", "1")


def test_a_bad_network_is_one_line(runtime: _Runtime, network: Path) -> None:
    runtime.refuse = ["Protobuf parsing failed\nand more"] * 3
    with pytest.raises(BackendError, match=r"can load; Protobuf parsing failed$"):
        open_session(network, backend="cuda")


def test_a_half_precision_network_gets_tensor_cores(runtime: _Runtime, tmp_path: Path) -> None:
    """ONNX Runtime's switch for TF32 keeps float16 from them, too: see conv.cc of its CUDA provider."""
    half = _write(
        tmp_path / "half.onnx",
        [
            helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
            helper.make_node("Mul", ["h", "h"], ["hh"]),
            helper.make_node("Cast", ["hh"], ["y"], to=TensorProto.FLOAT),
        ],
        ["y"],
    )
    assert open_session(half, backend="cuda").backend == "onnxruntime CUDA float16"
    assert runtime.opened[0][0]["use_tf32"] == "1"


def test_options_are_checked(network: Path) -> None:
    for options, match in (
        ({"precision": "bf16"}, "expected a precision of float32, tf32, float16, got 'bf16'"),
        ({"layout": "nhwc"}, "expected a layout of channels_first, channels_last"),
        ({"speed": 1}, "expected options precision, graph, layout"),
    ):
        with pytest.raises(BackendError, match=match):
            open_session(network, backend="cuda", **options)


def test_the_product_of_doctor_is_a_product(tmp_path: Path) -> None:
    path = tmp_path / "product.onnx"
    path.write_bytes(onnxruntime_cuda._PRODUCT)
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(open_session(path).run({"x": x})["y"], x * x)


def test_compile_tries_the_gpu_in_every_precision_and_keeps_how(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path, tmp_path: Path
) -> None:
    opened: list[dict[str, Any]] = []

    def stand_in(path: Path, *, threads: int | None = None, **options: Any) -> CudaSession:
        opened.append(options)
        session = create_session(path, threads, CPU, whole=True)
        return CudaSession(path.name, session, "onnxruntime CUDA", "cpu")

    monkeypatch.setattr(onnxruntime_cuda, "open", stand_in)
    monkeypatch.setattr(onnxruntime_cuda, "why_not", lambda: "")
    monkeypatch.setattr(autotune, "_variant", lambda *_: (tiny.synthesis(), "as it was"))
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    path, record = autotune.autotune(
        bundle, backends=["cuda"], precisions=["float32", "tf32"], networks=["synthesis"], samples=3, rounds=3
    )
    tried = [(m.precision, m.note, m.threads) for m in record.measurements]
    assert tried == [
        ("float32", "", 1),
        ("tf32", "", 1),
        ("float16", "", 1),
        ("tf32", "up-sampling by phases", 1),
        ("float16", "up-sampling by phases", 1),
    ]
    choice = msgspec.structs.replace(
        record.choices["synthesis"], precision="tf32", options={"precision": "tf32"}, file="", sha256=""
    )
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, choices={"synthesis": choice})))
    with open_bundle(bundle) as compiled:
        assert compiled.session("synthesis").backend == "onnxruntime CUDA"
    assert opened[-1] == {"precision": "tf32"}


def test_two_packages_of_one_name_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from doppelgan.runtime.cli import doctor

    versions = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, ""))
    assert "overwrite each other" in doctor._two_of_one_name()
    versions.pop("onnxruntime-gpu")
    assert doctor._two_of_one_name() == ""
