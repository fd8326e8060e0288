"""Renders a data set with several worker processes. A second run continues where the first one stopped."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from training.render.data.dataset import PEOPLE_PER_SHARD, numbers_in
from training.render.data.shards import describe, shard_path
from training.render.person.pairs import MEANINGS
from training.render.scene.camera import SAMPLES
from training.render.worker import DONE

_SHARDS_PER_PROCESS = 32
"""Blender's memory grows slowly: a worker is replaced after some thousand pictures."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.render", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="first person number (whole shards of 32 work best)")
    parser.add_argument("--count", type=int, default=12000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument(
        "--samples",
        type=int,
        default=SAMPLES,
        help="light paths per pixel of the natural look (default: %(default)s)",
    )
    parser.add_argument(
        "--oversize",
        type=int,
        default=1,
        metavar="N",
        help="render the natural look N times as large and average it down: the denoiser takes strands of hair in small "
        "pictures for noise; `--size 128 --samples 2 --oversize 2` takes a quarter longer than `--size 128`",
    )
    parser.add_argument("--only", choices=["natural", "toon"])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--held-out", action="store_true", help="only the people that training never sees, every 20th")
    which.add_argument(
        "--pairs", action="store_true", help="everybody twice, with age or gender changed and nothing else (2 k and 2 k + 1)"
    )
    options = parser.parse_args()
    if options.pairs and (options.first % 2 or options.count % 2):
        parser.error(f"--pairs: expected an even --first and --count, got {options.first} and {options.count}")
    looks = (options.only,) if options.only else ("natural", "toon")
    options.out.mkdir(parents=True, exist_ok=True)
    describe(options.out, options.size, looks, MEANINGS if options.pairs else ())

    end = options.first + options.count
    wanted = range(options.first // PEOPLE_PER_SHARD, -(-end // PEOPLE_PER_SHARD))
    missing = [shard for shard in wanted if not shard_path(options.out, shard).exists()]
    people = sum(len(numbers_in(shard, options.first, end, options.held_out)) for shard in missing)
    print(
        f"{len(wanted) - len(missing)} of {len(wanted)} shards are there, {people} people to render",
        flush=True,
    )
    queue = _Queue(missing, options, looks, _Progress(people))
    failed = queue.run(options.workers)
    if failed:
        sys.exit(f"{failed} workers failed: run the same command again to render what is missing")


class _Queue:
    """Hands small batches of shards to worker processes."""

    def __init__(self, shards: list[int], options: argparse.Namespace, looks: tuple[str, ...], progress: _Progress) -> None:
        self._shards = list(shards)
        self._options = options
        self._looks = looks
        self._progress = progress
        self._lock = threading.Lock()
        self._failed = 0

    def run(self, workers: int) -> int:
        batch = max(1, min(_SHARDS_PER_PROCESS, -(-len(self._shards) // max(1, workers))))
        threads = [threading.Thread(target=self._serve, args=(batch,), daemon=True) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._progress.close()
        return self._failed

    def _serve(self, batch: int) -> None:
        while True:
            with self._lock:
                mine, self._shards = self._shards[:batch], self._shards[batch:]
            if not mine:
                return
            if self._work(mine) != 0:
                with self._lock:
                    self._failed += 1
                return

    def _work(self, shards: list[int]) -> int:
        options = self._options
        command = [
            sys.executable, "-m", "training.render.worker", "--out", str(options.out), "--size", str(options.size),
            "--looks", ",".join(self._looks), "--samples", str(options.samples),
            "--oversize", str(options.oversize), "--first", str(options.first),
            "--end", str(options.first + options.count),
            *(["--held-out"] if options.held_out else []), *(["--pairs"] if options.pairs else []), *map(str, shards),
        ]  # fmt: skip
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OIDN_NUM_THREADS": "1",
        }
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(DONE):
                    self._progress.advance(rejected=int(line.split()[2]))
        return process.returncode


class _Progress:
    """A bar with `rich` where it is installed and standard output is a terminal, else a line now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._rejected = 0
        self._started = self._printed = time.monotonic()
        self._lock = threading.Lock()
        self._bar = None
        if sys.stdout.isatty():
            try:
                from rich.progress import (
                    BarColumn,
                    MofNCompleteColumn,
                    Progress,
                    TextColumn,
                    TimeRemainingColumn,
                )
            except ImportError:
                return
            self._bar = Progress(
                TextColumn("people"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[rate]}"),
            )
            self._task = self._bar.add_task("render", total=total, rate="")
            self._bar.start()

    def advance(self, rejected: int) -> None:
        with self._lock:
            self._done += 1
            self._rejected += rejected
            elapsed = time.monotonic() - self._started
            rate = f"{elapsed / self._done:.2f} s each, {self._rejected} rejected"
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done, rate=rate)
            elif self._done == self._total or time.monotonic() - self._printed > 20:
                self._printed = time.monotonic()
                left = (self._total - self._done) * elapsed / self._done
                print(f"{self._done}/{self._total} people, {rate}, {left / 60:.0f} min left", flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


if __name__ == "__main__":
    main()
