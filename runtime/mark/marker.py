"""The last step of the pipeline: what was synthesized is marked, in the pixels and for the eye.

Files that were made of such frames say so as well: `Marker.finish`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path

from ..types import Crop, Image
from .badge import Badge
from .c2pa import Signatory
from .metadata import write_source_type
from .payload import Payload
from .watermark import embed

_ROWS = 32  # that are compared at once
MARGIN_PX = 2  # around a pasted square: its edge is blended that far


class Marker:
    """Badge and watermark on every frame in which something was synthesized; other frames stay untouched.

    frames  how many were marked
    latest  whether the latest one was
    """

    def __init__(
        self,
        kind: str = "edited",  # one of payload.KINDS: "edited", "avatar" ...
        badge: Badge | None = Badge(),  # noqa: B008 - immutable; None: none
        watermark: bool = True,
        key: bytes | None = None,  # of the watermark; None: `watermark.default_key`
        signatory: Callable[[], Signatory | None] = lambda: (
            None
        ),  # asked at the first file; None: no manifest
    ) -> None:
        self.frames = 0
        self.latest = False
        self.kind = kind
        self.badge = badge
        self.watermark = watermark
        self._key = key
        self._ask_signatory = signatory
        self._signatory: Signatory | None = None
        self._asked = False
        self._payload = self._today()
        self._checked_s = time.monotonic()

    def apply(
        self,
        frame: Image,  # BGR uint8 [H,W,3], changed in place
        original: Image | None,  # as it came: a frame equal to it stays; None: all of it is synthetic
        crops: Iterable[Crop] = (),  # the squares that were drawn into
    ) -> bool:
        """Mark ``frame``; whether there was anything to mark."""
        changed = original is None or _differs(frame, original, around(crops))
        if changed and self.watermark:
            embed(frame, self._current(), key=self._key)
        if changed and self.badge is not None:
            self.badge.draw(frame, self.kind)
        self.latest = changed
        self.frames += changed
        return changed

    def finish(self, path: Path, parent: Path | None = None) -> None:
        """Write into the complete file at ``path`` how it was made, unless no frame was marked.

        parent: the file that it was made from, for the manifest. Raises SinkError.
        """
        if not self.frames:
            return
        write_source_type(path, self.kind)
        if not self._asked:
            self._signatory, self._asked = self._ask_signatory(), True
        if self._signatory is not None:
            self._signatory.sign(path, self.kind, parent)

    def _current(self) -> Payload:
        """Days pass during a long call, too."""
        if time.monotonic() - self._checked_s > 600:
            self._payload, self._checked_s = self._today(), time.monotonic()
        return self._payload

    def _today(self) -> Payload:
        return Payload(self.kind, datetime.now(timezone.utc).date())


def around(crops: Iterable[Crop]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 in pixels: a rectangle around all squares."""
    corners = []
    for crop in crops:
        xx, xy, x0, yx, yy, y0 = crop.matrix.ravel().tolist()
        for u in (-0.5, crop.size - 0.5):
            for v in (-0.5, crop.size - 0.5):
                corners.append((xx * u + xy * v + x0, yx * u + yy * v + y0))
    if not corners:
        return 0, 0, 0, 0
    xs, ys = zip(*corners, strict=True)
    return (
        int(min(xs)) - MARGIN_PX,
        int(min(ys)) - MARGIN_PX,
        int(max(xs)) + 1 + MARGIN_PX,
        int(max(ys)) + 1 + MARGIN_PX,
    )


def _differs(frame: Image, original: Image, box: tuple[int, int, int, int]) -> bool:
    """Whether any pixel does; told at the first of them."""
    x0, y0, x1, y1 = (max(0, side) for side in box)
    for y in range(y0, min(y1, len(frame)), _ROWS):
        area = slice(y, min(y + _ROWS, y1)), slice(x0, x1)
        if (frame[area] != original[area]).any():
            return True
    return False
