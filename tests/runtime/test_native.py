"""Crop and paste: the C++ against its NumPy twins, the twins against what can be said in closed form."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime import native
from doppelgan.runtime.native import reference
from numpy.typing import NDArray

from .kernels import IMPLEMENTATIONS, kernel, needs_native, noise, run_python

# name: (scale, roll_deg, center x, center y, size of the square, frame width, frame height)
SQUARES = {
    "upright, pixel for pixel": (1.0, 0, 80, 60, 64, 160, 120),
    "enlarged": (0.37, 12, 80, 60, 64, 160, 120),
    "rotated": (1.1, -33, 80, 60, 64, 160, 120),
    "upside down": (1.17, 180, 80, 60, 64, 160, 120),
    "2x2 samples": (1.4, 25, 80, 60, 64, 160, 120),
    "boxes of 2": (1.7, 7, 80, 60, 64, 160, 120),
    "boxes of 3": (3.2, 95, 80, 60, 64, 161, 122),
    "boxes of 4": (4.0, -3, 80, 60, 64, 163, 121),
    "boxes of 7, odd frame": (7.3, 40, 20, 90, 33, 157, 119),
    "over the left edge": (1.0, 5, 3, 60, 64, 160, 120),
    "over the lower right corner": (1.45, 45, 160, 120, 64, 160, 120),
    "over every edge": (2.6, 10, 80, 60, 90, 160, 120),
    "wholly outside": (1.0, 10, -500, 900, 32, 160, 120),
    "far outside, boxes": (2.2, 10, 4000, -900, 32, 160, 120),
    "one pixel": (1.0, 0, 12.3, 45.6, 1, 160, 120),
    "tiny face": (0.02, 70, 80, 60, 64, 160, 120),
    "wider than a block": (0.8, 20, 150, 100, 301, 320, 240),
    "one-pixel frame": (1.0, 0, 0, 0, 16, 1, 1),
    "two-pixel frame, boxes": (5.0, 30, 1, 1, 16, 2, 3),
}


def similarity(scale: float, roll_deg: float, x: float, y: float, size: int) -> NDArray[np.float64]:
    """Square pixel -> frame pixel, the square's middle at (x, y)."""
    cos, sin = scale * np.cos(np.deg2rad(roll_deg)), scale * np.sin(np.deg2rad(roll_deg))
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, np.array([x, y]) - linear @ np.full(2, (size - 1) / 2)])


def colors(*rgb: float) -> NDArray[np.float32]:
    return np.array(rgb, np.float32)


