"""Enrollment judged on frames it never saw: likeness, following, edits, time and memory.

::

    python -m benchmarks.enroll --clips FOLDER/*.mp4 --stills FOLDER/*.jpg --sheets out/enroll \
        --output out/enroll.md [--recognizer "node faces.js"]

A clip is enrolled from one frame (its calmest of the first 70 %) and from the first 70 % of its frames, and
judged on the rest: the avatar, driven by the person, against the person. A still has no other frames: it is
driven by the clips. The embedded clip is of a rendered person that training never saw.

``--recognizer``: any program that tells people apart and takes no part in training. It is given a file
(int32 n, int32 side, then n pictures RGB uint8) and prints a JSON list of n vectors, null where it finds no
face. Distances are Euclidean.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.edit.editor import Editor
from doppelgan.runtime.face_mesh import FACE_OVAL
from doppelgan.runtime.pictures import write_image
from doppelgan.runtime.pictures.convert import to_image
from doppelgan.runtime.pictures.sheet import grid
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.source import open_source
from doppelgan.runtime.types import Floats, Image

from benchmarks.common import header, publish

LEARNED = 0.7  # of a clip's frames may be enrolled from
JUDGED = 24  # frames, at most, of the rest
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM (Wang et al. 2003)
SPEED_FRAMES = 40


@dataclass
class Driven:
    """What a bundle makes of the frames of a driver: all RGB float32 [3,R,R], -1..1."""

    real: list[Floats] = field(default_factory=list)
    avatar: list[Floats] = field(default_factory=list)
    hulls: list[Floats] = field(default_factory=list)  # [R,R], 1 inside the face


@dataclass
class Result:
    """One enrollment."""

    name: str
    how: str  # "plain", "one picture", "clip"
    psnr_db: float
    ms_ssim: float
    distance: float | None  # to the person, median over frames
    edit_effect: float | None = None  # relative to the base's: projection of its change on the base's
    edit_drift: float | None = None  # what editing adds to the distance, beyond the base
    following: float | None = None  # median correlation of what moves
    speed: float | None = None  # time of a live frame relative to the base's, both in turns
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_gb: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.enroll", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="*", type=Path, default=[])
    parser.add_argument("--stills", nargs="*", type=Path, default=[])
    parser.add_argument("--bundle", default="demo", help="base")
    parser.add_argument("--how", nargs="*", choices=("one picture", "clip"), default=["one picture", "clip"])
    parser.add_argument("--steps", type=int, help="of tuning; default: the command's own")
    parser.add_argument("--recognizer", help="program that tells people apart, see the top of the file")
    parser.add_argument("--sheets", type=Path, help="folder for pictures to look at")
    parser.add_argument(
        "--keep", type=Path, help="folder for the enrolled bundles; those that are there are used again"
    )
    parser.add_argument("--output", type=Path, help="page to write, .md")
    arguments = parser.parse_args()
    with open_bundle(arguments.bundle) as base, tempfile.TemporaryDirectory() as scratch:
        clips = arguments.clips or [base.path / base.manifest.files["clip"].file]
        judge = Judge(arguments.recognizer)
        room = arguments.keep or Path(scratch)
        results: list[Result] = []
        for path in clips:
            results += judge_clip(path, base, room, Path(scratch), clips, arguments, judge)
        for path in arguments.stills:
            enrolled = enroll([path], room / f"{path.stem}-one", arguments)
            if enrolled is not None and arguments.sheets is not None:
                with open_bundle(room / f"{path.stem}-one") as me:
                    write_sheet(arguments.sheets / f"{path.stem}.png", base, me, [read(path)[0]], clips)
        publish(page(results), arguments.output)


def judge_clip(
    path: Path, base: Bundle, room: Path, scratch: Path, clips: Sequence[Path], arguments: Any, judge: Judge
) -> list[Result]:
    """Plain, enrolled from one picture, and from the first part of the clip."""
    frames = read(path)
    cut = int(LEARNED * len(frames))
    rest = frames[cut:]
    plain = drive(base, rest)
    people = judge.people(plain.real)
    results = [_result(path.stem, "plain", plain, people, judge)]
    print(results[-1], flush=True)
    learned = scratch / path.stem
    for i, frame in enumerate(frames[:cut]):
        write_image(learned / f"{i:04}.png", frame)
    for how in arguments.how:
        output = room / f"{path.stem}-{how.split()[0]}"
        sources = [learned] if how == "clip" else [calmest(learned, base)]
        enrolled = enroll(sources, output, arguments)
        if enrolled is None:
            continue
        with open_bundle(output) as me:
            driven = drive(me, rest)
            result = _result(path.stem, how, driven, people, judge)
            result.wall_s, result.cpu_s, result.peak_gb = enrolled
            result.edit_effect, result.edit_drift = edits(base, me, judge)
            result.following = following(me, path, len(frames))
            result.speed = speed(base, me, rest)
            if arguments.sheets is not None:
                others = [clip for clip in clips if clip != path]
                write_sheet(
                    arguments.sheets / f"{output.name}.png", base, me, rest[:: max(1, len(rest) // 8)], others
                )
        results.append(result)
        print(result, flush=True)
    return results


def read(path: Path, most: int = 450) -> list[Image]:
    with open_source(str(path)) as source:
        return [frame.image for frame, _ in zip(source, range(most), strict=False)]


def calmest(folder: Path, bundle: Bundle) -> Path:
    """The picture that enrollment itself would start from."""
    from doppelgan.export.tuning.material import gather

    _, _, index = gather([str(folder)], bundle).pivot.name.rpartition("#")
    return sorted(folder.glob("*.png"))[int(index)]


def enroll(sources: Sequence[Path], output: Path, arguments: Any) -> tuple[float, float, float] | None:
    """Run the command: wall clock and processor time in s, peak of memory in GB. None if it was refused."""
    if output.exists():
        with open_bundle(output) as there:
            known = there.manifest.enrollment
        return 0.0, known.cpu_s if known is not None else 0.0, 0.0
    command = [sys.executable, "-m", "doppelgan.runtime.cli", "enroll", *map(str, sources), "-o", str(output)]
    command += ["-b", arguments.bundle, "--consent", "benchmark"]
    command += [] if arguments.steps is None else ["--steps", str(arguments.steps)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1], flush=True)
        return None
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu_s, after.ru_maxrss / 1e6


def drive(bundle: Bundle, frames: Sequence[Image]) -> Driven:
    """Through the live pipeline, as a video; of its frames, JUDGED are kept."""
    pipeline, driven = Pipeline(bundle, composite="replace"), Driven()
    kept = set(np.linspace(0, len(frames) - 1, min(JUDGED, len(frames))).astype(int).tolist())
    for i, frame in enumerate(frames):
        pipeline.process(frame, i / 30)
        if i not in kept or not pipeline.people:
            continue
        person = next(iter(pipeline.people.values()))
        if person.crop is None or person.picture is None:
            continue
        side = person.picture.shape[-1]
        factor = max(1, side // person.crop.size)
        picture = person.picture.reshape(3, side // factor, factor, side // factor, factor).mean((2, 4))
        driven.real.append(person.crop.pixels[0].copy())
        driven.avatar.append(np.clip(picture, -1, 1))
        driven.hulls.append(hull(person.crop.landmarks, person.crop.size))
    return driven


def hull(landmarks: Floats, size: int) -> Floats:
    """float32 [size,size]: 1 within the tangents of the face's contour."""
    oval = landmarks[list(FACE_OVAL), :2].astype(np.float64)
    angles = np.arange(64) * (2 * np.pi / 64)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    reach = (oval @ directions).max(axis=0)
    ys, xs = np.mgrid[:size, :size]
    inside = (np.stack([xs, ys], axis=-1).reshape(-1, 2) @ directions <= reach).all(axis=1)
    return inside.reshape(size, size).astype(np.float32)


