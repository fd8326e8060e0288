"""The ASGI application: static page, HTTP interface, live socket, streams for other programs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from .api import Api
from .desk import Desk
from .frames import encode_jpeg
from .guard import Door, Guard
from .live import Sockets
from .studio import Result, Studio

SENDERS: Final = 2  # threads that encode for pages which were not ready when a result came
STATIC: Final = Path(__file__).parent / "static"
MOST_STREAMS: Final = 4
STREAM_REPEAT_S: Final = 1.0  # a still picture is sent again: players take silence for an end
_BOUNDARY: Final = b"doppelgan-frame"


def create_app(desk: Desk, door: Door) -> tuple[Guard, Callable[[], None]]:
    """What uvicorn runs, and what hangs up on everybody before it ends.

    The desk must have been started; it is not closed here.
    """
    sockets = Sockets(desk)
    api = Api(desk, sockets)
    streams = Streams(desk.studio)

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def avatar(request: Request) -> Response:
        return FileResponse(STATIC / "avatar.html")

    async def favicon(request: Request) -> Response:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")

    async def login_page(request: Request) -> Response:
        if door.password is None:
            return RedirectResponse("/", 303)
        return FileResponse(STATIC / "login.html", status_code=200)

    async def login(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > 10_000:
                return Response(status_code=413)
        form = parse_qs(body.decode("utf-8", "replace"))
        if door.password is not None and door.check_password(
            form.get("password", [""])[0], request.client.host if request.client else ""
        ):
            return Response(
                status_code=303, headers={"location": "/", "set-cookie": door.set_cookie().decode()}
            )
        await asyncio.sleep(0.5)
        return RedirectResponse("/login?wrong", 303)

    async def live(websocket: WebSocket) -> None:
        await sockets.serve(websocket)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # asyncio's own pool grows by a thread whenever all are busy; each keeps memory of its own.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(SENDERS, "doppelgan-send"))
        teller = asyncio.create_task(sockets.tell_status())
        yield
        teller.cancel()
        if "doppelgan.runtime.serve.webrtc" in sys.modules:
            from .webrtc import close_all

            await close_all()

    routes: list[BaseRoute] = [
        Route("/", index),
        Route("/avatar", avatar),
        Route("/favicon.ico", favicon),
        Route("/login", login_page, methods=["GET"]),
        Route("/login", login, methods=["POST"]),
        Route("/stream.mjpg", streams.serve),
        WebSocketRoute("/live", live),
        *api.routes(),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]

    def hang_up() -> None:
        sockets.close()
        streams.close()

    return Guard(Starlette(routes=routes, lifespan=lifespan), door), hang_up


class Streams:
    """``/stream.mjpg``: for OBS and players. A slow reader gets fewer pictures, none older."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._count = 0
        self._closing = False
        self._events: set[asyncio.Event] = set()

    async def serve(self, request: Request) -> Response:
        quality = request.query_params.get("quality", "85")
        if not (quality.isascii() and quality.isdigit() and 20 <= int(quality) <= 95):
            return Response("quality: expected 20..95\n", 422)
        strip = request.query_params.get("strip") == "1"
        if self._count >= MOST_STREAMS:
            return Response("too many streams are open\n", 503)
        return StreamingResponse(
            self._parts(int(quality), strip=strip),
            media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}",
        )

    async def _parts(self, quality: int, *, strip: bool) -> AsyncIterator[bytes]:
        if self._count >= MOST_STREAMS:
            return
        self._count += 1
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        newest: list[Result | None] = [self._studio.latest]

        def take(result: Result) -> None:
            newest[0] = result
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        leave = self._studio.listen(take)
        self._events.add(changed)
        try:
            while not self._closing:
                result = newest[0]
                if result is not None:
                    data = await asyncio.to_thread(result.jpeg, quality, strip=strip)
                    head = b"--%b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                    yield head % (_BOUNDARY, len(data)) + data + b"\r\n"
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), STREAM_REPEAT_S)
                changed.clear()
        finally:
            leave()
            self._events.discard(changed)
            self._count -= 1

    def close(self) -> None:
        """End every stream: the server ends."""
        self._closing = True
        for event in self._events:
            event.set()


__all__ = ["Streams", "create_app", "encode_jpeg"]
