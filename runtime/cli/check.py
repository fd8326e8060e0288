"""``doppelgan check``: what files say about how they were made, and what their pixels say."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import click

from ..errors import DoppelganError
from ..mark.c2pa import Credentials, is_available, read_credentials
from ..mark.metadata import SourceType, read_source_type
from ..mark.watermark import Detection, Detector
from ..source import open_source

FRAMES = 240
STEP = 3  # of frames that follow each other closely, every third says as much


@dataclass
class Layers:
    """What was found in one file."""

    file: str
    metadata: SourceType | None = None
    credentials: Credentials | None = None
    credentials_read: bool = False  # False: the extra is missing
    watermark: Detection | None = None
    frames: int = 0
    error: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def synthetic(self) -> bool:
        """Whether any layer says so."""
        stated = self.metadata is not None and self.metadata.synthetic
        signed = self.credentials is not None and "lgorithmic" in (self.credentials.source_type or "")
        return stated or signed or (self.watermark is not None and self.watermark.found)


@click.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--frames",
    type=click.IntRange(1, 10_000_000),
    default=FRAMES,
    show_default=True,
    help="Frames of a video that are looked at, every third.",
)
@click.option("--key", help="Key of the watermark, if not the public one or $DOPPELGAN_MARK_KEY.")
def command(files: tuple[Path, ...], as_json: bool, frames: int, key: str | None) -> None:
    """Tell whether FILES were made with doppelgan: metadata, signed credentials, watermark.

    A layer that is found says so; one that is missing proves nothing, since metadata is easily removed and
    other tools leave other marks. Exits with 2 if a file could not be read.

    \b
    doppelgan check holiday.jpg
    doppelgan check *.mp4 --json
    """
    results = [examine(path, frames, os.fsencode(key) if key else None) for path in files]
    if as_json:
        click.echo(json.dumps([as_dict(layers) for layers in results], indent=2))
    else:
        for layers in results:
            click.echo(describe(layers))
    if any(layers.error for layers in results):
        raise click.exceptions.Exit(2)


def examine(path: Path, frames: int = FRAMES, key: bytes | None = None) -> Layers:
    """Read all layers of one file."""
    layers = Layers(str(path))
    if not path.is_file():
        layers.error = f"{path}: expected a picture or video, found no file; check the path"
        return layers
    layers.metadata = read_source_type(path)
    layers.credentials_read = is_available()
    if layers.credentials_read:
        layers.credentials = read_credentials(path)
    detector = Detector(key)
    try:
        with open_source(str(path), files_first=True) as source:
            for frame in islice(source.displayed(), 0, frames * STEP, STEP):
                detector.add(frame.image)
                layers.frames += 1
    except (DoppelganError, ValueError) as error:
        if not layers.frames:  # what could be read of a damaged video is still looked at
            layers.error = str(error)
            return layers
        layers.notes.append(str(error))
    layers.watermark = detector.detect()
    return layers


def as_dict(layers: Layers) -> dict[str, Any]:
    """For JSON."""
    mark = layers.watermark
    payload = mark.payload if mark is not None and mark.found else None
    return {
        "file": layers.file,
        "synthetic": layers.synthetic,
        "metadata": None if layers.metadata is None else asdict(layers.metadata),
        "credentials": None if layers.credentials is None else asdict(layers.credentials),
        "credentials_read": layers.credentials_read,
        "watermark": None
        if mark is None
        else {
            "found": mark.found,
            "false_alarm_probability": mark.false_alarm,
            "kind": payload.kind if payload else None,
            "day": payload.day.isoformat() if payload else None,
            "scale": round(mark.scale, 3) if mark.found else None,
            "mirrored": mark.mirrored if mark.found else None,
        },
        "frames": layers.frames,
        "error": layers.error,
        "notes": layers.notes,
    }


def describe(layers: Layers) -> str:
    """For people: a line per layer."""
    if layers.error:
        return f"{layers.file}\n  cannot be read: {layers.error}"
    lines = [layers.file + (": synthetic" if layers.synthetic else ": nothing found, which proves nothing")]
    stated, signed = layers.metadata, layers.credentials
    lines.append(
        f"  metadata     {stated.value}, {stated.tool or 'no tool named'}" if stated else "  metadata     -"
    )
    if not layers.credentials_read:
        lines.append("  credentials  not read: pip install 'doppelgan[c2pa]'")
    elif signed is None:
        lines.append("  credentials  -")
    else:
        state = "intact" if signed.intact else "BROKEN: changed after signing"
        trust = "trusted" if signed.trusted else "signer not on a trust list"
        what = signed.source_type or "no source type"
        lines.append(
            f"  credentials  {what}, {signed.tool or '?'}, by {signed.signer or '?'}: {state}, {trust}"
        )
    lines.append(f"  watermark    {_describe_mark(layers.watermark, layers.frames)}")
    return "\n".join([*lines, *(f"  note: {note}" for note in layers.notes)])


def _describe_mark(mark: Detection | None, frames: int) -> str:
    if mark is None or not mark.found or mark.payload is None:
        return "-"
    sure = f"false alarm less likely than {max(mark.false_alarm, 1e-99):.0e}"
    turned = ", mirrored" if mark.mirrored else ""
    of = f", from {frames} frames" if frames > 1 else ""
    return f"{mark.payload.kind}, {mark.payload.day.isoformat()}, scale {mark.scale:.2f}{turned}: {sure}{of}"
