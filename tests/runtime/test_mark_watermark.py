"""The watermark: what is embedded comes back after damage, and nothing comes out of unmarked pictures."""

from __future__ import annotations

import io
from datetime import date
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime import native
from doppelgan.runtime.mark import payload, watermark
from doppelgan.runtime.mark.payload import Payload
from doppelgan.runtime.native import reference
from numpy.typing import NDArray
from PIL import Image as pillow

from .kernels import IMPLEMENTATIONS, kernel, needs_native, noise

PAYLOAD = Payload("avatar", date(2026, 11, 27))


def scene(height: int = 360, width: int = 480, seed: int = 0) -> NDArray[np.uint8]:
    """A soft picture with edges and a little noise."""
    rng = np.random.default_rng(seed)
    coarse = pillow.fromarray(rng.integers(30, 220, (6, 8, 3), np.uint8))
    image = np.array(coarse.resize((width, height), pillow.Resampling.BICUBIC)).astype(int)
    image[height // 3 : height // 2, width // 4 : width // 2] += 25
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def marked(image: NDArray[np.uint8], **options: Any) -> NDArray[np.uint8]:
    copy = image.copy()
    watermark.embed(copy, None, PAYLOAD, **options)
    return copy


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    data = io.BytesIO()
    pillow.fromarray(image[..., ::-1]).save(data, "JPEG", quality=quality)
    return np.asarray(pillow.open(data))[..., ::-1].copy()


def scaled(image: NDArray[np.uint8], by: float) -> NDArray[np.uint8]:
    size = round(image.shape[1] * by), round(image.shape[0] * by)
    return np.array(pillow.fromarray(image).resize(size, pillow.Resampling.BICUBIC))


class TestPayload:
    def test_says_tool_kind_and_day(self) -> None:
        for kind in payload.KINDS:
            sent = Payload(kind, date(2031, 2, 3))
            assert Payload.from_bits(sent.to_bits()) == sent
        assert Payload("edited", date(2020, 1, 1)).to_bits() & 0xFFFF == 0
        with pytest.raises(ValueError, match="kind: expected one of edited"):
            Payload("painted", date(2026, 1, 1))

    def test_words_differ_in_sixteen_bits_and_any_seven_wrong_ones_are_corrected(self) -> None:
        rng = np.random.default_rng(3)
        for _ in range(30):
            one, other = (int(v) for v in rng.choice(1 << 22, 2, replace=False))
            assert np.count_nonzero(payload.encode(one) != payload.encode(other)) >= 16
            received = payload.encode(one).astype(np.float32)
            received[rng.choice(64, 7, replace=False)] *= -1
            assert payload.decode(received) == (one, 64 - 14)

    def test_refuses_more_than_22_bits(self) -> None:
        with pytest.raises(ValueError, match="22 bits"):
            payload.encode(1 << 22)


class TestMark:
    def test_is_at_least_42_db_away_and_only_where_something_changed(self) -> None:
        before = scene()
        changed = before.copy()
        changed[100:300, 150:350] += 3
        after = changed.copy()
        count = watermark.embed(after, before, PAYLOAD)
        assert count == 200 * 200 * 3
        inside = after[100:300, 150:350].astype(float) - changed[100:300, 150:350]
        assert 10 * np.log10(255**2 / (inside**2).mean()) > 42
        after[100:300, 150:350] = changed[100:300, 150:350]
        np.testing.assert_array_equal(after, changed)

    def test_a_frame_without_a_change_leaves_byte_for_byte(self) -> None:
        frame = scene()
        after = frame.copy()
        assert watermark.embed(after, frame, PAYLOAD) == 0
        np.testing.assert_array_equal(after, frame)

    def test_nothing_outside_the_box_is_touched(self) -> None:
        frame = scene()
        after = frame.copy()
        watermark.embed(after, None, PAYLOAD, box=(-50, 20, 60, 9999))
        assert (after[20:, :60] != frame[20:, :60]).any()
        after[20:, :60] = frame[20:, :60]
        np.testing.assert_array_equal(after, frame)
        assert watermark.embed(after, None, PAYLOAD, box=(50, 50, 50, 80)) == 0

    def test_frames_of_many_lines_carry_a_larger_tile(self) -> None:
        assert watermark.period_of(480, 640) == watermark.period_of(720, 1280) == 125
        assert watermark.period_of(1920, 1080) == round(125 * 1.5)

    def test_phases_never_change_between_versions(self) -> None:
        tile = watermark.tile(PAYLOAD.to_bits(), 1.5)
        assert tile.dtype == np.int8
        assert abs(float(tile.std()) - 1.5) < 0.05
        assert tile[0, :12].tolist() == [-2, -2, -2, -1, -1, 0, 1, 2, 2, 2, 1, 1]


class TestDetection:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda image: image,
            lambda image: jpeg(image, 75),
            lambda image: jpeg(image[:, ::-1], 75),
            lambda image: scaled(image, 0.5),
            lambda image: scaled(image, 1.3),
            lambda image: image[60:314, 90:429].copy(),
            lambda image: np.clip((image.astype(float) - 128) * 0.8 + 100, 0, 255).astype(np.uint8),
        ],
        ids=["none", "jpeg", "mirrored jpeg", "half", "1.3", "crop", "light"],
    )
    def test_survives(self, damage: Any) -> None:
        result = watermark.detect(damage(marked(scene())))
        assert result.found
        assert result.payload == PAYLOAD
        assert result.false_alarm < 1e-9

    def test_tells_scale_and_mirror(self) -> None:
        assert watermark.detect(scaled(marked(scene()), 0.5)).scale == pytest.approx(0.5, rel=0.01)
        assert watermark.detect(marked(scene())[:, ::-1].copy()).mirrored
        assert not watermark.detect(marked(scene())).mirrored

    def test_frames_too_noisy_alone_are_read_together(self) -> None:
        rng = np.random.default_rng(5)
        image = marked(scene(200, 256)).astype(float)
        frames = [np.clip(image + rng.normal(0, 30, image.shape), 0, 255).astype(np.uint8) for _ in range(40)]
        assert not watermark.detect(frames[0]).found
        detector = watermark.Detector()
        for frame in frames:
            detector.add(frame)
        assert detector.pictures == 40
        assert detector.detect().payload == PAYLOAD
        detector.add(scene(200, 300))  # another size starts anew
        assert detector.pictures == 1

    def test_unmarked_pictures_and_other_keys_show_nothing(self) -> None:
        for image in (
            scene(),
            noise(np.random.default_rng(0), 200, 200, 3),
            np.full((99, 99, 3), 7, np.uint8),
        ):
            result = watermark.detect(image)
            assert not result.found
            assert result.false_alarm > 1e-3
        assert not watermark.detect(marked(scene(140, 190), key=b"another")).found
        assert watermark.detect(marked(scene(), key=b"another"), key=b"another").found

    def test_the_key_comes_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        public = marked(scene(140, 190))
        monkeypatch.setenv("DOPPELGAN_MARK_KEY", "mine")
        assert not watermark.detect(public).found
        assert watermark.detect(marked(scene())).found

    def test_small_and_empty_inputs_say_nothing(self) -> None:
        assert not watermark.Detector().detect().found
        assert not watermark.detect(np.zeros((8, 8, 3), np.uint8)).found

    def test_stated_bounds_are_those_of_chance(self) -> None:
        """Sums of cosines of random phases stay within the bound, which is not far off."""
        rng = np.random.default_rng(9)
        sums = np.cos(rng.uniform(0, 2 * np.pi, (20_000, 50))).sum(axis=1)
        for score in (8.0, 12.0, 15.0):
            share = float((sums > score).mean())
            bound = watermark._probability(score, 50, 1)
            assert share <= bound <= max(20 * share, 1e-3)


