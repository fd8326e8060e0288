"""A program that tells people apart and takes no part in training: any one that speaks as below.

It is given a file (int32 n, int32 side, then n pictures RGB uint8) and prints a JSON list of n vectors, null
where it finds no face. Distances are Euclidean.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Sequence

import numpy as np
from doppelgan.runtime.types import Floats


class Recognizer:
    """The program, if there is one; without it, every answer is None."""

    def __init__(self, command: str | None) -> None:
        self._command = command

    def __call__(self, pictures: Sequence[Floats]) -> list[np.ndarray | None]:
        """A vector for each RGB picture [3,R,R] in -1..1; None where no face is found."""
        if self._command is None or not pictures:
            return [None] * len(pictures)
        side = pictures[0].shape[-1]
        pixels = np.stack(
            [((p.transpose(1, 2, 0) + 1) * 127.5).clip(0, 255).astype(np.uint8) for p in pictures]
        )
        with tempfile.NamedTemporaryFile(suffix=".bin") as file:
            file.write(np.array([len(pictures), side], "<i4").tobytes() + pixels.tobytes())
            file.flush()
            done = subprocess.run(
                [*shlex.split(self._command), file.name], capture_output=True, text=True, check=True
            )
        return [None if vector is None else np.array(vector) for vector in json.loads(done.stdout)]

    def person(self, pictures: Sequence[Floats]) -> np.ndarray | None:
        """The mean vector of one person's pictures."""
        known = [vector for vector in self(pictures) if vector is not None]
        return np.mean(known, axis=0) if known else None

    def distances(self, pictures: Sequence[Floats], person: np.ndarray | None) -> list[float]:
        """Of each picture to a person; a picture without a face counts as 1. Empty without a person."""
        if person is None:
            return []
        return [1.0 if v is None else float(np.linalg.norm(v - person)) for v in self(pictures)]

    def distance(self, pictures: Sequence[Floats], person: np.ndarray | None) -> float | None:
        """Median of `distances`."""
        found = self.distances(pictures, person)
        return float(np.median(found)) if found else None
