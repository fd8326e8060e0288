"""The synthesized face back into the frame.

===========  =======================================================================================
``face``     the face inside its contour, colors matched to the person's: hair and ears stay real
``head``     the whole head with its hair, in a soft oval that ends inside the aligned square
``replace``  nothing of the frame remains: the avatar at full height on its own blurred surroundings,
             tilting with the person
===========  =======================================================================================

Masks are drawn small, in the aligned square, from the person's tracked contour, and enlarged for the blend: a
feathered edge holds no detail. Colors are matched by one gain and one offset per channel, steadied over time.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import Final, Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from . import native
from .face_mesh import FACE_OVAL
from .types import Crop, Face, Floats, Image, Matrix

Mode = Literal["face", "head", "replace"]

MASK_SIZE: Final = 96  # px: drawn and blurred at this size
SAMPLES: Final = 32  # px: colors are compared on a grid of this size
GAIN_RANGE: Final = (0.7, 1.4)  # contrast may follow the person's this far
MAX_SHIFT: Final = 0.6  # brightness likewise, in units of -1..1
STEADINESS: Final = 0.85  # share of the color match carried over from the frame before
FEATHER: Final = {"face": 0.07, "head": 0.10, "replace": 0.12}  # of the square's side

SURROUNDINGS: Final = 48  # px: what surrounds the picture in "replace" is this high before it is enlarged
SURROUNDINGS_BLUR: Final = (7, 7)  # px, odd: box after box, about a Gaussian of sigma 2.8

_CORES: Final = min(4, os.cpu_count() or 1)
_OVAL: Final = np.array(FACE_OVAL)
_ONES: Final = np.ones(3, np.float32)
_ZEROS: Final = np.zeros(3, np.float32)


class Compositor:
    """Draws one person's synthesized face into frame after frame; remembers only the color match."""

    def __init__(
        self,
        mode: str = "face",  # "face", "head" or "replace"
        feather: float | None = None,  # soft edge's width, a share of the square's side; None: the mode's own
        color_match: bool = True,  # off: the colors as synthesized; "replace" never matches
        mark: bool = False,  # write "synthetic" into the lower left corner
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"composite: expected one of {', '.join(get_args(Mode))}, got {mode!r}")
        if feather is not None and not 0 < feather <= 0.25:
            raise ValueError(f"feather: expected a share of the side above 0 and up to 0.25, got {feather}")
        self.mode = cast(Mode, mode)
        self.feather = FEATHER[mode] if feather is None else feather
        self.color_match = color_match and mode != "replace"
        self.mark = mark
        self._match: tuple[Floats, Floats] | None = None

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
            matrix = _full_height(crop.matrix, frame.shape[0], frame.shape[1], size)
            _fill_with_surroundings(frame, picture, matrix)
            # The largest paste there is, while no network computes: worth all cores.
            mask = _soft_square(self.feather, size)
            native.paste(frame, picture, mask, matrix, _ONES, _ZEROS, threads=_CORES)
        else:
            mask = _face_mask(crop, self.feather) if self.mode == "face" else _head_mask(crop, self.feather)
            gain, offset = self._matched(picture, crop) if self.color_match else (_ONES, _ZEROS)
            matrix = _rescale(crop.matrix, crop.size, size)
            native.paste(frame, picture, _enlarge(mask, size), matrix, gain, offset)
        if self.mark:
            _write_mark(frame)
        return frame

    def reset(self) -> None:
        """Forget the color match, e.g. at a cut."""
        self._match = None

    def _matched(self, picture: Floats, crop: Crop) -> tuple[Floats, Floats]:
        found = match_colors(picture, crop, keep_black=self.mode == "head")
        if self._match is not None:
            old_gain, old_offset = self._match
            gain, offset = found
            found = (
                STEADINESS * old_gain + (1 - STEADINESS) * gain,
                STEADINESS * old_offset + (1 - STEADINESS) * offset,
            )
        self._match = found
        return found


