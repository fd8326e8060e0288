"""The CUDA seam: choosing a package, owning memory, and the fake driver that the other tests lean on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.backends.tensorrt import cuda
from doppelgan.runtime.backends.tensorrt.cuda import DeviceBuffer, HostBuffer, open_driver
from doppelgan.runtime.errors import BackendError

from tests.fake_cuda import ORIN, RTX_3060, FakeDriver

SCRIPT = Path(__file__).resolve().parents[1] / "gpu" / "check_cuda_driver.py"


@pytest.mark.parametrize("kind", [DeviceBuffer, HostBuffer])
def test_buffers_are_freed_once_and_refuse_use_after_that(kind: type) -> None:
    driver = FakeDriver()
    with kind(driver, 64) as buffer:
        assert buffer.address
        assert len(driver.alive()) == 1
    buffer.close()
    assert driver.alive() == []
    with pytest.raises(BackendError, match="got a buffer of 64 bytes that was freed"):
        _ = buffer.address
    with pytest.raises(ValueError, match="at least one byte"):
        kind(driver, 0)


def test_a_host_buffer_is_an_array_within_its_size() -> None:
    with HostBuffer(FakeDriver(), 24) as buffer:
        buffer.array("float32", (2, 3))[:] = 1.5
        np.testing.assert_array_equal(buffer.array("float32", (6,)), np.full(6, 1.5))
        with pytest.raises(ValueError, match=r"within 24 bytes, got float32 \[7\]"):
            buffer.array("float32", (7,))


def test_the_fake_runs_late_and_in_order() -> None:
    driver = FakeDriver()
    stream = driver.stream_create()
    with HostBuffer(driver, 4) as host, DeviceBuffer(driver, 4) as device:
        host.array("uint8", (4,))[:] = 7
        driver.copy_to_device(device.address, host.host_address, 4, stream)
        driver.fill(device.address, 9, 1, stream)
        driver.copy_to_host(host.host_address, device.address, 4, stream)
        assert (host.array("uint8", (4,)) == 7).all()
        driver.stream_synchronize(stream)
        np.testing.assert_array_equal(host.array("uint8", (4,)), [9, 7, 7, 7])
    driver.stream_destroy(stream)
    assert driver.alive() == []


def test_the_fake_catches_what_a_gpu_would_not_tell() -> None:
    driver = FakeDriver()
    stream = driver.stream_create()
    host, device = HostBuffer(driver, 8), DeviceBuffer(driver, 4)
    with pytest.raises(AssertionError, match=r"8 bytes at .* are not live memory"):
        driver.copy_to_device(device.address, host.host_address, 8, stream)
    with pytest.raises(AssertionError, match=r"expected .*pinned.* memory"):
        driver.copy_to_device(device.address, device.address, 4, stream)
    driver.fill(device.address, 0, 4, stream)
    with pytest.raises(AssertionError, match="freed while work is waiting"):
        device.close()
    with pytest.raises(AssertionError, match="destroyed with work waiting"):
        driver.stream_destroy(stream)
    with pytest.raises(BackendError, match="out of memory"):
        driver.malloc(1 << 50)


def test_the_gpu_script_passes_on_the_fake(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """The script itself is right; on a machine with a GPU it then tests the real driver."""
    spec = importlib.util.spec_from_file_location("check_cuda_driver", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    driver = FakeDriver()
    monkeypatch.setattr(script, "open_driver", lambda _name: driver)
    monkeypatch.setattr(script, "BackendError", BackendError)
    monkeypatch.setattr(script, "MIB", 1024)
    monkeypatch.setattr(sys, "argv", ["check", "--runs", "50"])
    assert script.main() == 0
    assert '"failed": []' in capsys.readouterr().out
    assert driver.alive() == []


def test_neither_package_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ImportError

    monkeypatch.setattr(cuda, "DRIVERS", {"cuda-python": missing, "pycuda": missing})
    with pytest.raises(
        BackendError, match=r"cuda-python or pycuda to be installed.*`pip install cuda-python`"
    ):
        open_driver()
    with pytest.raises(BackendError, match="expected a package of cuda-python, pycuda, got 'opencl'"):
        open_driver("opencl")


def test_cuda_python_is_preferred_and_pycuda_serves_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ImportError

    assert list(cuda.DRIVERS) == ["cuda-python", "pycuda"]
    first, second = FakeDriver(), FakeDriver()
    monkeypatch.setattr(cuda, "DRIVERS", {"cuda-python": lambda: first, "pycuda": lambda: second})
    assert open_driver() is first
    monkeypatch.setitem(cuda.DRIVERS, "cuda-python", missing)
    assert open_driver() is second
    assert open_driver("pycuda") is second


def test_no_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = SimpleNamespace(cudaGetDeviceCount=lambda: (_Code(100, "cudaErrorNoDevice"), None))
    _install(monkeypatch, "cuda.bindings", runtime=runtime)
    with pytest.raises(
        BackendError, match="expected an NVIDIA GPU with its driver, got cudaErrorNoDevice"
    ) as info:
        open_driver("cuda-python")
    assert "\n" not in str(info.value)


def test_a_failing_call_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = SimpleNamespace(
        cudaGetDeviceCount=lambda: (_Code(0, "cudaSuccess"), 1),
        cudaSetDevice=lambda _device: (_Code(0, "cudaSuccess"),),
        cudaMalloc=lambda _size: (_Code(2, "cudaErrorMemoryAllocation"), None),
        cudaGetErrorString=lambda _error: (_Code(0, "cudaSuccess"), b"out of memory"),
    )
    _install(monkeypatch, "cuda.bindings", runtime=runtime)
    with pytest.raises(BackendError, match=r"cudaMalloc failed: out of memory \(cudaErrorMemoryAllocation\)"):
        open_driver("cuda-python").malloc(1 << 40)


def test_pycuda_makes_its_context_current_around_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    context = SimpleNamespace(push=lambda: events.append("push"), pop=lambda: events.append("pop"))
    memory = _Allocation(events)

    def mem_alloc(size: int) -> Any:
        assert events[-1] == "push"
        return memory

    device = SimpleNamespace(retain_primary_context=lambda: context)
    _install(
        monkeypatch, "pycuda", driver=SimpleNamespace(
            init=lambda: None, Device=lambda _number: device, Error=RuntimeError, mem_alloc=mem_alloc,
        ),
    )  # fmt: skip
    driver = open_driver("pycuda")
    assert not driver.can_capture
    driver.free(driver.malloc(16))
    assert events == ["push", "pop", "push", "free", "pop"]
    with pytest.raises(BackendError, match="no graphs"):
        driver.capture_begin(0)


def test_architectures_are_named_as_the_command_line_takes_them() -> None:
    assert (RTX_3060.arch, ORIN.arch) == ("sm86", "sm87")
    assert ORIN.integrated


class _Code(int):
    """An error code with a name, as cuda-python gives them."""

    name: str

    def __new__(cls, value: int, name: str) -> _Code:
        made = super().__new__(cls, value)
        made.name = name
        return made


class _Allocation:
    def __init__(self, events: list[str]) -> None:
        self._events = events

    def __int__(self) -> int:
        return 64

    def free(self) -> None:
        self._events.append("free")


def _install(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    """Put a stand-in package where ``import name.attribute`` finds it."""
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        package = ModuleType(".".join(parts[:i]))
        package.__path__ = []
        monkeypatch.setitem(sys.modules, package.__name__, package)
        if i > 1:
            monkeypatch.setattr(sys.modules[".".join(parts[: i - 1])], parts[i - 1], package, raising=False)
    for key, value in attributes.items():
        monkeypatch.setattr(sys.modules[name], key, value, raising=False)
        monkeypatch.setitem(sys.modules, f"{name}.{key}", value)
