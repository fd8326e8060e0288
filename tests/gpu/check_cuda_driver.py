"""Exercise the CUDA driver module on a real GPU; report in one JSON line.

Needs NumPy and cuda-python, nothing else; no test runner, because machines with a GPU are often bare::

    python tests/gpu/check_cuda_driver.py

Exit status 1 and "failed" in the line if anything disagrees.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import sys
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    # The package's own __init__ imports the whole runtime; here only two leaves of the tree are wanted.
    for _name, _folder in (("doppelgan", ROOT), ("doppelgan.runtime", ROOT / "runtime")):
        _module = types.ModuleType(_name)
        _module.__path__ = [str(_folder)]
        sys.modules[_name] = _module

from doppelgan.runtime.backends.tensorrt.cuda import DeviceBuffer, Driver, HostBuffer, open_driver
from doppelgan.runtime.errors import BackendError

Result = dict[str, Any]
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000, help="rounds in which nothing may leak")
    parser.add_argument("--package", help="cuda-python or pycuda; default: the first that is installed")
    arguments = parser.parse_args()

    try:
        driver = open_driver(arguments.package)
    except BackendError as error:
        print(error, file=sys.stderr)
        return 2
    device = driver.device()
    line: Result = {
        "driver": driver.name,
        "python": platform.python_version(),
        "gpu": device.name,
        "arch": device.arch,
        "integrated": device.integrated,
        "memory_gib": round(device.memory / (1 << 30), 1),
        "cuda_driver": device.driver_version,
        "checks": {},
    }
    checks: list[tuple[str, Callable[[], Result]]] = [
        ("round_trip", lambda: check_round_trip(driver)),
        ("mapped", lambda: check_mapped_memory(driver)),
        ("after_close", lambda: check_closed_buffers(driver)),
        ("errors", lambda: check_errors_are_one_line(driver)),
        ("many", lambda: check_many_allocations(driver)),
        ("leaks", lambda: check_leaks(driver, arguments.runs)),
    ]
    if driver.can_capture:
        checks.append(("graph", lambda: check_graph(driver)))
    for name, check in checks:
        try:
            line["checks"][name] = {"ok": True, **check()}
        except Exception:  # every check is reported, whatever broke
            line["checks"][name] = {"ok": False, "error": traceback.format_exc(limit=-3)}
    line["failed"] = [name for name, result in line["checks"].items() if not result["ok"]]
    print(json.dumps(line))
    return 1 if line["failed"] else 0


def check_round_trip(driver: Driver) -> Result:
    """Host -> device -> other device buffer -> host keeps every byte; a fill changes just its own."""
    size = 64 * MIB
    stream = driver.stream_create()
    with (
        HostBuffer(driver, size) as source,
        HostBuffer(driver, size) as target,
        DeviceBuffer(driver, size) as first,
        DeviceBuffer(driver, size) as second,
    ):
        data = source.array("uint8", (size,))
        data[:] = np.random.default_rng(1).integers(0, 256, size, np.uint8)
        target.array("uint8", (size,))[:] = 0
        driver.stream_synchronize(stream)
        start = time.perf_counter()
        driver.copy_to_device(first.address, source.host_address, size, stream)
        driver.stream_synchronize(stream)
        up_s = time.perf_counter() - start
        driver.copy_on_device(second.address, first.address, size, stream)
        driver.fill(second.address + MIB, 7, MIB, stream)
        start = time.perf_counter()
        driver.copy_to_host(target.host_address, second.address, size, stream)
        driver.stream_synchronize(stream)
        down_s = time.perf_counter() - start
        expected = data.copy()
        expected[MIB : 2 * MIB] = 7
        assert np.array_equal(target.array("uint8", (size,)), expected), "bytes changed on the way"
    driver.stream_destroy(stream)
    return {"up_gb_s": round(size / up_s / 1e9, 2), "down_gb_s": round(size / down_s / 1e9, 2)}


def check_mapped_memory(driver: Driver) -> Result:
    """The GPU reads and writes pinned memory of the CPU through its own address."""
    stream = driver.stream_create()
    with HostBuffer(driver, 4096) as host, DeviceBuffer(driver, 4096) as device:
        array = host.array("uint32", (1024,))
        array[:] = np.arange(1024, dtype=np.uint32)
        driver.copy_on_device(device.address, host.address, 4096, stream)
        driver.fill(host.address, 0, 2048, stream)
        driver.copy_on_device(host.address + 2048, device.address, 2048, stream)
        driver.stream_synchronize(stream)
        assert not array[:512].any()
        assert np.array_equal(array[512:], np.arange(512))
        same = host.address == host.host_address
    driver.stream_destroy(stream)
    return {"same_address": same}


def check_closed_buffers(driver: Driver) -> Result:
    for buffer in (DeviceBuffer(driver, 256), HostBuffer(driver, 256)):
        buffer.close()
        buffer.close()
        try:
            _ = buffer.address
        except BackendError:
            continue
        raise AssertionError(f"{type(buffer).__name__} gave its address after close")
    return {}


def check_graph(driver: Driver) -> Result:
    """A captured sequence runs only when launched, and again with what the host buffer then holds."""
    size = MIB
    stream = driver.stream_create()
    with (
        HostBuffer(driver, size) as source,
        HostBuffer(driver, size) as target,
        DeviceBuffer(driver, size) as device,
    ):
        given, got = source.array("uint8", (size,)), target.array("uint8", (size,))

        def sequence() -> None:
            driver.copy_to_device(device.address, source.host_address, size, stream)
            driver.fill(device.address, 9, 1024, stream)
            driver.copy_to_host(target.host_address, device.address, size, stream)

        got[:] = 0
        driver.capture_begin(stream)
        sequence()
        graph = driver.capture_end(stream)
        driver.stream_synchronize(stream)
        assert not got.any(), "capturing ran the work"
        for value in (1, 2, 3):
            given[:] = value
            driver.graph_launch(graph, stream)
            driver.stream_synchronize(stream)
            assert (got[:1024] == 9).all()
            assert (got[1024:] == value).all()

        def launched() -> None:
            driver.graph_launch(graph, stream)
            driver.stream_synchronize(stream)

        def queued() -> None:
            sequence()
            driver.stream_synchronize(stream)

        graph_ms, queued_ms = median_ms(launched), median_ms(queued)
        driver.graph_destroy(graph)
    driver.stream_destroy(stream)
    return {"launch_ms": graph_ms, "queued_ms": queued_ms}


def check_errors_are_one_line(driver: Driver) -> Result:
    try:
        driver.malloc(1 << 60)
    except BackendError as error:
        message = str(error)
        assert "\n" not in message
        assert message.startswith("CUDA: ")
    else:
        raise AssertionError("an exbibyte was allocated")
    with DeviceBuffer(driver, 64):  # the failure left nothing behind
        pass
    return {"message": message}


def check_many_allocations(driver: Driver) -> Result:
    """A session's worth of buffers, opened and closed a few hundred times, does not use memory up."""
    for _ in range(300):
        buffers = [DeviceBuffer(driver, 64 * MIB) for _ in range(4)] + [HostBuffer(driver, 64 * 1024)]
        stream = driver.stream_create()
        driver.stream_destroy(stream)
        for buffer in buffers:
            buffer.close()
    return {}


