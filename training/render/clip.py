"""A moving performance of one person, head and shoulders in a video frame: turning, talking, smiling, blinking."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from training.render.person.features import EXPRESSION_UNITS, Person
from training.render.person.placing import CAMERA_DISTANCE
from training.render.person.sampling import sample_person
from training.render.scene.camera import View
from training.render.scene.picture import develop_natural, develop_toon
from training.render.scene.studio import Studio

_FRAME_HEIGHT = 3.45
"""Visible height at the head, in decimetres."""
_FRAME_MIDDLE = 7.2
_BLINKS = (0.13, 0.42, 0.71, 0.74)
_BLINK_HALF_WIDTH = 0.022
_SAMPLES = 12


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.render.clip", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="person number")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--size", default="1280x720", help="WIDTHxHEIGHT")
    parser.add_argument("--out", type=Path, required=True, help="folder for frame-NNNN.png")
    parser.add_argument("--look", choices=["natural", "toon"], default="natural")
    parser.add_argument("--samples", type=int, default=_SAMPLES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", default="0/1", help="K/N renders every N-th frame from the K-th: run N of them side by side")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    part, parts = map(int, options.part.split("/"))
    options.out.mkdir(parents=True, exist_ok=True)

    studio, view, star = Studio(options.threads), frame_view(width / height), cast(options.seed)
    toon = options.look == "toon"
    for frame in range(part, options.frames, parts):
        path = options.out / f"frame-{frame:04d}.png"
        if path.exists():
            continue
        person = perform(star, frame / options.frames)
        studio.load(person, toon)
        passes = studio.shoot(view, width, height, options.samples)
        picture = develop_toon(passes, person, width, height) if toon else develop_natural(passes, person, view.width_dm)
        Image.fromarray(picture.rgb).save(path)


def cast(number: int) -> Person:
    """The person with a calm face and even light."""
    person = sample_person(number)
    return {**person, "light_contrast": 0.4, "exposure": 0.2, "light_azimuth": 0.5, "light_elevation": 0.5}


def frame_view(aspect: float) -> View:
    """A steady camera on head and shoulders."""
    half = _FRAME_HEIGHT * aspect / 2 / (CAMERA_DISTANCE - 0.6)
    return View(np.array([0, _FRAME_MIDDLE, CAMERA_DISTANCE + 0.6]), np.zeros(2), half, aspect=aspect)


def perform(person: Person, time: float) -> Person:
    """The person at `time` 0..1; the performance ends as it begins."""
    turn = 2 * np.pi * time

    def wave(cycles: int, phase: float = 0.0) -> float:
        return float(np.sin(cycles * turn + phase))

    def bump(center: float, half_width: float) -> float:
        away = abs((time - center + 0.5) % 1 - 0.5) / half_width
        return float(np.cos(np.pi / 2 * away) ** 2) if away < 1 else 0.0

    yaw = 0.34 * wave(1) + 0.07 * wave(3, 0.7)
    pitch = 0.09 * wave(2, 1.0) + 0.04 * wave(5)
    talking = bump(0.3, 0.24)
    syllables = max(0.0, 0.5 + 0.35 * wave(11) + 0.3 * wave(7, 1.3))
    smile = 0.22 + 0.6 * bump(0.72, 0.24)
    laugh = bump(0.72, 0.14)
    blink = max(bump(center, _BLINK_HALF_WIDTH) for center in _BLINKS)
    motion = dict.fromkeys(EXPRESSION_UNITS, 0.0)
    motion |= {
        "yaw": yaw, "pitch": pitch, "roll": 0.09 * wave(1, 0.9) + 0.02 * wave(4),
        "gaze_x": float(np.clip(-0.85 * yaw, -0.4, 0.4)), "gaze_y": float(np.clip(-0.85 * pitch, -0.3, 0.3)),
        "jawOpen": 0.42 * talking * syllables + 0.22 * laugh,
        "mouthFunnel": 0.35 * talking * max(0.0, wave(5, 0.5)), "mouthPucker": 0.25 * talking * max(0.0, wave(4, 2.0)),
        "browInnerUp": 0.3 * talking * max(0.0, wave(3)) + 0.15 * laugh,
    }  # fmt: skip
    for side, lean in (("Left", 1.0), ("Right", 0.94)):
        motion |= {
            f"mouthSmile{side}": smile * lean, f"mouthUpperUp{side}": 0.35 * laugh,
            f"mouthLowerDown{side}": 0.25 * talking * syllables,
            f"cheekSquint{side}": 0.5 * laugh, f"eyeBlink{side}": blink, f"browOuterUp{side}": 0.35 * talking * max(0.0, wave(3)),
        }  # fmt: skip
    return {**person, **motion}


if __name__ == "__main__":
    main()
