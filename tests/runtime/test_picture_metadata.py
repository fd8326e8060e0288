"""What picture files say besides their pixels."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.pictures import Metadata, Picture, read_picture, write_picture
from doppelgan.runtime.pictures.files import lost_in, read_image
from PIL import Image as pillow
from PIL import PngImagePlugin

from .sample_pictures import photo

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
