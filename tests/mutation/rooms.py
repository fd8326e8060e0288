"""The rooms of the flow, whose tests are to notice what is broken in them, and what nobody can notice."""

from __future__ import annotations

# Room -> (what is broken, whose tests are to notice). What tests start as processes of their own is whole.
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pipeline": (("runtime/pipeline.py",), ("test_pipeline", "test_pipeline_edits", "test_heart")),
    "source": (
        ("runtime/source",),
        (
            *("test_source", "test_source_video", "test_source_images", "test_source_camera"),
            *("test_source_kinds", "test_source_pattern"),
            *("test_source_video_files", "test_source_video_missing"),
            *("test_pace", "test_times", "test_video_color", "test_video_color_rules", "test_picture_colors"),
        ),
    ),
    "track": (
        ("runtime/track",),
        ("test_track", "test_track_search", "test_region", "test_one_euro", "test_expression"),
    ),
    "align": (("runtime/align.py",), ("test_align",)),
    "encode": (("runtime/encode.py",), ("test_encode", "test_pipeline", "test_heart")),
    "edit": (
        ("runtime/edit",),
        (
            *("test_edit", "test_edit_mixing", "test_edit_files", "test_edit_directions"),
            *("test_words", "test_effects"),
        ),
    ),
    "synthesize": (
        ("runtime/synthesize.py",),
        ("test_synthesize", "test_pipeline", "test_heart"),
    ),
    "composite": (
        ("runtime/composite",),
        (
            *("test_composite", "test_composite_places", "test_masks", "test_difference", "test_anchor"),
            "test_eye_contact",
        ),
    ),
    "sink": (
        ("runtime/sink",),
        (
            *(
                "test_sink",
                "test_sink_outputs",
                "test_sink_window",
                "test_sink_video",
                "test_sink_video_files",
            ),
            *("test_tracks", "test_sound", "test_subtitles", "test_ffmpeg", "test_times"),
            *("test_video_color", "test_video_color_rules"),
        ),
    ),
    "schedule": (("runtime/schedule",), ("test_schedule", "test_schedule_moments")),
    "cli": (
        tuple(
            f"runtime/cli/{name}.py"
            for name in ("image", "live", "options", "processor", "progress", "video")
        ),
        (
            *("test_options", "test_options_live", "test_options_limits", "test_live_keys", "test_progress"),
            *("test_cli", "test_cli_files", "test_cli_images", "test_processor", "test_presets"),
        ),
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
        "runtime/cli/options.py",
        "F = TypeVar('F', bound=Callable[..., Any]) -> F = TypeVar('F', bound=None)",
    ): "for the type checker",
    (
        "runtime/edit/array_file.py",
        "head = file.read(16) -> head = file.read(33)",
    ): "nobody looks beyond the ninth byte",
    (
        "runtime/edit/direction_files.py",
        "codes = array.astype(np.float32).reshape(-1, rows, w_dim)"
        " -> codes = array.astype(np.float32).reshape(-3, rows, w_dim)",
    ): "NumPy takes any negative side for the one to be found",
    (
        "runtime/edit/direction_files.py",
        "count = len(components) if components.ndim else 0"
        " -> count = len(components) if components.ndim else 1",
    ): "a lone number is refused either way: no generator has codes of one",
    (
        "runtime/edit/editor.py",
        "flat = codes.reshape(len(codes), -1) -> flat = codes.reshape(len(codes), -3)",
    ): "NumPy takes any negative side for the one to be found",
    (
        "runtime/edit/editor.py",
        "if self._probes is not None and self._steps is not None:"
        " -> if self._probes is not None or self._steps is not None:",
    ): "both are set and unset together; the second is for the type checker",
    (
        "runtime/edit/words.py",
        "while first > 0 and (out[first - 1] in _ADJECTIVES or out[first - 1] in (',', 'and')):"
        " -> while first >= 0 and (out[first - 1] in _ADJECTIVES or out[first - 1] in (',', 'and')):",
    ): "before the first word comes the last one by Python's counting, which is hair itself",
    (
        "runtime/edit/words.py",
        "return abs(high if way > 0 else low) -> return abs(high if way >= 0 else low)",
    ): "no degree is 0, and so no wish is",
    (
        "runtime/edit/words.py",
        "return (None, 0) -> return (None, 1)",
    ): "compared with the length of a phrase only, which is at least 1",
    (
        "runtime/schedule/threads.py",
        "self._stop() -> pass",
    ): "the caller looks for errors ten times a second and stops all itself",
    (
        "runtime/composite/difference.py",
        "if shift is not None and np.abs(shift).max() * size >= native.reference.STILL:"
        " -> if shift is not None and np.abs(shift).max() * size > native.reference.STILL:",
    ): "no measured movement is exactly as far as the limit",
    (
        "runtime/composite/movement.py",
        "if apart > least: -> if apart >= least:",
    ): "no measured distance is exactly the limit, at which the part counts as 0",
    (
        "runtime/composite/masks.py",
        "self._known_s = 0.0 -> self._known_s = 1.0",
    ): "set at the first frame, before it is read",
    (
        "runtime/composite/paste.py",
        "to_soft = rescaled(matrix, picture.shape[1], texels.shape[0])"
        " -> to_soft = rescaled(matrix, picture.shape[1], texels.shape[1])",
    ): "texels are square",
    (
        "runtime/source/pace.py",
        "self._next_s = 0.0 -> pass",
    ): "set at the first frame, before it is read",
    (
        "runtime/source/pace.py",
        "self._next_s = 0.0 -> self._next_s = 1.0",
    ): "set at the first frame, before it is read",
    (
        "runtime/source/times.py",
        "return Fraction(rate) if rate and 0 < rate <= HIGHEST_RATE else None -> return"
        " Fraction(rate) if rate and 0 <= rate <= HIGHEST_RATE else None",
    ): "0 counts as no rate before it is compared",
    (
        "runtime/source/video.py",
        "return Fraction(rate) if rate and 0 < rate <= HIGHEST_RATE else None -> return"
        " Fraction(rate) if rate and 0 <= rate <= HIGHEST_RATE else None",
    ): "0 counts as no rate before it is compared",
    (
        "runtime/source/color.py",
        "cells = np.random.default_rng(0).integers(64, 192, (4, 4, 3), np.uint8) -> cells ="
        " np.random.default_rng(1).integers(64, 192, (4, 4, 3), np.uint8)",
    ): "any sample of such colors says the same",
    (
        "runtime/source/video.py",
        "_IDENTITY: _Turn = (1, 0, 0, 1) -> _IDENTITY: _Turn = (1, 0, 1, 1)",
    ): "a turn by nothing leaves the picture as it is",
    (
        "runtime/source/video.py",
        "_IDENTITY: _Turn = (1, 0, 0, 1) -> _IDENTITY: _Turn = (1, 1, 0, 1)",
    ): "a turn by nothing leaves the picture as it is",
    (
        "runtime/source/video.py",
        "_IDENTITY: _Turn = (1, 0, 0, 1) -> _IDENTITY: _Turn = (1, 0, 0, 3)",
    ): "a turn by nothing leaves the picture as it is",
    (
        "runtime/source/video.py",
        "_IDENTITY: _Turn = (1, 0, 0, 1) -> _IDENTITY: _Turn = (3, 0, 0, 1)",
    ): "a turn by nothing leaves the picture as it is",
    (
        "runtime/sink/sound.py",
        "if self._last is not None and packet.dts < self._last + tick: -> if self._last is not"
        " None and packet.dts <= self._last + tick:",
    ): "at that very time it is moved to where it is",
    (
        "runtime/sink/sound.py",
        "head = bytes(packet)[:4] -> head = bytes(packet)[:9]",
    ): "only the first four are looked at",
    (
        "runtime/sink/video.py",
        "red = np.full((16, 16, 3), (0, 0, 255), np.uint8) -> red = np.full((33, 16, 3), (0, 0,"
        " 255), np.uint8)",
    ): "every pixel is of the same color",
    (
        "runtime/sink/video.py",
        "red = np.full((16, 16, 3), (0, 0, 255), np.uint8) -> red = np.full((16, 33, 3), (0, 0,"
        " 255), np.uint8)",
    ): "every pixel is of the same color",
    (
        "runtime/sink/video.py",
        "luma = bgr_to_yuv(red, 'yuv420p', VideoReformatter(),"
        " Color(matrix=BT2020_NCL)).to_ndarray()[0, 0] -> luma = bgr_to_yuv(red, 'yuv420p',"
        " VideoReformatter(), Color(matrix=BT2020_NCL)).to_ndarray()[1, 0]",
    ): "every pixel is of the same color",
    (
        "runtime/sink/video.py",
        "luma = bgr_to_yuv(red, 'yuv420p', VideoReformatter(),"
        " Color(matrix=BT2020_NCL)).to_ndarray()[0, 0] -> luma = bgr_to_yuv(red, 'yuv420p',"
        " VideoReformatter(), Color(matrix=BT2020_NCL)).to_ndarray()[0, 1]",
    ): "every pixel is of the same color",
    (
        "runtime/sink/video.py",
        "mark = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8] -> mark ="
        " hashlib.sha256(os.fsencode(path.name)).hexdigest()[:17]",
    ): "a longer mark tells names apart as well",
    (
        "runtime/sink/tracks.py",
        "PEEK_PACKETS = 12 -> PEEK_PACKETS = 25",
    ): "a track is tried on more packets, with the same answer",
    (
        "runtime/sink/sound.py",
        "LAYOUTS = {1: 'mono', 2: 'stereo', 3: '2.1', 4: '4.0', 5: '5.0', 6: '5.1', 7: '6.1', 8:"
        " '7.1'} -> LAYOUTS = {1: 'mono', 5: 'stereo', 3: '2.1', 4: '4.0', 5: '5.0', 6: '5.1', 7:"
        " '6.1', 8: '7.1'}",
    ): "two channels become stereo anyway, as any number without a name",
    (
        "runtime/sink/tracks.py",
        "if (full or count > PEEK_LIMIT) and (not configs): -> if (full or count >= PEEK_LIMIT)"
        " and (not configs):",
    ): "one packet of thousands more is looked through",
    (
        "runtime/sink/tracks.py",
        "PEEK_LIMIT = 3000 -> PEEK_LIMIT = 6001",
    ): "thousands of packets more are looked through",
    (
        "runtime/sink/tracks.py",
        "if len(kept) < PEEK_PACKETS: -> if len(kept) <= PEEK_PACKETS:",
    ): "a track is tried on one packet more, with the same answer",
    (
        "runtime/sink/tracks.py",
        "full = all((len(first.get(i, ())) >= PEEK_PACKETS for i in needed)) -> full ="
        " all((len(first.get(i, ())) > PEEK_PACKETS for i in needed))",
    ): "looked through for one packet more",
    (
        "runtime/sink/video.py",
        "self._threads = threads or max(1, (os.cpu_count() or 1) // 2) -> self._threads = threads"
        " or max(1, (os.cpu_count() or 3) // 2)",
    ): "half of 3 processors is 1, as is the least",
    (
        "runtime/source/pattern.py",
        "radius = self._disc.shape[0] // 2 - 1 -> radius = self._disc.shape[1] // 2 - 1",
    ): "the disc is as wide as it is high",
    (
        "runtime/source/color.py",
        "signal = np.stack([red, green, blue], -1).reshape(-1, 3) -> signal = np.stack([red,"
        " green, blue], -1).reshape(-3, 3)",
    ): "NumPy takes any negative side for the one to be found",
    (
        "runtime/source/opencv_capture.py",
        "ok, picture = self._capture.read() if self._capture.isOpened() else (False, None) -> ok,"
        " picture = self._capture.read() if self._capture.isOpened() else (True, None)",
    ): "there is no picture either way",
}
