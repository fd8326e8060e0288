"""``doppelgan check``: every layer is read, and a missing one proves nothing."""

from __future__ import annotations

import json
from datetime import date
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from doppelgan.runtime.cli.check import command
from doppelgan.runtime.mark import metadata, watermark
from doppelgan.runtime.mark.payload import Payload
from doppelgan.runtime.pictures.files import write_image
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.types import Frame

from .test_mark_watermark import scene


def check(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    image = scene(200, 260)
    watermark.embed(image, Payload("avatar", date(2027, 3, 4)))
    path = tmp_path / "marked.png"
    write_image(path, image)
    return path


def test_says_what_it_found_and_how_sure(marked: Path) -> None:
    code, said = check(marked)
    assert code == 0
    first, stated, signed, mark = said.strip().split("\n")
    assert first == f"{marked}: synthetic"
    assert stated.split() == ["metadata", "-"]
    assert signed.split() == ["credentials", "-"]
    assert "avatar, 2027-03-04, scale 1.00: false alarm less likely than 1e-" in mark


def test_json_has_every_layer(marked: Path) -> None:
    metadata.write_source_type(marked, "avatar")
    code, said = check(marked, "--json")
    (result,) = json.loads(said)
    assert code == 0
    assert result["synthetic"] is True
    assert result["metadata"] == {"value": "trainedAlgorithmicMedia", "tool": "doppelgan"}
    assert result["watermark"]["kind"] == "avatar"
    assert result["watermark"]["day"] == "2027-03-04"
    assert result["watermark"]["false_alarm_probability"] < 1e-6
    assert result["error"] is None


def test_nothing_found_is_no_proof_and_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    plain, damaged = tmp_path / "plain.png", tmp_path / "damaged.png"
    write_image(plain, scene(90, 120))
    damaged.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    code, said = check(plain, damaged, tmp_path / "absent.mp4")
    assert code == 2
    assert f"{plain}: nothing found, which proves nothing" in said
    assert said.count("cannot be read") == 2


def test_frames_of_a_video_are_read_together(tmp_path: Path) -> None:
    path, rng = tmp_path / "v.mp4", np.random.default_rng(2)
    with open_sink(path, rate=Fraction(10), crf=18) as sink:
        for index in range(12):
            image = scene(160, 208)
            watermark.embed(image, Payload("edited", date(2026, 12, 1)))
            image = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
            sink.write(Frame(image, index, index / 10))
    (result,) = json.loads(check(path, "--json", "--frames", 4)[1])
    assert result["frames"] == 4
    assert result["watermark"]["kind"] == "edited"
