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
        ("not with a beard", {"beard": -1.0}),  # "with" begins no other wish
        ("no, bearded", {"beard": 0.8}),
        ("very; smiling", {"smile": 0.8}),
        ("smiling very old", {"smile": 0.8, "age": 4.0}),  # a degree goes with what follows
        ("slightly smiling broadly, bearded", {"smile": 0.35, "beard": 0.8}),
        ("smiling as much as possible", {"smile": 1.2}),
        ("long grey hair", {"hair_length": 0.8, "grey": 0.8}),
        ("short, grey hair", {"hair_length": -0.8, "grey": 0.8}),
        ("long and grey hair", {"hair_length": 0.8, "grey": 0.8}),
        ("smiling, long grey hair", {"smile": 0.8, "hair_length": 0.8, "grey": 0.8}),
        ("bearded grey hair", {"beard": 0.8, "grey": 0.8}),
        ("no, grey hair", {"grey": 0.8}),
        ("no, long grey hair", {"hair_length": 0.8, "grey": 0.8}),
    ],
)  # fmt: skip
def test_words_become_directions(text: str, edits: dict[str, float]) -> None:
    assert read_words(text, bundle()).edits == pytest.approx(edits)


# A phrase for either side of every direction that has words.
SIDES = {
    "age": ("older", "younger"),
    "age_skin": ("wrinkled", "smoother"),
    "gender": ("masculine", "feminine"),
    "smile": ("smiling", "sad"),
    "mouth_open": ("open mouth", "closed mouth"),
    "beard": ("bearded", "shaven"),
    "mustache": ("a moustache", ""),
    "makeup": ("lipstick", ""),
    "hair_length": ("long hair", "short hair"),
    "hair_color": ("blonde", "brunette"),
    "grey": ("gray", ""),
    "baldness": ("bald", ""),
    "glasses": ("spectacles", ""),
    "skin_tone": ("tanned", "pale"),
    "eye_open": ("surprised", "sleepy"),
    "brow": ("raised brows", "frowning"),
    "yaw": ("turned to their left", "turned to their right"),
    "pitch": ("head down", "chin up"),
    "gaze_x": ("eyes left", "eyes right"),
    "gaze_y": ("eyes down", "eyes up"),
    "eye_contact": ("eye contact", ""),
}


def test_every_word_goes_to_its_side_of_its_direction() -> None:
    every = {name: Direction(name, np.ones((2, 3), np.float32)) for name in SIDES}
    sides = {
        text: {name: way}
        for name, texts in SIDES.items()
        for text, way in zip(texts, (0.8, -0.8), strict=True)
    }
    sides.pop("")
    assert {text: read_words(text, every).edits for text in sides} == sides


@pytest.mark.parametrize(
    ("degree", "strength"),
    [
        *(("barely", 0.2), ("slightly", 0.35), ("somewhat", 0.6), ("very", 1.0), ("extremely", 1.2)),
        *(("", 0.8), ("not", -1.0), ("less", -0.5), ("not very", -1.0), ("not slightly", -0.35)),
    ],
)
def test_degrees_are_shares_of_the_range(degree: str, strength: float) -> None:
    assert read_words(f"{degree} smiling", bundle()).edits == {"smile": strength}


def test_the_range_is_that_of_the_side_and_strengths_are_short() -> None:
    own = Direction("smile", np.ones((2, 3), np.float32), (-2.0, 1 / 3))
    assert read_words("smiling", bundle(own)).edits == {"smile": 0.267}
    assert read_words("not smiling", bundle(own)).edits == {"smile": -2.0}
    assert read_words("serious", bundle(own)).edits == {"smile": -1.6}


def test_an_edit_of_two_axes_reaches_as_far_as_its_first() -> None:
    across = Direction("eye_contact_x", np.ones((2, 3), np.float32), (-1.0, 0.5))
    assert read_words("eye contact", bundle(across)).edits == {"eye_contact": 0.4}


def test_what_is_said_of_a_wish_is_the_whole_wish() -> None:
    reading = read_words("older, and very bald but smiling broadly", bundle())
    assert reading.understood == [
        '"older" as age=3.2',
        '"very bald" as baldness=1',
        '"smiling broadly" as smile=1',
    ]
    assert reading.remarks == [f"understood {'; '.join(reading.understood)}"]
    assert read_words("purple with glasses", bundle()).understood == ['"glasses" as glasses=0.8']


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
    plain = Direction("my-own_look-of_it", np.ones((2, 3), np.float32), (-5.0, 5.0), ends=("Before", "After"))
    assert read_words("My own look of it", bundle(plain)).edits == {plain.name: 4.0}
    assert read_words("before", bundle(plain)).edits == {plain.name: -4.0}
    broad = Direction("broad", np.ones((2, 3), np.float32))  # goes before what the word means elsewhere
    assert read_words("very broad", bundle(broad)).edits == {"broad": 1.0}
    nameless = Direction("look", np.ones((2, 3), np.float32))  # its ends, less and more, are no words for it
    assert read_words("more look", bundle(nameless)).edits == {"look": 0.8}
    assert read_words("less look", bundle(nameless)).edits == {"look": -0.5}


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
