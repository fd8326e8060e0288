"""A picture as the pipeline takes it, together with what else its file holds and should hold again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..types import Image, check_image

GROUND = 255  # white: what transparent places lie on where they are looked at, or where a format is opaque
# Levels: what nothing was drawn on shows nothing where no more than a watermark was added (1.8 RMS).
FAINT = 8
_BAND = 256  # rows that are worked at together
_LUMA = np.array([0.0722, 0.7152, 0.2126], np.float32)  # of B, G, R: BT.709, as sRGB


@dataclass(frozen=True)
class Metadata:
    """What people and programs noted about a picture; empty where a file has none.

    Upright and without thumbnails: those would still show the picture as it was.
    """

    exif: bytes = b""  # "Exif", two zeros, a TIFF structure
    xmp: bytes = b""  # XML
    iptc: bytes = b""  # IIM records
    texts: dict[str, str] = field(default_factory=dict)  # PNG's text chunks
    comment: bytes = b""  # JPEG's
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class Picture:
    """Pixels in sRGB, upright."""

    image: Image  # BGR uint8 [H,W,3]; transparent places lie on GROUND
    alpha: NDArray[np.uint8] | None = None  # [H,W], straight; None: opaque
    colors: Image | None = None  # with alpha: BGR uint8 [H,W,3] as stored, also where nothing shows
    gray: bool = False  # one channel in its file, or all three the same
    metadata: Metadata = Metadata()
    tagged: bool = False  # its file said what its numbers mean, and so will what is written
    notes: tuple[str, ...] = ()  # what reading changed or left out, for people

    def edited(self, image: Image) -> Picture:
        """The same file with other pixels: BGR uint8 [H,W,3], made from ``self.image``.

        What did not change is kept exactly, also below transparency; what was drawn on transparent places
        shows. A gray picture stays gray.
        """
        check_image(image, "edited picture")
        if image.shape != self.image.shape:
            raise ValueError(f"edited picture: expected {self.image.shape}, got {image.shape}")
        if self.gray:
            image = to_gray(image)
        if self.alpha is None or self.colors is None:
            return replace(self, image=image)
        colors, alpha = self.colors.copy(), self.alpha.copy()
        for first in range(0, len(image), _BAND):  # numbers of all of a large picture would fill the memory
            band = slice(first, first + _BAND)
            _draw(colors[band], alpha[band], self.image[band], image[band])
        return replace(self, image=image, colors=colors, alpha=alpha)

    def replaced(self, image: Image) -> Picture:
        """The same file with a picture that shows nothing of it: BGR uint8 [H,W,3] of any size."""
        return replace(self, image=check_image(image), alpha=None, colors=None, gray=False)

    def beside(self, other: Picture) -> Picture:
        """This picture at the left of another of the same height."""
        image = np.hstack([self.image, other.image])
        if self.alpha is None and other.alpha is None:
            return replace(other, image=image, gray=self.gray and other.gray)
        halves = [
            (half.image, np.full(half.image.shape[:2], 255, np.uint8))
            if half.alpha is None or half.colors is None
            else (half.colors, half.alpha)
            for half in (self, other)
        ]
        (colors, alpha), (other_colors, other_alpha) = halves
        return replace(
            other,
            image=image,
            alpha=np.hstack([alpha, other_alpha]),
            colors=np.hstack([colors, other_colors]),
            gray=self.gray and other.gray,
        )


def _draw(colors: Image, alpha: NDArray[np.uint8], before: Image, after: Image) -> None:
    """Change ``colors`` and ``alpha`` so that they show ``after`` where it differs from ``before``."""
    apart = np.abs(after.astype(np.int16) - before).max(axis=2)
    changed = (apart > 0) & ((alpha > 0) | (apart > FAINT))
    # The least alpha, from the old one up, with which a straight color shows as drawn over the ground.
    drawn = GROUND - after[changed].astype(np.float32)
    least = np.ceil(drawn.max(axis=1, initial=0))
    shown = np.maximum(alpha[changed].astype(np.float32), least)
    straight = GROUND - drawn * (255 / np.maximum(shown, 1))[:, None]
    colors[changed] = np.clip(straight + 0.5, 0, 255).astype(np.uint8)
    alpha[changed] = shown.astype(np.uint8)


def over_ground(colors: Image, alpha: NDArray[np.uint8]) -> Image:
    """BGR uint8 [H,W,3]: colors with straight alpha [H,W] laid on GROUND."""
    share = alpha[..., None].astype(np.uint16)
    mixed = colors * share + np.uint16(GROUND) * (255 - share) + 127
    return (mixed // 255).astype(np.uint8)


def to_gray(image: Image) -> Image:
    """BGR uint8 [H,W,3] with equal channels; gray pixels stay as they are."""
    if is_gray(image):
        return image
    luma = np.empty(image.shape[:2], np.uint8)
    for first in range(0, len(image), _BAND):  # floats of a large picture would fill the memory
        band = image[first : first + _BAND]
        luma[first : first + _BAND] = (band @ _LUMA + 0.5).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def is_gray(image: Image) -> bool:
    """Whether all three channels are the same everywhere."""
    blue, green, red = (image[..., channel] for channel in range(3))
    return bool(np.array_equal(blue, green) and np.array_equal(green, red))
