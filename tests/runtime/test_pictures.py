"""Picture files: what is read is upright BGR, what is written is whole; OpenCV as a second opinion."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from doppelgan.runtime.errors import SinkError, SourceError
from doppelgan.runtime.pictures import files as pictures
from doppelgan.runtime.pictures import read_image, write_image
from doppelgan.runtime.pictures.files import WRITABLE
from doppelgan.runtime.types import Image
from PIL import Image as pillow

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

    image = read_image(path)

    assert (image.shape, image.dtype, image.flags.writeable) == ((60, 80, 3), np.uint8, True)
    np.testing.assert_array_equal(image, cv2.imread(str(path), cv2.IMREAD_COLOR))


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
        (cv2.imencode(".png", photo())[1].tobytes()[:300], "something that Pillow cannot decode"),
        (cv2.imencode(".jpg", photo())[1].tobytes()[:700], "something that Pillow cannot decode"),
        (cv2.imencode(".png", photo()[:1])[1].tobytes(), "something that Pillow cannot decode"),
        (eps(), "something that Pillow cannot decode"),
    ],
    ids=["empty", "text", "half a PNG", "half a JPEG", "one line", "EPS"],
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

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "write_whole", full)
    with pytest.raises(SinkError, match=r"a\.png: cannot write: No space left on device; check space"):
        write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_only_bgr_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.png: expected BGR uint8 \[H,W,3\], got float64"):
        write_image(tmp_path / "a.png", np.zeros((4, 4, 3)))  # type: ignore[arg-type]
