"""The session contract on OpenVINO, and the precisions that this CPU has or lacks."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.backends import Session, TensorSpec, open_session
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.errors import BackendError
from doppelgan.runtime.measure.autotune import autotune
from onnx import helper

from .. import tiny

openvino = pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
from doppelgan.runtime.backends import openvino as backend

X = np.arange(6, dtype=np.float32)[None]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """w = 2 z."""
    path = tmp_path / "mapping.onnx"
    path.write_bytes(tiny.mapping())
    return open_session(path, backend="openvino", threads=1)


def test_specs_name_dtype_and_shape(session: Session) -> None:
    assert session.inputs == (TensorSpec("z", "float32", (1, 6)),)
    assert session.outputs == (TensorSpec("w", "float32", (1, 6)),)
    assert session.backend == "openvino CPU f32"


def test_outputs_keep_the_names_of_the_file_where_tensors_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "merged.onnx"
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["a_first"]),
        helper.make_node("Reshape", ["a_first", "same"], ["b_between"]),
        helper.make_node("Identity", ["b_between"], ["score"]),
    ]
    path.write_bytes(
        tiny.model(nodes, {"x": [1, 6]}, {"score": [1, 6]}, {"same": np.array([1, 6], np.int64)})
    )
    session = open_session(path, backend="openvino", threads=1)
    assert session.outputs == (TensorSpec("score", "float32", (1, 6)),)
    np.testing.assert_allclose(session.run({"x": X})["score"], 1 / (1 + np.exp(-X)), rtol=1e-5)


def test_results_are_the_callers_own_arrays(session: Session) -> None:
    first = session.run({"z": X})["w"]
    second = session.run({"z": -X})["w"]
    np.testing.assert_array_equal(first, 2 * X)
    np.testing.assert_array_equal(second, -2 * X)


def test_given_buffers_are_filled_and_only_those(session: Session) -> None:
    buffer = np.full((1, 6), np.nan, np.float32)
    assert session.run({"z": X}, {"w": buffer})["w"] is buffer
    np.testing.assert_array_equal(buffer, 2 * X)
    session.run({"z": -X})
    np.testing.assert_array_equal(buffer, 2 * X)
    with pytest.raises(BackendError, match="output buffer w: float32"):
        session.run({"z": X}, {"w": np.zeros((1, 12), np.float32)[:, ::2]})


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"z": X.astype(np.float64)}, "expected z: float32"),
        ({"z": X[:, :5]}, r"got float32 \[1, 5\]"),
        ({"y": X}, r"expected inputs \['z'\], got \['y'\]"),
    ],
)
def test_wrong_feeds_are_named(session: Session, feeds: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(BackendError, match=words):
        session.run(feeds)


def test_a_closed_session_says_so(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run({"z": X})


def test_options_and_files_it_cannot_use_are_backend_errors(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(BackendError, match="expected options threads, precision"):
        open_session(path, backend="openvino", color=1)
    with pytest.raises(BackendError, match=r"bad\.onnx"):
        open_session(path, backend="openvino")


def test_a_precision_that_the_cpu_lacks_is_refused_with_those_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "f32" in backend.cpu_precisions()
    monkeypatch.setattr(backend, "cpu_precisions", lambda: ("f32",))
    path = tmp_path / "mapping.onnx"
    path.write_bytes(tiny.mapping())
    with pytest.raises(BackendError, match=r"expected a precision of f32 .*got 'bf16'"):
        open_session(path, backend="openvino", precision="bf16")


def test_the_converter_that_reports_imports_to_its_maker_is_left_out(tiny_bundle: Path) -> None:
    code = f"""
