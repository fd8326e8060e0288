"""Video files and network streams through FFmpeg's libraries.

Frames are turned upright by the display matrix, taken apart where they are interlaced, converted to BGR as
the stream states its colors (`color.py`), and carry the presentation times of the container (`times.py`),
which begin at 0 with the file's first track.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError, InvalidDataError
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType

from ..errors import SourceError, warn
from ..host.ffmpeg import is_url, open_input, reason, remedy, text_of
from ..types import Deep, Frame
from .base import Media, Source, SourceWarning
from .color import BT709, Color, ColorReader, color_of, is_transparent
from .deinterlace import Deinterlacer
from .times import BestEffort, Steady, Timeline

CONNECT_S = 10.0
SILENCE_S = 5.0  # a stream that sends nothing for so long is broken
DEFAULT_RATE = Fraction(25)
HIGHEST_RATE = 1000  # above, the header does not know
MOST_PIXELS = 16384 * 8192  # of a picture; what a damaged header asks for beyond is refused


class VideoSource(Source):
    """Frames of a file, or of a stream at a URL.

    live: frames are stamped on arrival and decoded with as little delay as possible; the end of a
    live stream is a SourceError, so that a live run reconnects.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        live: bool = False,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.name = str(location)
        self.live = live
        self._now_s = now_s
        self._index = 0
        self._open()

    def _open(self) -> None:
        network = is_url(self.name)
        if not network and not Path(self.name).is_file():
            raise SourceError(f"{self.name}: expected a video file, found no such file; check the path")
        # Over UDP a single lost packet shows for seconds.
        options = {"rtsp_transport": "tcp"} if self.name.startswith("rtsp") else {}
        try:
            self._container = open_input(
                self.name, options=options, timeout=(CONNECT_S, SILENCE_S) if network else None
            )
        except (FFmpegError, OSError, ValueError) as error:
            what = "a stream that answers" if network else "a whole video file that FFmpeg can read"
            raise SourceError(
                f"{self.name}: expected {what}, got: {reason(error)}; {remedy(error, 'read')}"
            ) from error
        try:
            self._prepare()
        except BaseException:
            self._container.close()
            raise

    def _prepare(self) -> None:
        container = self._container
        stream = self._stream = self._choose_stream()
        # Decoding frames in parallel delays them by the number of threads.
        stream.thread_type = "SLICE" if self.live else "AUTO"
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        self.rate = _plausible(stream.average_rate) or _plausible(stream.guessed_rate) or DEFAULT_RATE
        self._time_base = Fraction(stream.time_base or 1 / self.rate)
        self._timeline = Timeline(container)
        self._best_effort = BestEffort()
        self._steady = Steady(self.rate)
        self._deinterlacer = Deinterlacer()
        self._last_time: Fraction | None = None
        self._step_s = 1 / self.rate  # from the last frame but one to the last
        self._read_since_open = 0
        self._packets = 0  # of pictures, also of those that only lead up to the first that is shown
        self._damaged = 0
        self._reader: ColorReader | None = None
        self._turn: _Turn | None = None
        self._decoded = self._decode()
        # The first frame knows what no header says: whether anything decodes, its orientation, its colors.
        self._first = next(self._decoded, None)
        if self._first is None:
            raise SourceError(
                f"{self.name}: expected frames, but not one could be decoded; is the file damaged?"
            )
        self.size = (self._first.image.shape[1], self._first.image.shape[0])
        if not self.live:
            self.frame_count = stream.frames or None
            self.duration_s = self._announced_duration_s()
            upright = self._turn in (None, *_TURNS_THAT_KEEP_AXES)
            aspect = Fraction(stream.sample_aspect_ratio or 1)
            color = self._color
            if color.hdr:
                color = Color(matrix=BT709, bits=color.bits)
            self.media = Media(
                path=self.name,
                start_s=self._timeline.start_s,
                time_base=self._time_base,
                pixel_aspect=aspect if upright else 1 / aspect,
                color=color,
                stream=stream.index,
                metadata=text_of(container.metadata),
                stream_metadata=text_of(stream.metadata),
            )
            if self._transparent:
                self._say("what is transparent is shown on black")
            if self._color.hdr:
                self._say(f"high dynamic range ({self._color.hdr}) is converted to BT.709")

    def _choose_stream(self) -> Any:
        """The stream of pictures that players show: the default one, else the largest."""
        streams = [s for s in self._container.streams.video if not _is_cover(s)]
        if not streams:
            # A lone picture, as a HEIC or a song's cover
            streams = list(self._container.streams.video) if not self._container.streams.audio else []
        known = [s for s in streams if s.codec_context is not None]
        if streams and not known:
            raise SourceError(
                f"{self.name}: expected pictures that FFmpeg can decode, got an unknown codec; "
                "convert the file"
            )
        if not known:
            kinds = ", ".join(sorted({str(s.type) for s in self._container.streams})) or "nothing"
            raise SourceError(
                f"{self.name}: expected a video stream, found {kinds}; give a file with pictures"
            )
        default = av.stream.Disposition.default
        return max(known, key=lambda s: (bool(s.disposition & default), s.width * s.height, -s.index))

    def _say(self, what: str) -> None:
        """What of the pictures does not come out as it is."""
        warn(f"{self.name}: {what}", SourceWarning)

    def _announced_duration_s(self) -> float | None:
        if self._stream.duration:
            return float(self._stream.duration * self._time_base)
        if not self._container.duration:
            return None
        duration_s = self._container.duration / av.time_base
        # Matroska counts from 0, also where its first picture comes late.
        late_s = self._timeline.start_s if "matroska" in self._container.format.name else 0
        return max(duration_s - float(late_s), 0) or None

    def _read(self) -> Frame | None:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        frame = next(self._decoded, None)
        if frame is None and self.live:
            raise SourceError(f"{self.name}: expected the stream to go on, but it ended; is the sender up?")
        if frame is None:
            self._warn_if_short()
        return frame

    def _decode(self) -> Iterator[Frame]:
        # Sound is read along, because its clock tells where a joined file begins again.
        streams = [s for s in self._container.streams if s.type == "audio" or s is self._stream]
        packets = self._container.demux(*streams)
        while True:
            try:
                packet = next(packets, None)
                if packet is not None and packet.stream is not self._stream:
                    self._timeline.place(packet)
                    continue
                if packet is not None:
                    self._packets += packet.size > 0
                    self._timeline.place(packet)
                pictures = packet.decode() if packet is not None else []
            except InvalidDataError:
                self._damaged += 1
                continue
            except (FFmpegError, OSError) as error:
                if self.live or not self._read_since_open:
                    raise SourceError(
                        f"{self.name}: reading failed: {reason(error)}; {remedy(error, 'read')}"
                    ) from error
                self._damaged += 1
                pictures, packet = [], None
            for picture in pictures:
                # AVI knows no presentation times; FFmpeg's guesses go back and forth.
                own = None if self._container.format.name == "avi" else picture.pts
                picture.pts = self._best_effort(own, picture.dts)
                known = self._deinterlacer.interlaced
                for whole in self._deinterlacer(picture):
                    yield self._frame(whole)
                if self._deinterlacer.interlaced and not known:
                    self._say("interlaced pictures are deinterlaced")
            if packet is None:
                for whole in self._deinterlacer(None):
                    yield self._frame(whole)
                return

    def _frame(self, picture: Any) -> Frame:
        base = picture.time_base or self._time_base
        moment = self._steady(None if picture.pts is None else picture.pts * Fraction(base))
        if self._last_time is not None:
            self._step_s = moment - self._last_time
        self._last_time = moment
        if self._reader is None:
            side_data = _side_data(picture)
            self._turn = _turn(side_data)
            size = (picture.width, picture.height)
            self._color, self._transparent = (
                color_of(picture, self._stream.codec_context),
                is_transparent(picture),
            )
            self._reader = ColorReader(self._color, size, _stated_peak_nits(side_data))
        image, deep = self._reader(picture)
        if self._turn is not None:
            image = _upright(image, self._turn)
            deep = Deep(_upright(deep.pixels, self._turn), image) if deep is not None else None
        frame = Frame(image, self._index, self._now_s() if self.live else float(moment), deep)
        self._index += 1
        self._read_since_open += 1
        return frame

    def _warn_if_short(self) -> None:
        # AVI may state a rate of 600 of which most pictures are empty.
        end_s = float((self._last_time or 0) + max(1 / self.rate, min(self._step_s, Fraction(1))))
        missing_s = (self.duration_s or 0) - end_s
        announced = self._stream.frames
        if self._timeline.joints or self._steady.repaired:
            short = False  # its clocks are wrong, and so is the length that it announces
        elif announced:
            short = self._packets < announced and missing_s > 0.5 / float(self.rate)
        else:
            short = missing_s > max(1.0, float(2 / self.rate))
        if short or self._damaged:
            of = f" of {self.duration_s:.2f} s" if self.duration_s else ""
            warn(
                f"{self.name}: the file is cut off or damaged: read {self._read_since_open} frames, "
                f"{end_s:.2f} s{of}, {self._damaged} damaged packets",
                SourceWarning,
            )

    def reopen(self) -> None:
        if not self.live:
            super().reopen()
        with self._reading:
            if self._closing:
                raise SourceError(f"{self.name}: the source is closed")
            self._container.close()
            self._open()

    def _release(self) -> None:
        self._decoded.close()  # type: ignore[attr-defined]
        self._container.close()


