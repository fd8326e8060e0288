"""Everything that can be turned, as one value; its changes, its checks and its history."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from ..bundle import Bundle
from ..composite import MODES
from ..edit import Editor
from ..errors import EditError
from ..mark.badge import CORNERS, Corner
from ..presets import Preset

MERGE_S: Final = 0.8  # turns of one control that follow each other this closely are one step of undo
STEPS_KEPT: Final = 200

Share = Annotated[float, Meta(ge=0, le=1)]
Truncation = Annotated[float, Meta(ge=0, le=1.5)]
Faces = Annotated[int, Meta(ge=1, le=16)]
Steps = Annotated[int, Meta(ge=1, le=20)]
Name = Annotated[str, Meta(max_length=100)]


class Controls(Struct, frozen=True, kw_only=True):
    """The state of all controls."""

    bundle: Name
    style: Name = "photo"
    composite: Name | None = None  # how the face goes back into the frame; null: as fits style and bundle
    edits: dict[str, float] = {}  # direction -> strength, zeros left out
    truncation: Truncation = 1.0
    blend: Share = 1.0  # of the result over the camera's picture
    identity_lock: bool = True
    badge: Corner | Literal["off"] = CORNERS[2]  # where the sign is that tells viewers what AI did
    max_faces: Faces = 1
    steps: Steps | None = None  # of a ReStyle encoder's loop; null: the bundle's own


class Changes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; whatever is left out stays. Edits are merged by name, null or 0 takes one away."""

    bundle: Name | UnsetType = UNSET
    style: Name | UnsetType = UNSET
    composite: Name | UnsetType | None = UNSET
    edits: dict[str, float | None] | UnsetType = UNSET
    truncation: Truncation | UnsetType = UNSET
    blend: Share | UnsetType = UNSET
    identity_lock: bool | UnsetType = UNSET
    badge: Corner | Literal["off"] | UnsetType = UNSET
    max_faces: Faces | UnsetType = UNSET
    steps: Steps | UnsetType | None = UNSET

    def applied(self, controls: Controls) -> Controls:
        """``controls`` with these changes."""
        given: dict[str, Any] = {
            name: value for name, value in structs.asdict(self).items() if value is not UNSET
        }
        if "edits" in given:
            merged: dict[str, float | None] = {**controls.edits, **given["edits"]}
            given["edits"] = {name: value for name, value in merged.items() if value}
        return structs.replace(controls, **given)


def check(controls: Controls, bundle: Bundle, *, known_edits_only: bool = False) -> Controls:
    """``controls`` if ``bundle`` can serve them. Raises EditError saying what it has.

    known_edits_only: leave out edits that the bundle does not know and fall back to its first style, as
    when another bundle is chosen.
    """
    styles = bundle.styles
    if known_edits_only:
        controls = structs.replace(
            controls,
            edits={name: value for name, value in controls.edits.items() if name in bundle.directions},
            style=controls.style if controls.style in styles else styles[0],
        )
    if controls.style not in styles:
        raise EditError(f"style {controls.style!r}: expected one of {', '.join(styles)}")
    if controls.composite not in (None, *MODES):
        raise EditError(f"composite {controls.composite!r}: expected one of {', '.join(MODES)}, or null")
    if controls.composite == "replace" and controls.max_faces > 1:
        raise EditError(
            f"composite 'replace': expected one face, as it shows one avatar and nothing else, got "
            f"max_faces={controls.max_faces}; choose 'head', or one face"
        )
    Editor(bundle.directions, bundle.latent_avg).check(controls.edits)
    return controls


def shown_mode(controls: Controls, bundle: Bundle) -> str:
    """The composite mode that a pipeline makes of these controls."""
    if controls.composite not in (None, "difference"):
        return str(controls.composite)
    anyone = bundle.manifest.enrollment is None or controls.composite == "difference"
    return "difference" if anyone and controls.style == bundle.styles[0] else "face"


def preset_of(controls: Controls) -> Preset:
    """What of the controls a preset keeps: how people look, not how many or where from."""
    return Preset(
        bundle=controls.bundle,
        style=controls.style,
        composite=controls.composite,
        edits=dict(controls.edits),
        truncation=controls.truncation,
        blend=controls.blend,
    )


def with_preset(controls: Controls, preset: Preset) -> Controls:
    """``controls`` looking as ``preset`` says."""
    return structs.replace(
        controls,
        style=preset.style,
        composite=preset.composite,
        edits=dict(preset.edits),
        truncation=preset.truncation,
        blend=preset.blend,
    )


class History:
    """The present controls, and those before and after for undo and redo. Any thread may call."""

    def __init__(self, controls: Controls, now_s: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._now_s = now_s
        self._present = controls
        self._past: list[Controls] = []
        self._future: list[Controls] = []
        self._changed_s = 0.0
        self._touched: frozenset[str] = frozenset()

    @property
    def present(self) -> Controls:
        return self._present

    @property
    def can_undo(self) -> bool:
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        return bool(self._future)

    def set(self, controls: Controls, *, apart: bool = False) -> None:
        """A step forward; without ``apart`` one with that before if the same was turned a moment ago."""
        with self._lock:
            if controls == self._present:
                return
            touched = _differences(self._present, controls)
            now_s = self._now_s()
            if apart or not (self._past and touched == self._touched and now_s - self._changed_s < MERGE_S):
                self._past = [*self._past[-STEPS_KEPT + 1 :], self._present]
            self._changed_s, self._touched = now_s, frozenset() if apart else touched
            self._present, self._future = controls, []

    def undo(self) -> Controls | None:
        """The controls one step back, now present; None at the beginning."""
        return self._move(self._past, self._future)

    def redo(self) -> Controls | None:
        """The controls that were undone last, now present; None if there are none."""
        return self._move(self._future, self._past)

    def _move(self, origin: list[Controls], target: list[Controls]) -> Controls | None:
        with self._lock:
            if not origin:
                return None
            target.append(self._present)
            self._present = origin.pop()
            self._touched = frozenset()
            return self._present


def _differences(before: Controls, after: Controls) -> frozenset[str]:
    names = {
        field
        for field in before.__struct_fields__
        if field != "edits" and getattr(before, field) != getattr(after, field)
    }
    edits = {
        f"edits.{name}"
        for name in before.edits.keys() | after.edits.keys()
        if before.edits.get(name) != after.edits.get(name)
    }
    return frozenset(names | edits)
