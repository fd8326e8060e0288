"""Edits in words: what they become, what is said of them, and what is not guessed at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.edit import Direction, parse_edits, read_edits, read_words
from doppelgan.runtime.errors import EditError

NAMES = (
    *("age", "gender", "smile", "beard", "grey", "glasses", "hair_length", "baldness", "brow", "skin_tone"),
    *("eye_contact_x", "eye_contact_y"),
)
SHORT = {"age": (-2.0, 4.0)}


def bundle(*more: Direction) -> dict[str, Direction]:
    one = np.ones((2, 3), np.float32)
    known = [Direction(name, one, SHORT.get(name, (-1.0, 1.0))) for name in NAMES]
    return {direction.name: direction for direction in (*known, *more)}


@pytest.mark.parametrize(
    ("text", "edits"),
    [
        ("older, with a beard and a slight smile", {"age": 3.2, "beard": 0.8, "smile": 0.35}),
        ("much younger without glasses", {"age": -2.0, "glasses": -1.0}),
        ("a bit more feminine, long grey hair, no beard", {"gender": -0.35, "hair_length": 0.8, "grey": 0.8,
                                                          "beard": -1.0}),
        ("Very old and slightly bald; raised eyebrows.", {"age": 4.0, "baldness": 0.35, "brow": 0.8}),
        ("smiling broadly and tanned", {"smile": 1.0, "skin_tone": 0.8}),
        ("not smiling", {"smile": -1.0}),
        ("less grey hair", {"grey": -0.5}),
        ("clean-shaven", {"beard": -0.8}),
        ("looking into the camera", {"eye_contact": 0.8}),
        ("older; younger", {"age": -1.6}),
    ],
)  # fmt: skip
def test_words_become_directions(text: str, edits: dict[str, float]) -> None:
    assert read_words(text, bundle()).edits == pytest.approx(edits)


def test_a_degree_holds_for_one_wish_only() -> None:
    assert read_words("slightly older and smiling", bundle()).edits["smile"] == pytest.approx(0.8)
    assert read_words("without glasses, bearded", bundle()).edits["beard"] == pytest.approx(0.8)


def test_what_was_understood_is_said_and_unknown_words_are_named() -> None:
    reading = read_words("older with blue eyeshadow and a tattoo", bundle())
    assert reading.edits == {"age": 3.2}
    assert reading.unknown == ["blue", "eyeshadow", "tattoo"]
    said = " ".join(reading.remarks)
    assert '"older" as age=3.2' in said
    assert "not understood, left out: blue, eyeshadow, tattoo" in said


def test_a_known_word_without_its_direction_is_not_unknown() -> None:
    reading = read_words("older, with a mustache", bundle())
    assert reading.unknown == []
    assert 'no direction for: "a mustache" (mustache)' in reading.remarks[-1]


def test_a_bundles_own_directions_are_words_too() -> None:
    own = Direction(
        "third_eye", np.ones((2, 3), np.float32), (0.0, 5.0), ends=("closed third", "opened third")
    )
    assert read_words("strong third eye", bundle(own)).edits == {"third_eye": 5.0}
    assert read_words("opened third", bundle(own)).edits == {"third_eye": 4.0}


@pytest.mark.parametrize("text", ["purple", "", "with and without"])
def test_a_text_without_any_meaning_is_an_error(text: str) -> None:
    with pytest.raises(EditError, match="expected NAME=NUMBER or words"):
        read_words(text, bundle())


def test_numbers_and_words_go_together_and_the_last_counts() -> None:
    edits, said = read_edits(["smile=0.2", "older, smiling", "age=1"], bundle())
    assert edits == {"smile": 0.8, "age": 1.0}
    assert len(said) == 1
    with pytest.raises(EditError, match="NAME=NUMBER"):
        parse_edits(["older, smiling"])


def test_a_command_says_what_it_understood(capsys: pytest.CaptureFixture[str]) -> None:
    from doppelgan.runtime.cli.options import make_pipeline

    demo = str(Path(__file__).parents[2] / "engines" / "demo")
    pipeline = make_pipeline(
        bundle=demo, edits=("glasses=0.5", "slightly older and purple"), backend=None, threads=1
    )
    assert pipeline.edits == {"glasses": 0.5, "age": 0.35}
    said = capsys.readouterr().err
    assert 'understood "slightly older" as age=0.35' in said
    assert "left out: purple" in said
