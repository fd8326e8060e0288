"""Frames with several small faces, and other ways through the pipeline to compare on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count as numbers
from typing import Any

import cv2
import numpy as np
from doppelgan.runtime.align import align
from doppelgan.runtime.backends import Session
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.edit import truncate
from doppelgan.runtime.errors import ParityError, SourceError
from doppelgan.runtime.measure.bench import FRAME_SIZE, own_clip, read_frames
from doppelgan.runtime.pipeline import FRAME_S, Pipeline
from doppelgan.runtime.synthesize import Synthesizer
from doppelgan.runtime.types import Floats, Image

MARGIN = 1.3  # tile over the aligned square
SETTLED = 6  # frames until a new face is tracked calmly
LEVELS = 2  # of 255, that two ways to the same frame may differ by

Feeds = dict[str, Any]


def clip(bundle: str, count: int) -> list[Image]:
    """Frames of the clip that the bundle carries. Raises SourceError if it has none."""
    source = own_clip(bundle)
    if source is None:
        raise SourceError(
            f"{bundle}: expected a bundle that carries a clip, got one without; take the demo's"
        )
    return read_frames(source, count)


def face_tiles(
    bundle: str,
    frames: Sequence[Image],  # of one person who stays about where they are
    size: int,  # of a tile, px
) -> list[Image]:
    """The face frame by frame, cut out with MARGIN around its aligned square."""
    with open_bundle(bundle, backend="onnxruntime") as opened:
        pipeline = Pipeline(opened, composite="face")
        settle(pipeline, frames, 1)
        (person,) = pipeline.people.values()
        assert person.crop is not None
        half = person.crop.size / 2
        x, y = person.crop.matrix @ (half - 0.5, half - 0.5, 1.0)
        scale = MARGIN * 2 * half * float(np.hypot(*person.crop.matrix[:, 0])) / size
    matrix = np.array([[scale, 0, x - scale * size / 2], [0, scale, y - scale * size / 2]])
    how = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
    blur = max(0.5, 0.4 * scale)  # against aliasing: warpAffine takes single texels
    return [
        np.asarray(
            cv2.warpAffine(
                cv2.GaussianBlur(frame, (0, 0), blur), matrix, (size, size), flags=how,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            np.uint8,
        )
        for frame in frames
    ]  # fmt: skip


def faces_frame(tiles: Sequence[Image], n: int, index: int) -> Image:
    """``n`` tiles side by side, each some frames ahead of its neighbor so that no two are alike."""
    width, height = FRAME_SIZE
    size = tiles[0].shape[0]
    frame = np.empty((height, width, 3), np.uint8)
    frame[:] = tiles[0][0].mean(axis=0)
    top = (height - size) // 2
    for i in range(n):
        left = round(width * (i + 0.5) / n - size / 2)
        frame[top : top + size, left : left + size] = tiles[(index + 3 * i) % len(tiles)]
    return frame


def face_box(pipeline: Pipeline) -> tuple[slice, slice]:
    """Rows and columns of the frame that the one tracked face covers."""
    (person,) = pipeline.people.values()
    assert person.face is not None
    low, high = (f(person.face.landmarks[:, :2], axis=0).astype(int) for f in (np.min, np.max))
    return slice(max(0, low[1]), high[1] + 1), slice(max(0, low[0]), high[0] + 1)


class Together(Pipeline):
    """All faces of a frame through each network at once; knows one number of faces only."""

    def __init__(self, bundle: Bundle, encode: Session, draw: Session) -> None:
        """encode, draw: the bundle's encoder and generator for the same number of samples."""
        super().__init__(bundle, composite="face", max_faces=encode.inputs[0].shape[0])
        self._encode_all, self._draw_all = encode, draw
        self._pictures = np.empty(self._draw_all.outputs[0].shape, np.float32)

    def process(self, frame: Image, time_s: float | None = None) -> Image:
        self._time_s = self._time_s + FRAME_S if time_s is None else time_s
        with self.clock.stage("track"):
            faces = self._track(frame)
        if len(faces) != self._pictures.shape[0]:
            return frame.copy()
        out = frame.copy()
        people = [self.people[face.id] for face in faces]
        with self.clock.stage("align"):
            crops = [align(frame, face, self._encoder.crop_size) for face in faces]
        with self.clock.stage("encode"):
            feeds: Feeds = {"crop": np.concatenate([crop.pixels for crop in crops])}
            if self._encoder.takes_landmarks:
                feeds["landmarks"] = np.stack([crop.landmarks for crop in crops])
            locks = [person.lock for person in people if person.lock is not None]
            for lock in locks:
                lock.advance(self._time_s)
            remembered = [lock.feeds() for lock in locks]
            for name in remembered[0] if remembered else ():
                feeds[name] = np.concatenate([one[name] for one in remembered])
            answer = self._encode_all.run(feeds)
            for i, lock in enumerate(locks):
                lock.keep(answer["appearance"][i : i + 1])
            codes = list(answer["codes"][:, None])
            for i, person in enumerate(people):
                if person.smoother is not None:
                    codes[i] = person.smoother(codes[i], self._time_s)
        with self.clock.stage("edit"):
            drawn = [truncate(code, self.bundle.latent_avg, self.truncation) for code in codes]
            joined = np.concatenate([self._editor.apply(code, self.edits) for code in drawn])
        with self.clock.stage("synthesize"):
            feeds = {"codes": np.ascontiguousarray(joined, np.float32)}
            self._draw_all.run(feeds, {"image": self._pictures})
        for person, picture, crop, face in zip(people, self._pictures, crops, faces, strict=True):
            with self.clock.stage("composite"):
                assert person.compositor is not None
                out = person.compositor.apply(out, picture, crop, face)
            person.face, person.crop = face, crop
        self.clock.frame()
        return out