def match_colors(
    picture: Floats,  # RGB float32 [3,R,R], -1..1
    crop: Crop,
    keep_black: bool = False,  # only scale the light: dark hair around the face must not take on a tint
) -> tuple[Floats, Floats]:
    """Gain and offset, float32 [3] RGB, that give the picture's face the person's mean and contrast."""
    oval = np.zeros((SAMPLES, SAMPLES), np.uint8)
    _fill(oval, _oval(crop) * (SAMPLES / crop.size), 0.85)
    inside = oval > 127
    if inside.sum() < 16:
        return _ONES, _ZEROS
    real, drawn = _sample(crop.pixels[0], inside), _sample(picture, inside)
    drawn = np.clip(drawn, -1, 1)

    low, high = GAIN_RANGE
    if keep_black:
        ratio = np.clip((real.mean(axis=1) + 1) / np.maximum(drawn.mean(axis=1) + 1, 1e-3), low, high)
        return ratio.astype(np.float32), (ratio - 1).astype(np.float32)
    gain = np.clip(real.std(axis=1) / np.maximum(drawn.std(axis=1), 1e-3), low, high)
    middle = drawn.mean(axis=1)
    shift = np.clip(real.mean(axis=1) - middle, -MAX_SHIFT, MAX_SHIFT)
    return gain.astype(np.float32), (middle + shift - gain * middle).astype(np.float32)


def _sample(image: Floats, inside: NDArray[np.bool_]) -> Floats:
    """[3,n]: the image's colors on the sampling grid, where `inside`."""
    index = ((np.arange(SAMPLES) + 0.5) * (image.shape[1] / SAMPLES)).astype(np.intp)
    return image[:, index[:, None], index][:, inside]


def _oval(crop: Crop) -> Floats:
    """[n,2]: the convex outline of the face in crop coordinates where the square is 0..size."""
    hull = cv2.convexHull(crop.landmarks[_OVAL, :2].astype(np.float32))[:, 0]
    return np.asarray(hull + 0.5, np.float32)


def _fill(mask: NDArray[np.uint8], outline: Floats, grow: float = 1.0) -> None:
    """Fill a convex outline, grown around its center; coordinates where the mask spans 0..size."""
    middle = outline.mean(axis=0)
    points = np.round((middle + (outline - middle) * grow - 0.5) * 16).astype(np.int32)
    cv2.fillConvexPoly(mask, points, (255,), lineType=cv2.LINE_AA, shift=4)


