"""Edits on people's own pixels (`--composite difference`) beside the pasted head: sheets and figures.

    python -m benchmarks.difference sheets FILES... --output DIR
    python -m benchmarks.difference figures FILES... [--judge COMMAND] [--output page.md]
    python -m benchmarks.difference movement FILES... [--output page.md]
    python -m benchmarks.difference picture engines/demo/clip.mp4 --output docs/difference.jpg

FILES are pictures and clips with a face each. `sheets` writes one picture for each: every edit at both ends,
pasted as a head and as a difference; `picture` writes one for the docs. `figures` are, beside whether a frame
without edits leaves as it came:

identity   a recognizer's distance between the frame and the edited frame, median over the files. --judge is
           its command, `node benchmarks/judge/recognize.cjs DIR`; without one this figure is left out
elsewhere  share of the aligned square's pixels outside the edit's region (REGIONS, drawn by hand on the face
           mesh) that stay within 2 levels
detail     power above 1/8 of the sampling rate in the edited face over the frame's
occluders  share of a pasted hand, mug or microphone that stays within 2 levels, a fifth of a second after it
           came before an edited face; and of that part of it that the edit would have covered
flicker    root mean square of the change from frame to frame of the edited pixels over the camera's, in each
           clip's stillest second. What is added to a face has contrast of its own, so that it changes pixels
           wherever the face moves: beside each stands what the first frame's edit reaches when it is glued
           to the skin, carried along by the optical flow of the camera's frames

`movement` compares two ways to know how an edit moves a face: its direction's linear map, and the landmark
network's look at both pictures of every frame.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from doppelgan.runtime import Pipeline
from doppelgan.runtime.align import align
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.bundle.effects import _explained
from doppelgan.runtime.composite import masks
from doppelgan.runtime.edit import Editor
from doppelgan.runtime.face_mesh import FACE_OVAL, LEFT_EYE, LIPS, RIGHT_EYE
from doppelgan.runtime.pictures.convert import to_image
from doppelgan.runtime.pictures.sheet import grid
from doppelgan.runtime.pipeline import Person
from doppelgan.runtime.source import open_source
from doppelgan.runtime.track.tracker import landmarks_in_crop
from doppelgan.runtime.types import Face, Image
from numpy.typing import NDArray

from .common import header, publish
from .judge.recognizer import Recognizer
from .occluders import OCCLUDERS, paste

WARM_UP = 25  # frames of a clip before the one that is looked at
LOOKS = (30, 120)  # frames of a clip that are looked at
STILL_FRAMES = 30
EDITS = {"smile": 1.0, "hair_color": 1.0, "grey": 1.0, "glasses": 1.0, "beard": 1.0}
CELL_PX = 150
SHOWN: list[dict[str, float]] = [
    {"glasses": 1},
    {"beard": 1},
    {"hair_color": 1},
    {"smile": 1},
    {"yaw": 0.4, "grey": 1},
]
SHOWN_PX = 200
TOLERANCE = 2  # levels
MOUTH, CHEEK = 13, 280  # points of the mesh

_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_TEMPLES = (127, 34, 356, 264, 234, 454, 6, 197)
_LOWER = (
    93,
    132,
    58,
    172,
    136,
    150,
    149,
    176,
    148,
    152,
    377,
    400,
    378,
    379,
    365,
    397,
    288,
    361,
    323,
    2,
    98,
    327,
)
# What an edit concerns: hulls of points of the mesh, each enlarged by a factor.
REGIONS: dict[str, Sequence[tuple[Sequence[int], float]]] = {
    "glasses": [([*LEFT_EYE, *RIGHT_EYE, *_BROWS, *_TEMPLES], 1.2)],
    "beard": [([*_LOWER, *LIPS], 1.3)],
    "smile": [(FACE_OVAL, 1.15)],
    "eye_open": [(LEFT_EYE, 2.5), (RIGHT_EYE, 2.5)],
    "brow": [([*_BROWS, *LEFT_EYE, *RIGHT_EYE, 10], 1.3)],
}


@dataclass
class View:
    """One frame of a file, ready to be edited with all that the frames before it have taught."""

    name: str
    frames: list[Image]  # the last one is looked at
    edited_before: bool = False  # the frames before it are edited as well, so that the edit has a memory
    _pipeline: Pipeline | None = field(default=None, init=False, repr=False)

    @property
    def frame(self) -> Image:
        return self.frames[-1]

    @property
    def still(self) -> bool:
        return len(self.frames) == 1

    def run(
        self, bundle: Bundle, edits: Mapping[str, float], composite: str = "difference"
    ) -> tuple[Image, Person]:
        """The edited last frame and the person in it. Raises LookupError without one.

        The frames before it are run once, as a rule unedited: edits and mode take effect at once.
        """
        if self._pipeline is None:
            before = edits if self.edited_before else {}
            self._pipeline = Pipeline(bundle, before, composite=composite, smoothing=not self.still)
            for frame in self.frames[:-1]:
                self._pipeline.process(frame)
        self._pipeline.edits, self._pipeline.composite = edits, composite
        out = self._pipeline.process(self.frame)
        for person in self._pipeline.people.values():
            return out, person
        raise LookupError(f"{self.name}: expected a face, found none")


def views(files: Sequence[Path], bundle: Bundle) -> list[View]:
    """Those with a face."""
    found = []
    for path in files:
        for view in _frames(path):
            try:
                view.run(bundle, {})
            except LookupError:
                print(f"{view.name}: no face, left out", flush=True)
            else:
                found.append(view)
    return found


def _frames(path: Path) -> Iterator[View]:
    with open_source(str(path)) as source:
        frames: list[Image] = []
        for number, frame in enumerate(source):
            frames.append(frame.image)
            if number in LOOKS:
                yield View(f"{path.stem}@{number}", frames[-WARM_UP:])
            if number == max(LOOKS):
                return
    if len(frames) == 1:
        yield View(path.stem, frames)


def face_of(person: Person) -> Face:
    assert person.face is not None
    return person.face


def square(image: Image, person: Person, size: int = CELL_PX) -> Image:
    return to_image(align(image, face_of(person), size).pixels[0])


def sheets(bundle: Bundle, found: Sequence[View], folder: Path) -> None:
    """One picture for each view: every edit at both ends, as a head and as a difference."""
    folder.mkdir(parents=True, exist_ok=True)
    for view in found:
        _, person = view.run(bundle, {})
        rows = [[(view.name, square(view.frame, person))]]
        for name, direction in bundle.directions.items():
            row = []
            for strength in direction.shown:
                for composite in ("head", "difference"):
                    image, _ = view.run(bundle, {name: strength}, composite)
                    row.append((f"{name} {strength:+g} {composite}", square(image, person)))
            rows.append(row)
        halves = [row for pair in zip(rows[1::2], rows[2::2], strict=False) for row in [pair[0] + pair[1]]]
        if len(rows) % 2 == 0:
            halves.append(rows[-1])
        path = folder / f"{view.name}.png"
        cv2.imwrite(str(path), grid([rows[0], *halves], CELL_PX))
        print(path, flush=True)


def picture(bundle: Bundle, found: Sequence[View], path: Path) -> None:
    """The docs' picture of the first view: what SHOWN makes of it, as a difference and pasted."""
    view = found[0]
    _, person = view.run(bundle, {})
    rows = []
    for composite in ("difference", "head"):
        row = [("camera", square(view.frame, person, SHOWN_PX))]
        for edits in SHOWN:
            image, _ = view.run(bundle, edits, composite)
            label = ", ".join(f"{name} {strength:+g}" for name, strength in edits.items())
            row.append((f"{composite}: {label}", square(image, person, SHOWN_PX)))
        rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), grid(rows, SHOWN_PX), [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(path, flush=True)


def unchanged(bundle: Bundle, found: Sequence[View]) -> float:
    """Share of frames that leave byte for byte without an edit."""
    return float(np.mean([np.array_equal(view.run(bundle, {})[0], view.frame) for view in found]))


def identity(bundle: Bundle, found: Sequence[View], recognizer: Recognizer) -> list[str]:
    known = [(view, recognizer.describe(view.frame)) for view in found]
    lines = ["| edit | head | difference | worst | not found |", "|---|--:|--:|--:|--:|"]
    for name, strength in EDITS.items():
        apart: dict[str, list[float]] = {"head": [], "difference": []}
        missed = 0
        for view, before in known:
            for composite, distances in apart.items():
                after = recognizer.describe(view.run(bundle, {name: strength}, composite)[0])
                if before is None or after is None:
                    missed += composite == "difference"
                else:
                    distances.append(float(np.linalg.norm(after - before)))
        head, ours = apart.values()
        cells = f"{np.median(head):.2f} | {np.median(ours):.3f} | {max(ours):.2f} | {missed}"
        lines.append(f"| {name} {strength:+g} | {cells} |")
        print(lines[-1], flush=True)
    return lines


def region(name: str, person: Person, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape[:2], np.uint8)
    points = face_of(person).landmarks[:, :2]
    for part, larger in REGIONS[name]:
        hull = cv2.convexHull(points[list(part)])[:, 0]
        middle = hull.mean(axis=0)
        cv2.fillConvexPoly(mask, np.round(middle + (hull - middle) * larger).astype(np.int32), 1)
    return mask > 0


def _square_mask(person: Person, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    assert person.crop is not None
    side = person.crop.size - 0.5
    corners = np.array([(-0.5, -0.5), (side, -0.5), (side, side), (-0.5, side)])
    corners = corners @ person.crop.matrix[:, :2].T + person.crop.matrix[:, 2]
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), 1)
    return mask > 0


