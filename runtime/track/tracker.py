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
from ..pictures.convert import to_image
from ..types import Face, Floats, Image, check_image
from .one_euro import OneEuro, Smoother
from .region import MARGIN, Region, look, place

_LIVE: Final = OneEuro()
_MOST_LOOKS: Final = 5  # at a new face, until its region stays where it is
# Share of the smaller of two face boxes in the larger, from which both show one face. People cheek to cheek
# share a quarter; a second "face" found inside a cheek, a fringe or a mouth lies within the first.
_SAME_FACE: Final = 0.5
# Landmarks see an upright face in an upside-down one, and are sure of it (scores up to 1.00). The detector
# is not fooled: in _WAY_UP_VIEW times a face's region it gave the right way up 0.79..0.94 and the others
# at most 0.66, for eight people turned by every 30 degrees.
_WAY_UP_VIEW: Final = 1.8
_WAY_UP_GAIN: Final = 0.1  # of that score: what another way up must have more than the one that was found
_FINEST_TILE_PX: Final = 320.0  # a smaller tile would find faces too small to be worth an edit
_QUARTER_TURNS: Final = (0.0, math.pi / 2, math.pi, -math.pi / 2)
_HALF_TURNS: Final = (0.0, math.pi)


def overlap(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box [4] (x0, y0, x1, y1) with boxes [N,4] -> [N]."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(shared / np.maximum(areas - shared, 1e-9), np.float32)


def shared_part(box: Floats, boxes: Floats) -> Floats:
    """How much of the smaller of two boxes lies in the other, 0..1: one box [4] with boxes [N,4] -> [N].

    Unlike :func:`overlap`, a small box inside a large one counts as wholly shared.
    """
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=1)
    smaller = np.minimum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), np.prod(box[2:] - box[:2]))
    return np.asarray(shared / np.maximum(smaller, 1e-9), np.float32)


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
        thorough: bool = False,  # a fresh start looks for small faces too, which takes long: for pictures
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
        self._thorough = thorough
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
        outputs = self._landmarks.run({"image": look(image, region, size)})
        return place(outputs["points"][0], region, size), float(outputs["score"].reshape(-1)[0])

    def _follow(self, track: _Track, image: Image, time_s: float) -> bool:
        """Move a track to where its face went; False if it is gone."""
        settled = self._settled(image, track.region)
        if settled is not None:
            self._take(track, *settled, time_s)
        return settled is not None

    def _settled(self, image: Image, region: Region, looks: int = 1) -> tuple[Floats, float] | None:
        """Landmarks and score, measured in ``region``, again where that shows the face while it moves on.

        None if the last look shows no face.
        """
        for _ in range(looks):
            if not region.usable(image):
                return None
            points, score = self._measure(image, region)
            before, region = region, Region.around(points)
            if score < self._presence_score:
                return None
            if region.close_to(before):
                break
        return (points, score) if region.usable(image) else None

    def _settled_upright(self, image: Image, candidate: Region) -> tuple[Floats, float] | None:
        """As :meth:`_settled`, of a new face the right way up; None also where that does not become clear."""
        region = self._right_way_up(image, candidate, _QUARTER_TURNS)
        for _ in range(2):
            # The detector is coarse, so landmarks from its region are not the last word.
            settled = self._settled(image, region, _MOST_LOOKS)
            if settled is None:
                return None
            region = Region.around(settled[0])
            upright = self._right_way_up(image, region, _HALF_TURNS)
            if upright is region:
                return settled
            region = upright
        return None

    def _right_way_up(self, image: Image, region: Region, turns: Sequence[float]) -> Region:
        """Where the detector sees the face in ``region`` best; ``region`` if no turn is clearly better."""
        best, best_score = region, -math.inf
        for turn in turns:
            view = replace(region, angle=region.angle + turn, side=_WAY_UP_VIEW * region.side)
            for seen, score in self._detections(image, view, threshold=0.1):
                near = math.hypot(seen.x - region.x, seen.y - region.y) < region.side / 3
                if near and score - (turn != 0) * _WAY_UP_GAIN > best_score:
                    best, best_score = (seen if turn else region), score
        return best

    def _take(self, track: _Track, points: Floats, score: float, time_s: float) -> None:
        """Move a track to landmarks as measured."""
        region = Region.around(points)
        track.points, track.region, track.score, track.seen_s = points, region, score, time_s
        smooth = points if track.smoother is None else track.smoother(points, region.side / MARGIN, time_s)
        track.face = Face(id=track.id, landmarks=smooth, score=score)

    def _search(self, image: Image, time_s: float) -> None:
        """Look for faces beyond those tracked until there is no room or no view left; in each group of views
        the largest first."""
        for views in self._views(image):
            candidates = [candidate for view in views for candidate in self._detect(image, view)]
            for candidate in sorted(candidates, key=lambda region: -region.side):
                if len(self._tracks) < self._max_faces:
                    self._adopt(candidate, image, time_s)
            if len(self._tracks) == self._max_faces:
                return

    def _adopt(self, candidate: Region, image: Image, time_s: float) -> None:
        """Start a track at a detection, or continue the one that was lost there."""
        half = candidate.side / MARGIN / 2
        box = np.array(
            [candidate.x - half, candidate.y - half, candidate.x + half, candidate.y + half], np.float32
        )
        inside = [track for track in self._tracks if shared_part(box, track.box[None])[0] > _SAME_FACE]
        # A face around what was taken for one before is the better one.
        if any(track.region.side > 0.6 * candidate.side for track in inside):
            return
        near = [track for track in self._lost if overlap(box, track.box[None])[0] > 0.1]
        track = near[0] if near else self._new_track()
        settled = self._settled_upright(image, candidate)
        if settled is not None:
            self._take(track, *settled, time_s)
            self._tracks = [other for other in self._tracks if other not in inside] + [track]
            self._lost = [other for other in self._lost if other is not track]
            self._next_id = max(self._next_id, track.id + 1)
            self._tracks = _distinct(self._tracks)

    def _new_track(self) -> _Track:
        smoother = None if self._smoothing is None else Smoother(self._smoothing)
        nowhere = Region(0.0, 0.0, 0.0)
        return _Track(self._next_id, np.zeros((N_POINTS, 3), np.float32), nowhere, smoother, 0.0, 0.0)

    def _detect(self, image: Image, view: Region) -> list[Region]:
        """Regions of the faces in a view, largest first."""
        return [region for region, _ in self._detections(image, view, self._detection_score)]

    def _detections(self, image: Image, view: Region, threshold: float) -> list[tuple[Region, float]]:
        """Regions of the faces in a view, largest first."""
        size = self._detector_size
        outputs = self._detector.run({"image": look(image, view, size, "black")})
        scores = outputs["scores"][0]
        keep = scores >= threshold
        boxes, best = suppress(outputs["boxes"][0][keep], scores[keep])
        regions = []
        for k in np.argsort(-boxes[:, 2:4].max(axis=1)):
            box = boxes[k]
            center, right_eye, left_eye = place(box[[0, 1, 4, 5, 6, 7]].reshape(3, 2), view, size)
            angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
            side = MARGIN * float(box[2:4].max()) * view.side / size
            regions.append((Region(float(center[0]), float(center[1]), side, angle), float(best[k])))
        return [pair for pair in regions if pair[0].usable(image)]

    def _views(self, image: Image) -> Iterator[list[Region]]:
        """What to search, in groups and in order: around lost faces, the whole frame, then special views.

        Special views find what the detector misses in the whole frame: small and turned faces. All of them
        are tried on a fresh start, one more a search after that.
        """
        height, width = image.shape[:2]
        for track in self._lost:
            yield [replace(track.region, side=2 * track.region.side)]
        whole = Region((width - 1) / 2, (height - 1) / 2, float(max(width, height)))
        yield [whole]
        groups = list(_special_views(whole, width, height, self._thorough))
        self._probe = self._probe + 1
        if self._probe == 0:
            yield from groups
        else:
            views = [view for group in groups for view in group]
            yield [views[self._probe % len(views)]]


