"""People twice, with one thing changed: what a slider should show, as two pictures that differ in nothing else.

Pair k has the numbers 2 k (young, or feminine) and 2 k + 1 (old, or masculine). Ends are drawn a little differently from
pair to pair, so that no end is always the same; whatever goes along in a person goes along (`MEANINGS`).
"""

from __future__ import annotations

import numpy as np

from training.render.person.features import Person
from training.render.person.sampling import sample_person

MEANINGS = ("age", "gender")
_TURNS = ("age", "gender", "age", "gender", "age")  # age moves more, and finer things
_LESS_POSE = 0.7  # of the usual turns: what changes should be seen
_PEOPLE_FROM = 7_000_000  # whom no other set shows


def meaning_of(pair: int) -> str:
    """What changes between the two of this pair."""
    return _TURNS[pair % len(_TURNS)]


def sample_pair(pair: int, attempt: int = 0) -> tuple[Person, Person]:
    """The low and the high end of this pair; a rejected sample is replaced by its next attempt."""
    rng = np.random.default_rng([77, pair, attempt] if attempt else [77, pair])
    person = sample_person(_PEOPLE_FROM + pair, attempt)
    person.update(hand="none", covering="none")
    for turn in ("yaw", "pitch"):
        person[turn] = float(person[turn]) * _LESS_POSE
    return _ages(person, rng) if meaning_of(pair) == "age" else _genders(person, rng)


def _ages(person: Person, rng: np.random.Generator) -> tuple[Person, Person]:
    """A face of 18 to 26 years and of 65 to 85; the hair of most greys."""
    if person["hair"] == "ring":
        person["hair"] = "forward"
    grey = float(rng.uniform(0.3, 1)) if rng.random() < 0.75 else 0.0
    bag = float(person["eye_bag"])
    young = {"age": rng.uniform(0.43, 0.5), "weathered": rng.uniform(-0.08, 0), "grey": 0.0, "eye_bag": min(bag, 0.1)}
    old = {"age": rng.uniform(0.84, 1), "weathered": rng.uniform(0, 0.09), "grey": grey, "eye_bag": min(0.4, bag + 0.2)}
    return {**person, **_plain(young)}, {**person, **_plain(old)}


def _genders(person: Person, rng: np.random.Generator) -> tuple[Person, Person]:
    """A woman's face, half of them made up, and a man's, shaven: hair and clothes are the same."""
    person.update(beard="none", sideburns=0.0)
    made_up = float(rng.uniform(0, 1)) if rng.random() < 0.5 else 0.0
    feminine = {
        "gender": rng.uniform(0, 0.12), "brow_thickness": 0.42, "lash_darkness": 0.75, "beard_shadow": 0.0,
        "lipstick": 0.7 * made_up, "eye_makeup": made_up, "muscle": 0.42,
    }  # fmt: skip
    masculine = {
        "gender": rng.uniform(0.88, 1), "brow_thickness": 0.62, "lash_darkness": 0.3, "beard_shadow": rng.uniform(0.6, 1),
        "lipstick": 0.0, "eye_makeup": 0.0, "muscle": 0.58,
    }  # fmt: skip
    return {**person, **_plain(feminine)}, {**person, **_plain(masculine)}


def _plain(values: dict[str, float]) -> Person:
    return {name: round(float(value), 5) for name, value in values.items()}
