"""Messages of the live WebSocket, both ways; numbers are little-endian.

Page to server, binary: a head of 24 bytes, then the picture or the sound::

    0  u8   kind: 1 frame, 2 sound
    1  u8   codec: 0 JPEG, 1 I420, 2 NV12, 3 H.264 (Annex B)
    2  u16  flags: 1 key frame, 2 full range, 4 BT.709
    4  u32  number of the frame
    8  f64  when it was captured, ms of the page's own clock
    16 u16  width, u16 height of the whole picture (sound: u32 samples/s)
    20 u16  rows at the bottom that hold the strip, u16 zero

The strip is a row of black and white cells with the frame's number. It takes no part in editing and comes
back below the result, so that the page can tell how old the picture is that it has just shown.

Server to page, binary: the same head (kind 1; codec 0 or 3), but the last u16 is the length of the JSON after
it: {"state", "faces", "badge", "parts"}, where ``parts`` are the sizes of what follows: picture, before
(JPEG, if wanted), mesh (u16 x, y in 1/16 px for 468 points a face, if wanted).

Text messages are JSON objects with a ``type``:

page to server   ``want`` (what to send), ``camera`` (this page is the source now), ``leave`` (no longer),
                 ``ack`` (a result was shown; ``age_ms``: glass to glass), ``key`` (a key frame, please)
server to page   ``hello``, ``ack`` (a frame was taken), ``controls``, ``status``, ``seat``, ``error``,
                 ``key``
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ..errors import SourceError

FRAME: Final = 1
SOUND: Final = 2
JPEG: Final = 0
I420: Final = 1
NV12: Final = 2
H264: Final = 3

KEY: Final = 1
FULL_RANGE: Final = 2
BT709: Final = 4

_HEAD: Final = struct.Struct("<BBHIdHHHH")
HEAD_BYTES: Final = _HEAD.size


@dataclass(frozen=True, slots=True)
class Message:
    """A binary message from a page."""

    kind: int
    codec: int
    flags: int
    number: int
    time_ms: float
    width: int
    height: int
    strip: int  # rows
    payload: memoryview

    @property
    def sample_rate(self) -> int:
        """Of sound."""
        return self.width | self.height << 16


def unpack(data: bytes) -> Message:
    """Raises SourceError."""
    if len(data) <= HEAD_BYTES:
        raise SourceError(
            f"message: expected a head of {HEAD_BYTES} bytes and a payload, got {len(data)} bytes"
        )
    kind, codec, flags, number, time_ms, width, height, strip, _ = _HEAD.unpack_from(data)
    if kind not in (FRAME, SOUND) or codec not in (JPEG, I420, NV12, H264):
        raise SourceError(f"message: expected kind 1 or 2 and codec 0..3, got {kind} and {codec}")
    if not 0 <= time_ms < 1e15:  # false for NaN, too
        raise SourceError(f"message: expected a time in ms, got {time_ms}")
    return Message(kind, codec, flags, number, time_ms, width, height, strip, memoryview(data)[HEAD_BYTES:])


def pack(
    codec: int,
    flags: int,
    number: int,
    time_ms: float,
    size: tuple[int, int],  # width, height, the strip included
    strip: int,
    meta: dict[str, Any],
    parts: list[bytes],
) -> bytes:
    """A binary message to a page."""
    text = msgspec.json.encode({**meta, "parts": [len(part) for part in parts]})
    head = _HEAD.pack(FRAME, codec, flags, number, time_ms, *size, strip, len(text))
    return b"".join([head, text, *parts])