def elsewhere(bundle: Bundle, found: Sequence[View]) -> list[str]:
    lines = ["| edit | frames | within 2 levels outside its region, median | least |", "|---|--:|--:|--:|"]
    for name in REGIONS:
        if name not in bundle.directions:
            continue
        shares = []
        for view in found:
            for strength in bundle.directions[name].range:
                image, person = view.run(bundle, {name: strength})
                outside = _square_mask(person, image.shape) & ~region(name, person, image.shape)
                apart = np.abs(image.astype(int) - view.frame).max(axis=2)
                shares.append(float((apart[outside] <= TOLERANCE).mean()))
        lines.append(f"| {name} | {len(shares)} | {np.median(shares):.1%} | {min(shares):.1%} |")
        print(lines[-1], flush=True)
    return lines


def _fine_power(image: Image, person: Person) -> float:
    """Power above 1/8 of the sampling rate of the face's luma."""
    x0, y0, x1, y1 = np.round(face_of(person).box).astype(int)
    luma = image[max(y0, 0) : y1, max(x0, 0) : x1].astype(np.float64) @ (0.114, 0.587, 0.299)
    luma -= luma.mean()
    luma *= np.outer(np.hanning(luma.shape[0]), np.hanning(luma.shape[1]))
    power = np.abs(np.fft.fft2(luma)) ** 2
    frequency = np.hypot(np.fft.fftfreq(luma.shape[0])[:, None], np.fft.fftfreq(luma.shape[1]))
    return float(power[frequency > 1 / 8].sum())


