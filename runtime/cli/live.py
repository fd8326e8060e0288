"""``doppelgan live``: camera or stream in; window, virtual camera, file or pipe out."""

from __future__ import annotations

import re
from typing import Any

import click

from ..pipeline import Pipeline
from ..schedule.run import hold, no_signal, passthrough, run_live
from ..sink import check_outputs, open_sinks
from ..source import Source, open_source
from ..source.pace import paced
from ..types import MAX_PIXELS
from .options import FiniteRange, make_pipeline, pipeline_options, state_origin
from .processor import Processor

ON_LOST = {"no-signal": no_signal, "hold": hold, "passthrough": passthrough}
NUDGE = 0.25  # of a direction's range, per key press


@click.command("live")
@click.option(
    "--source",
    "-i",
    default="0",
    show_default=True,
    help="Camera (0, /dev/video0), gst:PIPELINE, rtsp:// or http:// stream, file, test:, - for raw.",
)
@click.option(
    "--to",
    "-o",
    "outputs",
    multiple=True,
    default=("window",),
    show_default=True,
    help="window, camera: (virtual camera), a video file, - for raw BGR frames; repeat for several.",
)
@click.option("--size", default=None, metavar="WxH", help="What to ask the camera for; needed for raw input.")
@click.option(
    "--rate",
    type=FiniteRange(0, 1000, min_open=True),
    default=None,
    help="Frames per second to ask the camera for.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@click.option("--loop", is_flag=True, help="A file: from its beginning again, without sound, until Ctrl-C.")
@click.option(
    "--on-lost",
    type=click.Choice(list(ON_LOST)),
    default="no-signal",
    show_default=True,
    help="What to show when no frames come any more.",
)
@click.option("--latency", is_flag=True, help="Print what each stage took at the end.")
@pipeline_options
def command(
    source: str,
    outputs: tuple[str, ...],
    size: str | None,
    rate: float | None,
    overwrite: bool,
    loop: bool,
    on_lost: str,
    latency: bool,
    **settings: Any,
) -> None:
    """Edit faces live. Old frames are dropped, never queued; Ctrl-C (or q in the window) ends.

    In the window: 1-9 choose an edit, + and - move it, 0 resets it, s switches the style.

    \b
    doppelgan live                                              camera to window
    doppelgan live --style toon -c replace --to camera:         avatar in a video call
    doppelgan live -i rtsp://cam/stream --to out.mp4 --edit smile=1
    doppelgan live -i test: --to null: --latency                no camera needed
    doppelgan live -i clip.mp4 --loop --to camera:              a file at its own pace, again and again
    """  # fmt: skip
    wanted = {"size": _size(size), "rate": rate}
    check_outputs(outputs, overwrite)
    pipeline = make_pipeline(**settings)
    if on_lost == "passthrough" and pipeline.composite == "replace":
        raise click.UsageError(
            "--on-lost passthrough shows the camera's picture, and --composite replace promises never to: "
            "choose --on-lost hold or no-signal"
        )

    def open_again() -> Source:
        return open_source(source, **{k: v for k, v in wanted.items() if v is not None})  # type: ignore[arg-type]

    opened = open_again()
    if source != "-" or loop:  # a pipe has its own pace
        opened = paced(opened, open_again if loop else None)
    try:
        sinks = open_sinks(outputs, like=opened, on_key=Keys(pipeline))
    except BaseException:
        opened.close()
        raise
    state_origin(sinks, pipeline, source)
    report = run_live(
        opened,
        Processor(pipeline, opened),
        sinks,
        on_lost=ON_LOST[on_lost],
        on_state=lambda state, reason: (
            click.echo(f"{state}: {reason}", err=True) if state != "live" else None
        ),
    )
    click.echo(f"{report.written} frames shown, {report.dropped} dropped", err=True)
    if latency:
        click.echo(pipeline.clock.report().table(), err=True)
        click.echo(report.timing.table(), err=True)


class Keys:
    """What keys do in the window."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._names = list(pipeline.bundle.directions)
        self._chosen = self._names[0] if self._names else None

    def __call__(self, key: str) -> None:
        if key == "s":
            styles = self._pipeline.bundle.styles
            self._pipeline.style = styles[(styles.index(self._pipeline.style) + 1) % len(styles)]
            return
        if key.isdecimal() and 1 <= int(key) <= len(self._names):
            self._chosen = self._names[int(key) - 1]
        elif self._chosen and key in "+=-0":
            self._move(self._chosen, key)
        else:
            return
        strength = self._pipeline.edits.get(self._chosen or "", 0.0)
        click.echo(f"{self._chosen} = {strength:+.2f}", err=True)

    def _move(self, name: str, key: str) -> None:
        low, high = self._pipeline.bundle.directions[name].range
        edits = self._pipeline.edits
        if key == "0":
            edits = {other: value for other, value in edits.items() if other != name}
        else:
            step = NUDGE * (high - low) / 2 * (-1 if key == "-" else 1)
            edits = edits | {name: min(max(edits.get(name, 0.0) + step, low), high)}
        self._pipeline.edits = edits


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})[xX]([0-9]{1,6})", text)
    if match is None or min(size := (int(match[1]), int(match[2]))) < 2:
        raise click.BadParameter(f"expected WIDTHxHEIGHT such as 1280x720, got {text!r}", param_hint="--size")
    if size[0] * size[1] > MAX_PIXELS:
        most = f"{MAX_PIXELS // 1_000_000} megapixels"
        raise click.BadParameter(f"expected at most {most}, got {text}", param_hint="--size")
    return size
