"""`python -m training.evaluate --bundle DIR --trained DIR [--data DIR] [--media DIR] --out DIR`: figures, plots, sheets.

--data    renders whose every 20th person was held out: reconstruction, and pictures for the editability curve
--media   a folder with clips and pictures of real people: following, steadiness, flicker; sheets to look at
--trained features.npz, generator-photo.pt and regressor.pt, as `training.fit` leaves them

Writes report.json, one PNG per plot and sheet. What cannot be measured with what was given is left out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from doppelgan.runtime.bundle import Bundle, open_bundle

from training.evaluate.clips import clip_sheet, edit_sheet, measure_clip, read_clip
from training.evaluate.edits import AttributeReader, measure_curve, measure_edits
from training.evaluate.renders import HeldOut, measure_renders, true_codes
from training.fit.directions import sampled_features
from training.fit.lessons.encoder import load_encoder, w_of
from training.fit.lessons.regressor import load_regressor
from training.fit.networks.stylegan2 import load_generator
from training.fit.people.features import FeatureCodec


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--media", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=60, help="held-out people and edited people, at most")
    parser.add_argument("--frames", type=int, default=150, help="of each clip, at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", nargs="*", default=["renders", "edits", "curve", "clips", "sheets"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    bundle = open_bundle(arguments.bundle, threads=arguments.threads)
    report_path = arguments.out / "report.json"
    report: dict[str, Any] = json.loads(report_path.read_text()) if report_path.exists() else {}
    for name, part in _parts(bundle, arguments).items():
        if name not in arguments.parts:
            continue
        began = time.monotonic()
        try:
            figures = part()
        except FileNotFoundError as error:
            print(f"{name}: left out: {error}", flush=True)
            continue
        if figures is not None:
            report[name] = figures
            print(f"{name} ({time.monotonic() - began:.0f} s): {json.dumps(_short(figures))}", flush=True)
        report_path.write_text(json.dumps(report, indent=1))


def _short(figures: Any) -> Any:
    return {k: v for k, v in figures.items() if k != "directions"} if isinstance(figures, dict) else figures


def _parts(bundle: Bundle, arguments: argparse.Namespace) -> dict[str, Any]:
    trained: Path = arguments.trained
    codec = FeatureCodec.load(trained / "features.npz")
    mapping, _ = load_generator(torch.load(trained / "generator-photo.pt", map_location="cpu", weights_only=True)["g_ema"])
    held: list[HeldOut] = []

    def held_out() -> HeldOut:
        if arguments.data is None:
            raise FileNotFoundError("--data is not given")
        if not held:
            held.append(HeldOut(arguments.data, bundle.path / "landmarks.onnx", bundle.image_size, arguments.people, codec.names))
        return held[0]

    def reader() -> AttributeReader:
        names = list(bundle.directions)
        return AttributeReader(load_regressor(trained / "regressor.pt"), codec, names)

    def renders() -> Any:
        return measure_renders(bundle, codec, mapping, held_out())

    def edits() -> Any:
        population = torch.from_numpy(sampled_features(1000, 30_000_000, codec.names))
        codes = true_codes(codec, mapping, population[: min(arguments.people, 40)], bundle.n_styles)
        return measure_edits(bundle, reader(), codes, population)

    def curve() -> Any:
        people = held_out()
        encoder = load_encoder(trained / "encoder.pt")
        n = min(24, len(people))
        with torch.no_grad():
            estimate, offset = encoder(
                torch.from_numpy(np.concatenate(people.crops[:n])),
                torch.from_numpy(np.concatenate(people.landmarks[:n])),
            )
            w = w_of(codec, mapping, estimate)[:, None].expand(-1, bundle.n_styles, -1)
        points = measure_curve(bundle, reader(), w.numpy(), offset.numpy(), torch.cat(people.photo[:n]).numpy())
        _plot_curve(points, arguments.out / "editability.png")
        return points

    def clips() -> Any:
        by_clip = {}
        for path in _media(arguments.media, (".mp4", ".webm", ".mov", ".avi")):
            by_clip[path.name] = measure_clip(bundle, read_clip(path, arguments.frames))
            print(path.name, json.dumps(by_clip[path.name]), flush=True)
        return by_clip

    def sheets() -> Any:
        for path in _media(arguments.media, (".mp4", ".webm", ".mov", ".avi", ".jpg", ".jpeg", ".png")):
            for kind, make in (("follow", clip_sheet), ("edits", edit_sheet)):
                sheet = make(bundle, path)
                if sheet is not None:
                    cv2.imwrite(str(arguments.out / f"{kind}-{path.stem}.png"), sheet)
        return None

    return {"renders": renders, "edits": edits, "curve": curve, "clips": clips, "sheets": sheets}


def _media(folder: Path | None, suffixes: tuple[str, ...]) -> list[Path]:
    if folder is None:
        raise FileNotFoundError("--media is not given")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)


def _plot_curve(points: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    for kind, color in (("plus", "tab:blue"), ("truncation", "tab:orange")):
        chosen = [p for p in points if p["kind"] == kind]
        label = "W to W+ (amount of offset)" if kind == "plus" else "truncation"
        for axis, key in zip(axes, ("effect", "drag"), strict=True):
            axis.plot([p["psnr_db"] for p in chosen], [p[key] for p in chosen], "o-", color=color, label=label)
            for p in chosen:
                axis.annotate(f"{p['amount']:g}", (p["psnr_db"], p[key]), fontsize=7)
    axes[0].set(
        xlabel="reconstruction, PSNR dB",
        ylabel="effect of +1 (share of the attribute's range)",
        title="editability / distortion",
    )
    axes[1].set(
        xlabel="reconstruction, PSNR dB",
        ylabel="change of other attributes / own",
        title="what an edit drags along",
    )
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
