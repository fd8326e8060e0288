"""Does what we hand out install? ``python -m tests.install [--wheel FILE] [--page FILE] PYTHON...``

Builds the source distribution and a wheel from it (unless one is given), looks through both for what must and
must not be there, installs the wheel into a fresh environment of every PYTHON that is named, and runs
``doppelgan demo`` there. Packages come from wherever pip takes them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (
    *("doppelgan/runtime/__init__.py", "doppelgan/runtime/py.typed", "doppelgan/export/py.typed"),
    *("doppelgan/runtime/serve/static/index.html", "doppelgan/engines/demo/manifest.json"),
)
# Only packages and the one bundle that is embedded.
ROOMS = re.compile(
    r"doppelgan/(runtime|export|engines/demo)/|doppelgan-[^/]+\.(dist-info|data)/|doppelgan\.libs/"
)
UNWANTED = re.compile(
    r"(^|/)(tests?|training|benchmarks|fake[^/]*|__pycache__|compiled)/|fake|\.(cpp|h|o|pt|cu)$"
)
NOT_IN_SOURCE = re.compile(r"^[^/]+/(training/state|build|out|dist|data|engines/(?!demo/))")
FRAMES = 30
DEMO = ("demo.mp4", "before-after.png", "latency.md", "latency.json")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.install", description=__doc__)
    parser.add_argument("--wheel", type=Path, help="check this one instead of building")
    parser.add_argument("--page", type=Path, help="append the table to this file")
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        room, faults = Path(scratch), []
        wheel = options.wheel
        if wheel is None:
            source = build_source(room)
            faults += source_faults(source)
            print(f"{source.name}: {source.stat().st_size / 1e6:.1f} MB", flush=True)
            wheel = build_wheel(source, room, options.pythons[0])
        faults += wheel_faults(wheel)
        rows = [
            f"{wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB",
            "",
            "| Python | kernels | demo |",
            "|---|---|---|",
        ]
        for python in options.pythons:
            rows.append(tried(wheel, python, room / str(len(rows))))
            print(rows[-1], flush=True)
    page = "\n".join(rows) + "\n"
    if options.page is not None:
        with options.page.open("a", encoding="utf-8") as file:
            file.write(page)
    print("\n" + page)
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    return int(bool(faults) or "failed" in page)


def build_source(room: Path) -> Path:
    """The source distribution of this tree."""
    run([sys.executable, "-m", "build", "--sdist", "--outdir", str(room), str(ROOT)])
    return next(room.glob("*.tar.gz"))


def build_wheel(source: Path, room: Path, python: str) -> Path:
    run([python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(room), str(source)])
    return next(room.glob("*.whl"))


def source_faults(path: Path) -> list[str]:
    """What a source distribution must not carry."""
    with tarfile.open(path) as archive:
        names = archive.getnames()
    return [f"{path.name} carries {name}" for name in names if NOT_IN_SOURCE.search(name)]


def wheel_faults(path: Path) -> list[str]:
    """What a wheel lacks, or carries too much."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    faults = [f"{path.name} lacks {name}" for name in NEEDED if name not in names]
    faults += [
        f"{path.name} carries {name}" for name in names if not ROOMS.match(name) or UNWANTED.search(name)
    ]
    if not path.name.endswith("py3-none-any.whl") and not any("/_native." in name for name in names):
        faults.append(f"{path.name} lacks the compiled module")
    return faults


def tried(wheel: Path, python: str, room: Path) -> str:
    """One row: an environment with nothing in it but the wheel and what it asks for."""
    version = run([python, "-c", "import platform; print(platform.python_version())"]).strip()
    try:
        run([python, "-m", "venv", str(room)])
        own = str(room / ("Scripts" if os.name == "nt" else "bin") / "python")
        run([own, "-m", "pip", "install", "--quiet", str(wheel)])
        kernels = run([own, "-c", "from doppelgan.runtime import native; print(native.KERNELS)"]).strip()
        start = time.monotonic()
        demo = [
            own,
            "-m",
            "doppelgan.runtime.cli",
            "demo",
            "--frames",
            str(FRAMES),
            "--output",
            "demo-output",
        ]
        run(demo, cwd=room)
        took = time.monotonic() - start
        missing = [name for name in DEMO if not (room / "demo-output" / name).is_file()]
        frames = json.loads((room / "demo-output" / "latency.json").read_text())
        assert frames
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        return f"| {version} | - | failed: {detail.strip().splitlines()[-1]} |"
    if missing:
        return f"| {version} | {kernels} | failed: no {', '.join(missing)} |"
    return f"| {version} | {kernels} | {FRAMES} frames, whole command {took:.0f} s |"


def run(command: Sequence[str], cwd: Path | None = None) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
