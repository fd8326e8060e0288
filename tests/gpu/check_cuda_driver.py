"""Exercise the CUDA driver module and the CUDA pixel kernels on a real GPU; report in one JSON line.

Needs NumPy and cuda-python, nothing else; no test runner, because machines with a GPU are often bare::

    cmake -S . -B build/cuda -DWITH_CUDA=ON && cmake --build build/cuda       # for --kernels
    python tests/gpu/check_cuda_driver.py --kernels build/cuda/libdoppelgan_cuda.so

Exit status 1 and "failed" in the line if anything disagrees.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
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
    os.environ.setdefault("DOPPELGAN_KERNELS", "numpy")  # the reference is what the kernels are compared with
    # The package's own __init__ imports the whole runtime; here only two leaves of the tree are wanted.
    for _name, _folder in (("doppelgan", ROOT), ("doppelgan.runtime", ROOT / "runtime")):
        _module = types.ModuleType(_name)
        _module.__path__ = [str(_folder)]
        sys.modules[_name] = _module

from doppelgan.runtime.backends.tensorrt.cuda import DeviceBuffer, Driver, HostBuffer, open_driver
from doppelgan.runtime.errors import BackendError
from doppelgan.runtime.native import reference

Result = dict[str, Any]
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--kernels", type=Path, help="libdoppelgan_cuda.so, to compare its kernels with NumPy"
    )
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
        ("events", lambda: check_events(driver)),
        ("two_streams", lambda: check_streams_wait(driver)),
        ("errors", lambda: check_errors_are_one_line(driver)),
        ("many", lambda: check_many_allocations(driver)),
        ("leaks", lambda: check_leaks(driver, arguments.runs)),
    ]
    if driver.can_capture:
        checks.append(("graph", lambda: check_graph(driver)))
    if arguments.kernels is not None:
        library = load_kernels(arguments.kernels)
        checks.append(("warp_crop", lambda: check_warp_crop(driver, library)))
        checks.append(("paste", lambda: check_paste(driver, library)))
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


def check_events(driver: Driver) -> Result:
    """Time measured by events grows with the work."""
    stream, start, end = driver.stream_create(), driver.event_create(), driver.event_create()
    times = {}
    with DeviceBuffer(driver, 256 * MIB) as buffer:
        for size in (MIB, 256 * MIB):
            driver.fill(buffer.address, 1, size, stream)
            driver.event_record(start, stream)
            for _ in range(10):
                driver.fill(buffer.address, 1, size, stream)
            driver.event_record(end, stream)
            times[size] = driver.event_elapsed_ms(start, end)
    assert times[256 * MIB] >= times[MIB] > 0, times
    for event in (start, end):
        driver.event_destroy(event)
    driver.stream_destroy(stream)
    return {"fill_gb_s": round(10 * 256 * MIB / times[256 * MIB] / 1e6, 1)}


def check_streams_wait(driver: Driver) -> Result:
    """A stream that waits for an event sees what the other stream wrote before it."""
    first, second, event = driver.stream_create(), driver.stream_create(), driver.event_create()
    size = 256 * MIB
    with DeviceBuffer(driver, size) as buffer, HostBuffer(driver, 16) as host:
        for round_ in range(20):
            driver.fill(buffer.address, round_, size, first)
            driver.event_record(event, first)
            driver.stream_wait(second, event)
            driver.copy_to_host(host.host_address, buffer.address + size - 16, 16, second)
            driver.stream_synchronize(second)
            assert (host.array("uint8", (16,)) == round_).all()
            driver.stream_synchronize(first)
    driver.event_destroy(event)
    for stream in (first, second):
        driver.stream_destroy(stream)
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


def load_kernels(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path.resolve()))
    pointer, size, integer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.doppelgan_cuda_warp_crop.argtypes = [
        pointer, integer, integer, size, pointer, pointer, integer, pointer,
    ]  # fmt: skip
    library.doppelgan_cuda_paste.argtypes = [
        pointer, integer, integer, size, pointer, pointer, integer, pointer, pointer, pointer, pointer,
    ]  # fmt: skip
    library.doppelgan_cuda_error.restype = ctypes.c_char_p
    return library


# Scale (frame pixels per crop pixel), roll, center in the frame; several reach outside of it.
SQUARES = (
    (0.5, 0.0, 320.0, 180.0),
    (1.0, 0.3, 300.0, 200.0),
    (1.4, -0.7, 100.0, 50.0),
    (2.6, 1.2, 320.0, 180.0),
    (5.2, 3.0, 620.0, 340.0),
)
FRAME, SIDE = (360, 640, 3), 128


def similarity(scale: float, roll: float, x: float, y: float, size: int) -> np.ndarray:
    c, s, half = scale * math.cos(roll), scale * math.sin(roll), (size - 1) / 2
    return np.array([[c, -s, x - (c - s) * half], [s, c, y - (s + c) * half]])


def check_warp_crop(driver: Driver, library: ctypes.CDLL) -> Result:
    """Frame -> network input agrees with NumPy within 2e-5 (a level is 8e-3)."""
    random = np.random.default_rng(2)
    worst, stream = 0.0, driver.stream_create()
    frame_bytes, crop_bytes = math.prod(FRAME), 3 * SIDE * SIDE * 4
    with (
        HostBuffer(driver, frame_bytes) as host,
        DeviceBuffer(driver, frame_bytes) as image,
        DeviceBuffer(driver, crop_bytes) as crop,
        HostBuffer(driver, crop_bytes) as result,
    ):
        frame = host.array("uint8", FRAME)
        frame[:] = random.integers(0, 256, FRAME, np.uint8)

        def run(matrix: np.ndarray) -> None:
            check(library, library.doppelgan_cuda_warp_crop(
                image.address, FRAME[0], FRAME[1], FRAME[1] * 3,
                matrix.ctypes.data, crop.address, SIDE, stream,
            ))  # fmt: skip

        driver.copy_to_device(image.address, host.host_address, frame_bytes, stream)
        for square in SQUARES:
            matrix = similarity(*square, SIDE)
            expected = np.empty((3, SIDE, SIDE), np.float32)
            reference.warp_crop(frame, matrix, expected)
            run(matrix)
            driver.copy_to_host(result.host_address, crop.address, crop_bytes, stream)
            driver.stream_synchronize(stream)
            worst = max(worst, float(np.abs(result.array("float32", expected.shape) - expected).max()))
        assert worst < 2e-5, worst
        matrix = similarity(*SQUARES[1], SIDE)
        took_ms = median_ms(lambda: (run(matrix), driver.stream_synchronize(stream)))
    driver.stream_destroy(stream)
    return {"max_abs": worst, "ms": took_ms}


def check_paste(driver: Driver, library: ctypes.CDLL) -> Result:
    """Network output -> frame: at most one byte of a thousand differs, by one level.

    The GPU fuses multiplications and additions, so a half may round the other way.
    """
    random = np.random.default_rng(3)
    off, total, worst, stream = 0, 0, 0, driver.stream_create()
    frame_bytes, image_bytes, mask_bytes = math.prod(FRAME), 3 * SIDE * SIDE * 4, SIDE * SIDE * 4
    gain, offset = np.array([1.1, 0.9, 1.0], np.float32), np.array([0.02, -0.05, 0.0], np.float32)
    with (
        HostBuffer(driver, frame_bytes) as host,
        DeviceBuffer(driver, frame_bytes) as frame,
        HostBuffer(driver, image_bytes) as image_host,
        DeviceBuffer(driver, image_bytes) as image,
        HostBuffer(driver, mask_bytes) as mask_host,
        DeviceBuffer(driver, mask_bytes) as mask,
    ):
        image_array = image_host.array("float32", (3, SIDE, SIDE))
        image_array[:] = random.uniform(-1.2, 1.2, image_array.shape)
        mask_array = mask_host.array("float32", (SIDE, SIDE))
        mask_array[:] = random.uniform(0, 1, mask_array.shape)
        driver.copy_to_device(image.address, image_host.host_address, image_bytes, stream)
        driver.copy_to_device(mask.address, mask_host.host_address, mask_bytes, stream)

        def run(matrix: np.ndarray, masked: bool) -> None:
            check(library, library.doppelgan_cuda_paste(
                frame.address, FRAME[0], FRAME[1], FRAME[1] * 3,
                image.address, mask.address if masked else None,
                SIDE, matrix.ctypes.data, gain.ctypes.data, offset.ctypes.data, stream,
            ))  # fmt: skip

        for square in SQUARES:
            for masked in (False, True):
                matrix = similarity(*square, SIDE)
                array = host.array("uint8", FRAME)
                array[:] = random.integers(0, 256, FRAME, np.uint8)
                expected = array.copy()
                reference.paste(expected, image_array, mask_array if masked else None, matrix, gain, offset)
                driver.copy_to_device(frame.address, host.host_address, frame_bytes, stream)
                run(matrix, masked)
                driver.copy_to_host(host.host_address, frame.address, frame_bytes, stream)
                driver.stream_synchronize(stream)
                difference = np.abs(array.astype(int) - expected)
                worst = max(worst, int(difference.max()))
                off, total = off + int((difference > 0).sum()), total + difference.size
        assert worst <= 1, worst
        assert off / total < 1e-3, off / total
        matrix = similarity(*SQUARES[1], SIDE)
        took_ms = median_ms(lambda: (run(matrix, True), driver.stream_synchronize(stream)))
    driver.stream_destroy(stream)
    return {"max_levels": worst, "share_off": off / total, "ms": took_ms}


def check(library: ctypes.CDLL, error: int) -> None:
    assert error == 0, library.doppelgan_cuda_error(error).decode()


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
