"""Check ``doppelgan video`` on real clips: frames, size, rate, sound, faces found; a contact sheet of each.

Every clip of a folder goes through the command line once per look (``toon`` replacing the frame, ``photo``
composited into the face). What comes out must have the frames, times, size, rate and audio packets of what
went in, and a face in at least 99 % of the frames. Exits with 1 where it does not.

    python -m benchmarks.clips ~/clips -o out/clips
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from doppelgan.runtime.pictures.sheet import grid
from doppelgan.runtime.source import open_source
from doppelgan.runtime.types import Image

LOOKS = {"toon": ("--style", "toon", "-c", "replace"), "photo": ("--style", "photo", "-c", "face")}
SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".m4v"}
FACES_WANTED = 0.99  # share of frames
COLUMNS = 8


@dataclass(frozen=True)
class Facts:
    """What must be the same before and after."""

    size: tuple[int, int]
    rate: Fraction
    frames: int
    times_ms: tuple[float, ...]  # of every frame, from the first
    sound: str  # codec and digest of all packets, or ""


@dataclass(frozen=True)
class Row:
    """One clip in one look."""

    clip: str
    look: str
    facts: Facts
    faces: int
    frames_per_s: float
    faults: tuple[str, ...]


def facts(path: Path) -> Facts:
    """Read every frame and every audio packet of ``path``."""
    with open_source(path) as source:
        times = [frame.time_s for frame in source]
        size, rate = source.size, source.rate
    steps = tuple(round(1000 * (time_s - times[0]), 1) for time_s in times)
    return Facts(size, rate, len(times), steps, _sound(path))


def _sound(path: Path) -> str:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return ""
        track = container.streams.audio[0]
        digest = hashlib.sha256()
        for packet in container.demux(track):
            digest.update(bytes(packet))
        return f"{track.codec_context.name} {digest.hexdigest()[:12]}"


def check(clip: Path, look: str, result: Path, before: Facts, bundle: str) -> Row:
    """Run the command and compare."""
    command = [sys.executable, "-m", "doppelgan.runtime.cli", "video", str(clip), "-o", str(result)]
    command += [*LOOKS[look], "--bundle", bundle, "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return Row(clip.name, look, before, 0, 0.0, (done.stderr.strip(),))
    said = re.search(r"a face in (\d+).*?([\d.]+) frames/s", done.stdout)
    faces, speed = (int(said[1]), float(said[2])) if said else (0, 0.0)
    after = facts(result)
    faults = [
        f"{name}: {getattr(before, name)} became {getattr(after, name)}"
        for name in ("size", "rate", "frames", "sound")
        if getattr(before, name) != getattr(after, name)
    ]
    if before.times_ms != after.times_ms:
        faults.append("times differ")
    if faces < FACES_WANTED * before.frames:
        faults.append(f"a face in only {faces} of {before.frames} frames")
    return Row(clip.name, look, before, faces, speed, tuple(faults))


def contact_sheet(clip: Path, results: dict[str, Path], frames: int) -> Image:
    """One row of moments per video: the clip and what became of it."""
    moments = np.linspace(0, frames - 1, COLUMNS).astype(int).tolist()
    return grid([_moments(label, path, moments) for label, path in {"clip": clip, **results}.items()], 240)


def _moments(label: str, path: Path, moments: list[int]) -> list[tuple[str, Image]]:
    with open_source(path) as source:
        return [(f"{label} {frame.index}", frame.image) for frame in source if frame.index in moments]


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| clip | look | frames | size | rate | sound | a face in | frames/s | same as the clip |",
        "|---|---|--:|---|--:|---|--:|--:|---|",
    ]
    for row in rows:
        size = "x".join(map(str, row.facts.size))
        share = f"{100 * row.faces / row.facts.frames:.1f} %"
        lines.append(
            f"| {row.clip} | {row.look} | {row.facts.frames} | {size} | {float(row.facts.rate):g} | "
            f"{row.facts.sound.split(' ')[0] or 'none'} | {share} | {row.frames_per_s:.1f} | "
            f"{'; '.join(row.faults) or 'yes'} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="with videos of a person")
    parser.add_argument("--output", "-o", type=Path, default=Path("out/clips"))
    parser.add_argument("--bundle", default="demo")
    chosen = parser.parse_args()
    clips = sorted(path for path in chosen.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not clips:
        parser.error(f"{chosen.folder}: expected videos, found none")
    chosen.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for clip in clips:
        before = facts(clip)
        results = {look: chosen.output / f"{clip.stem}-{look}.mp4" for look in LOOKS}
        for look, path in results.items():
            rows.append(check(clip, look, path, before, chosen.bundle))
            print(f"{clip.name} {look}: {'; '.join(rows[-1].faults) or 'good'}", flush=True)
        there = {look: path for look, path in results.items() if path.is_file()}
        cv2.imwrite(str(chosen.output / f"{clip.stem}.png"), contact_sheet(clip, there, before.frames))
    (chosen.output / "clips.md").write_text(table(rows) + "\n", encoding="utf-8")
    print("\n" + table(rows))
    return int(any(row.faults for row in rows))


if __name__ == "__main__":
    sys.exit(main())
