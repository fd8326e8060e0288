"""What the sliders of a bundle do, in figures that a person would agree with.

    python -m training.evaluate.sliders --bundle engines/demo --judge "node benchmarks/judge/looks.cjs DIR" \\
        [--data held/] [--media clips/] [--stills FOLDER] --out report.json

age, gender   apparent age and probability of male at both ends of the dial, by a judge that takes no part in training
              (`training.evaluate.looks`); and at 0, for people of known age
grey          how far grey hair is from grey: a* and b* of what the edit changed, CIELAB
background    the largest median change of a* and b*, and of all three, that any edit makes in the outer frame, where no face is
brows         slope of the avatar's brows on the person's, over clips (--media)
bands         power between 128 and 64 px, and 64 and 32 px, of the generator's pictures over that of the renders of the same
              people (--data, held-out renders, with --everyone all of them): 1 is as sharp, 0 is blur

Ends and people are the bundle's own: codes of held-out people by the mapping network and the features in --state.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from doppelgan.export.networks.reader import generator_state
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.edit import Editor
from PIL import Image

from training.evaluate.looks import LooksJudge
from training.evaluate.renders import true_codes
from training.fit.directions import sampled_features
from training.fit.networks.stylegan2 import load_generator
from training.fit.people.features import FeatureCodec
from training.fit.people.older import in_terms_of
from training.from_bundle import STATE
from training.render.data.dataset import Dataset

PARTS = ("grey", "background", "bands", "age", "gender", "brows")
_FIRST = 30_000_000  # numbers of people whom no training has seen
_FRAME = 0.06  # of the side: what lies there is background, in nearly every picture
_PALE = 12.0  # of L*, a change by which a pixel counts as greyed


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate.sliders", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--state", type=Path, default=STATE, help="features.npz of the bundle's networks")
    parser.add_argument("--judge", help="program that says how old and how masculine a face looks")
    parser.add_argument("--data", type=Path, help="renders of people whom training never saw")
    parser.add_argument("--media", type=Path, help="folder of clips")
    parser.add_argument("--everyone", action="store_true", help="of --data: none of these people was trained on")
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--frames", type=int, default=150, help="of each clip, at most")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some of the figures")
    parser.add_argument("--sheet", type=Path, help="PNG of both ends of age, gender and grey, to look at")
    parser.add_argument("--out", type=Path, help="report to write, JSON")
    options = parser.parse_args()
    report: dict[str, Any] = json.loads(options.out.read_text()) if options.out is not None and options.out.exists() else {}

    def note(name: str, figures: dict[str, Any]) -> None:
        report[name] = figures
        print(f"{name}: {json.dumps(figures)}", flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(report, indent=1))

    codec = FeatureCodec.load(options.state / "features.npz")
    with open_bundle(options.bundle, threads=1) as bundle:
        mapping, _ = load_generator(generator_state(bundle, "photo"))
        features = torch.from_numpy(sampled_features(options.people, _FIRST, codec.names))
        for name, value in (("yaw", 0.0), ("pitch", 0.0), ("roll", 0.0)):
            features[:, codec.column(name)] = value
        codes = true_codes(codec, mapping, features, bundle.n_styles)
        only = options.only
        if "grey" in only:
            note("grey", measure_grey(bundle, codes, hair_of(codec, features)))
        if "background" in only:
            note("background", measure_background(bundle, codes))
        if "bands" in only and options.data is not None:
            note("bands", measure_bands(bundle, codec, mapping, options.data, options.people, options.everyone))
        if options.judge is not None:
            with LooksJudge(options.judge) as judge:
                for name in ("age", "gender"):
                    if name in only:
                        note(name, measure_dial(bundle, codes, name, judge))
        if "brows" in only and options.media is not None:
            note("brows", measure_brows(bundle, options.media, options.frames))
        if options.sheet is not None:
            write_sheet(bundle, codes[:8], options.sheet)


def edited(bundle: Bundle, codes: np.ndarray, name: str, strength: float) -> np.ndarray:
    """RGB uint8 [n, R, R, 3] of codes at one strength of one direction."""
    editor = Editor(bundle.directions, bundle.latent_avg)
    changed = editor.apply(codes, {name: strength}) if strength else codes
    pictures = np.concatenate([bundle.synthesize(np.ascontiguousarray(code[None])) for code in changed])
    return ((np.clip(pictures, -1, 1) + 1) * 127.5 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)


def lab(pictures: np.ndarray) -> np.ndarray:
    """RGB uint8 [n, h, w, 3] -> CIELAB float32 of the same shape."""
    return np.stack([cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for picture in pictures])


def measure_dial(bundle: Bundle, codes: np.ndarray, name: str, judge: LooksJudge) -> dict[str, Any]:
    """Medians of what the judge says at the low end, at 0 and at the high end, and of the way from end to end."""
    low, high = bundle.directions[name].range
    judged = [[judge(picture) for picture in edited(bundle, codes, name, strength)] for strength in (low, 0.0, high)]
    seen = [looks for looks in zip(*judged, strict=True) if all(looks)]
    if not seen:
        return {"people": len(codes), "faces": 0}
    what = "age" if name == "age" else "male"
    values = np.array([[getattr(one, what) for one in looks] for looks in seen])
    figures: dict[str, Any] = {
        "people": len(codes), "faces": len(seen), "low": round(float(np.median(values[:, 0])), 3),
        "none": round(float(np.median(values[:, 1])), 3), "high": round(float(np.median(values[:, 2])), 3),
        "way": round(float(np.median(values[:, 2] - values[:, 0])), 3),
    }  # fmt: skip
    if what == "male":
        figures["changes_side"] = round(float(((values[:, 0] < 0.5) & (values[:, 2] > 0.5)).mean()), 3)
    return figures


def hair_of(codec: FeatureCodec, features: torch.Tensor) -> np.ndarray:
    """Rows of people with hair on their heads that is not grey or pale yet, bool [n]."""
    bald = features[:, [codec.column(f"hair={style}") for style in ("bald", "buzz")]].sum(1) > 0.5
    blue = features[:, codec.column("hair_color_b")]
    return (~bald & (blue < 0)).numpy()


def measure_grey(bundle: Bundle, codes: np.ndarray, with_hair: np.ndarray) -> dict[str, Any]:
    """a* and b* of what became paler at full strength of `grey`, in the upper half: medians over people, and how far from 0."""
    chosen = codes[with_hair]
    if not len(chosen):
        return {"people": 0, "greyed": 0}
    before, after = (lab(edited(bundle, chosen, "grey", s)) for s in (0.0, bundle.directions["grey"].range[1]))
    half = before.shape[1] // 2
    before, after = before[:, :half], after[:, :half]
    hues = []
    for one, other in zip(before, after, strict=True):
        greyed = other[..., 0] - one[..., 0] > _PALE
        if greyed.sum() > 40:
            hues.append(np.median(other[greyed][:, 1:], 0))
    if not hues:
        return {"people": len(chosen), "greyed": 0}
    a, b = np.median(np.array(hues), 0)
    distance = np.median(np.linalg.norm(np.array(hues), axis=1))
    return {
        "people": len(chosen), "greyed": len(hues), "a": round(float(a), 2), "b": round(float(b), 2),
        "from_grey": round(float(distance), 2),
    }  # fmt: skip


def measure_background(bundle: Bundle, codes: np.ndarray) -> dict[str, Any]:
    """By direction at both ends: median over people of the mean change in the upper part of the frame, in CIELAB units."""
    plain = lab(edited(bundle, codes, next(iter(bundle.directions)), 0.0))
    size = plain.shape[1]
    edge = max(1, round(_FRAME * size))
    frame = np.zeros((size, size), bool)
    frame[: size // 3, :edge] = frame[: size // 3, -edge:] = True
    changes: dict[str, float] = {}
    hues: dict[str, float] = {}
    for name, direction in bundle.directions.items():
        worst = worst_hue = 0.0
        for strength in direction.range:
            if strength:
                change = (lab(edited(bundle, codes, name, strength)) - plain)[:, frame].mean(1)
                worst = max(worst, float(np.median(np.linalg.norm(change, axis=1))))
                worst_hue = max(worst_hue, float(np.median(np.abs(change[:, 1:]).max(1))))
        changes[name], hues[name] = round(worst, 2), round(worst_hue, 2)
    return {
        "people": len(codes), "most": max(changes.items(), key=lambda one: one[1]),
        "most_hue": max(hues.items(), key=lambda one: one[1]), "change": changes, "hue": hues,
    }  # fmt: skip


def band_power(picture: np.ndarray, size: int) -> float:
    """Mean square of what a picture [R, R, 3], 0..255, has at `size` px and not at half of that."""
    fine, coarse = (cv2.resize(picture, (s, s), interpolation=cv2.INTER_AREA) for s in (size, size // 2))
    back = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
    return float(np.square(fine - back).mean())


def measure_bands(
    bundle: Bundle, codec: FeatureCodec, mapping: Any, data: Path, most: int, everyone: bool = False
) -> dict[str, Any]:
    """Power of the generator's pictures over that of the renders, held-out people; 1 is as sharp."""
    people = Dataset(data)
    rows = (np.arange(len(people)) if everyone else people.split()[1])[:most]
    told = in_terms_of(codec.names, people.feature_names, torch.from_numpy(people.features[rows]))
    codes = true_codes(codec, mapping, told, bundle.n_styles)
    drawn = edited(bundle, codes, next(iter(bundle.directions)), 0.0).astype(np.float32)
    figures: dict[str, Any] = {"people": len(rows)}
    for size in (128, 64):
        if min(bundle.image_size, people.size) < size:
            continue
        real = np.mean([band_power(people.natural(i).astype(np.float32), size) for i in rows])
        made = np.mean([band_power(picture, size) for picture in drawn])
        figures[f"{size}-{size // 2}"] = round(float(made / real), 3)
    return figures


