"""What directions do: measured on a generator whose pictures are known, kept in a bundle, read back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.bundle import Bundle, add_effects, effects, open_bundle, writer
from doppelgan.runtime.edit.effect import ALL_SIZES, Effect, effects_from_arrays, effects_to_arrays
from doppelgan.runtime.errors import BundleError, EditError
from doppelgan.runtime.face_mesh import N_POINTS
from doppelgan.runtime.types import Floats

from ..conftest import ROOT


def shift(by: float = 0.01) -> Floats:
    return np.full((N_POINTS, 2), by, np.float32)


def test_an_effect_moves_if_movement_explains_it_and_is_seen() -> None:
    assert Effect(shift(), explained=0.3).moves
    assert not Effect(shift(), explained=0.05).moves  # landmarks that a beard deceived
    assert not Effect(shift(0.0005), explained=0.3).moves
    assert Effect(shift(), explained=0.12).moves  # from there on
    assert Effect(np.full((N_POINTS, 2), 0.002), explained=0.3).moves
    assert not Effect(shift()).moves  # nothing is known of it
    assert not Effect.of_looks().moves
    assert Effect.of_looks().size == ALL_SIZES == 65536


def test_an_effect_stays_as_it_was_measured_and_prints_in_one_line() -> None:
    effect = Effect(shift(), 0.25, 128)
    with pytest.raises(dataclasses.FrozenInstanceError):
        effect.size = 64  # type: ignore[misc]
    assert repr(effect) == "Effect(explained=0.25, size=128)"
    assert effect != Effect(effect.shift, 0.25, 128)  # its arrays are not compared


def test_effects_survive_their_arrays() -> None:
    given = {"smile": Effect(shift(), 0.25, 128), "beard": Effect.of_looks()}
    read = effects_from_arrays(effects_to_arrays(given))
    assert read.keys() == given.keys()
    for name, effect in read.items():
        np.testing.assert_array_equal(effect.shift, given[name].shift)
        assert (effect.explained, effect.size) == (given[name].explained, given[name].size)


@pytest.mark.parametrize("lost", ["smile.explained", "smile.size"])
def test_incomplete_effects_are_refused(lost: str) -> None:
    arrays = effects_to_arrays({"smile": Effect(shift(), 0.25, 128)})
    del arrays[lost]
    with pytest.raises(EditError, match=r"'smile': expected numbers .*smile\.size; measure again"):
        effects_from_arrays(arrays)
    with pytest.raises(EditError, match="measure again"):
        effects_from_arrays({**arrays, lost: np.ones(2)})


@pytest.mark.parametrize(
    "given",
    [np.zeros((10, 2)), np.zeros((N_POINTS, 3)), np.full((N_POINTS, 2), np.inf), np.zeros((N_POINTS,))],
)
def test_a_shift_of_another_mesh_is_refused(given: Floats) -> None:
    with pytest.raises(EditError, match=r"shift: expected finite float32 \[468,2\]"):
        Effect(given.astype(np.float32))


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return open_bundle(ROOT / "engines" / "demo", compiled=False, backend="native")


def test_the_demo_tells_what_moves_from_what_looks_different(demo: Bundle) -> None:
    moving = {name for name, effect in demo.effects.items() if effect.moves}
    assert {"smile", "mouth_open", "eye_open", "brow", "yaw", "pitch"} <= moving
    assert moving.isdisjoint(
        {"beard", "glasses", "hair_color", "grey", "skin_tone", "baldness", "hair_length"}
    )
    assert demo.effects.keys() == demo.directions.keys()


def test_the_kept_effects_are_what_is_measured(demo: Bundle) -> None:
    measured = effects.measure_effects(demo, ["mouth_open"], people=2)["mouth_open"]
    kept = demo.effects["mouth_open"]
    assert measured.moves
    apart = np.abs(measured.shift - kept.shift).max()
    assert apart < 0.35 * np.abs(kept.shift).max()
    chin = 152
    assert measured.shift[chin, 1] > 0.02  # an opened mouth's chin goes down
    assert abs(measured.shift[10, 1]) < 0.01  # the forehead stays


def test_unknown_effects_are_measured_once(demo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def measured(bundle: Bundle, names: list[str]) -> dict[str, Effect]:
        calls.append(names)
        return {name: Effect.of_looks() for name in names}

    monkeypatch.setattr("doppelgan.runtime.bundle.reader.measure_effects", measured)
    with open_bundle(ROOT / "engines" / "demo", compiled=False) as bundle:
        bundle.effects.pop("smile")
        for _ in range(2):
            assert not bundle.effect("smile").moves
            assert bundle.effect("yaw").moves
    assert calls == [["smile"]]


def test_a_bundle_without_landmarks_moves_nothing(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle) as bundle:
        assert not bundle.effect("red").moves
    before = (tiny_bundle / "manifest.json").read_bytes()
    add_effects(tiny_bundle)
    assert (tiny_bundle / "manifest.json").read_bytes() == before


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo whose measuring is quick."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for file in (ROOT / "engines" / "demo").iterdir():
        if file.name not in ("manifest.json", "effects.npz"):
            (folder / file.name).symlink_to(file)
        else:
            (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(
        writer, "measure_effects", lambda bundle, names, on_progress: {"smile": Effect(shift(), 0.5, 128)}
    )
    return folder


def test_effects_are_kept_in_the_bundle(small: Path) -> None:
    add_effects(small)
    with open_bundle(small, compiled=False) as bundle:
        assert list(bundle.effects) == ["smile"]
        assert bundle.effects["smile"].size == 128
    assert not list(small.glob(".effects-*"))


def test_a_bundle_that_cannot_be_written_stays_as_it_was(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = {file.name: file.read_bytes() for file in small.iterdir() if file.is_file()}
    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(BundleError, match="No space left"):
        add_effects(small)
    assert {file.name: file.read_bytes() for file in small.iterdir() if file.is_file()} == before


def test_the_detail_that_is_needed_is_found() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.uniform(-1, 1, (3, 16, 16)).astype(np.float32)
    smooth = effects._enlarged(coarse, 256)
    assert effects._needed(smooth) == 64
    fine = np.zeros((3, 256, 256), np.float32)
    fine[:, 100:103, 40:200] = 1  # the rim of glasses, in an otherwise equal picture
    assert effects._needed(fine) == 256


def test_a_face_that_drifts_as_a_whole_stays_and_a_turning_head_does_not() -> None:
    rng = np.random.default_rng(0)
    mesh = rng.uniform(60, 200, (N_POINTS, 2))
    drifting = np.full((N_POINTS, 2), 1.5)
    eye = mesh[:, 0] < 90
    drifting[eye, 1] += 4.0
    settled = effects._without_drift(drifting, mesh, 256)
    np.testing.assert_allclose(settled[eye], drifting[eye])
    assert np.abs(settled[mesh[:, 0] > 130]).max() < 0.2
    turning = drifting * 4
    np.testing.assert_array_equal(effects._without_drift(turning, mesh, 256), turning)
