"""WebRTC through aiortc: a second way for the page's frames, for real networks (UDP, jitter, loss).

aiortc's own bounds suit small video calls; here the bitrates may go higher, and both ends drop old pictures:
the receiver keeps only the newest, and ``recv`` of the result gives the newest there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from fractions import Fraction
from typing import Any

from aiortc import RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.codecs import h264, vpx
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame
from av.video.reformatter import VideoReformatter

from ..errors import SourceError
from .desk import Desk
from .frames import check_size, to_bgr
from .studio import Job, Result

MOST_CONNECTIONS = 4
BITRATE = 4_000_000  # to begin with; aiortc's own are 1 Mbit/s of H.264 and 0.5 of VP8
MOST_BITRATE = 12_000_000
STRIP = 16  # rows, as the page draws them
CLOCK = Fraction(1, 90000)
_connections: set[RTCPeerConnection] = set()


def raise_bitrates() -> None:
    """For encoders that are made from now on."""
    for codec in (h264, vpx):
        vars(codec).update(DEFAULT_BITRATE=BITRATE, MAX_BITRATE=MOST_BITRATE)


class ResultTrack(VideoStreamTrack):
    """What the studio makes, newest only."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._own_loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._newest: Result | None = None
        self._started_s: float | None = None
        self._leave = desk.studio.listen(self._listen)

    def _listen(self, result: Result) -> None:
        self._newest = result
        with contextlib.suppress(RuntimeError):
            self._own_loop.call_soon_threadsafe(self._changed.set)

    async def recv(self) -> Any:
        await self._changed.wait()
        self._changed.clear()
        result = self._newest
        if result is None or self.readyState != "live":
            raise MediaStreamError
        whole = result.whole()
        height, width = (side // 2 * 2 for side in whole.shape[:2])
        frame = VideoFrame.from_ndarray(whole[:height, :width], format="bgr24")
        now_s = time.monotonic()
        self._started_s = self._started_s or now_s
        frame.pts, frame.time_base = int((now_s - self._started_s) * 90000), CLOCK
        return frame

    def stop(self) -> None:
        super().stop()
        self._leave()
        self._changed.set()


async def answer(sdp: str, kind: str, desk: Desk, *, plain: bool = False) -> dict[str, str]:
    """Answer a page's offer; its track is the source of frames as long as it lives. Raises SourceError.

    plain: aiortc as it is, for comparison.
    """
    if len(_connections) >= MOST_CONNECTIONS:
        raise SourceError(f"WebRTC: expected at most {MOST_CONNECTIONS} connections; close another page")
    if not plain:
        raise_bitrates()
    connection = RTCPeerConnection()
    _connections.add(connection)
    result = ResultTrack(desk)
    tasks: set[asyncio.Task[None]] = set()

    @connection.on("track")
    def on_track(track: Any) -> None:
        if track.kind == "video":
            tasks.add(asyncio.ensure_future(_receive(track, desk, plain=plain)))

    @connection.on("connectionstatechange")
    async def on_state() -> None:
        if connection.connectionState in ("failed", "closed", "disconnected"):
            result.stop()
            for task in tasks:
                task.cancel()
            _connections.discard(connection)
            await connection.close()

    try:
        connection.addTrack(result)
        await connection.setRemoteDescription(RTCSessionDescription(sdp, kind))
        await connection.setLocalDescription(await connection.createAnswer())
    except Exception as error:  # aiortc raises whatever its parser stumbles over
        result.stop()
        _connections.discard(connection)
        await connection.close()
        raise SourceError(f"WebRTC: expected an offer, got {type(error).__name__}: {error}") from None
    description = connection.localDescription
    return {"sdp": description.sdp, "type": description.type}


async def close_all() -> None:
    """End every connection, as at the server's end."""
    for connection in list(_connections):
        await connection.close()
    _connections.clear()


async def _receive(track: Any, desk: Desk, *, plain: bool) -> None:
    reformatter = VideoReformatter()
    desk.use_page(track)
    number = 0
    try:
        while True:
            frame = await track.recv()
            if not plain:  # what has piled up behind it is newer
                while not track._queue.empty():
                    frame = await track.recv()
            try:
                check_size(frame.width, frame.height)
            except SourceError:
                continue
            number += 1
            strip = STRIP if frame.height > 4 * STRIP else 0
            now_ms = time.monotonic() * 1e3

            def decode(frame: Any = frame) -> Any:
                return to_bgr(frame, reformatter)

            if not desk.studio.offer(track, Job(decode, number, now_ms, strip)):
                return
    except MediaStreamError:
        pass
    finally:
        desk.leave(track)
