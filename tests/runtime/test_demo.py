"""The demonstration writes what it says: a video, a sheet, latencies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from doppelgan.runtime import Bundle, Pipeline, SinkError, SourceError, open_bundle
from doppelgan.runtime.backends import ChooseRows, installed
from doppelgan.runtime.demo.run import EDITS, PANEL_PX, DemoResult, run_demo
from doppelgan.runtime.pictures.convert import to_image
from doppelgan.runtime.pictures.sheet import LABEL_PX, grid
from doppelgan.runtime.source import open_source
from doppelgan.runtime.synthesize import Synthesizer
from doppelgan.runtime.types import Image

from ..conftest import ROOT

FRAMES = 12
CELL_PX = 128


@pytest.fixture(scope="module")
def demo() -> Bundle:
    """With six directions, two lines of the sheet, which shows both ends of each in every style."""
    bundle = open_bundle(ROOT / "engines" / "demo")
    kept = [*EDITS, *(name for name in bundle.directions if name not in EDITS)][:6]
    for name in set(bundle.directions) - set(kept):
        del bundle.directions[name]
    return bundle


@pytest.fixture(scope="module")
def result(demo: Bundle, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    """The demo over the first frames of the bundle's own clip."""
    seen: list[tuple[int, int | None]] = []
    folder = tmp_path_factory.mktemp("demo")
    result = run_demo(demo, folder, frames=FRAMES, on_progress=lambda *done: seen.append(done))
    assert seen == [(k, FRAMES) for k in range(1, FRAMES + 1)]
    return result


def read(path: Path) -> list[Image]:
    with open_source(path) as source:
        return [frame.image for frame in source]


def test_a_face_is_found_in_every_frame(result: DemoResult) -> None:
    assert (result.frames, result.frames_with_face) == (FRAMES, FRAMES)


def test_the_video_shows_original_edited_enrolled_and_toon_side_by_side(
    demo: Bundle, result: DemoResult
) -> None:
    frames = read(result.files["video"])
    clip = read(demo.path / demo.manifest.files["clip"].file)[:FRAMES]
    width = 2 * round(PANEL_PX * clip[0].shape[1] / clip[0].shape[0] / 2)
    assert [frame.shape for frame in frames] == [(PANEL_PX, 4 * width, 3)] * FRAMES
    for frame, original in zip(frames, clip, strict=True):
        left, edited, enrolled, toon = np.hsplit(frame.astype(int), 4)
        shown = cv2.resize(original, (width, PANEL_PX), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(left - shown).mean() < 4  # but for the coding
        for panel in (edited, enrolled, toon):
            assert panel.std() > 10  # neither black nor flat
            assert np.abs(panel - shown).mean() > 0.5
        assert np.abs(toon - edited).mean() > 2
        assert np.abs(toon - enrolled).mean() > 2


def test_the_face_moves_in_every_panel(result: DemoResult) -> None:
    frames = read(result.files["video"])
    first, last = (np.hsplit(frame.astype(int), 4) for frame in (frames[0], frames[-1]))
    for before, after in zip(first, last, strict=True):
        assert np.abs(before - after).mean() > 0.05


def test_the_sheet_has_a_cell_for_everything(demo: Bundle, result: DemoResult) -> None:
    sheet = cv2.imread(str(result.files["sheet"]))
    assert sheet is not None
    cells = 2 + 2 * len(demo.directions)
    rows = (len(demo.styles) + 1) * -(-cells // 12)  # and the person who is enrolled
    assert sheet.shape == (rows * (CELL_PX + LABEL_PX), min(cells, 12) * CELL_PX, 3)
    first = sheet[:CELL_PX, : 2 * CELL_PX]
    assert first[:, :CELL_PX].std() > 10  # the person
    assert first[:, CELL_PX:].std() > 10  # the person as found


def test_latencies_are_of_these_frames(result: DemoResult) -> None:
    page = result.files["latency"].read_text()
    assert result.latency_text in page
    stages = ("track", "align", "encode", "edit", "synthesize", "composite")
    for stage in stages:
        assert f"| {stage} " in page
    data = json.loads((result.files["latency"].parent / "latency.json").read_text())
    assert json.dumps(data).count('"median_ms"') >= len(stages)


def test_a_bundle_without_a_clip_says_what_to_do(tiny_bundle: Path, tmp_path: Path) -> None:
    with open_bundle(tiny_bundle) as bundle, pytest.raises(SourceError, match="embedded clip"):
        run_demo(bundle, tmp_path / "out")


def test_a_clip_without_a_face_says_so(demo: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found none in 3 frames"):
        run_demo(demo, tmp_path / "out", source="test:320x240@30:3")
    assert not (tmp_path / "out").exists()
    (tmp_path / "demo.mp4").write_text("of an earlier run")
    with pytest.raises(SourceError, match="found none"):
        run_demo(demo, tmp_path, source="test:32x2000@30:1")
    assert [path.name for path in tmp_path.iterdir()] == ["demo.mp4"]
    assert (tmp_path / "demo.mp4").read_text() == "of an earlier run"


def test_an_output_that_is_a_file_is_refused(demo: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkError, match="cannot be a folder"):
        run_demo(demo, tmp_path / "file", source="test:320x240@30:3")


def test_grid_puts_pictures_in_rows_and_keeps_their_shape() -> None:
    red = np.zeros((20, 40, 3), np.uint8)
    red[..., 2] = 255
    sheet = grid([[("a", red), ("b", red)], [("c", red)]], cell_px=40)
    assert sheet.shape == (2 * (40 + LABEL_PX), 80, 3)
    assert (sheet[10:30, :80] == (0, 0, 255)).all()
    assert (sheet[:10, :40] == 250).all()  # 2:1 stays 2:1
    assert (sheet[40 + LABEL_PX :, 40:] == 250).all()  # no fourth cell


def test_to_image_takes_rgb_and_clips() -> None:
    picture = np.zeros((3, 2, 2), np.float32)
    picture[0], picture[1], picture[2] = 2.0, 0.0, -1.0
    assert to_image(picture)[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("edits", [{"beard": 1.0}, {"smile": 1.0}, {"age": 1.0}], ids=str)
def test_rows_that_are_left_coarse_are_not_seen(
    edits: dict[str, float], demo: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = read(demo.path / demo.manifest.files["clip"].file)[0]
    chosen: list[float] = []
    together = Synthesizer.together

    def spied(self: Synthesizer, codes: Any, size: int, rows: ChooseRows) -> Any:
        def choose(coarse: Any) -> tuple[int, int]:
            first, end = rows(coarse)
            chosen.append((end - first) / coarse[0].shape[-1])
            return first, end

        return together(self, codes, size, choose)

    monkeypatch.setattr(Synthesizer, "together", spied)
    some = Pipeline(demo, edits, smoothing=False).process(frame)
    monkeypatch.setattr(Synthesizer, "together", lambda self, codes, size, _rows: together(self, codes, size))
    whole = Pipeline(demo, edits, smoothing=False).process(frame)
    if installed("native"):  # others draw everything
        assert len(chosen) == 1
        assert chosen[0] < 0.7
    edited = np.abs(whole.astype(int) - frame).max(axis=2) > 2
    off = np.abs(some.astype(int) - whole).max(axis=2)
    assert edited.sum() > 300
    assert off.max() <= 16
    assert (off > 3).sum() < 0.02 * edited.sum()
