"""What is measured of an enrolled bundle, on pictures RGB float32 [3,R,R] in -1..1."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from doppelgan.runtime.align import align
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.edit.editor import Editor
from doppelgan.runtime.face_mesh import FACE_OVAL
from doppelgan.runtime.pictures.convert import to_image
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.types import Floats, Image

from benchmarks.judge.recognizer import Recognizer

from .meaning import Reader, effect, moved

JUDGED = 24  # frames, at most, of a driver
FOLLOWED = 90  # frames of a driver, as in the model card
SPEED_FRAMES = 40
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM (Wang et al. 2003)


@dataclass
class Driven:
    """What a bundle makes of the frames of a driver."""

    real: list[Floats] = field(default_factory=list)
    avatar: list[Floats] = field(default_factory=list)
    hulls: list[Floats] = field(default_factory=list)  # [R,R], 1 inside the face

    def likeness(self) -> tuple[float, float]:
        """PSNR in dB and MS-SSIM within the hulls, means over the frames."""
        rows = list(zip(self.avatar, self.real, self.hulls, strict=True))
        return float(np.mean([psnr(*row) for row in rows])), float(np.mean([ms_ssim(*row) for row in rows]))


def drive(
    bundle: Bundle,
    frames: Sequence[Image],
    *,
    video: bool = True,  # or unrelated pictures
    style: str = "photo",
    against: Sequence[Image] | None = None,  # what is compared with; None: the frames themselves
) -> Driven:
    """Through the live pipeline; of the frames, JUDGED are kept."""
    pipeline, driven = Pipeline(bundle, style=style, composite="replace", smoothing=video), Driven()
    kept = set(np.linspace(0, len(frames) - 1, min(JUDGED, len(frames))).astype(int).tolist())
    for i, frame in enumerate(frames):
        pipeline.process(frame, i / 30)
        if i not in kept or not pipeline.people:
            continue
        person = next(iter(pipeline.people.values()))
        if person.face is None or person.crop is None or person.picture is None:
            continue
        real = person.crop if against is None else align(against[i], person.face, person.crop.size)
        driven.real.append(real.pixels[0].copy())
        driven.avatar.append(at_size(person.picture, person.crop.size))
        driven.hulls.append(hull(person.crop.landmarks, person.crop.size))
    return driven


def at_size(picture: Floats, size: int) -> Floats:
    """Clipped to -1..1, and averaged down to ``size`` where it is larger."""
    side = picture.shape[-1]
    factor = max(1, side // size)
    blocks = picture.reshape(3, side // factor, factor, side // factor, factor)
    return np.clip(blocks.mean((2, 4)), -1, 1)


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
    """dB within the mask."""
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


def edits(
    base: Bundle, me: Bundle, recognizer: Recognizer, reader: Reader
) -> dict[str, tuple[float | None, float | None]]:
    """Of each edit at the person's code: effect relative to the base's, and what it does to the identity.

    Effect: how far it moves what it means (see `meaning`), from its low end to its high one. Pixels would
    not do: a person's mouth is not where the base's is. Identity: distance from the unedited picture to
    that at the upper end, beyond the same distance of the base.
    """
    pivot = me.latent["pivot"][None]
    editor = Editor(base.directions, base.latent_avg)

    def drawn(bundle: Bundle, **strengths: float) -> Floats:
        return np.clip(bundle.synthesize(editor.apply(pivot, strengths))[0], -1, 1)

    people = [recognizer.person([to_image(drawn(bundle))]) for bundle in (base, me)]
    found = {}
    for name, direction in base.directions.items():
        low, high = ([drawn(bundle, **{name: end}) for bundle in (base, me)] for end in direction.range)
        old, new = (moved(name, a, b, base, reader) for a, b in zip(low, high, strict=True))
        away = [
            recognizer.distance([to_image(picture)], person)
            for picture, person in zip(high, people, strict=True)
        ]
        identity = None if away[0] is None or away[1] is None else away[1] - away[0]
        found[name] = effect(name, old, new), identity
    return found


def following(bundle: Bundle, driver: Path) -> dict[str, float]:
    """Of each motion in the clip, the correlation between the driver's face and the avatar's."""
    from training.evaluate.clips import measure_clip, read_clip

    found = measure_clip(bundle, read_clip(driver, FOLLOWED)).get("correlation", {})
    return {name: value for name, value in found.items() if value is not None}


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
