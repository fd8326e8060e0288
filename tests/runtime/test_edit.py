"""Edits of codes: the formulas on numbers worked out by hand, and the fast path against its reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.edit import Direction, Editor, parse_edits
from doppelgan.runtime.edit.effect import Effect
from doppelgan.runtime.errors import EditError
from doppelgan.runtime.face_mesh import N_POINTS
from numpy.typing import NDArray

from .made_directions import N, W, offset


def apply_edits(codes: NDArray[np.float32], edits: Mapping[Direction, float]) -> NDArray[np.float32]:
    """What :meth:`Editor.apply` is to give: the formulas as written, one edit after the other."""
    edited = codes.astype(np.float64)
    for direction, strength in edits.items():
        for n, code in enumerate(codes):
            edited[n] += direction.move(code[None], strength)[0] * direction.offset
            if direction.probes is not None and direction.steps is not None:
                for probe, step in zip(direction.probes, direction.steps, strict=True):
                    edited[n] += strength * (code[0] @ probe) * step
    return edited.astype(np.float32)


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


def test_an_affine_edit_takes_everybody_to_the_same_end() -> None:
    # From wherever the first number is, to 5, half of the way at half the strength; on rows 0 and 1.
    axis = np.eye(W)[:1]
    away = -np.repeat(axis[:, None], N, axis=1)
    direction = Direction("to", 5 * np.repeat(axis, N, axis=0), (0, 1), rows=(0, 2), probes=axis, steps=away)
    codes = np.random.default_rng(2).standard_normal((6, 1, W)).astype(np.float32).repeat(N, axis=1)
    editor = Editor([direction], np.zeros((N, W), np.float32))
    edited = editor.apply(codes, {"to": 1.0})
    np.testing.assert_allclose(edited[:, :2, 0], 5, atol=1e-5)
    np.testing.assert_array_equal(edited[:, 2:], codes[:, 2:])
    np.testing.assert_array_equal(edited[..., 1:], codes[..., 1:])
    half = editor.apply(codes, {"to": 0.5})
    np.testing.assert_allclose(half[:, 0, 0], (5 + codes[:, 0, 0]) / 2, atol=1e-5)


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
    several = {"probes": rng.standard_normal((2, W)), "steps": rng.standard_normal((2, N, W))}
    directions.append(offset("m", rng, rows=(1, 3), **several))
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
        {"m": 0.75},
        {"m": -0.5, "c0": 1.0, "r": 1.0, "d": 1.0},
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