def _plausible(rate: Any) -> Fraction | None:
    return Fraction(rate) if rate and 0 < rate <= HIGHEST_RATE else None


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


_SideData = dict[Any, bytes]


def _side_data(picture: Any) -> _SideData:
    """What accompanies a picture, by type; kinds that this PyAV has no name for are left out."""
    try:
        whole = picture.side_data
    except ValueError:  # a later FFmpeg knows more kinds (31 is Exif)
        whole = _without_unnamed(picture).side_data
    return {data.type: bytes(data) for data in whole}


def _without_unnamed(picture: Any) -> Any:
    graph = Graph()
    nodes = [
        graph.add_buffer(
            width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
        )
    ]
    numbers: list[Any] = [kind.value for kind in SideDataType]
    first = max(numbers) + 1
    for number in range(first, first + 64):
        try:
            nodes.append(graph.add("sidedata", f"mode=delete:type={number}"))
        except (FFmpegError, ValueError):
            break  # FFmpeg knows no such number either
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    graph.push(picture)
    return graph.pull()


def _stated_peak_nits(side_data: _SideData) -> float | None:
    """MaxCLL, the light of the brightest pixel, where the file states it believably."""
    data = side_data.get(SideDataType.CONTENT_LIGHT_LEVEL, b"")
    brightest = struct.unpack("=I", data[:4])[0] if len(data) >= 4 else 0
    return float(brightest) if 100 <= brightest <= 10000 else None


