"""Small files of every kind that people bring, made with PyAV from a description of their tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from doppelgan.runtime.source.pattern import PatternSource
from doppelgan.runtime.types import Image

RATE = 25
PCM = {"pcm_s16le": "s16", "pcm_s24le": "s32", "pcm_f32le": "flt", "pcm_u8": "u8", "pcm_s16be": "s16"}


@dataclass
class Sound:
    """A tone that begins ``onset_s`` into its track."""

    codec: str = "aac"
    layout: str = "stereo"
    rate: int = 48000
    seconds: float = 1.0
    onset_s: float = 0.3
    start_s: float = 0.0  # of the track
    language: str = ""
    default: bool = True


@dataclass
class Pictures:
    """The test pattern, or the pictures given."""

    frames: int = 25
    size: tuple[int, int] = (64, 48)
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    images: Sequence[Image] | None = None
    times: Sequence[Fraction] | None = None
    time_base: Fraction = Fraction(1, 90000)
    options: dict[str, str] = field(default_factory=lambda: {"crf": "12", "preset": "ultrafast"})
    tags: dict[str, int] = field(default_factory=dict)  # of the codec context: colorspace, color_trc ...
    aspect: Fraction | None = None


def write_media(
    path: Path,
    pictures: Pictures | None = None,
    sounds: Sequence[Sound] = (),
    *,
    metadata: dict[str, str] | None = None,
    chapters: Sequence[tuple[float, float, str]] = (),
    subtitles: Sequence[tuple[float, float, str]] = (),
    subtitle_codec: str = "mov_text",
    options: dict[str, str] | None = None,
    ts_offset_s: float = 0.0,
) -> Path:
    """Write what is described; the order of tracks is pictures, sounds, subtitles."""
    pictures = pictures or Pictures()
    settings = dict(options or {})
    if ts_offset_s:
        settings["output_ts_offset"] = str(ts_offset_s)
    with av.open(str(path), "w", options=settings) as container:
        container.metadata.update(metadata or {})
        if chapters:
            container.set_chapters(
                [
                    {
                        "id": i,
                        "start": round(a * 1000),
                        "end": round(b * 1000),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": title},
                    }
                    for i, (a, b, title) in enumerate(chapters)
                ]
            )
        stream = container.add_stream(pictures.codec, rate=RATE, options=dict(pictures.options))
        context: Any = stream.codec_context
        context.width, context.height = pictures.size
        context.pix_fmt = pictures.pixel_format
        context.time_base = pictures.time_base
        for name, value in pictures.tags.items():
            setattr(context, name, value)
        if pictures.aspect:
            context.sample_aspect_ratio = pictures.aspect
        tracks = []
        for sound in sounds:
            track: Any = container.add_stream(sound.codec, rate=sound.rate)
            track.codec_context.layout = sound.layout
            if sound.codec.startswith("wma"):
                track.codec_context.bit_rate = 128_000
            track.disposition = 1 if sound.default else 0
            if sound.language:
                track.metadata["language"] = sound.language
            tracks.append(track)
        words: Any = None
        if subtitles:
            from doppelgan.runtime.sink.subtitles import HEADER

            words = container.add_stream(subtitle_codec)
            words.codec_context.subtitle_header = HEADER
            words.time_base = Fraction(1, 1000)
        _write_pictures(container, stream, pictures)
        for sound, track in zip(sounds, tracks, strict=True):
            _write_sound(container, track, sound)
        for begin, end, text in subtitles:
            data = text.encode()
            packet = av.Packet(len(data).to_bytes(2, "big") + data if subtitle_codec == "mov_text" else data)
            packet.stream, packet.time_base = words, Fraction(1, 1000)
            packet.pts = packet.dts = round(begin * 1000)
            packet.duration = round((end - begin) * 1000)
            container.mux(packet)
    return path


def _write_pictures(container: Any, stream: Any, pictures: Pictures) -> None:
    times = pictures.times or [Fraction(i, RATE) for i in range(pictures.frames)]
    width, height = pictures.size
    images = pictures.images
    if images is None:
        with PatternSource(f"test:{max(width, 32)}x{max(height, 32)}@{RATE}:{len(times)}") as pattern:
            images = [frame.image[:height, :width] for frame in pattern]
    for image, moment in zip(images, times, strict=False):
        form = "bgr24" if image.dtype == np.uint8 else "bgr48le"
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=form)
        tags = pictures.tags
        picture = picture.reformat(
            format=pictures.pixel_format,
            dst_colorspace=_sws(tags.get("colorspace", 6)),
            dst_color_range=tags.get("color_range", 1),
            interpolation=0x20 | 0x40000,
        )
        picture.pts, picture.time_base = round(moment / pictures.time_base), pictures.time_base
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def _sws(matrix: int) -> int:
    """libswscale's number of a matrix of H.273."""
    return {1: 1, 9: 9}.get(matrix, 5)


