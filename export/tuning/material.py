"""What a person is enrolled from: the faces of pictures and clips, checked, sorted out and chosen.

=============  ====================================================================================
left out       frames without a face, with a face too small or turned away, blurred, half covered
chosen         straight, sharp, with open eyes and the face that the person usually makes comes first;
               then whatever adds most to poses and expressions that are already there
held out       every few of the chosen, to tell when tuning should stop
=============  ====================================================================================

One picture alone is refused for the same reasons, with one line that says what to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from doppelgan.runtime.align import align
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.pictures.files import READABLE
from doppelgan.runtime.source import open_source
from doppelgan.runtime.track import Expression, OneEuro, Tracker, expression
from doppelgan.runtime.types import Announce, Crop, Face, Floats, Frame, Image

MOST = 48  # frames that one person is enrolled from
MOST_READ = 900  # of a clip: 30 s at 30 frames/s; longer clips are thinned out
HELD_OUT = 6  # every so many of the chosen
FEW = 8  # frames, below which none is held out

SMALLEST_PX = 64  # width of a face in the picture
FARTHEST = math.radians(40)  # a head turned or nodding further hides half of the face
LEAST_SCORE = 0.5  # presence, below which a mesh is no face
BLURRED = 0.4  # of the median sharpness of a clip
SECOND_FACE = 0.4  # of the larger face's width, from which a second one is somebody and not background
# What of an expression tells two frames apart: about half of the range that people show.
_SPREAD = np.array([0.35, 0.25, 0.35, 0.15, 0.12, 0.06, 0.06, 0.08, 0.08])


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame of the person."""

    crop: Crop  # as the encoder wants it
    picture: Floats  # RGB float32 [1,3,R,R], -1..1: the same square as tuning draws it
    expression: Expression
    sharpness: float
    score: float  # presence, 0..1
    name: str  # for people: file, and index of the frame

    @property
    def pose(self) -> Floats:
        """float32 [9]: the expression's numbers, each relative to its usual spread."""
        values = np.array(list(asdict(self.expression).values()))
        return np.asarray(values / _SPREAD, np.float32)

    @property
    def eyes_open(self) -> float:
        """Of the narrower eye, in distances between the outer eye corners."""
        return min(self.expression.eye_open_left, self.expression.eye_open_right)


@dataclass
class Material:
    """The frames of one person."""

    chosen: list[Sample] = field(default_factory=list)
    held_out: list[Sample] = field(default_factory=list)
    read: int = 0  # frames looked at
    left_out: dict[str, int] = field(default_factory=dict)  # reason -> how many

    @property
    def pivot(self) -> Sample:
        """The frame that stands for the person: the first that was chosen."""
        return self.chosen[0]


def gather(
    sources: Sequence[str],  # pictures, clips, folders, a camera: see `runtime/source`
    bundle: Bundle,  # its trackers and the size of its encoder's crop
    *,
    most: int = MOST,
    seconds: float = 12.0,  # of a camera or stream
    size: int | None = None,  # px, of the pictures; None: as the crop
    watch: Callable[[Image, float], None] | None = None,  # is shown every frame of a camera, with its time
    report: Announce = lambda _: None,
) -> Material:
    """Read all sources and choose. Raises SourceError if nothing usable is left."""
    material = Material()
    samples: list[Sample] = []
    for text in sources:
        one_picture = Path(text).is_file() and _is_picture(text)
        found = list(
            _samples(
                text,
                bundle,
                material,
                seconds,
                size or bundle.crop_size,
                watch,
                one_picture and len(sources) == 1,
            )
        )
        report(f"{text}: {len(found)} usable {'frame' if len(found) == 1 else 'frames'}")
        samples += found
    samples = _without_blurred(samples, material)
    if not samples:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(material.left_out.items())) or "no frames"
        raise SourceError(
            f"{', '.join(sources)}: expected a face to enroll, looking roughly into the camera, got none in "
            f"{material.read} frames ({reasons}); take a sharp picture from the front"
        )
    chosen = choose(samples, most)
    if len(chosen) >= FEW:
        material.held_out = chosen[HELD_OUT - 1 :: HELD_OUT]
        chosen = [sample for i, sample in enumerate(chosen) if i % HELD_OUT != HELD_OUT - 1]
    material.chosen = chosen
    return material


def choose(samples: Sequence[Sample], most: int) -> list[Sample]:
    """The usual face first, then always the one least like those before, weighted by its sharpness."""
    rest = list(samples)
    first = _usual(rest)
    rest.remove(first)
    chosen, poses = (
        [first],
        np.stack([sample.pose for sample in rest]) if rest else np.zeros((0, len(_SPREAD))),
    )
    distance = np.linalg.norm(poses - first.pose, axis=1)
    usual = float(np.median([sample.sharpness for sample in samples]))
    clear = np.array([min(sample.sharpness / max(usual, 1e-9), 1.5) * sample.score for sample in rest])
    while rest and len(chosen) < most:
        best = int(np.argmax(distance * clear))
        chosen.append(rest[best])
        keep = np.arange(len(rest)) != best
        distance = np.minimum(distance, np.linalg.norm(poses - rest[best].pose, axis=1))[keep]
        poses, clear = poses[keep], clear[keep]
        del rest[best]
    return chosen


