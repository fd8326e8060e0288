"""Picture files: what is read is upright BGR, what is written is whole; OpenCV as a second opinion."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from doppelgan.runtime.errors import SinkError, SourceError
from doppelgan.runtime.pictures import Metadata, Picture, read_picture, write_picture
from doppelgan.runtime.pictures import files as pictures
from doppelgan.runtime.pictures.files import MAX_PIXELS, WRITABLE, lost_in, read_image, write_image
from doppelgan.runtime.types import Image
from PIL import Image as pillow
from PIL import ImageCms, ImageFile, PngImagePlugin

LOSSLESS = sorted(WRITABLE - {".jpg", ".jpeg", ".webp"})


def photo() -> Image:
    """Smooth, with every color: 60x80."""
    noise = np.random.default_rng(2).normal(size=(60, 80, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 3) * 500 + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_files_bring_back_every_pixel(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, photo())
    np.testing.assert_array_equal(read_image(path), photo())
    np.testing.assert_array_equal(cv2.imread(str(path)), photo())


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_lossy_files_come_close_and_closer_with_quality(tmp_path: Path, suffix: str) -> None:
    good, bad = tmp_path / f"good{suffix}", tmp_path / f"bad{suffix}"
    write_image(good, photo())
    write_image(bad, photo(), quality=20)
    assert np.abs(read_image(good) - photo().astype(int)).mean() < 4
    assert good.stat().st_size > 1.5 * bad.stat().st_size
    assert np.abs(read_image(bad).astype(int) - cv2.imread(str(bad))).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_photos_are_turned_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a{suffix}"
    exif = pillow.Exif()
    exif[0x0112] = orientation
    pillow.fromarray(photo()).save(path, exif=exif)

    image = read_image(path)

    assert image.shape == ((60, 80, 3) if orientation < 5 else (80, 60, 3))
    np.testing.assert_array_equal(image, cv2.imread(str(path)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "P+alpha", "RGBA", "I;16"])
def test_grey_palettes_and_transparency_become_bgr(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    if mode == "I;16":
        deep = photo()[..., 0].astype(np.uint16) * 257
        cv2.imwrite(str(path), deep)
    elif mode == "P+alpha":
        one = pillow.fromarray(photo()).convert("P")
        one.save(path, transparency=bytes(range(256)))
    else:
        one = pillow.fromarray(photo()).convert(mode)
        if mode in ("LA", "RGBA"):
            one.putalpha(pillow.fromarray(np.tile(np.arange(80, dtype=np.uint8) * 3, (60, 1))))
        one.save(path)

    picture = read_picture(path)
    image = picture.image

    assert (image.shape, image.dtype, image.flags.writeable) == ((60, 80, 3), np.uint8, True)
    colors = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture.gray == (mode in ("1", "L", "LA", "I;16"))
    if mode in ("LA", "RGBA", "P+alpha"):
        alpha = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., 3:]
        np.testing.assert_array_equal(picture.alpha, alpha[..., 0])
        np.testing.assert_array_equal(picture.colors, colors)
        over_white = colors * (alpha / 255) + 255 * (1 - alpha / 255)
        np.testing.assert_allclose(image, over_white, atol=0.51)
    else:
        assert picture.alpha is None
        np.testing.assert_array_equal(image, colors)


def test_names_may_have_any_letters(tmp_path: Path) -> None:
    path = tmp_path / "neuer Ordner" / "grüße 文.png"
    write_image(path, photo())
    np.testing.assert_array_equal(read_image(path), photo())


def eps() -> bytes:
    data = io.BytesIO()
    pillow.fromarray(photo()).save(data, "EPS")
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"", "an empty file"),
        (b"nonsense", "something that Pillow cannot decode"),
        (cv2.imencode(".png", photo())[1].tobytes()[:300], "a damaged PNG"),
        (cv2.imencode(".jpg", photo())[1].tobytes()[:700], "a damaged JPEG"),
        (b"\0\0\0\x20ftypisom" + bytes(30), "a video"),
        (b"%PDF-1.7", "a PDF"),
        (eps(), "PostScript"),
    ],
    ids=["empty", "text", "half a PNG", "half a JPEG", "video", "PDF", "EPS"],
)
def test_what_is_no_picture_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, got: str
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)  # a decoder of EPS would start a program
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(SourceError, match=rf"a\.png: expected an image, got {got}; convert it to PNG"):
        read_image(tmp_path / "a.png")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"b\.png: expected an image, got: No such file .*; check the path"):
        read_image(tmp_path / "b.png")


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"a\.gif: expected a file that ends in one of \.bmp .*, got '\.gif'"):
        write_image(tmp_path / "a.gif", photo())


def test_what_does_not_fit_a_format_says_what_does(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"2x66000 pixels do not go into JPEG: .*; try \.png"):
        write_image(tmp_path / "a.jpg", np.zeros((66000, 2, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", photo())
    before = (tmp_path / "a.png").read_bytes()

    def full(path: Path, data: memoryview) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "write_whole", full)
    with pytest.raises(SinkError, match=r"a\.png: cannot write: No space left on device; check space"):
        write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# --- color ----------------------------------------------------------------------------------------


def icc(primaries: list[tuple[float, float]], gamma: float, space: bytes = b"RGB ") -> bytes:
    """A matrix and gamma profile; primaries as xy of red, green, blue for a D65 white."""

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1.0, (1 - x - y) / y])

    white, d50 = xyz(0.3127, 0.3290), np.array([0.9642, 1.0, 0.8249])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    columns = np.stack([xyz(*p) for p in primaries], axis=1)
    columns = columns * np.linalg.solve(columns, white)
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ white)) @ bradford
    columns = adapt @ columns

    def number(value: float) -> bytes:
        return round(value * 65536).to_bytes(4, "big", signed=True)

    def position(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    curve = b"curv\0\0\0\0" + (1).to_bytes(4, "big") + int(gamma * 256).to_bytes(2, "big") + b"\0\0"
    title = b"test\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + len(title).to_bytes(4, "big") + title + bytes(79),
        b"wtpt": position(d50),
    }
    if space == b"RGB ":
        for name, column in zip("rgb", columns.T, strict=True):
            tags[f"{name}XYZ".encode()], tags[f"{name}TRC".encode()] = position(column), curve
    else:
        tags[b"kTRC"] = curve
    table, content = len(tags).to_bytes(4, "big"), b""
    first = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + (first + len(content)).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        content += data
    header = bytearray(128)
    header[0:4] = (first + len(content)).to_bytes(4, "big")
    header[8:12], header[12:16], header[16:20], header[20:24] = b"\x02\x10\0\0", b"mntr", space, b"XYZ "
    header[36:40], header[68:80] = b"acsp", b"".join(map(number, d50))
    return bytes(header) + table + content


SRGB = [(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)]
P3 = [(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)]
ADOBE = [(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)]


def colors() -> Image:
    """Well within sRGB, so that other spaces can hold it: 64x64, smooth."""
    rows, columns = np.mgrid[:64, :64]
    return np.stack([60 + 2 * rows, 100 + rows, 60 + 2 * columns], axis=-1).astype(np.uint8)


def in_space(image: Image, primaries: list[tuple[float, float]], gamma: float) -> Image:
    """sRGB BGR -> numbers of another space, by the definitions of both."""

    def matrix(points: list[tuple[float, float]]) -> np.ndarray:
        white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in points]).T
        return columns * np.linalg.solve(columns, white)

    value = image[..., ::-1] / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    other = linear @ (np.linalg.inv(matrix(primaries)) @ matrix(SRGB)).T
    return (np.clip(other, 0, 1) ** (1 / gamma) * 255 + 0.5).astype(np.uint8)[..., ::-1].copy()


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


# --- transparency -----------------------------------------------------------------------------------


def cutout() -> tuple[Image, np.ndarray]:
    """BGR with magenta hidden under transparency, and alpha."""
    image, alpha = photo(), np.full((60, 80), 255, np.uint8)
    alpha[:, :30], alpha[:, 30:40] = 0, 100
    image[alpha == 0] = (255, 0, 255)
    return image, alpha


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


# --- metadata ---------------------------------------------------------------------------------------

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" photo="yes"/>'
    b"<xmp:Thumbnails>AAAA</xmp:Thumbnails></x:xmpmeta>"
)


def photograph(path: Path) -> None:
    """A camera's JPEG: turned, with Exif, its thumbnail, place, XMP, IPTC, a comment and a resolution."""
    exif = pillow.Exif()
    exif[0x010F], exif[0x0112], exif[0x8298] = "Maker", 6, "Somebody"
    exif.get_ifd(0x8769).update({0xA002: 80, 0xA003: 60, 0x829A: 0.01})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6)})
    iptc = b"\x1c\x02\x74\x00\x04Mine"
    block = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc + b"\0" * (len(iptc) % 2)
    segment = b"Photoshop 3.0\0" + block
    extra = b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment
    data = io.BytesIO()
    pillow.fromarray(photo()).save(
        data, "JPEG", exif=exif, xmp=XMP, comment=b"hello", dpi=(300, 300), extra=extra
    )
    path.write_bytes(data.getvalue())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_metadata_is_kept_but_for_what_is_no_longer_true(tmp_path: Path, suffix: str) -> None:
    photograph(tmp_path / "in.jpg")
    picture = read_picture(tmp_path / "in.jpg")
    write_picture(tmp_path / f"out{suffix}", picture.edited(picture.image))

    with pillow.open(tmp_path / f"out{suffix}") as written:
        exif = written.getexif()
        assert (exif[0x010F], exif[0x8298]) == ("Maker", "Somebody")
        assert exif.get(0x0112, 1) == 1, "upright now"
        assert exif.get_ifd(0x8825)[1] == "N"
        inner = exif.get_ifd(0x8769)
        assert inner[0x829A] == pytest.approx(0.01)
        assert (inner[0xA002], inner[0xA003]) == (60, 80)
        info = written.info
        xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        assert b'photo="yes"' in xmp
        assert b"Orientation" not in xmp
        assert b"Thumbnails" not in xmp
        if suffix != ".webp":
            assert info["dpi"] == pytest.approx((300, 300), rel=1e-3)
        if suffix == ".jpg":
            assert info["comment"] == b"hello"
            assert info["photoshop"][0x0404].startswith(b"\x1c\x02\x74\x00\x04Mine")
    assert read_image(tmp_path / f"out{suffix}").shape == (80, 60, 3)


