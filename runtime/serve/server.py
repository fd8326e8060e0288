"""The socket side: uvicorn with bounds on connections that it does not have itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import SourceError
from ..host.memory import give_back
from .app import create_app
from .desk import Desk
from .guard import Door

MOST_CONNECTIONS: Final = 128
HEAD_S: Final = 5.0  # a connection that has not asked for anything after so long is closed
MOST_MESSAGE: Final = 8 << 20  # bytes of a socket's message: an uncompressed frame of 2560x1600
MOST_HEAD: Final = 16 << 10
GIVE_BACK_S: Final = 60  # a page may be live for days: memory that is free goes back to the system
TICKS_A_SECOND: Final = 10  # uvicorn's
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class BoundedProtocol(H11Protocol):
    """Closes connections beyond MOST_CONNECTIONS at once, and those that ask for nothing after a while."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= MOST_CONNECTIONS:
            super().connection_made(transport)
            transport.abort()
            return
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_S, self._idle)

    def handle_events(self) -> None:
        super().handle_events()
        if self.headers is not None:  # a whole head came; until then the base class says None
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _idle(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def configure(
    app: Any,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
) -> uvicorn.Config:
    """uvicorn for what ``create_app`` makes."""
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="websockets-sansio",
        ws_max_size=MOST_MESSAGE,
        ws_per_message_deflate=False,
        ws_ping_interval=10,
        ws_ping_timeout=20,
        h11_max_incomplete_event_size=MOST_HEAD,
        backlog=128,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
        access_log=False,  # addresses carry tokens
        log_level="error",
        server_header=False,
        proxy_headers=False,  # what a client says about itself decides nothing
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket; port 0: any free one. Raises SourceError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.set_inheritable(True)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"{host}:{port}: cannot listen: {reason}; choose another --port or --host"
        ) from None
    return listener


def run(
    desk: Desk,
    door: Door,
    listener: socket.socket,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until Ctrl-C. The desk is started and closed here, the listener is closed."""
    with listener:
        desk.start()
        try:
            app, hang_up = create_app(desk, door)
            server = _Server(configure(app, certificate=certificate, key=key), on_ready, hang_up)
            server.run(sockets=[listener])
        finally:
            desk.close()


@contextlib.contextmanager
def serving(desk: Desk, door: Door, listener: socket.socket, **options: Any) -> Iterator[None]:
    """Serve in a thread as long as the block runs: for tests and benchmarks."""
    desk.start()
    ready = threading.Event()
    app, hang_up = create_app(desk, door)
    server = _Server(configure(app, **options), ready.set, hang_up)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        if not ready.wait(10):
            raise SourceError("the server did not start")
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        desk.close()
        listener.close()


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None], hang_up: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._hang_up = hang_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % (GIVE_BACK_S * TICKS_A_SECOND) == TICKS_A_SECOND:  # first, what starting has left
            await asyncio.to_thread(give_back)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hang_up()  # nobody's endless stream must be waited for
        await super().shutdown(sockets)
