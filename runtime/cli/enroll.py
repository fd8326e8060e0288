"""``doppelgan enroll``: a picture or a clip of one person in, a bundle of that person out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import DoppelganError
from ..types import Image
from .progress import is_terminal
from .tuning import need_tuning

CAMERA = "camera"
# What is asked of a person before a camera, and for how long: poses and expressions that tuning learns from.
GUIDE = (
    (2.0, "look straight into the camera"),
    (2.5, "turn your head slowly to the left"),
    (2.5, "and slowly to the right"),
    (2.0, "look straight again and smile"),
    (2.0, "open your mouth wide"),
    (1.5, "close your eyes, open them again"),
)


@click.command("enroll")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder of the bundle.")
@click.option(
    "--bundle", "-b", "base", default="demo", show_default=True, help="What to enroll into: with an encoder."
)
@click.option(
    "--consent", metavar="NAME", help="Who confirms that the person consented; asked for otherwise."
)
@click.option(
    "--steps",
    type=click.IntRange(1, 1_000_000),
    help="Steps of tuning. Default: 150 for one picture, up to 1000 for a clip.",
)
@click.option(
    "--size",
    type=click.IntRange(16),
    default=256,
    show_default=True,
    help="Pixels, at most, that tuning draws.",
)
@click.option(
    "--frames",
    type=click.IntRange(1, 100_000),
    default=48,
    show_default=True,
    help="Frames, at most, of all sources.",
)
@click.option(
    "--camera-index", default="0", show_default=True, help="Which camera, with the source `camera`."
)
@click.option("--keep-picture", is_flag=True, help="Store the person's picture in the bundle.")
@click.option("--resume", is_flag=True, help="Go on with the same command that was interrupted.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there.")
@click.option("--name", help="Name in the manifest; default: the folder's.")
def command(
    sources: tuple[str, ...],
    output: Path,
    base: str,
    consent: str | None,
    steps: int | None,
    size: int,
    frames: int,
    camera_index: str,
    **options: object,
) -> None:
    """Make a live avatar of the person in SOURCE: a picture, several, a clip, a folder, or `camera`.

    Tunes the base's generator until it draws this person. The result is a bundle like any other. Ctrl-C keeps
    the best so far; `--resume` goes on.

    \b
    doppelgan enroll me.jpg -o engines/me
    doppelgan enroll me.mp4 more/*.jpg -o engines/me --consent "myself"
    doppelgan enroll camera -o engines/me
    """
    need_tuning("enroll")
    from doppelgan.export.tuning.enroll import Settings, enroll
    from doppelgan.export.tuning.recipe import Recipe

    recipe = None if steps is None else Recipe(steps=steps)
    settings = Settings(
        base=base,
        recipe=recipe,
        size=size,
        most_frames=frames,
        seconds=sum(seconds for seconds, _ in GUIDE),
        consent=consent or _ask_for_consent(),
        **options,  # type: ignore[arg-type]
    )
    console = Console(stderr=True, highlight=False, markup=False)
    named = [camera_index if source == CAMERA else source for source in sources]
    watch = Guide(console.print) if CAMERA in sources else None
    with _steps() as on_step:
        enroll(named, output, settings, watch=watch, on_step=on_step, report=console.print)
    click.echo(f"{output}: ready; see it live with `doppelgan live -b {output} --composite replace`")


class Guide:
    """Tells a person before the camera what to do, each line once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said = 0

    def __call__(self, _image: Image, time_s: float) -> None:
        begins = 0.0
        for i, (seconds, line) in enumerate(GUIDE):
            if i >= self._said and time_s >= begins:
                self._say(line)
                self._said = i + 1
            begins += seconds


def _ask_for_consent() -> str:
    """Who answers for the consent. Raises DoppelganError without one, or where nobody can be asked."""
    if not is_terminal(sys.stdin):
        raise DoppelganError(
            "enroll: expected the consent of the person in the picture, got nobody to ask; "
            'say who confirms it: --consent "NAME"'
        )
    agreed = click.confirm(
        "Is this a picture of you, or does the person in it agree to become an avatar?", err=True
    )
    if not agreed:
        raise DoppelganError("enroll: expected the person's consent, got none; nothing was made")
    return "confirmed at the terminal"


@contextmanager
def _steps() -> Iterator[Callable[[int, int, float], None]]:
    """Yield ``on_step(done, of, cpu_s)``; silent in pipes."""
    columns = (TextColumn("tune"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not is_terminal(sys.stderr), transient=True) as progress:
        task = progress.add_task("tune", total=None)
        yield lambda done, total, _cpu_s: progress.update(task, completed=done, total=total)
