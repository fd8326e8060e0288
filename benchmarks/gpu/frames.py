"""Whole frames: camera picture in, edited picture out, with the networks on the GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from doppelgan.runtime import Pipeline, open_bundle

from .card import Card
from .measuring import timed
from .turns import Notes

SIZES = ((1280, 720), (1920, 1080))
# The face of the demo's own people, drawn into a gray frame: square of this share of the height.
SHARE = 0.6


def run(notes: Notes, rehearse: bool) -> None:
    card = Card()
    ways = ["onnxruntime", "native"] if rehearse else ["cuda", "onnxruntime", "native"]
    frames = {size: demo_frames(size) for size in (SIZES[:1] if rehearse else SIZES)}
    opened: list[tuple[str, Any]] = []
    for backend in ways:
        bundle = notes.attempt(f"open {backend}", _opening(backend))
        if bundle is not None:
            for name in bundle.manifest.networks:
                bundle.session(name)
            opened.append((backend, bundle))
            computes = {name: bundle.session(name).backend for name in bundle.manifest.networks}
            notes.add("bundle", backend=backend, computes=computes)
    notes.wait_for_turn()
    for size, pictures in frames.items():
        for backend, bundle in opened:
            for composite in ("face", "difference"):
                work = _timing(notes, backend, bundle, composite, size, pictures, card, rehearse)
                notes.attempt(f"frames {backend} {composite}", work)


def _opening(backend: str) -> Callable[[], Any]:
    return lambda: open_bundle("demo", backend=backend, threads=None if backend == "cuda" else os.cpu_count())


def _timing(
    notes: Notes,
    backend: str,
    bundle: Any,
    composite: str,
    size: tuple[int, int],
    pictures: list[np.ndarray],
    card: Card,
    rehearse: bool,
) -> Callable[[], None]:
    def work() -> None:
        pipeline = Pipeline(bundle, {"smile": 0.5}, composite=composite)
        turn = 0

        def frame() -> None:
            nonlocal turn
            pipeline.process(pictures[turn % len(pictures)], turn / 30)
            turn += 1

        brief: dict[str, Any] = {"seconds": 0.3, "least": 3} if rehearse else {"seconds": 1.0, "least": 100}
        row = timed(frame, card, **brief)
        stages = {report.name: round(report.median_ms, 3) for report in pipeline.clock.report().stages}
        notes.add(
            "frame", backend=backend, composite=composite, bundle="demo", width=size[0], height=size[1],
            faces=len(pipeline.people), stages=stages, **row,
        )  # fmt: skip

    return work


def demo_frames(size: tuple[int, int]) -> list[np.ndarray]:
    """A person of the bundle's own, nodding a little; BGR uint8."""
    from doppelgan.runtime.measure.network_inputs import sample_codes
    from PIL import Image

    with open_bundle("demo", compiled=False) as bundle:
        face = bundle.synthesize(sample_codes(bundle, 1, seed=5)[:1])[0]
    picture = (np.clip(face.transpose(1, 2, 0) * 127.5 + 127.5, 0, 255)).astype(np.uint8)
    side = int(SHARE * size[1])
    large = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))[..., ::-1]
    frames = []
    for step in range(8):
        frame = np.full((size[1], size[0], 3), 90, np.uint8)
        x, y = (size[0] - side) // 2 + step, (size[1] - side) // 2 + step // 2
        frame[y : y + side, x : x + side] = large
        frames.append(frame)
    return frames
