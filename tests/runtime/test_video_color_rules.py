"""What is assumed where a file does not state its colors, tables for high dynamic range, changing sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from doppelgan.runtime.source import color as colors
from doppelgan.runtime.source import open_source
from doppelgan.runtime.source.color import (
    HLG,
    PQ,
    Color,
    ColorReader,
    color_of,
    cube,
    darkening,
    has_alpha,
    hlg_nits,
    is_transparent,
    pq_nits,
    roll_off,
    to_sdr,
)
from doppelgan.runtime.types import Deep

from .media import Pictures, write_media


def picture_of(**stated: Any) -> Any:
    """A decoded picture that states what is given."""
    form = SimpleNamespace(
        components=[SimpleNamespace(bits=8, is_alpha=False)] * 3, is_rgb=False, name="yuv420p"
    )
    usual = {
        "format": form,
        "colorspace": 2,
        "height": 480,
        "color_range": 0,
        "color_primaries": 2,
        "color_trc": 2,
    }
    return SimpleNamespace(**{**usual, **stated})


RGB = SimpleNamespace(components=[SimpleNamespace(bits=8, is_alpha=False)] * 3, is_rgb=True, name="gbrp")


@pytest.mark.parametrize(
    ("stated", "matrix"),
    [
        ({"height": 719}, 6),
        ({"height": 720}, 1),
        ({"colorspace": 3}, 6),
        *(({"colorspace": n, "height": 1080}, n) for n in (1, 4, 5, 6, 7, 9, 10)),
        ({"colorspace": 0}, 1),
        ({"format": RGB}, 1),
        ({"format": RGB, "colorspace": 9}, 1),
    ],
)
def test_the_matrix_is_the_stated_one_or_what_players_assume(stated: dict[str, Any], matrix: int) -> None:
    assert color_of(picture_of(**stated)).matrix == matrix


@pytest.mark.parametrize(
    ("stated", "full"),
    [
        ({"color_range": 2}, True),
        ({"color_range": 1}, False),
        ({}, False),
        ({"color_range": 2, "format": RGB}, False),
    ],
)
def test_the_range_is_full_where_that_is_stated(stated: dict[str, Any], full: bool) -> None:
    assert color_of(picture_of(**stated)).full_range is full


def test_bits_are_those_of_the_deepest_channel() -> None:
    for bits, deepest in (((8, 10, 12), 12), ((5, 6, 5), 6), ((), 8)):
        form = SimpleNamespace(components=[SimpleNamespace(bits=n) for n in bits], is_rgb=False)
        assert color_of(picture_of(format=form)).bits == deepest


def test_primaries_and_transfer_are_those_of_the_picture_else_of_its_codec() -> None:
    context = SimpleNamespace(color_primaries=5, color_trc=4)
    both = color_of(picture_of(color_primaries=9, color_trc=16), context)
    assert (both.primaries, both.transfer) == (9, 16)
    old = picture_of()
    del old.color_primaries, old.color_trc
    assert (color_of(old, context).primaries, color_of(old, context).transfer) == (5, 4)
    assert (color_of(old).primaries, color_of(old).transfer) == (2, 2)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (1, ""), (2, ""), (14, "")])
def test_two_transfers_are_of_high_dynamic_range(transfer: int, name: str) -> None:
    assert Color(transfer=transfer).hdr == name


def test_what_states_nothing_is_bt709_of_eight_bits_for_good() -> None:
    color = Color()
    assert not color.hdr
    assert dataclasses.astuple(color) == (1, 1, 1, False, 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        color.bits = 10  # type: ignore[misc]


@pytest.mark.parametrize(
    ("form", "alpha"),
    [("bgra", True), ("yuva420p", True), ("pal8", True), ("bgr24", False), ("yuv420p", False)],
)
def test_transparency_is_alpha_below_full(form: str, alpha: bool) -> None:
    plain = SimpleNamespace(format=av.VideoFormat(form, 8, 8))
    assert has_alpha(plain) is alpha
    for least, shown in ((255, False), (254, alpha)):
        pixels = np.full((8, 8, 4), 255, np.uint8)
        pixels[3, 4, 3] = least
        pixels[5, 5, 2] = 0
        plain.to_ndarray = lambda pixels=pixels, **form: pixels
        assert is_transparent(plain) is shown


@pytest.mark.parametrize(("size", "matrix"), [((32, 720), 1), ((32, 704), 5)])
@pytest.mark.parametrize("form", ["yuv444p", "yuv444p10le"])
def test_untagged_pictures_are_read_as_players_show_them(
    tmp_path: Path, size: tuple[int, int], matrix: int, form: str
) -> None:
    image = np.full((size[1], size[0], 3), (40, 60, 200), np.uint8)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, form
        picture = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
            format=form, dst_colorspace=matrix, dst_color_range=1, interpolation=0x40010
        )
        picture.colorspace, picture.color_range = 2, 0
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    with open_source(tmp_path / "a.mkv") as source:
        read = next(source).image
    assert np.abs(read.astype(int) - image).max() <= 2


@pytest.mark.parametrize("deep", [False, True])
def test_pictures_whose_size_changes_midway_get_that_of_the_first(tmp_path: Path, deep: bool) -> None:
    form = "yuv420p10le" if deep else "yuv420p"
    reader = ColorReader(Color(bits=10 if deep else 8), (64, 48))
    for size in ((64, 48), (96, 80), (32, 32), (64, 48)):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[:, size[0] // 2 :] = 200
        picture = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
            format=form, dst_colorspace=1, dst_color_range=1, interpolation=0x40010
        )
        picture.colorspace = 1
        read, whole = reader(picture)
        assert read.shape == (48, 64, 3)
        assert (whole is not None) is deep
        assert np.abs(read[:, :26].astype(int)).max() <= 3
        assert np.abs(read[:, 38:].astype(int) - 200).max() <= 3


def test_another_size_is_scaled_smoothly_and_the_same_one_not_at_all() -> None:
    reader = ColorReader(Color(bits=10), (64, 48))
    step = np.zeros((24, 32, 3), np.uint8)
    step[:, 16:] = 200
    for size, values in (((32, 24), 3), ((64, 48), 2)):
        image = np.kron(step, np.ones((size[1] // 24, size[0] // 32, 1), np.uint8))
        picture = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
            format="yuv444p10le", dst_colorspace=1, dst_color_range=1, interpolation=0x40010
        )
        picture.colorspace = 1
        read, _ = reader(picture)
        assert (len(np.unique(read[20])) > 2) is (values == 3)


@pytest.mark.parametrize(
    "image", [np.arange(256, dtype=np.uint8).reshape(16, 16), np.full((16, 16), 7, np.uint8)]
)
def test_a_level_is_added_where_pictures_come_out_too_dark_but_not_to_black_or_white(
    monkeypatch: pytest.MonkeyPatch, image: Any
) -> None:
    for dark in (True, False):
        monkeypatch.setattr(colors, "darkening", lambda *args, dark=dark: dark)
        reader = ColorReader(Color(), (16, 16))
        for shift in (0, 3):  # the second picture finds what the first has left
            levels = np.roll(image, shift)
            shown = np.repeat(levels[..., None], 3, 2)
            reader._to_bgr = SimpleNamespace(  # type: ignore[assignment]
                reformat=lambda *args, shown=shown, **options: SimpleNamespace(to_ndarray=shown.copy)
            )
            read, deep = reader(picture_of(colorspace=1))
            assert deep is None
            inside = (levels > 0) & (levels < 255)
            expected = levels + (inside if dark else 0)
            assert (read == np.repeat(expected.astype(np.uint8)[..., None], 3, 2)).all()


@pytest.mark.parametrize(("form", "rgb"), [("gbrp", True), ("bgr0", True), ("yuv420p", False)])
def test_whether_pictures_come_out_too_dark_is_measured(
    monkeypatch: pytest.MonkeyPatch, form: str, rgb: bool
) -> None:
    """By the difference between the fast way and the exact one, on colors of the middle."""
    asked: list[Any] = []
    samples: list[Any] = []

    class Reformatter:
        def reformat(self, picture: Any, **options: Any) -> Any:
            asked.append(options)
            if options["format"] == form:
                samples.append(picture.to_ndarray())
                return picture
            deep = options["format"] == "bgr48le"
            level = 100 * 256 + int(256 * darker) if deep else 100
            return SimpleNamespace(to_ndarray=lambda: np.full((8, 8, 3), level, np.uint16))

    monkeypatch.setattr(colors, "VideoReformatter", Reformatter)
    for darker in (0.0, 0.5, 0.51, 1.0):
        darkening.cache_clear()
        assert darkening(form, 1, True) is (darker > 0.5 and not rgb)
        darkening.cache_clear()
    if not rgb:
        # Few enough pixels to cost nothing; each color fills a chroma sample of any format.
        assert samples[0].shape == (32, 32, 3)
        assert (samples[0] == np.kron(samples[0][::8, ::8], np.ones((8, 8, 1)))).all()
        assert (samples[0].min() >= 64) & (samples[0].max() < 192)
        assert len(np.unique(samples[0].reshape(-1, 3), axis=0)) == 16
        assert asked[0]["dst_color_range"] == av.video.reformatter.ColorRange.JPEG
        assert asked[0]["dst_colorspace"] == av.video.reformatter.Colorspace.ITU709
        assert [one.get("interpolation") for one in asked[:3]] == [colors.ROUNDED, colors.ROUNDED, None]
        darkening(form, 9, False)
        assert (asked[-3]["dst_colorspace"], asked[-3]["dst_color_range"]) == (
            9,
            av.video.reformatter.ColorRange.MPEG,
        )
        darkening.cache_clear()


@pytest.mark.parametrize(("form", "deep"), [("bgra", False), ("rgba64le", True)])
def test_half_transparent_pixels_are_half_black(form: str, deep: bool) -> None:
    most = 65535 if deep else 255
    pixels = np.zeros((2, 4, 4), np.uint16 if deep else np.uint8)
    pixels[0] = [[most, most, most, alpha] for alpha in (0, most // 2, most - 1, most)]
    pixels[1, :, 2 if not deep else 0] = [most, most // 3, 10, 0]  # red
    pixels[1, :, 3] = most
    picture = av.VideoFrame.from_ndarray(pixels, format=form)
    image, whole = ColorReader(Color(bits=16 if deep else 8), (4, 2))(picture)
    assert (whole is not None) is deep
    assert image[0, :, 0].tolist() == pytest.approx([0, 127, 254, 255], abs=1)
    assert image[1, :, 2].tolist() == pytest.approx([255, 85, 0 if deep else 10, 0], abs=0)
    assert (image[1, :, :2] == 0).all()


# High dynamic range


def test_the_table_for_high_dynamic_range_holds_what_the_formula_says() -> None:
    head, size, *values = cube(PQ, 9, 1000.0).split()
    assert (head, size) == ("LUT_3D_SIZE", "49")
    table = np.array(values, np.float64).reshape(49, 49, 49, 3)
    # The input of 65535 is more than white, which is 255 * 256 as libswscale counts.
    axis = np.linspace(0, 1, 49) * 65535 / (255 * 256)
    for blue, green, red in ((0, 0, 0), (48, 48, 48), (10, 20, 30), (0, 0, 40), (33, 2, 0)):
        signal = np.array([[axis[red], axis[green], axis[blue]]])
        expected = to_sdr(signal, PQ, 9, 1000.0)[0] * Deep.WHITE / 65535
        assert table[blue, green, red] == pytest.approx(expected, abs=1e-6)


def test_a_peak_below_white_leaves_the_light_as_it_is() -> None:
    signal = np.array([[0.3, 0.4, 0.5], [0.2, 0.2, 0.2]])
    light = pq_nits(signal) / 203
    for peak_nits in (50.0, 100.0, 203.0):
        assert to_sdr(signal, PQ, 1, peak_nits) == pytest.approx(np.clip(light, 0, 1) ** (1 / 2.4))


def test_only_bt2020_is_brought_into_bt709() -> None:
    signal = np.array([[0.5, 0.3, 0.3]])
    assert to_sdr(signal, PQ, 9)[0, 0] > to_sdr(signal, PQ, 1)[0, 0]
    assert to_sdr(np.zeros((1, 3)), HLG).tolist() == [[0, 0, 0]]
    gray = np.array([[0.4, 0.4, 0.4]])
    assert to_sdr(gray, HLG, 9) == pytest.approx(to_sdr(gray, HLG, 1), abs=1e-3)
    assert to_sdr(gray, HLG, 1) == pytest.approx((hlg_nits(gray) / 203) ** (1 / 2.4))


def test_colors_keep_their_hue_where_highlights_roll_off() -> None:
    signal = np.array([[0.7, 0.65, 0.6]])
    light = pq_nits(signal)[0] / 203
    shown = to_sdr(signal, PQ, 1, 1000.0)[0] ** 2.4
    assert shown / shown[0] == pytest.approx(light / light[0])
    assert shown.max() == pytest.approx(roll_off(np.array([light.max()]), 1000 / 203)[0])


@pytest.mark.parametrize("signal", [-0.5, 0.0])
def test_what_is_below_black_is_black_and_above_white_is_the_most(signal: float) -> None:
    low, high = np.array([[signal] * 3]), np.array([[1.5] * 3])
    assert pq_nits(low) == pytest.approx(0, abs=1e-6)
    assert hlg_nits(low) == pytest.approx(0, abs=1e-6)
    assert pq_nits(high) == pytest.approx(10000)
    assert hlg_nits(high) == pytest.approx(1000, rel=1e-4)


def test_curves_go_on_without_a_step() -> None:
    for curve in (pq_nits, hlg_nits):
        values = curve(np.repeat(np.linspace(0, 1, 2001)[:, None], 3, 1))[:, 0]
        steps = np.diff(values)
        assert (steps >= 0).all()
        assert np.abs(np.diff(steps)).max() < 0.02 * steps.max()
    for peak in (1.5, 5.0, 50.0):
        light = np.linspace(0, peak, 4001)
        steps = np.diff(roll_off(light, peak)) / (light[1] - light[0])
        assert roll_off(light, peak)[-1] == pytest.approx(1)
        assert steps[light[1:] <= 0.75] == pytest.approx(1)
        assert steps[light[1:] > 0.76][0] == pytest.approx(1, abs=0.15)  # as steep as below
        assert np.diff(steps).max() < 1e-6


def test_of_hlg_the_eye_sees_the_luminance_brightened() -> None:
    """BT.2100: the display's light is the scene's, times its luminance to the power of 0.2."""
    for signal in ([0.5, 0.2, 0.1], [0.9, 0.6, 0.75]):
        a, b, c = 0.17883277, 1 - 4 * 0.17883277, 0.5 - 0.17883277 * np.log(4 * 0.17883277)
        scene = np.array([s**2 / 3 if s <= 0.5 else (np.exp((s - c) / a) + b) / 12 for s in signal])
        luminance = scene @ [0.2627, 0.6780, 0.0593]
        assert hlg_nits(np.array([signal]))[0] == pytest.approx(1000 * luminance**0.2 * scene, rel=1e-5)


def test_of_pq_every_constant_is_that_of_the_standard() -> None:
    nits = np.array([0.0001, 0.01, 1.0, 50.0, 203.0, 4000.0, 10000.0])
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (nits / 10000) ** m1
    signal = ((c1 + c2 * power) / (1 + c3 * power)) ** m2
    assert pq_nits(signal) == pytest.approx(nits, rel=1e-6)


def test_a_film_of_high_dynamic_range_is_read_frame_by_frame(tmp_path: Path) -> None:
    images = [np.full((48, 64, 3), level * 256, np.uint16) for level in (60, 100, 140)]
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": PQ, "color_range": 1}
    pictures = Pictures(
        images=images, frames=3, codec="ffv1", pixel_format="yuv420p10le", options={}, tags=tags
    )
    path = write_media(tmp_path / "a.mkv", pictures)
    with pytest.warns(UserWarning, match="high dynamic range"), open_source(path) as source:
        read = list(source)
    for frame, level in zip(read, (60, 100, 140), strict=True):
        shown = 255 * to_sdr(np.full((1, 3), level / 255), PQ)[0, 0]
        assert frame.image.mean() == pytest.approx(shown, abs=2)
        assert frame.deep is not None
