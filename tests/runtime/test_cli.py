"""The command line as people use it: what it prints, what it writes, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from doppelgan.runtime import cli, open_bundle
from doppelgan.runtime.bundle import find_bundle
from doppelgan.runtime.errors import DoppelganError
from doppelgan.runtime.source import open_source

from ..conftest import ROOT
from .clips import write_clip

PYTHON = [sys.executable, "-m", "doppelgan.runtime.cli"]


@pytest.fixture(scope="module")
def demo() -> Path:
    """The embedded bundle, which has trackers."""
    return find_bundle(ROOT / "engines" / "demo")


@pytest.fixture(scope="module")
def face(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 320x240 picture of a person who does not exist, painted by the embedded generator."""
    with open_bundle(demo) as bundle:
        picture = bundle.synthesize(bundle.latent_avg[None])[0]
    pixels = np.clip(picture[::-1].transpose(1, 2, 0) * 127.5 + 127.5, 0, 255).astype(np.uint8)
    canvas = np.full((240, 320, 3), 120, np.uint8)
    canvas[30:210, 70:250] = cv2.resize(pixels, (180, 180), interpolation=cv2.INTER_CUBIC)
    path = tmp_path_factory.mktemp("faces") / "face.png"
    cv2.imwrite(str(path), canvas)
    return path


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Through the installed command's entry point: exit code, standard output, standard error."""
    patch = pytest.MonkeyPatch()
    patch.setattr(sys, "argv", ["doppelgan", *map(str, arguments)])
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        patch.undo()
    printed = capfd.readouterr()
    assert isinstance(ended.value.code, int | None)
    return ended.value.code or 0, printed.out, printed.err


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [[], *([name] for name in cli.COMMANDS)], ids=lambda c: " ".join(c) or "-"
)
def test_help_shows_what_to_type(command: list[str]) -> None:
    shown = CliRunner().invoke(cli.group, [*command, "--help"], prog_name="doppelgan")
    assert shown.exit_code == 0
    examples = [line for line in shown.output.splitlines() if line.startswith("  doppelgan ")]
    assert examples
    if command:
        assert all(line.startswith(f"  doppelgan {command[0]}") for line in examples)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_option_is_explained_and_every_example_uses_options_that_are_there(name: str) -> None:
    command = cli.group.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    assert [option.name for option in options if not getattr(option, "help", None)] == []
    known = {text for option in options for text in option.opts}
    for line in (command.help or "").splitlines():
        if line.strip().startswith("doppelgan "):
            used = [word for word in line.split() if word.startswith("-") and word.strip("-")]
            assert set(used) <= known, line


def test_the_list_of_commands_says_what_each_does() -> None:
    shown = CliRunner().invoke(cli.group, ["--help"]).output
    for name in cli.COMMANDS:
        assert f"\n  {name} " in shown


# --- errors -------------------------------------------------------------------------------------


CLIP = "test:320x240@30:2"
# What a user may get wrong -> (the command, a part of the message).
ERRORS = {
    "unknown command": ("vidoe", "did you mean video?"),
    "unknown option": ("video {clip} -o {tmp}/out.mp4 --stile toon", "--style"),
    "missing option": ("video {clip}", "--output"),
    "unknown bundle": ("video {clip} -o {tmp}/out.mp4 -b nowhere", "bundles here:"),
    "missing bundle folder": ("bundles {tmp}/nothing", "no such folder"),
    "unknown edit": ("video {clip} -o {tmp}/out.mp4 -b {demo} -e agee=1", "did you mean age"),
    "edit without a value": ("video {clip} -o {tmp}/out.mp4 -b {demo} -e age", "NAME=NUMBER"),
    "edit out of reach": ("video {clip} -o {tmp}/out.mp4 -b {demo} -e age=1000", "use a smaller value"),
    "unknown style": ("video {clip} -o {tmp}/out.mp4 -b {demo} -s oil", "photo, toon"),
    "replace with two faces": (
        "video {clip} -o {tmp}/out.mp4 -b {demo} -c replace --max-faces 2",
        "one avatar",
    ),
    "unknown composite": ("video {clip} -o {tmp}/out.mp4 -b {demo} -c body", "'replace'"),
    "missing clip": ("video {tmp}/no.mp4 -o {tmp}/out.mp4 -b {demo}", "no such file"),
    "missing picture": ("image {tmp}/no.jpg -o {tmp}/a.png -b {demo}", "No such file"),
    "broken picture": ("image {tmp}/broken.png -o {tmp}/a.png -b {demo}", "expected an image, got something"),
    "picture onto itself": ("image {face} -o {face} -b {demo}", "choose another output"),
    "output is there": ("video {clip} -o {tmp}/there.mp4 -b {demo}", "--overwrite"),
    "unknown suffix": ("video {clip} -o {tmp}/out.xyz -b {demo}", ".xyz"),
    "picture of unknown kind": ("image {face} -o {tmp}/a.xyz -b {demo}", ".xyz"),
    "folder is a file": ("demo -i {clip} -o {tmp}/there.mp4 -b {demo}", "cannot be a folder"),
    "no face to show": ("demo -i {clip} -o {tmp}/d -b {demo}", "found none in 2 frames"),
    "bad size": ("live -i - --size 1280 --to null: -b {demo}", "1280x720"),
    "bad pattern": ("live -i test:axb --to null: -b {demo}", "test:640x480@30:90"),
    "size of a pattern": ("live -i {clip} --size 64x48 --to null: -b {demo}", "does not take size"),
    "unknown backend": ("video {clip} -o {tmp}/out.mp4 -b {demo} --backend fast", "onnxruntime"),
}


