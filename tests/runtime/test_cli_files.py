"""What commands do with the files of people: nothing is lost, nothing is replaced unasked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from doppelgan.runtime import cli
from doppelgan.runtime.cli import image as image_command
from doppelgan.runtime.cli import live as live_command
from doppelgan.runtime.cli import video as video_command
from doppelgan.runtime.errors import SinkError
from doppelgan.runtime.sink import check_outputs
from doppelgan.runtime.types import Image

from .clips import write_clip
from .test_cli import PYTHON, run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Run:
    """``command("image", ...)`` -> exit code, standard output, standard error."""
    return lambda *arguments: run(capfd, *arguments)


class Brighter:
    """Stands in for the pipeline: every picture has one face, which is its upper left quarter."""

    composite = "face"
    marker = None
    bundle = SimpleNamespace(directions={}, styles=["photo"])

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

    for module in (image_command, video_command, live_command):
        monkeypatch.setattr(module, "make_pipeline", make_pipeline)
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


def test_folders_of_pictures_are_taken_too(command: Run, pipelines: list[Brighter], tmp_path: Path) -> None:
    for n in (2, 10):
        photo(tmp_path / "in" / f"{n}.png")
    (tmp_path / "in" / "notes.txt").write_text("none")
    assert command("image", tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["10.png", "2.png"]
    (tmp_path / "empty").mkdir()
    code, _, error = command("image", tmp_path / "empty", "-o", tmp_path / "out")
    assert (code, "found none" in error) == (2, True)


def test_standard_output_takes_no_pictures(command: Run, pipelines: list[Brighter], tmp_path: Path) -> None:
    code, _, error = command("image", photo(tmp_path / "in.png"), "-o", "-")
    assert (code, "expected a picture or folder, got standard output" in error) == (2, True)


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


# --- outputs of every command -----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["keep.mp4", "shots/", "shots", "shots/%03d.png", "shots/000001.png"])
@pytest.mark.parametrize("name", ["video", "live"])
def test_videos_and_shots_that_are_there_are_not_replaced_unasked(
    command: Run, pipelines: list[Brighter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, text: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("shots").mkdir()
    there = [Path("keep.mp4"), Path("shots/000001.png"), Path("shots/001.png")]
    for path in there:
        path.write_text("mine")
    source = ["test:64x64@30:3"] if name == "video" else ["-i", "test:64x64@30:3"]
    to = "-o" if name == "video" else "--to"
    if text == "shots/000001.png":
        source[-1] = "test:64x64@30:1"

    code, _, error = command(name, *source, to, text)
    assert (code, pipelines) == (2, [])
    assert "already there" in error
    assert "pass --overwrite" in error
    assert all(path.read_text() == "mine" for path in there)

    assert command(name, *source, to, text, "--overwrite")[0] == 0
    if name == "video":  # live drops frames, so that another number may have come
        assert any(path.read_bytes() != b"mine" for path in there)


def test_shots_go_into_a_folder_that_holds_other_files(
    command: Run, pipelines: list[Brighter], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "cover.png").write_text("mine")
    assert command("video", "test:64x64@30:2", "-o", tmp_path)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000000.png", "000001.png", "cover.png", "notes.txt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("video", "shots"),
        ("video", "shots/"),
        ("live", "shots/%06d.png"),
        ("video", "link"),
        ("image", "shots"),
    ],
)
def test_pictures_that_are_read_are_never_written_over(
    command: Run, pipelines: list[Brighter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, output: str,
) -> None:  # fmt: skip
    """Not even with --overwrite: the next run would edit what is edited already."""
    monkeypatch.chdir(tmp_path)
    shots = [photo(Path("shots") / f"{n:06d}.png", 50 + n) for n in range(3)]
    Path("link").symlink_to("shots")
    before = [path.read_bytes() for path in shots]
    source = ["-i", "shots"] if name == "live" else ["shots"]
    code, _, error = command(name, *source, "--to" if name == "live" else "-o", output, "--overwrite")
    assert (code, error.count("\n")) == (2, 1)
    assert "is one of the pictures given; choose another output" in error
    assert [path.read_bytes() for path in shots] == before


def test_a_picture_is_not_replaced_by_its_own_frame(
    command: Run, pipelines: list[Brighter], tmp_path: Path
) -> None:
    path = photo(tmp_path / "me.png")
    before = path.read_bytes()
    assert command("video", path, "-o", path, "--overwrite")[0] == 2
    assert path.read_bytes() == before
    assert command("video", path, "-o", tmp_path)[0] == 0, "beside it, by another name"


def test_two_outputs_must_differ(command: Run, pipelines: list[Brighter], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    twice = (tmp_path / "out.mp4", tmp_path / "a" / ".." / "out.mp4")
    code, _, error = command("live", "-i", "test:64x64@30:2", "--to", twice[0], "--to", twice[1])
    assert code == 2
    assert "expected different outputs, got this one twice" in error
    check_outputs(["null:", "null:", "window", "out.mp4", "out.mkv"], overwrite=False)
    with pytest.raises(SinkError, match="cannot be written: File name too long"):
        check_outputs(["x" * 300 + ".mp4"], overwrite=False)


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        (("demo", "-o", "out"), "demo.mp4"),
        (("demo", "-o", "out"), "latency.json"),
        (("bench", "demo", "-o", "out"), "bench.png"),
        (("compile", "demo", "--report", "out"), "compile.md"),
    ],
)
def test_reports_and_demos_are_not_replaced_unasked(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], there: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    Path("out", there).write_text("mine")
    code, _, error = command(*arguments)
    assert code == 2
    assert f"out/{there}: already there; choose another output or pass --overwrite" in error
    assert [path.read_text() for path in Path("out").iterdir()] == ["mine"]
    assert "--overwrite" in command(arguments[0], "--help")[1]


@pytest.mark.filterwarnings("ignore::doppelgan.runtime.source.SourceWarning")
def test_a_video_of_pictures_leaves_bad_ones_out_and_ends_with_two(
    command: Run, pipelines: list[Brighter], tmp_path: Path
) -> None:
    for n in range(4):
        photo(tmp_path / "in" / f"{n}.png")
    (tmp_path / "in" / "2.png").write_bytes(b"no")
    code, said, error = command("video", tmp_path / "in", "-o", tmp_path / "out")
    assert code == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "000000.png", "000001.png", "000003.png",
    ]  # fmt: skip
    assert "3 frames" in said
    assert error.splitlines()[-1].startswith("doppelgan: error: 1 of 4 pictures could not be read: ")


def test_a_video_called_like_a_camera_is_a_file(
    command: Run, pipelines: list[Brighter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4")
    Path("clip.mp4").rename("0")
    assert command("video", "0", "-o", "null:")[0] == 0


def test_a_picture_called_like_a_camera_is_checked_as_a_file(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4")
    Path("clip.mp4").rename("0")
    code, said, _ = command("check", "0")
    assert code == 0
    assert "cannot be read" not in said


# --- standard streams -------------------------------------------------------------------------------


def shell(line: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A line in bash; $D is the command."""
    command = " ".join(PYTHON)
    return subprocess.run(
        ["bash", "-c", line.replace("$D", command)], capture_output=True, text=True, **options
    )


