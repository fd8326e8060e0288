"""What is looked for in wheels and source distributions (`install`) is found there."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from .install import NEEDED, source_faults, wheel_faults

MODULE = "doppelgan/runtime/native/_native.abi3.so"


def wheel(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


def test_a_wheel_with_all_and_nothing_else_has_no_faults(tmp_path: Path) -> None:
    names = (*NEEDED, MODULE, "doppelgan-0.1.0.dist-info/METADATA")
    assert wheel_faults(wheel(tmp_path / "doppelgan-0.1.0-cp312-abi3-linux_x86_64.whl", *names)) == []


@pytest.mark.parametrize(
    "name",
    [
        "doppelgan/tests/test_cli.py",
        "doppelgan/runtime/backends/fake.py",
        "doppelgan/training/fit/run.py",
        "doppelgan/engines/mine/encoder.onnx",
        "doppelgan/engines/demo/compiled/record.json",
        "doppelgan/runtime/native/pixels/drawing.cpp",
        "training/state/regressor.pt",
    ],
)
def test_what_does_not_belong_into_a_wheel_is_named(tmp_path: Path, name: str) -> None:
    path = wheel(tmp_path / "doppelgan-0.1.0-cp312-abi3-linux_x86_64.whl", *NEEDED, MODULE, name)
    assert wheel_faults(path) == [f"{path.name} carries {name}"]


@pytest.mark.parametrize("missing", NEEDED)
def test_what_a_wheel_lacks_is_named(tmp_path: Path, missing: str) -> None:
    names = [name for name in (*NEEDED, MODULE) if name != missing]
    path = wheel(tmp_path / "doppelgan-0.1.0-cp312-abi3-linux_x86_64.whl", *names)
    assert wheel_faults(path) == [f"{path.name} lacks {missing}"]


def test_only_a_pure_wheel_may_lack_the_compiled_module(tmp_path: Path) -> None:
    assert wheel_faults(wheel(tmp_path / "doppelgan-0.1.0-py3-none-any.whl", *NEEDED)) == []
    path = wheel(tmp_path / "doppelgan-0.1.0-cp310-cp310-linux_x86_64.whl", *NEEDED)
    assert wheel_faults(path) == [f"{path.name} lacks the compiled module"]


def test_training_state_in_a_source_distribution_is_named(tmp_path: Path) -> None:
    path = tmp_path / "doppelgan-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("doppelgan-0.1.0/runtime/types.py", "doppelgan-0.1.0/training/state/regressor.pt"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert source_faults(path) == [f"{path.name} carries doppelgan-0.1.0/training/state/regressor.pt"]
