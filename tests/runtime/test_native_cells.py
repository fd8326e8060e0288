"""Smooth maps of the square, judged: the C++ against its NumPy twin. What they mean is in test_masks.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from doppelgan.runtime import native
from doppelgan.runtime.types import Floats

from .kernels import IMPLEMENTATIONS, needs_native

SIZES = [1, 2, 3, 15, 16, 31, 32, 33, 64, 100]


class Maps:
    """Random ones of one size."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self._rng, self._size = np.random.default_rng(seed), size

    def one(self, least: float = 0.0, most: float = 1.0) -> Floats:
        return self._rng.uniform(least, most, (self._size, self._size)).astype(np.float32)

    def three(self, least: float = 0.0, most: float = 1.0) -> Floats:
        return np.stack([self.one(least, most) for _ in range(3)])


def calls(size: int, seed: int = 0) -> dict[str, tuple[Any, ...]]:
    """Arguments of each kernel, as masks.py gives them."""
    maps = Maps(size, seed)
    before = maps.three(-0.3, 0.3), maps.one(0, 0.05), maps.one()
    shares, rules = (0.6, 0.1, 0.7, 0.2), (1.0, 0.38, 0.2, 0.8, 0.25)
    drawn, change = maps.three(0, 2), maps.three(-0.9, 0.3)
    return {
        "blurred": (maps.three(-1, 1), 3.0),
        "read_light": (
            *(drawn * maps.three(0.6, 1.4), drawn, maps.one(), maps.three(0.9, 1.1)),
            *(1.0, 10.0, 0.3, 0.35, 1.8, 0.05, 1e-6),
        ),
        "agree": (maps.three(-0.5, 0.5), maps.one(), before, *shares, *rules),
        "covered": (change, drawn, 1.0, 0.05),
        "reachable": (
            *(change, change * maps.three(0.5, 1.5), maps.one(0.5, 1), maps.one()),
            *(1.0, 1.2, 0.65, 0.6, 0.7),
        ),
        "strength": (maps.one(0, 0.3), 0.7, 0.03, 0.2, 0.85),
        "amounts": (
            *(maps.three(0.5, 1.5), maps.three(), tuple(maps.one() for _ in range(4))),
            *(maps.three(-9, 9)[:2], maps.one(), 5.0),
        ),
        "belonging": (maps.one(), maps.one(0, 2), maps.one(), maps.one(), 0.32, 0.9, 0.3, 0.8),
    }


KERNELS = list(calls(1))


def run(name: str, arguments: tuple[Any, ...], implementation: str) -> list[Floats]:
    with pytest.MonkeyPatch.context() as patch:
        if implementation == "numpy":
            patch.setattr(native.loading, "kernels", None)
        result = getattr(native, name)(*arguments)
    return list(result) if isinstance(result, tuple) else [result]


@needs_native
@pytest.mark.usefixtures("instructions")
class TestAgainstTheTwin:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("name", KERNELS)
    def test_all_sizes_give_the_same(self, name: str, size: int) -> None:
        for seed in range(3):
            arguments = calls(size, seed)[name]
            wanted, got = (run(name, arguments, way) for way in ("numpy", "native"))
            for one, other in zip(wanted, got, strict=True):
                assert other.dtype == np.float32
                np.testing.assert_allclose(other, one, atol=5e-6)

    def test_amounts_of_what_stays_are_the_same(self) -> None:
        gain, limit, maps, *_, far = calls(31)["amounts"]
        wanted, got = (
            run("amounts", (gain, limit, maps, None, None, far), way)[0] for way in ("numpy", "native")
        )
        np.testing.assert_allclose(got, wanted, atol=5e-6)

    @pytest.mark.parametrize("sigma", [1e-3, 0.7, 1.0, 1.2, 3.9, 4.1, 8.0, 10.0, 20.0, 1e4])
    @pytest.mark.parametrize("size", SIZES)
    def test_blurs_of_all_widths_are_the_same(self, size: int, sigma: float) -> None:
        arguments = Maps(size).three(-1, 1), sigma
        wanted, got = (run("blurred", arguments, way)[0] for way in ("numpy", "native"))
        np.testing.assert_allclose(got, wanted, atol=1e-6)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
    @pytest.mark.parametrize("name", KERNELS)
    def test_what_is_no_picture_spoils_nothing_else(self, name: str, value: float) -> None:
        """A map with such cells may come to nothing; what is told of others afterwards is as before."""
        good = calls(64)[name]
        wanted = run(name, good, "native")
        for k, array in enumerate(good):
            if isinstance(array, np.ndarray):
                broken = array.copy()
                broken.reshape(-1)[[0, 777, -1]] = value
                run(name, (*good[:k], broken, *good[k + 1 :]), "native")
        for one, other in zip(wanted, run(name, good, "native"), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestContracts:
    def test_light_is_not_told_where_next_to_nothing_agrees(self, implementation: str) -> None:
        seen, drawn, face, gain, *numbers = calls(16)["read_light"]
        numbers[-1] = 0.99
        assert run("read_light", (seen, drawn, face, gain, *numbers), implementation) == [None]

    def test_what_is_no_number_stays_none(self, implementation: str) -> None:
        (blurred,) = run("blurred", (np.full((2, 16, 16), np.nan, np.float32), 1.0), implementation)
        assert np.isnan(blurred).all()

    def test_refuses_a_flow_without_what_is_inside(self, implementation: str) -> None:
        gain, limit, maps, flow, inside, far = calls(8)["amounts"]
        for one, other in ((flow, None), (None, inside)):
            with pytest.raises(ValueError, match="flow and inside together"):
                run("amounts", (gain, limit, maps, one, other, far), implementation)
        with pytest.raises(ValueError, match="of one size"):
            run("amounts", (gain, limit, maps, flow[:, :4, :4].copy(), inside, far), implementation)

    @pytest.mark.parametrize("name", KERNELS)
    def test_refuses_what_does_not_fit(self, name: str, implementation: str) -> None:
        good, other = calls(8)[name], calls(7)[name]
        with pytest.raises(TypeError, match=r"expected float32 \["):
            run(name, (good[0].astype(np.float64), *good[1:]), implementation)
        with pytest.raises(TypeError, match="C-contiguous"):
            run(name, (good[0][..., ::2, ::2], *good[1:]), implementation)
        with pytest.raises(ValueError, match="square and not empty"):
            run(name, (np.ascontiguousarray(good[0][..., :4, :]), *good[1:]), implementation)
        if isinstance(good[1], np.ndarray):
            with pytest.raises(ValueError, match="of one size"):
                run(name, (good[0], other[1], *good[2:]), implementation)

    @pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan])
    def test_refuses_a_blur_of_no_width(self, sigma: float, implementation: str) -> None:
        with pytest.raises(ValueError, match="width must be above 0"):
            run("blurred", (Maps(8).three(), sigma), implementation)