def detail(bundle: Bundle, found: Sequence[View]) -> list[str]:
    lines = ["| edit | head | difference | least |", "|---|--:|--:|--:|"]
    for name, strength in EDITS.items():
        ratios: dict[str, list[float]] = {"head": [], "difference": []}
        for view in found:
            for composite, values in ratios.items():
                image, person = view.run(bundle, {name: strength}, composite)
                values.append(_fine_power(image, person) / _fine_power(view.frame, person))
        head, ours = ratios.values()
        lines.append(
            f"| {name} {strength:+g} | {np.median(head):.2f} | {np.median(ours):.2f} | {min(ours):.2f} |"
        )
        print(lines[-1], flush=True)
    return lines


def occluders(bundle: Bundle, found: Sequence[View], folder: Path | None) -> list[str]:
    """Pasted over stills and over the last frames of clips, before mouth and cheek."""
    rng = np.random.default_rng(1)
    counts: dict[str, list[tuple[float, float]]] = {}
    cells: list[list[tuple[str, Image]]] = []
    for view in found:
        _, person = view.run(bundle, {})
        mesh = face_of(person).landmarks[:, :2].astype(np.float64)
        height = float(np.ptp(mesh[:, 1]))
        x, y = np.round(mesh[50]).astype(int)
        cheek = view.frame[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3).mean(axis=0)
        for kind, (draw, larger, below) in OCCLUDERS.items():
            for spot in (MOUTH, CHEEK):
                color = cheek * rng.uniform(0.8, 1.15) * rng.uniform(0.93, 1.07, 3)
                drawing = draw(color if kind == "hand" else rng.uniform(60, 240, 3), rng)
                middle = mesh[spot] + (0, below * height)
                last, opaque = paste(view.frame, drawing, middle, larger * height)
                frames = [
                    *view.frames[:-6],
                    *(paste(f, drawing, middle, larger * height)[0] for f in view.frames[-6:]),
                ]
                for name in ("beard", "glasses", "smile"):
                    covered = View(view.name, [last] if view.still else frames, edited_before=True)
                    try:
                        image, there = covered.run(bundle, {name: 1.0})
                        there.difference.reset()
                        with mock.patch.object(masks, "FOREIGN", (1e6, 1e6)):  # nothing stands before a face
                            reach, _ = covered.run(bundle, {name: 1.0})
                    except LookupError:
                        continue
                    apart, could = (np.abs(i.astype(int) - last).max(axis=2) for i in (image, reach))
                    at_stake = opaque & (could > TOLERANCE)
                    stay = float((apart[opaque] <= TOLERANCE).mean())
                    strict = float((apart[at_stake] <= TOLERANCE).mean()) if at_stake.sum() > 50 else np.nan
                    where = "pictures" if view.still else "videos"
                    spot_name = "mouth" if spot == MOUTH else "cheek"
                    for row in (kind, f"before the {spot_name}, {where}", f"{name}, {where}", "all"):
                        counts.setdefault(row, []).append((stay, strict))
                    if name == "beard" and folder is not None:
                        label = f"{stay:.0%} {strict:.0%}"
                        cells.append([("", square(last, person)), (label, square(image, person))])
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        rows = [list(itertools.chain(*cells[i : i + 5])) for i in range(0, len(cells), 5)]
        cv2.imwrite(str(folder / "occluders.png"), grid(rows, CELL_PX))
    lines = [
        "| occluder | pasted | left untouched | least | of what the edit would cover |",
        "|---|--:|--:|--:|--:|",
    ]
    for kind, pairs in counts.items():
        stay, strict = np.array(pairs).T
        lines.append(
            f"| {kind} | {len(pairs)} | {stay.mean():.1%} | {stay.min():.1%} | {np.nanmean(strict):.1%} |"
        )
        print(lines[-1], flush=True)
    return lines


