"""Colors of picture files by profile, gray that stays gray, transparency."""

from __future__ import annotations

import io
import zlib
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.mark import watermark
from doppelgan.runtime.mark.payload import Payload
from doppelgan.runtime.pictures import Picture, read_picture, write_picture
from doppelgan.runtime.pictures.files import lost_in, read_image, write_image
from doppelgan.runtime.pictures.picture import over_ground
from PIL import Image as pillow
from PIL import ImageCms

from .sample_pictures import ADOBE, P3, SRGB, colors, cutout, icc, in_space, photo


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize(("primaries", "gamma"), [(P3, 2.2), (ADOBE, 2.19921875), (SRGB, 1.8)])
def test_colors_of_other_profiles_are_converted_and_srgb_is_embedded(
    tmp_path: Path, suffix: str, primaries: list[tuple[float, float]], gamma: float
) -> None:
    stored = in_space(colors(), primaries, gamma)
    assert np.abs(stored.astype(int) - colors()).max() > 8
    path = tmp_path / f"a{suffix}"
    quality: dict[str, Any] = {".jpg": {"quality": 98, "subsampling": 0}, ".webp": {"lossless": True}}.get(
        suffix, {}
    )
    pillow.fromarray(stored[..., ::-1].copy()).save(path, icc_profile=icc(primaries, gamma), **quality)

    picture = read_picture(path)

    assert np.abs(picture.image.astype(int) - colors()).max() <= (6 if suffix == ".jpg" else 2)
    assert picture.tagged
    write_picture(tmp_path / "out.png", picture)
    with pillow.open(tmp_path / "out.png") as written:
        assert "sRGB" in ImageCms.getProfileDescription(
            ImageCms.ImageCmsProfile(io.BytesIO(written.info["icc_profile"]))
        )
    np.testing.assert_array_equal(read_image(tmp_path / "out.png"), picture.image)


def test_srgb_by_whatever_name_keeps_every_number(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pillow.fromarray(photo()[..., ::-1].copy()).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photo())


def test_a_picture_without_a_profile_gets_none(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", photo())
    with pillow.open(tmp_path / "a.png") as written:
        assert "icc_profile" not in written.info


def test_gray_profiles_are_converted_and_gray_stays_gray(tmp_path: Path) -> None:
    gray = colors()[..., 0]
    linear = np.where(gray / 255 <= 0.04045, gray / 255 / 12.92, ((gray / 255 + 0.055) / 1.055) ** 2.4)
    stored = (linear ** (1 / 1.4) * 255 + 0.5).astype(np.uint8)
    pillow.fromarray(stored).save(tmp_path / "a.png", icc_profile=icc(SRGB, 1.4, b"GRAY"))
    picture = read_picture(tmp_path / "a.png")
    assert picture.gray
    assert np.abs(picture.image[..., 0].astype(int) - gray).max() <= 2
    write_picture(tmp_path / "out.png", picture)
    with pillow.open(tmp_path / "out.png") as written:
        assert (written.mode, "icc_profile" in written.info) == ("L", False)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    pillow.fromarray(photo()[..., ::-1].copy()).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - photo()).mean() < 4


def test_a_cameras_adobe_rgb_is_converted_without_a_profile(tmp_path: Path) -> None:
    exif = pillow.Exif()
    exif.get_ifd(0x8769)[0xA001] = 2
    stored = in_space(colors(), ADOBE, 2.19921875)
    pillow.fromarray(stored[..., ::-1].copy()).save(
        tmp_path / "_DSC1.jpg", quality=98, subsampling=0, exif=exif
    )
    picture = read_picture(tmp_path / "_DSC1.jpg")
    assert np.abs(picture.image.astype(int) - colors()).max() <= 6
    write_picture(tmp_path / "out.jpg", picture)
    with pillow.open(tmp_path / "out.jpg") as written:
        assert written.getexif().get_ifd(0x8769)[0xA001] == 1, "sRGB now"


def test_a_gamma_of_a_png_is_followed(tmp_path: Path) -> None:
    linear = in_space(colors(), SRGB, 1.0)
    pillow.fromarray(linear[..., ::-1].copy()).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    chunk = b"gAMA" + (100000).to_bytes(4, "big")
    chunk = b"\0\0\0\x04" + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - colors()).max() <= 3


@pytest.mark.parametrize(
    "profile", [b"nonsense", icc(P3, 2.2)[:200], icc(P3, 2.2, b"GRAY"), icc(P3, 2.2)[:-30]]
)
def test_a_useless_profile_is_left_out_and_named(tmp_path: Path, profile: bytes) -> None:
    pillow.fromarray(photo()[..., ::-1].copy()).save(tmp_path / "a.png", icc_profile=profile)
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.image, photo())
    (note,) = picture.notes
    assert note.startswith("its color profile is ")
    assert note.endswith(" and is left out")


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_gray_is_scaled_not_cut_off(tmp_path: Path, mode: str) -> None:
    gray = photo()[..., 0]
    deep = {
        "I;16": gray.astype(np.uint16) * 256,
        "I": gray.astype(np.int32) * 256,
        "F": gray / np.float32(255),
    }[mode]
    pillow.fromarray(deep).save(tmp_path / "a.tif")
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.image[..., 2], gray)
    assert picture.gray
    assert picture.notes == ("it has more than 8 bits a channel: 8 are kept",)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_deep_color_is_reduced_and_that_is_said(tmp_path: Path, name: str, channels: int) -> None:
    deep = np.dstack([photo(), np.full((60, 80), 255, np.uint8)])[..., :channels].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / name), deep)
    picture = read_picture(tmp_path / name)
    np.testing.assert_array_equal(picture.image, photo())
    assert picture.notes == ("it has more than 8 bits a channel: 8 are kept",)


