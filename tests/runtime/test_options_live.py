"""What ``live``, ``video`` and the shared options hand on: to source, sinks, the run and the marks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from doppelgan.runtime import pipeline as pipeline_module
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.cli import live, options, video
from doppelgan.runtime.cli.options import FiniteRange, make_pipeline, pipeline_options
from doppelgan.runtime.errors import EditError, SinkError
from doppelgan.runtime.host.files import make_folder
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.presets import Preset, Presets
from doppelgan.runtime.schedule.run import hold, no_signal, passthrough
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.sink.base import Sink
from doppelgan.runtime.source.pace import PacedSource
from doppelgan.runtime.source.pattern import PatternSource
from doppelgan.runtime.types import Frame

from .. import tiny
from .test_heart import TwoPeople
from .test_pipeline import frame


@pytest.fixture(autouse=True)
def no_trackers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tiny bundle has none; two people stand in every frame that is not black."""
    monkeypatch.setattr(pipeline_module, "Tracker", TwoPeople)
    real = Bundle.session
    monkeypatch.setattr(
        Bundle,
        "session",
        lambda self, name: None if name in ("detector", "landmarks") else real(self, name),
    )
    monkeypatch.setenv("DOPPELGAN_DATA", str(tmp_path / "data"))


class Recording(Sink):
    """Keeps its frames; stops after so many."""

    name = "recording"

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.written: list[Frame] = []
        self.most = most

    def _write(self, frame: Frame) -> None:
        self.written.append(frame)
        self.stopped = len(self.written) >= self.most


