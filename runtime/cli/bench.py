"""``doppelgan bench``: figures that can be trusted, as a page, JSON and a picture."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from ..composite import MODES, Mode
from ..edit.editor import parse_edits
from .options import backend_option


@click.command("bench")
@click.argument("bundle", default="demo")
@click.option(
    "--against", help="Another bundle, a backend, `float32` (uncompiled), or an earlier bench.json."
)
@click.option(
    "--input", "-i", "source", help="Picture, clip or `test:` for whole frames; default: the bundle's clip."
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Folder for bench.md, bench.json and bench.png."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@click.option(
    "--runs",
    type=click.IntRange(2, 1_000_000),
    default=60,
    show_default=True,
    help="Counted runs of each.",
)
@click.option(
    "--warm-up",
    type=click.IntRange(0, 1_000_000),
    default=5,
    show_default=True,
    help="Runs that do not count.",
)
@backend_option
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads per network.")
@click.option("--style", default="photo", show_default=True, help="Generator: photo, toon ...")
@click.option(
    "--composite",
    type=click.Choice(MODES),
    help="What goes back into the frame. Default: difference for photos, face for other styles.",
)
@click.option(
    "--edit",
    "-e",
    "edits",
    multiple=True,
    metavar="NAME=VALUE",
    help="Edits of the measured frames. Default: the bundle's first direction, at its upper end.",
)
@click.option("--drift/--no-drift", default=True, show_default=True, help="Compare results with float32.")
def command(
    bundle: str,
    against: str | None,
    source: str | None,
    output: Path | None,
    overwrite: bool,
    runs: int,
    warm_up: int,
    backend: str | None,
    threads: int | None,
    style: str,
    composite: Mode | None,
    edits: tuple[str, ...],
    drift: bool,
) -> None:
    """Measure BUNDLE: every network, and whole frames at 1280x720.

    Two subjects (--against) are run in turns and compared pair by pair.

    \b
    doppelgan bench demo -o out/
    doppelgan bench demo --against float32
    doppelgan bench engines/mine --input me.jpg --against openvino
    """
    from ..host.files import check_folder, make_folder, printable, refuse_to_replace, write_whole
    from ..measure import bench, plots

    if output is not None:
        refuse_to_replace((output / name for name in ("bench.md", "bench.json", "bench.png")), overwrite)
        check_folder(output)
        if missing := plots.why_not():
            click.echo(f"doppelgan: note: no bench.png: {missing}", err=True)
    source = source or bench.own_clip(bundle)
    frames = bench.read_frames(source) if source is not None else None
    progress = Console(stderr=True, highlight=False, markup=False)
    if frames is None:
        progress.print("no clip in the bundle and no --input: whole frames are not measured", style="yellow")
    result = bench.run_bench(
        bundle,
        against=against,
        backend=backend,
        threads=threads,
        frames=frames,
        runs=runs,
        warm_up=warm_up,
        drift=drift,
        report=lambda step: progress.print(step, style="dim"),
        style=style,
        composite=composite,
        edits=parse_edits(edits) if edits else None,
    )
    page = bench.markdown(result)
    click.echo(page)
    if output is None:
        return
    make_folder(output)
    write_whole(output / "bench.md", printable(page).encode())
    write_whole(output / "bench.json", bench.write_result(result))
    first = next(iter(result.subjects.values()))
    drawn = bool(first.stages) and not plots.why_not()
    if drawn:
        series = {label: subject.frame_ms for label, subject in result.subjects.items() if subject.frame_ms}
        plots.plot_latency(first.stages, series, output / "bench.png", ", ".join(result.subjects))
    click.echo(f"{output}: bench.md, bench.json{', bench.png' if drawn else ''} written", err=True)
