"""The watermark: what it survives, what it costs, how often an unmarked picture is taken for a marked one.

    python -m benchmarks.watermark [-o PAGE.md] [--media FOLDER] [--pictures 40] [--unmarked 2000]

Marked pictures are frames of the embedded clip (and of every clip and picture in --media) as the pipeline
makes them, photo and toon, each way of compositing, each damaged in every way below. A detection counts if
the payload is the one that was written and the stated probability of a false alarm is at most 1e-6. Unmarked
pictures are frames of the same clips, moved, mirrored and resized at random, and random noise.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from doppelgan.runtime import Pipeline, native, open_bundle
from doppelgan.runtime.mark import watermark
from doppelgan.runtime.mark.marker import around
from doppelgan.runtime.mark.payload import Payload
from doppelgan.runtime.native import reference
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.source import open_source
from doppelgan.runtime.types import Frame, Image
from PIL import Image as pillow

from .common import header, publish

PAYLOAD = Payload("edited", date(2026, 11, 27))
LEAST_PX = 20_000  # changed pixels: a face of about 150 px; less carries no mark that one picture can show
ROWS = {
    "difference": ("photo", "difference"),
    "face": ("photo", "face"),
    "head": ("photo", "head"),
    "replace": ("toon", "replace"),
}
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
    options = parser.parse_args()

    bundle = open_bundle("demo")
    clips = [str(bundle.path / bundle.manifest.files["clip"].file)]
    if options.media:
        clips += sorted(str(path) for path in options.media.iterdir())
    text = header("Watermark", "python -m benchmarks.watermark")
    text += "\n" + "\n\n".join(
        (
            pictures(bundle, clips, options.pictures),
            videos(bundle, clips, options.seconds),
            unmarked(clips, options.unmarked),
            cost(),
        )
    )
    publish(text, options.output)


def marked(
    bundle: object, clip: str, row: str, count: int, step: int = 7
) -> Iterator[tuple[Image, float, int]]:
    """Frames of ``clip`` with a mark in what was changed, its PSNR there in dB, how many pixels."""
    style, composite = ROWS[row]
    edits = {"grey": 0.8} if style == "photo" else None
    pipeline = Pipeline(bundle, edits, style=style, composite=composite)  # type: ignore[arg-type]
    with open_source(clip) as source:
        for frame in islice(source, 0, count * step, step):
            clean = pipeline.process(frame.image, frame.time_s)
            if not pipeline.people:
                continue
            out = clean.copy()
            whole = composite == "replace"
            crops = [person.crop for person in pipeline.people.values() if person.crop is not None]
            watermark.embed(
                out, None if whole else frame.image, PAYLOAD, box=None if whole else around(crops)
            )
            changed = np.full(out.shape, True) if whole else clean != frame.image
            error = (out.astype(np.float64) - clean)[changed]
            if not len(error):
                continue
            count = int(changed.any(axis=2).sum())
            yield out, 10 * math.log10(255**2 / max(float((error**2).mean()), 1e-12)), count


def is_found(detection: watermark.Detection) -> bool:
    return detection.found and detection.payload == PAYLOAD


def pictures(bundle: object, clips: list[str], count: int) -> str:
    heads = ["damage", *ROWS, "median log10 of the false-alarm bound"]
    lines = [f"| {' | '.join(heads)} |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    results: dict[tuple[str, str], list[watermark.Detection]] = {}
    decibels: dict[str, list[float]] = {row: [] for row in ROWS}
    small: dict[str, list[bool]] = {row: [] for row in ROWS}
    generator = np.random.default_rng(0)
    for row in ROWS:
        for clip in clips:
            for image, psnr_db, pixels in marked(bundle, clip, row, math.ceil(count / len(clips))):
                decibels[row].append(psnr_db)
                if pixels < LEAST_PX:
                    small[row].append(is_found(watermark.detect(image)))
                    continue
                for name, damage in DAMAGES.items():
                    results.setdefault((name, row), []).append(watermark.detect(damage(image, generator)))
        print(f"pictures, {row}: {len(decibels[row])} done", flush=True)
    for name in DAMAGES:
        cells, bounds = [], []
        for row in ROWS:
            detections = results.get((name, row), [])
            share = f"{100 * np.mean([is_found(d) for d in detections]):.1f} %" if detections else "-"
            cells.append(f"{share} of {len(detections)}")
            bounds += [math.log10(max(d.false_alarm, 1e-300)) for d in detections]
        lines.append(f"| {name} | {' | '.join(cells)} | {np.median(bounds):.0f} |")
    faint = ", ".join(f"{row} {sum(hits)} of {len(hits)}" for row, hits in small.items())
    psnr = ", ".join(f"{row} {np.median(v):.1f} (least {min(v):.1f})" for row, v in decibels.items() if v)
    return "\n".join(lines) + (
        f"\n\nThe table counts pictures with {LEAST_PX} changed pixels or more. Found in those with fewer, "
        f"undamaged: {faint}\n\nPSNR in the marked pixels alone, dB, median: {psnr}"
    )


def videos(bundle: object, clips: list[str], seconds: float) -> str:
    lines = [f"| video, H.264 CRF 28 | {' | '.join(ROWS)} |", "|---" + "|--:" * len(ROWS) + "|"]
    hits: dict[str, list[bool]] = {row: [] for row in ROWS}
    for clip in clips:
        if not clip.endswith(".mp4"):
            continue
        cells = []
        for row in ROWS:
            detector, frames = watermark.Detector(), 0
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "marked.mp4"
                with open_sink(path, rate=Fraction(30), crf=28) as sink:
                    for image, *_ in marked(bundle, clip, row, round(30 * seconds), step=1):
                        sink.write(Frame(image, frames, frames / 30))
                        frames += 1
                with open_source(str(path)) as source:
                    for frame in islice(source, 0, None, 3):
                        detector.add(frame.image)
            detection = detector.detect()
            hits[row].append(is_found(detection))
            cells.append(f"{'yes' if hits[row][-1] else 'no'}, {frames} frames, {detection.false_alarm:.0e}")
        lines.append(f"| {Path(clip).name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def unmarked(clips: list[str], count: int) -> str:
    generator = np.random.default_rng(1)
    bounds: list[float] = []
    per_clip = math.ceil(0.9 * count / len(clips))
    for clip in clips:
        with open_source(clip) as source:
            frames = [frame.image for frame in islice(source, 0, 200, 5)]
        for index in range(per_clip):
            image = frames[index % len(frames)]
            image = cropped(image, float(generator.uniform(0.3, 1)), generator)
            if generator.random() < 0.5:
                image = image[:, ::-1].copy()
            side = float(generator.uniform(200, 420))
            bounds.append(watermark.detect(resized(image, side / min(image.shape[:2]))).false_alarm)
        print(f"unmarked: {len(bounds)} done", flush=True)
    while len(bounds) < count:
        noise = generator.integers(0, 256, (260, 320, 3), np.uint8)
        bounds.append(watermark.detect(noise).false_alarm)
    alarms = sum(bound <= watermark.SURE for bound in bounds)
    return (
        f"Unmarked: {alarms} false alarms on {len(bounds)} pictures; "
        f"the smallest stated bound was {min(bounds):.1e}; "
        f"{sum(b <= 0.01 for b in bounds)} were stated as 0.01 or less"
    )


def cost() -> str:
    generator = np.random.default_rng(2)
    frame = generator.integers(0, 256, (720, 1280, 3), np.uint8)
    other = generator.integers(0, 256, frame.shape, np.uint8)
    added = watermark.tile(PAYLOAD.to_bits(), 1.5)
    areas = {
        "whole frame, replaced": (None, (0, 0, 1280, 720)),
        "a face of 360 px": (other, (460, 180, 820, 540)),
    }
    lines = ["| 1280x720 | C++, 2 threads, ms | C++, 1 thread | NumPy |", "|---|--:|--:|--:|"]
    for name, (original, area) in areas.items():
        ways = (
            lambda o=original, a=area: native.add_tile(frame, o, added, a, 2),
            lambda o=original, a=area: native.add_tile(frame, o, added, a, 1),
            lambda o=original, a=area: reference.add_tile(frame, o, added, a, 1),
        )
        times: list[list[float]] = [[] for _ in ways]
        for _ in range(30):
            for series, run in zip(times, ways, strict=True):
                start = time.perf_counter()
                run()
                series.append(1e3 * (time.perf_counter() - start))
        lines.append(f"| {name} | " + " | ".join(f"{np.median(series):.3f}" for series in times) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