class Desk:
    """``live`` with a short pattern for a source, and what the command asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
        self.bundle = bundle
        self.opened: list[tuple[str, dict[str, Any]]] = []
        self.sources: list[PatternSource] = []
        self.outputs: list[tuple[str, ...]] = []
        self.keys: list[Any] = []
        self.checked: list[bool] = []
        self.sink = Recording()
        self.most = 1000  # frames, after which the sink stops
        self.ran: list[tuple[Any, dict[str, Any]]] = []
        self.states: list[tuple[str, str]] = []
        real_run = live.run_live

        def open_source(text: str, **wanted: Any) -> PatternSource:
            self.opened.append((text, wanted))
            self.sources.append(PatternSource("test:64x48@1000:3"))
            return self.sources[-1]

        def open_sinks(texts: tuple[str, ...], *, like: Any, on_key: Any) -> list[Sink]:
            self.outputs.append(texts)
            self.keys.append(on_key)
            assert like is not None
            self.sink = Recording(self.most)
            return [self.sink]

        def run_live(source: Any, process: Any, sinks: Any, **settings: Any) -> Any:
            self.ran.append((source, settings))
            for state, reason in self.states:
                settings["on_state"](state, reason)
            return real_run(source, process, sinks, **settings)

        monkeypatch.setattr(live, "open_source", open_source)
        monkeypatch.setattr(live, "open_sinks", open_sinks)
        monkeypatch.setattr(live, "run_live", run_live)
        monkeypatch.setattr(live, "check_outputs", lambda texts, overwrite: self.checked.append(overwrite))

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(
            live.command, ["-b", str(self.bundle), "-c", "face", *arguments], catch_exceptions=False
        )


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> Desk:
    return Desk(monkeypatch, tiny_bundle)


# live


def test_without_options_the_first_camera_goes_into_the_window(desk: Desk) -> None:
    result = desk()
    assert result.exit_code == 0
    assert desk.opened == [("0", {})]
    assert desk.outputs == [("window",)]
    assert isinstance(desk.keys[0], live.Keys)
    assert desk.checked == [False]
    assert desk.ran[0][1]["on_lost"] is no_signal


def test_size_and_rate_are_asked_of_the_source(desk: Desk) -> None:
    assert desk("-i", "/dev/video3", "--size", "320x240", "--rate", "12.5").exit_code == 0
    assert desk.opened == [("/dev/video3", {"size": (320, 240), "rate": 12.5})]
    assert desk("--size", "64X48").exit_code == 0
    assert desk.opened[1] == ("0", {"size": (64, 48)})


@pytest.mark.parametrize("size", ["1x64", "64x1", "64", "64x48x3", "-64x48", "32769x32768"])
def test_sizes_that_no_frame_has_are_refused(desk: Desk, size: str) -> None:
    result = desk("--size", size)
    assert result.exit_code == 2
    assert "--size" in result.output
    assert desk.opened == []


def test_the_smallest_size_is_two_pixels(desk: Desk) -> None:
    assert desk("--size", "2x2").exit_code == 0


def test_the_largest_size_is_that_of_a_frame(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_PIXELS", 3_000_000)
    assert desk("--size", "3000x1000").exit_code == 0
    refused = desk("--size", "3001x1000")
    assert refused.exit_code == 2
    assert "at most 3 megapixels, got 3001x1000" in " ".join(refused.output.replace("│", " ").split())


def test_several_outputs_and_overwriting(desk: Desk) -> None:
    assert desk("--to", "a.mp4", "-o", "null:", "--overwrite").exit_code == 0
    assert desk.outputs == [("a.mp4", "null:")]
    assert desk.checked == [True]


@pytest.mark.parametrize(
    ("name", "made_by"), [("no-signal", no_signal), ("hold", hold), ("passthrough", passthrough)]
)
def test_on_lost(desk: Desk, name: str, made_by: Callable[..., Any]) -> None:
    assert desk("--on-lost", name).exit_code == 0
    assert desk.ran[0][1]["on_lost"] is made_by


def test_a_replaced_frame_never_passes_through(desk: Desk) -> None:
    result = desk("--on-lost", "passthrough", "-c", "replace")
    assert result.exit_code == 2
    assert "choose --on-lost hold or no-signal" in " ".join(result.output.replace("│", " ").split())
    assert desk.opened == []
    assert desk("--on-lost", "hold", "-c", "replace").exit_code == 0


def test_a_file_has_its_own_pace_and_a_pipe_has_not(desk: Desk) -> None:
    desk("-i", "clip.mp4")
    desk("-i", "-", "--size", "64x48")
    assert [isinstance(source, PacedSource) for source, _ in desk.ran] == [True, False]


def test_loop_begins_again(desk: Desk) -> None:
    desk.most = 8
    result = desk("-i", "clip.mp4", "--loop", "--rate", "5")
    assert result.exit_code == 0
    assert len(desk.opened) >= 2
    assert desk.opened[1] == ("clip.mp4", {"rate": 5.0})  # as the first time
    assert len(desk.sink.written) == 8


def test_without_loop_a_file_ends(desk: Desk) -> None:
    assert desk("-i", "clip.mp4").exit_code == 0
    assert len(desk.opened) == 1
    assert 1 <= len(desk.sink.written) <= 3


def test_a_sink_that_cannot_be_opened_gives_the_source_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise SinkError("no window")

    monkeypatch.setattr(live, "open_sinks", broken)
    with pytest.raises(SinkError, match="no window"):
        desk()
    assert desk.sources[0]._closed


def test_trouble_is_told_and_what_is_well_is_not(desk: Desk) -> None:
    desk.states = [("lost", "unplugged"), ("live", "back")]
    said = desk().stderr
    assert "lost: unplugged" in said
    assert "live: back" not in said


def test_the_end_says_how_many_frames_were_shown(desk: Desk) -> None:
    result = desk()
    shown = desk.sink.frames
    assert f"{shown} frames shown, {3 - shown} dropped" in result.stderr
    assert result.stdout == ""
    assert "median" not in result.stderr


def test_latency_prints_the_stages_of_pipeline_and_run(desk: Desk) -> None:
    said = desk("--latency").stderr
    for stage in ("track", "synthesize", "age", "read"):
        assert f"| {stage} " in said


def test_what_is_written_says_how_it_was_made(desk: Desk) -> None:
    desk()
    assert desk.sink.on_file is not None
    assert desk.sink.on_file.func.__self__.kind == "edited"  # type: ignore[attr-defined]


# video


@pytest.fixture
def filmed(tiny_bundle: Path, tmp_path: Path) -> Callable[..., Result]:
    def run(*arguments: str, source: str = "test:64x48@30:3") -> Result:
        return CliRunner().invoke(
            video.command, [source, "-b", str(tiny_bundle), "-c", "face", *arguments], catch_exceptions=False
        )

    return run


def test_a_video_is_counted_and_timed_where_asked(filmed: Callable[..., Result]) -> None:
    plain, timed = filmed("-o", "null:"), filmed("-o", "null:", "--latency")
    for result in (plain, timed):
        assert result.stdout.startswith("null:: 3 frames, a face in 3 of them, ")
        speed = float(result.stdout.split(", ")[-1].split()[0])
        assert 0 < speed < 1e5
    assert "| synthesize " in timed.stderr
    assert "| synthesize " not in plain.stderr


def test_a_video_into_standard_output_talks_beside_it(
    filmed: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    sinks = []
    monkeypatch.setattr(video, "open_sink", lambda text, like: sinks.append((text, like)) or Recording())
    result = filmed("-o", "-")
    assert result.stdout == ""
    assert "-: 3 frames" in result.stderr
    assert sinks[0][0] == "-"
    assert sinks[0][1].frame_count == 3


def test_a_video_that_cannot_be_written_gives_its_source_back(
    filmed: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = PatternSource("test:64x48@30:3")
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(video, "open_source", lambda text, **given: asked.append(given) or source)
    with pytest.raises(SinkError):
        filmed("-o", str(tmp_path / "a.xyz"))
    assert source._closed
    assert asked == [{"files_first": True}]


def test_progress_of_a_video_is_told_frame_by_frame(
    filmed: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int | None]] = []

    class Told:
        def __init__(self, title: str) -> None:
            self.title = title

        def __enter__(self) -> Callable[[int, int | None], None]:
            return lambda done, total: seen.append((self.title, done, total))

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(video, "frame_progress", Told)
    filmed("-o", "null:")
    assert seen == [("test:64x48@30:3", n, 3) for n in (1, 2, 3)]


# The shared options


def made(bundle: Path, *arguments: str) -> tuple[Pipeline, str]:
    """The pipeline of a command with these options, and what was said on standard error."""
    pipelines = []

    @click.command()
    @pipeline_options
    def command(**settings: Any) -> None:
        pipelines.append(make_pipeline(**settings))

    result = CliRunner().invoke(command, ["--bundle", str(bundle), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return pipelines[0], result.stderr


def test_the_badge_has_its_corner_and_size(tiny_bundle: Path) -> None:
    pipeline, said = made(tiny_bundle)
    assert pipeline.marker is not None
    assert pipeline.marker.badge is not None
    assert (pipeline.marker.badge.corner, pipeline.marker.badge.size) == ("bottom-left", 0.045)
    assert pipeline.marker.watermark
    assert pipeline.marker.kind == "edited"
    assert said == ""
    pipeline, _ = made(tiny_bundle, "--badge", "top-right", "--badge-size", "0.1", "--no-watermark")
    assert pipeline.marker is not None
    assert pipeline.marker.badge is not None
    assert (pipeline.marker.badge.corner, pipeline.marker.badge.size) == ("top-right", 0.1)
    assert not pipeline.marker.watermark


def test_without_a_badge_it_is_said_what_that_means(tiny_bundle: Path) -> None:
    pipeline, said = made(tiny_bundle, "--badge", "off")
    assert pipeline.marker is not None
    assert pipeline.marker.badge is None
    assert said.count("viewers cannot see that this is synthetic") == 1


def test_an_avatar_is_marked_as_one(tiny_bundle: Path) -> None:
    pipeline, _ = made(tiny_bundle, "-c", "replace")
    assert pipeline.marker is not None
    assert pipeline.marker.kind == "avatar"


def test_codes_are_drawn_instead_of_what_is_read(tiny_bundle: Path, tmp_path: Path) -> None:
    codes = np.zeros((2, tiny.STYLES, tiny.W_DIM), np.float32)
    codes[0, :, 0], codes[1] = 0.5, 9
    np.save(tmp_path / "codes.npy", codes)
    pipeline, _ = made(tiny_bundle, "-c", "face", "--codes", str(tmp_path / "codes.npy"))
    pipeline.process(frame())
    np.testing.assert_allclose(pipeline.people[3].own_codes[0, :, 0], 0.5, atol=1e-6)  # type: ignore[index]


def test_relative_motion_needs_an_enrolled_person(tiny_bundle: Path) -> None:
    with pytest.raises(EditError, match="motion relative"):
        made(tiny_bundle, "--motion", "relative")
    made(tiny_bundle, "--motion", "absolute")


def test_replace_shows_one_face(tiny_bundle: Path) -> None:
    command = click.command()(pipeline_options(make_pipeline))
    asked = ["-b", str(tiny_bundle), "-c", "replace", "--max-faces"]
    assert CliRunner().invoke(command, [*asked, "2"]).exit_code == 2
    assert CliRunner().invoke(command, [*asked, "1"]).exit_code == 0
    assert CliRunner().invoke(command, ["-b", str(tiny_bundle), "--max-faces", "2"]).exit_code == 0
    assert CliRunner().invoke(command, ["-b", str(tiny_bundle), "--max-faces", "17"]).exit_code == 2


def test_what_difference_cannot_be_is_said(tiny_bundle: Path) -> None:
    pipeline, said = made(tiny_bundle, "-c", "difference", "-s", "toon")
    assert pipeline.composite == "face"
    assert said.count("difference is for photos of the person before the camera") == 1
    for arguments in ([], ["-c", "face"], ["-c", "difference"], ["-s", "toon"]):
        assert made(tiny_bundle, *arguments)[1] == ""


def test_odd_strengths_are_remarked(tiny_bundle: Path) -> None:
    assert "doppelgan: note: red=2.5 is outside" in made(tiny_bundle, "-e", "red=2.5")[1]
    assert made(tiny_bundle, "-e", "red=2")[1] == ""


@pytest.mark.parametrize(
    ("restyle", "arguments", "is_refused"),
    [(False, ["--steps", "1"], True), (True, ["--steps", "1"], False), (False, [], False)],
)
def test_steps_are_of_the_loop(tmp_path: Path, restyle: bool, arguments: list[str], is_refused: bool) -> None:
    bundle = tiny.write_bundle(tmp_path / "bundle", restyle=restyle)
    if not is_refused:
        made(bundle, *arguments)
        return
    with pytest.raises(EditError, match="expected a bundle with a ReStyle encoder, got 'bundle'"):
        made(bundle, *arguments)


def test_what_is_given_goes_before_the_preset(tiny_bundle: Path, tmp_path: Path) -> None:
    Presets().write("mine", Preset(style="toon", composite="head", truncation=0.5, edits={"red": 1.0}))
    pipeline, _ = made(tiny_bundle, "--preset", "mine")
    looks = pipeline.style, pipeline.composite, pipeline.truncation, pipeline.edits
    assert looks == ("toon", "head", 0.5, {"red": 1.0})
    more = ["-s", "photo", "-c", "face", "--truncation", "1.0", "-e", "red=-1", "-e", "green=2"]
    pipeline, _ = made(tiny_bundle, "--preset", "mine", *more)
    looks = pipeline.style, pipeline.composite, pipeline.truncation, pipeline.edits
    assert looks == ("photo", "face", 1.0, {"red": -1.0, "green": 2.0})


def test_numbers_are_finite_and_in_their_range() -> None:
    command = click.Command(
        "c", params=[click.Option(["--n"], type=FiniteRange(0, 1.5))], callback=lambda n: None
    )
    for text, code in (("1.5", 0), ("0", 0), ("1.6", 2), ("nan", 2), ("inf", 2)):
        assert CliRunner().invoke(command, ["--n", text]).exit_code == code


class Signed:
    """Stands in for the signatory; a broken one cannot be made."""

    is_broken = False

    def __init__(self, key: Path | None = None, certificate: Path | None = None) -> None:
        if self.is_broken:
            raise SinkError("no key")
        self.key, self.certificate = key, certificate


@pytest.mark.parametrize("is_available", [False, True])
def test_who_signs(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_available: bool
) -> None:
    monkeypatch.setattr(options, "Signatory", Signed)
    monkeypatch.setattr(options, "is_available", lambda: is_available)
    key = tmp_path / "key.pem"
    key.write_text("key")

    def signatory(*arguments: str) -> Any:
        marker = made(tiny_bundle, *arguments)[0].marker
        assert marker is not None
        return marker._ask_signatory()

    assert (signatory() is not None) == is_available
    assert signatory("--no-sign") is None
    assert signatory("--no-sign", "--sign-key", str(key)) is None
    assert signatory("--sign").key is None
    assert signatory("--sign-key", str(key)).key == key
    assert signatory("--sign-certificate", str(key)).certificate == key
    monkeypatch.setattr(Signed, "is_broken", True)
    assert signatory() is None
    with pytest.raises(SinkError, match="no key"):  # now, not at the first file
        made(tiny_bundle, "--sign")


def test_files_name_the_file_that_they_were_made_from(tiny_bundle: Path, tmp_path: Path) -> None:
    pipeline, _ = made(tiny_bundle)
    assert pipeline.marker is not None
    finished: list[tuple[Path, Path | None]] = []
    pipeline.marker.finish = lambda path, parent: finished.append((path, parent))  # type: ignore[assignment]
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"")
    for source, parent in ((str(clip), clip), ("test:", None), (None, None)):
        sink = open_sink("null:")
        options.state_origin([sink], pipeline, source)
        assert sink.on_file is not None
        sink.on_file(tmp_path / "out.mp4")
        assert finished[-1] == (tmp_path / "out.mp4", parent)
    sink = open_sink("null:")
    options.state_origin([sink], SimpleNamespace(marker=None))  # type: ignore[arg-type]
    assert sink.on_file is None


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be a folder"):
        make_folder(tmp_path / "file" / "b")
