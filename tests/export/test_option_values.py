"""Odd values of every option of the commands that need torch; see tests/sweep.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from doppelgan import export as export_package
from doppelgan.export.tuning import enroll as enroll_module
from doppelgan.export.tuning import inverting
from doppelgan.runtime.bundle import BundleWriter
from doppelgan.runtime.cli import group

from .. import tiny
from ..sweep import desk, faults, lines


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("export", ["gen.pt", "-o", "new"]),
        ("export", ["gen.pt", "-o", "new", "--toon", "gen.pt", "--blend-at", "8"]),
        ("invert", ["in.png", "-o", "out.npz", "-b", "{tiny}"]),
        ("enroll", ["in.png", "-o", "new", "-b", "{tiny}", "--consent", "myself"]),
    ],
)
def test_odd_values_are_refused_in_one_line_and_leave_nothing(
    name: str,
    base: list[str],
    tiny_bundle: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the commands' own work only what refuses an output is done."""

    def enroll(_sources: object, output: Path, settings: enroll_module.Settings, **_: object) -> None:
        BundleWriter(output, overwrite=settings.overwrite)

    def export_checkpoint(_checkpoint: object, output: Path, *, overwrite: bool, **_: object) -> Path:
        BundleWriter(output, overwrite=overwrite)
        return output

    point = SimpleNamespace(
        codes=np.zeros((1, tiny.STYLES, tiny.W_DIM), np.float32), psnr_db=20.0, away=0.5, editability=0.9
    )
    monkeypatch.setattr(enroll_module, "enroll", enroll)
    monkeypatch.setattr(inverting, "run_invert", lambda *_, **__: point)
    monkeypatch.setattr(export_package, "export_checkpoint", export_checkpoint)
    cv2.imwrite(str(tmp_path / "in.png"), np.full((8, 8, 3), 90, np.uint8))
    torch.save({"g_ema": {}}, tmp_path / "gen.pt")
    (tmp_path / "here").mkdir()
    clean = desk(tmp_path / "here", [tmp_path / "in.png", tmp_path / "gen.pt"])
    filled = [word.format(tiny=tiny_bundle) for word in base]
    assert faults(lines(name, filled), tmp_path / "here", capfd, clean) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--blend-at", "8"], "--blend-at: expected with --toon, got it alone; add --toon"),
        (["--toon", "gen.pt", "--blend-width", "1"], "--blend-width: expected with --blend-at"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: list[str], words: str) -> None:
    result = CliRunner().invoke(group, ["export", "gen.pt", "-o", "new", *options])
    assert result.exit_code == 2
    assert words in result.output
