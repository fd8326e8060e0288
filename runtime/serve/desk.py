"""Where everything comes together: controls, studio, presets, pictures, recordings, and who is connected.

The HTTP interface and the live socket only translate to and from the methods here.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..bundle import Bundle, list_bundles, open_bundle
from ..composite import MODES
from ..errors import BundleError, DoppelganError, EditError, SourceError
from ..host.user_folders import data_folder
from ..manifest import style_steps
from ..presets import Presets
from .controls import Changes, Controls, History, check, preset_of, shown_mode, with_preset
from .enrollment import Enrollment
from .frames import encode_jpeg
from .gallery import Gallery
from .outputs import Output
from .recorder import Recorder
from .server_source import ServerSource
from .studio import Result, Studio, build_pipeline

# Where the page shows a direction whose bundle says nothing about it.
GROUPS: dict[str, tuple[str, ...]] = {
    "person": ("age", "age_skin", "gender", "gender_shape", "skin_tone"),
    "expression": ("smile", "mouth_open", "eye_open", "brow"),
    "hair": ("hair_length", "hair_color", "grey", "baldness", "beard", "mustache"),
    "pose": ("yaw", "pitch", "roll", "gaze_x", "gaze_y", "eye_contact_x", "eye_contact_y"),
    "looks": ("glasses", "makeup", "hat"),
}
PRESET_PICTURE_SIDE = 160  # px


class Desk:
    """One run of the server."""

    def __init__(
        self,
        bundle: str = "demo",
        *,
        settings: dict[str, Any] | None = None,  # of Controls
        backend: str | None = None,
        threads: int | None = None,
        source: str | None = None,  # None: the page's camera
        outputs: tuple[str, ...] = (),  # sinks that are fed meanwhile, e.g. "camera:"
        folder: Path | None = None,  # presets and recordings
    ) -> None:
        folder = data_folder() if folder is None else folder
        self.presets = Presets(folder / "presets")
        self._open = {"backend": backend, "threads": threads}
        self._paths = self._found_bundles(folder / "engines")
        opened = self._opened(bundle)
        self._paths.setdefault(opened.path.name, opened.path)
        controls = check(Controls(bundle=opened.path.name, **(settings or {})), opened)
        self.history = History(controls)
        self.studio = Studio(opened, controls)
        self.gallery = Gallery(lambda live: self._opened(str(live.path)))
        self.recorder = Recorder(folder / "recordings")
        self.enrollment = Enrollment(folder / "engines")
        self._bundle = opened
        self._turning = threading.Lock()
        self._server_source: ServerSource | None = None
        self.outputs: list[Output] = []
        self.started_s = time.monotonic()
        self.version = 0  # of the controls, counts up
        self.age_ms: float | None = None  # glass to glass, as a page measured it last
        self.on_change: Callable[[], None] = lambda: None  # the controls, the source or the presets changed
        self._first_source = source
        self._output_names = outputs

    def start(self) -> None:
        """Begin to work. Raises SinkError and SourceError."""
        with contextlib.ExitStack() as opened:
            opened.callback(self.close)
            self.studio.start()
            self.outputs = [Output(name, self.studio) for name in self._output_names]
            if self._first_source is not None:
                self.use_server_source(self._first_source)
            opened.pop_all()

    def close(self) -> None:
        with contextlib.ExitStack() as closing:
            closing.callback(self._bundle.close)
            closing.callback(self.studio.close)
            closing.callback(self.recorder.close)
            closing.callback(self.gallery.close)
            closing.callback(self.enrollment.close)
            for output in self.outputs:
                closing.callback(output.close)
            if self._server_source is not None:
                closing.callback(self._server_source.close)

    @property
    def controls(self) -> Controls:
        return self.history.present

    @property
    def bundle(self) -> Bundle:
        """The one that the controls name."""
        return self._bundle

    def change(self, changes: Changes) -> Controls:
        """Check the changes and use them from the next frame on. Raises EditError, BundleError."""
        with self._turning:
            return self._use(changes.applied(self.controls), self.history.set)

    def undo(self) -> Controls | None:
        with self._turning:
            return self._step(self.history.undo, self.history.redo)

    def redo(self) -> Controls | None:
        with self._turning:
            return self._step(self.history.redo, self.history.undo)

    def reset(self) -> Controls:
        """Every edit away, every dial where it was made to be; style, mode and bundle stay."""
        with self._turning:
            now = self.controls
            plain = Controls(
                bundle=now.bundle,
                style=now.style,
                composite=now.composite,
                badge=now.badge,
                max_faces=now.max_faces,
            )
            return self._use(plain, self._remember_apart)

    def apply_preset(self, name: str) -> Controls:
        """Edits that this bundle does not know are left out. Raises EditError."""
        with self._turning:
            controls = with_preset(self.controls, self.presets.read(name))
            return self._use(controls, self._remember_apart, forgiving=True)

    def save_preset(self, name: str) -> None:
        """The present look under a name, with the present picture. Raises EditError."""
        latest = self.studio.latest
        picture = None if latest is None or latest.state == "lost" else _small(latest)
        self.presets.write(name, preset_of(self.controls), picture)
        self.on_change()

    def delete_preset(self, name: str) -> bool:
        there = self.presets.delete(name)
        self.on_change()
        return there

    def use_server_source(self, text: str) -> None:
        """Frames of a camera, file or stream of this machine from now on. Raises SourceError."""
        opened = ServerSource(text, self.studio)
        self._drop_server_source()
        self._server_source = opened
        opened.start()
        self.on_change()

    def use_page(self, page: object) -> None:
        """Frames of a page's camera from now on."""
        self._drop_server_source()
        self.studio.take_source(page)
        self.on_change()

    def leave(self, page: object) -> None:
        """A page's camera ended."""
        if self.studio.source is page:
            self.studio.take_source(None)
            self.on_change()

    def wait_for_page(self) -> None:
        """No server's source any more; a page may bring its camera."""
        self._drop_server_source()
        self.studio.take_source(None)
        self.on_change()

    @property
    def source_name(self) -> str | None:
        """ "page", what `--source` would be given, or None."""
        if self._server_source is not None:
            return self._server_source.name
        return None if self.studio.source is None else "page"

    def describe(self) -> dict[str, Any]:
        """Everything a page needs to draw its controls."""
        history = self.history
        return {
            "version": self.version,
            "controls": history.present,
            "can_undo": history.can_undo,
            "can_redo": history.can_redo,
            "source": self.source_name,
            "recording": self.recorder.name,
            "presets": self.presets.names(),
            "composite": shown_mode(history.present, self._bundle),
            "bundle": describe_bundle(self._bundle),
            "bundles": sorted(self._paths),
            "modes": list(MODES),
        }

    def status(self) -> dict[str, Any]:
        """Figures that change all the time."""
        studio = self.studio
        report = studio.report()
        stages = {stage.name: round(stage.median_ms, 2) for stage in report.stages}
        state = studio.state()
        return {
            "state": state,
            "failure": studio.failure or studio.watchdog.failure,
            "frames_per_s": round(report.frames_per_s, 2) if report.frames_per_s and state == "live" else 0.0,
            "taken": studio.taken,
            "dropped": studio.replaced,
            "refused": studio.refused,
            "stages_ms": stages,
            "recording": self.recorder.status(),
            "outputs": [output.status() for output in self.outputs],
            "uptime_s": round(time.monotonic() - self.started_s, 1),
        }

    def refresh_bundles(self) -> None:
        """Look again for bundles, e.g. after one was enrolled."""
        own = {self._bundle.path.name: self._bundle.path}
        self._paths = self._found_bundles(self.enrollment.engines) | own
        self.on_change()

    def enroll(self, picture: str, name: str, *, consent: bool) -> None:
        """A picture of the gallery becomes a bundle, chosen when it is done. BundleError, SourceError."""
        self.enrollment.start(
            self.gallery.get(picture).image, name, str(self._bundle.path), consent, self._enrolled
        )

    def _enrolled(self, name: str) -> None:
        self.refresh_bundles()
        self.change(Changes(bundle=name))

    @staticmethod
    def _found_bundles(own: Path) -> dict[str, Path]:
        """Name -> folder: those that every command finds, and those that were enrolled from the page."""
        enrolled = {path.parent.name: path.parent for path in sorted(own.glob("*/manifest.json"))}
        return enrolled | {path.name: path for path in list_bundles()}

    def _drop_server_source(self) -> None:
        if self._server_source is not None:
            self._server_source.close()
            self._server_source = None

    def _opened(self, name: str) -> Bundle:
        return open_bundle(name, **self._open)  # type: ignore[arg-type]

    def _step(
        self, step: Callable[[], Controls | None], back: Callable[[], Controls | None]
    ) -> Controls | None:
        controls = step()
        if controls is None:
            return None
        try:
            return self._use(controls, lambda _: None)
        except DoppelganError:
            back()
            raise

    def _remember_apart(self, controls: Controls) -> None:
        self.history.set(controls, apart=True)

    def _use(
        self, controls: Controls, remember: Callable[[Controls], None], *, forgiving: bool = False
    ) -> Controls:
        bundle = self._bundle
        if controls.bundle != self.controls.bundle or controls.bundle != bundle.path.name:
            # By name only: a path that a client sends is none of a page's business.
            path = self._paths.get(controls.bundle)
            if path is None:
                raise BundleError(
                    f"bundle {controls.bundle!r}: not found; bundles here: {', '.join(sorted(self._paths))}"
                )
            if path != bundle.path:
                bundle, forgiving = self._opened(str(path)), True
        try:
            controls = check(controls, bundle, known_edits_only=forgiving)
            if bundle is not self._bundle:
                _warm_up(bundle, controls)
        except BaseException:
            if bundle is not self._bundle:
                bundle.close()
            raise
        self._bundle = bundle
        remember(controls)
        self.studio.turn(bundle, controls)
        self.version += 1
        self.on_change()
        return controls


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """Its styles and sliders."""
    return {
        "name": bundle.path.name,
        "description": bundle.manifest.description,
        "styles": list(bundle.styles),
        "dials": style_steps(bundle.styles),
        "image_size": bundle.image_size,
        "has_memory": bundle.encoder.appearance_size > 0,
        "directions": [
            {
                "name": name,
                "range": list(direction.range),
                "limit": direction.limit,
                "ends": list(direction.ends),
                "unit": direction.unit,
                "note": "; ".join(filter(None, (direction.moves, direction.note))),
                "kind": direction.kind,
                "group": next((group for group, names in GROUPS.items() if name in names), "more"),
            }
            for name, direction in bundle.directions.items()
        ],
    }


def _warm_up(bundle: Bundle, controls: Controls) -> None:
    """Load the networks now, so that the live run does not stand still for it."""
    build_pipeline(bundle, controls)
    for network in ("detector", "landmarks"):
        bundle.session(network)
    bundle.synthesize(bundle.latent_avg[None], controls.style)


def _small(result: Result) -> bytes:
    """A square picture of what is shown, around the first face."""
    from PIL import Image as pillow

    image = result.image
    height, width = image.shape[:2]
    side, x, y = min(height, width), width / 2, height / 2
    if result.faces:
        corners = result.faces[0].square
        x, y = (sum(corner[axis] for corner in corners) / 4 for axis in (0, 1))
    left = int(min(max(x - side / 2, 0), width - side))
    top = int(min(max(y - side / 2, 0), height - side))
    cut = pillow.fromarray(image[top : top + side, left : left + side])
    import numpy as np

    small = np.asarray(cut.resize((PRESET_PICTURE_SIDE, PRESET_PICTURE_SIDE), pillow.Resampling.BOX))
    return encode_jpeg(small, 82)


__all__ = ["Desk", "EditError", "SourceError", "describe_bundle"]
