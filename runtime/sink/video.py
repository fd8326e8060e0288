"""Video files: H.264 pictures at exact times, beside sound, subtitles and chapters of the source.

The file is written aside as ``NAME.part`` and takes its name when it is complete. Closing early (after
Ctrl-C) completes it with what was written; after an error elsewhere it stays a part, which can be played.
What is recorded live into .mp4 or .mov can be played up to its last seconds even if the process is killed.
Colors are coded as in the source (BT.709, limited range, where there is none) and say so; 10 bits stay 10
bits, in HEVC.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from ..errors import SinkError, warn
from ..host.ffmpeg import kind_of, local, reason, remedy
from ..source.base import Source
from ..source.color import BT709, BT2020_CL, BT2020_NCL, FCC, SMPTE240M, Color
from ..types import Frame
from .base import Sink, SinkWarning
from .tracks import FATAL, SideTracks

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
CODECS = ("libx264", "libopenh264", "mpeg4")  # the first that FFmpeg was built with
WEBM_CODECS = ("libvpx-vp9", "libvpx")
DEEP_CODECS = ("libx265", "libx264")  # of more than 8 bits
WIDE_CODECS = ("libvpx-vp9",)  # of pictures that H.264 has no room for
H264_SIDE = 16384  # pixels
FILE_SIDE = 65535  # that containers can state
HEVC_SIDE = 64  # at least
X265_DELAY = 2  # pictures by which it decodes ahead
DEFAULT_RATE = Fraction(30)
# Superfast with the macroblock tree of the slower presets: the size and quality of veryfast at half its time.
DEFAULT_PRESET = "superfast"
SUPERFAST_EXTRA = {"x264-params": "mbtree=1:rc-lookahead=10"}
BACK_S = 1  # what times go back by is jitter up to here
LONGEST_STEP = 2**31 - 1  # units of the time base between two pictures; MP4 has 32 bits for it
FINE_TIME_BASE = Fraction(1, 90000)  # where frames come at any time
COARSE_TIME_BASE = Fraction(1, 60000)  # MPEG-4 part 2 allows 65535 at most
SOUND_UNITS = 48000  # per second; sound that begins late is not moved by more than half of one
LIMITED, FULL = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
# libswscale's flags for chroma that is the mean of 2x2 pixels and for rounding: by default it cuts fractions
# off, which darkens by half a level. By number because not every PyAV names the second.
ROUNDED_MEANS = 0x20 | 0x40000
MUXERS_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "bps"}
STATISTICS = ("number_of_", "_statistics")  # that mkvmerge writes about a track as it was
NAME_BYTES = 255  # of a file, on most systems
HYBRID_SINCE = (61, 7, 100)  # libavformat
PIECE_US = 2_000_000  # of a live recording; what is lost at most if the process is killed


class VideoSink(Sink):
    """Writes .mp4, .m4v, .mov, .mkv or .webm.

    like: the source that the frames were made from; its rate, exact times, audio, metadata and pixel
    aspect are kept. preset, crf: of x264. Frames of odd size are coded without chroma subsampling
    (4:2:0 needs even sizes), which browsers and players of computers show but some televisions do not;
    even=True pads them by a repeated pixel instead.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        like: Source | None = None,
        rate: Fraction | float | None = None,  # frames/s where there is no source to ask
        preset: str = DEFAULT_PRESET,
        crf: int = 18,
        threads: int | None = None,  # of the encoder; half the processors if None
        audio: bool = True,
        even: bool = False,
    ) -> None:
        super().__init__()
        self.name = str(path)
        self._path = Path(path)
        self._like = like
        self._media = like.media if like is not None else None
        self._rate = Fraction(rate or (like.rate if like else DEFAULT_RATE)).limit_denominator(100_000)
        self._settings = {"preset": preset, "crf": str(crf)}
        if preset == DEFAULT_PRESET:
            self._settings |= SUPERFAST_EXTRA
        self._threads = threads or max(1, (os.cpu_count() or 1) // 2)
        self._audio_wanted = audio
        self._even = even
        self._failed = False
        self._stream: Any = None
        self._reformatter = VideoReformatter()
        self._tracks: SideTracks | None = None
        self._color = self._media.color if self._media else Color()
        if self._color.matrix in (BT2020_NCL, BT2020_CL) and not writes_bt2020():
            self._color = replace(self._color, matrix=BT709)
        self._part = aside(self._path)
        self._check_place()
        self._container = self._open()

    def _check_place(self) -> None:
        suffix = self._path.suffix.lower()
        if suffix not in FORMATS:
            raise SinkError(
                f"{self.name}: expected one of {' '.join(FORMATS)}, got {suffix!r}; rename the output"
            )
        try:
            there = self._path.exists()
            if self._path.is_dir():
                raise SinkError(f"{self.name}: expected a file to write, found a folder; choose another name")
            if self._media and there and self._path.samefile(self._media.path):
                raise SinkError(f"{self.name}: expected another file than the source; choose another name")
            self._part.touch()
        except OSError as error:
            raise self._cannot_write(error) from error

    def _open(self) -> Any:
        container = FORMATS[self._path.suffix.lower()]
        options = {}
        if self._is_live:
            options["flush_packets"] = "1"
            options |= (
                {"cluster_time_limit": str(PIECE_US // 1000)} if container in ("matroska", "webm") else {}
            )
        if container in ("mp4", "mov"):
            flags = "+faststart"
            if self._is_live and av.library_versions["libavformat"] >= HYBRID_SINCE:
                flags = "+hybrid_fragmented+delay_moov"
                options["frag_duration"] = str(PIECE_US)
            if self._media:
                # Late starts are stored in units of the movie, by default milliseconds: in those of the
                # pictures, divided further where they are too coarse for sound (an AVI's are whole frames).
                units = self._media.time_base.denominator
                options["movie_timescale"] = str(units * ceil(SOUND_UNITS / units))
                if any(key.startswith("com.") for key in self._media.metadata):
                    flags += "+use_metadata_tags"  # as phones write them
            options["movflags"] = flags
        return av.open(local(self._part), "w", format=container, options=options)

    @property
    def _is_live(self) -> bool:
        return self._like is not None and self._like.live

    def _choose_codec(self, width: int, height: int) -> str:
        suffix = self._path.suffix.lower()
        names: tuple[str, ...] = CODECS
        if suffix == ".webm":
            names = WEBM_CODECS
        elif max(width, height) > H264_SIDE:
            names = WIDE_CODECS if suffix != ".mov" else ()
        elif self._color.bits > 8:
            names = DEEP_CODECS if min(width, height) >= HEVC_SIDE else DEEP_CODECS[1:]
            names += CODECS
        if not names or max(width, height) > FILE_SIDE:
            limit, do = (FILE_SIDE, "scale them first") if names else (H264_SIDE, "write .mp4 or .mkv")
            raise SinkError(
                f"{self.name}: expected pictures of up to {limit} pixels a side, got {width}x{height}; {do}"
            )
        for name in names:
            if name in av.codecs_available:
                return name
        raise SinkError(
            f"{self.name}: expected an FFmpeg that encodes with {' or '.join(names)}; run: pip install av"
        )

    def _start(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        self._shape = frame.image.shape
        self._start_s = 0.0 if self._media else frame.time_s
        if self._media:
            self._time_base = self._media.time_base
        elif self._like is not None and not self._like.live:
            self._time_base = 1 / self._rate
        else:
            self._time_base = FINE_TIME_BASE
        self._last_pts: int | None = None
        self._padded = (width % 2, height % 2) if self._even else (0, 0)
        width, height = width + self._padded[0], height + self._padded[1]
        self._codec = self._choose_codec(width, height)
        if self._codec == "mpeg4" and self._time_base.denominator > 65535:
            self._time_base = COARSE_TIME_BASE
        self._duration = max(1, round(1 / self._rate / self._time_base))
        self._add_pictures(width, height)
        if self._media is None or self._media.silent:
            return
        self._container.metadata.update(_kept(self._media.metadata) | dict(self.tags))
        try:
            self._tracks = SideTracks(self._media, self._container, sound=self._audio_wanted)
            self._container.start_encoding()
        except (FFmpegError, OSError, ValueError) as error:
            if kind_of(error) in FATAL or self._tracks is None or not self._tracks.count:
                raise
            self._start_without_tracks(width, height, error)

    def _add_pictures(self, width: int, height: int) -> None:
        stream = self._container.add_stream(self._codec, rate=self._rate, options=self._codec_options())
        self._stream = stream
        context = stream.codec_context
        context.width, context.height = width, height
        context.pix_fmt = self._pixel_format(width, height)
        context.time_base = self._time_base
        context.thread_count = self._threads
        color = self._color
        context.colorspace, context.color_range = color.matrix, FULL if color.full_range else LIMITED
        context.color_primaries, context.color_trc = color.primaries, color.transfer
        if self._codec == "libx265":
            context.codec_tag = "hvc1"  # what players of Apple know
        self._container.metadata.update(self.tags)
        if self._media:
            context.sample_aspect_ratio = self._media.pixel_aspect
            stream.metadata.update(_kept(self._media.stream_metadata))

    def _codec_options(self) -> dict[str, str]:
        return {
            "libx264": dict(self._settings),
            "libx265": {
                "preset": self._settings["preset"],
                "crf": self._settings["crf"],
                "x265-params": f"log-level=error:pools={self._threads}",
            },
            "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "7", "row-mt": "1"},
            "libvpx": {"crf": "8", "b": "8M", "deadline": "realtime", "cpu-used": "8"},
            "libopenh264": {"b": "8M"},
            "mpeg4": {"flags": "+qscale", "global_quality": str(118 * 3)},
        }[self._codec]

    def _pixel_format(self, width: int, height: int) -> str:
        odd = (width % 2 or height % 2) and self._codec in ("libx264", "libx265")
        form = "yuv444p" if odd else "yuv420p"
        known = {f.name for f in av.Codec(self._codec, "w").video_formats or ()}
        return form + "10le" if self._color.bits > 8 and form + "10le" in known else form

    def _start_without_tracks(self, width: int, height: int, error: Exception) -> None:
        """Each track was tried alone; that they do not go together comes out before the first picture."""
        warn(f"{self.name}: sound and other tracks are left out: {reason(error)}", SinkWarning)
        self._abandon()
        self._container = self._open()
        self._add_pictures(width, height)

    def _write(self, frame: Frame) -> None:
        try:
            if self._stream is None:
                self._start(frame)
            if frame.image.shape != self._shape:
                (height, width), (new_height, new_width) = self._shape[:2], frame.image.shape[:2]
                raise SinkError(
                    f"{self.name}: expected {width}x{height} as before, got {new_width}x{new_height}; "
                    "a video has one size: write images, or scale them first"
                )
            pts = self._last_pts = self._place(frame.time_s)
            picture = self._picture(frame)
            picture.pts, picture.time_base, picture.duration = pts, self._time_base, self._duration
            self._container.mux(self._stream.encode(picture))
            if self._tracks is not None:
                self._tracks.write(until_s=pts * self._time_base)
        except (FFmpegError, OSError) as error:
            self._failed = True
            raise self._cannot_write(error) from error
        except BaseException:
            self._failed = self._failed or not self.frames
            raise

    def _place(self, time_s: float) -> int:
        """In units of the time base, growing. Where a camera's clock has jumped, it goes on as before."""
        pts = round((time_s - self._start_s) / self._time_base)
        if self._last_pts is None:
            return pts
        step = pts - self._last_pts
        if not self._media and (step * self._time_base < -BACK_S or step > LONGEST_STEP):
            self._start_s += float((step - self._duration) * self._time_base)
            return self._last_pts + self._duration
        return max(pts, self._last_pts + 1)

    def _picture(self, frame: Frame) -> Any:
        form = self._stream.codec_context.pix_fmt
        image: Any = frame.image
        if form.endswith("10le"):
            image = image.astype(np.uint16) * 256 if frame.deep is None else frame.deep.edited(image)
        right, bottom = self._padded
        if right or bottom:
            image = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
        return bgr_to_yuv(image, form, self._reformatter, self._color)

    def _finish(self) -> None:
        if self._stream is None or self._failed:
            self._discard()
            return
        try:
            rest = self._stream.encode(None)
            if self._codec == "libx265" and self.frames <= X265_DELAY:
                for packet in rest:
                    packet.dts = packet.pts  # in so short a film x265 leaves it to chance
            self._container.mux(rest)
            if self._tracks is not None:
                like = self._like
                complete = like is not None and like.finished and self.frames == like.last_index + 1
                end = ((self._last_pts or 0) + self._duration) * self._time_base
                self._tracks.write(until_s=None if complete else end)
                self._tracks.close()
            self._container.close()
            if self.broken_off:
                notice = f"{self.name}: not complete; its first {self.frames} frames are kept as {self._part}"
                warn(notice, SinkWarning)
                return
            self._part.replace(self._path)
            self._completed(self._path)
        except (FFmpegError, OSError) as error:
            self._discard()
            raise self._cannot_write(error) from error
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        """Leave nothing half-written."""
        try:
            self._abandon()
        finally:
            self._part.unlink(missing_ok=True)

    def _abandon(self) -> None:
        tracks, self._tracks = self._tracks, None
        if tracks is not None:
            tracks.abandon()
        with contextlib.suppress(FFmpegError, OSError):
            self._container.close()

    def _cannot_write(self, error: Exception) -> SinkError:
        return SinkError(f"{self.name}: cannot write: {reason(error)}; {remedy(error, 'write')}")


def aside(path: Path) -> Path:
    """Where a file is written before it is complete: ``NAME.part``, shorter if the name would be too long."""
    name = path.name + ".part"
    if len(os.fsencode(name)) > NAME_BYTES:
        mark = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
        name = f"{os.fsencode(path.name)[:200].decode('utf-8', 'ignore')}.{mark}.part"
    return path.with_name(name)


_SWS = {BT709: Colorspace.ITU709, FCC: Colorspace.FCC, SMPTE240M: Colorspace.SMPTE240M}
_SWS_BT2020 = 9  # not among PyAV's names


def bgr_to_yuv(
    image: Any,  # BGR uint8 or uint16 [H,W,3]
    pixel_format: str,  # "yuv420p", "yuv444p", or those of 10 bits
    reformatter: VideoReformatter,  # keeps its tables from frame to frame
    color: Color | None = None,  # BT.709, limited range if None
) -> av.VideoFrame:
    """Matrix and range of ``color``, rounded; chroma of 4:2:0 is the mean of 2x2 pixels."""
    color = color or Color()
    matrix: Any = _SWS.get(color.matrix, Colorspace.ITU601)
    if color.matrix in (BT2020_NCL, BT2020_CL):
        matrix = _SWS_BT2020
    if image.dtype == np.uint8:
        source = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="bgr24")
    else:
        source = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr48le")
    return reformatter.reformat(
        source,
        format=pixel_format,
        dst_colorspace=matrix,
        dst_color_range=ColorRange.JPEG if color.full_range else ColorRange.MPEG,
        interpolation=ROUNDED_MEANS,
    )


@cache
def writes_bt2020() -> bool:
    """Whether this PyAV passes the matrix on: older ones take another, without a word."""
    red = np.full((16, 16, 3), (0, 0, 255), np.uint8)
    luma = bgr_to_yuv(red, "yuv420p", VideoReformatter(), Color(matrix=BT2020_NCL)).to_ndarray()[0, 0]
    return abs(float(luma) - (16 + 219 * 0.2627)) < 2


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower().split("-")[0] not in MUXERS_OWN and not key.lower().startswith(STATISTICS)
    }
