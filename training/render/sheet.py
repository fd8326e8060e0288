"""Contact sheets: natural and toon side by side, of many people or of one person with features varied."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from training.render.person.features import PARAMETERS, Angle, Choice, Person, Scalar
from training.render.person.sampling import sample_person
from training.render.scene.portrait import Portrait, Portraitist


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.render.sheet", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="first person number")
    parser.add_argument("--columns", type=int, default=6, help="pairs per row")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--thumb", type=int, default=0, help="pixels per picture in the sheet, default the rendered size")
    parser.add_argument("--only", choices=["natural", "toon"])
    parser.add_argument("--vary", default="", help="comma-separated parameters that go from low to high over each row")
    parser.add_argument("--set", default="", help="fixed parameters, name=value,...")
    options = parser.parse_args()

    looks = (options.only,) if options.only else ("natural", "toon")
    artist = Portraitist(options.size, looks)
    artist.portrait(options.first)
    pictures = []
    started = time.perf_counter()
    cpu_started = time.process_time()
    for k in range(options.count):
        portrait = _portrait(artist, options, k)
        if portrait is None:
            continue
        pictures += [p.rgb for p in (portrait.natural, portrait.toon) if p is not None]
        if portrait.rejected:
            print(f"person {portrait.number}: rejected {portrait.rejected}")
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    print(f"{wall / options.count:.2f} s per person, {cpu / options.count:.2f} core-seconds")
    _save(options.out, pictures, options.columns * len(looks), options.thumb or options.size)


def _portrait(artist: Portraitist, options: argparse.Namespace, k: int) -> Portrait | None:
    fixed = dict(item.split("=") for item in options.set.split(",") if item)
    if not options.vary:
        if not fixed:
            return artist.portrait(options.first + k)
        return artist.render(_with(sample_person(options.first + k), fixed), options.first + k)
    person = _with(sample_person(options.first + k // options.columns), fixed)
    for name in options.vary.split(","):
        person[name] = _level(name, k % options.columns, options.columns)
    return artist.render(person)


def _with(person: Person, fixed: dict[str, str]) -> Person:
    for name, value in fixed.items():
        person[name] = value if isinstance(_parameter(name), Choice) else float(value)
    return person


def _parameter(name: str) -> Scalar | Angle | Choice:
    return next(parameter for parameter in PARAMETERS if parameter.name == name)


def _level(name: str, step: int, steps: int) -> float | str:
    parameter = _parameter(name)
    if isinstance(parameter, Choice):
        return parameter.options[step % len(parameter.options)]
    low, high = (parameter.low, parameter.high) if isinstance(parameter, Scalar) else (-1.15, 1.15)
    return low + (high - low) * step / max(1, steps - 1)


def _save(path: Path, pictures: list[np.ndarray], columns: int, thumb: int) -> None:
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * thumb, rows * thumb))
    for k, rgb in enumerate(pictures):
        picture = Image.fromarray(rgb).resize((thumb, thumb), Image.Resampling.LANCZOS)
        sheet.paste(picture, (k % columns * thumb, k // columns * thumb))
    sheet.save(path)


if __name__ == "__main__":
    main()
