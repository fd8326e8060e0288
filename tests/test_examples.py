"""Every example runs, on the embedded bundle and its own clip, and does what its first line says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime import open_source, read_image, write_image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CLIP = EXAMPLES.parent / "engines" / "demo" / "clip.mp4"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One person twice: 40 frames apart in the demo's clip."""
    folder = tmp_path_factory.mktemp("people")
    with open_source(CLIP) as source:
        frames = [frame.image for frame, _ in zip(source, range(41), strict=False)]
    write_image(folder / "a.png", frames[0])
    write_image(folder / "b.png", frames[40])
    return folder / "a.png", folder / "b.png"


def run(name: str, *arguments: Path | str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_picture(people: tuple[Path, Path], tmp_path: Path) -> None:
    said = run("01_picture.py", people[0], tmp_path / "older.png")
    assert "grey" in said
    assert "faces: 1" in said
    before, after = read_image(people[0]), read_image(tmp_path / "older.png")
    assert before.shape == after.shape
    assert (before != after).any()


def test_live_loop(tmp_path: Path) -> None:
    short = tmp_path / "short.mp4"
    with open_source(CLIP) as source:
        from doppelgan.runtime import open_sink

        with open_sink(short, like=source, audio=False) as sink:
            for frame, _ in zip(source, range(4), strict=False):
                sink.write(frame)
    assert "4 frames with a face" in run("02_live_loop.py", short, tmp_path / "out.mp4")
    with open_source(tmp_path / "out.mp4") as made:
        assert sum(1 for _ in made) == 4


def test_edit_by_code(people: tuple[Path, Path], tmp_path: Path) -> None:
    run("03_edit_by_code.py", people[0], tmp_path / "sheet.png")
    sheet = read_image(tmp_path / "sheet.png")
    side = sheet.shape[0]
    assert sheet.shape == (side, 7 * side, 3)
    cells = np.split(sheet.astype(int), 7, axis=1)
    assert np.abs(cells[0] - cells[4]).mean() > 0.3  # a smile is seen


def test_own_backend() -> None:
    assert run("04_own_backend.py").strip() == "{'synthesis': 3}"


def test_own_source(tmp_path: Path) -> None:
    run("05_own_source.py", tmp_path / "walk.mp4")
    with open_source(tmp_path / "walk.mp4") as walk:
        assert sum(1 for _ in walk) == 10


def test_mix(people: tuple[Path, Path], tmp_path: Path) -> None:
    run("06_mix_two_people.py", *people, tmp_path / "mixed.png")
    sheet = read_image(tmp_path / "mixed.png")
    assert sheet.shape[1] == 5 * sheet.shape[0]


def test_no_example_is_left_out() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in sorted(EXAMPLES.glob("*.py")) if f'"{path.name}"' not in text] == []
