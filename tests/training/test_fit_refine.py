"""Dials and their refinement against a reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from doppelgan.runtime.edit import apply_edits  # noqa: E402

from training.fit.dials import Dial, first_dials, load_dials, save_dials  # noqa: E402
from training.fit.directions import ATTRIBUTES, sampled_features  # noqa: E402
from training.fit.features import FeatureCodec  # noqa: E402
from training.fit.networks import Mapping  # noqa: E402
from training.fit.refine import Refinement, Scene, calibrated  # noqa: E402
from training.fit.report import Log  # noqa: E402
from training.make_bundle import direction_of  # noqa: E402
from training.render import features  # noqa: E402

ROWS, W_DIM = 4, 6


@pytest.fixture(scope="module")
def people() -> torch.Tensor:
    return torch.from_numpy(sampled_features(400))


@pytest.fixture(scope="module")
def codec(people: torch.Tensor) -> FeatureCodec:
    return FeatureCodec(features.FEATURES, features.GROUPS, 256).fit(people.numpy())


@pytest.fixture(scope="module")
def mapping(codec: FeatureCodec) -> Mapping:
    torch.manual_seed(3)
    return Mapping(256, 1).requires_grad_(False)


class Step:
    """Stands in for generator and reader: one value follows code [0, 0] between -1 and 1, one code [0, 1]."""

    def read(self, codes: torch.Tensor, look: str) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = codes[..., 0, 0], codes[..., 0, 1]
        # A little of everything outside, for a gradient.
        return torch.stack([4 * x.clamp(-1, 1) + 0.01 * x, y], -1), torch.zeros(*x.shape, 1)


def _scene(w: torch.Tensor) -> Scene:
    scene = Scene(None, {}, None, ["beard", "yaw"], None, None, [0], w, torch.eye(W_DIM))  # type: ignore[arg-type]
    object.__setattr__(scene, "read", Step().read)
    return scene


@pytest.mark.parametrize("name", ["yaw", "beard"])
def test_a_dial_moves_codes_as_the_runtime_does(
    name: str, codec: FeatureCodec, mapping: Mapping, people: torch.Tensor
) -> None:
    dial = first_dials(codec, mapping, people, ROWS)[name]
    assert (dial.probe is not None) == ATTRIBUTES[name].absolute
    w = torch.randn(2, 256)
    moved = dial.moved(w, torch.tensor([-1.0, 0.5]))
    codes = w[:, None].expand(-1, ROWS, -1).numpy()
    for j, strength in enumerate((-1.0, 0.5)):
        np.testing.assert_allclose(
            moved[:, j], apply_edits(codes, {direction_of(name, dial): strength}), atol=1e-4
        )


def test_an_absolute_dial_takes_everybody_to_the_same_place(
    codec: FeatureCodec, mapping: Mapping, people: torch.Tensor
) -> None:
    dial = first_dials(codec, mapping, people, ROWS)["beard"]
    moved = dial.moved(torch.randn(5, 256), torch.tensor([0.3]))[:, 0, 0]
    torch.testing.assert_close(moved @ dial.probe - dial.origin, torch.full((5,), 0.3), atol=1e-3, rtol=0)


def test_dials_come_back_from_their_file_and_know_their_generator(
    tmp_path: Path, codec: FeatureCodec, mapping: Mapping, people: torch.Tensor
) -> None:
    dials = first_dials(codec, mapping, people, ROWS)
    save_dials(tmp_path / "directions.npz", dials, codec, mapping)
    again = load_dials(tmp_path / "directions.npz", codec, mapping)
    assert list(again) == list(dials)
    for name, dial in dials.items():
        assert torch.equal(again[name].offset, dial.offset)
        assert (again[name].probe is None) == (dial.probe is None)
    torch.manual_seed(4)
    with pytest.raises(ValueError, match=r"training\.fit\.refine"):
        load_dials(tmp_path / "directions.npz", codec, Mapping(256, 1).requires_grad_(False))


def test_every_hair_style_is_equally_far_from_bald(codec: FeatureCodec, people: torch.Tensor) -> None:
    from training.fit.directions import attribute_value

    bald = people[:, codec.column("hair=bald")] > 0.5
    torch.testing.assert_close(
        attribute_value(codec, ATTRIBUTES["baldness"], people), bald.float(), atol=1e-5, rtol=0
    )


def test_an_absolute_dial_is_fitted_to_where_the_reader_sees_a_change() -> None:
    unit = torch.eye(W_DIM)[0]
    wide = Dial(unit.expand(ROWS, -1).clone(), unit, 0.0)
    dial = calibrated(_scene(torch.randn(20, W_DIM) * 0.1), "beard", wide)
    ends = dial.moved(torch.zeros(1, W_DIM), torch.tensor([-1.0, 1.0]))[0, :, 0, 0]
    assert -1.3 < float(ends[0]) < -0.7, f"expected to begin near -1, got {ends[0]:.2f}"
    assert 0.9 < float(ends[1]) < 1.3, f"expected to end near 1, got {ends[1]:.2f}"


def test_refinement_goes_further_and_drags_less_along(tmp_path: Path) -> None:
    torch.manual_seed(0)
    scene = _scene(torch.randn(40, W_DIM) * 0.02)
    offset = torch.zeros(ROWS, W_DIM)
    offset[0, :2] = torch.tensor([0.1, 0.3])
    work = Refinement(scene, "beard", Dial(offset))
    before, leak = work.loss, abs(work.leak["yaw"])
    work.go_on(4.0, torch.Generator().manual_seed(1), Log(tmp_path / "log.jsonl"))
    assert work.loss < before
    assert abs(work.leak["yaw"]) < leak / 2
    assert float(work.values[:, -1, 0].mean() - work.values[:, 0, 0].mean()) > work.before["moves"]
