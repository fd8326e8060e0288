"""The judge of looks is a program of its own: what it is asked and answers, and how pairs are counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")

from training.evaluate.looks import Looks, LooksJudge, agreement, agreement_of_both

JUDGE = """
import json, sys
print("loading")
for line in sys.stdin:
    request = json.loads(line)
    data = open(request["file"], "rb").read()
    assert len(data) == 3 * request["width"] * request["height"]
    red = data[0]
    looks = {"age": red, "male": data[1] / 255} if red else {"age": None, "male": None}
    print(json.dumps(looks), flush=True)
"""


@pytest.fixture
def command(tmp_path: Path) -> str:
    (tmp_path / "judge.py").write_text(JUDGE)
    return f"{sys.executable} -u {tmp_path / 'judge.py'}"


def picture(red: int, green: int) -> np.ndarray:
    return np.full((5, 7, 3), (red, green, 9), np.uint8)


def test_a_judge_sees_every_picture_whole_and_once(command: str) -> None:
    with LooksJudge(command) as judge:
        assert judge(picture(30, 255)) == Looks(30, 1.0)
        assert judge(picture(0, 255)) is None
        assert judge(picture(64, 0)) == Looks(64, 0.0)


def test_a_judge_that_ends_is_named(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text("raise SystemExit(3)")
    with (
        LooksJudge(f"{sys.executable} {tmp_path / 'judge.py'}") as judge,
        pytest.raises(SystemExit, match=r"judge\.py ended"),
    ):
        judge(picture(1, 1))


def test_a_judge_that_is_not_there_is_named() -> None:
    with (
        LooksJudge("no-such-program-here") as judge,
        pytest.raises(SystemExit, match="no-such-program-here does not start"),
    ):
        judge(picture(1, 1))


def test_pairs_count_only_in_order_and_where_faces_were_found() -> None:
    assert agreement([20, 30, None, 40], [21, 29, 50, None]) == 0.25
    trained = [(0.1, 0.2), (0.2, 0.1), (0.1, 0.2), (0.1, 0.1)]
    assert agreement_of_both([20, 30, None, 40], [21, 31, 50, 50], trained) == 0.25


def test_the_command_prints_a_line_for_each_picture_of_a_folder(tmp_path: Path, command: str) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    Image.fromarray(picture(41, 51)).save(folder / "a.png")
    Image.fromarray(picture(0, 51)).save(folder / "b.png")
    said = subprocess.run(
        [sys.executable, "-m", "training.evaluate.looks", str(folder), "--judge", command],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.splitlines() == ["a.png  41 years  male 0.20", "b.png  no face"]
