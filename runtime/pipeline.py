"""The whole flow on one screen: frame -> track -> align -> encode -> edit -> synthesize -> composite -> mark.

The same object serves an image, a file and a live camera. One pipeline serves one stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .align import align
from .bundle.reader import Bundle
from .composite import Compositor
from .edit.editor import Editor, truncate
from .encode import IdentityLock, LatentSmoother, RelativeMotion
from .errors import EditError
from .mark.marker import Marker
from .synthesize import Synthesizer
from .timing import Clock
from .track.one_euro import OneEuro
from .track.tracker import Tracker
from .types import Crop, Face, Floats, Image, check_image

Lost = Literal["frame", "hold", "blank"]
Motion = Literal["absolute", "relative"]
FRAME_S = 1 / 30  # assumed between frames whose time is not given
REMEMBER_S = 5.0  # how long a face that left keeps its state; the tracker keeps its id for less
_LOCKED_BETA = 6.0  # of `LatentSmoother`; with 1 mouths lag: r 0.84 instead of 0.91


@dataclass(slots=True)
class Person:
    """What the pipeline remembers of one tracked face, and what it made of it last."""

    compositor: Compositor
    smoother: LatentSmoother | None
    lock: IdentityLock | None
    motion: RelativeMotion | None = None
    face: Face | None = None
    crop: Crop | None = None
    seen_s: float = 0.0
    found: Floats | None = None  # the person's own code, [1, n_styles, w_dim]
    codes: Floats | None = None  # after editing
    picture: Floats | None = None  # RGB float32 [3,R,R]; a view that the next frame overwrites


class Pipeline:
    """``Pipeline(bundle, edits={"age": 2.0}).process(frame)``: BGR uint8 [H,W,3] in, same shape out."""

    def __init__(
        self,
        bundle: Bundle,
        edits: Mapping[str, float] | None = None,  # direction name -> strength
        style: str = "photo",  # which generator draws the codes
        composite: str = "face",  # "face", "head" or "replace"
        *,
        max_faces: int = 1,
        truncation: float = 1.0,  # 1: the person as inverted; toward 0: the average face
        steps: int | None = None,  # of the ReStyle loop
        smoothing: bool = True,  # landmarks and codes over time; off for unrelated pictures
        identity_lock: bool = True,  # steady appearance over time, where the encoder has a memory
        when_lost: Lost | None = None,  # no face: show the frame, hold the last result, or blank it
        marker: Marker | None = None,  # badge and watermark on what was synthesized; the commands pass one
        motion: Motion | None = None,  # of an enrolled person; None: as the bundle says
        codes: Floats | None = None,  # [1, n_styles, w_dim], drawn instead of what is read; videos move it
    ) -> None:
        self.bundle = bundle
        self.clock = Clock()
        self.people: dict[int, Person] = {}  # by face id, those in the latest frame
        self.truncation = truncation
        self.steps = steps
        self.composite = composite
        self.marker = marker
        # A replaced frame shows no real face; losing track for a moment must not show it either.
        self.when_lost: Lost = when_lost or ("hold" if composite == "replace" else "frame")
        self._smoothing = smoothing
        self._encoder = bundle.encoder
        self._identity_lock = identity_lock and smoothing and self._encoder.appearance_size > 0
        self._editor = Editor(bundle.directions, bundle.latent_avg)
        self._tracker = Tracker(
            bundle.session("detector"),
            bundle.session("landmarks"),
            max_faces=max_faces,
            smoothing=OneEuro() if smoothing else None,
            thorough=not smoothing,
        )
        self._codes = codes
        self._pivot = self._relative_to(motion) if codes is None or not smoothing else codes[0]
        self._known: dict[int, Person] = {}  # also those who left a moment ago and may come back
        self._latest: Image | None = None
        self._time_s = 0.0
        self._new_person()  # refuses an unknown composite mode now, not at the first face
        self.edits = dict(edits or {})
        self.style = style

    @property
    def edits(self) -> dict[str, float]:
        """Direction name -> strength. Assigning checks names and ranges; takes effect at once."""
        return self._edits

    @edits.setter
    def edits(self, edits: Mapping[str, float]) -> None:
        self._editor.check(edits)
        self._edits = dict(edits)

    @property
    def style(self) -> str:
        """Which generator draws the codes; assigning switches."""
        return self._style

    @style.setter
    def style(self, style: str) -> None:
        self._synthesize = Synthesizer(self.bundle.generator(style))
        self._style = style

    def process(
        self,
        frame: Image,  # BGR uint8 [H,W,3]; not modified
        time_s: float | None = None,  # when it was taken; None: 1/30 s after the one before
    ) -> Image:
        """Edit every face of ``frame``; a new picture of the same shape."""
        check_image(frame)
        self._time_s = self._time_s + FRAME_S if time_s is None else time_s
        with self.clock.stage("track"):
            faces = self._track(frame)
        if not faces:
            return self._lost(frame)
        # A replaced frame shows nothing of the one that was given, so that need not be copied.
        replaced = self.people[faces[0].id].compositor.mode == "replace"
        out = np.empty(frame.shape, np.uint8) if replaced else frame.copy()
        for face in faces:
            person = self.people[face.id]
            with self.clock.stage("align"):
                crop = align(frame, face, self._encoder.crop_size)
            with self.clock.stage("encode"):
                found = self._encode(crop, person)
            with self.clock.stage("edit"):
                drawn = truncate(found, self.bundle.latent_avg, self.truncation)
                codes = self._editor.apply(drawn, self.edits)
            with self.clock.stage("synthesize"):
                picture = self._synthesize(codes)
            with self.clock.stage("composite"):
                out = person.compositor.apply(out, picture, crop, face)
            person.face, person.crop = face, crop
            person.found, person.codes, person.picture = found, codes, picture
        if self.marker is not None:
            with self.clock.stage("mark"):
                crops = [person.crop for person in self.people.values() if person.crop is not None]
                self.marker.apply(out, None if replaced else frame, crops)
        self._latest = out
        self.clock.frame()
        return out

    def reset(self) -> None:
        """Forget all faces, e.g. at a cut or between unrelated pictures."""
        self._tracker.reset()
        self.people.clear()
        self._known.clear()
        self._latest = None

    def _track(self, frame: Image) -> list[Face]:
        if not self._smoothing:  # unrelated pictures: nothing to follow
            self.reset()
        faces = self._tracker.update(frame, self._time_s)
        self._known = {
            key: person
            for key, person in self._known.items()
            if abs(self._time_s - person.seen_s) <= REMEMBER_S
        }
        self.people = {face.id: self._known.get(face.id) or self._new_person() for face in faces}
        for person in self.people.values():
            person.seen_s = self._time_s
        self._known |= self.people
        return faces

    def _encode(self, crop: Crop, person: Person) -> Floats:
        landmarks = crop.landmarks[None] if self._encoder.takes_landmarks else None
        if person.lock is not None:
            person.lock.advance(self._time_s)
        if self._codes is not None and not self._smoothing:
            return self._codes
        codes = self._encoder(crop.pixels, steps=self.steps, landmarks=landmarks, lock=person.lock)
        if person.motion is not None:
            codes = person.motion(codes, self._time_s)
        if person.smoother is not None:
            codes = person.smoother(codes, self._time_s)
        return codes

    def _new_person(self) -> Person:
        return Person(
            compositor=Compositor(self.composite),
            smoother=self._new_smoother() if self._smoothing else None,
            lock=self._encoder.new_lock() if self._identity_lock else None,
            motion=None if self._pivot is None else RelativeMotion(self._pivot),
        )

    def _relative_to(self, motion: Motion | None) -> Floats | None:
        """The enrolled person's code, where motion is relative; None where it is absolute."""
        enrollment = self.bundle.manifest.enrollment
        if motion not in (None, "absolute", "relative"):
            raise ValueError(f"motion: expected absolute or relative, got {motion!r}")
        if motion == "relative" and enrollment is None:
            raise EditError(
                "motion relative: expected a bundle of one person to move, got one without; "
                "make one with `doppelgan enroll`"
            )
        if motion == "relative" and not self._smoothing:
            raise EditError(
                "motion relative: expected a video or a camera, got unrelated pictures, "
                "which have no neutral face to compare with; use absolute"
            )
        chosen = motion or ("absolute" if enrollment is None else enrollment.motion)
        if chosen == "absolute" or not self._smoothing:
            return None
        pivot: Floats = self.bundle.latent["pivot"]
        return pivot

    def _new_smoother(self) -> LatentSmoother:
        spread = self.bundle.latent.get("w_std", 1.0)
        # Behind a lock only motion changes the codes, and it comes from smooth landmarks: little is left.
        return LatentSmoother(spread, beta=_LOCKED_BETA) if self._identity_lock else LatentSmoother(spread)

    def _lost(self, frame: Image) -> Image:
        if self.when_lost == "frame":
            return frame.copy()
        if self.when_lost == "hold" and self._latest is not None and self._latest.shape == frame.shape:
            return self._latest
        return np.full_like(frame, 24)
