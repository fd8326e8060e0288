"""The session contract, shown on ONNX Runtime and on the fake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.backends import Session, TensorSpec, open_session
from doppelgan.runtime.errors import BackendError

from tests.fake_session import FakeSession

from .. import tiny

X = np.arange(6, dtype=np.float32)[None]


@pytest.fixture(params=["onnxruntime", "fake"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Session:
    """w = 2 z."""
    if request.param == "fake":
        specs = [TensorSpec("z", "float32", (1, 6))], [TensorSpec("w", "float32", (1, 6))]
        return FakeSession(*specs, lambda feeds: {"w": 2 * feeds["z"]})
    path = tmp_path / "mapping.onnx"
    path.write_bytes(tiny.mapping())
    return open_session(path, threads=1)


def test_specs_name_dtype_and_shape(session: Session) -> None:
    assert session.inputs == (TensorSpec("z", "float32", (1, 6)),)
    assert str(session.outputs[0]) == "w: float32 [1, 6]"


def test_run_allocates_or_fills_the_given_buffer(session: Session) -> None:
    np.testing.assert_array_equal(session.run({"z": X})["w"], 2 * X)
    buffer = np.full((1, 6), np.nan, np.float32)
    result = session.run({"z": X}, {"w": buffer})["w"]
    assert result is buffer
    np.testing.assert_array_equal(buffer, 2 * X)


def test_inputs_that_are_not_contiguous_are_taken(session: Session) -> None:
    wide = np.repeat(X, 2, axis=1)[:, ::2]
    assert not wide.flags.c_contiguous
    np.testing.assert_array_equal(session.run({"z": wide})["w"], 2 * X)


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"z": X.astype(np.float64)}, "expected z: float32"),
        ({"z": X[:, :5]}, r"got float32 \[1, 5\]"),
        ({"y": X}, r"expected inputs \['z'\], got \['y'\]"),
    ],
)
def test_wrong_feeds_are_named(session: Session, feeds, words) -> None:
    with pytest.raises(BackendError, match=words):
        session.run(feeds)


def test_closing_twice_is_allowed(session: Session) -> None:
    session.close()
    session.close()


def test_unknown_backend_option_provider_and_file_are_backend_errors(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(BackendError, match="expected one of onnxruntime"):
        open_session(path, backend="caffe")
    with pytest.raises(BackendError, match="expected options"):
        open_session(path, color=1)
    with pytest.raises(BackendError, match="onnxruntime-gpu"):
        open_session(path, providers=["NoSuchProvider"])
    with pytest.raises(BackendError, match=r"bad\.onnx"):
        open_session(path)
