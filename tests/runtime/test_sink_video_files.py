"""Video files as FFmpeg is asked for them: codec, quality, threads, times, what is kept and what is left."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from doppelgan.runtime.errors import SinkError
from doppelgan.runtime.sink import SinkWarning, open_sink, video
from doppelgan.runtime.sink.video import aside, writes_bt2020
from doppelgan.runtime.source import open_source
from doppelgan.runtime.source.color import BT2020_NCL, Color
from doppelgan.runtime.source.pattern import PatternSource
from doppelgan.runtime.types import Deep, Frame

from .clips import frame, left_in, packets, write_clip
from .media import Pictures, Sound, copy, write_media


def live_source(rate: int = 30) -> PatternSource:
    return PatternSource(f"test:64x48@{rate}", wait=lambda seconds: None)


def times(path: Path) -> list[float]:
    with open_source(path) as source:
        return [one.time_s for one in source]


def x264_settings(path: Path) -> dict[str, str]:
    """What x264 notes in the stream about how it was told to encode."""
    match = re.search(rb"options: (.*?)\0", path.read_bytes(), re.DOTALL)
    assert match is not None
    return dict(one.split("=", 1) for one in match[1].decode().split(" ") if "=" in one)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"crf": "18.0", "mbtree": "1", "rc_lookahead": "10", "me": "dia", "cabac": "1", "threads": "4"}),
        ({"crf": 30}, {"crf": "30.0", "mbtree": "1", "threads": "4"}),
        ({"preset": "ultrafast"}, {"crf": "18.0", "mbtree": "0", "cabac": "0", "threads": "4"}),
        ({"threads": 3}, {"threads": "3"}),
    ],
)
def test_preset_quality_and_threads_reach_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: dict[str, str]
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    with open_sink(tmp_path / "out.mp4", **options) as sink:
        sink.write(frame(size=(64, 512)))  # x264 gives small pictures one thread
    settings = x264_settings(tmp_path / "out.mp4")
    assert {name: settings[name] for name in expected} == expected


@pytest.mark.parametrize(("processors", "threads"), [(None, "1"), (1, "1"), (2, "1"), (6, "3")])
def test_an_encoder_gets_half_the_processors_and_one_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int | None, threads: str
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    with open_sink(tmp_path / "out.mp4") as sink:
        sink.write(frame(size=(64, 512)))
    assert x264_settings(tmp_path / "out.mp4")["threads"] == threads


def noise(size: tuple[int, int] = (64, 48)) -> Any:
    image = np.random.default_rng(5).integers(60, 200, (size[1] // 4, size[0] // 4, 3), np.uint8)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize(
    ("there", "suffix", "codec", "least_db"),
    [
        ({"libx264", "mpeg4"}, ".mp4", "h264", 38),
        ({"mpeg4"}, ".mp4", "mpeg4", 36),
        ({"libvpx-vp9", "libvpx"}, ".webm", "vp9", 34),
        ({"libvpx"}, ".webm", "vp8", 32),
    ],
)
def test_every_codec_writes_pictures_of_good_quality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: set[str], suffix: str, codec: str, least_db: float
) -> None:
    monkeypatch.setattr(av, "codecs_available", there)
    image = noise()
    with open_sink(tmp_path / f"out{suffix}") as sink:
        for index in range(3):
            sink.write(Frame(image, index, index / 30))
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec
    with open_source(tmp_path / f"out{suffix}") as source:
        read = [one.image for one in source]
    assert len(read) == 3
    # Brightness: half of the colors' pixels are left out on purpose.
    gray = [cv2.cvtColor(one, cv2.COLOR_BGR2GRAY) for one in (image, *read)]
    assert min(cv2.PSNR(gray[0], one) for one in gray[1:]) > least_db
    assert (tmp_path / f"out{suffix}").stat().st_size < 64 * 48 * 3 * 3


def test_without_an_encoder_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"aac"})
    sink = open_sink(tmp_path / "out.mp4")
    message = "expected an FFmpeg that encodes with libx264 or libopenh264 or mpeg4; run: pip install av"
    with pytest.raises(SinkError, match=message):
        sink.write(frame())
    sink.close()
    assert left_in(tmp_path) == []


def test_hevc_is_marked_as_players_of_apple_know_it(tmp_path: Path) -> None:
    deep = Deep.of(np.full((64, 64, 3), 100 * 256 + 128, np.uint16))
    path = write_media(
        tmp_path / "in.mkv",
        Pictures(
            frames=2,
            size=(64, 64),
            images=[deep.pixels] * 2,
            codec="ffv1",
            pixel_format="yuv420p10le",
            options={},
        ),
    )
    with open_source(path) as source, open_sink(tmp_path / "out.mp4", like=source) as sink:
        next(source)
        # A frame that has no deep pixels of its own becomes one of 10 bits by its 8.
        sink.write(Frame(np.full((64, 64, 3), 200, np.uint8), 0, 0.0))
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.codec_tag, context.pix_fmt) == ("hevc", "hvc1", "yuv420p10le")
        luma = next(container.decode(video=0)).to_ndarray()[:64]
    assert luma.mean() == pytest.approx(4 * (16 + 219 * 200 / 255), abs=3)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_film_of_a_few_deep_pictures_is_one(tmp_path: Path, frames: int) -> None:
    """x265 left the time at which to decode the first of less than three to chance; no .mp4 takes any."""
    pixels = np.full((64, 64, 3), 100 * 256, np.uint16)
    images = Pictures(
        frames=3, size=(64, 64), images=[pixels] * 3, codec="ffv1", pixel_format="yuv420p10le", options={}
    )
    path = write_media(tmp_path / "in.mkv", images)
    for _ in range(3):
        with open_source(path) as source, open_sink(tmp_path / "out.mp4", like=source) as sink:
            for _, one in zip(range(frames), source, strict=False):
                sink.write(one)
        assert times(tmp_path / "out.mp4") == pytest.approx([index / 25 for index in range(frames)], abs=2e-3)


@pytest.mark.parametrize(
    ("size", "even", "form", "written"),
    [
        ((64, 48), False, "yuv420p", (64, 48)),
        ((65, 48), False, "yuv444p", (65, 48)),
        ((64, 47), False, "yuv444p", (64, 47)),
        ((64, 48), True, "yuv420p", (64, 48)),
        ((65, 48), True, "yuv420p", (66, 48)),
        ((64, 47), True, "yuv420p", (64, 48)),
        ((65, 47), True, "yuv420p", (66, 48)),
    ],
)
def test_odd_sides_are_kept_or_repeat_their_last_pixels(
    tmp_path: Path, size: tuple[int, int], even: bool, form: str, written: tuple[int, int]
) -> None:
    image = np.full((size[1], size[0], 3), 60, np.uint8)
    image[-1], image[:, -1] = 200, 200
    with open_sink(tmp_path / "out.mp4", crf=4, **({"even": True} if even else {})) as sink:
        sink.write(Frame(image, 0, 0.0))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == form
    with open_source(tmp_path / "out.mp4") as source:
        assert source.size == written
        read = next(source).image.astype(int)
    padded = np.pad(image, ((0, written[1] - size[1]), (0, written[0] - size[0]), (0, 0)), mode="edge")
    assert np.abs(read - padded).max() < 16


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    path = write_media(tmp_path / "in.mp4", Pictures(frames=2, aspect=Fraction(4, 3)))
    with open_source(copy(path, tmp_path / "out.mp4")) as after:
        assert after.media is not None
        assert after.media.pixel_aspect == Fraction(4, 3)


def test_an_old_pyav_that_cannot_write_bt2020_writes_bt709_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 14, "color_range": 1}
    path = write_media(tmp_path / "in.mp4", Pictures(frames=1, tags=tags))
    for writes, matrix in ((True, 9), (False, 1)):
        monkeypatch.setattr(video, "writes_bt2020", lambda writes=writes: writes)
        with av.open(str(copy(path, tmp_path / "out.mp4"))) as container:
            context = container.streams.video[0].codec_context
            assert (context.colorspace, context.color_primaries, context.color_trc) == (matrix, 9, 14)


@pytest.mark.parametrize(
    ("luma", "writes"),
    [(72, True), (73, True), (74, True), (63, False), (70, False), (77, False), (81, False)],
)
def test_the_matrix_of_bt2020_is_known_by_its_red(
    monkeypatch: pytest.MonkeyPatch, luma: int, writes: bool
) -> None:
    asked = []

    def convert(image: Any, form: str, reformatter: Any, color: Color) -> Any:
        asked.append(
            (image.reshape(-1, 3).max(0).tolist(), image.reshape(-1, 3).min(0).tolist(), color.matrix)
        )
        return SimpleNamespace(to_ndarray=lambda: np.full((24, 16), luma, np.uint8))

    monkeypatch.setattr(video, "bgr_to_yuv", convert)
    writes_bt2020.cache_clear()
    try:
        assert writes_bt2020() is writes
    finally:
        writes_bt2020.cache_clear()
    assert asked == [([0, 0, 255], [0, 0, 255], BT2020_NCL)]


# Times


def test_frames_without_a_source_keep_their_times_to_a_tick(tmp_path: Path) -> None:
    given = [7.0, 7.0, 7.01, 7.005, 7.5, 6.5, 7.6]  # back by a second is jitter
    with open_sink(tmp_path / "out.mp4", rate=30) as sink:
        for index, moment in enumerate(given):
            sink.write(frame(index, index, time_s=moment))
    tick = 1 / 90000
    expected = [0, tick, 0.01, 0.01 + tick, 0.5, 0.5 + tick, 0.6]
    assert times(tmp_path / "out.mp4") == pytest.approx(expected, abs=tick / 4)
    assert min(pts for pts, _, _ in packets(tmp_path / "out.mp4", "video") if pts is not None) == 0


@pytest.mark.parametrize(("ticks", "followed"), [(2**31 - 1, True), (2**31, False)])
def test_a_step_is_followed_as_far_as_a_file_can_hold_it(tmp_path: Path, ticks: int, followed: bool) -> None:
    with open_sink(tmp_path / "out.mkv", rate=30) as sink:
        for index, moment in enumerate((0, ticks, ticks + 3000)):
            sink.write(frame(index, index, time_s=moment / 90000))
    step = ticks / 90000 if followed else 1 / 30
    assert times(tmp_path / "out.mkv") == pytest.approx([0, step, step + 1 / 30], abs=2e-3)


def test_a_clock_that_jumps_back_by_more_than_a_second_goes_on(tmp_path: Path) -> None:
    with open_sink(tmp_path / "out.mp4", rate=10) as sink:
        for index, moment in enumerate((5.0, 5.1, 4.09, 4.19)):
            sink.write(frame(index, index, time_s=moment))
    assert times(tmp_path / "out.mp4") == pytest.approx([0, 0.1, 0.2, 0.3], abs=1e-4)


def test_a_file_counts_in_the_units_of_its_source_a_camera_in_fine_ones(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=3, rate=25, time_base=Fraction(1, 12800))
    shots = open_source("test:64x48@24:3")
    for like, units in ((open_source(clip), 12800), (shots, 24), (live_source(), 90000), (None, 90000)):
        with open_sink(tmp_path / "out.mov", like=like) as sink:
            for index in range(3):
                sink.write(frame(index, index, time_s=index / 24))
        with av.open(str(tmp_path / "out.mov")) as container:
            base = container.streams.video[0].time_base
            assert base is not None
            assert base.denominator % units == 0


@pytest.mark.parametrize(
    ("options", "rate"), [({}, 30), ({"rate": 12.5}, 12.5), ({"rate": 29.97002997}, 29.97003)]
)
def test_the_last_frame_lasts_as_long_as_the_rate_says(
    tmp_path: Path, options: dict[str, float], rate: float
) -> None:
    with open_sink(tmp_path / "out.mp4", **options) as sink:
        sink.write(frame())
    ((_, duration, _),) = packets(tmp_path / "out.mp4", "video")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert duration is not None
        assert float(duration * stream.time_base) == pytest.approx(1 / rate, abs=1e-5)
        assert float(stream.average_rate or 0) == pytest.approx(rate, abs=1e-3)


def test_times_finer_than_mpeg4_takes_become_coarser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    given = [0.0, 1 / 60000, 0.04, 0.1]
    with open_sink(tmp_path / "out.mov", like=live_source()) as sink:
        for index, moment in enumerate(given):
            sink.write(frame(index, index, time_s=moment))
    assert times(tmp_path / "out.mov") == pytest.approx(given, abs=1e-6)


# Of what kind the file is


def movie_units(path: Path) -> int:
    """Per second, in which a .mp4 or .mov counts what concerns all of it."""
    data = path.read_bytes()
    at = data.index(b"mvhd")
    return int.from_bytes(data[at + 16 : at + 20], "big")


@pytest.mark.parametrize(("base", "units"), [(Fraction(1, 25), 48000), (Fraction(1, 12800), 51200)])
def test_late_starts_are_stored_no_coarser_than_sound_needs(
    tmp_path: Path, base: Fraction, units: int
) -> None:
    path = write_clip(tmp_path / "in.mp4", frames=2, time_base=base)
    with open_source(path) as source:
        assert source.media is not None
        source.media = replace(source.media, time_base=base)
        with open_sink(tmp_path / "out.mp4", like=source) as sink:
            sink.write(next(source))
    assert movie_units(tmp_path / "out.mp4") == units


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
def test_a_file_can_be_played_while_it_is_fetched(tmp_path: Path, suffix: str) -> None:
    with open_sink(tmp_path / f"out{suffix}") as sink:
        sink.write(frame())
    data = (tmp_path / f"out{suffix}").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("suffix", "container"), [(".mp4", "mp4"), (".m4v", "mp4"), (".mov", "mov"), (".webm", "webm")]
)
def test_the_suffix_says_what_kind_of_file_is_written(tmp_path: Path, suffix: str, container: str) -> None:
    with open_sink(tmp_path / f"out{suffix.upper()}") as sink:
        sink.write(frame())
    head = (tmp_path / f"out{suffix.upper()}").read_bytes()[:64]
    assert {"mp4": b"isom", "mov": b"qt  ", "webm": b"webm"}[container] in head


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_live_recording_can_be_read_before_it_ends(tmp_path: Path, suffix: str) -> None:
    """All but the last two seconds, and what an encoder looks ahead."""
    with open_sink(tmp_path / f"out{suffix}", like=live_source()) as sink:
        for index in range(100):
            sink.write(frame(index, index, time_s=50 + index / 30))
        with av.open(str(tmp_path / f"out{suffix}.part")) as container:
            assert 59 <= sum(1 for _ in container.decode(video=0)) <= 75
    assert len(times(tmp_path / f"out{suffix}")) == 100


@pytest.mark.parametrize(
    ("version", "live", "flags"),
    [
        ((61, 7, 100), True, "+hybrid_fragmented+delay_moov"),
        ((61, 7, 99), True, "+faststart"),
        ((61, 6, 200), True, "+faststart"),
        ((60, 16, 100), True, "+faststart"),
        ((62, 0, 0), True, "+hybrid_fragmented+delay_moov"),
        ((62, 0, 0), False, "+faststart"),
    ],
)
def test_only_an_ffmpeg_that_knows_pieces_is_asked_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], live: bool, flags: str
) -> None:
    asked: list[dict[str, str]] = []
    real = av.open

    def opened(*args: Any, options: dict[str, str], **named: Any) -> Any:
        asked.append(options)
        return real(*args, **named)

    monkeypatch.setattr(av, "library_versions", {"libavformat": version})
    monkeypatch.setattr(av, "open", opened)
    open_sink(tmp_path / "out.mp4", like=live_source() if live else None).close()
    assert asked[0]["movflags"] == flags
    assert ("frag_duration" in asked[0]) is ("hybrid" in flags)
    assert ("flush_packets" in asked[0]) is live


# What is kept, and under which name


def test_what_a_muxer_states_itself_is_not_taken_over(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", frames=2)
    stated = {
        "DURATION": "1", "BPS-eng": "2", "NUMBER_OF_FRAMES": "3", "_STATISTICS_TAGS": "4", "encoder": "5",
        "handler": "me", "note-eng": "mine",
    }  # fmt: skip
    with open_source(path) as source:
        assert source.media is not None
        source.media = replace(source.media, metadata=dict(stated), stream_metadata=dict(stated))
        with open_sink(tmp_path / "out.mkv", like=source) as sink:
            sink.tags = {"COMMENT": "edited"}
            sink.write(next(source))
    with av.open(str(tmp_path / "out.mkv")) as container:
        for metadata, own in (
            (container.metadata, {"COMMENT": "edited"}),
            (container.streams.video[0].metadata, {}),
        ):
            kept = {key.upper(): value for key, value in metadata.items()}
            kept = {key: value for key, value in kept.items() if key not in ("ENCODER", "DURATION")}
            assert kept == {"HANDLER": "me", "NOTE-ENG": "mine", **own}
        assert container.streams.video[0].metadata.get("DURATION") != "1"


def test_tags_are_written_without_a_source_too(tmp_path: Path) -> None:
    with open_sink(tmp_path / "out.mp4") as sink:
        sink.tags = {"comment": "edited"}
        sink.write(frame())
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["comment"] == "edited"


@pytest.mark.parametrize("sound", [False, True])
def test_a_run_that_failed_midway_leaves_a_part_that_can_be_played(tmp_path: Path, sound: bool) -> None:
    told: list[Path] = []
    path = write_media(tmp_path / "in.mp4", Pictures(frames=9), [Sound()] if sound else [])
    with open_source(path) as source:
        sink = open_sink(tmp_path / "out.mp4", like=source)
        sink.on_file = told.append
        for _ in range(4):
            sink.write(next(source))
        sink.broken_off = True
        message = r"out\.mp4: not complete; its first 4 frames are kept as .*out\.mp4\.part"
        with pytest.warns(SinkWarning, match=message):
            sink.close()
        sink.close()
    assert left_in(tmp_path) == ["in.mp4", "out.mp4.part"]
    assert told == []
    with open_source(tmp_path / "out.mp4.part") as part:
        assert sum(1 for _ in part) == 4


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("no more")])
def test_what_fails_at_the_end_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise error

    sink = open_sink(tmp_path / "out.mp4")
    sink.write(frame())
    monkeypatch.setattr(Path, "replace", fail)
    expected = SinkError if isinstance(error, OSError) else RuntimeError
    with pytest.raises(expected, match=str(error.args[-1])):
        sink.close()
    assert left_in(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux lists a process's files there")
@pytest.mark.parametrize("frames", [0, 1])
def test_what_is_discarded_is_not_held_open(tmp_path: Path, frames: int) -> None:
    path = write_media(tmp_path / "in.mp4", Pictures(frames=2), [Sound(seconds=0.1)])
    with open_source(path) as source:
        sink = open_sink(tmp_path / "out.mp4", like=source)
        for _ in range(frames):
            sink.write(next(source))
        sink._failed = True  # type: ignore[attr-defined]
        sink.close()
    held = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [name for name in held if str(tmp_path) in name] == []


def test_a_part_that_somebody_took_away_is_not_missed(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.mp4")
    (tmp_path / "out.mp4.part").unlink()
    sink.close()
    assert left_in(tmp_path) == []


def test_sound_goes_on_to_its_own_end_only_after_the_last_picture(tmp_path: Path) -> None:
    path = write_media(tmp_path / "in.mp4", Pictures(frames=5), [Sound(seconds=1)])

    def seconds(count: int, skip: int = 0) -> float:
        with open_source(path) as source, open_sink(tmp_path / "out.mkv", like=source) as sink:
            for _ in range(skip):
                next(source)
            for _, one in zip(range(count), source, strict=False):
                sink.write(one)
        data = packets(tmp_path / "out.mkv", "audio")
        return len(data) * 1024 / 48000

    assert seconds(6) == pytest.approx(1, abs=0.05)
    assert seconds(5) == pytest.approx(0.21, abs=0.025)  # nobody has seen that this was the last
    assert seconds(1) == pytest.approx(0.05, abs=0.025)
    assert seconds(6, skip=1) == pytest.approx(0.21, abs=0.025)  # not all pictures: somebody cut them


@pytest.mark.parametrize(
    ("name", "shortened"),
    [("a" * 246 + ".mp4", False), ("a" * 247 + ".mp4", True), ("ü" * 124 + ".mkv", True)],
)
def test_the_name_of_a_part_is_shortened_only_where_it_is_too_long(name: str, shortened: bool) -> None:
    part = aside(Path("folder") / name)
    assert part.parent == Path("folder")
    assert len(part.name.encode()) <= 255
    assert (part.name != name + ".part") is shortened
    assert part.name.startswith(name[:90])
    assert part.name.endswith(".part")
