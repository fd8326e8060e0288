"""Everything of a file but its pictures, on its way beside them: sound, subtitles, cover, chapters.

What is kept, encoded again or left out is decided, and said in one line each, before the first picture.
A track that fails later is left out from there on; pictures and the other tracks go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError

from ..errors import warn
from ..host.ffmpeg import kind_of, open_input, reason, text_of
from ..source.base import Media
from ..source.times import Timeline
from .base import SinkWarning
from .sound import EncodedSound, adts_config, codec_name, hand_on, plan_sound
from .subtitles import plan_subtitles

PEEK_PACKETS = 12  # of each track, to try on
PEEK_LIMIT = 3000  # packets of any track, looked through for them
SUFFIXES = {"mp4": ".mp4", "mov": ".mov", "matroska": ".mkv", "webm": ".webm"}
FATAL = {"space", "permission", "device", "memory"}  # not the track's fault
TIMECODE = "tmcd"  # written anew from the metadata of the pictures
CHAPTERS = "bin_data"  # the track of their titles in .mp4 and .mov, written anew too


class SideTracks:
    """All tracks of ``media`` but its pictures into ``output``, interleaved with them by time."""

    def __init__(self, media: Media, output: Any, *, sound: bool = True) -> None:
        self._media = media
        self._output = output
        self._container = output.format.name
        self._suffix = SUFFIXES.get(self._container, self._container)
        self._input = open_input(media.path)
        self._timeline = Timeline(self._input)
        self._tracks: dict[int, Any] = {}
        self._covers: list[tuple[Any, Any]] = []
        self._expected: dict[int, int] = {}  # by stream, ticks at which its next packet begins
        self._next: Any = None
        try:
            self._plan(sound)
        except BaseException:
            self._input.close()
            raise
        timed = [s for s in self._input.streams if s.type == "audio" or s.index == media.stream]
        wanted = [s for s in self._input.streams if s.index in self._tracks and s not in timed]
        self._packets: Iterator[Any] = iter(())
        if self._tracks:
            self._packets = self._input.demux(*timed, *wanted)

    def _plan(self, sound: bool) -> None:
        with open_input(self._media.path) as trial:
            self._choose(sound, list(trial.streams), *self._peek(trial))

    def _choose(
        self,
        sound: bool,
        trial: list[Any],  # streams of another container, whose decoders may be used up
        peeked: dict[int, list[Any]],
        changing: set[int],
    ) -> None:
        lost: list[str] = []
        has_chapters = bool(hasattr(self._input, "chapters") and self._input.chapters())
        for stream in self._input.streams:
            first = peeked.get(stream.index, [])
            if stream.index == self._media.stream:
                continue
            if stream.type == "audio":
                if not sound:
                    continue
                changes = stream.index in changing
                plan = plan_sound(trial[stream.index], first, self._container, changes)
                if plan.open is None:
                    self._warn(f"{_described(stream)} is left out: {plan.remark}")
                    continue
                self._tracks[stream.index] = plan.open(self._output, stream)
                if plan.remark:
                    hint = "" if self._container == "matroska" else "; write .mkv to keep it as it is"
                    self._warn(f"{_described(stream)}: {plan.remark}{hint}")
            elif stream.type == "subtitle":
                way = plan_subtitles(trial[stream.index], first, self._container)
                if way is None:
                    lost.append(_described(stream))
                else:
                    self._tracks[stream.index] = way(self._output, stream)
            elif stream.type == "video" and stream.disposition & av.stream.Disposition.attached_pic:
                if not (first and self._add_cover(stream, first[0])):
                    lost.append("the cover picture")
            elif stream.type == "attachment" and self._container == "matroska":
                try:
                    self._output.add_stream_from_template(stream)
                except (FFmpegError, ValueError, AttributeError):
                    lost.append(_described(stream))
            elif not (self._is_timecode(stream) or (has_chapters and _name(stream) == CHAPTERS)):
                lost.append(_described(stream))
        if not self._add_chapters():
            lost.append("chapters")
        if lost:
            counted = [what if n == 1 else f"{n} x {what}" for what, n in Counter(lost).items()]
            self._warn(f"not kept in {self._suffix}: {', '.join(counted)}")

    def _is_timecode(self, stream: Any) -> bool:
        """A track of the time of day that the pictures state too. (PyAV 18 has no name for its codec.)"""
        stated = stream.metadata.get("timecode")
        return _name(stream) == TIMECODE or (
            stated is not None and stated == self._media.stream_metadata.get("timecode")
        )

    def _peek(self, container: Any) -> tuple[dict[int, list[Any]], set[int]]:
        """The first packets of each side track, and those tracks of AAC whose rate or channels change."""
        first: dict[int, list[Any]] = {}
        configs: dict[int, bytes] = {}
        changing: set[int] = set()
        needed = {s.index for s in container.streams if s.type == "audio" and s.codec_context is not None}
        if len(container.streams) == 1:
            return first, changing
        timeline = Timeline(container)
        try:
            for count, packet in enumerate(container.demux()):
                index, kind = packet.stream.index, packet.stream.type
                timeline.place(packet)
                if index == self._media.stream or packet.size == 0:
                    continue
                kept = first.setdefault(index, [])
                if len(kept) < PEEK_PACKETS:
                    _complete(packet, len(kept))
                    kept.append(packet)
                config = adts_config(packet) if kind == "audio" and _name(packet.stream) == "aac" else None
                if config is not None and configs.setdefault(index, config) != config:
                    changing.add(index)
                full = all(len(first.get(i, ())) >= PEEK_PACKETS for i in needed)
                # AAC with a header in each packet may change midway: looked through to the end.
                if (full or count > PEEK_LIMIT) and not configs:
                    break
        except (FFmpegError, OSError):
            pass  # cut off; its pictures end there too
        return first, changing

    def _add_cover(self, stream: Any, packet: Any) -> bool:
        if self._container != "mp4":
            return self._container == "matroska" and self._attach_cover(stream, packet)
        if stream.codec_context is None or not (stream.width and stream.height):
            return False  # damaged: with it, no .mp4 could begin
        try:
            added = self._output.add_stream_from_template(stream, opaque=True)
        except (FFmpegError, ValueError):
            return False
        hand_on(stream, added)
        self._covers.append((added, packet))
        return True

    def _attach_cover(self, stream: Any, packet: Any) -> bool:
        kinds = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
        kind = kinds.get(stream.codec_context.name if stream.codec_context is not None else "")
        if kind is None or not hasattr(self._output, "add_attachment"):
            return False
        self._output.add_attachment(*kind, bytes(packet))
        return True

    def _add_chapters(self) -> bool:
        """False if there are some that are not kept."""
        try:
            chapters = self._input.chapters()
            if chapters:
                self._output.set_chapters([_shifted(c, self._media.start_s) for c in chapters])
        except (AttributeError, FFmpegError, ValueError):
            return False
        return True

    def _warn(self, what: str) -> None:
        warn(f"{self._media.path}: {what}", SinkWarning)

    @property
    def count(self) -> int:
        """How many tracks are written."""
        return len(self._tracks) + len(self._covers)

    def write(self, until_s: Fraction | None) -> None:
        """Pass on what begins before ``until_s`` (None: everything left)."""
        for added, packet in self._covers:
            packet.stream = added
            packet.pts = packet.dts = 0
            self._output.mux(packet)
        self._covers = []
        while True:
            if self._next is None:
                try:
                    self._next = next(self._packets, None)
                except (FFmpegError, OSError):
                    return  # the file is cut off; its pictures end there too
                if self._next is not None:
                    self._timeline.place(self._next)
            packet = self._next
            if packet is None:
                return
            index = packet.stream.index
            track = self._tracks.get(index)
            if track is not None and packet.size:
                _complete(packet, self._expected.get(index, 0))
                if until_s is not None and packet.dts * packet.time_base >= until_s:
                    return
                if self._overlaps(index, packet):
                    self._next = None
                    continue
                self._expected[index] = packet.dts + (packet.duration or 0)
                self._write(index, packet)
            elif isinstance(track, EncodedSound):
                self._write(index, packet)  # the end: what the decoder still holds
            self._next = None

    def _overlaps(self, index: int, packet: Any) -> bool:
        """Where parts were joined: it would sound at the same time as what was written before."""
        if not self._timeline.joints or packet.stream.type != "audio" or index not in self._expected:
            return False
        return bool(packet.dts + (packet.duration or 0) / 2 < self._expected[index])

    def _write(self, index: int, packet: Any) -> None:
        what = _described(packet.stream)
        try:
            self._tracks[index].write(packet)
        except (FFmpegError, OSError, ValueError) as error:
            if kind_of(error) in FATAL:
                raise
            del self._tracks[index]
            self._warn(f"{what} ends early: {reason(error)}")

    def close(self) -> None:
        """Write what is left in encoders; the output stays open."""
        try:
            for index, track in list(self._tracks.items()):
                try:
                    track.close()
                except (FFmpegError, ValueError) as error:
                    if kind_of(error) in FATAL:
                        raise
                    what = _described(self._input.streams[index])
                    self._warn(f"{what} ends early: {reason(error)}")
        finally:
            self._input.close()

    def abandon(self) -> None:
        """Write nothing more, not even what was begun."""
        self._input.close()


def _name(stream: Any) -> str:
    if stream.codec_context is not None:
        return codec_name(stream.codec_context)
    try:
        return str(stream.name or "unknown")
    except (AttributeError, LookupError, FFmpegError):
        return "unknown"


def _described(stream: Any) -> str:
    kind = {"audio": "sound", "video": "second video"}.get(str(stream.type), str(stream.type))
    language = stream.metadata.get("language", "und")
    where = "" if stream.type in ("data", "attachment") else f" {stream.index}"
    return f"{kind} track{where} ({_name(stream)}{'' if language == 'und' else ', ' + language})"


def _complete(packet: Any, expected: int) -> None:
    """Both times, where only one is stated or none."""
    if packet.dts is None:
        packet.dts = packet.pts if packet.pts is not None else expected
    if packet.pts is None:
        packet.pts = packet.dts


def _shifted(chapter: Any, start_s: Fraction) -> Any:
    ticks = round(start_s / Fraction(chapter["time_base"]))
    start = max(chapter["start"] - ticks, 0)
    end = max(chapter["end"] - ticks, start)
    return {**chapter, "start": start, "end": end, "metadata": text_of(chapter["metadata"])}
