"""``doppelgan image`` and ``video``: where results go, what they are called, what is said of each."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from doppelgan.runtime.cli import image as image_command
from doppelgan.runtime.cli import video as video_command
from doppelgan.runtime.cli.image import targets
from doppelgan.runtime.cli.processor import Processor
from doppelgan.runtime.types import Frame, Image

from .test_cli_files import Brighter, Run, command, photo, pipelines

__all__ = ["command", "pipelines"]  # fixtures of the tests here


class Marker:
    """Notes which files it was told are complete, and what they were made from."""

    kind = "edited"

    def __init__(self, latest: object) -> None:
        self.latest = latest
        self.finished: list[tuple[Path, Path | None]] = []

    def finish(self, path: Path, parent: Path | None = None) -> None:
        self.finished.append((path, parent))


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the pipelines of commands were asked for; ``pipeline`` may be set to what they are like."""
    asked: dict[str, Any] = {"pipeline": {}}

    def make_pipeline(**given: Any) -> Brighter:
        made = Brighter()
        vars(made).update(asked["pipeline"])
        asked.update(given)
        return made

    for module in (image_command, video_command):
        monkeypatch.setattr(module, "make_pipeline", make_pipeline)
    return asked


# Where results go


@pytest.mark.parametrize("number", [2, 3, 4])
def test_several_pictures_go_into_a_folder_whatever_its_name(
    command: Run,
    pipelines: list[Brighter],
    tmp_path: Path,
    number: int,
) -> None:
    sources = [photo(tmp_path / f"{n}.jpg", 50 + n) for n in range(number)]
    code, said, _ = command("image", *sources, "-o", tmp_path / "holiday.2024")
    assert code == 0
    written = [tmp_path / "holiday.2024" / f"{n}.png" for n in range(number)]
    assert said.splitlines() == [f"{path}: 1 face" for path in written]  # in the order given
    assert all(path.is_file() for path in written)


@pytest.mark.parametrize(
    ("output", "written"), [("new", "new/a.png"), ("old.d", "old.d/a.png"), ("b.png", "b.png")]
)
def test_one_picture_goes_to_a_name_with_a_suffix_and_else_into_a_folder(
    command: Run,
    pipelines: list[Brighter],
    tmp_path: Path,
    output: str,
    written: str,
) -> None:
    (tmp_path / "old.d").mkdir()
    code, said, _ = command("image", photo(tmp_path / "a.jpg"), "-o", tmp_path / output)
    assert (code, said) == (0, f"{tmp_path / written}: 1 face\n")
    assert cv2.imread(str(tmp_path / written)) is not None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-o", "{tmp}/out.png"), "PICTURES"),
        (("{tmp}/a.png",), "--output"),
        (("{tmp}/a.png", "-o", "{tmp}/b.xyz"), ".xyz"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(
    command: Run,
    pipelines: list[Brighter],
    tmp_path: Path,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    assert command("image", photo(tmp_path / "a.png"), "-o", tmp_path / "b.png")[0] == 0  # this can be
    pipelines.clear()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, said, error = command("image", *(text.format(tmp=tmp_path) for text in arguments))
    assert (code, said, error.count("\n")) == (2, "", 1)
    assert says in error
    assert pipelines == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_is_no_folder(command: Run, pipelines: list[Brighter], tmp_path: Path) -> None:
    sources, there = [photo(tmp_path / f"{n}.jpg") for n in range(2)], tmp_path / "notes"
    there.write_text("mine")
    code, said, error = command("image", *sources, "-o", there)
    assert (code, said, error.count("\n"), there.read_text()) == (2, "", 1, "mine")
    assert "notes: cannot be a folder" in error


@pytest.mark.parametrize("names", [("a", "a"), ("a", "b", "c"), ("a", "b", "c", "d")])
def test_a_picture_that_fails_is_named_and_the_others_are_done(
    command: Run,
    pipelines: list[Brighter],
    tmp_path: Path,
    names: tuple[str, ...],
) -> None:
    sources = [photo(tmp_path / str(n) / f"{name}.png") for n, name in enumerate(names)]
    sources[0].write_bytes(b"no")
    code, said, error = command("image", *sources, "-o", tmp_path / "out")
    assert code == 2
    assert said.count(": 1 face\n") == len(names) - 1
    assert error.splitlines()[-1] == (
        f"doppelgan: error: 1 of {len(names)} pictures were not edited: {sources[0]}"
    )


def test_each_picture_stands_for_itself(
    command: Run,
    settings: dict[str, Any],
    tmp_path: Path,
) -> None:
    assert command("image", photo(tmp_path / "a.png"), "-o", tmp_path / "b.png", "-s", "toon")[0] == 0
    assert settings["smoothing"] is False  # which is for frames that follow each other
    assert settings["style"] == "toon"


# What they are called


def named(*paths: str) -> list[str]:
    return [target.name for target in targets([Path(path) for path in paths], Path("out"))]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("a.png", "b.jpg"), ["a.png", "b.png"]),
        (("x/a.png", "y/a.png", "z/a.jpg"), ["a.png", "a-2.png", "a-3.png"]),
        (("x/a.png", "x/a.png", "x/../x/a.png"), ["a.png"]),
        (("x/a.png", "y/A.png"), ["a.png", "A-2.png"]),
        (("x/caf\u00e9.png", "y/cafe\u0301.png"), ["caf\u00e9.png", "cafe\u0301-2.png"]),
        (("x/a-2.png", "x/a.png", "y/a.png"), ["a-2.png", "a.png", "a-3.png"]),
        (("s.tar.gz",), ["s.tar.png"]),
    ],
)
def test_every_picture_gets_a_name_of_its_own(paths: tuple[str, ...], names: list[str]) -> None:
    assert named(*paths) == names
    assert {target.parent for target in targets([Path(path) for path in paths], Path("out"))} == {Path("out")}


