"""What commands do with the files of people: nothing is lost, nothing is replaced unasked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from doppelgan.runtime.cli import image as image_command
from doppelgan.runtime.types import Image

from .test_cli import run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Run:
    """``command("image", ...)`` -> exit code, standard output, standard error."""
    return lambda *arguments: run(capfd, *arguments)


class Brighter:
    """Stands in for the pipeline: every picture has one face, which is its upper left quarter."""

    composite = "face"

    def __init__(self, **_: Any) -> None:
        self.people = {0: SimpleNamespace()}

    def process(self, frame: Image, time_s: float | None = None) -> Image:
        edited = frame.copy()
        edited[: len(frame) // 2, : frame.shape[1] // 2] = (40, 90, 200)
        return edited


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> list[Brighter]:
    """Those that commands have made; none is the real one."""
    made: list[Brighter] = []

    def make_pipeline(**settings: Any) -> Brighter:
        made.append(Brighter(**settings))
        return made[-1]

    monkeypatch.setattr(image_command, "make_pipeline", make_pipeline)
    return made


def photo(path: Path, value: int = 120) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 30, 3), (value, value // 2, 10), np.uint8))
    return path


def test_pictures_that_are_there_are_not_replaced_unasked(
    command: Run, pipelines: list[Brighter], tmp_path: Path
) -> None:
    source, target = photo(tmp_path / "in.png"), tmp_path / "keep.png"
    target.write_text("mine")
    code, said, error = command("image", source, "-o", target)
    assert (code, said, target.read_text()) == (2, "", "mine")
    assert error == (
        f"doppelgan: error: {target}: already there; choose another output or pass --overwrite\n"
    )
    assert pipelines == [], "asked before the work"

    assert command("image", source, "-o", target, "--overwrite")[0] == 0
    assert cv2.imread(str(target)).shape == (20, 30, 3)


def test_a_folder_is_looked_through_before_the_work(
    command: Run, pipelines: list[Brighter], tmp_path: Path
) -> None:
    sources = [photo(tmp_path / f"{name}.jpg") for name in "abc"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.png").write_text("mine")
    code, _, error = command("image", *sources, "-o", tmp_path / "out")
    assert (code, pipelines) == (2, [])
    assert "out/c.png: already there" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.png"]


def test_pictures_of_one_name_do_not_overwrite_each_other(
    command: Run, pipelines: list[Brighter], tmp_path: Path
) -> None:
    sources = [
        photo(tmp_path / "a" / "IMG_1.png", 100),
        photo(tmp_path / "b" / "IMG_1.png", 200),
        photo(tmp_path / "b" / "IMG_1.bmp", 220),
        photo(tmp_path / "b" / "img_1.PNG", 240),  # the same name on many file systems
        photo(tmp_path / "b" / "IMG_1-2.png", 60),  # the name that a second one would get
    ]
    again = tmp_path / "a" / ".." / "a" / "IMG_1.png"
    code, said, _ = command("image", *sources, again, "-o", tmp_path / "out")
    assert code == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(written) == len({name.casefold() for name in written}) == 5
    values = sorted(int(cv2.imread(str(tmp_path / "out" / name))[-1, -1, 0]) for name in written)
    assert values == [60, 100, 200, 220, 240]
    assert said.count(": 1 face\n") == 5


def test_one_bad_picture_does_not_stop_the_others(
    command: Run, pipelines: list[Brighter], tmp_path: Path
) -> None:
    sources = [photo(tmp_path / f"{n}.png") for n in range(5)]
    sources[1].write_bytes(sources[1].read_bytes()[:60])
    sources[3].unlink()
    code, said, error = command("image", *sources, "-o", tmp_path / "out")
    assert code == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png", "4.png"]
    assert said.count("1 face") == 3
    lines = error.splitlines()
    assert f"{sources[1]}: expected an image, got a damaged PNG" in lines[0]
    assert f"{sources[3]}: expected an image, got: No such file" in lines[1]
    assert lines[2] == f"doppelgan: error: 2 of 5 pictures were not edited: {sources[1]}, {sources[3]}"


def test_a_lone_bad_picture_is_one_line(command: Run, pipelines: list[Brighter], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    code, _, error = command("image", tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert (code, error.count("\n")) == (2, 1)


def test_transparency_is_kept_and_its_loss_is_told(
    command: Run, pipelines: list[Brighter], tmp_path: Path
) -> None:
    alpha = np.full((20, 30), 255, np.uint8)
    alpha[:, 20:] = 0
    cv2.imwrite(str(tmp_path / "cut.png"), np.dstack([np.full((20, 30, 3), 77, np.uint8), alpha]))
    assert command("image", tmp_path / "cut.png", "-o", tmp_path / "out.png")[::2] == (0, "")
    written = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written[..., 3], alpha)
    assert written[2, 2, :3].tolist() != [77, 77, 77]
    assert written[18, 28, :3].tolist() == [77, 77, 77]

    code, _, error = command("image", tmp_path / "cut.png", "-o", tmp_path / "out.jpg")
    assert code == 0
    assert "cut.png: JPEG has no transparency, so the picture lies on white" in error
    assert cv2.imread(str(tmp_path / "out.jpg"))[18, 28].min() > 250


def test_gray_pictures_stay_gray(command: Run, pipelines: list[Brighter], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "gray.jpg"), np.full((20, 30), 90, np.uint8))
    assert command("image", tmp_path / "gray.jpg", "-o", tmp_path / "out.png")[0] == 0
    assert cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED).shape == (20, 30)


def test_side_by_side_keeps_the_original_left(
    command: Run, pipelines: list[Brighter], tmp_path: Path
) -> None:
    source = photo(tmp_path / "in.png")
    assert command("image", source, "-o", tmp_path / "out.png", "--side-by-side")[0] == 0
    written = cv2.imread(str(tmp_path / "out.png"))
    np.testing.assert_array_equal(written[:, :30], cv2.imread(str(source)))
    assert (written[:10, 30:45] == (40, 90, 200)).all()


@pytest.mark.parametrize("suffix", [".png", ".jp2", ""])
def test_names_at_the_limit_of_length(
    command: Run, pipelines: list[Brighter], tmp_path: Path, suffix: str
) -> None:
    stem = "é" * ((255 - len(suffix)) // 2)
    first, second = (photo(tmp_path / folder / "x.png") for folder in ("a", "b"))
    sources = [path.rename(path.with_name(stem + suffix)) for path in (first, second)]
    code, _, error = command("image", *sources, "-o", tmp_path / "out")
    assert (code, error) == (0, "")
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_an_output_name_that_is_too_long_is_one_line(
    command: Run, pipelines: list[Brighter], tmp_path: Path
) -> None:
    source = photo(tmp_path / "in.png")
    code, _, error = command("image", source, "-o", tmp_path / ("x" * 300 + ".png"))
    assert code == 2
    assert "File name too long" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["12:30.png", "window.png", "camera:.png", "0.png", "%04d.png", "a[1].png", "-.png"]
)
def test_names_that_look_like_something_else_are_files(
    command: Run, pipelines: list[Brighter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    photo(Path("in") / name)
    Path("out").mkdir()
    code, _, error = command("image", f"in/{name}", "-o", f"out/{name}")
    assert (code, error) == (0, "")
    assert Path("out", name).is_file()
