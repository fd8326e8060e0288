"""``doppelgan image``: pictures in, edited pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from ..errors import SinkError, SourceError
from ..types import Image
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
        frame = read_picture(path)
        edited = pipeline.process(frame)
        target = output / f"{path.stem}.png" if into_folder else output
        if target.exists() and any(target.samefile(other) for other in pictures if other.exists()):
            raise SinkError(f"{target}: is one of the pictures given; choose another output")
        write_picture(target, np.hstack([frame, edited]) if side_by_side else edited)
        faces = len(pipeline.people)
        click.echo(f"{target}: {faces} face{'s' * (faces != 1)}" + ("" if faces else ", left as it was"))


def read_picture(path: Path) -> Image:
    """BGR uint8 [H,W,3], turned upright by its EXIF orientation. Raises SourceError."""
    if not path.is_file():
        raise SourceError(f"{path}: expected a picture, got no such file")
    data = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise SourceError(f"{path}: expected a picture (JPEG, PNG, WebP ...), got something else; convert it")
    return np.asarray(picture, np.uint8)


def write_picture(path: Path, picture: Image) -> None:
    """Encode by the file's suffix and write. Raises SinkError."""
    try:
        done, data = cv2.imencode(path.suffix or ".png", picture)
    except cv2.error:
        done = False
    if not done:
        raise SinkError(f"{path}: expected a suffix such as .png, .jpg or .webp, got {path.suffix!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.part")
        aside.write_bytes(data.tobytes())
        aside.replace(path)
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror}; choose another output") from None