def test_names_are_as_long_as_they_may_be_and_no_longer() -> None:
    assert named("x" * 251) == ["x" * 251 + ".png"]
    assert named("x" * 252) == ["x" * 251 + ".png"]
    assert named("a/" + "x" * 255, "b/" + "x" * 255) == ["x" * 251 + ".png", "x" * 249 + "-2.png"]
    assert named("é" * 127) == ["é" * 125 + ".png"]  # of whole letters
    odd = "x" * 250 + "\udcff"  # a byte that is no letter stays while there is room
    assert named(odd) == [odd + ".png"]


# What is said of each


@pytest.mark.parametrize(
    ("faces", "said"),
    [(0, "0 faces, left as it was"), (1, "1 face"), (2, "2 faces"), (3, "3 faces"), (4, "4 faces")],
)
def test_faces_are_counted(
    command: Run,
    settings: dict[str, Any],
    tmp_path: Path,
    faces: int,
    said: str,
) -> None:
    settings["pipeline"] = {"people": dict.fromkeys(range(faces))}
    target = tmp_path / "b.png"
    assert command("image", photo(tmp_path / "a.png"), "-o", target)[1] == f"{target}: {said}\n"


@pytest.mark.parametrize("latest", [None, "a mark"])
def test_a_file_with_a_mark_says_what_it_was_made_from(
    command: Run,
    settings: dict[str, Any],
    tmp_path: Path,
    latest: object,
) -> None:
    marker = Marker(latest)
    settings["pipeline"] = {"marker": marker}
    source, target = photo(tmp_path / "a.png"), tmp_path / "b.png"
    assert command("image", source, "-o", target)[0] == 0
    assert marker.finished == ([(target, source)] if latest else [])


@pytest.mark.parametrize(("composite", "channels"), [("face", 4), ("replace", 3)])
def test_nothing_of_a_replaced_picture_is_kept(
    command: Run,
    settings: dict[str, Any],
    tmp_path: Path,
    composite: str,
    channels: int,
) -> None:
    alpha = np.full((20, 30, 1), 200, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([np.full((20, 30, 3), 77, np.uint8), alpha]))
    settings["pipeline"] = {"composite": composite}
    assert command("image", tmp_path / "a.png", "-o", tmp_path / "b.png")[0] == 0
    written = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)
    assert written is not None
    assert written.shape == (20, 30, channels)  # its outline would show who it was


# Videos


@pytest.mark.parametrize(
    ("frames", "elapsed_s", "speed"), [(30, 0.5, "60.0"), (7, 4.0, "1.8"), (0, 0.0, "0.0")]
)
def test_a_video_says_how_fast_it_was(
    command: Run, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    frames: int, elapsed_s: float, speed: str,
) -> None:  # fmt: skip
    def run_files(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(frames=frames, elapsed_s=elapsed_s)

    monkeypatch.setattr(video_command, "run_files", run_files)
    code, said, error = command("video", "test:64x48@30:3", "-o", "null:")
    assert (code, error) == (0, "")
    assert said == f"null:: {frames} frames, a face in 0 of them, {speed} frames/s\n"


def test_a_video_needs_an_output(command: Run, pipelines: list[Brighter]) -> None:
    assert command("video", "test:64x48@30:3", "-o", "null:")[0] == 0
    pipelines.clear()
    code, said, error = command("video", "test:64x48@30:3")
    assert (code, said, error.count("\n"), pipelines) == (2, "", 1, [])
    assert "--output" in error


def test_a_video_names_its_file_to_the_mark(
    command: Run,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(video_command, "state_origin", lambda *given: asked.append(given))
    assert command("video", "test:64x48@30:3", "-o", "null:")[0] == 0
    ((sinks, pipeline, source),) = asked
    assert ([sink.name for sink in sinks], source) == (["null:"], "test:64x48@30:3")
    assert isinstance(pipeline, Brighter)


def test_every_frame_with_a_face_counts_once() -> None:
    class Seldom:
        composite = "face"
        people: dict[int, object]

        def process(self, image: Image, time_s: float) -> Image:
            self.people = dict.fromkeys(range(int(time_s)))
            return image

    edit = Processor(Seldom())  # type: ignore[arg-type]
    counts = []
    for people in (0, 1, 0, 3):
        frame = Frame(np.zeros((20, 30, 3), np.uint8), 5, float(people))
        assert edit(frame).image.shape == (20, 30, 3)
        counts.append(edit.with_face)
    assert counts == [0, 1, 1, 2]


@pytest.mark.parametrize("source", [None, SimpleNamespace(media=None)])
def test_what_has_no_file_has_square_pixels(source: Any) -> None:
    seen: list[tuple[int, ...]] = []
    pipeline = SimpleNamespace(
        composite="face", people={}, process=lambda image, time_s: seen.append(image.shape) or image
    )
    Processor(pipeline, source)(Frame(np.zeros((20, 30, 3), np.uint8), 0, 0.0))
    assert seen == [(20, 30, 3)]