@needs_native
@pytest.mark.usefixtures("instructions")
class TestAgainstTheTwin:
    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("name", SQUARES)
    def test_crops_agree(self, name: str, threads: int) -> None:
        scale, roll, x, y, size, width, height = SQUARES[name]
        image = noise(np.random.default_rng(1), height, width, 3)
        matrix = similarity(scale, roll, x, y, size)
        expected, got = np.empty((2, 3, size, size), np.float32)
        reference.warp_crop(image, matrix, expected)
        native.warp_crop(image, matrix, got, threads)
        np.testing.assert_allclose(got, expected, atol=5e-5)  # a level is 8e-3; positions are exact to 2**-16

    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("masked", [True, False], ids=["mask", "no mask"])
    @pytest.mark.parametrize("name", SQUARES)
    @pytest.mark.parametrize("inverse", [False, True], ids=["enlarging", "reducing"])
    def test_pastes_agree(self, name: str, masked: bool, inverse: bool, threads: int) -> None:
        scale, roll, x, y, size, width, height = SQUARES[name]
        rng = np.random.default_rng(2)
        image = rng.normal(0, 0.8, (3, size, size)).astype(np.float32)
        mask = np.clip(rng.normal(0.3, 0.6, (size, size)), -0.2, 1.2).astype(np.float32) if masked else None
        if mask is not None:
            mask[: size // 3], mask[:, -size // 4 :] = 0, 0
        matrix = similarity(1 / scale if inverse else scale, roll, x, y, size)
        expected, got = noise(rng, height, width, 3), np.empty((height, width, 3), np.uint8)
        got[:] = expected
        gain, offset = colors(1.2, 0.8, 1.0), colors(0.1, -0.2, 0.0)
        reference.paste(expected, image, mask, matrix, gain, offset)
        native.paste(got, image, mask, matrix, gain, offset, threads)
        apart = np.abs(got.astype(int) - expected)
        assert apart.max() <= 1  # shares of neighbors are rounded: halves may round the other way ...
        assert np.count_nonzero(apart) <= max(2, 1e-3 * apart.size)  # ... but rarely

    @pytest.mark.parametrize("scale", [1.0, 1.4, 2.0, 3.0])
    def test_crops_that_touch_the_last_pixel_agree(self, scale: float) -> None:
        # Eight pixels are read at once: the frame ends where its memory does, and nothing beyond must matter.
        size = 64
        for shift in np.linspace(-9, 3, 40):
            side = round(size * scale)
            image = noise(np.random.default_rng(4), side, side, 3)
            matrix = similarity(scale, 0, side / 2 + shift, side / 2 + shift, size)
            expected, got = np.empty((2, 3, size, size), np.float32)
            reference.warp_crop(image, matrix, expected)
            native.warp_crop(image, matrix, got)
            np.testing.assert_allclose(got, expected, atol=5e-5)

    def test_crops_that_skip_most_of_a_panorama_agree(self) -> None:
        image = noise(np.random.default_rng(7), 192, 12800, 3)
        matrix = similarity(64 * 20, 0, 6400, 96, 9)  # 20 boxes from pixel to pixel
        expected, got = np.empty((2, 3, 9, 9), np.float32)
        reference.warp_crop(image, matrix, expected)
        native.warp_crop(image, matrix, got)
        np.testing.assert_allclose(got, expected, atol=5e-5)

    def test_black_beside_white_agrees(self) -> None:
        image = np.zeros((64, 64, 3), np.uint8)
        image[::2, ::2], image[1::2, 1::2] = 255, 255
        matrix = similarity(0.31, 33, 32, 32, 128)
        expected, got = np.empty((2, 3, 128, 128), np.float32)
        reference.warp_crop(image, matrix, expected)
        native.warp_crop(image, matrix, got)
        np.testing.assert_allclose(got, expected, atol=5e-5)

    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("pasted", [False, True])
    def test_work_that_is_worth_several_threads_agrees(self, threads: int, pasted: bool) -> None:
        rng = np.random.default_rng(5)
        frame, matrix = noise(rng, 700, 720, 3), similarity(1.2, -14, 350, 340, 800)
        if pasted:
            image = rng.normal(0, 0.8, (3, 800, 800)).astype(np.float32)
            got, expected = frame.copy(), frame.copy()
            reference.paste(expected, image, None, matrix, colors(1, 1, 1), colors(0, 0, 0))
            native.paste(got, image, None, matrix, colors(1, 1, 1), colors(0, 0, 0), threads)
            apart = np.abs(got.astype(int) - expected)
            assert apart.max() <= 1
            assert np.count_nonzero(apart) <= 1e-3 * apart.size
            return
        expected, got = np.empty((2, 3, 800, 800), np.float32)
        reference.warp_crop(frame, matrix, expected)
        native.warp_crop(frame, matrix, got, threads)
        np.testing.assert_allclose(got, expected, atol=5e-5)

    @pytest.mark.parametrize("border", native.BORDERS)
    @pytest.mark.parametrize("name", SQUARES)
    def test_crops_with_every_border_agree(self, name: str, border: Any) -> None:
        scale, roll, x, y, size, width, height = SQUARES[name]
        image = noise(np.random.default_rng(1), height, width, 3)
        matrix = similarity(scale, roll, x, y, size)
        expected, got = np.empty((2, 3, size, size), np.float32)
        reference.warp_crop(image, matrix, expected, 1, border)
        native.warp_crop(image, matrix, got, 1, border)
        np.testing.assert_allclose(got, expected, atol=5e-5)

    def test_200_random_squares_agree(self) -> None:
        rng = np.random.default_rng(3)
        for _ in range(200):
            height, width, size = (int(n) for n in rng.integers(1, 90, 3))
            scale = float(2 ** rng.uniform(-5, 4))
            matrix = similarity(
                scale, rng.uniform(-180, 180), rng.uniform(-1, 2) * width, rng.uniform(-1, 2) * height, size
            )
            image = noise(rng, height, width, 3)
            expected, got = np.empty((2, 3, size, size), np.float32)
            border = native.BORDERS[int(rng.integers(3))]
            reference.warp_crop(image, matrix, expected, 1, border)
            native.warp_crop(image, matrix, got, 1, border)
            np.testing.assert_allclose(got, expected, atol=5e-5)
            face = rng.normal(0, 1, (3, size, size)).astype(np.float32)
            mask = rng.random((size, size), np.float32) if rng.random() < 0.5 else None
            wanted = image.copy()
            reference.paste(wanted, face, mask, matrix, colors(1, 1, 1), colors(0, 0, 0))
            native.paste(image, face, mask, matrix, colors(1, 1, 1), colors(0, 0, 0))
            assert np.abs(image.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestCrop:
    def test_identity_copies_pixels_as_rgb_between_minus_one_and_one(self, implementation: str) -> None:
        image = noise(np.random.default_rng(0), 40, 50, 3)
        out = np.empty((3, 32, 32), np.float32)
        kernel(implementation, "warp_crop")(image, similarity(1, 0, 15.5 + 7, 15.5 + 5, 32), out)
        expected = image[5:37, 7:39, ::-1].transpose(2, 0, 1) / 127.5 - 1
        np.testing.assert_allclose(out, expected, atol=1e-6)

    def test_reflects_without_repeating_the_border_pixel(self, implementation: str) -> None:
        image = np.repeat(np.array([[10, 20, 40]], np.uint8)[..., None], 3, axis=2)
        image = np.repeat(image, 3, axis=0)
        out = np.empty((3, 7, 7), np.float32)
        kernel(implementation, "warp_crop")(image, similarity(1, 0, 1, 1, 7), out)
        np.testing.assert_allclose((out[0, 3] + 1) * 127.5, [40, 20, 10, 20, 40, 20, 10], atol=1e-3)

    @pytest.mark.parametrize(
        ("border", "levels"),
        [("repeat", [10, 10, 10, 20, 40, 40, 40]), ("black", [0, 0, 10, 20, 40, 0, 0])],
    )
    def test_repeats_the_border_pixel_or_finds_black(
        self, implementation: str, border: str, levels: list[int]
    ) -> None:
        image = np.repeat(np.array([[10, 20, 40]], np.uint8)[..., None], 3, axis=2)
        image = np.repeat(image, 3, axis=0)
        out = np.empty((3, 7, 7), np.float32)
        kernel(implementation, "warp_crop")(image, similarity(1, 0, 1, 1, 7), out, 1, border)
        np.testing.assert_allclose((out[0, 3] + 1) * 127.5, levels, atol=1e-3)
        outside = levels if border == "repeat" else [0] * 7
        np.testing.assert_allclose((out[0, 0] + 1) * 127.5, outside, atol=1e-3)  # above the image

    @pytest.mark.parametrize("scale", [0.5, 1.0, 1.3, 1.59, 1.6, 2.4, 3.7, 8.2])
    def test_keeps_positions_at_every_scale(self, implementation: str, scale: float) -> None:
        y, x = np.mgrid[0:200, 0:240]
        ramp = np.stack([x, y, x], axis=-1).astype(np.uint8)
        matrix = similarity(scale, 20, 120, 100, 16)
        out = np.empty((3, 16, 16), np.float32)
        kernel(implementation, "warp_crop")(ramp, matrix, out)
        j, i = np.meshgrid(np.arange(16), np.arange(16))
        expected = matrix[:, :2] @ np.stack([j.ravel(), i.ravel()]) + matrix[:, 2:]
        got = np.stack([out[0].ravel(), out[1].ravel()]) * 127.5 + 127.5
        np.testing.assert_allclose(got, expected, atol=0.51)  # box means are rounded to whole levels

    @pytest.mark.parametrize("scale", [1.45, 2.0, 3.0, 5.5])
    def test_does_not_alias(self, implementation: str, scale: float) -> None:
        stripes = np.zeros((256, 256, 3), np.uint8)
        stripes[:, ::2] = 255  # the finest pattern a frame can hold: must become even grey, not wide bands
        out = np.empty((3, 24, 24), np.float32)
        kernel(implementation, "warp_crop")(stripes, similarity(scale, 0, 127.3, 128, 24), out)
        assert np.abs(out).max() < 0.45

    @pytest.mark.parametrize(
        ("matrix", "message"),
        [
            (np.full((2, 3), np.nan), "finite"),
            (np.zeros((2, 3)), "invertible"),
            (np.array([[1.0, 0, 0], [0, 2, 0]]), "similarity"),
            (np.array([[1.0, 0.5, 0], [0, 1, 0]]), "similarity"),
            (np.array([[1e9, 0, 0], [0, 1e9, 0]]), "within"),
        ],
        ids=["nan", "singular", "stretched", "sheared", "huge"],
    )
    def test_refuses_unusable_matrices(
        self, implementation: str, matrix: NDArray[np.float64], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            kernel(implementation, "warp_crop")(
                np.zeros((9, 9, 3), np.uint8), matrix, np.empty((3, 4, 4), np.float32)
            )
        frame, image = np.zeros((9, 9, 3), np.uint8), np.zeros((3, 4, 4), np.float32)
        with pytest.raises(ValueError, match=message):
            kernel(implementation, "paste")(frame, image, None, matrix, colors(1, 1, 1), colors(0, 0, 0))

    def test_refuses_empty_frames_and_oblong_outputs(self, implementation: str) -> None:
        crop = kernel(implementation, "warp_crop")
        with pytest.raises(ValueError, match="image must not be empty"):
            crop(np.zeros((0, 9, 3), np.uint8), similarity(1, 0, 4, 4, 4), np.empty((3, 4, 4), np.float32))
        with pytest.raises(ValueError, match="out must be square"):
            crop(np.zeros((9, 9, 3), np.uint8), similarity(1, 0, 4, 4, 4), np.empty((3, 4, 5), np.float32))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestPaste:
    def paste(
        self, implementation: str, frame: Any, image: Any, mask: Any, matrix: Any, gain: Any, offset: Any
    ) -> None:
        kernel(implementation, "paste")(frame, image, mask, matrix, gain, offset)

    def test_undoes_the_crop(self, implementation: str) -> None:
        frame = noise(np.random.default_rng(0), 60, 80, 3)
        matrix = similarity(1, 0, 40, 30, 25)
        crop = np.empty((3, 25, 25), np.float32)
        kernel(implementation, "warp_crop")(frame, matrix, crop)
        blank = np.zeros_like(frame)
        self.paste(implementation, blank, crop, None, matrix, colors(1, 1, 1), colors(0, 0, 0))
        np.testing.assert_array_equal(blank[18:43, 28:53], frame[18:43, 28:53])
        blank[18:43, 28:53] = 0
        assert not blank.any()  # and touches nothing else

    def test_applies_gain_and_offset_then_clamps(self, implementation: str) -> None:
        frame = np.zeros((8, 8, 3), np.uint8)
        image = np.full((3, 8, 8), 0.2, np.float32)
        matrix = similarity(1, 0, 3.5, 3.5, 8)
        self.paste(implementation, frame, image, None, matrix, colors(2, -1, 9), colors(0.1, 0, 0))
        b, g, r = 255, round(-0.2 * 127.5 + 127.5), round(0.5 * 127.5 + 127.5)
        assert np.abs(frame.astype(int) - (b, g, r)).max() <= 1

    def test_blends_by_the_mask(self, implementation: str) -> None:
        frame = np.full((8, 8, 3), 100, np.uint8)
        mask = np.repeat(np.linspace(0, 1, 8, dtype=np.float32)[None], 8, axis=0)
        matrix = similarity(1, 0, 3.5, 3.5, 8)
        self.paste(
            implementation,
            frame,
            np.ones((3, 8, 8), np.float32),
            mask,
            matrix,
            colors(1, 1, 1),
            colors(0, 0, 0),
        )
        np.testing.assert_allclose(frame[4, :, 0], 100 + 155 * mask[4], atol=1.0)

    def test_covers_an_edge_pixel_by_half(self, implementation: str) -> None:
        frame = np.zeros((9, 20, 3), np.uint8)
        matrix = similarity(1, 0, 10, 4, 8)  # the square spans 6 .. 14: its edges halve the pixels 6 and 14
        self.paste(
            implementation,
            frame,
            np.ones((3, 8, 8), np.float32),
            None,
            matrix,
            colors(1, 1, 1),
            colors(0, 0, 0),
        )
        assert abs(int(frame[4, 6, 0]) - 128) <= 1
        assert abs(int(frame[4, 14, 0]) - 128) <= 1
        assert frame[4, 7:14].min() == 255
        assert frame[4, :6].max() == frame[4, 15:].max() == 0

    @pytest.mark.parametrize("mask", ["zero", "elsewhere"])
    def test_changes_nothing_where_nothing_shows(self, implementation: str, mask: str) -> None:
        frame = noise(np.random.default_rng(0), 30, 30, 3)
        before = frame.copy()
        hidden = np.zeros((16, 16), np.float32) if mask == "zero" else None
        matrix = similarity(1.3, 20, 15 if mask == "zero" else 500, 15, 16)
        self.paste(
            implementation,
            frame,
            np.ones((3, 16, 16), np.float32),
            hidden,
            matrix,
            colors(1, 1, 1),
            colors(0, 0, 0),
        )
        np.testing.assert_array_equal(frame, before)

    def test_takes_not_a_number_as_black(self, implementation: str) -> None:
        frame = np.full((6, 6, 3), 9, np.uint8)
        image = np.full((3, 6, 6), np.nan, np.float32)
        matrix = similarity(1, 0, 2.5, 2.5, 6)
        self.paste(implementation, frame, image, None, matrix, colors(1, 1, 1), colors(0, 0, 0))
        assert not frame.any()

    def test_refuses_a_mask_of_another_size(self, implementation: str) -> None:
        with pytest.raises(ValueError, match="mask must have the image's size"):
            self.paste(
                implementation,
                np.zeros((9, 9, 3), np.uint8),
                np.zeros((3, 8, 8), np.float32),
                np.zeros((7, 8), np.float32),
                similarity(1, 0, 4, 4, 8),
                colors(1, 1, 1),
                colors(0, 0, 0),
            )


FRAME = np.zeros((20, 30, 3), np.uint8)
OUT = np.empty((3, 8, 8), np.float32)
MATRIX = similarity(1, 0, 10, 10, 8)
READ_ONLY = FRAME.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (FRAME.astype(np.float32), MATRIX, OUT),
            r"image: expected uint8 \[\?,\?,3\], got float32 \[20, 30, 3\]",
        ),
        ((FRAME[..., 0], MATRIX, OUT), r"image: expected uint8 \[\?,\?,3\], got uint8 \[20, 30\]"),
        ((FRAME[:, ::2], MATRIX, OUT), "image: expected a C-contiguous array"),
        ((FRAME[..., ::-1], MATRIX, OUT), "image: expected a C-contiguous array"),
        ((FRAME.tolist(), MATRIX, OUT), "image: expected an array"),
        ((FRAME, MATRIX.astype(np.float32), OUT), r"matrix: expected float64 \[2,3\], got float32"),
        ((FRAME, np.eye(3), OUT), r"matrix: expected float64 \[2,3\], got float64 \[3, 3\]"),
        ((FRAME, MATRIX, OUT.astype(np.float64)), r"out: expected float32 \[3,\?,\?\], got float64"),
        ((FRAME, MATRIX, np.empty((8, 8, 3), np.float32).transpose(2, 0, 1)), "out: expected a C-contiguous"),
    ],
)
def test_crop_refuses_what_it_would_have_to_convert(arguments: Any, message: str, monkeypatch: Any) -> None:
    with pytest.raises(TypeError, match=message):
        native.warp_crop(*arguments)
    monkeypatch.setattr(native.loading, "kernels", None)
    with pytest.raises(TypeError, match=message):
        native.warp_crop(*arguments)


