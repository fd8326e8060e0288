"""Video files: H.264 pictures at exact times, beside the audio of the source.

The file is written aside as ``NAME.part`` and takes its name when it is complete; closing early (after
Ctrl-C, after an error elsewhere) completes it with what was written. Pictures are BT.709, limited range,
and say so.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from ..errors import SinkError
from ..source.base import Source
from ..types import Frame, Image
from .audio import AudioCopy
from .base import Sink

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
CODECS = ("libx264", "libopenh264", "mpeg4")  # the first that FFmpeg was built with
WEBM_CODECS = ("libvpx-vp9", "libvpx")
DEFAULT_RATE = Fraction(30)
# Superfast with the macroblock tree of the slower presets: the size and quality of veryfast at half its time.
DEFAULT_PRESET = "superfast"
SUPERFAST_EXTRA = {"x264-params": "mbtree=1:rc-lookahead=10"}
FINE_TIME_BASE = Fraction(1, 90000)  # where frames come at any time
COARSE_TIME_BASE = Fraction(1, 60000)  # MPEG-4 part 2 allows 65535 at most
BT709 = 1  # AVCOL_SPC_BT709, AVCOL_PRI_BT709, AVCOL_TRC_BT709
LIMITED = 1  # AVCOL_RANGE_MPEG
# libswscale's flags for chroma that is the mean of 2x2 pixels and for rounding: by default it cuts fractions
# off, which darkens by half a level. By number because not every PyAV names the second.
ROUNDED_MEANS = 0x20 | 0x40000
MUXERS_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder"}


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
        self._audio: AudioCopy | None = None
        self._part = self._path.with_name(self._path.name + ".part")
        self._container = self._open()

    def _open(self) -> Any:
        suffix = self._path.suffix.lower()
        if suffix not in FORMATS:
            raise SinkError(
                f"{self.name}: expected one of {' '.join(FORMATS)}, got {suffix!r}; rename the output"
            )
        if self._path.is_dir():
            raise SinkError(f"{self.name}: expected a file to write, found a folder; choose another name")
        if self._media and self._path.exists() and self._path.samefile(self._media.path):
            raise SinkError(f"{self.name}: expected another file than the source; choose another name")
        self._codec = self._choose_codec(WEBM_CODECS if suffix == ".webm" else CODECS)
        try:
            self._part.touch()
        except OSError as error:
            remedy = (
                "make the folder first" if not self._path.parent.is_dir() else "check permissions and space"
            )
            raise SinkError(f"{self.name}: cannot write: {error.strerror}; {remedy}") from error
        options = {}
        if FORMATS[suffix] in ("mp4", "mov"):
            options["movflags"] = "+faststart"
            if self._media:
                # Late starts are stored in units of the movie, by default milliseconds.
                options["movie_timescale"] = str(self._media.time_base.denominator)
        return av.open(str(self._part), "w", format=FORMATS[suffix], options=options)

    def _choose_codec(self, names: tuple[str, ...]) -> str:
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
        if self._codec == "mpeg4" and self._time_base.denominator > 65535:
            self._time_base = COARSE_TIME_BASE
        self._last_pts: int | None = None
        self._duration = max(1, round(1 / self._rate / self._time_base))

        self._padded = (width % 2, height % 2) if self._even else (0, 0)
        width, height = width + self._padded[0], height + self._padded[1]
        options = {
            "libx264": self._settings,
            "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "7", "row-mt": "1"},
            "libvpx": {"crf": "8", "b": "8M", "deadline": "realtime", "cpu-used": "8"},
            "libopenh264": {"b": "8M"},
            "mpeg4": {"flags": "+qscale", "global_quality": str(118 * 3)},
        }[self._codec]
        stream = self._container.add_stream(self._codec, rate=self._rate, options=dict(options))
        self._stream = stream
        context = stream.codec_context
        context.width, context.height = width, height
        odd_h264 = (width % 2 or height % 2) and self._codec == "libx264"
        context.pix_fmt = "yuv444p" if odd_h264 else "yuv420p"
        context.time_base = self._time_base
        context.thread_count = self._threads
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        if self._media:
            context.sample_aspect_ratio = self._media.pixel_aspect
            self._container.metadata.update(_kept(self._media.metadata))
            stream.metadata.update(_kept(self._media.stream_metadata))
            if self._audio_wanted:
                self._audio = AudioCopy(self._media, self._container)

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
            pts = round((frame.time_s - self._start_s) / self._time_base)
            if self._last_pts is not None:
                pts = max(pts, self._last_pts + 1)  # a file needs times that grow
            self._last_pts = pts
            picture = self._picture(frame.image)
            picture.pts, picture.time_base, picture.duration = pts, self._time_base, self._duration
            self._container.mux(self._stream.encode(picture))
            if self._audio is not None:
                self._audio.write(until_s=pts * self._time_base)
        except (FFmpegError, OSError) as error:
            self._failed = True
            raise self._cannot_write(error) from error
        except BaseException:
            self._failed = self._failed or not self.frames
            raise

    def _picture(self, image: Image) -> Any:
        right, bottom = self._padded
        if right or bottom:
            image = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
        return bgr_to_yuv(image, self._stream.codec_context.pix_fmt, self._reformatter)

    def _finish(self) -> None:
        if self._stream is None or self._failed:
            self._discard()
            return
        try:
            self._container.mux(self._stream.encode(None))
            if self._audio is not None:
                like = self._like
                complete = like is not None and like.finished and self.frames == like.last_index + 1
                end = ((self._last_pts or 0) + self._duration) * self._time_base
                self._audio.write(until_s=None if complete else end)
                self._audio.close()
            self._container.close()
            self._part.replace(self._path)
        except (FFmpegError, OSError) as error:
            self._discard()
            raise self._cannot_write(error) from error
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        """Leave nothing half-written."""
        try:
            self._container.close()
        except (FFmpegError, OSError):
            pass
        finally:
            self._part.unlink(missing_ok=True)

    def _cannot_write(self, error: Exception) -> SinkError:
        reason = str(getattr(error, "strerror", None) or error)
        return SinkError(f"{self.name}: cannot write: {reason}; check free space and permissions")


def bgr_to_yuv(
    image: Image,  # BGR uint8 [H,W,3]
    pixel_format: str,  # "yuv420p" or "yuv444p"
    reformatter: VideoReformatter,  # keeps its tables from frame to frame
) -> av.VideoFrame:
    """BT.709 limited range, rounded; chroma of yuv420p is the mean of 2x2 pixels."""
    return reformatter.reformat(
        av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="bgr24"),
        format=pixel_format,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=ROUNDED_MEANS,
    )


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower() not in MUXERS_OWN}