def test_a_full_standard_output_is_one_line() -> None:
    done = shell("$D bundles > /dev/full")
    assert done.returncode == 2
    assert done.stderr == (
        "doppelgan: error: standard output: No space left on device; check the name, space and permissions\n"
    )


def test_bundles_and_reports_whose_names_cannot_be_printed(
    command: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    monkeypatch.setenv("COLUMNS", "300")  # or the name is broken in two where its folder is far down
    odd = Path(shutil.copytree(tiny_bundle, tmp_path / "gr\udcfcn"))
    code, said, _ = command("bundles", odd)
    assert (code, "gr\\udcfcn" in said) == (0, True)
    quick = ("--runs", 2, "--warm-up", 0, "--no-drift")
    assert command("bench", odd, "--against", odd, *quick, "-o", tmp_path / "b\udcff")[0] == 0
    assert "gr\\udcfcn" in (tmp_path / "b\udcff" / "bench.md").read_text()
    quick = ("--backend", "onnxruntime", "--precision", "float32", "--samples", 1, "--rounds", 3)
    assert command("compile", odd, *quick, "--report", tmp_path / "c\udcff")[0] == 0
    assert command("bench", odd, "--runs", 2, "--warm-up", 0, "--no-drift")[0] == 0


def test_names_are_no_markup(
    command: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOPPELGAN_ENGINES", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    odd = Path(shutil.copytree(tiny_bundle, tmp_path / "[red]x"))
    manifest = (odd / "manifest.json").read_text()
    (odd / "manifest.json").write_text(manifest.replace('"toon"', '"[/toon]"'))
    for arguments in (["bundles"], ["bundles", str(odd)], ["doctor"]):
        code, said, _ = command(*arguments)
        assert (code, "[red]x" in said) == (0, True)
    assert "[/toon]" in command("bundles", odd)[1]
    quick = ("--backend", "onnxruntime", "--precision", "float32", "--samples", 1, "--rounds", 3)
    assert command("compile", odd, "--network", "mapping", *quick)[0] == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-", "2> /dev/full"])
def test_closed_streams_stop_nothing(tmp_path: Path, closed: str) -> None:
    photo(tmp_path / "in.png")
    done = shell(f"$D image in.png -o out.png {closed}", cwd=tmp_path)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert cv2.imread(str(tmp_path / "out.png")).shape == (20, 30, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.png"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_cannot_be_printed_are_files_too(tmp_path: Path, encoding: str) -> None:
    photo(tmp_path / "in.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfc\xdfe \xe6\x96\x87.png"))
    done = shell(f"PYTHONIOENCODING={encoding} $D image *.png missing.png -o out", cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert (done.returncode, len(list((tmp_path / "out").iterdir()))) == (2, 1), "one is missing"
    assert "out/gr" in done.stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_no_video(tmp_path: Path, closed: str) -> None:
    done = shell(f"$D video test:64x64@30:2 -o out.mp4 {closed}", cwd=tmp_path)
    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_files_never_take_the_number_of_a_closed_stream() -> None:
    code = (
        "import os, tempfile; from doppelgan.runtime.cli import _hold_closed_streams as hold; "
        "hold(); os._exit(tempfile.TemporaryFile().fileno())"
    )
    assert subprocess.run(["bash", "-c", f"{sys.executable} -c '{code}' <&- >&- 2>&-"]).returncode > 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("$D live -i - --size 64x64 --to null: <&-", "standard input: expected frames, got a closed stream"),
        ("$D live -i test:64x64@30:2 --to - >&-", "standard output: expected a pipe or file, got a closed"),
    ],
)
def test_raw_frames_need_an_open_stream(line: str, message: str) -> None:
    done = shell(line)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


# --- odd values of options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        ("--truncation", "nan"), ("--truncation", "-1"), ("--truncation", "inf"), ("--badge-size", "nan"),
        ("--steps", "0"), ("--max-faces", "-3"), ("--threads", "0"), ("--threads", "99999999999"),
        ("--edit", "age=nan"), ("--edit", "age=1e999"), ("--edit", "=1"), ("--edit", ""),
        ("--rate", "nan"), ("--rate", "-1"), ("--rate", "inf"), ("--rate", "0"),
        ("--size", "100000x100000"), ("--size", "0x0"), ("--size", "-5x5"), ("--size", "²x²"),
        ("--size", "٣x٣"), ("--size", "9" * 5000 + "x2"), ("--size", "x"), ("--size", "1x1"),
    ],
)  # fmt: skip
def test_odd_values_of_options_are_one_line(command: Run, option: tuple[str, str]) -> None:
    code, _, error = command("live", "-i", "test:64x64@30:2", "--to", "null:", *option)
    assert code == 2
    assert error.count("\n") == 1
    assert error.startswith("doppelgan: error: ")


