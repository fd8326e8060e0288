"""The HTTP interface: everything that the page turns, for programs too."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any, TypeVar

import msgspec
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ..errors import DoppelganError
from ..host.files import NOT_JSON
from ..mark.metadata import with_source_type
from ..types import Image
from .controls import Changes
from .desk import Desk
from .frames import encode_jpeg, encode_png, fit_within
from .live import Sockets
from .messages import (
    Enrollee,
    Health,
    Mix,
    Named,
    Offer,
    SourceChoice,
)
from .metrics import metrics_text
from .openapi import Problem, document
from .operations import operations
from .studio import kind_of

T = TypeVar("T")
BUSY = 4  # pictures that wait for the gallery's thread; more are refused


class Api:
    """Handlers; ``operations.py`` has the table of them, ``messages.py`` what they take and give."""

    def __init__(self, desk: Desk, sockets: Sockets) -> None:
        self._desk = desk
        self._sockets = sockets
        self._waiting = 0
        self.operations = operations(self)

    def routes(self) -> list[Route]:
        return [Route(one.path, _guarded(one.handler), methods=[one.method]) for one in self.operations]

    async def health(self, request: Request) -> Response:
        return _json(Health("ok"))

    async def metrics(self, request: Request) -> Response:
        text = await run_in_threadpool(metrics_text, self._desk, len(self._sockets))
        return Response(text, media_type="text/plain; version=0.0.4")

    async def status(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._desk.status))

    async def state(self, request: Request) -> Response:
        return _json(self._desk.describe())

    async def change(self, request: Request) -> Response:
        changes = await _body(request, Changes)
        return _json(await run_in_threadpool(self._desk.change, changes))

    async def undo(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._desk.undo) or self._desk.controls)

    async def redo(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._desk.redo) or self._desk.controls)

    async def reset(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._desk.reset))

    async def choose_source(self, request: Request) -> Response:
        choice = await _body(request, SourceChoice)
        if choice.source is None or choice.source == "page":
            await run_in_threadpool(self._desk.wait_for_page)
        else:
            await run_in_threadpool(self._desk.use_server_source, choice.source)
        return _json(self._desk.describe())

    async def list_presets(self, request: Request) -> Response:
        return _json(self._desk.presets.names())

    async def save_preset(self, request: Request) -> Response:
        name = request.path_params["name"]
        await run_in_threadpool(self._desk.save_preset, name)
        return _json(Named(name))

    async def apply_preset(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._desk.apply_preset, request.path_params["name"]))

    async def delete_preset(self, request: Request) -> Response:
        return _gone(await run_in_threadpool(self._desk.delete_preset, request.path_params["name"]), "preset")

    async def preset_picture(self, request: Request) -> Response:
        data = await run_in_threadpool(self._desk.presets.picture, request.path_params["name"])
        if data is None:
            raise HTTPException(404, "preset: it has no picture")
        return Response(data, media_type="image/jpeg")

    async def snapshot(self, request: Request) -> Response:
        latest, what = self._desk.studio.latest, request.query_params.get("what", "after")
        if latest is None or latest.before is None:
            raise HTTPException(409, "snapshot: expected a live picture, there is none; start a camera")
        pictures = {"after": [latest.image], "before": [latest.before], "both": [latest.before, latest.image]}
        if what not in pictures:
            raise HTTPException(422, f"what: expected after, before or both, got {what[:40]!r}")
        data = await run_in_threadpool(lambda: encode_png(np.hstack(pictures[what])))
        if what != "before" and latest.faces:
            data = with_source_type(data, ".png", kind_of(self._desk.controls))
        return _download(data, "image/png", "doppelgan.png")

    async def start_recording(self, request: Request) -> Response:
        name = await run_in_threadpool(self._desk.recorder.start, self._desk.studio)
        self._desk.on_change()
        return _json(Named(name), 201)

    async def stop_recording(self, request: Request) -> Response:
        try:
            return _json(Named(await run_in_threadpool(self._desk.recorder.stop)))
        finally:
            self._desk.on_change()

    async def list_recordings(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._desk.recorder.list))

    async def get_recording(self, request: Request) -> Response:
        path = self._desk.recorder.path(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "recording: there is none of this name")
        return FileResponse(path, media_type="video/mp4", filename=path.name)

    async def delete_recording(self, request: Request) -> Response:
        return _gone(self._desk.recorder.delete(request.path_params["name"]), "recording")

    async def list_pictures(self, request: Request) -> Response:
        return _json(self._desk.gallery.list())

    async def add_picture(self, request: Request) -> Response:
        data = await request.body()
        return _json(await self._in_gallery(self._desk.gallery.add, data), 201)

    async def delete_picture(self, request: Request) -> Response:
        return _gone(self._desk.gallery.delete(request.path_params["id"]), "picture")

    async def picture_before(self, request: Request) -> Response:
        picture = self._desk.gallery.get(request.path_params["id"])
        return await self._picture(request, lambda: picture.image)

    async def picture_after(self, request: Request) -> Response:
        desk, key = self._desk, request.path_params["id"]
        kind = kind_of(desk.controls)
        return await self._picture(
            request, lambda: desk.gallery.edited(key, desk.bundle, desk.controls)[0], kind
        )

    async def sheet(self, request: Request) -> Response:
        desk = self._desk
        data = await self._in_gallery(lambda: encode_png(desk.gallery.sheet(desk.bundle, desk.controls)))
        data = with_source_type(data, ".png", kind_of(desk.controls))
        return _download(data, "image/png", "doppelgan-sheet.png")

    async def mix(self, request: Request) -> Response:
        desk, asked = self._desk, await _body(request, Mix)
        data = await self._in_gallery(
            lambda: encode_png(
                desk.gallery.mixed(
                    asked.first,
                    asked.second,
                    desk.bundle,
                    desk.controls,
                    weight=asked.weight,
                    rows=asked.rows,
                )
            )
        )
        data = with_source_type(data, ".png", "avatar")
        return _download(data, "image/png", "doppelgan-mix.png")

    async def enrollment(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._desk.enrollment.status))

    async def enroll(self, request: Request) -> Response:
        asked = await _body(request, Enrollee)
        await run_in_threadpool(lambda: self._desk.enroll(asked.picture, asked.name, consent=asked.consent))
        return _json(self._desk.enrollment.status(), 201)

    async def stop_enrollment(self, request: Request) -> Response:
        await run_in_threadpool(self._desk.enrollment.stop)
        return Response(status_code=204)

    async def enrollment_picture(self, request: Request) -> Response:
        data = await run_in_threadpool(self._desk.enrollment.picture)
        if data is None:
            raise HTTPException(404, "enrollment: there is no picture yet")
        return Response(data, media_type="image/png")

    async def webrtc(self, request: Request) -> Response:
        try:
            from .webrtc import answer
        except ImportError:
            raise HTTPException(
                501, "WebRTC: expected the package aiortc, found none; pip install 'doppelgan[webrtc]'"
            ) from None
        offer = await _body(request, Offer)
        return _json(await answer(offer.sdp, offer.type, self._desk, plain=offer.plain))

    async def describe(self, request: Request) -> Response:
        return _json(document(self.operations, _version()))

    async def _picture(
        self,
        request: Request,
        make: Callable[[], Image],
        kind: str | None = None,  # how it was made; None: by a camera
    ) -> Response:
        """A JPEG of at most ``size`` px, or a PNG at full size to download."""
        size = request.query_params.get("size", "")
        if size and not (size.isascii() and size.isdigit() and 16 <= int(size) <= 8192):
            raise HTTPException(422, f"size: expected 16..8192 px, got {size[:20]!r}")
        if size:
            data = await self._in_gallery(lambda: encode_jpeg(fit_within(make(), int(size)), 88))
            data = with_source_type(data, ".jpg", kind) if kind else data
            return Response(data, media_type="image/jpeg")
        data = await self._in_gallery(lambda: encode_png(make()))
        data = with_source_type(data, ".png", kind) if kind else data
        return _download(data, "image/png", "doppelgan.png")

    async def _in_gallery(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._waiting >= BUSY:
            raise HTTPException(429, "pictures: too many at once; try again in a moment")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._desk.gallery.thread, functools.partial(function, *arguments)
            )
        finally:
            self._waiting -= 1


def _guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Errors that a caller can cause, as JSON."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except HTTPException as error:
            return _json(Problem(str(error.detail)), error.status_code)
        except NOT_JSON as error:
            return _json(Problem(f"body: {error}"), 422)
        except DoppelganError as error:
            status = 404 if "not found" in str(error) or "unknown id" in str(error) else 422
            return _json(Problem(str(error)), status)
        except ClientDisconnect:
            return Response(status_code=413)

    return guarded


async def _body(request: Request, kind: type[T]) -> T:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "body: expected Content-Type: application/json")
    data = await request.body()
    if len(data) > 100_000:
        raise HTTPException(413, f"body: expected at most 100 kB of JSON, got {len(data)} bytes")
    return msgspec.json.decode(data, type=kind)


def _json(what: Any, status: int = 200) -> Response:
    if hasattr(what, "to_dict"):
        what = what.to_dict()
    return Response(msgspec.json.encode(what), status, media_type="application/json")


def _gone(there: bool, what: str) -> Response:
    if not there:
        raise HTTPException(404, f"{what}: there is none of this name")
    return Response(status_code=204)


def _download(data: bytes, media_type: str, name: str) -> Response:
    return Response(
        data, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'}
    )


def _version() -> str:
    try:
        return metadata.version("doppelgan")
    except metadata.PackageNotFoundError:
        return "0"
