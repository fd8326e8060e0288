"""The one check command: ``python -m tests``. CI runs exactly this.

Style (ruff), types (mypy, strict) and behavior (pytest, warnings are errors), in that order; further
arguments go to pytest: ``python -m tests -k align``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("runtime", "export", "engines")


def source_tree() -> Path:
    """build/tree/doppelgan/* -> the top-level folders, so that tools see the import names."""
    tree = ROOT / "build" / "tree"
    package = tree / "doppelgan"
    package.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        link = package / name
        if not link.is_symlink():
            link.symlink_to(Path("..") / ".." / ".." / name, target_is_directory=True)
    return tree


def main() -> int:
    tree = source_tree()
    environment = {**os.environ, "MYPYPATH": str(tree)}
    python = [sys.executable, "-m"]
    steps = [
        [*python, "ruff", "check", "."],
        [*python, "ruff", "format", "--check", "."],
        [*python, "mypy", "-p", "doppelgan.runtime", "-p", "doppelgan.export"],
        [*python, "pytest", *sys.argv[1:]],
    ]
    for step in steps:
        print("$", " ".join(step[2:]), flush=True)
        if code := subprocess.call(step, cwd=ROOT, env=environment):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
