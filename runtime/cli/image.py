"""``doppelgan image``: pictures in, edited pictures out."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import DoppelganError, SinkError
from ..host.files import make_folder, refuse_to_replace
from ..pictures.files import check_writable, lost_in, read_picture, write_picture
from ..pipeline import Pipeline
from ..source.images import find_images
from .options import make_pipeline, pipeline_options

LONGEST_NAME = 255  # bytes, of every usual file system


@click.command("image")
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Picture or folder.")
@click.option("--overwrite", is_flag=True, help="Replace pictures that are there.")
@click.option("--side-by-side", is_flag=True, help="Write the original beside the result.")
@pipeline_options
def command(
    pictures: tuple[Path, ...], output: Path, overwrite: bool, side_by_side: bool, **settings: Any
) -> None:
    """Edit the faces in PICTURES (files, or folders of them).

    Size, transparency and metadata stay as they are; colors are written as sRGB. A picture that cannot be
    read is named at the end, and the others are done.

    \b
    doppelgan image me.jpg -o older.png --edit grey=0.8 --edit baldness=0.5
    doppelgan image holiday/*.jpg -o edited/ --style toon --composite head
    """
    if str(output) == "-":
        raise SinkError("-: expected a picture or folder, got standard output; name a file")
    pictures = tuple(
        picture for path in pictures for picture in (find_images(str(path)) if path.is_dir() else [path])
    )
    into_folder = len(pictures) > 1 or output.is_dir() or not output.suffix
    jobs = targets(pictures, output) if into_folder else {output: pictures[0]}
    for target in jobs:
        check_writable(target)
        if target.exists() and any(target.samefile(other) for other in pictures if other.exists()):
            raise SinkError(f"{target}: is one of the pictures given; choose another output")
    refuse_to_replace(jobs, overwrite)
    pipeline = make_pipeline(smoothing=False, **settings)
    if into_folder:
        make_folder(output)
    failed = []
    for target, path in jobs.items():
        try:
            edit(pipeline, path, target, side_by_side)
        except DoppelganError as error:
            if len(jobs) == 1:
                raise
            click.echo(f"doppelgan: error: {error}", err=True)
            failed.append(str(path))
    if failed:
        raise SinkError(f"{len(failed)} of {len(jobs)} pictures were not edited: {', '.join(failed)}")


def edit(pipeline: Pipeline, path: Path, target: Path, side_by_side: bool) -> None:
    """One picture from file to file, with a line about it."""
    picture = read_picture(path)
    frame = pipeline.process(picture.image)
    edited = picture.replaced(frame) if pipeline.composite == "replace" else picture.edited(frame)
    write_picture(target, picture.beside(edited) if side_by_side else edited)
    if pipeline.marker is not None and pipeline.marker.latest:
        pipeline.marker.finish(target, parent=path)
    faces = len(pipeline.people)
    click.echo(f"{target}: {faces} face{'s' * (faces != 1)}" + ("" if faces else ", left as it was"))
    for note in (*picture.notes, *lost_in(edited, target.suffix)):
        click.echo(f"doppelgan: note: {path}: {note}", err=True)


def targets(pictures: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where in ``folder`` each picture's result goes; a picture that is given twice is done once.

    Pictures of the same name (also in other capitals, which some file systems take for the same) get numbers.
    """
    jobs: dict[Path, Path] = {}
    taken: set[str] = set()
    done: set[Path] = set()
    for path in pictures:
        place = path.resolve()
        if place in done:
            continue
        done.add(place)
        number = 1
        while (key := _key(name := _fitting(path.stem, "" if number == 1 else f"-{number}"))) in taken:
            number += 1
        taken.add(key)
        jobs[folder / name] = path
    return jobs


def _fitting(stem: str, ending: str) -> str:
    """A PNG's name no longer than names may be."""
    ending += ".png"
    raw, room = stem.encode("utf-8", "surrogateescape"), LONGEST_NAME - len(ending)
    return (stem if len(raw) <= room else raw[:room].decode("utf-8", "ignore")) + ending


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