def test_a_thumbnail_of_the_picture_as_it_was_does_not_stay(tmp_path: Path) -> None:
    small = io.BytesIO()
    pillow.new("RGB", (16, 12)).save(small, "JPEG")
    thumbnail = small.getvalue()
    first, second = 8, 8 + 2 + 12 + 4
    at = second + 2 + 24 + 4
    tiff = b"II*\0" + struct.pack("<I", first)
    tiff += struct.pack("<HHHIII", 1, 0x4746, 3, 1, 7, second)  # a rating
    tiff += struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, at, 0x0202, 4, 1, len(thumbnail), 0) + thumbnail
    pillow.fromarray(photo()).save(tmp_path / "in.jpg", exif=b"Exif\0\0" + tiff)
    assert thumbnail in (tmp_path / "in.jpg").read_bytes()
    write_picture(tmp_path / "out.jpg", read_picture(tmp_path / "in.jpg"))
    assert thumbnail not in (tmp_path / "out.jpg").read_bytes()
    with pillow.open(tmp_path / "out.jpg") as written:
        assert written.getexif()[0x4746] == 7


def test_metadata_too_long_for_a_jpeg_is_left_out_not_the_picture(tmp_path: Path) -> None:
    exif = pillow.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9286] = bytes(70000)  # a comment
    pillow.fromarray(photo()).save(tmp_path / "in.png", exif=exif)
    picture = read_picture(tmp_path / "in.png")
    write_picture(tmp_path / "out.jpg", picture)
    with pillow.open(tmp_path / "out.jpg") as written:
        assert "exif" not in written.info
    assert lost_in(picture, ".jpg") == ["its Exif is too long for a JPEG and is left out; .png keeps it"]


