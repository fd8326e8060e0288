"""The shared options as commands get them: what holds without any, how far each goes, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from doppelgan.runtime.cli import options
from doppelgan.runtime.cli.options import make_pipeline, pipeline_options, state_origin
from doppelgan.runtime.errors import EditError, SinkError
from doppelgan.runtime.presets import Preset, Presets
from doppelgan.runtime.sink import open_sink

from .test_options_live import made, no_trackers

__all__ = ["no_trackers"]  # a fixture for every test here


def asked(*arguments: str) -> tuple[Result, dict[str, Any]]:
    """How a command with these options ends, and the settings that it would hand on."""
    given: dict[str, Any] = {}

    @click.command()
    @pipeline_options
    def command(**settings: Any) -> None:
        given.update(settings)

    return CliRunner().invoke(command, arguments, catch_exceptions=False), given


def test_without_options_everything_is_as_the_help_says() -> None:
    assert asked()[1] == {
        "bundle": "demo",
        "edits": (),
        "style": "photo",
        "composite": None,
        "preset": None,
        "truncation": 1.0,
        "steps": None,
        "motion": None,
        "codes": None,
        "max_faces": 1,
        "badge": "bottom-left",
        "badge_size": 0.045,
        "watermark": True,
        "sign": None,
        "sign_key": None,
        "sign_certificate": None,
        "backend": None,
        "threads": None,
    }


@pytest.mark.parametrize(
    ("option", "name", "least", "most", "beyond"),
    [
        ("--truncation", "truncation", 0.0, 1.5, ("-0.01", "1.51")),
        ("--steps", "steps", 1, 20, ("0", "21")),
        ("--max-faces", "max_faces", 1, 16, ("0", "17")),
        ("--badge-size", "badge_size", 0.02, 0.2, ("0.019", "0.21")),
        ("--threads", "threads", 1, 1024, ("0", "1025")),
    ],
)
def test_numbers_go_from_their_least_to_their_most(
    option: str, name: str, least: float, most: float, beyond: tuple[str, ...]
) -> None:
    for value in (least, most):
        result, given = asked(option, str(value))
        assert (result.exit_code, given[name], type(given[name])) == (0, value, type(value))
    for text in (*beyond, "many"):
        result, given = asked(option, text)
        assert (result.exit_code, given) == (2, {})
        assert option in result.stderr


@pytest.mark.parametrize(
    ("option", "name", "values"),
    [
        ("--composite", "composite", ["difference", "face", "head", "replace"]),
        ("--motion", "motion", ["absolute", "relative"]),
        ("--badge", "badge", ["top-left", "top-right", "bottom-left", "bottom-right", "off"]),
    ],
)
def test_names_are_those_that_there_are(option: str, name: str, values: list[str]) -> None:
    for value in values:
        assert asked(option, value)[1][name] == value
    result, given = asked(option, "sideways")
    assert (result.exit_code, given) == (2, {})
    for value in values:
        assert value in result.stderr


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (("-e", "a=1", "--edit", "b=2", "-e", "older"), "edits", ("a=1", "b=2", "older")),
        (("--watermark",), "watermark", True),
        (("--no-watermark",), "watermark", False),
        (("--sign",), "sign", True),
        (("--no-sign",), "sign", False),
        (("--codes", "some/me.npz"), "codes", Path("some/me.npz")),
    ],
)
def test_options_are_handed_on(arguments: tuple[str, ...], name: str, value: object) -> None:
    assert asked(*arguments)[1] == {**asked()[1], name: value}


@pytest.mark.parametrize("option", ["--sign-key", "--sign-certificate"])
def test_keys_are_files_that_are_there(tmp_path: Path, option: str) -> None:
    (tmp_path / "key.pem").write_text("key")
    name = option.removeprefix("--").replace("-", "_")
    assert asked(option, str(tmp_path / "key.pem"))[1][name] == tmp_path / "key.pem"
    for text, says in ((tmp_path, "is a directory"), (tmp_path / "none.pem", "does not exist")):
        result, given = asked(option, str(text))
        assert (result.exit_code, given) == (2, {})
        assert says in " ".join(result.stderr.replace("│", " ").split())


# The pipeline that is made of them


def test_programs_get_what_the_command_line_gets(tiny_bundle: Path) -> None:
    for settings in ({}, {"composite": "replace"}):
        pipeline = make_pipeline(bundle=str(tiny_bundle), edits=(), backend=None, threads=1, **settings)
        assert pipeline.marker is not None
        assert pipeline.marker.watermark
        assert pipeline.marker.badge is not None
        assert (pipeline.marker.badge.corner, pipeline.marker.badge.size) == ("bottom-left", 0.045)


def test_a_preset_is_for_programs_too(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOPPELGAN_DATA", str(tmp_path))
    Presets().write("mine", Preset(style="toon", composite="head", truncation=0.5, edits={"red": 1.0}))
    for number in (0, 1):  # a second pipeline looks the same
        pipeline = make_pipeline(
            bundle=str(tiny_bundle), edits=("red=0.5",)[:number], backend=None, threads=1, preset="mine"
        )
        looks = pipeline.style, pipeline.composite, pipeline.truncation, pipeline.edits
        assert looks == ("toon", "head", 0.5, {"red": (1.0, 0.5)[number]})


def test_words_are_edits_and_it_is_said_how_they_were_taken(tiny_bundle: Path) -> None:
    pipeline, said = made(tiny_bundle, "-e", "green=1", "-e", "slightly red, purple", "-e", "very green")
    assert pipeline.edits == {"green": 2.0, "red": 0.7}
    assert said.splitlines() == [
        'doppelgan: note: understood "slightly red" as red=0.7',
        "doppelgan: note: not understood, left out: purple",
        'doppelgan: note: understood "very green" as green=2',
    ]


def test_typing_errors_are_told_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "open_bundle", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(EditError, match="edit 'red=much': expected NAME=NUMBER"):
        make_pipeline(bundle="demo", edits=("older", "red=much"), backend=None, threads=1)
    with pytest.raises(SinkError):
        make_pipeline(
            bundle="demo", edits=(), backend=None, threads=1, sign=True, sign_key=Path(__file__)
        )  # no key


def test_of_a_file_of_codes_the_first_person_is_taken(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = options.Pipeline
    monkeypatch.setattr(
        options, "Pipeline", lambda *args, **given: seen.append(given["codes"]) or real(*args, **given)
    )
    np.save(tmp_path / "two.npy", np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6))
    made(tiny_bundle, "--codes", str(tmp_path / "two.npy"))
    assert seen[0].tolist() == np.arange(24.0).reshape(1, 4, 6).tolist()


def test_without_a_key_of_ones_own_it_is_said_why_nothing_is_signed(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise SinkError("the folder is read-only")

    monkeypatch.setattr(options, "Signatory", broken)
    monkeypatch.setattr(options, "is_available", lambda: True)
    pipeline = make_pipeline(bundle=str(tiny_bundle), edits=(), backend=None, threads=1)
    assert pipeline.marker is not None
    assert capsys.readouterr() == ("", "")  # asked for at the first file only
    assert pipeline.marker._ask_signatory() is None
    assert capsys.readouterr() == ("", "doppelgan: note: not signed: the folder is read-only\n")


@pytest.mark.parametrize(("composite", "kind"), [("face", "composite"), ("replace", "trained")])
def test_files_whose_muxer_writes_it_are_tagged(tiny_bundle: Path, composite: str, kind: str) -> None:
    pipeline, _ = made(tiny_bundle, "-c", composite)
    sinks = [open_sink("null:"), open_sink("null:")]
    for sink, name in zip(sinks, ("out.mkv", "out.mp4"), strict=True):
        sink.name = name
    state_origin(sinks, pipeline)
    assert sinks[0].tags["DIGITAL_SOURCE_TYPE"].rpartition("/")[2].startswith(kind)
    assert sinks[1].tags == {}
    assert all(sink.on_file is not None for sink in sinks)
