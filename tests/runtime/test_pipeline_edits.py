"""What the pipeline does with an edit: draws looks, moves eyes, compares where things have moved to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime import pipeline as pipeline_module
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.composite import Difference
from doppelgan.runtime.edit import Direction
from doppelgan.runtime.edit.effect import ALL_SIZES, Effect
from doppelgan.runtime.errors import EditError
from doppelgan.runtime.face_mesh import LEFT_EYE, N_POINTS
from doppelgan.runtime.pipeline import Pipeline

from .. import tiny
from .test_pipeline import frame, knowing

GRAY = (128, 128, 128)


def shift_of_eyes(x: float, y: float) -> np.ndarray:
    shift = np.zeros((N_POINTS, 2), np.float32)
    shift[list(LEFT_EYE)] = (x, y)
    return shift


@pytest.fixture
def bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """With a direction ``look`` of the eyes alone, which makes pictures bluer where it is drawn."""
    opened = knowing(open_bundle(tiny_bundle), monkeypatch)
    offset = np.zeros((tiny.STYLES, tiny.W_DIM), np.float32)
    offset[:, 2] = 0.25
    opened.directions["look"] = Direction("look", offset, (-2.0, 2.0), where="eyes")
    effects = {
        "look": Effect(shift_of_eyes(0.01, -0.02), explained=1.0),
        "red": Effect(np.zeros((N_POINTS, 2), np.float32)),
        "green": Effect(np.full((N_POINTS, 2), 0.02, np.float32), explained=1.0),
    }
    monkeypatch.setattr(opened, "effect", effects.__getitem__)
    return opened


def test_a_look_moves_the_persons_own_eyes_by_what_its_effect_says(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = []

    def move(image: np.ndarray, crop: Any, by: np.ndarray) -> np.ndarray:
        moves.append(np.asarray(by))
        image[:] += 1
        return image

    monkeypatch.setattr(pipeline_module, "move_irises", move)
    pipeline = Pipeline(bundle, {"look": 1.5}, composite="difference", smoothing=False)
    out = pipeline.process(frame(GRAY))
    np.testing.assert_allclose(moves, [(0.015, -0.03)], atol=1e-6)
    np.testing.assert_array_equal(out, frame(GRAY) + 1)  # and nothing is drawn
    (person,) = pipeline.people.values()
    np.testing.assert_array_equal(person.codes, person.own_codes)
    pipeline.edits = {}
    np.testing.assert_array_equal(pipeline.process(frame(GRAY)), frame(GRAY))
    assert len(moves) == 1


@pytest.mark.parametrize(
    ("edits", "fades"),
    [
        ({"grey": 1.0}, True),
        ({"grey": -1.0}, False),
        ({"grey": 1.0, "red": 0.5}, False),
        ({"grey": 0.5, "green": 1.0}, True),
    ],
)
def test_hues_fade_if_nothing_else_gives_color(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, edits: dict[str, float], fades: bool
) -> None:
    """`green` moves things, and `red` is a color."""
    bundle.directions["grey"] = replace(bundle.directions["red"], name="grey", hue="fades")
    still = Effect(np.zeros((N_POINTS, 2), np.float32))
    monkeypatch.setattr(
        bundle, "effect", {"grey": still, "red": still, "green": bundle.effect("green")}.__getitem__
    )
    told = []
    monkeypatch.setattr(Difference, "apply", lambda *_, fades: told.append(fades))
    Pipeline(bundle, edits, composite="difference", smoothing=False).process(frame(GRAY))
    assert told == [fades]


def test_where_the_generators_picture_is_shown_it_draws_the_look(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, {"look": 2.0}, composite="head", smoothing=False)
    pipeline.process(frame(GRAY))
    (person,) = pipeline.people.values()
    assert person.codes is not None
    np.testing.assert_allclose((person.codes - person.own_codes)[..., 2], 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("edits", "truncation", "pictures"),
    [
        ({"red": 1.0}, 1.0, 2),  # looks alone: before, after
        ({"green": 1.0}, 1.0, 2),  # movement alone
        ({"red": 1.0, "green": 1.0}, 1.0, 3),  # what has moved is compared with what has not as well
        ({"green": 1.0}, 0.5, 3),  # truncation is a look
        ({"red": 1.0}, 0.5, 2),
    ],
)
def test_pictures_are_drawn_of_what_has_to_be_compared(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, edits: dict[str, float], truncation: float, pictures: int
) -> None:
    pipeline = Pipeline(bundle, edits, composite="difference", smoothing=False, truncation=truncation)
    compared = []
    original = pipeline_module.Difference.apply

    def apply(self: Any, out: Any, plain: Any, moved: Any, edited: Any, *rest: Any, **settings: Any) -> Any:
        compared.append((plain, moved, edited, rest[1]))
        return original(self, out, plain, moved, edited, *rest, **settings)

    monkeypatch.setattr(pipeline_module.Difference, "apply", apply)
    pipeline.process(frame(GRAY))
    ((plain, moved, edited, shift),) = compared
    assert len({picture.tobytes() for picture in (plain, moved, edited)}) == pictures
    assert (shift is not None) == ("green" in edits)
    if shift is not None:
        np.testing.assert_allclose(shift, 0.02, atol=1e-6)
    if pictures == 2:
        assert moved is (edited if "green" in edits else plain)


def test_after_a_reset_it_follows_another_stream(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(bundle, {"red": 1.0}, composite="head")
    forgotten = []
    monkeypatch.setattr(pipeline._tone, "reset", lambda: forgotten.append("tone"))
    monkeypatch.setattr(pipeline._tracker, "reset", lambda: forgotten.append("faces"))
    pipeline.process(frame(GRAY))
    assert pipeline.people
    assert not forgotten
    pipeline.reset()
    assert sorted(forgotten) == ["faces", "tone"]
    assert not pipeline.people


def test_a_motion_is_of_a_known_kind_and_relative_to_somebody(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="motion: expected absolute or relative, got 'sideways'"):
        Pipeline(bundle, motion="sideways")  # type: ignore[arg-type]
    with pytest.raises(EditError, match="motion relative: expected a bundle of one person to move"):
        Pipeline(bundle, motion="relative")
    Pipeline(bundle, motion="absolute").process(frame(GRAY))


def test_edits_without_a_known_detail_are_drawn_at_full_size(bundle: Bundle) -> None:
    assert bundle.effect("red").size == ALL_SIZES
