"""tests/gpu/check_cuda_driver.py with the CUDA pixel kernels, built here; for cuda-python, and for pycuda."""

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
    else:
        began = time.monotonic()
        library = _build_kernels(folder)
        notes.add("built", what="CUDA pixel kernels", seconds=round(time.monotonic() - began, 1))
        arguments += ["--kernels", str(library)]
        if not rehearse:
            notes.attempt("compare with the C++ kernels: build", lambda: _build_comparison(folder))
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
    comparison = folder / "pixel_kernels_cuda"
    if comparison.exists():
        told = subprocess.run([comparison], capture_output=True, text=True, timeout=20, check=False)
        notes.add("pixels", status=told.returncode, page=told.stdout.splitlines())


def _build_kernels(folder: Path) -> Path:
    """The library, with CMake as in docs/jetson.md."""
    build = folder / "cuda"
    environment = dict(os.environ)
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    environment.setdefault("CUDACXX", nvcc)
    for command in (
        [
            "cmake",
            "-S",
            str(ROOT),
            "-B",
            str(build),
            "-DWITH_CUDA=ON",
            f"-DPython_EXECUTABLE={sys.executable}",
        ],
        ["cmake", "--build", str(build), "--target", "doppelgan_cuda", "-j4"],
    ):
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return build / "libdoppelgan_cuda.so"


def _build_comparison(folder: Path) -> None:
    """benchmarks/pixel_kernels_cuda.cu, as its own first lines say."""
    pixels = next(ROOT.glob("runtime/native/**/pixel_kernels.cpp")).parent
    kernels = next(ROOT.glob("runtime/native/**/pixel_kernels.cu"))
    flags = ["-O3", "-std=c++17", f"-I{pixels}", f"-I{kernels.parent}"]
    flags += [f"-I{path}" for path in (ROOT / "runtime/native").iterdir() if path.is_dir()]
    compiled = folder / "pixel_kernels.o"
    source = str(pixels / "pixel_kernels.cpp")
    for command in (
        ["g++", *flags, "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-c", source, "-o", str(compiled)],
        [
            "nvcc", *flags, "-arch=native", str(ROOT / "benchmarks/pixel_kernels_cuda.cu"), str(kernels),
            str(compiled), "-o", str(folder / "pixel_kernels_cuda"),
        ],
    ):  # fmt: skip
        subprocess.run(command, check=True)


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
