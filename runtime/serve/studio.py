"""The live run behind the page: one pipeline in one thread, the newest frame only.

Whoever has frames calls :meth:`Studio.offer`; a frame that comes before the last one was taken replaces it.
Whoever wants results adds a listener, which is called in the studio's thread with every :class:`Result` and
must return at once. Controls take effect between two frames. The studio outlives every connection: pages,
cameras and transports come and go without resetting it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import DoppelganError, SourceError
from ..mark.badge import Badge
from ..mark.marker import Marker
from ..pipeline import Pipeline
from ..schedule.watchdog import Lost, State, Watchdog, no_signal
from ..timing import Clock, Report
from ..types import Image
from .controls import Controls
from .frames import encode_jpeg

TICK_S: Final = 0.1
CARD_S: Final = 0.5  # between two "no signal" cards
FACE_STALE_S: Final = 1.0  # a face that was lost for longer is gone
WINDOW: Final = 120  # frames that the statistics look back
RESULT_QUALITY: Final = 85


@dataclass(frozen=True, slots=True)
class FaceView:
    """What the tracker sees of one face."""

    id: int
    score: float
    square: list[list[float]]  # four corners (x, y) of the aligned crop, frame px
    mesh: NDArray[np.uint16]  # [468,2], 1/16 px

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "score": round(self.score, 3), "square": self.square}


@dataclass(slots=True)
class Job:
    """A frame on its way into the studio."""

    decode: Callable[[], Image]  # BGR with its strip; called in the studio's thread, may raise SourceError
    number: int
    time_ms: float  # capture, of the sender's clock
    strip: int = 0  # rows at the bottom that are not picture
    jpeg: bytes | None = None  # the frame as it came, where that is a JPEG
    on_taken: Callable[[float], None] = lambda waited_ms: None
    on_refused: Callable[[str], None] = lambda reason: None
    offered_s: float = field(default_factory=time.monotonic)


class Result:
    """A finished frame; encoded once for all who want it the same way."""

    def __init__(
        self,
        image: Image,
        number: int,
        time_ms: float,
        *,
        state: State,
        strip: Image | None = None,
        before: Image | None = None,
        before_jpeg: bytes | None = None,  # with its strip
        faces: list[FaceView] | None = None,
        face_state: str = "lost",  # "live", "stale" or "lost"
        badge: tuple[int, int, int, int] | None = None,  # x, y, width, height of the one drawn into it
    ) -> None:
        self.image = image
        self.number = number
        self.time_ms = time_ms
        self.state: State = state
        self.strip = strip
        self.faces = faces or []
        self.face_state = face_state
        self.badge = badge
        self.before = before
        self.finished_s = time.monotonic()
        self._before_jpeg = before_jpeg
        self._jpegs: dict[tuple[int, bool], bytes] = {}
        self._lock = threading.Lock()

    @property
    def strip_rows(self) -> int:
        return 0 if self.strip is None else len(self.strip)

    def whole(self) -> Image:
        """The image above its strip."""
        return self.image if self.strip is None else np.concatenate([self.image, self.strip])

    def jpeg(self, quality: int = RESULT_QUALITY, *, strip: bool = False) -> bytes:
        key = (quality, strip and self.strip is not None)
        with self._lock:
            if key not in self._jpegs:
                self._jpegs[key] = encode_jpeg(self.whole() if key[1] else self.image, quality)
            return self._jpegs[key]

    def before_jpeg(self) -> bytes:
        """The frame as it came; its strip, if it has one, is still below. Empty if there is none."""
        with self._lock:
            if self._before_jpeg is None:
                self._before_jpeg = b"" if self.before is None else encode_jpeg(self.before)
            return self._before_jpeg


Listener = Callable[[Result], None]


class Studio:
    """Runs frames through a pipeline in a thread of its own."""

    def __init__(self, bundle: Bundle, controls: Controls) -> None:
        self._changed = threading.Condition()
        self._inbox: Job | None = None
        self._wanted: tuple[Bundle, Controls] | None = None
        self._reset = False
        self._ended = False
        self._listeners: tuple[Listener, ...] = ()
        self.source: object | None = None  # whose frames are taken
        self.latest: Result | None = None
        self.taken = self.replaced = self.refused = 0
        self.failure: str | None = None  # why the pipeline gives nothing
        self.watchdog = Watchdog()
        self._clock = Clock(WINDOW)
        self._bundle, self._controls = bundle, controls
        self._pipeline = self._build(bundle, controls)
        self._faces: list[FaceView] = []
        self._faces_s = -1e9
        self._thread = threading.Thread(target=self._work, name="doppelgan-studio", daemon=True)

    def start(self) -> None:
        self.watchdog.start(time.monotonic())
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(10)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every result from now on; returns what ends that."""
        with self._changed:
            self._listeners = (*self._listeners, listener)

        def leave() -> None:
            with self._changed:
                self._listeners = tuple(other for other in self._listeners if other is not listener)

        return leave

    def take_source(self, source: object | None) -> None:
        """Frames of ``source`` count from now on, those of others no more."""
        with self._changed:
            if self.source is not source:
                self.source, self._inbox, self._reset = source, None, True
                self.watchdog.failure = None

    def offer(self, source: object, job: Job) -> bool:
        """False if frames of this source are not wanted."""
        with self._changed:
            if self._ended or source is not self.source:
                return False
            if self._inbox is not None:
                self.replaced += 1
            self._inbox = job
            self._changed.notify_all()
            return True

    @property
    def controls(self) -> Controls:
        """What is in effect."""
        return self._controls

    def turn(self, bundle: Bundle, controls: Controls) -> None:
        """Use these from the next frame on; they must have been checked."""
        with self._changed:
            self._wanted = (bundle, controls)

    def report(self) -> Report:
        return self._clock.report()

    @property
    def bundle(self) -> Bundle:
        return self._bundle

    def state(self) -> State:
        return self.watchdog.state(time.monotonic())

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._inbox is not None or self._ended, TICK_S)
                if self._ended:
                    return
                job, self._inbox = self._inbox, None
                wanted, self._wanted = self._wanted, None
                reset, self._reset = self._reset, False
            try:
                if wanted is not None:
                    self._take_over(*wanted)
                if reset:
                    self._pipeline.reset()
                if job is None:
                    self._tick()
                else:
                    self._serve(job)
            except SourceError as error:
                self.refused += 1
                if job is not None:
                    job.on_refused(str(error))
            except Exception as error:
                # Whatever a backend raises must not end the run: the page says it and turns something else.
                self.failure = (
                    f"{type(error).__name__}: {error}"
                    if not isinstance(error, DoppelganError)
                    else str(error)
                )
                if job is not None:
                    job.on_refused(self.failure)

    def _serve(self, job: Job) -> None:
        started_s = time.monotonic()
        self.taken += 1
        job.on_taken((started_s - job.offered_s) * 1e3)
        with self._clock.stage("read"):
            whole = job.decode()
        rows = whole.shape[0] - job.strip
        if rows < 2:
            raise SourceError(
                f"frame: expected rows above its strip of {job.strip}, got {whole.shape[0]} in all"
            )
        frame, strip = whole[:rows], whole[rows:] if job.strip else None
        with self._clock.stage("pipeline"):
            image = self._pipeline.process(frame, job.time_ms / 1e3)
            # A replaced frame shows nothing of the camera's, at no share.
            if self._controls.blend < 1 and self._pipeline.composite != "replace":
                image = blended(frame, image, self._controls.blend, self._pipeline)
        now_s = time.monotonic()
        faces = self._seen()
        if faces:
            self._faces, self._faces_s = faces, now_s
        stale = now_s - self._faces_s <= FACE_STALE_S
        self.watchdog.output(now_s)
        self.failure = None
        self._clock.frame()
        self._publish(
            Result(
                image,
                job.number,
                job.time_ms,
                state="live",
                strip=strip,
                before=frame,
                before_jpeg=job.jpeg,
                faces=faces or (self._faces if stale else []),
                face_state="live" if faces else "stale" if stale else "lost",
                badge=badge_box(image, self._pipeline),
            )
        )
        self._clock.record("send", time.monotonic() - now_s)
        self._clock.record("age", time.monotonic() - job.offered_s)

    def _publish(self, result: Result) -> None:
        self.latest = result
        for listener in self._listeners:
            listener(result)

    def _tick(self) -> None:
        """Nothing came for a moment: when it is too long, say so instead of showing the last picture."""
        now_s = time.monotonic()
        state = self.watchdog.state(now_s)
        latest = self.latest
        if state != "lost" or (
            latest is not None and latest.state == "lost" and now_s - latest.finished_s < CARD_S
        ):
            return
        size = (640, 480) if latest is None else (latest.image.shape[1], latest.image.shape[0])
        card = no_signal(Lost(size, self.watchdog.failure or "", self.watchdog.age_s(now_s), None, None))
        self._publish(Result(card, 0, 0.0, state="lost"))

    def _take_over(self, bundle: Bundle, controls: Controls) -> None:
        old, pipeline = self._controls, self._pipeline
        rebuilt = (
            bundle is not self._bundle
            or controls.max_faces != old.max_faces
            or controls.identity_lock != old.identity_lock
        )
        if rebuilt:
            self._pipeline = self._build(bundle, controls)
            if bundle is not self._bundle:
                self._bundle.close()
        else:
            pipeline.edits = controls.edits
            if controls.style != old.style:
                pipeline.style = controls.style
            if controls.composite != old.composite:
                pipeline.composite = controls.composite
            pipeline.marker = marker_of(controls)
            pipeline.truncation = controls.truncation
            pipeline.steps = controls.steps
        self._bundle, self._controls = bundle, controls

    def _build(self, bundle: Bundle, controls: Controls) -> Pipeline:
        pipeline = build_pipeline(bundle, controls)
        self._clock = pipeline.clock = Clock(WINDOW)
        return pipeline

    def _seen(self) -> list[FaceView]:
        faces = []
        for person in self._pipeline.people.values():
            face, crop = person.face, person.crop
            if face is None or crop is None:
                continue
            side = crop.size - 0.5
            corners = np.array([[-0.5, -0.5, 1], [side, -0.5, 1], [side, side, 1], [-0.5, side, 1]])
            square = (corners @ crop.matrix.T).round(1).tolist()
            mesh = np.clip(face.landmarks[:, :2] * 16, 0, 65535).astype("<u2")
            faces.append(FaceView(face.id, face.score, square, mesh))
        return faces


