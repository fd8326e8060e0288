"""The pipeline as a function of frames, in the geometry in which they are displayed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from ..pictures.square_pixels import SquarePixels
from ..pipeline import Pipeline
from ..source.base import Source
from ..types import Frame


class Processor:
    """Edits frames; counts those with a face."""

    def __init__(self, pipeline: Pipeline, source: Source | None = None) -> None:
        self._pipeline = pipeline
        media = source.media if source is not None else None
        self._geometry = SquarePixels(media.pixel_aspect if media is not None else Fraction(1))
        self.with_face = 0

    def __call__(self, frame: Frame) -> Frame:
        displayed = self._geometry.display(frame.image)
        edited = self._pipeline.process(displayed, frame.time_s)
        self.with_face += bool(self._pipeline.people)
        replaced = self._pipeline.composite == "replace"
        image = self._geometry.stored(frame.image, displayed, edited, replaced=replaced)
        if replaced:
            return replace(frame, image=image, deep=None)  # not even the last bits of the original
        return replace(frame, image=image)
