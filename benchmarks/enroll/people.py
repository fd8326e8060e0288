"""The people who are enrolled and judged: of clips, of stills, of renders; one part of the work at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.pictures import read_image, write_image
from doppelgan.runtime.pictures.convert import to_image
from doppelgan.runtime.source import open_source
from doppelgan.runtime.types import Image

from benchmarks.judge.recognizer import Recognizer

from .meaning import attribute_reader
from .measures import drive, edits, following, speed
from .results import CLIP, ONE, PLAIN, Result, Results
from .sheet import write_sheet

LEARNED = 0.7  # of a clip's frames may be enrolled from
MOST_READ = 450  # frames of a clip
DRIVERS = 2  # clips of others, that each person is driven by
DRIVEN = 90  # frames of them


@dataclass(frozen=True)
class Settings:
    """What all people have in common."""

    base: str
    steps: int | None
    recognizer: Recognizer
    results: Results
    sheets: Path | None
    clips: tuple[Path, ...]  # the drivers

    def others(self, path: Path) -> tuple[Path, ...]:
        return tuple(clip for clip in self.clips if clip != path)[:DRIVERS]


@dataclass(frozen=True)
class Part:
    """One enrollment, or the plain avatar of one person."""

    path: Path
    how: str
    kind: str  # "clip", "still" or "render"

    @property
    def name(self) -> str:
        return self.path.stem


def parts(
    clips: Sequence[Path], stills: Sequence[Path], renders: Sequence[Path], how: Sequence[str]
) -> list[Part]:
    found = []
    for kind, paths in (("clip", clips), ("render", renders)):
        for path in paths:
            ways = how if kind == "clip" else [ONE]
            found += [Part(path, way, kind) for way in (PLAIN, *ways)]
    return found + [Part(path, ONE, "still") for path in stills]


def judge(part: Part, base: Bundle, settings: Settings) -> Result:
    """Enroll and measure; what is there already is not done again."""
    results = settings.results
    result = results.get(part.name, part.how, part.kind)
    if result.done:
        return result
    if part.how != PLAIN:
        _enroll(part, base, settings, result)
        results.put(result)
    if not result.refused:
        me = settings.base if part.how == PLAIN else str(results.bundle(part.name, part.how))
        with open_bundle(me) as opened:
            _measure(part, base, opened, settings, result)
    result.done = True
    results.put(result)
    return result


def _measure(part: Part, base: Bundle, me: Bundle, settings: Settings, result: Result) -> None:
    recognizer, frames = settings.recognizer, unseen(part)
    plain = drive(base, frames, video=part.kind == "clip")
    own = plain if part.how == PLAIN else drive(me, frames, video=part.kind == "clip")
    result.psnr_db, result.ms_ssim = own.likeness()
    person = recognizer.person([to_image(real) for real in plain.real])
    drivers = settings.others(part.path)
    driven = [(clip.stem, drive(me, read(clip)[:DRIVEN])) for clip in drivers] if part.how != PLAIN else []
    if part.kind != "still":
        result.distance = recognizer.distance([to_image(a) for a in own.avatar], person)
    else:  # whose one picture was enrolled from: likeness is judged while others drive it
        result.distance = recognizer.distance([to_image(a) for _, one in driven for a in one.avatar], person)
    if part.kind == "render":
        result.toon_db = _toon(part.path, me)
    watched = [part.path] if part.kind == "clip" else []
    watched += drivers[:1] if part.how != PLAIN else []
    result.following = {clip.stem: following(me, clip) for clip in watched}
    if part.how == PLAIN:
        return
    result.edits = edits(base, me, recognizer, attribute_reader())
    if part.kind == "clip":
        result.speed = speed(base, me, frames)
    if settings.sheets is not None:
        name = f"{settings.results.bundle(part.name, part.how).name}.png"
        write_sheet(settings.sheets / name, me, plain, own, driven)


def read(path: Path) -> list[Image]:
    with open_source(str(path)) as source:
        return [frame.image for frame in islice(source, MOST_READ)]


def unseen(part: Part) -> list[Image]:
    """Frames that are judged: the last of a clip, all but the first of a render, the still itself."""
    if part.kind == "still":
        return read(part.path)[:1]
    if part.kind == "render":
        return [read_image(path) for path in _rendered(part.path)[1:]]
    frames = read(part.path)
    return frames[int(LEARNED * len(frames)) :]


def _rendered(folder: Path) -> list[Path]:
    return sorted(folder.glob("frame-*.png"))


def _toon(folder: Path, me: Bundle) -> float | None:
    """PSNR of the toon against that of the renderer, where ``FOLDER-toon`` lies beside ``FOLDER``."""
    pairs = [(path, folder.with_name(f"{folder.name}-toon") / path.name) for path in _rendered(folder)[1:]]
    if "toon" not in me.styles or not all(toon.exists() for _, toon in pairs):
        return None
    natural, toons = ([read_image(path) for path in side] for side in zip(*pairs, strict=True))
    return drive(me, natural, video=False, style="toon", against=toons).likeness()[0]


def _enroll(part: Part, base: Bundle, settings: Settings, result: Result) -> None:
    """Run the command, unless its bundle is there; keep what it took, or its refusal."""
    output = settings.results.bundle(part.name, part.how)
    if output.exists():
        return
    with _sources(part, base) as sources:
        command = [sys.executable, "-m", "doppelgan.runtime.cli", "enroll", *sources, "-o", str(output)]
        command += ["-b", settings.base, "--consent", "benchmark"]
        command += [] if settings.steps is None else ["--steps", str(settings.steps)]
        began = time.monotonic()
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stderr is not None
            said, peak = "", 0
            for line in process.stderr:
                said, peak = said + line, max(peak, _peak_bytes(process.pid))
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == 2:
        result.refused = said.strip().splitlines()[-1]
    elif process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said}")
    result.wall_s = time.monotonic() - began
    result.cpu_s = used.ru_utime + used.ru_stime
    result.peak_gb = (peak or 1024 * used.ru_maxrss) / 1e9


def _peak_bytes(pid: int) -> int:
    """What a running process took at most, where Linux tells; its rusage starts from what *this* one took."""
    try:
        rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return 1024 * int(rows["VmHWM"].split()[0])
    except (OSError, KeyError, ValueError):
        return 0


@contextmanager
def _sources(part: Part, base: Bundle) -> Iterator[list[str]]:
    """What the command is given: a picture, or a folder of the clip's first frames."""
    if part.kind == "still":
        yield [str(part.path)]
    elif part.kind == "render":
        yield [str(_rendered(part.path)[0])]
    else:
        with TemporaryDirectory() as scratch:
            frames = read(part.path)
            for i, frame in enumerate(frames[: int(LEARNED * len(frames))]):
                write_image(Path(scratch) / f"{i:04}.png", frame)
            yield [scratch] if part.how == CLIP else [str(_calmest(Path(scratch), base))]


def _calmest(folder: Path, bundle: Bundle) -> Path:
    """The picture that enrollment itself would start from."""
    from doppelgan.export.tuning.material import gather

    _, _, index = gather([str(folder)], bundle).pivot.name.rpartition("#")
    return sorted(folder.glob("*.png"))[int(index)]
