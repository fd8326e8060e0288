"""How FFmpeg is given files, and what its errors mean: one remedy for each kind of cause."""

from __future__ import annotations

import errno
import io
import re
from pathlib import Path
from typing import Any, Literal

import av
from av.error import FFmpegError

Doing = Literal["read", "write"]

# How FFmpeg's own codes read; they are no errno. (Names of `av.error` differ between versions of PyAV.)
_KINDS = {
    "DecoderNotFound": "codec",
    "EncoderNotFound": "codec",
    "DemuxerNotFound": "container",
    "MuxerNotFound": "container",
    "ProtocolNotFound": "protocol",
    "StreamNotFound": "container",
    "BSFNotFound": "codec",
    "Experimental": "codec",
    "Patchwelcome": "codec",
    "PatchWelcome": "codec",
    "InvalidData": "damaged",
    "HTTPUnauthorized": "login",
    "HTTPForbidden": "login",
    "HTTP": "address",
    "Exit": "silence",
}
_ERRNOS = {
    "space": (errno.ENOSPC, errno.EFBIG, *((errno.EDQUOT,) if hasattr(errno, "EDQUOT") else ())),
    "permission": (errno.EACCES, errno.EPERM, errno.EROFS),
    "folder": (errno.ENOENT, errno.ENOTDIR),
    "name": (errno.ENAMETOOLONG, errno.EILSEQ),
    "device": (errno.EIO, errno.ENXIO, errno.ENODEV),
    "address": (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET, errno.EPIPE),
    "silence": (errno.ETIMEDOUT,),
    "memory": (errno.ENOMEM,),
}
_REMEDIES: dict[Doing, dict[str, str]] = {
    "write": {
        "space": "check free space and limits of file size, or write to another disk",
        "permission": "check the permissions of the folder, or write to another",
        "folder": "make the folder first",
        "name": "choose a shorter name",
        "device": "the disk or its connection failed; write to another",
        "codec": "FFmpeg lacks a codec for this; write .mkv, or run: pip install -U av",
        "container": "this kind of file cannot hold it; write .mkv",
        "layout": "this kind of file cannot hold sound of these channels; write .mkv",
        "protocol": "give a file name",
        "memory": "close other programs, or write a smaller picture",
        "": "write .mkv, or another file",
    },
    "read": {
        "permission": "check the permissions of the file",
        "folder": "check the path",
        "name": "rename the file",
        "device": "the disk or its connection failed; copy the file first",
        "codec": "this FFmpeg cannot decode it; convert it, or run: pip install -U av",
        "container": "this FFmpeg does not know such files; convert it",
        "protocol": "FFmpeg has no such protocol; give a file, rtsp:// or http:// address",
        "damaged": "a recording that was cut off must be repaired first",
        "login": "give name and password in the address, as in rtsp://name:password@camera/",
        "address": "check the address",
        "silence": "it does not answer; check the address",
        "memory": "close other programs",
        "": "a recording that was cut off must be repaired first",
    },
}


def local(path: str | Path) -> str:
    """A file's name such that FFmpeg sees no protocol in it: ``12:30.mp4`` is not a file of protocol 12."""
    return str(Path(path).absolute())


def open_input(location: str | Path, **options: Any) -> Any:
    """``av.open`` of a file or URL. Titles that are not UTF-8 (old AVI, WMV) do not stop it."""
    text = str(location)
    if not is_url(text):
        text = local(text)
    return av.open(text, metadata_errors="surrogateescape", **options)


def is_url(location: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", location) is not None


def text_of(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata as real text: what was not UTF-8 is taken as Latin-1, as the programs of its time wrote it."""

    def whole(text: str) -> str:
        data = text.encode("utf-8", "surrogateescape")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    return {whole(key): whole(value) for key, value in metadata.items()}


def kind_of(error: BaseException) -> str:
    """What failed: space, permission, folder, name, device, codec, container, layout, protocol, damaged,
    login, address, silence, memory, or an empty text."""
    if isinstance(error, FFmpegError):
        for base in type(error).__mro__:
            name = base.__name__.removesuffix("Error")
            if base is not FFmpegError and name in _KINDS:
                return _KINDS[name]
        if type(error).__name__.startswith("HTTP"):
            return "address"
    number = getattr(error, "errno", None)
    for kind, numbers in _ERRNOS.items():
        if number in numbers:
            return kind
    said = str(error).lower()
    if "channel" in said and "layout" in said:
        return "layout"
    return ""


def reason(error: BaseException) -> str:
    """One line, without FFmpeg's numbers."""
    if kind_of(error) == "silence":
        return "no answer"  # FFmpeg calls it "Immediate exit requested"
    text = str(getattr(error, "strerror", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def remedy(error: BaseException, doing: Doing) -> str:
    """What the user can do about it."""
    remedies = _REMEDIES[doing]
    return remedies.get(kind_of(error), remedies[""])


def trial_file(container: str) -> Any:
    """A file of this kind in memory: does it take what it shall take?"""
    return av.open(io.BytesIO(), "w", format=container)
