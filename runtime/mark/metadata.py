"""What a file says about itself: IPTC's ``digitalSourceType`` in XMP, written into the finished file.

=============  ======================================================================================
PNG            an ``iTXt`` chunk ``XML:com.adobe.xmp`` before the pixels
JPEG           an ``APP1`` segment behind EXIF; what is longer than it in further ones
TIFF           tag 700 of the first directory, which is written anew at the end
WebP           an ``XMP `` chunk at the end and its flag in ``VP8X``, which is added where it is missing
MP4, MOV, M4V  a top-level ``uuid`` box at the end (before ``mfra``, which has to be last)
MKV, WebM      a tag ``DIGITAL_SOURCE_TYPE``; the muxer writes it: `container_tags`
=============  ======================================================================================

Pixels, sound and everything else in the file stay byte for byte. XMP that is there is kept: the statement is
put into it and replaces an earlier one. Values: https://cv.iptc.org/newscodes/digitalsourcetype/. XMP
specification, part 3 (2020); IPTC Photo Metadata 2025.1.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from ..errors import SinkError
from ..host.files import write_whole
from ..pictures import extended_xmp

VOCABULARY: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SOURCE_TYPES: Final = {  # by kind of the payload
    "edited": "compositeWithTrainedAlgorithmicMedia",
    "avatar": "trainedAlgorithmicMedia",
    "restyled": "compositeWithTrainedAlgorithmicMedia",
    "other": "compositeWithTrainedAlgorithmicMedia",
}
SYNTHETIC: Final = frozenset(SOURCE_TYPES.values()) | {"compositeSynthetic", "algorithmicMedia"}
TAG: Final = "DIGITAL_SOURCE_TYPE"
TOOL: Final = "doppelgan"

_XMP_UUID: Final = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
_JPEG_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_XMP: Final = b"XML:com.adobe.xmp"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_EXTENSION: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_LIMIT: Final = 16 << 20  # bytes of XMP that are read
# Parts of patterns: of bounded length, so that no packet is searched in quadratic time.
_PREFIX: Final = r"[\w.-]{1,60}"
_EQUALS: Final = r"\s{0,9}=\s{0,9}"
_SHORT: Final = "{0,300}"
_PICTURES: Final = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"}
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_XMP: Final = 700
_MOVIES: Final = {".mp4", ".m4v", ".mov"}
_TAGGED: Final = {".mkv", ".webm"}

_EMPTY: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
)


class _Damaged(Exception):
    """Not what the suffix says, or cut off."""


def container_tags(path: Path | str, kind: str) -> dict[str, str]:
    """Tags for the muxer of formats whose XMP cannot be added afterwards; empty for the others."""
    if Path(path).suffix.lower() not in _TAGGED:
        return {}
    return {TAG: VOCABULARY + SOURCE_TYPES[kind], "AI_SYSTEM_USED": TOOL}


def write_source_type(path: Path, kind: str) -> bool:
    """Write what was done into the file at ``path``; False where the format has no place for it.

    Raises SinkError if it cannot be written; the file is then as it was.
    """
    suffix, kind_uri = path.suffix.lower(), VOCABULARY + SOURCE_TYPES[kind]
    try:
        if suffix in _MOVIES:
            _write_movie(path, kind_uri)
            return True
        if suffix not in _PICTURES:
            return suffix in _TAGGED
        write_whole(path, _stated_in(path.read_bytes(), suffix, kind_uri))
    except (OSError, _Damaged, struct.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SinkError(f"{path}: cannot add metadata: {reason}; check space and permissions") from error
    return True


def with_source_type(data: bytes, suffix: str, kind: str) -> bytes:
    """A PNG, JPEG, WebP or TIFF in memory, and the statement in it. Raises SinkError."""
    try:
        return _stated_in(data, suffix, VOCABULARY + SOURCE_TYPES[kind])
    except (_Damaged, struct.error) as error:
        raise SinkError(f"{suffix}: cannot add metadata: {error}") from error


def _stated_in(data: bytes, suffix: str, uri: str) -> bytes:
    writers = {".png": _png_with, ".webp": _webp_with, ".tif": _tiff_with, ".tiff": _tiff_with}
    writer = writers.get(suffix.lower(), _jpeg_with)
    return writer(data, stated(_find_xmp(data) or "", uri).encode())


@dataclass(frozen=True, slots=True)
class SourceType:
    """What a file states. value: the last part of the IPTC URI, e.g. "trainedAlgorithmicMedia"."""

    value: str
    tool: str | None = None  # IPTC's AISystemUsed

    @property
    def synthetic(self) -> bool:
        return self.value in SYNTHETIC


def read_source_type(path: Path) -> SourceType | None:
    """What the file at ``path`` states; None where it states nothing, also where it is damaged."""
    try:
        if path.suffix.lower() in _TAGGED:
            return _read_tags(path)
        xmp = _read_movie(path) if path.suffix.lower() in _MOVIES else _find_xmp(path.read_bytes())
    except (OSError, _Damaged, struct.error):
        return None
    if not xmp or _repeats(xmp):
        return None
    value = _attribute_or_element(xmp, "DigitalSourceType")
    return SourceType(value.rsplit("/", 1)[-1], _attribute_or_element(xmp, "AISystemUsed")) if value else None


# --- the packet -----------------------------------------------------------------------------------------


def stated(
    xmp: str,  # a packet, or nothing
    uri: str,
) -> str:
    """The packet with the statement; what else it says stays. One that is no RDF is replaced."""
    if "</rdf:RDF>" not in xmp or "<!DOCTYPE" in xmp or "<!ENTITY" in xmp or _repeats(xmp):
        xmp = _EMPTY
    xmp = unstated(xmp)
    statement = (
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_EXTENSION}" '
        f'Iptc4xmpExt:DigitalSourceType="{uri}" Iptc4xmpExt:AISystemUsed="{TOOL}"/>'
    )
    before, end, after = xmp.rpartition("</rdf:RDF>")
    return before + statement + end + after


def _repeats(xmp: str) -> bool:
    """Nobody's packet, and slow to search."""
    return xmp.count(":DigitalSourceType") + xmp.count(":AISystemUsed") > 100


