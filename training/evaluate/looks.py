"""How old and how masculine people look, by a judge that takes no part in training.

    python -m training.evaluate.looks PICTURE_OR_FOLDER ... --judge "node benchmarks/judge/looks.cjs DIR"

prints apparent age and probability of male of every picture, as any judge says them that speaks like `benchmarks/judge`.

    python -m training.evaluate.looks --pairs age gender --people 20 --judge "..." [--sheet pairs.png]

renders people twice, with one parameter changed and nothing else, and says how often the judge sees the order
(needs the render environment); with `--trained FOLDER` also how often the judge that was trained on renders sees it as well.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.judge import Judge
from PIL import Image

if TYPE_CHECKING:
    from training.render.scene.portrait import Portraitist

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
ENDS = {"age": (0.46, 0.9), "gender": (0.1, 0.9)}
"""Of the pairs: 18 and 72 years, a woman's face and a man's."""
_STRAIGHT: dict[str, float | str] = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "hand": "none"}
_PLAIN: dict[str, dict[str, float | str]] = {
    "age": {},
    "gender": {"beard": "none", "lipstick": 0.0, "eye_makeup": 0.0, "hair": "forward", "covering": "none"},
}


@dataclass(frozen=True)
class Looks:
    """What a judge says of one picture: apparent age in years, and the probability that the person is male."""

    age: float
    male: float


class LooksJudge(Judge):
    """A program that judges looks; started at the first picture. A context manager."""

    def __enter__(self) -> LooksJudge:
        return self

    def __call__(self, picture: np.ndarray) -> Looks | None:
        """RGB uint8 [h, w, 3] -> its looks, None where the judge finds no face. SystemExit if the judge gives up."""
        answer = self.ask(picture)
        age, male = answer["age"], answer["male"]
        return None if age is None or male is None else Looks(float(age), float(male))


def agreement(low: Sequence[float | None], high: Sequence[float | None]) -> float:
    """Share of pairs whose second is judged above its first; pairs with a face that was not found count against."""
    good = [a is not None and b is not None and b > a for a, b in zip(low, high, strict=True)]
    return float(np.mean(good)) if good else 0.0


def agreement_of_both(low: Sequence[float | None], high: Sequence[float | None], trained: Sequence[tuple[float, float]]) -> float:
    """As `agreement`, of pairs whose order a second judge, too, sees: `trained`, its low and high."""
    told = [b if after > before else None for b, (before, after) in zip(high, trained, strict=True)]
    return agreement(low, told)


def pictures(paths: Sequence[Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and RGB uint8 [h, w, 3] of files, and of the pictures in folders."""
    for path in paths:
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not files:
            raise SystemExit(f"{path}: expected pictures ({', '.join(SUFFIXES)}), found none")
        for file in files:
            with Image.open(file) as opened:
                yield file.name, np.asarray(opened.convert("RGB"))


def trained_judge(folder: Path, name: str) -> Callable[[np.ndarray], float]:
    """RGB uint8 [R, R, 3] -> where a person is between the ends of an attribute, by the regressor in `folder`."""
    from training.evaluate.edits import AttributeReader
    from training.fit.lessons.regressor import load_regressor
    from training.fit.people.features import FeatureCodec

    reader = AttributeReader(load_regressor(folder / "regressor.pt"), FeatureCodec.load(folder / "features.npz"), [name])

    def judge(picture: np.ndarray) -> float:
        return float(reader(picture.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1)[0, 0])

    return judge


def judge_pairs(
    name: str, people: Sequence[int], judge: LooksJudge, sheet: Path | None, trained: Path | None = None
) -> dict[str, float]:
    """Agreement and medians over people rendered at both ends of one parameter; `both`: that of two judges, if there are."""
    from training.render.person.sampling import sample_person

    artist = _artist()
    rows, judged, told = [], [], []
    other = None if trained is None else trained_judge(trained, name)
    for number in people:
        person = {**sample_person(number), **_STRAIGHT, **_PLAIN[name]}
        pair = []
        for end in ENDS[name]:
            portrait = artist.render({**person, name: end})
            assert portrait.natural is not None
            pair.append(portrait.natural.rgb)
        rows.append(np.concatenate(pair, 1))
        judged.append([judge(picture) for picture in pair])
        if other is not None:
            told.append((other(pair[0]), other(pair[1])))
    if sheet is not None:
        Image.fromarray(np.concatenate(rows)).save(sheet.with_name(f"{sheet.stem}-{name}{sheet.suffix}"))
    what = "age" if name == "age" else "male"
    low, high = ([None if looks is None else float(getattr(looks, what)) for looks in end] for end in zip(*judged, strict=True))
    seen = [(a, b) for a, b in zip(low, high, strict=True) if a is not None and b is not None]
    medians = np.median(np.array(seen), 0) if seen else np.full(2, np.nan)
    figures = {"pairs": len(judged), "agree": agreement(low, high), "low": float(medians[0]), "high": float(medians[1])}
    if told:
        figures["both"] = agreement_of_both(low, high, told)
    return figures


@functools.cache
def _artist() -> Portraitist:
    """One for the whole process: a scene is not built twice."""
    from training.render.scene.portrait import Portraitist

    return Portraitist(256, ("natural",))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate.looks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pictures", type=Path, nargs="*", help="pictures, and folders of pictures")
    parser.add_argument("--judge", required=True, help="program that says how old and how masculine a face looks")
    parser.add_argument("--pairs", nargs="+", choices=tuple(ENDS), default=(), help="render and judge pairs instead")
    parser.add_argument("--people", type=int, default=20, help="of the pairs (default: %(default)s)")
    parser.add_argument("--first", type=int, default=500_000, help="number of the first of them")
    parser.add_argument("--sheet", type=Path, help="PNG of the pairs, to look at; the parameter's name is added")
    parser.add_argument("--trained", type=Path, help="folder with regressor.pt and features.npz, e.g. training/state")
    options = parser.parse_args()
    if not options.pictures and not options.pairs:
        parser.error("name pictures or folders, or say --pairs age")
    with LooksJudge(options.judge) as judge:
        for name, picture in pictures(options.pictures):
            looks = judge(picture)
            print(f"{name}  no face" if looks is None else f"{name}  {looks.age:.0f} years  male {looks.male:.2f}", flush=True)
        for name in options.pairs:
            figures = judge_pairs(
                name, range(options.first, options.first + options.people), judge, options.sheet, options.trained
            )
            twice = f" (and the trained one on {figures['both']:.0%})" if "both" in figures else ""
            print(
                f"{name}: the judge agrees on {figures['agree']:.0%} of {figures['pairs']:.0f} pairs{twice}; "
                f"median {figures['low']:.2f} -> {figures['high']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
