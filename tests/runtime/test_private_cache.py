"""The user's cache: what is as good as code is read only where this user alone can have put it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from doppelgan.runtime.host import private_cache
from doppelgan.runtime.host.private_cache import read_private, write_private

KEY = ["machine", "version", "0" * 64]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="nothing is kept without POSIX permissions")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOPPELGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engine"


@pytest.fixture
def kept(folder: Path) -> Path:
    """The one file of a cache with b"code" in it."""
    write_private("engine", KEY, b"code")
    (path,) = folder.iterdir()
    return path


def test_what_was_kept_is_found_under_its_kind_and_key_only(kept: Path) -> None:
    assert read_private("engine", KEY) == b"code"
    assert read_private("another", KEY) is None
    assert read_private("engine", ["machineversion", "", "0" * 64]) is None  # same letters, other parts


def test_folder_and_file_are_for_this_user_alone_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        write_private("engine", KEY, b"code")
    finally:
        os.umask(before)
    (path,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_private("engine", KEY) == b"code"


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_may_enter_is_neither_read_nor_written(
    folder: Path, kept: Path, mode: int
) -> None:
    folder.chmod(mode)
    assert read_private("engine", KEY) is None
    write_private("engine", ["other"], b"more")
    assert list(folder.iterdir()) == [kept]
    folder.chmod(0o700)
    assert read_private("engine", KEY) == b"code"


def test_a_file_that_others_may_write_is_not_read(kept: Path) -> None:
    kept.chmod(0o620)
    assert read_private("engine", KEY) is None


def test_what_belongs_to_somebody_else_is_neither_read_nor_written(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: kept.stat().st_uid + 1)
    assert read_private("engine", KEY) is None
    write_private("engine", ["other"], b"more")
    assert list(kept.parent.iterdir()) == [kept]


def test_links_are_not_followed(folder: Path, kept: Path, tmp_path: Path) -> None:
    elsewhere = kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(elsewhere)
    assert read_private("engine", KEY) is None
    kept.unlink()
    elsewhere.rename(kept)
    assert read_private("engine", KEY) == b"code"
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved", target_is_directory=True)
    assert read_private("engine", KEY) is None


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 32 + b"code"])
def test_a_damaged_file_reads_as_none_and_can_be_written_again(kept: Path, damage: bytes) -> None:
    kept.write_bytes(damage)
    assert read_private("engine", KEY) is None
    write_private("engine", KEY, b"anew")
    assert read_private("engine", KEY) == b"anew"
    assert list(kept.parent.iterdir()) == [kept]


def test_what_was_not_used_longest_makes_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_cache, "LIMIT_MB", 300e-6)
    for name, day in (("first", 2), ("second", 1)):
        before = set(folder.glob("*"))
        write_private("engine", [name], bytes(100))
        (path,) = set(folder.iterdir()) - before
        os.utime(path, (86400 * day, 86400 * day))
    assert read_private("engine", ["second"]) is not None  # the older, but used now
    write_private("engine", ["third"], bytes(100))
    assert [read_private("engine", [n]) is not None for n in ("first", "second", "third")] == [0, 1, 1]
    write_private("engine", ["too large"], bytes(301))
    assert read_private("engine", ["too large"]) is None
    assert read_private("engine", ["third"]) is not None


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DOPPELGAN_CACHE", str(tmp_path / "file"))
    write_private("engine", KEY, b"code")
    assert read_private("engine", KEY) is None


def test_a_folder_that_cannot_be_written_still_serves(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    assert read_private("engine", KEY) == b"code"


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("DOPPELGAN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    write_private("engine", ["key"], b"data")
    assert read_private("engine", ["key"]) is None