import sys
from importlib.util import find_spec
from doppelgan.runtime.backends import open_session
open_session({str(tiny_bundle / "mapping.onnx")!r}, backend="openvino")
print(sorted(name for name in sys.modules if "telemetry" in name or "tools.ovc" in name))
print(find_spec("openvino.tools.ovc") is not None)  # others may still have it
"""
    quiet = {**os.environ, "CI": "true"}  # nothing is reported should this fail
    run = subprocess.run(
        [sys.executable, "-c", code], env=quiet, capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.split() == ["[]", "True"]


def test_a_version_that_insists_on_its_converter_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "openvino"
    (package / "tools" / "ovc").mkdir(parents=True)
    (package / "__init__.py").write_text("import openvino.tools.ovc\nCore = lambda: 'core'\n")
    for folder in (package / "tools", package / "tools" / "ovc"):
        (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    mine = {name: sys.modules[name] for name in sys.modules if name.partition(".")[0] == "openvino"}
    for name in mine:
        monkeypatch.delitem(sys.modules, name)
    try:
        assert backend._core.__wrapped__() == "core"
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
            del sys.modules[name]
        sys.modules.update(mine)


def test_a_bundle_runs_the_same_on_both_backends(tiny_bundle: Path) -> None:
    codes = np.random.default_rng(1).normal(size=(1, tiny.STYLES, tiny.W_DIM)).astype(np.float32)
    with open_bundle(tiny_bundle) as one, open_bundle(tiny_bundle, backend="openvino", threads=1) as other:
        np.testing.assert_allclose(other.synthesize(codes), one.synthesize(codes), atol=1e-6)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of what OpenVINO compiled, in a cache of this test."""
    monkeypatch.setenv("DOPPELGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


def refuse_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_model(*_: object) -> None:
        raise RuntimeError("compiled again")

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)


def test_a_network_of_a_verified_bundle_is_compiled_once(
    tiny_bundle: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = np.random.default_rng(1).normal(size=(1, tiny.STYLES, tiny.W_DIM)).astype(np.float32)
    with open_bundle(tiny_bundle, backend="openvino", threads=1) as bundle:
        want, specs = bundle.synthesize(codes), bundle.session("encoder").outputs
    assert len(list(kept.iterdir())) == 2
    refuse_to_compile(monkeypatch)
    with open_bundle(tiny_bundle, backend="openvino", threads=1) as bundle:
        np.testing.assert_array_equal(bundle.synthesize(codes), want)
        assert bundle.session("encoder").outputs == specs
    # Other threads, other files: nothing is taken for what it is not.
    for options in ({"threads": 2}, {"threads": 1, "verify": False}):
        with (
            open_bundle(tiny_bundle, backend="openvino", **options) as bundle,
            pytest.raises(BackendError, match="compiled again"),
        ):
            bundle.synthesize(codes)


def test_nothing_is_kept_of_files_that_nobody_vouched_for(tiny_bundle: Path, kept: Path) -> None:
    with open_bundle(tiny_bundle, backend="openvino", verify=False) as bundle:
        bundle.session("mapping")
    open_session(tiny_bundle / "mapping.onnx", backend="openvino").close()
    assert not kept.exists()


@pytest.mark.parametrize("damage", ["broken", "no network of OpenVINO"])
def test_a_damaged_or_unreadable_compiled_network_is_made_anew(
    tiny_bundle: Path, kept: Path, damage: str
) -> None:
    z = np.random.default_rng(1).normal(size=(1, 6)).astype(np.float32)
    with open_bundle(tiny_bundle, backend="openvino", threads=1) as bundle:
        want = bundle.map(z)
    (path,) = kept.iterdir()
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(changed) // 2] ^= 1
    if damage != "broken":  # the digest is right, the content is not
        changed = bytearray(hashlib.sha256(b"nonsense").digest() + b"nonsense")
    path.write_bytes(changed)
    with open_bundle(tiny_bundle, backend="openvino", threads=1) as bundle:
        np.testing.assert_array_equal(bundle.map(z), want)
    assert len(path.read_bytes()) == len(whole)
    assert path.read_bytes() != changed


def test_compile_leaves_its_choices_ready_for_the_first_start(
    tiny_bundle: Path, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    autotune(copy, backends=["openvino"], precisions=["float32"], samples=2, rounds=3)
    refuse_to_compile(monkeypatch)
    with open_bundle(copy) as bundle:
        assert {bundle.session(name).backend for name in bundle.manifest.networks} == {"openvino CPU f32"}
