"""Drawn stand-ins for rendered people, in the renderer's own format: for tests without Blender.

    python -m training.fit.people.stub --out DIR --count 64 --size 32

A face is an ellipse with eyes, brows and a mouth, every part moved by its feature; nothing to look at, but learnable.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.render.person import features, sampling

_MESH_NAMES = ("eye_right", "eye_left", "mouth_right", "mouth_left")


def draw(person: features.Person, size: int, toon: bool) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 [size, size, 3] and alpha uint8 [size, size]."""
    big = 256

    def color(name: str) -> tuple[int, int, int]:
        red, green, blue = (int(255 * float(person[f"{name}_{channel}"])) for channel in "rgb")
        return red, green, blue

    alpha = Image.new("L", (big, big), 0)
    image = Image.new("RGB", (big, big), color("background_inner"))
    pen, mask = ImageDraw.Draw(image), ImageDraw.Draw(alpha)
    melanin = float(person["skin_melanin"])
    skin = (int(240 - 170 * melanin), int(205 - 165 * melanin), int(185 - 150 * melanin))
    shift = 60 * float(person["yaw"])
    lift = 60 * float(person["pitch"])
    for one, ink in ((mask, 255), (pen, color("shirt"))):
        one.rectangle((40, 225, 216, 256), fill=ink)
    if person["hair"] != "bald":
        for one, ink in ((mask, 255), (pen, color("hair_color"))):
            one.ellipse((40, 20, 216, 235 if person["hair"] == "long" else 170), fill=ink)
    for one, ink in ((mask, 255), (pen, skin)):
        one.ellipse((60, 50, 196, 240), fill=ink)
    if person["beard"] != "none":
        pen.ellipse((75, 165, 181, 240), fill=color("brow_color"))
    grow = 1.4 if toon else 1.0
    for side, x in (("Right", 96), ("Left", 160)):
        open_ = (1 - float(person[f"eyeBlink{side}"])) * 10 * grow + 1
        x0, y0 = x + shift * 0.3, 120 + lift * 0.2
        pen.ellipse((x0 - 14 * grow, y0 - open_, x0 + 14 * grow, y0 + open_), fill=(245, 245, 245))
        gaze = 20 * float(person["gaze_x"])
        pen.ellipse((x0 + gaze - 6, y0 - min(6, open_), x0 + gaze + 6, y0 + min(6, open_)), fill=color("iris"))
        brow = y0 - 22 - 15 * float(person["browInnerUp"])
        pen.line((x0 - 16, brow, x0 + 16, brow), fill=color("brow_color"), width=5)
        if person["glasses"] != "none":
            pen.ellipse((x0 - 24, y0 - 22, x0 + 24, y0 + 22), outline=color("glasses_color"), width=4)
    smile, jaw = 18 * float(person["mouthSmileLeft"]), 45 * float(person["jawOpen"])
    pen.ellipse(
        (128 + shift * 0.4 - 24 - smile, 178 - 4, 128 + shift * 0.4 + 24 + smile, 182 + 4 + jaw),
        fill=(150, 50, 60),
    )
    picture = image.resize((size, size), Image.Resampling.BOX)
    if toon:
        picture = picture.quantize(24).convert("RGB")
    return np.asarray(picture), np.asarray(alpha.resize((size, size), Image.Resampling.BOX))


def write(
    folder: Path, count: int, size: int, first: int = 0, per_shard: int = 32, looks: Sequence[str] = ("natural", "toon")
) -> None:
    """A data set of `count` drawn people."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "version": features.VERSION, "size": size, "features": features.FEATURES, "groups": features.GROUPS,
        "landmarks": _MESH_NAMES, "people_per_shard": per_shard,
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(description))
    points = np.array([[0.375, 0.47], [0.625, 0.47], [0.4, 0.7], [0.6, 0.7]], np.float32)
    for shard in range(first // per_shard, (first + count + per_shard - 1) // per_shard):
        numbers = range(shard * per_shard, min(first + count, (shard + 1) * per_shard))
        people = [sampling.sample_person(number) for number in numbers]
        unfinished = folder / f".shard-{shard:06d}.zip"
        with zipfile.ZipFile(unfinished, "w") as archive:
            arrays = {
                "index": np.array(numbers, np.int32),
                "features": np.stack([features.encode(person) for person in people]),
                "landmarks": np.repeat(points[None], len(people), 0),
            }
            for name, array in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, array)
                archive.writestr(f"{name}.npy", buffer.getvalue())
            for number, person in zip(numbers, people, strict=True):
                for look in looks:
                    picture, alpha = draw(person, size, look == "toon")
                    for pixels, kind, options in ((picture, "jpg", {"quality": 95}), (alpha, "png", {})):
                        buffer = io.BytesIO()
                        Image.fromarray(pixels).save(buffer, "JPEG" if kind == "jpg" else "PNG", **options)
                        member = f"{look}.jpg" if kind == "jpg" else f"{look}-alpha.png"
                        archive.writestr(f"{number:06d}.{member}", buffer.getvalue())
                archive.writestr(f"{number:06d}.json", json.dumps(person))
        unfinished.rename(folder / f"shard-{shard:06d}.zip")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.fit.people.stub", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--size", type=int, default=32)
    arguments = parser.parse_args()
    write(arguments.out, arguments.count, arguments.size, arguments.first)


if __name__ == "__main__":
    main()
