"""The watermark: what it survives, what it costs, how often an unmarked picture is taken for a marked one.

    python -m benchmarks.watermark [-o PAGE.md] [--media FOLDER] [--pictures 40] [--unmarked 2000]

Marked pictures are frames of the embedded clip (and of every clip and picture in --media) as the pipeline
makes them: edited, in other styles and as an enrolled person, each way of compositing, each damaged in every
way below. A detection counts if the payload is the one that was written and the stated probability of a false
alarm is at most 1e-6. Unmarked pictures are frames of the same clips, renderings without a mark, parts of
them moved, mirrored and resized at random, and noise; unmarked videos are the clips and what the pipeline
makes of them without a mark, each time moved, mirrored and resized in another way.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from doppelgan.runtime import Pipeline, native, open_bundle
from doppelgan.runtime.bundle.personal import open_person
from doppelgan.runtime.bundle.reader import Bundle
from doppelgan.runtime.mark import watermark
from doppelgan.runtime.mark.payload import Payload
from doppelgan.runtime.native import reference
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.source import open_source
from doppelgan.runtime.types import Frame, Image
from PIL import Image as pillow

from .common import header, publish

PAYLOAD = Payload("edited", date(2026, 11, 27))
GREY: Mapping[str, float] = {"grey": 0.8}
ROWS: Mapping[str, tuple[str, str, Mapping[str, float]]] = {  # style, compositing, edits
    "difference, grey": ("photo", "difference", GREY),
    "difference, smile": ("photo", "difference", {"smile": 1.0}),
    "face": ("photo", "face", GREY),
    "toon face": ("toon", "face", {}),
    "replace": ("photo", "replace", {}),
    "toon replace": ("toon", "replace", {}),
    "enrolled replace": ("enrolled", "replace", {}),
}
Rows = Mapping[str, tuple[str, str, Mapping[str, float]]]
Bundles = Mapping[str, Bundle]  # by the style of a row
PARTS = ("pictures", "videos", "unmarked", "unmarked-videos", "cost")
Damage = Callable[[Image, np.random.Generator], Image]


def jpeg(image: Image, quality: int) -> Image:
    data = io.BytesIO()
    pillow.fromarray(image[..., ::-1]).save(data, "JPEG", quality=quality)
    return np.asarray(pillow.open(data))[..., ::-1].copy()


def resized(image: Image, scale: float, how: int = pillow.Resampling.BICUBIC) -> Image:
    height, width = image.shape[:2]
    size = (round(width * scale), round(height * scale))
    return np.asarray(pillow.fromarray(image[..., ::-1]).resize(size, how))[..., ::-1].copy()


def cropped(image: Image, share: float, generator: np.random.Generator) -> Image:
    """A part of the same shape that covers ``share`` of the area, somewhere."""
    height, width = image.shape[:2]
    high, wide = int(height * math.sqrt(share)), int(width * math.sqrt(share))
    y, x = int(generator.integers(height - high + 1)), int(generator.integers(width - wide + 1))
    return image[y : y + high, x : x + wide].copy()


def relit(image: Image, contrast: float, brightness: float) -> Image:
    lit = (image.astype(np.float32) - 128) * contrast + 128 + 255 * brightness
    return np.asarray(np.clip(lit, 0, 255), np.uint8)


DAMAGES: dict[str, Damage] = {
    "as it is": lambda image, _: image,
    "JPEG 75": lambda image, _: jpeg(image, 75),
    "half size": lambda image, _: resized(image, 0.5),
    "crop to 50 %": lambda image, g: cropped(image, 0.5, g),
    "brightness and contrast +-20 %": lambda image, g: relit(
        image, *[(1.2, 0.2), (1.2, -0.2), (0.8, 0.2), (0.8, -0.2)][int(g.integers(4))]
    ),
    "screenshot, scale 1.3": lambda image, _: resized(image, 1.3, pillow.Resampling.BILINEAR),
    "half size, then JPEG 75": lambda image, _: jpeg(resized(image, 0.5), 75),
    "mirrored, JPEG 60": lambda image, _: jpeg(image[:, ::-1], 60),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--media", type=Path, help="folder of further clips and pictures")
    parser.add_argument("--pictures", type=int, default=40, help="marked pictures per way of compositing")
    parser.add_argument("--unmarked", type=int, default=2000, help="unmarked pictures")
    parser.add_argument("--seconds", type=float, default=10.0, help="of video per clip")
    parser.add_argument("--minutes", type=float, default=60.0, help="of unmarked video")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only these")
    parser.add_argument("--only", action="append", choices=PARTS, help="only these parts")
    options = parser.parse_args()

    with open_bundle("demo") as bundle, open_person(bundle) as person:
        bundles = {"photo": bundle, "toon": bundle, **({"enrolled": person} if person else {})}
        clips = [str(bundle.path / bundle.manifest.files["clip"].file)]
        if options.media:
            clips += sorted(str(path) for path in options.media.iterdir())
        rows = {
            name: row for name, row in ROWS.items() if name in (options.row or ROWS) and row[0] in bundles
        }
        parts: dict[str, Callable[[], str]] = {
            "pictures": lambda: pictures(bundles, clips, options.pictures, rows),
            "videos": lambda: videos(bundles, clips, options.seconds, rows),
            "unmarked": lambda: unmarked(bundles, clips, options.unmarked),
            "unmarked-videos": lambda: unmarked_videos(bundles, clips, options.minutes),
            "cost": cost,
        }
        chosen = [name for name in PARTS if name in (options.only or PARTS)]
        command = " ".join(
            ["python -m benchmarks.watermark", *(f"--only {name}" for name in options.only or ())]
        )
        text = header("Watermark", command) + "\n"
        text += "\n\n".join(parts[name]() for name in chosen)
    publish(text, options.output)


def pipeline_for(bundles: Bundles, row: tuple[str, str, Mapping[str, float]]) -> Pipeline:
    style, composite, edits = row
    bundle = bundles[style]
    return Pipeline(
        bundle, dict(edits), style=style if style in bundle.styles else bundle.styles[0], composite=composite
    )


def results(pipeline: Pipeline, clip: str, count: int, step: int) -> Iterator[Image]:
    """What the pipeline makes of every ``step``-th frame of ``clip``, where it changes something."""
    with open_source(clip) as source:
        for frame in islice(source, 0, count * step, step):
            edited = pipeline.process(frame.image, frame.time_s)
            if pipeline.people and (edited != frame.image).any():
                yield edited


def marked(pipeline: Pipeline, clip: str, count: int, step: int = 7) -> Iterator[tuple[Image, float]]:
    """Marked results, and the PSNR of the mark in dB."""
    for clean in results(pipeline, clip, count, step):
        out = clean.copy()
        watermark.embed(out, PAYLOAD)
        error = out.astype(np.float64) - clean
        yield out, 10 * math.log10(255**2 / max(float((error**2).mean()), 1e-12))


def is_found(detection: watermark.Detection) -> bool:
    return detection.found and detection.payload == PAYLOAD


def pictures(bundles: Bundles, clips: list[str], count: int, rows: Rows) -> str:
    heads = ["damage", *rows, "all", "median log10 of the false-alarm bound"]
    lines = [f"| {' | '.join(heads)} |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    detections: dict[tuple[str, str], list[watermark.Detection]] = {}
    decibels: dict[str, list[float]] = {row: [] for row in rows}
    generator = np.random.default_rng(0)
    for row, how in rows.items():
        for clip in clips:
            for image, psnr_db in marked(pipeline_for(bundles, how), clip, math.ceil(count / len(clips))):
                decibels[row].append(psnr_db)
                for name, damage in DAMAGES.items():
                    detections.setdefault((name, row), []).append(watermark.detect(damage(image, generator)))
        print(f"pictures, {row}: {len(decibels[row])} done", flush=True)
    for name in DAMAGES:
        cells = [share([is_found(d) for d in detections.get((name, row), [])]) for row in rows]
        every = [d for row in rows for d in detections.get((name, row), [])]
        bound = np.median([math.log10(max(d.false_alarm, 1e-300)) for d in every])
        cells.append(share([is_found(d) for d in every]))
        lines.append(f"| {name} | {' | '.join(cells)} | {bound:.0f} |")
    psnr = ", ".join(f"{row} {np.median(v):.1f} (least {min(v):.1f})" for row, v in decibels.items() if v)
    return "\n".join(lines) + f"\n\nPSNR of the mark over the whole frame, dB, median: {psnr}"


def share(hits: list[bool]) -> str:
    return f"{100 * np.mean(hits):.1f} % of {len(hits)}" if hits else "-"


def videos(bundles: Bundles, clips: list[str], seconds: float, rows: Rows) -> str:
    heads = [f"video of up to {seconds:g} s, H.264 CRF 28", *rows]
    lines = [f"| {' | '.join(heads)} |", "|---" + "|--:" * len(rows) + "|"]
    hits: list[bool] = []
    for clip in clips:
        if not clip.endswith(".mp4"):
            continue
        cells = []
        for how in rows.values():
            detector, frames = watermark.Detector(), 0
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "marked.mp4"
                with open_sink(path, rate=Fraction(30), crf=28) as sink:
                    for image, *_ in marked(pipeline_for(bundles, how), clip, round(30 * seconds), step=1):
                        sink.write(Frame(image, frames, frames / 30))
                        frames += 1
                with open_source(str(path)) as source:
                    for frame in islice(source, 0, None, 3):
                        detector.add(frame.image)
            detection = detector.detect()
            hits.append(is_found(detection))
            cells.append(f"{'yes' if hits[-1] else 'no'}, {frames} frames, {detection.false_alarm:.0e}")
        lines.append(f"| {Path(clip).name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + f"\n\nFound in {share(hits)} videos"


def moved(generator: np.random.Generator) -> Callable[[Image], Image]:
    """A part of every frame, perhaps mirrored, at another size; the same for all frames of a video."""
    room, place, side = generator.uniform(0.3, 1), generator.random(2), generator.uniform(200, 420)
    mirrored = generator.random() < 0.5

    def of(image: Image) -> Image:
        height, width = image.shape[:2]
        high, wide = int(height * math.sqrt(room)), int(width * math.sqrt(room))
        y, x = int((height - high) * place[0]), int((width - wide) * place[1])
        part = image[y : y + high, x : x + wide]
        return resized(part[:, ::-1] if mirrored else part, side / min(high, wide))

    return of


def unmarked_clips(bundles: Bundles, clips: list[str], count: int, step: int) -> Iterator[list[Image]]:
    """Frames of every clip, and what is made of them without a mark."""
    for clip in clips:
        with open_source(clip) as source:
            yield [frame.image for frame in islice(source, 0, count * step, step)]
    for row in ("toon replace", "difference, grey"):
        yield list(results(pipeline_for(bundles, ROWS[row]), clips[0], count, step))


def unmarked(bundles: Bundles, clips: list[str], count: int) -> str:
    generator = np.random.default_rng(1)
    bounds: list[float] = []
    groups = [frames for frames in unmarked_clips(bundles, clips, 40, 5) if frames]
    for group in islice(cycle([*groups, None]), count):
        if group is None:
            image: Image = generator.integers(0, 256, (260, 320, 3), np.uint8)
        else:
            image = moved(generator)(group[int(generator.integers(len(group)))])
        bounds.append(watermark.detect(image).false_alarm)
        if len(bounds) % 50 == 0:
            print(f"unmarked: {len(bounds)} done", flush=True)
    return f"Unmarked pictures: {statement(bounds)}"


def unmarked_videos(bundles: Bundles, clips: list[str], minutes: float) -> str:
    """Every tenth frame is looked at, in pieces of ten seconds."""
    generator = np.random.default_rng(3)
    bounds: list[float] = []
    groups = [frames for frames in unmarked_clips(bundles, clips, 30, 10) if len(frames) > 5]
    pieces = math.ceil(minutes * 6)
    while len(bounds) < pieces:
        for frames in groups:
            detector, change = watermark.Detector(), moved(generator)
            for frame in frames:
                detector.add(change(frame))
            bounds.append(detector.detect().false_alarm)
        print(f"unmarked videos: {len(bounds)} pieces done", flush=True)
    return f"Unmarked video, {len(bounds) / 6:.0f} min in pieces of 10 s: {statement(bounds)}"


def statement(bounds: list[float]) -> str:
    alarms = sum(bound <= watermark.SURE for bound in bounds)
    return (
        f"{alarms} false alarms in {len(bounds)}; the smallest stated bound was {min(bounds):.1e}; "
        f"{sum(b <= 0.01 for b in bounds)} were stated as 0.01 or less"
    )


def cost() -> str:
    generator = np.random.default_rng(2)
    frame = generator.integers(0, 256, (720, 1280, 3), np.uint8)
    added, strengths = watermark.tile(PAYLOAD.to_bits()), watermark.strengths()
    ways = (
        lambda: native.add_tile(frame, added, strengths, 2),
        lambda: native.add_tile(frame, added, strengths, 1),
        lambda: reference.add_tile(frame, added, strengths, 1),
    )
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(30):
        for series, run in zip(times, ways, strict=True):
            start = time.perf_counter()
            run()
            series.append(1e3 * (time.perf_counter() - start))
    lines = ["| 1280x720 | C++, 2 threads, ms | C++, 1 thread | NumPy |", "|---|--:|--:|--:|"]
    for name, of in (("median", np.median), ("least", np.min)):
        lines.append(f"| {name} of 30 | " + " | ".join(f"{of(series):.3f}" for series in times) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
