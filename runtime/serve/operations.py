"""The table of the HTTP interface: method, path, handler, and what goes in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .controls import Changes, Controls
from .messages import (
    Enrollee,
    EnrollmentInfo,
    Health,
    Mix,
    Named,
    Offer,
    PictureInfo,
    RecordingInfo,
    SourceChoice,
    State,
)
from .openapi import Operation

if TYPE_CHECKING:
    from .api import Api

_SIZE = (("size", "integer", "longest side in px of a JPEG; without it a PNG at full size"),)


def operations(api: Api) -> list[Operation]:
    """Every operation, in the order in which the document lists them."""
    return [
        Operation(
            "GET", "/api/health", api.health, "Is the server up? Needs no token.", "server", None, Health
        ),
        Operation("GET", "/api/metrics", api.metrics, "Prometheus text.", "server", None, "text/plain"),
        Operation(
            "GET", "/api/status", api.status, "Frames/s, stages, drops.", "server", None, dict[str, Any]
        ),
        Operation(
            "GET", "/api/state", api.state, "All controls, sliders and choices.", "controls", None, State
        ),
        Operation("PATCH", "/api/state", api.change, "Turn some controls.", "controls", Changes, Controls),
        Operation("POST", "/api/undo", api.undo, "One step back.", "controls", None, Controls),
        Operation("POST", "/api/redo", api.redo, "One step forward again.", "controls", None, Controls),
        Operation("POST", "/api/reset", api.reset, "Every edit away.", "controls", None, Controls),
        Operation(
            "PUT",
            "/api/source",
            api.choose_source,
            "Whose frames are edited.",
            "controls",
            SourceChoice,
            State,
        ),
        Operation("GET", "/api/presets", api.list_presets, "Names.", "presets", None, list[str]),
        Operation(
            "PUT",
            "/api/presets/{name}",
            api.save_preset,
            "Save the present look.",
            "presets",
            None,
            Named,
        ),
        Operation(
            "POST", "/api/presets/{name}", api.apply_preset, "Look like this.", "presets", None, Controls
        ),
        Operation(
            "DELETE", "/api/presets/{name}", api.delete_preset, "Forget it.", "presets", None, None, 204
        ),
        Operation(
            "GET",
            "/api/presets/{name}/picture",
            api.preset_picture,
            "How it looked.",
            "presets",
            None,
            "image/jpeg",
        ),
        Operation(
            "GET",
            "/api/snapshot.png",
            api.snapshot,
            "What is shown now, at full size.",
            "live",
            None,
            "image/png",
            query=(("what", "string", "after (default), before, or both"),),
        ),
        Operation(
            "POST", "/api/recording", api.start_recording, "Begin to record.", "live", None, Named, 201
        ),
        Operation(
            "DELETE",
            "/api/recording",
            api.stop_recording,
            "Complete the recording.",
            "live",
            None,
            Named,
        ),
        Operation(
            "GET",
            "/api/recordings",
            api.list_recordings,
            "Newest first.",
            "live",
            None,
            list[RecordingInfo],
        ),
        Operation("GET", "/api/recordings/{name}", api.get_recording, "The file.", "live", None, "video/mp4"),
        Operation(
            "DELETE",
            "/api/recordings/{name}",
            api.delete_recording,
            "Delete it.",
            "live",
            None,
            None,
            204,
        ),
        Operation(
            "GET",
            "/api/pictures",
            api.list_pictures,
            "Those that are loaded.",
            "pictures",
            None,
            list[PictureInfo],
        ),
        Operation(
            "POST",
            "/api/pictures",
            api.add_picture,
            "Load a picture file.",
            "pictures",
            "application/octet-stream",
            PictureInfo,
            201,
        ),
        Operation(
            "DELETE", "/api/pictures/{id}", api.delete_picture, "Forget it.", "pictures", None, None, 204
        ),
        Operation(
            "GET",
            "/api/pictures/{id}/before",
            api.picture_before,
            "As it came.",
            "pictures",
            None,
            "image/jpeg",
            query=_SIZE,
        ),
        Operation(
            "GET",
            "/api/pictures/{id}/after",
            api.picture_after,
            "Edited with the present controls.",
            "pictures",
            None,
            "image/jpeg",
            query=_SIZE,
        ),
        Operation(
            "GET",
            "/api/sheet.png",
            api.sheet,
            "All pictures, before and after.",
            "pictures",
            None,
            "image/png",
        ),
        Operation(
            "POST",
            "/api/mix",
            api.mix,
            "The first picture, its face mixed with the second's.",
            "pictures",
            Mix,
            "image/png",
        ),
        Operation("GET", "/api/enrollment", api.enrollment, "How far it is.", "enroll", None, EnrollmentInfo),
        Operation("POST", "/api/enrollment", api.enroll, "Begin.", "enroll", Enrollee, EnrollmentInfo, 201),
        Operation(
            "DELETE",
            "/api/enrollment",
            api.stop_enrollment,
            "Keep the best so far.",
            "enroll",
            None,
            None,
            204,
        ),
        Operation(
            "GET",
            "/api/enrollment/picture",
            api.enrollment_picture,
            "The avatar so far.",
            "enroll",
            None,
            "image/png",
        ),
        Operation("POST", "/api/webrtc", api.webrtc, "Answer an offer.", "live", Offer, Offer),
        Operation(
            "GET", "/api/openapi.json", api.describe, "This interface.", "server", None, dict[str, Any]
        ),
    ]
