"""W+ codes to pictures, through the generator of the chosen style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from .backends import ChooseRows, GeneratorSession, Session
from .types import Floats


class Synthesizer:
    """One generator with its output buffers: codes [1,n_styles,w_dim] -> RGB float32 [3,R,R], about -1..1.

    Returned arrays are reused by the next call; copy them to keep them.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        # Asked by name: sessions may be wrapped, e.g. to time them.
        self._generator = cast(GeneratorSession, session) if hasattr(session, "run_together") else None
        self._image = np.empty(session.outputs[0].shape, np.float32)
        self._buffers: dict[int, list[Floats]] = {}  # by the side of their pictures

    @property
    def size(self) -> int:
        """R, in pixels."""
        return int(self._image.shape[-1])

    def __call__(self, codes: Floats) -> Floats:
        self._session.run({"codes": np.ascontiguousarray(codes, np.float32)}, {"image": self._image})
        image: Floats = self._image[0]
        return image

    def pair(self, codes: Floats, edited_codes: Floats, size: int | None = None) -> tuple[Floats, Floats]:
        """The pictures of a code and of its edit: ``together([codes, edited_codes], size)``."""
        plain, edited = self.together((codes, edited_codes), size)
        return plain, edited

    def together(
        self, codes: Sequence[Floats], size: int | None = None, rows: ChooseRows | None = None
    ) -> list[Floats]:
        """Pictures of several codes, as calls of their own would draw them; RGB float32 [3,size,size] each.

        With a smaller ``size``, R / 2^n, they are no finer than that: a native generator then stops at its
        RGB sum of that size; others draw all of it, and what falls into one pixel is averaged. Where the
        session can, up to three are drawn in one pass; it may then ask ``rows``, with pictures of a coarser
        size, which of their rows to draw finer, and leave the others so. Raises ValueError for another size.
        """
        size = self.size if size is None else size
        if not 4 <= size <= self.size or self.size % size or (self.size // size).bit_count() != 1:
            raise ValueError(
                f"size: expected {self.size} px, its half, its quarter ..., at least 4; got {size}"
            )
        buffers = self._buffers.setdefault(size, [])
        buffers += [np.empty((1, 3, size, size), np.float32) for _ in range(len(buffers), len(codes))]
        pictures = buffers[: len(codes)]
        generator = self._generator
        if generator is not None and size in generator.sizes:
            whole = [np.ascontiguousarray(one, np.float32) for one in codes]
            if len(codes) > generator.most_pictures:
                rows = None  # it would see some of them only
            for first in range(0, len(codes), generator.most_pictures):
                part = slice(first, first + generator.most_pictures)
                generator.run_together(whole[part], pictures[part], rows)
        else:
            for one, picture in zip(codes, pictures, strict=True):
                parts = self(one).reshape(3, size, self.size // size, size, self.size // size)
                parts.mean(axis=(2, 4), out=picture[0])
        return [picture[0] for picture in pictures]
