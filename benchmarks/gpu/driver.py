"""tests/gpu/check_cuda_driver.py, through cuda-python and through pycuda, which is built if missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .turns import Notes

ROOT = Path(__file__).resolve().parents[2]


def run(notes: Notes, rehearse: bool, package: str) -> None:
    folder = notes.folder / f"build-{package}"
    folder.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    arguments = ["--package", package]
    if package == "pycuda":
        _install_pycuda(notes, folder, environment)
    notes.wait_for_turn()
    script = [sys.executable, str(ROOT / "tests/gpu/check_cuda_driver.py"), *arguments]
    if rehearse:
        notes.add("driver", package=package, skipped="no GPU in a rehearsal", command=" ".join(script[1:]))
        return
    done = subprocess.run(script, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    print(done.stderr, flush=True)
    try:
        line = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        notes.add("failure", what=f"check {package}", error=(done.stderr or done.stdout)[-400:])
        return
    notes.add("driver", package=package, **line)


def _install_pycuda(notes: Notes, folder: Path, environment: dict[str, str]) -> None:
    """From source, into a folder of its own, unless it is installed. ``PYCUDA_SOURCE``: a source archive."""
    try:
        import pycuda  # noqa: F401

        return
    except ImportError:
        pass
    source = os.environ.get("PYCUDA_SOURCE", "pycuda")
    began = time.monotonic()
    cuda = Path(shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc").resolve().parents[1]
    target = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    if source != "pycuda":
        command += ["--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [*command, source], capture_output=True, text=True, timeout=180, check=False,
        env={**os.environ, "CUDA_ROOT": str(cuda), "PATH": f"{cuda}/bin:{os.environ['PATH']}"},
    )  # fmt: skip
    if done.returncode:
        notes.add("failure", what="build pycuda", error=done.stderr[-600:])
    else:
        notes.add("built", what="pycuda", seconds=round(time.monotonic() - began, 1))
    environment["PYTHONPATH"] = os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])
