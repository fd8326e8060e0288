"""Damaged video files: pictures or one line, never a traceback, a hang or a gigabyte."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.errors import DoppelganError
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.source import open_source

from .media import Pictures, Sound, write_media

TRIALS = 24  # damages of each file
SECONDS = 60  # of all trials of one file together
BYTES = 3 << 30  # address space of the process that reads them; libraries alone take one

MPEG4 = {"codec": "mpeg4", "options": {}, "time_base": Fraction(1, 25)}
FILES = {
    "a.mp4": (Pictures(frames=8), [Sound(seconds=0.3)]),
    "b.mkv": (Pictures(frames=8), [Sound("flac", seconds=0.3)]),
    "c.avi": (Pictures(frames=8, **MPEG4), [Sound("pcm_s16le", seconds=0.3)]),  # type: ignore[arg-type]
    "d.ts": (Pictures(frames=8), [Sound("mp2", seconds=0.3)]),
    "e.webm": (
        Pictures(frames=8, codec="libvpx", options={"cpu-used": "8"}),
        [Sound("libopus", seconds=0.3)],
    ),
    "f.mov": (Pictures(frames=8, codec="mjpeg", pixel_format="yuvj420p", options={}), [Sound("alac")]),
    "g.flv": (Pictures(frames=8, codec="flv", options={}, time_base=MPEG4["time_base"]), [Sound()]),  # type: ignore[arg-type]
}


def damaged(data: bytes, seed: int) -> bytes:
    """Cut off, with bits turned, with a piece missing or doubled."""
    rng = np.random.default_rng(seed)
    kind = seed % 4
    if kind == 0:
        return data[: int(rng.integers(1, len(data)))]
    if kind == 1:
        turned = np.frombuffer(data, np.uint8).copy()
        # Half of them near the beginning, where headers are.
        places = np.r_[rng.integers(0, min(600, len(data)), 6), rng.integers(0, len(data), 6)]
        turned[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
        return turned.tobytes()
    at, length = int(rng.integers(0, len(data))), int(rng.integers(1, 400))
    if kind == 2:
        return data[:at] + data[at + length :]
    return data[:at] + bytes(rng.integers(0, 256, length, dtype=np.uint8)) + data[at:]


def read_and_write(folder: Path) -> None:
    """Every ``bad-*`` of a folder, through the runtime; anything but an error of ours goes on."""
    said: list[str] = []
    for path in sorted(folder.glob("bad-*")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with open_source(path) as source, open_sink(folder / "out.mp4", like=source) as sink:
                    for frame in source:
                        sink.write(frame)
            except DoppelganError as error:
                said.append(str(error))
        assert not list(folder.glob("*.part"))
    assert len(said) < TRIALS  # most damage leaves pictures
    for line in said:
        assert "\n" not in line
        assert "; " in line or "?" in line


@pytest.mark.parametrize("name", FILES)
def test_damaged_videos_are_pictures_or_one_line(tmp_path: Path, name: str) -> None:
    pictures, sounds = FILES[name]
    data = write_media(tmp_path / name, pictures, sounds).read_bytes()
    for seed in range(TRIALS):
        (tmp_path / f"bad-{seed:02d}{Path(name).suffix}").write_bytes(damaged(data, seed))

    # In a process of its own: a decoder that crashes, hangs or takes all memory is not this one's end.
    run = subprocess.run(
        [sys.executable, "-m", __name__, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2], env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        capture_output=True, text=True, timeout=SECONDS * 4, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr[-3000:]


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    read_and_write(Path(sys.argv[1]))
