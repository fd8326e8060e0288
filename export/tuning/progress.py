"""How a tuning goes on: a picture of it every few seconds, and what is needed to resume it.

Both lie in ``OUTPUT.enrolling/`` beside the bundle, which is removed when the bundle is complete::

    progress.png   the person, the base's picture of them, and the picture as tuned so far
    state.pt       tensors only: networks, optimizer, step, and the digest of pictures and recipe
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from doppelgan.runtime.errors import BundleError, SinkError
from doppelgan.runtime.pictures import write_image
from doppelgan.runtime.pictures.convert import to_image
from doppelgan.runtime.pictures.sheet import grid
from doppelgan.runtime.types import Floats
from torch import Tensor

from .recipe import Recipe, State

PICTURE_S = 3.0  # between two pictures
STATE_S = 20.0  # between two saved states
PREVIEW_PX = 256  # at most, of what is drawn for the picture

Step = Callable[[int, int, float], None]  # done, of how many, dB of the frame just drawn


class Progress:
    """Called after each step. Leaving the block by an error keeps the folder for ``--resume``."""

    def __init__(
        self,
        output: Path,
        recipe: Recipe,
        real: Floats,  # RGB float32 [1,3,R,R] of the pivot
        before: Tensor,  # what the base draws of it
        code: Tensor,  # [1, n_styles, w_dim] of the pivot
        key: str,  # digest of what a run must share with one that it resumes
        *,
        on_step: Step = lambda *_: None,
        picture_s: float = PICTURE_S,
    ) -> None:
        self._state_file = state_file(output)
        self.folder = self._state_file.parent
        self.picture = self.folder / "progress.png"
        self._recipe, self._code, self._key, self._on_step = recipe, code, key, on_step
        self._real, self._before = to_image(real[0]), to_image(before[0].numpy())
        self._picture_s = picture_s
        self._picture_at = self._state_at = time.monotonic()

    def __enter__(self) -> Progress:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(
                f"{self.folder}: cannot be a folder: {error.strerror}; choose another output"
            ) from None
        return self

    def resumed(self, state: State) -> State:
        """``state`` as it was saved. Raises BundleError if there is none of these pictures and recipe."""
        try:
            saved: dict[str, Any] = torch.load(self._state_file, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise BundleError(f"{self._state_file}: cannot be read ({reason}); leave out --resume") from None
        if saved.get("key") != self._key:
            raise BundleError(
                f"{self._state_file}: expected a run of the same pictures and options, got another; "
                "repeat the command as it was, or leave out --resume"
            )
        state.load(saved)
        return state

    def __call__(self, state: State, _drawn: Tensor) -> None:
        now = time.monotonic()
        if now - self._picture_at >= self._picture_s or state.step == 1:
            self.draw(state)
            self._picture_at = time.monotonic()
        if now - self._state_at >= STATE_S:
            self.save(state)
            self._state_at = time.monotonic()
        self._on_step(state.step, self._recipe.steps, state.cpu_s)

    @torch.no_grad()
    def draw(self, state: State) -> None:
        """Write the picture of the state."""
        size = min(PREVIEW_PX, state.module.size)
        now = to_image(state.module(self._code + state.offset, size=size)[0].numpy())
        label = f"step {state.step} of {self._recipe.steps}"
        write_image(
            self.picture, grid([[("person", self._real), ("base", self._before), (label, now)]], PREVIEW_PX)
        )

    def save(self, state: State) -> None:
        """Write the state aside and rename it."""
        unfinished = self._state_file.with_suffix(f".{os.getpid()}")
        torch.save({**state.save(), "key": self._key}, unfinished)
        unfinished.replace(self._state_file)

    def finish(self) -> None:
        """The bundle is there: nothing is left to resume."""
        self.picture.unlink(missing_ok=True)
        self._state_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds something of somebody else
            self.folder.rmdir()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # an empty folder is of no use to anybody
            with contextlib.suppress(OSError):
                if not self._state_file.exists():
                    self.picture.unlink(missing_ok=True)
                self.folder.rmdir()


def state_file(output: Path) -> Path:
    """Of the run that writes the bundle ``output``."""
    return output.with_name(f"{output.name}.enrolling") / "state.pt"


def check_resumable(output: Path) -> None:
    """Raise BundleError if no run was interrupted there."""
    if not state_file(output).is_file():
        raise BundleError(f"{state_file(output)}: expected a run to resume, got none; leave out --resume")


def preview(picture: Floats, size: int = PREVIEW_PX) -> Floats:
    """RGB float32 [1,3,R,R] at most ``size`` px wide, R and ``size`` powers of two."""
    side = picture.shape[-1]
    if side <= size:
        return picture
    blocks = picture.reshape(1, 3, size, side // size, size, side // size)
    return np.ascontiguousarray(blocks.mean(axis=(3, 5)))