def check_leaks(driver: Driver, runs: int) -> Result:
    """Memory, streams and graphs come and go thousands of times, and neither side's memory grows."""

    def once() -> None:
        stream = driver.stream_create()
        with DeviceBuffer(driver, MIB) as device, HostBuffer(driver, MIB // 4) as host:
            if driver.can_capture:
                driver.capture_begin(stream)
            driver.copy_to_device(device.address, host.host_address, MIB // 4, stream)
            driver.fill(device.address, 1, MIB, stream)
            if driver.can_capture:
                graph = driver.capture_end(stream)
                driver.graph_launch(graph, stream)
                driver.stream_synchronize(stream)
                driver.graph_destroy(graph)
            driver.stream_synchronize(stream)
        driver.stream_destroy(stream)

    for _ in range(min(200, runs)):  # pools of the driver and of Python fill up
        once()
    before = host_mib(), device_free_mib()
    for _ in range(runs):
        once()
    after = host_mib(), device_free_mib()
    grown = {"host_mib": round(after[0] - before[0], 1)}
    assert grown["host_mib"] < 32, f"{grown} after {runs} runs"
    if before[1] is not None and after[1] is not None:
        grown["device_mib"] = round(before[1] - after[1], 1)
        assert grown["device_mib"] < 32, f"{grown} after {runs} runs"
    return {"runs": runs, **grown}


def host_mib() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def device_free_mib() -> float | None:
    """Free memory of the GPU; None where there is no driver to ask."""
    try:
        ask = ctypes.CDLL("libcuda.so.1").cuMemGetInfo_v2
    except (OSError, AttributeError):
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    return None if ask(ctypes.byref(free), ctypes.byref(total)) else free.value / MIB


def median_ms(function: Callable[[], object], repetitions: int = 50) -> float:
    for _ in range(5):
        function()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(times), 4)


if __name__ == "__main__":
    sys.exit(main())
