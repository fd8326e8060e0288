"""An encoder's motions are stretched to what people do, and nothing else of its bundle changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from doppelgan.runtime import open_bundle
from numpy.typing import NDArray

from training import calibrate
from training.fit.people.features import FeatureCodec

from ..conftest import ROOT

DEMO = ROOT / "engines" / "demo"
CODEC = FeatureCodec.load(ROOT / "training" / "state" / "features.npz")
MOTION = [CODEC.names[column] for column in CODEC.columns("motion")]


def people(n: int = 4000) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 1)), rng.standard_normal((n, 1))


def test_readings_come_to_spread_as_the_truth_does() -> None:
    true, noise = people()
    read = 0.6 * true + 0.3 * noise  # as a mean of what one is unsure of: correlation 0.89
    one = calibrate.gains(["jawOpen"], read, true)["jawOpen"]
    assert one.correlation == pytest.approx(0.89, abs=0.02)
    assert one.slope == pytest.approx(0.6, abs=0.02)
    assert (one.gain * read).std() == pytest.approx(true.std(), rel=0.03)


def test_brows_follow_one_to_one_and_both_sides_alike() -> None:
    true, noise = people()
    read = np.concatenate([0.5 * true + 0.2 * noise, 0.7 * true - 0.2 * noise], 1)
    found = calibrate.gains(["browOuterUpLeft", "browOuterUpRight"], read, true.repeat(2, axis=1))
    assert found["browOuterUpLeft"] == found["browOuterUpRight"]
    assert found["browOuterUpLeft"].gain == pytest.approx(1 / 0.6, abs=0.05)


@pytest.mark.parametrize(
    ("name", "share", "noise", "gain"),
    [
        ("cheekPuff", 0.1, 1.0, 1.0),  # hardly seen: noise is not made louder
        ("browInnerUp", 0.1, 0.1, calibrate.MOST),  # seen, but far too weakly
        ("yaw", 1.3, 0.1, 1.0),  # nothing is made smaller
        ("roll", 0.5, 0.1, 1.0),  # no crop shows it
        ("pitch", -0.5, 0.1, 1.0),
    ],
)
def test_what_is_not_seen_is_left_alone(name: str, share: float, noise: float, gain: float) -> None:
    true, other = people()
    assert calibrate.gains([name], share * true + noise * other, true)[name].gain == gain


def test_a_bundle_reads_stretched_motions_and_is_the_same_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, noise = (
        np.random.default_rng(i).standard_normal((300, CODEC.count)).astype(np.float32) for i in (1, 2)
    )
    read = true.copy()
    jaw = CODEC.column("jawOpen")
    read[:, jaw] = 0.5 * true[:, jaw] + 0.1 * noise[:, jaw]
    monkeypatch.setattr(calibrate, "read_people", lambda *_: (read, true))
    out = tmp_path / "calibrated"
    found = calibrate.calibrate(DEMO, tmp_path, out)
    assert [name for name, one in found.items() if one.gain != 1] == ["jawOpen"]
    with open_bundle(DEMO, compiled=False) as before, open_bundle(out, compiled=False) as after:
        crop = (
            np.random.default_rng(3)
            .uniform(-1, 1, (1, 3, before.crop_size, before.crop_size))
            .astype(np.float32)
        )
        mesh = np.random.default_rng(4).uniform(60, 190, (1, 468, 3)).astype(np.float32)
        assert np.abs(before.encoder(crop, landmarks=mesh) - after.encoder(crop, landmarks=mesh)).max() > 1e-3
        assert after.manifest.networks["encoder"].parity[-1].relative_l2 < 2e-3
        assert after.manifest.directions == before.manifest.directions
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibrated"]
    changed = {path.name for path in out.iterdir() if path.read_bytes() != (DEMO / path.name).read_bytes()}
    assert changed == {"encoder.onnx", "manifest.json"}
    told = {where: json.loads((where / "manifest.json").read_text()) for where in (DEMO, out)}
    assert told[out]["networks"].keys() == told[DEMO]["networks"].keys()


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "none", [], [])
    data = onnx.helper.make_model(graph).SerializeToString()
    with pytest.raises(ValueError, match=r"expected a constant encoder\.motion\.2\.weight"):
        calibrate.stretched(data, torch.ones(len(MOTION)))


def test_too_few_people_tell_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.fit.people import stub

    stub.write(tmp_path, 40, 64)
    asked: list[int] = []

    class Blind:
        def __init__(self, _: Path) -> None: ...

        def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            asked.append(len(pictures))
            return np.zeros((len(pictures), 468, 3), np.float32), np.zeros(len(pictures), np.float32)

    monkeypatch.setattr(calibrate, "MeshFinder", Blind)
    for everyone in (False, True):
        with pytest.raises(ValueError, match="a face that is found, got 0; render more"):
            calibrate.read_people(None, CODEC, Path("landmarks.onnx"), tmp_path, everyone)  # type: ignore[arg-type]
    assert asked[0] <= 2 < sum(asked[1:]), "held-out people alone, then all whom the list tells"
