"""``doppelgan video``: a video file in, the same video with edited faces out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import SourceError
from ..schedule.run import run_files
from ..sink import check_outputs, open_sink
from ..source import open_source
from .options import make_pipeline, pipeline_options, state_origin
from .processor import Processor
from .progress import frame_progress


@click.command("video")
@click.argument("video")
@click.option("--output", "-o", required=True, help="Video file, folder for pictures, - for raw BGR frames.")
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it is there.")
@click.option("--latency", is_flag=True, help="Print what each stage took.")
@pipeline_options
def command(video: str, output: str, overwrite: bool, latency: bool, **settings: Any) -> None:
    """Edit the faces in VIDEO (a file, a folder of pictures or a pattern such as test:).

    Number of frames, size, rate and sound stay as they are.

    \b
    doppelgan video me.mp4 -o older.mp4 --edit grey=0.8
    doppelgan video me.mp4 -o toon.mp4 --style toon --composite replace
    doppelgan video group.mp4 -o smile.mp4 --edit smile=1 --max-faces 4
    """
    check_outputs([output], overwrite)
    pipeline = make_pipeline(**settings)
    source = open_source(video, files_first=True)
    try:
        sink = open_sink(output, like=source)
    except BaseException:
        source.close()
        raise
    state_origin([sink], pipeline, video)
    edit = Processor(pipeline, source)
    with frame_progress(Path(video).name) as advance:
        done = run_files(source, edit, sink, on_progress=lambda p: advance(p.frames, p.total))
    speed = done.frames / max(done.elapsed_s, 1e-9)
    said = f"{output}: {done.frames} frames, a face in {edit.with_face} of them, {speed:.1f} frames/s"
    click.echo(said, err=output == "-")
    if latency:
        click.echo(pipeline.clock.report().table(), err=True)
    if source.skipped:
        total = done.frames + len(source.skipped)
        names = ", ".join(source.skipped)
        raise SourceError(f"{len(source.skipped)} of {total} pictures could not be read: {names}")
