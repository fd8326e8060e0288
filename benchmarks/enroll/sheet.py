"""A picture of one enrollment: person, plain, enrolled; driven by others; every edit at both ends; toon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.edit.editor import Editor
from doppelgan.runtime.pictures import write_image
from doppelgan.runtime.pictures.convert import to_image
from doppelgan.runtime.pictures.sheet import grid
from doppelgan.runtime.types import Floats

from .measures import Driven

COLUMNS = 9
CELL_PX = 144


def write_sheet(
    path: Path,
    me: Bundle,
    before: Driven,  # the person through the base
    after: Driven,  # and through their own bundle
    others: Sequence[tuple[str, Driven]],  # name of a driver, and the person driven by them
) -> None:
    rows = []
    for label, pictures in (("person", after.real), ("plain", before.avatar), ("enrolled", after.avatar)):
        rows.append([(label, to_image(picture)) for picture in _some(pictures)])
    for name, driven in others:
        rows.append([(name, to_image(picture)) for picture in _some(driven.real)])
        rows.append([("driven", to_image(picture)) for picture in _some(driven.avatar)])
    editor, pivot = Editor(me.directions, me.latent_avg), me.latent["pivot"][None]
    cells = []
    for name, direction in me.directions.items():
        for end in direction.range:
            picture = me.synthesize(editor.apply(pivot, {name: end}))[0]
            cells.append((f"{name} {end:+g}", to_image(picture)))
    rows += [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    if "toon" in me.styles:
        rows.append([("toon", to_image(me.synthesize(pivot, "toon")[0]))])
    write_image(path, grid([row for row in rows if row], CELL_PX))


def _some(items: Sequence[Floats]) -> Sequence[Floats]:
    step = max(1, len(items) // COLUMNS)
    return items[::step][:COLUMNS]
