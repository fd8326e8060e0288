"""What the growth curves rest on: networks in other shapes, checks that refuse, ratios that are right."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.backends import open_session
from doppelgan.runtime.bundle import find_bundle, open_bundle
from doppelgan.runtime.errors import ParityError
from doppelgan.runtime.host.machine import this_machine
from doppelgan.runtime.measure.bench import Spread
from doppelgan.runtime.pipeline import Pipeline
from onnx import helper

from benchmarks import face_frames, growth
from benchmarks.common import Row
from benchmarks.curves import Curve, Growth, Panel, Point, Ratio, curve, draw, page
from benchmarks.reshaped import batched, sides, stopped_at

from .. import tiny
from ..conftest import ROOT


def run(data: bytes, folder: Path, **feeds: np.ndarray) -> np.ndarray:
    (folder / "network.onnx").write_bytes(data)
    session = open_session(folder / "network.onnx", backend="onnxruntime")
    return next(iter(session.run(feeds).values())).copy()


def pyramid() -> bytes:
    """An RGB sum per resolution, as StyleGAN2 has them: base 4 px, then twice upsampled plus detail."""
    random = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {
        "weight": random.normal(size=(4, 48)).astype(np.float32),
        "shape": np.array([1, 3, 4, 4], np.int64),
        "twice": np.ones((3, 1, 2, 2), np.float32),
        "detail8": random.normal(size=(1, 3, 8, 8)).astype(np.float32),
        "detail16": random.normal(size=(1, 3, 16, 16)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["codes", "weight"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["rgb4"]),
    ]
    for half, side, name in ((4, 8, "rgb8"), (8, 16, "image")):
        nodes += [
            helper.make_node(
                "ConvTranspose", [f"rgb{half}", "twice"], [f"up{side}"], group=3, strides=[2, 2]
            ),
            helper.make_node("Add", [f"up{side}", f"detail{side}"], [name]),
        ]
    return tiny.model(nodes, {"codes": [1, 4]}, {"image": [1, 3, 16, 16]}, constants)


@pytest.mark.parametrize(
    ("data", "feeds"),
    [
        (tiny.encoder(), {"crop": (3, tiny.SIZE, tiny.SIZE)}),
        (tiny.synthesis(), {"codes": (tiny.STYLES, tiny.W_DIM)}),
        (pyramid(), {"codes": (4,)}),
    ],
)
def test_a_batch_computes_what_single_runs_do(
    data: bytes, feeds: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    many = {name: random.normal(size=(3, *shape)).astype(np.float32) for name, shape in feeds.items()}
    wanted = [run(data, tmp_path, **{name: x[i : i + 1] for name, x in many.items()}) for i in range(3)]
    got = run(batched(data, 3), tmp_path, **many)
    np.testing.assert_allclose(got, np.concatenate(wanted), rtol=1e-5, atol=1e-6)
    assert float(np.abs(got[0] - got[1]).max()) > 0.01


def test_a_stopped_generator_gives_the_sum_so_far(tmp_path: Path) -> None:
    data, codes = pyramid(), np.random.default_rng(2).normal(size=(1, 4)).astype(np.float32)
    assert sides(data) == [4, 8, 16]
    full, half, base = (run(stopped_at(data, side), tmp_path, codes=codes) for side in (16, 8, 4))
    np.testing.assert_array_equal(full, run(data, tmp_path, codes=codes))
    assert half.shape == (1, 3, 8, 8)
    random = np.random.default_rng(0)
    weight, detail8, detail16 = (random.normal(size=s).astype(np.float32) for s in (
        (4, 48), (1, 3, 8, 8), (1, 3, 16, 16),
    ))  # fmt: skip
    np.testing.assert_allclose(base, (codes @ weight).reshape(1, 3, 4, 4), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(half, base.repeat(2, 2).repeat(2, 3) + detail8, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(full, half.repeat(2, 2).repeat(2, 3) + detail16, rtol=1e-5, atol=1e-6)


def test_a_stop_where_there_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="RGB sum of 32 px, found 0"):
        stopped_at(pyramid(), 32)


def timed(*times_ms: float) -> Row:
    return Row("", lambda i: np.zeros(1), times_ms=times_ms)


def test_times_are_of_one_picture_and_ratios_of_pairs() -> None:
    rows = [(1, timed(2.0, 4.0, 9.0)), (2, timed(4.0, 4.0, 9.0))]
    first, second = curve("encoder", rows, per_run=(1, 2), multiply_adds=(5.0, 5.0)).points
    assert (first.ratio, first.time.median_ms) == (Ratio(1.0, 1.0, 1.0), 4.0)
    assert second.time.median_ms == 2.0
    assert second.ratio == Ratio(0.5, 0.5, 0.75)  # of 1, 1/2, 1/2


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Ratio(0.5, 0.4, 0.6), "pays (2.00x)"),
        (Ratio(0.5, 0.4, 1.1), "makes no clear difference (2.00x)"),  # noise
        (Ratio(0.97, 0.96, 0.98), "makes no clear difference (1.03x)"),  # too little
        (Ratio(1.04, 1.03, 1.06), "makes no clear difference (0.96x)"),
        (Ratio(1.25, 0.9, 1.4), "makes no clear difference (0.80x)"),
        (Ratio(1.25, 1.1, 1.4), "costs (0.80x)"),
    ],
)
def test_what_an_idea_is_called(ratio: Ratio, words: str) -> None:
    assert ratio.verdict() == words


def test_an_idea_is_compared_round_by_round() -> None:
    assert growth.paired(timed(1.0, 4.0, 9.0), timed(2.0, 8.0, 9.0)) == Ratio(0.5, 0.5, 0.75)


def panel(name: str = "Batch", top: float = 4.0) -> Panel:
    points = (
        Point(1, Spread.of([1.0, 2.0, 3.0]), Ratio(1.0, 1.0, 1.0), 10e6),
        Point(2, Spread.of([top, top]), Ratio(top / 2, 1.5, 2.5), 25e6),
        Point(4, Spread.of([top, top]), Ratio(top / 2, 1.5, 2.5), 40e6),
    )
    return Panel(
        name, "inputs", "picture", (Curve("encoder", points),), "all of it.", ("| a |",), ("It pays.",)
    )


def test_the_page_has_spread_ratio_and_work() -> None:
    text = page(panel())
    assert "## Batch" in text
    assert "| encoder | 1 | 2.00 | 1.00 | 2.90 | 1.00 | 1.00 (1.00 to 1.00) | 10 | 1.00 |" in text
    assert "| encoder | 2 | 4.00 | 4.00 | 4.00 | 0.00 | 2.00 (1.50 to 2.50) | 25 | 2.50 |" in text
    assert text.index("Checked first: all of it.") < text.index("| encoder") < text.index("| a |")
    assert text.endswith("- It pays.")


def test_the_picture_is_drawn_and_the_json_read_back(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    import msgspec

    panels = (panel("a"), panel("b", top=50.0), panel("c"), panel("d"))
    draw(panels, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes()[:4] == b"\x89PNG"
    found = Growth("now", "abc", "python", this_machine(), {"numpy": "2"}, None, panels)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Growth) == found


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])]
)
def test_numbers_of_threads(cores: int, counts: list[int]) -> None:
    assert growth.thread_counts(cores) == counts


def test_results_that_differ_are_refused() -> None:
    x = np.ones((1, 4), np.float32)
    assert growth.agree("same", x, x) == 0
    with pytest.raises(ParityError, match="batch 2: expected the same"):
        growth.agree("batch 2", x, x + np.float32(1e-3))
    for other in (x * np.nan, x[:, :2], x[0]):
        with pytest.raises(ParityError):
            growth.agree("not the same", x, other)


class Counted:
    """A pipeline that finds what it is told, frame after frame."""

    def __init__(self, *people: tuple[int, ...]) -> None:
        self._told = iter(people)
        self.people: dict[int, Any] = {}

    def process(self, frame: np.ndarray) -> np.ndarray:
        self.people = dict.fromkeys(next(self._told), SimpleNamespace())
        return frame


@pytest.mark.parametrize("ids", [[(0,)] * 6, [(0, 1)] * 5 + [(0, 2)], [(0, 1)] * 5 + [(0,)]])
def test_faces_that_are_missing_or_change_their_id_are_refused(ids: list[tuple[int, ...]]) -> None:
    frames = [np.zeros((4, 4, 3), np.uint8)] * 6
    with pytest.raises(ParityError, match="expected 2 faces that keep their ids"):
        face_frames.settle(Counted(*ids), frames, 2)  # type: ignore[arg-type]
    assert len(face_frames.settle(Counted(*[(3, 5)] * 6), frames, 2)) == 6  # type: ignore[arg-type]


def test_frames_that_differ_are_refused() -> None:
    class Brighter(Counted):
        def process(self, frame: np.ndarray) -> np.ndarray:
            return super().process(frame) + np.uint8(self.by)

        by = 2

    frames = [np.zeros((4, 4, 3), np.uint8)] * 6
    pair = lambda: (Counted(*[(0,)] * 6), Brighter(*[(0,)] * 6))  # noqa: E731
    assert face_frames.check_faces(*pair(), frames, 1) == 2  # type: ignore[arg-type]
    Brighter.by = 3
    with pytest.raises(ParityError, match="1 faces at once: expected frames within 2 of 255, got 3"):
        face_frames.check_faces(*pair(), frames, 1)  # type: ignore[arg-type]


def test_tiles_stand_side_by_side_and_none_is_alike() -> None:
    tiles = [np.full((100, 100, 3), 10 * i, np.uint8) for i in range(20)]
    frame = face_frames.faces_frame(tiles, 4, 2)
    assert frame.shape == (720, 1280, 3)
    assert [int(frame[360, x, 0]) for x in (160, 480, 800, 1120)] == [20, 50, 80, 110]
    assert not frame[0].any()


def test_psnr_is_that_of_the_difference() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert face_frames.psnr([black], [black + np.uint8(255)]) == pytest.approx(0.0)
    assert face_frames.psnr([black], [black + np.uint8(1)]) == pytest.approx(48.13, abs=0.01)


def test_all_faces_at_once_make_the_frames_that_one_after_the_other_does(tmp_path: Path) -> None:
    folder = str(find_bundle(ROOT / "engines" / "demo"))
    tiles = face_frames.face_tiles(folder, face_frames.clip(folder, 6), 320)
    frames = [face_frames.faces_frame(tiles, 2, i) for i in range(6)]
    with open_bundle(folder, backend="onnxruntime") as bundle:
        sessions = []
        for name in ("encoder", "synthesis"):
            (tmp_path / name).write_bytes(batched(face_frames.network(bundle, name), 2))
            sessions.append(open_session(tmp_path / name, backend="onnxruntime"))
        alone, together = (
            Pipeline(bundle, composite="face", max_faces=2),
            face_frames.Together(bundle, *sessions),
        )
        assert face_frames.check_faces(alone, together, frames, 2) <= 1
        edited = together.process(frames[0])
    assert all((edited[y] != frames[0][y]).any() for y in (np.s_[:, :640], np.s_[:, 640:]))
