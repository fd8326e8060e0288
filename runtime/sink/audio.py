"""Audio beside edited pictures: packets are copied; only what a container refuses is encoded again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

from ..source.base import Media
from .base import SinkWarning

AUDIO_FRAME = 1024  # samples, where the encoder takes any number


class AudioCopy:
    """All audio streams of ``media`` into ``output``, interleaved with its pictures by time."""

    def __init__(self, media: Media, output: Any) -> None:
        self._media = media
        self._output = output
        self._input = av.open(media.path)
        self._tracks = {stream.index: self._track(stream) for stream in self._input.streams.audio}
        self._packets: Iterator[Any] = iter(())
        if self._tracks:
            self._packets = self._input.demux(*self._input.streams.audio)
        self._next: Any = None

    def _track(self, stream: Any) -> _Copied | _Encoded:
        try:
            return _Copied(self._output, stream)
        except ValueError:
            track = _Encoded(self._output, stream)
            warnings.warn(
                f"{self._media.path}: {self._output.format.name} cannot hold {stream.codec_context.name} "
                f"audio: encoded again as {track.codec_name}; write .mkv to keep it as it is",
                SinkWarning,
                stacklevel=6,
            )
            return track

    def write(self, until_s: Fraction | None) -> None:
        """Pass on what begins before ``until_s`` (None: everything left)."""
        while True:
            if self._next is None:
                try:
                    self._next = next(self._packets, None)
                except FFmpegError:
                    return  # the file is cut off; its pictures end there too
            packet = self._next
            if packet is None:
                return
            if packet.dts is not None:
                shift = round(self._media.start_s / packet.time_base)
                if until_s is not None and (packet.dts - shift) * packet.time_base >= until_s:
                    return
                packet.dts -= shift
                packet.pts = packet.dts if packet.pts is None else packet.pts - shift
                self._tracks[packet.stream.index].write(packet)
            self._next = None

    def close(self) -> None:
        """Encode what is left in the encoders; the output stays open."""
        try:
            for track in self._tracks.values():
                track.close()
        finally:
            self._input.close()


class _Copied:
    def __init__(self, output: Any, stream: Any) -> None:
        self._output = output
        self._stream = output.add_stream_from_template(stream)
        self._stream.metadata.update(stream.metadata)

    def write(self, packet: Any) -> None:
        packet.stream = self._stream
        self._output.mux(packet)

    def close(self) -> None:
        pass


class _Encoded:
    def __init__(self, output: Any, stream: Any) -> None:
        self._output = output
        self.codec_name = output.default_audio_codec
        # FFmpeg's own Opus and Vorbis encoders are experimental.
        self.codec_name = {"opus": "libopus", "vorbis": "libvorbis"}.get(self.codec_name, self.codec_name)
        rate = 48000 if self.codec_name == "libopus" else stream.codec_context.sample_rate
        self._stream = output.add_stream(self.codec_name, rate=rate)
        context = self._stream.codec_context
        context.layout = stream.codec_context.layout
        self._stream.metadata.update(stream.metadata)
        self._resampler: AudioResampler | None = None

    def write(self, packet: Any) -> None:
        for sound in packet.decode():
            if self._resampler is None:
                context = self._stream.codec_context
                self._resampler = AudioResampler(
                    context.format, context.layout, context.sample_rate, context.frame_size or AUDIO_FRAME
                )
            self._encode(self._resampler.resample(sound))

    def close(self) -> None:
        if self._resampler is not None:
            self._encode([*self._resampler.resample(None), None])

    def _encode(self, sounds: list[Any]) -> None:
        for sound in sounds:
            self._output.mux(self._stream.encode(sound))
