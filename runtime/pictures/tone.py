"""Black-and-white and toned material (sepia, cyanotype) keeps its tone: nothing colored is drawn into it.

Toned material has one color for each brightness. Whether a picture does is seen at its faces; if so, what
was drawn takes the color that its brightness has in the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from ..types import Floats, Image

_LUMA: Final = np.array([0.0722, 0.7152, 0.2126], np.float32)  # of B, G, R: BT.709, as sRGB
_SAMPLES: Final = 48  # a side of the grid on which a face is looked at
_BINS: Final = 64  # of brightness
# Levels by which colors of a face may be off those of its brightness, for 99.5 % of samples, lips and eyes
# among them. Of ten faces in color the least was off by 34, sepia by at most 12 (15 as a JPEG of quality 75),
# gray by less than 1.
_STRAY: Final = 10.0
_STRAY_ONCE_TONED: Final = 15.0  # so that a stream does not flicker between both
# Frames that are taken to be in color, as the one before, while their faces keep their mean color, of -1..1.
_UNCHECKED: Final = 5
_ALIKE: Final = 0.03
_GRAY: Final = 2.5  # levels of color that are none
_SPREAD: Final = 40.0  # levels of brightness in each face, from which colors can follow it; gray needs none


class Tone:
    """Follows one stream; unrelated pictures need a :meth:`reset` in between."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget whether the stream was toned."""
        self._toned = False
        self._colored: Floats | None = None  # [faces,3]: mean colors when color was seen last
        self._unchecked = 0  # frames since

    def keep(
        self,
        frame: Image,  # BGR uint8 [H,W,3], as it came
        drawn: Image,  # with faces drawn in; changed in place where it differs from ``frame``
        faces: Sequence[Floats],  # aligned crops of ``frame``, RGB float32 [3,S,S], -1..1
    ) -> None:
        """Give what was drawn the tone of ``frame``, if it has one."""
        looks = np.array([face[:, ::16, ::16].mean(axis=(1, 2)) for face in faces])
        if self._colored is not None and self._unchecked < _UNCHECKED and looks.shape == self._colored.shape:
            self._unchecked += 1
            if np.abs(looks - self._colored).max() < _ALIKE:
                return
        curve = self._curve(faces)
        self._colored, self._unchecked = (looks if curve is None else None), 0
        if curve is None:
            return
        changed = (frame != drawn).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        if not len(rows):
            return
        place = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        part, mask = drawn[place], changed[place]
        luma = part[mask] @ _LUMA
        part[mask] = np.clip(luma[:, None] + curve[luma.astype(np.uint8)] + 0.5, 0, 255).astype(np.uint8)

    def _curve(self, faces: Sequence[Floats]) -> Floats | None:
        """[256,3]: how far B, G, R are off the brightness at each level; None for material in color."""
        samples = np.concatenate([_sampled(face) for face in faces])
        luma = samples @ _LUMA
        dark, bright = _ranked(luma.reshape(len(faces), -1), 0.05, 0.95)
        spread = (bright - dark).min()
        chroma = samples - luma[:, None]
        index = np.clip(luma * (_BINS / 256), 0, _BINS - 1).astype(np.intp)
        count = np.bincount(index, minlength=_BINS)
        sums = np.stack([np.bincount(index, chroma[:, c], _BINS) for c in range(3)], axis=1)
        filled = np.flatnonzero(count)
        middle = np.bincount(index, luma, _BINS)[filled] / count[filled]
        means = sums[filled] / count[filled, None]
        levels = np.arange(256)
        curve = np.stack([np.interp(levels, middle, means[:, c]) for c in range(3)], axis=1)
        stray = np.abs(chroma - curve[np.clip(luma, 0, 255).astype(np.intp)]).max(axis=1)
        gray = bool(np.abs(means).max() <= _GRAY)
        (most,) = _ranked(stray, 0.995)
        follows = most <= (_STRAY_ONCE_TONED if self._toned else _STRAY)
        self._toned = bool(follows and (gray or spread >= _SPREAD))
        if not self._toned:
            return None
        return np.zeros((256, 3), np.float32) if gray else curve.astype(np.float32)


def _ranked(values: Floats, *shares: float) -> Iterator[Floats]:
    """Of each row, the values below which so many are; NumPy's quantiles take five times as long."""
    places = [int(share * values.shape[-1]) for share in shares]
    sorted_there = np.partition(values, places, axis=-1)
    return (sorted_there[..., place] for place in places)


def _sampled(face: Floats) -> Floats:
    """[n,3]: colors of a crop on a grid, as BGR levels 0..255."""
    size = face.shape[-1]
    index = ((np.arange(_SAMPLES) + 0.5) * (size / _SAMPLES)).astype(np.intp)
    grid = face[::-1, index[:, None], index].reshape(3, -1).T
    return np.asarray(np.clip(grid * 127.5 + 127.5, 0, 255), np.float32)
