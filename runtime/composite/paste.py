"""The synthesized face drawn over the frame: the modes ``face``, ``head`` and ``replace``.

A mask is what lies within the tangents of the person's tracked contour, with a soft edge. Colors are matched
by one gain and one offset per channel, steadied over time.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..align import invert
from ..face_mesh import FACE_OVAL
from ..types import Crop, Face, Floats, Image, Matrix
from .regions import draw_region, fade_of, reach_of, rescaled

Pasted = Literal["face", "head", "replace"]

SAMPLES: Final = 32  # px: colors are compared on a grid of this size
GAIN_RANGE: Final = (0.7, 1.4)  # contrast may follow the person's this far
MAX_SHIFT: Final = 0.6  # brightness likewise, in units of -1..1
STEADINESS: Final = 0.85  # share of the color match carried over from the frame before
USUAL: Final = 0.992  # per frame, share carried over of where the person usually is: 4 s at 30 frames/s
MAX_SWAY: Final = 0.15  # of the square's side, that "replace" moves away from the middle
FEATHER: Final = {"face": 0.07, "head": 0.10, "replace": 0.12}  # of the square's side

SURROUNDINGS: Final = 48  # px: what surrounds the picture in "replace" is this high before it is enlarged
SURROUNDINGS_BLUR: Final = 7  # px: of _box_sums, which twice is about a Gaussian of sigma 2.8
SURROUNDINGS_TEXELS: Final = 56  # the picture is thinned out to this size for them

_OVAL: Final = np.array(FACE_OVAL)
_ONES: Final = np.ones(3, np.float32)
_ZEROS: Final = np.zeros(3, np.float32)


class Compositor:
    """Draws one person's synthesized face into frame after frame.

    Remembers the color match and, for "replace", where the person usually is.
    """

    def __init__(
        self,
        mode: str = "face",  # "face", "head" or "replace"
        feather: float | None = None,  # soft edge's width, a share of the square's side; None: the mode's own
        color_match: bool = True,  # off: the colors as synthesized; "replace" never matches
    ) -> None:
        if mode not in get_args(Pasted):
            raise ValueError(f"composite: expected one of {', '.join(get_args(Pasted))}, got {mode!r}")
        if feather is not None and not 0 < feather <= 0.25:
            raise ValueError(f"feather: expected a share of the side above 0 and up to 0.25, got {feather}")
        self.mode = cast(Pasted, mode)
        self.feather = FEATHER[mode] if feather is None else feather
        self.color_match = color_match and mode != "replace"
        self._match: tuple[Floats, Floats] | None = None
        self._usual: Matrix | None = None  # middle of the square, frame pixels

    def apply(
        self,
        frame: Image,  # BGR uint8 [H,W,3]; changed in place
        picture: Floats,  # RGB float32 [3,R,R], nominally -1..1: the synthesized square
        crop: Crop,  # the aligned square that it replaces
        face: Face,
    ) -> Image:
        """Draw ``picture`` where ``crop`` was cut; returns ``frame``."""
        if picture.ndim != 3 or picture.shape[0] != 3 or picture.shape[1] != picture.shape[2]:
            raise ValueError(f"picture: expected RGB float32 [3,R,R], got {list(picture.shape)}")
        picture = np.ascontiguousarray(picture, np.float32)
        size = picture.shape[1]

        if self.mode == "replace":
            matrix = _full_height(crop.matrix, frame.shape[0], frame.shape[1], size, self._sway(crop))
            _fill_with_surroundings(frame, picture, matrix)
            mask = _soft_square(self.feather, size)
            native.paste(frame, picture, mask, matrix, _ONES, _ZEROS, native.THREADS)
        else:
            draw = _face_mask if self.mode == "face" else _head_mask
            gain, offset = self._matched(picture, crop) if self.color_match else (_ONES, _ZEROS)
            matrix = rescaled(crop.matrix, crop.size, size)
            mask = draw(crop, self.feather, size)
            native.paste(frame, picture, mask, matrix, gain, offset, native.THREADS)
        return frame

    def reset(self) -> None:
        """Forget everything, e.g. at a cut."""
        self._match = self._usual = None

    def _sway(self, crop: Crop) -> Matrix:
        """How far the square is from where it usually is, x and y in its sides.

        Squares are aligned to the face, so that within them the neck moves when the head does. Moved back by
        as much it stays, and the face goes where the person's goes. Over the demo's clip the shoulders spread
        by 18 of 255 instead of 28; the face changes by 11 every third frame, as the person's (before: 5).
        """
        middle = crop.matrix[:, :2].sum(axis=1) * ((crop.size - 1) / 2) + crop.matrix[:, 2]
        side = crop.size * math.hypot(crop.matrix[0, 0], crop.matrix[1, 0])
        self._usual = middle if self._usual is None else USUAL * self._usual + (1 - USUAL) * middle
        sway: Matrix = np.clip((middle - self._usual) / side, -MAX_SWAY, MAX_SWAY)
        return sway

    def _matched(self, picture: Floats, crop: Crop) -> tuple[Floats, Floats]:
        match = match_colors(picture, crop, keep_black=self.mode == "head")
        if self._match is not None:
            old_gain, old_offset = self._match
            gain, offset = match
            match = (
                STEADINESS * old_gain + (1 - STEADINESS) * gain,
                STEADINESS * old_offset + (1 - STEADINESS) * offset,
            )
        self._match = match
        return match


def match_colors(
    picture: Floats,  # RGB float32 [3,R,R], -1..1
    crop: Crop,
    keep_black: bool = False,  # only scale the light: dark hair around the face must not take on a tint
) -> tuple[Floats, Floats]:
    """Gain and offset, float32 [3] RGB, that give the picture's face the person's mean and contrast."""
    middle, reach = _oval(crop, SAMPLES)
    inside = draw_region(SAMPLES, middle, 0.85 * reach, 1.0, fade_of(0.0, SAMPLES)) > 0.5
    if np.count_nonzero(inside) < 16:
        return _ONES, _ZEROS
    real, drawn = _sample(crop.pixels[0], inside), _sample(picture, inside)
    drawn = np.minimum(np.maximum(drawn, -1), 1)

    low, high = GAIN_RANGE
    (real_mean, real_spread), (mean, spread) = _mean_and_spread(real), _mean_and_spread(drawn)
    if keep_black:
        ratio = np.clip((real_mean + 1) / np.maximum(mean + 1, 1e-3), low, high)
        return ratio.astype(np.float32), (ratio - 1).astype(np.float32)
    # Per channel: with one gain for all, of the luma, skin and mouths of four clips came out further from the
    # person's, mouths by 2 to 5 units of b* more violet.
    gain = np.clip(real_spread / np.maximum(spread, 1e-3), low, high)
    shift = np.clip(real_mean - mean, -MAX_SHIFT, MAX_SHIFT)
    return gain.astype(np.float32), (mean + shift - gain * mean).astype(np.float32)


def _sample(image: Floats, inside: NDArray[np.bool_]) -> Floats:
    """[3,n]: the image's colors on the sampling grid, where `inside`."""
    rows, columns = np.nonzero(inside)
    index = _grid_index(image.shape[1], SAMPLES)
    return image[:, index[rows], index[columns]]


