"""Recordings: what is shown, as MP4 with the sound that a page sends along.

The encoder runs in a thread of its own behind a short queue; frames that it has no time for are left out,
never made to wait. A recording is written aside and takes its name, which nobody but this file chooses, when
it is complete.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from ..errors import SinkError
from ..mark.metadata import write_source_type
from ..sink.video import CODECS, LIMITED, bgr_to_yuv
from ..source.color import BT709
from .studio import Result, Studio, kind_of

TIME_BASE: Final = Fraction(1, 60000)
QUEUE: Final = 8  # frames
LONGEST_S: Final = 2 * 3600
SOUND_LATE_S: Final = 0.25  # sound further than this from its place is set to its place
_NAME = re.compile(r"doppelgan-\d{8}-\d{6}(-\d+)?\.mp4")


class Recorder:
    """At most one recording at a time; keeps those that there are in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._take: Recording | None = None
        self._leave: Callable[[], None] | None = None
        self._studio: Studio | None = None
        self._lock = threading.Lock()
        self.failure: str | None = None

    @property
    def name(self) -> str | None:
        """Of the recording that is being made."""
        take = self._take
        return None if take is None else take.path.name

    def start(self, studio: Studio) -> str:
        """Begin; returns the name. Raises SinkError."""
        with self._lock:
            if self._take is not None:
                raise SinkError(
                    f"recording: expected none under way, got {self._take.path.name}; stop it first"
                )
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SinkError(f"{self.folder}: cannot be a folder: {error.strerror}") from None
            self.failure = None
            self._take = Recording(self._free_name())
            self._leave = studio.listen(self._take.offer)
            self._studio = studio
            return self._take.path.name

    def sound(self, samples: memoryview, rate: int, time_ms: float) -> None:
        """int16 mono of the page whose camera is shown; time_ms: of its first sample, on its own clock."""
        take = self._take
        if take is not None:
            take.offer_sound(bytes(samples), rate, time_ms)

    def stop(self) -> str:
        """Complete the file; returns its name. Raises SinkError."""
        with self._lock:
            take, leave, self._take, self._leave = self._take, self._leave, None, None
        if take is None or leave is None:
            raise SinkError("recording: expected one under way, there is none; start one first")
        leave()
        try:
            take.close()
            if self._studio is not None and take.path.is_file():
                write_source_type(take.path, kind_of(self._studio.controls))
        except SinkError as error:
            self.failure = str(error)
            raise
        return take.path.name

    def close(self) -> None:
        if self._take is not None:
            with contextlib.suppress(SinkError):
                self.stop()

    def status(self) -> dict[str, Any] | None:
        take = self._take
        if take is None:
            return None
        return {
            "name": take.path.name,
            "seconds": round(take.seconds, 1),
            "frames": take.frames,
            "left_out": take.left_out,
            "sound": take.has_sound,
            "failure": take.failure,
        }

    def list(self) -> list[dict[str, Any]]:
        """Newest first."""
        if not self.folder.is_dir():
            return []
        files = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_file()]
        return [{"name": path.name, "bytes": path.stat().st_size} for path in sorted(files, reverse=True)]

    def path(self, name: str) -> Path | None:
        """Of a finished recording; None for anything else."""
        path = self.folder / name
        return path if _NAME.fullmatch(name) and path.is_file() else None

    def delete(self, name: str) -> bool:
        path = self.path(name)
        if path is not None:
            path.unlink(missing_ok=True)
        return path is not None

    def _free_name(self) -> Path:
        stem = f"doppelgan-{datetime.now():%Y%m%d-%H%M%S}"
        paths = [self.folder / f"{stem}.mp4", *(self.folder / f"{stem}-{n}.mp4" for n in range(2, 100))]
        return next(path for path in paths if not path.exists())


