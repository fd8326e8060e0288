"""W+ codes to pictures, through the generator of the chosen style."""

from __future__ import annotations

import numpy as np

from .backends import Session
from .types import Floats


class Synthesizer:
    """One generator with its output buffer: codes [1,n_styles,w_dim] -> RGB float32 [3,R,R].

    The returned array is reused by the next call; copy it to keep it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._image = np.empty(session.outputs[0].shape, np.float32)

    def __call__(self, codes: Floats) -> Floats:
        self._session.run({"codes": np.ascontiguousarray(codes, np.float32)}, {"image": self._image})
        image: Floats = self._image[0]
        return image
