"""Sheets: what every edit and every style makes of one person, at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..align import align
from ..bundle.reader import Bundle
from ..edit.editor import Editor
from ..pictures.convert import to_image
from ..pictures.sheet import grid
from ..pipeline import Pipeline
from ..types import Face, Floats, Image

SQUARE_PX = 256  # a person's face is cut out this large


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
                for strength in direction.shown:
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
    base: Bundle,
    person: Bundle,  # of one person, enrolled into the base
    *,
    cell_px: int = 128,
) -> Image:
    """At the person's code: the base's picture, the enrolled one, and of that each edit at both ends."""
    editor = Editor(person.directions, person.latent_avg)
    pivot: Floats = person.latent["pivot"][None]
    row = [
        (name, to_image(one.synthesize(pivot)[0])) for name, one in (("before", base), ("enrolled", person))
    ]
    for name, direction in person.directions.items():
        for strength in direction.shown:
            edited = editor.apply(pivot, {name: strength})
            row.append((f"{name} {strength:+g}", to_image(person.synthesize(edited)[0])))
    return grid(_wrap(row), cell_px)


def _square(frame: Image, face: Face) -> Image:
    """BGR uint8 [SQUARE_PX,SQUARE_PX,3]: the aligned square around a face."""
    return to_image(align(frame, face, SQUARE_PX).pixels[0])


def _wrap(row: list[tuple[str, Image]], columns: int = 12) -> list[list[tuple[str, Image]]]:
    return [row[i : i + columns] for i in range(0, len(row), columns)]
