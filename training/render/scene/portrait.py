"""A person number -> a finished pair of pictures, resampled until it passes the checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from training.render.person.features import Person, encode
from training.render.person.pairs import sample_pair
from training.render.person.placing import sit
from training.render.person.sampling import sample_person
from training.render.scene.camera import SAMPLES
from training.render.scene.picture import Picture, develop_natural, develop_toon
from training.render.scene.studio import EYE, SKIN, Passes, Studio

TOON_SAMPLES = 4
TOON_OVERSIZE = 1.25
MAX_ATTEMPTS = 5

_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass
class Portrait:
    """A pair of one person; `landmarks` float32 [L, 2] in crop coordinates 0..1, `label` uint8 [h, w] what the natural look shows
    where (`SKIN`, `EYE`, `HAIR`, `OTHER`, `OCCLUDER`, 0: background).
    """

    number: int
    person: Person
    landmarks: np.ndarray
    natural: Picture | None = None
    toon: Picture | None = None
    label: np.ndarray | None = None
    rejected: list[str] = field(default_factory=list)

    @property
    def features(self) -> np.ndarray:
        return encode(self.person)


class Portraitist:
    """Renders pairs at one size with one Blender scene.

    The natural look is rendered `oversize` times as large, with so many `samples` (light paths) per pixel, and averaged down.
    """

    def __init__(
        self,
        size: int = 256,
        looks: tuple[str, ...] = ("natural", "toon"),
        threads: int = 1,
        samples: int = SAMPLES,
        oversize: int = 1,
    ) -> None:
        self.size = size
        self.looks = looks
        self.samples = samples
        self.oversize = oversize
        self._studio = Studio(threads)

    def portrait(self, number: int) -> Portrait | None:
        """The first attempt at this person that passes the checks; None when all fail."""
        found = self._first_good(lambda attempt: {number: sample_person(number, attempt)})
        return found[0] if found else None

    def pair(self, pair: int) -> list[Portrait]:
        """Both ends (`pairs.py`) of the first attempt at which both pass the checks; none when all fail."""
        return self._first_good(lambda attempt: dict(enumerate(sample_pair(pair, attempt), 2 * pair)))

    def _first_good(self, people_of: Callable[[int], dict[int, Person]]) -> list[Portrait]:
        """Of the first attempt whose people all pass the checks; people_of: attempt -> people by their numbers."""
        reasons: list[str] = []
        for attempt in range(MAX_ATTEMPTS):
            portraits = []
            for number, person in people_of(attempt).items():
                portraits.append(self._try(person, number, strict=True))
                if self._fault is not None:
                    reasons.append(self._fault)
                    break
            else:
                for portrait in portraits:
                    portrait.rejected = reasons
                return portraits
        return []

    def render(self, person: Person, number: int = -1) -> Portrait:
        """Both looks of given parameters, unchecked."""
        return self._try(person, number, strict=False)

    def _try(self, person: Person, number: int, strict: bool) -> Portrait:
        sitting = sit(person)
        portrait = Portrait(number, person, sitting.view.project(sitting.landmarks).astype(np.float32))
        self._fault: str | None = None
        if "natural" in self.looks:
            self._studio.load(person, toon=False)
            large = self.size * self.oversize
            passes = self._studio.shoot(sitting.view, large, large, self.samples)
            picture = develop_natural(passes, person, sitting.view.width_dm)
            self._fault = find_fault(picture, passes, person)
            portrait.natural = picture.averaged(self.oversize)
            middle = self.oversize // 2
            portrait.label = passes.index[middle :: self.oversize, middle :: self.oversize]
        if "toon" in self.looks and not (strict and self._fault):
            self._studio.load(person, toon=True)
            large = round(self.size * TOON_OVERSIZE)
            passes = self._studio.shoot(sitting.view, large, large, TOON_SAMPLES)
            portrait.toon = develop_toon(passes, person, self.size, self.size)
        return portrait


def find_fault(picture: Picture, passes: Passes, person: Person) -> str | None:
    """Why a natural picture should not be used, or None."""
    skin = (passes.index == SKIN) & (passes.alpha > 0.9)
    coverage = float(skin.mean())
    least = 0.16 if person["hand"] == "none" else 0.1
    if coverage < least:
        return f"skin covers only {coverage:.2f}"
    if float((passes.alpha > 0.5).mean()) > 0.97:
        return "no background left"
    brightness = (picture.rgb[skin] @ _LUMA) / 255
    mean = float(brightness.mean())
    if not 0.16 < mean < 0.88:
        return f"skin brightness {mean:.2f}"
    if float((brightness > 0.98).mean()) > 0.12:
        return "overexposed skin"
    open_eyes = 2 - sum(max(float(person[f"eyeBlink{s}"]), 0.6 * float(person[f"eyeSquint{s}"])) for s in ("Left", "Right"))
    eye_share = float((passes.index == EYE).mean())
    if open_eyes > 1.6 and person["hand"] == "none" and abs(float(person["yaw"])) < 0.6 and eye_share < 0.0022:
        return f"open eyes cover only {eye_share:.4f}"
    return None