def unstated(xmp: str) -> str:
    """The packet without such a statement."""
    for name in ("DigitalSourceType", "AISystemUsed"):
        xmp = re.sub(rf"\s{_PREFIX}:{name}{_EQUALS}(\"[^\"]{_SHORT}\"|'[^']{_SHORT}')", "", xmp)
        xmp = re.sub(rf"<({_PREFIX}:{name})\b[^>]{_SHORT}?(/>|>.{_SHORT}?</\1\s?>)", "", xmp, flags=re.DOTALL)
    return xmp


def _attribute_or_element(xmp: str, name: str) -> str | None:
    patterns = (
        rf"(?<![\w.-]){_PREFIX}:{name}{_EQUALS}[\"']([^\"']{_SHORT})[\"']",
        rf"<{_PREFIX}:{name}\b[^>]{_SHORT}?rdf:resource{_EQUALS}[\"']([^\"']{_SHORT})[\"']",
        rf"<{_PREFIX}:{name}\b[^>]{_SHORT}>([^<]{_SHORT})<",
    )
    match = next(filter(None, (re.search(pattern, xmp) for pattern in patterns)), None)
    return match[1].strip() if match else None


def _find_xmp(data: bytes) -> str | None:
    if data.startswith(_PNG):
        packet = _png_xmp(data)
    elif data.startswith(b"\xff\xd8"):
        parts = [(start + 4, end) for start, end in _jpeg_parts(data) if data[start + 1] == 0xE1]
        packet = next((data[a + len(_JPEG_XMP) : b] for a, b in parts if data.startswith(_JPEG_XMP, a)), None)
        if packet is not None:
            packet = extended_xmp.joined(packet, (data[a:b] for a, b in parts))
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        packet = next((body for name, body in _webp_chunks(data) if name == b"XMP "), None)
    elif data[:4] in _TIFF:
        packet = _tiff_xmp(data)
    else:
        return None
    return packet[:_LIMIT].decode("utf-8", "replace") if packet is not None else None


