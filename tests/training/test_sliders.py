"""Figures of sliders on pictures whose figures are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from doppelgan.runtime.edit import Direction

from training.evaluate import sliders
from training.evaluate.looks import Looks

SIZE, STYLES, WIDTH = 64, 2, 3


class Painter:
    """Draws codes: the first number is the lightness of hair, the second its redness, the third a wall's."""

    directions: ClassVar = {
        "age": Direction("age", np.tile(np.array([0.2, 0, 0], np.float32), (STYLES, 1)), (-1.0, 1.0)),
        "grey": Direction("grey", np.tile(np.array([0.5, -0.3, 0], np.float32), (STYLES, 1)), (-1.0, 1.0)),
        "wall": Direction("wall", np.tile(np.array([0, 0, 0.3], np.float32), (STYLES, 1)), (-1.0, 1.0)),
    }
    latent_avg = np.zeros((STYLES, WIDTH), np.float32)
    n_styles, image_size = STYLES, SIZE

    def synthesize(self, codes: np.ndarray) -> np.ndarray:
        light, red, wall = codes[0, 0]
        picture = np.zeros((3, SIZE, SIZE), np.float32)
        picture[0] = wall
        picture[:, 4:30, 16:48] = light
        picture[0, 4:30, 16:48] += red
        return picture[None]


def codes(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.repeat(np.array(rows, np.float32)[:, None], STYLES, 1)


def painter() -> Any:
    return Painter()


def test_grey_without_a_hue_is_0_and_a_cast_is_seen() -> None:
    brown = codes((-0.6, 0.3, 0), (-0.7, 0.3, 0))
    figures = sliders.measure_grey(painter(), brown, np.array([True, True]))
    assert figures["greyed"] == 2
    assert figures["from_grey"] < 0.6
    black = codes((-0.7, 0.0, 0))
    cast = sliders.measure_grey(painter(), black, np.array([True]))
    assert cast["from_grey"] > 10, "what was neutral loses red and becomes blue-green"
    assert cast["a"] < -5


def test_who_has_no_hair_is_left_out() -> None:
    bald = sliders.measure_grey(painter(), codes((-0.6, 0.3, 0)), np.array([False]))
    assert bald == {"people": 0, "greyed": 0}


def test_a_background_that_an_edit_changes_is_found() -> None:
    figures = sliders.measure_background(painter(), codes((-0.5, 0.1, 0), (-0.4, 0.2, 0)))
    assert figures["most"][0] == figures["most_hue"][0] == "wall"
    assert figures["most_hue"][1] > 5
    assert figures["change"]["age"] == figures["change"]["grey"] == 0


def test_a_dial_is_judged_at_its_ends() -> None:
    def judge(picture: np.ndarray) -> Looks | None:
        level = float(picture[20, 30].mean())
        return None if level > 220 else Looks(level, float(level > 100))

    figures = sliders.measure_dial(painter(), codes((-0.3, 0, 0), (-0.2, 0, 0), (0.9, 0, 0)), "age", judge)  # type: ignore[arg-type]
    assert (figures["people"], figures["faces"]) == (3, 2), (
        "who is not seen at all three places does not count"
    )
    assert figures["way"] == pytest.approx(0.4 * 127.5, abs=1.1)
    assert figures["low"] < figures["none"] < figures["high"]


def test_blur_has_less_power_in_fine_bands() -> None:
    noise = np.random.default_rng(0).uniform(0, 255, (256, 256, 3)).astype(np.float32)
    blurred = noise.copy()
    for axis in (0, 1):
        blurred = (
            blurred + np.roll(blurred, 1, axis) + np.roll(blurred, 2, axis) + np.roll(blurred, 3, axis)
        ) / 4
    assert sliders.band_power(blurred, 128) < 0.5 * sliders.band_power(noise, 128)
    assert sliders.band_power(np.full((256, 256, 3), 80, np.float32), 128) == 0


def test_who_has_hair_that_is_not_grey_yet() -> None:
    names = ["hair=bald", "hair=buzz", "hair_color_b"]
    codec = SimpleNamespace(column=names.index)
    people = torch.tensor([[1.0, 0, -0.5], [0, 0, -0.5], [0, 0, 0.4]])
    assert sliders.hair_of(codec, people).tolist() == [False, True, False]  # type: ignore[arg-type]
