"""The values that travel through the pipeline, each checked where it is made.

=========  ==========================================================================
``Frame``  picture from a source: BGR uint8 [H,W,3], its index and its time in seconds
``Face``   tracked face: stable id, 468 landmarks in frame pixels, a score
``Crop``   aligned face: RGB float32 [1,3,S,S] in -1..1 and where it came from
=========  ==========================================================================

Points are (x right, y down) in pixels with pixel *centers* at integer coordinates.
Codes are plain arrays: float32 [N, n_styles, w_dim], the W+ space of StyleGAN2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .face_mesh import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE

Image = NDArray[np.uint8]  # [H,W,3] BGR
MAX_PIXELS = (
    300_000_000  # of a picture or frame; larger ones are refused. 200-megapixel phones are well below
)
Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]  # [2,3] affine map of points
Announce = Callable[[str], None]  # is told in a few words what is being done


def check_image(image: NDArray[Any], what: str = "frame") -> Image:
    """Return ``image`` as it is if it is BGR uint8 [H,W,3]; raise ValueError naming what came."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{what}: expected a NumPy array BGR uint8 [H,W,3], got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"{what}: expected BGR uint8 [H,W,3], got {image.dtype} {list(image.shape)}; "
            "repeat grey three times, drop an alpha channel"
        )
    if image.shape[0] < 2 or image.shape[1] < 2:
        raise ValueError(f"{what}: expected at least 2x2 pixels, got {image.shape[1]}x{image.shape[0]}")
    return image


@dataclass(frozen=True, slots=True)
class Deep:
    """A picture as it was read, with more bits than networks see.

    pixels: BGR uint16 [H,W,3], 256 to a level of 8 bits, as libswscale counts.  image: the same as
    uint8, rounded.
    """

    WHITE: ClassVar[int] = 255 * 256

    pixels: NDArray[np.uint16]
    image: Image

    @classmethod
    def of(cls, pixels: NDArray[np.uint16]) -> Deep:
        """With its ``image``."""
        return cls(pixels, ((np.minimum(pixels, cls.WHITE) + 128) >> 8).astype(np.uint8))

    def edited(self, image: Image) -> NDArray[np.uint16]:
        """BGR uint16 [H,W,3]: these pixels, moved by what was changed in their 8 bits."""
        if np.array_equal(image, self.image):
            return self.pixels
        moved = self.pixels + (image.astype(np.int32) - self.image) * 256
        return np.clip(moved, 0, self.WHITE).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a stream.

    image: BGR uint8 [H,W,3].  index: 0, 1, 2 ... as read.  time_s: presentation time in a file,
    capture time (``time.monotonic``) of a live source.  deep: the picture before it was edited, where
    the source has more than 8 bits.
    """

    image: Image
    index: int
    time_s: float
    deep: Deep | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_image(self.image)


@dataclass(frozen=True, slots=True)
class Face:
    """One tracked face.

    id: stable while the face stays in view.  landmarks: float32 [468,3], the MediaPipe face mesh in
    frame pixels (z in the same scale, smaller is nearer).  score: 0..1, presence of a face.
    """

    id: int
    landmarks: Floats
    score: float

    def __post_init__(self) -> None:
        if self.landmarks.ndim != 2 or self.landmarks.shape[1] != 3:
            raise ValueError(f"landmarks: expected float32 [468,3], got {list(self.landmarks.shape)}")

    @property
    def eyes_mouth(self) -> Floats:
        """float32 [4,2] px: eye centers (image left, image right), mouth corners (left, right)."""
        xy = self.landmarks[:, :2]
        eyes = [xy[list(RIGHT_EYE)].mean(0), xy[list(LEFT_EYE)].mean(0)]
        corners = [xy[MOUTH_CORNERS[0]], xy[MOUTH_CORNERS[1]]]
        return np.stack([*eyes, *corners]).astype(np.float32)

    @property
    def box(self) -> Floats:
        """float32 [4] px: x0, y0, x1, y1 around all landmarks."""
        xy = self.landmarks[:, :2]
        return np.concatenate([xy.min(0), xy.max(0)]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Crop:
    """A face in the FFHQ square.

    pixels: RGB float32 [1,3,S,S], -1..1.  matrix: float64 [2,3], crop pixel -> frame pixel.
    landmarks: float32 [468,3] in crop pixels.
    """

    pixels: Floats
    matrix: Matrix
    landmarks: Floats = field(repr=False)

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if len(shape) != 4 or shape[:2] != (1, 3) or shape[2] != shape[3]:
            raise ValueError(f"crop: expected RGB float32 [1,3,S,S], got {list(shape)}")
        if self.matrix.shape != (2, 3):
            raise ValueError(f"crop matrix: expected [2,3], got {list(self.matrix.shape)}")

    @property
    def size(self) -> int:
        return int(self.pixels.shape[2])
