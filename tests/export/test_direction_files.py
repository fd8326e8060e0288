"""Directions in files that torch and safetensors wrote, whole and damaged, and published ones."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doppelgan.export.checkpoints.array_files import read_arrays
from doppelgan.runtime.edit import Direction, Editor, load_directions
from doppelgan.runtime.edit.direction_files import StyleSpaceOffset, read_directions
from doppelgan.runtime.errors import EditError
from safetensors.torch import save_file

N, W = 4, 6  # n_styles, w_dim of the made-up generator
SHARED = Path(os.environ.get("DOPPELGAN_SHARED", Path(__file__).parents[2].parent / "shared"))
REAL = SHARED / "conformance" / "directions"
NUMBERS = np.arange(1, W + 1, dtype=np.float32)


def read(text: str | Path, n_styles: int = N, w_dim: int = W) -> list[Direction]:
    directions = read_directions(text, n_styles, w_dim, read_arrays)
    assert not any(isinstance(direction, StyleSpaceOffset) for direction in directions)
    return directions  # type: ignore[return-value]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_one_row_fills_all_rows(tmp_path: Path, zipped: bool) -> None:
    torch.save(torch.tensor(NUMBERS)[None], tmp_path / "age.pt", _use_new_zipfile_serialization=zipped)
    (direction,) = read(tmp_path / "age.pt")
    assert (direction.name, direction.ends, direction.range) == ("age", ("younger", "older"), (-5, 5))
    assert (direction.offset == NUMBERS).all()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_strides_parameters_and_dicts_are_followed(tmp_path: Path, zipped: bool) -> None:
    numbers = np.random.default_rng(7).standard_normal((N, W)).astype(np.float32)
    tensor = torch.tensor(numbers)
    strided = torch.zeros(2 + N * W)[2:].reshape(W, N).T  # an offset and strides
    strided.copy_(tensor)
    for value in (tensor, strided, torch.nn.Parameter(tensor), {"d": tensor[None]}, [{"d": tensor}]):
        torch.save(value, tmp_path / "d.pt", _use_new_zipfile_serialization=zipped)
        (direction,) = read(tmp_path / "d.pt")
        np.testing.assert_array_equal(direction.offset, numbers)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_number_types(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    path, tensor = tmp_path / f"d.{kind}", torch.tensor(NUMBERS).to(dtype)
    if kind == "torch":
        torch.save(tensor, path)
    else:
        save_file({"d": tensor}, path)
    assert (read(path)[0].offset == NUMBERS).all()


def test_ganspace_components_are_picked_and_named(tmp_path: Path) -> None:
    rng, k = np.random.default_rng(7), 3
    comp = np.linalg.qr(rng.standard_normal((W, W)))[0][:k].astype(np.float32)
    mean, std = rng.standard_normal(W).astype(np.float32), np.array([3, 2, 1], np.float32)
    strided = torch.tensor(comp.T.copy()).T[:, None]  # as in the published file
    path = tmp_path / "pca.pt"
    torch.save({"mean": torch.tensor(mean)[None], "comp": strided, "std": torch.tensor(std)}, path)
    assert [d.name for d in read(path)] == ["pca-0", "pca-1", "pca-2"]
    (direction,) = read(f"eyes={path}:1,2,3")
    assert (direction.name, direction.kind, direction.rows) == ("eyes", "component", (2, 3))
    codes = rng.standard_normal((1, N, W)).astype(np.float32)
    expected = codes.copy()
    expected[0, 2] += (7 - (codes[0, 0] - mean) @ comp[1] / 2) * comp[1] * 2
    edited = Editor([direction], np.zeros((N, W), np.float32)).apply(codes, {"eyes": 7})
    np.testing.assert_allclose(edited, expected, atol=1e-5)
    with pytest.raises(EditError, match=r"index 0\.\.2, got 3"):
        read(f"{path}:3")
    with pytest.raises(EditError, match=r"comp \[k,1,7\]"):
        read(path, N, W + 1)


def test_columns_of_eigvec_are_directions(tmp_path: Path) -> None:
    matrix = np.arange(1, W * W + 1, dtype=np.float32).reshape(W, W)
    torch.save({"ckpt": "model.pt", "eigvec": torch.tensor(matrix)}, tmp_path / "factor.pt")
    (direction,) = read(f"{tmp_path / 'factor.pt'}:2")
    assert direction.name == "factor-2"
    assert (direction.offset == matrix[:, 2]).all()


def test_numpy_files_are_read_as_well(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", up=NUMBERS, down=-NUMBERS)
    assert [d.name for d in read(tmp_path / "two.npz")] == ["up", "down"]


def test_the_runtime_sends_such_files_to_export(tmp_path: Path) -> None:
    torch.save(torch.tensor(NUMBERS), tmp_path / "zip.pt")
    torch.save(torch.tensor(NUMBERS), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file({"d": torch.tensor(NUMBERS)}, tmp_path / "d.safetensors")
    for path in list(tmp_path.iterdir()):
        with pytest.raises(EditError, match=r"expected a \.npy or \.npz file, got a torch or"):
            load_directions(path, N, W)


class Bomb:
    """Touches a file when a normal unpickler rebuilds it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("layout", ["zip", "legacy", "bare"])
