"""The benchmark's bookkeeping: what is counted, compared and written, never how fast anything is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.cli.bench import command
from doppelgan.runtime.errors import BundleError, EditError
from doppelgan.runtime.host.machine import this_machine
from doppelgan.runtime.measure import bench
from doppelgan.runtime.measure.bench import (
    Spread,
    markdown,
    read_frames,
    read_result,
    run_bench,
    write_result,
)
from doppelgan.runtime.measure.energy import EnergyReader
from doppelgan.runtime.timing import Clock, Report
from doppelgan.runtime.types import Image

from .. import tiny


class StandIn:
    """A pipeline that only counts; every second frame has a face."""

    made: tuple[Bundle, ...] = ()
    counter: Path | None = None  # in microjoules; every frame adds two joules to it

    def __init__(self, bundle: Bundle, **settings: object) -> None:
        StandIn.made = (*StandIn.made, bundle)
        self.clock, self.people, self.seen = Clock(), {}, 0

    def process(self, frame: Image) -> Image:
        with self.clock.stage("track"):
            self.seen += 1
            self.people = {0: SimpleNamespace()} if self.seen % 2 else {}
        if self.counter is not None:
            self.counter.write_text(str(int(self.counter.read_text()) + 2_000_000))
        return frame


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "Pipeline", StandIn)
    monkeypatch.setattr(StandIn, "made", ())
    monkeypatch.setattr(bench, "EnergyReader", lambda: EnergyReader(tmp_path / "no device"))


FRAMES = [np.zeros((720, 1280, 3), np.uint8)]


def test_statistics_are_those_of_the_series() -> None:
    spread = Spread.of([1.0, 3.0, 2.0, 10.0])
    assert (spread.count, spread.median_ms, spread.min_ms) == (4, 2.5, 1.0)
    assert spread.jitter_ms == pytest.approx((2 + 1 + 8) / 3)
    assert spread.p95_ms == pytest.approx(np.percentile([1, 3, 2, 10], 95))


def test_warm_up_does_not_count_and_everything_else_does(tiny_bundle: Path) -> None:
    result = run_bench(tiny_bundle, frames=FRAMES, runs=6, warm_up=3)
    (subject,) = result.subjects.values()
    assert set(subject.networks) == {"encoder", "synthesis", "synthesis-toon", "mapping"}
    assert {row.time.count for row in subject.networks.values()} == {6}
    assert subject.frame is not None
    assert (subject.frame.count, len(subject.frame_ms), subject.frames_with_face) == (6, 6, 3)
    assert list(subject.stages) == ["track"]
    assert "3 warm-up runs not counted, then 6 runs, none dropped" in result.policy
    assert result.ratios == {}


def test_drift_is_measured_against_the_float32_file(tiny_bundle: Path) -> None:
    (subject,) = run_bench(tiny_bundle, runs=2, warm_up=0).subjects.values()
    drifts = [row.drift for row in subject.networks.values()]
    assert all(d is not None and d.relative_l2 == 0 and d.samples == bench.DRIFT_SAMPLES for d in drifts)
    (subject,) = run_bench(tiny_bundle, runs=2, warm_up=0, drift=False).subjects.values()
    assert all(row.drift is None for row in subject.networks.values())


def test_two_bundles_are_compared_pair_by_pair(tiny_bundle: Path, tmp_path: Path) -> None:
    other = tiny.write_bundle(tmp_path / "other", toon=False)
    result = run_bench(tiny_bundle, against=str(other), frames=FRAMES, runs=4, warm_up=1, drift=False)
    assert len(result.subjects) == 2
    assert set(result.ratios) == {"network:encoder", "network:synthesis", "network:mapping", "frame"}
    assert result.paired
    assert [b.path for b in StandIn.made] == [tiny_bundle, other]


def test_the_ratio_is_the_other_subjects_time_over_ours() -> None:
    assert bench._ratio([1.0, 2.0, 4.0], [3.0, 6.0, 4.0]) == 3.0


@pytest.mark.parametrize(
    ("against", "label"), [("float32", "tiny onnxruntime float32"), ("onnxruntime", "tiny onnxruntime")]
)
def test_a_backend_is_compared_on_the_same_bundle(tiny_bundle: Path, against: str, label: str) -> None:
    result = run_bench(tiny_bundle, against=against, runs=2, warm_up=0, drift=False)
    assert list(result.subjects)[1].startswith(label)
    assert len(result.subjects) == 2


@pytest.mark.parametrize("settings", [{"style": "oil"}, {"edits": {"nose": 1.0}}])
def test_what_cannot_be_drawn_is_refused_before_anything_is_timed(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    def refuse(pipeline: Any, bundle: Any, edits: Any = None, style: str = "photo", **_: Any) -> None:
        if style == "oil" or "nose" in edits:
            raise EditError("unknown")

    monkeypatch.setattr(StandIn, "__init__", refuse)
    told: list[str] = []
    with pytest.raises(EditError):
        run_bench(tiny_bundle, frames=FRAMES, runs=2, warm_up=0, report=told.append, **settings)
    assert told == []


def test_a_run_without_a_subject_is_no_run(tmp_path: Path) -> None:
    run: dict[str, Any] = {
        "format": "doppelgan-bench", "version": 1, "created": "", "commit": "", "versions": {}, "policy": "",
        "load": None, "subjects": {}, "machine": msgspec.to_builtins(this_machine()),
    }  # fmt: skip
    (tmp_path / "bench.json").write_bytes(msgspec.json.encode(run))
    with pytest.raises(BundleError, match="expected a measured bundle, got none"):
        read_result(tmp_path / "bench.json")


def test_an_earlier_run_is_read_back_and_called_unpaired(tiny_bundle: Path, tmp_path: Path) -> None:
    first = run_bench(tiny_bundle, frames=FRAMES, runs=2, warm_up=0)
    path = tmp_path / "bench.json"
    path.write_bytes(write_result(first))
    assert read_result(path) == first
    second = run_bench(tiny_bundle, against=str(path), frames=FRAMES, runs=2, warm_up=0, drift=False)
    assert not second.paired
    assert "not paired" in markdown(second)
    assert {"frame", "network:synthesis"} <= set(second.ratios)
    with pytest.raises(BundleError, match="expected the JSON of an earlier"):
        run_bench(tiny_bundle, against=str(tmp_path / "none.json"), runs=2)
    path.write_bytes(write_result(msgspec.structs.replace(first, version=99)))
    with pytest.raises(BundleError, match="expected doppelgan-bench 1, got doppelgan-bench 99"):
        read_result(path)


def test_the_page_names_machine_versions_commit_policy_and_what_computes(tiny_bundle: Path) -> None:
    result = run_bench(tiny_bundle, frames=FRAMES, runs=2, warm_up=1)
    page = markdown(result)
    for words in (
        result.machine.processor,
        "onnxruntime",
        "commit",
        "Policy: 1 warm-up",
        "onnxruntime CPU",
        "J / frame",
    ):
        assert words in page
    assert "Energy: not told by this device." in page


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EnergyReader:
    """Tells the energy of stand-in frames, two joules each."""
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").write_text("5000000")
    (zone / "max_energy_range_uj").write_text("262143328850")
    monkeypatch.setattr(StandIn, "counter", zone / "energy_uj")
    monkeypatch.setattr(bench, "ENERGY_S", 0.05)
    monkeypatch.setattr(bench, "IDLE_S", 0.01)
    return EnergyReader(tmp_path)


def test_energy_is_that_of_a_frame_for_each_subject(
    tiny_bundle: Path, tmp_path: Path, device: EnergyReader
) -> None:
    device.missing = "GPU 1 is not read"
    result = run_bench(
        tiny_bundle, against="float32", frames=FRAMES, runs=4, warm_up=1, drift=False, energy=device
    )
    for subject in result.subjects.values():
        assert subject.energy is not None
        assert subject.energy.joules == pytest.approx(2.0)
        assert 0 < subject.energy.watts <= 2.0 * subject.energy.frames / bench.ENERGY_S
        assert sum(subject.energy.rails.values()) == pytest.approx(subject.energy.watts)
        assert subject.energy.idle_watts == 0
        assert list(subject.energy.rails) == ["RAPL package-0"]
    page = markdown(result)
    assert "| J / frame | W |" in page
    assert "| 2.000 |" in page
    assert "Energy: RAPL package-0 (GPU 1 is not read); mean over 0.05 s" in page
    path = tmp_path / "bench.json"
    path.write_bytes(write_result(result))
    assert read_result(path) == result


def test_frames_for_energy_count_in_no_time(
    tiny_bundle: Path, device: EnergyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    report = Clock.report

    def noted(clock: Clock) -> Report:
        told = report(clock)
        counts.append(told.stages[0].count)
        return told

    monkeypatch.setattr(Clock, "report", noted)
    result = run_bench(tiny_bundle, frames=FRAMES, runs=6, warm_up=3, drift=False, energy=device)
    (subject,) = result.subjects.values()
    assert counts == [6]
    assert subject.frame is not None
    assert (subject.frame.count, subject.frames_with_face) == (6, 3)


def test_energy_that_only_root_may_read_is_told_with_its_remedy(tiny_bundle: Path, tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").mkdir()  # unreadable for root as well
    result = run_bench(
        tiny_bundle, frames=FRAMES, runs=2, warm_up=0, drift=False, energy=EnergyReader(tmp_path)
    )
    assert result.energy.startswith("not told by this device (")
    assert "chmod a+r" in markdown(result)


def test_frames_are_fitted_with_black_bars(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "tall.png"), np.full((200, 100, 3), 255, np.uint8))
    (frame,) = read_frames(str(tmp_path / "tall.png"))
    assert frame.shape == (720, 1280, 3)
    white = np.flatnonzero(frame[360, :, 0] > 128)
    assert (white[0], white[-1]) == (460, 819)


def test_the_command_writes_page_json_and_picture(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    cv2.imwrite(str(tmp_path / "in.png"), np.zeros((72, 128, 3), np.uint8))
    out = tmp_path / "out"
    arguments = [
        str(tiny_bundle),
        "--runs",
        "3",
        "--warm-up",
        "0",
        "-i",
        str(tmp_path / "in.png"),
        "-o",
        str(out),
    ]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert (out / "bench.png").read_bytes()[:4] == b"\x89PNG"
    assert read_result(out / "bench.json").subjects.keys() == {"tiny onnxruntime"}
    assert (out / "bench.md").read_text() in result.output
