"""XMP longer than one of JPEG's segments: a short packet that names the rest, and the rest in pieces.

XMP specification, part 3 (2020), 1.1.3.1: the packet in the first segment says ``xmpNote:HasExtendedXMP``,
the MD5 of the rest; every further segment carries that, the whole length and its own place.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from typing import Final

SEGMENT: Final = b"http://ns.adobe.com/xmp/extension/\0"
LONGEST: Final = 16 << 20  # bytes that are joined
_PIECE: Final = 65_400  # bytes, so that a segment with its head holds it
_HEAD: Final = struct.Struct(">32sII")  # MD5, length of all, place of this piece
_NOTE: Final = re.compile(rb"\sxmpNote:HasExtendedXMP\s{0,9}=\s{0,9}[\"']([0-9A-Fa-f]{32})[\"']")
_RDF: Final = re.compile(rb"<rdf:RDF\b([^>]{0,9999})>")
_RDF_END: Final = b"</rdf:RDF>"
_NAMESPACE: Final = re.compile(rb"\s(xmlns:[\w.-]{1,60})\s{0,9}=\s{0,9}(?:\"[^\"]*\"|'[^']*')")


def split(xmp: bytes) -> tuple[bytes, list[bytes]]:
    """A packet that holds nothing but the note, and the segments (from `SEGMENT` on) that hold ``xmp``."""
    rest = re.sub(rb"<\?xpacket[^>]{0,200}\?>", b"", xmp).strip()
    digest = _digest(rest)
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
        b'xmpNote:HasExtendedXMP="' + digest + b'"/></rdf:RDF></x:xmpmeta>'
    )
    starts = range(0, len(rest), _PIECE)
    pieces = [_HEAD.pack(digest, len(rest), at) + rest[at : at + _PIECE] for at in starts]
    return packet, [SEGMENT + piece for piece in pieces]


def joined(xmp: bytes, segments: Iterable[bytes]) -> bytes:
    """The packet with what its note names; as it is where that is not whole."""
    note = _NOTE.search(xmp)
    if note is None:
        return xmp
    rest = _collected(note[1].upper(), segments)
    inner, outer = _RDF.search(rest), _RDF.search(xmp)
    inner_end, outer_end = rest.rfind(_RDF_END), xmp.rfind(_RDF_END)
    if inner is None or outer is None or inner_end < inner.end() or outer_end < outer.end():
        return xmp
    declared = outer[1].replace(b" ", b"")
    missing = [one[0] for one in _NAMESPACE.finditer(inner[1]) if one[1] + b"=" not in declared]
    head = xmp[: outer.end(1)] + b"".join(missing) + xmp[outer.end(1) : outer_end]
    return _NOTE.sub(b"", head + rest[inner.end() : inner_end] + xmp[outer_end:])


def _collected(digest: bytes, segments: Iterable[bytes]) -> bytes:
    """What the segments of that digest hold; nothing where a piece is missing."""
    pieces: dict[int, bytes] = {}
    length = 0
    for segment in segments:
        body = segment[len(SEGMENT) :]
        if not segment.startswith(SEGMENT) or len(body) < _HEAD.size:
            continue
        of, length_of_all, place = _HEAD.unpack_from(body)
        if of.upper() == digest:
            pieces[place], length = body[_HEAD.size :], length_of_all
    rest = b"".join(pieces[place] for place in sorted(pieces))
    if not len(rest) == length <= LONGEST:
        return b""
    return rest if _digest(rest) == digest else b""


def _digest(rest: bytes) -> bytes:
    return hashlib.md5(rest, usedforsecurity=False).hexdigest().upper().encode()