class Averaged:
    """The whole generator, its picture averaged down to ``side``: the ideal that a smaller one is held to."""

    def __init__(self, session: Session, side: int) -> None:
        self._draw, self._side = Synthesizer(session), side

    def __call__(self, codes: Floats) -> Floats:
        rows = np.ascontiguousarray(self._draw(codes).transpose(1, 2, 0))
        small = cv2.resize(rows, (self._side, self._side), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(np.asarray(small, np.float32).transpose(2, 0, 1))


def settle(pipeline: Pipeline, frames: Sequence[Image], n: int) -> list[Image]:
    """The first frames; ParityError unless they have ``n`` faces that keep their ids."""
    pictures, ids = [], set()
    for frame in frames[:SETTLED]:
        pictures.append(pipeline.process(frame).copy())
        ids.add(tuple(sorted(pipeline.people)))
    if len(ids) != 1 or len(next(iter(ids))) != n:
        raise ParityError(f"expected {n} faces that keep their ids over {SETTLED} frames, got {sorted(ids)}")
    return pictures


def check_faces(alone: Pipeline, together: Pipeline, frames: Sequence[Image], n: int) -> int:
    """Largest difference between the frames of both ways. Raises ParityError past LEVELS."""
    pairs = zip(settle(alone, frames, n), settle(together, frames, n), strict=True)
    worst = max(int(cv2.absdiff(a, b).max()) for a, b in pairs)
    if worst > LEVELS:
        raise ParityError(f"{n} faces at once: expected frames within {LEVELS} of 255, got {worst}")
    return worst


def frame_run(pipeline: Pipeline, frames: Sequence[Image]) -> Callable[[int], Image]:
    """Each call the next frame."""
    turn: Iterator[int] = numbers()
    return lambda _: pipeline.process(frames[next(turn) % len(frames)])


def psnr(wanted: Sequence[Image], got: Sequence[Image]) -> float:
    """Over all frames together, 8 bit."""
    error = np.mean([(a.astype(np.float64) - b) ** 2 for a, b in zip(wanted, got, strict=True)])
    return float(10 * np.log10(255**2 / max(float(error), 1e-12)))


def stage_table(labels: Sequence[str], pipelines: Sequence[Pipeline]) -> str:
    """What the stages of one frame take, all faces together."""
    reports = [pipeline.clock.report() for pipeline in pipelines]
    names = [stage.name for stage in reports[0].stages]
    lines = [
        "| faces | " + " | ".join(f"{name} ms" for name in names) + " |",
        "|---" + "|--:" * len(names) + "|",
    ]
    for label, report in zip(labels, reports, strict=True):
        per_frame = {s.name: s.median_ms * s.count / max(report.frames, 1) for s in report.stages}
        lines.append(f"| {label} | " + " | ".join(f"{per_frame[name]:.2f}" for name in names) + " |")
    return "\n".join(lines)


def network(bundle: Bundle, name: str) -> bytes:
    return (bundle.path / bundle.manifest.networks[name].file).read_bytes()
