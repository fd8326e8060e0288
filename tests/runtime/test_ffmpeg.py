"""FFmpeg's errors told apart, each with its own remedy; names like protocols and at the limit of length."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import av
import numpy as np
import pytest
from doppelgan.runtime.errors import SinkError, SourceError
from doppelgan.runtime.host.ffmpeg import kind_of, local, reason, remedy, text_of
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.sink.video import VideoSink, aside
from doppelgan.runtime.source import open_source
from doppelgan.runtime.source.video import VideoSource

from .media import Pictures, copy, write_media


def left_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def ffmpeg_error(name: str) -> Exception:
    error: Exception = getattr(av.error, name)(1, "what FFmpeg says")
    return error


@pytest.mark.parametrize(
    ("error", "kind", "to_write", "to_read"),
    [
        (OSError(errno.ENOSPC, ""), "space", "check free space", ""),
        (OSError(errno.EFBIG, ""), "space", "check free space", ""),
        (OSError(errno.EACCES, ""), "permission", "permissions of the folder", "permissions of the file"),
        (OSError(errno.EROFS, ""), "permission", "permissions of the folder", "permissions of the file"),
        (OSError(errno.ENOENT, ""), "folder", "make the folder first", "check the path"),
        (OSError(errno.ENAMETOOLONG, ""), "name", "shorter name", "rename"),
        (OSError(errno.EIO, ""), "device", "disk", "disk"),
        (OSError(errno.ECONNREFUSED, ""), "address", "", "check the address"),
        (ffmpeg_error("EncoderNotFoundError"), "codec", "codec", "decode"),
        (ffmpeg_error("DecoderNotFoundError"), "codec", "codec", "decode"),
        (ffmpeg_error("MuxerNotFoundError"), "container", "write .mkv", "convert it"),
        (ffmpeg_error("DemuxerNotFoundError"), "container", "write .mkv", "convert it"),
        (ffmpeg_error("ProtocolNotFoundError"), "protocol", "give a file name", "protocol"),
        (ffmpeg_error("ExperimentalError"), "codec", "codec", "decode"),
        (ffmpeg_error("InvalidDataError"), "damaged", "", "cut off"),
        (ffmpeg_error("HTTPUnauthorizedError"), "login", "", "name and password"),
        (ffmpeg_error("HTTPNotFoundError"), "address", "", "check the address"),
        (ffmpeg_error("ExitError"), "silence", "", "does not answer"),
        (ValueError("unsupported channel layout 2 channels"), "layout", "channels", ""),
        (OSError(errno.EINVAL, "Invalid argument"), "", ".mkv", ""),
    ],
)
def test_each_cause_has_its_own_remedy(error: Exception, kind: str, to_write: str, to_read: str) -> None:
    assert kind_of(error) == kind
    assert to_write in remedy(error, "write")
    assert to_read in remedy(error, "read")
    assert "\n" not in reason(error)
    if kind != "space":
        assert "free space" not in remedy(error, "write")


def test_real_errors_of_ffmpeg_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nothing of a video" * 50)
    for location, kind in (
        (str(tmp_path / "a.mp4"), "damaged"),
        (str(tmp_path / "b.mp4"), "folder"),
        ("nosuch://x/y", "protocol"),
        ("http://127.0.0.1:9/x", "address"),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            av.open(location)
        assert kind_of(caught.value) == kind
    with pytest.raises(SourceError, match=r"expected a stream that answers, got: .*; FFmpeg has no such"):
        VideoSource("nosuch://x/y")


def test_text_of_old_programs() -> None:
    raw = b"Gr\xfc\xdfe".decode("utf-8", "surrogateescape")
    assert text_of({"title": raw, "artist": "Ärzte"}) == {"title": "Grüße", "artist": "Ärzte"}


# Names


@pytest.mark.parametrize(
    "name", ["12:30.mp4", "a:b.mp4", "file:x.mp4", "concat:a|b.mp4", "-.mp4", "a%03d.mp4", "ümläut ☃.mp4"]
)
def test_names_that_look_like_something_else_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_media(Path("in.mp4"), Pictures(frames=3)).rename(name)
    copy(Path(name), Path("out " + name))
    with open_source(f"out {name}") as source:
        assert sum(1 for _ in source) == 3
    assert left_in(Path()) == sorted([name, "out " + name])
    assert Path(local(name)).is_absolute()


@pytest.mark.parametrize("name", ["a" * 251 + ".mp4", "ü" * 125 + "a.mp4", "☃" * 83 + "ab.mkv"])
def test_names_at_the_limit_of_length(tmp_path: Path, name: str) -> None:
    assert len(os.fsencode(name)) == 255
    assert len(os.fsencode(aside(tmp_path / name).name)) <= 255
    copy(write_media(tmp_path / "in.mp4", Pictures(frames=2)), tmp_path / name)
    assert left_in(tmp_path) == sorted(["in.mp4", name])


def test_long_names_that_begin_alike_are_written_aside_apart() -> None:
    assert aside(Path("a" * 250 + "1.mp4")) != aside(Path("a" * 250 + "2.mp4"))


def test_a_name_beyond_the_limit_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"cannot write: File name too long; choose a shorter name"):
        VideoSink(tmp_path / ("a" * 252 + ".mp4"))
    assert left_in(tmp_path) == []


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)  # root may write everywhere
    with pytest.raises(SinkError, match=r"Permission denied; check the permissions of the folder"):
        open_sink(tmp_path / "out.mp4")


def test_pictures_that_no_codec_holds_are_refused_with_the_limit(tmp_path: Path) -> None:
    black = np.zeros((32, 20000, 3), np.uint8)
    wide = Pictures(frames=1, size=(20000, 32), codec="ffv1", options={}, images=[black])
    path = write_media(tmp_path / "in.mkv", wide)
    with pytest.raises(SinkError, match=r"up to 16384 pixels a side, got 20000x32; write \.mp4 or \.mkv"):
        copy(path, tmp_path / "out.mov")
    with open_source(copy(path, tmp_path / "out.mp4")) as after:  # in VP9
        assert after.size == (20000, 32)
    assert left_in(tmp_path) == ["in.mkv", "out.mp4"]
