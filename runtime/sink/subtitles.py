"""Subtitles beside edited pictures: copied, or their text written in the container's own form."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from av.error import FFmpegError

from ..host.ffmpeg import trial_file
from .sound import copy_of, hand_on

TEXT_CODECS = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
TEXTUAL = {"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"}
# Encoders want to know the styles; all that is kept is text.
HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Alignment, Encoding
Style: Default,Arial,16,&Hffffff,0,0,2,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


class CopiedSubtitles:
    def __init__(self, output: Any, stream: Any) -> None:
        self._output = output
        self._stream = output.add_stream_from_template(stream)
        hand_on(stream, self._stream)

    def write(self, packet: Any) -> None:
        packet.stream = self._stream
        self._output.mux(packet)

    def close(self) -> None:
        pass


class TextSubtitles:
    """Text of any textual codec as that of the container."""

    def __init__(self, output: Any, stream: Any) -> None:
        self._output = output
        self._from = stream.codec_context.name
        self._to = TEXT_CODECS[output.format.name]
        self._stream = output.add_stream(self._to)
        self._stream.codec_context.subtitle_header = HEADER
        self._stream.time_base = stream.time_base
        hand_on(stream, self._stream)

    def write(self, packet: Any) -> None:
        text = text_of_packet(bytes(packet), self._from)
        if not text:
            return
        written = copy_of(packet, packet_of_text(text, self._to))
        written.stream = self._stream
        self._output.mux(written)

    def close(self) -> None:
        pass


Way = Callable[[Any, Any], CopiedSubtitles | TextSubtitles]  # output, stream of the input


def plan_subtitles(
    stream: Any,  # of an input that is read for the trial alone
    packets: Sequence[Any],
    container: str,
) -> Way | None:
    """How one track gets into the file; None: it cannot."""
    if stream.codec_context is None:
        return None
    ways: list[Way] = [CopiedSubtitles]
    if stream.codec_context.name in TEXTUAL:
        ways.append(TextSubtitles)
    for way in ways:
        try:
            with trial_file(container) as output:
                track = way(output, stream)
                for packet in packets:
                    track.write(copy_of(packet))
                output.start_encoding()
        except (FFmpegError, OSError, ValueError, LookupError, AttributeError):
            continue
        return way
    return None


def text_of_packet(data: bytes, codec: str) -> str:
    """Plain lines of one subtitle; in linear time, also of tags that never end."""
    if codec == "mov_text":
        data = data[2 : 2 + int.from_bytes(data[:2], "big")]
    text = data.decode("utf-8", "replace")
    if codec in ("ass", "ssa"):
        # ReadOrder, Layer, Style, Name, MarginL, MarginR, MarginV, Effect, Text
        text = text.split(",", 8)[-1]
        text = re.sub(r"\{[^{}]*\}", "", text).replace(r"\N", "\n").replace(r"\n", "\n").replace(r"\h", " ")
    return re.sub(r"</?[a-zA-Z][^<>]*>", "", text).replace("\r\n", "\n").strip()


def packet_of_text(text: str, codec: str) -> bytes:
    data = text.encode("utf-8")
    return len(data).to_bytes(2, "big") + data if codec == "mov_text" else data
