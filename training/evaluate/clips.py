"""Real clips: does the avatar do what the person does, does it stay the same person, is it calm?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.edit import Editor
from doppelgan.runtime.encode import IdentityLock
from doppelgan.runtime.pictures.convert import to_image
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.track import landmarks_in_crop
from doppelgan.runtime.track.expression import expression
from doppelgan.runtime.types import Face

FOLLOWED = (
    "mouth_open",
    "eye_open_right",
    "eye_open_left",
    "yaw",
    "pitch",
    "roll",
    "smile",
    "brow_right",
    "brow_left",
)
CALM_S = 1.0  # a static passage is the calmest second of a clip


def read_clip(path: Path, most: int) -> Iterator[tuple[np.ndarray, float]]:
    """BGR frames and times; long clips are cut, not thinned (motion must stay as it is)."""
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS) or 30.0
    for i in range(most):
        good, frame = capture.read()
        if not good:
            break
        yield frame, i / rate
    capture.release()


def measure_clip(bundle: Bundle, frames: Iterator[tuple[np.ndarray, float]], style: str = "photo") -> dict[str, Any]:
    """Follow one clip. Correlations need movement: a measure that hardly moves in the clip is left out (None)."""
    pipeline = Pipeline(bundle, style=style, composite="face")
    persons: list[list[float]] = []
    avatars: list[list[float]] = []
    appearances: list[np.ndarray] = []
    raw: list[np.ndarray] = []
    crops: list[np.ndarray] = []
    pictures: list[np.ndarray] = []
    seen = times = 0
    moments: list[float] = []
    for frame, time_s in frames:
        times += 1
        pipeline.process(frame, time_s)
        if not pipeline.people:
            continue
        person = next(iter(pipeline.people.values()))
        if person.face is None or person.picture is None or person.crop is None or person.own_codes is None:
            continue
        seen += 1
        picture = person.picture
        points = landmarks_in_crop(bundle.session("landmarks"), picture)
        scale = bundle.crop_size / picture.shape[-1]
        in_crop = (points[:, :2] + 0.5) * scale - 0.5
        linear = person.crop.matrix
        flat = in_crop @ linear[:, :2].T + linear[:, 2]
        depth = points[:, 2:] * scale * np.sqrt(abs(np.linalg.det(linear[:, :2])))
        avatar = Face(0, np.concatenate([flat, depth], 1).astype(np.float32), 1.0)
        persons.append([asdict(expression(person.face))[name] for name in FOLLOWED])
        avatars.append([asdict(expression(avatar))[name] for name in FOLLOWED])
        if person.lock is not None:
            fresh = IdentityLock(bundle.encoder.appearance_size)
            bundle.encoder(person.crop.pixels, landmarks=person.crop.landmarks[None], lock=fresh)
            appearances.append(person.lock.memory[0])
            raw.append(fresh.memory[0])
        crops.append(person.crop.pixels[0, :, ::4, ::4].copy())
        step = picture.shape[-1] * 4 // bundle.crop_size
        pictures.append(np.clip(picture[:, ::step, ::step], -1, 1).copy())
        moments.append(time_s)
    if seen < 10:
        return {"frames": times, "found": seen}
    a, b = np.array(persons), np.array(avatars)
    moving = a.std(0) > np.array([0.01, 0.006, 0.006, 0.03, 0.03, 0.02, 0.02, 0.01, 0.01])
    follow = {
        name: round(float(np.corrcoef(a[:, k], b[:, k])[0, 1]), 3) if moving[k] else None for k, name in enumerate(FOLLOWED)
    }
    gain = {name: round(float(np.polyfit(a[:, k], b[:, k], 1)[0]), 2) if moving[k] else None for k, name in enumerate(FOLLOWED)}
    between = bundle.latent.get("appearance_std") if appearances else None
    return {
        "frames": times, "found": seen, "correlation": follow, "gain": gain,
        "steadiness": _steadiness(appearances, between), "steadiness_unlocked": _steadiness(raw, between),
        "flicker": _flicker(np.array(crops), np.array(pictures), np.array(moments)),
        "ms": {stage: round(float(t.median_ms), 2) for stage, t in _stages(pipeline).items()},
    }  # fmt: skip


def _steadiness(appearances: list[np.ndarray], between: np.ndarray | None) -> float | None:
    """Spread of an appearance over a clip, relative to the spread between people."""
    if between is None:
        return None
    return round(float(np.sqrt(np.var(appearances, 0).mean() / np.square(between).mean())), 4)


def _stages(pipeline: Pipeline) -> dict[str, Any]:
    return {stage.name: stage for stage in pipeline.clock.report().stages}


def _flicker(crops: np.ndarray, pictures: np.ndarray, moments: np.ndarray) -> float | None:
    """Mean frame-to-frame change of the avatar in the calmest second, relative to the person's crop."""
    if len(crops) < 12:
        return None
    frame_s = float(np.median(np.diff(moments)))
    window = max(5, int(CALM_S / max(frame_s, 1e-3)))
    window = min(window, len(crops) - 1)
    person = np.abs(np.diff(crops, axis=0)).mean((1, 2, 3))
    avatar = np.abs(np.diff(pictures, axis=0)).mean((1, 2, 3))
    sums = np.convolve(person, np.ones(window), "valid")
    start = int(sums.argmin())
    return round(float(avatar[start : start + window].mean() / max(person[start : start + window].mean(), 1e-6)), 3)