@lru_cache(maxsize=8)
def _grid_index(size: int, count: int) -> NDArray[np.intp]:
    """[count]: the pixels of `size` in the middles of `count` equal parts; kept, so not to be written to."""
    index = ((np.arange(count) + 0.5) * (size / count)).astype(np.intp)
    index.flags.writeable = False
    return index


def _mean_and_spread(colors: Floats) -> tuple[Floats, Floats]:
    """[3] each, of colors [3,n]."""
    mean = colors.mean(axis=1)
    apart = colors - mean[:, None]
    return mean, np.sqrt(np.einsum("ij,ij->i", apart, apart) / colors.shape[1])


def _oval(crop: Crop, size: int) -> tuple[Matrix, Matrix]:
    """The face's outline in a square of size x size pixels: its middle [2] and its _reach from there."""
    points = _on_grid(crop, size)
    middle = points.mean(axis=0)
    return middle, reach_of(points - middle)


def _on_grid(crop: Crop, size: int) -> Matrix:
    """float64 [36,2]: the face's outline as pixels of a size x size picture of the square."""
    return (crop.landmarks[_OVAL, :2].astype(np.float64) + 0.5) * (size / crop.size) - 0.5


def _face_mask(crop: Crop, feather: float, size: int) -> Floats:
    middle, reach = _oval(crop, size)
    width = feather * size
    # The ramp reaches out as far as in: draw smaller, so that it ends near the contour.
    shrink = max(0.2, 1 - 0.75 * width / max(float(reach.mean()), 0.5))
    return draw_region(size, middle, shrink * reach, width, fade_of(0.03, size))