def _write_sound(container: Any, track: Any, sound: Sound) -> None:
    for piece in sound_pieces(sound, track.codec_context.format.name, track.codec_context.frame_size or 1024):
        container.mux(track.encode(piece))
    container.mux(track.encode(None))


def sound_pieces(sound: Sound, form: str, size: int) -> list[Any]:
    """Frames of the tone."""
    layout = av.AudioLayout(sound.layout)
    moments = np.arange(round(sound.seconds * sound.rate)) / sound.rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * moments) * (moments >= sound.onset_s)
    planes = np.stack([tone] * layout.nb_channels)
    kind = form.removesuffix("p")
    scale = {"s16": 32767, "s32": 2**31 - 1, "flt": 1.0, "dbl": 1.0, "u8": 127}[kind]
    dtype = {"s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64, "u8": np.uint8}[kind]
    samples = (planes * scale + (128 if kind == "u8" else 0)).astype(dtype)
    pieces = []
    for start in range(0, samples.shape[1], size):
        part = samples[:, start : start + size]
        if not form.endswith("p"):
            part = part.T.reshape(1, -1)
        piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format=form, layout=sound.layout)
        piece.sample_rate, piece.time_base = sound.rate, Fraction(1, sound.rate)
        piece.pts = start + round(sound.start_s * sound.rate)
        pieces.append(piece)
    return pieces


def copy(source: Path, target: Path, **options: Any) -> Path:
    """Through the runtime, with nothing edited."""
    from doppelgan.runtime.sink import open_sink
    from doppelgan.runtime.source import open_source

    with open_source(source) as frames, open_sink(target, like=frames, **options) as sink:
        for frame in frames:
            sink.write(frame)
    return target


@dataclass
class Heard:
    codec: str
    layout: str
    samples: Any  # float32 [N], channels averaged
    start_s: float
    rate: int
    language: str
    default: bool

    @property
    def onset_s(self) -> float:
        """When the tone begins."""
        loud = np.flatnonzero(np.abs(self.samples) > 0.05)
        return self.start_s + float(loud[0]) / self.rate


def _mono(piece: Any) -> Any:
    """float64 [N], -1..1: the mean of all channels."""
    if piece.format.is_planar:
        # To samples side by side: reading eight planes crashes in PyAV 18.1.
        (piece,) = av.AudioResampler(format=piece.format.name.removesuffix("p")).resample(piece)
    kind = piece.format.name
    dtype = {"s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64, "u8": np.uint8}[kind]
    top = {"s16": 2**15, "s32": 2**31, "flt": 1.0, "dbl": 1.0, "u8": 128}[kind]
    channels = piece.layout.nb_channels
    data = np.frombuffer(piece.planes[0], dtype)[: piece.samples * channels].reshape(-1, channels)
    return (data.astype(np.float64) - (128 if kind == "u8" else 0)).mean(1) / top


def hear(path: Path) -> list[Heard]:
    """Every sound track of a file, decoded."""
    heard = []
    with av.open(str(path)) as probe:
        count = len(probe.streams.audio)
    for index in range(count):
        with av.open(str(path)) as container:
            stream = container.streams.audio[index]
            pieces = list(container.decode(stream))
            planes = []
            for piece in pieces:
                planes.append(_mono(piece))
            heard.append(
                Heard(
                    codec=stream.codec_context.name,
                    layout=stream.codec_context.layout.name,
                    samples=np.concatenate(planes) if planes else np.zeros(0),
                    start_s=float(pieces[0].pts * pieces[0].time_base) if pieces else 0.0,
                    rate=stream.codec_context.sample_rate,
                    language=stream.metadata.get("language", ""),
                    default=bool(stream.disposition.value & 1),
                )
            )
    return heard


def onset_s(path: Path) -> float:
    """When the first track's tone begins, after the first picture. (Matroska moves all tracks past 0.)"""
    with av.open(str(path)) as container:
        first = next(container.decode(container.streams.best("video")))
        return hear(path)[0].onset_s - float(first.pts * first.time_base)
