"""Pictures as they travel: JPEG, bare YUV, H.264 <-> BGR.

JPEG goes through Pillow's libjpeg-turbo: at 640x480 it encodes in 0.6 of the time that FFmpeg's encoder
takes and decodes in about the same. A page on this very machine sends bare I420 or NV12 instead, which costs
neither side an encoder; H.264 serves thin networks.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any, Final, cast

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from ..errors import SourceError
from ..pictures.files import encode_picture
from ..pictures.picture import Picture
from ..sink.video import ROUNDED_MEANS
from ..types import Image

MOST_SIDE: Final = 4096  # px of a live frame's side
MOST_PIXELS: Final = 2560 * 1600 + 2560 * 64  # of a live frame with its strip
_LEAST_SIDE: Final = 16


def check_size(width: int, height: int) -> None:
    """Raise SourceError unless a live frame may be this large."""
    sides = (width, height)
    if min(sides) < _LEAST_SIDE or max(sides) > MOST_SIDE or width * height > MOST_PIXELS:
        raise SourceError(
            f"frame: expected {_LEAST_SIDE}..{MOST_SIDE} px a side, {MOST_PIXELS / 1e6:.1f} million pixels, "
            f"got {width}x{height}; choose a smaller camera picture"
        )


def decode_jpeg(data: bytes | memoryview) -> Image:
    """BGR uint8 [H,W,3]. The size is checked before anything is decoded. Raises SourceError."""
    from PIL import Image as pillow

    try:
        with pillow.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            width, height = picture.size
            check_size(width, height)
            picture.draft("RGB", picture.size)
            rows = picture.convert("RGB").tobytes("raw", "BGR")
    except SourceError:
        raise
    except Exception as error:  # what decoders raise on damaged data has no common base
        raise SourceError(f"frame: expected a JPEG, got {len(data)} bytes that are none ({error})") from None
    return np.frombuffer(rows, np.uint8).reshape(height, width, 3)


def encode_jpeg(image: Image, quality: int = 85) -> bytes:
    """A baseline JPEG with 4:2:0 chroma."""
    from PIL import Image as pillow

    height, width = image.shape[:2]
    picture = pillow.frombuffer("RGB", (width, height), np.ascontiguousarray(image), "raw", "BGR", 0, 1)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality, subsampling="4:2:0")
    return data.getvalue()


class YuvReader:
    """Bare planes to BGR; keeps its tables from frame to frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(
        self,
        data: bytes | memoryview,
        width: int,
        height: int,
        *,
        nv12: bool = False,  # Y, then U and V in turns; else I420: Y, U, V
        full_range: bool = False,
        bt709: bool = False,  # else BT.601
    ) -> Image:
        """BGR uint8 [H,W,3] of even width and height. Raises SourceError."""
        check_size(width, height)
        if width % 2 or height % 2 or len(data) != width * height * 3 // 2:
            raise SourceError(
                f"frame: expected even sides and {width * height * 3 // 2} bytes for {width}x{height}, "
                f"got {len(data)}"
            )
        planes = np.frombuffer(data, np.uint8).reshape(height * 3 // 2, width)
        frame = av.VideoFrame.from_ndarray(planes, format="nv12" if nv12 else "yuv420p")
        return to_bgr(frame, self._reformatter, full_range=full_range, bt709=bt709)


def to_bgr(
    frame: av.VideoFrame,
    reformatter: VideoReformatter,
    *,
    full_range: bool | None = None,  # None: as the frame says
    bt709: bool | None = None,
) -> Image:
    """BGR uint8 [H,W,3] of a decoded frame."""
    source: dict[str, Any] = {}
    if bt709 is not None:
        source["src_colorspace"] = Colorspace.ITU709 if bt709 else Colorspace.ITU601
    if full_range is not None:
        source["src_color_range"] = ColorRange.JPEG if full_range else ColorRange.MPEG
    converted = reformatter.reformat(frame, format="bgr24", dst_color_range=ColorRange.JPEG, **source)
    return cast(Image, converted.to_ndarray())


class H264Reader:
    """An Annex B stream, one picture a call; every picture must be given, in order."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._decoder: Any = av.CodecContext.create("h264", "r")
        self._decoder.thread_count = 1
        self._decoder.options = {"flags": "low_delay"}

    def __call__(self, data: bytes | memoryview) -> Image:
        """BGR uint8 [H,W,3]. Raises SourceError; the next picture must then be a key frame."""
        try:
            frames = self._decoder.decode(av.Packet(bytes(data)))
        except FFmpegError as error:
            raise SourceError(f"frame: expected H.264, got {error.strerror or error}") from None
        if not frames:
            raise SourceError("frame: expected H.264 with one picture a message, got none")
        check_size(frames[-1].width, frames[-1].height)
        return to_bgr(frames[-1], self._reformatter)


class H264Writer:
    """One viewer's stream: Annex B, no picture waits for a later one. A change of size starts anew."""

    def __init__(self, bitrate: int = 2_500_000) -> None:
        self._bitrate = bitrate
        self._reformatter = VideoReformatter()
        self._encoder: Any = None
        self._size = (0, 0)
        self._number = 0
        self._key = True

    def restart(self) -> None:
        """The next picture will be a key frame."""
        self._key = True

    def __call__(self, image: Image) -> tuple[bytes, bool]:
        """The picture's bytes and whether it is a key frame; odd sides lose their last pixel."""
        height, width = (side // 2 * 2 for side in image.shape[:2])
        if self._encoder is None or self._size != (width, height):
            self._start(width, height)
        frame = self._reformatter.reformat(
            av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image[:height, :width]), format="bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=ROUNDED_MEANS,
        )
        frame.pts = self._number
        frame.pict_type = av.video.frame.PictureType.I if self._key else av.video.frame.PictureType.NONE
        self._number += 1
        packets = self._encoder.encode(frame)
        is_key = self._key or any(packet.is_keyframe for packet in packets)
        self._key = False
        return b"".join(bytes(packet) for packet in packets), is_key

    def _start(self, width: int, height: int) -> None:
        encoder: Any = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height = width, height
        encoder.pix_fmt = "yuv420p"
        encoder.time_base = Fraction(1, 30)
        encoder.framerate = Fraction(30)
        encoder.bit_rate = self._bitrate
        encoder.thread_count = 1
        encoder.colorspace = encoder.color_primaries = encoder.color_trc = 1  # BT.709
        encoder.color_range = 1
        encoder.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "profile": "baseline",
            "x264-params": "keyint=300:repeat-headers=1:annexb=1",
        }
        self._encoder, self._size, self._key = encoder, (width, height), True


def fit_within(image: Image, side: int) -> Image:
    """``image`` made smaller until no side is longer than ``side`` px."""
    from PIL import Image as pillow

    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = pillow.fromarray(np.ascontiguousarray(image)).resize(size, pillow.Resampling.LANCZOS)
    return np.asarray(small)


def encode_png(image: Image) -> bytes:
    """A PNG at full size."""
    return bytes(encode_picture(Picture(image), "picture.png"))
