"""Inversion by optimization: the dial between W and W+, and what commands do with the codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from doppelgan.export.networks.trainable import Synthesis
from doppelgan.export.tuning.invert import editability, invert, measure_inversion, write_page
from doppelgan.export.tuning.recipe import Target
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.cli.enroll import GUIDE, Guide
from doppelgan.runtime.cli.enroll import command as enroll_command
from doppelgan.runtime.cli.invert import command as invert_command
from doppelgan.runtime.errors import BackendError, DoppelganError, EditError
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.source import open_source

from .. import tiny

SPREAD, AVERAGE = torch.ones(tiny.W_DIM), torch.zeros(tiny.STYLES, tiny.W_DIM)


@pytest.fixture(scope="module")
def module() -> Synthesis:
    torch.manual_seed(0)
    return Synthesis((8, 6), tiny.W_DIM)


@pytest.fixture(scope="module")
def target(module: Synthesis) -> Target:
    """A picture of rows that differ: only W+ can draw it. The search starts at the average."""
    codes = 0.7 * torch.randn(1, tiny.STYLES, tiny.W_DIM, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        picture = module(codes)
    return Target(AVERAGE[None], picture, torch.ones(1, 1, 8, 8))


def searched(module: Synthesis, target: Target, plus: float, steps: int = 120) -> np.ndarray:
    return invert(module, target, SPREAD, AVERAGE, plus=plus, steps=steps)


def missed(module: Synthesis, target: Target, codes: np.ndarray) -> float:
    with torch.no_grad():
        return float((module(torch.from_numpy(codes)) - target.picture).abs().mean())


def apart(codes: np.ndarray) -> float:
    return float(np.sqrt(np.square(codes - codes.mean(1, keepdims=True)).mean()))


def test_the_dial_trades_distance_from_w_for_a_nearer_picture(module: Synthesis, target: Target) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = {plus: searched(module, target, plus) for plus in (0.0, 0.5, 1.0)}
    errors = [missed(module, target, codes) for codes in found.values()]
    assert errors[2] < errors[0] < missed(module, target, AVERAGE[None].numpy())
    assert apart(found[0.0]) < 1e-6
    assert 0 < apart(found[0.5]) < apart(found[1.0])
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_more_steps_come_nearer(module: Synthesis, target: Target) -> None:
    assert missed(module, target, searched(module, target, 1.0)) < missed(
        module, target, searched(module, target, 1.0, 5)
    )


def test_an_interrupted_search_gives_what_it_has(module: Synthesis, target: Target) -> None:
    def interrupt(done: int, _of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    codes = invert(module, target, SPREAD, AVERAGE, plus=1.0, steps=50, on_step=interrupt)
    np.testing.assert_allclose(codes, searched(module, target, 1.0, 50), atol=1.0)
    assert 0 < np.abs(codes).max() < 0.2
    with pytest.raises(ValueError, match="plus"):
        invert(module, target, SPREAD, AVERAGE, plus=1.5)


def test_the_page_holds_every_point(
    module: Synthesis, target: Target, tiny_bundle: Path, tmp_path: Path
) -> None:
    with open_bundle(tiny_bundle) as bundle:
        points = [
            measure_inversion(bundle, module, target, searched(module, target, plus, 10), plus)
            for plus in (0.0, 1.0)
        ]
        torch.manual_seed(1)
        other = Synthesis((8, 6), tiny.W_DIM)
        enrolled = other, measure_inversion(bundle, other, target, bundle.latent_avg[None], 1.0)
        write_page(tmp_path / "page", bundle, module, target, points, points[0], enrolled)
        assert editability(bundle, module, bundle.latent_avg[None]) == pytest.approx(1.0, abs=1e-4)
    rows = json.loads((tmp_path / "page" / "page.json").read_text())
    assert [row["label"] for row in rows] == ["encoder", "invert, plus 0", "invert, plus 1", "enroll"]
    assert rows[3]["psnr_db"] not in [row["psnr_db"] for row in rows[:3]]
    assert rows[1]["away"] < 1e-6 < rows[2]["away"]
    assert (tmp_path / "page" / "page.png").stat().st_size > 1000


def test_given_codes_are_drawn_and_move_with_a_driver() -> None:
    """A picture shows the codes as they are; in a video they are where the driver's first face is."""
    with open_bundle("demo", backend="onnxruntime") as bundle:
        with open_source(str(bundle.path / "clip.mp4")) as clip:
            frames = [frame.image for frame in clip if frame.index in (0, 40)]
        codes = bundle.latent["samples"][:1]
        picture = Pipeline(bundle, codes=codes, smoothing=False, composite="replace")
        picture.process(frames[0])
        (person,) = picture.people.values()
        np.testing.assert_array_equal(person.own_codes, codes)
        video = Pipeline(bundle, codes=codes, composite="replace")
        found = []
        for i, frame in enumerate(frames):
            video.process(frame, 2.0 * i)
            (person,) = video.people.values()
            found.append(person.own_codes)
        np.testing.assert_allclose(found[0], codes, atol=1e-4)
        assert np.abs(found[1] - codes).max() > 0.01


def test_commands_refuse_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: object, *arguments: str) -> BaseException | None:
        return CliRunner().invoke(command, arguments).exception  # type: ignore[arg-type]

    error = run(enroll_command, "me.jpg", "-o", str(tmp_path / "me"))
    assert isinstance(error, DoppelganError)
    assert "--consent" in str(error)
    error = run(invert_command, "me.jpg", "-o", str(tmp_path / "me.txt"))
    assert isinstance(error, EditError)
    assert "me.npz" in str(error)
    error = run(invert_command, "me.jpg", "-o", "")
    assert isinstance(error, EditError)
    assert "codes.npz" in str(error)
    error = run(invert_command, "me.jpg", "-o", str(tmp_path / "me.npz"), "--enrolled", "me")
    assert "--page" in str(error)
    monkeypatch.setattr("doppelgan.runtime.cli.tuning.find_spec", lambda name: None)
    for command in (enroll_command, invert_command):
        error = run(
            command,
            "me.jpg",
            "-o",
            str(tmp_path / "me.npz"),
            *(["--consent", "me"][: 2 * (command is enroll_command)]),
        )
        assert isinstance(error, BackendError)
        assert 'pip install "doppelgan[enroll]"' in str(error)
    assert list(tmp_path.iterdir()) == []


def test_a_guide_says_each_line_once_in_its_time() -> None:
    said: list[str] = []
    guide = Guide(said.append)
    image = np.zeros((2, 2, 3), np.uint8)
    guide(image, 0.0)
    guide(image, 0.1)
    assert said == [GUIDE[0][1]]
    guide(image, GUIDE[0][0])
    assert said == [line for _, line in GUIDE[:2]]
    guide(image, 100.0)
    assert said == [line for _, line in GUIDE]