def measure_brows(bundle: Bundle, media: Path, frames: int) -> dict[str, Any]:
    """Median slope of the avatar's brows on the person's over clips where they move."""
    from training.evaluate.clips import measure_clip, read_clip

    slopes: dict[str, list[float]] = {}
    for path in sorted(media.iterdir()):
        if path.suffix.lower() in (".mp4", ".webm", ".mov", ".avi"):
            gains = measure_clip(bundle, read_clip(path, frames)).get("gain", {})
            slopes[path.name] = [gains[name] for name in ("brow_right", "brow_left") if gains.get(name) is not None]
    every = [slope for clip in slopes.values() for slope in clip]
    return {"clips": slopes, "median": round(float(np.median(every)), 2) if every else None}


def write_sheet(bundle: Bundle, codes: np.ndarray, path: Path) -> None:
    """A row for each person: age, gender and grey at their ends, the person in the middle."""
    ends = [("age", bundle.directions["age"].range), ("gender", bundle.directions["gender"].range)]
    columns = [edited(bundle, codes, name, s) for name, (low, high) in ends for s in (low, 0.0, high)]
    columns.append(edited(bundle, codes, "grey", bundle.directions["grey"].range[1]))
    Image.fromarray(np.concatenate([np.concatenate(list(column), 0) for column in columns], 1)).save(path)


if __name__ == "__main__":
    main()
