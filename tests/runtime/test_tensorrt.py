"""The TensorRT session on a fake GPU: order of calls, sizes, lifetimes, chaining, and what it refuses."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime import open_bundle
from doppelgan.runtime.backends import open_session
from doppelgan.runtime.backends.tensorrt import session as backend
from doppelgan.runtime.backends.tensorrt.engine_record import RECORD, Engine, record_folders, store_engine
from doppelgan.runtime.backends.tensorrt.session import TensorRtSession
from doppelgan.runtime.errors import BackendError

from tests.fake_cuda import ORIN, FakeDriver

from .. import fake_tensorrt

Z = np.arange(6, dtype=np.float32)[None]
PLAN = fake_tensorrt.plan({"z": (1, 6)}, {"w": (1, 6)})


def session(
    driver: FakeDriver, plan: bytes = PLAN, name: str = "mapping.onnx", **options: Any
) -> TensorRtSession:
    trt = fake_tensorrt.module("tensorrt", "10.3.0", driver)
    return TensorRtSession(name, plan, trt, driver, **options)


def test_it_computes_through_device_memory() -> None:
    driver = FakeDriver()
    opened = session(driver, precision="float16")
    assert [str(spec) for spec in (*opened.inputs, *opened.outputs)] == [
        "z: float32 [1, 6]",
        "w: float32 [1, 6]",
    ]
    assert opened.backend == "tensorrt NVIDIA GeForce RTX 3060 float16"
    for factor in (1, -1, 3, 5):
        np.testing.assert_array_equal(opened.run({"z": factor * Z})["w"], 2 * factor * Z)
    opened.close()
    assert driver.alive() == []


def test_memory_is_allocated_once_and_a_graph_is_captured_on_the_second_run() -> None:
    driver = FakeDriver()
    opened = session(driver)
    assert sorted(driver.alive()) == ["device 24", "device 24", "pinned 24", "pinned 24", "stream"]
    driver.calls.clear()
    opened.run({"z": Z})
    assert driver.calls == ["to_device 24", "execute w", "to_host 24", "synchronize"]
    driver.calls.clear()
    opened.run({"z": Z})
    assert driver.calls == [
        "synchronize", "capture_begin", "to_device 24", "execute w", "capture_end", "graph_launch",
        "to_host 24", "synchronize",
    ]  # fmt: skip
    for _ in range(3):
        driver.calls.clear()
        opened.run({"z": Z})
        assert driver.calls == ["synchronize", "graph_launch", "to_host 24", "synchronize"]
    opened.close()
    assert driver.alive() == []


@pytest.mark.parametrize("options", [{"graph": False}, {}])
def test_without_graphs_every_run_is_queued(options: dict[str, bool]) -> None:
    driver = FakeDriver(can_capture=bool(options))
    opened = session(driver, **options)
    for _ in range(3):
        driver.calls.clear()
        np.testing.assert_array_equal(opened.run({"z": Z})["w"], 2 * Z)
    assert driver.calls == ["synchronize", "to_device 24", "execute w", "to_host 24", "synchronize"]


def test_shared_memory_needs_no_copies() -> None:
    driver = FakeDriver(ORIN)
    opened = session(driver)
    assert sorted(driver.alive()) == ["pinned 24", "pinned 24", "stream"]
    for factor in (1, 2, 3):
        np.testing.assert_array_equal(opened.run({"z": factor * Z})["w"], 2 * factor * Z)
    assert not any(call.startswith(("to_", "on_")) for call in driver.calls)
    opened.close()
    assert driver.alive() == []


def test_given_buffers_are_filled_and_results_are_the_callers_own() -> None:
    opened = session(FakeDriver())
    buffer = np.full((1, 6), np.nan, np.float32)
    assert opened.run({"z": Z}, {"w": buffer})["w"] is buffer
    kept = opened.run({"z": -Z})["w"]
    opened.run({"z": 9 * Z})
    np.testing.assert_array_equal(buffer, 2 * Z)
    np.testing.assert_array_equal(kept, -2 * Z)
    with pytest.raises(BackendError, match="output buffer w: float32"):
        opened.run({"z": Z}, {"w": np.zeros((1, 12), np.float32)[:, ::2]})
    with pytest.raises(BackendError, match="expected z: float32"):
        opened.run({"z": Z.astype(np.float64)})


def test_a_closed_session_says_so_and_closes_twice() -> None:
    opened = session(FakeDriver())
    opened.run({"z": Z})
    opened.close()
    opened.close()
    for use in (lambda: opened.run({"z": Z}), opened.fetch, lambda: opened.address("z")):
        with pytest.raises(BackendError, match="expected an open session, got a closed one"):
            use()


def test_a_session_that_cannot_open_leaves_nothing_behind() -> None:
    driver = FakeDriver()
    with pytest.raises(BackendError, match="out of memory"):
        session(driver, fake_tensorrt.plan({"z": (1, 6)}, {"w": (1 << 32, 6)}))
    with pytest.raises(BackendError, match=r"can load, got Error Code 1: Serialization \(magic tag"):
        session(driver, b"not an engine")
    with pytest.raises(BackendError, match="expected a fixed shape of z"):
        session(driver, fake_tensorrt.plan({"z": (-1, 6)}, {"w": (1, 6)}))
    assert driver.alive() == []


def test_a_failing_engine_is_reported_also_under_capture() -> None:
    driver = FakeDriver()
    trt = fake_tensorrt.module("tensorrt", "10.3.0", driver)
    opened = TensorRtSession("mapping.onnx", PLAN, trt, driver)
    opened.run({"z": Z})
    trt.engines[0].contexts[0].fails = True
    for _ in range(2):
        with pytest.raises(BackendError, match="the engine failed"):
            opened.run({"z": Z})
    opened.close()
    assert driver.alive() == []


# Which engine is opened


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of this test's own, with one engine for the mapping network."""
    path = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, path)
    add_engine(path)
    return path


