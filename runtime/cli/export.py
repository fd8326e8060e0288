"""``doppelgan export``: a checkpoint in, a bundle out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..errors import BackendError
from .options import FiniteRange, given
from .progress import is_terminal


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder of the new bundle."
)
@click.option("--generator", "-g", type=click.Path(path_type=Path), help="Generator to use with an encoder.")
@click.option(
    "--toon", type=click.Path(path_type=Path), help="Second generator for the same codes: style 'toon'."
)
@click.option(
    "--blend-at",
    type=click.IntRange(4),
    multiple=True,
    help="With --toon: pixels from which on layers are the toon's, below they stay the photo's; 32 is usual. "
    "Repeat for the steps of a dial from photo to toon: styles 'toon@64', 'toon@32' ...",
)
@click.option("--blend-width", type=FiniteRange(0, 8), default=0.0, help="Doublings over which they change.")
@click.option(
    "--direction",
    "-d",
    "directions",
    multiple=True,
    metavar="[NAME=]FILE[:INDEX[,FIRST,LAST]]",
    help="Edit directions (InterFaceGAN, GANSpace, SeFa, StyleSpace ...), or `sefa`, or texts for StyleCLIP: "
    "'older=fs3.npy@clip/:a face>an old face'; repeat for several.",
)
@click.option("--name", help="Name in the manifest; default: the folder's.")
@click.option("--license", "license_", metavar="TEXT", help="License of the weights, noted in the manifest.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there.")
@click.option(
    "--threads", type=click.IntRange(0, 1024), default=0, show_default=True, help="Of the checks; 0: all."
)
def command(
    checkpoint: Path, output: Path, directions: tuple[str, ...], license_: str | None, **options: Any
) -> None:
    """Turn CHECKPOINT into a bundle that the other commands run.

    Reads StyleGAN2 generators (rosinality, NVIDIA), pSp, e4e and ReStyle encoders, and safetensors of the
    same tensors; tells which by looking; never runs code from a file.

    \b
    doppelgan export e4e_ffhq_encode.pt -o engines/e4e -d age.pt -d smile.pt
    doppelgan export encoder.safetensors --generator ffhq.pkl -o engines/mine
    doppelgan export stylegan2-ffhq-config-f.pt -o engines/ffhq
    """
    for option, needed in (("blend_at", "toon"), ("blend_width", "blend_at")):
        if given(option) and not options[needed]:
            name, wanted = (f"--{text.replace('_', '-')}" for text in (option, needed))
            raise click.UsageError(f"{name}: expected with {wanted}, got it alone; add {wanted}")
    try:
        from doppelgan.export import export_checkpoint
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "doppelgan":
            raise
        raise BackendError(
            f"export: expected torch, onnx and safetensors to be installed, got no module {error.name!r}; "
            'run `pip install "doppelgan[export]"`'
        ) from None
    if license_ is not None:
        options["license"] = license_
    with _steps() as progress:
        path = export_checkpoint(checkpoint, output, directions=directions, progress=progress, **options)
    click.echo(f"{path}: ready; look at it with `doppelgan bundles {path}`")


@contextmanager
def _steps() -> Iterator[Callable[[str], None]]:
    """Yield ``report(step)``: finished steps stay with their time, the current one spins; silent in pipes."""
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not is_terminal(sys.stderr)) as progress:

        def finish() -> None:
            for task in progress.tasks:
                if not task.finished:
                    progress.update(task.id, completed=1)

        def report(step: str) -> None:
            if step.startswith("note: "):
                console.print(f"doppelgan: {step}", markup=False, highlight=False, soft_wrap=True)
                return
            finish()
            progress.add_task(step, total=1)

        yield report
        finish()
