"""Files of directions and of codes, whole and damaged.

Those of torch and safetensors are export's: ``tests/export/test_direction_files.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.edit import Direction, Editor
from doppelgan.runtime.edit.direction_files import load_codes, load_directions, parse_spec, save_codes
from doppelgan.runtime.errors import EditError

from .made_directions import N, W

NUMBERS = np.arange(1, W + 1, dtype=np.float32)


def test_ganspace_components_are_picked_and_named(tmp_path: Path, rng: np.random.Generator) -> None:
    k = 3
    comp = np.linalg.qr(rng.standard_normal((W, W)))[0][:k].astype(np.float32)
    mean, std = rng.standard_normal(W).astype(np.float32), np.array([3, 2, 1], np.float32)
    path = tmp_path / "pca.npz"
    np.savez(path, mean=mean[None], comp=comp[:, None], std=std)
    assert [d.name for d in load_directions(path, N, W)] == ["pca-0", "pca-1", "pca-2"]
    (direction,) = load_directions(f"eyes={path}:1,2,3", N, W)
    assert (direction.name, direction.kind, direction.rows) == ("eyes", "component", (2, 3))
    codes = rng.standard_normal((1, N, W)).astype(np.float32)
    expected = codes.copy()
    expected[0, 2] += (7 - (codes[0, 0] - mean) @ comp[1] / 2) * comp[1] * 2
    edited = Editor([direction], np.zeros((N, W), np.float32)).apply(codes, {"eyes": 7})
    np.testing.assert_allclose(edited, expected, atol=1e-5)
    with pytest.raises(EditError, match=r"index 0\.\.2, got 3"):
        load_directions(f"{path}:3", N, W)
    with pytest.raises(EditError, match=r"comp \[k,1,7\]"):
        load_directions(path, N, W + 1)


def test_columns_of_eigvec_are_directions(tmp_path: Path) -> None:
    matrix = np.arange(1, W * W + 1, dtype=np.float32).reshape(W, W)
    np.savez(tmp_path / "factor.npz", eigvec=matrix)
    (direction,) = load_directions(f"{tmp_path / 'factor.npz'}:2", N, W)
    assert direction.name == "factor-2"
    assert (direction.offset == matrix[:, 2]).all()


@pytest.mark.parametrize("name", ["grey", "gray", "Gray_Hair", "grey-hair"])
def test_a_direction_that_is_called_grey_takes_color_away(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "some.npz", **{name: NUMBERS, "greyhound": NUMBERS, "beard": NUMBERS})
    assert {d.name: d.hue for d in load_directions(tmp_path / "some.npz", N, W)} == {
        name: "fades",
        "greyhound": "",
        "beard": "",
    }
    np.save(tmp_path / "hair.npy", NUMBERS)
    (called,) = load_directions(f"{name}={tmp_path / 'hair.npy'}", N, W)
    assert called.hue == "fades"
    assert Direction.from_arrays(name, called.info, called.to_arrays(), N, W).hue == "fades"


def test_numpy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "old.npy", NUMBERS.astype(np.float64)[None])
    (old,) = load_directions(tmp_path / "old.npy", N, W)
    assert "only for the generator it was trained on" in old.note
    np.savez(tmp_path / "two.npz", up=NUMBERS, down=-np.tile(NUMBERS, (N, 1)))
    assert {d.name: d.offset[0, 0] for d in load_directions(tmp_path / "two.npz", N, W)} == {
        "up": 1,
        "down": -1,
    }


@pytest.mark.parametrize("kind", ["layers", "triples"])
def test_style_space_is_recognized_and_sent_to_export(tmp_path: Path, kind: str) -> None:
    if kind == "layers":
        np.savez(tmp_path / "s.npz", **{"0": np.zeros(8), "3": np.ones(8)})
    else:
        np.savez(tmp_path / "s.npz", s=np.array([[3, 1, 0.5]]))
    with pytest.raises(EditError, match="S inputs; doppelgan export"):
        load_directions(tmp_path / "s.npz", N, W)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.pt", ("a.pt", None, None, None)),
        ("x=a.pt", ("a.pt", "x", None, None)),
        ("a.pt:3", ("a.pt", None, 3, None)),
        ("x=dir/a.pt:3,7,8", ("dir/a.pt", "x", 3, (7, 8))),
        ("C:\\a.pt", ("C:\\a.pt", None, None, None)),
    ],
)
def test_parse_spec(text: str, parts: tuple[Any, ...]) -> None:
    spec = parse_spec(text)
    assert (str(spec.path), spec.name, spec.index, spec.rows) == parts


class Bomb:
    """Touches a file when a normal unpickler rebuilds it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def damaged(tmp_path: Path) -> dict[str, Path]:
    """Malformed twins of the files above."""
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("hello, this is not an array")
    np.save(tmp_path / "whole.npy", NUMBERS)
    (tmp_path / "half.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-4])
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    np.savez(tmp_path / "object.npz", w=np.array([{"a": 1}], object))
    np.save(tmp_path / "nan.npy", NUMBERS * np.nan)
    np.save(tmp_path / "zero.npy", NUMBERS * 0)
    np.save(tmp_path / "wide.npy", np.ones((1, W + 1)))
    np.save(tmp_path / "rows.npy", np.ones((1, N + 1, W)))
    np.save(tmp_path / "cube.npy", np.ones((2, N, W)))
    np.save(tmp_path / "scalar.npy", np.float32(1))
    np.savez(tmp_path / "whole.npz", d=NUMBERS)
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-30])
    np.savez(tmp_path / "nothing.npz", a=np.array("text"))
    for whole in ("whole.npy", "whole.npz"):
        assert load_directions(tmp_path / whole, N, W)
        (tmp_path / whole).unlink()
    return {path.name: path for path in tmp_path.iterdir()}


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    files = damaged(tmp_path)
    assert len(files) >= 14
    for name, path in [*files.items(), ("none.npy", tmp_path / "none.npy"), ("folder", tmp_path)]:
        for read in (load_directions, load_codes):
            if (read, name) == (load_codes, "zero.npy") or (read, name) == (load_codes, "cube.npy"):
                continue  # fine as a code: two people, and the zero code
            with pytest.raises(EditError) as caught:
                read(path, N, W)
            assert "\n" not in str(caught.value), name
            assert "expected" in str(caught.value), (name, str(caught.value))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("text.npy", "no file of NumPy"),
        ("half.npz", "cannot be read"),
        ("nothing.npz", "expected arrays of numbers, got none"),
        ("nan.npy", "NaN"),
        ("rows.npy", r"got \[1, 5, 6\]"),
    ],
)
def test_the_message_names_the_damage(tmp_path: Path, name: str, says: str) -> None:
    path = damaged(tmp_path)[name]
    with pytest.raises(EditError, match=says):
        load_directions(path, N, W)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_an_object_array_that_would_run_code_runs_nothing(tmp_path: Path, suffix: str) -> None:
    fired, path = tmp_path / "fired", tmp_path / f"evil.{suffix}"
    array = np.empty(1, object)
    array[0] = Bomb(fired)
    (np.save if suffix == "npy" else np.savez)(path, array)
    with pytest.raises(EditError, match="expected numbers"):
        load_directions(path, N, W)
    assert not fired.exists()