def flicker(bundle: Bundle, files: Sequence[Path]) -> list[str]:
    lines = ["| clip | frames | " + " | ".join(EDITS) + " |", "|---|---|" + "--:|" * len(EDITS)]
    for path in files:
        with open_source(str(path)) as source:
            frames = [frame.image for _, frame in zip(range(240), source, strict=False)]
        if len(frames) < WARM_UP + STILL_FRAMES + 1:
            continue
        small = [cv2.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for frame in frames]
        moves = [float(np.abs(b.astype(int) - a).mean()) for a, b in itertools.pairwise(small)]
        starts = range(WARM_UP, len(frames) - STILL_FRAMES)
        start = min(starts, key=lambda k: sum(moves[k : k + STILL_FRAMES - 1]))
        given = np.stack(frames[start : start + STILL_FRAMES]).astype(np.float32)
        places = _carried(frames[start : start + STILL_FRAMES])
        ratios = []
        for name, strength in EDITS.items():
            pipeline = Pipeline(bundle, {name: strength})
            out = [pipeline.process(frame) for frame in frames[start - WARM_UP : start + STILL_FRAMES]][
                WARM_UP:
            ]
            made = np.stack(out).astype(np.float32)
            edited = np.abs(made - given).max(axis=3).mean(axis=0) > TOLERANCE
            first = made[0] - given[0]
            glued = np.stack(
                [
                    np.clip(frame + cv2.remap(first, place[..., 0], place[..., 1], cv2.INTER_LINEAR), 0, 255)
                    for frame, place in zip(given, places, strict=True)
                ]
            )
            camera, ours, best = (
                float((np.diff(series, axis=0)[:, edited] ** 2).mean()) ** 0.5
                for series in (given, made, glued)
            )
            ratios.append(f"{ours / camera:.3f} ({best / camera:.3f})")
        lines.append(f"| {path.stem} | {start}..{start + STILL_FRAMES} | " + " | ".join(ratios) + " |")
        print(lines[-1], flush=True)
    return lines