def _samples(
    text: str,
    bundle: Bundle,
    material: Material,
    seconds: float,
    size: int,
    watch: Callable[[Image, float], None] | None,
    alone: bool,
) -> Iterator[Sample]:
    detector, landmarks = bundle.session("detector"), bundle.session("landmarks")
    with open_source(text) as source:
        pictures = _is_picture(text) or Path(text).is_dir()
        tracker = Tracker(
            detector, landmarks, max_faces=2, smoothing=None if pictures else OneEuro(beta=60.0)
        )
        total = source.frame_count or 0
        stride = max(1, math.ceil(total / MOST_READ)) if not pictures else 1
        began: float | None = None
        for frame in _until(source.displayed(), seconds, live=source.live):
            began = frame.time_s if began is None else began
            if watch is not None:
                watch(frame.image, frame.time_s - began)
            if frame.index % stride:
                continue
            if pictures:
                tracker.reset()
            material.read += 1
            faces = sorted(tracker.update(frame.image, frame.time_s), key=_width, reverse=True)
            reason = _unusable(faces)
            if reason is not None:
                if alone:
                    raise SourceError(f"{text}: {reason}")
                label = reason.partition(":")[0]
                material.left_out[label] = material.left_out.get(label, 0) + 1
                continue
            yield _sample(frame.image, faces[0], bundle.crop_size, size, f"{text}#{frame.index}")


def _until(frames: Iterable[Frame], seconds: float, *, live: bool) -> Iterator[Frame]:
    began: float | None = None
    for frame in frames:
        began = frame.time_s if began is None else began
        if live and frame.time_s - began > seconds:
            return
        yield frame


def _unusable(faces: Sequence[Face]) -> str | None:
    """Why a frame cannot be enrolled from; None if it can."""
    if not faces or faces[0].score < LEAST_SCORE:
        return "no face: expected one person who looks into the camera; choose another picture"
    if len(faces) > 1 and _width(faces[1]) > SECOND_FACE * _width(faces[0]):
        return "two faces: expected one person; cut the picture down to the one to enroll"
    if _width(faces[0]) < SMALLEST_PX:
        return (
            f"a small face: expected one at least {SMALLEST_PX} px wide, got {_width(faces[0]):.0f} px; "
            "take a closer picture or a larger file"
        )
    pose = expression(faces[0])
    turned = max(abs(pose.yaw), abs(pose.pitch))
    if turned > FARTHEST:
        return (
            f"a face turned away: expected at most {math.degrees(FARTHEST):.0f} degrees, "
            f"got {math.degrees(turned):.0f}; take a picture from the front"
        )
    return None


def _sample(image: Image, face: Face, crop_size: int, size: int, name: str) -> Sample:
    crop = align(image, face, crop_size)
    picture = crop.pixels if size == crop_size else align(image, face, size).pixels
    return Sample(crop, picture, expression(face), sharpness(crop), face.score, name)


def sharpness(crop: Crop) -> float:
    """Mean square of the Laplacian of the face's brightness, relative to its contrast; larger is sharper."""
    size = crop.size
    inner = slice(size // 4, size - size // 4)
    gray = crop.pixels[0].mean(axis=0)[inner, inner].astype(np.float64)
    laplacian = gray[1:-1, :-2] + gray[1:-1, 2:] + gray[:-2, 1:-1] + gray[2:, 1:-1] - 4 * gray[1:-1, 1:-1]
    return float(np.square(laplacian).mean() / (gray.var() + 1e-4))


def _without_blurred(samples: list[Sample], material: Material) -> list[Sample]:
    if len(samples) < FEW:
        return samples
    least = BLURRED * float(np.median([sample.sharpness for sample in samples]))
    sharp = [sample for sample in samples if sample.sharpness >= least]
    if len(sharp) < len(samples):
        material.left_out["blurred"] = len(samples) - len(sharp)
    return sharp


def _usual(samples: Sequence[Sample]) -> Sample:
    """The frame that stands for the person: straight, sharp, open eyes, a calm mouth, and nothing odd.

    Odd is what is far from the person's median: lips drawn in count as a calm mouth, and a person enrolled
    from them has none (0.46 from them for a recognizer; from a frame with lips, 0.38).
    """
    poses = np.stack([sample.pose for sample in samples])
    odd = np.linalg.norm(poses - np.median(poses, axis=0), axis=1)

    def unfit(sample: Sample, odd: float) -> float:
        pose = sample.expression
        turned = abs(pose.yaw) + abs(pose.pitch) + 0.3 * abs(pose.roll)
        shut = max(0.0, 0.12 - sample.eyes_open)
        unrest = 2 * turned + 2 * max(pose.mouth_open, 0.0) + 8 * shut
        return unrest + 0.3 * odd - 0.1 * math.log(sample.sharpness + 1e-9)

    return min(zip(samples, odd, strict=True), key=lambda pair: unfit(*pair))[0]


def _width(face: Face) -> float:
    x0, _, x1, _ = face.box
    return float(x1 - x0)


def _is_picture(text: str) -> bool:
    return Path(text).suffix.lower() in READABLE
