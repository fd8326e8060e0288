"""What a file keeps on its way through the runtime, beside what the ffmpeg program makes of the same file.

Every file is read by `open_source` and written by `open_sink` with nothing edited in between, and the result
is compared with the file itself, both decoded by ffmpeg to raw pictures and samples:

    python -m benchmarks.fidelity holiday.mp4 tapes/*.avi                table on standard output
    python -m benchmarks.fidelity --to .mkv --to .mov FILES...           other containers
    python -m benchmarks.fidelity --markdown FILES...
    python -m benchmarks.fidelity --made                 some 230 small files of many kinds, made by ffmpeg

frames   pictures in -> out
times    largest difference of the distance between a picture and the first one, ms
start    how much later the pictures begin beside the first sample than they did, ms; silence that an encoder
         puts first counts here (21 ms of AAC where the sound begins late), not in the shift below
colors   mean, and largest mean of any 8x8 block, of the difference in levels of 255 (x264 at crf 4)
sound    tracks in -> out, samples (at 48 kHz) gained or lost in the first, shift of its waveform in ms

Needs ffmpeg on the PATH.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from doppelgan.runtime.errors import DoppelganError
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.source import open_source

from .made_files import make_files

SOUND_RATE = 48000
COLUMNS = {"file": 34, "frames": 12, "times": 7, "start": 7, "colors": 11, "sound": 24, "notes": 0}
BLOCK = 8


@dataclass(slots=True)
class Decoded:
    """A file as ffmpeg decodes it."""

    times_s: list[float]
    pictures: list[np.ndarray[Any, Any]]  # BGR uint8 [H,W,3]
    sounds: list[np.ndarray[Any, Any]]  # float32 [N] at SOUND_RATE, channels averaged, one per track
    starts_s: list[float]  # of the sounds
    problem: str = ""


@dataclass(slots=True)
class Row:
    file: str
    frames: str = ""
    times_ms: float = float("nan")
    start_ms: float = float("nan")
    mean_levels: float = float("nan")
    worst_levels: float = float("nan")
    sound: str = ""
    notes: list[str] = field(default_factory=list)

    def cells(self) -> list[str]:
        colors = f"{self.mean_levels:.2f} {self.worst_levels:.1f}"
        times = [f"{self.times_ms:.1f}", f"{self.start_ms:.1f}"]
        return [self.file, self.frames, *times, colors, self.sound, "; ".join(self.notes)]


def decode(path: Path, work: Path, *, first_pictures: int) -> Decoded:
    """Through ``ffmpeg -i path``, all its defaults but: no frame is dropped or repeated."""
    whole = Decoded([], [], [], [])
    probe = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    streams = json.loads(probe.stdout or "{}").get("streams", [])
    videos = [s for s in streams if s["codec_type"] == "video" and not s["disposition"]["attached_pic"]]
    sounds = [s for s in streams if s["codec_type"] == "audio" and s.get("codec_name", "none") != "none"]
    if not videos:
        whole.problem = (probe.stderr.strip().splitlines() or ["no video"])[-1]
        return whole
    best = max(videos, key=lambda s: (s["disposition"]["default"], s["width"] * s["height"], -s["index"]))
    raw = work / "decoded.nut"
    maps = [f"-map=0:{s['index']}".replace("=", " ") for s in [best, *sounds]]
    command = ["ffmpeg", "-y", "-v", "error", "-nostdin", "-i", str(path), *" ".join(maps).split(),
               "-fps_mode", "passthrough", "-enc_time_base:v", "-1", "-c:v", "rawvideo", "-pix_fmt", "bgr24",
               "-sws_flags", "accurate_rnd+full_chroma_int", "-frames:v", str(first_pictures),
               "-c:a", "pcm_s16le", "-ac", "1", "-ar", str(SOUND_RATE), "-f", "nut", str(raw)]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        whole.problem = (run.stderr.strip().splitlines() or ["ffmpeg failed"])[-1]
        return whole
    pieces: dict[int, list[Any]] = {}
    with av.open(str(raw)) as container:
        for packet in container.demux():
            for one in packet.decode():
                if isinstance(one, av.VideoFrame):
                    assert one.pts is not None
                    assert one.time_base is not None
                    whole.times_s.append(float(one.pts * one.time_base))
                    whole.pictures.append(one.to_ndarray(format="bgr24"))
                else:
                    pieces.setdefault(packet.stream.index, []).append(one)
    for samples in pieces.values():
        whole.starts_s.append(float(samples[0].pts * samples[0].time_base))
        whole.sounds.append(np.concatenate([s.to_ndarray().ravel() for s in samples]).astype(np.float32))
    return whole


def compare(before: Decoded, after: Decoded, row: Row) -> None:
    row.frames = f"{len(before.pictures)} -> {len(after.pictures)}"
    count = min(len(before.times_s), len(after.times_s))
    if count:
        times = [np.asarray(d.times_s[:count]) - d.times_s[0] for d in (before, after)]
        row.times_ms = float(np.abs(times[0] - times[1]).max() * 1000)
        row.start_ms = (after.times_s[0] - before.times_s[0]) * 1000
        off = []
        for one, other in zip(before.pictures, after.pictures, strict=False):
            if one.shape != other.shape:
                row.notes.append(f"size {one.shape[1::-1]} -> {other.shape[1::-1]}")
                break
            height, width = (side - side % BLOCK for side in one.shape[:2])
            if not height or not width:
                break
            difference = other[:height, :width].astype(np.float32) - one[:height, :width]
            off.append(difference.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3).mean((1, 3)))
        if off:
            row.mean_levels = float(np.abs(np.mean([o.mean((0, 1)) for o in off], 0)).max())
            row.worst_levels = float(max(np.abs(o).max() for o in off))
    row.sound = f"{len(before.sounds)} -> {len(after.sounds)}"
    if before.sounds and after.sounds:
        one, other = before.sounds[0], after.sounds[0]
        shift = onset_shift(one, other) / SOUND_RATE + (after.starts_s[0] - before.starts_s[0])
        if count:
            row.start_ms -= (after.starts_s[0] - before.starts_s[0]) * 1000
            shift -= after.times_s[0] - before.times_s[0]
        row.sound += f", {len(other) - len(one):+d}, {shift * 1000:+.1f}"


def onset_shift(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> int:
    """Samples by which ``other`` comes later, at best correlation."""
    length = 1 << int(np.ceil(np.log2(len(one) + len(other) + 1)))
    spectra = np.fft.rfft(one, length).conj() * np.fft.rfft(other, length)
    correlation = np.fft.irfft(spectra, length)
    best = int(np.argmax(correlation))
    return best if best < length // 2 else best - length


def measure(path: Path, suffix: str, work: Path, first_pictures: int) -> Row:
    row = Row(f"{path.name} {suffix}")
    out = work / f"out{suffix}"
    out.unlink(missing_ok=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            with open_source(path) as source, open_sink(out, like=source, crf=4) as sink:
                for frame in source:
                    sink.write(frame)
                    if sink.frames == first_pictures:
                        break
        except DoppelganError as error:
            row.notes.append(f"refused: {error}")
        except Exception:
            row.notes.append("TRACEBACK " + traceback.format_exc().strip().splitlines()[-1])
    row.notes += [str(one.message).replace(str(path), "") for one in said]
    before = decode(path, work, first_pictures=first_pictures)
    if before.problem:
        row.notes.append(f"ffmpeg: {before.problem}")
    if out.exists():
        after = decode(out, work, first_pictures=first_pictures)
        if after.problem:
            row.notes.append(f"the result, ffmpeg: {after.problem}")
        compare(before, after, row)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--made", action="store_true", help="also those of made_files.py")
    parser.add_argument("--to", action="append", default=[], metavar=".SUFFIX", help=".mp4 if not given")
    parser.add_argument("--pictures", type=int, default=300, help="compare so many of each file")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if not options.files and not options.made:
        parser.error("expected files, or --made")
    began_s = time.monotonic()
    edge, bar = ("| ", " | ") if options.markdown else ("", "  ")
    columns = (
        ("file", 34),
        ("frames", 12),
        ("times", 7),
        ("start", 7),
        ("colors", 11),
        ("sound", 24),
        ("notes", 0),
    )
    print(edge + bar.join(name.ljust(width) for name, width in columns) + edge.rstrip())
    if options.markdown:
        print("|" + "---|" * len(columns))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as made:
        if options.made:
            paths, missing = make_files(Path(made))
            options.files += paths
            if missing:
                print(f"this ffmpeg cannot make {', '.join(missing)}", file=sys.stderr)
        for path in options.files:
            for suffix in options.to or [".mp4"]:
                row = measure(path, suffix, Path(folder), options.pictures)
                colors = f"{row.mean_levels:.2f} {row.worst_levels:.1f}"
                cells = (
                    row.file,
                    row.frames,
                    f"{row.times_ms:.1f}",
                    f"{row.start_ms:.1f}",
                    colors,
                    row.sound,
                )
                padded = [cell.ljust(width) for cell, (_, width) in zip(cells, columns, strict=False)]
                notes = "; ".join(note.replace(f"{path}: ", "") for note in row.notes)
                print(edge + bar.join([*padded, notes]) + edge.rstrip(), flush=True)
    print(f"\n{len(options.files)} files, {time.monotonic() - began_s:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
