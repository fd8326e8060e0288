"""Options that several commands share, and the pipeline made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..bundle.reader import open_bundle
from ..edit.editor import Editor, parse_edits
from ..errors import SinkError
from ..pipeline import Pipeline

F = TypeVar("F", bound=Callable[..., Any])


def pipeline_options(function: F) -> F:
    """Add --bundle, --edit, --style ... to a command; hand them on to :func:`make_pipeline`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    click.option("--bundle", "-b", default="demo", show_default=True, help="Name or folder of a bundle."),
    click.option(
        "--edit",
        "-e",
        "edits",
        multiple=True,
        metavar="NAME=VALUE",
        help="An edit, e.g. age=1 or smile=-0.5; repeat for several. `doppelgan bundles NAME` lists them.",
    ),
    click.option("--style", "-s", default="photo", show_default=True, help="Generator: photo, toon ..."),
    click.option(
        "--composite",
        "-c",
        type=click.Choice(["face", "head", "replace"]),
        default="face",
        show_default=True,
        help="What goes back into the frame: the face, the whole head, or the avatar instead of the frame.",
    ),
    click.option(
        "--truncation",
        type=click.FloatRange(0, 1.5),
        default=1.0,
        show_default=True,
        help="1: the person as found; toward 0: more average, more editable.",
    ),
    click.option("--steps", type=click.IntRange(1, 20), help="Steps of a ReStyle encoder's loop."),
    click.option(
        "--max-faces",
        type=click.IntRange(1, 16),
        default=1,
        show_default=True,
        help="Edit up to so many people; the largest faces first.",
    ),
    click.option(
        "--backend", help="native, onnxruntime, openvino, tensorrt; default: as compiled, else native."
    ),
    click.option("--threads", type=click.IntRange(1), help="Threads per network; trackers keep to one."),
)


def make_pipeline(
    *,
    bundle: str,
    edits: tuple[str, ...],
    backend: str | None,
    threads: int | None,
    **settings: Any,  # of Pipeline
) -> Pipeline:
    """Open the bundle, build the pipeline that the options describe, say what is odd about the edits."""
    chosen = parse_edits(edits)
    opened = open_bundle(bundle, backend=backend, threads=threads)
    pipeline = Pipeline(opened, chosen, **settings)
    for remark in Editor(opened.directions, opened.latent_avg).remarks(chosen):
        click.echo(f"doppelgan: note: {remark}", err=True)
    return pipeline


def make_folder(path: Path) -> None:
    """The folder ``path`` and its parents. Raises SinkError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{path}: cannot be a folder: {error.strerror}; choose another output") from None
