"""W+ codes to pictures, through the generator of the chosen style."""

from __future__ import annotations

import numpy as np

from .backends import PairSession, Session
from .types import Floats


class Synthesizer:
    """One generator with its output buffers: codes [1,n_styles,w_dim] -> RGB float32 [3,R,R], about -1..1.

    Returned arrays are reused by the next call; copy them to keep them.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pairing = session if isinstance(session, PairSession) else None
        self._image = np.empty(session.outputs[0].shape, np.float32)
        self._pairs: dict[int, tuple[Floats, Floats]] = {}  # buffers by the side of their pictures

    @property
    def size(self) -> int:
        """R, in pixels."""
        return int(self._image.shape[-1])

    def __call__(self, codes: Floats) -> Floats:
        self._session.run({"codes": np.ascontiguousarray(codes, np.float32)}, {"image": self._image})
        image: Floats = self._image[0]
        return image

    def pair(self, codes: Floats, edited_codes: Floats, size: int | None = None) -> tuple[Floats, Floats]:
        """The pictures of a code and of its edit, as two calls would draw them; RGB float32 [3,size,size].

        With a smaller ``size``, R / 2^n, they are no finer than that: a native generator then stops at its
        RGB sum of that size; others draw all of it, and what falls into one pixel is averaged. Where the
        session can, both are drawn in one pass. Raises ValueError for another size.
        """
        size = self.size if size is None else size
        if not 4 <= size <= self.size or self.size % size or (self.size // size).bit_count() != 1:
            raise ValueError(
                f"size: expected {self.size} px, its half, its quarter ..., at least 4; got {size}"
            )
        if size not in self._pairs:
            shape = (1, 3, size, size)
            self._pairs[size] = np.empty(shape, np.float32), np.empty(shape, np.float32)
        plain, edited = self._pairs[size]
        if self._pairing is not None and size in self._pairing.sizes:
            codes, edited_codes = (np.ascontiguousarray(one, np.float32) for one in (codes, edited_codes))
            self._pairing.run_pair(codes, edited_codes, plain, edited)
        else:
            for one, picture in ((codes, plain), (edited_codes, edited)):
                parts = self(one).reshape(3, size, self.size // size, size, self.size // size)
                parts.mean(axis=(2, 4), out=picture[0])
        return plain[0], edited[0]