def _head_mask(crop: Crop, feather: float, size: int) -> Floats:
    points = _on_grid(crop, size)
    middle = points.mean(axis=0)
    points -= middle
    # Grow upwards more than down: hair above, little below the chin.
    up = 0.22 * float(np.ptp(points[:, 1]))
    raised = points * (1.35, 1.15) - (0, up)
    reach = np.maximum(reach_of(points), reach_of(raised))
    return draw_region(size, middle, reach, feather * size, fade_of(0.08, size))


@lru_cache(maxsize=8)
def _soft_square(feather: float, size: int) -> Floats:
    """The whole picture with a soft edge, [size,size]; the same for every frame, so not to be written to."""
    mask = np.outer(fade_of(feather, size), fade_of(feather, size))
    mask.flags.writeable = False
    return mask


def _full_height(matrix: Matrix, height: int, width: int, size: int, sway: Matrix) -> Matrix:
    """Picture pixel -> frame pixel: as high as the frame, turned like the person's square.

    In the frame's middle, but for ``sway`` [2]: x and y, in sides of the picture.
    """
    roll = math.atan2(matrix[1, 0], matrix[0, 0])
    # Full height, but never so wide that an upright frame cuts off the ears.
    scale, middle = min(height, 1.25 * width) / size, (size - 1) / 2
    across, along = scale * math.cos(roll), scale * math.sin(roll)
    x = (width - 1) / 2 + scale * size * sway[0] - middle * (across - along)
    y = (height - 1) / 2 + scale * size * sway[1] - middle * (along + across)
    return np.array([[across, -along, x], [along, across, y]])


def _fill_with_surroundings(frame: Image, picture: Floats, matrix: Matrix) -> None:
    """Continue the picture's border over the whole frame, out of focus."""
    height, width = frame.shape[:2]
    shrink = SURROUNDINGS / height
    rows, columns = SURROUNDINGS, max(8, round(width * shrink))

    index = _grid_index(picture.shape[1], min(picture.shape[1], SURROUNDINGS_TEXELS))
    thinned = picture[:, index[:, None], index][::-1].transpose(1, 2, 0)
    texels = np.clip(thinned * 127.5 + 127.5, 0, 255).astype(np.uint8, order="C")
    to_soft = rescaled(matrix, picture.shape[1], texels.shape[0])
    to_soft *= shrink
    # Hair that touches a side must not run on as a band: continue the wall above it, in all that is averaged.
    outer = max(1, round(1 / math.hypot(to_soft[0, 0], to_soft[1, 0])))
    for side in (np.s_[:, :outer], np.s_[:, -outer:]):
        texels[side] = texels[side][: len(texels) // 8].mean(axis=(0, 1))
    # Room around for the blur.
    room = SURROUNDINGS_BLUR - 1
    to_soft[:, 2] += 0.5 * shrink - 0.5 + room
    soft = np.empty((3, *2 * [max(rows, columns) + 2 * room]), np.float32)
    native.warp_crop(texels, invert(to_soft), soft, native.THREADS, "repeat")
    soft = soft[:, : rows + 2 * room, : columns + 2 * room]
    for _ in range(2):
        soft = _box_sums(_box_sums(soft).swapaxes(1, 2)).swapaxes(1, 2)
    scale = 127.5 / SURROUNDINGS_BLUR**4
    small = (soft[::-1].transpose(1, 2, 0) * np.float32(scale) + np.float32(128)).astype(np.uint8, order="C")
    native.stretch(frame, small, native.THREADS)


def _box_sums(planes: Floats) -> Floats:
    """[C,H,W] -> [C,H,W-6]: sums of 7 neighbors in a row."""
    count = planes.shape[2] - 6
    pairs = planes[..., :-1] + planes[..., 1:]
    fours = pairs[..., :-2] + pairs[..., 2:]
    sums: Floats = fours[..., :count] + pairs[..., 4 : 4 + count] + planes[..., 6:]
    return sums
