"""The whole flow on one screen: frame -> track -> align -> encode -> edit -> synthesize -> composite -> mark.

The same object serves an image, a file and a live camera. One pipeline serves one stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np

from .align import align
from .bundle.reader import Bundle
from .composite import MODES, Compositor, Difference, Mode
from .composite.difference import parts_of
from .composite.gaze import move_irises
from .edit.editor import Editor, truncate
from .edit.effect import ALL_SIZES
from .encode import IdentityLock, LatentSmoother, RelativeMotion
from .errors import EditError
from .face_mesh import LEFT_EYE
from .mark.marker import Marker
from .pictures.tone import Tone
from .synthesize import Synthesizer
from .timing import Clock
from .track.one_euro import OneEuro
from .track.tracker import Tracker
from .types import Crop, Face, Floats, Frame, Image, check_image

Lost = Literal["frame", "hold", "blank"]
Motion = Literal["absolute", "relative"]
FRAME_S = 1 / 30  # assumed between frames whose time is not given
REMEMBER_S = 5.0  # how long a face that left keeps its state; the tracker keeps its id for less
# Of `LatentSmoother`, Hz per spread/s. Measured on clip 3 (training/evaluate): with 1.0 the avatar's mouth
# follows with r = 0.84, with 6.0 with 0.91.
_LOCKED_BETA = 6.0


@dataclass(slots=True)
class Person:
    """What the pipeline remembers of one tracked face, and what it made of it last."""

    compositor: Compositor | None  # of the mode in force; None where the difference is added
    difference: Difference
    smoother: LatentSmoother | None
    lock: IdentityLock | None
    motion: RelativeMotion | None = None
    face: Face | None = None
    crop: Crop | None = None
    seen_s: float = 0.0
    own_codes: Floats | None = None  # the person's own code, [1, n_styles, w_dim]
    codes: Floats | None = None  # after editing; where the difference is added, without edits of the gaze
    picture: Floats | None = (
        None  # of `codes`, RGB float32 [3,R,R], None: not drawn; the next frame overwrites it. Where the
        # difference is added, only as fine as that needs
    )


class Pipeline:
    """``Pipeline(bundle, edits={"age": 2.0}).process(frame)``: BGR uint8 [H,W,3] in, same shape out."""

    def __init__(
        self,
        bundle: Bundle,
        edits: Mapping[str, float] | None = None,  # direction name -> strength
        style: str = "photo",  # which generator draws the codes
        composite: str | None = None,  # None: "difference" for photos, "face" for other styles
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
        self.marker = marker
        self._max_faces = max_faces
        self._when_lost: Lost | None = None
        if when_lost is not None:
            self.when_lost = when_lost
        self._smoothing = smoothing
        self._encoder = bundle.encoder
        self._identity_lock = identity_lock and smoothing and self._encoder.appearance_size > 0
        self._editor = Editor(bundle.directions, bundle.latent_avg)
        self._mover = Editor(bundle.directions, bundle.latent_avg)  # only of edits that move things
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
        self._latest: Image | None = None  # what is held, where `when_lost` says so
        self._tone = Tone()
        self._time_s = 0.0
        self._composite: Mode | None = None
        self.style = style
        self.composite = composite
        self.edits = dict(edits or {})

    @property
    def composite(self) -> Mode:
        """How faces go back into the frame, one of `MODES`; assigning takes effect at once, None chooses.

        The difference of two pictures fits the camera's only where both draw the person before it: with given
        codes, and in other styles than that of the bundle's encoder, its first, the face is shown instead. So
        it is with None in a bundle of one person, which may be someone else. Raises ValueError for an unknown
        mode, and for "replace" with several faces: it leaves one of them.
        """
        if self._composite not in (None, "difference"):
            return self._composite
        anyone = self.bundle.manifest.enrollment is None or self._composite == "difference"
        fits = anyone and self._codes is None and self.style == self.bundle.styles[0]
        return "difference" if fits else "face"

    @composite.setter
    def composite(self, composite: str | None) -> None:
        if composite is not None and composite not in MODES:
            raise ValueError(f"composite: expected one of {', '.join(MODES)}, got {composite!r}")
        if composite == "replace" and self._max_faces > 1:
            raise ValueError(
                f"composite: expected one face with 'replace', which shows one avatar and nothing else, got "
                f"max_faces={self._max_faces}; choose 'head', or one face"
            )
        self._composite = composite
        self._compose_anew()

    @property
    def when_lost(self) -> Lost:
        """What is shown while no face is found: the frame, the last result held, or a blank.

        A replaced frame shows no real face; losing track for a moment must not show it either, so that it is
        held unless something else was chosen.
        """
        return self._when_lost or ("hold" if self.composite == "replace" else "frame")

    @when_lost.setter
    def when_lost(self, when_lost: Lost) -> None:
        if when_lost not in get_args(Lost):
            raise ValueError(f"when_lost: expected one of {', '.join(get_args(Lost))}, got {when_lost!r}")
        self._when_lost = when_lost

    @property
    def edits(self) -> dict[str, float]:
        """Direction name -> strength. Assigning checks names and ranges; takes effect at once."""
        return self._edits

    @edits.setter
    def edits(self, edits: Mapping[str, float]) -> None:
        edits = self._editor.expanded(edits)
        self._editor.check(edits)
        self._edits = edits

    @property
    def style(self) -> str:
        """Which generator draws the codes; assigning switches at once."""
        return self._style

    @style.setter
    def style(self, style: str) -> None:
        session = self.bundle.generator(style)
        self._synthesize = Synthesizer(session)
        self._style = style
        self._compose_anew()

    def process(
        self,
        frame: Image,  # BGR uint8 [H,W,3]; not modified
        time_s: float | None = None,  # when it was taken; None: 1/30 s after the one before
    ) -> Image:
        """Edit every face of ``frame``; a new picture of the same shape."""
        check_image(frame)
        self._time_s = self._time_s + FRAME_S if time_s is None else time_s
        edits = self.edits  # may be assigned from another thread
        gaze = {name: value for name, value in edits.items() if self.bundle.directions[name].where == "eyes"}
        looks = {name: value for name, value in edits.items() if name not in gaze}
        with self.clock.stage("track"):
            faces = self._track(frame)
        if not faces:
            if self.marker is not None:
                self.marker.latest = False
            return self._lost(frame)
        # A replaced frame shows nothing of the one that was given, so that need not be copied.
        replaced = self.composite == "replace"
        out = np.empty(frame.shape, np.uint8) if replaced else frame.copy()
        for face in faces:
            person = self.people[face.id]
            person.face = face
            with self.clock.stage("align"):
                person.crop = align(frame, face, self._encoder.crop_size)
            with self.clock.stage("encode"):
                person.own_codes = self._encode(person.crop, person)
            with self.clock.stage("edit"):
                drawn = truncate(person.own_codes, self.bundle.latent_avg, self.truncation)
                person.codes = self._editor.apply(drawn, looks if person.compositor is None else edits)
            if person.compositor is None:
                self._add_difference(out, person, looks)
                if gaze:
                    self._move_eyes(out, person, gaze)
                continue
            with self.clock.stage("synthesize"):
                person.picture = self._synthesize(person.codes)
            with self.clock.stage("composite"):
                person.compositor.apply(out, person.picture, person.crop, face)
        if self.composite != "replace":
            seen = [person.crop.pixels[0] for person in self.people.values() if person.crop is not None]
            self._tone.keep(frame, out, seen)
        if self.marker is not None:
            with self.clock.stage("mark"):
                crops = [person.crop for person in self.people.values() if person.crop is not None]
                self.marker.apply(out, None if replaced else frame, crops)
        self._latest = out.copy() if self.when_lost == "hold" else None
        self.clock.frame()
        return out

    def _add_difference(self, out: Image, person: Person, edits: Mapping[str, float]) -> None:
        """Without an edit the frame stays as it came, to the byte."""
        assert person.crop is not None and person.own_codes is not None and person.codes is not None  # noqa: PT018
        own, codes, person.picture = person.own_codes, person.codes, None
        if np.array_equal(codes, own):
            return
        with self.clock.stage("synthesize"):
            effects = {name: self.bundle.effect(name) for name in self._editor.active(edits)}
            motion = {name: edits[name] for name, effect in effects.items() if effect.moves}
            shift = self._editor.shift(own, motion, effects) if motion else None
            looks = [name for name in effects if name not in motion]
            fading = [
                name for name in looks if edits[name] > 0 and self.bundle.directions[name].hue == "fades"
            ]
            needed = max((effect.size for effect in effects.values()), default=ALL_SIZES)
            size = person.difference.size_for(person.crop, self._synthesize.size, needed)
            all_codes = [own, codes]
            if motion and (len(motion) < len(effects) or self.truncation != 1):
                # Looks are compared where things have moved to.
                all_codes.insert(1, self._mover.apply(own, motion))
            rows = partial(person.difference.rows, crop=person.crop, shift=shift)
            plain, moved, person.picture = parts_of(
                self._synthesize.together(all_codes, size, rows), bool(motion)
            )
        with self.clock.stage("composite"):
            person.difference.apply(
                out,
                plain,
                moved,
                person.picture,
                person.crop,
                shift,
                self._time_s,
                fades=bool(looks) and fading == looks,
            )

    def _move_eyes(self, out: Image, person: Person, gaze: Mapping[str, float]) -> None:
        """Edits of the gaze move the person's own irises; nothing has to be drawn for that."""
        assert person.crop is not None and person.own_codes is not None  # noqa: PT018
        effects = {name: self.bundle.effect(name) for name in gaze}
        shift = self._editor.shift(person.own_codes, gaze, effects)
        with self.clock.stage("composite"):
            move_irises(out, person.crop, shift[list(LEFT_EYE)].mean(axis=0))

    def process_frame(self, frame: Frame) -> Frame:
        """:meth:`process` as ``run_live`` and ``run_files`` take it."""
        return replace(frame, image=self.process(frame.image, frame.time_s))

    def reset(self) -> None:
        """Forget all faces, e.g. at a cut or between unrelated pictures."""
        self._tracker.reset()
        self.people.clear()
        self._known.clear()
        self._latest = None
        self._tone.reset()

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
            compositor=self._new_compositor(),
            difference=Difference(),
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

    def _new_compositor(self) -> Compositor | None:
        return None if self.composite == "difference" else Compositor(self.composite)

    def _compose_anew(self) -> None:
        """Another mode or style: what was matched for the one before does not count."""
        self._latest = None
        for person in self._known.values():
            person.compositor, person.difference = self._new_compositor(), Difference()

    def _new_smoother(self) -> LatentSmoother:
        spread = self.bundle.latent.get("w_std", 1.0)
        # Behind a lock only motion changes the codes, and it comes from smooth landmarks: little is left.
        return LatentSmoother(spread, beta=_LOCKED_BETA) if self._identity_lock else LatentSmoother(spread)

    def _lost(self, frame: Image) -> Image:
        if self.when_lost == "frame":
            return frame.copy()
        if self.when_lost == "hold" and self._latest is not None and self._latest.shape == frame.shape:
            return self._latest.copy()
        return np.full_like(frame, 24)
