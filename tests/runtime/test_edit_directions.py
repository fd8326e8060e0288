"""Directions, each by itself: what one checks and keeps; files of directions, of people and of arrays."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.edit import Direction, load_directions
from doppelgan.runtime.edit import array_file as array_file_module
from doppelgan.runtime.edit.array_file import flattened, read_array_file
from doppelgan.runtime.edit.direction_files import (
    MANY,
    StyleSpaceOffset,
    load_codes,
    parse_spec,
    read_directions,
    save_codes,
)
from doppelgan.runtime.errors import EditError

N, W = 4, 6  # n_styles, w_dim of the made-up generator
INF, NAN = float("inf"), float("nan")
ROW = np.arange(1, W + 1, dtype=np.float32)


AFFINE = {"probes": np.ones((2, W)), "steps": np.ones((2, N, W))}


def direction(**settings: Any) -> Direction:
    return Direction(**{"name": "a", "offset": np.ones((N, W), np.float32), **settings})


# What a direction checks


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "Az_0-9"},
        {"offset": np.ones((1, 1))},  # the smallest there is
        {"rows": (0, N)},
        {"rows": (0, 1)},
        {"rows": (N - 1, N)},
        {"range": (-2.0, -1.0)},
        {"probe": np.ones(W), "origin": -3.0},
        {"probe": np.ones(W), "bounds": (-1.0, -0.5)},
        {"probe": np.ones(W), "returns": True},
        {"probes": np.ones((1, W)), "steps": np.ones((1, N, W)), "hue": "fades"},
    ],
)
def test_what_makes_sense_is_taken(settings: dict[str, Any]) -> None:
    made = direction(**settings)
    plain = {name: value for name, value in settings.items() if not isinstance(value, np.ndarray)}
    assert {name: getattr(made, name) for name in plain} == plain


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": ""}, "expected letters"),
        ({"name": "a\n"}, "expected letters"),
        ({"offset": np.ones((N, W, 1))}, r"expected \[n_styles, w_dim\], got \[4, 6, 1\]"),
        ({"offset": np.zeros((0, W))}, r"expected \[n_styles, w_dim\], got \[0, 6\]"),
        ({"offset": np.full((N, W), INF)}, "got NaN or infinity"),
        ({"rows": (-1, 2)}, r"within 0\.\.4, got -1\.\.2; choose other rows"),
        ({"rows": (2, 2)}, r"got 2\.\.2"),
        ({"rows": (3, 2)}, r"got 3\.\.2"),
        ({"range": (-1.0, INF)}, r"got -1\.0\.\.inf"),
        ({"range": (-INF, 1.0)}, r"got -inf\.\.1\.0"),
        ({"range": (NAN, 1.0)}, r"got nan\.\.1\.0"),
        ({"range": (1.0, -1.0)}, "low < high"),
        ({"probe": np.full(W, NAN)}, r"expected a finite probe \[w_dim\], got \[6\]"),
        ({"probe": np.ones((1, W))}, r"got \[1, 6\]"),
        ({"probe": np.ones(W), "origin": NAN}, "expected a finite origin, got nan"),
        ({"origin": -INF}, "expected a finite origin, got -inf"),
        ({"probe": np.ones(W), "bounds": (0.0, INF)}, r"got 0\.0\.\.inf$"),
        ({"probe": np.ones(W), "bounds": (-INF, 0.0)}, r"got -inf\.\.0\.0$"),
        ({"probe": np.ones(W), "bounds": (1.0, 1.0)}, r"got 1\.0\.\.1\.0$"),
        ({"bounds": (0.0, 1.0)}, r"got 0\.0\.\.1\.0 without a probe$"),
        ({"probes": np.ones((2, W))}, "expected probes with steps"),
        ({"steps": np.ones((2, N, W))}, "expected probes with steps"),
        ({"probe": np.ones(W), **AFFINE}, "and no other probe"),
        ({**AFFINE, "probes": np.ones((3, W))}, r"steps \[k,4,6\], got \[3, 6\] and \[2, 4, 6\]"),
        ({**AFFINE, "probes": np.ones((0, W)), "steps": np.ones((0, N, W))}, r"got \[0, 6\]"),
        ({**AFFINE, "steps": np.full((2, N, W), NAN)}, "expected finite probes and steps"),
        ({"returns": True}, "expected a probe and no bounds to return to"),
        ({"returns": True, "probe": np.ones(W), "bounds": (0.0, 1.0)}, "no bounds to return to"),
    ],
)
def test_what_makes_no_sense_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(EditError, match=says):
        direction(**settings)


def test_a_direction_stays_as_it_was_made() -> None:
    offset, probe = np.ones((N, W)), np.ones(W)
    made = direction(offset=offset, probe=probe, rows=(1, 3))
    offset[:], probe[:] = 9, 9
    assert made.offset[:, 0].tolist() == [0, 1, 1, 0]
    assert made.probe is not None
    assert made.probe.tolist() == [1] * W
    assert made.offset.dtype == made.probe.dtype == np.float32
    for array in (made.offset, made.probe):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "b"  # type: ignore[misc]
    assert made != direction(offset=offset, probe=probe, rows=(1, 3))  # its arrays are not compared


def test_without_settings_a_direction_goes_from_less_to_more_everywhere() -> None:
    made = direction()
    assert (made.range, made.ends, made.kind, made.limit) == ((-1.0, 1.0), ("less", "more"), "offset", 3.0)
    assert made.move(np.zeros((2, N, W), np.float32), 0.5).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("ends", [(-4.0, 1.0), (-1.0, 4.0), (-4.0, -1.0)])
def test_the_limit_is_three_times_the_farther_end(ends: tuple[float, float]) -> None:
    assert direction(range=ends).limit == 12


@pytest.mark.parametrize("spread", [0.0, -1.0, INF, NAN])
def test_a_component_without_a_spread_is_refused(spread: float) -> None:
    with pytest.raises(EditError, match=rf"expected a positive spread, got {spread}; choose another"):
        Direction.component("c", np.eye(W)[0], np.zeros(W), spread, N)
    Direction.component("c", np.eye(W)[0], np.zeros(W), 0.25, N)  # small, but there


@pytest.mark.parametrize("at", [-1.0, 0.0, 2.0])
def test_what_returns_takes_back_what_a_code_has_of_it(at: float) -> None:
    # The coordinate is half of row 0's first number, from 1 on.
    made = direction(probe=np.eye(W)[0] / 2, origin=0.5, returns=True)
    codes = np.zeros((1, N, W), np.float32)
    codes[0, 0, 0] = 2 * at + 1
    assert made.kind == "return"
    assert made.coordinate(codes) == pytest.approx([at])
    assert made.move(codes, 1.0) == pytest.approx([-at])
    assert made.move(codes, 0.5) == pytest.approx([-at / 2])


def test_an_end_at_which_nothing_is_edited_is_not_shown() -> None:
    assert direction(range=(-2.0, 1.0)).shown == (-2.0, 1.0)
    assert direction(range=(0.0, 1.0)).shown == (1.0,)
    assert direction(range=(0.0, 1.0), probe=ROW).shown == (0.0, 1.0), "of a component 0 is the average"


def test_an_offset_has_no_coordinate() -> None:
    with pytest.raises(EditError, match="expected a component or bounds, got an offset"):
        direction().coordinate(np.zeros((1, N, W), np.float32))


KINDS = {
    "offset": {"ends": ("x", "y"), "note": "n", "moves": "the chin", "rows": (1, 3)},
    "component": {"probe": ROW, "origin": 2.0, "unit": "sigmas"},
    "bounded": {"probe": ROW, "origin": -1.5, "bounds": (-0.1, 1.1), "range": (-2.0, 3.0)},
    "return": {"probe": ROW, "origin": 0.25, "returns": True, "where": "eyes"},
    "affine": {**AFFINE, "hue": "fades", "rows": (0, 2)},
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_comes_back_from_its_arrays(kind: str) -> None:
    made = direction(**KINDS[kind])
    assert made.kind == kind
    again = Direction.from_arrays("a", made.info, made.to_arrays(), N, W)
    for field in dataclasses.fields(Direction):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(made, field.name), field.name)


@pytest.mark.parametrize(
    ("kind", "key", "array", "says"),
    [
        ("offset", "a", None, r"expected array 'a' \[4, 6\], got none; export the bundle again"),
        ("offset", "a", np.ones((N, W + 1)), r"expected array 'a' \[4, 6\], got \[4, 7\]"),
        ("return", "a.probe", None, r"expected array 'a\.probe' \[6\], got none"),
        ("component", "a.origin", np.ones(1), r"expected array 'a\.origin' \[\], got \[1\]"),
        ("bounded", "a.bounds", None, r"expected array 'a\.bounds' \[2\], got none"),
        ("affine", "a.steps", None, r"expected array 'a\.steps' \[2, 4, 6\], got none"),
        ("affine", "a.probes", None, r"expected array 'a\.probes' \[0, 6\], got none"),
        ("affine", "a.probes", np.ones(6), r"expected array 'a\.probes' \[6, 6\], got \[6\]"),
        ("bounded", "a.bounds", np.ones(3), r"expected array 'a\.bounds' \[2\], got \[3\]"),
    ],
)
def test_arrays_that_are_missing_or_misshapen_are_named(kind: str, key: str, array: Any, says: str) -> None:
    made = direction(**KINDS[kind])
    arrays = {name: value for name, value in made.to_arrays().items() if name != key}
    if array is not None:
        arrays[key] = array
    with pytest.raises(EditError, match=says):
        Direction.from_arrays("a", made.info, arrays, N, W)


# Files of directions


@pytest.mark.parametrize("shape", [(W,), (1, W), (N, W), (1, N, W), (1, 1, N, W), (1, 1, 1, W)])
def test_an_offset_may_have_leading_ones(tmp_path: Path, shape: tuple[int, ...]) -> None:
    numbers = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
    np.save(tmp_path / "d.npy", numbers)
    (made,) = load_directions(tmp_path / "d.npy", N, W)
    assert (made.offset == np.broadcast_to(numbers.reshape(-1, W), (N, W))).all()
    assert (made.range, made.unit, made.ends, made.note) == ((-5.0, 5.0), "steps", ("less", "more"), "")


@pytest.mark.parametrize("shape", [(2, W), (N, 1), (2, N, W), (1, 2, N, W), (1, N, W, 1), ()])
def test_other_shapes_are_no_offsets(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "d.npy", np.ones(shape, np.float32))
    with pytest.raises(EditError, match=r"expected a direction \[1,6\] or \[1,4,6\], got \["):
        load_directions(tmp_path / "d.npy", N, W)


@pytest.mark.parametrize(
    ("file", "name", "ends"),
    [
        ("age.npy", "age", ("younger", "older")),
        ("smile.npy", "smile", ("serious", "smiling")),
        ("pose.npy", "pose", ("turned one way", "turned the other way")),
        ("my age (1).npy", "my_age_1", ("less", "more")),
        ("((.npy", "direction", ("less", "more")),
    ],
)
def test_a_file_names_its_direction(tmp_path: Path, file: str, name: str, ends: tuple[str, str]) -> None:
    np.save(tmp_path / file, ROW)
    (made,) = load_directions(tmp_path / file, N, W)
    assert (made.name, made.ends) == (name, ends)
    (renamed,) = load_directions(f"other={tmp_path / file}", N, W)
    assert (renamed.name, renamed.ends) == ("other", ends)


def test_a_file_of_that_very_name_is_not_taken_apart(tmp_path: Path) -> None:
    for name in ("x=a.npy", "a.npy:3", "a.npy"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, ROW)
    assert parse_spec(tmp_path / "a.npy:3").path == tmp_path / "a.npy:3"
    spec = parse_spec(tmp_path / "a.npy:4")
    assert (spec.path, spec.index) == (tmp_path / "a.npy", 4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.index = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"expected \[NAME=\]FILE"),
        ("{tmp}/d.npy:1,2", "one or three numbers after the colon"),
        ("{tmp}/d.npy:0", "got offsets; drop ':INDEX'"),
        ("new={tmp}/two.npz", "expected one direction to rename, got 2"),
        ("{tmp}/nan.npz", r"nan\.npz: down: expected finite numbers, got NaN"),
        ("{tmp}/nan.npy", r"nan\.npy: expected finite numbers, got NaN or infinity; download the file again"),
        ("{tmp}/many.npz:12", r"expected an index 0\.\.11, got 12"),
        ("{tmp}/flat.npz", r"expected eigvec \[6,k\], a direction in each column, got \[6\]"),
        ("{tmp}/wide.npz", r"expected eigvec \[6,k\].*got \[7, 2\]; use a factorization of the generator"),
    ],
)
def test_what_cannot_be_picked_or_named_is_refused(tmp_path: Path, text: str, says: str) -> None:
    np.save(tmp_path / "d.npy", ROW)
    np.save(tmp_path / "nan.npy", ROW * NAN)
    np.savez(tmp_path / "two.npz", up=ROW, down=-ROW)
    np.savez(tmp_path / "nan.npz", up=ROW, down=ROW * INF)
    np.savez(tmp_path / "many.npz", eigvec=np.ones((W, 12)))
    np.savez(tmp_path / "flat.npz", eigvec=ROW)
    np.savez(tmp_path / "wide.npz", eigvec=np.ones((W + 1, 2)))
    with pytest.raises(EditError, match=says):
        load_directions(text.format(tmp=tmp_path), N, W)


def test_of_many_vectors_the_first_are_taken_and_any_can_be_picked(tmp_path: Path) -> None:
    matrix = np.arange(1, 12 * W + 1, dtype=np.float32).reshape(W, 12)
    np.savez(tmp_path / "factor.npz", eigvec=matrix)
    made = load_directions(tmp_path / "factor.npz", N, W)
    assert MANY == 10
    assert [one.name for one in made] == [f"factor-{n}" for n in range(10)]
    assert (made[9].offset == matrix[:, 9]).all()
    assert (made[0].range, made[0].unit, made[0].ends) == ((-5.0, 5.0), "steps", ("one way", "other way"))
    assert load_directions(f"v={tmp_path / 'factor.npz'}", N, W)[3].name == "v-3"
    (last,) = load_directions(f"v={tmp_path / 'factor.npz'}:11,0,2", N, W)
    assert (last.name, last.rows, last.offset[:, 0].tolist()) == ("v", (0, 2), [12, 12, 0, 0])


@pytest.mark.parametrize(
    ("array", "shape", "says"),
    [
        ("mean", (1, W + 1), r"got mean \[1, 7\], comp \[2, 1, 6\], std \[2\]"),
        ("comp", (2, 1, W + 1), r"got mean \[1, 6\], comp \[2, 1, 7\]"),
        ("comp", (), r"comp \[\]"),
        ("std", (3,), r"std \[3\]; use components made for the generator in this bundle"),
    ],
)
def test_components_of_another_generator_are_refused(
    tmp_path: Path, array: str, shape: tuple[int, ...], says: str
) -> None:
    arrays = {"mean": np.zeros((1, W)), "comp": np.eye(W)[:2, None], "std": np.ones(2)}
    np.savez(tmp_path / "pca.npz", **arrays, layer=np.ones(3))  # what else is in the file does not matter
    made = load_directions(tmp_path / "pca.npz", N, W)
    assert [(one.kind, one.range, one.unit) for one in made] == [("component", (-20.0, 20.0), "sigmas")] * 2
    np.savez(tmp_path / "pca.npz", **{**arrays, array: np.ones(shape)})
    with pytest.raises(EditError, match=says):
        load_directions(tmp_path / "pca.npz", N, W)


@pytest.mark.parametrize(
    ("arrays", "changes"),
    [
        ({"s": [[3, 1, 0.5], [0, 0, -2]]}, ((3, 1, 0.5), (0, 0, -2.0))),
        ({"0": [0, 0, 0], "3": [0, 2, 0]}, ((3, 1, 2.0),)),
        ({"11": [[4, 0, -1]]}, None),  # triples, whatever their name: no whole channel of -1
        ({"2": [[4.0, 0, 1, 5]]}, ((2, 0, 4.0), (2, 2, 1.0), (2, 3, 5.0))),
    ],
)
def test_channels_of_style_space_are_read_as_they_are(tmp_path: Path, arrays: Any, changes: Any) -> None:
    np.savez(tmp_path / "s.npz", **{name: np.array(values, np.float64) for name, values in arrays.items()})
    for text, name in ((f"{tmp_path}/s.npz", "s"), (f"new={tmp_path}/s.npz", "new")):
        read = read_directions(text, N, W)
        assert read == [StyleSpaceOffset(name, changes or ((4, 0, -1.0),))]
    with pytest.raises(dataclasses.FrozenInstanceError):
        read[0].name = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"s": [[0.5, 1, 2]]}, "no whole indices"),
        ({"s": [[1, -1, 2]]}, "no whole indices"),
        ({"0": [1], "1": np.ones((2, 3))}, r"expected a vector for layer 1, got \[2, 3\]"),
        ({"0": 1.0, "1": [1]}, r"expected a vector for layer 0, got \[\]"),
    ],
)
def test_channels_that_are_none_are_refused(tmp_path: Path, arrays: Any, says: str) -> None:
    np.savez(tmp_path / "s.npz", **{name: np.array(values, np.float64) for name, values in arrays.items()})
    with pytest.raises(EditError, match=says):
        read_directions(tmp_path / "s.npz", N, W)


def test_codes_of_three_numbers_are_no_channels(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.ones((N, 3), np.float32))
    (made,) = read_directions(tmp_path / "d.npy", N, 3)
    assert isinstance(made, Direction)


# Files of people


def test_of_several_arrays_the_one_that_is_named_is_the_code(tmp_path: Path) -> None:
    noise, code = np.ones((1, W)), np.tile(ROW, (N, 1))
    for name in ("w", "codes", "latent", "person/projected_w"):
        np.savez(tmp_path / "me.npz", noise=noise, **{name: code})
        assert (load_codes(tmp_path / "me.npz", N, W)[0] == code).all()
    np.savez(tmp_path / "me.npz", whatever=code)
    assert (load_codes(tmp_path / "me.npz", N, W)[0] == code).all()
    for more in ({"other": code}, {"w": code, "codes": code}):
        np.savez(tmp_path / "me.npz", noise=noise, **more)
        with pytest.raises(EditError, match=r"expected one code or an array named w or codes .*got noise, "):
            load_codes(tmp_path / "me.npz", N, W)


@pytest.mark.parametrize(
    ("code", "got"),
    [
        (np.ones((2, W)), r"\[2, 6\]"),
        (np.ones((3, 2, W)), r"\[3, 2, 6\]"),
        (np.ones((1, 1, N, W)), r"\[1, 1, 4, 6\]"),
        (np.ones((N, W + 1)), r"\[4, 7\]"),
        (np.float32(1), r"\[\]"),
        (np.full((N, W), NAN), "NaN or infinity"),
    ],
)
def test_what_is_no_code_is_named(tmp_path: Path, code: Any, got: str) -> None:
    np.save(tmp_path / "me.npy", code)
    with pytest.raises(EditError, match=rf"expected a code \[1,6\] or \[N,4,6\], got {got}; use codes of"):
        load_codes(tmp_path / "me.npy", N, W)


@pytest.mark.parametrize("codes", [np.ones((N, W)), np.full((1, N, W), NAN), np.ones((1, 1, N, W))])
def test_what_is_no_code_is_not_saved(tmp_path: Path, codes: Any) -> None:
    with pytest.raises(EditError, match="codes: expected finite float32"):
        save_codes(tmp_path / "me.npz", codes)
    assert list(tmp_path.iterdir()) == []


# Files of arrays


@pytest.mark.parametrize(
    "content", [b"\x80\x02}q\x00.", b"PK\x05\x06" + bytes(18), struct.pack("<Q", 9) + b'{"a": {}}' + bytes(9)]
)
def test_files_of_torch_and_safetensors_are_told_by_their_beginning(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.bin").write_bytes(content)
    with pytest.raises(EditError, match=r"expected a \.npy or \.npz file, got a torch or safetensors"):
        read_array_file(tmp_path / "d.bin")


def test_what_is_no_file_is_named_with_its_path(tmp_path: Path) -> None:
    for path, got in ((tmp_path / "none.npy", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(EditError) as caught:
            read_array_file(path)
        assert str(caught.value) == f"{path}: expected a file, got {got}; check the path"


def test_only_arrays_of_numbers_are_read(tmp_path: Path) -> None:
    other = {"text": np.array("a"), "yes": np.array([True]), "nothing": np.zeros((0, W)), "i": np.array([1j])}
    np.savez(tmp_path / "d.npz", a=ROW, b=np.arange(3), c=np.arange(3, dtype=np.uint8), **other)
    assert list(read_array_file(tmp_path / "d.npz")) == ["a", "b", "c"]


def test_a_file_that_unpacks_to_more_than_a_gigabyte_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, a=ROW)
    whole = path.read_bytes()
    with monkeypatch.context() as patch:  # exactly as much as is allowed
        patch.setattr(array_file_module, "MAX_BYTES", 128 + ROW.nbytes)
        assert list(read_array_file(path)) == ["a"]
        patch.setattr(array_file_module, "MAX_BYTES", 127 + ROW.nbytes)
        with pytest.raises(EditError, match="when unpacked"):
            read_array_file(path)
    entry = whole.index(b"PK\x01\x02") + 24  # where the archive says how large it unpacks
    path.write_bytes(whole[:entry] + struct.pack("<I", (1 << 30) + 1) + whole[entry + 4 :])
    with pytest.raises(EditError, match=r"cannot be read \(more than 1024 MiB when unpacked\)"):
        read_array_file(path)


def as_array(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value if isinstance(value, np.ndarray) else None


def test_nested_arrays_are_named_by_the_way_to_them() -> None:
    one, two, three = ROW, ROW + 1, ROW + 2
    content = {"a": {"b": one, "text": "x"}, "c": [two, (three,)], "n": 5, "none": None}
    found = flattened(content, Path("d.pt"), as_array)
    assert list(found) == ["a/b", "c/0", "c/1/0"]
    assert [found[name] is array for name, array in zip(found, (one, two, three), strict=True)] == [True] * 3
    assert list(flattened(one, Path("d.pt"), as_array)) == [""]
    assert flattened("text", Path("d.pt"), as_array) == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("is too\nlarge"), "is too"), (MemoryError(), "damaged"), (TypeError("odd"), "odd")],
)
def test_an_array_that_cannot_be_made_is_named_in_one_line(error: Exception, reason: str) -> None:
    with pytest.raises(EditError) as caught:
        flattened({"a": error}, Path("d.pt"), as_array)
    assert str(caught.value) == (
        f"d.pt: expected numbers in a complete file, got one that cannot be read ({reason}); "
        "download it again, or save plain number arrays"
    )


def test_a_file_of_ten_thousand_entries_is_no_direction() -> None:
    assert len(flattened([ROW] * 9000, Path("d.pt"), as_array)) == 9000
    with pytest.raises(EditError, match="a few arrays, got more than 10000 entries; save them alone"):
        flattened([ROW] * 11_000, Path("d.pt"), as_array)
