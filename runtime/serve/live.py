"""The live socket: frames in, results out, at most one on its way in each direction.

A page sends its next frame when the last one was taken, and gets the next result when it has shown the last;
so a slow line or a slow page makes the picture less frequent, never older. ``wire.py`` lays out the messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..errors import DoppelganError, SourceError
from ..host.files import NOT_JSON
from . import wire
from .desk import Desk
from .frames import H264Reader, H264Writer, YuvReader, check_size, decode_jpeg
from .guard import Bucket
from .studio import Job, Result

MOST_SOCKETS: Final = 8
STATUS_S: Final = 0.5
FRAMES_PER_S: Final = 130.0
TEXTS_PER_S: Final = 400.0  # an acknowledgement a frame, and what people click
# A page that acknowledges nothing for so long gets the next result anyway, and twice as late the one after:
# whatever waits in a line that stands still is shown, late, when it moves again.
ACK_LATE_S: Final = 3.0
ACK_LATEST_S: Final = 96.0
MOST_TEXT: Final = 4096


class Want(msgspec.Struct, frozen=True):
    """What a page wants to get."""

    codec: str = "jpeg"  # or "h264"
    quality: int = 85
    bitrate: int = 2_500_000
    before: bool = False
    mesh: bool = False
    results: bool = True


class Text(msgspec.Struct, frozen=True):
    """A text message from a page."""

    type: str
    number: int = 0
    age_ms: float | None = None
    want: Want | None = None


class Socket:
    """One page."""

    def __init__(self, desk: Desk, socket: WebSocket) -> None:
        self._desk = desk
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._want = Want()
        self._credit = True
        self._sent_s = 0.0
        self._sent_number = 0
        self._late_s = ACK_LATE_S
        self._unsent: Result | None = None
        self._texts: list[bytes] = []
        self._message: bytes | None = None
        self._wake = asyncio.Event()
        self._frames = Bucket(FRAMES_PER_S, FRAMES_PER_S)
        self._texts_in = Bucket(TEXTS_PER_S, TEXTS_PER_S)
        self._yuv = YuvReader()
        self._h264 = H264Reader()
        self._writer = H264Writer()
        self.sent = self.skipped = 0

    async def run(self) -> None:
        """Serve it until it leaves."""
        leave = self._desk.studio.listen(self._listen)
        sender = asyncio.create_task(self._send())
        self.text({"type": "hello", "status_s": STATUS_S})
        self.text({"type": "controls", **self._desk.describe()})
        if self._desk.studio.latest is not None:
            self._listen(self._desk.studio.latest)
        try:
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if message.get("bytes"):
                    if not self._frames.take():
                        await self._socket.close(1008, "too many frames")
                        return
                    self._binary(message["bytes"])
                elif message.get("text") is not None:
                    if len(message["text"]) > MOST_TEXT or not self._texts_in.take():
                        await self._socket.close(1008, "too many or too large messages")
                        return
                    await self._text(message["text"])
        except WebSocketDisconnect:
            pass
        finally:
            leave()
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender
            self._desk.leave(self)

    def text(self, message: Any) -> None:
        """Send JSON soon; of several ``status`` and ``controls`` that wait, only the last."""
        data = msgspec.json.encode(message)
        kind = data[: data.find(b",")]
        if message["type"] in ("status", "controls"):
            self._texts = [other for other in self._texts if not other.startswith(kind)]
        if len(self._texts) < 100:
            self._texts.append(data)
        self._wake.set()

    def _binary(self, data: bytes) -> None:
        desk = self._desk
        try:
            message = wire.unpack(data)
            if message.kind == wire.SOUND:
                if desk.studio.source is self:
                    desk.recorder.sound(message.payload, message.sample_rate, message.time_ms)
                return
            check_size(message.width, message.height)
            if message.strip > 64 or message.strip >= message.height:
                raise SourceError(f"frame: expected a strip of at most 64 rows, got {message.strip}")
        except SourceError as error:
            self.text({"type": "error", "text": str(error)})
            return
        job = Job(
            lambda: self._decode(message),
            message.number,
            message.time_ms,
            message.strip,
            jpeg=bytes(message.payload) if message.codec == wire.JPEG else None,
            on_taken=lambda waited_ms: self._later(
                {"type": "ack", "number": message.number, "waited_ms": round(waited_ms, 1)}
            ),
            on_refused=lambda reason: self._refuse(message, reason),
        )
        if not desk.studio.offer(self, job):
            self.text({"type": "seat", "yours": False})

    def _decode(self, message: wire.Message) -> Any:
        """In the studio's thread."""
        if message.codec == wire.JPEG:
            return decode_jpeg(message.payload)
        if message.codec == wire.H264:
            return self._h264(message.payload)
        return self._yuv(
            message.payload,
            message.width,
            message.height,
            nv12=message.codec == wire.NV12,
            full_range=bool(message.flags & wire.FULL_RANGE),
            bt709=bool(message.flags & wire.BT709),
        )

    def _refuse(self, message: wire.Message, reason: str) -> None:
        """In the studio's thread."""
        if message.codec == wire.H264:
            self._h264 = H264Reader()
            self._later({"type": "key"})
        self._later({"type": "error", "text": reason})

    def _later(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.text, message)

    async def _text(self, text: str) -> None:
        try:
            message = msgspec.json.decode(text, type=Text)
        except NOT_JSON as error:
            self.text({"type": "error", "text": f"message: {error}"})
            return
        if message.type == "ack":
            if message.age_ms is not None and math.isfinite(message.age_ms):
                self._desk.age_ms = message.age_ms
            await self._acknowledged(message.number)
        elif message.type == "want" and message.want is not None:
            with self._lock:
                if message.want.codec != self._want.codec or message.want.bitrate != self._want.bitrate:
                    self._writer = H264Writer(min(max(message.want.bitrate, 100_000), 20_000_000))
                self._want = message.want
        elif message.type == "key":
            self._writer.restart()
        elif message.type == "camera":
            self._desk.use_page(self)
            self.text({"type": "seat", "yours": True})
        elif message.type == "leave":
            self._desk.leave(self)

    def _listen(self, result: Result) -> None:
        """In the studio's thread: pack the result if the page waits for one, else remember it."""
        with self._lock:
            if not self._want.results:
                return
            late = time.monotonic() - self._sent_s > self._late_s
            if not self._credit and not late:
                self.skipped += self._unsent is not None
                self._unsent = result
                return
            if not self._credit:
                self._late_s = min(2 * self._late_s, ACK_LATEST_S)
            self._credit, self._unsent, self._sent_s = False, None, time.monotonic()
            self._sent_number = result.number
            message = self._pack(result)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._post, message)

    async def _acknowledged(self, number: int) -> None:
        """Only the latest counts: were late ones answered by a result, as many would stay on their way."""
        with self._lock:
            if number != self._sent_number:
                return
            self._credit, self._late_s = True, ACK_LATE_S
            unsent, self._unsent = self._unsent, None
        if unsent is not None:
            await asyncio.to_thread(self._listen, unsent)

    def _post(self, message: bytes) -> None:
        self._message = message
        self._wake.set()

    def _pack(self, result: Result) -> bytes:
        want = self._want
        height, width = result.image.shape[:2]
        height += result.strip_rows
        flags = 0
        if want.codec == "h264":
            picture, key = self._writer(result.whole())
            codec, flags = wire.H264, wire.KEY if key else 0
            width, height = width // 2 * 2, height // 2 * 2
        else:
            picture, codec = result.jpeg(min(max(want.quality, 20), 95), strip=True), wire.JPEG
        parts = [picture, result.before_jpeg() if want.before else b""]
        parts.append(b"".join(face.mesh.tobytes() for face in result.faces) if want.mesh else b"")
        meta = {
            "state": result.state,
            "face_state": result.face_state,
            "badge": result.badge,
            "faces": [face.to_dict() for face in result.faces] if want.mesh else len(result.faces),
        }
        self.sent += 1
        return wire.pack(
            codec, flags, result.number, result.time_ms, (width, height), result.strip_rows, meta, parts
        )

    async def _send(self) -> None:
        """The only one who writes: texts first, then the newest result."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            texts, self._texts = self._texts, []
            message, self._message = self._message, None
            try:
                for text in texts:
                    await self._socket.send_text(text.decode())
                if message is not None:
                    await self._socket.send_bytes(message)
            except (RuntimeError, WebSocketDisconnect):
                return


class Sockets:
    """All pages; tells them what changed."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._all: set[Socket] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        desk.on_change = self._changed

    def __len__(self) -> int:
        return len(self._all)

    async def serve(self, websocket: WebSocket) -> None:
        """The endpoint."""
        self._loop = asyncio.get_running_loop()
        if self._closing.is_set() or len(self._all) >= MOST_SOCKETS:
            await websocket.close(1013, "too many pages are open")
            return
        await websocket.accept()
        socket = Socket(self._desk, websocket)
        self._all.add(socket)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await socket.run()
        except asyncio.CancelledError:
            if not self._closing.is_set():
                raise
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await websocket.close(1012, "the server ends")
        finally:
            self._all.discard(socket)
            self._tasks.discard(task)

    def close(self) -> None:
        """Hang up on every page: the server ends."""
        self._closing.set()
        for task in list(self._tasks):
            task.cancel()

    async def tell_status(self) -> None:
        """Runs as long as the server does."""
        while True:
            await asyncio.sleep(STATUS_S)
            if self._all:
                status = await asyncio.to_thread(self._desk.status)
                source = self._desk.studio.source
                for socket in self._all:
                    socket.text(
                        {"type": "status", **status, "yours": source is socket, "pages": len(self._all)}
                    )

    def _changed(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if self._all:
            description = self._desk.describe()
            for socket in self._all:
                socket.text({"type": "controls", **description})


__all__ = ["DoppelganError", "Socket", "Sockets"]