def psnr(a: Floats, b: Floats, mask: Floats) -> float:
    """dB within the mask, of pictures [3,R,R] in -1..1."""
    error = float((np.square(a - b) * mask).sum() / (3 * mask.sum()))
    return float(10 * np.log10(4 / max(error, 1e-10)))


def ms_ssim(a: Floats, b: Floats, mask: Floats) -> float:
    """MS-SSIM whose means run over the mask; windows may look out of it."""
    line = np.exp(-np.square(np.arange(11) - 5.0) / 4.5)
    line /= line.sum()

    def blur(x: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (5, 5), (5, 5)), mode="reflect")
        down = sum(w * padded[:, i : i + x.shape[1]] for i, w in enumerate(line))
        return np.asarray(sum(w * down[:, :, i : i + x.shape[2]] for i, w in enumerate(line)))

    a, b, result = np.asarray(a / 2 + 0.5), np.asarray(b / 2 + 0.5), 1.0
    for scale, share in enumerate(SCALES):
        mean_a, mean_b = blur(a), blur(b)
        var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
        likeness = (2 * (blur(a * b) - mean_a * mean_b) + 9e-4) / (var_a + var_b + 9e-4)
        if scale == len(SCALES) - 1:
            likeness = likeness * (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
        value = float((likeness * mask).sum() / (3 * max(mask.sum(), 1e-6)))
        result *= max(value, 1e-4) ** share
        half = a.shape[1] // 2
        a, b = (x.reshape(3, half, 2, half, 2).mean((2, 4)) for x in (a, b))
        mask = mask.reshape(half, 2, half, 2).mean((1, 3))
    return result


class Judge:
    """The recognizer, if there is one."""

    def __init__(self, command: str | None) -> None:
        self._command = command

    def __call__(self, pictures: Sequence[Floats]) -> list[np.ndarray | None]:
        """A vector for each RGB picture [3,R,R]; None where no face is found."""
        if self._command is None or not pictures:
            return [None] * len(pictures)
        side = pictures[0].shape[-1]
        pixels = np.stack(
            [((p.transpose(1, 2, 0) + 1) * 127.5).clip(0, 255).astype(np.uint8) for p in pictures]
        )
        with tempfile.NamedTemporaryFile(suffix=".bin") as file:
            file.write(np.array([len(pictures), side], "<i4").tobytes() + pixels.tobytes())
            file.flush()
            done = subprocess.run(
                [*shlex.split(self._command), file.name], capture_output=True, text=True, check=True
            )
        return [None if vector is None else np.array(vector) for vector in json.loads(done.stdout)]

    def people(self, pictures: Sequence[Floats]) -> np.ndarray | None:
        """The mean vector of a person."""
        known = [vector for vector in self(pictures) if vector is not None]
        return np.mean(known, axis=0) if known else None

    def distance(self, pictures: Sequence[Floats], person: np.ndarray | None) -> float | None:
        """Median distance to a person; a picture without a face counts as 1."""
        if person is None:
            return None
        vectors = self(pictures)
        return float(np.median([1.0 if v is None else float(np.linalg.norm(v - person)) for v in vectors]))


def _result(name: str, how: str, driven: Driven, person: np.ndarray | None, judge: Judge) -> Result:
    rows = list(zip(driven.avatar, driven.real, driven.hulls, strict=True))
    return Result(
        name,
        how,
        float(np.mean([psnr(*row) for row in rows])),
        float(np.mean([ms_ssim(*row) for row in rows])),
        judge.distance(driven.avatar, person),
    )


def edits(base: Bundle, me: Bundle, judge: Judge) -> tuple[float, float | None]:
    """Effect of all edits relative to the base's at the person's code; what editing adds to the distance."""
    pivot = me.latent["pivot"][None]
    editor = Editor(base.directions, base.latent_avg)
    start = [bundle.synthesize(pivot)[0] for bundle in (base, me)]
    effects: list[float] = []
    pictures: list[list[Floats]] = [[], []]
    for name, direction in base.directions.items():
        code = editor.apply(pivot, {name: direction.range[1]})
        both = [bundle.synthesize(code)[0] for bundle in (base, me)]
        old, new = (
            np.clip(after, -1, 1) - np.clip(before, -1, 1) for after, before in zip(both, start, strict=True)
        )
        effects.append(float((old * new).sum() / max(float(np.square(old).sum()), 1e-9)))
        for kept, picture in zip(pictures, both, strict=True):
            kept.append(picture)
    drifts = [
        judge.distance(kept, judge.people([before])) for kept, before in zip(pictures, start, strict=True)
    ]
    drift = None if drifts[0] is None or drifts[1] is None else drifts[1] - drifts[0]
    return float(np.median(effects)), drift


def following(bundle: Bundle, path: Path, most: int) -> float | None:
    """Median correlation, over what moves in the clip, of the avatar's face with the driver's."""
    from training.evaluate.clips import measure_clip, read_clip

    found = measure_clip(bundle, read_clip(path, most)).get("correlation", {})
    values = [value for value in found.values() if value is not None]
    return float(np.median(values)) if values else None


def speed(base: Bundle, me: Bundle, frames: Sequence[Image]) -> float:
    """Median over frames of the enrolled bundle's time over the base's, one frame of each in turns."""
    pipelines = [Pipeline(bundle, composite="replace") for bundle in (base, me)]
    ratios = []
    for i in range(SPEED_FRAMES):
        times = [0.0, 0.0]
        for k in (0, 1) if i % 2 else (1, 0):
            began = time.perf_counter()
            pipelines[k].process(frames[i % len(frames)], i / 30)
            times[k] = time.perf_counter() - began
        ratios.append(times[1] / times[0])
    return float(np.median(ratios[SPEED_FRAMES // 4 :]))


def write_sheet(
    path: Path, base: Bundle, me: Bundle, frames: Sequence[Image], drivers: Sequence[Path]
) -> None:
    """Person, plain, enrolled; driven by two others; every edit at both ends."""
    rows = []
    before, after = drive(base, frames), drive(me, frames)
    for label, pictures in (("person", after.real), ("plain", before.avatar), ("enrolled", after.avatar)):
        rows.append([(label, to_image(picture)) for picture in pictures[:9]])
    for clip in drivers[:2]:
        driven = drive(me, read(clip, 150))
        step = max(1, len(driven.real) // 9)
        rows.append([(clip.stem, to_image(picture)) for picture in driven.real[::step][:9]])
        rows.append([("driven", to_image(picture)) for picture in driven.avatar[::step][:9]])
    editor, pivot = Editor(me.directions, me.latent_avg), me.latent["pivot"][None]
    cells = []
    for name, direction in me.directions.items():
        for end in direction.range:
            picture = me.synthesize(editor.apply(pivot, {name: end}))[0]
            cells.append((f"{name} {end:+g}", to_image(picture)))
    rows += [cells[i : i + 9] for i in range(0, len(cells), 9)]
    if "toon" in me.styles:
        rows.append([("toon", to_image(me.synthesize(pivot, "toon")[0]))])
    write_image(path, grid(rows, 144))


def page(results: Sequence[Result]) -> str:
    heads = (
        "material",
        "enrolled from",
        "PSNR dB",
        "MS-SSIM",
        "distance",
        "following r",
        "edit effect",
        "drift",
        "frame time x",
        "wall s",
        "CPU s",
        "GB",
    )
    rows = [
        (
            *(r.name, r.how, f"{r.psnr_db:.1f}", f"{r.ms_ssim:.3f}"),
            *(_cell(value) for value in (r.distance, r.following, r.edit_effect, r.edit_drift, r.speed)),
            *(f"{r.wall_s:.0f}", f"{r.cpu_s:.0f}", f"{r.peak_gb:.1f}"),
        )
        for r in results
    ]
    for how in ("plain", "one picture", "clip"):
        these = [r for r in results if r.how == how]
        if these:
            known = [r.distance for r in these if r.distance is not None]
            mean_db, mean_ssim = np.mean([r.psnr_db for r in these]), np.mean([r.ms_ssim for r in these])
            distance = _cell(float(np.median(known)) if known else None)
            rows.append(("**mean**", how, f"{mean_db:.1f}", f"{mean_ssim:.3f}", distance, *[""] * 7))
    lines = [
        header(
            "Enrollment, judged on unseen frames", f"python -m benchmarks.enroll {shlex.join(sys.argv[1:])}"
        ),
        "PSNR and MS-SSIM within the face's hull. Distance: of the recognizer, to the person, median of",
        "frames, in the last rows of the material. Edit effect: projection of an edit's change on the base's",
        "Drift: what editing adds to the distance, beyond the base.",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|---" + "|--:" * (len(heads) - 2) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