# --- pictures -------------------------------------------------------------------------------------------


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of every chunk, with its length and checksum."""
    at = len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            raise _Damaged("a PNG that is cut off")
        yield data[at + 4 : at + 8], at, at + 12 + length
        at += 12 + length


def _png_xmp(data: bytes) -> bytes | None:
    for name, start, end in _png_chunks(data):
        body = data[start + 8 : end - 4]
        if name == b"iTXt" and body.startswith(_PNG_XMP + b"\0"):
            compressed = body[len(_PNG_XMP) + 1]
            text = body[len(_PNG_XMP) + 3 :].split(b"\0", 2)
            if len(text) == 3:
                try:
                    return zlib.decompressobj().decompress(text[2], _LIMIT) if compressed else text[2]
                except zlib.error:
                    return None
    return None


def _png_with(data: bytes, xmp: bytes) -> bytes:
    if not data.startswith(_PNG):
        raise _Damaged("not a PNG")
    body = b"iTXt" + _PNG_XMP + b"\0\0\0\0\0" + xmp
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    out, pending = [_PNG], True
    for name, start, end in _png_chunks(data):
        if name == b"iTXt" and data[start + 8 : end].startswith(_PNG_XMP + b"\0"):
            continue
        if name == b"IDAT" and pending:
            out.append(chunk)
            pending = False
        out.append(data[start:end])
    if pending:
        raise _Damaged("a PNG without pixels")
    return b"".join(out)


def _jpeg_parts(data: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of every segment before the pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:  # fill bytes
            at += 1
            continue
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if end > len(data) or end < at + 4:
            raise _Damaged("a JPEG that is cut off")
        yield at, end
        at = end


def _jpeg_segment(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content


def _jpeg_with(data: bytes, xmp: bytes) -> bytes:
    if not data.startswith(b"\xff\xd8"):
        raise _Damaged("not a JPEG")
    extensions: list[bytes] = []
    if len(xmp) > 65533 - len(_JPEG_XMP):
        uri = _attribute_or_element(xmp.decode(), "DigitalSourceType") or ""
        short, extensions = extended_xmp.split(unstated(xmp.decode()).encode())
        xmp = stated(short.decode(), uri).encode()
    segments = [_jpeg_segment(_JPEG_XMP + xmp), *map(_jpeg_segment, extensions)]
    head, last = [b"\xff\xd8"], 2
    rest: list[bytes] = []
    for start, end in _jpeg_parts(data):
        last = end
        if data[start + 1] == 0xE1 and data.startswith((_JPEG_XMP, extended_xmp.SEGMENT), start + 4):
            continue
        opening = data[start + 1] == 0xE0 or data.startswith(b"Exif\0", start + 4)
        (head if opening and not rest else rest).append(data[start:end])
    return b"".join([*head, *segments, *rest, data[last:]])


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if at + 8 + length > len(data):
            raise _Damaged("a WebP that is cut off")
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _webp_with(data: bytes, xmp: bytes) -> bytes:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise _Damaged("not a WebP")
    chunks = [(name, body) for name, body in _webp_chunks(data) if name != b"XMP "]
    if not chunks:
        raise _Damaged("a WebP without pixels")
    if chunks[0][0] == b"VP8X":
        flags, size = chunks[0][1][0], chunks[0][1][4:10]
        chunks = chunks[1:]
    else:
        flags, size = _webp_size(*chunks[0])
    chunks.insert(0, (b"VP8X", bytes([flags | 0x04, 0, 0, 0]) + size))
    chunks.append((b"XMP ", xmp))
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _webp_size(name: bytes, body: bytes) -> tuple[int, bytes]:
    """Flags and canvas size of VP8X for a simple file."""
    if name == b"VP8L" and body[:1] == b"\x2f":
        bits = struct.unpack_from("<I", body, 1)[0]
        width, height, flags = bits & 0x3FFF, bits >> 14 & 0x3FFF, 0x10 * (bits >> 28 & 1)
    elif name == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        across, down = struct.unpack_from("<HH", body, 6)
        width, height, flags = (across & 0x3FFF) - 1, (down & 0x3FFF) - 1, 0
    else:
        raise _Damaged("a WebP without pixels")
    return flags, struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]


@dataclass(frozen=True, slots=True)
class _Directory:
    """The first directory of a TIFF: its entries as bytes by tag, and what follows them."""

    order: str  # of bytes, as struct has it
    big: bool  # BigTIFF: 64-bit places
    entries: list[tuple[int, bytes]]
    following: bytes  # place of the next directory

    @property
    def place(self) -> str:
        return self.order + ("Q" if self.big else "I")

    def xmp_place(self) -> tuple[int, int] | None:
        """Start and length of tag 700's bytes, where they are no longer than fits into the entry itself."""
        for tag, entry in self.entries:
            kind, count, start = struct.unpack(self.order + ("HQQ" if self.big else "HII"), entry[2:])
            if tag == _TIFF_XMP and kind in (1, 7) and count > 8:
                return start, count
        return None


