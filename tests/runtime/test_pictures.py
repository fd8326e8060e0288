"""Picture files: what is read is upright BGR, what is written is whole; OpenCV as a second opinion."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import types
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from doppelgan.runtime.errors import SinkError, SourceError
from doppelgan.runtime.pictures import files as pictures
from doppelgan.runtime.pictures import read_picture
from doppelgan.runtime.pictures.files import MAX_PIXELS, read_image, write_image
from PIL import Image as pillow
from PIL import ImageFile

from .sample_pictures import LOSSLESS, photo


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
        (b"nonsense", "something that is not read here"),
        (b"\xff\x0a\xcb\xf0\x93\x09", "a JPEG XL picture"),
        (b"\0\0\0\x0cJXL \x0d\x0a", "a JPEG XL picture"),
        (b"\xff\xd8\xff\xf7\0\x11", "a JPEG-LS picture"),
        (cv2.imencode(".png", photo())[1].tobytes()[:300], "a damaged PNG"),
        (cv2.imencode(".jpg", photo())[1].tobytes()[:700], "a damaged JPEG"),
        (b"\0\0\0\x20ftypisom" + bytes(30), "a video"),
        (b"%PDF-1.7", "a PDF"),
        (eps(), "PostScript"),
    ],
    ids=lambda value: value.removeprefix("a ") if isinstance(value, str) else "",
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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("share", [1.5, 2.5], ids=["Pillow warns", "Pillow refuses"])
def test_more_pixels_than_pillow_likes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    assert pillow.MAX_IMAGE_PIXELS is not None
    assert MAX_PIXELS > 2 * pillow.MAX_IMAGE_PIXELS  # from which on Pillow alone refuses
    cv2.imwrite(str(tmp_path / "a.png"), photo())
    height, width = photo().shape[:2]
    limit = int(height * width / share)
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises((pillow.DecompressionBombWarning, pillow.DecompressionBombError)):
        pillow.open(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photo())
    assert limit == pillow.MAX_IMAGE_PIXELS, "other users of Pillow keep their limit"


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
