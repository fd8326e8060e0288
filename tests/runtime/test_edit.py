"""Edits of codes: the formulas on numbers worked out by hand, the fast path against its reference, and
every file format, whole and damaged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.edit import (
    Direction,
    Editor,
    mix,
    orthogonalize,
    parse_edits,
    select_rows,
    toward_w,
    truncate,
)
from doppelgan.runtime.edit.direction_files import load_codes, load_directions, parse_spec, save_codes
from doppelgan.runtime.edit.editor import row_groups
from doppelgan.runtime.edit.effect import Effect
from doppelgan.runtime.errors import EditError
from doppelgan.runtime.face_mesh import N_POINTS
from numpy.typing import NDArray

N, W = 4, 6  # n_styles, w_dim of the made-up generator
SHARED = Path(os.environ.get("DOPPELGAN_SHARED", Path(__file__).parents[2].parent / "shared"))
REAL = SHARED / "conformance" / "directions"


def apply_edits(codes: NDArray[np.float32], edits: Mapping[Direction, float]) -> NDArray[np.float32]:
    """What :meth:`Editor.apply` is to give: the formulas as written, one edit after the other."""
    edited = codes.astype(np.float64)
    for direction, strength in edits.items():
        for n, code in enumerate(codes):
            edited[n] += direction.move(code[None], strength)[0] * direction.offset
    return edited.astype(np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def offset(name: str, rng: np.random.Generator, **settings: Any) -> Direction:
    return Direction(name, rng.standard_normal((N, W)).astype(np.float32), **settings)


# Formulas


def test_an_offset_is_added_strength_times_on_its_rows_only() -> None:
    direction = Direction("x", np.ones((N, W), np.float32), (-5, 5), rows=(1, 3))
    codes = np.zeros((2, N, W), np.float32)
    edited = Editor([direction], np.zeros((N, W), np.float32)).apply(codes, {"x": 2})
    assert edited[:, :, 0].tolist() == [[0, 2, 2, 0]] * 2
    assert not codes.any()


def test_a_component_moves_the_coordinate_of_row_0_to_the_strength() -> None:
    # mean 1, std 2 along the first axis; row 0 is at 7, so its coordinate is (7 - 1) / 2 = 3 sigmas.
    axis, mean = np.eye(W)[0], np.eye(W)[0]
    direction = Direction.component("c", axis, mean, 2.0, N, rows=(0, 2), range=(-5, 5))
    codes = np.zeros((1, N, W), np.float32)
    codes[0, :, 0] = [7, 10, 20, 30]
    assert direction.coordinate(codes).tolist() == [3]
    # (5 - 3) * 2 = +4 on rows 0 and 1
    edited = Editor([direction], np.zeros((N, W), np.float32)).apply(codes, {"c": 5})
    assert edited[0, :, 0].tolist() == [11, 14, 20, 30]
    assert direction.coordinate(edited) == pytest.approx([5])
    # strength 0 is the average, not "no edit": (0 - 3) * 2 = -6
    edited = Editor([direction], np.zeros((N, W), np.float32)).apply(codes, {"c": 0})
    assert edited[0, :, 0].tolist() == [1, 4, 20, 30]


@pytest.mark.parametrize(
    ("at", "strength", "moves"),
    [
        (0.0, 1.0, 1.0),
        (0.5, 1.0, 0.6),
        (0.0, -1.0, -0.1),
        (-0.4, -1.0, 0.0),
        (-0.4, 1.0, 1.0),
        (1.3, 0.5, 0.0),
        (1.3, -0.5, -0.5),
    ],
)
def test_a_bounded_edit_stops_where_people_end(at: float, strength: float, moves: float) -> None:
    # Coordinates are half of row 0's first number, from 1 on. Some codes are beyond the bounds already.
    direction = Direction(
        "beard", np.ones((N, W), np.float32), probe=np.eye(W)[0] / 2, origin=0.5, bounds=(-0.1, 1.1)
    )
    codes = np.zeros((1, N, W), np.float32)
    codes[0, 0, 0] = 2 * at + 1
    assert direction.kind == "bounded"
    assert direction.coordinate(codes) == pytest.approx([at])
    editor = Editor([direction], np.zeros((N, W), np.float32))
    edited = editor.apply(codes, {"beard": strength})
    assert (edited - codes)[0, 2, 3] == pytest.approx(moves, abs=1e-6)
    assert editor.remarks({"beard": 2.0}) == ["beard=2 is outside -1..1: it stops where people end"]


@pytest.mark.parametrize("batch", [1, 5])
def test_fast_path_equals_reference(rng: np.random.Generator, batch: int) -> None:
    axes = np.linalg.qr(rng.standard_normal((W, W)))[0]
    directions = [offset(name, rng) for name in "ab"] + [
        Direction.component(
            f"c{i}", axes[i], rng.standard_normal(W), 0.5 + i, N, rows=(i, i + 2), range=(-9, 9)
        )
        for i in range(2)
    ]
    directions.append(offset("d", rng, probe=axes[2], origin=0.3, bounds=(-0.5, 0.6)))
    directions.append(offset("r", rng, probe=axes[3], origin=-0.4, returns=True))
    directions.append(offset("o", rng, origin=2.0))  # without a probe an origin means nothing
    editor = Editor(directions, np.zeros((N, W), np.float32))
    codes = rng.standard_normal((batch, N, W)).astype(np.float32)
    before = codes.copy()
    for edits in (
        {},
        {"a": 0.5},
        {"c1": -2.0},
        {"b": -1.0, "c0": 3.0, "a": 1.0, "c1": 0.0, "d": 1.0},
        {"a": 0.0},
        {"r": 1.0},
        {"o": 0.5, "r": -0.5, "d": 0.0},
    ):
        expected = apply_edits(codes, {editor.directions[name]: value for name, value in edits.items()})
        edited = editor.apply(codes, edits)
        np.testing.assert_allclose(edited, expected, atol=2e-5)
        assert edited.dtype == np.float32
        assert not np.shares_memory(edited, codes)
    assert (codes == before).all()


def test_changing_a_dict_that_was_applied_takes_effect(rng: np.random.Generator) -> None:
    editor = Editor([offset("a", rng)], np.zeros((N, W), np.float32))
    edits, codes = {"a": 1.0}, np.zeros((1, N, W), np.float32)
    first = editor.apply(codes, edits)
    edits["a"] = 0.5
    np.testing.assert_allclose(editor.apply(codes, edits), first / 2)


def test_unchanged_edits_are_prepared_once(rng: np.random.Generator) -> None:
    checked: list[Mapping[str, float]] = []

    class Counting(Editor):
        def check(self, edits: Mapping[str, float]) -> None:
            checked.append(edits)
            super().check(edits)

    editor, codes = Counting([offset("a", rng)], np.zeros((N, W), np.float32)), np.ones((1, N, W), np.float32)
    for _ in range(3):
        editor.apply(codes, {"a": 1.0})
    assert len(checked) == 1
    editor.apply(codes, {"a": 2.0})
    assert len(checked) == 2


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ({"smil": 1.0}, "did you mean smile.*it has age, smile"),
        ({"zzz": 1.0}, "it has age, smile"),
        ({"age": 3.1}, r"age=3.1: expected -1\.\.1 \(at most 3"),
        ({"age": float("nan")}, "expected -1..1"),
    ],
)
def test_bad_edits_are_refused(rng: np.random.Generator, edits: dict[str, float], says: str) -> None:
    editor = Editor([offset("age", rng), offset("smile", rng)], np.zeros((N, W), np.float32))
    for call in (lambda: editor.check(edits), lambda: editor.apply(np.zeros((1, N, W), np.float32), edits)):
        with pytest.raises(EditError, match=says):
            call()


def test_beyond_the_range_is_allowed_and_remarked(rng: np.random.Generator) -> None:
    editor = Editor([offset("age", rng, note="a note"), offset("plain", rng)], np.zeros((N, W), np.float32))
    editor.check({"age": 3.0, "plain": -3.0})  # three times the range, and no more
    assert editor.remarks({"plain": 1.0}) == editor.remarks({"plain": -1.0}) == []
    assert editor.remarks({"plain": -1.5}) == ["plain=-1.5 is outside -1..1: expect artifacts"]
    assert [said.split(":")[0] for said in editor.remarks({"age": 2.9})] == [
        "age=2.9 is outside -1..1",
        "age",
    ]


@pytest.mark.parametrize("shape", [(N, W), (1, N, W + 1), (1, N + 1, W)])
def test_codes_of_another_shape_are_refused(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    with pytest.raises(EditError, match="codes: expected"):
        Editor([offset("a", rng)], np.zeros((N, W), np.float32)).apply(np.zeros(shape, np.float32), {})


def test_an_editor_takes_directions_of_one_generator_each_name_once(rng: np.random.Generator) -> None:
    a, b, average = offset("a", rng), offset("b", rng), np.zeros((N, W), np.float32)
    for given in ([a, b], iter([a, b]), {"whatever": a, "else": b}):
        assert Editor(given, average).directions == {"a": a, "b": b}
    with pytest.raises(EditError, match="'a': its name is there twice; rename one"):
        Editor([a, b, offset("a", rng)], average)
    with pytest.raises(EditError, match=r"'a': expected \[5, 6\], got \[4, 6\]; it belongs to another"):
        Editor([a], np.zeros((N + 1, W), np.float32))
    with pytest.raises(EditError, match=r"latent_avg: expected float32 \[n_styles, w_dim\], got \[1, 4, 6\]"):
        Editor([a], average[None])


def test_an_unknown_edit_says_what_the_bundle_has(rng: np.random.Generator) -> None:
    names = ("eye_x", "eye_y", "gaze_x", "turn_y")
    editor = Editor([offset(name, rng) for name in names], np.zeros((N, W), np.float32))
    with pytest.raises(EditError, match=r"it has eye, eye_x, eye_y, gaze_x, turn_y$"):
        editor.check({"qqqqqq": 1.0})
    many = Editor([offset(f"smile{n}", rng) for n in range(5)], np.zeros((N, W), np.float32))
    with pytest.raises(EditError) as caught:
        many.check({"smile": 1.0})
    assert str(caught.value).partition("? ")[0].count(" or ") == 2  # three guesses are enough
    with pytest.raises(EditError, match="this bundle has no directions; export it with --direction FILE"):
        Editor([], np.zeros((N, W), np.float32)).check({"smile": 1.0})


def test_an_edit_of_two_axes_moves_both(rng: np.random.Generator) -> None:
    names = ("eye_x", "eye_y", "gaze", "gaze_x", "gaze_y", "turn_x")
    editor = Editor([offset(name, rng) for name in names], np.zeros((N, W), np.float32))
    assert editor.expanded({"eye": 0.5, "gaze": 1.0}) == {"eye_x": 0.5, "eye_y": 0.5, "gaze": 1.0}
    assert editor.expanded({"turn": 1.0, "turn_x": 2.0}) == {"turn": 1.0, "turn_x": 2.0}  # it has one axis
    assert editor.expanded({"eye_x": 1.0, "eye": -1.0}) == {"eye_x": -1.0, "eye_y": -1.0}


def test_strength_0_does_nothing_but_for_a_component(rng: np.random.Generator) -> None:
    component = Direction.component("c", np.eye(W)[0], np.zeros(W), 1.0, N)
    bounded = offset("b", rng, probe=np.ones(W), bounds=(0.0, 1.0))
    editor = Editor([component, bounded, offset("a", rng)], np.zeros((N, W), np.float32))
    assert editor.active({"a": 0.0, "b": 0.0, "c": 0.0}) == ["c"]
    assert editor.active({"a": 0.5, "b": -0.5, "c": 1.0}) == ["a", "b", "c"]


def test_edits_move_the_mesh_as_far_as_they_move_the_code(rng: np.random.Generator) -> None:
    bounded = offset("b", rng, probe=np.eye(W)[0], bounds=(-1.0, 1.0))
    editor = Editor([offset("a", rng), bounded], np.zeros((N, W), np.float32))
    effects = {
        "a": Effect(np.full((N_POINTS, 2), (0.01, 0.0), np.float32)),
        "b": Effect(np.full((N_POINTS, 2), (0.0, 0.1), np.float32)),
    }
    codes = np.zeros((1, N, W), np.float32)
    codes[0, 0, 0] = 0.75  # a quarter is left up to the bound
    moved = editor.shift(codes, {"a": -2.0, "b": 1.0}, effects)
    assert (moved.shape, moved.dtype) == ((N_POINTS, 2), np.float32)
    np.testing.assert_allclose(moved[100], (-0.02, 0.025), atol=1e-6)
    assert not editor.shift(codes, {}, effects).any()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "a=b"}, "letters, digits"),
        ({"offset": np.zeros((N, W))}, "only zeros"),
        ({"offset": np.full((N, W), np.nan)}, "NaN"),
        ({"offset": np.ones(W)}, r"expected \[n_styles, w_dim\]"),
        ({"range": (1, 1)}, "low < high"),
        ({"rows": (2, N + 1)}, "first < last"),
        ({"probe": np.ones(W + 1)}, "probe"),
        ({"bounds": (0.0, 1.0)}, "without a probe"),
        ({"bounds": (1.0, 0.0), "probe": np.ones(W)}, "bounds low < high"),
    ],
)
def test_a_direction_checks_itself(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(EditError, match=says):
        Direction(**{"name": "a", "offset": np.ones((N, W)), **settings})


def test_a_direction_survives_the_bundle(rng: np.random.Generator) -> None:
    component = Direction.component(
        "c", np.eye(W)[2], np.arange(W), 2.0, N, rows=(1, 2), range=(-9, 9), unit="s"
    )
    bounded = offset("b", rng, probe=np.ones(W), origin=2.0, bounds=(-0.1, 1.1))
    for made in (offset("a", rng, ends=("x", "y"), note="n"), component, bounded):
        again = Direction.from_arrays(made.name, made.info, made.to_arrays(), N, W)
        assert again.info == made.info
        assert (again.offset == made.offset).all()
        assert again.origin == made.origin
        assert again.bounds == made.bounds
    with pytest.raises(EditError, match=r"c.probe.*got none"):
        Direction.from_arrays("c", component.info, {"c": component.offset}, N, W)


@pytest.mark.parametrize(
    ("texts", "edits"),
    [([], {}), (["age=2", " smile = -1.5"], {"age": 2.0, "smile": -1.5}), (["a=1", "a=2"], {"a": 2.0})],
)
def test_parse_edits(texts: list[str], edits: dict[str, float]) -> None:
    assert parse_edits(texts) == edits


@pytest.mark.parametrize("text", ["age", "age=", "=2", "age=old", "age=nan", "age=inf", ""])
def test_parse_edits_refuses(text: str) -> None:
    with pytest.raises(EditError, match="NAME=NUMBER"):
        parse_edits([text])


# Dials


@pytest.mark.parametrize(
    ("n_styles", "groups"),
    [(18, [4, 4, 10]), (14, [4, 4, 6]), (10, [4, 4, 2]), (8, [2, 2, 4]), (4, [1, 1, 2]), (2, [1, 1, 0])],
)
def test_row_groups(n_styles: int, groups: list[int]) -> None:
    assert [last - first for first, last in row_groups(n_styles).values()] == groups
    assert sum(groups) == n_styles


def test_select_rows() -> None:
    assert select_rows("coarse + fine", 18).nonzero()[0].tolist() == [0, 1, 2, 3, *range(8, 18)]
    assert select_rows(None, 4).tolist() == select_rows((0, 4), 4).tolist() == [True] * 4
    assert select_rows((3, 4), 4).tolist() == [False, False, False, True]
    for bad in ("hair", "coarse+hair", (3, 3), (4, 3), (0, 19), (-1, 3)):
        with pytest.raises(EditError, match=r"^rows .*: expected"):
            select_rows(bad, 18)
    with pytest.raises(EditError, match="none of them"):
        select_rows("fine", 2)


def test_truncation_moves_toward_the_average() -> None:
    average, codes = np.full((N, W), 1, np.float32), np.full((2, N, W), 3, np.float32)
    assert (truncate(codes, average, 0.5) == 2).all()
    assert (truncate(codes, average, 0) == 1).all()
    assert (truncate(codes, average, 1) == codes).all()
    assert not np.shares_memory(truncate(codes, average, 1), codes)
    assert truncate(codes, average, 0.5, (1, 2))[0, :, 0].tolist() == [3, 2, 3, 3]
    assert (truncate(codes, average, 3) == 7).all()  # exaggerated
    assert truncate(codes, np.full(W, 1, np.float32), 0.5).tolist() == truncate(codes, average, 0.5).tolist()
    for bad in (float("nan"), float("inf")):
        with pytest.raises(EditError, match=r"truncation: expected a number, usually 0\.\.1, got"):
            truncate(codes, average, bad)


def test_without_truncation_a_code_stays_to_the_last_bit(rng: np.random.Generator) -> None:
    codes = rng.standard_normal((2, N, W)).astype(np.float32)
    average = 100 * rng.standard_normal((N, W)).astype(np.float32)  # to and fro would round
    assert (truncate(codes, average, 1) == codes).all()
    assert (toward_w(codes, 0, average) == codes).all()
    assert not np.shares_memory(toward_w(codes, 0), codes)


def test_toward_w_shrinks_the_spread_and_keeps_the_mean(rng: np.random.Generator) -> None:
    codes = rng.standard_normal((3, N, W)).astype(np.float32)
    for amount in (0, 0.25, 1):
        moved = toward_w(codes, amount)
        np.testing.assert_allclose(moved.mean(1), codes.mean(1), atol=1e-6)
        np.testing.assert_allclose(np.ptp(moved, axis=1), (1 - amount) * np.ptp(codes, axis=1), atol=1e-6)
    average = rng.standard_normal((N, W)).astype(np.float32)
    middle = (codes - average).mean(1, keepdims=True) + np.zeros_like(codes)
    np.testing.assert_allclose(toward_w(codes, 1, average) - average, middle, atol=1e-6)
    for bad in (1.01, -0.01):
        with pytest.raises(EditError, match=f"toward W: expected an amount 0..1, got {bad}"):
            toward_w(codes, bad)


def test_mix_takes_the_rows_of_the_second() -> None:
    a, b = np.zeros((2, N, W), np.float32), np.ones((1, N, W), np.float32)
    assert mix(a, b, "middle+fine")[1, :, 0].tolist() == [0, 1, 1, 1]
    assert mix(a, b, (1, 2), weight=0.25)[0, :, 0].tolist() == [0, 0.25, 0, 0]
    assert not a.any()
    assert (mix(a, b, weight=0) == a).all()
    assert (mix(a + 1, b + 2, weight=0.25) == 1.5).all()
    assert mix(a, np.stack([a[0] + 2, a[0] + 3]))[:, 0, 0].tolist() == [2, 3]  # each with its own


@pytest.mark.parametrize(
    ("shapes", "weight", "says"),
    [
        (((2, N, W), (3, N, W)), 1, "expected 1 or 2 second codes, got 3"),
        (((3, N, W), (2, N, W)), 1, "expected 1 or 3 second codes, got 2"),
        (((2, N, W), (1, N + 1, W)), 1, r"got \[2, 4, 6\] and \[1, 5, 6\]; encode both with the same bundle"),
        (((2, N, W), (N, W)), 1, "expected two codes of one shape"),
        (((N, W), (N, W)), 1, "expected two codes of one shape"),
        (((1, N, W), (1, N, W)), 1.01, "expected a weight 0..1, got 1.01"),
        (((1, N, W), (1, N, W)), -0.01, "expected a weight 0..1, got -0.01"),
    ],
)
def test_people_that_do_not_fit_are_not_mixed(shapes: Any, weight: float, says: str) -> None:
    with pytest.raises(EditError, match=says):
        mix(*(np.ones(shape, np.float32) for shape in shapes), weight=weight)


@pytest.mark.parametrize("mode", ["order", "others"])
def test_orthogonalized_directions_do_not_share(rng: np.random.Generator, mode: Any) -> None:
    originals = [offset(name, rng) for name in "abc"]
    made = orthogonalize(originals, mode)
    for i, direction in enumerate(made):
        assert np.linalg.norm(direction.offset) == pytest.approx(
            np.linalg.norm(originals[i].offset), rel=1e-5
        )
        for j, other in enumerate(made if mode == "order" else originals):
            if i != j:
                assert np.vdot(direction.offset, other.offset) == pytest.approx(0, abs=1e-4)
    if mode == "order":
        np.testing.assert_allclose(made[0].offset, originals[0].offset, rtol=1e-6)


def test_orthogonalizing_keeps_rows_and_refuses_blends(rng: np.random.Generator) -> None:
    a, b = offset("a", rng), offset("b", rng, rows=(1, 3))
    made = orthogonalize([a, b])[1]
    assert not made.offset[[0, 3]].any()
    assert np.vdot(made.offset, a.offset) == pytest.approx(0, abs=1e-4)
    with pytest.raises(EditError, match="'twice': nothing is left beside a, b; leave it out"):
        orthogonalize([a, b, Direction("twice", 2 * a.offset)])
    for size in (1e-4, 1e4):  # what counts as nothing is a share of the length
        small = orthogonalize([Direction(one.name, size * one.offset) for one in (a, offset("c", rng))])
        assert np.vdot(small[0].offset, small[1].offset) == pytest.approx(0, abs=1e-4 * size**2)
    with pytest.raises(EditError, match="component"):
        orthogonalize([Direction.component("c", np.eye(W)[0], np.zeros(W), 1.0, N)])


# Files. Those of torch and safetensors are export's: tests/export/test_direction_files.py.

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
