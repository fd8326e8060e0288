"""What the HTTP interface takes and gives, as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from .controls import Controls


class State(Struct):
    """The controls, and what they may be."""

    version: int
    controls: Controls
    can_undo: bool
    can_redo: bool
    source: str | None  # "page", a source of the server, or null
    recording: str | None
    presets: list[str]
    composite: str  # the mode in effect
    bundle: dict[str, Any]
    bundles: list[str]
    modes: list[str]


class Named(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=100)]


class SourceChoice(Struct):
    """``page``, or what `doppelgan live --source` takes; null: whichever page comes next."""

    source: Annotated[str, Meta(max_length=1000)] | None


class Mix(Struct):
    first: str
    second: str
    weight: Annotated[float, Meta(ge=0, le=1)] = 0.5
    rows: str | None = None  # "coarse", "coarse+middle" ...; null: all


class Enrollee(Struct):
    """A picture of `/api/pictures` that becomes an avatar."""

    picture: str
    name: Annotated[str, Meta(min_length=1, max_length=40)]
    consent: bool  # of the person in the picture


class EnrollmentInfo(Struct):
    available: bool
    running: bool
    done: bool
    name: str
    line: str  # what it said last
    failure: str | None
    picture: int | None  # changes with the picture of `/api/enrollment/picture`


class Offer(Struct):
    """A session description; ``plain``: leave aiortc as it is, for comparison."""

    sdp: str
    type: str
    plain: bool = False


class Health(Struct):
    status: str


class PictureInfo(Struct):
    id: str
    width: int
    height: int


class RecordingInfo(Struct):
    name: str
    bytes: int