class TestKernel:
    @needs_native
    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("area", [(0, 0, 97, 61), (3, 5, 90, 6), (10, 0, 10, 9), (95, 60, 97, 61)])
    @pytest.mark.parametrize("size", [1, 7, 125])
    def test_agrees_with_its_twin(self, size: int, area: tuple[int, int, int, int], threads: int) -> None:
        rng = np.random.default_rng(4)
        frame, tile = noise(rng, 61, 97, 3), rng.integers(-128, 128, (size, size)).astype(np.int8)
        original = np.where(rng.random(frame.shape) < 0.5, frame, noise(rng, 61, 97, 3)).astype(np.uint8)
        for before in (None, original):
            expected, got = frame.copy(), frame.copy()
            count = reference.add_tile(expected, before, tile, area)
            assert native.add_tile(got, before, tile, area, threads) == count
            np.testing.assert_array_equal(got, expected)

    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    def test_refuses_what_does_not_fit(self, implementation: str) -> None:
        add = kernel(implementation, "add_tile")
        frame, tile = np.zeros((9, 8, 3), np.uint8), np.zeros((3, 3), np.int8)
        for area in ((-1, 0, 4, 4), (0, 0, 9, 4), (0, 0, 4, 10), (5, 0, 4, 4)):
            with pytest.raises(ValueError, match="area must lie within"):
                add(frame, None, tile, area)
        with pytest.raises(ValueError, match="original must have"):
            add(frame, np.zeros((8, 8, 3), np.uint8), tile, (0, 0, 1, 1))
        with pytest.raises(ValueError, match="tile must be square"):
            add(frame, None, tile[:2], (0, 0, 1, 1))

    def test_names_a_wrong_dtype(self) -> None:
        frame = np.zeros((9, 8, 3), np.uint8)
        with pytest.raises(TypeError, match="tile: expected"):
            native.add_tile(frame, None, np.zeros((3, 3), np.uint8), (0, 0, 1, 1))  # type: ignore[arg-type]
