"""The user's cache folder, and files in it that are as good as code.

What an engine compiled is executed when it is opened again. Such a file is kept only where this user alone
can have put it: in ``<user cache>/<kind>/``, a real folder (no link) of this user with permissions 0700. It
counts only if it is a real file of this user that nobody else may write and starts with the SHA-256 of the
rest. Anything else reads as "not there". Without POSIX permissions, as on Windows, that cannot be checked,
and nothing is kept.

``key`` is the caller's: everything that the content depends on. Files that were not used longest go first.
A cache saves time and nothing else: neither function raises if it cannot be read or written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from .user_folders import user_cache

LIMIT_MB: Final = 512  # of all files of one kind together
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


def read_private(kind: str, key: Sequence[str]) -> bytes | None:
    """What was written for ``key``, or None if it is not there, damaged, or not this user's alone."""
    with contextlib.suppress(OSError), _folder(kind) as folder:
        file = os.open(_file_name(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(file, "rb") as opened:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            digest, data = opened.read(_DIGEST_BYTES), opened.read()
            if hashlib.sha256(data).digest() != digest:
                return None
            with contextlib.suppress(OSError):  # not on a read-only file system
                os.utime(file)
            return data
    return None


def write_private(kind: str, key: Sequence[str], data: bytes | memoryview) -> None:
    """Keep ``data`` for ``key`` unless that cannot be done safely or it is larger than LIMIT_MB."""
    if len(data) > LIMIT_MB * 1e6:
        return
    with contextlib.suppress(OSError), _folder(kind, create=True) as folder:
        name = _file_name(key)
        aside = f".{secrets.token_hex(8)}.part"
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with os.fdopen(file, "wb") as opened:
                opened.write(hashlib.sha256(data).digest())
                opened.write(data)
            os.replace(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside, dir_fd=folder)
            raise
        _drop_oldest(folder)


@contextlib.contextmanager
def _folder(kind: str, create: bool = False) -> Iterator[int]:
    """Descriptor of the folder, which stays the same one whatever its path becomes. Raises OSError."""
    if not hasattr(os, "geteuid"):
        raise PermissionError("no POSIX permissions here")
    try:
        path = user_cache() / kind
    except RuntimeError as error:  # a user without a home
        raise FileNotFoundError(str(error)) from None
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(f"{path}: expected a folder of this user with permissions 0700")
        yield folder
    finally:
        os.close(folder)


def _drop_oldest(folder: int) -> None:
    files = []
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # another process may drop the same
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            files.append((status.st_mtime_ns, status.st_size, name))
    total = sum(size for _, size, _ in files)
    for _, size, name in sorted(files):
        if total <= LIMIT_MB * 1e6:
            break
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        total -= size


def _file_name(key: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest()
