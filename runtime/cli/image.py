"""``doppelgan image``: pictures in, edited pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from ..errors import SinkError
from ..pictures.files import read_image, write_image
from .options import make_folder, make_pipeline, pipeline_options


@click.command("image")
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Picture or folder.")
@click.option("--side-by-side", is_flag=True, help="Write the original beside the result.")
@pipeline_options
def command(pictures: tuple[Path, ...], output: Path, side_by_side: bool, **settings: Any) -> None:
    """Edit the faces in PICTURES.

    \b
    doppelgan image me.jpg -o older.png --edit grey=0.8 --edit baldness=0.5
    doppelgan image holiday/*.jpg -o edited/ --style toon --composite head
    """
    into_folder = len(pictures) > 1 or output.is_dir() or not output.suffix
    pipeline = make_pipeline(smoothing=False, **settings)
    if into_folder:
        make_folder(output)
    for path in pictures:
        frame = read_image(path)
        edited = pipeline.process(frame)
        target = output / f"{path.stem}.png" if into_folder else output
        if target.exists() and any(target.samefile(other) for other in pictures if other.exists()):
            raise SinkError(f"{target}: is one of the pictures given; choose another output")
        write_image(target, np.hstack([frame, edited]) if side_by_side else edited)
        faces = len(pipeline.people)
        click.echo(f"{target}: {faces} face{'s' * (faces != 1)}" + ("" if faces else ", left as it was"))
