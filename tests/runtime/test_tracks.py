"""Sound, subtitles, chapters, covers beside edited pictures: copied, encoded again, or named as lost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import pytest
from av.error import FFmpegError
from doppelgan.runtime.errors import SinkError
from doppelgan.runtime.sink import SinkWarning, sound, tracks
from doppelgan.runtime.sink.subtitles import packet_of_text, text_of_packet
from doppelgan.runtime.sink.video import VideoSink
from doppelgan.runtime.source import open_source

from .clips import packets
from .media import Heard, Pictures, Sound, copy, hear, onset_s, write_media

FEW = Pictures(frames=25)
BY_SUFFIX: dict[str, dict[str, Any]] = {
    ".avi": {"codec": "mjpeg", "pixel_format": "yuvj420p", "options": {}},
    ".wmv": {"codec": "wmv2", "options": {}, "time_base": Fraction(1, 25)},
    ".flv": {"codec": "flv", "options": {}, "time_base": Fraction(1, 25)},
    ".ts": {"codec": "mpeg2video", "options": {}, "time_base": Fraction(1, 25)},
}
QUIET = "ignore::doppelgan.runtime.sink.SinkWarning"


def unnamed_pcm(path: Path, codec: str = "pcm_s16le", layout: str = "stereo") -> Path:
    """PCM in Matroska or AVI, which say how many channels there are, not which."""
    mjpeg = Pictures(codec="mjpeg", pixel_format="yuvj420p", options={"qscale": "2"})
    return write_media(path, mjpeg if path.suffix == ".avi" else FEW, [Sound(codec, layout)])


@pytest.fixture(scope="module")
def heard_before(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Heard]]:
    """A film with one track of sound, and how that sounds; written for the first of its targets."""
    folder = tmp_path_factory.mktemp("films")

    @cache
    def made(suffix: str, codec: str, layout: str) -> tuple[Path, Heard]:
        pictures = Pictures(**BY_SUFFIX.get(suffix, {}))
        path = write_media(folder / f"{codec}-{layout}{suffix}", pictures, [Sound(codec, layout)])
        (track,) = hear(path)
        return path, track

    return made


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize(
    ("source", "codec", "layout"),
    [
        (".avi", "pcm_s16le", "stereo"),
        (".avi", "pcm_u8", "mono"),
        (".avi", "adpcm_ima_wav", "stereo"),
        (".mkv", "pcm_s24le", "stereo"),
        (".mkv", "pcm_f32le", "stereo"),
        (".mkv", "pcm_s16le", "5.1"),
        (".mkv", "pcm_s16le", "7.1"),
        (".mkv", "flac", "5.1"),
        (".mkv", "libopus", "5.1"),
        (".mkv", "ac3", "5.1(side)"),
        (".mkv", "libmp3lame", "stereo"),
        (".mov", "alac", "stereo"),
        (".mov", "pcm_s16be", "mono"),
        (".wmv", "wmav2", "stereo"),
        (".ts", "mp2", "stereo"),
        (".flv", "aac", "mono"),
    ],
)
def test_sound_of_any_codec_and_layout_gets_into_any_container(
    tmp_path: Path,
    heard_before: Callable[..., tuple[Path, Heard]],
    source: str,
    codec: str,
    layout: str,
    target: str,
) -> None:
    path, before = heard_before(source, codec, layout)

    (after,) = hear(copy(path, tmp_path / f"out{target}"))

    assert len(after.samples) / after.rate == pytest.approx(len(before.samples) / before.rate, abs=0.06)
    assert onset_s(tmp_path / f"out{target}") == pytest.approx(onset_s(path), abs=0.015)
    channels = [av.AudioLayout(track.layout).nb_channels for track in (before, after)]
    assert channels[0] == channels[1]
    with open_source(tmp_path / f"out{target}") as pictures:
        assert sum(1 for _ in pictures) == 25


def test_channels_that_have_no_names_get_the_usual_ones(tmp_path: Path) -> None:
    (before,) = hear(unnamed_pcm(tmp_path / "in.avi"))
    assert before.layout == "2 channels"

    (after,) = hear(copy(tmp_path / "in.avi", tmp_path / "out.mov"))

    assert (after.codec, after.layout) == ("pcm_s16le", "stereo")
    assert (after.samples == before.samples).all()


def test_what_is_encoded_again_is_said_before_the_first_picture(tmp_path: Path) -> None:
    path = unnamed_pcm(tmp_path / "in.avi")
    with open_source(path) as source, VideoSink(tmp_path / "out.mp4", like=source) as sink:
        with pytest.warns(SinkWarning, match=r"sound track 1 \(pcm_s16le\): .* encoded again as aac; write"):
            sink.write(next(source))
        for frame in source:
            sink.write(frame)

    (after,) = hear(tmp_path / "out.mp4")
    assert (after.codec, after.layout) == ("aac", "stereo")


def test_a_codec_that_nobody_knows_is_left_out_and_named(shared: Path, tmp_path: Path) -> None:
    clip = shared / "cases" / "unknown-audio-codec" / "iphone-spatial-like.mp4"
    for suffix in (".mp4", ".mkv"):
        with pytest.warns(SinkWarning, match=r"sound track 2 .*is left out: its codec is unknown to FFmpeg"):
            copy(clip, tmp_path / f"out{suffix}")
        assert packets(tmp_path / f"out{suffix}", "audio") != []
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            assert len(container.streams.audio) == 1


def unknown_codec(path: Path) -> Path:
    """A second track whose four letters are changed to some that stand for nothing."""
    write_media(path, FEW, [Sound(), Sound("alac")])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"alac", b"a\x01\x02\x03"))
    return path


def test_a_track_of_unknown_letters_leaves_the_others_alone(tmp_path: Path) -> None:
    path = unknown_codec(tmp_path / "in.mov")
    with pytest.warns(SinkWarning, match=r"sound track 2 \(unknown\) is left out: its codec is unknown"):
        copy(path, tmp_path / "out.mov")
    assert packets(tmp_path / "out.mov", "audio") == packets(path, "audio")


def test_a_track_that_fails_midway_ends_early_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_media(tmp_path / "in.mp4", FEW, [Sound(), Sound(language="deu", default=False)])
    tried = []

    def fail(self: Any, packet: Any) -> None:
        tried.append(packet)
        if packet.stream.index == 2 and len(tried) > 60:
            raise FFmpegError(22, "Invalid argument")
        write(self, packet)

    write = sound.CopiedSound.write
    monkeypatch.setattr(sound.CopiedSound, "write", fail)
    with pytest.warns(SinkWarning, match=r"sound track 2 \(aac, deu\) ends early: Invalid argument"):
        copy(path, tmp_path / "out.mp4")

    first, second = hear(tmp_path / "out.mp4")
    assert len(first.samples) / first.rate == pytest.approx(1, abs=0.05)
    assert len(second.samples) < len(first.samples)


def test_a_full_disk_is_nobodys_track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, packet: Any) -> None:
        raise OSError(28, "No space left on device")

    path = write_media(tmp_path / "in.mp4", FEW, [Sound()])
    with open_source(path) as source, VideoSink(tmp_path / "out.mp4", like=source) as sink:
        sink.write(next(source))
        monkeypatch.setattr(sound.CopiedSound, "write", full)
        frame = list(source)[-1]
        with pytest.raises(SinkError, match="No space left on device; check free space"):
            sink.write(frame)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_languages_and_the_default_track_stay(tmp_path: Path, suffix: str) -> None:
    path = write_media(
        tmp_path / "in.mp4", FEW, [Sound(language="eng", default=False), Sound(language="deu", default=True)]
    )
    after = hear(copy(path, tmp_path / f"out{suffix}"))
    german = "ger" if suffix == ".mov" else "deu"
    assert [(track.language, track.default) for track in after] == [("eng", False), (german, True)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_chapters_stay(tmp_path: Path, suffix: str) -> None:
    given = [(0.0, 0.4, "one"), (0.4, 1.0, "zwei")]
    path = write_media(tmp_path / "in.mkv", FEW, chapters=given)
    with av.open(str(copy(path, tmp_path / f"out{suffix}"))) as container:
        chapters = container.chapters()
    assert [
        (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"])
        for c in chapters
    ] == given


@pytest.mark.parametrize("part", [b"{", b"<a", b"</a "])
def test_tags_of_subtitles_that_never_end_take_no_time(part: bytes) -> None:
    start = time.process_time()
    text_of_packet(b"0,0,a,b,0,0,0,," + part * 150_000, "ass")
    assert time.process_time() - start < 3  # in quadratic time: minutes
    assert text_of_packet(rb"0,0,a,b,0,0,0,,{\\i1}So <b>be</b> it", "ass") == "So be it"


def read_subtitles(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        return [
            (
                round(float(p.pts * p.time_base), 3),
                round(float(p.duration * p.time_base), 3),
                text_of_packet(bytes(p), stream.codec_context.name),
            )
            for p in container.demux(stream)
            if p.size > 2
        ]


@pytest.mark.parametrize(
    ("source", "codec"), [(".mp4", "mov_text"), (".mkv", "subrip"), (".mkv", "webvtt"), (".mkv", "ass")]
)
@pytest.mark.parametrize("target", [".mp4", ".mkv", ".mov", ".webm"])
def test_subtitles_stay_in_the_form_of_the_container(
    tmp_path: Path, source: str, codec: str, target: str
) -> None:
    words = [(0.1, 0.5, "Hello\nyou"), (0.6, 0.9, "Grüße")]
    given = [
        (a, b, f"0,0,Default,,0,0,0,,{t}".replace("\n", r"\N") if codec == "ass" else t) for a, b, t in words
    ]
    path = write_media(tmp_path / f"in{source}", FEW, subtitles=given, subtitle_codec=codec)

    after = read_subtitles(copy(path, tmp_path / f"out{target}"))

    assert after == [(a, round(b - a, 3), text) for a, b, text in words]


@pytest.mark.parametrize(
    ("codec", "text"), [("subrip", "<i>Hi</i>"), ("ass", r"0,0,Default,,0,0,0,,{\i1}Hi")]
)
def test_styles_stay_where_the_container_takes_the_form(tmp_path: Path, codec: str, text: str) -> None:
    path = write_media(tmp_path / "in.mkv", FEW, subtitles=[(0.1, 0.5, text)], subtitle_codec=codec)
    ((_, _, data),) = packets(copy(path, tmp_path / "out.mkv"), "subtitle")
    assert data == text.encode()


def test_styles_are_left_out_of_text() -> None:
    line = rb"1,0,Default,,0,0,0,,{\i1}Hi{\i0}, all\Nof you, <b>now</b>"
    assert text_of_packet(line, "ass") == "Hi, all\nof you, now"
    assert text_of_packet(packet_of_text("Grüße", "mov_text") + b"\0\0\0\x10styl", "mov_text") == "Grüße"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_titles_dates_and_places_stay(tmp_path: Path, suffix: str) -> None:
    known = {"title": "Reise", "artist": "Ich", "creation_time": "2020-05-06T07:08:09.000000Z"}
    path = write_media(tmp_path / "in.mp4", FEW, metadata={**known, "location": "+48.1000+011.5000/"})
    with av.open(str(copy(path, tmp_path / f"out{suffix}"))) as container:
        after = {key.lower(): value for key, value in container.metadata.items()}
    assert {key: after[key] for key in known} == known
    assert after["location"].startswith("+48.1")


def test_what_a_phone_says_of_a_film_stays(tmp_path: Path) -> None:
    said = {
        "com.apple.quicktime.creationdate": "2020-05-06T09:08:09+0200",
        "com.apple.quicktime.location.ISO6709": "+48.1000+011.5000/",
    }
    path = write_media(tmp_path / "in.mov", FEW, metadata=said, options={"movflags": "use_metadata_tags"})
    with av.open(str(copy(path, tmp_path / "out.mp4"))) as container:
        assert {key: container.metadata[key] for key in said} == said


def test_titles_that_are_not_utf8_are_taken_as_latin1(tmp_path: Path) -> None:
    path = write_media(tmp_path / "in.mp4", FEW, metadata={"title": "Gr__e"})
    path.write_bytes(path.read_bytes().replace(b"Gr__e", b"Gr\xfc\xdfe"))
    with av.open(str(copy(path, tmp_path / "out.mp4"))) as container:
        assert container.metadata["title"] == "Grüße"


def with_cover(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        film = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame(32, 32, "yuvj420p")))
        container.mux(cover.encode(None))
        for _ in range(5):
            container.mux(film.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(film.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cover_picture_is_no_video_and_stays(tmp_path: Path, suffix: str) -> None:
    path = with_cover(tmp_path / "in.mp4")
    with open_source(path) as source:
        assert source.size == (64, 48)
    with av.open(str(copy(path, tmp_path / f"out{suffix}"))) as container:
        covers = [s for s in container.streams.video if s.disposition & av.stream.Disposition.attached_pic]
        assert [(s.width, s.height) for s in covers] == [(32, 32)]


def test_a_cover_picture_is_written_once(tmp_path: Path) -> None:
    with av.open(str(copy(with_cover(tmp_path / "in.mp4"), tmp_path / "out.mp4"))) as container:
        (cover,) = [s for s in container.streams if s.disposition & av.stream.Disposition.attached_pic]
        assert cover.frames <= 1
        assert sum(1 for packet in container.demux(cover) if packet.size) == 1


def test_a_cover_picture_that_cannot_stay_is_named(tmp_path: Path) -> None:
    with pytest.warns(SinkWarning, match=r"not kept in \.mov: the cover picture"):
        copy(with_cover(tmp_path / "in.mp4"), tmp_path / "out.mov")


def test_the_default_of_two_videos_is_edited_and_the_other_named(tmp_path: Path) -> None:
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        for size, default in ((96, False), (64, True)):
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = size, 48, "yuv420p"
            stream.disposition = av.stream.Disposition.default if default else 0
        for stream in container.streams.video:
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame(stream.width, 48, "yuv420p")))
            container.mux(stream.encode(None))
    with open_source(path) as source:
        assert source.size == (64, 48)
    with pytest.warns(SinkWarning, match=r"not kept in \.mp4: second video track 0 \(h264\)"):
        copy(path, tmp_path / "out.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("start_s", [0.0, 0.4])
@pytest.mark.parametrize("seconds", [0.3, 2.0])
def test_sound_longer_shorter_and_later_than_its_pictures(
    tmp_path: Path, suffix: str, start_s: float, seconds: float
) -> None:
    path = write_media(tmp_path / "in.mp4", FEW, [Sound(start_s=start_s, seconds=seconds, onset_s=0.1)])
    before, after = hear(path)[0], hear(copy(path, tmp_path / f"out{suffix}"))[0]
    assert onset_s(tmp_path / f"out{suffix}") == pytest.approx(onset_s(path), abs=0.002)
    assert len(after.samples) == pytest.approx(len(before.samples), abs=1100)


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(("codec", "source"), [("wmav2", ".avi"), ("libmp3lame", ".mkv")])
def test_sound_that_begins_between_two_pictures_stays_in_step(
    tmp_path: Path, codec: str, source: str, suffix: str
) -> None:
    """An AVI's times are whole frames; WMA's first samples come late, as decoders give them."""
    pictures = Pictures(codec="mpeg4", options={}, time_base=Fraction(1, 25))
    path = write_media(tmp_path / f"in{source}", pictures, [Sound(codec, rate=44100, start_s=0.013)])
    assert onset_s(copy(path, tmp_path / f"out{suffix}")) == pytest.approx(onset_s(path), abs=0.004)


def test_a_rate_that_changes_midway_is_heard_at_the_right_pitch(tmp_path: Path) -> None:
    parts = []
    for rate, layout in ((48000, "stereo"), (44100, "mono")):
        part = tmp_path / f"{rate}.ts"
        write_media(part, FEW, [Sound(rate=rate, layout=layout, onset_s=0)], ts_offset_s=1.4)
        parts.append(part.read_bytes())
    path = tmp_path / "in.ts"
    path.write_bytes(b"".join(parts))

    with pytest.warns(SinkWarning, match="its rate or channels change midway: encoded again as aac"):
        copy(path, tmp_path / "out.mp4")

    (after,) = hear(tmp_path / "out.mp4")
    assert len(after.samples) / after.rate == pytest.approx(2, abs=0.12)
    late = after.samples[-after.rate * 3 // 4 : -after.rate // 4]
    crossings = ((late[:-1] < 0) & (late[1:] >= 0)).sum()
    assert crossings / (len(late) / after.rate) == pytest.approx(440, abs=5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_time_of_day_stays(tmp_path: Path, suffix: str) -> None:
    """Cameras and editors write it as a track of its own, which is made of the pictures' metadata again."""
    write_media(tmp_path / "in.mov", FEW, metadata={"timecode": "01:02:03:04"})
    with av.open(str(tmp_path / "in.mov")) as container:
        assert [stream.type for stream in container.streams] == ["video", "data"]
    with av.open(str(copy(tmp_path / "in.mov", tmp_path / f"out{suffix}"))) as container:
        (video,) = container.streams.video
        stated = {key.lower(): value for key, value in video.metadata.items()}
        assert stated["timecode"] == "01:02:03:04"
        assert len(container.streams) == (1 if suffix == ".mkv" else 2)


def test_nothing_is_said_where_nothing_is_lost(tmp_path: Path) -> None:
    path = write_media(
        tmp_path / "in.mp4", FEW, [Sound()], chapters=[(0, 1, "all")], subtitles=[(0.1, 0.2, "hm")]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy(path, tmp_path / "out.mp4")


def test_chapters_that_cannot_stay_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks.SideTracks, "_add_chapters", lambda self: False)
    path = write_media(tmp_path / "in.mp4", FEW, chapters=[(0, 1, "all")])
    with pytest.warns(SinkWarning, match=r"not kept in \.mp4: chapters"):
        copy(path, tmp_path / "out.mp4")