def _blur(mask: NDArray[np.uint8], width: float) -> Floats:
    """Soften over about `width` pixels; two box filters make a smooth ramp of finite length."""
    box = 2 * max(1, round(width / 2)) + 1
    soft = cv2.blur(mask.astype(np.float32) / 255, (box, box), borderType=cv2.BORDER_REPLICATE)
    soft = cv2.blur(soft, (box, box), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(soft, np.float32)


def _face_mask(crop: Crop, feather: float) -> Floats:
    mask = np.zeros((MASK_SIZE, MASK_SIZE), np.uint8)
    outline = _oval(crop) * (MASK_SIZE / crop.size)
    # The ramp reaches out as far as in: draw smaller, so that it ends near the contour.
    radius = math.sqrt(max(float(cv2.contourArea(outline)), 1.0) / math.pi)
    _fill(mask, outline, max(0.2, 1 - 0.75 * feather * MASK_SIZE / radius))
    return _blur(mask, feather * MASK_SIZE) * _square_mask(0.03)


def _head_mask(crop: Crop, feather: float) -> Floats:
    mask = np.zeros((MASK_SIZE, MASK_SIZE), np.uint8)
    outline = _oval(crop) * (MASK_SIZE / crop.size)
    # Grow upwards more than down: hair above, little below the chin.
    middle = outline.mean(axis=0)
    up = -0.22 * (outline[:, 1].max() - outline[:, 1].min())
    raised = middle + (outline - middle) * (1.35, 1.15) + (0, up)
    both = cv2.convexHull(np.concatenate([outline, raised]).astype(np.float32))
    _fill(mask, np.asarray(both[:, 0], np.float32))
    return _blur(mask, feather * MASK_SIZE) * _square_mask(0.08)


def _square_mask(feather: float) -> Floats:
    """1 inside, falling smoothly to 0 over the outer `feather` of the square."""
    position = (np.arange(MASK_SIZE, dtype=np.float32) + 0.5) / MASK_SIZE
    ramp = np.clip(np.minimum(position, 1 - position) / feather, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.outer(ramp, ramp).astype(np.float32)


@lru_cache(maxsize=8)
def _soft_square(feather: float, size: int) -> Floats:
    """The whole picture with a soft edge, [size,size]; the same for every frame, so not to be written to."""
    mask = _enlarge(_square_mask(feather), size)
    mask.flags.writeable = False
    return mask


def _enlarge(mask: Floats, size: int) -> Floats:
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)


def _rescale(matrix: Matrix, size: int, new_size: int) -> Matrix:
    """The same square for a picture of another size."""
    ratio = size / new_size
    scaled = matrix * (ratio, ratio, 1.0)
    scaled[:, 2] += (0.5 * ratio - 0.5) * (matrix[:, 0] + matrix[:, 1])
    return scaled


def _full_height(matrix: Matrix, height: int, width: int, size: int) -> Matrix:
    """Picture pixel -> frame pixel: as high as the frame, in its middle, turned like the person's square."""
    roll = math.atan2(matrix[1, 0], matrix[0, 0])
    # Full height, but never so wide that an upright frame cuts off the ears.
    scale, middle = min(height, 1.25 * width) / size, (size - 1) / 2
    across, along = scale * math.cos(roll), scale * math.sin(roll)
    x = (width - 1) / 2 - middle * (across - along)
    y = (height - 1) / 2 - middle * (along + across)
    return np.array([[across, -along, x], [along, across, y]])


def _fill_with_surroundings(frame: Image, picture: Floats, matrix: Matrix) -> None:
    """Continue the picture's border over the whole frame, out of focus."""
    height, width = frame.shape[:2]
    shrink = SURROUNDINGS / height
    canvas = (max(8, round(width * shrink)), SURROUNDINGS)

    step = max(1, picture.shape[1] // 64)
    border = picture[:, step // 2 :: step, step // 2 :: step]
    texels = np.clip(border[::-1].transpose(1, 2, 0) * 127.5 + 127.5, 0, 255).astype(np.uint8)
    for side in (0, -1):  # hair that touches a side must not run on as a band: continue the wall above it
        texels[:, side] = texels[: len(texels) // 8, side].mean(axis=0)
    to_canvas = _rescale(matrix, picture.shape[1], texels.shape[0])
    to_canvas *= shrink
    to_canvas[:, 2] += 0.5 * shrink - 0.5
    soft = cv2.warpAffine(texels, to_canvas, canvas, borderMode=cv2.BORDER_REPLICATE)
    for box in SURROUNDINGS_BLUR:
        soft = cv2.blur(soft, (box, box), borderType=cv2.BORDER_REPLICATE)
    rows = cv2.resize(soft, (width, SURROUNDINGS), interpolation=cv2.INTER_LINEAR)
    native.fill_from_rows(frame, np.asarray(rows, np.uint8), threads=_CORES)


def _write_mark(frame: Image) -> None:
    """The word "synthetic" in the lower left corner, readable on any background."""
    scale = max(0.35, frame.shape[0] / 1200)
    origin = (round(12 * scale) + 2, frame.shape[0] - round(14 * scale) - 2)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(frame, "synthetic", origin, font, scale, color, thickness, cv2.LINE_AA)