def _carried(frames: Sequence[Image]) -> list[NDArray[np.float32]]:
    """Per frame [H,W,2] px: where in the first one each pixel was, by optical flow."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]
    height, width = grey[0].shape
    here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).astype(np.float32)
    start = np.zeros_like(here)
    return [here, *(here + np.asarray(flow.calc(other, grey[0], start.copy())) for other in grey[1:])]


def movement(bundle: Bundle, found: Sequence[View]) -> list[str]:
    """How much of an edit's change inside the face is gone once the plain picture has moved."""
    editor, landmarks = Editor(bundle.directions, bundle.latent_avg), bundle.session("landmarks")
    lines = ["| direction | moves things | linear map | two looks |", "|---|---|--:|--:|"]
    for name, direction in bundle.directions.items():
        linear, looks = [], []
        for view in found:
            _, person = view.run(bundle, {})
            assert person.own_codes is not None
            for strength in direction.range:
                step = float(direction.move(person.own_codes, strength)[0])
                if abs(step) < 0.1:
                    continue
                codes = np.concatenate([person.own_codes, editor.apply(person.own_codes, {name: strength})])
                plain, edited = np.clip(bundle.synthesize(codes), -1, 1)
                size = plain.shape[-1]
                before, after = (
                    landmarks_in_crop(landmarks, p)[:, :2].astype(np.float64) for p in (plain, edited)
                )
                shift = bundle.effect(name).shift.astype(np.float64) * size
                linear.append(_explained(shift, [(step, plain, edited, before, after)], size))
                looks.append(_explained(after - before, [(1.0, plain, edited, before, after)], size))
        moves = "yes" if bundle.effect(name).moves else "no"
        lines.append(f"| {name} | {moves} | {np.median(linear):.0%} | {np.median(looks):.0%} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("sheets", "figures", "movement", "picture"))
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--threads", type=int, help="per network")
    parser.add_argument("--judge", help="program that tells people apart")
    parser.add_argument(
        "--only", nargs="+", help="some of the figures: identity elsewhere detail occluders flicker"
    )
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for a sheet of the occluders")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle, threads=options.threads)
    found = views(options.files, bundle)
    if options.what == "sheets":
        sheets(bundle, found, options.output or Path("out/difference"))
        return
    if options.what == "picture":
        picture(bundle, found, options.output or Path("docs/difference.jpg"))
        return
    command = f"python -m benchmarks.difference {options.what} FILES --bundle {options.bundle}"
    lines = [f"{len(found)} frames of {len(options.files)} files.", ""]
    if options.what == "movement":
        lines += movement(bundle, found)
    else:
        wanted = options.only or ["unchanged", "identity", "elsewhere", "detail", "occluders", "flicker"]
        if "unchanged" in wanted:
            lines += [f"Without edits {unchanged(bundle, found):.0%} of the frames leave byte for byte.", ""]
        if "identity" in wanted and options.judge is not None:
            with Recognizer(options.judge) as recognizer:
                lines += ["## Recognizer's distance", "", *identity(bundle, found, recognizer), ""]
        if "elsewhere" in wanted:
            lines += ["## Elsewhere", "", *elsewhere(bundle, found), ""]
        if "detail" in wanted:
            lines += ["## Detail", "", *detail(bundle, found), ""]
        if "occluders" in wanted:
            lines += ["## Occluders", "", *occluders(bundle, found, options.pictures), ""]
        if "flicker" in wanted:
            lines += ["## Flicker", "", *flicker(bundle, options.files), ""]
    publish("\n".join([header("Edits on people's own pixels", command), *lines]), options.output)


if __name__ == "__main__":
    main()