def add_engine(bundle: Path, **changes: Any) -> Path:
    folder = record_folders(bundle)[0]
    entry = {
        "network": "mapping", "precision": "float32", "file": "mapping.engine",
        "sha256": hashlib.sha256(PLAN).hexdigest(),
        "source_sha256": hashlib.sha256((bundle / "mapping.onnx").read_bytes()).hexdigest(),
        "onnx_sha256": "", "product": "tensorrt", "version": "10.3.0", "arch": "sm86",
        "platform": backend.this_platform(), "size": len(PLAN), "weights": 0, "activations": 0, "layers": {},
    }  # fmt: skip
    return store_engine(folder, Engine(**{**entry, **changes}), PLAN)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """TensorRT 10.3 and an RTX 3060."""
    driver = FakeDriver()
    trt = fake_tensorrt.module("tensorrt", "10.3.0", driver)
    monkeypatch.setattr(backend, "find_tensorrt", lambda: trt)
    monkeypatch.setattr(backend, "open_driver", lambda: driver)
    return driver


def test_the_engine_of_this_network_version_and_gpu_is_opened(bundle: Path, machine: FakeDriver) -> None:
    opened = open_session(bundle / "mapping.onnx", backend="tensorrt", threads=2)
    np.testing.assert_array_equal(opened.run({"z": Z})["w"], 2 * Z)
    opened.close()
    with open_bundle(bundle, backend="tensorrt") as whole:
        np.testing.assert_array_equal(whole.map(Z), 2 * Z)
    assert machine.alive() == []


def test_float16_is_preferred_unless_a_precision_is_asked_for(bundle: Path, machine: FakeDriver) -> None:
    add_engine(bundle, precision="float16", file="half.engine")
    with_choice = {
        precision: open_session(bundle / "mapping.onnx", backend="tensorrt", precision=precision).backend
        for precision in (None, "float16", "float32")
    }
    assert [text.split()[-1] for text in with_choice.values()] == ["float16", "float16", "float32"]
    with pytest.raises(BackendError, match=r"expected an engine in int8 for TensorRT 10\.3\.0"):
        open_session(bundle / "mapping.onnx", backend="tensorrt", precision="int8")


