"""The demonstration: one clip, the same person edited, enrolled and as a toon, a sheet, latencies."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from ..bundle.personal import open_person
from ..bundle.reader import Bundle
from ..errors import SourceError
from ..host.files import check_folder, make_folder, printable, write_whole
from ..mark.marker import Marker
from ..mark.metadata import write_source_type
from ..pictures.drawing import resized
from ..pictures.files import write_image
from ..pipeline import Pipeline
from ..sink import open_sink
from ..source import open_source
from ..types import Face, Floats, Frame, Image
from .sheet import edit_sheet, enrolled_sheet

EDITS = {"grey": 0.8}  # the demonstrated edit, where the bundle knows it: one that is seen at a glance
FILES = {  # what a demonstration writes, by what it is
    "video": "demo.mp4",
    "sheet": "before-after.png",
    "latency": "latency.md",
    "figures": "latency.json",
}
LIVE_FRAMES = 300  # a camera never ends by itself
PANEL_PX = 480  # height of the panels in the video

View = tuple[float, Image, Face, Floats]  # how frontal, the frame BGR uint8 [H,W,3], its face, code [1,n,w]


@dataclass
class DemoResult:
    """What a demonstration has written."""

    files: dict[str, Path] = field(default_factory=dict)
    latency_text: str = ""
    frames: int = 0
    frames_with_face: int = 0


def run_demo(
    bundle: Bundle,
    output: Path,
    *,
    source: str | None = None,  # anything open_source takes; None: the bundle's own clip
    frames: int | None = None,  # stop after so many; None: all of a clip, 300 of a camera
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> DemoResult:
    """Run ``bundle`` over a clip and write demo.mp4, before-after.png, latency.md and latency.json."""
    source = source or str(_clip(bundle))
    check_folder(output)
    with open_person(bundle) as person:
        return _run(bundle, person, output, source, frames, on_progress)


def _run(
    bundle: Bundle,
    person: Bundle | None,  # enrolled from one frame of the bundle's own clip
    output: Path,
    source: str,
    frames: int | None,
    on_progress: Callable[[int, int | None], None],
) -> DemoResult:
    edits = {name: value for name, value in EDITS.items() if name in bundle.directions}
    pipelines = {"photo": Pipeline(bundle, edits, marker=Marker("edited"))}
    if person is not None:
        pipelines["enrolled"] = Pipeline(person, composite="replace", marker=Marker("avatar"))
    if "toon" in bundle.styles:
        pipelines["toon"] = Pipeline(bundle, style="toon", composite="replace", marker=Marker("avatar"))
    result = DemoResult(files={"video": output / FILES["video"]})
    best: View | None = None

    with open_source(source) as clip:
        width = 2 * max(1, round(PANEL_PX * clip.display_size[0] / clip.display_size[1] / 2))
        size = (width * (1 + len(pipelines)), PANEL_PX)
        frames = LIVE_FRAMES if frames is None and clip.live else frames
        total = min((n for n in (frames, clip.frame_count) if n is not None), default=None)
        make_folder(output)
        video = result.files["video"].with_name(f".{FILES['video']}")
        with open_sink(video, rate=clip.rate or Fraction(30)) as sink:
            for frame in islice(clip.displayed(), frames):
                panels = [frame.image]
                for name, pipeline in pipelines.items():
                    panels.append(pipeline.process(frame.image, frame.time_s))
                    if name == "photo" and pipeline.people:
                        result.frames_with_face += 1
                        best = _better(best, pipeline, frame.image)
                sink.write(Frame(_strip(panels, size), frame.index, frame.time_s))
                result.frames += 1
                on_progress(result.frames, total)
    if best is None:
        video.unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else
            output.rmdir()
        raise SourceError(
            f"{source}: expected a face, found none in {result.frames} frames; try another clip"
        )

    video.replace(result.files["video"])
    result.files["sheet"] = output / FILES["sheet"]
    sheet = edit_sheet(bundle, {"person": best[1:]})
    if person is not None:
        sheet = np.vstack([sheet, enrolled_sheet(bundle, person)])
    write_image(result.files["sheet"], sheet)
    for name in ("video", "sheet"):
        write_source_type(result.files[name], "edited")
    # Rate and interval are left out: here they count all pipelines and the coding of the video as well.
    report = replace(pipelines["photo"].clock.report(), interval=None, frames_per_s=None)
    result.latency_text = report.table()
    result.files["latency"] = output / FILES["latency"]
    page = f"# Latency of one frame, {bundle.manifest.name}\n\n{report.table()}\n"
    write_whole(result.files["latency"], printable(page).encode())
    write_whole(output / FILES["figures"], json.dumps(report.to_dict(), indent=2).encode())
    return result


def _clip(bundle: Bundle) -> Path:
    entry = bundle.manifest.files.get("clip")
    if entry is None:
        raise SourceError(f"{bundle.path}: expected an embedded clip, got a bundle without; pass --input")
    return bundle.path / entry.file


def _better(best: View | None, pipeline: Pipeline, frame: Image) -> View:
    """Prefer the frame whose face looks most into the camera."""
    person = next(iter(pipeline.people.values()))
    assert person.face is not None
    assert person.own_codes is not None
    left, right, *_ = person.face.eyes_mouth
    nose = person.face.landmarks[1, :2]
    symmetry = -abs(float(np.linalg.norm(nose - left) - np.linalg.norm(nose - right)))
    score = symmetry / max(float(np.linalg.norm(right - left)), 1.0)
    if best is not None and best[0] >= score:
        return best
    return score, frame, person.face, person.own_codes.copy()


def _strip(panels: list[Image], size: tuple[int, int]) -> Image:
    width, height = size[0] // len(panels), size[1]
    return np.hstack([resized(p, (width, height)) for p in panels])
