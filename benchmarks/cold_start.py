"""Cold start: how long a fresh process takes to import and to its first edited frame; size of an install.

    python -m benchmarks.cold_start [--bundle demo] [--input frame.jpg] [--rounds 7] [--output page.md]

Each figure is the median over fresh processes from start to exit; the first is not counted and leaves files
in the disk cache and compiled networks in the user's. Install size is the sum of the files of the base
dependencies and all they need, as installed here.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from doppelgan.runtime.bundle import open_bundle

from .common import header, publish

FIRST_FRAME = """
import sys
from doppelgan.runtime.measure.bench import own_clip, read_frames
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.pipeline import Pipeline
source = sys.argv[2] or own_clip(sys.argv[1])
frame = read_frames(source, 1)[0]
pipeline = Pipeline(open_bundle(sys.argv[1], backend=sys.argv[3] or None))
pipeline.process(frame)
assert pipeline.people, "no face in the first frame"
"""
STEPS = {
    "python -c pass": ["-c", "pass"],
    "import doppelgan.runtime": ["-c", "import doppelgan.runtime"],
    "import doppelgan.runtime.pipeline": ["-c", "import doppelgan.runtime.pipeline"],
    "doppelgan --help": ["-m", "doppelgan.runtime.cli", "--help"],
}


def seconds(arguments: list[str], rounds: int) -> list[float]:
    times = []
    for turn in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        if turn:
            times.append(time.perf_counter() - start)
    return times


def install_size_mb(names: list[str]) -> dict[str, float]:
    """Megabytes of each distribution that ``names`` need, extras left out."""
    sizes: dict[str, float] = {}
    waiting = list(names)
    while waiting:
        name = re.split(r"[^A-Za-z0-9._-]", waiting.pop())[0].lower()
        if name in sizes:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        paths = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
        sizes[name] = sum(p.stat().st_size for p in paths if p.is_file() and p.suffix != ".pyc") / 1e6
        waiting += [need for need in distribution.requires or () if "extra ==" not in need]
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--input", default="", help="first frame; default: the bundle's clip")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    first_frame = ["-c", FIRST_FRAME, options.bundle, options.input]
    steps = {**STEPS, "process to first edited frame, not compiled": [*first_frame, "native"]}
    with open_bundle(options.bundle) as bundle:
        if bundle.compiled is not None:
            steps["process to first edited frame, as compiled"] = [*first_frame, ""]
    lines = ["| what | median s | min s | max s |", "|---|--:|--:|--:|"]
    for label, arguments in steps.items():
        try:
            times = seconds(arguments, options.rounds)
        except subprocess.CalledProcessError as error:
            lines.append(f"| {label} | failed ({error.returncode}) | - | - |")
            continue
        lines.append(f"| {label} | {np.median(times):.2f} | {min(times):.2f} | {max(times):.2f} |")
    base = ["av", "click", "msgspec", "numpy", "onnxruntime", "pillow", "rich"]
    sizes = install_size_mb(base)
    listed = ", ".join(
        f"{name} {size:.0f}" for name, size in sorted(sizes.items(), key=lambda item: -item[1]) if size >= 1
    )
    page = [
        header("Cold start", f"python -m benchmarks.cold_start --bundle {options.bundle}"),
        *lines,
        "",
        f"Base install: {sum(sizes.values()):.0f} MB without doppelgan itself and its bundle ({listed}).",
    ]
    publish("\n".join(page), options.output)


if __name__ == "__main__":
    main()