def build_pipeline(bundle: Bundle, controls: Controls, *, smoothing: bool = True) -> Pipeline:
    """The pipeline that the controls describe."""
    return Pipeline(
        bundle,
        controls.edits,
        controls.style,
        controls.composite,
        max_faces=controls.max_faces,
        truncation=controls.truncation,
        steps=controls.steps,
        smoothing=smoothing,
        identity_lock=controls.identity_lock,
        marker=marker_of(controls),
    )


def marker_of(controls: Controls) -> Marker:
    """Badge and watermark as the commands put them on."""
    badge = None if controls.badge == "off" else Badge(controls.badge)
    return Marker(kind_of(controls), badge)


def kind_of(controls: Controls) -> str:
    """What marks call a picture that is made so."""
    return "avatar" if controls.composite == "replace" else "edited"


def blended(before: Image, after: Image, share: float, pipeline: Pipeline) -> Image:
    """``before`` and ``share`` of the way to ``after``, under a badge that is not blended away."""
    image = np.array(_blend(before, after, share))
    marker = pipeline.marker
    if share > 0 and marker is not None and marker.latest and marker.badge is not None:
        marker.badge.draw(image, marker.kind)
    return image


def badge_box(image: Image, pipeline: Pipeline) -> tuple[int, int, int, int] | None:
    """Where the badge is that was drawn into the latest frame: a page turns its letters back in a mirror."""
    marker = pipeline.marker
    if marker is None or marker.badge is None or not marker.latest or not pipeline.people:
        return None
    return marker.badge.box(image.shape, marker.kind)


def _blend(before: Image, after: Image, share: float) -> Image:
    """``before`` and ``share`` of the way to ``after``."""
    from PIL import Image as pillow

    first, second = (pillow.fromarray(np.ascontiguousarray(image)) for image in (before, after))
    return np.asarray(pillow.blend(first, second, share))
