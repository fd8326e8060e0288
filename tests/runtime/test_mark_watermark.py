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
    watermark.embed(copy, PAYLOAD, **options)
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


def psnr_db(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / ((one.astype(float) - other) ** 2).mean()))


class TestMark:
    def test_is_faint_where_it_would_show_and_stronger_where_it_is_hidden(self) -> None:
        smooth = np.full((320, 320, 3), 120, np.uint8)
        busy = noise(np.random.default_rng(1), 320, 320, 3) // 2 + 64
        assert 50 < psnr_db(marked(smooth), smooth) < 52
        assert 42.5 < psnr_db(marked(busy), busy) < 44
        beside = np.concatenate([smooth, busy], axis=1)
        apart = marked(beside).astype(float) - beside
        assert 2.3 < apart[:, 340:].std() / apart[:, :300].std() < 2.9
        # No edge between them: from cell to cell strength changes by degrees.
        columns = [apart[:, x : x + 8].std() for x in range(304, 336, 8)]
        assert columns == sorted(columns)

    def test_all_channels_get_the_same(self) -> None:
        before = np.clip(scene(), 10, 245)  # nothing saturates
        added = marked(before).astype(int) - before
        np.testing.assert_array_equal(added[..., 0], added[..., 1])
        np.testing.assert_array_equal(added[..., 0], added[..., 2])

    def test_frames_of_many_lines_carry_a_larger_tile(self) -> None:
        assert watermark.period_of(480, 640) == watermark.period_of(720, 1280) == 125
        assert watermark.period_of(1920, 1080) == round(125 * 1.5)

    def test_phases_never_change_between_versions(self) -> None:
        tile = watermark.tile(PAYLOAD.to_bits())
        assert tile.dtype == np.int8
        assert abs(float(tile.std()) - 32) < 0.5
        assert tile[0, :12].tolist() == [-35, -33, -34, -31, -19, 1, 25, 42, 48, 42, 31, 24]


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
    @pytest.mark.parametrize("shape", [(61, 97), (1, 1), (2, 40), (33, 1), (160, 16), (240, 900)])
    @pytest.mark.parametrize("size", [1, 7, 125])
    def test_agrees_with_its_twin(self, size: int, shape: tuple[int, int], threads: int) -> None:
        rng = np.random.default_rng(4)
        frame, tile = noise(rng, *shape, 3), rng.integers(-128, 128, (size, size)).astype(np.int8)
        frame[: shape[0] // 2] //= 32  # other strengths, and values that saturate
        looked_up = np.minimum(np.arange(256), 240).astype(np.uint8)
        expected, got = frame.copy(), frame.copy()
        reference.add_tile(expected, tile, looked_up)
        native.add_tile(got, tile, looked_up, threads)
        np.testing.assert_array_equal(got, expected)

    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    def test_refuses_what_does_not_fit(self, implementation: str) -> None:
        add = kernel(implementation, "add_tile")
        frame, tile = np.zeros((9, 8, 3), np.uint8), np.zeros((3, 3), np.int8)
        strengths = watermark.strengths()
        with pytest.raises(ValueError, match="tile must be square"):
            add(frame, tile[:2], strengths)
        with pytest.raises(ValueError, match="240 or less"):
            add(frame, tile, np.full(256, 241, np.uint8))
        with pytest.raises(ValueError, match="frame must not be empty"):
            add(frame[:0], tile, strengths)

    def test_names_a_wrong_dtype(self) -> None:
        frame = np.zeros((9, 8, 3), np.uint8)
        with pytest.raises(TypeError, match="tile: expected"):
            native.add_tile(frame, np.zeros((3, 3), np.uint8), watermark.strengths())  # type: ignore[arg-type]
