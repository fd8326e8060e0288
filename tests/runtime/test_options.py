"""Options by their effect: each one of the command line reaches what it names; the window's keys likewise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from doppelgan.runtime import backends, open_bundle
from doppelgan.runtime import pipeline as pipeline_module
from doppelgan.runtime.backends import open_session, register_backend
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.cli import group
from doppelgan.runtime.cli.live import Keys
from doppelgan.runtime.cli.options import make_pipeline, pipeline_options
from doppelgan.runtime.measure.autotune import usable_backends
from doppelgan.runtime.pipeline import Pipeline

from .. import tiny
from .test_heart import TwoPeople, halves
from .test_pipeline import frame


@pytest.fixture(autouse=True)
def no_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny bundle has none; two people stand in every frame that is not black."""
    monkeypatch.setattr(pipeline_module, "Tracker", TwoPeople)
    real = Bundle.session
    monkeypatch.setattr(
        Bundle,
        "session",
        lambda self, name: None if name in ("detector", "landmarks") else real(self, name),
    )


@pytest.fixture
def watching() -> Iterator[dict[str, list[Any]]]:
    """A backend that notes which networks are opened with how many threads."""
    opened: dict[str, list[Any]] = {}

    def open_watched(path: Path, *, threads: int | None = None, **options: Any) -> Any:
        opened.setdefault(path.stem, []).append(threads)
        return open_session(path, backend="onnxruntime", threads=threads)

    register_backend("watching", open_watched)
    yield opened
    backends._REGISTERED.clear()


def pipeline_of(bundle: Path, *options: str) -> Pipeline:
    """What a command that takes the shared options would run."""
    pipelines = []

    @click.command()
    @pipeline_options
    def command(**settings: Any) -> None:
        pipelines.append(make_pipeline(**settings))

    result = CliRunner().invoke(command, ["--bundle", str(bundle), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return pipelines[0]


def test_truncation(tiny_bundle: Path) -> None:
    pipeline = pipeline_of(tiny_bundle, "-c", "face", "--truncation", "0.5", "-e", "red=1")
    pipeline.process(frame((0, 0, 200)))
    expected = 0.5 * (200 / 127.5 - 1) + 0.25
    assert pipeline.people[3].codes[0, 0, 0] == pytest.approx(expected, abs=0.02)


def test_steps(tmp_path: Path) -> None:
    bundle = tiny.write_bundle(tmp_path / "restyle", restyle=True)
    pipeline = pipeline_of(bundle, "-c", "face", "--steps", "2")
    pipeline.process(frame((0, 0, 200)))
    assert pipeline.people[3].own_codes[0, 0, 0] == pytest.approx(0.75 * (200 / 127.5 - 1), abs=0.02)


def test_max_faces(tiny_bundle: Path) -> None:
    given = halves((60, 90, 120), (120, 60, 30))
    for most in (1, 2):
        pipeline = pipeline_of(tiny_bundle, "-c", "face", "--max-faces", str(most))
        pipeline.process(given)
        assert len(pipeline.people) == most


def test_edits_add_up_over_repeated_options(tiny_bundle: Path) -> None:
    pipeline = pipeline_of(tiny_bundle, "-e", "red=1", "--edit", "green=-0.5")
    assert pipeline.edits == {"red": 1.0, "green": -0.5}


def test_style(tiny_bundle: Path) -> None:
    photo, toon = (pipeline_of(tiny_bundle, "-c", "face", "-s", style) for style in ("photo", "toon"))
    for pipeline in (photo, toon):
        pipeline.process(frame())
    np.testing.assert_allclose(toon.people[3].picture, -photo.people[3].picture, atol=1e-4)


def test_composite_replace_shows_the_avatar_alone(tiny_bundle: Path) -> None:
    given = frame((60, 90, 150))
    given[:4] = 255
    out = pipeline_of(tiny_bundle, "-c", "replace", "--badge", "off", "--no-watermark").process(given)
    assert (out[:2] < 200).all()
    kept = pipeline_of(tiny_bundle, "-c", "face", "--badge", "off", "--no-watermark").process(given)
    assert (kept[:2] == 255).all()


def test_backend_and_threads(tiny_bundle: Path, watching: dict[str, list[Any]]) -> None:
    pipeline = pipeline_of(tiny_bundle, "-c", "face", "--backend", "watching", "--threads", "3")
    pipeline.process(frame())
    assert watching == {"encoder": [3], "synthesis": [3]}


def test_bundle(tmp_path: Path) -> None:
    tiny.write_bundle(tmp_path / "another", toon=False)
    assert pipeline_of(tmp_path / "another").bundle.styles == ("photo",)


class Window:
    """What the window's keys are given."""

    def __init__(self, bundle: Path) -> None:
        self.pipeline = Pipeline(open_bundle(bundle), composite="face")
        self.keys = Keys(self.pipeline)

    def press(self, keys: str) -> dict[str, float]:
        for key in keys:
            self.keys(key)
        return self.pipeline.edits


@pytest.mark.parametrize(
    ("keys", "edits"),
    [
        ("+", {"red": 0.5}),  # a quarter of half the range of -2..2
        ("=", {"red": 0.5}),
        ("-", {"red": -0.5}),
        ("++-", {"red": 0.5}),
        ("2+", {"green": 0.5}),
        ("+2-", {"red": 0.5, "green": -0.5}),
        ("+2+0", {"red": 0.5}),
        ("+0", {}),
        ("+++++++", {"red": 2.0}),  # not beyond the range
        ("-------", {"red": -2.0}),
        ("9+", {"red": 0.5}),  # there are two directions only
        ("x?", {}),
    ],
)
def test_keys_move_edits(tiny_bundle: Path, keys: str, edits: dict[str, float]) -> None:
    assert Window(tiny_bundle).press(keys) == pytest.approx(edits)


def test_key_s_goes_through_the_styles(tiny_bundle: Path) -> None:
    window = Window(tiny_bundle)
    styles = []
    for _ in range(3):
        window.press("s")
        styles.append(window.pipeline.style)
    assert styles == ["toon", "photo", "toon"]


def test_keys_say_what_they_did(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Window(tiny_bundle).press("2-")
    assert capsys.readouterr().err.splitlines() == ["green = +0.00", "green = -0.50"]


@pytest.mark.parametrize("name", ["image", "video", "live", "bench", "serve"])
def test_help_names_every_backend(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    (option,) = [o for o in command.params if o.name == "backend"]
    assert [backend for backend in backends.BACKENDS if backend not in option.help] == []


def test_what_runs_onnx_files_is_tried_by_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.BACKENDS, "another", backends.Backend("fake", "numpy"))
    monkeypatch.setitem(backends.BACKENDS, "engines", backends.Backend("fake", "numpy", runs_onnx=False))
    monkeypatch.setitem(backends.BACKENDS, "absent", backends.Backend("fake", "no_such_package"))
    usable = usable_backends()
    assert "another" in usable
    assert "engines" not in usable
    assert "absent" not in usable
