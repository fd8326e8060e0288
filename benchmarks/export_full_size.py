"""Export a full-size pair: e4e at 1024 with a config-f generator, weights drawn by name.

    python -m benchmarks.export_full_size [--folder FOLDER]

Prints the seconds of each step, the total and the peak memory of the exporting process; fails past 150 s
or 9 GB. The checkpoint (1.2 GB) is made first, in a process of its own, and is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import platform
import resource
import shutil
import tempfile
import time
from pathlib import Path

LIMIT_S, LIMIT_GB = 150.0, 9.0


def make_checkpoint(path: str) -> None:
    import torch

    from tests.export import seeds

    torch.save(
        seeds.psp_checkpoint("Encoder4Editing", seeds.CONFIG_F, w_dim=512, n_mlp=8, widths=seeds.FULL_WIDTHS),
        path,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="keep checkpoint and bundle here")
    folder: Path | None = parser.parse_args().folder
    work = folder or Path(tempfile.mkdtemp(prefix="doppelgan-full-size-"))
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, bundle = work / "e4e_1024.pt", work / "bundle"
    if not checkpoint.exists():
        maker = multiprocessing.get_context("spawn").Process(target=make_checkpoint, args=(str(checkpoint),))
        maker.start()
        maker.join()

    start, cpu_start = time.perf_counter(), time.process_time()
    from doppelgan.export import export_checkpoint

    steps: list[tuple[str, float, float]] = []

    def note(step: str) -> None:
        steps.append((step, time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))

    try:
        export_checkpoint(checkpoint, bundle, overwrite=True, progress=note)
        note("done")
    finally:
        if folder is None:
            shutil.rmtree(work)
    for (step, begin, _), (_, end, peak_gb) in itertools.pairwise(steps):
        print(f"{step:34s} {end - begin:7.1f} s   peak so far {peak_gb:5.2f} GB")
    total_s, peak_gb = steps[-1][1] - start, steps[-1][2]
    cpu_s = time.process_time() - cpu_start
    print(
        f"total {total_s:.1f} s (limit {LIMIT_S:.0f}), {cpu_s:.1f} s of CPU, "
        f"peak {peak_gb:.2f} GB (limit {LIMIT_GB:.0f}); "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    if total_s > LIMIT_S or peak_gb > LIMIT_GB:
        raise SystemExit("past the limit")


if __name__ == "__main__":
    main()
