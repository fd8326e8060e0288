"""``doppelgan demo``: the embedded avatar on the embedded clip, or on your camera."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from ..bundle.reader import open_bundle
from ..demo.run import FILES, run_demo
from ..host.files import refuse_to_replace
from .progress import frame_progress


@click.command("demo")
@click.option(
    "--output",
    "-o",
    default="demo-output",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for what is made.",
)
@click.option("--input", "-i", "source", default=None, help="Your own clip, or a camera such as 0.")
@click.option("--frames", type=click.IntRange(1, 10_000_000), default=None, help="Stop after so many frames.")
@click.option("--bundle", "-b", default="demo", show_default=True, help="Name or folder of a bundle.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier run left in OUTPUT.")
def command(output: Path, source: str | None, frames: int | None, bundle: str, overwrite: bool) -> None:
    """See it work: no camera, no display, no network, no checkpoint, no GPU.

    Writes a video (original, edited face, toon avatar side by side), a before/after sheet with every
    edit, and a latency table.

    \b
    doppelgan demo
    doppelgan demo --input me.mp4 -o my-demo
    doppelgan demo --input 0 --frames 300
    """
    refuse_to_replace((output / name for name in FILES.values()), overwrite)
    console = Console(highlight=False, markup=False)
    with open_bundle(bundle) as opened, frame_progress("demo") as advance:
        result = run_demo(opened, output, source=source, frames=frames, on_progress=advance)
    console.print(result.latency_text)
    for what, path in result.files.items():
        console.print(f"{what:>10}  {path}")
    console.print("Live, with sliders, in your browser: doppelgan serve (pip install 'doppelgan[serve]')")
