"""Odd values of every option of the commands that need no torch; see tests/sweep.py."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from doppelgan.runtime import pipeline as pipeline_module
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.drift import Drift
from doppelgan.runtime.measure import autotune, bench, energy, plots

from ..sweep import desk, faults, lines
from .test_heart import TwoPeople

SHARED = (  # of several commands: tried with live
    "bundle", "edits", "style", "composite", "preset", "truncation", "steps", "motion", "codes", "max_faces",
    "badge", "badge_size", "watermark", "sign", "sign_key", "sign_certificate", "backend", "threads",
)  # fmt: skip
CLIP = "test:32x32@30:2"


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is found in pictures and nothing is timed; every option goes as far as it does for users."""
    monkeypatch.setattr(pipeline_module, "Tracker", TwoPeople)
    real = Bundle.session
    monkeypatch.setattr(
        Bundle,
        "session",
        lambda self, name: None if name in ("detector", "landmarks") else real(self, name),
    )

    def turns(work: Sequence[Any], runs: int, **_: Any) -> list[list[float]]:
        return [[1.0] * 3 for _ in work]

    for module in (bench, autotune):
        monkeypatch.setattr(module, "time_sessions", turns)
    monkeypatch.setattr(bench, "time_in_turns", turns)
    for name in ("plot_choices", "plot_latency"):
        monkeypatch.setattr(plots, name, lambda *_: None)
    monkeypatch.setattr(energy.EnergyReader, "tells", False)
    monkeypatch.setattr(autotune, "sample_inputs", lambda *_, **__: [])
    monkeypatch.setattr(autotune, "measure", lambda *_, **__: Drift(samples=1, relative_l2=0.0, max_abs=0.0))
    monkeypatch.setattr(autotune, "_variant", lambda *_: (b"", ""))
    monkeypatch.setenv("DOPPELGAN_DATA", str(tmp_path_factory.mktemp("data")))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "base", "skip"),
    [
        ("image", ["in.png", "-o", "out.png", "-b", "{tiny}", "--no-sign"], SHARED),
        ("video", [CLIP, "-o", "out.mp4", "-b", "{tiny}", "--no-sign"], SHARED),
        ("live", ["-i", CLIP, "--to", "null:", "-b", "{tiny}", "--no-sign"], ("loop",)),
        ("check", ["in.png"], ()),
        ("bench", ["{tiny}", "--input", CLIP, "--no-drift"], ()),
        ("compile", ["{tiny}", "--backend", "onnxruntime", "--precision", "float32"], ()),
        ("compile", ["{tiny}", "--for", "rtx", "--arch", "nowhere"], ()),
        ("bundles", [], ()),
        ("bundles", ["{tiny}"], ()),
        ("demo", ["-o", "out", "--frames", "1", "-b", "{tiny}"], ()),
    ],
)
def test_odd_values_are_refused_in_one_line_and_leave_nothing(
    name: str,
    base: list[str],
    skip: Sequence[str],
    tiny_bundle: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = tmp_path / "in.png"
    cv2.imwrite(str(picture), np.full((8, 8, 3), 90, np.uint8))
    monkeypatch.setenv("DOPPELGAN_ENGINES", "/nowhere")
    (tmp_path / "here").mkdir()
    clean = desk(tmp_path / "here", [picture])
    bundle = shutil.copytree(tiny_bundle, tmp_path / "tiny")  # `compile` writes into it
    filled = [word.format(tiny=bundle) for word in base]
    assert faults(lines(name, filled, skip), tmp_path / "here", capfd, clean) == []


@pytest.mark.filterwarnings("ignore")
def test_odd_values_of_the_page_are_refused_in_one_line(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = pytest.importorskip(
        "doppelgan.runtime.serve.server", reason="the extra `serve` is not installed"
    )
    listener = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 1))
    monkeypatch.setattr(server, "listening_socket", lambda *_: listener)
    monkeypatch.setattr(server, "run", lambda *_, **__: None)
    clean = desk(tmp_path)
    base = ["-b", str(tiny_bundle), "--no-open"]
    assert faults(lines("serve", base, (*SHARED, "open_page", "password")), tmp_path, capfd, clean) == []
