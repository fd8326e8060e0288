"""What the card is and what it reaches at best: rates of large matrix products, bandwidth of a copy."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from doppelgan.runtime.measure.bench import commit

from .card import Card
from .measuring import timed
from .turns import Notes

SIDE = 8192
COPIED = 1 << 32  # bytes
PACKAGES = (
    "torch",
    "onnxruntime-gpu",
    "onnxruntime",
    "onnx",
    "numpy",
    "cuda-bindings",
    "pycuda",
    "nvidia-cudnn-cu13",
)


def run(notes: Notes, rehearse: bool) -> None:
    card = Card()
    device = torch.device("cpu" if rehearse else "cuda")
    side, copied = (128, 1 << 20) if rehearse else (SIDE, COPIED)
    notes.add("machine", **card.describe(), processor=_processor(), system=platform.platform(), **_versions())
    notes.wait_for_turn()

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    brief: dict[str, Any] = {"seconds": 0.6, "least": 20}
    for label, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("float16", torch.float16, True),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)

        def product(a: torch.Tensor = a, b: torch.Tensor = b, out: torch.Tensor = out) -> None:
            torch.matmul(a, b, out=out)
            synchronize()

        row = timed(product, card, **brief)
        notes.add(
            "ceiling", what=f"{label} product", tflops=round(2e-9 * side**3 / row["median_ms"], 3), **row
        )
    source = torch.randint(0, 255, (copied,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        synchronize()

    row = timed(copy, card, **brief)
    notes.add("ceiling", what="copy", gb_s=round(2e-6 * copied / row["median_ms"], 1), **row)
    if device.type == "cuda":
        _transfers(notes, card)


def _transfers(notes: Notes, card: Card) -> None:
    """What it costs to bring a 1024 px float32 picture, or 8-bit pixels, to the CPU."""
    for label, shape, dtype in (
        ("picture 1024 px float32", (1, 3, 1024, 1024), torch.float32),
        ("picture 256 px float32", (1, 3, 256, 256), torch.float32),
        ("frame 1280x720 uint8", (720, 1280, 3), torch.uint8),
    ):
        there = torch.zeros(shape, dtype=dtype, device="cuda")
        for memory in ("pageable", "pinned"):
            here = torch.empty(shape, dtype=dtype, pin_memory=memory == "pinned")

            def fetch(here: torch.Tensor = here, there: torch.Tensor = there) -> None:
                here.copy_(there)
                torch.cuda.synchronize()

            row = timed(fetch, card, seconds=0.15, least=50)
            notes.add("transfer", what=f"{label} to {memory} memory", **row)


def _versions() -> dict[str, object]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        nvcc = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, timeout=20, check=True)
        versions["nvcc"] = nvcc.stdout.strip().splitlines()[-1]
    except (OSError, subprocess.SubprocessError):
        pass
    return {
        "versions": {"python": platform.python_version(), **versions},
        "commit": os.environ.get("DOPPELGAN_COMMIT") or commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()
