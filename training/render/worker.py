"""One rendering process: takes shard numbers on its command line, reports each finished person on standard output."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from training.render.scene.camera import SAMPLES

DONE = "rendered"
"""First word of a report line; the rest is the person's number and how many attempts were rejected."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.render.worker")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--looks", required=True)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--oversize", type=int, default=1)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--end", type=int, required=True)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("shards", type=int, nargs="+")
    options = parser.parse_args()
    report = _take_standard_output()

    from training.render.data.dataset import numbers_in
    from training.render.data.shards import shard_path, write_shard
    from training.render.scene.portrait import MAX_ATTEMPTS, Portraitist

    artist = Portraitist(options.size, tuple(options.looks.split(",")), samples=options.samples, oversize=options.oversize)
    for shard in options.shards:
        if shard_path(options.out, shard).exists():
            continue
        portraits = []
        numbers = numbers_in(shard, options.first, options.end, options.held_out)
        for together in zip(numbers[::2], numbers[1::2], strict=True) if options.pairs else zip(numbers, strict=True):
            one = artist.pair(together[0] // 2) if options.pairs else [artist.portrait(together[0])]
            good = [portrait for portrait in one if portrait is not None]
            portraits += good
            rejected = len(good[0].rejected) if good else MAX_ATTEMPTS
            for number in together:
                os.write(report, f"{DONE} {number} {rejected}\n".encode())
        if portraits:
            write_shard(options.out, shard, portraits)


def _take_standard_output() -> int:
    """Blender prints to standard output: keep the real one for reports and send the rest to nowhere."""
    sys.stdout.flush()
    report = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    return report


if __name__ == "__main__":
    main()