def _tiff_directory(data: bytes) -> _Directory:
    if data[:4] not in _TIFF:
        raise _Damaged("not a TIFF")
    order, big = "<" if data[:1] == b"I" else ">", data[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    at, size = start + (8 if big else 2), 20 if big else 12
    end = at + count * size
    if count > 0xFFFF or end + (8 if big else 4) > len(data):
        raise _Damaged("a TIFF that is cut off")
    entries = [data[place : place + size] for place in range(at, end, size)]
    tags = [struct.unpack(order + "H", entry[:2])[0] for entry in entries]
    return _Directory(order, big, list(zip(tags, entries, strict=True)), data[end : end + (8 if big else 4)])


def _tiff_xmp(data: bytes) -> bytes | None:
    place = _tiff_directory(data).xmp_place()
    return None if place is None else data[place[0] : place[0] + place[1]]


def _tiff_with(data: bytes, xmp: bytes) -> bytes:
    directory = _tiff_directory(data)
    out = bytearray(data)
    before = directory.xmp_place()
    if before is not None and sum(before) <= len(out):  # nobody refers to it any more
        out[before[0] : sum(before)] = bytes(before[1])
    out += b"\0" * (len(out) % 2)
    at = len(out)
    out += xmp + b"\0" * (len(xmp) % 2)
    entry = struct.pack(directory.order + ("HHQQ" if directory.big else "HHII"), _TIFF_XMP, 1, len(xmp), at)
    others = [one for one in directory.entries if one[0] != _TIFF_XMP]
    entries = [content for _, content in sorted([*others, (_TIFF_XMP, entry)], key=lambda one: one[0])]
    struct.pack_into(directory.place, out, 8 if directory.big else 4, len(out))
    out += struct.pack(directory.order + ("Q" if directory.big else "H"), len(entries))
    return bytes(out + b"".join(entries) + directory.following)


# --- movies ---------------------------------------------------------------------------------------------


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, length) of the top-level boxes."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        elif length == 0:
            length = size - at
        if length < 8 or at + length > size:
            raise _Damaged("a movie that is cut off")
        yield name, at, length
        at += length


def _read_movie(path: Path) -> str | None:
    with path.open("rb") as file:
        for name, start, length in _boxes(file, path.stat().st_size):
            if name == b"uuid" and 24 <= length <= _LIMIT:
                file.seek(start + 8)
                body = file.read(length - 8)
                if body.startswith(_XMP_UUID):
                    return body[16:].decode("utf-8", "replace")
    return None


def _write_movie(path: Path, uri: str) -> None:
    """Append a box; an XMP box that was there becomes a free one. Nothing before the end moves.

    Killed in the middle, a box that is cut off stays at the end: players ignore it.
    """
    size = path.stat().st_size
    with path.open("r+b") as file:
        boxes = list(_boxes(file, size))
        if not any(name in (b"moov", b"moof") for name, _, _ in boxes):
            raise _Damaged("not a movie")
        xmp = stated(_read_movie(path) or "", uri).encode()
        tail = b""
        last, start, length = boxes[-1]
        if last == b"mfra":
            file.seek(start)
            tail = file.read(length)
            size = start
        elif file.seek(start) == start and file.read(4) == b"\0\0\0\0":  # "to the end": now it has an end
            if length >= 1 << 32:
                raise _Damaged("a last box without a length")
            file.seek(start)
            file.write(struct.pack(">I", length))
        file.seek(size)
        file.write(struct.pack(">I4s", 24 + len(xmp), b"uuid") + _XMP_UUID + xmp + tail)
        for name, start, _ in boxes:
            file.seek(start + 8)
            if name == b"uuid" and file.read(16) == _XMP_UUID:
                file.seek(start + 4)
                file.write(b"free")


def _read_tags(path: Path) -> SourceType | None:
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            tags = {key.upper(): value for key, value in container.metadata.items()}
    except (FFmpegError, OSError):
        return None
    value = tags.get(TAG)
    return SourceType(value.rsplit("/", 1)[-1], tags.get("AI_SYSTEM_USED")) if value else None
