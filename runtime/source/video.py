"""Video files and network streams through FFmpeg's libraries.

Frames are turned upright by the display matrix, converted to BGR by the color matrix and range that the
stream states, and carry the exact presentation times of the container, constant rate or not.
"""

from __future__ import annotations

import struct
import time
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError, InvalidDataError
from av.video.reformatter import Colorspace, VideoReformatter

from ..errors import SourceError
from ..types import Frame
from .base import Media, Source, SourceWarning

CONNECT_S = 10.0
SILENCE_S = 5.0  # a stream that sends nothing for so long is broken
DEFAULT_RATE = Fraction(25)
TIMESTAMPS_START_ANYWHERE = {"mpegts", "mpeg", "hls", "rtsp", "rtp", "sdp", "flv", "live_flv"}
HD_LINES = 720  # untagged video is BT.709 from here on, BT.601 below, as players assume
COLORSPACE_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED


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
        network = "://" in self.name
        if not network and not Path(self.name).is_file():
            raise SourceError(f"{self.name}: expected a video file, found no such file; check the path")
        # Over UDP a single lost packet shows for seconds.
        options = {"rtsp_transport": "tcp"} if self.name.startswith("rtsp") else {}
        try:
            self._container = av.open(
                self.name, options=options, timeout=(CONNECT_S, SILENCE_S) if network else None
            )
        except (FFmpegError, OSError, ValueError) as error:
            what = "a stream that answers" if network else "a whole video file that FFmpeg can read"
            remedy = "check the address" if network else "a recording that was cut off must be repaired first"
            raise SourceError(f"{self.name}: expected {what}, got: {_reason(error)}; {remedy}") from error
        try:
            self._prepare()
        except BaseException:
            self._container.close()
            raise

    def _prepare(self) -> None:
        container = self._container
        streams = [
            s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
        ]
        if not streams:
            kinds = ", ".join(sorted({str(s.type) for s in container.streams})) or "nothing"
            raise SourceError(
                f"{self.name}: expected a video stream, found {kinds}; give a file with pictures"
            )
        stream = self._stream = streams[0]
        # Decoding frames in parallel delays them by the number of threads.
        stream.thread_type = "SLICE" if self.live else "AUTO"
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
        self._time_base = Fraction(stream.time_base or 1 / self.rate)
        self._offset = self._start_offset()
        self._reformatter = VideoReformatter()
        self._last_time: Fraction | None = None
        self._read_since_open = 0
        self._damaged = 0
        self._coded_size: tuple[int, int] | None = None
        self._decoded = self._decode()
        # The first frame knows what no header says: whether anything decodes, and its orientation.
        self._first = next(self._decoded, None)
        if self._first is None:
            raise SourceError(
                f"{self.name}: expected frames, but not one could be decoded; is the file damaged?"
            )
        self.size = (self._first.image.shape[1], self._first.image.shape[0])
        if not self.live:
            self.frame_count = stream.frames or None
            self.duration_s = self._announced_duration_s()
            upright = self._first_turn in (None, *_TURNS_THAT_KEEP_AXES)
            aspect = Fraction(stream.sample_aspect_ratio or 1)
            self.media = Media(
                path=self.name,
                start_s=self._offset * self._time_base,
                time_base=self._time_base,
                pixel_aspect=aspect if upright else 1 / aspect,
                metadata=dict(container.metadata),
                stream_metadata=dict(stream.metadata),
            )

    def _start_offset(self) -> int:
        """Ticks to subtract. Broadcast formats start their clocks anywhere; others mean what they say."""
        start_us = self._container.start_time
        if start_us is None or not TIMESTAMPS_START_ANYWHERE & set(self._container.format.name.split(",")):
            return 0
        return round(Fraction(start_us, av.time_base) / self._time_base)

    def _announced_duration_s(self) -> float | None:
        if self._stream.duration:
            return float(self._stream.duration * self._time_base)
        if self._container.duration:
            return self._container.duration / av.time_base
        return None

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
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                pictures = packet.decode() if packet is not None else None
            except InvalidDataError:
                self._damaged += 1
                continue
            except (FFmpegError, OSError) as error:
                if self.live or not self._read_since_open:
                    raise SourceError(f"{self.name}: reading failed: {_reason(error)}; try again") from error
                self._damaged += 1
                return
            if pictures is None:
                return
            for picture in pictures:
                yield self._frame(picture)

    def _frame(self, picture: Any) -> Frame:
        if picture.pts is not None:
            moment = (picture.pts - self._offset) * self._time_base
        else:
            moment = Fraction(0) if self._last_time is None else self._last_time + 1 / self.rate
        self._last_time = moment
        if self._coded_size is None:
            self._coded_size = (picture.width, picture.height)
            self._first_turn = _turn(picture)
            self._turn = self._first_turn
        untagged_hd = picture.colorspace == COLORSPACE_UNSPECIFIED and picture.height >= HD_LINES
        image: Any = self._reformatter.reformat(
            picture,
            width=self._coded_size[0],  # a stream may change its size midway; the frames do not
            height=self._coded_size[1],
            format="bgr24",
            src_colorspace=Colorspace.ITU709 if untagged_hd else None,
        ).to_ndarray()
        if self._turn is not None:
            image = _upright(image, self._turn)
        frame = Frame(image, self._index, self._now_s() if self.live else float(moment))
        self._index += 1
        self._read_since_open += 1
        return frame

    def _warn_if_short(self) -> None:
        end_s = float((self._last_time or 0) + 1 / self.rate)
        missing_s = (self.duration_s or 0) - end_s
        announced = self._stream.frames
        if announced:
            short = self._read_since_open < announced and missing_s > 0.5 / float(self.rate)
        else:
            short = missing_s > max(1.0, float(2 / self.rate))
        if short or self._damaged:
            of = f" of {self.duration_s:.2f} s" if self.duration_s else ""
            warnings.warn(
                f"{self.name}: the file is cut off or damaged: read {self._read_since_open} frames, "
                f"{end_s:.2f} s{of}, {self._damaged} damaged packets",
                SourceWarning,
                stacklevel=4,
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


# Display matrices are 3x3 fixed point; the upper left 2x2 (rounded to -1, 0, 1) says how to turn.
_Turn = tuple[int, int, int, int]
_IDENTITY: _Turn = (1, 0, 0, 1)
_TURNS_THAT_KEEP_AXES: tuple[_Turn, ...] = ((1, 0, 0, 1), (-1, 0, 0, -1), (-1, 0, 0, 1), (1, 0, 0, -1))


def _turn(picture: Any) -> _Turn | None:
    """The turn or flip that displays ``picture`` upright; None if it is upright already."""
    try:
        data = bytes(picture.side_data["DISPLAYMATRIX"])
    except KeyError:
        return None
    matrix = struct.unpack("=9i", data[:36])
    a, b, c, d = (int(np.sign(v)) if abs(v) > 1 << 15 else 0 for v in (*matrix[0:2], *matrix[3:5]))
    turn = (a, b, c, d)
    # A rotation by anything but quarter turns is left to the viewer's imagination.
    return None if turn == _IDENTITY or abs(a * d - b * c) != 1 else turn


def _upright(image: Any, turn: _Turn) -> Any:
    """Pixel (x, y) goes to (a x + c y, b x + d y), shifted into view."""
    a, b, c, d = turn
    pixels = image.view("V3")[..., 0]  # moved whole: half the time of moving three channels
    if a == 0:
        pixels, a, d = pixels.T, c, b
    turned = np.ascontiguousarray(pixels[::d, ::a])
    return turned.view(np.uint8).reshape(*turned.shape, 3)


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).strip().splitlines()[0]
