"""Looks by name: saved, brought back, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from doppelgan.runtime.cli import group, image
from doppelgan.runtime.cli.options import make_pipeline
from doppelgan.runtime.errors import EditError
from doppelgan.runtime.pictures import write_image
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.presets import Preset, Presets, data_folder

from ..conftest import ROOT

LOOK = Preset(bundle="demo", style="toon", edits={"age": 0.5}, truncation=0.7)


def test_a_look_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    presets = Presets(tmp_path / "presets")
    presets.write("Grandpa 2", LOOK, b"picture")
    assert presets.names() == ["Grandpa 2"]
    assert presets.read("Grandpa 2") == LOOK
    assert presets.picture("Grandpa 2") == b"picture"
    assert presets.delete("Grandpa 2")
    assert not presets.delete("Grandpa 2")
    assert list(presets.folder.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", "a\\b", ".hidden", "a..b", "con", "NUL.x", "a" * 41, "a\0b", "a ", "a\n"]
)
def test_names_that_are_no_names_are_refused_and_touch_no_file(tmp_path: Path, name: str) -> None:
    presets = Presets(tmp_path / "presets")
    with pytest.raises(EditError, match="rename it"):
        presets.write(name, LOOK)
    with pytest.raises(EditError):
        presets.read(name)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_says_what_there_is(tmp_path: Path) -> None:
    presets = Presets(tmp_path)
    with pytest.raises(EditError, match="none is saved"):
        presets.read("grandpa")
    presets.write("grandpa", LOOK)
    with pytest.raises(EditError, match="did you mean 'grandpa'"):
        presets.read("granpa")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": "other"}', '{"edits": {"age": "x"}}', '{"truncation": 9}', '{"version": 2}'],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(EditError, match=r"old\.json"):
        Presets(tmp_path).read("old")


def test_the_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOPPELGAN_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    Presets().write("a", LOOK)
    assert (tmp_path / "presets" / "a.json").is_file()


def test_commands_look_as_a_preset_says_but_for_what_they_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOPPELGAN_DATA", str(tmp_path))
    Presets().write("cartoon", Preset(style="toon", composite="replace", edits={"age": 0.5}, truncation=0.6))
    seen: list[Pipeline] = []
    monkeypatch.setattr(
        image, "make_pipeline", lambda **given: seen.append(make_pipeline(**given)) or seen[-1]
    )
    write_image(tmp_path / "a.png", np.full((64, 64, 3), 90, np.uint8))
    arguments = [
        "image",
        str(tmp_path / "a.png"),
        "--preset",
        "cartoon",
        "-b",
        str(ROOT / "engines" / "demo"),
    ]
    for number, more in enumerate(([], ["--style", "photo", "-e", "smile=1", "-e", "age=-1"])):
        done = CliRunner().invoke(group, [*arguments, "-o", str(tmp_path / f"{number}.png"), *more])
        assert done.exit_code == 0, done.output
    looks = [(one.style, one.composite, one.truncation, one.edits) for one in seen]
    assert looks == [
        ("toon", "replace", 0.6, {"age": 0.5}),
        ("photo", "replace", 0.6, {"age": -1.0, "smile": 1.0}),
    ]
