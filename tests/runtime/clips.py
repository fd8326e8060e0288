"""Tiny video files, made on the spot: the test pattern for pictures, a sine for sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from doppelgan.runtime.source.pattern import COUNTER_BITS, PatternSource
from doppelgan.runtime.types import Frame, Image

SAMPLE_RATE = 48000


def read_counter(image: Image) -> int:
    """The frame's index (modulo 65536) from a picture of the pattern, also after lossy coding."""
    height, width = image.shape[:2]
    cell = width // COUNTER_BITS
    row = image[height - height // 16]
    return sum(1 << bit for bit in range(COUNTER_BITS) if row[bit * cell + cell // 2].mean() > 127)


def write_clip(
    path: Path,
    *,
    size: tuple[int, int] = (64, 48),  # (width, height)
    frames: int = 12,
    rate: Fraction | int = 25,
    times: Sequence[Fraction] | None = None,  # of each frame, in seconds; evenly spaced if None
    time_base: Fraction = Fraction(1, 90000),
    audio: str | None = None,  # codec of a sine as long as the pictures
    rotation: float = 0,  # degrees counterclockwise to display upright
    flip: bool = False,  # left and right, after rotating
    video: bool = True,
    title: str | None = None,
    faststart: bool = False,
) -> Path:
    """Write a clip whose frames carry their index (``read_counter``)."""
    times = times or [i / Fraction(rate) for i in range(frames)]
    options = {"movie_timescale": str(time_base.denominator)} if path.suffix == ".mp4" else {}
    if path.suffix == ".ts":
        options["output_ts_offset"] = "1.4"  # as broadcasts do, and as the ffmpeg program writes
    if faststart:
        options["movflags"] = "+faststart"
    with av.open(str(path), "w", options=options) as container:
        if title:
            container.metadata["title"] = title
        stream: Any = None
        sound: Any = None
        if video:
            stream = container.add_stream(
                "libx264", rate=Fraction(rate), options={"crf": "12", "preset": "ultrafast"}
            )
            context = stream.codec_context
            context.width, context.height = size
            context.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
            context.time_base = time_base
            if rotation or flip:
                stream.set_display_rotation(rotation, hflip=flip)
        if audio:
            sound = container.add_stream(audio, rate=SAMPLE_RATE)
            sound.codec_context.layout = "mono"
        if video:
            with PatternSource(f"test:{size[0]}x{size[1]}@{rate}:{len(times)}") as pattern:
                for frame, moment in zip(pattern, times, strict=True):
                    picture = av.VideoFrame.from_ndarray(frame.image, format="bgr24")
                    picture.pts, picture.time_base = round(moment / time_base), time_base
                    container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        if audio:
            samples = round(SAMPLE_RATE * (times[-1] + 1 / Fraction(rate)))
            size_of_frame = sound.codec_context.frame_size or 1024
            wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(samples) / SAMPLE_RATE)
            for start in range(0, samples, size_of_frame):
                part = wave[None, start : start + size_of_frame]
                form = sound.codec_context.format.name
                part = (part * 32767).astype(np.int16) if form == "s16" else part.astype(np.float32)
                piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format=form, layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
                container.mux(sound.encode(piece))
            container.mux(sound.encode(None))
    return path


def packets(path: Path, kind: str) -> list[tuple[int | None, int | None, bytes]]:
    """(presentation ticks, duration, data) of every packet of the first stream of ``kind``, as stored."""
    with av.open(str(path)) as container:
        stream = next((s for s in container.streams if s.type == kind), None)
        if stream is None:
            return []
        return [(p.pts, p.duration, bytes(p)) for p in container.demux(stream) if p.dts is not None]


def frame(
    shade: int = 0, index: int = 0, size: tuple[int, int] = (64, 48), time_s: float | None = None
) -> Frame:
    """Of one shade; without a time at its place in 30 frames/s."""
    image = np.full((size[1], size[0], 3), shade, np.uint8)
    return Frame(image, index, index / 30 if time_s is None else time_s)


def left_in(folder: Path) -> list[str]:
    """Names of the files in a folder."""
    return sorted(file.name for file in folder.iterdir())