def test_texts_of_png_are_kept(tmp_path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("parameters", "steps: 20, grün")
    pillow.fromarray(photo()).save(tmp_path / "in.png", pnginfo=notes)
    write_picture(tmp_path / "out.png", read_picture(tmp_path / "in.png"))
    with pillow.open(tmp_path / "out.png") as written:
        assert written.text == {"parameters": "steps: 20, grün"}  # type: ignore[attr-defined]
    assert lost_in(read_picture(tmp_path / "in.png"), ".bmp") == [
        "BMP has no metadata, so Exif and the like are left out; .png and .jpg keep them"
    ]
    assert Picture(photo()).metadata == Metadata()


def test_of_several_pictures_in_a_file_the_first_is_taken_and_that_is_said(tmp_path: Path) -> None:
    frames = [pillow.fromarray(photo() // n) for n in (1, 2, 3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.image, photo()[..., ::-1])
    assert picture.notes == ("it holds 3 pictures: the first is taken, the others are left out",)


# --- size, other formats, damage ----------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_more_pixels_than_pillow_likes_are_read(tmp_path: Path) -> None:
    pillow.new("1", (14000, 13000), 1).save(tmp_path / "a.png")  # 182 megapixels: Pillow alone refuses
    before = pillow.MAX_IMAGE_PIXELS
    assert read_image(tmp_path / "a.png").shape == (13000, 14000, 3)
    assert before == pillow.MAX_IMAGE_PIXELS, "other users of Pillow keep their limit"


def test_our_own_limit_is_stated(tmp_path: Path) -> None:
    header = b"\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 30000, 20000, 8, 2, 0, 0, 0)
    header += zlib.crc32(header[4:]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + b"\0\0\0\0IDAT" + bytes(4))
    limit = f"at most {MAX_PIXELS // 1_000_000} megapixels, got 30000x20000; make it smaller first"
    with pytest.raises(SourceError, match=rf"a\.png: expected a picture of {limit}"):
        read_image(tmp_path / "a.png")


def test_a_line_of_pixels_is_too_small(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), photo()[:1])
    with pytest.raises(SourceError, match=r"a\.png: expected a picture of 2x2 pixels or more, got 80x1"):
        read_image(tmp_path / "a.png")


def test_a_jpeg_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    data = bytearray(cv2.imencode(".jpg", photo())[1].tobytes())
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", 15000, 15000)
    (tmp_path / "a.jpg").write_bytes(bytes(data))
    with pytest.raises(SourceError, match=r"expected a complete JPEG of 15000x15000, got \d+ bytes"):
        read_image(tmp_path / "a.jpg")


def test_heic_names_its_plugin_and_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "IMG_1.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(SourceError, match=r'got HEIC, .* run `pip install "doppelgan\[heic\]"`'):
        read_image(path)

    class Opened(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._size, self._mode = (80, 60), "RGB"

        def load(self) -> None:
            self.im = pillow.fromarray(photo()[..., ::-1].copy()).im

    plugin = types.ModuleType("pi_heif")
    plugin.register_heif_opener = lambda: pillow.register_open("HEIF", Opened)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pi_heif", plugin)
    monkeypatch.setattr(pillow, "OPEN", dict(pillow.OPEN))
    monkeypatch.setattr(pillow, "ID", list(pillow.ID))
    np.testing.assert_array_equal(read_image(path), photo())


def test_avif_and_gif_are_read(tmp_path: Path) -> None:
    pillow.fromarray(photo()[..., ::-1].copy()).save(tmp_path / "a.avif", quality=95)
    pillow.fromarray(photo()[..., ::-1].copy()).save(tmp_path / "a.gif")
    assert np.abs(read_image(tmp_path / "a.avif").astype(int) - photo()).mean() < 3
    assert np.abs(read_image(tmp_path / "a.gif").astype(int) - photo()).mean() < 20


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif", ".bmp", ".avif", ".jp2", ".ppm"])
def test_damaged_files_are_named_and_nothing_worse(tmp_path: Path, suffix: str) -> None:
    """Bits turned and ends cut off at seeded places: a picture, or one line that says what is wrong."""
    path = tmp_path / f"a{suffix}"
    pillow.fromarray(photo()).save(path)
    whole, draw, messages = path.read_bytes(), np.random.default_rng(5), list[str]()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(int(draw.integers(1, 4))):
            place = int(draw.integers(0, min(len(data), 400) if draw.random() < 0.7 else len(data)))
            data[place] ^= 1 << int(draw.integers(0, 8))
        path.write_bytes(data[: len(data) - int(draw.integers(0, len(data)) * (draw.random() < 0.4))])
        try:
            image = read_image(path)
        except SourceError as error:
            messages.append(str(error))
        else:
            assert image.dtype == np.uint8
    assert len(messages) >= 5
    assert not any("\n" in message for message in messages)


def test_names_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + "a.png")  # 255 bytes
    write_image(path, photo())
    np.testing.assert_array_equal(read_image(path), photo())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_only_bgr_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.png: expected BGR uint8 \[H,W,3\], got float64"):
        write_image(tmp_path / "a.png", np.zeros((4, 4, 3)))  # type: ignore[arg-type]
