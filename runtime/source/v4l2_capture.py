"""Linux cameras through FFmpeg's Video4Linux input, which the base install has."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from ..types import Image


class V4l2Capture:
    """Pictures of a device such as /dev/video0. Raises OSError or FFmpegError if it cannot be opened."""

    def __init__(
        self,
        path: str,
        size: tuple[int, int],  # (width, height), a wish
        rate: Fraction | float,  # frames/s, a wish
    ) -> None:
        wish = {"video_size": f"{size[0]}x{size[1]}", "framerate": f"{float(rate):g}"}
        # Webcams send 720p at full rate only as JPEG pictures; some devices have none, or one size only.
        attempts: list[dict[str, str]] = [wish | {"input_format": "mjpeg"}, wish, {}]
        for options in attempts:
            try:
                self._container = av.open(path, format="v4l2", options=options)
                break
            except (FFmpegError, OSError):
                if options == attempts[-1]:
                    raise
        stream = self._container.streams.video[0]
        # Decoding frames in parallel delays them by the number of threads.
        stream.thread_type = "SLICE"
        self.rate = float(stream.average_rate or 0)
        self._reformatter = VideoReformatter()
        self._pictures: Iterator[Any] = self._container.decode(stream)

    def read(self) -> Image | None:
        """BGR uint8 [H,W,3], or None if this time none came."""
        try:
            picture = next(self._pictures, None)
        except (FFmpegError, OSError):
            return None
        if picture is None:
            return None
        return np.asarray(self._reformatter.reformat(picture, format="bgr24").to_ndarray(), np.uint8)

    def release(self) -> None:
        self._container.close()