def test_paste_refuses_a_read_only_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (READ_ONLY, OUT, None, MATRIX, colors(1, 1, 1), colors(0, 0, 0))
    with pytest.raises(TypeError, match="frame: expected a writable array"):
        native.paste(*arguments)
    monkeypatch.setattr(native.loading, "kernels", None)
    with pytest.raises(TypeError, match="frame: expected a writable array"):
        native.paste(*arguments)


def test_crop_refuses_an_unknown_border() -> None:
    with pytest.raises(ValueError, match="border: expected one of reflect, repeat, black, got 'wrap'"):
        native.warp_crop(FRAME, MATRIX, OUT, 1, "wrap")  # type: ignore[arg-type]


def test_crop_reads_a_read_only_frame() -> None:
    native.warp_crop(READ_ONLY, MATRIX, OUT)


HIDE = "import sys; sys.modules['doppelgan.runtime.native._native'] = None; "


def test_missing_extension_falls_back_and_says_so_once() -> None:
    result = run_python(
        HIDE + "from doppelgan.runtime import native; import doppelgan.runtime.native; print(native.KERNELS)"
    )
    assert result.stdout.strip() == "numpy"
    assert result.stderr.count("NativeKernelsMissing") == 1
    assert "install a C++17 compiler" in result.stderr


def test_numpy_can_be_chosen_without_a_warning() -> None:
    result = run_python(
        "from doppelgan.runtime import native; print(native.KERNELS)", DOPPELGAN_KERNELS="numpy"
    )
    assert (result.stdout.strip(), result.stderr) == ("numpy", "")


STUBGEN = "-m nanobind.stubgen -q -P -m doppelgan.runtime.native._native -o"


@needs_native
@pytest.mark.skipif(native.synthesis() is None, reason="the stub is that of a module with its networks")
def test_the_stub_is_the_one_that_nanobind_writes(tmp_path: Path) -> None:
    fresh, ours = tmp_path / "_native.pyi", Path(native.__file__).with_name("_native.pyi")
    subprocess.run([sys.executable, *STUBGEN.split(), str(fresh)], check=True)
    written = ast.dump(ast.parse(fresh.read_text())) == ast.dump(ast.parse(ours.read_text()))
    assert written, f"write it anew: python {STUBGEN} {ours} && ruff format {ours}"
