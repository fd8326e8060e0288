"""Sound beside edited pictures: its times, what it is encoded as, gaps and damage, channels and languages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from doppelgan.runtime.sink import SinkWarning, tracks
from doppelgan.runtime.sink.sound import (
    CopiedSound,
    adts_config,
    codec_name,
    copy_of,
    hand_on,
    is_named,
    named_layout,
    plan_sound,
)

from .clips import packets
from .media import Pictures, Sound, copy, hear, write_media

FEW = Pictures(frames=5)
QUIET = "ignore::doppelgan.runtime.sink.SinkWarning"


# Times of what is copied


class Output:
    """A file that remembers the times of what is written."""

    def __init__(self, rate: int) -> None:
        self.format = SimpleNamespace(name="matroska")
        context = SimpleNamespace(sample_rate=rate, layout=SimpleNamespace(name="stereo", nb_channels=2))
        self.stream = SimpleNamespace(codec_context=context, metadata={}, disposition=0, container=self)
        self.times: list[tuple[int, int]] = []

    def add_stream_from_template(self, stream: Any) -> Any:
        return self.stream

    def mux(self, packet: Any) -> None:
        assert packet.stream is self.stream
        self.times.append((packet.pts, packet.dts))


@pytest.mark.parametrize(
    ("rate", "base", "given", "written"),
    [
        (48000, Fraction(1, 48000), [0, 1024, 2048], [0, 1024, 2048]),
        (48000, Fraction(1, 48000), [0, 0, 0, 2], [0, 1, 2, 3]),
        (48000, Fraction(1, 1000), [5, 5, 4, 7], [5, 6, 7, 8]),
        (8000, Fraction(1, 90000), [0, 5, 24, 100, 50, 112], [0, 12, 24, 100, 112, 124]),  # a sample: 11.25
    ],
)
def test_times_of_copied_sound_grow_by_a_sample_at_least(
    rate: int, base: Fraction, given: list[int], written: list[int]
) -> None:
    output = Output(rate)
    source = SimpleNamespace(metadata={}, disposition=SimpleNamespace(value=0))
    track = CopiedSound(output, source)
    for ticks in given:
        track.write(SimpleNamespace(pts=ticks, dts=ticks, time_base=base, stream=source))
    assert output.times == [(ticks, ticks) for ticks in written]


def test_a_packet_is_not_heard_before_it_can_be_decoded() -> None:
    output = Output(48000)
    source = SimpleNamespace(metadata={}, disposition=SimpleNamespace(value=0))
    track = CopiedSound(output, source)
    for pts, dts in ((0, 0), (200, 0), (0, 0)):
        track.write(SimpleNamespace(pts=pts, dts=dts, time_base=Fraction(1, 48000), stream=source))
    assert output.times == [(0, 0), (200, 1), (2, 2)]


class Undated:
    """An input whose packets of sound state one of their times only, or none."""

    def __init__(self, container: Any, missing: tuple[str, ...]) -> None:
        self._container, self._missing = container, missing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def __enter__(self) -> Undated:
        return self

    def __exit__(self, *args: object) -> None:
        self._container.close()

    def demux(self, *streams: Any) -> Iterator[Any]:
        for packet in self._container.demux(*streams):
            if packet.stream.type == "audio":
                for name in self._missing:
                    setattr(packet, name, None)
            yield packet


@pytest.mark.parametrize("missing", [("dts",), ("pts",), ("pts", "dts")])
def test_times_that_packets_do_not_state_are_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    late = 0.2 if "pts" not in missing or "dts" not in missing else 0.0
    path = write_media(tmp_path / "in.mkv", FEW, [Sound("flac", seconds=0.4, start_s=late)])
    before = packets(path, "audio")
    real = tracks.open_input
    monkeypatch.setattr(tracks, "open_input", lambda path: Undated(real(path), missing))
    after = packets(copy(path, tmp_path / "out.mkv"), "audio")
    assert [data for *_, data in after] == [data for *_, data in before]
    times = [pts for pts, *_ in after if pts is not None]
    assert times == pytest.approx([pts for pts, *_ in before if pts is not None], abs=2)


# What it is encoded as


@pytest.mark.parametrize(
    ("source", "codec", "target", "encoded"),
    [
        (".mkv", "flac", ".mov", "alac"),
        (".mkv", "pcm_s16le", ".mp4", "aac"),
        (".mkv", "flac", ".webm", "libopus"),
        (".mkv", "libopus", ".mov", "aac"),
        (".mov", "alac", ".webm", "libopus"),
    ],
)
def test_what_lost_nothing_loses_nothing_where_the_container_can(
    tmp_path: Path, source: str, codec: str, target: str, encoded: str
) -> None:
    path = write_media(tmp_path / f"in{source}", FEW, [Sound(codec)])
    stored = codec.removeprefix("lib")
    why = rf"sound track 1 \({stored}\): \w+ cannot hold {stored} audio"
    message = rf"{why}: encoded again as {encoded}; write \.mkv"
    with pytest.warns(SinkWarning, match=message):
        copy(path, tmp_path / f"out{target}")
    (after,) = hear(tmp_path / f"out{target}")
    assert after.codec == encoded.removeprefix("lib")
    assert after.rate == 48000


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1(side)"])
def test_sound_encoded_without_loss_is_the_same_to_the_sample(tmp_path: Path, layout: str) -> None:
    path = write_media(tmp_path / "in.mkv", FEW, [Sound("flac", layout, rate=44100, seconds=0.5123)])
    (before,) = hear(path)
    (after,) = hear(copy(path, tmp_path / "out.mov"))
    assert (after.codec, after.rate) == ("alac", 44100)
    assert after.start_s == before.start_s
    assert len(after.samples) == len(before.samples) == round(0.5123 * 44100)
    if layout != "5.1(side)":  # ALAC's order of channels is another
        assert (after.samples == before.samples).all()


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.parametrize(("rate", "written"), [(192_000, 48_000), (96_000, 96_000), (22_050, 22_050)])
def test_a_rate_that_the_encoder_does_not_take_becomes_one_that_it_takes(
    tmp_path: Path, rate: int, written: int
) -> None:
    path = write_media(tmp_path / "in.mkv", FEW, [Sound("pcm_s16le", rate=rate)])
    (after,) = hear(copy(path, tmp_path / "out.mp4"))
    assert (after.codec, after.rate) == ("aac", written)
    assert len(after.samples) / after.rate == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(
    ("there", "codec", "message"),
    [
        ({"libx264"}, None, r"mov cannot hold flac audio, nor can it be encoded again \(no encoder for it\)"),
        ({"libx264", "aac"}, "aac", "encoded again as aac"),
        ({"libx264", "aac", "alac"}, "alac", "encoded again as alac"),
    ],
)
def test_the_first_encoder_that_is_there_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: set[str], codec: str | None, message: str
) -> None:
    path = write_media(tmp_path / "in.mkv", FEW, [Sound("flac")])
    monkeypatch.setattr(av, "codecs_available", there)
    with pytest.warns(SinkWarning, match=message):
        copy(path, tmp_path / "out.mov")
    assert [track.codec for track in hear(tmp_path / "out.mov")] == ([codec] if codec else [])


def test_what_can_be_copied_is_copied_unless_it_changes_midway(tmp_path: Path) -> None:
    path = write_media(tmp_path / "in.mkv", FEW, [Sound("flac")])
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        first = [packet for packet in container.demux(stream) if packet.size][:3]
        plan = plan_sound(stream, first, "matroska")
        assert (plan.open, plan.remark) == (CopiedSound, "")
        plan = plan_sound(stream, first, "matroska", True)
        assert plan.open is not CopiedSound
        assert plan.remark == "its rate or channels change midway: encoded again as flac"
        with pytest.raises(dataclasses.FrozenInstanceError):
            plan.remark = ""  # type: ignore[misc]


def test_a_track_whose_sound_comes_late_is_tried_too(tmp_path: Path) -> None:
    with av.open(str(write_media(tmp_path / "in.mkv", FEW, [Sound("flac")]))) as container:
        stream = container.streams.audio[0]
        assert plan_sound(stream, [], "matroska").open is CopiedSound
        assert plan_sound(stream, [], "mov").remark == "mov cannot hold flac audio: encoded again as alac"


@pytest.mark.filterwarnings(QUIET)
def test_sound_that_is_encoded_again_lies_between_the_pictures(tmp_path: Path) -> None:
    path = write_media(tmp_path / "in.mkv", Pictures(frames=50), [Sound("flac", seconds=2)])
    with av.open(str(copy(path, tmp_path / "out.mov"))) as container:
        kinds = [p.stream.type for p in sorted(container.demux(), key=lambda p: p.pos or 0) if p.size]
    assert "audio" in kinds[: len(kinds) // 2]
    assert "video" in kinds[-len(kinds) // 4 :]


# Gaps, damage and changes


def remade(path: Path, change: Callable[[int, bytes], bytes | None]) -> Path:
    """A .mkv beside ``path`` whose packets of sound are others; None leaves one out."""
    result = path.with_name("remade.mkv")
    with av.open(str(path)) as source, av.open(str(result), "w") as target:
        into = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        count = 0
        for packet in source.demux():
            if packet.dts is None:
                continue
            data: bytes | None = bytes(packet)
            if packet.stream.type == "audio":
                data = change(count, bytes(packet))
                count += 1
            if data is not None:
                twin = copy_of(packet, data)
                twin.stream = into[packet.stream.index]
                target.mux(twin)
    return result


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.parametrize("damage", [None, b"\0" * 100])
def test_silence_fills_what_is_missing_or_damaged(tmp_path: Path, damage: bytes | None) -> None:
    path = write_media(tmp_path / "in.mkv", FEW, [Sound("flac", onset_s=0)])
    missing = range(3, 6)  # of packets of 4608 samples
    path = remade(path, lambda count, data: damage if count in missing else data)

    (after,) = hear(copy(path, tmp_path / "out.mov"))

    assert len(after.samples) == pytest.approx(48000, abs=1024)
    loud = np.abs(after.samples).reshape(-1) > 0.01
    quiet = loud[4608 * 3 + 500 : 4608 * 6 - 500]
    assert not quiet.any()
    assert loud[4608 * 2 : 4608 * 3 - 500].mean() > 0.9
    assert loud[4608 * 6 + 500 : 4608 * 7].mean() > 0.9


# Channels, languages, names


@pytest.mark.parametrize(
    ("channels", "name"),
    [(1, "mono"), (2, "stereo"), (3, "2.1"), (4, "4.0"), (5, "5.0"), (6, "5.1"), (7, "6.1"), (8, "7.1")],
)
def test_channels_without_names_get_those_that_so_many_usually_have(channels: int, name: str) -> None:
    assert named_layout(SimpleNamespace(nb_channels=channels)) == name
    assert av.AudioLayout(name).nb_channels == channels


def test_more_channels_than_have_names_become_stereo() -> None:
    assert named_layout(SimpleNamespace(nb_channels=16)) == "stereo"


@pytest.mark.parametrize(
    ("name", "named"),
    [("stereo", True), ("5.1(side)", True), ("2 channels", False), ("1 channel", False), ("", False)],
)
def test_a_layout_is_named_where_it_says_which_channel_is_which(name: str, named: bool) -> None:
    assert is_named(SimpleNamespace(name=name)) is named


@pytest.mark.parametrize(
    ("form", "language", "written"),
    [
        ("mov", "deu", "ger"),
        ("mov", "zho", "chi"),
        ("mov", "eng", "eng"),
        ("mp4", "deu", "deu"),
        ("matroska", "zho", "zho"),
    ],
)
def test_languages_are_called_as_the_container_knows_them(form: str, language: str, written: str) -> None:
    stream = SimpleNamespace(
        metadata={"language": language, "title": "Gr\udcfc\udcdfe"}, disposition=SimpleNamespace(value=5)
    )
    result = SimpleNamespace(
        metadata={}, disposition=0, container=SimpleNamespace(format=SimpleNamespace(name=form))
    )
    hand_on(stream, result)
    assert result.metadata == {"language": written, "title": "Grüße"}
    assert result.disposition == 5


def test_a_codec_is_called_by_its_own_name_not_that_of_its_decoder() -> None:
    canonical = SimpleNamespace(codec=SimpleNamespace(canonical_name="mp3"), name="mp3float")
    assert codec_name(canonical) == "mp3"
    assert codec_name(SimpleNamespace(codec=SimpleNamespace(), name="mp3float")) == "mp3float"


def test_a_copy_of_a_packet_is_all_that_the_packet_was(tmp_path: Path) -> None:
    path = write_media(tmp_path / "in.mp4", Pictures(frames=3), [Sound()])
    with av.open(str(path)) as container:
        for packet in list(container.demux()):
            if packet.dts is None:
                continue
            twin, other = copy_of(packet), copy_of(packet, b"other")
            assert (bytes(twin), bytes(other)) == (bytes(packet), b"other")
            for one in (twin, other):
                for name in ("pts", "dts", "duration", "time_base", "is_keyframe", "stream"):
                    assert getattr(one, name) == getattr(packet, name), name


@pytest.mark.parametrize(
    ("head", "same"),
    [
        ("fff15080", True),
        ("fff95080", True),  # MPEG-2, which says nothing about rate or channels
        ("fff152bf", True),  # private bit, lengths
        ("fff14c80", False),  # 48 kHz
        ("fff19080", False),  # profile
        ("fff15040", False),  # mono
        ("fff15180", False),  # more than 7 channels, half of the number
    ],
)
def test_a_header_of_aac_tells_profile_rate_and_channels(head: str, same: bool) -> None:
    first = adts_config(bytes.fromhex("fff15080") + b"rest")
    assert first is not None
    other = adts_config(bytes.fromhex(head) + b"other")
    assert other is not None
    assert (other == first) is same


@pytest.mark.parametrize("data", ["", "fff150", "7ff15080", "ffe15080", "fef15080", "21104560"])
def test_what_does_not_begin_in_step_has_no_header_of_aac(data: str) -> None:
    assert adts_config(bytes.fromhex(data)) is None


def test_a_header_of_four_bytes_is_one() -> None:
    assert adts_config(bytes.fromhex("fff15080")) == bytes.fromhex("5080")


# A rate that changes midway


def test_a_file_that_keeps_anything_has_no_better_to_recommend(tmp_path: Path) -> None:
    parts = []
    for rate in (48000, 44100):
        part = write_media(
            tmp_path / f"{rate}.ts", Pictures(frames=10), [Sound(rate=rate, seconds=0.4)], ts_offset_s=1.4
        )
        parts.append(part.read_bytes())
    path = tmp_path / "in.ts"
    path.write_bytes(b"".join(parts))
    with pytest.warns(SinkWarning, match="change midway: encoded again as aac$"):
        copy(path, tmp_path / "out.mkv")


def test_a_rate_that_stays_is_copied_from_every_part(tmp_path: Path) -> None:
    part = write_media(tmp_path / "part.ts", Pictures(frames=10), [Sound(seconds=0.4)], ts_offset_s=1.4)
    path = tmp_path / "in.ts"
    path.write_bytes(part.read_bytes() * 2)
    before = {data for *_, data in packets(path, "audio")}
    after = [data for *_, data in packets(copy(path, tmp_path / "out.mkv"), "audio")]
    # Matroska has the header once, not before each packet.
    assert set(after) <= {data[7:] for data in before}