class Recording:
    """One file under construction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = self.left_out = 0
        self.seconds = 0.0
        self.has_sound = False
        self.failure: str | None = None
        self._part = path.with_name(f".{path.name}.part")
        self._items: queue.Queue[Any] = queue.Queue(QUEUE)
        self._sounds: queue.Queue[Any] = queue.Queue(200)
        self._reformatter = VideoReformatter()
        self._container: Any = None
        self._video: Any = None
        self._audio: Any = None
        self._shape: tuple[int, ...] = ()
        self._start_ms: float | None = None
        self._last_pts = -1
        self._samples = 0  # written
        self._thread = threading.Thread(target=self._work, name="doppelgan-recorder", daemon=True)
        self._thread.start()

    def offer(self, result: Result) -> None:
        """In the studio's thread: never waits."""
        if result.state != "live":
            return
        try:
            self._items.put_nowait(result)
        except queue.Full:
            self.left_out += 1

    def offer_sound(self, samples: bytes, rate: int, time_ms: float) -> None:
        if 8000 <= rate <= 96000 and len(samples) % 2 == 0:
            with contextlib.suppress(queue.Full):
                self._sounds.put_nowait((samples, rate, time_ms))

    def close(self) -> None:
        self._items.put(None)
        self._thread.join(60)
        if self.failure is not None:
            raise SinkError(f"{self.path.name}: {self.failure}")

    def _work(self) -> None:
        try:
            while (result := self._items.get()) is not None:
                if self.failure is None and self.seconds < LONGEST_S:
                    try:
                        self._write(result)
                    except (FFmpegError, OSError) as error:
                        self.failure = f"cannot be written: {getattr(error, 'strerror', None) or error}"
        finally:
            self._finish()

    def _write(self, result: Result) -> None:
        image = result.image
        if self._container is None:
            self._begin(image.shape)
        if image.shape != self._shape:
            from .outputs import _fitted

            image = _fitted(image, self._shape)
        if self._start_ms is None or result.time_ms < self._start_ms or self._is_far(result.time_ms):
            # The first frame, or another camera with another clock: go on where the film is.
            self._start_ms = result.time_ms - self.seconds * 1e3 - (33.3 if self.frames else 0)
        seconds = (result.time_ms - self._start_ms) / 1e3
        pts = max(round(seconds / TIME_BASE), self._last_pts + 1)
        picture = bgr_to_yuv(image, "yuv420p", self._reformatter)
        picture.pts, picture.time_base = pts, TIME_BASE
        self._container.mux(self._video.encode(picture))
        self._last_pts, self.seconds = pts, float(pts * TIME_BASE)
        self.frames += 1
        while not self._sounds.empty():
            self._write_sound(*self._sounds.get_nowait())

    def _is_far(self, time_ms: float) -> bool:
        return self._start_ms is not None and (time_ms - self._start_ms) / 1e3 - self.seconds > 60

    def _begin(self, shape: tuple[int, ...]) -> None:
        height, width = (side // 2 * 2 for side in shape[:2])
        self._shape = (height, width, 3)
        codec = next((name for name in CODECS if name in av.codecs_available), None)
        if codec is None:
            raise OSError("this FFmpeg encodes none of " + ", ".join(CODECS))
        self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})
        options = {"preset": "ultrafast", "crf": "20"} if codec == "libx264" else {}
        self._video = self._container.add_stream(codec, rate=30, options=options)
        context = self._video.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = TIME_BASE
        context.thread_count = 1
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        # A stream cannot be added later, so there is one for sound from the start; it may stay silent.
        self._audio = self._container.add_stream("aac", rate=48000, layout="mono")
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=48000)

    def _write_sound(self, samples: bytes, rate: int, time_ms: float) -> None:
        if self._start_ms is None or not samples:
            return
        at = round((time_ms - self._start_ms) / 1e3 * 48000)
        if at < 0 or at > (self.seconds + 5) * 48000:
            return
        if at - self._samples > SOUND_LATE_S * 48000 or not self.has_sound:
            self._silence(at - self._samples)
        elif self._samples - at > SOUND_LATE_S * 48000:
            return
        self.has_sound = True
        frame = av.AudioFrame.from_ndarray(np.frombuffer(samples, "<i2")[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for piece in self._resampler.resample(frame):
            self._encode_sound(piece)

    def _silence(self, count: int) -> None:
        while count > 0:
            block = min(count, 48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, block), np.float32), format="fltp", layout="mono")
            self._encode_sound(frame)
            count -= block

    def _encode_sound(self, frame: Any) -> None:
        frame.sample_rate, frame.pts, frame.time_base = 48000, self._samples, Fraction(1, 48000)
        self._samples += frame.samples
        self._container.mux(self._audio.encode(frame))

    def _finish(self) -> None:
        try:
            if self._container is None:
                self.failure = self.failure or "no frame came while it was recording"
                return
            if self.failure is None:
                while not self._sounds.empty():
                    self._write_sound(*self._sounds.get_nowait())
                if not self.has_sound:
                    self._silence(round(self.seconds * 48000))
                self._container.mux(self._video.encode(None))
                self._container.mux(self._audio.encode(None))
            self._container.close()
            if self.failure is None:
                self._part.replace(self.path)
        except (FFmpegError, OSError) as error:
            self.failure = f"cannot be written: {getattr(error, 'strerror', None) or error}"
        finally:
            self._part.unlink(missing_ok=True)


def now_name() -> str:
    """For downloads that are stored nowhere."""
    return time.strftime("%Y%m%d-%H%M%S")