def _frames(path: Path, most: int) -> list[tuple[Any, float]]:
    """The frames of a clip, or the one picture; empty if it cannot be read."""
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        return list(read_clip(path, most))
    image = cv2.imread(str(path))
    return [] if image is None else [(image, 0.0)]


def clip_sheet(bundle: Bundle, path: Path, columns: int = 6, most: int = 150) -> np.ndarray | None:
    """BGR: moments of a clip (or one picture); rows person, avatar, toon."""
    still = path.suffix.lower() in (".jpg", ".jpeg", ".png")
    frames = _frames(path, most)
    if not frames:
        return None
    pipeline = Pipeline(bundle, composite="head", smoothing=not still)
    wanted = {0} if still else set(np.linspace(0, len(frames) - 1, columns).astype(int).tolist())
    cells: list[np.ndarray] = []
    for i, (frame, time_s) in enumerate(frames):
        out = pipeline.process(frame, time_s)
        if i not in wanted or not pipeline.people:
            continue
        person = next(iter(pipeline.people.values()))
        if person.crop is None or person.codes is None or person.picture is None:
            continue
        toon = bundle.synthesize(person.codes, "toon")[0]
        height = 192
        whole = cv2.resize(out, (192, height), interpolation=cv2.INTER_AREA)
        pictures = (person.crop.pixels[0], person.picture, toon)
        parts = [cv2.resize(to_image(one), (192, height), interpolation=cv2.INTER_AREA) for one in pictures]
        cells.append(np.concatenate([*parts, whole]))
    return np.concatenate(cells, 1) if cells else None


def edit_sheet(bundle: Bundle, path: Path) -> np.ndarray | None:
    """BGR: one face; every direction at both ends, photo above toon."""
    frames = _frames(path, 1)
    if not frames:
        return None
    pipeline = Pipeline(bundle, smoothing=False)
    pipeline.process(frames[0][0], 0.0)
    if not pipeline.people:
        return None
    person = next(iter(pipeline.people.values()))
    if person.crop is None or person.own_codes is None:
        return None
    codes = person.own_codes

    def column(one: np.ndarray, label: str) -> np.ndarray:
        both = [
            cv2.resize(to_image(bundle.synthesize(one, style)[0]), (128, 128), interpolation=cv2.INTER_AREA)
            for style in ("photo", "toon")
        ]
        cell = np.concatenate(both)
        cv2.putText(cell, label, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (255, 255, 255), 1, cv2.LINE_AA)
        return cell

    start = cv2.resize(to_image(person.crop.pixels[0]), (128, 128), interpolation=cv2.INTER_AREA)
    columns = [np.concatenate([start, np.full_like(start, 24)]), column(codes, "as found")]
    editor = Editor(bundle.directions, bundle.latent_avg)
    for name, direction in bundle.directions.items():
        low, high = direction.range
        columns += [column(editor.apply(codes, {name: s}), f"{name} {s:+g}") for s in (low, high)]
    width = 8
    columns += [np.full_like(columns[0], 24)] * (-len(columns) % width)
    return np.concatenate([np.concatenate(columns[i : i + width], 1) for i in range(0, len(columns), width)])
