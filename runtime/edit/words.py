"""Edits in words: ``"older, with a beard"`` -> ``{"age": 0.8, "beard": 0.8}``.

No language model: a list of words and phrases, of degrees ("slightly", "very") and of negations ("without"),
and beside them the names and ends of the bundle's own directions. What is not in it is named instead of
guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ..errors import EditError
from .direction import Direction
from .editor import axes_of, parse_edits

__all__ = ["Reading", "read_edits", "read_words"]

PLAIN: Final = 0.8  # of a direction's range: what a word means without a degree


def _each(value: float, phrases: str) -> dict[str, float]:
    return dict.fromkeys(phrases.split(", "), value)


DEGREES: Final = {
    **_each(0.2, "barely, hardly, a touch, a hint of"),
    **_each(
        0.35, "slight, slightly, a little, a bit, little, subtle, subtly, faint, faintly, light, lightly"
    ),
    **_each(0.6, "some, somewhat, moderate, moderately, rather, quite"),
    **_each(1.0, "very, much, a lot, a lot of, strong, strongly, big, broad, broadly, full, fully, really"),
    **_each(1.2, "extreme, extremely, huge, as much as possible"),
}
NEGATIONS: Final = {**_each(1.0, "no, not, without, minus, remove, lose, loses"), "less": 0.5}
ENDINGS: Final = (",", ";", ".", "and", "but", "with", "plus", "then")  # after which another wish begins


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


FILLERS: Final = _set(
    "a an the make made makes me him her them it us look looks looking like be is are more please as if to "
    "of on in into person face his their my your who that bit just man's woman's add give gives wear wears "
    "wearing has have having at"
)
_WORDS: Final[Mapping[tuple[str, float], str]] = {
    ("age", 1): "older, old, aged, elderly, senior, aging",
    ("age", -1): "younger, young, youthful, rejuvenated",
    ("age_skin", 1): "wrinkles, wrinkled, wrinkly, weathered, weathered skin",
    ("age_skin", -1): "smooth skin, smoother skin, smoother, fresh skin",
    ("gender", 1): "masculine, manly, male, a man, more like a man",
    ("gender", -1): "feminine, womanly, female, a woman",
    ("smile", 1): "smile, smiles, smiling, happy, happier, grin, grinning, cheerful, friendly, laughing",
    ("smile", -1): "serious, unsmiling, stern, sad, sadder, unhappy, earnest",
    ("mouth_open", 1): "open mouth, mouth open, opened mouth",
    ("mouth_open", -1): "closed mouth, mouth closed, shut mouth",
    ("beard", 1): "beard, bearded, full beard, facial hair",
    ("beard", -1): "shaven, clean-shaven, clean shaven, shaved, beardless",
    ("mustache", 1): "mustache, moustache, mustaches, moustaches",
    ("makeup", 1): "make-up, makeup, made up, lipstick, eyeliner",
    ("hair_length", 1): "long hair, longer hair, long-haired, long haired",
    ("hair_length", -1): "short hair, shorter hair, short-haired, short haired",
    (
        "hair_color",
        1,
    ): "blond, blonde, blond hair, blonde hair, light hair, lighter hair, fair hair, fair-haired",
    ("hair_color", -1): "dark hair, darker hair, black hair, dark-haired, brunette, brown hair",
    (
        "grey",
        1,
    ): "grey, gray, grey hair, gray hair, grey-haired, gray-haired, greying, silver hair, white hair",
    ("baldness", 1): "bald, balding, bald head, hairless",
    ("glasses", 1): "glasses, spectacles, eyeglasses",
    ("skin_tone", 1): "dark skin, darker skin, tanned, tan, dark-skinned",
    ("skin_tone", -1): "light skin, lighter skin, pale, paler, fair skin",
    ("eye_open", 1): "wide eyes, wide-eyed, open eyes, eyes open, big eyes, awake, surprised",
    ("eye_open", -1): "closed eyes, eyes closed, sleepy, tired, squinting, narrow eyes",
    ("brow", 1): "raised brows, raised eyebrows, brows up, brows raised, astonished",
    ("brow", -1): "lowered brows, lowered eyebrows, frown, frowning, angry, angrier",
    ("yaw", 1): "turned left, turn left, turned to their left, facing left",
    ("yaw", -1): "turned right, turn right, turned to their right, facing right",
    ("pitch", 1): "head down, turned down, facing down, nodding",
    ("pitch", -1): "head up, turned up, facing up, chin up",
    ("gaze_x", 1): "eyes left, glancing left",
    ("gaze_x", -1): "eyes right, glancing right",
    ("gaze_y", 1): "eyes down, glancing down",
    ("gaze_y", -1): "eyes up, glancing up",
    (
        "eye_contact",
        1,
    ): "eye contact, eye-contact, into the camera, at the camera, looking at me, eyes on the camera",
}
_ADJECTIVES: Final = _set(
    "long longer short shorter dark darker light lighter fair black brown blond blonde grey gray white silver"
)
_Meaning = TypeVar("_Meaning")
_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[,;.]")


@dataclass
class Reading:
    """What a text was taken for.

    edits: direction name -> strength.  understood: phrases as they were read, with what they became.
    unknown: words that mean nothing here.  lacking: known phrases of directions that this bundle has not.
    """

    edits: dict[str, float] = field(default_factory=dict)
    understood: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)

    @property
    def remarks(self) -> list[str]:
        """For a person to read, a line each."""
        said = [f"understood {'; '.join(self.understood)}"] if self.understood else []
        if self.unknown:
            said.append(f"not understood, left out: {', '.join(self.unknown)}")
        if self.lacking:
            said.append(f"this bundle has no direction for: {', '.join(self.lacking)}")
        return said


def read_words(text: str, directions: Mapping[str, Direction]) -> Reading:
    """Reads a text for a bundle with these directions. Raises EditError if nothing in it can be done."""
    tokens = _each_with_its_noun([token.lower().replace("’", "'") for token in _TOKEN.findall(text)])
    phrases = _phrases(directions)
    reading = Reading()
    degree: float | None = None  # of what comes next
    negated, began, place = 0.0, 0, 0
    while place < len(tokens):
        meaning, length = _longest(tokens, place, phrases)
        amount, span = _longest(tokens, place, DEGREES)
        token = tokens[place]
        if meaning is not None and length >= span:
            place += length
            after, span = _longest(tokens, place, DEGREES)  # "smiling broadly"
            if after is not None and degree is None and tokens[place + span : place + span + 1] in _OVER:
                degree, place = after, place + span
            strength = degree or negated or PLAIN
            _take(
                reading,
                directions,
                meaning,
                -strength if negated else strength,
                " ".join(tokens[began:place]),
            )
            degree, negated, began = None, 0.0, place
        elif amount is not None:
            degree, place = amount, place + span
        else:
            place += 1
            if token in NEGATIONS:
                negated = NEGATIONS[token]
            elif token in ENDINGS:
                if token != "with":
                    degree, negated = None, 0.0
                began = place
            elif token not in FILLERS:
                reading.unknown.append(token)
                began = place
    if not reading.edits:
        raise EditError(
            f'edit {text!r}: expected NAME=NUMBER or words such as "older, with a slight smile", got '
            f"{'; '.join(reading.remarks) or 'nothing'}; this bundle has {', '.join(directions) or 'none'}"
        )
    return reading


_OVER: Final = ([], *([ending] for ending in ENDINGS))


def _take(
    reading: Reading,
    directions: Mapping[str, Direction],
    meaning: tuple[str, float],
    amount: float,
    said: str,
) -> None:
    name, sign = meaning
    if name not in directions and not axes_of(name, directions):
        reading.lacking.append(f'"{said}" ({name})')
        return
    wish = sign * amount
    strength = round(wish * _reach(name, directions, wish), 3)
    reading.edits[name] = strength
    reading.understood.append(f'"{said}" as {name}={strength:g}')


def read_edits(
    texts: Iterable[str], directions: Mapping[str, Direction]
) -> tuple[dict[str, float], list[str]]:
    """Edits as they are given on a command line, NAME=NUMBER or words; and what should be said of the words.

    The last of a name counts. Raises EditError as :func:`parse_edits` and :func:`read_words`.
    """
    edits: dict[str, float] = {}
    remarks: list[str] = []
    for text in texts:
        if "=" in text:
            edits |= parse_edits([text])
            continue
        reading = read_words(text, directions)
        edits |= reading.edits
        remarks += reading.remarks
    return edits, remarks


def _each_with_its_noun(tokens: list[str]) -> list[str]:
    """ "long grey hair" -> "long hair grey hair"."""
    out: list[str] = []
    for token in tokens:
        out.append(token)
        if token == "hair":
            first = len(out) - 1
            while first > 0 and (out[first - 1] in _ADJECTIVES or out[first - 1] in (",", "and")):
                first -= 1
            while out[first] in (",", "and"):  # what ends another wish stays
                first += 1
            adjectives = [word for word in out[first:-1] if word in _ADJECTIVES]
            if adjectives:
                out[first:] = [word for adjective in adjectives for word in (adjective, "hair")]
    return out


def _reach(name: str, directions: Mapping[str, Direction], way: float) -> float:
    """How far the direction looks natural, to the side that `way` has the sign of."""
    low, high = directions[name if name in directions else axes_of(name, directions)[0]].range
    return abs(high if way > 0 else low)


def _phrases(directions: Mapping[str, Direction]) -> dict[str, tuple[str, float]]:
    """Every phrase that means something -> direction and sign; a bundle's own names and ends come first."""
    phrases = {phrase: (name, sign) for (name, sign), words in _WORDS.items() for phrase in words.split(", ")}
    known = {name for name, _ in phrases.values()}
    for name, direction in directions.items():
        low, high = (end.lower() for end in direction.ends)
        if name not in known:
            phrases[name.lower().replace("_", " ").replace("-", " ")] = (name, 1.0)
            for end, sign in ((low, -1.0), (high, 1.0)):
                if end not in ("less", "more"):
                    phrases.setdefault(end, (name, sign))
    return phrases


def _longest(tokens: list[str], place: int, phrases: Mapping[str, _Meaning]) -> tuple[_Meaning | None, int]:
    for length in range(min(5, len(tokens) - place), 0, -1):
        meaning = phrases.get(" ".join(tokens[place : place + length]))
        if meaning is not None:
            return meaning, length
    return None, 0
