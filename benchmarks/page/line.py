"""A thin network line, between two sockets of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any


class ThinLine:
    """A proxy that lets so many bits a second through in each direction."""

    def __init__(self, target: int, bits_per_s: float) -> None:
        self.bytes_per_s = bits_per_s / 8
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._server: Any = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=4096)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target, limit=4096)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(4096)
        with contextlib.suppress(OSError):
            while data := await reader.read(1400):
                await asyncio.sleep(len(data) / self.bytes_per_s)
                writer.write(data)
                await writer.drain()
        writer.close()
