"""Programs that judge faces and take no part in training: asked one picture at a time.

A judge is any program that reads a line of JSON for each picture, ``{"file": raw RGB bytes, "width",
"height"}``, and answers each with a line of JSON. Those beside this file run in Node.js with npm packages
(``face_api.cjs`` says which are to be in DIR), ``node benchmarks/judge/NAME.cjs DIR``:

recognize.cjs   ``{"descriptor": 128 numbers, or null where it finds no face}``
looks.cjs       ``{"age": years, "male": 0..1}``, of nulls where it finds no face

Their networks were trained on research data: they judge here and serve for nothing else.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


class Judge:
    """Such a program, started at the first picture; a context manager."""

    def __init__(self, command: str) -> None:
        self._command = shlex.split(command)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the program; another picture would start it again."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.wait(10)
            self._process.stdout.close()
            self._process = None

    def ask(self, picture: np.ndarray) -> dict[str, Any]:
        """What it says of RGB uint8 [h,w,3]. SystemExit if it gives up."""
        if self._process is None:
            try:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            except OSError as error:
                raise SystemExit(f"--judge: {self._command[0]} does not start: {error.strerror}") from None
        assert self._process.stdin is not None
        with tempfile.NamedTemporaryFile(suffix=".rgb") as file:
            Path(file.name).write_bytes(np.ascontiguousarray(picture, np.uint8).tobytes())
            request = {"file": file.name, "width": picture.shape[1], "height": picture.shape[0]}
            try:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                raise SystemExit(
                    f"--judge: {' '.join(self._command)} ended; run it alone to see why"
                ) from None
            return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # programs may say something else first
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise SystemExit(
            f"--judge: {' '.join(self._command)} ended without an answer; run it alone to see why"
        )
