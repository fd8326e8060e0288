"""What a run leaves to look at: a log of numbers, sheets of pictures, files that are never half written."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Log:
    """Appends one JSON object per line to `path` and prints it."""

    def __init__(self, path: Path, **common: Any) -> None:
        self.path, self.common = path, common
        self.began = time.time()

    def __call__(self, **numbers: Any) -> None:
        entry = {**self.common, "s": round(time.time() - self.began, 1)}
        for key, value in numbers.items():
            number = value.item() if isinstance(value, Tensor) else value
            entry[key] = float(f"{number:.4g}") if isinstance(number, float) and math.isfinite(number) else number
        line = json.dumps(entry, default=str)
        with self.path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


@contextlib.contextmanager
def forgiving(log: Log) -> Iterator[None]:
    """A report that fails is noted; the training goes on."""
    try:
        yield
    except Exception as error:
        log(event="report failed", reason=f"{type(error).__name__}: {error}"[:300])


def save_sheet(path: Path, rows: Sequence[Tensor], cell: int = 128) -> None:
    """Rows of pictures [n, 3, h, w] in -1..1, one row each."""
    lines = []
    for row in rows:
        row = row.detach().float().cpu()
        if row.shape[-1] > cell:
            row = torch.nn.functional.interpolate(row, size=(cell, cell), mode="area")
        elif row.shape[-1] < cell:
            row = torch.nn.functional.interpolate(row, size=(cell, cell), mode="nearest")
        lines.append(((row.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    width = max(len(line) for line in lines)
    sheet = np.full((len(lines) * cell, width * cell, 3), 24, np.uint8)
    for j, line in enumerate(lines):
        for i, one in enumerate(line):
            sheet[j * cell : (j + 1) * cell, i * cell : (i + 1) * cell] = one
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    Image.fromarray(sheet).save(unfinished, "PNG")
    unfinished.rename(path)


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """torch.save, but a reader or a killed run never sees half a file."""
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    torch.save(content, unfinished)
    unfinished.rename(path)


def half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Float tensors as float16 on the CPU: what is kept of a network."""
    return {
        name: (value.detach().half() if value.is_floating_point() else value.detach()).cpu().clone()
        for name, value in state.items()
    }
