"""What is measured, in order; each runs as ``python -m benchmarks.gpu.parts NAME``."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .turns import Notes


@dataclass(frozen=True)
class Part:
    """One process: ``module.run(notes, rehearse, **arguments)``, which calls ``notes.wait_for_turn()``."""

    name: str
    module: str
    limit_s: float  # of measuring, once it is its turn
    arguments: dict[str, Any] = field(default_factory=dict)
    threads: int = 2  # while it prepares


PARTS = (
    Part("ceilings", "ceilings", 20),
    Part("torch-1024", "torch_networks", 30, {"network": "1024"}),
    Part("torch-256", "torch_networks", 20, {"network": "256"}),
    Part("torch-e4e", "torch_networks", 20, {"network": "e4e"}),
    Part("torch-512", "torch_networks", 20, {"network": "512"}),
    Part("onnx-256", "onnx_networks", 40, {"network": "256"}),
    Part("onnx-1024", "onnx_networks", 75, {"network": "1024"}, threads=4),
    Part("onnx-e4e", "onnx_networks", 40, {"network": "e4e"}, threads=4),
    Part("onnx-demo", "onnx_networks", 30, {"network": "demo"}),
    Part("onnx-restyle", "onnx_networks", 30, {"network": "restyle"}),
    Part("full-size", "full_size", 25),
    Part("onnx-512", "onnx_networks", 40, {"network": "512"}),
    Part("onnx-psp", "onnx_networks", 20, {"network": "psp"}),
    Part("driver", "driver", 40, {"package": "cuda-python"}),
    Part("frames", "frames", 30),
    Part("enrollment", "enrollment", 25),
    Part("pycuda", "driver", 25, {"package": "pycuda"}),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    (part,) = (part for part in PARTS if part.name == options.part)
    notes = Notes(options.output, part.name)
    run = importlib.import_module(f".{part.module}", __package__).run
    run(notes, options.rehearse, **part.arguments)


if __name__ == "__main__":
    main()