@pytest.mark.parametrize("what", list(ERRORS))
def test_user_errors_are_one_line_and_exit_with_2(
    what: str, demo: Path, face: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command, expected = ERRORS[what]
    places = {"clip": CLIP, "demo": demo, "face": face, "tmp": tmp_path}
    (tmp_path / "there.mp4").write_bytes(b"mine")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    before = face.read_bytes()
    code, _, said = run(capfd, *(word.format(**places) for word in command.split()))
    lines = said.strip().splitlines()
    assert code == 2, said
    assert len(lines) == 1, said
    assert lines[0].startswith("doppelgan: error: ")
    assert expected in lines[0]
    assert (tmp_path / "there.mp4").read_bytes() == b"mine"
    assert face.read_bytes() == before
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"there.mp4", "broken.png"}


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli.group, "main", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141), (DoppelganError, 2)]
)
def test_other_ends(
    error: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise error("said")

    monkeypatch.setattr(cli.group, "main", broken)
    assert run(capfd)[0] == code


# --- image, video, live -------------------------------------------------------------------------


def test_image_edits_a_picture(
    demo: Path, face: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "darker.png"
    code, said, _ = run(capfd, "image", face, "-o", target, "-b", demo, "--edit", "skin_tone=1")
    original, edited = cv2.imread(str(face)), cv2.imread(str(target))
    assert code == 0
    assert said.strip() == f"{target}: 1 face"
    assert original is not None
    assert edited is not None
    assert edited.shape == original.shape
    change = np.abs(edited.astype(int) - original).max(axis=2)
    assert (change[80:180, 110:210] > 2).mean() > 0.3  # the face
    assert 0 < change[:215, :30].max() < 12  # far from it the watermark alone
    assert (change[220:232, 10:60] > 12).mean() > 0.3  # and the badge
    plain = tmp_path / "plain.png"
    code, _, notes = run(
        capfd,
        "image",
        face,
        "-o",
        plain,
        "-b",
        demo,
        "--edit",
        "skin_tone=1",
        "--badge",
        "off",
        "--no-watermark",
    )
    assert code == 0
    assert notes.count("--badge off: viewers cannot see") == 1
    unmarked = cv2.imread(str(plain))
    assert unmarked is not None
    assert (unmarked[:, :30] == original[:, :30]).all()
    away = np.abs(unmarked.astype(int) - edited)[80:180, 110:210]
    assert 0 < away.max() < 12  # the watermark


def test_image_into_a_folder_side_by_side_and_without_a_face(
    demo: Path, face: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wall = tmp_path / "wall.png"
    cv2.imwrite(str(wall), np.full((90, 120, 3), 77, np.uint8))
    code, said, _ = run(capfd, "image", face, wall, "-o", tmp_path / "out", "-b", demo, "--side-by-side")
    assert code == 0
    assert "face.png: 1 face\n" in said
    assert "wall.png: 0 faces, left as it was" in said
    both = cv2.imread(str(tmp_path / "out" / "wall.png"))
    assert both is not None
    assert both.shape == (90, 240, 3)
    assert (both == 77).all()


def test_strengths_outside_the_range_are_remarked(
    demo: Path, face: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_bundle(demo) as bundle:
        name, direction = next(iter(bundle.directions.items()))
    strength = (direction.range[1] + direction.limit) / 2
    arguments = ["image", face, "-o", tmp_path / "a.png", "-b", demo, "-e", f"{name}={strength}"]
    code, _, said = run(capfd, *arguments)
    assert code == 0
    assert f"doppelgan: note: {name}={strength:g} is outside" in said


def sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with sound at an odd rate."""
    rate = Fraction(30000, 1001)
    return write_clip(
        tmp_path_factory.mktemp("clips") / "a.mp4", size=(160, 120), frames=15, rate=rate, audio="aac"
    )


def test_video_keeps_frames_times_size_rate_and_sound(
    demo: Path, spoken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "b.mp4"
    code, said, timings = run(capfd, "video", spoken, "-o", target, "-b", demo, "--latency")
    assert code == 0
    assert said.startswith(f"{target}: 15 frames, a face in 0 of them, ")
    assert "track" in timings
    with open_source(spoken) as before, open_source(target) as after:
        assert (after.size, after.rate) == (before.size, before.rate)
        assert [f.time_s for f in after] == pytest.approx([f.time_s for f in before], abs=1e-6)
    assert sound(target) == sound(spoken)
    assert sound(target)
    assert {path.name for path in tmp_path.iterdir()} == {"b.mp4"}


def test_video_finds_the_face_in_every_frame_and_can_overwrite(
    demo: Path, face: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, target = tmp_path / "in", tmp_path / "out.mp4"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.png").write_bytes(face.read_bytes())
    target.write_bytes(b"old")
    look = ["--style", "toon", "-c", "replace"]
    code, said, _ = run(capfd, "video", folder, "-o", target, "-b", demo, "--overwrite", *look)
    assert code == 0
    assert ": 6 frames, a face in 6 of them" in said
    with open_source(target) as made:
        frames = [frame.image for frame in made]
    assert len(frames) == 6
    assert frames[0].shape == (240, 320, 3)
    original = cv2.imread(str(face))
    assert original is not None
    assert np.abs(frames[-1].astype(int) - original).mean() > 5  # nothing of the frame is left


def test_video_to_pictures_and_to_a_pipe(
    demo: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = run(capfd, "video", "test:64x48@30:3", "-o", f"{tmp_path}/shots/", "-b", demo)
    assert code == 0
    assert len(list((tmp_path / "shots").glob("*.png"))) == 3
    piped = subprocess.run(
        [*PYTHON, "video", "test:64x48@30:3", "-o", "-", "-b", str(demo)], capture_output=True, check=False
    )
    assert piped.returncode == 0, piped.stderr
    assert len(piped.stdout) == 3 * 64 * 48 * 3
    assert b"3 frames" in piped.stderr


def test_live_from_a_bounded_source_ends_by_itself(
    demo: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "live.mp4"
    arguments = ["-i", "test:64x48@30:5", "--to", "null:", "--to", target, "-b", demo, "--latency"]
    code, _, said = run(capfd, "live", *arguments)
    assert code == 0
    shown, dropped = _counts(said)
    assert shown + dropped == 5
    assert shown >= 1
    assert "age" in said
    with open_source(target) as made:
        assert made.size == (64, 48)
        assert sum(1 for _ in made) >= shown


def _counts(said: str) -> tuple[int, int]:
    words = next(line for line in said.splitlines() if "frames shown" in line).split()
    return int(words[0]), int(words[3])


# --- Ctrl-C -------------------------------------------------------------------------------------


def test_ctrl_c_leaves_a_file_that_plays(demo: Path, tmp_path: Path) -> None:
    target = tmp_path / "stopped.mp4"
    command = [*PYTHON, "video", "test:160x120@30:100000", "-o", str(target), "-b", str(demo)]
    # Where this runs in the background, SIGINT is ignored, and a child would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        part = target.with_name(target.name + ".part")
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 0) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert said.strip() == "doppelgan: stopped"
    with open_source(target) as made:
        assert sum(1 for _ in made) > 10
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


# --- bundles, doctor ----------------------------------------------------------------------------


def test_bundles_lists_what_is_there_and_what_is_unusable(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{}")
    monkeypatch.setenv("DOPPELGAN_ENGINES", os.pathsep.join([str(tiny_bundle.parent), str(tmp_path)]))
    monkeypatch.setenv("COLUMNS", "200")
    code, said, _ = run(capfd, "bundles")
    assert code == 0
    assert "tiny" in said
    assert "4x6" in said
    assert "unusable" in said


def test_bundles_inspects_one(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, said, _ = run(capfd, "bundles", tiny_bundle)
    assert code == 0
    for expected in ("W+ [4, 6]", "photo, toon", "crop 1x3x16x16", "-2 .. 2 quarters", "0e+00"):
        assert expected in said


def test_bundles_prints_the_manifest(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, said, _ = run(capfd, "bundles", tiny_bundle, "--json")
    assert code == 0
    assert msgspec.json.decode(said) == msgspec.json.decode((tiny_bundle / "manifest.json").read_bytes())


def test_doctor_says_what_runs_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, said, _ = run(capfd, "doctor")
    assert code == 0
    for expected in ("native pixel kernels", "ONNX Runtime", "NVIDIA GPU", "demo"):
        assert expected in said


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    code, said, _ = run(capfd, "--version")
    assert code == 0
    assert said.startswith("doppelgan ")
    assert len(said.splitlines()) == 1


def test_warnings_are_one_line(tmp_path: Path, demo: Path) -> None:
    code = (
        "import sys, warnings\n"
        "from doppelgan.runtime import cli\n"
        "def noisy(**_):\n    warnings.warn('mind this')\n    return 0\n"
        "cli.group.main = noisy\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "doppelgan: warning: mind this\n")