@pytest.mark.parametrize(
    "changes", [{"version": "10.4.0"}, {"arch": "sm87"}, {"product": "tensorrt_rtx"}, {"platform": "Plan 9"}]
)
def test_an_engine_for_something_else_is_explained(
    tiny_bundle: Path, tmp_path: Path, machine: FakeDriver, changes: dict[str, str]
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "b")
    add_engine(tmp_path / "b", **changes)
    with pytest.raises(
        BackendError, match=r"an engine for TensorRT 10\.3\.0 sm86 .*got only TensorRT"
    ) as info:
        open_session(tmp_path / "b" / "mapping.onnx", backend="tensorrt")
    message = str(info.value)
    assert f"`doppelgan compile {tmp_path / 'b'} --for tensorrt` on this machine" in message
    assert "\n" not in message


def test_no_engine_at_all_tells_how_to_build_one(bundle: Path, machine: FakeDriver) -> None:
    with pytest.raises(BackendError, match="got none; run `doppelgan compile"):
        open_session(bundle / "synthesis.onnx", backend="tensorrt")


def test_engines_that_nobody_vouches_for_stay_closed(bundle: Path, machine: FakeDriver) -> None:
    folder = record_folders(bundle)[0]
    (folder / "mapping.engine").write_bytes(fake_tensorrt.plan({"z": (1, 6)}, {"w": (1, 6)}, "float16"))
    with pytest.raises(BackendError, match="engines are code and this one is not what was built"):
        open_session(bundle / "mapping.onnx", backend="tensorrt")
    (folder / RECORD).unlink()
    with pytest.raises(BackendError, match="got none"):
        open_session(bundle / "mapping.onnx", backend="tensorrt")


def test_an_engine_of_another_network_is_not_taken(bundle: Path, machine: FakeDriver) -> None:
    (bundle / "mapping.onnx").write_bytes((bundle / "synthesis.onnx").read_bytes())
    with pytest.raises(BackendError, match="got none"):
        open_session(bundle / "mapping.onnx", backend="tensorrt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not a record of engines"),
        (b'{"format": "doppelgan-engines", "version": 2, "engines": []}', "expected doppelgan-engines 1"),
    ],
)
def test_a_damaged_record_is_named(bundle: Path, machine: FakeDriver, content: bytes, words: str) -> None:
    (record_folders(bundle)[0] / RECORD).write_bytes(content)
    with pytest.raises(BackendError, match=words):
        open_session(bundle / "mapping.onnx", backend="tensorrt")


def test_a_record_cannot_point_outside_of_its_folder(bundle: Path, machine: FakeDriver) -> None:
    record = record_folders(bundle)[0] / RECORD
    record.write_text(record.read_text().replace("mapping.engine", "../../mapping.onnx"))
    with pytest.raises(BackendError, match="expected a file name beside the record"):
        open_session(bundle / "mapping.onnx", backend="tensorrt")


def test_storing_again_replaces_the_entry(bundle: Path) -> None:
    add_engine(bundle, file="second.engine")
    record = (record_folders(bundle)[0] / RECORD).read_text()
    assert "second.engine" in record
    assert "mapping.engine" not in record


def test_what_is_missing_is_said_in_one_line(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "PRODUCTS", {"no_such_tensorrt": "TensorRT"})
    with pytest.raises(
        BackendError, match="expected no_such_tensorrt to be installed, got none; JetPack brings"
    ):
        open_session(bundle / "mapping.onnx", backend="tensorrt")
    with pytest.raises(BackendError, match="expected options precision, driver, graph; got"):
        open_session(bundle / "mapping.onnx", backend="tensorrt", color=1)