def test_steps_need_a_restyle_encoder(command: Run, tmp_path: Path) -> None:
    photo(tmp_path / "in.png")
    for arguments in (("image", tmp_path / "in.png"), ("video", "test:64x64@30:2")):
        code, _, error = command(*arguments, "-o", tmp_path / "out.png", "--steps", "5")
        assert (code, error.count("\n")) == (2, 1)
        assert "--steps: expected a bundle with a ReStyle encoder, got 'demo'" in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_every_command_puts_its_files_away_when_it_is_stopped(
    command: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Also those that are not about streams of frames: export, compile, enroll, image ..."""
    events: list[str] = []

    def work(**_: Any) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
            events.append("went on")
        finally:
            os.kill(os.getpid(), number)  # a service manager says it twice
            time.sleep(0.05)
            events.append("put away")

    before = signal.signal(number, signal.SIG_DFL)  # under nohup it would be ignored
    try:
        monkeypatch.setattr(cli.group, "main", work)
        code, said, error = command("bundles")
        assert (code, said, error, events) == (128 + number, "", "doppelgan: stopped\n", ["put away"])
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_on_purpose_stays_ignored(
    command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.group, "main", lambda **_: os.kill(os.getpid(), signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # under nohup
    try:
        assert command("bundles")[0] == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_does_not_fit_into_memory_is_one_line(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(cli.group, "main", full)
    code, _, error = command("bundles")
    assert (code, error.count("\n")) == (2, 1)
    assert "fits into memory" in error