@pytest.mark.parametrize("tag", [0xC612, 0x00FE])
def test_a_cameras_raw_file_is_not_its_preview(tmp_path: Path, tag: int) -> None:
    value = b"\x01\x04\0\0" if tag == 0xC612 else 1
    pillow.fromarray(photo()).save(tmp_path / "IMG_1.dng", "TIFF", tiffinfo={tag: value})
    with pytest.raises(SourceError, match=r"IMG_1\.dng: expected a picture, got a camera's raw file"):
        read_image(tmp_path / "IMG_1.dng")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_transparency_is_kept_and_what_did_not_change_is_exact(tmp_path: Path, suffix: str) -> None:
    image, alpha = cutout()
    cv2.imwrite(str(tmp_path / "in.png"), np.dstack([image, alpha]))
    picture = read_picture(tmp_path / "in.png")
    assert (picture.image[:, :30] == 255).all(), "hidden colors must not be seen by the networks"

    frame = picture.image.copy()
    frame[20:40, 25:60] = (10, 200, 90)
    write_picture(tmp_path / f"out{suffix}", picture.edited(frame))

    written = read_picture(tmp_path / f"out{suffix}")
    same = np.ones((60, 80), bool)
    same[20:40, 25:60] = False
    assert written.alpha is not None
    np.testing.assert_array_equal(written.alpha[same], alpha[same])
    if suffix != ".webp":  # which is lossy
        assert np.abs(written.image.astype(int) - frame).max() <= 2
        assert written.colors is not None
        np.testing.assert_array_equal(written.colors[same], image[same])
        np.testing.assert_array_equal(written.colors[25, 50], (10, 200, 90))
    assert written.alpha[25, 50] == 255
    assert written.alpha[25, 27] == 245, "drawn on nothing: as opaque as its darkest channel asks for"


def test_a_watermark_alone_shows_nothing_on_what_is_transparent() -> None:
    y, x = np.mgrid[0:600, 0:400]
    colors = np.dstack([x // 2, y // 3, (x + y) // 5]).astype(np.uint8)
    alpha = np.where(x < 200, 0, np.where(x < 300, 128, 255)).astype(np.uint8)
    picture = Picture(over_ground(colors, alpha), alpha, colors)
    frame = picture.image.copy()
    watermark.embed(frame, Payload("edited", date(2026, 11, 27)))
    assert (frame != picture.image).any(axis=2)[:, :200].mean() > 0.1

    edited = picture.edited(frame)
    assert edited.alpha is not None
    assert edited.colors is not None
    np.testing.assert_array_equal(edited.alpha[:, :200], 0)
    np.testing.assert_array_equal(edited.colors[:, :200], colors[:, :200])
    np.testing.assert_array_equal(edited.colors[:, 300:], frame[:, 300:])
    shown = over_ground(edited.colors, edited.alpha)
    assert np.abs(shown[:, 200:].astype(int) - frame[:, 200:]).max() <= 1


def test_formats_without_transparency_lie_on_white_and_say_so(tmp_path: Path) -> None:
    image, alpha = cutout()
    cv2.imwrite(str(tmp_path / "in.png"), np.dstack([image, alpha]))
    picture = read_picture(tmp_path / "in.png")
    write_picture(tmp_path / "out.bmp", picture)
    assert (read_image(tmp_path / "out.bmp")[:, :30] == 255).all()
    assert lost_in(picture, ".JPG") == [
        "JPEG has no transparency, so the picture lies on white; .png and .webp keep it"
    ]
    assert lost_in(picture, ".png") == []


def test_two_pictures_side_by_side_keep_what_each_has() -> None:
    image, alpha = cutout()
    clear = Picture(image, alpha, image)
    both = clear.beside(Picture(photo()))
    assert both.alpha is not None
    assert both.image.shape == (60, 160, 3)
    np.testing.assert_array_equal(both.alpha[:, :80], alpha)
    assert (both.alpha[:, 80:] == 255).all()
    assert clear.replaced(photo()).alpha is None


def test_a_gray_picture_stays_gray_whatever_was_drawn(tmp_path: Path) -> None:
    gray = np.repeat(photo()[..., :1], 3, axis=2)
    pillow.fromarray(gray).save(tmp_path / "a.jpg", quality=95)  # as color
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.gray
    frame = picture.image.copy()
    frame[10:20, 10:20] = (0, 0, 255)
    edited = picture.edited(frame)
    np.testing.assert_array_equal(edited.image[0], picture.image[0])
    assert set(edited.image[12, 12].tolist()) == {54}
    assert not picture.replaced(frame).gray
