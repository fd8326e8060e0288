"""Sound tracks beside edited pictures: packets are copied; what a container refuses is encoded again.

Which of both is decided by trying: the first packets of a track are written to a file of the same kind in
memory, to its last byte, so that whatever a container refuses (a codec, a layout of channels, a rate) is
known before the first picture is edited.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil
from typing import Any

import av
from av.error import FFmpegError
from av.filter import Graph

from ..host.ffmpeg import reason, text_of, trial_file

# What players play, best first; the first that this FFmpeg encodes and the container takes is used.
ENCODERS = {
    "mp4": ("aac",),
    "mov": ("alac", "aac"),
    "matroska": ("flac", "aac"),
    "webm": ("libopus", "libvorbis"),
}
LOSSY_ENCODERS = {"mov": ("aac",), "matroska": ("aac",)}
# FFmpeg copies these into .mp4, but hardly any player finds sound there.
REFUSED = {"mp4": ("pcm_", "truehd", "mlp")}
LOSSLESS = ("pcm_", "flac", "alac", "tta", "wavpack", "ape", "truehd", "mlp", "shorten", "tak")
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
RATES = (None, 48000)  # None: as it is; every encoder takes the other
PIECE = 1024  # samples, where the encoder takes any number
ADTS_SYNC = 0xFFF
# Languages that QuickTime files know by another name (FFmpeg writes none for the usual one)
MAC_LANGUAGES = {"deu": "ger", "nld": "dut", "swe": "sve", "zho": "chi", "ell": "gre", "isl": "ice"}
# Gaps and overlaps of more than 0.1 s (joined files) become silence and cuts; less is left alone.
ALIGNED = "async=1:min_hard_comp=0.1"


class SoundTrack(ABC):
    """One track of sound on its way into a file; packets come with corrected times."""

    @abstractmethod
    def write(self, packet: Any) -> None: ...

    def close(self) -> None:  # noqa: B027 - what is copied leaves nothing
        """Write what is left in an encoder; the file stays open."""


class CopiedSound(SoundTrack):
    def __init__(self, output: Any, stream: Any) -> None:
        self._output = output
        self._stream = output.add_stream_from_template(stream)
        context = self._stream.codec_context
        if not is_named(context.layout):
            context.layout = named_layout(context.layout)
        hand_on(stream, self._stream)
        self._last: int | None = None

    def write(self, packet: Any) -> None:
        # A file needs times that grow, in its own units, which may be coarser than those of the packet.
        tick = ceil(Fraction(1, self._stream.codec_context.sample_rate) / packet.time_base)
        if self._last is not None and packet.dts < self._last + tick:
            packet.dts = self._last + tick
            packet.pts = max(packet.pts, packet.dts)
        self._last = packet.dts
        packet.stream = self._stream
        self._output.mux(packet)


class EncodedSound(SoundTrack):
    def __init__(self, output: Any, stream: Any, codec: str, layout: str, rate: int | None) -> None:
        self._output = output
        rate = 48000 if codec == "libopus" else rate or stream.codec_context.sample_rate
        self._stream = output.add_stream(codec, rate=rate)
        self._stream.codec_context.layout = layout
        hand_on(stream, self._stream)
        self._shape: tuple[Any, ...] = ()
        self._convert: Graph | None = None  # from what the decoder gives; it may change midway
        self._align: Graph | None = None  # gapless pieces of the encoder's size

    def write(self, packet: Any) -> None:
        try:
            sounds = packet.decode()
        except av.error.InvalidDataError:
            return  # damaged: silence fills the gap
        for sound in sounds:
            shape = (sound.format.name, sound.layout.name, sound.sample_rate)
            if shape != self._shape:  # a broadcast changes from stereo to 5.1
                self._flush_converter()
                self._convert, self._shape = self._converter(sound), shape
            assert self._convert is not None
            self._convert.push(sound)
            self._pass_on()

    def close(self) -> None:
        self._flush_converter()
        if self._align is not None:
            self._align.push(None)
            self._encode()
            self._output.mux(self._stream.encode(None))

    def _converter(self, sound: Any) -> Graph:
        context = self._stream.codec_context
        graph = Graph()
        source = graph.add(
            "abuffer",
            sample_rate=str(sound.sample_rate),
            sample_fmt=sound.format.name,
            channel_layout=sound.layout.name if is_named(sound.layout) else named_layout(sound.layout),
            time_base=str(sound.time_base or Fraction(1, sound.sample_rate)),
        )
        form = graph.add(
            "aformat",
            sample_rates=str(context.sample_rate),
            sample_fmts=context.format.name,
            channel_layouts=context.layout.name,
        )
        graph.link_nodes(source, form, graph.add("abuffersink")).configure()
        return graph

    def _aligner(self) -> Graph:
        context = self._stream.codec_context
        graph = Graph()
        source = graph.add(
            "abuffer",
            sample_rate=str(context.sample_rate),
            sample_fmt=context.format.name,
            channel_layout=context.layout.name,
            time_base=str(Fraction(1, context.sample_rate)),
        )
        graph.link_nodes(source, graph.add("aresample", ALIGNED), graph.add("abuffersink")).configure()
        graph.set_audio_frame_size(context.frame_size or PIECE)
        return graph

    def _pass_on(self) -> None:
        assert self._convert is not None
        base = Fraction(1, self._stream.codec_context.sample_rate)
        for sound in _pulled(self._convert):
            if sound.pts is not None:
                sound.pts = round(sound.pts * sound.time_base / base)
            sound.time_base = base
            self._align = self._align or self._aligner()
            self._align.push(sound)
            self._encode()

    def _encode(self) -> None:
        assert self._align is not None
        for sound in _pulled(self._align):
            self._output.mux(self._stream.encode(sound))

    def _flush_converter(self) -> None:
        if self._convert is not None:
            self._convert.push(None)
            self._pass_on()
            self._convert = None


def _pulled(graph: Graph) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (BlockingIOError, EOFError):  # FFmpeg's errors of these kinds are subclasses
            return


Opener = Callable[[Any, Any], SoundTrack]  # output, stream of the input


@dataclass(frozen=True, slots=True)
class SoundPlan:
    """How one track gets into the file, and what to say about it (an empty text: nothing)."""

    open: Opener | None  # None: it is left out
    remark: str = ""


def plan_sound(
    stream: Any,  # of an input that is read for the trial alone: decoders remember
    packets: Sequence[Any],  # its first, times corrected; kept as they are
    container: str,  # "mp4", "mov", "matroska", "webm"
    changes: bool = False,  # its rate or channels change midway, where the codec states them once
) -> SoundPlan:
    """Copy, else encode, else leave out; tried on ``packets`` before it is promised."""
    context = stream.codec_context
    if context is None or not context.name:
        return SoundPlan(None, "its codec is unknown to FFmpeg")
    codec = codec_name(context)
    why = "its rate or channels change midway" if changes else f"{container} cannot hold {codec} audio"
    refused = changes or any(codec.startswith(name) for name in REFUSED.get(container, ()))
    if not refused:
        problem = _tried(container, CopiedSound, stream, packets)
        if problem is None:
            return SoundPlan(CopiedSound)
    lossless = codec.startswith(LOSSLESS)
    encoders = ENCODERS[container] if lossless else LOSSY_ENCODERS.get(container, ENCODERS[container])
    own = context.layout.name if is_named(context.layout) else named_layout(context.layout)
    problem = "no encoder for it"
    for encoder in encoders:
        if encoder not in av.codecs_available:
            continue
        for layout in dict.fromkeys((own, LAYOUTS.get(context.layout.nb_channels, "stereo"), "stereo")):
            for rate in RATES:
                opened = partial(EncodedSound, codec=encoder, layout=layout, rate=rate)
                problem = _tried(container, opened, stream, packets) or ""
                if not problem:
                    return SoundPlan(opened, f"{why}: encoded again as {encoder}")
    return SoundPlan(None, f"{why}, nor can it be encoded again ({problem})")


def _tried(container: str, opened: Opener, stream: Any, packets: Sequence[Any]) -> str | None:
    """Why the track cannot be written; None if it can."""
    try:
        with trial_file(container) as output:
            track = opened(output, stream)
            for packet in packets:
                track.write(copy_of(packet))
            track.close()
            output.start_encoding()
    except (FFmpegError, OSError, ValueError, LookupError) as error:
        return reason(error)
    return None


def copy_of(packet: Any, data: bytes | None = None) -> Any:
    """The same data (or others) and times; writing a packet changes its times."""
    twin = av.Packet(bytes(packet) if data is None else data)
    twin.time_base = packet.time_base
    twin.pts, twin.dts, twin.duration = packet.pts, packet.dts, packet.duration
    twin.is_keyframe = packet.is_keyframe
    twin.stream = packet.stream
    return twin


def is_named(layout: Any) -> bool:
    """Whether it says which channel is which: "stereo", not "2 channels"."""
    return not layout.name.endswith((" channels", " channel")) and bool(layout.name)


def named_layout(layout: Any) -> str:
    return LAYOUTS.get(layout.nb_channels, "stereo")


def hand_on(stream: Any, result: Any) -> None:
    """Language, title, and whether it is the default track."""
    metadata = text_of(stream.metadata)
    if result.container.format.name == "mov" and metadata.get("language") in MAC_LANGUAGES:
        metadata["language"] = MAC_LANGUAGES[metadata["language"]]
    result.metadata.update(metadata)
    with contextlib.suppress(AttributeError):  # before PyAV 15 it cannot be set
        result.disposition = stream.disposition.value


def codec_name(context: Any) -> str:
    """ "mp3", not "mp3float", the decoder that is used for it."""
    return str(getattr(context.codec, "canonical_name", None) or context.name)


def adts_config(packet: Any) -> bytes | None:
    """Profile, rate and channels that a frame of AAC states in its ADTS header; None without one."""
    head = bytes(packet)[:4]
    if len(head) < 4 or (head[0] << 4 | head[1] >> 4) != ADTS_SYNC:
        return None
    return bytes((head[2] & 0b11111101, head[3] & 0b11000000))