def landmarks_in_crop(
    landmarks: Session,
    crop: Floats,  # RGB float32 [3,S,S], -1..1, aligned: the face fills the picture
) -> Floats:
    """Landmarks [P,3] of an aligned face in crop pixels, without a tracker."""
    size, side = _input_size(landmarks, "landmarks", ("points", "score")), crop.shape[-1]
    image = to_image(crop)
    region = Region((side - 1) / 2, (side - 1) / 2, float(side))
    for _ in range(2):  # the second look is from where the first one saw the face
        outputs = landmarks.run({"image": look(image, region, size)})
        points = place(outputs["points"][0], region, size)
        region = Region.around(points)
    return points


def _special_views(whole: Region, width: int, height: int, thorough: bool) -> Iterator[list[Region]]:
    """Tiles that overlap by half, of half the frame's longer side and halved again until one fits into a
    panorama's height; the whole frame turned; if ``thorough``, smaller tiles.
    """
    short, long = float(min(width, height)), whole.side
    finest = max(min(short / 2, long / 8), _FINEST_TILE_PX)
    side, turned = long / 2, False
    while True:
        yield [Region(x, y, side) for y in _tile_centers(height, side) for x in _tile_centers(width, side)]
        side /= 2
        if not turned and side < 0.6 * short:
            angles = (-45, 45, -90, 90, 180)
            yield [replace(whole, angle=math.radians(a), side=1.2 * whole.side) for a in angles]
            turned = True
        if turned and not (thorough and side >= finest):
            return


def _tile_centers(length: int, side: float) -> Sequence[float]:
    """Centers of tiles of that side that cover a length, neighbors overlapping by half or more."""
    steps = max(math.ceil((length - side) / (side / 2)), 0)
    first, last = min(side, length) / 2, length - min(side, length) / 2
    return [float(c) - 0.5 for c in np.linspace(first, last, steps + 1)]


def _distinct(tracks: Sequence[_Track]) -> list[_Track]:
    """Tracks without those that slid onto the face of an earlier one."""
    kept: list[_Track] = []
    for track in tracks:
        if not kept or shared_part(track.box, np.stack([other.box for other in kept])).max() <= _SAME_FACE:
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
