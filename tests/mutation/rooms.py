"""The rooms of the flow, whose tests are to notice what is broken in them, and what nobody can notice."""

from __future__ import annotations

# Room -> (what is broken, whose tests are to notice). What tests start as processes of their own is whole.
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pipeline": (("runtime/pipeline.py",), ("test_pipeline", "test_heart")),
    "source": (
        ("runtime/source",),
        (
            *("test_source", "test_source_video", "test_source_images", "test_source_camera"),
            *("test_pace", "test_times", "test_video_color", "test_picture_colors"),
        ),
    ),
    "track": (
        ("runtime/track",),
        ("test_track", "test_track_search", "test_region", "test_one_euro", "test_expression"),
    ),
    "align": (("runtime/align.py",), ("test_align",)),
    "encode": (("runtime/encode.py",), ("test_encode", "test_pipeline", "test_heart")),
    "edit": (("runtime/edit",), ("test_edit", "test_effects", "test_direction_files")),
    "synthesize": (
        ("runtime/synthesize.py",),
        ("test_synthesize", "test_pipeline", "test_heart"),
    ),
    "composite": (
        ("runtime/composite",),
        ("test_composite", "test_masks", "test_difference", "test_anchor", "test_eye_contact"),
    ),
    "sink": (("runtime/sink",), ("test_sink", "test_sink_video", "test_sink_window", "test_tracks")),
    "schedule": (("runtime/schedule",), ("test_schedule", "test_schedule_moments")),
    "cli": (
        tuple(
            f"runtime/cli/{name}.py"
            for name in ("image", "live", "options", "processor", "progress", "video")
        ),
        ("test_options", "test_options_live", "test_cli", "test_cli_files", "test_processor", "test_presets"),
    ),
}

# Survivors that nobody could notice: (file, the line -> what became of it) -> why.
JUDGED: dict[tuple[str, str], str] = {
    (
        "runtime/encode.py",
        "return [np.concatenate(step) for step in zip(*runs, strict=True)]"
        " -> return [np.concatenate(step) for step in zip(*runs, strict=False)]",
    ): "every crop takes the same number of steps",
    (
        "runtime/encode.py",
        "self.memory[0] = start.reshape(-1) -> self.memory[0] = start.reshape(-3)",
    ): "NumPy takes any negative side for the one to be found",
    (
        "runtime/encode.py",
        "self._began_s = 0.0 -> self._began_s = 1.0",
    ): "set at the first code, before it is read",
    (
        "runtime/schedule/threads.py",
        "self._stop() -> pass",
    ): "the caller looks for errors ten times a second and stops all itself",
}
