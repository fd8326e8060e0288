"""Pictures that a page dropped in: kept in memory, edited at full size with the page's controls.

Nothing is written to a disk and nothing is named by the client. The oldest goes when there are too many.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..align import align
from ..bundle import Bundle
from ..composite import Compositor
from ..edit import Editor, mix, truncate
from ..errors import EditError, SourceError
from ..pictures.files import decode_picture
from ..pictures.sheet import grid
from ..types import Image
from .controls import Controls, shown_mode
from .studio import blended, build_pipeline, marker_of

MOST_PICTURES: Final = 24
MOST_PIXELS: Final = 50_000_000  # of one picture
MOST_BYTES: Final = 600_000_000  # of all
SHEET_COLUMNS: Final = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """One that was dropped in."""

    id: str
    image: Image  # BGR uint8 [H,W,3]

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "width": self.image.shape[1], "height": self.image.shape[0]}


class Gallery:
    """The pictures, and one thread that edits them, one at a time, beside the live run."""

    def __init__(self, open_again: Callable[[Bundle], Bundle]) -> None:
        self._open_again = open_again
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()
        self.thread = ThreadPoolExecutor(1, "doppelgan-pictures")
        self._bundle: Bundle | None = None
        self._made: tuple[tuple[str, Controls], Image, int] | None = None  # the latest result

    def close(self) -> None:
        self.thread.shutdown(cancel_futures=True)
        if self._bundle is not None:
            self._bundle.close()

    def add(self, data: bytes) -> Picture:
        """Decode an upload. Raises SourceError."""
        image = decode_picture(data, max_pixels=MOST_PIXELS).image
        picture = Picture(secrets.token_hex(8), image)
        with self._lock:
            self._pictures[picture.id] = picture
            while len(self._pictures) > MOST_PICTURES or self._bytes() > MOST_BYTES:
                self._pictures.popitem(last=False)
        return picture

    def get(self, key: str) -> Picture:
        """Raises SourceError."""
        picture = self._pictures.get(key)
        if picture is None:
            raise SourceError(
                "picture: expected one that was dropped in, got an unknown id; drop it in again"
            )
        return picture

    def list(self) -> list[dict[str, Any]]:
        with self._lock:
            return [picture.to_dict() for picture in self._pictures.values()]

    def delete(self, key: str) -> bool:
        with self._lock:
            return self._pictures.pop(key, None) is not None

    def edited(self, key: str, live: Bundle, controls: Controls) -> tuple[Image, int]:
        """The edited picture, BGR at full size, and how many faces it has; in the gallery's thread."""
        latest = self._made
        if latest is not None and latest[0] == (key, controls):
            return latest[1], latest[2]
        pipeline = build_pipeline(self._own(live), controls, smoothing=False)
        picture = self.get(key)
        image = pipeline.process(picture.image)
        if controls.blend < 1 and pipeline.composite != "replace":
            image = blended(picture.image, image, controls.blend, pipeline)
        self._made = ((key, controls), image, len(pipeline.people))
        return image, len(pipeline.people)

    def sheet(self, live: Bundle, controls: Controls) -> Image:
        """Every picture beside what became of it, small, in rows; in the gallery's thread."""
        pictures = list(self._pictures.values())
        if not pictures:
            raise SourceError("sheet: expected pictures, got none; drop some in")
        cells = []
        for number, picture in enumerate(pictures, 1):
            after, _ = self.edited(picture.id, live, controls)
            cells.append([(f"{number}", picture.image), (f"{number} edited", after)])
        per_row = SHEET_COLUMNS // 2
        rows = [list(itertools.chain(*cells[i : i + per_row])) for i in range(0, len(cells), per_row)]
        if len(rows) > 1 and len(rows[-1]) < len(rows[0]):
            blank = np.full_like(pictures[-1].image, 24)
            rows[-1] += [("", blank)] * (len(rows[0]) - len(rows[-1]))
        return grid(rows)

    def mixed(
        self, first: str, second: str, live: Bundle, controls: Controls, *, weight: float, rows: str | None
    ) -> Image:
        """The first picture, its largest face mixed with the second's; in the gallery's thread.

        Raises EditError where a picture shows no face.
        """
        bundle = self._own(live)
        people = []
        for key in (first, second):
            pipeline = build_pipeline(bundle, controls, smoothing=False)
            picture = self.get(key)
            pipeline.process(picture.image)
            person = next(iter(pipeline.people.values()), None)
            if person is None or person.face is None or person.crop is None or person.own_codes is None:
                which = "first" if key == first else "second"
                raise EditError(
                    f"mix: expected a face in both pictures, got none in the {which}; choose another"
                )
            people.append(
                (
                    picture.image,
                    person.face,
                    align(picture.image, person.face, bundle.crop_size),
                    person.own_codes,
                )
            )
        (frame, face, crop, codes), (*_, others) = people
        codes = truncate(mix(codes, others, rows, weight), bundle.latent_avg, controls.truncation)
        codes = Editor(bundle.directions, bundle.latent_avg).apply(codes, controls.edits)
        picture_planes = bundle.synthesize(codes, controls.style)[0]
        mode = shown_mode(controls, bundle)
        if mode == "difference":  # these are nobody's own pixels
            mode = "face"
        image = Compositor(mode).apply(frame.copy(), picture_planes, crop, face)
        marker_of(controls).apply(image, None if mode == "replace" else frame, [crop])
        return image

    def _own(self, live: Bundle) -> Bundle:
        """The same bundle with sessions of its own: the live run's are used by another thread."""
        if self._bundle is None or self._bundle.path != live.path:
            if self._bundle is not None:
                self._bundle.close()
            self._bundle = self._open_again(live)
            self._made = None
        return self._bundle

    def _bytes(self) -> int:
        return sum(picture.image.nbytes for picture in self._pictures.values())
