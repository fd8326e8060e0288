"""Subtitles, covers, chapters, attachments: what of them gets into which container, and what is said."""

from __future__ import annotations

import io
import warnings
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from av.error import FFmpegError
from doppelgan.runtime.errors import SinkError
from doppelgan.runtime.sink import SinkWarning, sound, tracks
from doppelgan.runtime.sink.subtitles import (
    CopiedSubtitles,
    TextSubtitles,
    packet_of_text,
    plan_subtitles,
    text_of_packet,
)
from doppelgan.runtime.sink.video import VideoSink
from doppelgan.runtime.source import open_source
from PIL import Image as pillow

from .clips import packets
from .media import Pictures, Sound, copy, hear, write_media

FEW = Pictures(frames=5)


def said(source: Path, target: Path, **options: Any) -> list[str]:
    """What is told while ``source`` is copied."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        copy(source, target, **options)
    return [str(one.message).removeprefix(f"{source}: ") for one in caught]


# Text


@pytest.mark.parametrize(
    ("data", "codec", "text"),
    [
        (b"\0\x05Hello and styles", "mov_text", "Hello"),
        (b"\x01\x04" + b"x" * 260 + b"more", "mov_text", "x" * 260),
        (b"3,0,Default,,0,0,0,,one, two,,three", "ass", "one, two,,three"),
        (b"3,0,Default,,0,0,0,,one", "ssa", "one"),
        (rb"3,0,Default,,0,0,0,,a\Nb\nc\hd", "ass", "a\nb\nc d"),
        (rb"3,0,Default,,0,0,0,,{\pos(1,2)}a{\i1}b{\i0}", "ass", "ab"),
        (rb"a\Nb, {c}", "subrip", r"a\Nb, {c}"),
        (b"<font color='red'>a</font> < b <i>c</i> 1<2>3", "subrip", "a < b c 1<2>3"),
        (b"  a\r\nb \r\n", "subrip", "a\nb"),
        (b"Gr\xfc\xdfe", "subrip", "Gr\ufffd\ufffde"),
    ],
)
def test_the_text_of_a_subtitle_is_its_plain_lines(data: bytes, codec: str, text: str) -> None:
    assert text_of_packet(data, codec) == text


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        ("mov_text", b"\0\x06Gr\xc3\xbc\xc3\x9f"),
        ("subrip", b"Gr\xc3\xbc\xc3\x9f"),
        ("webvtt", b"Gr\xc3\xbc\xc3\x9f"),
    ],
)
def test_a_text_is_a_packet_in_the_form_of_the_container(codec: str, data: bytes) -> None:
    assert packet_of_text("Grüß", codec) == data


def test_subtitles_without_a_word_are_left_out(tmp_path: Path) -> None:
    given = [(0.0, 0.1, "one"), (0.1, 0.12, "<i> </i>"), (0.12, 0.2, "two")]
    path = write_media(tmp_path / "in.mkv", FEW, subtitles=given, subtitle_codec="subrip")
    assert said(path, tmp_path / "out.mp4") == []
    texts = [text_of_packet(data, "mov_text") for *_, data in packets(tmp_path / "out.mp4", "subtitle")]
    assert [text for text in texts if text] == ["one", "two"]  # between them .mp4 has empty ones


@pytest.mark.parametrize(
    ("codec", "container", "way"),
    [
        ("subrip", "matroska", CopiedSubtitles),
        ("subrip", "mp4", TextSubtitles),
        ("subrip", "webm", TextSubtitles),
        ("ass", "mov", TextSubtitles),
        ("dvb_subtitle", "matroska", CopiedSubtitles),
        ("dvb_subtitle", "webm", None),
    ],
)
def test_subtitles_are_copied_where_they_can_be_else_their_text_is_kept(
    tmp_path: Path, codec: str, container: str, way: object
) -> None:
    encoder = "dvbsub" if codec.startswith("dvb") else codec
    text = "0,0,Default,,0,0,0,,one" if codec == "ass" else "one"
    path = write_media(tmp_path / "in.mkv", FEW, subtitles=[(0, 0.1, text)], subtitle_codec=encoder)
    with av.open(str(path)) as file:
        stream = file.streams.subtitles[0]
        first = [packet for packet in file.demux(stream) if packet.size]
        assert plan_subtitles(stream, first, container) is way
        assert plan_subtitles(stream, [], container) is way  # also where the first word comes late
    assert plan_subtitles(SimpleNamespace(codec_context=None), [], container) is None


@pytest.mark.parametrize("target", [".mkv", ".mp4"])
def test_languages_of_subtitles_stay(tmp_path: Path, target: str) -> None:
    path = write_media(tmp_path / "plain.mkv", FEW, subtitles=[(0, 0.1, "one")], subtitle_codec="subrip")
    named = tmp_path / "in.mkv"
    with av.open(str(path)) as source, av.open(str(named), "w") as result:
        into = [result.add_stream_from_template(stream) for stream in source.streams]
        into[1].metadata["language"] = "deu"
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = into[packet.stream.index]
                result.mux(packet)
    with av.open(str(copy(named, tmp_path / f"out{target}"))) as after:
        assert after.streams.subtitles[0].metadata["language"] in ("deu", "ger")


# What cannot be kept is named, in one line


def with_extras(path: Path, cover: bytes | None = None, kind: str = "png", fonts: int = 0) -> Path:
    with av.open(str(path), "w") as container:
        film = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        for number in range(fonts):
            container.add_attachment(f"{number}.ttf", "font/ttf", b"letters")
        if cover is not None:
            container.add_attachment(f"cover.{kind}", f"image/{kind.replace('jpg', 'jpeg')}", cover)
        for _ in range(3):
            container.mux(film.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(film.encode(None))
    return path


def painted(kind: str) -> bytes:
    data = io.BytesIO()
    pillow.new("RGB", (32, 24), (200, 10, 10)).save(data, {"jpg": "JPEG"}.get(kind, kind))
    return data.getvalue()


def cover_of(path: Path) -> tuple[str, bytes] | None:
    with av.open(str(path)) as container:
        for stream in container.streams.video:
            if stream.disposition & av.stream.Disposition.attached_pic:
                name = stream.metadata.get("filename", "") + " " + stream.metadata.get("mimetype", "")
                return name.strip(), next(bytes(p) for p in container.demux(stream) if p.size)
    return None


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_cover_picture_stays_to_the_byte(tmp_path: Path, kind: str) -> None:
    path = with_extras(tmp_path / "in.mkv", painted(kind), kind)
    for target, name in ((".mp4", ""), (".mkv", f"cover.{kind} image/{kind.replace('jpg', 'jpeg')}")):
        assert said(path, tmp_path / f"out{target}") == []
        assert cover_of(tmp_path / f"out{target}") == (name, painted(kind))


def test_a_cover_picture_of_another_kind_is_named(tmp_path: Path) -> None:
    path = with_extras(tmp_path / "in.mkv", painted("gif"), "gif")
    assert said(path, tmp_path / "out.mkv") == ["not kept in .mkv: the cover picture"]


def test_a_damaged_cover_picture_does_not_cost_the_film(tmp_path: Path) -> None:
    path = with_extras(tmp_path / "in.mkv", painted("png")[:20])
    assert said(path, tmp_path / "out.mp4") == ["not kept in .mp4: the cover picture"]
    with open_source(tmp_path / "out.mp4") as after:
        assert sum(1 for _ in after) == 3


@pytest.mark.parametrize(
    ("target", "lost"),
    [
        (".mkv", []),
        (
            ".webm",
            ["not kept in .webm: attachment track (0.ttf), attachment track (1.ttf), the cover picture"],
        ),
        (".mp4", ["not kept in .mp4: attachment track (0.ttf), attachment track (1.ttf)"]),
    ],
)
def test_attachments_stay_in_matroska_alone(tmp_path: Path, target: str, lost: list[str]) -> None:
    path = with_extras(tmp_path / "in.mkv", painted("png"), fonts=2)
    assert said(path, tmp_path / f"out{target}") == lost
    with av.open(str(tmp_path / f"out{target}")) as container:
        kinds = [stream.type for stream in container.streams]
    assert kinds.count("attachment") == (2 if target == ".mkv" else 0)


def test_what_is_lost_more_than_once_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks, "_name", lambda stream: "ttf")
    path = with_extras(tmp_path / "in.mkv", fonts=3)
    assert said(path, tmp_path / "out.mp4") == ["not kept in .mp4: 3 x attachment track (ttf)"]


@pytest.mark.parametrize("target", [".mov", ".webm"])
def test_subtitles_that_are_pictures_are_named_with_their_language(tmp_path: Path, target: str) -> None:
    path = write_media(tmp_path / "in.mkv", FEW, subtitles=[(0, 0.1, "x")], subtitle_codec="dvdsub")
    assert said(path, tmp_path / f"out{target}") in (
        [f"not kept in {target}: subtitle track 1 (dvd_subtitle)"],
        [f"not kept in {target}: subtitle track 1 (dvdsub)"],
    )


# Where warnings point


def test_warnings_point_to_whoever_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, packet: Any) -> None:
        raise FFmpegError(22, "Invalid argument")

    path = write_media(tmp_path / "in.mkv", FEW, [Sound("flac")])
    with open_source(path) as source:
        sink = VideoSink(tmp_path / "out.mov", like=source)
        with pytest.warns(SinkWarning, match="sound track 1 .*: encoded again as alac") as planned:
            sink.write(next(source))
        monkeypatch.setattr(sound.EncodedSound, "write", fail)
        last = list(source)[-1]
        with pytest.warns(SinkWarning, match="sound track 1 .* ends early") as failed:
            sink.write(last)
        sink.broken_off = True
        with pytest.warns(SinkWarning, match="not complete; its first 2 frames are kept as") as broken:
            sink.close()
    assert {one.filename for one in [*planned, *failed, *broken]} == {__file__}


def test_a_full_disk_while_tracks_are_planned_is_no_tracks_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    real = tracks.open_input

    def remembered(path: str) -> Any:
        opened.append(real(path))
        return opened[-1]

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tracks, "open_input", remembered)
    monkeypatch.setattr(tracks, "plan_sound", full)
    path = write_media(tmp_path / "in.mp4", FEW, [Sound(seconds=0.2)])
    with open_source(path) as source:
        sink = VideoSink(tmp_path / "out.mp4", like=source)
        with pytest.raises(SinkError, match="cannot write: No space left on device; check free space"):
            sink.write(next(source))
        sink.close()
    assert not (tmp_path / "out.mp4").exists()
    assert len(opened) == 2
    for container in opened:
        with pytest.raises(AssertionError):
            next(container.demux())


# Beside the sound


def test_without_sound_all_else_stays(tmp_path: Path) -> None:
    path = write_media(
        tmp_path / "in.mp4", FEW, [Sound()], chapters=[(0, 0.1, "one")], subtitles=[(0.05, 0.1, "hm")]
    )
    assert said(path, tmp_path / "out.mp4", audio=False) == []
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams if stream.type != "data"] == ["video", "subtitle"]
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one"]


def test_chapters_begin_with_the_pictures_where_a_file_starts_late(tmp_path: Path) -> None:
    times = [7200 + Fraction(i, 25) for i in range(10)]
    given = [(7100, 7150, "before"), (7190, 7200.2, "one"), (7200.2, 7201, "two")]
    path = write_media(tmp_path / "in.mkv", Pictures(frames=10, times=times), chapters=given)
    with av.open(str(copy(path, tmp_path / "out.mkv"))) as container:
        after = [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"])
            for c in container.chapters()
        ]
    assert after == [(0, 0, "before"), (0, 0.2, "one"), (0.2, 1, "two")]


def test_every_track_of_sound_stays_beside_the_others(tmp_path: Path) -> None:
    """One that begins late must not hold back those that begin at once."""
    late = Sound(start_s=0.3, seconds=0.3, onset_s=0.1)
    path = write_media(tmp_path / "in.mkv", Pictures(frames=20), [late, Sound("flac", seconds=0.8)])
    before, after = hear(path), hear(copy(path, tmp_path / "out.mkv"))
    assert [track.codec for track in after] == ["aac", "flac"]
    for one, other in zip(before, after, strict=True):
        assert len(one.samples) == len(other.samples)
        assert other.onset_s == pytest.approx(one.onset_s, abs=0.002)


@pytest.mark.filterwarnings("ignore:.*encoded again:doppelgan.runtime.sink.SinkWarning")
def test_an_encoder_that_fails_at_the_end_is_told_and_a_full_disk_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_media(tmp_path / "in.mkv", FEW, [Sound("flac", seconds=0.2)])

    out = tmp_path / "out.mov"

    def close_with(error: Exception) -> None:
        def fail(self: Any) -> None:
            raise error

        with open_source(path) as source:
            sink = VideoSink(out, like=source)
            for frame in source:
                sink.write(frame)
            with monkeypatch.context() as patch:
                patch.setattr(sound.EncodedSound, "close", fail)
                sink.close()

    with pytest.warns(SinkWarning, match=r"sound track 1 \(flac\) ends early: Invalid argument") as caught:
        close_with(FFmpegError(22, "Invalid argument"))
    assert caught[-1].filename == __file__
    assert len(packets(out, "video")) == 5
    out.unlink()
    with pytest.raises(SinkError, match="cannot write: No space left on device"):
        close_with(FFmpegError(28, "No space left on device"))
    assert not out.exists()


def test_sound_that_is_cut_off_ends_where_it_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_media(tmp_path / "in.mkv", FEW, [Sound("flac")])
    with open_source(path) as source, VideoSink(tmp_path / "out.mkv", like=source) as sink:
        sink.write(next(source))
        assert sink._tracks is not None

        def cut() -> Any:
            yield next(whole)
            raise FFmpegError(1094995529, "Invalid data found when processing input")

        whole = sink._tracks._packets
        monkeypatch.setattr(sink._tracks, "_packets", cut())
        for frame in source:
            sink.write(frame)
    with open_source(tmp_path / "out.mkv") as after:
        assert sum(1 for _ in after) == 5
    assert 0 < len(packets(tmp_path / "out.mkv", "audio")) < len(packets(path, "audio"))
