"""A run over files that fails midway: nothing that is not complete has the name of a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from doppelgan.runtime import open_source, write_image
from doppelgan.runtime.cli import group

from ..conftest import ROOT


def test_pictures_of_two_sizes_leave_no_film_under_its_name(tmp_path: Path) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    for i in range(6):
        write_image(shots / f"{i}.png", np.full((64, 96 if i < 4 else 128, 3), 90, np.uint8))
    film = tmp_path / "film.mp4"
    command = ["video", str(shots), "-o", str(film), "-b", str(ROOT / "engines" / "demo"), "--no-watermark"]
    done = CliRunner().invoke(group, command)
    assert done.exit_code != 0
    assert not film.exists()
    part = tmp_path / "film.mp4.part"
    if part.exists():
        with open_source(part) as playable:
            assert 0 < sum(1 for _ in playable) <= 4
