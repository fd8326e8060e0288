"""Sheets: what every edit and every style makes of one person, at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..align import align
from ..bundle.reader import Bundle
from ..edit.editor import Editor
from ..pictures.drawing import resized, write_text
from ..pipeline import Pipeline
from ..types import Face, Floats, Image

SQUARE_PX = 256  # a person's face is cut out this large
LABEL_PX = 20  # height of the line of text under a cell
LABEL_TEXT_PX = 12
PAPER, INK = (250, 250, 250), (40, 40, 40)


def to_image(picture: Floats) -> Image:
    """RGB float32 [3,R,R] in -1..1 -> BGR uint8 [R,R,3]."""
    levels = np.clip(picture[::-1] * 127.5 + 127.5, 0, 255)
    return np.ascontiguousarray(np.rint(levels).astype(np.uint8).transpose(1, 2, 0))


def grid(rows: Sequence[Sequence[tuple[str, Image]]], cell_px: int = 160) -> Image:
    """Labeled pictures in rows; each is fitted into a square cell of ``cell_px``."""
    columns = max(len(row) for row in rows)
    sheet = np.empty((len(rows) * (cell_px + LABEL_PX), columns * cell_px, 3), np.uint8)
    sheet[:] = PAPER
    for r, row in enumerate(rows):
        for c, (label, picture) in enumerate(row):
            y, x = r * (cell_px + LABEL_PX), c * cell_px
            fitted = _fit(picture, cell_px)
            dy, dx = (cell_px - fitted.shape[0]) // 2, (cell_px - fitted.shape[1]) // 2
            sheet[y + dy : y + dy + fitted.shape[0], x + dx : x + dx + fitted.shape[1]] = fitted
            strip = sheet[y + cell_px : y + cell_px + LABEL_PX, x : x + cell_px]
            write_text(strip, label, (4, 14), height_px=LABEL_TEXT_PX, color=INK)
    return sheet


def edit_sheet(
    bundle: Bundle,
    people: Mapping[str, tuple[Image, Face, Floats]],  # label -> (frame BGR [H,W,3], face, code [1,n,w])
    *,
    cell_px: int = 128,
    styles: Sequence[str] | None = None,  # None: all of the bundle
) -> Image:
    """For every person and style one row: the person, the code as found, each edit at both ends.

    Edits in the encoder's own style are shown on the person's picture, those of other styles as synthesized.
    """
    editor = Editor(bundle.directions, bundle.latent_avg)
    rows = []
    for label, (frame, face, codes) in people.items():
        person = _square(frame, face)
        for style in styles or bundle.styles:
            row = [(label, person), (style, to_image(bundle.synthesize(codes, style)[0]))]
            pipeline = Pipeline(bundle, style=style, smoothing=False)
            for name, direction in bundle.directions.items():
                for strength in direction.range:
                    if pipeline.composite == "difference":
                        pipeline.edits = {name: strength}
                        cell = _square(pipeline.process(frame), face)
                    else:
                        edited = editor.apply(codes, {name: strength})
                        cell = to_image(bundle.synthesize(edited, style)[0])
                    row.append((f"{name} {strength:+g}", cell))
            rows.append(row)
    return grid([line for row in rows for line in _wrap(row)], cell_px)


def enrolled_sheet(
    person: Bundle,  # of one person
    *,
    cell_px: int = 128,
) -> Image:
    """The person as drawn at their own code, and each edit at both ends."""
    editor = Editor(person.directions, person.latent_avg)
    pivot: Floats = person.latent["pivot"][None]
    row = [("enrolled", to_image(person.synthesize(pivot)[0]))]
    for name, direction in person.directions.items():
        for strength in direction.range:
            edited = editor.apply(pivot, {name: strength})
            row.append((f"{name} {strength:+g}", to_image(person.synthesize(edited)[0])))
    return grid(_wrap(row), cell_px)


def _square(frame: Image, face: Face) -> Image:
    """BGR uint8 [SQUARE_PX,SQUARE_PX,3]: the aligned square around a face."""
    return to_image(align(frame, face, SQUARE_PX).pixels[0])


def _wrap(row: list[tuple[str, Image]], columns: int = 12) -> list[list[tuple[str, Image]]]:
    return [row[i : i + columns] for i in range(0, len(row), columns)]


def _fit(picture: Image, side_px: int) -> Image:
    scale = side_px / max(picture.shape[:2])
    width, height = (max(1, round(n * scale)) for n in (picture.shape[1], picture.shape[0]))
    return resized(picture, (width, height))