# Codes


@pytest.mark.parametrize(
    ("shape", "people"), [((W,), 1), ((1, W), 1), ((N, W), 1), ((1, N, W), 1), ((3, N, W), 3), ((3, 1, W), 3)]
)
def test_codes_of_w_and_w_plus(tmp_path: Path, rng: np.random.Generator, shape: Any, people: int) -> None:
    array = rng.standard_normal(shape)
    np.savez(tmp_path / "projected_w.npz", w=array)
    codes = load_codes(tmp_path / "projected_w.npz", N, W)
    assert codes.shape == (people, N, W)
    assert codes.dtype == np.float32
    np.testing.assert_allclose(codes[-1, -1], array.reshape(-1, W)[-1].astype(np.float32))


def test_a_saved_person_loads_again(tmp_path: Path, rng: np.random.Generator) -> None:
    codes = rng.standard_normal((2, N, W)).astype(np.float32)
    save_codes(tmp_path / "me.npz", codes)
    assert (load_codes(tmp_path / "me.npz", N, W) == codes).all()
    with pytest.raises(EditError, match="npz"):
        save_codes(tmp_path / "me.npy", codes)
    with pytest.raises(EditError, match="cannot be written"):
        save_codes(tmp_path / "none" / "me.npz", codes)


def test_codes_of_another_generator_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.ones((1, N + 2, W)))
    with pytest.raises(EditError, match=rf"\[N,{N},{W}\], got \[1, {N + 2}, {W}\]"):
        load_codes(tmp_path / "c.npy", N, W)