# Display matrices are 3x3 fixed point; the upper left 2x2 (rounded to -1, 0, 1) says how to turn.
_Turn = tuple[int, int, int, int]
_IDENTITY: _Turn = (1, 0, 0, 1)
_TURNS_THAT_KEEP_AXES: tuple[_Turn, ...] = ((1, 0, 0, 1), (-1, 0, 0, -1), (-1, 0, 0, 1), (1, 0, 0, -1))


def _turn(side_data: _SideData) -> _Turn | None:
    """The turn or flip that displays a picture upright; None if it is upright already."""
    data = side_data.get(SideDataType.DISPLAYMATRIX, b"")
    if len(data) < 36:
        return None
    matrix = struct.unpack("=9i", data[:36])
    a, b, c, d = (int(np.sign(v)) if abs(v) > 1 << 15 else 0 for v in (*matrix[0:2], *matrix[3:5]))
    turn = (a, b, c, d)
    # Anything but quarter turns and mirror images is left to the viewer's imagination.
    is_turn = (a and d and not b and not c) or (b and c and not a and not d)
    return turn if is_turn and turn != _IDENTITY else None


def _upright(image: Any, turn: _Turn) -> Any:
    """Pixel (x, y) goes to (a x + c y, b x + d y), shifted into view."""
    a, b, c, d = turn
    size = image.dtype.itemsize
    pixels = np.ascontiguousarray(image).view(f"V{3 * size}")[
        ..., 0
    ]  # moved whole: half the time of three channels
    if a == 0:
        pixels, a, d = pixels.T, c, b
    turned = np.ascontiguousarray(pixels[::d, ::a])
    return turned.view(image.dtype).reshape(*turned.shape, 3)
