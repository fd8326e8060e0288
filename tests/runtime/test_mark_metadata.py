"""What files say about themselves: written without touching anything else, kept, read back, signed."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import time
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from doppelgan.runtime.errors import SinkError
from doppelgan.runtime.mark import c2pa, metadata
from doppelgan.runtime.mark.marker import Marker
from doppelgan.runtime.pictures import extended_xmp
from doppelgan.runtime.pictures.files import read_picture, write_image, write_picture
from doppelgan.runtime.pictures.picture import Metadata, Picture
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.types import Frame
from PIL import Image as pillow
from PIL import PngImagePlugin

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (48, 64, 3), np.uint8)
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:e="http://iptc.org/std/'
    'Iptc4xmpExt/2008-02-29/" e:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/'
    'digitalCapture"><dc:rights>Me &amp; you</dc:rights></rdf:Description></rdf:RDF></x:xmpmeta>'
)
MOVIES = (".mp4", ".mov", ".m4v")


def movie(path: Path, kind: str | None = None) -> Path:
    with open_sink(path, rate=Fraction(10)) as sink:
        if kind:
            sink.tags = metadata.container_tags(path, kind)
        for index in range(5):
            sink.write(Frame(PICTURE, index, index / 10))
    return path


def tiff(order: str, big: bool) -> bytes:
    """A gray picture of 2 x 2 px, its directory last."""
    head, count = ("HHQ", "Q") if big else ("HHI", "H")
    first = 24 if big else 16
    start = b"II" if order == "<" else b"MM"
    start += struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, first) if big else (42, first)))
    start = start.ljust(first - 8, b"\0") + bytes([10, 20, 30, 40, 0, 0, 0, 0])
    tags = ((256, 2), (257, 2), (258, 8), (259, 1), (262, 1), (273, first - 8), (277, 1), (278, 2), (279, 4))

    def entry(tag: int, value: int) -> bytes:
        stored = struct.pack(order + ("I" if tag == 273 else "H"), value).ljust(8 if big else 4, b"\0")
        return struct.pack(order + head, tag, 4 if tag == 273 else 3, 1) + stored

    entries = b"".join(entry(*one) for one in tags)
    return start + struct.pack(order + count, len(tags)) + entries + bytes(8 if big else 4)


def frames_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


class TestPictures:
    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
    def test_statement_comes_and_pixels_stay(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"a{suffix}"
        write_image(path, PICTURE)
        before = np.asarray(pillow.open(path))
        assert metadata.read_source_type(path) is None
        assert metadata.write_source_type(path, "edited")
        assert metadata.write_source_type(path, "avatar")  # replaces
        stated = metadata.read_source_type(path)
        assert stated == metadata.SourceType("trainedAlgorithmicMedia", "doppelgan")
        assert stated.synthetic
        np.testing.assert_array_equal(np.asarray(pillow.open(path)), before)
        assert path.read_bytes().count(b"DigitalSourceType") == 1

    @pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".png"])
    def test_other_metadata_stays(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"a{suffix}"
        exif = pillow.Exif()
        exif[0x010E] = "a day"
        profile = b"not a profile, but kept"
        if suffix == ".tif":
            exif[700] = XMP.encode()
        notes = PngImagePlugin.PngInfo()
        notes.add_itxt("XML:com.adobe.xmp", XMP)
        pillow.fromarray(PICTURE).save(path, exif=exif, xmp=XMP.encode(), icc_profile=profile, pnginfo=notes)
        metadata.write_source_type(path, "edited")
        with pillow.open(path) as opened:
            assert opened.getexif()[0x010E] == "a day"
            assert opened.info["icc_profile"] == profile
        text = path.read_bytes()
        assert b"Me &amp; you" in text
        assert b"digitalCapture" not in text
        stated = metadata.read_source_type(path)
        assert stated is not None
        assert stated.value == "compositeWithTrainedAlgorithmicMedia"

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
    def test_every_kind_of_tiff(self, order: str, big: bool, tmp_path: Path) -> None:
        path = tmp_path / "a.TIFF"
        path.write_bytes(tiff(order, big))
        for kind in ("edited", "avatar"):
            assert metadata.write_source_type(path, kind)
            assert metadata.read_source_type(path) == metadata.SourceType(
                metadata.SOURCE_TYPES[kind], "doppelgan"
            )
            if big and order == ">":  # which Pillow does not read
                continue
            with pillow.open(path) as opened:
                assert np.asarray(opened).tolist() == [[10, 20], [30, 40]]
                tags = opened.tag_v2  # type: ignore[attr-defined]
                assert tags[700].startswith(b"<?xpacket")
                assert list(tags) == sorted(tags)

    def test_packets_longer_than_a_jpegs_segment_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        long = XMP.replace("Me &amp; you", "Me &amp; " + "y" * 150_000)
        write_picture(path, Picture(PICTURE, metadata=Metadata(xmp=long.encode())))
        for kind in ("edited", "avatar"):
            metadata.write_source_type(path, kind)
            read = read_picture(path).metadata.xmp.decode()
            assert "y" * 150_000 in read
            assert read.count("DigitalSourceType") == 1
            assert "HasExtendedXMP" not in read
            stated = metadata.read_source_type(path)
            assert stated == metadata.SourceType(metadata.SOURCE_TYPES[kind], "doppelgan")
            ElementTree.fromstring(read)
        assert path.read_bytes().count(extended_xmp.SEGMENT) == 3
        if shutil.which("exiftool"):
            command = ["exiftool", "-s", "-XMP-dc:Rights", "-XMP-iptcExt:DigitalSourceType", str(path)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert "Me & yyyyy" in said
            assert said.rstrip().endswith("/trainedAlgorithmicMedia")

    def test_pieces_that_are_damaged_are_left_out(self) -> None:
        packet, segments = extended_xmp.split(XMP.encode() + b" " * 200_000 + b"<!-- -->")
        whole = extended_xmp.joined(packet, reversed(segments))
        assert b"Me &amp; you" in whole
        ElementTree.fromstring(whole)
        cut = [segments[0][:-1], *segments[1:]]
        swapped = [segments[0][:-1] + b"?", *segments[1:]]
        for damaged in (segments[1:], cut, swapped, [s[:60] for s in segments], []):
            assert extended_xmp.joined(packet, damaged) == packet

    def test_namespaces_of_the_rest_are_kept(self) -> None:
        outer = XMP.replace('xmlns:dc="http://purl.org/dc/elements/1.1/" ', "").replace(
            "<rdf:RDF ", '<rdf:RDF xmlns:dc="http://purl.org/dc/elements/1.1/" '
        )
        packet, segments = extended_xmp.split(outer.encode())
        ElementTree.fromstring(extended_xmp.joined(packet, segments))

    def test_transparent_and_lossless_webp(self, tmp_path: Path) -> None:
        path = tmp_path / "a.webp"
        shown = np.dstack([PICTURE, PICTURE[..., :1]])
        pillow.fromarray(shown).save(path, lossless=True, exact=True)
        metadata.write_source_type(path, "edited")
        np.testing.assert_array_equal(np.asarray(pillow.open(path)), shown)

    def test_formats_without_a_place_say_so_and_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "a.bmp"
        write_image(path, PICTURE)
        before = path.read_bytes()
        assert not metadata.write_source_type(path, "edited")
        assert path.read_bytes() == before

    def test_damaged_files_are_refused_and_stay(self, tmp_path: Path) -> None:
        for suffix, data in (
            (".png", b"\x89PNG\r\n\x1a\n123"),
            (".jpg", b"no"),
            (".webp", b""),
            (".tif", b"no"),
            (".tif", b"II*\0\xff\0\0\0"),
            (".tif", tiff("<", False)[:-5]),
            (".mp4", b"x" * 9),
        ):
            path = tmp_path / f"a{suffix}"
            path.write_bytes(data)
            with pytest.raises(SinkError, match="cannot add metadata"):
                metadata.write_source_type(path, "edited")
            assert path.read_bytes() == data
            assert metadata.read_source_type(path) is None

    def test_packets_with_entities_or_without_rdf_are_replaced(self) -> None:
        for packet in ("<!DOCTYPE x [<!ENTITY a 'b'>]><rdf:RDF></rdf:RDF>", "<x/>", ""):
            stated = metadata.stated(packet, "http://uri/x")
            assert stated.count("DigitalSourceType") == 1
            assert "ENTITY" not in stated

    @pytest.mark.parametrize(
        "part",
        [
            "y",
            ' e:DigitalSourceType="',
            " e:DigitalSourceType    ",
            "<e:DigitalSourceType>",
            "<e:DigitalSourceType ",
            "<rdf:RDF>",
            "<rdf:RDF ",
            "<?xpacket",
            "<a:Thumbnails>",
            " xmpNote:HasExtendedXMP=",
            " ",
        ],
    )
    def test_no_packet_is_searched_in_quadratic_time(self, part: str, tmp_path: Path) -> None:
        packet = XMP.replace("Me", part * (400_000 // len(part)))
        data = io.BytesIO()
        pillow.fromarray(PICTURE).save(data, "WEBP", xmp=packet.encode())
        path = tmp_path / "a.webp"
        path.write_bytes(data.getvalue())
        start = time.process_time()
        read_picture(path)
        metadata.write_source_type(path, "edited")
        assert metadata.read_source_type(path) is not None
        short, segments = extended_xmp.split(packet.encode())
        extended_xmp.joined(short, segments)
        assert time.process_time() - start < 3  # in quadratic time: minutes

    def test_an_element_is_replaced_as_well_as_an_attribute(self) -> None:
        packet = XMP.replace("<dc:rights>", "<e:DigitalSourceType>old</e:DigitalSourceType><dc:rights>")
        stated = metadata.stated(packet, "http://uri/new")
        assert stated.count("DigitalSourceType") == 1
        assert "Me &amp; you" in stated


class TestMovies:
    @pytest.mark.parametrize("suffix", MOVIES)
    def test_xmp_that_is_there_stays(self, suffix: str, tmp_path: Path) -> None:
        path = movie(tmp_path / f"a{suffix}")
        box = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC") + XMP.encode()
        with path.open("ab") as file:
            file.write(struct.pack(">I4s", 8 + len(box), b"uuid") + box)
        before = frames_of(path)
        metadata.write_source_type(path, "edited")
        assert frames_of(path) == before
        stated = metadata.read_source_type(path)
        assert stated is not None
        assert stated.value == "compositeWithTrainedAlgorithmicMedia"
        latest = path.read_bytes().rsplit(b"uuid", 1)[1]  # the one before is freed
        assert b"Me &amp; you" in latest
        assert b"digitalCapture" not in latest

    @pytest.mark.parametrize("suffix", MOVIES)
    def test_statement_comes_and_frames_stay(self, suffix: str, tmp_path: Path) -> None:
        path = movie(tmp_path / f"a{suffix}")
        before, size = frames_of(path), path.stat().st_size
        metadata.write_source_type(path, "avatar")
        metadata.write_source_type(path, "edited")
        assert frames_of(path) == before
        assert path.stat().st_size < size + 2000
        assert metadata.read_source_type(path) == metadata.SourceType(
            "compositeWithTrainedAlgorithmicMedia", "doppelgan"
        )

    @pytest.mark.parametrize("suffix", [".mkv", ".webm"])
    def test_matroska_says_it_in_a_tag(self, suffix: str, tmp_path: Path) -> None:
        path = movie(tmp_path / f"a{suffix}", "avatar")
        assert metadata.write_source_type(path, "avatar")
        assert metadata.read_source_type(path) == metadata.SourceType("trainedAlgorithmicMedia", "doppelgan")

    @pytest.mark.skipif(
        not shutil.which("exiftool"), reason="exiftool, an independent reader, is not installed"
    )
    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.mp4", "a.mov"])
    def test_an_independent_reader_agrees(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        if path.suffix in MOVIES:
            movie(path)
        else:
            write_picture(path, Picture(PICTURE, metadata=Metadata(dpi=(72, 72))))
        metadata.write_source_type(path, "edited")
        command = ["exiftool", "-validate", "-warning", "-XMP-iptcExt:DigitalSourceType", "-s", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "Validate                        : OK" in said
        assert said.rstrip().endswith("digitalsourcetype/compositeWithTrainedAlgorithmicMedia")


class TestSinks:
    def test_every_file_of_a_series_and_a_video_is_told_of_when_complete(self, tmp_path: Path) -> None:
        told: list[Path] = []
        for target in (tmp_path / "shots/%02d.png", tmp_path / "a.mp4"):
            with open_sink(target, rate=Fraction(10)) as sink:
                sink.on_file = told.append
                for index in range(2):
                    sink.write(Frame(PICTURE, index, index / 10))
                seen = len(told)
        assert seen == 2  # the video is complete only when it is closed
        assert told == [tmp_path / "shots/00.png", tmp_path / "shots/01.png", tmp_path / "a.mp4"]

    def test_nothing_marked_nothing_said(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        write_image(path, PICTURE)
        before = path.read_bytes()
        marker = Marker()
        marker.apply(PICTURE.copy(), PICTURE, [])
        marker.finish(path)
        assert path.read_bytes() == before
        marker.apply(PICTURE.copy(), None)
        marker.finish(path)
        assert metadata.read_source_type(path) is not None


class TestCredentials:
    @pytest.fixture
    def signatory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> c2pa.Signatory:
        monkeypatch.setenv("DOPPELGAN_CONFIG", str(tmp_path / "config"))
        return c2pa.Signatory()

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.mp4"])
    def test_signed_files_are_intact_until_they_are_changed(
        self, name: str, tmp_path: Path, signatory: c2pa.Signatory
    ) -> None:
        path = tmp_path / name
        if path.suffix in MOVIES:
            movie(path)
        else:
            write_image(path, PICTURE)
        metadata.write_source_type(path, "avatar")
        assert c2pa.read_credentials(path) is None
        assert signatory.sign(path, "avatar")
        found = c2pa.read_credentials(path)
        assert found is not None
        assert (found.intact, found.trusted, found.tool) == (True, False, "doppelgan")
        assert found.source_type == "trainedAlgorithmicMedia"
        assert metadata.read_source_type(path) is not None
        data = bytearray(path.read_bytes())
        data[data.rfind(b"trainedAlgorithmicMedia")] ^= 1
        path.write_bytes(data)
        broken = c2pa.read_credentials(path)
        assert broken is None or not broken.intact

    def test_credentials_of_the_input_stay_as_parent(self, tmp_path: Path, signatory: c2pa.Signatory) -> None:
        before, after = tmp_path / "before.jpg", tmp_path / "after.png"
        write_image(before, PICTURE)
        signatory.sign(before, "other")
        write_image(after, PICTURE)
        signatory.sign(after, "edited", parent=before)
        import c2pa as library

        with library.Reader(str(after)) as reader:
            manifest = reader.get_active_manifest()
            text = reader.json()
        parent = manifest["ingredients"][0]
        assert (parent["relationship"], parent["title"]) == ("parentOf", "before.jpg")
        assert parent["active_manifest"]
        assert "thumbnail" not in text

    def test_the_key_is_made_once_and_for_the_user_alone(
        self, tmp_path: Path, signatory: c2pa.Signatory
    ) -> None:
        key = tmp_path / "config/signing/key.pem"
        assert key.stat().st_mode & 0o077 == 0
        before = key.read_bytes()
        c2pa.Signatory()
        assert key.read_bytes() == before

    def test_other_formats_and_wrong_keys_are_told(self, tmp_path: Path, signatory: c2pa.Signatory) -> None:
        assert not signatory.sign(tmp_path / "a.mkv", "edited")
        wrong = tmp_path / "wrong.pem"
        wrong.write_text("no key")
        with pytest.raises(SinkError, match="cannot sign with it"):
            c2pa.Signatory(wrong, wrong)
        with pytest.raises(SinkError, match="expected a key and its certificate"):
            c2pa.Signatory(wrong)
