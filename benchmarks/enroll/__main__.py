"""Enrollment judged on pictures that it never saw: likeness, following, edits, time and memory.

::

    python -m benchmarks.enroll --work out/enroll --clips FOLDER/*.mp4 --stills FOLDER/*.jpg \
        --judge "node benchmarks/judge/recognize.cjs DIR" --sheets out/sheets --output out/enroll.md
    python -m training.render.clip --seed 80019 --frames 13 --size 384x384 --out renders/80019
    python -m benchmarks.enroll --work out/enroll --renders renders

A clip is enrolled from one frame (its calmest of the first 70 %) and from the first 70 % of its frames, and
judged on the rest: the avatar, driven by the person, against the person. A still has no other frames: it is
driven by the clips. A render (people whom training never saw: number % 20 = 19) is enrolled from its first
frame and judged on its others; a folder NUMBER-toon beside it (``--look toon``) holds the true toon.

Each enrollment and its result lie in ``--work`` as soon as they are there: the same command goes on where it
was cut short, by Ctrl-C or ``--minutes``. ``--judge``: see `benchmarks/judge`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from doppelgan.runtime.bundle import Bundle, open_bundle

from benchmarks.common import header, publish
from benchmarks.judge.recognizer import Recognizer

from .page import page
from .people import Part, Settings, judge, parts
from .results import CLIP, ONE, Results

BORDER = 0.5  # of an aligned picture's side, which its face fills: what the judge is shown around it


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.enroll", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and results")
    parser.add_argument("--clips", nargs="*", type=Path, default=[])
    parser.add_argument("--stills", nargs="*", type=Path, default=[])
    parser.add_argument(
        "--renders", type=Path, help="folder of folders, each with frame-NNNN.png of one person"
    )
    parser.add_argument(
        "--drivers", nargs="*", type=Path, help="clips that drive the others; default: --clips"
    )
    parser.add_argument("--bundle", default="demo", help="base")
    parser.add_argument("--how", nargs="*", choices=(ONE, CLIP), default=[ONE, CLIP])
    parser.add_argument("--steps", type=int, help="of tuning; default: the command's own")
    parser.add_argument("--judge", help="program that tells people apart")
    parser.add_argument("--sheets", type=Path, help="folder for pictures to look at")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no part is begun")
    parser.add_argument("--output", type=Path, help="page to write, .md; the numbers beside it, .json")
    arguments = parser.parse_args()
    with open_bundle(arguments.bundle) as base, Recognizer(arguments.judge, BORDER) as recognizer:
        clips = arguments.clips
        if not (clips or arguments.stills or arguments.renders):
            clips = [base.path / base.manifest.files["clip"].file]
        renders = [] if arguments.renders is None else folders(arguments.renders)
        todo = parts(clips, arguments.stills, renders, arguments.how)
        settings = Settings(
            base=arguments.bundle,
            steps=arguments.steps,
            recognizer=recognizer,
            results=Results(arguments.work),
            sheets=arguments.sheets,
            clips=tuple(arguments.drivers or clips),
        )
        complete = work(todo, base, settings, arguments.minutes)
    results = [settings.results.get(part.name, part.how, part.kind) for part in todo]
    title = "Enrollment, judged on unseen pictures"
    text = page(results, header(title, f"python -m benchmarks.enroll {shlex.join(sys.argv[1:])}").strip())
    publish(text, arguments.output)
    if arguments.output is not None:
        numbers = msgspec.json.format(msgspec.json.encode(results))
        arguments.output.with_suffix(".json").write_bytes(numbers + b"\n")
    if not complete:
        sys.exit("not complete: the same command goes on")


def folders(renders: Path) -> list[Path]:
    """Of each person; toons lie beside their natural look."""
    return sorted(path for path in renders.iterdir() if path.is_dir() and not path.name.endswith("-toon"))


def work(todo: Sequence[Part], base: Bundle, settings: Settings, minutes: float) -> bool:
    """Judge part by part; whether all are done."""
    end = time.monotonic() + 60 * minutes
    for i, part in enumerate(todo, 1):
        result = settings.results.get(part.name, part.how, part.kind)
        if not result.done:
            if time.monotonic() > end:
                return False
            result = judge(part, base, settings)
        print(f"{i} of {len(todo)}: {result}", flush=True)
    return True


if __name__ == "__main__":
    main()
