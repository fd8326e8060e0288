"""Where the faces are: a detector finds them, dense landmarks follow them.

::

    lost, or room for more faces            every frame, per face
    frame -> detector -> boxes -> region -> landmarks -> presence high? -> smooth -> Face
                                   ^                          |
                                   +--- region around them <--+

A region is a square that turns with the head, so that the landmark network always sees an upright face of
the same size. The networks are two sessions (``detector`` and ``landmarks`` of a bundle); their borders:

    detector   image [1,3,S,S] RGB -1..1  ->  boxes [1,N,16] input pixels, scores [1,N] 0..1
    landmarks  image [1,3,S,S] RGB -1..1  ->  points [1,P,3] input pixels, score [1,1] 0..1

A row of ``boxes``: center x, center y, width, height, six (x, y), of which the first two are the eyes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from ..backends.base import Session
from ..errors import BackendError
from ..face_mesh import N_POINTS
from ..types import Face, Floats, Image, check_image
from .one_euro import OneEuro, Smoother
from .region import MARGIN, Region, look, place

_LIVE: Final = OneEuro()
_MOST_LOOKS: Final = 5  # at a new face, until its region stays where it is


def overlap(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box [4] (x0, y0, x1, y1) with boxes [N,4] -> [N]."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(shared / np.maximum(areas - shared, 1e-9), np.float32)


def suppress(
    boxes: Floats,  # [N,16] center x, center y, width, height, six points
    scores: Floats,  # [N]
    threshold: float = 0.3,  # overlap from which two boxes show the same face
) -> tuple[Floats, Floats]:
    """Merge boxes of the same face, each weighted by its score; best face first."""
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2], axis=1)
    order = np.argsort(-scores)
    merged, best = [], []
    while len(order):
        same = overlap(corners[order[0]], corners[order]) > threshold
        same[0] = True
        group = order[same]
        weights = scores[group] / scores[group].sum()
        merged.append(weights @ boxes[group])
        best.append(scores[group[0]])
        order = order[~same]
    return np.array(merged, np.float32).reshape(-1, boxes.shape[1]), np.array(best, np.float32)


@dataclass(slots=True)
class _Track:
    """A face that is or was lately in view."""

    id: int
    points: Floats  # as measured, [P,3]
    region: Region  # around those points: where to look in the next frame
    smoother: Smoother | None
    seen_s: float
    score: float
    face: Face | None = field(default=None)

    @property
    def box(self) -> Floats:
        xy = self.points[:, :2]
        return np.concatenate([xy.min(0), xy.max(0)])


class Tracker:
    """Follows up to ``max_faces`` faces through a stream of frames.

    A face keeps its id while it stays in view, and when it is soon found again near its last place.
    """

    def __init__(
        self,
        detector: Session,
        landmarks: Session,
        max_faces: int = 1,
        smoothing: OneEuro | None = _LIVE,  # None: landmarks as measured
        *,
        detection_score: float = 0.5,  # 0..1, from which a box is tried
        presence_score: float = 0.5,  # 0..1, from which landmarks show a face
        search_every_s: float = 0.3,  # pause between searches for further faces
        remember_s: float = 1.0,  # how long a lost face keeps its id
    ) -> None:
        if max_faces < 1:
            raise ValueError(f"max_faces: expected 1 or more, got {max_faces}")
        self._detector, self._landmarks = detector, landmarks
        self._detector_size = _input_size(detector, "detector", ("boxes", "scores"))
        self._landmarks_size = _input_size(landmarks, "landmarks", ("points", "score"))
        self._max_faces = max_faces
        self._smoothing = smoothing
        self._detection_score, self._presence_score = detection_score, presence_score
        self._search_every_s, self._remember_s = search_every_s, remember_s
        self.reset()

    def reset(self) -> None:
        """Forget every face; the next frame is searched thoroughly. Ids go on counting from 0."""
        self._tracks: list[_Track] = []
        self._lost: list[_Track] = []
        self._next_id = 0
        self._searched_s = -math.inf
        self._probe = -1  # which special view the next search tries; -1: all of them

    def update(self, image: Image, time_s: float) -> list[Face]:
        """Faces of the next frame, longest-followed first.

        image: BGR uint8 [H,W,3]. time_s: of the frame, rising. Raises ValueError for another kind of image.
        """
        check_image(image)
        followed = [track for track in self._tracks if self._follow(track, image, time_s)]
        self._lost += [track for track in self._tracks if track not in followed]
        self._lost = [track for track in self._lost if 0 <= time_s - track.seen_s <= self._remember_s]
        self._tracks = _distinct(followed)

        if len(self._tracks) < self._max_faces:
            urgent = bool(self._lost) or not self._tracks
            if urgent or not 0 <= time_s - self._searched_s < self._search_every_s:
                self._searched_s = time_s
                self._search(image, time_s)
        return [track.face for track in self._tracks if track.face is not None]

    def _measure(self, image: Image, region: Region) -> tuple[Floats, float]:
        """Landmarks [P,3] in frame pixels from one look at ``region``, and how surely that is a face."""
        size = self._landmarks_size
        found = self._landmarks.run({"image": look(image, region, size)})
        return place(found["points"][0], region, size), float(found["score"].reshape(-1)[0])

    def _follow(self, track: _Track, image: Image, time_s: float) -> bool:
        """Move a track to where its face went; False if it is gone."""
        return self._settle(track, image, track.region, time_s)

    def _settle(self, track: _Track, image: Image, region: Region, time_s: float, looks: int = 1) -> bool:
        """Measure in ``region``, again where that shows the face while it moves on, and take over the result.

        False, and the track as it was, if the last look shows no face.
        """
        for _ in range(looks):
            if not region.usable(image):
                return False
            points, score = self._measure(image, region)
            before, region = region, Region.around(points)
            if score < self._presence_score:
                return False
            if region.close_to(before):
                break
        if not region.usable(image):
            return False
        track.points, track.region, track.score, track.seen_s = points, region, score, time_s
        smooth = points if track.smoother is None else track.smoother(points, region.side / MARGIN, time_s)
        track.face = Face(id=track.id, landmarks=smooth, score=score)
        return True

    def _search(self, image: Image, time_s: float) -> None:
        """Look for faces beyond those tracked until there is no room or no view left."""
        for view in self._views(image):
            for candidate in self._detect(image, view):
                if len(self._tracks) == self._max_faces:
                    return
                self._adopt(candidate, image, time_s)
            if len(self._tracks) == self._max_faces:
                return

    def _adopt(self, candidate: Region, image: Image, time_s: float) -> None:
        """Start a track at a detection, or continue the one that was lost there."""
        half = candidate.side / MARGIN / 2
        box = np.array(
            [candidate.x - half, candidate.y - half, candidate.x + half, candidate.y + half], np.float32
        )
        if self._tracks and overlap(box, np.stack([track.box for track in self._tracks])).max() > 0.25:
            return
        near = [track for track in self._lost if overlap(box, track.box[None])[0] > 0.1]
        track = near[0] if near else self._new_track()
        # The detector is coarse, so landmarks from its region are not the last word.
        if self._settle(track, image, candidate, time_s, looks=_MOST_LOOKS):
            self._tracks.append(track)
            self._lost = [other for other in self._lost if other is not track]
            self._next_id = max(self._next_id, track.id + 1)
            self._tracks = _distinct(self._tracks)

    def _new_track(self) -> _Track:
        smoother = None if self._smoothing is None else Smoother(self._smoothing)
        nowhere = Region(0.0, 0.0, 0.0)
        return _Track(self._next_id, np.zeros((N_POINTS, 3), np.float32), nowhere, smoother, 0.0, 0.0)

    def _detect(self, image: Image, view: Region) -> list[Region]:
        """Regions of the faces in a view, largest first."""
        size = self._detector_size
        found = self._detector.run({"image": look(image, view, size, "black")})
        scores = found["scores"][0]
        keep = scores >= self._detection_score
        boxes, _ = suppress(found["boxes"][0][keep], scores[keep])
        regions = []
        for box in boxes[np.argsort(-boxes[:, 2:4].max(axis=1))]:
            center, right_eye, left_eye = place(box[[0, 1, 4, 5, 6, 7]].reshape(3, 2), view, size)
            angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
            side = MARGIN * float(box[2:4].max()) * view.side / size
            regions.append(Region(float(center[0]), float(center[1]), side, angle))
        return [region for region in regions if region.usable(image)]

    def _views(self, image: Image) -> Iterator[Region]:
        """What to search, in order: around lost faces, the whole frame, then special views.

        Special views find what the detector misses in the whole frame: small and turned faces. All of them
        are tried on a fresh start, one more a search after that.
        """
        height, width = image.shape[:2]
        for track in self._lost:
            yield replace(track.region, side=2 * track.region.side)
        whole = Region((width - 1) / 2, (height - 1) / 2, float(max(width, height)))
        yield whole
        views = list(_special_views(whole, width, height))
        self._probe = self._probe + 1
        yield from views if self._probe == 0 else [views[self._probe % len(views)]]


def landmarks_in_crop(
    landmarks: Session,
    crop: Floats,  # RGB float32 [3,S,S], -1..1, aligned: the face fills the picture
) -> Floats:
    """Landmarks [P,3] of an aligned face in crop pixels, without a tracker."""
    size, side = _input_size(landmarks, "landmarks", ("points", "score")), crop.shape[-1]
    image = np.clip(crop[::-1].transpose(1, 2, 0) * 127.5 + 127.5, 0, 255).round().astype(np.uint8)
    region = Region((side - 1) / 2, (side - 1) / 2, float(side))
    for _ in range(2):  # the second look is from where the first one saw the face
        found = landmarks.run({"image": look(image, region, size)})
        points = place(found["points"][0], region, size)
        region = Region.around(points)
    return points


def _special_views(whole: Region, width: int, height: int) -> Iterator[Region]:
    """Half-size tiles that overlap by half, then the whole frame turned."""
    side = whole.side / 2
    for y in _tile_centers(height, side):
        for x in _tile_centers(width, side):
            yield Region(x, y, side)
    for degrees in (-45, 45, -90, 90, 180):
        yield replace(whole, angle=math.radians(degrees), side=1.2 * whole.side)


def _tile_centers(length: int, side: float) -> Sequence[float]:
    """Centers of tiles of that side that cover a length, neighbors overlapping by half or more."""
    steps = max(math.ceil((length - side) / (side / 2)), 0)
    first, last = min(side, length) / 2, length - min(side, length) / 2
    return [float(c) - 0.5 for c in np.linspace(first, last, steps + 1)]


def _distinct(tracks: Sequence[_Track]) -> list[_Track]:
    """Tracks without those that slid onto the face of an earlier one."""
    kept: list[_Track] = []
    for track in tracks:
        if not kept or overlap(track.box, np.stack([other.box for other in kept])).max() < 0.6:
            kept.append(track)
    return kept


def _input_size(session: Session, network: str, outputs: Sequence[str]) -> int:
    """Side of the picture a network takes; BackendError if its borders are not those described above."""
    shapes = [spec.shape for spec in session.inputs if spec.name == "image"]
    names = {spec.name for spec in session.outputs}
    if len(session.inputs) != 1 or not shapes or shapes[0] != (1, 3, shapes[0][-1], shapes[0][-1]):
        raise BackendError(
            f"{network}: expected input image [1,3,S,S], got {', '.join(map(str, session.inputs))}"
        )
    if not names.issuperset(outputs):
        raise BackendError(
            f"{network}: expected outputs {', '.join(outputs)}, got {', '.join(sorted(names))}"
        )
    return shapes[0][-1]