def test_a_pickle_that_would_run_code_runs_nothing(tmp_path: Path, layout: str) -> None:
    fired, path = tmp_path / "fired", tmp_path / "evil.pt"
    if layout == "bare":
        path.write_bytes(pickle.dumps({"direction": Bomb(fired)}, 2))
    else:
        torch.save({"direction": Bomb(fired)}, path, _use_new_zipfile_serialization=layout == "zip")
    if layout != "bare":
        torch.load(path, weights_only=False)
        assert fired.exists(), "the bomb must be live for this test to mean anything"
        fired.unlink()
    with pytest.raises(EditError, match=r"nothing in it was run|torch or safetensors"):
        read(path)
    assert not fired.exists()


def nested(depth: int) -> Any:
    value: Any = torch.tensor(NUMBERS)
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.tensor(NUMBERS).expand(1 << 40, W), "is larger than any code"),
        (nested(20), "got more than 10000 entries"),
        ({"a": "text"}, "expected arrays of numbers, got none"),
        (torch.zeros(0, W), "expected arrays of numbers, got none"),
        (torch.tensor(NUMBERS) * float("nan"), "NaN"),
        (torch.zeros(1, N + 1, W), r"got \[1, 5, 6\]"),
        (torch.tensor([True, False]), "expected arrays of numbers, got none"),
    ],
    ids=["huge", "nested", "text", "empty", "nan", "rows", "bool"],
)
def test_what_is_no_direction_is_named(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "d.pt")
    with pytest.raises(EditError, match=message) as caught:
        read(tmp_path / "d.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "npy", "npz"])
def test_damaged_files_are_named_and_nothing_worse(tmp_path: Path, kind: str) -> None:
    path, tensor = tmp_path / "d.bin", torch.arange(300.0).reshape(50, W)
    if kind in ("zip", "legacy"):
        torch.save({"d": tensor}, path, _use_new_zipfile_serialization=kind == "zip")
    elif kind == "safetensors":
        save_file({"d": tensor}, path)
    else:
        with path.open("wb") as file:
            (np.save if kind == "npy" else np.savez_compressed)(file, tensor.numpy())
    whole, draw, messages = path.read_bytes(), np.random.default_rng(5), list[str]()
    for _ in range(80):
        data = bytearray(whole)
        place = int(draw.integers(0, len(data) if draw.random() < 0.5 else min(len(data), 250)))
        data[place] ^= 1 << int(draw.integers(0, 8))
        path.write_bytes(data[: len(data) - int(draw.integers(1, len(data)) * (draw.random() < 0.3))])
        try:
            read_arrays(path)
        except EditError as error:
            messages.append(str(error))
    assert len(messages) >= 20
    assert not any("\n" in message for message in messages)


def test_a_safetensors_header_beyond_the_end_is_damage(tmp_path: Path) -> None:
    (tmp_path / "json.safetensors").write_bytes(struct.pack("<Q", 8) + b"{" + b"x" * 20)
    with pytest.raises(EditError, match="expected a complete safetensors file, got a damaged one"):
        read(tmp_path / "json.safetensors")


@pytest.mark.skipif(not REAL.is_dir(), reason="shared conformance material is not beside this checkout")
def test_published_directions() -> None:
    for name in ("age", "smile", "pose"):
        (direction,) = read(REAL / f"{name}.pt", 18, 512)
        np.testing.assert_allclose(np.linalg.norm(direction.offset, axis=1), 1, atol=1e-5)
    with pytest.raises(EditError, match=r"\[1,14,512\], got \[1, 18, 512\]"):
        read(REAL / "pose.pt", 14, 512)
    components = read(REAL / "ffhq_pca.pt", 18, 512)
    axes = np.stack([d.offset[0] / np.linalg.norm(d.offset[0]) for d in components])
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-4)  # only if strides were respected
    (eyes,) = read(f"{REAL / 'ffhq_pca.pt'}:54,7,8", 18, 512)
    codes = np.random.default_rng(7).standard_normal((1, 18, 512)).astype(np.float32)
    edited = Editor([eyes], np.zeros((18, 512), np.float32)).apply(codes, {eyes.name: 12})
    changed = np.flatnonzero((edited != codes).any(axis=(0, 2)))
    assert changed.tolist() == [7]
