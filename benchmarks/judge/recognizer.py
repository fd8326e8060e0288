"""Who somebody looks like, for a judge that recognizes people (``recognize.cjs``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from doppelgan.runtime.types import Image
from numpy.typing import NDArray

from . import Judge

Descriptor = NDArray[np.float64]


class Recognizer:
    """Describes faces by vectors, whose distances tell people apart; without a command, not at all.

    ``border``: of a picture's side, added as gray all around before it is judged. Detectors overlook faces
    that fill a picture: half of a real person's frames, and an avatar at once, where ``border`` is 0.
    """

    def __init__(self, command: str | None, border: float = 0.0) -> None:
        self._judge = None if command is None else Judge(command)
        self._border = border

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._judge is not None:
            self._judge.close()

    def describe(self, picture: Image) -> Descriptor | None:
        """[128] of the face in BGR uint8 [H,W,3]; None where none is found."""
        if self._judge is None:
            return None
        around = round(self._border * max(picture.shape[:2]))
        framed = np.pad(picture, ((around, around), (around, around), (0, 0)), constant_values=128)
        found = self._judge.ask(framed[..., ::-1])["descriptor"]
        return None if found is None else np.array(found)

    def person(self, pictures: Sequence[Image]) -> Descriptor | None:
        """The mean vector of one person's pictures."""
        known = [vector for vector in map(self.describe, pictures) if vector is not None]
        return np.mean(known, 0) if known else None

    def distances(self, pictures: Sequence[Image], person: Descriptor | None) -> list[float]:
        """Of each picture to a person; a picture without a face counts as 1. Empty without a person."""
        if person is None:
            return []
        vectors = [self.describe(picture) for picture in pictures]
        return [1.0 if vector is None else float(np.linalg.norm(vector - person)) for vector in vectors]

    def distance(self, pictures: Sequence[Image], person: Descriptor | None) -> float | None:
        """Median of `distances`."""
        found = self.distances(pictures, person)
        return float(np.median(found)) if found else None
